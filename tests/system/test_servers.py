#!/usr/bin/python3
# test_servers.py - both servers and va-client as people use them: a real guest on
# both kinds of channel, a real va-hostd, va-client on the host and in the guest.
#
# SPDX-License-Identifier: MIT
import concurrent.futures
import os
import signal
import socket
import statistics
import subprocess
import threading
import time

from vatest import Process, Suite, http_request, program, run, scale, tmpdir, wait_until
from vatest.both import GUESTS, INSIDE, Both
from vatest.hostd import need_hostd

need_hostd()
suite = Suite()
PAGE = os.urandom(200000)
commands = os.path.join(tmpdir(), "commands")
os.mkdir(commands, 0o755)
both = Both(suite, "[hostd]\ncommands = %s\n[policy]\nconnect = 127.0.0.1:*\n" % commands,
            files={"/srv/page": PAGE, "/srv/small": b"small page\n",
                   "/etc/hosts": "127.0.0.1 localhost web.inside\n",
                   # Where the build's prefix puts them.
                   **{"/usr%s/lib/virtagent/commands/upper" % local:
                      ("#!/bin/sh\n# Makes it large.\ntr a-z A-Z\nexit 5\n", 0o755)
                      for local in ("", "/local")}})
guest, hostd, each, rpc_sock = both.guest, both.hostd, both.each, both.sock


def va(*args, code=0, **kw):
    kw.setdefault("seconds", 60)
    r = run([program("va-client"), *args], env=dict(hostd.env, VA_GUEST=""), **kw)
    assert r.returncode == code, (args, r.returncode, r.stdout[-500:], r.stderr)
    return r.stdout


def background(*args):
    p = Process([program("va-client"), *args], env=dict(hostd.env, VA_GUEST=""))
    suite.cleanups.append(p.kill)
    return p


@suite.case("va-client guests lists both, connected")
def _():
    for g in GUESTS:
        hostd.wait_state(g, "connected", 60)
    out = va("guests")
    assert "vm1" in out and "ser" in out and "connected" in out, out
    guest.sh("httpd -p 127.0.0.1:80 -h /srv; mkdir -p /var/lib/virtagent.1")


# --- forward -------------------------------------------------------------------

class Forward:
    def __init__(self, *args):
        self.process = background("forward", *args)
        self.port = int(self.process.wait_log(r"^127\.0\.0\.1:(\d+) ", 20).group(1))

    def fetch(self, path, timeout=60):
        c = socket.create_connection(("127.0.0.1", self.port), timeout=timeout * scale())
        with c:
            c.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path.encode())
            c.shutdown(socket.SHUT_WR)
            data = b""
            while True:
                try:
                    more = c.recv(65536)
                except ConnectionResetError:    # closed with our request unread
                    more = b""
                if not more:
                    return data.split(b"\r\n\r\n", 1)[-1]
                data += more

    def end(self):
        self.process.signal(signal.SIGINT)
        return self.process.wait(20)


@each("forward reaches a server inside the guest, by address and by a name of /etc/hosts")
def _(g):
    f = Forward(g, "0", "web.inside:80")
    assert f.fetch("/page") == PAGE
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        got = list(pool.map(lambda _: f.fetch("/small"), range(12)))
    assert got == [b"small page\n"] * 12, got
    assert f.end() == 130
    f = Forward(g, "0", "no.such.name:80")
    assert f.fetch("/small") == b""
    f.process.wait_log("no.such.name:80: no such host: needs an address or a name in /etc/hosts")
    f = Forward(g, "0", "127.0.0.1:81")
    assert f.fetch("/small") == b""
    f.process.wait_log("127.0.0.1:81: Connection refused")


def echo_server():
    """A server on the host that answers in capitals once it has all; its port."""
    s = socket.create_server(("127.0.0.1", 0), backlog=64)
    suite.cleanups.append(s.close)

    def one(c):
        with c:
            data = b""
            while True:
                more = c.recv(65536)
                if not more:
                    break
                data += more
            c.sendall(data.upper())

    def loop():
        while True:
            try:
                c, _ = s.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(c,), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()
    return s.getsockname()[1]


PORT = echo_server()


@each("forward --reverse: the guest listens, this machine connects; it ends with the client")
def _(g):
    f = Forward("-R", g, "0", "127.0.0.1:%d" % PORT)
    for i in range(3):
        assert guest.sh("echo from inside %d | nc 127.0.0.1 %d" % (i, f.port)) == \
            "FROM INSIDE %d\n" % i
    f.process.kill()
    wait_until(lambda: "failed" in guest.sh("nc -z 127.0.0.1 %d || echo failed" % f.port), 20,
               "the guest to listen no more")


@each("forward inside the guest reaches what the host's policy names, and nothing else")
def _(g):
    guest.sh("%sva-client forward 0 %d >/tmp/fw 2>&1 & echo $! >/tmp/fw.pid" % (INSIDE[g], PORT))
    wait_until(lambda: "->" in guest.sh("cat /tmp/fw"), 20, "it to listen")
    port = int(guest.sh("cat /tmp/fw").split(":")[1].split()[0])
    assert guest.sh("echo hello host | nc 127.0.0.1 %d" % port) == "HELLO HOST\n"
    out = guest.sh("%sva-client call host.connect 127.0.0.2:%d; echo $?" % (INSIDE[g], PORT))
    assert "no connect line names it" in out and "host" in out, out
    guest.sh("kill $(cat /tmp/fw.pid)")


# --- Ctrl-C ---------------------------------------------------------------------------

def held(name):
    """Who in the guest has the file open."""
    return guest.sh("ls -l /proc/[0-9]*/fd 2>/dev/null | grep -F '%s' || true" % name)


@each("Ctrl-C on exec ends the guest's program")
def _(g):
    for options in ((), ("--limit", "500")):
        p = background("exec", *options, g, "--", "sleep", "4321")
        wait_until(lambda: guest.pids("sleep 4321"), 30, "the program")
        p.signal(signal.SIGINT)
        assert p.wait(20) == 130
        wait_until(lambda: not guest.pids("sleep 4321"), 20, "the program to be gone")


@each("Ctrl-C on get and on put: nothing is left here, nothing open or in place there")
def _(g):
    here = os.path.join(tmpdir(), "ctrl-c-" + g)
    os.mkdir(here)
    guest.sh("truncate -s 8G /tmp/endless")
    p = background("get", "%s:/tmp/endless" % g, here + "/got")
    wait_until(lambda: os.listdir(here) and held("/tmp/endless"), 30, "the transfer")
    p.signal(signal.SIGINT)
    assert p.wait(20) == 130
    assert os.listdir(here) == []
    wait_until(lambda: not held("/tmp/endless"), 20, "the guest to let go")
    p = subprocess.Popen([program("va-client"), "put", "-", "%s:/tmp/put-%s" % (g, g)],
                         stdin=subprocess.PIPE, env=dict(hostd.env, VA_GUEST=""))
    try:
        p.stdin.write(os.urandom(70000))
        p.stdin.flush()
        wait_until(lambda: held("/tmp/"), 30, "the transfer")
        p.send_signal(signal.SIGINT)
        assert p.wait(20 * scale()) == 130
    finally:
        p.kill()
        p.stdin.close()
        p.wait()
    wait_until(lambda: not held("/tmp/"), 20, "the guest to let go")
    assert guest.sh("ls /tmp/put-%s 2>/dev/null || true" % g) == ""
    assert va("put", "-", "%s:/tmp/put-%s" % (g, g), input="whole\n") == ""
    assert guest.sh("cat /tmp/put-%s; rm /tmp/put-%s" % (g, g)) == "whole\n"


# --- dmesg ---------------------------------------------------------------------------

def follows(g, word):
    """Marks come while they are written, once each, in order."""
    p = background("dmesg", "-w", g)
    p.wait_log("Linux version", 30)
    for i in range(3):
        guest.sh("echo '<4>%s %d' >/dev/%s" % (word, i, "kmsg.away" if word == "away" else "kmsg"))
        p.wait_log(r"^\[ *\d+\.\d+\] %s %d$" % (word, i), 20)
    lines = [x for x in p.log().splitlines() if word in x]
    assert len(lines) == 3, lines
    p.signal(signal.SIGINT)
    assert p.wait(10) == 130


@each("dmesg -w shows what is kept, then each message once as it comes")
def _(g):
    follows(g, "mark-" + g)


@suite.case("dmesg -w without /dev/kmsg: by syslog(2)")
def _():
    guest.sh("mv /dev/kmsg /dev/kmsg.away")
    try:
        follows("vm1", "away")
        try:
            hostd.guest_rpc("vm1", 60).guest.getdmesg(16384, 1)
            raise AssertionError("messages had numbers")
        except Exception as e:
            assert "no /dev/kmsg" in str(e), e
    finally:
        guest.sh("mv /dev/kmsg.away /dev/kmsg")


@suite.case("guest.getdmesg by number: what came since, waiting for it; lost ones are told")
def _():
    g = hostd.guest_rpc("vm1", 60).guest
    n = 0
    while True:
        got = g.getdmesg(65536, n)
        if not got["data"]:
            break
        n = got["next"]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: hostd.guest_rpc("vm1", 60).guest.getdmesg(65536, n, 30))
        guest.sh("echo '<4>number please' >/dev/kmsg")
        got = waiting.result()
    assert b"number please" in got["data"] and got["next"] == n + 1 and got["lost"] == 0, got
    assert g.getdmesg(65536, n)["data"] == got["data"]
    # More than the ring holds: the gap is counted.
    guest.sh("i=0; while [ $i -lt 40 ]; do head -c 900 /dev/zero | tr '\\0' x; i=$((i+1)); echo;"
             "done >/tmp/noise; i=0; while [ $i -lt 30 ]; do while read -r l; do "
             "echo \"$l\" >/dev/kmsg; done </tmp/noise; i=$((i+1)); done", seconds=120)
    got = g.getdmesg(65536, n)
    assert got["lost"] > 0 and b"were overwritten unread" in got["data"], got["lost"]


@suite.case("curl shows the messages: GET /dmesg")
def _():
    status, head, body = http_request(rpc_sock("vm1"), "GET", "/dmesg")
    assert status == 200 and head["Content-Type"].startswith("text/plain"), (status, head)
    assert body.count(b"\n") > 50
    status, _, body = http_request(rpc_sock("vm1"), "GET", "/dmesg?follow=maybe")
    assert status == 400 and b"follow=maybe" in body, body
    r = subprocess.run(["curl", "-sN", "--max-time", "2", "--unix-socket", rpc_sock("vm1"),
                        "http://x/dmesg?follow=1"], capture_output=True, timeout=60)
    assert r.returncode == 28 and r.stdout.count(b"\n") > 50, r


# --- commands ---------------------------------------------------------------------------

@each("run: input, output and status of a command stream both ways")
def _(g):
    assert va("run", g, "upper", input="shout\n", code=5) == "SHOUT\n"
    assert "upper" in va("commands", g) and "Makes it large." in va("commands", g)
    with open(os.path.join(commands, "lower"), "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\n# Makes it small.\necho begin $VA_GUEST\ntr A-Z a-z\necho oops >&2\nexit 6\n")
    os.chmod(os.path.join(commands, "lower"), 0o755)
    out = guest.sh("(echo WHISPER; sleep 1; echo MORE) | %sva-client run lower 2>/tmp/err; "
                   "echo $?; cat /tmp/err" % INSIDE[g])
    assert out == "begin %s\nwhisper\nmore\n6\noops\n" % g, out
    assert "Makes it small." in guest.sh(INSIDE[g] + "va-client commands")
    # It comes while it runs: the first line is here before the input is there.
    guest.sh("mkfifo /tmp/in; %sva-client run lower </tmp/in >/tmp/out 2>&1 & "
             "echo $! >/tmp/run.pid" % INSIDE[g])
    guest.sh("exec 9>/tmp/in; n=0; until grep -q begin /tmp/out || [ $n -gt 100 ]; do "
             "usleep 100000; n=$((n+1)); done; grep begin /tmp/out; echo DONE >&9")
    wait_until(lambda: "done" in guest.sh("cat /tmp/out"), 20, "the end")
    guest.sh("rm /tmp/in")


# --- each verb ----------------------------------------------------------------------------

@each("the verbs that a user of incus, virsh or scp tries first")
def _(g):
    there, here = "%s:/tmp/%s" % (g, g), os.path.join(tmpdir(), "v-" + g)
    va("mkdir", there)
    with open(here, "w", encoding="utf-8") as f:
        f.write("carried\n")
    va("cp", here, there + "/a")
    va("put", here, there + "/b")
    assert va("ls", there).split() == ["a", "b"]
    assert "carried" in va("cat", there + "/a")
    assert "8" in va("stat", there + "/a") and "file" in va("stat", there + "/a")
    va("get", there + "/b", here + "2")
    with open(here + "2", encoding="utf-8") as f:
        assert f.read() == "carried\n"
    va("rm", "-r", there)
    va("stat", there, code=1)
    assert "kthreadd" in va("ps", g) and "init" in va("ps", g)
    assert "/tmp" in va("df", g) and "127.0.0.1/8" in va("ip", g)
    assert guest.sh("uname -r").strip() in va("exec", g, "uname", "-r")
    job = va("exec", "-d", g, "sleep", "1010").strip()
    assert "sleep" in va("jobs", g)
    va("kill", g, job)
    assert "guest.connect" in va("methods", g) and "session" in va("info", g)
    assert "time=" in va("ping", g)
    va("wait", g)
    va("kv", "set", g, "user.color=blue")
    assert va("kv", "get", g, "user.color") == "blue"
    assert "agent-up" in va("events", "--since", "0", "--guest", g)
    r = run(["script", "-qec", "%s shell %s" % (program("va-client"), g), "/dev/null"],
            input="echo $((6 * 7)); exit 3\n", env=dict(hostd.env, VA_GUEST=""), seconds=60)
    assert "42" in r.stdout and r.returncode == 3, r


@each("facts of the machine are its own")
def _(g):
    x = hostd.guest_rpc(g, 60).guest
    assert x.osinfo()["kernel_release"] == guest.sh("uname -r").strip()
    assert x.hostname() == guest.sh("hostname").strip()
    assert x.uptime()["boot_id"] == guest.sh("cat /proc/sys/kernel/random/boot_id").strip()
    assert x.memory()["total"] == \
        int(guest.sh("awk '/^MemTotal/{print $2}' /proc/meminfo")) * 1024
    assert [p for p in x.processes()["processes"] if p["pid"] == 1]
    assert "lo" in [i["name"] for i in x.interfaces()]
    assert [m for m in x.filesystems() if m["mountpoint"] == "/proc"]
    assert x.load()["cpus"] == 1 and isinstance(x.disks(), list)


@each("the audit line: who, by which stream, a digest, never the arguments, escaped")
def _(g):
    secret = "secret-%s\x1b[31m\nforged: line" % g
    va("exec", g, "--", "true", secret)
    va("stat", "%s:/tmp/%s" % (g, secret), code=1)
    wait_until(lambda: "call guest.stat" in guest.console(), 20, "the audit line")
    lines = [x for x in guest.console().splitlines() if "call guest.exec.start: host" in x]
    assert any("uid=%d" % os.getuid() in x and " pid=" in x and " stream=" in x and " args=" in x
               and x.rstrip().endswith(": ok") for x in lines), lines[-3:]
    assert secret not in guest.console() and "\nforged" not in guest.console()
    assert not [x for x in lines if "secret" in x], lines


# --- nobody delays the others -----------------------------------------------------------

@suite.case("a slow method, a stuck client and a flooding guest delay nobody's ping")
def _():
    stuck = [socket.socket(socket.AF_UNIX) for _ in range(8)]
    for s in stuck:         # ask for the page and never read it
        s.connect(rpc_sock("vm1"))
        s.sendall(b"GET /file?path=/srv/page HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
    slow = [background("exec", "vm1", "--", "sleep", "1005") for _ in range(4)]
    wait_until(lambda: len(guest.pids("sleep 1005")) >= 4, 30, "the slow programs")
    # vm1 floods its host with calls and events; the other guest and the host's own
    # clients must not notice.
    guest.sh("for i in 1 2 3 4; do (while [ ! -e /tmp/stop ]; do va-client event send flood "
             ">/dev/null 2>&1; done) & done")
    bulk = background("exec", "vm1", "--", "sh", "-c", "cat /dev/zero | head -c 60000000 | md5sum")

    def times(call, n):
        got = []
        for _ in range(n):
            began = time.monotonic()
            call()
            got.append((time.monotonic() - began) * 1000)
        return got
    vm1, ser = hostd.guest_rpc("vm1", 60), hostd.guest_rpc("ser", 60)
    host = hostd.rpc(60)
    try:
        for name, call, limit in (("vm1", vm1.guest.ping, 1500), ("ser", ser.guest.ping, 3000),
                                  ("host", host.host.ping, 300)):
            got = sorted(times(call, 60))
            p50, p99 = statistics.median(got), got[-1]
            print("# ping of %-4s under load: p50 %.1f ms, worst of 60 %.1f ms" % (name, p50, p99))
            assert p99 < limit * scale(), (name, got[-5:])
    finally:
        guest.sh("touch /tmp/stop")
        for s in stuck:
            s.close()
        for p in slow + [bulk]:
            p.kill()
        guest.sh("wait; rm -f /tmp/stop")


if __name__ == "__main__":
    suite.main()
