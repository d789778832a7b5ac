#!/usr/bin/python3
"""Ten real guests at once under one va-hostd, half of them over isa-serial.

SPDX-License-Identifier: MIT
"""
# time-limit: 400
import concurrent.futures
import json
import re
import statistics
import threading
import time

from vatest import Guest, Process, Suite, program, run, sanitized, scale, wait_until
from vatest.hostd import Hostd, need_hostd

need_hostd()
suite = Suite()
COUNT = 10
PING_EACH = 0.4      # a boot beside them has half a core to itself, if that
NAMES = ["%s%d" % ("vio" if i % 2 == 0 else "ser", i) for i in range(COUNT)]
RESET, STOPPED, KILLED, REST = "vio0", "ser1", "vio2", NAMES[3:]
pool = concurrent.futures.ThreadPoolExecutor(COUNT)
suite.cleanups.append(pool.shutdown)


def tiny(name):
    return Guest(name=name, channels=("virtio",) if name.startswith("vio") else ("serial",),
                 memory=None if sanitized() else 80, reboot=name == RESET, start=False)


guests = {name: tiny(name) for name in NAMES}
suite.cleanups += [g.close for g in guests.values()]
suite.on_failure += [g.report for g in guests.values()]


def channel(g):
    return "unix-connect:%s:-" % (g.virtio or g.serial)


hostd = Hostd(["%s=%s" % (n, channel(g)) for n, g in guests.items()])
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)


def va(*args, seconds=60):
    return run([program("va-client"), *args], env=dict(hostd.env, VA_GUEST=""), seconds=seconds)


def va_ok(*args, **kw):
    r = va(*args, **kw)
    assert r.returncode == 0, (args, r.returncode, r.stdout[-300:], r.stderr)
    return r.stdout


def listed():
    return {g["name"]: g for g in json.loads(va_ok("guests", "--json"))}


def states():
    return {n: g["state"] for n, g in listed().items()}


def at_once(fn):
    """fn(name) for all guests at the same time: results by name, seconds in all."""
    began = time.monotonic()
    results = dict(zip(NAMES, pool.map(fn, NAMES)))
    return results, time.monotonic() - began


class Pings:
    """Pings of some guests, all the while; each by its own thread."""

    def __init__(self, names):
        self.times = {n: [] for n in names}
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in names]

    def run(self, name):
        while not self.over.is_set():
            begin = time.monotonic()
            assert hostd.guest_rpc(name, 60).guest.ping() == "pong"
            self.times[name].append(time.monotonic() - begin)
            self.over.wait(PING_EACH)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        for t in self.threads:
            t.join()

    def figures(self, what):
        """Prints p50 and p99 by kind of channel; the p99 of all, in ms."""
        for kind in ("vio", "ser"):
            ms = [1000 * t for n, ts in self.times.items() if n.startswith(kind) for t in ts]
            print("# pings %s, %s: %d, p50 %.1f ms, p99 %.1f ms" % (
                what, kind, len(ms), statistics.median(ms), statistics.quantiles(ms, n=100)[98]))
        every = [1000 * t for ts in self.times.values() for t in ts]
        assert min(map(len, self.times.values())) >= 5, self.times
        return statistics.quantiles(every, n=100)[98]


watch = None


@suite.case("ten guests boot at once, and all are connected")
def _():
    _, took = at_once(lambda n: guests[n].start())
    each = sorted(g.boot_seconds for g in guests.values())
    began = time.monotonic()

    def known():
        return [n for n, g in listed().items() if g["state"] == "connected" and g["version"]]
    wait_until(lambda: len(known()) == COUNT, 60, "ten guests", 0.2)
    print("# booted in %.1f s (%.1f to %.1f s each), all connected and known %.1f s later" % (
        took, each[0], each[-1], time.monotonic() - began))
    kinds = {n: g["kind"] for n, g in listed().items()}
    assert kinds == {n: "virtio" if n.startswith("vio") else "serial" for n in NAMES}, kinds


@suite.case("one set reaches them all, acknowledged by all")
def _():
    began = time.monotonic()
    va_ok("kv", "set", "--all", "--sync", "user.ten=for all")
    print("# one key to ten guests, acknowledged: %.2f s" % (time.monotonic() - began))


@suite.case("exec in all at once sees the key in each, and each guest by itself")
def _():
    out, took = at_once(lambda n: va_ok(
        "exec", n, "--", "/bin/sh", "-c",
        ". /va/conf; echo $NAME; cat /run/virtagent/kv/user.ten"))
    assert out == {n: "%s\nfor all" % n for n in NAMES}, out
    print("# exec in ten guests at once, start to end: %.2f s" % took)


@suite.case("one is reset, one stops, one ends; the others' pings stay fast, guests shows it")
def _():
    global watch
    watch = Process([program("va-client"), "guests", "--watch"], env=dict(hostd.env, VA_GUEST=""))
    suite.cleanups.append(watch.kill)
    for n in NAMES:
        watch.wait_log(r"^\S+ %s connected " % n, 30)
    with Pings(REST) as quiet:
        time.sleep(6 * scale())     # what there is without a fault
    base = quiet.figures("of seven while ten are idle")
    since = hostd.events()[-1]["seq"]
    with Pings(REST) as beside:
        guests[RESET].qmp("system_reset")
        guests[STOPPED].qmp("stop")
        guests[KILLED].qemu.kill()
        hostd.wait_event("guest-silent", since, 60, STOPPED)
        hostd.wait_event("guest-lost", since, 60, KILLED)
        got = states()
        want = dict.fromkeys(REST, "connected") | {STOPPED: "silent", KILLED: "absent"}
        assert {n: got[n] for n in want} == want, got
        hostd.wait_event("agent-up", since, 200, RESET)
        down = hostd.wait_event("agent-down", since, 60, RESET)
        assert down["data"]["reason"] == "reset", down
    p99 = beside.figures("beside a reset, a stop and an end")
    # A guest that boots takes a core of the two away.
    assert p99 < max(4 * base, 1000 * scale()), (p99, base)


@suite.case("the one that stopped goes on as the same, the one that was reset is another boot")
def _():
    since = hostd.events()[-1]["seq"]
    guests[STOPPED].qmp("cont")
    wait_until(lambda: states()[STOPPED] == "connected", 30, "it to be heard", 0.2)
    assert not [e for e in hostd.events(since, STOPPED) if e["event"] == "agent-up"]
    # "reset" keys aside, what all guests get is there again.
    hostd.wait_state(RESET, "connected", 60)
    wait_until(lambda: va("exec", RESET, "--", "/bin/cat", "/run/virtagent/kv/user.ten").stdout
               == "for all", 30, "the key in the guest that was reset", 0.2)
    final = {n: "absent" if n == KILLED else "connected" for n in NAMES}
    assert states() == final, states()
    rows = {line.split()[0]: line.split() for line in va_ok("guests").splitlines()[1:]}
    assert {n: row[1] for n, row in rows.items()} == final, rows
    assert all(re.fullmatch(r"\d+[smh]\S*", row[4]) for row in rows.values()), rows
    # The watch has said it all, in order.
    for name, seen in ((STOPPED, ["connected", "silent", "connected"]),
                       (KILLED, ["connected", "absent"])):
        wait_until(lambda n=name, s=seen: [x.split()[2] for x in watch.log().splitlines()
                                           if x.split()[1] == n] == s, 40, "the watch of " + name)
    info = json.loads(va_ok("info", STOPPED, "--json"))
    assert info["hostd"]["counts"]["silences"] == 1 and info["proxy"]["session"] == "up", info


suite.main()
