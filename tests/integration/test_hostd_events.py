#!/usr/bin/python3
"""Events: numbered, kept, streamed, sent by guests, run through hooks.

SPDX-License-Identifier: MIT
"""
import json
import os
import stat
import sys
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Suite, Timeout, connect_unix, tmpdir, wait_until
from vatest.hostd import FakeGuest, Hostd, need_hostd
from vatest.wait import Lines

need_hostd()
suite = Suite()
chan = os.path.join(tmpdir(), "c")
hostd = Hostd(["web=unix-connect:%s:-" % chan, "other=unix-connect:%s.2:-" % chan],
              "[events]\nhook-timeout = 1s\n")
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)
guest = FakeGuest(chan)
suite.cleanups.append(guest.close)


def send(name, *args):
    return guest.call_host().host.event.send(name, *args)


@suite.case("what a guest sends is numbered and kept")
def _():
    hostd.wait_event("agent-up")
    first = send("started", {"n": 1, "text": "a\"b"})
    second = send("ended", '{"n": 2}')
    assert second == first + 1
    e = hostd.events(first - 1)
    assert [x["event"] for x in e] == ["started", "ended"], e
    assert e[0]["data"] == {"n": 1, "text": "a\"b"} and e[1]["data"] == {"n": 2}, e
    assert e[0]["guest"] == "web" and e[0]["time"].endswith("Z"), e


@suite.case("one sent again under its number is kept once")
def _():
    a = send("unique", {}, "agent-1/7")
    b = send("unique", {}, "agent-1/7")
    assert a == b
    assert send("unique", {}, "agent-1/8") == a + 1
    assert len([e for e in hostd.events() if e["event"] == "unique"]) == 2


@suite.case("bad names, data and ids are refused with the reason")
def _():
    for args, word in ((("Upper",), "lower-case"), (("",), "lower-case"), (("a b",), "lower-case"),
                       (("x", "no json"), "JSON"), (("x", 5), "struct"),
                       (("x", {}, "nonsense"), "AGENT-ID/NUMBER"),
                       (("x", {"d": "y" * 17000}), "16384")):
        try:
            send(*args)
        except xmlrpc.client.Fault as e:
            assert word in e.faultString, e
        else:
            raise AssertionError(args)


@suite.case("events.sock: live only, or what was kept first")
def _():
    last = hostd.events()[-1]["seq"]
    live, old = hostd.feed("web"), hostd.feed("web", 0)
    other = hostd.feed("other")
    seq = send("to-all", {"x": 1})
    e = live.next()
    assert e["seq"] == seq and e["event"] == "to-all" and e["data"] == {"x": 1}, e
    seen = []
    while not seen or seen[-1]["seq"] < seq:
        seen.append(old.next())
    assert [x["seq"] for x in seen] == sorted({x["seq"] for x in seen})
    assert len(seen) == len(hostd.events(0, "web")) and seen[0]["seq"] < last
    try:
        e = other.next(0.3)
        raise AssertionError("another guest's event %s" % e)
    except Timeout:
        pass
    for f in (live, old, other):
        f.close()


@suite.case("events.sock: a consumer that was away misses nothing")
def _():
    f = hostd.feed("web")
    at = send("before")
    assert f.next()["seq"] == at
    f.close()
    seqs = [send("away-%d" % i) for i in range(5)]
    f = hostd.feed("web", at)
    assert [f.next()["seq"] for _ in range(5)] == seqs
    f.close()


@suite.case("events.sock: nonsense closes it")
def _():
    s = connect_unix(os.path.join(hostd.guest_dir("web"), "events.sock"))
    s.sendall(b"x" * 200 + b"\n")
    try:
        assert s.recv(10) == b""
    except ConnectionResetError:
        pass
    s.close()


@suite.case("GET /events: all, after a number, of a guest, and as they happen")
def _():
    def get(query, sock=hostd.sock):
        s = connect_unix(sock)
        s.sendall(b"GET /events%s HTTP/1.1\r\nHost: x\r\n\r\n" % query.encode())
        lines = Lines(s)
        while lines.next(10):
            pass
        return s, lines

    def next_event(lines):
        while True:
            line = lines.next(10)
            if line.startswith("{"):
                return json.loads(line)
    s, lines = get("?follow=1&guest=web")
    seq = send("followed")
    assert next_event(lines)["seq"] == seq
    seq = send("followed-too")
    assert next_event(lines)["seq"] == seq
    s.close()
    s, lines = get("?since=%d&follow=1" % (seq - 2))
    assert [next_event(lines)["seq"] for _ in range(2)] == [seq - 1, seq]
    s.close()
    s, lines = get("?since=%d" % (seq - 1))
    assert next_event(lines)["seq"] == seq
    assert lines.next(5) == "" and lines.next(5) == "0", "the stream ends"
    s.close()


@suite.case("a flood is cut, the guest is told, and the host says so once")
def _():
    host = guest.call_host()
    refused = sent = 0
    for _ in range(500):
        try:
            host.host.event.send("flood")
            sent += 1
        except xmlrpc.client.Fault as e:
            assert e.faultCode == -509 and "50 events a second" in e.faultString, e
            refused += 1
    assert sent >= 150 and refused > 0, (sent, refused)
    wait_until(lambda: send_ok(host, "after"), 10, "the guest to be served again", 0.1)
    last = [e for e in hostd.events() if e["event"] == "events-refused"]
    total = sum(e["data"]["count"] for e in last)
    assert total >= refused, (last, refused)
    assert hostd.log().count("sends more than 50 events") <= len(last) + 1


def send_ok(host, name):
    try:
        return host.host.event.send(name)
    except xmlrpc.client.Fault:
        return None


@suite.case("events outlive va-hostd, and numbers go on")
def _():
    before = hostd.events()
    hostd.process.kill()
    hostd.start()
    after = hostd.events()
    assert [e["seq"] for e in after[:len(before)]] == [e["seq"] for e in before]
    hostd.wait_state("web", "connected")
    assert wait_until(lambda: send_ok(guest.call_host(), "later"), 10, "a later event") \
        > before[-1]["seq"]


def hook(name, text, mode=0o700):
    d = os.path.join(hostd.conf_dir, "hooks", "events.d")
    os.makedirs(d, mode=0o700, exist_ok=True)
    path = os.path.join(d, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


@suite.case("hooks run for each event, in order, with the event in hand")
def _():
    out = os.path.join(hostd.dir, "out")
    hook("10-first", '#!/bin/sh\necho "$1 $VA_SIDE $VA_GUEST $VA_EVENT $VA_SEQ $(cat) $HOME" '
                     '>> %s\n' % out)
    hook("20-second", "#!/bin/sh\necho second >> %s\n" % out)
    seq = send("hooked", {"a": "$(touch /tmp/no); `x`"})
    wait_until(lambda: os.path.exists(out) and "second" in open(out).read(), 10, "both hooks")
    lines = open(out, encoding="utf-8").read().splitlines()
    assert lines[0].startswith("hooked host web hooked %d {" % seq), lines
    assert json.loads(lines[0][lines[0].index("{"):]) == {"a": "$(touch /tmp/no); `x`"}, lines
    assert lines[1] == "second", lines


@suite.case("unsafe hooks are refused with the reason, the others still run")
def _():
    out = os.path.join(hostd.dir, "out2")
    hook("10-first", "#!/bin/sh\necho bad >> %s\n" % out, 0o722)
    hook("20-second", "#!/bin/sh\necho $VA_SEQ >> %s\n" % out)
    hook("15-not-executable", "#!/bin/sh\necho bad >> %s\n" % out, 0o600)
    os.symlink("/bin/true", os.path.join(hostd.conf_dir, "hooks/events.d/17-link"))
    seq = send("hooked-again")
    wait_until(lambda: os.path.exists(out), 10, "the good hook")
    assert open(out, encoding="utf-8").read() == "%d\n" % seq
    for text in ("10-first: .*writable", "15-not-executable: not executable",
                 "17-link: not a regular file"):
        hostd.process.wait_log(text)


@suite.case("a hook that hangs is killed with its children at the deadline")
def _():
    d = os.path.join(hostd.conf_dir, "hooks", "events.d")
    for name in os.listdir(d):
        os.unlink(os.path.join(d, name))
    out = os.path.join(hostd.dir, "out3")
    hook("10-hang", "#!/bin/sh\nsleep 1000 &\necho $! >> %s\nwait\n" % out)
    send("hang")
    hostd.process.wait_log("10-hang for event hang: killed after 1 seconds")
    child = int(open(out, encoding="utf-8").read().split()[0])

    def dead():
        try:
            with open("/proc/%d/stat" % child, encoding="ascii", errors="replace") as f:
                return f.read().split()[2] == "Z"
        except FileNotFoundError:
            return True
    wait_until(dead, 5, "the hook's child to die")
    assert hostd.rpc().host.ping() == "pong"


@suite.case("a slow hook delays its own guest's events only, and those keep their order")
def _():
    d = os.path.join(hostd.conf_dir, "hooks", "events.d")
    for name in os.listdir(d):
        os.unlink(os.path.join(d, name))
    out = os.path.join(hostd.dir, "out4")
    two = FakeGuest(chan + ".2", agent_id="agent-2")
    try:
        hostd.wait_event("agent-up", guest="other")
        hook("10-slow", "#!/bin/sh\ncase $VA_EVENT in slow-*) ;; *) exit 0 ;; esac\n"
             "[ $VA_GUEST = other ] || sleep 0.6\necho $VA_GUEST $VA_EVENT >> %s\n" % out)
        for i in range(5):
            send("slow-%d" % i)
        host = two.call_host()
        for i in range(2):
            host.host.event.send("slow-%d" % i)

        def lines():
            return open(out, encoding="utf-8").read().splitlines() if os.path.exists(out) else []
        wait_until(lambda: len(lines()) == 7, 20, "seven hooks")
        got = lines()
        web = [x for x in got if x.startswith("web")]
        assert web == ["web slow-%d" % i for i in range(5)], got
        other = [x for x in got if x.startswith("other")]
        assert other == ["other slow-0", "other slow-1"], got
        # Five at 0.6 s each: the other guest's were done when two of them were.
        assert got.index("other slow-1") <= 3, got
    finally:
        two.close()


@suite.case("more guests at once than hooks may run: each gets its turn")
def _():
    d = os.path.join(hostd.conf_dir, "hooks", "events.d")
    for name in os.listdir(d):
        os.unlink(os.path.join(d, name))
    n = 12
    h = Hostd(["g%d=unix-connect:%s.m%d:-" % (i, chan, i) for i in range(n)])
    try:
        d = os.path.join(h.conf_dir, "hooks", "events.d")
        os.makedirs(d, mode=0o700)
        out = os.path.join(h.dir, "out")
        path = os.path.join(d, "10-count")
        with open(path, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\n[ $VA_EVENT = agent-up ] || exit 0\n"
                    "echo + $VA_GUEST >> %s\nsleep 0.5\necho - $VA_GUEST >> %s\n" % (out, out))
        os.chmod(path, 0o700)
        guests = [FakeGuest("%s.m%d" % (chan, i), agent_id="agent-m%d" % i) for i in range(n)]

        def lines():
            return open(out, encoding="utf-8").read().splitlines() if os.path.exists(out) else []
        wait_until(lambda: len(lines()) == 2 * n, 30, "all hooks")
        running = most = 0
        for line in lines():
            running += 1 if line[0] == "+" else -1
            most = max(most, running)
        assert 1 < most <= 8, lines()
        for g in guests:
            g.close()
    finally:
        h.close()


@suite.case("a damaged database is said, served from memory, and the guest waits")
def _():
    hostd.process.stop()
    path = os.path.join(hostd.env["VA_STATE_DIR"], "hostd.sqlite")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    for extra in ("-wal", "-shm"):
        if os.path.exists(path + extra):
            os.unlink(path + extra)
    with open(path, "r+b") as f:
        f.write(b"garbage" * 1000)
    hostd.start()
    hostd.process.wait_log("hostd.sqlite: cannot be written")
    assert "hostd.sqlite" in hostd.rpc().host.events()["trouble"]
    hostd.wait_state("web", "connected")
    try:
        send("must-last")
        raise AssertionError("kept, on a damaged disk")
    except xmlrpc.client.Fault as e:
        assert "not kept" in e.faultString and "hostd.sqlite" in e.faultString, e
    guest.vanish()
    hostd.wait_event("guest-lost")


suite.main()
