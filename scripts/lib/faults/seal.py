"""The sealed mappings: the target cannot change code or entries, whatever it tries."""

from .common import EAGER, Run, plain, target


def section(settings):
    alone = plain([target("seal")])
    settings.check(alone.out.startswith(b"regions 0"), "seal: plain", alone)
    got = Run(settings, [target("seal")], env=EAGER).wait()
    lines = got.out.decode().splitlines()
    settings.check(lines[:1] == ["regions 2"], "seal", got)
    settings.check(got.status == 0 and "ALLOWED" not in got.out.decode(), "seal", got.out.decode())
    settings.check(lines[-1:] == alone.out.decode().splitlines()[-1:], "seal: result", got)
    # That the tries were really made: at least these per region.
    for way in ("mprotect(write)", "mmap(re-opened)", "write(re-opened)", "write(descriptor)", "/proc/self/mem"):
        settings.check(sum(way in line for line in lines) >= 2, "seal: tried", f"{way} was not tried twice")
    for line in lines[1:-1]:
        print("  " + line)
