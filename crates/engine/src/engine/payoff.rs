//! What a program gets done with its traces, and without.
//!
//! A trace executes fewer instructions than the interpreter, and takes longer now and then: its code is new to every cache
//! and predictor of the processor, and side traces, links and exits are not free. So it is measured. Progress is counted in
//! anchors passed, by weight, for a short while with the traces and for a short while without:
//!
//! * An anchor that has no trace, or must not use it, counts down in the shim as always.
//! * One that has a trace is reached by the words that lead to it: its entry, its slot, and the word through which its loop
//!   goes back. For the time of the measurement these lead through [`redmagic_emit::turnstile`]s.
//! * What is passed within a trace (a function that is inlined, an inner loop that is unrolled) is not seen there, so the
//!   counters of these anchors are left out. Of loops so short that a turnstile would be felt only the entries are counted, and
//!   apart: nothing can be said of a program that uses them.

use std::collections::{BTreeMap, HashSet};
use std::mem::offset_of;
use std::sync::atomic::Ordering;

use redmagic_emit::turnstile;
use redmagic_proto::ApiFn;
use redmagic_proto::control::{Control, LOOP_WEIGHT};
use redmagic_proto::entries::{ENTRIES, hash};
use redmagic_record::recording::{Recording, Step};

use super::{Engine, NEVER};
use crate::cache::CacheError;
use crate::graph::{AnchorKey, AnchorState, ExitState, Origin, TraceId};

/// How traces are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// As they are meant to be.
    #[default]
    Running,
    /// The same, counted.
    Counting,
    /// Not at all: whoever is in one leaves it at the next turn.
    Resting,
}

/// The words that lead to a root, and the code that counts on the way.
#[derive(Debug, Clone, Copy)]
struct Turnstile {
    /// Addresses of the code that counts who comes from the shim, from a trace, and round the loop.
    entry: u64,
    body: u64,
    turn: Option<Turn>,
}

/// The word through which a loop goes back.
#[derive(Debug, Clone, Copy)]
struct Turn {
    slot: u64,
    head: u64,
    counting: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Payoff {
    mode: Mode,
    turnstiles: BTreeMap<TraceId, Turnstile>,
    /// Buckets of anchors that are passed uncounted within traces.
    unseen: HashSet<usize>,
    /// Buckets of loops whose turns are not counted, only how often they are entered.
    short: HashSet<usize>,
    /// The counters of anchors, kept while nothing may become hot.
    kept: Vec<i32>,
}

impl Payoff {
    /// How they are used.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether traces are not used.
    pub(super) fn is_resting(&self) -> bool {
        self.mode == Mode::Resting
    }
}

/// Where all counters stood.
#[derive(Debug)]
pub struct Progress(Vec<i32>);

/// What a program has passed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Buckets of anchors, and by how much the counter of each has come down.
    pub anchors: Vec<(usize, u32)>,
    /// The same of loops whose turns are not counted, together.
    pub short: u64,
}

/// What a counter can come down by while it is watched. More is a counter that was set meanwhile.
pub(super) const PLAUSIBLE: i32 = 1 << 27;

impl Engine {
    /// Whether there is a trace at all.
    pub fn has_traces(&self) -> bool {
        !self.payoff.turnstiles.is_empty()
    }

    /// Whether there is no trace, and nothing that got hot will be tried again.
    pub fn is_untraceable(&self) -> bool {
        let mut tried = self
            .graph
            .anchors
            .values()
            .filter(|a| a.last_abort.is_some())
            .peekable();
        !self.has_traces() && tried.peek().is_some() && tried.all(|a| a.state == AnchorState::Blacklisted)
    }

    /// Builds the turnstile of a new trace that begins at an anchor.
    pub(super) fn count_loop(&mut self, trace: TraceId, key: AnchorKey, api: ApiFn, turn: Option<(u64, u64)>) {
        let (entry, body) = {
            let trace = &self.graph.traces[trace as usize];
            (trace.entry, trace.body)
        };
        let counter = self.hotness_address + hash(key.id) as u64 * 4;
        let mut destinations = vec![entry, body];
        destinations.extend(turn.map(|(_, head)| head));
        let made = self
            .cache
            .room(destinations.len() * turnstile::BYTES, destinations.len())
            .ok()
            .and_then(|room| {
                let made = turnstile::compile(room.code, room.data, counter, weight(api), &destinations);
                Some((room, made.ok()?))
            });
        let Some((room, assembled)) = made else {
            self.payoff.unseen.insert(hash(key.id));
            return;
        };
        self.cache
            .install(room, &assembled.code, assembled.code.len(), &assembled.data);
        let counting = |at: usize| room.code + (at * turnstile::BYTES) as u64;
        let made = Turnstile {
            entry: counting(0),
            body: counting(1),
            turn: turn.map(|(slot, head)| Turn {
                slot,
                head,
                counting: counting(2),
            }),
        };
        self.payoff.turnstiles.insert(trace, made);
    }

    /// Notes the anchors that a trace passes.
    pub(super) fn note_unseen(&mut self, recording: &Recording, short_loop: Option<AnchorKey>) {
        let passed = recording.steps.iter().filter_map(|step| match step {
            Step::Shim(call) => {
                let api = ApiFn::from_index(usize::from(call.api.0))?;
                api.is_anchor().then_some(call.args[0])
            }
            _ => None,
        });
        self.payoff.unseen.extend(passed.map(hash));
        self.payoff.short.extend(short_loop.map(|key| hash(key.id)));
    }

    /// Leads the program to its traces, or past them.
    pub fn set_mode(&mut self, mode: Mode) {
        if mode == self.payoff.mode {
            return;
        }
        if self.payoff.mode == Mode::Running {
            self.payoff.kept = self.counters();
            self.control.fill_i32(offset_of!(Control, hotness), ENTRIES, NEVER);
        }
        self.payoff.mode = mode;
        let compiled: Vec<TraceId> = self
            .graph
            .anchors
            .values()
            .filter_map(|anchor| match anchor.state {
                AnchorState::Compiled(trace) => Some(trace),
                _ => None,
            })
            .collect();
        for trace in compiled {
            // Its key has a place already.
            let _ = self.lead_to_root(trace);
        }
        for trace in self.graph.reentries().filter_map(|exit| exit.side).collect::<Vec<_>>() {
            self.lead_to_reentry(trace);
        }
        if mode == Mode::Running {
            for (at, left) in std::mem::take(&mut self.payoff.kept).into_iter().enumerate() {
                let word = self.control.i32(offset_of!(Control, hotness) + at * 4);
                word.store(left, Ordering::Relaxed);
            }
        }
    }

    /// Has the words that lead to a root lead to where it is entered now, or past it.
    ///
    /// # Errors
    /// When there is no place for its entry.
    pub(super) fn lead_to_root(&mut self, root: TraceId) -> Result<(), CacheError> {
        let trace = &self.graph.traces[root as usize];
        let Origin::Root(key) = trace.origin else {
            return Ok(());
        };
        let (entry, body) = (trace.entry, trace.body);
        let mode = self.payoff.mode;
        let slot = self.graph.anchors.get(&key).and_then(|anchor| anchor.slot);
        let turnstile = self.payoff.turnstiles.get(&root).copied();
        let (entry, body) = match turnstile.filter(|_| mode == Mode::Counting) {
            _ if mode == Mode::Resting || self.is_out(root) => (0, slot.map_or(0, |slot| slot.native)),
            Some(turnstile) => (turnstile.entry, turnstile.body),
            None => (entry, body),
        };
        self.cache.set_entry(key.id, key.return_address, entry)?;
        if let Some(slot) = slot {
            self.cache.set_slot(slot.address, body);
            // Whoever need not be counted goes there straight.
            let of_root = |exit: &ExitState| self.graph.traces[exit.trace as usize].root == root;
            for exit in self.graph.reentries().filter(|exit| exit.silent && of_root(exit)) {
                self.cache.set_slot(exit.slot, body);
            }
        }
        self.lead_round(turnstile);
        Ok(())
    }

    /// The same for a trace that begins at a re-entry.
    pub(super) fn lead_to_reentry(&mut self, id: TraceId) {
        let trace = &self.graph.traces[id as usize];
        let Origin::Side { exit, .. } = trace.origin else {
            return;
        };
        let exit = &self.graph.exits[exit as usize];
        let turnstile = self.payoff.turnstiles.get(&id).copied();
        let there = match turnstile.filter(|_| self.payoff.mode == Mode::Counting) {
            _ if self.payoff.mode == Mode::Resting || self.is_out(id) => exit.away,
            Some(turnstile) => turnstile.body,
            None => trace.body,
        };
        self.cache.set_slot(exit.slot, there);
        self.lead_round(turnstile);
    }

    /// Has a loop go back to its head, or through its turnstile.
    fn lead_round(&mut self, turnstile: Option<Turnstile>) {
        if let Some(turn) = turnstile.and_then(|turnstile| turnstile.turn) {
            let there = if self.payoff.mode == Mode::Running {
                turn.head
            } else {
                turn.counting
            };
            self.cache.set_slot(turn.slot, there);
        }
    }

    /// The counter of a bucket of anchors; while nothing may become hot, what it will be again.
    pub(super) fn hotness(&self, bucket: usize) -> i32 {
        let word = self.control.i32(offset_of!(Control, hotness) + bucket * 4);
        let kept = self.payoff.kept.get(bucket).copied();
        kept.unwrap_or_else(|| word.load(Ordering::Relaxed))
    }

    /// Where all of them stand. The words are the program's to write.
    pub(super) fn counters(&self) -> Vec<i32> {
        let word = |at: usize| self.control.i32(offset_of!(Control, hotness) + at * 4);
        (0..ENTRIES).map(|at| word(at).load(Ordering::Relaxed)).collect()
    }

    /// Where the counters stand.
    pub fn progress(&self) -> Progress {
        Progress(self.counters())
    }

    /// What has been passed since. The words are the program's to write: nonsense gives a wrong answer, and nothing worse.
    pub fn passed_since(&self, before: &Progress) -> Passed {
        let now = self.counters();
        let mut passed = Passed::default();
        for (at, (before, now)) in before.0.iter().zip(now).enumerate() {
            let down = i64::from(*before) - i64::from(now);
            if !(1..i64::from(PLAUSIBLE)).contains(&down) {
                continue;
            }
            if self.payoff.short.contains(&at) {
                passed.short += down as u64;
            } else if !self.payoff.unseen.contains(&at) {
                passed.anchors.push((at, down as u32));
            }
        }
        passed
    }
}

/// What an anchor counts.
fn weight(api: ApiFn) -> i8 {
    match api {
        ApiFn::FunctionEntry => 1,
        _ => LOOP_WEIGHT as i8,
    }
}
