"""Two virtproxies back to back, and what talks through them.

  with Pair("unix", outs=["svc"], ins={"svc": path}) as p: ...

Pair starts a guest's end and a host's end over one channel: "unix", "tcp" or
"pty"; line={...} puts a BadLine with these arguments between.  Service names in `outs` are listened for at p.out[name] by the end named
in `opener` ("host" unless told), and dialled by the other at ins[name].

SPDX-License-Identifier: MIT
"""
import json
import os
import select
import shutil
import socket
import struct
import tempfile
import threading
import tty

from . import badline
from .env import program, scale, tmpdir
from .proc import Process
from .tap import need
from .wait import Timeout, connect_unix, wait_until

# PROXY overrides the program under test.
PROXY = os.environ.get("VA_VIRTPROXY") or program("virtproxy")


def environment():
    """Locks and private sockets of this test are its own."""
    return {"VA_RUNTIME_DIR": os.path.join(tmpdir(), "run")}


class Ctl:
    """A connection to a control socket."""

    def __init__(self, path):
        self.sock = connect_unix(path)
        self.data = b""

    def command(self, line):
        self.sock.sendall(line.encode() + b"\n")
        return self.answer()

    def _more(self, seconds):
        self.sock.settimeout(seconds * scale())
        piece = self.sock.recv(65536)
        if not piece:
            raise EOFError("the control socket was closed")
        self.data += piece

    def answer(self, seconds=10):
        while b"\n\n" not in self.data and not self.data.startswith(b"\n"):
            self._more(seconds)
        if self.data.startswith(b"\n"):
            self.data = self.data[1:]
            return ""
        text, self.data = self.data.split(b"\n\n", 1)
        return text.decode()

    def event(self, seconds=10):
        while b"\n" not in self.data:
            self._more(seconds)
        line, self.data = self.data.split(b"\n", 1)
        return line.decode()

    def close(self):
        self.sock.close()


class Proxy(Process):
    """One virtproxy with a control socket."""

    def __init__(self, *args, name="virtproxy", env=None, program_path=None, **popen):
        need(program_path or PROXY)
        self.ctl_path = os.path.join(tempfile.mkdtemp(dir=tmpdir()), "ctl")
        super().__init__([program_path or PROXY, *args, "--ctl", self.ctl_path], name=name,
                         env=dict(environment(), **(env or {})), **popen)

    def command(self, line):
        c = Ctl(self.ctl_path)
        try:
            return c.command(line)
        finally:
            c.close()

    def status(self):
        return json.loads(self.command("status json"))

    def try_status(self):
        try:
            return self.status()
        except (OSError, EOFError):
            self.check_alive()
            return None

    def wait_status(self, key, value, seconds=15):
        def look():
            st = self.try_status()
            return st if st and st[key] == value else None
        try:
            return wait_until(look, seconds, "%s %s" % (key, value))
        except Timeout as e:
            raise Timeout("%s\n%s\n%s" % (e, self.try_status(), self.log())) from None

    def wait_session(self, up=True, seconds=15):
        return self.wait_status("session", "up" if up else "down", seconds)


class PtyPair:
    """Two ptys whose masters are joined: what one slave writes the other reads."""

    def __init__(self):
        self.masters, self.slaves = [], []
        for _ in range(2):
            master, slave = os.openpty()
            tty.setraw(slave)
            self.masters.append(master)
            self.slaves.append(slave)     # kept open: no hang-up in between
        self.names = [os.ttyname(s) for s in self.slaves]
        self.stop_r, self.stop_w = os.pipe()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        a, b = self.masters
        while True:
            ready, _, _ = select.select([a, b, self.stop_r], [], [])
            if self.stop_r in ready:
                return
            for fd in ready:
                data, other = os.read(fd, 4096), b if fd == a else a
                while data:
                    data = data[os.write(other, data):]

    def close(self):
        # The slaves first: a reader blocked in a write is let go.
        os.write(self.stop_w, b"x")
        self.thread.join(5)
        for fd in self.masters + self.slaves + [self.stop_r, self.stop_w]:
            os.close(fd)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Pair:
    def __init__(self, kind="unix", outs=(), ins=None, opener="host", wait=True,
                 guest_args=(), host_args=(), line=None):
        self.kind, self.opener = kind, opener
        self.line, self.line_args = None, line
        self.dir = tempfile.mkdtemp(dir=tmpdir())
        self.pty = None
        self.out = {n: os.path.join(self.dir, "out-" + n) for n in outs}
        self.ins = dict(ins or {})
        self.args = {"guest": list(guest_args), "host": list(host_args)}
        self.ends = {}
        self._channels()
        self.start("guest")
        self.start("host")
        if wait:
            self.wait_session()

    guest = property(lambda self: self.ends["guest"])
    host = property(lambda self: self.ends["host"])

    def _bad_channels(self):
        # The way "ab" is the host's to the guest.
        path, near = os.path.join(self.dir, "channel"), os.path.join(self.dir, "line")
        if self.kind == "unix":
            ends = badline.Listen(near), badline.Dial(path)
            self.channel = {"guest": "unix-listen:%s:-" % path,
                            "host": "unix-connect:%s:-" % near}
        else:
            ends = badline.Pty(), badline.Pty()
            self.channel = {"guest": "pty-open:%s:-" % ends[1].name,
                            "host": "pty-open:%s:-" % ends[0].name}
        self.line = badline.BadLine(a=ends[0], b=ends[1], **self.line_args)

    def _channels(self):
        if self.line_args:
            self._bad_channels()
        elif self.kind == "unix":
            path = os.path.join(self.dir, "channel")
            self.channel = {"guest": "unix-listen:%s:-" % path,
                            "host": "unix-connect:%s:-" % path}
        elif self.kind == "tcp":
            port = free_port()
            self.channel = {"guest": "tcp-listen:127.0.0.1:%d" % port,
                            "host": "tcp-connect:127.0.0.1:%d" % port}
        else:
            self.pty = PtyPair()
            self.channel = {"guest": "pty-open:%s:-" % self.pty.names[0],
                            "host": "pty-open:%s:-" % self.pty.names[1]}

    def start(self, end):
        args = ["-c", self.channel[end], "--role", end] + self.args[end]
        if end == self.opener:
            for name, path in self.out.items():
                args += ["-o", "%s:%s:-" % (name, path)]
        else:
            for name, path in self.ins.items():
                args += ["-i", "%s:%s" % (name, path if ":" in path else path + ":-")]
        self.ends[end] = Proxy(*args, name="vp-" + end)

    def wait_session(self, seconds=None):
        # A bad line's burst counts bytes: 1000 of them are 19 HELLOs, which ends
        # without a session send one in 2 s each.
        seconds = seconds or (45 if self.line else 15)
        self.guest.wait_session(True, seconds)
        self.host.wait_session(True, seconds)

    def connect(self, name):
        return connect_unix(self.out[name], timeout=30)

    def close(self):
        for p in self.ends.values():
            p.kill()
        for thing in (self.pty, self.line):
            if thing:
                thing.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Server:
    """A threaded unix-socket server; handler(conn) runs per connection."""

    def __init__(self, handler, path=None):
        self.path = path or os.path.join(tempfile.mkdtemp(dir=tmpdir()), "s")
        self.handler = handler
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.path)
        self.sock.listen(128)
        self.errors = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(conn,), daemon=True).start()

    def _one(self, conn):
        conn.settimeout(60 * scale())
        try:
            with conn:
                self.handler(conn)
        except Exception as e:
            self.errors.append(repr(e))

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


def read_all(conn):
    data = []
    while True:
        piece = conn.recv(1 << 20)
        if not piece:
            return b"".join(data)
        data.append(piece)


def echo(conn):
    while True:
        data = conn.recv(65536)
        if not data:
            return
        conn.sendall(data)


def peer_cred(conn):
    return struct.unpack("3i", conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
