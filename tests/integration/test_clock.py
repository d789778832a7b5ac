#!/usr/bin/python3
# test_clock.py - the date is set on and back by ten years, on va-hostd, its virtproxy and
# an agent, while calls, programs, keys and events are under way: nothing ends early or
# late, events stay in their order, the session lives on.  (A guest's own date:
# tests/system/test_agent_guest.py.)
#
# SPDX-License-Identifier: MIT
import os
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Skip, Suite, run, scale, tmpdir, wait_until
from vatest.env import SRC, program, sanitized
from vatest.hostd import Hostd, need_hostd
from vatest.proc import Process
from vatest.proxy import Ctl
from vatest.tap import need, need_all

need_hostd()
need_all("cc")
need(program("va-agent"))
if sanitized():
    raise Skip("a sanitizer wants to be loaded first")

YEARS = 10 * 365 * 86400
suite = Suite()
clock = os.path.join(tmpdir(), "clock")
shim = os.path.join(tmpdir(), "clockshim.so")
run(["cc", "-std=gnu11", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", shim,
     os.path.join(SRC, "tests/lib/clockshim.c"), "-ldl"], check=True)


def set_clock(seconds):
    with open(clock, "r+b" if os.path.exists(clock) else "wb") as f:
        f.write(struct.pack("=q", seconds))


set_clock(0)
ENV = {"LD_PRELOAD": shim, "VA_CLOCK_FILE": clock}
WRAP = ["env"] + ["%s=%s" % kv for kv in ENV.items()]
channel = os.path.join(tmpdir(), "c")
agent_dir = os.path.join(tmpdir(), "agent")
os.mkdir(agent_dir, 0o700)
agent = Process([program("va-agent"), "-c", "unix-listen:%s:-" % channel],
                env=dict(ENV, VA_RUNTIME_DIR=agent_dir, VA_STATE_DIR=agent_dir,
                         VA_CONF_DIR=agent_dir))
hostd = Hostd(["vm=unix-connect:%s:-" % channel], wrap=WRAP)
suite.cleanups += [hostd.close, agent.kill]
suite.on_failure.append(lambda: hostd.tail()[-3000:] + "\nagent:\n" + agent.log()[-3000:])


def client(*args, where=None, seconds=30):
    """va-client with the same clock; (status, seconds, stdout)."""
    began = time.monotonic()
    r = run([program("va-client"), *args], seconds=seconds,
            env=dict(ENV, VA_RUNTIME_DIR=where or hostd.runtime))
    return r.returncode, time.monotonic() - began, r.stdout


def status():
    c = Ctl(os.path.join(hostd.guest_dir("vm"), "ctl.sock"))
    try:
        return dict(line.split(" ", 1) for line in c.command("status").splitlines() if " " in line)
    finally:
        c.close()


@suite.case("all of them go by the clock that is set")
def _():
    hostd.wait_state("vm", "connected")
    for pid in [hostd.process.pid, hostd.facts("vm")["pid"], agent.pid, *agent.children()]:
        with open("/proc/%d/maps" % pid) as f:
            assert "clockshim.so" in f.read(), pid
    before = hostd.rpc().host.time()
    set_clock(YEARS)
    after = hostd.rpc().host.time()
    assert str(after) != str(before), (before, after)
    set_clock(0)


# What is under way when the clock is set: name, seconds it must take, exit status, command.
WAITS = (
    ("a call's deadline", 3, 124, ("-G", "vm", "-t", "3", "call", "guest.exec.run",
                                   'json:["sleep","60"]')),
    ("a program's time limit", 3, None, ("-G", "vm", "-t", "30", "call", "guest.exec.run",
                                         'json:["sleep","60"]', 'json:{"timeout":3}')),
    ("a program", 3, 0, ("-G", "vm", "exec", "--", "sleep", "3")),
    ("a wait for a key", 3, 124, ("-t", "3", "kv", "wait", "vm", "user.never")),
)


def during(jumps):
    """Sets the clock while all of WAITS run and the guest sends events."""
    found, sent, over = {}, [], threading.Event()

    def wait(name, args):
        found[name] = client(*args)

    def send():
        while not over.is_set():
            n = len(sent)
            code, _took, _ = client("-t", "20", "event", "send", "number", '{"n": %d}' % n,
                                    where=agent_dir)
            if code == 0:
                sent.append(n)
    threads = [threading.Thread(target=wait, args=(name, args)) for name, _, _, args in WAITS]
    sender = threading.Thread(target=send)
    for t in [*threads, sender]:
        t.start()
    for jump in jumps:
        time.sleep(0.6)
        set_clock(jump)
        began = time.monotonic()
        assert hostd.guest_rpc("vm").guest.ping() == "pong"
        assert time.monotonic() - began < 2 * scale()
    for t in threads:
        t.join()
    over.set()
    sender.join()
    for name, seconds, want, _args in WAITS:
        code, took, out = found[name]
        assert want in (None, code), (name, code, out)
        assert seconds - 0.1 <= took < seconds + 3 * scale(), "%s took %.1f s" % (name, took)
        print("# %s: %.2f s" % (name, took))
    return sent


def numbers(since):
    return [e["data"]["n"] for e in hostd.events(since) if e["event"] == "number"]


for title, jumps in (("on by ten years", (YEARS,)), ("back by twenty", (-YEARS,)),
                     ("to and fro", (YEARS, 0, -YEARS, 0))):
    @suite.case("set %s: deadlines, limits, waits and events do not notice" % title)
    def _(jumps=jumps):
        before, last = status(), hostd.events()[-1]["seq"]
        sent = during(jumps)
        assert len(sent) >= 3, sent
        wait_until(lambda: len(numbers(last)) >= len(sent), 10, "the events")
        assert numbers(last) == sent, (numbers(last), sent)
        seqs = [e["seq"] for e in hostd.events(last)]
        assert seqs == sorted(set(seqs)), seqs
        bad = [e for e in hostd.events(last) if e["event"] in
               ("agent-down", "guest-lost", "guest-silent", "proxy-died")]
        assert not bad, bad
        after = status()
        assert after["sessions"] == before["sessions"], (before, after)
        assert after["reattaches"] == before["reattaches"], (before, after)


@suite.case("a kept result, a key and a push live through it")
def _():
    code, _, out = client("-G", "vm", "exec", "--detach", "--", "sh", "-c", "sleep 1; echo kept")
    assert code == 0, out
    set_clock(YEARS)
    assert client("kv", "set", "vm", "user.a=1")[0] == 0
    wait_until(lambda: client("kv", "get", "user.a", where=agent_dir)[2].strip() == "1", 10,
               "the key in the guest")
    set_clock(-YEARS)
    wait_until(lambda: "kept" in client("-G", "vm", "attach", out.strip())[2], 10,
               "the job's output")
    assert client("kv", "set", "vm", "user.a=2")[0] == 0
    wait_until(lambda: client("kv", "get", "user.a", where=agent_dir)[2].strip() == "2", 10,
               "the key in the guest")
    set_clock(0)


suite.main()
