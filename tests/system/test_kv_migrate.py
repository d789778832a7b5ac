#!/usr/bin/python3
# time-limit: 420
# test_kv_migrate.py - keys over real live migrations between two va-hostds with
# directories of their own (two hosts), and in a clone: a snapshot that is started
# as another virtual machine.
#
# SPDX-License-Identifier: MIT
import hashlib
import os
import socket
import threading
import time

from vatest import Guest, Suite, http_request, program, run, scale, tmpdir, wait_until
from vatest.hostd import Hostd, need_hostd

need_hostd()
VM = "8c3f1f6e-0f0a-4a39-9d0e-5a7d5f1f0001"
TWIN = "8c3f1f6e-0f0a-4a39-9d0e-5a7d5f1f0002"
IDLE, LOADED = 2, 10    # seconds from the later of switch and attach
HOOK = "#!/bin/sh\n[ $VA_KEY != host.name ] || cat $VA_KEY_FILE >>/run/hooked\n"
SERVED = os.urandom(1 << 20)

suite = Suite()


def machine(uuid, name):
    """QEMU's arguments: who it is, and a monitor for the host's virtproxy."""
    path = os.path.join(tmpdir(), name + ".qmp")
    return ["-uuid", uuid, "-chardev", "socket,id=vaqmp,path=%s,server=on,wait=off" % path,
            "-mon", "chardev=vaqmp,mode=control"]


guest = Guest(name="one", channels=("virtio",), args=machine(VM, "one"),
              programs={"/bin/va-client": program("va-client")},
              agent_env={"VA_CONF_DIR": "/etc/virtagent"},
              files={"/etc/virtagent/hooks/keys.d/note": (HOOK, 0o755), "/srv/big": SERVED})
suite.cleanups.append(lambda: guest.close())
suite.on_failure.append(lambda: guest.report())


class Host:
    """A host: a va-hostd, the channel and QMP socket of its guest "vm"."""

    def __init__(self, name, conf=""):
        self.name = name
        self.channel, self.qmp = (os.path.join(tmpdir(), name + x) for x in (".chan", ".mon"))
        self.hostd = Hostd(start=False, conf="[hostd]\nname = %s\n%s[guest vm]\nchannel = "
                           "unix-connect:%s:-\nqmp = %s\n" % (name, conf, self.channel, self.qmp))
        suite.cleanups.append(self.hostd.close)
        suite.on_failure.append(lambda: "%s:\n%s" % (name, self.hostd.tail()))

    def attach(self, g, qmp):
        """The guest's QEMU is there; va-hostd connects."""
        for link, path in ((self.channel, g.virtio),
                           (self.qmp, os.path.join(tmpdir(), qmp + ".qmp"))):
            if os.path.islink(link):
                os.unlink(link)
            os.symlink(path, link)

    def client(self, *args, data=None, check=0):
        r = run([program("va-client"), *args], input=data, env=self.hostd.env, seconds=60,
                text=False)
        if check is not None:
            assert r.returncode == check, (self.name, args, r.returncode, r.stderr[:300])
        return r

    def key(self, name, vm="vm"):
        k = self.hostd.rpc().host.kv.get(vm, name)
        return k["value"], k["revision"]

    def has(self, name, vm="vm"):
        return self.client("kv", "exists", vm, name, check=None).returncode == 0


alpha, beta = Host("alpha"), Host("beta")


def seen():
    """What the file says, the hook was run for, and how often the watch saw a change."""
    return guest.sh("echo $(cat /run/virtagent/kv/host.name) $(cat /run/hooked) "
                    "$(grep -c host.name /run/watched)").split()


def watch_in_guest():
    guest.sh("va-client kv watch host.name >/run/watched 2>&1 & true")
    wait_until(lambda: "host.name" in guest.sh("cat /run/watched"), 20, "the watch", 0.1)


def move(to, name, attach_first, limit):
    """Migrates the guest to a new QEMU on the host to; it must see that in time."""
    global guest
    guest.sh(": >/run/hooked")
    wanted = [to.name, to.name, str(int(seen()[-1]) + 1)]
    old, new = guest, guest.destination(args=machine(VM, name))
    suite.cleanups.append(new.close)
    if attach_first:
        to.attach(new, name)
    old.migrate_to(new)
    new.qmp.wait_event("RESUME", 60)
    began = time.monotonic()
    guest = new
    if not attach_first:
        time.sleep(1.5)                 # nobody takes what the guest writes
        ups = to.hostd.log().count(": channel up\n")
        to.attach(new, name)
        wait_until(lambda: to.hostd.log().count(": channel up\n") > ups, 20, "the attach", 0.01)
        began = time.monotonic()
    last = [None]

    def there():
        last[0] = seen()
        return last[0] == wanted
    try:
        wait_until(there, 30, "the guest to see %s" % to.name, 0.05)
    except Exception as e:
        raise type(e)("%s: it sees %s, not %s" % (e, last[0], wanted)) from None
    took = time.monotonic() - began
    print("# %s, attached %s the switch: file, hook and watch after %.2f s" % (
        to.name, "before" if attach_first else "after", took))
    assert took < limit * scale(), took
    return old


@suite.case("the guest is on alpha; its keys, its own and the admin's")
def _():
    for h in (alpha, beta):
        h.hostd.start()
    alpha.attach(guest, "one")
    alpha.hostd.wait_state("vm", "connected", 90)
    alpha.client("kv", "set", "vm", "--sync", "user.a=1")
    alpha.client("kv", "set", "vm", "--sync", "--secret", "--lifetime", "poweroff", "user.s=hush")
    alpha.client("kv", "set", "--all", "--sync", "user.common=all")
    guest.sh("va-client kv set --sync guest.state=ready guest.empty=")
    assert guest.sh("cat /run/virtagent/kv/host.name") == "alpha"
    wait_until(lambda: alpha.hostd.facts("vm")["vm_uuid"] == VM, 15, "the uuid from QEMU")
    watch_in_guest()


@suite.case("migrated while idle: within 2 s it sees beta; values and revisions stay")
def _():
    before = {k: alpha.key(k) for k in ("user.a", "user.s", "guest.state", "guest.empty")}
    exported = alpha.client("kv", "export", "vm").stdout
    beta.client("kv", "import", "vm", data=exported)
    old = move(beta, "two", True, IDLE)
    beta.hostd.wait_state("vm", "connected")
    assert {k: beta.key(k) for k in before} == before
    beta.client("kv", "set", "vm", "--sync", "user.after=1")
    assert guest.sh("cat /run/virtagent/kv/user.after /run/virtagent/kv/user.s") == "1hush"
    # The old host says that it is not there, QEMU still running or not.
    alpha.hostd.wait_state("vm", "absent")
    alpha.client("kv", "set", "vm", "--sync", "-t", "0.5", "user.late=1", check=124)
    old.close()
    alpha.hostd.wait_event("guest-lost")
    assert alpha.hostd.facts("vm")["state"] == "absent"
    assert guest.sh("[ -e /run/virtagent/kv/user.late ] || echo no") == "no\n"


@suite.case("back again, attached after the switch: what each host changed is right")
def _():
    guest.sh("va-client kv set --sync guest.state=moved")
    rev = beta.key("guest.state")
    alpha.client("kv", "unset", "vm", "user.late")
    alpha.client("kv", "import", "vm", data=beta.client("kv", "export", "vm").stdout)
    move(alpha, "three", False, IDLE).close()
    assert alpha.key("guest.state") == rev, (alpha.key("guest.state"), rev)
    wait_until(lambda: alpha.hostd.rpc().host.kv.list("vm")["acked"] ==
               alpha.hostd.rpc().host.kv.list("vm")["revision"], 20, "all to be there")
    assert guest.sh("cd /run/virtagent/kv; cat guest.state user.after user.common") == "moved1all"
    beta.hostd.wait_state("vm", "absent")


@suite.case("with 8 MiB of other keys on their way it sees the new host as soon")
def _():
    big = {"user.big%d" % i: os.urandom(1 << 20) for i in range(8)}
    for name, data in big.items():
        alpha.client("kv", "set", "vm", name, "-", data=data)
    alpha.client("kv", "set", "vm", "--sync", "-t", "50", "user.last=1")
    beta.client("kv", "import", "vm", data=alpha.client("kv", "export", "vm").stdout)
    move(beta, "bigger", True, IDLE).close()
    wait_until(lambda: beta.hostd.rpc().host.kv.list("vm")["acked"] ==
               beta.hostd.rpc().host.kv.list("vm")["revision"], 60, "all to be there", 0.1)
    name = "user.big7"
    assert guest.sh("sha256sum <%s/%s" % ("/run/virtagent/kv", name)).split()[0] == \
        hashlib.sha256(big[name]).hexdigest()
    beta.client("kv", "unset", "vm", "--sync", *big)
    alpha.client("kv", "unset", "vm", *big)


@suite.case("under load: within 10 s")
def _():
    stop = threading.Event()

    def get(h):
        sock = os.path.join(h.hostd.guest_dir("vm"), "rpc.sock")
        while not stop.is_set():
            try:
                http_request(sock, "GET", "/file?path=/srv/big", timeout=10)
            except Exception:           # cut off by the move
                stop.wait(0.1)
    threads = [threading.Thread(target=get, args=(h,), daemon=True) for h in (alpha, beta)
               for _ in range(2)]
    guest.sh("(while :; do :; done) & echo $! >/run/busy")
    for t in threads:
        t.start()
    try:
        move(alpha, "four", True, LOADED).close()
    finally:
        stop.set()
        guest.sh("kill $(cat /run/busy)")
    assert guest.sh("cat /run/virtagent/kv/guest.state") == "moved"


@suite.case("a host that was told nothing gets what the guest shows it, as its policy says")
def _():
    fresh = Host("gamma")
    fresh.hostd.start()
    strict = Host("delta", "[policy]\nblock = class:write\n")
    strict.hostd.start()
    had = alpha.key("guest.state")
    move(fresh, "five", True, LOADED).close()
    wait_until(lambda: fresh.has("guest.state"), 20, "guest.state", 0.1)
    assert fresh.key("guest.state") == had, (fresh.key("guest.state"), had)
    # user.* keys are the admin's: they come by export and import only.
    assert not fresh.has("user.a")
    wait_until(lambda: guest.sh("[ -e /run/virtagent/kv/user.a ] || echo no"), 20, "user.a to go",
               0.1)
    move(strict, "six", True, LOADED).close()
    strict.client("kv", "set", "vm", "--sync", "user.a=strict")
    assert not strict.has("guest.state")
    assert guest.sh("cat /run/virtagent/kv/guest.state") == "moved"
    strict.hostd.process.wait_log("host.kv.set.*fault 1: ")


def snapshot(path):
    """The machine's state in a file; it goes on."""
    guest.qmp("migrate", uri="exec:cat >%s" % path)
    wait_until(lambda: guest.qmp("query-migrate")["status"] == "completed", 60, "the snapshot", 0.1)
    guest.qmp("cont")


def start_clone(path):
    clone = guest.destination(args=machine(TWIN, "twin"))
    suite.cleanups.append(clone.close)
    with open(path, "rb") as f, socket.socket(socket.AF_UNIX) as s:
        s.connect(clone.path("incoming.sock"))
        s.sendfile(f)
    clone.qmp.wait_event("RESUME", 60)
    return clone


@suite.case("a clone has no guest.* keys, in itself or on its host; the original keeps them")
def _():
    host = Host("omega")
    chan = os.path.join(tmpdir(), "twin.chan")
    mon = os.path.join(tmpdir(), "twin.mon")
    with open(os.path.join(host.hostd.conf_dir, "hostd.conf"), "a", encoding="utf-8") as f:
        f.write("[guest twin]\nchannel = unix-connect:%s:-\nqmp = %s\n" % (chan, mon))
    host.hostd.start()
    move(host, "seven", True, LOADED).close()
    guest.sh("va-client kv set --sync guest.secret=mine")
    host.client("kv", "set", "twin", "user.own=twin")
    host.client("kv", "set", "vm", "--sync", "user.own=vm")
    path = os.path.join(tmpdir(), "snapshot")
    snapshot(path)
    clone = start_clone(path)
    os.symlink(clone.virtio, chan)
    os.symlink(os.path.join(tmpdir(), "twin.qmp"), mon)
    host.hostd.wait_state("twin", "connected", 60)

    def inside(key):
        return clone.sh("cat /run/virtagent/kv/%s 2>/dev/null || echo none" % key)
    wait_until(lambda: inside("user.own") == "twin" and inside("guest.secret") == "none\n", 30,
               "the clone's keys", 0.1)
    assert inside("guest.state") == "none\n" and not host.has("guest.state", "twin")
    assert not host.has("guest.secret", "twin")
    assert clone.sh("va-client kv get guest.secret 2>/dev/null; echo $?") == "1\n"
    # It is a guest like any other from now on.
    clone.sh("va-client kv set --sync guest.secret=its")
    assert host.key("guest.secret", "twin")[0] == b"its"
    host.hostd.wait_state("vm", "connected", 60)
    assert host.key("guest.secret")[0] == b"mine"
    assert guest.sh("cat /run/virtagent/kv/guest.secret") == "mine"
    clone.close()


@suite.case("another machine of the same name, booted over the same state: neither")
def _():
    """No QMP here: the uuid is the firmware's, as the agent says."""
    global guest
    host = Host("sigma")
    conf = os.path.join(host.hostd.conf_dir, "hostd.conf")
    with open(conf, encoding="utf-8") as f:
        text = "".join(x for x in f if not x.startswith("qmp"))
    host.hostd.write_conf(text)
    host.hostd.start()
    move(host, "eight", True, LOADED).close()
    wait_until(lambda: host.has("guest.secret"), 20, "guest.secret", 0.1)
    host.client("kv", "set", "vm", "--sync", "user.a=stays")
    guest.close()
    host.hostd.wait_state("vm", "absent")
    guest = Guest(**dict(guest.options, incoming=False, args=machine(TWIN, "nine")))
    host.attach(guest, "nine")
    wait_until(lambda: not host.has("guest.secret"), 60, "guest.secret to go", 0.2)
    wait_until(lambda: guest.sh("cat /run/virtagent/kv/user.a || true") == "stays", 30, "user.a",
               0.2)
    assert guest.sh("[ -e /run/virtagent/kv/guest.secret ] || echo no") == "no\n"


suite.main()
