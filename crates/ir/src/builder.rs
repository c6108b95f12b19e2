//! Builds traces: one method for each row of the opcode table, constants interned.
//!
//! The builder appends what it is told; it folds nothing. That is the optimiser's work, which appends through the same
//! methods or through [`Builder::push`].

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::opcode::{Opcode, for_each_op};
use crate::reg::{Cond, Reg};
use crate::trace::{Abi, Addr, Constant, End, Native, Op, Snapshot, Trace, Value};
use crate::types::Type;

/// Multiply-and-rotate hashing of a few words (the scheme of rustc's FxHash): keys are our own, not hostile.
#[derive(Default, Clone)]
pub struct WordHasher(u64);

impl Hasher for WordHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, x: u8) {
        self.write_u64(u64::from(x));
    }

    fn write_u32(&mut self, x: u32) {
        self.write_u64(u64::from(x));
    }

    fn write_u64(&mut self, x: u64) {
        self.0 = (self.0.rotate_left(5) ^ x).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_u128(&mut self, x: u128) {
        self.write_u64(x as u64);
        self.write_u64((x >> 64) as u64);
    }

    fn write_isize(&mut self, x: isize) {
        self.write_u64(x as u64);
    }
}

/// A trace under construction.
#[derive(Debug, Clone)]
pub struct Builder {
    pub(crate) trace: Trace,
    interned: HashMap<Constant, Value, BuildHasherDefault<WordHasher>>,
}

impl Default for Builder {
    fn default() -> Self {
        Builder::new()
    }
}

macro_rules! methods {
    ($(group $title:literal { $(
        $(#[doc = $doc:literal])*
        $variant:ident $method:ident $text:literal $suffix:ident
        ($($operand:ident: $kind:ident),*) $imm:ident -> $result:ident, $effects:ident;
    )* })*) => {
        impl Builder {
            $($( method! { $imm $suffix $variant $method $text [$($doc)*] ($($operand)*) } )*)*
        }
    };
}

/// The method of a row: rows that carry an immediate of their own kind have hand-written ones below.
macro_rules! method {
    (No Fixed $variant:ident $method:ident $text:literal [$($doc:literal)*] ($($operand:ident)*)) => {
        #[doc = concat!("Appends `", $text, "`.")]
        #[doc = ""]
        $(#[doc = $doc])*
        #[inline]
        pub fn $method(&mut self $(, $operand: Value)*) -> Value {
            self.push_op(Opcode::$variant, Type::Void, 0, &[$($operand),*])
        }
    };
    (No $suffix:ident $variant:ident $method:ident $text:literal [$($doc:literal)*] ($($operand:ident)*)) => {
        #[doc = concat!("Appends `", $text, ".T`.")]
        #[doc = ""]
        $(#[doc = $doc])*
        #[inline]
        pub fn $method(&mut self, ty: Type $(, $operand: Value)*) -> Value {
            self.push_op(Opcode::$variant, ty, 0, &[$($operand),*])
        }
    };
    (Imm Fixed $variant:ident $method:ident $text:literal [$($doc:literal)*] ($($operand:ident)*)) => {
        #[doc = concat!("Appends `", $text, "`.")]
        #[doc = ""]
        $(#[doc = $doc])*
        #[inline]
        pub fn $method(&mut self $(, $operand: Value)*, imm: u8) -> Value {
            self.push_op(Opcode::$variant, Type::Void, imm, &[$($operand),*])
        }
    };
    (Imm $suffix:ident $variant:ident $method:ident $text:literal [$($doc:literal)*] ($($operand:ident)*)) => {
        #[doc = concat!("Appends `", $text, ".T`.")]
        #[doc = ""]
        $(#[doc = $doc])*
        #[inline]
        pub fn $method(&mut self, ty: Type $(, $operand: Value)*, imm: u8) -> Value {
            self.push_op(Opcode::$variant, ty, imm, &[$($operand),*])
        }
    };
    (Lane $suffix:ident $variant:ident $method:ident $text:literal [$($doc:literal)*] ($($operand:ident)*)) => {
        #[doc = concat!("Appends `", $text, ".T`.")]
        #[doc = ""]
        $(#[doc = $doc])*
        #[inline]
        pub fn $method(&mut self, ty: Type $(, $operand: Value)*, lane: u8) -> Value {
            self.push_op(Opcode::$variant, ty, lane, &[$($operand),*])
        }
    };
    ($($other:tt)*) => {};
}
for_each_op!(methods);

impl Builder {
    /// An empty trace.
    pub fn new() -> Builder {
        Builder {
            trace: Trace {
                ops: Vec::new(),
                constants: Vec::new(),
                snapshots: Vec::new(),
                natives: Vec::new(),
                origins: Vec::new(),
                end: End::Exit {
                    snapshot: Snapshot::default(),
                },
            },
            interned: HashMap::default(),
        }
    }

    /// Makes room for so many more operations and snapshots.
    pub fn reserve(&mut self, ops: usize, snapshots: usize) {
        self.trace.ops.reserve(ops);
        self.trace.snapshots.reserve(snapshots);
    }

    /// What has been built so far; its end is not set yet.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.trace.ops.len()
    }

    /// Whether there are no operations.
    pub fn is_empty(&self) -> bool {
        self.trace.ops.is_empty()
    }

    /// Ends the trace.
    pub fn finish(mut self, end: End) -> Trace {
        self.trace.end = end;
        self.trace
    }

    /// Ends the trace and begins a new one in `self`, keeping the map's memory.
    pub fn take(&mut self, end: End) -> Trace {
        self.interned.clear();
        let mut trace = std::mem::replace(&mut self.trace, Builder::new().trace);
        trace.end = end;
        trace
    }

    /// Appends an operation as it is.
    #[inline]
    pub fn push(&mut self, op: Op) -> Value {
        let value = Value::op(self.trace.ops.len());
        self.trace.ops.push(op);
        value
    }

    /// Appends an operation with these operands.
    #[inline]
    pub fn push_op(&mut self, code: Opcode, ty: Type, imm: u8, operands: &[Value]) -> Value {
        let mut args = [Value::NONE; 4];
        args[..operands.len()].copy_from_slice(operands);
        self.push(Op {
            code,
            ty,
            imm,
            aux: 0,
            args,
        })
    }

    /// A constant; bits above the width of the type are dropped.
    pub fn constant(&mut self, ty: Type, bits: u128) -> Value {
        let key = Constant {
            ty,
            bits: bits & ty.mask(),
        };
        let constants = &mut self.trace.constants;
        *self.interned.entry(key).or_insert_with(|| {
            constants.push(key);
            Value::constant(constants.len() - 1)
        })
    }

    /// Takes over the constants of a builder that went on from this one. A pool only grows, so numbers from either stay right.
    pub fn keep_constants(&mut self, later: Builder) {
        self.trace.constants = later.trace.constants;
        self.interned = later.interned;
    }

    /// An integer constant.
    pub fn int(&mut self, ty: Type, value: u64) -> Value {
        self.constant(ty, u128::from(value))
    }

    /// The type of a value.
    #[inline]
    pub fn type_of(&self, value: Value) -> Type {
        self.trace.type_of(value)
    }

    /// Appends `reg`: the value of the register at the entry.
    pub fn reg(&mut self, reg: Reg) -> Value {
        self.push_op(Opcode::Reg, reg.ty(), reg.index() as u8, &[])
    }

    /// Appends `get`: a register of a tuple.
    pub fn get(&mut self, tuple: Value, reg: Reg) -> Value {
        self.push_op(Opcode::Get, reg.ty(), reg.index() as u8, &[tuple])
    }

    /// Appends `cond`.
    pub fn cond(&mut self, cond: Cond, flags: Value) -> Value {
        self.push_op(Opcode::Cond, Type::Void, cond.code(), &[flags])
    }

    /// Appends `load.T`.
    pub fn load(&mut self, ty: Type, addr: Addr) -> Value {
        self.push(Op {
            code: Opcode::Load,
            ty,
            imm: addr.flags.0,
            aux: addr.disp,
            args: [addr.base, addr.index, addr.seg, Value::NONE],
        })
    }

    /// Appends `store.T`.
    pub fn store(&mut self, ty: Type, value: Value, addr: Addr) -> Value {
        self.push(Op {
            code: Opcode::Store,
            ty,
            imm: addr.flags.0,
            aux: addr.disp,
            args: [value, addr.base, addr.index, addr.seg],
        })
    }

    /// Appends `lea`: the address without its segment.
    pub fn lea(&mut self, addr: Addr) -> Value {
        self.push(Op {
            code: Opcode::Lea,
            ty: Type::Void,
            imm: addr.flags.0,
            aux: addr.disp,
            args: [addr.base, addr.index, Value::NONE, Value::NONE],
        })
    }

    /// Adds a snapshot; gives its index.
    pub fn snapshot(&mut self, snapshot: Snapshot) -> usize {
        self.trace.snapshots.push(snapshot);
        self.trace.snapshots.len() - 1
    }

    /// Appends `guard.true` or `guard.false`: the trace goes on when `c` is `expected`.
    pub fn guard(&mut self, c: Value, expected: bool, snapshot: usize) -> Value {
        let code = if expected {
            Opcode::GuardTrue
        } else {
            Opcode::GuardFalse
        };
        self.push(Op {
            code,
            ty: Type::Void,
            imm: 0,
            aux: snapshot as i32,
            args: [c, Value::NONE, Value::NONE, Value::NONE],
        })
    }

    /// Appends `checkpoint`.
    pub fn checkpoint(&mut self, snapshot: usize) -> Value {
        self.push(Op {
            code: Opcode::Checkpoint,
            ty: Type::Void,
            imm: 0,
            aux: snapshot as i32,
            args: [Value::NONE; 4],
        })
    }

    /// Appends `call`.
    pub fn call(&mut self, target: Value, abi: Abi, snapshot: usize) -> Value {
        self.push(Op {
            code: Opcode::Call,
            ty: Type::Void,
            imm: abi as u8,
            aux: snapshot as i32,
            args: [target, Value::NONE, Value::NONE, Value::NONE],
        })
    }

    /// Appends `native`.
    pub fn native(&mut self, native: Native) -> Value {
        self.trace.natives.push(native);
        let index = self.trace.natives.len() - 1;
        self.push(Op {
            code: Opcode::Native,
            ty: Type::Void,
            imm: 0,
            aux: index as i32,
            args: [Value::NONE; 4],
        })
    }

    /// Adds native operations to the pool, for operations that are appended with [`Builder::push`].
    pub fn natives(&mut self, natives: &[Native]) {
        self.trace.natives.extend_from_slice(natives);
    }

    /// Forgets the operations from index `len` on, and what only they refer to. Constants stay.
    pub fn truncate(&mut self, len: usize) {
        let trace = &mut self.trace;
        let (mut snapshots, mut natives) = (trace.snapshots.len(), trace.natives.len());
        for op in trace.ops.drain(len..) {
            match op.code {
                Opcode::Native => natives = natives.min(op.aux as usize),
                _ => snapshots = op.snapshot().map_or(snapshots, |s| snapshots.min(s)),
            }
        }
        trace.snapshots.truncate(snapshots);
        trace.natives.truncate(natives);
        trace.origins.retain(|(first, _)| *first as usize <= len);
    }

    /// The operations from here on come from the instruction at `pc`.
    pub fn origin(&mut self, pc: u64) {
        let at = self.trace.ops.len() as u32;
        match self.trace.origins.last_mut() {
            Some(last) if last.0 == at => last.1 = pc,
            _ => self.trace.origins.push((at, pc)),
        }
    }
}
