//! What a target's time goes into, by samples: the classification behind `scripts/bench spend`.
//!
//! * A sample in generated code counts for what the code at that address is for ([`redmagic_engine::notes::Purpose`]).
//! * One in a function that has anchors is interpretation, in the shim it is the anchors' own cost.
//! * One elsewhere belongs to whoever called: the innermost return address on its stack that lies in generated code (a call
//!   that a trace keeps) or in a function with anchors (a helper of the interpreter). When the innermost 8 KiB of the
//!   stack hold none, it is counted as of unknown origin.
//!
//! A word on the stack that only looks like a return address (of a frame that is gone) can mislead the last rule.
//! The kernel is not sampled. A sample names the instruction that was about to be executed, so that what an instruction
//! waited for may count for the one after it.

use std::collections::{BTreeMap, HashSet};

use redmagic_engine::Engine;
use redmagic_engine::graph::Trace;
use redmagic_engine::notes::{Purpose, Stretch};
use serde::Serialize;

use crate::names::Names;
use crate::sample::Samples;
use crate::session::{Session, lock};

/// Counts of samples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// All of them.
    pub samples: u64,
    /// In generated code, by purpose.
    pub traces: BTreeMap<&'static str, u64>,
    /// In generated code, by the function of the program that it was made from.
    pub inlined: BTreeMap<String, u64>,
    /// In calls that traces keep, by the function that the trace calls.
    pub kept_calls: BTreeMap<String, u64>,
    /// In the functions that have anchors.
    pub interpreter: u64,
    /// In what they call, by function.
    pub helpers: BTreeMap<String, u64>,
    /// In the shim.
    pub shim: u64,
    /// Of unknown origin, by function.
    pub unknown: BTreeMap<String, u64>,
}

/// Of a session whose sampler keeps stacks.
pub fn profile(session: &Session) -> Option<Profile> {
    session.take_samples();
    let sampler = lock(&session.sampler);
    let samples = sampler.as_ref().filter(|sampler| sampler.is_deep())?.samples().clone();
    drop(sampler);
    let names = Names::read(session);
    Some(classify(&samples, &lock(&session.engine), &names))
}

fn classify(samples: &Samples, engine: &Engine, names: &Names) -> Profile {
    let graph = engine.graph();
    let anchors = graph
        .anchors
        .keys()
        .filter_map(|key| names.function(key.return_address));
    let interpreters: HashSet<&str> = anchors.collect();
    let places = graph.traces.iter().flat_map(|trace| {
        let starts = [trace.code.hot.start, trace.code.cold.start];
        starts.map(|start| (start, trace))
    });
    let mut traces: Vec<(u64, &Trace)> = places.collect();
    traces.sort_by_key(|(start, _)| *start);
    let mut out = Profile {
        samples: samples.all,
        ..Profile::default()
    };
    for (address, count) in &samples.inside {
        let stretch = trace_at(&traces, *address).and_then(|trace| stretch_at(trace, *address));
        // What precedes the first trace is there for unwinders only; of a trace without notes nothing is known.
        let purpose = stretch.map_or(Purpose::Exits, |stretch| stretch.purpose);
        *out.traces.entry(purpose.name()).or_default() += count;
        let origin = stretch.map_or(0, |stretch| stretch.origin);
        let function = if origin == 0 {
            "-".to_owned()
        } else {
            names.whole(origin)
        };
        *out.inlined.entry(function).or_default() += count;
    }
    for (ip, callers) in &samples.outside {
        let own = names.function(*ip);
        if own.is_some_and(|name| interpreters.contains(name)) {
            out.interpreter += 1;
            continue;
        }
        if own.is_some_and(|name| name.starts_with("redmagic_") || name.contains("8redmagic")) {
            out.shim += 1;
            continue;
        }
        let caller = callers.iter().find_map(|address| {
            if engine.cache().contains(*address) {
                return Some(Some(callee(engine, trace_at(&traces, *address), names, *address)));
            }
            let function = names.function(*address)?;
            interpreters.contains(function).then_some(None)
        });
        let counts = match caller {
            Some(Some(callee)) => out.kept_calls.entry(callee),
            Some(None) => out.helpers.entry(names.whole(*ip)),
            None => out.unknown.entry(names.whole(*ip)),
        };
        *counts.or_default() += 1;
    }
    out
}

fn stretch_at(trace: &Trace, address: u64) -> Option<Stretch> {
    let offset = trace.code.offset(address)? as u32;
    let after = trace.notes.purposes.partition_point(|stretch| stretch.from <= offset);
    after.checked_sub(1).map(|at| trace.notes.purposes[at])
}

/// The trace whose code an address is in; `traces` are sorted by the addresses of their code, and of their stubs.
fn trace_at<'a>(traces: &[(u64, &'a Trace)], address: u64) -> Option<&'a Trace> {
    let after = traces.partition_point(|(start, _)| *start <= address);
    traces.get(after.checked_sub(1)?).map(|(_, trace)| *trace)
}

/// The function that the call before a return address in generated code calls.
fn callee(engine: &Engine, trace: Option<&Trace>, names: &Names, return_address: u64) -> String {
    let calls = || trace.into_iter().flat_map(|trace| trace.notes.kept_calls.keys());
    let direct = engine.cache().bytes(return_address.wrapping_sub(5), 5);
    let Some([0xe8, a, b, c, d]) = direct.as_deref() else {
        return "through a pointer".to_owned();
    };
    let target = return_address.wrapping_add_signed(i64::from(i32::from_le_bytes([*a, *b, *c, *d])));
    if calls().any(|callee| *callee == target) {
        return names.whole(target);
    }
    // A stub of the dynamic linker's, which leads to another file: to one of those that the trace calls.
    let mut elsewhere = calls().filter(|callee| names.file(**callee) != names.file(target));
    match (elsewhere.next(), elsewhere.next()) {
        (Some(only), None) => names.whole(*only),
        _ => "libraries".to_owned(),
    }
}
