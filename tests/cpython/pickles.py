# args: 12
# modes: default warm eager
# Pickle round trips in every protocol, with the C and the Python implementation of both ends.
import collections
import copyreg
import datetime
import decimal
import enum
import fractions
import hashlib
import io
import pickle
import sys


class Point:
    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __eq__(self, other):
        return (self.x, self.y) == (other.x, other.y)

    def __hash__(self):
        return hash((self.x, self.y))


class Node:
    def __init__(self, name):
        self.name, self.children, self.parent = name, [], None

    def add(self, child):
        self.children.append(child)
        child.parent = self
        return child

    def shape(self):
        return (self.name, self.parent.name if self.parent else None, [child.shape() for child in self.children])


class State:
    def __init__(self, n):
        self.n, self.cache = n, {i: i * i for i in range(n)}

    def __getstate__(self):
        return {"n": self.n}

    def __setstate__(self, state):
        self.__init__(state["n"])

    def __eq__(self, other):
        return self.cache == other.cache


class Colour(enum.Enum):
    RED = 1
    GREEN = (2, "g")


class Words(list):
    def __reduce_ex__(self, protocol):
        return Words, (), {"protocol": protocol}, iter(self)


class Odd:
    def __init__(self, n):
        self.n = n


copyreg.pickle(Odd, lambda odd: (Odd, (odd.n + 1,)))
Pair = collections.namedtuple("Pair", "left right")


def tree(depth, node):
    if depth:
        for i in range(3):
            tree(depth - 1, node.add(Node(f"{node.name}.{i}")))
    return node


def plain_values():
    return [
        None, True, False, 0, -1, 255, 256, -(2**31), 2**31, 2**63, -(2**200), 0.0, -0.0, 1e308, float("inf"), 1.5j, "", "abc", "ü€𐍈", "\ud800", b"", b"\x00\xff",
        bytearray(b"xyz"), (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [[]], {}, {"a": {1: (2,)}}, set(), {1, 2}, frozenset({3}), range(3, 9, 2), slice(1, 2), ...,
        NotImplemented, int, len, Point(1, -2), Pair(1, "r"), Colour.RED, Colour.GREEN, State(20), decimal.Decimal("1.10"), fractions.Fraction(3, 7),
        datetime.datetime(2024, 2, 29, 1, 2, 3, 4), datetime.timedelta(1, 2, 3), collections.Counter("abracadabra"), collections.OrderedDict(b=1, a=2),
        collections.deque([1, 2], 5), collections.defaultdict(list, a=[1]), "x" * 70000, b"y" * 70000, list(range(1500)), {i: str(i) for i in range(1200)},
    ]


def dumps(value, protocol, pickler):
    out = io.BytesIO()
    pickler(out, protocol).dump(value)
    return out.getvalue()


def main():
    values = plain_values()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for pickler in (pickle.Pickler, pickle._Pickler):
            for unpickler in (pickle.Unpickler, pickle._Unpickler):
                digest = hashlib.sha256()
                for value in values:
                    if protocol < 2 and isinstance(value, Point):
                        continue  # slots
                    data = dumps(value, protocol, pickler)
                    back = unpickler(io.BytesIO(data)).load()
                    assert back == value and type(back) is type(value), (protocol, value, back)
                    # Sets have an order of their own.
                    digest.update(b"%d" % len(data))
                print(protocol, pickler.__module__, unpickler.__module__, digest.hexdigest()[:16])
        root = tree(4, Node("r"))
        loop = [root]
        loop.append(loop)
        back = pickle.loads(pickle.dumps(loop, protocol))
        assert back[1] is back and back[0].shape() == root.shape()
        if protocol >= 2:
            words = pickle.loads(pickle.dumps(Words("abc"), protocol))
            print(words, words.protocol, pickle.loads(pickle.dumps(Odd(4), protocol)).n)
    buffers = []
    data = pickle.dumps(pickle.PickleBuffer(bytearray(b"z" * 1000)), 5, buffer_callback=buffers.append)
    print(len(data), bytes(pickle.loads(data, buffers=buffers))[:5])
    for broken in (b"", b"\x80\x04", b"\x80\x04K\x01", b"cos\nnothing\n.", b"\x80\x63."):
        for unpickler in (pickle.Unpickler, pickle._Unpickler):
            try:
                print(unpickler(io.BytesIO(broken)).load())
            except Exception as error:
                print(type(error).__name__, error)
    for what in (lambda: 1, open("/dev/null"), (i for i in ())):
        try:
            pickle.dumps(what)
        except Exception as error:
            print(type(error).__name__, str(error).split(" at 0x")[0])


for _ in range(int(sys.argv[1])):
    main()
