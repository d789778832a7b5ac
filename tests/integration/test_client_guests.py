#!/usr/bin/python3
"""va-client guests, its --watch on a terminal and in a pipe, and info.

time-limit: 150

SPDX-License-Identifier: MIT
"""
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import SRC, Suite, program, run, scale, tmpdir, wait_until
from vatest.fake import XMLRPCServer
from vatest.hostd import FakeGuest, Hostd, need_hostd
from vatest.tap import need_all
from vatest.wait import Lines

need_hostd()
need_all(program("va-client"))
CLIENT = program("va-client")
suite = Suite()
chans = {n: os.path.join(tmpdir(), "c-" + n) for n in ("one", "two")}
TWO = "[guest two]\nchannel = unix-connect:%s:-\n" % chans["two"]
hostd = Hostd(["one=unix-connect:%s:-" % chans["one"]], start=False)
hostd.write_conf(TWO, "guests.d/two.conf")
hostd.start()
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)
one = FakeGuest(chans["one"])
suite.cleanups.append(one.close)
ENV = {"VA_RUNTIME_DIR": hostd.runtime, "VA_GUEST": "", "NO_COLOR": "", "TERM": "xterm"}


def va(*args, runtime=hostd.runtime):
    r = run([CLIENT, *args], env=dict(ENV, VA_RUNTIME_DIR=runtime))
    assert r.returncode == 0, r
    return r.stdout


def listed():
    return {g["name"]: g for g in json.loads(va("guests", "--json"))}


def moved(g):
    return g["calls"], g["bytes_in"] + g["bytes_out"]


@suite.case("a line has state, agent, kind, since, heard, calls and bytes; --json the same")
def _():
    hostd.wait_state("one", "connected")
    wait_until(lambda: hostd.facts("one")["version"], 10, "the agent's version")

    def five():
        before = listed()["one"]
        for _ in range(5):
            assert hostd.guest_rpc("one").guest.ping() == "pong"
        after = listed()["one"]
        return after["calls"] - before["calls"] == 5 and (before, after)
    # va-hostd's own questions count, too; the pauses between them grow.
    before, after = wait_until(five, 30, "five calls to be told as five")
    assert after["bytes_out"] - before["bytes_out"] > 5 * 100, (before, after)
    out = va("guests")
    assert "\x1b" not in out, out
    lines = out.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "AGENT", "KIND", "SINCE", "HEARD", "CALLS",
                                "BYTES"], lines
    row = dict(zip(lines[0].split(), re.split(r" {2,}|(?<=[sm]) ", next(
        x for x in lines if x.startswith("one ")))))
    assert (row["STATE"], row["AGENT"], row["KIND"]) == ("connected", "9.9", "virtio"), lines
    assert re.fullmatch(r"\d+[sm]", row["SINCE"]) and re.fullmatch(r"\d+s", row["HEARD"]), row
    assert int(row["CALLS"]) >= after["calls"] and row["BYTES"].endswith("B"), row
    two = next(x for x in lines if x.startswith("two ")).split()
    assert two[:4] == ["two", "absent", "-", "unknown"] and two[5] == "-", two


@suite.case("calls and bytes outlive va-hostd, which does not count them")
def _():
    before = moved(listed()["one"])
    assert before[0] >= 5
    hostd.process.kill()
    for _ in range(3):
        assert hostd.guest_rpc("one").guest.ping() == "pong"
    r = run([CLIENT, "guests"], env=ENV)
    assert r.returncode == 0 and "va-hostd does not answer" in r.stderr, r
    states = {x.split()[0]: x.split()[1] for x in r.stdout.splitlines()[1:]}
    assert states == {"one": "connected", "two": "absent"}, r.stdout
    one.freeze()        # the same words as va-hostd's, from the sockets alone
    try:
        wait_until(lambda: re.search(r"^one +silent", run([CLIENT, "guests"], env=ENV).stdout, re.M),
                   20, "silence", 0.2)
    finally:
        one.thaw()
    hostd.start()
    hostd.wait_state("one", "connected")
    after = moved(listed()["one"])
    assert after[0] >= before[0] + 3 and after[1] > before[1], (before, after)


@suite.case("info has all counters, of virtproxy and of va-hostd")
def _():
    info = json.loads(va("info", "one", "--json"))
    with open(os.path.join(SRC, "virtproxy/PROTOCOL"), encoding="utf-8") as f:
        section = f.read().split("\n11. Counters\n")[1].split("\n12. ")[0]
    names = [n for line in re.findall(r"^  (\w[\w-]*(?:, \w[\w-]*)*)(?:  .*)?$", section, re.M)
             for n in line.split(", ")]
    assert len(names) > 35 and {"bad-crc", "rto-us", "stream-bytes-in"} <= set(names), names
    missing = set(names) - set(info["proxy"])
    assert not missing, missing
    host = info["hostd"]
    assert host["state"] == "connected" and host["calls"] > 0 and "status" not in host, host
    assert {"sessions", "agents_up", "silences", "losses", "proxy_crashed", "proxy_hung",
            "proxy_spun", "calls_of_guest", "calls_of_guest_refused"} <= set(host["counts"]), host
    before = host["counts"]["calls_of_guest"]
    assert one.call_host().host.ping()
    assert json.loads(va("info", "one", "--json"))["hostd"]["counts"]["calls_of_guest"] == before + 1
    absent = json.loads(va("info", "two", "--json"))
    assert absent["connected"] is False and absent["hostd"]["state"] == "absent", absent


class Watch:
    """guests --watch in a pipe (a socket, for its time limits)."""

    def __init__(self, *args):
        ours, theirs = socket.socketpair()
        self.p = subprocess.Popen([CLIENT, "guests", "--watch", *args], stdout=theirs,
                                  stderr=subprocess.PIPE, text=True, env=dict(os.environ, **ENV))
        theirs.close()
        self.sock, self.lines = ours, Lines(ours)

    def line(self, seconds=30):
        return self.lines.next(seconds)

    def state(self, name, state, seconds=30):
        """The line that says so; those before it may say other things."""
        while True:
            line = self.line(seconds)
            if line.split()[1:3] == [name, state]:
                return line

    def end(self):
        self.p.send_signal(signal.SIGINT)
        try:
            return self.p.wait(10 * scale()), self.p.stderr.read()
        finally:
            self.p.kill()
            self.p.wait()
            self.p.stderr.close()
            self.sock.close()


def asked():
    return hostd.log().count("call host.guests:")


@suite.case("--watch in a pipe prints a line per change, and asks only when something happened")
def _():
    w, js = Watch(), Watch("--json")
    line = w.state("one", "connected")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ one connected 9\.9 virtio \d+ \d+", line), line
    w.state("two", "absent")
    first = [json.loads(js.line()) for _ in range(2)]
    assert {g["name"]: g["state"] for g in first} == {"one": "connected", "two": "absent"}, first
    assert first[0]["time"].endswith("Z") and "bytes_in" in first[0], first
    before = asked()
    time.sleep(4 * scale())     # in which nothing happens
    assert asked() - before <= 2, asked() - before
    one.freeze()
    try:
        w.state("one", "silent")
        assert json.loads(js.line())["state"] == "silent"
    finally:
        one.thaw()
    w.state("one", "connected")
    # va-hostd goes and comes: what runs goes on, and what happens then is seen.
    assert hostd.process.stop() == 0
    hostd.start()
    one.vanish()
    w.state("one", "absent")
    one.start()
    w.state("one", "connected")
    os.unlink(os.path.join(hostd.conf_dir, "guests.d/two.conf"))
    hostd.reload()
    w.state("two", "gone", 60)
    assert w.end() == (130, "")
    assert js.end() == (130, "")


@suite.case("--watch with a time limit ends with status 0; without anybody it is exit 10")
def _():
    began = time.monotonic()
    assert "one connected" in va("guests", "-w", "-t", "0.5")
    assert time.monotonic() - began < 10 * scale()
    r = run([CLIENT, "guests", "-w"], env=dict(ENV, VA_RUNTIME_DIR=os.path.join(tmpdir(), "none")))
    assert r.returncode == 10 and "neither va-hostd" in r.stderr, r


class Terminal:
    def __init__(self, *args, runtime=hostd.runtime, rows=24, columns=80, env=()):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(dict(ENV, VA_RUNTIME_DIR=runtime), **dict(env))
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execv(CLIENT, [CLIENT, *args])
        self.data = ""

    def wait(self, pattern, seconds=20):
        def look():
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.data += os.read(self.fd, 65536).decode("utf-8", "replace")
                except OSError:
                    pass        # it ended
            return re.search(pattern, self.data, re.S)
        return wait_until(look, seconds, "%s on the terminal" % pattern, 0)

    def end(self, keys=b""):
        if keys:
            os.write(self.fd, keys)
        self.wait("$")
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status


@suite.case("--watch on a terminal draws in place, in colour, and Ctrl-C ends it")
def _():
    t = Terminal("guests", "--watch")
    t.wait(r"NAME.*one  *\x1b\[32mconnected\x1b\[0m")
    assert not re.search(r"\x1b\[\d+A", t.data), t.data
    one.vanish()
    t.wait(r"\x1b\[\dA\rNAME.*one  *\x1b\[2mabsent\x1b\[0m")
    one.start()
    t.wait(r"absent.*\x1b\[32mconnected")
    assert t.end(b"\x03") == 130
    t = Terminal("guests", env={"NO_COLOR": "1"})
    t.wait("one  *connected")
    assert t.end() == 0 and "\x1b" not in t.data, t.data


@suite.case("a small window cuts lines and rows; text from a guest is never raw")
def _():
    runtime = os.path.join(tmpdir(), "evil")
    os.makedirs(runtime)
    server = XMLRPCServer(os.path.join(runtime, "hostd.sock"))
    evil = "\u202e9\u009b2J"
    server.register_function(
        lambda: [{"name": "vm%02d" % i, "state": "connected", "version": evil, "kind": "virtio",
                  "calls": i, "bytes_in": 1 << 30, "bytes_out": 0, "since": 1.0,
                  "last_heard": time.time()} for i in range(30)], "host.guests")
    server.register_function(lambda since, limit: {"events": [], "newest": 0}, "host.events")
    t = Terminal("guests", "-w", runtime=runtime, rows=8, columns=40)
    t.wait(r"\.\.\. 25 more")
    t.end(b"\x03")
    assert "vm04" in t.data and "vm05" not in t.data, t.data
    text = re.sub(r"\x1b\[\d*[mKJA]", "", t.data)
    assert not re.search("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", text.replace("^C", "")), text
    assert max(len(x) for x in text.replace("\r", "").split("\n")) <= 40, text
    t = Terminal("guests", runtime=runtime)
    t.wait("vm29")
    assert t.end() == 0 and "\u202e" not in t.data and "\u009b" not in t.data
    server.close()


suite.main()
