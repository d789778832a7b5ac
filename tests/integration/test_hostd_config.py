#!/usr/bin/python3
"""va-hostd's configuration: errors, reload, locks.

SPDX-License-Identifier: MIT
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Suite, need, program, run, tmpdir, wait_until
from vatest.hostd import FakeGuest, Hostd

suite = Suite()


def chan(name):
    return os.path.join(tmpdir(), name)


def section(name, channel):
    return "[guest %s]\nchannel = unix-connect:%s:-\n" % (name, channel)


def refused(h, *texts):
    r = run([program("va-hostd"), *h.args], env=h.env)
    assert r.returncode == 2, (r.returncode, r.stderr)
    for t in texts:
        assert t in r.stderr, (t, r.stderr)


@suite.case("errors name file, line and reason; the exit status is 2")
def _():
    h = Hostd(start=False)
    h.write_conf("[guest a]\nchanel = x\n")
    refused(h, "hostd.conf:2:", "chanel")
    h.write_conf("[guest a]\nchannel = x\n")
    refused(h, "hostd.conf:2:", "channel")
    h.write_conf("[policy]\nallow = class:nonsense\n")
    refused(h, "hostd.conf:2:", "nonsense")
    h.write_conf("nonsense\n")
    refused(h, "hostd.conf:1:")
    path = h.write_conf("")
    os.chmod(path, 0o666)
    refused(h, "hostd.conf")
    os.chmod(path, 0o600)
    h.args = ["--config", "/does/not/exist.conf"]
    refused(h, "/does/not/exist.conf")


@suite.case("two guests of one name: both places are named")
def _():
    h = Hostd(start=False)
    h.write_conf(section("web", "/a"), "guests.d/1.conf")
    h.write_conf("# two\n" + section("web", "/b"), "guests.d/2.conf")
    refused(h, "guests.d/2.conf:3:", "guests.d/1.conf:2", "web")


@suite.case("wrong options are refused")
def _():
    h = Hostd(start=False)
    need(program("va-hostd"))
    for args in (["--nonsense"], ["operand"], ["--runtime-dir", "relative"]):
        h.args = args
        refused(h, args[-1])
    for args in (["--help"], ["--version"]):
        r = run([program("va-hostd"), *args])
        assert r.returncode == 0 and "va-hostd" in r.stdout, r


@suite.case("a second va-hostd is refused and names the first")
def _():
    with Hostd() as h:
        r = run([program("va-hostd")], env=h.env)
        assert r.returncode == 1, r
        assert str(h.process.pid) in r.stderr and "hostd.lock" in r.stderr, r.stderr
        assert h.rpc().host.ping() == "pong"


@suite.case("a path too long for a socket is an error that says so")
def _():
    deep = os.path.join(tmpdir(), "d" * 90)
    with Hostd(["g=unix-connect:/nowhere:-"], start=False) as h:
        h.env["VA_RUNTIME_DIR"] = deep
        r = run([program("va-hostd"), *h.args], env=h.env, seconds=10)
        assert r.returncode == 1 and "hostd.sock" in r.stderr, r


@suite.case("SIGHUP adds and removes guests and leaves the others alone")
def _():
    with Hostd() as h:
        a = FakeGuest(chan("a"))
        b = FakeGuest(chan("b"))
        try:
            h.write_conf(section("a", chan("a")), "guests.d/a.conf")
            h.reload()
            wait_until(lambda: h.rpc().host.guests(), 10, "the guest a")
            pid = h.wait_state("a", "connected")["pid"]
            h.write_conf(section("b", chan("b")), "guests.d/b.conf")
            h.reload()
            wait_until(lambda: len(h.rpc().host.guests()) == 2, 10, "the guest b")
            h.wait_state("b", "connected")
            assert h.facts("a")["pid"] == pid
            os.unlink(os.path.join(h.conf_dir, "guests.d/b.conf"))
            h.reload()
            wait_until(lambda: not os.path.exists(h.guest_dir("b")), 10, "b's end")
            assert [g["name"] for g in h.rpc().host.guests()] == ["a"]
            facts = h.facts("a")
            assert facts["pid"] == pid and facts["state"] == "connected", facts
        finally:
            a.close()
            b.close()


@suite.case("SIGHUP with an error changes nothing and says where it is")
def _():
    with Hostd() as h:
        h.write_conf(section("a", chan("x")), "guests.d/a.conf")
        h.reload()
        wait_until(lambda: h.rpc().host.guests(), 10, "the guest a")
        h.write_conf("[guest b]\nnonsense = 1\n", "guests.d/b.conf")
        h.reload()
        h.process.wait_log(r"b\.conf:2: .*nonsense")
        assert [g["name"] for g in h.rpc().host.guests()] == ["a"]


@suite.case("a guest whose channel changed is started anew on it")
def _():
    with Hostd() as h:
        moved = FakeGuest(chan("new"), agent_id="moved")
        try:
            h.write_conf(section("a", chan("old")), "guests.d/a.conf")
            h.reload()
            wait_until(lambda: h.rpc().host.guests(), 10, "the guest a")
            pid = wait_until(lambda: h.facts("a")["pid"], 10, "its virtproxy")
            h.write_conf(section("a", chan("new")), "guests.d/a.conf")
            h.reload()
            wait_until(lambda: [g for g in h.rpc().host.guests()
                                if g["channel"].endswith("/new:-")], 10, "the new channel")
            facts = h.wait_state("a", "connected")
            assert facts["pid"] != pid, facts
            # And while va-hostd is away.
            h.process.kill()
            h.write_conf(section("a", chan("other")), "guests.d/a.conf")
            h.start()
            wait_until(lambda: h.facts("a")["status"].get("pid", facts["pid"]) != facts["pid"],
                       10, "another virtproxy")
            assert h.facts("a")["state"] == "absent"
            h.process.kill()
            os.unlink(os.path.join(h.conf_dir, "guests.d/a.conf"))
            h.start()
            assert not os.path.exists(h.guest_dir("a"))
        finally:
            moved.close()


@suite.case("names that are no file names get a directory of their own")
def _():
    with Hostd(["../x y=unix-connect:%s:-" % chan("n")]) as h:
        facts = h.facts("../x y")
        assert "/" not in facts["id"] and facts["directory"].startswith(h.runtime), facts
        assert os.path.realpath(facts["directory"]).startswith(os.path.realpath(h.runtime))


@suite.case("a pid file is written, locked and taken away")
def _():
    path = chan("pid")
    with Hostd(args=["--pid-file", path]) as h:
        with open(path, encoding="utf-8") as f:
            assert int(f.read()) == h.process.pid
        assert h.process.stop() == 0
        assert not os.path.exists(path)


suite.main()
