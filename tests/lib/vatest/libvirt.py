"""A libvirt of the test's own: libvirtd in session mode, with private directories.

It needs no service manager, no D-Bus and nothing of the system's libvirt.  Session mode
is for ordinary users, so as root everything runs as nobody: libvirtd, its QEMUs, and
our programs, which are copied to where that user may read them.

A guard of its own session ends whatever still runs when the test is over, however that
came about: libvirt's QEMUs are no children of the test, and its death signal does not
reach those who changed their user.

SPDX-License-Identifier: MIT
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

from . import image
from .env import program
from .guest import Guest
from .hostd import Hostd
from .proc import Process, run
from .tap import need_all
from .wait import wait_until

NOBODY = 65534
URI = "qemu:///session"

# stdin ends with the test: then whatever has the directory's path in its words ends too.
GUARD = r"""
import os, shutil, signal, sys, time
top = sys.argv[1]
sys.stdin.read()
def left():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open("/proc/%s/cmdline" % pid, "rb").read()
            exe = os.readlink("/proc/%s/exe" % pid)
        except OSError:
            continue
        if int(pid) != os.getpid() and (os.fsencode(top) in words or exe.startswith(top)):
            yield int(pid)
for _ in range(200):
    pids = list(left())
    if not pids:
        break
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    time.sleep(0.05)
shutil.rmtree(top, ignore_errors=True)
"""

DOMAIN = """<domain type='qemu'>
  <name>%(name)s</name>
  <memory unit='MiB'>%(memory)d</memory>
  <os>
    <type arch='x86_64' machine='%(machine)s'>hvm</type>
    <kernel>%(top)s/vmlinuz</kernel>
    <initrd>%(top)s/%(name)s.initrd</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 random.trust_cpu=on</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu>
  <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <emulator>%(qemu)s</emulator>
    <serial type='file'><source path='%(top)s/%(name)s.console'/><target port='0'/>
    </serial>
    <memballoon model='none'/>
    %(devices)s
  </devices>
</domain>
"""


def need_libvirt():
    """Skips the whole program without Debian's libvirt."""
    need_all("/usr/sbin/libvirtd", "virsh", "setpriv", program("va-hostd"), program("virtproxy"))


class Libvirt:
    def __init__(self):
        root = os.geteuid() == 0
        self.top = tempfile.mkdtemp(prefix="va-lv-", dir="/tmp")
        self.guard = subprocess.Popen([sys.executable, "-c", GUARD, self.top],
                                      stdin=subprocess.PIPE, start_new_session=True)
        # setpriv gives the death signal back that changing the user took.
        self.wrap = ["setpriv", "--reuid=%d" % NOBODY, "--regid=%d" % NOBODY, "--clear-groups",
                     "--pdeathsig=KILL"] if root else []
        self.dirs = {x: self.path(x) for x in ("home", "conf", "run", "cache", "data")}
        for d in self.dirs.values():
            os.mkdir(d, 0o700)
        self.env = {"HOME": self.dirs["home"], "XDG_CONFIG_HOME": self.dirs["conf"],
                    "XDG_RUNTIME_DIR": self.dirs["run"], "XDG_CACHE_HOME": self.dirs["cache"],
                    "XDG_DATA_HOME": self.dirs["data"], "LIBVIRT_DEFAULT_URI": URI}
        self.write("conf/libvirt/qemu.conf",
                    'security_driver = "none"\nstdio_handler = "file"\nremember_owner = 0\n')
        self.write("conf/libvirt/libvirtd.conf",
                    'auth_unix_rw = "none"\nlog_outputs = "3:stderr"\n')
        os.mkdir(self.path("bin"))
        for name in ("va-hostd", "virtproxy", "va-client"):
            shutil.copy(program(name), self.path("bin", name))
        shutil.copy(image.vmlinuz(), self.path("vmlinuz"))
        self.daemon = None

    def path(self, *names):
        return os.path.join(self.top, *names)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        self._own()

    def _own(self):
        """All that is there is the user's who runs it."""
        for base, dirs, files in os.walk(self.top) if self.wrap else ():
            for name in [base] + [os.path.join(base, x) for x in dirs + files]:
                os.chown(name, NOBODY, NOBODY, follow_symlinks=False)

    def start(self):
        self._own()
        self.daemon = Process(self.wrap + ["/usr/sbin/libvirtd"], name="libvirtd", env=self.env,
                              cwd=self.top)
        wait_until(lambda: self._listens() or self.daemon.check_alive(), 30, "libvirtd")

    def _listens(self):
        return os.path.exists(self.path("run", "libvirt", "libvirt-sock"))

    def virsh(self, *words):
        r = run(self.wrap + ["virsh", "-q", "-c", URI] + list(words), seconds=60, env=self.env)
        if r.returncode:
            raise RuntimeError("virsh %s: %s\n%s" % (words, r.stderr, self.daemon.log()))
        return r.stdout

    def client(self, *words, hostd=None, seconds=60):
        """va-client as that user."""
        env = dict(self.env, **(hostd.env if hostd else {}))
        return run(self.wrap + [self.path("bin", "va-client")] + list(words), seconds=seconds,
                   env=env)

    def domain(self, name, devices="", machine="pc", agents=None, paused=False):
        """Starts a domain that boots the tests' guest (paused: it never gets to); devices:
        XML."""
        g = Guest(name=name, channels=(), agents=agents, start=False)
        shutil.move(g.initrd, self.path(name + ".initrd"))
        xml = DOMAIN % {"name": name, "machine": machine, "top": self.top, "devices": devices,
                        "memory": g.options["memory"] or 256,
                        "qemu": shutil.which("qemu-system-x86_64")}
        self.write(name + ".xml", xml)
        self.virsh("create", self.path(name + ".xml"), *["--paused"] * paused)

    def hostd(self, conf):
        """A va-hostd of that user's."""
        return Hostd(conf=conf, home=self.path("hostd"), programs=self.path("bin"),
                     wrap=self.wrap, more_env=self.env, before=self._own)

    def report(self):
        text = self.daemon.log()[-2000:] if self.daemon else ""
        for name in sorted(os.listdir(self.top)):
            if name.endswith(".console"):
                with open(self.path(name), errors="replace") as f:
                    text += "\n%s:\n%s" % (name, re.sub(r"[^\x20-\x7e\n]", ".", f.read())[-1500:])
        return text

    def close(self):
        """Ends the domains, the daemon, and by the guard whatever else there is."""
        if self.daemon and self.daemon.running():
            for name in self.virsh("list", "--name").split():
                self.virsh("destroy", name)
            self.daemon.stop()
        self.guard.stdin.close()
        self.guard.wait(30)
