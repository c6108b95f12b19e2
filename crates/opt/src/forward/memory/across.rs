//! What is known across a residual call.
//!
//! A call may write all memory that a pointer leads to. No pointer leads to return addresses and to the registers that
//! functions of the trace have saved for their callers ([`redmagic_ir::MemFlags::saved`]), so what is known of those stays.
//! This is what keeps a trace one piece: after an inlined function that made the call has returned, the interpreter's frame
//! pointer, its program counter and the top of its operand stack are again what they were before it was entered.
//!
//! Values do not live across a call, except in registers that the callee keeps. So what such a slot holds is known as the
//! *origin* of its value, a value from before the call and a constant: a constant is used at once; the first register or
//! slot with an origin gives it its name after the call, the second one with the same origin is the first plus a constant.
//!
//! Other slots of native frames are locals, and what the compiler had no register for. A callee changes them only through a
//! pointer that it was given, which is rare; so they are loaded again, and a guard says that what they hold is what they
//! held. What follows from it (where the operand stack ends, what kind of call it is) is then as constant as before the call.
//! Where there is nothing yet to compare a local with, what was loaded is a *guess* at what its origin is called: other slots with that origin
//! are loaded and compared with it, saved ones as well. A local that the callee was to write may still have been known to hold
//! something from a frame that has gone.

use redmagic_ir::{Abi, Opcode as O, Reg, Snapshot, Type, Value};
use rustc_hash::FxHashMap;

use super::{Known, Place, Root, is_stack_pointer, overlap};
use crate::cx::Cx;

/// A value from before a call, and what is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    value: Value,
    plus: i64,
}

/// How something is known from before a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Survived {
    /// What it was, if no constant.
    origin: Option<Origin>,
    /// Whether the callee may have changed it.
    checked: bool,
}

/// What a load is expected to give.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// What a guard is to say that it is.
    value: Option<Value>,
    /// What it gives a name to then.
    names: Option<Name>,
}

/// A value from before a call gets a name.
#[derive(Debug, Clone, Copy)]
struct Name {
    origin: Origin,
    sure: bool,
}

/// What values from before the last call are called after it.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(FxHashMap<Value, Named>);

/// See [`Names`].
#[derive(Debug, Clone, Copy)]
struct Named {
    now: Value,
    /// What has to be added.
    plus: i64,
    /// Whether the callee cannot have changed it.
    sure: bool,
}

impl Names {
    fn set(&mut self, Name { origin, sure }: Name, now: Value) {
        let plus = origin.plus;
        self.0.insert(origin.value, Named { now, plus, sure });
    }

    fn get(&self, origin: Origin) -> Option<Named> {
        let named = self.0.get(&origin.value)?;
        let plus = origin.plus.wrapping_sub(named.plus);
        Some(Named { plus, ..*named })
    }
}

/// The origin of a value, whether or not its operands can still be used.
fn origin(cx: &Cx<'_>, value: Value) -> Origin {
    let trace = cx.b.trace();
    let mut origin = Origin {
        value: cx.canonical(value),
        plus: 0,
    };
    while let Some(op) = origin.value.as_op().map(|index| &trace.ops[index])
        && op.code == O::Add
        && op.ty == Type::I64
        && let Some(constant) = cx.int(op.args[1])
    {
        origin.plus = origin.plus.wrapping_add(constant as i64);
        origin.value = cx.canonical(op.args[0]);
    }
    origin
}

/// How far the stack pointer is from that of the entry.
pub(crate) fn depth(cx: &Cx<'_>, snapshot: &Snapshot) -> Option<i64> {
    depth_of(cx, snapshot.get(Reg::RSP))
}

/// The same of a stack pointer; `None`: that of the entry.
fn depth_of(cx: &Cx<'_>, rsp: Option<Value>) -> Option<i64> {
    match rsp {
        Some(rsp) => {
            let at = origin(cx, rsp);
            is_stack_pointer(cx, at.value).then_some(at.plus)
        }
        None => Some(0),
    }
}

/// At a checkpoint with this stack pointer, or that of the entry: what is below it is saved no more.
pub(crate) fn drop_below(cx: &mut Cx<'_>, rsp: Option<Value>) {
    let depth = depth_of(cx, rsp).unwrap_or(i64::MAX);
    if depth <= cx.memory.lowest_saved {
        return;
    }
    let mut lowest = i64::MAX;
    for entries in cx.memory.known.values_mut() {
        entries.retain(|known| !known.saved || i64::from(known.disp) >= depth);
        let saved = entries
            .iter()
            .filter(|known| known.saved)
            .map(|known| i64::from(known.disp));
        lowest = lowest.min(saved.min().unwrap_or(i64::MAX));
    }
    cx.memory.lowest_saved = lowest;
}

/// At the end of a turn of a loop: what is below the stack pointer is dead, and need not have been stored.
pub(crate) fn leave_frames(cx: &mut Cx<'_>, snapshot: &Snapshot) {
    let depth = depth(cx, snapshot).unwrap_or(i64::MAX);
    let stack = |root: &Root| root.only_base().is_some_and(|base| is_stack_pointer(cx, base));
    let roots: Vec<Root> = cx.memory.known.keys().filter(|root| stack(root)).copied().collect();
    for root in roots {
        if let Some(entries) = cx.memory.known.get_mut(&root) {
            entries.retain(|known| i64::from(known.disp) >= depth);
        }
    }
}

/// Forgets what a call may change; it was just appended, with this snapshot.
pub(crate) fn forget(cx: &mut Cx<'_>, snapshot: &Snapshot, abi: Abi) {
    let depth = depth(cx, snapshot);
    let before = std::mem::take(&mut cx.memory.names);
    let mut known = std::mem::take(&mut cx.memory.known);
    let order = std::mem::take(&mut cx.memory.order);
    cx.memory.forget();
    // The return address is at the stack pointer, and gone afterwards.
    for root in order {
        let base = root.only_base().filter(|base| is_stack_pointer(cx, *base));
        let (Some(_), Some(depth), Some(mut entries)) = (base, depth, known.remove(&root)) else {
            continue;
        };
        entries.retain(|known| i64::from(known.disp) > depth);
        for entry in &mut entries {
            let at = match entry.survived.and_then(|survived| survived.origin) {
                // From before an earlier call.
                Some(old) => match before.get(old).filter(|named| named.sure) {
                    Some(named) => {
                        let at = origin(cx, named.now);
                        Origin {
                            plus: at.plus.wrapping_add(named.plus),
                            ..at
                        }
                    }
                    None => old,
                },
                None => origin(cx, entry.value),
            };
            entry.value = cx.canonical(entry.value);
            entry.survived = Some(Survived {
                origin: cx.constant(entry.value).is_none().then_some(at),
                checked: !entry.saved,
            });
        }
        entries.retain(|entry| entry.saved || checkable(cx, entry.value));
        if !entries.is_empty() {
            cx.memory.known.insert(root, entries);
            cx.memory.order.push(root);
        }
    }
    if abi != Abi::SysV {
        return;
    }
    // In the order of their definitions, so that none is defined by one that is defined by it.
    let mut kept: Vec<Value> = Reg::CALLEE_SAVED
        .iter()
        .filter_map(|reg| snapshot.get(*reg))
        .map(|value| cx.canonical(value))
        .filter(|value| value.as_op().is_some() && cx.b.type_of(*value) == Type::I64)
        .collect();
    kept.sort_unstable();
    kept.dedup();
    for value in kept {
        let at = origin(cx, value);
        match cx.memory.names.get(at) {
            None => cx.memory.names.set(Name { origin: at, sure: true }, value),
            Some(named) => {
                let same = sum(cx, named.now, named.plus);
                if same != value {
                    cx.equal.insert(value, same);
                }
            }
        }
    }
}

fn sum(cx: &mut Cx<'_>, value: Value, plus: i64) -> Value {
    let plus = cx.b.int(Type::I64, plus as u64);
    cx.make(O::Add, Type::I64, &[value, plus])
}

/// What a slot holds that is known from before a call. If that is to be loaded all the same, what the load should give is
/// noted.
pub(super) fn value(cx: &mut Cx<'_>, known: &Known, place: &Place, seen: Option<u128>) -> Option<Value> {
    let survived = known.survived?;
    let whole = (known.disp, known.size) == (place.disp, place.size);
    let saved = !survived.checked;
    let named = survived.origin.and_then(|origin| cx.memory.names.get(origin));
    let name = match (survived.origin, named) {
        (None, _) => Some(known.value),
        (Some(_), None) => None,
        (Some(_), Some(named)) => Some(match named.plus {
            0 => cx.canonical(named.now),
            plus => sum(cx, named.now, plus),
        }),
    };
    let sure = named.is_none_or(|named| named.sure);
    if saved && sure && name.is_some() {
        return name;
    }
    if let Some(entries) = cx.memory.known.get_mut(&place.root) {
        entries.retain(|known| !overlap(known.disp, known.size, place.disp, place.size));
    }
    let held = |name: &Value| cx.seen(*name).is_some() && cx.seen(*name) == seen && cx.checkpoint.is_some();
    let value = name.filter(held);
    // The first with its origin, or the first of which it is certain.
    let gives = survived.origin.filter(|_| name.is_none() || saved && !sure);
    let names = gives.map(|origin| Name { origin, sure: saved });
    let expects = whole && (value.is_some() || names.is_some());
    cx.memory.expected = expects.then_some(Expected { value, names });
    None
}

/// A load was made that should give this.
pub(super) fn check(cx: &mut Cx<'_>, loaded: Value, expected: Expected) {
    if let Some(name) = expected.names {
        cx.memory.names.set(name, loaded);
    }
    if let Some(value) = expected.value
        && let Some(snapshot) = cx.checkpoint()
        && loaded.as_op().is_some()
        && cx.b.type_of(loaded) == cx.b.type_of(value)
    {
        cx.guard_same(loaded, value, snapshot);
        cx.equal.insert(loaded, value);
    }
}

/// Whether a value can be compared with what is loaded again.
fn checkable(cx: &Cx<'_>, value: Value) -> bool {
    matches!(cx.b.type_of(value), Type::I8 | Type::I16 | Type::I32 | Type::I64)
}
