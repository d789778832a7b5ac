/*
 * output.c - see output.h
 *
 * The terminal filter works on pieces that end at a character's boundary: the
 * start of a UTF-8 character at the end of a piece is held back until the rest
 * comes.  Within a piece, runs between newlines and tabs go through
 * log_escape(), so that one function decides what is harmless; a backslash is.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/str.h"

#define OUT_MESSAGE_MAX 2048
#define OUT_RUN_MAX 1024 /* bytes escaped at a time */
#define OUT_JSON_MAX (64u << 20)

char *out_escape(char *dst, size_t dst_size, const void *src, size_t n)
{
	char *from, *to;

	log_escape(dst, dst_size, src, n);
	/* log_escape() leaves a backslash only as the start of an escape, so
	 * "\\x5c" is always one that stood in src. */
	for (from = to = dst; *from; to++) {
		*to = *from;
		from += strncmp(from, "\\x5c", 4) == 0 ? 4 : 1;
	}
	*to = '\0';
	return dst;
}

static void out_message(const char *who, const char *what, const char *text)
{
	char escaped[4 * OUT_MESSAGE_MAX];

	fputs(PROGRAM ": ", stderr);
	if (who && *who)
		fprintf(stderr, "%s: ", out_escape(escaped, sizeof(escaped),
						   who, strlen(who)));
	if (what && *what)
		fprintf(stderr, "%s: ", out_escape(escaped, sizeof(escaped),
						   what, strlen(what)));
	fprintf(stderr, "%s\n",
		out_escape(escaped, sizeof(escaped), text, strlen(text)));
}

void out_error(const char *who, const char *what, const char *fmt, ...)
{
	char text[OUT_MESSAGE_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* A fault often begins with the path or the method itself. */
	if (what && str_starts(text, what) && text[strlen(what)] == ':')
		what = NULL;
	/* What was printed before must not come behind the message. */
	fflush(stdout);
	out_message(who, what, text);
}

void out_verbose(const struct client *cl, const char *fmt, ...)
{
	char text[OUT_MESSAGE_MAX];
	va_list ap;

	if (!cl->verbose)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	out_message(NULL, NULL, text);
}

bool out_is_terminal(const struct client *cl, FILE *to)
{
	return !cl->raw && isatty(fileno(to));
}

bool out_is_coloured(FILE *to)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(fileno(to)) && !(no && *no) && term && *term &&
	       strcmp(term, "dumb") != 0;
}

void out_stream_init(struct out_stream *s, const struct client *cl, FILE *to)
{
	*s = (struct out_stream){
		.to = to,
		.escape = out_is_terminal(cl, to),
		.newline = true,
	};
}

static int put(FILE *to, const void *data, size_t n)
{
	if (n && fwrite(data, 1, n, to) != n)
		return errno ? -errno : -EIO;
	return 0;
}

/* How many bytes at the end of p are the start of an unfinished character? */
static size_t unfinished(const unsigned char *p, size_t n)
{
	size_t back;

	for (back = 1; back <= 3 && back <= n; back++) {
		unsigned char c = p[n - back];
		size_t need;

		if ((c & 0xc0) == 0x80)
			continue;
		need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
		return need > back ? back : 0;
	}
	return 0;
}

/* Bytes without newline or tab. */
static int put_run(FILE *to, const char *p, size_t n)
{
	char escaped[4 * OUT_RUN_MAX + 8];
	int error = 0;

	while (n && !error) {
		size_t piece = n < OUT_RUN_MAX ? n : OUT_RUN_MAX;

		if (piece < n)
			piece -= unfinished((const unsigned char *)p, piece);
		out_escape(escaped, sizeof(escaped), p, piece);
		error = put(to, escaped, strlen(escaped));
		p += piece;
		n -= piece;
	}
	return error;
}

static int put_escaped(FILE *to, const char *p, size_t n)
{
	while (n) {
		size_t run = 0;
		int error;

		while (run < n && p[run] != '\n' && p[run] != '\t')
			run++;
		error = put_run(to, p, run);
		if (!error && run < n)
			error = put(to, p + run, 1);
		if (error)
			return error;
		run += run < n;
		p += run;
		n -= run;
	}
	return 0;
}

int out_stream_write(struct out_stream *s, const void *data, size_t n)
{
	const char *p = data;
	size_t tail;
	int error;

	if (!n)
		return 0;
	s->newline = p[n - 1] == '\n';
	if (!s->escape)
		return put(s->to, p, n);

	/* Complete the held character first, byte by byte. */
	while (s->held && n) {
		s->hold[s->held++] = *p++;
		n--;
		if (s->held < sizeof(s->hold) &&
		    unfinished((unsigned char *)s->hold, s->held) == s->held)
			continue;
		error = put_escaped(s->to, s->hold, s->held);
		s->held = 0;
		if (error)
			return error;
	}
	tail = unfinished((const unsigned char *)p, n);
	error = put_escaped(s->to, p, n - tail);
	if (tail) {
		memcpy(s->hold, p + n - tail, tail);
		s->held = tail;
	}
	return error;
}

int out_stream_end(struct out_stream *s)
{
	int error = 0;

	if (s->held)
		error = put_escaped(s->to, s->hold, s->held);
	s->held = 0;
	if (!error && s->escape && !s->newline)
		error = put(s->to, "\n", 1);
	s->newline = true;
	if (!error && fflush(s->to))
		error = -errno;
	return error;
}

int out_text(const struct client *cl, const void *data, size_t n)
{
	if (out_is_terminal(cl, stdout))
		return put_escaped(stdout, data, n);
	return put(stdout, data, n);
}

static int out_json_form(const struct client *cl, const struct va_value *v,
			 bool pretty)
{
	CLEANUP_BUF struct buf b = BUF_INIT(OUT_JSON_MAX);
	int error = va_to_json(v, pretty, &b);

	if (!error && (!buf_len(&b) || buf_data(&b)[buf_len(&b) - 1] != '\n'))
		error = buf_put_u8(&b, '\n');
	if (!error)
		error = out_text(cl, buf_data(&b), buf_len(&b));
	return error;
}

int out_json(const struct client *cl, const struct va_value *v)
{
	return out_json_form(cl, v, isatty(STDOUT_FILENO));
}

/* One line for a plain value; -EINVAL when it is not one. */
static int out_plain(const struct client *cl, const struct va_value *v)
{
	char number[64];
	const void *data = number;
	size_t n;
	int64_t i = 0;
	double d = 0;
	bool b = false;

	switch (va_typeof(v)) {
	case VA_BOOL:
		va_get_bool(v, &b);
		n = (size_t)snprintf(number, sizeof(number), "%s",
				     b ? "true" : "false");
		break;
	case VA_INT:
		va_get_int(v, &i);
		n = (size_t)snprintf(number, sizeof(number), "%" PRId64, i);
		break;
	case VA_DOUBLE:
		va_get_double(v, &d);
		n = (size_t)snprintf(number, sizeof(number), "%.15g", d);
		break;
	case VA_STRING:
	case VA_DATETIME:
	case VA_BYTES:
		if (va_get_bytes(v, &data, &n)) {
			const char *s = "";

			va_get_string(v, &s);
			data = s;
			n = strlen(s);
		}
		break;
	default:
		return -EINVAL;
	}
	if (va_typeof(v) == VA_BYTES) {
		struct out_stream s;
		int error;

		out_stream_init(&s, cl, stdout);
		error = out_stream_write(&s, data, n);
		return error ? error : out_stream_end(&s);
	}
	if (out_text(cl, data, n))
		return -EIO;
	return put(stdout, "\n", 1);
}

static bool is_plain(const struct va_value *v)
{
	enum va_type t = va_typeof(v);

	return t == VA_BOOL || t == VA_INT || t == VA_DOUBLE ||
	       t == VA_STRING || t == VA_DATETIME;
}

int out_value(const struct client *cl, const struct va_value *v)
{
	bool plain = va_typeof(v) == VA_ARRAY;
	int error = 0;

	if (va_typeof(v) == VA_NIL)
		return 0;
	if (va_typeof(v) != VA_ARRAY && va_typeof(v) != VA_STRUCT)
		return out_plain(cl, v);
	for (size_t i = 0; plain && i < va_count(v); i++)
		plain = is_plain(va_item(v, i));
	if (!plain)
		return out_json_form(cl, v, true);
	for (size_t i = 0; !error && i < va_count(v); i++)
		error = out_plain(cl, va_item(v, i));
	return error;
}

void out_size(char *ret, size_t size, double n)
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t u = 0;

	while (n >= 1024 && u + 1 < sizeof(unit) / sizeof(unit[0])) {
		n /= 1024;
		u++;
	}
	snprintf(ret, size, u && n < 100 ? "%.1f %s" : "%.0f %s", n, unit[u]);
}

void out_age(char *ret, size_t size, double seconds)
{
	unsigned long s = seconds > 0 ? (unsigned long)seconds : 0;

	if (s < 60)
		snprintf(ret, size, "%lus", s);
	else if (s < 3600)
		snprintf(ret, size, "%lum", s / 60);
	else if (s < 24 * 3600)
		snprintf(ret, size, "%luh%02lum", s / 3600, s / 60 % 60);
	else
		snprintf(ret, size, "%lud%luh", s / 86400, s / 3600 % 24);
}
