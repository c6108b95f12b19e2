//! The passes of the forward chain, one a file.

pub mod constants;
pub mod fold;
pub mod gvn;
pub mod known;
pub mod memory;
pub mod related;
pub mod sizes;
pub mod stronger;
pub mod tables;

use redmagic_ir::{Op, Opcode, Trace, Value};

use crate::cx::Cx;

/// What a pass makes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Goes on to the next pass, changed or not.
    Next(Op),
    /// Is this value; nothing is appended.
    Is(Value),
    /// Is not needed.
    Gone,
}

/// A pass of the forward chain. What it knows of the trace is in [`Cx`], so that operations can be fed from within one.
pub trait Pass: Sync {
    /// Its name, for `--passes`.
    fn name(&self) -> &'static str;

    /// Before the operations of a trace: what can be guarded at its entry.
    fn entered(&self, cx: &mut Cx<'_>, trace: &Trace) {
        let _ = (cx, trace);
    }

    /// Whether operations of this kind are any of its business: it neither visits others nor is told of them.
    fn concerns(&self, code: Opcode) -> bool {
        let _ = code;
        true
    }

    /// Looks at an operation before it is appended. Operands are canonical. `seen`: what it gave when it was recorded.
    fn visit(&self, cx: &mut Cx<'_>, op: Op, seen: Option<u128>) -> Step;

    /// Learns of an operation that was appended.
    fn appended(&self, cx: &mut Cx<'_>, op: &Op, value: Value) {
        let _ = (cx, op, value);
    }
}

/// All of them, in their usual order.
pub static ALL: &[&dyn Pass] = &[
    &fold::Fold,
    &related::Related,
    &constants::Constants,
    &tables::Tables,
    &sizes::Sizes,
    &stronger::Stronger,
    &known::Known,
    &gvn::Gvn,
    &memory::Memory,
];

/// What a guard says of its condition; `None` for all other operations.
pub(crate) fn expected(op: &Op) -> Option<bool> {
    match op.code {
        Opcode::GuardTrue => Some(true),
        Opcode::GuardFalse => Some(false),
        _ => None,
    }
}

/// What a value is when one that it is made from, with constants only, is `bits`. What both were when they were recorded need not belong
/// together: in a loop one may be from the turn before.
fn made_from(cx: &mut Cx<'_>, value: Value, from: Value, bits: u64) -> Option<Value> {
    let value = cx.canonical(value);
    if value == from {
        return Some(cx.b.int(cx.b.type_of(from), bits));
    }
    if cx.int(value).is_some() {
        return Some(value);
    }
    let mut op = *cx.def(value)?;
    match op.code {
        Opcode::Zext | Opcode::Sext | Opcode::Trunc | Opcode::FlagsLogic | Opcode::Cond => {}
        Opcode::Or | Opcode::Add | Opcode::And | Opcode::FlagsSub => {
            op.args[1] = cx.canonical(op.args[1]);
            cx.int(op.args[1])?;
        }
        _ => return None,
    }
    op.args[0] = made_from(cx, op.args[0], from, bits)?;
    cx.fold_constants(&op)
}
