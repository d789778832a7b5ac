#!/usr/bin/python3
"""RELIABILITY.md, made from what the fault tests saw (tests/faults/results.jsonl).

  tests/lib/reliability.py add LOG...     adds the lines of $VA_FAULT_LOG files to the
                                          results, writes RELIABILITY.md anew
  tests/lib/reliability.py drop COMMIT    takes out what was measured before COMMIT
  tests/lib/reliability.py write          writes RELIABILITY.md anew
  tests/lib/reliability.py check          fails if it is not what write would make

Long runs are made in pieces; each adds its lines.  A line says at which commit it
was measured, and all lines count until somebody drops them: whoever changes what a
row is about drops the lines before his change.  A line of a tree with uncommitted
changes is not taken.

SPDX-License-Identifier: MIT
"""
import json
import os
import statistics
import subprocess
import sys

SRC = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RESULTS = os.path.join(SRC, "tests/faults/results.jsonl")
TABLE = os.path.join(SRC, "RELIABILITY.md")
NUMBERS = ("times", "lost", "duplicated", "hung", "other")
TEXTS = ("fault", "how", "channel", "commit", "machine", "form")
CHANNELS = (("virtio", "virtio-serial"), ("serial", "isa-serial"))
HEAD = """# Faults, and what became of the link

Made by `tests/lib/reliability.py` from `tests/faults/results.jsonl`, which the fault tests
(`tests/faults`, `make check-faults`) wrote; not typed.  Each fault was injected into a real
QEMU guest.  Unless a row says "idle", "no host" or "no guest", both channels were under load
in both directions meanwhile: files and calls from the host, checked streams and calls from
the guest.

* **times**: how often the fault was injected, and everything below looked at
* **lost**: streams with a byte missing, changed, of another stream or of another time
  without having been cut; answered calls that were not executed
* **duplicated**: calls executed twice, or executed although reported as never sent
* **hung**: no service within 10 s of the fault's end; parts of the load that did not go
  on; calls that ended neither in an answer nor in a named error by their deadline
* **other**: descriptors, threads or memory that did not go back; injections that failed;
  virtio-serial devices that QEMU broke by a loadvm (`virtproxy(8)`, BUGS: a port waited
  for its chardev at savevm), after which the guest was reset
* **recovery**: seconds from the fault's end to the next answer to a call.  Of a guest that
  boots, the end is when its userspace runs.

All results count that were measured at the commits below; results from before a
change that matters to a row are dropped when it is made.
"""


def parse(path):
    rows = []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            try:
                r = json.loads(line)
                if not all(isinstance(r[k], str) for k in TEXTS) or \
                        not all(isinstance(r[k], int) for k in NUMBERS) or \
                        not all(isinstance(s, (int, float)) for s in r["recovery"]):
                    raise ValueError("a member has the wrong type")
            except (ValueError, KeyError, TypeError) as e:
                sys.exit("%s:%d: not a fault's line: %r" % (path, number, e))
            rows.append(r)
    return rows


def figures(recovery):
    if not recovery:
        return "- | -"
    return "%.2f s | %.2f s" % (statistics.median(recovery), max(recovery))


def table(rows):
    """The lines of one channel's table."""
    out = ["| fault | how | times | lost | duplicated | hung | other | recovery median | worst |",
           "|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    sums = {}
    for r in rows:
        row = sums.setdefault((r["fault"], r["how"]),
                              dict.fromkeys(NUMBERS, 0) | {"recovery": []})
        for k in NUMBERS:
            row[k] += r[k]
        row["recovery"] += r["recovery"]
    everything = []
    for (fault, how), row in sorted(sums.items()):
        everything += row["recovery"]
        out.append("| %s | %s | %s | %s |" % (
            fault, how, " | ".join(str(row[k]) for k in NUMBERS), figures(row["recovery"])))
    out.append("| **all** | | %s | %s |" % (
        " | ".join("**%d**" % sum(r[k] for r in rows) for k in NUMBERS), figures(everything)))
    return out


def made_of(rows, key):
    """"X (12 faults), Y (30)": what the lines were measured on."""
    count = {}
    for r in rows:
        count[r[key]] = count.get(r[key], 0) + r["times"]
    return "; ".join("%s (%d)" % kv for kv in count.items())


def text(rows):
    out = [HEAD]
    for channel, title in CHANNELS:
        some = [r for r in rows if r["channel"] == channel]
        if some:
            out += ["## " + title, "", *table(some), ""]
    out += ["Commits, and faults injected at each: %s." % made_of(rows, "commit"), "",
            "Machines: %s." % made_of(rows, "machine"), ""]
    return "\n".join(out)


def write(path, what):
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(what)
    os.replace(path + ".new", path)


def add(paths):
    new = [r for p in paths for r in parse(p)]
    for r in new:
        if r["commit"].endswith("+") or r["commit"] == "unknown":
            sys.exit("reliability.py: measured in a tree with changes (%s): not added"
                     % r["commit"])
    with open(RESULTS, "a", encoding="utf-8") as f:
        f.writelines(json.dumps(r) + "\n" for r in new)


def drop(commit):
    def since(name):
        return subprocess.run(["git", "-C", SRC, "merge-base", "--is-ancestor", commit, name],
                              check=False).returncode == 0
    keep = [r for r in parse(RESULTS) if since(r["commit"])]
    write(RESULTS, "".join(json.dumps(r) + "\n" for r in keep))


def main(argv):
    verb, args = (argv or [""])[0], argv[1:]
    if (verb, bool(args)) not in (("add", True), ("drop", True), ("write", False),
                                  ("check", False)):
        sys.exit(__doc__.split("\n\n")[1])
    if verb == "add":
        add(args)
    elif verb == "drop":
        drop(args[0])
    want = text(parse(RESULTS))
    if verb != "check":
        write(TABLE, want)
        return
    with open(TABLE, encoding="utf-8") as f:
        if f.read() != want:
            sys.exit("RELIABILITY.md is not what tests/lib/reliability.py makes of the results")


if __name__ == "__main__":
    main(sys.argv[1:])
