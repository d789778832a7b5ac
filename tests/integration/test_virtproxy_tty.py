#!/usr/bin/python3
"""Ttys as channels: somebody changes their settings, echoes, writes noise into
them, hangs them up.

SPDX-License-Identifier: MIT
"""
import os
import random
import socket
import sys
import termios
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vatest import Suite, connect_unix, scale, tmpdir, wait_until
from vatest.proxy import Pair, Proxy, PtyPair, Server, echo, read_all

suite = Suite()
SANE_L = termios.ICANON | termios.ECHO | termios.ISIG


def there_and_back(path, data):
    with connect_unix(path, timeout=60 * scale()) as s:
        t = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
        t.start()
        got = read_all(s)
        t.join()
        return got


def make_sane(fd):
    """As a getty or "stty sane" would."""
    a = termios.tcgetattr(fd)
    a[0] |= termios.ICRNL | termios.IXON
    a[1] |= termios.OPOST | termios.ONLCR
    a[3] |= SANE_L
    termios.tcsetattr(fd, termios.TCSANOW, a)


def is_raw(fd):
    a = termios.tcgetattr(fd)
    return not (a[3] & SANE_L or a[0] & (termios.ICRNL | termios.IXON) or a[1] & termios.OPOST)


@suite.case("the tty is made raw, at 115200, without flow control")
def _():
    with Pair("pty", outs=["e"], ins={"e": "/nowhere"}, wait=False) as p:
        p.wait_session()
        for fd in p.pty.slaves:
            a = termios.tcgetattr(fd)
            assert is_raw(fd) and a[4] == a[5] == termios.B115200, a
            assert not a[2] & (termios.CRTSCTS | termios.HUPCL) and a[2] & termios.CLOCAL, a


for end in (0, 1):
    @suite.case("settings spoilt at end %d are repaired in a second, nothing is lost" % end)
    def _(end=end):
        server = Server(echo)
        data = random.randbytes(400000)
        with Pair("pty", outs=["e"], ins={"e": server.path}) as p:
            side = (p.guest, p.host)[end]
            for _ in range(3):
                got = []
                t = threading.Thread(
                    target=lambda: got.append(there_and_back(p.out["e"], data)))
                t.start()
                make_sane(p.pty.slaves[end])
                wait_until(lambda: is_raw(p.pty.slaves[end]), 5, "raw settings")
                t.join()
                assert got and got[0] == data
            side.wait_log(r"somebody changed the settings of /dev/pts/")
            assert p.host.status()["streams-reset"] == 0
        server.close()


@suite.case("text written into the line costs no byte of a stream")
def _():
    server = Server(echo)
    data = random.randbytes(300000)
    with Pair("pty", outs=["e"], ins={"e": server.path}) as p:
        stop = threading.Event()
        noise = b"[   12.345678] virtio_net virtio0 eth0: renamed from eth1\r\n"

        def write_noise():
            while not stop.wait(0.002):
                os.write(p.pty.slaves[0], noise)
                os.write(p.pty.slaves[1], noise)

        t = threading.Thread(target=write_noise)
        t.start()
        try:
            for _ in range(3):
                assert there_and_back(p.out["e"], data) == data
        finally:
            stop.set()
            t.join()
        st = p.host.status()
        assert st["noise-bytes"] > 0 and st["streams-reset"] == 0, st
    server.close()


@suite.case("a tty that hangs up is opened again, a stream lives on")
def _():
    server = Server(echo)
    d = tmpdir()
    guest_link = os.path.join(d, "guest-tty")
    ptys = PtyPair()
    os.symlink(ptys.names[0], guest_link)
    out = os.path.join(d, "hup-out")
    # Each end holds its lock by the device it found first: the guest's end names
    # the link, as /dev/ttyS1 would stay the same name.
    with Proxy("-c", "pty-open:%s:-" % guest_link, "--role", "guest",
               "-i", "e:%s:-" % server.path) as guest:
        host_link = os.path.join(d, "host-tty")
        os.symlink(ptys.names[1], host_link)
        with Proxy("-c", "pty-open:%s:-" % host_link, "-o", "e:%s:-" % out) as host:
            host.wait_session()
            with connect_unix(out, timeout=60 * scale()) as s:
                s.sendall(b"before")
                assert s.recv(100) == b"before"
                ptys.close()
                guest.wait_status("channel", "closed")
                host.wait_status("channel", "closed")
                ptys = PtyPair()
                for link, name in ((guest_link, ptys.names[0]), (host_link, ptys.names[1])):
                    os.unlink(link)
                    os.symlink(name, link)
                s.sendall(b"after")
                assert s.recv(100) == b"after"
            st = guest.status()
            assert st["channel-losses"] >= 1 and st["streams-reset"] == 0, st
    ptys.close()
    server.close()


@suite.case("what is no tty is refused by name, and waited for")
def _():
    path = os.path.join(tmpdir(), "plain")
    with open(path, "w"):
        pass
    with Proxy("-c", "isaserial-open:%s" % path) as p:
        p.wait_log(r"waiting for isaserial-open %s: Inappropriate ioctl" % path)


suite.main()
