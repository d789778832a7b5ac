"""A guest's agent and a host's event stream, as good or as bad as a test wants.

MockAgent is an HTTP/XML-RPC server on a unix socket.  By default it answers
like va-agent, with the files it is given.  agent.answer, if set, is called as
answer(method, params, connection) and returns the bytes of the whole HTTP
reply (see reply() and http()), or None to close without an answer, or writes to
the connection itself and returns b"".

MockEvents is the JSON-lines server of va-hostd's events.sock.

SPDX-License-Identifier: MIT
"""
import base64
import json
import os
import socket
import threading
import xmlrpc.client

VERSION = "1.0"
METHODS = ("guest.capabilities", "guest.echo", "guest.getdmesg", "guest.getfile", "guest.ping",
           "guest.shutdown")


def http(body, status="200 OK", kind="text/xml", length=None, extra=""):
    """A whole HTTP reply."""
    if isinstance(body, str):
        body = body.encode()
    head = "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n" % (
        status, kind, len(body) if length is None else length, extra)
    return head.encode() + body


def reply(value):
    """The HTTP reply that carries an XML-RPC value."""
    return http(xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True))


def fault(code, text):
    return http(xmlrpc.client.dumps(xmlrpc.client.Fault(code, text)))


class MockAgent:
    def __init__(self, path):
        self.path = path
        self.files = {}
        self.dmesg = b""
        self.answer = None
        self.calls = []                  # (method, params), as they came
        self.hold = threading.Event()    # set: silent connections close
        self.listener = None
        self.start()

    def start(self):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(64)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        """No longer there: connections are refused, the socket gone."""
        os.unlink(self.path)
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self, listener):
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    @staticmethod
    def _read_request(conn):
        data = b""
        while b"\r\n\r\n" not in data:
            more = conn.recv(65536)
            if not more:
                return None
            data += more
        head, body = data.split(b"\r\n\r\n", 1)
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(body) < length:
            more = conn.recv(65536)
            if not more:
                return None
            body += more
        return head, body

    def _serve(self, conn):
        with conn:
            try:
                request = self._read_request(conn)
                if request is None:
                    return
                params, method = xmlrpc.client.loads(request[1], use_builtin_types=True)
                self.calls.append((method, params))
                out = (self.answer or self.good)(method, params, conn)
                if out is not None:
                    conn.sendall(out)
            except OSError:
                pass                     # the other side went away: its right

    def good(self, method, params, conn):
        name = method.split(".")[-1]
        if method not in METHODS:
            return fault(-506, "Method '%s' not defined" % method)
        return getattr(self, "_" + name)(*params)

    @staticmethod
    def _ping():
        return reply("pong")

    @staticmethod
    def _echo(*params):
        # xmlrpc.client reads <i8> but does not write it
        return reply([str(p) if isinstance(p, int) and not -1 << 31 <= p < 1 << 31 else p for p in params])

    @staticmethod
    def _capabilities():
        return reply({"version": VERSION,
                      "methods": [{"name": m, "class": "read"} for m in METHODS[:3]] +
                      list(METHODS[3:])})

    @staticmethod
    def _shutdown(mode):
        if mode not in ("halt", "powerdown", "reboot"):
            return fault(1022, "no such mode: %s" % mode)
        return reply("")

    def _getfile(self, path, offset=0, length=1 << 20):
        if isinstance(path, bytes):
            path = path.decode("utf-8", "surrogateescape")
        data = self.files.get(path)
        if data is None:
            return fault(1002, "%s: No such file or directory" % path)
        if data == "directory":
            return fault(1021, "%s: Is a directory" % path)
        size = len(data)
        piece = data[offset:offset + length]
        return reply({"data": piece, "offset": offset, "size": size,
                      "eof": offset + length >= size, "mtime": 1700000000})

    def _getdmesg(self, length=16384):
        return reply({"data": self.dmesg[-length:]})

    # --- answers for bad guests ---------------------------------------------

    def silent(self, method, params, conn):
        """Reads the request and says nothing until the other side closes."""
        conn.settimeout(60)
        conn.recv(1)
        return b""


def piecewise(data, size, pause):
    """An answer that comes in pieces."""
    def answer(method, params, conn):
        for i in range(0, len(data), size):
            conn.sendall(data[i:i + size])
            if pause.wait(0.001):
                break
        return b""
    return answer


class MockEvents:
    def __init__(self, path):
        self.path = path
        self.seq = 0
        self.kept = []
        self.clients = []
        self.since = []                  # what clients asked for
        self.lock = threading.Lock()
        self.start()

    def start(self):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(8)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        os.unlink(self.path)
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for c in self.clients:
                c.close()
            self.clients = []

    def _accept(self, listener):
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                conn.settimeout(0.05)
                try:
                    line = conn.recv(100).decode()
                except TimeoutError:
                    line = ""
                conn.settimeout(5)
                self.since.append(line.strip())
                if line.startswith("since "):
                    for event in self.kept:
                        if event["seq"] > int(line.split()[1]):
                            conn.sendall(json.dumps(event).encode() + b"\n")
                self.clients.append(conn)

    def event(self, name, data=None, guest="web1"):
        with self.lock:
            self.seq += 1
            event = {"seq": self.seq, "time": "2026-01-02T03:04:05.678Z", "guest": guest,
                     "event": name, "data": data or {}}
            self.kept.append(event)
            self._send(json.dumps(event).encode() + b"\n")

    def raw(self, data):
        with self.lock:
            self._send(data)

    def _send(self, data):
        for c in list(self.clients):
            try:
                c.sendall(data)
            except OSError:
                self.clients.remove(c)


def base64_text(data):
    return base64.b64encode(data).decode()
