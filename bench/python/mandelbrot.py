"""The Mandelbrot set, on floats."""
import sys


def main(n):
    inside = total = 0
    for y in range(n):
        ci = 2.0 * y / n - 1.0
        for x in range(n):
            cr = 2.0 * x / n - 1.5
            zr = zi = 0.0
            k = 0
            while k < 50 and zr * zr + zi * zi <= 4.0:
                zr, zi = zr * zr - zi * zi + cr, 2.0 * zr * zi + ci
                k += 1
            total += k
            inside += k == 50
    print(inside, total)


main(int(sys.argv[1]) if len(sys.argv) > 1 else 850)
