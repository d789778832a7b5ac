#!/usr/bin/python3
"""The series as files, and the source list that fetch makes.

SPDX-License-Identifier: MIT
"""
import glob
import os
import re

from harness import HERE, tmpdir
from vatest import Suite, run

TOP = os.path.dirname(HERE)
SERIES = os.path.join(TOP, "7.2")
suite = Suite()


def patches():
    with open(os.path.join(SERIES, "series")) as f:
        return [line for line in f.read().splitlines() if line and not line.startswith("#")]


def read(name):
    with open(os.path.join(SERIES, name), encoding="utf-8") as f:
        return f.read()


@suite.case("series names the patches, in order, and nothing else is there")
def _():
    found = sorted(os.path.basename(p) for p in glob.glob(SERIES + "/*.patch"))
    assert patches() == found
    assert sorted(os.listdir(SERIES)) == sorted(["0000-cover-letter", "series"] + found)


@suite.case("each patch is as git format-patch writes it, signed off, with a reason")
def _():
    names = patches()
    for number, name in enumerate(names, 1):
        text = read(name)
        assert re.search(r"^Subject: \[PATCH 7.2 %d/%d\] " % (number, len(names)), text, re.M), name
        head, _, rest = text.partition("\n---\n")
        author = re.search(r"^From: (.*)$", head, re.M).group(1)
        assert "Signed-off-by: " + author in head, name
        body = head.split("\n\n", 1)[1]
        assert len(body.splitlines()) > 3, "%s gives no reason" % name
    assert "Subject: [PATCH 7.2 0/%d] " % len(names) in read("0000-cover-letter")


@suite.case("documentation comes first; every new file names its licence and maintainer")
def _():
    names = patches()
    assert "docs/" in read(names[0]) and "+++ b/backends" not in read(names[0])
    maintained, new = "", []
    for name in names:
        text = read(name)
        maintained += "".join(re.findall(r"^\+F: .*\n", text, re.M))
        for m in re.finditer(r"^diff --git a/(\S+) b/\S+\nnew file mode (\d+)\n(.*?)(?=^diff |\Z)",
                             text, re.M | re.S):
            new.append(m.group(1))
            assert m.group(2) == "100644", m.group(1)
            if not m.group(1).endswith("meson.build"):
                assert "SPDX-License-Identifier: GPL-2.0-or-later" in m.group(3)[:1500], m.group(1)
    assert len(new) > 15
    for path in new:
        covered = any(re.fullmatch(re.escape(f).replace(r"\*", "[^/]*"), path)
                      for f in re.findall(r"^\+F: (.*)$", maintained, re.M))
        assert covered, "%s is in no F: line of MAINTAINERS" % path


def source_lists(files):
    """What fetch makes of an apt configuration: {file: text}."""
    etc = os.path.join(tmpdir(), "etc%d" % len(os.listdir(tmpdir())))
    os.makedirs(os.path.join(etc, "sources.list.d"))
    for name, text in files.items():
        with open(os.path.join(etc, name), "w") as f:
            f.write(text)
    out = etc + ".out"
    r = run([os.path.join(TOP, "fetch"), out], env={"VA_APT_ETC": etc, "VA_FETCH_LIST_ONLY": "1"})
    made = {}
    for path in glob.glob(out + "/apt/parts/*"):
        with open(path) as f:
            made[os.path.basename(path)] = f.read()
    return r, made


@suite.case("fetch: one-line lists, with options, comments, and deb-src lines of their own")
def _():
    r, made = source_lists({"sources.list": (
        "# deb x y z\n"
        "deb [signed-by=/k.gpg arch=amd64] scheme://host/a stable main extra\n"
        "  deb scheme://host/b stable-updates main\n"
        "deb-src scheme://host/c stable main\n"), "sources.list.d/more.list":
        "deb scheme://host/d ./\n"})
    assert r.returncode == 0, r
    lines = "".join(made.values()).splitlines()
    assert sorted(lines) == [
        "deb-src [signed-by=/k.gpg arch=amd64] scheme://host/a stable main extra",
        "deb-src scheme://host/b stable-updates main",
        "deb-src scheme://host/c stable main",
        "deb-src scheme://host/d ./"], lines
    assert all(n.endswith(".list") for n in made), made


@suite.case("fetch: deb822 sources, each stanza, fields kept")
def _():
    text = ("Types: deb\nURIs: scheme://host/a\nSuites: stable\nComponents: main\n"
            "Signed-By:\n -----BEGIN PGP-----\n .\n x\n\n"
            "types: deb deb-src\nURIs: scheme://host/b\nSuites: stable\nEnabled: no\n")
    r, made = source_lists({"sources.list.d/x.sources": text})
    assert r.returncode == 0, r
    (name, got), = made.items()
    assert name.endswith(".sources")
    assert got == text.replace("Types: deb\n", "Types: deb-src\n").replace(
        "types: deb deb-src", "types: deb-src"), got


@suite.case("fetch: without any entry it says so")
def _():
    r, made = source_lists({"sources.list": "# nothing\n"})
    assert r.returncode == 1 and "no deb entry" in r.stderr, r


if __name__ == "__main__":
    suite.main()
