/*
 * hostd_keys.c - a guest's keys on their way to it
 *
 * When a guest's agent answers for the first time in a session it is asked
 * which store's keys it has, up to which revision (guest.kv.state), and gets
 * what changed since (guest.kv.push): everything, when it has another store's, as
 * it does after a live migration, or when it is a clone of another machine.  The
 * reply to a push is the acknowledgement.  The host's own keys come first
 * (keys_read.c).  Later changes follow at once, one push at a time.  A failure is
 * tried again with a growing pause for as long as the session lasts.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "virtagent/hostd_call.h"
#include "virtagent/hostd_guest.h"
#include "virtagent/hostd_host_keys.h"
#include "virtagent/hostd_keys.h"

#define UUID_BYTES 36u
#define CALL_NS (30 * NSEC_PER_SEC)
#define BYTES_PER_S_MIN 4096u /* of a slow serial line with other traffic */
#define AGAIN_MIN_NS (NSEC_PER_SEC / 4)
#define AGAIN_MAX_NS (30 * NSEC_PER_SEC)

/* A read of the store under way; outlives a guest that goes. */
struct fetch {
	struct guest_keys *gk;
};

struct guest_keys {
	struct hostd *h;
	struct guest *g;
	struct loop_timer *again;
	uint64_t pause_ns;
	struct hostd_call *call; /* in flight, or NULL */
	struct fetch *fetch;	 /* likewise */
	struct host_keys *computed;
	bool up;
	char vm[40]; /* the virtual machine's uuid, or "" */
	bool known;   /* the guest told what it has: */
	char store[64];
	int64_t revision;
	bool checked; /* and the store was asked what is newer */
	/* of the batch in flight: */
	int64_t batch_revision;
	bool batch_more;
	char batch_store[64];
};

static void step(struct guest_keys *gk);

static void on_again(void *arg)
{
	step(arg);
}

static void later(struct guest_keys *gk, const char *what, const char *why)
{
	log_debug("guest %s: %s: %s", gk->g->spec.name, what, why);
	gk->known = false;
	gk->pause_ns = gk->pause_ns ? gk->pause_ns * 2 : AGAIN_MIN_NS;
	if (gk->pause_ns > AGAIN_MAX_NS)
		gk->pause_ns = AGAIN_MAX_NS;
	loop_timer_in(gk->again, gk->pause_ns);
}

/* A serial line may be slow, and what does not get through is begun anew: a call
 * has the time its bytes take there. */
static uint64_t call_deadline(size_t bytes)
{
	uint64_t ns = CALL_NS + bytes * (NSEC_PER_SEC / BYTES_PER_S_MIN);

	return clock_now() + (uint64_t)(clock_scale() * (double)ns);
}

static void take_text(const struct va_value *v, const char *member, char *ret,
		      size_t size)
{
	const char *text;

	ret[0] = '\0';
	if (va_get_string(va_member(v, member), &text) == 0)
		snprintf(ret, size, "%s", text);
}

/* --- what the guest has ---------------------------------------------------- */

static void on_state(void *arg, int error, const struct va_value *v,
		     const char *why)
{
	struct guest_keys *gk = arg;
	char vm[sizeof(gk->vm)];

	gk->call = NULL;
	if (error == 0 && va_get_int(va_member(v, "revision"),
				     &gk->revision) < 0) {
		error = -EBADMSG;
		why = "the answer has no revision";
	}
	if (error < 0) {
		later(gk, "guest.kv.state", why);
		return;
	}
	take_text(v, "store", gk->store, sizeof(gk->store));
	take_text(v, "vm", vm, sizeof(vm));
	if (vm[0] && gk->vm[0] && strcmp(vm, gk->vm) != 0) {
		log_info("guest %s: it is a clone of the virtual machine %s",
			 gk->g->spec.name, vm);
		gk->store[0] = '\0';
		gk->revision = 0;
	}
	gk->known = true;
	gk->checked = false;
	step(gk);
}

static void ask_state(struct guest_keys *gk)
{
	CLEANUP_VALUE struct va_value *params = va_array();

	gk->call = hostd_call_start(gk->g, "guest.kv.state", params,
				    call_deadline(0), on_state, gk);
	if (!gk->call)
		later(gk, "guest.kv.state", strerror(errno));
}

/* --- what it has not -------------------------------------------------------- */

static void on_push(void *arg, int error, const struct va_value *v,
		    const char *why)
{
	struct guest_keys *gk = arg;
	int64_t revision = -1;

	gk->call = NULL;
	if (error == 0 && (va_get_int(va_member(v, "revision"), &revision) < 0 ||
			   revision != gk->batch_revision)) {
		error = -EBADMSG;
		why = "it acknowledged another revision";
	}
	if (error < 0) {
		later(gk, "guest.kv.push", why);
		return;
	}
	gk->pause_ns = 0;
	gk->revision = revision;
	snprintf(gk->store, sizeof(gk->store), "%s", gk->batch_store);
	gk->checked = !gk->batch_more;
	if (gk->checked)
		keys_set_acked(gk->h->keys, gk->g->spec.name, revision);
	step(gk);
}

static void push(struct guest_keys *gk, struct va_value *batch)
{
	CLEANUP_VALUE struct va_value *params = va_array();
	int err = gk->vm[0] ? va_set(batch, "vm", va_string(gk->vm)) : 0;

	if (err < 0)
		va_value_free(batch);
	if (err < 0 || va_append(params, batch) < 0) {
		later(gk, "guest.kv.push", "out of memory");
		return;
	}
	gk->call = hostd_call_start(gk->g, "guest.kv.push", params,
				    call_deadline(va_weight(params)), on_push,
				    gk);
	if (!gk->call)
		later(gk, "guest.kv.push", strerror(errno));
}

static void on_fetch(void *arg, struct va_value *v)
{
	CLEANUP_VALUE struct va_value *batch = v;
	CLEANUP_FREE struct fetch *f = arg;
	struct guest_keys *gk = f->gk;
	int64_t since;
	bool full;

	if (!gk)
		return;
	gk->fetch = NULL;
	if (va_get_int(va_member(batch, "revision"), &gk->batch_revision) < 0 ||
	    va_get_int(va_member(batch, "since"), &since) < 0 ||
	    va_get_bool(va_member(batch, "full"), &full) < 0 ||
	    va_get_bool(va_member(batch, "more"), &gk->batch_more) < 0) {
		later(gk, "reading its keys", "the store does not give them");
		return;
	}
	take_text(batch, "store", gk->batch_store, sizeof(gk->batch_store));
	/* Asked as of its revision in another store: everything, then. */
	if (strcmp(gk->store, gk->batch_store) != 0 && !full) {
		gk->revision = 0;
		snprintf(gk->store, sizeof(gk->store), "%s", gk->batch_store);
		step(gk);
		return;
	}
	if (!full && gk->batch_revision == gk->revision) {
		gk->checked = true;
		keys_set_acked(gk->h->keys, gk->g->spec.name, gk->revision);
		return;
	}
	push(gk, take_ptr(batch));
}

static void fetch(struct guest_keys *gk)
{
	struct fetch *f = calloc(1, sizeof(*f));
	int err;

	if (!f) {
		later(gk, "reading its keys", "out of memory");
		return;
	}
	f->gk = gk;
	err = keys_fetch(gk->h->keys, gk->g->spec.name,
			 gk->revision > 0 ? (uint64_t)gk->revision : 0,
			 on_fetch, f);
	if (err == 0) {
		gk->fetch = f;
		return;
	}
	free(f);
	later(gk, "reading its keys", strerror(-err));
}

static void step(struct guest_keys *gk)
{
	if (!gk->up || gk->call || gk->fetch || loop_timer_armed(gk->again))
		return;
	if (!gk->known)
		ask_state(gk);
	else if (!gk->checked ||
		 keys_revision(gk->h->keys, gk->g->spec.name) > gk->revision)
		fetch(gk);
}

/* --- from outside ----------------------------------------------------------- */

static void abandon(struct guest_keys *gk)
{
	hostd_call_abandon(gk->call);
	gk->call = NULL;
	if (gk->fetch)
		gk->fetch->gk = NULL;
	gk->fetch = NULL;
	loop_timer_stop(gk->again);
	gk->known = false;
	gk->pause_ns = 0;
}

void guest_keys_vm(struct guest_keys *gk, const char *uuid)
{
	char vm[sizeof(gk->vm)];
	size_t i;

	for (i = 0; uuid[i] && i < sizeof(vm) - 1; i++)
		vm[i] = uuid[i] >= 'A' && uuid[i] <= 'F' ?
				(char)(uuid[i] - 'A' + 'a') : uuid[i];
	vm[i] = '\0';
	if (strlen(uuid) != UUID_BYTES || strspn(vm, "0-") == UUID_BYTES ||
	    strspn(vm, "0123456789abcdef-") != UUID_BYTES ||
	    strcmp(vm, gk->vm) == 0)
		return;
	memcpy(gk->vm, vm, sizeof(gk->vm));
	keys_set_vm(gk->h->keys, gk->g->spec.name, vm);
	guest_keys_refresh(gk);
}

void guest_keys_up(struct guest_keys *gk, const char *boot, bool fresh,
		   bool was_off)
{
	abandon(gk);
	gk->up = true;
	keys_booted(gk->h->keys, gk->g->spec.name, boot, was_off);
	host_keys_compute(gk->computed, fresh);
	step(gk);
}

void guest_keys_down(struct guest_keys *gk)
{
	abandon(gk);
	gk->up = false;
	keys_set_acked(gk->h->keys, gk->g->spec.name, -1);
}

void guest_keys_recompute(struct guest_keys *gk)
{
	/* A guest that is away gets them when it comes. */
	if (gk->up)
		host_keys_compute(gk->computed, false);
}

void guest_keys_changed(struct guest_keys *gk)
{
	step(gk);
}

void guest_keys_refresh(struct guest_keys *gk)
{
	abandon(gk);
	step(gk);
}

struct guest_keys *guest_keys_new(struct hostd *h, struct guest *g)
{
	struct guest_keys *gk = calloc(1, sizeof(*gk));

	if (!gk)
		return NULL;
	gk->h = h;
	gk->g = g;
	gk->again = loop_timer_new(h->loop, on_again, gk);
	gk->computed = host_keys_new(h, g);
	if (gk->again && gk->computed)
		return gk;
	guest_keys_free(gk);
	errno = ENOMEM;
	return NULL;
}

void guest_keys_free(struct guest_keys *gk)
{
	if (!gk)
		return;
	if (gk->again)
		abandon(gk);
	host_keys_free(gk->computed);
	loop_timer_free(gk->again);
	free(gk);
}
