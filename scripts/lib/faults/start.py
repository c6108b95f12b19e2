"""Starting: a program under `redmagic run` finds what it finds without, whether the launcher takes its short way, before libc
has begun, or the long one."""

import ctypes
import os
import re
import shutil
import stat
import subprocess

from benchrun import read_stats

from .common import PATIENCE, REDMAGIC, ROOT, TARGETS, Result, need, target

# Whoever has a setting goes the long way; this one is the default.
WAYS = {"short": {}, "long": {"REDMAGIC_AFTER": "40"}}


def section(settings):
    folder = settings.folder / "start"
    folder.mkdir()
    needs_nothing(settings)
    found(settings, folder)
    unusual(settings, folder)
    sessions(settings, folder)
    needed(settings)


def needs_nothing(settings):
    """Before libc has begun, none of its functions is there, nor of core what calls them: the short way has all that it calls."""
    built = max((ROOT / "target/release/deps").glob("libredmagic_start-*.rlib"), key=lambda path: path.stat().st_mtime)
    need("objdump", "binutils")
    lines = subprocess.run(["objdump", "--disassemble", "--reloc", built], capture_output=True, text=True, check=False).stdout.splitlines()
    wanted = {re.split(r"[-+]0x", line.split()[-1])[0] for line in lines if " R_X86_64_" in line}
    foreign = {name for name in wanted if "redmagic_start" not in name and not name.startswith((".rodata", ".text", ".L"))}
    settings.check(foreign == {"_start"}, "start: the short way needs", foreign)


def without_settings(extra=None):
    return {k: v for k, v in os.environ.items() if not k.startswith("REDMAGIC_")} | (extra or {})


def start(command, tool=REDMAGIC, options=(), env=None, **popen):
    """A run to its end, and its pid."""
    process = subprocess.Popen(
        [tool, "run", *options, "--", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=without_settings(env), **popen
    )
    out, err = process.communicate(timeout=PATIENCE)
    return Result(process.returncode, out, err), process.pid


def sorted_out(out):
    """What a program found, and the variables of Redmagic among it."""
    lines = out.decode(errors="replace").splitlines()
    ours = dict(line.removeprefix("variable ").split("=", 1) for line in lines if line.startswith("variable REDMAGIC_"))
    return [line for line in lines if not line.startswith("variable REDMAGIC_")], ours


def is_static(path):
    """Whether nothing loads a program: then it begins with the short way."""
    return b"/ld-linux" not in path.read_bytes()[:4096]


def found(settings, folder):
    """The same arguments, environment, descriptors, signals, parent, and no child."""
    path = folder / "path"
    (path / "first").mkdir(parents=True)
    # Comes first in the path, and cannot be run.
    (path / "first" / "started").write_text("")
    (path / "second").mkdir()
    (path / "second" / "started").symlink_to(target("started"))
    search = f"{path}/first:{path}/none:{path}/second:/usr/bin:/bin"
    cases = {
        "absolute": ([target("started"), "a", "", "b c", "--stats"], {}),
        "with a folder": (["./started"], {"cwd": TARGETS}),
        "by PATH": (["started", "x"], {"env": {"PATH": search}}),
        "here, by PATH": (["started"], {"env": {"PATH": f"/usr/bin::{path}/second"}, "cwd": TARGETS}),
        "large environment": ([target("started")], {"env": {f"V{i}": "x" * 20 for i in range(3000)}}),
        "many variables": ([target("started")], {"env": {f"V{i}": "" for i in range(9000)}}),
        "no stdin": ([target("started")], {"preexec_fn": lambda: os.close(0)}),
    }
    for name, (command, how) in cases.items():
        options = how | {"env": without_settings(how.get("env"))}
        done = subprocess.run(command, executable=target("started"), capture_output=True, timeout=PATIENCE, check=False, **options)
        expected, _ = sorted_out(done.stdout)
        settings.check(done.returncode == 7 and len(expected) > 20, f"start: {name}", done)
        for way, setting in WAYS.items():
            got, pid = start(command, env=how.get("env", {}) | setting, **{k: v for k, v in how.items() if k != "env"})
            lines, ours = sorted_out(got.out)
            if way == "long" and name == "no stdin":
                # Rust's runtime opens what is closed.
                lines = [line for line in lines if line != "fd 0 /dev/null"]
            elif name == "no stdin" and is_static(REDMAGIC):
                settings.check(b"fd 0" not in got.out, "start: the short way is taken", got)
            different = [line for line in lines if line not in expected] + [line for line in expected if line not in lines]
            settings.check(
                got.status == 7 and got.err == b"" and lines == expected, f"start: {name}, the {way} way", (got.status, got.err, different)
            )
            socket, later = ours.get("REDMAGIC_SOCKET", ""), ours.get("REDMAGIC_LATER", "")
            settings.check(
                re.fullmatch(rf"redmagic/greet/{pid}/[0-9a-f]{{10,}}", socket) and re.fullmatch(rf"{pid} \d+", later),
                f"start: {name}, the {way} way", ours,
            )


def unusual(settings, folder):
    """What the short way hands on is said as by the long one."""
    alone = folder / "alone"
    alone.mkdir()
    shutil.copy2(REDMAGIC, alone / "redmagic")
    unreadable = folder / "unreadable"
    shutil.copy2(target("started"), unreadable)
    # What loads it is not there: the kernel says so when it is too late for anything else.
    broken = folder / "broken"
    broken.write_bytes((TARGETS / "started").read_bytes().replace(b"/lib64/ld-linux", b"/lib64/ld-nowhe"))
    broken.chmod(0o755)
    text = folder / "text"
    text.write_text("no program\n")
    text.chmod(0o755)
    cases = {
        "missing": (["no-such-program"], 127, b"command not found", {}),
        "missing, with a folder": (["./no-such-program"], 127, b"command not found", {}),
        "a folder": ([str(folder)], 127, b"command not found", {}),
        "not executable": ([str(settings.folder / "start" / "path" / "first" / "started")], 127, b"command not found", {}),
        "no loader": ([str(broken)], 127, b"No such file", {}),
        "no program": ([str(text)], 126, b"redmagic: ", {}),
        "no shim": (["/bin/true"], 0, b"no Redmagic shim", {}),
        "no daemon": ([target("started")], 7, b"redmagicd is missing", {"tool": alone / "redmagic"}),
        "no command": ([], 2, b"required", {}),
    }
    for name, (command, status, words, how) in cases.items():
        results = {way: start(command, env=setting, **how)[0] for way, setting in WAYS.items()}
        for way, got in results.items():
            settings.check(got.status == status and words in got.err, f"start: {name}, the {way} way", got)
        settings.check(results["short"].err == results["long"].err, f"start: {name}", results)
    # Nobody reads it, and it runs.
    unreadable.chmod(stat.S_IXUSR)
    got, _ = start([str(unreadable)])
    settings.check(got.status == 7, "start: a program that cannot be read", got)


def sessions(settings, folder):
    """The daemon that the short way starts comes to the program, and says so in the end."""
    expected = subprocess.run([target("started"), "SPIN", "6000000"], capture_output=True, check=False).stdout.splitlines()[-1]
    for way, setting in WAYS.items():
        stats = folder / f"{way}.json"
        got, pid = start([target("started"), "SPIN", "6000000"], options=["--stats", str(stats)], env=setting)
        settings.check(got.status == 7 and got.out.splitlines()[-1] == expected, f"start: a session, the {way} way", got)
        ended = read_stats(stats)
        _, ours = sorted_out(got.out)
        numbers = f"{ended.get('pid')} {ended.get('daemon_pid')}"
        settings.check(
            ended.get("pid") == pid and ours.get("REDMAGIC_LATER") == numbers, f"start: a session, the {way} way", (ours, numbers)
        )


PR_SET_CHILD_SUBREAPER = 36


# Under load a program may take longer than a daemon is waited with, and a daemon longer than a child waits for it.
TRIES = 10


def needed(settings):
    """A program that is over at once has no daemon, only a process that waits; a child that greets meanwhile has its session."""
    libc = ctypes.CDLL(None, use_errno=True)
    # What nobody waits for is this process's child then.
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        for what, expected in (("NOTHING", ("redmagic", [])), ("FORK", ("redmagicd", [b"attached 1"]))):
            found = []
            while expected not in found and len(found) < TRIES:
                found.append(waited(settings, what))
            settings.check(expected in found or not is_static(REDMAGIC), f"start: a program with {what}, and its daemon", found)
    finally:
        assert libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


def waited(settings, what):
    """What the process was in the end that was to become a daemon, and what the program says of its child."""
    got, _ = start([target("started"), what])
    _, ours = sorted_out(got.out)
    daemon = int(ours["REDMAGIC_LATER"].split()[1])
    os.waitid(os.P_PID, daemon, os.WEXITED | os.WNOWAIT)
    with open(f"/proc/{daemon}/comm", encoding="utf-8") as comm:
        ended = comm.read().strip()
    status = os.waitpid(daemon, 0)[1]
    settings.check((got.status, got.err, status) == (7, b"", 0), f"start: {what}", (got, status))
    return ended, [line for line in got.out.splitlines() if line.startswith(b"attached")]
