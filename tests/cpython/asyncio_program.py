# args: 5
# modes: default warm eager
# An asyncio program: streams over a socket, queues, locks, timeouts, cancellation, task groups,
# executors, a subprocess and a signal, in an event loop whose own loops are traced.
import asyncio
import contextvars
import os
import signal
import socket
import sys

current = contextvars.ContextVar("current", default=-1)


async def squares(n):
    for i in range(n):
        if i % 50 == 0:
            await asyncio.sleep(0)
        yield i * i


async def total(name, n):
    current.set(name)
    s = 0
    async for square in squares(n):
        s = (s * 31 + square) % 1000003
        assert current.get() == name
    return name, s


async def pipeline():
    numbers, results = asyncio.Queue(8), asyncio.Queue()

    async def worker():
        while (n := await numbers.get()) is not None:
            await results.put(n * n % 97)

    workers = [asyncio.create_task(worker()) for _ in range(3)]
    for n in range(900):
        await numbers.put(n)
    for _ in workers:
        await numbers.put(None)
    await asyncio.gather(*workers)
    return sorted(results.get_nowait() for _ in range(results.qsize()))[::90]


async def echo_server():
    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper()[::-1].strip() + b"\n")
            await writer.drain()
        writer.close()

    async def client(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        out = []
        for i in range(60):
            writer.write(f"client {number} says {i}\n".encode())
            out.append(await reader.readline())
        writer.close()
        await writer.wait_closed()
        return number, len(out), out[-1]

    server = await asyncio.start_server(serve, "127.0.0.1", 0, family=socket.AF_INET)
    port = server.sockets[0].getsockname()[1]
    async with server:
        return await asyncio.gather(*(client(i) for i in range(5)))


async def groups():
    async def fail(n):
        await asyncio.sleep(0.01)
        raise ValueError(n)

    async def forever():
        try:
            while True:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(forever())
            group.create_task(fail(7))
    except* ValueError as caught:
        print("caught", caught.exceptions)


async def timeouts():
    try:
        async with asyncio.timeout(0.05):
            while True:
                await asyncio.sleep(0)
    except TimeoutError:
        print("timed out")


async def locked():
    lock, count = asyncio.Lock(), 0

    async def add():
        nonlocal count
        for _ in range(100):
            async with lock:
                was = count
                await asyncio.sleep(0)
                count = was + 1

    await asyncio.gather(*(add() for _ in range(5)))
    return count


def busy(n):
    return sum(i * i % 7 for i in range(n))


async def outside():
    loop = asyncio.get_running_loop()
    print(await asyncio.gather(*(loop.run_in_executor(None, busy, 20000 + i) for i in range(3))))
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(sum(range(50000))); raise SystemExit(3)", stdout=asyncio.subprocess.PIPE)
    print(await child.communicate(), child.returncode)
    got = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, got.set)
    loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
    while not got.is_set():
        await asyncio.sleep(0)
    print("signal")


async def main():
    print(await asyncio.gather(*(total(i, 2000) for i in range(6))))
    print(await pipeline())
    print(await echo_server())
    await asyncio.create_task(groups())
    await asyncio.create_task(timeouts())
    print(await locked())
    await outside()


for _ in range(int(sys.argv[1])):
    asyncio.run(main())
