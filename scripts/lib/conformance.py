"""Programs run plain and under `redmagic run`, compared: what test-lua and test-cpython share."""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchrun import ended, read_stats
from targets import MissingBuild, header, redmagic_path

# Has every side trace end in the middle of its turn, at once.
JOINS = {"REDMAGIC_JOINDEPTH": "1", "REDMAGIC_JOINTAIL": "0", "REDMAGIC_JOINAFTER": "0"}

# Mode, environment that makes it. In `hot` whatever runs twice is recorded, as far as the
# share of run time allows that may go into recording, and every side trace ends at the first join; in `eager` that limit is gone too.
MODES = {
    "default": {"REDMAGIC_AFTER": "0"},
    "hot": {"REDMAGIC_AFTER": "0", "REDMAGIC_VERIFY": "1", "REDMAGIC_HOTLOOP": "2", "REDMAGIC_HOTEXIT": "1", **JOINS},
    "eager": {"REDMAGIC_AFTER": "0", "REDMAGIC_VERIFY": "1", "REDMAGIC_HOTLOOP": "2", "REDMAGIC_HOTEXIT": "1", "REDMAGIC_RECORDFREE": "1000000"},
    # As `eager`, but start-up leaves something to record.
    "warm": {"REDMAGIC_AFTER": "0", "REDMAGIC_VERIFY": "1", "REDMAGIC_HOTLOOP": "16", "REDMAGIC_HOTEXIT": "8", "REDMAGIC_RECORDFREE": "1000000"},
    # Every trace is recorded by both recorders, which must agree.
    "both": {"REDMAGIC_AFTER": "0", "REDMAGIC_HOTLOOP": "2", "REDMAGIC_HOTEXIT": "1", "REDMAGIC_RECORDFREE": "1000", "REDMAGIC_RECORDER": "2"},
    # Traces are measured over and over, and never found to pay.
    "rest": {"REDMAGIC_AFTER": "0", "REDMAGIC_HOTLOOP": "2", "REDMAGIC_HOTEXIT": "1", "REDMAGIC_PAYOFF": "1", "REDMAGIC_BREAKEVEN": "1000000"},
}

# The modes of a program that names none.
USUAL = ("default", "hot", "eager", "both", "rest")

RECORDERS = ("emulated", "stepped", "recorders_agreed", "recorders_differed")

# Under load a daemon may miss the 10 ms in which a program waits for it, and the program
# then runs plain: right, but no test. It is run again, so often.
TRIES = 4


@dataclass
class Suite:
    """What tells one interpreter's tests from another's."""

    # For messages: the name of the script, and what the plain interpreter is called.
    script: str
    interpreter: str
    # What the interpreter's messages begin with, whatever its path.
    name: str
    # The programs, and how a comment line begins.
    folder: Path
    suffix: str
    comment: str
    # Function of nothing that gives {"plain": path, "annotated": path}.
    paths: object
    # For the plain interpreter, and for the annotated one.
    environment: dict
    # Function of an interpreter's path that gives the folder it is installed in.
    home: object = os.path.dirname
    # Function of nothing that gives the environment for programs with a `packages` header, or a text that says
    # why there are no packages.
    packages: object = None


def with_stats(prefix, path):
    """The prefix, with {stats} in it replaced."""
    return [str(path) if word == "{stats}" else word for word in prefix]


def run(command, program, words, stdin, env, timeout, cwd):
    """Gives (exit status or what went wrong, stdout, stderr, seconds).

    The output goes to files: a daemon that outlives the program must not keep us waiting.
    Everything runs in a session of its own, which is ended when it takes too long.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, program.name, *words],
            stdin=given, stdout=out, stderr=err, cwd=cwd, env={**os.environ, **env}, start_new_session=True,
        )
        status = ended(process, timeout)
        took = time.monotonic() - began
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read(), took


def unnamed(suite, path, text):
    """The text without what may differ: the interpreter's path, which messages begin with, and that of
    its library in tracebacks."""
    return text.replace(str(path).encode(), suite.name.encode()).replace(str(suite.home(path)).encode(), b"HOME")


def first_difference(a, b):
    """The first line that differs, for the report."""
    left, right = a.splitlines(), b.splitlines()
    for number, (x, y) in enumerate(zip(left, right), 1):
        if x != y:
            return f"line {number}: plain {x[:120]!r}, redmagic {y[:120]!r}"
    return f"plain has {len(left)} lines, redmagic {len(right)}"


def test(suite, program, modes, prefix, paths, timeout):
    """Gives (number of comparisons, [failures], what was counted)."""
    words = shlex.split(header(program, "args", suite.comment))
    stdin = header(program, "stdin", suite.comment).encode().replace(b"\\n", b"\n").replace(b"\\t", b"\t")
    chosen = header(program, "modes", suite.comment).split()
    modes = [mode for mode in modes if mode in (chosen or USUAL)]
    expected = int(header(program, "exit", suite.comment) or 0)
    cwd = program.parent
    failures, counts = [], Counter()
    environment = suite.environment
    if header(program, "packages", suite.comment):
        more = suite.packages()
        if isinstance(more, str):
            print(f"LEFT OUT {program.stem}: {more}", flush=True)
            return 0, failures, Counter(left_out=1)
        environment = {**environment, **more}
    status, out, err, took = run([paths["plain"]], program, words, stdin, environment, timeout, cwd)
    if status != expected:
        return 1, [f"{program.stem}: plain {suite.interpreter} gives exit status {status}, not {expected}: {err.decode(errors='replace')[:300]}"], counts
    out, err = (unnamed(suite, paths["plain"], text) for text in (out, err))
    for mode in modes:
        # The daemon may write its statistics while the folder is removed.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            stats_file = Path(folder) / "stats.json"
            command = [*with_stats(prefix, stats_file), paths["annotated"]]
            for _ in range(TRIES):
                got = run(command, program, words, stdin, {**environment, **MODES[mode]}, timeout + 20 * took, cwd)
                stats = read_stats(stats_file, patience=2) if "{stats}" in prefix else {}
                counts["traces"] += stats.get("traces", 0) + stats.get("side_traces", 0)
                for recorder in RECORDERS:
                    counts[recorder] += stats.get(recorder, 0)
                if "wrong" in stats.get("not_optimised", {}):
                    failures.append(f"{program.stem} [{mode}]: an optimised trace is wrong; `redmagic replay` on saved recordings says how")
                if stats.get("recorders_differed"):
                    failures.append(f"{program.stem} [{mode}]: the recorders differ: {stats['messages']}")
                counts[f"runs in {mode}"] += 1
                if stats or "{stats}" not in prefix:
                    break
            else:
                failures.append(f"{program.stem} [{mode}]: the daemon took no part in {TRIES} runs")
        got_out, got_err = (unnamed(suite, paths["annotated"], text) for text in got[1:3])
        for what, want, have in (("exit status", status, got[0]), ("stdout", out, got_out), ("stderr", err, got_err)):
            if want != have:
                detail = first_difference(want, have) if isinstance(want, bytes) else f"plain {want}, redmagic {have}"
                failures.append(f"{program.stem} [{mode}]: {what} differs: {detail}")
    return len(modes), failures, counts


def main(root, suite, description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, suite)
    return main_with(root, suite, parser.parse_args())


def add_options(parser, suite, more=()):
    """The options of [`main_with`]; `more` are modes of other tests."""
    parser.add_argument("names", nargs="*", help=f"programs to run (without {suite.suffix}); all when none is given")
    parser.add_argument("--mode", choices=[*dict.fromkeys([*MODES, *more]), "all"], default="all", help="thresholds (default: all that a program is for)")
    parser.add_argument("--with", dest="prefix", metavar="CMDPREFIX", help=f"run the annotated {suite.interpreter} with this in place of `redmagic run --`; may be empty")
    parser.add_argument("-j", type=int, default=1, metavar="N", help="programs at once")
    parser.add_argument("--timeout", type=float, default=60, metavar="S", help="seconds for one run (default 60)")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run everything N times")


def main_with(root, suite, arguments):
    """Runs and compares the programs; gives the exit status."""
    # What a shell starts in the background ignores Ctrl-C, and so would the programs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        paths = suite.paths()
        if arguments.prefix is None:
            # --require: without a shim the program would run plain, and every test pass.
            prefix = [redmagic_path(root), "run", "--require", "--stats", "{stats}", "--"]
        else:
            prefix = shlex.split(arguments.prefix)
    except MissingBuild as error:
        sys.exit(f"{suite.script}: {error}")
    programs = sorted(suite.folder.glob(f"*{suite.suffix}"))
    if arguments.names:
        known = {p.stem: p for p in programs}
        missing = [n for n in arguments.names if n not in known]
        if missing:
            sys.exit(f"{suite.script}: no such program: {', '.join(missing)}")
        programs = [known[n] for n in arguments.names]
    modes = list(MODES) if arguments.mode == "all" else [arguments.mode]
    passed = failed = 0
    counts = Counter()
    with ThreadPoolExecutor(max(1, arguments.j)) as pool:
        work = programs * arguments.repeat
        for count, failures, counted in pool.map(lambda p: test(suite, p, modes, prefix, paths, arguments.timeout), work):
            counts += counted
            broken = len({f.split(":")[0] for f in failures})
            passed, failed = passed + count - broken, failed + broken
            for failure in failures:
                print(f"FAIL {failure}", flush=True)
    if arguments.prefix is None:
        print(f"{counts['traces']} traces were made; {counts['emulated']} recordings were emulated, {counts['stepped']} stepped")
        if not counts["traces"]:
            print("FAIL: nothing was ever compiled, so nothing was tested")
            failed += 1
        if counts["runs in both"]:
            print(f"both recorders agreed {counts['recorders_agreed']} times, and differed {counts['recorders_differed']} times")
            if not counts["recorders_agreed"]:
                print("FAIL: nothing was recorded both ways")
                failed += 1
    left_out = f"; {counts['left_out']} programs LEFT OUT (see above)" if counts["left_out"] else ""
    print(f"{passed} passed, {failed} failed{left_out}")
    return 1 if failed or not passed else 0

