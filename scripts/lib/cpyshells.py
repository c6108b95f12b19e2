"""The interactive shells, typed at through a terminal key by key: CPython's own with readline, and IPython.

Plain CPython is typed at first. Then the annotated one under `redmagic run` gets the same keys, and at each point where a
person would look, its terminal must come to show the same."""

import re
import time
from dataclasses import dataclass

import terminal
from terminal import Silent, Terminal

ENTER, TAB, UP, DOWN, LEFT, BACKSPACE = "\r", "\t", "\x1b[A", "\x1b[B", "\x1b[D", "\x7f"


def ctrl(letter):
    return chr(ord(letter) - 64)


def single(keys):
    """The keys one by one: a sequence that begins with an escape is one."""
    return re.findall(r"\x1b(?:\[[A-Z])?|.", keys, re.DOTALL)


MORE, PROMPT = r"\.\.\. $", r">>> $"

# For CPython's own shell: what is typed, and the prompt that comes next.
REPL = [
    ("6 * 7", PROMPT),
    ("_ + 1", PROMPT),
    ("def mix(n):", MORE), ("    s = 0", MORE), ("    for i in range(n):", MORE), ("        s = (s * 31 + i) % 1009", MORE), ("    return s", MORE), ("", PROMPT),
    ("mix(30000)", PROMPT),
    ("for n in range(5):", MORE), ("    print(n, mix(n * 1000))", MORE), ("", PROMPT),
    ("i = 0", PROMPT),
    ("while i < 50000: i += 1", MORE), ("", PROMPT),
    ("i", PROMPT),
    ("class Point:", MORE), ("    def __init__(self, x): self.x = x", MORE), ("    def __repr__(self): return f'Point({self.x})'", MORE), ("", PROMPT),
    ("[Point(k) for k in range(2000)][-3:]", PROMPT),
    ("[1 / k for k in range(1000, -1, -1)]", PROMPT),
    ("mix('three')", PROMPT),
    ("for", PROMPT),
    ("x = (1,", MORE), ("2)", PROMPT),
    ("x", PROMPT),
    # Completion: of names, one that is the only one and one of several, and of an attribute.
    ("Poi" + TAB + "5)", PROMPT),
    ("mi" + TAB + TAB + "x(5000)", PROMPT),
    ("import collections", PROMPT), ("collections.Ordere" + TAB + ")", PROMPT),
    # History: the line before last, changed, and a search.
    (UP + UP + UP + BACKSPACE * 2 + "7)", PROMPT),
    (ctrl("R") + "mix(30", PROMPT),
    ("import threading, time", PROMPT),
    ("t = threading.Thread(target=mix, args=(100000,)); t.start(); t.join(); t.is_alive()", PROMPT),
    ("input('a line: ')", r"a line: $"), ("typed", PROMPT),
    ("sum(mix(k) for k in range(300))", PROMPT),
    ("help(mix)", PROMPT),
    ("import sys; sys.ps1 = 'next> '", r"next> $"),
    ("exit", r"next> $"),
]

IN = r"In \[\d+\]: *$"
MORE_IN = r"\.\.\.: *$"

# For IPython: what is typed, and how the screen ends then.
IPYTHON = [
    ("1 + 1" + ENTER, IN),
    ("def mix(n):" + ENTER, MORE_IN), ("s = 0" + ENTER, MORE_IN), ("for i in range(n):" + ENTER, MORE_IN),
    ("s = (s * 31 + i) % 1009" + ENTER + BACKSPACE * 4, MORE_IN), ("return s" + ENTER + ENTER, IN),
    ("mix(30000)" + ENTER, IN),
    # Completion of what was defined here, of a module from a menu, and of attributes.
    ("mi" + TAB, r"\bmin.*\bmix"), (TAB + TAB, r"(?s)mix.*min.*mix"), ("(77)" + ENTER, IN),
    ("import colle" + TAB, r": import collections$"), (ENTER, IN),
    ("collections.Ord" + TAB, r": collections.OrderedDict$"), ("(a=1)" + ENTER, IN),
    ("''.jo" + TAB, r": ''.join$"), ("(map(str, range(9)))" + ENTER, IN),
    # History, back and forth, by its beginning, and searched; then a suggestion that is taken.
    (UP, r": ''.join\(map.*$"), (UP, r": collections.OrderedDict\(a=1\)$"), (UP, r": import collections$"), (DOWN, r"Dict\(a=1\)$"), (ENTER, IN),
    ("mix" + UP, r": mix\(77\)$"), (ENTER, IN),
    (ctrl("R") + "mix(3", r": mix\(30000\)\n+I-search.*mix\(3$"), (ENTER, r": mix\(30000\)$"), (ENTER, IN),
    ("coll", r": collections.OrderedDict\(a=1\)$"), (ctrl("E") + ENTER, IN),
    ("[mix(k) for k in range(400)][::80]" + ENTER, IN),
    ("1 / 0" + ENTER, IN),
    ("mix('x')" + ENTER, IN),
    ("%precision 3" + ENTER, IN), ("mix(1000) / 7" + ENTER, IN),
    ("%history -l 3" + ENTER, IN),
    ("!echo from the shell" + ENTER, IN),
    ("_i7, len(_oh) > 5" + ENTER, IN),
    ("12 + 4" + LEFT * 2 + BACKSPACE + "*" + ctrl("E") + "5" + ENTER, IN),
    ("x = = 1" + ENTER, IN),
]


@dataclass
class Session:
    """What was seen after each step (texts, or lists of lines), the exit status, and what is left behind."""

    shown: list
    status: object
    left: list
    keys: int


def cleaned(suite, path, text):
    return text.replace(str(path), suite.name).replace(str(suite.home(path)), "HOME")


def repl(suite, path, prefix, env, cwd, timeout):
    """Types at `python3 -q`."""
    env = {**env, "TERM": "xterm", "INPUTRC": "/dev/null", "HOME": str(cwd), "PAGER": "cat", "PYTHONHISTORY": ""}
    shell = Terminal([*prefix, path, "-q"], env, cwd)
    shown, pressed = [], 0

    def step(keys, ends):
        nonlocal pressed
        begin = len(shell.seen)
        for key in single(keys):
            shell.send(key.encode())
            pressed += 1
            shell.pump(0.01)
        pattern = re.compile(ends.replace("$", r"(?:\x1b\[\?2004h)?$").encode())
        shell.until(lambda: pattern.search(shell.seen[begin:].decode(errors="replace").encode()), timeout, quiet=0.05)
        shown.append(cleaned(suite, path, shell.seen[begin:].decode(errors="replace")))

    try:
        step("", PROMPT)
        for keys, ends in REPL:
            step(keys + ENTER, ends)
        # Ctrl-C in a loop that has been running for some time, and at the prompt.
        step("import itertools" + ENTER, r"next> $")
        begin = len(shell.seen)
        shell.send(b"for _ in itertools.repeat(print('going')): pass\r\r")
        shell.until(lambda: b"\r\ngoing\r\n" in shell.seen[begin:], timeout)
        pause(shell, 0.5)
        step(ctrl("C"), r"KeyboardInterrupt\r\nnext> $")
        step("abc", r"next> abc$|^abc$")
        # readline itself may miss one that comes while it still works on a key.
        pause(shell, 0.2)
        step(ctrl("C"), r"KeyboardInterrupt\r\nnext> $")
        step("raise SystemExit(3)", r"3\)$")
        shell.send(b"\r")
        status, left = shell.end(timeout)
        return Session(shown, status, left, pressed)
    except Silent as error:
        raise Silent(f"{error} after {len(shown)} steps; the terminal has {shell.seen[-300:]!r}") from None
    finally:
        shell.close()


class Screen:
    """What a person sees of a terminal, as pyte has it."""

    def __init__(self, answer):
        # From a folder of packages: see scripts/lib/packages.py.
        import pyte

        self.screen = pyte.Screen(terminal.COLUMNS, terminal.LINES)
        # A program may ask where the cursor is.
        self.screen.write_process_input = lambda text: answer(text.encode())
        self.stream = pyte.ByteStream(self.screen)

    def lines(self):
        # As `display` has it, but rows that were never written to cost nothing.
        buffer = self.screen.buffer
        lines = ["".join(buffer[y][x].data for x in range(terminal.COLUMNS)).rstrip() if y in buffer else "" for y in range(terminal.LINES)]
        while lines and not lines[-1]:
            lines.pop()
        return lines


def ipython(suite, path, prefix, env, cwd, timeout, expected=None):
    """Types at IPython. Without `expected`, waits after each step until nothing more comes; with it, until the screen is as
    it was there."""
    env = {**env, "TERM": "xterm-256color", "HOME": str(cwd), "IPYTHONDIR": f"{cwd}/.ipython", "PAGER": "cat"}
    shell = Terminal([*prefix, path, "-m", "IPython", "--no-banner", "--no-confirm-exit"], env, cwd)
    screen = Screen(shell.send)
    shell.show = screen.stream.feed
    shown, pressed = [], 0

    def lines():
        return [cleaned(suite, path, line) for line in screen.lines()]

    def step(keys, ends):
        nonlocal pressed
        for key in single(keys):
            shell.send(key.encode())
            pressed += 1
            shell.pump(0.01)
        try:
            if expected is None:
                pattern = re.compile(ends)
                shell.until(lambda: pattern.search("\n".join(screen.lines())), timeout, quiet=0.12)
            else:
                # Suggestions come some time after a key; what is on the screen may be that of the key before.
                shell.until(lambda: lines() == expected[len(shown)], timeout, quiet=0 if ends in (IN, MORE_IN) else 0.2)
        except Silent as error:
            detail = different(expected[len(shown)], lines()) if expected else f"{ends} is not in {lines()}"
            raise Silent(f"{error} to {keys!r} (step {len(shown)}): {detail}") from None
        shown.append(lines())

    try:
        step("", IN)
        for keys, ends in IPYTHON:
            step(keys, ends)
        # Ctrl-C in a loop, when it has been running for some time.
        step("import itertools" + ENTER, IN)
        shell.send(b"for _ in itertools.repeat(print('going')): pass\r\r")
        shell.until(lambda: "going" in screen.lines()[-3:], timeout)
        pause(shell, 0.5)
        step(ctrl("C"), IN)
        step("abc", r": abc\w*$")
        pause(shell, 0.2)
        step(ctrl("C"), IN)
        shell.send(b"exit\r")
        status, left = shell.end(timeout)
        return Session(shown, status, left, pressed)
    finally:
        shell.close()


def pause(shell, seconds):
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        shell.pump(left)


def different(want, have):
    """The first line that differs, for the report."""
    for number in range(max(len(want), len(have))):
        x, y = (lines[number] if number < len(lines) else "(nothing)" for lines in (want, have))
        if x != y:
            return f"line {number}: plain {x!r}, redmagic {y!r}"
    return "no difference"
