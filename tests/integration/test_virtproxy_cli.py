#!/usr/bin/python3
"""The command line: the original's, as typed in its cover letter, and ours.

SPDX-License-Identifier: MIT
"""
import http.client
import os
import re
import resource
import signal
import socket
import stat
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import (SRC, Process, Skip, Suite, connect_unix, need, program, run, sanitized, scale,
                    tmpdir, wait_for_socket, wait_until, xmlrpc_proxy)
from vatest.proxy import PROXY, Ctl, Pair, Proxy, PtyPair, Server, echo, environment, read_all

QEMU_VP = os.path.join(os.path.dirname(PROXY), "qemu-vp")

# What "-g" starts, reduced to what virtproxy has to do with it: a listening
# socket comes in as --server-fd, connections are answered.
FAKE_AGENT = """#!/usr/bin/python3
import os, signal, socket, sys, threading
assert sys.argv[1] == "--server-fd", sys.argv
l = socket.socket(fileno=int(sys.argv[2]))
l.setblocking(True)
def one(c):
    line = c.makefile("rb").readline()
    if line == b"die\\n":
        os.kill(os.getpid(), signal.SIGKILL)
    c.sendall(b"agent %d: " % os.getpid() + line)
    c.close()
while True:
    c, _ = l.accept()
    threading.Thread(target=one, args=(c,), daemon=True).start()
"""

suite = Suite()


def fake_agent_path():
    d = tempfile.mkdtemp(dir=tmpdir())
    path = os.path.join(d, "va-agent")
    with open(path, "w") as f:
        f.write(FAKE_AGENT)
    os.chmod(path, 0o755)
    return d


def ask(path, line):
    with connect_unix(path) as s:
        try:
            s.sendall(line + b"\n")
            s.shutdown(socket.SHUT_WR)
            return read_all(s)
        except (BrokenPipeError, ConnectionResetError):    # closed before it was read
            return b""


def ask_patiently(path, line):
    return wait_until(lambda: ask(path, line), 15, "an answer to %r" % line, interval=0.1)


def fails(args, *texts, status=2):
    r = run([PROXY, *args], env=environment())
    assert r.returncode == status, r
    for text in texts:
        assert text in r.stderr, (text, r.stderr)
    assert r.stdout == "", r.stdout
    return r


def agents(proxy):
    """The agents that -g runs: children of the process that starts them."""
    found = []
    for starter in proxy.children():
        with open("/proc/%d/task/%d/children" % (starter, starter)) as f:
            found += [int(p) for p in f.read().split()]
    return found


@suite.case("the two command lines of the cover letter, as typed, with qemu-vp")
def _():
    # The directory stands for the letter's /tmp and /dev/virtio-ports; the port is
    # a pty here, which the device's path leads to.
    d, ptys = tempfile.mkdtemp(dir=tmpdir()), PtyPair()
    env = dict(environment(), PATH=fake_agent_path() + ":" + os.environ["PATH"])
    os.symlink(ptys.names[0], os.path.join(d, "test2"))
    with Process([QEMU_VP, "-c", "pty-open:%s/test2:-" % d, "-g"], env=env) as guest, \
            Process([QEMU_VP, "-c", "pty-open:%s:-" % ptys.names[1],
                     "-o", "virtagent:%s/virtagent-guest-client.sock:-" % d], env=env) as host:
        client = os.path.join(d, "virtagent-guest-client.sock")
        wait_for_socket(client, alive=host.check_alive).close()
        reply = ask_patiently(client, b"hello")
        assert reply.endswith(b": hello\n"), reply
        child = agents(guest)
        assert len(child) == 1 and reply.startswith(b"agent %d" % child[0]), (child, reply)
        # An agent that dies is started again.
        assert ask(client, b"die") == b""
        reply = ask_patiently(client, b"again")
        assert reply.endswith(b": again\n") and not reply.startswith(b"agent %d:" % child[0])
        child = agents(guest)
        assert host.stop() == 0 and guest.stop() == 0
        wait_until(lambda: not os.path.exists("/proc/%d" % child[0]), 5, "the agent's end")
        left = os.listdir(os.path.join(environment()["VA_RUNTIME_DIR"]))
        assert left == ["locks"], left
    ptys.close()


def confinement(pid):
    """NoNewPrivs, Seccomp and CapEff of a process."""
    with open("/proc/%d/status" % pid) as f:
        rows = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    return rows["NoNewPrivs"], rows["Seccomp"], int(rows["CapEff"], 16)


@suite.case("virtproxy is confined, also with -g, unless told not to be")
def _():
    if sanitized() and sanitized() != "undefined":
        raise Skip("not in a build with sanitizers")
    d = tempfile.mkdtemp(dir=tmpdir())
    env = dict(environment(), PATH=fake_agent_path() + ":" + os.environ["PATH"])
    with Proxy("-c", "unix-connect:%s/x:-" % d) as p, \
            Proxy("-c", "unix-connect:%s/y:-" % d, "--no-sandbox") as free, \
            Proxy("-c", "unix-listen:%s/z:-" % d, "-g", env=env) as guest:
        for proxy in (p, free, guest):
            wait_until(proxy.try_status, 10, "its control socket")
        wait_until(lambda: agents(guest), 10, "the agent")
        # The control socket answers from the loop, which runs confined.
        for proxy in (p, guest):
            privs, seccomp, caps = confinement(proxy.pid)
            assert (privs, seccomp) == ("1", "2") and caps & ~2 == 0, (privs, seccomp, caps)
        assert confinement(free.pid)[1] == "0" == confinement(agents(guest)[0])[1]


def limits(pid):
    return {what: resource.prlimit(pid, getattr(resource, "RLIMIT_" + what))
            for what in ("NOFILE", "AS", "NPROC", "CORE")}


@suite.case("virtproxy has limits of descriptors and memory, and its agent none of them")
def _():
    d = tempfile.mkdtemp(dir=tmpdir())
    env = dict(environment(), PATH=fake_agent_path() + ":" + os.environ["PATH"])
    ours = limits(os.getpid())
    with Proxy("-c", "unix-connect:%s/x:-" % d) as p, \
            Proxy("-c", "unix-connect:%s/y:-" % d, "--no-sandbox") as free, \
            Proxy("-c", "unix-listen:%s/z:-" % d, "-g", env=env) as guest:
        for proxy in (p, free, guest):
            wait_until(proxy.try_status, 10, "its control socket")
        wait_until(lambda: agents(guest), 10, "the agent")
        for proxy in (p, guest):
            got = limits(proxy.pid)
            assert got["NPROC"] == got["CORE"] == (0, 0), got
            assert got["NOFILE"] == (512, 512), got
            assert sanitized() or got["AS"] == (160 << 20, 160 << 20), got
        for other in (free.pid, agents(guest)[0]):
            got = limits(other)
            assert {k: v[1] for k, v in got.items()} == {k: v[1] for k, v in ours.items()}, got


@suite.case("a confined virtproxy opens its own channel again and again")
def _():
    d = tempfile.mkdtemp(dir=tmpdir())
    path = d + "/x"
    with Proxy("-c", "unix-connect:%s:-" % path) as p:
        for n in range(1, 4):
            # A machine that was not there yet, that ends, and another in its place.
            with socket.socket(socket.AF_UNIX) as machine:
                machine.bind(path)
                machine.listen(1)
                machine.settimeout(20 * scale())
                with machine.accept()[0]:
                    st = p.wait_status("channel", "up")
                    assert st["channel-opens"] == n, st
            os.unlink(path)
            wait_until(lambda: p.status()["channel"] != "up", 10, "the channel's end")
        if not sanitized() or sanitized() == "undefined":
            assert confinement(p.pid)[1] == "2"


@suite.case("-g runs the real agent: a call through two qemu-vp")
def _():
    need(program("va-agent"))
    d = tempfile.mkdtemp(dir=tmpdir())
    env = dict(environment(), PATH=os.path.dirname(program("va-agent")) + ":" + os.environ["PATH"])
    with Process([QEMU_VP, "-c", "unix-listen:%s/ch:-" % d, "-g"], env=env) as guest, \
            Process([QEMU_VP, "-c", "unix-connect:%s/ch:-" % d, "-o",
                     "virtagent:%s/rpc:-" % d], env=env) as host:
        wait_for_socket(d + "/rpc", alive=host.check_alive).close()

        def ping():
            try:
                return xmlrpc_proxy(d + "/rpc").guest.ping()
            except (OSError, http.client.HTTPException):
                guest.check_alive()
                return None
        assert wait_until(ping, 20, "the agent", 0.1) == "pong"
        assert host.stop() == 0 and guest.stop() == 0


@suite.case("virtserial-open and a socket: the guest's end comes up by the method alone")
def _():
    # No such port on this machine: it says so and waits.
    with Proxy("-c", "virtserial-open:/dev/virtio-ports/va-test-nowhere:-") as p:
        p.wait_log(r"waiting for virtserial-open .*va-test-nowhere: No such file")
        st = p.wait_status("channel", "closed")
        assert st["role"] == "guest" and st["channel-kind"] == "virtio", st


@suite.case("-g without an agent to start is an error")
def _():
    env = dict(environment(), PATH="/nonexistent")
    d = os.path.join(tmpdir(), "alone")
    os.mkdir(d)
    os.link(PROXY, os.path.join(d, "virtproxy"))
    r = run([os.path.join(d, "virtproxy"), "-c", "unix-listen:%s/x:-" % d, "-g"], env=env)
    if r.returncode != 1 or "there is no va-agent" not in r.stderr:
        assert os.path.exists("/usr/local/sbin/va-agent"), r


@suite.case("several channels in one process, told apart by their ids")
def _():
    one, two = Server(echo), Server(lambda c: c.sendall(b"two: " + read_all(c)))
    d = tempfile.mkdtemp(dir=tmpdir())
    with Proxy("-c", "unix-listen:%s/a:-" % d, "--role", "guest",
               "-c", "unix-listen:%s/b:-:7" % d, "--role=guest",
               "-i", "s:%s:-:7" % two.path, "-i", "s:%s:-" % one.path) as guest, \
            Proxy("-c", "unix-connect:%s/a:-:1" % d, "--name", "first",
                  "-c", "unix-connect:%s/b:-:2" % d, "--name=second",
                  "-o", "s:%s/o1:-:1" % d, "--oforward=s:%s/o2:-:2" % d) as host:
        wait_for_socket(d + "/o2", alive=host.check_alive).close()
        assert ask_patiently(d + "/o1", b"x") == b"x\n"
        assert ask_patiently(d + "/o2", b"x") == b"two: x\n"
        assert host.status()["label"] == "second"
        host.wait_log(r"info: first: session up")
        guest.check_alive()
    one.close()
    two.close()


@suite.case("wrong usage is named, with the option")
def _():
    c = ["-c", "unix-connect:/x:-"]
    fails([], "no channel is given")
    fails(["-c", "telnet:a:b"], "--channel: unknown method telnet", "virtserial-open")
    fails([*c, "-o", "s:/y:-:3"], "-o s:/y:-: there is no channel 3")
    fails([*c, "-i", "s:/y:-:4"], "-i s:/y:-: there is no channel 4")
    fails([*c, "-g5"], "-g5: there is no channel 5")
    fails([*c, "-g", "-g0"], "-g0 is given twice")
    fails([*c, *c], "channel id 0 is given twice")
    fails([*c, "stray"], 'unexpected argument "stray"')
    fails([*c, "--role", "both"], "both is neither host nor guest")
    fails([*c, "--group", "no-such-group"], "there is no group no-such-group")
    fails([*c, "--frobnicate"], "unknown option --frobnicate")


@suite.case("what cannot be started is named, with the path")
def _():
    d = tempfile.mkdtemp(dir=tmpdir())
    plain = os.path.join(d, "plain")
    open(plain, "w").close()
    live = Server(echo)
    c = ["-c", "unix-connect:%s/c:-" % d]
    fails([*c, "-o", "s:%s:-" % plain], plain + ": exists and is no socket", status=1)
    fails([*c, "-o", "s:%s:-" % live.path], "somebody listens there already", status=1)
    fails([*c, "--ctl", d + "/no/ctl"], "control socket %s/no/ctl: No such file" % d, status=1)
    fails([*c, "--log", d], "virtproxy: log %s" % d, status=1)
    fails([*c, "--pidfile", d + "/no/pid"], d + "/no/pid: No such file", status=1)
    fails(["-c", "unix-listen:%s/no/l:-" % d], "unix-listen %s/no/l: No such" % d, status=1)
    fails(["-c", "fd:77"], "fd 77: Bad file descriptor", status=1)
    assert os.path.exists(plain)
    live.close()


@suite.case("-h, --version, and -V which does nothing")
def _():
    for option in ("-h", "--help"):
        r = run([PROXY, option], check=True)
        assert r.stdout.startswith("Usage: virtproxy [OPTION...]"), r.stdout
    assert run([PROXY, "--version"], check=True).stdout.startswith("virtproxy (virtagent) ")
    fails(["-V"], "no channel is given")


@suite.case("every option of --help is in the man page, and the other way round")
def _():
    text = run([PROXY, "--help"], check=True).stdout
    given = set(re.findall(r"(?<![\w-])--([a-z-]+)", text.split("Options:")[1]))
    with open(os.path.join(SRC, "virtproxy", "virtproxy.8")) as f:
        page = f.read()
    documented = set(re.findall(r"^\.It (?:Fl . , )?Fl -([a-z]+(?:-[a-z]+)?)", page, re.M))
    assert given == documented, given ^ documented


@suite.case("--daemon goes to the background, with pid file and log; SIGHUP reopens it")
def _():
    d = tempfile.mkdtemp(dir=tmpdir())
    env = environment()
    argv = [PROXY, "-c", "unix-listen:ch:-", "-o", "s:out:-", "--daemon", "--ctl", "ctl",
            "--pidfile", "pid", "--log", "log"]
    r = Process(argv, env=env, cwd=d)
    assert r.wait() == 0, r.log()
    with open(d + "/pid") as f:
        pid = int(f.read())
    try:
        assert Ctl(d + "/ctl").command("status").startswith("label ")
        again = Process(argv, env=env, cwd=d)
        assert again.wait() == 1
        assert stat.S_IMODE(os.stat(d + "/out").st_mode) == 0o600
        os.rename(d + "/log", d + "/log.1")
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: os.path.exists(d + "/log"), 5, "the new log")
        with open(d + "/log.1") as f:
            assert "pid is held by process %d" % pid in f.read()
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not os.path.exists(d + "/pid"), 5, "the daemon's end")
    with open(d + "/log") as f:
        assert "ending: Terminated" in f.read()
    assert sorted(os.listdir(d)) == ["log", "log.1"], os.listdir(d)


@suite.case("an inherited descriptor is a channel")
def _():
    a, b = socket.socketpair()
    server = Server(echo)
    out = os.path.join(tmpdir(), "fdout")
    with Proxy("-c", "fd:%d" % a.fileno(), "--role", "guest", "-i", "s:%s:-" % server.path,
               pass_fds=[a.fileno()]) as guest, \
            Proxy("-c", "fd:%d:-" % b.fileno(), "-o", "s:%s:-" % out,
                  pass_fds=[b.fileno()]) as host:
        a.close()
        b.close()
        host.wait_session()
        guest.wait_session()
        assert ask(out, b"by descriptor") == b"by descriptor\n"
        host.kill()
        guest.wait_status("channel", "closed")
    server.close()


@suite.case("--group opens the sockets to the group alone")
def _():
    d = tempfile.mkdtemp(dir=tmpdir())
    gid = os.getgid()
    with Proxy("-c", "unix-connect:%s/c:-" % d, "-o", "s:%s/o:-" % d, "--group",
               str(gid)) as p:
        p.wait_status("channel", "closed")
        for path in (d + "/o", p.ctl_path):
            st = os.stat(path)
            assert (stat.S_IMODE(st.st_mode), st.st_gid) == (0o660, gid), st


suite.main()
