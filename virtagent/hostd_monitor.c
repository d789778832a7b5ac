/*
 * hostd_monitor.c - guests that are found by their QMP sockets
 *
 * A monitor has one client at a time.  So va-hostd connects, asks who the machine is
 * and where its agent's channel is (a few milliseconds), and lets go before the guest
 * is made known; the guest's virtproxy then takes the monitor and keeps it, for what
 * it hears there of pauses and migration.  A machine without a channel nobody keeps:
 * it is asked anew now and then, since a port may have been plugged into it.
 *
 * What is known of a machine holds as long as its socket is the same file: QEMU makes
 * a new one at each start.  A va-hostd that starts cannot ask again, because the
 * virtproxies that outlived the last one hold the monitors; what that one knew stands
 * in each guest's guest.json with the mark of the socket it was learnt from.  A
 * channel whose socket is gone was unplugged: the machine is asked again.
 *
 * QEMU may have been taken over by its guest.  A path that it names is believed only
 * if that socket belongs to the user that QEMU runs as: else a guest could have
 * va-hostd, which may be root, write into any socket of this host.  A name is believed
 * where the path of the monitor has none; hostd_discover.c gives no name twice.
 *
 * A monitor that does not answer within ASK_NS is most likely in the hands of another
 * program, and is tried again at growing intervals.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/hostd_monitor.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/sock.h"
#include "common/str.h"
#include "virtagent/hostd_dir.h"
#include "virtagent/qmp_machine.h"
#include "virtproxy/virtproxy.h"

#define MONITORS_MAX HOSTD_GUESTS_MAX
#define ASK_NS (5 * NSEC_PER_SEC) /* all answers */
#define ASK_AT_ONCE 64u		  /* connections */
#define ASK_TURN_NS (20 * NSEC_PER_MSEC)
#define AGAIN_MIN_NS NSEC_PER_SEC
#define AGAIN_MAX_NS (60 * NSEC_PER_SEC) /* also for a machine without a channel */
#define MARK_SIZE 80

enum state { WAITING, ASKING, KNOWN };

struct monitor {
	struct monitor *next;
	struct monitors *ms;
	char *path, *given; /* name by its path, or "" */
	char mark[MARK_SIZE];
	enum state state;
	struct qmp *q;
	struct loop_fd *src;
	struct loop_timer *timer;
	struct qmp_machine asking;
	char *name, *uuid, *channel; /* what is known, or NULL */
	uint64_t again_ns;
	bool seen;   /* in this look */
	bool served; /* a guest stands for it */
	char why[320];
};

struct monitors {
	struct loop *loop;
	loop_fn changed;
	void *arg;
	struct monitor *list;
	size_t n, asking;
	char *serial;
	struct guest_record *old; /* what the last va-hostd knew */
	size_t nold;
};

static uint64_t scaled(uint64_t ns)
{
	return (uint64_t)((double)ns * clock_scale());
}

/* --- asking one ------------------------------------------------------------------ */

static void hang_up(struct monitor *m)
{
	if (m->state == ASKING)
		m->ms->asking--;
	m->state = WAITING;
	loop_fd_free(take_ptr(m->src));
	qmp_close(take_ptr(m->q));
	loop_timer_stop(m->timer);
	qmp_machine_done(&m->asking);
}

static void forget(struct monitor *m)
{
	free(take_ptr(m->name));
	free(take_ptr(m->uuid));
	free(take_ptr(m->channel));
}

static void again_later(struct monitor *m)
{
	m->again_ns = m->again_ns ? 2 * m->again_ns : AGAIN_MIN_NS;
	if (m->again_ns > AGAIN_MAX_NS)
		m->again_ns = AGAIN_MAX_NS;
	loop_timer_in(m->timer, scaled(m->again_ns));
}

static void failed(struct monitor *m, const char *why)
{
	static struct log_limit limit = LOG_LIMIT_INIT;
	char shown[sizeof(m->why)];

	log_escape(shown, sizeof(shown), why, strlen(why));
	hang_up(m); /* and why may have been in what that frees */
	/* Said once per reason: it is tried again. */
	if (strcmp(shown, m->why) != 0)
		log_ratelimited(&limit, LOG_LVL_INFO, "QMP socket %s: %s", m->path, shown);
	memcpy(m->why, shown, sizeof(shown));
	again_later(m);
}

/* The path of a channel's socket; NULL when it is none. */
static const char *socket_of(const struct vp_spec *spec)
{
	return spec->method == VP_UNIX_CONNECT ? spec->addr : NULL;
}

/* Is it a channel that a host may open because QEMU says so?  0, or with why. */
static int check_channel(const char *channel, const struct peer_cred *qemu, char *why,
			 size_t size)
{
	struct vp_spec spec;
	struct stat st;
	const char *path;

	if (vp_parse_channel(channel, &spec, why, size) < 0)
		return -EINVAL;
	path = spec.addr;
	if (lstat(path, &st) < 0) {
		snprintf(why, size, "its channel %.200s: %s", path, strerror(errno));
		return -EINVAL;
	}
	if (socket_of(&spec) ? !S_ISSOCK(st.st_mode) : !S_ISCHR(st.st_mode)) {
		snprintf(why, size, "its channel %.200s is no %s", path,
			 socket_of(&spec) ? "socket" : "terminal");
		return -EINVAL;
	}
	if (st.st_uid == qemu->uid)
		return 0;
	snprintf(why, size, "its channel %.200s belongs to user %u, and its QEMU is user %u's",
		 path, (unsigned)st.st_uid, (unsigned)qemu->uid);
	return -EPERM;
}

static int keep(struct monitor *m, const char *name, const char *uuid, const char *channel)
{
	forget(m);
	m->name = strdup(m->given[0] ? m->given : name[0] ? name : uuid);
	m->uuid = strdup(uuid);
	m->channel = strdup(channel);
	if (m->name && m->uuid && m->channel)
		return 0;
	forget(m);
	return -ENOMEM;
}

/* Everything was answered. */
static void answered(struct monitor *m)
{
	struct qmp_machine *a = &m->asking;
	struct peer_cred qemu = PEER_CRED_UNKNOWN;
	char why[sizeof(m->why)];
	int r;

	snprintf(why, sizeof(why), "%s", a->why);
	/* An unknown user's is nobody's. */
	sock_peer_cred(qmp_fd(m->q), &qemu);
	if (a->channel && check_channel(a->channel, &qemu, why, sizeof(why)) < 0)
		free(take_ptr(a->channel));
	r = keep(m, a->name, a->uuid, a->channel ? a->channel : "");
	if (r < 0 || !m->channel[0]) {
		failed(m, r < 0 ? strerror(-r) : why);
		if (r == 0)
			m->again_ns = AGAIN_MAX_NS;
	} else {
		hang_up(m);
		m->state = KNOWN;
		m->why[0] = '\0';
		m->again_ns = 0;
		log_info("QMP socket %s: machine \"%s\", channel %s", m->path, m->name,
			 m->channel);
	}
	m->ms->changed(m->ms->arg);
}

static void on_qmp(int fd, unsigned events, void *arg)
{
	struct monitor *m = arg;
	int r = qmp_machine_take(&m->asking, m->q);

	if (r == 0)
		answered(m);
	else if (r != -EAGAIN)
		failed(m, m->asking.why);
}

static void ask(struct monitor *m)
{
	if (m->ms->asking >= ASK_AT_ONCE) {
		loop_timer_in(m->timer, ASK_TURN_NS);
		return;
	}
	m->q = qmp_open(m->path);
	if (m->q)
		m->src = loop_fd_new(m->ms->loop, qmp_fd(m->q), LOOP_READ, on_qmp, m);
	if (!m->src) {
		failed(m, errno == ECONNREFUSED ? "no QEMU listens there" : strerror(errno));
		return;
	}
	m->state = ASKING;
	m->ms->asking++;
	qmp_machine_begin(&m->asking, m->ms->serial);
	loop_timer_in(m->timer, scaled(ASK_NS));
}

static void on_timer(void *arg)
{
	struct monitor *m = arg;

	if (m->state == ASKING)
		failed(m, m->asking.greeted ?
			  "it does not answer" :
			  "it does not greet: another program holds this monitor");
	else if (m->state == WAITING)
		ask(m);
}

/* --- the list -------------------------------------------------------------------- */

static void monitor_free(struct monitor *m)
{
	hang_up(m);
	forget(m);
	loop_timer_free(m->timer);
	free(m->path);
	free(m->given);
	free(m);
}

static void drop_old(struct monitors *ms)
{
	for (size_t i = 0; i < ms->nold; i++)
		guest_record_done(&ms->old[i]);
	free(ms->old);
	ms->old = NULL;
	ms->nold = 0;
}

/* The guests that the last va-hostd found by a monitor. */
static void read_old(struct monitors *ms)
{
	CLEANUP_FREE char *top = str_printf("%s/guests", dir_runtime());
	CLEANUP_CLOSEDIR DIR *d = top ? opendir(top) : NULL;
	const struct dirent *e;

	while (d && (e = readdir(d)) && ms->nold < MONITORS_MAX) {
		CLEANUP_FREE char *dir = str_printf("%s/%s", top, e->d_name);
		struct guest_record r, *more;

		if (e->d_name[0] == '.' || !dir || guest_record_read(dir, &r) < 0)
			continue;
		more = r.mark[0] ? realloc(ms->old, (ms->nold + 1) * sizeof(*more)) : NULL;
		if (more) {
			ms->old = more;
			ms->old[ms->nold++] = r;
		} else {
			guest_record_done(&r);
		}
	}
}

static bool remember(struct monitor *m)
{
	for (size_t i = 0; i < m->ms->nold; i++) {
		const struct guest_record *r = &m->ms->old[i];

		if (strcmp(r->qmp, m->path) != 0 || strcmp(r->mark, m->mark) != 0 ||
		    keep(m, r->name, r->uuid, r->channel) < 0)
			continue;
		m->state = KNOWN;
		m->served = true;
		return true;
	}
	return false;
}

struct monitors *monitors_new(struct loop *loop, loop_fn changed, void *arg)
{
	struct monitors *ms = calloc(1, sizeof(*ms));

	if (!ms)
		return NULL;
	ms->loop = loop;
	ms->changed = changed;
	ms->arg = arg;
	read_old(ms);
	return ms;
}

void monitors_free(struct monitors *ms)
{
	if (!ms)
		return;
	while (ms->list) {
		struct monitor *m = ms->list;

		ms->list = m->next;
		monitor_free(m);
	}
	drop_old(ms);
	free(ms->serial);
	free(ms);
}

int monitors_set_serial(struct monitors *ms, const char *pattern)
{
	char *copy = pattern ? strdup(pattern) : NULL;

	if (pattern && !copy)
		return -ENOMEM;
	if (pattern && ms->serial && strcmp(pattern, ms->serial) == 0) {
		free(copy);
		return 0;
	}
	/* Those that are being asked hold on to the old one. */
	for (struct monitor *m = ms->list; m; m = m->next) {
		if (m->state == KNOWN)
			continue;
		hang_up(m);
		loop_timer_in(m->timer, 0);
	}
	free(ms->serial);
	ms->serial = copy;
	return 0;
}

/* --- a look ---------------------------------------------------------------------- */

void monitors_look(struct monitors *ms)
{
	for (struct monitor *m = ms->list; m; m = m->next)
		m->seen = false;
}

static struct monitor *find(const struct monitors *ms, const char *path)
{
	struct monitor *m = ms->list;

	while (m && strcmp(m->path, path) != 0)
		m = m->next;
	return m;
}

static struct monitor *add(struct monitors *ms, const char *path, const char *name)
{
	struct monitor *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->ms = ms;
	m->path = strdup(path);
	m->given = strdup(name);
	m->timer = loop_timer_new(ms->loop, on_timer, m);
	if (!m->path || !m->given || !m->timer) {
		monitor_free(m);
		return NULL;
	}
	m->next = ms->list;
	ms->list = m;
	ms->n++;
	return m;
}

/* What was known of it holds no more. */
static void start_over(struct monitor *m)
{
	hang_up(m);
	forget(m);
	m->served = false;
	m->again_ns = 0;
	m->why[0] = '\0';
	loop_timer_in(m->timer, 0);
}

static bool unplugged(const struct monitor *m)
{
	struct vp_spec spec;
	struct stat st;
	char why[128];

	return m->state == KNOWN &&
	       vp_parse_channel(m->channel, &spec, why, sizeof(why)) == 0 &&
	       socket_of(&spec) && lstat(socket_of(&spec), &st) < 0 && errno == ENOENT;
}

int monitors_saw(struct monitors *ms, const char *path, const char *name,
		 const struct stat *st)
{
	struct monitor *m = find(ms, path);
	char mark[MARK_SIZE];

	if (!m && ms->n >= MONITORS_MAX)
		return -ENOSPC;
	snprintf(mark, sizeof(mark), "%llx:%llx:%lld.%09ld", (unsigned long long)st->st_dev,
		 (unsigned long long)st->st_ino, (long long)st->st_ctim.tv_sec,
		 st->st_ctim.tv_nsec);
	if (!m)
		m = add(ms, path, name);
	if (!m)
		return -ENOMEM;
	m->seen = true;
	if (strcmp(m->mark, mark) != 0 || unplugged(m)) {
		memcpy(m->mark, mark, sizeof(mark));
		if (m->state != WAITING || !remember(m))
			start_over(m);
	}
	return 0;
}

void monitors_looked(struct monitors *ms)
{
	struct monitor **at = &ms->list;

	while (*at) {
		struct monitor *m = *at;

		if (m->seen) {
			at = &m->next;
			continue;
		}
		*at = m->next;
		ms->n--;
		monitor_free(m);
	}
	drop_old(ms);
}

static void tell(const struct monitor *m, monitor_fn fn, void *arg)
{
	const struct monitor_machine machine = {
		.path = m->path, .mark = m->mark, .name = m->name, .uuid = m->uuid,
		.channel = m->channel,
	};

	fn(arg, &machine);
}

void monitors_each(struct monitors *ms, monitor_fn fn, void *arg)
{
	/* Who has a name keeps it. */
	for (int served = 1; served >= 0; served--)
		for (struct monitor *m = ms->list; m; m = m->next)
			if (m->state == KNOWN && m->served == (served != 0))
				tell(m, fn, arg);
}

void monitors_verdict(struct monitors *ms, const char *path, const char *why)
{
	struct monitor *m = find(ms, path);

	if (!m)
		return;
	m->served = !why;
	if (why && strcmp(why, m->why) != 0)
		log_warning("QMP socket %s: machine \"%s\" is no guest: %s", path, m->name,
			    why);
	snprintf(m->why, sizeof(m->why), "%s", why ? why : "");
}

/* --- for host.monitors ------------------------------------------------------------- */

static struct va_value *facts(const struct monitor *m)
{
	const char *state = m->state == ASKING	? "asking" :
			    m->state == KNOWN && m->served ? "served" :
			    m->state == KNOWN ? "refused" :
			    m->channel ? "no-channel" : "no-answer";
	struct va_value *v = va_struct();

	if (va_set(v, "path", va_string(m->path)) == 0 &&
	    va_set(v, "state", va_string(state)) == 0 &&
	    va_set(v, "name", va_string(m->name ? m->name : m->given)) == 0 &&
	    va_set(v, "uuid", va_string(m->uuid ? m->uuid : "")) == 0 &&
	    va_set(v, "channel", va_string(m->channel ? m->channel : "")) == 0 &&
	    va_set(v, "why", va_string(m->why)) == 0)
		return v;
	va_value_free(v);
	return NULL;
}

struct va_value *monitors_facts(const struct monitors *ms)
{
	struct va_value *list = va_array();

	for (const struct monitor *m = ms->list; m && list; m = m->next) {
		if (va_append(list, facts(m)) == 0)
			continue;
		va_value_free(list);
		return NULL;
	}
	return list;
}
