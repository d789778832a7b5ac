#!/usr/bin/python3
"""The disk of va-hostd's state is full: nothing is lost, it says so, calls go on, and
when there is room again everything is written.  The disk of a log is full: the service
goes on, and the log says later how many lines it lacks.

The disk is a tmpfs of 1 MiB in a mount namespace of the daemon's own.

SPDX-License-Identifier: MIT
"""
import os
import re
import sys
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Skip, Suite, run, tmpdir, wait_until, xmlrpc_proxy
from vatest.env import program
from vatest.proc import Process
from vatest.tap import need
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


class Log:
    """A daemon's log, on a disk of its own."""

    def __init__(self, process, disk):
        self.inside = "/proc/%d/root%s" % (process.pid, disk)

    def text(self):
        with open(self.inside + "/log", encoding="utf-8") as f:
            return f.read()

    def fill(self):
        with open(self.inside + "/fill", "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(64))
            except OSError:
                pass


@suite.case("the disk of the logs is full: calls are answered, and the logs say what they lack")
def _():
    need(program("va-agent"))
    channel, disk = os.path.join(tmpdir(), "cl"), os.path.join(tmpdir(), "agent-state")
    agent = Process([*IN_NAMESPACE, program("va-agent"), "-v", "--log", disk + "/log",
                     "-c", "unix-listen:%s:-" % channel],
                    env={"VA_STATE_DIR": disk, "VA_RUNTIME_DIR": tmpdir(), "VA_CONF_DIR": disk})
    suite.cleanups.append(agent.kill)
    other = Hostd(["vm=unix-connect:%s:-" % channel], wrap=IN_NAMESPACE, start=False)
    log = os.path.join(other.env["VA_STATE_DIR"], "log")
    other.process = Process([*IN_NAMESPACE, program("va-hostd"), "-v", "--log", log, *other.args],
                            name="va-hostd", env=other.env)
    suite.cleanups.append(other.close)
    wait_until(lambda: os.path.exists(other.sock), 20, "va-hostd")
    logs = Log(agent, disk), Log(other.process, other.env["VA_STATE_DIR"])
    rpc = os.path.join(other.guest_dir("vm"), "rpc.sock")

    def served():
        try:
            return xmlrpc_proxy(rpc, 5).guest.ping() == "pong" and \
                other.rpc().host.ping() == "pong"
        except OSError:
            return False
    wait_until(served, 20, "a call")
    for d in logs:
        d.fill()
    # Each leaves some lines.
    for _i in range(100):
        assert served()
    assert not [d for d in logs if "were lost" in d.text()]
    for d in logs:
        os.unlink(d.inside + "/fill")
        wait_until(lambda d=d: served() and "were lost" in d.text(), 20, "a line", 0.2)
        lines = d.text().splitlines()
        assert all(re.match(r"\d{4}-\d\d-\d\dT\S+Z \S+\[\d+\]: ", line) or
                   not lines[n + 1:] or "were lost" in lines[n + 1]
                   for n, line in enumerate(lines)), d.text()
        lost = [line for line in lines if "were lost" in line]
        assert all("No space left on device" in line for line in lost), lost
        print("# " + "\n# ".join(lost))


suite.main()
