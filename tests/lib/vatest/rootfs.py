"""Guests with a distribution's own init: systemd, or sysvinit.

The packages of INITS and what they depend on are downloaded by name (apt-get
download) and unpacked into an initramfs: nothing is installed, no root is needed.
No maintainer script runs, so what theirs would do and a test needs is done here:
users, a machine id, the links of the runlevels.  Programs that the packages do not
bring (sh and its like) are busybox's.  Documentation, locales and the hardware
database are left out.

SPDX-License-Identifier: MIT
"""
import glob
import hashlib
import io
import os
import re
import shutil
import struct
import subprocess
import tarfile
import tempfile

from . import image
from .env import BUILD, CACHE, SRC

INITS = {
    "systemd": ("systemd-sysv", "udev", "dbus", "dash"),
    "sysvinit": ("sysvinit-core", "sysv-rc", "initscripts", "dash", "sed", "util-linux"),
}
# For maintainer scripts and people only; dependencies are not followed through them.
WITHOUT = {
    "adduser", "cdebconf", "dbus-session-bus-common", "debconf", "dmsetup", "dpkg",
    "gcc-12-base", "init-system-helpers", "insserv", "install-info", "libaudit-common",
    "openrc", "passwd", "perl", "perl-base", "tar"}
LEFT_OUT = re.compile(
    r"usr/(share/(doc|man|locale|info|lintian|bash-completion|zsh|fish|polkit-1|doc-base)"
    r"|lib/(udev/hwdb\.d|systemd/(catalog|boot)|x86_64-linux-gnu/gconv)|include)(/|$)")
TOP = ("bin", "sbin", "lib", "lib64")

# bookworm's fixed ids where there are some, then those that sysusers would make.
USERS = (("root", 0, "/root", "/bin/sh"), ("daemon", 1, "/", "/bin/false"),
         ("messagebus", 101, "/nonexistent", "/bin/false"),
         ("systemd-network", 102, "/", "/bin/false"),
         ("systemd-timesync", 103, "/", "/bin/false"),
         ("systemd-resolve", 104, "/", "/bin/false"),
         ("nobody", 65534, "/", "/bin/false"))
GROUPS = (("root", 0), ("daemon", 1), ("adm", 4), ("tty", 5), ("disk", 6), ("lp", 7),
          ("dialout", 20), ("cdrom", 24), ("tape", 26), ("kmem", 15), ("audio", 29),
          ("video", 44), ("utmp", 43), ("input", 105), ("sgx", 106), ("kvm", 107),
          ("render", 108), ("systemd-journal", 109), ("users", 100), ("messagebus", 101),
          ("systemd-network", 102), ("systemd-timesync", 103), ("systemd-resolve", 104),
          ("nogroup", 65534))


def _depends(names):
    """What apt says these depend on, without alternatives behind the first."""
    out = image._output("apt-cache", "depends", "--no-recommends", "--no-suggests",
                        "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances",
                        *sorted(names))
    found, skip = set(), False
    for line in out.splitlines():
        m = re.match(r"\s+(\|?)(?:Pre)?Depends: (\S+)", line)
        if not m:
            continue
        if not skip and not m.group(2).startswith("<"):
            found.add(m.group(2))
        skip = bool(m.group(1))
    return found


def packages(init):
    """The names of all packages of that kind of guest."""
    known, new = set(), set(INITS[init])
    while new:
        known |= new
        new = _depends(new) - known - WITHOUT
    return sorted(known)


def debs(init):
    """The package files, downloaded once."""
    key = hashlib.sha256(repr((INITS[init], sorted(WITHOUT))).encode()).hexdigest()[:12]
    path = os.path.join(CACHE, "debs-%s-%s" % (init, key))
    if not os.path.isdir(path):
        with image.locked("debs-" + init):
            if not os.path.isdir(path):
                with tempfile.TemporaryDirectory(dir=CACHE) as tmp:
                    os.chmod(tmp, 0o755)
                    os.mkdir(os.path.join(tmp, "x"))
                    image._output("apt-get", "download", "-q", *packages(init),
                                  cwd=os.path.join(tmp, "x"))
                    os.rename(os.path.join(tmp, "x"), path)
    return sorted(glob.glob(os.path.join(path, "*.deb")))


def merged(path):
    """/bin, /lib and their like are links into /usr."""
    path = os.path.normpath(path).strip("/")
    return "usr/" + path if path.split("/")[0] in TOP else path


class Archive(image.Archive):
    """Whatever the path says, a file lands behind the links into /usr."""

    def directory(self, path, mode=0o755):
        super().directory(merged(path), mode)

    def symlink(self, path, target):
        super().symlink(merged(path), target)

    def data(self, path, data, mode=0o644):
        super().data(merged(path), data, mode)


def _unpack(a, deb):
    tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True,
                         stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as t:
        for m in t:
            path = merged(m.name)
            if path in (".", "") or path in TOP or path == "usr" or LEFT_OUT.match(path):
                continue
            if m.isdir():
                a.directory(path, m.mode)
            elif m.issym():
                a.symlink(path, m.linkname)
            elif m.isreg() or m.islnk():
                a.data(path, t.extractfile(m).read(), m.mode & 0o7777)


def _busybox(a):
    """busybox for every program that no package brought."""
    box = image.busybox()
    a.file("usr/bin/busybox", box, 0o755)
    have = {os.path.basename(p) for p in a.entries
            if os.path.dirname(p) in ("usr/bin", "usr/sbin")}
    for applet in image._output(box, "--list-full").split():
        name = os.path.basename(applet)
        if name not in have and name not in ("init", "linuxrc"):
            a.symlink("usr/sbin/" + name if "sbin" in applet else "usr/bin/" + name,
                      "/usr/bin/busybox")


def _accounts(a):
    a.data("etc/passwd", "".join("%s:x:%d:%d::%s:%s\n" % (n, i, i, home, sh)
                                 for n, i, home, sh in USERS))
    a.data("etc/group", "".join("%s:x:%d:\n" % g for g in GROUPS))
    a.data("etc/shadow", "".join("%s:*:19000:0:99999:7:::\n" % u[0] for u in USERS), 0o600)
    a.data("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
    a.data("etc/hosts", "127.0.0.1 localhost\n")
    a.data("etc/machine-id", "%032x\n" % 0x7e57)
    a.data("etc/os-release", 'ID=va-test\nNAME="virtagent test guest"\nVERSION_ID="1"\n'
           'PRETTY_NAME="virtagent test guest 1"\n')
    a.data("etc/fstab", "")
    a.data("etc/default/rcS", "VERBOSE=yes\n")


def _systemd(a):
    unit = "etc/systemd/system/"
    a.symlink(unit + "default.target", "/usr/lib/systemd/system/multi-user.target")
    a.symlink(unit + "dbus.service", "/usr/lib/systemd/system/dbus.service")
    # The harness's way in lasts until nothing else runs any more.
    a.data(unit + "va-control.service",
           "[Unit]\nDefaultDependencies=no\nAfter=systemd-udev-trigger.service\n"
           "[Service]\nExecStart=/va/control\nRestart=always\nRestartSec=0\n")
    a.symlink(unit + "multi-user.target.wants/va-control.service", "../va-control.service")
    for name in ("systemd-timesyncd", "systemd-resolved", "systemd-networkd", "getty.target",
                 "e2scrub_reap", "systemd-firstboot", "systemd-hwdb-update", "ldconfig",
                 "systemd-boot-system-token", "systemd-pcrphase"):
        a.symlink(unit + (name if "." in name else name + ".service"), "/dev/null")


# What insserv makes of the scripts' headers, for those that this guest needs.
RUNLEVELS = {
    "S": ("hostname.sh", "mountkernfs.sh", "mountdevsubfs.sh", "bootmisc.sh"),
    "0": ("sendsigs", "umountfs", "halt"), "6": ("sendsigs", "umountfs", "reboot"),
    "1": ("killprocs",), "2": ("rc.local", "rmnologin"),
}


def _sysvinit(a):
    for level, names in RUNLEVELS.items():
        for i, name in enumerate(names):
            a.symlink("etc/rc%s.d/%s%02d%s" % (level, "K" if level in "06" else "S", i + 3, name),
                      "../init.d/" + name)
    text = a.entries["usr/share/sysvinit/inittab"][1].decode()
    text = re.sub(r"^[^#:]*:[^:]*:respawn:/sbin/getty.*\n", "", text, flags=re.M)
    a.data("etc/inittab", text + "va:12345:respawn:/va/control\n")


def link_script(a, name, text):
    """What update-rc.d makes of a script's header: started first, stopped first."""
    a.data("etc/init.d/" + name, text, 0o755)
    for word, letter in (("Start", "S"), ("Stop", "K")):
        levels = re.search(r"^# Default-%s:\s*([\d ]+)$" % word, text, re.M).group(1).split()
        for level in levels:
            a.symlink("etc/rc%s.d/%s01%s" % (level, letter, name), "../init.d/" + name)


def install_agent(a, init, agent, channel=None):
    """The agent as its package would install it; channel None: the virtio port."""
    if init == "systemd":
        with open(os.path.join(BUILD, "dist/va-agent.service"), encoding="utf-8") as f:
            unit = f.read()
        a.program(re.search(r"^ExecStart=(\S+)", unit, re.M).group(1), agent)
        a.data("usr/lib/systemd/system/va-agent.service", unit)
        a.file("usr/lib/udev/rules.d/60-virtagent.rules",
               os.path.join(SRC, "dist/60-virtagent.rules"))
        a.file("usr/lib/systemd/system-sleep/va-agent.sleep",
               os.path.join(SRC, "dist/va-agent.sleep"), 0o755)
        if channel:
            a.symlink("etc/systemd/system/multi-user.target.wants/va-agent.service",
                      "/usr/lib/systemd/system/va-agent.service")
    else:
        with open(os.path.join(BUILD, "dist/va-agent"), encoding="utf-8") as f:
            script = f.read()
        a.program(re.search(r"^DAEMON=(\S+)", script, re.M).group(1), agent)
        link_script(a, "va-agent", script)
    if channel:
        a.data("usr/local/etc/virtagent/agent.conf", "[agent]\nchannel = %s\n" % channel)


def base(init, modules=image.MODULES):
    """The path of the archive that all guests of this kind share."""
    files = debs(init)
    with open(__file__, "rb") as f:
        digest = hashlib.sha256(f.read())
    for path in files:
        digest.update(os.path.basename(path).encode())
    digest.update(repr((modules, image.kernel())).encode())
    path = os.path.join(CACHE, "rootfs-%s-%s.cpio" % (init, digest.hexdigest()[:16]))
    if os.path.exists(path):
        return path
    a = Archive()
    for d in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "proc", "sys", "dev", "run",
              "root", "mnt", "home", "etc", "var/log", "var/lib", "var/tmp"):
        a.directory(d)
    a.directory("tmp", 0o1777)
    for d in TOP:
        image.Archive.symlink(a, d, "usr/" + d)
    a.symlink("var/run", "/run")
    a.symlink("var/lock", "/run/lock")
    for deb in files:
        _unpack(a, deb)
    _busybox(a)
    _accounts(a)
    {"systemd": _systemd, "sysvinit": _sysvinit}[init](a)
    image.add_modules(a, modules)
    a.symlink("init", "/va/init")
    for script in ("init", "control"):
        a.file("va/" + script, os.path.join(image.GUEST_SCRIPTS, script), 0o755)
    with tempfile.NamedTemporaryFile(dir=CACHE, delete=False) as f:
        f.write(a.bytes())
    os.rename(f.name, path)
    return path


def logged_in(tty):
    """A record of utmp: somebody is logged in there, and gets the wall messages."""
    return struct.pack("<hxxi32s4s32s256shhiii4i20x", 7, 1, tty.encode(), b"t0", b"root", b"",
                       0, 0, 0, 0, 0, 0, 0, 0, 0)


def need(init):
    """The reason why there can be no such guest here, or None."""
    for program in ("apt-cache", "apt-get", "dpkg-deb"):
        if not shutil.which(program):
            return "%s is missing" % program
    try:
        debs(init)
    except (image.ImageError, OSError) as problem:
        return "packages of a guest with %s: %s" % (init, problem)
    return None
