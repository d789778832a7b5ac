"""Rows of what the servers do beside moving files: programs, many calls at once, and
pings while both ends are busy.

SPDX-License-Identifier: MIT
"""
import contextlib
import os
import socket
import threading
import time

import many
import peers
from vatest import scale, xmlrpc_proxy

ECHO = "/exec?arg=/bin/echo&arg=ok"
AT_ONCE = 100


def stream(rpc, target):
    """A connection on which GET target was asked for."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60 * scale())
    s.connect(rpc)
    s.sendall(("GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target).encode())
    return s


def output(rpc, target=ECHO, want=b"ok\n"):
    """Seconds to the first byte of a program's output, and to the answer's end."""
    began, got, first = time.monotonic(), b"", None
    with stream(rpc, target) as s:
        while piece := s.recv(65536):
            got += piece
            if first is None and want in got:
                first = time.monotonic() - began
    if first is None:
        raise RuntimeError("GET %s: %r" % (target, got[:300]))
    return first, time.monotonic() - began


@contextlib.contextmanager
def sleeping(rpc):
    """A program of the guest sleeps meanwhile, and somebody waits for its output."""
    with stream(rpc, "/exec?arg=sleep&arg=1000&timeout=300") as s:
        head = b""
        while b"X-Va-Job" not in head:      # it runs
            piece = s.recv(4096)
            if not piece:
                raise EOFError(repr(head))
            head += piece
        yield                               # leaving ends it


class Rows:
    """Of bench.Bench: uses its guest and peers."""

    def programs(self):
        for kind in ("virtio", "serial"):
            row = "output of /bin/echo %s, ms" % kind
            rpc = self.ours[kind].rpc
            call = xmlrpc_proxy(rpc, 60).guest.exec.run
            for _ in range(10):
                first, end = output(rpc)
                self.f.add(row, "GET /exec, to its end", end * 1e3)
                self.f.add(row, "GET /exec, first byte", first * 1e3)
                began = time.monotonic()
                call(["/bin/echo", "ok"])
                self.f.add(row, "guest.exec.run", (time.monotonic() - began) * 1e3)
                self.f.add(row, "qemu-ga", self.ga[kind].exec_true("/bin/echo") * 1e3)

    def calls_at_once(self):
        """All on connections of their own; qemu-ga can but take them in turn."""
        row, request = "%d pings at once virtio, ms" % AT_ONCE, peers.call("guest.ping")
        self.f.add(row, "ours", AT_ONCE * 1e3 / many.calls(self.ours["virtio"].rpc, request,
                                                           AT_ONCE, AT_ONCE))
        self.f.add(row, "qemu-ga", sum(self.ga["virtio"].ping(AT_ONCE)) / 1e3)

    def busy_ping(self):
        """As loaded_ping, while a program sleeps and both get and put."""
        for kind, name in (("virtio", "f%d" % self.big), ("serial", "random")):
            for what in ("get", "put"):
                second = peers.Ours(self.ours[kind].rpc)
                second.ping(3)
                done_r, done_w = os.pipe()
                t = threading.Thread(target=self._move_then_close,
                                     args=(kind, what, name, done_w))
                with sleeping(second.rpc):
                    t.start()
                    try:
                        got = second.ping(0, done_r)
                    finally:
                        t.join()
                        os.close(done_r)
                self.f.add("ping during %s and a sleeping program %s, us" % (what, kind),
                           "ours", *got)
        self.guest.sh("rm -f /bench/put", 60)

    def _move_then_close(self, kind, what, name, fd):
        try:
            if what == "get":
                self.ours[kind].get("/bench/" + name)
            else:
                self.ours[kind].put(self.local[name][0], "/bench/put")
        finally:
            os.close(fd)
