#!/usr/bin/python3
# time-limit: 900
# test_noisy_serial.py - a real guest's serial line that damages bytes: one in 10,000
# leaves more than half of the clean line's speed, one in 1,000 still works; every
# file is whole, every call has its answer.
#
# Each run prints its seed; VA_LINE_SEED replays one.
#
# SPDX-License-Identifier: MIT
import hashlib
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import Guest, Suite, http_request, tmpdir, wait_until, xmlrpc_proxy  # noqa: E402
from vatest.badline import BadLine, Dial, Listen  # noqa: E402
from vatest.host import Proxy  # noqa: E402

suite = Suite()
SEED = os.environ.get("VA_LINE_SEED") or str(random.SystemRandom().randrange(1 << 32))
SIZE = 400000           # bytes of a transfer: 40 faults at one in 10,000
DATA = random.Random(SEED).randbytes(SIZE)
state = {}


def guest():
    if "guest" not in state:
        g = state["guest"] = Guest(channels=("serial",), files={"/srv/data": DATA})
        suite.cleanups.append(g.close)
        suite.on_failure.append(g.report)
    return state["guest"]


class Noisy:
    """The guest's serial line with one byte in `one_in` spoilt, each way."""

    def __init__(self, one_in):
        mean = 3 * one_in
        path = os.path.join(tmpdir(), "line%d" % one_in)
        self.line = BadLine(SEED, Listen(path), Dial(guest().serial),
                            dict(flip=mean, drop=mean, insert=mean) if one_in else {})
        self.proxy = Proxy(path)
        suite.on_failure.append(self.line.report)
        suite.on_failure.append(self.proxy.process.log)

    def __enter__(self):
        self.proxy.wait_agent()
        return self

    def get(self):
        began = time.monotonic()
        status, _, body = http_request(self.proxy.rpc, "GET", "/file?path=/srv/data", timeout=300)
        took = time.monotonic() - began
        assert status == 200 and body == DATA, (status, len(body))
        return SIZE / took

    def put(self, size=SIZE):
        began = time.monotonic()
        status, _, _ = http_request(self.proxy.rpc, "PUT", "/file?path=/srv/put", DATA[:size],
                                    timeout=300)
        took = time.monotonic() - began
        assert status == 200, status
        got = xmlrpc_proxy(self.proxy.rpc, 60).guest.checksum("/srv/put")["sha256"]
        assert got == hashlib.sha256(DATA[:size]).hexdigest()
        return size / took

    def __exit__(self, *exc):
        self.proxy.close()
        self.line.close()
        # The next one's host end finds the guest without waiting for its own time.
        wait_until(lambda: not os.path.exists("/proc/%d" % self.proxy.process.pid), 5, "its end")


def speeds(one_in):
    with Noisy(one_in) as n:
        got, put = n.get(), n.put()
        print("# 1 in %s: get %.0f KB/s, put %.0f KB/s; %s"
              % (one_in or "none", got / 1e3, put / 1e3, dict(n.line.faults())))
        if one_in:
            assert n.line.faults()
        return got, put


@suite.case("one byte in 10,000 is spoilt: files whole, over half of the clean speed")
def _():
    clean = speeds(0)
    noisy = speeds(10000)
    print("# get %.0f %%, put %.0f %% of the clean line"
          % tuple(100 * n / c for n, c in zip(noisy, clean)))
    for n, c in zip(noisy, clean):
        assert n > c / 2, (clean, noisy)


@suite.case("one byte in 1,000 is spoilt: files whole, calls answered")
def _():
    with Noisy(1000) as n:
        got = http_request(n.proxy.rpc, "GET", "/file?path=/srv/data", timeout=300,
                           headers={"Range": "bytes=0-39999"})
        assert got[0] == 206 and got[2] == DATA[:40000], got[0]
        n.put(40000)
        for _ in range(10):
            assert xmlrpc_proxy(n.proxy.rpc, 60).guest.ping() == "pong"
        print("# %s" % dict(n.line.faults()))


suite.main()
