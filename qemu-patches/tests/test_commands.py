#!/usr/bin/python3
"""Every command and event of the series, with a good agent and with bad ones.

QEMU has no guest here; what a guest's agent would send comes from mock.py, so
that it can be anything.

SPDX-License-Identifier: MIT
"""
# time-limit: 300
import base64
import os
import re
import socket
import threading
import time

from harness import Qemu, Skip, calm, latency, qemu_program, quick, scale, tmpdir
from mock import MockAgent, MockEvents, base64_text, fault, http, piecewise, reply
from vatest import Suite, wait_until

TIMEOUT_MS = 2000
PIECE = 131072

suite = Suite()
agent = events = qemu = None


def object_args(name, **more):
    return ["-object", ",".join(["virtagent,id=%s" % name] +
                                ["%s=%s" % kv for kv in more.items()])]


@suite.case("a virtagent object is made on the command line")
def _():
    global agent, events, qemu
    qemu_program()
    agent = MockAgent(os.path.join(tmpdir(), "rpc"))
    events = MockEvents(os.path.join(tmpdir(), "events"))
    agent.files["/proc/meminfo"] = b"MemTotal:         226640 kB\n"
    qemu = Qemu(*object_args("va0", path=agent.path, events=events.path, timeout=TIMEOUT_MS))
    suite.on_failure.append(qemu.process.log)
    # the stream tells changes only: QEMU asks once whether the agent is there
    wait_until(lambda: qemu.qmp1("query-virtagent")[0]["state"] == "connected", 10, "the answer")
    assert agent.calls == [("guest.ping", ())], agent.calls


def need_qemu():
    if qemu is None:
        raise Skip("no QEMU")


def case(name):
    """A case that needs what the first one made, and starts with a good agent."""
    def add(fn):
        @suite.case(name)
        def _():
            need_qemu()
            agent.answer = None
            agent.calls.clear()
            fn()
            # whatever was done to it, QEMU is there
            qemu.process.check_alive()
            assert qemu.qmp2("query-status")["status"]
        return fn
    return add


# --- the human monitor -------------------------------------------------------


@case("HMP agent_viewfile shows a file")
def _():
    assert qemu.hmp1("agent_viewfile /proc/meminfo") == "MemTotal:         226640 kB\n"
    assert agent.calls == [("guest.getfile", ("/proc/meminfo", 0, PIECE))], agent.calls


@case("HMP agent_viewfile: offset, length, and a file without a last line end")
def _():
    agent.files["/a b"] = b"0123456789"
    assert qemu.hmp1('agent_viewfile "/a b" 2 3') == "234\n"
    assert qemu.hmp1('agent_viewfile -o va0 "/a b"') == "0123456789\n"
    agent.files["/empty"] = b""
    assert qemu.hmp1("agent_viewfile /empty") == ""


@case("HMP agent_viewfile escapes what could drive a terminal")
def _():
    agent.files["/bin"] = b"a\x00b\x1b[31mc\x07\r\n\td\x7f\xff\xc3\xa4\xc2\x9b1m\xe2\x80\xaex"
    out = qemu.hmp1("agent_viewfile /bin")
    assert out == ("a\\x00b\\x1b[31mc\\x07\\x0d\n\td\\x7f\\xff\u00e4\\xc2\\x9b1m"
                   "\\xe2\\x80\\xaex\n"), repr(out)


@case("HMP agent_viewfile of all 256 bytes sends none that is not text")
def _():
    agent.files["/all"] = bytes(range(256)) * 64
    qemu.hmp1.send("agent_viewfile /all")
    raw = qemu.hmp1.until_prompt()
    shown = raw[raw.index("\n") + 1:]
    assert re.fullmatch(r"[ -~\r\n\t]*", shown), repr(shown[:200])


@case("HMP agent_viewfile: missing file, directory, bad arguments")
def _():
    agent.files["/dir"] = "directory"
    assert qemu.hmp1("agent_viewfile /nonesuch") == \
        "Error: /nonesuch: No such file or directory (fault 1002)\n"
    assert qemu.hmp1("agent_viewfile /dir") == "Error: /dir: Is a directory (fault 1021)\n"
    assert "'offset' is -1" in qemu.hmp1("agent_viewfile /x -1")
    assert "'length' is 131073, it must be from 1 to 131072" in \
        qemu.hmp1("agent_viewfile /x 0 131073")
    assert "'path' is empty" in qemu.hmp1('agent_viewfile ""')
    assert "no virtagent object 'vb'" in qemu.hmp1("agent_viewfile -o vb /x")


@case("HMP agent_viewfile of 100 MiB says how to see it")
def _():
    agent.files["/big"] = b"x" * (100 << 20)
    out = qemu.hmp1("agent_viewfile /big")
    assert out == ("Error: the file has 104857600 bytes, and at most 131072 are shown at a "
                   "time: give an offset and a length\n"), out
    assert qemu.hmp1("agent_viewfile /big 104857598 10") == "xx\n"


@case("HMP agent_viewfile of 131072 lines does not hold the other monitors")
def _():
    agent.files["/lines"] = b"\n" * PIECE
    qemu.hmp1.send("agent_viewfile /lines")
    watch_latency(0.5)
    out = qemu.hmp1.until_prompt(60)
    assert out.count("\n") >= PIECE


def watch_latency(seconds):
    """Another monitor answers at once; the longest its query-status took."""
    return calm(qemu.process, qemu.qmp2, seconds)


@case("HMP agent_viewdmesg, agent_ping, agent_capabilities, info virtagent")
def _():
    agent.dmesg = b"[    0.000000] Linux version 6.1\n"
    assert qemu.hmp1("agent_viewdmesg") == "[    0.000000] Linux version 6.1\n"
    assert agent.calls[-1] == ("guest.getdmesg", (65536,))
    assert qemu.hmp1("agent_viewdmesg 4") == "6.1\n"
    assert qemu.hmp1("agent_ping") == "ok\n"
    out = qemu.hmp1("agent_capabilities")
    assert out.startswith("version: 1.0\nmethods:\n  guest.capabilities\n"), out
    assert out.endswith("  guest.shutdown\n"), out
    out = qemu.hmp1("info virtagent")
    assert "va0: connected" in out and agent.path in out and "timeout 2000 ms" in out, out


@case("HMP agent_shutdown takes the words of the old help and of the old guest")
def _():
    for word, mode in (("halt", "halt"), ("powerdown", "powerdown"), ("poweroff", "powerdown"),
                       ("shutdown", "powerdown"), ("reboot", "reboot")):
        assert qemu.hmp1("agent_shutdown " + word) == ""
        assert agent.calls[-1] == ("guest.shutdown", (mode,)), agent.calls
    out = qemu.hmp1("agent_shutdown now")
    assert out == ("Error: 'now' is not one of halt, powerdown, poweroff, shutdown, "
                   "reboot\n"), out


@case("HMP: while a call waits its monitor does, no other does, and it ends in time")
def _():
    agent.answer = agent.silent
    began = time.monotonic()
    qemu.hmp1.send("agent_ping")
    wait_until(lambda: agent.calls, 5, "the call")
    qemu.hmp1.send("info version")             # is read only afterwards
    watch_latency(0.3)
    assert "waiting: call" in qemu.hmp2("info virtagent")
    out = qemu.hmp1.until_prompt()
    took = time.monotonic() - began
    assert "Error: no answer within 2000 ms" in out, out
    assert TIMEOUT_MS / 1000 <= took < TIMEOUT_MS / 1000 + 1 * scale(), took
    if "7.2" not in out:
        assert "7.2" in qemu.hmp1.until_prompt()


@case("HMP over QMP cannot wait, and says where the outcome comes")
def _():
    text = qemu.qmp1("human-monitor-command", command_line="agent_ping")
    number = int(re.search(r"call (\d+) comes as event AGENT_REPLY", text).group(1))
    assert qemu.qmp1.reply(number)["return"] == "pong"


@case("HMP: errors and names of a guest are escaped and cut")
def _():
    agent.answer = lambda *a: fault(1, "bad\u202e" + "\u009b31m" + "x" * 5000)
    out = qemu.hmp1("agent_ping")
    assert out.startswith("Error: bad\\xe2\\x80\\xae\\xc2\\x9b31mxxx"), out[:100]
    assert len(out) < 1200, len(out)
    agent.answer = lambda *a: reply({"version": "\u009bV", "methods": ["\u009bM"]})
    assert "\u009b" not in qemu.hmp1("agent_capabilities")


# --- QMP ---------------------------------------------------------------------


@case("QMP agent-ping, agent-capabilities, agent-shutdown")
def _():
    data = qemu.qmp1.call("agent-ping")
    assert data["return"] == "pong" and data["object"] == "va0", data
    assert data["method"] == "guest.ping"
    caps = qemu.qmp1.call("agent-capabilities")["return"]
    assert caps["version"] == "1.0" and caps["methods"][0]["name"] == "guest.capabilities"
    for word in ("halt", "powerdown", "poweroff", "shutdown", "reboot"):
        assert "return" in qemu.qmp1.call("agent-shutdown", mode=word)
    assert [c[1][0] for c in agent.calls[2:]] == ["halt"] + ["powerdown"] * 3 + ["reboot"]
    kind, desc = qemu.qmp1.refused("agent-shutdown", mode="now")
    assert "now" in desc, desc


@case("QMP agent-get-file: bytes, pieces, the whole of a large file")
def _():
    content = os.urandom(3 * PIECE + 7)
    agent.files["/f"] = content
    got, offset = b"", 0
    while True:
        r = qemu.qmp1.call("agent-get-file", path="/f", offset=offset)["return"]
        assert r["offset"] == offset and r["size"] == len(content)
        piece = base64.b64decode(r["data"], validate=True)
        got += piece
        offset += len(piece)
        if r["eof"]:
            break
    assert got == content
    r = qemu.qmp1.call("agent-get-file", path="/f", offset=5, length=3)["return"]
    assert base64.b64decode(r["data"]) == content[5:8] and r["eof"] is False
    assert r["mtime"] == 1700000000


@case("QMP agent-get-file: a name that XML cannot carry goes as base64")
def _():
    agent.files["/\x1b\n"] = b"odd"
    r = qemu.qmp1.call("agent-get-file", path="/\x1b\n")["return"]
    assert r["data"] == base64_text(b"odd")
    assert agent.calls[-1][1][0] == b"/\x1b\n"


@case("QMP agent-get-file: errors of the guest and of the caller")
def _():
    error = qemu.qmp1.error("agent-get-file", path="/nonesuch")
    assert error == {"class": "fault", "code": 1002,
                     "desc": "/nonesuch: No such file or directory"}, error
    for arguments, word in (({"path": ""}, "empty"), ({"path": "/f", "offset": -1}, "negative"),
                            ({"path": "/f", "length": 0}, "from 1 to 131072"),
                            ({"path": "/f", "length": 131073}, "from 1 to 131072"),
                            ({}, "path")):
        kind, desc = qemu.qmp1.refused("agent-get-file", **arguments)
        assert kind == "GenericError" and word in desc, (kind, desc)
    kind, desc = qemu.qmp1.refused("agent-ping", object="vb")
    assert kind == "DeviceNotFound" and "'vb'" in desc, (kind, desc)


@case("QMP agent-get-dmesg")
def _():
    agent.dmesg = b"\x00\xff end"
    assert qemu.qmp1.call("agent-get-dmesg")["return"] == {"data": base64_text(agent.dmesg)}
    assert agent.calls[-1] == ("guest.getdmesg", ())
    r = qemu.qmp1.call("agent-get-dmesg", length=3)["return"]
    assert r == {"data": base64_text(b"end")}


@case("QMP agent-call: every type there and back")
def _():
    values = [0, -1, 2 ** 31 - 1, -2 ** 31, 1.5, True, False, None, "", "t\u00e4xt\n\t<&>", [],
              [[1, [2]]], {}, {"a": {"b": [None]}}, {"$base64": "AAH/"}]
    assert qemu.qmp1.call("agent-call", method="guest.echo", arguments=values)["return"] == values
    big = [2 ** 31, -2 ** 63, 2 ** 63 - 1]
    assert qemu.qmp1.call("agent-call", method="guest.echo", arguments=big)["return"] == \
        [str(b) for b in big]
    assert qemu.qmp1.call("agent-call", method="guest.ping")["return"] == "pong"
    error = qemu.qmp1.error("agent-call", method="guest.nonesuch")
    assert error["class"] == "fault" and error["code"] == -506, error


@case("QMP agent-call: what cannot be sent is refused at once")
def _():
    deep = 1
    for _ in range(40):
        deep = [deep]
    for arguments, word in ((["\x1b"], "control character 0x1b"), ([{"\x01": 1}], "control"),
                            ([{"$base64": "?"}], "not base64"), ([deep], "deeper than"),
                            (["x" * (400 << 10)], "the limit is")):
        kind, desc = qemu.qmp1.refused("agent-call", method="guest.echo", arguments=arguments)
        assert kind == "GenericError" and word in desc, (kind, desc)
    for name in ("", "a b", "a<b", "x" * 300):
        assert "not a name" in qemu.qmp1.refused("agent-call", method=name)[1]
    for timeout in (0, 3600001):
        assert "'timeout'" in qemu.qmp1.refused("agent-call", method="m", timeout=timeout)[1]
    assert agent.calls == []


@case("QMP agent-call: its own time limit")
def _():
    agent.answer = agent.silent
    began = time.monotonic()
    error = qemu.qmp1.error("agent-call", method="guest.ping", timeout=200)
    took = time.monotonic() - began
    assert error == {"class": "timeout", "desc": "no answer within 200 ms"}, error
    assert 0.2 <= took < 0.2 + 0.5 * scale(), took


@case("QMP: while a call waits, query-status on another monitor takes < 50 ms")
def _():
    agent.answer = agent.silent
    began = time.monotonic()
    number = qemu.qmp1("agent-ping")["id"]
    wait_until(lambda: agent.calls, 5, "the call")
    worst = watch_latency(0.4)
    calm(qemu.process, qemu.qmp1, 0.1)
    info = qemu.qmp2("query-virtagent")[0]
    assert info["pending"] == [{"id": number, "method": "guest.ping"}], info["pending"]
    error = qemu.qmp1.reply(number)["error"]
    took = time.monotonic() - began
    assert error["class"] == "timeout", error
    assert took < TIMEOUT_MS / 1000 + 1 * scale(), took
    print("# query-status took %.2f ms at most" % (worst * 1000))


@case("QMP: the largest replies do not hold another monitor for 50 ms")
def _():
    agent.files["/f"] = os.urandom(PIECE)
    many = reply({"list": [{"n": i} for i in range(2000)]})
    deep = http("<methodResponse><params><param><value>" + "<array><data><value>" * 20 +
                "</value></data></array>" * 20 + "</value></param></params></methodResponse>")
    kinds = {"file": None, "many elements": lambda *a: many, "deep": lambda *a: deep,
             "quotes": lambda *a: reply('"' * 60000)}
    for name, answer in kinds.items():
        agent.answer = answer
        # as calm() does: what QEMU does to itself, it does each time
        for _ in range(3):
            worst = while_replies_come("agent-get-file" if name == "file" else "agent-call")
            if worst < quick(qemu.process):
                break
        print("# %s: query-status took %.1f ms at most" % (name, worst * 1000))
        assert worst < quick(qemu.process), (name, worst)


def while_replies_come(command):
    """The longest that query-status takes on one monitor while another gets
    twenty replies."""
    arguments = {"path": "/f"} if command == "agent-get-file" else {"method": "guest.echo"}
    stop, worst = threading.Event(), [0.0]

    def look():
        while not stop.is_set():
            worst[0] = max(worst[0], latency(qemu.process, qemu.qmp2))
    t = threading.Thread(target=look)
    t.start()
    try:
        for _ in range(20):
            data = qemu.qmp1.call(command, **arguments)
            assert "return" in data, data["error"]
    finally:
        stop.set()
        t.join()
    return worst[0]


@case("QMP: 16 calls wait at once, one more is refused, all end")
def _():
    agent.answer = agent.silent
    numbers = [qemu.qmp1("agent-ping")["id"] for _ in range(16)]
    kind, desc = qemu.qmp1.refused("agent-ping")
    assert "16 calls of 'va0' wait already" in desc, desc
    assert "16 calls" in qemu.hmp1("agent_ping")
    for n in numbers:
        assert qemu.qmp1.reply(n)["error"]["class"] == "timeout"
    assert qemu.qmp1("query-virtagent")[0]["pending"] == []


@case("QMP query-virtagent keeps the last 16 outcomes, and no value above 64 KiB")
def _():
    agent.files["/small"] = b"abc"
    agent.files["/large"] = b"x" * 100000
    for _ in range(16):
        qemu.qmp1.call("agent-ping")
    qemu.qmp1.call("agent-get-file", path="/small")
    qemu.qmp1.call("agent-get-file", path="/large")
    qemu.qmp1.call("agent-get-file", path="/nonesuch")
    replies = qemu.qmp2("query-virtagent")[0]["replies"]
    assert len(replies) == 16
    small, large, error = replies[-3:]
    assert small["return"]["data"] == base64_text(b"abc"), small
    assert large["truncated"] is True and "return" not in large and "error" not in large
    assert error["error"]["code"] == 1002 and error["method"] == "guest.getfile"
    assert [r["id"] for r in replies] == sorted(r["id"] for r in replies)
    info = qemu.qmp2("query-virtagent", object="va0")
    assert len(info) == 1 and info[0]["timeout"] == TIMEOUT_MS
    assert qemu.qmp2.refused("query-virtagent", object="vb")[0] == "DeviceNotFound"


@case("AGENT_REPLY comes on every QMP monitor")
def _():
    number = qemu.qmp1("agent-ping")["id"]
    assert qemu.qmp2.reply(number)["return"] == "pong"
    assert qemu.qmp1.reply(number)["return"] == "pong"


# --- bad guests --------------------------------------------------------------

BOMB = ("<?xml version='1.0'?><!DOCTYPE b [<!ENTITY a0 'ha'>" +
        "".join("<!ENTITY a%d '%s'>" % (i, "&a%d;" % (i - 1) * 10) for i in range(1, 10)) +
        "]><methodResponse><params><param><value>&a9;</value></param></params></methodResponse>")
XML = "<methodResponse><params><param><value>%s</value></param></params></methodResponse>"
GOOD = reply("pong")
HOSTILE = {
    # name: (answer, class of the error, a part of its text)
    "no answer": (None, "connection-lost", "without an answer"),
    "half a status line": (b"HTTP/1", "bad-reply|connection-lost", ""),
    "half a head": (GOOD[:40], "bad-reply|connection-lost", ""),
    "half a body": (GOOD[:-30], "connection-lost", "before the answer was complete"),
    "all but a byte": (GOOD[:-1], "connection-lost", "before the answer was complete"),
    "not HTTP": (b"\xff\xfe" * 500, "bad-reply", "HTTP"),
    "HTTP/0.9": (XML.encode(), "bad-reply", "HTTP"),
    "status 500": (http("oops", status="500 Error"), "bad-reply", "HTTP status 500"),
    "a redirection": (http("", status="302 Found", extra="Location: http://localhost/x\r\n"),
                      "bad-reply", "HTTP status 302"),
    "HTML": (http("<html>", kind="text/html"), "bad-reply", "'text/html'"),
    "no type": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "bad-reply", "text/xml"),
    "an empty body": (http(""), "bad-reply", "not valid XML-RPC"),
    "10 MiB, announced": (http("x" * (10 << 20)), "bad-reply", "limit of 393216 bytes"),
    "10 MiB, chunked": (b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n"
                        b"Transfer-Encoding: chunked\r\n\r\n" +
                        b"".join(b"10000\r\n" + b"x" * 65536 + b"\r\n" for _ in range(160)),
                        "bad-reply", "limit of 393216 bytes"),
    "a lie about its length": (http(b"x", length=1 << 62), "connection-lost|bad-reply", ""),
    "a negative length": (http(b"x", length=-5), "bad-reply", ""),
    "two lengths": (http(b"x" * 50, extra="Content-Length: 3\r\n"), "bad-reply", ""),
    "a head of 1 MiB": (http("", extra="X: %s\r\n" % ("y" * (1 << 20))), "bad-reply", ""),
    "100,000 headers": (http("", extra="X: y\r\n" * 100000), "bad-reply", "16384"),
    "endless interim replies": (b"HTTP/1.1 100 Continue\r\n\r\n" * 100000, "bad-reply", "16384"),
    "a bad chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                    "bad-reply|connection-lost", ""),
    "gzip": (http(b"\x1f\x8b" * 50, extra="Content-Encoding: gzip\r\n"), "bad-reply", "UTF-8|begin"),
    "an entity bomb": (http(BOMB), "bad-reply", "DOCTYPE"),
    "an external entity": (http("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><methodResponse/>"),
                           "bad-reply", "DOCTYPE"),
    "an i8 that is none": (http(XML % "<i8>junk</i8>"), "bad-reply", "'junk'"),
    "5,000 levels": (http(XML % ("<array><data><value>" * 5000 +
                                 "</value></data></array>" * 5000)), "bad-reply", "deeper"),
    "30,000 elements": (http(XML % ("<array><data>" + "<value/>" * 30000 + "</data></array>")),
                        "bad-reply", "more than 12288 elements"),
    "UTF-16": (http((XML % "pong").encode("utf-16")), "bad-reply", "UTF-8"),
    "NUL": (http(XML % "po\0ng"), "bad-reply", "UTF-8"),
    "an escape character": (http(XML % "\x1b"), "bad-reply", "not valid XML-RPC"),
    "a call, not a reply": (http("<methodCall><methodName>x</methodName></methodCall>"),
                            "bad-reply", "may not stand in"),
    "a wrong value": (reply("ping"), "bad-reply", "not \"pong\""),
    "a wrong type": (reply(1), "bad-reply", "not \"pong\""),
    "a fault that is none": (http("<methodResponse><fault><value>x</value></fault>"
                                  "</methodResponse>"), "bad-reply", ""),
}


@case("QMP: %d hostile replies each end in an error that says why" % len(HOSTILE))
def _():
    wrong = []
    for name, (answer, kinds, text) in HOSTILE.items():
        agent.answer = lambda m, p, c, a=answer: a
        began = time.monotonic()
        data = qemu.qmp1.call("agent-ping")
        took = time.monotonic() - began
        error = data.get("error", {"class": "no error", "desc": str(data)})
        if error["class"] not in kinds.split("|") or not re.search(text, error["desc"]) or \
                took > TIMEOUT_MS / 1000 + 1 * scale() or len(error["desc"]) > 1100:
            wrong.append("%s: %.2f s, %s" % (name, took, error))
        calm(qemu.process, qemu.qmp2, 0)
    assert not wrong, "\n".join(wrong)


@case("QMP: wrong types where a file or a list of methods should be")
def _():
    good = {"data": b"x", "offset": 0, "size": 1, "eof": True, "mtime": 0}
    for change in ({"data": "x"}, {"data": None}, {"data": [b"x"]}, {"offset": "0"},
                   {"size": 1.5}, {"eof": 1}, {"mtime": b""}):
        agent.answer = lambda m, p, c, v=dict(good, **change): reply(v)
        error = qemu.qmp1.error("agent-get-file", path="/f")
        assert error["class"] == "bad-reply" and "not a piece of a file" in error["desc"], error
    for value in ("x", [], {}, None, 1):
        agent.answer = lambda m, p, c, v=value: reply(v)
        assert qemu.qmp1.error("agent-get-file", path="/f")["class"] == "bad-reply"
        assert qemu.qmp1.error("agent-capabilities")["class"] == "bad-reply"
        assert qemu.hmp1("agent_viewfile /f").startswith("Error: the reply is not")
    for methods in ("x", [1], [{}], [{"name": 1}], {}):
        agent.answer = lambda m, p, c, v=methods: reply({"version": "1", "methods": v})
        assert qemu.qmp1.error("agent-capabilities")["class"] == "bad-reply"
        assert qemu.hmp1("agent_capabilities").startswith("Error: the reply is not")


@case("QMP: a reply that drips ends with the call's time; one that comes slowly arrives")
def _():
    pause = threading.Event()
    agent.answer = piecewise(GOOD, 1, pause)
    assert qemu.qmp1.call("agent-ping")["return"] == "pong"

    def drip(method, params, conn):
        conn.sendall(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100):
            if pause.wait(0.1):
                break
            conn.sendall(b"X: y\r\n")
        return b""
    agent.answer = drip
    began = time.monotonic()
    error = qemu.qmp1.error("agent-ping")
    took = time.monotonic() - began
    pause.set()
    assert error["class"] == "timeout" and took < TIMEOUT_MS / 1000 + 1 * scale(), (error, took)


@case("QMP: a reply cut at every byte")
def _():
    numbers = {}
    cut = reply("pong")
    step = 3                                   # three passes cover every byte
    for begin in range(step):
        for n in range(begin, len(cut), step):
            agent.answer = lambda m, p, c, n=n: cut[:n] or None
            error = qemu.qmp1.error("agent-ping")
            assert error["class"] in ("connection-lost", "bad-reply"), (n, error)
            numbers[error["class"]] = numbers.get(error["class"], 0) + 1
    print("# %s" % numbers)


@case("QMP: a guest that is not there")
def _():
    agent.stop()
    error = qemu.qmp1.error("agent-ping")
    assert error["class"] == "not-connected" and "No such file" in error["desc"], error
    assert agent.path in error["desc"]
    assert "No such file or directory" in qemu.hmp1("agent_ping")
    # a socket that nobody listens on
    s = socket.socket(socket.AF_UNIX)
    s.bind(agent.path)
    s.close()
    error = qemu.qmp1.error("agent-ping")
    assert error["class"] == "not-connected" and "refused" in error["desc"], error
    os.unlink(agent.path)
    # a listener that never accepts, and has no room
    s = socket.socket(socket.AF_UNIX)
    s.bind(agent.path)
    s.listen(0)
    fill = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for f in fill:
        f.setblocking(False)
        f.connect_ex(agent.path)
    began = time.monotonic()
    error = qemu.qmp1.error("agent-ping")
    took = time.monotonic() - began
    assert error["class"] in ("not-connected", "connection-lost", "timeout"), error
    assert took < TIMEOUT_MS / 1000 + 1 * scale(), took
    for f in fill + [s]:
        f.close()
    os.unlink(agent.path)
    agent.start()
    assert qemu.qmp1.call("agent-ping")["return"] == "pong"


@case("QMP: a call is never sent twice")
def _():
    agent.answer = lambda *a: None
    for _ in range(5):
        assert qemu.qmp1.error("agent-shutdown", mode="reboot")["class"] == "connection-lost"
    assert len(agent.calls) == 5, len(agent.calls)


# --- objects -----------------------------------------------------------------


@case("objects come and go at run time; with several the command must say which")
def _():
    second = MockAgent(os.path.join(tmpdir(), "rpc2"))
    second.files["/name"] = b"second\n"
    agent.files["/name"] = b"first\n"
    qemu.qmp1("object-add", qom_type="virtagent", id="va1", path=second.path, timeout=500)
    try:
        assert "There are 2 virtagent objects" in qemu.qmp1.refused("agent-ping")[1]
        assert "There are 2 virtagent objects" in qemu.hmp1("agent_ping")
        assert qemu.hmp1("agent_viewfile -o va1 /name") == "second\n"
        assert qemu.hmp1("agent_viewfile -o va0 /name") == "first\n"
        r = qemu.qmp1.call("agent-get-file", path="/name", object="va1")
        assert r["object"] == "va1" and r["return"]["data"] == base64_text(b"second\n")
        infos = {i["object"]: i for i in qemu.qmp1("query-virtagent")}
        assert sorted(infos) == ["va0", "va1"] and infos["va1"]["timeout"] == 500
        assert "events" not in infos["va1"] and infos["va1"]["state"] == "connected"
        qemu.qmp1("qom-set", path="/objects/va1", property="timeout", value=300)
        # a silent guest costs the other nothing
        second.answer = second.silent
        number = qemu.qmp1("agent-ping", object="va1")["id"]
        began = time.monotonic()
        assert qemu.qmp1.call("agent-ping", object="va0")["return"] == "pong"
        assert time.monotonic() - began < 0.25 * scale()
        assert qemu.qmp1.reply(number)["error"]["desc"] == "no answer within 300 ms"
    finally:
        assert qemu.hmp2("object_del va1") == ""
    assert qemu.qmp1.call("agent-ping")["return"] == "pong"


@case("an object that is deleted ends its calls, in HMP and in QMP")
def _():
    qemu.hmp2("object_add virtagent,id=va2,path=%s,timeout=60000" % agent.path)
    agent.answer = agent.silent
    qemu.hmp1.send("agent_ping -o va2")
    number = qemu.qmp1("agent-ping", object="va2")["id"]
    wait_until(lambda: len(agent.calls) == 2, 5, "both calls")
    qemu.qmp1("object-del", id="va2")
    assert qemu.qmp1.reply(number)["error"]["class"] == "cancelled"
    assert "the virtagent object was deleted" in qemu.hmp1.until_prompt()


@case("an object that cannot be is refused, with the reason")
def _():
    def refused(**p):
        return qemu.qmp1.refused("object-add", **{"qom-type": "virtagent", "id": "vx", **p})[1]
    assert "path" in refused()
    assert "too long, the limit is 107 bytes" in refused(path="/" + "x" * 107)
    assert "too long, the limit is 107 bytes" in refused(path="/x", events="/" + "x" * 107)
    assert "from 1 to 3600000" in refused(path="/x", timeout=0)
    assert "from 1 to 3600000" in refused(path="/x", timeout=3600001)
    qemu.qmp1.refused("qom-set", path="/objects/va0", property="path", value="/x")
    assert qemu.qmp1("query-virtagent")[0]["path"] == agent.path


@case("a monitor that loses its client while a call waits")
def _():
    from harness import Human, Monitor
    agent.answer = agent.silent
    qemu.hmp2.send("agent_ping")
    wait_until(lambda: agent.calls, 5, "the call")
    qemu.hmp2.close()
    number = qemu.qmp1("agent-ping")["id"]
    qemu.qmp1.close()
    time.sleep(0.1)
    qemu.qmp1 = Monitor(qemu.path("qmp1"))
    wait_until(lambda: not qemu.qmp2("query-virtagent")[0]["pending"], 10, "the calls to end")
    replies = {r["id"]: r for r in qemu.qmp1("query-virtagent")[0]["replies"]}
    assert replies[number]["error"]["class"] == "timeout"
    qemu.hmp2 = Human(qemu.path("hmp2"))
    agent.answer = None
    assert "va0" in qemu.hmp2("info virtagent")


# --- events ------------------------------------------------------------------


@case("AGENT_CONNECTED and AGENT_DISCONNECTED follow the event stream")
def _():
    qemu.qmp1.events.clear()
    events.event("agent-down")
    assert qemu.qmp1.wait_event("AGENT_DISCONNECTED")["data"] == {"object": "va0",
                                                                 "guest": "web1"}
    assert qemu.qmp1("query-virtagent")[0]["state"] == "disconnected"
    assert "va0: disconnected, guest web1" in qemu.hmp1("info virtagent")
    # virtproxy accepts and closes when there is no agent; now we know why
    agent.answer = lambda *a: None
    error = qemu.qmp1.error("agent-ping")
    assert error == {"class": "not-connected",
                     "desc": "the guest's agent is not connected"}, error
    events.event("agent-up")
    assert qemu.qmp1.wait_event("AGENT_CONNECTED")["data"]["object"] == "va0"
    assert qemu.qmp1("query-virtagent")[0]["state"] == "connected"


@case("AGENT_EVENT carries what the guest reports")
def _():
    events.event("user-login", {"user": "joe", "list": [1, None, {"a": "\u00e4"}]})
    data = qemu.qmp1.wait_event("AGENT_EVENT")["data"]
    assert data == {"object": "va0", "event": "user-login", "guest": "web1", "seq": events.seq,
                    "time": "2026-01-02T03:04:05.678Z",
                    "data": {"user": "joe", "list": [1, None, {"a": "\u00e4"}]}}, data


@case("AGENT_EVENT: a flood is limited, counted, and holds nobody")
def _():
    time.sleep(2)                              # the bucket fills: 32
    qemu.qmp1.events.clear()
    before = qemu.qmp2("query-virtagent")[0]
    for i in range(2000):
        events.event("noise", {"i": i})
    worst = watch_latency(1.0)

    def done():
        info = qemu.qmp2("query-virtagent")[0]
        return info["events-received"] - before["events-received"] >= 2000 and info
    info = wait_until(done, 30, "the flood to be read", 0.1)
    dropped = info["events-dropped"] - before["events-dropped"]
    time.sleep(0.2)
    events.event("after")
    seen = []
    while not seen or seen[-1]["event"] != "after":
        seen.append(qemu.qmp1.wait_event("AGENT_EVENT")["data"])
    assert 32 <= len(seen) <= 32 + 16 * 30, len(seen)
    assert len(seen) - 1 + dropped == 2000, (len(seen), dropped)
    assert sum(e.get("dropped", 0) for e in seen) == dropped
    print("# %d of 2000 sent; query-status took %.1f ms at most" % (len(seen), worst * 1000))


@case("the state that flaps is told at most four times a second, and truly at last")
def _():
    qemu.qmp1.events.clear()
    for _ in range(50):
        events.event("agent-down")
        events.event("agent-up")
    events.event("agent-down")
    wait_until(lambda: qemu.qmp1("query-virtagent")[0]["state"] == "disconnected", 10, "the end")
    time.sleep(0.6)
    qemu.qmp1("query-status")
    told = [e["event"] for e in qemu.qmp1.events if e["event"].endswith("CONNECTED")]
    assert told and told[-1] == "AGENT_DISCONNECTED", told
    assert len(told) <= 8, told
    events.event("agent-up")
    qemu.qmp1.wait_event("AGENT_CONNECTED")


@case("event lines that are long, cut, binary or not events are dropped and counted")
def _():
    time.sleep(1)
    before = qemu.qmp1("query-virtagent")[0]["events-dropped"]
    bad = [b"not json", b"[]", b"{}", b'{"event":5}', b'{"event":"%s"}' % (b"n" * 300),
           b"\xff\xfe\x00\x01", b'{"event":"x","data":' + b"[" * 5000 + b"]" * 5000 + b"}",
           b'{"event":"long","data":"' + b"x" * 70000 + b'"}', b'{"event":"y"']
    for line in bad:
        events.raw(line + b"\n")

    def dropped():
        return qemu.qmp1("query-virtagent")[0]["events-dropped"] - before >= len(bad)
    wait_until(dropped, 20, "%d lines to be dropped" % len(bad), 0.1)
    events.raw(b'{"event":"plain"}\n')
    data = qemu.qmp1.wait_event("AGENT_EVENT")["data"]
    while data["event"] != "plain":
        data = qemu.qmp1.wait_event("AGENT_EVENT")["data"]
    assert data["dropped"] >= 1 and "data" not in data and "seq" not in data, data


@case("after a break of the event stream QEMU asks for what it missed")
def _():
    events.event("before")
    qemu.qmp1.wait_event("AGENT_EVENT")
    last = events.seq
    events.stop()
    wait_until(lambda: not qemu.qmp1("query-virtagent")[0]["events-connected"], 10, "the break")
    assert qemu.qmp1("query-virtagent")[0]["state"] == "connected"
    events.event("missed")
    events.start()
    data = qemu.qmp1.wait_event("AGENT_EVENT", 20)["data"]
    assert data["event"] == "missed" and data["seq"] == last + 1, data
    assert events.since[-1] == "since %d" % last, events.since


@suite.case("QEMU ends cleanly while calls wait")
def _():
    need_qemu()
    agent.calls.clear()
    agent.answer = agent.silent
    qemu.qmp1("agent-ping")
    qemu.hmp1.send("agent_ping")
    qemu.hmp2.send("agent_ping")
    wait_until(lambda: len(agent.calls) == 3, 5, "the calls")
    qemu_log = qemu.process.log
    qemu.close()
    assert "rror" not in re.sub(r"==\d+==WARNING: ASan.*", "", qemu_log()), qemu_log()


suite.cleanups.append(lambda: qemu and qemu.process.kill())

if __name__ == "__main__":
    suite.main()
