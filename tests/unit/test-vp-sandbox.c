/*
 * test-vp-sandbox.c - what a confined virtproxy cannot do, and what it still can
 *
 * Each call is made in a child of its own that has entered the sandbox, by its
 * number, as code would that has taken the process over.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/sandbox.h"
#include "tests/lib/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/seal.h"
#include "common/sock.h"
#include "common/str.h"

static char *file_path, *log_path, *chan_path, *other_path;

/* In a confined child: fn's result is 0, or the errno it met. */
#define KILLED -1
#define UNABLE 250

static int in_sandbox(int (*fn)(void))
{
	struct sandbox s = { .foreign = true };
	const char *why;
	int status = 0, r;
	pid_t pid = fork();

	if (pid == 0) {
		if (sock_unix_seal(chan_path) < 0 ||
		    seal_add_path(SEAL_APPEND, log_path) < 0 ||
		    seal_add_path(SEAL_REMOVE, log_path) < 0)
			_exit(UNABLE + 1);
		r = sandbox_enter(&s, &why);
		if (r < 0)
			_exit(r == -ENOTSUP ? UNABLE : UNABLE + 2);
		_exit(fn());
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status)) {
		CHECK_INT(WTERMSIG(status), SIGSYS);
		return KILLED;
	}
	if (WEXITSTATUS(status) == UNABLE)
		unit_skip("no sandbox in this build or on this kernel");
	return WEXITSTATUS(status);
}

static void make_names(void)
{
	CLEANUP_CLOSE int fd = -1;

	file_path = str_printf("%s/file", unit_tmpdir());
	log_path = str_printf("%s/log", unit_tmpdir());
	chan_path = str_printf("%s/chan", unit_tmpdir());
	other_path = str_printf("%s/other", unit_tmpdir());
	fd = open(file_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
}

static int result(long r)
{
	return r < 0 ? errno : 0;
}

static int do_execve(void)
{
	static char *const argv[] = { (char *)"true", NULL };

	return result(syscall(SYS_execve, "/bin/true", argv, argv));
}

static int do_execveat(void)
{
	static char *const argv[] = { (char *)"true", NULL };

	return result(syscall(SYS_execveat, AT_FDCWD, "/bin/true", argv, argv, 0));
}

static int do_ptrace(void)
{
	return result(syscall(SYS_ptrace, PTRACE_ATTACH, getppid(), 0, 0));
}

static int do_peek(void)
{
	return result(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
}

static int do_open_write(void)
{
	return result(syscall(SYS_openat, AT_FDCWD, file_path, O_WRONLY));
}

static int do_open_make(void)
{
	return result(syscall(SYS_openat, AT_FDCWD, other_path, O_RDWR | O_CREAT, 0600));
}

static int do_open_read(void)
{
	return result(syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY));
}

static int do_open_append(void)
{
	return result(syscall(SYS_openat, AT_FDCWD, file_path, O_WRONLY | O_APPEND));
}

static int do_unlink(void)
{
	return result(unlink(file_path));
}

static int do_rename(void)
{
	return result(rename(file_path, other_path));
}

static int do_fork(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	return result(pid);
}

static int do_kill_other(void)
{
	return result(kill(getppid(), 0));
}

static int do_inet(void)
{
	return result(socket(AF_INET, SOCK_STREAM, 0));
}

static int do_connect_other(void)
{
	CLEANUP_CLOSE int fd = sock_unix_connect(other_path);

	return fd < 0 ? -fd : 0;
}

static int do_exec_memory(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? errno : 0;
}

static int do_mount(void)
{
	return result(syscall(SYS_mount, "none", "/mnt", "tmpfs", 0, NULL));
}

static int do_chmod(void)
{
	return result(chmod(file_path, 0777));
}

static int do_setuid(void)
{
	return result(syscall(SYS_setuid, 0));
}

static int do_prctl(void)
{
	return result(prctl(PR_SET_DUMPABLE, 1));
}

static int do_tiocsti(void)
{
	return result(ioctl(0, TIOCSTI, "x"));
}

/* The seal: neither written, nor unmapped, nor mapped over. */
static const void *sealed(void)
{
	enum seal_use use;

	return seal_item(1, &use);
}

static int do_unseal(void)
{
	return result(mprotect((void *)((uintptr_t)sealed() & ~4095ul), 4096,
			       PROT_READ | PROT_WRITE));
}

static int do_unmap(void)
{
	return result(munmap((void *)((uintptr_t)sealed() & ~4095ul), 4096));
}

static int do_unmap_from_below(void)
{
	return result(munmap((void *)0x10000, 0x200000));
}

static int do_forget(void)
{
	return result(madvise((void *)((uintptr_t)sealed() & ~4095ul), 4096,
			      MADV_DONTNEED));
}

static int do_map_over(void)
{
	void *p = mmap((void *)((uintptr_t)sealed() & ~4095ul), 4096,
		       PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return p == MAP_FAILED ? errno : 0;
}

static int do_read_into_seal(void)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0 || write(fds[1], "/etc/shadow", 12) != 12)
		return 0;
	return result(read(fds[0], (void *)(uintptr_t)sealed(), 12));
}

TEST(forbidden_calls_fail_or_kill)
{
	static const struct {
		const char *name;
		int (*fn)(void);
		int want;
	} rows[] = {
		{ "execve", do_execve, KILLED },
		{ "execveat", do_execveat, KILLED },
		{ "ptrace", do_ptrace, KILLED },
		{ "process_vm_readv", do_peek, KILLED },
		{ "open to write", do_open_write, EPERM },
		{ "open to create", do_open_make, EPERM },
		{ "open to read", do_open_read, EPERM },
		{ "open another file as the log", do_open_append, EPERM },
		{ "unlink", do_unlink, EPERM },
		{ "rename", do_rename, EPERM },
		{ "fork", do_fork, EPERM },
		{ "kill another process", do_kill_other, EPERM },
		{ "internet socket", do_inet, EPERM },
		{ "connect elsewhere", do_connect_other, EPERM },
		{ "executable memory", do_exec_memory, EPERM },
		{ "mount", do_mount, EPERM },
		{ "chmod", do_chmod, EPERM },
		{ "setuid", do_setuid, EPERM },
		{ "prctl", do_prctl, EPERM },
		{ "TIOCSTI", do_tiocsti, EPERM },
		{ "unseal", do_unseal, EPERM },
		{ "unmap the seal", do_unmap, EPERM },
		{ "unmap around the seal", do_unmap_from_below, EPERM },
		{ "zero the seal", do_forget, EPERM },
		{ "map over the seal", do_map_over, EPERM },
		{ "read(2) into the seal", do_read_into_seal, EFAULT },
	};
	CLEANUP_CLOSE int listener = -1;
	int got;

	make_names();
	listener = sock_unix_listen(other_path, (gid_t)-1);
	CHECK(listener >= 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		got = in_sandbox(rows[i].fn);
		if (got != rows[i].want)
			unit_fail(__FILE__, __LINE__, "%s: %d, expected %d",
				  rows[i].name, got, rows[i].want);
	}
	CHECK_INT(access(file_path, F_OK), 0);
	free(file_path);
	free(log_path);
	free(chan_path);
	free(other_path);
}

static int do_work(void)
{
	CLEANUP_CLOSE int chan = sock_unix_connect(chan_path), log = -1, fd = -1;
	void *p;
	int fds[2];

	if (chan < 0)
		return 1;
	log = open(seal_path(log_path), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (log < 0 || write(log, "x", 1) != 1)
		return 2;
	p = malloc(8 << 20); /* by mmap() */
	if (!p)
		return 3;
	memset(p, 1, 8 << 20);
	p = realloc(p, 16 << 20);
	free(p);
	if (sock_pair(SOCK_STREAM, fds) < 0 || send(fds[0], "y", 1, 0) != 1)
		return 4;
	if (unlink(seal_path(log_path)) < 0)
		return 5;
	if (kill(getpid(), 0) < 0)
		return 6;
	fd = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? 7 : 0;
}

TEST(what_a_virtproxy_needs_it_still_can)
{
	CLEANUP_CLOSE int listener = -1;

	make_names();
	listener = sock_unix_listen(chan_path, (gid_t)-1);
	CHECK(listener >= 0);
	CHECK_INT(in_sandbox(do_work), 0);
	free(file_path);
	free(log_path);
	free(chan_path);
	free(other_path);
}

static int read_status(void)
{
	static char text[4096];
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	const char *caps;

	if (n <= 0)
		return 1;
	close(fd);
	if (!strstr(text, "NoNewPrivs:\t1") || !strstr(text, "Seccomp:\t2"))
		return 2;
	caps = strstr(text, "CapEff:\t");
	/* CAP_DAC_OVERRIDE alone is bit 1. */
	return caps && (strtoull(caps + 8, NULL, 16) & ~2ull) == 0 ? 0 : 3;
}

TEST(no_new_privileges_and_no_capabilities)
{
	struct sandbox s = { .devices = true, .foreign = true };
	const char *why;
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(sandbox_enter(&s, &why) < 0 ? UNABLE : read_status());
	CHECK_INT(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == UNABLE)
		unit_skip("no sandbox in this build or on this kernel");
	CHECK_INT(status, 0);
}

UNIT_MAIN(CASE_SLOW(forbidden_calls_fail_or_kill, 30),
	  CASE(what_a_virtproxy_needs_it_still_can),
	  CASE(no_new_privileges_and_no_capabilities))
