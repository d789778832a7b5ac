/*
 * unit.c - see unit.h
 *
 * The child reports by its exit status: 0 passed, 77 skipped, else failed; what
 * it wrote to stderr is shown.  Left-open descriptors are found by comparing
 * /proc/self/fd before and after the case, inside the child.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/unit.h"

#include <dirent.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

#define UNIT_SECONDS 10u
#define UNIT_SKIPPED 77

static char unit_dir[64];

void unit_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "# %s:%d: ", file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	_exit(1);
}

void unit_skip(const char *what)
{
	fprintf(stderr, "# skipped: %s is missing\n", what);
	_exit(UNIT_SKIPPED);
}

uint64_t unit_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

const char *unit_tmpdir(void)
{
	return unit_dir;
}

static int remove_entry(const char *path, const struct stat *st, int type,
			struct FTW *ftw)
{
	return remove(path);
}

/* The set of open descriptors below 1024, as a bitmap. */
static void open_fds(uint64_t map[16])
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;

	memset(map, 0, 16 * sizeof(map[0]));
	if (!d)
		return;
	while ((e = readdir(d))) {
		int fd = atoi(e->d_name);

		if (e->d_name[0] != '.' && fd != dirfd(d) && fd < 1024)
			map[fd / 64] |= UINT64_C(1) << (fd % 64);
	}
	closedir(d);
}

static void run_here(const struct unit_case *c)
{
	uint64_t before[16], after[16];

	open_fds(before);
	c->fn();
	open_fds(after);
	for (int fd = 0; fd < 1024; fd++) {
		uint64_t bit = UINT64_C(1) << (fd % 64);

		if ((after[fd / 64] & bit) && !(before[fd / 64] & bit))
			unit_fail(c->name, 0, "descriptor %d was left open", fd);
	}
}

static int run_child(const struct unit_case *c)
{
	unsigned limit = c->seconds ? c->seconds : UNIT_SECONDS;
	double scale = clock_scale();
	int status;
	pid_t pid;

	fflush(NULL);
	snprintf(unit_dir, sizeof(unit_dir), "/tmp/va-unit-XXXXXX");
	if (!mkdtemp(unit_dir))
		return 1;
	pid = fork();
	if (pid < 0)
		return 1;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (c->must_fail && !freopen("/dev/null", "w", stderr))
			_exit(1);
		alarm((unsigned)(limit * (scale > 1 ? scale : 1)));
		run_here(c);
		/* Through exit(), so that a leak checker gets its turn. */
		exit(0);
	}
	if (waitpid(pid, &status, 0) < 0)
		return 1;
	nftw(unit_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	if (WIFSIGNALED(status)) {
		fprintf(stderr, "# %s: %s\n", c->name,
			WTERMSIG(status) == SIGALRM ? "time limit passed" :
						      strsignal(WTERMSIG(status)));
		return 1;
	}
	return WEXITSTATUS(status);
}

int unit_main(const struct unit_case *cases, size_t n, int argc, char **argv)
{
	int failed = 0;

	signal(SIGPIPE, SIG_IGN);
	if (argc > 1) {
		for (size_t i = 0; i < n; i++)
			for (int a = 1; a < argc; a++)
				if (strcmp(argv[a], cases[i].name) == 0)
					run_here(&cases[i]);
		return 0;
	}
	printf("1..%zu\n", n);
	for (size_t i = 0; i < n; i++) {
		int r = run_child(&cases[i]);
		bool skipped = r == UNIT_SKIPPED;
		bool ok = skipped || (r == 0) != cases[i].must_fail;

		printf("%sok %zu %s%s\n", ok ? "" : "not ", i + 1,
		       cases[i].name, skipped ? " # SKIP" : "");
		failed += !ok;
	}
	return failed ? 1 : 0;
}
