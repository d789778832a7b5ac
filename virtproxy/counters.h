/*
 * counters.h - what the pure layers count (R35)
 *
 * One array, shared by the parser, the link and the mux.  The names are
 * PROTOCOL's, section 11, and stay.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_COUNTERS_H
#define VP_COUNTERS_H

#include <stdint.h>

#define VP_COUNTERS(X)                                                         \
	X(BYTES_IN, "bytes-in", "bytes read from the channel")                 \
	X(BYTES_OUT, "bytes-out", "bytes the channel took")                    \
	X(FRAMES_IN, "frames-in", "valid frames")                              \
	X(FRAMES_OUT, "frames-out", "frames made, repeats included")           \
	X(NOISE_BYTES, "noise-bytes", "bytes of no valid frame")               \
	X(BAD_CRC, "bad-crc", "frames whose CRC was wrong")                    \
	X(ECHOES, "echoes", "our own frames coming back")                      \
	X(SKIPPED, "skipped", "frames of an unknown version or type")          \
	X(CUT_FRAMES, "cut-frames", "raw frames that were cut short")          \
	X(FOREIGN, "foreign-epochs", "frames of another session")              \
	X(DUPLICATES, "duplicates", "sequenced frames seen before")            \
	X(GAPS, "gaps", "sequenced frames after a missing one; "               \
			"compact: not valid")                                  \
	X(NAKS_OUT, "naks-out", "")                                            \
	X(NAKS_IN, "naks-in", "")                                              \
	X(ACKS_OUT, "acks-out", "acks that nothing else carried")              \
	X(BEACONS_OUT, "beacons-out", "")                                      \
	X(BEACONS_IN, "beacons-in", "")                                        \
	X(RETRANSMITS, "retransmits", "sequenced frames sent again")           \
	X(TIMEOUTS, "timeouts", "retransmission timer expiries")               \
	X(PROBES, "probes", "challenges sent")                                 \
	X(SUSPICIONS, "suspicions", "state that went back: stale or rollback") \
	X(ROLLBACKS, "rollbacks", "sessions dropped for time travel")          \
	X(SESSIONS, "sessions", "sessions begun")                              \
	X(RESETS_OUT, "resets-out", "sessions dropped by this side")           \
	X(RESETS_IN, "resets-in", "sessions dropped by the peer")              \
	X(ATTACHES, "attaches", "times the channel opened")                    \
	X(STREAMS_OPENED, "streams-opened", "opened by this side")             \
	X(STREAMS_ACCEPTED, "streams-accepted", "opened by the peer")          \
	X(STREAMS_REFUSED, "streams-refused", "refused by this side")          \
	X(STREAMS_RESET, "streams-reset", "ended by a reset, either side")     \
	X(STREAMS_DONE, "streams-done", "ended in an orderly way")             \
	X(STREAM_BYTES_IN, "stream-bytes-in", "")                              \
	X(STREAM_BYTES_OUT, "stream-bytes-out", "")                            \
	X(STREAM_LATE, "late-frames", "frames for streams that are over")      \
	X(PROTOCOL, "protocol-errors", "what no honest peer sends")            \
	X(DEFLATE_IN, "deflate-in", "bytes before compression")                \
	X(DEFLATE_OUT, "deflate-out", "bytes after compression")

enum vp_counter {
#define VP_COUNTER_ENUM(id, name, text) VP_C_##id,
	VP_COUNTERS(VP_COUNTER_ENUM)
#undef VP_COUNTER_ENUM
		VP_C_COUNT
};

#endif
