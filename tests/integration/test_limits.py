#!/usr/bin/python3
# test_limits.py - each limit of the agent's server and of va-hostd is met: the error
# names it, others go on, the configuration changes it
#
# SPDX-License-Identifier: MIT
import concurrent.futures
import os
import re
import socket
import sys
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import (Process, Suite, connect_unix, http_request, need_all, program, run,  # noqa: E402
                    tmpdir, wait_until, xmlrpc_proxy)
from vatest.agent import NativeAgent  # noqa: E402
from vatest.hostd import Hostd, need_hostd  # noqa: E402

need_hostd()
need_all(program("va-agent"), program("va-client"))
suite = Suite()
agent = NativeAgent()
suite.cleanups.append(agent.stop)
hostd = Hostd(["web=" + agent.channel])
suite.cleanups.append(hostd.close)
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
        # What finds and ends those that have the places is never refused for them.
        jobs = [j["job"] for j in server().guest.exec.list() if j["state"] == "running"]
        assert len(jobs) == 48 and server().guest.exec.kill(jobs[0], "CONT")
        fault(1016, "still runs", server().guest.exec.forget, jobs[0])
        r = client("stat", "/")
        assert r.returncode == 0, r
    assert server().guest.stat("/")["type"] == "directory"


@suite.case("calls in agent.conf: all clients together; a forbidden one in a multicall, too")
def _():
    agent.configure("[agent]\ncalls = 5\n")
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
            job = [j for j in server().guest.exec.list() if j["state"] == "running"][-1]["job"]
            r = client("kill", "--signal", "KILL", str(job))
            assert r.returncode == 0, r
            held.result()
        agent.configure("")
    assert server().guest.stat("/")["type"] == "directory"


@suite.case("streams in agent.conf")
def _():
    agent.configure("[agent]\nstreams = 1\n")
    p = Process([program("va-client"), "forward", "-R", "web", "0", "1"], env=hostd.env)
    p.wait_log("->")            # its request that waits has the only place
    head = {"Connection": "Upgrade", "Upgrade": "va-stream/1"}

    def refused():
        status, _, body = http_request(rpc_sock, "GET", "/connect?to=1", headers=head)
        return status == 503 and b"1 forwarded connections at once, the limit " \
            b"(streams in agent.conf)" in body
    wait_until(refused, 10, "the limit")
    p.kill()
    agent.configure("")


@suite.case("64 programs run or are kept: the next is refused, a forgotten one makes room")
def _():
    # What the cases before started may still be ending.
    wait_until(lambda: not any(j["state"] == "running" for j in server().guest.exec.list()), 20,
               "no program")
    jobs = []
    try:
        try:
            for _ in range(70):
                jobs.append(server().guest.exec.start(["sleep", "600"])["job"])
        except xmlrpc.client.Fault as f:
            assert f.faultCode == 2 and "64 programs run or are followed, the limit (jobs in " \
                "agent.conf)" in f.faultString, f
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


@suite.case("jobs in agent.conf: a program too many is not even started; ended ones make room")
def _():
    e = server().guest.exec
    mark = os.path.join(tmpdir(), "started")
    agent.configure("[agent]\njobs = 2\n")
    ended = e.start(["true"])["job"]
    e.status(ended, 10000)
    held = [e.start(["sleep", "600"])["job"] for _ in range(2)]
    assert ended not in [j["job"] for j in e.list()]        # it made room
    fault(2, "2 programs run or are followed, the limit (jobs in agent.conf)", e.start,
          ["touch", mark])
    r = client("exec", "--", "touch", mark)
    assert r.returncode == 125 and "the limit (jobs in agent.conf)" in r.stderr, r
    assert not os.path.exists(mark)
    agent.configure("[agent]\njobs = 3\n")
    assert e.run(["touch", mark])["exit"] == 0 and os.path.exists(mark)
    for j in held:
        e.kill(j, "KILL")
        e.status(j, 10000)
    agent.configure("")


@suite.case("output in agent.conf: what all programs may keep; what has ended counts by its size")
def _():
    e = server().guest.exec
    agent.configure("[agent]\noutput = 8M\n")
    for j in e.list():
        e.forget(j["job"])
    # 8 MiB are four programs with 1 MiB for each stream, or one with 4.
    held = [e.start(["sleep", "600"])["job"] for _ in range(4)]
    fault(2, "the kept output of all programs may have 8388608 bytes, the limit (output in "
          "agent.conf)", e.start, ["true"])
    r = client("exec", "--", "true")
    assert r.returncode == 125 and "output in agent.conf" in r.stderr, r
    for j in held:
        e.kill(j, "KILL")
        e.status(j, 10000)
    # These keep next to nothing now: all of it is free again.
    assert len([j for j in e.list() if j["job"] in held]) == 4
    big = e.start(["sh", "-c", "head -c 5000000 /dev/zero"], {"output_max": 4000000})["job"]
    done = e.status(big, 10000)
    assert done["over"] and done["stdout_bytes"] - done["stdout_dropped"] == 4000000, done
    # It has 4 MB still, and is forgotten when they are needed.
    assert e.run(["true"])["exit"] == 0
    two = e.start(["true"], {"output_max": 3000000})["job"]
    assert e.status(two, 10000)["exit"] == 0
    assert big not in [j["job"] for j in e.list()]
    fault(2, "; output_max is 4200000", e.start, ["true"], {"output_max": 4200000})
    fault(1022, "0 to 16777216", e.start, ["true"], {"output_max": (16 << 20) + 1})
    # Below what a program gets unasked, it gets less.
    agent.configure("[agent]\noutput = 64K\n")
    done = e.run(["head", "-c", "100000", "/dev/zero"])
    assert len(done["stdout"]) == 32768 and done["stdout_dropped"] == 100000 - 32768, \
        {**done, "stdout": len(done["stdout"])}
    agent.configure("")


@suite.case("listeners in agent.conf")
def _():
    agent.configure("[agent]\nlisteners = 1\n")
    p = Process([program("va-client"), "forward", "-R", "web", "0", "1"], env=hostd.env)
    p.wait_log("->")
    r = client("forward", "-R", "web", "0", "1")
    assert r.returncode == 2 and "1 listeners at once, the limit (listeners in agent.conf)" \
        in r.stderr, r
    agent.configure("[agent]\nlisteners = 2\n")
    q = Process([program("va-client"), "forward", "-R", "web", "0", "1"], env=hostd.env)
    q.wait_log("->")
    p.kill()
    q.kill()
    agent.configure("")


@suite.case("event-queue in agent.conf: a host that is away finds the newest, and how many are gone")
def _():
    agent.configure("[agent]\nevent-queue = 64K\n")
    last = hostd.events()[-1]["seq"]
    hostd.process.kill()
    env = dict(agent.env, VA_GUEST="")
    data = '{"n": %d, "filling": "' + "x" * 9000 + '"}'
    for n in range(12):         # seven of 9 KB are 64 KiB
        run([program("va-client"), "event", "send", "many", data % n], env=env, check=True)
    wait_until(lambda: re.search(r"events: the oldest \d+ of those that wait for the host were "
                                 r"dropped: 65536 bytes are kept \(event-queue in agent.conf\)",
                                 agent.log()), 10, "the warning")
    hostd.start()
    hostd.wait_state("web", "connected", 30)

    def arrived():
        got = [x["data"] for x in hostd.events(last) if x["event"] == "many"]
        return got if got and got[-1]["n"] == 11 else None
    got = wait_until(arrived, 30, "the newest event")
    assert [x["n"] for x in got] == list(range(5, 12)), [x["n"] for x in got]
    first = [x["data"] for x in hostd.events(last) if "events_dropped" in x["data"]]
    assert first and first[0]["events_dropped"] >= 5, first
    agent.configure("")


@suite.case("guest-events in hostd.conf: more in a second are refused, and come later")
def _():
    hostd.write_conf("[hostd]\nguest-events = 2\n")
    n = hostd.log().count("configuration read again")
    hostd.reload()
    wait_until(lambda: hostd.log().count("configuration read again") > n, 10, "the reload")
    host = xmlrpc_proxy(agent.host_sock, 20).host

    def refused():
        try:
            host.event.send("burst", {})
            return None
        except xmlrpc.client.Fault as f:
            return f
    f = next(f for f in (refused() for _ in range(60)) if f)
    assert f.faultCode == -509 and "more than 2 events a second (bursts of 8), the limit " \
        "(guest-events in hostd.conf)" in f.faultString, f
    assert "guest web: sends more than 2 events a second, the limit (guest-events in " \
        "hostd.conf)" in hostd.log()
    # The agent's own are not lost.
    run([program("va-client"), "event", "send", "after-all"],
        env=dict(agent.env, VA_GUEST=""), check=True)
    hostd.wait_event("after-all", seconds=30)
    hostd.wait_event("events-refused", seconds=30)


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
    host_sock = agent.host_sock

    def start():
        return Process([program("va-client"), "run", "sleeper"],
                       env=dict(agent.env, VA_GUEST=""))
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
        assert r.returncode != 0 and "hostd.conf:2" in r.stderr and "needs a number" in r.stderr, r
    agent.write_conf("[agent]\ncalls = 0\n")
    r = run([program("va-agent"), "-f", agent.conf, "-c", "unix-listen:%s/x:-" % agent.dir],
            env={"VA_RUNTIME_DIR": agent.dir + "2", "VA_CONF_DIR": agent.dir})
    assert "calls = 0: needs a number from 1 to 1000" in r.stderr, r
    agent.write_conf("")


suite.main()
