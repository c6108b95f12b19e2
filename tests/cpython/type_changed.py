# The types that a loop sees change under its trace.
def add(values):
    s = values[0]
    for v in values[1:]:
        s = s + v
    return s


ints = list(range(30000))
print(add(ints))
print(add([float(i) for i in ints]))
print(add(["a"] * 20000)[:5])
print(add([[i] for i in ints])[-3:])
print(add([1 << 70] * 30000))
print(add(ints + [0.5] + ints))


class Money:
    def __init__(self, n):
        self.n = n

    def __add__(self, other):
        return Money(self.n + (other.n if isinstance(other, Money) else other))


print(add([Money(1)] + ints).n)
for bad in ("x", None, [1]):
    try:
        add(ints + [bad])
    except TypeError as error:
        print(error)


def mixed(n):
    out = []
    x = 1
    for i in range(n):
        if i % 10000 == 999:
            x = float(x) if isinstance(x, int) else int(x)
        x = x + 1
        if i % 500 == 0:
            out.append(x)
    return out, x


print(mixed(90000))


def subscripts(n):
    boxes = [list(range(10)), tuple(range(10)), {i: i for i in range(10)}, "0123456789", bytes(10)]
    s = 0
    for i in range(n):
        box = boxes[i // 700 % 5]
        s += int(box[i % 10])
    return s


print(subscripts(90000))


def overflow():
    x = 1
    sizes = []
    for i in range(4000):
        x = x * 3
        if i % 400 == 0:
            sizes.append(x.bit_length())
    for i in range(4000):
        x = x // 3
    return sizes, x


print(overflow())
