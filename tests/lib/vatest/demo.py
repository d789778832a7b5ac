"""quickstart's guest: one call over each kind of channel, or a shell beside it.

SPDX-License-Identifier: MIT
"""
import os
import shlex
import subprocess
import sys

from . import Guest, Skip
from .host import Proxy

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
The guest is up.  Its two channels:

  va-client ...                      over virtio-serial (VA_GUEST is set)
  va-client -G "$VA_SERIAL" ...      over isa-serial

Try:  va-client call guest.getfile /proc/meminfo
      va-client methods
      va-client help guest.getfile

The guest's console is in $VA_CONSOLE.  Leave this shell to end the guest.
"""


def shell(guest, proxies):
    env = dict(os.environ, VA_GUEST="unix:" + proxies["virtio"].rpc,
               VA_SERIAL="unix:" + proxies["serial"].rpc, VA_CONSOLE=guest.console_path)
    print(SHELL)
    # Without a terminal (a script) the shell reads its commands from stdin.
    return subprocess.run([os.environ.get("SHELL") or "/bin/sh"], env=env).returncode


def main(argv):
    print("\n==> booting a guest", flush=True)
    with Guest(name="demo") as guest:
        print("booted under %s in %.1f s" % (guest.accel, guest.boot_seconds))
        proxies = {}
        try:
            for label, attribute in KINDS:
                proxies[attribute] = Proxy(getattr(guest, attribute))
                proxies[attribute].wait_agent()
            if "--shell" in argv:
                return shell(guest, proxies)
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
