#!/usr/bin/python3
# test_docs_methods.py - virtagent-methods(7) is what the method tables of va-agent and
# va-hostd say.  When it fails: scripts/make-methods-page, and commit the page.
#
# SPDX-License-Identifier: MIT
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import BUILD, SRC, Suite, need, need_all, program, run  # noqa: E402
from vatest.hostd import Hostd, need_hostd  # noqa: E402

need_hostd()
need_all(program("va-agent"))
PAGE = os.path.join(SRC, "virtagent/virtagent-methods.7")
suite = Suite()


@suite.case("the page is made from the tables (else run scripts/make-methods-page)")
def _():
    r = run([os.path.join(SRC, "scripts/make-methods-page"), "--check"],
            env={"BUILDDIR": BUILD, "SRCDIR": SRC}, seconds=60)
    assert r.returncode == 0, "\n%s\n%s" % (r.stdout, r.stderr)


@suite.case("every row has its entry, and a description worth reading")
def _():
    with open(PAGE, encoding="utf-8") as f:
        entries = set(re.findall(r"^\.TP\n\.B ([a-z_.\\A-Z-]+)", f.read(), re.M))
    host = Hostd()
    try:
        rpc = host.rpc()
        for name in rpc.system.listMethods():
            assert name in entries, name
            if "original" not in rpc.system.methodInfo(name)["flags"]:
                assert len(rpc.system.methodHelp(name)) > len(name) + 10, name
    finally:
        host.close()


@suite.case("the page is clean roff")
def _():
    need("mandoc")
    r = run(["mandoc", "-T", "lint", "-W", "warning", PAGE])
    assert r.returncode == 0, r.stdout


suite.main()
