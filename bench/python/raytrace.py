"""Spheres over a chequered plane, with reflections."""
import sys
from math import sqrt


class Vector:
    __slots__ = ("x", "y", "z")

    def __init__(self, x, y, z):
        self.x, self.y, self.z = x, y, z

    def __add__(self, o):
        return Vector(self.x + o.x, self.y + o.y, self.z + o.z)

    def __sub__(self, o):
        return Vector(self.x - o.x, self.y - o.y, self.z - o.z)

    def scale(self, k):
        return Vector(self.x * k, self.y * k, self.z * k)

    def dot(self, o):
        return self.x * o.x + self.y * o.y + self.z * o.z

    def unit(self):
        return self.scale(1.0 / sqrt(self.dot(self)))


class Sphere:
    def __init__(self, center, radius, color, mirror):
        self.center, self.radius, self.color, self.mirror = center, radius, color, mirror

    def hit(self, origin, direction):
        to = self.center - origin
        along = to.dot(direction)
        disc = self.radius * self.radius - to.dot(to) + along * along
        if disc < 0.0:
            return None
        t = along - sqrt(disc)
        return t if t > 1e-4 else None

    def normal(self, point):
        return (point - self.center).unit()

    def shade(self, point):
        return self.color


class Plane:
    mirror = 0.1

    def __init__(self, y):
        self.y = y

    def hit(self, origin, direction):
        if abs(direction.y) < 1e-6:
            return None
        t = (self.y - origin.y) / direction.y
        return t if t > 1e-4 else None

    def normal(self, point):
        return Vector(0.0, 1.0, 0.0)

    def shade(self, point):
        return 0.9 if (int(point.x + 100) + int(point.z + 100)) % 2 else 0.2


class Scene:
    def __init__(self):
        self.objects = [
            Plane(-1.0),
            Sphere(Vector(0.0, 0.0, 5.0), 1.0, 0.8, 0.4),
            Sphere(Vector(-1.8, -0.4, 4.0), 0.6, 0.5, 0.2),
            Sphere(Vector(1.7, -0.3, 4.2), 0.7, 0.6, 0.3),
        ]
        self.light = Vector(-3.0, 5.0, -2.0)

    def nearest(self, origin, direction):
        best = None
        for o in self.objects:
            t = o.hit(origin, direction)
            if t is not None and (best is None or t < best[0]):
                best = (t, o)
        return best

    def trace(self, origin, direction, depth):
        found = self.nearest(origin, direction)
        if found is None:
            return 0.3 + 0.2 * direction.y
        t, o = found
        point = origin + direction.scale(t)
        normal = o.normal(point)
        to_light = (self.light - point).unit()
        light = 0.1
        if self.nearest(point, to_light) is None:
            light += max(0.0, normal.dot(to_light))
        color = o.shade(point) * light
        if depth and o.mirror:
            bounced = direction - normal.scale(2.0 * normal.dot(direction))
            color = color * (1.0 - o.mirror) + o.mirror * self.trace(point, bounced, depth - 1)
        return color


def main(n):
    scene = Scene()
    eye = Vector(0.0, 0.5, -2.0)
    total = 0.0
    for y in range(n):
        for x in range(n):
            direction = Vector((x - n / 2) / n, (n / 2 - y) / n, 1.0).unit()
            total += scene.trace(eye, direction, 3)
    print(f"{total:.6f}")


main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
