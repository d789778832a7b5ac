"""A QMP client: commands, events, HMP.

SPDX-License-Identifier: MIT
"""
import json
import time

from .env import scale
from .wait import Lines, Timeout, wait_for_socket


class QMPError(Exception):
    pass


class QMP:
    def __init__(self, path, alive=None):
        self.sock = wait_for_socket(path, 20, alive)
        self.lines = Lines(self.sock)
        self.events = []
        self.lines.next(20)                              # the greeting
        self("qmp_capabilities")

    def __call__(self, command, seconds=60, **arguments):
        """Runs a command and returns its "return"; underscores in the names of
        arguments become dashes."""
        message = {"execute": command}
        if arguments:
            message["arguments"] = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.sock.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = json.loads(self.lines.next(seconds))
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise QMPError("%s: %s" % (command, answer["error"].get("desc")))
            else:
                return answer["return"]

    def hmp(self, line, seconds=120):
        """A human monitor command; raises if it printed an error."""
        text = self("human-monitor-command", seconds, command_line=line)
        if text.startswith("Error"):
            raise QMPError("%s: %s" % (line, text.strip()))
        return text

    def wait_event(self, name, seconds=30):
        deadline = time.monotonic() + seconds * scale()
        while True:
            for i, event in enumerate(self.events):
                if event["event"] == name:
                    return self.events.pop(i)
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout("no QMP event %s in %g s" % (name, seconds * scale()))
            answer = json.loads(self.lines.next(left / scale()))
            if "event" in answer:
                self.events.append(answer)

    def close(self):
        self.sock.close()
