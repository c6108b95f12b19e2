//! Requests in, code out.

mod activity;
mod install;
pub mod join;
mod payoff;
pub mod reentry;
mod reliance;
mod waiting;

pub use activity::Stays;
pub use install::{Begun, Compilation, Draft};
use join::{Joining, Standing};
pub use payoff::{Mode, Passed, Progress};
use reentry::GoesOn;
use reliance::Reliance;
use waiting::Who;

use std::collections::{BTreeMap, HashSet};
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use redmagic_emit::copy::{RejoinOffsets, ThreadOffsets};
use redmagic_emit::exits::ExitEnvironment;
use redmagic_proto::ApiFn;
use redmagic_proto::control::{Control, LOOP_WEIGHT, exit_id};
use redmagic_proto::entries::hash;
use redmagic_proto::thread::{Rejoin, ThreadWords};
use redmagic_record::abort::Abort;
use redmagic_record::recording::Recording;

use crate::cache::{CacheError, CodeCache};
use crate::fold::Mappings;
use crate::graph::{AnchorKey, AnchorState, Graph, JoinKey, Origin, Slot, TraceId};
use crate::memory::SharedMemory;
use crate::params::Params;
use crate::policy::{Functions, Lessons, World};
use crate::registry::Declarations;
use crate::timing::Stages;

/// A counter that will not run out in the life of a program.
const NEVER: i32 = 1_000_000_000;

/// What an exit's counter is set to by a thread that parks and gets no answer.
const EXIT_AGAIN: u32 = 256;

/// How far back-off doubles, at most.
const MAX_BACKOFF_SHIFT: u64 = 12;

/// How many recordings that began in the last turn of their loop count as one that failed: that is bad luck, and with a
/// short loop it is frequent.
const LEFT_IS_ABORT: u64 = 4;

/// A thread asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// It is at a hot anchor.
    Anchor {
        /// The function that was called.
        api: ApiFn,
        /// The anchor.
        key: AnchorKey,
    },
    /// It is at a hot exit.
    Exit {
        /// Number of the exit, unchecked.
        number: u64,
    },
}

/// What to do with the thread.
#[derive(Debug)]
pub enum Decision {
    /// Let it run on.
    Run,
    /// Record from where it is.
    Record(Job),
}

/// A recording to be made.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where it starts.
    pub origin: Origin,
    /// The function of the anchor; of the root's anchor for a side trace.
    pub api: ApiFn,
    /// The anchor of the tree's root.
    pub root: AnchorKey,
    /// The address at which it starts.
    pub ip: u64,
    /// Whether it starts at the root's anchor all the same: see [`reentry`].
    pub reenters: bool,
    /// The join at which it starts, if it does: see [`join`].
    pub join: Option<JoinKey>,
    /// Where it may end at one.
    pub joining: Option<Joining>,
    /// What was declared when it was decided on, which is before anything is read. What is still declared when the trace is installed
    /// was so all the while, and is what the recording read of it, also if the target ran meanwhile.
    pub declared: Arc<Declarations>,
}

impl Job {
    /// The anchor at which it starts, if it starts at one. When it comes back there it is a loop.
    pub fn anchor(&self) -> Option<AnchorKey> {
        match self.origin {
            Origin::Root(key) => Some(key),
            Origin::Side { .. } => self.reenters.then_some(self.root),
        }
    }
}

/// A request that a sane target cannot make: the session must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; the program has overwritten the memory it shares with redmagicd")]
pub struct Hostile(pub String);

/// What a counter is set to that is to run out after so many turns of a loop.
fn weighed(turns: u64) -> i32 {
    i32::try_from(turns.saturating_mul(LOOP_WEIGHT as u64))
        .unwrap_or(NEVER)
        .min(NEVER)
}

/// How far a counter has come down.
fn taken(armed: i32, left: i32) -> u64 {
    u64::try_from(armed.saturating_sub(left.max(0))).unwrap_or(0)
}

/// What a finished job came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// A trace was installed.
    Installed(TraceId),
    /// It was not.
    Failed(Abort),
}

/// What the engine must know of its session.
#[derive(Debug)]
pub struct Setup {
    /// Tunables.
    pub params: Params,
    /// The code cache, over the code and entries regions.
    pub cache: CodeCache,
    /// The control region.
    pub control: SharedMemory,
    /// The target's address of the control region.
    pub control_address: u64,
    /// How many sessions the target's address space has had before.
    pub sessions_before: u32,
    /// The target's address of the shim's entry for hot exits.
    pub park_exit: u64,
    /// Offset of the shim's thread words from fs:0.
    pub tls_offset: i64,
}

/// Counts that status and statistics show.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Aborted recordings and refused compilations, by reason.
    pub aborts: BTreeMap<Abort, u64>,
    /// Time that threads waited to be recorded.
    pub recording: Duration,
    /// Time spent compiling and installing.
    pub compiling: Duration,
    /// The same, by stage.
    pub stages: Stages,
    /// Instructions of the recordings that were compiled or refused.
    pub compiled_instructions: u64,
    /// Instructions recorded, aborted recordings included.
    pub instructions: u64,
    /// From the session's start to the first trace.
    pub first_trace: Option<Duration>,
    /// Recordings put off because of `recordshare`.
    pub postponed: u64,
    /// Traces dropped because of what they relied on, those that went on from them not counted.
    pub dropped: u64,
    /// Traces that were copied because they could not be optimised, by reason.
    pub not_optimised: BTreeMap<&'static str, u64>,
}

/// The engine of one session.
#[derive(Debug)]
pub struct Engine {
    params: Params,
    cache: CodeCache,
    control: SharedMemory,
    environment: ExitEnvironment,
    thread: ThreadOffsets,
    graph: Graph,
    declared: Arc<Declarations>,
    /// Functions learnt to be better kept as calls.
    learnt: Functions,
    /// The constant memory that each live trace relies on, or that its id lies in.
    reliances: BTreeMap<TraceId, Reliance>,
    /// What the program cannot write, or does not.
    mappings: Arc<Mappings>,
    /// The target's address of the generation of constant memory.
    generation_address: u64,
    /// The target's address of the counters of anchors.
    hotness_address: u64,
    /// The generation for which the live traces are valid.
    generation: u64,
    counts: Counts,
    start: Instant,
    /// The cache was full once: nothing more is recorded.
    full: bool,
    /// Whether to note what code is for.
    noting: bool,
    payoff: payoff::Payoff,
    /// Who was hot while there was no time.
    waiting: Vec<waiting::Waiting>,
    /// Exits whose counters were set to less than they were, until that is seen to have been heard.
    lowered: Vec<u32>,
}

impl Engine {
    /// Sets the counters and starts.
    pub fn new(setup: Setup) -> Engine {
        let exits = setup.control_address + offset_of!(Control, exits) as u64;
        let words = setup.tls_offset as i32;
        let rejoin = |at: usize| RejoinOffsets {
            code: words + (at + offset_of!(Rejoin, code)) as i32,
            return_address: words + (at + offset_of!(Rejoin, return_address)) as i32,
            rsp: words + (at + offset_of!(Rejoin, rsp)) as i32,
        };
        let engine = Engine {
            cache: setup.cache,
            environment: ExitEnvironment {
                counters: exits,
                first_id: exit_id(setup.sessions_before, 0),
                park: setup.park_exit,
                again: EXIT_AGAIN,
            },
            thread: ThreadOffsets {
                merge: rejoin(offset_of!(ThreadWords, merge)),
                enable: rejoin(offset_of!(ThreadWords, enable)),
            },
            control: setup.control,
            graph: Graph::default(),
            declared: Arc::default(),
            learnt: Functions::default(),
            reliances: BTreeMap::new(),
            mappings: Arc::default(),
            generation_address: setup.control_address + offset_of!(Control, generation) as u64,
            hotness_address: setup.control_address + offset_of!(Control, hotness) as u64,
            generation: 0,
            counts: Counts::default(),
            start: Instant::now(),
            full: false,
            noting: false,
            payoff: payoff::Payoff::default(),
            waiting: Vec::new(),
            lowered: Vec::new(),
            params: setup.params,
        };
        let hot = engine.hot_loop(0);
        engine
            .control
            .fill_i32(offset_of!(Control, hotness), redmagic_proto::entries::ENTRIES, hot);
        engine
    }

    /// From now on, notes what the code of each new trace is for ([`crate::notes::Notes::purposes`]).
    pub fn note_purposes(&mut self) {
        self.noting = true;
    }

    /// Whether nothing more is recorded because the cache was full.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// The tunables.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The counts.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The cache.
    pub fn cache(&self) -> &CodeCache {
        &self.cache
    }

    /// Functions whose calls are kept as calls, declared and learnt.
    pub fn functions(&self) -> Functions {
        let mut all = self.learnt.clone();
        all.residual.extend(&self.declared.kept);
        all
    }

    /// The generation of constant memory, as the target says.
    pub fn current_generation(&self) -> u64 {
        self.control
            .u64(offset_of!(Control, generation))
            .load(Ordering::Acquire)
    }

    /// Takes note of what the program cannot write, or does not.
    pub fn set_mappings(&mut self, mappings: Mappings) {
        self.mappings = Arc::new(mappings);
    }

    /// The counter of an anchor after `aborts` aborted recordings.
    fn hot_loop(&self, aborts: u64) -> i32 {
        weighed(self.turns_to_hot(aborts))
    }

    /// The same, in turns of a loop.
    fn turns_to_hot(&self, aborts: u64) -> u64 {
        self.params.hotloop << aborts.min(MAX_BACKOFF_SHIFT)
    }

    /// The same after `left` recordings of a loop that ended meanwhile. A program that does the same over and over would ask
    /// in the same turn again: how often it has to come round is different each time (LuaJIT has a random part in its penalty
    /// for that reason; here it is always the same sequence, so that runs can be repeated).
    fn hot_after_left(&self, aborts: u64, left: u64) -> i32 {
        let turns = self.turns_to_hot(aborts);
        let scattered = left.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        weighed(turns + scattered % (turns / 4 + 16))
    }

    fn hot_exit(&self, aborts: u64) -> i32 {
        i32::try_from(self.params.hotexit << aborts.min(MAX_BACKOFF_SHIFT))
            .unwrap_or(NEVER)
            .min(NEVER)
    }

    fn set_hotness(&self, id: u64, value: i32) {
        self.control
            .i32(offset_of!(Control, hotness) + hash(id) * 4)
            .store(value, Ordering::Relaxed);
    }

    fn set_exit_counter(&mut self, number: u32, value: i32) {
        let left = self.exit_counter(number).load(Ordering::Relaxed);
        if let Some(exit) = self.graph.exits.get_mut(number as usize) {
            exit.taken += taken(exit.armed, left);
            exit.armed = value;
            if left > value && !self.lowered.contains(&number) {
                self.lowered.push(number);
            }
        }
        self.exit_counter(number).store(value, Ordering::Relaxed);
    }

    fn exit_counter(&self, number: u32) -> &AtomicI32 {
        self.control.i32(offset_of!(Control, exits) + number as usize * 4)
    }

    /// How often an exit was taken while it was counted, at least: a program may write its counter.
    pub fn taken(&self, number: u32) -> u64 {
        let exit = &self.graph.exits[number as usize];
        exit.taken + taken(exit.armed, self.exit_counter(number).load(Ordering::Relaxed))
    }

    /// Turns until an anchor asks; other anchors with the same hash count with it. The word is the program's to write.
    pub fn turns_left(&self, id: u64) -> u64 {
        u64::try_from(self.hotness(hash(id))).unwrap_or(0) / LOOP_WEIGHT as u64
    }

    /// Times an exit must still be taken before it asks.
    pub fn exits_left(&self, number: u32) -> u64 {
        u64::try_from(self.exit_counter(number).load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Of anchors that never asked: how many counters have begun to count, and the fewest turns until one of them asks.
    pub fn lukewarm(&self) -> (u64, Option<u64>) {
        let known: HashSet<usize> = self.graph.anchors.keys().map(|key| hash(key.id)).collect();
        let initial = self.hot_loop(0);
        let counters = (0..redmagic_proto::entries::ENTRIES).filter(|at| !known.contains(at));
        let left = counters.map(|at| self.hotness(at));
        let begun: Vec<i32> = left.filter(|left| (0..initial).contains(left)).collect();
        let nearest = begun.iter().min().map(|left| *left as u64 / LOOP_WEIGHT as u64);
        (begun.len() as u64, nearest)
    }

    /// How long until recording has its share of the target's time again; `None` when it has.
    fn over_share(&self) -> Option<Duration> {
        let spent = self.counts.recording.as_nanos() as u64;
        let share = self.start.elapsed().as_nanos() as u64 / 100 * self.params.recordshare;
        let over = spent.checked_sub(share + self.params.recordfree * 1_000_000)?;
        let wait = (over + 1).checked_mul(100)?.checked_div(self.params.recordshare);
        Some(wait.map_or(Duration::MAX, Duration::from_nanos))
    }

    /// Decides what a parked thread does. `busy`: another recording is on.
    ///
    /// # Errors
    /// [`Hostile`] when the request names what does not exist.
    pub fn decide(&mut self, request: Request, busy: bool) -> Result<Decision, Hostile> {
        let wait = busy || self.full || {
            let over = self.over_share().is_some();
            self.counts.postponed += u64::from(over && !busy);
            over
        };
        match request {
            Request::Anchor { api, key } => {
                if !api.is_anchor() {
                    return Err(Hostile(format!("{} is no anchor", api.symbol())));
                }
                Ok(self.decide_anchor(api, key, wait))
            }
            Request::Exit { number } => {
                let known = usize::try_from(number).ok().filter(|n| *n < self.graph.exits.len());
                match known {
                    Some(number) => Ok(self.decide_exit(number as u32, wait)),
                    None => Err(Hostile(format!("there is no exit {number}"))),
                }
            }
        }
    }

    fn decide_anchor(&mut self, api: ApiFn, key: AnchorKey, wait: bool) -> Decision {
        if self.payoff.is_resting() {
            self.set_hotness(key.id, NEVER);
            self.mark_known(key);
            return Decision::Run;
        }
        let disabled = self.declared.disabled.contains(&key.id);
        let anchor = self.graph.anchor(key, api);
        let aborts = anchor.aborts;
        match anchor.state {
            AnchorState::Blacklisted => self.set_hotness(key.id, NEVER),
            _ if disabled => {
                anchor.state = AnchorState::Blacklisted;
                anchor.last_abort = Some(Abort::Disabled);
                self.set_hotness(key.id, NEVER);
            }
            AnchorState::Compiled(_) => self.set_hotness(key.id, self.hot_loop(aborts)),
            AnchorState::Cold if wait => self.wait_for_turn(Who::Anchor(key)),
            AnchorState::Cold => {
                self.wait_no_more(Who::Anchor(key));
                return Decision::Record(Job {
                    origin: Origin::Root(key),
                    api,
                    root: key,
                    ip: key.return_address,
                    reenters: false,
                    join: None,
                    joining: None,
                    declared: Arc::clone(&self.declared),
                });
            }
        }
        if matches!(api, ApiFn::ForceBeginTrace | ApiFn::ForceJumpToTrace) {
            // These ask at every call until their anchor is known; from now on they count.
            self.mark_known(key);
        }
        Decision::Run
    }

    /// Gives an anchor an entry without code if it has no entry. When the table is full,
    /// a forced anchor goes on asking at every call.
    fn mark_known(&mut self, key: AnchorKey) {
        let compiled = matches!(
            self.graph.anchors.get(&key).map(|anchor| &anchor.state),
            Some(AnchorState::Compiled(_))
        );
        if !compiled {
            let _ = self.cache.set_entry(key.id, key.return_address, 0);
        }
    }

    fn decide_exit(&mut self, number: u32, wait: bool) -> Decision {
        let exit = &mut self.graph.exits[number as usize];
        // Its counter ran out, and its thread has set it to this before it asked.
        exit.taken += u64::from(exit.armed.unsigned_abs());
        exit.armed = EXIT_AGAIN as i32;
        let (parent, target, reenters, join) = (exit.trace, exit.target, exit.is_reentry(), exit.join);
        if exit.side.is_some() || exit.silent {
            return Decision::Run;
        }
        let trace = &self.graph.traces[parent as usize];
        let root = &self.graph.traces[trace.root as usize];
        if trace.dropped || root.side_traces >= self.params.maxside {
            self.silence(number);
            return Decision::Run;
        }
        if wait {
            self.wait_for_turn(Who::Exit(number));
            return Decision::Run;
        }
        // The root of a tree starts at an anchor.
        let Origin::Root(key) = root.origin else {
            return Decision::Run;
        };
        let api = self.graph.anchors.get(&key).map_or(ApiFn::BackwardsBranch, |a| a.api);
        self.wait_no_more(Who::Exit(number));
        let origin = Origin::Side { exit: number, parent };
        Decision::Record(Job {
            origin,
            api,
            root: key,
            ip: target,
            reenters,
            join,
            joining: self.joining(origin, key).filter(|_| !reenters),
            declared: Arc::clone(&self.declared),
        })
    }

    /// Makes an exit a plain jump to the original code.
    fn silence(&mut self, number: u32) {
        let exit = &mut self.graph.exits[number as usize];
        exit.silent = true;
        self.cache.set_slot(exit.slot, exit.away);
        if exit.is_reentry() {
            let root = self.graph.traces[exit.trace as usize].root;
            // Its key has a place already.
            let _ = self.lead_to_root(root);
        }
        self.set_exit_counter(number, NEVER);
    }

    /// Takes a finished recording, or the reason why there is none, compiles and installs. Whoever must not wait for the
    /// compiler meanwhile calls [`Engine::begin`], [`Draft::compile`] and [`Engine::publish`] in place of this.
    pub fn finish(
        &mut self,
        job: &Job,
        recording: Result<&Recording, (Abort, usize)>,
        lessons: &Lessons,
        took: Duration,
    ) -> Finished {
        match self.begin(job, recording, lessons, took) {
            Begun::Finished(finished) => finished,
            Begun::Draft(draft) => {
                let recording = recording.expect("a draft is made of a recording");
                let code = draft.compile(job, recording);
                self.publish(job, recording, *draft, code)
            }
        }
    }

    /// Takes a finished recording, or the reason why there is none, and prepares compiling.
    pub fn begin(
        &mut self,
        job: &Job,
        recording: Result<&Recording, (Abort, usize)>,
        lessons: &Lessons,
        took: Duration,
    ) -> Begun {
        self.counts.recording += took;
        let mut learnt = false;
        for function in &lessons.residual {
            learnt |= self.learnt.residual.insert(*function);
        }
        for (root, function) in &lessons.nesting {
            learnt |= self.learnt.nesting.entry(*root).or_default().insert(*function);
        }
        for inner in &lessons.inner {
            // One more turn of it, and it asks.
            self.set_hotness(inner.id, 1);
        }
        let reason = match recording {
            Ok(recording) => {
                self.counts.instructions += recording.steps.len() as u64;
                match self.goes_on(job, recording) {
                    GoesOn::Surely => match self.prepare(job, recording, lessons.join, learnt) {
                        Ok(draft) => return Begun::Draft(Box::new(draft)),
                        Err(reason) => reason,
                    },
                    GoesOn::Perhaps => return Begun::Finished(Finished::Failed(Abort::NotYetSure)),
                    GoesOn::No => Abort::OtherTurn,
                }
            }
            Err((reason, steps)) => {
                self.counts.instructions += steps as u64;
                if matches!(reason, Abort::TooLong | Abort::TooSlow)
                    && let Some(anchor) = lessons.half_way(steps as u64)
                {
                    learnt |= self.learnt.ends.insert(anchor);
                }
                reason
            }
        };
        self.failed(job, reason, learnt);
        Begun::Finished(Finished::Failed(reason))
    }

    /// Notes a failure: backs off, and in the end gives up.
    fn failed(&mut self, job: &Job, reason: Abort, learnt: bool) {
        *self.counts.aborts.entry(reason).or_insert(0) += 1;
        // What was learnt makes the next try different, and so does new bytecode: this one does not count.
        let counts = !learnt && reason != Abort::ConstantEnded;
        self.wait_no_more(match job.origin {
            Origin::Root(key) => Who::Anchor(key),
            Origin::Side { exit, .. } => Who::Exit(exit),
        });
        match job.origin {
            Origin::Root(key) => {
                let maxtries = self.params.maxtries;
                let anchor = self.graph.anchor(key, job.api);
                anchor.last_abort = Some(reason);
                let times = anchor.reasons.entry(reason).or_default();
                *times += 1;
                let times = *times;
                let left = reason == Abort::LoopLeft;
                anchor.aborts += u64::from(counts && (!left || times.is_multiple_of(LEFT_IS_ABORT)));
                let aborts = anchor.aborts;
                if aborts >= maxtries {
                    anchor.state = AnchorState::Blacklisted;
                    self.set_hotness(key.id, NEVER);
                } else if left {
                    self.set_hotness(key.id, self.hot_after_left(aborts, times));
                } else {
                    self.set_hotness(key.id, self.hot_loop(aborts));
                }
                // Forced anchors ask at once until they are known.
                let _ = self.cache.set_entry(key.id, key.return_address, 0);
            }
            Origin::Side { exit, .. } => {
                let state = &mut self.graph.exits[exit as usize];
                state.last_abort = Some(reason);
                state.aborts += u64::from(counts);
                let aborts = state.aborts;
                let join = state.join;
                if aborts >= self.params.maxtries {
                    self.silence(exit);
                    if let Some(key) = join {
                        self.give_up_join(&key);
                    }
                } else {
                    self.set_exit_counter(exit, self.hot_exit(aborts));
                }
            }
        }
    }

    /// The slot of an anchor whose call is at `ip`, made if there is none.
    fn slot(&mut self, key: AnchorKey, api: ApiFn, ip: u64) -> Result<(), CacheError> {
        let anchor = self.graph.anchor(key, api);
        if anchor.slot.is_some() {
            return Ok(());
        }
        let address = self.cache.new_slot(match anchor.state {
            AnchorState::Compiled(trace) => self.graph.traces[trace as usize].body,
            _ => ip,
        })?;
        self.graph.anchor(key, api).slot = Some(Slot { address, native: ip });
        Ok(())
    }

    /// Takes everything out of the target's way: no entry leads to a trace, no loop goes
    /// round in one, no exit counts.
    pub fn withdraw(&mut self) {
        self.cache.clear_entries();
        for anchor in self.graph.anchors.values() {
            if let Some(slot) = anchor.slot {
                self.cache.set_slot(slot.address, slot.native);
            }
        }
        for exit in &self.graph.exits {
            if let Some(handover) = &exit.handover {
                self.cache.set_slot(handover.slot, handover.found.stub);
            }
            self.cache.set_slot(exit.slot, exit.away);
        }
    }
}

impl World for std::sync::Mutex<Engine> {
    fn compiled(&self, key: AnchorKey) -> bool {
        self.lock().is_ok_and(|engine| engine.graph.compiled(key).is_some())
    }

    fn hopeless(&self, key: AnchorKey) -> bool {
        self.lock().is_ok_and(|engine| {
            engine.full
                || engine.declared.disabled.contains(&key.id)
                || engine
                    .graph
                    .anchors
                    .get(&key)
                    .is_some_and(|a| a.state == AnchorState::Blacklisted)
        })
    }

    fn left(&self, key: AnchorKey) -> u64 {
        let times = |engine: &Engine| engine.graph.anchors.get(&key)?.reasons.get(&Abort::LoopLeft).copied();
        self.lock().ok().and_then(|engine| times(&engine)).unwrap_or(0)
    }

    fn join(&self, key: &JoinKey) -> Standing {
        self.lock().map_or(Standing::Hopeless, |engine| engine.join(key))
    }
}
