#!/usr/bin/python3
"""What a call and a megabyte cost: instructions, memory requests, bytes, writes.

Counts, not times: they are the same on a busy machine, so a change that makes a
ping dearer fails here and not in somebody's stopwatch.  The limits, each with
what it was when it was set, are in tests/integration/costs.  Who makes
something cheaper lowers its limit; who must make something dearer raises it in
the commit that says why.

SPDX-License-Identifier: MIT
"""
# alone: what waits for another program's turn acknowledges more often
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Process, Skip, Suite, need, program, run, sanitized, tmpdir
from vatest import callgrind
from vatest.counted import AgentServer, Counted, call, exchange, pings
from vatest.env import BUILD
from vatest.proxy import Pair
from vatest.wait import connect_unix

LIMITS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "costs")
PINGS = 50
# A figure is the least of up to so many times PINGS: a wait for this machine's other
# work costs an acknowledgement of its own.
TIMES = 16
MIB = 1 << 20
MALLOC = ("malloc", "calloc", "realloc")

suite = Suite()


def read_limits():
    limits = {}
    with open(LIMITS, encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                name, limit, _ = re.split(r"\s{2,}", line.strip(), maxsplit=2)
                limits[name] = float(limit)
    return limits


class Judge:
    """Holds figures against the limits; done() fails for all that are over."""

    limits = read_limits()

    def __init__(self):
        self.over = []

    def __call__(self, name, value):
        limit = self.limits[name]
        print("# %-48s %9.1f  limit %9.1f" % (name, value, limit))
        if value > limit:
            self.over.append("%s: %.1f, limit %.1f (%s)" % (
                name, value, limit, os.path.relpath(LIMITS, os.path.dirname(LIMITS) + "/../..")))

    def least(self, measure, times=TIMES):
        """Judges the least of each of measure()'s figures, a dict, of up to so many
        times: of no more when all hold."""
        best = {}
        for _ in range(times):
            for name, value in measure().items():
                best[name] = min(value, best.get(name, value))
            if all(value <= self.limits[name] for name, value in best.items()):
                break
        for name, value in best.items():
            self(name, value)

    def done(self):
        assert not self.over, "dearer than it may be:\n" + "\n".join(self.over)


def need_plain_build():
    """The limits are of gcc at -O2."""
    with open(os.path.join(BUILD, "config.h"), encoding="utf-8") as f:
        built = re.search(r'VA_BUILD_SUMMARY "(.*)"', f.read()).group(1)
    if sanitized() or "coverage yes" in built or "gcc" not in built.split(";")[0]:
        raise Skip("a plain build with gcc is missing (%s)" % built)


counted = None


def get_counted():
    global counted
    need("valgrind", "callgrind_control")
    need_plain_build()
    if not counted:
        counted = Counted()
        suite.cleanups.append(counted.close)
        for end in (counted.guest, counted.host):
            end.wait_session(True, 60)
        pings(counted.rpc, 20)
    return counted


@suite.case("a ping costs no more instructions and memory requests than it did")
def _():
    c, judge = get_counted(), Judge()
    with connect_unix(c.rpc, timeout=60) as s:
        for _ in range(20):
            exchange(s, call(b"guest.ping"))

        def measure():
            callgrind.reset(*c.all().values())
            for _ in range(PINGS):
                exchange(s, call(b"guest.ping"))
            counts = {who: callgrind.counts(p) for who, p in c.all().items()}
            got = {}
            for who, n in counts.items():
                assert n.own > PINGS, (who, n.objects)
                got["ping, %s, own instructions" % who] = n.own / PINGS
                got["ping, %s, calls of malloc" % who] = n.calls(*MALLOC) / PINGS
            got["ping, server, instructions in XML libraries"] = counts["server"].libraries(
                "libxml2", "libxmlrpc", "libxmlrpc_util", "libxmlrpc_xmlparse",
                "libxmlrpc_xmltok") / PINGS
            return got
        judge.least(measure)
    judge.done()


@suite.case("a call with parameters costs no more than it did")
def _():
    c, judge = get_counted(), Judge()
    path = os.path.join(tmpdir(), "small")
    with open(path, "wb") as f:
        f.write(b"x" * 4096)
    request = call(b"guest.getfile", b"<param><value><string>%s</string></value></param>\n"
                   % path.encode())
    with connect_unix(c.rpc, timeout=60) as s:
        for _ in range(5):
            exchange(s, request)

        def measure():
            callgrind.reset(c.server.process)
            for _ in range(PINGS):
                exchange(s, request)
            n = callgrind.counts(c.server.process)
            return {"getfile of 4 KiB, server, own instructions": n.own / PINGS,
                    "getfile of 4 KiB, server, calls of malloc": n.calls(*MALLOC) / PINGS}
        judge.least(measure)
    judge.done()


@suite.case("a megabyte costs no more instructions than it did")
def _():
    c, judge = get_counted(), Judge()
    big = 16
    for n in (1, 1 + big):
        with open(os.path.join(tmpdir(), "f%d" % n), "wb") as f:
            f.write(os.urandom(MIB) * n)

    def get(n):
        """The client's counts."""
        at = os.path.join(tmpdir(), "got")
        counts = callgrind.whole_run(
            [program("va-client"), "-G", "unix:" + c.rpc, "get", "-q",
             os.path.join(tmpdir(), "f%d" % n), at], seconds=120)
        assert os.stat(at).st_size == n * MIB
        os.unlink(at)
        return counts

    def measure():
        client = {1: get(1)}
        callgrind.reset(*c.all().values())
        client[1 + big] = get(1 + big)
        got = {"MiB of get, %s, own instructions" % who: callgrind.counts(p).own / (1 + big)
               for who, p in c.all().items()}
        got["MiB of get, client, own instructions"] = (client[1 + big].own - client[1].own) / big
        got["get of 1 MiB, client, own instructions"] = client[1].own
        return got
    judge.least(measure, 4)
    judge.done()


def wire_costs(judge, kind):
    """Bytes on the wire and writes, by virtproxy's counters and the kernel's."""
    server = AgentServer("wire." + kind, lambda *argv, **kw: Process(argv, **kw))
    try:
        with Pair(kind, outs=["virtagent"], ins={"virtagent": server.path}) as pair:
            pings(pair.out["virtagent"], 5)
            with connect_unix(pair.out["virtagent"], timeout=60) as s:
                for _ in range(20):
                    exchange(s, call(b"guest.ping"))

                def measure():
                    before = {e: sent_by(p) for e, p in pair.ends.items()}
                    for _ in range(PINGS):
                        exchange(s, call(b"guest.ping"))
                    got = {}
                    for end, p in pair.ends.items():
                        costs = [(a - b) / PINGS for a, b in zip(sent_by(p), before[end])]
                        assert costs[0] > 8, costs
                        for what, cost in zip(("bytes on the wire", "writes"), costs):
                            got["ping, %s, %s, %s" % (kind, end, what)] = cost
                    return got
                judge.least(measure)
    finally:
        server.close()


def sent_by(p):
    """Bytes, and write() and writev(), which only the channel is written with (a
    socket, the counters' reader too, by send())."""
    sent = p.status()["bytes-out"]
    with open("/proc/%d/io" % p.pid) as f:
        return sent, int(re.search(r"syscw: (\d+)", f.read()).group(1))


@suite.case("a ping costs no more bytes and writes on a socket than it did")
def _():
    judge = Judge()
    wire_costs(judge, "unix")
    judge.done()


@suite.case("a method is looked up without fetching the whole table of methods")
def _():
    judge = Judge()
    server = AgentServer("lookup", lambda *argv, **kw: Process(argv, **kw))
    try:
        with Pair("unix", outs=["virtagent"], ins={"virtagent": server.path}) as pair:
            for what, arg in (("stat", "/"), ("mkdir", os.path.join(tmpdir(), "made"))):
                before = pair.guest.status()["bytes-out"]
                run([program("va-client"), "-G", "unix:" + pair.out["virtagent"], "call",
                     "guest." + what, arg], check=True)
                judge("va-client call guest.%s, bytes from the guest" % what,
                      pair.guest.status()["bytes-out"] - before)
    finally:
        server.close()
    judge.done()


@suite.case("a ping costs no more bytes and writes on a serial line than it did")
def _():
    judge = Judge()
    wire_costs(judge, "pty")
    judge.done()


@suite.case("a limit that is passed is reported with figure and limit")
def _():
    judge = Judge()
    judge.limits = {"a thing": 10.0}
    judge("a thing", 10.0)
    judge.done()
    judge("a thing", 10.5)
    try:
        judge.done()
    except AssertionError as e:
        assert "a thing: 10.5, limit 10.0" in str(e), e
    else:
        raise AssertionError("a figure over its limit passed")


suite.main()
