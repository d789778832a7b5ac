/*
 * args.c - see args.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/client/args.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/str.h"

typedef int (*convert_fn)(const char *word, struct va_value **ret, char *err,
			  size_t size);

static int done(struct va_value *v, struct va_value **ret)
{
	*ret = v;
	return v ? 0 : -ENOMEM;
}

static int to_string(const char *word, struct va_value **ret, char *err,
		     size_t size)
{
	if (!str_is_clean_text(word, strlen(word), "\n\t")) {
		snprintf(err, size, "is no clean UTF-8 text (pass bytes as "
				    "base64:@FILE)");
		return -EINVAL;
	}
	return done(va_string(word), ret);
}

static int to_bytes(const char *word, struct va_value **ret, char *err,
		    size_t size)
{
	return done(va_bytes(word, strlen(word)), ret);
}

/* A path or other text: bytes only where it has to be. */
static int to_text(const char *word, struct va_value **ret, char *err,
		   size_t size)
{
	if (str_is_clean_text(word, strlen(word), "\n\t"))
		return done(va_string(word), ret);
	return to_bytes(word, ret, err, size);
}

static int to_int(const char *word, struct va_value **ret, char *err,
		  size_t size)
{
	int64_t i;
	int error = str_to_i64(word, INT64_MIN, INT64_MAX, &i);

	if (error) {
		snprintf(err, size, error == -ERANGE ?
					    "does not fit into 64 bits" :
					    "is no whole number");
		return -EINVAL;
	}
	return done(va_int(i), ret);
}

static int to_bool(const char *word, struct va_value **ret, char *err,
		   size_t size)
{
	bool b;

	if (str_to_bool(word, &b)) {
		snprintf(err, size, "is neither true nor false");
		return -EINVAL;
	}
	return done(va_bool(b), ret);
}

static int to_double(const char *word, struct va_value **ret, char *err,
		     size_t size)
{
	char *end;
	double d = strtod(word, &end);

	/* XML-RPC has no infinity and no NaN. */
	if (end == word || *end || !isfinite(d)) {
		snprintf(err, size, "is no finite number");
		return -EINVAL;
	}
	return done(va_double(d), ret);
}

static int to_nil(const char *word, struct va_value **ret, char *err,
		  size_t size)
{
	if (*word && strcmp(word, "nil") != 0) {
		snprintf(err, size, "is not nil");
		return -EINVAL;
	}
	return done(va_nil(), ret);
}

static int to_json(const char *word, struct va_value **ret, char *err,
		   size_t size)
{
	char why[128] = "";

	if (va_from_json(word, strlen(word), ret, why, sizeof(why))) {
		snprintf(err, size, "is no valid JSON%s%s", *why ? ": " : "",
			 why);
		return -EINVAL;
	}
	return 0;
}

static int json_of(enum va_type type, const char *word, struct va_value **ret,
		   char *err, size_t size)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	int error = to_json(word, &v, err, size);

	if (error)
		return error;
	if (va_typeof(v) != type) {
		snprintf(err, size, "is no JSON %s",
			 type == VA_ARRAY ? "array" : "object");
		return -EINVAL;
	}
	*ret = take_ptr(v);
	return 0;
}

static int to_array(const char *word, struct va_value **ret, char *err,
		    size_t size)
{
	return json_of(VA_ARRAY, word, ret, err, size);
}

static int to_struct(const char *word, struct va_value **ret, char *err,
		     size_t size)
{
	return json_of(VA_STRUCT, word, ret, err, size);
}

static int read_file(const char *path, struct va_value **ret, char *err,
		     size_t size)
{
	CLEANUP_BUF struct buf b = BUF_INIT(ARGS_FILE_MAX + 1);
	CLEANUP_CLOSE int opened = -1;
	int fd = STDIN_FILENO;
	ssize_t n = 1;

	if (strcmp(path, "-") != 0)
		fd = opened = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		n = -errno;
	while (n > 0 && buf_len(&b) <= ARGS_FILE_MAX)
		n = buf_read_fd(&b, fd, ARGS_FILE_MAX + 1 - buf_len(&b));
	if (n < 0) {
		snprintf(err, size, "cannot read %s: %s", path,
			 strerror((int)-n));
		return (int)n;
	}
	if (buf_len(&b) > ARGS_FILE_MAX) {
		snprintf(err, size, "%s is larger than %u bytes (use va-client "
				    "put)", path, ARGS_FILE_MAX);
		return -EFBIG;
	}
	return done(va_bytes(buf_data(&b), buf_len(&b)), ret);
}

static int from_base64(const char *word, struct va_value **ret, char *err,
		       size_t size)
{
	size_t n = strlen(word);
	CLEANUP_FREE char *data = NULL;
	long len;

	if (*word == '@')
		return read_file(word + 1, ret, err, size);
	data = malloc(n / 4 * 3 + 3);
	if (!data)
		return -ENOMEM;
	len = base64_decode(word, n, data);
	if (len < 0) {
		snprintf(err, size, "is no base64 (a file is base64:@FILE)");
		return -EINVAL;
	}
	return done(va_bytes(data, (size_t)len), ret);
}

/* Without a signature: what looks like JSON's number, true, false, array or
 * object is that; everything else is text. */
static int guess(const char *word, struct va_value **ret, char *err,
		 size_t size)
{
	static const char number[] = "0123456789";
	const char *digits = word + (*word == '-');
	size_t n = strspn(digits, number);
	char unused[64];

	if (n && !digits[n])
		return to_int(word, ret, err, size);
	if (n && digits[n] == '.' && digits[n + 1] &&
	    !digits[n + 1 + strspn(digits + n + 1, number)])
		return to_double(word, ret, err, size);
	if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0)
		return to_bool(word, ret, err, size);
	if ((*word == '[' || *word == '{') &&
	    !to_json(word, ret, unused, sizeof(unused)))
		return 0;
	return to_text(word, ret, err, size);
}

static const struct {
	char letter;
	convert_fn fn;
} by_letter[] = {
	{ 's', to_string }, { 'i', to_int },	{ 'b', to_bool },
	{ 'd', to_double }, { '6', to_bytes },	{ 'A', to_array },
	{ 'S', to_struct }, { 'n', to_nil },	{ 't', to_text },
	{ 'x', guess },
};

static const struct {
	const char *prefix;
	convert_fn fn;
} by_prefix[] = {
	{ "i:", to_int },    { "s:", to_string },      { "b:", to_bool },
	{ "d:", to_double }, { "base64:", from_base64 }, { "json:", to_json },
};

int arg_convert(char letter, const char *word, struct va_value **ret, char *err,
		size_t err_size)
{
	for (size_t i = 0; i < sizeof(by_prefix) / sizeof(by_prefix[0]); i++)
		if (str_starts(word, by_prefix[i].prefix))
			return by_prefix[i].fn(word +
						 strlen(by_prefix[i].prefix),
					       ret, err, err_size);
	for (size_t i = 0; i < sizeof(by_letter) / sizeof(by_letter[0]); i++)
		if (by_letter[i].letter == letter)
			return by_letter[i].fn(word, ret, err, err_size);
	return guess(word, ret, err, err_size);
}

/* The letter of each next parameter; 0 when there are no more. */
static char next_letter(const char **sig, char *last)
{
	if (**sig == '|')
		(*sig)++;
	if (**sig == '*')
		return *last ? *last : 'x';
	if (**sig)
		*last = *(*sig)++;
	else
		return 0;
	return *last;
}

/* How many parameters must be there, at least and at most (-1 = any). */
static void count_letters(const char *sig, int *min, int *max)
{
	bool optional = false;

	*min = *max = 0;
	for (; *sig; sig++) {
		if (*sig == '|') {
			optional = true;
		} else if (*sig == '*') {
			*max = -1;
			return;
		} else {
			(*max)++;
			*min += !optional;
		}
	}
}

int args_convert(const char *signature, int argc, char **argv,
		 struct va_value **ret, char *err, size_t err_size)
{
	CLEANUP_VALUE struct va_value *params = va_array();
	const char *sig = strchr(signature, ':');
	char last = 0, why[256] = "";
	int min, max;

	if (sig) {
		count_letters(++sig, &min, &max);
		if (argc < min || (max >= 0 && argc > max)) {
			snprintf(err, err_size,
				 argc < min ? "takes at least %d argument%s, not %d" :
					      "takes at most %d argument%s, not %d",
				 argc < min ? min : max,
				 (argc < min ? min : max) == 1 ? "" : "s", argc);
			return -E2BIG;
		}
	}
	for (int i = 0; i < argc; i++) {
		char letter = sig ? next_letter(&sig, &last) : 'x';
		struct va_value *v = NULL;
		int error = arg_convert(letter, argv[i], &v, why, sizeof(why));

		if (!error)
			error = va_append(params, v);
		if (error) {
			snprintf(err, err_size, "argument %d %s", i + 1,
				 *why ? why : strerror(-error));
			return error;
		}
	}
	*ret = take_ptr(params);
	return *ret ? 0 : -ENOMEM;
}
