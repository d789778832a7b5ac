"""Who is measured: our programs, qemu-ga, and a bare port.

All answer the same questions, so that the rows of bench.py read alike.

SPDX-License-Identifier: MIT
"""
import base64
import glob
import json
import os
import re
import select
import subprocess
import tempfile
import time
import xmlrpc.client

from vatest import image, program, run, scale
from vatest.env import CACHE
from vatest.usage import run_ns
from vatest.wait import wait_for_socket

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 300             # seconds, for anything that moves bytes
GA_CHUNK = 1 << 20      # qemu-ga is fastest here: 256 KiB to 4 MiB differ little


def qemu_ga():
    """qemu-ga of the distribution, downloaded and unpacked, not installed."""
    path = os.path.join(CACHE, "qemu-ga", "qemu-ga")
    if not os.path.exists(path):
        with image.locked("qemu-ga"), tempfile.TemporaryDirectory(dir=CACHE) as tmp:
            subprocess.run(["apt-get", "download", "-q", "qemu-guest-agent"], cwd=tmp, check=True,
                           capture_output=True)
            deb, = glob.glob(os.path.join(tmp, "*.deb"))
            subprocess.run(["dpkg-deb", "-x", deb, tmp + "/x"], check=True)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.rename(tmp + "/x/usr/sbin/qemu-ga", path)
    return path


def rtt(sock, request, end, count, stop=-1):
    """Microseconds of each round trip; count 0 goes on until the pipe `stop` is closed."""
    limit = sock.gettimeout()
    sock.setblocking(True)      # the program shares the descriptor's flags
    try:
        r = subprocess.run([image.tool(os.path.join(HERE, "rtt.c")), str(sock.fileno()), str(stop),
                            str(count), end], input=request, stdout=subprocess.PIPE,
                           pass_fds=[fd for fd in (sock.fileno(), stop) if fd >= 0],
                           timeout=LIMIT * scale(), check=True)
    finally:
        sock.settimeout(limit)
    return [float(x) for x in r.stdout.split()]


def call(method, *args):
    """The bytes of one XML-RPC call over HTTP."""
    body = xmlrpc.client.dumps(args, method).encode()
    return (b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body))


class Ours:
    """A per-guest rpc socket: plain HTTP for round trips, va-client for files."""

    def __init__(self, rpc):
        self.rpc = rpc
        self.sock = wait_for_socket(rpc, 30)

    def ping(self, count, stop=-1):
        return rtt(self.sock, call("guest.ping"), "http", count, stop)

    def getfile_calls(self, path, size, piece=1 << 20):
        """Seconds for the file by guest.getfile calls."""
        began = time.monotonic()
        for offset in range(0, size, piece):
            rtt(self.sock, call("guest.getfile", path, offset, piece), "http", 1)
        return time.monotonic() - began

    def client(self, *args, seconds=LIMIT):
        return run([program("va-client"), "-G", "unix:" + self.rpc, *args], seconds=seconds,
                   check=True, text=False)

    def get(self, path, local="/dev/shm"):
        with tempfile.TemporaryDirectory(dir=local) as d:
            began = time.monotonic()
            self.client("get", "-q", path, d + "/f")
            return time.monotonic() - began, os.stat(d + "/f").st_size

    def put(self, local, path):
        began = time.monotonic()
        self.client("put", "-q", local, path)
        return time.monotonic() - began

    def exec_true(self):
        began = time.monotonic()
        self.client("exec", "-n", "--", "true")
        return time.monotonic() - began


class Ga:
    """qemu-ga on a socket; one JSON line there, one back."""

    def __init__(self, path):
        self.sock = wait_for_socket(path, 30)
        self.data = b""
        self.sock.settimeout(LIMIT * scale())
        # What an earlier boot or reader left in the port.
        self.sock.sendall(b'\xff{"execute":"guest-sync-delimited","arguments":{"id":4711}}\n')
        while b'"return": 4711' not in self.line():
            pass

    def line(self):
        parts = [self.data]
        while b"\n" not in parts[-1]:
            piece = self.sock.recv(1 << 20)
            if not piece:
                raise EOFError("qemu-ga's socket was closed")
            parts.append(piece)
        line, self.data = b"".join(parts).split(b"\n", 1)
        return line

    def command(self, name, **args):
        self.sock.sendall(json.dumps({"execute": name, "arguments": args}).encode() + b"\n")
        answer = json.loads(self.line())
        if "error" in answer:
            raise RuntimeError("%s: %s" % (name, answer["error"]))
        return answer["return"]

    def ping(self, count, stop=-1):
        return rtt(self.sock, b'{"execute":"guest-ping"}\n', "line", count, stop)

    def get(self, path, size, chunk=GA_CHUNK):
        """Seconds for the first `size` bytes."""
        handle = self.command("guest-file-open", path=path, mode="r")
        began, got = time.monotonic(), 0
        while got < size:
            r = self.command("guest-file-read", handle=handle, count=chunk)
            got += len(base64.b64decode(r["buf-b64"]))
            if r["eof"]:
                break
        took = time.monotonic() - began
        self.command("guest-file-close", handle=handle)
        assert got >= size, (got, size)
        return took

    def small_files(self, path, count):
        """Files a second, each opened, read and closed."""
        began = time.monotonic()
        for _ in range(count):
            handle = self.command("guest-file-open", path=path, mode="r")
            self.command("guest-file-read", handle=handle, count=4096)
            self.command("guest-file-close", handle=handle)
        return count / (time.monotonic() - began)

    def put(self, data, path, chunk=GA_CHUNK):
        handle = self.command("guest-file-open", path=path, mode="w")
        began = time.monotonic()
        for at in range(0, len(data), chunk):
            self.command("guest-file-write", handle=handle,
                         **{"buf-b64": base64.b64encode(data[at:at + chunk]).decode()})
        took = time.monotonic() - began
        self.command("guest-file-close", handle=handle)
        return took

    def exec_true(self, program="/bin/true"):
        began = time.monotonic()
        pid = self.command("guest-exec", path=program, **{"capture-output": True})["pid"]
        while not self.command("guest-exec-status", pid=pid)["exited"]:
            pass
        return time.monotonic() - began


class Raw:
    """A bare port with raw.c at its other end."""

    def __init__(self, path, serial):
        self.sock = wait_for_socket(path, 30)
        self.sock.settimeout(LIMIT * scale())
        # A serial line loses what its reader is late for: the tty layer's 48 KiB.
        self.window, self.ack = (32768, 4096) if serial else (1 << 30, 1 << 30)
        self.block = 4096 if serial else 32768
        # Four times the receive trigger: no wait for a character's time to pass.
        self.message = 56 if serial else 64

    def ask(self, text):
        self.sock.sendall(text.encode() + b"\n")

    def ping(self, count, stop=-1):
        size = self.message
        self.ask("echo %d %d" % (size, count))
        return rtt(self.sock, b"x" * size, str(size), count, stop)

    def _take(self, size):
        began, left, buf = time.monotonic(), size, bytearray(1 << 20)
        while left:
            n = self.sock.recv_into(buf, min(left, len(buf)))
            if not n:
                raise EOFError("the raw port was closed")
            left -= n
        return time.monotonic() - began

    def source(self, size):
        self.ask("source %d %d" % (size, self.block))
        return self._take(size)

    def get(self, path, size):
        self.ask("get %d %s" % (self.block, path))
        return self._take(size)

    def put(self, data, path=None):
        self.ask("put %d %d %s" % (len(data), self.ack, path) if path else
                 "sink %d %d" % (len(data), self.ack))
        began, sent, acked, want = time.monotonic(), 0, 0, len(data) // self.ack + 1
        view = memoryview(data)
        while acked < want:
            room = sent < len(data) and sent - acked * self.ack < self.window
            select.select([] if room else [self.sock], [self.sock] if room else [], [],
                          LIMIT * scale())
            if room:
                sent += self.sock.send(view[sent:sent + min(self.window, 1 << 20)])
            ready, _, _ = select.select([self.sock], [], [], 0)
            if ready or not room:
                acked += len(self.sock.recv(4096))
        return time.monotonic() - began


# --- what processes cost ----------------------------------------------------------

SMAPS = re.compile(r"^(Rss|Pss|Anonymous):\s+(\d+) kB", re.M)


def memory(texts):
    """KB of Rss, Pss, Anonymous: the sum over smaps_rollup texts."""
    total = {"Rss": 0, "Pss": 0, "Anonymous": 0}
    for text in texts:
        for key, value in SMAPS.findall(text):
            total[key] += int(value)
    return total


def tree(pid):
    """The process and all below it, on this machine."""
    found = [pid]
    for task in glob.glob("/proc/%d/task/*/children" % pid):
        with open(task) as f:
            for child in f.read().split():
                found += tree(int(child))
    return found


def local_memory(pids):
    texts = []
    for pid in pids:
        with open("/proc/%d/smaps_rollup" % pid) as f:
            texts.append(f.read())
    return memory(texts)


def local_cpu(pids):
    """CPU seconds of all threads, to the nanosecond.  What other programs do to a
    busy machine changes it little."""
    return sum(run_ns(pid) for pid in pids) / 1e9
