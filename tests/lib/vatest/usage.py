"""What processes of this machine take: processor, memory, wake-ups.

SPDX-License-Identifier: MIT
"""
import os

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of a process."""
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def run_ns(pid):
    """The same, of all its threads, in nanoseconds and not in ticks."""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        try:
            with open("/proc/%d/task/%s/schedstat" % (pid, task)) as f:
                total += int(f.read().split()[0])
        except FileNotFoundError:       # a thread that just ended
            pass
    return total


def wakeups(pids):
    """Of all threads of the processes so far: an idle thread makes one voluntary context
    switch per wake-up.  Others say how busy the machine is: 76 were seen in one wake-up."""
    total = 0
    for pid in pids:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/status" % (pid, task)) as f:
                total += sum(int(line.split()[1]) for line in f if line.startswith("voluntary"))
    return total


def page_faults(pid):
    """Pages given to a process so far that came from no disk."""
    with open("/proc/%d/stat" % pid) as f:
        return int(f.read().rsplit(")", 1)[1].split()[7])


def pss_kb(pid):
    with open("/proc/%d/smaps_rollup" % pid) as f:
        for line in f:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    raise RuntimeError("no Pss of process %d" % pid)
