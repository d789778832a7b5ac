/*
 * method.h - one constant row per method
 *
 * Dispatch, introspection, argument checking, policy, audit, va-client's
 * conversions and the manual page all read the row.  A family of methods is an
 * array of rows in its own file; the servers list the families.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_METHOD_H
#define VA_METHOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/sock.h"
#include "virtagent/value.h"

/* What a method may do to the side that runs it; policies name these. */
enum va_class {
	VA_CLASS_INFO,	/* facts about the agent itself; allowed in every profile */
	VA_CLASS_READ,	/* reads state */
	VA_CLASS_WRITE, /* changes files or keys */
	VA_CLASS_EXEC,	/* runs programs */
	VA_CLASS_POWER, /* shutdown, reboot, suspend */
	VA_CLASS_FS,	/* acts on whole file systems */
	VA_CLASS_NET,	/* connects to, or listens at, addresses of this side */
	VA_CLASS_ADMIN, /* changes the agent or the daemon */
};

const char *va_class_name(enum va_class c);

/* What the other side is told when a call fails.  Codes are in fault.h. */
struct va_fault {
	int code; /* 0 = none */
	char text[512];
};

/* Who calls, as the kernel or the endpoint vouches. */
struct va_caller {
	struct peer_cred cred;	/* at the calling side; -1 where unknown */
	uint32_t stream;	/* virtproxy's stream number; 0 = a local socket */
	const char *guest;	/* host side: the guest whose socket it came by;
				   NULL = a local client of the host */
	bool remote;		/* came over the channel */
};

struct va_server;
struct codec_registry;
struct outcomes;

struct va_call {
	const struct va_method *method;
	struct va_server *server;
	const struct va_caller *caller;
	const struct va_value *params; /* array; checked against the row */
	struct va_fault fault;	       /* set by va_fail() */
	const char *call_id;	       /* Virtagent-Call, or NULL */
	int cancel_fd; /* readable when the caller went or the server ends; every
			  wait polls it */
	void *context; /* the server's: struct guest_context / host_context */
	struct codec_registry *registry; /* set by codec_invoke() */
	struct outcomes *outcomes; /* where marked calls are kept, or NULL */
	const char *server_id; /* first part of such calls' ids, or NULL */
};

/*
 * Runs on a connection's thread.  0 with *ret set (owned by the caller), or a
 * negative errno, best by way of va_fail().  Without a fault text the errno's
 * text is used.
 */
typedef int (*va_method_fn)(struct va_call *call, struct va_value **ret);

struct va_method {
	const char *name; /* "guest.getfile" */
	/*
	 * Result and parameters: one letter each, optional parameters after
	 * '|': "S:s|ii".  s string, i int, b bool, d double, 6 base64, A array,
	 * S struct, n nil, x anything, t string or base64 (a path or other text
	 * that may hold any byte).  A trailing '*' allows any number more of the
	 * letter before it.  An optional parameter given as nil counts as absent.
	 */
	const char *signature;
	const char *args; /* "PATH [OFFSET [LENGTH]]", as help shows them */
	enum va_class cls;
	va_method_fn fn;
	/* The member of a struct result that `va-client call` prints raw; NULL =
	 * print the result itself. */
	const char *raw;
	const char *help; /* one line */
	/* A paragraph for virtagent-methods(7): arguments, result, failures. */
	const char *doc;
	unsigned flags;
};

#define VA_M_IDEMPOTENT 1u /* safe to repeat: no Virtagent-Call needed */
#define VA_M_PATH 2u	   /* first parameter is a path: policy's prefixes apply */
#define VA_M_ORIGINAL 4u   /* a name of the 2010 original */
#define VA_M_QUIET 8u	   /* no audit line unless refused (ping) */
#define VA_M_UNTIL_EOF 16u /* `call` repeats with the next offset until eof */
/* Not held against the limits of calls at once: never waits, and is needed when all
 * places are taken, because it tells who has them or frees them. */
#define VA_M_UNCOUNTED 32u

/* Sets the fault and returns -errno_value (positive in). */
int va_fail(struct va_call *call, int errno_value, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same with one of fault.h's own codes, for what is not an errno. */
int va_fault(struct va_call *call, int code, int errno_value, const char *fmt,
	     ...) __attribute__((format(printf, 4, 5)));
/* Makes sure that a failed call has a code and a text: those of errno_value
 * when the method set none. */
void va_fault_complete(struct va_fault *fault, int errno_value);

/* The row as a struct: name, signature, args, class, help, flags (an array of
 * names: idempotent, path, original, quiet, until-eof), allowed and, where the
 * row has one, raw.  NULL on ENOMEM. */
struct va_value *va_method_value(const struct va_method *m, bool allowed);

/* Do the parameters fit the row's signature?  0, or -EINVAL with call->fault
 * (VA_FAULT_TYPE) naming the method, the parameter and what was expected. */
int va_check_args(struct va_call *call);
/* Is the text a well-formed signature (see struct va_method)? */
bool va_signature_valid(const char *signature);
/* The type of a letter as introspection names it; NULL for an unknown one. */
const char *va_signature_type(char letter);

/* Parameter i as the row's letter says; the default when it is absent. */
int va_arg_int(struct va_call *call, size_t i, int64_t dflt, int64_t min,
	       int64_t max, int64_t *ret);
int va_arg_bool(struct va_call *call, size_t i, bool dflt, bool *ret);
int va_arg_string(struct va_call *call, size_t i, const char *dflt,
		  const char **ret);
/* As bytes that hold no NUL, NUL-terminated (a path or name). */
int va_arg_text(struct va_call *call, size_t i, const char *dflt,
		const char **ret);
int va_arg_bytes(struct va_call *call, size_t i, const void **data, size_t *n);
bool va_arg_given(const struct va_call *call, size_t i);

struct va_family {
	const struct va_method *methods;
	size_t count;
};

#define VA_FAMILY(array)                                                       \
	((struct va_family){ (array), sizeof(array) / sizeof((array)[0]) })

/* guest.outcome and host.outcome (outcome.c), for the servers' lists. */
extern const struct va_family va_guest_outcome_family;
extern const struct va_family va_host_outcome_family;

#endif
