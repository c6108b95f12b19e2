//! Stores that are one instruction with the load and the arithmetic before them: `add qword ptr [rax], 1`.
//!
//! Reference counts are most of what an interpreter of this kind stores, and their flags decide whether an object dies:
//! `sub qword ptr [rax], 1; je`. Nothing but the store may want the sum, and nothing but the sum the old value, apart from
//! flags that a guard finds in the processor right after the store.

use redmagic_ir::{End, Op, Opcode, Type, Value};

use super::Plan;
use crate::lower::encode::Alu;

/// A load, arithmetic, and the store of its result to the same place.
#[derive(Debug, Clone, Copy)]
pub(in crate::lower) struct Update {
    load: usize,
    sum: usize,
    pub(in crate::lower) kind: Alu,
    /// What is added to the memory, or whatever it is.
    pub(in crate::lower) operand: Value,
    /// The flags that it leaves, and the guard that wants them.
    pub(in crate::lower) flags: Option<(usize, usize)>,
}

/// How many operations there may be between the store and the guard.
const WINDOW: usize = 6;

impl Plan<'_> {
    /// Finds them all. Whether their guards find the flags is still to be seen.
    pub(super) fn find_updates(&mut self) {
        let trace = self.trace;
        let uses = self.count_uses();
        for (at, store) in trace.ops.iter().enumerate() {
            if store.code == Opcode::Store && self.live[at] {
                self.updates[at] = self.update(at, store, &uses);
            }
        }
        self.mark_updated();
    }

    /// Drops those whose guards do not; true if there were any.
    pub(super) fn drop_updates(&mut self) -> bool {
        let mut dropped = false;
        for at in 0..self.updates.len() {
            let Some((flags, guard)) = self.updates[at].and_then(|update| update.flags) else {
                continue;
            };
            let position = guard as u32 + 1;
            let listed = self
                .snapshot(&self.trace.ops[guard])
                .values()
                .any(|v| v == Value::op(flags));
            if !self.flags.ready(position) || listed && !self.flags.in_exit(position) {
                self.updates[at] = None;
                dropped = true;
            }
        }
        if dropped {
            self.mark_updated();
        }
        dropped
    }

    /// Whether an operation is part of a store.
    pub(in crate::lower) fn is_updated(&self, i: usize) -> bool {
        self.updated[i]
    }

    fn mark_updated(&mut self) {
        self.updated.fill(false);
        for update in self.updates.iter().flatten() {
            self.updated[update.load] = true;
            self.updated[update.sum] = true;
        }
    }

    fn count_uses(&self) -> Vec<u32> {
        let trace = self.trace;
        let mut uses = vec![0u32; trace.ops.len()];
        let mut count = |value: Value| {
            if let Some(i) = value.as_op() {
                uses[i] += 1;
            }
        };
        for (_, op) in trace.ops.iter().enumerate().filter(|(i, _)| self.live[*i]) {
            op.operands().iter().for_each(|value| count(*value));
            if let Some(at) = op.snapshot() {
                trace.snapshots[at].values().for_each(&mut count);
            }
            if op.code == Opcode::Native {
                let inputs = &trace.natives[op.aux as usize].inputs;
                inputs.iter().for_each(|(_, value)| count(*value));
            }
        }
        match &trace.end {
            End::Branch { cond: value, .. } | End::Jump { target: value, .. } => count(*value),
            _ => {}
        }
        self.phis.iter().for_each(|(_, next)| count(*next));
        if let Some(snapshot) = trace.end.snapshot() {
            snapshot.values().for_each(count);
        }
        uses
    }

    fn update(&self, at: usize, store: &Op, uses: &[u32]) -> Option<Update> {
        use Opcode as O;
        let trace = self.trace;
        let sum = store.args[0].as_op()?;
        let arithmetic = trace.ops[sum];
        let kind = match arithmetic.code {
            O::Add => Alu::Add,
            O::Sub => Alu::Sub,
            O::And => Alu::And,
            O::Or => Alu::Or,
            O::Xor => Alu::Xor,
            _ => return None,
        };
        let whole = matches!(store.ty, Type::I8 | Type::I16 | Type::I32 | Type::I64) && arithmetic.ty == store.ty;
        if !whole || uses[sum] != 1 {
            return None;
        }
        let place = |op: &Op, first: usize| {
            (
                op.args[first],
                op.args[first + 1],
                op.args[first + 2],
                op.imm & 3,
                op.aux,
            )
        };
        let loaded = |value: Value| {
            let load = value.as_op()?;
            let op = &trace.ops[load];
            let same = op.code == O::Load && op.ty == store.ty && place(op, 0) == place(store, 1);
            let head = self.head.is_none_or(|head| (load > head) == (at > head));
            (same && head && self.writes[load] == self.writes[at - 1]).then_some(load)
        };
        let (a, b) = (arithmetic.args[0], arithmetic.args[1]);
        let (load, operand) = match (loaded(a), loaded(b)) {
            (Some(load), _) => (load, b),
            (None, Some(load)) if arithmetic.code != O::Sub => (load, a),
            _ => return None,
        };
        let mut update = Update {
            load,
            sum,
            kind,
            operand,
            flags: None,
        };
        match uses[load] {
            1 => Some(update),
            2 => {
                let (flags, guard) = self.flags_of_update(at, &update, uses)?;
                // The carry of a difference is not that of the sum with the negative.
                if trace.ops[flags].code == O::FlagsSub {
                    update.kind = Alu::Sub;
                    update.operand = trace.ops[flags].args[1];
                }
                update.flags = Some((flags, guard));
                Some(update)
            }
            _ => None,
        }
    }

    /// The flags that are made of the old value as the sum is, when a single guard wants them.
    fn flags_of_update(&self, at: usize, update: &Update, uses: &[u32]) -> Option<(usize, usize)> {
        use Opcode as O;
        let trace = self.trace;
        let ops = &trace.ops;
        let old = Value::op(update.load);
        let end = (at + WINDOW).min(ops.len());
        let live = |range: std::ops::Range<usize>| range.filter(|i| self.live[*i]);
        let flags = live(update.load + 1..end).find(|i| {
            let op = &ops[*i];
            let number = |value: Value| trace.constant(value);
            let same = match (op.code, update.kind) {
                (O::FlagsSub, Alu::Sub) | (O::FlagsAdd, Alu::Add) => op.args[1] == update.operand,
                (O::FlagsSub, Alu::Add) => match (number(op.args[1]), number(update.operand)) {
                    (Some(less), Some(more)) => less.wrapping_add(more) & op.ty.mask() == 0,
                    _ => false,
                },
                _ => false,
            };
            same && op.args[0] == old && op.ty == ops[update.sum].ty
        })?;
        let cond = live(flags + 1..end).find(|i| ops[*i].code == O::Cond && ops[*i].args[0] == Value::op(flags))?;
        let guard = live(at + 1..end)
            .find(|i| matches!(ops[*i].code, O::GuardTrue | O::GuardFalse) && ops[*i].args[0] == Value::op(cond))?;
        let listed = self
            .snapshot(&ops[guard])
            .values()
            .filter(|v| *v == Value::op(flags))
            .count() as u32;
        (uses[cond] == 1 && uses[flags] == 1 + listed).then_some((flags, guard))
    }
}
