//! Extension, truncation, parts of registers.

use redmagic_ir::{Op, Opcode as O, Type, Value};

use crate::cx::Cx;
use crate::forward::Step;

/// How many low bits of a value can be other than 0.
pub fn significant_bits(cx: &Cx<'_>, value: Value) -> u32 {
    bits_of(cx, value, 6)
}

fn bits_of(cx: &Cx<'_>, value: Value, depth: u32) -> u32 {
    let all = cx.b.type_of(value).bits();
    if let Some(bits) = cx.constant(value) {
        return 128 - bits.leading_zeros();
    }
    let Some(op) = cx.def(value).filter(|_| depth > 0) else {
        return all;
    };
    let of = |index: usize| bits_of(cx, op.args[index], depth - 1);
    match op.code {
        O::Zext => of(0),
        O::Hi8 => 8,
        O::Trunc => of(0).min(all),
        O::And => of(0).min(of(1)),
        O::Or | O::Xor => of(0).max(of(1)),
        O::Select => of(1).max(of(2)),
        O::Shr => match cx.int(op.args[1]) {
            Some(count) => of(0).saturating_sub(masked(count, op.ty)),
            None => of(0),
        },
        O::Shl => match cx.int(op.args[1]) {
            Some(count) => (of(0) + masked(count, op.ty)).min(all),
            None => all,
        },
        O::Put => all.max(of(0)),
        O::Popcnt | O::Tzcnt | O::Lzcnt => 7,
        O::Pmovmskb => 16,
        O::Movmskps => 4,
        O::Movmskpd => 2,
        _ => all,
    }
}

/// What the processor makes of a shift count.
fn masked(count: u64, ty: Type) -> u32 {
    count as u32 & if ty == Type::I64 { 63 } else { 31 }
}

pub(super) fn rules(cx: &mut Cx<'_>, op: &Op) -> Option<Step> {
    let a = op.args[0];
    match op.code {
        O::Zext => {
            let inner = *cx.def(a)?;
            let from = cx.canonical(inner.args[0]);
            match inner.code {
                // zext(zext x), zext(trunc x) where nothing was cut off
                O::Zext => Some(convert(cx, op, O::Zext, from)),
                O::Trunc if significant_bits(cx, from) <= inner.ty.bits() => Some(resize(cx, op.ty, from)),
                _ => None,
            }
        }
        O::Sext => {
            let inner = *cx.def(a)?;
            let from = cx.canonical(inner.args[0]);
            match inner.code {
                O::Sext => Some(convert(cx, op, O::Sext, from)),
                O::Zext => Some(convert(cx, op, O::Zext, from)),
                _ if significant_bits(cx, a) < cx.b.type_of(a).bits() => Some(convert(cx, op, O::Zext, a)),
                _ => None,
            }
        }
        O::Trunc => {
            let inner = *cx.def(a)?;
            let from = cx.canonical(inner.args[0]);
            match inner.code {
                O::Trunc => Some(convert(cx, op, O::Trunc, from)),
                O::Zext | O::Sext => {
                    let bits = cx.b.type_of(from).bits();
                    match bits.cmp(&op.ty.bits()) {
                        std::cmp::Ordering::Equal => Some(Step::Is(from)),
                        std::cmp::Ordering::Greater => Some(convert(cx, op, O::Trunc, from)),
                        std::cmp::Ordering::Less => Some(convert(cx, op, inner.code, from)),
                    }
                }
                // The low part that was put in, or what is below it.
                O::Put => {
                    let part = cx.canonical(inner.args[1]);
                    match inner.ty.bits().cmp(&op.ty.bits()) {
                        std::cmp::Ordering::Equal => Some(Step::Is(part)),
                        std::cmp::Ordering::Greater => Some(convert(cx, op, O::Trunc, part)),
                        std::cmp::Ordering::Less => None,
                    }
                }
                O::PutHi8 if op.ty == Type::I8 => Some(convert(cx, op, O::Trunc, from)),
                // The mask keeps all that is left.
                O::And => {
                    let mask = cx.constant(cx.canonical(inner.args[1]))?;
                    (mask & op.ty.mask() == op.ty.mask()).then(|| convert(cx, op, O::Trunc, from))
                }
                _ => None,
            }
        }
        O::Put => {
            let (old, part) = (op.args[0], op.args[1]);
            // put(put(x, y), z): z covers y
            if let Some(inner) = cx.def_of(old, O::Put).copied()
                && inner.ty.bits() <= op.ty.bits()
            {
                let mut out = *op;
                out.args[0] = cx.canonical(inner.args[0]);
                return Some(Step::Next(out));
            }
            // Nothing is left of the old value.
            if significant_bits(cx, old) <= op.ty.bits() {
                return Some(convert_to(Type::I64, O::Zext, part));
            }
            // put(x, trunc x)
            let inner = cx.def_of(part, O::Trunc)?;
            (cx.canonical(inner.args[0]) == old).then_some(Step::Is(old))
        }
        O::Hi8 => {
            let inner = *cx.def(a)?;
            match inner.code {
                O::PutHi8 => Some(Step::Is(cx.canonical(inner.args[1]))),
                O::Put if inner.ty == Type::I8 => {
                    let mut out = *op;
                    out.args[0] = cx.canonical(inner.args[0]);
                    Some(Step::Next(out))
                }
                _ => None,
            }
        }
        O::Bitcast => {
            let inner = *cx.def_of(a, O::Bitcast)?;
            let from = cx.canonical(inner.args[0]);
            (cx.b.type_of(from) == op.ty).then_some(Step::Is(from))
        }
        _ => None,
    }
}

/// The same value in another integer type, where nothing is lost.
fn resize(cx: &Cx<'_>, ty: Type, from: Value) -> Step {
    match cx.b.type_of(from).bits().cmp(&ty.bits()) {
        std::cmp::Ordering::Equal => Step::Is(from),
        std::cmp::Ordering::Greater => convert_to(ty, O::Trunc, from),
        std::cmp::Ordering::Less => convert_to(ty, O::Zext, from),
    }
}

fn convert(cx: &Cx<'_>, op: &Op, code: O, from: Value) -> Step {
    if cx.b.type_of(from) == op.ty {
        return Step::Is(from);
    }
    convert_to(op.ty, code, from)
}

fn convert_to(ty: Type, code: O, from: Value) -> Step {
    Step::Next(Cx::op(code, ty, 0, &[from]))
}
