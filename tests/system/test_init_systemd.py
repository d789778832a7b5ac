#!/usr/bin/python3
# test_init_systemd.py - a guest whose init is systemd: the agent by its unit, power
# by va-client, and what systemd does itself told to the host
#
# SPDX-License-Identifier: MIT
import base64

from vatest import Guest, Suite, program, rootfs, run, wait_until
from vatest.hostd import Hostd, need_hostd

need_hostd()
suite = Suite()
guest = Guest(channels=("virtio",), init="systemd", reboot=True,
              programs={"/usr/bin/va-client": program("va-client"),
                        "/usr/bin/wall": "/usr/bin/wall"})
suite.cleanups.append(guest.close)
suite.on_failure.append(guest.report)
hostd = Hostd(["vm1=unix-connect:%s:-" % guest.virtio])
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)
AGENT = guest.sh("systemctl show -P ExecStart va-agent | sed 's/.*path=\\([^ ]*\\).*/\\1/'").strip()


def last_seq():
    return hostd.events()[-1]["seq"]


def va(*args, seconds=120):
    r = run([program("va-client"), *args], env=hostd.env, seconds=seconds)
    assert r.returncode == 0, r


def main_pid():
    return int(guest.sh("systemctl show -P MainPID va-agent"))


def down(last, seconds=60):
    return hostd.wait_event("agent-down", last, seconds)["data"]


def booted_again(last):
    """The boot that follows the agent-down after last is through with its jobs."""
    gone = hostd.wait_event("agent-down", last, 60)["seq"]
    guest.wait_boot()
    hostd.wait_event("booted", gone, 90)
    hostd.wait_event("agent-up", gone, 90)
    guest.sh("systemctl is-system-running --wait >/dev/null 2>&1 || true", 90)


@suite.case("udev finds the port, systemd starts the agent's unit, the host hears of it")
def _():
    hostd.wait_event("agent-up", seconds=90)
    assert guest.sh("systemctl is-active va-agent").strip() == "active"
    f = hostd.guest_rpc("vm1").guest.capabilities()["features"]
    assert all(f[x] for x in ("halt", "powerdown", "reboot")), f


@suite.case("killed: systemd starts it again, and the host learns the signal")
def _():
    last, pid = last_seq(), main_pid()
    guest.sh("kill -SEGV %d" % pid)
    data = down(last)
    assert data["reason"] == "crashed" and data["process"] == "endpoint" \
        and data["signal"] == 11, data
    hostd.wait_event("agent-up", last, 60)
    assert main_pid() not in (0, pid)


@suite.case("systemctl restart is stopped; with a new program upgraded")
def _():
    for word, before in (("stopped", "true"), ("upgraded", "cp %s /run/new && cp /run/new %s.x && "
                                               "mv %s.x %s" % ((AGENT,) * 4))):
        last = last_seq()
        guest.sh("%s && systemctl restart va-agent" % before, 60)
        assert down(last)["reason"] == word, hostd.events(last)
        hostd.wait_event("agent-up", last, 60)
        assert not [e for e in hostd.events(last) if e["event"] == "shutdown-begun"]


def asleep_then_awake(last, by):
    wait_until(lambda: guest.qmp("query-status")["status"] == "suspended", 60,
               "the guest to sleep", 0.2)
    told = [e for e in hostd.events(last) if e["event"] == "suspended"]
    assert [e["data"]["by"] for e in told] == [by], told
    wait_until(lambda: [e for e in hostd.events(last) if e["event"] == "guest-silent"], 30,
               "the host to miss it", 0.2)
    guest.qmp("system_wakeup")
    hostd.wait_event("resumed", last, 60)
    assert hostd.guest_rpc("vm1").guest.ping() == "pong"
    assert not [e for e in hostd.events(last) if e["event"] == "agent-down"]


@suite.case("suspend by the host goes through systemd: one event, asleep, awake")
def _():
    last = last_seq()
    va("suspend", "vm1")
    asleep_then_awake(last, "host")


@suite.case("systemctl suspend in the guest is told before it sleeps")
def _():
    last = last_seq()
    guest.sh("(sleep 1; systemctl suspend) >/dev/null 2>&1 &")
    asleep_then_awake(last, "init")


@suite.case("reboot with delay and message: acknowledged, announced to users, done")
def _():
    last = last_seq()
    record = base64.b64encode(rootfs.logged_in("ttyS0")).decode()
    guest.sh("echo %s | base64 -d >>/run/utmp" % record)
    va("reboot", "vm1", "--delay", "2", "--message", "kernel of today", "--wait", seconds=180)
    begun = [e for e in hostd.events(last) if e["event"] == "shutdown-begun"]
    assert [(e["data"]["by"], e["data"]["mode"], e["data"]["delay_ms"]) for e in begun] == \
        [("host", "reboot", 3000)], begun
    data = down(last)
    assert data["reason"] == "shutdown" and data["detail"] == "reboot, by systemd", data
    assert "kernel of today" in guest.console(), guest.console()[-2000:]
    booted_again(last)


@suite.case("shutdown --cancel takes a delayed reboot back, and the host is told")
def _():
    last = last_seq()
    record = base64.b64encode(rootfs.logged_in("ttyS0")).decode()
    guest.sh("echo %s | base64 -d >>/run/utmp" % record)
    va("reboot", "vm1", "--delay", "600", "-m", "a new disk")
    guest.wait_console(" s: a new disk", 30)
    va("shutdown", "vm1", "--cancel")
    guest.wait_console("reboot is cancelled", 30)
    e = hostd.wait_event("shutdown-cancelled", last, 30)["data"]
    assert (e["mode"], e["by"], e["via"]) == ("reboot", "host", "virtagent"), e
    assert guest.sh("systemctl list-jobs --no-legend | grep -c reboot || true").strip() == "0"


@suite.case("systemctl reboot in the guest is told before the machine goes")
def _():
    last = last_seq()
    guest.sh("systemctl reboot")
    e = hostd.wait_event("shutdown-begun", last, 60)
    want = {"mode": "reboot", "by": "init", "init": "systemd", "target": "reboot.target"}
    assert {k: e["data"].get(k) for k in want} == want, e
    assert down(last)["reason"] == "shutdown"
    booted_again(last)


@suite.case("shutdown -H in the guest: its message is in the event, the CPU halts")
def _():
    last = last_seq()
    guest.sh("shutdown -H +0 'cold tonight' >/dev/null 2>&1")
    e = hostd.wait_event("shutdown-begun", last, 60)
    want = {"mode": "halt", "by": "init", "target": "halt.target", "message": "cold tonight"}
    assert {k: e["data"].get(k) for k in want} == want, e
    guest.wait_console("System halted", 60)
    guest.qmp("system_reset")
    booted_again(last)


# systemctl is shutdown(8), too, by its name.
BUSY = """
cp /bin/systemctl /run/real; ln -s real /run/shutdown
cat >/run/busy <<'END'
#!/bin/sh
case "$0 $1" in
*" list-jobs") exec sleep 60;;
*shutdown*) exec /run/shutdown "$@";;
*) exec /run/real "$@";;
esac
END
chmod 755 /run/busy; mount -o remount,exec /run; mount --bind /run/busy /bin/systemctl
"""


@suite.case("shutdown --wait, and systemd too busy to say why: done, the machine is off")
def _():
    last = last_seq()
    guest.sh(BUSY)
    va("shutdown", "vm1", "--wait", seconds=120)
    assert guest.qemu.wait(60) == 0
    begun = [e["data"] for e in hostd.events(last) if e["event"] == "shutdown-begun"]
    assert [d["by"] for d in begun] == ["host"] and begun[0]["mode"] == "powerdown", begun
    assert down(last)["detail"] == "powerdown, by systemd"


suite.main()
