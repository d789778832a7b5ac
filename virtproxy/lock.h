/*
 * lock.h - one process per channel (R36)
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VP_LOCK_H
#define VP_LOCK_H

#include <stdbool.h>
#include <stddef.h>

#include "virtproxy/virtproxy.h"

/*
 * Locks the channel in the runtime directory; *ret_fd keeps the lock until it is
 * closed (-1: an inherited channel needs none).  -EBUSY names the holder in err.
 * In a guest a lock that cannot be made is only worth a warning: the kernel
 * refuses a second opener of a port or an exclusive tty.
 */
int channel_lock(const struct vp_spec *spec, bool guest, int *ret_fd, char *err,
		 size_t err_size);

#endif
