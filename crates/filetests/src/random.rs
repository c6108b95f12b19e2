//! Random numbers (xoshiro256**, Blackman and Vigna 2018, seeded by splitmix64), and values that find bugs.

/// A generator; equal seeds give equal sequences.
#[derive(Debug, Clone)]
pub struct Random([u64; 4]);

/// Integers at the edges of every width.
const EDGES: [u64; 28] = [
    0,
    1,
    2,
    7,
    8,
    0xf,
    0x10,
    0x1f,
    0x20,
    0x3f,
    0x40,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ff80,
    0xffff_ffff_ffff_ffff,
];

/// Doubles: zeros, ones, denormals, limits, limits of integers, infinities, quiet and signalling NaNs with payloads.
const DOUBLES: [u64; 24] = [
    0,
    1,
    0x000f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x3ff0_0000_0000_0000,
    0x3ff8_0000_0000_0000,
    0x3fe0_0000_0000_0000,
    0x4004_0000_0000_0000,
    0x41df_ffff_ffc0_0000,
    0x41e0_0000_0000_0000,
    0x43df_ffff_ffff_ffff,
    0x43e0_0000_0000_0000,
    0x4340_0000_0000_0001,
    0x36a0_0000_0000_0000,
    0x380f_ffff_ffff_ffff,
    0x47ef_ffff_e000_0000,
    0x47ef_ffff_f000_0000,
    0x7fef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0x7ff0_0000_0000_0001,
    0x7ff4_0000_dead_beef,
    0x7ff8_0000_0000_0000,
    0x7ff8_0000_1234_5678,
    0x7fff_ffff_ffff_ffff,
];

/// The same in single precision.
const SINGLES: [u32; 18] = [
    0,
    1,
    0x007f_ffff,
    0x0080_0000,
    0x3f80_0000,
    0x3fc0_0000,
    0x3f00_0000,
    0x4b00_0001,
    0x4eff_ffff,
    0x4f00_0000,
    0x5eff_ffff,
    0x5f00_0000,
    0x7f7f_ffff,
    0x7f80_0000,
    0x7f80_0001,
    0x7fa0_beef,
    0x7fc0_0000,
    0x7fff_ffff,
];

impl Random {
    /// A generator with this seed.
    pub fn new(mut seed: u64) -> Random {
        Random(std::array::from_fn(|_| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `n`, which is not 0.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// True once in `n` times.
    #[inline]
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// A value for a general register.
    pub fn integer(&mut self) -> u64 {
        let r = self.bits();
        match r & 15 {
            0..=5 => *self.pick(&EDGES),
            6 => self.pick(&EDGES).wrapping_neg(),
            7 => u64::from(r as u32) >> (self.below(32)),
            8 => 1 << self.below(64),
            9 => (r >> 8).wrapping_shr(self.below(64) as u32),
            10 => *self.pick(&EDGES) ^ (u64::from(*self.pick(&EDGES) as u32) << 32),
            _ => self.bits(),
        }
    }

    /// The image of a double.
    pub fn double(&mut self) -> u64 {
        let sign = self.bits() & 1 << 63;
        match self.below(8) {
            0..=3 => *self.pick(&DOUBLES) ^ sign,
            4 => (self.integer() as i64 as f64).to_bits(),
            // Near 1, so that sums and products round.
            5 => (self.bits() >> 12) | 0x3ff0_0000_0000_0000 ^ sign,
            6 => (self.bits() >> 12) | (0x3ff - 80 + self.below(160)) << 52 ^ sign,
            _ => self.bits(),
        }
    }

    /// The image of a single.
    pub fn single(&mut self) -> u32 {
        let sign = (self.bits() as u32) & 1 << 31;
        match self.below(8) {
            0..=3 => *self.pick(&SINGLES) ^ sign,
            4 => (self.integer() as i64 as f32).to_bits(),
            5 => (self.bits() as u32 >> 9) | 0x3f80_0000 ^ sign,
            6 => (self.bits() as u32 >> 9) | (0x7f - 30 + self.below(60) as u32) << 23 ^ sign,
            _ => self.bits() as u32,
        }
    }

    /// A value for a vector register.
    pub fn vector(&mut self) -> u128 {
        match self.below(8) {
            0..=2 => u128::from(self.double()) << 64 | u128::from(self.double()),
            3..=4 => (0..4).fold(0, |v, _| v << 32 | u128::from(self.single())),
            5 => u128::from(self.integer()) << 64 | u128::from(self.integer()),
            6 => (0..8).fold(0, |v, _| v << 16 | u128::from(self.integer() as u16)),
            _ => u128::from(self.bits()) << 64 | u128::from(self.bits()),
        }
    }
}
