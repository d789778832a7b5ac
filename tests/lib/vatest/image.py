"""The guest image: a distribution's cloud kernel and an initramfs of our own.

The kernel package is downloaded by name (apt-get download), unpacked into the
cache and never installed.  The initramfs is written here, without cpio(1) or
root: two archives one after the other, as the kernel allows.  The first (modules,
busybox, our scripts) is the same for all guests and cached by a hash of what is in
it; the second is this guest's own (agent, configuration, a test's files).  Both
are deterministic: same input, same bytes.

SPDX-License-Identifier: MIT
"""
import fcntl
import glob
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile

from .env import CACHE, SRC

KERNEL_PACKAGE = "linux-image-cloud-amd64"
# What a guest needs on virtio; serial ports, ext4 and tmpfs are built in.
MODULES = ("virtio_pci", "virtio_console", "virtio_blk", "loop")
GUEST_SCRIPTS = os.path.join(SRC, "tests/lib/guest")


class ImageError(Exception):
    pass


class locked:
    """One process at a time makes a thing in the cache."""

    def __init__(self, name):
        os.makedirs(CACHE, exist_ok=True)
        self.path = os.path.join(CACHE, name + ".lock")

    def __enter__(self):
        self.file = open(self.path, "w")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *exc):
        self.file.close()


def _output(*argv, **kw):
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, **kw)
    if r.returncode:
        raise ImageError("%s: %s" % (" ".join(argv), (r.stderr or r.stdout).strip()))
    return r.stdout


def kernel():
    """The directory of the unpacked kernel package (boot/, lib/modules/)."""
    ready = sorted(glob.glob(os.path.join(CACHE, "kernel-*", "boot", "vmlinuz-*")))
    if ready:
        return os.path.dirname(os.path.dirname(ready[-1]))
    with locked("kernel"):
        ready = sorted(glob.glob(os.path.join(CACHE, "kernel-*", "boot", "vmlinuz-*")))
        if ready:
            return os.path.dirname(os.path.dirname(ready[-1]))
        m = re.search(r"Depends: (linux-image-\S+)",
                      _output("apt-cache", "depends", KERNEL_PACKAGE))
        if not m:
            raise ImageError("%s depends on no kernel package (apt-get update?)" % KERNEL_PACKAGE)
        with tempfile.TemporaryDirectory(dir=CACHE) as tmp:
            os.chmod(tmp, 0o755)
            _output("apt-get", "download", "-q", m.group(1), cwd=tmp)
            debs = glob.glob(os.path.join(tmp, "*.deb"))
            if len(debs) != 1:
                raise ImageError("apt-get download %s left %s" % (m.group(1), debs))
            _output("dpkg-deb", "-x", debs[0], os.path.join(tmp, "x"))
            os.rename(os.path.join(tmp, "x"), os.path.join(CACHE, "kernel-" + m.group(1)))
    return kernel()


def vmlinuz():
    return glob.glob(os.path.join(kernel(), "boot", "vmlinuz-*"))[0]


def module_files(names):
    """The modules and what they need, in the order to load them."""
    root = os.path.join(kernel(), "lib/modules")
    known = {}
    for base, _, files in os.walk(root):
        for f in files:
            if f.endswith(".ko"):
                known[f[:-3].replace("-", "_")] = os.path.join(base, f)
    ordered = []

    def add(name):
        if name in ordered:
            return
        if name not in known:
            raise ImageError("the kernel package has no module %s" % name)
        with open(known[name], "rb") as f:
            m = re.search(rb"\0depends=([^\0]*)\0", f.read())
        for other in (m.group(1).decode().split(",") if m and m.group(1) else []):
            add(other.replace("-", "_"))
        ordered.append(name)

    for name in names:
        add(name.replace("-", "_"))
    return [(name, known[name]) for name in ordered]


class Archive:
    """An initramfs in memory: "newc" cpio, owner root, times zero."""

    def __init__(self):
        self.entries = {}

    def _parents(self, path):
        parent = os.path.dirname(path)
        if parent and parent not in self.entries:
            self.directory(parent)

    def directory(self, path, mode=0o755):
        path = path.strip("/")
        self._parents(path)
        self.entries[path] = (stat.S_IFDIR | mode, b"")

    def symlink(self, path, target):
        path = path.strip("/")
        self._parents(path)
        self.entries[path] = (stat.S_IFLNK | 0o777, target.encode())

    def data(self, path, data, mode=0o644):
        path = path.strip("/")
        self._parents(path)
        self.entries[path] = (stat.S_IFREG | mode,
                              data.encode() if isinstance(data, str) else data)

    def file(self, path, source, mode=None):
        with open(source, "rb") as f:
            self.data(path, f.read(), mode or (os.stat(source).st_mode & 0o777))

    def program(self, path, source):
        """A program with the shared libraries it needs, at their own paths."""
        self.file(path, source, 0o755)
        r = subprocess.run(["ldd", source], capture_output=True, text=True)
        for lib in re.findall(r"(/\S+) \(0x", r.stdout if r.returncode == 0 else ""):
            if lib.strip("/") not in self.entries:
                self.file(lib, os.path.realpath(lib), 0o755)

    def tree(self, path, source):
        for base, dirs, files in os.walk(source):
            dirs.sort()
            rel = os.path.normpath(os.path.join(path, os.path.relpath(base, source)))
            self.directory(rel)
            for f in sorted(files):
                self.file(os.path.join(rel, f), os.path.join(base, f))

    def bytes(self):
        out = []

        def entry(ino, name, mode, data):
            name = name.encode() + b"\0"
            head = b"070701" + b"".join(b"%08X" % v for v in (
                ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0))
            for part in (head + name, data):
                out.append(part + b"\0" * (-len(part) % 4))

        for ino, name in enumerate(sorted(self.entries), 1):
            mode, data = self.entries[name]
            entry(ino, name, mode, data)
        entry(0, "TRAILER!!!", 0, b"")
        blob = b"".join(out)
        return blob + b"\0" * (-len(blob) % 512)


def tool(source):
    """A small static C program of the tests, compiled once; its path."""
    with open(source, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()[:16]
    name = os.path.splitext(os.path.basename(source))[0]
    path = os.path.join(CACHE, "tools", "%s-%s" % (name, digest))
    if not os.path.exists(path):
        with locked("tools"):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _output("cc", "-std=gnu11", "-O2", "-Wall", "-Werror", "-static", "-s",
                    "-o", path + ".new", source)
            os.rename(path + ".new", path)
    return path


def busybox():
    path = shutil.which("busybox")
    if not path:
        raise ImageError("busybox is missing (package busybox-static)")
    if subprocess.run(["ldd", path], capture_output=True).returncode == 0:
        raise ImageError("%s is not static (package busybox-static)" % path)
    return path


def add_modules(a, modules):
    """The modules, and their names in the order to load them."""
    files = module_files(modules)
    for name, path in files:
        a.file("lib/modules/%s.ko" % name, path, 0o644)
    a.data("va/modules", "".join(name + "\n" for name, _ in files))


def base(modules=MODULES):
    """The path of the archive that all guests with these modules share."""
    a = Archive()
    for d in ("proc", "sys", "dev", "run", "tmp", "root", "var/log", "mnt", "home"):
        a.directory(d)
    a.symlink("var/run", "/run")
    box = busybox()
    a.file("bin/busybox", box, 0o755)
    for applet in sorted(_output(box, "--list-full").split()):
        if applet != "bin/busybox":
            a.symlink(applet, "/bin/busybox")
    a.symlink("init", "/bin/busybox")
    a.data("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
           "nobody:x:65534:65534:nobody:/:/bin/false\ntester:x:1000:1000::/home:/bin/sh\n")
    a.data("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\ntester:x:1000:\n")
    a.data("etc/shadow", "root:*:19000:0:99999:7:::\ntester:*:19000:0:99999:7:::\n", 0o600)
    a.data("etc/hosts", "127.0.0.1 localhost\n")
    a.data("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
    a.data("etc/os-release", 'ID=va-test\nNAME="virtagent test guest"\nVERSION_ID="1"\n'
           'PRETTY_NAME="virtagent test guest 1"\n')
    a.data("etc/machine-id", "%032x\n" % 0x7e57)
    add_modules(a, modules)
    for script in ("rc", "control"):
        a.file("va/" + script, os.path.join(GUEST_SCRIPTS, script), 0o755)
    for source in ("serial-irq.c", "old-kernel.c"):
        a.file("va/" + source[:-2], tool(os.path.join(GUEST_SCRIPTS, source)), 0o755)
    blob = a.bytes()
    path = os.path.join(CACHE, "guest-%s.cpio" % hashlib.sha256(blob).hexdigest()[:16])
    if not os.path.exists(path):
        with tempfile.NamedTemporaryFile(dir=CACHE, delete=False) as f:
            f.write(blob)
        os.rename(f.name, path)
    return path


def write(path, overlay, shared):
    """The whole initramfs of one guest: the shared archive, then the overlay."""
    with open(path, "wb") as out:
        with open(shared, "rb") as f:
            shutil.copyfileobj(f, out)
        out.write(overlay.bytes())


def main():
    """Only downloads; what ./quickstart needs the network for."""
    from . import rootfs        # which is made of what is here
    try:
        kernel()
        for init in rootfs.INITS:
            rootfs.debs(init)
    except (ImageError, OSError) as problem:
        sys.exit("guest image: %s" % problem)
