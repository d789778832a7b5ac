/*
 * ids.c - see ids.h
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/ids.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/str.h"

/* Room for one line of either file; longer ones are passed over by libc. */
#define ENTRY_BYTES 16384

typedef bool (*passwd_match)(const struct passwd *pw, const void *key);
typedef bool (*group_match)(const struct group *gr, const void *key);

static bool user_named(const struct passwd *pw, const void *key)
{
	return strcmp(pw->pw_name, key) == 0;
}

static bool user_numbered(const struct passwd *pw, const void *key)
{
	return pw->pw_uid == *(const uint32_t *)key;
}

static bool group_named(const struct group *gr, const void *key)
{
	return strcmp(gr->gr_name, key) == 0;
}

static bool group_numbered(const struct group *gr, const void *key)
{
	return gr->gr_gid == *(const uint32_t *)key;
}

static int find_passwd(passwd_match match, const void *key, struct passwd *ret,
		       char mem[ENTRY_BYTES])
{
	CLEANUP_FCLOSE FILE *f = fopen("/etc/passwd", "re");
	struct passwd *pw;

	if (!f)
		return -errno;
	while (fgetpwent_r(f, ret, mem, ENTRY_BYTES, &pw) == 0)
		if (match(pw, key))
			return 0;
	return -ENOENT;
}

static int find_group(group_match match, const void *key, struct group *ret,
		      char mem[ENTRY_BYTES])
{
	CLEANUP_FCLOSE FILE *f = fopen("/etc/group", "re");
	struct group *gr;

	if (!f)
		return -errno;
	while (fgetgrent_r(f, ret, mem, ENTRY_BYTES, &gr) == 0)
		if (match(gr, key))
			return 0;
	return -ENOENT;
}

int guest_lookup_id(struct va_call *call, const char *name, bool group,
		    int64_t *ret)
{
	CLEANUP_FREE char *mem = malloc(ENTRY_BYTES);
	char shown[100];
	struct passwd pw;
	struct group gr;
	int r;

	if (!mem)
		return -ENOMEM;
	r = group ? find_group(group_named, name, &gr, mem) :
		    find_passwd(user_named, name, &pw, mem);
	if (r < 0) {
		log_escape(shown, sizeof(shown), name, strlen(name));
		return va_fail(call, -r, "there is no %s \"%s\" in %s",
			       group ? "group" : "user", shown,
			       group ? "/etc/group" : "/etc/passwd");
	}
	*ret = group ? (int64_t)gr.gr_gid : (int64_t)pw.pw_uid;
	return 0;
}

static void add_group(struct guest_user *u, gid_t gid)
{
	for (size_t i = 0; i < u->ngroups; i++)
		if (u->groups[i] == gid)
			return;
	if (u->ngroups < GUEST_GROUPS_MAX)
		u->groups[u->ngroups++] = gid;
}

static void find_groups(struct guest_user *u, char mem[ENTRY_BYTES])
{
	CLEANUP_FCLOSE FILE *f = fopen("/etc/group", "re");
	struct group gr, *found;

	add_group(u, u->gid);
	if (!f)
		return;
	while (fgetgrent_r(f, &gr, mem, ENTRY_BYTES, &found) == 0)
		for (char **m = found->gr_mem; *m; m++)
			if (strcmp(*m, u->name) == 0)
				add_group(u, found->gr_gid);
}

int guest_user_find(const char *name, struct guest_user *ret)
{
	CLEANUP_FREE char *mem = malloc(ENTRY_BYTES);
	struct guest_user u = { .ngroups = 0 };
	struct passwd pw;
	uint64_t number;
	uint32_t uid = 0;
	bool numeric = str_to_u64(name, UINT32_MAX - 1, &number) == 0;
	int r;

	if (!mem)
		return -ENOMEM;
	if (numeric)
		uid = (uint32_t)number;
	r = numeric ? find_passwd(user_numbered, &uid, &pw, mem) :
		      find_passwd(user_named, name, &pw, mem);
	if (r < 0 && !numeric)
		return r;
	if (r < 0) {
		u.uid = uid;
		u.gid = uid;
		snprintf(u.name, sizeof(u.name), "%u", uid);
		snprintf(u.home, sizeof(u.home), "/");
	} else {
		u.uid = pw.pw_uid;
		u.gid = pw.pw_gid;
		snprintf(u.name, sizeof(u.name), "%s", pw.pw_name);
		snprintf(u.home, sizeof(u.home), "%s", pw.pw_dir);
		snprintf(u.shell, sizeof(u.shell), "%s", pw.pw_shell);
	}
	find_groups(&u, mem);
	*ret = u;
	return 0;
}

void guest_id_name(uint32_t id, bool group, char *ret, size_t size)
{
	CLEANUP_FREE char *mem = malloc(ENTRY_BYTES);
	struct passwd pw;
	struct group gr;

	snprintf(ret, size, "%u", id);
	if (!mem)
		return;
	if (group && find_group(group_numbered, &id, &gr, mem) == 0)
		snprintf(ret, size, "%s", gr.gr_name);
	else if (!group && find_passwd(user_numbered, &id, &pw, mem) == 0)
		snprintf(ret, size, "%s", pw.pw_name);
}
