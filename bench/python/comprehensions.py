"""Comprehensions of lists, sets and dictionaries; matrices; counting words."""
import sys


def product(a, b):
    columns = list(zip(*b))
    return [[sum([x * y for x, y in zip(row, column)]) for column in columns] for row in a]


def words(n):
    return ["w" + str(i * i % 1009) for i in range(n)]


def index(text):
    places = {}
    for i, w in enumerate(text):
        places.setdefault(w, []).append(i)
    return {w: (len(p), p[0]) for w, p in places.items() if len(p) > 3}


def main(n):
    a = [[(i * j) % 17 for j in range(40)] for i in range(40)]
    total = 0
    for k in range(n):
        b = [[(x + k) % 23 for x in row] for row in a]
        c = product(a, b)
        total += sum(c[i][i] for i in range(40))
        text = words(2000)
        found = index(text)
        total += len(found) + sum(first for _, first in found.values())
        total += len({w[1:3] for w in text}) + len([w for w in text if w.endswith("7")])
        total += sum({i: i * i for i in range(1000) if i % 3}.values())
    print(total)


main(int(sys.argv[1]) if len(sys.argv) > 1 else 550)
