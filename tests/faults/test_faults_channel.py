#!/usr/bin/python3
# time-limit: 5000
# test_faults_channel.py - the VM paused, the host's end of the channel closed and opened
# by us and by others, the port taken away, nobody at the other end for long.
# What must hold after each is in tests/lib/vatest/faults.py.
#
# SPDX-License-Identifier: MIT
import os
import time

from vatest import connect_unix
from vatest.faults import LONG, Rig, STOP
from vatest.host import Proxy
from vatest.usage import cpu_seconds

rig = Rig(reboot=True)


@rig.row("VM paused", "QMP stop, %d s, cont" % STOP)
def _(_links, _n):
    rig.guest.qmp("stop")
    time.sleep(STOP)
    rig.guest.qmp("cont")


TIMES = 1000 if LONG else 20
IDLE = max(STOP, 10)


@rig.row("socket closed and opened, %d times" % TIMES, "\"reconnect\" on the control socket, every 20 ms")
def _(links, _n):
    for _ in range(TIMES):
        for link in links.values():
            link.command("reconnect")
        time.sleep(0.02)


@rig.row("host leaves while paused (V13)",
         "QMP stop, virtproxy killed, cont, the guest writes for 1.5 s, virtproxy started")
def _(links, _n):
    rig.guest.qmp("stop")
    for link in links.values():
        link.proxy.process.kill()
    rig.guest.qmp("cont")
    time.sleep(1.5)                 # its beacons and its load meet nobody
    for link in links.values():
        link.proxy.restart()


@rig.row("second client on the socket",
         "connects to QEMU's socket, is adopted when virtproxy reconnects, writes text, "
         "leaves after %d s" % STOP)
def _(links, n):
    strangers = [connect_unix(getattr(rig.guest, k)) for k in links]
    for link in links.values():
        link.command("reconnect")
    end = time.monotonic() + STOP
    while time.monotonic() < end:
        for s in strangers:
            s.settimeout(0.05)
            try:
                s.sendall(b"AT+CGMI\r\n" if n % 2 else os.urandom(16))
                s.recv(65536)
            except OSError:
                pass                # nobody reads, or nothing came
    for s in strangers:
        s.close()


def second(links, lock):
    """Second virtproxies on the same channels; None or their processes."""
    found = []
    for kind, link in links.items():
        p = Proxy(getattr(rig.guest, kind), name="second-" + kind, start=False)
        if lock:
            p.dir = link.proxy.dir
        p.restart()
        found.append(p)
    return found


@rig.row("second virtproxy", "started on the same channel: refused by the lock")
def _(links, _n):
    for p in second(links, True):
        assert p.process.wait(10) != 0, "a second virtproxy got the lock"


@rig.row("second virtproxy of another user",
         "its lock is elsewhere; virtproxy reconnects, so it is adopted; killed after %d s" % STOP)
def _(links, _n):
    others = second(links, False)
    time.sleep(0.2)
    for link in links.values():
        link.command("reconnect")
    time.sleep(STOP)
    for p in others:
        p.close()


@rig.row("port held by another process",
         "the agent killed and kept away; another process opens its port and reads for %d s" % STOP)
def _(links, _n):
    g = rig.guest
    g.sh("mv /usr/sbin/va-agent /usr/sbin/off; kill -9 $(pidof va-agent)")
    for kind in links:
        g.sh("/va/hold %s %g >/run/hold-%s 2>&1 &" % (port(kind), STOP, kind))
    time.sleep(0.3)
    g.sh("mv /usr/sbin/off /usr/sbin/va-agent")
    g.sh("while pidof hold; do usleep 50000; done", STOP + 30)


def port(kind):
    """The agent's port in the guest."""
    if kind == "serial":
        return "/dev/ttyS1"
    return rig.guest.sh("echo /dev/$(basename $(dirname "
                        "$(grep -lx org.virtagent.0 /sys/class/virtio-ports/*/name)))").strip()


@rig.row("port unplugged and plugged", "QMP device_del, 1 s, device_add", kinds=("virtio",))
def _(_links, _n):
    rig.guest.qmp("device_del", id="vp0")
    time.sleep(1)
    rig.guest.qmp("device_add", driver="virtserialport", bus="vs.0", nr=1, chardev="port0",
                  name="org.virtagent.0", id="vp0")


def guest_cpu(link):
    """The same for one agent's processes in the guest, to the nanosecond: the ticks of
    /proc/PID/stat are counted when timers wake the agent, so they all seem to be its."""
    out = rig.guest.sh("cat %s" % " ".join("/proc/%d/task/*/schedstat" % p
                                           for p in link.pids().values()))
    return sum(int(line.split()[0]) for line in out.splitlines()) / 1e9


@rig.row("no host for a while", "virtproxy killed, %d s without; an agent takes < 1 %% of the "
         "guest's processor" % IDLE, load=False)
def _(links, _n):
    for link in links.values():
        link.proxy.process.kill()
    # For long: it has given up memory of the load, and takes its host for gone.
    rig.guest.sh("sleep 6")
    before, began = {k: guest_cpu(link) for k, link in links.items()}, time.monotonic()
    was = rig.processor()
    time.sleep(IDLE)
    # What the guest's processor waited for the host's is not the agent's.
    ran, waited = (now - then for now, then in zip(rig.processor(), was))
    for k, link in links.items():
        took = (guest_cpu(link) - before[k]) / (time.monotonic() - began)
        took *= ran / (ran + waited)
        print("# %s: the agent takes %.2f %% of a processor without a host (the guest's ran for "
              "%.2f s, waited for %.2f s)" % (k, 100 * took, ran / 1e9, waited / 1e9))
        if took >= 0.01:
            rig.problem(k, "hung", "the agent takes %.1f %% of the processor" % (100 * took))
    for link in links.values():
        link.proxy.restart()


@rig.row("no guest for a while", "the agent killed and kept away for %d s; virtproxy takes < 1 %% "
         "of a processor, and a stranger who opens the port then reads at most 64 bytes" % IDLE,
         load=False)
def _(links, _n):
    g = rig.guest
    g.sh("mv /usr/sbin/va-agent /usr/sbin/off; kill -9 $(pidof va-agent)")
    time.sleep(1)
    before = {k: cpu_seconds(link.proxy.process.pid) for k, link in links.items()}
    time.sleep(IDLE)
    for k, link in links.items():
        took = (cpu_seconds(link.proxy.process.pid) - before[k]) / IDLE
        got = int(g.sh("/va/hold %s 0.5" % port(k)))
        print("# %s: virtproxy takes %.2f %% of a processor without a guest; %d bytes were queued"
              % (k, 100 * took, got))
        if took >= 0.01:
            rig.problem(k, "hung", "virtproxy takes %.1f %% of a processor" % (100 * took))
        if got > 64:
            rig.problem(k, "lost", "a stranger was given %d bytes" % got)
    g.sh("mv /usr/sbin/off /usr/sbin/va-agent")


rig.main()
