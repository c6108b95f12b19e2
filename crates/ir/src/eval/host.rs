//! Floating point and vector operations, executed by the processor this runs on.
//!
//! Rounding modes, denormals, NaN payloads and sticky exceptions come out exact when the instruction itself computes
//! them, under the guest's MXCSR. So each operation here is one SSE instruction between two loads of MXCSR. Exceptions
//! are masked meanwhile; a guest that unmasks one is refused before (see [`super::Fault::Unmasked`]).

use std::arch::asm;
use std::arch::x86_64::__m128i;

use crate::opcode::{Opcode, for_each_op};
use crate::types::Type;

/// What Rust code may assume MXCSR to be.
static HOST_MXCSR: u32 = 0x1f80;

/// Sticky exception bits of MXCSR.
const STICKY: u32 = 0x3f;
/// Exception masks of MXCSR.
pub(super) const MASKS: u32 = 0x1f80;

#[inline]
fn reg(x: u128) -> __m128i {
    // SAFETY: both are 16 bytes and every bit pattern is a value of both.
    unsafe { std::mem::transmute::<u128, __m128i>(x) }
}

#[inline]
fn bits(x: __m128i) -> u128 {
    // SAFETY: as in `reg`.
    unsafe { std::mem::transmute::<__m128i, u128>(x) }
}

/// Wraps one instruction in the guest's MXCSR, and ORs the sticky bits it raises into it.
macro_rules! fp {
    ($mxcsr:expr, $template:expr, $($operands:tt)*) => {{
        let mut guest: u32 = (*$mxcsr & !STICKY) | MASKS;
        // SAFETY: the instruction has register operands only; MXCSR is the host's again at the end, and `guest` is a
        // valid image with all exceptions masked: its reserved bits were refused when it was loaded.
        unsafe {
            asm!(
                "ldmxcsr [{guest}]", $template, "stmxcsr [{guest}]", "ldmxcsr [{host}]",
                guest = in(reg) &mut guest, host = in(reg) &HOST_MXCSR,
                $($operands)* options(nostack, preserves_flags),
            );
        }
        *$mxcsr |= guest & STICKY;
    }};
}

/// As `fp`, for instructions that write the status flags.
macro_rules! fp_flags {
    ($mxcsr:expr, $template:expr, $($operands:tt)*) => {{
        let mut guest: u32 = (*$mxcsr & !STICKY) | MASKS;
        // SAFETY: as in `fp`; `lahf` copies the flags into ah, which is declared through rax.
        unsafe {
            asm!(
                "ldmxcsr [{guest}]", $template, "lahf", "stmxcsr [{guest}]", "ldmxcsr [{host}]",
                guest = in(reg) &mut guest, host = in(reg) &HOST_MXCSR,
                $($operands)* options(nostack),
            );
        }
        *$mxcsr |= guest & STICKY;
    }};
}

macro_rules! fp2 {
    ($mxcsr:expr, $mnemonic:expr, $a:expr, $b:expr) => {{
        let mut x = reg($a);
        fp!($mxcsr, concat!($mnemonic, " {x}, {y}"), x = inout(xmm_reg) x, y = in(xmm_reg) reg($b),);
        bits(x)
    }};
}

macro_rules! fp1 {
    ($mxcsr:expr, $mnemonic:expr, $a:expr) => {{
        let mut x = reg(0);
        fp!($mxcsr, concat!($mnemonic, " {x}, {y}"), x = inout(xmm_reg) x, y = in(xmm_reg) reg($a),);
        bits(x)
    }};
}

/// One arm for each value of an immediate, which must be part of the encoding.
macro_rules! by_immediate {
    ($imm:expr, $call:ident, $mxcsr:expr, $mnemonic:expr, $args:tt, [$($n:literal)*]) => {
        match $imm {
            $($n => $call!(imm $n, $mxcsr, $mnemonic, $args),)*
            _ => unreachable!("the immediate is masked"),
        }
    };
}

macro_rules! compare {
    (imm $n:literal, $mxcsr:expr, $mnemonic:expr, ($a:expr, $b:expr)) => {{
        let mut x = reg($a);
        fp!($mxcsr, concat!($mnemonic, " {x}, {y}, ", $n), x = inout(xmm_reg) x, y = in(xmm_reg) reg($b),);
        bits(x)
    }};
}

macro_rules! round {
    (imm $n:literal, $mxcsr:expr, $mnemonic:expr, ($a:expr)) => {{
        let mut x = reg(0);
        fp!($mxcsr, concat!($mnemonic, " {x}, {y}, ", $n), x = inout(xmm_reg) x, y = in(xmm_reg) reg($a),);
        bits(x)
    }};
}

macro_rules! vector_function {
    ($(group $title:literal { $(
        $(#[doc = $doc:literal])*
        $variant:ident $method:ident $text:literal $suffix:ident
        ($($operand:ident: $kind:ident),*) $imm:ident -> $result:ident, $effects:ident;
    )* })*) => {
        /// The operations that the table marks `PureHost` and `FpHost`; `None` for all others.
        pub(super) fn vector(op: Opcode, a: u128, b: u128, mxcsr: &mut u32) -> Option<u128> {
            let _ = b;
            match op {
                $($( Opcode::$variant => vector_arm!($effects $text mxcsr a b ($($operand)*)), )*)*
            }
        }
    };
}

macro_rules! vector_arm {
    (PureHost $text:literal $mxcsr:ident $a:ident $b:ident ($x:ident $y:ident)) => {{
        let mut x = reg($a);
        // SAFETY: an instruction with register operands that neither faults nor touches flags or memory.
        unsafe {
            asm!(concat!($text, " {x}, {y}"), x = inout(xmm_reg) x, y = in(xmm_reg) reg($b),
                options(pure, nomem, nostack, preserves_flags));
        }
        Some(bits(x))
    }};
    (PureHost $text:literal $mxcsr:ident $a:ident $b:ident ($x:ident)) => {{
        let x: __m128i;
        // SAFETY: as above.
        unsafe {
            asm!(concat!($text, " {x}, {y}"), x = out(xmm_reg) x, y = in(xmm_reg) reg($a),
                options(pure, nomem, nostack, preserves_flags));
        }
        Some(bits(x))
    }};
    (FpHost $text:literal $mxcsr:ident $a:ident $b:ident ($x:ident $y:ident)) => { Some(fp2!($mxcsr, $text, $a, $b)) };
    (FpHost $text:literal $mxcsr:ident $a:ident $b:ident ($x:ident)) => { Some(fp1!($mxcsr, $text, $a)) };
    ($($other:tt)*) => { None };
}
for_each_op!(vector_function);

/// Scalar operations of two operands.
#[inline]
pub(super) fn scalar2(op: Opcode, ty: Type, a: u128, b: u128, imm: u8, mxcsr: &mut u32) -> u128 {
    let double = ty == Type::F64;
    match (op, double) {
        (Opcode::FAdd, true) => fp2!(mxcsr, "addsd", a, b),
        (Opcode::FAdd, false) => fp2!(mxcsr, "addss", a, b),
        (Opcode::FSub, true) => fp2!(mxcsr, "subsd", a, b),
        (Opcode::FSub, false) => fp2!(mxcsr, "subss", a, b),
        (Opcode::FMul, true) => fp2!(mxcsr, "mulsd", a, b),
        (Opcode::FMul, false) => fp2!(mxcsr, "mulss", a, b),
        (Opcode::FDiv, true) => fp2!(mxcsr, "divsd", a, b),
        (Opcode::FDiv, false) => fp2!(mxcsr, "divss", a, b),
        (Opcode::FMin, true) => fp2!(mxcsr, "minsd", a, b),
        (Opcode::FMin, false) => fp2!(mxcsr, "minss", a, b),
        (Opcode::FMax, true) => fp2!(mxcsr, "maxsd", a, b),
        (Opcode::FMax, false) => fp2!(mxcsr, "maxss", a, b),
        (Opcode::FCmp, true) => by_immediate!(imm & 7, compare, mxcsr, "cmpsd", (a, b), [0 1 2 3 4 5 6 7]),
        (Opcode::FCmp, false) => by_immediate!(imm & 7, compare, mxcsr, "cmpss", (a, b), [0 1 2 3 4 5 6 7]),
        _ => unreachable!("{op:?} is no scalar operation of two operands"),
    }
}

/// Scalar operations of one operand.
#[inline]
pub(super) fn scalar1(op: Opcode, ty: Type, a: u128, imm: u8, mxcsr: &mut u32) -> u128 {
    let double = ty == Type::F64;
    match (op, double) {
        (Opcode::FSqrt, true) => fp1!(mxcsr, "sqrtsd", a),
        (Opcode::FSqrt, false) => fp1!(mxcsr, "sqrtss", a),
        (Opcode::FCvt, true) => fp1!(mxcsr, "cvtss2sd", a),
        (Opcode::FCvt, false) => fp1!(mxcsr, "cvtsd2ss", a),
        (Opcode::FRound, true) => {
            by_immediate!(imm & 15, round, mxcsr, "roundsd", (a), [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15])
        }
        (Opcode::FRound, false) => {
            by_immediate!(imm & 15, round, mxcsr, "roundss", (a), [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15])
        }
        _ => unreachable!("{op:?} is no scalar operation of one operand"),
    }
}

/// `cmpps`, `cmppd`.
pub(super) fn compare_lanes(op: Opcode, a: u128, b: u128, imm: u8, mxcsr: &mut u32) -> u128 {
    match op {
        Opcode::Cmpps => by_immediate!(imm & 7, compare, mxcsr, "cmpps", (a, b), [0 1 2 3 4 5 6 7]),
        _ => by_immediate!(imm & 7, compare, mxcsr, "cmppd", (a, b), [0 1 2 3 4 5 6 7]),
    }
}

/// `roundps`, `roundpd`.
pub(super) fn round_lanes(op: Opcode, a: u128, imm: u8, mxcsr: &mut u32) -> u128 {
    match op {
        Opcode::Roundps => {
            by_immediate!(imm & 15, round, mxcsr, "roundps", (a), [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15])
        }
        _ => by_immediate!(imm & 15, round, mxcsr, "roundpd", (a), [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15]),
    }
}

/// Integer to float. `from` is the integer type, `to` the float type.
pub(super) fn int_to_float(from: Type, to: Type, a: u64, mxcsr: &mut u32) -> u128 {
    let mut x = reg(0);
    match (from == Type::I64, to == Type::F64) {
        (true, true) => fp!(mxcsr, "cvtsi2sd {x}, {r}", x = inout(xmm_reg) x, r = in(reg) a,),
        (true, false) => fp!(mxcsr, "cvtsi2ss {x}, {r}", x = inout(xmm_reg) x, r = in(reg) a,),
        (false, true) => fp!(mxcsr, "cvtsi2sd {x}, {r:e}", x = inout(xmm_reg) x, r = in(reg) a,),
        (false, false) => fp!(mxcsr, "cvtsi2ss {x}, {r:e}", x = inout(xmm_reg) x, r = in(reg) a,),
    }
    bits(x)
}

/// Float to integer, rounding or truncating.
pub(super) fn float_to_int(truncate: bool, from: Type, to: Type, a: u128, mxcsr: &mut u32) -> u64 {
    let r: u64;
    let a = reg(a);
    match (truncate, from == Type::F64, to == Type::I64) {
        (false, true, true) => fp!(mxcsr, "cvtsd2si {r}, {x}", r = out(reg) r, x = in(xmm_reg) a,),
        (false, true, false) => fp!(mxcsr, "cvtsd2si {r:e}, {x}", r = out(reg) r, x = in(xmm_reg) a,),
        (false, false, true) => fp!(mxcsr, "cvtss2si {r}, {x}", r = out(reg) r, x = in(xmm_reg) a,),
        (false, false, false) => fp!(mxcsr, "cvtss2si {r:e}, {x}", r = out(reg) r, x = in(xmm_reg) a,),
        (true, true, true) => fp!(mxcsr, "cvttsd2si {r}, {x}", r = out(reg) r, x = in(xmm_reg) a,),
        (true, true, false) => fp!(mxcsr, "cvttsd2si {r:e}, {x}", r = out(reg) r, x = in(xmm_reg) a,),
        (true, false, true) => fp!(mxcsr, "cvttss2si {r}, {x}", r = out(reg) r, x = in(xmm_reg) a,),
        (true, false, false) => fp!(mxcsr, "cvttss2si {r:e}, {x}", r = out(reg) r, x = in(xmm_reg) a,),
    }
    r
}

/// `ucomis` (quiet) and `comis`: ZF, PF and CF in their places.
pub(super) fn compare_scalars(quiet: bool, ty: Type, a: u128, b: u128, mxcsr: &mut u32) -> u32 {
    let flags: u64;
    let (a, b) = (reg(a), reg(b));
    match (quiet, ty == Type::F64) {
        (true, true) => fp_flags!(mxcsr, "ucomisd {x}, {y}", x = in(xmm_reg) a, y = in(xmm_reg) b, out("rax") flags,),
        (true, false) => fp_flags!(mxcsr, "ucomiss {x}, {y}", x = in(xmm_reg) a, y = in(xmm_reg) b, out("rax") flags,),
        (false, true) => fp_flags!(mxcsr, "comisd {x}, {y}", x = in(xmm_reg) a, y = in(xmm_reg) b, out("rax") flags,),
        (false, false) => fp_flags!(mxcsr, "comiss {x}, {y}", x = in(xmm_reg) a, y = in(xmm_reg) b, out("rax") flags,),
    }
    (flags >> 8) as u32 & (crate::flags::ZF | crate::flags::PF | crate::flags::CF)
}

/// Fused multiply-add; `None` when this processor has none. Bit 0 of `signs` negates the product, bit 1 the addend.
pub(super) fn fma(ty: Type, a: u128, b: u128, c: u128, signs: u8, mxcsr: &mut u32) -> Option<u128> {
    if !std::arch::is_x86_feature_detected!("fma") {
        return None;
    }
    // Of several NaNs the first of a, b, c is the result. The 213 form multiplies its second operand by its first, and
    // prefers the second.
    let mut x = reg(b);
    let (b, c) = (reg(a), reg(c));
    macro_rules! run {
        ($mnemonic:literal) => {
            fp!(mxcsr, concat!($mnemonic, " {x}, {b}, {c}"), x = inout(xmm_reg) x, b = in(xmm_reg) b, c = in(xmm_reg) c,)
        };
    }
    match (signs & 3, ty == Type::F64) {
        (0, true) => run!("vfmadd213sd"),
        (1, true) => run!("vfnmadd213sd"),
        (2, true) => run!("vfmsub213sd"),
        (_, true) => run!("vfnmsub213sd"),
        (0, false) => run!("vfmadd213ss"),
        (1, false) => run!("vfnmadd213ss"),
        (2, false) => run!("vfmsub213ss"),
        (_, false) => run!("vfnmsub213ss"),
    }
    Some(bits(x))
}
