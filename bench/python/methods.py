"""Method calls: a class, its subclasses, properties, and a chain of responsibility."""
import sys


class Counter:
    def __init__(self):
        self.n = 0

    def step(self):
        self.n += 1
        return self

    def add(self, k):
        self.n += k
        return self.n

    @property
    def value(self):
        return self.n


class Double(Counter):
    def add(self, k):
        return super().add(k + k)


class Shape:
    def area(self):
        raise NotImplementedError


class Square(Shape):
    def __init__(self, a):
        self.a = a

    def area(self):
        return self.a * self.a


class Rectangle(Shape):
    def __init__(self, a, b):
        self.a, self.b = a, b

    def area(self):
        return self.a * self.b


class Handler:
    def __init__(self, level, next=None):
        self.level, self.next = level, next
        self.count = 0

    def handle(self, level):
        if level <= self.level or self.next is None:
            self.count += 1
            return self.level
        return self.next.handle(level)


def main(n):
    a, b = Counter(), Double()
    shapes = [Square(3), Rectangle(2, 5), Square(1), Rectangle(4, 4)]
    chain = Handler(1, Handler(3, Handler(5, Handler(9))))
    area = levels = 0
    for i in range(n):
        a.step().step().add(3)
        b.add(a.value & 7)
        area += shapes[i & 3].area()
        levels += chain.handle(i % 7)
    print(a.n, b.value, area, levels, chain.count)


main(int(sys.argv[1]) if len(sys.argv) > 1 else 2600000)
