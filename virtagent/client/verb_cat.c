/*
 * verb_cat.c - cat: a guest's files on stdout
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "virtagent/client/call.h"
#include "virtagent/client/path.h"

static const struct option_row common_rows[] = { CLIENT_ROWS };

/* The connection is kept from one path to the next of the same guest. */
struct cat_state {
	struct rpc *rpc;
	char guest[256];
};

static int cat_open(const struct client *cl, struct cat_state *s,
		    const char *guest)
{
	guest = guest && *guest ? guest : "";
	if (s->rpc && strcmp(s->guest, guest) == 0)
		return VAC_OK;
	rpc_free(take_ptr(s->rpc));
	snprintf(s->guest, sizeof(s->guest), "%s", guest);
	return rpc_connect(cl, SIDE_GUEST, *guest ? guest : NULL, &s->rpc);
}

static int cat_one(const struct client *cl, struct cat_state *s,
		   const char *word, struct out_stream *out)
{
	CLEANUP_VALUE struct va_value *params = NULL;
	char buf[256];
	const char *guest, *path;
	struct method_info m;
	int code;

	if (path_split(word, buf, sizeof(buf), &guest, &path)) {
		out_error(NULL, word, "the guest's name is too long");
		return VAC_USAGE;
	}
	if (path_check_remote(word, path))
		return VAC_USAGE;
	code = cat_open(cl, s, guest);
	if (code)
		return code;
	params = rpc_params(path, NULL);
	if (!params || method_builtin("guest.getfile", &m))
		return VAC_ERROR;
	if (cl->timeout_given)
		rpc_set_deadline(s->rpc, client_deadline(cl, 0));
	return call_pieces(cl, s->rpc, &m, params, out);
}

static int run_cat(struct client *cl, int argc, char **argv)
{
	struct cat_state s = { 0 };
	struct out_stream out;
	int code = VAC_OK, error;

	out_stream_init(&out, cl, stdout);
	for (int i = 0; i < argc; i++) {
		int one = cat_one(cl, &s, argv[i], &out);

		if (one)
			code = one;
		/* Without a connection the others fail alike. */
		if (one == VAC_NOT_CONNECTED || one == VAC_USAGE)
			break;
	}
	rpc_free(s.rpc);
	error = out_stream_end(&out);
	if (error && !code) {
		out_error(NULL, "cat", "cannot write the output: %s",
			  strerror(-error));
		return VAC_ERROR;
	}
	return code;
}

const struct verb verb_cat = {
	.name = "cat",
	.usage = "[GUEST:]PATH...",
	.help = "print files of a guest",
	.about = "Prints files of a guest, one after the other: regular files and "
		 "those of /proc and /sys.",
	.rows = common_rows,
	.nrows = NROWS(common_rows),
	.min_args = 1,
	.max_args = -1,
	.run = run_cat,
};
