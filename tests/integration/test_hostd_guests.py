#!/usr/bin/python3
"""va-hostd and its virtproxies: states, deaths, adoption.

time-limit: 170

SPDX-License-Identifier: MIT
"""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Suite, connect_unix, scale, tmpdir, wait_until
from vatest.hostd import FakeGuest, Hostd, need_hostd

need_hostd()
suite = Suite()
chan1 = os.path.join(tmpdir(), "c1")
chan2 = os.path.join(tmpdir(), "c2")
hostd = Hostd(["one=unix-connect:%s:-" % chan1, "two=unix-connect:%s:-" % chan2],
              conf="[hostd]\nhang-limit = 10s\n")
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)
one = FakeGuest(chan1)
suite.cleanups.append(one.close)


def gone(pid):
    try:
        os.kill(pid, 0)
        return False
    except ProcessLookupError:
        return True


@suite.case("a guest that runs is connected, one that does not is absent")
def _():
    facts = hostd.wait_state("one", "connected")
    assert facts["id"] == "one" and facts["pid"] > 0, facts
    assert facts["channel"] == "unix-connect:%s:-" % chan1, facts
    assert hostd.facts("two")["state"] == "absent"
    names = sorted(g["name"] for g in hostd.rpc().host.guests())
    assert names == ["one", "two"], names


@suite.case("its agent is asked who it is, and that is an event")
def _():
    e = hostd.wait_event("agent-up")
    assert e["guest"] == "one" and e["data"]["agent"] == "agent-1", e
    facts = hostd.facts("one")
    assert facts["version"] == "9.9" and facts["boot"] == "boot-1", facts
    assert facts["status"]["session"] == "up", facts


@suite.case("calls go through the guest's rpc socket")
def _():
    assert hostd.guest_rpc("one").guest.ping() == "pong"


@suite.case("files in the guest's directory are private, and its name stands there")
def _():
    d = hostd.guest_dir("one")
    assert os.stat(d).st_mode & 0o777 == 0o700
    for name in ("rpc.sock", "host.sock", "ctl.sock", "events.sock"):
        assert os.stat(os.path.join(d, name)).st_mode & 0o777 == 0o600, name
    assert os.stat(hostd.sock).st_mode & 0o777 == 0o600
    with open(os.path.join(d, "name"), encoding="utf-8") as f:
        assert f.read() == "one\n"


@suite.case("a guest that appears later is connected without a word")
def _():
    two = FakeGuest(chan2, agent_id="agent-2")
    suite.cleanups.append(two.close)
    hostd.wait_state("two", "connected")
    assert hostd.guest_rpc("two").guest.ping() == "pong"


@suite.case("a virtproxy that is killed comes back, and the guest with it")
def _():
    before = hostd.facts("one")
    last = hostd.events()[-1]["seq"]
    os.kill(before["pid"], signal.SIGKILL)
    down = hostd.wait_event("agent-down", last)
    assert down["guest"] == "one" and down["data"]["reason"] == "link" \
        and "signal 9" in down["data"]["detail"], down
    died = hostd.wait_event("proxy-died", last)
    assert died["guest"] == "one" and "signal 9" in died["data"]["reason"], died
    assert died["data"]["cause"] == "crashed", died
    hostd.wait_event("agent-up", down["seq"])
    after = hostd.wait_state("one", "connected")
    assert after["pid"] != before["pid"] and after["restarts"] == 1, after
    assert hostd.guest_rpc("one").guest.ping() == "pong"
    assert "killed by signal 9" in hostd.log()


@suite.case("one that dies at once is started with growing pauses")
def _():
    bad = Hostd(["bad=fd:99:-"])
    try:
        wait_until(lambda: bad.log().count("starting it again") >= 4, 10, "four restarts")
        pauses = [line.rsplit(" in ", 1)[1] for line in bad.log().splitlines()
                  if "starting it again" in line]
        assert pauses[:4] == ["0.1 s", "0.2 s", "0.4 s", "0.8 s"], pauses
        facts = bad.facts("bad")
        assert facts["state"] == "absent" and facts["restarts"] >= 4, facts
        died = [e["data"]["reason"] for e in bad.events() if e["event"] == "proxy-died"]
        assert len(died) >= 4 and all(r == "exited with 1" for r in died), died
    finally:
        bad.close()


@suite.case("one that lived for ten seconds is started at once, however often")
def _():
    # Two seconds here.
    lone = Hostd(["lone=unix-connect:%s/nobody:-" % tmpdir()], wrap=("env", "VA_TIME_SCALE=0.2"))
    try:
        for n in range(3):
            pid = wait_until(lambda: lone.facts("lone")["pid"], 10, "a virtproxy")
            time.sleep(2.5)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda n=n: lone.facts("lone")["restarts"] == n + 1, 10, "its end to be seen")
            wait_until(lambda pid=pid: lone.facts("lone")["pid"] not in (0, pid), 10, "another")
        pauses = [line.rsplit(" in ", 1)[1] for line in lone.log().splitlines()
                  if "starting it again" in line]
        assert pauses == ["0.1 s"] * 3, pauses
    finally:
        lone.close()


@suite.case("a virtproxy that hangs is killed and replaced")
def _():
    pid = hostd.facts("two")["pid"]
    last = hostd.events()[-1]["seq"]
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: gone(pid), 40, "the hung virtproxy to be killed", 0.1)
    assert "killing virtproxy %d: it did not answer" % pid in hostd.log()
    died = hostd.wait_event("proxy-died", last)
    assert died["guest"] == "two" and "did not answer" in died["data"]["reason"], died
    hostd.wait_state("two", "connected")
    wait_until(lambda: any(e["guest"] == "two" and e["event"] == "agent-up"
                           for e in hostd.events(last)), 10, "its agent to be asked again")
    # Others are not held by it.
    assert hostd.guest_rpc("one").guest.ping() == "pong"


@suite.case("va-hostd is killed: streams live on, and the next one adopts")
def _():
    before = hostd.facts("one")
    last = hostd.events()[-1]["seq"]
    # A stream that is open all the while.
    s = connect_unix(os.path.join(hostd.guest_dir("one"), "rpc.sock"))
    request = (b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n"
               b"Content-Length: %d\r\n\r\n%s")
    body = b"<?xml version='1.0'?><methodCall><methodName>guest.ping</methodName></methodCall>"
    s.sendall((request % (len(body), body))[:40])
    hostd.process.kill()
    assert hostd.guest_rpc("one").guest.ping() == "pong"
    hostd.start()
    after = hostd.wait_state("one", "connected")
    assert after["pid"] == before["pid"], (before["pid"], after["pid"])
    assert "virtproxy %d adopted" % before["pid"] in hostd.log()
    s.sendall((request % (len(body), body))[40:])
    answer = b""
    while b"pong" not in answer:
        more = s.recv(65536)
        assert more, answer
        answer += more
    s.close()
    wait_until(lambda: hostd.facts("one")["version"] == "9.9", 10, "the version")
    again = [e for e in hostd.events(last) if e["event"] in ("agent-up", "agent-down")]
    assert not again, again


@suite.case("what happened while va-hostd was away is told when it is back")
def _():
    last = hostd.events()[-1]["seq"]
    hostd.process.kill()
    one.agent_id = "agent-1b"
    one.vanish()
    one.start()
    hostd.start()
    down = hostd.wait_event("agent-down", last)
    assert down["guest"] == "one", down
    up = hostd.wait_event("agent-up", down["seq"])
    assert up["data"]["agent"] == "agent-1b", up


@suite.case("SIGTERM ends va-hostd cleanly and leaves the virtproxies")
def _():
    pid = hostd.facts("one")["pid"]
    assert hostd.process.stop() == 0
    assert not gone(pid)
    assert hostd.guest_rpc("one").guest.ping() == "pong"
    hostd.start()
    assert hostd.wait_state("one", "connected")["pid"] == pid


@suite.case("a guest whose channel closes is absent and soon lost")
def _():
    last = hostd.events()[-1]["seq"]
    one.vanish()
    hostd.wait_state("one", "absent")
    lost = hostd.wait_event("guest-lost", last)
    assert lost["guest"] == "one", lost
    one.start()
    hostd.wait_state("one", "connected")


@suite.case("a guest that speaks is never called silent")
def _():
    # Longer than between va-hostd's own looks at its guests.
    begin = time.monotonic()
    last = hostd.events()[-1]["seq"]
    wait_until(lambda: time.monotonic() > begin + 12 * scale(), 15, "12 seconds", 0.5)
    assert not [e for e in hostd.events(last) if e["event"] == "guest-silent"]


@suite.case("a guest that stops speaking is silent, and heard again")
def _():
    last = hostd.events()[-1]["seq"]
    one.freeze()
    try:
        hostd.wait_event("guest-silent", last, 30)
        assert hostd.facts("one")["state"] == "silent"
    finally:
        one.thaw()
    hostd.wait_event("guest-heard", last, 30)
    hostd.wait_state("one", "connected")


@suite.case("--stop ends va-hostd and every virtproxy")
def _():
    pids = [hostd.process.pid] + [g["pid"] for g in hostd.rpc().host.guests()]
    assert hostd.stop_all().returncode == 0
    hostd.process.wait()
    wait_until(lambda: all(gone(p) for p in pids), 10, "all to be gone")
    assert not os.listdir(os.path.join(hostd.runtime, "guests"))


suite.main()
