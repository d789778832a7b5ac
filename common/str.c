/*
 * str.c - see str.h
 *
 * Numbers are parsed by hand rather than with strtol(): no leading blanks, no
 * "+", no hexadecimal, no locale, nothing after the last digit.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/str.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

char *str_printf(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

/* The digits at *s, which is moved behind them: 0, -EINVAL or -ERANGE. */
static int take_digits(const char **s, uint64_t *ret)
{
	const char *p = *s;
	uint64_t v = 0;
	int r = 0;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			r = -ERANGE;
	}
	*s = p;
	*ret = v;
	return r;
}

int str_to_u64(const char *s, uint64_t max, uint64_t *ret)
{
	uint64_t v;
	int r = take_digits(&s, &v);

	if (r == -EINVAL || *s)
		return -EINVAL;
	if (r < 0 || v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

int str_to_i64(const char *s, int64_t min, int64_t max, int64_t *ret)
{
	bool neg = *s == '-';
	uint64_t v;
	int64_t n;
	int r;

	r = str_to_u64(s + neg, (uint64_t)INT64_MAX + neg, &v);
	if (r < 0)
		return r;
	n = neg ? (int64_t)(0 - v) : (int64_t)v;
	if (n < min || n > max)
		return -ERANGE;
	*ret = n;
	return 0;
}

int str_to_size(const char *s, uint64_t max, uint64_t *ret)
{
	static const char units[] = "KMG";
	uint64_t v;
	int r = take_digits(&s, &v), shift = 0;

	if (r == -EINVAL)
		return r;
	if (*s) {
		const char *unit = strchr(units, *s & ~0x20);

		if (!unit || s[1])
			return -EINVAL;
		shift = 10 * (int)(unit - units + 1);
	}
	if (r < 0 || v > max >> shift)
		return -ERANGE;
	*ret = v << shift;
	return 0;
}

int str_to_duration(const char *s, uint64_t max_ns, uint64_t *ret)
{
	static const struct {
		const char *suffix;
		uint64_t ns;
	} units[] = {
		{ "", UINT64_C(1000000000) },
		{ "ms", UINT64_C(1000000) },
		{ "s", UINT64_C(1000000000) },
		{ "m", UINT64_C(60000000000) },
		{ "h", UINT64_C(3600000000000) },
	};
	uint64_t whole, unit = 0, part = 0, ns;
	char digits[10] = "000000000";
	int r = take_digits(&s, &whole);

	if (r == -EINVAL)
		return r;
	if (*s == '.') {
		size_t n = strspn(++s, "0123456789");

		if (n == 0)
			return -EINVAL;
		memcpy(digits, s, n < 9 ? n : 9);
		s += n;
		str_to_u64(digits, UINT64_MAX, &part);
	}
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(s, units[i].suffix) == 0)
			unit = units[i].ns;
	if (!unit)
		return -EINVAL;
	/* part counts billionths of a unit; every unit is whole microseconds. */
	part = part * (unit / 1000000) / 1000;
	if (r < 0 || __builtin_mul_overflow(whole, unit, &ns) ||
	    __builtin_add_overflow(ns, part, &ns) || ns > max_ns)
		return -ERANGE;
	*ret = ns;
	return 0;
}

int str_to_bool(const char *s, bool *ret)
{
	static const char *const yes[] = { "yes", "true", "on", "1" };
	static const char *const no[] = { "no", "false", "off", "0" };

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		bool is_yes = strcasecmp(s, yes[i]) == 0;

		if (is_yes || strcasecmp(s, no[i]) == 0) {
			*ret = is_yes;
			return 0;
		}
	}
	return -EINVAL;
}

bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

size_t str_utf8(const void *s, size_t n, uint32_t *ret)
{
	const unsigned char *p = s;
	uint32_t c = p[0];
	size_t len = 1;

	if (c >= 0x80) {
		len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
		if (c < 0xc2 || c > 0xf4 || n < len)
			return 0;
		c &= 0xffu >> (len + 1);
	}
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if ((len == 3 && c < 0x800) || (len == 4 && c < 0x10000) ||
	    (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
		return 0;
	*ret = c;
	return len;
}

bool str_is_deceptive(uint32_t c)
{
	return c == 0x61c || (c >= 0x200b && c <= 0x200f) ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) ||
	       c == 0xfeff || (c >= 0xe000 && c <= 0xf8ff) || c >= 0xe0000;
}

bool str_is_clean_text(const void *s, size_t n, const char *allowed)
{
	const unsigned char *p = s;

	while (n) {
		uint32_t c;
		size_t len = str_utf8(p, n, &c);

		if (len == 0)
			return false;
		if ((c < 0x20 || c == 0x7f) && (c == 0 || !strchr(allowed, (int)c)))
			return false;
		if (c >= 0x80 && c < 0xa0) /* C1 controls */
			return false;
		p += len;
		n -= len;
	}
	return true;
}

/*
 * One pattern element at *p against c.  Moves *p behind the element.  A "[" that
 * is never closed stands for itself.
 */
static bool glob_one(const char **p, char c)
{
	const char *q = *p;
	bool match = false;

	if (*q != '[' || !strchr(q + 1, ']')) {
		*p = q + 1;
		return *q == '?' || *q == c;
	}
	for (q++; *q != ']'; q++) {
		if (q[1] == '-' && q[2] && q[2] != ']') {
			match |= c >= q[0] && c <= q[2];
			q += 2;
		} else {
			match |= *q == c;
		}
	}
	*p = q + 1;
	return match;
}

bool str_glob(const char *pattern, const char *text)
{
	const char *star = NULL, *star_text = NULL;

	while (*text) {
		const char *p = pattern;

		if (*p == '*') {
			star = ++pattern;
			star_text = text;
			continue;
		}
		if (*p && glob_one(&p, *text)) {
			pattern = p;
			text++;
			continue;
		}
		if (!star)
			return false;
		/* Let the last star swallow one more character. */
		pattern = star;
		text = ++star_text;
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}

static bool is_id_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

void str_path_id(const char *name, char ret[STR_ID_MAX])
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
	size_t n = strlen(name), keep = 0;
	bool safe = n >= 1 && n < STR_ID_MAX && strcmp(name, ".") != 0 &&
		    strcmp(name, "..") != 0;

	for (size_t i = 0; i < n; i++) {
		hash = (hash ^ (unsigned char)name[i]) *
		       UINT64_C(0x100000001b3);
		if (!is_id_char(name[i]))
			safe = false;
		else if (keep < 32)
			ret[keep++] = name[i];
	}
	if (safe) {
		memcpy(ret, name, n + 1);
		return;
	}
	snprintf(ret + keep, STR_ID_MAX - keep, "-%08x",
		 (unsigned)(hash ^ hash >> 32));
}

static const char base64_letters[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_encode(const void *data, size_t n, char *ret)
{
	const unsigned char *p = data;
	char *to = ret;

	for (; n >= 3; n -= 3, p += 3) {
		uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];

		*to++ = base64_letters[v >> 18];
		*to++ = base64_letters[v >> 12 & 63];
		*to++ = base64_letters[v >> 6 & 63];
		*to++ = base64_letters[v & 63];
	}
	if (n) {
		uint32_t v = (uint32_t)p[0] << 16 |
			     (n > 1 ? (uint32_t)p[1] << 8 : 0);

		*to++ = base64_letters[v >> 18];
		*to++ = base64_letters[v >> 12 & 63];
		*to++ = n > 1 ? base64_letters[v >> 6 & 63] : '=';
		*to++ = '=';
	}
	*to = 0;
	return (size_t)(to - ret);
}

#define B64_BAD 0xff
#define B64_SPACE 0xfe
#define B64_PAD 0xfd

static void base64_table(uint8_t table[256])
{
	memset(table, B64_BAD, 256);
	for (uint8_t i = 0; i < 64; i++)
		table[(unsigned char)base64_letters[i]] = i;
	table[' '] = table['\t'] = table['\r'] = table['\n'] = B64_SPACE;
	table['='] = B64_PAD;
}

long base64_decode(const char *text, size_t n, void *ret)
{
	uint8_t table[256], *to = ret;
	unsigned have = 0, pad = 0;
	uint32_t v = 0;

	base64_table(table);
	for (size_t i = 0; i < n; i++) {
		uint8_t c = table[(unsigned char)text[i]];

		if (c == B64_SPACE)
			continue;
		if (c == B64_PAD) {
			pad++;
			continue;
		}
		if (c == B64_BAD || pad)
			return -EINVAL;
		v = v << 6 | c;
		if (++have < 4)
			continue;
		*to++ = (uint8_t)(v >> 16);
		*to++ = (uint8_t)(v >> 8);
		*to++ = (uint8_t)v;
		have = 0;
		v = 0;
	}
	/* A quantum is whole, or padded to four with unused bits zero. */
	if (have == 0 ? pad != 0 : have + pad != 4 || have == 1)
		return -EINVAL;
	if ((have == 2 && (v & 15)) || (have == 3 && (v & 3)))
		return -EINVAL;
	if (have == 2)
		*to++ = (uint8_t)(v >> 4);
	if (have == 3) {
		*to++ = (uint8_t)(v >> 10);
		*to++ = (uint8_t)(v >> 2);
	}
	return (long)(to - (uint8_t *)ret);
}

int str_to_signal(const char *text)
{
	static const struct {
		const char *name;
		int number;
	} names[] = {
		{ "HUP", SIGHUP },   { "INT", SIGINT },	  { "QUIT", SIGQUIT },
		{ "KILL", SIGKILL }, { "TERM", SIGTERM }, { "USR1", SIGUSR1 },
		{ "USR2", SIGUSR2 }, { "STOP", SIGSTOP }, { "CONT", SIGCONT },
		{ "WINCH", SIGWINCH }, { "PIPE", SIGPIPE }, { "ALRM", SIGALRM },
		{ "ABRT", SIGABRT }, { "TSTP", SIGTSTP }, { "SEGV", SIGSEGV },
		{ "BUS", SIGBUS },   { "FPE", SIGFPE },	  { "ILL", SIGILL },
		{ "SYS", SIGSYS },   { "TRAP", SIGTRAP }, { "XCPU", SIGXCPU },
	};
	int64_t number;

	if (str_to_i64(text, 1, 64, &number) == 0)
		return (int)number;
	if (!strncasecmp(text, "SIG", 3))
		text += 3;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcasecmp(text, names[i].name))
			return names[i].number;
	return -EINVAL;
}
