//! What traces rely on of the memory that the program declared constant, and whether it is still so.
//!
//! A trace is valid while every block that it relies on is declared. That a block ended does not mean that what a trace relies on
//! of it has changed: an interpreter that rewrites one word of a function's bytecode ends the block, writes, and declares it again, and two
//! functions may share a table that both declare. So a trace of which a block is missing is only suspended: nothing leads to it,
//! and it is not valid for any later generation. When all of its blocks are declared again, with the bytes that it relies on,
//! it goes on; when any of these bytes has changed, or the blocks stay away, it is dropped. What goes on from its exits shares its fate: it
//! may have taken values over that were computed from those bytes. The trace that it goes on from does not.
//!
//! # Why this is sound
//!
//! * All that a trace takes from declared memory are the words in [`Optimized::relied_on`](redmagic_opt::Optimized), with what they held when it
//!   was recorded, and that no store reaches the blocks while they are declared. The words are compared after the generation was read for which
//!   the trace will be valid: should a block end and change during the comparison, or after it, the generation moves on, and the block has another serial
//!   number when the next comparison is due.
//! * A thread that is in a trace finds out when it next compares the generation, with a word that is the trace's own. Where a side trace counts on
//!   a comparison that its parent has made, the parent's exit leads to it: what is dropped or suspended is unlinked before
//!   anything is made valid for the generation.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redmagic_opt::Relied;

use super::Engine;
use crate::cache::CacheError;
use crate::graph::{AnchorState, JoinKey, Origin, TraceId};
use crate::registry::{ConstantRange, Declarations};

/// Largest block that is compared: one that ends and comes back is small, or the program does something else with it.
const LARGEST: u64 = 1 << 20;

/// A generation that never comes.
const NEVER: u64 = u64::MAX;

/// The target's memory: what is in a range of it now.
pub type Bytes<'a> = dyn Fn(Range<u64>) -> Option<Vec<u8>> + 'a;

/// What a trace relies on.
#[derive(Debug, Default)]
pub(super) struct Reliance {
    /// The blocks, as they were declared when this was last looked at; that of a root's id, too.
    blocks: Vec<ConstantRange>,
    /// The words in them.
    words: BTreeSet<Relied>,
    /// Since when a block of it is missing.
    suspended: Option<Instant>,
}

/// How it stands with a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// All is as it was.
    Valid,
    /// A block is not declared.
    Missing,
    /// It is declared, and not what it was.
    Changed,
}

impl Reliance {
    /// Adds the block of an address, if it lies in one.
    fn add_block_at(&mut self, declared: &Declarations, address: u64) {
        if let Some(block) = declared.constant_at(address)
            && !self.blocks.contains(&block)
        {
            self.blocks.push(block);
        }
    }

    fn look(&mut self, declared: &Declarations, bytes: &mut Compared<'_>) -> Standing {
        let mut anew = Vec::new();
        let mut missing = false;
        for block in &mut self.blocks {
            match declared.constant_at(block.start) {
                Some(now) if now == *block => {}
                Some(now) if (now.start, now.length) == (block.start, block.length) => anew.push((block, now)),
                Some(_) => return Standing::Changed,
                None => missing = true,
            }
        }
        if missing {
            return Standing::Missing;
        }
        for (block, now) in anew {
            let first = Relied {
                address: now.start,
                size: 0,
                bits: 0,
            };
            let mut words = self
                .words
                .range(first..)
                .take_while(|word| word.address - now.start < now.length);
            if !words.all(|word| bytes.has(&now, word)) {
                return Standing::Changed;
            }
            *block = now;
        }
        Standing::Valid
    }
}

/// Blocks that were read, for as long as nothing else can have been declared.
struct Compared<'a> {
    memory: &'a Bytes<'a>,
    blocks: BTreeMap<u64, Option<Vec<u8>>>,
}

impl Compared<'_> {
    /// Whether a word of a block holds what it did.
    fn has(&mut self, block: &ConstantRange, word: &Relied) -> bool {
        let memory = self.memory;
        let range = block.start..block.start.saturating_add(block.length);
        let read = || (block.length <= LARGEST).then(|| memory(range)).flatten();
        let Some(bytes) = self.blocks.entry(block.start).or_insert_with(read) else {
            return false;
        };
        let at = (word.address - block.start) as usize;
        let now = bytes.get(at..at + word.size as usize);
        let same = now.is_some_and(|now| now == &word.bits.to_le_bytes()[..word.size as usize]);
        if !same {
            tracing::debug!(
                word.address,
                block.start,
                was = word.bits,
                ?now,
                "constant memory has changed"
            );
        }
        same
    }
}

impl Engine {
    /// Notes what a trace that is about to be linked relies on, and makes it valid if all before it are.
    pub(super) fn rely(&mut self, id: TraceId, words: BTreeSet<Relied>) {
        let mut reliance = Reliance::default();
        if let Origin::Root(key) = self.graph.traces[id as usize].origin {
            reliance.add_block_at(&self.declared, key.id);
        }
        if let Some(join) = self.begins_at(id) {
            reliance.add_block_at(&self.declared, join.pc);
        }
        for word in &words {
            reliance.add_block_at(&self.declared, word.address);
        }
        reliance.words = words;
        self.reliances.insert(id, reliance);
        // Other blocks may have ended, or been declared, while it was compiled.
        let generation = if self.suspended().contains(&id) {
            NEVER
        } else {
            self.generation
        };
        self.cache.set_slot(self.graph.traces[id as usize].valid, generation);
    }

    /// Takes in what the program has declared since. Traces of which a block is missing are suspended, those of which one has changed
    /// are dropped, and those of which all are back go on. `memory` reads the target's, and is asked for blocks that were declared anew.
    pub fn redeclare(&mut self, declared: Declarations, memory: &Bytes<'_>) {
        self.declared = Arc::new(declared);
        let mut bytes = Compared {
            memory,
            blocks: BTreeMap::new(),
        };
        let standings: Vec<(TraceId, Standing)> = self
            .reliances
            .iter_mut()
            .map(|(id, reliance)| (*id, reliance.look(&self.declared, &mut bytes)))
            .collect();
        let mut back = Vec::new();
        for (id, standing) in standings {
            match standing {
                Standing::Valid if self.is_suspended(id) => back.push(id),
                Standing::Valid => {}
                Standing::Missing => self.suspend(id),
                Standing::Changed => self.drop_trace(id, "constant memory has changed"),
            }
        }
        self.resume(&back);
        let disabled: Vec<TraceId> = self
            .graph
            .live()
            .filter_map(|trace| match trace.origin {
                Origin::Root(key) if self.declared.disabled.contains(&key.id) => Some(trace.root),
                _ => None,
            })
            .collect();
        for root in disabled {
            self.drop_trace(root, "its anchor is disabled");
        }
    }

    /// The declarations were read after the generation was this: what is still there is valid
    /// for it.
    pub fn validate(&mut self, generation: u64) {
        if generation != self.generation {
            self.generation = generation;
            self.make_valid();
        }
    }

    fn make_valid(&mut self) {
        let suspended = self.suspended();
        for id in self.reliances.keys().filter(|id| !suspended.contains(id)) {
            self.cache
                .set_slot(self.graph.traces[*id as usize].valid, self.generation);
        }
    }

    /// Drops what has been suspended for too long: what its loops do now is recorded anew.
    pub fn give_up_suspended(&mut self) {
        let longest = Duration::from_millis(self.params.suspendtime);
        let over = |since: Instant| since.elapsed() >= longest;
        let given_up: Vec<TraceId> = self
            .reliances
            .iter()
            .filter(|(_, on)| on.suspended.is_some_and(over))
            .map(|(id, _)| *id)
            .collect();
        for id in given_up {
            self.drop_trace(id, "constant memory is not declared again");
        }
    }

    /// Whether a trace waits for blocks that it relies on.
    pub fn has_suspended(&self) -> bool {
        self.reliances.values().any(|on| on.suspended.is_some())
    }

    /// The traces that are suspended, with all that goes on from them.
    fn suspended(&self) -> HashSet<TraceId> {
        self.with_side_traces(|id| self.is_suspended(id))
    }

    /// Whether nothing is to lead to a trace.
    pub(super) fn is_out(&self, id: TraceId) -> bool {
        self.is_suspended(id) || self.graph.traces[id as usize].dropped
    }

    /// Whether a trace waits for blocks that it relies on itself.
    fn is_suspended(&self, id: TraceId) -> bool {
        self.reliances.get(&id).is_some_and(|on| on.suspended.is_some())
    }

    /// These live traces, and all that goes on from them.
    fn with_side_traces(&self, these: impl Fn(TraceId) -> bool) -> HashSet<TraceId> {
        let mut all = HashSet::new();
        // What goes on from a trace was made after it.
        for id in self.reliances.keys() {
            let goes_on = match self.graph.traces[*id as usize].origin {
                // At a join it takes nothing over.
                Origin::Side { exit, parent } => {
                    self.graph.exits[exit as usize].join.is_none() && all.contains(&parent)
                }
                Origin::Root(_) => false,
            };
            if goes_on || these(*id) {
                all.insert(*id);
            }
        }
        all
    }

    fn suspend(&mut self, id: TraceId) {
        let Some(reliance) = self.reliances.get_mut(&id) else {
            return;
        };
        if reliance.suspended.is_none() {
            reliance.suspended = Some(Instant::now());
            let _ = self.lead_to(id);
        }
    }

    /// Lets suspended traces go on.
    fn resume(&mut self, back: &[TraceId]) {
        for id in back {
            if let Some(reliance) = self.reliances.get_mut(id) {
                reliance.suspended = None;
            }
        }
        if !back.is_empty() {
            // Generations that came while they were suspended were none of their own.
            self.make_valid();
        }
        for id in back {
            // What has no entry any more is dropped.
            let _ = self.lead_to(*id);
        }
    }

    /// The join that a trace begins at.
    fn begins_at(&self, id: TraceId) -> Option<JoinKey> {
        match self.graph.traces[id as usize].origin {
            Origin::Side { exit, .. } => self.graph.exits[exit as usize].join,
            Origin::Root(_) => None,
        }
    }

    /// The word that leads to a side trace from an exit, and what it holds without one.
    fn word_of(&self, exit: u32, grafted: bool) -> (u64, u64) {
        let exit = &self.graph.exits[exit as usize];
        match &exit.handover {
            Some(handover) if grafted => (handover.slot, handover.found.stub),
            _ => (exit.slot, exit.stub),
        }
    }

    /// Has its anchor or exit lead to a trace, or past it while it is suspended and once it was dropped.
    ///
    /// # Errors
    /// When there is no place for the entry of a root, which is dropped then.
    pub(super) fn lead_to(&mut self, id: TraceId) -> Result<(), CacheError> {
        let trace = &self.graph.traces[id as usize];
        match trace.origin {
            Origin::Root(_) => {
                if let Err(error) = self.lead_to_root(id) {
                    self.drop_trace(id, "there is no entry for it");
                    return Err(error);
                }
            }
            Origin::Side { exit, .. } if self.graph.exits[exit as usize].is_reentry() => self.lead_to_reentry(id),
            Origin::Side { exit, .. } if let Some(key) = self.graph.exits[exit as usize].join => {
                self.lead_to_join(&key)
            }
            Origin::Side { exit, .. } => {
                let (slot, stub) = self.word_of(exit, trace.grafted);
                let there = if self.is_out(id) { stub } else { trace.body };
                self.cache.set_slot(slot, there);
            }
        }
        Ok(())
    }

    /// Makes a trace unreachable for good, with all that goes on from it: none of them will be valid again, and whoever goes round
    /// in it leaves at the next turn.
    fn drop_trace(&mut self, id: TraceId, why: &str) {
        let dropped = self.with_side_traces(|each| each == id);
        if dropped.is_empty() {
            return;
        }
        tracing::debug!(id, traces = dropped.len(), why, "dropped");
        for each in &dropped {
            self.reliances.remove(each);
            self.graph.traces[*each as usize].dropped = true;
        }
        let _ = self.lead_to(id);
        self.counts.dropped += 1;
        let trace = &self.graph.traces[id as usize];
        let (origin, root) = (trace.origin, trace.root);
        match origin {
            Origin::Root(key) => {
                if let Some(anchor) = self.graph.anchors.get_mut(&key)
                    && anchor.state == AnchorState::Compiled(id)
                {
                    anchor.state = AnchorState::Cold;
                    anchor.aborts = 0;
                }
                self.set_hotness(key.id, self.hot_loop(0));
            }
            Origin::Side { exit, parent } => {
                if let Some(key) = self.begins_at(id) {
                    self.join_dropped(&key);
                }
                self.graph.exits[exit as usize].side = None;
                self.graph.exits[exit as usize].aborts = 0;
                self.graph.traces[root as usize].side_traces -= dropped.len() as u64;
                let parent = self.graph.traces[parent as usize].origin;
                self.set_exit_counter(exit, self.hot_exit(self.depth(parent)));
            }
        }
    }
}
