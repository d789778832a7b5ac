/*
 * unit.h - the unit-test runner
 *
 * A program defines its cases and lists them:
 *
 *	TEST(buf_cap_holds) { ... CHECK(...); }
 *	UNIT_MAIN(CASE(buf_cap_holds), CASE_FAILS(...))
 *
 * Each case runs in a child of its own with a time limit (10 s, scaled); a
 * descriptor left open, a crash or a sanitizer report fails it.  CASE_FAILS is
 * a case that must fail: it tests the runner.  Output is TAP.  With arguments,
 * only the cases named run, in this process (for a debugger).
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_UNIT_H
#define VA_UNIT_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct unit_case {
	const char *name;
	void (*fn)(void);
	bool must_fail;
	unsigned seconds; /* 0 = the default limit */
};

#define TEST(name) static void test_##name(void)
#define CASE(name) { #name, test_##name, false, 0 }
#define CASE_SLOW(name, sec) { #name, test_##name, false, (sec) }
#define CASE_FAILS(name) { #name, test_##name, true, 0 }

#define UNIT_MAIN(...)                                                         \
	int main(int argc, char **argv)                                        \
	{                                                                      \
		static const struct unit_case cases[] = { __VA_ARGS__ };       \
		return unit_main(cases, sizeof(cases) / sizeof(cases[0]),      \
				 argc, argv);                                  \
	}

int unit_main(const struct unit_case *cases, size_t n, int argc, char **argv);
void unit_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), noreturn));
/* Ends the case as skipped, naming what is missing. */
void unit_skip(const char *what) __attribute__((noreturn));
/* CPU time of this process so far, in nanoseconds: what something costs, on a
 * machine that does other things too. */
uint64_t unit_cpu_ns(void);
/* A private directory, removed after the case. */
const char *unit_tmpdir(void);

#define CHECK(cond)                                                            \
	do {                                                                   \
		if (!(cond))                                                   \
			unit_fail(__FILE__, __LINE__, "%s", #cond);            \
	} while (0)

#define CHECK_INT(got, want)                                                   \
	do {                                                                   \
		long long got_ = (long long)(got), want_ = (long long)(want);  \
		if (got_ != want_)                                             \
			unit_fail(__FILE__, __LINE__,                          \
				  "%s is %lld, expected %s = %lld", #got,      \
				  got_, #want, want_);                         \
	} while (0)

#define CHECK_STR(got, want)                                                   \
	do {                                                                   \
		const char *got_ = (got), *want_ = (want);                     \
		if (!got_ || strcmp(got_, want_) != 0)                         \
			unit_fail(__FILE__, __LINE__,                          \
				  "%s is \"%s\", expected \"%s\"", #got,       \
				  got_ ? got_ : "(null)", want_);              \
	} while (0)

#define CHECK_MEM(got, want, n)                                                \
	do {                                                                   \
		if (memcmp((got), (want), (n)) != 0)                           \
			unit_fail(__FILE__, __LINE__, "%s differs from %s",    \
				  #got, #want);                                \
	} while (0)

#endif
