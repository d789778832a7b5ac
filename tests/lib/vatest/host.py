"""The host's side of a guest, by our own programs.

SPDX-License-Identifier: MIT
"""
import os

from .env import program, tmpdir
from .proc import Process, run
from .tap import need
from .wait import Timeout, wait_until

_count = 0


class Proxy:
    """A virtproxy on one channel of a guest, and va-client through it.

    channel is a unix socket (QEMU listens) or a whole -c argument.
    """

    def __init__(self, channel, args=(), name=None, start=True):
        global _count
        _count += 1
        need(program("virtproxy"))
        if not channel.startswith(("unix-", "tcp-", "pty-", "fd:")):
            channel = "unix-connect:%s:-" % channel
        self.dir = os.path.join(tmpdir(), "p%d" % _count)
        os.mkdir(self.dir, 0o700)
        self.rpc = os.path.join(self.dir, "rpc.sock")
        self.argv = [program("virtproxy"), "-c", channel,
                     "-o", "virtagent:%s:-" % self.rpc, *args]
        self.name = name or "virtproxy%d" % _count
        self.process = None
        if start:
            self.restart()

    def restart(self):
        self.process = Process(self.argv, name=self.name, env={"VA_RUNTIME_DIR": self.dir})

    def client(self, *args, seconds=30, **kw):
        """Runs va-client against this guest; the CompletedProcess."""
        need(program("va-client"))
        return run([program("va-client"), "-G", "unix:" + self.rpc, *args],
                   seconds=seconds, **kw)

    def wait_agent(self, seconds=60):
        """Waits until the agent answers a ping."""
        def ping():
            self.process.check_alive()
            r = self.client("ping")
            last[0] = r
            return r.returncode == 0
        last = [None]
        try:
            wait_until(ping, seconds, "the agent to answer", 0.1)
        except Timeout as e:
            raise Timeout("%s: va-client: status %d %s%s\nvirtproxy:\n%s" % (
                e, last[0].returncode, last[0].stdout, last[0].stderr,
                self.process.log())) from None

    def close(self):
        if self.process:
            self.process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


