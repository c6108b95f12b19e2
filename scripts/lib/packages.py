"""Packages from PyPI that tests need: exactly the files whose hashes tests/cpython/requirements.txt has,
fetched once into a cache outside the tree."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

from cpybuild import cache_folder


class Unavailable(Exception):
    """The packages cannot be had from here; says why."""


class Packages:
    """`wheels` holds the files as they were fetched, `site` what is in them."""

    def __init__(self, folder):
        self.wheels, self.site = folder / "wheels", folder / "site"


def bundled_pip(python):
    """The pip that comes with CPython, which runs from its wheel."""
    code = "import ensurepip, pathlib; print(*(pathlib.Path(ensurepip.__file__).parent / '_bundled').glob('pip-*.whl'))"
    return subprocess.run([python, "-E", "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def packages(python, requirements):
    """What `requirements` names, for this interpreter.

    Raises Unavailable when PyPI cannot be reached, or has other files than those."""
    text = requirements.read_bytes()
    folder = cache_folder() / "packages" / hashlib.sha256(text).hexdigest()[:20]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            new = folder.with_name(f"{folder.name}.new")
            shutil.rmtree(new, ignore_errors=True)
            (new / "site").mkdir(parents=True)
            fetch(python, requirements, new / "wheels")
            for wheel in sorted((new / "wheels").glob("*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(new / "site")
            new.rename(folder)
    return Packages(folder)


def fetch(python, requirements, folder):
    command = [python, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "--dest", folder, "--requirement", requirements],
        env={**os.environ, "PYTHONPATH": bundled_pip(python)}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
    )
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if "ERROR" in line] or done.stdout.splitlines()[-1:]
        raise Unavailable(lines[0] if lines else f"pip download gives {done.returncode}")
