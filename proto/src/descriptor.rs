//! How the daemon finds the shim in a process: an ELF note leads to the
//! descriptor, the descriptor to everything else. Notes survive `strip`.

use crate::api::ApiFn;

/// Name of the note's owner.
pub const NOTE_NAME: &str = "Redmagic";
/// Type of the note.
pub const NOTE_TYPE: u32 = 1;

/// The note's content. `offset` is relative to its own address.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Note {
    /// Address of the [`Descriptor`] less the address of this field.
    pub offset: i64,
    /// [`crate::PROTOCOL_VERSION`] of the shim.
    pub version: u32,
    /// Zero.
    pub reserved: u32,
}

/// An address in the target.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Address(pub *const ());

// SAFETY: an address is data; nothing is reached through it here.
unsafe impl Sync for Address {}

/// Where the parts of the shim are. Lives in the target's data; constant.
#[repr(C)]
pub struct Descriptor {
    /// [`crate::MAGIC`].
    pub magic: u64,
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u32,
    /// Size of this struct in bytes.
    pub size: u32,
    /// The [`ShimPage`].
    pub page: Address,
    /// The [`crate::registry::Registry`].
    pub registry: Address,
    /// An `i64`: offset of this image's [`crate::thread::ThreadWords`] from fs:0; 0 until
    /// the program has called `redmagic_start`.
    pub tls_offset: Address,
    /// The C API, by [`ApiFn`].
    pub api: [Address; ApiFn::COUNT],
    /// Entered by a hot exit: see the shim's `park` module.
    pub park_exit: Address,
    /// The instruction after the futex wait of a parked thread.
    pub park_wait: Address,
    /// `fn(frames: *const u8)`: registers unwind information (calls
    /// `__register_frame` if the process has it).
    pub register_frames: Address,
    /// SIGTRAP handler to be installed while a session lasts.
    pub trap_handler: Address,
    /// Its restorer.
    pub trap_restorer: Address,
    /// Where the previous SIGTRAP action is kept (32 bytes, the kernel's sigaction).
    pub previous_trap: Address,
}

/// Reads the wire form of a [`Descriptor`]: plain words, in order.
pub const DESCRIPTOR_WORDS: usize = core::mem::size_of::<Descriptor>() / 8;

/// The page that a fork wipes (MADV_WIPEONFORK): a child, however it was made,
/// finds no daemon attached and no lock held.
#[repr(C, align(4096))]
pub struct ShimPage {
    /// `redmagic_channel`: the target's address of the control region, or 0.
    pub channel: core::sync::atomic::AtomicU64,
    /// The target's address of the entries region.
    pub entries: core::sync::atomic::AtomicU64,
    /// Lock of the registry.
    pub registry_lock: core::sync::atomic::AtomicU32,
    /// Set once this process has been prepared.
    pub started: core::sync::atomic::AtomicU32,
    /// Fills the page: nothing else may be wiped.
    pub rest: [core::sync::atomic::AtomicU64; 509],
}

const _: () = assert!(core::mem::size_of::<ShimPage>() == 4096);
