#!/usr/bin/python3
# test_client_call.py - va-client's calls against stock and hostile servers:
# conversions, output, targets, exit codes.
#
# SPDX-License-Identifier: MIT
import json
import os
import pty
import select
import subprocess
import sys
import time
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import Suite, program, run, scale, tmpdir  # noqa: E402
from vatest.fake import Control, Raw, XMLRPCServer, http_reply, value_reply  # noqa: E402

CLIENT = program("va-client")
suite = Suite()
counter = 0


def fresh(name):
    """A new directory of its own."""
    global counter
    counter += 1
    path = os.path.join(tmpdir(), "%s%d" % (name, counter))
    os.makedirs(path)
    return path


def va(*args, runtime=None, guest=None, input=None, seconds=20, text=True, **env):
    """Runs va-client; runtime: its VA_RUNTIME_DIR."""
    full = {"VA_RUNTIME_DIR": runtime or "/nonexistent", "VA_GUEST": guest or ""}
    full.update(env)
    return run([CLIENT, *args], input=input, seconds=seconds, env=full, text=text)


def expect(r, code, out=None, err=None):
    assert r.returncode == code, "status %d, expected %d\n%s\n%s" % (
        r.returncode, code, r.stdout, r.stderr)
    if out is not None:
        assert r.stdout == out, "stdout %r, expected %r" % (r.stdout, out)
    if err is not None:
        assert err in r.stderr, "stderr %r has no %r" % (r.stderr, err)
    return r


CONTENT = bytes(range(256)) * 20000         # 5 MB in pieces of 1 MiB


def getfile(path, offset=0, length=1 << 20):
    if path == "/nope":
        raise xmlrpc.client.Fault(1002, "cannot open /nope: No such file or directory")
    data = CONTENT[offset:offset + min(length, 1 << 20)]
    return {"data": data, "offset": offset, "size": len(CONTENT),
            "eof": offset + len(data) >= len(CONTENT), "mtime": 1}


CALLS = []


def echo(*args):
    CALLS.append(args)
    return list(args)


ROWS = [
    {"name": "guest.typed", "signature": "A:si|b", "args": "TEXT NUMBER [FLAG]", "raw": "",
     "class": "read", "flags": ["idempotent"], "allowed": True},
    {"name": "guest.untyped", "signature": "A:|x*", "args": "[ANY...]", "raw": "",
     "class": "read", "flags": 1, "allowed": True},
    {"name": "guest.once", "signature": "s:", "args": "", "raw": "", "class": "write",
     "flags": [], "allowed": False},
    {"name": "guest.raw", "signature": "S:", "args": "", "raw": "text", "class": "read",
     "flags": ["idempotent"], "allowed": True},
]

guest_dir = fresh("g")
server = XMLRPCServer(os.path.join(guest_dir, "rpc.sock"))
server.register_function(getfile, "guest.getfile")
server.register_function(lambda: "pong", "guest.ping")
server.register_function(lambda n=0: {"data": b"[ 0.0] hello\n", "truncated": False},
                         "guest.getdmesg")
server.register_function(echo, "guest.typed")
server.register_function(echo, "guest.untyped")
server.register_function(lambda: "ran", "guest.once")
server.register_function(lambda: {"text": b"a\x1b[31mb", "more": 1}, "guest.raw")
server.register_function(lambda: False, "guest.no")
server.register_function(lambda: None, "guest.nil")
server.register_function(lambda: ["a", "b c", 3], "guest.list3")
server.register_function(lambda: {"a": {"b": [1, 2]}}, "guest.nested")
server.register_function(lambda: {"version": "1", "agent_id": "agent-1", "boot_id": "b",
                                  "methods": ROWS}, "guest.capabilities")
server.register_function(lambda name: "help of " + name, "system.methodHelp")
G = ("-G", "unix:" + os.path.join(guest_dir, "rpc.sock"))


@suite.case("getfile prints the bytes exactly, to the end, piece by piece")
def _():
    r = va(*G, "call", "guest.getfile", "/f", text=False, input=b"")
    assert r.returncode == 0 and r.stdout == CONTENT
    r = va(*G, "cat", "/f", "/f", text=False, input=b"")
    assert r.returncode == 0 and r.stdout == CONTENT * 2


@suite.case("with an offset only that piece is printed; --json gives the struct")
def _():
    r = va(*G, "call", "guest.getfile", "/f", "256", "4", text=False, input=b"")
    assert r.stdout == CONTENT[256:260]
    r = expect(va(*G, "call", "guest.getfile", "/f", "0", "2", "--json"), 0)
    assert json.loads(r.stdout)["data"] == {"base64": "AAE="}


@suite.case("arguments are converted by the server's row, prefixes override")
def _():
    expect(va(*G, "call", "guest.typed", "7", "7", "yes"), 0, "7\n7\ntrue\n")
    assert CALLS[-1] == ("7", 7, True), CALLS[-1]
    expect(va(*G, "call", "guest.typed", "s:i:1", "i:-5"), 0)
    assert CALLS[-1] == ("i:1", -5)
    expect(va(*G, "call", "guest.untyped", "7", "x", "json:{\"a\":[null]}", "d:2",
              "base64:AAE="), 0)
    assert CALLS[-1] == (7, "x", {"a": [None]}, 2.0, b"\0\1"), CALLS[-1]
    path = os.path.join(guest_dir, "bytes")
    with open(path, "wb") as f:
        f.write(b"\0\xff")
    expect(va(*G, "call", "guest.untyped", "base64:@" + path), 0)
    assert CALLS[-1] == (b"\0\xff",)
    expect(va(*G, "call", "guest.untyped", "base64:@-", input="in"), 0)
    assert CALLS[-1] == (b"in",)
    # 64 bits there (the stock server answers only 32).
    va(*G, "call", "guest.untyped", "9223372036854775807")
    assert CALLS[-1] == (9223372036854775807,)


@suite.case("wrong arguments are usage errors that name the argument")
def _():
    n = len(CALLS)
    expect(va(*G, "call", "guest.typed", "a", "b"), 3, "", "argument 2 is no whole number")
    expect(va(*G, "call", "guest.typed", "a"), 3, "", "at least 2")
    expect(va(*G, "call", "guest.typed", "a", "1", "1", "x"), 3, "", "at most 3")
    assert len(CALLS) == n, "a wrong call was sent"
    expect(va(*G, "call"), 3, "", "usage")
    expect(va(*G, "call", "guest.typed", "--bogus"), 3, "")
    expect(va("bogus"), 3, "", "no such verb")
    expect(va(), 3, "")
    expect(va("-t", "soon", "ping"), 3, "")


@suite.case("results print as people read them; false is exit 1")
def _():
    expect(va(*G, "call", "guest.no"), 1, "false\n")
    expect(va(*G, "call", "guest.nil"), 0, "")
    expect(va(*G, "call", "guest.list3"), 0, "a\nb c\n3\n")
    r = expect(va(*G, "call", "guest.nested"), 0)
    assert json.loads(r.stdout) == {"a": {"b": [1, 2]}} and "\n " in r.stdout
    r = expect(va(*G, "call", "guest.nested", "--json"), 0)
    assert r.stdout.count("\n") == 1
    # A raw member of another name, untouched on a pipe.
    expect(va(*G, "call", "guest.raw"), 0, "a\x1b[31mb")


@suite.case("not found is exit 1, no such method and faults are exit 2")
def _():
    expect(va(*G, "call", "guest.getfile", "/nope"), 1, "", "guest.getfile: cannot open /nope")
    expect(va(*G, "cat", "/nope"), 1, "", "No such file")
    r = expect(va(*G, "call", "guest.bogus"), 2, "", "guest.bogus")
    assert "not supported" in r.stderr


@suite.case("ping, dmesg, methods, help")
def _():
    r = expect(va(*G, "ping"), 0)
    assert "seq=1 time=" in r.stdout
    r = expect(va(*G, "ping", "-c", "3", "-i", "0.01"), 0)
    assert "3 pings, 3 answered, 0% lost" in r.stdout and "rtt min/avg/max" in r.stdout
    r = json.loads(expect(va(*G, "ping", "-c", "2", "-i", "0", "--json"), 0).stdout)
    assert r["sent"] == r["answered"] == 2 and r["min_ms"] > 0
    expect(va(*G, "dmesg"), 0, "[ 0.0] hello\n")
    r = expect(va(*G, "methods"), 0)
    assert "guest.once" in r.stdout and "write" in r.stdout and " no " in r.stdout
    assert len(json.loads(va(*G, "methods", "--json").stdout)) == len(ROWS)
    r = expect(va(*G, "help", "guest.typed"), 0)
    assert "TEXT NUMBER [FLAG]" in r.stdout and "help of guest.typed" in r.stdout
    assert "Usage: va-client ping" in expect(va("help", "ping"), 0).stdout
    assert "  call " in expect(va("help"), 0).stdout


@suite.case("monitor takes QEMU-monitor-style commands from a pipe")
def _():
    script = ("agent_ping\nagent_capabilities\nva_ping\n# a comment\n\n"
              "call guest.typed \"a b\" 3\nagent_viewdmesg\nquit\nagent_bogus\n")
    r = expect(va(*G, "monitor", input=script), 0)
    assert r.stdout.count("status: success") == 2 and "guest.raw" in r.stdout
    assert "a b\n3\n" in r.stdout and "[ 0.0] hello" in r.stdout
    r = va(*G, "monitor", input="agent_bogus\nagent_ping\n")
    expect(r, 3, None, "unknown command: agent_bogus")
    assert "status: success" in r.stdout, "a wrong command ended the monitor"
    expect(va(*G, "monitor", input="agent_viewfile\n"), 3, None, "usage")
    expect(va(*G, "monitor", input='call "x\n'), 3, None, "quote")


def on_terminal(*args, seconds=10):
    """Runs va-client with stdout and stdin on a pty; what it printed."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(VA_RUNTIME_DIR="/nonexistent", TERM="xterm")
        os.execv(CLIENT, [CLIENT, *args])
    data, end = b"", time.monotonic() + seconds * scale()
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                more = os.read(fd, 65536)
            except OSError:
                break
            if not more:
                break
            data += more
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), data


@suite.case("control characters of the guest never reach a terminal, unless --raw")
def _():
    code, data = on_terminal(*G, "call", "guest.raw")
    assert code == 0 and data == b"a\\x1b[31mb\r\n", data
    code, data = on_terminal(*G, "--raw", "call", "guest.raw")
    assert b"\x1b[31m" in data
    hostile = os.path.join(fresh("h"), "rpc.sock")
    s = XMLRPCServer(hostile)
    s.register_function(lambda: {"methods": [{"name": "guest.\u202ex", "signature": "s:",
                                              "class": "\u009b2J"}]}, "guest.capabilities")
    for args in (["methods"], ["methods", "--json"], ["info"], ["monitor"]):
        if args == ["monitor"]:
            continue
        code, data = on_terminal("-G", "unix:" + hostile, *args)
        assert "\u202e".encode() not in data and "\u009b".encode() not in data, data
        assert b"guest." in data or args == ["info"], data
    s.close()


@suite.case("a method that must not run twice carries Virtagent-Call")
def _():
    server.headers.clear()
    expect(va(*G, "call", "guest.once"), 0, "ran\n")
    ids = [h["Virtagent-Call"] for h in server.headers if "Virtagent-Call" in h]
    assert len(ids) == 1 and ids[0].startswith("agent-1/") and len(ids[0]) == 44, ids
    expect(va(*G, "call", "guest.once"), 0)
    again = [h["Virtagent-Call"] for h in server.headers if "Virtagent-Call" in h]
    assert again[0] != again[1]
    server.headers.clear()
    expect(va(*G, "ping"), 0)
    assert not any("Virtagent-Call" in h for h in server.headers)


# --- which guest -------------------------------------------------------------

def host(guests, hostd=True):
    """A runtime directory with guests {name: connected}; hostd answers too."""
    runtime = fresh("r")
    servers = []
    for name, up in guests.items():
        d = os.path.join(runtime, "guests", name)
        os.makedirs(d)
        servers.append(Control(os.path.join(d, "ctl.sock"),
                               {"session": "up" if up else "down", "channel": "absent"}))
        s = XMLRPCServer(os.path.join(d, "rpc.sock"))
        s.register_function(lambda name=name: "I am " + name, "guest.whoami")
        s.register_function(lambda: "pong", "guest.ping")
        servers.append(s)
    if hostd:
        s = XMLRPCServer(os.path.join(runtime, "hostd.sock"))
        s.register_function(lambda: [{"name": n, "id": n, "channel": "x",
                                      "uuid": "uuid-of-" + n,
                                      "state": "connected" if up else "absent"}
                                     for n, up in guests.items()], "host.guests")
        s.register_function(lambda n="": {"name": n, "state": "connected"}, "host.guest")
        s.register_function(lambda: "host pong", "host.ping")
        servers.append(s)
    return runtime, servers


def close(servers):
    for s in servers:
        s.close()


@suite.case("the only connected guest needs no name; of several the error lists them")
def _():
    runtime, servers = host({"vm1": True, "vm2": False})
    expect(va("call", "guest.whoami", runtime=runtime), 0, "I am vm1\n")
    close(servers)
    runtime, servers = host({"vm1": True, "vm2": True, "vm3": False})
    r = expect(va("call", "guest.whoami", runtime=runtime), 3, "", "several guests")
    assert "vm1, vm2" in r.stderr and "vm3" not in r.stderr
    expect(va("-G", "vm2", "call", "guest.whoami", runtime=runtime), 0, "I am vm2\n")
    expect(va("call", "guest.whoami", runtime=runtime, guest="vm1"), 0, "I am vm1\n")
    expect(va("call", "guest.whoami", "-G", "uuid-of-vm2", runtime=runtime), 0, "I am vm2\n")
    expect(va("cat", "vm9:/x", runtime=runtime), 2, "", "vm1, vm2, vm3")
    expect(va("call", "host.ping", runtime=runtime), 0, "host pong\n")
    r = expect(va("guests", runtime=runtime), 0)
    assert [line.split()[:2] for line in r.stdout.splitlines()] == [
        ["NAME", "STATE"], ["vm1", "connected"], ["vm2", "connected"], ["vm3", "absent"]]
    assert len(json.loads(va("guests", "--json", runtime=runtime).stdout)) == 3
    expect(va("guest", "vm1", runtime=runtime), 0, None)
    close(servers)


@suite.case("without va-hostd the virtproxies' sockets tell")
def _():
    runtime, servers = host({"vm1": True, "vm2": False}, hostd=False)
    expect(va("call", "guest.whoami", runtime=runtime), 0, "I am vm1\n")
    r = expect(va("guests", runtime=runtime), 0, None, "va-hostd does not answer")
    assert "vm1" in r.stdout and "vm2" in r.stdout
    expect(va("call", "host.ping", runtime=runtime), 10, "", "not connected")
    close(servers)


@suite.case("a guest that is not connected is exit 10 within a second, and says why")
def _():
    runtime, servers = host({"vm1": False})
    for args in (["-G", "vm1", "call", "guest.ping"], ["ping"], ["cat", "vm1:/x"],
                 ["-G", "vm1", "dmesg"], ["-G", "vm1", "call", "guest.once"],
                 ["get", "vm1:/x"], ["ls", "vm1:/"], ["ps", "vm1"], ["shutdown", "vm1"]):
        began = time.monotonic()
        r = expect(va(*args, runtime=runtime), 10, "", "vm1")
        assert "the channel is absent" in r.stderr, r.stderr
        assert time.monotonic() - began < scale(), args
    servers[0].silent = True        # a virtproxy that is stopped
    began = time.monotonic()
    expect(va("-G", "vm1", "ping", runtime=runtime), 10, "", "does not answer")
    assert time.monotonic() - began < 1.5 * scale()
    servers[0].silent = False
    r = json.loads(expect(va("info", "vm1", "--json", runtime=runtime), 0).stdout)
    assert r["connected"] is False and "absent" in r["why"], r
    close(servers)
    expect(va("ping", runtime=fresh("empty")), 10, "")
    os.unlink(os.path.join(runtime, "guests/vm1/ctl.sock"))
    expect(va("-G", "vm1", "ping", runtime=runtime), 10, "", "virtproxy is not running")


@suite.case("inside a guest guest.* is the own agent's and host.* the host's")
def _():
    runtime = fresh("in")
    agent, up = (XMLRPCServer(os.path.join(runtime, n)) for n in ("agent.sock", "host.sock"))
    agent.register_function(lambda: "own agent", "guest.ping")
    up.register_function(lambda: "parent", "host.ping")
    expect(va("call", "guest.ping", runtime=runtime), 0, "own agent\n")
    expect(va("call", "host.ping", runtime=runtime), 0, "parent\n")
    expect(va("-G", "vm1", "ping", runtime=runtime), 2, "", "no va-hostd runs here")
    # The same machine is a host, too: --up still asks its own parent.
    own = XMLRPCServer(os.path.join(runtime, "hostd.sock"))
    own.register_function(lambda: "own hostd", "host.ping")
    expect(va("call", "host.ping", runtime=runtime), 0, "own hostd\n")
    expect(va("--up", "call", "host.ping", runtime=runtime), 0, "parent\n")
    expect(va("call", "--up", "guest.ping", runtime=runtime), 0, "own agent\n")
    close([agent, up, own])


@suite.case("wait returns when the guest answers, 124 when it does not in time")
def _():
    runtime, servers = host({"vm1": False})
    began = time.monotonic()
    expect(va("wait", "vm1", "-t", "0.4", runtime=runtime), 124, "", "still not connected")
    assert 0.3 < time.monotonic() - began
    p = subprocess.Popen([CLIENT, "wait", "vm1", "-t", "20"],
                         env=dict(os.environ, VA_RUNTIME_DIR=runtime))
    try:
        time.sleep(0.2)
        assert p.poll() is None
        servers[0].status = {"session": "up"}
        assert p.wait(10 * scale()) == 0
    finally:
        p.kill()
        p.wait()
    expect(va("wait", "--gone", "vm1", "-t", "0.2", runtime=runtime), 124, "")
    servers[0].status = {"session": "down"}
    expect(va("wait", "--gone", "vm1", "-t", "5", runtime=runtime), 0, "")
    expect(va("wait", "vm9", "-t", "5", runtime=runtime), 2, "", "no such guest")
    close(servers)


# --- hostile servers ---------------------------------------------------------

def against(answer, *args, seconds=20):
    """va-client call against a Raw server; the result and the requests."""
    s = Raw(os.path.join(fresh("raw"), "s"), answer)
    try:
        return va("-G", "unix:" + s.path, *args, seconds=seconds), s.requests
    finally:
        s.close()


@suite.case("a silent server is exit 124 when the time is over")
def _():
    began = time.monotonic()
    r, _ = against(lambda q, n: None, "-t", "0.5", "call", "guest.ping")
    expect(r, 124, "", "timed out")
    assert 0.4 < time.monotonic() - began < 3 * scale()
    r, _ = against(lambda q, n: b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n<",
                   "-t", "0.5", "call", "guest.ping")
    expect(r, 11, "")
    r, _ = against(lambda q, n: None, "-t", "0.3", "cat", "/x")
    expect(r, 124, "")
    r, _ = against(lambda q, n: None, "-t", "0.3", "call", "guest.once")
    expect(r, 124, "")


@suite.case("documents that are wrong are exit 2, quickly, and print nothing")
def _():
    long = "<array><data>" * 50 + "</data></array>" * 50
    deep = value_reply("<array><data><value>" * 20000 + "</value></data></array>" * 20000)
    bomb = ('<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "%s">]>'
            "<methodResponse><params><param><value><string>&c;</string></value></param>"
            "</params></methodResponse>" % ("&b;" * 1000))
    wrong = {
        "no XML": "hello", "empty": "", "half": value_reply("x")[:60], "long": long,
        "deep": deep, "bomb": bomb, "bad number": value_reply("<i8>junk</i8>"),
        "two values": value_reply("<int>1</int></value><value><int>2</int>"),
        "a call": "<?xml version='1.0'?><methodCall><methodName>x</methodName></methodCall>",
        "not UTF-8": value_reply("\udcff"), "binary": "\0\1\2",
    }
    for name, text in wrong.items():
        body = text.encode("utf-8", "surrogateescape")
        began = time.monotonic()
        r, requests = against(lambda q, n: http_reply(body), "call", "guest.ping")
        assert r.returncode == 2 and r.stdout == "", (name, r)
        assert "not valid" in r.stderr, (name, r.stderr)
        assert time.monotonic() - began < 3 * scale(), name
        assert len(requests) == 1, name


@suite.case("wrong HTTP is exit 2 or 11, and never a hang")
def _():
    for name, data, codes in (
            ("no HTTP", b"SSH-2.0-x\r\n", (2, 11)),
            ("404", http_reply("gone\x1b[2J\nmore", "404 Not Found"), (2,)),
            ("500", http_reply("", "500 Oops"), (2,)),
            ("redirect", b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n"
             b"Content-Length: 0\r\n\r\n", (2,)),
            ("closed", b"", (11,)),
            ("bad length", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
             (2, 11)),
            ("long header", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 400000 + b"\r\n\r\n", (2, 11))):
        r, _ = against(lambda q, n: data, "call", "guest.ping")
        assert r.returncode in codes and r.stdout == "", (name, r)
        assert "\x1b" not in r.stderr, name


@suite.case("a huge reply is refused at its limit, not collected")
def _():
    def endless(q, n):
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n"
        for _ in range(64):
            yield b" " * (1 << 20)
    r, _ = against(endless, "call", "guest.ping")
    assert r.returncode == 2 and r.stdout == "", r


@suite.case("wrong types where a struct is expected are refused")
def _():
    for inner in ("<int>1</int>", "<string>x</string>", "<array><data></data></array>",
                  "<struct></struct>",
                  "<struct><member><name>data</name><value><int>1</int></value></member>"
                  "</struct>",
                  "<struct><member><name>data</name><value><base64></base64></value></member>"
                  "<member><name>eof</name><value><boolean>0</boolean></value></member>"
                  "</struct>",
                  "<struct><member><name>data</name><value><base64>QQ==</base64></value>"
                  "</member><member><name>offset</name><value><int>7</int></value></member>"
                  "</struct>"):
        r, _ = against(lambda q, n: http_reply(value_reply(inner)), "cat", "/x")
        assert r.returncode == 2, (inner, r)
    for verb in (["methods"], ["info"], ["ls", "/"], ["stat", "/x"], ["ps"], ["ip"]):
        for inner in ("<int>1</int>", "<string>x</string>", "<struct></struct>"):
            r, _ = against(lambda q, n: http_reply(value_reply(inner)), *verb)
            assert r.returncode in (0, 2), (verb, inner, r)


REPLY = http_reply(value_reply("<string>pong</string>"))


@suite.case("a reply cut at every byte is exit 11 for ping, and is asked twice")
def _():
    runtime = fresh("cut")
    state = {"cut": 0}
    s = Raw(os.path.join(runtime, "s"), lambda q, n: REPLY[:state["cut"]])
    step = 1 if scale() <= 1 else 7
    for cut in range(0, len(REPLY), step):
        state["cut"] = cut
        before = len(s.requests)
        r = va("-G", "unix:" + s.path, "call", "guest.ping")
        assert r.returncode in (2, 11) and r.stdout == "", (cut, r)
        if r.returncode == 11:
            assert len(s.requests) - before == 2, (cut, len(s.requests) - before)
    state["cut"] = len(REPLY)
    expect(va("-G", "unix:" + s.path, "call", "guest.ping"), 0, "pong\n")
    s.close()


def once_server(outcomes, agent="agent-1", reply=b""):
    """A server that cuts guest.once and then answers guest.outcome in turn."""
    asked = []

    def answer(request, number):
        if b"guest.capabilities" in request:
            return http_reply(value_reply(
                "<struct><member><name>agent_id</name><value><string>%s</string></value>"
                "</member></struct>" % agent))
        if b"guest.outcome" in request:
            asked.append(request)
            return outcomes[min(len(asked), len(outcomes)) - 1]
        if b"system.methodSignature" in request:
            return http_reply(value_reply("<string>undef</string>"))
        return reply
    return answer, asked


def struct(**members):
    return http_reply(value_reply("<struct>%s</struct>" % "".join(
        "<member><name>%s</name><value>%s</value></member>" % m for m in members.items())))


def fault(code, text):
    return http_reply(
        "<?xml version='1.0'?><methodResponse><fault><value><struct><member><name>faultCode"
        "</name><value><int>%d</int></value></member><member><name>faultString</name><value>"
        "<string>%s</string></value></member></struct></value></fault></methodResponse>"
        % (code, text))


@suite.case("a lost call is asked about: done, never seen, unknown; never sent twice")
def _():
    done = struct(state="<string>done</string>", result="<string>kept</string>")
    running = struct(state="<string>running</string>")
    for outcomes, code, out, err in (
            ([done], 0, "kept\n", ""),
            ([b"", running, running, done], 0, "kept\n", ""),
            ([struct(state="<string>never</string>")], 10, "", "did not run"),
            ([fault(5, "another agent")], 11, "", "restarted"),
            ([fault(-506, "no such method")], 11, "", "keeps no outcomes"),
            ([struct(state="<string>done</string>", fault="<struct><member><name>code</name>"
                     "<value><int>1002</int></value></member><member><name>text</name><value>"
                     "<string>no such thing</string></value></member></struct>")],
             1, "", "no such thing"),
            ([b""], 11, "", "nobody could say")):
        answer, asked = once_server(outcomes)
        r, requests = against(answer, "-t", "2", "call", "guest.once")
        expect(r, code, out, err)
        sent = [q for q in requests if b"guest.once" in q and b"POST" in q
                and b"<methodName>guest.once<" in q]
        assert len(sent) == 1, "sent %d times" % len(sent)
        id_ = [line for line in sent[0].split(b"\r\n") if line.startswith(b"Virtagent-Call: ")]
        assert id_ and all(id_[0].split(b": ")[1] in q for q in asked)


@suite.case("without an agent id a lost call is exit 11 at once")
def _():
    answer, asked = once_server([b""], agent="")
    r, requests = against(answer, "call", "guest.once")
    expect(r, 11, "", "not known")
    assert not asked
    assert len([q for q in requests if b"<methodName>guest.once<" in q]) == 1


@suite.case("an agent that was replaced meanwhile gets the call anew, with its own id")
def _():
    agents = iter(["agent-1", "agent-2"])

    def answer(request, number):
        if b"guest.capabilities" in request:
            return struct(agent_id="<string>%s</string>" % next(agents))
        if b"methodSignature" in request:
            return http_reply(value_reply("<string>undef</string>"))
        if b"Virtagent-Call: agent-2/" in request:
            return REPLY
        return fault(5, "that is another agent")
    r, requests = against(answer, "call", "guest.once")
    expect(r, 0, "pong\n")


@suite.case("a refused stream is told with the reason of the control socket")
def _():
    runtime = fresh("ref")
    d = os.path.join(runtime, "guests", "vm1")
    os.makedirs(d)
    ctl = Control(os.path.join(d, "ctl.sock"), {"session": "up", "refused-there": 3},
                  ["3 virtagent an old reason", "4 other not mine"])

    def answer(request, number):
        ctl.status["refused-there"] += 1
        ctl.refused.append("9 virtagent no such service there")
        return b""
    s = Raw(os.path.join(d, "rpc.sock"), answer)
    expect(va("-G", "vm1", "ping", runtime=runtime), 10, "", "no such service there")
    s.close()
    ctl.refused = ctl.refused[:2]
    s = Raw(os.path.join(d, "rpc.sock"), lambda q, n: b"")
    r = expect(va("-G", "vm1", "ping", runtime=runtime), 11, "")
    assert "old reason" not in r.stderr
    close([s, ctl])


@suite.case("faults map to exit codes")
def _():
    for code, status in ((3, 10), (4, 11), (7, 124), (1, 2), (2, 2), (1002, 1), (1110, 124),
                         (-509, 2), (1013, 2)):
        r, _ = against(lambda q, n: fault(code, "because of %d" % code), "call", "guest.ping")
        expect(r, status, "", "because of %d" % code)


@suite.case("every verb has --help, --version works, output errors are errors")
def _():
    verbs = [line.strip() for line in va("help").stdout.split("\n\n")[0].splitlines()]
    assert len(verbs) > 20
    for line in verbs:
        words = line.split("  ")[0].split()
        r = expect(va(*words, "--help"), 0)
        assert r.stdout.startswith("Usage: va-client " + " ".join(words)), r.stdout
    expect(va("--help"), 0)
    assert "virtagent" in expect(va("--version"), 0).stdout
    with open("/dev/full", "w") as full:
        r = subprocess.run([CLIENT, *G, "dmesg"], stdout=full, stderr=subprocess.PIPE,
                           timeout=20 * scale())
    assert r.returncode == 2 and b"cannot write" in r.stderr, r


suite.cleanups.append(server.close)
suite.main()
