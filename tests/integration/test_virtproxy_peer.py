#!/usr/bin/python3
"""The peer is absent, silent, restarted, or has no such service; one process per
channel; the control socket; hints from QMP.

SPDX-License-Identifier: MIT
"""
import json
import os
import re
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Suite, connect_unix, run, scale, tmpdir, wait_until
from vatest.proxy import PROXY, Ctl, Pair, Proxy, Server, echo, environment, read_all
from vatest.wait import Lines

suite = Suite()


def ask(pair, name, data=b"hello"):
    with pair.connect(name) as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            return read_all(s)
        except (BrokenPipeError, ConnectionResetError):    # closed before it was read
            return b""


@suite.case("no peer: a client is accepted and closed at once, and counted")
def _():
    out = os.path.join(tmpdir(), "absent")
    channel = os.path.join(tmpdir(), "nobody-listens-here")
    with Proxy("-c", "unix-connect:%s:-" % channel, "-o", "svc:%s:-" % out) as p:
        p.wait_status("channel", "closed")
        began = time.monotonic()
        with connect_unix(out) as s:
            assert s.recv(1) == b""
        assert time.monotonic() - began < 1 * scale()
        st = p.status()
        assert st["refused-absent"] == 1 and st["streams"] == 0, st
        assert p.command("refused") == "0 svc no session with the peer"
        p.wait_log(r"waiting for unix-connect .*nobody-listens-here: No such file")


@suite.case("a connected channel without a guest behind it is no session")
def _():
    out, path = os.path.join(tmpdir(), "o1"), os.path.join(tmpdir(), "c1")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    with Proxy("-c", "unix-connect:%s:-" % path, "-o", "svc:%s:-" % out) as p:
        conn, _ = listener.accept()
        p.wait_status("channel", "up")
        with connect_unix(out) as s:
            assert s.recv(1) == b""
        # R23: not a byte before the guest has spoken.
        conn.settimeout(1.5)
        try:
            assert conn.recv(100) == b"", "the host spoke first"
        except TimeoutError:
            pass
        conn.close()
    listener.close()


@suite.case("clients that knock all the time do not put off the reconnect of a silent channel")
def _():
    out, path = os.path.join(tmpdir(), "o2"), os.path.join(tmpdir(), "c2")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    with Proxy("-c", "unix-connect:%s:-" % path, "-o", "svc:%s:-" % out) as p:
        p.wait_status("channel", "up")
        over = threading.Event()

        def knock():
            while not over.is_set():
                with connect_unix(out) as s:
                    s.recv(1)
        crowd = [threading.Thread(target=knock) for _ in range(4)]
        for t in crowd:
            t.start()
        try:
            wait_until(lambda: p.status()["reattaches"], 10, "a reconnect", 0.5)
        finally:
            over.set()
            for t in crowd:
                t.join()
    listener.close()


@suite.case("a silent peer: the client waits, and is served when it wakes")
def _():
    server = Server(echo)
    with Pair(outs=["e"], ins={"e": server.path}) as p:
        assert ask(p, "e") == b"hello"
        p.guest.signal(signal.SIGSTOP)
        try:
            with p.connect("e") as s:
                s.sendall(b"later")
                s.settimeout(5 * scale())
                try:
                    raise AssertionError("got %r from a stopped peer" % s.recv(1))
                except TimeoutError:
                    pass
                with p.connect("e") as counted:
                    p.host.wait_status("opened-while-silent", 1)
                    p.guest.signal(signal.SIGCONT)
                    s.settimeout(20 * scale())
                    assert s.recv(100) == b"later"
                    counted.sendall(b"too")
                    assert counted.recv(100) == b"too"
        finally:
            p.guest.signal(signal.SIGCONT)
        assert p.host.status()["streams-reset"] == 0
    server.close()


@suite.case("an unknown service is closed, and the opener can name the reason")
def _():
    with Pair(outs=["nope"], ins={}) as p:
        sup = Ctl(p.host.ctl_path)
        assert sup.command("adopt") == "ok"
        assert ask(p, "nope") == b""
        number, reason = re.match(r"event refused (\d+) nope (.+)", sup.event()).groups()
        sup.close()
        assert p.host.command("refused") == "%s nope %s" % (number, reason)
        p.host.wait_log(r"stream %s nope closed: .*nobody serves nope" % number)
        st = p.host.status()
        assert st["refused-there"] == 1 and st["streams"] == 0, st
        assert p.guest.status()["refused-here"] == 1


@suite.case("a service that nobody listens for is refused with its error")
def _():
    with Pair(outs=["dead"], ins={"dead": os.path.join(tmpdir(), "gone")}) as p:
        assert ask(p, "dead") == b""
        assert "No such file" in p.host.command("refused")
        assert tmpdir() not in p.host.command("refused"), "a path of the peer leaked"


@suite.case("the last 16 refusals are kept, oldest first")
def _():
    with Pair(outs=["nope"]) as p:
        for _ in range(20):
            assert ask(p, "nope") == b""
        first = p.host.command("refused").splitlines()
        assert ask(p, "nope") == b""
        second = p.host.command("refused").splitlines()
        assert len(first) == len(second) == 16 and second[:15] == first[1:], (first, second)


@suite.case("a service with a full backlog is waited for")
def _():
    path = os.path.join(tmpdir(), "busy")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(0)
    with Pair(outs=["s"], ins={"s": path}) as p:
        clients = [p.connect("s") for _ in range(6)]
        for c in clients:
            c.sendall(b"x")
        wait_until(lambda: "dialing" in p.guest.command("streams"), 5, "a full backlog")
        for _ in clients:
            conn, _addr = listener.accept()
            assert conn.recv(1) == b"x"
            conn.sendall(b"y")
            conn.close()
        for c in clients:
            assert read_all(c) == b"y"
            c.close()
    listener.close()


@suite.case("a second process on one channel is refused and told who holds it")
def _():
    server = Server(echo)
    with Pair(outs=["e"], ins={"e": server.path}) as p:
        link = os.path.join(p.dir, "link")
        os.symlink(p.dir, link)
        for path in (os.path.join(p.dir, "channel"), os.path.join(link, "channel")):
            r = run([PROXY, "-c", "unix-connect:%s:-" % path], env=environment())
            assert r.returncode == 1, r
            assert "is held by process %d " % p.host.pid in r.stderr, r.stderr
        assert ask(p, "e") == b"hello"
        p.host.kill()
        p.start("host")
        p.wait_session()
        assert ask(p, "e") == b"hello"
    server.close()


for victim in ("host", "guest"):
    for kind in ("unix", "pty"):
        @suite.case("kill -9 of the %s's end over %s: streams end, the next one works"
                    % (victim, kind))
        def _(victim=victim, kind=kind):
            held = []

            def serve(conn):
                data = conn.recv(100)
                if data == b"hold":
                    held.append(1)
                    held.append(read_all(conn))
                else:
                    conn.sendall(data)

            server = Server(serve)
            with Pair(kind, outs=["e"], ins={"e": server.path}) as p:
                s = p.connect("e")
                s.sendall(b"hold")
                wait_until(lambda: held, 5, "the stream")
                p.ends[victim].kill()
                p.start(victim)
                p.wait_session(30)
                # The local socket at each end is closed: nobody hangs.
                assert read_all(s) == b""
                s.close()
                wait_until(lambda: len(held) == 2, 10, "the server's end")
                assert ask(p, "e") == b"hello"
                p.host.wait_status("streams", 0)
            server.close()


@suite.case("reconnect on request keeps the streams")
def _():
    server = Server(echo)
    with Pair(outs=["e"], ins={"e": server.path}) as p, p.connect("e") as s:
        for i in range(5):
            s.sendall(b"round %d" % i)
            assert s.recv(100) == b"round %d" % i
            assert p.host.command("reconnect") == "ok"
            wait_until(lambda n=i + 2: p.host.status()["channel-opens"] == n, 10, "reopening")
        assert p.host.status()["streams-reset"] == 0
    server.close()


@suite.case("status in lines and in JSON say the same; --status shows them")
def _():
    server = Server(echo)
    with Pair(outs=["e"], ins={"e": server.path}, host_args=["--name", 'we"b\n1']) as p:
        assert ask(p, "e") == b"hello"
        p.host.wait_status("streams", 0)
        js = p.host.status()
        keys = [k for k, _ in json.loads(p.host.command("status json"),
                                         object_pairs_hook=list)]
        assert len(keys) == len(set(keys)), sorted(keys)
        lines = dict(x.split(" ", 1) for x in p.host.command("status").splitlines())
        assert set(js) == set(lines), set(js) ^ set(lines)
        assert js["label"] == 'we"b\\x0a1' and js["role"] == "host", js
        assert js["pid"] == p.host.pid and js["method"] == "unix-connect", js
        assert js["streams-opened"] == 1 and js["channel-kind"] == "virtio", js
        r = run([PROXY, "--status", p.host.ctl_path], check=True)
        assert "\nsession up\n" in r.stdout, r.stdout
        r = run([PROXY, "--status", p.host.ctl_path, "--json"], check=True)
        assert json.loads(r.stdout)["session"] == "up"
        assert "error unknown command" in p.host.command("stat")
    r = run([PROXY, "--status", p.host.ctl_path])
    assert r.returncode == 1 and p.host.ctl_path in r.stderr, r
    server.close()


@suite.case("a supervisor hears sessions and channels come and go, and may leave")
def _():
    with Pair(outs=["e"], ins={"e": "/nowhere"}) as p:
        sup = Ctl(p.host.ctl_path)
        assert sup.command("adopt") == "ok"
        p.guest.kill()
        seen = []

        def until(prefix):
            while not (seen and seen[-1].startswith(prefix)):
                seen.append(sup.event(20))

        until("event channel down")
        p.start("guest")
        until("event session up")
        assert any(x.startswith("event channel up") for x in seen), seen
        assert any(x.startswith("event session down") for x in seen), seen
        sup.close()
        assert p.host.status()["session"] == "up"
        again = Ctl(p.host.ctl_path)
        assert again.command("adopt") == "ok"
        again.close()


@suite.case("streams lists who is connected; quiesce holds new bytes back")
def _():
    server = Server(echo)
    with Pair(outs=["e"], ins={"e": server.path}) as p, p.connect("e") as s:
        s.sendall(b"abc")
        assert s.recv(10) == b"abc"
        line = p.host.command("streams")
        number, who = line.split(" ", 1)
        assert who == "e out uid %d gid %d pid %d sent 3 received 3" % (
            os.getuid(), os.getgid(), os.getpid()), line
        line = p.guest.command("streams")
        assert line.startswith("%s e in uid %d " % (number, os.getuid())), line
        wait_until(lambda: p.host.command("quiesce") == "idle", 10, "idle")
        s.sendall(b"held")
        s.settimeout(1)
        try:
            raise AssertionError("%r came through a quiesced link" % s.recv(10))
        except TimeoutError:
            pass
        assert p.host.command("resume") == "ok"
        s.settimeout(10 * scale())
        assert s.recv(10) == b"held"
    server.close()


@suite.case("quiesce: held in the middle of streams both ways, the line is empty; resume loses nothing")
def _():
    server = Server(echo)
    for kind in ("unix", "pty"):
        size = 3000000 if kind == "unix" else 300000
        with Pair(kind, outs=["e"], ins={"e": server.path}) as p:
            data, got = os.urandom(size), []
            with p.connect("e") as s:
                t = threading.Thread(target=lambda: got.append(read_all(s)))
                t.start()
                w = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
                w.start()
                for _ in range(5):
                    # Again at once: what was said of the last time does not count.
                    wait_until(lambda: p.host.command("quiesce") == "idle", 10, "idle", 0.001)
                    sent = [e.status()["stream-bytes-out"] for e in p.ends.values()]
                    for e in p.ends.values():
                        assert e.status()["in-flight-bytes"] == 0, e.status()
                    assert p.host.status()["quiesced"] == "idle"
                    time.sleep(0.05)
                    assert [e.status()["stream-bytes-out"] for e in p.ends.values()] == sent
                    assert p.host.command("resume") == "ok"
                w.join()
                t.join()
            assert got[0] == data
            for e in p.ends.values():
                assert e.status()["retransmits"] == 0, e.status()
    server.close()


@suite.case("quiesce ends by itself; what is no time is refused")
def _():
    server = Server(echo)
    with Pair(outs=["e"], ins={"e": server.path}) as p, p.connect("e") as s:
        for wrong in ("0", "3601", "x", "-1", "1 2"):
            assert p.host.command("quiesce " + wrong).startswith("error "), wrong
        assert p.host.status()["quiesced"] == "no"
        wait_until(lambda: p.host.command("quiesce 1") == "idle", 10, "idle")
        s.sendall(b"later")
        s.settimeout(10 * scale())
        began = time.monotonic()
        assert s.recv(10) == b"later"
        assert time.monotonic() - began > 0.7
        p.host.wait_log("nobody said resume")
        assert p.host.status()["quiesced"] == "no"
    server.close()


@suite.case("a control client that never reads or sends rubbish harms nobody")
def _():
    with Pair() as p:
        flood = connect_unix(p.host.ctl_path)
        flood.setblocking(False)
        try:
            for _ in range(100000):
                flood.send(b"status\n" * 100)
        except OSError:
            pass
        long = connect_unix(p.host.ctl_path)
        long.sendall(b"x" * 5000)
        long.settimeout(5 * scale())
        try:
            assert long.recv(10) == b""
        except ConnectionResetError:
            pass
        assert p.host.status()["session"] == "up"
        flood.close()
        long.close()


for how in ("ctl", "SIGTERM"):
    @suite.case("shutdown by %s: the peer is told at once, sockets and locks are gone" % how)
    def _(how=how):
        server = Server(echo)
        with Pair(outs=["e"], ins={"e": server.path}) as p, p.connect("e") as s:
            s.sendall(b"x")
            assert s.recv(10) == b"x"
            began = time.monotonic()
            if how == "ctl":
                assert p.host.command("shutdown") == "ok"
            else:
                p.host.signal(signal.SIGTERM)
            assert p.host.wait(5) == 0
            assert read_all(s) == b""
            p.guest.wait_status("streams", 0)
            assert time.monotonic() - began < 2 * scale()
            assert not os.path.exists(p.host.ctl_path) and not os.path.exists(p.out["e"])
        server.close()


class FakeQmp:
    def __init__(self, name="qmp"):
        self.path = os.path.join(tmpdir(), name)
        self.status = "running"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)

    def accept(self):
        self.conn, _ = self.listener.accept()
        self.conn.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\r\n')
        self.lines = Lines(self.conn)
        assert self.lines.next(5) == '{"execute":"qmp_capabilities"}'
        self.conn.sendall(b'{"return": {}}\r\n')
        assert self.lines.next(5) == '{"execute":"query-uuid"}'
        self.conn.sendall(b'{"return": {"UUID": "00000000-0000-0000-0000-000000000000"}}\r\n')
        self.answer()

    def answer(self):
        assert self.lines.next(5) == '{"execute":"query-status"}'
        self.conn.sendall(b'{"return": {"status": "%s", "singlestep": false, "running": '
                          b'true}}\r\n' % self.status.encode())

    def event(self, name, data="{}"):
        self.conn.sendall(('{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "%s", '
                           '"data": %s}\r\n' % (name, data)).encode())


@suite.case("QMP: a VM that migrates away freezes the channel, a resumed one thaws it")
def _():
    server = Server(echo)
    qmp = FakeQmp()
    with Pair(outs=["e"], ins={"e": server.path}, host_args=["--qmp", qmp.path]) as p:
        qmp.accept()
        p.host.wait_status("qmp", "connected")
        with p.connect("e") as s:
            s.sendall(b"before")
            assert s.recv(100) == b"before"
            qmp.status = "paused"
            qmp.event("STOP")
            qmp.answer()
            s.sendall(b"paused")
            assert s.recv(100) == b"paused", "a pause alone changes nothing"
            qmp.status = "postmigrate"
            qmp.event("STOP")
            qmp.answer()
            p.host.wait_status("channel", "frozen")
            s.sendall(b"after")
            s.settimeout(1)
            try:
                raise AssertionError("%r from a VM that left" % s.recv(100))
            except TimeoutError:
                pass
            qmp.event("RESUME")
            s.settimeout(10 * scale())
            assert s.recv(100) == b"after"
        sup = Ctl(p.host.ctl_path)
        assert sup.command("adopt") == "ok"
        qmp.event("RESET", '{"guest": true, "reason": "guest-reset", "event": "STOP"}')
        assert sup.event() == "event guest reset"
        qmp.conn.sendall(b"not json \\ { [ \"\n" + b"{" * 70000)
        p.host.wait_status("qmp", "waiting")
        assert p.host.status()["session"] == "up"
        sup.close()
    server.close()


@suite.case("QMP: what came after STOP waits for its reason, and is dropped if it migrates")
def _():
    seen = []

    def sink(conn):
        while data := conn.recv(65536):
            seen.append(data)
    server, qmp = Server(sink), FakeQmp("qmp2")
    with Pair(outs=["e"], ins={"e": server.path}, opener="guest",
              host_args=["--qmp", qmp.path]) as p:
        qmp.accept()
        p.host.wait_status("qmp", "connected")
        with p.connect("e") as s:
            s.sendall(b"a")
            wait_until(lambda: seen == [b"a"], 10, "the first byte")
            sent = 1
            for status, text in (("paused", b"b"), ("postmigrate", b"zombie")):
                # Both lie there when virtproxy looks: it was away for a while.
                p.host.signal(signal.SIGSTOP)
                qmp.status = status
                qmp.event("STOP")
                s.sendall(text)
                sent += len(text)
                wait_until(lambda: p.guest.status()["stream-bytes-out"] >= sent, 10,
                           "the guest's end to send it")
                p.host.signal(signal.SIGCONT)
                if status == "postmigrate":
                    qmp.answer()
                    p.host.wait_status("channel", "frozen")
                else:
                    # No answer: it waits for a second, then goes on.
                    wait_until(lambda: b"".join(seen) == b"ab", 10, "the second byte")
                    qmp.answer()
            time.sleep(0.3)
            assert b"".join(seen) == b"ab", seen
            # It never left: the link sends again what was dropped.
            qmp.event("RESUME")
            wait_until(lambda: b"".join(seen) == b"abzombie", 15, "the rest")
    server.close()


suite.main()
