"""Many connections at once: files side by side, and small calls side by side.

SPDX-License-Identifier: MIT
"""
import re
import selectors
import socket
import time
import urllib.parse

from vatest import scale

LIMIT = 60
PIECE = 1 << 18
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)


class Answers:
    """The answers on one connection, counted; a request follows each."""

    def __init__(self, path, request):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT * scale())
        self.sock.connect(path)
        self.request, self.head, self.left, self.body = request, b"", None, 0
        self.done = 0

    def ask(self):
        self.head, self.left = b"", None
        self.sock.sendall(self.request)

    def take(self, buf):
        """Reads once; True when an answer has become whole."""
        n = self.sock.recv_into(buf)
        if not n:
            raise EOFError("a connection ended early")
        if self.left is None:
            self.head += bytes(buf[:n])
            head, end, body = self.head.partition(b"\r\n\r\n")
            if not end:
                return False
            if b" 200 " not in head[:14]:
                raise RuntimeError(head[:200])
            self.left, n = int(LENGTH.search(head).group(1)), len(body)
        self.left -= n
        self.body += n
        self.done += self.left == 0
        return self.left == 0


def _connected(path, count, request):
    conns, sel = [Answers(path, request) for _ in range(count)], selectors.DefaultSelector()
    for c in conns:
        sel.register(c.sock, selectors.EVENT_READ, c)
    return conns, sel


def files(path, name, count, seconds):
    """Bytes a second of each of `count` connections that get the file over and over."""
    conns, sel = _connected(path, count, b"GET /file?path=%s HTTP/1.1\r\nHost: x\r\n\r\n"
                            % urllib.parse.quote(name).encode())
    buf = bytearray(PIECE)
    for c in conns:
        c.ask()
    started = None
    try:
        while True:
            for key, _ in sel.select(LIMIT * scale()):
                if key.data.take(buf):
                    key.data.ask()
            now = time.monotonic()
            # Counted from when all are under way.
            if started is None:
                if all(c.body for c in conns):
                    started, before = now, [c.body for c in conns]
            elif now - started >= seconds:
                return [(c.body - b) / (now - started) for c, b in zip(conns, before)]
    finally:
        for c in conns:
            c.sock.close()


def jain(rates):
    """Jain's index of fairness: 1 = all have the same, 1/n = one has all."""
    return sum(rates) ** 2 / (len(rates) * sum(r * r for r in rates))


def calls(path, request, total, at_once):
    """Calls a second: each of the connections makes one after the other."""
    conns, sel = _connected(path, at_once, request)
    buf, done, asked = bytearray(PIECE), 0, at_once
    began = time.monotonic()
    try:
        for c in conns:
            c.ask()
        while done < total:
            for key, _ in sel.select(LIMIT * scale()):
                if not key.data.take(buf):
                    continue
                done += 1
                if asked < total:
                    asked += 1
                    key.data.ask()
        return total / (time.monotonic() - began)
    finally:
        for c in conns:
            c.sock.close()
