#!/usr/bin/python3
# test_agent_processes.py - va-agent's three processes: each may die or hang, and
# the agent answers again within 2 s
#
# SPDX-License-Identifier: MIT
import os
import re
import shutil
import signal
import sys
import threading
import time
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest.env import program, scale, tmpdir
from vatest.proc import Process, run
from vatest.rpc import http_request, xmlrpc_proxy
from vatest.tap import Suite, need
from vatest.usage import wakeups
from vatest.wait import Timeout, connect_unix, wait_for_socket, wait_until

suite = Suite()
agents = []


class Agent:
    """va-agent on a channel to which nobody connects: calls are local ones."""

    def __init__(self, *args, conf=None, channel=None, agent=None):
        self.dir = os.path.join(tmpdir(), "a%d" % len(agents))
        os.mkdir(self.dir, 0o700)
        if conf is not None:
            with open(self.path("agent.conf"), "w") as f:
                f.write(conf)
            os.chmod(self.path("agent.conf"), 0o600)
        channel = channel or "unix-listen:%s:-" % self.path("channel.sock")
        self.socket = self.path("agent.sock")
        self.proc = Process([agent or program("va-agent"), "-c", channel, *args],
                            env={"VA_RUNTIME_DIR": self.dir, "VA_CONF_DIR": self.dir})
        agents.append(self)
        wait_for_socket(self.socket, 10, self.proc.check_alive).close()
        self.rpc = self.connect()
        assert self.rpc.guest.ping() == "pong"

    def path(self, name):
        return os.path.join(self.dir, name)

    def connect(self, timeout=10):
        return xmlrpc_proxy(self.socket, timeout)

    def child(self, role):
        """The pid of the process of that role, or None; while one that was killed
        is still going, its successor's."""
        for pid in reversed(self.proc.children()):
            try:
                with open("/proc/%d/cmdline" % pid) as f:
                    if "--role=" + role in f.read().split("\0"):
                        return pid
            except OSError:
                pass
        return None

    def ping_again(self):
        """Seconds until a ping on a new connection is answered."""
        began = time.monotonic()

        def attempt():
            try:
                return self.connect(5).guest.ping() == "pong"
            except (OSError, xmlrpc.client.Error, EOFError):
                return False
            except Exception as e:      # a cut reply
                if type(e).__module__ == "http.client":
                    return False
                raise
        wait_until(attempt, 10, "a ping")
        return time.monotonic() - began


def cleanup():
    for a in agents:
        a.proc.kill()


suite.cleanups.append(cleanup)
suite.on_failure.append(lambda: agents[-1].proc.log() if agents else "")
state = {}


def agent():
    if "agent" not in state:
        state["agent"] = Agent("-v")
    return state["agent"]


@suite.case("all three processes run, and calls are answered")
def _():
    need(program("va-agent"))
    a = agent()
    assert a.child("server") and a.child("spawner")
    r = a.rpc.guest.getfile("/proc/meminfo")
    assert r["data"].startswith(b"MemTotal:") and r["eof"], r
    assert a.rpc.getfile("/proc/version") == open("/proc/version", "rb").read()
    caps = a.rpc.guest.capabilities()
    assert caps["side"] == "guest" and caps["features"]["spawner"], caps
    assert caps["boot_id"] == open("/proc/sys/kernel/random/boot_id").read().strip()


@suite.case("a server that is replaced after an upgrade is of the version that runs")
def _():
    need(program("va-agent-server"))
    place = os.path.join(tmpdir(), "installed")
    os.mkdir(place)
    for name in ("va-agent", "va-agent-server"):
        shutil.copy(program(name), os.path.join(place, name))
    a = Agent(agent=os.path.join(place, "va-agent"))
    old = a.child("server")
    new = os.path.join(place, "new")
    with open(new, "w") as f:
        f.write("#!/bin/sh\nexit 1\n")
    os.chmod(new, 0o755)
    for name in ("va-agent", "va-agent-server"):
        shutil.copy(new, new + "2")
        os.rename(new + "2", os.path.join(place, name))
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: a.child("server") not in (None, old), 10, "another server")
    assert a.connect().guest.ping() == "pong"
    a.proc.kill()
    missing = os.path.join(tmpdir(), "alone")
    os.mkdir(missing)
    shutil.copy(program("va-agent"), missing)
    r = run([os.path.join(missing, "va-agent"), "-c", "unix-listen:%s/c:-" % missing],
            env={"VA_RUNTIME_DIR": missing, "VA_CONF_DIR": missing})
    assert r.returncode == 1 and "va-agent-server: No such file" in r.stderr, r


@suite.case("the endpoint holds nothing of the server: one thread, and no stream")
def _():
    a = agent()
    assert len(os.listdir("/proc/%d/task" % a.proc.pid)) == 1
    assert len(os.listdir("/proc/%d/task" % a.child("spawner"))) == 1
    before = len(os.listdir("/proc/%d/fd" % a.proc.pid))
    kept = [connect_unix(a.socket) for _ in range(8)]
    assert a.connect().guest.ping() == "pong"
    wait_until(lambda: len(os.listdir("/proc/%d/fd" % a.proc.pid)) == before,
               5, "the endpoint to give the connections away")
    for s in kept:
        s.close()


def server_hit(sig):
    a = agent()
    a.ping_again()
    old, agent_id = a.child("server"), a.rpc.guest.capabilities()["agent_id"]
    os.kill(old, sig)
    took = a.ping_again()
    assert took < 2 * scale(), "answered after %.2f s" % took
    print("# answered after %.2f s" % took)
    assert a.child("server") != old
    assert a.connect().guest.capabilities()["agent_id"] != agent_id
    wait_until(lambda: not os.path.exists("/proc/%d" % old), 5, "the old server to go")
    wait_until(lambda: a.connect().guest.capabilities()["features"]["spawner"], 5,
               "a spawner for the new server")


@suite.case("a killed server is replaced")
def _():
    server_hit(signal.SIGKILL)


@suite.case("a stopped server is replaced")
def _():
    server_hit(signal.SIGSTOP)


@suite.case("a server that crashes is replaced, time after time")
def _():
    for _ in range(3):
        server_hit(signal.SIGSEGV)
        time.sleep(1.1 * scale())   # long enough to be no crash loop


@suite.case("a call that the server had is cut off, not left hanging")
def _():
    a = agent()
    s = connect_unix(a.socket, 10)
    s.sendall(b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n<")
    a.ping_again()
    os.kill(a.child("server"), signal.SIGKILL)
    try:
        assert s.recv(1000) == b""
    except ConnectionResetError:
        pass        # the server had not read all of it
    s.close()


@suite.case("a connection made while the server hangs is answered by the next one")
def _():
    a = agent()
    a.ping_again()
    os.kill(a.child("server"), signal.SIGSTOP)
    began = time.monotonic()
    assert a.connect(10).guest.ping() == "pong"
    assert time.monotonic() - began < 2 * scale(), time.monotonic() - began


@suite.case("a killed or stopped spawner is replaced, and calls go on meanwhile")
def _():
    a = agent()
    for sig in (signal.SIGKILL, signal.SIGSTOP):
        rpc = a.connect()
        old = a.child("spawner")
        server = a.child("server")
        os.kill(old, sig)
        assert rpc.guest.ping() == "pong"
        wait_until(lambda: a.child("spawner") not in (None, old), 5, "a new spawner")
        wait_until(lambda: rpc.guest.capabilities()["features"]["spawner"], 5,
                   "the server to have it")
        assert a.child("server") == server
        time.sleep(1.1 * scale())


@suite.case("a spawner that hangs is found when a kept connection starts a program")
def _():
    a = agent()
    rpc = a.connect()
    assert rpc.guest.ping() == "pong"
    old = a.child("spawner")
    time.sleep(0.6 * scale())       # past the heartbeat of the new connection
    os.kill(old, signal.SIGSTOP)
    began = time.monotonic()
    try:
        rpc.guest.exec.run(["/bin/true"])
    except xmlrpc.client.Fault as e:
        print("# %s" % e.faultString)
    took = time.monotonic() - began
    assert took < 2.5 * scale(), "answered after %.2f s" % took
    wait_until(lambda: a.child("spawner") not in (None, old), 1, "a new spawner")


def resident(pids):
    """KB of pages of the program's own file that are mapped."""
    total = 0
    for pid in pids:
        with open("/proc/%d/status" % pid) as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("RssFile"))
    return total


@suite.case("left alone, it wakes seldom and lets go of memory")
def _():
    a = agent()
    a.ping_again()
    pids = [a.proc.pid, a.child("server"), a.child("spawner")]
    busy = resident(pids)
    wait_until(lambda: resident(pids) < 0.7 * busy, 10 / scale() + 5, "memory to be given back")
    before, seconds = wakeups(pids), 6
    time.sleep(seconds)
    rate = (wakeups(pids) - before) / seconds
    print("# %.1f wake-ups a second; %d KB of files mapped before, %d now"
          % (rate, busy, resident(pids)))
    assert rate < 4, rate
    assert a.rpc.guest.ping() == "pong"


@suite.case("a stopped endpoint goes on where it was")
def _():
    a = agent()
    a.ping_again()
    children = a.child("server"), a.child("spawner")
    os.kill(a.proc.pid, signal.SIGSTOP)
    time.sleep(3 * scale())         # longer than any heartbeat
    os.kill(a.proc.pid, signal.SIGCONT)
    assert a.ping_again() < 2 * scale()
    time.sleep(1.5 * scale())
    assert (a.child("server"), a.child("spawner")) == children


@suite.case("many callers at once see no wrong answer while servers are killed")
def _():
    a = agent()
    a.ping_again()
    stop, wrong, good = threading.Event(), [], [0]

    def caller(n):
        while not stop.is_set():
            try:
                r = a.connect(5).guest.getfile("/proc/self/status")
                if not r["data"].startswith(b"Name:") or not r["eof"]:
                    wrong.append(r)
                good[0] += 1
            except xmlrpc.client.Fault as e:
                wrong.append(e)
            except Exception:
                pass                # cut off: that is what happens
    threads = [threading.Thread(target=caller, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for _ in range(2):
        time.sleep(1.2 * scale())
        os.kill(a.child("server"), signal.SIGKILL)
    time.sleep(1.2 * scale())
    stop.set()
    for t in threads:
        t.join()
    assert not wrong, wrong[0]
    assert good[0] > 50, good[0]


@suite.case("a server that cannot start is tried again, more and more slowly")
def _():
    a = Agent("-v")
    began = time.monotonic()
    killed = 0
    while time.monotonic() - began < 3 * scale():
        pid = a.child("server")
        if pid:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        time.sleep(0.005)
    assert 4 <= killed <= 12, killed
    assert a.ping_again() < 6 * scale()
    a.proc.stop()


@suite.case("SIGTERM ends all processes within a second and removes the socket")
def _():
    a = agent()
    a.ping_again()
    pids = [a.proc.pid, a.child("server"), a.child("spawner")]
    began = time.monotonic()
    assert a.proc.stop(5) == 0
    took = time.monotonic() - began
    assert took < 1 * scale(), took
    for pid in pids:
        wait_until(lambda: not os.path.exists("/proc/%d" % pid), 2, "process %d" % pid)
    assert not os.path.exists(a.socket)


@suite.case("SIGTERM ends it also while the server hangs")
def _():
    a = Agent()
    server = a.child("server")
    os.kill(server, signal.SIGSTOP)
    began = time.monotonic()
    assert a.proc.stop(5) == 0
    took = time.monotonic() - began
    assert took < 1 * scale(), took
    wait_until(lambda: not os.path.exists("/proc/%d" % server), 2, "the server")


@suite.case("killed itself, it leaves nobody behind")
def _():
    a = Agent()
    pids = [a.child("server"), a.child("spawner")]
    os.kill(pids[0], signal.SIGSTOP)
    a.proc.kill()
    for pid in pids:
        wait_until(lambda: not os.path.exists("/proc/%d" % pid) or
                   open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[0] == "Z",
                   3, "process %d" % pid)
    # ... and the next one takes over its sockets.
    again = Process(a.proc.argv, env={"VA_RUNTIME_DIR": a.dir, "VA_CONF_DIR": a.dir})
    try:
        wait_until(lambda: a.ping_again() < 5, 10, "the next agent")
    finally:
        again.stop()


@suite.case("the log is written although the server dies, one line per call")
def _():
    a = Agent("-l", os.path.join(tmpdir(), "agent.log"))

    def log():
        return open(os.path.join(tmpdir(), "agent.log")).read()
    a.rpc.guest.getfile("/proc/version")
    wait_until(lambda: re.search(r"guest.getfile.*local uid=%d .*pid=%d " %
                                 (os.getuid(), os.getpid()), log()), 5, "the call's line")
    assert "/proc/version" not in log()
    assert "guest.ping" not in log()
    old = a.child("server")
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: "the server process (%d) was killed by signal 9" % old in log(), 5,
               "a line about the server")
    a.ping_again()
    os.rename(os.path.join(tmpdir(), "agent.log"), os.path.join(tmpdir(), "agent.log.1"))
    a.proc.signal(signal.SIGHUP)
    wait_until(lambda: os.path.exists(os.path.join(tmpdir(), "agent.log")), 5,
               "the log to be opened anew")
    a.connect().guest.getfile("/proc/version")
    wait_until(lambda: "guest.getfile" in log(), 5, "lines in the new file")
    a.proc.stop()


@suite.case("a log that cannot be written holds nobody up")
def _():
    fifo = os.path.join(tmpdir(), "fifo")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR)      # keeps it open, never reads
    writer = os.open(fifo, os.O_WRONLY)
    a = Process([program("va-agent"), "-v", "-c", "unix-listen:%s/c.sock:-" % tmpdir()],
                env={"VA_RUNTIME_DIR": os.path.join(tmpdir(), "f"),
                     "VA_CONF_DIR": tmpdir()}, stderr=writer)
    path = os.path.join(tmpdir(), "f", "agent.sock")
    try:
        wait_for_socket(path, 10).close()
        rpc = xmlrpc_proxy(path, 10)
        for _ in range(3000):               # more lines than a pipe and the queue hold
            rpc.guest.getfile("/proc/version", 0, 1)
        began = time.monotonic()
        assert rpc.guest.ping() == "pong"
        assert time.monotonic() - began < 1 * scale()
        a.signal(signal.SIGTERM)
        a.wait(3)
    finally:
        a.kill()
        os.close(reader)
        os.close(writer)


@suite.case("the policy refuses, names its line, and is read anew on SIGHUP")
def _():
    a = Agent(conf="[policy]\nblock = class:power guest.getdmesg\n")
    methods = {m["name"]: m["allowed"] for m in a.rpc.guest.capabilities()["methods"]}
    assert not methods["guest.getdmesg"] and not methods["va.getdmesg"], methods
    assert not methods["shutdown"] and methods["guest.getfile"], methods
    for call in (a.rpc.guest.getdmesg, a.rpc.getdmesg, lambda: a.rpc.shutdown("reboot")):
        try:
            call()
            raise AssertionError("was not refused")
        except xmlrpc.client.Fault as e:
            assert e.faultCode == 1 and "agent.conf:2" in e.faultString, e
    with open(a.path("agent.conf"), "w") as f:
        f.write("[policy]\nblock = guest.getfile\n")
    a.proc.signal(signal.SIGHUP)

    def refused():
        try:
            a.connect().guest.getfile("/proc/version")
        except xmlrpc.client.Fault as e:
            return e.faultCode == 1
    wait_until(refused, 5, "the new policy")
    with open(a.path("agent.conf"), "w") as f:
        f.write("[policy]\nnonsense = 1\n")
    a.proc.signal(signal.SIGHUP)
    a.proc.wait_log("policy stays as it was.*nonsense", 5)
    assert refused()
    a.proc.stop()


@suite.case("a path rule judges what a link leads to")
def _():
    allowed, secret = os.path.join(tmpdir(), "allowed"), os.path.join(tmpdir(), "secret")
    os.mkdir(allowed)
    for path, text in ((allowed + "/file", "yes"), (secret, "no")):
        with open(path, "w") as f:
            f.write(text)
    os.symlink(secret, allowed + "/link")
    a = Agent(conf="[policy]\npath = %s\n" % allowed)
    assert a.rpc.getfile(allowed + "/file") == b"yes"
    for path in (allowed + "/link", secret, allowed + "/../secret", "/proc/version"):
        try:
            a.rpc.guest.getfile(path)
            raise AssertionError(path + " was read")
        except xmlrpc.client.Fault as e:
            assert e.faultCode == 1, e
    a.proc.stop()


@suite.case("mistakes in the configuration and on the command line are told")
def _():
    def fails(args, conf, *texts):
        directory = os.path.join(tmpdir(), "bad")
        os.makedirs(directory, exist_ok=True)
        with open(directory + "/agent.conf", "w") as f:
            f.write(conf)
        os.chmod(directory + "/agent.conf", 0o600)
        p = Process([program("va-agent"), *args], env={
            "VA_RUNTIME_DIR": directory, "VA_CONF_DIR": directory})
        status = p.wait(5)
        for t in texts:
            assert t in p.log(), p.log()
        return status
    assert fails([], "[agent]\nchanel = x\n", "agent.conf:2", "chanel") == 2
    assert fails([], "[policy]\nblock = class:none\n", "agent.conf:2", "none") == 2
    assert fails([], "[agent]\nchannel = bad\n", "bad") == 1
    assert fails(["-f", "/nonexistent"], "", "/nonexistent") == 2
    assert fails(["operand"], "", "operand") == 2
    assert fails(["--no-such"], "", "no-such") == 2
    assert fails(["-c", "nothing:x:-"], "", "nothing") == 1


@suite.case("a second agent in the same place is refused and names the cause")
def _():
    a = Agent()
    b = Process(a.proc.argv, env={"VA_RUNTIME_DIR": a.dir, "VA_CONF_DIR": a.dir})
    assert b.wait(5) == 1
    assert a.dir in b.log(), b.log()
    assert a.connect().guest.ping() == "pong"
    a.proc.stop()


@suite.case("in the background: the parent returns when all runs, the pid file names it")
def _():
    directory = os.path.join(tmpdir(), "bg")
    os.mkdir(directory)
    pid_file = os.path.join(directory, "pid")
    argv = [program("va-agent"), "-d", "-l", os.path.join(directory, "log"), "-p", pid_file,
            "-c", "unix-listen:%s/c.sock:-" % directory]
    env = {"VA_RUNTIME_DIR": directory, "VA_CONF_DIR": directory}
    assert Process(argv, env=env).wait(5) == 0
    pid = int(open(pid_file).read())
    try:
        assert xmlrpc_proxy(directory + "/agent.sock").guest.ping() == "pong"
        again = Process(argv, env=env)
        assert again.wait(5) == 1
        assert str(pid) in again.log(), again.log()
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not os.path.exists("/proc/%d" % pid), 3, "the end")
    assert not os.path.exists(pid_file)


@suite.case("wrong HTTP gets HTTP's answers")
def _():
    a = Agent()
    assert http_request(a.socket, "POST", "/nowhere", b"x")[0] == 404
    assert http_request(a.socket, "GET", "/RPC2")[0] == 405
    status, headers, body = http_request(a.socket, "POST", "/RPC2", b"<junk")
    assert status == 200 and b"<fault>" in body, (status, body)
    a.proc.stop()


suite.main()
