#!/usr/bin/python3
"""The agent's port plugged into a running guest, and out again; guests found by QMP.

time-limit: 240

SPDX-License-Identifier: MIT
"""
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Guest, Suite, program, run, tmpdir, wait_until
from vatest.guest import PORT_NAME
from vatest.hostd import Hostd, need_hostd
from vatest.proc import Process
from vatest.qmp import QMP

need_hostd()
suite = Suite()
UUID = "7d1b7c1c-9d2e-4f5b-8a51-0c6a6d4ddf01"
AGENTS = [[], ["-c", "isaserial-open:/dev/ttyS1:-"]]
# The monitors that va-hostd finds; the machine's names are QEMU's own.
top = os.path.join(tmpdir(), "vm")
os.mkdir(top, 0o700)


def monitor(name, path=None):
    path = path or os.path.join(top, name + ".qmp")
    return ["-chardev", "socket,id=found-%s,path=%s,server=on,wait=off" % (name, path),
            "-mon", "chardev=found-%s,mode=control" % name]


guest = Guest(name="web", channels=("serial",), agents=AGENTS,
              args=["-uuid", UUID] + monitor("a"))
suite.cleanups.append(guest.close)
suite.on_failure.append(guest.report)
hostd = Hostd(conf="[discover]\nqmp = %s/*.qmp\n" % top)
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)


def client(*args, code=0):
    r = run([program("va-client"), *args], env=hostd.env)
    assert r.returncode == code, (args, r.returncode, r.stdout, r.stderr)
    return r.stdout if code == 0 else r.stderr


def monitors():
    return {os.path.basename(m["path"]): m for m in hostd.rpc().host.monitors()}


def names():
    return sorted(g["name"] for g in hostd.rpc().host.guests())


def ports():
    return guest.sh("cat /sys/class/virtio-ports/*/name 2>/dev/null; true").split()


def is_served(name="web"):
    """The agent inside answers; the seconds that took."""
    begin = time.monotonic()
    wait_until(lambda: name in names(), 10, name + " to be known", 0.05)
    hostd.wait_state(name, "connected")
    text = client("-G", name, "call", "guest.getfile", "/proc/version")
    assert text == guest.sh("cat /proc/version"), text
    return time.monotonic() - begin


@suite.case("a monitor whose machine has no port is known, and is no guest")
def _():
    wait_until(lambda: monitors().get("a.qmp", {}).get("state") == "no-channel", 10, "the answer")
    m = monitors()["a.qmp"]
    assert (m["name"], m["uuid"]) == ("web", UUID) and PORT_NAME in m["why"], m
    assert names() == [], names()
    QMP(os.path.join(top, "a.qmp")).close()     # nobody holds it


@suite.case("attach plugs a port in, and the agent that runs inside finds it")
def _():
    boot = guest.sh("cat /proc/sys/kernel/random/boot_id")
    assert PORT_NAME not in ports()
    client("attach", "web")
    took = is_served()
    print("# served %.2f s after attach" % took)
    assert PORT_NAME in ports()
    assert guest.sh("cat /proc/sys/kernel/random/boot_id") == boot
    facts = hostd.facts("web")
    assert facts["uuid"] == UUID and facts["qmp"].endswith("/a.qmp"), facts
    # Its virtproxy has the monitor now: pauses and the uuid come by it.
    wait_until(lambda: hostd.facts("web")["status"].get("vm-uuid") == UUID, 10, "its uuid")


@suite.case("a second port of that name is refused, and the first serves on")
def _():
    text = client("attach", "web", code=2)
    assert "already" in text and "virtagent0" in text, text
    assert is_served() < 10


@suite.case("a va-hostd that starts anew has the guest, with the same virtproxy")
def _():
    pid = hostd.facts("web")["pid"]
    hostd.process.kill()
    hostd.start()
    is_served()
    assert hostd.facts("web")["pid"] == pid


@suite.case("detach takes it out: no port, no guest, no file; and again, and back")
def _():
    for _ in range(2):
        client("detach", "web")
        wait_until(lambda: PORT_NAME not in ports(), 10, "the port to go")
        assert names() == [], names()
        assert os.listdir(os.path.join(hostd.runtime, "attached")) == []
        assert [c for c in guest.qmp("query-chardev") if c["label"] == "virtagent0"] == []
        text = client("detach", "web", code=2)
        assert "no port" in text, text
        client("attach", "web")
        print("# served %.2f s after attach" % is_served())
    client("detach", "web")


@suite.case("a port that QEMU was given by hand is found by its monitor; gone, so is the guest")
def _():
    path = os.path.join(tmpdir(), "hand.sock")
    guest.qmp("chardev-add", id="hand", backend={"type": "socket", "data": {
        "addr": {"type": "unix", "data": {"path": path}}, "server": True, "wait": False}})
    guest.qmp("device_add", driver="virtserialport", chardev="hand", name=PORT_NAME)
    hostd.process.kill()        # asks at its start
    hostd.start()
    is_served()
    facts = hostd.facts("web")
    assert facts["channel"] == "unix-connect:%s:-" % path and facts["uuid"] == UUID, facts
    assert monitors()["a.qmp"]["state"] == "served"
    hostd.process.kill()        # which of them it is, is remembered: virtproxy has the monitor
    hostd.start()
    assert hostd.facts("web")["pid"] == facts["pid"]
    client("detach", "web")
    wait_until(lambda: names() == [], 10, "the guest to go")
    assert PORT_NAME not in ports()


@suite.case("a serial line may be the channel of a machine without a port")
def _():
    hostd.write_conf("[discover]\nqmp = %s/*.qmp\nserial = ser*\n" % top)
    hostd.reload()
    is_served()
    assert hostd.facts("web")["channel"] == "unix-connect:%s:-" % guest.serial
    hostd.write_conf("[discover]\nqmp = %s/*.qmp\n" % top)
    hostd.process.kill()
    hostd.start()       # what was asked for before does not hold for ever: nothing is kept
    assert hostd.stop_all().returncode == 0
    hostd.start()
    wait_until(lambda: monitors()["a.qmp"]["state"] == "no-channel", 10, "the answer")


@suite.case("--qmp: a monitor that va-hostd does not know, and does not get")
def _():
    mine = os.path.join(tmpdir(), "mine.qmp")
    guest.qmp("chardev-add", id="mine", backend={"type": "socket", "data": {
        "addr": {"type": "unix", "data": {"path": mine}}, "server": True, "wait": False}})
    text = client("attach", "--qmp", os.path.join(tmpdir(), "none"), "web", code=10)
    assert "No such file" in text, text
    text = client("-t", "1", "attach", "--qmp", guest.path("qmp.sock"), "web", code=124)
    assert "another program holds it" in text, text


def machine(name, *args, path=None):
    """A QEMU that boots nothing; path: of its monitor, where va-hostd does not look."""
    q = Process(["qemu-system-x86_64", "-S", "-accel", "tcg", "-nodefaults", "-display", "none",
                 "-m", "32", "-name", name, *args, *monitor(name, path)], name="qemu-" + name)
    suite.cleanups.append(q.kill)
    if path:
        wait_until(lambda: os.path.exists(path) or q.check_alive(), 20, path)
        return q
    wait_until(lambda: monitors().get(name + ".qmp", {}).get("name") == name or q.check_alive(),
               20, name + " to be found")
    return q


@suite.case("machines that take no port say why; one that can gets a controller too")
def _():
    machine("isapc", "-M", "isapc")
    text = client("attach", "isapc", code=2)
    assert "no hot-plug slot" in text and "PCI" in text, text
    machine("q35", "-M", "q35")
    text = client("attach", "q35", code=2)
    assert "no hot-plug slot" in text and "pcie.0" in text, text
    assert names() == [] and os.listdir(os.path.join(hostd.runtime, "attached")) == []
    # The first of its ports is in use; and this QEMU is no friend of our directories.
    user = ["-runas", "nobody"] if os.geteuid() == 0 else []
    machine("ports", "-M", "q35", "-device", "pcie-root-port,id=rp0,slot=1",
            "-device", "virtio-rng-pci,bus=rp0", "-device", "pcie-root-port,id=rp1,slot=2", *user)
    for _ in range(2):
        client("attach", "ports")
        wait_until(lambda: hostd.facts("ports")["status"].get("channel") == "up", 10, "a channel")
        client("detach", "ports")
    assert names() == [], names()


@suite.case("a machine that is killed leaves nothing behind")
def _():
    q = machine("killed", "-M", "pc")
    client("attach", "killed")
    wait_until(lambda: hostd.facts("killed")["status"].get("channel") == "up", 10, "a channel")
    q.kill()
    client("detach", "killed")
    assert "killed" not in names()
    assert os.listdir(os.path.join(hostd.runtime, "attached")) == []


@suite.case("without va-hostd, by --qmp: the next va-hostd serves it, the monitor stays free")
def _():
    path = os.path.join(tmpdir(), "late.qmp")
    machine("late", "-M", "pc", path=path)
    hostd.process.kill()
    r = run([program("va-client"), "attach", "--qmp", path, "late"], env=hostd.env)
    assert r.returncode == 0 and "does not run" in r.stderr, r
    hostd.start()
    wait_until(lambda: "late" in names(), 10, "it to be known")
    wait_until(lambda: hostd.facts("late")["status"].get("channel") == "up", 10, "a channel")
    assert hostd.facts("late")["qmp"] == ""
    QMP(path).close()
    client("detach", "late")
    assert "late" not in names()


@suite.case("a configured guest's port is made where its channel is configured")
def _():
    q = machine("fixed", "-M", "pc")
    path = os.path.join(top, "fixed.sock")
    hostd.write_conf("[discover]\nqmp = %s/*.qmp\n[guest fixed]\nqmp = %s/fixed.qmp\n"
                     "channel = unix-connect:%s:-\n" % (top, top, path))
    hostd.reload()
    wait_until(lambda: "fixed" in names(), 10, "the reload")
    client("attach", "fixed")
    assert os.path.exists(path) and os.listdir(os.path.join(hostd.runtime, "attached")) == []
    wait_until(lambda: hostd.facts("fixed")["status"].get("channel") == "up", 10, "a channel")
    client("detach", "fixed")
    assert "fixed" in names() and not os.path.exists(path)
    q.kill()


@suite.case("a guest without a virtio-serial bus gets one, and its agent finds the port")
def _():
    bare = Guest(name="bare", channels=(), agents=[[]], start=False)
    words, command = bare.command(), []
    while words:
        w = words.pop(0)
        if w == "-device" and words[0].startswith(("virtio-serial", "virtserialport")):
            words.pop(0)
        else:
            command.append(w)
    bare.qemu = Process(command + monitor("bare"), name="qemu-bare")
    suite.cleanups.append(bare.close)
    suite.on_failure.append(bare.report)
    bare.wait_console("rc: booted", 60)
    client("attach", "bare")
    begin = time.monotonic()
    wait_until(lambda: hostd.facts("bare")["state"] == "connected", 20, "its agent", 0.05)
    print("# connected %.2f s after attach" % (time.monotonic() - begin))
    assert client("-G", "bare", "call", "guest.getfile", "/va/conf").startswith("NAME='bare'")


@suite.case("errors name what is missing")
def _():
    text = client("attach", "nobody", code=2)
    assert "nobody" in text and "--qmp" in text and ("virsh" in text), text
    with socket.socket(socket.AF_UNIX) as s:
        path = os.path.join(tmpdir(), "liar.sock")
        s.bind(path)
        s.listen(1)
        text = client("-t", "1", "attach", "--qmp", path, "web", code=124)
        assert "does not greet" in text, text
    r = run([program("va-client"), "attach", "12"], env=hostd.env)
    assert r.returncode != 0 and "slot" not in r.stderr, r


suite.main()
