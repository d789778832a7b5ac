/*
 * test-guest-power.c - a shutdown that waits, as the file it is kept in
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/unit.h"
#include "virtagent/guest/power_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"

#define BOOT "0b5ae3f8-0000-4000-8000-000000000001"

static char path[256];

static const char *file(void)
{
	snprintf(path, sizeof(path), "%s/shutdown", unit_tmpdir());
	return path;
}

static struct power_plan plan(const char *message)
{
	struct power_plan p = { .uid = 1000, .due_ns = 123456789012345 };

	snprintf(p.mode, sizeof(p.mode), "reboot");
	snprintf(p.by, sizeof(p.by), "host");
	snprintf(p.message, sizeof(p.message), "%s", message);
	return p;
}

TEST(what_is_written_comes_back)
{
	static const char *const messages[] = { "", "one", "a\nMODE=halt\nb=\n", "=\t" };
	struct power_plan got;
	struct stat st;

	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		struct power_plan p = plan(messages[i]);

		p.begun = i % 2;
		CHECK_INT(power_plan_write(file(), BOOT, &p), 0);
		CHECK_INT(power_plan_read(file(), BOOT, &got), 0);
		CHECK_INT(got.begun, p.begun);
		CHECK_STR(got.mode, "reboot");
		CHECK_STR(got.by, "host");
		CHECK_INT(got.uid, 1000);
		CHECK(got.due_ns == p.due_ns);
		CHECK_STR(got.message, messages[i]);
	}
	CHECK_INT(stat(file(), &st), 0);
	CHECK_INT(st.st_mode & 0777, 0600);
}

TEST(the_longest_message_fits)
{
	struct power_plan p = plan(""), got;

	memset(p.message, 'x', POWER_MESSAGE_MAX);
	CHECK_INT(power_plan_write(file(), BOOT, &p), 0);
	CHECK_INT(power_plan_read(file(), BOOT, &got), 0);
	CHECK_INT(strlen(got.message), POWER_MESSAGE_MAX);
}

TEST(another_boots_is_none)
{
	struct power_plan p = plan("x"), got;

	CHECK_INT(power_plan_read(file(), BOOT, &got), -ENOENT);
	CHECK_INT(power_plan_write(file(), "another", &p), 0);
	CHECK_INT(power_plan_read(file(), BOOT, &got), -ENOENT);
	CHECK_INT(power_plan_write("/nosuch/shutdown", BOOT, &p), -ENOENT);
}

static void put(const char *text)
{
	CLEANUP_CLOSE int fd = open(file(), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd >= 0);
	CHECK_INT(write(fd, text, strlen(text)), (long)strlen(text));
}

TEST(what_is_damaged_is_refused)
{
	static const char *const texts[] = {
		"", "nonsense", "BOOT=" BOOT "\nMESSAGE=",
		"BOOT=" BOOT "\nMODE=reboot\nBY=host\nUID=0\nDUE=1\n",
		"BOOT=" BOOT "\nMODE=reboot\nBY=host\nUID=0\nDUE=x\nMESSAGE=",
		"BOOT=" BOOT "\nMODE=reboot\nBY=host\nUID=-1\nDUE=1\nMESSAGE=",
		"BOOT=" BOOT "\nMODE=reboot\nUID=0\nDUE=1\nMESSAGE=",
		"BOOT=" BOOT "\nwords\nMODE=reboot\nBY=host\nUID=0\nDUE=1\nMESSAGE=",
	};
	struct power_plan got;
	char long_one[600] = "BOOT=" BOOT "\nMODE=reboot\nBY=host\nUID=0\nDUE=1\nMESSAGE=";

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		put(texts[i]);
		CHECK_INT(power_plan_read(file(), BOOT, &got), -EBADMSG);
	}
	memset(long_one + strlen(long_one), 'x', POWER_MESSAGE_MAX + 1);
	put(long_one);
	CHECK_INT(power_plan_read(file(), BOOT, &got), -EBADMSG);
}

UNIT_MAIN(CASE(what_is_written_comes_back), CASE(the_longest_message_fits),
	  CASE(another_boots_is_none), CASE(what_is_damaged_is_refused))
