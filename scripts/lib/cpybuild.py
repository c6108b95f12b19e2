"""Building the plain and the annotated CPython: see scripts/build-cpython."""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import zeropatch

# Tool, what to do when it is missing.
TOOLS = {
    "cargo": "rustup, or apt-get install cargo",
    "cc": "apt-get install gcc libc6-dev",
    "make": "apt-get install make",
    "strip": "apt-get install binutils",
}
VARIANTS = ("plain", "annotated")
PATCH = "cpython-3.11.patch"

# Modules that tests and programs of ours need, and the Debian package without whose
# headers CPython's build leaves them out in silence.
MODULES = {
    "zlib": "zlib1g-dev", "_bz2": "libbz2-dev", "_lzma": "liblzma-dev", "_ssl": "libssl-dev",
    "_sqlite3": "libsqlite3-dev", "_ctypes": "libffi-dev", "readline": "libreadline-dev",
}


class BuildError(Exception):
    """One line for the user: what failed and what to do."""


class Unavailable(BuildError):
    """The sources cannot be had from here."""


def check_tools():
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is missing; to get it: {package}")


def run(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        raise BuildError(f"`{shlex.join(map(str, command))}` failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def run_logged(command, log, **options):
    """For long commands: the output goes to a file, which the error names."""
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"\n$ {shlex.join(map(str, command))}\n")
        file.flush()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, **options)
    if done.returncode != 0:
        raise BuildError(f"`{shlex.join(map(str, command))}` failed: see {log}")


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "redmagic"


def file_hash(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(parts):
    """SHA-256 over (name, bytes) pairs; the lengths keep two different lists apart."""
    digest = hashlib.sha256()
    for name, content in parts:
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def tree_hash(tree):
    """The content of every file of a source tree. Follows no links."""
    digest = hashlib.sha256()
    for path in sorted(p for p in tree.rglob("*") if p.is_file() and not p.is_symlink()):
        digest.update(f"{path.relative_to(tree)}\0{file_hash(path)}\0".encode())
    return digest.hexdigest()


def fetch(recipe):
    """The upstream tarball, from the cache or from Debian's source package. apt works on
    lists and folders of its own, so that the machine's configuration is neither read nor changed."""
    kept = cache_folder() / "sources" / recipe["tarball"]
    if kept.is_file():
        if file_hash(kept) == recipe["tarball_sha256"]:
            return kept
        kept.unlink()
    if shutil.which("apt-get") is None:
        raise Unavailable(f"apt-get is missing: get {recipe['tarball']} elsewhere and name it with --tarball")
    kept.parent.mkdir(parents=True, exist_ok=True)
    suite = recipe["suite"]
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        work = Path(folder)
        for name in ("parts", "state/lists/partial", "cache/archives/partial", "preferences", "conf", "got"):
            (work / name).mkdir(parents=True)
        (work / "parts" / "source.sources").write_text(
            f"Types: deb-src\nURIs: {suite['uris']}\nSuites: {suite['suites']}\n"
            f"Components: {suite['components']}\nSigned-By: {suite['signed_by']}\n"
        )
        options = {
            "Dir::Etc::SourceList": "/dev/null", "Dir::Etc::SourceParts": work / "parts",
            "Dir::Etc::Preferences": "/dev/null", "Dir::Etc::PreferencesParts": work / "preferences",
            "Dir::State": work / "state", "Dir::State::status": "/dev/null", "Dir::Cache": work / "cache",
            "APT::Sandbox::User": "",
        }
        apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
        try:
            run([*apt, "update"])
            # The Debian part of the package is not needed, and sometimes missing from mirrors.
            run([*apt, "source", "--download-only", "--tar-only", recipe["package"]], cwd=work / "got")
        except BuildError as error:
            raise Unavailable(f"{error}\nget {recipe['tarball']} elsewhere and name it with --tarball") from error
        got = work / "got" / recipe["tarball"]
        if not got.is_file():
            found = ", ".join(p.name for p in (work / "got").iterdir()) or "nothing"
            raise Unavailable(f"the source package {recipe['package']} has no {recipe['tarball']} any more ({found}); name one with --tarball")
        check_tarball(got, recipe)
        os.replace(got, kept)
    return kept


def check_tarball(path, recipe):
    digest = file_hash(path)
    if digest != recipe["tarball_sha256"]:
        raise BuildError(f"{path} has checksum {digest}, not {recipe['tarball_sha256']}: it is damaged, or another version")


class Sources:
    """Where the sources are from: a tarball or a tree, and what tells them from others."""

    def __init__(self, recipe, tarball, tree):
        self.tree = Path(tree).resolve() if tree else None
        if self.tree is None:
            self.tarball = Path(tarball).resolve() if tarball else fetch(recipe)
            if not self.tarball.is_file():
                raise BuildError(f"{self.tarball} is no file")
            self.key = f"tarball {file_hash(self.tarball)}"
        else:
            if not (self.tree / "Python" / "ceval.c").is_file():
                raise BuildError(f"{self.tree} is no CPython source tree: it has no Python/ceval.c")
            if (self.tree / "pyconfig.h").exists():
                raise BuildError(f"{self.tree} has been built in: name a clean tree (`make distclean`), or its tarball")
            self.key = f"tree {tree_hash(self.tree)}"

    def unpack(self, folder):
        """Puts the sources at `folder`, which must not exist."""
        if self.tree is not None:
            shutil.copytree(self.tree, folder, symlinks=True, ignore=shutil.ignore_patterns(".git"))
            return
        with tempfile.TemporaryDirectory(dir=folder.parent) as work, tarfile.open(self.tarball) as tar:
            # The filter is newer than Python 3.11.3; without it the checksum has to do.
            tar.extractall(work, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
            inside = list(Path(work).iterdir())
            if len(inside) != 1 or not (inside[0] / "Python" / "ceval.c").is_file():
                raise BuildError(f"{self.tarball} is not a CPython source tarball")
            inside[0].rename(folder)


def trim_makefile(path):
    """Installing compiles the library for -O and -OO too, on all processors: that takes longer
    than the interpreter, and nothing here runs so."""
    lines = path.read_text().replace("-j0 -d $(LIBDEST)", "-j1 -d $(LIBDEST)")
    lines = re.sub(r"\n\t-PYTHONPATH=[^\n]*\\\n\t\t[^\n]* -OO? [^\n]*compileall\.py \\\n(?:[^\n]*\\\n)*[^\n]*", "", lines)
    path.write_text(lines)


def build_variant(name, place, sources, recipe, patch, shim, pgo, jobs, verbose):
    """Configures, compiles and installs one interpreter at `place`."""
    work = place.parent / f"{place.name}.build"
    log = place.parent / f"{place.name}.log"
    for old in (work, place):
        shutil.rmtree(old, ignore_errors=True)
    log.unlink(missing_ok=True)
    sources.unpack(work)
    include, library = "", ""
    if name == "annotated":
        zeropatch.apply(patch, work)
        include, library = f" -I{shim / 'include'}", f"{shim / 'lib' / 'libredmagic.a'} "
    # What is for the executable alone goes on make's command line, so that sysconfig and
    # extension modules know nothing of it.
    core = f"{recipe['core_cflags']}{include}"
    make = [
        "make", f"-j{jobs}", f"PY_CORE_CFLAGS=$(PY_STDMODULE_CFLAGS) -DPy_BUILD_CORE {core}",
        f"PY_BUILTIN_MODULE_CFLAGS=$(PY_STDMODULE_CFLAGS) -DPy_BUILD_CORE_BUILTIN {core}",
        f"SYSLIBS={library}-lm {recipe['core_ldflags']}",
    ]
    env = {k: v for k, v in os.environ.items() if k not in ("CFLAGS", "CPPFLAGS", "LDFLAGS", "LIBS", "PYTHONPATH", "PYTHONHOME")}
    env["OPT"] = recipe["opt"]
    options = recipe["configure"] + (recipe["configure_pgo"] if pgo else [])
    if verbose:
        print(f"build-cpython: building {name}{' with PGO' if pgo else ''}; log: {log}", flush=True)
    run_logged(["./configure", f"--prefix={place}", *options], log, cwd=work, env=env)
    trim_makefile(work / "Makefile")
    run_logged(make, log, cwd=work, env=env)
    run_logged([*make, "install"], log, cwd=work, env=env)
    for library in place.rglob("libpython3*.a"):
        library.unlink()
    # Symbols stay. Debugging information is of no use to Redmagic, which reads the file at every start.
    run(["strip", "--strip-debug", place / "bin" / "python3"])
    check_modules(place / "bin" / "python3")
    shutil.rmtree(work)


def check_modules(python):
    code = "import sys, importlib.util as u; print(*(m for m in sys.argv[1:] if u.find_spec(m) is None))"
    missing = run([python, "-E", "-c", code, *MODULES]).split()
    if missing:
        packages = " ".join(MODULES[m] for m in missing)
        raise BuildError(f"the interpreter was built without {', '.join(missing)}: apt-get install {packages}")


def build(root, pgo=False, tarball=None, tree=None, jobs=1, verbose=True):
    """Builds what is not in the cache, and points target/interpreters/cpython at it."""
    check_tools()
    integration = root / "shim" / "integrations" / "cpython"
    folder = root / "target" / "interpreters" / "cpython"
    folder.mkdir(parents=True, exist_ok=True)
    run([str(root / "scripts" / "build-shim")])
    shim = root / "target" / "shim-dist"
    recipe = json.loads((integration / "recipe.json").read_text())
    patch = (integration / PATCH).read_text()
    sources = Sources(recipe, tarball, tree)
    cache = cache_folder() / "cpython"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in VARIANTS:
            options = [recipe[k] for k in ("opt", "core_cflags", "core_ldflags", "configure")] + (recipe["configure_pgo"] if pgo else [])
            parts = [
                ("sources", sources.key.encode()), ("options", json.dumps(options).encode()),
                ("compiler", run(["cc", "--version"]).encode()), ("builder", Path(__file__).read_bytes()),
            ]
            if name == "annotated":
                header, library = shim / "include" / "redmagic.h", shim / "lib" / "libredmagic.a"
                parts += [("patch", patch.encode()), ("header", header.read_bytes()), ("library", library.read_bytes())]
            place = cache / f"{name}-{content_hash(parts)[:20]}"
            if not (place / "complete").is_file():
                try:
                    build_variant(name, place, sources, recipe, patch, shim, pgo, jobs, verbose)
                except zeropatch.PatchError as error:
                    raise BuildError(f"{integration / PATCH} does not fit these sources: {error}") from error
                (place / "complete").touch()
            link = folder / name
            if not link.is_symlink() or os.readlink(link) != str(place):
                new = folder / f".{name}.new"
                new.unlink(missing_ok=True)
                new.symlink_to(place)
                os.replace(new, link)
                if verbose:
                    print(f"build-cpython: {link.relative_to(root)} is {place}", flush=True)


def main(root, arguments):
    parser = argparse.ArgumentParser(prog="build-cpython", description="Builds plain and annotated CPython 3.11.")
    parser.add_argument("--pgo", action="store_true", help="profile-guided optimisation for both (takes long)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--tarball", metavar="FILE", help="a source tarball, in place of Debian's")
    source.add_argument("--tree", metavar="DIR", help="an unpacked, clean source tree")
    parser.add_argument("-j", dest="jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="jobs at once")
    given = parser.parse_args(arguments)
    try:
        build(root, pgo=given.pgo, tarball=given.tarball, tree=given.tree, jobs=given.jobs)
    except Unavailable as error:
        print(f"build-cpython: {error}", file=sys.stderr)
        return 3
    except BuildError as error:
        print(f"build-cpython: {error}", file=sys.stderr)
        return 1
    return 0
