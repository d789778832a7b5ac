/*
 * compress.h - deflate for streams on serial lines (PROTOCOL 10)
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_COMPRESS_H
#define VP_COMPRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

struct vp_deflate;
struct vp_inflate;

/* NULL on ENOMEM. */
struct vp_deflate *vp_deflate_new(void);
void vp_deflate_free(struct vp_deflate *z);
/* Appends to out what n bytes at in become; the other side can inflate them all
 * from it.  0 or -ENOMEM / -EMSGSIZE (the stream is lost). */
int vp_deflate_run(struct vp_deflate *z, const uint8_t *in, size_t n,
		   struct buf *out);
/* False once 8 KiB did not shrink by a tenth. */
bool vp_deflate_worth(const struct vp_deflate *z);

struct vp_inflate *vp_inflate_new(void);
void vp_inflate_free(struct vp_inflate *z);
/*
 * Takes up to n bytes at in, sets *used to how many it took, and returns how
 * many it made at *out (at most 4 KiB, valid until the next call); 0 with all
 * of in used: it needs more.  -EBADMSG: no deflate stream.
 */
ssize_t vp_inflate_run(struct vp_inflate *z, const uint8_t *in, size_t n,
		       size_t *used, const uint8_t **out);

#endif
