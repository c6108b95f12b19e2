//! What is worth knowing of how a trace was compiled: for `explain`, and for whoever wants to know what its time goes into.

use std::collections::BTreeMap;

use redmagic_ir::{Cond, End, Op, Opcode, Reg, Trace, Type, Value};
use redmagic_record::recording::{Recording, ShimExecution, Step};

use crate::graph::Place;
use crate::lift;

/// Notes on a compiled trace.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// Why it is copied, if it is and should not be: a name for counting, and the whole story.
    pub not_optimised: Option<(&'static str, String)>,
    /// Why it has no loop, though it returns to its own anchor.
    pub not_peeled: Option<NotPeeled>,
    /// Operations of the optimised trace from the loop's head on; `None` when it has no loop.
    pub body: Option<usize>,
    /// Calls that are kept as calls: how many, by the address of the callee.
    pub kept_calls: BTreeMap<u64, u32>,
    /// What its code is for, in order; empty unless it was asked for. The last stretch reaches to the end.
    pub purposes: Vec<Stretch>,
}

/// Why an optimised trace that returns to its anchor is not a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPeeled {
    /// A call that is kept as a call would have to keep what the loop carries.
    KeptCalls,
    /// The second turn contradicts the first, or is made at another depth of the native stack, or what the loop carries does not settle.
    Unsettled,
    /// It is longer than REDMAGIC_MAXPEEL.
    TooLong,
}

impl Notes {
    /// What the recording says.
    pub fn of(recording: &Recording) -> Notes {
        let mut kept_calls = BTreeMap::new();
        for step in &recording.steps {
            let callee = match step {
                Step::Residual(residual) if residual.library.as_ref().and_then(lift::effect).is_none() => {
                    residual.target
                }
                Step::Shim(call) if matches!(call.action, ShimExecution::Executed(_)) => call.call.next_ip,
                _ => continue,
            };
            *kept_calls.entry(callee).or_default() += 1;
        }
        Notes {
            kept_calls,
            ..Notes::default()
        }
    }

    /// Adds what the optimised trace says. `long`: it was not to be peeled, for its length.
    pub fn optimised(&mut self, trace: &Trace, long: bool) {
        let head = trace.loop_head();
        self.body = head.map(|head| trace.ops.len() - head);
        self.not_peeled = matches!(trace.end, End::Repeat { .. }).then(|| {
            if long {
                NotPeeled::TooLong
            } else if redmagic_opt::peel::possible(trace) {
                NotPeeled::Unsettled
            } else {
                NotPeeled::KeptCalls
            }
        });
    }
}

macro_rules! purposes {
    ($($variant:ident = $name:literal, $text:literal;)*) => {
        /// What a stretch of generated code is for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Purpose { $(#[doc = $text] $variant,)* }

        impl Purpose {
            /// All, in the order of the table.
            pub const ALL: &'static [Purpose] = &[$(Purpose::$variant,)*];

            /// Short name, stable, lower case with hyphens.
            pub fn name(self) -> &'static str {
                match self { $(Purpose::$variant => $name,)* }
            }

            /// One line for people.
            pub fn explanation(self) -> &'static str {
                match self { $(Purpose::$variant => $text,)* }
            }
        }
    };
}

purposes! {
    Work = "work", "arithmetic, conversions and moves of values, and instructions that are not modelled";
    Addresses = "addresses", "arithmetic whose result is used for addresses only";
    Loads = "loads", "loads of 16 bits or more, not from the native stack";
    Stores = "stores", "stores of 16 bits or more, not to the native stack";
    Tags = "tags", "loads and stores of a byte: type tags and marks, as a rule";
    TagGuards = "tag-guards", "guards that compare a byte, with the comparison and a load that is fused into it";
    TypeGuards = "type-guards", "guards that compare the second word of an object with a constant: types, as a rule";
    ApartGuards = "apart-guards", "guards that what two pointers lead to does not overlap";
    Guards = "guards", "other guards, with the comparison and a load that is fused into it";
    Counts = "counts", "adding 1 to a word of memory or taking it away, and the guard on what is left: reference counts, as a rule";
    NativeStack = "native-stack", "loads and stores relative to the stack pointer: the interpreter's own frames";
    Calls = "calls", "getting ready for calls that are kept as calls, and going on after them";
    Transfers = "transfers", "the entry, the jump back of a loop and the moves for it, the jump to another trace";
    Exits = "exits", "stubs of exits: putting the original state together, counting, going to a side trace";
    Copied = "copied", "recorded instructions, repeated";
}

/// Some generated code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Offset of its first byte.
    pub from: u32,
    /// What it is for.
    pub purpose: Purpose,
    /// The address of the instruction that it was made from; 0 if there is none.
    pub origin: u64,
}

/// What the code of an optimised trace is for, by [`Place::offset`]. `lines` are those of the emitter: addresses with the
/// operation that the code is for; those after the line of the end belong to stubs.
pub fn purposes(trace: &Trace, place: &Place, lines: &[(u64, u32)]) -> Vec<Stretch> {
    let classes = classes(trace);
    let mut out = vec![Stretch {
        from: 0,
        purpose: Purpose::Transfers,
        origin: 0,
    }];
    let mut stubs = false;
    for (address, op) in lines {
        let purpose = if stubs {
            Purpose::Exits
        } else {
            classes.get(*op as usize).copied().unwrap_or(Purpose::Transfers)
        };
        stubs |= *op as usize == trace.ops.len();
        let after = trace.origins.partition_point(|(first, _)| first <= op);
        out.push(Stretch {
            // A line that nothing was written for may be the end.
            from: place.offset(*address).unwrap_or(place.bytes() as u64) as u32,
            purpose,
            origin: after.checked_sub(1).map_or(0, |at| trace.origins[at].1),
        });
    }
    out
}

/// How a value is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Uses {
    address: bool,
    other: bool,
}

/// The purpose of each operation.
fn classes(trace: &Trace) -> Vec<Purpose> {
    let mut uses = vec![Uses::default(); trace.ops.len()];
    let note = |uses: &mut Vec<Uses>, value: Value, how: Uses| {
        if let Some(index) = value.as_op() {
            uses[index].address |= how.address;
            uses[index].other |= how.other;
        }
    };
    let (address, other) = (
        Uses {
            address: true,
            other: false,
        },
        Uses {
            address: false,
            other: true,
        },
    );
    // Backwards: the uses of a value come after it, but for what a loop carries, which is why there is a second round.
    // Snapshots do not count: an exit can compute what only it wants.
    for _ in 0..2 {
        for (index, op) in trace.ops.iter().enumerate().rev() {
            let passes_on = is_integer(op);
            for ((_, kind), value) in op.code.info().operands.iter().zip(op.args) {
                let how = if kind.is_address() && op.code != Opcode::Lea {
                    address
                } else if passes_on {
                    uses[index]
                } else {
                    other
                };
                note(&mut uses, value, how);
            }
        }
        if let End::Loop { carried } = &trace.end {
            for (phi, next) in carried {
                let how = phi.as_op().map_or(other, |phi| uses[phi]);
                note(&mut uses, *next, how);
            }
        }
    }
    let rsp_based = rsp_based(trace);
    let counts = counts(trace, &rsp_based);
    let ops = trace.ops.iter().enumerate();
    ops.map(|(index, op)| match counts[index] {
        true => Purpose::Counts,
        false => purpose(trace, op, uses[index], &rsp_based),
    })
    .collect()
}

/// What counts references: a word that is loaded, becomes one more or less, and is stored where it was; and the guard on it.
fn counts(trace: &Trace, rsp_based: &[bool]) -> Vec<bool> {
    let mut out = vec![false; trace.ops.len()];
    let found = |value: Value, code: &[Opcode]| {
        let index = value.as_op()?;
        code.contains(&trace.ops[index].code).then_some(index)
    };
    for (at, store) in trace.ops.iter().enumerate() {
        let parts = || {
            let addr = store
                .addr()
                .filter(|_| store.code == Opcode::Store && store.ty == Type::I64)?;
            if addr.base.as_op().is_some_and(|base| rsp_based[base]) {
                return None;
            }
            let sum = found(store.args[0], &[Opcode::Add, Opcode::Sub])?;
            let by = trace.constant(trace.ops[sum].args[1])? as i64;
            let load = found(trace.ops[sum].args[0], &[Opcode::Load])?;
            let same = trace.ops[load].addr() == Some(addr);
            (same && matches!(by, 1 | -1)).then_some((load, sum))
        };
        let Some((load, sum)) = parts() else { continue };
        for index in [load, sum, at] {
            out[index] = true;
        }
    }
    for index in 0..trace.ops.len() {
        let counted = |value: Value, code: &[Opcode]| found(value, code).is_some_and(|at| out[at]);
        let op = &trace.ops[index];
        out[index] |= match op.code {
            Opcode::FlagsSub | Opcode::FlagsAdd | Opcode::FlagsLogic => {
                counted(op.args[0], &[Opcode::Load, Opcode::Add, Opcode::Sub])
            }
            Opcode::Cond => counted(op.args[0], &[Opcode::FlagsSub, Opcode::FlagsAdd, Opcode::FlagsLogic]),
            Opcode::GuardTrue | Opcode::GuardFalse => counted(op.args[0], &[Opcode::Cond]),
            _ => false,
        };
    }
    out
}

/// What makes a condition, and the flags that it is of.
fn compared(trace: &Trace, cond: Value) -> Option<(&Op, &Op)> {
    let op = |value: Value| value.as_op().map(|index| &trace.ops[index]);
    let cond = op(cond).filter(|cond| cond.code == Opcode::Cond)?;
    Some((cond, op(cond.args[0])?))
}

/// Which of the guards that compare words a guard is.
fn guard_of_words(trace: &Trace, guard: &Op, rsp_based: &[bool]) -> Purpose {
    let op = |value: Value| value.as_op().map(|index| &trace.ops[index]);
    let compared = compared(trace, guard.args[0]);
    let Some((cond, flags)) = compared.filter(|(_, op)| op.code == Opcode::FlagsSub && op.ty == Type::I64) else {
        return Purpose::Guards;
    };
    let [a, b] = [flags.args[0], flags.args[1]];
    let constant = |value: Value| trace.constant(value).is_some();
    let leaves = guard.code == Opcode::GuardFalse;
    match Cond::from_code(cond.imm) {
        Some(Cond::E | Cond::NE) => {
            let second = op(a).and_then(|op| op.addr().filter(|_| op.code == Opcode::Load));
            if constant(b) && second.is_some_and(|addr| addr.disp == 8 && !addr.base.is_none()) {
                return Purpose::TypeGuards;
            }
        }
        // By which side of a limit an object is on: the stack, or a constant between far regions.
        Some(Cond::L | Cond::G) if leaves => {
            let limit = |value: Value| value.as_op().is_some_and(|at| rsp_based[at]);
            if limit(a) || limit(b) || trace.constant(b).is_some_and(|limit| limit as u64 >= 1 << 30) {
                return Purpose::ApartGuards;
            }
        }
        // By their ranges: how far the end of one is above the other, whose bytes may be added.
        Some(Cond::B) if leaves => {
            let difference = match op(a) {
                Some(sum) if sum.code == Opcode::Add => op(sum.args[0]),
                other => other,
            };
            let is_end = |value: Value| match op(value) {
                Some(end) => end.code == Opcode::Lea || end.code == Opcode::Add && constant(end.args[1]),
                None => constant(value),
            };
            if difference.is_some_and(|op| op.code == Opcode::Sub && is_end(op.args[0])) {
                return Purpose::ApartGuards;
            }
        }
        _ => {}
    }
    Purpose::Guards
}

fn is_integer(op: &Op) -> bool {
    matches!(
        op.code,
        Opcode::Add
            | Opcode::Sub
            | Opcode::Mul
            | Opcode::Shl
            | Opcode::Shr
            | Opcode::Sar
            | Opcode::And
            | Opcode::Or
            | Opcode::Zext
            | Opcode::Sext
            | Opcode::Trunc
            | Opcode::Neg
            | Opcode::Lea
            | Opcode::Phi
    )
}

/// Values that are the stack pointer plus a constant.
fn rsp_based(trace: &Trace) -> Vec<bool> {
    let mut out = vec![false; trace.ops.len()];
    for (index, op) in trace.ops.iter().enumerate() {
        let based = |value: Value| value.as_op().is_some_and(|at| at < index && out[at]);
        let constant = |value: Value| value.is_none() || value.as_constant().is_some();
        out[index] = match op.code {
            Opcode::Reg | Opcode::Get => op.reg() == Some(Reg::RSP),
            Opcode::Add | Opcode::Sub | Opcode::Lea => based(op.args[0]) && constant(op.args[1]),
            Opcode::Phi => based(op.args[0]),
            _ => false,
        };
    }
    out
}

fn purpose(trace: &Trace, op: &Op, uses: Uses, rsp_based: &[bool]) -> Purpose {
    let on_stack = || {
        op.addr()
            .and_then(|addr| addr.base.as_op())
            .is_some_and(|base| rsp_based[base])
    };
    match op.code {
        Opcode::GuardTrue | Opcode::GuardFalse | Opcode::Checkpoint => {
            if compares_byte(trace, op.args[0]) {
                Purpose::TagGuards
            } else {
                guard_of_words(trace, op, rsp_based)
            }
        }
        Opcode::Load | Opcode::Store if on_stack() => Purpose::NativeStack,
        Opcode::Load | Opcode::Store if op.ty == Type::I8 => Purpose::Tags,
        Opcode::Load => Purpose::Loads,
        Opcode::Store => Purpose::Stores,
        Opcode::Call | Opcode::Get => Purpose::Calls,
        Opcode::Reg | Opcode::LoopHead | Opcode::Phi => Purpose::Transfers,
        _ if uses.address && !uses.other => Purpose::Addresses,
        _ => Purpose::Work,
    }
}

/// Whether a condition compares a byte, or what was a byte before it was widened.
fn compares_byte(trace: &Trace, cond: Value) -> bool {
    let op = |value: Value| value.as_op().map(|index| &trace.ops[index]);
    let Some((_, flags)) = compared(trace, cond) else {
        return false;
    };
    let mut value = flags.args[0];
    for _ in 0..4 {
        if trace.type_of(value) == Type::I8 {
            return true;
        }
        match op(value) {
            Some(op)
                if matches!(
                    op.code,
                    Opcode::Zext | Opcode::Sext | Opcode::And | Opcode::Or | Opcode::Xor
                ) =>
            {
                value = op.args[0]
            }
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP: &str = "\
v0 = reg.i64 rbx
v1 = reg.i64 rsp
v2 = load.i8 [v0 + 8]
v3 = flags.sub.i8 v2, 3
v4 = cond.e v3
guard.true v4 {pc=0x1000}
v6 = load.i64 [v1 + 16]
loophead
v8 = phi.i64 v0
v9 = load.i64 [v8]
v10 = add.i64 v9, v6
store.i64 v10, [v8]
store.i8 3, [v8 + 8]
v13 = flags.sub.i64 v10, 100
v14 = cond.l v13
guard.true v14 {pc=0x1001}
v16 = add.i64 v8, 16
loop v8=v16
";

    #[test]
    fn operations_have_purposes() {
        let trace = redmagic_ir::parse::parse(LOOP).unwrap();
        let names: Vec<_> = classes(&trace).iter().map(|purpose| purpose.name()).collect();
        assert_eq!(
            names,
            [
                "transfers",
                "transfers",
                "tags",
                "work",
                "work",
                "tag-guards",
                "native-stack",
                "transfers",
                "transfers",
                "loads",
                "work",
                "stores",
                "tags",
                "work",
                "work",
                "guards",
                "addresses"
            ]
        );
    }

    #[test]
    fn objects_have_counts_and_types() {
        let text = "\
v0 = reg.i64 rbx
v1 = reg.i64 rsp
v2 = add.i64 v1, -4096
v3 = flags.sub.i64 v2, v0
v4 = cond.l v3
guard.false v4 {pc=0x1000}
v6 = load.i64 [v0 + 8]
v7 = flags.sub.i64 v6, 0x5000
v8 = cond.e v7
guard.true v8 {pc=0x1001}
v10 = load.i64 [v0]
v11 = add.i64 v10, -1
v12 = flags.sub.i64 v10, 1
store.i64 v11, [v0]
v14 = cond.e v12
guard.false v14 {pc=0x1002}
v16 = load.i64 [v0 + 16]
v17 = add.i64 v16, 2
store.i64 v17, [v0 + 16]
v19 = add.i64 v16, 7
v20 = sub.i64 v19, v0
v21 = flags.sub.i64 v20, 15
v22 = cond.b v21
guard.false v22 {pc=0x1003}
exit {pc=0x1010}
";
        let trace = redmagic_ir::parse::parse(text).unwrap();
        let classes = classes(&trace);
        let of = |purpose: Purpose| -> Vec<usize> {
            let found = classes.iter().enumerate().filter(|(_, class)| **class == purpose);
            found.map(|(index, _)| index).collect()
        };
        assert_eq!(of(Purpose::Counts), [10, 11, 12, 13, 14, 15]);
        assert_eq!(of(Purpose::TypeGuards), [9]);
        assert_eq!(of(Purpose::ApartGuards), [5, 23]);
        assert_eq!(of(Purpose::Guards), [0; 0]);
        assert_eq!(of(Purpose::Loads), [6, 16]);
        assert_eq!(of(Purpose::Stores), [18]);
    }

    #[test]
    fn what_follows_the_end_is_stubs() {
        let trace = redmagic_ir::parse::parse(LOOP).unwrap();
        let lines = [(0x10, 2), (0x14, 5), (0x20, 17), (0x28, 5), (0x30, 15)];
        let elsewhere = [(0x10, 2), (0x14, 5), (0x20, 17), (0x100, 5), (0x108, 15)];
        let expected = [
            (0, Purpose::Transfers),
            (0, Purpose::Tags),
            (4, Purpose::TagGuards),
            (0x10, Purpose::Transfers),
            (0x18, Purpose::Exits),
            (0x20, Purpose::Exits),
        ];
        let found = purposes(&trace, &Place::new(0x10, None, 0x40, 0x40), &lines);
        assert_eq!(found.iter().map(|s| (s.from, s.purpose)).collect::<Vec<_>>(), expected);
        let found = purposes(&trace, &Place::new(0x10, Some(0x100), 0x18, 0x40), &elsewhere);
        assert_eq!(found.iter().map(|s| (s.from, s.purpose)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn code_is_made_from_instructions() {
        let text = "v0 = reg.i64 rbx\n@0x1000\nv1 = load.i64 [v0]\nv2 = add.i64 v1, 1\n@0x1004\nstore.i64 v2, [v0]\nexit {pc=0x1008}\n";
        let trace = redmagic_ir::parse::parse(text).unwrap();
        let lines = [(0x10, 0), (0x14, 1), (0x18, 2), (0x20, 3), (0x28, 4)];
        let origins: Vec<u64> = purposes(&trace, &Place::new(0x10, None, 0x40, 0x40), &lines)
            .iter()
            .map(|s| s.origin)
            .collect();
        assert_eq!(origins, [0, 0, 0x1000, 0x1000, 0x1004, 0x1004]);
    }

    #[test]
    fn a_loop_has_a_body_and_needs_no_excuse() {
        let trace = redmagic_ir::parse::parse(LOOP).unwrap();
        let mut notes = Notes::default();
        notes.optimised(&trace, false);
        assert_eq!((notes.body, notes.not_peeled), (Some(10), None));
        let text = "v0 = reg.i64 rsp\nv1 = call 0x2000, sysv {pc=0x1005}\nrepeat {pc=0x1000}\n";
        notes.optimised(&redmagic_ir::parse::parse(text).unwrap(), false);
        assert_eq!((notes.body, notes.not_peeled), (None, Some(NotPeeled::KeptCalls)));
        notes.optimised(
            &redmagic_ir::parse::parse("v0 = reg.i64 rsp\nrepeat {pc=0x1000}\n").unwrap(),
            false,
        );
        assert_eq!(notes.not_peeled, Some(NotPeeled::Unsettled));
        notes.optimised(
            &redmagic_ir::parse::parse("v0 = reg.i64 rsp\nexit {pc=0x1000}\n").unwrap(),
            false,
        );
        assert_eq!(notes.not_peeled, None);
    }
}
