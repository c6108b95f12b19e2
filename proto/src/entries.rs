//! The entries region: a hash table from an anchor to its code.
//!
//! Written by the daemon only, read by the shim without locks. A slot, once it
//! has been given to an anchor, never changes its `id` and `return_address` again
//! (the daemon keeps them to the end of the session); only `code` changes, by a
//! release store. A reader that sees the key therefore never jumps to the code of
//! another anchor.

use core::sync::atomic::AtomicU64;

/// Slots of the table, a power of two. The table is never filled above half.
pub const ENTRIES: usize = 1 << 14;

/// How many slots after the first a key may lie.
pub const PROBES: usize = 8;

/// Multiplier of the hash (Knuth's, 2^64 / golden ratio).
pub const HASH_MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Size of the region in bytes. Probing runs past the last slot in place of
/// wrapping, so there are `PROBES` slots more.
pub const ENTRIES_BYTES: usize = (ENTRIES + PROBES) * core::mem::size_of::<Entry>();

/// One slot.
#[repr(C, align(32))]
#[derive(Debug)]
pub struct Entry {
    /// The anchor's id; meaningful once `return_address` is not 0.
    pub id: AtomicU64,
    /// The return address of the anchor's call; 0 in a free slot.
    pub return_address: AtomicU64,
    /// Where the trace is entered, or 0 when there is none (any more).
    pub code: AtomicU64,
    /// Keeps the slot at 32 bytes.
    pub reserved: AtomicU64,
}

/// The first slot to look at for `id`, and the index of its hotness counter.
pub const fn hash(id: u64) -> usize {
    (id.wrapping_mul(HASH_MULTIPLIER) >> (64 - ENTRIES.trailing_zeros())) as usize
}
