#!/usr/bin/python3
# test_agent_guest.py - what va-agent does to a real guest: shutting it down, and
# living on while its date is set, or its log and a handler are stuck on a frozen file
# system
#
# SPDX-License-Identifier: MIT
import json
import threading
import time
import xmlrpc.client

from vatest import Guest, Suite, connect_unix, scale, wait_until, xmlrpc_proxy
from vatest.host import Proxy

# Takes the words of shutdown(8) down instead of acting on them.
SHUTDOWN = '#!/bin/sh\necho "$*" >/run/shutdown.part && mv /run/shutdown.part /run/shutdown\n'
BOOT = """
dd if=/dev/zero of=/tmp/fs bs=1M count=8 2>/dev/null
mke2fs -F /tmp/fs >/dev/null
mkdir -p /frozen
mount -t ext4 -o loop /tmp/fs /frozen
"""

suite = Suite()
guest = Guest(channels=("virtio",), agents=[["-v", "-l", "/frozen/agent.log"]], boot=BOOT,
              files={"/sbin/shutdown": (SHUTDOWN, 0o755)})
suite.cleanups.append(guest.close)
suite.on_failure.append(guest.report)
proxy = Proxy(guest.virtio)
suite.cleanups.append(proxy.close)
suite.on_failure.append(proxy.process.log)


def server(timeout=30):
    return xmlrpc_proxy(proxy.rpc, timeout)


def ping_again(seconds=10):
    began = time.monotonic()

    def attempt():
        try:
            return server(5).guest.ping() == "pong"
        except Exception:               # cut off, or nobody there yet
            return False
    wait_until(attempt, seconds, "a ping")
    return time.monotonic() - began


def server_pid():
    return guest.pids("role=server")[-1]


@suite.case("the agent answers, and logs into the file system to be frozen")
def _():
    proxy.wait_agent(120)
    server().guest.getfile("/proc/version")
    wait_until(lambda: "guest.getfile" in guest.sh("cat /frozen/agent.log"), 10, "a log line")


@suite.case("the date set by ten years to and fro ends nothing early or late")
def _():
    waits = {"deadline": (124, ("-t", "6", "call", "guest.exec.run", 'json:["sleep","60"]')),
             "limit": (0, ("-t", "60", "--json", "call", "guest.exec.run",
                           'json:["sleep","60"]', 'json:{"timeout":6}')),
             "program": (0, ("exec", "--", "sleep", "6"))}
    found = {}

    def wait(name, args):
        began = time.monotonic()
        found[name] = proxy.client(*args, seconds=90), time.monotonic() - began
    threads = [threading.Thread(target=wait, args=(name, args))
               for name, (_, args) in waits.items()]
    sessions = proxy.process.log().count("session up")
    for t in threads:
        t.start()
    now = int(guest.sh("date +%s"))
    for years in (10, -10, 0):
        time.sleep(1.5)
        guest.sh("date -s @%d" % (now + years * 365 * 86400))
        assert server(5).guest.ping() == "pong"
    for t in threads:
        t.join()
    for name, (status, _) in waits.items():
        r, took = found[name]
        assert r.returncode == status, (name, r)
        assert 5.9 <= took < 6 + 4 * scale(), "%s: %.1f s" % (name, took)
        print("# %s: %.2f s" % (name, took))
    assert json.loads(found["limit"][0].stdout)["timed_out"], found["limit"]
    assert proxy.process.log().count("session up") == sessions


def asks(call, *words):
    guest.sh("rm -f /run/shutdown")
    began = time.monotonic()
    reply = call()
    assert guest.sh("ls /run/shutdown 2>/dev/null || true").strip() == "", \
        "acted before it answered"
    wait_until(lambda: guest.sh("cat /run/shutdown 2>/dev/null || true").strip(), 10,
               "shutdown(8) to be run")
    assert time.monotonic() - began >= 0.9, "acted too soon"
    said = guest.sh("cat /run/shutdown").split()
    assert said[:len(words)] == list(words), said
    return reply


@suite.case("guest.shutdown answers, then runs shutdown(8); the words of the original")
def _():
    rpc = server()
    assert asks(lambda: rpc.guest.shutdown(), "-h", "-P", "now")["mode"] == "powerdown"
    assert asks(lambda: rpc.guest.shutdown("reboot"), "-r", "now")["mode"] == "reboot"
    assert asks(lambda: rpc.guest.shutdown("poweroff"), "-h", "-P", "now")["mode"] == "powerdown"
    assert asks(lambda: rpc.va.shutdown("halt"), "-h", "-H", "now") == "dummy"
    try:
        rpc.guest.shutdown("sideways")
        raise AssertionError("no fault")
    except xmlrpc.client.Fault as f:
        assert "sideways" in f.faultString and "reboot" in f.faultString, f


@suite.case("what was asked for happens although the server dies meanwhile")
def _():
    guest.sh("rm -f /run/shutdown")
    server().guest.shutdown("reboot")
    guest.sh("kill -9 %d" % server_pid())
    wait_until(lambda: guest.sh("cat /run/shutdown 2>/dev/null || true").startswith("-r"), 10,
               "shutdown(8) to be run")
    ping_again()


def agent_pid():
    return guest.pids("va-agent -v")[0]


def asked_for():
    return guest.sh("cat /run/shutdown 2>/dev/null || true").split()


@suite.case("a delayed shutdown survives the whole agent, with its message, once")
def _():
    ping_again()
    guest.sh("rm -f /run/shutdown")
    assert server().guest.shutdown("reboot", 8, "two words")["delay_ms"] == 9000
    kept = guest.sh("stat -c %a /run/virtagent/shutdown; cat /run/virtagent/shutdown")
    assert kept.startswith("600\n") and "STATE=waiting\n" in kept and "BY=host\n" in kept, kept
    guest.sh("kill -9 %d" % agent_pid())
    ping_again(30)
    assert asked_for() == [], "a restart made it begin"
    wait_until(asked_for, 30, "shutdown(8) to be run")
    assert asked_for() == ["-r", "now", "two", "words"], asked_for()
    # No second time, whoever else comes and goes.
    guest.sh("rm -f /run/shutdown; kill -9 %d" % agent_pid())
    ping_again(30)
    assert "STATE=begun\n" in guest.sh("cat /run/virtagent/shutdown")
    assert asked_for() == []


@suite.case("a program that refuses is not taken for a shutdown that goes on")
def _():
    guest.sh("mv /sbin/shutdown /sbin/good; printf '#!/bin/sh\\nexit 3\\n' >/sbin/shutdown; "
             "chmod 755 /sbin/shutdown")
    try:
        server().guest.shutdown("reboot")
        wait_until(lambda: "reboot, asked for by uid 0 of the host, failed: /sbin/shutdown "
                   "ended with status 3" in guest.sh("cat /frozen/agent.log"), 20, "the log line")
        assert not guest.sh("ls /run/virtagent/shutdown 2>/dev/null || true")
    finally:
        guest.sh("mv /sbin/good /sbin/shutdown")


@suite.case("the next one that is asked for takes the place of what waits")
def _():
    rpc = server()
    rpc.guest.shutdown("reboot", 3)
    assert asks(rpc.guest.shutdown, "-h", "-P", "now")["mode"] == "powerdown"
    guest.sh("rm -f /run/shutdown; sleep 4")
    assert asked_for() == []


@suite.case("what waits is taken back: by the host, from inside, after a restart; then again")
def _():
    rpc = server()
    guest.sh("rm -f /run/shutdown")
    boot = guest.sh("cat /proc/sys/kernel/random/boot_id").strip()
    # (An earlier case's was begun, as far as the agent knows.)
    guest.sh("rm -f /run/virtagent/shutdown; kill -9 %d" % agent_pid())
    ping_again(30)
    try:
        rpc.guest.shutdown.cancel()
        raise AssertionError("no fault")
    except xmlrpc.client.Fault as f:
        assert f.faultCode == 1002 and "no shutdown, reboot, halt or suspend waits" in \
            f.faultString, f
    rpc.guest.shutdown("reboot", 3, "soon")
    rpc.guest.shutdown("halt", 4)
    got = rpc.guest.shutdown.cancel()
    assert got["mode"] == "halt" and got["by"] == "host" and 0 < got["delay_ms"] <= 5000, got
    assert guest.sh("ls /run/virtagent/shutdown 2>/dev/null || true") == ""
    # One thread waits, however often.
    threads = "ls /proc/%d/task | wc -l" % server_pid()
    for _ in range(30):
        rpc.guest.shutdown("reboot", 3600)
        rpc.guest.shutdown.cancel()
    assert int(guest.sh(threads)) < 15, guest.sh(threads)
    # The next agent knows of what waits, too.
    rpc.guest.shutdown("reboot", 6)
    guest.sh("kill -9 %d" % agent_pid())
    ping_again(30)
    assert server().guest.shutdown.cancel()["mode"] == "reboot"
    guest.sh("kill -9 %d" % agent_pid())
    ping_again(30)
    r = proxy.client("shutdown", "--cancel")
    assert r.returncode == 1 and "waits" in r.stderr, r
    proxy.client("reboot", "-d", "60")
    r = proxy.client("shutdown", "--cancel")
    assert (r.returncode, r.stdout) == (0, "reboot cancelled\n"), r
    assert asked_for() == [] and boot == guest.sh("cat /proc/sys/kernel/random/boot_id").strip()
    # What is taken back makes room for another; what has begun is not taken back.
    server().guest.shutdown("reboot", 1)
    wait_until(asked_for, 20, "shutdown(8) to be run")
    try:
        server().guest.shutdown.cancel()
        raise AssertionError("no fault")
    except xmlrpc.client.Fault as f:
        assert f.faultCode == 1114 and "reboot has begun" in f.faultString, f
    for what in ("is taken back", "reboot was asked for"):
        assert what in guest.sh("cat /frozen/agent.log"), what


@suite.case("another boot's, a damaged one, one long overdue: none of them begins")
def _():
    boot = guest.sh("cat /proc/sys/kernel/random/boot_id").strip()
    late = "BOOT=%s\nSTATE=waiting\nMODE=reboot\nBY=host\nUID=0\nDUE=1\nMESSAGE=x" % boot
    guest.sh("rm -f /run/shutdown")
    for text in (late.replace(boot, "another"), late.replace("MODE=reboot", "MODE=dance"),
                 late.replace("UID=0", "UID=-1"), "nonsense", late):
        if text == late:        # and it is by more than a minute
            wait_until(lambda: float(guest.sh("cut -d' ' -f1 /proc/uptime")) > 62, 90,
                       "the guest to be old enough")
        guest.sh("printf '%%b' '%s' >/run/virtagent/shutdown; kill -9 %d"
                 % (text.replace("\n", "\\n"), agent_pid()))
        ping_again(30)
        wait_until(lambda: not guest.sh("ls /run/virtagent/shutdown 2>/dev/null || true"), 10,
                   "the file to be gone")
        assert asked_for() == [], text


@suite.case("with the log on a frozen file system calls are answered as ever")
def _():
    ping_again()
    guest.sh("fsfreeze --freeze /frozen")
    try:
        rpc = server()
        for _ in range(20):
            rpc.guest.getfile("/proc/version")
            began = time.monotonic()
            assert rpc.guest.ping() == "pong"
            assert time.monotonic() - began < 1 * scale()
        # The writer hangs in the kernel, as it should: or nothing was tested.
        state = guest.sh("cat /proc/%d/task/*/stat | grep -c ') D ' || true" % server_pid())
        assert int(state) >= 1, state
    finally:
        guest.sh("fsfreeze --unfreeze /frozen")
    wait_until(lambda: guest.sh("grep -c guest.getfile /frozen/agent.log").strip() >= "20", 10,
               "the lines kept meanwhile")


@suite.case("a server that cannot even be killed is replaced, and ends when it can")
def _():
    ping_again()
    guest.sh("fsfreeze --freeze /frozen")
    try:
        rpc = server()
        rpc.guest.getfile("/proc/version")      # a line for the log: its writer hangs
        old = server_pid()
        wait_until(lambda: ") D " in guest.sh("cat /proc/%d/task/*/stat" % old), 10,
                   "the writer to hang")
        held = connect_unix(proxy.rpc, 10)
        held.sendall(b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n<")
        server().guest.ping()
        guest.sh("kill -9 %d" % old)
        took = ping_again()
        print("# answered after %.2f s" % took)
        assert took < 2 * scale(), took
        assert guest.sh("test -d /proc/%d && echo there || true" % old).strip() == "there", \
            "it could be killed: nothing was tested"
        try:
            assert held.recv(1000) == b"", "a call of the old server was answered"
        except ConnectionResetError:
            pass
        held.close()
        server().guest.getfile("/proc/version")
    finally:
        guest.sh("fsfreeze --unfreeze /frozen")
    wait_until(lambda: guest.sh("test -d /proc/%d && echo there || true" % old).strip() == "",
               10, "the old server to end")
    assert ping_again() < 2 * scale()


@suite.case("an agent that starts anew while its log is frozen answers")
def _():
    ping_again()
    guest.sh("fsfreeze --freeze /frozen")
    try:
        server().guest.getfile("/proc/version")
        old = server_pid()
        wait_until(lambda: ") D " in guest.sh("cat /proc/%d/task/*/stat" % old), 10,
                   "the writer to hang")
        guest.sh("kill -9 %d" % agent_pid())
        assert ping_again(20) < 10 * scale()
        server().guest.getfile("/proc/version")
        assert ping_again() < 2 * scale()
    finally:
        guest.sh("fsfreeze --unfreeze /frozen")


@suite.case("guest.shutdown really powers the guest off")
def _():
    guest.sh("rm /sbin/shutdown")
    assert server().guest.shutdown()["mode"] == "powerdown"
    guest.qemu.wait(60)


suite.main()
