"""Running a program and finding what it leaves behind.

Every run gets a word of its own in its environment, which all processes that come of it inherit, the
daemon and its watcher too: so what is left can be told from whatever else runs on the machine."""

import os
import resource
import signal
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from benchrun import ended

VARIABLE = "REDMAGIC_TEST_RUN"

# How long a daemon may take to notice the end of its program, in seconds.
GRACE = 3.0


@dataclass
class Outcome:
    """What a run came to: exit status (negative for a signal, a text when it did not end), output, seconds,
    and what it left behind, each as a text."""

    status: object
    out: bytes
    err: bytes
    took: float
    left: list = field(default_factory=list)


def environ_of(pid):
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def processes(mark):
    """{pid: command line} of the live processes of a run."""
    word = f"{VARIABLE}={mark}".encode()
    found = {int(name): name for name in os.listdir("/proc") if name.isdigit()}
    return {pid: command_of(pid) for pid in found if word in environ_of(pid)}


def shared_files():
    """What is in /dev/shm: redmagic's regions have no names, and what a program puts there it must be able to remove."""
    try:
        return set(os.listdir("/dev/shm"))
    except OSError:
        return set()


def leftovers(mark, before, grace=GRACE):
    """What is still there of a run after `grace` seconds; leftover processes are ended."""
    deadline = time.monotonic() + grace
    # Other programs of this machine have files there, too, for moments.
    files = shared_files() - before
    while True:
        alive = processes(mark)
        files &= shared_files()
        if not alive and not files or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    for pid in alive:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return [f"process {pid}: {command}" for pid, command in alive.items()] + [f"/dev/shm/{name}" for name in sorted(files)]


def no_core():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(command, *, env, cwd, stdin=b"", timeout=60, grace=GRACE):
    """Runs a command in a session of its own. Output goes to files: a daemon that outlives the program must not keep us waiting."""
    mark, before = uuid.uuid4().hex, shared_files()
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        began = time.monotonic()
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=given, stdout=out, stderr=err, cwd=cwd, env={**os.environ, **env, VARIABLE: mark}, start_new_session=True, preexec_fn=no_core,
        )
        status = ended(process, timeout)
        took = time.monotonic() - began
        left = leftovers(mark, before, grace)
        out.seek(0)
        err.seek(0)
        return Outcome(status, out.read(), err.read(), took, left)
