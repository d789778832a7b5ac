/*
 * hostd_stream.h - GET /events: events as lines of JSON, also as they happen
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_HOSTD_STREAM_H
#define VA_HOSTD_STREAM_H

#include "virtagent/host/events.h"
#include "virtagent/http_server.h"

/* Answers GET /events?since=N&follow=1&guest=G. */
int hostd_stream_events(struct http_request *rq, struct events *events);

#endif
