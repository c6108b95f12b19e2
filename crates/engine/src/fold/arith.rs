//! Integer arithmetic of 1, 2, 4 or 8 bytes as the processor does it, with the status flags it leaves.
//!
//! Values are zero-extended. The tests compare each function with the processor.

use iced_x86::Mnemonic;

pub(super) fn cut(value: u64, bytes: usize) -> u64 {
    if bytes >= 8 {
        value
    } else {
        value & ((1 << (bytes * 8)) - 1)
    }
}

pub(super) fn extend(value: u64, bytes: usize) -> u64 {
    let shift = 64 - bytes as u32 * 8;
    (((value << shift) as i64) >> shift) as u64
}

fn sign(value: u64, bytes: usize) -> bool {
    value >> (bytes * 8 - 1) & 1 == 1
}

/// ZF, SF and PF of a result.
fn result_flags(value: u64, bytes: usize) -> u32 {
    let mut flags = 0;
    if cut(value, bytes) == 0 {
        flags |= ZF;
    }
    if sign(value, bytes) {
        flags |= SF;
    }
    if (value as u8).count_ones().is_multiple_of(2) {
        flags |= PF;
    }
    flags
}

/// The bits of RFLAGS (Intel SDM volume 1, 3.4.3.1), unlike iced's own numbering.
const CF: u32 = 1;
const PF: u32 = 1 << 2;
const AF: u32 = 1 << 4;
const ZF: u32 = 1 << 6;
const SF: u32 = 1 << 7;
const OF: u32 = 1 << 11;

/// and, or, xor, test: CF and OF are 0; AF is undefined, and 0 on the processors we know.
pub(super) fn logic_flags(value: u64, bytes: usize) -> u32 {
    result_flags(value, bytes)
}

pub(super) fn add(a: u64, b: u64, bytes: usize) -> (u64, u32) {
    let value = cut(a.wrapping_add(b), bytes);
    let mut flags = result_flags(value, bytes);
    if value < a {
        flags |= CF;
    }
    if (a ^ b ^ value) & 0x10 != 0 {
        flags |= AF;
    }
    if sign((a ^ value) & (b ^ value), bytes) {
        flags |= OF;
    }
    (value, flags)
}

pub(super) fn sub(a: u64, b: u64, bytes: usize) -> (u64, u32) {
    let value = cut(a.wrapping_sub(b), bytes);
    let mut flags = result_flags(value, bytes);
    if a < b {
        flags |= CF;
    }
    if (a ^ b ^ value) & 0x10 != 0 {
        flags |= AF;
    }
    if sign((a ^ b) & (a ^ value), bytes) {
        flags |= OF;
    }
    (value, flags)
}

/// A shift by 1 to the operand's width less 1. OF is defined for a count of 1 only, AF never.
pub(super) fn shift(mnemonic: Mnemonic, a: u64, count: u32, bytes: usize) -> (u64, u32) {
    let bits = bytes as u32 * 8;
    let (value, carry) = match mnemonic {
        Mnemonic::Shl => (a << count, a >> (bits - count) & 1),
        Mnemonic::Shr => (a >> count, a >> (count - 1) & 1),
        _ => (
            (extend(a, bytes) as i64 >> count) as u64,
            (extend(a, bytes) as i64 >> (count - 1)) as u64 & 1,
        ),
    };
    let value = cut(value, bytes);
    let mut flags = result_flags(value, bytes) | if carry == 1 { CF } else { 0 };
    let overflow = match mnemonic {
        Mnemonic::Shl => sign(value, bytes) != (carry == 1),
        Mnemonic::Shr => sign(a, bytes),
        _ => false,
    };
    if count == 1 && overflow {
        flags |= OF;
    }
    (value, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs one instruction on this processor: the result and the status flags.
    macro_rules! host {
        ($instruction:literal, $a:expr, $b:expr) => {{
            let mut a: u64 = $a;
            let flags: u64;
            // SAFETY: changes only the registers that are named, and the flags.
            unsafe {
                std::arch::asm!(
                    $instruction, "pushfq", "pop {flags}",
                    a = inout(reg) a, b = in(reg) $b, flags = out(reg) flags,
                );
            }
            (a, flags as u32)
        }};
    }

    const ALL: u32 = CF | PF | AF | ZF | SF | OF;
    const EDGES: [u64; 12] = [
        0,
        1,
        2,
        0x0f,
        0x10,
        0x7f,
        0x80,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        i64::MAX as u64,
        u64::MAX,
    ];

    fn values() -> Vec<u64> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let random = (0..40).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        });
        EDGES.into_iter().chain(random).collect()
    }

    #[test]
    fn arithmetic_agrees_with_the_processor() {
        for a in values() {
            for b in values() {
                let check = |name, size, mine: (u64, u32), host: (u64, u32), mask| {
                    assert_eq!(cut(mine.0, size), cut(host.0, size), "{name} {a:#x} {b:#x}");
                    assert_eq!(mine.1 & mask, host.1 & mask, "flags of {name} {a:#x} {b:#x}");
                };
                let defined = ALL & !AF;
                check("add64", 8, add(a, b, 8), host!("add {a}, {b}", a, b), ALL);
                check("sub64", 8, sub(a, b, 8), host!("sub {a}, {b}", a, b), ALL);
                check(
                    "and64",
                    8,
                    (a & b, logic_flags(a & b, 8)),
                    host!("and {a}, {b}", a, b),
                    defined,
                );
                check(
                    "or64",
                    8,
                    (a | b, logic_flags(a | b, 8)),
                    host!("or {a}, {b}", a, b),
                    defined,
                );
                check(
                    "xor64",
                    8,
                    (a ^ b, logic_flags(a ^ b, 8)),
                    host!("xor {a}, {b}", a, b),
                    defined,
                );
                let (a, b) = (cut(a, 4), cut(b, 4));
                check("add32", 4, add(a, b, 4), host!("add {a:e}, {b:e}", a, b), ALL);
                check("sub32", 4, sub(a, b, 4), host!("sub {a:e}, {b:e}", a, b), ALL);
                check(
                    "and32",
                    4,
                    (a & b, logic_flags(a & b, 4)),
                    host!("and {a:e}, {b:e}", a, b),
                    defined,
                );
                let (a, b) = (cut(a, 1), cut(b, 1));
                check("cmp8", 1, (a, sub(a, b, 1).1), host!("cmp {a:l}, {b:l}", a, b), ALL);
                check(
                    "test8",
                    1,
                    (a, logic_flags(a & b, 1)),
                    host!("test {a:l}, {b:l}", a, b),
                    defined,
                );
                let (a, b) = (cut(a, 2), cut(b, 2));
                check("cmp16", 2, (a, sub(a, b, 2).1), host!("cmp {a:x}, {b:x}", a, b), ALL);
            }
        }
    }

    #[test]
    fn shifts_agree_with_the_processor() {
        macro_rules! shifts {
            ($mnemonic:expr, $text64:literal, $text32:literal) => {
                for a in values() {
                    for count in 1..64u32 {
                        // OF is defined for a count of 1, AF never.
                        let mask = if count == 1 { ALL & !AF } else { ALL & !(AF | OF) };
                        let run = |value: u64, wide: bool| {
                            let mut value = value;
                            let flags: u64;
                            // SAFETY: as above.
                            unsafe {
                                if wide {
                                    std::arch::asm!($text64, "pushfq", "pop {f}", a = inout(reg) value,
                                        in("rcx") u64::from(count), f = out(reg) flags);
                                } else {
                                    std::arch::asm!($text32, "pushfq", "pop {f}", a = inout(reg) value,
                                        in("rcx") u64::from(count), f = out(reg) flags);
                                }
                            }
                            (value, flags as u32)
                        };
                        let (value, flags) = shift($mnemonic, a, count, 8);
                        let host = run(a, true);
                        assert_eq!((value, flags & mask), (host.0, host.1 & mask), "{a:#x} by {count}");
                        if count < 32 {
                            let a = cut(a, 4);
                            let (value, flags) = shift($mnemonic, a, count, 4);
                            let host = run(a, false);
                            assert_eq!((value, flags & mask), (cut(host.0, 4), host.1 & mask), "{a:#x} by {count}");
                        }
                    }
                }
            };
        }
        shifts!(Mnemonic::Shl, "shl {a}, cl", "shl {a:e}, cl");
        shifts!(Mnemonic::Shr, "shr {a}, cl", "shr {a:e}, cl");
        shifts!(Mnemonic::Sar, "sar {a}, cl", "sar {a:e}, cl");
    }
}
