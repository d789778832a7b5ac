/*
 * mux_impl.h - what the files of the mux share
 *
 * mux.c has its life and the public calls, mux_stream.c a stream's, mux_tx.c what
 * goes out and in which turn, mux_rx.c what comes in.
 *
 * A stream that ends inside one of its own callbacks is unlinked at once and freed
 * when the outermost callback has returned ("busy", "dead").
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_MUX_IMPL_H
#define VP_MUX_IMPL_H

#include "common/buf.h"
#include "virtproxy/compress.h"
#include "virtproxy/link.h"
#include "virtproxy/mux.h"

#define VP_HASH_SIZE 512u /* power of 2; twice the streams */
/* Frames of streams with new bytes in a row before a bulk frame gets its turn. */
#define VP_FRESH_RUN 8u
/* A stream that sent no more than these bytes in this time, and in as long before
 * it, carries calls, another one bulk. */
#define VP_PACE_BYTES 65536u
#define VP_PACE_SPAN (250 * NSEC_PER_MSEC)
/* Local bytes compressed at a time: larger ones shrink better, but nothing else
 * gets the line while they go out (a fifth of that, typically). */
#define VP_DEFLATE_CHUNK 4096u
#define VP_DEFLATE_OUT_MAX 8192u
/* Resets waiting to go out, times the limit of streams.  An honest peer cannot
 * cause more: it opens a stream only while it counts fewer than the limit. */
#define VP_RESETS_FACTOR 4u

enum vp_turn { TURN_NONE, TURN_FRESH, TURN_BULK };

struct vp_link_node {
	struct vp_link_node *prev, *next;
};

struct vp_stream {
	struct vp_mux *mux;
	void *user;
	uint32_t id;
	bool local;	   /* opened by this side */
	bool dead;
	unsigned busy;
	struct vp_stream *hash_next;
	struct vp_link_node all, turn, credit, opens;

	/* opening */
	bool open_due;
	char service[VP_SERVICE_MAX + 1];
	struct vp_meta meta;

	/* sending */
	enum vp_turn turn_of;
	bool ready;	      /* the local side may have bytes */
	bool broken;	      /* fill said so; ended when no callback runs */
	bool fin_out, fin_acked;
	uint32_t tx_off;      /* payload bytes sent */
	uint32_t tx_max;      /* the peer takes bytes up to here */
	uint64_t tx_bytes;
	bool deflate_off;     /* tried, not worth it */
	bool filled_full;     /* the last fill took all it could */
	uint64_t pace_at;     /* its bytes are counted since then */
	uint32_t pace, pace_before; /* bytes since, and in the span before */
	struct vp_deflate *deflate;
	struct buf tx;	      /* compressed, to be sent */

	/* receiving */
	bool fin_in, eof_told;
	bool credit_due;
	uint32_t rx_off;      /* payload bytes received */
	uint32_t rx_used;     /* of these, consumed */
	uint32_t rx_max;      /* granted */
	uint32_t rx_window;   /* granted beyond what was consumed, at most */
	uint64_t rx_bytes;
	struct buf rx;	      /* received, not consumed */
	size_t rx_deflated;   /* of its bytes, those of the deflate stream */
	bool rx_plain;	      /* plain bytes came: no deflated ones any more */
	struct vp_inflate *inflate;
	const uint8_t *made;  /* inflated, not consumed */
	size_t made_len;
};

struct vp_reset_due {
	struct vp_reset_due *next;
	uint32_t id;
	uint8_t reason;
	char text[VP_REASON_MAX + 1];
};

struct vp_mux {
	struct vp_link link;
	struct vp_mux_ops ops;
	void *arg;
	struct vp_stream *hash[VP_HASH_SIZE];
	struct vp_link_node all, fresh, bulk, credit, opens;
	struct vp_link_node broken; /* local side failed in fill, to be ended */
	bool overrun;	    /* the peer caused more resets than it may */
	unsigned streams;
	unsigned fresh_run;
	uint64_t bulk_until; /* a stream with bulk sent within VP_PACE_SPAN */
	uint32_t next_id;   /* of a stream this side opens */
	uint32_t peer_high; /* highest number the peer has opened */
	uint32_t pool;	    /* credit left for growth */
	size_t held;	    /* bytes received and not consumed */
	struct vp_reset_due *resets, **resets_end;
	unsigned resets_count;
	bool goaway, goaway_due, peer_goaway;
	char goaway_text[VP_REASON_MAX + 1];
};

#define VP_CONTAINER(ptr, type, member)                                        \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))

static inline void vp_list_init(struct vp_link_node *n)
{
	n->prev = n->next = n;
}

static inline bool vp_list_empty(const struct vp_link_node *head)
{
	return head->next == head;
}

static inline void vp_list_del(struct vp_link_node *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->prev = n->next = n;
}

static inline void vp_list_add_tail(struct vp_link_node *head,
				    struct vp_link_node *n)
{
	n->prev = head->prev;
	n->next = head;
	head->prev->next = n;
	head->prev = n;
}

/* mux_stream.c */
struct vp_stream *vp_stream_new(struct vp_mux *m, uint32_t id, bool local);
struct vp_stream *vp_stream_find(struct vp_mux *m, uint32_t id);
/* Unlinks the stream and tells its owner, if notify; freed when not busy. */
void vp_stream_finish(struct vp_stream *s, int reason, const char *text,
		      bool notify);
/* Around callbacks: leave returns false when the stream is gone. */
void vp_stream_enter(struct vp_stream *s);
bool vp_stream_leave(struct vp_stream *s);
/* Both directions at their end: closes. */
void vp_stream_maybe_done(struct vp_stream *s);
/* Ends it on both sides: RST to the peer, closed() here. */
void vp_stream_abort(struct vp_stream *s, enum vp_reset reason, const char *text);
/* Text made printable and short enough; NULL: the reason's own. */
void vp_reason_copy(char *to, const char *text, size_t len, int reason);

/* mux_tx.c */
ssize_t vp_mux_pull(void *arg, struct vp_pull *p);
bool vp_mux_ready(void *arg, bool bulk_ok);
void vp_mux_acked(void *arg, const struct vp_tx *tx);
/* Puts the stream in line if it may send. */
void vp_mux_queue(struct vp_stream *s);
void vp_mux_unqueue(struct vp_stream *s);
void vp_mux_queue_reset(struct vp_mux *m, uint32_t id, int reason,
			const char *text);
void vp_mux_clear_resets(struct vp_mux *m);

/* mux_rx.c */
void vp_mux_frame(void *arg, const struct vp_frame *f);
/* Hands what is kept to the local side; false when the stream is gone. */
bool vp_mux_drain(struct vp_stream *s);

#endif
