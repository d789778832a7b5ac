/*
 * compress.c - see compress.h; the only file that knows zlib
 *
 * Raw deflate with a 4 KiB window (a frame is 512 bytes, a call a few hundred; the
 * memory of 64 streams counts) that starts with a dictionary of the text every
 * call is made of, most common last.  Both sides must have the same dictionary:
 * it is part of feature bit 0 and must not change.
 *
 * All of each piece can be inflated when it has come, and nothing is spent on that
 * where it can be helped.  A short piece is one block, usually in fixed codes; what
 * zlib keeps back of it until a byte is full are at most 7 bits, and the code that
 * ends such a block has 7: only they can be missing, and come with the next piece.
 * A block with codes of its own may end in a shorter one: it is followed by an
 * empty block (partial flush, 10 bits), of which bits may be missing.  A full block
 * boundary would cost 4 bytes more a piece.
 *
 * The receiver inflates at most 4 KiB ahead of its consumer, so a stream that
 * expands a thousandfold costs it time, not memory.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtproxy/compress.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

#define WINDOW_BITS 12	   /* 4 KiB; negative to zlib means raw */
#define MEM_LEVEL 5	   /* 16 KiB of hash and 16 KiB of pending output */
#define LEVEL 3		   /* the last that does not search lazily */
#define OUT_STEP 1024u	   /* bytes reserved at a time */
#define INFLATE_OUT 4096u  /* bytes made at a time */
#define JUDGED_BYTES 8192u /* every so many, was it worth it? */
/* Bytes that surely make one block: at MEM_LEVEL 5 one has up to 2047 symbols. */
#define ONE_BLOCK 1024u
#define BLOCK_DYNAMIC 2u   /* a block's type: with codes of its own */

static const char dictionary[] =
	"application/octet-stream\r\nContent-Range: bytes Transfer-Encoding: "
	"chunked\r\n206 Partial Content404 Not FoundAuthorization: "
	"Virtagent-Call: Connection: keep-alive\r\nConnection: close\r\n"
	"faultCodefaultString<fault><value><struct><member><name></name>"
	"<value><i4></i4></value></member><dateTime.iso8601>"
	"</dateTime.iso8601><double></double><boolean>1</boolean><nil/>"
	"<base64>\r\n</base64><array><data><value><int></int></value></data>"
	"</array></struct></value></fault>system.multicallsystem.listMethods"
	"host.guest.execguest.statguest.putfileguest.pingguest.getfile"
	"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2026 00:00:00 GMT\r\n"
	"Content-Type: text/xml; charset=utf-8\r\nContent-Length: "
	"\r\n\r\n<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n"
	"<methodResponse>\r\n<params>\r\n<param><value><string></string>"
	"</value></param>\r\n</params>\r\n</methodResponse>\r\n"
	"GET /PUT /POST /RPC2 HTTP/1.1\r\nHost: localhost\r\n"
	"User-Agent: \r\nAccept: */*\r\nContent-Type: text/xml\r\n"
	"Content-Length: \r\n\r\n<?xml version=\"1.0\"?>\r\n<methodCall>\r\n"
	"<methodName>guest.</methodName>\r\n<params>\r\n<param><value>"
	"<string></string></value></param>\r\n</params>\r\n</methodCall>\r\n";

struct vp_deflate {
	z_stream z;
	size_t judged_in, judged_out; /* of the 8 KiB under way */
	bool worthless;
};

struct vp_inflate {
	z_stream z;
	bool more; /* output was cut off by its buffer */
	uint8_t out[INFLATE_OUT];
};

/* All memory of the core comes from one allocator, which tests replace. */
static voidpf zlib_alloc(voidpf opaque, uInt n, uInt size)
{
	return calloc(n, size);
}

static void zlib_free(voidpf opaque, voidpf p)
{
	free(p);
}

struct vp_deflate *vp_deflate_new(void)
{
	struct vp_deflate *z = calloc(1, sizeof(*z));

	if (!z)
		return NULL;
	z->z.zalloc = zlib_alloc;
	z->z.zfree = zlib_free;
	if (deflateInit2(&z->z, LEVEL, Z_DEFLATED, -WINDOW_BITS, MEM_LEVEL,
			 Z_DEFAULT_STRATEGY) != Z_OK) {
		free(z);
		return NULL;
	}
	deflateSetDictionary(&z->z, (const Bytef *)dictionary,
			     sizeof(dictionary) - 1);
	return z;
}

void vp_deflate_free(struct vp_deflate *z)
{
	if (!z)
		return;
	deflateEnd(&z->z);
	free(z);
}

static int deflate_all(struct vp_deflate *z, int flush, struct buf *out)
{
	do {
		uint8_t *to = buf_reserve(out, OUT_STEP);

		if (!to)
			return -errno;
		z->z.next_out = to;
		z->z.avail_out = OUT_STEP;
		deflate(&z->z, flush);
		buf_commit(out, OUT_STEP - z->z.avail_out);
	} while (!z->z.avail_out);
	return 0;
}

/* The type of the block that begins at this bit of p: after one bit "last". */
static unsigned block_type(const uint8_t *p, size_t len, int bit)
{
	unsigned two = p[0] | (len > 1 ? (unsigned)p[1] << 8 : 0);

	return two >> (bit + 1) & 3;
}

/* One block, and that it can be inflated. */
static int deflate_block(struct vp_deflate *z, struct buf *out)
{
	size_t before = buf_len(out), made;
	int bits = 0, r;

	deflatePending(&z->z, Z_NULL, &bits);
	r = deflate_all(z, Z_BLOCK, out);
	made = buf_len(out) - before;
	/* No byte is full: it cannot be one with codes of its own. */
	if (r || !made || block_type(buf_data(out) + before, made, bits) !=
				  BLOCK_DYNAMIC)
		return r;
	return deflate_all(z, Z_PARTIAL_FLUSH, out);
}

int vp_deflate_run(struct vp_deflate *z, const uint8_t *in, size_t n,
		   struct buf *out)
{
	size_t before = buf_len(out);
	int r;

	z->z.next_in = (Bytef *)in;
	z->z.avail_in = (uInt)n;
	r = n <= ONE_BLOCK ? deflate_block(z, out) :
			     deflate_all(z, Z_PARTIAL_FLUSH, out);
	if (r)
		return r;
	z->judged_in += n;
	z->judged_out += buf_len(out) - before;
	if (z->judged_in >= JUDGED_BYTES) {
		z->worthless = z->judged_out > z->judged_in - z->judged_in / 10;
		z->judged_in = z->judged_out = 0;
	}
	return 0;
}

bool vp_deflate_worth(const struct vp_deflate *z)
{
	return !z->worthless;
}

struct vp_inflate *vp_inflate_new(void)
{
	struct vp_inflate *z = calloc(1, sizeof(*z));

	if (!z)
		return NULL;
	z->z.zalloc = zlib_alloc;
	z->z.zfree = zlib_free;
	if (inflateInit2(&z->z, -WINDOW_BITS) != Z_OK) {
		free(z);
		return NULL;
	}
	inflateSetDictionary(&z->z, (const Bytef *)dictionary,
			     sizeof(dictionary) - 1);
	return z;
}

void vp_inflate_free(struct vp_inflate *z)
{
	if (!z)
		return;
	inflateEnd(&z->z);
	free(z);
}

ssize_t vp_inflate_run(struct vp_inflate *z, const uint8_t *in, size_t n,
		       size_t *used, const uint8_t **out)
{
	int r;

	*used = 0;
	*out = z->out;
	if (!n && !z->more)
		return 0;
	z->z.next_in = (Bytef *)in;
	z->z.avail_in = (uInt)n;
	z->z.next_out = z->out;
	z->z.avail_out = INFLATE_OUT;
	r = inflate(&z->z, Z_SYNC_FLUSH);
	*used = n - z->z.avail_in;
	z->more = !z->z.avail_out;
	/* The end of the deflate stream is never sent, so it is an error too;
	 * Z_BUF_ERROR only says that there was nothing to do. */
	if (r != Z_OK && r != Z_BUF_ERROR)
		return -EBADMSG;
	return (ssize_t)(INFLATE_OUT - z->z.avail_out);
}
