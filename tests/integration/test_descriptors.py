#!/usr/bin/python3
"""Out of descriptors: no process spins, calls end by themselves, and what comes
when there are some again is served.

SPDX-License-Identifier: MIT
"""
import os
import resource
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import (Process, Suite, connect_unix, need_all, program, run, scale,  # noqa: E402
                    tmpdir, wait_until)
from vatest.hostd import Hostd  # noqa: E402

need_all(program("va-hostd"), program("virtproxy"), program("va-agent"), program("va-client"))
suite = Suite()
chan = os.path.join(tmpdir(), "c")
GUEST = {"VA_RUNTIME_DIR": os.path.join(tmpdir(), "g"),
         "VA_CONF_DIR": os.path.join(tmpdir(), "g", "conf")}
hostd = Hostd(["vm=unix-connect:%s:-" % chan])
suite.cleanups.append(hostd.close)
suite.on_failure.append(lambda: hostd.tail()[-1500:])
agent = Process([program("va-agent"), "-c", "unix-listen:%s:-" % chan, "-l", "stderr"], env=GUEST)
suite.cleanups.append(agent.stop)
suite.on_failure.append(lambda: agent.log()[-1500:])
TICK = os.sysconf("SC_CLK_TCK")


def answers(path, method="guest.ping"):
    return run([program("va-client"), "-G", "unix:" + path, "-t", "5", "call", method]).returncode == 0


def cpu(pid):
    with open("/proc/%d/stat" % pid) as f:
        words = f.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / TICK


def exhaust(pid, paths, method):
    """The process may open nothing more while clients knock at paths."""
    wait_until(lambda: answers(paths[0], method), 20, "an answer", 0.1)
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = max(int(fd) for fd in os.listdir("/proc/%d/fd" % pid)) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, hard))
    clients = []
    try:
        # Gaps below the highest one are filled first.
        for _ in range(used + 4):
            clients += [connect_unix(p) for p in paths]
            time.sleep(0.005)
        before, began = cpu(pid), time.monotonic()
        time.sleep(1)
        busy = (cpu(pid) - before) / (time.monotonic() - began)
        assert busy < 0.25, "%.0f %% of a processor with nothing to do" % (100 * busy)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        for c in clients:
            c.close()
    wait_until(lambda: answers(paths[0], method), 10, "an answer again", 0.1)
    print("# %d descriptors, %.0f %% busy" % (used, 100 * busy))


def of_guest(name):
    return os.path.join(hostd.guest_dir("vm"), name)


@suite.case("virtproxy: its services and its control socket")
def _():
    hostd.wait_state("vm", "connected")
    pid = hostd.facts("vm")["pid"]
    exhaust(pid, [of_guest("rpc.sock"), of_guest("ctl.sock")], "guest.ping")
    exhaust(pid, [of_guest("rpc.sock")], "guest.ping")


@suite.case("va-hostd: its server and its events")
def _():
    exhaust(hostd.process.pid, [hostd.sock, of_guest("events.sock")], "host.ping")


@suite.case("va-agent: the endpoint's sockets")
def _():
    exhaust(agent.pid, [os.path.join(GUEST["VA_RUNTIME_DIR"], n)
                        for n in ("agent.sock", "host.sock")], "guest.ping")


def server_pid():
    for pid in agent.children():
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            if b"--role=server" in f.read():
                return pid
    return None


@suite.case("va-agent: a server that can take no stream says so by closing it")
def _():
    path = os.path.join(GUEST["VA_RUNTIME_DIR"], "agent.sock")
    wait_until(lambda: answers(path), 20, "an answer", 0.1)
    pid = server_pid()
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        # More than wait for a server at once: none is left behind there.
        for _ in range(150):
            with connect_unix(path) as c:
                c.settimeout(10 * scale())
                try:
                    c.sendall(b"GET / HTTP/1.1\r\n")
                    assert c.recv(1) == b""
                except (BrokenPipeError, ConnectionResetError):
                    pass
                except socket.timeout:
                    raise AssertionError("a stream waits for ever") from None
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert answers(path) and server_pid() == pid
    hostd.wait_state("vm", "connected")


suite.main()
