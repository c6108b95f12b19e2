//! Value numbering: an operation that was already made is not made again.
//!
//! Floating-point operations take part: a repeated one sets no sticky bit that is not set yet. The rounding mode may
//! change at barriers, which end all numbers. What reads memory is the business of [`super::memory`].

use redmagic_ir::opcode::Effects;
use redmagic_ir::{Op, Opcode, Value};

use super::{Pass, Step};
use crate::cx::Cx;

/// See the module.
pub struct Gvn;

fn numbered(op: &Op) -> bool {
    let effects = op.code.effects();
    let plain = effects.is_pure() || effects == Effects::FP || effects == Effects::TRAP;
    plain && !matches!(op.code, Opcode::Phi | Opcode::Reg)
}

impl Pass for Gvn {
    fn name(&self) -> &'static str {
        "gvn"
    }

    fn visit(&self, cx: &mut Cx<'_>, op: Op, _: Option<u128>) -> Step {
        if numbered(&op)
            && let Some(value) = cx.numbers.get(&op)
        {
            return Step::Is(*value);
        }
        Step::Next(op)
    }

    fn appended(&self, cx: &mut Cx<'_>, op: &Op, value: Value) {
        if numbered(op) {
            cx.numbers.insert(*op, value);
        } else if op.code.effects().has(Effects::BARRIER) && op.code != Opcode::LoopHead {
            cx.numbers.clear();
        }
    }
}
