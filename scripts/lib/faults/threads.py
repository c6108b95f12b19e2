"""Four threads in one process, each running the loop."""

import json

from .common import EAGER, Run, plain, target


def section(settings):
    command = [target("threads"), "4000000", "4"]
    expected = plain(command)
    compiled = notes = 0
    for env in (None, EAGER):
        for _ in range(settings.count(20, 3)):
            stats = settings.folder / "stats"
            run = Run(settings, command, env=env, options=["--stats", stats])
            got = run.wait()
            settings.check(got.same(expected), "threads", f"got {got}, expected {expected}")
            settings.check(not run.leftovers(), "threads", "a daemon is left")
            status = json.loads(stats.read_text())
            compiled += len(status) and 1
            notes += status.get("notes", 0)
            stats.unlink()
    # More threads than there are park areas.
    many = [target("threads"), "200000", "100"]
    got = Run(settings, many, env=EAGER).wait()
    settings.check(got.same(plain(many)), "threads: 100", got)
    settings.check(compiled > 0, "threads", "no statistics")
    # What is hot while something else is compiled need not wait to say so.
    settings.check(notes > 0, "threads", "all have waited for an answer")
