#!/usr/bin/python3
# test_tree.py - the tree keeps its own rules: include direction, one file per
# third-party library, headers that compile alone, no package host named.
#
# SPDX-License-Identifier: MIT
import os
import re
import subprocess
import sys

SRC = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BUILDDIR", os.path.join(SRC, "build"))

# Which of our headers a file below a prefix may include; the first prefix that
# matches decides.  Mains (virtagent/va-*.c, agent_*, hostd_*) may include all.
ALLOWED = [
    ("common/", ["common/"]),
    ("virtproxy/", ["common/", "virtproxy/"]),
    ("virtagent/guest/", ["common/", "virtagent/guest/", "virtagent/method.h",
                          "virtagent/value.h", "virtagent/fault.h",
                          "virtagent/limits.h", "virtagent/agent_spawn.h",
                          "virtagent/keys_common.h", "virtagent/connect.h"]),
    ("virtagent/host/", ["common/", "virtagent/host/", "virtagent/method.h",
                         "virtagent/value.h", "virtagent/fault.h",
                         "virtagent/limits.h", "virtagent/keys_common.h",
                         "virtagent/connect.h"]),
    ("virtagent/client/", ["common/", "virtagent/"]),
    ("virtagent/", ["common/", "virtagent/", "virtproxy/virtproxy.h"]),
]

# Third-party headers and the file (or its parts) that may include them.
LIBRARIES = [
    (r"event2/|event\.h$", "common/loop.c"),
    (r"sha2\.h|sha256\.h", "common/digest.c"),
    (r"xmlrpc", "virtagent/codec_wire.h"),
    (r"libxml/", "virtagent/validate.c"),
    (r"microhttpd", ("virtagent/http_server.c", "virtagent/http_exchange.c")),
    (r"curl/", "virtagent/http_transfer.h"),
    (r"sqlite3", ("virtagent/host/store.c", "virtagent/host/store_events.c",
                  "virtagent/host/store_keys.c")),
    (r"histedit|editline", "virtagent/client/line.c"),
    (r"seccomp\.h", "virtproxy/sandbox.c"),
    (r"zlib\.h", "virtproxy/compress.c"),
]

failures = []
count = 0


def check(name, problems):
    global count
    count += 1
    problems = list(problems)
    for p in problems[:20]:
        print("# " + p)
    print("%sok %d - %s" % ("not " if problems else "", count, name))
    if problems:
        failures.append(name)


def tracked(*patterns):
    """Files of the tree: from git, or in a tarball by walking."""
    try:
        out = subprocess.run(["git", "-C", SRC, "ls-files", "-co",
                              "--exclude-standard", *patterns],
                             capture_output=True, text=True, check=True).stdout
        return [f for f in out.split("\n") if f and
                os.path.isfile(os.path.join(SRC, f))]
    except (OSError, subprocess.CalledProcessError):
        found = []
        for base, dirs, files in os.walk(SRC):
            dirs[:] = [d for d in dirs if not d.startswith(("build", "."))]
            found += [os.path.relpath(os.path.join(base, f), SRC) for f in files]
        ends = [p.lstrip("*") for p in patterns]
        return [f for f in found if not ends or f.endswith(tuple(ends))]


def text(path):
    with open(os.path.join(SRC, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def includes(path):
    return re.findall(r'^\s*#\s*include\s+[<"]([^">]+)[">]', text(path), re.M)


def product(files):
    return [f for f in files if f.startswith(("common/", "virtproxy/", "virtagent/"))]


def layering():
    for path in product(tracked("*.c", "*.h")):
        for rule, allowed in ALLOWED:
            if path.startswith(rule):
                break
        for inc in includes(path):
            if inc.startswith(("common/", "virtproxy/", "virtagent/", "tests/")) \
                    and not inc.startswith(tuple(allowed)):
                yield "%s includes %s" % (path, inc)


def guest_and_host_apart():
    for path in product(tracked("*.c", "*.h")):
        for inc in includes(path):
            if (path.startswith("virtagent/guest/") and "host/" in inc) or \
                    (path.startswith("virtagent/host/") and "guest/" in inc):
                yield "%s includes %s" % (path, inc)


def one_file_per_library():
    for path in product(tracked("*.c", "*.h")):
        for inc in includes(path):
            for pattern, owner in LIBRARIES:
                if re.search(pattern, inc) and not inc.startswith("virtagent/") \
                        and path not in ((owner,) if isinstance(owner, str) else owner):
                    yield "%s includes %s (only %s may)" % (path, inc, owner)


def headers_alone():
    if not os.path.exists(os.path.join(BUILD, "config.h")):
        return
    headers = product(tracked("*.h"))
    for h in headers:
        r = subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Werror",
                            "-fsyntax-only", "-I", SRC, "-I", BUILD, "-x", "c", "-"],
                           input='#include "%s"\n#include "%s"\n' % (h, h),
                           capture_output=True, text=True)
        if r.returncode:
            yield "%s: %s" % (h, r.stderr.split("\n")[0])
    if not headers:
        yield "no headers found"


def licence_lines():
    for path in product(tracked("*.c", "*.h")):
        if "SPDX-License-Identifier: MIT" not in text(path)[:6000]:
            yield "%s has no SPDX line" % path


def package_hosts():
    pattern = re.compile(r"(^|[^a-z])deb(-src)? +(\[[^\]]*\] *)?https?://|^URIs: *https?://",
                         re.M)
    for path in tracked():
        if path.endswith((".bin", ".xz", ".gz")) or "/corpus/" in path:
            continue
        if pattern.search(text(path)) and path != "tests/integration/test_tree.py":
            yield "%s names a package host" % path


def unfinished_marks():
    pattern = re.compile(r"\b(TODO|FIXME|XXX)\b(?!XX)")
    for path in tracked("*.c", "*.h", "*.py", "*.sh", "*.am", "*.inc"):
        if path == "tests/integration/test_tree.py" or "/corpus/" in path:
            continue
        for n, line in enumerate(text(path).split("\n"), 1):
            if pattern.search(line) and "XXXXXX" not in line:
                yield "%s:%d: %s" % (path, n, line.strip()[:80])


def long_functions():
    for path in product(tracked("*.c")):
        start = None
        for n, line in enumerate(text(path).split("\n"), 1):
            if line.startswith("{"):
                start = n
            elif line.startswith("}") and start:
                if n - start > 120:
                    yield "%s:%d: a function of %d lines" % (path, start, n - start)
                start = None


def distributed():
    """Every tracked file is in the tarball or is of the repository only."""
    made = ""
    for path in tracked("*.inc", "*.am"):
        made += text(path)
    for path in product(tracked("*.c", "*.h")):
        if path not in made and os.path.basename(path) not in made:
            yield "%s is in no Makefile.inc" % path
    if not made:
        yield "no Makefile fragments found"


def waits_by_the_walls_clock():
    """Setting the clock must neither end a wait nor make one endless."""
    for path in product(tracked("*.c")):
        t = text(path)
        if "pthread_cond_timedwait(" in t and "setclock(&attr, CLOCK_MONOTONIC)" not in t:
            yield "%s: a timed wait without CLOCK_MONOTONIC" % path


print("1..10")
check("include direction", layering())
check("guest/ and host/ stay apart", guest_and_host_apart())
check("one file per third-party library", one_file_per_library())
check("headers compile alone, and twice", headers_alone())
check("every source names its licence", licence_lines())
check("no package host is named", package_hosts())
check("no unfinished marks", unfinished_marks())
check("no function over 120 lines", long_functions())
check("every source is in a Makefile.inc", distributed())
check("no wait is timed by the wall's clock", waits_by_the_walls_clock())
sys.exit(1 if failures else 0)
