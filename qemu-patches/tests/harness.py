"""QEMU with the series, and its monitors.

Environment: VA_QEMU is the patched qemu-system-x86_64 (qemu-patches/check sets
it).

SPDX-License-Identifier: MIT
"""
import json
import os
import re
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(HERE)), "tests", "lib"))

from vatest import Process, Skip, Timeout, connect_unix, scale, tmpdir, wait_for_socket  # noqa: E402,I100
from vatest.qmp import QMP, QMPError  # noqa: E402

PROMPT = "(qemu) "


def quick(process):
    """One monitor must answer so fast whatever another one waits for; with
    AddressSanitizer everything takes several times longer."""
    with open("/proc/%d/maps" % process.pid) as f:
        return 0.050 * scale() * (5 if "libasan" in f.read() else 1)


def _waited(tasks):
    """Seconds that these threads have waited for a processor."""
    total = 0
    for t in tasks:
        try:
            with open(t + "/schedstat") as f:
                total += int(f.read().split()[1])
        except (OSError, IndexError):
            pass                         # the kernel does not count it
    return total / 1e9


def _answering(process):
    """The threads that a monitor's answer needs: QEMU's and our own."""
    tasks = ["/proc/thread-self", "/proc/%d/task/%d" % (process.pid, process.pid)]
    for tid in os.listdir("/proc/%d/task" % process.pid):
        path = "/proc/%d/task/%s" % (process.pid, tid)
        with open(path + "/comm") as f:
            if f.read().startswith("mon_iothread"):
                tasks.append(path)
    return tasks


def latency(process, monitor):
    """Seconds that query-status takes on a monitor, without the time for
    which the machine had something else to do."""
    tasks = _answering(process)
    before, began = _waited(tasks), time.monotonic()
    monitor("query-status")
    return time.monotonic() - began - (_waited(tasks) - before)


def calm(process, monitor, seconds):
    """For so long, query-status is quick on the monitor; the longest it took.

    A main loop that waits does so each time.  A machine that is busy does
    not: then this is tried again, three times in all."""
    for _ in range(3):
        worst, end = 0.0, time.monotonic() + seconds
        while not worst or time.monotonic() < end:
            worst = max(worst, latency(process, monitor))
        if worst < quick(process):
            return worst
    raise AssertionError("query-status took %.3f s on another monitor" % worst)


def qemu_program():
    path = os.environ.get("VA_QEMU")
    if not path or not os.access(path, os.X_OK):
        raise Skip("VA_QEMU does not name a patched QEMU: run qemu-patches/check")
    return path


class Monitor(QMP):
    """A QMP monitor with the agent's commands."""

    def call(self, command, seconds=30, **arguments):
        """Runs an agent command; the data of its AGENT_REPLY.  No reply may
        come before the number of its call."""
        got = self(command, **arguments)
        assert list(got) == ["id"], got
        for e in self.events:
            assert e["event"] != "AGENT_REPLY" or e["data"]["id"] != got["id"], \
                "AGENT_REPLY came before the number of its call"
        return self.reply(got["id"], seconds)

    def reply(self, number, seconds=30):
        deadline = time.monotonic() + seconds * scale()
        while True:
            for i, e in enumerate(self.events):
                if e["event"] == "AGENT_REPLY" and e["data"]["id"] == number:
                    data = self.events.pop(i)["data"]
                    assert ("return" in data) != ("error" in data), data
                    return data
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout("no AGENT_REPLY for call %d" % number)
            answer = json.loads(self.lines.next(left / scale()))
            if "event" in answer:
                self.events.append(answer)

    def error(self, command, **arguments):
        """The error that a command's AGENT_REPLY carries."""
        data = self.call(command, **arguments)
        assert "error" in data, data
        return data["error"]

    def refused(self, command, **arguments):
        """(class, desc) of the error that a command ends with at once."""
        message = {"execute": command, "arguments": arguments}
        self.sock.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = json.loads(self.lines.next(30))
            if "event" in answer:
                self.events.append(answer)
                continue
            assert "error" in answer, answer
            return answer["error"]["class"], answer["error"]["desc"]


class Human:
    """An interactive human monitor, as socat or telnet shows it."""

    def __init__(self, path, alive=None):
        self.sock = wait_for_socket(path, 20, alive)
        self.text = ""
        self.until_prompt()

    def send(self, line):
        self.sock.sendall(line.encode() + b"\n")

    def until_prompt(self, seconds=30):
        """What was printed up to the next prompt."""
        deadline = time.monotonic() + seconds * scale()
        while not self.text.endswith(PROMPT):
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout("no prompt, only: %r" % self.text[-500:])
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                continue
            if not data:
                raise EOFError("the monitor closed")
            self.text += data.decode("utf-8", "replace")
        out, self.text = self.text[:-len(PROMPT)], ""
        return out

    def __call__(self, line, seconds=30):
        """What a command prints, without the echo of the line."""
        self.send(line)
        out = self.until_prompt(seconds)
        # readline echoes by redrawing; the command's output is after its line end
        return re.sub(r"^.*?\r\n", "", out, count=1, flags=re.S).replace("\r\n", "\n")

    def close(self):
        self.sock.close()


class Qemu:
    """QEMU without a guest: its monitors only.  Two of QMP, two of HMP."""

    def __init__(self, *args):
        program = qemu_program()
        self.dir = os.path.join(tmpdir(), "q%d" % id(self))
        os.mkdir(self.dir)
        argv = [program, "-machine", "none", "-nodefaults", "-display", "none", "-S"]
        for name, mode in (("qmp1", "control"), ("qmp2", "control"), ("hmp1", "readline"),
                           ("hmp2", "readline")):
            argv += ["-chardev", "socket,id=%s,path=%s,server=on,wait=off"
                     % (name, self.path(name)), "-mon", "chardev=%s,mode=%s" % (name, mode)]
        self.process = Process(argv + list(args), name="qemu")
        alive = self.process.check_alive
        self.qmp1 = Monitor(self.path("qmp1"), alive)
        self.qmp2 = Monitor(self.path("qmp2"), alive)
        self.hmp1 = Human(self.path("hmp1"), alive)
        self.hmp2 = Human(self.path("hmp2"), alive)

    def path(self, name):
        return os.path.join(self.dir, name)

    def close(self):
        """Ends QEMU as a person does; its status must be 0 (ASan's is not)."""
        if self.process.running():
            try:
                self.qmp1("quit")
            except EOFError:
                pass
        status = self.process.wait(20)
        log = self.process.log()
        assert status == 0 and "ERROR: " not in log and "runtime error" not in log, \
            "QEMU ended with status %d:\n%s" % (status, log)


__all__ = ["Human", "Monitor", "PROMPT", "Process", "QMPError", "Qemu", "Skip",
           "Timeout", "calm", "connect_unix", "latency", "qemu_program", "quick", "scale", "tmpdir"]
