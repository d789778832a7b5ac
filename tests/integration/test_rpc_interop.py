#!/usr/bin/python3
# test_rpc_interop.py - our XML-RPC against Python's: the same values, the same
# faults, the same documents; and curl.
#
# SPDX-License-Identifier: MIT
import datetime
import math
import os
import random
import socket
import subprocess
import sys
import time
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import (Process, Suite, http_request, need, program, run, scale,  # noqa: E402
                    tmpdir, wait_for_socket, xmlrpc_proxy)
from vatest.rpc import UnixTransport  # noqa: E402

PATH = os.path.join(tmpdir(), "rpc")
server = Process([program("tests/lib/rpc-echo"), PATH], stdin=subprocess.PIPE)
wait_for_socket(PATH, alive=server.check_alive).close()
proxy = xmlrpc_proxy(PATH)
suite = Suite()


def fault_of(method, *args):
    try:
        getattr(proxy, method)(*args)
    except xmlrpc.client.Fault as f:
        return f
    raise AssertionError("%s%r gave no fault" % (method, args))


@suite.case("the Validator1 suite passes")
def _():
    v = proxy.validator1
    assert v.arrayOfStructsTest([{"moe": 1, "larry": 2, "curly": i} for i in range(10)]) == 45
    assert v.countTheEntities("<<>&&&'\"\" x") == {
        "ctLeftAngleBrackets": 2, "ctRightAngleBrackets": 1, "ctAmpersands": 3,
        "ctApostrophes": 1, "ctQuotes": 2}
    assert v.easyStructTest({"moe": 1, "larry": -20, "curly": 300}) == 281
    s = {"a": [1, 2.5, {"b": None}], "": "", "<&>": "x"}
    assert v.echoStructTest(s) == s
    when = datetime.datetime(2026, 2, 28, 23, 59, 58)
    args = [-7, True, "t\u00e4xt", -1.25, when, b"\x00\xff\r\n"]
    assert v.manyTypesTest(*args) == args
    assert v.moderateSizeArrayCheck(["first"] + ["x"] * 150 + ["last"]) == "firstlast"
    deep = {"2000": {"04": {"01": {"moe": 1, "larry": 2, "curly": 3}}}}
    assert v.nestedStructTest(deep) == 6
    assert v.simpleStructReturnTest(-3) == {"times10": -30, "times100": -300, "times1000": -3000}


def random_value(r, depth=0):
    kind = r.randrange(10 if depth < 5 else 8)
    if kind == 0:
        return r.choice([0, -1, 2**31 - 1, -2**31, r.randrange(-2**31, 2**31)])
    if kind == 1:
        return r.random() < 0.5
    if kind == 2:
        return r.choice([0.0, 0.1, -1e300, 1 / 3, 2.2250738585072014e-308,
                         r.uniform(-1e9, 1e9), math.ldexp(r.random(), r.randrange(-900, 900))])
    if kind in (3, 4):
        letters = "ab<>&'\" \t\n]]>%\\\u00e4\u20ac\ufffd\u0085"
        return "".join(r.choice(letters) for _ in range(r.randrange(12)))
    if kind == 5:
        return bytes(r.randrange(256) for _ in range(r.randrange(200)))
    if kind == 6:
        return None
    if kind == 7:
        return datetime.datetime(r.randrange(1000, 9999), 1 + r.randrange(12),
                                 1 + r.randrange(28), r.randrange(24), r.randrange(60),
                                 r.randrange(60))
    if kind == 8:
        return [random_value(r, depth + 1) for _ in range(r.randrange(6))]
    return {"k%d" % i: random_value(r, depth + 1) for i in range(r.randrange(6))}


@suite.case("random values come back as they went")
def _():
    r = random.Random(20260102)
    for _i in range(400):
        v = random_value(r)
        got = proxy.t.echo(v)
        # U+0085 is a control character and is escaped on its way out.
        assert repr(got).replace("\\\\xc2\\\\x85", "\\x85") == repr(v), (v, got)


@suite.case("64-bit integers are i8, and only where they must be")
def _():
    for v, element in ((2**31 - 1, b"<i4>"), (-2**31, b"<i4>"), (2**31, b"<i8>"),
                       (2**63 - 1, b"<i8>"), (-2**63, b"<i8>")):
        doc = ("<methodCall><methodName>t.echo</methodName><params><param><value><i8>%d</i8>"
               "</value></param></params></methodCall>" % v).encode()
        status, _h, body = http_request(PATH, "POST", "/RPC2", doc)
        assert status == 200 and element in body, body
        assert xmlrpc.client.loads(body)[0] == (v,)


@suite.case("integers are taken as doubles and decimal strings too")
def _():
    for v in (5, 5.0, "5"):
        assert proxy.validator1.simpleStructReturnTest(v)["times10"] == 50
    assert fault_of("validator1.simpleStructReturnTest", 5.5).faultCode == -501
    assert fault_of("validator1.simpleStructReturnTest", "5x").faultCode == -501
    assert proxy.t.optional("a") == ["a"]
    assert proxy.t.optional("a", None, b"\x00") == ["a", None, b"\x00"]


@suite.case("faults carry code and text")
def _():
    f = fault_of("t.fail")
    assert (f.faultCode, f.faultString) == (1002, "/nope: no such file")
    assert fault_of("t.nope").faultCode == -506
    f = fault_of("t.echo")
    assert f.faultCode == -501 and "takes 1 parameter, 0 given" in f.faultString, f
    f = fault_of("t.echo", "\U0001f600")
    assert f.faultCode == -503 and "send it as base64" in f.faultString, f


@suite.case("introspection and multicall work from Python")
def _():
    names = proxy.system.listMethods()
    assert names == sorted(names) and "t.echo" in names and "system.shutdown" not in names
    assert proxy.system.methodSignature("t.optional") == [
        ["array", "string"], ["array", "string", "int"], ["array", "string", "int", "string"]]
    assert "interoperability" in proxy.system.methodHelp("t.echo")
    multi = xmlrpc.client.MultiCall(proxy)
    multi.t.echo(1)
    multi.validator1.easyStructTest({"moe": 1, "larry": 2, "curly": 3})
    multi.t.fail()
    results = multi()
    assert results[0] == 1 and results[1] == 6
    try:
        results[2]
        raise AssertionError("no fault")
    except xmlrpc.client.Fault as f:
        assert f.faultCode == 1002


@suite.case("a mebibyte of bytes goes both ways; one byte more is refused")
def _():
    data = random.Random(1).randbytes(1 << 20)
    assert proxy.t.echo(data) == data
    f = fault_of("t.echo", data + b"x")
    assert f.faultCode == -509 and "1048576" in f.faultString, f


@suite.case("curl is a client")
def _():
    need("curl")
    doc = xmlrpc.client.dumps(("x",), "t.echo")
    r = run(["curl", "-sS", "--unix-socket", PATH, "-H", "Content-Type: text/xml",
             "--data-binary", "@-", "http://x/RPC2"], input=doc)
    assert xmlrpc.client.loads(r.stdout)[0] == ("x",), r
    r = run(["curl", "-sS", "-o", os.devnull, "-w", "%{http_code}", "--unix-socket", PATH,
             "-d", "x=y", "http://x/RPC2"])
    assert r.stdout == "415", r


@suite.case("every type's document is read as Python reads it")
def _():
    """Differential: odd spellings, both parsers must agree or ours refuse."""
    bodies = ["<i4>+5</i4>", "<int>007</int>", "<double>.5</double>", "<double>5.</double>",
              "<double>1E5</double>", "<boolean>1</boolean>", "x", "", "<string></string>",
              "<string> a\r\nb </string>", "<string>a&#13;b</string>", "<nil/>",
              "<base64> Q U J D </base64>", "<base64/>", "<array><data/></array>", "<struct/>",
              "\n <i4>1</i4>\n ", "<i8>-1</i8>", "<ex:nil/>", "<i2>5</i2>", "<float>1</float>"]
    transport = UnixTransport(PATH)
    for b in bodies:
        doc = ("<methodCall><methodName>t.echo</methodName><params><param><value>%s</value>"
               "</param></params></methodCall>" % b).encode()
        status, _h, reply = http_request(PATH, "POST", "/RPC2", doc)
        assert status == 200
        try:
            ours = xmlrpc.client.loads(reply, use_builtin_types=True)[0][0]
        except xmlrpc.client.Fault:
            continue
        theirs = xmlrpc.client.loads(doc, use_builtin_types=True)[0][0]
        if isinstance(theirs, str):     # PROTOCOL: a string's line ends are LF
            theirs = theirs.replace("\r\n", "\n").replace("\r", "\n")
        assert ours == theirs, (b, ours, theirs)
    transport.close()


@suite.case("a call ends when its client goes, and the server with its stdin")
def _():
    doc = xmlrpc.client.dumps((), "t.hang").encode()
    for _i in range(3):
        s = socket.socket(socket.AF_UNIX)
        s.connect(PATH)
        s.sendall(b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                  % (len(doc), doc))
        s.close()
    assert proxy.t.echo(1) == 1
    proxy("close")()
    start = time.monotonic()
    server.popen.stdin.close()
    assert server.wait(10) == 0
    assert time.monotonic() - start < 5 * scale()


suite.main()
