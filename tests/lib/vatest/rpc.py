"""Stock clients over a unix socket: xmlrpc.client and http.client.

Nothing here knows virtagent: that is the point.

SPDX-License-Identifier: MIT
"""
import http.client
import xmlrpc.client

from .wait import connect_unix


class UnixHTTPConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=30):
        super().__init__("localhost")
        self.path, self.limit = path, timeout

    def connect(self):
        self.sock = connect_unix(self.path, self.limit)


class UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path, timeout=30):
        super().__init__(use_builtin_types=True)
        self.path, self.limit = path, timeout

    def make_connection(self, host):
        if not (self._connection and self._connection[0] == host):
            self._connection = host, UnixHTTPConnection(self.path, self.limit)
        return self._connection[1]


def xmlrpc_proxy(path, timeout=30):
    """A ServerProxy for the XML-RPC server on a unix socket."""
    return xmlrpc.client.ServerProxy("http://localhost/RPC2", allow_none=True,
                                     transport=UnixTransport(path, timeout))


def http_request(path, method, url, body=None, headers=None, timeout=30):
    """One HTTP request; (status, headers, body)."""
    c = UnixHTTPConnection(path, timeout)
    try:
        c.request(method, url, body=body, headers=headers or {})
        r = c.getresponse()
        return r.status, dict(r.getheaders()), r.read()
    finally:
        c.close()


def fault(call, *args):
    """The fault that a call ends in; any other end is an AssertionError."""
    try:
        value = call(*args)
    except xmlrpc.client.Fault as f:
        return f
    raise AssertionError("no fault for %r but %r" % (args, value))
