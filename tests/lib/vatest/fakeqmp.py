"""A QEMU's monitor without a QEMU: one client at a time, and whatever answers a test wants.

SPDX-License-Identifier: MIT
"""
import json
import os
import socket
import threading


class FakeMonitor:
    """answers: what "return" holds, by command; a callable gets the arguments.

    raw: bytes that are sent instead of a greeting, after which the client is held.
    """

    def __init__(self, path, name=None, uuid=None, channel=None, port="org.virtagent.0",
                 chardev="va", raw=None):
        self.path, self.raw = path, raw
        self.clients = 0
        self.seen = []          # commands, in order
        self.ports = {"vp0": {"name": port, "chardev": chardev}} if port else {}
        self.answers = {
            "qmp_capabilities": {}, "query-status": {"status": "running", "running": True},
            "query-name": {"name": name} if name else {},
            "query-uuid": {"UUID": uuid or "00000000-0000-0000-0000-000000000000"},
            "query-chardev": [{"label": "compat", "filename": "unix:/x,server=on"},
                              {"label": chardev, "frontend-open": False,
                               "filename": self.filename(channel)}],
            "qom-list": lambda a: [{"name": "type", "type": "string"}] + [
                {"name": x, "type": "child<virtserialport>"} for x in self.ports
                if a["path"] == "/machine/peripheral"],
            "qom-get": lambda a: self.ports[a["path"].split("/")[-1]][a["property"]],
        }
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(16)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    @staticmethod
    def filename(channel):
        return channel if channel is None or ":" in channel else \
            "disconnected:unix:%s,server=on" % channel

    def _serve(self):
        while True:
            try:
                client, _ = self.sock.accept()
            except OSError:
                return
            self.clients += 1
            with client:
                try:
                    self._talk(client)
                except OSError:
                    pass        # it left

    def _talk(self, client):
        if self.raw is not None:
            client.sendall(self.raw)
            while client.recv(65536):
                pass
            return
        self._say(client, {"QMP": {"version": {}, "capabilities": []}})
        with client.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                command = message["execute"]
                self.seen.append(command)
                self._say(client, {"event": "RTC_CHANGE", "data": {}})
                if command not in self.answers:
                    self._say(client, {"error": {"class": "CommandNotFound", "desc": "no"}})
                    continue
                answer = self.answers[command]
                self._say(client, {"return": answer(message.get("arguments", {}))
                                   if callable(answer) else answer})

    @staticmethod
    def _say(client, message):
        client.sendall(json.dumps(message).encode() + b"\r\n")

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        if os.path.exists(self.path):
            os.unlink(self.path)
