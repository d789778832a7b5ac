/*
 * facts.c - what system this is: osinfo, hostname, timezone, uptime, load,
 * memory, users
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>

#include "common/clock.h"
#include "virtagent/guest/path.h"
#include "virtagent/guest/procfs.h"

#define FACT_FILE_MAX (64u << 10)
#define USERS_MAX 1000

/* A value of os-release(5): unquoted, backslashes taken out. */
static void unquote(char *s)
{
	char quote = *s == '"' || *s == '\'' ? *s : 0;
	char *from = s + (quote != 0), *to = s;

	while (*from && *from != quote) {
		if (*from == '\\' && from[1] && quote != '\'')
			from++;
		*to++ = *from++;
	}
	*to = 0;
}

static int os_release(struct va_value *v)
{
	static const struct {
		const char *key, *member;
	} keys[] = {
		{ "ID", "id" },
		{ "NAME", "name" },
		{ "PRETTY_NAME", "pretty_name" },
		{ "VERSION", "version" },
		{ "VERSION_ID", "version_id" },
		{ "VERSION_CODENAME", "codename" },
		{ "VARIANT", "variant" },
		{ "VARIANT_ID", "variant_id" },
	};
	CLEANUP_BUF struct buf b = BUF_INIT(FACT_FILE_MAX);
	char *text, *line, *equals;
	int r = 0;

	if (procfs_read(AT_FDCWD, "/etc/os-release", &b) < 0 &&
	    procfs_read(AT_FDCWD, "/usr/lib/os-release", &b) < 0)
		return 0;
	text = (char *)buf_cstr(&b);
	while ((line = procfs_next_line(&text))) {
		equals = strchr(line, '=');
		if (!equals)
			continue;
		*equals = 0;
		unquote(equals + 1);
		for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
			if (!strcmp(line, keys[i].key))
				r |= va_set(v, keys[i].member,
					    va_string(equals + 1));
	}
	return r;
}

static int guest_osinfo(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	struct utsname u;
	char line[256];
	int r;

	r = os_release(v);
	/* Systems older than os-release(5). */
	if (!va_member(v, "pretty_name") &&
	    (procfs_line(AT_FDCWD, "/etc/redhat-release", line, sizeof(line)) == 0 ||
	     procfs_line(AT_FDCWD, "/etc/issue", line, sizeof(line)) == 0))
		r |= va_set(v, "pretty_name", va_string(line));
	if (uname(&u) < 0)
		return -errno;
	r |= va_set(v, "kernel", va_string(u.sysname));
	r |= va_set(v, "kernel_release", va_string(u.release));
	r |= va_set(v, "kernel_version", va_string(u.version));
	r |= va_set(v, "machine", va_string(u.machine));
	r |= va_set(v, "hostname", guest_text(u.nodename));
	return guest_give(&v, r, ret);
}

static int guest_hostname(struct va_call *call, struct va_value **ret)
{
	char name[256] = "";

	if (gethostname(name, sizeof(name) - 1) < 0)
		return -errno;
	*ret = guest_text(name);
	return *ret ? 0 : -ENOMEM;
}

static int guest_timezone(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	time_t now = time(NULL);
	char target[PATH_MAX];
	struct tm tm;
	ssize_t n;
	int r = 0;

	/* The zone may have been changed since the agent started. */
	tzset();
	if (!localtime_r(&now, &tm))
		return -EOVERFLOW;
	r |= va_set(v, "abbreviation", va_string(tm.tm_zone ? tm.tm_zone : ""));
	r |= va_set(v, "offset", va_int(tm.tm_gmtoff));
	r |= va_set(v, "dst", va_bool(tm.tm_isdst > 0));
	n = readlink("/etc/localtime", target, sizeof(target) - 1);
	if (n > 0) {
		char *zone;

		target[n] = 0;
		zone = strstr(target, "zoneinfo/");
		if (zone)
			r |= va_set(v, "zone", guest_text(zone + 9));
	}
	return guest_give(&v, r, ret);
}

static int guest_uptime(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	char line[64], boot_id[64];
	double up;
	int r;

	r = procfs_line(AT_FDCWD, "/proc/uptime", line, sizeof(line));
	if (r < 0)
		return va_fail(call, -r, "/proc/uptime: %s", strerror(-r));
	up = strtod(line, NULL);
	r = va_set(v, "seconds", va_double(up));
	r |= va_set(v, "booted", va_int((int64_t)(clock_wall() - up)));
	r |= va_set(v, "now", va_double(clock_wall()));
	if (procfs_line(AT_FDCWD, "/proc/sys/kernel/random/boot_id", boot_id,
			sizeof(boot_id)) == 0)
		r |= va_set(v, "boot_id", va_string(boot_id));
	return guest_give(&v, r, ret);
}

static int guest_load(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	double load[3];
	int r = 0;

	if (getloadavg(load, 3) != 3)
		return va_fail(call, ENOSYS, "the load average is not available");
	r |= va_set(v, "load1", va_double(load[0]));
	r |= va_set(v, "load5", va_double(load[1]));
	r |= va_set(v, "load15", va_double(load[2]));
	r |= va_set(v, "cpus", va_int(sysconf(_SC_NPROCESSORS_ONLN)));
	return guest_give(&v, r, ret);
}

static int guest_memory(struct va_call *call, struct va_value **ret)
{
	static const struct {
		const char *key, *member;
	} keys[] = {
		{ "MemTotal", "total" },     { "MemFree", "free" },
		{ "MemAvailable", "available" }, { "Buffers", "buffers" },
		{ "Cached", "cached" },	     { "Shmem", "shared" },
		{ "SwapTotal", "swap_total" }, { "SwapFree", "swap_free" },
	};
	CLEANUP_BUF struct buf b = BUF_INIT(FACT_FILE_MAX);
	CLEANUP_VALUE struct va_value *v = va_struct();
	char *text, *line, *colon;
	int r;

	r = procfs_read(AT_FDCWD, "/proc/meminfo", &b);
	if (r < 0)
		return va_fail(call, -r, "/proc/meminfo: %s", strerror(-r));
	text = (char *)buf_cstr(&b);
	while ((line = procfs_next_line(&text))) {
		colon = strchr(line, ':');
		if (!colon)
			continue;
		*colon = 0;
		for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
			if (!strcmp(line, keys[i].key))
				r |= va_set(v, keys[i].member,
					    va_int((int64_t)strtoull(colon + 1, NULL, 10) * 1024));
	}
	return guest_give(&v, r, ret);
}

static struct va_value *session_value(const struct utmp *u)
{
	CLEANUP_VALUE struct va_value *v = va_struct();
	char text[UT_HOSTSIZE + 1];
	int r = 0;

	snprintf(text, sizeof(text), "%.*s", (int)UT_NAMESIZE, u->ut_user);
	r |= va_set(v, "user", guest_text(text));
	snprintf(text, sizeof(text), "%.*s", (int)UT_LINESIZE, u->ut_line);
	r |= va_set(v, "tty", guest_text(text));
	snprintf(text, sizeof(text), "%.*s", (int)UT_HOSTSIZE, u->ut_host);
	r |= va_set(v, "from", guest_text(text));
	r |= va_set(v, "pid", va_int(u->ut_pid));
	r |= va_set(v, "since", va_int(u->ut_tv.tv_sec));
	return r < 0 ? NULL : take_ptr(v);
}

static int guest_users(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_array();
	CLEANUP_FCLOSE FILE *f = fopen(_PATH_UTMP, "re");
	struct utmp u;
	int r = v ? 0 : -ENOMEM;

	/* A system without utmp has no record of who is logged in. */
	while (r == 0 && f && fread(&u, sizeof(u), 1, f) == 1)
		if (u.ut_type == USER_PROCESS && va_count(v) < USERS_MAX)
			r = va_append(v, session_value(&u));
	return guest_give(&v, r, ret);
}

static const struct va_method methods[] = {
	{ "guest.osinfo", "S:", "", VA_CLASS_READ, guest_osinfo, NULL,
	  "operating system, kernel, machine",
	  "From os-release(5) and uname(2): id, name, pretty_name, version, "
	  "version_id, codename, variant, variant_id (those that are set), kernel, "
	  "kernel_release, kernel_version, machine, hostname.",
	  VA_M_IDEMPOTENT },
	{ "guest.hostname", "x:", "", VA_CLASS_READ, guest_hostname, NULL,
	  "the guest's host name", "As gethostname(2) gives it.", VA_M_IDEMPOTENT },
	{ "guest.timezone", "S:", "", VA_CLASS_READ, guest_timezone, NULL,
	  "time zone and offset",
	  "Returns offset (seconds east of UTC), abbreviation, dst and, when "
	  "/etc/localtime is a link, zone.",
	  VA_M_IDEMPOTENT },
	{ "guest.uptime", "S:", "", VA_CLASS_READ, guest_uptime, NULL,
	  "time since boot, boot id",
	  "Returns seconds, booted and now (seconds since 1970), boot_id.",
	  VA_M_IDEMPOTENT },
	{ "guest.load", "S:", "", VA_CLASS_READ, guest_load, NULL, "load average",
	  "Returns load1, load5, load15 and cpus (online).", VA_M_IDEMPOTENT },
	{ "guest.memory", "S:", "", VA_CLASS_READ, guest_memory, NULL,
	  "memory and swap, in bytes",
	  "Returns total, free, available (kernels from 3.14 on), buffers, cached, "
	  "shared, swap_total, swap_free.",
	  VA_M_IDEMPOTENT },
	{ "guest.users", "A:", "", VA_CLASS_READ, guest_users, NULL,
	  "who is logged in",
	  "An array of structs user, tty, from, pid, since; empty on systems that "
	  "keep no utmp.",
	  VA_M_IDEMPOTENT },
};

const struct va_family guest_facts_family = {
	methods, sizeof(methods) / sizeof(methods[0])
};
