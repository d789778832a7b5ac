/*
 * rate.c - how often each guest may do something
 *
 * Names are those of configured guests, so their number is bounded and a list
 * is enough.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "common/clock.h"
#include "common/named.h"
#include "virtagent/host/rate.h"

struct rate_bucket {
	struct named named;
	double tokens;
	uint64_t when_ns;
	uint64_t refused; /* since it was last told */
};

static struct rate_bucket *find_bucket(struct rate *r, const char *name,
				       uint64_t now_ns)
{
	struct rate_bucket *b = named_find(r->buckets, name);

	if (b)
		return b;
	b = named_add(&r->buckets, sizeof(*b), name);
	if (!b)
		return NULL;
	b->tokens = r->burst;
	b->when_ns = now_ns;
	return b;
}

bool rate_take(struct rate *r, const char *name, uint64_t now_ns,
	       uint64_t *refused)
{
	struct rate_bucket *b = find_bucket(r, name, now_ns);

	*refused = 0;
	if (!b)
		return false;
	if (now_ns > b->when_ns) {
		b->tokens += (double)(now_ns - b->when_ns) * r->per_sec /
			     (double)NSEC_PER_SEC;
		b->when_ns = now_ns;
	}
	if (b->tokens > r->burst)
		b->tokens = r->burst;
	if (b->tokens < 1) {
		*refused = ++b->refused;
		return false;
	}
	b->tokens -= 1;
	*refused = b->refused;
	b->refused = 0;
	return true;
}

void rate_done(struct rate *r)
{
	named_free(&r->buckets);
}
