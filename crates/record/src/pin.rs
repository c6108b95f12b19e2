//! Keeping the tracer on the tracee's processor.
//!
//! A step is two context switches. On one processor they are just that; across two, each is a wake-up of an idle processor by an
//! inter-processor interrupt, several times the price. So the tracer goes where the tracee is; the tracee is never moved.

use std::mem::{MaybeUninit, size_of};

use redmagic_tracee::process;

/// Steps after which it is checked whether the scheduler has moved the tracee.
pub(crate) const RECHECK: u64 = 256;

/// The calling thread is bound to a processor until this is dropped.
pub(crate) struct Pin {
    original: libc::cpu_set_t,
    cpu: Option<usize>,
}

impl Pin {
    /// Binds the calling thread to where `tid` ran last. Quietly does nothing where that is not allowed: it costs time only.
    pub(crate) fn to(tid: i32) -> Option<Self> {
        let mut original = MaybeUninit::<libc::cpu_set_t>::zeroed();
        // SAFETY: the set is zeroed and of the size given; 0 is the calling thread.
        let got = unsafe {
            libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), original.as_mut_ptr())
        };
        if got != 0 {
            return None;
        }
        // SAFETY: zeroed, then filled by the kernel; any bits are a valid set.
        let original = unsafe { original.assume_init() };
        let mut pin = Pin {
            original,
            cpu: None,
        };
        pin.follow(tid);
        Some(pin)
    }

    /// Moves after the tracee.
    pub(crate) fn follow(&mut self, tid: i32) {
        let Ok(cpu) = process::last_cpu(tid) else {
            return;
        };
        if self.cpu == Some(cpu) || cpu >= libc::CPU_SETSIZE as usize {
            return;
        }
        // SAFETY: `set` is zeroed, `cpu` is below its size, 0 is the calling thread.
        let result = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
        };
        if result == 0 {
            self.cpu = Some(cpu);
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // SAFETY: the set is the one that the kernel gave us.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.original) };
    }
}
