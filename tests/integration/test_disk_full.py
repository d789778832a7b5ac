#!/usr/bin/python3
"""The disk of va-hostd's state is full: nothing is lost, it says so, calls go on, and
when there is room again everything is written.

The disk is a tmpfs of 1 MiB in a mount namespace of va-hostd's own.

SPDX-License-Identifier: MIT
"""
import os
import sys
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Skip, Suite, run, tmpdir, wait_until
from vatest.hostd import FakeGuest, Hostd, need_hostd

need_hostd()
IN_NAMESPACE = ["unshare", "-m", "sh", "-c",
                'mkdir -p "$VA_STATE_DIR" && mount -t tmpfs -o size=1m,mode=700 none "$VA_STATE_DIR"'
                ' && exec "$@"', "sh"]
probe = run([*IN_NAMESPACE, "true"], env={"VA_STATE_DIR": os.path.join(tmpdir(), "probe")})
if probe.returncode:
    raise Skip("a mount namespace is missing: %s" % probe.stderr.strip())

suite = Suite()
chan = os.path.join(tmpdir(), "c")
hostd = Hostd(["vm=unix-connect:%s:-" % chan], wrap=IN_NAMESPACE)
suite.cleanups.append(hostd.close)
suite.on_failure.append(lambda: hostd.tail()[-3000:])
guest = FakeGuest(chan)
suite.cleanups.append(guest.close)


def fill_path():
    return "/proc/%d/root%s/fill" % (hostd.process.pid, os.path.join(hostd.dir, "state"))


def fill():
    with open(fill_path(), "wb", buffering=0) as f:
        try:
            while True:
                f.write(bytes(1024))
        except OSError:
            pass


def trouble():
    return hostd.rpc().host.events(0, 1).get("trouble", "")


@suite.case("full: it says so, calls are answered, what cannot be kept is refused")
def _():
    hostd.wait_state("vm", "connected")
    hostd.wait_event("agent-up")
    assert trouble() == "", trouble()
    fill()
    refused = 0
    for i in range(60):
        try:
            guest.call_host().host.event.send("filler", {"n": i, "text": "x" * 4000})
        except xmlrpc.client.Fault as f:
            refused += 1
            assert "full" in f.faultString, f
    assert refused, "60 events of 4 KB on a full disk"
    # Its own events are kept in memory meanwhile.
    guest.vanish()
    hostd.wait_event("guest-lost")
    assert "full" in trouble(), trouble()
    assert hostd.rpc().host.ping() == "pong"
    for _i in range(3):
        try:
            hostd.rpc().host.kv.set("vm", {"user.big": "y" * 200000})
            raise AssertionError("a key of 200 KB on a full disk")
        except xmlrpc.client.Fault as f:
            assert "full" in f.faultString, f


@suite.case("room again: what was kept in memory is written, nothing twice, nothing lost")
def _():
    seen = hostd.events()
    os.unlink(fill_path())

    def takes_a_key():
        try:
            return hostd.rpc().host.kv.set("vm", {"user.small": "z"})
        except xmlrpc.client.Fault as f:        # until it looks again
            assert "full" in f.faultString, f
            return None
    wait_until(takes_a_key, 30, "a key to be taken", 0.2)
    guest.start()
    hostd.wait_state("vm", "connected")
    wait_until(lambda: trouble() == "", 30, "the end of the trouble", 0.2)
    after = hostd.events()
    numbers = [e["seq"] for e in after]
    assert numbers == sorted(set(numbers)), numbers
    kept = {e["seq"]: e for e in after}
    for e in seen:
        assert kept[e["seq"]]["event"] == e["event"], (e, kept[e["seq"]])
    assert [e["event"] for e in after if e["event"].startswith("agent")][:3] == [
        "agent-up", "agent-down", "agent-up"], after
    guest.call_host().host.event.send("later", {"n": 1})
    assert hostd.rpc().host.kv.get("vm", "user.small")["value"] == b"z"


suite.main()
