/*
 * exec.c - methods that run programs: guest.exec.*
 *
 * The plain form for stock clients: start, then read, write, status, kill by
 * job number.  The streaming forms over HTTP stand on the same jobs
 * (virtagent/agent_exec.c).
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/guest.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/str.h"
#include "common/log.h"
#include "virtagent/guest/exec_request.h"
#include "virtagent/guest/jobs.h"
#include "virtagent/guest/path.h"

#define READ_MAX (1 << 20)	  /* bytes a call, as every base64 value */
#define WAIT_MAX_MS (60 * 1000)	  /* a call never waits longer */

DEFINE_CLEANUP(struct job, job_put);
#define CLEANUP_JOB CLEANUP(job_put_p)

static struct jobs *table(struct va_call *call)
{
	return guest_context(call)->jobs;
}

static int arg_job(struct va_call *call, struct job **ret)
{
	int64_t id;
	int r = va_arg_int(call, 0, 0, 1, UINT32_MAX, &id);

	if (r < 0)
		return r;
	*ret = job_find(table(call), (uint32_t)id);
	return *ret ? 0 : va_fail(call, ENOENT, "there is no job %lld", (long long)id);
}

static const char *state_name(const struct job_info *info)
{
	switch (info->status.state) {
	case SPAWN_STARTING:
	case SPAWN_RUNNING:
		return "running";
	case SPAWN_FAILED:
		return "failed";
	case SPAWN_EXITED:
		return info->status.signal ? "killed" : "exited";
	case SPAWN_LOST:
		return "lost";
	}
	return "unknown";
}

struct va_value *guest_job_value(const struct job_info *info)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	const struct spawn_status *st = &info->status;
	uint64_t end = info->ended_ns ? info->ended_ns : clock_now();
	int r = 0;

	r |= va_set(v, "job", va_int(info->id));
	r |= va_set(v, "program", guest_text(info->label));
	r |= va_set(v, "state", va_string(state_name(info)));
	r |= va_set(v, "over", va_bool(info->over));
	r |= va_set(v, "pid", va_int(st->pid));
	r |= va_set(v, "tty", va_bool(info->tty));
	r |= va_set(v, "seconds",
		    va_double((double)(end - info->started_ns) / (double)NSEC_PER_SEC));
	r |= va_set(v, "stdout_bytes", va_int((int64_t)info->bytes[0]));
	r |= va_set(v, "stderr_bytes", va_int((int64_t)info->bytes[1]));
	r |= va_set(v, "stdout_dropped", va_int((int64_t)info->dropped[0]));
	r |= va_set(v, "stderr_dropped", va_int((int64_t)info->dropped[1]));
	if (st->state == SPAWN_EXITED) {
		r |= va_set(v, "exit", va_int(st->signal ? 128 + st->signal : st->code));
		r |= va_set(v, "signal", va_int(st->signal));
		r |= va_set(v, "timed_out", va_bool(st->timed_out));
	}
	if (st->state == SPAWN_FAILED) {
		/* As shells say it: not found 127, else not executable 126. */
		r |= va_set(v, "exit", va_int(st->error == -ENOENT ? 127 : 126));
		r |= va_set(v, "error", va_string(strerror(-st->error)));
		r |= va_set(v, "step", va_string(st->step));
	}
	return r < 0 ? NULL : take_ptr(v);
}

void guest_job_ended(void *context, const struct job_info *info)
{
	struct guest_context *ctx = context;
	CLEANUP_VALUE struct va_value *v = va_struct();
	const struct spawn_status *st = &info->status;
	int r = 0;

	guest_set(v, "job", va_int(info->id), &r);
	guest_set(v, "program", guest_text(info->label), &r);
	guest_set(v, "pid", va_int(st->pid), &r);
	guest_set(v, "state", va_string(state_name(info)), &r);
	if (st->state == SPAWN_EXITED && st->signal)
		guest_set(v, "signal", va_int(st->signal), &r);
	else if (st->state == SPAWN_EXITED)
		guest_set(v, "status", va_int(st->code), &r);
	if (st->timed_out)
		guest_set(v, "timed_out", va_bool(true), &r);
	guest_set(v, "seconds",
		  va_double((double)(info->ended_ns - info->started_ns) /
			    (double)NSEC_PER_SEC), &r);
	if (r == 0)
		ctx->post_event(ctx, "program-ended", take_ptr(v));
}

static int give_info(struct job *j, struct va_value **ret)
{
	struct job_info info;

	job_info(j, &info);
	*ret = guest_job_value(&info);
	return *ret ? 0 : -ENOMEM;
}

static int exec_start_method(struct va_call *call, struct va_value **ret)
{
	CLEANUP_FREE struct exec_request *mem = calloc(1, sizeof(*mem));
	CLEANUP_JOB struct job *j = NULL;
	int r;

	if (!mem)
		return -ENOMEM;
	r = exec_from_params(call, mem);
	if (r == 0)
		r = exec_start(call, mem, &j);
	if (r == 0)
		r = exec_feed(call, mem, j);
	exec_request_done(mem);
	return r < 0 ? r : give_info(j, ret);
}

static int exec_status(struct va_call *call, struct va_value **ret)
{
	CLEANUP_JOB struct job *j = NULL;
	int64_t wait_ms;
	int r = arg_job(call, &j);

	if (r == 0)
		r = va_arg_int(call, 1, 0, 0, WAIT_MAX_MS, &wait_ms);
	if (r < 0)
		return r;
	if (wait_ms > 0) {
		r = job_wait_over(j, call->cancel_fd,
				  clock_now() + (uint64_t)wait_ms * NSEC_PER_MSEC);
		if (r == -ECANCELED)
			return va_fail(call, ECANCELED, "the caller left");
	}
	return give_info(j, ret);
}

static int arg_stream(struct va_call *call, size_t i, enum job_stream *ret)
{
	const char *name;
	int r = va_arg_string(call, i, "stdout", &name);

	if (r < 0)
		return r;
	if (strcmp(name, "stdout") != 0 && strcmp(name, "stderr") != 0)
		return va_fail(call, EINVAL,
			       "argument %zu: a stream is \"stdout\" or \"stderr\"",
			       i + 1);
	*ret = name[3] == 'o' ? JOB_STDOUT : JOB_STDERR;
	return 0;
}

static int exec_read(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_JOB struct job *j = NULL;
	CLEANUP_FREE char *data = NULL;
	enum job_stream stream = JOB_STDOUT;
	int64_t asked, max, wait_ms;
	uint64_t offset, at[2] = { UINT64_MAX, UINT64_MAX };
	ssize_t n;
	int r = arg_job(call, &j);

	if (r == 0)
		r = arg_stream(call, 1, &stream);
	if (r == 0)
		r = va_arg_int(call, 2, 0, 0, INT64_MAX, &asked);
	if (r == 0)
		r = va_arg_int(call, 3, READ_MAX, 1, READ_MAX, &max);
	if (r == 0)
		r = va_arg_int(call, 4, 0, 0, WAIT_MAX_MS, &wait_ms);
	if (r < 0)
		return r;
	at[stream] = (uint64_t)asked;
	if (wait_ms > 0 &&
	    job_wait(j, at, call->cancel_fd, -1,
		     clock_now() + (uint64_t)wait_ms * NSEC_PER_MSEC) == -ECANCELED)
		return va_fail(call, ECANCELED, "the caller left");
	data = malloc((size_t)max);
	if (!data)
		return -ENOMEM;
	offset = (uint64_t)asked;
	n = job_read(j, stream, &offset, data, (size_t)max);
	v = va_struct();
	r |= va_set(v, "offset", va_int((int64_t)offset));
	r |= va_set(v, "dropped", va_int((int64_t)(offset - (uint64_t)asked)));
	r |= va_set(v, "eof", va_bool(n == 0));
	r |= va_set(v, "data", va_bytes(data, n > 0 ? (size_t)n : 0));
	if (r < 0)
		return -ENOMEM;
	*ret = take_ptr(v);
	return 0;
}

static int exec_write(struct va_call *call, struct va_value **ret)
{
	CLEANUP_JOB struct job *j = NULL;
	const void *data;
	bool eof;
	size_t n;
	int r = arg_job(call, &j);

	if (r == 0)
		r = va_arg_bytes(call, 1, &data, &n);
	if (r == 0)
		r = va_arg_bool(call, 2, false, &eof);
	if (r < 0)
		return r;
	if (n > 0)
		r = job_write(j, data, n, call->cancel_fd);
	if (r == 0 && eof)
		job_close_stdin(j);
	if (r == -EPIPE)
		return va_fail(call, EPIPE, "job %u reads no input (any more)", job_id(j));
	if (r == -EBUSY)
		return va_fail(call, EBUSY, "another call writes to job %u", job_id(j));
	if (r < 0)
		return va_fail(call, -r, "job %u: cannot write: %s", job_id(j), strerror(-r));
	*ret = va_int((int64_t)n);
	return *ret ? 0 : -ENOMEM;
}

static int exec_kill(struct va_call *call, struct va_value **ret)
{
	CLEANUP_JOB struct job *j = NULL;
	const char *name;
	char shown[40];
	int signo, r = arg_job(call, &j);

	if (r == 0)
		r = va_arg_string(call, 1, "TERM", &name);
	if (r < 0)
		return r;
	signo = str_to_signal(name);
	if (signo < 0) {
		log_escape(shown, sizeof(shown), name, strlen(name));
		return va_fail(call, EINVAL, "there is no signal \"%s\"", shown);
	}
	r = job_kill(j, signo);
	if (r == -ESRCH)
		return va_fail(call, ESRCH, "job %u has ended already", job_id(j));
	if (r < 0)
		return va_fail(call, -r, "job %u: cannot be signalled: %s", job_id(j),
			       strerror(-r));
	*ret = va_bool(true);
	return *ret ? 0 : -ENOMEM;
}

static int exec_resize(struct va_call *call, struct va_value **ret)
{
	CLEANUP_JOB struct job *j = NULL;
	int64_t rows, cols;
	int r = arg_job(call, &j);

	if (r == 0)
		r = va_arg_int(call, 1, 0, 1, 10000, &rows);
	if (r == 0)
		r = va_arg_int(call, 2, 0, 1, 10000, &cols);
	if (r < 0)
		return r;
	r = job_resize(j, (unsigned)rows, (unsigned)cols);
	if (r < 0)
		return va_fail(call, -r, "job %u: %s", job_id(j),
			       r == -ENOTTY ? "has no terminal" : strerror(-r));
	*ret = va_bool(true);
	return *ret ? 0 : -ENOMEM;
}

static int exec_list(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_array();
	struct job_info info;
	uint32_t id = 0;
	struct job *j;
	int r = v ? 0 : -ENOMEM;

	while (r == 0 && (j = job_next(table(call), id))) {
		job_info(j, &info);
		id = info.id;
		job_put(j);
		r = va_append(v, guest_job_value(&info));
	}
	if (r < 0)
		return -ENOMEM;
	*ret = take_ptr(v);
	return 0;
}

static int exec_forget(struct va_call *call, struct va_value **ret)
{
	CLEANUP_JOB struct job *j = NULL;
	int r = arg_job(call, &j);

	if (r < 0)
		return r;
	if (job_forget(j) == -EBUSY)
		return va_fail(call, EBUSY, "job %u still runs; kill it first", job_id(j));
	*ret = va_bool(true);
	return *ret ? 0 : -ENOMEM;
}

static int add_output(struct job *j, enum job_stream s, struct va_value *v)
{
	static const char *const names[2][2] = { { "stdout", "stdout_dropped" },
						 { "stderr", "stderr_dropped" } };
	CLEANUP_FREE char *data = malloc(READ_MAX);
	uint64_t offset = 0;
	ssize_t n;

	if (!data)
		return -ENOMEM;
	n = job_read(j, s, &offset, data, READ_MAX);
	if (va_set(v, names[s][0], va_bytes(data, n > 0 ? (size_t)n : 0)) < 0)
		return -ENOMEM;
	return va_set(v, names[s][1], va_int((int64_t)offset));
}

int guest_run_job(struct va_call *call, struct exec_request *rq,
		  struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_JOB struct job *j = NULL;
	int r;

	rq->job.output_max = 0;
	r = exec_start(call, rq, &j);
	if (r == 0)
		r = exec_feed(call, rq, j);
	if (r < 0)
		return r;
	if (rq->job.stdin_open)
		job_close_stdin(j);
	r = job_wait_over(j, call->cancel_fd, CLOCK_NEVER);
	if (r < 0) {
		job_kill(j, SIGKILL);
		return va_fail(call, -r, "the caller left; the program was killed");
	}
	r = give_info(j, &v);
	if (r == 0)
		r = add_output(j, JOB_STDOUT, v);
	if (r == 0)
		r = add_output(j, JOB_STDERR, v);
	job_forget(j);
	if (r == 0)
		*ret = take_ptr(v);
	return r;
}

static int exec_run(struct va_call *call, struct va_value **ret)
{
	CLEANUP_FREE struct exec_request *rq = calloc(1, sizeof(*rq));
	int r;

	if (!rq)
		return -ENOMEM;
	r = exec_from_params(call, rq);
	if (r == 0 && rq->job.tty)
		r = va_fail(call, EINVAL, "guest.exec.run has no terminal; use "
			    "guest.exec.start");
	if (r == 0)
		r = guest_run_job(call, rq, ret);
	exec_request_done(rq);
	return r;
}

#define OPTIONS_DOC                                                            \
	"OPTIONS is a struct: env (a struct, or an array of NAME=VALUE), cwd, "  \
	"user (name or uid), timeout (seconds; then TERM and 2 s later KILL go " \
	"to the whole process group), stdin (boolean), tty (boolean) with rows " \
	"and cols, input (bytes for its stdin, which is then closed), output_max (kept bytes a stream, default 1 MiB, at most 16). " \
	"No shell is involved. "

static const struct va_method methods[] = {
	{ "guest.exec.start", "S:A|S", "ARGV [OPTIONS]", VA_CLASS_EXEC,
	  exec_start_method, "job", "start a program",
	  OPTIONS_DOC "Returns the job as guest.exec.status does.", 0 },
	{ "guest.exec.run", "S:A|S", "ARGV [OPTIONS]", VA_CLASS_EXEC, exec_run,
	  "stdout", "run a program and wait for its end",
	  OPTIONS_DOC "Returns the job's struct with stdout and stderr (the last "
	  "1 MiB of each). The program is killed when the caller leaves.",
	  0 },
	{ "guest.exec.status", "S:i|i", "JOB [WAIT_MS]", VA_CLASS_READ, exec_status,
	  NULL, "state of a job",
	  "Waits up to WAIT_MS (60000) for its end. Returns job, program, state "
	  "(running, exited, killed, failed, lost), over (ended and all output "
	  "kept), pid, tty, seconds, stdout_bytes, stderr_bytes, stdout_dropped, "
	  "stderr_dropped and, when ended, exit (128 + signal for a signal; 126 or "
	  "127 when it could not be started, with error and step), signal, "
	  "timed_out.",
	  VA_M_IDEMPOTENT | VA_M_QUIET },
	{ "guest.exec.read", "S:i|siii", "JOB [STREAM [OFFSET [MAX [WAIT_MS]]]]",
	  VA_CLASS_READ, exec_read, "data", "output of a job",
	  "STREAM is stdout (default) or stderr; OFFSET counts from the stream's "
	  "beginning. Waits up to WAIT_MS for bytes. Returns data, offset (of its "
	  "first byte), dropped (bytes asked for that are no longer kept), eof.",
	  VA_M_IDEMPOTENT | VA_M_QUIET },
	{ "guest.exec.write", "i:i6|b", "JOB DATA [EOF]", VA_CLASS_EXEC, exec_write,
	  NULL, "input for a job",
	  "Waits until the program takes it. EOF true closes its input (on a "
	  "terminal: sends ^D, again and again until the program ends or somebody "
	  "writes).",
	  VA_M_QUIET },
	{ "guest.exec.kill", "b:i|s", "JOB [SIGNAL]", VA_CLASS_EXEC, exec_kill, NULL,
	  "send a signal to a job's process group",
	  "SIGNAL is a name or number, default TERM.", VA_M_UNCOUNTED },
	{ "guest.exec.resize", "b:iii", "JOB ROWS COLS", VA_CLASS_EXEC, exec_resize,
	  NULL, "size of a job's terminal", "", VA_M_QUIET | VA_M_IDEMPOTENT },
	{ "guest.exec.list", "A:", "", VA_CLASS_READ, exec_list, NULL, "all jobs",
	  "An array of structs as guest.exec.status returns.",
	  VA_M_IDEMPOTENT | VA_M_QUIET | VA_M_UNCOUNTED },
	{ "guest.exec.forget", "b:i", "JOB", VA_CLASS_EXEC, exec_forget, NULL,
	  "forget an ended job and its output", "A running job is not forgotten.",
	  VA_M_IDEMPOTENT | VA_M_UNCOUNTED },
};

const struct va_family guest_exec_family = {
	methods, sizeof(methods) / sizeof(methods[0])
};
