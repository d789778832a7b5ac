#!/usr/bin/python3
"""make bench: how fast, beside qemu-ga and a bare port in the same guest.

  bench.py [--rounds N] [--only NAME,...] [--json FILE] [--quick]

One guest has our agent, qemu-ga and raw.c on ports of both kinds at once.  Each
round measures every row of every peer in turn, so that whatever else the machine
does meets all of them; a figure is the median over rounds, p99 over all samples.
BENCHMARKING says what the rows mean.

SPDX-License-Identifier: MIT
"""
import argparse
import json
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from vatest import Guest, Process, program, run, tmpdir, wait_listening # noqa: E402
from vatest import image                                                    # noqa: E402
from vatest.host import Proxy                                               # noqa: E402
from vatest import callgrind                                                # noqa: E402
from vatest.counted import Counted, call, exchange                          # noqa: E402
from vatest.usage import wakeups                                            # noqa: E402
from vatest.wait import connect_unix                                        # noqa: E402
import many                                                                 # noqa: E402
import peers                                                                # noqa: E402
import report                                                               # noqa: E402
import servers                                                              # noqa: E402

MIB = 1 << 20
BENCH_PORTS = ("bench.raw", "bench.ga")
SERIAL_ARGS = ("isa-serial,chardev=%s,index=2,iobase=0x3e8,irq=5",
               "isa-serial,chardev=%s,index=3,iobase=0x2e8,irq=7")
# Row 6 is one client with 64 files at once; an agent's own limit for one is 48.
AGENT_CONF = "[agent]\ncalls = 80\nclient-calls = 72\n"
BOOT = """
mkdir -p /bench /run/ga-v /run/ga-s
echo 14 >/sys/class/tty/ttyS2/rx_trig_bytes
head -c 4096 /dev/urandom >/bench-small
mount -t tmpfs -o size=900m bench /bench
head -c 1048576 /dev/urandom >/bench/random
for i in 1 2 3 4 5 6 7 8; do cat /bench/random; done >/bench/f8
for i in 1 2 3 4 5 6 7 8; do cat /bench/f8; done >/bench/f64
for i in 1 2 3 4; do cat /bench/f64; done >/bench/f256
rm /bench/f8
(while :; do raw /dev/virtio-ports/bench.raw; sleep 1; done) </dev/null >/dev/console 2>&1 &
(while :; do raw /dev/ttyS2; sleep 1; done) </dev/null >/dev/console 2>&1 &
qemu-ga -m virtio-serial -p /dev/virtio-ports/bench.ga -t /run/ga-v -f /run/ga-v/pid \\
    </dev/null >/dev/console 2>&1 &
qemu-ga -m isa-serial -p /dev/ttyS3 -t /run/ga-s -f /run/ga-s/pid \\
    </dev/null >/dev/console 2>&1 &
"""


def log_text(size):
    """Lines as a system's log has them, the same every run."""
    rng, out, n = random.Random(1), [], 0
    units = ("sshd", "systemd", "kernel", "cron", "NetworkManager", "dbus-daemon")
    words = ("Started", "session", "opened for user", "connection from", "closed", "failed with",
             "result", "Accepted publickey for", "link becomes ready", "Reached target")
    while n < size:
        line = "Jan %2d %02d:%02d:%02d vm%d %s[%d]: %s %s %d.%d.%d.%d port %d\n" % (
            rng.randrange(1, 29), rng.randrange(24), rng.randrange(60), rng.randrange(60),
            rng.randrange(4), rng.choice(units), rng.randrange(300, 32000), rng.choice(words),
            rng.choice(words), *(rng.randrange(256) for _ in range(4)), rng.randrange(1024, 65536))
        out.append(line)
        n += len(line)
    return "".join(out).encode()[:size]


class Bench(servers.Rows):
    def __init__(self, options):
        self.o = options
        self.f = report.Figures()
        self.rounds = options.rounds
        self.big = 64 if options.quick else 256

    def wanted(self, name):
        return not self.o.only or name in self.o.only.split(",")

    # --- the guest --------------------------------------------------------------

    def boot(self):
        log = log_text(MIB)
        args, self.serial_paths = [], []
        for i, device in enumerate(SERIAL_ARGS):
            name, path = "bench%d" % i, os.path.join(tmpdir(), "s%d.sock" % i)
            args += ["-chardev", "socket,id=%s,path=%s,server=on,wait=off" % (name, path),
                     "-device", device % name]
            self.serial_paths.append(path)
        g = Guest(name="bench", memory=1536, links=True, ports=BENCH_PORTS, apart=True, boot=BOOT,
                  args=args, agent_env={"VA_CONF_DIR": "/etc/virtagent"},
                  programs={"/usr/sbin/qemu-ga": peers.qemu_ga()},
                  files={"/usr/sbin/raw": (open(image.tool(
                      os.path.join(peers.HERE, "raw.c")), "rb").read(), 0o755),
                      "/bench-text": log, "etc/virtagent/agent.conf": AGENT_CONF})
        self.guest = g
        g.sh("cp /bench-text /bench/text", 60)
        self.local = {}
        for name, data in (("random", random.Random(2).randbytes(MIB)), ("text", log),
                           ("f64", random.Random(3).randbytes(MIB) * 64)):
            self._local(name, data)
        if self.big != 64:
            self._local("f256", random.Random(3).randbytes(MIB) * 256)
        self.proxy = {"virtio": Proxy(g.virtio), "serial": Proxy(g.serial)}
        for p in self.proxy.values():
            p.wait_agent(120)
        self.ours = {k: peers.Ours(p.rpc) for k, p in self.proxy.items()}
        self.raw = {"virtio": peers.Raw(g.ports["bench.raw"], False),
                    "serial": peers.Raw(self.serial_paths[0], True)}
        self.ga = {"virtio": peers.Ga(g.ports["bench.ga"]), "serial": peers.Ga(self.serial_paths[1])}

    def _local(self, name, data):
        path = os.path.join("/dev/shm", "va-bench-%d-%s" % (os.getpid(), name))
        with open(path, "wb") as f:
            f.write(data)
        self.local[name] = (path, data)

    def close(self):
        for path, _ in getattr(self, "local", {}).values():
            os.unlink(path)
        for p in getattr(self, "proxy", {}).values():
            p.close()
        if hasattr(self, "guest"):
            self.guest.close()

    # --- rows ---------------------------------------------------------------------

    def ping(self):
        for kind, count in (("virtio", 200), ("serial", 60)):
            for name, who in (("ours", self.ours), ("qemu-ga", self.ga), ("raw", self.raw)):
                before = self.qemu_cpu()
                self.f.add("ping %s, us" % kind, name, *who[kind].ping(count))
                self.f.add("ping %s, QEMU's CPU us" % kind, name,
                           (self.qemu_cpu() - before) * 1e6 / count)

    def getfile(self):
        took = self.ours["virtio"].getfile_calls("/bench/f64", 64 * MIB)
        self.f.add("getfile 64 MiB in 1 MiB calls virtio, MB/s", "ours", 64 * MIB / took / 1e6)
        took = self.ga["virtio"].get("/bench/f64", 16 * MIB)
        self.f.add("getfile 64 MiB in 1 MiB calls virtio, MB/s", "qemu-ga", 16 * MIB / took / 1e6)

    def qemu_cpu(self):
        """What the guest costs, its kernel and its ports' emulation included."""
        return peers.local_cpu([self.guest.qemu.pid])

    def _rate(self, row, peer, size, seconds):
        self.f.add(row + ", MB/s", peer, size / seconds / 1e6)

    def _move(self, row, peer, size, transfer):
        """A transfer's rate, and what it costs the guest."""
        before = self.qemu_cpu()
        self._rate(row, peer, size, transfer())
        self.f.add(row + ", QEMU's CPU s per GiB", peer,
                   (self.qemu_cpu() - before) * (1 << 30) / size)

    def virtio_files(self):
        ours, raw, ga = self.ours["virtio"], self.raw["virtio"], self.ga["virtio"]
        for n in (self.big,):
            name, size = "f%d" % n, n * MIB
            row = "get %d MiB virtio" % n
            before = self._cpu()
            self._move(row, "ours", size, lambda: ours.get("/bench/" + name)[0])
            for who, secs in self._cpu(before).items():
                self.f.add("get %d MiB virtio, CPU s per GiB" % n, who, secs * 1024 / n)
            self._move(row, "raw", size, lambda: raw.get("/bench/" + name, size))
            self._move(row, "source", size, lambda: raw.source(size))
            self._move(row, "qemu-ga", 8 * MIB, lambda: ga.get("/bench/" + name, 8 * MIB))
            row = "put %d MiB virtio" % n
            path, data = self.local[name]
            self._move(row, "ours", size, lambda: ours.put(path, "/bench/put"))
            self._move(row, "raw", size, lambda: raw.put(data, "/bench/put"))
            self._move(row, "sink", size, lambda: raw.put(data))
            self._move(row, "qemu-ga", 4 * MIB, lambda: ga.put(data[:4 * MIB], "/bench/put"))
            self.guest.sh("rm -f /bench/put", 60)

    def serial_files(self):
        ours, raw = self.ours["serial"], self.raw["serial"]
        for name in ("random", "text"):
            path, data = self.local[name]
            row = "get 1 MiB %s serial" % name
            self._move(row, "ours", MIB, lambda: ours.get("/bench/" + name)[0])
            self._move(row, "raw", MIB, lambda: raw.get("/bench/" + name, MIB))
            row = "put 1 MiB %s serial" % name
            self._move(row, "ours", MIB, lambda: ours.put(path, "/bench/put"))
            self._move(row, "raw", MIB, lambda: raw.put(data, "/bench/put"))
        self._rate("get 1 MiB random serial", "qemu-ga", MIB // 4,
                   self.ga["serial"].get("/bench/random", MIB // 4, 65536))

    def loaded_ping(self):
        for kind, name in (("virtio", "f%d" % self.big), ("serial", "random")):
            done_r, done_w = os.pipe()
            second = peers.Ours(self.ours[kind].rpc)
            second.ping(3)
            t = threading.Thread(target=self._get_then_close, args=(kind, name, done_w))
            t.start()
            try:
                got = second.ping(0, done_r)
            finally:
                t.join()
                os.close(done_r)
            self.f.add("ping during get %s, us" % kind, "ours", *got)

    def streams(self):
        """64 files side by side against one."""
        name = "/bench/f256"
        rpc = self.ours["virtio"].rpc
        one = many.files(rpc, name, 1, 1.5)
        all64 = many.files(rpc, name, 64, 3)
        self.f.add("get by one of many clients virtio, MB/s", "1 stream", one[0] / 1e6)
        self.f.add("get by one of many clients virtio, MB/s", "64 streams", sum(all64) / 1e6)
        self.f.add("fairness of 64 streams virtio, Jain", "ours", many.jain(all64))

    def small_calls(self):
        """1,000 files of 4 KiB."""
        request = peers.call("guest.getfile", "/bench-small")
        self.f.add("getfile of 4 KiB virtio, calls/s", "16 at a time",
                   many.calls(self.ours["virtio"].rpc, request, 1000, 16))
        self.f.add("getfile of 4 KiB virtio, calls/s", "1 at a time",
                   many.calls(self.ours["virtio"].rpc, request, 200, 1))
        self.f.add("getfile of 4 KiB virtio, calls/s", "qemu-ga",
                   self.ga["virtio"].small_files("/bench-small", 100))

    def _under_load(self, work, sample):
        """sample() while work() runs."""
        t = threading.Thread(target=work)
        t.start()
        try:
            time.sleep(0.3)     # into the middle of it
            got = sample()
            busy = t.is_alive()
        finally:
            t.join()
        return got if busy else None

    def loaded_memory(self):
        """What a get makes of the memory."""
        pids, proxy = self._agent_pids(), self.proxy["virtio"].process.pid

        def ours():
            return (peers.memory([self.guest.sh("cat /proc/%s/smaps_rollup" % p) for p in pids]),
                    peers.local_memory([proxy]))

        def get():
            for _ in range(3):
                self.ours["virtio"].get("/bench/f%d" % self.big)

        got = self._under_load(get, ours)
        if got:
            self._memory("va-agent static, in the guest", got[0], "under load")
            self._memory("virtproxy", got[1], "under load")
        ga = self.guest.pids("qemu-ga -m virtio-serial")[0]
        got = self._under_load(
            lambda: self.ga["virtio"].get("/bench/f64", 32 * MIB),
            lambda: peers.memory([self.guest.sh("cat /proc/%d/smaps_rollup" % ga)]))
        if got:
            self._memory("qemu-ga, in the guest", got, "under load")

    def _get_then_close(self, kind, name, fd):
        try:
            self.ours[kind].get("/bench/" + name)
            if kind == "virtio":
                self.ours[kind].get("/bench/" + name)
        finally:
            os.close(fd)

    def exec_true(self):
        for _ in range(5):
            for name, who in (("ours", self.ours), ("qemu-ga", self.ga)):
                self.f.add("exec true virtio, ms", name, who["virtio"].exec_true() * 1e3)

    # --- what it costs ---------------------------------------------------------------

    def _agent_pids(self):
        """The three processes on the virtio channel: the first agent and its children."""
        return self.guest.sh(
            "p=$(for d in /proc/[0-9]*; do tr '\\0' ' ' <$d/cmdline 2>/dev/null | "
            "grep -q '^/usr/sbin/va-agent $' && echo ${d#/proc/}; done); echo $p; "
            "cat /proc/$p/task/$p/children").split()

    def _cpu(self, before=None):
        text = self.guest.sh("cat %s" % " ".join("/proc/%s/stat" % p for p in self._agent_pids()))
        ticks = sum(int(n) for line in text.splitlines()
                    for n in line.rsplit(")", 1)[1].split()[11:13])
        now = {"guest": ticks / 100,
               "virtproxy": peers.local_cpu([self.proxy["virtio"].process.pid])}
        return {k: v - before[k] for k, v in now.items()} if before else now

    def _guest_switches(self, pids):
        return int(self.guest.sh(
            "cat %s | awk '/^voluntary_ctxt_switches/ { n += $2 } END { print n }'"
            % " ".join("/proc/%s/task/*/status" % p for p in pids)))

    def costs(self):
        pids = self._agent_pids()
        if len(pids) != 3:
            raise RuntimeError("the agent's processes: %s" % pids)
        seconds = 10
        proxy = self.proxy["virtio"].process.pid
        before = self._guest_switches(pids), wakeups([proxy])
        time.sleep(seconds)
        after = self._guest_switches(pids), wakeups([proxy])
        self.f.add("wake-ups per second idle", "va-agent", (after[0] - before[0]) / seconds)
        self.f.add("wake-ups per second idle", "virtproxy", (after[1] - before[1]) / seconds)
        self._memory("va-agent static, in the guest", peers.memory(
            [self.guest.sh("cat /proc/%s/smaps_rollup" % p) for p in pids]))
        ga = self.guest.pids("qemu-ga -m virtio-serial")
        self._memory("qemu-ga, in the guest", peers.memory(
            [self.guest.sh("cat /proc/%d/smaps_rollup" % ga[0])]))
        self._memory("virtproxy", peers.local_memory([proxy]))

    def _memory(self, who, kb, when="idle"):
        for key, value in kb.items():
            self.f.add("memory %s %s, KB" % (when, who), key, value)

    # --- without a guest ----------------------------------------------------------------

    def native(self):
        env = {"VA_RUNTIME_DIR": os.path.join(tmpdir(), "nrun"),
               "VA_STATE_DIR": os.path.join(tmpdir(), "nstate"),
               "VA_CONF_DIR": os.path.join(tmpdir(), "nconf")}
        os.makedirs(env["VA_RUNTIME_DIR"], exist_ok=True)
        started, rpcs, agents = [], {}, {}
        big = os.path.join("/dev/shm", "va-bench-%d-native" % os.getpid())
        try:
            with open(big, "wb") as f:
                f.write(random.Random(3).randbytes(MIB) * 512)
            for name in ("va-agent", "va-agent-static"):
                channel = os.path.join(tmpdir(), name + ".sock")
                mine = {k: v + name for k, v in env.items()}
                agents[name] = Process([program(name), "-c", "unix-listen:%s:-" % channel,
                                        "-l", "stderr"], env=mine)
                started.append(agents[name])
                peers.wait_for_socket(channel, 10).close()
                p = Proxy(channel)
                started.append(p.process)
                p.wait_agent(30)
                rpcs[name] = peers.Ours(p.rpc)
                proxy_pid = p.process.pid
            ga_path = os.path.join(tmpdir(), "ga.sock")
            started.append(Process([peers.qemu_ga(), "-m", "unix-listen", "-p", ga_path, "-t",
                                    tmpdir(), "-f", os.path.join(tmpdir(), "ga.pid")]))
            ga = peers.Ga(ga_path)
            for _ in range(self.rounds):
                for name, ours in rpcs.items():
                    self.f.add("ping native, us", name, *ours.ping(1000))
                self.f.add("ping native, us", "qemu-ga", *ga.ping(1000))
                for name, ours in rpcs.items():
                    took, size = ours.get(big)
                    self._rate("get 512 MiB native", name, size, took)
            hostd = Process([program("va-hostd")], env=dict(
                env, XDG_RUNTIME_DIR=env["VA_RUNTIME_DIR"]))
            started.append(hostd)
            wait_listening(os.path.join(env["VA_RUNTIME_DIR"], "hostd.sock"), 15,
                           hostd.check_alive)
            self._native_costs(agents, hostd, proxy_pid)
        finally:
            if os.path.exists(big):
                os.unlink(big)
            for p in reversed(started):
                p.kill()

    def _native_costs(self, agents, hostd, proxy_pid):
        seconds = 10
        who = {name: peers.tree(a.pid) for name, a in agents.items()}
        who["va-hostd"] = peers.tree(hostd.pid)
        who["virtproxy"] = [proxy_pid]
        before = {k: wakeups(p) for k, p in who.items()}
        time.sleep(seconds)
        for name, pids in who.items():
            self.f.add("wake-ups per second idle, native", name,
                       (wakeups(pids) - before[name]) / seconds)
            self._memory(name + ", native (%d processes)" % len(pids), peers.local_memory(pids))

    def counted(self):
        """Instructions, libraries included."""
        pings, size = 200, 16 * MIB
        big = os.path.join(tmpdir(), "counted.file")
        with open(big, "wb") as f:
            f.write(random.Random(3).randbytes(size))
        c = Counted()
        try:
            for end in (c.guest, c.host):
                end.wait_session(True, 60)
            with connect_unix(c.rpc, timeout=60) as s:
                for _ in range(20):
                    exchange(s, call(b"guest.ping"))
                callgrind.reset(*c.all().values())
                for _ in range(pings):
                    exchange(s, call(b"guest.ping"))
            for who, p in c.all().items():
                self.f.add("instructions per ping, native", who,
                           callgrind.counts(p).total / pings)
            client = callgrind.whole_run([program("va-client"), "-G", "unix:" + c.rpc, "get", "-q",
                                          big, big + ".got"], seconds=peers.LIMIT)
            for who, p in c.all().items():
                self.f.add("instructions per byte of get, native", who,
                           callgrind.counts(p).total / size)
            self.f.add("instructions per byte of get, native", "client, its start too",
                       client.total / size)
        finally:
            c.close()
            for name in (big, big + ".got"):
                if os.path.exists(name):
                    os.unlink(name)

    def sizes(self):
        for name in ("va-agent", "va-agent-server", "va-agent-static", "virtproxy", "va-client",
                     "va-hostd"):
            stripped = os.path.join(tmpdir(), "stripped")
            run(["strip", "-o", stripped, program(name)], check=True)
            self.f.add("stripped size, KB", name, os.stat(stripped).st_size / 1024)

    def run(self):
        for name in ("sizes", "counted", "native"):
            if self.wanted(name):
                getattr(self, name)()
        rows = [n for n in ("ping", "getfile", "exec_true", "virtio_files", "serial_files",
                            "loaded_ping", "streams", "small_calls", "programs",
                            "calls_at_once", "busy_ping", "costs") if self.wanted(n)]
        if not rows:
            return
        self.boot()
        for name in ("virtio", "serial"):
            for who in (self.ours, self.ga, self.raw):
                who[name].ping(10)
        if "costs" in rows:
            rows.remove("costs")
            self.costs()
        for n in range(self.rounds):
            print("# round %d of %d: %s" % (n + 1, self.rounds, " ".join(rows)), flush=True)
            for name in rows:
                getattr(self, name)()
        if self.wanted("costs"):
            self.loaded_memory()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="rows, separated by commas")
    parser.add_argument("--quick", action="store_true", help="64 MiB instead of 256")
    parser.add_argument("--json", default="")
    o = parser.parse_args()
    b = Bench(o)
    about = report.conditions()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        b.run()
    except KeyboardInterrupt:           # what there is counts, too
        about["cut short"] = True
    finally:
        b.close()
    judged = report.judge(b.f, b.big)
    report.show(about, b.f, judged)
    if o.json:
        with open(o.json, "w") as out:
            json.dump({"about": about, "marks": judged, "rows": {
                row: {peer: {"median": b.f.median(row, peer), "p99": b.f.p99(row, peer),
                             "samples": values} for peer, values in by_peer.items()}
                for row, by_peer in b.f.samples.items()}}, out, indent=1)


main()
