"""SIGSTOP of the daemon, recording or not: the program waits once, for at most 10 ms, and runs on."""

import os
import re
import signal
import time

from .common import EAGER, Run, plain, read, served_by, target, tracer

# What a stall may be: one wait of 10 ms, a watcher that looks every 2 ms, and this
# machine's scheduling.
LIMIT_US = 60_000


def one(settings, command, expected, duration, recording):
    run = Run(settings, command, env=EAGER)
    daemon = run.daemon()
    time.sleep(settings.random.random() * duration)
    if recording:
        deadline = time.monotonic() + duration * 3
        while time.monotonic() < deadline and run.process.poll() is None and not tracer(run.pid):
            pass
    caught = tracer(run.pid) != 0
    try:
        os.kill(daemon, signal.SIGSTOP)
    except (ProcessLookupError, TypeError):
        pass
    got = run.wait()
    killed = served_by(run.pid).get("redmagicd") is None
    try:
        # Not if somebody else has the number by now.
        if read(f"/proc/{daemon}/comm").strip() == "redmagicd":
            os.kill(daemon, signal.SIGCONT)
    except ProcessLookupError:
        pass
    what = f"stop{' recording' if recording else ''}"
    settings.check(got.same(expected), what, f"got {got}, expected {expected}")
    left = run.leftovers()
    settings.check(not left, what, f"left behind: {left}")
    found = re.search(rb"longest gap (\d+) us", got.err)
    return int(found.group(1)) if found else 0, caught, killed


def section(settings):
    command = [target("spin"), "4000000", "40", "gap"]
    begin = time.monotonic()
    expected = plain(command)
    duration = time.monotonic() - begin
    runs = settings.count(60, 8)
    results = [one(settings, command, expected, duration, i % 2 == 1) for i in range(runs)]
    longest = max(gap for gap, _, _ in results)
    unstopped = [int(re.search(rb"gap (\d+)", Run(settings, command, env=EAGER).wait().err).group(1)) for _ in range(3)]
    settings.check(longest < LIMIT_US, "stop: longest stall", f"{longest} us")
    print(
        f"  {runs} runs, {sum(c for _, c, _ in results)} stopped while a thread was traced, "
        f"{sum(k for _, _, k in results)} daemons killed by their watchers; "
        f"longest stall {longest} us (not stopped: {max(unstopped)} us)"
    )
