"""One real guest that a va-hostd serves twice: "vm1" on virtio-serial, "ser" on
isa-serial.

  both = Both(suite, "[hostd]\\n...", files={...})     # the rest are the guest's options

  @both.each("files")
  def _(g):                     # a case for each channel; g is "vm1" or "ser"
      both.rpc(g).ping()

SPDX-License-Identifier: MIT
"""
import os

from .env import program
from .guest import Guest
from .hostd import Hostd

GUESTS = {"vm1": "virtio-serial", "ser": "isa-serial"}
# Each agent of the guest has its runtime directory; va-client there chooses by it.
INSIDE = {"vm1": "", "ser": "VA_RUNTIME_DIR=/run/virtagent.1 "}


class Both:
    def __init__(self, suite, conf, **options):
        self.suite = suite
        self.guest = Guest(programs={"/bin/va-client": program("va-client")}, **options)
        suite.cleanups.append(self.guest.close)
        suite.on_failure.append(self.guest.report)
        self.hostd = Hostd(["vm1=unix-connect:%s:-" % self.guest.virtio,
                            "ser=unix-connect:%s:-" % self.guest.serial], conf=conf)
        suite.cleanups.append(self.hostd.close)
        suite.on_failure.append(self.hostd.tail)

    def each(self, name):
        """A case for each kind of channel."""
        def add(fn):
            for g, kind in GUESTS.items():
                self.suite.case("%s: %s" % (kind, name))(lambda g=g: fn(g))
        return add

    def rpc(self, g):
        return self.hostd.guest_rpc(g, 60).guest

    def sock(self, g):
        return os.path.join(self.hostd.guest_dir(g), "rpc.sock")
