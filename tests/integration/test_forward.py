#!/usr/bin/python3
# test_forward.py - connections forwarded both ways by a real va-agent, va-hostd and
# va-client: bytes, half-close, errors, policies, limits, Ctrl-C, a slow reader
#
# SPDX-License-Identifier: MIT
import hashlib
import os
import re
import signal
import socket
import sys
import threading
import time
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import (Process, Skip, Suite, http_request, need_all, program, run, scale,  # noqa: E402
                    sanitized, tmpdir, wait_until, xmlrpc_proxy)
from vatest.agent import NativeAgent  # noqa: E402
from vatest.hostd import Hostd, need_hostd  # noqa: E402

need_hostd()
need_all(program("va-agent"), program("va-client"))
suite = Suite()

STREAMS_MAX = 48        # VA_STREAMS_MAX
# One client's calls at once are as many as its streams; the limit met here is theirs.
AGENT_CONF = "[agent]\nclient-calls = 64\n"
agent = NativeAgent(AGENT_CONF)
suite.cleanups.append(agent.stop)
hostd = Hostd(["web=" + agent.channel])
suite.cleanups.append(hostd.close)
suite.on_failure += [lambda: agent.log()[-4000:], hostd.tail]
suite.on_failure.append(lambda: Forward.last.process.log() if Forward.last else "")
hostd.wait_state("web", "connected")
rpc_sock = os.path.join(hostd.guest_dir("web"), "rpc.sock")


class Target:
    """A TCP (or unix) server; serve(socket) handles each connection."""

    def __init__(self, serve, path=None):
        self.serve = serve
        if path:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.bind(path)
            self.sock.listen(128)
            self.name = "unix:" + path
        else:
            self.sock = socket.create_server(("127.0.0.1", 0), backlog=128)
            self.port = self.sock.getsockname()[1]
            self.name = "127.0.0.1:%d" % self.port
        suite.cleanups.append(self.sock.close)
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(c,), daemon=True).start()

    def one(self, c):
        with c:
            try:
                self.serve(c)
            except OSError:
                pass


def read_all(c):
    data = b""
    while True:
        more = c.recv(65536)
        if not more:
            return data
        data += more


def echo(c):
    while True:
        data = c.recv(65536)
        if not data:
            return
        c.sendall(data)


def digest(c):
    """Answers only after the other side's end: half-close, or nothing."""
    c.sendall(hashlib.sha256(read_all(c)).digest())


echo_server, digest_server = Target(echo), Target(digest)


class Forward:
    """A running va-client forward."""

    last = None

    def __init__(self, *args, env=None):
        Forward.last = self
        self.process = Process([program("va-client"), "forward", *args],
                               env=dict(env or hostd.env, VA_GUEST=""))
        suite.cleanups.append(self.process.kill)
        m = self.process.wait_log(r"^(\S+) .*-> ")
        self.at = m.group(1)
        self.port = 0 if self.at.startswith("unix:") else int(self.at.rsplit(":", 1)[1])

    def connect(self):
        if self.at.startswith("unix:"):
            c = socket.socket(socket.AF_UNIX)
            c.settimeout(20 * scale())
            c.connect(self.at[5:])
            return c
        return socket.create_connection(("127.0.0.1", self.port), timeout=20 * scale())

    def refuses(self):
        try:
            self.connect().close()
            return False
        except ConnectionRefusedError:
            return True

    def end(self):
        self.process.signal(signal.SIGINT)
        return self.process.wait(10)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()


def forwards():
    """The three ways: (name, what makes one to a target)."""
    return (("host to guest", lambda to: Forward("web", "0", to)),
            ("guest to host, held by the host", lambda to: Forward("-R", "web", "0", to)),
            ("guest to host, held by the guest", lambda to: Forward("0", to, env=agent.env)))


def allow(text):
    """The host's policy for the guest; waits until it holds."""
    hostd.write_conf("[policy web]\n%s" % text)
    n = hostd.log().count("configuration read again")
    hostd.reload()
    wait_until(lambda: hostd.log().count("configuration read again") > n, 10, "the reload")


@suite.case("a guest reaches nothing through its host unless a connect line names it")
def _():
    host = xmlrpc_proxy(agent.host_sock, 30).host
    try:
        host.connect(echo_server.name)
        raise AssertionError("it was connected")
    except xmlrpc.client.Fault as f:
        assert f.faultCode == 1 and "no connect line names it" in f.faultString, f
    with Forward("0", echo_server.name, env=agent.env) as f:
        assert f.connect().recv(10) == b""
        f.process.wait_log("no connect line names it")
    allow("connect = 127.0.0.*:%d %s\n" % (echo_server.port, digest_server.name))
    assert host.connect(echo_server.name)["address"] == echo_server.name
    # localhost is looked up first: the address is what the pattern is held against.
    assert host.connect("localhost:%d" % echo_server.port)["address"] == echo_server.name
    try:
        host.connect("127.0.0.1:1")
        raise AssertionError("it was connected")
    except xmlrpc.client.Fault as f:
        assert f.faultCode == 1, f
    allow("connect = 127.*:*\n")


for name, make in forwards():
    @suite.case("%s: bytes both ways, exact; the end of one direction leaves the other" % name)
    def _(make=make):
        data = os.urandom(3 << 20)
        with make(digest_server.name) as f, f.connect() as c:
            c.sendall(data)
            c.shutdown(socket.SHUT_WR)
            assert read_all(c) == hashlib.sha256(data).digest()
        with make(echo_server.name) as f, f.connect() as c:
            got = []
            t = threading.Thread(target=lambda: got.append(read_all(c)))
            t.start()
            c.sendall(data)
            c.shutdown(socket.SHUT_WR)
            t.join()
            assert got[0] == data, len(got[0])

    @suite.case("%s: many connections at once" % name)
    def _(make=make):
        with make(echo_server.name) as f:
            conns = [f.connect() for _ in range(STREAMS_MAX - 8)]
            for i, c in enumerate(conns):
                c.sendall(b"%d" % i)
            for i, c in enumerate(conns):
                assert c.recv(10) == b"%d" % i
            for c in conns:
                c.close()
            # And again: their places are free.
            for i in range(60):
                with f.connect() as c:
                    c.sendall(b"again")
                    assert c.recv(10) == b"again"

    @suite.case("%s: Ctrl-C ends it, listener and connections" % name)
    def _(make=make):
        with make(echo_server.name) as f:
            c = f.connect()
            c.sendall(b"x")
            assert c.recv(1) == b"x"
            assert f.end() == 130
            assert c.recv(1) == b""
            wait_until(f.refuses, 10, "nobody to listen")


@suite.case("a held listener ends with its client, however that ends")
def _():
    with Forward("-R", "web", "0", echo_server.name) as f:
        f.process.kill()
        wait_until(f.refuses, 10, "the guest to listen no more")


@suite.case("unix sockets, at both ends")
def _():
    path, listen = os.path.join(tmpdir(), "target"), os.path.join(tmpdir(), "listening.sock")
    Target(echo, path)
    with Forward("web", "unix:" + listen, "unix:" + path) as f:
        assert os.stat(listen).st_mode & 0o777 == 0o600
        with f.connect() as c:
            c.sendall(b"by path")
            assert c.recv(100) == b"by path"
        assert f.end() == 130 and not os.path.exists(listen)


@suite.case("errors name the target and what is wrong with it")
def _():
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    plain = os.path.join(tmpdir(), "plain")
    open(plain, "w", encoding="utf-8").close()
    guest = hostd.guest_rpc("web", 60).guest
    for target, code, text in (
            ("127.0.0.1:%d" % port, 1111, "Connection refused"),
            ("no-such-host.invalid:80", 1002, "no such host"),
            ("unix:/nonexistent/sock", 1002, "No such file"),
            ("unix:" + plain, 1088, "is no socket"),
            ("unix:relative", 1022, "absolute"),
            ("1.2.3.4", 1022, "needs HOST:PORT"), ("::1:80", 1022, "needs HOST:PORT"),
            ("web:0", 1022, "needs HOST:PORT"), ("web:65536", 1022, "needs HOST:PORT"),
            ("", 1022, "needs HOST:PORT"), ("unix:/" + "x" * 5000, 1036, "too long")):
        try:
            guest.connect(target)
            raise AssertionError("%r was connected" % target[:60])
        except xmlrpc.client.Fault as f:
            assert f.faultCode == code and text in f.faultString, (target[:60], f)
            assert target[:40] in f.faultString or len(target) > 100, f
    with Forward("web", "0", "127.0.0.1:%d" % port) as f:
        assert f.connect().recv(1) == b""
        f.process.wait_log("web: forward: 127.0.0.1:%d: Connection refused" % port)
        # The next one may be luckier.
        late = socket.create_server(("127.0.0.1", port))
        with f.connect() as c:
            c.sendall(b"late")
            peer, _ = late.accept()
            assert peer.recv(10) == b"late"
            peer.close()
        late.close()
    for args, text in ((("web", "nonsense:", "80"), "nonsense: is not where to listen"),
                       (("-R", "web", "0.0.0.0:nonsense", "80"), "is not where to listen")):
        r = run([program("va-client"), "forward", *args], env=hostd.env)
        assert r.returncode == 3 and text in r.stderr, (args, r)
    for args, text in ((("web", "1.2.3.4:99999999", "80"), "forward"),
                       (("-R", "web", "203.0.113.1:80", "80"), "cannot listen"),
                       (("nosuchguest", "0", "80"), "nosuchguest")):
        r = run([program("va-client"), "forward", *args], env=hostd.env)
        assert r.returncode == 2 and text in r.stderr, (args, r)
    r = run([program("va-client"), "forward", "-R", "0", "80"], env=agent.env)
    assert r.returncode == 3 and "does not listen for its guests" in r.stderr, r


@suite.case("the plain forms try and let go; the HTTP forms need their Upgrade")
def _():
    guest = hostd.guest_rpc("web", 60).guest
    got = guest.connect(str(echo_server.port))
    assert got["address"] == echo_server.name, got
    assert 0 <= got["seconds"] < 20
    address = guest.listen("0")["address"]
    assert address.startswith("127.0.0.1:")
    assert guest.listen(address)["address"] == address      # it was closed again
    taken = socket.create_server(("127.0.0.1", 0))
    try:
        guest.listen(str(taken.getsockname()[1]))
        raise AssertionError("it listens where another does")
    except xmlrpc.client.Fault as f:
        assert f.faultCode == 1098 and "in use" in f.faultString, f
    for url in ("/connect?to=%d" % echo_server.port, "/listen?at=0", "/accept?listener=1"):
        status, _, body = http_request(rpc_sock, "GET", url)
        assert status == 400 and b"Upgrade" in body, (url, status, body)
    head = {"Connection": "Upgrade", "Upgrade": "va-stream/1"}
    status, _, body = http_request(rpc_sock, "GET", "/accept?listener=99999", headers=head)
    assert status == 404 and b"no listener 99999" in body, (status, body)
    status, _, body = http_request(rpc_sock, "GET", "/connect", headers=head)
    assert status == 400, (status, body)


def rss(pid):
    with open("/proc/%d/status" % pid, encoding="utf-8") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) << 10


@suite.case("a reader that does not read holds up its writer and nothing else")
def _():
    go = threading.Event()

    def sleeper(c):
        go.wait(60 * scale())
        c.sendall(b"%d" % len(read_all(c)))
    sleeping = Target(sleeper)
    with open("/proc/%d/task/%d/children" % (agent.pid, agent.pid), encoding="utf-8") as f:
        pids = [int(p) for p in f.read().split()] + [agent.pid]
    with Forward("web", "0", sleeping.name) as f, f.connect() as c:
        pids.append(f.process.pid)
        before = {p: rss(p) for p in pids}
        c.setblocking(False)
        sent, stuck, chunk = 0, 0, bytes(1 << 20)
        while stuck < 10 and sent < 256 << 20:
            try:
                sent += c.send(chunk)
                stuck = 0
            except BlockingIOError:
                stuck += 1
                time.sleep(0.1)
        assert sent < 64 << 20, "%d bytes went into nothing" % sent
        for p in pids:
            grown = rss(p) - before[p]
            assert sanitized() or grown < 6 << 20, "pid %d grew by %d" % (p, grown)
        began = time.monotonic()
        assert hostd.guest_rpc("web", 20).guest.ping() == "pong"
        took = time.monotonic() - began
        assert took < scale(), took
        go.set()
        c.setblocking(True)
        c.settimeout(60 * scale())
        c.shutdown(socket.SHUT_WR)
        assert read_all(c) == b"%d" % sent
        print("# %d KiB were under way, ping meanwhile %.1f ms" %
              (sent >> 10, took * 1000))


def upgrade(sock_path, url):
    c = socket.socket(socket.AF_UNIX)
    c.settimeout(20 * scale())
    c.connect(sock_path)
    c.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
              b"Upgrade: va-stream/1\r\n\r\n" % url.encode())
    head = b""
    while b"\r\n\r\n" not in head:
        more = c.recv(4096)
        if not more:
            break
        head += more
    return c, head


@suite.case("the limits of either side are met and named, and freed again")
def _():
    for path, limit, name in ((rpc_sock, STREAMS_MAX, b"48 forwarded connections at once"),
                              (agent.host_sock, STREAMS_MAX,
                               b"48 forwarded connections of this guest")):
        conns = []
        for _ in range(limit):
            c, head = upgrade(path, "/connect?to=%d" % echo_server.port)
            assert b" 101 " in head.split(b"\r\n")[0], head
            conns.append(c)
        c, head = upgrade(path, "/connect?to=%d" % echo_server.port)
        while b"the limit" not in head:
            more = c.recv(4096)
            assert more, head
            head += more
        assert b" 503 " in head.split(b"\r\n")[0] and name in head, head
        c.close()
        # Calls go on beside them.
        assert hostd.guest_rpc("web", 20).guest.ping() == "pong"
        for c in conns:
            c.close()

        def free(path=path):
            c, head = upgrade(path, "/connect?to=%d" % echo_server.port)
            c.close()
            return b" 101 " in head
        wait_until(free, 10, "a place")


@suite.case("more listeners than the agent allows are refused")
def _():
    held = [Forward("-R", "web", "0", echo_server.name) for _ in range(16)]
    r = run([program("va-client"), "forward", "-R", "web", "0", echo_server.name],
            env=hostd.env)
    assert r.returncode == 2 and "16 listeners at once, the limit" in r.stderr, r
    for f in held:
        f.process.kill()


@suite.case("the guest's policy: class net, connect lines; the audit names the call")
def _():
    guest = hostd.guest_rpc("web", 60).guest

    def policy(text):
        agent.configure("[policy]\n" + text)

    def refused(target, text):
        try:
            guest.connect(target)
            raise AssertionError("%s was connected" % target)
        except xmlrpc.client.Fault as f:
            assert f.faultCode == 1 and text in f.faultString, f
        status, _, body = http_request(rpc_sock, "GET", "/connect?to=" + target,
                                       headers={"Connection": "Upgrade",
                                                "Upgrade": "va-stream/1"})
        assert status == 403 and text.encode() in body, (status, body)
    policy("block = class:net\n")
    refused(echo_server.name, "block = class:net")
    policy("profile = readonly\n")
    refused(echo_server.name, "profile = readonly")
    policy("profile = hardened\n")
    refused(echo_server.name, "profile = hardened")
    policy("connect = %s\n" % echo_server.name)
    assert guest.connect(echo_server.name)["seconds"] >= 0
    refused(digest_server.name, "no connect line names it")
    inside = os.path.join(tmpdir(), "below")
    os.mkdir(inside)
    Target(echo, os.path.join(inside, "s"))
    os.symlink(os.path.join(inside, "s"), os.path.join(tmpdir(), "link"))
    policy("connect = unix:*\npath-block = %s\n" % inside)
    refused("unix:" + os.path.join(tmpdir(), "link"), "path-block")
    policy("")
    assert guest.connect(digest_server.name)["seconds"] >= 0
    lines = [x for x in agent.log().splitlines() if "call guest.connect:" in x]
    assert any("uid=%d" % os.getuid() in x and "stream=" in x and x.endswith(": ok")
               for x in lines), lines
    assert any("fault 1: " in x for x in lines), lines


@suite.case("a forward outlives the agent's server: connections break, new ones work")
def _():
    with Forward("web", "0", echo_server.name) as f:
        c = f.connect()
        c.sendall(b"x")
        assert c.recv(1) == b"x"
        for pid in agent.children():
            with open("/proc/%d/cmdline" % pid, "rb") as p:
                if b"--role=server" in p.read():
                    os.kill(pid, signal.SIGKILL)
        assert c.recv(1) == b""

        def works():
            with f.connect() as c:
                c.sendall(b"y")
                return c.recv(1) == b"y"
        wait_until(works, 20, "a connection through the new server")


@suite.case("forty clients at once all get through")
def _():
    clients = [Process([program("va-client"), "ping", "web"], env=hostd.env) for _ in range(40)]
    for c in clients:
        assert c.wait(20) == 0, c.log()


@suite.case("stream-buffer in agent.conf: what the agent keeps of a connection whose reader waits")
def _():
    if sanitized():
        raise Skip("memory is the sanitizer's")
    go = threading.Event()
    sleeping = Target(lambda c: (go.wait(120 * scale()), read_all(c)))
    with open("/proc/%d/task/%d/children" % (agent.pid, agent.pid), encoding="utf-8") as f:
        pids = [int(p) for p in f.read().split()]
    grown = {}
    for size in ("64K", "12M"):
        agent.configure(AGENT_CONF + "stream-buffer = %s\n" % size)
        with Forward("web", "0", sleeping.name) as f, f.connect() as c:
            before = {p: rss(p) for p in pids}
            c.setblocking(False)
            stuck = 0
            while stuck < 10:
                try:
                    c.send(bytes(1 << 20))
                    stuck = 0
                except BlockingIOError:
                    stuck += 1
                    time.sleep(0.1)
            grown[size] = max(rss(p) - before[p] for p in pids)
    go.set()
    agent.configure(AGENT_CONF)
    print("# an agent's process grew by %s KiB" % {k: v >> 10 for k, v in grown.items()})
    assert grown["64K"] < 4 << 20 and 9 << 20 < grown["12M"] < 32 << 20, grown


suite.main()
