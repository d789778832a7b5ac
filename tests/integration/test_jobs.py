#!/usr/bin/python3
# test_jobs.py - jobs, as one walks who uses them for the first time: start detached,
# list, attach, again, fetch, forget; kill, time limit, terminal and its size, Ctrl-C
#
# SPDX-License-Identifier: MIT
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import Process, Suite, alive, need_all, program, run, scale, tmpdir, \
    wait_until  # noqa: E402

need_all(program("va-agent"), program("va-client"))
suite = Suite()
directory = os.path.join(tmpdir(), "agent")
os.mkdir(directory, 0o700)
ENV = {"VA_RUNTIME_DIR": directory, "VA_CONF_DIR": directory, "VA_GUEST": "", "TERM": "vt100"}
agent = Process([program("va-agent"), "-c", "unix-listen:%s/channel:-" % directory, "-l",
                 "stderr"], env=ENV)
suite.cleanups.append(agent.stop)
suite.on_failure.append(lambda: agent.log()[-3000:])
wait_until(lambda: run([program("va-client"), "ping"], env=ENV).returncode == 0, 20,
           "the agent to answer", 0.1)


def va(*args, code=0, **kw):
    r = run([program("va-client"), *args], env=ENV, **kw)
    assert r.returncode == code, (args, r)
    return r.stdout + r.stderr


def detached(*args):
    return va("exec", "-d", *args).strip()


def row(job):
    """The job's row of `va-client jobs`, "" = there is none."""
    return next((x for x in va("jobs").splitlines() if x.split()[:1] == [job]), "")


class Terminal:
    """va-client on a terminal of its own."""

    def __init__(self, *args, rows=33, cols=99):
        self.seen = b""
        ready, go = os.pipe()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(ENV)
            os.read(ready, 1)
            os.execv(program("va-client"), ["va-client", *args])
        self.resize(rows, cols)
        os.write(go, b"x")
        os.close(ready)
        os.close(go)

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def send(self, data):
        os.write(self.fd, data)

    def wait(self, pattern, seconds=10):
        """Waits for the text; what came since the last one that was waited for."""
        end = time.monotonic() + seconds * scale()
        while not (m := re.search(pattern, self.seen)):
            assert time.monotonic() < end, (pattern, self.seen)
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 4096)
                except OSError:
                    break
        assert m, (pattern, self.seen)
        self.seen = self.seen[m.end():]
        return m

    def status(self):
        end = time.monotonic() + 10 * scale()
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < end, self.seen
            if select.select([self.fd], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.fd, 4096)
                except OSError:
                    time.sleep(0.01)


@suite.case("start detached, list, attach, attach again, fetch, forget")
def _():
    fifo = os.path.join(tmpdir(), "go")
    os.mkfifo(fifo)
    job = detached("--", "sh", "-c", "echo out; echo err >&2; read x <%s; echo late; exit 3" % fifo)
    assert row(job).split()[2:4] == ["running", "-"], va("jobs")
    p = Process([program("va-client"), "attach", job], env=ENV)
    p.wait_log("out")
    with open(fifo, "w", encoding="utf-8") as f:
        f.write("go\n")
    assert p.wait(10) == 3 and "err" in p.log() and "late" in p.log(), p.log()
    assert row(job).split()[2:4] == ["exited", "3"], row(job)
    for _ in range(2):
        r = run([program("va-client"), "attach", job], env=ENV)
        assert (r.returncode, r.stdout, r.stderr) == (3, "out\nlate\n", "err\n"), r
    assert va("call", "guest.exec.read", job) == "out\nlate\n"
    assert va("call", "guest.exec.read", job, "stderr") == "err\n"
    va("kill", "--forget", job)
    assert row(job) == ""
    assert "there is no job " + job in va("attach", job, code=125)
    assert "attach [OPTION...] GUEST | [GUEST] JOB" in va("attach", "--help")


@suite.case("kill: one, several, which signal, what has ended; each error names its job")
def _():
    jobs = [detached("--", "sleep", "600") for _ in range(3)]
    assert "%s still runs; kill it first" % jobs[0] in va("kill", "--forget", jobs[0], code=2)
    va("kill", *jobs[:2])
    va("kill", "-s", "USR1", jobs[2])
    wait_until(lambda: not any("running" in row(j) for j in jobs), 10, "their ends")
    assert [row(j).split()[2:4] for j in jobs] == \
        [["killed", "143"], ["killed", "143"], ["killed", "138"]], va("jobs")
    assert va("attach", jobs[2], code=138) == ""
    out = va("kill", *jobs, code=2)
    assert all("job %s has ended already" % j in out for j in jobs), out
    assert "no signal" in va("kill", "-s", "NOSUCH", jobs[0], code=2)
    va("kill", "--forget", *jobs)
    assert not any(row(j) for j in jobs)
    assert "no such guest" in va("kill", "nosuch", jobs[0], code=2)
    assert "all is no job number" in va("kill", "1", "all", code=3)
    for signo in (signal.SIGSEGV, signal.SIGUSR2, signal.SIGKILL):
        va("exec", "--", "sh", "-c", "kill -%d $$" % signo, code=128 + signo)


@suite.case("the time limit ends the whole group, and says so")
def _():
    mark = os.path.join(tmpdir(), "pids")
    job = detached("--limit", "0.5", "--", "sh", "-c", "trap '' TERM; sleep 600 & echo $! >%s; "
                   "echo $$ >>%s; wait; wait" % (mark, mark))
    wait_until(lambda: "timed out" in row(job), 20, "the limit")
    with open(mark, encoding="utf-8") as f:
        pids = [int(x) for x in f.read().split()]
    assert len(pids) == 2
    wait_until(lambda: not any(alive(p) for p in pids), 10, "the group's end")
    assert "the time limit passed" in va("attach", job, code=124)


@suite.case("a detached job has its terminal: attach, type, resize, leave, come back")
def _():
    job = Terminal("exec", "--tty", "-d", "--", "sh", "-c",
                   "trap 'stty size; echo resized' WINCH; tty; echo term=$TERM; while :; do "
                   "read x && echo got:$x; [ \"$x\" = end ] && exit 7; done").wait(rb"(\d+)\r?\n")
    job = job.group(1).decode()
    assert "running" in row(job), va("jobs")
    t = Terminal("attach", job)
    t.wait(rb"/dev/pts/\d+\r\nterm=vt100\r\n")
    t.send(b"one\r")
    t.wait(rb"got:one\r\n")
    t.resize(40, 120)
    t.send(b"\r")                # some shells run the trap when read returns
    t.wait(rb"40 120\r\nresized")
    os.kill(t.pid, signal.SIGKILL)      # as a lost connection
    assert t.status() == -9
    assert "running" in row(job), va("jobs")
    t = Terminal("attach", job)
    t.wait(rb"got:one")
    t.send(b"end\r")
    t.wait(rb"got:end")
    assert t.status() == 7
    assert row(job).split()[2:4] == ["exited", "7"], row(job)


@suite.case("the end of input on a terminal stays, also for a program that throws it away first")
def _():
    # As a shell does that sets the terminal's modes when it begins.
    out = va("exec", "--tty", "--limit", "20", "--", "python3", "-c",
             "import sys, termios, time; time.sleep(0.3); termios.tcflush(0, termios.TCIFLUSH); "
             "print('got', repr(sys.stdin.read())); print('and', repr(sys.stdin.read()))")
    assert "got ''" in out and "and ''" in out, out
    job = detached("--tty", "--", "sh", "-c", "read x; echo got:$x; read y; echo got:$y")
    assert "got:" in va("attach", job), va("jobs")


@suite.case("attach --no-stdin only watches: neither an empty input nor Ctrl-C ends the job")
def _():
    job = detached("--tty", "--", "sh", "-c", "echo here; read x; echo got:$x")
    p = Process([program("va-client"), "attach", "-n", job], env=ENV)
    p.wait_log("here")
    p.signal(signal.SIGINT)
    assert p.wait(10) == 130
    assert "running" in row(job), va("jobs")
    p = Process([program("va-client"), "attach", job], env=ENV, stdin=subprocess.PIPE)
    p.wait_log("here")
    p.signal(signal.SIGINT)
    assert p.wait(10) == 130
    wait_until(lambda: row(job).split()[2:4] == ["killed", "130"], 10, "the program's end")


@suite.case("one Ctrl-C is one signal, whatever the program says then; a second one leaves")
def _():
    log = os.path.join(tmpdir(), "interrupts")
    p = Process([program("va-client"), "exec", "-T", "-n", "--", "sh", "-c",
                 "trap 'echo int >>%s' INT; echo ready; n=0; while [ $n -lt 40 ]; do sleep 0.02; "
                 "echo more; n=$((n+1)); done; exit 6" % log], env=ENV)
    p.wait_log("ready")
    p.signal(signal.SIGINT)
    assert p.wait(20) == 6
    with open(log, encoding="utf-8") as f:
        assert f.read() == "int\n"
    p = Process([program("va-client"), "exec", "-T", "-n", "--", "sh", "-c",
                 "trap 'echo again' INT; echo ready; while :; do sleep 0.05; done"], env=ENV)
    p.wait_log("ready")
    p.signal(signal.SIGINT)
    p.wait_log("again")
    p.signal(signal.SIGINT)
    assert p.wait(10) == 130


@suite.case("kill -9, as fingers know it; a directory without -r is told how")
def _():
    job = detached("--", "sh", "-c", "trap '' TERM; sleep 600")
    va("kill", "-9", job)
    wait_until(lambda: row(job).split()[2:4] == ["killed", "137"], 10, "its end")
    assert "--tty or -it" in va("exec", "-t", "--", "sh", code=3)
    said = va("get", tmpdir(), os.path.join(tmpdir(), "copy"), code=2)
    assert "is a directory; -r copies directories" in said, said


suite.main()
