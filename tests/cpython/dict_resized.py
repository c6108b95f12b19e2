# Dictionaries, lists and sets change while they are iterated over.
def grow(n):
    d = {i: i for i in range(n)}
    seen = 0
    try:
        for k in d:
            seen += 1
            if seen == n - 10:
                d["new"] = 1
    except RuntimeError as error:
        return seen, str(error)


print(grow(180000))


def keys_changed(n):
    d = {i: i for i in range(n)}
    seen = 0
    try:
        for k in d:
            seen += 1
            del d[k]
            d[-k - 1] = 0
    except RuntimeError as error:
        return seen, str(error)
    return seen


print(keys_changed(120000))


def values_changed(n):
    d = dict.fromkeys(range(n), 1)
    s = 0
    for k, v in d.items():
        s += v
        d[n - 1 - k] = 3
    return s


print(values_changed(180000))


def list_grows(n):
    a = [1]
    s = 0
    for x in a:
        s += x
        if len(a) < n:
            a.append(x + 1)
        elif len(a) > n // 2 and x % 3 == 0:
            a.pop()
    return s, len(a)


print(list_grows(180000))


def set_changes(n):
    a = set(range(n))
    seen = 0
    try:
        for x in a:
            seen += 1
            if seen == n // 2:
                a.add(-1)
    except RuntimeError as error:
        return seen, str(error)


print(set_changes(180000))


def resize(n):
    d = {}
    for i in range(n):
        d[i % 997] = d.get(i % 997, 0) + i
        if i % 90000 == 0:
            d.clear()
    return len(d), sum(d.values())


print(resize(540000))


class Keyed:
    def __init__(self, n):
        self.n = n

    def __hash__(self):
        return self.n % 5

    def __eq__(self, other):
        return self.n == other.n


d = {}
for i in range(600):
    d[Keyed(i % 60)] = i
print(len(d), sum(d.values()))


class Instance:
    pass


def attributes(n):
    o = Instance()
    s = 0
    for i in range(n):
        setattr(o, f"a{i % 50}", i)
        s += len(o.__dict__)
        if i % 700 == 0:
            o = Instance()
    return s


print(attributes(240000))
