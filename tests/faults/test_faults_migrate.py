#!/usr/bin/python3
# time-limit: 900
# test_faults_migrate.py - live migration to a second QEMU under load: the new host
# attached before and after the switch, the old one listening on (V14, V17).
# What must hold after each is in tests/lib/vatest/faults.py.
#
# SPDX-License-Identifier: MIT
import time

from vatest import Guest, Suite
from vatest.faults import GUEST_BOOT, Rig, guest_files

suite = Suite()
guest = Guest(name="faults", files=guest_files(), boot=GUEST_BOOT)
suite.cleanups.append(lambda: rig.guest.close())
suite.on_failure.append(lambda: rig.guest.report())
rig = Rig(suite, guest)


@suite.case("the load runs on both channels")
def _():
    rig.begin()


def move(links, early):
    """Migrates; each link's virtproxy is a new one on the new QEMU's socket.  early:
    it is attached before the guest runs there."""
    old, olds = rig.guest, {k: link.proxy for k, link in links.items()}
    new = old.destination()

    def attach():
        return {k: link.start(getattr(new, k)) for k, link in links.items()}
    fresh = attach() if early else None
    old.migrate_to(new)
    rig.guest = new
    if not early:
        time.sleep(1.5)                 # the guest writes, and nobody takes it
        fresh = attach()
    over = time.monotonic()
    for k, link in links.items():
        link.proxy = fresh[k]
    # The old ones drain what the old QEMU still hands out, for a while.
    time.sleep(1)
    for p in olds.values():
        p.close()
    old.close()
    return over


for early in (True, False):
    @suite.case("migrated, the new host attached %s the switch" % ("before" if early else "after"))
    def _(early=early):
        rig.fault("live migration, host attached %s (V14, V17)" % ("before" if early else "after"),
                  lambda links, _n: move(links, early), rewinds=True)


suite.main()
