/*
 * status.c - what "status" on the control socket tells
 *
 * One list of facts, written as "key value" lines or as a JSON object: the
 * endpoint's own, then the mux's counters under the names of virtproxy/PROTOCOL.
 * No name stands in both.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "virtproxy/endpoint.h"

static const struct {
	const char *name;
	size_t offset;
} counts[] = {
	{ "channel-opens", offsetof(struct vp_counts, channel_opens) },
	{ "channel-losses", offsetof(struct vp_counts, channel_losses) },
	{ "reattaches", offsetof(struct vp_counts, reattaches) },
	{ "refused-absent", offsetof(struct vp_counts, refused_absent) },
	{ "refused-here", offsetof(struct vp_counts, refused_here) },
	{ "refused-there", offsetof(struct vp_counts, refused_there) },
	{ "opened-while-silent", offsetof(struct vp_counts, open_while_silent) },
	{ "ctl-commands", offsetof(struct vp_counts, ctl_commands) },
};

/* Where the facts go; the first error stays. */
struct sink {
	struct buf *to;
	bool json;
	bool first;
	int r;
};

static void put_json_string(struct buf *to, const char *s)
{
	buf_puts(to, "\"");
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			buf_printf(to, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			buf_printf(to, "\\u%04x", *s);
		else
			buf_put(to, s, 1);
	}
	buf_puts(to, "\"");
}

static void put_key(struct sink *k, const char *key)
{
	if (!k->json) {
		k->r = k->r < 0 ? k->r : buf_printf(k->to, "%s ", key);
		return;
	}
	if (!k->first)
		buf_puts(k->to, ",");
	k->first = false;
	put_json_string(k->to, key);
	k->r = k->r < 0 ? k->r : buf_puts(k->to, ":");
}

static void put_text(struct sink *k, const char *key, const char *value)
{
	put_key(k, key);
	if (k->json)
		put_json_string(k->to, value);
	else
		k->r = k->r < 0 ? k->r : buf_printf(k->to, "%s\n", value);
}

static void put_number(struct sink *k, const char *key, uint64_t value)
{
	put_key(k, key);
	k->r = k->r < 0 ? k->r : buf_printf(k->to, k->json ? "%llu" : "%llu\n",
					    (unsigned long long)value);
}

static const char *kind_word(enum vp_channel kind)
{
	return kind == VP_CHANNEL_SERIAL ? "serial" :
	       kind == VP_CHANNEL_VIRTIO ? "virtio" : "unknown";
}

static void put_facts(struct sink *k, const struct vp_endpoint *ep)
{
	uint64_t heard = vp_mux_last_heard(ep->mux), value;
	const char *name;

	put_text(k, "label", ep->label);
	put_number(k, "pid", (uint64_t)getpid());
	put_text(k, "role", ep->guest ? "guest" : "host");
	put_text(k, "session", vp_mux_session_up(ep->mux) ? "up" : "down");
	put_text(k, "channel", endpoint_channel_word(ep));
	put_text(k, "channel-kind", kind_word(vp_mux_channel(ep->mux)));
	put_text(k, "method", ep->spec.name);
	put_text(k, "address", ep->spec.addr);
	put_text(k, "qmp", qmp_word(ep->qmp));
	put_text(k, "quiesced", vp_mux_quiesced(ep->mux) ?
				       vp_mux_is_idle(ep->mux) ? "idle" : "busy" :
				       "no");
	put_text(k, "vm-uuid", qmp_uuid(ep->qmp));
	if (!heard)
		heard = ep->heard_ns; /* on an earlier attachment */
	if (heard)
		put_number(k, "heard-ms-ago", (clock_now() - heard) / NSEC_PER_MSEC);
	put_number(k, "silent-after-ms", endpoint_silent_after(ep) / NSEC_PER_MSEC);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		memcpy(&value, (const char *)&ep->counts + counts[i].offset,
		       sizeof(value));
		put_number(k, counts[i].name, value);
	}
	put_number(k, "tty-overruns", ep->transport.overruns);
	for (size_t i = 0; (name = vp_mux_counter(ep->mux, i, &value)); i++)
		put_number(k, name, value);
}

int status_text(const struct vp_endpoint *ep, struct buf *answer)
{
	struct sink k = { .to = answer };

	put_facts(&k, ep);
	return k.r;
}

int status_json(const struct vp_endpoint *ep, struct buf *answer)
{
	struct sink k = { .to = answer, .json = true, .first = true };

	buf_puts(answer, "{");
	put_facts(&k, ep);
	k.r = k.r < 0 ? k.r : buf_puts(answer, "}\n");
	return k.r;
}
