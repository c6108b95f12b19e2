//! A recording through the lifter and the optimiser.

use rustc_hash::FxHashMap;
use std::ops::Range;

use redmagic_ir::{Reg, Trace};
use redmagic_opt::graft::{self, Grafted, Leave};
use redmagic_opt::{After, Constant, ConstantMemory, Failed, Input, Optimized};
use redmagic_proto::registry::KIND_CONSTANT_MEMORY;
use redmagic_record::recording::{AccessKind, BlockKind, ConstantBlock, Recording, Step};

use crate::fold::{Facts, Mappings};
use crate::graph::{HandoverState, Parent};
use crate::lift::{self, Malformed};
use crate::observe;
use crate::registry::Declarations;

/// The bytes of a recording that do not change.
struct RecordedConstants<'a> {
    bytes: FxHashMap<u64, u8>,
    facts: &'a Facts<'a>,
}

impl<'a> RecordedConstants<'a> {
    fn of(recording: &Recording, facts: &'a Facts<'a>) -> Self {
        let written = facts.declared.written(recording);
        let mut bytes = FxHashMap::default();
        for step in &recording.steps {
            let Step::Inst(inst) = step else { continue };
            for access in inst.mem.iter().filter(|access| access.kind == AccessKind::Read) {
                let inside = |address: u64| {
                    facts.declared.constant_at(address).is_some()
                        || facts.mappings.is_read_only(&(address..address.saturating_add(1)))
                };
                if inside(access.addr) {
                    for (i, byte) in access.value.iter().enumerate() {
                        let address = access.addr + i as u64;
                        if !written.contains(&address) {
                            bytes.insert(address, *byte);
                        }
                    }
                }
            }
        }
        RecordedConstants { bytes, facts }
    }
}

impl ConstantMemory for RecordedConstants<'_> {
    fn load(&self, address: u64, size: u32) -> Option<Constant> {
        let end = address.checked_add(u64::from(size))?;
        let read_only = self.facts.mappings.is_read_only(&(address..end));
        let declared = self
            .facts
            .declared
            .constant_at(address)
            .is_some_and(|block| end - block.start <= block.length);
        if !read_only && !declared {
            return None;
        }
        let mut bits = 0;
        for (i, address) in (address..end).enumerate() {
            bits |= u128::from(*self.bytes.get(&address)?) << (i * 8);
        }
        Some(Constant {
            bits,
            declared: !read_only,
        })
    }

    fn unwritten(&self, bytes: Range<u64>) -> bool {
        self.facts.mappings.is_unwritten(&bytes)
    }
}

/// The constant memory that a recording has read, for its file.
pub fn constant_blocks(recording: &Recording, facts: &Facts<'_>) -> Vec<ConstantBlock> {
    let mut blocks: Vec<ConstantBlock> = Vec::new();
    for step in &recording.steps {
        let Step::Inst(inst) = step else { continue };
        for access in &inst.mem {
            let declared = facts.declared.constant_at(access.addr).map(|block| ConstantBlock {
                start: block.start,
                length: block.length,
                kind: BlockKind::Declared,
            });
            let held = |ranges: &[Range<u64>], kind: BlockKind| {
                let range = ranges.iter().find(|range| range.contains(&access.addr))?;
                Some(ConstantBlock {
                    start: range.start,
                    length: range.end - range.start,
                    kind,
                })
            };
            let block = declared
                .or_else(|| held(&facts.mappings.read_only, BlockKind::ReadOnly))
                .or_else(|| held(&facts.mappings.unwritten, BlockKind::Unwritten));
            if let Some(block) = block.filter(|block| !blocks.contains(block)) {
                blocks.push(block);
            }
        }
    }
    blocks
}

/// What a saved recording says of constant memory.
pub fn saved_facts(recording: &Recording) -> (Declarations, Mappings) {
    let mut declared = Declarations::default();
    let mut mappings = Mappings::default();
    for block in &recording.meta.constant {
        let range = block.start..block.start.saturating_add(block.length);
        match block.kind {
            BlockKind::Declared => declared.add(KIND_CONSTANT_MEMORY, block.start, block.length, 0),
            BlockKind::ReadOnly => mappings.read_only.push(range),
            BlockKind::Unwritten => mappings.unwritten.push(range),
        }
    }
    (declared, mappings)
}

/// Registers that hold the id of a root's anchor at its start.
pub fn entry_registers(recording: &Recording, id: u64) -> Vec<(Reg, u64)> {
    let holds = |reg: &Reg| recording.start.gpr[reg.index()] == id;
    Reg::CALLEE_SAVED
        .into_iter()
        .filter(holds)
        .map(|reg| (reg, id))
        .collect()
}

/// Where a trace begins, and what leads back there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place<'a> {
    /// Registers to guard at the entry.
    pub entry: &'a [(Reg, u64)],
    /// Where the original code goes on at the entry.
    pub start: u64,
    /// The call of the anchor, for loops.
    pub anchor_call: u64,
    /// Turns of a loop before it goes back to the entry.
    pub turns: u64,
    /// Most copies of a short loop's body.
    pub unroll: usize,
    /// Whether to evaluate the optimised trace beside the lifted one, and fail where they differ.
    pub verify: bool,
    /// For a side trace: the trace and the exit that it goes on from.
    pub graft: Option<(&'a Parent, &'a HandoverState)>,
}

/// Why there is no optimised trace.
#[derive(Debug, thiserror::Error)]
pub enum OptimiseError {
    /// The recording contradicts itself.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The trace ends before the recording does.
    #[error("{0}")]
    Stopped(redmagic_lift::recording::Stop),
    /// The optimised trace does not do what was recorded: a bug of the optimiser's.
    #[error("the optimised trace is wrong, please report this: {0}")]
    Wrong(String),
    /// A register of the original code is nowhere to be had at the exit.
    #[error("its parent has lost a register")]
    Graft,
    /// The optimiser gave up.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// Said of a side trace that is wrong since its parent knew something else of memory. With signal handlers and threads that is no
/// bug: the trace would leave at once.
const CHANGED: &str = "memory is not what its parent knew";

/// Name of the stage in which the lifted trace is evaluated; it does not change it.
pub const OBSERVED: &str = "observed";

/// Lifts and optimises. `after` sees the trace after each stage: "lifted", [`OBSERVED`], those of the optimiser, and "renumbered".
///
/// # Errors
/// See [`OptimiseError`].
pub fn optimise(
    recording: &Recording,
    facts: &Facts<'_>,
    place: Place<'_>,
    passes: &[&str],
    mut after: Option<After<'_>>,
) -> Result<Optimized, OptimiseError> {
    let (trace, stop) = lift::lift(recording)?;
    if let Some(stop) = stop {
        return Err(OptimiseError::Stopped(stop));
    }
    if let Some(after) = &mut after {
        after("lifted", &trace);
    }
    let observed = observe::observe(&trace, recording);
    let lifted = trace;
    let grafted = match place.graft {
        Some((parent, handover)) => Some(graft(recording, &lifted, &observed, parent, handover)?),
        None => None,
    };
    let (trace, observed) = match &grafted {
        Some(grafted) => (&grafted.trace, &grafted.observed),
        None => (&lifted, &observed),
    };
    let constants = RecordedConstants::of(recording, facts);
    if let Some(after) = &mut after {
        after(OBSERVED, trace);
    }
    let input = Input {
        entry: place.entry,
        start_pc: place.start,
        observed,
        inherited: grafted.as_ref().map(|grafted| &grafted.inherited),
        constants: &constants,
        generation: Some(facts.generation),
        restart_pc: place.anchor_call,
        iterations: place.turns.max(1),
        unroll: place.unroll.max(1),
    };
    if place.verify {
        // Without the loop, which has no end to compare.
        let straight: Vec<&str> = passes.iter().copied().filter(|pass| *pass != "peel").collect();
        let optimised = redmagic_opt::optimize(trace, &input, &straight)?;
        let mut start = match &grafted {
            Some(grafted) => observe::machine(grafted, recording),
            None => observe::start(recording),
        };
        start.recorded.agree(facts.generation);
        let (found, changed) = (start.found, start.changed);
        let difference = observe::difference(&lifted, &optimised.trace, recording, start);
        if !found && difference.is_some() {
            // It may be for want of what the trace depends on.
            tracing::debug!("not verified");
        } else if let Some(difference) = difference {
            tracing::trace!(%difference, entered = %trace, optimised = %optimised.trace, "wrong");
            return Err(OptimiseError::Wrong(if changed {
                format!("{difference} ({CHANGED})")
            } else {
                difference
            }));
        }
    }
    Ok(redmagic_opt::optimize_with(trace, &input, passes, after)?)
}

/// The lifted trace behind its parent.
fn graft(
    recording: &Recording,
    lifted: &Trace,
    observed: &[Option<u128>],
    parent: &Parent,
    handover: &HandoverState,
) -> Result<Grafted, OptimiseError> {
    let found = &handover.found;
    let leave = Leave {
        at: handover.at,
        shared: &parent.shared,
        homes: &found.homes,
        flags: found.flags,
        frame: parent.frame,
    };
    let start = observe::registers(&recording.start);
    graft::graft(&parent.trace, &leave, lifted, observed, &|reg| start.get(reg)).ok_or(OptimiseError::Graft)
}
