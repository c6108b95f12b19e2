//! Folding: constants, identities, canonical forms, and strength reduction.
//!
//! An operation on constants is evaluated by the IR's evaluator, so that there is one semantics. Floating-point
//! operations are left alone: their sticky exception bits are part of the machine's state. The rest is rules, each
//! of which makes an operation cheaper or more like others; they are in families, by what they look at.
//!
//! Canonical forms that other passes rely on: a constant operand of a commutative operation is the second; `x - c` is
//! `x + -c`; an address has no constant in its base or index that fits its displacement; a condition has an even code where
//! a guard uses it.

mod address;
mod compare;
mod integer;
mod vector;
mod width;

use redmagic_ir::{Op, Opcode, Value};

pub use address::{root, rules as address_rules};
pub use width::significant_bits;

use super::{Pass, Step};
use crate::cx::Cx;

/// See the module.
pub struct Fold;

/// What a rule makes of an operation; `None`: nothing.
type Rule = fn(&mut Cx<'_>, &Op) -> Option<Step>;

/// The families, in order.
const RULES: &[Rule] = &[
    integer::rules,
    width::rules,
    compare::rules,
    address::rules,
    vector::rules,
];

impl Pass for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn visit(&self, cx: &mut Cx<'_>, mut op: Op, _: Option<u128>) -> Step {
        // Each rule makes progress in one direction; the bound is a safety net.
        for _ in 0..16 {
            if let Some(value) = cx.fold_constants(&op) {
                return Step::Is(value);
            }
            match RULES.iter().find_map(|rule| rule(cx, &op)) {
                None => return Step::Next(op),
                Some(Step::Next(next)) => op = next,
                Some(done) => return done,
            }
        }
        Step::Next(op)
    }
}

/// The operation with other operands.
fn with(op: &Op, args: &[Value]) -> Step {
    let mut op = *op;
    op.args[..args.len()].copy_from_slice(args);
    Step::Next(op)
}

/// A constant of the operation's type.
fn constant(cx: &mut Cx<'_>, op: &Op, bits: u128) -> Step {
    Step::Is(cx.b.constant(op.result(), bits))
}

/// Whether the operands can be exchanged.
fn commutes(code: Opcode) -> bool {
    use Opcode as O;
    matches!(
        code,
        O::Add
            | O::Mul
            | O::MulHiU
            | O::MulHiS
            | O::And
            | O::Or
            | O::Xor
            | O::FlagsAdd
            | O::Adc
            | O::FlagsAdc
            | O::FlagsMulU
            | O::FlagsMulS
            | O::Pand
            | O::Por
            | O::Pxor
    )
}
