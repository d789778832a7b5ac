/*
 * power_plan.c - see power_plan.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/power_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/str.h"
#include "virtagent/guest/procfs.h"

/* The message and six short lines. */
#define PLAN_BYTES_MAX 1024u
#define MESSAGE "MESSAGE="

static int write_all(const char *path, const char *text)
{
	size_t n = strlen(text);
	CLEANUP_CLOSE int fd = -1;

	/* Left by one who was killed here. */
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	return write(fd, text, n) == (ssize_t)n ? 0 : -ENOSPC;
}

int power_plan_write(const char *path, const char *boot_id,
		     const struct power_plan *p)
{
	char text[PLAN_BYTES_MAX], part[PATH_MAX];
	int r;

	snprintf(text, sizeof(text),
		 "BOOT=%s\nSTATE=%s\nMODE=%s\nBY=%s\nUID=%" PRId64
		 "\nDUE=%" PRIu64 "\n" MESSAGE "%s",
		 boot_id, p->begun ? "begun" : "waiting", p->mode, p->by, p->uid,
		 p->due_ns, p->message);
	if (snprintf(part, sizeof(part), "%s.part", path) >= (int)sizeof(part))
		return -ENAMETOOLONG;
	r = write_all(part, text);
	if (r == 0 && rename(part, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(part);
	return r;
}

/* One line; the boot it is of goes to boot. */
static int take_line(struct power_plan *p, char *boot, size_t size, const char *line)
{
	const char *value = strchr(line, '=');

	if (!value)
		return -EBADMSG;
	value++;
	if (str_starts(line, "BOOT="))
		snprintf(boot, size, "%s", value);
	else if (str_starts(line, "STATE="))
		p->begun = strcmp(value, "begun") == 0;
	else if (str_starts(line, "MODE="))
		snprintf(p->mode, sizeof(p->mode), "%s", value);
	else if (str_starts(line, "BY="))
		snprintf(p->by, sizeof(p->by), "%s", value);
	else if (str_starts(line, "UID="))
		return str_to_i64(value, 0, UINT32_MAX, &p->uid) ? -EBADMSG : 0;
	else if (str_starts(line, "DUE="))
		return str_to_u64(value, UINT64_MAX - 1, &p->due_ns) ? -EBADMSG : 0;
	return 0;
}

int power_plan_read(const char *path, const char *boot_id, struct power_plan *ret)
{
	CLEANUP_BUF struct buf b = BUF_INIT(PLAN_BYTES_MAX);
	struct power_plan p = { .uid = -1 };
	char boot[64] = "", *text, *message, *line;
	int r = procfs_read(AT_FDCWD, path, &b);

	if (r < 0)
		return r;
	text = (char *)(uintptr_t)buf_cstr(&b);
	message = text ? strstr(text, "\n" MESSAGE) : NULL;
	if (!message)
		return text ? -EBADMSG : -ENOMEM;
	*message = '\0';
	message += 1 + strlen(MESSAGE);
	if (strlen(message) > POWER_MESSAGE_MAX)
		return -EBADMSG;
	snprintf(p.message, sizeof(p.message), "%s", message);
	while ((line = procfs_next_line(&text)) != NULL) {
		r = take_line(&p, boot, sizeof(boot), line);
		if (r < 0)
			return r;
	}
	if (strcmp(boot, boot_id) != 0)
		return -ENOENT;
	if (!p.mode[0] || !p.by[0] || p.uid < 0 || !p.due_ns)
		return -EBADMSG;
	*ret = p;
	return 0;
}
