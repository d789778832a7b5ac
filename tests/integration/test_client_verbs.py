#!/usr/bin/python3
# test_client_verbs.py - va-client's events, power, ps, df, ip and info against
# servers of the standard library.
#
# SPDX-License-Identifier: MIT
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import Suite, program, run, scale, tmpdir, wait_until  # noqa: E402
from vatest.fake import Control, XMLRPCServer  # noqa: E402

CLIENT = program("va-client")
RUNTIME = os.path.join(tmpdir(), "run")
GUEST = os.path.join(RUNTIME, "guests", "vm1")
os.makedirs(GUEST)
ENV = {"VA_RUNTIME_DIR": RUNTIME, "VA_GUEST": ""}
suite = Suite()


def va(*args, seconds=20):
    return run([CLIENT, *args], seconds=seconds, env=ENV)


def expect(r, code, out=None, err=""):
    assert r.returncode == code, "status %d, expected %d\n%s\n%s" % (
        r.returncode, code, r.stdout, r.stderr)
    assert out is None or r.stdout == out, r.stdout
    assert err in r.stderr, r.stderr
    return r


# --- events -------------------------------------------------------------------

class Events:
    """GET /events as PROTOCOL has it; lines are sent as they are added."""

    def __init__(self):
        self.lines, self.queries, self.changed = [], [], threading.Condition()
        self.dead = False
        self.server = None

    def start(self):
        self.dead = False
        self.server = XMLRPCServer(os.path.join(RUNTIME, "hostd.sock"))
        self.server.web = self.web
        self.server.register_function(lambda: [{"name": "vm1", "state": "connected"}],
                                      "host.guests")
        self.server.register_function(self.send, "host.event.send")
        self.server.register_function(
            lambda since, limit: {"events": [], "newest": len(self.lines)}, "host.events")

    def stop(self):
        with self.changed:
            self.dead = True
            self.changed.notify_all()
        self.server.close()
        os.unlink(self.server.path)

    def send(self, name, data=None):
        self.add({"guest": "vm1", "event": name, "data": data or {}})
        return len(self.lines)

    def add(self, event, raw=None):
        with self.changed:
            event = dict(event, seq=len(self.lines) + 1, time="2026-01-02T03:04:05.678Z")
            self.lines.append(raw or json.dumps(event))
            self.changed.notify_all()

    def web(self, h):
        query = {k: v[0] for k, v in
                 urllib.parse.parse_qs(urllib.parse.urlsplit(h.path).query).items()}
        self.queries.append(query)
        h.send_response(200)
        h.send_header("Content-Type", "application/x-ndjson")
        h.send_header("Connection", "close")
        h.end_headers()
        follow = query.get("follow") == "1"
        at = int(query.get("since", len(self.lines) if follow else 0))
        while not self.dead:
            with self.changed:
                new, at = self.lines[at:], len(self.lines)
            for line in new:
                h.wfile.write(line.encode() + b"\n")
            h.wfile.flush()
            if not follow:
                break
            with self.changed:
                if len(self.lines) == at and not self.dead:
                    self.changed.wait(0.2)
        h.close_connection = True


events = Events()
events.start()
suite.cleanups.append(lambda: events.stop())


@suite.case("events prints what is kept; --since, -G and --json")
def _():
    events.send("agent-up")
    events.send("disk-full", {"path": "/var\u202e", "n": 1})
    r = expect(va("events"), 0)
    lines = r.stdout.splitlines()
    assert lines[0] == "1 2026-01-02T03:04:05.678Z vm1 agent-up ", lines
    assert lines[1].startswith("2 2026-01-02T03:04:05.678Z vm1 disk-full {"), lines
    r = expect(va("events", "--since", "1", "--json", "-G", "vm1"), 0)
    assert [json.loads(x)["seq"] for x in r.stdout.splitlines()] == [2]
    assert events.queries[-1] == {"follow": "0", "since": "1", "guest": "vm1"}
    expect(va("events", "vm1"), 0)
    assert events.queries[-1]["guest"] == "vm1", events.queries[-1]
    expect(va("events", "--since", "x"), 3, "")


class Follower:
    def __init__(self, *args):
        self.p = subprocess.Popen([CLIENT, "events", "-f", *args], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  env=dict(os.environ, **ENV))

    def line(self):
        return self.p.stdout.readline().rstrip()

    def end(self):
        self.p.send_signal(signal.SIGINT)
        try:
            return self.p.wait(10 * scale())
        finally:
            self.p.kill()
            self.p.wait()
            self.p.stdout.close()
            self.p.stderr.close()


@suite.case("events --follow misses nothing and repeats nothing when va-hostd restarts")
def _():
    n = len(events.queries)
    f = Follower("--since", "1")
    assert " disk-full " in f.line()
    events.send("one")
    assert f.line().split()[0::3][:2] == ["3", "one"]
    events.stop()
    events.send("while-away")
    time.sleep(0.3)
    events.start()
    assert " while-away" in f.line()
    events.send("after")
    assert " after" in f.line()
    assert f.end() == 130
    assert events.queries[-1]["since"] == "3", events.queries[n:]


@suite.case("events --follow from now on loses nothing either, before the first event")
def _():
    n = len(events.queries)
    f = Follower()
    wait_until(lambda: len(events.queries) > n, 10, "the question")
    events.stop()
    events.send("in-the-gap")
    events.start()
    assert " in-the-gap" in f.line()
    assert f.end() == 130


@suite.case("events --follow with a time limit ends with status 0")
def _():
    began = time.monotonic()
    expect(va("events", "-f", "-t", "0.4"), 0, "")
    assert time.monotonic() - began < 5 * scale()


@suite.case("a line that is no event is an error, an unreachable host is exit 10")
def _():
    events.add({}, raw="[1, 2")
    expect(va("events"), 2, None, "no event")
    events.lines.pop()
    events.stop()
    expect(va("events"), 10, "")
    events.start()


@suite.case("event send gives name and data")
def _():
    expect(va("event", "send", "backup-done", '{"bytes": 12}'), 0)
    assert json.loads(events.lines[-1])["data"] == {"bytes": 12}
    expect(va("event", "send", "plain"), 0)
    expect(va("event", "send", "x", "{bad"), 3, "", "no valid JSON")
    expect(va("event", "send"), 3, "")


# --- facts and power ------------------------------------------------------------

control = Control(os.path.join(GUEST, "ctl.sock"))
guest = XMLRPCServer(os.path.join(GUEST, "rpc.sock"))
suite.cleanups += [control.close, guest.close]
state = {"boot": "boot-1", "asked": [], "up": True, "waits": None}


def capabilities():
    state["capabilities"] = state.get("capabilities", 0) + 1
    return {"version": "1", "agent_id": "a", "boot_id": state["boot"], "methods": []}


def raise_fault(code, text):
    raise xmlrpc.client.Fault(code, text)


def shutdown(*args):
    state["asked"].append(args)
    if args[0] == "suspend":
        raise xmlrpc.client.Fault(1095, "suspend: this machine cannot")
    return {"mode": args[0], "delay_ms": 0}


def ping():
    return "pong"


PROCESSES = [{"pid": i, "ppid": 1, "user": "root", "state": "S", "rss": 4096 * i,
              "command": b"sh\x1b[2J" if i == 3 else "sh"} for i in range(1, 8)]
PROCESSES[6].update(command="", name="kthread")
for name, fn in {
        "capabilities": capabilities, "shutdown": shutdown, "ping": ping,
        "shutdown.cancel": lambda: state["waits"] or raise_fault(1002, "nothing waits"),
        "processes": lambda at=0, limit=0: {
            "processes": [p for p in PROCESSES if p["pid"] > at][:3],
            "cursor": min(at + 3, 7), "eof": at + 3 >= 7},
        "filesystems": lambda: [{"source": "/dev/vda", "mountpoint": "/", "type": "ext4",
                                 "total": 1 << 30, "used": 1 << 29, "available": 1 << 28},
                                {"source": "nfs:/x", "mountpoint": "/net", "type": "nfs"}],
        "interfaces": lambda: [{"name": "eth0", "state": "up", "mac": "52:54:00:00:00:01",
                                "mtu": 1500, "addresses": [
                                    {"address": "10.0.2.15", "family": "ipv4", "prefix": 24},
                                    {"address": "fe80::1", "family": "ipv6", "prefix": 64}]},
                               {"name": "lo", "addresses": []}],
        "osinfo": lambda: {"pretty_name": "Some Linux"},
        "uptime": lambda: {"boot_id": state["boot"]}}.items():
    guest.register_function(fn, "guest." + name)


@suite.case("ps, df and ip make tables of all pages, and JSON")
def _():
    r = expect(va("ps"), 0)
    assert len(r.stdout.splitlines()) == 8 and "\x1b" not in r.stdout
    assert r.stdout.splitlines()[7].endswith(" [kthread]")
    assert r.stdout.splitlines()[1].split() == ["1", "1", "root", "S", "4.0", "KiB", "sh"]
    assert [p["pid"] for p in json.loads(va("ps", "--json").stdout)] == list(range(1, 8))
    assert len(expect(va("df"), 0).stdout.splitlines()) == 2
    lines = expect(va("df", "-a", "vm1"), 0).stdout.splitlines()
    assert lines[1].split() == ["/dev/vda", "ext4", "1.0", "GiB", "512", "MiB", "256", "MiB", "/"]
    assert lines[2].split() == ["nfs:/x", "nfs", "-", "-", "-", "/net"]
    lines = expect(va("ip"), 0).stdout.splitlines()
    assert lines[1].endswith("10.0.2.15/24 fe80::1/64") and lines[2].split()[-1] == "-"


@suite.case("a list without an end is stopped")
def _():
    guest.register_function(lambda at=0, limit=0: {"processes": [], "cursor": 1, "eof": False},
                            "guest.processes")
    expect(va("ps"), 2, "", "empty page")


@suite.case("info shows channel, agent and system")
def _():
    r = json.loads(expect(va("info", "--json"), 0).stdout)
    assert r["connected"] and r["proxy"]["session"] == "up"
    assert r["agent"]["boot_id"] == "boot-1" and "methods" not in r["agent"]
    assert r["os"]["pretty_name"] == "Some Linux"
    assert "pretty_name:" in expect(va("info", "vm1"), 0).stdout


@suite.case("shutdown, halt and reboot ask once; delay and message are passed on")
def _():
    state["asked"].clear()
    expect(va("shutdown"), 0, "")
    expect(va("halt", "vm1"), 0, "")
    expect(va("reboot", "vm1", "-d", "90s", "-m", "bye"), 0, "")
    assert state["asked"] == [("powerdown",), ("halt",), ("reboot", 90, "bye")], state["asked"]
    expect(va("suspend"), 2, "", "cannot")
    expect(va("reboot", "-d", "soon"), 3, "")


@suite.case("--cancel takes back what waits, with any of the four verbs; alone")
def _():
    asked = len(state["asked"])
    expect(va("shutdown", "-c", "vm1"), 1, "", "nothing waits")
    state["waits"] = {"mode": "reboot", "by": "host", "uid": 0, "delay_ms": 59000}
    for verb in ("shutdown", "reboot", "halt", "suspend"):
        expect(va(verb, "vm1", "--cancel"), 0, "reboot cancelled\n")
    r = expect(va("shutdown", "--cancel", "--json"), 0)
    assert json.loads(r.stdout)["delay_ms"] == 59000
    for more in (("-w",), ("-d", "5"), ("-m", "x")):
        expect(va("shutdown", "-c", *more), 3, "", "--cancel stands alone")
    assert len(state["asked"]) == asked
    state["waits"] = dict(state["waits"], mode="\u202e\x7f")
    out = expect(va("shutdown", "-c"), 0).stdout
    assert out.endswith(" cancelled\n") and "\x7f" not in out and "\u202e" not in out, out
    expect(va("shutdown", "-d", "2d"), 3, "", "up to a day")


@suite.case("what a new user types instead is answered with what to type")
def _():
    for typed, words in (
            (("list",), "is it this: va-client guests\n"),
            (("log", "vm1"), "va-client dmesg [GUEST]"),
            (("reboott", "vm1"), "va-client reboot [GUEST]"),
            (("exce", "vm1", "ls"), "va-client exec [GUEST]"),
            (("help", "hlep"), "va-client help"),
            (("guets",), "one of these: guest, guests"),
            (("event",), "event is not the whole verb: event send"),
            (("kv",), "kv get"),
            (("xyzzy",), "help lists them"),
            (("fg", "vm1", "2"), "va-client attach JOB\n"),
            (("forget", "2"), "va-client kill --forget JOB...\n"),
            (("signal", "2"), "va-client kill [GUEST] JOB..."),
            (("rmdir", "vm1:/a"), "va-client rm -r GUEST:PATH\n"),
            (("mv", "vm1:/a", "vm1:/b"), "va-client call guest.rename FROM TO\n"),
            (("guest-network-get-interfaces", "vm1"), "va-client ip [GUEST]"),
            (("free", "vm1"), "va-client call guest.memory\n"),
            (("version",), "va-client --version\n"),
            (("get", CLIENT, "vm1:/tmp/"), "va-client put LOCAL... GUEST:PATH"),
            (("put", "vm1:/etc/passwd", "."), "va-client get GUEST:PATH... LOCAL"),
            (("cp", "vm1:/a", "vm1:/b"), "in two steps"),
            (("cp", CLIENT, "vm1"), "must be GUEST:PATH"),
            (("call", "vm1", "guest.ping"), "va-client call -G vm1 guest.ping"),
            (("forward", "vm1", "8080:80"), "forward vm1 8080 80"),
            (("get", "vm1", "/etc/hostname"), "vm1:/PATH"),
            (("cat", "vm1", "/etc/hostname"), "vm1:/PATH"),
            (("stat", "vm1"), "vm1:/PATH"),
            (("put", CLIENT, "vm1:"), "a path is missing"),
            (("ls", "./here"), "begins with /")):
        expect(va(*typed), 3, "", words)
    assert state["asked"] == [("powerdown",), ("halt",), ("reboot", 90, "bye"), ("suspend",)], state
    # What is said once is enough.
    guest.register_function(lambda *a: raise_fault(1002, "/nosuch: no such file"), "guest.stat")
    assert va("stat", "vm1:/nosuch").stderr.count("nosuch") == 1


@suite.case("ls takes GUEST and GUEST PATH, as its neighbours do")
def _():
    listed = []

    def entries(path, *more):
        listed.append(path)
        return {"entries": [], "eof": True, "cursor": ""}
    guest.register_function(entries, "guest.list")
    for words in (("vm1",), ("vm1:",), ("vm1", "/etc"), ("vm1:/etc",), ("/etc",), ()):
        expect(va("ls", *words), 0, "")
    assert listed == ["/", "/", "/etc", "/etc", "/etc", "/"], listed
    expect(va("ls", "nosuch", "/etc"), 2, "", "no such guest")


@suite.case("--wait returns when it is done: gone, or up with another boot id")
def _():
    def later(fn):
        t = threading.Timer(0.5, fn)
        t.start()
        return t
    t = later(lambda: control.status.update(session="down"))
    began = time.monotonic()
    expect(va("shutdown", "--wait"), 0, "")
    assert time.monotonic() - began > 0.4
    t.join()
    control.status["session"] = "up"
    state["capabilities"] = 0
    t = later(lambda: state.update(boot="boot-2"))
    expect(va("reboot", "--wait"), 0, "")
    t.join()
    # What is asked again and again is small.  (One is for the call's mark: this
    # server has no system.methodInfo.)
    assert state["capabilities"] <= 1, state
    # A policy that refuses guest.uptime, or an agent without it.
    guest.funcs.pop("guest.uptime")
    t = later(lambda: state.update(boot="boot-3"))
    expect(va("reboot", "--wait"), 0, "")
    t.join()
    expect(va("reboot", "--wait", "-t", "0.6"), 124, "", "not done")


suite.main()
