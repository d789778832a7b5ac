#!/usr/bin/python3
"""More than 200 guests: their idle links rest long, and nobody notices.

Real va-hostd and virtproxies, simulated guests.  The link's own part is in
tests/unit/test-vp-link.c.

time-limit: 330

SPDX-License-Identifier: MIT
"""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Suite, scale, wait_until
from vatest.fleet import Fleet

suite = Suite()
GUESTS = 201
LOOK = 32               # seconds: two beacons of long rest
fleet = Fleet(GUESTS, suite)


def states():
    return {g["name"]: g["state"] for g in fleet.hostd.rpc(60).host.guests()}


def beacons_of_a_look():
    """Of ten guests, while the state of all is looked at each second."""
    before, seen = fleet.beacons(), set()
    end = time.monotonic() + LOOK
    while time.monotonic() < end:
        seen |= set(states().values())
        time.sleep(1)           # between two looks; what is waited for is that nothing happens
    return [b - a for (_, a), (_, b) in zip(before, fleet.beacons())], seen


@suite.case("va-hostd tells the virtproxies that they are many")
def _():
    print("# all served after %.1f s" % fleet.storm(60))
    for pid in fleet.pids:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            assert b"--long-rest" in f.read().split(b"\0")


@suite.case("idle links come to a beacon in 16 seconds; the guests stay connected")
def _():
    began = time.monotonic()
    went, seen = wait_until(lambda: [x for x in [beacons_of_a_look()] if max(x[0]) <= 3],
                            180, "all to be at long rest")[0]
    print("# %.0f s; beacons in %d s: %s" % (time.monotonic() - began, LOOK, went))
    assert min(went) >= 1 and seen == {"connected"}, (went, seen)


@suite.case("a link at rest is as fast as any")
def _():
    began = time.monotonic()
    fleet.hostd.rpc(30).host.kv.set("g1", {"user.rest": "wake up"},
                                    {"sync": True, "timeout": 20})
    took = time.monotonic() - began
    print("# %.3f s" % took)
    assert took < 2 * scale(), took     # far from a beacon of rest


@suite.case("guests that hang are silent in time, and are heard again")
def _():
    os.kill(fleet.sim.pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        wait_until(lambda: states()["g2"] == "silent", 40, "g2 to be silent", 0.2)
        took = time.monotonic() - began
    finally:
        os.kill(fleet.sim.pid, signal.SIGCONT)
    print("# silent after %.1f s" % took)
    assert took < 20 * scale() + 2, took
    fleet.known(60)
    kinds = [e["event"] for e in fleet.hostd.events() if e["guest"] == "g2"]
    assert kinds.count("guest-silent") == kinds.count("guest-heard") == 1, kinds
    assert "agent-down" not in kinds, kinds


suite.main()
