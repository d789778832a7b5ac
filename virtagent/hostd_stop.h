/*
 * hostd_stop.h - ending virtproxies that nobody watches
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_STOP_H
#define VA_HOSTD_STOP_H

/* va-hostd --stop: ends the va-hostd of this runtime directory, then all its
 * virtproxies.  0 or a negative errno, messages are in the log. */
int hostd_stop_all(void);

#endif
