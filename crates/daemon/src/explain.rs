//! What keeps each hot loop from being compiled, or from being fast: the data of `explain`.
//!
//! It is put together from what the engine keeps anyway: the anchors with the reasons of their aborted recordings, notes on
//! how each trace was compiled, and the counters of exits. Field names are an interface: programs read them.

use std::collections::BTreeMap;

use redmagic_engine::Engine;
use redmagic_engine::graph::{AnchorKey, AnchorState, ExitState, Link, Origin, Trace};
use redmagic_engine::notes::NotPeeled;
use redmagic_record::abort::Abort;
use serde::{Deserialize, Serialize};

use crate::names::Names;
use crate::payoff::Measured;
use crate::sample::Samples;
use crate::session::{Session, lock};

/// Exits of one trace that are listed, at most: those that are taken most.
const MOST_EXITS: usize = 8;

/// `explain --json PID`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct Explanation {
    /// The target.
    pub pid: i32,
    /// Samples of where its first thread was; 0 when none were taken, and then there are no shares of time.
    pub samples: u64,
    /// Share of the samples in generated code.
    pub time_share: Option<f64>,
    /// Loops that asked to be recorded, the hottest first as far as that is known.
    pub loops: Vec<Loop>,
    /// Counters of loops that never asked: how many have begun to count.
    pub lukewarm: u64,
    /// Of these, the fewest turns until one asks.
    pub nearest_turns: Option<u64>,
    /// Recordings put off because of REDMAGIC_RECORDSHARE.
    pub postponed: u64,
    /// What the program gained by its traces when that was measured last: REDMAGIC_PAYOFF.
    pub measured: Option<Measured>,
    /// Whether nothing that got hot can be traced. The session then rests most of the time.
    pub untraceable: bool,
    /// Whether nothing more is compiled because the code region is full.
    pub full: bool,
    /// Traces that were dropped because their bytecode went away or was disabled.
    pub dropped: u64,
}

/// A loop, or a function: whatever has an anchor.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct Loop {
    /// The function of the API that its anchor calls.
    pub api: String,
    /// Its id.
    pub id: u64,
    /// Where the anchor's call returns to.
    pub return_address: u64,
    /// The same by name.
    pub place: String,
    /// `compiled`; `blacklisted`: it is not tried again; `backing-off`: after aborted recordings it must be hotter;
    /// `waiting`: it is hot, and others are recorded first; `counting`: it is to be recorded when it asks again.
    pub state: String,
    /// Aborted recordings that count against it.
    pub aborts: u64,
    /// Aborted recordings by reason, those included that taught something and do not count.
    pub abort_reasons: BTreeMap<String, u64>,
    /// Turns until it asks again, if it may; an anchor with the same hash counts with it.
    pub turns_left: Option<u64>,
    /// Share of the samples in its traces.
    pub time_share: Option<f64>,
    /// Share of all counted exits that were taken from its traces, from 0 to 1.
    pub exit_share: f64,
    /// Its traces, the root first.
    pub traces: Vec<TraceNote>,
}

/// A trace.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct TraceNote {
    /// Its number.
    pub trace: u32,
    /// For a side trace: the exit that it starts at, and the trace that has it.
    pub side_of: Option<(u32, u32)>,
    /// `optimised`, or `copied`: recorded instructions are repeated.
    pub tier: String,
    /// Why it is copied: a name, and the whole story.
    pub not_optimised: Option<(String, String)>,
    /// `loop`: a loop of its own, peeled; `repeat`: it goes round through its anchor; `link`: it goes on in another trace;
    /// `unlinked`: it ends at an anchor without a trace; `leave`: it goes on in the original code.
    pub shape: String,
    /// Why it is not peeled: `kept-calls`, `unsettled` or `too-long`.
    pub not_peeled: Option<String>,
    /// Calls kept as calls, by the name of the function; what is called most first.
    pub kept_calls: Vec<(String, u32)>,
    /// Instructions recorded.
    pub instructions: u64,
    /// Operations of the optimised trace.
    pub operations: Option<u64>,
    /// Of these, in the loop's body.
    pub body_operations: Option<u64>,
    /// Bytes of code.
    pub code_bytes: u64,
    /// How many exits it has.
    pub exits: u64,
    /// Share of the samples in it.
    pub time_share: Option<f64>,
    /// Exits without a side trace that were taken, those taken most first.
    pub hot_exits: Vec<ExitNote>,
}

/// An exit without a side trace.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct ExitNote {
    /// Its number.
    pub exit: u32,
    /// Where the original code goes on.
    pub place: String,
    /// How often it was taken, at least: a silent exit does not count any more.
    pub taken: u64,
    /// Share of all counted exits, from 0 to 1.
    pub share: f64,
    /// `counting`, `backing-off`, `waiting` (as for loops), `given-up` after aborted recordings, `side-limit`: its tree has as
    /// many side traces as REDMAGIC_MAXSIDE allows; `dropped`: its tree is no longer used.
    pub state: String,
    /// Aborted recordings from it.
    pub aborts: u64,
    /// Why the last one was aborted.
    pub last_abort: Option<String>,
    /// How often it must still be taken before it asks; `None` when it never will.
    pub left: Option<u64>,
}

/// A session's, with shares of time if its first thread is sampled.
pub fn explain(session: &Session) -> Explanation {
    session.take_samples();
    let names = Names::read(session);
    let samples = lock(&session.sampler).as_ref().map(|sampler| sampler.samples().clone());
    Explanation {
        measured: *lock(&session.measured),
        ..explanation(session.pid, &lock(&session.engine), &names, samples.as_ref())
    }
}

/// The same of an engine.
pub fn explanation(pid: i32, engine: &Engine, names: &Names, samples: Option<&Samples>) -> Explanation {
    let graph = engine.graph();
    let all = samples.map_or(0, |samples| samples.all);
    let context = Context {
        engine,
        names,
        samples: samples.filter(|samples| samples.all > 0),
        taken: (0..graph.exits.len() as u32).map(|exit| engine.taken(exit)).sum(),
    };
    let mut loops: Vec<Loop> = graph.anchors.keys().map(|key| context.anchor(*key)).collect();
    let heat = |of: &Loop| (of.time_share.unwrap_or(0.0), of.exit_share);
    loops.sort_by(|a, b| {
        heat(b)
            .partial_cmp(&heat(a))
            .unwrap_or(std::cmp::Ordering::Equal)
            .then(a.id.cmp(&b.id))
    });
    let (lukewarm, nearest_turns) = engine.lukewarm();
    Explanation {
        pid,
        samples: all,
        time_share: context.samples.map(|samples| samples.inside() as f64 / all as f64),
        loops,
        lukewarm,
        nearest_turns,
        postponed: engine.counts().postponed,
        measured: None,
        untraceable: engine.is_untraceable(),
        full: engine.is_full(),
        dropped: engine.counts().dropped,
    }
}

struct Context<'a> {
    engine: &'a Engine,
    names: &'a Names,
    samples: Option<&'a Samples>,
    /// Exits taken, of all traces.
    taken: u64,
}

impl Context<'_> {
    fn anchor(&self, key: AnchorKey) -> Loop {
        let graph = self.engine.graph();
        let anchor = &graph.anchors[&key];
        let (state, may_ask) = match anchor.state {
            AnchorState::Compiled(_) => ("compiled", false),
            AnchorState::Blacklisted => ("blacklisted", false),
            AnchorState::Cold if self.engine.anchor_waits(key) => ("waiting", false),
            AnchorState::Cold if anchor.aborts > 0 => ("backing-off", true),
            AnchorState::Cold => ("counting", true),
        };
        let tree = match anchor.state {
            AnchorState::Compiled(root) => Some(root),
            _ => None,
        };
        let members = graph
            .traces
            .iter()
            .enumerate()
            .filter(|(_, trace)| Some(trace.root) == tree);
        let traces: Vec<TraceNote> = members
            .clone()
            .map(|(id, trace)| self.trace(id as u32, trace))
            .collect();
        let taken: u64 = members
            .flat_map(|(_, trace)| trace.exits.clone())
            .map(|exit| self.engine.taken(exit))
            .sum();
        Loop {
            api: anchor.api.symbol().trim_start_matches("redmagic_").to_owned(),
            id: key.id,
            return_address: key.return_address,
            place: self.names.place(key.return_address),
            state: state.to_owned(),
            aborts: anchor.aborts,
            abort_reasons: anchor
                .reasons
                .iter()
                .map(|(reason, count)| (reason.name().to_owned(), *count))
                .collect(),
            turns_left: may_ask.then(|| self.engine.turns_left(key.id)),
            time_share: self
                .samples
                .map(|_| traces.iter().filter_map(|trace| trace.time_share).sum()),
            exit_share: self.share(taken),
            traces,
        }
    }

    fn share(&self, taken: u64) -> f64 {
        taken as f64 / self.taken.max(1) as f64
    }

    fn trace(&self, id: u32, trace: &Trace) -> TraceNote {
        let notes = &trace.notes;
        let graph = self.engine.graph();
        let shape = match trace.link {
            _ if notes.body.is_some() => "loop",
            Link::Anchor(key) if trace.origin == Origin::Root(key) => "repeat",
            Link::Anchor(key) if graph.compiled(key).is_some() => "link",
            Link::Anchor(_) => "unlinked",
            Link::Native(_) if graph.ends_at(id).is_some() => "join",
            Link::Native(_) => "leave",
        };
        let mut calls: BTreeMap<String, u32> = BTreeMap::new();
        for (callee, count) in &notes.kept_calls {
            *calls.entry(self.names.whole(*callee)).or_default() += count;
        }
        let mut kept_calls: Vec<(String, u32)> = calls.into_iter().collect();
        kept_calls.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let exits = trace
            .exits
            .clone()
            .map(|number| (number, &graph.exits[number as usize]));
        let mut hot: Vec<(u64, u32, &ExitState)> = exits
            .filter(|(_, exit)| exit.side.is_none())
            .map(|(number, exit)| (self.engine.taken(number), number, exit))
            .filter(|(taken, _, _)| *taken > 0)
            .collect();
        hot.sort_by_key(|(taken, number, _)| (std::cmp::Reverse(*taken), *number));
        hot.truncate(MOST_EXITS);
        let hot_exits = hot.iter().map(|(_, number, exit)| self.exit(*number, exit)).collect();
        TraceNote {
            trace: id,
            side_of: match trace.origin {
                Origin::Side { exit, parent } => Some((exit, parent)),
                Origin::Root(_) => None,
            },
            tier: if trace.operations.is_some() {
                "optimised"
            } else {
                "copied"
            }
            .to_owned(),
            not_optimised: notes
                .not_optimised
                .as_ref()
                .map(|(kind, story)| ((*kind).to_owned(), story.clone())),
            shape: shape.to_owned(),
            not_peeled: notes.not_peeled.map(|why| {
                match why {
                    NotPeeled::KeptCalls => "kept-calls",
                    NotPeeled::Unsettled => "unsettled",
                    NotPeeled::TooLong => "too-long",
                }
                .to_owned()
            }),
            kept_calls,
            instructions: trace.instructions as u64,
            operations: trace.operations.map(|count| count as u64),
            body_operations: notes.body.map(|count| count as u64),
            code_bytes: trace.code.bytes() as u64,
            exits: u64::from(trace.exits.end - trace.exits.start),
            time_share: self
                .samples
                .map(|samples| samples.within(&trace.code) as f64 / samples.all as f64),
            hot_exits,
        }
    }

    fn exit(&self, number: u32, exit: &ExitState) -> ExitNote {
        let graph = self.engine.graph();
        let params = self.engine.params();
        let trace = &graph.traces[exit.trace as usize];
        let root = &graph.traces[trace.root as usize];
        let taken = self.engine.taken(number);
        let state = match () {
            () if exit.silent && exit.aborts >= params.maxtries => "given-up",
            () if exit.silent && root.side_traces >= params.maxside => "side-limit",
            () if exit.silent || trace.dropped => "dropped",
            () if self.engine.exit_waits(number) => "waiting",
            () if exit.aborts > 0 => "backing-off",
            () => "counting",
        };
        ExitNote {
            exit: number,
            place: self.names.place(exit.target),
            taken,
            share: self.share(taken),
            state: state.to_owned(),
            aborts: exit.aborts,
            last_abort: exit.last_abort.map(|reason: Abort| reason.name().to_owned()),
            left: (!exit.silent && state != "waiting").then(|| self.engine.exits_left(number)),
        }
    }
}
