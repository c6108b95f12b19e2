//! Joins: where side traces of one tree go on in a trace that they share.
//!
//! A side trace that is recorded to the end of its turn repeats what its siblings have: where an iteration of thousands of instructions forks
//! in ten places that have nothing to do with each other, there are a thousand ways through it, and as many traces would be needed. (Trace trees
//! are known for it. YETI and HHVM make the pieces smaller, LuaJIT has the number of side traces limited.)
//!
//! So a side trace of a side trace may end in the middle of the turn: behind an indirect jump, where an interpreter begins its next instruction,
//! if a register that held the root's id, the interpreter's program counter, points into constant memory. Its end is an exit that counts, and the trace that is recorded
//! there begins in the state of the original code and takes nothing over: it is the one for all whose ends have the same [key](JoinKey). What was known of
//! types and memory is asked anew, so that it pays only for what is forked more than once.

use redmagic_ir::Reg;

use super::{Engine, Job};
use crate::graph::{AnchorKey, ExitState, JoinKey, Origin, TraceId};

/// How often a join is reached before it is recorded: whoever leads there was hot enough for a trace.
pub(super) const HOT: i32 = 16;

/// Where a recording may end at a join.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The tree.
    pub root: AnchorKey,
    /// Registers that may hold the interpreter's program counter.
    pub registers: Vec<Reg>,
    /// After how many instructions there may be a new join, in place of one that has a trace.
    pub after: u64,
}

/// How it stands with a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has led there.
    New,
    /// It has a trace, or will have one.
    Shared,
    /// There will be none.
    Hopeless,
}

impl Engine {
    /// Whether, and where, a recording from an exit may end at a join.
    pub(super) fn joining(&self, origin: Origin, root: AnchorKey) -> Option<Joining> {
        let Origin::Side { exit, parent } = origin else {
            return None;
        };
        let params = &self.params;
        let deep = params.joindepth != 0 && self.depth(origin) >= params.joindepth;
        let state = &self.graph.exits[exit as usize];
        if !deep || params.optimise == 0 || state.join.is_some() || self.rest(state)? < params.jointail as usize {
            return None;
        }
        let tree = self.graph.traces[parent as usize].root;
        let registers = self.graph.traces[tree as usize].pc_registers.clone();
        (!registers.is_empty()).then_some(Joining {
            root,
            registers,
            after: params.joinafter,
        })
    }

    /// About how many instructions of the turn come after an exit.
    fn rest(&self, exit: &ExitState) -> Option<usize> {
        let trace = &self.graph.traces[exit.trace as usize];
        let at = exit.handover.as_ref()?.at;
        let ir = &trace.parent.as_ref()?.trace.trace;
        let head = ir.loop_head().unwrap_or(0);
        let (from, to) = if at >= head { (head, ir.ops.len()) } else { (0, head) };
        let own = trace.instructions * (to - at.min(to)) / (to - from).max(1);
        let join = self.graph.ends_at(exit.trace);
        let shared = join.and_then(|key| self.graph.joins.get(&key)?.trace);
        Some(own + shared.map_or(0, |shared| self.graph.traces[shared as usize].instructions))
    }

    /// How it stands with a join.
    pub fn join(&self, key: &JoinKey) -> Standing {
        match self.graph.joins.get(key) {
            None => Standing::New,
            Some(join) if join.hopeless => Standing::Hopeless,
            Some(_) => Standing::Shared,
        }
    }

    /// Notes that an exit is one more that leads to a join.
    pub(super) fn lead_from(&mut self, number: u32, key: JoinKey) {
        let join = self.graph.joins.entry(key).or_default();
        join.exits.push(number);
        let (shared, hopeless) = (join.trace, join.hopeless);
        if hopeless {
            self.silence(number);
        } else if shared.is_some() {
            self.lead_to_join(&key);
        }
    }

    /// Has all exits that lead to a join lead to its trace, or count until it has one.
    pub(super) fn lead_to_join(&mut self, key: &JoinKey) {
        let Some(join) = self.graph.joins.get(key) else {
            return;
        };
        let there = join.trace.filter(|trace| !self.is_out(*trace));
        let there = there.map(|trace| self.graph.traces[trace as usize].body);
        for number in &join.exits {
            let exit = &mut self.graph.exits[*number as usize];
            exit.side = join.trace;
            let without = if exit.silent { exit.away } else { exit.stub };
            self.cache.set_slot(exit.slot, there.unwrap_or(without));
        }
    }

    /// Notes the trace of the join that a job began at.
    pub(super) fn join_made(&mut self, job: &Job, trace: TraceId) {
        if let Some(key) = job.join {
            self.graph.joins.entry(key).or_default().trace = Some(trace);
        }
    }

    /// Nothing will be recorded at a join any more.
    pub(super) fn give_up_join(&mut self, key: &JoinKey) {
        let Some(join) = self.graph.joins.get_mut(key) else {
            return;
        };
        join.hopeless = true;
        for number in join.exits.clone() {
            if !self.graph.exits[number as usize].silent {
                self.silence(number);
            }
        }
    }

    /// The trace of a join was dropped: it may get another one.
    pub(super) fn join_dropped(&mut self, key: &JoinKey) {
        let Some(join) = self.graph.joins.get_mut(key) else {
            return;
        };
        join.trace = None;
        let exits = join.exits.clone();
        self.lead_to_join(key);
        for number in exits {
            if !self.graph.exits[number as usize].silent {
                self.set_exit_counter(number, self.hot_exit(0));
            }
        }
    }
}
