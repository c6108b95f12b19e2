//! Lanes of vectors: scalar floating point goes through them.

use redmagic_ir::{Op, Opcode as O, Type, Value};

use super::constant;
use crate::cx::Cx;
use crate::forward::Step;

pub(super) fn rules(cx: &mut Cx<'_>, op: &Op) -> Option<Step> {
    let [a, b, ..] = op.args;
    match op.code {
        O::Pxor if a == b => Some(constant(cx, op, 0)),
        O::Pand | O::Por if a == b => Some(Step::Is(a)),
        O::Extract => extract(cx, op, a),
        O::Insert => insert(cx, op, a, b),
        _ => None,
    }
}

fn same_size(cx: &mut Cx<'_>, ty: Type, value: Value) -> Option<Step> {
    let from = cx.b.type_of(value);
    if from == ty {
        return Some(Step::Is(value));
    }
    let castable = |t| matches!(t, Type::I32 | Type::I64 | Type::F32 | Type::F64);
    (from.bits() == ty.bits() && castable(from) && castable(ty))
        .then(|| Step::Next(Cx::op(O::Bitcast, ty, 0, &[value])))
}

fn extract(cx: &mut Cx<'_>, op: &Op, vector: Value) -> Option<Step> {
    let inner = *cx.def(vector)?;
    let bits = op.ty.bits();
    let at = u32::from(op.imm) * bits;
    match inner.code {
        O::VZext => {
            let x = cx.canonical(inner.args[0]);
            if at >= inner.ty.bits() {
                return Some(constant(cx, op, 0));
            }
            if at == 0 { same_size(cx, op.ty, x) } else { None }
        }
        O::Insert => {
            let lane = inner.ty.bits();
            let from = u32::from(inner.imm) * lane;
            if from == at && lane == bits {
                let x = cx.canonical(inner.args[1]);
                return same_size(cx, op.ty, x);
            }
            // Another lane: look through.
            (at + bits <= from || from + lane <= at).then(|| {
                let mut out = *op;
                out.args[0] = cx.canonical(inner.args[0]);
                Step::Next(out)
            })
        }
        // The low halves of two.
        O::Punpcklqdq if bits <= 64 => {
            let mut out = *op;
            out.args[0] = cx.canonical(inner.args[(at / 64) as usize]);
            out.imm = (at % 64 / bits) as u8;
            Some(Step::Next(out))
        }
        _ => None,
    }
}

fn insert(cx: &mut Cx<'_>, op: &Op, vector: Value, x: Value) -> Option<Step> {
    // Into zeros: lane 0 of a vector that is zero above.
    if op.imm == 0 && cx.constant(vector) == Some(0) {
        return Some(Step::Next(Cx::op(O::VZext, op.ty, 0, &[x])));
    }
    let inner = *cx.def(vector)?;
    match inner.code {
        O::VZext if op.imm == 0 && inner.ty.bits() <= op.ty.bits() => {
            Some(Step::Next(Cx::op(O::VZext, op.ty, 0, &[x])))
        }
        O::Insert if inner.imm == op.imm && inner.ty.bits() == op.ty.bits() => {
            let mut out = *op;
            out.args[0] = cx.canonical(inner.args[0]);
            Some(Step::Next(out))
        }
        _ => {
            // Back where it came from.
            let from = cx.def_of(x, O::Extract)?;
            (cx.canonical(from.args[0]) == vector && from.ty == op.ty && from.imm == op.imm).then_some(Step::Is(vector))
        }
    }
}
