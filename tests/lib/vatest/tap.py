"""Cases and TAP.

  suite = Suite()

  @suite.case("what must hold")
  def _():
      ...            # an exception (assert included) fails the case

  suite.main()       # runs them in order, prints the plan, exits

Cases of one suite share what the module holds (a guest, say) and run in order.

SPDX-License-Identifier: MIT
"""
import os
import re
import shutil
import sys
import time
import traceback

from . import proc

# A report of a sanitizer in any program's log; tests/run looks for the same.
SANITIZER = re.compile(r"(==\d+==ERROR: |WARNING: ThreadSanitizer|\S+: runtime error: ).*"
                       r"(\n.*){0,60}")


class Skip(Exception):
    """Raised by a case; the text names what is missing."""


def need(*commands):
    """Skips the case unless the programs exist."""
    for c in commands:
        found = os.access(c, os.X_OK) if os.sep in c else shutil.which(c)
        if not found:
            raise Skip("%s is missing" % c)


def need_all(*commands):
    """Skips the whole program unless the programs exist."""
    try:
        need(*commands)
    except Skip as e:
        print("1..0 # SKIP %s" % e)
        sys.exit(0)


def _comment(text):
    for line in text.rstrip("\n").splitlines():
        print("# " + line)


class Suite:
    def __init__(self):
        self.cases = []
        self.on_failure = []     # called after a failed case; they return text to show
        self.cleanups = []       # called when all cases ran, last first

    def case(self, name):
        def add(fn):
            self.cases.append((name, fn))
            return fn
        return add

    def _one(self, number, name, fn):
        began = time.monotonic()
        try:
            fn()
            verdict, note = "ok", ""
        except Skip as e:
            verdict, note = "ok", " # SKIP %s" % e
        except Exception:       # the case failed, whatever it was
            verdict, note = "not ok", ""
            _comment(traceback.format_exc())
            for show in self.on_failure:
                try:
                    _comment(show())
                except Exception as e:
                    _comment("(nothing more to show: %s)" % e)
        print("%s %d - %s%s" % (verdict, number, name.replace("#", "no. "), note))
        print("# %.2f s" % (time.monotonic() - began))
        sys.stdout.flush()
        return verdict == "ok"

    def run(self):
        print("1..%d" % len(self.cases), flush=True)
        good = True
        try:
            for number, (name, fn) in enumerate(self.cases, 1):
                good = self._one(number, name, fn) and good
        finally:
            for fn in reversed(self.cleanups):
                try:
                    fn()
                except Exception:
                    _comment("while cleaning up:\n" + traceback.format_exc())
                    good = False
            good = not self._sanitizer_reports() and good
        return good

    @staticmethod
    def _sanitizer_reports():
        """Prints what sanitizers said in the logs, so that the runner sees it."""
        found = 0
        for path in proc.logs:
            try:
                with open(path, encoding="utf-8", errors="replace") as f:
                    text = f.read()
            except OSError:
                continue
            for m in SANITIZER.finditer(text):
                found += 1
                print(m.group(0).replace("\r", ""))
                print("# (in %s)" % os.path.basename(path))
        return found

    def main(self):
        sys.exit(0 if self.run() else 1)


def _skip_all(kind, value, trace):
    """A Skip outside of a case skips the whole program."""
    if issubclass(kind, Skip):
        print("1..0 # SKIP %s" % value, flush=True)
        os._exit(0)
    sys.__excepthook__(kind, value, trace)


sys.excepthook = _skip_all
