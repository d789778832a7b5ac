#!/usr/bin/python3
# test_agent_ends.py - however a real guest's agent ends, its host knows why, over
# virtio-serial and over isa-serial; and a shutdown that the guest begins itself is
# told before the machine goes.  The init here is busybox's.
#
# SPDX-License-Identifier: MIT
from vatest import Guest, Suite, wait_until
from vatest.hostd import Hostd, need_hostd

need_hostd()
suite = Suite()
guest = Guest(channels=("virtio", "serial"), reboot=True)
suite.cleanups.append(guest.close)
suite.on_failure.append(guest.report)
hostd = Hostd(["virtio=unix-connect:%s:-" % guest.virtio,
               "serial=unix-connect:%s:-" % guest.serial])
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)
KINDS = ("virtio", "serial")


def events(last, kind, name):
    return [e for e in hostd.events(last, kind) if e["event"] == name]


def last_seq():
    return hostd.events()[-1]["seq"]


def pid_of(kind, role):
    """The agent's process of that kind of channel."""
    tty = "ttyS1"
    for pid in guest.pids("/usr/sbin/va-agent -c" if kind == "serial" else "/usr/sbin/va-agent"):
        line = guest.sh("tr '\\0' ' ' </proc/%d/cmdline" % pid)
        if "--role" not in line and line.startswith("/usr") and (tty in line) == (kind == "serial"):
            endpoint = pid
            break
    else:
        raise AssertionError("no endpoint for " + kind)
    if role == "endpoint":
        return endpoint
    out = guest.sh("for p in /proc/[0-9]*; do grep -q '^PPid:.%d$' $p/status 2>/dev/null && "
                   "tr '\\0' ' ' <$p/cmdline | grep -q -e --role=%s && echo ${p#/proc/}; done; true"
                   % (endpoint, role))
    return int(out.split()[0])


def down_and_up(kind, last):
    """agent-down's data, once agent-up has followed."""
    down = hostd.wait_event("agent-down", last, 30, kind)
    up = hostd.wait_event("agent-up", down["seq"], 30, kind)
    assert len(events(last, kind, "agent-down")) == 1, hostd.events(last)
    assert up["seq"] > down["seq"]
    return down["data"]


for _kind in KINDS:
    @suite.case("%s: both are up" % _kind)
    def _(kind=_kind):
        hostd.wait_event("agent-up", 0, 60, kind)

    @suite.case("%s: stopped by a signal" % _kind)
    def _(kind=_kind):
        last = last_seq()
        pid = pid_of(kind, "endpoint")
        guest.sh("kill %d" % pid)
        data = down_and_up(kind, last)
        assert data["reason"] == "stopped" and "signal 15" in data["detail"], data
        assert data["detail"].split()[-1] not in ("0", "1"), data

for _kind in KINDS:
    @suite.case("%s: upgraded: its program was replaced before it was stopped" % _kind)
    def _(kind=_kind):
        last = last_seq()
        guest.sh("cp /usr/sbin/va-agent /usr/sbin/va-agent.new && "
                 "mv /usr/sbin/va-agent.new /usr/sbin/va-agent && kill %d"
                 % pid_of(kind, "endpoint"))
        data = down_and_up(kind, last)
        assert data["reason"] == "upgraded", data

    @suite.case("%s: the endpoint crashed" % _kind)
    def _(kind=_kind):
        last = last_seq()
        guest.sh("kill -SEGV %d" % pid_of(kind, "endpoint"))
        data = down_and_up(kind, last)
        assert data["reason"] == "crashed" and data["process"] == "endpoint", data
        e = hostd.wait_event("agent-process-ended", last, guest=kind)
        assert e["data"] == {"process": "endpoint", "reason": "crashed"}, e

    @suite.case("%s: the server crashed, with its signal" % _kind)
    def _(kind=_kind):
        last = last_seq()
        guest.sh("kill -ABRT %d" % pid_of(kind, "server"))
        data = down_and_up(kind, last)
        assert data["reason"] == "crashed" and data["process"] == "server" \
            and data["signal"] == 6, data
        e = hostd.wait_event("agent-process-ended", last, guest=kind)
        assert e["data"] == {"process": "server", "reason": "crashed", "signal": 6}, e

    @suite.case("%s: the server hung and was replaced" % _kind)
    def _(kind=_kind):
        last = last_seq()
        guest.sh("kill -STOP %d" % pid_of(kind, "server"))
        data = down_and_up(kind, last)
        assert data["reason"] == "hung" and data["process"] == "server" \
            and "signal" not in data, data

    @suite.case("%s: the spawner's end is told; the agent is up all the while" % _kind)
    def _(kind=_kind):
        last = last_seq()
        guest.sh("kill -9 %d" % pid_of(kind, "spawner"))
        e = hostd.wait_event("agent-process-ended", last, guest=kind)
        assert e["data"] == {"process": "spawner", "reason": "crashed", "signal": 9}, e
        assert hostd.guest_rpc(kind).guest.ping() == "pong"
        assert not events(last, kind, "agent-down")


@suite.case("the machine is reset: another boot, no goodbye")
def _():
    last = last_seq()
    boot = guest.sh("cat /proc/sys/kernel/random/boot_id").strip()
    guest.qmp("system_reset")
    guest.wait_boot()
    for kind in KINDS:
        data = down_and_up(kind, last)
        assert data["reason"] == "reset", data
        e = hostd.wait_event("booted", last, guest=kind)
        assert e["data"]["boot_id"] != boot, (e, boot)


@suite.case("busybox's init reboots: told before the machine goes, and why the agent ends")
def _():
    last = last_seq()
    guest.sh("reboot")
    for kind in KINDS:
        e = hostd.wait_event("shutdown-begun", last, 30, kind)
        assert e["data"] == {"mode": "unknown", "by": "init", "init": "init"}, e
        down = hostd.wait_event("agent-down", e["seq"], 30, kind)
        assert down["data"]["reason"] == "shutdown", down
    guest.wait_boot()
    for kind in KINDS:
        hostd.wait_event("booted", last, 60, kind)


@suite.case("the host asks busybox's init to reboot, then to halt: done, and told once")
def _():
    for mode in ("reboot", "halt"):
        last = last_seq()
        hostd.guest_rpc("serial").guest.shutdown(mode)
        down = hostd.wait_event("agent-down", last, 30, "serial")["data"]
        assert down["reason"] == "shutdown" and mode in down["detail"], down
        begun = events(last, "serial", "shutdown-begun")
        assert [(e["data"]["by"], e["data"]["mode"], e["data"]["via"]) for e in begun] == \
            [("host", mode, "virtagent")], begun
        if mode == "halt":
            guest.wait_console("System halted", 60)
            assert guest.qemu.running()
            guest.qmp("system_reset")
        guest.wait_boot()
        for kind in KINDS:
            hostd.wait_event("booted", last, 60, kind)


@suite.case("the host asks busybox's init to power off: one event, with who asked")
def _():
    last = last_seq()
    hostd.guest_rpc("virtio").guest.shutdown("powerdown")
    assert guest.qemu.wait(60) == 0
    told = hostd.wait_event("agent-down", last, 30, "virtio")["data"]
    assert told["reason"] == "shutdown" and "powerdown" in told["detail"], told
    begun = events(last, "virtio", "shutdown-begun")
    assert [e["data"]["by"] for e in begun] == ["host"], begun
    other = events(last, "serial", "shutdown-begun")
    assert [e["data"]["by"] for e in other] == ["init"], other
    wait_until(lambda: len(events(last, "serial", "agent-down")) == 1, 20, "agent-down")


suite.main()
