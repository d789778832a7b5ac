#!/usr/bin/python3
# time-limit: 3000
# test_faults_tty.py - others on the agent's serial line: the kernel's console, a getty
# that respawns and hangs the line up, BREAKs.
# What must hold after each is in tests/lib/vatest/faults.py.
#
# SPDX-License-Identifier: MIT
import time

from vatest.faults import Rig, STOP

# The line is a console of the kernel, too; but sysrq by BREAK is off, or the byte after
# one would be a command.
rig = Rig(reboot=True, cmdline="console=ttyS1 printk.devkmsg=on",
          boot="echo 0 >/proc/sys/kernel/sysrq\n")


@rig.row("kernel text on the line", "console=ttyS1, lines to /dev/kmsg every 20 ms for %d s" % STOP,
         kinds=("serial",))
def _(_links, n):
    rig.guest.sh("i=0; while [ $i -lt %d ]; do i=$((i + 1)); "
                 "echo '<1>noise %d: the quick brown fox jumps over the lazy dog' $i >/dev/kmsg; "
                 "usleep 20000; done" % (STOP * 25, n), STOP * 4 + 30)


@rig.row("getty on the line", "getty started again and again for %d s, the line hung up each time"
         % STOP, kinds=("serial",))
def _(_links, _n):
    rig.guest.sh("end=$(($(cut -d. -f1 /proc/uptime) + %d)); "
                 "while [ $(cut -d. -f1 /proc/uptime) -lt $end ]; do "
                 "/va/hangup /dev/ttyS1; setsid timeout 1 getty -L 115200 ttyS1 vt100; done; true"
                 % STOP, STOP * 4 + 30)


@rig.row("line hung up", "vhangup(2) on the tty, 20 times in 2 s", kinds=("serial",))
def _(_links, _n):
    rig.guest.sh("for i in $(seq 20); do /va/hangup /dev/ttyS1; usleep 100000; done")


@rig.row("line made cooked", "stty sane: echo, editing, flow control", kinds=("serial",))
def _(_links, _n):
    rig.guest.sh("stty -F /dev/ttyS1 sane")


@rig.row("BREAKs on the line", "QMP chardev-send-break, 100 times in 2 s", kinds=("serial",))
def _(_links, _n):
    for _ in range(100):
        rig.guest.qmp("chardev-send-break", id="serial")
        time.sleep(0.02)


rig.main()
