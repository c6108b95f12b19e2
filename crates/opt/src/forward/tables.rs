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

use super::{Pass, Step, made_from};
use crate::cx::Cx;

/// See the module.
pub struct Tables;

impl Pass for Tables {
    fn name(&self) -> &'static str {
        "tables"
    }

    fn concerns(&self, code: Opcode) -> bool {
        matches!(code, Opcode::GuardTrue | Opcode::GuardFalse)
    }

    fn visit(&self, cx: &mut Cx<'_>, op: Op, _: Option<u128>) -> Step {
        let Some(known) = known_entry(cx, &op) else {
            return Step::Next(op);
        };
        if !cx.guard_equal(known.varies, known.seen) {
            return Step::Next(op);
        }
        let entry = cx.b.constant(Type::I64, known.entry);
        cx.equal.insert(known.loaded, entry);
        Step::Gone
    }
}

/// A load from a table that gives `entry` when what varies of its index is `seen`.
struct Known {
    loaded: Value,
    entry: u128,
    varies: Value,
    seen: u64,
}

/// The load from a table that the guard compares with a constant, if that is its entry.
fn known_entry(cx: &mut Cx<'_>, guard: &Op) -> Option<Known> {
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
    let load = *cx.def_of(loaded, Opcode::Load)?;
    let base = if load.args[0].is_none() {
        Some(0)
    } else {
        cx.int(load.args[0])
    };
    if !load.args[2].is_none() || load.args[1].is_none() {
        return None;
    }
    let varies = varying(cx, load.args[1]);
    let seen = cx.seen(varies).filter(|_| varies.as_op().is_some())? as u64;
    let index = made_from(cx, load.args[1], varies, seen)?;
    let index = cx.int(index)? << (load.imm & 3);
    let address = base?.wrapping_add(index).wrapping_add_signed(i64::from(load.aux));
    let entry = cx.input.constants.load(address, 8)?;
    (!entry.declared && entry.bits == u128::from(expected)).then_some(Known {
        loaded,
        entry: entry.bits,
        varies,
        seen,
    })
}

/// What varies of an index.
fn varying(cx: &Cx<'_>, index: Value) -> Value {
    let mut index = cx.canonical(index);
    while let Some(op) = cx.def(index) {
        index = match op.code {
            Opcode::Zext => op.args[0],
            Opcode::Or | Opcode::Add if cx.constant(op.args[1]).is_some() => op.args[0],
            _ => break,
        };
        index = cx.canonical(index);
    }
    index
}
