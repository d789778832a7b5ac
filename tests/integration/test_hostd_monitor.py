#!/usr/bin/python3
"""Guests that va-hostd finds by their QMP sockets, and monitors that lie; attached ports.

time-limit: 120

SPDX-License-Identifier: MIT
"""
import os
import socket
import sys
import time
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Suite, run, tmpdir, program, wait_until
from vatest.badline import BadLine, Dial, Listen
from vatest.fakeqmp import FakeMonitor
from vatest.hostd import FakeGuest, Hostd, need_hostd

need_hostd()
suite = Suite()
top = os.path.join(tmpdir(), "q")
plain, named, lies = (os.path.join(top, x) for x in ("plain", "named", "lies"))
for d in (top, plain, named, lies):
    os.mkdir(d, 0o700)
CONF = ("[discover]\n"
        "qmp = %s/*.qmp\n"
        "qmp = %s/{name}.qmp\n"
        "qmp = %s/*.qmp\n" % (plain, named, lies))
made = {}       # monitors by path; a program's end is theirs too
UUID = "11111111-2222-4333-8444-%012x"


def guest(name):
    g = FakeGuest(os.path.join(top, name + ".va"), agent_id="agent-" + name)
    suite.cleanups.append(g.close)
    return g


def monitor(directory, file, **how):
    m = FakeMonitor(os.path.join(directory, file + ".qmp"), **how)
    made[m.path] = m
    return m


def names():
    return sorted(g["name"] for g in hostd.rpc().host.guests())


def says(m, state, seconds=10):
    """What host.monitors has of it, once it is in that state."""
    def look():
        found = [x for x in hostd.rpc().host.monitors() if x["path"] == m.path]
        return found and found[0]["state"] == state and found[0]
    return wait_until(look, seconds, "%s to be %s" % (m.path, state), 0.05)


def connected(name):
    wait_until(lambda: name in names(), 10, name + " to be found", 0.05)
    return hostd.wait_state(name, "connected")


one = guest("one")
first = monitor(plain, "1", name="web", uuid=UUID % 1, channel=one.channel)
hostd = Hostd(conf=CONF)
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)


@suite.case("name, uuid and channel are QEMU's, and the monitor is virtproxy's afterwards")
def _():
    facts = connected("web")
    assert facts["uuid"] == UUID % 1 and facts["qmp"] == first.path, facts
    assert facts["channel"] == "unix-connect:%s:-" % one.channel, facts
    assert says(first, "served")["name"] == "web"
    # va-hostd let go before virtproxy came: one client at a time.
    wait_until(lambda: "query-status" in first.seen, 10, "virtproxy at the monitor")
    assert first.clients == 2, first.seen


@suite.case("a name in the path wins over what QEMU says; without any it is the uuid")
def _():
    monitor(named, "db", name="web", uuid=UUID % 2, channel=guest("two").channel)
    monitor(plain, "3", uuid=UUID % 3, channel=guest("three").channel)
    connected("db")
    connected(UUID % 3)
    assert hostd.facts("web")["uuid"] == UUID % 1


@suite.case("of two machines of one name the first is served")
def _():
    m = monitor(plain, "0", name="web", uuid=UUID % 4, channel=guest("four").channel)
    facts = says(m, "refused")
    assert "another guest has that name" in facts["why"], facts
    assert hostd.facts("web")["uuid"] == UUID % 1
    m.close()


@suite.case("two monitors of one machine are one guest")
def _():
    m = monitor(plain, "again", name="other", uuid=UUID % 1, channel=one.channel)
    assert "the same channel" in says(m, "refused")["why"]
    assert "other" not in names()


@suite.case("a monitor that another program holds is tried again")
def _():
    path = os.path.join(plain, "busy.qmp")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(monitor(plain, "busy", name="busy", channel=guest("busy").channel).path)
        assert s.recv(1000)
        wait_until(lambda: any(x["path"] == path and "another program" in x["why"]
                               for x in hostd.rpc().host.monitors()), 10, "the reason")
    connected("busy")


@suite.case("monitors that lie or talk nonsense make no guest and delay nobody")
def _():
    channel = guest("victim").channel
    theirs = os.path.join(top, "theirs")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(theirs)
    liars = [(monitor(lies, "text", raw=b"SSH-2.0-OpenSSH\r\n"), "no QMP monitor"),
             (monitor(lies, "array", raw=b"[1,2]\n"), "no QMP monitor"),
             (monitor(lies, "long", raw=b'{"QMP": "' + b"x" * 400000), "no QMP monitor"),
             (monitor(lies, "deep", raw=b'{"QMP":' + b"[" * 2000 + b"\n"), "no QMP monitor"),
             (monitor(lies, "escape", name="x\x1b[31m", channel=channel), "no QMP monitor"),
             (monitor(lies, "shadow", name="shadow", channel="/etc/shadow"), "no socket"),
             (monitor(lies, "gone", name="gone", channel="/nonexistent"), "No such file"),
             (monitor(lies, "fd", name="fd", channel="disconnected:fd:7,server=on"), "fd:7"),
             (monitor(lies, "client", name="client", channel="unix:%s" % channel), "no path"),
             (monitor(lies, "colon", name="colon", channel="/a:b"), ""),
             (monitor(lies, "none", name="none", port="com.redhat.spice.0"), "no port named")]
    if os.geteuid() == 0:
        os.chown(theirs, 1, -1)
        liars.append((monitor(lies, "foreign", name="foreign", channel=theirs),
                      "belongs to user 1"))
    begin = time.monotonic()
    for m, why in liars:
        def look():
            found = [x for x in hostd.rpc().host.monitors() if x["path"] == m.path]
            return found and found[0]["why"]
        text = wait_until(look, 10, "the reason of " + m.path, 0.05)
        assert why in text, (m.path, text)
        assert hostd.rpc().host.ping() == "pong"
    assert time.monotonic() - begin < 10, "they delay each other"
    assert not {"gone", "fd", "client", "colon", "none", "foreign"} & set(names()), names()
    for m, _ in liars:
        m.close()
    wait_until(lambda: not [x for x in hostd.rpc().host.monitors() if lies in x["path"]], 10,
               "them to be forgotten")


@suite.case("a port that is plugged out and in: the guest goes and comes")
def _():
    three = UUID % 3
    m = made[os.path.join(plain, "3.qmp")]
    m.ports.clear()
    os.unlink(hostd.facts(three)["channel"].split(":")[1])
    wait_until(lambda: three not in names(), 10, "the guest to go", 0.05)
    assert "no port named" in says(m, "no-channel")["why"]


@suite.case("a va-hostd that starts anew remembers whose monitors they are")
def _():
    pid, clients = hostd.facts("web")["pid"], first.clients
    hostd.process.kill()
    hostd.start()
    assert connected("web")["pid"] == pid
    assert first.clients == clients, "the monitor was taken from virtproxy"


@suite.case("another QEMU at the same path is asked anew")
def _():
    five = guest("five")
    first.close()
    monitor(plain, "1", name="web2", uuid=UUID % 5, channel=five.channel)
    connected("web2")
    wait_until(lambda: "web" not in names(), 10, "the old one to go", 0.05)


@suite.case("no guest may ask about monitors")
def _():
    try:
        one_more = guest("asks")
        monitor(named, "asks", channel=one_more.channel)
        connected("asks")
        one_more.call_host().host.monitors()
    except xmlrpc.client.Fault as f:
        assert "admin" in f.faultString, f
    else:
        raise AssertionError("it was told")


@suite.case("virtproxy leaves its monitor alone for a while, and takes it again")
def _():
    m = made[os.path.join(plain, "busy.qmp")]
    ctl = os.path.join(hostd.guest_dir("busy"), "ctl.sock")

    def ask(line):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(ctl)
            s.sendall(line + b"\n")
            text = b""
            while not text.endswith(b"\n\n"):
                text += s.recv(4096)
            return text.decode().strip()

    assert ask(b"release-qmp 700").startswith("error"), "a limit"
    assert ask(b"release-qmp 60") == "ok"
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(m.path)
        assert b"QMP" in s.recv(1000)
    clients = m.clients
    assert ask(b"release-qmp 0") == "ok"
    wait_until(lambda: m.clients > clients, 10, "virtproxy to come back")


def entry(name, channel, mode=0o600):
    path = os.path.join(hostd.runtime, "attached", name + ".conf")
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write("[guest %s]\nchannel = unix-connect:%s:-\n[attached]\nmonitor = /x\n"
                % (name, channel))
    os.chmod(path + ".new", mode)
    os.rename(path + ".new", path)
    return path


@suite.case("an attached port is a guest, also of the next va-hostd, as long as it is there")
def _():
    # Bound to its path, as the socket is that attach gives to QEMU.
    channel = os.path.join(top, "plugged.sock")
    line = BadLine(1, a=Listen(channel), b=Dial(guest("plugged").channel))
    suite.cleanups.append(line.close)
    path = entry("plugged", channel)
    pid = connected("plugged")["pid"]
    hostd.process.kill()
    hostd.start()
    assert connected("plugged")["pid"] == pid
    line.close()                    # as a QEMU that is killed: it leaves its socket
    assert os.path.exists(channel)
    entry("looked", "/nonexistent")  # has va-hostd look
    wait_until(lambda: "plugged" not in names(), 10, "the guest to go", 0.05)
    assert os.listdir(os.path.dirname(path)) == [], "it leaves nothing"
    assert not os.path.exists(channel)


@suite.case("a file of attached ports that others may write is refused")
def _():
    path = entry("unsafe", guest("unsafe").channel, 0o666)
    hostd.process.wait_log("unsafe.conf.*no guest")
    assert "unsafe" not in names()
    os.unlink(path)


@suite.case("a pattern that cannot work is refused with its line")
def _():
    for line, why in (("qmp = relative", "not an absolute path"),
                      ("qmp = /x/{name}/{name}", "{name} may stand in it once"),
                      ("serial =", "character device")):
        path = hostd.write_conf("[discover]\n%s\n" % line, "bad.conf")
        r = run([program("va-hostd"), "-c", path], env=hostd.env)
        assert r.returncode == 2 and "bad.conf:2" in r.stderr and why in r.stderr, r


suite.main()
