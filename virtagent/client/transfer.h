/*
 * transfer.h - one file over GET or PUT, raw, of any size
 *
 * PROTOCOL, "Files over HTTP", describes the forms.  A transfer that breaks is
 * taken up again where it stopped while the guest is there, as long as the
 * guest's file is still the same; with resume, also one that an earlier run of
 * the program left, after checksums of both beginnings were compared.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_TRANSFER_H
#define VA_CLIENT_TRANSFER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "virtagent/client/localfs.h"
#include "virtagent/client/progress.h"
#include "virtagent/client/rpc.h"

struct transfer {
	struct rpc *rpc;
	struct progress *progress;
	const char *remote; /* the guest's path */
	bool resume, preserve;
	int64_t mode, uid, gid; /* put: -1 = the guest's choice */
	uint64_t deadline_ns;
};

/* The guest's file into a file begun with local_create*(), which is committed;
 * have = what of it is there already.  Exit code; rpc_error() holds the text. */
int transfer_get(const struct transfer *t, struct local_file *to,
		 uint64_t have);
/* The guest's file to a stream, from its beginning. */
int transfer_get_fd(const struct transfer *t, int fd);
/* fd (a regular file, or a pipe to its end) into the guest's file. */
int transfer_put(const struct transfer *t, int fd);

#endif
