#!/usr/bin/python3
# test_events_guest.py - a real guest tells a real va-hostd what happens to it;
# what it says while the host is away arrives later, once.
#
# SPDX-License-Identifier: MIT
import json
import os
import signal

from vatest import Guest, Suite, program, run, wait_until
from vatest.hostd import Hostd, need_hostd

need_hostd()
suite = Suite()
guest = Guest(channels=("virtio",), programs={"/bin/va-client": program("va-client")})
suite.cleanups.append(guest.close)
suite.on_failure.append(guest.report)
hostd = Hostd(["vm1=unix-connect:%s:-" % guest.virtio])
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)


def send(*args):
    return guest.sh("va-client event send %s; echo $?" % " ".join("'%s'" % a for a in args))


@suite.case("agent-up and booted, with the boot's id")
def _():
    hostd.wait_event("agent-up", seconds=60)
    boot = guest.sh("cat /proc/sys/kernel/random/boot_id").strip()
    assert hostd.wait_event("booted")["data"] == {"boot_id": boot}


@suite.case("va-client in the guest calls the host, and learns of itself only")
def _():
    assert guest.sh("va-client call host.ping").strip() == hostd.rpc().host.ping()
    assert guest.sh("va-client call host.hello; echo $?").endswith("0\n")
    rows = json.loads(guest.sh("va-client --json call host.guests"))
    assert [g["name"] for g in rows] == ["vm1"], rows
    assert "pong" in guest.sh("va-client call guest.ping")
    line = [x for x in hostd.log().splitlines() if "host.guests" in x][-1]
    assert "vm1" in line and "uid=0" in line, line


@suite.case("va-client event send in the guest; wrong ones are refused with the reason")
def _():
    assert send("backup-done", '{"bytes": 12345}').endswith("0\n")
    e = hostd.wait_event("backup-done")
    assert e["guest"] == "vm1" and e["data"] == {"bytes": 12345}, e
    assert "no event's name" in send("Bad Name")
    assert "a struct" in send("x", "[1]")
    r = hostd.guest_rpc("vm1")
    try:
        r.guest.event.send("forged")
        raise AssertionError("the host sent a guest's event")
    except Exception as f:
        assert "only programs in the guest" in str(f), f


@suite.case("what is sent while the host is away arrives once, in order, when it is back")
def _():
    last = hostd.events()[-1]["seq"]
    hostd.process.signal(signal.SIGSTOP)
    for i in range(5):
        assert send("away", '{"n": %d}' % i).endswith("0\n")
    hostd.process.kill()
    hostd.start()
    wait_until(lambda: len([e for e in hostd.events(last) if e["event"] == "away"]) == 5, 60,
               "five events", 0.3)
    got = [e["data"]["n"] for e in hostd.events(last) if e["event"] == "away"]
    assert got == [0, 1, 2, 3, 4], got


@suite.case("a program that nobody waits for: its end is an event")
def _():
    last = hostd.events()[-1]["seq"]
    rpc = hostd.guest_rpc("vm1")
    job = rpc.guest.exec.start(["/bin/sh", "-c", "exit 7"])["job"]
    e = hostd.wait_event("program-ended", last)["data"]
    assert e["job"] == job and e["status"] == 7 and e["program"].endswith("sh") \
        and e["state"] == "exited" and e["pid"] > 1, e
    last = hostd.events()[-1]["seq"]
    job = rpc.guest.exec.start(["/bin/sleep", "1000"])["job"]
    rpc.guest.exec.kill(job, "KILL")
    e = hostd.wait_event("program-ended", last)["data"]
    assert e["job"] == job and e["signal"] == 9 and "status" not in e, e
    # Whoever waits for it learns it by that.
    last = hostd.events()[-1]["seq"]
    r = run([program("va-client"), "exec", "vm1", "--", "/bin/true"], env=hostd.env, seconds=30)
    assert r.returncode == 0, r
    assert send("after-exec").endswith("0\n")
    hostd.wait_event("after-exec", last)
    assert not [e for e in hostd.events(last) if e["event"] == "program-ended"]


@suite.case("a replaced agent does not report the boot again")
def _():
    last = hostd.events()[-1]["seq"]
    guest.sh("kill -9 $(for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | "
             "grep -q -e --role=server && echo ${p#/proc/}; done)")
    wait_until(lambda: send("after").endswith("0\n"), 20, "the new server")
    hostd.wait_event("after", last)
    assert not [e for e in hostd.events(last) if e["event"] == "booted"]


@suite.case("a shutdown that was asked for is told before it happens")
def _():
    last = hostd.events()[-1]["seq"]
    r = run([program("va-client"), "-G", "vm1", "shutdown"], env=hostd.env, seconds=30)
    assert r.returncode == 0, r
    e = hostd.wait_event("shutdown-begun", last)
    assert e["data"]["mode"] == "powerdown" and e["data"]["by"] == "host" \
        and e["data"]["uid"] == os.getuid() and e["data"]["via"] == "virtagent", e
    assert guest.qemu.wait(60) == 0
    hostd.wait_event("agent-down", last, 60)


if __name__ == "__main__":
    suite.main()
