# A function's __code__, defaults and name bindings are replaced while a loop calls it.
def one(x):
    return x + 1


def two(x):
    return x * 2


def three(x, y=10):
    return x - y


def loop(n, at, change):
    s = 0
    for i in range(n):
        if i == at:
            change()
        s += one(i)
    return s


def set_code(f):
    one.__code__ = f.__code__


print(loop(240000, 120000, lambda: set_code(two)))
one.__defaults__ = (7,)
print(loop(240000, 120000, lambda: set_code(three)))
print(loop(240000, 120000, lambda: setattr(one, "__defaults__", (1,))))
try:
    print(loop(240000, 120000, lambda: setattr(one, "__defaults__", None)))
except TypeError as error:
    print(error)


# The code of the running function: the frame keeps the old one.
def self_changing(n):
    s = 0
    for i in range(n):
        s += 1
        if i == n // 2:
            self_changing.__code__ = (lambda n: -n).__code__
    return s


print(self_changing(240000), self_changing(240000))


# Code objects that come and go at the same addresses.
def come_and_go(n):
    total = 0
    for k in range(n):
        space = {}
        exec(f"def f(n):\n    s = 0\n    for i in range(n):\n        s += i % {k % 7 + 1}\n    return s\n", space)
        total += space["f"](400)
        del space
    return total


print(come_and_go(40))


def replaced(n):
    s = 0
    for i in range(n):
        f = one if i % 2 else two
        s += f(i) if f is two else 0
    return s


print(replaced(180000))

source = "s = 0\nfor i in range({}):\n    s = s + {}\n"
for n, what in ((180000, "i"), (180000, "1.5"), (120000, "i * i"), (180000, "1")):
    space = {}
    exec(compile(source.format(n, what), "made", "exec"), space)
    print(space["s"])
print(sum(eval("[x * 2 for x in range(180000)]")))
