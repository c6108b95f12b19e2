"""`scripts/bench compile`: what compiling costs, by stage.

Each program is run once under `redmagic run --save-recordings`. Recording and installing need a
program, and are timed by the daemon in that run. The stages between them are timed by `redmagic
time`, which compiles the saved recordings over and over in one process, undisturbed by the target;
the median of each stage counts. All are sums over the recordings of a program, divided by the
instructions in them.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import benchdocs
import benchrun
from benchrun import BenchError, geomean, run_once
from targets import lua_paths, redmagic_path

# Column, the stages of `redmagic time` that it sums up.
COLUMNS = {
    "lift": ("lifted",),
    "observe": ("observed",),
    "forward": ("forward",),
    "peel": ("peel",),
    "sink": ("sink",),
    "dce": ("dce",),
    "renumb.": ("renumbered",),
    "emit": ("emit",),
    "copy": ("given up", "copy"),
}
ORDER = ["record", *COLUMNS, "install"]
# Files to one command line.
BATCH = 200
TARGET_US = 10


def run(root, arguments):
    lua, redmagic = lua_paths(root), redmagic_path(root)
    head = "".join(f" {name:>7}" for name in ORDER)
    print(f"{'us an instruction':<18} {'traces':>6} {'instr.':>7}{head} {'total':>7} {'session':>7} {'bytes':>6} {'not opt.':>8}", flush=True)
    rows, broken = [], []
    for program in benchrun.programs(root / "bench" / "lua", arguments.only):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(arguments.keep) / program.stem if arguments.keep else Path(temporary)
            row = measure(redmagic, lua["annotated"], program, folder, arguments.runs)
        if row is None:
            print(f"{program.stem:<18} nothing was compiled", flush=True)
            broken.append(program.stem)
            continue
        rows.append(row)
        show(row)
    if not rows:
        raise BenchError("nothing was compiled")
    whole = together(rows)
    show(whole)
    print(f"geomean of the programs' totals: {geomean(r['total_us'] for r in rows):.2f} us; the aim is at most {TARGET_US}")
    if arguments.json:
        report = {"suite": "compile", "results": rows, "all": whole, "runs": arguments.runs, "target_us": TARGET_US}
        Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")
    if arguments.docs:
        head = ["us a recorded instruction", "traces", "instructions", *ORDER, "total", "in session", "code bytes", "not optimised"]
        lines = benchdocs.table(head, [
            [row["name"], row["traces"], row["instructions"], *(f"{row['us'][name]:.2f}" for name in ORDER), f"{row['total_us']:.2f}", f"{row['session_us']:.2f}",
             f"{row['bytes_an_instruction']:.1f}", row["not_optimised"]]
            for row in [*rows, whole]
        ])
        benchdocs.write(root, "compile", lines)
    if broken:
        raise BenchError(f"nothing was compiled of {', '.join(broken)}")
    return 0


def measure(redmagic, interpreter, program, folder, repeat):
    """The row of a program; None when nothing was compiled."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.rmrec"):
        old.unlink()
    done = run_once([redmagic, "run", "--stats", "{stats}", "--save-recordings", folder, "--", interpreter, program], stats=True)
    files = sorted(folder.glob("*.rmrec"), key=lambda f: [int(n) for n in f.stem.split("-")])
    stats = done.stats
    if not files or not stats.get("instructions_compiled"):
        return None
    timed = []
    for at in range(0, len(files), BATCH):
        command = [redmagic, "time", "--json", "--repeat", str(repeat), *files[at:at + BATCH]]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode != 0:
            raise BenchError(f"`redmagic time` of {program.stem}: {found.stderr.strip()[-300:]}")
        timed += json.loads(found.stdout)
    stages = {}
    for trace in timed:
        for stage in trace["stages"]:
            stages[stage["stage"]] = stages.get(stage["stage"], 0.0) + stage["seconds"]
    known = {stage for names in COLUMNS.values() for stage in names}
    if not known >= stages.keys():
        raise BenchError(f"stages without a column: {', '.join(stages.keys() - known)}")
    install = sum(s["seconds"] for s in stats["compile_stages"] if s["stage"] == "install")
    instructions = sum(t["instructions"] for t in timed)
    seconds = {name: sum(stages.get(stage, 0.0) for stage in parts) for name, parts in COLUMNS.items()}
    # The daemon's own, scaled from what it recorded and compiled to what was saved.
    seconds["record"] = stats["emulated_ns"] * 1e-9 * instructions
    seconds["install"] = install / stats["instructions_compiled"] * instructions
    # All of it as the daemon itself timed it, beside the running program and with whatever was in the caches.
    seconds["session"] = seconds["record"] + stats["compile_s"] / stats["instructions_compiled"] * instructions
    return row_of(program.stem, len(timed), instructions, seconds, sum(t["code_bytes"] for t in timed),
                  sum(t["data_bytes"] for t in timed), sum(t["not_optimised"] is not None for t in timed))


def row_of(name, traces, instructions, seconds, code, data, copied):
    each = {stage: 1e6 * seconds[stage] / instructions for stage in ORDER}
    return {
        "name": name, "traces": traces, "instructions": instructions, "seconds": seconds, "us": each, "total_us": sum(each.values()),
        "session_us": 1e6 * seconds["session"] / instructions,
        "code_bytes": code, "data_bytes": data, "bytes_an_instruction": code / instructions, "not_optimised": copied,
    }


def together(rows):
    def total(key):
        return sum(row[key] for row in rows)

    seconds = {stage: sum(row["seconds"][stage] for row in rows) for stage in [*ORDER, "session"]}
    return row_of("all", total("traces"), total("instructions"), seconds, total("code_bytes"), total("data_bytes"), total("not_optimised"))


def show(row):
    stages = "".join(f" {row['us'][name]:7.2f}" for name in ORDER)
    print(
        f"{row['name']:<18} {row['traces']:6} {row['instructions']:7}{stages} {row['total_us']:7.2f} {row['session_us']:7.2f} "
        f"{row['bytes_an_instruction']:6.2f} {row['not_optimised']:8}",
        flush=True,
    )
