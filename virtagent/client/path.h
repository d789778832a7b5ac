/*
 * path.h - [GUEST:]PATH, as cp, cat and ls take it
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VA_CLIENT_PATH_H
#define VA_CLIENT_PATH_H

#include <stdbool.h>

/*
 * Splits "GUEST:PATH".  A word that begins with '/', '.' or '-', or has no
 * colon, or a slash before its first colon, is a PATH alone.  "unix:SOCKET:PATH"
 * names a socket.  *guest is NULL without one, else in guest_buf (or -E2BIG).
 */
int path_split(const char *word, char *guest_buf, unsigned size,
	       const char **guest, const char **path);
/* Of a word that was split: 0, or VAC_USAGE after the error went to stderr. */
int path_check_remote(const char *word, const char *path);

/* "dir/name", with one slash between; NULL on ENOMEM. */
char *path_join(const char *dir, const char *name);
/* The part behind the last slash ("" of "/"); slashes at the end do not count.
 * Allocated. */
char *path_base(const char *path);
/* May a name that the guest gave be a part of a local path?  Neither empty, nor
 * "." or "..", and without '/'. */
bool path_name_ok(const char *name);
/* path with all but [A-Za-z0-9._~/-] percent-encoded; NULL on ENOMEM. */
char *path_encode(const char *path);

#endif
