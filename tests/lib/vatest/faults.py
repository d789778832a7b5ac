"""Faults under load: how they are injected, and what must hold afterwards.

  rig = Rig(reboot=True)                # the guest's options

  @rig.row("virtproxy killed", "kill -9, started again")
  def _(links, n):
      ...                               # injects it on all the links, n = 0, 1, ...

  rig.main()

A row's function returns when the fault is over, or the time (monotonic) when it
was.  Each is injected a few times while the load of load.py runs on all channels
at once.  After each time, without any help, there must be

  service again within RECOVERY seconds of the fault's end
  every part of the load has done its work once more, begun after that (the guest's
      calls once after the last of a few)
  each call ended in one answer or a named error (0, 10, 11, 124) by its deadline
  nothing executed twice; what was answered was executed; "never sent" was not
  streams exact to the byte as far as they came, and either whole or cut
  descriptors and threads of virtproxy and agent as before, memory nearly so

A guest that boots meanwhile is given its boot: such a row ends when the guest's
userspace runs, that is when init has started the agent.

VA_FAULTS_ROUNDS=N  each fault N times (3)      VA_FAULTS_STOP=S  stops of S seconds (5)
VA_FAULTS_ONLY=RE   rows whose names match      VA_FAULTS_MIX=N   N faults drawn at random
VA_FAULTS_SEED=N    the draw and the pauses     VA_FAULT_LOG=FILE a JSON line per result

SPDX-License-Identifier: MIT
"""
import json
import os
import random
import re
import sys
import threading
import time
import traceback

from .env import scale, tmpdir
from .guest import Guest
from .host import Proxy
from .load import (CALL_SECONDS, CALL_START, Call, Echo, Get, KINDS, NAMED, Put,
                   guest_options)
from .proxy import Ctl
from .record import record
from .rpc import xmlrpc_proxy
from .tap import Suite
from .wait import Timeout, wait_until

RECOVERY = 10.0         # seconds to service after a fault's end
FINISH = 60.0           # seconds for each part of the load to get its turn again
COUNT_PORT = "0x5c0"    # tests/lib/guest/count.c
MEMORY_SLACK = 4096     # KiB: what allocators keep
CHUNK = 10              # rounds between two looks at counts and usage

ROUNDS = int(os.environ.get("VA_FAULTS_ROUNDS") or 3)
STOP = float(os.environ.get("VA_FAULTS_STOP") or 5)
ONLY = os.environ.get("VA_FAULTS_ONLY") or ""
MIX = int(os.environ.get("VA_FAULTS_MIX") or 0)
SEED = int(os.environ.get("VA_FAULTS_SEED") or random.SystemRandom().randrange(1 << 31))
LONG = STOP >= 30


class Link:
    """One channel: its virtproxy, its load, its echo."""

    def __init__(self, rig, kind, channel):
        self.rig, self.kind = rig, kind
        self._attach(channel)
        self.seen = set()               # lines of the guest's files
        self.doubtful = set()           # calls of the guest that it may make twice
        self.parts = [Get(self), Put(self), Call(self)]
        self.call = self.parts[2]

    def _attach(self, channel):
        self.echo_path = os.path.join(tmpdir(), "echo-%s" % self.kind)
        self.echo = Echo(self.echo_path)
        self.proxy = self.start(channel)

    def start(self, channel, args=()):
        p = Proxy(channel, ["-i", "virtagent-host:%s:-" % self.echo_path, *args],
                  name="virtproxy-" + self.kind, start=False)
        p.argv += ["--ctl", os.path.join(p.dir, "ctl.sock"), "--name", self.kind]
        p.restart()
        return p

    def command(self, line):
        c = Ctl(os.path.join(self.proxy.dir, "ctl.sock"))
        try:
            return c.command(line)
        finally:
            c.close()

    def status(self):
        return json.loads(self.command("status json"))

    def restart(self):
        """kill -9, and a new one in its place."""
        self.proxy.process.kill()
        self.proxy.restart()

    def pids(self):
        """The agent's processes of this channel: endpoint, server, spawner."""
        wanted = "isaserial" if self.kind == "serial" else ""
        out = self.rig.guest.sh(
            "for p in $(pidof va-agent); do echo $p $(sed -n 's/^PPid:.//p' /proc/$p/status) "
            "$(tr '\\0' ' ' </proc/$p/cmdline); done 2>/dev/null; true")
        rows = [line.split(None, 2) for line in out.splitlines()
                if re.match(r"\d+ \d+ \S", line)]     # else it ended meanwhile
        found = {}
        for pid, _parent, words in rows:
            if "--role=" not in words and ("isaserial" in words) == bool(wanted):
                found["endpoint"] = int(pid)
        for pid, parent, words in rows:
            m = re.search(r"--role=(\w+)", words)
            if m and int(parent) == found.get("endpoint"):
                found[m.group(1)] = int(pid)
        return found

    def agent_pid(self, role):
        return wait_until(lambda: self.pids().get(role), 15, "the agent's " + role, 0.1)

    def ping(self, timeout=2.0):
        try:
            return xmlrpc_proxy(self.proxy.rpc, timeout).guest.ping() == "pong"
        except Exception:               # no service, in one of many ways
            return False

    def serve_again(self, since, seconds=RECOVERY):
        """Seconds from since to the first answer; None if there is none."""
        while time.monotonic() - since < seconds * scale():
            if self.ping():
                return time.monotonic() - since
            time.sleep(0.02)
        return None

    # --- what it takes ------------------------------------------------------

    def usage(self):
        """Descriptors, threads and memory (KiB) of virtproxy and agent."""
        pid = self.proxy.process.pid
        u = {"virtproxy": usage_of(pid)}
        pids = self.pids()
        script = "".join(
            "echo %s $(ls /proc/%d/fd | wc -l) "
            "$(sed -n 's/^\\(VmRSS\\|Threads\\):[^0-9]*\\([0-9]*\\).*/\\2/p' /proc/%d/status)\n"
            % (role, p, p) for role, p in pids.items())
        for line in self.rig.guest.sh(script).splitlines():
            words = line.split()
            if len(words) == 4 and words[0] in pids:    # else it ended meanwhile
                role, fds, rss, threads = words
                u[role] = int(fds), int(threads), int(rss)
        return u


def usage_of(pid):
    """Descriptors, threads and memory (KiB) of a process of this machine."""
    with open("/proc/%d/status" % pid) as f:
        text = f.read()
    return (len(os.listdir("/proc/%d/fd" % pid)),
            int(re.search(r"Threads:\s*(\d+)", text).group(1)),
            int(re.search(r"VmRSS:\s*(\d+)", text).group(1)))


class Row:
    def __init__(self, name, how, inject, kinds, rewinds, boots, load):
        self.name, self.how, self.inject, self.kinds = name, how, inject, kinds
        self.rewinds, self.boots, self.load = rewinds, boots, load


class Results:
    """What came of some rounds of one row: a line per channel, and what is wrong."""

    def __init__(self, row, kinds):
        self.row = row
        self.lines = {k: {"fault": row.name, "how": row.how, "channel": k, "times": 0,
                          "lost": 0, "duplicated": 0, "hung": 0, "other": 0, "recovery": []}
                      for k in kinds}
        self.problems = []

    def wrong(self, kind, column, text):
        """A column gets one more, of all channels if kind is None; on a channel that the
        row is not about it is only said."""
        self.problems.append("%s: %s" % (kind or "all", text))
        for k, line in self.lines.items():
            line[column] += kind in (None, k)


class Rig:
    link = Link
    guest_load_options = {}

    def __init__(self, kinds=KINDS, **options):
        self.suite = Suite()
        self.kinds, self.options = kinds, options
        self.guest = None
        self.links, self.baseline, self.rows = {}, {}, []
        self.rewinds = False
        self.after = None               # a row's function may leave what to look at then
        self.random = random.Random(SEED)
        self.count_path = os.path.join(tmpdir(), "count")
        self.count_from = 0

    # --- the rows -------------------------------------------------------------

    def row(self, name, how, kinds=None, rewinds=False, boots=False, load=True):
        """rewinds: the guest goes back in time.  boots: it starts anew.  load: False =
        nothing else goes on."""
        def add(fn):
            self.rows.append(Row(name, how, fn, kinds or self.kinds, rewinds, boots, load))
            return fn
        return add

    def main(self):
        self.rows = [r for r in self.rows if re.search(ONLY, r.name)]
        if not self.rows:
            print("1..0 # SKIP no row matches VA_FAULTS_ONLY")
            sys.exit(0)
        print("# VA_FAULTS_SEED=%d" % SEED)
        self.suite.case("the load runs on all channels")(self.begin)
        if MIX:
            self.suite.case("%d faults in random order" % MIX)(self._mix)
        else:
            for row in self.rows:
                self.suite.case(row.name)(lambda row=row: self._many(row))
        self.suite.main()

    def _many(self, row):
        problems = []
        for first in range(0, ROUNDS, CHUNK):
            problems += self.rounds(row, range(first, min(ROUNDS, first + CHUNK)))
        assert not problems, "\n".join([row.name + ":"] + problems)

    def _mix(self):
        problems = []
        for n in range(MIX):
            row = self.random.choice(self.rows)
            found = self.rounds(row, (n,))
            problems += [row.name + ": " + p for p in found]
        assert not problems, "\n".join(problems)

    # --- guest and load ---------------------------------------------------------

    def begin(self):
        """The service is there; what it takes without load is the baseline."""
        options = dict(self.options)
        for key, value in guest_options(self.kinds, **self.guest_load_options).items():
            options[key] = {**value, **options.get(key, {})} if isinstance(value, dict) \
                else value + options.get(key, "")
        options["args"] = ("-chardev", "file,id=count,append=on,path=" + self.count_path,
                           "-device", "isa-debugcon,iobase=%s,chardev=count" % COUNT_PORT,
                           *options.get("args", ()))
        self.guest = Guest(name="faults", channels=self.kinds, **options)
        self.suite.cleanups.append(lambda: self.guest.close())
        self.before_links()
        self.suite.on_failure.append(lambda: self.guest.report() + "\nQEMU:\n" +
                                     self.guest.qemu.log()[-2000:])
        for kind in self.kinds:
            self.links[kind] = self.link(self, kind, getattr(self.guest, kind))
            self.suite.cleanups.append(lambda k=kind: self.links[k].proxy.close())
            self.suite.on_failure.append(lambda k=kind: "virtproxy-%s:\n%s" % (
                k, self.links[k].proxy.process.log()[-3000:]))
        for link in self.links.values():
            link.proxy.wait_agent(120)
        self.resume()
        late = self._turn(time.monotonic())
        assert not late, "no work is done by %s" % late
        self.pause()
        self.guest_load(False)
        time.sleep(0.5)
        for kind, link in self.links.items():
            self.baseline[kind] = link.usage()
        self.guest_load(True)

    def before_links(self):
        """The guest is there; for what the links need."""

    def resume(self):
        for link in self.links.values():
            for part in link.parts:
                part.go.set()

    def pause(self):
        """Lets each part finish its step; returns those that do not."""
        for link in self.links.values():
            for part in link.parts:
                part.go.clear()
        hung = []
        deadline = time.monotonic() + 60 * scale()
        for link in self.links.values():
            for part in link.parts:
                if not part.idle.wait(max(0, deadline - time.monotonic())):
                    hung.append((link.kind, "%s for %.0f s" % (
                        type(part).__name__, time.monotonic() - part.began)))
        return hung

    def guest_load(self, go):
        """Whether the guest begins streams and calls; off: waits until all are over."""
        self.guest.sh("%s /run/go" % (">" if go else "rm -f"))
        if not go:
            # The files also speak for a step that has looked at go and begins.
            self.guest.sh("while ls /run/busy-* >/dev/null 2>&1 || pidof stream va-client; do "
                          "usleep 50000; done", 120)

    def _turn(self, since, calls=True, seconds=FINISH):
        """Waits until all have done their work once, begun after since; what has not.
        calls: the guest's calls, too, which take it seconds."""
        marks = {k: (link.echo.complete, len(link.echo.calls)) for k, link in self.links.items()}

        def late():
            found = [(k, type(p).__name__) for k, link in self.links.items()
                     for p in link.parts if p.last_done < since]
            for k, link in self.links.items():
                found += [(k, "the guest's streams")] * (link.echo.streams and
                                                          link.echo.complete == marks[k][0])
                found += [(k, "the guest's calls")] * (calls and
                                                        len(link.echo.calls) == marks[k][1])
            return found
        try:
            wait_until(lambda: not late(), seconds, "the load", 0.05)
        except Timeout:
            return late()
        return []

    # --- one row -----------------------------------------------------------------

    def rounds(self, row, numbers):
        """Injects row's fault once per number; checks; records; what is wrong."""
        links = {k: self.links[k] for k in row.kinds}
        self.res = res = Results(row, row.kinds)
        first = {k: link.call.number for k, link in self.links.items()}
        self.rewinds = row.rewinds
        self.count_from = len(self._count_file())
        if row.load:
            self.resume()
        else:
            self.guest_load(False)
        spent = [0.0, 0.0, 0.0]
        for number in numbers:
            if row.boots or row.rewinds:        # what the guest noted may be gone after
                self._check_streams(res)
            time.sleep(self.random.uniform(0.05, 0.5))
            began = time.monotonic()
            try:
                over = row.inject(links, number) or time.monotonic()
            except Exception:           # the other rounds, and rows, are still of use
                over = time.monotonic()
                res.wrong(None, "other", "while injecting: " + traceback.format_exc())
            injected = time.monotonic()
            self._recover(links, over, res)
            after, self.after = self.after, None
            if after:
                after()
            served = time.monotonic()
            if row.load:
                for kind, part in self._turn(served, number == numbers[-1]):
                    res.wrong(kind, "hung", "%s did no more work" % part)
            for i, s in enumerate((injected - began, served - injected,
                                   time.monotonic() - served)):
                spent[i] += s
        began = time.monotonic()
        for kind, what in self.pause():
            res.wrong(kind, "hung", "hung: " + what)
        self.guest_load(False)
        self.rewinds = False
        self._check_counts(first, res)
        self._check_guest_calls(res)
        self._check_streams(res)
        self._check_usage(res)
        self.guest_load(True)
        print("# seconds: injecting %.1f, recovery %.1f, the load's turn %.1f, the end %.1f" % (
            *spent, time.monotonic() - began))
        self._report(res)
        return res.problems

    def problem(self, kind, column, text):
        """What a row's function found wrong itself."""
        self.res.wrong(kind, column, text)

    def _recover(self, links, over, res):
        found = {}

        def look(kind, link):
            found[kind] = link.serve_again(over)
        threads = [threading.Thread(target=look, args=kv) for kv in links.items()]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for kind, link in links.items():
            res.lines[kind]["times"] += 1
            if found[kind] is None:
                res.wrong(kind, "hung", "no service %.0f s after the fault's end; %s" % (
                    RECOVERY, self._state(link)))
                link.serve_again(time.monotonic(), 60)   # or what follows says nothing
            else:
                res.lines[kind]["recovery"].append(round(found[kind], 3))

    @staticmethod
    def _state(link):
        try:
            return link.status()
        except (OSError, EOFError) as e:
            return repr(e)

    # --- the guest's processor --------------------------------------------------------

    def processor(self):
        """How long it ran, and how long it waited for one of the host's, which to the guest
        is time of whatever runs there; nanoseconds."""
        thread = self.guest.qmp("query-cpus-fast")[0]["thread-id"]
        with open("/proc/%d/task/%d/schedstat" % (self.guest.qemu.pid, thread)) as f:
            return [int(word) for word in f.read().split()[:2]]

    def starved(self):
        """How many times slower than alone on its host it has been since it started."""
        ran, waited = self.processor()
        return (ran + waited) / max(ran, 1)

    # --- what must hold -------------------------------------------------------------

    def _count_file(self):
        with open(self.count_path, "rb") as f:
            return f.read()

    def _check_counts(self, first, res):
        """Executions against what the callers were told.  Of a guest that goes back in
        time, the executions of the time that it is in count."""
        rewinds, seen = res.row.rewinds, {}
        text = self.guest.sh("cat /run/count 2>/dev/null; true") if rewinds \
            else self._count_file()[self.count_from:].decode()
        for line in text.split():
            seen[line] = seen.get(line, 0) + 1
        for kind, link in self.links.items():
            for n in range(first[kind] + 1, link.call.number + 1):
                ident = link.call.ident(n)
                status, times = link.call.ended.get(ident, (None, 0))[0], seen.get(ident, 0)
                if status is None:
                    res.wrong(kind, "hung", "%s never ended" % ident)
                elif times > 1:
                    res.wrong(kind, "duplicated", "%s was executed %d times" % (ident, times))
                elif status == 0 and not times and not rewinds:
                    res.wrong(kind, "lost", "%s was answered, not executed" % ident)
                elif status == 10 and times and not rewinds:
                    res.wrong(kind, "duplicated", "%s was executed, but called never sent"
                              % ident)

    def _check_guest_calls(self, res):
        """The same for the guest's calls, which the host counts.  Of one that the guest
        began before it went back in time nothing can be said: it begins it again."""
        for kind, link in self.links.items():
            calls = link.echo.calls
            if res.row.rewinds:
                link.doubtful.update(calls)
            for line in self._news(link, "calls"):
                ident, status, took = line.split()
                if int(status) not in NAMED:
                    res.wrong(kind, "hung", "the guest's call %s: status %s" % (ident, status))
                elif int(took) > CALL_SECONDS + CALL_START * scale() * self.starved():
                    res.wrong(kind, "hung", "the guest's call %s: %s s, its deadline was %d"
                              % (ident, took, CALL_SECONDS))
                elif ident in link.doubtful or res.row.rewinds:
                    continue
                elif int(status) == 0 and ident not in calls:
                    res.wrong(kind, "lost", "%s was answered, not executed" % ident)
                elif int(status) == 10 and ident in calls:
                    res.wrong(kind, "duplicated", "%s was executed, but called never sent"
                              % ident)
            for ident in [i for i in list(calls) if calls[i] > 1 and i not in link.doubtful]:
                res.wrong(kind, "duplicated", "%s was executed %d times" % (ident, calls[ident]))
                link.doubtful.add(ident)

    def _check_streams(self, res):
        for kind, link in self.links.items():
            wrong = [line for line in self._news(link, "streams") if " wrong " in line]
            wrong, link.echo.wrong = wrong + link.echo.wrong, []
            for part in link.parts:
                wrong, part.wrong = wrong + part.wrong, []
            for w in wrong:
                res.wrong(kind, "lost", w)

    def _news(self, link, what):
        """Lines of the guest's /run/WHAT-KIND that were not there before."""
        lines = self.guest.sh("cat /run/%s-%s 2>/dev/null; true" % (what, link.kind)).splitlines()
        news = [line for line in lines if line not in link.seen]
        link.seen.update(news)
        return news

    def _check_usage(self, res):
        def excess():
            found = []
            for kind in res.lines:
                now = self.links[kind].usage()
                for who, (fds, threads, rss) in self.baseline[kind].items():
                    have = now.get(who)
                    if have is None:
                        found.append((kind, "%s is not there" % who))
                    elif have[0] > fds + 1 or have[1] > threads or have[2] > rss + MEMORY_SLACK:
                        found.append((kind, "%s takes %s (descriptors, threads, KiB), before %s"
                                      % (who, have, (fds, threads, rss))))
            return found
        last = [[]]

        def settled():
            last[0] = excess()
            return not last[0]
        try:
            wait_until(settled, 15, "descriptors, threads and memory to go back", 0.5)
        except Timeout:
            for kind, text in last[0]:
                res.wrong(kind, "other", text)
                pid = self.links[kind].pids().get(text.split()[0])
                if pid:
                    print("# " + self.guest.sh("ls -l /proc/%d/fd" % pid).replace("\n", "\n# "))

    @staticmethod
    def _report(res):
        for line in res.lines.values():
            print("# %s: %s, %d times: lost %d, duplicated %d, hung %d, other %d, recovery %s" % (
                line["fault"], line["channel"], line["times"], line["lost"],
                line["duplicated"], line["hung"], line["other"], line["recovery"]))
            record(dict(line, seed=SEED, form="long" if LONG else "short"))
