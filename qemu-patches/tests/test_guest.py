#!/usr/bin/python3
"""The monitors of a real guest: va-agent inside, va-hostd beside QEMU.

What a person does: look at a file, kill the agent in the middle of a call, stop
the guest, reboot it.  Every monitor keeps answering, and every call ends.

SPDX-License-Identifier: MIT
"""
# time-limit: 600
import base64
import os
import re
import signal
import time

from harness import Human, Monitor, Skip, calm, qemu_program, scale, tmpdir
from vatest import Guest, Suite, program, wait_until
from vatest import guest as guest_module
from vatest.hostd import Hostd

TIMEOUT_MS = 5000
PIECE = 131072

suite = Suite()
guest = hostd = qmp = other = hmp = None
NAME = "web1"


def firmware():
    """QEMU's own build of the distribution's source has no firmware blobs."""
    dirs = [d for d in ("/usr/share/seabios", "/usr/share/qemu") if os.path.isdir(d)]
    return [word for d in dirs for word in ("-L", d)]


def monitors(dir):
    args = []
    for name, mode in (("qmp2", "control"), ("hmp", "readline")):
        args += ["-chardev", "socket,id=%s,path=%s,server=on,wait=off"
                 % (name, os.path.join(dir, name)), "-mon", "chardev=%s,mode=%s" % (name, mode)]
    return args


def host_socket(name):
    return os.path.join(hostd.guest_dir(NAME), name + ".sock")


@suite.case("a guest boots under the patched QEMU")
def _():
    global guest, hostd, qmp, other, hmp
    guest_module.QEMU = qemu_program()
    hostd = Hostd(start=False)
    suite.cleanups.append(hostd.close)
    guest = Guest(channels=("virtio",), reboot=True, env={"ASAN_OPTIONS": "detect_leaks=0"},
                  files={"/srv/small": b"small\n", "/srv/binary": bytes(range(256)),
                         "/srv/large": b"0123456789abcdef" * (3 * PIECE // 16) + b"end"},
                  programs={"/usr/bin/va-client": program("va-client")},
                  args=firmware() + monitors(tmpdir()) + [
                      "-object", "virtagent,id=va0,path=%s,events=%s,timeout=%d"
                      % (host_socket("rpc"), host_socket("events"), TIMEOUT_MS)])
    suite.cleanups.append(guest.close)
    suite.on_failure.append(guest.report)
    suite.on_failure.append(guest.qemu.log)
    qmp = Monitor(os.path.join(tmpdir(), "qmp2"), guest.check_alive)
    hmp = Human(os.path.join(tmpdir(), "hmp"), guest.check_alive)
    other = guest.qmp


def case(name):
    def add(fn):
        @suite.case(name)
        def _():
            if hmp is None:
                raise Skip("no guest")
            fn()
            guest.check_alive()
        return fn
    return add


def watch(seconds):
    """Another monitor answers at once; the longest its query-status took."""
    return calm(guest.qemu, other, seconds)


def wait_agent(seconds=90):
    def pong():
        return "return" in qmp.call("agent-call", method="guest.ping", timeout=1000)
    wait_until(pong, seconds, "the agent to answer", 0.2)


@case("before va-hostd runs, a call says so at once")
def _():
    error = qmp.error("agent-ping")
    assert error["class"] == "not-connected" and host_socket("rpc") in error["desc"], error
    assert "va0: unknown" in hmp("info virtagent")


@case("AGENT_CONNECTED comes when va-hostd runs and has found the agent")
def _():
    hostd.args += ["--guest", "%s=unix-connect:%s:-" % (NAME, guest.virtio)]
    hostd.start()
    suite.on_failure.append(hostd.tail)
    data = qmp.wait_event("AGENT_CONNECTED", 60)["data"]
    assert data["object"] == "va0", data
    wait_agent()


@case("agent_viewfile /proc/meminfo")
def _():
    out = hmp("agent_viewfile /proc/meminfo")
    print("\n".join("# " + line for line in out.splitlines()[:3]))
    inside = guest.sh("grep MemTotal: /proc/meminfo").strip()
    assert out.splitlines()[0] == inside, out
    assert len(out.splitlines()) > 20


@case("every human command")
def _():
    assert hmp("agent_ping") == "ok\n"
    assert "Linux version" in hmp("agent_viewdmesg 131072")
    out = hmp("agent_capabilities")
    assert out.startswith("version: ") and "  guest.getfile\n" in out, out
    assert hmp("agent_viewfile /srv/small") == "small\n"
    assert "\\x00\\x01\\x02" in hmp("agent_viewfile /srv/binary")
    out = hmp("agent_viewfile /srv/large")
    assert "the file has %d bytes" % (3 * PIECE + 3) in out, out
    assert hmp("agent_viewfile /srv/large %d 10" % (3 * PIECE)) == "end\n"
    for path, word in (("/no/such/file", "No such file"), ("/srv", "directory"),
                       ("/dev/zero", "device"), ("relative", "relative")):
        out = hmp("agent_viewfile " + path)
        assert out.startswith("Error: ") and word in out and "fault 10" in out, out
    out = hmp("info virtagent")
    assert "va0: connected" in out and host_socket("rpc") in out, out


@case("every QMP command")
def _():
    assert qmp.call("agent-ping")["return"] == "pong"
    got = b""
    while True:
        r = qmp.call("agent-get-file", path="/srv/large", offset=len(got))["return"]
        got += base64.b64decode(r["data"])
        if r["eof"]:
            break
    assert got == b"0123456789abcdef" * (3 * PIECE // 16) + b"end"
    assert r["size"] == len(got)
    error = qmp.error("agent-get-file", path="/no/such/file")
    assert error["class"] == "fault" and error["code"] == 1002, error
    assert b"Linux version" in base64.b64decode(
        qmp.call("agent-get-dmesg", length=PIECE)["return"]["data"])
    caps = qmp.call("agent-capabilities")["return"]
    names = [m["name"] if isinstance(m, dict) else m for m in caps["methods"]]
    assert "guest.getfile" in names and caps["version"], caps
    listed = qmp.call("agent-call", method="system.listMethods")["return"]
    assert "guest.ping" in listed
    meminfo = qmp.call("agent-call", method="guest.getfile", arguments=["/proc/meminfo"])
    assert b"MemTotal" in base64.b64decode(meminfo["return"]["data"]["$base64"])
    odd = "/srv/\x1bx"
    guest.sh("printf odd >\"$(printf '/srv/\\033x')\"")
    assert base64.b64decode(qmp.call("agent-get-file", path=odd)["return"]["data"]) == b"odd"
    info = qmp("query-virtagent")[0]
    assert info["state"] == "connected" and info["failed"] >= 1 and info["replies"]


@case("the guest is stopped: the call ends in time, the monitors answer")
def _():
    other("stop")
    try:
        began = time.monotonic()
        hmp.send("agent_viewfile /proc/meminfo")
        number = qmp("agent-ping")["id"]
        worst = watch(1.0)
        out = hmp.until_prompt()
        took = time.monotonic() - began
    finally:
        other("cont")
    assert "no answer within %d ms" % TIMEOUT_MS in out, out
    assert took < TIMEOUT_MS / 1000 + 1 * scale(), took
    assert qmp.reply(number)["error"]["class"] == "timeout"
    wait_agent(30)
    print("# query-status took %.1f ms at most" % (worst * 1000))


@case("the agent is killed in the middle of a call")
def _():
    # all its processes: while one goes on, it would replace the others
    pids = " ".join(map(str, guest.pids("va-agent")))
    guest.sh("kill -STOP " + pids)
    number = qmp("agent-get-file", path="/srv/small")["id"]
    began = time.monotonic()
    hmp.send("agent_ping")
    watch(0.5)
    assert len(qmp("query-virtagent")[0]["pending"]) == 2
    guest.sh("kill -9 " + pids)
    data = qmp.reply(number)
    out = hmp.until_prompt().strip().splitlines()[-1]
    took = time.monotonic() - began
    assert data["error"]["class"] in ("connection-lost", "timeout"), data
    assert out.startswith("Error: "), out
    assert took < TIMEOUT_MS / 1000 + 1 * scale(), took
    print("# after %.1f s QMP: %s; HMP: %s" % (took, data["error"]["desc"], out))
    watch(0.3)
    wait_agent()
    assert hmp("agent_viewfile /srv/small") == "small\n"


@case("what the guest reports comes as AGENT_EVENT")
def _():
    # a shell of the guest has no VA_GUEST: va-client asks the host
    guest.sh("va-client event send backup-done '{\"files\": 12}'")
    while True:
        data = qmp.wait_event("AGENT_EVENT")["data"]
        if data["event"] == "backup-done":
            break
    assert data["guest"] == NAME and data["data"]["files"] == 12, data
    assert data["object"] == "va0" and data["seq"] > 0 and data["time"].endswith("Z"), data


@case("virtproxy is killed in the middle of a call; va-hostd starts another")
def _():
    other("stop")
    number = qmp("agent-ping")["id"]
    wait_until(lambda: int(hostd.facts(NAME)["streams"]) > 0, 10, "the call in virtproxy")
    os.kill(hostd.facts(NAME)["pid"], signal.SIGKILL)
    error = qmp.reply(number)["error"]
    assert error["class"] in ("connection-lost", "not-connected"), error
    other("cont")
    wait_agent()


@case("va-hostd is killed in the middle of a call, and the call ends well")
def _():
    pids = " ".join(map(str, guest.pids("va-agent")))
    guest.sh("kill -STOP " + pids)
    number = qmp("agent-get-file", path="/srv/small")["id"]
    hostd.process.kill()
    guest.sh("kill -CONT " + pids)
    data = qmp.reply(number)
    # its virtproxy lives on; only a server that was found hanging loses the call
    assert "return" in data or data["error"]["class"] == "connection-lost", data
    wait_until(lambda: not qmp("query-virtagent")[0]["events-connected"], 10, "the break")
    assert qmp.call("agent-ping")["return"] == "pong"
    hostd.start()
    wait_until(lambda: qmp("query-virtagent")[0]["events-connected"], 20, "the event stream")
    guest.sh("va-client event send after-the-break '{}'")
    while qmp.wait_event("AGENT_EVENT")["data"]["event"] != "after-the-break":
        pass


@case("the guest is reset in the middle of calls")
def _():
    other("stop")
    numbers = [qmp("agent-ping")["id"] for _ in range(4)]
    began = time.monotonic()
    other("system_reset")
    other("cont")
    for n in numbers:
        assert "error" in qmp.reply(n)
    assert time.monotonic() - began < TIMEOUT_MS / 1000 + 1 * scale()
    guest.wait_boot()
    wait_agent()


@case("agent_shutdown reboot reboots the guest, and the agent is there again")
def _():
    boot = guest.sh("cat /proc/sys/kernel/random/boot_id")
    qmp.events.clear()
    out = hmp("agent_shutdown reboot")
    assert out == "", out
    qmp.wait_event("AGENT_DISCONNECTED", 60)
    guest.wait_boot()
    qmp.wait_event("AGENT_CONNECTED", 60)
    assert guest.sh("cat /proc/sys/kernel/random/boot_id") != boot
    wait_agent()
    assert hmp("agent_viewfile /proc/sys/kernel/random/boot_id") == \
        guest.sh("cat /proc/sys/kernel/random/boot_id")


@suite.case("agent-shutdown poweroff ends the guest, and QEMU without complaint")
def _():
    if hmp is None:
        raise Skip("no guest")
    data = qmp.call("agent-shutdown", mode="poweroff")
    assert "return" in data, data
    status = guest.qemu.wait(60)
    log = guest.qemu.log()
    assert status == 0 and not re.search(r"ERROR: |runtime error|Assertion", log), (status, log)


if __name__ == "__main__":
    suite.main()
