#!/usr/bin/python3
# test_docs_conf.py - virtagent.conf(5) and the programs know the same keys; what the
# page says of each limit, its default and its bounds, is what the program keeps to
#
# SPDX-License-Identifier: MIT
import os
import re
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import SRC, Suite, need_all, program, wait_until  # noqa: E402
from vatest.agent import NativeAgent  # noqa: E402
from vatest.hostd import Hostd, need_hostd  # noqa: E402

need_hostd()
need_all(program("va-agent"))
suite = Suite()


def text(path):
    with open(os.path.join(SRC, path), encoding="utf-8") as f:
        return f.read()


PAGE = re.sub(r"\\f.", "", text("virtagent/virtagent.conf.5")).replace("\\-", "-")
HOST, AGENT = PAGE.split("\n.SH GUEST:")
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def entries(page):
    """{key: its paragraph} of the page's .TP entries."""
    found = {}
    for part in re.split(r"^\.(?:TP|SS|SH|PP).*\n", page, flags=re.M):
        head, _, body = part.partition("\n")
        for key in re.findall(r'(?:^\.BI |, \\?f?P?"? ?|^\.BR ")"?([a-z][a-z-]*)(?= ?" ?= | = )', head):
            found[key] = body.replace("\n", " ")
    return found


def bounds(paragraph):
    """(default, least, most) as the paragraph says."""
    def one(word, otherwise=None):
        m = re.search(word + r" (\d+)([KMG]?)\b", paragraph)
        return int(m.group(1)) * UNITS[m.group(2)] if m else otherwise
    return one("default"), one("at least", 1), one("at most")


def rows(path, pattern):
    found = re.findall(pattern, text(path), re.M)
    assert len(found) > 2, path
    return set(found)


LIMITS = rows("virtagent/agent_limits.c", r'^\t\{ "([a-z-]+)", offsetof')
GUEST_LIMITS = {k for k in rows("virtagent/hostd_conf_keys.c", r'^\t\{ "hostd", "([a-z-]+)", set_')
                if k.startswith("guest-")}


@suite.case("each key of the tables has its entry, and each entry is a key")
def _():
    host = rows("virtagent/hostd_conf_keys.c", r'^\t\{ "[a-z]+", "([a-z-]+)", set_')
    agent = rows("virtagent/agent_conf.c", r'^\t\{ "([a-z-]+)", (?:offsetof|0)') | LIMITS
    policy = {"profile", "allow", "block", "connect", "path", "path-block", "exec-user"}
    for key in host | policy - {"path", "path-block", "exec-user"}:
        assert key in entries(HOST), "hostd.conf's %s has no entry" % key
    assert set(entries(HOST)) <= host | policy, set(entries(HOST)) - host - policy
    other = re.sub(r"\\f.", "", text("virtagent/va-agent.8")).replace("\\-", "-")
    for key in agent:
        assert key in entries(AGENT) or re.search(r"^\.BR .*\b%s\b" % key, other, re.M), \
            "agent.conf's %s has no entry" % key
    assert set(entries(AGENT)) <= agent, set(entries(AGENT)) - agent
    for key in LIMITS:
        default, least, most = bounds(entries(AGENT)[key])
        assert default and most and least <= default <= most, (key, default, least, most)
    for key in GUEST_LIMITS:
        default, least, most = bounds(entries(HOST)[key])
        assert default and most and least <= default <= most, (key, default, least, most)


class Program:
    """A daemon that reads its configuration again, and tells whether it took it."""

    def __init__(self, process, write, section, taken, refused):
        self.process, self.write, self.section = process, write, section
        self.taken, self.refused = taken, refused

    def answer(self, **keys):
        before = [self.process.log().count(w) for w in (self.taken, self.refused)]
        self.write("[%s]\n%s" % (self.section, "".join(
            "%s = %s\n" % (k.replace("_", "-"), v) for k, v in keys.items())))
        self.process.signal(signal.SIGHUP)

        def look():
            log = self.process.log()
            if log.count(self.taken) > before[0]:
                return "taken"
            if log.count(self.refused) > before[1]:
                return [x for x in log.splitlines() if self.refused in x][-1]
            return None
        return wait_until(look, 10, "the configuration to be read")

    def check(self, key, paragraph):
        _, least, most = bounds(paragraph)
        for value in (least, most):
            assert self.answer(**{key: value}) == "taken", (key, value)
        for value in (least - 1, most + 1, "many", "-1", "1.5"):
            got = self.answer(**{key: value})
            assert "conf:2: %s = %s: needs a number" % (key, value) in got, (key, value, got)
            assert got.count("from %d to %d" % (least, most)), (key, value, got)


@suite.case("agent.conf: each limit is what the page says, and guest.capabilities tells it")
def _():
    agent = NativeAgent()
    hostd = Hostd(["g=" + agent.channel])
    suite.cleanups += [agent.stop, hostd.close]
    hostd.wait_state("g", "connected")
    names = {"output": "output_bytes", "event-queue": "event_queue_bytes",
             "stream-buffer": "stream_buffer_bytes"}

    def told():
        got = hostd.guest_rpc("g").guest.capabilities()["limits"]
        return {k: got[names.get(k, k.replace("-", "_"))] for k in LIMITS}
    assert told() == {k: bounds(entries(AGENT)[k])[0] for k in LIMITS}, told()
    p = Program(agent, agent.write_conf, "agent", "policy was read anew",
                "the policy stays as it was")
    for key in sorted(LIMITS):
        p.check(key, entries(AGENT)[key])
    assert p.answer(**{k: bounds(entries(AGENT)[k])[2] for k in LIMITS}) == "taken"
    assert told() == {k: bounds(entries(AGENT)[k])[2] for k in LIMITS}, told()
    assert p.answer(output="3M") == "taken" and told()["output"] == 3 << 20


@suite.case("hostd.conf: each limit of a guest is what the page says")
def _():
    with Hostd() as hostd:
        paragraph = entries(HOST)["guest-events"]
        assert hostd.rpc().host.capabilities()["limits"]["events_per_second"] == \
            bounds(paragraph)[0]
        p = Program(hostd.process, hostd.write_conf, "hostd", "configuration read again",
                    "the configuration stays as it was")
        for key in sorted(GUEST_LIMITS):
            p.check(key, entries(HOST)[key])
        assert p.answer(guest_events=7) == "taken"
        assert hostd.rpc().host.capabilities()["limits"]["events_per_second"] == 7


suite.main()
