#!/usr/bin/python3
"""Streams through two virtproxies: whole, in order, both ways, half-closed.

SPDX-License-Identifier: MIT
"""
import hashlib
import os
import random
import socket
import struct
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Process, Suite, need, run, scale, tmpdir, wait_listening, wait_until
from vatest.proxy import Pair, Server, echo, free_port, read_all

suite = Suite()


def digest_reply(conn):
    """Reads to the end of the file, then answers: needs half-close to work."""
    data = read_all(conn)
    conn.sendall(struct.pack(">Q", len(data)) + hashlib.sha256(data).digest())


def push(sock, data):
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def check_digest(pair, data):
    with pair.connect("digest") as s:
        push(s, data)
        reply = read_all(s)
    assert reply == struct.pack(">Q", len(data)) + hashlib.sha256(data).digest(), len(reply)


def both_ways_at_once(kind, size):
    """Each side sends `size` random bytes while it receives as many."""
    up, down = random.randbytes(size), random.randbytes(size)
    got = []

    def serve(conn):
        t = threading.Thread(target=push, args=(conn, down))
        t.start()
        got.append(read_all(conn))
        t.join()

    server = Server(serve)
    with Pair(kind, outs=["both"], ins={"both": server.path}) as p:
        with p.connect("both") as s:
            t = threading.Thread(target=push, args=(s, up))
            t.start()
            back = read_all(s)
            t.join()
        wait_until(lambda: got, 30, "the server's end")
        st = p.host.wait_status("streams", 0)
        assert st["streams-reset"] == 0, st
    server.close()
    assert back == down and got[0] == up and not server.errors, (len(back), len(got[0]))


for kind, megabytes in (("unix", 48), ("tcp", 48), ("pty", 1)):
    @suite.case("%d MiB both ways at once over %s, byte for byte" % (megabytes, kind))
    def _(kind=kind, megabytes=megabytes):
        both_ways_at_once(kind, megabytes << 20)


for opener in ("host", "guest"):
    for kind in ("unix", "pty"):
        @suite.case("half-close is kept, opened by the %s over %s" % (opener, kind))
        def _(opener=opener, kind=kind):
            server = Server(digest_reply)
            with Pair(kind, outs=["digest"], ins={"digest": server.path}, opener=opener) as p:
                for size in (0, 1, 1023, 65536, 300000):
                    check_digest(p, random.randbytes(size))
            assert not server.errors, server.errors
            server.close()


@suite.case("the server's end reaches a client that goes on sending")
def _():
    got = []

    def serve(conn):
        conn.sendall(b"greeting")
        conn.shutdown(socket.SHUT_WR)
        got.append(read_all(conn))

    server = Server(serve)
    with Pair(outs=["s"], ins={"s": server.path}) as p, p.connect("s") as s:
        assert read_all(s) == b"greeting"
        push(s, b"x" * 100000)
        wait_until(lambda: got, 10, "the server's end")
    assert got == [b"x" * 100000]
    server.close()


@suite.case("60 streams at once do not mix")
def _():
    server = Server(digest_reply)
    failures = []

    def one(pair, seed):
        try:
            check_digest(pair, random.Random(seed).randbytes(200000 + seed))
        except Exception as e:
            failures.append((seed, repr(e)))

    with Pair(outs=["digest"], ins={"digest": server.path}) as p:
        threads = [threading.Thread(target=one, args=(p, i)) for i in range(60)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        st = p.guest.wait_status("streams", 0)
        assert st["streams-accepted"] == 60, st
    assert not failures and not server.errors, (failures, server.errors)
    server.close()


@suite.case("a reader that does not read holds up nobody else")
def _():
    hold = threading.Event()

    def serve(conn):
        if conn.recv(1) == b"f":
            try:
                conn.sendall(b"\0" * (16 << 20))
            except OSError:
                pass
        else:
            echo(conn)
        hold.wait(30)

    server = Server(serve)
    with Pair(outs=["s"], ins={"s": server.path}) as p:
        with p.connect("s") as stuck, p.connect("s") as live:
            stuck.sendall(b"f")
            live.sendall(b"e")
            for i in range(200):
                live.sendall(b"%04d" % i)
                got = b""
                while len(got) < 4:
                    got += live.recv(4 - len(got))
                assert got == b"%04d" % i
            with open("/proc/%d/status" % p.guest.pid) as f:
                rss = [int(x.split()[1]) for x in f if x.startswith("VmRSS")][0]
            assert rss < 48 * 1024, "%d KiB resident" % rss
    hold.set()
    server.close()


for kind in ("unix", "pty"):
    for opener in ("host", "guest"):
        @suite.case("a shell answers line by line, opened by the %s over %s" % (opener, kind))
        def _(kind=kind, opener=opener):
            need("socat")
            path = os.path.join(tmpdir(), "sh-%s-%s" % (kind, opener))
            with Pair(kind, outs=["sh"], ins={"sh": path}, opener=opener) as p:
                shell = Process(["socat", "UNIX-LISTEN:%s" % path, "EXEC:/bin/sh"])
                wait_listening(path, 5, shell.check_alive)
                with p.connect("sh") as s:
                    lines = s.makefile("rb")
                    for i in range(20):
                        s.sendall(b"echo $((%d * %d))\n" % (i, i))
                        assert lines.readline() == b"%d\n" % (i * i)
                    s.sendall(b"exit\n")
                    assert lines.read() == b""
                assert shell.wait() == 0


@suite.case("socat and curl go through, over a path and over TCP")
def _():
    need("socat", "curl")
    body = random.randbytes(1 << 20)

    def http(conn):
        head = b""
        while b"\r\n\r\n" not in head:
            head += conn.recv(4096)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                     % len(body) + body)

    server = Server(http)
    echoes = Server(echo)
    port = free_port()
    with Pair(outs=["web"], ins={"web": server.path, "web2": server.path,
                                 "echo": echoes.path},
              host_args=["-o", "web2:127.0.0.1:%d" % port,
                         "-o", "echo:/%s/echo:-" % os.path.dirname(server.path)]) as p:
        for where in (["--unix-socket", p.out["web"], "http://x/"],
                      ["http://127.0.0.1:%d/" % port]):
            r = subprocess.run(["curl", "-sS", "--max-time", "%d" % (20 * scale()), *where],
                               stdout=subprocess.PIPE, check=True)
            assert r.stdout == body
        r = run(["socat", "-t%d" % (10 * scale()), "-",
                 "UNIX-CONNECT:%s/echo" % os.path.dirname(server.path)],
                input=b"through socat\n", text=False)
        assert r.stdout == b"through socat\n", r
    server.close()
    echoes.close()


@suite.case("the service learns who opened the stream")
def _():
    names = []

    def serve(conn):
        names.append(conn.getpeername())
        conn.recv(1)

    server = Server(serve)
    with Pair(outs=["who"], ins={"who": server.path}) as p:
        with p.connect("who") as s:
            wait_until(lambda: names, 5, "the name")
            number = p.host.command("streams").split()[0]
            s.sendall(b"x")
            assert read_all(s) == b""
        name = names[0].decode().lstrip("\0").split("/")
        kind, pid, stream, uid, gid, caller = name
        assert (kind, int(pid), stream) == ("virtproxy", p.guest.pid, number), name
        assert (int(uid), int(gid), int(caller)) == (os.getuid(), os.getgid(), os.getpid())
    server.close()


@suite.case("a local side that is reset ends the stream at the other end")
def _():
    ended = []

    def serve(conn):
        try:
            while conn.recv(65536):
                pass
            ended.append("eof")
        except OSError as e:
            ended.append(e.__class__.__name__)

    server = Server(serve)
    port = free_port()
    with Pair(ins={"s": server.path}, host_args=["-o", "s:127.0.0.1:%d" % port]) as p:
        s = socket.create_connection(("127.0.0.1", port))
        s.sendall(b"x")
        p.guest.wait_status("streams", 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
        wait_until(lambda: ended, 10, "the server to notice")
        p.guest.wait_status("streams", 0)
        st = p.host.wait_status("streams", 0)
        assert st["streams-reset"] == 1, st
    server.close()


suite.main()
