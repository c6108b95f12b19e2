"""The eight queens and more, by backtracking with generators and sets."""
import sys


def solve(n):
    columns, up, down = set(), set(), set()

    def place(row):
        if row == n:
            yield 1
            return
        for c in range(n):
            if c not in columns and row + c not in up and row - c not in down:
                columns.add(c)
                up.add(row + c)
                down.add(row - c)
                yield from place(row + 1)
                columns.remove(c)
                up.remove(row + c)
                down.remove(row - c)

    return sum(place(0))


print(solve(int(sys.argv[1]) if len(sys.argv) > 1 else 12))
