//! Value numbering: an operation that was already made is not made again.
//!
//! Floating-point operations take part: a repeated one sets no sticky bit that is not set yet. The rounding mode may
//! change at barriers, which end all numbers. What reads memory is the business of [`super::memory`].

use std::hash::Hasher;

use hashbrown::HashTable;
use redmagic_ir::opcode::Effects;
use redmagic_ir::{Op, Opcode, Value};
use rustc_hash::FxHasher;

use super::{Pass, Step};
use crate::cx::Cx;

/// See the module.
pub struct Gvn;

/// The operations that were made, to be found by what they are. Of each there is the number alone: with a copy of every operation it would
/// take as much memory as all else that the chain looks at.
#[derive(Debug, Clone, Default)]
pub struct Numbers(HashTable<u32>);

impl Numbers {
    fn hash(op: &Op) -> u64 {
        let mut hasher = FxHasher::default();
        let [a, b, c, d] = op.args.map(|arg| u64::from(arg.bits()));
        let kind = (op.code as u64) << 48 | (op.ty as u64) << 40 | u64::from(op.imm) << 32;
        hasher.write_u64(kind | u64::from(op.aux as u32));
        hasher.write_u64(a << 32 | b);
        hasher.write_u64(c << 32 | d);
        hasher.finish()
    }

    /// The number of an equal operation among these.
    fn find(&self, op: &Op, ops: &[Op]) -> Option<Value> {
        let found = self.0.find(Numbers::hash(op), |at| ops[*at as usize] == *op);
        found.map(|at| Value::op(*at as usize))
    }

    /// Operation `at` of these was made; it takes the place of an equal one.
    fn insert(&mut self, at: usize, ops: &[Op]) {
        let op = &ops[at];
        let entry = self.0.entry(
            Numbers::hash(op),
            |other| ops[*other as usize] == *op,
            |other| Numbers::hash(&ops[*other as usize]),
        );
        entry.insert(at as u32);
    }

    /// None is to be found any more.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

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
            && let Some(value) = cx.numbers.find(&op, &cx.b.trace().ops)
        {
            return Step::Is(value);
        }
        Step::Next(op)
    }

    fn appended(&self, cx: &mut Cx<'_>, op: &Op, value: Value) {
        if numbered(op) {
            let at = value.as_op().expect("it was appended");
            cx.numbers.insert(at, &cx.b.trace().ops);
        } else if op.code.effects().has(Effects::BARRIER) && op.code != Opcode::LoopHead {
            cx.numbers.clear();
        }
    }
}
