#!/usr/bin/python3
# test_limits.py - every limit and every refusal of both servers is met on a real guest,
# over virtio-serial and, the essential ones, over isa-serial; what the audit says
#
# Both agents of the guest read one agent.conf, so a case changes it for both.
#
# SPDX-License-Identifier: MIT
import concurrent.futures
import os
import re
import socket
import xmlrpc.client

from vatest import Process, Suite, connect_unix, fault, http_request, program, run, \
    tmpdir, wait_until
from vatest.both import INSIDE, Both
from vatest.hostd import need_hostd

need_hostd()
suite = Suite()
PREFIXES = ("", "/usr", "/usr/local")       # where a build may look
commands = os.path.join(tmpdir(), "commands")
os.mkdir(commands, 0o755)
for name, text in (("hold", "exec sleep 600"), ("hello", "echo hello")):
    with open(os.path.join(commands, name), "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\n%s\n" % text)
    os.chmod(os.path.join(commands, name), 0o755)
HOSTD_CONF = "[hostd]\ncommands = %s\n" % commands
both = Both(suite, HOSTD_CONF,
            files={"/srv/open": b"open\n", "/srv/shut/file": b"shut\n",
                   "/etc/passwd": "root:x:0:0::/root:/bin/sh\nworker:x:77:78::/srv:/bin/sh\n",
                   "/etc/group": "root:x:0:\nworker:x:78:\n"})
guest, hostd = both.guest, both.hostd
each, rpc, sock = both.each, both.rpc, both.sock
UPGRADE = {"Connection": "Upgrade", "Upgrade": "va-stream/1"}


def client(*args):
    return run([program("va-client"), *args], env=dict(hostd.env, VA_GUEST=""), seconds=60)


def background(*args):
    p = Process([program("va-client"), *args], env=dict(hostd.env, VA_GUEST=""))
    suite.cleanups.append(p.kill)
    return p


def configure(text, answer="policy was read anew"):
    """agent.conf of both agents; waits until both have read it."""
    n = guest.console().count(answer)
    guest.sh("".join("mkdir -p %s/etc/virtagent; cat >%s/etc/virtagent/agent.conf <<'END'\n%sEND\n"
                     % (p, p, text) for p in PREFIXES) +
             "for p in $(pidof va-agent); do tr '\\0' ' ' </proc/$p/cmdline | grep -q -e --role || "
             "kill -HUP $p; done")
    wait_until(lambda: guest.console().count(answer) >= n + 2, 20, "both agents to read it")


def configure_host(text):
    hostd.write_conf(HOSTD_CONF + text)
    n = hostd.log().count("configuration read again")
    hostd.reload()
    wait_until(lambda: hostd.log().count("configuration read again") > n, 20, "the reload")


def busy(text, call, *args):
    f = fault(call, *args)
    assert f.faultCode == 2 and text in f.faultString, f


def refused(text, call, *args):
    f = fault(call, *args)
    assert f.faultCode == 1 and text in f.faultString and "guest's policy" in f.faultString, f


def post(g, document):
    """What the server says to a document that is sent as it is."""
    status, _, body = http_request(sock(g), "POST", "/RPC2", body=document,
                                   headers={"Content-Type": "text/xml"}, timeout=60)
    return status, body.decode()


def call_of(value):
    return ("<?xml version='1.0'?><methodCall><methodName>guest.stat</methodName><params>"
            "<param><value>%s</value></param></params></methodCall>" % value).encode()


@suite.case("both guests are there")
def _():
    for g in INSIDE:
        hostd.wait_state(g, "connected", 60)
    guest.sh("mkdir -p /var/lib/virtagent.1; ln -s /etc/passwd /srv/link")


# --- what there may be at once ----------------------------------------------------

@each("calls of one client, and of all: the error names the limit, pings go on")
def _(g):
    configure("[agent]\ncalls = 3\nclient-calls = 2\n")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        held = [pool.submit(rpc(g).exec.run, ["sleep", "1021"]) for _ in range(2)]
        wait_until(lambda: len(guest.pids("sleep 1021")) == 2, 20, "two calls to run")
        busy("guest.stat: this client has 2 calls running, the limit of one (client-calls in "
             "agent.conf)", rpc(g).stat, "/")
        other = background("-G", g, "call", "guest.exec.run", '["sleep", "1021"]')
        wait_until(lambda: len(guest.pids("sleep 1021")) == 3, 20, "a third of another client")
        busy("guest.stat: 3 calls are running, the limit (calls in agent.conf)", rpc(g).stat, "/")
        status, _, body = http_request(sock(g), "GET", "/file?path=/srv/open")
        assert status == 503 and b"3 calls are running, the limit" in body, (status, body)
        r = client("stat", g + ":/")
        assert r.returncode == 2 and "3 calls are running" in r.stderr, r
        multi = xmlrpc.client.MultiCall(hostd.guest_rpc(g, 60))
        multi.guest.ping()
        multi.guest.stat("/")
        got = multi().results
        assert got[0] == ["pong"] and got[1]["faultCode"] == 2, got
        assert rpc(g).ping() == "pong"
        # Whoever's places are all taken can see by what, and end it.
        r = client("jobs", g)
        jobs = [x.split()[0] for x in r.stdout.splitlines() if " running " in x]
        assert len(jobs) == 3, r
        assert [client("kill", "-G", g, "--signal", "KILL", j).returncode for j in jobs] == [0] * 3
        assert [h.result()["signal"] for h in held] == [9, 9]
        other.wait(20)
    assert rpc(g).stat("/")["type"] == "directory"


@each("jobs, and what all of them keep of their output")
def _(g):
    configure("[agent]\njobs = 2\noutput = 4M\n")
    e = rpc(g).exec
    held = [e.start(["sleep", "1022"])["job"] for _ in range(2)]
    busy("2 programs run or are followed, the limit (jobs in agent.conf)", e.start, ["true"])
    r = client("exec", g, "--", "true")
    assert r.returncode == 125 and "the limit (jobs in agent.conf)" in r.stderr, r
    configure("[agent]\njobs = 9\noutput = 4M\n")
    busy("the kept output of all programs may have 4194304 bytes, the limit (output in "
         "agent.conf)", e.start, ["true"])
    for j in held:
        e.kill(j, "KILL")
        assert e.status(j, 10000)["signal"] == 9
    # While nobody follows it the newest are kept, and how many are gone is told.
    done = e.run(["head", "-c", "3000000", "/dev/zero"])
    assert len(done["stdout"]) == 1 << 20 and \
        done["stdout_dropped"] == 3000000 - (1 << 20), (len(done["stdout"]), done["exit"])


@each("listeners, and forwarded connections through either side")
def _(g):
    configure("[agent]\nlisteners = 1\nstreams = 1\n")
    held = background("forward", "-R", g, "0", "1")
    held.wait_log("->", 20)
    r = client("forward", "-R", g, "0", "1")
    assert r.returncode == 2 and "1 listeners at once, the limit (listeners in agent.conf)" \
        in r.stderr, r
    # The held one's request that waits has the only place of a connection.
    status, _, body = http_request(sock(g), "GET", "/connect?to=1", headers=UPGRADE)
    assert status == 503 and b"1 forwarded connections at once, the limit (streams in " \
        b"agent.conf)" in body, (status, body)
    held.kill()
    target = socket.create_server(("127.0.0.1", 0))
    configure_host("guest-streams = 1\n[policy]\nconnect = 127.0.0.1:*\n")
    port = target.getsockname()[1]
    guest.sh("%sva-client forward 0 %d >/tmp/fw 2>&1 & echo $! >/tmp/fw.pid" % (INSIDE[g], port))
    wait_until(lambda: "->" in guest.sh("cat /tmp/fw"), 20, "it to listen")
    inside = int(guest.sh("cat /tmp/fw").split(":")[1].split()[0])
    guest.sh(("(sleep 1023 | nc 127.0.0.1 %d) >/dev/null 2>&1 & " % inside) * 2)
    wait_until(lambda: "1 forwarded connections of this guest already, the limit (guest-streams "
               "in hostd.conf)" in guest.sh("cat /tmp/fw"), 20, "the host's limit")
    guest.sh("kill $(cat /tmp/fw.pid); killall -9 sleep")
    target.close()
    configure_host("")


@each("a guest's calls at once at its host")
def _(g):
    configure_host("guest-calls = 1\n")
    guest.sh("%sva-client run hold >/dev/null 2>&1 & echo $! >/tmp/run.pid" % INSIDE[g])
    wait_until(lambda: "the host has 1 calls of this guest already, the limit (guest-calls in "
               "hostd.conf)" in guest.sh("%sva-client call host.time 2>&1; true" % INSIDE[g]), 20,
               "the limit")
    assert hostd.rpc(60).host.ping() and rpc(g).ping() == "pong"
    guest.sh("kill $(cat /tmp/run.pid)")
    configure_host("")


@suite.case("events a second, and bytes of events that wait for a host that is away")
def _():
    configure("[agent]\nevent-queue = 64K\n")
    last = hostd.events()[-1]["seq"]
    hostd.process.kill()
    guest.sh("x=$(head -c 9000 /dev/zero | tr '\\0' x); n=0; while [ $n -lt 12 ]; do "
             "va-client event send many \"{\\\"n\\\": $n, \\\"filling\\\": \\\"$x\\\"}\" || exit 1; "
             "n=$((n+1)); done", seconds=60)
    wait_until(lambda: re.search(r"events: the oldest \d+ of those that wait for the host were "
                                 r"dropped: 65536 bytes are kept \(event-queue in agent.conf\)",
                                 guest.console()), 20, "the warning")
    # What it kept comes at once, which is more than the host takes in a second: the rest
    # comes later, and nothing of it is lost.
    hostd.write_conf(HOSTD_CONF + "guest-events = 1\n")
    hostd.start()
    for g in INSIDE:
        hostd.wait_state(g, "connected", 60)

    def arrived():
        got = [x["data"]["n"] for x in hostd.events(last) if x["event"] == "many"]
        return got if got and got[-1] == 11 else None
    assert wait_until(arrived, 60, "the newest event") == list(range(5, 12))
    assert "guest vm1: sends more than 1 events a second, the limit (guest-events in " \
        "hostd.conf)" in hostd.log(), hostd.tail()
    assert re.search(r"call host\.event\.send: guest vm1 uid=0 pid=\d+ stream=\d+ args=[0-9a-f]{16} "
                     r"[\d.]+ ms: fault -509: host.event.send: more than 1 events a second \(bursts "
                     r"of 4\), the limit \(guest-events in hostd.conf\)", hostd.log())
    configure_host("")
    assert max(x["data"].get("events_dropped", 0) for x in hostd.events(last)) >= 5


# --- documents and arguments ---------------------------------------------------------

@each("a document's size and depth, base64 of 1 MiB, entries of a list")
def _(g):
    c = connect_unix(sock(g))
    c.sendall(b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n"
              b"Content-Length: %d\r\n\r\n" % ((4 << 20) + 1))
    c.settimeout(30)
    head = c.recv(1000)
    while b"limit" not in head:
        more = c.recv(1000)
        assert more, head
        head += more
    c.close()
    assert b" 413 " in head and b"body of 4194305 bytes, limit 4194304" in head, head
    deep = "<array><data><value>" * 32 + "<i4>1</i4>" + "</value></data></array>" * 32
    status, body = post(g, call_of(deep))
    assert "-509" in body and "32" in body, (status, body)
    f = fault(rpc(g).getfile, "/srv/open", 0, (1 << 20) + 1)
    assert f.faultCode == -501 and "1048576" in f.faultString, f
    f = fault(rpc(g).list, "/", "", 1001)
    assert f.faultCode == -501 and "1000" in f.faultString, f
    multi = xmlrpc.client.MultiCall(hostd.guest_rpc(g, 60))
    for _ in range(257):
        multi.guest.ping()
    f = fault(multi)
    assert f.faultCode == -509 and "257 calls, limit 256" in f.faultString, f
    assert "1024 arguments" in fault(rpc(g).exec.start, ["x"] * 1025).faultString
    assert rpc(g).ping() == "pong"


@suite.case("a document's elements, and a base64 argument one byte too long")
def _():
    many = "<array><data>%s</data></array>" % ("<value><i4>1</i4></value>" * 32000)
    status, body = post("vm1", call_of(many))
    assert "-509" in body and "64000 elements" in body, (status, body)
    f = fault(rpc("vm1").putfile, "/srv/never", bytes((1 << 20) + 1))
    assert f.faultCode == -509 and "1048576" in f.faultString, f
    assert rpc("vm1").putfile("/srv/most", bytes(1 << 20)) and \
        guest.sh("stat -c %s /srv/most; ls /srv/never 2>&1; true").startswith("1048576\n")


# --- policy --------------------------------------------------------------------------

# One method of each class that has any, and the HTTP forms that stand on it.
CLASSES = {
    "read": ("guest.getfile", "/srv/open"), "write": ("guest.putfile", "/srv/never", b"x"),
    "exec": ("guest.exec.start", ["true"]), "power": ("guest.shutdown", "halt"),
    "net": ("guest.connect", "127.0.0.1:1"), "info": ("guest.ping",),
}
FORMS = {"read": ("GET", "/file?path=/srv/open"), "write": ("PUT", "/file?path=/srv/never"),
         "exec": ("GET", "/exec?arg=true"), "net": ("GET", "/connect?to=1")}


def method(g, name):
    m = hostd.guest_rpc(g, 60)
    for part in name.split("."):
        m = getattr(m, part)
    return m


@each("each class of methods is refused by rule and file, in a multicall and by HTTP, too")
def _(g):
    info = hostd.guest_rpc(g, 60).system.methodInfo
    for cls, (name, *_) in CLASSES.items():
        assert info(name)["class"] == cls and info(name)["allowed"], (name, info(name))
    # Not info: system.multicall is of that class.
    lines = {cls: i + 2 for i, cls in enumerate(c for c in CLASSES if c != "info")}
    configure("[policy]\n" + "".join("block = class:%s\n" % c for c in lines))
    multi = xmlrpc.client.MultiCall(hostd.guest_rpc(g, 60))
    for cls, line in lines.items():
        name, *args = CLASSES[cls]
        rule = "block = class:%s (" % cls
        f = fault(method(g, name), *args)
        assert f.faultCode == 1 and rule in f.faultString and \
            "agent.conf:%d)" % line in f.faultString and \
            "%s is refused by the guest's policy" % name in f.faultString, f
        assert info(name)["allowed"] is False, name
        getattr(multi, name)(*args)
        if cls in FORMS:
            verb, url = FORMS[cls]
            status, _, body = http_request(sock(g), verb, url, body=b"x" if verb == "PUT" else
                                           None, headers=UPGRADE if cls == "net" else {})
            assert status == 403 and rule.encode() in body, (url, status, body)
    multi.guest.ping()
    got = multi().results
    assert [x["faultCode"] for x in got[:-1]] == [1] * len(lines) and got[-1] == ["pong"], got
    r = client("shutdown", g)
    assert r.returncode == 2 and "block = class:power" in r.stderr, r
    configure("[policy]\nblock = class:info\n")
    refused("block = class:info", rpc(g).ping)
    configure("[policy]\nallow = guest.p* guest.hostname\n")
    assert rpc(g).ping() == "pong" and rpc(g).hostname()
    refused("no allow line names it", rpc(g).stat, "/")
    for profile in ("readonly", "hardened"):
        configure("[policy]\nprofile = %s\n" % profile)
        refused("profile = %s (" % profile, rpc(g).exec.start, ["true"])
        refused("profile = %s (" % profile, rpc(g).putfile, "/srv/never", b"x")
    configure("")
    assert rpc(g).exec.run(["true"])["exit"] == 0
    assert "never" not in guest.sh("ls /srv")


@each("paths and users: what a file method reaches, whom a program runs as")
def _(g):
    configure("[policy]\npath = /srv\npath-block = /srv/shut\nexec-user = worker\n")
    x = rpc(g)
    assert x.getfile("/srv/open")["data"] == b"open\n"
    for path, rule in (("/etc/passwd", "below no path line"), ("/srv/link", "below no path line"),
                       ("/srv/../etc/passwd", "below no path line"),
                       ("/srv/shut/file", "path-block = /srv/shut (")):
        refused(rule, x.getfile, path)
        status, _, body = http_request(sock(g), "GET", "/file?path=" + path)
        assert status == 403 and rule.encode() in body, (path, status, body)
    refused("path-block = /srv/shut (", x.putfile, "/srv/shut/new", b"x")
    refused("path-block = /srv/shut (", x.rename, "/srv/open", "/srv/shut/open")
    refused("path-block = /srv/shut (", x.list, "/srv/shut")
    refused("below no path line", x.remove, "/tmp/x")
    refused("below no path line", hostd.guest_rpc(g, 60).va.getfile, "/etc/passwd")
    r = client("get", g + ":/srv/shut/file", os.path.join(tmpdir(), "never"))
    assert r.returncode == 2 and "path-block" in r.stderr, r
    refused("running as root is refused", x.exec.start, ["true"])
    r = client("exec", g, "--", "id", "-u")
    assert r.returncode == 125 and "no exec-user line names that user" in r.stderr, r
    assert x.exec.run(["id", "-u"], {"user": "worker"})["stdout"] == b"77\n"
    # A file that is wrong changes nothing, and its line is named.
    configure("[policy]\nblock = class:nonsense\n", "the policy stays as it was")
    assert re.search(r'agent\.conf:2: there is no class "nonsense"', guest.console())
    configure("[agent]\njobs = 129\n", "the policy stays as it was")
    assert "agent.conf:2: jobs = 129: needs a number from 1 to 128" in guest.console()
    refused("running as root is refused", x.exec.start, ["true"])
    configure("")


@each("what a guest asks of its host is refused by the host's policy")
def _(g):
    other = "ser" if g == "vm1" else "vm1"

    def ask(*words):
        return guest.sh("%sva-client %s 2>&1; echo $?" % (INSIDE[g], " ".join(words)))
    assert ask("run", "hello") == "hello\n0\n"
    out = ask("call", "host.guests")        # it learns of no other
    assert '"%s"' % g in out and other not in out, out
    for words in (("host.kv.groups",), ("host.kv.export", g)):
        out = ask("call", *words)
        assert "admin" in out and out.endswith("2\n"), (words, out)
    out = ask("call", "host.kv.get", other, "host.name")
    assert out.endswith("2\n"), out
    out = ask("call", "host.connect", "127.0.0.1:1")
    assert "no connect line names it" in out and "host's policy" in out, out
    configure_host("[policy %s]\nblock = class:exec\n" % g)
    out = ask("run", "hello")
    assert out.endswith("125\n") and "block = class:exec" in out and "hostd.conf:4" in out, out
    # The other guest's policy is its own.
    assert guest.sh("%sva-client run hello" % INSIDE[other]) == "hello\n"
    configure_host("[policy]\nallow = host.ping\n")
    out = ask("call", "host.time")
    assert "no allow line names it" in out and "host's policy" in out, out
    assert "pong" in ask("call", "host.ping")
    assert re.search(r"call host\.command\.run: guest %s uid=0 pid=\d+ stream=\d+ args=[0-9a-f]{16} "
                     r"[\d.]+ ms: fault 1: .*block = class:exec" % g, hostd.log()), hostd.tail()
    configure_host("")


# --- audit -------------------------------------------------------------------------------

LINE = r"call %s: host uid=%d pid=(\d+) stream=(\d+) args=([0-9a-f]{16}) ([\d.]+) ms: %s"


@each("the audit: who, stream, method, digest, time, result; nothing in clear, all escaped")
def _(g):
    word = "hidden-%s" % g
    secret = (word + "\x1b[31m\nforged: line").encode()
    x = rpc(g)
    n = len(guest.console())

    def lines(name, result):
        """(pid, stream, digest, ms) of each line."""
        return re.findall(LINE % (re.escape(name), os.getuid(), result), guest.console()[n:])
    for arg in (secret, secret, b"another"):
        x.exec.run(["true", arg])
    wait_until(lambda: len(lines("guest.exec.run", "ok")) == 3, 20, "three lines")
    got = lines("guest.exec.run", "ok")
    assert all(pid == str(os.getpid()) for pid, _, _, _ in got), got
    digests = [d for _, _, d, _ in got]
    assert digests[0] == digests[1] != digests[2], digests
    assert all(0 < float(ms) < 60000 for _, _, _, ms in got), got
    fault(x.putfile, b"/nosuch/" + secret, b"x")
    wait_until(lambda: lines("guest.putfile", r"fault 1\d+: "), 20, "the failure's line")
    configure("[policy]\nblock = guest.put*\n")
    fault(x.putfile, b"/tmp/" + secret, b"x")
    wait_until(lambda: lines("guest.putfile", r"fault 1: guest.putfile: .*block = guest.put\*"),
               20, "the refusal's line")
    configure("")
    # Calls inside a multicall have a line each, and so have the HTTP forms.
    n = len(guest.console())
    multi = xmlrpc.client.MultiCall(hostd.guest_rpc(g, 60))
    multi.guest.mkdir("/srv/m-" + g)
    multi.guest.remove("/srv/m-" + g)
    list(multi())
    http_request(sock(g), "GET", "/exec?arg=true")
    for name in ("guest.mkdir", "guest.remove", "guest.exec.start"):
        wait_until(lambda name=name: lines(name, "ok"), 20, name)
    text = guest.console()
    assert "\x1b" not in text and "\nforged" not in text, "not escaped"
    for line in text.splitlines():
        assert not ("call guest." in line and ": ok" in line and word in line), line


if __name__ == "__main__":
    suite.main()
