//! Sizes of hash tables that are asked for a constant key.
//!
//! `table->entries[key->hash & ((1 << table->log2_size) - 1)]`: shifting by a register is dear on x86-64 (the count has to be
//! in rcx), and what follows from the size cannot fold. Where the key is constant, because it comes from the program's
//! constants, the table is most often an object or a module, and those of one place of the program have the same size: it is
//! guarded to be the recorded one. A table that is asked for keys of the moment may be of any size, and is left alone.
//!
//! What a shift is for is seen later than it must be guarded. A trial of the forward chain finds the shifts, and the next
//! one guards them.

use redmagic_ir::{Op, Opcode, Type, Value};
use rustc_hash::{FxHashMap, FxHashSet};

use super::memory::place;
use super::{Pass, Step};
use crate::cx::Cx;

/// See the module.
pub struct Sizes;

/// Shifts that make the mask of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shifts {
    /// Those to guard, by their operation in the lifted trace.
    guarded: FxHashSet<usize>,
    /// Those that were found.
    found: FxHashSet<usize>,
    /// Of shifts of the new trace: the operation that they were.
    origins: FxHashMap<Value, usize>,
}

impl Shifts {
    /// After a trial: what the next feeding of the same trace guards.
    pub(crate) fn guarding(self) -> Shifts {
        Shifts {
            guarded: self.found,
            ..Shifts::default()
        }
    }
}

impl Pass for Sizes {
    fn name(&self) -> &'static str {
        "sizes"
    }

    fn concerns(&self, code: Opcode) -> bool {
        matches!(code, Opcode::Shl | Opcode::And)
    }

    fn visit(&self, cx: &mut Cx<'_>, op: Op, _: Option<u128>) -> Step {
        match op.code {
            Opcode::Shl if cx.lifted.is_some_and(|at| cx.shifts.guarded.contains(&at)) => shift(cx, op),
            Opcode::And => {
                find(cx, op.args[0], op.args[1]);
                find(cx, op.args[1], op.args[0]);
                Step::Next(op)
            }
            _ => Step::Next(op),
        }
    }

    fn appended(&self, cx: &mut Cx<'_>, op: &Op, value: Value) {
        if op.code == Opcode::Shl
            && let Some(at) = cx.lifted
        {
            cx.shifts.origins.insert(value, at);
        }
    }
}

/// Guards the count of a shift of a constant.
fn shift(cx: &mut Cx<'_>, mut op: Op) -> Step {
    if cx.constant(op.args[0]).is_none() {
        return Step::Next(op);
    }
    let Some((size, seen)) = loaded_byte(cx, op.args[1]).and_then(|size| Some((size, cx.seen(size)?))) else {
        return Step::Next(op);
    };
    if !cx.guard_equal(size, seen as u64) {
        return Step::Next(op);
    }
    op.args[1] = cx.b.int(Type::I8, seen as u64);
    match cx.fold_constants(&op) {
        Some(value) => Step::Is(value),
        None => Step::Next(op),
    }
}

/// Notes the shift that a mask is made with, if it is for a constant, or what is loaded from a constant address.
fn find(cx: &mut Cx<'_>, hash: Value, mask: Value) {
    let loaded = || cx.def_of(hash, Opcode::Load).and_then(place);
    if (cx.constant(hash).is_some() || loaded().is_some_and(|from| from.root.is_constant(cx)))
        && let Some(shift) = shift_in(cx, mask)
        && let Some(at) = cx.shifts.origins.get(&shift)
    {
        cx.shifts.found.insert(*at);
    }
}

/// The shift of a constant that a mask is, constants apart.
fn shift_in(cx: &Cx<'_>, mask: Value) -> Option<Value> {
    let mut value = cx.canonical(mask);
    loop {
        let op = cx.def(value)?;
        value = match op.code {
            Opcode::Shl => return cx.constant(op.args[0]).map(|_| value),
            Opcode::Zext | Opcode::Sext | Opcode::Trunc => op.args[0],
            Opcode::Add | Opcode::Sub | Opcode::Xor if cx.constant(op.args[1]).is_some() => op.args[0],
            _ => return None,
        };
        value = cx.canonical(value);
    }
}

/// The load of a byte that a count is, if it is one.
fn loaded_byte(cx: &Cx<'_>, count: Value) -> Option<Value> {
    let mut count = cx.canonical(count);
    loop {
        let op = cx.def(count)?;
        count = match op.code {
            Opcode::Load => return (op.ty == Type::I8).then_some(count),
            Opcode::Zext | Opcode::Trunc => cx.canonical(op.args[0]),
            _ => return None,
        };
    }
}
