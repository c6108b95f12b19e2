//! What every trace that passes from one stage to the next is.
//!
//! Numbers are those of [`Invariant`]; a violation names the one it breaks.
//!
//!  1. **Size.** There are fewer than [`Value::LIMIT`] operations, and as many constants, snapshots and natives.
//!  2. **Suffix.** The type of an operation is one that its row of the table lists; `void` if the row lists none.
//!  3. **Presence.** Every operand of the row is there, but for the parts of an address. Those beyond the row are absent.
//!  4. **Definition.** An operand is a constant of the pool or an *earlier* operation.
//!  5. **Type.** An operand has a type that its kind accepts.
//!  6. **Immediate.** A condition, register, lane, predicate, rounding mode, fence or calling convention is one that exists
//!     for this operation; the register of `reg` and `get` is of the type of the operation.
//!  7. **Canonical fields.** Fields that an operation has no use for are 0, so that equal operations are equal bytes. An
//!     address without index has scale 1; that of `lea` demands no alignment.
//!  8. **Entry registers.** `reg` appears at most once for each register: two entry values of one register would be the
//!     same value under two names.
//!  9. **Loop head.** There is one `loophead` if the trace ends with `loop`, else none.
//! 10. **Phis.** A `phi` follows the loop head, with nothing but phis between. Its initial value is defined before the head.
//! 11. **Carried values.** `loop` has exactly the phis, in order, and for each a next value of its type, defined anywhere
//!     in the trace. They change all at once, so one may be another phi.
//! 12. **Tuples.** `get` takes a register that the operation before it gives: for a native its outputs, for `rep.cmps` and
//!     `rep.scas` rcx and flags, for a call any.
//! 13. **Snapshots.** A guard, a call and every end but `loop` has one. Its registers are in order, each at most once, with
//!     values of their types that are defined before the operation (before the end).
//! 14. **Exit stores.** They store a value of a type that memory can hold to an i64 base; both are defined as in 13.
//! 15. **Natives.** `native` has one, of 1 to 15 bytes. Inputs and outputs are in register order, each at most once; inputs
//!     are values of their registers' types, defined before. Memory is read, written or both; its address is an i64 and its
//!     size not 0, or it is anywhere and the size is 0.
//! 16. **Constants.** The pool has no two equal ones, none of type `void` or `tuple`, and no bit that the type has no place
//!     for (of `flags`: that is none of the six).
//! 17. **Origins.** They are in order of their first operations, one for each, within the trace or at its end.
//! 18. **Ends.** The condition of `branch` is an i1 and the target of `jump` an i64, both defined. The snapshot of `jump`
//!     has the pc 0.
//!
//! What is not asked: that values are used, that a loop has a guard, that snapshots are not shared, and anything about
//! *what* is computed. That is the business of tests with the evaluator.

use std::collections::HashSet;

use crate::flags;
use crate::opcode::{Immediate, Kind, Opcode};
use crate::print;
use crate::reg::{Cond, Reg};
use crate::trace::{Abi, End, Native, Op, Snapshot, Trace, Value};
use crate::types::{self, Type};

macro_rules! invariants {
    ($($variant:ident $number:literal,)*) => {
        /// The invariants; the module's documentation states them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Invariant {
            $(#[doc = concat!("Number ", $number, ".")] $variant = $number,)*
        }

        impl Invariant {
            /// All of them, by number.
            pub const ALL: &[Invariant] = &[$(Invariant::$variant),*];
        }
    };
}
invariants! {
    Size 1, Suffix 2, Presence 3, Definition 4, Type 5, Immediate 6, Canonical 7, EntryRegister 8, LoopHead 9, Phi 10,
    Carried 11, Tuple 12, Snapshot 13, ExitStore 14, Native 15, Constant 16, Origin 17, End 18,
}

/// An invariant that a trace breaks, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// The operation; `None` when it is the end, or a pool.
    pub op: Option<usize>,
    /// The operation or end as text; empty when it is a pool.
    pub text: String,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Violation {
            invariant,
            op,
            text,
            message,
        } = self;
        if let Some(op) = op {
            write!(f, "operation {op}, ")?;
        }
        if !text.is_empty() {
            write!(f, "`{text}`: ")?;
        }
        write!(f, "{message} (invariant {}, {invariant:?})", *invariant as u8)
    }
}

impl std::error::Error for Violation {}

/// Checks a trace.
///
/// # Errors
/// The first violation, in order of operations; those of the end and of the pools come last.
pub fn verify(trace: &Trace) -> Result<(), Violation> {
    let mut verifier = Verifier::new(trace, true);
    verifier.run();
    verifier.violations.pop().map_or(Ok(()), Err)
}

/// Every violation.
pub fn violations(trace: &Trace) -> Vec<Violation> {
    let mut verifier = Verifier::new(trace, false);
    verifier.run();
    verifier.violations
}

struct Verifier<'a> {
    trace: &'a Trace,
    first_only: bool,
    violations: Vec<Violation>,
    /// The operation being checked; the number of operations at the end, more for the pools.
    at: usize,
    /// The `reg` operations so far, by register.
    entry: u64,
    head: Option<usize>,
    phis: Vec<Value>,
}

impl<'a> Verifier<'a> {
    fn new(trace: &'a Trace, first_only: bool) -> Self {
        Verifier {
            trace,
            first_only,
            violations: Vec::new(),
            at: 0,
            entry: 0,
            head: None,
            phis: Vec::new(),
        }
    }

    fn run(&mut self) {
        let trace = self.trace;
        let pools = [
            ("operations", trace.ops.len()),
            ("constants", trace.constants.len()),
            ("snapshots", trace.snapshots.len()),
            ("natives", trace.natives.len()),
        ];
        for (name, len) in pools {
            if len >= Value::LIMIT {
                self.at = usize::MAX;
                self.fail(Invariant::Size, || {
                    format!("there are {len} {name}, the limit is {}", Value::LIMIT)
                });
                return;
            }
        }
        for (at, op) in trace.ops.iter().enumerate() {
            self.at = at;
            self.op(op);
            if self.first_only && !self.violations.is_empty() {
                return;
            }
        }
        self.at = trace.ops.len();
        self.end();
        self.at = usize::MAX;
        self.constants();
        self.origins();
    }

    fn fail(&mut self, invariant: Invariant, message: impl FnOnce() -> String) {
        if self.first_only && !self.violations.is_empty() {
            return;
        }
        let ops = self.trace.ops.len();
        let text = match self.at {
            at if at < ops => print::op(self.trace, at).to_string(),
            at if at == ops => print::end(self.trace).to_string(),
            _ => String::new(),
        };
        self.violations.push(Violation {
            invariant,
            op: (self.at < ops).then_some(self.at),
            text,
            message: message(),
        });
    }

    fn require(&mut self, holds: bool, invariant: Invariant, message: impl FnOnce() -> String) {
        if !holds {
            self.fail(invariant, message);
        }
    }

    /// Whether the value exists before the current place.
    fn is_defined(&self, value: Value) -> bool {
        match (value.as_op(), value.as_constant()) {
            (Some(op), _) => op < self.at && op < self.trace.ops.len(),
            (_, Some(constant)) => constant < self.trace.constants.len(),
            _ => false,
        }
    }

    /// Reports a value that is not defined or not of this type, as a violation of `invariant`.
    fn value(&mut self, what: impl std::fmt::Display, value: Value, ty: Type, invariant: Invariant) {
        if !self.is_defined(value) {
            return self.fail(invariant, || format!("{what} is not defined here"));
        }
        let found = self.trace.type_of(value);
        self.require(found == ty, invariant, || {
            format!("{what} is to be {ty}, and is {found}")
        });
    }

    fn op(&mut self, op: &Op) {
        let info = op.code.info();
        let suffix_is_right = info.suffix.map_or(op.ty == Type::Void, |set| set.contains(op.ty));
        self.require(suffix_is_right, Invariant::Suffix, || {
            format!("{} is no type for {}", op.ty, info.name)
        });
        for (i, value) in op.args.iter().enumerate() {
            match info.operands.get(i) {
                Some((name, kind)) => self.operand(op, name, *kind, *value),
                None => self.require(value.is_none(), Invariant::Presence, || {
                    format!("operand {i} is one more than {} has", info.name)
                }),
            }
        }
        self.immediate(op);
        self.fields(op);
        match op.code {
            Opcode::Reg => {
                let bit = 1u64.checked_shl(u32::from(op.imm)).unwrap_or(0);
                let again = self.entry & bit != 0;
                self.entry |= bit;
                self.require(!again, Invariant::EntryRegister, || {
                    "the register has an entry value already".into()
                });
            }
            Opcode::LoopHead => {
                let again = self.head.is_some();
                self.head.get_or_insert(self.at);
                self.require(!again, Invariant::LoopHead, || {
                    "the trace has a loop head already".into()
                });
            }
            Opcode::Phi => self.phi(op),
            Opcode::Get => self.get(op),
            Opcode::Native => match self.trace.natives.get(op.aux as usize) {
                Some(native) => self.native(native),
                None => self.fail(Invariant::Native, || format!("there is no native {}", op.aux)),
            },
            _ => {}
        }
        if let Some(index) = op.snapshot() {
            match self.trace.snapshots.get(index) {
                Some(snapshot) => self.snapshot(snapshot),
                None => self.fail(Invariant::Snapshot, || format!("there is no snapshot {}", op.aux)),
            }
        }
    }

    fn operand(&mut self, op: &Op, name: &str, kind: Kind, value: Value) {
        if value.is_none() {
            let may_be_absent = kind.is_address();
            return self.require(may_be_absent, Invariant::Presence, || {
                format!("operand {name} is absent")
            });
        }
        if !self.is_defined(value) {
            return self.fail(Invariant::Definition, || format!("operand {name} is not defined here"));
        }
        let found = self.trace.type_of(value);
        self.require(kind.accepts(op.ty, found), Invariant::Type, || {
            format!("operand {name} is to be {}, and is {found}", kind.describe(op.ty))
        });
    }

    fn immediate(&mut self, op: &Op) {
        let imm = op.imm;
        let fits = match op.code.info().immediate {
            Immediate::No | Immediate::Snap | Immediate::Nat => true, // see `fields`
            Immediate::Cc => Cond::from_code(imm).is_some(),
            Immediate::Lane => u32::from(imm) * op.ty.bits() < Type::V128.bits(),
            Immediate::InReg => Reg::from_index(usize::from(imm)).is_some_and(|reg| reg.ty() == op.ty),
            Immediate::Mem => imm & !31 == 0,
            Immediate::Abi => Abi::ALL.iter().any(|abi| *abi as u8 == imm),
            Immediate::Imm => match op.code {
                Opcode::Fence => matches!(imm, 5..=7),
                Opcode::RepCmps | Opcode::RepScas => imm < 2,
                Opcode::Fma => imm < 4,
                Opcode::FCmp | Opcode::Cmpps | Opcode::Cmppd => imm < 8,
                Opcode::FRound | Opcode::Roundps | Opcode::Roundpd => imm < 16,
                _ => true,
            },
        };
        self.require(fits, Invariant::Immediate, || {
            format!("{imm:#x} is no immediate of {}", op.code.info().name)
        });
    }

    fn fields(&mut self, op: &Op) {
        let immediate = op.code.info().immediate;
        let uses_imm = !matches!(immediate, Immediate::No | Immediate::Snap | Immediate::Nat);
        let uses_aux = matches!(
            immediate,
            Immediate::Mem | Immediate::Snap | Immediate::Abi | Immediate::Nat
        );
        self.require(uses_imm || op.imm == 0, Invariant::Canonical, || {
            format!("imm is {:#x} and not 0", op.imm)
        });
        self.require(uses_aux || op.aux == 0, Invariant::Canonical, || {
            format!("aux is {:#x} and not 0", op.aux)
        });
        if let Some(addr) = op.addr() {
            let scaled_nothing = addr.index.is_none() && addr.flags.scale() != 1;
            self.require(!scaled_nothing, Invariant::Canonical, || {
                "a scale without an index".into()
            });
            let no_access = op.code == Opcode::Lea && addr.flags.aligned()
                || op.code != Opcode::Load && addr.flags.is_unwritten()
                || op.code == Opcode::Lea && addr.flags.is_saved();
            self.require(!no_access, Invariant::Canonical, || {
                format!("{} does not access memory so", op.code.info().name)
            });
        }
    }

    fn phi(&mut self, op: &Op) {
        let Some(head) = self.head else {
            return self.fail(Invariant::Phi, || "no loop head comes before".into());
        };
        let directly = self.at == head + 1 + self.phis.len();
        self.require(directly, Invariant::Phi, || {
            "other operations are between it and the loop head".into()
        });
        let early = op.args[0].as_op().is_none_or(|init| init < head);
        self.require(early, Invariant::Phi, || {
            "its initial value is not defined before the loop head".into()
        });
        self.phis.push(Value::op(self.at));
    }

    fn get(&mut self, op: &Op) {
        let (Some(reg), Some(source)) = (op.reg(), op.args[0].as_op().and_then(|i| self.trace.ops.get(i))) else {
            return; // reported as a violation of 4, 5 or 6
        };
        let given = match source.code {
            Opcode::Call => true,
            Opcode::RepCmps | Opcode::RepScas => matches!(reg, Reg::RCX | Reg::FLAGS),
            Opcode::Native => match self.trace.natives.get(source.aux as usize) {
                Some(native) => native.outputs.contains(&reg),
                None => return,
            },
            _ => return,
        };
        self.require(given, Invariant::Tuple, || {
            format!("{reg} is no output of `{}`", source.code.info().name)
        });
    }

    fn registers(&mut self, regs: &[(Reg, Value)], invariant: Invariant) {
        let ordered = regs.is_sorted_by(|a, b| a.0 < b.0);
        self.require(ordered, invariant, || {
            "registers are not in order, or one is listed twice".into()
        });
        for (reg, value) in regs {
            self.value(reg, *value, reg.ty(), invariant);
        }
    }

    fn snapshot(&mut self, snapshot: &Snapshot) {
        self.registers(&snapshot.regs, Invariant::Snapshot);
        for store in &snapshot.stores {
            self.value("the base of an exit store", store.base, Type::I64, Invariant::ExitStore);
            if !self.is_defined(store.value) {
                self.fail(Invariant::ExitStore, || {
                    "the value of an exit store is not defined here".into()
                });
                continue;
            }
            let ty = self.trace.type_of(store.value);
            self.require(types::STORABLE.contains(ty), Invariant::ExitStore, || {
                format!("{ty} cannot be stored")
            });
        }
    }

    fn native(&mut self, native: &Native) {
        let len = native.bytes.len();
        self.require((1..=15).contains(&len), Invariant::Native, || {
            format!("an instruction of {len} bytes")
        });
        self.registers(&native.inputs, Invariant::Native);
        let ordered = native.outputs.is_sorted_by(|a, b| a < b);
        self.require(ordered, Invariant::Native, || {
            "outputs are not in order, or one is listed twice".into()
        });
        for mem in &native.mem {
            self.require(mem.read || mem.write, Invariant::Native, || {
                "memory neither read nor written".into()
            });
            let sized = mem.addr.is_some() == (mem.size != 0);
            self.require(sized, Invariant::Native, || format!("memory of {} bytes", mem.size));
            if let Some(addr) = mem.addr {
                self.value("the address of its memory", addr, Type::I64, Invariant::Native);
            }
        }
    }

    fn end(&mut self) {
        let end = &self.trace.end;
        let looping = matches!(end, End::Loop { .. });
        let head = self.head;
        self.require(head.is_some() == looping, Invariant::LoopHead, || match head {
            Some(head) => format!("operation {head} is a loop head, and the trace does not end with `loop`"),
            None => "there is no loop head to go back to".into(),
        });
        match end {
            End::Branch { cond, .. } => self.value("the condition", *cond, Type::I1, Invariant::End),
            End::Jump { target, snapshot } => {
                self.value("the target", *target, Type::I64, Invariant::End);
                let none = snapshot.pc == 0;
                self.require(none, Invariant::End, || {
                    format!("the pc is {:#x} and not 0", snapshot.pc)
                });
            }
            End::Loop { carried } => {
                let same = carried.iter().map(|(phi, _)| phi).eq(&self.phis);
                self.require(same, Invariant::Carried, || {
                    "these are not the phis of the loop in order".into()
                });
                for (phi, next) in carried {
                    let ty = self.trace.type_of(*phi);
                    self.value("the next value of a phi", *next, ty, Invariant::Carried);
                }
            }
            End::Exit { .. } | End::Repeat { .. } | End::Link { .. } => {}
        }
        if let Some(snapshot) = end.snapshot() {
            self.snapshot(snapshot);
        }
    }

    fn constants(&mut self) {
        let mut seen = HashSet::new();
        for (i, constant) in self.trace.constants.iter().enumerate() {
            let valid = match constant.ty {
                Type::Flags => u128::from(flags::STATUS),
                ty => ty.mask(),
            };
            let excess = constant.bits & !valid;
            self.require(types::ANY.contains(constant.ty), Invariant::Constant, || {
                format!("constant {i} is of type {}", constant.ty)
            });
            self.require(excess == 0, Invariant::Constant, || {
                format!("constant {i} of type {} has the bits {excess:#x}", constant.ty)
            });
            self.require(seen.insert(*constant), Invariant::Constant, || {
                format!("constant {i} is there already")
            });
        }
    }

    fn origins(&mut self) {
        let origins = &self.trace.origins;
        let ordered = origins.is_sorted_by(|a, b| a.0 < b.0);
        self.require(ordered, Invariant::Origin, || {
            "origins are not in order, or two begin at one operation".into()
        });
        let within = origins
            .last()
            .is_none_or(|(first, _)| *first as usize <= self.trace.ops.len());
        self.require(within, Invariant::Origin, || "the last origin is behind the end".into());
    }
}

#[cfg(test)]
mod tests;
