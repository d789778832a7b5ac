/*
 * bench-mux.c - what the pure layers cost: two muxes back to back in memory
 *
 *	bench-mux [MEGABYTES]
 *
 * Prints, in processor time and for both sides together, the bytes per second one
 * bulk stream gets, what a frame costs, and what a call of 300 bytes there and 400 back costs on an
 * idle link.  No kernel is involved: the channel is a buffer.  Under callgrind the
 * counts of instructions come from the same loops.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "virtproxy/crc32c.h"
#include "virtproxy/mux.h"

#define WRITE_MAX 32768u /* what a guest's write() takes at once */
#define REQUEST 300u
#define ANSWER 400u

struct side {
	struct vp_mux *mux;
	struct vp_stream *stream;
	uint64_t to_send, received;
	bool pattern;	 /* payload matters: it is encoded */
	uint64_t answer; /* bytes to send back for each REQUEST received */
};

static struct side side[2];

/* Of this process: other load on the machine does not count. */
static uint64_t cpu_time(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static int opened(void *arg, struct vp_stream *s, const char *service,
		  const struct vp_meta *meta, char *why)
{
	((struct side *)arg)->stream = s;
	return 0;
}

static ssize_t fill(void *arg, struct vp_stream *s, uint8_t *buf, size_t max)
{
	struct side *me = arg;
	size_t n = max < me->to_send ? max : me->to_send;

	/* read(2) would copy; on virtio-serial nobody else touches payload. */
	if (me->pattern)
		for (size_t i = 0; i < n; i++)
			buf[i] = (uint8_t)(i * i >> 3);
	me->to_send -= n;
	return n ? (ssize_t)n : VP_FILL_AGAIN;
}

static size_t deliver(void *arg, struct vp_stream *s, const uint8_t *data,
		      size_t len)
{
	struct side *me = arg;

	me->received += len;
	if (me->answer) {
		me->to_send += me->answer;
		vp_stream_ready(s);
	}
	return len;
}

static void nothing(void *arg, struct vp_stream *s)
{
}

static void closed(void *arg, struct vp_stream *s, int reason, const char *text)
{
}

static void session(void *arg, bool up, const char *why)
{
}

static void random_bytes(void *arg, void *buf, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)buf)[i] = (uint8_t)random();
}

static const struct vp_mux_ops ops = {
	.opened = opened, .fill = fill, .deliver = deliver, .eof = nothing,
	.closed = closed, .session = session, .random = random_bytes,
};

/* One write of a side is one read of the other. */
static bool turn(int from)
{
	struct vp_mux *a = side[from].mux, *b = side[!from].mux;
	struct iovec iov[16];
	uint64_t now = clock_now();
	size_t pieces, n = 0;

	if (!vp_mux_wants_write(a))
		return false;
	pieces = vp_mux_output(a, iov, 16, WRITE_MAX, now);
	for (size_t i = 0; i < pieces; i++) {
		vp_mux_input(b, iov[i].iov_base, iov[i].iov_len, now);
		n += iov[i].iov_len;
	}
	/* Nothing was called on this side in between. */
	vp_mux_written(a, n, now);
	return n;
}

static void run(void)
{
	while (turn(0) || turn(1))
		;
	for (int i = 0; i < 2; i++)
		if (clock_now() >= vp_mux_deadline(side[i].mux))
			vp_mux_tick(side[i].mux, clock_now());
}

static void start(enum vp_channel channel)
{
	memset(side, 0, sizeof(side));
	for (int i = 0; i < 2; i++) {
		struct vp_mux_config cfg = {
			.role = i ? VP_GUEST : VP_HOST,
			.channel = i ? channel : VP_CHANNEL_UNKNOWN,
		};

		side[i].pattern = channel == VP_CHANNEL_SERIAL;
		side[i].mux = vp_mux_new(&cfg, &ops, &side[i], clock_now());
		vp_mux_attach(side[i].mux, clock_now());
	}
	while (!vp_mux_session_up(side[0].mux) || !vp_mux_session_up(side[1].mux))
		run();
	side[0].stream = vp_stream_open(side[0].mux, "bench", NULL, NULL);
	run();
}

static uint64_t counter(int i, const char *name)
{
	const char *n;
	uint64_t v;

	for (size_t k = 0; (n = vp_mux_counter(side[i].mux, k, &v)); k++)
		if (strcmp(n, name) == 0)
			return v;
	return 0;
}

static void bulk(const char *name, enum vp_channel channel, uint64_t bytes)
{
	uint64_t begin, took, frames;

	start(channel);
	frames = counter(0, "frames-out");
	begin = cpu_time();
	side[0].to_send = bytes;
	vp_stream_ready(side[0].stream);
	while (side[1].received < bytes)
		run();
	took = cpu_time() - begin;
	frames = counter(0, "frames-out") - frames;
	printf("%-8s bulk   %8.1f MB/s %8.1f ns a frame (%llu frames, %llu acks)\n",
	       name, (double)bytes * 1e3 / (double)took,
	       (double)took / (double)frames, (unsigned long long)frames,
	       (unsigned long long)counter(1, "acks-out"));
	vp_mux_free(side[0].mux);
	vp_mux_free(side[1].mux);
}

static void calls(const char *name, enum vp_channel channel, unsigned n)
{
	uint64_t begin, took;

	start(channel);
	side[1].answer = ANSWER;
	begin = cpu_time();
	for (unsigned i = 1; i <= n; i++) {
		side[0].to_send = REQUEST;
		vp_stream_ready(side[0].stream);
		while (side[0].received < (uint64_t)i * ANSWER)
			run();
	}
	took = cpu_time() - begin;
	printf("%-8s call   %8.0f ns\n", name, (double)took / n);
	vp_mux_free(side[0].mux);
	vp_mux_free(side[1].mux);
}

int main(int argc, char **argv)
{
	uint64_t mb = argc > 1 ? strtoull(argv[1], NULL, 0) : 2000;

	bulk("virtio", VP_CHANNEL_VIRTIO, mb * 1000000);
	bulk("serial", VP_CHANNEL_SERIAL, mb * 50000);
	calls("virtio", VP_CHANNEL_VIRTIO, (unsigned)(mb * 100));
	calls("serial", VP_CHANNEL_SERIAL, (unsigned)(mb * 50));
	printf("crc32c: %s\n", crc32c_picked());
	return 0;
}
