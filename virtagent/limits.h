/*
 * limits.h - every limit of the HTTP and XML-RPC half, in one block
 *
 * Each constant says what it counts and why it is what it is.  Whatever comes
 * from the other side is held against these before memory is spent on it; an
 * error that comes of one names the thing, its size and the limit.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_LIMITS_H
#define VA_LIMITS_H

#include <stdint.h>

/* --- XML-RPC documents --------------------------------------------------- */

/* Bytes of a document, calls and replies alike: room for one value of
 * VA_BYTES_MAX as base64 (1.37 times as long) three times over, less than a
 * tenth of a second of parsing. */
#define VA_XML_MAX (4u << 20)
/* Values within values.  No method needs more than 6; each level costs the
 * parsers a stack frame. */
#define VA_XML_DEPTH_MAX 32u
/* Elements of a document: 1,000 entries of a list with 15 members each; one
 * costs about 300 bytes while it is parsed. */
#define VA_XML_ELEMENTS_MAX 64000u
/* Bytes of a tag: the longest in use declares a name space on the root.  (A
 * parser's time grows with the square of the number of attributes.) */
#define VA_XML_TAG_MAX 256u
/* Members of one struct: they are searched one after the other. */
#define VA_STRUCT_MEMBERS_MAX 4096u
/* Bytes of a method's name, and of a member's. */
#define VA_METHOD_NAME_MAX 64u
#define VA_MEMBER_NAME_MAX 256u
/* Bytes of one base64 value, decoded; more goes through GET and PUT. */
#define VA_BYTES_MAX (1u << 20)
/* Characters of a <double>: the longest plain decimal form in use is 309
 * digits, a point and 17 more. */
#define VA_DOUBLE_TEXT_MAX 350u
/* Calls in one system.multicall. */
#define VA_MULTICALL_MAX 256u

/* --- calls --------------------------------------------------------------- */

/* Calls at once beside those of class info and VA_M_UNCOUNTED: each may hold a result of
 * VA_XML_MAX and a thread. */
#define VA_CALLS_MAX 64u
/* Of those, calls of one client (a process at the calling side): a client that is
 * stuck or runs wild leaves some to the others. */
#define VA_CLIENT_CALLS_MAX 48u
/* The most that a configuration may set for calls, and for streams: threads, and the
 * 256 streams of a channel. */
#define VA_CONF_CALLS_MAX 1000u
#define VA_CONF_STREAMS_MAX 200u
/* Calls of one guest at once on its host, where guests share va-hostd: a program
 * in a guest needs one, a script that waits for keys another. */
#define VA_GUEST_CALLS_MAX 8u
/* Bytes of a Virtagent-Call header: two UUIDs and a slash are 73. */
#define VA_CALL_ID_MAX 128u

/* Replies of marked calls that are kept, for how many seconds and up to how many
 * bytes: 16 MiB at the very most. */
#define VA_OUTCOMES_KEPT 256u
#define VA_OUTCOME_KEPT_S 600u
#define VA_OUTCOME_REPLY_MAX (64u << 10)
/* Ids of marked calls that are kept, about 200 bytes each. */
#define VA_OUTCOMES_MAX 4096u

/* --- HTTP ---------------------------------------------------------------- */

/* Connections of one server at once; each costs a thread and, when used, about
 * 50 KiB. */
#define VA_HTTP_CONNECTIONS_MAX 256u
/* Seconds for a request's head and a buffered body to arrive. */
#define VA_HTTP_REQUEST_S 30u
/* Seconds a kept connection may lie idle, or a streamed body pause. */
#define VA_HTTP_IDLE_S 600u
/* Bytes of a connection's pool: request line and headers must fit in it. */
#define VA_HTTP_POOL (32u << 10)
/* Stack of a connection's thread.  The deepest path, freeing a parsed document
 * of VA_XML_DEPTH_MAX, takes 40 KiB; only touched pages cost memory. */
#define VA_HTTP_STACK (1u << 20)
/* Bytes asked of a content reader at once: 64 KiB costs a quarter of the
 * speed, more gains nothing. */
#define VA_HTTP_BLOCK (128u << 10)
/* Parameters of a query string. */
#define VA_HTTP_QUERY_MAX 64u
/* Bytes of a reply's head that the client takes. */
#define VA_HTTP_HEAD_MAX (16u << 10)
/* Milliseconds and bytes for which a body that is not wanted any more is still
 * read, so that the answer reaches a client that is busy sending. */
#define VA_HTTP_LINGER_MS 2000u
#define VA_HTTP_LINGER_BYTES (8u << 20)

/* --- forwarded connections ------------------------------------------------ */

/* Connections forwarded at once by an agent, and on the host for each guest:
 * a serial channel has 64 streams in all, and calls need some of them. */
#define VA_STREAMS_MAX 48u
/* Bytes kept for each direction of one, and what a configuration may set; its
 * reader's pace is its writer's, so more helps only a reader that pauses. */
#define VA_STREAM_BUFFER (64u << 10)
#define VA_CONF_STREAM_BUFFER_MIN (4u << 10)
#define VA_CONF_STREAM_BUFFER_MAX (16u << 20)
/* Bytes read of one at once. */
#define VA_STREAM_BLOCK (64u << 10)
/* Seconds for a connection to a target to come about: beyond a lost SYN or two
 * nobody is there. */
#define VA_CONNECT_S 20u
/* Addresses that an agent listens on for forwards at once, and the most that a
 * configuration may set. */
#define VA_LISTENERS_MAX 16u
#define VA_CONF_LISTENERS_MAX 64u

/* --- programs ------------------------------------------------------------- */

/* Programs that callers run in a guest or have kept, at once: a forking mistake of
 * a caller must not fill the guest.  At most, when configured: each has four
 * descriptors of the server's thousand. */
#define VA_JOBS_MAX 64u
#define VA_CONF_JOBS_MAX 128u
/* Bytes kept of each of a program's two streams, unless the caller says how many,
 * and the most that he may say. */
#define VA_JOB_OUTPUT (1u << 20)
#define VA_JOB_OUTPUT_MAX (16u << 20)
/* Bytes kept of all programs' output together: what VA_JOBS_MAX of them need. */
#define VA_OUTPUT_MAX (UINT64_C(128) << 20)
#define VA_CONF_OUTPUT_MAX (UINT64_C(4) << 30)
#define VA_CONF_OUTPUT_MIN (UINT64_C(64) << 10)

/* --- events --------------------------------------------------------------- */

/* Bytes of events (names and data as JSON) that a guest keeps for a host that is
 * away; an event has at most 16 KiB. */
#define VA_EVENT_QUEUE_MAX (UINT64_C(4) << 20)
#define VA_CONF_EVENT_QUEUE_MAX (UINT64_C(256) << 20)
#define VA_CONF_EVENT_QUEUE_MIN (UINT64_C(64) << 10)
/* Events that a host takes of one guest in a second, and four times as many at
 * once: each is a row of its store. */
#define VA_GUEST_EVENTS_MAX 50u
#define VA_GUEST_EVENTS_BURST 4u
#define VA_CONF_EVENTS_MAX 10000u

#endif
