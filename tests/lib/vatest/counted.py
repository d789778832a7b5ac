"""A call's whole way without a guest, each program under callgrind.

A virtproxy for each end and va-agent's server.  (The agent's own endpoint is the
same code as the guest's virtproxy; under valgrind it cannot start itself again as
a server.)

SPDX-License-Identifier: MIT
"""
import os
import re
import socket

from . import callgrind
from .env import program, tmpdir
from .proc import Process
from .proxy import PROXY, Proxy
from .wait import connect_unix

BODY = b"<?xml version='1.0'?>\n<methodCall>\n<methodName>%s</methodName>\n" \
       b"<params>\n%s</params>\n</methodCall>\n"


def call(method, params=b""):
    body = BODY % (method, params)
    return (b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body))


def exchange(sock, request):
    """One request and its answer, whole."""
    sock.sendall(request)
    data = b""
    while True:
        piece = sock.recv(1 << 16)
        assert piece, "the connection ended: %r" % data
        data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        if length and len(body) >= int(length.group(1)):
            assert head.startswith(b"HTTP/1.1 200 "), head
            return body


def pings(path, count):
    with connect_unix(path, timeout=60) as s:
        for _ in range(count):
            assert b"<value>" in exchange(s, call(b"guest.ping"))


class AgentServer:
    """va-agent's server on a socket of its own."""

    def __init__(self, name, start):
        self.path = os.path.join(tmpdir(), name)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(64)
        env = {v: os.path.join(tmpdir(), name + "." + v)
               for v in ("VA_RUNTIME_DIR", "VA_STATE_DIR", "VA_CONF_DIR")}
        os.makedirs(env["VA_RUNTIME_DIR"])
        self.process = start(program("va-agent-server"), "--server-fd", str(self.listener.fileno()),
                             "-l", "stderr", env=env, pass_fds=[self.listener.fileno()])

    def close(self):
        self.process.kill()
        self.listener.close()


class Counted:
    """Host's end, guest's end and server, each under callgrind."""

    def __init__(self):
        channel = os.path.join(tmpdir(), "counted")
        self.rpc = os.path.join(tmpdir(), "counted.rpc")
        self.server = AgentServer("counted.server", lambda *argv, **kw: callgrind.start(
            lambda *a, **k: Process(a, **k), *argv, **kw))
        try:
            self.guest = self._end("unix-listen", channel, "guest", "-i",
                                   "virtagent:%s:-" % self.server.path)
            self.host = self._end("unix-connect", channel, "host", "-o",
                                  "virtagent:%s:-" % self.rpc)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _end(method, channel, role, *args):
        return callgrind.start(lambda *a, **k: Proxy(*a[1:], program_path=a[0], **k), PROXY,
                               "-c", "%s:%s:-" % (method, channel), "--role", role, *args)

    def all(self):
        return {"host's end": self.host, "guest's end": self.guest,
                "server": self.server.process}

    def close(self):
        for p in (getattr(self, "host", None), getattr(self, "guest", None), self.server):
            if p:
                (p.kill if p is not self.server else p.close)()
