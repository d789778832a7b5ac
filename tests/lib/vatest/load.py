"""The load under which faults are injected: what runs on each channel, and the host's
end of what the guest begins (faults.py puts it to work).

  host to guest   Get, Put, Call: files that are known or read back, and calls that
                  count their executions in the guest (tests/lib/guest/count.c)
  guest to host   checked streams to Echo (tests/lib/guest/stream.c), and calls by
                  va-client that Echo counts

A guest begins its part at boot and stops where /run/go is missing.

SPDX-License-Identifier: MIT
"""
import hashlib
import json
import os
import pathlib
import random
import struct
import threading
import time
import xmlrpc.client

from . import image
from .env import program, scale
from .image import GUEST_SCRIPTS
from .proxy import Server
from .rpc import http_request, xmlrpc_proxy
from .wait import connect_unix

KINDS = ("virtio", "serial")
CALL_SECONDS = 12       # a call's own deadline
CALL_START = 8          # beyond it, for the guest's slow processor to start and end a program
RECORD = struct.Struct("=6Q2Q")
MAGIC = 0x7661737472656d31
MASK = (1 << 64) - 1
# How much of everything: the serial line is shared by all parts of the load.
SIZE = {"virtio": 200000, "serial": 12000}
RECORDS = {"virtio": 500, "serial": 100}
PAUSE_US = {"virtio": 10000, "serial": 40000}
STEP_PAUSE = 0.4        # between two steps of one part: the guest has one slow processor
NAMED = (0, 10, 11, 124)
RUNTIME = {"virtio": "/run/virtagent", "serial": "/run/virtagent.1"}
SERVED = random.Random(4711).randbytes(max(SIZE.values()))


def guest_options(kinds=KINDS, call="host.count %s", streams=True):
    """What a guest needs for the load: Guest's files=, programs= and boot=.  call is the
    host's method that counts, and its arguments with %s for the call's name; streams:
    whether the host's service takes streams, too."""
    def tool(name):
        return pathlib.Path(image.tool(os.path.join(GUEST_SCRIPTS, name))), 0o755
    files = {"/va/" + name: tool(name + ".c") for name in ("stream", "hangup", "count", "hold")}
    files.update({"/srv/data-" + k: SERVED[:SIZE[k]] for k in kinds})
    files["/va/load"] = GUEST_LOAD, 0o755
    files["/va/call"] = "#!/bin/sh\nexec timeout %d va-client -t %d call %s\n" % (
        CALL_SECONDS * 10, CALL_SECONDS, call % "$1"), 0o755
    return {"files": files, "programs": {"/bin/va-client": program("va-client")},
            "boot": ": >/run/go\n" + "".join(
                "/va/load %s %s %d %d &\n" % (k, RUNTIME[k], RECORDS[k] * streams, PAUSE_US[k])
                for k in kinds)}


# The load starts with the guest, again at each boot: load KIND RUNTIME-DIR RECORDS PAUSE.
GUEST_LOAD = """#!/bin/sh
cd /run
boot=$(head -c 8 /proc/sys/kernel/random/boot_id)
[ $3 = 0 ] || while :; do
	: >busy-$1-stream
	[ ! -e go ] || /va/stream $2/host.sock $3 $4 >>streams-$1
	rm -f busy-$1-stream
	usleep 400000
done &
n=0
while :; do
	n=$((n + 1))
	: >busy-$1-call
	[ ! -e go ] || {
		read -r began _ </proc/uptime
		VA_RUNTIME_DIR=$2 /va/call $1-$boot-$n >/run/call-$1 2>&1
		status=$?
		read -r ended _ </proc/uptime
		echo $1-$boot-$n $status $((${ended%.*} - ${began%.*})) >>calls-$1
	}
	rm -f busy-$1-call
	usleep 1500000
done
"""


class Echo:
    """The host's end of what the guest begins.  Of a stream it checks each record and
    sends it back; of a call it counts how often it came."""
    streams = True

    def __init__(self, path):
        self.complete = self.cut = self.bytes = 0
        self.calls = {}                 # id -> executions
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
            self.bytes += len(data)
            if ident is None and have[:1] == b"P":
                self._http(conn, have)
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

    def _http(self, conn, have):
        """Calls of the guest: host.count ID, all others are unknown here."""
        while have:
            head, end, body = have.partition(b"\r\n\r\n")
            size = [int(line.split(b":")[1]) for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")]
            if end and size and len(body) >= size[0]:
                params, method = xmlrpc.client.loads(body[:size[0]])
                have = body[size[0]:]
                if method == "host.count":
                    self.calls[params[0]] = self.calls.get(params[0], 0) + 1
                    text = xmlrpc.client.dumps((True,), methodresponse=True)
                else:
                    text = xmlrpc.client.dumps(xmlrpc.client.Fault(-506, "no such method"))
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n"
                             b"Content-Length: %d\r\n\r\n" % len(text) + text.encode())
                if have:
                    continue
            try:
                data = conn.recv(65536)
            except OSError:
                return
            if not data:
                return
            have += data

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

    def ident(self, number):
        return "%s-%d" % (self.kind, number)

    def step(self):
        self.number += 1
        ident = self.ident(self.number)
        argv = json.dumps(["/va/count", ident])
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
