# args: 3
# modes: default warm eager
# packages: numpy
# numpy: its import (compiled extensions, thousands of lines of Python), arithmetic, and calls back into Python.
import sys

import numpy as np


def scalars():
    s = np.float64(0)
    for i in range(3000):
        s += np.sqrt(np.float64(i)) * np.int32(3) % 7
    return s


def elements():
    a = np.arange(2000, dtype=np.int64).reshape(40, 50)
    s = 0
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            s += a[i, j] * (i - j)
            a[i, j] ^= s & 255
    return s, a.sum(), a[3:5, ::10].tolist()


def arrays():
    x = np.linspace(0, 1, 4001)
    for i in range(200):
        x = np.where(x > 0.5, 1 - x, x * 1.5) + 0.25 * (i % 3)
    m = np.arange(64.0).reshape(8, 8) % 7 + np.eye(8)
    return x.mean(), np.sort(x)[::800].round(12), (m @ m.T).trace(), np.linalg.det(m).round(6), np.linalg.solve(m, np.ones(8)).round(9)


def callbacks():
    f = np.frompyfunc(lambda a, b: (a * 31 + b) % 1009, 2, 1)
    v = np.vectorize(lambda n: n // 2 if n % 2 == 0 else 3 * n + 1)
    return f.reduce(np.arange(2000)), v(np.arange(1, 1500)).sum(), np.fromiter((i * i % 11 for i in range(3000)), dtype=np.int16).sum()


class Meters(np.ndarray):
    def __new__(cls, values):
        return np.asarray(values, dtype=float).view(cls)

    def __array_finalize__(self, other):
        self.made = getattr(other, "made", 0) + 1


def subclasses():
    m = Meters([1.5, 2.5])
    for _ in range(500):
        m = m + m / 3 - 1
    return type(m).__name__, m.made, m.tolist()


def records():
    t = np.zeros(300, dtype=[("name", "U8"), ("n", "i4"), ("x", "f8")])
    for i, row in enumerate(t):
        row["name"], row["n"], row["x"] = f"r{i % 17}", i * i, i / 4
    t.sort(order=["name", "n"])
    return t[::60].tolist(), t["x"].sum(), np.unique(t["name"]).size


def generators():
    g = np.random.default_rng(12345)
    return g.integers(0, 1000, 5).tolist(), g.normal(size=1000).mean().round(12), sum(int(g.integers(9)) for _ in range(1500))


def errors():
    for f in (lambda: np.arange(3) + np.arange(4), lambda: np.arange(3)[5], lambda: np.array([1, "a"]) + 1, lambda: np.linalg.inv(np.zeros((2, 2)))):
        try:
            f()
        except Exception as error:
            print(type(error).__name__, error)
    with np.errstate(divide="raise"):
        for i in range(1000):
            try:
                np.float64(i) / np.float64(i - 999)
            except FloatingPointError as error:
                print(error)


print(np.__version__)
for _ in range(int(sys.argv[1])):
    for f in (scalars, elements, arrays, callbacks, subclasses, records, generators):
        print(f.__name__, f())
    errors()
