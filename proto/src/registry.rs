//! What the program declared about itself, kept in its own memory (there may be
//! no daemon yet) and read by the daemon.
//!
//! A hash table of `(kind, key) -> (length, serial)` that grows by moving to a
//! larger mapping. The daemon reads it with process_vm_readv: it reads `version`,
//! then the table, then `version` again, and starts over when they differ or a
//! read fails.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// Calls of the function at `key` are kept as calls.
pub const KIND_DO_NOT_TRACE: u64 = 1;
/// No trace starts at the id `key`.
pub const KIND_DISABLED_BRANCH: u64 = 2;
/// `[key, key + length)` does not change.
pub const KIND_CONSTANT_MEMORY: u64 = 3;
/// The function at `key` is pure.
pub const KIND_ELIDABLE: u64 = 4;

/// The most records the daemon reads from one target.
pub const MAX_RECORDS: u64 = 1 << 22;

/// The table's head.
#[repr(C)]
pub struct Registry {
    /// Odd while the table is being changed; goes up by 2 with every change.
    pub version: AtomicU64,
    /// Address of `capacity` records, or 0.
    pub records: AtomicU64,
    /// Records in the mapping, a power of two.
    pub capacity: AtomicU64,
    /// Records in use, ended ones included.
    pub used: AtomicU64,
    /// Source of serial numbers.
    pub next_serial: AtomicU64,
    /// 1 when something could not be recorded: the table is not to be relied on for
    /// what must not be traced.
    pub incomplete: AtomicU32,
    /// Padding.
    pub reserved: AtomicU32,
    /// The target's address of the control region of its latest session, or 0. Not on the page that forks wipe: a child
    /// may still be in code of its parent's session.
    pub control: AtomicU64,
}

/// One declaration.
#[repr(C)]
pub struct Record {
    /// `KIND_*`; 0 in a free record, [`KIND_ENDED`] in one that no longer holds.
    pub kind: AtomicU64,
    /// Function address, id or first byte.
    pub key: AtomicU64,
    /// Bytes of constant memory, else 0.
    pub length: AtomicU64,
    /// Differs between two declarations of the same key.
    pub serial: AtomicU64,
}

/// A record that was ended; its place may be taken again.
pub const KIND_ENDED: u64 = u64::MAX;
