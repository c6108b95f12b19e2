//! What a later guard says of a value, an earlier one says at once.
//!
//! An interpreter asks whether a slot is empty, and then for the type of what is in it; whether a pointer is null, and the guards of
//! [`super::memory`] then ask on which side of a limit it is. The second answer has the first in it. So the guard that comes
//! first is the stronger one, at the checkpoint before it, and the weaker one is implied. The trace is left earlier than it
//! was, if at all: there the interpreter asks both itself.
//!
//! What comes later is seen in a trial of the forward chain.

use redmagic_ir::{Cond, Op, Opcode, Type, Value};
use rustc_hash::FxHashMap;

use super::known::learn;
use super::{Pass, Step, expected, made_from};
use crate::cx::Cx;

/// See the module.
pub struct Stronger;

/// What is said of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It is this.
    Is(u64),
    /// It is this at least, which is more than 0: both with their signs.
    AtLeast(u64),
}

/// What later guards say of the values of earlier ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Later {
    /// By guard, as its operation in the lifted trace: what is to be said there.
    said: FxHashMap<usize, Said>,
    /// What was found for the next feeding.
    found: FxHashMap<usize, Said>,
    /// Guards by the value that they ask something of, and whether they say that it is not null.
    asked: FxHashMap<Value, Vec<(usize, bool)>>,
}

impl Later {
    /// After a trial: what the next feeding of the same trace says at once.
    pub(crate) fn saying(self) -> Later {
        Later {
            said: self.found,
            ..Later::default()
        }
    }
}

impl Pass for Stronger {
    fn name(&self) -> &'static str {
        "stronger"
    }

    fn concerns(&self, code: Opcode) -> bool {
        matches!(code, Opcode::GuardTrue | Opcode::GuardFalse)
    }

    fn visit(&self, cx: &mut Cx<'_>, op: Op, _: Option<u128>) -> Step {
        let Some(truth) = expected(&op) else {
            return Step::Next(op);
        };
        let said = cx.lifted.and_then(|at| cx.later.said.remove(&at));
        match said {
            Some(said) if say(cx, op.args[0], truth, said) => Step::Gone,
            _ => Step::Next(op),
        }
    }

    fn appended(&self, cx: &mut Cx<'_>, op: &Op, _: Value) {
        let Some(truth) = expected(op) else { return };
        let (Some(at), Some(question)) = (cx.lifted, Question::of(cx, op.args[0])) else {
            return;
        };
        let later = &mut cx.later;
        match question.answer(truth) {
            Some(said) => {
                let asked = later.asked.entry(question.value).or_default();
                asked.retain(|(earlier, not_null)| {
                    let implied = *not_null || matches!(said, Said::Is(_));
                    if implied {
                        later.found.insert(*earlier, said);
                    }
                    !implied
                });
            }
            None => {
                let not_null = question.is_null() == Some(!truth);
                later.asked.entry(question.value).or_default().push((at, not_null));
            }
        }
    }
}

/// A condition that depends on one value, and constants.
struct Question {
    value: Value,
    /// The comparison, and whether it is of the value itself.
    compared: Op,
    direct: bool,
    code: u8,
    /// What it is compared with.
    with: u64,
}

impl Question {
    fn of(cx: &Cx<'_>, condition: Value) -> Option<Question> {
        let cond = *cx.def_of(condition, Opcode::Cond)?;
        let compared = *cx.def(cond.args[0])?;
        let with = match compared.code {
            Opcode::FlagsLogic => 0,
            Opcode::FlagsSub => cx.int(compared.args[1])?,
            _ => return None,
        };
        let first = cx.canonical(compared.args[0]);
        let mut value = first;
        while let Some(op) = cx.def(value) {
            let goes_on = match op.code {
                Opcode::And | Opcode::Add => cx.int(op.args[1]).is_some(),
                Opcode::Zext | Opcode::Sext | Opcode::Trunc => true,
                _ => false,
            };
            if !goes_on {
                break;
            }
            value = cx.canonical(op.args[0]);
        }
        let is_integer = matches!(cx.b.type_of(value), Type::I8 | Type::I16 | Type::I32 | Type::I64);
        (value.as_op().is_some() && is_integer).then_some(Question {
            value,
            compared,
            direct: value == first,
            code: cond.imm,
            with,
        })
    }

    /// Whether it asks if the value is null; `Some(false)`: if it is not.
    fn is_null(&self) -> Option<bool> {
        let asks = self.direct && self.compared.ty == Type::I64 && self.with == 0;
        match self.code {
            _ if !asks => None,
            code if code == Cond::E.code() => Some(true),
            code if code == Cond::NE.code() => Some(false),
            _ => None,
        }
    }

    /// What is known of the value itself when the answer is `truth`.
    fn answer(&self, truth: bool) -> Option<Said> {
        if !self.direct {
            return None;
        }
        let equal = if truth { Cond::E } else { Cond::NE };
        if self.code == equal.code() {
            return Some(Said::Is(self.with));
        }
        let positive = self.compared.ty == Type::I64 && self.with as i64 > 0;
        (self.code == Cond::L.code() && !truth && positive).then_some(Said::AtLeast(self.with))
    }
}

/// Guards what is said of the value that a condition depends on. True if the condition follows: then nothing is left to guard.
fn say(cx: &mut Cx<'_>, condition: Value, truth: bool, said: Said) -> bool {
    let Some(question) = Question::of(cx, condition) else {
        return false;
    };
    let (value, seen) = (question.value, cx.seen(question.value));
    match said {
        Said::Is(bits) => {
            let follows = made_from(cx, condition, value, bits).and_then(|condition| cx.int(condition));
            follows == Some(u64::from(truth)) && seen == Some(u128::from(bits)) && cx.guard_equal(value, bits)
        }
        Said::AtLeast(limit) => {
            let holds = seen.is_some_and(|seen| seen as u64 as i64 >= limit as i64);
            let Some(snapshot) = cx.checkpoint().filter(|_| holds && question.is_null() == Some(!truth)) else {
                return false;
            };
            let limit = cx.b.int(Type::I64, limit);
            let flags = cx.make(Opcode::FlagsSub, Type::I64, &[value, limit]);
            let below = Cx::op(Opcode::Cond, Type::Void, Cond::L.code(), &[flags]);
            let below = cx.feed(below, Some(0));
            cx.guard(below, false, snapshot);
            learn(cx, condition, truth);
            true
        }
    }
}
