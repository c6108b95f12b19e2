//! The status flags of x86, exactly.
//!
//! A computed flags value is a [`Flags`]: the bits, in their places in `rflags`, and which of them the architecture leaves
//! undefined. An undefined bit still has a value here, the simplest one (0, or what it was before); a program that
//! depends on it is broken, and a comparison with a processor masks it. Source: AMD64 Architecture Programmer's Manual,
//! volume 3, and Intel SDM volume 2; where they differ, a bit is undefined if either says so.

/// Carry.
pub const CF: u32 = 1;
/// Parity of the low byte.
pub const PF: u32 = 1 << 2;
/// Carry out of bit 3.
pub const AF: u32 = 1 << 4;
/// Zero.
pub const ZF: u32 = 1 << 6;
/// Sign.
pub const SF: u32 = 1 << 7;
/// Signed overflow.
pub const OF: u32 = 1 << 11;
/// All six.
pub const STATUS: u32 = CF | PF | AF | ZF | SF | OF;
/// The direction flag, part of `sysflags`.
pub const DF: u32 = 1 << 10;

/// A value of type `flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// The six bits in their places.
    pub bits: u32,
    /// Which of them are architecturally undefined.
    pub undefined: u32,
}

impl Flags {
    /// All defined.
    #[inline]
    pub const fn defined(bits: u32) -> Flags {
        Flags {
            bits: bits & STATUS,
            undefined: 0,
        }
    }

    #[inline]
    const fn with(bits: u32, undefined: u32) -> Flags {
        Flags {
            bits: bits & STATUS,
            undefined,
        }
    }

    /// `mask` bits replaced by those of `bits`, which are defined.
    #[inline]
    #[must_use]
    pub const fn replace(self, mask: u32, bits: u32) -> Flags {
        Flags {
            bits: (self.bits & !mask) | (bits & mask),
            undefined: self.undefined & !mask,
        }
    }

    /// Whether this condition (x86 code) holds.
    #[inline]
    pub const fn condition(self, code: u8) -> bool {
        let f = self.bits;
        let less = (f & SF != 0) != (f & OF != 0);
        let holds = match code >> 1 {
            0 => f & OF != 0,
            1 => f & CF != 0,
            2 => f & ZF != 0,
            3 => f & (CF | ZF) != 0,
            4 => f & SF != 0,
            5 => f & PF != 0,
            6 => less,
            _ => less || f & ZF != 0,
        };
        holds != (code & 1 != 0)
    }
}

/// The flags that a condition (x86 code) looks at.
#[inline]
pub const fn condition_mask(code: u8) -> u32 {
    match code >> 1 {
        0 => OF,
        1 => CF,
        2 => ZF,
        3 => CF | ZF,
        4 => SF,
        5 => PF,
        6 => SF | OF,
        _ => SF | OF | ZF,
    }
}

#[inline]
const fn mask(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

#[inline]
const fn flag(condition: bool, bit: u32) -> u32 {
    if condition { bit } else { 0 }
}

#[inline]
const fn top(x: u64, bits: u32) -> bool {
    x >> (bits - 1) & 1 != 0
}

/// SF, ZF and PF of a result.
#[inline]
const fn szp(r: u64, bits: u32) -> u32 {
    let r = r & mask(bits);
    flag(r == 0, ZF) | flag(top(r, bits), SF) | flag((r as u8).count_ones() & 1 == 0, PF)
}

/// `a + b + carry`.
#[inline]
pub const fn adc(bits: u32, a: u64, b: u64, carry: bool) -> Flags {
    let r = a.wrapping_add(b).wrapping_add(carry as u64) & mask(bits);
    // The carry out of every bit position: majority of the two operand bits and the carry in.
    let carries = (a & b) | ((a | b) & !r);
    let overflow = top((a ^ r) & (b ^ r), bits);
    Flags::defined(szp(r, bits) | flag(top(carries, bits), CF) | flag(carries & 8 != 0, AF) | flag(overflow, OF))
}

/// `a - b - borrow`.
#[inline]
pub const fn sbb(bits: u32, a: u64, b: u64, borrow: bool) -> Flags {
    let r = a.wrapping_sub(b).wrapping_sub(borrow as u64) & mask(bits);
    let borrows = (!a & b) | ((!a | b) & r);
    let overflow = top((a ^ b) & (a ^ r), bits);
    Flags::defined(szp(r, bits) | flag(top(borrows, bits), CF) | flag(borrows & 8 != 0, AF) | flag(overflow, OF))
}

/// And, or, xor, test with result `r`.
#[inline]
pub const fn logic(bits: u32, r: u64) -> Flags {
    Flags::with(szp(r, bits), AF)
}

/// `inc a` after `previous`.
#[inline]
pub const fn inc(bits: u32, a: u64, previous: Flags) -> Flags {
    keep_carry(adc(bits, a, 1, false), previous)
}

/// `dec a` after `previous`.
#[inline]
pub const fn dec(bits: u32, a: u64, previous: Flags) -> Flags {
    keep_carry(sbb(bits, a, 1, false), previous)
}

#[inline]
const fn keep_carry(new: Flags, previous: Flags) -> Flags {
    Flags {
        bits: (new.bits & !CF) | (previous.bits & CF),
        undefined: (new.undefined & !CF) | (previous.undefined & CF),
    }
}

/// `mul`: whether the high half is not 0.
#[inline]
pub const fn mul_u(bits: u32, a: u64, b: u64) -> Flags {
    let high = (a as u128 * b as u128) >> bits;
    Flags::with(flag(high != 0, CF | OF), SF | ZF | AF | PF)
}

/// `imul`: whether the product does not fit.
#[inline]
pub const fn mul_s(bits: u32, a: u64, b: u64) -> Flags {
    let product = sign_extend(bits, a) as i128 * sign_extend(bits, b) as i128;
    let fits = product == sign_extend(bits, product as u64 & mask(bits)) as i128;
    Flags::with(flag(!fits, CF | OF), SF | ZF | AF | PF)
}

/// The value as a signed number.
#[inline]
pub const fn sign_extend(bits: u32, x: u64) -> i64 {
    ((x << (64 - bits)) as i64) >> (64 - bits)
}

/// The count after masking: 6 bits for 64-bit operands, else 5.
#[inline]
pub const fn masked_count(bits: u32, n: u64) -> u32 {
    (n & if bits == 64 { 63 } else { 31 }) as u32
}

/// `shl a, n`.
#[inline]
pub const fn shl(bits: u32, a: u64, n: u64, previous: Flags) -> Flags {
    let n = masked_count(bits, n);
    if n == 0 {
        return previous;
    }
    let r = if n >= bits { 0 } else { (a << n) & mask(bits) };
    let carry = n <= bits && a >> (bits - n) & 1 != 0;
    let overflow = top(r, bits) != carry;
    let undefined = AF | flag(n >= bits, CF) | flag(n != 1, OF);
    Flags::with(szp(r, bits) | flag(carry, CF) | flag(overflow, OF), undefined)
}

/// `shr a, n`.
#[inline]
pub const fn shr(bits: u32, a: u64, n: u64, previous: Flags) -> Flags {
    let n = masked_count(bits, n);
    if n == 0 {
        return previous;
    }
    let r = if n >= bits { 0 } else { a >> n };
    let carry = n <= bits && a >> (n - 1) & 1 != 0;
    let undefined = AF | flag(n >= bits, CF) | flag(n != 1, OF);
    Flags::with(szp(r, bits) | flag(carry, CF) | flag(top(a, bits), OF), undefined)
}

/// `sar a, n`.
#[inline]
pub const fn sar(bits: u32, a: u64, n: u64, previous: Flags) -> Flags {
    let n = masked_count(bits, n);
    if n == 0 {
        return previous;
    }
    let wide = sign_extend(bits, a);
    let r = (wide >> n) as u64;
    let carry = wide >> (n - 1) & 1 != 0;
    Flags::with(szp(r, bits) | flag(carry, CF), AF | flag(n != 1, OF))
}

/// `rol a, n`: only CF and OF change.
#[inline]
pub const fn rol(bits: u32, a: u64, n: u64, previous: Flags) -> Flags {
    let n = masked_count(bits, n);
    if n == 0 {
        return previous;
    }
    let r = rotate_left(bits, a, n);
    let carry = r & 1 != 0;
    rotated(previous, carry, top(r, bits) != carry, n)
}

/// `ror a, n`: only CF and OF change.
#[inline]
pub const fn ror(bits: u32, a: u64, n: u64, previous: Flags) -> Flags {
    let n = masked_count(bits, n);
    if n == 0 {
        return previous;
    }
    let r = rotate_left(bits, a, bits - n % bits);
    let carry = top(r, bits);
    rotated(previous, carry, carry != top(r << 1, bits), n)
}

/// `rcl a, n`: only CF and OF change.
#[inline]
pub const fn rcl(bits: u32, a: u64, n: u64, previous: Flags) -> Flags {
    let masked = masked_count(bits, n);
    if masked == 0 {
        return previous;
    }
    let (r, carry) = rotate_carry_left(bits, a, masked, previous.bits & CF != 0);
    rotated(previous, carry, top(r, bits) != carry, masked)
}

/// `rcr a, n`: only CF and OF change.
#[inline]
pub const fn rcr(bits: u32, a: u64, n: u64, previous: Flags) -> Flags {
    let masked = masked_count(bits, n);
    if masked == 0 {
        return previous;
    }
    let (r, carry) = rotate_carry_left(bits, a, bits + 1 - masked % (bits + 1), previous.bits & CF != 0);
    rotated(previous, carry, top(r, bits) != top(r << 1, bits), masked)
}

#[inline]
const fn rotated(previous: Flags, carry: bool, overflow: bool, n: u32) -> Flags {
    Flags {
        bits: (previous.bits & !(CF | OF)) | flag(carry, CF) | flag(overflow, OF),
        undefined: (previous.undefined & !(CF | OF)) | flag(n != 1, OF),
    }
}

/// Rotation within `bits`; any count.
#[inline]
pub const fn rotate_left(bits: u32, a: u64, n: u32) -> u64 {
    let n = n % bits;
    if n == 0 {
        a
    } else {
        ((a << n) | (a >> (bits - n))) & mask(bits)
    }
}

/// Rotation of the carry and the operand together; any count. Gives the operand and the carry.
#[inline]
pub const fn rotate_carry_left(bits: u32, a: u64, n: u32, carry: bool) -> (u64, bool) {
    let width = bits + 1;
    let n = n % width;
    let wide = (carry as u128) << bits | a as u128;
    let r = (wide << n) | (wide >> (width - n));
    (r as u64 & mask(bits), r >> bits & 1 != 0)
}

/// `shld a, b, n` for 32 and 64 bits.
#[inline]
pub const fn shld(bits: u32, a: u64, b: u64, n: u64, previous: Flags) -> Flags {
    let n = masked_count(bits, n);
    if n == 0 {
        return previous;
    }
    let r = ((a << n) | (b >> (bits - n))) & mask(bits);
    let carry = a >> (bits - n) & 1 != 0;
    double_shifted(bits, a, r, carry, n)
}

/// `shrd a, b, n` for 32 and 64 bits.
#[inline]
pub const fn shrd(bits: u32, a: u64, b: u64, n: u64, previous: Flags) -> Flags {
    let n = masked_count(bits, n);
    if n == 0 {
        return previous;
    }
    let r = ((a >> n) | (b << (bits - n))) & mask(bits);
    let carry = a >> (n - 1) & 1 != 0;
    double_shifted(bits, a, r, carry, n)
}

#[inline]
const fn double_shifted(bits: u32, a: u64, r: u64, carry: bool, n: u32) -> Flags {
    let overflow = top(a ^ r, bits);
    Flags::with(
        szp(r, bits) | flag(carry, CF) | flag(overflow, OF),
        AF | flag(n != 1, OF),
    )
}

/// `bt a, n`.
#[inline]
pub const fn bt(bits: u32, a: u64, n: u64, previous: Flags) -> Flags {
    let carry = a >> (n % bits as u64) & 1 != 0;
    Flags {
        bits: (previous.bits & !CF) | flag(carry, CF),
        undefined: (previous.undefined & ZF) | OF | SF | AF | PF,
    }
}

/// `bsf a`, `bsr a`.
#[inline]
pub const fn bsf(a: u64) -> Flags {
    Flags::with(flag(a == 0, ZF), CF | OF | SF | AF | PF)
}

/// `popcnt a`.
#[inline]
pub const fn popcnt(a: u64) -> Flags {
    Flags::defined(flag(a == 0, ZF))
}

/// `lzcnt`, `tzcnt` of `a` giving `r`.
#[inline]
pub const fn count(a: u64, r: u64) -> Flags {
    Flags::with(flag(a == 0, CF) | flag(r == 0, ZF), OF | SF | AF | PF)
}

/// The BMI group with result `r` and carry `c`.
#[inline]
pub const fn bmi(bits: u32, r: u64, c: bool) -> Flags {
    Flags::with((szp(r, bits) & !PF) | flag(c, CF), AF | PF)
}

/// `bextr` with result `r`.
#[inline]
pub const fn bextr(r: u64) -> Flags {
    Flags::with(flag(r == 0, ZF), AF | SF | PF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_of_bytes_agree_with_wider_arithmetic() {
        for a in 0..256u64 {
            for b in 0..256u64 {
                for c in [false, true] {
                    let sum = a + b + u64::from(c);
                    let f = adc(8, a, b, c).bits;
                    assert_eq!(f & CF != 0, sum > 255);
                    assert_eq!(f & AF != 0, (a & 15) + (b & 15) + u64::from(c) > 15);
                    let signed = i64::from(a as i8) + i64::from(b as i8) + i64::from(c);
                    assert_eq!(f & OF != 0, i8::try_from(signed).is_err());
                    let f = sbb(8, a, b, c).bits;
                    assert_eq!(f & CF != 0, a < b + u64::from(c));
                    assert_eq!(f & AF != 0, (a & 15) < (b & 15) + u64::from(c));
                    let signed = i64::from(a as i8) - i64::from(b as i8) - i64::from(c);
                    assert_eq!(f & OF != 0, i8::try_from(signed).is_err());
                }
            }
        }
    }

    #[test]
    fn a_rotation_through_carry_by_the_width_and_one_is_none() {
        for n in [0, 9, 18] {
            assert_eq!(rotate_carry_left(8, 0xa5, n, true), (0xa5, true));
        }
        assert_eq!(rotate_carry_left(8, 0x80, 1, false), (0, true));
    }
}
