//! What `waitpid` said about a traced thread, decoded totally: every 32-bit status is some [`WaitStatus`].
//!
//! Signal numbers stay raw integers. nix's `waitpid` turns them into a closed enum and fails with `EINVAL`
//! when a stop carries a real-time signal (32 and up, 32-33 being glibc's own), after the kernel has already
//! consumed the status: the stop is lost. So this module calls `libc::waitpid`.
//!
//! Layout of a status (wait(2), ptrace(2)):
//!
//! ```text
//! bits 31..24 | 23..16        | 15..8             | 7    | 6..0
//!  (unused)   | ptrace event  | exit code or stop | core | 0: exited, 0x7f: stopped, else: killed by it
//! ```

use std::fmt;

/// PTRACE_EVENT_STOP of `linux/ptrace.h`; the libc crate has it for uclibc only.
const PTRACE_EVENT_STOP: u8 = 128;
/// What PTRACE_O_TRACESYSGOOD adds to SIGTRAP in a syscall stop.
const SYSGOOD: i32 = 0x80;

/// A status of `waitpid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitStatus {
    /// The thread called exit with this code (0..=255).
    Exited(i32),
    /// A signal killed it.
    Signaled {
        /// Raw signal number, 1..=126.
        signal: i32,
        /// Whether a core was dumped.
        core: bool,
    },
    /// It is stopped and belongs to the tracer until resumed.
    Stopped(StopReason),
    /// A SIGCONT resumed it. Only seen with WCONTINUED, which we never pass.
    Continued,
    /// No kernel gives this: low byte 0xff without being the whole of `Continued`. Kept so that decoding is total.
    Unknown(u32),
}

/// Why a traced thread stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A signal is about to be delivered; it is lost unless the thread is resumed with it.
    SignalDelivery(i32),
    /// Job control stopped the whole process (SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU).
    Group(i32),
    /// PTRACE_INTERRUPT, or the first stop of an automatically attached child.
    Interrupt,
    /// A SIGTRAP whose cause the status alone cannot tell. [`crate::thread`] refines it into one of the next three or
    /// into `SignalDelivery(SIGTRAP)`, so users of that module never see it.
    Trap,
    /// One instruction was executed.
    Step,
    /// A debug register matched.
    Breakpoint,
    /// The thread executed `int3` (or another trap that is the program's own).
    ProgramTrap,
    /// Entry to or return from a system call, after `Resume::Syscall`.
    Syscall,
    /// One of the events asked for with [`crate::thread::Options`].
    Event(Event),
}

/// A ptrace event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// fork, before it returns in the parent.
    Fork,
    /// vfork, before the parent blocks.
    Vfork,
    /// clone without a fork or vfork exit signal: usually a thread.
    Clone,
    /// execve succeeded; the old image is gone, and so are all other threads.
    Exec,
    /// The child of a vfork released its parent.
    VforkDone,
    /// The thread is about to die; registers can still be read.
    Exit,
    /// A seccomp filter asked for the tracer.
    Seccomp,
    /// A code this table does not have.
    Other(u8),
}

/// How a thread ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// It exited with this code.
    Exited(i32),
    /// A signal killed it.
    Signaled {
        /// Raw signal number.
        signal: i32,
        /// Whether a core was dumped.
        core: bool,
    },
    /// The kernel no longer knows it as ours: another thread of its process called execve, or somebody else reaped it.
    Vanished,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Death::Exited(code) => write!(f, "it exited with code {code}"),
            Death::Signaled { signal, core } => {
                write!(
                    f,
                    "it was killed by signal {signal}{}",
                    if *core { " (core dumped)" } else { "" }
                )
            }
            Death::Vanished => write!(f, "it vanished (exec by another thread, or reaped by another process)"),
        }
    }
}

impl WaitStatus {
    /// Decodes a raw status. Total.
    pub fn decode(status: u32) -> Self {
        let low = (status & 0x7f) as i32;
        let high = ((status >> 8) & 0xff) as i32;
        match low {
            0 => WaitStatus::Exited(high),
            0x7f if status & 0xffff == 0xffff => WaitStatus::Continued,
            0x7f if status & 0x80 != 0 => WaitStatus::Unknown(status),
            0x7f => WaitStatus::Stopped(StopReason::decode(high, ((status >> 16) & 0xff) as u8)),
            signal => WaitStatus::Signaled {
                signal,
                core: status & 0x80 != 0,
            },
        }
    }
}

impl StopReason {
    fn decode(signal: i32, event: u8) -> Self {
        match (event, signal) {
            (0, sig) if sig == libc::SIGTRAP | SYSGOOD => StopReason::Syscall,
            (0, libc::SIGTRAP) => StopReason::Trap,
            (0, sig) => StopReason::SignalDelivery(sig),
            (PTRACE_EVENT_STOP, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) => {
                StopReason::Group(signal)
            }
            (PTRACE_EVENT_STOP, _) => StopReason::Interrupt,
            (code, _) => StopReason::Event(Event::decode(code)),
        }
    }

    /// What a SIGTRAP means, by `si_code` of its siginfo.
    ///
    /// The codes are those of arch/x86/kernel (traps.c, ptrace.c): a step gives TRAP_TRACE, a step that ended in a
    /// system call TRAP_BRKPT, a step that entered a signal handler the bare number SIGTRAP; a debug register gives
    /// TRAP_HWBKPT, `int3` SI_KERNEL; what kill, tgkill and sigqueue send is zero or negative.
    pub fn from_trap_code(si_code: i32) -> Self {
        const TRAP_BRKPT: i32 = 1;
        const TRAP_TRACE: i32 = 2;
        const TRAP_HWBKPT: i32 = 4;
        match si_code {
            TRAP_BRKPT | TRAP_TRACE | libc::SIGTRAP => StopReason::Step,
            TRAP_HWBKPT => StopReason::Breakpoint,
            code if code <= 0 => StopReason::SignalDelivery(libc::SIGTRAP),
            _ => StopReason::ProgramTrap,
        }
    }

    /// The signal that must be passed on when the thread is resumed, if any.
    pub fn pending_signal(self) -> Option<i32> {
        match self {
            StopReason::SignalDelivery(signal) => Some(signal),
            StopReason::ProgramTrap => Some(libc::SIGTRAP),
            _ => None,
        }
    }
}

impl Event {
    fn decode(code: u8) -> Self {
        match i32::from(code) {
            libc::PTRACE_EVENT_FORK => Event::Fork,
            libc::PTRACE_EVENT_VFORK => Event::Vfork,
            libc::PTRACE_EVENT_CLONE => Event::Clone,
            libc::PTRACE_EVENT_EXEC => Event::Exec,
            libc::PTRACE_EVENT_VFORK_DONE => Event::VforkDone,
            libc::PTRACE_EVENT_EXIT => Event::Exit,
            libc::PTRACE_EVENT_SECCOMP => Event::Seccomp,
            _ => Event::Other(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_statuses() {
        use StopReason::*;
        let table = [
            (0x0000_0000, WaitStatus::Exited(0)),
            (0x0000_2a00, WaitStatus::Exited(42)),
            (0x0000_ff00, WaitStatus::Exited(255)),
            (0x0000_0009, WaitStatus::Signaled { signal: 9, core: false }),
            (0x0000_008b, WaitStatus::Signaled { signal: 11, core: true }),
            (
                0x0000_0022,
                WaitStatus::Signaled {
                    signal: 34,
                    core: false,
                },
            ),
            (0x0000_057f, WaitStatus::Stopped(Trap)),
            (0x0000_857f, WaitStatus::Stopped(Syscall)),
            (0x0000_227f, WaitStatus::Stopped(SignalDelivery(34))),
            (0x0000_407f, WaitStatus::Stopped(SignalDelivery(64))),
            (0x0000_137f, WaitStatus::Stopped(SignalDelivery(libc::SIGSTOP))),
            (0x0080_057f, WaitStatus::Stopped(Interrupt)),
            (0x0080_137f, WaitStatus::Stopped(Group(libc::SIGSTOP))),
            (0x0080_147f, WaitStatus::Stopped(Group(libc::SIGTSTP))),
            (0x0001_057f, WaitStatus::Stopped(Event(super::Event::Fork))),
            (0x0003_057f, WaitStatus::Stopped(Event(super::Event::Clone))),
            (0x0004_057f, WaitStatus::Stopped(Event(super::Event::Exec))),
            (0x0006_057f, WaitStatus::Stopped(Event(super::Event::Exit))),
            (0x0055_057f, WaitStatus::Stopped(Event(super::Event::Other(0x55)))),
            (0x0000_ffff, WaitStatus::Continued),
        ];
        for (raw, want) in table {
            assert_eq!(WaitStatus::decode(raw), want, "{raw:#x}");
        }
    }

    proptest! {
        /// Total, and in agreement with the libc macros on what they know.
        #[test]
        fn every_status_decodes_as_libc_says(raw in any::<u32>()) {
            let status = raw as i32;
            match WaitStatus::decode(raw) {
                WaitStatus::Exited(code) => {
                    prop_assert!(libc::WIFEXITED(status));
                    prop_assert_eq!(code, libc::WEXITSTATUS(status));
                }
                WaitStatus::Signaled { signal, core } => {
                    prop_assert!(libc::WIFSIGNALED(status));
                    prop_assert_eq!(signal, libc::WTERMSIG(status));
                    prop_assert_eq!(core, libc::WCOREDUMP(status));
                }
                WaitStatus::Stopped(reason) => {
                    prop_assert!(libc::WIFSTOPPED(status));
                    if let StopReason::SignalDelivery(signal) | StopReason::Group(signal) = reason {
                        prop_assert_eq!(signal, libc::WSTOPSIG(status));
                    }
                }
                WaitStatus::Continued => prop_assert_eq!(raw & 0xffff, 0xffff),
                WaitStatus::Unknown(_) => {
                    prop_assert!(!libc::WIFEXITED(status) && !libc::WIFSIGNALED(status) && !libc::WIFSTOPPED(status));
                    prop_assert_eq!(raw & 0xff, 0xff);
                }
            }
        }
    }
}
