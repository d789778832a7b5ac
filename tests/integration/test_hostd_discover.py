#!/usr/bin/python3
"""Guests that va-hostd finds by their sockets, and loses with them.

time-limit: 120

SPDX-License-Identifier: MIT
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Suite, run, tmpdir, program, wait_until
from vatest.hostd import FakeGuest, Hostd, need_hostd

need_hostd()
suite = Suite()
top = os.path.join(tmpdir(), "lv")
old = os.path.join(top, "target")
new = os.path.join(top, "run", "channel")       # not there at first
flat = os.path.join(top, "flat")
os.makedirs(old)
os.mkdir(flat)
CONF = ("[discover]\n"
        "channels = %s/domain-{id}-{name}/org.virtagent.0\n"
        "channels = %s/{id}-{name}/org.virtagent.0\n"
        "channels = %s/{name}.*.sock\n" % (old, new, flat))


def qemu(directory, name, sock="org.virtagent.0", agent=None):
    path = os.path.join(directory, name)
    os.makedirs(path, exist_ok=True)
    g = FakeGuest(os.path.join(path, sock), agent_id=agent or "agent-" + name)
    suite.cleanups.append(g.close)
    return g


def take_away(g):
    """As libvirt does when a machine ends."""
    g.vanish()
    if os.path.exists(g.channel):
        os.unlink(g.channel)
    if os.path.dirname(g.channel) != flat:
        os.rmdir(os.path.dirname(g.channel))


def names():
    return sorted(x["name"] for x in hostd.rpc().host.guests())


def connected(name):
    """Found, and its agent talks."""
    wait_until(lambda: name in names(), 10, name + " to be found", 0.05)
    return hostd.wait_state(name, "connected")


first = qemu(old, "domain-3-first")
hostd = Hostd(conf=CONF)
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)


@suite.case("a machine that runs already is found at the start")
def _():
    hostd.wait_state("first", "connected")
    e = hostd.wait_event("guest-appeared")
    assert (e["guest"], e["data"]["socket"]) == ("first", first.channel), e
    assert hostd.guest_rpc("first").guest.ping() == "pong"
    assert hostd.facts("first")["configured"]["file"] == first.channel


@suite.case("one that starts later is found without a word")
def _():
    qemu(old, "domain-4-second-one")
    connected("second-one")


@suite.case("a directory that is made later is found, and so is what is in it")
def _():
    assert not os.path.exists(os.path.dirname(new))
    qemu(new, "5-third")
    connected("third")
    hostd.wait_event("guest-appeared", guest="third")


@suite.case("a plain directory of sockets; what is no socket, or fits no pattern, is none")
def _():
    open(os.path.join(flat, "file.x.sock"), "w").close()
    g = FakeGuest(os.path.join(flat, "a.b.virtagent.sock"))
    other = FakeGuest(os.path.join(flat, "other"))
    suite.cleanups += [g.close, other.close]
    connected("a.b")
    assert names() == ["a.b", "first", "second-one", "third"], names()


@suite.case("a machine that ends is gone, with an event")
def _():
    last = hostd.events()[-1]["seq"]
    pid = hostd.facts("first")["pid"]
    take_away(first)
    e = hostd.wait_event("guest-vanished", last)
    assert e["guest"] == "first" and e["data"]["socket"] == first.channel, e
    wait_until(lambda: "first" not in names(), 10, "the guest to go", 0.05)
    wait_until(lambda: not os.path.exists("/proc/%d" % pid), 10, "its virtproxy to end", 0.05)
    assert not os.path.exists(hostd.guest_dir("first"))


@suite.case("one that comes back under another number is the same guest")
def _():
    qemu(old, "domain-9-first")
    connected("first")
    # A socket left over by a machine that crashed does not win over the running one.
    os.mkdir(os.path.join(old, "domain-2-first"))
    stale = FakeGuest(os.path.join(old, "domain-2-first", "org.virtagent.0"))
    suite.cleanups.append(stale.close)
    last = hostd.events()[-1]["seq"]
    marker = FakeGuest(os.path.join(flat, "marker.x.sock"))
    suite.cleanups.append(marker.close)
    hostd.wait_event("guest-appeared", last, guest="marker")
    assert "domain-9-first" in hostd.facts("first")["channel"]


@suite.case("what the configuration names wins, and a pattern may be taken away")
def _():
    third = hostd.facts("third")["pid"]
    extra = FakeGuest(os.path.join(top, "extra"))
    suite.cleanups.append(extra.close)
    hostd.write_conf(CONF.replace("channels = %s/{name}.*.sock\n" % flat, "") +
                     "[guest first]\nchannel = unix-connect:%s/extra:-\n" % top)
    hostd.reload()
    wait_until(lambda: names() == ["first", "second-one", "third"], 10, "the reload", 0.05)
    wait_until(lambda: hostd.facts("first")["channel"].endswith("/extra:-"), 10, "its channel")
    hostd.wait_state("first", "connected")
    assert hostd.facts("third")["pid"] == third


@suite.case("a restart of va-hostd adopts what was found")
def _():
    pid = hostd.facts("third")["pid"]
    hostd.process.kill()
    hostd.start()
    assert connected("third")["pid"] == pid


@suite.case("a pattern that cannot work is refused with its line")
def _():
    for value, why in (("relative/{name}", "not an absolute path"),
                       ("/x/*.sock", "{name} must stand in it"),
                       ("/x/{name}/{name}", "once")):
        path = hostd.write_conf("[discover]\nchannels = %s\n" % value, "bad.conf")
        r = run([program("va-hostd"), "-c", path], env=hostd.env)
        assert r.returncode == 2 and "bad.conf:2" in r.stderr and why in r.stderr, r


suite.main()
