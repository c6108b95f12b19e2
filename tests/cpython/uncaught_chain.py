# exit: 1
# args: 3
# modes: default warm eager
# Tracebacks that the interpreter prints itself: chained, grouped, in threads, finalizers, generators,
# hooks and deep recursion, raised in traced loops; the last one ends the program.
import sys
import threading
import traceback


sys.setrecursionlimit(150)


class Noted(Exception):
    def __str__(self):
        return "two\nlines"


def odd(n):
    if n > 3000:
        raise KeyError(n)
    return n % 2


def loop():
    s = 0
    for i in range(10**6):
        s += (odd(i)
              + odd(
                  i + 1))


def counted():
    try:
        loop()
    except KeyError as error:
        error.add_note("a note")
        error.add_note("another\nof two lines")
        raise


def generator():
    for i in range(2000):
        yield i
    yield {}["missing"]


def chain():
    try:
        for _ in generator():
            pass
    except KeyError:
        for i in range(500):
            try:
                i / (i - 400)
            except ZeroDivisionError as error:
                raise Noted from error


def down(n):
    return down(n + 1) + 1


def ping(n):
    return pong(n + 1)


def pong(n):
    return ping(n) if n % 3 else ping(n + 1)


class Finalized:
    def __del__(self):
        for i in range(600):
            [1, 2, 3][i // 150]


def grouped():
    errors = []
    for f in (counted, chain, lambda: int("x"), lambda: None.nothing):
        try:
            f()
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup("many", [errors[0], ExceptionGroup("inner", errors[1:3]), errors[3]])


def shown(f):
    try:
        f()
    except BaseException:
        print(f"-- {f.__name__}", flush=True, file=sys.stderr)
        traceback.print_exc()


for _ in range(int(sys.argv[1])):
    for f in (counted, chain, down, lambda: ping(0), grouped):
        shown(f)
shown(lambda: exec("for i in range(3000):\n    if i == 2999: raise Noted(i)"))
shown(lambda: compile("x = (1,\n  2", "given", "exec"))
shown(lambda: eval("1 +"))
thread = threading.Thread(target=counted, name="one")
thread.start()
thread.join()
# The interpreter's own message has an address in it.
sys.unraisablehook = lambda given: sys.__unraisablehook__(type(given)((*given[:4], "Finalized")))
for _ in range(3):
    Finalized()
try:
    grouped()
finally:
    print("finally", flush=True)
