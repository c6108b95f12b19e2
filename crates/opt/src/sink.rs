//! Dead stores: what is overwritten before anything can see it is stored only by the exits in between.
//!
//! Most stores of an interpreter's trace are to slots of its own stack that the next instruction of the program overwrites,
//! and to frames of native functions that were inlined. Walking backwards, a store is taken out if its bytes are all
//! overwritten later, or are native stack that is dead at the end of the trace; each guard in between stores them on
//! its way out. In between there must be no call, nothing that may load those bytes, and no other store that may write
//! them (the exit would store in the wrong order).
//!
//! Stores to memory other than dead stack are never moved past the end of an iteration: a signal handler, a collector and a
//! core dump see a true heap (DESIGN section 7).

use redmagic_ir::opcode::Effects;
use redmagic_ir::{End, ExitStore, MemFlags, Op, Opcode, Reg, Snapshot, Trace, Type, Value};

use crate::dce::{self, Renumbered};
use crate::forward::memory::{Facts, Place, Root, overlap, place};

/// Bytes that are overwritten later.
struct Dead {
    /// Where.
    place: Range,
    /// The guards in between are all that were met when so many had been, and since then.
    since: usize,
    /// Whether only what no pointer leads to ([`MemFlags::is_saved`]) is dead: a load in between may read all else.
    saved: bool,
}

#[derive(Debug, Clone, Copy)]
enum Range {
    /// By a store to this place.
    Place(Place),
    /// Below this displacement from the stack pointer at the entry.
    StackBelow(i64),
}

/// A guard on the way.
#[derive(Debug, Clone, Copy)]
struct Exit {
    snapshot: usize,
    /// See [`Stack::depth`].
    depth: Option<i64>,
}

/// Most exit stores in a trace: each is code in a stub.
const MOST: usize = 16384;

/// See the module.
#[must_use]
pub fn sink(mut trace: Trace, facts: &Facts) -> (Trace, Renumbered) {
    let stack = Stack::of(&trace, facts.private_below);
    let mut kept = vec![true; trace.ops.len()];
    let mut dead: Vec<Dead> = Vec::new();
    // By operation, the last one first.
    let mut guards: Vec<Exit> = Vec::new();
    if let End::Repeat { snapshot } | End::Link { snapshot, .. } = &trace.end
        && let Some(depth) = stack.depth(&trace, snapshot)
    {
        dead.push(Dead {
            place: Range::StackBelow(depth),
            since: 0,
            saved: false,
        });
    }
    let mut sunk = 0;
    for index in (0..trace.ops.len()).rev() {
        let op = trace.ops[index];
        match op.code {
            Opcode::Checkpoint => {}
            Opcode::GuardTrue | Opcode::GuardFalse => {
                let snapshot = &trace.snapshots[op.aux as usize];
                let depth = stack.depth(&trace, snapshot);
                // Back at the loop's end: what is below the stack pointer there is dead.
                if snapshot.via == redmagic_ir::Via::Restart
                    && matches!(trace.end, End::Loop { .. })
                    && let Some(depth) = depth
                {
                    dead.push(Dead {
                        place: Range::StackBelow(depth),
                        since: guards.len(),
                        saved: false,
                    });
                }
                guards.push(Exit {
                    snapshot: op.aux as usize,
                    depth,
                });
            }
            Opcode::Store => {
                let at = place(&op).expect("a store has a place");
                let saved = MemFlags(op.imm).is_saved();
                let covered = dead
                    .iter()
                    .position(|dead| (saved || !dead.saved) && stack.covers(&dead.place, &at));
                let base = at.root.only_base().filter(|base| !base.is_none());
                let between = covered.map(|found| &guards[dead[found].since..]);
                if let (Some(between), Some(base)) = (between, base)
                    && sunk + between.len() <= MOST
                {
                    kept[index] = false;
                    let store = ExitStore {
                        value: op.args[0],
                        base,
                        disp: at.disp,
                    };
                    let end = i64::from(at.disp) + i64::from(at.size);
                    let bytes = trace.type_of(store.value).bytes();
                    for Exit { snapshot, depth } in between.iter().copied() {
                        // Below the red zone of the exit nothing is alive, and nothing that a function has saved after it has
                        // returned.
                        let red_zone = if saved { 0 } else { 128 };
                        if stack.pointer == Some(base) && depth.is_some_and(|depth| end <= depth - red_zone) {
                            continue;
                        }
                        // What the exit stores there anyway, it need not store first.
                        let over = |later: &ExitStore| {
                            (later.base, later.disp) == (store.base, store.disp)
                                && trace.type_of(later.value).bytes() >= bytes
                        };
                        if !trace.snapshots[snapshot].stores.iter().any(over) {
                            trace.snapshots[snapshot].stores.insert(0, store);
                            sunk += 1;
                        }
                    }
                    continue;
                }
                dead.retain_mut(|dead| stack.keeps(facts, index, dead, &at));
                if base.is_some() {
                    dead.push(Dead {
                        place: Range::Place(at),
                        since: guards.len(),
                        saved: false,
                    });
                }
            }
            Opcode::Load => {
                if MemFlags(op.imm).is_unwritten() {
                    continue;
                }
                let at = place(&op).expect("a load has a place");
                dead.retain_mut(|dead| stack.keeps(facts, index, dead, &at));
            }
            _ => {
                let effects = op.code.effects();
                let memory = [Effects::READ, Effects::WRITE, Effects::BARRIER];
                if memory.into_iter().any(|effect| effects.has(effect)) {
                    dead.clear();
                }
            }
        }
    }
    dce::keep(trace, &kept)
}

/// What is known of the native stack.
pub(crate) struct Stack {
    /// The stack pointer at the entry.
    pointer: Option<Value>,
    /// The operation from which on an address of the stack may be known elsewhere.
    escapes: usize,
    /// What is below this displacement from the stack pointer at the entry is private until then.
    private_below: i64,
    /// Whether addresses of the stack that are stored in private frames are never loaded from there: they cannot be found.
    hidden: bool,
}

impl Stack {
    pub(crate) fn of(trace: &Trace, private_below: i64) -> Stack {
        let is_rsp = |op: &Op| op.code == Opcode::Reg && op.reg() == Some(Reg::RSP);
        let pointer = trace.ops.iter().position(is_rsp).map(Value::op);
        let mut stack = Stack {
            pointer,
            escapes: 0,
            private_below,
            hidden: false,
        };
        stack.hidden = stack.hides(trace);
        let head = trace.loop_head();
        let first = (0..trace.ops.len()).find(|index| stack.escapes_at(trace, *index));
        // In a loop, what escapes later has escaped in the turn before.
        stack.escapes = match (first, head) {
            (None, _) => usize::MAX,
            (Some(at), Some(head)) => at.min(head),
            (Some(at), None) => at,
        };
        stack
    }

    /// The bytes of a private frame that an address of the stack is stored to.
    fn hiding_place(&self, trace: &Trace, op: &Op) -> Option<Place> {
        let hides = op.code == Opcode::Store && self.offset(trace, op.args[0]).is_some();
        let at = place(op).filter(|at| hides && self.is_stack(&at.root))?;
        (i64::from(at.disp) + i64::from(at.size) <= self.private_below).then_some(at)
    }

    /// See [`Stack::hidden`]. In a loop a load sees what was stored in the turn before: the order does not matter.
    fn hides(&self, trace: &Trace) -> bool {
        let places: Vec<Place> = trace.ops.iter().filter_map(|op| self.hiding_place(trace, op)).collect();
        let derived = |value: Value| !value.is_none() && self.offset(trace, value).is_some();
        let finds = |op: &Op| {
            let Some(at) = place(op).filter(|_| op.code == Opcode::Load) else {
                return false;
            };
            if self.is_stack(&at.root) {
                places
                    .iter()
                    .any(|hidden| overlap(hidden.disp, hidden.size, at.disp, at.size))
            } else {
                at.root.parts().any(derived)
            }
        };
        !places.is_empty() && !trace.ops.iter().any(finds)
    }

    fn escapes_at(&self, trace: &Trace, index: usize) -> bool {
        let op = &trace.ops[index];
        let derived = |value: Value| !value.is_none() && self.offset(trace, value).is_some();
        match op.code {
            Opcode::Load
            | Opcode::Checkpoint
            | Opcode::GuardTrue
            | Opcode::GuardFalse
            | Opcode::FlagsSub
            | Opcode::FlagsAdd
            | Opcode::FlagsLogic => false,
            Opcode::Add => derived(op.args[0]) && trace.constant(op.args[1]).is_none() || derived(op.args[1]),
            Opcode::Store => derived(op.args[0]) && !(self.hidden && self.hiding_place(trace, op).is_some()),
            Opcode::Call | Opcode::Native => true,
            _ => op.operands().iter().any(|value| derived(*value)),
        }
    }

    /// Whether an address below this displacement from the stack pointer at the entry may be known elsewhere before
    /// operation `at`. What is below the stack pointer of a call is not the caller's.
    pub(crate) fn escaped_below(&self, trace: &Trace, at: usize, depth: i64) -> bool {
        let below = |value: &Value| !value.is_none() && self.offset(trace, *value).is_some_and(|offset| offset < depth);
        let looping = trace.ops[..at].iter().any(|op| op.code == Opcode::LoopHead);
        let ops = if looping { trace.ops.len() } else { at };
        trace.ops[..ops].iter().enumerate().any(|(index, op)| match op.code {
            Opcode::Call => false,
            Opcode::Native => {
                let mut inputs = trace.natives[op.aux as usize].inputs.iter();
                inputs.any(|(reg, value)| *reg != Reg::RSP && below(value))
            }
            Opcode::Store => below(&op.args[0]),
            _ => self.escapes_at(trace, index) && op.operands().iter().any(below),
        })
    }

    /// How far a value is from the stack pointer at the entry.
    fn offset(&self, trace: &Trace, mut value: Value) -> Option<i64> {
        let mut sum = 0i64;
        loop {
            if Some(value) == self.pointer {
                return Some(sum);
            }
            let op = trace.ops.get(value.as_op()?)?;
            if op.code != Opcode::Add || op.ty != Type::I64 {
                return None;
            }
            sum = sum.wrapping_add(trace.constant(op.args[1])? as i64);
            value = op.args[0];
        }
    }

    /// The stack pointer of an exit, from that at the entry.
    fn depth(&self, trace: &Trace, snapshot: &Snapshot) -> Option<i64> {
        match snapshot.get(Reg::RSP) {
            Some(value) => self.offset(trace, value),
            None => self.pointer.map(|_| 0),
        }
    }

    fn is_stack(&self, root: &Root) -> bool {
        self.pointer.is_some() && root.only_base() == self.pointer
    }

    fn covers(&self, range: &Range, place: &Place) -> bool {
        let (start, end) = (i64::from(place.disp), i64::from(place.disp) + i64::from(place.size));
        match range {
            Range::Place(by) => {
                by.root == place.root && i64::from(by.disp) <= start && end <= i64::from(by.disp) + i64::from(by.size)
            }
            Range::StackBelow(depth) => self.is_stack(&place.root) && end <= *depth,
        }
    }

    /// Whether something stays dead when `place` is accessed at operation `at`.
    fn keeps(&self, facts: &Facts, at: usize, dead: &mut Dead, place: &Place) -> bool {
        if self.leaves(facts, at, &mut dead.place, place) {
            return true;
        }
        // Saved registers and return addresses are still dead.
        dead.saved = true;
        matches!(dead.place, Range::Place(by) if self.is_stack(&by.root) && by.root != place.root)
    }

    /// Whether an access to `place` at operation `at` leaves something of dead bytes alone: what is left of them then.
    fn leaves(&self, facts: &Facts, at: usize, range: &mut Range, place: &Place) -> bool {
        if let Range::StackBelow(depth) = range
            && !self.is_stack(&place.root)
        {
            // Frames that were there before the trace may be accessed by addresses from then.
            *depth = (*depth).min(self.private_below);
        }
        self.apart(facts, at, range, place)
    }

    /// Whether two places do not overlap, as far as that is known before operation `at`.
    pub(crate) fn places_apart(&self, facts: &Facts, at: usize, one: &Place, two: &Place) -> bool {
        self.apart(facts, at, &Range::Place(*one), two)
    }

    fn apart(&self, facts: &Facts, at: usize, range: &Range, place: &Place) -> bool {
        let uses_stack = place.root.parts().any(|part| Some(part) == self.pointer);
        match range {
            Range::Place(by) => {
                if by.root == place.root {
                    return !overlap(by.disp, by.size, place.disp, place.size);
                }
                let private = |one: &Place, other_uses: bool| {
                    self.is_stack(&one.root)
                        && i64::from(one.disp) + i64::from(one.size) <= self.private_below
                        && at < self.escapes
                        && !other_uses
                };
                private(by, uses_stack)
                    || private(place, by.root.parts().any(|part| Some(part) == self.pointer))
                    || facts.apart(at, by, place)
            }
            Range::StackBelow(depth) => {
                if self.is_stack(&place.root) {
                    i64::from(place.disp) >= *depth
                } else {
                    *depth <= self.private_below && at < self.escapes && !uses_stack
                }
            }
        }
    }
}
