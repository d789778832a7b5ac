/*
 * sandbox.c - what a virtproxy gives up before it reads the peer's first byte
 *
 * The process reads what a hostile guest sends, so it is treated as if the guest
 * had taken it over: it can read, write and poll what is open, allocate memory,
 * tell the time, accept on its sockets, and
 *
 *	connect	to its channel, its services and its monitor;
 *	open	its channel's device, its log file (to append);
 *	remove	the sockets and the pid file it made.
 *
 * Which ones those are was sealed before (common/seal.h): the filter knows their
 * addresses in memory.  No memory becomes executable, none is mapped over the
 * seal.  What no row permits fails with EPERM; execve, ptrace and reading another
 * process's memory, which nothing here ever does, kill the process.
 *
 * A guest's end (virtserial-open, isaserial-open) finds its port by names in
 * /sys and may therefore open anything to read, and devices to read and write,
 * but make nothing: its peer is the host, which owns the machine anyway.
 *
 * Limits: rows without conditions are the same for all descriptors.  A process
 * of root's that keeps CAP_DAC_OVERRIDE for its channel can use it for the
 * sealed names only.  syslogd may be lost when it is restarted.
 *
 * Under AddressSanitizer, ThreadSanitizer and gcov there is no sandbox: their
 * runtimes map fixed memory, look into the process and write files at its end.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/serial.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/seal.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
	__has_feature(memory_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

/* gcov's runtime is linked in when the build counts coverage. */
extern void __gcov_dump(void) __attribute__((weak));

/* Whatever the arguments. */
static const int plain[] = {
	SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(bind), SCMP_SYS(brk),
	SCMP_SYS(clock_getres), SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep), SCMP_SYS(close), SCMP_SYS(dup), SCMP_SYS(dup2),
	SCMP_SYS(dup3), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2), SCMP_SYS(epoll_wait),
	SCMP_SYS(eventfd2), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(flock),
	SCMP_SYS(fstat), SCMP_SYS(fstat64), SCMP_SYS(futex), SCMP_SYS(getcwd),
	SCMP_SYS(getdents), SCMP_SYS(getdents64), SCMP_SYS(getegid),
	SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getpeername),
	SCMP_SYS(getpid), SCMP_SYS(getrandom), SCMP_SYS(getsockname),
	SCMP_SYS(getsockopt), SCMP_SYS(gettid), SCMP_SYS(gettimeofday),
	SCMP_SYS(getuid), SCMP_SYS(listen), SCMP_SYS(lseek), SCMP_SYS(lstat),
	SCMP_SYS(nanosleep), SCMP_SYS(newfstatat), SCMP_SYS(pipe2),
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(read), SCMP_SYS(readv),
	SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(restart_syscall),
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sendmsg), SCMP_SYS(set_robust_list), SCMP_SYS(setsockopt),
	SCMP_SYS(shutdown), SCMP_SYS(sigreturn), SCMP_SYS(socketpair),
	SCMP_SYS(stat), SCMP_SYS(statx), SCMP_SYS(time), SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime), SCMP_SYS(wait4), SCMP_SYS(waitid),
	SCMP_SYS(write), SCMP_SYS(writev),
};

/* By one argument. */
static const struct {
	int call;
	unsigned arg;
	uint64_t value;
} by_value[] = {
	{ SCMP_SYS(socket), 0, AF_UNIX },
	{ SCMP_SYS(sendto), 4, 0 }, /* no address */
	{ SCMP_SYS(fcntl), 1, F_GETFD },  { SCMP_SYS(fcntl), 1, F_SETFD },
	{ SCMP_SYS(fcntl), 1, F_GETFL },  { SCMP_SYS(fcntl), 1, F_SETFL },
	{ SCMP_SYS(fcntl), 1, F_DUPFD_CLOEXEC },
	{ SCMP_SYS(ioctl), 1, FIONREAD }, { SCMP_SYS(ioctl), 1, TIOCOUTQ },
	{ SCMP_SYS(ioctl), 1, TCGETS },	  { SCMP_SYS(ioctl), 1, TCSETS },
	{ SCMP_SYS(ioctl), 1, TCFLSH },	  { SCMP_SYS(ioctl), 1, TIOCEXCL },
	{ SCMP_SYS(ioctl), 1, TIOCGSERIAL }, { SCMP_SYS(ioctl), 1, TIOCSSERIAL },
	{ SCMP_SYS(ioctl), 1, TIOCGICOUNT }, { SCMP_SYS(ioctl), 1, FIONBIO },
};

/* No honest virtproxy comes near these. */
static const int deadly[] = {
	SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
};

/* An argument of a call, by its number.  (libseccomp's own macros leave a member
 * out, which clang warns of.) */
#define ARG(number, test, a, b) \
	((struct scmp_arg_cmp){ .arg = (number), .op = (test), .datum_a = (a), \
				.datum_b = (b) })
#define IS(n, value) ARG(n, SCMP_CMP_EQ, value, 0)
#define AT_LEAST(n, value) ARG(n, SCMP_CMP_GE, value, 0)
#define MASKED(n, mask, value) ARG(n, SCMP_CMP_MASKED_EQ, mask, value)

static int permit(scmp_filter_ctx f, int call, unsigned n,
		  const struct scmp_arg_cmp *args)
{
	int r = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, call, n, args);

	/* A call that this architecture does not have. */
	return r == -EDOM || r == -EINVAL ? 0 : r;
}

static int add_tables(scmp_filter_ctx f)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(plain) / sizeof(plain[0]); i++)
		r = permit(f, plain[i], 0, NULL);
	for (size_t i = 0; r == 0 && i < sizeof(by_value) / sizeof(by_value[0]); i++)
		r = permit(f, by_value[i].call, 1,
			   &IS(by_value[i].arg, by_value[i].value));
	for (size_t i = 0; r == 0 && i < sizeof(deadly) / sizeof(deadly[0]); i++) {
		r = seccomp_rule_add(f, SCMP_ACT_KILL_PROCESS, deadly[i], 0);
		r = r == -EDOM ? 0 : r;
	}
	return r;
}

/* Memory: never executable, never where the seal is. */
static int add_memory(scmp_filter_ctx f)
{
	const struct scmp_arg_cmp map[] = {
		MASKED(2, PROT_EXEC, 0),
		/* MAP_FIXED_NOREPLACE takes nothing away. */
		MASKED(3, MAP_FIXED, 0),
	};
	const struct scmp_arg_cmp remap[] = {
		AT_LEAST(0, seal_end()),
		MASKED(3, MREMAP_FIXED, 0),
	};
	const struct scmp_arg_cmp above = AT_LEAST(0, seal_end());
	int r = permit(f, SCMP_SYS(mmap), 2, map);

	if (r == 0)
		r = permit(f, SCMP_SYS(mmap2), 2, map);
	if (r == 0)
		r = permit(f, SCMP_SYS(mremap), 2, remap);
	if (r == 0)
		r = permit(f, SCMP_SYS(munmap), 1, &above);
	return r == 0 ? permit(f, SCMP_SYS(madvise), 1, &above) : r;
}

/* Signals go to this process alone: the end that "shutdown" asks for, abort(). */
static int add_self(scmp_filter_ctx f, pid_t pid)
{
	const struct scmp_arg_cmp self = IS(0, (scmp_datum_t)pid);
	int r = permit(f, SCMP_SYS(kill), 1, &self);

	return r == 0 ? permit(f, SCMP_SYS(tgkill), 1, &self) : r;
}

static int permit_open(scmp_filter_ctx f, const void *path, uint64_t mask,
		       uint64_t flags)
{
	const struct scmp_arg_cmp at[] = {
		MASKED(2, mask, flags),
		IS(1, (uintptr_t)path),
	};
	const struct scmp_arg_cmp old[] = {
		MASKED(1, mask, flags),
		IS(0, (uintptr_t)path),
	};
	unsigned n = path ? 2 : 1;
	int r = permit(f, SCMP_SYS(openat), n, at);

	return r == 0 ? permit(f, SCMP_SYS(open), n, old) : r;
}

#define MAKES (O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))

static int permit_sealed(scmp_filter_ctx f, enum seal_use use, const void *data)
{
	const struct scmp_arg_cmp a0 = IS(0, (uintptr_t)data);
	const struct scmp_arg_cmp a1 = IS(1, (uintptr_t)data);
	int r;

	switch (use) {
	case SEAL_CONNECT:
		return permit(f, SCMP_SYS(connect), 1, &a1);
	case SEAL_REMOVE:
		r = permit(f, SCMP_SYS(unlink), 1, &a0);
		if (r == 0)
			r = permit(f, SCMP_SYS(unlinkat), 1, &a1);
		return r == 0 ? permit(f, SCMP_SYS(rmdir), 1, &a0) : r;
	case SEAL_APPEND:
		return permit_open(f, data, O_ACCMODE | O_APPEND | O_TRUNC,
				   O_WRONLY | O_APPEND);
	case SEAL_OPEN:
		return permit_open(f, data, MAKES, 0);
	case SEAL_READ:
		return permit_open(f, data, O_ACCMODE | MAKES, O_RDONLY);
	}
	return -EINVAL;
}

static int add_sealed(scmp_filter_ctx f)
{
	enum seal_use use;
	const void *data;
	int r = 0;

	for (size_t i = 0; r == 0 && (data = seal_item(i, &use)); i++)
		r = permit_sealed(f, use, data);
	return r;
}

static int add_wishes(scmp_filter_ctx f, const struct sandbox *s)
{
	const struct scmp_arg_cmp in4 = IS(0, AF_INET);
	const struct scmp_arg_cmp in6 = IS(0, AF_INET6);
	int r = 0;

	if (s->tcp)
		r = permit(f, SCMP_SYS(socket), 1, &in4);
	if (r == 0 && s->tcp)
		r = permit(f, SCMP_SYS(socket), 1, &in6);
	if (r == 0 && s->devices)
		r = permit_open(f, NULL, O_ACCMODE | MAKES, O_RDONLY);
	if (r == 0 && s->devices)
		r = permit_open(f, NULL, O_ACCMODE | MAKES | O_NONBLOCK | O_NOCTTY,
				O_RDWR | O_NONBLOCK | O_NOCTTY);
	return r;
}

/* Writes the filter's program to fd. */
static int write_program(const struct sandbox *s, pid_t self, int fd)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r;

	if (!f)
		return -ENOMEM;
	/* A process that looks up some 20 calls a second does not need it, one
	 * that carries a file does. */
	seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	r = add_tables(f);
	if (r == 0)
		r = add_memory(f);
	if (r == 0)
		r = add_self(f, self);
	if (r == 0)
		r = add_sealed(f);
	if (r == 0)
		r = add_wishes(f, s);
	return r == 0 ? seccomp_export_bpf(f, fd) : r;
}

/* Takes what the child writes, and how it ended. */
static int read_program(pid_t child, int fd, uint8_t *to, size_t max, size_t *n)
{
	ssize_t got = 1;
	int status = 0, r;

	while (*n < max && (got > 0 || (got < 0 && errno == EINTR))) {
		got = read(fd, to + *n, max - *n);
		*n += got > 0 ? (size_t)got : 0;
	}
	r = got < 0 ? -errno : 0;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (r == 0 && !WIFEXITED(status))
		r = -EIO;
	return r == 0 ? -WEXITSTATUS(status) : r;
}

/* libseccomp uses 150 KB of heap for a program of 6, and pieces of it that stay
 * in use would keep many pages of ours: so a child makes it. */
static int make_program(const struct sandbox *s, uint8_t *to, size_t max, size_t *n)
{
	CLEANUP_CLOSE int in = -1, out = -1;
	pid_t self = getpid(), child;
	int pair[2];

	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	in = pair[0];
	out = pair[1];
	child = fork();
	if (child < 0)
		return -errno;
	if (child == 0)
		_exit(-write_program(s, self, out));
	close(out);
	out = -1;
	return read_program(child, in, to, max, n);
}

static int load_filter(const struct sandbox *s)
{
	size_t max = BPF_MAXINSNS * sizeof(struct sock_filter), n = 0;
	struct sock_fprog program;
	void *room = mmap(NULL, max, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (room == MAP_FAILED)
		return -errno;
	r = make_program(s, room, max, &n);
	program.len = (unsigned short)(n / sizeof(struct sock_filter));
	program.filter = room;
	if (r == 0)
		r = sandbox_no_children();
	if (r == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		r = -errno;
	munmap(room, max);
	malloc_trim(0);
	return r;
}

/* All but CAP_DAC_OVERRIDE, and that one only for a channel of another user's. */
static int drop_capabilities(bool foreign)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	uint32_t keep = foreign ? 1u << CAP_DAC_OVERRIDE : 0;

	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		prctl(PR_CAPBSET_DROP, cap); /* root's only, and only of use to exec */
#ifdef PR_CAP_AMBIENT
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
#endif
	for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		data[i].effective &= i == 0 ? keep : 0;
		data[i].permitted &= i == 0 ? keep : 0;
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

bool sandbox_is_possible(void)
{
	return !UNDER_SANITIZER && !__gcov_dump;
}

int sandbox_enter(const struct sandbox *s, const char **why)
{
	int r;

	if (!sandbox_is_possible()) {
		*why = "this build's sanitizer or coverage cannot work in it";
		return -ENOTSUP;
	}
	tzset(); /* reads a file */
	*why = "its arguments cannot be sealed";
	r = seal_close();
	if (r < 0)
		return -ENOTSUP;
	*why = "capabilities";
	r = drop_capabilities(s->foreign);
	if (r < 0)
		return r;
	*why = "the kernel takes no system-call filter";
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -ENOTSUP;
	r = load_filter(s);
	return r == -EINVAL || r == -ENOSYS || r == -ECANCELED ? -ENOTSUP : r;
}
