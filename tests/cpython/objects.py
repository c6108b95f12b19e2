# Objects come and go: finalizers, cycles, weak references, caches of freed objects, tracemalloc.
import gc
import sys
import tracemalloc
import weakref

log = []


class Final:
    def __init__(self, n):
        self.n = n

    def __del__(self):
        log.append(self.n)


def finalized(n):
    for i in range(n):
        Final(i)
    return len(log), log[-1]


print(finalized(30000))


class Node:
    def __init__(self, value):
        self.value = value
        self.other = self


def cycles(n):
    for i in range(n):
        Node(i)
    gc.collect()
    return sum(isinstance(o, Node) for o in gc.get_objects())


print(cycles(30000))


def weak(n):
    alive = 0
    gone = []
    for i in range(n):
        node = Final(i)
        r = weakref.ref(node, lambda r: gone.append(1))
        alive += r() is node
        del node
    return alive, len(gone)


print(weak(20000))


def refcounts(n):
    x = object()
    before = sys.getrefcount(x)
    keep = []
    for i in range(n):
        y = x
        if i % 100 == 0:
            keep.append(y)
    del y
    return sys.getrefcount(x) - before, len(keep)


print(refcounts(30000))
none = sys.getrefcount(None)
for i in range(100000):
    pass
print(abs(sys.getrefcount(None) - none) < 50)


def changed_by_finalizer(n):
    # __del__ runs in the middle of a loop and changes what the loop works on.
    class Meddler:
        def __del__(self):
            values.append(1.5)

    values = [1]
    s = 0
    for i in range(n):
        if i % 1000 == 999:
            Meddler()
        s = s + values[-1]
    return s


print(changed_by_finalizer(20000))


def allocating(n):
    out = []
    for i in range(n):
        out = [i, str(i), (i, out and out[0])]
    return out


# The allocators are replaced under a trace.
print(allocating(30000))
tracemalloc.start()
print(allocating(10000))
print(tracemalloc.get_traced_memory()[0] > 0)
tracemalloc.stop()
print(allocating(30000))
gc.disable()
print(allocating(10000))
gc.enable()
gc.set_threshold(50)
print(cycles(3000), allocating(10000))
gc.set_threshold(700)
collected = []
gc.callbacks.append(lambda phase, info: collected.append(phase))
print(cycles(3000), len(collected) > 4)
gc.callbacks.clear()


def big(n):
    x = []
    for i in range(n):
        x = [x]
    return i


print(big(100000))


def freelists(n):
    s = 0.0
    for i in range(n):
        a = [float(i)] * 3
        b = (i, a[0])
        c = {"k": b}
        s += c["k"][1]
    return s


print(freelists(60000))
