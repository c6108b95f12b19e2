"""Hostile shared memory and hostile sockets: that session ends, the daemon serves the others."""

import json
import os
import re
import socket
import struct
import subprocess
import time

from .attach import Worker
from .common import EAGER, Run, ask, processes, read, served_by, target, wait_for

FIXED_SEEDS = (1, 2, 3, 4, 5)
MAGIC = struct.unpack("<Q", b"REDMAGIC")[0]


def section(settings):
    control(settings)
    greeting(settings)
    commands(settings)


def control(settings):
    """Random mutations of the control region, over many sessions of one daemon each."""
    wanted = settings.count(100_000, 4_000)
    done = sessions = seed_index = 0
    while done < wanted:
        for mode, children, mutations in (("words", 20, 1000), ("parks", 20, 1000), ("head", 3, 1), ("all", 3, 20)):
            seed = FIXED_SEEDS[seed_index] if seed_index < len(FIXED_SEEDS) else settings.random.getrandbits(31)
            if settings.quick:
                children = min(children, 6)
            made, served = hostile(settings, mode, seed, children, mutations)
            done += made
            sessions += served
        seed_index += 1
    print(f"  {done} mutations over {sessions} sessions")


def hostile(settings, mode, seed, children, mutations):
    log = settings.folder / "hostile.log"
    name = f"hostile: {mode}, seed {seed}"
    command = [target("hostile"), mode, str(seed), str(children), str(mutations)]
    run = Run(settings, command, env=EAGER, options=["--log", log])
    daemon = run.daemon()
    got = run.wait()
    text = log.read_text()
    log.unlink()
    found = re.fullmatch(
        r"children (\d+) sessions (\d+) mutations (\d+) wrong (\d+) crashed (\d+) neighbour wrong (\d+) attached (\d)\n",
        got.out.decode(),
    )
    if not settings.check(found and got.status == 0, name, got):
        return 1, 0
    _, sessions, made, wrong, crashed, neighbour, attached = map(int, found.groups())
    settings.check(wrong == 0 and crashed == 0, name, got)
    settings.check(neighbour == 0 and attached == 1, name, f"the innocent neighbour: {got}")
    settings.check(sessions >= children // 2, name, f"only {sessions} of {children} children had a session")
    settings.check(daemon and not run.leftovers(), name, "the daemon is left")
    settings.check("bug in redmagicd" not in text, name, re.findall(r".*bug in redmagicd.*", text)[:1])
    endings = re.findall(r"session ended pid=\d+ ending=(.*)", text)
    settings.check(len(endings) >= sessions, name, f"{sessions} sessions began, {len(endings)} ended")
    if mode == "head":
        by_name = sum("overwritten the memory it shares" in e for e in endings)
        settings.check(by_name > 0, name, endings)
    return made, sessions


def seqpacket(name):
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.settimeout(5)
    peer.connect("\0" + name)
    return peer


def greeting(settings):
    """Garbage to the socket where targets greet; the next child of the program still gets a session."""
    run = Run(settings, [target("spin"), "4000000000", "200000"], env=EAGER)
    run.daemon()
    alive = wait_for(lambda: ask("status", run.pid)[0] == 0, 5, 0.02)
    settings.check(alive, "hostile: greeting", "no session to begin with")
    name = dict(
        entry.split("=", 1) for entry in read(f"/proc/{run.pid}/environ").split("\0") if "=" in entry
    ).get("REDMAGIC_SOCKET", "")
    hello = struct.pack("<QIIQ", MAGIC, 1, 0, 0)
    fixed = [
        b"",
        b"x",
        b"\0" * 24,
        hello[:-1],
        hello + b"x",
        hello,
        b"A" * 60000,
        struct.pack("<QIIQ", MAGIC, 2, 0, 0),
        struct.pack("<QIIQ", MAGIC, 0xFFFFFFFF, 0, 0),
        struct.pack("<QIIQ", MAGIC, 1, 0, 0xFFFFFFFFFFFFFFFF),
        struct.pack("<QIIQ", MAGIC, 1, 0, 0x8000000000000000),
        struct.pack("<QIIQ", MAGIC, 1, 0, id(settings)),
    ]
    for i in range(settings.count(1000, 60)):
        message = fixed[i] if i < len(fixed) else settings.random.randbytes(settings.random.choice([1, 8, 23, 24, 25, 500]))
        if i >= len(fixed) and i % 3 == 0:
            message = struct.pack("<QIIQ", MAGIC, 1, 0, settings.random.getrandbits(48))
        try:
            with seqpacket(name) as peer:
                if message:
                    peer.send(message)
                if i % 7 == 0:
                    # Descriptors that nobody asked for.
                    socket.send_fds(peer, [message or b"y"], [0, 1, 2, 0])
                if i % 5 == 0:
                    answer = peer.recv(4096)
                    settings.check(len(answer) in (0, 72), "hostile: greeting", f"answered {len(answer)} bytes")
        except OSError as error:
            settings.check(i % 7 == 0 or i % 5 == 0, "hostile: greeting", f"message {i}: {error}")
    silent = [seqpacket(name) for _ in range(40)]
    code, out, errors = ask("status", "--json", run.pid)
    settings.check(code == 0 and json.loads(out)["state"] == "active", "hostile: greeting", (code, out, errors))
    descriptors = len(os.listdir(f"/proc/{served_by(run.pid)['redmagicd']}/fd"))
    second = subprocess.Popen(
        [target("spin"), "200000000"],
        env={"REDMAGIC_SOCKET": name},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    settings.check(
        wait_for(lambda: ask("status", second.pid)[0] == 0, 5, 0.02), "hostile: greeting", "a second process got no session"
    )
    second.kill()
    second.wait()
    for peer in silent:
        peer.close()
    # Silent peers are cut off; nothing of them stays.
    daemon = served_by(run.pid)["redmagicd"]
    settled = wait_for(lambda: len(os.listdir(f"/proc/{daemon}/fd")) < descriptors - 20, 5, 0.05)
    settings.check(settled, "hostile: greeting", f"{len(os.listdir(f'/proc/{daemon}/fd'))} descriptors stay open")
    os.kill(run.pid, 9)
    run.wait()
    settings.check(not run.leftovers(4), "hostile: greeting", "the daemon is left")


def commands(settings):
    """Garbage to the socket that commands come in by."""
    worker = Worker(1)
    code, _, errors = ask("attach", worker.pid)
    settings.check(code == 0, "hostile: commands", errors)
    address = f"\0redmagic/session/{worker.pid}"
    texts = [b"", b"\0", b"{", b'"nothing"', b'"detach', b"[" * 4000, b'{"status":1}', b"\xff" * 5000, b'"x' + b"y" * 100000]
    texts += [settings.random.randbytes(settings.random.randrange(1, 300)) for _ in range(settings.count(300, 20))]
    for text in texts:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.settimeout(5)
        try:
            peer.connect(address)
            peer.sendall(text)
            peer.shutdown(socket.SHUT_WR)
            answer = b""
            while part := peer.recv(65536):
                answer += part
            settings.check(answer.startswith(b'{"error":'), "hostile: commands", f"{text[:40]!r}: {answer[:200]!r}")
        except (BrokenPipeError, ConnectionResetError):
            # What is too long is not read to its end.
            settings.check(len(text) > 4096, "hostile: commands", f"{text[:40]!r} was cut off")
        finally:
            peer.close()
    # Silent clients delay the others, each for at most 200 ms.
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(5)]
    for peer in silent:
        peer.connect(address)
    begin = time.monotonic()
    code, _, errors = ask("status", worker.pid)
    settings.check(code == 0, "hostile: commands", f"after {time.monotonic() - begin:.1f} s: {errors}")
    for peer in silent:
        peer.close()
    code, _, errors = ask("detach", worker.pid)
    settings.check(code == 0, "hostile: commands", errors)
    got = worker.finish()
    settings.check(got == (0, "wrong 0"), "hostile: commands", got)
    mine = [p for p in processes() if str(worker.pid) in read(f"/proc/{p}/cmdline").split("\0")]
    settings.check(wait_for(lambda: not served_by(worker.pid), 2), "hostile: commands", f"left: {mine}")
