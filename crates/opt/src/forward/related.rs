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

use redmagic_ir::{Op, Opcode, Reg, Snapshot, Trace, Type, Value};

use super::fold::root;
use super::{Pass, Step};
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
            let ty = cx.b.type_of(index);
            if let Some(bits) = cx.seen(index) {
                let constant = cx.b.constant(ty, bits);
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

/// Registers at the entry that point near each other: the later one, the earlier one, and how far it is.
fn near_at_entry(cx: &Cx<'_>, trace: &Trace) -> Vec<(Reg, Reg, u64)> {
    let mut used: Vec<(Reg, u64)> = Vec::new();
    for op in &trace.ops {
        let at = match op.code {
            Opcode::Load => 0,
            Opcode::Store => 1,
            _ => continue,
        };
        let Some((reg, index)) = register(trace, op.args[at]) else {
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
        .filter_map(|pair| {
            let ((first, a), (second, b)) = (pair[0], pair[1]);
            (b - a <= NEAR).then_some((second, first, b - a))
        })
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

/// Guards, at the entry, how far registers that point into one object are from each other.
pub(crate) fn guard_entry(cx: &mut Cx<'_>, trace: &Trace) {
    for (reg, from, distance) in near_at_entry(cx, trace) {
        let seen = |reg: Reg| {
            let at = trace
                .ops
                .iter()
                .position(|op| op.code == Opcode::Reg && op.reg() == Some(reg))?;
            cx.input.observed.get(at).copied().flatten()
        };
        let (seen_reg, seen_from) = (seen(reg), seen(from));
        let value = cx.entry_register(reg, seen_reg);
        let from = cx.entry_register(from, seen_from);
        cx.checkpoint = Some(Snapshot {
            pc: cx.input.start_pc,
            ..Snapshot::default()
        });
        let difference = cx.feed(
            Cx::op(Opcode::Sub, Type::I64, 0, &[value, from]),
            Some(u128::from(distance)),
        );
        if cx.guard_equal(difference, distance) {
            let distance = cx.b.int(Type::I64, distance);
            let sum = cx.feed(Cx::op(Opcode::Add, Type::I64, 0, &[from, distance]), seen_reg);
            if sum != value {
                cx.equal.insert(value, sum);
            }
        }
    }
    cx.checkpoint = None;
}
