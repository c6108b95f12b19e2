//! One error type: what was tried, on whom, what the kernel said, and who can do something about it.

use nix::errno::Errno;
use std::time::Duration;

use crate::process;
use crate::wait::Death;

/// The result of an operation on another process.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on another process failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The thread or process died (or was never there). Reaping it tells how: see [`crate::thread::Stopped::resume`].
    #[error("{operation} of {pid}: it is gone")]
    Gone {
        /// What was tried.
        operation: &'static str,
        /// The thread or process.
        pid: i32,
    },
    /// The thread died while we waited for it.
    #[error("{operation} of {pid}: {death}")]
    Died {
        /// What was tried.
        operation: &'static str,
        /// The thread.
        pid: i32,
        /// How it ended.
        death: Death,
    },
    /// The kernel refused.
    #[error("{operation} of {pid}: {errno}{advice}")]
    Os {
        /// What was tried.
        operation: &'static str,
        /// The thread or process.
        pid: i32,
        /// What the kernel said.
        errno: Errno,
        /// What to do about it, starting with a separator; empty when there is nothing to say.
        advice: String,
    },
    /// Memory of the target that is not there, or not with the needed permission.
    #[error("{operation} {len} bytes at {address:#x} of {pid}: {errno}, {done} bytes done")]
    Memory {
        /// "read" or "write".
        operation: &'static str,
        /// The process.
        pid: i32,
        /// First byte wanted.
        address: u64,
        /// Bytes wanted.
        len: usize,
        /// Bytes transferred before the refusal.
        done: usize,
        /// What the kernel said.
        errno: Errno,
    },
    /// Something did not happen in time. The thread is stopped again unless the text says otherwise.
    #[error("{operation} of {pid}: not done after {after:?}")]
    Timeout {
        /// What was tried.
        operation: &'static str,
        /// The thread.
        pid: i32,
        /// How long we waited.
        after: Duration,
    },
    /// The thread is not in a state in which this can be done.
    #[error("{operation} of {pid}: {detail}")]
    State {
        /// What was tried.
        operation: &'static str,
        /// The thread.
        pid: i32,
        /// Why not, and who must act.
        detail: String,
    },
    /// A file that should describe the target does not parse.
    #[error("{what} of {pid}: {detail}")]
    Parse {
        /// Which file.
        what: String,
        /// The process.
        pid: i32,
        /// What is wrong with it.
        detail: String,
    },
}

impl Error {
    /// An OS error of `operation` on `pid`; `ESRCH` becomes [`Error::Gone`].
    pub(crate) fn os(operation: &'static str, pid: i32, errno: Errno) -> Self {
        match errno {
            Errno::ESRCH => Error::Gone { operation, pid },
            _ => Error::Os {
                operation,
                pid,
                errno,
                advice: String::new(),
            },
        }
    }

    /// The error of a refused attach, with the cause and the cure.
    pub(crate) fn attach(pid: i32, errno: Errno) -> Self {
        match errno {
            Errno::EPERM => Error::Os {
                operation: "attach (PTRACE_SEIZE)",
                pid,
                errno,
                advice: attach_advice(pid),
            },
            _ => Error::os("attach (PTRACE_SEIZE)", pid, errno),
        }
    }

    /// True when the cause is that the thread or process no longer exists.
    pub fn is_gone(&self) -> bool {
        matches!(
            self,
            Error::Gone { .. }
                | Error::Died { .. }
                | Error::Memory {
                    errno: Errno::ESRCH,
                    ..
                }
        )
    }
}

/// Where Yama keeps its setting; the file is absent on kernels built without it.
const YAMA: &str = "/proc/sys/kernel/yama/ptrace_scope";

/// Why PTRACE_SEIZE said EPERM, most specific cause first, and what changes it.
fn attach_advice(pid: i32) -> String {
    let status = process::Status::read(pid).ok();
    if let Some(status) = &status {
        if status.tracer_pid != 0 {
            let name = process::comm(status.tracer_pid).unwrap_or_else(|_| "?".into());
            return format!(
                ": already traced by {} ({name}), and a thread has one tracer at a time; detach or end that one first",
                status.tracer_pid
            );
        }
        // SAFETY: geteuid has no preconditions and cannot fail.
        let own = unsafe { libc::geteuid() };
        if own != 0 && own != status.uid {
            return format!(
                ": it runs as uid {} and this process as uid {own}; run this as that user, or as root",
                status.uid
            );
        }
        if matches!(status.state, 'Z' | 'X') {
            return ": it has already ended (a zombie); its parent must reap it".into();
        }
    }
    let scope = std::fs::read_to_string(YAMA).ok();
    yama_advice(scope.as_deref().map(str::trim))
}

/// What a value of Yama's setting means for us.
fn yama_advice(scope: Option<&str>) -> String {
    match scope {
        None | Some("0") => ": refused although no other tracer is there and Yama is off; the process may not be \
             dumpable (setuid, file capabilities, prctl PR_SET_DUMPABLE) or a security module forbids it; try as root"
            .into(),
        Some(scope @ "1") => format!(
            ": {YAMA} is {scope}, which allows tracing one's own descendants only; start the program with \
             `redmagic run`, or as root: sysctl kernel.yama.ptrace_scope=0"
        ),
        Some(scope @ "2") => format!(
            ": {YAMA} is {scope}, which needs CAP_SYS_PTRACE; run this as root, or as root: \
             sysctl kernel.yama.ptrace_scope=1"
        ),
        Some(scope) => format!(
            ": {YAMA} is {scope}, which forbids ptrace until the next boot; whoever administers this machine must \
             boot it with kernel.yama.ptrace_scope=1"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yama_advice_quotes_the_value_and_the_command() {
        assert!(yama_advice(Some("1")).contains("ptrace_scope is 1"));
        assert!(yama_advice(Some("1")).contains("sysctl kernel.yama.ptrace_scope=0"));
        assert!(yama_advice(Some("2")).contains("sysctl kernel.yama.ptrace_scope=1"));
        assert!(yama_advice(Some("3")).contains("next boot"));
        assert!(!yama_advice(None).contains("sysctl"));
    }
}
