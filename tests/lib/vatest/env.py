"""Where things are, and how slow this machine is.

SPDX-License-Identifier: MIT
"""
import atexit
import os
import shutil
import tempfile

SRC = os.environ.get("SRCDIR") or os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.path.abspath(os.environ.get("BUILDDIR") or os.path.join(SRC, "build"))
# What costs a download or a minute to make is kept here, for all build trees.
CACHE = os.path.abspath(os.environ.get("VA_CACHE") or os.path.join(SRC, "build", "cache"))

_tmp = None


def scale():
    """The factor every wait is multiplied with (VA_TIME_SCALE)."""
    try:
        factor = float(os.environ.get("VA_TIME_SCALE", "1"))
    except ValueError:
        return 1.0
    return factor if 0.01 <= factor <= 1000 else 1.0


def tmpdir():
    """This test's own directory; short, because sockets live in it."""
    global _tmp
    if _tmp is None:
        _tmp = os.environ.get("VA_TEST_TMP")
        if not _tmp:
            _tmp = tempfile.mkdtemp(prefix="va-t-", dir="/tmp")
            atexit.register(shutil.rmtree, _tmp, ignore_errors=True)
    return _tmp


def program(name):
    """The path of one of our programs in the build tree (no check)."""
    path = os.path.join(BUILD, name)
    # A directory of objects may have the program's name.
    return os.path.join(path, name) if os.path.isdir(path) else path


def sanitized():
    """The -fsanitize list of this build, or an empty string."""
    try:
        with open(os.path.join(BUILD, "config.h"), encoding="utf-8") as f:
            for line in f:
                if "VA_BUILD_SUMMARY" in line and "sanitizers " in line:
                    value = line.split("sanitizers ", 1)[1].split(";")[0].strip()
                    return "" if value == "no" else value
    except OSError:
        pass
    return ""
