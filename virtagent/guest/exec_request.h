/*
 * exec_request.h - what is to run, checked, and how it is shown
 *
 * One checked description serves the XML-RPC methods and the HTTP forms.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_GUEST_EXEC_REQUEST_H
#define VA_GUEST_EXEC_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtagent/guest/ids.h"
#include "virtagent/guest/jobs.h"
#include "virtagent/method.h"

#define EXEC_ARGS_MAX 1024u
#define EXEC_TIMEOUT_MAX_S (7 * 24 * 3600)

/* A checked request and the memory it points into. */
struct exec_request {
	struct job_request job;
	char *argv[EXEC_ARGS_MAX + 1];
	char *env[EXEC_ARGS_MAX + 1];
	size_t nargs, nenv;
	char *cwd;
	char label[64];
	struct guest_user user;
	bool has_user;
	char *input; /* option input, or NULL */
	size_t input_len;
};

void exec_request_done(struct exec_request *rq);
#define CLEANUP_EXEC CLEANUP(exec_request_done)

/* Each fails the call when a limit or a form is broken. */
int exec_add_arg(struct va_call *call, struct exec_request *rq, const char *arg);
/* "NAME=VALUE"; the name not empty, without control characters. */
int exec_add_env(struct va_call *call, struct exec_request *rq, const char *pair);
int exec_set_cwd(struct va_call *call, struct exec_request *rq, const char *dir);
int exec_set_user(struct va_call *call, struct exec_request *rq, const char *user);
int exec_set_timeout(struct va_call *call, struct exec_request *rq, double seconds);

/* Each item of an array as an argument. */
int exec_add_args(struct va_call *call, struct exec_request *rq,
		  const struct va_value *args);
/* Bytes for its stdin, which is then closed. */
int exec_set_input(struct va_call *call, struct exec_request *rq,
		   const struct va_value *v);

/* From the XML-RPC form: an array of arguments and a struct of options. */
int exec_from_params(struct va_call *call, struct exec_request *rq);

/* Completes the environment, checks policy, starts. */
int exec_start(struct va_call *call, struct exec_request *rq, struct job **ret);

/* Writes the request's input, if any, and closes the program's stdin. */
int exec_feed(struct va_call *call, struct exec_request *rq, struct job *j);

/*
 * Starts, feeds and waits for it; *ret is the job's struct with stdout and stderr.
 * The program is killed when the caller leaves, and the job forgotten.
 */
int guest_run_job(struct va_call *call, struct exec_request *rq,
		  struct va_value **ret);

/*
 * A command of this guest (commands.c): its path and environment.  guest: the
 * name it is told, "" = the host name.  Fails the call.
 */
int guest_command_request(struct va_call *call, const char *name, const char *guest,
			  struct exec_request *rq);

/* A job as the struct that guest.exec.status returns. */
struct va_value *guest_job_value(const struct job_info *info);

#endif
