"""A guest's files as va-client sees them: GET and PUT /file and the methods on
files, over a directory of this machine (PROTOCOL, "Files over HTTP").

cut: after so many bytes of each body, in the order of the list, the connection
is closed.  Entries may be forged by lie(path) -> list of structs.

SPDX-License-Identifier: MIT
"""
import hashlib
import os
import re
import stat
import threading
import urllib.parse
import xmlrpc.client

from .fake import XMLRPCServer

KINDS = ((stat.S_ISDIR, "directory"), (stat.S_ISREG, "file"), (stat.S_ISLNK, "symlink"),
         (stat.S_ISFIFO, "fifo"), (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "char-device"))


def _path(p):
    return os.fsencode(p) if isinstance(p, str) else bytes(p)


class FileServer:
    def __init__(self, sock, root, page=1000):
        self.root, self.page = os.fsencode(root), page
        self.cut, self.requests, self.lie = [], [], lambda path: None
        self.lock = threading.Lock()
        self.busy = self.busiest = 0
        self.no_range, self.wrong_range = False, 0
        self.server = XMLRPCServer(sock)
        self.server.web = self.web
        for fn in (self.list, self.stat, self.remove, self.mkdir, self.checksum, self.symlink,
                   self.putstatus, self.putforget):
            self.server.register_function(self.faults(fn), "guest." + fn.__name__)

    def close(self):
        self.server.close()

    def real(self, path):
        return self.root + _path(path)

    @staticmethod
    def faults(fn):
        def call(*args):
            try:
                return fn(*args)
            except OSError as e:
                raise xmlrpc.client.Fault(1000 + e.errno, e.strerror) from None
        return call

    def entry(self, path, name):
        st = os.lstat(path)
        e = {"name": name.decode() if name.isascii() and name.decode().isprintable() else name, "mode": stat.S_IMODE(st.st_mode),
             "type": next((k for f, k in KINDS if f(st.st_mode)), "other"),
             "size": st.st_size, "uid": st.st_uid, "gid": st.st_gid, "mtime": int(st.st_mtime)}
        if e["type"] == "symlink":
            e["target"] = os.readlink(path)
        return e

    def list(self, path, cursor="", limit=1000):
        forged = self.lie(path)
        if forged is not None:
            return {"entries": forged, "cursor": "", "eof": True}
        names = sorted(os.listdir(self.real(path)))
        start = int(cursor or 0)
        names, more = names[start:start + self.page], len(names) > start + self.page
        return {"entries": [self.entry(os.path.join(self.real(path), n), n) for n in names],
                "cursor": str(start + self.page), "eof": not more}

    def stat(self, path, follow=False):
        real = os.path.realpath(self.real(path)) if follow else self.real(path)
        return self.entry(real, os.path.basename(_path(path)))

    def remove(self, path, recursive=False):
        p = self.real(path)
        if os.path.isdir(p) and recursive:
            for base, dirs, files in os.walk(p, topdown=False):
                for n in files:
                    os.unlink(os.path.join(base, n))
                for n in dirs:
                    os.rmdir(os.path.join(base, n))
        os.rmdir(p) if os.path.isdir(p) else os.unlink(p)
        return True

    def mkdir(self, path, mode=0o755, parents=False):
        if parents:
            os.makedirs(self.real(path), mode, exist_ok=True)
        else:
            os.mkdir(self.real(path), mode)
        return True

    def symlink(self, target, path):
        os.symlink(_path(target), self.real(path))
        return True

    def checksum(self, path, offset=0, length=-1):
        with open(self.real(path), "rb") as f:
            f.seek(offset)
            data = f.read(length)
        return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data),
                "size": os.path.getsize(self.real(path))}

    @staticmethod
    def part(path):
        return os.path.join(os.path.dirname(path), b"." + os.path.basename(path) + b".va-part")

    def putstatus(self, path):
        try:
            with open(self.part(self.real(path)), "rb") as f:
                data = f.read()
        except FileNotFoundError:
            return {"partial": False, "size": 0}
        return {"partial": True, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def putforget(self, path):
        try:
            os.unlink(self.part(self.real(path)))
        except FileNotFoundError:
            pass
        return True

    def fault(self, h, status, text):
        h.send_response(status)
        h.send_header("Content-Length", str(len(text)))
        h.end_headers()
        h.wfile.write(text.encode())

    def web(self, h):
        url = urllib.parse.urlsplit(h.path)
        query = {k: v[0] for k, v in urllib.parse.parse_qs(
            url.query, keep_blank_values=True, encoding="latin-1").items()}
        with self.lock:
            self.requests.append((h.command, query, dict(h.headers)))
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
            cut = self.cut.pop(0) if self.cut else None
        try:
            if url.path != "/file":
                return self.fault(h, 404, "no such page")
            path = self.root + query["path"].encode("latin-1")
            (self.get if h.command == "GET" else self.put)(h, path, query, cut)
        except OSError as e:
            self.fault(h, 404 if isinstance(e, FileNotFoundError) else 403,
                       "%s: %s" % (query.get("path"), e.strerror))
        finally:
            with self.lock:
                self.busy -= 1
        if cut is not None:
            h.close_connection = True

    def get(self, h, path, query, cut):
        with open(path, "rb") as f:
            data = f.read()
        st = os.stat(path)
        m = re.match(r"bytes=(\d+)-$", h.headers.get("Range", ""))
        start = int(m.group(1)) if m else 0
        if m and start >= len(data):
            return self.fault(h, 416, "nothing there")
        if self.no_range:
            m, start = None, 0
        h.send_response(206 if m else 200)
        h.send_header("Content-Length", str(len(data) - start))
        if m:
            h.send_header("Content-Range", "bytes %d-%d/%d" % (
                start + self.wrong_range, len(data) - 1, len(data)))
        h.send_header("X-Va-Mode", "%04o" % stat.S_IMODE(st.st_mode))
        h.send_header("X-Va-Mtime", str(int(st.st_mtime)))
        h.end_headers()
        h.wfile.write(data[start:] if cut is None else data[start:start + cut])

    def body(self, h, cut):
        """The pieces of the request's body; False at the end when it was cut."""
        if "chunked" in h.headers.get("Transfer-Encoding", ""):
            while True:
                n = int(h.rfile.readline() or b"0", 16)
                data = h.rfile.read(n)
                h.rfile.readline()
                if not n:
                    return
                if cut is not None:
                    yield None
                    return
                yield data
        left = int(h.headers["Content-Length"])
        if cut == 0:
            yield None
            return
        while left > 0:
            data = h.rfile.read(min(65536, left if cut is None else max(1, min(left, cut))))
            if not data:
                yield None
                return
            left -= len(data)
            yield data
            if cut is not None:
                cut -= len(data)
                if cut <= 0:
                    yield None
                    return

    def put(self, h, path, query, cut):
        temp = self.part(path)
        start = int(query.get("offset", 0))
        with open(temp, "r+b" if start else "wb") as f:
            f.truncate(start)
            f.seek(start)
            for data in self.body(h, cut):
                if data is None:
                    h.close_connection = True
                    return
                f.write(data)
        os.chmod(temp, int(query.get("mode", "0644"), 8))
        os.rename(temp, path)
        h.send_response(200)
        h.send_header("Content-Length", "0")
        h.end_headers()
