//! Architectural registers, as traces see them.
//!
//! A `ymm` register is two 128-bit halves, so that an SSE instruction, which leaves the upper half alone, and a VEX
//! instruction, which zeroes it, differ only in whether they write `yhN`. MXCSR is not here: it is implicit state, like
//! memory, that operations with the effect `FP` use (see [`crate::opcode::Effects`]). Neither are x87, MMX, mask and
//! 512-bit registers: only native operations touch those, and they do so in the machine itself.

use std::fmt;

use crate::types::Type;

/// An architectural register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(u8);

const NAMES: [&str; Reg::COUNT] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",
    "xmm14", "xmm15", "yh0", "yh1", "yh2", "yh3", "yh4", "yh5", "yh6", "yh7", "yh8", "yh9", "yh10", "yh11", "yh12",
    "yh13", "yh14", "yh15", "flags", "sysflags", "fsbase", "gsbase",
];

impl Reg {
    /// How many there are.
    pub const COUNT: usize = 52;

    /// Register of this number: 0-15 general in x86 order, 16-31 xmm, 32-47 upper halves of ymm, then
    /// [`Reg::FLAGS`], [`Reg::SYSFLAGS`], [`Reg::FS_BASE`], [`Reg::GS_BASE`].
    pub const fn from_index(index: usize) -> Option<Reg> {
        if index < Reg::COUNT {
            Some(Reg(index as u8))
        } else {
            None
        }
    }

    /// General register of this x86 number. Panics above 15.
    pub const fn gpr(number: usize) -> Reg {
        assert!(number < 16);
        Reg(number as u8)
    }

    /// Lower 128 bits of the vector register of this number. Panics above 15.
    pub const fn xmm(number: usize) -> Reg {
        assert!(number < 16);
        Reg(16 + number as u8)
    }

    /// Bits 128 to 255 of the vector register of this number. Panics above 15.
    pub const fn ymm_high(number: usize) -> Reg {
        assert!(number < 16);
        Reg(32 + number as u8)
    }

    /// rax.
    pub const RAX: Reg = Reg(0);
    /// rcx.
    pub const RCX: Reg = Reg(1);
    /// rdx.
    pub const RDX: Reg = Reg(2);
    /// rbx.
    pub const RBX: Reg = Reg(3);
    /// rsp.
    pub const RSP: Reg = Reg(4);
    /// rbp.
    pub const RBP: Reg = Reg(5);
    /// rsi.
    pub const RSI: Reg = Reg(6);
    /// rdi.
    pub const RDI: Reg = Reg(7);
    /// r11.
    pub const R11: Reg = Reg(11);
    /// The status flags CF, PF, AF, ZF, SF, OF.
    pub const FLAGS: Reg = Reg(48);
    /// The rest of `rflags`: DF, which string instructions obey, and what only `pushf` shows.
    pub const SYSFLAGS: Reg = Reg(49);
    /// Base of the fs segment (thread-local storage).
    pub const FS_BASE: Reg = Reg(50);
    /// Base of the gs segment.
    pub const GS_BASE: Reg = Reg(51);

    /// The number, below [`Reg::COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All registers in order.
    pub fn all() -> impl Iterator<Item = Reg> {
        (0..Reg::COUNT as u8).map(Reg)
    }

    /// Whether this is one of the 16 general registers.
    pub const fn is_gpr(self) -> bool {
        self.0 < 16
    }

    /// Whether this is the lower half of a vector register.
    pub const fn is_xmm(self) -> bool {
        self.0 >= 16 && self.0 < 32
    }

    /// Whether this is the upper half of a vector register.
    pub const fn is_ymm_high(self) -> bool {
        self.0 >= 32 && self.0 < 48
    }

    /// The type of a value held in this register.
    pub const fn ty(self) -> Type {
        match self.0 {
            16..48 => Type::V128,
            48 => Type::Flags,
            _ => Type::I64,
        }
    }

    /// The name in the text form.
    pub const fn name(self) -> &'static str {
        NAMES[self.0 as usize]
    }

    /// The register of this name.
    pub fn from_name(name: &str) -> Option<Reg> {
        NAMES.iter().position(|n| *n == name).and_then(Reg::from_index)
    }
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A condition code in the encoding of x86 (`jcc`, `setcc`, `cmovcc`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cond(u8);

const CONDS: [&str; 16] = [
    "o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g",
];

impl Cond {
    /// CF set: unsigned below, or a carry.
    pub const B: Cond = Cond(2);
    /// CF clear: unsigned not below.
    pub const AE: Cond = Cond(3);
    /// CF or ZF set: unsigned not above.
    pub const BE: Cond = Cond(6);
    /// CF and ZF clear: unsigned above.
    pub const A: Cond = Cond(7);
    /// ZF set: equal.
    pub const E: Cond = Cond(4);
    /// ZF clear: not equal.
    pub const NE: Cond = Cond(5);
    /// OF set.
    pub const O: Cond = Cond(0);
    /// SF is not OF: signed less.
    pub const L: Cond = Cond(12);
    /// SF is OF: signed not less.
    pub const GE: Cond = Cond(13);
    /// ZF set, or SF is not OF: signed not greater.
    pub const LE: Cond = Cond(14);
    /// SF is OF, and ZF is clear: signed greater.
    pub const G: Cond = Cond(15);

    /// The condition of this x86 code. `None` above 15.
    pub const fn from_code(code: u8) -> Option<Cond> {
        if code < 16 { Some(Cond(code)) } else { None }
    }

    /// The x86 code, 0 to 15.
    pub const fn code(self) -> u8 {
        self.0
    }

    /// The opposite condition.
    #[must_use]
    pub const fn negate(self) -> Cond {
        Cond(self.0 ^ 1)
    }

    /// The name in the text form: `b`, `ne`, `g`...
    pub const fn name(self) -> &'static str {
        CONDS[self.0 as usize]
    }

    /// The condition of this name.
    pub fn from_name(name: &str) -> Option<Cond> {
        CONDS.iter().position(|n| *n == name).map(|i| Cond(i as u8))
    }
}

impl fmt::Display for Cond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Reg {
    /// The general registers that a callee keeps under the System V ABI, besides rsp.
    pub const CALLEE_SAVED: [Reg; 6] = [
        Reg::RBX,
        Reg::RBP,
        Reg::gpr(12),
        Reg::gpr(13),
        Reg::gpr(14),
        Reg::gpr(15),
    ];
}

/// Where the machine code of a trace keeps a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Home {
    /// A general or vector register. Above the width of the value there may be anything.
    Register(Reg),
    /// The frame: this many bytes above the machine's stack pointer. 16 bytes for vectors, else 8.
    Frame(i32),
}
