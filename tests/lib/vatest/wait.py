"""Waiting for events, never longer than a scaled limit.

SPDX-License-Identifier: MIT
"""
import os
import re
import socket
import time

from .env import scale


class Timeout(Exception):
    pass


def wait_until(condition, seconds=10, what="a condition", interval=0.02):
    """Calls condition() until it is true and returns its value.

    For things that can only be looked at (a file's content, a process table);
    where there is a descriptor, poll it instead.
    """
    deadline = time.monotonic() + seconds * scale()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise Timeout("waited %g s for %s" % (seconds * scale(), what))
        time.sleep(interval)


def connect_unix(path, timeout=10):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(timeout * scale())
    try:
        s.connect(path)
    except OSError:
        s.close()
        raise
    return s


def wait_for_socket(path, seconds=10, alive=None):
    """Waits until something listens on the unix socket; returns a connection.

    alive, if given, is called each round and may raise (the server died).
    """
    def attempt():
        if alive:
            alive()
        try:
            return connect_unix(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
    return wait_until(attempt, seconds, "a listener on %s" % path)


def wait_listening(path, seconds=10, alive=None):
    """Waits until something listens on the unix socket, without connecting: for
    servers that take one connection only.

    That the file exists is not enough: bind() makes it, listen() comes later, and
    who connects in between is refused.  Our own programs listen under another name and
    rename that (common/sock.c), which the kernel goes on showing.  alive as above.
    """
    ours = re.compile(re.escape(os.path.dirname(path)) + r"/\.[^/]{6}/s")

    def look():
        if alive:
            alive()
        renamed = False
        with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as f:
            next(f)                     # the columns' names
            for line in f:
                # Num RefCount Protocol Flags Type St Inode Path; 0x10000: it accepts
                fields = line.rstrip("\n").split(None, 7)
                accepts = len(fields) == 8 and int(fields[3], 16) & 0x10000
                if len(fields) == 8 and fields[7] == path:
                    return bool(accepts)
                renamed |= bool(accepts and ours.fullmatch(fields[7]))
        return renamed and os.path.exists(path)
    wait_until(look, seconds, "a listener on %s" % path)


class Lines:
    """Lines from a socket, each waited for with a limit of its own."""

    def __init__(self, sock):
        self.sock, self.data = sock, b""

    def next(self, seconds):
        """The next line without its end; EOFError, Timeout."""
        deadline = time.monotonic() + seconds * scale()
        while b"\n" not in self.data:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout("no line in %g s" % (seconds * scale()))
            self.sock.settimeout(left)
            try:
                more = self.sock.recv(65536)
            except TimeoutError:
                continue
            if not more:
                raise EOFError("the other side closed")
            self.data += more
        line, self.data = self.data.split(b"\n", 1)
        return line.rstrip(b"\r").decode("utf-8", "replace")
