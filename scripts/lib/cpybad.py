"""Programs that go wrong, and command lines that are wrong: what the user sees is what plain Python shows
(stdout, stderr, exit status or signal), and the daemon ends its session quietly: no process, no file in /dev/shm is left,
its log has no complaint.

Most programs go wrong in a loop that has run long enough to be traced."""

import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import marked
from benchrun import read_stats

# Mode, environment that makes it. In `later` the daemon comes by itself, as it does for users.
MODES = {
    "default": {"REDMAGIC_AFTER": "0"},
    "later": {"REDMAGIC_AFTER": "20", "REDMAGIC_HOTLOOP": "16", "REDMAGIC_HOTEXIT": "8"},
    "16": {"REDMAGIC_AFTER": "0", "REDMAGIC_HOTLOOP": "16", "REDMAGIC_HOTEXIT": "8", "REDMAGIC_RECORDFREE": "1000000"},
    "2": {"REDMAGIC_AFTER": "0", "REDMAGIC_HOTLOOP": "2", "REDMAGIC_HOTEXIT": "1", "REDMAGIC_RECORDFREE": "1000000"},
}

# A daemon that gives up under load lets the program run plain: no test. It is run again, so often.
TRIES = 4

# The one warning that only says how busy the machine is.
IN_VAIN = "the program waited in vain"

# What programs begin with: a loop that is traced, and is still going when things go wrong.
LOOP = """
import sys
def step(n, last):
    if n == last:
        bad()
    return n * 3 % 7
def main(last=300000):
    s = i = 0
    while i <= last:
        s += step(i, last)
        i += 1
    print("after", s, flush=True)
"""

# Name: (program, expected status of plain Python).
IN_A_LOOP = {
    "exit": ("def bad(): sys.exit(5)", 5),
    "exit with a message": ("def bad(): sys.exit('the message')", 1),
    "uncaught": ("def bad(): {}['key']", 1),
    "caught": ("def bad():\n    try: {}['key']\n    except KeyError as e: print(repr(e))", 0),
    "_exit": ("import os\ndef bad(): print('before', flush=True); os._exit(6)", 6),
    "execv": ("import os\ndef bad(): sys.stdout.flush(); os.execv('/bin/echo', ['echo', 'another'])", 0),
    "execv of what is not there": ("import os\ndef bad(): os.execv('/no/such/program', ['x'])", 1),
    "execv of itself": (
        "import os\ndef bad():\n"
        "    if len(sys.argv) > 3: print('enough', flush=True); os._exit(4)\n"
        "    print(len(sys.argv), flush=True)\n"
        "    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], 'again'])", 4),
    "abort": ("import os\ndef bad(): os.abort()", -signal.SIGABRT),
    "kill": ("import os\ndef bad(): os.kill(os.getpid(), 9)", -signal.SIGKILL),
    "terminate": ("import os\ndef bad(): os.kill(os.getpid(), 15)", -signal.SIGTERM),
    "interrupt": ("import os, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\ndef bad(): os.kill(os.getpid(), 2)", -signal.SIGINT),
    "interrupt, default action": ("import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\ndef bad(): os.kill(os.getpid(), 2)", -signal.SIGINT),
    "alarm": ("import signal\ndef bad():\n    signal.alarm(1)\n    while True: pass", -signal.SIGALRM),
    "processor time": ("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 2))\ndef bad():\n    while True: pass", -signal.SIGXCPU),
    "stopped": (
        "import os, signal, subprocess\ndef bad():\n"
        "    subprocess.Popen(['/bin/sh', '-c', f'while ! grep -q ^State:.T /proc/{os.getpid()}/status; do :; done; kill -CONT {os.getpid()}'])\n"
        "    os.kill(os.getpid(), signal.SIGSTOP); os.wait(); print('went on')", 0),
    "recursion": ("def bad(): return bad() + 1", 1),
    "recursion, caught": (
        "def down(n): return down(n + 1)\ndef bad():\n    for n in (1000, 500, 2000, 900):\n        sys.setrecursionlimit(n)\n"
        "        try: down(0)\n        except RecursionError as e: print(n, e)", 0),
    "recursion through C": ("def bad(): return sorted([2, 1], key=lambda n: bad())", 1),
    "recursion in repr": ("class C:\n    def __repr__(self): return repr(self)\ndef bad(): print(C())", 1),
    "deep recursion that is allowed": ("def down(n): return n and down(n - 1) + 1\ndef bad():\n    sys.setrecursionlimit(30000)\n    print(down(20000))", 0),
    "stack overflow": (
        "import resource\nresource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))\nsys.setrecursionlimit(10**6)\n"
        "def bad(): return max([1, 2], key=lambda n: bad())", -signal.SIGSEGV),
    "no memory": ("def bad(): bytearray(1 << 62)", 1),
    "address space used up": (
        "import resource\ndef bad():\n    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n    kept = []\n"
        "    try:\n        while True: kept.append(bytearray(1 << 24))\n    except MemoryError: kept.clear(); print('no more')", 0),
    "address space used up before": (
        "import resource, mmap\nresource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))\ndef bad(): print('here')", 0),
    "no descriptors": (
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\ndef bad(): open('/dev/null')", 1),
    "closes all descriptors": ("import os\ndef bad(): os.closerange(3, 1000); print(sum(range(1000)))", 0),
    "closes its output": ("import os\ndef bad(): os.close(1)", 1),
    "full disk": ("def bad():\n    with open('/dev/full', 'w') as f: f.write('x' * 100)", 1),
    "broken pipe": ("import os\ndef bad():\n    r, w = os.pipe(); os.close(r); os.write(w, b'x')", 1),
    "faulthandler": ("import faulthandler\nfaulthandler.enable()\ndef bad(): faulthandler._sigsegv()", -signal.SIGSEGV),
    "faulthandler, abort": ("import faulthandler\nfaulthandler.enable()\ndef bad(): faulthandler._sigabrt()", -signal.SIGABRT),
    "faulthandler, division": ("import faulthandler\nfaulthandler.enable()\ndef bad(): faulthandler._sigfpe()", -signal.SIGFPE),
    "faulthandler, read of null": ("import faulthandler\nfaulthandler.enable()\ndef bad(): faulthandler._read_null()", -signal.SIGSEGV),
    "faulthandler, stack overflow": ("import faulthandler\nfaulthandler.enable()\ndef bad(): faulthandler._stack_overflow()", -signal.SIGSEGV),
    "faulthandler, on demand": (
        "import faulthandler, os, signal\nfaulthandler.register(signal.SIGUSR1)\ndef bad(): os.kill(os.getpid(), signal.SIGUSR1); faulthandler.dump_traceback()", 0),
    "faulthandler, later": (
        "import faulthandler\ndef bad():\n    faulthandler.dump_traceback_later(0.1, exit=True)\n    while True: pass", 1),
    "fatal error": ("import faulthandler\ndef bad(): faulthandler._fatal_error_c_thread()", -signal.SIGABRT),
    "read of null": ("import ctypes\ndef bad(): ctypes.string_at(0)", -signal.SIGSEGV),
    "crash in another thread": (
        "import ctypes, threading\ndef bad():\n    t = threading.Thread(target=ctypes.string_at, args=(0,)); t.start(); t.join()", -signal.SIGSEGV),
    "crash in a child": (
        "import ctypes, os\ndef bad():\n    pid = os.fork()\n    if pid == 0: ctypes.string_at(0)\n    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))", 0),
    "exit in another thread": (
        "import os, threading\ndef bad():\n    threading.Thread(target=os._exit, args=(8,)).start()\n    while True: pass", 8),
    "becomes a daemon": (
        "import os\ndef bad():\n    if os.fork(): os._exit(3)\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
        "    for fd in range(100):\n        try: os.close(fd)\n        except OSError: pass\n    sum(range(1000000)); os._exit(0)", 3),
    "gives up its rights": (
        "import os\ndef bad():\n    if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n    s = 0\n    for i in range(200000): s += i % 3\n    print(s)", 0),
    "not to be dumped": (
        "import ctypes\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\ndef bad(): print('here')", 0),
    **{f"extension: {how}": (f"import crash\ndef bad(): crash.now('{how}')", status) for how, status in {
        "null": -signal.SIGSEGV, "jump": -signal.SIGSEGV, "divide": -signal.SIGFPE, "illegal": -signal.SIGILL, "trap": -signal.SIGTRAP,
        "deep": -signal.SIGSEGV, "abort": -signal.SIGABRT, "exit": 9, "quick": 11, "fatal": -signal.SIGABRT, "handled": 42, "no error": 1,
    }.items()},
}

# Name: (words after `python3`, expected status of plain Python).
COMMAND_LINES = {
    "no such script": (["missing.py"], 2),
    "no such module": (["-m", "no_such_module"], 1),
    "a folder": (["folder"], 1),
    "an empty script": (["empty.py"], 0),
    "a syntax error": (["syntax.py"], 1),
    "a syntax error at the end of a long script": (["late.py"], 1),
    "bytes that are no text": (["latin1.py"], 1),
    "a null byte": (["null.py"], 0),
    "wrong indentation": (["tabs.py"], 1),
    "a broken archive": (["broken.zip"], 1),
    "a module that imports itself": (["circular.py"], 1),
    "an import of what has a syntax error": (["imports.py"], 1),
    "an unknown option": (["-Z"], 2),
    "an option without its value": (["-c"], 2),
    "an unknown -X": (["-X", "nothing=no", "-c", "print(1)"], 0),
    "a syntax error in -c": (["-c", "for"], 1),
    "a warning turned into an error": (["-W", "error", "-c", "import warnings; warnings.warn('w')"], 1),
    "a script on standard input": (["-"], 1),
    "version": (["-V"], 0),
}
STDIN = b"s = 0\nfor i in range(20000):\n    s += i\nprint(s)\nraise LookupError(s)\n"


def make_files(folder):
    """What the command lines name."""
    (folder / "folder").mkdir()
    files = {
        "empty.py": b"", "syntax.py": b"print('never')\nif True print(1)\n", "late.py": b"x = 1\n" * 3000 + b"y = (\n", "latin1.py": b"print('never')\ns = '\xe4'\n",
        "null.py": b"print('never')\n\0\n", "tabs.py": b"if 1:\n        a = 1\n\tb = 2\n", "broken.zip": b"PK\x03\x04" + b"\0" * 100,
        "circular.py": b"import circular2\nvalue = 1\n", "circular2.py": b"from circular import absent\n", "imports.py": b"import syntax\n",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)


def build_extension(root, python):
    """crash.so, for plain CPython: the annotated one takes it as it is. Gives its folder."""
    out = root / "target" / "cpython-native"
    source = root / "tests" / "cpython" / "native" / "crash.c"
    code = "import sysconfig; print(sysconfig.get_path('include'), sysconfig.get_config_var('EXT_SUFFIX'))"
    include, suffix = subprocess.run([python, "-E", "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    made = out / f"crash{suffix}"
    if not made.is_file() or made.stat().st_mtime < source.stat().st_mtime:
        out.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", f"-I{include}", source, "-o", made], check=True)
    return out


def cleaned(suite, path, text):
    """Output without what differs between two plain runs: addresses of threads, pids; and the interpreter's paths."""
    text = text.replace(str(path).encode(), suite.name.encode()).replace(str(suite.home(path)).encode(), b"HOME")
    return re.sub(rb"0x[0-9a-f]{8,}", b"0x~", text)


class Bad:
    """Runs the cases."""

    def __init__(self, root, suite, paths, redmagic, modes, timeout):
        self.suite, self.paths, self.redmagic, self.modes, self.timeout = suite, paths, redmagic, modes, timeout
        self.env = {**suite.environment, "PYTHONPATH": str(build_extension(root, paths["plain"]))}

    def cases(self):
        yield from ((name, None, program, status) for name, (program, status) in IN_A_LOOP.items())
        yield from ((name, words, None, status) for name, (words, status) in COMMAND_LINES.items())

    def run(self, which, prefix, words, program, env):
        """One run in a fresh folder."""
        with tempfile.TemporaryDirectory(prefix="redmagic-bad-") as name:
            folder = Path(name)
            if program is None:
                make_files(folder)
            else:
                (folder / "program.py").write_text(f"{LOOP}{program}\nmain()\n")
                words = ["program.py"]
            got = marked.run([*prefix, self.paths[which], *words], env={**self.env, **env}, cwd=folder, stdin=STDIN, timeout=self.timeout)
            got.err = got.err.replace(name.encode(), b"FOLDER")
            got.out = got.out.replace(name.encode(), b"FOLDER")
            return got

    def case(self, case):
        """Gives (comparisons, [failures], counts)."""
        name, words, program, status = case
        plain = self.run("plain", [], words, program, {})
        if plain.status != status:
            return 1, [f"{name}: plain Python gives {plain.status}, not {status}: {plain.err[-400:]!r}"], Counter()
        failures, counts = [], Counter()
        for mode in self.modes:
            found, counted = self.compare(f"{name} [{mode}]", plain, words, program, MODES[mode])
            failures += found
            counts += counted
        return len(self.modes), failures, counts

    def compare(self, name, plain, words, program, env):
        for _ in range(TRIES):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                stats_file, log = Path(folder) / "stats.json", Path(folder) / "log"
                prefix = [self.redmagic, "run", "--require", "--stats", stats_file, "--log", log, "--"]
                got = self.run("annotated", prefix, words, program, env)
                stats = read_stats(stats_file, patience=0.2)
                text = log.read_text() if log.is_file() else "ERROR there is no log"
                complaints = [line for line in text.splitlines() if re.search("ERROR|WARN|panicked", line) and IN_VAIN not in line]
            if stats or program is None:
                break
        counts = Counter(traces=stats.get("traces", 0), sessions=bool(stats))
        failures = []
        for what in ("out", "err"):
            want = cleaned(self.suite, self.paths["plain"], getattr(plain, what))
            have = cleaned(self.suite, self.paths["annotated"], getattr(got, what))
            if want != have:
                failures.append(f"{name}: std{what} differs: plain {want[-600:]!r}, redmagic {have[-600:]!r}")
        if got.status != plain.status:
            failures.append(f"{name}: status {got.status}, plain {plain.status}")
        if got.left:
            failures.append(f"{name}: left behind: {'; '.join(got.left)}")
        if complaints:
            failures.append(f"{name}: the daemon's log: {complaints[:3]}")
        if program is not None and not stats:
            failures.append(f"{name}: the daemon took no part in {TRIES} runs")
        return failures, counts


def main(root, suite, paths, redmagic, names, modes, timeout, jobs):
    """Runs the cases whose names begin with one of `names`; gives the exit status."""
    bad = Bad(root, suite, paths, redmagic, modes, timeout)
    cases = [case for case in bad.cases() if not names or any(case[0].startswith(name) for name in names)]
    if not cases:
        sys.exit(f"test-cpython: no such case; there are: {', '.join(case[0] for case in bad.cases())}")
    passed = failed = 0
    counts = Counter()
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        for number, failures, counted in pool.map(bad.case, cases):
            broken = len({failure.split("]:")[0] for failure in failures})
            passed, failed = passed + number - broken, failed + broken
            counts += counted
            for failure in failures:
                print(f"FAIL {failure}", flush=True)
    print(f"{len(cases)} ways to go wrong: {counts['traces']} traces in {counts['sessions']} sessions")
    if not names and not counts["traces"]:
        print("FAIL: nothing was ever compiled, so nothing was tested")
        failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0
