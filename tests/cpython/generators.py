# Generators, coroutines and asynchronous generators in hot loops; their ends and errors.
import asyncio


def count(n):
    for i in range(n):
        yield i


def chain(n):
    yield from count(n)
    yield from (x * 2 for x in count(n))


print(sum(count(60000)), sum(chain(30000)))


def echo():
    total = 0
    while True:
        x = yield total
        if x is None:
            return total
        total += x


def send(n):
    g = echo()
    next(g)
    for i in range(n):
        g.send(i)
    try:
        g.send(None)
    except StopIteration as stop:
        return stop.value


print(send(50000))


def throwing(n):
    def g():
        caught = 0
        while True:
            try:
                yield caught
            except ValueError:
                caught += 1

    it = g()
    next(it)
    for _ in range(n):
        last = it.throw(ValueError())
    it.close()
    return last


print(throwing(20000))


def raising(n):
    for i in range(n):
        yield i
    raise KeyError("end")


def consume(n):
    s = 0
    try:
        for x in raising(n):
            s += x
    except KeyError as error:
        return s, str(error)


print(consume(40000))


def tree(depth):
    if depth:
        yield from tree(depth - 1)
        yield depth
        yield from tree(depth - 1)


print(sum(tree(14)))


async def leaf(i):
    if i % 1000 == 0:
        await asyncio.sleep(0)
    return i


async def numbers(n):
    for i in range(n):
        yield await leaf(i)


async def main():
    s = 0
    async for x in numbers(20000):
        s += x
    s += sum([await leaf(i) for i in range(20000)])
    parts = await asyncio.gather(*(leaf(i) for i in range(2000)))
    return s, sum(parts)


print(asyncio.run(main()))


def closed(n):
    out = 0
    for i in range(n):
        g = count(10)
        next(g)
        if i % 3:
            g.close()
        out += i
    return out


print(closed(20000))
