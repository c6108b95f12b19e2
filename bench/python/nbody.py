"""The Jovian planets: floats in lists, an inner loop over pairs."""
import sys
from itertools import combinations

PI = 3.141592653589793
SOLAR_MASS = 4 * PI * PI
DAYS = 365.24


def bodies():
    return [
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], SOLAR_MASS],
        [[4.84143144246472082945e00, -1.16032004402742839362e00, -1.03622044471123109494e-01],
         [1.66007664274403694959e-03 * DAYS, 7.69901118419740425080e-03 * DAYS, -6.90460016972063023554e-05 * DAYS], 9.54791938424326609124e-04 * SOLAR_MASS],
        [[8.34336671824457987790e00, 4.12479856412430479268e00, -4.03523417114321381293e-01],
         [-2.76742510726411917862e-03 * DAYS, 4.99852801234917238954e-03 * DAYS, 2.30417297573763929463e-05 * DAYS], 2.85885980666130812119e-04 * SOLAR_MASS],
        [[1.28943695621391310164e01, -1.51111514016986312525e01, -2.23307578892655733682e-01],
         [2.96460137564761618652e-03 * DAYS, 2.37847173959480950187e-03 * DAYS, -2.96589568540237556131e-05 * DAYS], 4.36624404335156298062e-05 * SOLAR_MASS],
        [[1.53796971148509165498e01, -2.59193146099879641146e01, 1.79258772950371181757e-01],
         [2.68067772490389322072e-03 * DAYS, 1.62824170038242295431e-03 * DAYS, -9.51592254519715870971e-05 * DAYS], 5.15138902046611451304e-05 * SOLAR_MASS],
    ]


def advance(dt, n, system, pairs):
    for _ in range(n):
        for (p, v, m), (q, w, k) in pairs:
            dx = p[0] - q[0]
            dy = p[1] - q[1]
            dz = p[2] - q[2]
            mag = dt * ((dx * dx + dy * dy + dz * dz) ** -1.5)
            a, b = m * mag, k * mag
            v[0] -= dx * b
            v[1] -= dy * b
            v[2] -= dz * b
            w[0] += dx * a
            w[1] += dy * a
            w[2] += dz * a
        for p, v, m in system:
            p[0] += dt * v[0]
            p[1] += dt * v[1]
            p[2] += dt * v[2]


def energy(system, pairs):
    e = 0.0
    for (p, _, m), (q, _, k) in pairs:
        e -= m * k / sum((a - b) ** 2 for a, b in zip(p, q)) ** 0.5
    for _, v, m in system:
        e += m * sum(x * x for x in v) / 2.0
    return e


def main(n):
    system = bodies()
    pairs = list(combinations(system, 2))
    momentum = [sum(v[i] * m for _, v, m in system) for i in range(3)]
    system[0][1] = [-p / SOLAR_MASS for p in momentum]
    print(f"{energy(system, pairs):.9f}")
    advance(0.01, n, system, pairs)
    print(f"{energy(system, pairs):.9f}")


main(int(sys.argv[1]) if len(sys.argv) > 1 else 420000)
