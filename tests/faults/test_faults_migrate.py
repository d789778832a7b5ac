#!/usr/bin/python3
# time-limit: 3000
# test_faults_migrate.py - live migration to a second QEMU: the new host attached before
# and after the switch, idle and under load, with and without a QMP socket for virtproxy;
# the old one goes on listening (V14, V17).
# What must hold after each is in tests/lib/vatest/faults.py.
#
# SPDX-License-Identifier: MIT
import re
import signal
import threading
import time

from vatest import Timeout, wait_until
from vatest.faults import Rig

rig = Rig(monitors=2, reboot=True)
closing = []            # timers that end what the last migration left behind
LSR = 0x2f8 + 5         # the second UART's line status
LSR_EMPTY = 0x60        # its transmitter holds nothing, or has room


def close_later(things):
    def close():
        for t in things:
            t.close()
    closing.append(threading.Timer(1.5, close))
    closing[-1].start()


def attach(links, guest, qmp):
    """A new virtproxy per link on the guest's socket, with a monitor of its own."""
    return {k: link.start(getattr(guest, k),
                          ("--qmp", guest.monitors[list(rig.links).index(k)]) if qmp else ())
            for k, link in links.items()}


def prepare(links, qmp):
    """Before the fault: the old host has QMP sockets, or has not."""
    while closing:
        closing.pop().join()
    for k, link in links.items():
        if ("--qmp" in link.proxy.argv) != qmp:
            link.proxy.close()
            link.proxy = attach({k: link}, rig.guest, qmp)[k]
            link.proxy.wait_agent(30)
            link.proxy.process.wait_log("channel up")
    if qmp:
        wait_until(lambda: all(link.status()["qmp"] == "connected" for link in links.values()),
                   10, "QMP")


def wake(olds, stalled):
    """The old hosts read on: nothing of it may reach a stream."""
    time.sleep(0.3)
    before = {k: rig.links[k].echo.bytes for k in stalled}
    for k in stalled:
        olds[k].process.signal(signal.SIGCONT)
    time.sleep(1)
    for k in stalled:
        late = rig.links[k].echo.bytes - before[k]
        if late:
            rig.problem(k, "lost", "%d bytes of the old QEMU reached a stream" % late)


def transmitter_stuck(link):
    """Whether QEMU's serial port sends no more (virtproxy.8, BUGS): it waited for its
    chardev when the guest left, which a slow host makes so, and nothing was connected when
    it arrived.  Not a byte comes then, not even the guest's beacon, and the UART says that
    it is still sending."""
    def heard():
        try:
            return link.status()["bytes-in"]
        except (OSError, EOFError):     # it has just been started
            return 0
    try:
        wait_until(heard, 6, "a byte of the serial port")
        return False
    except Timeout:
        line = [rig.guest.qmp.hmp("i /b %#x" % LSR) for _ in range(20)]
    return not any(int(re.search(r"= (0x\w+)", text).group(1), 16) & LSR_EMPTY for text in line)


def mend_serial():
    """What only a reset of the guest ends counts, and ends."""
    if "serial" in rig.links and transmitter_stuck(rig.links["serial"]):
        print("# the serial port is dead after the migration; the guest is reset")
        if "serial" in rig.res.lines:   # else it only bears the load
            rig.res.lines["serial"]["other"] += 1
        rig.guest.qmp("system_reset")
        rig.guest.wait_boot()
        return True
    return False


def move(early, qmp, stalled=()):
    """Migrates; early: the new host is attached before the guest runs there.  stalled:
    channels whose old host reads nothing meanwhile: much lies in the old QEMU's queues."""
    links = rig.links
    prepare(links, qmp)
    old, olds = rig.guest, {k: link.proxy for k, link in links.items()}
    new = old.destination()
    for k in stalled:
        olds[k].process.signal(signal.SIGSTOP)
    time.sleep(1 if stalled else 0)
    fresh = attach(links, new, qmp) if early else None
    old.migrate_to(new)
    rig.guest = new
    over = time.monotonic()
    if stalled:
        wake(olds, stalled)
    if not early:
        time.sleep(1.5)                 # the guest writes, and nobody takes it
        fresh = attach(links, new, qmp)
        over = time.monotonic()
    for k, link in links.items():
        link.proxy = fresh[k]
    # The old ones drain what the old QEMU still hands out, for a while.
    close_later([*olds.values(), old])
    if not early and mend_serial():
        over = time.monotonic()
    return over


for qmp in (False, True):
    for early in (True, False):
        for load in (True, False):
            @rig.row("migration%s, host attached %s%s" % (
                "" if load else " idle", "before" if early else "after",
                ", QMP" if qmp else ""),
                "to a second QEMU; virtproxy on its socket %s%s" % (
                    "before the switch" if early else "1.5 s after the switch",
                    "; virtproxies have QMP sockets" if qmp else ""), load=load)
            def _(_links, _n, early=early, qmp=qmp):
                return move(early, qmp)


# A serial port that migrates while it waits for its chardev is dead in QEMU if nothing is
# connected when it arrives (virtproxy.8, BUGS), so the row is not for it.
@rig.row("migration from a stalled host, QMP (V17)",
         "the old virtproxy is stopped 1 s before the switch and continued after it: no byte "
         "of the old QEMU's queues may reach a stream; the new one attached 1.5 s after",
         kinds=("virtio",))
def _(links, _n):
    return move(False, True, tuple(links))


rig.main()
