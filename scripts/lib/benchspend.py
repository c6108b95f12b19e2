"""`scripts/bench spend`: what the time of each program goes into, by samples.

`redmagic run --profile` samples where the program is about a thousand times a second, with the
innermost part of its stack; the daemon classifies the samples (crates/daemon/src/profile.rs).
"""

import json
import re
from pathlib import Path

import benchdocs
import benchrun
from benchrun import BenchError, run_once
from targets import cpython_paths, lua_paths, redmagic_path

# Column, the purposes of generated code that it sums up.
TRACES = {
    "byte guards": ("tag-guards",),
    "types": ("type-guards",),
    "apart": ("apart-guards",),
    "guards": ("guards",),
    "counts": ("counts",),
    "tags": ("tags",),
    "loads": ("loads",),
    "stores": ("stores",),
    "frames": ("native-stack",),
    "addr.": ("addresses",),
    "work": ("work",),
    "transf.": ("transfers",),
    "exits": ("exits",),
    "calls": ("calls",),
    "copied": ("copied",),
}
# Column, the counts that are no code of traces.
ELSEWHERE = ("kept calls", "interp.", "helpers", "shim", "unknown")
COLUMNS = ("in traces", *TRACES, *ELSEWHERE)
# For CPython: column, the functions whose code it is that was inlined. The first that fits counts.
INLINED = {
    "eval loop": r"_PyEval_EvalFrameDefault",
    "allocation": r"[Mm]alloc|[Ff]ree|[Aa]lloc|arena|_GC_|GC_New|Dealloc|dealloc|_New(Empty|_Frame)?$|PyFloat_FromDouble|PyLong_From|_PyLong_New|medium_value",
    "frames": r"[Ff]rame|_PyThreadState|_PyFunction_|initialize_locals|gen_|_PyGen",
    "names": r"[Aa]ttr|[Dd]ict|[Ll]ookup|unicodekeys|_PyType|descr|GetMethod|Cell",
    "numbers": r"[Ll]ong|[Ff]loat|x_add|x_sub|k_mul|mpd|PyNumber|binary_op",
    "containers": r"[Ll]ist|[Tt]uple|[Ss]et_|[Ss]lice|range|iter|PySequence|PyObject_GetItem|PyObject_SetItem|zip_|enum_",
}
KINDS = (*INLINED, "other")
# Functions that are named: those with at least this share.
NAMED = 0.02
MOST_NAMES = 4


def run(root, arguments):
    suite, suffix, paths = ("python", ".py", cpython_paths) if arguments.python else ("lua", ".lua", lua_paths)
    interpreters, redmagic = paths(root), redmagic_path(root)
    head = "".join(f" {name:>{width(name)}}" for name in COLUMNS)
    print(f"{'% of the time':<16} {'samples':>7}{head}", flush=True)
    rows = []
    for program in benchrun.programs(root / "bench" / suite, arguments.only, suffix):
        rows.append(measure(redmagic, interpreters["annotated"], program, arguments.runs))
        show(rows[-1])
    print("of the time outside of traces, by function (k: called by a trace, h: by the interpreter, ?: by whom is not known):")
    for row in rows:
        print(f"  {row['name']:<16} {names(row)}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"suite": "spend", "results": rows, "runs": arguments.runs}, indent=1) + "\n")
    if arguments.python:
        print("of the time in traces, by the kind of function that the code was made from:")
        for row in rows:
            print(f"  {row['name']:<16} {', '.join(f'{kind} {100 * share:.1f}' for kind, share in by_kind(row).items())}")
    if arguments.docs:
        lines = benchdocs.table(["% of the time", *COLUMNS], [[row["name"], *(f"{100 * row['shares'][c]:.0f}" for c in COLUMNS)] for row in rows])
        lines += ["", "Outside of traces, by function: *k* called by a trace, *h* by the interpreter, *?* by whom is not known.", ""]
        lines += benchdocs.table(["program", "function and % of the time"], [[row["name"], names(row)] for row in rows])
        if arguments.python:
            lines += ["", "In traces, by the kind of function that the code was made from:", ""]
            lines += benchdocs.table(["% of the time", *KINDS], [[row["name"], *(f"{100 * share:.0f}" for share in by_kind(row).values())] for row in rows])
        benchdocs.write(root, "spend-python" if arguments.python else "spend", lines)
    return 0


def width(name):
    return max(5, len(name))


def measure(redmagic, interpreter, program, runs):
    """The samples of all runs together, as shares."""
    total, traces, kept, helpers, unknown, inlined = 0, {}, {}, {}, {}, {}
    interpreter_samples = shim = 0
    for _ in range(runs):
        done = run_once([redmagic, "run", "--stats", "{stats}", "--profile", "--", interpreter, program], stats=True)
        profile = done.stats.get("profile")
        if profile is None:
            raise BenchError(f"{program.stem}: no samples; are perf events allowed? (kernel.perf_event_paranoid)")
        total += profile["samples"]
        interpreter_samples += profile["interpreter"]
        shim += profile["shim"]
        for sums, key in ((traces, "traces"), (inlined, "inlined"), (kept, "kept_calls"), (helpers, "helpers"), (unknown, "unknown")):
            for name, count in profile[key].items():
                sums[name] = sums.get(name, 0) + count
    known = {purpose for parts in TRACES.values() for purpose in parts}
    if not known >= traces.keys():
        raise BenchError(f"purposes without a column: {', '.join(traces.keys() - known)}")
    counts = {column: sum(traces.get(part, 0) for part in parts) for column, parts in TRACES.items()}
    counts["in traces"] = sum(traces.values())
    counts |= {
        "kept calls": sum(kept.values()), "interp.": interpreter_samples, "helpers": sum(helpers.values()),
        "shim": shim, "unknown": sum(unknown.values()),
    }
    functions = [(f"{name} {letter}", count / total) for letter, sums in (("k", kept), ("h", helpers), ("?", unknown)) for name, count in sums.items()]
    functions.sort(key=lambda item: -item[1])
    return {
        "name": program.stem, "samples": total, "shares": {column: counts[column] / total for column in COLUMNS},
        "functions": functions, "inlined": {name: count / total for name, count in inlined.items()},
    }


def by_kind(row):
    """The shares of code that was inlined, by kind of function."""
    shares = dict.fromkeys(KINDS, 0.0)
    for function, share in row["inlined"].items():
        shares[next((kind for kind, names in INLINED.items() if re.search(names, function)), "other")] += share
    return shares


def names(row):
    shown = [f"{name} {100 * share:.0f}" for name, share in row["functions"] if share >= NAMED]
    return ", ".join(shown[:MOST_NAMES]) or "-"


def show(row):
    shares = "".join(f" {100 * row['shares'][name]:{width(name)}.1f}" for name in COLUMNS)
    print(f"{row['name']:<16} {row['samples']:7}{shares}", flush=True)
