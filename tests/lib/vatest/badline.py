"""A byte line that misbehaves as it is told, and again in the same way.

  line = BadLine(seed, a=Pty(), b=Pty(), faults={"flip": 10000})
  line = BadLine(seed, a=Listen(path), b=Dial(qemus_path), ab={...}, ba={...})

It sits between two ends, each a pty whose other side a program opens, a unix
socket that a program connects to, or one that it connects to itself (QEMU's
chardev, a virtproxy that listens).  faults (ab, ba: of one way alone) gives for
each kind the mean number of bytes between two of it:

  flip, drop, insert   one byte: a bit of it flipped, lost, a random one before it
  burst                up to 1000 bytes lost in a row
  text                 a kernel's console line between two bytes
  dup                  the last bytes, up to 4000, once more
  echo                 the last bytes, up to 300, back to where they came from
  stall                nothing passes for up to STALL seconds
  cut                  sockets: both connections end, what was under way is lost;
                       ptys: what is under way is lost

and for all bytes: slice=N (writes of 1 to N bytes), delay=SECONDS, rate=BYTES a
second.  By hand: hold(), cut(), and mark() with replay(), which sends what came
since the mark again, as a side that was set back there would.

Where a fault strikes and what it does is drawn per way and kind from the seed and
depends on the number of the byte alone, not on how reads happen to be cut up:
so a seed replays.  `log` lists (way, byte number, kind, what).

SPDX-License-Identifier: MIT
"""
import collections
import os
import random
import select
import socket
import threading
import time
import tty

from .env import scale

HISTORY = 1 << 16
HELD_MAX = 1 << 16      # bytes of one way under way; then its source is not read
STALL = 0.4
TEXT = (b"[   12.345678] random: crng init done\r\n",
        b"[ 1034.000001] clocksource: timekeeping watchdog on CPU0\r\n\x00",
        b"login: ", b"AT+GCAP\r\n", b"\x1b[6n")


class Pty:
    """The program opens `name`."""
    keeps = True

    def __init__(self):
        self.fd, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.name = os.ttyname(self.slave)
        os.set_blocking(self.fd, False)

    def ready(self):
        return True

    def drop(self):
        pass

    def close(self):
        os.close(self.slave)    # first: a program's blocked write is let go
        os.close(self.fd)


class _Socket:
    keeps = False
    fd = -1

    def _take(self, conn):
        conn.setblocking(False)
        self.conn, self.fd = conn, conn.fileno()
        return True

    def drop(self):
        if self.fd >= 0:
            self.conn.close()
            self.fd = -1

    def close(self):
        self.drop()


class Listen(_Socket):
    """A program connects to path."""

    def __init__(self, path):
        self.name = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.listener.setblocking(False)

    def ready(self):
        try:
            return self.fd >= 0 or self._take(self.listener.accept()[0])
        except OSError:
            return False

    def close(self):
        super().close()
        self.listener.close()


class Dial(_Socket):
    """Connects to path when the other end is there."""

    def __init__(self, path):
        self.name = path

    def ready(self):
        if self.fd >= 0:
            return True
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(self.name)
        except OSError:
            s.close()
            return False
        return self._take(s)


class Way:
    """One direction: bytes in, pieces out."""

    def __init__(self, seed, name, faults, log):
        f = dict(faults)
        self.name, self.log = name, log
        self.slice, self.delay, self.rate = (f.pop("slice", 0), f.pop("delay", 0),
                                             f.pop("rate", 0))
        self.mean = {k: m for k, m in f.items() if m}
        unknown = set(self.mean) - set(KINDS)
        if unknown:
            raise ValueError("no such fault: %s" % unknown)
        self.rng = {k: random.Random("%s/%s/%s" % (seed, name, k)) for k in KINDS}
        self.slices = random.Random("%s/%s/slice" % (seed, name))
        self.back = None                # the other way
        self.taken = 0                  # bytes that came in
        self.at = {k: self._draw(k) for k in self.mean}
        self.history = bytearray()
        self.marked = None
        self.out = collections.deque()  # (not before, bytes)
        self.held = 0
        self.hold_until = self.rate_at = 0.0
        self.cut = False
        self.lost = 0                   # bytes of a burst that are still to come

    def _draw(self, kind):
        return self.taken + int(self.rng[kind].expovariate(1 / self.mean[kind]))

    def put(self, data):
        if data:
            self.out.append((time.monotonic() + self.delay, bytes(data)))
            self.held += len(data)

    def feed(self, data):
        """Bytes came from the way's source."""
        view = memoryview(data)
        while view:
            kind = min(self.at, key=self.at.get, default=None)
            n = len(view)
            if kind:                # two kinds at one byte: the second strikes the next
                n = min(n, max(0, self.at[kind] - self.taken))
            lost = min(self.lost, n)
            self.lost -= lost
            self.put(view[lost:n])
            self._remember(view[:n])
            view = view[n:]
            if not view:
                break
            view = self._strike(kind, view)
            self.at[kind] = self._draw(kind)

    def _remember(self, data):
        self.taken += len(data)
        self.history += data
        if self.marked is not None:
            self.marked += data
        del self.history[:-HISTORY]

    def _strike(self, kind, view):
        """A fault before view[0]; what is left of view."""
        rng, byte = self.rng[kind], bytes(view[:1])
        eaten, what = 0, ""
        if kind == "flip":
            what = 1 << rng.randrange(8)
            self.put(bytes([byte[0] ^ what]))
            eaten = 1
        elif kind == "drop":
            eaten = 1
        elif kind == "burst":
            what = rng.randint(1, 1000)
            self.lost += what - 1
            eaten = 1
        elif kind == "insert":
            what = rng.randrange(256)
            self.put(bytes([what]))
        elif kind == "text":
            what = rng.choice(TEXT)
            self.put(what)
        elif kind == "dup":
            what = rng.randint(1, 4000)
            self.put(self.history[-what:])
        elif kind == "echo":
            what = rng.randint(1, 300)
            self.back.put(self.history[-what:])
        elif kind == "stall":
            what = rng.random() * STALL
            self.hold_until = time.monotonic() + what
        else:
            self.cut = True
        self.log.append((self.name, self.taken, kind, what))
        self._remember(view[:eaten])
        if not eaten:               # the byte itself passes: no second fault at it
            self.put(byte)
            self._remember(byte)
            eaten = 1
        return view[eaten:]

    def due(self):
        """Seconds until the next piece may go; None: nothing is held."""
        if not self.out:
            return None
        return max(0.0, max(self.out[0][0], self.hold_until, self.rate_at) - time.monotonic())

    def write(self, fd):
        """Writes what is due; False when the fd takes no more."""
        while self.due() == 0.0:
            when, data = self.out[0]
            n = len(data)
            if self.slice:
                n = self.slices.randint(1, self.slice)
            if self.rate:           # a few milliseconds' worth at a time
                n = min(n, max(16, self.rate // 500))
            n = os.write(fd, data[:n])
            self.held -= n
            if n == len(data):
                self.out.popleft()
            else:
                self.out[0] = when, data[n:]
            if self.rate:
                now = time.monotonic()
                self.rate_at = max(self.rate_at, now - 0.02) + n / self.rate
        return True

    def lose(self):
        self.out.clear()
        self.held = 0


KINDS = ("flip", "drop", "burst", "insert", "text", "dup", "echo", "stall", "cut")


class BadLine:
    def __init__(self, seed, a, b, faults=None, ab=None, ba=None):
        self.seed, self.a, self.b, self.log = seed, a, b, []
        self.ab = Way(seed, "ab", faults or ab or {}, self.log)
        self.ba = Way(seed, "ba", faults or ba or {}, self.log)
        self.ab.back, self.ba.back = self.ba, self.ab
        self.ways = ((a, b, self.ab), (b, a, self.ba))
        self.lock = threading.Lock()
        self.over = False
        self.joined = False
        self.cuts = 0
        print("# line: seed %s, %s" % (seed, dict(faults or {"ab": ab, "ba": ba})), flush=True)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    # --- by hand ------------------------------------------------------------

    def hold(self, seconds):
        with self.lock:
            for w in (self.ab, self.ba):
                w.hold_until = time.monotonic() + seconds

    def cut(self):
        with self.lock:
            self._cut()

    def mark(self, way):
        with self.lock:
            way.marked = bytearray()

    def replay(self, way):
        with self.lock:
            way.log.append((way.name, way.taken, "replay", len(way.marked)))
            way.put(way.marked)

    def faults(self):
        return collections.Counter(kind for _, _, kind, _ in self.log)

    def report(self):
        return "line of seed %s: %s; the last: %s" % (self.seed, dict(self.faults()),
                                                      self.log[-5:])

    # --- the pump -------------------------------------------------------------

    def _cut(self):
        self.cuts += 1
        self.joined = False
        for w in (self.ab, self.ba):
            w.lose()
            w.cut = False
        for end in (self.a, self.b):
            end.drop()

    def _join(self):
        """Sockets: the dialled end follows the other, as QEMU's client comes and goes."""
        first, second = (self.b, self.a) if isinstance(self.a, Dial) else (self.a, self.b)
        if first.ready() and not second.ready():
            first.drop()        # nobody is behind the line
        self.joined = first.fd >= 0 and second.fd >= 0

    def _move(self, source, way):
        data = os.read(source.fd, 16384)
        if not data and not source.keeps:
            raise ConnectionResetError
        way.feed(data)

    def _round(self, events):
        with self.lock:
            if not self.joined:
                self._join()
            if not self.joined:
                return
            try:
                for source, to, way in self.ways:
                    if events.get(source.fd, 0) & (select.POLLIN | select.POLLHUP):
                        self._quietly(self._move, source, way)
                for source, to, way in self.ways:
                    self._quietly(way.write, to.fd)
                if self.ab.cut or self.ba.cut:
                    self._cut()
            except OSError:         # a side closed: so does the line
                self._cut()

    @staticmethod
    def _quietly(fn, *args):
        try:
            fn(*args)
        except BlockingIOError:
            pass

    def _wait(self):
        """What to poll for, and how long."""
        poll, wait = select.poll(), 0.5
        if not self.joined:
            return poll, 0.02
        for source, to, way in self.ways:
            due = way.due()
            events = {source.fd: select.POLLIN if way.held < HELD_MAX else 0}
            if due == 0.0:          # what could not be written
                events[to.fd] = events.get(to.fd, 0) | select.POLLOUT
            elif due is not None:
                wait = min(wait, due)
            for fd, what in events.items():
                self.want[fd] = self.want.get(fd, 0) | what
        for fd, what in self.want.items():
            poll.register(fd, what)
        return poll, wait

    def _run(self):
        while not self.over:
            self.want = {}
            with self.lock:
                poll, wait = self._wait()
            self._round(dict(poll.poll(max(wait, 0.0002) * 1000)))

    def close(self):
        self.over = True
        self.thread.join(5 * scale())
        self.a.close()
        self.b.close()
