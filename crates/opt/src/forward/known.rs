//! What guards have shown.
//!
//! After a guard its condition is a constant. If the condition is an equality with a constant, the value is that constant
//! from then on. Of flags it is known which combinations of CF, ZF, SF, OF and PF are still possible, as a set of 32: so one
//! guard decides every other condition on the same comparison that it implies.
//!
//! What was loaded or stored through is not null: nothing is mapped in page zero, so the program would have died there. (It
//! may die a little later for it: the load may be dead.)

use redmagic_ir::{Cond, Op, Opcode, Type, Value};

use super::memory::place;
use super::{Pass, Step, expected};
use crate::cx::Cx;

/// See the module.
pub struct Known;

const CF: u32 = 1;
const ZF: u32 = 2;
const SF: u32 = 4;
const OF: u32 = 8;
const PF: u32 = 16;

/// Whether a condition holds for a combination of flags.
const fn holds(code: u8, flags: u32) -> bool {
    let (cf, zf, sf) = (flags & CF != 0, flags & ZF != 0, flags & SF != 0);
    let (of, pf) = (flags & OF != 0, flags & PF != 0);
    let positive = match code >> 1 {
        0 => of,
        1 => cf,
        2 => zf,
        3 => cf || zf,
        4 => sf,
        5 => pf,
        6 => sf != of,
        _ => zf || sf != of,
    };
    positive != (code & 1 == 1)
}

/// The sets of all combinations for which a test holds: a macro, since constants cannot call closures.
macro_rules! combinations {
    (|$flags:ident| $test:expr) => {{
        let (mut set, mut $flags) = (0u32, 0u32);
        while $flags < 32 {
            if $test {
                set |= 1 << $flags;
            }
            $flags += 1;
        }
        set
    }};
}

/// By condition: the combinations for which it holds.
const SETS: [u32; 16] = {
    let (mut sets, mut code) = ([0; 16], 0);
    while code < 16 {
        sets[code] = combinations!(|flags| holds(code as u8, flags));
        code += 1;
    }
    sets
};

/// Equal: no borrow, no sign, no overflow.
const OF_SUB: u32 = combinations!(|f| f & ZF == 0 || f & (CF | SF | OF) == 0 && f & PF != 0);
const OF_LOGIC: u32 = combinations!(|f| f & (CF | OF) == 0 && (f & ZF == 0 || f & SF == 0 && f & PF != 0));
/// Unordered sets CF, ZF and PF.
const OF_COMPARED_FLOATS: u32 = combinations!(|f| {
    f & (SF | OF) == 0 && (f & PF == 0 && f & (CF | ZF) != CF | ZF || f & (CF | ZF | PF) == CF | ZF | PF)
});

/// The set of combinations for which a condition holds.
fn set_of(code: u8) -> u32 {
    SETS[usize::from(code & 15)]
}

/// The combinations that an operation can give.
fn possible(code: Opcode) -> u32 {
    match code {
        Opcode::FlagsSub => OF_SUB,
        Opcode::FlagsLogic => OF_LOGIC,
        Opcode::FlagsUcomi | Opcode::FlagsComi => OF_COMPARED_FLOATS,
        _ => u32::MAX,
    }
}

impl Pass for Known {
    fn name(&self) -> &'static str {
        "known"
    }

    fn concerns(&self, code: Opcode) -> bool {
        use Opcode as O;
        matches!(code, O::Cond | O::GuardTrue | O::GuardFalse | O::Load | O::Store)
    }

    fn visit(&self, cx: &mut Cx<'_>, op: Op, _: Option<u128>) -> Step {
        match op.code {
            Opcode::Cond => {
                let feasible = feasible(cx, op.args[0]);
                let set = set_of(op.imm);
                if feasible & set == 0 {
                    return Step::Is(cx.b.constant(Type::I1, 0));
                }
                if feasible & !set == 0 {
                    return Step::Is(cx.b.constant(Type::I1, 1));
                }
                Step::Next(op)
            }
            Opcode::GuardTrue | Opcode::GuardFalse => match cx.int(op.args[0]) {
                Some(found) => {
                    if (found != 0) != (op.code == Opcode::GuardTrue) {
                        cx.contradiction();
                    }
                    Step::Gone
                }
                None => Step::Next(op),
            },
            _ => Step::Next(op),
        }
    }

    fn appended(&self, cx: &mut Cx<'_>, op: &Op, _: Value) {
        if let Some(place) = place(op)
            && let Some(base) = place.root.only_base().filter(|base| !base.is_none())
            && place.disp.unsigned_abs() < PAGE
        {
            cx.not_null.insert(base);
        }
        if let Some(truth) = expected(op) {
            learn(cx, op.args[0], truth);
        }
    }
}

/// Bytes of a page.
const PAGE: u32 = 4096;

fn feasible(cx: &Cx<'_>, flags: Value) -> u32 {
    let set = match cx.feasible.get(&flags) {
        Some(set) => *set,
        None => cx.def(flags).map_or(u32::MAX, |op| possible(op.code)),
    };
    let compared = cx.def(flags).filter(|op| op.ty == Type::I64 && is_with_zero(cx, op));
    match compared {
        Some(op) if cx.not_null.contains(&cx.canonical(op.args[0])) => set & !set_of(Cond::E.code()),
        _ => set,
    }
}

fn is_with_zero(cx: &Cx<'_>, comparison: &Op) -> bool {
    match comparison.code {
        Opcode::FlagsSub => cx.int(comparison.args[1]) == Some(0),
        Opcode::FlagsLogic => true,
        _ => false,
    }
}

fn equate(cx: &mut Cx<'_>, value: Value, ty: Type, bits: u64) {
    if value.as_op().is_none() {
        return;
    }
    let constant = cx.b.constant(ty, u128::from(bits));
    cx.equal.insert(value, constant);
    // What it was made from, where that follows.
    let Some(op) = cx.def(value).copied() else { return };
    let from = op.args[0];
    match op.code {
        Opcode::Zext if u128::from(bits) <= cx.b.type_of(from).mask() => {
            let ty = cx.b.type_of(from);
            let from = cx.canonical(from);
            equate(cx, from, ty, bits);
        }
        Opcode::Sext => {
            let ty = cx.b.type_of(from);
            let from = cx.canonical(from);
            equate(cx, from, ty, bits & ty.mask() as u64);
        }
        Opcode::Bitcast if op.ty.bits() <= 64 && matches!(cx.b.type_of(from), Type::I32 | Type::I64) => {
            let ty = cx.b.type_of(from);
            let from = cx.canonical(from);
            equate(cx, from, ty, bits);
        }
        _ => {}
    }
}

/// A condition was shown to hold, or not.
pub(crate) fn learn(cx: &mut Cx<'_>, condition: Value, truth: bool) {
    let known = cx.b.constant(Type::I1, u128::from(truth));
    cx.equal.insert(condition, known);
    let Some(op) = cx.def(condition).copied() else { return };
    if op.code != Opcode::Cond {
        return;
    }
    let flags = op.args[0];
    let set = set_of(op.imm);
    let now = feasible(cx, flags) & if truth { set } else { !set };
    cx.feasible.insert(flags, now);
    // An equality?
    if now & !set_of(Cond::E.code()) != 0 {
        return;
    }
    let Some(comparison) = cx.def(flags).copied() else {
        return;
    };
    match comparison.code {
        Opcode::FlagsSub => {
            let (a, b) = (cx.canonical(comparison.args[0]), cx.canonical(comparison.args[1]));
            match (cx.int(a), cx.int(b)) {
                (None, Some(bits)) => equate(cx, a, comparison.ty, bits),
                (Some(bits), None) => equate(cx, b, comparison.ty, bits),
                _ => {}
            }
        }
        Opcode::FlagsLogic => equate(cx, comparison.args[0], comparison.ty, 0),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_decides_order() {
        let equal = possible(Opcode::FlagsSub) & set_of(Cond::E.code());
        for (code, truth) in [
            (2, false),
            (3, true),
            (6, true),
            (7, false),
            (12, false),
            (13, true),
            (14, true),
            (15, false),
        ] {
            let set = set_of(code);
            let decided = if truth { equal & !set } else { equal & set };
            assert_eq!(decided, 0, "condition {code}");
        }
    }

    #[test]
    fn less_does_not_decide_unsigned_order() {
        let less = possible(Opcode::FlagsSub) & set_of(12);
        assert!(less & set_of(2) != 0 && less & !set_of(2) != 0);
        assert_eq!(less & set_of(Cond::E.code()), 0, "nor is it equal");
    }
}
