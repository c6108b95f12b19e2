"""A chaos game on a spline: small vector objects with operators."""
import sys


class Vector:
    def __init__(self, x=0.0, y=0.0):
        self.x = x
        self.y = y

    def __add__(self, other):
        return Vector(self.x + other.x, self.y + other.y)

    def __sub__(self, other):
        return Vector(self.x - other.x, self.y - other.y)

    def __mul__(self, factor):
        return Vector(self.x * factor, self.y * factor)

    def length(self):
        return (self.x * self.x + self.y * self.y) ** 0.5


class Curve:
    def __init__(self, points):
        self.points = points

    def __call__(self, t):
        """De Casteljau's construction."""
        points = self.points
        while len(points) > 1:
            points = [a * (1.0 - t) + b * t for a, b in zip(points, points[1:])]
        return points[0]


class Random:
    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state * 1103515245 + 12345) & 0x7FFFFFFF
        return self.state / 0x80000000


class Game:
    def __init__(self, curves, size):
        self.curves = curves
        self.random = Random(1234)
        self.size = size
        self.image = [[0] * size for _ in range(size)]

    def transform(self, point):
        curve = self.curves[int(self.random.next() * len(self.curves))]
        base = curve(point.x)
        step = curve(min(point.x + 0.001, 1.0)) - base
        length = step.length() or 1.0
        shift = Vector(step.y / length, -step.x / length) * ((point.y - 0.5) * 0.2)
        return base + shift

    def play(self, n):
        point = Vector(0.5, 0.5)
        for _ in range(n):
            point = self.transform(point)
            point.x = min(max(point.x, 0.0), 0.999)
            point.y = min(max(point.y, 0.0), 0.999)
            self.image[int(point.y * self.size)][int(point.x * self.size)] += 1
        return sum(1 for row in self.image for cell in row if cell), max(max(row) for row in self.image)


def main(n):
    curves = [
        Curve([Vector(0.1, 0.3), Vector(0.4, 0.9), Vector(0.6, 0.2), Vector(0.9, 0.7)]),
        Curve([Vector(0.2, 0.8), Vector(0.5, 0.1), Vector(0.8, 0.9)]),
    ]
    print(*Game(curves, 100).play(n))


main(int(sys.argv[1]) if len(sys.argv) > 1 else 200000)
