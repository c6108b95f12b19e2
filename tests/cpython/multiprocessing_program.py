# args: fork spawn
# modes: default warm eager
# multiprocessing: processes, queues, pipes, pools, managers, shared memory and failing children,
# started in each of the ways that are asked for.
import concurrent.futures
import multiprocessing
import os
import sys
from multiprocessing import shared_memory


def work(n):
    s = 0
    for i in range(n):
        s += i * i % 7
    return s


def feed(source, out):
    while (n := source.get()) is not None:
        out.put((n, work(n)))
    out.put(None)


def answer(pipe):
    while True:
        try:
            n = pipe.recv()
        except EOFError:
            return
        pipe.send([work(n), {"n": n}])


def count(value, array, lock, times):
    for i in range(times):
        with lock:
            value.value += 1
            array[i % len(array)] += 1


def fill(name, size):
    block = shared_memory.SharedMemory(name)
    for i in range(size):
        block.buf[i] = i * 7 % 256
    block.close()


def end(how):
    work(30000)
    if how == "exit":
        sys.exit(5)
    if how == "_exit":
        os._exit(6)
    if how == "abort":
        os.abort()
    if how == "kill":
        os.kill(os.getpid(), 9)


def refuse(n):
    if n == 3:
        raise ValueError(f"not {n}")
    return n


def main(method):
    context = multiprocessing.get_context(method)
    source, out = context.Queue(), context.Queue()
    children = [context.Process(target=feed, args=(source, out)) for _ in range(2)]
    for child in children:
        child.start()
    for n in range(20):
        source.put(1000 + n * 10)
    for _ in children:
        source.put(None)
    results, ended = [], 0
    while ended < len(children):
        item = out.get()
        if item is None:
            ended += 1
        else:
            results.append(item)
    for child in children:
        child.join()
    print(sorted(results)[::5], [child.exitcode for child in children], flush=True)

    ours, theirs = context.Pipe()
    child = context.Process(target=answer, args=(theirs,))
    child.start()
    theirs.close()
    for n in (10, 20000, 30):
        ours.send(n)
        print(ours.recv(), flush=True)
    ours.close()
    # A forked child has our end, too.
    if method == "fork":
        child.terminate()
    child.join()
    print(child.exitcode, flush=True)

    with context.Pool(2) as pool:
        print(pool.map(work, range(1000, 30000, 5000)), pool.apply(work, (77,)), list(pool.imap_unordered(refuse, [1])))
        try:
            pool.map(refuse, range(5))
        except ValueError as error:
            print("caught", error, flush=True)

    value, array, lock = context.Value("i", 0), context.Array("i", 5), context.Lock()
    children = [context.Process(target=count, args=(value, array, lock, 500)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    print(value.value, list(array), flush=True)

    block = shared_memory.SharedMemory(create=True, size=4096)
    child = context.Process(target=fill, args=(block.name, 4096))
    child.start()
    child.join()
    print(sum(block.buf), bytes(block.buf[:9]), flush=True)
    block.close()
    block.unlink()

    for how in ("exit", "_exit", "abort", "kill", "return"):
        child = context.Process(target=end, args=(how,))
        child.start()
        child.join()
        print(how, child.exitcode, flush=True)

    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        print(list(executor.map(work, range(500, 3000, 500))), flush=True)


if __name__ == "__main__":
    for method in sys.argv[1:]:
        print(method, flush=True)
        main(method)
