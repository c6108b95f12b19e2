"""Text built and taken apart without regular expressions."""
import sys


def encode(text):
    """Run lengths."""
    out = []
    last, count = "", 0
    for c in text:
        if c == last:
            count += 1
        else:
            if count:
                out.append(f"{count}{last}")
            last, count = c, 1
    out.append(f"{count}{last}")
    return "".join(out)


def decode(text):
    out = ""
    number = 0
    for c in text:
        if c.isdigit():
            number = number * 10 + ord(c) - 48
        else:
            out += c * number
            number = 0
    return out


def wrap(words, width):
    lines, line = [], ""
    for w in words:
        if len(line) + len(w) + 1 > width:
            lines.append(line)
            line = w
        else:
            line = line + " " + w if line else w
    lines.append(line)
    return lines


def caesar(text, shift):
    out = []
    for c in text:
        if "a" <= c <= "z":
            c = chr((ord(c) - 97 + shift) % 26 + 97)
        out.append(c)
    return "".join(out)


def main(n):
    text = "".join("abcaabbbc"[i * i % 9] * (i % 4 + 1) for i in range(2000))
    words = ["word" + "s" * (i % 7) for i in range(3000)]
    total = 0
    for i in range(n):
        assert decode(encode(text)) == text
        lines = wrap(words, 40 + i % 20)
        total += len(lines) + sum(len(line.upper().split()) for line in lines)
        total += caesar(text, i % 26).count("c")
    print(total)


main(int(sys.argv[1]) if len(sys.argv) > 1 else 1400)
