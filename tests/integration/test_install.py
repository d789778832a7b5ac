#!/usr/bin/python3
# test_install.py - what make install puts where, and that it fits together: units
# name programs that are there, the SysV script is POSIX sh, examples are taken.
#
# SPDX-License-Identifier: MIT
import os
import re

from vatest import BUILD, Skip, Suite, need, run, tmpdir

DEST = os.path.join(tmpdir(), "dest")
suite = Suite()


def prefix():
    with open(os.path.join(BUILD, "Makefile"), encoding="utf-8") as f:
        return re.search(r"^prefix = (.*)$", f.read(), re.M).group(1)


def installed(path):
    return DEST + os.path.join(prefix(), path)


def text(path):
    with open(installed(path), encoding="utf-8") as f:
        return f.read()


@suite.case("make install DESTDIR=")
def _():
    need("make")
    env = {"MAKEFLAGS": "", "MAKELEVEL": ""}
    run(["make", "-s", "-C", BUILD, "install", "DESTDIR=" + DEST], seconds=120, env=env, check=True)
    for path in ("lib/systemd/system/va-agent.service", "lib/systemd/system/va-hostd.service",
                 "lib/udev/rules.d/60-virtagent.rules", "etc/init.d/va-agent",
                 "share/doc/virtagent/examples/agent.conf"):
        assert os.path.exists(installed(path)), path
    for path in ("bin/va-client", "sbin/va-agent", "sbin/va-hostd", "sbin/virtproxy",
                 "libexec/virtagent/va-agent-server"):
        assert os.access(installed(path), os.X_OK), path


@suite.case("nothing is installed outside of the prefix, nothing of the tests in it")
def _():
    for base, _dirs, files in os.walk(DEST):
        for f in files:
            path = os.path.join(base, f)
            assert path.startswith(installed("")), path
            assert not f.startswith(("test-", "replay-", "fuzz-", "test_")), path


@suite.case("units start installed programs")
def _():
    for unit in ("va-agent.service", "va-hostd.service"):
        for program in re.findall(r"^ExecStart=(\S+)", text("lib/systemd/system/" + unit), re.M):
            assert os.access(DEST + program, os.X_OK), program
    rule = text("lib/udev/rules.d/60-virtagent.rules")
    assert "va-agent.service" in rule and "org.virtagent.0" in rule


@suite.case("the SysV script is POSIX sh and starts the installed agent")
def _():
    path = installed("etc/init.d/va-agent")
    assert os.access(path, os.X_OK)
    need("busybox")
    assert run(["busybox", "sh", "-n", path]).returncode == 0
    program = re.search(r"^DAEMON=(\S+)", text("etc/init.d/va-agent"), re.M).group(1)
    assert os.access(DEST + program, os.X_OK), program
    r = run(["busybox", "sh", path, "nonsense"])
    assert r.returncode == 2 and "usage" in r.stderr, r


@suite.case("the static agent, where built, is static")
def _():
    path = os.path.join(BUILD, "va-agent-static")
    if not os.path.exists(path):
        raise Skip("va-agent-static is missing")
    assert run(["ldd", path]).returncode != 0
    assert os.path.getsize(path) < 8 << 20, os.path.getsize(path)
    r = run([path, "--version"])
    assert r.returncode == 0 and "virtagent" in r.stdout, r


suite.main()
