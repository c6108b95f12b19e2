//! Waiting for a tracee with a deadline.
//!
//! The kernel has no `waitpid` with a timeout. A pidfd only polls for death, SIGCHLD belongs to the whole process,
//! and a `WNOHANG` loop either burns the core that the tracee (pinned to it while it is stepped) needs, or sleeps
//! 50 us and more at a time. So each tracing thread has one POSIX timer that sends it a real-time signal with an empty
//! handler, installed without SA_RESTART: the blocking `waitpid` then returns `EINTR`. The timer repeats every
//! millisecond, so that one that fires just before `waitpid` is entered costs a millisecond and not the wait.
//!
//! The signal is [`signal_number`]: the rest of the tracing process must leave it alone.

use std::cell::RefCell;
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::errno::Errno;

/// The real-time signal that interrupts a wait.
pub(crate) fn signal_number() -> i32 {
    libc::SIGRTMAX() - 3
}

extern "C" fn nothing(_: i32) {}

fn install_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: sigaction is plain data for which all-zero is valid; the handler does nothing, so it is
        // async-signal-safe; no SA_RESTART, which is the point.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
            libc::sigaction(signal_number(), &action, std::ptr::null_mut())
        };
        assert_eq!(
            result, 0,
            "sigaction of a real-time signal with a valid handler cannot fail"
        );
    });
}

struct Timer {
    id: libc::timer_t,
    /// Timers do not survive a fork, thread-local values do.
    pid: u32,
}

impl Timer {
    fn new() -> Result<Self, Errno> {
        install_handler();
        let mut id: libc::timer_t = std::ptr::null_mut();
        // SAFETY: all three structures are plain data, valid for the duration of the calls. Unblocking a signal whose
        // handler is empty cannot surprise anybody.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, signal_number());
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal_number();
            event.sigev_notify_thread_id = libc::gettid();
            Errno::result(libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut id))?;
        }
        Ok(Timer {
            id,
            pid: std::process::id(),
        })
    }

    /// Fires after `after` and every millisecond from then on; `None` disarms.
    fn set(&self, after: Option<Duration>) -> Result<(), Errno> {
        let spec = |d: Duration| libc::timespec {
            tv_sec: d.as_secs() as i64,
            tv_nsec: i64::from(d.subsec_nanos()),
        };
        let (value, interval) = match after {
            // A zero value would disarm.
            Some(after) => (spec(after.max(Duration::from_nanos(1))), spec(Duration::from_millis(1))),
            None => (spec(Duration::ZERO), spec(Duration::ZERO)),
        };
        let spec = libc::itimerspec {
            it_value: value,
            it_interval: interval,
        };
        // SAFETY: `id` is a live timer of this process (see `with_timer`), `spec` outlives the call.
        Errno::result(unsafe { libc::timer_settime(self.id, 0, &spec, std::ptr::null_mut()) }).map(drop)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.pid == std::process::id() {
            // SAFETY: `id` is a live timer of this process and is not used again.
            unsafe { libc::timer_delete(self.id) };
        }
    }
}

thread_local! {
    static TIMER: RefCell<Option<Timer>> = const { RefCell::new(None) };
}

/// `waitpid(tid, __WALL)`: `Ok(None)` when the deadline passed first.
///
/// # Errors
/// `ECHILD` when `tid` is not (or no longer) a child or tracee of this thread.
pub(crate) fn waitpid(tid: i32, timeout: Option<Duration>) -> Result<Option<u32>, Errno> {
    let Some(timeout) = timeout else {
        loop {
            match waitpid_once(tid, 0) {
                Err(Errno::EINTR) => continue,
                other => return other,
            }
        }
    };
    if let Some(status) = waitpid_once(tid, libc::WNOHANG)? {
        return Ok(Some(status));
    }
    let deadline = Instant::now() + timeout;
    TIMER.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|timer| timer.pid != std::process::id()) {
            *slot = Some(Timer::new()?);
        }
        let timer = slot.as_ref().expect("just filled");
        timer.set(Some(timeout))?;
        let result = loop {
            match waitpid_once(tid, 0) {
                Err(Errno::EINTR) if Instant::now() >= deadline => {
                    break waitpid_once(tid, libc::WNOHANG);
                }
                Err(Errno::EINTR) => continue,
                other => break other,
            }
        };
        timer.set(None)?;
        result
    })
}

fn waitpid_once(tid: i32, flags: i32) -> Result<Option<u32>, Errno> {
    let mut status = 0;
    // SAFETY: `status` is valid for the kernel to write to.
    match unsafe { libc::waitpid(tid, &mut status, libc::__WALL | flags) } {
        0 => Ok(None),
        -1 => Err(Errno::last()),
        _ => Ok(Some(status as u32)),
    }
}
