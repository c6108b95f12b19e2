//! Identities of integer arithmetic.

use redmagic_ir::{Op, Opcode as O, Reg, Type, Value};

use super::{commutes, constant, width, with};
use crate::cx::Cx;
use crate::forward::Step;

pub(super) fn rules(cx: &mut Cx<'_>, op: &Op) -> Option<Step> {
    let [a, b, ..] = op.args;
    if commutes(op.code) && cx.constant(a).is_some() && cx.constant(b).is_none() {
        return Some(with(op, &[b, a]));
    }
    if !matches!(
        op.code,
        O::Add
            | O::Sub
            | O::Mul
            | O::And
            | O::Or
            | O::Xor
            | O::Shl
            | O::Shr
            | O::Sar
            | O::Rol
            | O::Ror
            | O::Neg
            | O::Not
            | O::Select
    ) {
        return None;
    }
    let mask = op.ty.mask();
    let known = cx.constant(b);
    match (op.code, known) {
        (O::Add | O::Or | O::Xor | O::Shl | O::Shr | O::Sar | O::Rol | O::Ror, Some(0)) => Some(Step::Is(a)),
        (O::Sub, Some(c)) => {
            let negated = cx.b.constant(op.ty, (c as u64).wrapping_neg().into());
            Some(Step::Next(binary(op, O::Add, a, negated)))
        }
        (O::Sub | O::Xor, _) if a == b => Some(constant(cx, op, 0)),
        (O::And | O::Or, _) if a == b => Some(Step::Is(a)),
        (O::And | O::Mul, Some(0)) => Some(constant(cx, op, 0)),
        (O::And, Some(c)) if c == mask => Some(Step::Is(a)),
        (O::Or, Some(c)) if c == mask => Some(constant(cx, op, mask)),
        (O::Mul, Some(1)) => Some(Step::Is(a)),
        (O::Mul, Some(c)) if (c as u64).is_power_of_two() => {
            let count = cx.b.int(Type::I8, u64::from((c as u64).trailing_zeros()));
            Some(Step::Next(binary(op, O::Shl, a, count)))
        }
        // The direction flag is clear: the C ABI says so at every call and return, and compilers leave it alone between.
        (O::And, Some(1)) if is_direction(cx, a) => Some(constant(cx, op, 0)),
        // The bits that are cut off are not there.
        (O::And, Some(c)) if (c + 1).is_power_of_two() && width::significant_bits(cx, a) <= c.count_ones() => {
            Some(Step::Is(a))
        }
        // (x + c) + d, (x & c) & d, (x | c) | d, (x ^ c) ^ d
        (O::Add | O::And | O::Or | O::Xor, Some(d)) => {
            let inner = *cx.def_of(a, op.code)?;
            // A value that the loop carries is not looked behind: what is there would have to be carried too.
            let carried = a.as_op().is_some_and(|index| cx.carried.contains(&index));
            if inner.ty != op.ty || carried {
                return None;
            }
            let c = cx.constant(inner.args[1])? as u64;
            let d = d as u64;
            let both = match op.code {
                O::Add => c.wrapping_add(d),
                O::And => c & d,
                O::Or => c | d,
                _ => c ^ d,
            };
            let both = cx.b.constant(op.ty, u128::from(both));
            Some(with(op, &[cx.canonical(inner.args[0]), both]))
        }
        // (x << c) << d and (x >> c) >> d, while nothing is shifted by the width or more.
        (O::Shl | O::Shr, Some(d)) => {
            let inner = *cx.def_of(a, op.code)?;
            let c = cx.constant(inner.args[1])? as u64;
            let sum = c + d as u64;
            if inner.ty != op.ty || sum >= u64::from(op.ty.bits()) || op.ty.bits() < 32 {
                return None;
            }
            let sum = cx.b.int(Type::I8, sum);
            Some(with(op, &[cx.canonical(inner.args[0]), sum]))
        }
        // (x + y) - x
        (O::Sub, None) => {
            let inner = *cx.def_of(a, O::Add)?;
            let (x, y) = (cx.canonical(inner.args[0]), cx.canonical(inner.args[1]));
            if inner.ty != op.ty {
                None
            } else if x == b {
                Some(Step::Is(y))
            } else if y == b {
                Some(Step::Is(x))
            } else {
                None
            }
        }
        (O::Neg | O::Not, _) => {
            let inner = *cx.def_of(a, op.code)?;
            (inner.ty == op.ty).then(|| Step::Is(cx.canonical(inner.args[0])))
        }
        (O::Select, _) => {
            let c = op.args[2];
            match cx.int(a) {
                Some(0) => Some(Step::Is(c)),
                Some(_) => Some(Step::Is(b)),
                None => (b == c).then_some(Step::Is(b)),
            }
        }
        _ => None,
    }
}

/// Bit 10 of the system flags as they were at the entry or after a call, in bit 0.
fn is_direction(cx: &Cx<'_>, value: Value) -> bool {
    let Some(shift) = cx
        .def_of(value, O::Shr)
        .filter(|shift| cx.int(shift.args[1]) == Some(10))
    else {
        return false;
    };
    cx.def(shift.args[0])
        .is_some_and(|op| matches!(op.code, O::Reg | O::Get) && op.reg() == Some(Reg::SYSFLAGS))
}

fn binary(op: &Op, code: O, a: Value, b: Value) -> Op {
    Op {
        code,
        args: [a, b, Value::NONE, Value::NONE],
        ..*op
    }
}
