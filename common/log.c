/*
 * log.c - see log.h
 *
 * A line is built in one buffer and goes out in one write(), so that lines of
 * several threads and processes on one file do not mix.  The message itself is
 * passed through as the caller made it, except that a line break inside it
 * becomes a blank: a record is one line.
 *
 * The state is guarded by a mutex; the level is read without it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/seal.h"
#include "common/str.h"

#define LOG_LINE_MAX 2048

static struct {
	pthread_mutex_t lock;
	enum log_target target;
	char ident[32];
	char context[64];
	char *path;
	int fd; /* of the file */
	bool prefixed; /* stderr goes to the journal */
	unsigned long lost; /* lines that could not be written */
	int lost_for;	    /* errno */
	bool torn;	    /* of the last one there is a part */
} log_state = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.ident = "virtagent",
	.fd = -1,
};

static int log_level_now = LOG_LVL_INFO;
static log_sink_fn log_sink;

void log_init(const char *ident)
{
	pthread_mutex_lock(&log_state.lock);
	snprintf(log_state.ident, sizeof(log_state.ident), "%s", ident);
	log_state.prefixed = getenv("JOURNAL_STREAM") && !isatty(2);
	pthread_mutex_unlock(&log_state.lock);
}

void log_set_context(const char *context)
{
	pthread_mutex_lock(&log_state.lock);
	if (context)
		log_escape(log_state.context, sizeof(log_state.context),
			   context, strlen(context));
	else
		log_state.context[0] = 0;
	pthread_mutex_unlock(&log_state.lock);
}

void log_set_level(enum log_level level)
{
	__atomic_store_n(&log_level_now, (int)level, __ATOMIC_RELAXED);
}

enum log_level log_get_level(void)
{
	return (enum log_level)__atomic_load_n(&log_level_now, __ATOMIC_RELAXED);
}

static int open_log_file(const char *path)
{
	int fd = open(seal_path(path), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC |
			      O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600);

	return fd < 0 ? -errno : fd;
}

int log_set_target(const char *spec)
{
	CLEANUP_FREE char *path = NULL;
	enum log_target target = LOG_TO_FILE;
	int fd = -1;

	if (strcmp(spec, "stderr") == 0) {
		target = LOG_TO_STDERR;
	} else if (strcmp(spec, "syslog") == 0) {
		target = LOG_TO_SYSLOG;
	} else {
		path = strdup(spec);
		if (!path)
			return -ENOMEM;
		fd = open_log_file(path);
		if (fd < 0)
			return fd;
	}
	pthread_mutex_lock(&log_state.lock);
	if (log_state.fd >= 0)
		close(log_state.fd);
	free(log_state.path);
	log_state.fd = fd;
	log_state.path = take_ptr(path);
	log_state.target = target;
	if (target == LOG_TO_SYSLOG)
		openlog(log_state.ident, LOG_PID | LOG_NDELAY, LOG_DAEMON);
	pthread_mutex_unlock(&log_state.lock);
	return 0;
}

int log_reopen(void)
{
	int fd, r = 0;

	pthread_mutex_lock(&log_state.lock);
	if (log_state.target == LOG_TO_FILE) {
		fd = open_log_file(log_state.path);
		if (fd < 0) {
			r = fd;
		} else {
			close(log_state.fd);
			log_state.fd = fd;
		}
	}
	pthread_mutex_unlock(&log_state.lock);
	return r;
}

/* Writes the line's beginning; returns its length. */
static size_t line_head(char *line, size_t size, enum log_level level)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	static const char priority[] = "3467"; /* syslog(3)'s numbers */
	const char *context = log_state.context, *sep = context[0] ? ": " : "";
	struct timespec ts;
	struct tm tm;
	char when[32];
	int n;

	if (log_state.target == LOG_TO_STDERR && log_state.prefixed)
		n = snprintf(line, size, "<%c>%s%s", priority[level], context, sep);
	else if (log_state.target == LOG_TO_STDERR)
		n = snprintf(line, size, "%s: %s%s%s: ", log_state.ident,
			     context, sep, names[level]);
	else {
		clock_gettime(CLOCK_REALTIME, &ts);
		gmtime_r(&ts.tv_sec, &tm);
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
		n = snprintf(line, size, "%s.%03ldZ %s[%d]: %s%s%s: ", when,
			     ts.tv_nsec / 1000000, log_state.ident,
			     (int)getpid(), context, sep, names[level]);
	}
	return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

/*
 * A full disk costs lines, not the service; the first one that is written again says
 * how many.  Half a line is ended first.
 */
static bool write_whole(const char *line, size_t len)
{
	ssize_t n = write(log_state.target == LOG_TO_FILE ? log_state.fd : 2, line, len);

	if (n == (ssize_t)len)
		return true;
	log_state.lost_for = n < 0 ? errno : ENOSPC;
	log_state.torn |= n > 0;
	return false;
}

static void write_line(const char *line, size_t len)
{
	char note[256] = "\n";
	size_t n = log_state.torn ? 1 : 0;

	if (log_state.lost) {
		n += line_head(note + n, sizeof(note) - n, LOG_LVL_WARNING);
		n += (size_t)snprintf(note + n, sizeof(note) - n,
				      "%lu log lines were lost: %s\n", log_state.lost,
				      strerror(log_state.lost_for));
		if (n >= sizeof(note))
			n = sizeof(note) - 1;
		if (!write_whole(note, n)) {
			log_state.lost++;
			return;
		}
		log_state.lost = 0;
		log_state.torn = false;
	}
	log_state.lost += !write_whole(line, len);
}

static void log_vwrite(enum log_level level, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void log_vwrite(enum log_level level, const char *fmt, va_list ap)
{
	static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
	char line[LOG_LINE_MAX];
	int saved = errno, n;
	size_t len = 0;

	pthread_mutex_lock(&log_state.lock);
	if (log_state.target != LOG_TO_SYSLOG)
		len = line_head(line, sizeof(line) - 1, level);
	else if (log_state.context[0])
		len = (size_t)snprintf(line, sizeof(line) - 1, "%s: ",
				       log_state.context);
	n = vsnprintf(line + len, sizeof(line) - 1 - len, fmt, ap);
	if (n > 0)
		len += (size_t)n;
	if (len > sizeof(line) - 2) {
		len = sizeof(line) - 2;
		memcpy(line + len - 3, "...", 3);
	}
	for (size_t i = 0; i < len; i++)
		if (line[i] == '\n' || line[i] == '\r')
			line[i] = ' ';
	if (log_state.target == LOG_TO_SYSLOG) {
		line[len] = 0;
		syslog(priorities[level], "%s", line);
	} else {
		line[len++] = '\n';
		write_line(line, len);
	}
	pthread_mutex_unlock(&log_state.lock);
	errno = saved;
}

static void log_vmsg(enum log_level level, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void log_vmsg(enum log_level level, const char *fmt, va_list ap)
{
	log_sink_fn sink = __atomic_load_n(&log_sink, __ATOMIC_ACQUIRE);
	char text[LOG_LINE_MAX];
	int saved = errno;

	if (!sink) {
		log_vwrite(level, fmt, ap);
		return;
	}
	vsnprintf(text, sizeof(text), fmt, ap);
	sink(level, text);
	errno = saved;
}

void log_set_sink(log_sink_fn sink)
{
	__atomic_store_n(&log_sink, sink, __ATOMIC_RELEASE);
}

static void log_writef(enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void log_writef(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vwrite(level, fmt, ap);
	va_end(ap);
}

void log_write(enum log_level level, const char *text)
{
	log_writef(level, "%s", text);
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > log_get_level())
		return;
	va_start(ap, fmt);
	log_vmsg(level, fmt, ap);
	va_end(ap);
}

/* May a line be written now?  *left_out: lines of the last window that were
 * not. */
static bool limit_allows(struct log_limit *limit, uint64_t *left_out)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	uint64_t now = clock_now();
	bool allowed;

	*left_out = 0;
	pthread_mutex_lock(&lock);
	if (limit->window_start == 0 ||
	    now - limit->window_start >= limit->interval_ns) {
		*left_out = limit->suppressed;
		limit->window_start = now;
		limit->count = 0;
		limit->suppressed = 0;
	}
	allowed = limit->count < limit->burst;
	if (allowed)
		limit->count++;
	else
		limit->suppressed++;
	pthread_mutex_unlock(&lock);
	return allowed;
}

void log_ratelimited(struct log_limit *limit, enum log_level level,
		     const char *fmt, ...)
{
	uint64_t left_out;
	va_list ap;

	if (level > log_get_level() || !limit_allows(limit, &left_out))
		return;
	if (left_out)
		log_msg(level, "%llu similar messages were left out",
			(unsigned long long)left_out);
	va_start(ap, fmt);
	log_vmsg(level, fmt, ap);
	va_end(ap);
}

/* Bytes of the printable character at p, 0 when it must be escaped. */
static size_t printable_len(const unsigned char *p, size_t n)
{
	uint32_t c;
	size_t len;

	if (p[0] < 0x80)
		return p[0] >= 0x20 && p[0] != 0x7f && p[0] != '\\';
	len = str_utf8(p, n, &c);
	if (len == 0 || c < 0xa0 || str_is_deceptive(c))
		return 0;
	return len;
}

char *log_escape(char *dst, size_t dst_size, const void *src, size_t n)
{
	const unsigned char *p = src, *end = p + n;
	size_t to = 0, fits = 0; /* fits: where "..." would still fit */

	if (dst_size == 0)
		return dst;
	while (p < end) {
		char piece[8];
		size_t take = printable_len(p, (size_t)(end - p)), len = take;

		if (take) {
			memcpy(piece, p, take);
		} else {
			len = (size_t)snprintf(piece, sizeof(piece), "\\x%02x", *p);
			take = 1;
		}
		if (to + len >= dst_size) {
			to = fits;
			for (int i = 0; i < 3 && to + 1 < dst_size; i++)
				dst[to++] = '.';
			break;
		}
		memcpy(dst + to, piece, len);
		to += len;
		if (to + 3 < dst_size)
			fits = to;
		p += take;
	}
	dst[to] = 0;
	return dst;
}
