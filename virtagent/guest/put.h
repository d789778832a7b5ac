/*
 * put.h - files that appear whole or not at all
 *
 * A put collects its bytes in a partial file beside the target, ".NAME.va-part"
 * (0600), and renames it over the target when it is complete, after fsync.  The
 * partial outlives a broken transfer, so that the caller can ask how much there
 * is (and its checksum) and go on from there.  An existing target that is not a
 * regular file is refused; one that is a symbolic link is replaced, never
 * written through.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_PUT_H
#define VA_GUEST_PUT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "virtagent/guest/path.h"
#include "virtagent/method.h"

struct guest_put {
	struct guest_entry target;
	char part[300]; /* the partial's name, in the same directory */
	int fd;
	uint64_t at; /* where the next byte goes */
};

#define GUEST_PUT_INIT { .target = GUEST_ENTRY_INIT, .fd = -1 }

/* What the finished file gets; -1 = as the file it replaces, else 0644 and the
 * agent's own ids. */
struct guest_put_attrs {
	int64_t mode, uid, gid;
};

#define GUEST_PUT_ATTRS_NONE { -1, -1, -1 }

/*
 * Opens the partial at offset: 0 starts it anew, another offset must not lie
 * behind what it holds, which is cut to it.  Fails the call with the partial's
 * size in the text otherwise.
 */
int guest_put_begin(struct va_call *call, struct guest_put *p, const char *path,
		    uint64_t offset);
int guest_put_write(struct va_call *call, struct guest_put *p, const void *data,
		    size_t n);
/* fsync, attributes, rename, fsync of the directory. */
int guest_put_finish(struct va_call *call, struct guest_put *p,
		     const struct guest_put_attrs *attrs);
/* Closes; the partial stays for a resume. */
void guest_put_done(struct guest_put *p);
#define CLEANUP_PUT CLEANUP(guest_put_done)

#endif
