# sys.settrace switched on and off inside a loop that runs from a trace.
import sys

events = []


def tracer(frame, event, arg):
    events.append((frame.f_code.co_name, event, frame.f_lineno))
    return tracer


def callee(x):
    return x + 1


def on_in_loop(n):
    s = 0
    for i in range(n):
        if i == n - 3:
            sys.settrace(tracer)
        s += callee(i)
    sys.settrace(None)
    return s


print(on_in_loop(180000))
print(len(events), events[:4], events[-2:])


def local_on(n):
    # A frame's own trace function is set from outside.
    s = 0
    for i in range(n):
        s += i
        if i == n - 3:
            sys._getframe().f_trace = tracer
            sys.settrace(lambda *_: None)
        if i == n - 2:
            sys.settrace(None)
    return s


events.clear()
print(local_on(180000), events)


def opcodes(frame, event, arg):
    frame.f_trace_opcodes = True
    events.append(event)
    return opcodes


def traced_loop(n):
    s = 0
    for i in range(n):
        s += i
    return s


events.clear()
traced_loop(180000)
sys.settrace(opcodes)
print(traced_loop(700))
sys.settrace(None)
print(len(events), sorted(set(events)), traced_loop(180000))


def jumper(frame, event, arg):
    if event == "line" and frame.f_locals.get("i") == 90000 and frame.f_lineno == jumping.__code__.co_firstlineno + 4:
        frame.f_lineno = jumping.__code__.co_firstlineno + 6
    return jumper


def jumping(n):
    s = 0
    for i in range(n):
        if i == 60000: sys._getframe().f_trace = jumper; sys.settrace(jumper)
        s += 1
        s += 10
        if i == 120000: sys.settrace(None)
    return s


print(jumping(180000))


def raising(frame, event, arg):
    if event == "line" and frame.f_locals.get("i") == 102000:
        raise KeyError("from the tracer")
    return raising


def raised(n):
    s = 0
    try:
        for i in range(n):
            if i == 60000:
                sys._getframe().f_trace = raising
                sys.settrace(raising)
            s += 1
    except KeyError as error:
        return s, str(error), sys.gettrace()


print(raised(180000))
