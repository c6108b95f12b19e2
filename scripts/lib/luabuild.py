"""Building the plain and the annotated Lua: see scripts/build-lua."""

import argparse
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import zeropatch

# Tool, what to do when it is missing.
TOOLS = {
    "cargo": "rustup, or apt-get install cargo",
    "cc": "apt-get install gcc libc6-dev",
}
VARIANTS = ("plain", "annotated")


class BuildError(Exception):
    """One line for the user: what failed and what to do."""


def check_tools():
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is missing; to get it: {package}")


def run(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        raise BuildError(f"`{shlex.join(map(str, command))}` failed:\n{done.stderr.strip()}")
    return done.stdout


def crate_folders(manifest):
    """Where cargo keeps the unpacked sources of each dependency; downloads what is missing."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--manifest-path", str(manifest)]
    try:
        text = run(command + ["--offline"])
    except BuildError:
        text = run(command)
    return {p["name"]: Path(p["manifest_path"]).parent for p in json.loads(text)["packages"]}


def source_files(recipe, manifest):
    """The C sources of Lua, by name, checked against the recipe's checksum."""
    folders = crate_folders(manifest)
    files = {}
    for crate, where in recipe["crates"].items():
        for path in sorted((folders[crate] / where["folder"]).glob(where["files"])):
            files[path.name] = path.read_bytes()
    digest = content_hash(sorted(files.items()))
    if digest != recipe["sources_sha256"]:
        raise BuildError(
            f"the unpacked Lua sources have checksum {digest}, not {recipe['sources_sha256']}; "
            f"remove {', '.join(str(folders[c]) for c in recipe['crates'])} and run this again"
        )
    return files


def content_hash(parts):
    """SHA-256 over (name, bytes) pairs; the lengths keep two different lists apart."""
    digest = hashlib.sha256()
    for name, content in parts:
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def build_variant(name, folder, files, recipe, patch, shim):
    """Compiles one interpreter; gives whether anything had to be done."""
    annotated = name == "annotated"
    cflags = list(recipe["cflags"])
    ldflags = list(recipe["ldflags"])
    parts = sorted(files.items())
    parts += [("flags", json.dumps([cflags, ldflags]).encode())]
    parts += [("compiler", run(["cc", "--version"]).encode())]
    parts += [("builder", Path(__file__).read_bytes())]
    header, library = shim / "include" / "redmagic.h", shim / "lib" / "libredmagic.a"
    if annotated:
        parts += [("patch", patch.encode()), ("header", header.read_bytes()), ("library", library.read_bytes())]
    stamp_text = content_hash(parts) + "\n"
    target, stamp = folder / name / "lua", folder / name / "stamp"
    if target.is_file() and stamp.is_file() and stamp.read_text() == stamp_text:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    source = target.parent / "src"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    for file, content in files.items():
        (source / file).write_bytes(content)
    if annotated:
        zeropatch.apply(patch, source)
        cflags.append(f"-I{header.parent}")
        ldflags.insert(0, str(library))

    def compile_one(file):
        run(["cc", *cflags, "-c", file.name, "-o", file.with_suffix(".o").name], cwd=source)
        return file.with_suffix(".o").name

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        objects = list(pool.map(compile_one, sorted(source.glob("*.c"))))
    # Replace by rename: a running interpreter must not see its file change.
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        run(["cc", "-o", f"{work}/lua", *objects, *ldflags], cwd=source)
        os.replace(f"{work}/lua", target)
    stamp.write_text(stamp_text)
    return True


def build(root, verbose=True):
    """Builds what is out of date."""
    check_tools()
    integration = root / "shim" / "integrations" / "lua"
    folder = root / "target" / "interpreters" / "lua"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run([str(root / "scripts" / "build-shim")])
        recipe = json.loads((integration / "recipe.json").read_text())
        patch = (integration / "lua-5.4.9.patch").read_text()
        files = source_files(recipe, integration / "sources" / "Cargo.toml")
        for name in VARIANTS:
            try:
                built = build_variant(name, folder, files, recipe, patch, root / "target" / "shim-dist")
            except zeropatch.PatchError as error:
                raise BuildError(f"{integration / 'lua-5.4.9.patch'}: {error}") from error
            if built and verbose:
                print(f"build-lua: built {(folder / name / 'lua').relative_to(root)}")


def main(root, arguments):
    parser = argparse.ArgumentParser(prog="build-lua", description="Builds plain and annotated Lua 5.4.")
    parser.parse_args(arguments)
    try:
        build(root)
    except BuildError as error:
        print(f"build-lua: {error}", file=sys.stderr)
        return 1
    return 0
