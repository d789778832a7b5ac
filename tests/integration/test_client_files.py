#!/usr/bin/python3
# test_client_files.py - va-client's get, put, cp, ls, stat, rm, mkdir against a
# guest's files served by the standard library, honest and hostile.
#
# SPDX-License-Identifier: MIT
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import Suite, program, run, scale, tmpdir, wait_until  # noqa: E402
from vatest.fake import Raw  # noqa: E402
from vatest.fakefiles import FileServer  # noqa: E402

CLIENT = program("va-client")
suite = Suite()
counter = 0


def fresh(name="d"):
    global counter
    counter += 1
    path = os.path.join(tmpdir(), "%s%d" % (name, counter))
    os.makedirs(path)
    return path


ROOT = fresh("root")
SOCK = os.path.join(fresh("s"), "rpc.sock")
server = FileServer(SOCK, ROOT, page=7)
suite.cleanups.append(server.close)
BLOB = os.urandom(3 << 20)


def va(*args, cwd=None, input=None, seconds=30):
    old = os.getcwd()
    os.chdir(cwd or old)
    try:
        return run([CLIENT, "-G", "unix:" + SOCK, *args], input=input, seconds=seconds,
                   env={"VA_RUNTIME_DIR": "/nonexistent"}, text=False)
    finally:
        os.chdir(old)


def expect(r, code, err=""):
    assert r.returncode == code, "status %d, expected %d\n%s\n%s" % (
        r.returncode, code, r.stdout[:2000], r.stderr)
    assert err.encode() in r.stderr, r.stderr
    return r


def write(path, data, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def leftovers(path):
    return [n for base, _, files in os.walk(path) for n in files if ".va-" in n]


@suite.case("get: to a directory, to a name, to stdout; the mode comes along")
def _():
    write(ROOT + "/blob", BLOB, 0o755)
    d = fresh()
    expect(va("get", "/blob", cwd=d), 0)
    assert read(d + "/blob") == BLOB and os.stat(d + "/blob").st_mode & 0o777 == 0o755
    expect(va("get", "/blob", d + "/other"), 0)
    assert read(d + "/other") == BLOB
    assert expect(va("get", "/blob", "-"), 0).stdout == BLOB
    expect(va("cp", ":/blob", d + "/third"), 0)
    assert read(d + "/third") == BLOB
    write(ROOT + "/empty", b"")
    expect(va("get", "/empty", d), 0)
    assert read(d + "/empty") == b"" and not leftovers(d)
    write(ROOT + "/a b%&+?\u00e4", b"odd")
    expect(va("get", "/a b%&+?\u00e4", d + "/odd"), 0)
    assert read(d + "/odd") == b"odd"


@suite.case("get: what is not there is exit 1 and leaves nothing behind")
def _():
    d = fresh()
    expect(va("get", "/nope", d), 1, "No such file")
    expect(va("get", "-c", "/nope", d), 1, "No such file")
    assert os.listdir(d) == []
    write(d + "/old", b"old")
    expect(va("get", "/nope", d + "/old"), 1)
    assert read(d + "/old") == b"old", "a failure replaced the old file"
    expect(va("get", "relative", d), 3, "begins with /")
    expect(va("get", "/blob", d + "/no/such/dir"), 2, "cannot create")


@suite.case("get: a device is written in place, a link to a file is followed")
def _():
    d = fresh()
    expect(va("get", "/blob", "/dev/null"), 0)
    assert os.path.exists("/dev/null") and not os.path.isfile("/dev/null")
    write(d + "/real", b"")
    os.symlink("real", d + "/link")
    expect(va("get", "/blob", d + "/link"), 0)
    assert os.path.islink(d + "/link") and read(d + "/real") == BLOB


@suite.case("get: a broken connection is taken up again where it stopped")
def _():
    d = fresh()
    server.requests.clear()
    server.cut = [1000000, 1000000]
    expect(va("get", "/blob", d), 0)
    assert read(d + "/blob") == BLOB
    ranges = [h.get("Range") for _, _, h in server.requests]
    assert ranges == [None, "bytes=1000000-", "bytes=2000000-"], ranges
    server.cut = [0] * 20
    expect(va("get", "/blob", d + "/x"), 2, "broke after 0 bytes")
    # A server that knows no Range sends it all again; to a pipe that cannot help.
    server.cut, server.no_range = [1000000], True
    expect(va("get", "/blob", d + "/y"), 0)
    assert read(d + "/y") == BLOB
    server.cut = [1000000]
    expect(va("get", "/blob", "-"), 2, "cannot go on in the middle")
    server.cut, server.no_range, server.wrong_range = [1000000], False, 1
    expect(va("get", "/blob", d + "/x"), 2, "another part")
    server.cut, server.wrong_range = [], 0
    assert not os.path.exists(d + "/x") and not leftovers(d)


@suite.case("get: a file that changed in between is an error, not a mixture")
def _():
    d = fresh()
    write(ROOT + "/moving", b"a" * 100000)
    server.cut = [50000]
    old = server.get

    def get(h, path, query, cut):
        old(h, path, query, cut)
        write(ROOT + "/moving", b"b" * 100001)
    server.get = get
    try:
        expect(va("get", "/moving", d), 2, "changed")
    finally:
        server.get = old
        server.cut = []
    assert os.listdir(d) == []


@suite.case("get -c goes on after checking what is there, and starts anew if it differs")
def _():
    d = fresh()
    server.cut = [700000] + [0] * 20
    expect(va("get", "-c", "/blob", d), 2, "broke")
    server.cut = []
    assert os.path.getsize(d + "/.blob.va-part") == 700000 and not os.path.exists(d + "/blob")
    server.requests.clear()
    expect(va("get", "-c", "/blob", d), 0)
    assert read(d + "/blob") == BLOB and not leftovers(d)
    assert [h.get("Range") for _, _, h in server.requests] == ["bytes=700000-"]
    # Another beginning: from the start.
    write(d + "/.blob.va-part", b"x" * 5000)
    server.requests.clear()
    expect(va("get", "-c", "/blob", d), 0)
    assert read(d + "/blob") == BLOB and not leftovers(d)
    assert [h.get("Range") for _, _, h in server.requests] == [None]
    # A partial file that is no file of ours is not touched.
    os.symlink("/etc/passwd", d + "/.blob.va-part")
    expect(va("get", "-c", "/blob", d), 2, "cannot create")
    assert os.path.islink(d + "/.blob.va-part")


@suite.case("put: from a file, from stdin, into a directory, with mode and owner")
def _():
    d = fresh()
    write(d + "/up", BLOB, 0o640)
    server.requests.clear()
    expect(va("put", d + "/up", "/up"), 0)
    assert read(ROOT + "/up") == BLOB and os.stat(ROOT + "/up").st_mode & 0o777 == 0o640
    expect(va("put", "-", "/in", input=b"from stdin"), 0)
    assert read(ROOT + "/in") == b"from stdin"
    os.makedirs(ROOT + "/dir", exist_ok=True)
    expect(va("put", d + "/up", d + "/up", "/dir"), 0)
    assert read(ROOT + "/dir/up") == BLOB
    server.requests.clear()
    expect(va("put", "--mode", "0600", "--uid", "7", "--gid", "8", d + "/up", "/dir/"), 0)
    q = server.requests[0][1]
    assert (q["mode"], q["uid"], q["gid"]) == ("0600", "7", "8"), q
    expect(va("cp", d + "/up", ":/dir/cp"), 0)
    assert read(ROOT + "/dir/cp") == BLOB
    expect(va("put", "--mode", "9", d + "/up", "/x"), 3, "--mode")
    expect(va("put", d + "/up", d + "/up", "/no-dir"), 3, "no directory")
    expect(va("put", d + "/none", "/x"), 1, "cannot read")
    expect(va("put", d, "/x"), 2, "is a directory")
    expect(va("cp", d + "/up", d + "/up2"), 3, "GUEST:PATH")
    write(d + "/nothing", b"")
    expect(va("put", d + "/nothing", "/nothing"), 0)
    assert read(ROOT + "/nothing") == b""


@suite.case("put: broken off, it begins anew; with -c it goes on where it stopped")
def _():
    d = fresh()
    write(d + "/up", BLOB)
    server.cut = [600000]
    expect(va("put", d + "/up", "/again"), 0)
    assert read(ROOT + "/again") == BLOB
    server.cut = [600000, 600000]
    server.requests.clear()
    expect(va("put", "-c", d + "/up", "/again2"), 0)
    assert read(ROOT + "/again2") == BLOB
    offsets = [int(q.get("offset", 0)) for m, q, _ in server.requests if m == "PUT"]
    assert len(offsets) == 3 and offsets[0] == 0 and 600000 <= offsets[1] < offsets[2], offsets
    server.cut = [1] * 20
    expect(va("put", "-", "/x", input=b"x" * 100000), 2, "broke")
    assert not os.path.exists(ROOT + "/x") and not leftovers(ROOT)
    # What fails for good is thrown away, unless it is to go on later.
    server.cut = [200000] + [0] * 20
    expect(va("put", d + "/up", "/x"), 2, "broke")
    assert not leftovers(ROOT)
    server.cut = [200000] + [0] * 20
    expect(va("put", "-c", d + "/up", "/x"), 2, "broke")
    assert len(leftovers(ROOT)) == 1
    server.cut = []
    server.requests.clear()
    expect(va("put", "-c", d + "/up", "/x"), 0)
    assert read(ROOT + "/x") == BLOB and not leftovers(ROOT)
    assert int(server.requests[0][1]["offset"]) >= 200000
    # Another beginning: from the start.
    write(ROOT + "/.x.va-part", b"y" * 1000)
    expect(va("put", "-c", d + "/up", "/x"), 0)
    assert read(ROOT + "/x") == BLOB


def tree(path, files):
    for i in range(files):
        write("%s/d%d/sub/f%d" % (path, i % 3, i), b"%d" % i * (i + 1), 0o600 + i % 2 * 0o44)
    os.makedirs(path + "/hollow", exist_ok=True)
    os.symlink("d0/sub", path + "/inside")


def same(a, b):
    r = subprocess.run(["diff", "-r", "--no-dereference", a, b], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout


@suite.case("-r copies trees both ways, several files at once, pages of any size")
def _():
    tree(ROOT + "/tree", 60)
    d = fresh()
    server.busiest = 0
    expect(va("get", "-r", "/tree", d), 0)
    same(ROOT + "/tree", d + "/tree")
    assert server.busiest > 1, "one at a time"
    expect(va("put", "-r", d + "/tree", "/copy"), 0)
    same(d + "/tree", ROOT + "/copy")
    expect(va("cp", "-r", "-j", "1", ":/tree", d + "/second"), 0)
    same(ROOT + "/tree", d + "/second")
    # Once more over what is there.
    expect(va("get", "-r", "/tree", d), 0)
    same(ROOT + "/tree", d + "/tree")
    assert not leftovers(d)


@suite.case("-r goes on after a file that fails, and says so in its status")
def _():
    d = fresh()
    tree(ROOT + "/some", 6)
    os.mkfifo(ROOT + "/some/pipe")
    expect(va("get", "-r", "/some", d), 2, "no regular file")
    assert os.path.exists(d + "/some/d0/sub/f0") and not os.path.exists(d + "/some/pipe")


@suite.case("names and links of a hostile guest lead nowhere outside the target")
def _():
    outside = fresh("outside")
    d = fresh()
    os.makedirs(ROOT + "/evil")
    base = {"mode": 0o644, "size": 4, "uid": 0, "gid": 0, "mtime": 1}
    bad = [dict(base, type="file", name=n) for n in
           ("../evil", "..", ".", "", "/etc/evil", "a/b", b"x/../y", b"nul\0name")]
    links = [dict(base, type="symlink", name="l%d" % i, target=t) for i, t in enumerate(
        (outside, "../x", "a/../../x", "../../../../etc", "", "/"))]
    good = [dict(base, type="symlink", name="ok", target="ok2/file")]
    server.lie = lambda path: bad + links + good if path == "/evil" else (
        [] if path.startswith("/evil") else None)
    try:
        expect(va("get", "-r", "/evil", d + "/t"), 2, "outside the tree")
    finally:
        server.lie = lambda path: None
    assert os.listdir(d + "/t") == ["ok"] and os.readlink(d + "/t/ok") == "ok2/file"
    assert os.listdir(d) == ["t"] and os.listdir(outside) == []

    # A link that lies in the way is not followed, for directories and files.
    tree(ROOT + "/plain", 3)
    os.makedirs(d + "/p")
    os.symlink(outside, d + "/p/d0")
    os.makedirs(d + "/p/d1/sub")
    os.symlink(outside + "/target", d + "/p/d1/sub/f1")
    expect(va("get", "-r", "/plain", d), 0)
    expect(va("cp", "-r", ":/plain", d + "/plain"), 0)
    shutil.move(d + "/p", d + "/plain2")
    server.lie = lambda path: None
    os.rename(ROOT + "/plain", ROOT + "/plain2")
    expect(va("get", "-r", "/plain2", d), 2, "in the way")
    assert os.listdir(outside) == []
    assert os.path.islink(d + "/plain2/d0") and not os.path.islink(d + "/plain2/d1/sub/f1")

    # First a link, then a directory of the same name: not written through it.
    server.lie = lambda path: [
        dict(base, type="symlink", name="x", target="ok"),
        dict(base, type="directory", name="x")] if path == "/evil" else (
        [dict(base, type="file", name="blob")] if path == "/evil/x" else None)
    try:
        r = va("get", "-r", "/evil", d + "/u")
    finally:
        server.lie = lambda path: None
    assert r.returncode == 2, r

    # A directory within itself without end.
    server.lie = lambda path: [dict(base, type="directory", name="d")]
    try:
        expect(va("get", "-r", "/evil", d + "/deep"), 2, "too deep")
    finally:
        server.lie = lambda path: None


@suite.case("ls, stat, rm, mkdir")
def _():
    tree(ROOT + "/l", 20)
    write(ROOT + "/l/.hidden", b"")
    write(ROOT + "/l/new\x1bline\n", b"")
    out = expect(va("ls", "/l"), 0).stdout
    assert b"d0\n" in out and b".hidden" not in out and b"new\x1bline\n" in out, out
    assert b".hidden" in expect(va("ls", "-a", "/l"), 0).stdout
    out = expect(va("ls", "-l", "/l"), 0).stdout
    assert b"drwx" in out and b"inside -> d0/sub" in out and b"\x1b" not in out, out
    out = json.loads(expect(va("ls", "--json", "/l/d0/sub"), 0).stdout)
    assert len(out) == 7 and out[0]["type"] == "file"
    expect(va("ls", "/nope"), 1, "No such file")
    assert b"size:  3145728" in expect(va("stat", "/blob"), 0).stdout
    assert b"mode:  -rwxr-xr-x (0755)" in va("stat", "/blob").stdout
    assert json.loads(va("stat", "--json", "/blob").stdout)["size"] == len(BLOB)
    expect(va("mkdir", "/l/m", "/l/n"), 0)
    assert os.path.isdir(ROOT + "/l/n")
    expect(va("mkdir", "/l/m"), 2, "exists")
    expect(va("mkdir", "-p", "/l/m/o/p"), 0)
    expect(va("mkdir", "-m", "0700", "/l/q"), 0)
    assert os.stat(ROOT + "/l/q").st_mode & 0o777 == 0o700
    expect(va("rm", "/l/m"), 2)
    expect(va("rm", "-r", "/l/m"), 0)
    assert not os.path.exists(ROOT + "/l/m")
    expect(va("rm", "/l/m"), 1)
    expect(va("rm", "-f", "/l/m"), 0)


@suite.case("Ctrl-C ends a transfer, cleans up, and gives status 130")
def _():
    d = fresh()

    def slow(request, number):
        yield (b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n"
               b"X-Va-Mode: 0644\r\nX-Va-Mtime: 1\r\n\r\n")
        while not s.ended.wait(0.05):
            yield b"x" * 1000
    for silent in (False, True):
        s = Raw(os.path.join(fresh("slow"), "s"), (lambda q, n: None) if silent else slow)
        p = subprocess.Popen([CLIENT, "-G", "unix:" + s.path, "get", "/big", d + "/big"],
                             stderr=subprocess.PIPE)
        try:
            wait_until(lambda: s.requests and leftovers(d), 10, "the transfer to begin")
            time.sleep(0.1)
            p.send_signal(signal.SIGINT)
            assert p.wait(10 * scale()) == 130, (silent, p.returncode)
            assert os.listdir(d) == [], (silent, os.listdir(d))
            assert p.stderr.read() == b""
        finally:
            p.kill()
            p.wait()
            p.stderr.close()
            s.close()


@suite.case("a terminal sees progress with rate, nothing else does")
def _():
    d = fresh()
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(CLIENT, [CLIENT, "-G", "unix:" + SOCK, "get", "-r", "/tree", d])
    data, end = b"", time.monotonic() + 20 * scale()
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                more = os.read(fd, 65536)
            except OSError:
                break
            data += more
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"60 files" in data and b"/s" in data, data
    r = expect(va("get", "/blob", d), 0)
    assert r.stdout == r.stderr == b""


@suite.case("a long transfer shows how much, how fast, how long yet; ^C ends it")
def _():
    d = fresh()

    def slow(request, number):
        yield (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n"
               b"X-Va-Mode: 0644\r\nX-Va-Mtime: 1\r\n\r\n" + b"x" * 250000)
        while not s.ended.wait(0.05):
            yield b"x" * 100
    s = Raw(os.path.join(fresh("slow"), "s"), slow)
    pid, fd = pty.fork()
    if pid == 0:
        # What the guest calls its file may be anything.
        os.execv(CLIENT, [CLIENT, "-G", "unix:" + s.path, "get", "/a\x1b[2Jb", d + "/x"])
    data, end, typed = b"", time.monotonic() + 30 * scale(), False
    try:
        while time.monotonic() < end:
            if not select.select([fd], [], [], 0.1)[0]:
                continue
            try:
                data += os.read(fd, 65536)
            except OSError:
                break
            if not typed and re.search(rb"a\\x1b\[2Jb +2\d%  +2\d\d\.?\d* KiB +[\d.]+ \w+/s  "
                                       rb"\d\d:\d\d:\d\d", data):
                os.write(fd, b"\x03")
                typed = True
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130, data
    finally:
        os.close(fd)
        s.close()
    assert typed, data
    assert b"\x1b[2J" not in data and os.listdir(d) == [], (data, os.listdir(d))


@suite.case("errors on the way are said with the guest's words, escaped")
def _():
    for status in ("403 Forbidden", "404 Not Found", "500 Oops"):
        text = b"refused by rule 7 in \x1b[2J/etc/virtagent/agent.conf\nmore"
        s = Raw(os.path.join(fresh("e"), "s"), lambda q, n: b"HTTP/1.1 %s\r\nContent-Length: "
                b"%d\r\n\r\n%s" % (status.encode(), len(text), text))
        for args in (["get", "/x", "-"], ["put", "/etc/hostname", "/x"]):
            r = run([CLIENT, "-G", "unix:" + s.path, *args], text=False)
            assert r.returncode == (1 if "404" in status else 2), r
            assert b"rule 7" in r.stderr and b"\x1b" not in r.stderr and b"more" not in r.stderr
        s.close()


suite.main()
