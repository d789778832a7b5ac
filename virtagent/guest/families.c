/*
 * families.c - the guest's methods, all in one list
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/uuid.h"
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
		&guest_keys_family,	     &guest_net_family,
		&guest_original_family,	     &va_guest_outcome_family,
		&guest_commands_family,
	};
	/* Filled at run time: the rows' counts are in their own files. */
	static struct va_family all[sizeof(list) / sizeof(list[0])];

	*n = sizeof(list) / sizeof(list[0]);
	for (size_t i = 0; i < *n; i++)
		all[i] = *list[i];
	return all;
}

int guest_give(struct va_value **v, int r, struct va_value **ret)
{
	if (r < 0 || !*v)
		return -ENOMEM;
	*ret = take_ptr(*v);
	return 0;
}

void guest_set(struct va_value *s, const char *name, struct va_value *item,
	       int *r)
{
	int e = va_set(s, name, item);

	if (*r == 0)
		*r = e;
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
	int e = uuid_random(ctx->agent_id);

	if (e < 0)
		return e;
	read_boot_id(ctx->boot_id);
	ctx->families = guest_families(&ctx->nfamilies);
	return 0;
}
