#!/usr/bin/python3
# test_suspend.py - a real guest sleeps (S3) and wakes, asked by its host or by
# itself, over virtio-serial and over isa-serial; a guest that cannot says so
#
# SPDX-License-Identifier: MIT
import xmlrpc.client

from vatest import Guest, Skip, Suite, program, run, wait_until
from vatest.hostd import Hostd, need_hostd

need_hostd()
suite = Suite()
guest = Guest(channels=("virtio", "serial"))
suite.cleanups.append(guest.close)
suite.on_failure.append(guest.report)
hostd = Hostd(["virtio=unix-connect:%s:-" % guest.virtio,
               "serial=unix-connect:%s:-" % guest.serial])
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)
KINDS = ("virtio", "serial")


def last_seq():
    return hostd.events()[-1]["seq"]


def status():
    return guest.qmp("query-status")["status"]


def sleeps_and_wakes(last, by):
    """suspended came before it slept; once awake both agents answer again."""
    wait_until(lambda: status() == "suspended", 30, "the guest to sleep", 0.1)
    told = {e["guest"]: e for e in hostd.events(last) if e["event"] == "suspended"}
    if by:
        assert told[by]["data"]["by"] == "host", told
    # It sleeps for a while: that is what the guest's clocks show.
    began = guest.qmp("query-status")
    assert began["status"] == "suspended"
    wait_until(lambda: {e["guest"] for e in hostd.events(last)
                        if e["event"] == "guest-silent"} == set(KINDS), 30,
               "the host to miss it on both channels", 0.2)
    guest.qmp("system_wakeup")
    for kind in KINDS:
        e = hostd.wait_event("resumed", last, 60, kind)
        assert e["data"]["seconds"] >= 1, e
        assert hostd.guest_rpc(kind).guest.ping() == "pong"
        hostd.wait_event("guest-heard", last, 30, kind)
    # Asleep is not down.
    assert not [e for e in hostd.events(last) if e["event"] in ("agent-down", "agent-up")]


@suite.case("the guest says that it can be suspended")
def _():
    for kind in KINDS:
        hostd.wait_event("agent-up", 0, 60, kind)
    state = guest.sh("cat /sys/power/state")
    if "mem" not in state:
        raise Skip("this kernel under this QEMU cannot suspend to RAM: %s" % state)
    assert hostd.guest_rpc("virtio").guest.capabilities()["features"]["suspend"] is True


for _kind in KINDS:
    @suite.case("%s: va-client suspend: told, asleep, awake, told; the link lives on" % _kind)
    def _(kind=_kind):
        last = last_seq()
        r = run([program("va-client"), "suspend", kind], env=hostd.env, seconds=30)
        assert r.returncode == 0, r
        sleeps_and_wakes(last, kind)
        mine = [e["event"] for e in hostd.events(last, kind)
                if e["event"] in ("suspended", "resumed", "shutdown-begun")]
        assert mine == ["suspended", "resumed"], mine


@suite.case("a sleep that nobody asked the agent for is noticed after it")
def _():
    last = last_seq()
    guest.sh("(sleep 1; echo mem >/sys/power/state) >/dev/null 2>&1 &")
    sleeps_and_wakes(last, None)


@suite.case("a guest that cannot be suspended says so, and refuses with the reason")
def _():
    guest.sh("echo freeze >/run/state; mount --bind /run/state /sys/power/state")
    rpc = hostd.guest_rpc("virtio")
    assert rpc.guest.capabilities()["features"]["suspend"] is False
    last = last_seq()
    try:
        rpc.guest.shutdown("suspend")
        raise AssertionError("no fault")
    except xmlrpc.client.Fault as f:
        assert '/sys/power/state offers no "mem"' in f.faultString, f
    guest.sh("umount /sys/power/state")
    assert rpc.guest.capabilities()["features"]["suspend"] is True
    assert not [e for e in hostd.events(last) if e["event"] == "suspended"]


suite.main()
