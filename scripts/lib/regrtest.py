"""CPython's own regression tests, plain and under `redmagic run`, verdicts compared test by test.

A module is run in a process of its own, in an empty folder, without resources (no network,
no sound, no hours of processor time). The verdict of a test is what unittest says of it:
passed, failed, error, skipped. When one differs, the module is run again both ways: a verdict
that plain CPython gives too, sometimes, is the test's own business and is listed as unstable;
any other is a difference, also if it does not come back."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchrun import read_stats
from conformance import JOINS

# Name, environment that makes it.
THRESHOLDS = {
    "default": {},
    "16": {"REDMAGIC_AFTER": "0", "REDMAGIC_HOTLOOP": "16", "REDMAGIC_HOTEXIT": "8", **JOINS},
}

# Modules that say nothing about two builds of one interpreter, each with the reason.
LEFT_OUT = {
    "test_gdb": "runs gdb on the interpreter",
    "test_tools": "tests the source tree, which is not installed",
    "test_idle": "needs a display", "test_tk": "needs a display", "test_ttk_guionly": "needs a display",
    "test_ttk_textonly": "needs a display", "test_tcl": "needs Tcl", "test_turtle": "needs a display",
    "test_regrtest": "runs regrtest in regrtest, minutes long",
    "test_multiprocessing_forkserver": "minutes long", "test_multiprocessing_spawn": "minutes long",
    "test_multiprocessing_fork": "minutes long", "test_concurrent_futures": "minutes long",
    "test_peg_generator": "compiles C for minutes", "test_zipfile64": "writes 4 GiB",
    "test_winreg": "Windows", "test_winsound": "Windows", "test_winconsoleio": "Windows", "test_msilib": "Windows",
    "test_startfile": "Windows", "test_nt": "Windows",
}

# How often a module with a difference is run again, each way.
AGAIN = 3


def modules(python):
    """All of Lib/test's modules, in order, but those left out."""
    code = "import test, pathlib; print(pathlib.Path(test.__file__).parent)"
    folder = Path(subprocess.run([python, "-E", "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
    names = {p.stem for p in folder.iterdir() if p.name.startswith("test_") and (p.suffix == ".py" or (p / "__init__.py").is_file())}
    return sorted(names - set(LEFT_OUT))


def verdicts(report):
    """{test: verdict} from regrtest's report."""
    try:
        root = ET.parse(report).getroot()
    except (OSError, ET.ParseError):
        return None
    found = {}
    for case in root.iter("testcase"):
        # A subtest's name has values in it, addresses and temporary names among them.
        name = re.sub(r"0x[0-9a-f]+|@test_\d+_tmp\S*|/tmp/\S+", "~", case.get("name"))
        verdict = "passed"
        for kind in ("failure", "error", "skipped"):
            if case.find(kind) is not None:
                verdict = kind
        if verdict == "passed" and case.get("status") == "notrun":
            verdict = "skipped"
        # The worst, when there are several of one name.
        order = ("passed", "skipped", "failure", "error")
        found[name] = max(found.get(name, "passed"), verdict, key=order.index)
    return found


def run_module(command, module, env, timeout):
    """Gives ({test: verdict}, exit status or what went wrong, seconds, statistics, tail of the output)."""
    # The daemon may write its statistics while the folder is removed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        work = Path(folder)
        (work / "cwd").mkdir()
        stats_file = work / "stats.json"
        argv = [str(stats_file) if word == "{stats}" else str(word) for word in command]
        argv += ["-m", "test", "--junit-xml", str(work / "report.xml"), "--tempdir", str(work), "--timeout", str(int(timeout)), module]
        with open(work / "output", "wb+") as output:
            began = time.monotonic()
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=work / "cwd", env=env, start_new_session=True)
            try:
                status = process.wait(timeout + 30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                status = f"no end after {timeout + 30:.0f} s"
            took = time.monotonic() - began
            stats = read_stats(stats_file, patience=2) if "{stats}" in command else {}
            output.seek(0)
            tail = output.read().decode(errors="replace")[-3000:]
        return verdicts(work / "report.xml"), status, took, stats, tail


def differences(plain, other):
    """[(test, plain's verdict, the other's)]; the module itself stands for its exit status."""
    (a, status_a), (b, status_b) = plain, other
    found = []
    if status_a != status_b:
        found.append(("exit status", status_a, status_b))
    for test in sorted(set(a or {}) | set(b or {})):
        x, y = (a or {}).get(test, "not run"), (b or {}).get(test, "not run")
        if x != y:
            found.append((test, x, y))
    return found


class Runner:
    """Runs modules both ways."""

    def __init__(self, paths, prefix, thresholds, timeout, environment):
        self.plain = [paths["plain"]]
        self.traced = [*prefix, paths["annotated"]]
        self.thresholds = thresholds
        self.timeout = timeout
        self.env = {**os.environ, **environment}

    def module(self, name):
        """Gives (lines to print, differences, tests, traces)."""
        lines = []
        a = run_module(self.plain, name, self.env, self.timeout)
        if a[0] is None:
            return [f"{name}: plain CPython gives no report: {a[1]}"], 0, 0, 0
        different, traces = 0, 0
        seconds = [f"{a[2]:.1f}"]
        for threshold in self.thresholds:
            env = {**self.env, **THRESHOLDS[threshold]}
            b = run_module(self.traced, name, env, self.timeout + 10 * a[2])
            traces += b[3].get("traces", 0) + b[3].get("side_traces", 0)
            seconds.append(f"{b[2]:.1f}")
            found = differences(a[:2], b[:2])
            if not found:
                continue
            # Once more both ways: does plain CPython do that too?
            plain = [a] + [run_module(self.plain, name, self.env, self.timeout) for _ in range(AGAIN)]
            again = [run_module(self.traced, name, env, self.timeout + 10 * a[2]) for _ in range(AGAIN)]
            for test, x, y in found:
                def of(runs):
                    return [r[1] if test == "exit status" else (r[0] or {}).get(test, "not run") for r in runs]

                often = sum(v == y for v in of([b, *again]))
                text = f"{name} [{threshold}]: {test}: plain {x}, redmagic {y} ({often} of {AGAIN + 1} runs)"
                if y in of(plain):
                    lines.append(f"unstable {text}; plain {y} too, {sum(v == y for v in of(plain))} times")
                else:
                    different += 1
                    lines.append(f"DIFFERS {text}")
                    if test == "exit status":
                        lines += ["    " + line for line in b[4].splitlines()[-12:]]
        lines.append(f"{name}: {len(a[0])} tests, {traces} traces, {' / '.join(seconds)} s")
        return lines, different, len(a[0]), traces


def main(paths, prefix, names, thresholds, timeout, environment, jobs):
    """Runs the modules; gives the exit status."""
    chosen = modules(paths["plain"])
    if names:
        missing = [n for n in names if n not in chosen]
        if missing:
            sys.exit(f"test-cpython: no such module, or one that is left out: {', '.join(missing)}")
        chosen = names
    runner = Runner(paths, prefix, thresholds, timeout, environment)
    counts = Counter()
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        for name, (lines, different, tests, traces) in zip(chosen, pool.map(runner.module, chosen)):
            for line in lines:
                print(line, flush=True)
            counts.update(modules=1, tests=tests, differences=different, traces=traces, broken=different > 0)
    print(f"{counts['modules']} modules, {counts['tests']} tests, {counts['traces']} traces; thresholds {', '.join(thresholds)}: "
          f"{counts['differences']} verdicts differ, in {counts['broken']} modules")
    if not counts["traces"]:
        print("FAIL: nothing was ever compiled, so nothing was tested")
        return 1
    return 1 if counts["differences"] or not counts["tests"] else 0
