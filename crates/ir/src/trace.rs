//! A trace: operations in a straight line, and how it ends.
//!
//! A value is the operation that computes it, or a constant of the trace's pool. Both are a 32-bit [`Value`], so that an
//! [`Op`] is 24 bytes and an operand is found without asking what it is. Constants are interned by the builder: two
//! equal ones are the same `Value`, which is what value numbering wants.
//!
//! ```text
//! v0 = reg.i64 rbx                          ; rbx at the entry
//! v1 = load.i32 [v0 + 16]
//! v2 = flags.sub.i32 v1, 7
//! v3 = cond.e v2
//! guard.true v3 {pc=0x401020, flags=v2}     ; else: rflags is v2, all other registers as at the entry
//! ```

use crate::builder::Builder;
use crate::opcode::{Immediate, Kind, Opcode, ResultRule};
use crate::reg::{Cond, Reg};
use crate::types::Type;

/// The result of an operation or a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(u32);

impl Value {
    /// The absent part of an address.
    pub const NONE: Value = Value(u32::MAX);
    const CONSTANT: u32 = 1 << 31;
    /// More operations or constants than this in one trace are refused.
    pub const LIMIT: usize = 1 << 24;

    /// The result of the operation of this index.
    #[inline]
    pub const fn op(index: usize) -> Value {
        assert!(index < Value::LIMIT);
        Value(index as u32)
    }

    /// The constant of this index in the pool.
    #[inline]
    pub const fn constant(index: usize) -> Value {
        assert!(index < Value::LIMIT);
        Value(index as u32 | Value::CONSTANT)
    }

    /// Whether it is absent.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == u32::MAX
    }

    /// As a number, to be hashed.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The index of the operation, unless it is a constant or absent.
    #[inline]
    pub const fn as_op(self) -> Option<usize> {
        if self.0 & Value::CONSTANT == 0 {
            Some(self.0 as usize)
        } else {
            None
        }
    }

    /// The index in the constant pool, unless it is an operation or absent.
    #[inline]
    pub const fn as_constant(self) -> Option<usize> {
        if self.0 & Value::CONSTANT != 0 && !self.is_none() {
            Some((self.0 & !Value::CONSTANT) as usize)
        } else {
            None
        }
    }
}

/// A constant of the pool. Bits above the width of the type are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Constant {
    /// Its type: anything but `void` and `tuple`.
    pub ty: Type,
    /// Its bits; floats as their IEEE image.
    pub bits: u128,
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Op {
    /// What it does.
    pub code: Opcode,
    /// The suffix type; `void` when the operation has none.
    pub ty: Type,
    /// Condition, lane, 8-bit immediate, register number, calling convention, or [`MemFlags`].
    pub imm: u8,
    /// Displacement; or index of the snapshot or of the native operation.
    pub aux: i32,
    /// The operands; those beyond the table's are [`Value::NONE`].
    pub args: [Value; 4],
}

impl Op {
    /// The type of the result; `void` when there is none.
    #[inline]
    pub fn result(&self) -> Type {
        match self.code.info().result {
            ResultRule::T => self.ty,
            ResultRule::Is(ty) => ty,
        }
    }

    /// The operands that the table lists, absent parts of an address included.
    #[inline]
    pub fn operands(&self) -> &[Value] {
        &self.args[..self.code.info().operands.len()]
    }

    /// The address of a load, store or `lea`.
    pub fn addr(&self) -> Option<Addr> {
        if self.code.info().immediate != Immediate::Mem {
            return None;
        }
        let at = usize::from(self.code == Opcode::Store);
        Some(Addr {
            base: self.args[at],
            index: self.args[at + 1],
            seg: if self.code == Opcode::Lea {
                Value::NONE
            } else {
                self.args[at + 2]
            },
            flags: MemFlags(self.imm),
            disp: self.aux,
        })
    }

    /// The condition of a `cond`.
    pub fn cond(&self) -> Option<Cond> {
        (self.code.info().immediate == Immediate::Cc)
            .then(|| Cond::from_code(self.imm))
            .flatten()
    }

    /// The register of a `reg` or `get`.
    pub fn reg(&self) -> Option<Reg> {
        (self.code.info().immediate == Immediate::InReg)
            .then(|| Reg::from_index(usize::from(self.imm)))
            .flatten()
    }

    /// The snapshot of a guard or call.
    pub fn snapshot(&self) -> Option<usize> {
        matches!(self.code.info().immediate, Immediate::Snap | Immediate::Abi).then_some(self.aux as usize)
    }
}

impl Op {
    /// How a `call` treats registers.
    pub fn abi(&self) -> Abi {
        if self.imm == Abi::Full as u8 {
            Abi::Full
        } else {
            Abi::SysV
        }
    }
}

/// Scale and properties of a memory operand, packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MemFlags(pub u8);

impl MemFlags {
    const ALIGNED: u8 = 4;
    const UNWRITTEN: u8 = 8;
    const SAVED: u8 = 16;

    /// Scale 1, 2, 4 or 8 (others panic); whether the address must be a multiple of the size, as for `movaps`.
    pub const fn new(scale: u32, aligned: bool) -> MemFlags {
        assert!(matches!(scale, 1 | 2 | 4 | 8));
        MemFlags(scale.trailing_zeros() as u8 | if aligned { MemFlags::ALIGNED } else { 0 })
    }

    /// The same properties with another scale: 1, 2, 4 or 8 (others panic).
    #[must_use]
    pub const fn with_scale(self, scale: u32) -> MemFlags {
        MemFlags(self.0 & !3 | MemFlags::new(scale, false).0)
    }

    /// What the index is shifted left by.
    #[inline]
    pub const fn shift(self) -> u32 {
        (self.0 & 3) as u32
    }

    /// 1, 2, 4 or 8.
    pub const fn scale(self) -> u32 {
        1 << self.shift()
    }

    /// The same, of a load that no store of the program's own can change the result of (Cranelift's `readonly`).
    #[must_use]
    pub const fn unwritten(self) -> MemFlags {
        MemFlags(self.0 | MemFlags::UNWRITTEN)
    }

    /// Whether no store of the program's own reaches the bytes: they may still be another's to write, as the shim's are.
    #[inline]
    pub const fn is_unwritten(self) -> bool {
        self.0 & MemFlags::UNWRITTEN != 0
    }

    /// The same, of a store of a return address, or of a register that a function saves for its caller; of a load, that it
    /// takes such a thing off the stack again.
    #[must_use]
    pub const fn saved(self) -> MemFlags {
        MemFlags(self.0 | MemFlags::SAVED)
    }

    /// Of a store: whether what is stored is a return address, or a register that a function saves for its caller. No pointer
    /// leads there: until it is taken off the stack, nothing changes it. Of a load: whether it takes off the stack what it loads.
    #[inline]
    pub const fn is_saved(self) -> bool {
        self.0 & MemFlags::SAVED != 0
    }

    /// Whether a misaligned address is a general protection fault.
    #[inline]
    pub const fn aligned(self) -> bool {
        self.0 & MemFlags::ALIGNED != 0
    }
}

/// `seg + base + index * scale + disp`, wrapping in 64 bits. The parts may be [`Value::NONE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Addr {
    /// Base.
    pub base: Value,
    /// Index.
    pub index: Value,
    /// Segment base.
    pub seg: Value,
    /// Scale, alignment.
    pub flags: MemFlags,
    /// Displacement.
    pub disp: i32,
}

impl Addr {
    /// `base + disp`.
    pub const fn base(base: Value, disp: i32) -> Addr {
        Addr {
            base,
            index: Value::NONE,
            seg: Value::NONE,
            flags: MemFlags(0),
            disp,
        }
    }

    /// The same address, with or without the demand for alignment.
    #[must_use]
    pub const fn with_alignment(mut self, aligned: bool) -> Addr {
        self.flags = MemFlags::new(self.flags.scale(), aligned);
        self
    }

    /// The same address `by` bytes further; `None` when the displacement overflows.
    #[must_use]
    pub fn offset(mut self, by: i32) -> Option<Addr> {
        self.disp = self.disp.checked_add(by)?;
        Some(self)
    }
}

/// A store that is made only when the exit is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExitStore {
    /// What is stored; its type is the width.
    pub value: Value,
    /// Base of the address.
    pub base: Value,
    /// Displacement.
    pub disp: i32,
}

/// Where an exit leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Via {
    /// To the original code; when it has become hot, to a trace of its own.
    #[default]
    Counted,
    /// To the original code, always: an exit that says nothing about what the program does.
    Silent,
    /// To the entry of this trace, through its anchor's slot, in the state that the anchor's call is in; the pc is that of the call.
    Restart,
}

impl Via {
    /// All, in order.
    pub const ALL: [Via; 3] = [Via::Counted, Via::Silent, Via::Restart];

    /// The word in the text form; none for the ordinary one.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Via::Counted => None,
            Via::Silent => Some("silent"),
            Via::Restart => Some("restart"),
        }
    }
}

/// What the machine's state is when the trace is left here.
///
/// Sparse: a register that is not listed holds what it held at the entry of the trace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Snapshot {
    /// Where the original code goes on.
    pub pc: u64,
    /// Where a guard leads; `Counted` everywhere else.
    pub via: Via,
    /// Registers that differ from the entry, in register order.
    pub regs: Vec<(Reg, Value)>,
    /// Stores to make on the way out, in this order.
    pub stores: Vec<ExitStore>,
}

impl Snapshot {
    /// What the register holds; `None`: what it held at the entry.
    pub fn get(&self, reg: Reg) -> Option<Value> {
        self.regs
            .binary_search_by_key(&reg, |(r, _)| *r)
            .ok()
            .map(|i| self.regs[i].1)
    }

    /// Says what the register holds.
    pub fn set(&mut self, reg: Reg, value: Value) {
        match self.regs.binary_search_by_key(&reg, |(r, _)| *r) {
            Ok(at) => self.regs[at].1 = value,
            Err(at) => self.regs.insert(at, (reg, value)),
        }
    }

    /// The values that it refers to: those of registers, then value and base of each store.
    pub fn values(&self) -> impl Iterator<Item = Value> + '_ {
        let regs = self.regs.iter().map(|(_, value)| *value);
        regs.chain(self.stores.iter().flat_map(|store| [store.value, store.base]))
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        let regs = self.regs.iter_mut().map(|(_, value)| value);
        let stores = self.stores.iter_mut();
        regs.chain(stores.flat_map(|store| [&mut store.value, &mut store.base]))
    }
}

/// How residual calls treat registers (the `imm` of a `call`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Abi {
    /// Within one image: every register is passed in its own place and redefined by the callee.
    Full = 0,
    /// Across images: the System V ABI holds, rbx, rbp, r12-r15 and rsp survive, upper vector halves do not.
    SysV = 1,
}

impl Abi {
    /// Both.
    pub const ALL: [Abi; 2] = [Abi::Full, Abi::SysV];

    /// The name in the text form.
    pub const fn name(self) -> &'static str {
        match self {
            Abi::Full => "full",
            Abi::SysV => "sysv",
        }
    }
}

/// A memory operand of a native operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NativeMem {
    /// The first byte, segment included; `None`: anywhere in memory.
    pub addr: Option<Value>,
    /// Bytes; 0 when `addr` is `None`.
    pub size: u32,
    /// Whether it is read.
    pub read: bool,
    /// Whether it is written, or may be.
    pub write: bool,
}

/// An instruction that the IR does not model.
///
/// It is executed by the machine: in the emitted trace with its inputs in the registers it names (or re-encoded with
/// others where they are explicit operands), in the evaluator by its host. Registers that the instruction only may
/// write, or writes partly, are inputs as well. State that the IR does not know (x87, MMX, mask registers, the upper
/// half of 512-bit registers) stays in the machine: native operations keep their order among themselves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Native {
    /// Where the instruction stood, for operands relative to `rip`.
    pub pc: u64,
    /// Its encoding, 1 to 15 bytes.
    pub bytes: Vec<u8>,
    /// What it reads, in register order.
    pub inputs: Vec<(Reg, Value)>,
    /// What it writes (a superset of what it may), in register order; read with `get`.
    pub outputs: Vec<Reg>,
    /// The memory it touches.
    pub mem: Vec<NativeMem>,
}

impl Native {
    /// The values that it refers to: inputs, then addresses.
    pub fn values(&self) -> impl Iterator<Item = Value> + '_ {
        let inputs = self.inputs.iter().map(|(_, value)| *value);
        inputs.chain(self.mem.iter().filter_map(|mem| mem.addr))
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        let inputs = self.inputs.iter_mut().map(|(_, value)| value);
        inputs.chain(self.mem.iter_mut().filter_map(|mem| mem.addr.as_mut()))
    }
}

/// How a trace ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum End {
    /// Goes on in the original code.
    Exit {
        /// State and place.
        snapshot: Snapshot,
    },
    /// Goes on in the original code in one of two places.
    Branch {
        /// An i1.
        cond: Value,
        /// The place when the condition holds; else it is the snapshot's pc.
        taken: u64,
        /// The state.
        snapshot: Snapshot,
    },
    /// Goes on in the original code at a computed place (the snapshot's pc has no meaning and is 0).
    Jump {
        /// An i64.
        target: Value,
        /// The state.
        snapshot: Snapshot,
    },
    /// Enters itself again from the start, in this state.
    Repeat {
        /// The state, and the pc of the anchor.
        snapshot: Snapshot,
    },
    /// Back to the loop head, with the next value of each phi in the order of the phis.
    Loop {
        /// (phi, next value).
        carried: Vec<(Value, Value)>,
    },
    /// Enters another trace.
    Link {
        /// Which one: a number that the engine gave.
        trace: u32,
        /// The state, and the pc of that trace's anchor.
        snapshot: Snapshot,
    },
}

impl End {
    /// The snapshot, which all but `Loop` have.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        match self {
            End::Exit { snapshot }
            | End::Branch { snapshot, .. }
            | End::Jump { snapshot, .. }
            | End::Repeat { snapshot }
            | End::Link { snapshot, .. } => Some(snapshot),
            End::Loop { .. } => None,
        }
    }

    /// The snapshot, to change it.
    pub fn snapshot_mut(&mut self) -> Option<&mut Snapshot> {
        match self {
            End::Exit { snapshot }
            | End::Branch { snapshot, .. }
            | End::Jump { snapshot, .. }
            | End::Repeat { snapshot }
            | End::Link { snapshot, .. } => Some(snapshot),
            End::Loop { .. } => None,
        }
    }
}

/// A trace. The invariants are those of [`crate::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The operations in order.
    pub ops: Vec<Op>,
    /// The constants, no two equal.
    pub constants: Vec<Constant>,
    /// The snapshots of guards and calls.
    pub snapshots: Vec<Snapshot>,
    /// The native operations.
    pub natives: Vec<Native>,
    /// Which source instruction an operation came from: (index of the first operation, its address), by index.
    pub origins: Vec<(u32, u64)>,
    /// How it ends.
    pub end: End,
}

impl Trace {
    /// Where the head of its loop is, if it is one.
    pub fn loop_head(&self) -> Option<usize> {
        self.ops.iter().position(|op| op.code == Opcode::LoopHead)
    }

    /// The type of a value; `void` for [`Value::NONE`] and values out of range.
    #[inline]
    pub fn type_of(&self, value: Value) -> Type {
        if let Some(i) = value.as_op() {
            self.ops.get(i).map_or(Type::Void, Op::result)
        } else if let Some(i) = value.as_constant() {
            self.constants.get(i).map_or(Type::Void, |c| c.ty)
        } else {
            Type::Void
        }
    }

    /// The bits of a constant.
    #[inline]
    pub fn constant(&self, value: Value) -> Option<u128> {
        self.constants.get(value.as_constant()?).map(|c| c.bits)
    }

    /// The address of the instruction that the operation of this index came from.
    pub fn origin(&self, op: usize) -> Option<u64> {
        let after = self.origins.partition_point(|(first, _)| *first as usize <= op);
        Some(self.origins[after.checked_sub(1)?].1)
    }

    /// The address of the instruction whose first operation has this index, if one begins there.
    pub fn begins(&self, op: usize) -> Option<u64> {
        let at = self.origins.binary_search_by_key(&op, |(first, _)| *first as usize);
        at.ok().map(|at| self.origins[at].1)
    }

    /// The same trace with its pools in order of use: constants, snapshots and natives are numbered as operations and end
    /// refer to them, each operation has a snapshot or native of its own, and what nothing refers to is gone. It is what
    /// the text form of this trace reads as. The trace must be valid.
    #[must_use]
    pub fn normalized(&self) -> Trace {
        let mut b = Builder::new();
        let mut origins = self.origins.iter().peekable();
        for (at, op) in self.ops.iter().enumerate() {
            while let Some((_, pc)) = origins.next_if(|(first, _)| *first as usize <= at) {
                b.origin(*pc);
            }
            let mut op = *op;
            // In the order of the text: the parts of an address come last, its segment first among them.
            let kinds = op.code.info().operands.iter().map(|(_, kind)| *kind);
            let mut order: Vec<(bool, bool, usize)> = kinds
                .enumerate()
                .map(|(i, kind)| (kind.is_address(), kind != Kind::Segment, i))
                .collect();
            order.sort_unstable();
            for (_, _, i) in order {
                op.args[i] = self.rebased(&mut b, op.args[i]);
            }
            if let Some(snapshot) = op.snapshot() {
                let snapshot = self.rebased_snapshot(&mut b, &self.snapshots[snapshot]);
                op.aux = b.snapshot(snapshot) as i32;
            }
            if op.code == Opcode::Native {
                let mut native = self.natives[op.aux as usize].clone();
                for value in native.values_mut() {
                    *value = self.rebased(&mut b, *value);
                }
                b.native(native);
                continue;
            }
            b.push(op);
        }
        for (_, pc) in origins {
            b.origin(*pc);
        }
        let mut end = self.end.clone();
        match &mut end {
            End::Branch { cond: value, .. } | End::Jump { target: value, .. } => *value = self.rebased(&mut b, *value),
            End::Loop { carried } => {
                for (_, next) in carried {
                    *next = self.rebased(&mut b, *next);
                }
            }
            End::Exit { .. } | End::Repeat { .. } | End::Link { .. } => {}
        }
        if let Some(snapshot) = end.snapshot_mut() {
            *snapshot = self.rebased_snapshot(&mut b, snapshot);
        }
        b.finish(end)
    }

    fn rebased(&self, b: &mut Builder, value: Value) -> Value {
        match value.as_constant() {
            Some(i) => b.constant(self.constants[i].ty, self.constants[i].bits),
            None => value,
        }
    }

    fn rebased_snapshot(&self, b: &mut Builder, snapshot: &Snapshot) -> Snapshot {
        let mut snapshot = snapshot.clone();
        for value in snapshot.values_mut() {
            *value = self.rebased(b, *value);
        }
        snapshot
    }
}
