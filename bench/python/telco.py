"""Telephone bills: decimals rounded half to even, with taxes (the decimal module does the work)."""
import sys
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal


def bill(n):
    cent = Decimal("0.01")
    rates = (Decimal("0.0013"), Decimal("0.00894"))
    basic, distance = Decimal("0.0675"), Decimal("0.0341")
    total = taxes = extra = Decimal(0)
    state = 99
    lines = 0
    for _ in range(n):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        seconds = state >> 16
        kind = seconds & 1
        price = (Decimal(seconds) * rates[kind]).quantize(cent, ROUND_HALF_EVEN)
        tax = (price * basic).quantize(cent, ROUND_DOWN)
        taxes += tax
        amount = price + tax
        if kind:
            more = (price * distance).quantize(cent, ROUND_DOWN)
            extra += more
            amount += more
        total += amount
        lines += len(str(amount))
    return total, taxes, extra, lines


print(*bill(int(sys.argv[1]) if len(sys.argv) > 1 else 1700000))
