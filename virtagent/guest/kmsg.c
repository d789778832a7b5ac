/*
 * kmsg.c - see kmsg.h
 *
 * syslog(2) gives no numbers, so what is new in its copy is what stands behind the
 * last place where the end of the previous copy is found again; if that is found
 * nowhere, the ring went round in between and all of it is new.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/kmsg.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/clock.h"

/* Actions of syslog(2); <sys/klog.h> does not name them. */
#define KLOG_READ_ALL 3
#define KLOG_SIZE_BUFFER 10
/* Rings of more than this are configured only for debugging. */
#define RING_MAX (16 << 20)
/* A record of /dev/kmsg: the kernel's own limit (CONSOLE_EXT_LOG_MAX). */
#define RECORD_MAX 8192
#define LOOK_NS NSEC_PER_SEC /* between two copies of syslog(2) */
#define TAIL_MAX 512	     /* remembered of a copy */

struct kmsg {
	int fd; /* of /dev/kmsg; -1 = by syslog(2) */
	uint64_t next, lost, told;
	/* by syslog(2) */
	char *text; /* not handed out yet: [at, len) */
	size_t at, len;
	char tail[TAIL_MAX];
	size_t tail_len;
	uint64_t look_ns; /* not before */
};

/* --- syslog(2) ------------------------------------------------------------------ */

/* Takes "<6>" and the like off the beginning of each line; the new length. */
static size_t strip_levels(char *text, size_t len)
{
	size_t to = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] == '<' && (i == 0 || text[i - 1] == '\n')) {
			size_t end = i + 1;

			while (end < len && isdigit((unsigned char)text[end]))
				end++;
			if (end < len && end > i + 1 && text[end] == '>') {
				i = end;
				continue;
			}
		}
		text[to++] = text[i];
	}
	return to;
}

int kmsg_ring(char **ret, size_t *len)
{
	int size = klogctl(KLOG_SIZE_BUFFER, NULL, 0), n;
	CLEANUP_FREE char *text = NULL;

	if (size < 0)
		return -errno;
	if (size > RING_MAX)
		size = RING_MAX;
	text = malloc((size_t)size + 1);
	if (!text)
		return -ENOMEM;
	n = klogctl(KLOG_READ_ALL, text, size);
	if (n < 0)
		return -errno;
	*len = strip_levels(text, (size_t)n);
	text[*len] = 0;
	*ret = take_ptr(text);
	return 0;
}

/* Behind the last place where the previous copy's end stands. */
static size_t find_new(struct kmsg *k, const char *text, size_t len)
{
	const char *from = text, *found = NULL, *p;

	if (!k->tail_len)
		return 0;
	while ((p = memmem(from, len - (size_t)(from - text), k->tail, k->tail_len))) {
		found = p;
		from = p + 1;
	}
	if (found)
		return (size_t)(found - text) + k->tail_len;
	k->lost++; /* nobody can say how many */
	return 0;
}

static int look_again(struct kmsg *k)
{
	char *text = NULL;
	size_t len = 0;
	int r = kmsg_ring(&text, &len);

	if (r < 0)
		return r;
	k->look_ns = clock_now() + LOOK_NS;
	k->at = find_new(k, text, len);
	free(k->text);
	k->text = text;
	k->len = len;
	k->tail_len = len < TAIL_MAX ? len : TAIL_MAX;
	memcpy(k->tail, text + len - k->tail_len, k->tail_len);
	return 0;
}

static ssize_t read_copy(struct kmsg *k, char *to, size_t max)
{
	size_t n;
	const char *nl;

	if (k->at == k->len && clock_now() >= k->look_ns) {
		int r = look_again(k);

		if (r < 0)
			return r;
	}
	n = k->len - k->at;
	if (n > max) {
		/* Whole lines, where one fits. */
		nl = memrchr(k->text + k->at, '\n', max);
		n = nl ? (size_t)(nl + 1 - (k->text + k->at)) : max;
	}
	memcpy(to, k->text + k->at, n);
	k->at += n;
	return (ssize_t)n;
}

/* --- /dev/kmsg --------------------------------------------------------------------- */

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
	       c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Control characters and the backslash come as \xNN. */
static size_t unescape(char *to, size_t max, const char *from, size_t n)
{
	size_t used = 0;

	for (size_t i = 0; i < n && used < max; i++) {
		if (i + 3 < n && from[i] == '\\' && from[i + 1] == 'x' &&
		    hex(from[i + 2]) >= 0 && hex(from[i + 3]) >= 0) {
			to[used++] = (char)(hex(from[i + 2]) << 4 | hex(from[i + 3]));
			i += 3;
		} else {
			to[used++] = from[i];
		}
	}
	return used;
}

/* "LEVEL,NUMBER,MICROSECONDS,FLAGS[,...];TEXT\n KEY=VALUE\n..." as a line; 0 when it
 * is not wanted. */
static size_t format_record(struct kmsg *k, char *record, char *to, size_t max)
{
	char *text = strchr(record, ';');
	uint64_t number, us;
	size_t n;
	int head;

	if (!text || sscanf(record, "%*u,%" SCNu64 ",%" SCNu64, &number, &us) != 2)
		return 0;
	if (number < k->next)
		return 0;
	/* The first wanted may be gone already, without an EPIPE. */
	if (k->next && number > k->next)
		k->lost += number - k->next;
	k->next = number + 1;
	text++;
	n = strcspn(text, "\n");
	head = snprintf(to, max, "[%5" PRIu64 ".%06" PRIu64 "] ", us / 1000000, us % 1000000);
	if (head < 0 || (size_t)head + 1 >= max)
		return 0;
	n = (size_t)head + unescape(to + head, max - (size_t)head - 1, text, n);
	to[n++] = '\n';
	return n;
}

static ssize_t read_device(struct kmsg *k, char *to, size_t max)
{
	size_t used = 0;

	while (max - used >= RECORD_MAX || used == 0) {
		char record[RECORD_MAX + 1];
		ssize_t n = read(k->fd, record, RECORD_MAX);

		if (n < 0 && errno == EPIPE) /* overwritten: the next one tells */
			continue;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return used ? (ssize_t)used : -errno;
		if (n == 0)
			break;
		record[n] = 0;
		used += format_record(k, record, to + used, max - used);
	}
	return (ssize_t)used;
}

/* --- both ------------------------------------------------------------------------------ */

int kmsg_open(uint64_t since, struct kmsg **ret)
{
	struct kmsg *k = calloc(1, sizeof(*k));
	int r = 0;

	if (!k)
		return -ENOMEM;
	k->next = since;
	k->fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (k->fd < 0 && since)
		r = -ENOTSUP;
	else if (k->fd < 0)
		r = look_again(k);
	if (r < 0) {
		kmsg_close(k);
		return r;
	}
	*ret = k;
	return 0;
}

void kmsg_close(struct kmsg *k)
{
	if (!k)
		return;
	if (k->fd >= 0)
		close(k->fd);
	free(k->text);
	free(k);
}

ssize_t kmsg_read(struct kmsg *k, char *to, size_t max)
{
	char note[80] = "";
	size_t room = max > sizeof(note) ? max - sizeof(note) : 0;
	/* Room for the note, which stands before what came after the gap. */
	ssize_t n = k->fd >= 0 ? read_device(k, to, room) : read_copy(k, to, room);

	if (n <= 0 || k->lost == k->told)
		return n;
	if (k->fd >= 0)
		snprintf(note, sizeof(note), "[%" PRIu64 " messages were overwritten unread]\n",
			 k->lost - k->told);
	else
		snprintf(note, sizeof(note), "[messages were overwritten unread]\n");
	k->told = k->lost;
	memmove(to + strlen(note), to, (size_t)n);
	memcpy(to, note, strlen(note));
	return n + (ssize_t)strlen(note);
}

int kmsg_wait(struct kmsg *k, int cancel_fd, uint64_t deadline_ns)
{
	struct pollfd p[] = { { .fd = k->fd, .events = POLLIN },
			      { .fd = cancel_fd, .events = POLLIN } };
	uint64_t now = clock_now(), until = deadline_ns;
	int ms = -1;

	if (k->fd < 0 && k->look_ns < until)
		until = k->look_ns;
	if (until != CLOCK_NEVER)
		ms = until <= now ? 0 : (int)((until - now) / NSEC_PER_MSEC % 3600000 + 1);
	if (poll(p, 2, ms) < 0)
		return errno == EINTR ? 0 : -errno;
	if (p[1].revents)
		return -ECANCELED;
	return clock_now() >= deadline_ns ? -ETIMEDOUT : 0;
}

bool kmsg_numbered(const struct kmsg *k)
{
	return k->fd >= 0;
}

uint64_t kmsg_next(const struct kmsg *k)
{
	return k->next;
}

uint64_t kmsg_lost(const struct kmsg *k)
{
	return k->lost;
}
