/*
 * agent_spawn_wire.c - see agent_spawn_wire.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_spawn_wire.h"

#include <errno.h>
#include <string.h>

#include "virtagent/agent_ipc.h"

static int put_string(struct buf *b, const char *s)
{
	size_t n = strlen(s);
	int r;

	if (n > IPC_MAX)
		return -EMSGSIZE;
	r = buf_put_u32(b, (uint32_t)n);
	return r < 0 ? r : buf_put(b, s, n);
}

static int put_strings(struct buf *b, const char *const *list)
{
	size_t n = 0;
	int r;

	while (list && list[n])
		n++;
	if (n > SPAWN_STRINGS_MAX)
		return -EINVAL;
	r = buf_put_u16(b, (uint16_t)n);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = put_string(b, list[i]);
	return r;
}

static int put_fixed(struct buf *b, uint32_t job, const struct spawn_request *rq)
{
	const uint32_t head[] = { job, rq->flags, (uint32_t)rq->uid,
				  (uint32_t)rq->gid };
	unsigned mask = 0;
	int r = 0;

	for (unsigned i = 0; i < 3; i++)
		if (rq->fds[i] >= 0)
			mask |= 1u << i;
	if (rq->ngroups > SPAWN_GROUPS_MAX)
		return -EINVAL;
	for (unsigned i = 0; r == 0 && i < 4; i++)
		r = buf_put_u32(b, head[i]);
	if (r == 0)
		r = buf_put_u64(b, rq->delay_ns);
	if (r == 0)
		r = buf_put_u64(b, rq->timeout_ns);
	if (r == 0)
		r = buf_put_u8(b, (uint8_t)mask);
	if (r == 0)
		r = buf_put_u16(b, (uint16_t)rq->ngroups);
	for (size_t i = 0; r == 0 && i < rq->ngroups; i++)
		r = buf_put_u32(b, (uint32_t)rq->groups[i]);
	return r;
}

int spawn_put_start(struct buf *b, uint32_t job, const struct spawn_request *rq)
{
	int r;

	if (!rq->argv || !rq->argv[0] || !rq->argv[0][0])
		return -EINVAL;
	r = put_fixed(b, job, rq);
	if (r == 0)
		r = put_string(b, rq->cwd ? rq->cwd : "/");
	if (r == 0)
		r = put_strings(b, rq->argv);
	if (r == 0)
		r = put_strings(b, rq->env);
	return r == -EMSGSIZE ? -E2BIG : r;
}

void spawn_start_free(struct spawn_start *s)
{
	if (!s)
		return;
	for (size_t list = 0, i = 0; s->strings && list < 2; i++) {
		if (!s->strings[i])
			list++;
		free(s->strings[i]);
	}
	free(s->strings);
	free(s->groups);
	free(s->cwd);
	free(s);
}

static int get_string(struct buf *b, char **ret)
{
	CLEANUP_FREE char *s = NULL;
	uint32_t n;

	if (buf_get_u32(b, &n) < 0 || n > buf_len(b) ||
	    memchr(buf_data(b), 0, n))
		return -EBADMSG;
	s = malloc((size_t)n + 1);
	if (!s)
		return -ENOMEM;
	if (buf_get(b, s, n) < 0)
		return -EBADMSG;
	s[n] = 0;
	*ret = take_ptr(s);
	return 0;
}

/* argv and env, each ended by a NULL, one behind the other in one vector. */
static int get_lists(struct buf *b, struct spawn_start *s)
{
	size_t at = 0, total = 0;

	for (int list = 0; list < 2; list++) {
		char **grown;
		uint16_t n;
		int r;

		if (buf_get_u16(b, &n) < 0 || n > SPAWN_STRINGS_MAX ||
		    (list == 0 && n == 0))
			return -EBADMSG;
		/* One more NULL than used: spawn_start_free() reads two. */
		grown = realloc(s->strings, (total + n + 3) * sizeof(char *));
		if (!grown)
			return -ENOMEM;
		memset(grown + total, 0, (n + 3u) * sizeof(char *));
		s->strings = grown;
		total += n + 1u;
		for (unsigned i = 0; i < n; i++) {
			r = get_string(b, &s->strings[at]);
			if (r < 0)
				return r;
			at++;
		}
		at++;
	}
	return 0;
}

static int get_fixed(struct buf *b, struct spawn_start *s)
{
	uint32_t flags, uid, gid, group;
	uint16_t ngroups;
	uint8_t mask;

	if (buf_get_u32(b, &s->job) < 0 || buf_get_u32(b, &flags) < 0 ||
	    buf_get_u32(b, &uid) < 0 || buf_get_u32(b, &gid) < 0 ||
	    buf_get_u64(b, &s->rq.delay_ns) < 0 ||
	    buf_get_u64(b, &s->rq.timeout_ns) < 0 ||
	    buf_get_u8(b, &mask) < 0 || mask > 7 ||
	    buf_get_u16(b, &ngroups) < 0 || ngroups > SPAWN_GROUPS_MAX)
		return -EBADMSG;
	s->groups = calloc(ngroups + 1u, sizeof(*s->groups));
	if (!s->groups)
		return -ENOMEM;
	for (unsigned i = 0; i < ngroups; i++) {
		if (buf_get_u32(b, &group) < 0)
			return -EBADMSG;
		s->groups[i] = group;
	}
	s->fd_mask = mask;
	s->rq.flags = flags;
	s->rq.uid = uid;
	s->rq.gid = gid;
	s->rq.groups = s->groups;
	s->rq.ngroups = ngroups;
	return 0;
}

int spawn_get_start(struct buf *b, struct spawn_start **ret)
{
	CLEANUP(spawn_start_free_p) struct spawn_start *s = calloc(1, sizeof(*s));
	size_t n = 0;
	int r;

	if (!s)
		return -ENOMEM;
	for (unsigned i = 0; i < 3; i++)
		s->rq.fds[i] = -1;
	r = get_fixed(b, s);
	if (r == 0)
		r = get_string(b, &s->cwd);
	if (r == 0)
		r = get_lists(b, s);
	if (r == 0 && buf_len(b) != 0)
		r = -EBADMSG;
	if (r < 0)
		return r;
	s->rq.cwd = s->cwd;
	s->rq.argv = (const char *const *)s->strings;
	while (s->strings[n])
		n++;
	s->rq.env = (const char *const *)s->strings + n + 1;
	*ret = take_ptr(s);
	return 0;
}

int spawn_put_report(struct buf *b, uint8_t type, const struct spawn_report *rp)
{
	int r = buf_put_u32(b, rp->job);

	if (r == 0 && type == IPC_STARTED)
		return buf_put_u32(b, rp->pid);
	if (r == 0 && type == IPC_FAILED) {
		r = buf_put_u32(b, rp->error);
		return r < 0 ? r : put_string(b, rp->step);
	}
	if (r == 0)
		r = buf_put_u32(b, rp->code);
	if (r == 0)
		r = buf_put_u32(b, rp->signal);
	return r < 0 ? r : buf_put_u8(b, rp->timed_out);
}

int spawn_get_report(struct buf *b, uint8_t type, struct spawn_report *rp)
{
	CLEANUP_FREE char *step = NULL;
	int r;

	*rp = (struct spawn_report){ 0 };
	r = buf_get_u32(b, &rp->job);
	if (r == 0 && type == IPC_STARTED) {
		r = buf_get_u32(b, &rp->pid);
	} else if (r == 0 && type == IPC_FAILED) {
		r = buf_get_u32(b, &rp->error);
		if (r == 0)
			r = get_string(b, &step);
		if (r == 0)
			snprintf(rp->step, sizeof(rp->step), "%s", step);
	} else if (r == 0 && type == IPC_EXITED) {
		r = buf_get_u32(b, &rp->code);
		if (r == 0)
			r = buf_get_u32(b, &rp->signal);
		if (r == 0)
			r = buf_get_u8(b, &rp->timed_out);
	} else if (r == 0) {
		r = -EBADMSG;
	}
	return r == 0 && buf_len(b) != 0 ? -EBADMSG : r;
}
