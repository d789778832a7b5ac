/*
 * event_line.h - an event as one line of JSON
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOST_EVENT_LINE_H
#define VA_HOST_EVENT_LINE_H

#include "common/buf.h"
#include "virtagent/host/store.h"

/* Appends {"seq":...,"time":...,"guest":...,"event":...,"data":...} and a
 * newline.  0 or a negative errno, out may then hold a part. */
int event_line(struct buf *out, const struct store_event *ev);

#endif
