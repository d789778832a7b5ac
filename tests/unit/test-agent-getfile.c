/*
 * test-agent-getfile.c - guest.getfile reads what is plain, refuses the rest,
 * and neither blocks nor tells a wrong end
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/lib/unit.h"
#include "virtagent/fault.h"
#include "virtagent/guest/guest.h"
#include "virtagent/guest/read_guard.h"
#include "virtagent/limits.h"

#define NONE INT64_MIN

struct answer {
	int error;
	struct va_fault fault;
	struct va_value *value;
};

static void answer_done(struct answer *a)
{
	va_value_free(a->value);
}

#define CLEANUP_ANSWER CLEANUP(answer_done) struct answer

static const char *forbidden;

static int check_path(struct va_call *call, const char *real_path)
{
	return forbidden && strcmp(real_path, forbidden) == 0 ?
		       va_fail(call, EPERM, "forbidden") : 0;
}

static struct answer getfile(const char *path, int64_t offset, int64_t length)
{
	struct guest_context ctx = { .check_path = check_path };
	struct va_call call = { .method = &guest_getfile_family.methods[0],
				.context = &ctx, .cancel_fd = -1 };
	CLEANUP_VALUE struct va_value *params = va_array();
	struct answer a = { 0 };

	CHECK_INT(va_append(params, va_string(path)), 0);
	if (offset != NONE)
		CHECK_INT(va_append(params, va_int(offset)), 0);
	if (length != NONE)
		CHECK_INT(va_append(params, va_int(length)), 0);
	call.params = params;
	a.error = call.method->fn(&call, &a.value);
	a.fault = call.fault;
	return a;
}

static int64_t number(const struct answer *a, const char *name)
{
	int64_t v;

	CHECK_INT(va_get_int(va_member(a->value, name), &v), 0);
	return v;
}

static bool eof(const struct answer *a)
{
	bool v;

	CHECK_INT(va_get_bool(va_member(a->value, "eof"), &v), 0);
	return v;
}

static size_t data(const struct answer *a, const char **ret)
{
	const void *p;
	size_t n;

	CHECK_INT(a->error, 0);
	CHECK_INT(va_get_bytes(va_member(a->value, "data"), &p, &n), 0);
	*ret = p;
	return n;
}

static char *path_of(const char *name)
{
	static char path[4][128];
	static unsigned next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", unit_tmpdir(), name);
	return p;
}

static char *make(const char *name, const char *content)
{
	char *path = path_of(name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK_INT(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	close(fd);
	return path;
}

TEST(a_plain_file_is_read_in_pieces)
{
	const char *path = make("f", "0123456789"), *d;
	CLEANUP_ANSWER whole = getfile(path, NONE, NONE);
	CLEANUP_ANSWER middle = getfile(path, 3, 4);
	CLEANUP_ANSWER last = getfile(path, 3, 7);
	CLEANUP_ANSWER beyond = getfile(path, 100, NONE);
	CLEANUP_ANSWER nothing = getfile(path, 0, 0);

	CHECK_INT(data(&whole, &d), 10);
	CHECK_MEM(d, "0123456789", 10);
	CHECK(eof(&whole));
	CHECK_INT(number(&whole, "size"), 10);
	CHECK_INT(number(&whole, "offset"), 0);
	CHECK(number(&whole, "mtime") > 1000000000);
	CHECK_INT(data(&middle, &d), 4);
	CHECK_MEM(d, "3456", 4);
	CHECK(!eof(&middle));
	CHECK_INT(number(&middle, "size"), 10);
	CHECK_INT(number(&middle, "offset"), 3);
	CHECK_INT(data(&last, &d), 7);
	CHECK(eof(&last));
	CHECK_INT(data(&beyond, &d), 0);
	CHECK(eof(&beyond));
	CHECK_INT(number(&beyond, "size"), 10);
	CHECK_INT(data(&nothing, &d), 0);
	CHECK(!eof(&nothing));
}

TEST(an_empty_file_is_empty)
{
	CLEANUP_ANSWER a = getfile(make("e", ""), NONE, NONE);
	const char *d;

	CHECK_INT(data(&a, &d), 0);
	CHECK(eof(&a));
	CHECK_INT(number(&a, "size"), 0);
}

TEST(links_are_followed)
{
	CLEANUP_ANSWER a = { 0 };
	const char *d;

	CHECK_INT(symlink(make("target", "x"), path_of("link")), 0);
	a = getfile(path_of("link"), NONE, NONE);
	CHECK_INT(data(&a, &d), 1);
}

TEST(the_policy_judges_what_a_link_leads_to)
{
	CLEANUP_ANSWER a = { 0 };

	forbidden = make("secret", "x");
	CHECK_INT(symlink(forbidden, path_of("innocent")), 0);
	a = getfile(path_of("innocent"), NONE, NONE);
	CHECK_INT(a.error, -EPERM);
	CHECK_STR(a.fault.text, "forbidden");
}

TEST(proc_files_come_whole)
{
	CLEANUP_ANSWER meminfo = getfile("/proc/meminfo", NONE, NONE);
	CLEANUP_ANSWER status = getfile("/proc/self/status", 5, 3);
	const char *d;
	size_t n = data(&meminfo, &d);

	CHECK(n > 100);
	CHECK_MEM(d, "MemTotal:", 9);
	CHECK_INT(d[n - 1], '\n');
	CHECK(eof(&meminfo));
	CHECK_INT(number(&meminfo, "size"), n);
	CHECK_INT(data(&status, &d), 3);
	CHECK(!eof(&status));
}

TEST(a_long_proc_file_comes_whole)
{
	/* Longer than a page, so that single reads are short. */
	CLEANUP_ANSWER a = getfile("/proc/self/smaps", NONE, NONE);
	const char *d;
	size_t n = data(&a, &d);

	CHECK(n > 8192);
	CHECK(eof(&a));
	CHECK(memmem(d, n, "[stack]", 7));
}

TEST(sys_files_have_their_real_length)
{
	CLEANUP_ANSWER a = { 0 };
	const char *d;

	if (access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) < 0)
		unit_skip("/sys/kernel/mm");
	a = getfile("/sys/kernel/mm/transparent_hugepage/enabled", NONE, NONE);
	CHECK(data(&a, &d) > 4);
	CHECK(number(&a, "size") < 100);
	CHECK(eof(&a));
}

static void refused(const char *path, int error, const char *text)
{
	uint64_t begin = clock_now();
	CLEANUP_ANSWER a = getfile(path, NONE, NONE);

	if (a.error != -error || !strstr(a.fault.text, text))
		unit_fail(__FILE__, __LINE__, "%s: error %d, fault %d \"%s\", "
			  "expected \"%s\"", path, a.error, a.fault.code,
			  a.fault.text, text);
	CHECK_INT(a.fault.code, VA_FAULT_ERRNO + error);
	CHECK(clock_now() - begin < NSEC_PER_SEC);
}

TEST(what_is_not_plain_is_refused_at_once)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_INT(mkfifo(path_of("fifo"), 0600), 0);
	snprintf(un.sun_path, sizeof(un.sun_path), "%.100s", path_of("sock"));
	CHECK_INT(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	refused(path_of("fifo"), EINVAL, "is a FIFO");
	refused(path_of("sock"), EINVAL, "is a socket");
	refused(unit_tmpdir(), EISDIR, "is a directory");
	refused("/dev/zero", EINVAL, "is a character device");
	refused("/dev/tty", EINVAL, "is a character device");
	refused("/nonexistent", ENOENT, "/nonexistent: No such file");
	refused("relative", EINVAL, "not an absolute path");
	close(fd);
}

TEST(endless_proc_files_are_refused)
{
	if (geteuid() != 0)
		unit_skip("root");
	if (access("/proc/kmsg", F_OK) == 0)
		refused("/proc/kmsg", EINVAL, "guest.getdmesg");
	if (access("/proc/kcore", F_OK) == 0)
		refused("/proc/kcore", EINVAL, "without an end");
}

TEST(offsets_are_checked)
{
	const char *path = make("f", "x");
	CLEANUP_ANSWER negative = getfile(path, -1, NONE);
	CLEANUP_ANSWER huge = getfile(path, INT64_MAX, NONE);
	CLEANUP_ANSWER far = getfile(path, INT64_C(1) << 60, NONE);
	CLEANUP_ANSWER longer = getfile(path, 0, VA_BYTES_MAX + 1);

	CHECK(negative.error < 0 && strstr(negative.fault.text, "-1"));
	CHECK(huge.error < 0 && huge.fault.text[0]);
	CHECK_INT(far.error, 0);
	CHECK(longer.error < 0 && strstr(longer.fault.text, "1048577"));
}

TEST(a_sparse_giant_is_read_at_its_end)
{
	const char *path = make("sparse", "begin"), *d;
	int64_t size = INT64_C(1) << 40;
	CLEANUP_ANSWER begin = { 0 }, end = { 0 };
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (ftruncate(fd, size) < 0 || pwrite(fd, "end", 3, size - 3) != 3) {
		close(fd);
		unit_skip("a file system with files of 1 TiB");
	}
	close(fd);
	begin = getfile(path, NONE, NONE);
	CHECK_INT(data(&begin, &d), VA_BYTES_MAX);
	CHECK_MEM(d, "begin\0", 6);
	CHECK(!eof(&begin));
	CHECK_INT(number(&begin, "size"), size);
	end = getfile(path, size - 3, NONE);
	CHECK_INT(data(&end, &d), 3);
	CHECK_MEM(d, "end", 3);
	CHECK(eof(&end));
}

static const char *changing;
static bool stop_changing;

static void *change(void *arg)
{
	int fd = open(changing, O_WRONLY | O_CLOEXEC);

	for (unsigned i = 0; !__atomic_load_n(&stop_changing, __ATOMIC_RELAXED); i++)
		if (ftruncate(fd, (off_t)(i % 3) * 300000) < 0)
			break;
	close(fd);
	return arg;
}

TEST(a_changing_file_gives_consistent_answers)
{
	pthread_t thread;

	changing = make("c", "");
	CHECK_INT(pthread_create(&thread, NULL, change, NULL), 0);
	for (int i = 0; i < 300; i++) {
		CLEANUP_ANSWER a = getfile(changing, 1000, 400000);
		const char *d;
		size_t n = data(&a, &d);

		CHECK(n <= 400000);
		CHECK(n == 0 || number(&a, "size") >= (int64_t)n + 1000);
		/* The end is claimed only where the last byte was seen. */
		CHECK(n == 0 || !eof(&a) ||
		      number(&a, "size") == (int64_t)n + 1000);
	}
	__atomic_store_n(&stop_changing, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
}

TEST(the_guard_ends_a_blocked_read)
{
	struct read_guard guard;
	uint64_t begin = clock_now();
	int fds[2];
	char byte;

	CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
	read_guard_start(&guard, 200);
	CHECK_INT(read(fds[0], &byte, 1), -1);
	CHECK_INT(errno, EINTR);
	read_guard_stop(&guard);
	CHECK(clock_now() - begin >= 200 * NSEC_PER_MSEC);
	close(fds[0]);
	close(fds[1]);
}

UNIT_MAIN(CASE(a_plain_file_is_read_in_pieces), CASE(an_empty_file_is_empty),
	  CASE(links_are_followed),
	  CASE(the_policy_judges_what_a_link_leads_to), CASE(proc_files_come_whole),
	  CASE(a_long_proc_file_comes_whole),
	  CASE(sys_files_have_their_real_length),
	  CASE(what_is_not_plain_is_refused_at_once),
	  CASE(endless_proc_files_are_refused), CASE(offsets_are_checked),
	  CASE(a_sparse_giant_is_read_at_its_end),
	  CASE(a_changing_file_gives_consistent_answers),
	  CASE(the_guard_ends_a_blocked_read))
