#!/usr/bin/python3
# test_harness.py - the harness itself, without any program of ours: both kinds
# of port carry bytes into a real guest and back, on pc and on isapc; savevm,
# reboot and migration work as the tests that need them expect.
#
# SPDX-License-Identifier: MIT
from vatest import Guest, Suite, connect_unix, scale

# One open for both directions (a second is EBUSY); without a host, reads end.
ECHO_VIRTIO = """
port=/dev/virtio-ports/echo.port
setsid sh -c "exec <>$port >&0; while :; do cat; usleep 50000; done" 2>/dev/null &
"""
ECHO_SERIAL = """
stty -F /dev/ttyS1 raw -echo 115200
setsid sh -c 'cat </dev/ttyS1 >/dev/ttyS1' >/dev/null 2>&1 &
"""
suite = Suite()
guests = {}


def guest(machine):
    if machine not in guests:
        g = Guest(machine=machine, agents=(), reboot=True,
                  channels=("serial",), ports=("echo.port",) if machine == "pc" else (),
                  savevm=machine == "pc", links=True,
                  files={"/etc/extra": "from the host\n"}, boot="echo booted >/run/boot-ran\n")
        guests[machine] = g
        suite.cleanups.append(g.close)
        suite.on_failure.append(g.report)
        print("# %s under %s booted in %.1f s" % (machine, g.accel, g.boot_seconds))
    return guests[machine]


def echo(path, data):
    with connect_unix(path, 20) as s:
        got = b""
        # A first open of the guest's tty may eat bytes: lead in with zeroes.
        s.sendall(b"\0" * 32 + data)
        while not got.endswith(data):
            more = s.recv(65536)
            assert more, "the port closed after %r" % got
            got += more


@suite.case("pc: the guest boots, runs commands, has a test's files")
def _():
    g = guest("pc")
    assert g.sh("cat /etc/extra /run/boot-ran") == "from the host\nbooted\n"
    assert g.sh("exit 3", check=False) == ""
    assert len(g.sh_bytes("head -c 100000 /dev/zero")) == 100000


@suite.case("pc: old-kernel answers as Linux 3.2 did")
def _():
    g = guest("pc")
    assert g.sh("/va/old-kernel --check") == ""
    assert g.sh("/va/old-kernel echo still runs") == "still runs\n"


@suite.case("pc: a virtio port echoes")
def _():
    g = guest("pc")
    g.sh(ECHO_VIRTIO)
    echo(g.ports["echo.port"], b"over virtio-serial" * 50)


@suite.case("pc: an isa-serial port echoes")
def _():
    g = guest("pc")
    g.sh(ECHO_SERIAL)
    echo(g.serial, b"over isa-serial" * 50)


@suite.case("pc: loadvm takes the guest back in time")
def _():
    g = guest("pc")
    g.sh("echo before >/run/when")
    g.qmp.hmp("savevm one")
    g.sh("echo after >/run/when")
    g.qmp.hmp("loadvm one")
    assert g.sh("cat /run/when") == "before\n"


@suite.case("pc: a reboot is seen")
def _():
    g = guest("pc")
    g.qmp("system_reset")
    g.wait_boot()
    assert g.sh("cat /proc/uptime | cut -d. -f1; test ! -e /run/when")


@suite.case("pc: migration to a second QEMU")
def _():
    g = guest("pc")
    g.sh("echo moved >/run/when")
    with g.destination() as d:
        g.migrate_to(d)
        assert d.sh("cat /run/when") == "moved\n"


@suite.case("isapc: no PCI, the serial port echoes")
def _():
    g = guest("isapc")
    assert g.sh("ls /sys/bus/pci/devices 2>/dev/null | wc -l").strip() == "0"
    g.sh(ECHO_SERIAL)
    echo(g.serial, b"over isa-serial" * 50)


print("# time scale %g" % scale())
suite.main()
