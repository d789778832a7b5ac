#!/usr/bin/python3
# time-limit: 240
"""Where va-hostd keeps keys: kill -9 at any moment, a full disk, a damaged file, a
file of another version.

SPDX-License-Identifier: MIT
"""
import hashlib
import os
import random
import re
import shutil
import sqlite3
import sys
import threading
import time
import xmlrpc.client

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Suite, fault, need_all, program, tmpdir, wait_until
from vatest.hostd import Hostd
from vatest.proc import Process, run
from vatest.rpc import xmlrpc_proxy
from vatest.tap import Skip

need_all(program("va-hostd"), program("virtproxy"), program("va-client"))
KILLS = 200
WRITERS = 3

suite = Suite()


def new_hostd(**kw):
    h = Hostd(["vm=unix-connect:%s/none:-" % tmpdir()], start=False, **kw)
    suite.cleanups.append(h.close)
    suite.on_failure.append(lambda: h.tail() if h.process else "")
    return h


def database(h):
    return os.path.join(h.env["VA_STATE_DIR"], "hostd.sqlite")


def client(h, *args, check=0):
    r = run([program("va-client"), *args], env=h.env, seconds=30)
    assert check is None or r.returncode == check, (args, r.returncode, r.stderr)
    return r


hostd = new_hostd()


def value(writer, number):
    """What that writer's write of that number is: its own bytes, some pages long."""
    seed = hashlib.sha256(b"%d.%d" % (writer, number)).digest()
    return b"%d:" % number + seed * (seed[0] * 2)


class Writer(threading.Thread):
    """Sets a pair of keys again and again, one call for both."""

    def __init__(self, n, stop):
        super().__init__(daemon=True)
        self.n, self.stop, self.sure, self.tried = n, stop, 0, 0

    def run(self):
        while not self.stop.is_set():
            self.tried += 1
            try:
                xmlrpc_proxy(hostd.sock, 5).host.kv.set("vm", {
                    "user.%d.a" % self.n: xmlrpc.client.Binary(value(self.n, self.tried)),
                    "user.%d.b" % self.n: str(self.tried)})
                self.sure = self.tried
            except (OSError, xmlrpc.client.Error, ValueError):
                self.stop.wait(0.005)


def check_pair(w, sure):
    """Neither older than what was acknowledged, nor torn, nor what nobody wrote."""
    kv = hostd.rpc().host.kv
    keys = {k["name"]: k for k in kv.watch("vm", "user.%d.*" % w.n)["keys"]}
    if not keys:
        assert not sure, "writer %d: %d is lost" % (w.n, sure)
        return
    a, b = keys["user.%d.a" % w.n], keys["user.%d.b" % w.n]
    number = int(b["value"])
    assert number >= sure, "writer %d: %d was acknowledged, there is %d" % (w.n, sure, number)
    assert number <= w.tried, (number, w.tried)     # it goes on writing
    assert a["value"] == value(w.n, number), "writer %d: torn at %d" % (w.n, number)
    assert a["revision"] == b["revision"], (a["revision"], b["revision"])


@suite.case("%d kills at random moments under load: nothing acknowledged is lost or torn" % KILLS)
def _():
    stop, rnd = threading.Event(), random.Random(11)
    hostd.start()
    writers = [Writer(n, stop) for n in range(WRITERS)]
    for w in writers:
        w.start()
    began, highest = time.monotonic(), 0
    try:
        for kill in range(KILLS):
            if kill % 4 == 3:
                # While it starts, too.
                hostd.process = Process([program("va-hostd"), *hostd.args], name="va-hostd",
                                        env=hostd.env)
            else:
                before = sum(w.sure for w in writers)
                wait_until(lambda: sum(w.sure for w in writers) > before, 20, "a write", 0.002)
            stop.wait(rnd.random() * 0.03)
            hostd.process.kill()
            if kill % 4 == 2:
                continue
            sure = [w.sure for w in writers]
            hostd.start()
            for w, n in zip(writers, sure):
                check_pair(w, n)
            revision = hostd.rpc().host.kv.list("vm")["revision"]
            assert revision >= highest, (revision, highest)
            highest = revision
    finally:
        stop.set()
        for w in writers:
            w.join()
    print("# %d kills, %d writes acknowledged, %.0f s" % (
        KILLS, sum(w.sure for w in writers), time.monotonic() - began))
    for w in writers:
        check_pair(w, w.sure)
    hostd.stop_all()
    hostd.process.wait(20)
    with sqlite3.connect(database(hostd)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


@suite.case("the disk is full: keys are read, not set, and the error says why; then it goes on")
def _():
    if run(["unshare", "-rm", "true"]).returncode:
        raise Skip("a mount namespace (unshare -rm)")
    full = new_hostd()
    state = full.env["VA_STATE_DIR"]
    os.makedirs(state, 0o700)
    full.wrap = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=1200k,mode=700 va '%s' && "
                 'exec "$@"' % state, "sh"]
    full.start()
    kv = full.rpc(30).host.kv
    inside = "/proc/%d/root%s" % (full.process.pid, state)
    with open(os.path.join(inside, "filler"), "wb") as f:
        f.write(bytes(300 << 10))
    kept, refused = [], None
    for i in range(40):
        try:
            kv.set("vm", {"user.%d" % i: "%d" % i + "x" * 50000})
            kept.append(i)
        except xmlrpc.client.Fault as e:
            refused = e
            break
    assert kept and refused, (kept, refused)
    assert "hostd.sqlite" in refused.faultString and "full" in refused.faultString, refused
    r = client(full, "kv", "set", "vm", "user.more=1", check=2)
    assert "hostd.sqlite" in r.stderr and "full" in r.stderr, r.stderr
    # Read-only service: all that was acknowledged, and nothing of what was not.
    for i in kept:
        assert kv.get("vm", "user.%d" % i)["value"] == b"%d" % i + b"x" * 50000
    assert not kv.exists("vm", "user.%d" % (kept[-1] + 1)) and not kv.exists("vm", "user.more")
    assert len(kv.list("vm", "user.*")["keys"]) == len(kept)
    assert full.log().count("cannot be written") == 1, full.log()
    os.unlink(os.path.join(inside, "filler"))

    def again():
        try:
            return kv.set("vm", {"user.more": "2"})
        except xmlrpc.client.Fault:
            return None
    wait_until(again, 20, "keys to be set again", 0.2)
    full.process.wait_log("can be written again")
    assert kv.get("vm", "user.more")["value"] == b"2"
    for i in kept:
        assert kv.get("vm", "user.%d" % i)["size"] == len(b"%d" % i) + 50000


def damage(path, index):
    """Overwrites the page that an index begins with."""
    db = sqlite3.connect(path)
    page, = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (index,)).fetchone()
    size, = db.execute("PRAGMA page_size").fetchone()
    db.close()
    with open(path, "r+b") as f:
        f.seek((page - 1) * size)
        f.write(b"\xa5" * size)


@suite.case("a damaged file: found at the start, said, and what can be read is served")
def _():
    h = new_hostd()
    h.start()
    client(h, "kv", "set", "vm", "user.a=1", "user.b=")
    h.stop_all()
    h.process.wait(20)
    path = database(h)
    shutil.copy(path, path + ".good")
    damage(path, "keys_revision")
    h.start()
    said = re.search(r"warning: .*hostd.sqlite: .*", h.log())
    assert said and "cannot be written" in said.group(0), h.log()
    assert client(h, "kv", "get", "vm", "user.a").stdout == "1"
    client(h, "kv", "exists", "vm", "user.b")
    for what in (("set", "user.a=2"), ("unset", "user.a"), ("set", "--all", "user.x=1")):
        words = [what[0], "vm", *what[1:]] if "--all" not in what else what
        r = client(h, "kv", *words, check=2)
        assert "hostd.sqlite" in r.stderr, r.stderr
    assert client(h, "kv", "get", "vm", "user.a").stdout == "1"
    # The rest of the daemon serves.
    client(h, "guests")
    h.stop_all()
    h.process.wait(20)
    # The admin puts a good one in its place.
    os.rename(path + ".good", path)
    h.start()
    client(h, "kv", "set", "vm", "user.a=2")


@suite.case("a file that is no database: said; nothing is read, nothing is pretended")
def _():
    h = new_hostd()
    os.makedirs(h.env["VA_STATE_DIR"], 0o700)
    with open(database(h), "wb") as f:
        f.write(b"no database, by far" * 1000)
    h.start()
    assert "not a database" in h.log(), h.log()
    client(h, "kv", "get", "vm", "user.a", check=1)
    r = client(h, "kv", "set", "vm", "user.a=1", check=2)
    assert "hostd.sqlite" in r.stderr and "not a database" in r.stderr, r.stderr
    client(h, "kv", "get", "vm", "user.a", check=1)
    with open(database(h), "rb") as f:
        assert f.read().startswith(b"no database")


OLD_SCHEMA = """
CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL,
 guest TEXT NOT NULL, name TEXT NOT NULL, data TEXT NOT NULL, agent TEXT, agent_seq INTEGER);
CREATE UNIQUE INDEX events_once ON events (guest, agent, agent_seq) WHERE agent IS NOT NULL;
CREATE INDEX events_guest ON events (guest, seq);
CREATE TABLE keys (guest TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL,
 flags INTEGER NOT NULL, value BLOB);
CREATE UNIQUE INDEX keys_name ON keys (guest, name);
CREATE INDEX keys_revision ON keys (guest, revision);
CREATE TABLE key_guests (guest TEXT NOT NULL PRIMARY KEY, revision INTEGER NOT NULL,
 floor INTEGER NOT NULL, boot TEXT NOT NULL);
CREATE TABLE key_store (id TEXT NOT NULL);
INSERT INTO key_store VALUES ('0123456789abcdef0123456789abcdef');
INSERT INTO keys VALUES ('vm', 'user.a', 7, 1, x'00ff'), ('vm', 'user.gone', 8, 1, NULL);
INSERT INTO key_guests VALUES ('vm', 8, 0, '');
PRAGMA user_version = 2;
"""


@suite.case("a file of an earlier version is taken over; one of a later is read only")
def _():
    h = new_hostd()
    os.makedirs(h.env["VA_STATE_DIR"], 0o700)
    db = sqlite3.connect(database(h))
    db.executescript(OLD_SCHEMA)
    db.close()
    h.start()
    kv = h.rpc().host.kv
    assert (kv.get("vm", "user.a")["value"], kv.get("vm", "user.a")["revision"]) == (b"\0\xff", 7)
    assert [k["name"] for k in kv.list("vm")["keys"]] == ["user.a"]
    assert kv.watch("vm", "*", 7, 0)["keys"][0]["removed"]
    assert kv.set("group:*", {"user.all": "1"})["guests"] == 1
    assert kv.get("vm", "user.all")["revision"] == 9
    h.stop_all()
    h.process.wait(20)
    db = sqlite3.connect(database(h))
    db.execute("PRAGMA user_version = 99")
    db.close()
    h.start()
    assert client(h, "kv", "get", "vm", "user.all").stdout == "1"
    r = client(h, "kv", "set", "vm", "user.a=1", check=2)
    assert "version 99" in r.stderr, r.stderr


suite.main()
