//! Letting the thread run natively from here to there: residual calls, signal handlers, disabled regions, long `rep`s.
//!
//! "There" is an address with a hardware breakpoint, and a stack pointer: a recursive call hits the address with a lower one and
//! goes on. Every run is bounded in time; whatever happens instead of the arrival is a value.

use std::time::{Duration, Instant};

use redmagic_tracee::Error;
use redmagic_tracee::breakpoint::{self, Breakpoint};
use redmagic_tracee::regs::Gprs;
use redmagic_tracee::thread::{Resume, Stop, Stopped};
use redmagic_tracee::wait::{Event, StopReason};

use crate::abort::Abort;

/// The resume flag: set by the kernel after a breakpoint hit, and then saved and restored around a signal handler. A breakpoint
/// that is to be hit at the return of the handler needs it clear.
pub(crate) const RESUME_FLAG: u64 = 1 << 16;
/// The trap flag, which is the stepper's and not the program's.
pub(crate) const TRAP_FLAG: u64 = 1 << 8;

/// A reason to give up, with what else is known.
#[derive(Debug)]
pub(crate) struct Fail {
    pub(crate) reason: Abort,
    pub(crate) detail: String,
}

impl From<Abort> for Fail {
    fn from(reason: Abort) -> Self {
        Fail {
            reason,
            detail: String::new(),
        }
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        let reason = if error.is_gone() { Abort::Died } else { Abort::Traced };
        Fail {
            reason,
            detail: error.to_string(),
        }
    }
}

/// Reasons to use for what only the caller can name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    /// Not there in time.
    pub(crate) late: Abort,
    /// There, but with the frame already gone.
    pub(crate) escaped: Abort,
}

/// Arms slot `slot`.
pub(crate) fn arm(thread: &Stopped, slot: usize, address: u64) -> Result<Breakpoint, Fail> {
    breakpoint::clear_hits(thread)?;
    Breakpoint::set(thread, slot, address).map_err(|error| match error {
        Error::Os { .. } => Fail {
            reason: Abort::NoBreakpoints,
            detail: error.to_string(),
        },
        other => other.into(),
    })
}

/// Runs, with breakpoints armed, until one is hit. Signals that come are delivered, and counted in `signals`.
pub(crate) fn run_to_hit(
    thread: &mut Stopped,
    mut signal: Option<i32>,
    deadline: Instant,
    late: Abort,
    signals: &mut u32,
) -> Result<Gprs, Fail> {
    let mut grace = true;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match thread.resume_and_wait(Resume::Cont, signal.take(), Some(left))? {
            Stop::At(StopReason::Breakpoint) => {
                breakpoint::clear_hits(thread)?;
                return Ok(thread.regs()?);
            }
            Stop::At(StopReason::SignalDelivery(number)) => {
                *signals += 1;
                signal = Some(number);
            }
            Stop::At(StopReason::ProgramTrap) => signal = Some(libc::SIGTRAP),
            Stop::At(StopReason::Group(number)) => {
                return Err(Fail {
                    reason: Abort::JobControl,
                    detail: format!("signal {number}"),
                });
            }
            Stop::At(StopReason::Event(Event::Exec)) => return Err(Abort::Exec.into()),
            // A stale interrupt, or a step's trap that was overtaken by one.
            Stop::At(_) => {}
            // The interrupt may have overtaken the trap of a hit: it is delivered as soon as the thread is resumed, and must be taken
            // here, or the program would get it.
            Stop::TimedOut if grace && breakpoint::hits(thread)? != 0 => grace = false,
            Stop::TimedOut => return Err(late.into()),
            Stop::Dead(death) => {
                return Err(Fail {
                    reason: Abort::Died,
                    detail: death.to_string(),
                });
            }
        }
    }
}

/// Runs until the thread is at `address` with exactly this `rsp`.
pub(crate) fn run_until(
    thread: &mut Stopped,
    (address, rsp): (u64, u64),
    signal: Option<i32>,
    limit: Duration,
    names: Names,
    signals: &mut u32,
) -> Result<Gprs, Fail> {
    let deadline = Instant::now() + limit;
    let breakpoint = arm(thread, 0, address)?;
    let mut signal = signal;
    let result = loop {
        let regs = match run_to_hit(thread, signal.take(), deadline, names.late, signals) {
            Ok(regs) => regs,
            Err(fail) => break Err(fail),
        };
        if regs.rip == address && regs.rsp == rsp {
            break Ok(regs);
        }
        if regs.rip == address && regs.rsp > rsp {
            break Err(Fail {
                reason: names.escaped,
                detail: format!("rsp is {:#x}, and was to be {rsp:#x}", regs.rsp),
            });
        }
    };
    breakpoint.clear(thread)?;
    result
}
