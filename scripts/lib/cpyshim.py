"""`redmagic run -- python3 ...` finds the interpreter that it was asked for. One without a shim runs plain, with its own exit
status, after one line that names the script that builds one that has; with --require it does not run."""

import os
import signal
import tempfile
from pathlib import Path

import marked
from benchrun import read_stats

PROGRAM = """import sys, os, signal
print("given", sys.argv[1:], sys.stdin.read())
print("its own error", file=sys.stderr, flush=True)
sys.stdout.flush()
s = 0
for i in range(200000): s += i
if sys.argv[1] == "signal": os.kill(os.getpid(), signal.SIGTERM)
sys.exit(7)
"""
REFUSED = 125
ADVICE = b"scripts/build-cpython"


def commands(python, folder):
    """{how the interpreter is named: command}; `folder` is the first of PATH."""
    bin = folder / "bin"
    bin.mkdir()
    (bin / "python3").symlink_to(python)
    (folder / "program.py").write_text(PROGRAM)
    for name, line in (("script", f"#!{python}"), ("env", "#!/usr/bin/env python3")):
        (folder / name).write_text(f"{line}\n{PROGRAM}")
        (folder / name).chmod(0o755)
    return {
        "path": [python, "program.py"], "name": ["python3", "program.py"], "script": [folder / "script"], "script with env": [folder / "env"],
    }


def main(suite, paths, redmagic):
    """Gives the exit status."""
    passed = failed = 0

    def check(good, name, got):
        nonlocal passed, failed
        passed, failed = passed + bool(good), failed + (not good)
        if not good:
            print(f"FAIL without a shim: {name}: {got}", flush=True)

    for which in ("plain", "annotated"):
        with tempfile.TemporaryDirectory(prefix="redmagic-shim-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            env = {**suite.environment, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "REDMAGIC_AFTER": "0"}
            stats = folder / "stats.json"

            def run(*words):
                stats.unlink(missing_ok=True)
                return marked.run(words, env=env, cwd=folder, stdin=b"some input")

            for how, command in commands(paths[which], folder).items():
                for last, status in (("exit", 7), ("signal", -signal.SIGTERM)):
                    alone = run(*command, last)
                    assert alone.status == status, alone
                    for require in ([], ["--require"]):
                        got = run(redmagic, "run", *require, "--stats", stats, "--", *command, last)
                        label = f"{which} by {how}, {last} {''.join(require)}"
                        check(not got.left, label, got)
                        lines = got.err.splitlines(keepends=True)
                        if which == "annotated":
                            # The interpreter it was asked for.
                            check((got.status, got.out, got.err) == (alone.status, alone.out, alone.err), label, got)
                            check(read_stats(stats, patience=2), label, "no session")
                        elif require:
                            check((got.status, got.out, len(lines)) == (REFUSED, b"", 1) and ADVICE in lines[0], label, got)
                            check(b"runs plain" not in got.err, label, got)
                        else:
                            check((got.status, got.out, b"".join(lines[1:])) == (alone.status, alone.out, alone.err), label, got)
                            check(lines[0].startswith(b"redmagic: ") and ADVICE in lines[0], label, got)
    print(f"with and without a shim: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0
