# sys.setprofile switched on and off inside a loop that runs from a trace.
import sys

events = []


def profiler(frame, event, arg):
    events.append((event, frame.f_code.co_name, getattr(arg, "__name__", None)))


def callee(x):
    return abs(x) + 1


def loop(n):
    s = 0
    for i in range(n):
        if i == n - 5:
            sys.setprofile(profiler)
        s += callee(-i)
        if i == n - 2:
            sys.setprofile(None)
    return s


print(loop(180000))
print(len(events))
for event in events[:8] + events[-3:]:
    print(event)


def gen(n):
    for i in range(n):
        yield i


def over(n):
    s = 0
    for x in gen(n):
        s += x
        if x == n - 4:
            sys.setprofile(profiler)
    sys.setprofile(None)
    return s


events.clear()
print(over(180000), events)

counts = {}


def counting(frame, event, arg):
    counts[event] = counts.get(event, 0) + 1


sys.setprofile(counting)
for _ in range(900):
    callee(3)
sys.setprofile(None)
print(sorted(counts.items()))
import cProfile, io, pstats

profile = cProfile.Profile()
profile.runcall(loop.__wrapped__ if hasattr(loop, "__wrapped__") else over, 120000)
stats = pstats.Stats(profile, stream=io.StringIO())
print(stats.total_calls)
