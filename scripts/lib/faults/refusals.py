"""Bad input: each gets one clear line that names the cause and the fix; the target is left as it was."""

import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from .attach import Worker, status
from .common import EAGER, REDMAGICD, Run, ask, environment, plain, read, target, wait_for


def one_line(settings, name, got, code, words):
    """A refusal: exit status, one line on stderr, nothing on stdout, and these words in it."""
    status_code, out, errors = got
    good = status_code == code and out == "" and errors.count("\n") == 1 and errors.startswith("redmagic")
    settings.check(good and all(word in errors for word in words), f"refusals: {name}", got)
    print(f"  {name}: {errors.strip()}")


def refused(settings, name, worker, words, **options):
    """`attach` is refused, nobody traces or serves the worker, and it finishes right."""
    before = snapshot(worker.pid)
    one_line(settings, name, ask("attach", worker.pid, **options), 1, words)
    settings.check(snapshot(worker.pid) == before, f"refusals: {name}", f"{before} became {snapshot(worker.pid)}")
    got = worker.finish()
    settings.check(got == (0, "wrong 0"), f"refusals: {name}", got)


def snapshot(pid):
    """What an attach that failed must not have changed."""
    text = read(f"/proc/{pid}/status")
    picked = [line for line in text.splitlines() if line.startswith(("SigCgt", "SigBlk", "SigIgn", "Threads", "TracerPid"))]
    return picked, sorted(os.listdir(f"/proc/{pid}/fd")), read(f"/proc/{pid}/maps").count("memfd:redmagic")


def section(settings):
    no_process(settings)
    refused(settings, "no redmagic_start", Worker(command=[target("idle")]), ["redmagic_start()"])
    no_shim(settings)
    thirty_two_bits(settings)
    stripped(settings)
    stranger(settings)
    tracer(settings)
    versions(settings)
    full_disk(settings)
    unbalanced(settings)
    parameters(settings)


def no_process(settings):
    gone = subprocess.Popen(["true"])
    gone.wait()
    one_line(settings, "pid that does not exist", ask("attach", gone.pid), 1, [f"no process {gone.pid}", "pid"])
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    one_line(settings, "zombie", ask("attach", zombie.pid), 1, [f"no process {zombie.pid}"])
    zombie.wait()
    for command in ("status", "traces", "detach"):
        one_line(settings, f"{command} without a session", ask(command, os.getpid()), 1, ["redmagicd attach"])
    for bad in ("0", "1x", "99999999999"):
        code, _, errors = ask("attach", bad)
        settings.check(code in (1, 2) and errors, f"refusals: pid {bad}", (code, errors))


def no_shim(settings):
    process = subprocess.Popen(["sleep", "30"])
    one_line(settings, "no shim", ask("attach", process.pid), 1, ["no Redmagic shim", "link", "sleep"])
    settings.check(process.poll() is None, "refusals: no shim", "the process died")
    process.kill()
    process.wait()
    run = Run(settings, [target("plain")])
    got = run.wait()
    settings.check(got.same(plain([target("plain")])), "refusals: run without shim", got)
    settings.check(got.err.count(b"\n") == 1 and b"no Redmagic shim" in got.err, "refusals: run without shim", got)
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "python3"
        link.symlink_to(target("plain"))
        got = Run(settings, [str(link)]).wait()
        named = b"scripts/build-cpython builds" in got.err and got.err.count(b"\n") == 1
        settings.check(got.status == plain([target("plain")]).status and named, "refusals: the build script is named", got)
    got = Run(settings, [target("plain")], options=["--require"]).wait()
    settings.check(got.status == 125 and got.out == b"", "refusals: run --require", got)
    settings.check(not run.leftovers(), "refusals: run without shim", "a daemon is left")


def thirty_two_bit_program():
    """An ELF file for i386 that sleeps for 2 s and exits with status 7."""
    code = (
        # nanosleep({2, 0}); the timespec is pushed
        b"\x6a\x00\x6a\x02\x89\xe3\x31\xc9\xb8\xa2\x00\x00\x00\xcd\x80"
        # exit(7)
        b"\xb8\x01\x00\x00\x00\xbb\x07\x00\x00\x00\xcd\x80"
    )
    base, header = 0x08048000, 52 + 32
    identity = b"\x7fELF\x01\x01\x01" + b"\0" * 9
    elf = identity + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + header, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    size = header + len(code)
    return elf + struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 5, 4096) + code


def thirty_two_bits(settings):
    path = settings.folder / "thirty-two"
    path.write_bytes(thirty_two_bit_program())
    path.chmod(0o755)
    try:
        process = subprocess.Popen([path])
    except OSError as error:
        settings.check(False, "refusals: 32-bit", f"this kernel runs no 32-bit programs ({error}); nothing was shown")
        return
    time.sleep(0.05)
    one_line(settings, "32-bit", ask("attach", process.pid), 1, ["32-bit", "rebuild"])
    settings.check(process.wait() == 7, "refusals: 32-bit", "its exit status changed")
    got = Run(settings, [path]).wait()
    settings.check(got.status == 7 and got.err.count(b"\n") == 1 and b"32-bit" in got.err, "refusals: run 32-bit", got)


def stripped(settings):
    """The note survives strip: this must work."""
    path = settings.folder / "work-stripped"
    shutil.copy(target("work"), path)
    subprocess.run(["strip", "--strip-all", path], check=True)
    worker = Worker(command=[path, "1"])
    code, _, errors = ask("attach", worker.pid, env=EAGER)
    settings.check(code == 0, "refusals: stripped", errors)
    compiled = wait_for(lambda: (status(worker.pid) or {}).get("code_bytes", 0) > 0, 5)
    settings.check(compiled, "refusals: stripped", f"nothing was compiled: {status(worker.pid)}")
    ask("detach", worker.pid)
    got = worker.finish()
    settings.check(got == (0, "wrong 0"), "refusals: stripped", got)


def stranger(settings):
    """A process of another user: needs to be root to make one, and then to ask as somebody else."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        print("  pid of another user: left out (needs root, and setpriv from util-linux)")
        return
    worker = Worker(1)
    before = snapshot(worker.pid)
    # The binaries may lie where nobody else can read them.
    folder = settings.folder / "bin"
    folder.mkdir(exist_ok=True)
    settings.folder.chmod(0o755)
    for tool in (REDMAGICD, REDMAGICD.with_name("redmagic")):
        shutil.copy(tool, folder)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*nobody, folder / "redmagicd", "attach", str(worker.pid)],
        capture_output=True, text=True, env=environment(), check=False, cwd="/",
    )  # fmt: skip
    got = done.returncode, done.stdout, done.stderr
    one_line(settings, "pid of another user", got, 1, [str(worker.pid), "user"])
    settings.check(snapshot(worker.pid) == before, "refusals: stranger", "the target changed")
    # Nor may they talk to the session of another.
    ask("attach", worker.pid)
    for command in ("status", "detach"):
        done = subprocess.run(
            [*nobody, folder / "redmagic", command, str(worker.pid)],
            capture_output=True, text=True, env=environment(), check=False, cwd="/",
        )  # fmt: skip
        settings.check(done.returncode == 1 and "user" in done.stderr, f"refusals: {command} by a stranger", done)
    settings.check(status(worker.pid) is not None, "refusals: stranger", "the session is gone")
    ask("detach", worker.pid)
    got = worker.finish()
    settings.check(got == (0, "wrong 0"), "refusals: stranger", got)


def tracer(settings):
    worker = Worker(1)
    other = subprocess.Popen([target("traced"), str(worker.pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    settings.check(other.stdout.readline() == "tracing\n", "refusals: tracer", "the other tracer could not attach")
    one_line(settings, "another tracer", ask("attach", worker.pid), 1, [str(other.pid)])
    other.communicate()
    code, _, errors = ask("attach", worker.pid)
    settings.check(code == 0, "refusals: tracer", f"after the other left: {errors}")
    # One that comes later: the session goes on, nothing is recorded, the reason is shown.
    ask("detach", worker.pid)
    got = worker.finish()
    settings.check(got == (0, "wrong 0"), "refusals: tracer", got)

    # By stepping: what can be emulated is recorded without being a tracer.
    run = Run(settings, [target("spin"), "300000000", "1000"], env={**EAGER, "REDMAGIC_RECORDER": "1"})
    wait_for(lambda: status(run.pid), 5, 0.02)
    # Not while it is recorded: then the daemon is the tracer.
    for _ in range(100):
        other = subprocess.Popen(
            [target("traced"), str(run.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if said := other.stdout.readline() == "tracing\n":
            break
        other.communicate()
    settings.check(said, "refusals: tracer of a session", "the other tracer could not attach")
    shown = wait_for(lambda: any("tracer" in m or "traced" in m for m in (status(run.pid) or {}).get("messages", [])), 5, 0.1)
    settings.check(shown, "refusals: tracer of a session", status(run.pid) or "no session")
    other.communicate()
    os.kill(run.pid, 9)
    run.wait()
    settings.check(not run.leftovers(), "refusals: tracer", "a daemon is left")


def versions(settings):
    """Another protocol version: in the note, in the descriptor, and in neither but the code."""
    name = b"Redmagic\0"
    original = open(target("work"), "rb").read()
    # The note: sizes 9 and 16, type 1, name padded to 12, then offset, version.
    note = original.find(struct.pack("<III", 9, 16, 1) + name)
    settings.check(note > 0, "refusals: version", "the note was not found")
    in_note = bytearray(original)
    in_note[note + 32 : note + 36] = struct.pack("<I", 77)
    in_descriptor = bytearray(original)
    at = original.find(b"REDMAGIC" + original[note + 32 : note + 36])
    settings.check(at > 0, "refusals: version", "the descriptor was not found")
    in_descriptor[at + 8 : at + 12] = struct.pack("<I", 78)
    for which, data, number in (("note", in_note, "77"), ("descriptor", in_descriptor, "78")):
        path = settings.folder / f"work-{which}"
        path.write_bytes(data)
        path.chmod(0o755)
        refused(
            settings, f"protocol version in the {which}", Worker(command=[path, "1"]), [number, "version", "relink"]
        )


def full_disk(settings):
    expected = plain([target("spin"), "3000000"])
    run = Run(settings, [target("spin"), "3000000"], options=["--log", "/dev/full"])
    got = run.wait()
    lines = got.err.decode().splitlines()
    good = len(lines) == 1 and "/dev/full" in lines[0] and "space" in lines[0]
    settings.check(got.same(expected) and good, "refusals: full disk for the log", got)
    print(f"  full disk for the log: {lines}")
    got = Run(settings, [target("spin"), "3000000"], options=["--stats", "/proc/nothing/stats"]).wait()
    settings.check(got.same(expected), "refusals: statistics nowhere", got)
    worker = Worker(1)
    refused_code, _, errors = ask("attach", worker.pid, "--log", "/dev/full")
    settings.check(refused_code == 1 and errors.count("\n") == 1 and "/dev/full" in errors, "refusals: attach, full disk", errors)
    got = worker.finish()
    settings.check(got == (0, "wrong 0"), "refusals: attach, full disk", got)


def unbalanced(settings):
    command = [target("unbalanced"), "6000000"]
    expected = plain(command)
    for env in (None, EAGER):
        log = settings.folder / "unbalanced.log"
        run = Run(settings, command, env=env, options=["--log", log])
        got = run.wait()
        settings.check(not run.leftovers(), "refusals: unbalanced", "a daemon is left")
        text = log.read_text()
        log.unlink()
        settings.check(got.same(expected), "refusals: unbalanced", f"got {got}, expected {expected}")
        for function in ("redmagic_temp_enable", "redmagic_end_branchable_frame"):
            said = sum(function in line and "balance" in line for line in text.splitlines())
            settings.check(said == 1, "refusals: unbalanced", f"{function} was named {said} times")


def parameters(settings):
    expected = plain([target("spin"), "1000000"])
    got = Run(settings, [target("spin"), "1000000"], env={"REDMAGIC_HOTLOOP": "many"}).wait()
    good = got.err.count(b"\n") == 1 and b"REDMAGIC_HOTLOOP=many" in got.err
    settings.check(got.same(expected) and good, "refusals: a tunable", got)
