/*
 * test-agent-spawner.c - programs start, end, are killed, and inherit nothing
 *
 * The spawner runs as a forked child of the case, the client in the case.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/lib/unit.h"
#include "virtagent/agent_ipc.h"
#include "virtagent/agent_spawn_client.h"
#include "virtagent/agent_spawner.h"

struct rig {
	struct spawn_client *client;
	pid_t spawner;
	int ctl;
};

static void rig_start(struct rig *rig)
{
	int ctl[2], srv[2];

	CHECK_INT(ipc_pair(ctl), 0);
	CHECK_INT(ipc_pair(srv), 0);
	rig->spawner = fork();
	if (rig->spawner == 0) {
		close(ctl[0]);
		close(srv[0]);
		_exit(agent_spawner_main(ctl[1], srv[1]));
	}
	close(ctl[1]);
	close(srv[1]);
	rig->ctl = ctl[0];
	rig->client = spawn_client_new();
	spawn_client_attach(rig->client, srv[0]);
}

static void rig_end(struct rig *rig)
{
	int status;

	spawn_client_free(rig->client);
	close(rig->ctl);
	CHECK_INT(waitpid(rig->spawner, &status, 0), rig->spawner);
	CHECK_INT(WIFEXITED(status) ? WEXITSTATUS(status) : 99, 0);
}

/* The case plays both threads of the server: it reads reports itself. */
static void pump(struct rig *rig, int fd, int ms)
{
	struct pollfd p[] = { { spawn_client_fd(rig->client), POLLIN, 0 },
			      { fd, POLLIN, 0 } };

	while (poll(p, 2, (int)(ms * clock_scale())) > 0 && !p[1].revents)
		spawn_client_input(rig->client);
	CHECK(p[1].revents & POLLIN);
}

/* A delayed start returns at once, so that the case can pump by itself. */
static struct spawn_job *start(struct rig *rig, struct spawn_request *rq)
{
	struct spawn_job *job = NULL;

	rq->delay_ns = 1;
	CHECK_INT(spawn_start(rig->client, rq, -1, NSEC_PER_SEC, &job), 0);
	return job;
}

static struct spawn_status run(struct rig *rig, struct spawn_request *rq)
{
	struct spawn_job *job = start(rig, rq);
	struct spawn_status st;

	pump(rig, spawn_job_fd(job), 8000);
	spawn_job_status(job, &st);
	spawn_job_free(job);
	return st;
}

#define SH(script)                                                             \
	{                                                                      \
		.argv = (const char *const[]){ "/bin/sh", "-c", script, NULL },\
		.fds = { -1, -1, -1 }                                          \
	}

TEST(an_exit_code_comes_back)
{
	struct spawn_request rq = SH("exit 42");
	struct spawn_status st;
	struct rig rig;

	rig_start(&rig);
	st = run(&rig, &rq);
	CHECK_INT(st.state, SPAWN_EXITED);
	CHECK_INT(st.code, 42);
	CHECK_INT(st.signal, 0);
	CHECK(st.pid > 1);
	rig_end(&rig);
}

TEST(a_signal_comes_back)
{
	struct spawn_request rq = SH("kill -SEGV $$");
	struct spawn_status st;
	struct rig rig;

	rig_start(&rig);
	st = run(&rig, &rq);
	CHECK_INT(st.state, SPAWN_EXITED);
	CHECK_INT(st.signal, SIGSEGV);
	CHECK(!st.timed_out);
	rig_end(&rig);
}

TEST(what_cannot_run_says_which_step_failed)
{
	const char *argv[] = { "/nonexistent/program", NULL };
	struct spawn_request rq = { .argv = argv, .fds = { -1, -1, -1 } };
	struct spawn_status st;
	struct rig rig;
	char path[128];
	int fd;

	rig_start(&rig);
	st = run(&rig, &rq);
	CHECK_INT(st.state, SPAWN_FAILED);
	CHECK_INT(st.error, -ENOENT);
	CHECK_STR(st.step, "exec");
	/* A file without a #! line is no program, and no shell is asked. */
	snprintf(path, sizeof(path), "%s/text", unit_tmpdir());
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	CHECK_INT(write(fd, "exit 3\n", 7), 7);
	CHECK_INT(fchmod(fd, 0755), 0);
	close(fd);
	argv[0] = path;
	st = run(&rig, &rq);
	CHECK_INT(st.state, SPAWN_FAILED);
	CHECK_INT(st.error, -ENOEXEC);
	argv[0] = "/bin/true";
	rq.cwd = "/nonexistent";
	st = run(&rig, &rq);
	CHECK_STR(st.step, "chdir");
	rig_end(&rig);
}

/* Runs with stdout on a pipe; what it wrote is in out. */
static struct spawn_status run_output(struct rig *rig, struct spawn_request *rq,
				      char *out, size_t size)
{
	struct spawn_status st;
	int fds[2];
	ssize_t n;

	CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
	rq->fds[1] = fds[1];
	st = run(rig, rq);
	close(fds[1]);
	n = read(fds[0], out, size - 1);
	out[n < 0 ? 0 : n] = 0;
	close(fds[0]);
	return st;
}

TEST(a_child_gets_descriptors_0_to_2_only)
{
	/* ls itself opens the directory as 3. */
	struct spawn_request rq = SH("exec ls /proc/self/fd");
	int extra[6];
	struct rig rig;
	char out[256];

	/* Not close-on-exec: careless code elsewhere must not matter. */
	for (int i = 0; i < 6; i++)
		extra[i] = open("/dev/null", O_RDONLY);
	rig_start(&rig);
	CHECK_INT(run_output(&rig, &rq, out, sizeof(out)).code, 0);
	CHECK_STR(out, "0\n1\n2\n3\n");
	for (int i = 0; i < 6; i++)
		close(extra[i]);
	rig_end(&rig);
}

TEST(a_child_gets_a_clean_state)
{
	struct spawn_request rq = SH("grep -E '^Sig(Blk|Ign)' /proc/self/status;"
				     "umask; pwd; ps -o sid= $$ | "
				     "xargs test $$ -eq && echo leader");
	const char *const env[] = { "X=1", "PATH=/usr/bin:/bin", NULL };
	unsigned long long blocked = 1, ignored = 1;
	struct rig rig;
	char out[512];
	int at = 0;

	rq.env = env;
	signal(SIGUSR1, SIG_IGN);
	rig_start(&rig);
	run_output(&rig, &rq, out, sizeof(out));
	CHECK_INT(sscanf(out, "SigBlk: %llx SigIgn: %llx%n", &blocked, &ignored,
			 &at), 2);
	CHECK(blocked == 0);
	/* 32 and 33 are the C library's own: it does not let us reset them. */
	CHECK((ignored & ~UINT64_C(0x180000000)) == 0);
	CHECK_STR(out + at, "\n0022\n/\nleader\n");
	rig_end(&rig);
}

TEST(the_environment_is_what_was_given)
{
	const char *const argv[] = { "env", NULL };
	const char *const env[] = { "PATH=/bin:/usr/bin", "A=b c", NULL };
	struct spawn_request rq = { .argv = argv, .env = env,
				    .fds = { -1, -1, -1 } };
	struct rig rig;
	char out[512];

	setenv("SECRET", "1", 1);
	rig_start(&rig);
	CHECK_INT(run_output(&rig, &rq, out, sizeof(out)).code, 0);
	CHECK_STR(out, "PATH=/bin:/usr/bin\nA=b c\n");
	rq.env = NULL;
	CHECK_INT(run_output(&rig, &rq, out, sizeof(out)).code, 0);
	CHECK(strncmp(out, "PATH=", 5) == 0);
	CHECK(!strstr(out, "SECRET"));
	rig_end(&rig);
}

TEST(a_time_limit_kills_the_whole_group)
{
	/* The shell ignores SIGTERM and has a child: both go. */
	struct spawn_request rq = SH("trap '' TERM; sleep 60 & echo $!; wait;"
				     "sleep 60");
	uint64_t begin = clock_now();
	struct spawn_status st;
	struct rig rig;
	char out[64];
	pid_t child;

	rig_start(&rig);
	/* Long enough for a slow shell to have set its trap. */
	rq.timeout_ns = (uint64_t)(NSEC_PER_SEC / 2 * clock_scale());
	st = run_output(&rig, &rq, out, sizeof(out));
	CHECK_INT(st.state, SPAWN_EXITED);
	CHECK_INT(st.signal, SIGKILL);
	CHECK(st.timed_out);
	CHECK(clock_now() - begin >= SPAWN_GRACE_NS);
	child = (pid_t)atoi(out);
	CHECK(child > 1);
	for (int i = 0; i < 200 && kill(child, 0) == 0; i++) {
		char path[64], state[512] = "";
		int fd;

		/* Killed, but whose child it is now may not reap it. */
		snprintf(path, sizeof(path), "/proc/%d/stat", (int)child);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			CHECK(read(fd, state, sizeof(state) - 1) >= 0);
			close(fd);
		}
		if (fd < 0 || strstr(state, ") Z "))
			break;
		CHECK(i < 199);
		poll(NULL, 0, 10);
	}
	rig_end(&rig);
}

TEST(a_job_is_killed_on_request)
{
	struct spawn_request rq = SH("exec sleep 60");
	struct spawn_status st;
	struct spawn_job *job;
	struct rig rig;

	rig_start(&rig);
	job = start(&rig, &rq);
	do {
		struct pollfd p = { spawn_client_fd(rig.client), POLLIN, 0 };

		CHECK(poll(&p, 1, 5000) == 1);
		spawn_client_input(rig.client);
		spawn_job_status(job, &st);
	} while (st.state == SPAWN_STARTING);
	CHECK_INT(spawn_job_kill(job, SIGTERM), 0);
	pump(&rig, spawn_job_fd(job), 5000);
	spawn_job_status(job, &st);
	CHECK_INT(st.signal, SIGTERM);
	CHECK_INT(spawn_job_kill(job, SIGTERM), -ESRCH);
	spawn_job_free(job);
	rig_end(&rig);
}

TEST(a_dead_spawner_loses_its_jobs_aloud)
{
	struct spawn_request rq = SH("exec sleep 60");
	struct spawn_status st;
	struct spawn_job *job;
	struct rig rig;
	pid_t pid;

	rig_start(&rig);
	job = start(&rig, &rq);
	do {
		struct pollfd p = { spawn_client_fd(rig.client), POLLIN, 0 };

		CHECK(poll(&p, 1, 5000) == 1);
		spawn_client_input(rig.client);
		spawn_job_status(job, &st);
	} while (st.state == SPAWN_STARTING);
	pid = st.pid;
	kill(rig.spawner, SIGKILL);
	CHECK_INT(waitpid(rig.spawner, NULL, 0), rig.spawner);
	pump(&rig, spawn_job_fd(job), 5000);
	spawn_job_status(job, &st);
	CHECK_INT(st.state, SPAWN_LOST);
	CHECK_INT(st.pid, pid);
	CHECK(!spawn_available(rig.client));
	CHECK_INT(spawn_start(rig.client, &rq, -1, NSEC_PER_MSEC, &job), -EAGAIN);
	kill(pid, SIGKILL);
	spawn_job_free(job);
	spawn_client_free(rig.client);
	close(rig.ctl);
}

TEST(jobs_end_with_their_server_unless_kept)
{
	struct spawn_request gone = SH("echo $$; exec sleep 60");
	struct spawn_request kept = SH("sleep 0.3; echo kept");
	int a[2], b[2];
	char out[64];
	struct rig rig;

	/* First, or the spawner would have the pipes too. */
	rig_start(&rig);
	CHECK_INT(pipe2(a, O_CLOEXEC), 0);
	CHECK_INT(pipe2(b, O_CLOEXEC), 0);
	gone.fds[1] = a[1];
	kept.fds[1] = b[1];
	kept.flags = SPAWN_KEEP;
	spawn_job_free(start(&rig, &gone));
	spawn_job_free(start(&rig, &kept));
	close(a[1]);
	close(b[1]);
	CHECK(read(a[0], out, sizeof(out)) > 0); /* it runs */
	spawn_client_attach(rig.client, -1);
	CHECK_INT(read(a[0], out, sizeof(out)), 0); /* it was killed */
	CHECK_INT(read(b[0], out, sizeof(out)), 5);
	close(a[0]);
	close(b[0]);
	rig_end(&rig);
}

TEST(too_many_jobs_are_refused)
{
	struct spawn_request rq = SH("exec sleep 60");
	struct spawn_job *jobs[SPAWN_JOBS_MAX], *extra;
	struct spawn_status st;
	struct rig rig;

	rig_start(&rig);
	for (unsigned i = 0; i < SPAWN_JOBS_MAX; i++)
		jobs[i] = start(&rig, &rq);
	extra = start(&rig, &rq);
	pump(&rig, spawn_job_fd(extra), 5000);
	spawn_job_status(extra, &st);
	CHECK_INT(st.state, SPAWN_FAILED);
	CHECK_INT(st.error, -EAGAIN);
	spawn_job_free(extra);
	for (unsigned i = 0; i < SPAWN_JOBS_MAX; i++)
		spawn_job_free(jobs[i]);
	rig_end(&rig);
}

TEST(the_heartbeat_is_answered)
{
	CLEANUP_IPC_MSG struct ipc_msg m = IPC_MSG_INIT;
	struct pollfd p;
	uint64_t n = 0;
	struct rig rig;

	rig_start(&rig);
	CHECK_INT(ipc_send_u64(rig.ctl, IPC_PING, 77), 0);
	p = (struct pollfd){ rig.ctl, POLLIN, 0 };
	CHECK_INT(poll(&p, 1, 5000), 1);
	CHECK_INT(ipc_recv(rig.ctl, &m), 1);
	CHECK_INT(m.type, IPC_PONG);
	CHECK_INT(buf_get_u64(&m.body, &n), 0);
	CHECK_INT(n, 77);
	rig_end(&rig);
}

UNIT_MAIN(CASE(an_exit_code_comes_back), CASE(a_signal_comes_back),
	  CASE(what_cannot_run_says_which_step_failed),
	  CASE(a_child_gets_descriptors_0_to_2_only),
	  CASE(a_child_gets_a_clean_state),
	  CASE(the_environment_is_what_was_given),
	  CASE(a_time_limit_kills_the_whole_group),
	  CASE(a_job_is_killed_on_request),
	  CASE(a_dead_spawner_loses_its_jobs_aloud),
	  CASE(jobs_end_with_their_server_unless_kept),
	  CASE(too_many_jobs_are_refused), CASE(the_heartbeat_is_answered))
