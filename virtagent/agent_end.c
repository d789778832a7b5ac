/*
 * agent_end.c - see agent_end.h
 *
 * The mark holds the boot's id: one that outlived a reboot, where the runtime
 * directory is on disk, says nothing of an agent of this boot.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/agent_end.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/str.h"
#include "virtagent/guest/procfs.h"

#define MARK "running"
#define SUPERVISOR "ended"
#define LINE_SIZE 128

void agent_end_status(struct agent_end *end, int status)
{
	end->seen = true;
	end->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	end->status = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

int agent_end_put(struct buf *b, const struct agent_end *end)
{
	int r = buf_put_u8(b, end->hung);

	if (r == 0)
		r = buf_put_u8(b, end->seen);
	if (r == 0)
		r = buf_put_u32(b, (uint32_t)end->signal);
	if (r == 0)
		r = buf_put_u32(b, (uint32_t)end->status);
	return r < 0 ? r : buf_put(b, end->process, sizeof(end->process));
}

int agent_end_get(struct buf *b, struct agent_end *ret)
{
	uint8_t hung, seen;
	uint32_t signo, status;

	if (buf_get_u8(b, &hung) < 0 || buf_get_u8(b, &seen) < 0 ||
	    buf_get_u32(b, &signo) < 0 || buf_get_u32(b, &status) < 0 ||
	    buf_get(b, ret->process, sizeof(ret->process)) < 0)
		return -EBADMSG;
	ret->process[sizeof(ret->process) - 1] = 0;
	ret->hung = hung;
	ret->seen = seen;
	ret->signal = (int)signo;
	ret->status = (int)status;
	return 0;
}

struct va_value *agent_end_value(const struct agent_end *end)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	int r = va_set(v, "process", va_string(end->process));

	if (r == 0)
		r = va_set(v, "reason", va_string(end->hung ? "hung" : "crashed"));
	if (r == 0 && end->seen && !end->hung)
		r = end->signal ? va_set(v, "signal", va_int(end->signal)) :
				  va_set(v, "status", va_int(end->status));
	return r < 0 ? NULL : take_ptr(v);
}

/* --- the endpoint's own --------------------------------------------------- */

static void path_of(char *ret, size_t size, const char *name)
{
	snprintf(ret, size, "%s/%s", dir_runtime(), name);
}

/* "SERVICE_RESULT EXIT_CODE EXIT_STATUS", as systemd's ExecStopPost= has them. */
static void take_supervisor(struct agent_end *end, const char *line)
{
	char result[32], code[32], status[32];
	int64_t number;

	if (sscanf(line, "%31s %31s %31s", result, code, status) != 3)
		return;
	end->hung = strcmp(result, "watchdog") == 0;
	if (strcmp(code, "exited") == 0) {
		if (str_to_i64(status, 0, 255, &number) < 0)
			return;
		end->status = (int)number;
	} else {
		end->signal = str_to_signal(status);
		if (end->signal < 0) {
			end->signal = 0;
			return;
		}
	}
	end->seen = true;
}

void agent_end_begin(struct agent_end *before)
{
	char mark[PATH_MAX], supervisor[PATH_MAX], line[LINE_SIZE];
	char boot[LINE_SIZE] = "-";
	CLEANUP_CLOSE int fd = -1;
	size_t n;

	*before = (struct agent_end){ .process = "" };
	path_of(mark, sizeof(mark), MARK);
	path_of(supervisor, sizeof(supervisor), SUPERVISOR);
	(void)procfs_line(AT_FDCWD, "/proc/sys/kernel/random/boot_id", boot,
			  sizeof(boot));
	if (procfs_line(AT_FDCWD, mark, line, sizeof(line)) == 0 &&
	    strcmp(line, boot) == 0) {
		snprintf(before->process, sizeof(before->process), "endpoint");
		if (procfs_line(AT_FDCWD, supervisor, line, sizeof(line)) == 0)
			take_supervisor(before, line);
	}
	unlink(supervisor);
	unlink(mark);
	fd = open(mark, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	n = strlen(boot);
	if (fd < 0 || write(fd, boot, n) != (ssize_t)n)
		log_warning("%s: %s: how this process ends will not be known", mark,
			    strerror(errno));
}

void agent_end_clean(void)
{
	char path[PATH_MAX];

	path_of(path, sizeof(path), MARK);
	unlink(path);
}
