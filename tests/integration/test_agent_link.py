#!/usr/bin/python3
# test_agent_link.py - va-agent behind virtproxy: the host's calls, and the link
# that lives on while va-agent's processes die
#
# SPDX-License-Identifier: MIT
import http.client
import os
import pty
import re
import select
import signal
import sys
import threading
import time
import tty
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest.env import program, scale, tmpdir
from vatest.proc import Process
from vatest.rpc import xmlrpc_proxy
from vatest.tap import Suite
from vatest.wait import connect_unix, wait_for_socket, wait_until

suite = Suite()


class PtyPair:
    """A serial line: two ptys and a thread that carries bytes between them."""

    def __init__(self):
        self.a, self.b = pty.openpty(), pty.openpty()
        for master, slave in (self.a, self.b):
            tty.setraw(slave)
        self.names = os.ttyname(self.a[1]), os.ttyname(self.b[1])
        self.stopped = os.pipe()
        self.thread = threading.Thread(target=self.carry)
        self.thread.start()

    def carry(self):
        masters = self.a[0], self.b[0]
        while True:
            ready = select.select([*masters, self.stopped[0]], [], [])[0]
            if self.stopped[0] in ready:
                return
            for fd in ready:
                other = masters[1] if fd == masters[0] else masters[0]
                try:
                    data = os.read(fd, 4096)
                    while data:
                        data = data[os.write(other, data):]
                except OSError:
                    time.sleep(0.01)    # nobody has the slave open

    def stop(self):
        os.write(self.stopped[1], b"x")
        self.thread.join()
        for fd in (*self.a, *self.b, *self.stopped):
            os.close(fd)


class Pair:
    """va-agent and a host's virtproxy on one channel."""

    def __init__(self, guest_channel, host_channel, name):
        self.dir = os.path.join(tmpdir(), name)
        os.mkdir(self.dir, 0o700)
        guest, host = self.path("guest"), self.path("host")
        self.agent = Process([program("va-agent"), "-v", "-c", guest_channel],
                             env={"VA_RUNTIME_DIR": guest, "VA_CONF_DIR": guest})
        wait_for_socket(guest + "/ctl.sock", 10, self.agent.check_alive).close()
        os.mkdir(host)
        self.rpc_path = host + "/rpc.sock"
        self.host = Process([program("virtproxy/virtproxy"), "-c", host_channel,
                             "-o", "virtagent:%s:-" % self.rpc_path,
                             "-i", "virtagent-host:%s/hostd.sock:-" % host],
                            env={"VA_RUNTIME_DIR": host})
        self.ctl_path = guest + "/ctl.sock"
        self.wait_session()

    def path(self, name):
        return os.path.join(self.dir, name)

    def connect(self, timeout=10):
        return xmlrpc_proxy(self.rpc_path, timeout)

    def status(self):
        """The link's state and counters, as the agent's endpoint tells them."""
        s = connect_unix(self.ctl_path)
        try:
            s.sendall(b"status\n")
            data = b""
            while not data.endswith(b"\n\n"):
                more = s.recv(65536)
                if not more:
                    break
                data += more
        finally:
            s.close()
        return dict(line.split(" ", 1) for line in data.decode().splitlines() if " " in line)

    def wait_session(self):
        wait_until(lambda: self.status().get("session") == "up", 15, "a session")

    def child(self, role):
        for pid in self.agent.children():
            with open("/proc/%d/cmdline" % pid) as f:
                if "--role=" + role in f.read().split("\0"):
                    return pid
        return None

    def ping_again(self):
        began = time.monotonic()

        def attempt():
            try:
                return self.connect(5).guest.ping() == "pong"
            except (OSError, http.client.HTTPException, xmlrpc.client.Error):
                return False
        wait_until(attempt, 10, "a ping")
        return time.monotonic() - began

    def sessions(self):
        """What changes when the session does not live on."""
        s = self.status()
        return {k: v for k, v in s.items() if re.search(r"session", k)}

    def stop(self):
        self.agent.kill()
        self.host.kill()


pairs = {}


def pair(kind):
    if kind not in pairs:
        if kind == "unix":
            path = os.path.join(tmpdir(), "channel.sock")
            pairs[kind] = Pair("unix-listen:%s:-" % path, "unix-connect:%s:-" % path, "u")
        else:
            line = PtyPair()
            suite.cleanups.append(line.stop)
            pairs[kind] = Pair("isaserial-open:" + line.names[0],
                               "pty-open:%s:-" % line.names[1], "s")
        suite.cleanups.append(pairs[kind].stop)
    return pairs[kind]


def show():
    return "".join("--- %s\n%s\n%s\n" % (k, p.agent.log()[-3000:], p.host.log()[-3000:])
                   for k, p in pairs.items())


suite.on_failure.append(show)


def calls(kind):
    p = pair(kind)
    rpc = p.connect()
    assert rpc.guest.ping() == "pong"
    r = rpc.guest.getfile("/proc/meminfo")
    assert r["data"].startswith(b"MemTotal:") and r["eof"]
    content = os.urandom(700000)
    with open(p.path("file"), "wb") as f:
        f.write(content)
    got, offset = b"", 0
    while True:
        r = rpc.guest.getfile(p.path("file"), offset, 300000)
        got, offset = got + r["data"], offset + len(r["data"])
        if r["eof"]:
            break
    assert got == content and r["size"] == len(content)
    # Who called: this process, as the host's virtproxy saw it.
    p.agent.wait_log(r"guest.getfile.*host uid=%d .*pid=%d.* stream=\d" %
                     (os.getuid(), os.getpid()), 5)


@suite.case("calls over a unix socket's channel, with the caller named in the audit")
def _():
    calls("unix")


@suite.case("calls over a serial line")
def _():
    calls("serial")


def server_hit(kind, sig):
    p = pair(kind)
    p.ping_again()
    before, old = p.sessions(), p.child("server")
    assert before, p.status()
    os.kill(old, sig)
    took = p.ping_again()
    print("# answered after %.2f s" % took)
    assert took < 2 * scale(), took
    assert p.child("server") != old
    assert p.sessions() == before, (before, p.sessions())


@suite.case("the server killed: a ping within 2 s, in the same session")
def _():
    server_hit("unix", signal.SIGKILL)


@suite.case("the server stopped: a ping within 2 s, in the same session")
def _():
    server_hit("unix", signal.SIGSTOP)


@suite.case("the same over a serial line")
def _():
    server_hit("serial", signal.SIGKILL)
    time.sleep(1.1 * scale())
    server_hit("serial", signal.SIGSTOP)


@suite.case("what a lost server held is cut off at the host, others are not")
def _():
    p = pair("unix")
    p.ping_again()
    s = connect_unix(p.rpc_path, 10)
    s.sendall(b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n<")
    wait_until(lambda: p.connect().guest.ping() == "pong", 5, "a ping")
    os.kill(p.child("server"), signal.SIGSTOP)
    began = time.monotonic()
    try:
        assert s.recv(1000) == b""
    except ConnectionResetError:
        pass
    assert time.monotonic() - began < 2 * scale()
    s.close()


@suite.case("a call made while the server hangs is answered by the next one")
def _():
    p = pair("unix")
    p.ping_again()
    os.kill(p.child("server"), signal.SIGSTOP)
    began = time.monotonic()
    assert p.connect(10).guest.ping() == "pong"
    assert time.monotonic() - began < 2 * scale()


@suite.case("the spawner killed: the same session, and no call disturbed")
def _():
    p = pair("unix")
    p.ping_again()
    before, rpc = p.sessions(), p.connect()
    rpc.guest.ping()
    os.kill(p.child("spawner"), signal.SIGKILL)
    for _ in range(50):
        assert rpc.guest.ping() == "pong"
    wait_until(lambda: rpc.guest.capabilities()["features"]["spawner"], 5, "a spawner")
    assert p.sessions() == before


@suite.case("the endpoint stopped for a while goes on in the same session")
def _():
    p = pair("unix")
    p.ping_again()
    before = p.sessions()
    server = p.child("server")
    os.kill(p.agent.pid, signal.SIGSTOP)
    time.sleep(3 * scale())
    os.kill(p.agent.pid, signal.SIGCONT)
    assert p.ping_again() < 2 * scale()
    assert p.sessions() == before and p.child("server") == server


@suite.case("a host that goes and comes back is served again")
def _():
    p = pair("unix")
    p.host.kill()
    p.host = Process(p.host.argv, env={"VA_RUNTIME_DIR": p.path("host")})
    wait_for_socket(p.rpc_path, 10, p.host.check_alive).close()
    assert p.ping_again() < 5 * scale()


@suite.case("the agent says goodbye: the host's session ends at once")
def _():
    p = pair("unix")
    s = connect_unix(p.rpc_path, 10)
    s.sendall(b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n<")
    p.connect().guest.ping()
    began = time.monotonic()
    assert p.agent.stop(5) == 0
    assert time.monotonic() - began < 1 * scale(), time.monotonic() - began
    try:
        assert s.recv(1000) == b""
    except ConnectionResetError:
        pass
    assert time.monotonic() - began < 2 * scale()
    s.close()
    p.host.check_alive()


suite.main()
