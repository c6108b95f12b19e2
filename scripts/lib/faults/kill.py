"""kill -9 of the daemon at a random instant: the program must not notice.

In a fifth of the runs the watcher is killed with it. Then nobody clears the hardware breakpoint
that a recording may have set: the result is still right, but each hit costs a signal (about 10 us
here), so those runs are short.
"""

import os
import signal
import time

from .common import EAGER, ROOT, SOURCES, Run, plain, served_by, target, tracer

PROGRAMS = {
    "spin": [target("spin"), "6000000", "60"],
    "threads": [target("threads"), "1500000"],
    "signals": [target("signals"), "4000000"],
    "fork": [target("fork"), "3000000"],
    "longjmp": [target("longjmp"), "3000000"],
}


LUA = ROOT / "target/interpreters/lua/annotated/lua"
if LUA.exists():
    PROGRAMS["lua"] = [str(LUA), str(SOURCES / "kill.lua"), "3000000"]

# How much shorter, without a watcher.
SHORTER = 10


def end(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, TypeError):
        pass


def affinity(pid):
    try:
        return {tid: os.sched_getaffinity(int(tid)) for tid in os.listdir(f"/proc/{pid}/task")}
    except OSError:
        return {}


def one(settings, name, command, expected, duration, recording, watcher):
    run = Run(settings, command, env=EAGER if recording else None)
    daemon = run.daemon()
    caught = False
    if recording:
        # Anywhere in the run, but while a thread is traced.
        time.sleep(settings.random.random() * duration * 0.8)
        deadline = time.monotonic() + duration * 3
        while time.monotonic() < deadline and run.process.poll() is None:
            if tracer(run.pid):
                time.sleep(settings.random.random() * 0.001)
                if caught := tracer(run.pid) != 0:
                    break
    else:
        time.sleep(settings.random.random() * duration)
        caught = tracer(run.pid) != 0
    served = served_by(run.pid)
    if watcher:
        end(served.get("redmagic-watch"))
    end(served.get("redmagicd") or daemon)
    bound = False
    if not watcher and run.process.poll() is None:
        time.sleep(0.05)
        bound = any(mask != os.sched_getaffinity(0) for mask in affinity(run.pid).values())
    got = run.wait()
    what = f"{name}{' recording' if recording else ''}{' with its watcher' if watcher else ''}"
    settings.check(got.same(expected), f"kill: {what}", f"got {got}, expected {expected}")
    settings.check(not bound, f"kill: {what}", "a thread stays bound to one processor")
    left = run.leftovers()
    settings.check(not left, f"kill: {what}", f"left behind: {left}")
    return caught


def section(settings):
    runs = settings.runs or (20 if settings.quick else 200)
    caught = 0
    expected = {}
    for name, command in PROGRAMS.items():
        # The first number is how often the loop runs.
        at = next(i for i, word in enumerate(command) if word.isdigit())
        short = [*command[:at], str(int(command[at]) // SHORTER), *command[at + 1 :]]
        for watcher, it in ((False, command), (True, short)):
            begin = time.monotonic()
            result = plain(it)
            expected[name, watcher] = it, result, time.monotonic() - begin
    names = list(PROGRAMS)
    for i in range(runs):
        name, watcher = names[i // 2 % len(names)], i % 5 == 4
        command, result, duration = expected[name, watcher]
        caught += one(settings, name, command, result, duration, i % 2 == 1, watcher)
    print(f"  {runs} runs over {len(names)} programs, {caught} of them killed while a thread was traced")
