"""Instructions of a program, counted by valgrind's callgrind.

  p = start(lambda *argv, **kw: Process(argv, **kw), program("va-agent"), "--server-fd", "3")
  reset(p); ...; c = counts(p)
  c.own, c.objects["libxml2"], c.calls("malloc")

A count is what happened between reset() and counts(): the program is stopped
for neither.  System calls cost nothing here.  The sums of CRC-32C are not in "own":
which routine makes them the program decides by timing both, and under valgrind
now the one wins, now the other, which take 300 and 800 instructions for a ping.

SPDX-License-Identifier: MIT
"""
import collections
import glob
import os
import re
import tempfile

from .env import tmpdir
from .proc import run
from .wait import wait_until

NAME = re.compile(r"\((\d+)\)(?: (.*))?$")


class Counts:
    def __init__(self, path, program):
        self.objects = collections.Counter()    # instructions by "libxml2", ...
        self.called = collections.Counter()     # calls by function
        self.crc = 0                            # instructions of crc_*()
        self.program = os.path.basename(program)
        self._read(path)

    own = property(lambda self: self.objects[self.program] - self.crc)
    total = property(lambda self: sum(self.objects.values()))

    def calls(self, *functions):
        return sum(self.called[f] for f in functions)

    def libraries(self, *names):
        return sum(self.objects[n] for n in names)

    def _read(self, path):
        """Callgrind's format: names are spelt out once and then numbers; a line of
        cost belongs to the function above, but the one behind calls= is what the
        callee cost, which stands with the callee already."""
        known, obj, function, callee, skip = {}, "", "", "", False

        def name(kind, text):
            m = NAME.match(text)
            if not m:
                return text
            if m.group(2):
                known[kind, m.group(1)] = m.group(2)
            return known[kind, m.group(1)]

        with open(path, encoding="utf-8", errors="replace") as f:
            for line in f:
                key, _, text = line.rstrip("\n").partition("=")
                if key in ("ob", "cob"):
                    text = name("ob", text)
                    if key == "ob":
                        obj = os.path.basename(text).split(".so")[0]
                elif key in ("fn", "cfn"):
                    text = name("fn", text)
                    # "malloc@@GLIBC_2.2.5", "recursive'2"
                    text = re.split("[@']", text)[0]
                    if key == "cfn":
                        callee = text
                    else:
                        function = text
                elif key == "calls":
                    self.called[callee] += int(text.split()[0])
                    skip = True
                elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
                    words = line.split()
                    if not skip and len(words) > 1:
                        self.objects[obj] += int(words[1])
                        if obj == self.program and function.startswith("crc_"):
                            self.crc += int(words[1])
                    skip = False


def start(starter, program, *args, **more):
    """Starts the program under callgrind with starter(*argv, **more), which
    returns a Process."""
    out = os.path.join(tempfile.mkdtemp(dir=tmpdir()), "out")
    p = starter("valgrind", "--tool=callgrind", "--callgrind-out-file=" + out, "-q", program,
                *args, **more)
    p.callgrind = out, program
    return p


def _control(p, option):
    p.check_alive()
    run(["callgrind_control", option, str(p.pid)], check=True, seconds=30)


def reset(*programs):
    for p in programs:
        _control(p, "-z")


def counts(p):
    """Since reset(); counts again from here."""
    out, program = p.callgrind
    before = set(glob.glob(out + ".*"))
    _control(p, "-d")
    new = wait_until(lambda: set(glob.glob(out + ".*")) - before, 10, "a dump of callgrind")
    return Counts(new.pop(), program)


def whole_run(argv, **more):
    """Runs a program to its end; its Counts."""
    out = os.path.join(tempfile.mkdtemp(dir=tmpdir()), "out")
    run(["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out, "-q", *argv], check=True,
        **more)
    return Counts(out, argv[0])
