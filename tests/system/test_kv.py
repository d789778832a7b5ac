#!/usr/bin/python3
# time-limit: 420
# test_kv.py - keys of a real guest: pushed over virtio-serial and isa-serial, as
# files, to hooks and watches; lifetimes over a reset and a power-off.
#
# SPDX-License-Identifier: MIT
import hashlib
import os
import random
import time
import xmlrpc.client

from vatest import Guest, Suite, fault, program, run, scale, tmpdir, wait_until
from vatest.hostd import Hostd, need_hostd

need_hostd()
# On the slow line one that its compression makes small.
BLOBS = {"vm": random.Random(5).randbytes(1 << 20),
         "old": bytes(range(256)) + bytes((1 << 20) - 512) + bytes(range(256))}
HOOK = ("#!/bin/sh\n"
        "case $VA_KEY in user.slow) sleep 1000 ;; esac\n"
        "echo $VA_KEY $VA_REMOVED $(cat $VA_KEY_FILE 2>/dev/null | head -c 40) >>/run/hooked\n")
DIRS = {"vm": "/run/virtagent", "old": "/run/virtagent.1"}

suite = Suite()
guest = Guest(programs={"/bin/va-client": program("va-client")}, reboot=True,
              agent_env={"VA_CONF_DIR": "/etc/virtagent"},
              files={"/etc/virtagent/hooks/keys.d/note": (HOOK, 0o755)})
suite.cleanups.append(lambda: guest.close())
suite.on_failure.append(lambda: guest.report())
# The channels' places for va-hostd, so that a guest can be unplugged from it.
CHANNELS = {"vm": os.path.join(tmpdir(), "virtio"), "old": os.path.join(tmpdir(), "serial")}


def plug(name):
    os.symlink(guest.virtio if name == "vm" else guest.serial, CHANNELS[name])


hostd = Hostd(["%s=unix-connect:%s:-" % kv for kv in CHANNELS.items()], start=False)
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)


def client(*args, data=None, check=0, seconds=60):
    r = run([program("va-client"), *args], input=data if data is not None else None,
            env=hostd.env, seconds=seconds, text=False)
    if check is not None:
        assert r.returncode == check, (args, r.returncode, r.stdout[:200], r.stderr[:300])
    return r


def inside(text, name="vm", check=True):
    """va-client in the guest, as the agent of that channel's programs would."""
    return guest.sh("VA_RUNTIME_DIR=%s va-client %s" % (DIRS[name], text), check=check)


def file(key, name="vm"):
    """The key's file in the guest, or None."""
    path = "%s/kv/%s" % (DIRS[name], key)
    out = guest.sh_bytes("[ ! -e %s ] || { echo there; cat %s; }" % (path, path))
    return out[6:] if out.startswith(b"there\n") else None


def digest(key, name="vm"):
    return guest.sh("sha256sum <%s/kv/%s" % (DIRS[name], key)).split()[0]


def hooked():
    return guest.sh("cat /run/hooked 2>/dev/null; true")


def wait_file(key, value, name="vm", seconds=20):
    wait_until(lambda: file(key, name) == value, seconds, "%s to be %r" % (key, value), 0.1)


@suite.case("keys that were set before the guest was there are its files when it is")
def _():
    hostd.start()
    for name in CHANNELS:
        client("kv", "set", name, "user.early=1", "user.empty=")
    client("kv", "set", "--all", "user.all=everybody")
    for name in CHANNELS:
        plug(name)
        hostd.wait_state(name, "connected", 90)
    for name in CHANNELS:
        wait_file("user.early", b"1", name, 60)
        wait_file("host.name", os.uname().nodename.encode(), name)
        wait_file("user.all", b"everybody", name)
        assert file("user.empty", name) == b""          # not absent
        assert file("user.none", name) is None


for name, limit in (("vm", 2), ("old", 4)):
    @suite.case("%s: a change reaches the guest at once; --sync returns when it is there" % name)
    def _(name=name, limit=limit):
        took = []
        for i in range(5):
            began = time.monotonic()
            client("kv", "set", name, "--sync", "user.n=%d" % i)
            took.append(time.monotonic() - began)
            assert file("user.n", name) == b"%d" % i
        print("# seconds: %s" % " ".join("%.2f" % t for t in took))
        assert min(took) < limit * scale(), took
        # Without waiting for it, it comes all the same.
        client("kv", "set", name, "user.n=later")
        wait_file("user.n", b"later", name, 10)
        client("kv", "unset", name, "--sync", "user.n")
        assert file("user.n", name) is None

    @suite.case("%s: exact to the byte, to 1 MiB; one more names key, size and limit" % name)
    def _(name=name):
        blob = BLOBS[name]
        client("kv", "set", name, "--sync", "-t", "150", "user.blob", "-", data=blob,
               seconds=170)
        assert digest("user.blob", name) == hashlib.sha256(blob).hexdigest()
        assert client("kv", "get", name, "user.blob").stdout == blob
        r = client("kv", "set", name, "user.blob", "-", data=blob + b"x", check=2)
        assert b"user.blob" in r.stderr and b"1048576" in r.stderr, r.stderr
        big = xmlrpc.client.Binary(blob + b"x")
        e = fault(hostd.rpc().host.kv.set, name, {"user.blob": big})
        # No call holds more than that in one piece, so no method sees it.
        assert "base64 of more than 1048576 bytes" in e.faultString, e
        odd = bytes(range(256)) + b"\n"
        client("kv", "set", name, "--sync", "user.odd", "-", data=odd)
        assert file("user.odd", name) == odd

    @suite.case("%s: keys set together come together; compare-and-set" % name)
    def _(name=name):
        g = hostd.guest_rpc(name, 60).guest.kv
        since = g.watch("user.p*")["revision"]
        rev = hostd.rpc().host.kv.set(name, {"user.p1": "1", "user.p2": "2"})["revision"]
        seen = g.watch("user.p*", since, 20)
        assert sorted((k["name"], k["revision"]) for k in seen["keys"]) == \
            [("user.p1", rev), ("user.p2", rev)], seen
        fault(hostd.rpc().host.kv.set, name, {"user.p1": "9", "host.x": "9"})
        client("kv", "set", name, "--if-revision", str(rev), "user.p1=3")
        client("kv", "set", name, "--if-revision", str(rev), "user.p1=4", check=1)
        client("kv", "set", name, "--if-revision", "0", "user.p2=4", check=1)
        wait_file("user.p1", b"3", name)
        assert file("user.p2", name) == b"2"


@suite.case("in the guest: get, list, exists, watch and wait without naming it")
def _():
    assert inside("kv get user.early") == "1"
    assert inside("kv get user.none; echo $?", check=False).strip().endswith("\n1")
    assert inside("kv get user.none 2>/dev/null; echo $?") == "1\n"
    assert inside("kv exists user.empty; echo $?") == "0\n"
    assert "user.all" in inside("kv list 'user.*'").split()
    guest.sh("va-client kv watch 'user.w*' >/run/watched 2>&1 & "
             "(va-client kv wait user.later -t 60 >/run/waited; echo $? >>/run/waited) & true")
    client("kv", "set", "vm", "user.w1=1")
    client("kv", "unset", "vm", "user.w1")
    client("kv", "set", "vm", "user.later=1", "user.w2=1", "user.x=1")
    wait_until(lambda: "user.w2" in guest.sh("cat /run/watched"), 20, "the watch", 0.2)
    text = guest.sh("cat /run/watched")
    assert "user.x" not in text and "user.early" not in text, text
    wait_until(lambda: "0" in guest.sh("cat /run/waited").split(), 20, "the wait", 0.2)
    assert "user.later" in guest.sh("cat /run/waited")


@suite.case("a watch begins with what there is, and gets what it missed by revision")
def _():
    g = hostd.guest_rpc("vm", 60).guest.kv
    h = hostd.rpc(60).host.kv
    now_g, now_h = g.watch("user.early"), h.watch("vm", "user.early")
    assert [k["value"] for k in now_g["keys"] + now_h["keys"]] == [b"1", b"1"]
    client("kv", "set", "vm", "--sync", "user.early=2")
    client("kv", "set", "vm", "--sync", "user.early=3")
    client("kv", "unset", "vm", "--sync", "user.p1")
    for kv, args, since in ((g, (), now_g["revision"]), (h, ("vm",), now_h["revision"])):
        missed = kv.watch(*args, "user.*", since, 0)
        assert {(k["name"], k.get("value"), k.get("removed", False)) for k in missed["keys"]} \
            == {("user.early", b"3", False), ("user.p1", None, True)}, missed
        assert not missed["full"]
        assert kv.watch(*args, "user.*", missed["revision"], 0)["keys"] == []
    assert g.watch("*", str((1 << 31) + 7), 0)["full"]    # a number of nowhere


@suite.case("a reader of a key's file sees the old value or the new one, whole")
def _():
    values = [bytes([65 + i]) * 200000 for i in range(2)]
    client("kv", "set", "vm", "--sync", "user.whole", "-", data=values[0])
    guest.sh("(while [ ! -e /run/enough ]; do sha256sum </run/virtagent/kv/user.whole; done "
             ">/run/digests 2>&1; echo over >>/run/digests) & true")
    for i in range(12):
        client("kv", "set", "vm", "--sync", "user.whole", "-", data=values[(i + 1) % 2])
    guest.sh("touch /run/enough")
    wait_until(lambda: "over" in guest.sh("tail -n 1 /run/digests"), 20, "the reader", 0.1)
    lines = guest.sh("sort /run/digests | uniq -c").split("\n")
    seen = {x.split()[1] for x in lines if x.strip()} - {"over"}
    assert seen == {hashlib.sha256(v).hexdigest() for v in values}, lines


@suite.case("rights: who is not root reads the files he may, and lists nothing")
def _():
    client("kv", "set", "vm", "--sync", "--secret", "user.pass=hush")
    guest.sh("[ $(stat -c %a /run/virtagent/kv/user.early) = 644 ] && "
             "[ $(stat -c %a /run/virtagent/kv/user.pass) = 600 ]")

    def tester(text):
        return guest.sh("su tester -c '%s' 2>&1; true" % text)
    assert tester("cat /run/virtagent/kv/user.early") == "3"
    assert "ermission denied" in tester("cat /run/virtagent/kv/user.pass")
    assert "ermission denied" in tester("ls /run/virtagent/kv")
    assert "ermission denied" in tester("ls /run/virtagent")
    assert inside("kv get user.pass") == "hush"
    assert "user.pass" not in inside("kv list") and "user.pass" not in \
        client("kv", "list", "vm").stdout.decode()
    assert "hush" not in hostd.log() and "hush" not in guest.console()
    client("kv", "set", "vm", "--sync", "--no-read", "user.pass=hush")
    assert file("user.pass") is None
    # host.* and user.* are not the guest's to write, but what it may.
    assert inside("kv set host.name=x; echo $?", check=False).endswith("2\n")
    assert inside("kv set user.early=x; echo $?", check=False).endswith("2\n")
    client("kv", "set", "vm", "--sync", "--write", "user.early=4")
    inside("kv set user.early=mine")
    assert client("kv", "get", "vm", "user.early").stdout == b"mine"


for name in CHANNELS:
    @suite.case("%s: the guest's own keys reach the host, removals too" % name)
    def _(name=name):
        inside("kv set --sync guest.state=ready guest.none=", name)
        assert client("kv", "get", name, "guest.state").stdout == b"ready"
        assert client("kv", "get", name, "guest.none").stdout == b""
        inside("kv unset --sync guest.none", name)
        client("kv", "exists", name, "guest.none", check=1)
        client("kv", "set", name, "guest.state=x", check=2)


@suite.case("a hook runs on each change; one that hangs is ended and holds up nothing else")
def _():
    client("kv", "set", "vm", "--sync", "user.slow=1")
    began = time.monotonic()
    client("kv", "set", "vm", "--sync", "user.fast=1")
    assert time.monotonic() - began < 5 * scale()
    wait_until(lambda: "user.fast 0 1" in hooked(), 40, "the next hook", 0.5)
    took = time.monotonic() - began
    assert took > 5, "the hook's time was %.1f s" % took
    assert "user.early 0 1" in hooked() and "user.slow" not in hooked()
    assert not guest.pids("sleep 1000")


@suite.case("a guest that was away gets what changed since, and only that")
def _():
    before = {k["name"]: k["revision"] for k in hostd.rpc().host.kv.watch("vm")["keys"]}
    assert "user.blob" in before
    os.unlink(CHANNELS["vm"])
    guest.sh("rm -f /run/hooked")
    os.kill(hostd.facts("vm")["pid"], 9)
    hostd.wait_state("vm", "absent")
    client("kv", "set", "vm", "user.away=1")
    client("kv", "unset", "vm", "user.fast")
    r = client("kv", "set", "vm", "--sync", "-t", "0.5", "user.early=5", check=124)
    assert b"acknowledged" in r.stderr, r.stderr
    assert file("user.away") is None
    plug("vm")
    wait_file("user.early", b"5", seconds=60)
    assert file("user.away") == b"1" and file("user.fast") is None
    # The 1 MiB of user.blob did not cross the channel again.
    sent = hostd.facts("vm")["bytes_out"]
    assert sent < 100000, sent
    changed = {"user.away", "user.early", "user.fast"}
    wait_until(lambda: {x.split()[0] for x in hooked().splitlines()
                        if x.startswith("user.")} == changed, 30, "the hooks", 0.5)


@suite.case("a removal in the guest is not forgotten when the agent is killed at once")
def _():
    inside("kv set --sync guest.brief=1")
    client("kv", "exists", "vm", "guest.brief")
    hostd.stop_all()
    hostd.process.kill()
    server = [p for p in guest.pids("--role=server") if "isaserial" not in
              guest.sh("tr '\\0' ' ' </proc/%d/cmdline" % p)]
    inside("kv unset guest.brief")
    guest.sh("kill -9 %s" % " ".join(map(str, server)))
    hostd.start()
    wait_until(lambda: client("kv", "exists", "vm", "guest.brief", check=None).returncode == 1,
               60, "the removal to reach the host", 0.2)
    assert file("guest.brief") is None
    assert client("kv", "get", "vm", "guest.state").stdout == b"ready"


@suite.case("lifetimes: until a reset, until power-off")
def _():
    global guest
    client("kv", "set", "vm", "--sync", "--lifetime", "reset", "user.r=1")
    client("kv", "set", "vm", "--sync", "--lifetime", "poweroff", "user.p=1")
    inside("kv set --sync guest.kept=1")
    guest.qmp("system_reset")
    guest.wait_boot()
    wait_file("user.p", b"1", seconds=60)
    wait_until(lambda: client("kv", "exists", "vm", "user.r", check=None).returncode == 1, 30,
               "user.r to go", 0.2)
    assert file("user.r") is None
    client("kv", "exists", "vm", "user.p")
    guest.close()
    hostd.wait_state("vm", "absent")
    for path in CHANNELS.values():
        os.unlink(path)
    guest = Guest(**dict(guest.options))
    for name in CHANNELS:
        plug(name)
    wait_until(lambda: client("kv", "exists", "vm", "user.p", check=None).returncode == 1, 90,
               "user.p to go", 0.2)
    wait_file("user.away", b"1", seconds=60)
    assert file("user.p") is None
    # What the guest set is kept by the host, and comes back.
    wait_file("guest.kept", b"1")


suite.main()
