#!/usr/bin/python3
# test_runner.py - the runner sees what is wrong with a test: each fake test
# below is broken in one way, and tests/run must count it so.
#
# SPDX-License-Identifier: MIT
import os
import subprocess
import sys
import tempfile
import time

SRC = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RUN = os.path.join(SRC, "tests/run")

# name, shell script, expected last line, text that must be in the output
CASES = [
    ("good", "echo 1..2; echo ok 1 a; echo ok 2 - b",
     "2 passed, 0 failed, 0 skipped", "ok "),
    ("a skipped point", "echo 1..2; echo ok 1 a; echo 'ok 2 b # SKIP no thing'",
     "1 passed, 0 failed, 1 skipped", "no thing"),
    ("all skipped", "echo '1..0 # SKIP no thing'",
     "0 passed, 0 failed, 1 skipped", ""),
    ("a failing point", "echo 1..2; echo ok 1 a; echo not ok 2 b; exit 1",
     "1 passed, 1 failed, 0 skipped", "not ok 2 b"),
    ("no plan", "echo ok 1 a",
     "1 passed, 1 failed, 0 skipped", "printed no plan"),
    ("silence", "true",
     "0 passed, 1 failed, 0 skipped", "printed no plan"),
    ("fewer points than planned", "echo 1..3; echo ok 1 a",
     "1 passed, 1 failed, 0 skipped", "planned 3 points, printed 1"),
    ("dies", "echo 1..1; echo ok 1 a; kill -SEGV $$",
     "1 passed, 1 failed, 0 skipped", "SIGSEGV"),
    ("bad exit status", "echo 1..1; echo ok 1 a; exit 3",
     "1 passed, 1 failed, 0 skipped", "exit status 3"),
    ("sanitizer report", "echo 1..1; echo ok 1 a; echo 'x.c:1:2: runtime error: boo'",
     "1 passed, 1 failed, 0 skipped", "a sanitizer reported"),
    ("process left behind", "setsid sleep 100 & echo 1..1; echo ok 1 a",
     "1 passed, 1 failed, 0 skipped", "left running"),
    ("hangs", "echo 1..1; setsid sleep 100 & echo $! >\"$KEEP\"; sleep 100",
     "0 passed, 1 failed, 0 skipped", "time limit"),
]


def run(path, env):
    return subprocess.run([RUN, "--builddir", os.path.dirname(path), path],
                          capture_output=True, text=True, env=env, timeout=60)


def alone_is_alone(tmp, env):
    """A program that asks for it has none beside it: the other one holds a directory
    for as long as it runs, and waits for the asking one while it may."""
    held, seen = os.path.join(tmp, "held"), os.path.join(tmp, "seen")
    scripts = {"test_beside.py": ("", "mkdir %s; for i in 1 2 3 4 5 6 7 8 9 10; do [ -e %s ] "
                                  "|| sleep 0.1; done; rmdir %s" % (held, seen, held)),
               "test_by_itself.py": ("# alone: must not be disturbed\n",
                                     "touch %s; [ ! -d %s ]" % (seen, held))}
    for name, (line, script) in scripts.items():
        with open(os.path.join(tmp, name), "w") as f:
            f.write("%simport os\nos.execv('/bin/sh', ['sh', '-c', %r])\n" % (
                line, "echo 1..1; %s && echo ok 1 a" % script))
    r = subprocess.run([RUN, "--builddir", tmp, "--jobs", "2",
                        *(os.path.join(tmp, n) for n in scripts)],
                       capture_output=True, text=True, env=env, timeout=60)
    if r.returncode:
        print("# " + "\n# ".join((r.stdout + r.stderr).splitlines()))
    return r.returncode == 0


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().split(")")[-1].split()[0] != "Z"
    except OSError:
        return False


def main():
    failed = 0
    print("1..%d" % (len(CASES) + 3))
    with tempfile.TemporaryDirectory() as tmp:
        keep = os.path.join(tmp, "pid")
        env = {k: v for k, v in os.environ.items() if k not in ("VA_TEST_TMP", "VA_TIME_SCALE")}
        env["KEEP"] = keep
        for n, (name, script, last, text) in enumerate(CASES, 1):
            path = os.path.join(tmp, "test_%d.py" % n)
            with open(path, "w") as f:
                f.write("# time-limit: 2\nimport os\nos.execv('/bin/sh', "
                        "['sh', '-c', %r])\n" % script)
            r = run(path, env)
            lines = r.stdout.splitlines()
            good = lines and lines[-1] == last and text in r.stdout
            good = good and (r.returncode == 0) == (" 0 failed" in last)
            if not good:
                failed += 1
                print("# exit %d\n# %s" % (r.returncode,
                                           "\n# ".join((r.stdout + r.stderr).splitlines())))
            print("%sok %d - %s" % ("" if good else "not ", n, name))
        # What the hanging test had put into a session of its own is gone too.
        with open(keep) as f:
            pid = int(f.read())
        deadline = time.monotonic() + 5
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        gone = not alive(pid)
        failed += not gone
        print("%sok %d - a process in another session is killed at the limit"
              % ("" if gone else "not ", len(CASES) + 1))
        # The same when the runner itself is told to end.
        path = os.path.join(tmp, "test_term.py")
        with open(path, "w") as f:
            f.write("import os\nos.execv('/bin/sh', ['sh', '-c', %r])\n" % CASES[-1][1])
        os.unlink(keep)
        runner = subprocess.Popen([RUN, "--builddir", tmp, path], env=env,
                                  stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (os.path.exists(keep) and os.path.getsize(keep)):
            time.sleep(0.05)
        with open(keep) as f:
            pid = int(f.read())
        for _ in range(50):     # who is in a hurry says it twice
            runner.terminate()
            time.sleep(0.0005)
        status = runner.wait(20)
        deadline = time.monotonic() + 5
        while alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        good = not alive(pid) and status not in (0, None)
        failed += not good
        print("%sok %d - a runner that is ended ends what it started"
              % ("" if good else "not ", len(CASES) + 2))
        good = alone_is_alone(tmp, env)
        failed += not good
        print("%sok %d - a program that asks for it runs alone"
              % ("" if good else "not ", len(CASES) + 3))
    return 1 if failed else 0


sys.exit(main())
