"""What the sections share: targets, runs, processes as /proc shows them, the tally."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
REDMAGIC = ROOT / "target/release/redmagic"
REDMAGICD = ROOT / "target/release/redmagicd"
SHIM = ROOT / "target/shim-dist"
SOURCES = ROOT / "tests/targets"
TARGETS = ROOT / "target/fault-targets"

# Everything is recorded at once, and recording is never put off.
EAGER = {
    "REDMAGIC_HOTLOOP": "2",
    "REDMAGIC_HOTEXIT": "1",
    "REDMAGIC_RECORDSHARE": "100",
    "REDMAGIC_RECORDFREE": "1000000",
}
# How long a daemon may take to notice the end of its target.
GRACE = 2.0
# No target runs this long; one that does hangs.
PATIENCE = 120.0


class Tally:
    """Counts checks; a failed one is printed with all that is known."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.known = 0

    def check(self, good, name, detail=""):
        if good:
            self.passed += 1
        else:
            self.failed += 1
            print(f"  FAILED {name}: {detail}" if detail else f"  FAILED {name}", flush=True)
        return good


class Settings:
    """The command line, for the sections."""

    def __init__(self, runs, quick, seed, keep):
        self.runs = runs
        self.quick = quick
        self.random = random.Random(seed)
        self.keep = keep
        self.tally = Tally()
        self.folder = Path(tempfile.mkdtemp(prefix="redmagic-faults-"))

    def check(self, *arguments):
        return self.tally.check(*arguments)

    def count(self, full, quick):
        """How many of something: the default for a full or a quick run, or scaled by --runs
        (which is what `kill` takes literally)."""
        if self.runs is not None:
            return max(1, full * self.runs // 200)
        return quick if self.quick else full

    def close(self):
        if self.keep:
            print(f"kept {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def need(tool, package):
    if shutil.which(tool) is None:
        sys.exit(f"test-faults: {tool} is missing (Debian: apt-get install {package})")


def build():
    """Compiles the targets; only what changed."""
    need("cc", "gcc libc6-dev")
    for path, fix in ((REDMAGIC, "cargo build --release"), (SHIM / "lib/libredmagic.a", "scripts/build-shim")):
        if not path.exists():
            sys.exit(f"test-faults: {path} is missing: run `{fix}`")
    TARGETS.mkdir(parents=True, exist_ok=True)
    library = SHIM / "lib/libredmagic.a"
    shared = [SOURCES / "vm.h", library, SHIM / "include/redmagic.h"]
    for source in sorted(SOURCES.glob("*.c")):
        out = TARGETS / source.stem
        newest = max(p.stat().st_mtime for p in [source, *shared])
        if out.exists() and out.stat().st_mtime > newest:
            continue
        subprocess.run(
            ["cc", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-I", SHIM / "include", source, library]
            + ["-o", out, "-lpthread"],
            check=True,
        )


def target(name):
    return str(TARGETS / name)


class Result:
    """What a program did."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def same(self, other):
        return self.status == other.status and self.out == other.out

    def __repr__(self):
        tail = self.out[-300:].decode(errors="replace")
        return f"status {self.status}, output ...{tail!r}, errors {self.err[-600:].decode(errors='replace')!r}"


def environment(extra=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("REDMAGIC_")}
    # Sessions begin at once: what is tested are sessions, and targets are short.
    clean["REDMAGIC_AFTER"] = "0"
    return clean | (extra or {})


def plain(command, **options):
    """Runs a program with no daemon."""
    done = subprocess.run(command, capture_output=True, env=environment(), timeout=PATIENCE, check=False, **options)
    return Result(done.returncode, done.stdout, done.stderr)


class Run:
    """A program under `redmagic run`. Its pid is the program's own. Output goes to files, so
    that a full pipe never stops it."""

    def __init__(self, settings, command, env=None, options=(), **popen):
        self.out = tempfile.TemporaryFile(dir=settings.folder)
        self.err = tempfile.TemporaryFile(dir=settings.folder)
        self.process = subprocess.Popen(
            [REDMAGIC, "run", *options, "--", *command],
            stdout=self.out,
            stderr=self.err,
            stdin=subprocess.DEVNULL,
            env=environment(env),
            **popen,
        )
        self.pid = self.process.pid

    def daemon(self, patience=5.0):
        """The daemon's pid, or None if there is none (any more)."""
        return wait_for(lambda: served_by(self.pid).get("redmagicd"), patience, 0.0005, self.process)

    def wait(self, patience=PATIENCE):
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            state = read(f"/proc/{self.pid}/status")
            self.process.kill()
            self.process.wait()
            return Result(f"hung: {state}", self.read(self.out), self.read(self.err))
        return Result(self.process.returncode, self.read(self.out), self.read(self.err))

    @staticmethod
    def read(file):
        file.seek(0)
        return file.read()

    def leftovers(self, patience=GRACE):
        """What of the daemon is still there after a while."""
        return None if wait_for(lambda: not served_by(self.pid), patience, 0.01) else served_by(self.pid)


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def field(status, name):
    for line in status.splitlines():
        if line.startswith(name + ":"):
            return line.split(":", 1)[1].strip()
    return ""


def processes():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def served_by(pid):
    """The daemon and the watcher of a target: {name: pid}. A zombie is none; who reaps it is init."""
    both = {}
    for other in processes():
        words = read(f"/proc/{other}/cmdline").split("\0")
        if len(words) > 2 and words[0] == "redmagicd" and words[2] == str(pid):
            status = read(f"/proc/{other}/status")
            both[other] = field(status, "Name"), int(field(status, "PPid") or 0)
    # The watcher has the daemon's name until it has set its own.
    return {
        "redmagic-watch" if name == "redmagicd" and parent in both else name: other
        for other, (name, parent) in both.items()
    }


def tracer(pid):
    """The tracer of any thread of a process, or 0."""
    try:
        for tid in os.listdir(f"/proc/{pid}/task"):
            if (number := field(read(f"/proc/{pid}/task/{tid}/status"), "TracerPid")) not in ("", "0"):
                return int(number)
    except OSError:
        pass
    return 0


def wait_for(what, patience, pause=0.01, process=None):
    """Waits until `what()` is true; gives its value, or None. Gives up when `process` ends."""
    deadline = time.monotonic() + patience
    while True:
        if value := what():
            return value
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            return None
        time.sleep(pause)


def ask(*arguments, patience=20.0, env=None):
    """Runs redmagic or redmagicd: (status, output, errors)."""
    tool = REDMAGICD if arguments[0] == "attach" else REDMAGIC
    done = subprocess.run(
        [tool, *map(str, arguments)], capture_output=True, env=environment(env), timeout=patience, check=False
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()
