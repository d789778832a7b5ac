#!/usr/bin/python3
# test_commands.py - commands both ways: the host runs the guest's, the guest runs
# the host's, by a real va-agent and va-hostd; each refusal on both sides
#
# SPDX-License-Identifier: MIT
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import (SRC, Process, Skip, Suite, alive, connect_unix, http_request,  # noqa: E402
                    need_all, program, run, scale, tmpdir, wait_until, xmlrpc_proxy)
from vatest.agent import NativeAgent  # noqa: E402
from vatest.hostd import Hostd, need_hostd  # noqa: E402

need_hostd()
need_all(program("va-agent"), program("va-client"))
suite = Suite()


class Side:
    """One side's directories; call() and listed() come from the other side."""

    def __init__(self, name):
        self.name = name
        self.dirs = [os.path.join(tmpdir(), "%s-cmd%d" % (name, i)) for i in (1, 2)]
        for d in self.dirs:
            os.mkdir(d, 0o755)
        self.conf = "commands = %s\n" % ":".join([*self.dirs, "/nonexistent/commands"])

    def add(self, name, text, mode=0o755, where=0):
        path = os.path.join(self.dirs[where], name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def proxy(self):
        rpc = hostd.guest_rpc("web", 60) if self.name == "guest" else \
            xmlrpc_proxy(agent.host_sock, 60)
        return getattr(rpc, self.name)

    def run(self, *args):
        return self.proxy().command.run(*args)

    def listed(self):
        return {c["name"]: c for c in self.proxy().commands()}

    def refused(self, code, text, *args):
        try:
            r = self.run(*args)
        except xmlrpc.client.Fault as e:
            assert e.faultCode == code and text in e.faultString, (self.name, e)
            return
        raise AssertionError("%s ran %r: %r" % (self.name, args, r))


sides = [Side("guest"), Side("host")]
guest, host = sides
agent = NativeAgent("[agent]\n" + guest.conf)
suite.cleanups.append(agent.stop)
hostd = Hostd(["web=" + agent.channel], conf="[hostd]\n" + host.conf)
suite.cleanups.append(hostd.close)
suite.on_failure += [agent.log, hostd.tail]
hostd.wait_state("web", "connected")


def both(fn):
    def case():
        for side in sides:
            fn(side)
    return case


def each(name):
    return lambda fn: suite.case(name)(both(fn))


@each("listed by name, with the script's own description, from all directories")
def _(side):
    side.add("hello", "#!/bin/sh\n# Says hello.\necho hello\n")
    side.add("plain", "#!/bin/sh\necho plain\n", where=1)
    side.add("hello", "#!/bin/sh\n# Hidden by the first directory's.\n", where=1)
    side.add(".hidden", "#!/bin/sh\n")
    got = side.listed()
    assert got["hello"] == {"name": "hello", "description": "Says hello."}, got
    assert got["plain"] == {"name": "plain"} and ".hidden" not in got, got
    assert list(got) == sorted(got)


@each("argv, never a shell; stdin, stdout, stderr and the exit status exact")
def _(side):
    side.add("show", '#!/bin/sh\nfor a in "$@"; do printf "<%s>" "$a"; done\n'
             "cat\necho oops >&2\nexit 7\n")
    data = bytes(range(256)) * 1000
    r = side.run("show", ["a b", "$(id)", "", "*", b"\xff\n"], {"input": data})
    assert r["stdout"] == b"<a b><$(id)><><*><\xff\n>" + data, r["stdout"][:100]
    assert r["stderr"] == b"oops\n" and r["exit"] == 7 and r["signal"] == 0, r
    assert not r["timed_out"] and r["stdout_dropped"] == 0
    assert side.run("show")["stdout"] == b""
    side.add("die", "#!/bin/sh\nkill -USR1 $$\n")
    r = side.run("die")
    assert r["exit"] == 128 + signal.SIGUSR1 and r["signal"] == signal.SIGUSR1, r


@each("the environment says which side, which guest, and who called")
def _(side):
    side.add("env", "#!/bin/sh\nenv\n")
    got = dict(x.split("=", 1) for x in side.run("env")["stdout"].decode().splitlines())
    want = socket.gethostname() if side is guest else "web"
    assert got["VA_SIDE"] == side.name and got["VA_CALLER"] == str(os.getuid()), got
    assert got["VA_GUEST"] == got["NEGOTIATOR_GUEST"] == want, got
    assert "VA_CONF_DIR" not in got and "/bin" in got["PATH"], got


@suite.case("the host tells a guest its name; a host's client is no guest")
def _():
    r = guest.run("env", [], {"guest": "web"})
    assert b"\nVA_GUEST=web\n" in b"\n" + r["stdout"], r
    r = hostd.rpc().host.command.run("env")
    assert b"\nVA_GUEST=\n" in b"\n" + r["stdout"], r


@each("the last MiB of an endless output is kept, and the rest counted")
def _(side):
    side.add("much", "#!/bin/sh\nhead -c 5000000 /dev/zero\nprintf end\n"
             "head -c 1500000 /dev/zero >&2\n")
    r = side.run("much")
    # A guest's job makes room by the quarter, so it may keep less.
    least = 3 << 18 if side is guest else 1 << 20
    assert least <= len(r["stdout"]) <= 1 << 20 and r["stdout"].endswith(b"\0end"), r.keys()
    assert r["stdout_dropped"] == 5000003 - len(r["stdout"]), r["stdout_dropped"]
    assert len(r["stderr"]) + r["stderr_dropped"] == 1500000


@each("a program that reads no input, and one whose child holds its pipes, hold up nothing")
def _(side):
    side.add("deaf", "#!/bin/sh\nexit 3\n")
    assert side.run("deaf", [], {"input": b"x" * 900000})["exit"] == 3
    path = os.path.join(tmpdir(), side.name + "-pid")
    side.add("daemon", "#!/bin/sh\nsleep 600 &\necho $! > %s\necho started\n" % path)
    began = time.monotonic()
    assert side.run("daemon")["stdout"] == b"started\n"
    assert time.monotonic() - began < 20 * scale()
    with open(path, encoding="utf-8") as f:
        os.kill(int(f.read()), signal.SIGKILL)


@each("a time limit ends the whole group")
def _(side):
    path = os.path.join(tmpdir(), side.name + "-slow")
    side.add("slow", "#!/bin/sh\necho begun\nsleep 600 & echo $! > %s\nwait\n" % path)
    r = side.run("slow", [], {"timeout": 2 * scale()})
    assert r["timed_out"] and r["stdout"] == b"begun\n" and r["signal"] == signal.SIGTERM, r
    with open(path, encoding="utf-8") as f:
        child = int(f.read())
    wait_until(lambda: not alive(child), 10, "the program's child to be gone")
    side.add("stubborn", "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n")
    r = side.run("stubborn", [], {"timeout": scale()})
    assert r["timed_out"] and r["signal"] == signal.SIGKILL, r


@each("a caller that leaves takes the program with it")
def _(side):
    path = os.path.join(tmpdir(), side.name + "-left")
    side.add("long", "#!/bin/sh\necho $$ > %s.new\nmv %s.new %s\nsleep 600\n" % (path, path, path))
    body = xmlrpc.client.dumps(("long",), side.name + ".command.run").encode()
    sock = connect_unix(os.path.join(hostd.guest_dir("web"), "rpc.sock") if side is guest else
                        agent.host_sock)
    sock.sendall(b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n"
                 b"Content-Length: %d\r\n\r\n" % len(body) + body)
    wait_until(lambda: os.path.exists(path), 10, "the command to run")
    with open(path, encoding="utf-8") as f:
        pid = int(f.read())
    assert alive(pid)
    sock.close()
    wait_until(lambda: not alive(pid), 10, "the command to be killed")


@each("a name is never a part of a path")
def _(side):
    for name in ("", ".", "..", ".hidden", "../hello", "/bin/sh", "a/b", "a b", "x" * 65, "a\nb"):
        side.refused(1022, "a command's name is", name)
    side.refused(1002, "there is no such command", "nothing")


@each("unsafe files are refused with the reason, and listed with it")
def _(side):
    text = "#!/bin/sh\necho ran\n"
    side.add("by-group", text, 0o775)
    side.add("by-others", text, 0o757)
    side.add("no-exec", text, 0o644)
    os.mkdir(os.path.join(side.dirs[0], "dir"))
    os.mkfifo(os.path.join(side.dirs[0], "fifo"), 0o755)
    outside = os.path.join(tmpdir(), side.name + "-outside")
    with open(outside, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(outside, 0o755)
    for name, to in (("out", outside), ("system", "/bin/sh"), ("dangling", "nothing"),
                     ("loop", "loop"), ("inside", "hello")):
        os.symlink(to, os.path.join(side.dirs[0], name))
    got = side.listed()
    for name, why in (("by-group", "is writable by group or others"),
                      ("by-others", "is writable by group or others"),
                      ("no-exec", "is not executable"), ("dir", "is not a regular file"),
                      ("fifo", "is not a regular file"),
                      ("out", "leads out of its directory"),
                      ("system", "leads out of its directory"),
                      ("dangling", "leads nowhere"), ("loop", "leads nowhere")):
        side.refused(1001, "command %s: " % name, name)
        side.refused(1001, why, name)
        assert why in got[name]["refused"], got[name]
    assert side.run("inside")["stdout"] == b"hello\n" and "refused" not in got["inside"]
    # A name that the first directory has is not looked for in the second.
    side.add("by-group", text, where=1)
    side.refused(1001, "writable", "by-group")


@each("a directory that others may write is refused with all in it")
def _(side):
    os.chmod(side.dirs[1], 0o777)
    side.refused(1001, "stands in a directory that is writable by group or others", "plain")
    os.chmod(side.dirs[1], 0o755)
    assert side.run("plain")["stdout"] == b"plain\n"


@each("a file of another user is refused")
def _(side):
    if os.getuid() != 0:
        raise Skip("files can be given away by root only")
    path = side.add("foreign", "#!/bin/sh\n")
    os.chown(path, 65534, 65534)
    side.refused(1001, "belongs to another user", "foreign")


@each("wrong options and arguments are named")
def _(side):
    side.refused(1022, 'no option "shell"', "hello", [], {"shell": True})
    side.refused(-501, "", "hello", "no array")
    side.refused(1022, "argument 0", "hello", [b"a\0b"])
    side.refused(1022, "argument 0", "hello", [["a"]])
    side.refused(1034, "", "hello", [], {"timeout": -1})
    side.refused(1022 if side is guest else 1034, "timeout", "hello", [], {"timeout": "soon"})
    side.refused(1007, "arguments", "hello", ["x"] * 2000)


@each("a file that is no program is told as shells tell it")
def _(side):
    side.add("broken", "#!/nonexistent/interpreter\n")
    r = side.run("broken")
    assert r["exit"] == 127 and r["error"], r


@suite.case("many commands at once, from both sides")
def _():
    got = []

    def many(side):
        got.extend(side.run("hello")["stdout"] for _ in range(5))
    threads = [threading.Thread(target=many, args=(s,)) for s in sides * 4]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == [b"hello\n"] * 40, got


@suite.case("what a guest may run is its policy's to say, per guest")
def _():
    hostd.write_conf("[hostd]\n" + host.conf + "[policy web]\nblock = class:exec\n")
    hostd.reload()
    wait_until(lambda: "configuration read again" in hostd.log(), 10, "the reload")
    host.refused(1, "hostd.conf:4", "hello")
    assert host.listed()["hello"]
    assert hostd.rpc().host.command.run("hello")["stdout"] == b"hello\n"
    # A reload changes the directories, too.
    hostd.write_conf("[hostd]\ncommands = %s\n" % host.dirs[1])
    hostd.reload()
    wait_until(lambda: hostd.log().count("configuration read again") == 2, 10, "the reload")
    assert "deaf" not in host.listed() and host.run("plain")["exit"] == 0
    hostd.write_conf("[hostd]\n" + host.conf)
    hostd.reload()
    wait_until(lambda: hostd.log().count("configuration read again") == 3, 10, "the reload")
    assert host.run("hello")["exit"] == 0


@suite.case("a relative directory is an error that names the file")
def _():
    bad = os.path.join(tmpdir(), "bad.conf")
    for section, name, option in (("agent", "va-agent", "-f"), ("hostd", "va-hostd", "-c")):
        with open(bad, "w", encoding="utf-8") as f:
            f.write("[%s]\ncommands = /usr/lib:relative\n" % section)
        os.chmod(bad, 0o600)
        r = run([program(name), option, bad], env=hostd.env)
        assert r.returncode != 0 and "bad.conf" in r.stderr and "absolute" in r.stderr, r


def va(env, *args, code=0, input=None, text=""):
    r = run([program("va-client"), *args], env=dict(env, VA_GUEST=""), input=input, text=False)
    assert r.returncode == code, (args, r)
    assert text in r.stderr.decode(), (args, r)
    return r.stdout


@suite.case("va-client commands and run: on the host the guest's, in the guest the host's")
def _():
    at_host, at_guest = hostd.env, agent.env
    guest.add("where", "#!/bin/sh\necho in the guest $VA_GUEST\n")
    host.add("where", "#!/bin/sh\necho on the host of $VA_GUEST\n")
    assert va(at_host, "run", "where") == b"in the guest web\n"
    assert va(at_host, "run", "web", "where") == b"in the guest web\n"
    assert va(at_host, "run", "-G", "web", "--", "where") == b"in the guest web\n"
    assert va(at_host, "run", "--host", "where") == b"on the host of\n"
    assert va(at_guest, "run", "where") == b"on the host of web\n"
    for env, args in ((at_host, ("commands",)), (at_host, ("commands", "web")),
                      (at_guest, ("commands",))):
        out = va(env, *args).decode()
        assert "Says hello." in out and "not run: it is not executable" in out, out
    assert b'"hello"' in va(at_host, "commands", "--host", "--json")


@suite.case("va-client run passes on arguments, streams and the status, both ways")
def _():
    at_host, at_guest = hostd.env, agent.env
    data = os.urandom(300000)
    for env, side in ((at_host, guest), (at_guest, host)):
        out = va(env, "run", "show", "-x", "a b", "$(id)", code=7, input=data, text="oops")
        assert out == b"<-x><a b><$(id)>" + data, out[:60]
        assert va(env, "run", "-n", "show", code=7) == b""
        va(env, "run", "die", code=128 + signal.SIGUSR1)
        va(env, "run", "--limit", "1", "stubborn", code=124)
        va(env, "run", "nothing", code=127, text="there is no such command")
        va(env, "run", "by-others", code=125, text="writable by group or others")
        va(env, "run", "../hello", code=125, text="a command's name is")
        va(env, "run", "broken", code=127, text="No such file")


@suite.case("va-client run streams: answers come while the command runs, of any size, both ways")
def _():
    at_host, at_guest = hostd.env, agent.env
    data = os.urandom(6 << 20)
    for env, side in ((at_host, guest), (at_guest, host)):
        side.add("ask", "#!/bin/sh\necho ready\nread x\necho got $x\necho no >&2\nread y\n"
                 "exit ${#y}\n")
        side.add("copy", "#!/bin/sh\ncat\n")
        side.add("hear", "#!/bin/sh\ntrap 'echo heard; exit 9' USR1 INT\necho up\n"
                 "while :; do sleep 0.1; done\n")
        p = subprocess.Popen([program("va-client"), "run", "ask"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=dict(os.environ, **env, VA_GUEST=""))
        try:
            assert p.stdout.readline() == b"ready\n"
            p.stdin.write(b"one\n")
            p.stdin.flush()
            assert p.stdout.readline() == b"got one\n" and p.stderr.readline() == b"no\n"
            p.stdin.write(b"seven77\n")
            p.stdin.flush()
            assert p.wait(20 * scale()) == 7
        finally:
            p.kill()
            p.wait()
        assert va(env, "run", "copy", input=data) == data
        p = Process([program("va-client"), "run", "hear"], env=dict(env, VA_GUEST=""))
        p.wait_log("up")
        p.signal(signal.SIGINT)
        assert p.wait(20) == 9 and "heard" in p.log(), p.log()


@suite.case("eight calls of a guest at once on its host, commands included; the limit is named")
def _():
    host.add("long8", "#!/bin/sh\necho on\nexec sleep 600\n")
    at_guest = dict(agent.env, VA_GUEST="")
    running = [Process([program("va-client"), "run", "long8"], env=at_guest) for _ in range(8)]
    for p in running:
        p.wait_log("on")
    va(at_guest, "run", "hello", code=125, text="8 calls of this guest already, the limit "
       "(guest-calls in hostd.conf)")
    host.refused(2, "8 calls of this guest already", "hello")
    assert hostd.rpc().host.command.run("hello")["exit"] == 0    # others go on
    assert hostd.guest_rpc("web").guest.ping() == "pong"
    for p in running:
        p.kill()

    def again():
        r = run([program("va-client"), "run", "hello"], env=at_guest)
        return r.returncode == 0
    wait_until(again, 20, "the places to be free")


@suite.case("Ctrl-C ends the command on the other side, both ways")
def _():
    at_host, at_guest = hostd.env, agent.env
    for env, side in ((at_host, guest), (at_guest, host)):
        path = os.path.join(tmpdir(), side.name + "-left")
        os.unlink(path)
        p = Process([program("va-client"), "run", "long"], env=dict(env, VA_GUEST=""))
        wait_until(lambda: os.path.exists(path), 10, "the command to run")
        with open(path, encoding="utf-8") as f:
            pid = int(f.read())
        p.signal(signal.SIGINT)
        p.wait(10)
        wait_until(lambda: not alive(pid), 10, "the command to be gone")


@suite.case("a command over HTTP: its output only, and nothing that its caller may not choose")
def _():
    path = os.path.join(hostd.guest_dir("web"), "rpc.sock")
    status, _, body = http_request(path, "GET", "/exec?command=hello")
    assert status == 200 and body == b"hello\n", body
    for query in ("env=A=b", "cwd=/", "user=root", "tty=1"):
        status, _, body = http_request(path, "GET", "/exec?command=hello&" + query)
        assert status == 400 and b"takes no" in body, body
    status, _, body = http_request(path, "GET", "/exec?command=by-others")
    assert status == 403 and b"writable" in body, body


@suite.case("the installed commands run with a POSIX shell and say something true")
def _():
    for name in ("disk-usage", "distribution", "ip-addresses"):
        path = os.path.join(SRC, "dist/commands", name)
        with open(path, encoding="utf-8") as f:
            assert f.readline() == "#!/bin/sh\n" and f.readline().startswith("# ")
        r = run([path])
        if name == "ip-addresses" and "nor ifconfig" in r.stderr:
            continue
        assert r.returncode == 0 and not r.stderr, (name, r)
    lines = run(["sh", os.path.join(SRC, "dist/commands/disk-usage"), "/"]).stdout.splitlines()
    mount, percent, used, size = lines[0].split("\t")
    assert mount == "/" and percent.endswith("%") and 0 < int(used) <= int(size), lines
    out = run([os.path.join(SRC, "dist/commands/distribution"), "id"]).stdout
    assert out.strip() and "=" not in out
    assert run([os.path.join(SRC, "dist/commands/distribution"), "x"]).returncode == 2


@suite.case("exec: the guest, its options, the program and all that is the program's")
def _():
    env = hostd.env
    for args, want in ((("web", "echo", "-n", "a"), b"a"), (("web", "--", "echo", "-n", "b"), b"b"),
                       (("-e", "A=1", "web", "-e", "B=2", "sh", "-c", "echo $A$B -c"), b"12 -c\n"),
                       (("--", "echo", "web"), b"web\n"), (("echo", "web", "--"), b"web --\n"),
                       (("-G", "web", "echo", "--", "x"), b"-- x\n")):
        assert va(env, "exec", *args) == want, args
    r = run([program("va-client"), "exec", "web", "--", "echo", "x"], env=dict(env, VA_GUEST="web"))
    assert r.stdout == "x\n", r
    va(env, "exec", "nosuch", "--", "true", code=125, text="nosuch: no such guest")
    va(env, "exec", "web", "--nosuch", "true", code=3, text="--nosuch")
    va(env, "exec", "web", code=125, text="usage: va-client exec")


@suite.case("a verb of another tool is answered with ours")
def _():
    for typed, ours in (("list", "va-client guests"), ("push", "va-client put"),
                        ("console", "va-client shell"), ("port-forward", "va-client forward")):
        va(hostd.env, typed, "web", code=3, text="is it this: " + ours)
    va(hostd.env, "nosuch", code=3, text="va-client help lists them")


suite.main()
