#!/usr/bin/python3
# time-limit: 3000
# test_faults_time.py - the guest goes back in time: savevm and loadvm, idle and under
# load, to before its agent ran too.
# What must hold after each is in tests/lib/vatest/faults.py.
#
# SPDX-License-Identifier: MIT
import time

from vatest import Timeout, need_all, wait_until
from vatest.faults import Rig
from vatest.load import RUNTIME

need_all("qemu-img")
rig = Rig(reboot=True, savevm=True)


def load(tag, may_break=True):
    rig.guest.qmp.hmp("loadvm " + tag)
    rig.guest.reconnect()
    try:
        rig.guest.sh("true", 8)
    except (Timeout, EOFError):
        # Not the agent's port but the tests' own on the same device: QEMU's device is
        # broken (virtproxy.8, BUGS), which only a reset of the guest ends.  It counts.
        print("# the virtio-serial device is broken after loadvm; the guest is reset")
        if may_break:
            rig.res.lines["virtio"]["other"] += 1
        else:
            rig.problem("virtio", "other", "loadvm broke the device after a quiesce")
        rig.guest.qmp("system_reset")
        rig.guest.wait_boot()


@rig.row("savevm and loadvm under load", "loaded 50, 500 or 1500 ms after it was saved",
         rewinds=True)
def _(_links, n):
    rig.guest.qmp.hmp("savevm busy")
    time.sleep((0.05, 0.5, 1.5)[n % 3])
    load("busy")


@rig.row("savevm and loadvm under load, quiesced",
         "quiesce until both are idle, savevm, resume; loaded 50, 500 or 1500 ms after: QEMU's "
         "device never breaks", rewinds=True)
def _(links, n):
    for k, link in links.items():
        wait_until(lambda link=link: link.command("quiesce") == "idle", 20, k + " to be idle")
    rig.guest.qmp.hmp("savevm busy")
    for link in links.values():
        link.command("resume")
    time.sleep((0.05, 0.5, 1.5)[n % 3])
    load("busy", False)


@rig.row("savevm and loadvm, numbers overlap (F15)",
         "the guest sends as fast as it can on two more streams a channel; saved and loaded "
         "20 to 200 ms later, so that it uses sequence numbers again for other bytes",
         rewinds=True)
def _(links, n):
    run = RUNTIME
    rig.guest.sh("".join(
        "timeout 3 /va/stream %s/host.sock 1000000 0 >>/run/streams-%s &\n" % (run[k], k)
        for k in links for _ in range(2)))
    time.sleep(1)
    rig.guest.qmp.hmp("savevm busy")
    time.sleep((0.02, 0.08, 0.2)[n % 3])
    load("busy")


@rig.row("savevm and loadvm, idle", "loaded 500 ms after it was saved", rewinds=True, load=False)
def _(_links, _n):
    rig.guest.qmp.hmp("savevm busy")
    time.sleep(0.5)
    load("busy")


@rig.row("loadvm to before the agent ran (F17)",
         "saved without an agent, which then starts and serves; loaded", rewinds=True)
def _(links, _n):
    rig.guest.sh("mv /usr/sbin/va-agent /usr/sbin/off; kill -9 $(pidof va-agent); sleep 1")
    rig.guest.qmp.hmp("savevm before")
    rig.guest.sh("mv /usr/sbin/off /usr/sbin/va-agent")
    for link in links.values():
        link.proxy.wait_agent(30)
    load("before")
    time.sleep(1)
    rig.guest.sh("mv /usr/sbin/off /usr/sbin/va-agent")


rig.main()
