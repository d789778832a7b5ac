#!/usr/bin/python3
"""A call that is cut runs once or not at all, and va-client's exit code and the
server's outcome tell which: real programs on both sides, both directions.

test-va-once cuts at every byte in one process; here every few bytes, from a
printed seed (VA_ONCE_SEED), with va-hostd, virtproxy and va-agent in between; and
with one of them killed at that byte.

SPDX-License-Identifier: MIT
"""
import concurrent.futures
import json
import os
import random
import re
import signal
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import (Process, Suite, connect_unix, need_all, program, run, tmpdir,  # noqa: E402
                    wait_until, xmlrpc_proxy)
from vatest.hostd import Hostd  # noqa: E402

need_all(program("va-hostd"), program("virtproxy"), program("va-agent"), program("va-client"))
suite = Suite()
SEED = os.environ.get("VA_ONCE_SEED") or str(random.SystemRandom().randrange(1 << 32))
STEP = int(os.environ.get("VA_ONCE_STEP") or 11)        # 1: every byte
rng = random.Random(SEED)
chan = os.path.join(tmpdir(), "c")
counts = os.path.join(tmpdir(), "counts")
AGENT_ENV = {"VA_RUNTIME_DIR": os.path.join(tmpdir(), "g"),
             "VA_CONF_DIR": os.path.join(tmpdir(), "g", "conf")}
hostd = Hostd(["vm=unix-connect:%s:-" % chan])
suite.cleanups.append(hostd.close)
suite.on_failure.append(lambda: hostd.tail()[-2000:])
state = {"number": 0}


def start_agent():
    state["agent"] = Process([program("va-agent"), "-c", "unix-listen:%s:-" % chan,
                              "-l", "stderr"], env=AGENT_ENV)


start_agent()
suite.cleanups.append(lambda: state["agent"].stop())
suite.on_failure.append(lambda: state["agent"].log()[-2000:])
SOCKETS = {"guest": os.path.join(hostd.guest_dir("vm"), "rpc.sock"),
           "host": os.path.join(AGENT_ENV["VA_RUNTIME_DIR"], "host.sock")}


class Cut:
    """A relay to a socket that ends the marked call's connection after so many
    bytes of it, and calls strike() then."""

    def __init__(self, upstream, request=None, reply=None, strike=None):
        self.upstream, self.strike = upstream, strike
        self.limit = {"request": request, "reply": reply}
        self.length = {"request": 0, "reply": 0}
        self.id = None
        state["number"] += 1
        self.path = os.path.join(tmpdir(), "cut%d" % state["number"])
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(conn,), daemon=True).start()

    def _one(self, conn):
        try:
            up = connect_unix(self.upstream, 60)
        except OSError:
            conn.close()
            return
        head = b""
        while b"\r\n\r\n" not in head:
            data = conn.recv(65536)
            if not data:
                break
            head += data
        m = re.search(rb"^Virtagent-Call: (\S+)\r$", head, re.M)
        if m:
            self.id = m.group(1).decode()
        ends = (conn, up)
        back = threading.Thread(target=self._move, args=(up, conn, "reply", bool(m), b"", ends))
        back.start()
        self._move(conn, up, "request", bool(m), head, ends)
        back.join()
        for s in ends:
            s.close()

    def _move(self, source, to, way, marked, data, ends):
        limit = self.limit[way] if marked else None
        passed = 0
        try:
            data = data or source.recv(65536)
            while data:
                if marked:
                    self.length[way] += len(data)
                if limit is not None and passed + len(data) >= limit:
                    to.sendall(data[:limit - passed])
                    if self.strike:
                        self.strike()
                    break
                to.sendall(data)
                passed += len(data)
                data = source.recv(65536)
        except OSError:
            pass
        for s in ends:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def count(side, name):
    if side == "guest":
        try:
            with open(counts, encoding="utf-8") as f:
                return f.read().split().count(name)
        except FileNotFoundError:
            return 0
    return sum(e["event"] == "once" and e["data"]["id"] == name
               for e in hostd.events(state["since"], "vm"))


def call(side, cut, seconds=20):
    """va-client's exit status, and how often the call ran."""
    name = os.path.basename(cut.path)
    if side == "guest":
        words = ["guest.exec.run",
                 "json:" + json.dumps(["/bin/sh", "-c", "echo %s >>%s" % (name, counts)])]
    else:
        words = ["host.event.send", "once", "json:" + json.dumps({"id": name})]
    r = run([program("va-client"), "-G", "unix:" + cut.path, "-t", str(seconds), "call", *words],
            env={"VA_RUNTIME_DIR": "/nonexistent", "VA_GUEST": ""}, seconds=seconds + 20)
    cut.close()
    return r, name


def outcome(side, ident):
    p = xmlrpc_proxy(SOCKETS[side], 20)
    return (p.guest if side == "guest" else p.host).outcome(ident)["state"]


def judge(side, r, name, cut, allowed=(0, 10)):
    ran = count(side, name)
    where = "%s %s: status %d, ran %d times\n%s" % (side, cut.limit, r.returncode, ran, r.stderr)
    assert r.returncode in allowed, where
    assert ran <= 1, where
    if r.returncode in (0, 10):
        assert ran == (r.returncode == 0), where
    if r.returncode:
        assert r.stderr.strip(), where
    if cut.id and allowed == (0, 10):
        said = outcome(side, cut.id)
        assert said == ("done" if ran else "never"), (said, where)
    return r.returncode


def connected():
    hostd.wait_state("vm", "connected")

    def both():
        try:
            return all(run([program("va-client"), "-G", "unix:" + p, "-t", "2", "call", m]
                           ).returncode == 0
                       for p, m in ((SOCKETS["guest"], "guest.ping"),
                                    (SOCKETS["host"], "host.ping")))
        except OSError:
            return False
    wait_until(both, 20, "answers both ways", 0.1)


def lengths(side):
    cut = Cut(SOCKETS[side])
    r, name = call(side, cut)
    assert r.returncode == 0 and count(side, name) == 1, r
    assert cut.id and min(cut.length.values()) > 100, cut.length
    return cut.length


for side, words in (("guest", "a host's call of a guest"), ("host", "a guest's call of its host")):
    @suite.case("%s, cut every few bytes of request and reply" % words)
    def _(side=side):
        connected()
        state["since"] = 0
        whole = lengths(side)
        print("# seed %s, %s" % (SEED, whole))
        spots = [(way, k) for way in ("request", "reply")
                 for k in range(1 + rng.randrange(STEP), whole[way], STEP)]
        rng.shuffle(spots)

        def one(spot):
            cut = Cut(SOCKETS[side], **{spot[0]: spot[1]})
            return judge(side, *call(side, cut), cut)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            codes = list(pool.map(one, spots))
        print("# %d cuts: %d ran, %d did not" % (len(codes), codes.count(0), codes.count(10)))
        assert codes.count(0) and codes.count(10)

    @suite.case("%s, with virtproxy killed at that byte" % words)
    def _(side=side):
        whole = lengths(side)
        # Few: va-hostd starts one that keeps dying ever more slowly.
        for way, k in (("request", whole["request"]), ("reply", whole["reply"] // 2)):
            connected()
            pid = hostd.rpc().host.guest("vm")["pid"]
            cut = Cut(SOCKETS[side], strike=lambda: os.kill(pid, signal.SIGKILL), **{way: k})
            judge(side, *call(side, cut), cut)
        connected()

    @suite.case("%s, with the agent killed at that byte" % words)
    def _(side=side):
        whole = lengths(side)
        for way, k in (("request", whole["request"] // 2), ("request", whole["request"]),
                       ("reply", 1)):
            connected()
            cut = Cut(SOCKETS[side], strike=state["agent"].kill, **{way: k})
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                future = pool.submit(call, side, cut, 12)
                state["agent"].wait(10)
                start_agent()
                r, name = future.result()
            connected()             # or nobody can be asked for the outcome
            # The new agent knows nothing of the old one's calls; va-hostd does.
            judge(side, r, name, cut, (0, 10, 11) if side == "guest" else (0, 10))
        connected()


@suite.case("a change under a condition that lost its reply is no conflict with itself")
def _():
    connected()
    for n, k in enumerate((1, 20, 200)):
        cut = Cut(hostd.sock, reply=k)
        r = run([program("va-client"), "-G", "unix:" + cut.path, "-t", "20", "call", "host.kv.set",
                 "vm", "json:" + json.dumps({"user.lock%d" % n: "mine"}),
                 'json:{"if_revision": 0}'], env={"VA_RUNTIME_DIR": "/nonexistent", "VA_GUEST": ""})
        cut.close()
        assert cut.length["reply"] >= k, cut.length
        assert r.returncode == 0, r
        assert hostd.rpc().host.kv.get("vm", "user.lock%d" % n)["value"] == b"mine"


suite.main()
