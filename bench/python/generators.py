"""Generators: pipelines, trees walked with yield from, a scheduler of coroutines."""
import sys
from collections import deque


def numbers(n):
    for i in range(n):
        yield i


def squares(source):
    for x in source:
        yield x * x


def odd(source):
    for x in source:
        if x & 1:
            yield x


class Tree:
    def __init__(self, low, high):
        self.value = (low + high) // 2
        self.left = Tree(low, self.value) if low < self.value else None
        self.right = Tree(self.value + 1, high) if self.value + 1 < high else None

    def __iter__(self):
        if self.left:
            yield from self.left
        yield self.value
        if self.right:
            yield from self.right


def task(name, n, log):
    total = 0
    for i in range(n):
        total += yield i
    log.append((name, total))


def schedule(n):
    log = []
    ready = deque()
    for k in range(20):
        t = task(k, n, log)
        next(t)
        ready.append(t)
    while ready:
        t = ready.popleft()
        try:
            ready.append(t) if t.send(1) is not None else None
        except StopIteration:
            pass
    return sum(total for _, total in log)


def main(n):
    a = sum(odd(squares(numbers(n * 10))))
    tree = Tree(0, n)
    b = sum(x for _ in range(4) for x in tree)
    print(a, b, schedule(n // 10))


main(int(sys.argv[1]) if len(sys.argv) > 1 else 450000)
