//! Pointers into one object.
//!
//! An interpreter keeps a frame and a pointer into it: the top of its operand stack. Nothing in the machine code says that
//! the second is the first plus a constant, yet at one place of a program it is always the same constant, for the depth of
//! the operand stack does not depend on the path. Where it is known, both have one root ([`super::memory`]), and whether
//! two accesses overlap can be seen.
//!
//! Two ways in which such a pointer arises are guarded:
//!
//! * at the entry it is in a register, next to one with the other: their difference is guarded before anything else;
//! * it is `frame + frame->depth * size`: `depth` is guarded, where it is loaded from the object that it is an index into.
//!
//! Array elements are neither: their index comes from elsewhere.

use redmagic_ir::{Op, Opcode, Reg, Trace, Type, Value};

use super::fold::root;
use super::memory::place;
use super::{Pass, Step, made_from};
use crate::cx::Cx;

/// See the module.
pub struct Related;

/// Most bytes between two pointers of which it is believed that they belong together.
const NEAR: u64 = 2048;
/// Most bytes from the pointer that an index is loaded by.
const NEAR_FIELD: u64 = 256;

impl Pass for Related {
    fn name(&self) -> &'static str {
        "related"
    }

    fn concerns(&self, code: Opcode) -> bool {
        matches!(code, Opcode::Load | Opcode::Lea | Opcode::Store)
    }

    /// Guards how far registers that point into one object are from each other. (A side trace that goes on where its parent is
    /// left has the registers of the emitter's choice.)
    fn entered(&self, cx: &mut Cx<'_>, trace: &Trace) {
        if cx.input.inherited.is_some() {
            return;
        }
        for ((from, from_seen), (reg, reg_seen)) in near_at_entry(cx, trace) {
            let distance = reg_seen - from_seen;
            let seen = |bits: u64| Some(u128::from(bits));
            let value = cx.entry_register(reg, seen(reg_seen));
            let from = cx.entry_register(from, seen(from_seen));
            cx.leave_at(cx.input.start_pc);
            let difference = Cx::op(Opcode::Sub, Type::I64, 0, &[value, from]);
            let difference = cx.feed(difference, seen(distance));
            if cx.guard_equal(difference, distance) {
                let distance = cx.b.int(Type::I64, distance);
                let sum = Cx::op(Opcode::Add, Type::I64, 0, &[from, distance]);
                let sum = cx.feed(sum, seen(reg_seen));
                if sum != value {
                    cx.equal.insert(value, sum);
                }
            }
        }
        cx.checkpoint = None;
    }

    fn visit(&self, cx: &mut Cx<'_>, op: Op, _: Option<u128>) -> Step {
        let at = match op.code {
            Opcode::Load | Opcode::Lea => 0,
            Opcode::Store => 1,
            _ => return Step::Next(op),
        };
        let (base, index) = (op.args[at], op.args[at + 1]);
        if !base.is_none()
            && !index.is_none()
            && let Some(loaded) = own_index(cx, base, index)
            && let Some(seen) = cx.seen(loaded)
            && cx.guard_equal(loaded, seen as u64)
        {
            // What was made from it is a constant now.
            if let Some(constant) = made_from(cx, index, loaded, seen as u64) {
                cx.equal.insert(index, constant);
            }
        }
        Step::Next(op)
    }
}

/// What an index was loaded as, if from the object that the base points to.
fn own_index(cx: &Cx<'_>, base: Value, mut index: Value) -> Option<Value> {
    while let Some(op) = cx
        .def(index)
        .filter(|op| matches!(op.code, Opcode::Zext | Opcode::Sext))
    {
        index = cx.canonical(op.args[0]);
    }
    let load = cx.def_of(index, Opcode::Load)?;
    let plain = load.args[1].is_none() && load.args[2].is_none() && !load.args[0].is_none();
    let near = u64::from(load.aux.unsigned_abs()) <= NEAR_FIELD;
    (plain && near && root(cx, base).0 == load.args[0]).then_some(index)
}

/// A register at the entry that is used as a pointer, and what it was when it was recorded.
type Pointer = (Reg, u64);

/// Registers at the entry that point near each other, the earlier one first.
fn near_at_entry(cx: &Cx<'_>, trace: &Trace) -> Vec<(Pointer, Pointer)> {
    let mut used: Vec<Pointer> = Vec::new();
    for place in trace.ops.iter().filter_map(place) {
        let Some((reg, index)) = register(trace, place.root.base) else {
            continue;
        };
        let constant = cx.input.entry.iter().any(|(known, _)| *known == reg);
        let seen = cx.input.observed.get(index).copied().flatten();
        if let Some(seen) = seen.filter(|_| Reg::CALLEE_SAVED.contains(&reg) && !constant)
            && used.iter().all(|(known, _)| *known != reg)
        {
            used.push((reg, seen as u64));
        }
    }
    used.sort_unstable_by_key(|(reg, at)| (*at, reg.index()));
    used.windows(2)
        .map(|pair| (pair[0], pair[1]))
        .filter(|(first, second)| second.1 - first.1 <= NEAR)
        .collect()
}

/// The register of the entry that an address is a constant away from, and the operation that reads it.
fn register(trace: &Trace, mut value: Value) -> Option<(Reg, usize)> {
    loop {
        let index = value.as_op()?;
        let op = trace.ops.get(index)?;
        value = match op.code {
            Opcode::Reg => return Some((op.reg()?, index)),
            Opcode::Add if trace.constant(op.args[1]).is_some() => op.args[0],
            Opcode::Lea if op.args[1].is_none() => op.args[0],
            _ => return None,
        };
    }
}
