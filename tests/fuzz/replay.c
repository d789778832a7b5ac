/*
 * replay.c - runs a fuzz target over its corpus, without libFuzzer
 *
 * Linked with fuzz-NAME.c as replay-NAME, which feeds every file of
 * tests/fuzz/corpus/NAME (or of the directory given) to the target, one TAP
 * point each, and the empty input first.  A finding is a crash: each input runs
 * in this process, so that a debugger sees it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/str.h"

#define REPLAY_SECONDS_PER_INPUT 10

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int not_hidden(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* The memory is exactly as large as the input, so that a checker sees a read
 * past its end. */
static int replay_file(const char *path)
{
	CLEANUP_FCLOSE FILE *f = fopen(path, "rb");
	CLEANUP_FREE uint8_t *data = NULL;
	long size;

	if (!f || fseek(f, 0, SEEK_END) < 0 || (size = ftell(f)) < 0)
		return -1;
	rewind(f);
	data = malloc(size ? (size_t)size : 1);
	if (!data || fread(data, 1, (size_t)size, f) != (size_t)size)
		return -1;
	alarm(REPLAY_SECONDS_PER_INPUT);
	LLVMFuzzerTestOneInput(data, (size_t)size);
	alarm(0);
	return 0;
}

int main(int argc, char **argv)
{
	static const char prefix[] = "replay-";
	const char *base = strrchr(argv[0], '/');
	const char *name = strstr(base ? base : argv[0], prefix);
	CLEANUP_FREE char *dir = argc > 1 ? strdup(argv[1]) :
				 name ? str_printf("%s/%s", FUZZ_CORPUS,
						   name + sizeof(prefix) - 1) : NULL;
	struct dirent **list = NULL;
	int n = dir ? scandir(dir, &list, not_hidden, alphasort) : -1, failed = 0;

	if (n <= 0) {
		printf("1..1\nnot ok 1 no corpus in %s\n", dir ? dir : argv[0]);
		free(list);
		return 1;
	}
	printf("1..%d\n", n + 1);
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	printf("ok 1 the empty input\n");
	for (int i = 0; i < n; i++) {
		CLEANUP_FREE char *path = str_printf("%s/%s", dir, list[i]->d_name);
		int r;

		fflush(stdout);
		r = path ? replay_file(path) : -1;
		failed += r < 0;
		printf("%sok %d %s\n", r < 0 ? "not " : "", i + 2, list[i]->d_name);
		free(list[i]);
	}
	free(list);
	return failed ? 1 : 0;
}
