"""Signal storms against a traced loop, and Ctrl-C, which reaches only the program."""

import os
import pty
import select
import signal
import time

from .common import EAGER, REDMAGIC, Run, environment, plain, served_by, target, wait_for


def section(settings):
    command = [target("signals"), "6000000"]
    expected = plain(command)
    settings.check(b"seen" in expected.out, "signals: plain", expected)
    for env in (None, EAGER):
        for _ in range(settings.count(20, 3)):
            got = Run(settings, command, env=env).wait()
            settings.check(got.same(expected), "signals: storm", f"got {got}, expected {expected}")
    storm_from_outside(settings, command, expected)
    trap_flag(settings)
    for _ in range(settings.count(10, 2)):
        control_c(settings)


def trap_flag(settings):
    """A trap flag that was left behind is cleared at its first trap."""
    got = Run(settings, [target("trapflag"), "200000"], env=EAGER).wait()
    settings.check(got.out.startswith(b"cleared sum"), "signals: trap flag", got)


def storm_from_outside(settings, command, expected):
    """SIGUSR1 and SIGINT as fast as another process can send them."""
    for env in (None, EAGER):
        run = Run(settings, command, env=env)
        run.daemon()
        time.sleep(0.05)
        sent = 0
        while run.process.poll() is None and sent < 20000:
            os.kill(run.pid, settings.random.choice([signal.SIGUSR1, signal.SIGINT]))
            sent += 1
            if sent % 50 == 0:
                time.sleep(0.001)
        got = run.wait()
        settings.check(got.same(expected), f"signals: {sent} from outside", f"got {got}, expected {expected}")


def control_c(settings):
    """A terminal's Ctrl-C ends the program by its own handler; the daemon sees the program's end, no signal."""
    pid, terminal = pty.fork()
    if pid == 0:
        command = [target("signals"), "4000000000", "sigint"]
        os.execve(REDMAGIC, ["redmagic", "run", "--", *command], environment(EAGER))
    output = b""
    while b"ready" not in output and select.select([terminal], [], [], 10)[0]:
        output += os.read(terminal, 4096)
    time.sleep(0.05 + settings.random.random() * 0.2)
    served = served_by(pid)
    settings.check(len(served) == 2, "signals: Ctrl-C", f"served by {served}")
    daemon = served.get("redmagicd")
    settings.check(daemon and os.getsid(daemon) != os.getsid(pid), "signals: Ctrl-C", "the daemon shares the session")
    os.write(terminal, b"\x03")
    done = wait_for(lambda: os.waitpid(pid, os.WNOHANG)[1:] if ended(pid) else None, 10, 0.01)
    if not done:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    settings.check(done and os.waitstatus_to_exitcode(done[0]) == 3, "signals: Ctrl-C", f"{done}: {output!r}")
    settings.check(wait_for(lambda: not served_by(pid), 2), "signals: Ctrl-C", "a daemon is left")
    os.close(terminal)


def ended(pid):
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
