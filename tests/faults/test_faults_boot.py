#!/usr/bin/python3
# time-limit: 3000
# test_faults_boot.py - the guest starts anew under load, asked or not.  Its boot takes
# as long as it takes: the fault is over when its userspace runs again, init having
# started the agent.
# What must hold after each is in tests/lib/vatest/faults.py.
#
# SPDX-License-Identifier: MIT
from vatest.faults import Rig

rig = Rig(reboot=True)


@rig.row("guest reset", "QMP system_reset", boots=True)
def _(_links, _n):
    rig.guest.qmp("system_reset")
    rig.guest.wait_boot()


@rig.row("guest reboots", "reboot(8) in the guest", boots=True)
def _(_links, _n):
    rig.guest.sh("(usleep 500000; reboot) >/dev/null 2>&1 &")
    rig.guest.wait_boot()


@rig.row("guest reboots at once", "reboot -f: nobody is told, nothing is flushed", boots=True)
def _(_links, _n):
    rig.guest.sh("(usleep 500000; reboot -f) >/dev/null 2>&1 &")
    rig.guest.wait_boot()


@rig.row("guest panics", "sysrq c, the kernel reboots (panic=-1)", boots=True)
def _(_links, _n):
    rig.guest.sh("(usleep 500000; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &")
    rig.guest.wait_boot()


rig.main()
