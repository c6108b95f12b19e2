"""Real programs that need more than a script and its output: the interactive shells (scripts/lib/cpyshells.py), a virtual
environment made with `python -m venv`, and pip installing wheels into it without a network. Plain first, then under
`redmagic run` in each mode; what is seen must be the same, and nothing may be left behind."""

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import cpyshells
import marked
from benchrun import read_stats
from conformance import JOINS
from terminal import Silent

# Mode, environment that makes it. The first is what users have; recording is limited to some seconds where everything is recorded.
MODES = {
    "user": {"REDMAGIC_AFTER": "40"},
    "default": {"REDMAGIC_AFTER": "0"},
    "16": {"REDMAGIC_AFTER": "0", "REDMAGIC_VERIFY": "1", "REDMAGIC_HOTLOOP": "16", "REDMAGIC_HOTEXIT": "8", "REDMAGIC_RECORDFREE": "3000"},
    "2": {"REDMAGIC_AFTER": "0", "REDMAGIC_VERIFY": "1", "REDMAGIC_HOTLOOP": "2", "REDMAGIC_HOTEXIT": "1", "REDMAGIC_RECORDFREE": "3000", **JOINS},
}

# An environment variable: a folder to save recordings in, for `redmagic replay`, and the log of a run with a wrong trace.
KEEP = "REDMAGIC_TEST_RECORDINGS"

# What is done with the installed packages: one is Python alone, the other a C extension.
USE = """
import os, sys, six, markupsafe, markupsafe._speedups
s = 0
for i in range(30000):
    s += len(markupsafe.escape(f"<{i}>")) + len(six.ensure_str(b"abc")) + isinstance(i, six.integer_types)
print(s, markupsafe.escape('<a href="x">') + "<b>", markupsafe.Markup("<i>%s</i>") % "<>")
for module in (six, markupsafe._speedups, os):
    print(os.path.relpath(module.__file__, sys.prefix if module is not os else sys.base_prefix))
print(sys.prefix != sys.base_prefix, [p for p in sys.path if "site-packages" in p] == [p for p in sys.path if p.startswith(sys.prefix)])
"""


class Way:
    """One way to run programs: plain, or in a mode."""

    def __init__(self, suite, path, redmagic, mode, fetched, timeout):
        self.suite, self.path, self.redmagic, self.mode = suite, path, redmagic, mode
        self.fetched, self.timeout = fetched, timeout
        self.env = {**suite.environment, **({} if mode is None else MODES[mode])}
        self.counts, self.wrong = Counter(), []

    def prefix(self, stats):
        if self.mode is None:
            return []
        options = ["--stats", stats, "--log", f"{stats}.log"]
        if KEEP in os.environ:
            options += ["--save-recordings", os.environ[KEEP]]
        return [self.redmagic, "run", "--require", *options, "--"]

    def note(self, stats_file):
        """Takes in the statistics of a run."""
        if self.mode is None:
            return
        stats = read_stats(stats_file, patience=2)
        self.counts += Counter(runs=1, sessions=bool(stats), traces=stats.get("traces", 0) + stats.get("side_traces", 0))
        if "wrong" in stats.get("not_optimised", {}):
            log = Path(f"{stats_file}.log")
            if KEEP in os.environ:
                shutil.copy(log, os.environ[KEEP])
            reasons = re.findall(r"WARN.*trace is wrong.*", log.read_text())
            self.wrong.append(f"{reasons}; {KEEP}=FOLDER keeps the recordings")

    def cleaned(self, text, folder):
        for path in (self.path, self.path.resolve()):
            text = text.replace(str(path), self.suite.name).replace(str(self.suite.home(path)), "HOME")
        return text.replace(str(folder), "FOLDER")

    def run(self, folder, command, env):
        """Runs a command; gives what is seen of it as a text."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            stats = Path(name) / "stats.json"
            got = marked.run([*self.prefix(stats), *command], env={**self.env, **env}, cwd=folder, timeout=self.timeout)
            self.note(stats)
        if got.left:
            self.wrong.append(f"{command[1:4]} leaves behind: {'; '.join(got.left)}")
        out, err = (self.cleaned(text.decode(errors="replace"), folder) for text in (got.out, got.err))
        return f"{' '.join(map(str, command[1:4]))}: status {got.status}\n{out}\n{err}"


def differences(want, have):
    """The first difference between two lists of texts."""
    for number, (x, y) in enumerate(zip(want, have)):
        if x != y:
            return f"part {number}: {cpyshells.different(x.splitlines(), y.splitlines())}"
    return None if len(want) == len(have) else f"{len(want)} parts and {len(have)}"


def shell(drive):
    """A scenario of one of the shells."""

    def scenario(way, expected):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            stats = Path(folder) / "stats.json"
            seen = drive(way, way.prefix(stats), folder, expected)
            way.note(stats)
            if seen.left:
                way.wrong.append(f"left behind: {'; '.join(seen.left)}")
            return seen

    return scenario


def repl(way, prefix, folder, _):
    return cpyshells.repl(way.suite, way.path, prefix, way.env, folder, way.timeout)


def ipython(way, prefix, folder, expected):
    env = {**way.env, "PYTHONPATH": str(way.fetched.site)}
    return cpyshells.ipython(way.suite, way.path, prefix, env, folder, way.timeout, expected and expected.shown)


class Seen(list):
    """What `venv` sees: texts."""


def venv(way, _):
    """Makes an environment with pip in it, installs, uses, lists and removes packages."""
    pip = {
        "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(way.fetched.wheels), "PIP_NO_CACHE_DIR": "1", "PIP_CONFIG_FILE": "/dev/null",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "PIP_PROGRESS_BAR": "off", "COLUMNS": "200",
    }
    # tempfile removes what is read-only, too.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        python = folder / "made" / "bin" / "python"
        seen = Seen([way.run(folder, [way.path, "-m", "venv", "made"], pip), listing(folder / "made", way, folder)])
        for words in (
            ["-m", "pip", "install", "six", "markupsafe"], ["-c", USE], ["-m", "pip", "list", "--format=freeze"], ["-m", "pip", "check"],
            ["-m", "pip", "uninstall", "-y", "six"], ["-m", "pip", "install", "no-such-package"], ["-c", "import six"],
        ):
            seen.append(way.run(folder, [python, *words], pip))
        seen.append(listing(folder / "made", way, folder))
        return seen


def listing(root, way, folder):
    """The files of an environment, with hashes of those that do not say where they are."""
    lines = []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if "__pycache__" in name or path.is_dir():
            continue
        if path.is_symlink():
            lines.append(f"{name} -> {way.cleaned(os.readlink(path), folder)}")
        elif path.suffix in (".py", ".so", ".txt", ".exe"):
            lines.append(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}")
        elif path.name == "pyvenv.cfg":
            lines.append(way.cleaned(path.read_text(), folder))
        else:
            lines.append(name)
    return "\n".join(lines)


# Name: (scenario, whether it needs packages from PyPI, modes).
SCENARIOS = {
    "repl": (shell(repl), False, ("user", "default", "16", "2")),
    "ipython": (shell(ipython), True, ("user", "default", "16", "2")),
    "venv": (venv, True, ("user", "16")),
}


def compare(name, scenario, plain, expected, way):
    """Failures of one way."""
    try:
        seen = scenario(way, expected)
    except Silent as error:
        return [str(error)]
    if isinstance(seen, Seen):
        found = differences(expected, seen)
    else:
        found = differences(["\n".join(x) if isinstance(x, list) else x for x in expected.shown], ["\n".join(x) if isinstance(x, list) else x for x in seen.shown])
        if found is None and seen.status != expected.status:
            found = f"status {seen.status}, plain {expected.status}"
    failures = [found] if found else []
    if not way.counts["sessions"]:
        failures.append("the daemon took no part")
    return failures + way.wrong


def main(suite, paths, redmagic, fetched, names, modes, timeout):
    """Runs the scenarios; `fetched` is a function that gives the packages, or a text that says why there are none. Gives the exit status."""
    unknown = set(names) - set(SCENARIOS)
    if unknown:
        sys.exit(f"test-cpython: no such program: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    passed = failed = 0
    counts, left_out = Counter(), []
    for name, (scenario, needs, its_modes) in SCENARIOS.items():
        if names and name not in names:
            continue
        had = fetched() if needs else None
        if isinstance(had, str):
            print(f"LEFT OUT {name}: {had}", flush=True)
            left_out.append(name)
            continue
        if needs and str(had.site) not in sys.path:
            # pyte. Last, as there is much else.
            sys.path.append(str(had.site))
        plain = Way(suite, paths["plain"], redmagic, None, had, timeout / 2)
        try:
            expected = scenario(plain, None)
        except Silent as error:
            print(f"FAIL {name}: plain Python: {error}", flush=True)
            failed += 1
            continue
        problem = plain.wrong or (re.findall(r"status (?!0\b|1\b).*", "\n".join(expected)) if isinstance(expected, Seen) else [])
        if problem:
            print(f"FAIL {name}: plain Python: {problem}", flush=True)
            failed += 1
            continue
        for mode in its_modes:
            if mode not in modes:
                continue
            way = Way(suite, paths["annotated"], redmagic, mode, had, timeout)
            failures = compare(name, scenario, plain, expected, way)
            counts += way.counts
            passed, failed = passed + (not failures), failed + bool(failures)
            for failure in failures:
                print(f"FAIL {name} [{mode}]: {failure}", flush=True)
    print(f"programs: {counts['traces']} traces in {counts['sessions']} sessions of {counts['runs']} runs")
    if not counts["traces"] and len(left_out) < len(SCENARIOS):
        print("FAIL: nothing was ever compiled, so nothing was tested")
        failed += 1
    print(f"{passed} passed, {failed} failed" + (f"; {', '.join(left_out)} LEFT OUT (see above)" if left_out else ""))
    return 1 if failed else 0
