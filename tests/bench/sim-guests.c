/*
 * sim-guests.c - many guests in one process, for the host daemon to be held against
 *
 *	sim-guests DIR COUNT
 *
 * Listens at DIR/1 ... DIR/COUNT, where the QEMUs of as many guests would, with
 * the real guest's end of the link on each (libvirtproxy: sessions, beacons,
 * streams).  Behind it stands not the agent but its three methods that va-hostd
 * calls by itself: guest.capabilities, guest.kv.state and guest.kv.push, which
 * keeps nothing but the revision.  Prints "ready" and ends with its stdin.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/str.h"
#include "virtagent/codec.h"
#include "virtproxy/virtproxy.h"

#define COUNT_MAX 4096u
#define REQUEST_MAX (4u << 20)

struct sim {
	unsigned number;
	struct loop *loop;
	struct codec_registry *registry;
	struct vp_endpoint *ep;
	char store[64];
	int64_t revision;
};

/* One connection of the host's to a guest's server. */
struct conn {
	struct sim *sim;
	struct loop_fd *src;
	int fd;
	struct buf in, out;
};

static int sim_capabilities(struct va_call *call, struct va_value **ret)
{
	const struct sim *s = call->context;
	struct va_value *v = va_struct();
	char id[32];

	snprintf(id, sizeof(id), "simulated-%u", s->number);
	if (va_set(v, "version", va_string("0.1.0")) == 0 &&
	    va_set(v, "agent_id", va_string(id)) == 0 &&
	    va_set(v, "boot_id", va_string(id)) == 0 &&
	    va_set(v, "methods", va_array()) == 0)
		*ret = v;
	else
		va_value_free(v);
	return *ret ? 0 : -ENOMEM;
}

static int sim_state(struct va_call *call, struct va_value **ret)
{
	const struct sim *s = call->context;
	struct va_value *v = va_struct();

	if (va_set(v, "store", va_string(s->store)) == 0 &&
	    va_set(v, "vm", va_string("")) == 0 &&
	    va_set(v, "revision", va_int(s->revision)) == 0)
		*ret = v;
	else
		va_value_free(v);
	return *ret ? 0 : -ENOMEM;
}

static int sim_push(struct va_call *call, struct va_value **ret)
{
	struct sim *s = call->context;
	const struct va_value *batch = va_item(call->params, 0);
	const char *store = "";
	struct va_value *v;

	if (va_get_int(va_member(batch, "revision"), &s->revision) < 0 ||
	    va_get_string(va_member(batch, "store"), &store) < 0)
		return va_fail(call, EINVAL, "no batch of keys");
	snprintf(s->store, sizeof(s->store), "%s", store);
	v = va_struct();
	if (va_set(v, "revision", va_int(s->revision)) == 0)
		*ret = v;
	else
		va_value_free(v);
	return *ret ? 0 : -ENOMEM;
}

static const struct va_method rows[] = {
	{ .name = "guest.capabilities", .signature = "S:", .args = "",
	  .cls = VA_CLASS_INFO, .fn = sim_capabilities, .help = "who it is" },
	{ .name = "guest.kv.state", .signature = "S:", .args = "",
	  .cls = VA_CLASS_INFO, .fn = sim_state, .help = "which keys it has" },
	{ .name = "guest.kv.push", .signature = "S:S|x", .args = "BATCH",
	  .cls = VA_CLASS_INFO, .fn = sim_push, .help = "takes keys" },
};

/* --- HTTP, as much as va-hostd speaks --------------------------------------- */

static void conn_free(struct conn *c)
{
	loop_fd_free(c->src);
	close(c->fd);
	buf_done(&c->in);
	buf_done(&c->out);
	free(c);
}

/* The body's place in a whole request; 0 with *body, *n or -EAGAIN. */
static int find_body(struct buf *in, const uint8_t **body, size_t *n)
{
	const char *text = buf_cstr(in), *end = text ? strstr(text, "\r\n\r\n") : NULL;
	const char *length = end ? strcasestr(text, "\r\nContent-Length:") : NULL;

	if (!end)
		return -EAGAIN;
	*n = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
	*body = (const uint8_t *)end + 4;
	return *body + *n <= buf_data(in) + buf_len(in) ? 0 : -EAGAIN;
}

static int answer(struct conn *c, const uint8_t *body, size_t n)
{
	CLEANUP_BUF struct buf xml = BUF_INIT(REQUEST_MAX);
	const struct va_caller caller = { .remote = true };
	const struct va_call tmpl = { .caller = &caller, .cancel_fd = -1,
				      .context = c->sim };
	int r = codec_dispatch(c->sim->registry, body, n, &tmpl, &xml);

	if (r == 0)
		r = buf_printf(&c->out,
			       "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n"
			       "Content-Length: %zu\r\n\r\n", buf_len(&xml));
	return r == 0 ? buf_put(&c->out, buf_data(&xml), buf_len(&xml)) : r;
}

static int take_request(struct conn *c)
{
	const uint8_t *body;
	size_t n;
	int r = find_body(&c->in, &body, &n);

	if (r < 0)
		return r;
	r = answer(c, body, n);
	if (r < 0)
		return r;
	return buf_consume(&c->in, (size_t)(body - buf_data(&c->in)) + n);
}

static void on_conn(int fd, unsigned events, void *arg)
{
	struct conn *c = arg;
	ssize_t n = 0;
	int r = 0;

	if (events & LOOP_READ)
		n = buf_read_fd(&c->in, fd, 65536);
	if ((events & LOOP_READ) && n <= 0 && n != -EAGAIN) {
		conn_free(c);
		return;
	}
	while (r == 0 && buf_len(&c->in))
		r = take_request(c);
	if (r < 0 && r != -EAGAIN) {
		conn_free(c);
		return;
	}
	if (buf_len(&c->out))
		buf_write_fd(&c->out, fd);
	loop_fd_set(c->src, LOOP_READ | (buf_len(&c->out) ? LOOP_WRITE : 0));
}

static int on_stream(void *arg, const struct vp_incoming *in)
{
	struct sim *s = arg;
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->sim = s;
	c->fd = in->fd;
	buf_init(&c->in, REQUEST_MAX);
	buf_init(&c->out, REQUEST_MAX);
	c->src = loop_fd_new(s->loop, c->fd, LOOP_READ, on_conn, c);
	if (c->src)
		return 0;
	free(c);
	return -ENOMEM;
}

/* --- the guests --------------------------------------------------------------- */

static int start_one(struct sim *s, const char *dir)
{
	struct vp_endpoint_config cfg = { .loop = s->loop, .guest = true,
					  .compress = true };
	CLEANUP_FREE char *text = str_printf("unix-listen:%s/%u:-", dir, s->number);
	char err[512] = "out of memory";
	int r = -ENOMEM;

	if (text)
		r = vp_parse_channel(text, &cfg.channel, err, sizeof(err));
	if (r == 0) {
		s->ep = vp_endpoint_new(&cfg, err, sizeof(err));
		r = s->ep ? vp_endpoint_add_acceptor(s->ep, "virtagent", on_stream, s) :
			    -EINVAL;
	}
	if (r < 0)
		fprintf(stderr, "sim-guests: guest %u: %s\n", s->number, err);
	return r;
}

static void on_stdin(int fd, unsigned events, void *arg)
{
	char byte;

	if (read(fd, &byte, 1) <= 0)
		loop_stop(arg);
}

static void raise_limit(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

int main(int argc, char **argv)
{
	static const struct va_family family = { rows, sizeof(rows) / sizeof(rows[0]) };
	static struct sim sims[COUNT_MAX];
	struct codec_registry *registry;
	struct loop *loop;
	unsigned long count = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;

	if (!count || count > COUNT_MAX) {
		fprintf(stderr, "usage: sim-guests DIR COUNT\n");
		return 2;
	}
	raise_limit();
	mallopt(M_MMAP_THRESHOLD, 32768); /* as virtproxy does */
	signal(SIGPIPE, SIG_IGN);
	log_init("sim-guests");
	log_set_level(LOG_LVL_WARNING);
	loop = loop_new();
	if (!loop || codec_global_init() < 0)
		return 1;
	registry = codec_registry_new(&family, 1, NULL, NULL);
	if (!registry || !loop_fd_new(loop, 0, LOOP_READ, on_stdin, loop))
		return 1;
	for (unsigned i = 0; i < count; i++) {
		sims[i] = (struct sim){ .number = i + 1, .loop = loop,
					.registry = registry };
		if (start_one(&sims[i], argv[1]) < 0)
			return 1;
	}
	puts("ready");
	fflush(stdout);
	return loop_run(loop) < 0; /* and the kernel takes the rest */
}
