/*
 * test-hostd-ctl.c - what a virtproxy's control socket says, and when it lies;
 * which hooks may run
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/loop.h"
#include "common/sock.h"
#include "common/str.h"
#include "tests/lib/unit.h"
#include "virtagent/host/hooks.h"
#include "virtagent/hostd_ctl.h"

struct fixture {
	struct loop *loop;
	struct ctl *ctl;
	int listen_fd, fd; /* the virtproxy's end */
	char *path;
	char seen[512]; /* events and answers, in order */
	bool gone;
	bool free_in_event;
};

static void note(struct fixture *f, const char *kind, const char *text)
{
	size_t n = strlen(f->seen);

	snprintf(f->seen + n, sizeof(f->seen) - n, "%s(%s)", kind,
		 text ? text : "none");
}

static void on_event(void *arg, char *line)
{
	struct fixture *f = arg;

	note(f, "event", line);
	if (f->free_in_event) {
		ctl_free(f->ctl);
		f->ctl = NULL;
	}
}

static void on_gone(void *arg, const char *why)
{
	struct fixture *f = arg;

	f->gone = true;
	ctl_free(f->ctl);
	f->ctl = NULL;
}

static void on_answer(void *arg, const char *text)
{
	note(arg, "answer", text);
}

static void set_up(struct fixture *f)
{
	static const struct ctl_ops ops = { on_event, on_gone };

	*f = (struct fixture){ .loop = loop_new() };
	f->path = str_printf("%s/ctl", unit_tmpdir());
	f->listen_fd = sock_unix_listen(f->path, (gid_t)-1);
	CHECK(f->listen_fd >= 0);
	f->ctl = ctl_new(f->loop, f->path, &ops, f);
	CHECK(f->ctl);
	f->fd = sock_accept(f->listen_fd);
	CHECK(f->fd >= 0);
}

static void tear_down(struct fixture *f)
{
	ctl_free(f->ctl);
	close(f->fd);
	close(f->listen_fd);
	loop_free(f->loop);
	free(f->path);
}

/* The virtproxy says this; everything due is handled. */
static void say(struct fixture *f, const char *text)
{
	CHECK(send(f->fd, text, strlen(text), MSG_NOSIGNAL) ==
	      (ssize_t)strlen(text));
	for (int i = 0; i < 3; i++)
		loop_run_once(f->loop, false);
}

TEST(answers_come_in_order_around_events)
{
	struct fixture f;
	char got[64];
	ssize_t n;

	set_up(&f);
	CHECK_INT(ctl_pid(f.ctl), getpid());
	CHECK_INT(ctl_command(f.ctl, "adopt", on_answer, &f), 0);
	CHECK_INT(ctl_command(f.ctl, "status", on_answer, &f), 0);
	loop_run_once(f.loop, false);
	n = read(f.fd, got, sizeof(got));
	CHECK_INT(n, 13);
	CHECK_MEM(got, "adopt\nstatus\n", 13);
	say(&f, "event a 1\nok\n\nses");
	say(&f, "sion up\nevent b\nchannel up\n\nevent c\n");
	CHECK_STR(f.seen, "event(a 1)answer(ok)event(b)"
			  "answer(session up\nchannel up)event(c)");
	tear_down(&f);
}

TEST(answers_nobody_asked_for_are_dropped)
{
	struct fixture f;

	set_up(&f);
	say(&f, "what\nis this\n\n\n\n");
	CHECK_STR(f.seen, "");
	CHECK(!f.gone);
	tear_down(&f);
}

TEST(what_is_owed_at_the_end_is_given_as_none)
{
	struct fixture f;

	set_up(&f);
	CHECK_INT(ctl_command(f.ctl, "status", on_answer, &f), 0);
	CHECK_INT(ctl_command(f.ctl, "status", on_answer, &f), 0);
	shutdown(f.fd, SHUT_RDWR);
	for (int i = 0; i < 3 && !f.gone; i++)
		loop_run_once(f.loop, true);
	CHECK(f.gone);
	CHECK_STR(f.seen, "answer(none)answer(none)");
	tear_down(&f);
}

TEST(an_endless_line_ends_the_connection)
{
	struct fixture f;
	char x[1024];

	set_up(&f);
	memset(x, 'x', sizeof(x) - 1);
	x[sizeof(x) - 1] = '\0';
	for (int i = 0; i < 100 && !f.gone; i++)
		say(&f, x);
	CHECK(f.gone);
	tear_down(&f);
}

TEST(an_endless_answer_ends_the_connection)
{
	struct fixture f;
	char line[1024];

	set_up(&f);
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 2] = '\n';
	line[sizeof(line) - 1] = '\0';
	for (int i = 0; i < 400 && !f.gone; i++)
		say(&f, line);
	CHECK(f.gone);
	tear_down(&f);
}

TEST(it_may_be_freed_while_it_tells_of_an_event)
{
	struct fixture f;

	set_up(&f);
	f.free_in_event = true;
	CHECK_INT(ctl_command(f.ctl, "status", on_answer, &f), 0);
	say(&f, "event a\nevent b\nok\n\n");
	CHECK_STR(f.seen, "event(a)answer(none)");
	tear_down(&f);
}

TEST(too_many_questions_are_refused)
{
	struct fixture f;
	int i, err = 0;

	set_up(&f);
	for (i = 0; i < 1000 && err == 0; i++)
		err = ctl_command(f.ctl, "status", NULL, NULL);
	CHECK_INT(err, -EBUSY);
	CHECK_INT(i, 65);
	tear_down(&f);
}

static void put_hook(const char *name, mode_t mode)
{
	CLEANUP_FREE char *path = str_printf("%s/%s", unit_tmpdir(), name);
	FILE *f = fopen(path, "w");

	CHECK(f && fclose(f) == 0);
	CHECK(chmod(path, mode) == 0);
}

TEST(unsafe_hooks_are_refused_with_the_reason)
{
	const char *dir = unit_tmpdir();
	CLEANUP_FREE char *link = str_printf("%s/link", dir);
	char why[256];

	put_hook("good", 0755);
	CHECK_INT(hook_check(dir, "good", why, sizeof(why)), 0);
	put_hook("plain", 0644);
	CHECK_INT(hook_check(dir, "plain", why, sizeof(why)), -EPERM);
	CHECK(strstr(why, "not executable"));
	put_hook("open", 0757);
	CHECK_INT(hook_check(dir, "open", why, sizeof(why)), -EPERM);
	CHECK(strstr(why, "writable"));
	CHECK(symlink("/bin/true", link) == 0);
	CHECK_INT(hook_check(dir, "link", why, sizeof(why)), -EPERM);
	CHECK(strstr(why, "not a regular file"));
	CHECK_INT(hook_check(dir, "absent", why, sizeof(why)), -ENOENT);
	CHECK(chmod(dir, 0777) == 0);
	CHECK_INT(hook_check(dir, "good", why, sizeof(why)), -EPERM);
	CHECK(strstr(why, "directory is writable"));
	CHECK(chmod(dir, 0700) == 0);
}

UNIT_MAIN(CASE(answers_come_in_order_around_events),
	  CASE(answers_nobody_asked_for_are_dropped),
	  CASE(what_is_owed_at_the_end_is_given_as_none),
	  CASE(an_endless_line_ends_the_connection),
	  CASE(an_endless_answer_ends_the_connection),
	  CASE(it_may_be_freed_while_it_tells_of_an_event),
	  CASE(too_many_questions_are_refused),
	  CASE(unsafe_hooks_are_refused_with_the_reason))
