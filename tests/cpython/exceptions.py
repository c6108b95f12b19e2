# exit: 1
# Exceptions raised, caught, chained and passed through hot loops; the last one is not caught.
import sys
import traceback


def caught(n):
    s = 0
    for i in range(n):
        try:
            if i % 3 == 0:
                raise ValueError(i)
            s += 1
        except ValueError as error:
            s += error.args[0] % 7
        finally:
            s += 1
    return s


print(caught(40000))


def deep(n, k):
    if k == 0:
        raise LookupError(n)
    return deep(n, k - 1) + 1


def unwinding(n):
    s = 0
    for i in range(n):
        try:
            deep(i, i % 20)
        except LookupError as error:
            s += error.args[0]
    return s


print(unwinding(10000))


class Context:
    entered = exited = 0

    def __enter__(self):
        Context.entered += 1
        return self

    def __exit__(self, kind, value, trace):
        Context.exited += 1
        return kind is ZeroDivisionError


def contexts(n):
    s = 0
    for i in range(n):
        with Context():
            s += 10 // (i % 5)
    return s, Context.entered, Context.exited


print(contexts(30000))


def continues(n):
    s = 0
    for i in range(n):
        try:
            if i % 2:
                continue
            if i > n - 5:
                break
            s += i
        finally:
            s += 1
    return s


print(continues(40000))


def recursion():
    def f(n):
        return f(n + 1)

    out = []
    for _ in range(30):
        try:
            f(0)
        except RecursionError as error:
            out.append(str(error))
    return len(out), set(out)


print(recursion())
sys.setrecursionlimit(500)
print(recursion())
sys.setrecursionlimit(1000)


def chained(n):
    lines = None
    for i in range(n):
        try:
            try:
                {}[i]
            except KeyError as error:
                raise RuntimeError("outer") from error
        except RuntimeError as error:
            if i == n - 1:
                lines = traceback.format_exc()
    return lines


print(chained(20000))


def group(n):
    s = 0
    for i in range(n):
        try:
            raise ExceptionGroup("g", [ValueError(i), TypeError(i)])
        except* ValueError as g:
            s += len(g.exceptions)
        except* TypeError:
            s += 10
    return s


print(group(3000))


def frames(n):
    for i in range(n):
        if i == n - 1:
            a = i
            frame = sys._getframe()
            print(frame.f_lineno, sorted(frame.f_locals), frame.f_code.co_name, frame.f_back.f_lineno)


frames(30000)


def last(n):
    values = [1] * n + ["x"]
    s = 0
    for v in values:
        s = s + v
    return s


last(40000)
