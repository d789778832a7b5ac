/*
 * families.c - the guest's methods, all in one list
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "virtagent/guest/guest.h"

const struct va_family *guest_families(size_t *n)
{
	static const struct va_family *const list[] = {
		&guest_agent_family,	     &guest_getfile_family,
		&guest_files_read_family,    &guest_files_change_family,
		&guest_put_family,	     &guest_exec_family,
		&guest_event_family,
		&guest_facts_family,	     &guest_facts_system_family,
		&guest_dmesg_family,	     &guest_shutdown_family,
		&guest_original_family,	     &va_guest_outcome_family,
	};
	/* Filled at run time: the rows' counts are in their own files. */
	static struct va_family all[sizeof(list) / sizeof(list[0])];

	*n = sizeof(list) / sizeof(list[0]);
	for (size_t i = 0; i < *n; i++)
		all[i] = *list[i];
	return all;
}

void guest_set(struct va_value *s, const char *name, struct va_value *item,
	       int *r)
{
	int e = va_set(s, name, item);

	if (*r == 0)
		*r = e;
}

/* getrandom(2) is of Linux 3.17; the device is as good once the guest is up. */
static int random_bytes(void *buf, size_t n)
{
	CLEANUP_CLOSE int fd = -1;
	ssize_t got = -1;

#ifdef SYS_getrandom
	got = syscall(SYS_getrandom, buf, n, 0);
	if (got == (ssize_t)n)
		return 0;
#endif
	fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	got = read(fd, buf, n);
	return got == (ssize_t)n ? 0 : -EIO;
}

static void read_boot_id(char ret[GUEST_ID_SIZE])
{
	CLEANUP_CLOSE int fd = open("/proc/sys/kernel/random/boot_id",
				    O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret, GUEST_ID_SIZE - 1);

	ret[n == GUEST_ID_SIZE - 1 ? n : 0] = 0;
}

int guest_context_init(struct guest_context *ctx)
{
	uint8_t r[16];
	int e = random_bytes(r, sizeof(r));

	if (e < 0)
		return e;
	r[6] = (uint8_t)((r[6] & 0x0f) | 0x40);
	r[8] = (uint8_t)((r[8] & 0x3f) | 0x80);
	snprintf(ctx->agent_id, sizeof(ctx->agent_id),
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
		 "%02x%02x%02x%02x%02x%02x",
		 r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9],
		 r[10], r[11], r[12], r[13], r[14], r[15]);
	read_boot_id(ctx->boot_id);
	ctx->families = guest_families(&ctx->nfamilies);
	return 0;
}
