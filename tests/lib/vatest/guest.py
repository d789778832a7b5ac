"""A real guest under QEMU.

  with Guest(channels=("virtio", "serial")) as g:
      g.sh("cat /proc/version")         # through the harness's own port
      g.virtio, g.serial                # the channels' unix sockets, QEMU listens
      g.qmp("stop"); g.qmp.hmp("savevm a")

A guest has its console on ttyS0 (a log file), the agent's serial channel on
ttyS1, the agent's virtio port named org.virtagent.0, and one port more for the
harness: what sh() runs does not need the agent.  On isapc, which has no PCI, the
harness's port is ttyS2.  One agent runs on each channel, restarted by init as
an init system would.

KVM is used where a guest really boots with it, else TCG, there always as qemu64:
other models are slow and distort figures.  VA_GUEST_ACCEL=tcg|kvm decides.

SPDX-License-Identifier: MIT
"""
import base64
import os
import shutil
import subprocess
import time

from . import image, rootfs
from .env import CACHE, program, sanitized, scale, tmpdir
from .proc import Process, logs
from .qmp import QMP
from .tap import Skip
from .wait import Lines, Timeout, wait_for_socket, wait_until

QEMU = "qemu-system-x86_64"
PORT_NAME = "org.virtagent.0"
CONTROL_NAME = "va.test.control"
SERIAL_TTY = "/dev/ttyS1"
BOOT_SECONDS = 120
AGENT = "/usr/sbin/va-agent"

_serial = 0


class GuestError(Exception):
    pass


def _boot_id():
    with open("/proc/sys/kernel/random/boot_id") as f:
        return f.read().strip()


def _kvm_boots():
    """Whether a kernel really starts under KVM: /dev/kvm alone proves little
    (nested, it may exist and hang).  Busybox without an init script panics with
    -no-reboot, which ends QEMU."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with image.locked("accel"):
        mark = os.path.join(CACHE, "accel-" + _boot_id())
        if os.path.exists(mark):
            with open(mark) as f:
                return f.read() == "kvm"
        try:
            r = subprocess.run(
                [QEMU, "-accel", "kvm", "-M", "pc", "-cpu", "host", "-m", "128",
                 "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
                 "-kernel", image.vmlinuz(), "-append", "console=ttyS0 panic=-1"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, timeout=8 * scale())
            works = r.returncode == 0 and b"Linux version" in r.stdout
        except subprocess.TimeoutExpired:
            works = False
        with open(mark, "w") as f:
            f.write("kvm" if works else "tcg")
        return works


def accel():
    """"kvm" or "tcg"."""
    return os.environ.get("VA_GUEST_ACCEL") or ("kvm" if _kvm_boots() else "tcg")


class Guest:
    """Options:
    machine    "pc" or "isapc" (no PCI: serial channel only)
    channels   of "virtio", "serial": the ports that exist
    agents     command lines after "va-agent", one agent each; default: one per
               channel; () = none
    agent      the agent's program on the host; default va-agent-static, in a
               sanitizer's build va-agent with its libraries
    wrap       a program of the guest that starts the agent ("/va/old-kernel")
    files      {path in the guest: bytes, str, or a host path as os.PathLike;
               a pair (content, mode) sets the mode}; programs: {path: host path}
               adds shared libraries too
    boot       shell text run before agents start
    ports      names of further virtio ports; their sockets are in self.ports
    apart      each virtio port on a virtio-serial device of its own, the harness's
               too (for figures: ports of one device share an interrupt)
    monitors   so many QMP sockets more, for others; their paths are in self.monitors
    savevm     adds a qcow2 disk so that savevm works
    links      make /dev/virtio-ports as udev would
    modules    further kernel modules; cmdline: more kernel parameters
    reboot     let the guest reboot (otherwise QEMU ends then)
    init       "systemd" or "sysvinit": a distribution's own init and the agent as
               its unit or script (rootfs.py); one channel; no wrap, agents, boot
    args       more arguments of QEMU; memory in MB; smp
    """

    def __init__(self, name=None, machine="pc", channels=("virtio", "serial"), agents=None,
                 agent=None, wrap="", files=None, programs=None, boot="", ports=(),
                 apart=False, savevm=False, links=False, modules=(), cmdline="", reboot=False, args=(),
                 memory=None, smp=1, env=None, agent_env=None, incoming=False, monitors=0,
                 init=None, start=True):
        global _serial
        _serial += 1
        self.options = {k: v for k, v in locals().items() if k not in ("self", "_serial")}
        if not shutil.which(QEMU):
            raise Skip("%s is missing" % QEMU)
        if machine == "isapc" and ("virtio" in channels or ports):
            raise ValueError("isapc has no PCI bus, so no virtio ports")
        why = rootfs.need(init) if init else None
        if why:
            raise Skip(why)
        self.name = name or "guest%d" % _serial
        self.machine = machine
        self.dir = os.path.join(tmpdir(), "g%d" % _serial)
        os.mkdir(self.dir, 0o700)
        self.virtio = self.path("virtio.sock") if "virtio" in channels else None
        self.serial = self.path("serial.sock") if "serial" in channels else None
        self.ports = {p: self.path("port%d.sock" % i) for i, p in enumerate(ports)}
        self.monitors = [self.path("qmp%d.sock" % i) for i in range(monitors)]
        self.accel = accel()
        self.console_path = self.path("console")
        logs.append(self.console_path)
        self.qemu = self.qmp = self.control = None
        self._call = 0
        self._write_image()
        if start:
            self.start()

    def path(self, name):
        return os.path.join(self.dir, name)

    # --- what the guest is made of ---------------------------------------

    def default_agents(self):
        agents = []
        if self.virtio:
            agents.append([])
        if self.serial:
            agents.append(["-c", "isaserial-open:%s:-" % SERIAL_TTY])
        return agents

    def _write_image(self):
        o = self.options
        a = rootfs.Archive() if o["init"] else image.Archive()
        agents = o["agents"] if o["agents"] is not None else self.default_agents()
        isapc = self.machine == "isapc"
        conf = {"NAME": self.name,
                "CONTROL": "/dev/ttyS2" if isapc else CONTROL_NAME,
                "CONTROL_IRQ": "5" if isapc else "",
                "LINKS": " ".join([PORT_NAME] * bool(self.virtio) + list(self.ports))
                if o["links"] else ""}
        a.data("va/conf", "".join("%s='%s'\n" % kv for kv in conf.items()))
        if o["init"]:
            rootfs.install_agent(a, o["init"], o["agent"] or self.default_agent(),
                                 None if self.virtio else "isaserial-open:%s:-" % SERIAL_TTY)
        else:
            self._add_agents(a, agents)
        for path, source in (o["programs"] or {}).items():
            a.program(path, source)
        for path, what in (o["files"] or {}).items():
            what, mode = what if isinstance(what, tuple) else (what, None)
            if isinstance(what, (bytes, str)):
                a.data(path, what, mode or 0o644)
            else:
                a.file(path, os.fspath(what), mode)
        self.initrd = self.path("initrd")
        modules = image.MODULES + tuple(o["modules"])
        image.write(self.initrd, a, rootfs.base(o["init"], modules) if o["init"] else
                    image.base(modules))

    def _add_agents(self, a, agents):
        o = self.options
        inittab = ["::sysinit:/va/rc", "::respawn:/va/control"]
        for i, argv in enumerate(agents):
            env = {"PATH": "/bin:/sbin:/usr/bin:/usr/sbin", **(o["agent_env"] or {})}
            if i:
                env["VA_RUNTIME_DIR"] = "/run/virtagent.%d" % i
                env["VA_STATE_DIR"] = "/var/lib/virtagent.%d" % i
            line = "exec env %s %s %s %s" % (
                " ".join("%s='%s'" % kv for kv in env.items()), o["wrap"], AGENT,
                " ".join("'%s'" % w for w in argv))
            a.data("va/agent%d" % i, "#!/bin/sh\n%s\n" % line, 0o755)
            inittab.append("::respawn:/va/agent%d" % i)
        a.data("etc/inittab", "\n".join(inittab + ["::shutdown:/bin/umount -a -r", ""]))
        if o["boot"]:
            a.data("va/boot", o["boot"])
        if agents:
            agent = o["agent"] or self.default_agent()
            a.program(AGENT, agent)
            if agent == program("va-agent"):
                a.program(AGENT + "-server", program("va-agent-server"))

    @staticmethod
    def default_agent():
        """The agent's program on the host."""
        static, dynamic = program("va-agent-static"), program("va-agent")
        path = static if os.path.exists(static) else dynamic
        if not os.path.exists(path):
            raise Skip("va-agent is missing")
        if path == static and os.path.getmtime(static) < max(
                os.path.getmtime(p) for p in (dynamic, dynamic + "-server")
                if os.path.exists(p)):
            raise GuestError("%s is older than va-agent: make -C %s va-agent-static"
                             % (static, os.path.dirname(static)))
        return path

    # --- QEMU --------------------------------------------------------------

    def _chardev(self, name, path):
        return ["-chardev", "socket,id=%s,path=%s,server=on,wait=off" % (name, path)]

    def command(self):
        o = self.options
        cpu = "host" if self.accel == "kvm" else "qemu64"
        # The last console= is /dev/console.
        cmdline = "%s console=ttyS0 quiet panic=-1 random.trust_cpu=on" % o["cmdline"]
        c = [QEMU, "-name", self.name, "-M", self.machine, "-accel", self.accel, "-cpu", cpu,
             "-m", str(o["memory"] or (768 if sanitized() else 512 if o["init"] else 256)),
             "-smp", str(o["smp"]), "-nodefaults", "-no-user-config",
             "-display", "none", "-kernel", image.vmlinuz(), "-initrd", self.initrd,
             "-append", cmdline.strip()]
        if not o["reboot"]:
            c.append("-no-reboot")
        c += self._chardev("qmp", self.path("qmp.sock")) + ["-mon", "chardev=qmp,mode=control"]
        for i, path in enumerate(self.monitors):
            c += self._chardev("qmp%d" % i, path) + ["-mon", "chardev=qmp%d,mode=control" % i]
        c += ["-chardev", "file,id=console,path=%s" % self.console_path,
              "-device", "isa-serial,chardev=console,index=0"]
        if self.serial:
            c += self._chardev("serial", self.serial)
            c += ["-device", "isa-serial,chardev=serial,index=1"]
        c += self._chardev("control", self.path("control.sock"))
        if self.machine == "isapc":
            c += ["-device", "isa-serial,chardev=control,iobase=0x3e8,irq=5,index=2"]
        else:
            c += ["-device", "virtio-serial-pci,id=vs",
                  "-device", "virtserialport,bus=vs.0,nr=30,chardev=control,name=" + CONTROL_NAME]
            named = ([(PORT_NAME, self.virtio)] if self.virtio else []) + list(self.ports.items())
            bus = "vs"
            for i, (name, path) in enumerate(named):
                c += self._chardev("port%d" % i, path)
                if o["apart"]:
                    bus = "vs%d" % i
                    c += ["-device", "virtio-serial-pci,id=" + bus]
                c += ["-device", "virtserialport,bus=%s.0,nr=%d,chardev=port%d,name=%s,id=vp%d"
                      % (bus, i + 1, i, name, i)]
        if o["savevm"]:
            disk = self.path("state.qcow2")
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"], check=True)
            c += ["-drive", "if=none,id=state,format=qcow2,file=" + disk]
            c += ["-device", "ide-hd,drive=state" if self.machine == "isapc" else
                  "virtio-blk-pci,drive=state"]
        if o["incoming"]:
            c += ["-incoming", "unix:" + self.path("incoming.sock")]
        return c + list(o["args"])

    def start(self):
        """Starts QEMU and waits until the guest's userspace answers."""
        self.started = time.monotonic()
        self.qemu = Process(self.command(), name="qemu-" + self.name, env=self.options["env"])
        try:
            self.qmp = QMP(self.path("qmp.sock"), self.check_alive)
            self._connect_control()
            if not self.options["incoming"]:
                self.wait_boot()
        except BaseException as e:
            try:
                if isinstance(e, (OSError, EOFError)):
                    self.qemu.wait(5)
                    self.check_alive()      # says why it ended
            finally:
                self.close()
            raise

    def _connect_control(self):
        self.control = wait_for_socket(self.path("control.sock"), 20, self.check_alive)
        self.lines = Lines(self.control)

    def reconnect(self):
        """After a loadvm: sh()'s port, which has no link to mend it, may have lost a
        wake-up for good; closing and opening the host's end wakes it."""
        self.control.close()
        self._connect_control()

    def check_alive(self):
        if not self.qemu.running():
            raise GuestError("QEMU of %s ended with status %d\n%s\n%s" % (
                self.name, self.qemu.popen.returncode, self.qemu.log(), self.console()[-4000:]))

    def wait_boot(self, seconds=BOOT_SECONDS):
        """Waits for the guest's userspace (also after a reboot)."""
        try:
            while self.lines.next(seconds) != "ready":
                pass
        except (Timeout, EOFError) as e:
            raise GuestError("%s did not boot: %s\n%s\n%s" % (
                self.name, e, self.qemu.log(), self.console()[-4000:])) from None
        self.boot_seconds = time.monotonic() - self.started

    def console(self):
        try:
            with open(self.console_path, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def wait_console(self, text, seconds=30):
        def look():
            self.check_alive()
            return text in self.console()
        try:
            wait_until(look, seconds, '"%s" on the console of %s' % (text, self.name))
        except Timeout as e:
            raise Timeout("%s\n%s" % (e, self.console()[-4000:])) from None

    # --- inside the guest ----------------------------------------------------

    def sh(self, script, seconds=30, check=True):
        """Runs shell text in the guest; its output (stderr too) as text."""
        return self.sh_bytes(script, seconds, check).decode("utf-8", "replace")

    def sh_bytes(self, script, seconds=30, check=True):
        self._call += 1
        number = str(self._call)
        text = base64.b64encode(script.encode()).decode()
        self.control.settimeout(seconds * scale())
        self.control.sendall(("%s %s\n" % (number, text)).encode())
        while True:
            words = self.lines.next(seconds).split(" ")
            if len(words) == 4 and words[:2] == ["=", number]:
                break
        output = base64.b64decode(words[3])
        if check and words[2] != "0":
            raise GuestError("in %s: %s\nstatus %s: %s" % (
                self.name, script, words[2], output.decode("utf-8", "replace")))
        return output

    def pids(self, pattern):
        """Pids of the guest's processes whose command line contains the text."""
        out = self.sh("for p in /proc/[0-9]*; do tr '\\0' ' ' 2>/dev/null <$p/cmdline | "
                      "grep -q -F -e '%s' && echo ${p#/proc/}; done; true" % pattern)
        return [int(p) for p in out.split()]

    # --- other states ----------------------------------------------------------

    def destination(self, **changes):
        """A second QEMU, same devices, that waits for migrate_to()."""
        return Guest(**dict(self.options, incoming=True, start=True, **changes))

    def migrate_to(self, other, seconds=120):
        """Live migration; afterwards sh() works on the other one."""
        self.qmp("migrate", uri="unix:" + other.path("incoming.sock"))

        def finished():
            status = self.qmp("query-migrate").get("status")
            if status in ("failed", "cancelled"):
                raise GuestError("migration %s" % status)
            return status == "completed"
        wait_until(finished, seconds, "the migration to complete", 0.1)

    def close(self):
        for thing in (self.control, self.qmp):
            if thing:
                thing.close()
        if self.qemu:
            self.qemu.kill()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def report(self):
        """What to show when a case failed."""
        return "console of %s:\n%s" % (self.name, self.console()[-3000:])
