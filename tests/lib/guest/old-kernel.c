/*
 * old-kernel.c - old-kernel PROGRAM [ARG...]: runs it as on Linux 3.2
 *
 * A seccomp filter, kept over exec, answers as that kernel did to what it did not
 * know: ENOSYS to every system call added later, EINVAL to later prctl and fcntl
 * commands, ENOPROTOOPT to later socket options, EISDIR to O_TMPFILE.  What
 * travels behind a pointer (epoll flags, ioctl structures) cannot be seen by a
 * filter.  "old-kernel --check" proves that the filter bites.  x86-64 only.
 *
 * SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* process_vm_writev (311) came with 3.2; kcmp (312) with 3.5. */
#define FIRST_NEWER_CALL 312u
#define NO_ARG 6u

/* Arguments of calls that 3.2 has, with the answer it gave to newer values. */
static const struct rule {
	uint32_t call;
	uint32_t guard_arg, guard; /* only if this argument equals guard */
	uint32_t arg, low, high;   /* the argument's newer values ... */
	uint32_t bit;		   /* ... or a newer flag in it */
	uint32_t error;
} rules[] = {
	/* PR_SET_MM came with 3.3. */
	{ __NR_prctl, NO_ARG, 0, 0, 35, UINT32_MAX, 0, EINVAL },
	/* F_OFD_GETLK .. F_OFD_SETLKW, 3.15; F_ADD_SEALS and later, 3.17. */
	{ __NR_fcntl, NO_ARG, 0, 1, 36, 38, 0, EINVAL },
	{ __NR_fcntl, NO_ARG, 0, 1, 1033, UINT32_MAX, 0, EINVAL },
	/* O_TMPFILE without its O_DIRECTORY, 3.11. */
	{ __NR_openat, NO_ARG, 0, 2, 0, 0, 020000000, EISDIR },
	{ __NR_open, NO_ARG, 0, 1, 0, 0, 020000000, EISDIR },
	/* SO_WIFI_STATUS came with 3.3. */
	{ __NR_getsockopt, 1, SOL_SOCKET, 2, 41, UINT32_MAX, 0, ENOPROTOOPT },
	{ __NR_setsockopt, 1, SOL_SOCKET, 2, 41, UINT32_MAX, 0, ENOPROTOOPT },
};

static struct sock_filter filter[16 + 16 * sizeof(rules) / sizeof(rules[0])];
static unsigned short length;

static void emit(uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	filter[length++] = (struct sock_filter){ code, jt, jf, k };
}

static void load(size_t offset)
{
	emit(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void load_arg(uint32_t n)
{
	/* The low half: all the arguments looked at are ints. */
	load(offsetof(struct seccomp_data, args) + n * sizeof(uint64_t));
}

static void answer(uint32_t error)
{
	emit(BPF_RET | BPF_K,
	     error ? SECCOMP_RET_ERRNO | error : SECCOMP_RET_ALLOW, 0, 0);
}

static void emit_rule(const struct rule *r)
{
	uint8_t rest = (uint8_t)((r->guard_arg != NO_ARG ? 2 : 0) +
				 (r->bit ? 3 : 4));

	load(offsetof(struct seccomp_data, nr));
	emit(BPF_JMP | BPF_JEQ | BPF_K, r->call, 0, rest);
	if (r->guard_arg != NO_ARG) {
		load_arg(r->guard_arg);
		emit(BPF_JMP | BPF_JEQ | BPF_K, r->guard, 0,
		     (uint8_t)(rest - 2));
	}
	load_arg(r->arg);
	if (r->bit) {
		emit(BPF_JMP | BPF_JSET | BPF_K, r->bit, 0, 1);
	} else {
		emit(BPF_JMP | BPF_JGE | BPF_K, r->low, 0, 2);
		emit(BPF_JMP | BPF_JGT | BPF_K, r->high, 1, 0);
	}
	answer(r->error);
}

static int install(void)
{
	struct sock_fprog program;

	load(offsetof(struct seccomp_data, arch));
	emit(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	answer(ENOSYS);
	load(offsetof(struct seccomp_data, nr));
	emit(BPF_JMP | BPF_JGE | BPF_K, FIRST_NEWER_CALL, 0, 1);
	answer(ENOSYS);
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		emit_rule(&rules[i]);
	answer(0);
	program.len = length;
	program.filter = filter;
	/* Without privileges a filter needs this; as root it does no harm. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int expect(const char *what, long got, int error)
{
	int saved = errno;

	if (error ? (got == -1 && saved == error) : got >= 0)
		return 0;
	printf("%s: %ld (%s), expected %s\n", what, got, strerror(saved),
	       error ? strerror(error) : "success");
	return 1;
}

static int check(void)
{
	int on = 1, bad = 0, s = socket(AF_UNIX, SOCK_STREAM, 0);
	socklen_t n = sizeof(on);

	bad += expect("getrandom", syscall(318, &on, sizeof(on), 0), ENOSYS);
	bad += expect("statx", syscall(332, -1, "", 0, 0, NULL), ENOSYS);
	bad += expect("openat2", syscall(437, -1, "", NULL, 0), ENOSYS);
	bad += expect("close_range", syscall(436, 900, 901, 0), ENOSYS);
	bad += expect("PR_SET_CHILD_SUBREAPER", prctl(36, 0, 0, 0, 0), EINVAL);
	bad += expect("PR_GET_NAME", prctl(PR_SET_NAME, "old", 0, 0, 0), 0);
	bad += expect("O_TMPFILE",
		      open("/tmp", O_RDWR | O_DIRECTORY | 020000000, 0600),
		      EISDIR);
	bad += expect("open", open("/", O_RDONLY | O_DIRECTORY), 0);
	bad += expect("F_ADD_SEALS", fcntl(s, 1033, 0), EINVAL);
	bad += expect("F_OFD_GETLK", fcntl(s, 36, NULL), EINVAL);
	bad += expect("F_GETFD", fcntl(s, F_GETFD), 0);
	bad += expect("SO_PEERPIDFD", getsockopt(s, SOL_SOCKET, 77, &on, &n),
		      ENOPROTOOPT);
	bad += expect("SO_TYPE", getsockopt(s, SOL_SOCKET, SO_TYPE, &on, &n), 0);
	return bad ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: old-kernel PROGRAM [ARG...]\n");
		return 3;
	}
	if (install() < 0) {
		perror("old-kernel: seccomp");
		return 125;
	}
	if (strcmp(argv[1], "--check") == 0)
		return check();
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
