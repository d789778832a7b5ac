"""Faults under load: what the load does, and what must hold afterwards.

  rig = Rig(suite, guest)
  rig.fault("virtproxy killed", lambda kind, n: ..., rounds=3)

The load runs on each channel, all of it at once: GETs of a known file, PUTs that
are checked by reading them back, calls that count their executions in a file of
the guest, pings, and streams that the guest opens to an echo on the host, whose
records say when and by whom they were made (tests/lib/guest/stream.c).

fault() injects one a few times and after each time wants, without any help:

  service again within RECOVERY seconds of the fault's end
  every part of the load has done its work once more, begun after that
  each call ended in one answer or a named error (0, 10, 11, 124) by its deadline
  nothing executed twice; what was answered was executed; "never sent" was not
  streams exact to the byte as far as they came, and either whole or cut
  descriptors and threads of virtproxy and agent as before, memory nearly so

One JSON line per fault and channel is appended to $VA_FAULT_LOG, if set.
VA_FAULTS_ROUNDS=N injects each N times (3); `make check-faults` is the long form.

SPDX-License-Identifier: MIT
"""
import hashlib
import json
import os
import pathlib
import random
import re
import socket
import struct
import threading
import time

from . import image
from .env import scale
from .host import Proxy
from .image import GUEST_SCRIPTS
from .proxy import Ctl, Server
from .rpc import http_request, xmlrpc_proxy
from .wait import Timeout, connect_unix, wait_until

KINDS = ("virtio", "serial")
RECOVERY = 10.0         # seconds to service after a fault's end
FINISH = 60.0           # seconds for each part of the load to get its turn again
CALL_SECONDS = 12       # a call's own deadline
RECORD = struct.Struct("=6Q2Q")
MAGIC = 0x7661737472656d31
MASK = (1 << 64) - 1
# How much of everything: the serial line is shared by all parts of the load.
SIZE = {"virtio": 300000, "serial": 16000}
RECORDS = {"virtio": 1000, "serial": 150}
PAUSE_US = {"virtio": 10000, "serial": 40000}
STEP_PAUSE = 0.1        # between two steps of one part: the guest has one slow processor
NAMED = (0, 10, 11, 124)
SERVED = random.Random(4711).randbytes(max(SIZE.values()))


def rounds(short=3):
    return int(os.environ.get("VA_FAULTS_ROUNDS") or short)


def guest_files():
    """What a guest needs for the load (Guest's files=)."""
    def tool(name):
        return pathlib.Path(image.tool(os.path.join(GUEST_SCRIPTS, name))), 0o755
    return {"/va/stream": tool("stream.c"), "/va/hangup": tool("hangup.c"),
            **{"/srv/data-" + k: SERVED[:SIZE[k]] for k in KINDS}}


# The load starts with the guest, again at each boot.
GUEST_BOOT = "".join(
    "(while :; do /va/stream %s/host.sock %d %d >>/run/streams-%s; sleep 1; done) &\n"
    % (d, RECORDS[k], PAUSE_US[k], k)
    for k, d in (("virtio", "/run/virtagent"), ("serial", "/run/virtagent.1")))


class Echo:
    """The host's end of the guest's streams: checks each record, sends it back."""

    def __init__(self, path):
        self.complete = self.cut = 0
        self.wrong = []
        self.server = Server(self._one, path)

    def _one(self, conn):
        ident, number, last, have = None, 0, 0, b""
        total = 0
        while True:
            try:
                data = conn.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            have += data
            if ident is None and have[:4] in (b"POST", b"GET "):
                # The agent itself calls its host, which this is not.
                conn.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n"
                             b"Connection: close\r\n\r\n")
                return
            whole = len(have) - len(have) % RECORD.size
            for r in RECORD.iter_unpack(have[:whole]):
                why = self._check(r, ident, number, last)
                if why:
                    self.wrong.append("record %d of stream %s: %s" % (number, ident, why))
                    return
                ident, total, last, number = r[1], r[3], r[4], number + 1
            have = have[whole:]
            try:
                conn.sendall(data)
            except OSError:
                break
        if number and number == total:
            self.complete += 1
        else:
            self.cut += 1

    @staticmethod
    def _check(r, ident, number, last):
        magic, rid, rnumber, total, when, crc, fill, inverse = r
        want = ((magic ^ rid) * 31 + rnumber * 1000003 + total * 7919 + when) & MASK
        if magic != MAGIC or crc != want or fill != when * 0x9e3779b97f4a7c15 & MASK \
                or inverse != fill ^ MASK:
            return "changed"
        if ident is not None and rid != ident:
            return "of another stream, %d" % rid
        if rnumber != number:
            return "numbered %d" % rnumber
        if when < last:
            return "of another time of the guest"
        return None


class Part:
    """One part of the load: step() again and again until told to pause."""

    def __init__(self, link):
        self.link, self.kind = link, link.kind
        self.done = self.cut = 0        # steps that came to their end, and not
        self.wrong = []
        self.began = 0.0                # the running step's begin; 0 = none
        self.last_done = 0.0            # begin of the last step that succeeded
        self.go = threading.Event()
        self.idle = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            if not self.go.is_set():
                self.idle.set()
                self.go.wait()
            self.idle.clear()
            self.began = time.monotonic()
            try:
                good = self.step()
            except Exception as e:      # a part that dies would hide everything
                self.wrong.append("%s: %r" % (type(self).__name__, e))
                good = False
            if good:
                self.done += 1
                self.last_done = self.began
            else:
                self.cut += 1
            time.sleep(STEP_PAUSE)


class Get(Part):
    """GET over a bare socket: what came before an end must be the file's."""

    def step(self):
        want = SERVED[:SIZE[self.kind]]
        try:
            with connect_unix(self.link.proxy.rpc, 60) as s:
                s.sendall(("GET /file?path=/srv/data-%s HTTP/1.1\r\nHost: g\r\n"
                           "Connection: close\r\n\r\n" % self.kind).encode())
                data = b""
                while True:
                    piece = s.recv(1 << 18)
                    if not piece:
                        break
                    data += piece
        except OSError:
            return False
        head, _, body = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            return False
        if not want.startswith(body):
            self.wrong.append("GET: %d bytes that are not the file's" % len(body))
        return body == want


class Put(Part):
    """PUT of new bytes, then the guest's checksum of what it has."""

    def step(self):
        body = os.urandom(SIZE[self.kind] // 2)
        path = "/srv/put-%s" % self.kind
        try:
            status, _, _ = http_request(self.link.proxy.rpc, "PUT", "/file?path=" + path, body,
                                        timeout=60)
            if status != 200:
                return False
            got = xmlrpc_proxy(self.link.proxy.rpc, 60).guest.checksum(path)
        except Exception:               # cut off, in one of many ways
            return False
        # A guest that went back in time has the file of then: a cut, not a change.
        if got["sha256"] != hashlib.sha256(body).hexdigest():
            if not self.link.rig.rewinds:
                self.wrong.append("PUT: the file has %s bytes, not what was sent" % got["bytes"])
            return False
        return True


class Call(Part):
    """Calls that leave a line per execution in the guest."""

    def __init__(self, link):
        self.ended = {}                 # id -> (exit status, seconds)
        self.number = 0
        super().__init__(link)

    def step(self):
        self.number += 1
        ident = "%s-%d" % (self.kind, self.number)
        argv = json.dumps(["/bin/sh", "-c", "echo %s >>/run/count" % ident])
        began = time.monotonic()
        r = self.link.proxy.client("-t", str(CALL_SECONDS), "--json", "call", "guest.exec.run",
                                   "json:" + argv, seconds=CALL_SECONDS + 20)
        took = time.monotonic() - began
        status = r.returncode
        if status == 0:
            # The program went with the spawner: the answer says so.
            state = json.loads(r.stdout)["state"]
            status = {"exited": 0, "lost": 11, "killed": 11}.get(state, 2)
            if status == 2:
                self.wrong.append("call %s: %s" % (ident, r.stdout))
        self.ended[ident] = status, took
        if r.returncode not in NAMED or (r.returncode and not r.stderr.strip()):
            self.wrong.append("call %s: status %d, %r" % (ident, r.returncode, r.stderr))
        if took > CALL_SECONDS + 3 * scale():
            self.wrong.append("call %s: %.1f s, its deadline was %d" % (ident, took, CALL_SECONDS))
        return status == 0


class Link:
    """One channel: its virtproxy, its load, its echo."""

    def __init__(self, rig, kind, channel):
        self.rig, self.kind = rig, kind
        self.echo_path = os.path.join(rig.guest.dir, "echo-%s" % kind)
        self.echo = Echo(self.echo_path)
        self.proxy = self.start(channel)
        self.parts = [Get(self), Put(self), Call(self)]
        self.call = self.parts[2]

    def start(self, channel, args=()):
        p = Proxy(channel, ["-i", "virtagent-host:%s:-" % self.echo_path, *args],
                  name="virtproxy-" + self.kind)
        self._ctl(p)
        return p

    def _ctl(self, p):
        p.process.kill()
        p.argv += ["--ctl", os.path.join(p.dir, "ctl.sock"), "--name", self.kind]
        p.restart()

    def command(self, line):
        c = Ctl(os.path.join(self.proxy.dir, "ctl.sock"))
        try:
            return c.command(line)
        finally:
            c.close()

    def status(self):
        return json.loads(self.command("status json"))

    def restart(self):
        """kill -9, and a new one in its place."""
        self.proxy.process.kill()
        self.proxy.restart()

    def pids(self):
        """The agent's processes of this channel: endpoint, server, spawner."""
        wanted = "isaserial" if self.kind == "serial" else ""
        out = self.rig.guest.sh(
            "for p in $(pidof va-agent); do echo $p $(sed -n 's/^PPid:.//p' /proc/$p/status) "
            "$(tr '\\0' ' ' </proc/$p/cmdline); done; true")
        rows = [line.split(None, 2) for line in out.splitlines() if len(line.split()) >= 3]
        found = {}
        for pid, _parent, words in rows:
            if "--role=" not in words and ("isaserial" in words) == bool(wanted):
                found["endpoint"] = int(pid)
        for pid, parent, words in rows:
            m = re.search(r"--role=(\w+)", words)
            if m and int(parent) == found.get("endpoint"):
                found[m.group(1)] = int(pid)
        return found

    def agent_pid(self, role):
        return wait_until(lambda: self.pids().get(role), 15, "the agent's " + role, 0.1)

    def ping(self, timeout=2.0):
        try:
            return xmlrpc_proxy(self.proxy.rpc, timeout).guest.ping() == "pong"
        except Exception:               # no service, in one of many ways
            return False

    def serve_again(self, since, seconds=RECOVERY):
        """Seconds from since to the first answer; None if there is none."""
        while time.monotonic() - since < seconds * scale():
            if self.ping():
                return time.monotonic() - since
            time.sleep(0.02)
        return None

    # --- what it takes ------------------------------------------------------

    def usage(self):
        """Descriptors, threads and memory (KiB) of virtproxy and agent."""
        pid = self.proxy.process.pid
        u = {"virtproxy": _usage(pid)}
        pids = self.pids()
        script = "".join(
            "echo %s $(ls /proc/%d/fd | wc -l) "
            "$(sed -n 's/^\\(VmRSS\\|Threads\\):[^0-9]*\\([0-9]*\\).*/\\2/p' /proc/%d/status)\n"
            % (role, p, p) for role, p in pids.items())
        for line in self.rig.guest.sh(script).splitlines():
            words = line.split()
            if len(words) == 4 and words[0] in pids:    # else it ended meanwhile
                role, fds, rss, threads = words
                u[role] = int(fds), int(threads), int(rss)
        return u


def _usage(pid):
    with open("/proc/%d/status" % pid) as f:
        text = f.read()
    return (len(os.listdir("/proc/%d/fd" % pid)),
            int(re.search(r"Threads:\s*(\d+)", text).group(1)),
            int(re.search(r"VmRSS:\s*(\d+)", text).group(1)))


MEMORY_SLACK = 4096     # KiB: what allocators keep


class Rig:
    def __init__(self, suite, guest, kinds=KINDS):
        self.suite, self.guest = suite, guest
        self.links = {}
        self.rewinds = False
        self.baseline = {}
        for kind in kinds:
            self.links[kind] = Link(self, kind, getattr(guest, kind))
            suite.cleanups.append(lambda k=kind: self.links[k].proxy.close())
            suite.on_failure.append(lambda k=kind: "virtproxy-%s:\n%s" % (
                k, self.links[k].proxy.process.log()[-3000:]))

    def begin(self):
        """The service is there; what it takes without load is the baseline."""
        for link in self.links.values():
            link.proxy.wait_agent(120)
        self.resume()
        self._turn(time.monotonic())
        self.pause()
        self.remember()

    def remember(self):
        time.sleep(0.5)
        for kind, link in self.links.items():
            self.baseline[kind] = link.usage()

    def resume(self):
        for link in self.links.values():
            for part in link.parts:
                part.go.set()

    def pause(self):
        """Lets each part finish its step; returns those that do not."""
        for link in self.links.values():
            for part in link.parts:
                part.go.clear()
        hung = []
        deadline = time.monotonic() + 60 * scale()
        for link in self.links.values():
            for part in link.parts:
                if not part.idle.wait(max(0, deadline - time.monotonic())):
                    hung.append((link.kind, "%s for %.0f s" % (
                        type(part).__name__, time.monotonic() - part.began)))
        return hung

    def _turn(self, since, seconds=FINISH):
        """Waits until all have done their work once, begun after since; what has not."""
        marks = {k: link.echo.complete for k, link in self.links.items()}

        def late():
            return [(k, type(p).__name__) for k, link in self.links.items()
                    for p in link.parts if p.last_done < since] + \
                   [(k, "Echo") for k, link in self.links.items()
                    if link.echo.complete == marks[k]]
        try:
            wait_until(lambda: not late(), seconds, "the load", 0.05)
        except Timeout:
            return late()
        return []

    # --- one fault ----------------------------------------------------------

    def fault(self, name, inject, kinds=None, times=None, rewinds=False, load=True,
              recovery=RECOVERY):
        """inject(links, round) does it on all the links and returns when it is over:
        the time (monotonic), or None for now."""
        kinds = list(kinds or self.links)
        links = {k: self.links[k] for k in kinds}
        times = times or rounds()
        self.rewinds = rewinds
        rows = {k: {"fault": name, "channel": k, "times": 0, "lost": 0, "duplicated": 0,
                    "hung": 0, "recovery": []} for k in kinds}
        first = {k: self.links[k].call.number for k in self.links}
        problems = []
        if load:
            self.resume()
        spent = {"injecting": 0.0, "recovery": 0.0, "the load's turn": 0.0, "the end": 0.0}

        def spend(what, since):
            spent[what] += time.monotonic() - since
            return time.monotonic()
        at = time.monotonic()
        for number in range(times):
            time.sleep(random.uniform(0.05, 0.5))
            over = inject(links, number) or time.monotonic()
            at = spend("injecting", at)
            self._recover(links, over, rows, problems, recovery)
            at = spend("recovery", at)
            if load:
                late = self._turn(time.monotonic())
                at = spend("the load's turn", at)
                for kind, part in late:
                    problems.append("%s: %s did no more work" % (kind, part))
                    if kind in rows:
                        rows[kind]["hung"] += 1
        for kind, what in self.pause():
            problems.append("%s: hung: %s" % (kind, what))
            if kind in rows:
                rows[kind]["hung"] += 1
        self.rewinds = False
        self._check_counts(first, rows, problems, rewinds)
        self._check_streams(rows, problems)
        self._check_usage(kinds, problems)
        spend("the end", at)
        print("# seconds: " + ", ".join("%s %.1f" % kv for kv in spent.items()))
        self._report(rows)
        assert not problems, "\n".join([name + ":"] + problems)

    def _recover(self, links, over, rows, problems, recovery):
        found = {}

        def look(kind, link):
            found[kind] = link.serve_again(over, recovery)
        threads = [threading.Thread(target=look, args=kv) for kv in links.items()]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for kind in links:
            rows[kind]["times"] += 1
            if found[kind] is None:
                rows[kind]["hung"] += 1
                problems.append("%s: no service %.0f s after the fault's end; %s" % (
                    kind, recovery, self._state(links[kind])))
                links[kind].serve_again(time.monotonic(), 60)   # or what follows says nothing
            else:
                rows[kind]["recovery"].append(round(found[kind], 3))

    @staticmethod
    def _state(link):
        try:
            return link.status()
        except (OSError, EOFError) as e:
            return repr(e)

    def _check_counts(self, first, rows, problems, rewinds):
        """Executions against what the callers were told."""
        seen = {}
        for line in self.guest.sh("cat /run/count 2>/dev/null; true").split():
            seen[line] = seen.get(line, 0) + 1
        for kind, link in self.links.items():
            for n in range(first[kind] + 1, link.call.number + 1):
                ident = "%s-%d" % (kind, n)
                status, times = link.call.ended.get(ident, (None, 0))[0], seen.get(ident, 0)
                if status is None:
                    problems.append("%s never ended" % ident)
                elif times > 1:
                    problems.append("%s was executed %d times" % (ident, times))
                    rows.get(kind, {}).update(duplicated=rows.get(kind, {}).get(
                        "duplicated", 0) + 1)
                elif status == 0 and not times and not rewinds:
                    problems.append("%s was answered, not executed" % ident)
                    rows.get(kind, {}).update(lost=rows.get(kind, {}).get("lost", 0) + 1)
                elif status == 10 and times and not rewinds:
                    problems.append("%s was executed, but called never sent" % ident)
                    rows.get(kind, {}).update(duplicated=rows.get(kind, {}).get(
                        "duplicated", 0) + 1)

    def _check_streams(self, rows, problems):
        for kind, link in self.links.items():
            out = self.guest.sh("cat /run/streams-%s 2>/dev/null; true" % kind)
            wrong = [line for line in out.splitlines() if " wrong " in line]
            wrong += link.echo.wrong
            for part in link.parts:
                wrong += part.wrong
                part.wrong = []
            link.echo.wrong = []
            if wrong:
                problems += ["%s: %s" % (kind, w) for w in wrong]
                self.guest.sh("sed -i '/ wrong /d' /run/streams-%s" % kind)
                if kind in rows:
                    rows[kind]["lost"] += len(wrong)

    def _check_usage(self, kinds, problems):
        def excess():
            found = []
            for kind in kinds:
                now = self.links[kind].usage()
                for who, (fds, threads, rss) in self.baseline.get(kind, {}).items():
                    have = now.get(who)
                    if have is None:
                        found.append("%s: %s is not there" % (kind, who))
                    elif have[0] > fds + 1 or have[1] > threads or have[2] > rss + MEMORY_SLACK:
                        found.append("%s: %s takes %s (descriptors, threads, KiB), before %s"
                                     % (kind, who, have, (fds, threads, rss)))
            return found
        last = [[]]

        def settled():
            last[0] = excess()
            return not last[0]
        try:
            wait_until(settled, 15, "descriptors, threads and memory to go back", 0.5)
        except Timeout:
            problems += last[0]

    @staticmethod
    def _report(rows):
        for row in rows.values():
            print("# %s: %s, %d times: lost %d, duplicated %d, hung %d, recovery %s" % (
                row["fault"], row["channel"], row["times"], row["lost"], row["duplicated"],
                row["hung"], row["recovery"]))
            record(row)


def record(row):
    """Appends one row for RELIABILITY.md."""
    path = os.environ.get("VA_FAULT_LOG")
    if path:
        with open(path, "a", encoding="utf-8") as f:
            f.write(json.dumps(row) + "\n")
