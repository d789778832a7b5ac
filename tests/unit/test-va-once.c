/*
 * test-va-once.c - a call that is cut anywhere runs once or not at all, and its
 * client knows which
 *
 * va-client's own calling code talks to our HTTP and XML-RPC server through a
 * relay that ends the connection after a given byte of the request or of the
 * reply, every one of them in turn.  The method counts.  Exit code 0 must mean
 * that it ran, 10 that it did not and never will, also when the rest of the
 * request arrives after all; 11 only comes when nobody can be asked.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/sock.h"
#include "tests/lib/unit.h"
#include "virtagent/client/client.h"
#include "virtagent/client/rpc.h"
#include "virtagent/codec.h"
#include "virtagent/http_client.h"
#include "virtagent/rpc_server.h"

#define CONNS 16u
#define CALL_CONN 2u /* the first asks for the agent's id */
#define AGENT "agent-1"
#define ID_LEN (sizeof(AGENT) - 1 + 1 + 36)
#define NOWHERE SIZE_MAX

static atomic_uint counted;

static int count(struct va_call *call, struct va_value **ret)
{
	CHECK(call->call_id != NULL);
	*ret = va_int((int64_t)atomic_fetch_add(&counted, 1) + 1);
	return 0;
}

static int capabilities(struct va_call *call, struct va_value **ret)
{
	*ret = va_struct();
	return va_set(*ret, "agent_id", va_string(AGENT));
}

#define CAPABILITIES(n)                                                        \
	{ .name = n, .signature = "S:", .args = "", .fn = capabilities,        \
	  .cls = VA_CLASS_INFO, .help = "Id.", .flags = VA_M_IDEMPOTENT }

static const struct va_method rows[] = {
	{ .name = "t.count", .signature = "i:", .args = "", .fn = count,
	  .cls = VA_CLASS_WRITE, .help = "Counts." },
	CAPABILITIES("guest.capabilities"),
	CAPABILITIES("host.capabilities"),
};

/* --- the server ---------------------------------------------------------- */

struct env {
	struct codec_registry *r;
	struct outcomes *outcomes;
	struct http_server *s;
	char path[128];
	enum target_side side;
};

static int serve(struct http_request *rq, void *context)
{
	struct env *e = context;
	const struct va_call tmpl = { .outcomes = e->outcomes, .server_id = AGENT };

	return rpc_serve(rq, e->r, &tmpl);
}

static const struct http_route routes[] = { RPC_ROUTE(serve) };

static void env_open(struct env *e, enum target_side side)
{
	const struct va_family f[] = { VA_FAMILY(rows), va_guest_outcome_family,
				       va_host_outcome_family };
	struct http_config cfg = { .routes = routes, .nroutes = 1, .context = e };

	CHECK_INT(http_global_init(), 0);
	CHECK_INT(codec_global_init(), 0);
	e->side = side;
	e->r = codec_registry_new(f, 3, NULL, NULL);
	e->outcomes = outcomes_new();
	e->s = http_server_new(&cfg);
	CHECK(e->r && e->outcomes && e->s);
	snprintf(e->path, sizeof(e->path), "%s/rpc", unit_tmpdir());
	atomic_store(&counted, 0);
}

static void env_close(struct env *e)
{
	http_server_free(e->s);
	codec_registry_free(e->r);
	outcomes_free(e->outcomes);
}

/* --- the relay ----------------------------------------------------------- */

struct conn {
	int client, server; /* -1 = closed */
	unsigned number;
	size_t passed[2]; /* request, reply */
};

struct relay {
	struct env *env;
	/* what to do */
	size_t request_cut, reply_cut; /* bytes of the call's that pass */
	size_t late; /* length of a request whose rest comes when all is over */
	bool alone; /* after the cut nobody answers any more */
	/* what was seen */
	struct buf call, rest, later; /* the call's request; later ones */
	size_t reply_len;
	unsigned accepted;
	bool cut;
	int listener, stop_fd;
	pthread_t thread;
	struct conn conns[CONNS];
};

static void conn_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void do_cut(struct relay *r, struct conn *c)
{
	r->cut = true;
	for (unsigned i = 0; i < CONNS && r->alone; i++) {
		conn_end(&r->conns[i].client);
		conn_end(&r->conns[i].server);
	}
	conn_end(&c->client);
	if (!r->late)
		conn_end(&c->server);
}

static void relay_accept(struct relay *r)
{
	const struct va_caller nobody = { .cred = PEER_CRED_UNKNOWN };
	int fd = sock_accept(r->listener), pair[2];
	struct conn *c = r->conns;

	if (fd < 0)
		return;
	while (c->client >= 0 || c->server >= 0)
		CHECK(++c < r->conns + CONNS);
	r->accepted++;
	if (r->cut && r->alone) {
		close(fd);
		return;
	}
	CHECK_INT(sock_pair(SOCK_STREAM, pair), 0);
	CHECK_INT(http_server_adopt(r->env->s, pair[1], &nobody), 0);
	*c = (struct conn){ .client = fd, .server = pair[0], .number = r->accepted };
	if (c->number == CALL_CONN && r->request_cut == 0 && !r->late)
		do_cut(r, c);
}

/* Bytes of a connection, one way: up to the cut. */
static void relay_move(struct relay *r, struct conn *c, bool reply)
{
	int from = reply ? c->server : c->client, to = reply ? c->client : c->server;
	bool marked = c->number == CALL_CONN;
	size_t limit = !marked ? NOWHERE : reply ? r->reply_cut : r->request_cut;
	uint8_t data[4096];
	ssize_t n = recv(from, data, sizeof(data), 0);
	size_t pass;

	if (n <= 0) {
		if (n < 0 && errno == EAGAIN)
			return;
		conn_end(&c->client);
		conn_end(&c->server);
		return;
	}
	if (!reply && c->number >= CALL_CONN)
		buf_put(marked ? &r->call : &r->later, data, (size_t)n);
	if (reply && marked)
		r->reply_len += (size_t)n;
	if (r->late && marked && buf_len(&r->call) < r->late)
		return; /* all of it is wanted here first */
	if (r->late && marked) {
		n = (ssize_t)r->late;
		memcpy(data, buf_data(&r->call), r->late);
	}
	pass = limit - c->passed[reply] < (size_t)n ? limit - c->passed[reply] :
						      (size_t)n;
	if (pass && to >= 0)
		CHECK_INT(send(to, data, pass, MSG_NOSIGNAL), pass);
	c->passed[reply] += pass;
	if (!reply && marked)
		buf_put(&r->rest, data + pass, (size_t)n - pass);
	if (c->passed[reply] == limit)
		do_cut(r, c);
}

/* What was held back arrives after all; the server's answer is waited for. */
static void deliver_rest(struct relay *r)
{
	for (struct conn *c = r->conns; c < r->conns + CONNS; c++) {
		struct pollfd p = { .fd = c->server, .events = POLLIN };

		if (c->server < 0 || c->number != CALL_CONN)
			continue;
		if (buf_len(&r->rest))
			CHECK_INT(send(c->server, buf_data(&r->rest),
				       buf_len(&r->rest), MSG_NOSIGNAL),
				  buf_len(&r->rest));
		CHECK_INT(poll(&p, 1, 5000), 1);
	}
}

static void *relay_run(void *arg)
{
	struct relay *r = arg;

	for (;;) {
		struct pollfd p[2 + 2 * CONNS] = { { r->stop_fd, POLLIN, 0 },
						   { r->listener, POLLIN, 0 } };

		for (unsigned i = 0; i < CONNS; i++) {
			/* One way's end is the other's: none is half open. */
			p[2 + 2 * i] = (struct pollfd){ r->conns[i].client, POLLIN, 0 };
			p[3 + 2 * i] = (struct pollfd){ r->conns[i].client < 0 ?
				-1 : r->conns[i].server, POLLIN, 0 };
		}
		CHECK(poll(p, 2 + 2 * CONNS, -1) >= 0);
		if (p[0].revents)
			break;
		for (unsigned i = 0; i < CONNS; i++) {
			if (p[2 + 2 * i].revents && r->conns[i].client >= 0)
				relay_move(r, &r->conns[i], false);
			if (p[3 + 2 * i].revents && r->conns[i].server >= 0 &&
			    r->conns[i].client >= 0)
				relay_move(r, &r->conns[i], true);
		}
		if (p[1].revents)
			relay_accept(r);
	}
	if (r->late)
		deliver_rest(r);
	for (unsigned i = 0; i < CONNS; i++) {
		conn_end(&r->conns[i].client);
		conn_end(&r->conns[i].server);
	}
	return NULL;
}

static void relay_start(struct relay *r)
{
	buf_init(&r->call, 1 << 16);
	buf_init(&r->rest, 1 << 16);
	buf_init(&r->later, 1 << 20);
	for (unsigned i = 0; i < CONNS; i++)
		r->conns[i].client = r->conns[i].server = -1;
	r->stop_fd = eventfd(0, EFD_CLOEXEC);
	r->listener = sock_unix_listen(r->env->path, (gid_t)-1);
	CHECK(r->listener >= 0);
	CHECK_INT(pthread_create(&r->thread, NULL, relay_run, r), 0);
}

static void relay_stop(struct relay *r)
{
	uint64_t one = 1;

	CHECK(write(r->stop_fd, &one, sizeof(one)) == sizeof(one));
	pthread_join(r->thread, NULL);
	close(r->stop_fd);
	close(r->listener);
	unlink(r->env->path);
}

static void relay_done(struct relay *r)
{
	buf_done(&r->call);
	buf_done(&r->rest);
	buf_done(&r->later);
}

/* --- the call ------------------------------------------------------------ */

static int call_once(struct env *e, uint64_t ns)
{
	struct client cl = { .timeout_given = true, .timeout_ns = ns };
	struct target t = { .side = e->side, .name = "it" };
	struct va_value *v = NULL;
	struct rpc *rpc;
	int code;

	snprintf(t.rpc, sizeof(t.rpc), "%s", e->path);
	rpc = rpc_open(&cl, &t);
	CHECK(rpc != NULL);
	code = rpc_try(rpc, "t.count", 0, va_array(), &v);
	CHECK((code == VAC_OK) == (v != NULL));
	CHECK(code == VAC_OK || *rpc_error(rpc));
	va_value_free(v);
	rpc_free(rpc);
	return code;
}

/* What the server says of the call, by the id that was asked for. */
static void check_outcome(struct relay *r, unsigned ran)
{
	const char *text = buf_cstr(&r->later), *at = text ? strstr(text, AGENT "/") : NULL;
	CLEANUP_VALUE struct va_value *v = NULL;
	char id[ID_LEN + 1];
	const char *state = "";

	if (!at)
		return;
	memcpy(id, at, ID_LEN);
	id[ID_LEN] = '\0';
	CHECK_INT(outcome_query(r->env->outcomes, id, &v), 0);
	CHECK_INT(va_get_string(va_member(v, "state"), &state), 0);
	CHECK_STR(state, ran ? "done" : "never");
}

/* One call with one cut; the exit code. */
static int cut_at(struct env *e, struct relay *r, uint64_t ns)
{
	unsigned before = atomic_load(&counted), ran;
	int code;

	r->env = e;
	relay_start(r);
	code = call_once(e, ns);
	relay_stop(r);
	ran = atomic_load(&counted) - before;
	CHECK(ran <= 1);
	if (code == VAC_OK)
		CHECK_INT(ran, 1);
	else if (code == VAC_NOT_CONNECTED)
		CHECK_INT(ran, 0);
	else
		CHECK_INT(code, VAC_UNKNOWN);
	check_outcome(r, ran);
	return code;
}

/* The lengths of an undisturbed call. */
static void lengths(struct env *e, size_t *request, size_t *reply)
{
	struct relay r = { .request_cut = NOWHERE, .reply_cut = NOWHERE };

	CHECK_INT(cut_at(e, &r, 5 * NSEC_PER_SEC), VAC_OK);
	CHECK(strstr(buf_cstr(&r.call), "\r\nVirtagent-Call: " AGENT "/"));
	*request = buf_len(&r.call);
	*reply = r.reply_len;
	CHECK(*request > 200 && *reply > 200);
	relay_done(&r);
}

static void every_byte(enum target_side side, bool late)
{
	struct env e;
	size_t request, reply;
	unsigned codes[2] = { 0 };

	env_open(&e, side);
	lengths(&e, &request, &reply);
	for (size_t k = 0; k <= request; k++) {
		struct relay r = { .request_cut = k, .reply_cut = NOWHERE,
				   .late = late && k < request ? request : 0 };
		int code = cut_at(&e, &r, 5 * NSEC_PER_SEC);

		CHECK(r.cut);
		if (k < request)
			CHECK_INT(code, VAC_NOT_CONNECTED);
		else /* the server may see the end first */
			CHECK(code == VAC_OK || code == VAC_NOT_CONNECTED);
		codes[code == VAC_OK]++;
		relay_done(&r);
	}
	for (size_t k = 1; k < reply && !late; k++) {
		struct relay r = { .request_cut = NOWHERE, .reply_cut = k };

		CHECK_INT(cut_at(&e, &r, 5 * NSEC_PER_SEC), VAC_OK);
		CHECK(r.cut);
		codes[1]++;
		relay_done(&r);
	}
	fprintf(stderr, "# request of %zu bytes, reply of %zu: %u ran, %u did not\n",
		request, reply, codes[1], codes[0]);
	CHECK_INT(atomic_load(&counted), codes[1] + 1);
	env_close(&e);
}

TEST(cut_at_every_byte_of_a_call_to_a_guest)
{
	every_byte(SIDE_GUEST, false);
}

TEST(cut_at_every_byte_of_a_call_to_the_host)
{
	every_byte(SIDE_HOST, false);
}

/* The question overtakes what is still under way. */
TEST(the_rest_of_a_request_that_comes_late_is_refused)
{
	every_byte(SIDE_GUEST, true);
}

/* Nobody can be asked: whatever happened, the client does not pretend to know. */
TEST(without_an_answer_the_outcome_is_unknown)
{
	struct env e;
	size_t request, reply;

	env_open(&e, SIDE_GUEST);
	lengths(&e, &request, &reply);
	for (size_t k = 1; k <= request + reply; k += 97) {
		struct relay r = { .request_cut = k < request ? k : NOWHERE,
				   .reply_cut = k < request ? NOWHERE : k - request + 1,
				   .alone = true };

		CHECK_INT(cut_at(&e, &r, 600 * NSEC_PER_MSEC), VAC_UNKNOWN);
		relay_done(&r);
	}
	env_close(&e);
}

UNIT_MAIN(CASE_SLOW(cut_at_every_byte_of_a_call_to_a_guest, 120),
	  CASE_SLOW(cut_at_every_byte_of_a_call_to_the_host, 120),
	  CASE_SLOW(the_rest_of_a_request_that_comes_late_is_refused, 120),
	  CASE_SLOW(without_an_answer_the_outcome_is_unknown, 60))
