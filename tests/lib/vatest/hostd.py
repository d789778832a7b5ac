"""A va-hostd of the test's own, and guests without a machine.

SPDX-License-Identifier: MIT
"""
import json
import os
import re
import shutil
import signal
import socketserver
import threading
import xmlrpc.server

from .env import program, tmpdir
from .proc import Process, run
from .rpc import xmlrpc_proxy
from .tap import need, need_all
from .wait import Lines, connect_unix, wait_until

_count = 0


def need_hostd():
    """Skips the whole program where ours are not built."""
    need_all(program("va-hostd"), program("virtproxy"))


def _fresh(letter):
    """A directory of its own, its path short."""
    global _count
    _count += 1
    path = os.path.join(tmpdir(), "%s%d" % (letter, _count))
    os.mkdir(path, 0o700)
    return path


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer,
              xmlrpc.server.SimpleXMLRPCDispatcher):
    daemon_threads = True
    logRequests = _send_traceback_header = False    # what the handler asks for

    def __init__(self, path):
        xmlrpc.server.SimpleXMLRPCDispatcher.__init__(self, allow_none=True)
        socketserver.UnixStreamServer.__init__(self, path, _Handler)

    def handle_error(self, request, client_address):
        pass                    # a cut connection is a test's daily bread


class _Handler(xmlrpc.server.SimpleXMLRPCRequestHandler):
    disable_nagle_algorithm = False
    protocol_version = "HTTP/1.1"
    rpc_paths = ("/RPC2",)

    def log_message(self, *args):
        pass

    def address_string(self):
        return "unix"


class FakeGuest:
    """The guest's end of a channel: a virtproxy, and an XML-RPC server in Python.

    channel is where QEMU's socket would be; it exists while the guest runs.
    """

    def __init__(self, channel, agent_id="agent-1", version="9.9"):
        need(program("virtproxy"))
        self.dir, self.channel = _fresh("g"), channel
        self.agent_id, self.version = agent_id, version
        self.calls = []
        self.host = os.path.join(self.dir, "host.sock")
        self.server = _Server(os.path.join(self.dir, "agent.sock"))
        self.server.register_function(self.capabilities, "guest.capabilities")
        self.server.register_function(lambda: "pong", "guest.ping")
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.proxy = None
        self.start()

    def capabilities(self):
        self.calls.append("guest.capabilities")
        return {"version": self.version, "agent_id": self.agent_id,
                "boot_id": "boot-1", "methods": ["guest.ping"]}

    def start(self):
        self.proxy = Process(
            [program("virtproxy"), "--role", "guest",
             "-c", "unix-listen:%s:-" % self.channel,
             "-i", "virtagent:%s/agent.sock:-" % self.dir,
             "-o", "virtagent-host:%s:-" % self.host], name="guestproxy")

    def vanish(self):
        """As a QEMU that is killed: the channel is gone without a word."""
        self.proxy.kill()

    def freeze(self):
        self.proxy.signal(signal.SIGSTOP)

    def thaw(self):
        self.proxy.signal(signal.SIGCONT)

    def call_host(self, timeout=10):
        return xmlrpc_proxy(self.host, timeout)

    def close(self):
        self.proxy.kill()
        self.server.shutdown()
        self.server.server_close()


class Hostd:
    """A va-hostd with directories of its own.

    conf is the text of hostd.conf; guests are NAME=CHANNEL words.  home and programs:
    its own directory and that of the programs; before is called when all files are there.
    """

    def __init__(self, guests=(), conf="", args=(), start=True, wrap=(), home=None,
                 programs=None, more_env=None, before=None):
        need(program("va-hostd"), program("virtproxy"))
        self.dir = home or _fresh("h")
        self.program = os.path.join(programs, "va-hostd") if programs else program("va-hostd")
        self.conf_dir = os.path.join(self.dir, "conf")
        self.runtime = os.path.join(self.dir, "run")
        os.makedirs(self.conf_dir, 0o700)
        self.write_conf(conf)
        self.args = list(args)
        self.wrap = list(wrap)      # words that start the daemon's command line
        for g in guests:
            self.args += ["--guest", g]
        self.env = {"VA_RUNTIME_DIR": self.runtime, "VA_CONF_DIR": self.conf_dir,
                    "VA_STATE_DIR": os.path.join(self.dir, "state"), **(more_env or {})}
        self.sock = os.path.join(self.runtime, "hostd.sock")
        self.process = None
        if before:
            before()
        if start:
            self.start()

    def write_conf(self, text, name="hostd.conf"):
        path = os.path.join(self.conf_dir, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, 0o600)
        return path

    def start(self):
        self.process = Process([*self.wrap, self.program, *self.args], name="va-hostd", env=self.env)
        self.process.wait_log(r"serving \d+ guests", 30)   # a thousand take their time
        return self

    def log(self):
        return self.process.log()

    def tail(self):
        """The log's end, without the lines that waiting for something makes."""
        return "\n".join([x for x in self.log().splitlines()
                          if "call host.guest:" not in x and "call host.events:" not in x][-60:])

    def reload(self):
        self.process.signal(signal.SIGHUP)

    def rpc(self, timeout=10):
        return xmlrpc_proxy(self.sock, timeout)

    def guest_dir(self, name):
        return os.path.join(self.runtime, "guests", name)

    def guest_rpc(self, name, timeout=10):
        return xmlrpc_proxy(os.path.join(self.guest_dir(name), "rpc.sock"), timeout)

    def facts(self, name):
        return self.rpc().host.guest(name)

    def wait_state(self, name, state, seconds=20):
        last = [None]

        def look():
            last[0] = self.facts(name)
            return last[0]["state"] == state and last[0]
        try:
            return wait_until(look, seconds, "%s to be %s" % (name, state), 0.05)
        except Exception as e:
            raise type(e)("%s; it is %s\n%s" % (e, last[0], self.tail())) from None

    def events(self, since=0, guest=None):
        """All kept events after since, as dicts."""
        args = (since, 1000) if guest is None else (since, 1000, guest)
        return self.rpc().host.events(*args)["events"]

    def wait_event(self, name, since=0, seconds=20, guest=None):
        def look():
            return [e for e in self.events(since, guest) if e["event"] == name]
        try:
            return wait_until(look, seconds, "the event " + name, 0.05)[0]
        except Exception as e:
            raise type(e)("%s; there are %s\n%s" % (
                e, [x["event"] for x in self.events(since)], self.tail())) from None

    def feed(self, name, since=None):
        """The guest's events.sock, as Lines."""
        s = connect_unix(os.path.join(self.guest_dir(name), "events.sock"))
        if since is not None:
            s.sendall(b"since %d\n" % since)
        return Feed(s)

    def stop_all(self):
        """va-hostd --stop."""
        return run([*self.wrap, self.program, "--stop"], env=self.env)

    def close(self):
        r = self.stop_all()
        log = ""
        if self.process:
            self.process.kill()
            log = self.log()
        shutil.rmtree(self.dir, ignore_errors=True)
        if r.returncode:
            raise RuntimeError("va-hostd --stop: %s" % r.stderr)
        if re.search(r"ERROR: (Address|Leak)Sanitizer|ThreadSanitizer|runtime error:", log):
            raise RuntimeError("a sanitizer reported:\n%s" % log)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Feed:
    """Events as they come."""

    def __init__(self, sock):
        self.sock, self.lines = sock, Lines(sock)

    def next(self, seconds=10):
        return json.loads(self.lines.next(seconds))

    def close(self):
        self.sock.close()
