#!/usr/bin/python3
"""Keys: va-hostd, a real va-agent and va-client, over a unix socket as channel.

SPDX-License-Identifier: MIT
"""
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Suite, fault, need_all, program, tmpdir, wait_until
from vatest.hostd import Hostd
from vatest.proc import Process
from vatest.rpc import xmlrpc_proxy

need_all(program("va-hostd"), program("virtproxy"), program("va-agent"), program("va-client"))
suite = Suite()
chan = os.path.join(tmpdir(), "c")
hostd = Hostd(["vm=unix-connect:%s:-" % chan, "other=unix-connect:%s.2:-" % chan], start=False)
suite.cleanups.append(hostd.close)
suite.on_failure.append(hostd.tail)


def put(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)


put(os.path.join(hostd.conf_dir, "keys.d", "site"), "north")
put(os.path.join(hostd.conf_dir, "keys.d", "rack"), "#!/bin/sh\nprintf 'rack of %s' \"$VA_GUEST\"\n",
    0o755)
put(os.path.join(hostd.conf_dir, "keys.d", "broken"), "#!/bin/sh\necho no; exit 3\n", 0o755)


class Agent:
    """A guest's va-agent."""

    def __init__(self, name="g"):
        self.dir = os.path.join(tmpdir(), name)
        self.conf = os.path.join(self.dir, "conf")
        self.run = os.path.join(self.dir, "run")
        os.makedirs(self.conf, 0o700)
        self.hooked = os.path.join(self.dir, "hooked")
        put(os.path.join(self.conf, "hooks", "keys.d", "note"),
            "#!/bin/sh\necho $VA_KEY $VA_REMOVED $(cat $VA_KEY_FILE) >>%s\n" % self.hooked, 0o755)
        self.env = {"VA_RUNTIME_DIR": self.run, "VA_CONF_DIR": self.conf}
        self.process = None

    def start(self):
        self.process = Process([program("va-agent"), "-v", "-c", "unix-listen:%s:-" % chan],
                               env=self.env)

    def rpc(self, timeout=10):
        return xmlrpc_proxy(self.run + "/agent.sock", timeout)

    def file(self, key):
        try:
            with open(os.path.join(self.run, "kv", key), "rb") as f:
                return f.read()
        except FileNotFoundError:
            return None

    def wait_file(self, key, value, seconds=15):
        wait_until(lambda: self.file(key) == value, seconds, "%s to be %r" % (key, value))

    def log(self):
        return self.process.log() if self.process else ""


agent = Agent()
suite.on_failure.append(agent.log)


def client(*args, env=hostd.env, data=None, check=None, timeout=60):
    r = subprocess.run([program("va-client"), *args], env={**os.environ, **env}, input=data,
                       stdin=None if data is not None else subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
    if check is not None:
        assert r.returncode == check, (args, r.returncode, r.stdout[:300], r.stderr[:300])
    return r


@suite.case("keys are set and read before the guest was ever there")
def _():
    hostd.start()
    client("kv", "set", "vm", "user.a=1", "user.b=", check=0)
    r = client("kv", "get", "vm", "user.a", check=0)
    assert r.stdout == b"1", r
    assert client("kv", "get", "vm", "user.b", check=0).stdout == b""
    r = client("kv", "get", "vm", "user.none", check=1)
    assert r.stdout == b"" and r.stderr, r
    client("kv", "exists", "vm", "user.b", check=0)
    client("kv", "exists", "vm", "user.none", check=1)
    client("kv", "get", "nobody", "user.a", check=2)
    assert client("kv", "get", "other", "user.a").returncode == 1


@suite.case("a guest that comes gets its keys, host.* too, as files")
def _():
    agent.start()
    suite.cleanups.append(agent.process.kill)
    agent.wait_file("user.a", b"1")
    agent.wait_file("user.b", b"")
    agent.wait_file("host.name", os.uname().nodename.encode())
    agent.wait_file("host.site", b"north")
    agent.wait_file("host.rack", b"rack of vm")
    assert agent.file("host.version") and agent.file("host.attached").endswith(b"Z")
    assert agent.file("host.broken") is None
    st = os.stat(os.path.join(agent.run, "kv", "user.a"))
    assert stat.S_IMODE(st.st_mode) == 0o644, oct(st.st_mode)
    assert client("kv", "get", "user.a", env=agent.env, check=0).stdout == b"1"
    assert client("kv", "get", "user.none", env=agent.env, check=1).stdout == b""


@suite.case("--sync returns when the guest has it; any bytes, 1 MiB, and one more is refused")
def _():
    blob = bytes(range(256)) * 4096
    client("kv", "set", "vm", "--sync", "user.blob", "-", data=blob, check=0)
    assert agent.file("user.blob") == blob
    assert client("kv", "get", "user.blob", env=agent.env, check=0).stdout == blob
    assert client("kv", "get", "vm", "user.blob", check=0).stdout == blob
    r = client("kv", "set", "vm", "user.blob", "-", data=blob + b"x", check=2)
    assert b"user.blob" in r.stderr and b"1048576" in r.stderr, r.stderr
    e = fault(hostd.rpc().host.kv.set, "vm", {"user.big": xmlrpc.client.Binary(blob + b"x")})
    assert "user.big" in e.faultString or "1048576" in e.faultString, e
    client("kv", "unset", "vm", "--sync", "user.blob", check=0)
    assert agent.file("user.blob") is None


@suite.case("several keys are set together or not at all; --if-revision")
def _():
    kv = hostd.rpc().host.kv
    rev = kv.set("vm", {"user.m1": "1", "user.m2": "2"})["revision"]
    assert kv.get("vm", "user.m1")["revision"] == kv.get("vm", "user.m2")["revision"] == rev
    e = fault(kv.set, "vm", {"user.m1": "9", "host.name": "x"})
    assert "host.name" in e.faultString, e
    assert kv.get("vm", "user.m1")["value"] == b"1"
    client("kv", "set", "vm", "--if-revision", str(rev), "user.m1=3", check=0)
    r = client("kv", "set", "vm", "--if-revision", str(rev), "user.m1=4", check=1)
    assert b"user.m1" in r.stderr and str(rev).encode() in r.stderr, r
    client("kv", "set", "vm", "--if-revision", "0", "user.m1=4", check=1)
    client("kv", "set", "vm", "--if-revision", "0", "user.m3=4", check=0)
    assert kv.set("vm", {"user.m1": "3"})["changed"] == 0     # has that value


@suite.case("names and the 16 MiB of a guest have limits that are named")
def _():
    kv = hostd.rpc().host.kv
    for name in ("x", "user.", "other.a", "user.a/b", "user.a b", "user." + "x" * 251):
        e = fault(kv.set, "vm", {name: "1"})
        assert "name" in e.faultString, e
    kv.set("other", {"user." + "x" * 250: "1"})
    part = xmlrpc.client.Binary(b"z" * (1 << 20))
    for i in range(15):
        kv.set("other", {"user.q%d" % i: part})
    e = fault(kv.set, "other", {"user.q16": part})
    assert "16777216" in e.faultString and "user.q16" in e.faultString, e
    kv.unset("other", ["user.q%d" % i for i in range(15)])
    kv.set("other", {"user.q16": part})


@suite.case("secret keys: a file of mode 0600, and in no list")
def _():
    client("kv", "set", "vm", "--sync", "--secret", "user.pass=hush", check=0)
    st = os.stat(os.path.join(agent.run, "kv", "user.pass"))
    assert stat.S_IMODE(st.st_mode) == 0o600, oct(st.st_mode)
    for env, args in ((hostd.env, ["vm"]), (agent.env, [])):
        names = client("kv", "list", *args, env=env, check=0).stdout.decode().split()
        assert "user.a" in names and "user.pass" not in names, names
    assert client("kv", "get", "user.pass", env=agent.env, check=0).stdout == b"hush"
    assert b"hush" not in hostd.log().encode() and "hush" not in agent.log()
    client("kv", "set", "vm", "--sync", "--no-read", "user.pass=hidden", check=0)
    assert agent.file("user.pass") is None
    client("kv", "get", "user.pass", env=agent.env, check=1)
    listed = client("kv", "list", "vm", "user.m*", "--json", check=0).stdout.splitlines()
    assert [json.loads(x)["name"] for x in listed] == ["user.m1", "user.m2", "user.m3"], listed


@suite.case("keys for all guests and for groups; a guest's own win, the longest pattern next")
def _():
    client("kv", "set", "--all", "user.site=north", "user.who=all", check=0)
    client("kv", "set", "--group", "v*", "user.who=group", check=0)
    r = client("kv", "set", "--all", "--sync", "-t", "0.5", "user.x=1", check=124)
    assert b"other" in r.stderr, r.stderr           # the guest that is not there
    client("kv", "set", "--group", "vm", "--sync", "user.x=2", check=0)
    assert agent.file("user.site") == b"north" and agent.file("user.who") == b"group"
    assert agent.file("user.x") == b"2"
    assert client("kv", "get", "other", "user.who", check=0).stdout == b"all"
    assert client("kv", "get", "--group", "v*", "user.who", check=0).stdout == b"group"
    assert client("kv", "list", "--all", check=0).stdout.split() == \
        [b"user.site", b"user.who", b"user.x"]
    assert client("kv", "groups", check=0).stdout == b"* 3\nv* 1\nvm 1\n"
    client("kv", "set", "vm", "--sync", "user.who=own", check=0)
    assert agent.file("user.who") == b"own"
    client("kv", "unset", "vm", "--sync", "user.who", check=0)
    assert agent.file("user.who") == b"group"
    r = client("kv", "unset", "vm", "user.who", check=2)
    assert b"user.who" in r.stderr and b"v*" in r.stderr, r.stderr
    assert hostd.rpc().host.kv.get("vm", "user.who")["group"] == "v*"
    client("kv", "unset", "--group", "v*", "--sync", "user.who", check=0)
    client("kv", "unset", "--all", "user.site", "user.who", "user.x", check=0)
    client("kv", "unset", "--group", "vm", "--sync", "user.x", check=0)
    wait_until(lambda: agent.file("user.site") is None and agent.file("user.who") is None
               and agent.file("user.x") is None, 15, "the groups' keys to go")
    client("kv", "set", "--all", "--lifetime", "reset", "user.x=1", check=2)
    client("kv", "set", "--all", "guest.x=1", check=2)
    client("kv", "set", "--all", "--group", "v*", "user.x=1", check=3)
    client("kv", "set", "--all", "user.x=1", env=agent.env, check=3)
    inside = xmlrpc_proxy(agent.run + "/host.sock", 10).host.kv
    assert fault(inside.get, "group:*", "user.x").faultCode == 1019
    assert fault(inside.groups).faultCode == 1


@suite.case("keys.d is read again on SIGHUP; a file that goes takes its key away")
def _():
    put(os.path.join(hostd.conf_dir, "keys.d", "late"), "1")
    os.unlink(os.path.join(hostd.conf_dir, "keys.d", "site"))
    hostd.write_conf("[hostd]\nname = the other name\n")
    hostd.reload()
    agent.wait_file("host.late", b"1")
    agent.wait_file("host.name", b"the other name")
    wait_until(lambda: agent.file("host.site") is None, 15, "host.site to go")
    agent.wait_file("host.rack", b"rack of vm")
    client("kv", "get", "vm", "host.site", check=1)
    put(os.path.join(hostd.conf_dir, "keys.d", "site"), "north")
    hostd.write_conf("")
    hostd.reload()
    agent.wait_file("host.site", b"north")


@suite.case("a hook runs on each change")
def _():
    client("kv", "set", "vm", "--sync", "user.hooked=yes", check=0)
    client("kv", "unset", "vm", "--sync", "user.hooked", check=0)

    def lines():
        with open(agent.hooked, encoding="utf-8", errors="replace") as f:
            return f.read().splitlines()
    wait_until(lambda: "user.hooked 1" in lines() or "user.hooked 1 " in lines(), 15, "the hook")
    assert "user.a 0 1" in lines(), lines()


@suite.case("the guest sets guest.* keys, reads what it may, and nothing else")
def _():
    client("kv", "set", "--sync", "guest.state=ready", "guest.empty=", env=agent.env, check=0)
    assert client("kv", "get", "vm", "guest.state", check=0).stdout == b"ready"
    assert client("kv", "get", "vm", "guest.empty", check=0).stdout == b""
    assert agent.file("guest.state") == b"ready"
    client("kv", "set", "host.name=x", env=agent.env, check=2)
    client("kv", "set", "user.a=x", env=agent.env, check=2)     # not its to write
    client("kv", "set", "vm", "--sync", "--write", "user.a=mine", check=0)
    client("kv", "set", "user.a=theirs", env=agent.env, check=0)
    assert client("kv", "get", "vm", "user.a", check=0).stdout == b"theirs"
    client("kv", "set", "vm", "guest.state=x", check=2)
    inside = xmlrpc_proxy(agent.run + "/host.sock", 10).host.kv
    assert "other" in fault(inside.get, "other", "user.q16").faultString
    for name in ("export", "import"):
        assert fault(getattr(inside, name), "vm", *([[]] if name == "import" else [])).faultCode == 1
    assert fault(hostd.guest_rpc("vm").guest.kv.set, {"guest.x": "1"}).faultCode == 1
    assert fault(agent.rpc().guest.kv.push, {}).faultCode == 1


@suite.case("watch: what there is, then changes, on both sides; wait")
def _():
    kv = hostd.rpc(30).host.kv
    now = kv.watch("vm", "user.w*")
    assert now["keys"] == [], now
    got = []
    t = threading.Thread(target=lambda: got.append(
        xmlrpc_proxy(hostd.sock, 30).host.kv.watch("vm", "user.w*", now["revision"], 20)))
    t.start()
    inside = agent.rpc().guest.kv.watch("user.w*")
    w = Process([program("va-client"), "kv", "watch", "vm", "user.w*"], env=hostd.env, name="w")
    kv.set("vm", {"user.unseen": "1"})
    kv.set("vm", {"user.w1": "1"}, {"sync": True})
    t.join(20)
    assert [k["name"] for k in got[0]["keys"]] == ["user.w1"], got
    g = agent.rpc(30).guest.kv.watch("user.w*", str(inside["revision"]), 20)
    assert [(k["name"], k["value"]) for k in g["keys"]] == [("user.w1", b"1")], g
    w.wait_log(r"\d+ user\.w1")
    kv.unset("vm", ["user.w1"])
    w.wait_log(r"\d+ user\.w1 removed")
    w.kill()
    missed = kv.watch("vm", "user.w*", now["revision"], 0)
    assert missed["keys"][0].get("removed"), missed
    assert client("kv", "wait", "vm", "user.later", "-t", "0.3").returncode == 124
    p = subprocess.Popen([program("va-client"), "kv", "wait", "user.later", "-t", "30"],
                         env={**os.environ, **agent.env}, stdout=subprocess.PIPE)
    kv.set("vm", {"user.later": "1"})
    assert p.communicate(timeout=40)[0].endswith(b"user.later\n") and p.returncode == 0


@suite.case("a server that is replaced has its keys, and gets later ones")
def _():
    for pid in agent.process.children():
        with open("/proc/%d/cmdline" % pid, encoding="utf-8") as f:
            if "--role=server" in f.read():
                os.kill(pid, signal.SIGKILL)
    client("kv", "set", "vm", "user.after=1", check=0)
    agent.wait_file("user.after", b"1")
    assert agent.file("guest.state") == b"ready"
    client("kv", "set", "vm", "--sync", "user.after=2", check=0)
    assert agent.file("user.after") == b"2"


@suite.case("without its guest, keys wait; without its host, guest.* keys wait")
def _():
    agent.process.kill()
    hostd.wait_state("vm", "absent")
    client("kv", "set", "vm", "user.a=while away", check=0)
    client("kv", "unset", "vm", "user.m1", check=0)
    r = client("kv", "set", "vm", "--sync", "-t", "0.5", "user.c=1", check=124)
    assert b"acknowledged" in r.stderr, r.stderr
    agent.start()
    suite.cleanups.append(agent.process.kill)
    agent.wait_file("user.a", b"while away")
    wait_until(lambda: agent.file("user.m1") is None, 15, "user.m1 to go")
    agent.wait_file("user.c", b"1")
    hostd.stop_all()
    hostd.process.kill()
    client("kv", "set", "guest.lonely=1", env=agent.env, check=0)
    assert agent.file("guest.lonely") == b"1"
    hostd.start()
    wait_until(lambda: client("kv", "get", "vm", "guest.lonely").stdout == b"1", 40, "guest.lonely")


@suite.case("export and import keep values and revisions; host.* stays behind")
def _():
    blob = bytes(range(256))
    client("kv", "set", "vm", "user.bin", "-", data=blob, check=0)
    text = client("kv", "export", "vm", check=0).stdout
    second = Hostd(["vm=unix-connect:%s.3:-" % chan])
    try:
        client("kv", "import", "vm", env=second.env, data=text, check=0)
        here, there = hostd.rpc().host.kv, second.rpc().host.kv
        for key in ("user.bin", "guest.state", "user.a"):
            a, b = here.get("vm", key), there.get("vm", key)
            assert a == b, (a, b)
        assert fault(there.get, "vm", "host.site").faultCode == 1002
    finally:
        second.close()


suite.main()
