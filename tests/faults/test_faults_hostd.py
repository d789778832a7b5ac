#!/usr/bin/python3
# time-limit: 7200
# test_faults_hostd.py - va-hostd killed, stopped and started anew under load: the guests'
# links, calls and streams from the host do not notice; calls of the guests that it served
# end in a named outcome; events and keys lose nothing.
# What must hold after each is in tests/lib/vatest/faults.py.
#
# SPDX-License-Identifier: MIT
import os
import signal
import time

from vatest import tmpdir, wait_listening, wait_until
from vatest.faults import Link, Rig, STOP, usage_of
from vatest.host import Proxy
from vatest.hostd import Hostd, need_hostd
from vatest.load import RUNTIME

need_hostd()


class Counted:
    """What the guest's calls executed: each is a line of a file."""
    streams = False

    def __init__(self, path):
        self.path, self.wrong, self.complete, self.bytes = path, [], 0, 0

    @property
    def calls(self):
        found = {}
        with open(self.path, encoding="utf-8") as f:
            for line in f.read().split():
                found[line] = found.get(line, 0) + 1
        return found


class Virtproxy:
    """The virtproxy that va-hostd keeps for a guest, as far as the rig looks at it."""

    def __init__(self, name):
        self.name = name

    pid = property(lambda self: hostd.facts(self.name)["pid"])

    @staticmethod
    def log():
        return hostd.tail()

    def check_alive(self):
        pass                            # va-hostd sees to that


class Managed(Proxy):
    def __init__(self, name):
        self.dir, self.name = hostd.guest_dir(name), name
        self.rpc = os.path.join(self.dir, "rpc.sock")
        self.process = Virtproxy(name)

    def close(self):
        pass


class HostdLink(Link):
    def _attach(self, channel):
        self.echo = Counted(os.path.join(tmpdir(), "counted-" + self.kind))
        with open(self.echo.path, "w", encoding="utf-8"):
            pass
        self.proxy = Managed(self.kind)
        self.events_seen, self.key = 0, 0

    def ping(self, timeout=2.0):
        """Both ways: the guest answers, and va-hostd knows it."""
        try:
            return super().ping(timeout) and hostd.facts(self.kind)["state"] == "connected"
        except Exception:               # no service, in one of many ways
            return False

    def usage(self):
        return dict(super().usage(), **{"va-hostd": usage_of(hostd.process.pid)})


class HostdRig(Rig):
    link = HostdLink
    guest_load_options = {"call": "host.command.run count json:'[\"'%s'\"]'", "streams": False}

    def before_links(self):
        hostd.args = [w for k in self.kinds
                      for w in ("--guest", "%s=unix-connect:%s:-" % (k, getattr(self.guest, k)))]
        hostd.start()
        self.suite.cleanups.append(hostd.close)
        self.suite.on_failure.append(hostd.tail)
        for k in self.kinds:
            wait_until(lambda k=k: hostd.facts(k)["state"] == "connected", 60, "guest " + k)
            wait_listening(os.path.join(hostd.guest_dir(k), "rpc.sock"))


commands = os.path.join(tmpdir(), "commands")
os.mkdir(commands, 0o755)
with open(os.path.join(commands, "count"), "w", encoding="utf-8") as script:
    script.write("#!/bin/sh\necho $1 >>%s/counted-$VA_GUEST\nsleep 0.3\n" % tmpdir())
os.chmod(script.name, 0o755)
hostd = Hostd(conf="[hostd]\ncommands = %s\n" % commands, start=False)

# Beside the load, the guest tells numbers as events, all the while.
EVENTS = "".join("""(n=0; while :; do
	n=$((n + 1))
	VA_RUNTIME_DIR=%s va-client -t 30 event send number "{\\"n\\": $n}" >/dev/null 2>>/run/event-errors \\
		&& echo $n >>/run/events-%s
	usleep 3000000
done) &
""" % (RUNTIME[k], k) for k in ("virtio", "serial"))
rig = HostdRig(boot=EVENTS)


def away(links, how, seconds):
    """va-hostd is away meanwhile; what it must not cost, and what must come after."""
    cut = {k: [p.cut for p in link.parts] for k, link in links.items()}
    pids = {k: hostd.facts(k)["pid"] for k in links}
    how()
    time.sleep(seconds)
    for k, link in links.items():
        for part, n in zip(link.parts, cut[k]):
            if part.cut > n:
                rig.problem(k, "lost", "%s was cut" % type(part).__name__)
        if not Link.ping(link):
            rig.problem(k, "hung", "the guest is not served without va-hostd")
    return pids


def back(links, pids):
    """The same virtproxies; every event that the guest was told is kept is there once,
    in order; a key set now reaches the guest."""
    for k, link in links.items():
        if hostd.facts(k)["pid"] != pids[k]:
            rig.problem(k, "other", "the virtproxy is another one")
        link.key += 1
        hostd.rpc().host.kv.set(k, {"user.n": str(link.key)})
    for k, link in links.items():
        def key(k=k):
            return rig.guest.sh("cat %s/kv/user.n 2>/dev/null; true" % RUNTIME[k]).strip()
        try:
            wait_until(lambda k=k, link=link: key(k) == str(link.key), 10, "the key", 0.1)
        except Exception as e:
            rig.problem(k, "lost", "%s: a key set to %d is %s in the guest" % (e, link.key, key(k)))
        told = [int(n) for n in rig.guest.sh("cat /run/events-%s; true" % k).split()]

        def missing(k=k, told=told):
            got = [e["data"]["n"] for e in hostd.events(0, k) if e["event"] == "number"]
            if got != sorted(set(got)):
                return "twice or out of order: %s" % got
            return [n for n in told if n not in got]
        try:
            wait_until(lambda: not missing(), 30, "the events", 0.3)
        except Exception:
            rig.problem(k, "lost", "events are missing: %s" % missing())


@rig.row("va-hostd killed", "kill -9, started again after 1 s; virtproxies live on")
def _(links, _n):
    pids = away(links, hostd.process.kill, 1)
    rig.after = lambda: back(links, pids)
    over = time.monotonic()
    hostd.start()
    return over


@rig.row("va-hostd stopped", "SIGSTOP for %d s, SIGCONT" % STOP)
def _(links, _n):
    pids = away(links, lambda: hostd.process.signal(signal.SIGSTOP), STOP)
    rig.after = lambda: back(links, pids)
    hostd.process.signal(signal.SIGCONT)


@rig.row("virtproxy of va-hostd killed", "kill -9; va-hostd starts another")
def _(links, _n):
    for k in links:
        os.kill(hostd.facts(k)["pid"], signal.SIGKILL)


rig.main()
