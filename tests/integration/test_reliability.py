#!/usr/bin/python3
# test_reliability.py - RELIABILITY.md is what its generator makes of the results, and
# the generator adds up what it is given.
#
# SPDX-License-Identifier: MIT
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import reliability
from vatest import SRC, Suite, tmpdir

suite = Suite()
LINE = {"fault": "f", "how": "h", "channel": "virtio", "times": 2, "lost": 0, "duplicated": 1,
        "hung": 0, "other": 0, "recovery": [0.5, 1.5], "commit": "c1", "machine": "m",
        "form": "short", "seed": 1}


def log(*lines):
    path = os.path.join(tmpdir(), "log")
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(x if isinstance(x, str) else json.dumps(dict(LINE, **x)) + "\n" for x in lines)
    return path


def refused(fn, *args):
    try:
        fn(*args)
    except SystemExit as e:
        return str(e)
    raise AssertionError("not refused")


@suite.case("RELIABILITY.md is what the generator makes of tests/faults/results.jsonl")
def _():
    rows = reliability.parse(os.path.join(SRC, "tests/faults/results.jsonl"))
    with open(os.path.join(SRC, "RELIABILITY.md"), encoding="utf-8") as f:
        assert f.read() == reliability.text(rows), "tests/lib/reliability.py write"


@suite.case("lines of one fault add up; channels and kinds of injection stand apart")
def _():
    text = reliability.text(reliability.parse(log(
        {}, {"recovery": [3.0], "times": 1, "commit": "c2"}, {"how": "h2", "hung": 4},
        {"channel": "serial", "lost": 7})))
    virtio, serial = text.split("## isa-serial")
    assert "| f | h | 3 | 0 | 2 | 0 | 0 | 1.50 s | 3.00 s |" in virtio, text
    assert "| f | h2 | 2 | 0 | 1 | 4 | 0 | 1.00 s | 1.50 s |" in virtio, text
    assert "| **all** | | **5** | **0** | **3** | **4** | **0** |" in virtio, text
    assert "| f | h | 2 | 7 | 1 | 0 | 0 |" in serial, text
    assert "c1 (6); c2 (1)." in serial and "m (7)." in serial, text


@suite.case("a line of a changed tree, or one that is none, is not taken")
def _():
    reliability.RESULTS = os.path.join(tmpdir(), "results")
    assert "changes" in refused(reliability.add, [log({}, {"commit": "c1+"})])
    assert not os.path.exists(reliability.RESULTS)
    assert ":2:" in refused(reliability.parse, log({}, "{}\n"))
    assert ":1:" in refused(reliability.parse, log({"times": "2"}))
    reliability.add([log({}, {})])
    reliability.add([log({})])
    assert len(reliability.parse(reliability.RESULTS)) == 3


suite.main()
