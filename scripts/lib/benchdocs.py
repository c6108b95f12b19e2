"""The tables of docs/performance.md, which the subcommands of scripts/bench write."""

from pathlib import Path

from benchrun import BenchError

PAGE = Path("docs") / "performance.md"


def table(head, rows):
    """A table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def write(root, name, lines):
    """Replaces what stands between the marks of a section."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    page = root / PAGE
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise BenchError(f"{PAGE} has no place for the table: the lines `{begin}` and `{end}`")
    before, rest = text.split(begin)
    _, after = rest.split(end)
    page.write_text(before + begin + "\n" + "\n".join(lines) + "\n" + end + after, encoding="utf-8")
    print(f"bench: {PAGE}: {name}")
