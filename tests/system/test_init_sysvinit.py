#!/usr/bin/python3
# test_init_sysvinit.py - a guest whose init is sysvinit: the agent by its script,
# over isa-serial, and a reboot by va-client, which the agent sees by the runlevel
#
# SPDX-License-Identifier: MIT
import base64

from vatest import Guest, Suite, program, rootfs, run
from vatest.hostd import Hostd, need_hostd

need_hostd()
suite = Suite()
guest = Guest(channels=("serial",), init="sysvinit", reboot=True,
              programs={"/usr/bin/wall": "/usr/bin/wall"})
suite.cleanups.append(guest.close)
suite.on_failure.append(guest.report)
hostd = Hostd(["vm1=unix-connect:%s:-" % guest.serial])
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)


def last_seq():
    return hostd.events()[-1]["seq"]


def va(*args, seconds=120):
    r = run([program("va-client"), *args], env=hostd.env, seconds=seconds)
    assert r.returncode == 0, r


def down(last):
    return hostd.wait_event("agent-down", last, 60)["data"]


def booted_again(last):
    """The boot that follows the agent-down after last has an agent again."""
    gone = hostd.wait_event("agent-down", last, 60)["seq"]
    guest.wait_boot()
    hostd.wait_event("booted", gone, 90)
    hostd.wait_event("agent-up", gone, 90)


@suite.case("the script of its runlevel starts the agent, the host hears of it")
def _():
    hostd.wait_event("agent-up", seconds=90)
    assert "running" in guest.sh("/etc/init.d/va-agent status")
    f = hostd.guest_rpc("vm1").guest.capabilities()["features"]
    assert all(f[x] for x in ("halt", "powerdown", "reboot")), f


@suite.case("stopped and started by its script; killed, and started by hand")
def _():
    last = last_seq()
    guest.sh("/etc/init.d/va-agent restart", 60)
    assert down(last)["reason"] == "stopped"
    hostd.wait_event("agent-up", last, 60)
    last = last_seq()
    guest.sh("kill -9 $(cat /var/run/va-agent.pid); /etc/init.d/va-agent start", 60)
    data = down(last)
    assert data["reason"] == "crashed" and data["process"] == "endpoint", data
    hostd.wait_event("agent-up", last, 60)


@suite.case("reboot with delay and message: acknowledged, announced to users, done")
def _():
    last = last_seq()
    record = base64.b64encode(rootfs.logged_in("ttyS0")).decode()
    guest.sh("echo %s | base64 -d >>/run/utmp" % record)
    va("reboot", "vm1", "--delay", "2", "--message", "kernel of today", "--wait", seconds=180)
    begun = [e["data"] for e in hostd.events(last) if e["event"] == "shutdown-begun"]
    assert [(d["by"], d["mode"], d["delay_ms"]) for d in begun] == [("host", "reboot", 3000)], begun
    data = down(last)
    assert data["reason"] == "shutdown" and data["detail"] == "reboot, by sysvinit", data
    assert "kernel of today" in guest.console(), guest.console()[-2000:]
    booted_again(last)


@suite.case("shutdown --cancel takes a delayed halt back, and the host is told")
def _():
    last = last_seq()
    record = base64.b64encode(rootfs.logged_in("ttyS0")).decode()
    guest.sh("echo %s | base64 -d >>/run/utmp" % record)
    va("halt", "vm1", "--delay", "600", "-m", "a new disk")
    guest.wait_console(" s: a new disk", 30)
    va("shutdown", "vm1", "--cancel")
    guest.wait_console("halt is cancelled", 30)
    e = hostd.wait_event("shutdown-cancelled", last, 30)["data"]
    assert (e["mode"], e["by"], e["via"]) == ("halt", "host", "virtagent"), e


@suite.case("init 6 in the guest is told before the machine goes")
def _():
    last = last_seq()
    # By its path: the shell is busybox's, to which "init" is its own applet.
    guest.sh("(sleep 1; /sbin/init 6) >/dev/null 2>&1 &")
    e = hostd.wait_event("shutdown-begun", last, 60)
    want = {"mode": "reboot", "by": "init", "init": "sysvinit", "target": "runlevel 6"}
    assert {k: e["data"].get(k) for k in want} == want, e
    assert down(last)["reason"] == "shutdown"
    booted_again(last)


@suite.case("halt by the host: the CPU stops, the machine stays")
def _():
    last = last_seq()
    va("halt", "vm1")
    assert down(last)["detail"] == "halt, by sysvinit"
    # Runlevel 0 is halt and powerdown alike: it must not pass for somebody else's.
    begun = [e["data"] for e in hostd.events(last) if e["event"] == "shutdown-begun"]
    assert [(d["by"], d["mode"]) for d in begun] == [("host", "halt")], begun
    guest.wait_console("System halted", 60)
    assert guest.qemu.running()
    guest.qmp("system_reset")
    booted_again(last)


@suite.case("shutdown --wait: acknowledged, done, the machine is off")
def _():
    last = last_seq()
    va("shutdown", "vm1", "--wait", seconds=120)
    assert guest.qemu.wait(60) == 0
    begun = [e["data"] for e in hostd.events(last) if e["event"] == "shutdown-begun"]
    assert [d["by"] for d in begun] == ["host"] and begun[0]["mode"] == "powerdown", begun
    assert down(last)["detail"] == "powerdown, by sysvinit"


suite.main()
