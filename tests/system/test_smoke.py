#!/usr/bin/python3
# test_smoke.py - the main job in one guest: calls over virtio-serial and over
# isa-serial, by va-client and by stock clients; bad input; each agent process
# killed.  Also what the sanitizers' builds run.
#
# SPDX-License-Identifier: MIT
import base64
import hashlib
import json
import time
import xmlrpc.client

from vatest import Guest, Suite, connect_unix, fault, http_request, need, run, sanitized, \
    scale, wait_until, xmlrpc_proxy
from vatest.host import Proxy

BIG = hashlib.sha256(b"seed").digest() * 65536 + b"end"          # 2 MiB and a bit
SMALL = bytes(range(256)) * 64
# Slow under a sanitizer in an emulated guest; still far from a hang.
ANSWER_SECONDS = 20 if sanitized() else 5

suite = Suite()
guest = Guest(files={"/srv/big": BIG, "/srv/small": SMALL, "/srv/empty": b""})
suite.cleanups.append(guest.close)
suite.on_failure.append(guest.report)
proxies = {}
for kind in ("virtio", "serial"):
    proxies[kind] = Proxy(getattr(guest, kind), name="virtproxy-" + kind)
    suite.cleanups.append(proxies[kind].close)
    suite.on_failure.append(lambda p=proxies[kind]: "%s:\n%s" % (p.process.name,
                                                                 p.process.log()[-3000:]))
virtio, serial = proxies["virtio"], proxies["serial"]


def server(proxy=virtio):
    return xmlrpc_proxy(proxy.rpc, 60)


def alive(proxy=virtio):
    """The agent answers, and soon."""
    began = time.monotonic()
    server(proxy).guest.ping()
    took = time.monotonic() - began
    assert took < ANSWER_SECONDS * scale(), "ping took %.1f s" % took


def post(proxy, body, **headers):
    return http_request(proxy.rpc, "POST", "/RPC2", body,
                        {"Content-Type": "text/xml", **headers}, timeout=30)


for kind, proxy in proxies.items():
    @suite.case("%s: the agent answers" % kind)
    def _(proxy=proxy):
        proxy.wait_agent(120)
        alive(proxy)

    @suite.case("%s: va-client call guest.getfile /proc/meminfo" % kind)
    def _(proxy=proxy):
        r = proxy.client("call", "guest.getfile", "/proc/meminfo")
        assert r.returncode == 0, r
        inside = guest.sh("grep MemTotal: /proc/meminfo")
        assert inside in r.stdout, r.stdout

    @suite.case("%s: a file's bytes arrive exactly" % kind)
    def _(proxy=proxy):
        for path, content in (("/srv/small", SMALL), ("/srv/empty", b"")) + \
                ((("/srv/big", BIG),) if proxy is virtio else ()):
            r = proxy.client("call", "guest.getfile", path, text=False, seconds=60)
            assert r.returncode == 0, r.stderr
            assert r.stdout == content, "%d bytes of %s, expected %d" % (
                len(r.stdout), path, len(content))

    @suite.case("%s: pieces by xmlrpc.client add up to the file" % kind)
    def _(proxy=proxy):
        got, offset = b"", 0
        while True:
            piece = server(proxy).guest.getfile("/srv/small", offset, 5000)
            assert int(piece["offset"]) == offset
            got += piece["data"]
            offset += len(piece["data"])
            if piece["eof"]:
                break
            assert len(piece["data"]) == 5000
        assert got == SMALL


@suite.case("the agent is the build's own")
def _():
    maps = guest.sh("cat /proc/$(pidof va-agent | cut -d' ' -f1)/maps")
    runtime = {"address": "libasan", "thread": "libtsan"}.get(sanitized().split(",")[0])
    if runtime:
        assert runtime in maps, "the guest's agent has no sanitizer"
    else:
        assert ".so" not in maps, "the guest's agent is not the static one"


@suite.case("capabilities name the agent, its methods and limits")
def _():
    c = server().guest.capabilities()
    boot = guest.sh("cat /proc/sys/kernel/random/boot_id").strip()
    assert boot in json.dumps(c, default=str), c
    names = server().system.listMethods()
    assert "guest.getfile" in names and "guest.ping" in names
    for name in names:
        assert server().system.methodHelp(name), name
        assert server().system.methodSignature(name), name


@suite.case("the original's names do the same")
def _():
    names = server().system.listMethods()
    for name in ("getfile", "va.getfile"):
        assert name in names, name
        got = getattr(server(), name)("/srv/small")
        assert SMALL == getattr(got, "data", got) or SMALL == got, name
    server().va.ping()


@suite.case("dmesg is the guest's kernel log")
def _():
    r = virtio.client("dmesg")
    assert r.returncode == 0 and "Linux version" in r.stdout, r


@suite.case("curl calls a method")
def _():
    need("curl")
    body = "<methodCall><methodName>guest.ping</methodName></methodCall>"
    r = run(["curl", "-sS", "--unix-socket", virtio.rpc, "-H", "Content-Type: text/xml",
             "--data-binary", body, "http://guest/RPC2"])
    assert r.returncode == 0 and "<methodResponse>" in r.stdout, r
    assert "<fault>" not in r.stdout


@suite.case("xmlrpc.client and curl call every method that answers the same twice")
def _():
    need("curl")
    calls = [("guest.ping",), ("guest.getfile", "/srv/small"), ("guest.getdmesg", 2000),
             ("guest.capabilities",), ("system.listMethods",), ("system.getCapabilities",),
             ("system.methodExist", "guest.ping"), ("system.methodHelp", "guest.getfile"),
             ("system.methodSignature", "guest.getfile"), ("system.methodInfo", "guest.getfile"),
             ("system.multicall", [{"methodName": "guest.ping", "params": []}])]
    names = server().system.listMethods()
    calls += [(n, "/srv/small") for n in ("getfile", "va.getfile")]
    calls += [(n,) for n in ("getdmesg", "va.getdmesg", "ping", "va_ping", "va.ping", "hello",
                             "va_hello", "va.hello", "capabilities", "va.capabilities")]
    for name, *args in calls:
        assert name in names, name
        method = server()
        for word in name.split("."):
            method = getattr(method, word)
        r = run(["curl", "-sS", "--unix-socket", virtio.rpc, "-H", "Content-Type: text/xml",
                 "--data-binary", "@-", "http://guest/RPC2"],
                input=xmlrpc.client.dumps(tuple(args), name).encode(), check=True)
        (answer,), _ = xmlrpc.client.loads(r.stdout, use_builtin_types=True)
        assert answer == method(*args), (name, answer)


@suite.case("two hundred calls on one connection")
def _():
    s = server()
    for _i in range(200):
        s.guest.ping()


@suite.case("what cannot be read is a clear fault, at once")
def _():
    guest.sh("mkfifo /tmp/fifo; mknod /tmp/device c 1 5; ln -s /tmp/loop /tmp/loop; true")
    for path in ("/tmp/fifo", "/tmp/device", "/dev/zero", "/dev/ttyS0", "/proc/kmsg", "/etc",
                 "/tmp/loop", "/no/such/file", "", "relative", "/srv/small\nx"):
        began = time.monotonic()
        f = fault(server().guest.getfile, path)
        assert time.monotonic() - began < ANSWER_SECONDS * scale(), path
        assert f.faultString, path
    r = virtio.client("call", "guest.getfile", "/no/such/file")
    assert r.returncode not in (0, 3, 10, 11) and "/no/such/file" in r.stderr, r
    alive()


@suite.case("wrong arguments are faults")
def _():
    s = server()
    for args in ((), (1,), ("/srv/small", "x"), ("/srv/small", -1),
                 ("/srv/small", 0, 1, 2), ({},), ([[]],)):
        fault(s.guest.getfile, *args)
    fault(s.no.such.method)
    fault(getattr(s, "guest." + "x" * 2000))
    alive()


HOSTILE = {
    "a bad i8": b"<methodCall><methodName>guest.ping</methodName><params><param><value>"
                b"<i8>junk</i8></value></param></params></methodCall>",
    "50,000 nested elements": b"<a>" * 50000,
    "50,000 nested arrays": b"<methodCall><methodName>guest.ping</methodName><params><param>"
                            + b"<value><array><data>" * 50000,
    "an entity bomb": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">' + b"".join(
        b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
        + b"]><methodCall><methodName>&j;</methodName></methodCall>",
    "a quadratic entity": b'<!DOCTYPE l [<!ENTITY a "' + b"A" * 50000 + b'">]><methodCall>'
                          b"<methodName>" + b"&a;" * 10000 + b"</methodName></methodCall>",
    "no XML": b"\0\xff garbage",
    "nothing": b"",
    "bad UTF-8": b"<methodCall><methodName>\xc3\x28</methodName></methodCall>",
    "an unclosed call": b"<methodCall><methodName>guest.ping",
}


@suite.case("hostile XML is refused, and the agent goes on")
def _():
    pids = guest.pids("va-agent")
    for name, body in HOSTILE.items():
        began = time.monotonic()
        status, _headers, answer = post(virtio, body)
        took = time.monotonic() - began
        assert status >= 400 or b"<fault>" in answer, (name, status, answer[:200])
        assert took < ANSWER_SECONDS * scale(), "%s took %.1f s" % (name, took)
        alive()
    assert guest.pids("va-agent") == pids, "a process of the agent was replaced"


@suite.case("wrong HTTP is refused, and the agent goes on")
def _():
    for method, url, expected in (("GET", "/RPC2", (404, 405)), ("POST", "/elsewhere", (404, 405)),
                                  ("DELETE", "/RPC2", (404, 405, 501))):
        status = http_request(virtio.rpc, method, url)[0]
        assert status in expected, (method, url, status)
    status = post(virtio, b"x" * (5 << 20))[0]
    assert status == 413, status
    for junk in (b"\x16\x03\x01" * 100, b"GET / HTTP/9.9\r\n\r\n", b"A" * 100000):
        with connect_unix(virtio.rpc, 30) as s:
            try:
                s.sendall(junk)
                s.shutdown(1)
                while s.recv(4096):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                pass
        alive()


@suite.case("a hundred connections that send nothing harm nobody")
def _():
    idle = [connect_unix(virtio.rpc) for _i in range(100)]
    try:
        alive()
    finally:
        for s in idle:
            s.close()
    alive()


def agent_roles():
    """{role: pid} of the agent on the virtio port (the other has an own directory)."""
    out = guest.sh("for p in $(pidof va-agent); do "
                   "grep -q VA_RUNTIME_DIR /proc/$p/environ 2>/dev/null || "
                   "echo $p $(tr '\\0' ' ' </proc/$p/cmdline 2>/dev/null); done")
    roles = {}
    for line in out.splitlines():
        pid, _, words = line.partition(" ")
        role = next((r for r in ("server", "spawner") if "--role=" + r in words), "endpoint")
        roles[role] = int(pid)
    return roles


for role in ("server", "spawner", "endpoint"):
    @suite.case("the agent's %s is killed: it answers again" % role)
    def _(role=role):
        old = agent_roles()
        assert role in old, old
        guest.sh("kill -9 %d" % old[role])
        began = time.monotonic()

        def answers():
            return virtio.client("ping", "-t", "2").returncode == 0 or None
        wait_until(answers, 30, "an answer after %s died" % role)
        took = time.monotonic() - began
        print("# answered again after %.2f s" % took)
        new = wait_until(lambda: (lambda r: r if role in r and r[role] != old[role] else None)(
            agent_roles()), 10, "a new %s" % role)
        if role == "server":
            assert took < 2 * scale() + (ANSWER_SECONDS if sanitized() else 1), took
            assert new["endpoint"] == old["endpoint"], "the endpoint did not survive"
        assert server().guest.getfile("/srv/small")["data"] == SMALL


@suite.case("the host's virtproxy is killed: the next one serves")
def _():
    serial.process.kill()
    serial.restart()
    serial.wait_agent(60)
    r = serial.client("call", "guest.getfile", "/srv/small", text=False)
    assert r.returncode == 0 and r.stdout == SMALL


@suite.case("base64 in an answer is standard")
def _():
    _status, _headers, answer = post(
        virtio, b"<methodCall><methodName>guest.getfile</methodName><params><param><value>"
        b"<string>/srv/small</string></value></param></params></methodCall>")
    text = answer.split(b"<base64>")[1].split(b"</base64>")[0]
    assert base64.b64decode(text) == SMALL


suite.main()
