/*
 * exec_wire.h - frames of an interactive program (PROTOCOL, "va-exec/1")
 *
 * After the HTTP Upgrade both sides send frames: a byte of type, the payload's
 * length as u32 little-endian, the payload.  A frame of an unknown type is
 * passed over.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_EXEC_WIRE_H
#define VA_EXEC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

#define EXEC_TOKEN "va-exec/1"
/* A frame's payload: large enough for full speed, small enough that a signal is
 * never far behind. */
#define EXEC_FRAME_MAX (64u << 10)
#define EXEC_HEAD 5u

enum exec_frame {
	/* to the agent */
	EXEC_STDIN = 0,	   /* bytes */
	EXEC_STDIN_EOF = 1,
	EXEC_RESIZE = 2,   /* u16 rows, u16 columns */
	EXEC_SIGNAL = 3,   /* name or number, as text */
	EXEC_DETACH = 4,   /* leave the program running when this ends */
	/* from the agent */
	EXEC_STDOUT = 16,  /* bytes */
	EXEC_STDERR = 17,
	EXEC_JOB = 18,	   /* u32 job, u32 pid: always the first */
	EXEC_DROPPED = 19, /* u8 stream (0 stdout), u64 bytes no longer kept */
	EXEC_EXIT = 20,	   /* u32 code, u32 signal, u8 timed out: the last */
	EXEC_FAILED = 21,  /* u32 errno, text: never ran, or was lost: the last */
};

/* Writes the head of a frame with n bytes of payload. */
void exec_frame_head(uint8_t head[EXEC_HEAD], enum exec_frame type, size_t n);
/* Appends a whole frame. */
int exec_frame_put(struct buf *b, enum exec_frame type, const void *data, size_t n);
/*
 * Looks at the front of b: 1 and the frame, whose payload lies in b until
 * exec_frame_next(); 0 when it is not whole yet; -EMSGSIZE when its length
 * passes EXEC_FRAME_MAX.
 */
int exec_frame_peek(const struct buf *b, uint8_t *type, const uint8_t **data,
		    size_t *n);
void exec_frame_next(struct buf *b);

/* Everything to a blocking or non-blocking socket; cancel_fd -1 = none.  0,
 * -ECANCELED, or a negative errno. */
int exec_send_all(int fd, const void *data, size_t n, int cancel_fd);

#endif
