#!/usr/bin/python3
"""The host's server: its methods, who calls, and what a guest may know.

SPDX-License-Identifier: MIT
"""
import os
import re
import socket
import sys
import threading
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Suite, connect_unix, http_request, tmpdir, wait_until
from vatest.hostd import FakeGuest, Hostd, need_hostd

need_hostd()
suite = Suite()
chans = {n: os.path.join(tmpdir(), "c-" + n) for n in ("red", "blue")}
hostd = Hostd(["%s=unix-connect:%s:-" % nc for nc in chans.items()])
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)
guests = {n: FakeGuest(c, agent_id="id-" + n) for n, c in chans.items()}
for g in guests.values():
    suite.cleanups.append(g.close)


def fault(code, text, fn, *args):
    """fn(*args) must fail with that fault."""
    try:
        r = fn(*args)
    except xmlrpc.client.Fault as e:
        assert e.faultCode == code, e
        assert text in e.faultString, e
        return
    raise AssertionError("no fault, but %r" % (r,))


@suite.case("ping, hello, time and capabilities answer the host's own clients")
def _():
    h = hostd.rpc()
    assert h.host.ping() == "pong"
    hello = h.host.hello()
    assert hello["side"] == "host" and hello["host"] == socket.gethostname(), hello
    assert "guest" not in hello
    assert abs(h.host.time()["seconds"] - __import__("time").time()) < 5
    caps = h.host.capabilities()
    rows = {m["name"]: m for m in caps["methods"]}
    assert "host.guests" in rows and "va.ping" in rows, rows
    assert all(m["allowed"] for m in rows.values())
    assert rows["host.guest"]["signature"] == "S:|s" and rows["host.guest"]["class"] == "read"
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", caps["agent_id"])
    assert caps["agent_id"] == h.host.capabilities()["agent_id"]


@suite.case("a marked call runs once, and what became of it can be asked")
def _():
    hostd.wait_state("red", "connected")
    red = guests["red"]
    for i, (path, rpc) in enumerate(((hostd.sock, hostd.rpc()), (red.host, red.call_host()))):
        agent = rpc.host.capabilities()["agent_id"]
        body = xmlrpc.client.dumps((), "host.hello")

        def send(call_id):
            return http_request(path, "POST", "/RPC2", body,
                                {"Content-Type": "text/xml", "Virtagent-Call": call_id})[2]
        call_id = agent + "/11111111-0000-4000-8000-%012d" % i
        assert rpc.host.outcome("%s/never%d" % (agent, i))["state"] == "never"
        assert b"hello" not in send(call_id) and b"came before" in send(call_id)
        got = rpc.host.outcome(call_id)
        assert got["state"] == "done" and got["result"]["side"] == "host", got
        assert b"another va-hostd" in send("other/%d" % i)
        fault(5, "another agent", rpc.host.outcome, "other/1")


@suite.case("system.* describes the methods")
def _():
    h = hostd.rpc()
    names = h.system.listMethods()
    for name in ("host.ping", "host.events", "system.multicall"):
        assert name in names, names
    assert "host" in h.system.methodHelp("host.ping")
    r = h.system.multicall([{"methodName": "host.ping", "params": []},
                            {"methodName": "host.nothing", "params": []}])
    assert r[0] == ["pong"] and r[1]["faultCode"], r


@suite.case("the original's names keep their arguments and results")
def _():
    h = hostd.rpc()
    for name in ("va_ping", "va.ping", "ping", "va_hello", "va.hello", "hello"):
        assert isinstance(getattr(h, name)(), str), name
    assert isinstance(h.va_hello("dummy"), str)
    for name in ("va.capabilities", "capabilities"):
        r = getattr(h, name)()
        assert r["version"] == "1.0" and "va.ping" in r["methods"], r


@suite.case("a guest calls its host, which knows it by the socket")
def _():
    for name, g in guests.items():
        hostd.wait_state(name, "connected")
        hello = g.call_host().host.hello()
        assert hello["guest"] == name, hello
        assert g.call_host().va.ping()


@suite.case("a guest learns of itself only")
def _():
    red = guests["red"].call_host()
    assert [x["name"] for x in red.host.guests()] == ["red"]
    assert red.host.guest()["name"] == "red"
    assert red.host.guest("red")["state"] == "connected"
    fault(1002, "no guest", red.host.guest, "blue")
    fault(1002, "no guest", red.host.guest, "there is none")
    fault(1002, "no guest", red.host.events, 0, 10, "blue")
    guests["blue"].call_host().host.event.send("secret-of-blue")
    assert all(e["guest"] == "red" for e in red.host.events()["events"])
    status, _, body = http_request(guests["red"].host, "GET", "/events?since=0")
    assert status == 200 and b"secret-of-blue" not in body and b'"red"' in body
    status, _, _ = http_request(guests["red"].host, "GET", "/events?guest=blue")
    assert status == 404
    # Every method of the server, called in every way a name can stand in it.
    for method in red.system.listMethods():
        if method.startswith("system."):
            continue
        for args in ((), ("blue",), (0, 100, "blue"), ({"guest": "blue"},)):
            try:
                answer = repr(getattr(red, method)(*args))
            except xmlrpc.client.Fault as e:
                answer = "" if args else e.faultString
            assert "id-blue" not in answer and "secret-of-blue" not in answer, method


@suite.case("only a guest sends events, and only as itself")
def _():
    fault(1022, "only a guest", hostd.rpc().host.event.send, "x")
    seq = guests["blue"].call_host().host.event.send("hello-there", {"guest": "red", "n": 1})
    e = [x for x in hostd.events(seq - 1) if x["seq"] == seq][0]
    assert e["guest"] == "blue" and e["data"] == {"guest": "red", "n": 1}, e


@suite.case("the audit line names the guest, and who called inside it")
def _():
    guests["red"].call_host().host.hello()
    line = [x for x in hostd.log().splitlines() if "host.hello" in x and "guest red" in x][-1]
    assert re.search(r"uid=%d\b" % os.getuid(), line), line
    assert re.search(r"pid=%d\b" % os.getpid(), line), line
    assert re.search(r"stream=\d+", line), line
    hostd.rpc().host.hello()
    line = [x for x in hostd.log().splitlines() if "host.hello" in x][-1]
    assert "local uid=%d pid=%d" % (os.getuid(), os.getpid()) in line, line


@suite.case("who is no virtproxy is not let in by a guest's socket")
def _():
    s = connect_unix(os.path.join(hostd.guest_dir("red"), "host.sock"))
    try:
        s.sendall(b"POST /RPC2 HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert s.recv(100) == b""
    except ConnectionError:
        pass
    s.close()
    hostd.process.wait_log("guest red: a connection is refused")


@suite.case("policy: what a guest may call is the host's to say")
def _():
    hostd.write_conf("[policy red]\nblock = host.time\n[policy]\nblock = host.guests\n")
    hostd.reload()
    red, blue = guests["red"].call_host(), guests["blue"].call_host()
    wait_until(lambda: "configuration read again" in hostd.log(), 10, "the reload")
    fault(1, "hostd.conf:2", red.host.time)
    assert blue.host.time()["seconds"]
    fault(1, "hostd.conf:4", blue.host.guests)
    r = red.system.multicall([{"methodName": "host.time", "params": []}])
    assert r[0]["faultCode"] == 1, r
    for rpc, want in ((red, False), (blue, True), (hostd.rpc(), True)):
        rows = {m["name"]: m["allowed"] for m in rpc.host.capabilities()["methods"]}
        assert rows["host.time"] == want == rpc.system.methodInfo("host.time")["allowed"]
        assert rows["host.hello"]
    assert len(hostd.rpc().host.guests()) == 2
    hostd.write_conf("")
    hostd.reload()
    wait_until(lambda: hostd.log().count("configuration read again") == 2, 10, "the reload")
    assert red.host.time()


@suite.case("wrong requests are answered and harm nobody")
def _():
    for path in (hostd.sock, guests["red"].host):
        for method, url, body, want in (
                ("GET", "/", None, 404), ("PUT", "/RPC2", b"x", 405), ("GET", "/RPC2", None, 405),
                ("GET", "/events?since=x", None, 400), ("GET", "/events?follow=maybe", None, 400)):
            status, _, _ = http_request(path, method, url, body)
            assert status == want, (path, method, url, status)
        status, _, body = http_request(path, "POST", "/RPC2", b"<i8>junk</i8>" * 10)
        assert status == 200 and b"fault" in body
        bomb = b"<?xml version='1.0'?><methodCall><methodName>host.ping</methodName><params>" + \
            b"<param><value>" + b"<array><data><value>" * 50000
        status, _, body = http_request(path, "POST", "/RPC2", bomb)
        assert status == 200 and b"fault" in body
    assert guests["red"].call_host().host.ping() == hostd.rpc().host.ping() == "pong"


@suite.case("a guest that opens many connections does not lock out the others")
def _():
    held = []
    try:
        for _ in range(60):
            s = connect_unix(guests["red"].host)
            s.sendall(b"POST /RPC2 HTTP/1.1\r\n")
            held.append(s)
        assert guests["blue"].call_host().host.ping() == "pong"
        assert hostd.rpc().host.ping() == "pong"
    finally:
        for s in held:
            s.close()


@suite.case("100 calls at once from both guests are answered")
def _():
    answers = []

    def many(g):
        p = g.call_host()
        answers.extend(p.host.ping() for _ in range(10))
    threads = [threading.Thread(target=many, args=(g,)) for g in list(guests.values()) * 5]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert answers == ["pong"] * 100, answers


suite.main()
