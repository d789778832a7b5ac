#!/usr/bin/python3
# test_agent_events.py - events of an agent whose host is away: not one try without a
# session, and all sent at once when there is one.
#
# SPDX-License-Identifier: MIT
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import (Process, Suite, need_all, program, run, scale, tmpdir,  # noqa: E402
                    wait_listening, wait_until)
from vatest.hostd import Hostd, need_hostd  # noqa: E402

need_hostd()
need_all(program("va-agent"), program("va-client"))
suite = Suite()
agent_dir = os.path.join(tmpdir(), "agent")
os.mkdir(agent_dir, 0o700)
channel = os.path.join(tmpdir(), "channel")
hostd = Hostd(["web=unix-connect:%s:-" % channel], start=False)
suite.cleanups.append(hostd.close)
agent = Process([program("va-agent"), "-c", "unix-listen:%s:-" % channel, "-l", "stderr"],
                env={"VA_RUNTIME_DIR": agent_dir})
suite.cleanups.append(agent.stop)
suite.on_failure += [lambda: agent.log()[-4000:], hostd.tail]
REFUSED = "a client of virtagent-host was closed at once"


def send(name):
    run([program("va-client"), "event", "send", name],
        env={"VA_RUNTIME_DIR": agent_dir, "VA_GUEST": ""}, check=True)


@suite.case("without a session the host is not tried")
def _():
    wait_listening(os.path.join(agent_dir, "agent.sock"))
    send("meanwhile")
    send("and-another")
    time.sleep(4)               # it tried after 0, 1 and 3 seconds
    # Once, at its start, it asks whether the host has its keys.
    assert agent.log().count(REFUSED) <= 1, agent.log()[-2000:]


@suite.case("with a session they are there at once, in order, and once")
def _():
    hostd.start()
    hostd.wait_state("web", "connected", 30)
    up = time.monotonic()
    wait_until(lambda: [e["event"] for e in hostd.events() if e["event"] in
                        ("meanwhile", "and-another")], 20, "the events")
    took = time.monotonic() - up
    assert took < 1 * scale(), took
    time.sleep(0.2)
    assert [e["event"] for e in hostd.events() if e["event"] in ("meanwhile", "and-another")] \
        == ["meanwhile", "and-another"]


suite.main()
