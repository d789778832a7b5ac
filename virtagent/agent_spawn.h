/*
 * agent_spawn.h - programs, started by the spawner process
 *
 * The server has many threads, any of which may hang for ever on a dead file
 * system; a child forked from it would inherit that.  So programs start from
 * the single-threaded spawner.  The calls here are the server's side: they may
 * be used from any thread.
 *
 * On the wire (agent_ipc.h), server to spawner:
 *	START	u32 job, u32 flags, u32 uid, u32 gid, u64 delay, u64 timeout (ns),
 *		u8 which of descriptors 0-2 ride along (bits), u16 and that many
 *		u32 groups, string cwd, u16 and that many strings argv, u16 and
 *		that many strings env; a string is u32 length and that many bytes,
 *		no NUL within
 *	KILL	u32 job, u32 signal
 * and back:
 *	STARTED	u32 job, u32 pid		the program runs (exec succeeded)
 *	FAILED	u32 job, u32 errno, string step	it never ran
 *	EXITED	u32 job, u32 code, u32 signal, u8 timed out
 * A job ends with FAILED or EXITED.  When the spawner dies, its jobs are
 * reported lost: they run on, but nobody knows how they end.
 *
 * A program gets descriptors 0-2 and nothing else, default signals, an empty
 * signal mask, umask 022, the environment given, and a session (and so a process
 * group) of its own, which the time limit and KILL hit as a whole.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_AGENT_SPAWN_H
#define VA_AGENT_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Programs at once: the callers' (VA_CONF_JOBS_MAX, which jobs.h counts), and beside
 * them hooks and what shuts the machine down. */
#define SPAWN_JOBS_MAX 160u
#define SPAWN_GROUPS_MAX 256u
#define SPAWN_STRINGS_MAX 4096u
/* Between SIGTERM at the time limit and SIGKILL. */
#define SPAWN_GRACE_NS UINT64_C(2000000000)

/* Descriptor 0 is a terminal, to become the controlling one. */
#define SPAWN_TTY 1u
/* Set uid, gid and groups; without it the program runs as the agent does. */
#define SPAWN_IDS 2u
/* When the program ends, what is left of its process group is killed. */
#define SPAWN_KILL_REST 4u
/* The program outlives the server that asked for it (shutdown); without it the
 * group is killed when that server goes. */
#define SPAWN_KEEP 8u

struct spawn_request {
	/* argv[0] is the program: a path, or a name looked up in env's PATH. */
	const char *const *argv;
	const char *const *env; /* NULL = PATH only */
	const char *cwd;	/* NULL = "/" */
	int fds[3];		/* -1 = /dev/null; stay the caller's */
	unsigned flags;
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	size_t ngroups;
	uint64_t delay_ns;   /* before it starts */
	uint64_t timeout_ns; /* 0 = none */
};

enum spawn_state {
	SPAWN_STARTING,
	SPAWN_RUNNING,
	SPAWN_FAILED, /* never ran: error and step */
	SPAWN_EXITED, /* code, or signal */
	SPAWN_LOST,   /* the spawner died: outcome unknown */
};

struct spawn_status {
	enum spawn_state state;
	pid_t pid;
	int error;     /* negative errno, of SPAWN_FAILED */
	char step[24]; /* what failed: "exec", "chdir", ... */
	unsigned code;
	unsigned signal; /* 0 = exited with code */
	bool timed_out;
};

struct spawn_client;
struct spawn_job;

/*
 * Starts a program.  Returns when it runs or could not (0 with *ret, its status
 * says which), or for a delayed one when the spawner has it.  Negative errno:
 * -E2BIG (the request is longer than a message), -EAGAIN (no spawner within
 * wait_ns, or SPAWN_JOBS_MAX run), -ECANCELED (cancel_fd became readable; the
 * job is killed), -EINVAL.
 */
int spawn_start(struct spawn_client *c, const struct spawn_request *rq,
		int cancel_fd, uint64_t wait_ns, struct spawn_job **ret);
/* Readable when the job is over; for poll(). */
int spawn_job_fd(const struct spawn_job *job);
void spawn_job_status(struct spawn_job *job, struct spawn_status *ret);
/* A signal to the job's whole process group; -ESRCH when it is over. */
int spawn_job_kill(struct spawn_job *job, int signo);
/* Lets go of the job; a running program runs on.  Accepts NULL. */
void spawn_job_free(struct spawn_job *job);
/* Is a spawner attached? */
bool spawn_available(struct spawn_client *c);

#endif
