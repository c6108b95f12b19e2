//! What trees rely on of the memory that the program declared constant, and whether it is still so.
//!
//! A tree is valid while every block that it relies on is declared. That a block ended does not mean that what a tree relies on
//! of it has changed: an interpreter that rewrites one word of a function's bytecode ends the block, writes, and declares it again, and two
//! functions may share a table that both declare. So a tree of which a block is missing is only suspended: nothing leads to it,
//! and it is not valid for any later generation. When all of its blocks are declared again, with the bytes that it relies on,
//! it goes on; when any of these bytes has changed, or the blocks stay away, it is dropped.
//!
//! # Why this is sound
//!
//! All that a trace takes from declared memory are the words in [`Optimized::relied_on`](redmagic_opt::Optimized), with what they held when it
//! was recorded, and that no store reaches the blocks while they are declared. The words are compared after the generation was read for which
//! the tree will be valid: should a block end and change during the comparison, or after it, the generation moves on, and the block has another serial
//! number when the next comparison is due.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redmagic_opt::Relied;

use super::Engine;
use crate::graph::{AnchorState, Origin, TraceId};
use crate::registry::{ConstantRange, Declarations};

/// Largest block that is compared: one that ends and comes back is small, or the program does something else with it.
const LARGEST: u64 = 1 << 20;

/// The target's memory: what is in a range of it now.
pub type Bytes<'a> = dyn Fn(Range<u64>) -> Option<Vec<u8>> + 'a;

/// What the tree of a root relies on.
#[derive(Debug, Default)]
pub(super) struct Reliance {
    /// The blocks, as they were declared when this was last looked at; that of the root's id, too.
    blocks: Vec<ConstantRange>,
    /// The words in them.
    words: BTreeSet<Relied>,
    /// Since when a block of it is missing.
    suspended: Option<Instant>,
}

/// How it stands with a tree.
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
    pub(super) fn add_block_at(&mut self, declared: &Declarations, address: u64) {
        if let Some(block) = declared.constant_at(address)
            && !self.blocks.contains(&block)
        {
            self.blocks.push(block);
        }
    }

    pub(super) fn add_word(&mut self, word: Relied) {
        self.words.insert(word);
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
        now.is_some_and(|now| now == &word.bits.to_le_bytes()[..word.size as usize])
    }
}

impl Engine {
    /// Takes in what the program has declared since. Roots of which a block is missing are suspended, those of which one has changed
    /// are dropped, and those of which all are back go on. `memory` reads the target's, and is asked for blocks that were declared anew.
    pub fn redeclare(&mut self, declared: Declarations, memory: &Bytes<'_>) {
        self.declared = Arc::new(declared);
        let mut bytes = Compared {
            memory,
            blocks: BTreeMap::new(),
        };
        let standings: Vec<(TraceId, Standing)> = self
            .relied_on
            .iter_mut()
            .map(|(root, reliance)| (*root, reliance.look(&self.declared, &mut bytes)))
            .collect();
        for (root, standing) in standings {
            match standing {
                Standing::Valid => self.resume(root),
                Standing::Missing => self.suspend(root),
                Standing::Changed => self.drop_root(root, "constant memory has changed"),
            }
        }
        let disabled: Vec<TraceId> = self
            .graph
            .live()
            .filter_map(|trace| match trace.origin {
                Origin::Root(key) if self.declared.disabled.contains(&key.id) => Some(trace.root),
                _ => None,
            })
            .collect();
        for root in disabled {
            self.drop_root(root, "its anchor is disabled");
        }
    }

    /// The declarations were read after the generation was this: what is still there is valid
    /// for it.
    pub fn validate(&mut self, generation: u64) {
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        for (root, _) in self.relied_on.iter().filter(|(_, on)| on.suspended.is_none()) {
            self.cache.set_slot(self.graph.traces[*root as usize].valid, generation);
        }
    }

    /// Drops the roots whose blocks have stayed away for too long: what their loops do now is recorded anew.
    pub fn give_up_suspended(&mut self) {
        let longest = Duration::from_millis(self.params.suspendtime);
        let over = |since: Instant| since.elapsed() >= longest;
        let given_up: Vec<TraceId> = self
            .relied_on
            .iter()
            .filter(|(_, on)| on.suspended.is_some_and(over))
            .map(|(root, _)| *root)
            .collect();
        for root in given_up {
            self.drop_root(root, "constant memory is not declared again");
        }
    }

    /// Whether a root waits for blocks that it relies on.
    pub fn has_suspended(&self) -> bool {
        self.relied_on.values().any(|on| on.suspended.is_some())
    }

    fn suspend(&mut self, root: TraceId) {
        let Some(reliance) = self.relied_on.get_mut(&root) else {
            return;
        };
        if reliance.suspended.is_none() {
            reliance.suspended = Some(Instant::now());
            self.take_out(root);
        }
    }

    fn resume(&mut self, root: TraceId) {
        let Some(reliance) = self.relied_on.get_mut(&root) else {
            return;
        };
        if reliance.suspended.take().is_none() {
            return;
        }
        let trace = &self.graph.traces[root as usize];
        // Generations that came while it was suspended were none of its own.
        self.cache.set_slot(trace.valid, self.generation);
        let Origin::Root(key) = trace.origin else {
            return;
        };
        let (entry, body) = (trace.entry, trace.body);
        let Some(anchor) = self
            .graph
            .anchors
            .get(&key)
            .filter(|anchor| anchor.state == AnchorState::Compiled(root))
        else {
            return;
        };
        if let Some(slot) = anchor.slot {
            self.cache.set_slot(slot.address, body);
        }
        if self.cache.set_entry(key.id, key.return_address, entry).is_err() {
            self.drop_root(root, "its entry has gone");
        }
    }

    /// Makes a root unreachable. Whoever is in it leaves at the next turn.
    fn take_out(&mut self, root: TraceId) {
        let Origin::Root(key) = self.graph.traces[root as usize].origin else {
            return;
        };
        let _ = self.cache.set_entry(key.id, key.return_address, 0);
        if let Some(anchor) = self
            .graph
            .anchors
            .get(&key)
            .filter(|anchor| anchor.state == AnchorState::Compiled(root))
            && let Some(slot) = anchor.slot
        {
            self.cache.set_slot(slot.address, slot.native);
        }
    }

    /// Makes a root unreachable for good.
    fn drop_root(&mut self, root: TraceId, why: &str) {
        // Its tree will never be valid again.
        self.relied_on.remove(&root);
        let Origin::Root(key) = self.graph.traces[root as usize].origin else {
            return;
        };
        self.take_out(root);
        if let Some(anchor) = self.graph.anchors.get_mut(&key)
            && anchor.state == AnchorState::Compiled(root)
        {
            anchor.state = AnchorState::Cold;
            anchor.aborts = 0;
        }
        let mut traces = 0;
        for other in &mut self.graph.traces {
            if other.root == root {
                other.dropped = true;
                traces += 1;
            }
        }
        tracing::debug!(root, traces, why, "dropped");
        self.counts.dropped += 1;
        self.set_hotness(key.id, self.hot_loop(0));
    }
}
