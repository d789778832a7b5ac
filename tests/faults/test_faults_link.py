#!/usr/bin/python3
# time-limit: 1500
# test_faults_link.py - the link under load in both directions: processes killed and
# stopped at either end, the VM paused, the host's end of the channel closed and opened.
# What must hold after each is in tests/lib/vatest/faults.py.
#
# SPDX-License-Identifier: MIT
import os
import signal
import time

from vatest import Guest, Suite
from vatest.faults import GUEST_BOOT, Rig, guest_files

STOP_SECONDS = float(os.environ.get("VA_FAULTS_STOP") or 5)

suite = Suite()
guest = Guest(name="faults", files=guest_files(), boot=GUEST_BOOT, reboot=True)
suite.cleanups.append(guest.close)
suite.on_failure.append(guest.report)
rig = Rig(suite, guest)


@suite.case("the load runs on both channels")
def _():
    rig.begin()


for role in ("endpoint", "server"):
    @suite.case("the agent's %s is killed" % role)
    def _(role=role):
        def inject(links, _n):
            pids = [link.agent_pid(role) for link in links.values()]
            guest.sh("kill -9 %s" % " ".join(map(str, pids)))
        rig.fault("agent's %s killed" % role, inject)


@suite.case("virtproxy is killed and started again")
def _():
    def inject(links, _n):
        for link in links.values():
            link.restart()
    rig.fault("virtproxy killed", inject)


@suite.case("virtproxy is stopped for a while")
def _():
    def inject(links, _n):
        for link in links.values():
            link.proxy.process.signal(signal.SIGSTOP)
        time.sleep(STOP_SECONDS)
        for link in links.values():
            link.proxy.process.signal(signal.SIGCONT)
    rig.fault("virtproxy stopped", inject)


@suite.case("the agent's endpoint is stopped for a while")
def _():
    def inject(links, _n):
        pids = " ".join(str(link.agent_pid("endpoint")) for link in links.values())
        guest.sh("kill -STOP %s" % pids)
        time.sleep(STOP_SECONDS)
        guest.sh("kill -CONT %s" % pids)
    rig.fault("agent's endpoint stopped", inject)


@suite.case("the VM is paused for a while")
def _():
    def inject(_links, _n):
        guest.qmp("stop")
        time.sleep(STOP_SECONDS)
        guest.qmp("cont")
    rig.fault("VM paused", inject)


@suite.case("the host's socket is closed and opened many times")
def _():
    def inject(links, _n):
        for _ in range(20):
            for link in links.values():
                link.command("reconnect")
            time.sleep(0.05)
    rig.fault("channel closed and opened, 20 times", inject)


@suite.case("paused, the host leaves, continued, the guest writes, the host is back")
def _():
    def inject(links, _n):
        guest.qmp("stop")
        for link in links.values():
            link.proxy.process.kill()
        guest.qmp("cont")
        time.sleep(1.5)                 # its beacons and its load meet nobody
        for link in links.values():
            link.proxy.restart()
    rig.fault("VM paused, host leaves, VM continued, host back (V13)", inject)


suite.main()
