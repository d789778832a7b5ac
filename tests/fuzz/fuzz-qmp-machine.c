/*
 * fuzz-qmp-machine.c - whatever a monitor answers, a machine is known or is not
 *
 * The input is what the monitor sends; the questions go nowhere.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/sock.h"
#include "virtagent/qmp_machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qmp_machine m;
	struct qmp *q;
	int fds[2], r;

	if (size > 65536 || sock_pair(SOCK_STREAM, fds) < 0)
		return 0;
	q = qmp_on_fd(fds[0]);
	if (!q || (size && write(fds[1], data, size) != (ssize_t)size)) {
		close(fds[1]);
		qmp_close(q);
		return 0;
	}
	shutdown(fds[1], SHUT_WR);
	qmp_machine_begin(&m, size & 1 ? "ser*" : NULL);
	r = qmp_machine_take(&m, q);
	/* All came at once: more cannot be to come. */
	if (r == -EAGAIN || (r == 0 && (!m.name || !m.uuid)) ||
	    (r == 0 && !m.channel && !m.why[0]) || (r < 0 && !m.why[0]))
		abort();
	qmp_machine_done(&m);
	qmp_close(q);
	close(fds[1]);
	return 0;
}
