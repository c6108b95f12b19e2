"""Where the built programs are, and the header comments of test programs."""

import re
import subprocess


class MissingBuild(Exception):
    """Something that has to be built first; says how."""


def lua_paths(root, build=True):
    """Paths of the plain and the annotated Lua, built if they are out of date."""
    if build:
        done = subprocess.run([root / "scripts" / "build-lua"], check=False)
        if done.returncode != 0:
            raise MissingBuild("scripts/build-lua failed (see above)")
    paths = {name: root / "target" / "interpreters" / "lua" / name / "lua" for name in ("plain", "annotated")}
    for path in paths.values():
        if not path.is_file():
            raise MissingBuild(f"{path} is missing: run scripts/build-lua")
    return paths


def cpython_paths(root, build=True):
    """Paths of the plain and the annotated CPython, built if they are out of date."""
    if build:
        done = subprocess.run([root / "scripts" / "build-cpython"], check=False)
        if done.returncode != 0:
            raise MissingBuild("scripts/build-cpython failed (see above)")
    paths = {name: root / "target" / "interpreters" / "cpython" / name / "bin" / "python3" for name in ("plain", "annotated")}
    for path in paths.values():
        if not path.is_file():
            raise MissingBuild(f"{path} is missing: run scripts/build-cpython")
    return paths


def redmagic_path(root):
    """The command-line program."""
    path = root / "target" / "release" / "redmagic"
    if not path.is_file() or not path.with_name("redmagicd").is_file():
        raise MissingBuild(f"{path} or redmagicd beside it is missing: run cargo build --release")
    return path


def header(program, name, comment="--"):
    """The value of a header comment `-- name: value` among the first comment lines, or ''."""
    with open(program, encoding="utf-8") as file:
        for line in file:
            if not line.startswith(comment):
                return ""
            match = re.match(rf"{comment} {name}:\s?(.*)$", line)
            if match:
                return match[1]
    return ""
