//! Integer and lane operations in plain arithmetic.

use crate::flags::{masked_count, rotate_carry_left, rotate_left, sign_extend};
use crate::opcode::Opcode;

/// Unsigned division of `hi:lo` by `d` at this width: quotient and remainder; `None` is a divide error.
pub(super) fn divide_unsigned(bits: u32, hi: u64, lo: u64, d: u64) -> Option<(u64, u64)> {
    if d == 0 || hi >= d {
        return None;
    }
    let n = u128::from(hi) << bits | u128::from(lo);
    let d = u128::from(d);
    Some(((n / d) as u64, (n % d) as u64))
}

/// Signed division of `hi:lo` by `d` at this width.
pub(super) fn divide_signed(bits: u32, hi: u64, lo: u64, d: u64) -> Option<(u64, u64)> {
    let n = i128::from(sign_extend(bits, hi)) << bits | i128::from(lo);
    let d = i128::from(sign_extend(bits, d));
    let (q, r) = (n.checked_div(d)?, n.checked_rem(d)?);
    if i128::from(sign_extend(bits, q as u64)) != q {
        return None;
    }
    Some((q as u64, r as u64))
}

/// Shifts and rotates by a count that is masked here.
pub(super) fn shift(op: Opcode, bits: u32, a: u64, n: u64) -> u64 {
    let n = masked_count(bits, n);
    match op {
        Opcode::Shl if n >= bits => 0,
        Opcode::Shl => a << n,
        Opcode::Shr if n >= bits => 0,
        Opcode::Shr => a >> n,
        Opcode::Sar => (sign_extend(bits, a) >> n) as u64,
        Opcode::Rol => rotate_left(bits, a, n),
        _ => rotate_left(bits, a, bits - n % bits),
    }
}

/// `rcl` and `rcr`.
pub(super) fn rotate_carry(left: bool, bits: u32, a: u64, n: u64, carry: bool) -> u64 {
    let n = masked_count(bits, n);
    let n = if left { n } else { bits + 1 - n % (bits + 1) };
    rotate_carry_left(bits, a, n, carry).0
}

/// `shld` and `shrd`.
pub(super) fn double_shift(left: bool, bits: u32, a: u64, b: u64, n: u64) -> u64 {
    let n = masked_count(bits, n);
    if n == 0 {
        a
    } else if left {
        (a << n) | (b >> (bits - n))
    } else {
        (a >> n) | (b << (bits - n))
    }
}

/// `pdep`.
pub(super) fn deposit(a: u64, mut mask: u64) -> u64 {
    let (mut r, mut k) = (0, 0);
    while mask != 0 {
        let bit = mask & mask.wrapping_neg();
        if a >> k & 1 != 0 {
            r |= bit;
        }
        k += 1;
        mask ^= bit;
    }
    r
}

/// `pext`.
pub(super) fn gather(a: u64, mut mask: u64) -> u64 {
    let (mut r, mut k) = (0, 0);
    while mask != 0 {
        let bit = mask & mask.wrapping_neg();
        if a & bit != 0 {
            r |= 1 << k;
        }
        k += 1;
        mask ^= bit;
    }
    r
}

/// `bextr`.
pub(super) fn extract_bits(bits: u32, a: u64, control: u64) -> u64 {
    let (start, len) = ((control & 255) as u32, (control >> 8 & 255) as u32);
    let shifted = if start >= bits { 0 } else { a >> start };
    if len >= 64 { shifted } else { shifted & ((1 << len) - 1) }
}

/// `bzhi`.
pub(super) fn zero_high(bits: u32, a: u64, n: u64) -> u64 {
    let n = (n & 255) as u32;
    if n >= bits { a } else { a & ((1 << n) - 1) }
}

/// One step of CRC-32C over `bits` of data, bit by bit; the polynomial is reflected 0x1EDC6F41.
pub(super) fn crc32(bits: u32, acc: u64, data: u64) -> u64 {
    let mut crc = acc as u32 as u64;
    for byte in 0..bits / 8 {
        crc ^= data >> (8 * byte) & 255;
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    crc
}

/// One lane of `size` bits.
pub(super) fn lane(v: u128, size: u32, index: u32) -> u128 {
    v >> (size * index) & (u128::MAX >> (128 - size))
}

/// The vector with a lane replaced.
pub(super) fn with_lane(v: u128, size: u32, index: u32, x: u128) -> u128 {
    let mask = u128::MAX >> (128 - size);
    (v & !(mask << (size * index))) | (x & mask) << (size * index)
}

/// The top bits of all lanes.
pub(super) fn top_bits(v: u128, size: u32) -> u64 {
    (0..128 / size).fold(0, |r, i| r | ((v >> (size * i + size - 1) & 1) as u64) << i)
}

/// Lanes of `b` where `pick` says so, else of `a`.
pub(super) fn blend(a: u128, b: u128, size: u32, pick: impl Fn(u32) -> bool) -> u128 {
    (0..128 / size).fold(a, |r, i| {
        if pick(i) {
            with_lane(r, size, i, lane(b, size, i))
        } else {
            r
        }
    })
}

/// Shuffles with an immediate.
pub(super) fn shuffle(op: Opcode, a: u128, b: u128, imm: u8) -> u128 {
    let two = |i: u32| u32::from(imm >> (2 * i) & 3);
    match op {
        Opcode::Pshufd => (0..4).fold(0, |r, i| with_lane(r, 32, i, lane(a, 32, two(i)))),
        Opcode::Pshuflw => (0..4).fold(a, |r, i| with_lane(r, 16, i, lane(a, 16, two(i)))),
        Opcode::Pshufhw => (0..4).fold(a, |r, i| with_lane(r, 16, 4 + i, lane(a, 16, 4 + two(i)))),
        Opcode::Shufps => (0..4).fold(0, |r, i| {
            with_lane(r, 32, i, lane(if i < 2 { a } else { b }, 32, two(i)))
        }),
        Opcode::Shufpd => {
            let low = lane(a, 64, u32::from(imm & 1));
            with_lane(low, 64, 1, lane(b, 64, u32::from(imm >> 1 & 1)))
        }
        Opcode::Pslldq => a.checked_shl(8 * u32::from(imm)).unwrap_or(0),
        Opcode::Psrldq => a.checked_shr(8 * u32::from(imm)).unwrap_or(0),
        Opcode::Palignr => match u32::from(imm) {
            0 => b,
            n @ 1..16 => b >> (8 * n) | a << (128 - 8 * n),
            n => a.checked_shr(8 * (n - 16)).unwrap_or(0),
        },
        Opcode::Pblendw => blend(a, b, 16, |i| imm >> i & 1 != 0),
        Opcode::Blendps => blend(a, b, 32, |i| imm >> i & 1 != 0),
        Opcode::Blendpd => blend(a, b, 64, |i| imm >> i & 1 != 0),
        _ => {
            let moved = with_lane(a, 32, u32::from(imm >> 4 & 3), lane(b, 32, u32::from(imm >> 6)));
            blend(moved, 0, 32, |i| imm >> i & 1 != 0)
        }
    }
}
