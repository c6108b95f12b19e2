//! Hardware execution breakpoints of one thread.
//!
//! x86 has four address registers (DR0-DR3), an enable register (DR7) and a status register (DR6). A breakpoint is
//! hit before the instruction executes; the kernel sets RF when it resumes, so the same breakpoint is not hit again
//! at once. Nothing in memory changes, so other threads and code that checksums itself do not notice.
//!
//! Quirks that users must know:
//! * Some virtual machines do not deliver them: [`probe`] before relying on them.
//! * They stay in the thread after a detach, and after the tracer's death (seen on Linux 6.18): the thread then gets a SIGTRAP
//!   with code `TRAP_HWBKPT` at each hit.
//!   [`Breakpoint`] clears itself, but nothing can be done about a tracer that is killed: the target's SIGTRAP
//!   handler (the shim installs one) must ignore `TRAP_HWBKPT`.
//! * They are inherited by neither fork nor clone, and are gone after execve.

use std::marker::PhantomData;
use std::time::Duration;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::thread::{Resume, Stop, Stopped};
use crate::wait::StopReason;

/// Breakpoints a thread can have at once.
pub const SLOTS: usize = 4;
const DR6: usize = 6;
const DR7: usize = 7;

/// A breakpoint that clears itself when dropped, provided that its thread is then stopped under this tracer.
#[derive(Debug)]
pub struct Breakpoint {
    tid: i32,
    slot: usize,
    address: u64,
    armed: bool,
    not_send: PhantomData<*const ()>,
}

impl Breakpoint {
    /// Sets breakpoint register `slot` (0..[`SLOTS`]) of the thread to `address`. What the slot held before is replaced.
    ///
    /// # Errors
    /// The kernel's refusal: EINVAL for an address outside user space, ENOSPC or EBUSY when perf or another debugger has used the
    /// registers up.
    pub fn set(thread: &Stopped, slot: usize, address: u64) -> Result<Self> {
        if slot >= SLOTS {
            return Err(Error::State {
                operation: "set a hardware breakpoint",
                pid: thread.tid(),
                detail: format!("slot {slot} of {SLOTS}"),
            });
        }
        let enabled = peek(thread.tid(), DR7)?;
        if enabled & slot_mask(slot) != 0 {
            // The kernel validates a change of address against the old type and length; start from a free slot.
            poke(thread.tid(), DR7, enabled & !slot_mask(slot))?;
        }
        poke(thread.tid(), slot, address)?;
        // Type 00 (execute) and length 00 (one byte) are the only valid pair for instructions: just the enable bit.
        poke(thread.tid(), DR7, (enabled & !slot_mask(slot)) | 1 << (2 * slot))?;
        Ok(Breakpoint {
            tid: thread.tid(),
            slot,
            address,
            armed: true,
            not_send: PhantomData,
        })
    }

    /// Where it is.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Clears it.
    ///
    /// # Errors
    /// An unexpected errno. A dead thread is no error.
    pub fn clear(mut self, thread: &Stopped) -> Result<()> {
        debug_assert_eq!(thread.tid(), self.tid);
        self.armed = false;
        match clear_slot(self.tid, self.slot) {
            Err(error) if !error.is_gone() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Breakpoint {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // ESRCH when the thread is dead, runs, or is no longer ours.
        if let Err(error) = clear_slot(self.tid, self.slot) {
            tracing::warn!(tid = self.tid, %error, "a hardware breakpoint could not be cleared");
        }
    }
}

/// The enable, type and length bits of a slot in DR7.
fn slot_mask(slot: usize) -> u64 {
    (0b11 << (2 * slot)) | (0b1111 << (16 + 4 * slot))
}

fn clear_slot(tid: i32, slot: usize) -> Result<()> {
    let enabled = peek(tid, DR7)?;
    poke(tid, DR7, enabled & !slot_mask(slot))?;
    poke(tid, slot, 0)
}

/// Where PTRACE_PEEKUSER and POKEUSER find debug register `n`.
fn offset(n: usize) -> usize {
    std::mem::offset_of!(libc::user, u_debugreg) + 8 * n
}

/// By thread id, because `Drop` has no [`Stopped`] at hand. The kernel says ESRCH unless the thread is stopped and ours.
fn peek(tid: i32, n: usize) -> Result<u64> {
    let mut value = 0u64;
    // SAFETY: the raw PTRACE_PEEKUSER writes one word to `data`, a live local.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ptrace,
            i64::from(libc::PTRACE_PEEKUSER),
            i64::from(tid),
            offset(n),
            &raw mut value,
        )
    };
    Errno::result(result).map_err(|e| Error::os("read a debug register", tid, e))?;
    Ok(value)
}

fn poke(tid: i32, n: usize, value: u64) -> Result<()> {
    // SAFETY: PTRACE_POKEUSER takes integers only.
    let result = unsafe { libc::ptrace(libc::PTRACE_POKEUSER, tid, offset(n), value as usize) };
    Errno::result(result)
        .map(drop)
        .map_err(|e| Error::os("write a debug register", tid, e))
}

/// Which slots matched since the last [`clear_hits`], as a bit mask.
///
/// # Errors
/// [`Error::Gone`] when the thread is dead.
pub fn hits(thread: &Stopped) -> Result<u64> {
    Ok(peek(thread.tid(), DR6)? & 0b1111)
}

/// Forgets earlier hits.
///
/// # Errors
/// [`Error::Gone`] when the thread is dead.
pub fn clear_hits(thread: &Stopped) -> Result<()> {
    poke(thread.tid(), DR6, 0)
}

/// Disarms every breakpoint of a thread, whoever set them: what a tracer that was killed has left behind.
///
/// # Errors
/// [`Error::Gone`] when the thread is dead.
pub fn clear_all(thread: &Stopped) -> Result<()> {
    poke(thread.tid(), DR7, 0)
}

/// Whether hardware breakpoints really work here: sets one at `about_to_execute`, an address that the thread will reach by
/// itself, and continues the thread (with its pending signal) for at most `timeout`.
///
/// # Errors
/// The kernel's refusal to set it.
pub fn probe(thread: &mut Stopped, about_to_execute: u64, timeout: Duration) -> Result<bool> {
    let breakpoint = Breakpoint::set(thread, 0, about_to_execute)?;
    let signal = thread.pending_signal();
    let stop = thread.resume_and_wait(Resume::Cont, signal, Some(timeout))?;
    breakpoint.clear(thread)?;
    Ok(stop == Stop::At(StopReason::Breakpoint) && thread.regs()?.rip == about_to_execute)
}
