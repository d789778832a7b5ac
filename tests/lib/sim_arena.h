/*
 * sim_arena.h - memory that can be set back
 *
 * While the arena is on, malloc and its kin (wrapped by the linker) take from a
 * fixed region with all its bookkeeping inside; saving is a copy of the region,
 * restoring the copy back: every pointer stays valid.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_SIM_ARENA_H
#define VA_SIM_ARENA_H

#include <stdbool.h>
#include <stddef.h>

void sim_arena_reset(void);
void sim_arena_switch(bool on);
void sim_arena_save(void);
void sim_arena_restore(void);
size_t sim_arena_used(void);

#endif
