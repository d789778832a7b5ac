/*
 * virsh.c - see virsh.h
 *
 * libvirt holds the monitors of its machines, so their ports are its business.  The
 * program virsh comes with libvirt and is what an administrator would type; it gets
 * its arguments as they are, no shell is involved, and the XML on its stdin.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/virsh.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/cleanup.h"
#include "virtagent/client/ctl.h"
#include "virtagent/client/interrupt.h"

#define OUTPUT_MAX (64u << 10) /* of each of stdout and stderr */
#define INPUT_MAX 4096u	       /* XML; less than a pipe holds */
#define WORDS_MAX 12
#define LOOK_NS (100 * NSEC_PER_MSEC)
#define CONTROLLER "/domain/devices/controller[@type='virtio-serial']"
#define CHANNEL "/domain/devices/channel[target/@name='org.virtagent.0']"

extern char **environ;

/* One run of virsh. */
struct run {
	struct buf out, err;
	int status;
};

static void run_done(struct run *r)
{
	buf_done(&r->out);
	buf_done(&r->err);
}

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* pipes: stdin, stdout, stderr; the program's ends are [0][0], [1][1], [2][1]. */
static int spawn(char *const *argv, int pipes[3][2], pid_t *pid)
{
	posix_spawn_file_actions_t fa;
	int err = posix_spawn_file_actions_init(&fa);

	if (err)
		return -err;
	for (int i = 0; i < 3 && !err; i++)
		err = posix_spawn_file_actions_adddup2(&fa, pipes[i][i != 0], i);
	if (!err)
		err = posix_spawnp(pid, argv[0], &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	return -err;
}

/* Until the end of fd; what is too much is dropped. */
static int collect(int fd, struct buf *to, uint64_t deadline_ns)
{
	for (;;) {
		char drop[4096];
		ssize_t n;
		int r = wait_readable(fd, deadline_ns);

		if (r < 0)
			return r;
		if (interrupt_seen())
			return -EINTR;
		n = buf_room(to) ? buf_read_fd(to, fd, OUTPUT_MAX) :
				   read(fd, drop, sizeof(drop));
		if (n == 0)
			return 0;
		if (n < 0 && n != -EAGAIN && n != -EINTR)
			return (int)n;
	}
}

static int run_words(struct virsh *v, char *const *argv, const char *input, struct run *run)
{
	int pipes[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	size_t n = input ? strlen(input) : 0;
	pid_t pid = -1;
	int r = 0;

	for (int i = 0; i < 3 && r == 0; i++)
		r = pipe2(pipes[i], O_CLOEXEC) < 0 ? -errno : 0;
	/* It fits, and our own end keeps the pipe whole: nobody waits here, and no
	 * signal comes when virsh reads none of it. */
	if (r == 0 && n && write(pipes[0][1], input, n) != (ssize_t)n)
		r = -EIO;
	if (r == 0)
		r = spawn(argv, pipes, &pid);
	close_end(&pipes[0][0]);
	close_end(&pipes[0][1]);
	close_end(&pipes[1][1]);
	close_end(&pipes[2][1]);
	/* What it says on stderr is less than a pipe holds. */
	if (r == 0)
		r = collect(pipes[1][0], &run->out, v->deadline_ns);
	if (r == 0)
		r = collect(pipes[2][0], &run->err, v->deadline_ns);
	close_end(&pipes[1][0]);
	close_end(&pipes[2][0]);
	if (pid > 0) {
		if (r < 0)
			kill(pid, SIGKILL);
		while (waitpid(pid, &run->status, 0) < 0 && errno == EINTR)
			;
	}
	return r;
}

/* virsh's own words, without "error: ", on one line. */
static void take_reason(struct virsh *v, struct run *run, const char *what)
{
	const char *text = buf_cstr(&run->err);
	size_t n = (size_t)snprintf(v->err, sizeof(v->err), "virsh %s: ", what);

	for (const char *p = text ? text : ""; *p && n < sizeof(v->err) - 1;) {
		if (strncmp(p, "error: ", 7) == 0)
			p += 7;
		while (*p && *p != '\n' && n < sizeof(v->err) - 1)
			v->err[n++] = *p++;
		while (*p == '\n')
			p++;
		if (*p && n < sizeof(v->err) - 3)
			n += (size_t)snprintf(v->err + n, sizeof(v->err) - n, "; ");
	}
	v->err[n] = '\0';
}

/* virsh -q [-c URI] WHAT DOMAIN [A [B]] */
static int virsh(struct virsh *v, const char *what, const char *a, const char *b,
		 const char *input, struct run *run)
{
	const char *words[WORDS_MAX] = { "virsh", "-q" };
	int n = 2, r;

	if (v->uri) {
		words[n++] = "-c";
		words[n++] = v->uri;
	}
	words[n++] = what;
	words[n++] = "--domain";
	words[n++] = v->domain;
	if (a)
		words[n++] = a;
	if (b)
		words[n++] = b;
	*run = (struct run){ BUF_INIT(OUTPUT_MAX), BUF_INIT(OUTPUT_MAX), 0 };
	r = run_words(v, (char *const *)words, input, run);
	if (r == -ENOENT)
		snprintf(v->err, sizeof(v->err), "libvirt's program virsh is not there");
	else if (r < 0)
		snprintf(v->err, sizeof(v->err), "virsh %s: %s", what,
			 r == -ETIMEDOUT ? "it did not end in time" :
			 r == -EINTR	 ? "interrupted" : strerror(-r));
	if (r < 0 || run->status == 0)
		return r;
	take_reason(v, run, what);
	return -EPROTO;
}

/* What the running domain's XML has there; -ESRCH: nothing. */
static int look(struct virsh *v, const char *xpath, char *xml, size_t size)
{
	CLEANUP(run_done) struct run run = { .status = 0 };
	const char *text;
	int r = virsh(v, "dumpxml", "--xpath", xpath, NULL, &run);

	if (r < 0)
		return r;
	text = buf_cstr(&run.out);
	text = text ? text + strspn(text, " \n") : "";
	if (!*text) {
		snprintf(v->err, sizeof(v->err), "domain %s has no port org.virtagent.0",
			 v->domain);
		return -ESRCH;
	}
	if ((size_t)snprintf(xml, size, "%s", text) < size)
		return 0;
	snprintf(v->err, sizeof(v->err), "an element of its XML has more than %zu bytes", size);
	return -EPROTO;
}

/* ... source/@path: path="PATH" */
static void look_socket(struct virsh *v)
{
	char text[INPUT_MAX], *quote;

	v->socket[0] = '\0';
	if (look(v, CHANNEL "/source/@path", text, sizeof(text)) < 0 ||
	    !(quote = strchr(text, '"')))
		return;
	quote[1 + strcspn(quote + 1, "\"")] = '\0';
	snprintf(v->socket, sizeof(v->socket), "%s", quote + 1);
}

/* libvirt plugs no such controller into a domain that runs, not even on demand. */
static int need_controller(struct virsh *v)
{
	char xml[INPUT_MAX];
	int r = look(v, CONTROLLER, xml, sizeof(xml));

	if (r == -ESRCH)
		snprintf(v->err, sizeof(v->err), "domain %s has no virtio-serial controller, "
			 "and libvirt plugs none into a running domain: put <controller "
			 "type='virtio-serial'/> into its XML and start it anew", v->domain);
	return r == -ESRCH ? -ENODEV : r;
}

int virsh_attach(struct virsh *v)
{
	CLEANUP(run_done) struct run run = { .status = 0 };
	char xml[INPUT_MAX];
	int r = look(v, CHANNEL, xml, sizeof(xml));

	if (r == 0) {
		look_socket(v);
		snprintf(v->err, sizeof(v->err), "domain %s has a port org.virtagent.0 "
			 "already: %s", v->domain, v->socket);
		return -EEXIST;
	}
	if (r != -ESRCH)
		return r;
	r = need_controller(v);
	if (r == 0)
		r = virsh(v, "attach-device", "/dev/stdin", "--live", VIRSH_CHANNEL_XML,
			  &run);
	if (r == 0)
		look_socket(v);
	return r;
}

int virsh_detach(struct virsh *v)
{
	CLEANUP(run_done) struct run run = { .status = 0 };
	char xml[INPUT_MAX];
	int r = look(v, CHANNEL, xml, sizeof(xml));

	if (r < 0)
		return r;
	look_socket(v);
	r = virsh(v, "detach-device", "/dev/stdin", "--live", xml, &run);
	/* It asks for it, and may not wait for it. */
	while (r == 0) {
		r = look(v, CHANNEL, xml, sizeof(xml));
		if (r == 0 && clock_now() >= v->deadline_ns) {
			snprintf(v->err, sizeof(v->err), "libvirt still has the port");
			return -ETIMEDOUT;
		}
		if (r == 0)
			interrupt_sleep_until(clock_now() + LOOK_NS);
	}
	return r == -ESRCH ? 0 : r;
}
