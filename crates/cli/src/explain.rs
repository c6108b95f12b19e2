//! `redmagic explain`: what keeps each hot loop from being compiled or from being fast, for people.

use std::path::Path;

use anyhow::{Context, bail};
use redmagic_daemon::explain::{ExitNote, Explanation, Loop, TraceNote};
use redmagic_record::abort::Abort;

/// Loops that do not matter are not listed when there are many: this many always are.
const ALWAYS: usize = 10;
/// Share of the time, or of the exits, from which a loop or trace matters.
const MATTERS: f64 = 0.01;
/// Share of all exits from which an exit without a side trace is named.
const HOT_EXIT: f64 = 0.01;
/// Fewer times is no news.
const OFTEN: u64 = 50;
/// Kept calls that are named.
const CALLS: usize = 4;

/// Out of the file that `run --stats` has left.
///
/// # Errors
/// A file that cannot be read, or has no explanation.
pub fn from_stats(file: &Path) -> anyhow::Result<Explanation> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} is not read", file.display()))?;
    let mut stats: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} holds no statistics", file.display()))?;
    if stats.get("session") == Some(&serde_json::Value::Bool(false)) {
        bail!(
            "the program ended before it had a session: it ran plain, and REDMAGIC_AFTER says from when on it has one"
        );
    }
    let found = stats.get_mut("explanation").map(serde_json::Value::take);
    let found = found.with_context(|| format!("{} says nothing of loops", file.display()))?;
    serde_json::from_value(found).with_context(|| format!("{} is of another version", file.display()))
}

/// As text.
pub fn text(explanation: &Explanation) -> String {
    let mut out = format!(
        "process {}: {} loops asked to be recorded",
        explanation.pid,
        explanation.loops.len()
    );
    if let Some(share) = explanation.time_share {
        out += &format!(
            "; {:.0}% of {} samples were in traces",
            share * 100.0,
            explanation.samples
        );
    }
    out += "\n";
    if explanation.full {
        out += "  the code region is full: nothing more is compiled; REDMAGIC_CODESIZE sets its size\n";
    }
    if explanation.untraceable {
        out += "  nothing that got hot can be traced: the session rests, and looks again now and then\n";
    }
    if let Some(measured) = &explanation.measured {
        out += &format!(
            "  measured {} times, REDMAGIC_PAYOFF: {:.2} times as fast with traces{}\n",
            measured.times,
            measured.gain,
            if measured.resting { "; they rest" } else { "" }
        );
    }
    if explanation.postponed > 0 {
        out += &format!(
            "  recording was put off {} times: it has its share of the time, REDMAGIC_RECORDSHARE\n",
            explanation.postponed
        );
    }
    if explanation.dropped > 0 {
        out += &format!("  {} roots were dropped with their bytecode\n", explanation.dropped);
    }
    if let Some(turns) = explanation.nearest_turns {
        out += &format!(
            "  {} loops are not hot: the nearest has {turns} turns to go\n",
            explanation.lukewarm
        );
    }
    let mut left_out = 0;
    for (at, of) in explanation.loops.iter().enumerate() {
        let matters = of.time_share.unwrap_or(0.0) >= MATTERS || of.exit_share >= MATTERS || of.traces.is_empty();
        if at < ALWAYS || matters {
            out += &one_loop(of);
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        out += &format!("{left_out} more loops matter little (--json has them)\n");
    }
    out
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

fn reason(name: &str) -> String {
    match Abort::ALL.iter().find(|reason| reason.name() == name) {
        Some(reason) => format!("{name} ({})", reason.explanation()),
        None => name.to_owned(),
    }
}

fn one_loop(of: &Loop) -> String {
    let mut out = format!("{} id {:#x} at {}: ", of.api, of.id, of.place);
    let side = of.traces.iter().filter(|trace| trace.side_of.is_some()).count();
    out += &match of.state.as_str() {
        "compiled" => format!("compiled, {side} side traces"),
        "blacklisted" => format!(
            "not compiled, and not tried again after {} aborted recordings",
            of.aborts
        ),
        "backing-off" => format!("not compiled, to be tried again after {} aborted recordings", of.aborts),
        "waiting" => "hot, waits for its turn to be recorded".to_owned(),
        _ => "not compiled yet".to_owned(),
    };
    if let Some(turns) = of.turns_left {
        out += &format!(" in {turns} turns");
    }
    if let Some(share) = of.time_share.filter(|share| *share > 0.0) {
        out += &format!(", {} of the time", percent(share));
    }
    if of.exit_share > 0.0 {
        out += &format!(", {} of the exits", percent(of.exit_share));
    }
    out += "\n";
    for (name, count) in &of.abort_reasons {
        out += &format!("    aborted {count} x {}\n", reason(name));
    }
    let shown = |trace: &&TraceNote| {
        trace.side_of.is_none() || trace.time_share.unwrap_or(0.0) >= MATTERS || trace.hot_exits.iter().any(is_hot)
    };
    for trace in of.traces.iter().filter(shown) {
        out += &one_trace(trace);
    }
    let hidden = of.traces.len() - of.traces.iter().filter(shown).count();
    if hidden > 0 {
        out += &format!("  {hidden} more traces matter little\n");
    }
    out
}

fn is_hot(exit: &ExitNote) -> bool {
    exit.share >= HOT_EXIT && exit.taken >= OFTEN
}

fn one_trace(trace: &TraceNote) -> String {
    let mut out = format!("  trace {}", trace.trace);
    if let Some((exit, parent)) = trace.side_of {
        out += &format!(" from exit {exit} of trace {parent}");
    }
    out += &format!(": {} instructions", trace.instructions);
    out += &match (trace.operations, trace.body_operations) {
        (Some(all), Some(body)) => format!(", {body} operations in the loop of {all}"),
        (Some(all), None) => format!(", {all} operations"),
        (None, _) => String::new(),
    };
    out += &format!(", {} bytes, {} exits", trace.code_bytes, trace.exits);
    out += match trace.shape.as_str() {
        "loop" => ", a loop",
        "repeat" => ", goes round through its anchor",
        "link" => ", goes on in another trace",
        "unlinked" => ", ends at a loop without a trace",
        _ => ", ends in the original code",
    };
    if let Some(share) = trace.time_share {
        out += &format!(", {} of the time", percent(share));
    }
    out += "\n";
    if trace.tier == "copied" {
        out += &match &trace.not_optimised {
            Some((kind, story)) => format!("    copied, not optimised: {kind}: {story}\n"),
            None => "    copied: optimising is off\n".to_owned(),
        };
    }
    match trace.not_peeled.as_deref() {
        Some("kept-calls") => {
            out += "    no loop of its own: every turn loads and checks anew, because calls are kept as calls\n";
        }
        Some("too-long") => out += "    no loop of its own: it is longer than REDMAGIC_MAXPEEL\n",
        Some(_) => {
            out += "    no loop of its own: a second turn goes another way or at another depth of the stack, or what it would carry does not settle\n"
        }
        None => {}
    }
    if !trace.kept_calls.is_empty() {
        let calls = trace.kept_calls.iter().take(CALLS).map(|(name, count)| match count {
            1 => name.clone(),
            _ => format!("{name} x {count}"),
        });
        let mut calls: Vec<String> = calls.collect();
        if trace.kept_calls.len() > CALLS {
            calls.push(format!("{} more", trace.kept_calls.len() - CALLS));
        }
        out += &format!("    keeps calls: {}\n", calls.join(", "));
    }
    for exit in trace.hot_exits.iter().filter(|exit| is_hot(exit)) {
        out += &one_exit(exit);
    }
    out
}

fn one_exit(exit: &ExitNote) -> String {
    let aborted = || {
        let last = exit.last_abort.as_deref().map_or_else(|| "unknown".to_owned(), reason);
        format!("{} aborted recordings, the last {last}", exit.aborts)
    };
    let why = match exit.state.as_str() {
        "given-up" => format!("given up after {}", aborted()),
        "side-limit" => "its tree has its fill of side traces, REDMAGIC_MAXSIDE".to_owned(),
        "dropped" => "its tree is no longer used".to_owned(),
        "backing-off" => format!("backing off after {}", aborted()),
        "waiting" => "waits for its turn to be recorded".to_owned(),
        _ => "not hot yet".to_owned(),
    };
    let left = exit.left.map_or_else(String::new, |left| format!(", {left} to go"));
    format!(
        "    exit {} to {}: taken {} times, {} of the exits, no side trace: {why}{left}\n",
        exit.exit,
        exit.place,
        exit.taken,
        percent(exit.share),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Explanation {
        let exit = ExitNote {
            exit: 7,
            place: "run+0x40".into(),
            taken: 5000,
            share: 0.8,
            state: "given-up".into(),
            aborts: 4,
            last_abort: Some("too-long".into()),
            left: None,
        };
        let rare = ExitNote {
            exit: 8,
            share: 0.2,
            taken: 3,
            state: "counting".into(),
            left: Some(997),
            ..exit.clone()
        };
        let root = TraceNote {
            trace: 0,
            tier: "optimised".into(),
            shape: "repeat".into(),
            not_peeled: Some("kept-calls".into()),
            kept_calls: vec![("table_insert".into(), 3), ("memcpy".into(), 1)],
            instructions: 100,
            operations: Some(60),
            code_bytes: 900,
            exits: 12,
            time_share: Some(0.5),
            hot_exits: vec![exit, rare],
            ..TraceNote::default()
        };
        let side = TraceNote {
            trace: 1,
            side_of: Some((3, 0)),
            tier: "copied".into(),
            not_optimised: Some(("emitter".into(), "out of registers".into())),
            shape: "link".into(),
            time_share: Some(0.3),
            ..TraceNote::default()
        };
        let compiled = Loop {
            api: "backwards_branch".into(),
            id: 0x10,
            place: "run+0x20".into(),
            state: "compiled".into(),
            time_share: Some(0.8),
            exit_share: 1.0,
            traces: vec![root, side],
            ..Loop::default()
        };
        let given_up = Loop {
            api: "function_entry".into(),
            id: 0x20,
            place: "run+0x60".into(),
            state: "blacklisted".into(),
            aborts: 4,
            abort_reasons: [("inner-loop".to_owned(), 2), ("too-long".to_owned(), 4)].into(),
            ..Loop::default()
        };
        Explanation {
            pid: 1,
            samples: 100,
            time_share: Some(0.8),
            loops: vec![compiled, given_up],
            lukewarm: 2,
            nearest_turns: Some(12),
            ..Explanation::default()
        }
    }

    #[test]
    fn what_keeps_loops_slow_is_named() {
        let text = text(&example());
        for part in [
            "process 1: 2 loops asked to be recorded; 80% of 100 samples were in traces",
            "2 loops are not hot: the nearest has 12 turns to go",
            "backwards_branch id 0x10 at run+0x20: compiled, 1 side traces, 80% of the time, 100% of the exits",
            "trace 0: 100 instructions, 60 operations, 900 bytes, 12 exits, goes round through its anchor, 50% of the time",
            "because calls are kept as calls",
            "keeps calls: table_insert x 3, memcpy",
            "exit 7 to run+0x40: taken 5000 times, 80% of the exits, no side trace: given up after 4 aborted recordings, the last too-long (",
            "trace 1 from exit 3 of trace 0:",
            "copied, not optimised: emitter: out of registers",
            "function_entry id 0x20 at run+0x60: not compiled, and not tried again after 4 aborted recordings",
            "aborted 2 x inner-loop (an inner loop",
            "aborted 4 x too-long (more",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("exit 8"), "three times are no news:\n{text}");
    }

    #[test]
    fn statistics_hold_an_explanation_or_say_why_not() {
        let file = std::env::temp_dir().join(format!("redmagic-explain-{}", std::process::id()));
        let read = |content: &str| {
            std::fs::write(&file, content).unwrap();
            from_stats(&file)
        };
        let whole = serde_json::json!({ "pid": 1, "explanation": example() }).to_string();
        assert_eq!(read(&whole).unwrap(), example());
        for (content, message) in [
            ("{\"session\": false}", "before it had a session"),
            ("{}", "says nothing of loops"),
            ("{\"explanation\": 3}", "another version"),
            ("?", "no statistics"),
        ] {
            let error = format!("{:#}", read(content).unwrap_err());
            assert!(error.contains(message), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
    }
}
