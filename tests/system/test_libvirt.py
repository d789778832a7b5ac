#!/usr/bin/python3
"""Domains of libvirt's: found by va-hostd, ports attached and detached by virsh.

time-limit: 240

SPDX-License-Identifier: MIT
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Suite, wait_until
from vatest.libvirt import URI, Libvirt, need_libvirt

need_libvirt()
suite = Suite()
lv = Libvirt()
suite.cleanups.append(lv.close)
suite.on_failure.append(lv.report)
SERIAL = [["-c", "isaserial-open:/dev/ttyS1:-"]]
hostd = None


def client(*words, code=0):
    r = lv.client(*words, hostd=hostd)
    assert r.returncode == code, (words, r.returncode, r.stdout, r.stderr)
    return r.stdout if code == 0 else r.stderr


def names():
    return sorted(g["name"] for g in hostd.rpc().host.guests())


def is_served(name):
    wait_until(lambda: name in names(), 60, name + " to be found")
    hostd.wait_state(name, "connected", 60)
    assert client("-G", name, "call", "guest.getfile", "/va/conf").startswith("NAME='")
    return hostd.facts(name)


def wait_gone(name):
    wait_until(lambda: name not in names(), 10, name + " to go", 0.05)


@suite.case("libvirt takes the elements that libvirt-xml prints")
def _():
    global hostd
    hostd = lv.hostd("[discover]\nlibvirt = yes\n")
    suite.cleanups.append(hostd.close)
    suite.on_failure.append(hostd.tail)
    lv.start()
    channel, line = client("libvirt-xml"), client("libvirt-xml", "--isa-serial", "lv-serial")
    assert "org.virtagent.0" in channel and "isa-serial" in line, (channel, line)
    lv.domain("lv-one", channel + line, agents=[[]] + SERIAL)
    lv.domain("lv-two", "<controller type='virtio-serial' index='0'/>", agents=[[]])
    assert lv.virsh("list", "--name").split() == ["lv-one", "lv-two"]


@suite.case("va-hostd finds a domain by libvirt's channel, and its agent answers")
def _():
    begin = time.monotonic()
    facts = is_served("lv-one")
    print("# connected %.1f s after the domains' start" % (time.monotonic() - begin))
    assert "/channel/target/domain-1-lv-one/org.virtagent.0" in facts["channel"], facts


@suite.case("and by the serial line's socket")
def _():
    assert is_served("lv-serial")["channel"].endswith("/serial/lv-serial.sock:-")


@suite.case("attach by virsh: a running domain without the channel gets one")
def _():
    assert "lv-two" not in names()
    wait_until(lambda: "rc: booted" in lv.report().split("lv-two.console")[1], 60, "its boot")
    begin = time.monotonic()
    client("attach", "--connect", URI, "lv-two")
    facts = is_served("lv-two")
    print("# served %.2f s after attach began" % (time.monotonic() - begin))
    assert "domain-2-lv-two" in facts["channel"], facts
    text = client("attach", "lv-two", code=2)
    assert "already" in text, text


@suite.case("detach by virsh, and the guest is gone")
def _():
    client("detach", "lv-two")
    wait_gone("lv-two")
    text = client("detach", "lv-two", code=2)
    assert "no port" in text, text


@suite.case("the channel directories of libvirt 9.7 and later")
def _():
    path = lv.path("run", "libvirt", "qemu", "run", "channel", "2-lv-two", "org.virtagent.0")
    os.makedirs(os.path.dirname(path))
    for d in (os.path.dirname(os.path.dirname(path)), os.path.dirname(path)):
        os.chown(d, os.stat(lv.dirs["run"]).st_uid, -1)
    lv.write("new.xml", client("libvirt-xml").replace("mode='bind'",
                                                      "mode='bind' path='%s'" % path))
    lv.virsh("attach-device", "lv-two", lv.path("new.xml"), "--live")
    assert is_served("lv-two")["channel"] == "unix-connect:%s:-" % path
    client("detach", "--libvirt", "lv-two")
    wait_gone("lv-two")


@suite.case("what libvirt cannot do, and a domain that it does not have")
def _():
    lv.domain("lv-bare", paused=True)
    text = client("attach", "lv-bare", code=2)
    assert "no virtio-serial controller" in text and "<controller" in text, text
    text = client("attach", "nobody-here", code=2)
    assert "--qmp" in text and "nobody-here" in text and "virsh" in text, text
    text = client("attach", "--libvirt", "nobody-here", code=2)
    assert "nobody-here" in text, text


@suite.case("a domain that is destroyed is a guest no more")
def _():
    last = hostd.events()[-1]["seq"]
    lv.virsh("destroy", "lv-one")
    e = hostd.wait_event("guest-vanished", last, guest="lv-one")
    assert e["data"]["socket"].endswith("/org.virtagent.0"), e
    wait_gone("lv-one")


suite.main()
