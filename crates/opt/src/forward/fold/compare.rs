//! Conditions, and the flags that they look at.

use redmagic_ir::{Cond, Op, Opcode as O, Type, Value};

use super::width;
use crate::cx::Cx;
use crate::forward::Step;

/// Whether a condition looks at the carry.
fn reads_carry(code: u8) -> bool {
    matches!(code >> 1, 1 | 3)
}

/// Whether a condition tells unsigned numbers or equality apart, and nothing else.
fn is_unsigned(code: u8) -> bool {
    matches!(code >> 1, 1..=3)
}

/// Whether it looks at ZF, SF or PF only: what a result says of itself.
fn of_result(code: u8) -> bool {
    matches!(code >> 1, 2 | 4 | 5)
}

pub(super) fn rules(cx: &mut Cx<'_>, op: &Op) -> Option<Step> {
    match op.code {
        O::GuardTrue | O::GuardFalse => guard(cx, op),
        O::Cond => condition(cx, op),
        _ => None,
    }
}

/// A guard on the negation of something is the other guard on that.
fn guard(cx: &mut Cx<'_>, op: &Op) -> Option<Step> {
    let condition = *cx.def(op.args[0])?;
    let inner = match condition.code {
        O::Xor if condition.ty == Type::I1 && cx.int(condition.args[1]) == Some(1) => cx.canonical(condition.args[0]),
        O::Not => cx.canonical(condition.args[0]),
        O::Cond if condition.imm & 1 == 1 => {
            let mut even = condition;
            even.imm ^= 1;
            cx.feed(even, None)
        }
        _ => return None,
    };
    let mut out = *op;
    out.args[0] = inner;
    out.code = if op.code == O::GuardTrue {
        O::GuardFalse
    } else {
        O::GuardTrue
    };
    Some(Step::Next(out))
}

fn condition(cx: &mut Cx<'_>, op: &Op) -> Option<Step> {
    let flags = *cx.def(op.args[0])?;
    match flags.code {
        O::FlagsSub => compare(cx, op, &flags),
        O::FlagsLogic => {
            let r = cx.canonical(flags.args[0]);
            match op.imm {
                // No carry, no overflow: constants, or the sign.
                0 | 2 => Some(truth(cx, false)),
                1 | 3 => Some(truth(cx, true)),
                12 => Some(on(op, op.args[0], 8)),
                13 => Some(on(op, op.args[0], 9)),
                6 => Some(on(op, op.args[0], 4)),
                7 => Some(on(op, op.args[0], 5)),
                4 | 5 => boolean(cx, op, r, 0),
                _ => None,
            }
        }
        // inc and dec leave the carry alone, and are x + 1 and x - 1 otherwise.
        O::FlagsInc | O::FlagsDec if !reads_carry(op.imm) => {
            let a = cx.canonical(flags.args[0]);
            let one = cx.b.int(flags.ty, 1);
            let code = if flags.code == O::FlagsInc {
                O::FlagsAdd
            } else {
                O::FlagsSub
            };
            let flags = cx.make(code, flags.ty, &[a, one]);
            Some(on(op, flags, op.imm))
        }
        O::FlagsInc | O::FlagsDec if op.imm >> 1 == 1 => Some(on(op, cx.canonical(flags.args[1]), op.imm)),
        // The result of an addition says the rest.
        O::FlagsAdd if of_result(op.imm) => {
            let sum = cx.make(O::Add, flags.ty, &[flags.args[0], flags.args[1]]);
            let flags = cx.make(O::FlagsLogic, flags.ty, &[sum]);
            Some(on(op, flags, op.imm))
        }
        O::FlagsSetC if op.imm >> 1 == 1 => {
            let carry = cx.canonical(flags.args[0]);
            Some(if op.imm & 1 == 0 {
                Step::Is(carry)
            } else {
                negate(cx, carry)
            })
        }
        O::FlagsSetC if !reads_carry(op.imm) => Some(on(op, cx.canonical(flags.args[1]), op.imm)),
        _ => None,
    }
}

/// Conditions on `a - b`.
fn compare(cx: &mut Cx<'_>, op: &Op, flags: &Op) -> Option<Step> {
    let (a, b) = (cx.canonical(flags.args[0]), cx.canonical(flags.args[1]));
    if a == b {
        let mut zero = *flags;
        let none = cx.b.int(flags.ty, 0);
        zero.args[0] = none;
        zero.args[1] = none;
        let flags = cx.feed(zero, None);
        return Some(on(op, flags, op.imm));
    }
    let limit = cx.int(b)?;
    // With 0 there is never a borrow.
    if limit == 0 {
        match op.imm {
            2 => return Some(truth(cx, false)),
            3 => return Some(truth(cx, true)),
            6 => return Some(on(op, op.args[0], 4)),
            7 => return Some(on(op, op.args[0], 5)),
            12 => return Some(on(op, op.args[0], 8)),
            13 => return Some(on(op, op.args[0], 9)),
            _ => {}
        }
    }
    if matches!(op.imm, 4 | 5)
        && let Some(step) = boolean(cx, op, a, limit)
    {
        return Some(step);
    }
    if is_unsigned(op.imm) {
        // Of a number that was extended, its own width is enough; and one that cannot be as large is below.
        let bits = width::significant_bits(cx, a);
        if bits < 64 && limit >> bits != 0 {
            // a < limit
            let below = matches!(op.imm, 2 | 5 | 6);
            return Some(truth(cx, below));
        }
        if let Some(inner) = cx.def_of(a, O::Zext).copied() {
            let from = cx.canonical(inner.args[0]);
            let ty = cx.b.type_of(from);
            if ty != Type::I1 {
                let limit = cx.b.int(ty, limit);
                let flags = cx.make(O::FlagsSub, ty, &[from, limit]);
                return Some(on(op, flags, op.imm));
            }
        }
    }
    // (x + c) == d  ->  x == d - c
    if matches!(op.imm, 4 | 5) {
        let inner = *cx.def_of(a, O::Add)?;
        let c = cx.int(inner.args[1])?;
        if inner.ty != flags.ty {
            return None;
        }
        let limit = cx.b.int(flags.ty, limit.wrapping_sub(c));
        let x = cx.canonical(inner.args[0]);
        let flags = cx.make(O::FlagsSub, flags.ty, &[x, limit]);
        return Some(on(op, flags, op.imm));
    }
    None
}

/// `c == limit` for a condition `c` that was made a number.
fn boolean(cx: &mut Cx<'_>, op: &Op, number: Value, limit: u64) -> Option<Step> {
    let mut at = *cx.def(number)?;
    loop {
        match at.code {
            O::Zext if cx.b.type_of(at.args[0]) == Type::I1 => break,
            O::Zext | O::Trunc => at = *cx.def(cx.canonical(at.args[0]))?,
            O::And if cx.int(at.args[1]).is_some_and(|mask| mask & 1 == 1) => {
                at = *cx.def(cx.canonical(at.args[0]))?;
            }
            _ => return None,
        }
    }
    let condition = cx.canonical(at.args[0]);
    let equal = op.imm == 4;
    Some(match limit {
        0 if equal => negate(cx, condition),
        0 => Step::Is(condition),
        1 if equal => Step::Is(condition),
        1 => negate(cx, condition),
        _ => truth(cx, !equal),
    })
}

fn negate(cx: &mut Cx<'_>, condition: Value) -> Step {
    if let Some(inner) = cx.def_of(condition, O::Cond).copied() {
        return Step::Next(Op {
            imm: Cond::from_code(inner.imm).expect("verified").negate().code(),
            ..inner
        });
    }
    let one = cx.b.constant(Type::I1, 1);
    Step::Next(Cx::op(O::Xor, Type::I1, 0, &[condition, one]))
}

fn truth(cx: &mut Cx<'_>, value: bool) -> Step {
    Step::Is(cx.b.constant(Type::I1, u128::from(value)))
}

fn on(op: &Op, flags: Value, code: u8) -> Step {
    let mut out = *op;
    out.args[0] = flags;
    out.imm = code;
    Step::Next(out)
}
