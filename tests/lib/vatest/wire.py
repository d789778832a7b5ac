"""virtproxy's protocol (virtproxy/PROTOCOL) by hand, for peers that break it.

COBS frames only, so the channel is said to be a serial line.  As a program it is
one evil peer: wire.py ROLE SOCKET ATTACK SECONDS (attacks: ATTACKS below) connects
to or listens at SOCKET, does its worst and prints what it got through.

SPDX-License-Identifier: MIT
"""
import os
import random
import socket
import struct
import sys
import time

HELLO, OFFER, ACCEPT, RESET, ACK, NAK, BEACON = range(1, 8)
OPEN, DATA, RST, CREDIT, GOAWAY = range(0x10, 0x15)
VR = {"host": 0x10, "guest": 0x18}
COMPACT = 4                     # feature bit 2
M64 = (1 << 64) - 1

_table = []
for _i in range(256):
    for _ in range(8):
        _i = _i >> 1 ^ (0x82F63B78 if _i & 1 else 0)
    _table.append(_i)


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for b in data:
        crc = crc >> 8 ^ _table[(crc ^ b) & 0xFF]
    return crc ^ 0xFFFFFFFF


def cobs(data):
    out = bytearray()
    for part in data.split(b"\0"):
        while len(part) >= 254:
            out += b"\xff" + part[:254]
            part = part[254:]
        out += bytes([len(part) + 1]) + part
    return bytes(out)


def uncobs(data):
    out, i = bytearray(), 0
    while i < len(data):
        n = data[i]
        out += data[i + 1:i + n]
        i += n
        if n < 255 and i < len(data):
            out.append(0)
    return bytes(out)


def splitmix(x):
    x = (x + 0x9e3779b97f4a7c15) & M64
    x = ((x ^ x >> 30) * 0xbf58476d1ce4e5b9) & M64
    x = ((x ^ x >> 27) * 0x94d049bb133111eb) & M64
    return x ^ x >> 31


def frame(role, type_, flags=0, body=b"", vr=None):
    content = bytes([VR[role] if vr is None else vr, type_, flags]) + body
    return b"\0" + cobs(content + struct.pack("<I", crc32c(content))) + b"\0"


class Peer:
    """One end of a link, over a connected socket."""

    def __init__(self, role, sock, channel=1, version=1, features=0, payload=512, streams=64,
                 window=16384, credit=4096, extra=b""):
        self.role, self.sock, self.extra = role, sock, extra
        self.limits = (channel, 0, version, features)
        self.sizes = (payload, streams, window, credit, 0)
        self.data = b""
        self.seq = self.ack = self.data_stream = 0
        self.heard = []
        sock.sendall(b"\0" * 32)

    def handshake(self, type_, mine, yours):
        c, why, version, features = self.limits
        if self.role == "host":
            c = 0
        return frame(self.role, type_, 0, struct.pack("<BBBIQQHHIII", c, why, version, features,
                                                      mine, yours, *self.sizes) + self.extra)

    def frames(self, seconds):
        """Frames that come, as (vr, type, flags, body), until the time is over."""
        end = time.monotonic() + seconds
        while True:
            while b"\0" in self.data:
                one, self.data = self.data.split(b"\0", 1)
                content = uncobs(one) if one else b""
                whole = self.whole(content) if content and content[0] >> 4 == 2 else None
                if whole:
                    yield whole
                    continue
                if len(content) >= 7 and crc32c(content[:-4]) == \
                        struct.unpack("<I", content[-4:])[0]:
                    yield content[0], content[1], content[2], content[3:-4]
            left = end - time.monotonic()
            if left <= 0:
                return
            self.sock.settimeout(left)
            try:
                more = self.sock.recv(65536)
            except TimeoutError:
                return
            if not more:
                raise EOFError("the other side closed")
            self.data += more

    def whole(self, content):
        """A compact frame as the one it stands for, if it is what take() expects next."""
        if not self.limits[3] & COMPACT or len(content) < 6:
            return None
        lr, at, stream, type_ = content[0], 2, self.data_stream, DATA
        flags = (lr & 1) << 1 | (lr & 2) << 6
        if lr & 4:
            more, at = content[2], 3
            type_, flags = OPEN + (more & 7), flags | more >> 3 & 1
            if more & 16:
                shift = stream = 0
                while True:
                    stream |= (content[at] & 127) << shift
                    at, shift = at + 1, shift + 7
                    if content[at - 1] < 128:
                        break
        body = content[at:-4]
        chain = crc32c(struct.pack("<IIBB", self.ack, stream, type_, flags) + body, self.chain_in)
        # All of ours is acknowledged by then, or the frame is passed over.
        check = crc32c(content[:at] + struct.pack("<II", self.seq, self.chain), chain)
        if check != struct.unpack("<I", content[-4:])[0]:
            return None
        return 0x10 | lr & 8, type_, flags, struct.pack(
            "<IIIIII", self.epoch, self.ack, self.seq, self.chain, self.chain_in, stream) + body

    def wait(self, type_, seconds=10):
        for f in self.frames(seconds):
            self.heard.append(f)
            if f[1] == type_ and f[0] != VR[self.role]:
                return f
        raise TimeoutError("no frame of type %d; heard %s" % (type_, [h[1] for h in self.heard]))

    def connect(self, seconds=10):
        """The handshake; what the other side said of itself."""
        if self.role == "guest":
            guest = random.getrandbits(63) | 1
            self.sock.sendall(self.handshake(HELLO, guest, 0))
            body = self.wait(OFFER, seconds)[3]
            host = struct.unpack_from("<Q", body, 7)[0]
            self.sock.sendall(self.handshake(ACCEPT, guest, host))
        else:
            # It speaks first, or is asked to.
            self.sock.sendall(self.handshake(HELLO, 0, 0))
            body = self.wait(HELLO, seconds)[3]
            guest, host = struct.unpack_from("<Q", body, 7)[0], random.getrandbits(63) | 1
            self.sock.sendall(self.handshake(OFFER, host, guest))
            self.wait(ACCEPT, seconds)
        a = splitmix((host + splitmix(guest)) & M64)
        self.epoch, self.tag = a & 0xFFFFFFFF, a >> 32
        self.chain = self.epoch
        self.chain_in = self.epoch
        return body

    def control(self, type_, flags=0, body=b""):
        return frame(self.role, type_, flags, struct.pack(
            "<IIII", self.epoch, self.tag, self.ack, self.chain_in) + body)

    def sequenced(self, type_, stream, body=b"", flags=0):
        f = frame(self.role, type_, flags, struct.pack(
            "<IIIIII", self.epoch, self.seq, self.ack, self.chain_in, self.chain, stream) + body)
        self.chain = crc32c(struct.pack("<IIBB", self.seq, stream, type_, flags) + body, self.chain)
        self.seq = (self.seq + 1) & 0xFFFFFFFF
        return f

    def open(self, stream, service):
        s = service.encode()
        return self.sequenced(OPEN, stream, struct.pack("<III", 0, 0, 0) + bytes([len(s)]) + s)

    def take(self, f):
        """Takes note of a sequenced frame, so that the next ack covers it."""
        vr, type_, flags, body = f
        if type_ < OPEN:
            return
        seq, stream = struct.unpack_from("<I", body, 4)[0], struct.unpack_from("<I", body, 20)[0]
        if seq == self.ack:
            self.chain_in = crc32c(struct.pack("<IIBB", seq, stream, type_, flags) + body[24:],
                                   self.chain_in)
            self.ack = (self.ack + 1) & 0xFFFFFFFF
            if type_ == DATA:
                self.data_stream = stream


# --- attacks: bytes to send, without end ------------------------------------

def noise(p):
    block = random.randbytes(1 << 20)
    while True:
        yield block


def zeros(p):
    while True:
        yield bytes(1 << 20)


def hellos(p):
    """Handshakes with ever other numbers, offers that nobody asked for."""
    block = b"".join(p.handshake(t, random.getrandbits(63) | 1, random.getrandbits(64))
                     for _ in range(200) for t in (HELLO, OFFER, ACCEPT))
    while True:
        yield block


def foreign(p):
    """Frames of other epochs, echoes of the other's own, unknown types."""
    p.connect()
    mine, block = p.epoch, b""
    for i in range(300):
        p.epoch = random.getrandbits(32)
        block += p.control(1 + i % 15, i & 255, random.randbytes(i % 40))
    p.epoch = mine
    block += b"".join(frame(p.role, t, 0, random.randbytes(60), vr=v)
                      for t in range(256) for v in (0x10, 0x18, 0x20, 0xf8))
    while True:
        yield block


def challenges(p):
    p.connect()
    while True:
        yield b"".join(p.control(BEACON, 1, struct.pack("<IQ", 0, random.getrandbits(64) or 1))
                       for _ in range(100))


def opens(p):
    """Streams without end, with a call each that is never read."""
    p.connect()
    service = "virtagent-host" if p.role == "guest" else "virtagent"
    call = b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: 400\r\n\r\n" + b"x" * 300
    stream = 1 if p.role == "guest" else 2
    while True:
        yield p.open(stream, service) + p.sequenced(DATA, stream, call)
        stream += 2


def overflow(p):
    """Far more bytes than credit was given for, on one stream."""
    p.connect()
    stream = 1 if p.role == "guest" else 2
    yield p.open(stream, "virtagent-host" if p.role == "guest" else "virtagent")
    while True:
        yield p.sequenced(DATA, stream, b"y" * 512)


ATTACKS = {f.__name__: f for f in (noise, zeros, hellos, foreign, challenges, opens, overflow)}


def attack(role, path, name, seconds):
    end, sent, connections = time.monotonic() + seconds, 0, 0
    listener = None
    if role == "guest":
        listener = socket.socket(socket.AF_UNIX)
        if os.path.exists(path):
            os.unlink(path)
        listener.bind(path)
        listener.listen(1)
    while time.monotonic() < end:
        try:
            if listener:
                listener.settimeout(max(0.1, end - time.monotonic()))
                sock = listener.accept()[0]
            else:
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(path)
            connections += 1
            with sock:
                p = Peer(role, sock)
                for data in ATTACKS[name](p):
                    sock.settimeout(max(0.1, end - time.monotonic()))
                    sock.sendall(data)
                    sent += len(data)
                    if time.monotonic() > end:
                        break
        except (OSError, EOFError):
            time.sleep(0.05)
    print("%s as %s: %d connections, %.1f MB" % (name, role, connections, sent / 1e6))


if __name__ == "__main__":
    attack(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
