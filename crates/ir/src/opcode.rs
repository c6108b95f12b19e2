//! The one table of operations.
//!
//! A row is the whole definition of an operation; the enum, the builder's methods, the printer, the parser, the
//! verifier, the execution of most vector operations and the reference in `docs/ir.md` are derived from it. Its columns:
//!
//! ```text
//! /// what it computes
//! Variant method "text" SUFFIX (operand: KIND, ...) IMMEDIATE -> RESULT, EFFECTS;
//! ```
//!
//! * SUFFIX: the types that may stand after the name as `.T`, or `Fixed` for none.
//! * KIND: `T` is the suffix type; `I1 I8 I32 I64 V F Tup` are fixed types (`V` v128, `F` flags); `Int`, `Fp`, `Any` are
//!   sets; `Narrow` and `Wide` are integers narrower and wider than T; `SameSize` is another type of the width of T;
//!   `OtherFp` is the other float type; `Base`, `Index` and `Seg` make an address and may be absent.
//! * IMMEDIATE: `No`, `Cc` (condition), `Lane`, `Imm` (8 bits), `InReg` (architectural register), `Mem` (scale,
//!   displacement and alignment of an address), `Snap` (a snapshot), `Abi` (a call's convention and snapshot),
//!   `Nat` (a native operation).
//! * EFFECTS: see [`Effects`]. `PureHost` and `FpHost` are `Pure` and `Fp` for operations whose name is the x86 mnemonic
//!   that computes exactly them: the evaluator executes that instruction.
//!
//! Shift and rotate counts are masked as x86 does it: to 6 bits for i64, else to 5.

use crate::types::{self, Type, TypeSet};

/// What an operation does besides computing its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effects(u8);

impl Effects {
    /// None: may be moved, merged with an equal one, and dropped when unused.
    pub const PURE: Effects = Effects(0);
    /// Reads memory (the address operands say where; a `Tuple` result or no address: anywhere).
    pub const READ: Effects = Effects(1);
    /// Writes memory.
    pub const WRITE: Effects = Effects(2);
    /// May leave the trace through its snapshot.
    pub const GUARD: Effects = Effects(4);
    /// May raise a processor exception (divide error); memory operations may fault too, without this.
    pub const TRAP: Effects = Effects(8);
    /// Reads the control bits of MXCSR and ORs into its sticky exception bits. May be merged with an equal earlier
    /// operation; dropping or moving one changes only the sticky bits.
    pub const FP: Effects = Effects(16);
    /// Nothing that touches memory or MXCSR moves across it.
    pub const BARRIER: Effects = Effects(32);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Effects) -> Effects {
        Effects(self.0 | other.0)
    }

    /// Whether all effects of `other` are among these.
    pub const fn has(self, other: Effects) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether an unused result means that the operation can go.
    pub const fn is_pure(self) -> bool {
        self.0 == 0
    }

    /// The names of the effects, for documentation.
    pub fn names(self) -> String {
        let all = [
            (Effects::READ, "read"),
            (Effects::WRITE, "write"),
            (Effects::GUARD, "guard"),
            (Effects::TRAP, "trap"),
            (Effects::FP, "fp"),
            (Effects::BARRIER, "barrier"),
        ];
        let names: Vec<&str> = all.iter().filter(|(e, _)| self.has(*e)).map(|(_, n)| *n).collect();
        if names.is_empty() {
            "pure".into()
        } else {
            names.join(" ")
        }
    }
}

/// What may stand in an operand position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value of the suffix type.
    T,
    /// A value of one of these types.
    In(TypeSet),
    /// An integer narrower than the suffix type.
    Narrower,
    /// An integer wider than the suffix type.
    Wider,
    /// Another type as wide as the suffix type.
    SameSize,
    /// The float type that the suffix is not.
    OtherFloat,
    /// An i64 base of an address, or absent.
    Base,
    /// An index of an address (the type of the base), or absent.
    Index,
    /// An i64 segment base, or absent.
    Segment,
}

impl Kind {
    /// Whether it is a part of an address, which may be absent.
    pub const fn is_address(self) -> bool {
        matches!(self, Kind::Base | Kind::Index | Kind::Segment)
    }

    /// Whether a value of type `found` may stand here in an operation with this suffix.
    pub fn accepts(self, suffix: Type, found: Type) -> bool {
        let int = types::BITS.contains(found);
        match self {
            Kind::T => found == suffix,
            Kind::In(set) => set.contains(found),
            Kind::Narrower => int && found.bits() < suffix.bits(),
            Kind::Wider => int && found != Type::I1 && found.bits() > suffix.bits(),
            Kind::SameSize => found != suffix && found != Type::Flags && found.bits() == suffix.bits(),
            Kind::OtherFloat => found != suffix && types::FLOATS.contains(found),
            Kind::Base | Kind::Index | Kind::Segment => found == Type::I64,
        }
    }

    /// What may stand here, in words.
    pub fn describe(self, suffix: Type) -> String {
        match self {
            Kind::T => suffix.to_string(),
            Kind::In(set) => set.iter().map(Type::name).collect::<Vec<_>>().join(" or "),
            Kind::Narrower => format!("an integer narrower than {suffix}"),
            Kind::Wider => format!("an integer wider than {suffix}"),
            Kind::SameSize => format!("another type as wide as {suffix}"),
            Kind::OtherFloat => format!("the float type that is not {suffix}"),
            Kind::Base | Kind::Index | Kind::Segment => "i64 or absent".into(),
        }
    }

    /// The type that a constant written without one has here.
    pub fn implied(self, suffix: Type) -> Option<Type> {
        match self {
            Kind::T => Some(suffix),
            Kind::In(set) => set.single(),
            Kind::OtherFloat => Some(if suffix == Type::F32 { Type::F64 } else { Type::F32 }),
            Kind::Base | Kind::Index | Kind::Segment => Some(Type::I64),
            Kind::Narrower | Kind::Wider | Kind::SameSize => None,
        }
    }
}

/// The type of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultRule {
    /// The suffix type.
    T,
    /// Always this one; [`Type::Void`] is none.
    Is(Type),
}

/// What else an operation carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Immediate {
    /// Nothing.
    No,
    /// A condition code.
    Cc,
    /// A lane number.
    Lane,
    /// An 8-bit immediate.
    Imm,
    /// An architectural register.
    InReg,
    /// Scale, displacement, required alignment.
    Mem,
    /// A snapshot.
    Snap,
    /// A calling convention and a snapshot.
    Abi,
    /// A native operation.
    Nat,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct OpInfo {
    /// The name in the text form.
    pub name: &'static str,
    /// The types that may be its suffix; `None`: it has none.
    pub suffix: Option<TypeSet>,
    /// Names and kinds of the operands.
    pub operands: &'static [(&'static str, Kind)],
    /// What else it carries.
    pub immediate: Immediate,
    /// The type of its result.
    pub result: ResultRule,
    /// What it does besides.
    pub effects: Effects,
    /// The documentation, a line each.
    pub doc: &'static [&'static str],
}

/// The columns' words and what they stand for.
#[allow(non_upper_case_globals)]
mod words {
    use super::{Effects, Immediate, Kind, ResultRule, Type, TypeSet, types};

    pub(super) mod suffix {
        use super::{Type, TypeSet, types};
        pub const Fixed: Option<TypeSet> = None;
        pub const Int: Option<TypeSet> = Some(types::INTS);
        pub const Bits: Option<TypeSet> = Some(types::BITS);
        pub const Wide: Option<TypeSet> = Some(TypeSet::of(&[Type::I16, Type::I32, Type::I64]));
        pub const Big: Option<TypeSet> = Some(TypeSet::of(&[Type::I32, Type::I64]));
        pub const Small: Option<TypeSet> = Some(TypeSet::of(&[Type::I8, Type::I16, Type::I32]));
        pub const Float: Option<TypeSet> = Some(types::FLOATS);
        pub const Cast: Option<TypeSet> = Some(TypeSet::of(&[Type::I32, Type::I64, Type::F32, Type::F64]));
        pub const Lanes: Option<TypeSet> = Some(types::LANES);
        pub const Storable: Option<TypeSet> = Some(types::STORABLE);
        pub const Register: Option<TypeSet> = Some(types::REGISTER);
        pub const Any: Option<TypeSet> = Some(types::ANY);
    }
    pub(super) mod kind {
        use super::{Kind, Type, TypeSet, types};
        pub const T: Kind = Kind::T;
        pub const I1: Kind = Kind::In(TypeSet::of(&[Type::I1]));
        pub const I8: Kind = Kind::In(TypeSet::of(&[Type::I8]));
        pub const I32: Kind = Kind::In(TypeSet::of(&[Type::I32]));
        pub const I64: Kind = Kind::In(TypeSet::of(&[Type::I64]));
        pub const V: Kind = Kind::In(TypeSet::of(&[Type::V128]));
        pub const F: Kind = Kind::In(TypeSet::of(&[Type::Flags]));
        pub const Tup: Kind = Kind::In(TypeSet::of(&[Type::Tuple]));
        pub const Int: Kind = Kind::In(TypeSet::of(&[Type::I32, Type::I64]));
        pub const Fp: Kind = Kind::In(types::FLOATS);
        pub const Narrow: Kind = Kind::Narrower;
        pub const Wide: Kind = Kind::Wider;
        pub const SameSize: Kind = Kind::SameSize;
        pub const OtherFp: Kind = Kind::OtherFloat;
        pub const Base: Kind = Kind::Base;
        pub const Index: Kind = Kind::Index;
        pub const Seg: Kind = Kind::Segment;
    }
    pub(super) mod immediate {
        pub use super::Immediate::*;
    }
    pub(super) mod result {
        use super::{ResultRule, Type};
        pub const T: ResultRule = ResultRule::T;
        pub const I1: ResultRule = ResultRule::Is(Type::I1);
        pub const I8: ResultRule = ResultRule::Is(Type::I8);
        pub const I32: ResultRule = ResultRule::Is(Type::I32);
        pub const I64: ResultRule = ResultRule::Is(Type::I64);
        pub const V: ResultRule = ResultRule::Is(Type::V128);
        pub const F: ResultRule = ResultRule::Is(Type::Flags);
        pub const Tup: ResultRule = ResultRule::Is(Type::Tuple);
        pub const Void: ResultRule = ResultRule::Is(Type::Void);
    }
    pub(super) mod effects {
        use super::Effects;
        pub const Pure: Effects = Effects::PURE;
        pub const PureHost: Effects = Effects::PURE;
        pub const Fp: Effects = Effects::FP;
        pub const FpHost: Effects = Effects::FP;
        pub const Trap: Effects = Effects::TRAP;
        pub const Read: Effects = Effects::READ;
        pub const Write: Effects = Effects::WRITE;
        pub const Guard: Effects = Effects::GUARD;
        pub const Pinned: Effects = Effects::BARRIER;
        pub const FpState: Effects = Effects::FP.and(Effects::BARRIER);
        pub const Memory: Effects = Effects::READ.and(Effects::WRITE);
        pub const Barrier: Effects = Effects::READ.and(Effects::WRITE).and(Effects::BARRIER);
        pub const Everything: Effects = Effects::READ.and(Effects::WRITE).and(Effects::BARRIER).and(Effects::FP);
    }
}

/// Calls `$callback!` with the table.
macro_rules! for_each_op {
    ($callback:ident) => {
        $callback! {
        group "Trace structure" {
            /// The value that an architectural register has at the entry of the trace. At most once for each register.
            Reg reg "reg" Register () InReg -> T, Pure;
            /// Marks the head of the loop that a `loop` end jumps back to. At most one.
            LoopHead loop_head "loophead" Fixed () No -> Void, Pinned;
            /// A value carried by the loop: `init` when the loop head is reached from above, then what the `loop` end says.
            /// Directly after the loop head.
            Phi phi "phi" Any (init: T) No -> T, Pure;
        }
        group "Integer arithmetic" {
            /// Sum, wrapping.
            Add add "add" Int (a: T, b: T) No -> T, Pure;
            /// Difference, wrapping.
            Sub sub "sub" Int (a: T, b: T) No -> T, Pure;
            /// Sum and carry, wrapping.
            Adc adc "adc" Int (a: T, b: T, carry: I1) No -> T, Pure;
            /// `a - b - borrow`, wrapping.
            Sbb sbb "sbb" Int (a: T, b: T, borrow: I1) No -> T, Pure;
            /// Low half of the product.
            Mul mul "mul" Int (a: T, b: T) No -> T, Pure;
            /// High half of the unsigned product.
            MulHiU mulhi_u "mulhi_u" Int (a: T, b: T) No -> T, Pure;
            /// High half of the signed product.
            MulHiS mulhi_s "mulhi_s" Int (a: T, b: T) No -> T, Pure;
            /// Quotient of the unsigned division of `hi:lo`, twice as wide, by `d`. Divide error when `d` is 0 or the quotient too wide.
            DivU div_u "div_u" Int (hi: T, lo: T, d: T) No -> T, Trap;
            /// Remainder of the same division; the same errors.
            RemU rem_u "rem_u" Int (hi: T, lo: T, d: T) No -> T, Trap;
            /// Quotient of the signed division of `hi:lo` by `d`, towards zero. Divide error as for `div_u`.
            DivS div_s "div_s" Int (hi: T, lo: T, d: T) No -> T, Trap;
            /// Remainder of the same division, with the sign of the dividend; the same errors.
            RemS rem_s "rem_s" Int (hi: T, lo: T, d: T) No -> T, Trap;
            /// Two's complement.
            Neg neg "neg" Int (a: T) No -> T, Pure;
            /// Bitwise and.
            And and "and" Bits (a: T, b: T) No -> T, Pure;
            /// Bitwise or.
            Or or "or" Bits (a: T, b: T) No -> T, Pure;
            /// Bitwise exclusive or.
            Xor xor "xor" Bits (a: T, b: T) No -> T, Pure;
            /// Bitwise complement.
            Not not "not" Bits (a: T) No -> T, Pure;
            /// Shift left; a masked count of the width or more gives 0.
            Shl shl "shl" Int (a: T, n: I8) No -> T, Pure;
            /// Logical shift right; a masked count of the width or more gives 0.
            Shr shr "shr" Int (a: T, n: I8) No -> T, Pure;
            /// Arithmetic shift right.
            Sar sar "sar" Int (a: T, n: I8) No -> T, Pure;
            /// Rotate left.
            Rol rol "rol" Int (a: T, n: I8) No -> T, Pure;
            /// Rotate right.
            Ror ror "ror" Int (a: T, n: I8) No -> T, Pure;
            /// Rotate left through the carry.
            Rcl rcl "rcl" Int (a: T, n: I8, carry: I1) No -> T, Pure;
            /// Rotate right through the carry.
            Rcr rcr "rcr" Int (a: T, n: I8, carry: I1) No -> T, Pure;
            /// `a` shifted left, filled from the top of `b`.
            Shld shld "shld" Big (a: T, b: T, n: I8) No -> T, Pure;
            /// `a` shifted right, filled from the bottom of `b`.
            Shrd shrd "shrd" Big (a: T, b: T, n: I8) No -> T, Pure;
            /// Bytes in reverse order.
            Bswap bswap "bswap" Wide (a: T) No -> T, Pure;
            /// Number of one bits.
            Popcnt popcnt "popcnt" Wide (a: T) No -> T, Pure;
            /// Number of zero bits below the lowest one; the width when there is none.
            Tzcnt tzcnt "tzcnt" Wide (a: T) No -> T, Pure;
            /// Number of zero bits above the highest one; the width when there is none.
            Lzcnt lzcnt "lzcnt" Wide (a: T) No -> T, Pure;
            /// The bits of `a`, lowest first, to the places of the ones of `mask` (BMI2).
            Pdep pdep "pdep" Big (a: T, mask: T) No -> T, Pure;
            /// The bits of `a` at the ones of `mask`, gathered at the bottom (BMI2).
            Pext pext "pext" Big (a: T, mask: T) No -> T, Pure;
            /// `(control >> 8) & 255` bits of `a` from bit `control & 255` (BMI1).
            Bextr bextr "bextr" Big (a: T, control: T) No -> T, Pure;
            /// `a` with the bits from `n & 255` upwards cleared (BMI2).
            Bzhi bzhi "bzhi" Big (a: T, n: T) No -> T, Pure;
            /// CRC-32C step (SSE4.2): `acc` and the data.
            Crc32 crc32 "crc32" Int (acc: I32, data: T) No -> I32, Pure;
        }
        group "Widths, parts and choice" {
            /// Zero extension.
            Zext zext "zext" Int (a: Narrow) No -> T, Pure;
            /// Sign extension (of an i1: 0 or all ones).
            Sext sext "sext" Int (a: Narrow) No -> T, Pure;
            /// The low bits.
            Trunc trunc "trunc" Small (a: Wide) No -> T, Pure;
            /// Bits 8 to 15: ah, bh, ch, dh.
            Hi8 hi8 "hi8" Fixed (a: I64) No -> I8, Pure;
            /// `old` with the low bits replaced by `x`: a write of al or ax.
            Put put "put" Small (old: I64, x: T) No -> I64, Pure;
            /// `old` with bits 8 to 15 replaced: a write of ah.
            PutHi8 put_hi8 "puthi8" Fixed (old: I64, x: I8) No -> I64, Pure;
            /// The same bits as another type.
            Bitcast bitcast "bitcast" Cast (a: SameSize) No -> T, Pure;
            /// `c ? a : b`.
            Select select "select" Any (c: I1, a: T, b: T) No -> T, Pure;
            /// `base + index * scale + displacement`, without a segment, wrapping.
            Lea lea "lea" Fixed (base: Base, index: Index) Mem -> I64, Pure;
        }
        group "Flags" {
            /// Whether the condition holds.
            Cond cond "cond" Fixed (f: F) Cc -> I1, Pure;
            /// The flags of `add a, b`.
            FlagsAdd flags_add "flags.add" Int (a: T, b: T) No -> F, Pure;
            /// The flags of `sub a, b` and `cmp a, b`.
            FlagsSub flags_sub "flags.sub" Int (a: T, b: T) No -> F, Pure;
            /// The flags of `adc a, b`.
            FlagsAdc flags_adc "flags.adc" Int (a: T, b: T, carry: I1) No -> F, Pure;
            /// The flags of `sbb a, b`.
            FlagsSbb flags_sbb "flags.sbb" Int (a: T, b: T, borrow: I1) No -> F, Pure;
            /// The flags of and, or, xor, test with this result. AF is undefined.
            FlagsLogic flags_logic "flags.logic" Int (r: T) No -> F, Pure;
            /// The flags of `inc a`: CF is that of `p`.
            FlagsInc flags_inc "flags.inc" Int (a: T, p: F) No -> F, Pure;
            /// The flags of `dec a`: CF is that of `p`.
            FlagsDec flags_dec "flags.dec" Int (a: T, p: F) No -> F, Pure;
            /// The flags of `mul`: CF and OF say whether the high half is not 0; the others are undefined.
            FlagsMulU flags_mul_u "flags.mul_u" Int (a: T, b: T) No -> F, Pure;
            /// The flags of `imul`: CF and OF say whether the signed product does not fit; the others are undefined.
            FlagsMulS flags_mul_s "flags.mul_s" Int (a: T, b: T) No -> F, Pure;
            /// The flags of `shl a, n`; those of `p` when the masked count is 0, and so for all shifts and rotates.
            FlagsShl flags_shl "flags.shl" Int (a: T, n: I8, p: F) No -> F, Pure;
            /// The flags of `shr a, n`.
            FlagsShr flags_shr "flags.shr" Int (a: T, n: I8, p: F) No -> F, Pure;
            /// The flags of `sar a, n`.
            FlagsSar flags_sar "flags.sar" Int (a: T, n: I8, p: F) No -> F, Pure;
            /// The flags of `rol a, n`.
            FlagsRol flags_rol "flags.rol" Int (a: T, n: I8, p: F) No -> F, Pure;
            /// The flags of `ror a, n`.
            FlagsRor flags_ror "flags.ror" Int (a: T, n: I8, p: F) No -> F, Pure;
            /// The flags of `rcl a, n`, the carry being in `p`.
            FlagsRcl flags_rcl "flags.rcl" Int (a: T, n: I8, p: F) No -> F, Pure;
            /// The flags of `rcr a, n`, the carry being in `p`.
            FlagsRcr flags_rcr "flags.rcr" Int (a: T, n: I8, p: F) No -> F, Pure;
            /// The flags of `shld a, b, n`.
            FlagsShld flags_shld "flags.shld" Big (a: T, b: T, n: I8, p: F) No -> F, Pure;
            /// The flags of `shrd a, b, n`.
            FlagsShrd flags_shrd "flags.shrd" Big (a: T, b: T, n: I8, p: F) No -> F, Pure;
            /// The flags of `bt`: CF is bit `n` (modulo the width) of `a`, ZF that of `p`, the others are undefined.
            FlagsBt flags_bt "flags.bt" Int (a: T, n: I8, p: F) No -> F, Pure;
            /// The flags of `bsf` and `bsr`: ZF says whether `a` is 0, the others are undefined.
            FlagsBsf flags_bsf "flags.bsf" Wide (a: T) No -> F, Pure;
            /// The flags of `popcnt`: ZF says whether `a` is 0, the others are 0.
            FlagsPopcnt flags_popcnt "flags.popcnt" Wide (a: T) No -> F, Pure;
            /// The flags of `lzcnt` and `tzcnt` of `a` with result `r`: CF says whether `a` is 0, ZF whether `r` is; the others are undefined.
            FlagsCount flags_count "flags.count" Wide (a: T, r: T) No -> F, Pure;
            /// The flags of `andn`, `bzhi` and the `bls` group: SF and ZF of `r`, CF is `c`, OF is 0, AF and PF are undefined.
            FlagsBmi flags_bmi "flags.bmi" Big (r: T, c: I1) No -> F, Pure;
            /// The flags of `bextr`: ZF of `r`, CF and OF are 0, the others are undefined.
            FlagsBextr flags_bextr "flags.bextr" Big (r: T) No -> F, Pure;
            /// All undefined, as after a division; in fact those of `p`.
            FlagsUndef flags_undef "flags.undef" Fixed (p: F) No -> F, Pure;
            /// `p` with CF replaced.
            FlagsSetC flags_set_c "flags.set_c" Fixed (c: I1, p: F) No -> F, Pure;
            /// `p` with OF replaced.
            FlagsSetO flags_set_o "flags.set_o" Fixed (o: I1, p: F) No -> F, Pure;
            /// `p` with ZF replaced (`cmpxchg16b`).
            FlagsSetZ flags_set_z "flags.set_z" Fixed (z: I1, p: F) No -> F, Pure;
            /// The flags of `sahf`: all but OF, which is that of `p`, from the byte.
            FlagsSahf flags_sahf "flags.sahf" Fixed (ah: I8, p: F) No -> F, Pure;
            /// The six flags out of an image of `rflags`.
            FlagsOf flags_of "flags.of" Fixed (image: I64) No -> F, Pure;
            /// The six flags in their places, bit 1 set, all else 0.
            FlagsBits flags_bits "flags.bits" Fixed (f: F) No -> I64, Pure;
            /// The flags of `ucomiss`/`ucomisd`: invalid only for signalling NaNs.
            FlagsUcomi flags_ucomi "flags.ucomi" Float (a: T, b: T) No -> F, Fp;
            /// The flags of `comiss`/`comisd`: invalid for all NaNs.
            FlagsComi flags_comi "flags.comi" Float (a: T, b: T) No -> F, Fp;
            /// The flags of `ptest a, b`.
            FlagsPtest flags_ptest "flags.ptest" Fixed (a: V, b: V) No -> F, Pure;
        }
        group "Memory" {
            /// Little-endian load.
            Load load "load" Storable (base: Base, index: Index, seg: Seg) Mem -> T, Read;
            /// Little-endian store.
            Store store "store" Storable (v: T, base: Base, index: Index, seg: Seg) Mem -> Void, Write;
            /// Atomic exchange; gives the old value.
            AtomicXchg atomic_xchg "atomic.xchg" Int (addr: I64, v: T) No -> T, Barrier;
            /// Atomic sum; gives the old value.
            AtomicAdd atomic_add "atomic.add" Int (addr: I64, v: T) No -> T, Barrier;
            /// Atomic and; gives the old value.
            AtomicAnd atomic_and "atomic.and" Int (addr: I64, v: T) No -> T, Barrier;
            /// Atomic or; gives the old value.
            AtomicOr atomic_or "atomic.or" Int (addr: I64, v: T) No -> T, Barrier;
            /// Atomic exclusive or; gives the old value.
            AtomicXor atomic_xor "atomic.xor" Int (addr: I64, v: T) No -> T, Barrier;
            /// Atomic compare and swap: stores `new` if the old value is `expected`; gives the old value.
            AtomicCas atomic_cas "atomic.cas" Int (addr: I64, expected: T, new: T) No -> T, Barrier;
            /// Orders memory accesses: `lfence`, `sfence`, `mfence` for 5, 7, 6.
            Fence fence "fence" Fixed () Imm -> Void, Barrier;
            /// Stores the low T of `v`, `count` times, at `to` and on in steps of `step` bytes (`rep stos`).
            RepStos rep_stos "rep.stos" Int (to: I64, v: T, count: I64, step: I64) No -> Void, Memory;
            /// Copies `count` elements of type T, one by one, in steps of `step` bytes (`rep movs`).
            RepMovs rep_movs "rep.movs" Int (to: I64, from: I64, count: I64, step: I64) No -> Void, Memory;
            /// Compares elements of T at `a` and `b` while they are equal (immediate 0) or unequal (1), at most `count` of them:
            /// `rep cmps`. Gives what is left of the count in rcx, and the flags of the last comparison (0 if none was made).
            RepCmps rep_cmps "rep.cmps" Int (a: I64, b: I64, count: I64, step: I64) Imm -> Tup, Memory;
            /// Compares `v` with elements at `at`: `rep scas`. Otherwise as `rep.cmps`.
            RepScas rep_scas "rep.scas" Int (v: T, at: I64, count: I64, step: I64) Imm -> Tup, Memory;
        }
        group "Guards, calls, native operations" {
            /// Goes on if `c` is true, else leaves through the snapshot.
            GuardTrue guard_true "guard.true" Fixed (c: I1) Snap -> Void, Guard;
            /// Goes on if `c` is false, else leaves through the snapshot.
            GuardFalse guard_false "guard.false" Fixed (c: I1) Snap -> Void, Guard;
            /// A residual call of the code at `target` with the machine in the state of the snapshot: the first instruction of the
            /// callee is next, the return address is on the stack, the snapshot's pc is that address. Gives all registers.
            Call call "call" Fixed (target: I64) Abi -> Tup, Everything;
            /// An instruction that is not modelled; see [`crate::trace::Native`].
            Native native "native" Fixed () Nat -> Tup, Everything;
            /// A register out of the result of a call, a native operation or `rep.cmps`.
            Get get "get" Register (t: Tup) InReg -> T, Pure;
            /// MXCSR.
            MxcsrGet mxcsr_get "mxcsr.get" Fixed () No -> I32, FpState;
            /// Loads MXCSR. A general protection fault when reserved bits are set.
            MxcsrSet mxcsr_set "mxcsr.set" Fixed (x: I32) No -> Void, FpState;
        }
        group "Scalar floating point" {
            /// Sum.
            FAdd fadd "fadd" Float (a: T, b: T) No -> T, Fp;
            /// Difference.
            FSub fsub "fsub" Float (a: T, b: T) No -> T, Fp;
            /// Product.
            FMul fmul "fmul" Float (a: T, b: T) No -> T, Fp;
            /// Quotient.
            FDiv fdiv "fdiv" Float (a: T, b: T) No -> T, Fp;
            /// `a < b ? a : b`, as `minsd` does it: `b` when either is a NaN or both are zeros.
            FMin fmin "fmin" Float (a: T, b: T) No -> T, Fp;
            /// `a > b ? a : b`, as `maxsd` does it.
            FMax fmax "fmax" Float (a: T, b: T) No -> T, Fp;
            /// Square root.
            FSqrt fsqrt "fsqrt" Float (a: T) No -> T, Fp;
            /// `(a * b) + c` with one rounding; immediate bit 0 negates the product, bit 1 negates `c` (FMA3).
            /// Of several NaNs the first of `a`, `b`, `c` is the result, quiet, whatever the signs.
            Fma fma "fma" Float (a: T, b: T, c: T) Imm -> T, Fp;
            /// All ones if the predicate (0-7: eq lt le unord neq nlt nle ord) holds, else 0, as bits: `cmpsd`.
            FCmp fcmp "fcmp" Float (a: T, b: T) Imm -> T, Fp;
            /// To an integral value; the immediate is that of `roundsd`.
            FRound fround "fround" Float (a: T) Imm -> T, Fp;
            /// Between f32 and f64.
            FCvt fcvt "fcvt" Float (a: OtherFp) No -> T, Fp;
            /// From a signed integer.
            IntToF int_to_f "int_to_f" Float (a: Int) No -> T, Fp;
            /// To a signed integer, rounding as MXCSR says (`cvtsd2si`); out of range gives the smallest integer.
            FToInt f_to_int "f_to_int" Big (a: Fp) No -> T, Fp;
            /// To a signed integer, towards zero (`cvttsd2si`); out of range gives the smallest integer.
            FToIntZ f_to_int_z "f_to_int_z" Big (a: Fp) No -> T, Fp;
        }
        group "Vectors: lanes" {
            /// Lane of a vector, lane 0 being the lowest.
            Extract extract "extract" Lanes (v: V) Lane -> T, Pure;
            /// The vector with one lane replaced.
            Insert insert "insert" Lanes (v: V, x: T) Lane -> V, Pure;
            /// A lane 0 with all else zero.
            VZext vzext "vzext" Lanes (x: T) No -> V, Pure;
            /// The top bit of each byte.
            Pmovmskb pmovmskb "pmovmskb" Fixed (v: V) No -> I32, Pure;
            /// The top bit of each 32-bit lane.
            Movmskps movmskps "movmskps" Fixed (v: V) No -> I32, Pure;
            /// The top bit of each 64-bit lane.
            Movmskpd movmskpd "movmskpd" Fixed (v: V) No -> I32, Pure;
            /// 32-bit lanes picked by the immediate.
            Pshufd pshufd "pshufd" Fixed (v: V) Imm -> V, Pure;
            /// The low four 16-bit lanes picked by the immediate.
            Pshuflw pshuflw "pshuflw" Fixed (v: V) Imm -> V, Pure;
            /// The high four 16-bit lanes picked by the immediate.
            Pshufhw pshufhw "pshufhw" Fixed (v: V) Imm -> V, Pure;
            /// Two 32-bit lanes of `a`, then two of `b`.
            Shufps shufps "shufps" Fixed (a: V, b: V) Imm -> V, Pure;
            /// One 64-bit lane of `a`, then one of `b`.
            Shufpd shufpd "shufpd" Fixed (a: V, b: V) Imm -> V, Pure;
            /// Left by whole bytes.
            Pslldq pslldq "pslldq" Fixed (v: V) Imm -> V, Pure;
            /// Right by whole bytes.
            Psrldq psrldq "psrldq" Fixed (v: V) Imm -> V, Pure;
            /// `a:b` shifted right by whole bytes, the low half.
            Palignr palignr "palignr" Fixed (a: V, b: V) Imm -> V, Pure;
            /// 16-bit lanes of `b` where the immediate has a one, else of `a`.
            Pblendw pblendw "pblendw" Fixed (a: V, b: V) Imm -> V, Pure;
            /// 32-bit lanes of `b` where the immediate has a one, else of `a`.
            Blendps blendps "blendps" Fixed (a: V, b: V) Imm -> V, Pure;
            /// 64-bit lanes of `b` where the immediate has a one, else of `a`.
            Blendpd blendpd "blendpd" Fixed (a: V, b: V) Imm -> V, Pure;
            /// Bytes of `b` where the top bit of the byte of `mask` is set, else of `a`.
            Pblendvb pblendvb "pblendvb" Fixed (a: V, b: V, mask: V) No -> V, Pure;
            /// 32-bit lanes, as `pblendvb`.
            Blendvps blendvps "blendvps" Fixed (a: V, b: V, mask: V) No -> V, Pure;
            /// 64-bit lanes, as `pblendvb`.
            Blendvpd blendvpd "blendvpd" Fixed (a: V, b: V, mask: V) No -> V, Pure;
            /// A 32-bit lane of `b` into `a`, then lanes cleared; the immediate is that of `insertps` with a register.
            Insertps insertps "insertps" Fixed (a: V, b: V) Imm -> V, Pure;
        }
        group "Vectors: floating point" {
            /// Comparison of each lane by the predicate (0-7).
            Cmpps cmpps "cmpps" Fixed (a: V, b: V) Imm -> V, Fp;
            /// Comparison of each lane by the predicate (0-7).
            Cmppd cmppd "cmppd" Fixed (a: V, b: V) Imm -> V, Fp;
            /// To integral values.
            Roundps roundps "roundps" Fixed (a: V) Imm -> V, Fp;
            /// To integral values.
            Roundpd roundpd "roundpd" Fixed (a: V) Imm -> V, Fp;
            Addps addps "addps" Fixed (a: V, b: V) No -> V, FpHost;
            Addpd addpd "addpd" Fixed (a: V, b: V) No -> V, FpHost;
            Subps subps "subps" Fixed (a: V, b: V) No -> V, FpHost;
            Subpd subpd "subpd" Fixed (a: V, b: V) No -> V, FpHost;
            Mulps mulps "mulps" Fixed (a: V, b: V) No -> V, FpHost;
            Mulpd mulpd "mulpd" Fixed (a: V, b: V) No -> V, FpHost;
            Divps divps "divps" Fixed (a: V, b: V) No -> V, FpHost;
            Divpd divpd "divpd" Fixed (a: V, b: V) No -> V, FpHost;
            Minps minps "minps" Fixed (a: V, b: V) No -> V, FpHost;
            Minpd minpd "minpd" Fixed (a: V, b: V) No -> V, FpHost;
            Maxps maxps "maxps" Fixed (a: V, b: V) No -> V, FpHost;
            Maxpd maxpd "maxpd" Fixed (a: V, b: V) No -> V, FpHost;
            Haddps haddps "haddps" Fixed (a: V, b: V) No -> V, FpHost;
            Haddpd haddpd "haddpd" Fixed (a: V, b: V) No -> V, FpHost;
            Hsubps hsubps "hsubps" Fixed (a: V, b: V) No -> V, FpHost;
            Hsubpd hsubpd "hsubpd" Fixed (a: V, b: V) No -> V, FpHost;
            Addsubps addsubps "addsubps" Fixed (a: V, b: V) No -> V, FpHost;
            Addsubpd addsubpd "addsubpd" Fixed (a: V, b: V) No -> V, FpHost;
            Sqrtps sqrtps "sqrtps" Fixed (a: V) No -> V, FpHost;
            Sqrtpd sqrtpd "sqrtpd" Fixed (a: V) No -> V, FpHost;
            Cvtdq2ps cvtdq2ps "cvtdq2ps" Fixed (a: V) No -> V, FpHost;
            Cvtdq2pd cvtdq2pd "cvtdq2pd" Fixed (a: V) No -> V, PureHost;
            Cvtps2pd cvtps2pd "cvtps2pd" Fixed (a: V) No -> V, FpHost;
            Cvtpd2ps cvtpd2ps "cvtpd2ps" Fixed (a: V) No -> V, FpHost;
            Cvtps2dq cvtps2dq "cvtps2dq" Fixed (a: V) No -> V, FpHost;
            Cvttps2dq cvttps2dq "cvttps2dq" Fixed (a: V) No -> V, FpHost;
            Cvtpd2dq cvtpd2dq "cvtpd2dq" Fixed (a: V) No -> V, FpHost;
            Cvttpd2dq cvttpd2dq "cvttpd2dq" Fixed (a: V) No -> V, FpHost;
            Movddup movddup "movddup" Fixed (a: V) No -> V, PureHost;
            Movshdup movshdup "movshdup" Fixed (a: V) No -> V, PureHost;
            Movsldup movsldup "movsldup" Fixed (a: V) No -> V, PureHost;
            Unpcklps unpcklps "unpcklps" Fixed (a: V, b: V) No -> V, PureHost;
            Unpckhps unpckhps "unpckhps" Fixed (a: V, b: V) No -> V, PureHost;
        }
        group "Vectors: integer lanes" {
            Pand pand "pand" Fixed (a: V, b: V) No -> V, PureHost;
            /// `!a & b`.
            Pandn pandn "pandn" Fixed (a: V, b: V) No -> V, PureHost;
            Por por "por" Fixed (a: V, b: V) No -> V, PureHost;
            Pxor pxor "pxor" Fixed (a: V, b: V) No -> V, PureHost;
            Paddb paddb "paddb" Fixed (a: V, b: V) No -> V, PureHost;
            Paddw paddw "paddw" Fixed (a: V, b: V) No -> V, PureHost;
            Paddd paddd "paddd" Fixed (a: V, b: V) No -> V, PureHost;
            Paddq paddq "paddq" Fixed (a: V, b: V) No -> V, PureHost;
            Paddsb paddsb "paddsb" Fixed (a: V, b: V) No -> V, PureHost;
            Paddsw paddsw "paddsw" Fixed (a: V, b: V) No -> V, PureHost;
            Paddusb paddusb "paddusb" Fixed (a: V, b: V) No -> V, PureHost;
            Paddusw paddusw "paddusw" Fixed (a: V, b: V) No -> V, PureHost;
            Psubb psubb "psubb" Fixed (a: V, b: V) No -> V, PureHost;
            Psubw psubw "psubw" Fixed (a: V, b: V) No -> V, PureHost;
            Psubd psubd "psubd" Fixed (a: V, b: V) No -> V, PureHost;
            Psubq psubq "psubq" Fixed (a: V, b: V) No -> V, PureHost;
            Psubsb psubsb "psubsb" Fixed (a: V, b: V) No -> V, PureHost;
            Psubsw psubsw "psubsw" Fixed (a: V, b: V) No -> V, PureHost;
            Psubusb psubusb "psubusb" Fixed (a: V, b: V) No -> V, PureHost;
            Psubusw psubusw "psubusw" Fixed (a: V, b: V) No -> V, PureHost;
            Pmullw pmullw "pmullw" Fixed (a: V, b: V) No -> V, PureHost;
            Pmulhw pmulhw "pmulhw" Fixed (a: V, b: V) No -> V, PureHost;
            Pmulhuw pmulhuw "pmulhuw" Fixed (a: V, b: V) No -> V, PureHost;
            Pmuludq pmuludq "pmuludq" Fixed (a: V, b: V) No -> V, PureHost;
            Pmuldq pmuldq "pmuldq" Fixed (a: V, b: V) No -> V, PureHost;
            Pmulld pmulld "pmulld" Fixed (a: V, b: V) No -> V, PureHost;
            Pmaddwd pmaddwd "pmaddwd" Fixed (a: V, b: V) No -> V, PureHost;
            Pmaddubsw pmaddubsw "pmaddubsw" Fixed (a: V, b: V) No -> V, PureHost;
            Pmulhrsw pmulhrsw "pmulhrsw" Fixed (a: V, b: V) No -> V, PureHost;
            Pavgb pavgb "pavgb" Fixed (a: V, b: V) No -> V, PureHost;
            Pavgw pavgw "pavgw" Fixed (a: V, b: V) No -> V, PureHost;
            Psadbw psadbw "psadbw" Fixed (a: V, b: V) No -> V, PureHost;
            Pminub pminub "pminub" Fixed (a: V, b: V) No -> V, PureHost;
            Pminsb pminsb "pminsb" Fixed (a: V, b: V) No -> V, PureHost;
            Pminuw pminuw "pminuw" Fixed (a: V, b: V) No -> V, PureHost;
            Pminsw pminsw "pminsw" Fixed (a: V, b: V) No -> V, PureHost;
            Pminud pminud "pminud" Fixed (a: V, b: V) No -> V, PureHost;
            Pminsd pminsd "pminsd" Fixed (a: V, b: V) No -> V, PureHost;
            Pmaxub pmaxub "pmaxub" Fixed (a: V, b: V) No -> V, PureHost;
            Pmaxsb pmaxsb "pmaxsb" Fixed (a: V, b: V) No -> V, PureHost;
            Pmaxuw pmaxuw "pmaxuw" Fixed (a: V, b: V) No -> V, PureHost;
            Pmaxsw pmaxsw "pmaxsw" Fixed (a: V, b: V) No -> V, PureHost;
            Pmaxud pmaxud "pmaxud" Fixed (a: V, b: V) No -> V, PureHost;
            Pmaxsd pmaxsd "pmaxsd" Fixed (a: V, b: V) No -> V, PureHost;
            Pcmpeqb pcmpeqb "pcmpeqb" Fixed (a: V, b: V) No -> V, PureHost;
            Pcmpeqw pcmpeqw "pcmpeqw" Fixed (a: V, b: V) No -> V, PureHost;
            Pcmpeqd pcmpeqd "pcmpeqd" Fixed (a: V, b: V) No -> V, PureHost;
            Pcmpeqq pcmpeqq "pcmpeqq" Fixed (a: V, b: V) No -> V, PureHost;
            Pcmpgtb pcmpgtb "pcmpgtb" Fixed (a: V, b: V) No -> V, PureHost;
            Pcmpgtw pcmpgtw "pcmpgtw" Fixed (a: V, b: V) No -> V, PureHost;
            Pcmpgtd pcmpgtd "pcmpgtd" Fixed (a: V, b: V) No -> V, PureHost;
            Pcmpgtq pcmpgtq "pcmpgtq" Fixed (a: V, b: V) No -> V, PureHost;
            Packsswb packsswb "packsswb" Fixed (a: V, b: V) No -> V, PureHost;
            Packssdw packssdw "packssdw" Fixed (a: V, b: V) No -> V, PureHost;
            Packuswb packuswb "packuswb" Fixed (a: V, b: V) No -> V, PureHost;
            Packusdw packusdw "packusdw" Fixed (a: V, b: V) No -> V, PureHost;
            Punpcklbw punpcklbw "punpcklbw" Fixed (a: V, b: V) No -> V, PureHost;
            Punpcklwd punpcklwd "punpcklwd" Fixed (a: V, b: V) No -> V, PureHost;
            Punpckldq punpckldq "punpckldq" Fixed (a: V, b: V) No -> V, PureHost;
            Punpcklqdq punpcklqdq "punpcklqdq" Fixed (a: V, b: V) No -> V, PureHost;
            Punpckhbw punpckhbw "punpckhbw" Fixed (a: V, b: V) No -> V, PureHost;
            Punpckhwd punpckhwd "punpckhwd" Fixed (a: V, b: V) No -> V, PureHost;
            Punpckhdq punpckhdq "punpckhdq" Fixed (a: V, b: V) No -> V, PureHost;
            Punpckhqdq punpckhqdq "punpckhqdq" Fixed (a: V, b: V) No -> V, PureHost;
            Pshufb pshufb "pshufb" Fixed (a: V, b: V) No -> V, PureHost;
            Phaddw phaddw "phaddw" Fixed (a: V, b: V) No -> V, PureHost;
            Phaddd phaddd "phaddd" Fixed (a: V, b: V) No -> V, PureHost;
            Phaddsw phaddsw "phaddsw" Fixed (a: V, b: V) No -> V, PureHost;
            Phsubw phsubw "phsubw" Fixed (a: V, b: V) No -> V, PureHost;
            Phsubd phsubd "phsubd" Fixed (a: V, b: V) No -> V, PureHost;
            Phsubsw phsubsw "phsubsw" Fixed (a: V, b: V) No -> V, PureHost;
            Psignb psignb "psignb" Fixed (a: V, b: V) No -> V, PureHost;
            Psignw psignw "psignw" Fixed (a: V, b: V) No -> V, PureHost;
            Psignd psignd "psignd" Fixed (a: V, b: V) No -> V, PureHost;
            /// The count of all lanes is the low 64 bits of `b`; so for all vector shifts.
            Psllw psllw "psllw" Fixed (a: V, b: V) No -> V, PureHost;
            Pslld pslld "pslld" Fixed (a: V, b: V) No -> V, PureHost;
            Psllq psllq "psllq" Fixed (a: V, b: V) No -> V, PureHost;
            Psrlw psrlw "psrlw" Fixed (a: V, b: V) No -> V, PureHost;
            Psrld psrld "psrld" Fixed (a: V, b: V) No -> V, PureHost;
            Psrlq psrlq "psrlq" Fixed (a: V, b: V) No -> V, PureHost;
            Psraw psraw "psraw" Fixed (a: V, b: V) No -> V, PureHost;
            Psrad psrad "psrad" Fixed (a: V, b: V) No -> V, PureHost;
            Pabsb pabsb "pabsb" Fixed (a: V) No -> V, PureHost;
            Pabsw pabsw "pabsw" Fixed (a: V) No -> V, PureHost;
            Pabsd pabsd "pabsd" Fixed (a: V) No -> V, PureHost;
            Phminposuw phminposuw "phminposuw" Fixed (a: V) No -> V, PureHost;
            Pmovsxbw pmovsxbw "pmovsxbw" Fixed (a: V) No -> V, PureHost;
            Pmovsxbd pmovsxbd "pmovsxbd" Fixed (a: V) No -> V, PureHost;
            Pmovsxbq pmovsxbq "pmovsxbq" Fixed (a: V) No -> V, PureHost;
            Pmovsxwd pmovsxwd "pmovsxwd" Fixed (a: V) No -> V, PureHost;
            Pmovsxwq pmovsxwq "pmovsxwq" Fixed (a: V) No -> V, PureHost;
            Pmovsxdq pmovsxdq "pmovsxdq" Fixed (a: V) No -> V, PureHost;
            Pmovzxbw pmovzxbw "pmovzxbw" Fixed (a: V) No -> V, PureHost;
            Pmovzxbd pmovzxbd "pmovzxbd" Fixed (a: V) No -> V, PureHost;
            Pmovzxbq pmovzxbq "pmovzxbq" Fixed (a: V) No -> V, PureHost;
            Pmovzxwd pmovzxwd "pmovzxwd" Fixed (a: V) No -> V, PureHost;
            Pmovzxwq pmovzxwq "pmovzxwq" Fixed (a: V) No -> V, PureHost;
            Pmovzxdq pmovzxdq "pmovzxdq" Fixed (a: V) No -> V, PureHost;
        }
                }
    };
}
pub(crate) use for_each_op;

macro_rules! define {
    ($(group $title:literal { $(
        $(#[doc = $doc:literal])*
        $variant:ident $method:ident $text:literal $suffix:ident
        ($($operand:ident: $kind:ident),*) $imm:ident -> $result:ident, $effects:ident;
    )* })*) => {
        /// An operation; the table in this module's source is its definition.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Opcode {
            $($(
                #[doc = concat!("`", $text, "`")]
                $(#[doc = $doc])*
                $variant,
            )*)*
        }

        impl Opcode {
            /// Every operation, in table order.
            pub const ALL: &[Opcode] = &[$($(Opcode::$variant),*),*];
            /// The groups of the table: title and operations.
            pub const GROUPS: &[(&str, &[Opcode])] = &[$(($title, &[$(Opcode::$variant),*])),*];
        }

        static TABLE: &[OpInfo] = &[$($(OpInfo {
            name: $text,
            suffix: words::suffix::$suffix,
            operands: &[$((stringify!($operand), words::kind::$kind)),*],
            immediate: words::immediate::$imm,
            result: words::result::$result,
            effects: words::effects::$effects,
            doc: &[$($doc),*],
        }),*),*];
    };
}
for_each_op!(define);

impl Opcode {
    /// The row of the table.
    #[inline]
    pub fn info(self) -> &'static OpInfo {
        &TABLE[self as usize]
    }

    /// The effects; those of a particular `native` may be fewer, see [`crate::trace::Native`].
    #[inline]
    pub fn effects(self) -> Effects {
        self.info().effects
    }

    /// Finds a name as written, suffix included: `add.i64` gives `(Add, I64)`, `pxor` gives `(Pxor, Void)`.
    pub fn parse(text: &str) -> Option<(Opcode, Type)> {
        static NAMES: std::sync::LazyLock<std::collections::HashMap<&'static str, Opcode>> =
            std::sync::LazyLock::new(|| Opcode::ALL.iter().map(|op| (op.info().name, *op)).collect());
        if let Some(&op) = NAMES.get(text)
            && op.info().suffix.is_none()
        {
            return Some((op, Type::Void));
        }
        let (name, suffix) = text.rsplit_once('.')?;
        let (op, ty) = (*NAMES.get(name)?, Type::from_name(suffix)?);
        op.info().suffix?.contains(ty).then_some((op, ty))
    }
}

#[cfg(test)]
mod tests;
