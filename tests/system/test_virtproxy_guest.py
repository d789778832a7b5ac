#!/usr/bin/python3
# time-limit: 900
# test_virtproxy_guest.py - virtproxy alone, between a host and a real guest: over
# virtio-serial and isa-serial, in both directions; the host away, the program
# killed at either end, the VM stopped and continued, the guest rebooted.
#
# SPDX-License-Identifier: MIT
import hashlib
import json
import os
import random
import socket
import threading
import time

from vatest import Guest, Suite, program, run, scale, tmpdir, wait_until
from vatest.proxy import Proxy, Server, echo, read_all

GUEST_PROXY = """
ulimit -c 0
%s virtproxy -c %s -i echo:127.0.0.1:7 -o host:/run/host-%s:- --ctl /run/ctl-%s \
    --log /run/vp-%s.log --daemon --pidfile /run/vp-%s.pid
"""
KINDS = ("virtio", "serial")
# Bytes for a transfer: TCG carries some 300 KB/s over the serial line.
SIZE = {"virtio": 8 << 20, "serial": 200000}
CHANNEL = {"virtio": "virtserial-open:/dev/virtio-ports/org.virtagent.0:-",
           "serial": "isaserial-open:/dev/ttyS1"}

suite = Suite()
state = {}


def start_guest_end(g, kind):
    g.sh(GUEST_PROXY % ("", CHANNEL[kind], kind, kind, kind, kind))


def host_args(g, kind):
    out = os.path.join(tmpdir(), "out-" + kind)
    channel = g.virtio if kind == "virtio" else g.serial
    return ["-c", "unix-connect:%s:-" % channel, "-o", "echo:%s:-" % out,
            "-i", "host:%s:-" % state["server"].path, "--name", kind]


def guest_log(kind):
    return state["guest"].sh("cat /run/vp-%s.log" % kind)


def boot_services(g):
    g.sh("nc -ll -p 7 -e cat >/dev/null 2>&1 </dev/null &")


def setup():
    if "guest" in state:
        return state["guest"]
    state["server"] = Server(digest)
    g = Guest(agents=(), programs={"/usr/sbin/virtproxy": program("virtproxy")}, reboot=True,
              savevm=True)
    state["guest"] = g
    suite.cleanups.append(g.close)
    suite.on_failure.append(g.report)
    boot_services(g)
    for kind in KINDS:
        start_guest_end(g, kind)
        state[kind] = Proxy(*host_args(g, kind), name="vp-" + kind)
        suite.on_failure.append(lambda kind=kind: guest_log(kind))
        suite.on_failure.append(lambda kind=kind: state[kind].log())
    return g


def digest(conn):
    conn.sendall(hashlib.sha256(read_all(conn)).hexdigest().encode())


def connect(kind):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60 * scale())
    s.connect(os.path.join(tmpdir(), "out-" + kind))
    return s


def push(s, data):
    try:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    except OSError:                     # the reader reports it
        pass


def through_echo(kind, data):
    with connect(kind) as s:
        t = threading.Thread(target=push, args=(s, data))
        t.start()
        got = read_all(s)
        t.join()
        return got


def answers(kind, seconds=30):
    """A line goes there and back within the limit."""
    def once():
        try:
            return through_echo(kind, b"ping") == b"ping"
        except ConnectionError:         # no session, or no listener yet
            return False
    return wait_until(once, seconds, "an answer over " + kind, 0.1)


for kind in KINDS:
    @suite.case("%s: a session, and bytes both ways at once" % kind)
    def _(kind=kind):
        setup()
        st = state[kind].wait_session(seconds=30)
        assert st["channel-kind"] == kind, st
        answers(kind)
        data = random.randbytes(SIZE[kind])
        began = time.monotonic()
        assert through_echo(kind, data) == data
        print("# %s: %.2f MB/s there and back" %
              (kind, 2 * SIZE[kind] / (time.monotonic() - began) / 1e6))

    @suite.case("%s: streams that the guest opens" % kind)
    def _(kind=kind):
        g = setup()
        g.sh("head -c 100000 /dev/urandom >/run/data")
        want = g.sh("sha256sum </run/data").split()[0]
        g.sh("virtproxy --status /run/ctl-%s | grep -q '^session up'" % kind)
        # busybox has no unix-socket client: a second proxy in the guest gives the
        # socket a TCP port's face, over a pair of its own.
        port = 2000 + KINDS.index(kind)
        g.sh("""
            virtproxy -c unix-listen:/run/p-{k}:- --role guest -i x:/run/host-{k}:- \
                --daemon --pidfile /run/pg-{k}.pid --log /run/pg-{k}.log
            virtproxy -c unix-connect:/run/p-{k}:- -o x:127.0.0.1:{p} --ctl /run/pc-{k} \
                --daemon --pidfile /run/ph-{k}.pid --log /run/ph-{k}.log
            for i in $(seq 100); do
                virtproxy --status /run/pc-{k} | grep -q '^session up' && break
                usleep 50000
            done""".format(k=kind, p=port))
        got = g.sh("nc 127.0.0.1 %d </run/data" % port).strip()
        assert got == want, (got, want)
        g.sh("kill $(cat /run/pg-{k}.pid) $(cat /run/ph-{k}.pid)".format(k=kind))

    @suite.case("%s: a client with a pause gets its answer without delay" % kind)
    def _(kind=kind):
        setup()
        times = []
        with connect(kind) as s:
            for i in range(50):
                began = time.monotonic()
                s.sendall(b"%08d" % i)
                got = b""
                while len(got) < 8:
                    got += s.recv(8 - len(got))
                assert got == b"%08d" % i
                times.append(time.monotonic() - began)
        times.sort()
        print("# %s: 8-byte round trip, median %.2f ms" % (kind, times[25] * 1000))
        assert times[25] < 0.5 * scale(), times

    @suite.case("%s: the host's end killed under load comes back" % kind)
    def _(kind=kind):
        g = setup()
        for _ in range(3):
            s = connect(kind)
            push(s, b"x" * 50000)
            state[kind].kill()
            s.close()
            state[kind] = Proxy(*host_args(g, kind), name="vp-" + kind)
            answers(kind)

    @suite.case("%s: the guest's end killed under load comes back" % kind)
    def _(kind=kind):
        g = setup()
        for _ in range(3):
            s = connect(kind)
            push(s, b"x" * 50000)
            g.sh("kill -9 $(cat /run/vp-%s.pid)" % kind)
            start_guest_end(g, kind)
            answers(kind)
            # The old stream ended, visibly.
            try:
                read_all(s)
            except ConnectionResetError:
                pass
            s.close()

    @suite.case("%s: away for a while, the guest idles and is found again" % kind)
    def _(kind=kind):
        g = setup()
        state[kind].kill()
        before = cpu_ticks(g, kind)
        time.sleep(3)
        used = cpu_ticks(g, kind) - before
        assert used <= 10, "%d ticks of 10 ms in 3 s with nobody attached" % used
        state[kind] = Proxy(*host_args(g, kind), name="vp-" + kind)
        answers(kind, 10)

    @suite.case("%s: stopped and continued, a stream lives on" % kind)
    def _(kind=kind):
        g = setup()
        answers(kind)
        with connect(kind) as s:
            s.sendall(b"before")
            assert s.recv(100) == b"before"
            g.qmp("stop")
            s.sendall(b"while stopped")
            time.sleep(5)
            g.qmp("cont")
            got = b""
            while len(got) < 13:
                got += s.recv(100)
            assert got == b"while stopped"
        answers(kind)

    @suite.case("%s: stopped, the host leaves, continued: it works again" % kind)
    def _(kind=kind):
        g = setup()
        answers(kind)
        g.qmp("stop")
        state[kind].kill()
        g.qmp("cont")
        time.sleep(1.5)         # the guest's beacon meets nobody (V13)
        state[kind] = Proxy(*host_args(g, kind), name="vp-" + kind)
        answers(kind, 40)


    @suite.case("%s: va-client quiesce under load, a snapshot, resume: nothing is lost" % kind)
    def _(kind=kind):
        g = setup()
        answers(kind)
        there = os.path.join(tmpdir(), "q-" + kind)
        os.mkdir(there)
        os.symlink(os.path.join(tmpdir(), "out-" + kind), os.path.join(there, "rpc.sock"))
        os.symlink(state[kind].ctl_path, os.path.join(there, "ctl.sock"))

        def client(*words):
            r = run([program("va-client"), "-G", "unix:%s/rpc.sock" % there, *words])
            assert r.returncode == 0, r
            return r.stdout
        data, got = random.randbytes(SIZE[kind]), []
        t = threading.Thread(target=lambda: got.append(through_echo(kind, data)))
        begin = state[kind].status()["stream-bytes-in"]
        t.start()
        wait_until(lambda: state[kind].status()["stream-bytes-in"] > begin + 20000, 20, "bytes")
        said = json.loads(client("quiesce", "--json"))
        assert said["idle"] is True and said["connected"] is True, said
        before = state[kind].status()
        guests = g.sh("virtproxy --status /run/ctl-%s" % kind)
        assert before["in-flight-bytes"] == 0 and "\nin-flight-bytes 0\n" in guests, guests
        g.qmp("stop")
        g.qmp.hmp("savevm quiet")
        g.qmp("cont")
        after = state[kind].status()
        assert after["stream-bytes-out"] == before["stream-bytes-out"], (before, after)
        assert t.is_alive()
        client("resume")
        t.join(60 * scale())
        assert got and got[0] == data
        after = state[kind].status()
        assert after["sessions"] == before["sessions"], (before, after)
        print("# %s: quiet after %.0f ms" % (kind, said["seconds"] * 1000))


def cpu_ticks(g, kind):
    f = g.sh("cat /proc/$(cat /run/vp-%s.pid)/stat" % kind).rsplit(")", 1)[1].split()
    return int(f[11]) + int(f[12])


@suite.case("one process per port in the guest: the second waits and says so")
def _():
    g = setup()
    out = g.sh("VA_RUNTIME_DIR=/run/other timeout 2 virtproxy -c %s 2>&1 || true"
               % CHANNEL["virtio"])
    assert "Device or resource busy" in out, out
    out = g.sh("timeout 2 virtproxy -c %s 2>&1 || true" % CHANNEL["serial"])
    assert "is held by process" in out, out
    answers("virtio")


@suite.case("after a reboot of the guest the old streams end and new ones work")
def _():
    g = setup()
    held = {kind: connect(kind) for kind in KINDS}
    for s in held.values():
        s.sendall(b"x")
        assert s.recv(1) == b"x"
    g.qmp("system_reset")
    g.wait_boot()
    boot_services(g)
    for kind in KINDS:
        start_guest_end(g, kind)
        answers(kind, 30)
        try:
            assert read_all(held[kind]) == b""
        except ConnectionResetError:
            pass
        held[kind].close()


suite.main()
