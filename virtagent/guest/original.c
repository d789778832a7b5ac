/*
 * original.c - the names of the 2010 original
 *
 * Rows of their own with the arguments and results they had, calling the code of
 * today's methods.  Its "dummy" results are what its callers compare with.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "virtagent/guest/guest.h"
#include "virtagent/limits.h"

/* What fitted through the original's 2 MiB messages was about 1.5 MiB. */
#define ORIGINAL_FILE_MAX (2u << 20)
/* It ran dmesg -s 16384. */
#define ORIGINAL_DMESG_MAX 16384u

static int dummy(struct va_call *call, struct va_value **ret)
{
	*ret = va_string("dummy");
	return *ret ? 0 : -ENOMEM;
}

static int getfile(struct va_call *call, struct va_value **ret)
{
	struct guest_piece piece;
	const char *path;
	int r = va_arg_text(call, 0, NULL, &path);

	if (r == 0)
		r = guest_read_file(call, path, 0, ORIGINAL_FILE_MAX, &piece);
	if (r < 0)
		return r;
	if (!piece.eof) {
		free(piece.data);
		return va_fail(call, EFBIG,
			       "%s: the file is longer than %u bytes; "
			       "guest.getfile reads it in pieces",
			       call->method->name, ORIGINAL_FILE_MAX);
	}
	*ret = piece.data ? va_bytes_take(piece.data, piece.len) : va_bytes("", 0);
	return *ret ? 0 : -ENOMEM;
}

static int getdmesg(struct va_call *call, struct va_value **ret)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;
	bool cut;
	int r = guest_read_dmesg(call, ORIGINAL_DMESG_MAX, &text, &len, &cut);

	if (r < 0)
		return r;
	*ret = va_string_n(text, len);
	return *ret ? 0 : -ENOMEM;
}

static int power(struct va_call *call, struct va_value **ret)
{
	const char *mode, *done;
	int r = va_arg_string(call, 0, NULL, &mode);

	if (r == 0)
		r = guest_power(call, mode, &done);
	return r < 0 ? r : dummy(call, ret);
}

#define GETFILE(n)                                                             \
	{                                                                      \
		.name = n, .signature = "6:t", .args = "PATH",                 \
		.cls = VA_CLASS_READ, .fn = getfile,                           \
		.help = "The original's guest.getfile: a whole file.",         \
		.doc = "The file's bytes as base64, at most 2 MiB.",           \
		.flags = VA_M_IDEMPOTENT | VA_M_PATH | VA_M_ORIGINAL,          \
	}
#define GETDMESG(n)                                                            \
	{                                                                      \
		.name = n, .signature = "s:|n", .args = "",                    \
		.cls = VA_CLASS_READ, .fn = getdmesg,                          \
		.help = "The original's guest.getdmesg.",                      \
		.doc = "The last 16384 bytes of the kernel's messages as a "   \
		       "string.",                                              \
		.flags = VA_M_IDEMPOTENT | VA_M_ORIGINAL,                      \
	}
#define DUMMY(n)                                                               \
	{                                                                      \
		.name = n, .signature = "s:|x", .args = "",                    \
		.cls = VA_CLASS_INFO, .fn = dummy,                             \
		.help = "The original's guest.ping.",                          \
		.doc = "Answers \"dummy\", as the original did.",              \
		.flags = VA_M_IDEMPOTENT | VA_M_ORIGINAL | VA_M_QUIET,         \
	}
#define POWER(n)                                                               \
	{                                                                      \
		.name = n, .signature = "s:s",                                 \
		.args = "halt|powerdown|reboot", .cls = VA_CLASS_POWER,        \
		.fn = power, .help = "The original's guest.shutdown.",         \
		.doc = "Answers \"dummy\" before it acts.",                    \
		.flags = VA_M_ORIGINAL,                                        \
	}
#define CAPABILITIES(n)                                                        \
	{                                                                      \
		.name = n, .signature = "S:|n", .args = "",                    \
		.cls = VA_CLASS_INFO, .fn = guest_original_capabilities,       \
		.help = "The original's guest.capabilities.",                  \
		.doc = "A struct: version (\"1.0\"), methods (names).",        \
		.flags = VA_M_IDEMPOTENT | VA_M_ORIGINAL,                      \
	}

static const struct va_method rows[] = {
	GETFILE("getfile"),	      GETFILE("va.getfile"),
	GETDMESG("getdmesg"),	      GETDMESG("va.getdmesg"),
	DUMMY("va_ping"),	      DUMMY("va.ping"),
	DUMMY("ping"),		      DUMMY("va_hello"),
	DUMMY("va.hello"),	      DUMMY("hello"),
	POWER("va_shutdown"),	      POWER("va.shutdown"),
	POWER("shutdown"),	      CAPABILITIES("va.capabilities"),
	CAPABILITIES("capabilities"),
};

const struct va_family guest_original_family = {
	rows, sizeof(rows) / sizeof(rows[0])
};
