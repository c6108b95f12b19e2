//! The optimiser: passes over the trace IR.
//!
//! The shape is that of LuaJIT and yk: a *forward chain*. Each operation of the lifted trace is fed through the passes
//! once, in order, and is appended to the new trace, found equal to an earlier value, or dropped. [`peel`] then feeds the
//! result a second time with substituted operands, so that every pass works across the loop edge without knowing of
//! loops (the essay at the head of LuaJIT's `lj_opt_loop.c` says why this beats loop-invariant code motion for traces full
//! of guards). [`sink`] and [`dce`] walk backwards over the whole trace afterwards.
//!
//! Nothing here knows of processes. What may be relied on comes in as [`Input`]: which memory is constant, what the
//! values were when the trace was recorded (for heuristics and promotion, never for correctness).
//!
//! The rules that keep traces sound, and where each is kept:
//!
//! * *Exact exits*: snapshots are fed like operands; nothing drops a register from one.
//! * *Aliasing is proved or guarded*: [`forward::memory`].
//! * *Polled words are seen*: [`peel`] makes every loop fall back into its entry after [`Input::iterations`] turns.
//! * *No load moves above the guard that protects it*: nothing moves; an operation stays where it is or goes.
//! * *Residual calls*: a call ends what is known of memory and of values ([`Cx::forget`]), so that nothing but constants,
//!   the stack pointer and registers that the callee keeps is live across it.

pub mod cx;
pub mod dce;
pub mod equal;
pub mod forward;
pub mod graft;
pub mod peel;
pub mod sink;

pub use cx::{Constant, ConstantMemory, Cx, Failed, Input, Relied};

use std::collections::BTreeSet;

use dce::Renumbered;
use forward::memory::{Extents, Facts, Lasting, Verdict};
use forward::sizes::Shifts;
use forward::stronger::Later;
use redmagic_ir::{End, Trace};

/// A pass over the whole trace, after the forward chain.
type Backward = fn(Trace, &Facts) -> (Trace, Renumbered);

/// Sees the trace after a stage, which it is told the name of.
pub type After<'a> = &'a mut dyn FnMut(&'static str, &Trace);

/// The passes by name, in their usual order.
pub const PASSES: &[&str] = &[
    "fold",
    "related",
    "constants",
    "tables",
    "sizes",
    "stronger",
    "known",
    "gvn",
    "memory",
    "peel",
    "sink",
    "dce",
];

/// The result of optimising.
#[derive(Debug, Clone)]
pub struct Optimized {
    /// The trace.
    pub trace: Trace,
    /// What is known of it, for traces that go on from its exits.
    pub lasting: Lasting,
    /// The declared constant memory that it relies on.
    pub relied_on: BTreeSet<Relied>,
    /// Operations after each stage, by name.
    pub counts: Vec<(&'static str, usize)>,
}

/// What a trial of the forward chain shows.
#[derive(Clone, Default)]
struct Learnt {
    /// Guards against overlap that are of use; all of them in a trial.
    verdict: Verdict,
    /// How far the accesses to each root reach.
    extents: Extents,
    shifts: Shifts,
    later: Later,
}

/// Runs the passes of these names over a lifted trace.
///
/// # Errors
/// When the trace cannot go the way that it was recorded, or a name is unknown.
pub fn optimize(trace: &Trace, input: &Input<'_>, passes: &[&str]) -> Result<Optimized, Failed> {
    optimize_with(trace, input, passes, None)
}

/// The same; `after` sees the trace after each stage. After the forward chain it has all that is found dead later.
///
/// # Errors
/// As [`optimize`].
pub fn optimize_with(
    trace: &Trace,
    input: &Input<'_>,
    passes: &[&str],
    mut after: Option<After<'_>>,
) -> Result<Optimized, Failed> {
    let mut chain = Vec::new();
    let mut backward: Vec<(&'static str, Backward)> = Vec::new();
    let mut peels = false;
    for name in passes {
        if let Some(pass) = forward::ALL.iter().find(|pass| pass.name() == *name) {
            chain.push(*pass);
            continue;
        }
        match *name {
            "peel" => peels = true,
            "sink" => backward.push(("sink", sink::sink)),
            "dce" => backward.push(("dce", |trace, _| dce::dce(trace))),
            _ => return Err(Failed::UnknownPass((*name).to_owned())),
        }
    }
    let mut counts = vec![("lifted", trace.ops.len())];
    let mut note = |stage: &'static str, trace: &Trace| {
        counts.push((stage, trace.ops.len()));
        if let Some(after) = &mut after {
            after(stage, trace);
        }
    };
    // What a parent knew of its own values holds for the first turn.
    let repeats = matches!(trace.end, End::Repeat { .. }) && input.inherited.is_none();
    let mut loops = peels && repeats && peel::possible(trace);
    let begin = |loops: bool, trial: bool, learnt: Learnt| {
        let mut cx = Cx::new(&chain, input);
        cx.memory.weighs = trial;
        cx.shifts = learnt.shifts;
        cx.later = learnt.later;
        cx.memory.verdict = Some(learnt.verdict);
        cx.memory.straight = !loops;
        cx.memory.extents = learnt.extents;
        let end = cx.feed_trace(trace)?;
        // What becomes a loop goes on in the same builder.
        let straight = if loops {
            Trace {
                end,
                ..cx.b.trace().clone()
            }
        } else {
            cx.b.take(end)
        };
        Ok((cx, straight))
    };
    let (mut trial, mut straight) = begin(loops, true, Learnt::default())?;
    if loops && peel::moves_stack(&straight, &trial) {
        loops = false;
        (trial, straight) = begin(loops, true, Learnt::default())?;
    }
    let mut learnt = Learnt {
        verdict: trial.memory.judge(),
        extents: Extents::of_fed(&straight, &trial.observed),
        shifts: std::mem::take(&mut trial.shifts).guarding(),
        later: std::mem::take(&mut trial.later).saying(),
    };
    if loops {
        // Guards against overlap are judged anew, for in the loop they are to be of use.
        let all = Learnt {
            verdict: Verdict::default(),
            ..learnt.clone()
        };
        let (mut trial, straight) = begin(loops, true, all)?;
        if peel::peel(&straight, &mut trial).is_ok() {
            learnt.verdict = trial.memory.judge();
            learnt.extents = Extents::of_fed(trial.b.trace(), &trial.observed);
        }
    }
    let (mut cx, straight) = begin(loops, false, learnt)?;
    let straight_facts = cx.memory.facts.clone();
    note("forward", &straight);
    let mut out = if loops {
        match peel::peel(&straight, &mut cx) {
            Ok(peeled) => {
                note("peel", &peeled);
                peeled
            }
            // It never goes round twice in the same way: what there is of it stays as it is.
            Err(Failed::Contradiction(_) | Failed::Unsettled) => {
                cx.memory.facts = straight_facts;
                straight
            }
            Err(other) => return Err(other),
        }
    } else {
        straight
    };
    let relied_on = cx.relied_on();
    let mut lasting = Lasting {
        facts: std::mem::take(&mut cx.memory.facts),
        head: std::mem::take(&mut cx.memory.lasting),
    };
    for (name, pass) in backward {
        let renumbered;
        (out, renumbered) = pass(out, &lasting.facts);
        lasting.renumber(&renumbered);
        note(name, &out);
    }
    let trace = out.normalized();
    lasting.rebase(&out, &trace);
    Ok(Optimized {
        trace,
        lasting,
        relied_on,
        counts,
    })
}
