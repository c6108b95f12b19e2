"""The sieve of Eratosthenes, on a list, item by item."""
import sys


def sieve(n):
    flags = [True] * (n + 1)
    count = 0
    for i in range(2, n + 1):
        if flags[i]:
            count += 1
            j = i + i
            while j <= n:
                flags[j] = False
                j += i
    return count


for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 60):
    count = sieve(300000)
print(count)
