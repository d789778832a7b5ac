/*
 * test-va-policy.c - rules decide in the documented order and name themselves
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/unit.h"
#include "virtagent/policy.h"

#include <stdlib.h>

static const struct va_method getfile = { .name = "guest.getfile",
					  .cls = VA_CLASS_READ,
					  .flags = VA_M_PATH };
static const struct va_method old_getfile = { .name = "va.getfile",
					      .cls = VA_CLASS_READ,
					      .flags = VA_M_PATH | VA_M_ORIGINAL };
static const struct va_method bare_getfile = { .name = "getfile",
					       .cls = VA_CLASS_READ,
					       .flags = VA_M_PATH | VA_M_ORIGINAL };
static const struct va_method osinfo = { .name = "guest.osinfo",
					 .cls = VA_CLASS_READ };
static const struct va_method exec = { .name = "guest.exec.start",
				       .cls = VA_CLASS_EXEC };
static const struct va_method shutdown_ = { .name = "guest.shutdown",
					    .cls = VA_CLASS_POWER };
static const struct va_method ping = { .name = "guest.ping",
				       .cls = VA_CLASS_INFO };
static const struct va_method list = { .name = "system.listMethods",
				       .cls = VA_CLASS_INFO };

static char why[512];

static struct policy *load_for(const char *text, const char *name)
{
	struct conf c = { .entries = NULL };
	struct policy *p = NULL;
	char err[256] = "";

	CHECK_INT(conf_parse(&c, "agent.conf", text, strlen(text), err,
			     sizeof(err)), 0);
	if (policy_new(&c, "guest", name, &p, err, sizeof(err)) < 0)
		unit_fail(__FILE__, __LINE__, "%s", err);
	conf_done(&c);
	return p;
}

static struct policy *load(const char *text)
{
	return load_for(text, NULL);
}

static bool allows(const struct policy *p, const struct va_method *m)
{
	why[0] = 0;
	return policy_allows(p, m, why, sizeof(why));
}

static void fails(const char *text, const char *message)
{
	struct conf c = { .entries = NULL };
	struct policy *p = NULL;
	char err[256] = "";

	CHECK_INT(conf_parse(&c, "agent.conf", text, strlen(text), err,
			     sizeof(err)), 0);
	CHECK_INT(policy_new(&c, "guest", NULL, &p, err, sizeof(err)), -EINVAL);
	CHECK_STR(err, message);
	CHECK(!p);
	conf_done(&c);
}

TEST(default_is_full)
{
	CLEANUP(policy_free_p) struct policy *p = load("");

	CHECK(allows(p, &exec));
	CHECK(allows(p, &getfile));
	CHECK(policy_allows_path(p, &getfile, "/etc/shadow", why, sizeof(why)));
	CHECK(policy_allows_user(p, "root", why, sizeof(why)));
	CHECK(!policy_has_paths(p));
}

TEST(block_wins_and_names_itself)
{
	CLEANUP(policy_free_p) struct policy *p =
		load("[policy]\nallow = guest.*\nblock = class:exec guest.getfile\n");

	CHECK(!allows(p, &exec));
	CHECK(strstr(why, "block = class:exec (agent.conf:3)"));
	CHECK(strstr(why, "guest's policy"));
	CHECK(!allows(p, &getfile));
	CHECK(allows(p, &osinfo));
}

TEST(names_of_the_original_are_judged_alike)
{
	CLEANUP(policy_free_p) struct policy *p =
		load("[policy]\nblock = guest.getfile\n");

	CHECK(!allows(p, &old_getfile));
	CHECK(!allows(p, &bare_getfile));
	CHECK(allows(p, &osinfo));
}

TEST(allow_without_profile_is_all_there_is)
{
	CLEANUP(policy_free_p) struct policy *p =
		load("[policy]\nallow = guest.ping, guest.os*\n");

	CHECK(allows(p, &ping));
	CHECK(allows(p, &osinfo));
	CHECK(!allows(p, &getfile));
	CHECK(strstr(why, "no allow line names it (the first is in agent.conf:2)"));
	CHECK(allows(p, &list));
}

TEST(profiles)
{
	CLEANUP(policy_free_p) struct policy *ro =
		load("[policy]\nprofile = readonly\nallow = guest.shutdown\n");
	CLEANUP(policy_free_p) struct policy *hard =
		load("[policy]\nprofile = hardened\n");

	CHECK(allows(ro, &getfile));
	CHECK(allows(ro, &shutdown_));
	CHECK(!allows(ro, &exec));
	CHECK(strstr(why, "profile = readonly (agent.conf:2)"));
	CHECK(!allows(hard, &getfile));
	CHECK(allows(hard, &osinfo));
	CHECK(allows(hard, &shutdown_));
	CHECK(!allows(hard, &exec));
}

TEST(own_section_wins)
{
	const char *text = "[policy]\nprofile = readonly\n"
			   "[policy web1]\nprofile = full\n"
			   "[policy db1]\nblock = guest.ping\n";
	CLEANUP(policy_free_p) struct policy *web = load_for(text, "web1");
	CLEANUP(policy_free_p) struct policy *db = load_for(text, "db1");

	CHECK(allows(web, &exec));
	CHECK(!allows(db, &exec));
	CHECK(!allows(db, &ping));
}

TEST(paths_match_whole_components)
{
	CLEANUP(policy_free_p) struct policy *p =
		load("[policy]\npath = /var/log/\npath-block = /var/log/private\n");

	CHECK(policy_has_paths(p));
	CHECK(policy_allows_path(p, &getfile, "/var/log/a", why, sizeof(why)));
	CHECK(policy_allows_path(p, &getfile, "/var/log", why, sizeof(why)));
	CHECK(!policy_allows_path(p, &getfile, "/var/logs", why, sizeof(why)));
	CHECK(!policy_allows_path(p, &getfile, "/var/log/private/x", why,
				  sizeof(why)));
	CHECK(strstr(why, "path-block = /var/log/private (agent.conf:3)"));
	CHECK(!policy_allows_path(p, &getfile, "/etc/shadow", why, sizeof(why)));
}

TEST(users)
{
	CLEANUP(policy_free_p) struct policy *p =
		load("[policy]\nexec-user = nobody backup\n");

	CHECK(policy_allows_user(p, "backup", why, sizeof(why)));
	CHECK(!policy_allows_user(p, "root", why, sizeof(why)));
	CHECK(strstr(why, "root"));
}

TEST(targets_of_connections)
{
	static const char lines[] = "[policy]\nconnect = 10.*:80 db.example:5432 "
				    "[::1]:22 [2001:db8::*]:22 unix:/run/x/*\n";
	static const struct {
		const char *asked, *real;
		bool want;
	} table[] = {
		{ "10.1.2.3:80", "10.1.2.3:80", true },
		{ "web:80", "10.1.2.3:80", true },
		{ "10.1.2.3:81", "10.1.2.3:81", false },
		/* A name that looks like the pattern. */
		{ "10.evil.example:80", "192.0.2.1:80", false },
		{ "DB.example:5432", "192.0.2.1:5432", true },
		{ "db.example:5433", "192.0.2.1:5433", false },
		{ "[::1]:22", "[::1]:22", true },
		{ "v6:22", "[2001:db8::7]:22", true },
		{ "2:22", "2:22", false },
		{ "unix:/run/x/s", "unix:/run/x/s", true },
		{ "unix:/run/x/link", "unix:/run/y", false },
	};
	CLEANUP(policy_free_p) struct policy *p = load(lines);
	CLEANUP(policy_free_p) struct policy *none = load("[policy]\nprofile = full\n");
	struct policy *host = NULL;
	char err[256];

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (policy_allows_connect(p, table[i].asked, table[i].real, why,
					  sizeof(why)) != table[i].want)
			unit_fail(__FILE__, __LINE__, "%s", table[i].asked);
	CHECK(policy_allows_connect(none, "a:1", "192.0.2.1:1", NULL, 0));
	/* A host's guests reach nothing that no line names. */
	CHECK_INT(policy_new(NULL, "host", NULL, &host, err, sizeof(err)), 0);
	CHECK(!policy_allows_connect(host, "a:1", "192.0.2.1:1", why, sizeof(why)));
	CHECK(strstr(why, "a:1") && strstr(why, "host"));
	policy_free(host);
}

TEST(mistakes_name_file_and_line)
{
	fails("[policy]\nprofile = open\n",
	      "agent.conf:2: there is no profile \"open\" (full, readonly, hardened)");
	fails("[policy]\n\nallow = class:everything\n",
	      "agent.conf:3: there is no class \"everything\"");
	fails("[policy]\npath = var/log\n",
	      "agent.conf:2: the path \"var/log\" is not absolute");
	fails("[policy]\ndeny = x\n",
	      "agent.conf:2: [policy] knows no key \"deny\"");
}

UNIT_MAIN(CASE(default_is_full), CASE(block_wins_and_names_itself),
	  CASE(names_of_the_original_are_judged_alike),
	  CASE(allow_without_profile_is_all_there_is), CASE(profiles),
	  CASE(own_section_wins), CASE(paths_match_whole_components), CASE(users),
	  CASE(targets_of_connections),
	  CASE(mistakes_name_file_and_line))
