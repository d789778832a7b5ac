/*
 * agent_keys.c - guest.* keys on their way to the host
 *
 * A thread of the server: when a local program has set keys it calls host.kv.set
 * and host.kv.unset through the agent's host.sock, as any program of the guest
 * could.  Without a host it waits until one asks for this guest's state, or
 * RETRY_MAX_NS at most, and tries again.  What the host refuses (its policy, a
 * limit) stays in the guest, is logged and not sent again.
 *
 * At its start it calls host.kv.refresh once: the server may be a new one in an
 * old session, which has keys but no revisions.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "virtagent/agent_keys.h"
#include "virtagent/codec.h"
#include "virtagent/guest/keys.h"
#include "virtagent/http_client.h"

#define CALL_NS (20 * NSEC_PER_SEC)
#define BYTES_PER_S_MIN 4096u
#define RETRY_MIN_NS (NSEC_PER_SEC / 2)
#define RETRY_MAX_NS (30 * NSEC_PER_SEC)
#define REPLY_MAX (64u << 10)
#define THREAD_STACK (256u << 10)

/* Calls the host; -EREMOTEIO with the fault's text in why. */
static int call_host(const char *host, const char *method, const struct va_value *params,
		     char *why, size_t size)
{
	static const char *const headers[] = { "Content-Type: text/xml", NULL };
	CLEANUP_BUF struct buf body = BUF_INIT(VA_XML_MAX);
	CLEANUP_BUF struct buf reply = BUF_INIT(REPLY_MAX);
	CLEANUP_VALUE struct va_value *v = NULL;
	struct va_fault fault = { 0 };
	struct http_client *c = http_client_new(host);
	struct http_call http = {
		.method = "POST", .target = "/RPC2", .headers = headers,
		.reply = &reply,
	};
	int err = c ? codec_encode_call(method, params, &body) : -ENOMEM;
	uint64_t ns = CALL_NS + buf_len(&body) * (NSEC_PER_SEC / BYTES_PER_S_MIN);

	/* A serial line may be slow: what its bytes take there, too. */
	http.deadline_ns = clock_now() + (uint64_t)(clock_scale() * (double)ns);
	http.body = buf_data(&body);
	http.body_len = buf_len(&body);
	if (err == 0)
		err = http_client_perform(c, &http);
	if (err == 0 && http.status != 200)
		err = -EPROTO;
	if (err == 0)
		err = codec_decode_reply(buf_data(&reply), buf_len(&reply), &v,
					 &fault);
	log_escape(why, size, fault.text, strlen(fault.text));
	if (c)
		http_client_free(c);
	return err;
}

/* Takes part over. */
static int send_part(const char *host, const char *method,
		     struct va_value *part, const struct va_value *options,
		     char *why, size_t size)
{
	CLEANUP_VALUE struct va_value *params = va_array();
	int err;

	if (va_count(part) == 0) {
		va_value_free(part);
		return 0;
	}
	err = va_append(params, va_string(""));
	if (err == 0)
		err = va_append(params, part);
	else
		va_value_free(part);
	if (err == 0)
		err = va_append(params, va_value_copy(options));
	return err < 0 ? err : call_host(host, method, params, why, size);
}

static int send_dirty(struct keyring *k, const char *host)
{
	CLEANUP_VALUE struct va_value *options = NULL;
	struct keyring_dirty d;
	char why[400] = "";
	int err = keyring_dirty(k, &d), err2;

	if (err < 0)
		return err;
	options = d.options;
	err = send_part(host, "host.kv.set", d.set, options, why, sizeof(why));
	if (err < 0 && err != -EREMOTEIO) {
		va_value_free(d.unset);
		return err;
	}
	err2 = send_part(host, "host.kv.unset", d.unset, options, why,
			 sizeof(why));
	if (err2 < 0 && err2 != -EREMOTEIO)
		return err2;
	if (err < 0 || err2 < 0)
		log_warning("the host refuses guest.* keys: %s", why);
	keyring_sent(k, d.seq, err < 0 || err2 < 0 ? why : NULL);
	return 0;
}

struct sender {
	struct keyring *keys;
	const char *host;
};

static void *sender(void *arg)
{
	CLEANUP_VALUE struct va_value *none = va_array();
	const struct sender *h = arg;
	struct keyring *k = h->keys;
	uint64_t pause = RETRY_MIN_NS;
	char why[400];

	if (none)
		(void)call_host(h->host, "host.kv.refresh", none, why, sizeof(why));
	for (;;) {
		int err;

		keyring_wait_dirty(k);
		err = send_dirty(k, h->host);
		if (err == 0) {
			pause = RETRY_MIN_NS;
			continue;
		}
		log_debug("guest.* keys wait for the host: %s", strerror(-err));
		keyring_wait_host(k, clock_now() + pause);
		pause = pause * 2 < RETRY_MAX_NS ? pause * 2 : RETRY_MAX_NS;
	}
	return NULL;
}

int agent_keys_start(struct keyring *keys, const char *host_socket)
{
	static struct sender h; /* one a process */
	pthread_attr_t attr;
	pthread_t thread;
	int err;

	h = (struct sender){ keys, host_socket };
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	err = pthread_create(&thread, &attr, sender, &h);
	pthread_attr_destroy(&attr);
	return -err;
}
