#!/usr/bin/python3
# test_essentials.py - what people install an agent for, on a real guest, over
# virtio-serial and over isa-serial alike: files, programs, events, commands, as
# Python's own XML-RPC client and va-client ask for them
#
# SPDX-License-Identifier: MIT
import fcntl
import hashlib
import json
import os
import pty
import select
import socket
import struct
import termios
import time

from vatest import Suite, fault, http_request, program, run, scale, tmpdir, wait_until
from vatest.both import INSIDE, Both
from vatest.hostd import need_hostd

need_hostd()
suite = Suite()
TELL = "#!/bin/sh\necho $VA_SIDE $VA_GUEST $VA_CALLER $NEGOTIATOR_GUEST\n"
commands = os.path.join(tmpdir(), "commands")
os.mkdir(commands, 0o755)
with open(os.path.join(commands, "tell"), "w", encoding="utf-8") as _f:
    _f.write(TELL)
os.chmod(os.path.join(commands, "tell"), 0o755)
both = Both(suite, "[hostd]\ncommands = %s\n" % commands,
            files={"/srv/page": os.urandom(60000), "/srv/tree/sub/file": b"deep\n",
                   **{"/usr%s/lib/virtagent/commands/tell" % local: (TELL, 0o755)
                      for local in ("", "/local")}})
guest, hostd = both.guest, both.hostd
each, rpc, sock = both.each, both.rpc, both.sock
ENV = dict(hostd.env, VA_GUEST="", TERM="vt100")


def va(*args, code=0, **kw):
    r = run([program("va-client"), *args], env=ENV, seconds=60, **kw)
    assert r.returncode == code, (args, r.returncode, r.stdout[-500:], r.stderr)
    return r.stdout


def sha(data):
    return hashlib.sha256(data).hexdigest()


@suite.case("both guests are there")
def _():
    for g in INSIDE:
        hostd.wait_state(g, "connected", 60)


# --- files -------------------------------------------------------------------------

@each("files by Python's client: pieces, names, modes, links, checksums, a list by cursor")
def _(g):
    x, d = rpc(g), "/tmp/f-" + g
    assert x.mkdir(d)
    x.putfile(d + "/a", b"12345", 0, False)
    x.putfile(d + "/a", b"678", 5, True, 0o640)
    assert x.getfile(d + "/a", 2, 4)["data"] == b"3456"
    assert x.checksum(d + "/a")["sha256"] == sha(b"12345678")
    x.chmod(d + "/a", 0o604)
    x.chown(d + "/a", 77, 78)
    st = x.stat(d + "/a")
    assert (st["size"], st["mode"] & 0o777, st["uid"], st["gid"]) == (8, 0o604, 77, 78), st
    x.truncate(d + "/a", 3)
    assert "exist" in fault(x.rename, d + "/a", "/srv/page").faultString
    x.rename(d + "/a", d + "/b")
    x.symlink("b", d + "/l")
    assert x.readlink(d + "/l") in ("b", b"b")
    names, cursor = [], ""
    while True:
        part = x.list(d, cursor, 1)
        names += [e["name"] for e in part["entries"]]
        cursor = part["cursor"]
        if part["eof"]:
            break
    assert sorted(names) == ["b", "l"], names
    assert x.getfile(d + "/l")["data"] == b"123"
    assert x.remove(d, True) == 3
    assert fault(x.stat, d).faultCode == 1002


@each("a broken put leaves the old file, and goes on by offset and checksum")
def _(g):
    path = "/tmp/p-" + g
    rpc(g).putfile(path, b"old")
    s = socket.socket(socket.AF_UNIX)
    s.connect(sock(g))
    s.sendall(b"PUT /file?path=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n"
              % path.encode() + b"A" * 20000)
    wait_until(lambda: rpc(g).putstatus(path)["size"] == 20000, 20, "the partial file")
    s.close()
    assert rpc(g).getfile(path)["data"] == b"old"
    assert rpc(g).putstatus(path)["sha256"] == sha(b"A" * 20000)
    whole = os.path.join(tmpdir(), "p-" + g)
    with open(whole, "wb") as f:
        f.write(b"A" * 20000 + b"B" * 20000)
    va("put", "-c", whole, "%s:%s" % (g, path))
    assert guest.sh("sha256sum <" + path).split()[0] == sha(b"A" * 20000 + b"B" * 20000)
    # And the other way: what is here is the beginning of what is there.
    with open(whole, "wb") as f:
        f.write(b"A" * 15000)
    va("get", "-c", "%s:%s" % (g, path), whole)
    with open(whole, "rb") as f:
        assert sha(f.read()) == sha(b"A" * 20000 + b"B" * 20000)


@each("directories both ways; a link in one stays a link; sparse and endless files are bounded")
def _(g):
    here = os.path.join(tmpdir(), "t-" + g)
    guest.sh("ln -sf sub/file /srv/tree/in; rm -f /srv/tree/out; truncate -s 900M /tmp/sparse")
    va("get", "-r", "%s:/srv/tree" % g, here)
    assert os.readlink(here + "/in") == "sub/file"
    # Whoever chose this link must not choose what is written here.
    guest.sh("ln -s /etc/passwd /srv/tree/out")
    va("get", "-r", "%s:/srv/tree" % g, here + "2", code=2)
    assert sorted(os.listdir(here + "2")) == ["in", "sub"]
    with open(here + "/sub/file", encoding="utf-8") as f:
        assert f.read() == "deep\n"
    va("put", "-r", here, "%s:/tmp/t-%s" % (g, g))
    assert guest.sh("readlink /tmp/t-%s/in; cat /tmp/t-%s/sub/file" % (g, g)) == \
        "sub/file\ndeep\n"
    status, head, body = http_request(sock(g), "GET", "/file?path=/tmp/sparse",
                                      headers={"Range": "bytes=943718390-943718399"}, timeout=60)
    assert status == 206 and body == bytes(10), (status, head)
    got = rpc(g).getfile("/tmp/sparse", 900 << 20, 10)
    assert got["eof"] and got["data"] == b"", got
    assert fault(rpc(g).getfile, "/dev/zero").faultCode > 1000


@each("a terminal sees how much, how fast; a pipe sees nothing of it")
def _(g):
    r = run(["script", "-qec", "%s get %s:/srv/page /dev/null" % (program("va-client"), g),
             "/dev/null"], env=ENV, seconds=60)
    assert r.returncode == 0 and "/s" in r.stdout and "58." in r.stdout, r
    assert va("get", g + ":/srv/page", os.path.join(tmpdir(), "page")) == ""


# --- programs ------------------------------------------------------------------------

@each("programs by Python's client: start, write, read, status, kill; the limit ends the group")
def _(g):
    e = rpc(g).exec
    j = e.start(["/bin/sh", "-c", "read x; echo got $x; echo bad >&2; exit 9"],
                {"stdin": True, "env": {"A": "b"}, "cwd": "/srv"})["job"]
    e.write(j, b"word\n", True)
    done = e.status(j, 20000)
    assert (done["exit"], done["over"]) == (9, True), done
    assert e.read(j, "stdout")["data"] == b"got word\n" and e.read(j, "stderr")["data"] == b"bad\n"
    assert e.forget(j) and "no job" in fault(e.status, j).faultString
    j = e.start(["sleep", "1031"])["job"]
    e.kill(j, "HUP")
    assert e.status(j, 20000)["signal"] == 1
    done = e.run(["/bin/sh", "-c", "sleep 1032 & sleep 1032"], {"timeout": 1})
    assert done["timed_out"], done
    wait_until(lambda: not guest.pids("sleep 1032"), 20, "the group to end")


@each("a terminal's new size reaches the program while it runs")
def _(g):
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(ENV)
        os.execv(program("va-client"), ["va-client", "exec", "-it", g, "--", "/bin/sh", "-c",
                                        "echo up; while read x; do stty size; done"])
    seen = b""

    def until(word, say=b""):
        nonlocal seen
        end = time.monotonic() + 30 * scale()
        while word not in seen:
            assert time.monotonic() < end, seen
            if not select.select([fd], [], [], 0.5)[0]:
                os.write(fd, say)
                continue
            try:
                seen += os.read(fd, 4096)
            except OSError as e:
                raise AssertionError("va-client ended: %r" % seen) from e
    try:
        until(b"up")
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 21, 43, 0, 0))
        until(b"21 43", b"\n")
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
        until(b"50 132", b"\n")
        os.write(fd, b"\x04")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen
    finally:
        os.close(fd)


@each("a job outlives its client: listed, attached to again, its output fetched, forgotten")
def _(g):
    job = va("exec", "-d", g, "--", "sh", "-c", "echo early; until [ -e /tmp/go-%s ]; do "
             "usleep 50000; done; echo late; exit 4" % g).strip()
    assert [j["state"] for j in json.loads(va("jobs", g, "--json")) if str(j["job"]) == job] \
        == ["running"]
    guest.sh("touch /tmp/go-" + g)
    assert va("attach", g, job, code=4) == "early\nlate\n"
    assert va("attach", g, job, code=4) == "early\nlate\n"
    va("kill", "--forget", g, job)
    va("kill", g, job, code=1)


# --- events and commands ---------------------------------------------------------------

@each("event send: on events.sock live and from what is kept, to a hook; kept while the host is away")
def _(g):
    out = os.path.join(tmpdir(), "hook-" + g)
    d = os.path.join(hostd.conf_dir, "hooks", "events.d")
    os.makedirs(d, mode=0o700, exist_ok=True)
    with open(os.path.join(d, g), "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\n[ $VA_EVENT = mine-%s ] && cat >%s.part && mv %s.part %s\nexit 0\n"
                % (g, out, out, out))
    os.chmod(os.path.join(d, g), 0o700)
    last = hostd.events()[-1]["seq"]
    lines = hostd.feed(g)
    send = INSIDE[g] + "va-client event send mine-%s '{\"n\": %%d}'" % g

    def line_with(n):
        while True:
            e = lines.next(30)
            e = json.loads(e) if isinstance(e, str) else e
            if e["event"] == "mine-" + g:
                assert e["data"] == {"n": n} and e["guest"] == g, e
                return
    guest.sh(send % 1)
    line_with(1)
    wait_until(lambda: os.path.exists(out), 20, "the hook")
    with open(out, encoding="utf-8") as f:
        assert json.load(f) == {"n": 1}
    hostd.process.kill()
    for n in (2, 3):
        guest.sh(send % n)
    hostd.start()
    wait_until(lambda: [e["data"]["n"] for e in hostd.events(last) if e["event"] == "mine-" + g]
               == [1, 2, 3], 60, "those sent meanwhile, once, in order", 0.3)


@each("a command knows who asks, by the names of old scripts, too")
def _(g):
    words = va("run", g, "tell").split()
    assert words == ["guest", g, str(os.getuid()), g], words
    words = guest.sh(INSIDE[g] + "va-client run tell").split()
    assert words == ["host", g, "0", g], words


if __name__ == "__main__":
    suite.main()
