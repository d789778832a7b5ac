#!/usr/bin/python3
"""The monitors of a real guest: va-agent inside, virtproxy beside QEMU.

What a person does: look at a file, kill the agent in the middle of a call, stop
the guest, reboot it.  Every monitor keeps answering, and every call ends.

SPDX-License-Identifier: MIT
"""
# time-limit: 600
import base64
import os
import re
import time

from harness import Human, Monitor, Skip, qemu_program, quick, scale, tmpdir
from vatest import Guest, Process, Suite, program, wait_until
from vatest import guest as guest_module

TIMEOUT_MS = 5000
PIECE = 131072

suite = Suite()
guest = proxy = qmp = other = hmp = None
RPC = os.path.join(tmpdir(), "rpc.sock")


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


def start_proxy():
    global proxy
    proxy = Process([program("virtproxy"), "-c", "unix-connect:%s:-" % guest.virtio,
                     "-o", "virtagent:%s:-" % RPC],
                    name="virtproxy", env={"VA_RUNTIME_DIR": tmpdir()})


@suite.case("a guest boots under the patched QEMU")
def _():
    global guest, qmp, other, hmp
    guest_module.QEMU = qemu_program()
    if not os.access(program("virtproxy"), os.X_OK):
        raise Skip("%s is missing: run ./quickstart build" % program("virtproxy"))
    guest = Guest(channels=("virtio",), reboot=True, env={"ASAN_OPTIONS": "detect_leaks=0"},
                  files={"/srv/small": b"small\n", "/srv/binary": bytes(range(256)),
                         "/srv/large": b"0123456789abcdef" * (3 * PIECE // 16) + b"end"},
                  args=firmware() + monitors(tmpdir()) + [
                      "-object", "virtagent,id=va0,path=%s,timeout=%d" % (RPC, TIMEOUT_MS)])
    suite.cleanups.append(guest.close)
    suite.on_failure.append(guest.report)
    suite.on_failure.append(guest.qemu.log)
    qmp = Monitor(os.path.join(tmpdir(), "qmp2"))
    hmp = Human(os.path.join(tmpdir(), "hmp"))
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


def latency():
    began = time.monotonic()
    other("query-status")
    return time.monotonic() - began


def watch(seconds):
    """All other monitors answer; the slowest query-status."""
    worst, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        worst = max(worst, latency())
    assert worst < quick(guest.qemu), "query-status took %.3f s" % worst
    return worst


def wait_agent(seconds=90):
    def pong():
        return "return" in qmp.call("agent-call", method="guest.ping", timeout=1000)
    wait_until(pong, seconds, "the agent to answer", 0.2)


@case("before virtproxy runs, a call says so at once")
def _():
    error = qmp.error("agent-ping")
    assert error["class"] == "not-connected" and RPC in error["desc"], error
    start_proxy()
    suite.cleanups.append(lambda: proxy.kill())
    suite.on_failure.append(lambda: proxy.log())
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
    assert "va0: connected" in out and RPC in out, out


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
    began = time.monotonic()
    hmp.send("agent_viewfile /proc/meminfo")
    number = qmp("agent-ping")["id"]
    worst = watch(2.0)
    out = hmp.until_prompt()
    took = time.monotonic() - began
    assert "no answer within %d ms" % TIMEOUT_MS in out, out
    assert took < TIMEOUT_MS / 1000 + 1 * scale(), took
    assert qmp.reply(number)["error"]["class"] == "timeout"
    other("cont")
    wait_agent(30)
    print("# query-status took %.1f ms at most" % (worst * 1000))


def slow_call():
    """A call that the guest answers only when its server is let go."""
    pids = guest.pids("--role=server")
    assert pids, guest.sh("ps")
    guest.sh("kill -STOP %s" % " ".join(map(str, pids)))
    return pids, qmp("agent-get-file", path="/srv/small")["id"]


@case("the agent is killed in the middle of a call")
def _():
    pids, number = slow_call()
    began = time.monotonic()
    hmp.send("agent_ping")
    guest.sh("kill -9 " + " ".join(str(p) for p in guest.pids("va-agent")))
    data = qmp.reply(number)
    out = hmp.until_prompt()
    took = time.monotonic() - began
    # an agent that came back in time may have got the second call
    assert data["error"]["class"] in ("connection-lost", "timeout", "not-connected"), data
    assert took < TIMEOUT_MS / 1000 + 1 * scale(), took
    print("# QMP: %s; HMP: %s" % (data["error"]["desc"], out.strip().splitlines()[-1]))
    watch(0.3)
    wait_agent()
    assert hmp("agent_viewfile /srv/small") == "small\n"


@case("virtproxy is killed in the middle of a call, and started again")
def _():
    other("stop")
    number = qmp("agent-ping")["id"]
    time.sleep(0.2)
    proxy.kill()
    error = qmp.reply(number)["error"]
    assert error["class"] == "connection-lost", error
    error = qmp.error("agent-ping")
    assert error["class"] == "not-connected", error
    other("cont")
    start_proxy()
    wait_agent()


@case("the guest is reset in the middle of calls")
def _():
    other("stop")
    numbers = [qmp("agent-ping")["id"] for _ in range(4)]
    began = time.monotonic()
    other("system_reset")
    other("cont")
    for n in numbers:
        assert "error" in qmp.reply(n)
        assert latency() < quick(guest.qemu)
    assert time.monotonic() - began < TIMEOUT_MS / 1000 + 1 * scale()
    guest.wait_boot()
    wait_agent()


@case("agent_shutdown reboot reboots the guest, and the agent is there again")
def _():
    boot = guest.sh("cat /proc/sys/kernel/random/boot_id")
    out = hmp("agent_shutdown reboot")
    assert out == "", out
    guest.wait_boot()
    assert guest.sh("cat /proc/sys/kernel/random/boot_id") != boot
    wait_agent()
    assert hmp("agent_viewfile /proc/sys/kernel/random/boot_id") == \
        guest.sh("cat /proc/sys/kernel/random/boot_id")


@case("agent-shutdown poweroff ends the guest, and QEMU without complaint")
def _():
    data = qmp.call("agent-shutdown", mode="poweroff")
    assert "return" in data, data
    status = guest.qemu.wait(60)
    log = guest.qemu.log()
    assert status == 0 and not re.search(r"ERROR: |runtime error|Assertion", log), (status, log)


if __name__ == "__main__":
    suite.main()
