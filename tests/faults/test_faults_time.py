#!/usr/bin/python3
# time-limit: 900
# test_faults_time.py - the guest goes back in time, or to another QEMU, under load:
# savevm and loadvm, to before its agent ran too; live migration with the new host
# attached before and after the switch, while the old one goes on listening.
# What must hold after each is in tests/lib/vatest/faults.py.
#
# SPDX-License-Identifier: MIT
import time

from vatest import Guest, Suite, need_all
from vatest.faults import GUEST_BOOT, Rig, guest_files

need_all("qemu-img")

suite = Suite()
guest = Guest(name="faults", files=guest_files(), boot=GUEST_BOOT, reboot=True, savevm=True)
suite.cleanups.append(lambda: rig.guest.close())
suite.on_failure.append(lambda: rig.guest.report())
rig = Rig(suite, guest)


@suite.case("the load runs on both channels")
def _():
    rig.begin()


@suite.case("saved under load, loaded under load a moment later")
def _():
    def inject(_links, n):
        rig.guest.qmp.hmp("savevm busy")
        time.sleep((0.05, 0.5, 1.5)[n % 3])     # sequence numbers overlap, or do not
        rig.guest.qmp.hmp("loadvm busy")
    rig.fault("savevm and loadvm under load (F15)", inject, rewinds=True)


@suite.case("loaded to before the agent ran")
def _():
    def inject(_links, _n):
        rig.guest.sh("mv /usr/sbin/va-agent /usr/sbin/off; kill -9 $(pidof va-agent); sleep 1")
        rig.guest.qmp.hmp("savevm before")
        rig.guest.sh("mv /usr/sbin/off /usr/sbin/va-agent")
        for link in rig.links.values():
            link.proxy.wait_agent(30)
        rig.guest.qmp.hmp("loadvm before")
        time.sleep(1)
        rig.guest.sh("mv /usr/sbin/off /usr/sbin/va-agent")
    rig.fault("loadvm to before the agent ran (F17)", inject, rewinds=True)
    for tag in ("busy", "before"):
        rig.guest.qmp.hmp("delvm " + tag)


suite.main()
