//! Addresses: constants go into the displacement, sums into base and index.

use redmagic_ir::{MemFlags, Op, Opcode as O, Type, Value};

use crate::cx::Cx;
use crate::forward::Step;

/// A 64-bit value as another one plus a constant; [`Value::NONE`] plus its value for a constant.
pub fn root(cx: &Cx<'_>, mut value: Value) -> (Value, i64) {
    let mut sum = 0i64;
    loop {
        if let Some(bits) = cx.int(value) {
            return (Value::NONE, sum.wrapping_add(bits as i64));
        }
        match cx.def(value) {
            Some(op) if op.code == O::Add && op.ty == Type::I64 => match cx.int(op.args[1]) {
                Some(c) => {
                    sum = sum.wrapping_add(c as i64);
                    value = cx.canonical(op.args[0]);
                }
                None => return (value, sum),
            },
            _ => return (value, sum),
        }
    }
}

/// The rules for addresses alone.
pub fn rules(cx: &mut Cx<'_>, op: &Op) -> Option<Step> {
    let at = match op.code {
        O::Load | O::Lea => 0,
        O::Store => 1,
        _ => return None,
    };
    let (base, index) = (op.args[at], op.args[at + 1]);
    let mut out = *op;
    if op.code == O::Lea && index.is_none() {
        // x + c is an addition.
        let c = cx.b.int(Type::I64, i64::from(op.aux) as u64);
        return Some(match base.is_none() {
            true => Step::Is(c),
            false if op.aux == 0 => Step::Is(base),
            false => Step::Next(Cx::op(O::Add, Type::I64, 0, &[base, c])),
        });
    }
    // A constant part of the base.
    if !base.is_none() {
        let (from, sum) = root(cx, base);
        let disp = i64::from(op.aux).checked_add(sum).and_then(|d| i32::try_from(d).ok());
        if let Some(disp) = disp
            && sum != 0
            && !from.is_none()
        {
            out.args[at] = from;
            out.aux = disp;
            return Some(Step::Next(out));
        }
    }
    if !index.is_none() {
        let shift = u32::from(op.imm & 3);
        let flags = |shift: u32| MemFlags(op.imm).with_scale(1 << shift).0;
        // A constant part of the index.
        let (from, sum) = root(cx, index);
        let disp = sum
            .checked_shl(shift)
            .filter(|d| d >> shift == sum)
            .and_then(|d| d.checked_add(i64::from(op.aux)))
            .and_then(|d| i32::try_from(d).ok());
        if let Some(disp) = disp
            && (sum != 0 || from.is_none())
        {
            out.args[at + 1] = from;
            out.aux = disp;
            if from.is_none() {
                out.imm = flags(0);
            }
            return Some(Step::Next(out));
        }
        // base + index * 1 with the constant in the wrong place.
        if shift == 0 && (base.is_none() || cx.constant(base).is_some()) && cx.constant(index).is_none() {
            out.args[at] = index;
            out.args[at + 1] = base;
            if base.is_none() {
                out.imm = flags(0);
            }
            return Some(Step::Next(out));
        }
        // A shifted index.
        if let Some(inner) = cx.def_of(index, O::Shl).copied()
            && inner.ty == Type::I64
            && let Some(count) = cx.int(inner.args[1])
            && u64::from(shift) + count <= 3
        {
            out.args[at + 1] = cx.canonical(inner.args[0]);
            out.imm = flags(shift + count as u32);
            return Some(Step::Next(out));
        }
    } else if !base.is_none() && op.code != O::Lea {
        // base is itself a sum.
        if let Some(inner) = cx.def_of(base, O::Lea).copied() {
            let disp = op.aux.checked_add(inner.aux)?;
            out.args[at] = cx.canonical_or_none(inner.args[0]);
            out.args[at + 1] = cx.canonical_or_none(inner.args[1]);
            out.imm = MemFlags(op.imm).with_scale(1 << (inner.imm & 3)).0;
            out.aux = disp;
            return Some(Step::Next(out));
        }
        if let Some(inner) = cx.def_of(base, O::Add).copied()
            && inner.ty == Type::I64
            && cx.constant(inner.args[1]).is_none()
        {
            out.args[at] = cx.canonical(inner.args[0]);
            out.args[at + 1] = cx.canonical(inner.args[1]);
            out.imm = flags_of(op);
            return Some(Step::Next(out));
        }
    }
    None
}

fn flags_of(op: &Op) -> u8 {
    MemFlags(op.imm).with_scale(1).0
}
