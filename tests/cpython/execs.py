# args: 60
# modes: default eager
# A program that becomes itself anew again and again, in loops of which some are just being recorded: the
# new program is at the same addresses as the old one.
import os
import sys

left = int(sys.argv[1])


def step(n):
    if n == 1 + left % 40:
        if left == 0:
            print("end")
            sys.exit()
        if left % 30 == 0:
            print(left, flush=True)
        os.execv(sys.executable, [sys.executable, sys.argv[0], str(left - 1)])


i = 0
while i < 100:
    step(i)
    i += 1
