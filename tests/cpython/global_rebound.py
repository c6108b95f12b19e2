# Module globals and builtins are rebound, deleted and shadowed under a trace.
import builtins

step = 1


def count(n, change):
    s = 0
    for i in range(n):
        s += step
        if i == n // 2:
            change()
    return s


def rebind(value):
    global step
    step = value


print(count(300000, lambda: rebind(3)))
print(count(300000, lambda: rebind(0.5)))
print(count(300000, lambda: globals().update(step=7)))


def remove():
    global step
    del step


try:
    print(count(300000, remove))
except NameError as error:
    print(error)
builtins.step = 4
print(count(300000, lambda: rebind(5)))
print(count(300000, remove))
del builtins.step


def lengths(n, change):
    s = 0
    for i in range(n):
        s += len("abc")
        if i == n // 2:
            change()
    return s


print(lengths(300000, lambda: globals().update(len=lambda x: 100)))
del len
real = builtins.len
print(lengths(300000, lambda: setattr(builtins, "len", lambda x: 10)))
builtins.len = real


# Many new globals: the dictionary's keys are replaced by larger ones.
def grow():
    for i in range(200):
        globals()[f"new_{i}"] = i


step = 2
print(count(300000, grow), new_7)

import math


def module_attribute(n):
    s = 0
    for i in range(n):
        s += math.floor(i / 2)
        if i == n // 2:
            math.floor = lambda x: 1
    return s


floor = math.floor
print(module_attribute(240000))
math.floor = floor


def closure(n):
    cell = 1

    def bump():
        nonlocal cell
        cell += 1
        return cell

    s = 0
    for i in range(n):
        s += cell
        if i % 60000 == 0:
            bump()
    return s, cell


print(closure(300000))
