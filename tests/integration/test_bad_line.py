#!/usr/bin/python3
"""Two virtproxies over a line that damages, loses, repeats, echoes, stalls and
cuts: every stream is whole or visibly ended, and a line that spoils one byte in
10,000 keeps half of its speed.

Each case prints its seed; VA_LINE_SEED replays one.

SPDX-License-Identifier: MIT
"""
import hashlib
import os
import random
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Suite, scale
from vatest.badline import Way
from vatest.proxy import Pair, Server, echo, read_all

suite = Suite()
SEED = os.environ.get("VA_LINE_SEED") or str(random.SystemRandom().randrange(1 << 32))
RATE = 250000           # bytes a second: about an isa-serial line's


def send(s, data):
    try:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def through(pair, data):
    """Through the echo there and back; what came back."""
    with pair.connect("e") as s:
        t = threading.Thread(target=send, args=(s, data))
        t.start()
        got = read_all(s)
        t.join()
        return got


def run(kind, size, streams=4, **line):
    """Streams there and back at once, all exact."""
    server = Server(echo)
    with Pair(kind, outs=["e"], ins={"e": server.path}, line=dict(line, seed=SEED)) as p:
        results = {}

        def one(i):
            data = random.Random("%s/%d" % (SEED, i)).randbytes(size)
            results[i] = through(p, data) == data
        threads = [threading.Thread(target=one, args=(i,)) for i in range(streams)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        status = {n: e.status() for n, e in p.ends.items()}
        assert results == dict.fromkeys(range(streams), True), (
            results, p.line.report(), status, p.host.log(), p.guest.log())
        for st in status.values():
            assert st["rollbacks"] == 0 and st["streams-reset"] == 0, (st, p.line.report())
        print("# %s" % p.line.report())
        found = p.line.faults(), status
    server.close()
    assert not server.errors, server.errors
    return found


@suite.case("a seed replays: the same faults at the same bytes, however reads fall")
def _():
    data = random.Random(1).randbytes(200000)
    mix = {"flip": 3000, "drop": 3000, "insert": 3000, "text": 9000, "dup": 9000, "cut": 50000,
           "burst": 9000}
    seen = []
    for cut in (1 << 20, 1, 777):
        log = []
        w = Way("seed", "ab", mix, log)
        w.back = w
        for i in range(0, len(data), cut):
            w.feed(data[i:i + cut])
        seen.append((log, hashlib.sha256(b"".join(d for _, d in w.out)).hexdigest()))
    assert seen[0] == seen[1] == seen[2], [len(x[0]) for x in seen]
    assert len(seen[0][0]) > 150
    other = []
    Way("other", "ab", mix, other).feed(data)
    assert other != seen[0][0]


@suite.case("each fault does what it says and no more, also where two strike at one byte")
def _():
    data, log = random.Random(1).randbytes(100000), []
    w = Way("sum", "ab", {"flip": 20, "drop": 20, "insert": 20, "text": 200}, log)
    w.feed(data)
    assert w.taken == len(data) and len(log) > 10000, (w.taken, len(log))
    more = {"flip": lambda what: 0, "drop": lambda what: -1, "insert": lambda what: 1, "text": len}
    assert w.held == len(data) + sum(more[kind](what) for _, _, kind, what in log), w.held


def rate_of(size, **faults):
    """Bytes a second of one transfer to the guest's end, by the receiver's clock."""
    took, data = [], random.Random(SEED).randbytes(size)

    def sink(conn):
        began = time.monotonic()
        good = read_all(conn) == data
        took.append(time.monotonic() - began)
        conn.sendall(b"good" if good else b"bad")

    server = Server(sink)
    with Pair("pty", outs=["s"], ins={"s": server.path},
              line=dict(seed=SEED, faults=dict(faults, rate=RATE))) as p:
        with p.connect("s") as s:
            send(s, data)
            assert read_all(s) == b"good", p.line.report()
        if faults:
            assert p.host.status()["retransmits"] > 0, p.line.report()
        print("# %s" % p.line.report())
    server.close()
    return size / took[0]


@suite.case("one byte in 10,000 flipped, lost or inserted leaves over half of the line's speed")
def _():
    clean = rate_of(400000)
    noisy = rate_of(400000, flip=30000, drop=30000, insert=30000)
    print("# clean %.0f KB/s, noisy %.0f KB/s: %.0f %%"
          % (clean / 1e3, noisy / 1e3, 100 * noisy / clean))
    assert noisy > clean / 2, (noisy, clean)


@suite.case("one byte in 1,000 flipped, lost or inserted: it still completes")
def _():
    run("pty", 10000, 3, faults=dict(flip=3000, drop=3000, insert=3000))


for name, kind, size, faults in (
        ("a console's text", "pty", 60000, dict(text=8000)),
        ("bytes lost in a row, blocks that come twice", "pty", 60000,
         dict(burst=30000, dup=20000)),
        ("echoes", "pty", 60000, dict(echo=4000)),
        ("stalls", "pty", 60000, dict(stall=50000)),
        ("slices of 1 to 3 bytes, 5 ms late", "pty", 30000, dict(slice=3, delay=0.005)),
        ("slices of 1 to 3 bytes", "unix", 200000, dict(slice=3)),
        ("cuts", "unix", 1000000, dict(cut=700000)),
        ("cuts, stalls and a late line", "unix", 500000, dict(cut=700000, stall=500000,
                                                            delay=0.01)),
        ("everything", "pty", 20000, dict(flip=20000, drop=20000, insert=20000, text=20000,
                                          burst=40000, dup=40000, echo=40000, stall=40000,
                                          delay=0.001, slice=600))):
    @suite.case("%s over %s: every stream whole" % (name, kind))
    def _(kind=kind, size=size, faults=faults):
        seen, _status = run(kind, size, faults=faults)
        for fault in set(faults) - {"slice", "delay"}:
            assert seen[fault] or fault == "cut" and size < 1000000, (fault, seen)


@suite.case("what a side said since a mark comes again: nothing of it counts twice")
def _():
    server = Server(echo)
    with Pair("unix", outs=["e"], ins={"e": server.path}, line=dict(seed=SEED)) as p:
        assert through(p, b"before") == b"before"
        for way in (p.line.ba, p.line.ab):
            p.line.mark(way)
            data = random.Random(SEED).randbytes(100000)
            with p.connect("e") as s:
                s.sendall(data)
                got = b""
                while len(got) < len(data):
                    got += s.recv(1 << 16)
                assert got == data
                p.line.replay(way)
                # A repeat is no rollback: the stream goes on where it was.
                s.sendall(b"after")
                s.settimeout(20 * scale())
                assert s.recv(100) == b"after"
        for end in p.ends.values():
            st = end.status()
            assert st["rollbacks"] == 0 and st["sessions"] == 1, st
    server.close()


@suite.case("nobody behind the line: its client is let go, as by QEMU's parked socket")
def _():
    with Pair("unix", outs=["e"], ins={}, line=dict(seed=SEED)) as p:
        p.guest.kill()
        p.host.wait_status("channel", "closed")
        p.start("guest")
        p.wait_session(30)


suite.main()
