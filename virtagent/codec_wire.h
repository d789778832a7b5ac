/*
 * codec_wire.h - xmlrpc-c's things as locals, for codec_encode.c and codec_decode.c,
 * which alone know it
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CODEC_WIRE_H
#define VA_CODEC_WIRE_H

#include <stdint.h>
#include <stdlib.h>

#include <xmlrpc-c/base.h>

#include "common/cleanup.h"

static inline void wire_unref_p(xmlrpc_value **v)
{
	if (*v)
		xmlrpc_DECREF(*v);
}

static inline void block_free_p(xmlrpc_mem_block **b)
{
	if (*b)
		XMLRPC_MEMBLOCK_FREE(char, *b);
}

static inline void env_done(xmlrpc_env *env)
{
	xmlrpc_env_clean(env);
}

/* Strings that xmlrpc-c gives away are malloc'ed. */
static inline void wire_str_free_p(const char **s)
{
	free((void *)(uintptr_t)*s);
}

#define CLEANUP_WIRE CLEANUP(wire_unref_p)
#define CLEANUP_BLOCK CLEANUP(block_free_p)
#define CLEANUP_WIRE_STR CLEANUP(wire_str_free_p)
#define CLEANUP_ENV CLEANUP(env_done)

#endif
