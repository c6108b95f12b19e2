# Calls of every shape in hot loops.
import functools
import operator


def plain(a, b=2, *rest, c=3, **more):
    return a + b + c + len(rest) + len(more)


def shapes(n):
    s = 0
    args = (1, 2, 3, 4)
    named = {"c": 9, "d": 1}
    for i in range(n):
        s += plain(i) + plain(i, 1) + plain(i, 1, 2, 3) + plain(i, c=1) + plain(*args) + plain(i, **named) + plain(*args, **named)
    return s


print(shapes(6000))


class Class:
    def __init__(self, x):
        self.x = x

    def method(self, y):
        return self.x + y

    @staticmethod
    def static(y):
        return y + 1

    @classmethod
    def cls(cls, y):
        return cls.__name__, y

    @property
    def value(self):
        return self.x * 2

    def __call__(self, y):
        return self.x - y

    def __getitem__(self, k):
        return k + self.x

    def __len__(self):
        return self.x % 100

    def __eq__(self, other):
        return self.x == other

    def __lt__(self, other):
        return self.x < other.x

    __hash__ = None


class Sub(Class):
    def method(self, y):
        return super().method(y) + 1


def methods(n):
    s = 0
    for i in range(n):
        o = Class(i) if i % 3 else Sub(i)
        s += o.method(1) + o.static(2) + o.cls(3)[1] + o.value + o(4) + o[5] + len(o) + (o == i)
    return s


print(methods(20000))


def bound(n):
    o = Class(5)
    f, g, h = o.method, functools.partial(plain, 1), operator.itemgetter(2)
    s = 0
    for i in range(n):
        s += f(i) + g(i) + h([i, i, i])
    return s


print(bound(20000))


def sort(n):
    values = [Class((i * 7919) % 10007) for i in range(n)]
    values.sort()
    other = sorted(range(n), key=lambda x: -x % 1000)
    third = sorted(range(n), key=functools.cmp_to_key(lambda a, b: (a % 10) - (b % 10)))
    return values[0].x, values[-1].x, other[:4], third[:4], max(range(n), key=lambda x: x % 77)


print(sort(4000))


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def even(n):
    return True if n == 0 else odd(n - 1)


def odd(n):
    return False if n == 0 else even(n - 1)


print(fib(22), even(900), odd(901))


@functools.lru_cache(maxsize=None)
def cached(n):
    return n if n < 2 else cached(n - 1) + cached(n - 2)


print(cached(300), sum(cached(i % 200) for i in range(20000)))


def ackermann(m, n):
    if m == 0:
        return n + 1
    if n == 0:
        return ackermann(m - 1, 1)
    return ackermann(m - 1, ackermann(m, n - 1))


print(ackermann(2, 60))


def closures(n):
    fs = [lambda x, k=k: x + k for k in range(10)]
    s = 0
    for i in range(n):
        s = fs[i % 10](s) & 0xFFFF
    return s


print(closures(40000))


def decorated(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        wrapper.calls += 1
        return f(*args, **kwargs)

    wrapper.calls = 0
    return wrapper


@decorated
def work(x, y=1):
    return x * y


print(sum(work(i, y=2) for i in range(20000)), work.calls)
print(sum(map(lambda x: x * x, range(20000))), len(list(filter(lambda x: x % 3, range(20000)))))
print(functools.reduce(lambda a, b: (a * 31 + b) % 1000003, range(40000)))


def bad(n):
    out = set()
    for i in range(n):
        try:
            plain() if i % 2 else fib(1, 2)
        except TypeError as error:
            out.add(str(error))
    return sorted(out)


print(bad(5000))


def pattern(n):
    s = 0
    for i in range(n):
        match (i % 4, [i, i + 1], {"k": i}):
            case (0, [a, b], _):
                s += a + b
            case (1, _, {"k": k}):
                s += k
            case (2 | 3, [a, *rest], _) if a % 2:
                s -= len(rest)
            case _:
                s += 1
    return s


print(pattern(20000))
