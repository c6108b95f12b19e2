# modes: default hot eager
# SIGINT in loops that run from traces: the handler runs soon, and the loop is left.
import os
import signal
import threading
import time


def send(after):
    time.sleep(after)
    os.kill(os.getpid(), signal.SIGINT)


def interrupted(loop):
    sender = threading.Thread(target=send, args=(0.1,))
    sender.start()
    try:
        loop()
        print("never interrupted")
    except KeyboardInterrupt:
        print("interrupted", loop.__name__)
    sender.join()


def empty():
    while True:
        pass


def counting():
    i = 0
    while i >= 0:
        i += 1


def calling():
    def f(x):
        return x + 1

    i = 0
    while True:
        i = f(i) & 0xFFFF


def iterating():
    while True:
        for x in range(1000):
            pass


def generating():
    def g():
        while True:
            yield 1

    for x in g():
        pass


def recursing():
    def f(n):
        return f(n - 1) if n else 0

    while True:
        f(50)


for loop in (empty, counting, calling, iterating, generating, recursing):
    interrupted(loop)

# A handler that does not raise: the loop goes on, and sees what the handler did.
seen = []
signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
i = 0
while len(seen) < 4:
    i += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(seen) >= 4, set(seen) == {signal.SIGALRM})


def in_function():
    seen.clear()
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    n = 0
    while not seen:
        n += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    return n > 0


print(in_function())


class Timeout(Exception):
    pass


def raise_timeout(number, frame):
    raise Timeout(frame.f_code.co_name)


def spin():
    while True:
        pass


signal.signal(signal.SIGALRM, raise_timeout)
for _ in range(3):
    signal.setitimer(signal.ITIMER_REAL, 0.03)
    try:
        spin()
    except Timeout as error:
        print("timeout in", error)
