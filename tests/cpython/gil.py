# modes: default hot eager
# The GIL is handed over every 5 ms (and every 0.1 ms) between threads in traced loops.
import sys
import threading
import time

print(sys.getswitchinterval())
flag = False


def wait_for_flag():
    n = 0
    while not flag:
        n += 1
    return n


def set_flag():
    global flag
    time.sleep(0.05)
    flag = True


for _ in range(3):
    flag = False
    other = threading.Thread(target=set_flag)
    other.start()
    print(wait_for_flag() > 0)
    other.join()

# Two spinning threads that wait for each other, over and over.
turn = 0


def player(me, rounds):
    global turn
    for _ in range(rounds):
        while turn != me:
            pass
        turn = 1 - me


for interval, rounds in ((0.005, 12), (0.0001, 100)):
    sys.setswitchinterval(interval)
    turn = 0
    threads = [threading.Thread(target=player, args=(me, rounds)) for me in (0, 1)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print(turn)

# Progress of all of four threads.
stop = False
counts = [0] * 4


def worker(k):
    n = 0
    while not stop:
        n += 1
        counts[k] = n


threads = [threading.Thread(target=worker, args=(k,)) for k in range(4)]
for t in threads:
    t.start()
time.sleep(0.4)
stop = True
for t in threads:
    t.join()
print(all(c > 100 for c in counts))

lock = threading.Lock()
total = 0


def add(n):
    global total
    for _ in range(n):
        with lock:
            total += 1


threads = [threading.Thread(target=add, args=(3000,)) for _ in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(total)

import queue

q, results = queue.Queue(maxsize=10), []


def consumer():
    while (item := q.get()) is not None:
        results.append(item * 2)


c = threading.Thread(target=consumer)
c.start()
for i in range(3000):
    q.put(i)
q.put(None)
c.join()
print(sum(results), len(results))
