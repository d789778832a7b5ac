#!/usr/bin/python3
# test_limits.py - each limit of the agent's server and of va-hostd is met: the error
# names it, others go on, the configuration changes it
#
# SPDX-License-Identifier: MIT
import concurrent.futures
import os
import signal
import socket
import sys
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import (Process, Suite, connect_unix, http_request, need_all, program, run,  # noqa: E402
                    tmpdir, wait_until, xmlrpc_proxy)
from vatest.hostd import Hostd, need_hostd  # noqa: E402

need_hostd()
need_all(program("va-agent"), program("va-client"))
suite = Suite()
agent_dir = os.path.join(tmpdir(), "agent")
os.mkdir(agent_dir, 0o700)
channel = os.path.join(tmpdir(), "channel")
agent_conf = os.path.join(agent_dir, "agent.conf")


def write_agent_conf(text):
    with open(agent_conf, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(agent_conf, 0o600)


def configure(text):
    write_agent_conf(text)
    n = agent.log().count("policy was read anew")
    agent.signal(signal.SIGHUP)
    wait_until(lambda: agent.log().count("policy was read anew") > n, 10, "the new limits")


write_agent_conf("")
hostd = Hostd(["web=unix-connect:%s:-" % channel])
suite.cleanups.append(hostd.close)
agent = Process([program("va-agent"), "-c", "unix-listen:%s:-" % channel, "-l", "stderr"],
                env={"VA_RUNTIME_DIR": agent_dir, "VA_CONF_DIR": agent_dir})
suite.cleanups.append(agent.stop)
suite.on_failure += [lambda: agent.log()[-4000:], hostd.tail]
hostd.wait_state("web", "connected")
rpc_sock = os.path.join(hostd.guest_dir("web"), "rpc.sock")


def server():
    return xmlrpc_proxy(rpc_sock, 60)


def fault(code, text, call, *args):
    try:
        value = call(*args)
    except xmlrpc.client.Fault as f:
        assert f.faultCode == code and text in f.faultString, f
        return
    raise AssertionError("no fault, but %r" % (value,))


def client(*args, **kw):
    return run([program("va-client"), "-G", "web", *args], env=hostd.env, **kw)


class Sleepers:
    """Calls of this process that run until the end of the block."""

    def __init__(self, n, seconds="60"):
        self.n, self.seconds = n, seconds

    def __enter__(self):
        self.pool = concurrent.futures.ThreadPoolExecutor(self.n)
        self.calls = [self.pool.submit(server().guest.exec.run, ["sleep", self.seconds])
                      for _ in range(self.n)]

        def running():
            return sum(j["state"] == "running" for j in server().guest.exec.list()) \
                >= self.n
        if self.n < 48:
            wait_until(running, 20, "%d calls to run" % self.n)
        else:       # the list itself is a call of ours
            wait_until(lambda: client("jobs").stdout.count(" running ") >= self.n, 20,
                       "%d calls to run" % self.n)

    def __exit__(self, *exc):
        for line in client("jobs").stdout.splitlines():
            if " running " in line:
                client("kill", "--signal", "KILL", line.split()[0])
        self.pool.shutdown()


@suite.case("one client has 48 calls at once: the next is refused, other clients go on")
def _():
    with Sleepers(48):
        fault(2, "guest.stat: this client has 48 calls running, the limit of one "
              "(client-calls in agent.conf)", server().guest.stat, "/")
        assert server().guest.ping() == "pong"
        r = client("stat", "/")
        assert r.returncode == 0, r
    assert server().guest.stat("/")["type"] == "directory"


@suite.case("calls in agent.conf: all clients together; a forbidden one in a multicall, too")
def _():
    configure("[agent]\ncalls = 5\n")
    with Sleepers(4):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            def hold():
                return pool.submit(server().guest.exec.run, ["sleep", "3"])
            held = hold()

            def refused():
                nonlocal held
                if held.done():     # the question below had its place
                    held = hold()
                try:
                    server().guest.stat("/")
                    return False
                except xmlrpc.client.Fault as f:
                    assert f.faultCode == 2 and \
                        "5 calls are running, the limit (calls in agent.conf)" in f.faultString, f
                    return True
            wait_until(refused, 10, "the limit")
            multi = xmlrpc.client.MultiCall(server())
            multi.guest.ping()
            multi.guest.stat("/")
            got = multi().results
            assert got[0] == ["pong"] and got[1]["faultCode"] == 2, got
            status, _, body = http_request(rpc_sock, "GET", "/file?path=/etc/passwd")
            assert status == 503 and b"5 calls are running" in body, (status, body)
            held.result()
        configure("")
    assert server().guest.stat("/")["type"] == "directory"


@suite.case("streams in agent.conf")
def _():
    configure("[agent]\nstreams = 1\n")
    p = Process([program("va-client"), "forward", "-R", "web", "0", "1"], env=hostd.env)
    p.wait_log("->")            # its request that waits has the only place
    head = {"Connection": "Upgrade", "Upgrade": "va-stream/1"}

    def refused():
        status, _, body = http_request(rpc_sock, "GET", "/connect?to=1", headers=head)
        return status == 503 and b"1 forwarded connections at once, the limit " \
            b"(streams in agent.conf)" in body
    wait_until(refused, 10, "the limit")
    p.kill()
    configure("")


@suite.case("64 programs run or are kept: the next is refused, a forgotten one makes room")
def _():
    jobs = []
    try:
        try:
            for _ in range(70):
                jobs.append(server().guest.exec.start(["sleep", "600"])["job"])
        except xmlrpc.client.Fault as f:
            assert f.faultCode == 1011 and "64 programs run or are kept already, which is the " \
                "limit" in f.faultString, f
        assert len(jobs) == 64, len(jobs)
        status, _, body = http_request(rpc_sock, "GET", "/exec?arg=true")
        assert status == 503 and b"64 programs" in body, (status, body)
        server().guest.exec.kill(jobs[0], "KILL")
        server().guest.exec.status(jobs[0], 10000)
        assert server().guest.exec.run(["true"])["exit"] == 0
    finally:
        for j in jobs:
            try:
                server().guest.exec.kill(j, "KILL")
            except xmlrpc.client.Fault:
                pass


@suite.case("sizes and counts of arguments: the error names the limit")
def _():
    g = server().guest
    fault(1007, "1024", g.exec.start, ["x"] * 1100)
    fault(1007, "96 KiB", g.exec.start, ["true", "x" * 60000, "y" * 60000])
    fault(-501, "1048576", g.getfile, "/etc/passwd", 0, (1 << 20) + 1)
    fault(-509, "1048576", g.putfile, os.path.join(tmpdir(), "x"), bytes((1 << 20) + 1))
    fault(-501, "1000", g.list, "/", "", 1001)
    fault(-501, "1048576", g.getdmesg, (1 << 20) + 1)
    multi = xmlrpc.client.MultiCall(server())
    for _ in range(257):
        multi.guest.ping()
    fault(-509, "256", multi)


@suite.case("guest-calls and guest-streams in hostd.conf; a wrong number names its line")
def _():
    commands = os.path.join(tmpdir(), "commands")
    os.mkdir(commands, 0o755)
    with open(os.path.join(commands, "sleeper"), "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\nexec sleep 600\n")
    os.chmod(os.path.join(commands, "sleeper"), 0o755)
    hostd.write_conf("[hostd]\nguest-calls = 1\nguest-streams = 1\ncommands = %s\n"
                     "[policy]\nconnect = *\n" % commands)
    hostd.reload()
    wait_until(lambda: "configuration read again" in hostd.log(), 10, "the reload")
    host_sock = os.path.join(agent_dir, "host.sock")

    def start():
        return Process([program("va-client"), "run", "sleeper"],
                       env={"VA_RUNTIME_DIR": agent_dir, "VA_GUEST": ""})
    p = start()

    def refused():
        nonlocal p
        if not p.running():     # the question below had its place
            p = start()
        try:
            xmlrpc_proxy(host_sock, 20).host.ping()
            return False
        except xmlrpc.client.Fault as f:
            assert f.faultCode == 2 and "1 calls of this guest already, the limit " \
                "(guest-calls in hostd.conf)" in f.faultString, f
            return True
    wait_until(refused, 10, "the limit of calls")
    assert hostd.rpc().host.ping()
    p.kill()
    head = {"Connection": "Upgrade", "Upgrade": "va-stream/1"}
    target = socket.create_server(("127.0.0.1", 0))
    url = "/connect?to=%d" % target.getsockname()[1]
    c = connect_unix(host_sock)
    c.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
              b"Upgrade: va-stream/1\r\n\r\n" % url.encode())
    assert b" 101 " in c.recv(1000)
    status, _, body = http_request(host_sock, "GET", url, headers=head)
    assert status == 503 and b"1 forwarded connections of this guest already, the limit " \
        b"(guest-streams in hostd.conf)" in body, (status, body)
    c.close()
    target.close()
    for bad in ("guest-calls = 0", "guest-streams = 201", "guest-calls = many"):
        hostd.write_conf("[hostd]\n%s\n" % bad)
        r = run([program("va-hostd"), "-c", os.path.join(hostd.conf_dir, "hostd.conf")],
                env=hostd.env)
        assert r.returncode != 0 and "hostd.conf:2" in r.stderr and "not a number" in r.stderr, r
    write_agent_conf("[agent]\ncalls = 0\n")
    r = run([program("va-agent"), "-f", agent_conf, "-c", "unix-listen:%s/x:-" % agent_dir],
            env={"VA_RUNTIME_DIR": agent_dir + "2", "VA_CONF_DIR": agent_dir})
    assert "calls = 0: needs a number from 1 to 1000" in r.stderr, r
    write_agent_conf("")


suite.main()
