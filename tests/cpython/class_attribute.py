# Class attributes, methods and instance dictionaries are replaced under a trace.
class Point:
    scale = 2

    def __init__(self, x):
        self.x = x

    def get(self):
        return self.x * self.scale


def run(points, n, at, change):
    s = 0
    for i in range(n):
        if i == at:
            change()
        s += points[i % len(points)].get()
    return s


points = [Point(i) for i in range(7)]
print(run(points, 240000, 120000, lambda: setattr(Point, "scale", 5)))
print(run(points, 240000, 120000, lambda: setattr(Point, "get", lambda self: self.x)))
print(run(points, 240000, 120000, lambda: setattr(points[3], "scale", 100)))
Point.get = lambda self: self.x * self.scale
print(run(points, 240000, 120000, lambda: setattr(points[3], "get", lambda: 7)))
print(run(points, 240000, 120000, lambda: setattr(Point, "__getattribute__", lambda self, name: (lambda: 1))))
del Point.__getattribute__


class Other:
    x = 3
    scale = 11
    get = Point.get


def swap():
    del points[1].x
    points[1].__class__ = Point


print(run(points[:1], 240000, 120000, lambda: setattr(points[0], "__class__", Other)))
try:
    print(run(points[1:2], 240000, 180000, swap))
except AttributeError as error:
    print(error)


class Slots:
    __slots__ = ("a", "b")

    def __init__(self):
        self.a, self.b = 1, 2


def slots(n):
    o = Slots()
    s = 0
    for i in range(n):
        if i == n // 2:
            del o.b
        try:
            s += o.a + o.b
        except AttributeError:
            s -= 1
            if i % 100 == 0:
                o.b = i
    return s


print(slots(360000))


class Descriptor:
    def __get__(self, instance, owner):
        return instance.__dict__.get("value", -1) if instance else self

    def __set__(self, instance, value):
        instance.__dict__["value"] = value * 2


class Managed:
    value = Descriptor()
    count = property(lambda self: 5)


def managed(n):
    m = Managed()
    s = 0
    for i in range(n):
        m.value = i
        s += m.value + m.count
        if i == n // 2:
            Managed.count = 6
        if i == n * 3 // 4:
            del Managed.value
    return s, m.__dict__


print(managed(360000))


class Base:
    def f(self):
        return 1


class Derived(Base):
    def f(self):
        return super().f() + 1


def supers(n):
    d = Derived()
    s = 0
    for i in range(n):
        s += d.f()
        if i == n // 2:
            Base.f = lambda self: 10
        if i == n * 3 // 4:
            Derived.__bases__ = (type("New", (Base,), {"f": lambda self: 100}),)
    return s


print(supers(240000))
