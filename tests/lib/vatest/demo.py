"""quickstart's guest: one call over each kind of channel, or a shell beside it.

SPDX-License-Identifier: MIT
"""
import os
import pathlib
import shlex
import subprocess
import sys

from . import SRC, Guest, Skip, program
from .host import Proxy
from .hostd import Hostd

CALL = ["call", "guest.getfile", "/proc/meminfo"]
KINDS = (("virtio-serial", "virtio"), ("isa-serial", "serial"))

BY_HAND = """
The same by hand:

  ./quickstart shell      leaves this guest running, with va-client at hand

For a guest of your own, give QEMU a port and put va-agent-static into the guest:

  qemu-system-x86_64 ... -device virtio-serial \\
      -chardev socket,path=/tmp/agent.sock,server=on,wait=off,id=agent \\
      -device virtserialport,chardev=agent,name=org.virtagent.0,id=agent0

  in the guest:   va-agent                  (no virtio: -c isaserial-open:/dev/ttyS1:-)
  on the host:    build/virtproxy/virtproxy -c unix-connect:/tmp/agent.sock:- \\
                      -o virtagent:/tmp/rpc.sock:- &
                  build/va-client -G unix:/tmp/rpc.sock call guest.getfile /proc/meminfo
"""

SHELL = """
The guest "demo" is up, served by va-hostd over its virtio port.  Try:

  va-client guests                      va-client info demo
  va-client call guest.getfile /proc/meminfo
  va-client exec demo -- uname -a       va-client shell demo
  va-client ls demo:/                   va-client get demo:/etc/inittab .
  va-client events --since 0            va-client dmesg -w demo
  va-client ps demo                     va-client reboot demo --wait
  va-client help                        va-client help guest.getfile

Inside the guest ("va-client shell demo") va-client calls its host.  The other channel,
an isa-serial port, is at hand as: va-client -G "$VA_SERIAL" ping
The guest's console is in $VA_CONSOLE.  Leave this shell to end the guest.
"""


def shell():
    offered = os.path.join(SRC, "dist/commands")
    # Where the build's prefix puts them.
    files = {"/usr%s/lib/virtagent/commands/%s" % (local, name):
             (pathlib.Path(offered, name), 0o755)
             for name in os.listdir(offered) for local in ("", "/local")}
    with Guest(name="demo", programs={"/bin/va-client": program("va-client")},
               files=files, reboot=True) as guest, \
            Proxy(guest.serial) as serial, \
            Hostd(["demo=unix-connect:%s:-" % guest.virtio]) as hostd:
        print("booted under %s in %.1f s" % (guest.accel, guest.boot_seconds), flush=True)
        hostd.wait_state("demo", "connected", 60)
        env = dict(os.environ, **hostd.env, VA_SERIAL="unix:" + serial.rpc,
                   VA_CONSOLE=guest.console_path)
        env.pop("VA_GUEST", None)
        print(SHELL, flush=True)
        # Without a terminal (a script) the shell reads its commands from stdin.
        return subprocess.run([os.environ.get("SHELL") or "/bin/sh"], env=env).returncode


def main(argv):
    print("\n==> booting a guest", flush=True)
    if "--shell" in argv:
        return shell()
    with Guest(name="demo") as guest:
        print("booted under %s in %.1f s" % (guest.accel, guest.boot_seconds))
        proxies = {}
        try:
            for label, attribute in KINDS:
                proxies[attribute] = Proxy(getattr(guest, attribute))
                proxies[attribute].wait_agent()
            for label, attribute in KINDS:
                print("\n==> over %s: va-client %s" % (label, shlex.join(CALL)), flush=True)
                r = proxies[attribute].client(*CALL)
                sys.stdout.write(r.stdout)
                sys.stderr.write(r.stderr)
                if r.returncode or "MemTotal:" not in r.stdout:
                    print("quickstart: the call over %s failed (status %d)"
                          % (label, r.returncode), file=sys.stderr)
                    return 1
        finally:
            for p in proxies.values():
                p.close()
    print(BY_HAND)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Skip as e:
        sys.exit("quickstart: %s" % e)
