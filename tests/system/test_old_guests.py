#!/usr/bin/python3
# test_old_guests.py - guests that have little: no PCI at all (-M isapc), so the
# serial line is the only channel; and a kernel that knows nothing newer than
# Linux 3.2 (a seccomp filter answers as it did); and no systemd: the SysV script.
#
# SPDX-License-Identifier: MIT
import pathlib
import re

from vatest import BUILD, Guest, Skip, Suite, sanitized, xmlrpc_proxy
from vatest.host import Proxy

SMALL = bytes(range(256)) * 64
KINDS = {"isapc": "", "isapc, Linux 3.2": "/va/old-kernel"}
SCRIPT = pathlib.Path(BUILD) / "dist/va-agent"

suite = Suite()
state = {}


def pair(kind, **options):
    """The guest and the host's side of it, made once; only one runs at a time."""
    if kind not in state:
        if KINDS.get(kind) and sanitized():
            raise Skip("a sanitizer's runtime for old kernels")
        for other in state.values():
            other[1].close()
            other[0].close()
        files = {"/srv/small": SMALL, **options.pop("files", {})}
        g = Guest(machine="isapc", channels=("serial",), wrap=KINDS.get(kind, ""),
                  files=files, **options)
        suite.cleanups.append(g.close)
        suite.on_failure.append(g.report)
        p = Proxy(g.serial)
        suite.cleanups.append(p.close)
        suite.on_failure.append(p.process.log)
        state[kind] = g, p
    return state[kind]


for name in KINDS:
    @suite.case("%s: the agent answers" % name)
    def _(name=name):
        g, p = pair(name)
        p.wait_agent(120)
        modes = g.sh("for p in $(pidof va-agent); do grep Seccomp: /proc/$p/status; done")
        assert len(modes.splitlines()) >= 3, modes
        if KINDS[name]:
            assert set(modes.split()) == {"Seccomp:", "2"}, modes

    @suite.case("%s: va-client call guest.getfile /proc/meminfo" % name)
    def _(name=name):
        g, p = pair(name)
        r = p.client("call", "guest.getfile", "/proc/meminfo")
        assert r.returncode == 0 and g.sh("grep MemTotal: /proc/meminfo") in r.stdout, r

    @suite.case("%s: a file's bytes, the kernel's log, faults" % name)
    def _(name=name):
        _g, p = pair(name)
        r = p.client("call", "guest.getfile", "/srv/small", text=False)
        assert r.returncode == 0 and r.stdout == SMALL, r.stderr
        assert "Linux version" in p.client("dmesg").stdout
        assert p.client("call", "guest.getfile", "/no/such/file").returncode not in (0, 10, 11)

    @suite.case("%s: every killed process of the agent comes back" % name)
    def _(name=name):
        g, p = pair(name)
        g.sh("kill -9 $(pidof va-agent)")
        p.wait_agent(60)
        server = xmlrpc_proxy(p.rpc)
        assert server.guest.getfile("/srv/small")["data"] == SMALL


@suite.case("the SysV script starts, tells, restarts and stops the agent")
def _():
    daemon = re.search(r"^DAEMON=(\S+)", SCRIPT.read_text(), re.M).group(1)
    g, p = pair("SysV", agents=(), programs={daemon: Guest.default_agent()}, files={
        "/etc/init.d/va-agent": (SCRIPT, 0o755),
        "/etc/default/va-agent": 'VA_AGENT_OPTIONS="-c isaserial-open:/dev/ttyS1:-"\n'})
    script = "/etc/init.d/va-agent "
    g.sh(script + "status; test $? = 3")
    g.sh(script + "start && " + script + "status")
    p.wait_agent(60)
    first = g.sh("cat /var/run/va-agent.pid")
    g.sh(script + "start")
    assert g.sh("cat /var/run/va-agent.pid") == first, "a second one was started"
    g.sh(script + "restart && " + script + "status")
    p.wait_agent(60)
    assert g.sh("cat /var/run/va-agent.pid") != first
    g.sh(script + "stop; " + script + "status; test $? = 3")
    left = g.sh("pidof va-agent", check=False)
    assert not left, left


suite.main()
