//! What a loop counts with, asked once for several copies of its body.
//!
//! A loop that counts to a limit asks in every turn whether it is there. Where its body is made of several copies
//! ([`super`]), their guards on the count are one: whether the limit is further away than all of them go. If it is not,
//! the trace begins anew, and what is left is done by the first turn before the loop.
//!
//! *Why it is sound.* Let the condition be `x < limit`, and `x` grow by `step` in each copy. It held in the turn before, for
//! its own `x`: so `limit - x` is how far away the limit is, whatever the signs. If that is more than `copies * step`,
//! then `x + k * step`, which wraps around nowhere, is below the limit in every copy, and in the last one it is what held in
//! the turn before for the next. For `x != limit` no earlier turn is needed. This is the loop predication of HotSpot
//! (`loopPredicate.cpp`) for a fixed number of turns.

use redmagic_ir::{Cond, Opcode, Snapshot, Trace, Type, Value};

use super::Body;
use crate::cx::Cx;
use crate::forward::expected;
use crate::forward::fold::root;

/// Most that a count changes by in a turn.
const FURTHEST: u64 = 1 << 32;

/// A guard that is asked ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    /// The guard, as an operation of the first turn.
    pub guard: usize,
    /// What the distance to the limit is the difference of: what is further up, and what is further down.
    far: Value,
    near: Value,
    /// By how much it shrinks in a turn.
    step: u64,
    /// Whether the distance may become 0.
    inclusive: bool,
}

/// The guards of the first turn that can be asked ahead for more copies of what is now a single one.
pub(super) fn find(straight: &Trace, cx: &Cx<'_>, body: &Body) -> Vec<Ahead> {
    let guards = straight.ops.iter().enumerate();
    let all = guards.filter_map(|(guard, op)| Ahead::of(straight, cx, body, guard, op.args[0], expected(op)?));
    all.collect()
}

impl Ahead {
    fn of(straight: &Trace, cx: &Cx<'_>, body: &Body, guard: usize, condition: Value, truth: bool) -> Option<Ahead> {
        let cond = straight.ops.get(condition.as_op()?)?;
        let compared = straight.ops.get(cond.args[0].as_op()?)?;
        // It was asked in the second turn as well. (By now the answer is known.)
        let again = body.copy(condition).as_op()? >= straight.ops.len();
        if cond.code != Opcode::Cond || compared.ty != Type::I64 || !again {
            return None;
        }
        let code = if truth { cond.imm } else { cond.imm ^ 1 };
        let (a, b) = match compared.code {
            Opcode::FlagsSub => (compared.args[0], compared.args[1]),
            // With itself: only whether it is 0, and signs.
            Opcode::FlagsLogic if [Cond::NE, Cond::G].iter().any(|cond| cond.code() == code) => {
                (compared.args[0], Value::NONE)
            }
            _ => return None,
        };
        let stays = |value: Value| value.as_op().is_none() || cx.canonical(body.copy(value)) == value;
        let (count, limit, counts_first) = match (stays(a), stays(b)) {
            (false, true) => (a, b, true),
            (true, false) => (b, a, false),
            _ => return None,
        };
        let step = step(cx, count, cx.canonical(body.copy(count)))?;
        let by = step.unsigned_abs();
        if by == 0 || by > FURTHEST {
            return None;
        }
        // Whether the count has to stay below, and whether it may reach the limit.
        let below = |code: u8| match code {
            code if code == Cond::L.code() || code == Cond::B.code() => Some((true, false)),
            code if code == Cond::LE.code() || code == Cond::BE.code() => Some((true, true)),
            code if code == Cond::G.code() || code == Cond::A.code() => Some((false, false)),
            code if code == Cond::GE.code() || code == Cond::AE.code() => Some((false, true)),
            _ => None,
        };
        let (stays_below, inclusive) = if code == Cond::NE.code() {
            (step > 0, false)
        } else {
            let (first_below, inclusive) = below(code)?;
            (first_below == counts_first, inclusive)
        };
        if stays_below != (step > 0) {
            return None;
        }
        let (far, near) = if stays_below { (limit, count) } else { (count, limit) };
        Some(Ahead {
            guard,
            far,
            near,
            step: by,
            inclusive,
        })
    }

    /// Guards that it holds in so many copies, leaving as the snapshot says.
    pub(super) fn ask(&self, cx: &mut Cx<'_>, copies: usize, snapshot: Snapshot) {
        let zero = cx.b.int(Type::I64, 0);
        let [far, near] = [self.far, self.near].map(|part| if part.is_none() { zero } else { cx.canonical(part) });
        let distance = cx.make(Opcode::Sub, Type::I64, &[far, near]);
        let gone = cx.b.int(Type::I64, self.step * copies as u64);
        let flags = cx.make(Opcode::FlagsSub, Type::I64, &[distance, gone]);
        let cond = if self.inclusive { Cond::AE } else { Cond::A };
        let further = cx.feed(Cx::op(Opcode::Cond, Type::Void, cond.code(), &[flags]), Some(1));
        cx.guard(further, true, snapshot);
    }
}

/// What is added to a value in a turn.
fn step(cx: &Cx<'_>, value: Value, next: Value) -> Option<i64> {
    let ((from, a), (to, b)) = (root(cx, cx.canonical(value)), root(cx, cx.canonical(next)));
    (from == to && from.as_op().is_some()).then_some(b.wrapping_sub(a))
}
