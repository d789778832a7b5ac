/*
 * agent_alone.c - a server without an endpoint, behind `virtproxy -g`
 *
 * It accepts connections on the socket it was given, and starts the spawner itself.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/sock.h"
#include "virtagent/agent_server_priv.h"
#include "virtagent/agent_spawn_client.h"

/* Who dialled: virtproxy's word, else the kernel's about the connection. */
static void stream_of_peer(int fd, struct ipc_stream *st)
{
	struct peer_stream peer;

	*st = (struct ipc_stream){ .cred = PEER_CRED_UNKNOWN };
	if (sock_peer_stream(fd, &peer) < 0) {
		(void)sock_peer_cred(fd, &st->cred);
		return;
	}
	st->remote = true;
	st->stream = peer.stream;
	st->cred = peer.cred;
}

void agent_alone_accept(struct agent_server *s)
{
	struct ipc_stream st;
	int fd = sock_accept(s->options->server_fd);

	if (fd < 0) {
		/* Out of descriptors it would be readable for ever. */
		if (fd != -EAGAIN)
			s->accept_at = clock_now() + ACCEPT_PAUSE_MS * NSEC_PER_MSEC;
		return;
	}
	stream_of_peer(fd, &st);
	agent_server_adopt(s, fd, &st);
}

int agent_alone_spawner(struct agent_server *s)
{
	int ctl[2], srv[2], r = ipc_pair(ctl);

	s->spawner_at = clock_now();
	if (r < 0)
		return r;
	r = ipc_pair(srv);
	if (r < 0) {
		close(ctl[0]);
		close(ctl[1]);
		return r;
	}
	r = agent_role_start(s->options, "spawner", ctl[1]);
	if (s->spawner_ctl >= 0)
		close(s->spawner_ctl);
	s->spawner_ctl = ctl[0];
	if (r >= 0)
		r = ipc_send(ctl[0], IPC_SERVER, NULL, &srv[1], 1);
	close(ctl[1]);
	close(srv[1]);
	if (r < 0)
		close(srv[0]);
	else
		spawn_client_attach(s->ctx.spawn, srv[0]);
	return r;
}
