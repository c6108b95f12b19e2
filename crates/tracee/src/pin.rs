//! Keeping tracer and tracee on one processor.
//!
//! A step is two context switches. On one processor they are just that; across two, each is a wake-up of an idle processor by an
//! inter-processor interrupt, about three times the price. It is not enough that the tracer goes where the tracee is: the
//! tracee, woken while the tracer still runs there, is moved to the idle processor next door, step after step. So while it is
//! stepped, or made to do things one by one, the tracee is bound as well.
//!
//! What runs natively must not see that, nor hand it on to threads and children that it makes: the binding is lifted around
//! residual calls, handlers, disabled regions and system calls, with the affinity read anew each time. One thing remains:
//! a tracer that is killed between two steps leaves the thread bound; whoever outlives the tracer (the daemon has its watcher)
//! must give it its affinity back.

use std::mem::{MaybeUninit, size_of};

use crate::process;

/// The tracer is bound to a processor until this is dropped, and the tracee while [`Pin::hold`] holds it.
#[derive(Debug)]
pub struct Pin {
    tid: i32,
    cpu: usize,
    /// Affinity of the tracer before.
    own: libc::cpu_set_t,
    /// Affinity of the tracee before, while it is held.
    held: Option<libc::cpu_set_t>,
}

/// The affinity of a thread; 0 is the calling one.
fn affinity(tid: i32) -> Option<libc::cpu_set_t> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the set is zeroed and of the size given.
    let got = unsafe { libc::sched_getaffinity(tid, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) };
    // SAFETY: zeroed, then filled by the kernel; any bits are a valid set.
    (got == 0).then(|| unsafe { set.assume_init() })
}

fn set_affinity(tid: i32, set: &libc::cpu_set_t) -> bool {
    // SAFETY: the set is live and of the size given.
    unsafe { libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), set) == 0 }
}

fn only(cpu: usize) -> libc::cpu_set_t {
    // SAFETY: all-zero is the empty set, and the caller has checked `cpu` against its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    }
}

impl Pin {
    /// Binds the calling thread to where `tid` ran last. `None` where that is not allowed (other cpusets): it costs time only.
    pub fn to(tid: i32) -> Option<Self> {
        let cpu = process::last_cpu(tid)
            .ok()
            .filter(|&cpu| cpu < libc::CPU_SETSIZE as usize)?;
        let own = affinity(0)?;
        set_affinity(0, &only(cpu)).then_some(Pin {
            tid,
            cpu,
            own,
            held: None,
        })
    }

    /// Binds the tracee too.
    pub fn hold(&mut self) {
        if self.held.is_none() {
            self.held = affinity(self.tid).filter(|_| set_affinity(self.tid, &only(self.cpu)));
        }
    }

    /// Gives the tracee its own affinity back.
    pub fn release(&mut self) {
        // It fails only for a thread that is gone.
        if let Some(set) = self.held.take() {
            set_affinity(self.tid, &set);
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.release();
        set_affinity(0, &self.own);
    }
}
