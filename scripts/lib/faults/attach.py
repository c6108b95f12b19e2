"""Attach and detach, 50 times in a row to one running process, and attach while attached."""

import json
import os
import signal
import subprocess
import sys
import time

from .common import EAGER, REDMAGICD, Run, ask, environment, plain, processes, read, served_by, target, wait_for
from .ends import regions


class Worker:
    """tests/targets/work.c with pipes to its standard streams, started with no daemon."""

    def __init__(self, threads=1, command=None):
        self.process = subprocess.Popen(
            command or [target("work"), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
            text=True,
        )
        self.pid = self.process.pid
        assert self.line() == "ready"

    def line(self):
        return self.process.stdout.readline().strip()

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.line()

    def channel(self):
        return self.say("channel")

    def finish(self):
        """(exit status, last line)."""
        try:
            out, _ = self.process.communicate("stop\n", timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, _ = self.process.communicate()
        return self.process.returncode, out.strip()


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def status(pid):
    code, out, _ = ask("status", "--json", pid)
    return json.loads(out) if code == 0 else None


def compiled(now):
    """Root traces that there are, or were."""
    return now["traces"] + now["dropped"] if now else 0


def complaints(log):
    return [line for line in log.splitlines() if "WARN" in line or "ERROR" in line]


def section(settings):
    for threads in (1, 4):
        worker = Worker(threads)
        files, traces = descriptors(worker.pid), 0
        rounds = settings.count(50, 8)
        begin = time.monotonic()
        for i in range(rounds):
            code, _, errors = ask("attach", worker.pid, env=EAGER if i % 2 else None)
            if not settings.check(code == 0, f"attach: round {i}", errors):
                break
            if i == 0:
                double(settings, worker)
            time.sleep(settings.random.choice([0, 0.002, 0.02, 0.15]))
            if i % 8 == 1:
                # Long enough for something to be compiled, however busy the machine is.
                wait_for(lambda: compiled(status(worker.pid)), 10, 0.02)
            now = status(worker.pid)
            settings.check(now and now["state"] == "active", f"attach: status in round {i}", now)
            traces += compiled(now)
            code, _, errors = ask("detach", worker.pid)
            settings.check(code == 0, f"attach: detach in round {i}", errors)
            settings.check(worker.channel() == "channel 0", f"attach: round {i}", "the channel is open after a detach")
            settings.check(ask("status", worker.pid)[0] == 1, f"attach: round {i}", "a session is there after a detach")
        settings.check(traces > 0, "attach", "nothing was ever compiled")
        settings.check(descriptors(worker.pid) == files, "attach", "descriptors are left in the program")
        left = regions(worker.pid)
        # A thread may still be in generated code, or return to it, when a session ends; so its three
        # regions stay mapped (docs: limits). They must be no more than that, and not writable code.
        settings.check(len(left) <= 3 * rounds, "attach: mappings after the last detach", f"{len(left)}: {left[:4]}")
        settings.check(not any("w" in l.split()[1] for l in left if "control" not in l), "attach: mappings", left[:4])
        # A daemon answers before it ends.
        gone = wait_for(lambda: not served_by(worker.pid), 10)
        settings.check(gone, "attach: daemons left", served_by(worker.pid))
        got = worker.finish()
        settings.check(got == (0, "wrong 0"), f"attach: {threads} threads", got)
        print(
            f"  {rounds} rounds with {threads} threads, {traces} root traces, {time.monotonic() - begin:.1f} s; "
            f"{len(left)} mappings stay"
        )
    race(settings)
    after_kill(settings)
    late(settings)


def after_kill(settings):
    """The daemon is killed while a thread is in a call that a trace keeps, and another is attached. The thread is back in
    code of the first session then, whose exits ask the second, which knows other exits by these numbers."""
    command = [target("kept"), "40000000"]
    dialogue = ["start", "run", "go"]
    expected = subprocess.run(command, input="\n".join(dialogue) + "\n", text=True, capture_output=True, env=environment(), check=True)
    rounds, useful = settings.count(20, 4), 0
    for i in range(rounds):
        what = f"attach: after kill {i}"
        log = settings.folder / f"after-kill{i}.log"
        worker = Worker(command=command)
        settings.check(ask("attach", "--log", log, worker.pid, env=EAGER)[0] == 0, what, read(log))
        settings.check(worker.say("start") == "waiting", what, "the thread does not wait")
        useful += compiled(status(worker.pid)) > 0
        os.kill(served_by(worker.pid)["redmagicd"], signal.SIGKILL)
        settings.check(worker.say("run") == "channel 0", what, "nobody waited in vain for the dead daemon")
        settings.check(wait_for(lambda: not served_by(worker.pid), 10), what, "the watcher is there")
        settings.check(ask("attach", "--log", log, worker.pid, env=EAGER)[0] == 0, what, read(log))
        settings.check(worker.say("go") not in ("", "channel 0"), what, "the second session has ended")
        out, _ = worker.process.communicate(timeout=30)
        settings.check(out.strip() == expected.stdout.splitlines()[-1], what, f"{out}, expected {expected.stdout}")
        settings.check(not complaints(read(log)), what, complaints(read(log))[:3])
    settings.check(useful, "attach: after kill", "the first sessions never had a trace")
    print(f"  {rounds} daemons killed, and others attached; {useful} threads were in a trace")


# Uses most of the time after which the daemon comes by itself, waits to be let go, and becomes a program that greets.
PRELUDE = """
import os, sys, time
while time.process_time() < 0.15: pass
open(sys.argv[1] + '/ready', 'w').close()
while not os.path.exists(sys.argv[1] + '/go'): time.sleep(0.001)
del os.environ['REDMAGIC_LATER']
os.execv(sys.argv[2], sys.argv[2:])
"""


def double(settings, worker):
    """A second daemon is refused, with its reason, and the first goes on."""
    code, _, errors = ask("attach", worker.pid)
    settings.check(
        code == 1 and errors.count("\n") == 1 and "already" in errors and "redmagic detach" in errors,
        "attach: twice",
        (code, errors),
    )
    settings.check(status(worker.pid) is not None, "attach: twice", "the first session is gone")


def race(settings):
    """Several attach at once: one gets it, the others say why not."""
    for _ in range(settings.count(10, 3)):
        worker = Worker(2)
        tries = [
            subprocess.Popen(
                [REDMAGICD, "attach", str(worker.pid)],
                stderr=subprocess.PIPE,
                env=environment(),
                text=True,
            )
            for _ in range(4)
        ]
        errors = [t.communicate()[1] for t in tries]
        winners = sum(t.returncode == 0 for t in tries)
        settings.check(winners == 1, "attach: 4 at once", f"{winners} attached: {errors}")
        settings.check(all(e.count("\n") == 1 for e in errors), "attach: 4 at once", errors)
        # One, with its watcher; the others say why not before they end.
        alone = wait_for(lambda: len(served_by(worker.pid)) == 2, 10)
        settings.check(alone, "attach: 4 at once", served_by(worker.pid))
        time.sleep(0.05)
        code, _, error = ask("detach", worker.pid)
        settings.check(code == 0, "attach: 4 at once", error)
        got = worker.finish()
        settings.check(got == (0, "wrong 0"), "attach: 4 at once", got)
    daemons = lambda: [p for p in processes() if read(f"/proc/{p}/comm").startswith("redmagic") and served(p, worker.pid)]
    settings.check(wait_for(lambda: not daemons(), 2), "attach: 4 at once", f"left {daemons()}")


def served(process, pid):
    return str(pid) in read(f"/proc/{process}/cmdline").split("\0")


def late(settings):
    """A program that was late for its greeting is attached to; so is one that has run for some time. When both come at
    once, there is one session and no complaint."""
    command = [target("spin"), "30000000", "3"]
    expected = plain(command)
    rounds = settings.count(30, 4)
    sessions = 0
    for i in range(rounds):
        folder = settings.folder / f"late{i}"
        folder.mkdir()
        log = folder / "log"
        options = ["--log", str(log)]
        run = Run(settings, [sys.executable, "-c", PRELUDE, str(folder), *command], {"REDMAGIC_AFTER": "200"}, options)
        daemon = run.daemon()
        wait_for((folder / "ready").exists, 10, 0.001, run.process)
        # It has warmed up by then, and looks at the program's time.
        time.sleep(0.1)
        os.kill(daemon, signal.SIGSTOP)
        (folder / "go").touch()
        time.sleep(0.15)
        os.kill(daemon, signal.SIGCONT)
        got = run.wait()
        settings.check(got.same(expected), f"attach: late, round {i}", f"got {got}, expected {expected}")
        settings.check(not run.leftovers(), f"attach: late, round {i}", "the daemon is left behind")
        text = read(log)
        sessions += "server: session" in text
        settings.check(not complaints(text), f"attach: late, round {i}", complaints(text))
    settings.check(sessions, "attach: late", "there was never a session")
    print(f"  {rounds} programs that were late for their greeting, {sessions} sessions")
