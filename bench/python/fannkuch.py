"""Pancake flips over all permutations: small lists of integers, swaps and reversals."""
import sys


def fannkuch(n):
    p, q, counts = list(range(n)), list(range(n)), list(range(1, n + 1))
    flips_max = checksum = 0
    sign, r = 1, n
    while True:
        if p[0]:
            q = p[:]
            flips, first = 0, q[0]
            while first:
                q[: first + 1] = q[first::-1]
                flips += 1
                first = q[0]
            if flips > flips_max:
                flips_max = flips
            checksum += sign * flips
        if sign == 1:
            p[0], p[1] = p[1], p[0]
            sign = -1
        else:
            p[1], p[2] = p[2], p[1]
            sign = 1
            for i in range(2, n):
                if counts[i] != 1:
                    counts[i] -= 1
                    break
                if i == n - 1:
                    return checksum, flips_max
                counts[i] = i + 1
                p.insert(i + 1, p.pop(0))


checksum, flips = fannkuch(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
print(checksum, flips)
