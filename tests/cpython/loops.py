# Every kind of backward jump: for, while, while True with break, while with or and not,
# loops over None, nested loops with continue, else of loops, comprehensions.
def for_range(n):
    s = 0
    for i in range(n):
        s += i & 7
    return s


def while_less(n):
    i = s = 0
    while i < n:
        s = s + i * 3
        i += 1
    return s


def while_float(n):
    x = 0.0
    while x < n:
        x += 1.5
    return x


def while_str(s):
    n = 0
    while s != "x" * 3:
        s = s[:-1]
        n += 1
    return n


def while_true(n):
    while True:
        n -= 3
        if n < 0:
            break
    else:
        n = None
    return n


def while_list(n):
    todo = list(range(n))
    s = 0
    while todo:
        s += todo.pop()
    return s


def while_not(n):
    done = False
    while not done:
        n -= 1
        done = n == 0
    return n


def while_none(n):
    chain = None
    for i in range(n):
        chain = (i, chain)
    s = 0
    while chain is not None:
        s += chain[0]
        chain = chain[1]
    found = None
    i = 0
    while found is None:
        i += 1
        if i * i > n:
            found = i
    return s, found


def while_or(n):
    a = b = n
    while a > 0 or b > 0:
        if a > b:
            a -= 2
        else:
            b -= 1
    return a, b


def nested(n):
    s = 0
    for i in range(n):
        for j in range(i):
            if j % 3 == 0:
                continue
            if j > 40:
                break
            s += i ^ j
        else:
            s += 1000000
    return s


def comprehensions(n):
    a = [i * i for i in range(n) if i % 2]
    b = {i % 17: i for i in range(n)}
    c = {i % 13 for i in a}
    d = sum(x + y for x in range(n // 20) for y in range(20))
    return sum(a), sorted(b.items())[:3], sorted(c), d


def unrolled_types(n):
    # One loop, four iterables.
    out = []
    for source in (range(n), list(range(n)), tuple(range(n)), {i: i for i in range(n)}, iter(range(n)), reversed(range(n))):
        s = 0
        for x in source:
            s += x
        out.append(s)
    return out


print(for_range(1200000), while_less(1200000), while_float(540000), while_str("x" * 9000))
print(while_true(1800000), while_list(300000), while_not(540000), while_none(540000), while_or(360000))
print(nested(400), comprehensions(540000), unrolled_types(180000))
