"""A JSON parser and printer in plain Python: strings character by character, recursion."""
import sys


class Parser:
    def __init__(self, text):
        self.text = text
        self.at = 0

    def space(self):
        text = self.text
        while self.at < len(text) and text[self.at] in " \n\t":
            self.at += 1

    def expect(self, what):
        if self.text[self.at : self.at + len(what)] != what:
            raise ValueError(f"{what!r} expected at {self.at}")
        self.at += len(what)

    def value(self):
        self.space()
        c = self.text[self.at]
        if c == "{":
            return self.object()
        if c == "[":
            return self.array()
        if c == '"':
            return self.string()
        for word, value in (("true", True), ("false", False), ("null", None)):
            if c == word[0]:
                self.expect(word)
                return value
        return self.number()

    def object(self):
        out = {}
        self.at += 1
        self.space()
        while self.text[self.at] != "}":
            key = self.string()
            self.space()
            self.expect(":")
            out[key] = self.value()
            self.space()
            if self.text[self.at] == ",":
                self.at += 1
                self.space()
        self.at += 1
        return out

    def array(self):
        out = []
        self.at += 1
        self.space()
        while self.text[self.at] != "]":
            out.append(self.value())
            self.space()
            if self.text[self.at] == ",":
                self.at += 1
                self.space()
        self.at += 1
        return out

    def string(self):
        self.expect('"')
        out = []
        text = self.text
        at = self.at
        while (c := text[at]) != '"':
            if c == "\\":
                at += 1
                c = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}[text[at]]
            out.append(c)
            at += 1
        self.at = at + 1
        return "".join(out)

    def number(self):
        start = self.at
        text = self.text
        while self.at < len(text) and text[self.at] in "+-.0123456789eE":
            self.at += 1
        word = text[start : self.at]
        return float(word) if "." in word or "e" in word else int(word)


def dump(value):
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return '"' + "".join({"\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\"}.get(c, c) for c in value) + '"'
    if isinstance(value, list):
        return "[" + ",".join([dump(v) for v in value]) + "]"
    if isinstance(value, dict):
        return "{" + ",".join([dump(k) + ":" + dump(v) for k, v in value.items()]) + "}"
    return repr(value)


def main(n):
    data = {
        "people": [
            {"name": f"Person {i}", "age": i % 90, "tags": ["a\n", "b\"", "ccc"], "height": 1.5 + i / 64, "ok": i % 2 == 0, "no": None}
            for i in range(150)
        ],
        "matrix": [[i * j for i in range(12)] for j in range(12)],
    }
    text = dump(data)
    for _ in range(n):
        again = Parser(text).value()
        text = dump(again)
    print(again == data, len(text))


main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
