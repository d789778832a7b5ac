/*
 * test-proxy-spec.c - the grammar of channels and forwards
 *
 * SPDX-License-Identifier: MIT
 */
#include "config.h"

#include "tests/lib/unit.h"
#include "virtproxy/virtproxy.h"

static struct vp_spec spec;
static char err[256];

TEST(channels_that_are_understood)
{
	static const struct {
		const char *text;
		enum vp_method method;
		const char *addr, *port;
		unsigned id;
	} rows[] = {
		{ "unix-connect:/tmp/test2-virtio-serial.sock:-", VP_UNIX_CONNECT,
		  "/tmp/test2-virtio-serial.sock", "-", 0 },
		{ "virtserial-open:/dev/virtio-ports/test2:-", VP_VIRTSERIAL_OPEN,
		  "/dev/virtio-ports/test2", "-", 0 },
		{ "virtserial-open:org.virtagent.0:-:3", VP_VIRTSERIAL_OPEN,
		  "org.virtagent.0", "-", 3 },
		{ "isaserial-open:/dev/ttyS1", VP_ISASERIAL_OPEN, "/dev/ttyS1", "-", 0 },
		{ "pty-open:/dev/pts/4:-:12", VP_PTY_OPEN, "/dev/pts/4", "-", 12 },
		{ "unix-listen:rel/a:b:-", VP_UNIX_LISTEN, "rel/a:b", "-", 0 },
		{ "isaserial-open:/dev/serial/by-path/pci-0000:00:1f.0",
		  VP_ISASERIAL_OPEN, "/dev/serial/by-path/pci-0000:00:1f.0", "-", 0 },
		{ "isaserial-open:/dev/serial/by-path/pci-0000:00:1:-:9",
		  VP_ISASERIAL_OPEN, "/dev/serial/by-path/pci-0000:00:1", "-", 9 },
		{ "tcp-connect:localhost:1234", VP_TCP_CONNECT, "localhost", "1234", 0 },
		{ "tcp-listen:127.0.0.1:1234:7", VP_TCP_LISTEN, "127.0.0.1", "1234", 7 },
		{ "tcp-connect:[::1]:80:1", VP_TCP_CONNECT, "::1", "80", 1 },
		{ "tcp-connect:[fe80::1]:http", VP_TCP_CONNECT, "fe80::1", "http", 0 },
		{ "fd:3", VP_FD, "3", "-", 0 },
		{ "fd:3:-:2", VP_FD, "3", "-", 2 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (vp_parse_channel(rows[i].text, &spec, err, sizeof(err)) != 0)
			unit_fail(__FILE__, __LINE__, "%s: %s", rows[i].text, err);
		CHECK_INT(spec.method, rows[i].method);
		CHECK_STR(spec.addr, rows[i].addr);
		CHECK_STR(spec.port, rows[i].port);
		CHECK_INT(spec.id, rows[i].id);
	}
}

TEST(forwards_that_are_understood)
{
	CHECK_INT(vp_parse_forward("virtagent:/tmp/virtagent-guest-client.sock:-", &spec,
				   err, sizeof(err)), 0);
	CHECK_STR(spec.name, "virtagent");
	CHECK_STR(spec.addr, "/tmp/virtagent-guest-client.sock");
	CHECK_STR(spec.port, "-");
	CHECK_INT(vp_parse_forward("ssh:localhost:22:4", &spec, err, sizeof(err)), 0);
	CHECK_STR(spec.port, "22");
	CHECK_INT(spec.id, 4);
}

TEST(errors_say_what_is_wrong)
{
	static char long_path[160], long_service[100];
	const struct {
		bool channel;
		const char *text, *reason;
	} rows[] = {
		{ true, "unix", "is not METHOD:ADDR:PORT[:ID]" },
		{ true, "telnet:a:b", "unknown method telnet" },
		{ true, "unix-connect::-", "the address is empty" },
		{ true, "unix-connect:a", "\":PORT\" is missing" },
		{ true, "unix-connect:a:5", "takes \"-\" as port, not 5" },
		{ true, "tcp-connect:a:-", "tcp-connect needs a port" },
		{ true, "tcp-connect:::1:5", "IPv6" },
		{ true, "tcp-connect:[::1:5", "\"]\" is missing" },
		{ true, "tcp-connect:[::1]5", "\":PORT\" is missing" },
		{ true, "tcp-connect:[::1]:5:x", "channel id x is not a number" },
		{ true, "tcp-connect:a:5:10000", "channel id 10000 is not a number up" },
		{ true, "fd:x:-", "x is not a descriptor number" },
		{ true, long_path, "longer than 107 bytes" },
		{ false, "svc", "is not SERVICE:ADDR:PORT[:ID]" },
		{ false, ":a:-", "the SERVICE is empty" },
		{ false, "a b:/x:-", "other characters" },
		{ false, long_service, "longer than" },
	};

	snprintf(long_path, sizeof(long_path), "unix-listen:/%0107d:-", 1);
	snprintf(long_service, sizeof(long_service), "%064d:/x:-", 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		err[0] = 0;
		CHECK_INT((rows[i].channel ? vp_parse_channel : vp_parse_forward)(
				  rows[i].text, &spec, err, sizeof(err)), -EINVAL);
		if (!strstr(err, rows[i].reason))
			unit_fail(__FILE__, __LINE__, "%s: \"%s\"", rows[i].text, err);
	}
}

UNIT_MAIN(CASE(channels_that_are_understood), CASE(forwards_that_are_understood),
	  CASE(errors_say_what_is_wrong))
