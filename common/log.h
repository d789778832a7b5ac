/*
 * log.h - one log for every program
 *
 * Targets: stderr, a file, syslog.  On stderr under systemd each line carries
 * the <N> priority prefix.  Text that came from the other side must pass
 * through log_escape(); a message that a peer can provoke goes through
 * log_ratelimited().  Library-level code (frame, link, mux, codec) does not log
 * above debug: the daemon logs once, naming guest, operation and reason.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_COMMON_LOG_H
#define VA_COMMON_LOG_H

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARNING, LOG_LVL_INFO, LOG_LVL_DEBUG };

enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_FILE };

/* ident: the program's name in each line.  Default: stderr, info. */
void log_init(const char *ident);
/* A name that stands in each line after the program's: the guest's, usually. */
void log_set_context(const char *context);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/*
 * Where lines go.  spec: "stderr", "syslog" or a file's path (made 0600,
 * O_NOFOLLOW, appended to).  0 or a negative errno, the old target then stays.
 */
int log_set_target(const char *spec);
/* Opens a log file anew, for logrotate; no-op on the other targets. */
int log_reopen(void);

void log_msg(enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(...) log_msg(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warning(...) log_msg(LOG_LVL_WARNING, __VA_ARGS__)
#define log_info(...) log_msg(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...)                                                         \
	do {                                                                   \
		if (log_get_level() >= LOG_LVL_DEBUG)                          \
			log_msg(LOG_LVL_DEBUG, __VA_ARGS__);                   \
	} while (0)

/*
 * Lines go to sink instead of the target, for processes and threads that must
 * not wait for a log that cannot be written (a frozen file system, a stuck
 * journal); sink must not block, may be called from any thread, and is given
 * the message alone.  NULL = to the target again.  log_write() writes such a
 * line to the target, whatever the sink.
 */
typedef void (*log_sink_fn)(enum log_level level, const char *text);
void log_set_sink(log_sink_fn sink);
void log_write(enum log_level level, const char *text);

/* At most burst lines per interval; a line says how many were left out. */
struct log_limit {
	uint64_t interval_ns;
	unsigned burst;
	uint64_t window_start;
	unsigned count;
	uint64_t suppressed;
};

#define LOG_LIMIT_INIT                                                         \
	{ .interval_ns = UINT64_C(10000000000), .burst = 10 }

void log_ratelimited(struct log_limit *limit, enum log_level level,
		     const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * Writes n bytes of src to dst as printable ASCII and well-formed UTF-8
 * letters; control characters, bidi marks and bad bytes become \xNN.  dst is
 * always terminated; text that does not fit ends in "...".  Returns dst.
 */
char *log_escape(char *dst, size_t dst_size, const void *src, size_t n);

#endif
