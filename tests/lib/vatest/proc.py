"""Programs under test: they die with the test, and their output is kept.

SPDX-License-Identifier: MIT
"""
import ctypes
import os
import re
import select
import signal
import subprocess

from .env import scale, tmpdir
from .wait import Timeout, wait_until

# The logs of all programs a test started; tap.py looks for sanitizers' reports.
logs = []

_libc = ctypes.CDLL(None, use_errno=True)
_counter = 0


def _die_with_parent():
    _libc.prctl(1, signal.SIGKILL)      # PR_SET_PDEATHSIG


class Process:
    """A running program; stdout and stderr go to a file unless redirected."""

    def __init__(self, argv, name=None, env=None, cwd=None, **popen):
        global _counter
        _counter += 1
        self.argv = [os.fspath(a) for a in argv]
        self.name = name or os.path.basename(self.argv[0])
        self.log_path = os.path.join(tmpdir(), "%s.%d.log" % (self.name, _counter))
        logs.append(self.log_path)
        with open(self.log_path, "wb") as log:
            popen.setdefault("stdin", subprocess.DEVNULL)
            popen.setdefault("stdout", log)
            popen.setdefault("stderr", log)
            self.popen = subprocess.Popen(
                self.argv, env=dict(os.environ, **(env or {})), cwd=cwd,
                preexec_fn=_die_with_parent, **popen)
        self.pid = self.popen.pid

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def running(self):
        return self.popen.poll() is None

    def check_alive(self):
        status = self.popen.poll()
        if status is not None:
            raise RuntimeError("%s ended with status %d:\n%s" % (self.name, status, self.log()))

    def wait(self, seconds=10):
        """The exit status (negative: the signal), or Timeout."""
        if self.popen.poll() is None:
            fd = os.pidfd_open(self.pid)
            try:
                p = select.poll()
                p.register(fd, select.POLLIN)
                if not p.poll(seconds * scale() * 1000):
                    raise Timeout("waited %g s for %s to end:\n%s"
                                  % (seconds * scale(), self.name, self.log()))
            finally:
                os.close(fd)
        return self.popen.wait()

    def wait_log(self, pattern, seconds=10):
        """Waits for a line in the log; returns the match."""
        def look():
            m = re.search(pattern, self.log(), re.M)
            if not m:
                self.check_alive()
            return m
        try:
            return wait_until(look, seconds, "/%s/ from %s" % (pattern, self.name))
        except Timeout as e:
            raise Timeout("%s:\n%s" % (e, self.log())) from None

    def signal(self, sig):
        self.popen.send_signal(sig)

    def kill(self):
        if self.running():
            self.popen.kill()
        return self.popen.wait()

    def stop(self, seconds=10):
        """SIGTERM and the exit status; a program that does not end fails."""
        if self.running():
            self.popen.terminate()
        try:
            return self.wait(seconds)
        except Timeout:
            self.kill()
            raise

    def children(self):
        with open("/proc/%d/task/%d/children" % (self.pid, self.pid)) as f:
            return [int(p) for p in f.read().split()]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.kill()


def alive(pid):
    """Does the process run?  A zombie does not."""
    try:
        os.kill(pid, 0)
        with open("/proc/%d/stat" % pid, encoding="utf-8") as f:
            return f.read().rsplit(") ", 1)[1][0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False


def run(argv, input=None, seconds=30, env=None, check=False, text=True):
    """Runs a program to its end; the CompletedProcess."""
    given = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
    r = subprocess.run([os.fspath(a) for a in argv], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=text and not isinstance(input, bytes),
                       timeout=seconds * scale(), env=dict(os.environ, **(env or {})),
                       preexec_fn=_die_with_parent, **given)
    if check and r.returncode != 0:
        raise RuntimeError("%s: status %d\n%s\n%s" % (" ".join(map(str, argv)), r.returncode,
                                                      r.stdout, r.stderr))
    return r
