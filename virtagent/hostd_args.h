/*
 * hostd_args.h - va-hostd's command line, and the configuration that it names
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_ARGS_H
#define VA_HOSTD_ARGS_H

#include "virtagent/hostd.h"

struct hostd_args {
	struct hostd_options opt;
	const char *pidfile;
	const char *virtproxy;
	char *config, *guests_dir; /* what opt's point to, when made here */
	bool daemon, stop;
};

/*
 * Fills in a zeroed a.  0; positive = all is done (--help, --version); negative = it
 * is wrong, which was said on stderr.  Strings are argv's.
 */
int hostd_args_parse(struct hostd_args *a, int argc, char **argv);
void hostd_args_done(struct hostd_args *a);
/* Where the configuration is, into a->opt: CONFDIR/hostd.conf, or the file given, with
 * guests.d beside it.  0 or -ENOMEM. */
int hostd_args_find_config(struct hostd_args *a);

/* Reads that configuration, as hostd_conf_load() does. */
int hostd_options_load(const struct hostd_options *opt, struct hostd_conf *ret,
		       char *err, size_t size);

#endif
