//! Jumps through tables that do not change.
//!
//! An interpreter dispatches with `jmp [table + opcode * 8]`, whose guard says that the entry that was loaded is the
//! recorded one. Where the opcode is constant the load folds ([`super::constants`]). Where it is not quite (`opcode |
//! tracing`, of CPython, with a constant opcode) the guard is put on what varies instead: as it was recorded the entry is
//! the recorded one, which need not be loaded, and the next dispatch finds `tracing` known.
//!
//! The new guard may fail where the old one would have held (two entries of a table can be the same), so it leaves at the
//! checkpoint, before the jump, and not where a failed guard goes.

use redmagic_ir::{Cond, Op, Opcode, Type, Value};

use super::{Pass, Step};
use crate::cx::Cx;

/// See the module.
pub struct Tables;

impl Pass for Tables {
    fn name(&self) -> &'static str {
        "tables"
    }

    fn visit(&self, cx: &mut Cx<'_>, op: Op, _: Option<u128>) -> Step {
        match known_entry(cx, &op) {
            Some((loaded, entry)) if guard_index(cx, loaded) => {
                let entry = cx.b.constant(Type::I64, entry);
                cx.equal.insert(loaded, entry);
                Step::Gone
            }
            _ => Step::Next(op),
        }
    }
}

/// The load from a table that the guard compares with a constant, and that constant.
fn known_entry(cx: &Cx<'_>, guard: &Op) -> Option<(Value, u128)> {
    let equal = match guard.code {
        Opcode::GuardTrue => Cond::E,
        Opcode::GuardFalse => Cond::NE,
        _ => return None,
    };
    let cond = cx
        .def_of(guard.args[0], Opcode::Cond)
        .filter(|op| op.imm == equal.code())?;
    let compared = cx
        .def_of(cond.args[0], Opcode::FlagsSub)
        .filter(|op| op.ty == Type::I64)?;
    let (loaded, expected) = (cx.canonical(compared.args[0]), cx.int(compared.args[1])?);
    let load = cx.def_of(loaded, Opcode::Load)?;
    let base = if load.args[0].is_none() {
        Some(0)
    } else {
        cx.int(load.args[0])
    };
    if !load.args[2].is_none() || load.args[1].is_none() {
        return None;
    }
    let index = (cx.seen(load.args[1])? as u64) << (load.imm & 3);
    let address = base?.wrapping_add(index).wrapping_add_signed(i64::from(load.aux));
    let entry = cx.input.constants.load(address, 8)?;
    (!entry.declared && entry.bits == u128::from(expected)).then_some((loaded, entry.bits))
}

/// Guards that the index of a load is the recorded one: what varies of it.
fn guard_index(cx: &mut Cx<'_>, load: Value) -> bool {
    let Some(load) = cx.def_of(load, Opcode::Load).copied() else {
        return false;
    };
    let mut index = cx.canonical(load.args[1]);
    while let Some(op) = cx.def(index).copied() {
        index = match op.code {
            Opcode::Zext => op.args[0],
            Opcode::Or | Opcode::Add if cx.constant(op.args[1]).is_some() => op.args[0],
            _ => break,
        };
        index = cx.canonical(index);
    }
    let seen = cx.seen(index);
    index.as_op().is_some() && seen.is_some_and(|seen| cx.guard_equal(index, seen as u64))
}
