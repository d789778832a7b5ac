"""Servers that va-client is tested against, made of the standard library only.

XMLRPCServer is the stock xmlrpc.server on a unix socket.  Raw answers each
request with given bytes, to be as wrong as one likes.  Control is virtproxy's
control socket.  All run in threads of the test and end with it.

SPDX-License-Identifier: MIT
"""
import json
import os
import socketserver
import threading
import time
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler


class _Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path, handler):
        if os.path.exists(path):
            os.unlink(path)
        super().__init__(path, handler)
        self.path = path
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def handle_error(self, request, client_address):
        pass            # a client that went away is part of many tests

    def close(self):
        self.shutdown()
        self.server_close()


class _Handler(SimpleXMLRPCRequestHandler):
    rpc_paths = ("/RPC2",)
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = False     # no TCP here
    wbufsize = -1

    def address_string(self):
        return "unix"

    def log_message(self, *args):
        pass

    def do_POST(self):
        self.server.headers.append(dict(self.headers))
        super().do_POST()

    def do_GET(self):
        self.server.web(self)

    def do_PUT(self):
        self.server.web(self)


class XMLRPCServer(_Unix, SimpleXMLRPCDispatcher):
    """Stock; register_function() as usual.  headers: of each POST, in order."""

    def __init__(self, path, introspection=False):
        SimpleXMLRPCDispatcher.__init__(self, allow_none=True, use_builtin_types=True)
        self.logRequests = False
        self.headers = []
        self.web = lambda handler: handler.send_error(404)
        if introspection:
            self.register_introspection_functions()
        _Unix.__init__(self, path, _Handler)


def read_request(sock):
    """One HTTP request, whole, as bytes; b"" when the peer closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return data
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        more = sock.recv(65536)
        if not more:
            break
        body += more
    return head + b"\r\n\r\n" + body


def http_reply(body, status="200 OK", type_="text/xml"):
    body = body.encode() if isinstance(body, str) else body
    return (b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
            % (status.encode(), type_.encode(), len(body))) + body


def value_reply(inner):
    """A reply document around the XML of one value."""
    return ('<?xml version="1.0"?><methodResponse><params><param><value>%s</value></param>'
            "</params></methodResponse>" % inner)


class Raw(_Unix):
    """Answers every request by answer(request, number): bytes (sent, then the
    connection is closed), or None (the connection stays open, silent)."""

    def __init__(self, path, answer):
        outer = self
        self.answer, self.requests = answer, []
        self.lock = threading.Lock()
        self.ended = threading.Event()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                request = read_request(self.request)
                if not request:
                    return
                with outer.lock:
                    outer.requests.append(request)
                    number = len(outer.requests)
                reply = outer.answer(request, number)
                if reply is None:
                    outer.ended.wait(60)
                elif isinstance(reply, bytes):
                    self.request.sendall(reply)
                else:
                    for piece in reply:
                        self.request.sendall(piece)
        super().__init__(path, Handler)

    def close(self):
        self.ended.set()
        super().close()


class Control(_Unix):
    """status: the dictionary of "status json"; refused: lines.  silent: says
    nothing at all."""

    def __init__(self, path, status=None, refused=()):
        outer = self
        self.status = {"session": "up", "channel": "up"} if status is None else status
        self.refused, self.silent, self.commands = list(refused), False, []

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                for line in self.rfile:
                    command = line.decode().strip()
                    outer.commands.append(command)
                    while outer.silent:
                        time.sleep(0.05)
                    if command == "status json":
                        text = json.dumps(outer.status) + "\n"
                    elif command == "refused":
                        text = "".join(r + "\n" for r in outer.refused)
                    else:
                        text = "error unknown command\n"
                    self.wfile.write((text + "\n").encode())
        super().__init__(path, Handler)
