"""A real va-agent on this machine, at a channel that the host's side connects to.

SPDX-License-Identifier: MIT
"""
import os
import signal

from .env import program, tmpdir
from .proc import Process
from .tap import need
from .wait import wait_until

_count = 0


class NativeAgent(Process):
    """va-agent with directories of its own; conf is the text of agent.conf."""

    def __init__(self, conf=""):
        global _count
        need(program("va-agent"))
        self.dir = os.path.join(tmpdir(), "agent%s" % (_count or ""))
        _count += 1
        os.mkdir(self.dir, 0o700)
        self.conf = os.path.join(self.dir, "agent.conf")
        self.env = {"VA_RUNTIME_DIR": self.dir, "VA_CONF_DIR": self.dir}
        self.host_sock = os.path.join(self.dir, "host.sock")
        channel = os.path.join(self.dir, "channel")
        self.channel = "unix-connect:%s:-" % channel    # the host's word for it
        self.write_conf(conf)
        super().__init__([program("va-agent"), "-c", "unix-listen:%s:-" % channel,
                          "-l", "stderr"], env=self.env)

    def write_conf(self, text):
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(self.conf, 0o600)

    def configure(self, text):
        """Writes agent.conf and has it read."""
        self.write_conf(text)
        n = self.log().count("policy was read anew")
        self.signal(signal.SIGHUP)
        wait_until(lambda: self.log().count("policy was read anew") > n, 10,
                   "agent.conf to be read")
