#!/usr/bin/python3
# test_http_forms.py - curl drives the HTTP forms of a real guest's server, over both
# kinds of channel: the command lines of PROTOCOL, as they stand there, and their
# answers.
#
# SPDX-License-Identifier: MIT
import os
import pathlib
import re
import subprocess

from vatest import SRC, Guest, Suite, need_all, scale, tmpdir
from vatest.host import Proxy

need_all("curl")
PAGE = pathlib.Path(SRC, "virtagent/PROTOCOL")
# Where the build's prefix puts them.
OFFERED = {"/usr%s/lib/virtagent/commands/distribution" % local:
           (pathlib.Path(SRC, "dist/commands/distribution"), 0o755) for local in ("", "/local")}

suite = Suite()
guest = Guest(files={"/srv/README": "a directory to write to\n", **OFFERED})
suite.cleanups.append(guest.close)
suite.on_failure.append(guest.report)
proxies = {kind: Proxy(getattr(guest, kind), name="virtproxy-" + kind)
           for kind in ("virtio", "serial")}
for p in proxies.values():
    suite.cleanups.append(p.close)
for p in proxies.values():
    p.wait_agent(120)


def examples():
    """[(command, answer)] of the page's last section, in order."""
    section = PAGE.read_text(encoding="utf-8").split("\n10. With curl\n")[1]
    found = re.findall(r"^     \$ (.*)\n((?:     [^$\n].*\n)*)", section, re.M)
    return [(command, re.sub(r"^     ", "", answer, flags=re.M)) for command, answer in found]


def matches(answer, got):
    """Is it the page's answer, where "..." stands for anything?"""
    pattern = ".*".join(re.escape(part) for part in answer.rstrip("\n").split("..."))
    return re.fullmatch(pattern, got.rstrip("\n"), re.S) is not None


def types_all_of(kind):
    where = os.path.join(tmpdir(), kind)
    os.mkdir(where)
    for command, answer in EXAMPLES:
        r = subprocess.run(["sh", "-c", command], cwd=where, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=60 * scale(),
                           env=dict(os.environ, S=proxies[kind].rpc))
        got = r.stdout.decode().replace("\r\n", "\n")
        assert matches(answer, got), "%s\nPROTOCOL: %s\nhere: %s" % (command, answer, got)
        assert r.returncode == (28 if "--max-time" in command else 0), (command, r.returncode)
    assert guest.sh("stat -c %a /srv/greeting; rm /srv/greeting /srv/two") == "640\n"


EXAMPLES = examples()


@suite.case("the page shows each form: calls, files, programs, jobs, messages")
def _():
    text = " ".join(command for command, _ in EXAMPLES) + " "
    # Those of the page that answer without an Upgrade, and their parameters.
    for word in ("/RPC2", "/file?path=", "/exec?arg=", "/exec?command=", "/jobs/", "/dmesg ",
                 "-T ", "-r ", "&final=", "&offset=", "&mode=", "env=", "cwd=", "user=",
                 "timeout=", "stderr=", "since=", "follow="):
        assert word in text, word


for _kind in ("virtio", "serial"):
    @suite.case("%s: curl gets the answers that PROTOCOL shows" % _kind)
    def _(kind=_kind):
        types_all_of(kind)


suite.main()
