"""The target's end, in every way: the session ends, nothing is left."""

import os
import signal
import time

from .common import EAGER, ROOT, Run, ask, plain, target, wait_for

EXITS = {
    "exit": [target("exit"), "1500000"],
    "_exit": [target("exit"), "1500000", "_exit"],
    "exit of a thread": [target("exit"), "1500000", "thread"],
    "exec of a plain program": [target("exec"), "1500000", target("plain")],
    "exec of an annotated program": [target("exec"), "1500000", target("spin"), "2000000", "4"],
    "exec of itself": [target("exec"), "500000", target("exec"), "500000", target("spin"), "100000"],
    "fork": [target("fork"), "1500000"],
    "fork by system call": [target("fork"), "1500000", "raw"],
    "fork in a trace": [target("fork"), "1500000", "libc", "kept"],
    "fork in a trace by system call": [target("fork"), "1500000", "raw", "kept"],
    "vfork and exec": [target("fork"), "1500000", "vfork"],
    "segmentation fault": [target("crash"), "1500000", "segv"],
    "abort": [target("crash"), "1500000", "abort"],
    "its own int3": [target("crash"), "1500000", "trap"],
    "its own int3, handled": [target("crash"), "1500000", "handled"],
    "SIGTRAP blocked": [target("crash"), "1500000", "blocked"],
    "longjmp": [target("longjmp"), "1500000"],
}


def files(folder):
    return {p.name for p in folder.iterdir()}


def regions(pid):
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
            return [line for line in file if "memfd:redmagic" in line]
    except OSError:
        return []


def section(settings):
    cwd = settings.folder / "cwd"
    cwd.mkdir(exist_ok=True)
    before = files(ROOT)
    longest = 0.0
    for name, command in EXITS.items():
        expected = plain(command, cwd=cwd)
        for env in (None, EAGER):
            for _ in range(settings.count(5, 1)):
                run = Run(settings, command, env=env, cwd=cwd)
                daemon = run.daemon()
                got = run.wait()
                settings.check(got.same(expected), f"ends: {name}", f"got {got}, expected {expected}")
                begin = time.monotonic()
                left = run.leftovers()
                settings.check(not left, f"ends: {name}", f"left behind: {left}, daemon {daemon}")
                longest = max(longest, time.monotonic() - begin)
    killed(settings, cwd)
    survivor(settings)
    settings.check(not files(cwd), "ends: files", f"in the working directory: {files(cwd)}")
    settings.check(files(ROOT) == before, "ends: files", "in the repository")
    print(f"  {len(EXITS) * 2} ways to end; the daemon was gone within {longest * 1000:.0f} ms")


def killed(settings, cwd):
    """kill -9 of the target at a random instant."""
    for _ in range(settings.count(40, 5)):
        # Far longer than any delay below: it must not end by itself.
        run = Run(settings, [target("threads"), "2000000000"], env=EAGER, cwd=cwd)
        run.daemon()
        time.sleep(settings.random.random() * 0.4)
        os.kill(run.pid, signal.SIGKILL)
        got = run.wait()
        settings.check(got.status == -signal.SIGKILL, "ends: killed", got)
        left = run.leftovers()
        settings.check(not left, "ends: killed", f"left behind: {left}")


def survivor(settings):
    """A process that execs a plain program keeps no mapping of ours and has no session."""
    run = Run(settings, [target("exec"), "1500000", "/bin/sleep", "3"])
    gone = wait_for(lambda: os.readlink(f"/proc/{run.pid}/exe").endswith("sleep"), 5, 0.005, run.process)
    settings.check(gone, "ends: exec of sleep", "it did not happen")
    settings.check(not regions(run.pid), "ends: exec of sleep", regions(run.pid))
    ended = wait_for(lambda: ask("status", run.pid)[0] != 0, 2, 0.05)
    settings.check(ended, "ends: exec of sleep", "the session goes on")
    os.kill(run.pid, signal.SIGTERM)
    run.wait()
    settings.check(not run.leftovers(), "ends: exec of sleep", "a daemon is left")
