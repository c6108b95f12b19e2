"""Applies a zero-context patch (`diff -U0`), strictly: every removed line must stand
exactly where the patch says. There is no fuzz and no offset, since the sources it is
applied to are pinned by a checksum."""

import re
from pathlib import Path

_HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


class PatchError(Exception):
    """The patch does not fit the sources; says where."""


def _hunks(text):
    """Yields (file, old line number, removed lines, added lines)."""
    name = None
    lines = text.splitlines(keepends=True)
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith("--- "):
            continue
        if line.startswith("+++ "):
            name = line[4:].split()[0].split("/", 1)[1]
            continue
        match = _HUNK.match(line)
        if match is None:
            if line.startswith(("+", "-")):
                raise PatchError(f"line {at} of the patch is in no hunk")
            continue
        if name is None:
            raise PatchError(f"line {at} of the patch: a hunk before any file name")
        old_count = int(match[2] if match[2] is not None else 1)
        new_count = int(match[4] if match[4] is not None else 1)
        body = lines[at : at + old_count + new_count]
        at += old_count + new_count
        removed, added = body[:old_count], body[old_count:]
        if any(l[0] != "-" for l in removed) or any(l[0] != "+" for l in added) or len(added) != new_count:
            raise PatchError(f"the hunk for {name} at line {match[1]} has context or is cut short")
        # With nothing removed, diff names the line after which to add.
        start = int(match[1]) - (1 if old_count else 0)
        yield name, start, [l[1:] for l in removed], [l[1:] for l in added]


def added_lines(text):
    """How many lines the patch adds."""
    return sum(len(added) for _, _, _, added in _hunks(text))


def apply(text, folder):
    """Applies the patch `text` to the files in `folder`, or raises PatchError."""
    by_file = {}
    for name, start, removed, added in _hunks(text):
        by_file.setdefault(name, []).append((start, removed, added))
    for name, hunks in by_file.items():
        path = Path(folder) / name
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        # From the end, so that earlier line numbers stay right.
        for start, removed, added in sorted(hunks, key=lambda h: h[0], reverse=True):
            if lines[start : start + len(removed)] != removed:
                raise PatchError(f"{path}:{start + 1} is not what the patch expects there")
            lines[start : start + len(removed)] = added
        path.write_text("".join(lines), encoding="utf-8")
