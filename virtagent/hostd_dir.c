/*
 * hostd_dir.c - a guest's directory, RUNTIME/guests/ID
 *
 * The directory is ours and private, so the files in it are read with no more
 * suspicion than our own memory; guest.json is still bounded and parsed as any
 * JSON, since an older or newer version may have written it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/cleanup.h"
#include "common/daemon.h"
#include "common/file.h"
#include "common/str.h"
#include "virtagent/hostd_dir.h"
#include "virtagent/value.h"

#define RECORD_MAX (16u << 10)
#define LONGEST_SOCKET "/events.sock"

char *guest_dir_path(const char *id)
{
	return str_printf("%s/guests/%s", dir_runtime(), id);
}

static int open_to_group(const char *dir, gid_t gid)
{
	if (gid == (gid_t)-1)
		return 0;
	if (chown(dir, (uid_t)-1, gid) < 0 || chmod(dir, 0750) < 0)
		return -errno;
	return 0;
}

static int write_name(const char *dir, const char *name)
{
	CLEANUP_FREE char *line = str_printf("%s\n", name);

	return line ? file_replace(dir, "name", line, strlen(line), 0640) : -ENOMEM;
}

int guest_dir_make(const char *dir, const struct guest_spec *spec, gid_t gid,
		   char *err, size_t err_size)
{
	size_t longest = strlen(dir) + strlen(LONGEST_SOCKET);
	int res;

	if (longest >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		snprintf(err, err_size, "%s%s: a socket's path of %zu bytes; "
			 "at most %zu (choose a shorter runtime directory)",
			 dir, LONGEST_SOCKET, longest,
			 sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
		return -ENAMETOOLONG;
	}
	res = dir_make_private(dir);
	if (res == 0)
		res = open_to_group(dir, gid);
	if (res == 0)
		res = write_name(dir, spec->name);
	if (res < 0)
		snprintf(err, err_size, "%s: %s", dir, strerror(-res));
	return res;
}

void guest_dir_remove(const char *dir)
{
	static const char *const names[] = {
		"rpc.sock", "host.sock", "ctl.sock", "events.sock",
		"name", "guest.json",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		CLEANUP_FREE char *path = str_printf("%s/%s", dir, names[i]);

		if (path)
			unlink(path);
	}
	rmdir(dir);
}

static char *text_member(const struct va_value *v, const char *name)
{
	const char *text = "";

	va_get_string(va_member(v, name), &text);
	return strdup(text);
}

int guest_record_read(const char *dir, struct guest_record *ret)
{
	CLEANUP_FREE char *path = str_printf("%s/guest.json", dir);
	CLEANUP_BUF struct buf b = BUF_INIT(RECORD_MAX);
	CLEANUP_VALUE struct va_value *v = NULL;
	CLEANUP_CLOSE int fd = -1;
	char err[128];
	ssize_t n;
	int res;

	*ret = (struct guest_record){ 0 };
	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while ((n = buf_read_fd(&b, fd, RECORD_MAX)) > 0)
		;
	if (n < 0)
		return (int)n;
	res = va_from_json((const char *)buf_data(&b), buf_len(&b), &v, err,
			   sizeof(err));
	if (res < 0)
		return res;
	ret->name = text_member(v, "name");
	ret->channel = text_member(v, "channel");
	ret->qmp = text_member(v, "qmp");
	ret->uuid = text_member(v, "uuid");
	ret->mark = text_member(v, "mark");
	ret->agent = text_member(v, "agent");
	if (ret->name && ret->channel && ret->qmp && ret->uuid && ret->mark && ret->agent)
		return 0;
	guest_record_done(ret);
	return -ENOMEM;
}

int guest_record_write(const char *dir, const struct guest_spec *spec,
		       const char *agent)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	CLEANUP_BUF struct buf b = BUF_INIT(RECORD_MAX);
	int err;

	err = va_set(v, "name", va_string(spec->name));
	if (err == 0)
		err = va_set(v, "id", va_string(spec->id));
	if (err == 0)
		err = va_set(v, "channel", va_string(spec->channel));
	if (err == 0)
		err = va_set(v, "qmp", va_string(spec->qmp ? spec->qmp : ""));
	if (err == 0)
		err = va_set(v, "uuid",
			     va_string(spec->uuid ? spec->uuid : ""));
	if (err == 0)
		err = va_set(v, "mark",
			     va_string(spec->mark ? spec->mark : ""));
	if (err == 0)
		err = va_set(v, "agent", va_string(agent));
	if (err == 0)
		err = va_to_json(v, true, &b);
	if (err == 0)
		err = buf_puts(&b, "\n");
	return err < 0 ? err :
			 file_replace(dir, "guest.json", buf_data(&b),
				      buf_len(&b), 0640);
}

void guest_record_done(struct guest_record *r)
{
	free(r->name);
	free(r->channel);
	free(r->qmp);
	free(r->uuid);
	free(r->mark);
	free(r->agent);
	*r = (struct guest_record){ 0 };
}
