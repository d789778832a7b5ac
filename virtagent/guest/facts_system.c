/*
 * facts_system.c - what runs and hangs on this system: processes, network
 * interfaces, file systems, disks
 *
 * A file system whose server is gone makes statvfs(2) block for ever; so the
 * list names every mount, and sizes are asked only of file systems on local
 * devices (and of memory), unless the caller asks for one mount by name.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "virtagent/guest/guest.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/str.h"
#include "virtagent/guest/ids.h"
#include "virtagent/guest/path.h"
#include "virtagent/guest/procfs.h"

#define LIST_MAX 1000 /* entries a call */
#define MOUNTS_BYTES (1u << 20)

/* --- processes ---------------------------------------------------------- */

static int cmp_pid(const void *a, const void *b)
{
	return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

/* Every pid above the cursor, sorted; *more when they passed the limit. */
static int list_pids(DIR *proc, int64_t cursor, int **ret, size_t *count)
{
	CLEANUP_FREE int *pids = NULL;
	size_t n = 0, room = 0;
	struct dirent *e;
	int64_t pid;

	while ((e = readdir(proc))) {
		if (!isdigit((unsigned char)e->d_name[0]) ||
		    str_to_i64(e->d_name, 1, INT32_MAX, &pid) < 0 || pid <= cursor)
			continue;
		if (n == room) {
			int *grown = realloc(pids, (room = room ? room * 2 : 256) *
							   sizeof(*pids));

			if (!grown)
				return -ENOMEM;
			pids = grown;
		}
		pids[n++] = (int)pid;
	}
	if (n)
		qsort(pids, n, sizeof(*pids), cmp_pid);
	*ret = take_ptr(pids);
	*count = n;
	return 0;
}

/* /proc/PID/stat: the name stands in parentheses and may hold anything. */
static int stat_fields(struct va_value *v, char *text)
{
	char *open = strchr(text, '('), *close = strrchr(text, ')');
	unsigned long long utime, stime, start, vsize;
	long long rss, ppid;
	char state;
	int r = 0;

	if (!open || !close || close < open)
		return -EINVAL;
	*close = 0;
	if (sscanf(close + 1,
		   " %c %lld %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d "
		   "%*d %*d %*d %*d %llu %llu %lld",
		   &state, &ppid, &utime, &stime, &start, &vsize, &rss) != 7)
		return -EINVAL;
	r |= va_set(v, "name", guest_text(open + 1));
	r |= va_set(v, "state", va_string_n(&state, 1));
	r |= va_set(v, "ppid", va_int(ppid));
	r |= va_set(v, "cpu_seconds",
		    va_double((double)(utime + stime) / (double)sysconf(_SC_CLK_TCK)));
	r |= va_set(v, "started_ticks", va_int((int64_t)start));
	r |= va_set(v, "vsize", va_int((int64_t)vsize));
	r |= va_set(v, "rss", va_int(rss * sysconf(_SC_PAGESIZE)));
	return r;
}

static struct va_value *process_value(DIR *proc, int pid)
{
	CLEANUP_BUF struct buf b = BUF_INIT(4096);
	CLEANUP_VALUE struct va_value *v = va_struct();
	char path[64], user[64];
	struct stat st;
	size_t n;
	int r = 0;

	snprintf(path, sizeof(path), "%d/stat", pid);
	if (procfs_read(dirfd(proc), path, &b) < 0 || !buf_cstr(&b) ||
	    stat_fields(v, (char *)buf_cstr(&b)) < 0)
		return NULL;
	r |= va_set(v, "pid", va_int(pid));
	snprintf(path, sizeof(path), "%d", pid);
	if (fstatat(dirfd(proc), path, &st, 0) == 0) {
		guest_id_name(st.st_uid, false, user, sizeof(user));
		r |= va_set(v, "uid", va_int(st.st_uid));
		r |= va_set(v, "user", guest_text(user));
	}
	snprintf(path, sizeof(path), "%d/cmdline", pid);
	buf_reset(&b);
	if (procfs_read(dirfd(proc), path, &b) == 0 && (n = buf_len(&b)) > 0) {
		char *args = (char *)buf_cstr(&b);

		while (n > 0 && !args[n - 1])
			n--;
		for (size_t i = 0; i < n; i++)
			if (!args[i])
				args[i] = ' ';
		r |= va_set(v, "command", str_is_clean_text(args, n, "") ?
					  va_string_n(args, n) : va_bytes(args, n));
	}
	return r < 0 ? NULL : take_ptr(v);
}

static int guest_processes(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_struct(), *list = va_array();
	CLEANUP_CLOSEDIR DIR *proc = opendir("/proc");
	CLEANUP_FREE int *pids = NULL;
	int64_t cursor, limit, last = 0;
	size_t count = 0, i;
	int r;

	r = va_arg_int(call, 0, 0, 0, INT32_MAX, &cursor);
	if (r == 0)
		r = va_arg_int(call, 1, LIST_MAX, 1, LIST_MAX, &limit);
	if (r < 0)
		return r;
	if (!proc)
		return va_fail(call, errno, "/proc: %s", strerror(errno));
	r = list_pids(proc, cursor, &pids, &count);
	for (i = 0; r == 0 && i < count && va_count(list) < (size_t)limit; i++) {
		struct va_value *one = process_value(proc, pids[i]);

		last = pids[i];
		if (one) /* else it ended meanwhile */
			r = va_append(list, one);
	}
	r |= va_set(v, "processes", take_ptr(list));
	r |= va_set(v, "cursor", va_int(last));
	r |= va_set(v, "eof", va_bool(i == count));
	return guest_give(&v, r, ret);
}

/* --- network ------------------------------------------------------------ */

static unsigned prefix_of(const struct sockaddr *mask)
{
	const uint8_t *p;
	size_t n;
	unsigned bits = 0;

	if (!mask)
		return 0;
	if (mask->sa_family == AF_INET6) {
		p = ((const struct sockaddr_in6 *)(const void *)mask)->sin6_addr.s6_addr;
		n = 16;
	} else {
		p = (const uint8_t *)&((const struct sockaddr_in *)(const void *)mask)->sin_addr;
		n = 4;
	}
	for (size_t i = 0; i < n; i++)
		bits += (unsigned)__builtin_popcount(p[i]);
	return bits;
}

static struct va_value *address_value(const struct ifaddrs *a)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	char text[INET6_ADDRSTRLEN];
	int family = a->ifa_addr->sa_family;
	const void *raw = family == AF_INET6 ?
		(const void *)&((const struct sockaddr_in6 *)(const void *)a->ifa_addr)->sin6_addr :
		(const void *)&((const struct sockaddr_in *)(const void *)a->ifa_addr)->sin_addr;
	int r = 0;

	if (!inet_ntop(family, raw, text, sizeof(text)))
		return NULL;
	v = va_struct();
	r |= va_set(v, "address", va_string(text));
	r |= va_set(v, "family", va_string(family == AF_INET6 ? "ipv6" : "ipv4"));
	r |= va_set(v, "prefix", va_int(prefix_of(a->ifa_netmask)));
	return r < 0 ? NULL : take_ptr(v);
}

/* Numbers below /sys/class/net/NAME, those that are there. */
static int interface_facts(struct va_value *v, const char *name)
{
	static const char *const counters[] = {
		"rx_bytes", "rx_packets", "rx_errors", "rx_dropped",
		"tx_bytes", "tx_packets", "tx_errors", "tx_dropped",
	};
	char path[160], line[64];
	uint64_t number;
	int r = 0;

	snprintf(path, sizeof(path), "/sys/class/net/%s/address", name);
	if (procfs_line(AT_FDCWD, path, line, sizeof(line)) == 0)
		r |= va_set(v, "mac", va_string(line));
	snprintf(path, sizeof(path), "/sys/class/net/%s/operstate", name);
	if (procfs_line(AT_FDCWD, path, line, sizeof(line)) == 0)
		r |= va_set(v, "state", va_string(line));
	snprintf(path, sizeof(path), "/sys/class/net/%s/mtu", name);
	if (procfs_u64(AT_FDCWD, path, &number) == 0)
		r |= va_set(v, "mtu", va_int((int64_t)number));
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		snprintf(path, sizeof(path), "/sys/class/net/%s/statistics/%s",
			 name, counters[i]);
		if (procfs_u64(AT_FDCWD, path, &number) == 0)
			r |= va_set(v, counters[i], va_int((int64_t)number));
	}
	return r;
}

static struct va_value *interface_value(const char *name, unsigned index,
					const struct ifaddrs *all)
{
	CLEANUP_VALUE struct va_value *v = va_struct(), *addresses = va_array();
	int r = 0;

	r |= va_set(v, "name", guest_text(name));
	r |= va_set(v, "index", va_int(index));
	r |= interface_facts(v, name);
	for (const struct ifaddrs *a = all; a; a = a->ifa_next)
		if (a->ifa_addr && !strcmp(a->ifa_name, name) &&
		    (a->ifa_addr->sa_family == AF_INET ||
		     a->ifa_addr->sa_family == AF_INET6))
			r |= va_append(addresses, address_value(a));
	r |= va_set(v, "addresses", take_ptr(addresses));
	return r < 0 ? NULL : take_ptr(v);
}

static int guest_interfaces(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_array();
	struct if_nameindex *names = if_nameindex();
	struct ifaddrs *all = NULL;
	int r = v ? 0 : -ENOMEM;

	if (!names)
		return va_fail(call, errno, "the interfaces cannot be listed: %s",
			       strerror(errno));
	if (getifaddrs(&all) < 0)
		all = NULL;
	for (size_t i = 0; r == 0 && names[i].if_index && i < LIST_MAX; i++)
		r = va_append(v, interface_value(names[i].if_name,
						 names[i].if_index, all));
	if (all)
		freeifaddrs(all);
	if_freenameindex(names);
	return guest_give(&v, r, ret);
}

/* --- file systems ------------------------------------------------------- */

/* Undoes the \ooo of /proc/self/mounts, in place. */
static void unescape_octal(char *s)
{
	char *to = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' &&
		    s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + s[3] - '0');
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = 0;
}

static bool is_safe_to_ask(const char *source, const char *type)
{
	static const char *const memory[] = { "tmpfs", "ramfs", "devtmpfs",
					      "rootfs", "overlay" };

	if (source[0] == '/' && !strchr(source, ':') && !str_starts(type, "fuse"))
		return true;
	for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++)
		if (!strcmp(type, memory[i]))
			return true;
	return !strcmp(type, "zfs") || !strcmp(type, "btrfs");
}

static int sizes(struct va_value *v, const char *mount)
{
	struct statvfs st;
	uint64_t unit;
	int r = 0;

	if (statvfs(mount, &st) < 0)
		return va_set(v, "error", va_string(strerror(errno)));
	unit = st.f_frsize ? st.f_frsize : st.f_bsize;
	r |= va_set(v, "total", va_int((int64_t)(st.f_blocks * unit)));
	r |= va_set(v, "used", va_int((int64_t)((st.f_blocks - st.f_bfree) * unit)));
	r |= va_set(v, "available", va_int((int64_t)(st.f_bavail * unit)));
	r |= va_set(v, "files", va_int((int64_t)st.f_files));
	r |= va_set(v, "files_free", va_int((int64_t)st.f_ffree));
	return r;
}

/* A line of /proc/self/mounts: source, mount point, type, options. */
static struct va_value *mount_value(char *line, const char *wanted, bool *skip)
{
	CLEANUP_VALUE struct va_value *v = NULL;
	char *save = NULL;
	char *source = strtok_r(line, " ", &save);
	char *mount = strtok_r(NULL, " ", &save);
	char *type = strtok_r(NULL, " ", &save);
	char *options = strtok_r(NULL, " ", &save);
	int r = 0;

	*skip = true;
	if (!options)
		return NULL;
	unescape_octal(source);
	unescape_octal(mount);
	if (wanted && strcmp(wanted, mount) != 0)
		return NULL;
	*skip = false;
	v = va_struct();
	r |= va_set(v, "source", guest_text(source));
	r |= va_set(v, "mountpoint", guest_text(mount));
	r |= va_set(v, "type", va_string(type));
	r |= va_set(v, "options", guest_text(options));
	if (wanted || is_safe_to_ask(source, type))
		r |= sizes(v, mount);
	return r < 0 ? NULL : take_ptr(v);
}

static int guest_filesystems(struct va_call *call, struct va_value **ret)
{
	CLEANUP_BUF struct buf b = BUF_INIT(MOUNTS_BYTES);
	CLEANUP_VALUE struct va_value *v = va_array();
	const char *wanted;
	char *text, *line;
	int r;

	r = va_arg_text(call, 0, NULL, &wanted);
	if (r < 0)
		return r;
	r = procfs_read(AT_FDCWD, "/proc/self/mounts", &b);
	if (r < 0)
		return va_fail(call, -r, "/proc/self/mounts: %s", strerror(-r));
	text = (char *)buf_cstr(&b);
	while (r == 0 && (line = procfs_next_line(&text)) && va_count(v) < LIST_MAX) {
		bool skip;
		struct va_value *one = mount_value(line, wanted, &skip);

		if (!skip)
			r = va_append(v, one);
	}
	if (r == 0 && wanted && va_count(v) == 0)
		return guest_path_fail(call, ENOENT, wanted, "is not a mount point");
	return guest_give(&v, r, ret);
}

/* --- disks -------------------------------------------------------------- */

static struct va_value *disk_value(const char *name)
{
	static const struct {
		const char *file, *member;
	} texts[] = { { "device/model", "model" }, { "device/vendor", "vendor" },
		      { "device/serial", "serial" }, { "serial", "serial" } };
	CLEANUP_VALUE struct va_value *v = va_struct();
	char path[PATH_MAX], line[128];
	uint64_t number;
	int r = 0;

	r |= va_set(v, "name", guest_text(name));
	snprintf(path, sizeof(path), "/sys/block/%s/size", name);
	if (procfs_u64(AT_FDCWD, path, &number) == 0)
		r |= va_set(v, "size", va_int((int64_t)number * 512));
	snprintf(path, sizeof(path), "/sys/block/%s/ro", name);
	if (procfs_u64(AT_FDCWD, path, &number) == 0)
		r |= va_set(v, "readonly", va_bool(number != 0));
	snprintf(path, sizeof(path), "/sys/block/%s/removable", name);
	if (procfs_u64(AT_FDCWD, path, &number) == 0)
		r |= va_set(v, "removable", va_bool(number != 0));
	snprintf(path, sizeof(path), "/sys/block/%s/dev", name);
	if (procfs_line(AT_FDCWD, path, line, sizeof(line)) == 0)
		r |= va_set(v, "device", va_string(line));
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		snprintf(path, sizeof(path), "/sys/block/%s/%s", name, texts[i].file);
		if (procfs_line(AT_FDCWD, path, line, sizeof(line)) == 0 && line[0])
			r |= va_set(v, texts[i].member, guest_text(line));
	}
	return r < 0 ? NULL : take_ptr(v);
}

static int guest_disks(struct va_call *call, struct va_value **ret)
{
	CLEANUP_VALUE struct va_value *v = va_array();
	CLEANUP_CLOSEDIR DIR *dir = opendir("/sys/block");
	struct dirent *e;
	int r = v ? 0 : -ENOMEM;

	if (!dir)
		return va_fail(call, errno, "/sys/block: %s", strerror(errno));
	while (r == 0 && (e = readdir(dir)) && va_count(v) < LIST_MAX)
		if (e->d_name[0] != '.')
			r = va_append(v, disk_value(e->d_name));
	return guest_give(&v, r, ret);
}

static const struct va_method methods[] = {
	{ "guest.processes", "S:|ii", "[CURSOR [LIMIT]]", VA_CLASS_READ,
	  guest_processes, NULL, "running processes",
	  "Returns processes (structs pid, ppid, uid, user, name, state, command, "
	  "cpu_seconds, started_ticks, vsize, rss), cursor and eof; in the order of "
	  "pids, at most LIMIT (1000) a call.",
	  VA_M_IDEMPOTENT },
	{ "guest.interfaces", "A:", "", VA_CLASS_READ, guest_interfaces, NULL,
	  "network interfaces and their addresses",
	  "An array of structs name, index, mac, state, mtu, addresses (structs "
	  "address, family, prefix) and the counters rx_bytes, rx_packets, "
	  "rx_errors, rx_dropped and the same for tx.",
	  VA_M_IDEMPOTENT },
	{ "guest.filesystems", "A:|t", "[MOUNTPOINT]", VA_CLASS_READ,
	  guest_filesystems, NULL, "mounted file systems and their use",
	  "An array of structs source, mountpoint, type, options and, in bytes, "
	  "total, used, available; files, files_free. Network and FUSE file systems "
	  "are listed without sizes (asking could hang) unless named.",
	  VA_M_IDEMPOTENT },
	{ "guest.disks", "A:", "", VA_CLASS_READ, guest_disks, NULL,
	  "block devices",
	  "An array of structs name, device (major:minor), size in bytes, readonly, "
	  "removable and, where known, model, vendor, serial.",
	  VA_M_IDEMPOTENT },
};

const struct va_family guest_facts_system_family = {
	methods, sizeof(methods) / sizeof(methods[0])
};
