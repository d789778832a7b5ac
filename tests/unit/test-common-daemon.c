/*
 * test-common-daemon.c - locks name their holder; directories are private
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/daemon.h"
#include "tests/lib/unit.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/str.h"

TEST(a_lock_names_its_holder_in_this_and_other_processes)
{
	CLEANUP_FREE char *path = str_printf("%s/lock", unit_tmpdir());
	int fd = -1, other = -1, status;
	pid_t holder = -1, child;
	struct stat st;

	CHECK_INT(lock_file(path, &fd, &holder), 0);
	CHECK_INT(stat(path, &st), 0);
	CHECK_INT(st.st_mode & 0777, 0600);
	CHECK_INT(lock_file(path, &other, &holder), -EBUSY);
	CHECK_INT(holder, getpid());
	child = fork();
	if (child == 0) {
		holder = -1;
		if (lock_file(path, &other, &holder) != -EBUSY || holder != getppid())
			_exit(1);
		_exit(0);
	}
	CHECK_INT(waitpid(child, &status, 0), child);
	CHECK_INT(status, 0);
	close(fd);
	CHECK_INT(lock_file(path, &fd, &holder), 0);
	close(fd);
}

TEST(a_lock_is_not_made_through_a_link)
{
	CLEANUP_FREE char *path = str_printf("%s/lock", unit_tmpdir());
	CLEANUP_FREE char *target = str_printf("%s/target", unit_tmpdir());
	int fd;

	CHECK_INT(symlink(target, path), 0);
	CHECK_INT(lock_file(path, &fd, NULL), -ELOOP);
	CHECK(access(target, F_OK) < 0);
}

TEST(a_pid_file_is_readable_and_goes_away)
{
	CLEANUP_FREE char *path = str_printf("%s/pid", unit_tmpdir());
	CLEANUP_FREE char *want = str_printf("%d\n", (int)getpid());
	char text[32];
	struct stat st;
	FILE *f;
	int fd;

	umask(077);
	f = fopen(path, "w");
	fputs("99999999 stale and longer than a pid\n", f);
	fclose(f);
	CHECK_INT(daemon_pidfile(path, &fd, NULL), 0);
	CHECK_INT(stat(path, &st), 0);
	CHECK_INT(st.st_mode & 0777, 0644);
	f = fopen(path, "r");
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	fclose(f);
	CHECK_STR(text, want);
	daemon_pidfile_remove(path, fd);
	CHECK(access(path, F_OK) < 0);
}

TEST(private_directories)
{
	CLEANUP_FREE char *deep = str_printf("%s/a/b/c", unit_tmpdir());
	CLEANUP_FREE char *link = str_printf("%s/link", unit_tmpdir());
	CLEANUP_FREE char *file = str_printf("%s/file", unit_tmpdir());
	struct stat st;

	umask(0);
	CHECK_INT(dir_make_private(deep), 0);
	CHECK_INT(stat(deep, &st), 0);
	CHECK_INT(st.st_mode & 0777, 0700);
	CHECK_INT(dir_make_private(deep), 0);
	CHECK_INT(symlink(deep, link), 0);
	CHECK_INT(dir_make_private(link), -EPERM);
	fclose(fopen(file, "w"));
	CHECK_INT(dir_make_private(file), -EPERM);
	CHECK_INT(dir_make_private(""), -EINVAL);
}

TEST(the_environment_moves_the_directories)
{
	setenv("VA_RUNTIME_DIR", "/r", 1);
	setenv("VA_STATE_DIR", "/s", 1);
	setenv("VA_CONF_DIR", "/c", 1);
	CHECK_STR(dir_runtime(), "/r");
	CHECK_STR(dir_state(), "/s");
	CHECK_STR(dir_conf(), "/c");
}

/* Runs a daemon that gets ready, or dies before; the parent's exit status. */
static int detach_and(bool ready, int pid_pipe)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		pid_t self;

		if (daemon_detach() < 0)
			_exit(9);
		self = getpid();
		if (write(pid_pipe, &self, sizeof(self)) != sizeof(self))
			_exit(9);
		if (ready)
			daemon_ready();
		_exit(0);
	}
	CHECK_INT(waitpid(child, &status, 0), child);
	return WEXITSTATUS(status);
}

TEST(the_parent_of_a_daemon_tells_how_it_went)
{
	pid_t daemon_pid = 0;
	int fds[2];

	CHECK_INT(pipe(fds), 0);
	CHECK_INT(detach_and(true, fds[1]), 0);
	CHECK_INT(detach_and(false, fds[1]), 1);
	CHECK_INT(read(fds[0], &daemon_pid, sizeof(daemon_pid)), sizeof(daemon_pid));
	CHECK(daemon_pid != getpid());
	close(fds[0]);
	close(fds[1]);
}

TEST(systemd_is_told)
{
	CLEANUP_FREE char *path = str_printf("%s/notify", unit_tmpdir());
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char text[32];
	ssize_t n;

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	CHECK_INT(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	setenv("NOTIFY_SOCKET", path, 1);
	daemon_ready();
	n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	CHECK(n > 0);
	text[n] = 0;
	CHECK_STR(text, "READY=1");
}

TEST(missing_standard_descriptors_are_filled)
{
	CLEANUP_CLOSE int fd = -1;

	close(0);
	daemon_early_init();
	CHECK_INT(write(0, "x", 1), 1);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK(fd > 2);
}

UNIT_MAIN(CASE(a_lock_names_its_holder_in_this_and_other_processes),
	  CASE(a_lock_is_not_made_through_a_link),
	  CASE(a_pid_file_is_readable_and_goes_away), CASE(private_directories),
	  CASE(the_environment_moves_the_directories),
	  CASE(the_parent_of_a_daemon_tells_how_it_went), CASE(systemd_is_told),
	  CASE(missing_standard_descriptors_are_filled))
