"""Running one program once, measured; pairs of runs; and the statistics over them."""

import json
import math
import os
import resource
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path


class BenchError(Exception):
    """A run that cannot be compared; says why."""


@dataclass
class Run:
    """One run: times in seconds, peak memory in KiB."""

    wall: float
    cpu: float
    rss: int | None
    status: int
    out: bytes
    err: bytes
    stats: dict


def ended(process, timeout):
    """The exit status; after `timeout` seconds its whole session is ended, and that is said in its place."""
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"no end after {timeout:.0f} s"


def wait4(process, timeout):
    """Waits with resource usage; ends the whole session of `process` after `timeout` seconds."""
    late = []

    def stop():
        late.append(True)
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(timeout, stop)
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if late:
        raise BenchError(f"no end after {timeout:.0f} s")
    return process.returncode, usage


class PeakMemory:
    """The largest resident set of a process.

    What wait4 reports is at least what this interpreter had when it forked, since the kernel carries
    the mark over an exec. Above that it is exact; below, the process's own mark is looked at while it
    runs, at least every 20 ms, and what it takes after the last look is not seen."""

    def __init__(self, pid):
        self.path = f"/proc/{pid}/status"
        self.floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.seen = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()

    def look(self):
        pause = 0.001
        while not self.over.wait(pause):
            pause = min(pause * 1.5, 0.02)
            try:
                with open(self.path, encoding="ascii", errors="replace") as file:
                    mark = next((line for line in file if line.startswith("VmHWM:")), None)
            except OSError:
                return
            if mark is None:
                return
            self.seen = int(mark.split()[1])
            if self.seen > self.floor:
                return

    def close(self, reported):
        """What it was, given what wait4 says; None when the process was over before the first look."""
        self.over.set()
        self.thread.join()
        return reported if reported > self.floor else self.seen


def read_stats(path, patience=5.0):
    """The daemon's statistics, which it writes just after the program has ended."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):
            time.sleep(0.01)
    return {}


def run_once(command, cwd=None, env=None, timeout=600, stats=False):
    """Runs a command. With `stats`, `{stats}` in it becomes a file for `--stats`."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        stats_file = Path(folder) / "stats.json"
        argv = [str(stats_file) if a == "{stats}" else str(a) for a in command]
        began = time.perf_counter()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd,
            env={**os.environ, **(env or {})}, start_new_session=True,
        )
        memory = PeakMemory(process.pid)
        usage = None
        try:
            status, usage = wait4(process, timeout)
            wall = time.perf_counter() - began
        finally:
            rss = memory.close(usage.ru_maxrss if usage else 0)
        found = read_stats(stats_file) if stats else {}
        out.seek(0)
        err.seek(0)
        return Run(wall, usage.ru_utime + usage.ru_stime, rss, status, out.read(), err.read(), found)


def pairs(a, b, count):
    """Calls `a` and `b` `count` times each, in the order a b, b a, a b, ..., so that a drift of
    the machine's speed falls on both. Gives two lists."""
    left, right = [], []
    for turn in range(count):
        if turn % 2 == 0:
            left.append(a())
            right.append(b())
        else:
            right.append(b())
            left.append(a())
    return left, right


def median(values):
    return statistics.median(values)


def geomean(values):
    """The geometric mean of positive numbers; NaN of none."""
    values = list(values)
    if not values:
        return math.nan
    return math.exp(sum(math.log(v) for v in values) / len(values))


def median_interval(values):
    """A distribution-free interval of at least 95 % for the median (order statistics of the
    binomial distribution), or the whole range when there are too few values."""
    ordered = sorted(values)
    n = len(ordered)
    tail, k = 0.0, 0
    while k < n // 2:
        tail += math.comb(n, k) / 2**n
        if tail > 0.025:
            break
        k += 1
    # With k values cut off on each side the interval misses at most 5 %.
    k = max(0, k - 1)
    return ordered[k], ordered[n - 1 - k]


def same(a, b):
    """Whether two runs gave the same, apart from the interpreter's name in messages."""
    return a.status == b.status and a.out == b.out


def programs(folder, only, suffix=".lua"):
    """The programs of a folder, or those named in `only` (comma separated)."""
    found = {p.stem: p for p in sorted(Path(folder).glob(f"*{suffix}"))}
    if not only:
        return list(found.values())
    names = only.split(",")
    missing = [n for n in names if n not in found]
    if missing:
        raise BenchError(f"no such program in {folder}: {', '.join(missing)}; there are {', '.join(found)}")
    return [found[n] for n in names]


def write_json(path, suite, results, **extra):
    """The interchange form: {"suite", "results", "geomean"} and what is added."""
    overall = geomean(r["speedup"] for r in results)
    report = {"suite": suite, "results": results, "geomean": None if math.isnan(overall) else overall, **extra}
    Path(path).write_text(json.dumps(report, indent=1) + "\n")
