"""The subcommands of scripts/bench."""

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import benchcompile
import benchdocs
import benchrun
import benchspend
from benchrun import BenchError, geomean, median, pairs, run_once
from targets import MissingBuild, cpython_paths, lua_paths, redmagic_path

# Sizes that make each program take 50 to 300 ms: for the overhead, where many short pairs
# say more than few long ones.
OVERHEAD_SIZES = {
    "binary-trees": 11, "bounce": 6000, "fannkuch-redux": 8, "havlak": 5, "json": 15, "k-nucleotide": 30000,
    "life": 30, "list": 8, "mandelbrot": 240, "matmul": 130, "nbody": 15000, "permute": 8, "queens": 8,
    "ray": 90, "richards": 6, "sieve": 2, "spectral-norm": 200, "string-buffer": 12, "sum": 4000000, "towers": 19,
    "deltablue": 300,
}


def shown(value, form):
    return "-" if value is None else format(value, form)


def compare(root, suite, folder, arguments):
    """Plain against `redmagic run`, over a folder of programs."""
    interpreter, suffix = (cpython_paths(root), ".py") if suite == "python" else (lua_paths(root), ".lua")
    # Python: the same order of sets of strings in every run, and nothing of the user's.
    environment = {"PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    redmagic = redmagic_path(root)
    scale, unit, form = (1000, "ms", "8.1f") if suite == "short" else (1, "s", "8.3f")
    print(f"{'':<18} {'wall ' + unit:^17} {'':>8} {'':>12} {'CPU ' + unit:^26} {'peak memory MB':^20}", flush=True)
    print(
        f"{'program':<18} {'plain':>8} {'redm.':>8} {'speed-up':>8} {'interval':>12} {'plain':>8} {'target':>8} {'daemon':>8} "
        f"{'plain':>6} {'target':>6} {'daemon':>6} {'1st ms':>7} {'in traces':>9} {'traces':>9} {'aborts':>6}  output",
        flush=True,
    )
    results, broken = [], []
    for program in benchrun.programs(folder, arguments.only, suffix):
        plain = [interpreter["plain"], program]
        traced = [redmagic, "run", "--stats", "{stats}", "--", interpreter["annotated"], program]
        try:
            a, b = pairs(
                lambda: run_once(plain, env=environment), lambda: run_once(traced, env=environment, stats=True), arguments.runs
            )
        except BenchError as error:
            print(f"{program.stem:<18} {error}", flush=True)
            broken.append(program.stem)
            continue
        row = summary(program.stem, a, b)
        results.append(row)
        if not row["output_equal"]:
            broken.append(program.stem)

        def time(key):
            return shown(None if row[key] is None else row[key] * scale, form).rjust(8)

        def memory(key):
            return shown(None if row[key] is None else row[key] / 1024, "6.1f").rjust(6)

        first = row["time_to_first_trace_s"]
        print(
            f"{row['name']:<18} {time('baseline_s')} {time('redmagic_s')} {row['speedup']:8.2f} "
            f"{row['speedup_low']:5.2f}..{row['speedup_high']:5.2f} "
            f"{time('baseline_cpu_s')} {time('cpu_s')} {time('daemon_cpu_s')} "
            f"{memory('baseline_peak_rss_kb')} {memory('target_peak_rss_kb')} {memory('daemon_peak_rss_kb')} "
            f"{shown(None if first is None else first * 1000, '.0f'):>7} {shown(row['trace_time_share'], '.0%'):>9} "
            f"{shown(row['traces'], 'd') + '+' + shown(row['side_traces'], 'd'):>9} {shown(row['aborts'], 'd'):>6}  "
            f"{'equal' if row['output_equal'] else 'DIFFERS'}",
            flush=True,
        )
    extra = {"runs": arguments.runs}
    if results:
        extra |= overall(results, suite)
    if arguments.json:
        benchrun.write_json(arguments.json, suite, results, **extra)
    if arguments.docs and results:
        benchdocs.write(root, suite, comparison_table(results, suite, extra))
    if broken:
        print(f"bench: wrong or missing results: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken or not results else 0


def comparison_table(results, suite, extra):
    """The results as lines for docs/performance.md."""
    scale, unit, digits = (1000, "ms", 1) if suite == "short" else (1, "s", 2)

    def time(row, key):
        return "-" if row[key] is None else f"{row[key] * scale:.{digits}f}"

    def memory(row, key):
        return "-" if row[key] is None else f"{row[key] / 1024:.0f}"

    head = [
        "program", f"plain {unit}", f"redmagic {unit}", "speed-up", f"CPU {unit}: plain", "target", "daemon",
        "peak MB: plain", "target", "daemon", "in traces",
    ]
    rows = [
        [
            row["name"], time(row, "baseline_s"), time(row, "redmagic_s"), f"{row['speedup']:.2f}", time(row, "baseline_cpu_s"),
            time(row, "cpu_s"), time(row, "daemon_cpu_s"), memory(row, "baseline_peak_rss_kb"), memory(row, "target_peak_rss_kb"),
            memory(row, "daemon_peak_rss_kb"), shown(row["trace_time_share"], ".0%"),
        ]
        for row in results
    ]
    over = f"{len(results)} programs, {extra['runs']} pairs of runs each"
    by_cpu = f"; {extra['cpu_geomean']:.2f} by the processor time of target and daemon together" if extra["cpu_geomean"] else ""
    return [
        *benchdocs.table(head, rows), "",
        f"Geomean {geomean(r['speedup'] for r in results):.2f} over {over}; lowest {extra['lowest']:.2f} ({extra['lowest_name']}){by_cpu}.",
    ]


def overall(results, suite):
    """Prints what is said of all programs together; gives it for the JSON report."""
    low = min(results, key=lambda r: r["speedup"])
    print(f"geomean {geomean(r['speedup'] for r in results):.3f} over {len(results)} programs; lowest {low['speedup']:.3f} ({low['name']})")
    added = sorted(1000 * (r["redmagic_s"] - r["baseline_s"]) for r in results)
    print("interval: where the median of the pairs' ratios lies, 95 % sure from 6 pairs on; the range of few")
    print(f"time added per program: median {median(added):.1f} ms, most {added[-1]:.1f} ms")
    counted = [r for r in results if r["daemon_cpu_s"] is not None]
    by_cpu = geomean(r["baseline_cpu_s"] / r["total_cpu_s"] for r in counted)
    print(f"geomean by processor time of target and daemon together: {by_cpu:.3f} over {len(counted)} programs")
    report = {"lowest": low["speedup"], "lowest_name": low["name"], "cpu_geomean": None if math.isnan(by_cpu) else by_cpu}
    if suite == "short":
        report["start_s"] = median([run_once(["/bin/true"]).wall for _ in range(21)])
        print(f"of every wall time, {1000 * report['start_s']:.1f} ms are what it takes to start any program and wait for it")
    return report


def summary(name, plain, traced):
    """One row of results. Whatever the statistics do not have is None."""
    # The run with the median time stands for the rest of the numbers.
    middle = sorted(traced, key=lambda r: r.wall)[len(traced) // 2]
    stats = middle.stats
    baseline, redmagic = median([r.wall for r in plain]), median([r.wall for r in traced])
    reference = plain[0]
    equal = all(benchrun.same(reference, r) for r in plain + traced)
    row = {"name": name, "baseline_s": baseline, "redmagic_s": redmagic, "speedup": baseline / redmagic, "output_equal": equal}
    row["speedup_low"], row["speedup_high"] = benchrun.median_interval([a.wall / b.wall for a, b in zip(plain, traced)])
    row["baseline_cpu_s"] = median([r.cpu for r in plain])
    row["baseline_peak_rss_kb"] = largest(r.rss for r in plain)
    row["cpu_s"] = middle.cpu
    row["target_peak_rss_kb"] = largest(r.rss for r in traced)
    for key in (
        "time_to_first_trace_s", "trace_time_share", "traces", "side_traces", "aborts", "abort_reasons", "code_bytes",
        "record_s", "instructions_recorded", "daemon_cpu_s", "not_optimised",
    ):
        row[key] = stats.get(key)
    row["total_cpu_s"] = None if row["daemon_cpu_s"] is None else row["cpu_s"] + row["daemon_cpu_s"]
    row["daemon_peak_rss_kb"] = largest(r.stats.get("daemon_peak_rss_kb") for r in traced)
    # Pages that both map (the regions) are counted on both sides.
    row["peak_rss_kb"] = None if row["target_peak_rss_kb"] is None else row["target_peak_rss_kb"] + (row["daemon_peak_rss_kb"] or 0)
    return row


def largest(values):
    """The largest that there is; None of none."""
    return max((v for v in values if v is not None), default=None)


def overhead(root, arguments):
    """Annotated with no daemon against plain."""
    lua = lua_paths(root)
    chosen = benchrun.programs(root / "bench" / "lua", arguments.only)
    if arguments.callgrind:
        return overhead_instructions(chosen, lua, arguments)
    results, wrong = [], []
    print(f"{'program':<16} {'plain s':>8} {'annot. s':>8} {'ratio':>7}   95 % interval", flush=True)
    for program in chosen:
        size = [str(OVERHEAD_SIZES[program.stem])] if program.stem in OVERHEAD_SIZES else []
        command = {name: [path, program, *size] for name, path in lua.items()}
        a, b = pairs(lambda: run_once(command["plain"]), lambda: run_once(command["annotated"]), arguments.runs)
        # Processor time, not wall time: what other programs take is no part of the question.
        ratios = [y.cpu / x.cpu for x, y in zip(a, b)]
        low, high = benchrun.median_interval(ratios)
        ratio = median(ratios)
        equal = all(benchrun.same(a[0], r) for r in a + b)
        if not equal:
            wrong.append(program.stem)
        plain, annotated = median([r.cpu for r in a]), median([r.cpu for r in b])
        results.append({"name": program.stem, "baseline_s": plain, "redmagic_s": annotated, "speedup": 1 / ratio, "output_equal": equal, "ratio": ratio, "ratio_low": low, "ratio_high": high})
        print(f"{program.stem:<16} {plain:8.4f} {annotated:8.4f} {ratio:7.4f}   {low:.4f} .. {high:.4f}", flush=True)
    overall = geomean(r["ratio"] for r in results)
    print(f"geomean of annotated / plain: {overall:.4f} over {len(results)} programs, {arguments.runs} pairs each")
    return finish_overhead(arguments, "overhead", results, wrong, overall)


def overhead_instructions(chosen, lua, arguments):
    """Instructions executed, as callgrind counts them: the same at every run."""
    if shutil.which("valgrind") is None:
        raise MissingBuild("valgrind is missing; to get it: apt-get install valgrind")
    results, wrong = [], []
    print(f"{'program':<16} {'plain':>14} {'annotated':>14} {'ratio':>7}", flush=True)
    for program in chosen:
        size = [str(OVERHEAD_SIZES[program.stem])] if program.stem in OVERHEAD_SIZES else []
        counts, outputs = {}, {}
        for name, path in lua.items():
            counts[name], outputs[name] = count_instructions([str(path), str(program), *size])
        equal = outputs["plain"] == outputs["annotated"]
        if not equal:
            wrong.append(program.stem)
        ratio = counts["annotated"] / counts["plain"]
        results.append({"name": program.stem, "baseline_s": None, "redmagic_s": None, "speedup": 1 / ratio, "output_equal": equal, "ratio": ratio, "baseline_instructions": counts["plain"], "annotated_instructions": counts["annotated"]})
        print(f"{program.stem:<16} {counts['plain']:14,} {counts['annotated']:14,} {ratio:7.4f}", flush=True)
    overall = geomean(r["ratio"] for r in results)
    print(f"geomean of instructions, annotated / plain: {overall:.4f} over {len(results)} programs")
    return finish_overhead(arguments, "overhead-instructions", results, wrong, overall)


def count_instructions(command):
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={log}", *command],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False,
        )
        match = re.search(r"Collected : (\d+)", log.read_text(errors="replace"))
    if done.returncode != 0 or match is None:
        raise BenchError(f"`valgrind ... {' '.join(command)}` failed: {done.stderr.decode(errors='replace')[-300:]}")
    return int(match[1]), done.stdout


def finish_overhead(arguments, suite, results, wrong, overall):
    if arguments.json:
        benchrun.write_json(arguments.json, suite, results, ratio_geomean=overall)
    if wrong:
        print(f"bench: wrong output: {', '.join(wrong)}", file=sys.stderr)
        return 1
    if arguments.limit is not None and overall > 1 + arguments.limit / 100:
        print(f"bench: the overhead is above {arguments.limit} %", file=sys.stderr)
        return 1
    return 0


def recording(root, arguments):
    """What recording costs: both recorders on the same start states, and how long threads wait."""
    lua, redmagic = lua_paths(root), redmagic_path(root)
    print(f"{'program':<16} {'both ways':>9} {'emul. ns':>9} {'step. ns':>9} {'ratio':>6} {'ns exec.':>9} {'stepped':>8} {'pauses':>7} {'median us':>9} {'99 % us':>8}", flush=True)
    rows, pauses, broken = [], [], []
    for program in benchrun.programs(root / "bench" / "lua", arguments.only):
        size = [str(OVERHEAD_SIZES[program.stem])] if program.stem in OVERHEAD_SIZES and not arguments.full else []
        command = [redmagic, "run", "--stats", "{stats}", "--", lua["annotated"], program, *size]
        # Both ways: the thread waits for its steps too, so that the pauses are measured in runs of their own.
        both = run_once(command, env={"REDMAGIC_AFTER": "0", "REDMAGIC_RECORDER": "2", "REDMAGIC_RECORDSHARE": "100"}, stats=True).stats
        waits, stepped = [], 0
        for _ in range(arguments.runs):
            alone = run_once(command, env={"REDMAGIC_AFTER": "0"}, stats=True).stats
            waits += alone.get("pauses_us", [])
            stepped += alone.get("stepped", 0)
        if not both or both.get("emulated_ns", 0) == 0 or both["stepped_ns"] == 0:
            broken.append(program.stem)
            print(f"{program.stem:<16} nothing was recorded both ways", flush=True)
            continue
        row = {
            "name": program.stem, "agreed": both["recorders_agreed"], "differed": both["recorders_differed"],
            "emulated_ns": both["emulated_ns"], "stepped_ns": both["stepped_ns"], "executed_ns": both["executed_ns"],
            "ratio": both["stepped_ns"] / both["emulated_ns"], "stepped": stepped, "pauses": len(waits), "needs_real": both["needs_real"],
        }
        rows.append(row)
        pauses += waits
        if row["differed"]:
            broken.append(program.stem)
        print(
            f"{row['name']:<16} {row['agreed']:9} {row['emulated_ns']:9.0f} {row['stepped_ns']:9.0f} {row['ratio']:6.0f} {row['executed_ns']:9.0f} "
            f"{stepped:8} {len(waits):7} {quantile(waits, 0.5):9.0f} {quantile(waits, 0.99):8.0f}",
            flush=True,
        )
    if rows:
        emulated, stepped = geomean(r["emulated_ns"] for r in rows), geomean(r["stepped_ns"] for r in rows)
        print(f"geomean: {emulated:.0f} ns a recorded instruction emulating, {stepped:.0f} stepping: {stepped / emulated:.0f} times; "
              f"{geomean(r['executed_ns'] for r in rows):.0f} ns an executed instruction")
        print(f"{len(pauses)} pauses: median {quantile(pauses, 0.5):.0f} us, 99th percentile {quantile(pauses, 0.99):.0f} us, longest {max(pauses, default=0)} us; "
              f"{sum(r['stepped'] for r in rows)} recordings were stepped")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"suite": "record", "results": rows, "pause_p99_us": quantile(pauses, 0.99), "pauses": len(pauses)}, indent=1) + "\n")
    if broken:
        print(f"bench: recorders differ, or nothing was recorded: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def quantile(values, share):
    """The value that a share of all values do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1] if ordered else 0


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def main(root, argv):
    parser = argparse.ArgumentParser(prog="bench", description="Benchmarks of Redmagic with Lua and CPython.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, runs, text in (
        ("lua", 3, "the suite of bench/lua: plain against redmagic run"),
        ("short", 21, "the short scripts of bench/short: plain against redmagic run"),
        ("python", 3, "the suite of bench/python: plain CPython against redmagic run"),
        ("record", 3, "what recording costs, emulating and stepping, and how long threads wait for it"),
        ("overhead", 25, "plain against annotated with no daemon (processor time)"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--json", metavar="FILE", help="write the results as JSON")
        sub.add_argument("--runs", type=positive, default=runs, metavar="N", help=f"pairs of runs for each program (default {runs})")
        sub.add_argument("--only", metavar="NAME,...", help="only these programs")
        if name in ("lua", "short", "python"):
            sub.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
        if name == "record":
            sub.add_argument("--full", action="store_true", help="programs at their full sizes")
        if name == "overhead":
            sub.add_argument("--callgrind", action="store_true", help="count instructions with valgrind: repeatable, in place of times")
            sub.add_argument("--limit", type=float, metavar="PERCENT", help="fail when the geomean is above")
    text = "compiling: microseconds a recorded instruction, by stage, over the recordings of bench/lua"
    sub = commands.add_parser("compile", help=text, description=text)
    sub.add_argument("--json", metavar="FILE", help="write the results as JSON")
    sub.add_argument("--runs", type=positive, default=5, metavar="N", help="times that each recording is compiled; medians count (default 5)")
    sub.add_argument("--only", metavar="NAME,...", help="only these programs")
    sub.add_argument("--keep", metavar="FOLDER", help="where to leave the recordings, a folder for each program")
    sub.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
    text = "what the time of the programs of bench/lua goes into, by samples"
    sub = commands.add_parser("spend", help=text, description=text)
    sub.add_argument("--python", action="store_true", help="of the programs of bench/python")
    sub.add_argument("--json", metavar="FILE", help="write the results as JSON")
    sub.add_argument("--runs", type=positive, default=2, metavar="N", help="runs of each program, whose samples are added up (default 2)")
    sub.add_argument("--only", metavar="NAME,...", help="only these programs")
    sub.add_argument("--docs", action="store_true", help="write the tables into docs/performance.md")
    text = "lua, python, short, compile and spend: all of docs/performance.md anew; takes about a quarter of an hour"
    commands.add_parser("docs", help=text, description=text)
    text = "lifting: instructions a second on one core (criterion)"
    commands.add_parser("lift", help=text, description=text)
    arguments = parser.parse_args(argv)
    if arguments.command == "lift":
        return subprocess.run(["cargo", "bench", "--quiet", "-p", "redmagic-lift", "--bench", "lift"], cwd=root).returncode
    try:
        if arguments.command == "overhead":
            return overhead(root, arguments)
        if arguments.command == "docs":
            # Each as its own command line says by default.
            tables = (["lua"], ["python"], ["short"], ["compile"], ["spend"], ["spend", "--python"])
            return max(main(root, [*words, "--docs"]) for words in tables)
        if arguments.command == "compile":
            return benchcompile.run(root, arguments)
        if arguments.command == "spend":
            return benchspend.run(root, arguments)
        if arguments.command == "record":
            return recording(root, arguments)
        return compare(root, arguments.command, root / "bench" / arguments.command, arguments)
    except (MissingBuild, BenchError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
