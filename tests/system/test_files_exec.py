#!/usr/bin/python3
# test_files_exec.py - files, programs and facts of a real guest, over both kinds
# of channel, by va-client and by stock clients; the guest's policy refuses.
#
# SPDX-License-Identifier: MIT
import concurrent.futures
import hashlib
import json
import os
import random
import subprocess
import time
import xmlrpc.client

from vatest import Guest, Process, Suite, fault, http_request, program, run, sanitized, \
    tmpdir, wait_until, xmlrpc_proxy
from vatest.host import Proxy

random.seed(20100)
BIG = random.randbytes((4 if sanitized() else 24) << 20)
SMALL = random.randbytes(70000)

suite = Suite()
guest = Guest(files={"/srv/big": BIG, "/srv/small": SMALL,
                     "/etc/passwd": "root:x:0:0::/root:/bin/sh\nworker:x:77:78::/srv:/bin/sh\n",
                     "/etc/group": "root:x:0:\nworker:x:78:\nextra:x:79:worker\n"})
suite.cleanups.append(guest.close)
suite.on_failure.append(guest.report)
proxies = {kind: Proxy(getattr(guest, kind), name="virtproxy-" + kind)
           for kind in ("virtio", "serial")}
for p in proxies.values():
    suite.cleanups.append(p.close)
virtio, serial = proxies["virtio"], proxies["serial"]


def server(proxy=virtio, timeout=60):
    return xmlrpc_proxy(proxy.rpc, timeout)


def local(name, content=None):
    path = os.path.join(tmpdir(), name)
    if content is not None:
        with open(path, "wb") as f:
            f.write(content)
    return path


def read(path):
    with open(path, "rb") as f:
        return f.read()


@suite.case("both channels come up")
def _():
    for p in proxies.values():
        p.wait_agent(120)


# --- files ------------------------------------------------------------------

@suite.case("get and put of a large file, byte-exact")
def _():
    r = virtio.client("get", "/srv/big", local("got"), seconds=120)
    assert r.returncode == 0, r
    assert read(local("got")) == BIG
    r = virtio.client("put", local("got"), "/srv/back", seconds=120)
    assert r.returncode == 0, r
    assert guest.sh("sha256sum </srv/back").split()[0] == hashlib.sha256(BIG).hexdigest()
    assert "va-part" not in guest.sh("ls -a /srv")


@suite.case("get and put over isa-serial")
def _():
    r = serial.client("get", "/srv/small", local("small"), seconds=120)
    assert r.returncode == 0, r
    assert read(local("small")) == SMALL
    r = serial.client("put", local("small"), "/srv/small2", seconds=120)
    assert r.returncode == 0, r
    assert guest.sh("cmp /srv/small /srv/small2 && echo same") == "same\n"


@suite.case("curl forms: GET with Range, PUT with mode, refusals")
def _():
    status, head, body = http_request(virtio.rpc, "GET", "/file?path=/srv/small",
                                      headers={"Range": "bytes=1000-1999"})
    assert status == 206 and body == SMALL[1000:2000], (status, len(body))
    assert head["Content-Range"] == "bytes 1000-1999/%d" % len(SMALL)
    status, head, body = http_request(virtio.rpc, "GET", "/file?path=/srv/small",
                                      headers={"Range": "bytes=%d-" % len(SMALL)})
    assert status == 416, status
    status, head, body = http_request(virtio.rpc, "PUT", "/file?path=/srv/exec&mode=0751",
                                      body=b"#!/bin/sh\necho ran\n")
    assert status == 200, (status, body)
    assert guest.sh("stat -c %a /srv/exec; /srv/exec") == "751\nran\n"
    for path, want in (("/nosuch", 404), ("/dev/zero", 400), ("/srv", 400), ("relative", 400),
                       ("", 400)):
        status, head, body = http_request(virtio.rpc, "GET", "/file?path=" + path)
        assert status == want, (path, status, body)
        assert body.strip(), path
    status, head, body = http_request(virtio.rpc, "GET", "/file?path=/proc/meminfo")
    assert status == 200 and b"MemTotal:" in body


@suite.case("a broken put leaves the old file, and is continued by offset and checksum")
def _():
    import socket
    s = socket.socket(socket.AF_UNIX)
    s.connect(virtio.rpc)
    s.sendall(b"PUT /file?path=/srv/small HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
              + b"A" * 50000)
    wait_until(lambda: server().guest.putstatus("/srv/small")["size"] == 50000, 20,
               "the partial file")
    s.close()
    assert guest.sh("sha256sum </srv/small").split()[0] == hashlib.sha256(SMALL).hexdigest()
    state = server().guest.putstatus("/srv/small")
    assert state["sha256"] == hashlib.sha256(b"A" * 50000).hexdigest(), state
    f = fault(server().guest.putfile, "/srv/small", b"x", 50001)
    assert "50000" in f.faultString, f
    status, _, body = http_request(virtio.rpc, "PUT", "/file?path=/srv/small&offset=50000",
                                   body=b"B" * 50000)
    assert status == 200, body
    assert guest.sh("sha256sum </srv/small").split()[0] == \
        hashlib.sha256(b"A" * 50000 + b"B" * 50000).hexdigest()
    assert server().guest.putstatus("/srv/small")["partial"] is False


@suite.case("put replaces a link, never writes through it")
def _():
    guest.sh("echo precious >/srv/target; ln -sf /srv/target /srv/link")
    server().guest.putfile("/srv/link", b"new")
    assert guest.sh("cat /srv/target; cat /srv/link; test -L /srv/link || echo plain") == \
        "precious\nnewplain\n"


@suite.case("stat, list with cursor, mkdir, rename, chmod, chown, symlink, remove")
def _():
    g = server().guest
    assert g.mkdir("/srv/d/e/f", 0o750, True)
    assert g.stat("/srv/d/e/f")["mode"] == 0o750
    for i in range(25):
        g.putfile("/srv/d/n%02d" % i, b"")
    names, cursor = [], ""
    while True:
        page = g.list("/srv/d", cursor, 10)
        assert len(page["entries"]) <= 10
        names += [e["name"] for e in page["entries"]]
        cursor = page["cursor"]
        if page["eof"]:
            break
    assert names == ["e"] + ["n%02d" % i for i in range(25)], names
    assert g.rename("/srv/d/n00", "/srv/d/moved")
    assert "is there" in fault(g.rename, "/srv/d/n01", "/srv/d/moved").faultString
    assert g.chmod("/srv/d/moved", 0o4711) and g.stat("/srv/d/moved")["mode"] == 0o4711
    assert g.chown("/srv/d/moved", "worker", 79)
    assert (g.stat("/srv/d/moved")["uid"], g.stat("/srv/d/moved")["gid"]) == (77, 79)
    assert "nosuch" in fault(g.chown, "/srv/d/moved", "nosuch").faultString
    assert g.symlink("/etc", "/srv/d/out") and g.readlink("/srv/d/out") == "/etc"
    assert g.stat("/srv/d/out")["type"] == "symlink"
    f = fault(g.remove, "/srv/d")
    assert f.faultCode == 1000 + 39, f          # ENOTEMPTY
    assert g.remove("/srv/d", True) == 29
    assert guest.sh("test -e /srv/d || echo gone; test -e /etc/passwd && echo kept") == "gone\nkept\n"


@suite.case("names that hold any byte come through")
def _():
    g = server().guest
    name = b"/srv/odd\x01\xff\nname"
    g.putfile(xmlrpc.client.Binary(name), b"odd")
    entry = [e for e in g.list("/srv")["entries"] if isinstance(e["name"], bytes)]
    assert entry and entry[0]["name"] == name[5:], entry
    assert g.getfile(name)["data"] == b"odd"
    # Bytes to a pipe, never to a terminal.
    assert name[5:] in virtio.client("ls", "/srv", text=False).stdout
    r = run(["script", "-qec", "%s -G unix:%s ls /srv" % (program("va-client"), virtio.rpc),
             "/dev/null"], text=False, seconds=60)
    assert b"\x01" not in r.stdout and b"\xff" not in r.stdout and b"odd" in r.stdout, r
    g.remove(name)


@suite.case("directories go both ways, links inside stay links")
def _():
    guest.sh("mkdir -p /srv/tree/sub; echo one >/srv/tree/a; echo two >/srv/tree/sub/b;"
             "ln -s /etc/passwd /srv/tree/evil")
    target = local("tree")
    r = virtio.client("get", "-r", "/srv/tree", target, seconds=60)
    # A link out of the tree is left out, and said so.
    assert r.returncode == 2 and "evil" in r.stderr, r
    assert read(os.path.join(target, "sub/b")) == b"two\n"
    assert sorted(os.listdir(target)) == ["a", "sub"], os.listdir(target)
    r = virtio.client("put", "-r", target, "/srv/tree2", seconds=60)
    assert r.returncode == 0, r
    assert guest.sh("cat /srv/tree2/a /srv/tree2/sub/b") == "one\ntwo\n"


# --- programs -----------------------------------------------------------------

for kind, proxy in proxies.items():
    @suite.case("%s: exec passes on output, errors, input and status" % kind)
    def _(proxy=proxy):
        r = proxy.client("exec", "--", "/bin/sh", "-c", "echo out; echo err >&2; cat; exit 7",
                         input="fed\n")
        assert (r.returncode, r.stdout, r.stderr) == (7, "out\nfed\n", "err\n"), r
        assert proxy.client("exec", "--", "nosuch").returncode == 127
        assert proxy.client("exec", "--", "/etc/passwd").returncode == 126
        assert proxy.client("exec", "--", "/bin/sh", "-c", "kill -9 $$").returncode == 137


@suite.case("exec: environment, directory, user with his groups")
def _():
    r = virtio.client("exec", "-e", "A=b c", "--cwd", "/srv", "-u", "worker", "--",
                      "/bin/sh", "-c", "echo $A; pwd; id -u; id -g; id -G; echo $HOME")
    assert r.stdout == "b c\n/srv\n77\n78\n78 79\n/srv\n", r
    assert "nosuch" in virtio.client("exec", "-u", "nosuch", "--", "true").stderr


@suite.case("exec: output comes while the program runs, large output is exact")
def _():
    p = Process([program("va-client"), "-G", "unix:" + virtio.rpc, "exec", "--", "/bin/sh", "-c",
                 "echo first; read x; echo got $x"], stdin=subprocess.PIPE)
    p.wait_log("first")
    p.popen.stdin.write(b"more\n")
    p.popen.stdin.close()
    assert p.wait(20) == 0 and "got more" in p.log(), p.log()
    r = virtio.client("exec", "--", "cat", "/srv/big", text=False, seconds=120)
    assert r.returncode == 0 and r.stdout == BIG, (r.returncode, len(r.stdout))


@suite.case("exec: what is fed comes back, both ways at once")
def _():
    r = virtio.client("exec", "--", "cat", input=BIG[:4 << 20], seconds=120)
    assert r.returncode == 0 and r.stdout == BIG[:4 << 20], (r.returncode, len(r.stdout))


@suite.case("exec: a client that leaves ends its program, a detached one lives on")
def _():
    p = Process([program("va-client"), "-G", "unix:" + virtio.rpc, "exec", "--", "sleep", "1001"])
    wait_until(lambda: guest.pids("sleep 1001"), 20, "the program to run")
    p.kill()
    wait_until(lambda: not guest.pids("sleep 1001"), 20, "the program to end")
    r = virtio.client("exec", "-d", "--", "/bin/sh", "-c", "echo early; sleep 1002; echo late")
    job = int(r.stdout)
    pid = guest.pids("sleep 1002")
    assert pid, "the detached program does not run"
    p = Process([program("va-client"), "-G", "unix:" + virtio.rpc, "attach", str(job)])
    p.wait_log("early")
    guest.sh("for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' <$p/cmdline 2>/dev/null)\" = "
             "'sleep 1002 ' ] && kill ${p#/proc/}; done; true")
    assert p.wait(20) == 0 and "late" in p.log(), p.log()
    rows = json.loads(virtio.client("jobs", "--json").stdout)
    assert [j for j in rows if j["job"] == job and j["exit"] == 0], rows
    assert virtio.client("kill", "--forget", str(job)).returncode == 0
    assert "no job" in virtio.client("kill", str(job)).stderr


@suite.case("exec: the time limit ends the whole group")
def _():
    began = time.monotonic()
    r = virtio.client("exec", "--limit", "1", "--", "/bin/sh", "-c", "sleep 1003 & sleep 1003",
                      seconds=60)
    assert r.returncode == 124, r
    assert time.monotonic() - began < 30
    wait_until(lambda: not guest.pids("sleep 1003"), 10, "the group to end")


@suite.case("exec: a terminal has its size and its signals")
def _():
    r = run(["script", "-qec", "stty rows 33 cols 99; %s -G unix:%s exec --tty -- /bin/sh -c "
             "'stty size; tty; echo $TERM'" % (program("va-client"), virtio.rpc), "/dev/null"],
            env={"TERM": "vt100"}, seconds=60)
    assert "33 99" in r.stdout and "/dev/pts/" in r.stdout and "vt100" in r.stdout, r


@suite.case("Python's client: start, read, write, kill by job")
def _():
    e = server().guest.exec
    j = e.start(["cat"], {"stdin": True})
    assert j["state"] == "running"
    assert e.write(j["job"], b"hello") == 5
    got = e.read(j["job"], "stdout", 0, 100, 5000)
    assert got["data"] == b"hello" and not got["eof"], got
    e.write(j["job"], b"", True)
    done = e.status(j["job"], 10000)
    assert done["exit"] == 0 and done["over"], done
    assert e.read(j["job"], "stdout", 5, 100, 0)["eof"]
    j = e.start(["sleep", "1004"])
    e.kill(j["job"], "KILL")
    done = e.status(j["job"], 10000)
    assert (done["signal"], done["exit"]) == (9, 137), done
    assert "has ended" in fault(e.kill, j["job"]).faultString
    assert "no job" in fault(e.status, 99999).faultString
    got = e.run(["/bin/sh", "-c", "cat; exit 4"], {"input": b"in", "env": {"X": "1"}})
    assert (got["stdout"], got["exit"]) == (b"in", 4), got


@suite.case("curl: a program's output, chunked as it comes")
def _():
    status, head, body = http_request(
        virtio.rpc, "GET", "/exec?arg=/bin/sh&arg=-c&arg=echo%20a%3Becho%20b%20%3E%262%3Bexit%203")
    assert status == 200 and sorted(body.split()) == [b"a", b"b"], body
    assert server().guest.exec.status(int(head["X-Va-Job"]), 5000)["exit"] == 3


@suite.case("wrong requests name what is wrong")
def _():
    e = server().guest.exec
    for args, words in (((["true"], {"nosuch": 1}), "nosuch"), (([],), "no program"),
                        ((["x" * 200000],), "too long"),
                        ((["true"], {"timeout": -1}), "time limit"),
                        ((["true"], {"env": ["noequals"]}), "noequals"),
                        ((["true"], {"cwd": "relative"}), "absolute")):
        f = fault(e.start, *args)
        assert words in f.faultString, (words, f)


@suite.case("one hundred calls at once, and pings beside a sleeping one")
def _():
    slow = server().guest.exec
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        sleeping = pool.submit(slow.run, ["sleep", "3"])
        began = time.monotonic()
        answers = list(pool.map(lambda i: server().guest.getfile("/srv/small", i, 10)["data"],
                                range(100)))
        assert all(len(a) == 10 for a in answers)
        server().guest.ping()
        assert not sleeping.done() or time.monotonic() - began >= 3
        assert sleeping.result()["exit"] == 0


# --- facts --------------------------------------------------------------------

@suite.case("facts are the guest's own")
def _():
    g = server().guest
    assert g.osinfo()["kernel_release"] == guest.sh("uname -r").strip()
    assert g.hostname() == guest.sh("hostname").strip()
    assert g.uptime()["boot_id"] == guest.sh("cat /proc/sys/kernel/random/boot_id").strip()
    total = int(guest.sh("awk '/^MemTotal/{print $2}' /proc/meminfo")) * 1024
    assert g.memory()["total"] == total
    assert g.load()["cpus"] == 1
    assert "offset" in g.timezone()
    assert g.users() == []
    pids = [p["pid"] for p in g.processes()["processes"]]
    assert 1 in pids and pids == sorted(pids)
    assert any(p["name"].startswith("va-agent") for p in g.processes()["processes"])
    assert "lo" in [i["name"] for i in g.interfaces()]
    mounts = {m["mountpoint"]: m for m in g.filesystems()}
    assert mounts["/proc"]["type"] == "proc" and "total" not in mounts["/proc"]
    assert "not a mount point" in fault(g.filesystems, "/srv").faultString
    assert isinstance(g.disks(), list)


# --- policy ---------------------------------------------------------------------

@suite.case("the guest's policy refuses, naming rule and file, in multicall too; reload")
def _():
    guest.sh("mkdir -p /etc/virtagent /usr/local/etc/virtagent")
    where = guest.sh("tr '\\0' '\\n' </proc/$(pidof va-agent | tr ' ' '\\n' | sort -n | head -1)/cmdline; true")
    conf = "/etc/virtagent/agent.conf"
    for d in ("/etc/virtagent", "/usr/local/etc/virtagent"):
        guest.sh("printf '[policy]\\nblock = class:exec\\npath-block = /srv\\n' >%s/agent.conf" % d)
    guest.sh("kill -HUP $(for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | "
             "grep -q 'va-agent' && ! tr '\\0' ' ' <$p/cmdline | grep -q -e --role && "
             "echo ${p#/proc/}; done)")
    g = server().guest

    def refused():
        try:
            g.exec.start(["true"])
        except xmlrpc.client.Fault as f:
            return f
        return None
    wait_until(refused, 10, "the new policy")
    f = refused()
    assert f.faultCode == 1 and "class:exec" in f.faultString and "agent.conf:2" in f.faultString, (f, where, conf)
    f = fault(g.getfile, "/srv/../srv/small")
    assert "path-block" in f.faultString, f
    f = fault(server().va.getfile, "/srv/small")
    assert "path-block" in f.faultString, f
    status, _, body = http_request(virtio.rpc, "GET", "/exec?arg=true")
    assert status == 403 and b"class:exec" in body, (status, body)
    status, _, body = http_request(virtio.rpc, "GET", "/file?path=/srv/small")
    assert status == 403, (status, body)
    status, _, body = http_request(virtio.rpc, "PUT", "/file?path=/srv/small", body=b"x")
    assert status == 403, (status, body)
    multi = xmlrpc.client.MultiCall(server())
    multi.guest.ping()
    multi.guest.exec.start(["true"])
    results = multi().results
    assert results[0] == ["pong"] and results[1]["faultCode"] == 1, results
    info = server().system.methodInfo("guest.exec.start")
    assert info["allowed"] is False and info["class"] == "exec", info
    r = virtio.client("exec", "--", "true")
    assert r.returncode == 125 and "class:exec" in r.stderr, r


if __name__ == "__main__":
    suite.main()
