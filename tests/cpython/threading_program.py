# args: 6
# modes: default warm eager
# A program of threads: queues, conditions, barriers, local storage, pools, an exception in a thread.
import concurrent.futures
import queue
import sys
import threading
import time

sys.setswitchinterval(0.0005)


def produce(out, begin, count):
    for i in range(begin, begin + count):
        out.put(i)


def consume(source, totals, local):
    local.sum = 0
    while (item := source.get()) is not None:
        local.sum += item * item % 1009
    totals.append(local.sum)


def queues():
    work, totals, local = queue.Queue(16), [], threading.local()
    consumers = [threading.Thread(target=consume, args=(work, totals, local)) for _ in range(3)]
    producers = [threading.Thread(target=produce, args=(work, k * 400, 400)) for k in range(3)]
    for thread in consumers + producers:
        thread.start()
    for thread in producers:
        thread.join()
    for _ in consumers:
        work.put(None)
    for thread in consumers:
        thread.join()
    return sum(totals), hasattr(local, "sum")


class Account:
    def __init__(self):
        self.balance, self.lock = 0, threading.RLock()

    def add(self, n):
        with self.lock:
            with self.lock:
                self.balance += n


def locks():
    account, barrier, order = Account(), threading.Barrier(4), []

    def run(n):
        barrier.wait()
        for i in range(2000):
            account.add(i % n)
        order.append(barrier.wait())

    threads = [threading.Thread(target=run, args=(n,)) for n in (2, 3, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return account.balance, sorted(order)


def conditions():
    turn, condition, out = 0, threading.Condition(), []

    def run(me):
        nonlocal turn
        for _ in range(100):
            with condition:
                condition.wait_for(lambda: turn % 3 == me)
                out.append(me)
                turn += 1
                condition.notify_all()

    threads = [threading.Thread(target=run, args=(me,)) for me in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(out), out == [0, 1, 2] * 100


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def pool():
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        futures = [executor.submit(fib, 12 + n % 5) for n in range(20)]
        return [future.result() for future in futures], list(executor.map(fib, range(10)))


def failing():
    seen = []
    threading.excepthook = lambda args: seen.append((args.exc_type.__name__, str(args.exc_value), args.thread.name))

    def run():
        for i in range(1000, -1, -1):
            1 / i

    thread = threading.Thread(target=run, name="failing")
    thread.start()
    thread.join()
    threading.excepthook = threading.__excepthook__
    return seen


for _ in range(int(sys.argv[1])):
    print(queues())
    print(locks())
    print(conditions())
    print(pool())
    print(failing())
timers = []
timer = threading.Timer(0.01, timers.append, ["late"])
timer.start()
i = 0
while not timers:
    i += 1
timer.join()
print(timers, i > 0, threading.active_count())


def spin():
    while True:
        time.sleep(0)


# It is still in its loop when the interpreter ends.
threading.Thread(target=spin, daemon=True).start()
print("end")
