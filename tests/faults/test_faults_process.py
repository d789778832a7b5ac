#!/usr/bin/python3
# time-limit: 3000
# test_faults_process.py - processes killed and stopped at either end of the link, under
# load in both directions.
# What must hold after each is in tests/lib/vatest/faults.py.
#
# SPDX-License-Identifier: MIT
import signal
import time

from vatest.faults import Rig, STOP

rig = Rig(reboot=True)

for role in ("endpoint", "server", "spawner"):
    @rig.row("agent's %s killed" % role, "kill -9 in the guest; init or its parent starts it anew")
    def _(links, _n, role=role):
        pids = [link.agent_pid(role) for link in links.values()]
        rig.guest.sh("kill -9 %s" % " ".join(map(str, pids)))


for role in ("endpoint", "server", "spawner"):
    @rig.row("agent's %s stopped" % role, "SIGSTOP in the guest for %d s, SIGCONT" % STOP)
    def _(links, _n, role=role):
        pids = " ".join(str(link.agent_pid(role)) for link in links.values())
        rig.guest.sh("kill -STOP %s" % pids)
        time.sleep(STOP)
        # A server that does not answer is killed and replaced meanwhile.
        rig.guest.sh("kill -CONT %s 2>/dev/null; true" % pids)


@rig.row("virtproxy killed", "kill -9 on the host, started again")
def _(links, _n):
    for link in links.values():
        link.restart()


@rig.row("virtproxy stopped", "SIGSTOP on the host for %d s, SIGCONT" % STOP)
def _(links, _n):
    for link in links.values():
        link.proxy.process.signal(signal.SIGSTOP)
    time.sleep(STOP)
    for link in links.values():
        link.proxy.process.signal(signal.SIGCONT)


rig.main()
