//! The control region: what both sides write.
//!
//! A park area doubles as the slot of a request: its state word says who owns it.
//!
//! ```text
//!            shim claims        shim fills, posts, rings the doorbell
//!   FREE ───────────────► CLAIMED ───────────────► POSTED ──┬─ daemon answers ──► ANSWERED ─ shim ─► FREE
//!     ▲                         │                           ├─ daemon takes the thread ─► TAKEN ─ daemon ─► FREE
//!     │                         │                           │
//!     ├──────── daemon ─ LEFT ◄─┘ shim, if nothing can be   │
//!     │                           recorded now              │
//!     └──────────── shim gives up after PARK_TIMEOUT_US ────┘
//! ```

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

use crate::entries::ENTRIES;

/// How many threads can be parked at once; a thread that finds no area runs on.
pub const PARK_AREAS: usize = 64;

/// Bits of an exit's number.
const EXIT_BITS: u32 = 18;

/// Exit counters: the most exits one session can have.
pub const EXIT_COUNTERS: usize = 1 << EXIT_BITS;

/// [`Control::generation`] in a forked child, for code of its parent's session: no trace is valid for it. Traces compare the low
/// 32 bits, so it is as far from 0 as can be, less the one that stands for suspended traces.
pub const GENERATION_OF_ANOTHER: u64 = u64::MAX - 1;

/// What a thread at a hot exit names it by ([`ParkArea::id`]): its number, and how many sessions this address space has had
/// before. Threads may still be in code of an earlier one, whose numbers mean other exits: after a detach or the daemon's
/// death, and in a child. Regions are never unmapped, and there is no room for 2^13 of them within reach of the interpreter.
pub const fn exit_id(sessions_before: u32, number: u32) -> u32 {
    sessions_before << EXIT_BITS | number
}

/// The number behind an [`exit_id`]; `None` for one of an earlier session.
pub const fn exit_number(sessions_before: u32, id: u64) -> Option<u64> {
    let first = (sessions_before as u64) << EXIT_BITS;
    id.checked_sub(first)
}

/// What one turn of a loop counts, when a function entry counts 1: a function that a
/// loop calls must not become hot before the loop whose trace would contain it.
pub const LOOP_WEIGHT: i32 = 8;

/// Bytes kept for the XSAVE image of a parked thread (standard form, the
/// components of [`XSAVE_MASK`]).
pub const XSAVE_BYTES: usize = 2752;

/// x87, SSE, AVX, opmask, both ZMM parts: ends at byte 2,688.
pub const XSAVE_MASK: u64 = 0xe7;

/// [`Control::state`]: traces are used, hot anchors ask the daemon.
pub const SESSION_ACTIVE: u32 = 1;
/// [`Control::state`]: the daemon ended the session.
pub const SESSION_DETACHED: u32 = 2;
/// [`Control::state`]: a thread waited in vain; the target has stopped asking.
pub const SESSION_ABANDONED: u32 = 3;

/// A park area nobody uses.
pub const PARK_FREE: u32 = 0;
/// A thread is filling the area.
pub const PARK_CLAIMED: u32 = 1;
/// The thread waits for the daemon.
pub const PARK_POSTED: u32 = 2;
/// The daemon has stopped the thread with ptrace and moves it elsewhere.
pub const PARK_TAKEN: u32 = 3;
/// The thread may run on.
pub const PARK_ANSWERED: u32 = 4;
/// The thread has run on already: it could not have been recorded.
pub const PARK_LEFT: u32 = 5;

/// At most so many areas hold requests whose threads have run on. Where nobody takes these in, the others
/// are for threads that wait, and find out that nobody is there.
pub const MOST_LEFT: usize = PARK_AREAS / 2;

/// [`ParkArea::kind`]: a hot anchor; `id` and `return_address` name it.
pub const REQUEST_ANCHOR: u32 = 1;
/// [`ParkArea::kind`]: a hot exit; `id` is its [`exit_id`], `return_address` the original code.
pub const REQUEST_EXIT: u32 = 2;

/// Ways to misuse the API that the shim notices, as indices of [`Control::misuse`].
pub const MISUSE_TEMP_ENABLE: usize = 0;
/// `end_branchable_frame` without a begin.
pub const MISUSE_END_FRAME: usize = 1;
/// The registry was full or its lock could not be had.
pub const MISUSE_REGISTRY: usize = 2;
/// How many kinds of misuse there are.
pub const MISUSES: usize = 3;

/// The whole region.
#[repr(C, align(4096))]
pub struct Control {
    /// [`crate::MAGIC`].
    pub magic: AtomicU64,
    /// [`crate::PROTOCOL_VERSION`].
    pub version: AtomicU32,
    /// One of the `SESSION_*` values.
    pub state: AtomicU32,
    /// Futex word: incremented by the shim when it posts a request.
    pub doorbell: AtomicU32,
    /// Incremented by the shim whenever a thread gives up waiting.
    pub stalls: AtomicU32,
    /// The longest wait in microseconds of a thread that was answered or gave up.
    pub longest_wait_us: AtomicU64,
    /// Bumped by `constant_memory_end`: traces that depend on constant memory
    /// compare it with the value they were compiled for.
    pub generation: AtomicU64,
    /// 1: the daemon wants the doorbell rung when constant memory ends. Whoever rings it makes it 0.
    pub ring_at_end: AtomicU32,
    /// 1: nothing can be recorded now, so that whoever asks need not wait for the answer.
    pub busy: AtomicU32,
    /// How often a thread that waits looks for its answer, with a `pause` in between, before it sleeps.
    pub looks: AtomicU32,
    /// How often, and from where last, the API was misused.
    pub misuse: [Misuse; MISUSES],
    /// Hotness of anchors, by [`crate::entries::hash`] of the id: counts down, by
    /// [`LOOP_WEIGHT`] at a loop and by 1 at a function entry, and asks at 0 or below.
    pub hotness: [AtomicI32; ENTRIES],
    /// Hotness of exits, by exit number: counts down, asks at 0.
    pub exits: [AtomicI32; EXIT_COUNTERS],
    /// Where threads wait.
    pub parks: [ParkArea; PARK_AREAS],
}

/// Size of the region in bytes.
pub const CONTROL_BYTES: usize = core::mem::size_of::<Control>();

/// One kind of misuse.
#[repr(C)]
pub struct Misuse {
    /// How often it happened.
    pub count: AtomicU64,
    /// The return address of the last such call.
    pub last: AtomicU64,
}

/// The registers of a parked thread, in the order in which the shim pushes them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParkedRegisters {
    /// RFLAGS.
    pub rflags: u64,
    /// rax, rcx, rdx, rbx, (rsp: see below), rbp, rsi, rdi, r8 ... r15: the order of
    /// the encoding. The slot of rsp holds the value to resume with.
    pub gpr: [u64; 16],
    /// Where to resume.
    pub rip: u64,
}

/// Where a thread leaves its state while it waits.
#[repr(C, align(64))]
pub struct ParkArea {
    /// XSAVE image (XSAVE wants 64-byte alignment, so it comes first).
    pub xsave: [u8; XSAVE_BYTES],
    /// One of the `PARK_*` values; the futex word the thread waits on.
    pub state: AtomicU32,
    /// `REQUEST_*`.
    pub kind: AtomicU32,
    /// The waiting thread.
    pub tid: AtomicU32,
    /// `ApiFn` of an anchor.
    pub api: AtomicU32,
    /// The anchor's id, or the exit's: see [`exit_id`].
    pub id: AtomicU64,
    /// The anchor's return address, or where the exit goes.
    pub return_address: AtomicU64,
    /// The stack pointer while it waits: tells that the thread really is in this wait.
    pub wait_rsp: AtomicU64,
    /// Base of the fs segment.
    pub fs_base: AtomicU64,
    /// General registers and flags.
    pub registers: core::cell::UnsafeCell<ParkedRegisters>,
}

// SAFETY: every field that both sides write concurrently is atomic; `registers` and
// `xsave` are written by the shim before the release store of POSTED and only read
// by the daemon, which copies them byte by byte through raw pointers.
unsafe impl Sync for ParkArea {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_told_from_those_of_other_sessions() {
        let last = EXIT_COUNTERS as u32 - 1;
        assert_eq!(exit_number(3, exit_id(3, last).into()), Some(u64::from(last)));
        assert_eq!(exit_number(3, exit_id(2, last).into()), None);
        // One of a later session is none that a sane target can name: no session has such a number.
        assert!(exit_number(3, exit_id(4, 0).into()).is_some_and(|number| number >= EXIT_COUNTERS as u64));
        // It is pushed as a 32-bit immediate, which must stay positive.
        assert!(exit_id((1 << 13) - 1, last) <= i32::MAX as u32);
    }
}
