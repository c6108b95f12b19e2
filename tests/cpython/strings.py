# Strings, bytes, numbers and containers in hot loops.
import json
import pickle
import re
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction


def build(n):
    s = ""
    for i in range(n):
        s += chr(97 + i % 26)
        if len(s) > 500:
            s = s[250:]
    return s


print(build(50000)[-20:])


def formats(n):
    out = 0
    for i in range(n):
        out += len(f"{i:>8} {i / 3:.3f} {i!r} {'x' * (i % 5)}") + len("%d-%s" % (i, i)) + len("{} {a}".format(i, a=i))
    return out


print(formats(15000))


def words(n):
    text = " ".join(f"w{i % 97}" for i in range(n))
    counts = Counter(text.split())
    d = defaultdict(list)
    for w in text.split():
        d[w[0:2]].append(len(w))
    return counts.most_common(3), sorted(d)[:5], text.find("w96"), text.count("w1"), text.replace("w", "")[:20]


print(words(30000))


def integers(n):
    x, out = 1, []
    for i in range(n):
        x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
        if i % 5000 == 0:
            out.append(x >> 33)
    return out, x


print(integers(40000))


def floats(n):
    x = 0.5
    s = 0.0
    for i in range(n):
        x = 3.9 * x * (1 - x)
        s += x**2 - abs(-x) / (i + 1) + (x > 0.5) + int(x * 10) + round(x, 2)
    return s.hex()


print(floats(40000))


def complexes(n):
    inside = 0
    for i in range(n):
        c = complex(i % 60 / 30 - 1.5, i // 60 % 40 / 20 - 1)
        z = 0
        for _ in range(20):
            z = z * z + c
            if abs(z) > 2:
                break
        else:
            inside += 1
    return inside


print(complexes(4800))


def containers(n):
    q, o, s = deque(maxlen=10), OrderedDict(), set()
    Point = namedtuple("Point", "x y")
    total = 0
    for i in range(n):
        q.append(i)
        o[i % 20] = i
        o.move_to_end(i % 20)
        s ^= {i % 11, i % 7}
        p = Point(i, -i)
        total += p.x + p[1] + q[0] + len(s)
    return total, list(o)[:3], sorted(s)


print(containers(20000))


def slices(n):
    a = list(range(100))
    s = 0
    for i in range(n):
        a[i % 50 : i % 50 + 3] = [i, i, i]
        s += sum(a[::7]) + len(a[-5:])
        b, *c, d = a[:4]
        s += b + len(c) + d
        a[3], a[4] = a[4], a[3]
    return s


print(slices(20000))
data = {"a": [1, 2.5, None, True], "b": {"c": "é\n", "d": list(range(50))}}
for _ in range(300):
    data = json.loads(json.dumps(data))
    data = pickle.loads(pickle.dumps(data))
print(data["a"], sum(data["b"]["d"]))


def regex(n):
    r = re.compile(r"(\d+)-(\w+)")
    s = 0
    for i in range(n):
        m = r.match(f"{i}-abc")
        s += int(m[1]) + len(m[2])
    return s, re.sub(r"\d", lambda m: m[0] * 2, "a1b2")


print(regex(20000))
print(sum(Fraction(1, i) for i in range(1, 200)).limit_denominator(1000))
x = Decimal(1)
for i in range(1, 3000):
    x = (x * Decimal("1.01")).quantize(Decimal("0.0001")) % 1000
print(x)
print(sum(struct.unpack("<I", struct.pack("<I", i))[0] for i in range(20000)))
print(sum(b ^ 0x55 for b in bytes(range(256)) * 100), bytearray(b"abc" * 1000).count(b"b"))
