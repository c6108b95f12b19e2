//! What `/proc` knows about a process, and all of its threads.

use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::thread::{self, Options, Stopped, WaitOutcome};

/// Passes of [`stop_all`] over the task list before it gives up on a process that makes threads faster than they are stopped. A
/// stopped thread makes none, so each pass needs a new thread that was made by one not yet stopped.
const MAX_PASSES: usize = 1000;

/// Reads `/proc/PID/NAME`.
pub(crate) fn read_proc(pid: i32, name: &str) -> Result<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/{name}")).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) | None => Error::Gone {
            operation: "look at /proc",
            pid,
        },
        Some(errno) => Error::Os {
            operation: "look at /proc",
            pid,
            errno: Errno::from_raw(errno),
            advice: format!(": /proc/{pid}/{name} cannot be read; run this as the user of that process, or as root"),
        },
    })
}

fn parse_error(pid: i32, name: &str, detail: impl Into<String>) -> Error {
    Error::Parse {
        what: format!("/proc/{pid}/{name}"),
        pid,
        detail: detail.into(),
    }
}

/// The interesting lines of `/proc/PID/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// R running, S sleeping, D uninterruptible, T stopped, t traced, Z zombie, X dead, I idle.
    pub state: char,
    /// The process that this is a thread of.
    pub tgid: i32,
    /// Parent process.
    pub ppid: i32,
    /// Who traces it; 0 for nobody.
    pub tracer_pid: i32,
    /// Effective user id.
    pub uid: u32,
    /// Signals with a handler; bit `n - 1` stands for signal `n`.
    pub caught: u64,
    /// Signals that are ignored.
    pub ignored: u64,
    /// Signals that this thread blocks.
    pub blocked: u64,
}

impl Status {
    /// Reads the status of a thread or process.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn read(pid: i32) -> Result<Self> {
        let bytes = read_proc(pid, "status")?;
        Status::parse(&String::from_utf8_lossy(&bytes)).map_err(|key| parse_error(pid, "status", format!("no {key}")))
    }

    fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        // The first line is "Name:" with the program's own choice of characters, newlines escaped: keys start lines.
        let fields: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once(":\t")).collect();
        let field = |key: &'static str| fields.get(key).copied().ok_or(key);
        let number = |key: &'static str| field(key)?.trim().parse::<i32>().map_err(|_| key);
        let set = |key: &'static str| u64::from_str_radix(field(key)?.trim(), 16).map_err(|_| key);
        Ok(Status {
            state: field("State")?.chars().next().ok_or("State")?,
            tgid: number("Tgid")?,
            ppid: number("PPid")?,
            tracer_pid: number("TracerPid")?,
            uid: field("Uid")?
                .split_whitespace()
                .nth(1)
                .and_then(|v| v.parse().ok())
                .ok_or("Uid")?,
            caught: set("SigCgt")?,
            ignored: set("SigIgn")?,
            blocked: set("SigBlk")?,
        })
    }

    /// Whether the process has a handler for `signal` (1..=64).
    pub fn catches(&self, signal: i32) -> bool {
        (1..=64).contains(&signal) && self.caught >> (signal - 1) & 1 == 1
    }
}

/// The name of a thread (at most 15 bytes).
///
/// # Errors
/// [`Error::Gone`].
pub fn comm(pid: i32) -> Result<String> {
    Ok(String::from_utf8_lossy(&read_proc(pid, "comm")?).trim_end().to_owned())
}

/// Whether a thread is traced by a thread of this process.
pub fn is_traced_here(tid: i32) -> bool {
    let tracer = Status::read(tid).map_or(0, |status| status.tracer_pid);
    tracer != 0 && threads(std::process::id() as i32).is_ok_and(|own| own.contains(&tracer))
}

/// The fields of `/proc/PID/stat` after the name; index 0 is field 3 of proc(5), the state.
fn stat_field(pid: i32, name: &str, field: usize) -> Result<u64> {
    let bytes = read_proc(pid, name)?;
    let text = String::from_utf8_lossy(&bytes);
    // The name is in parentheses and may hold spaces and parentheses itself.
    let rest = text
        .rsplit_once(')')
        .map(|(_, rest)| rest)
        .ok_or_else(|| parse_error(pid, name, "no name"))?;
    rest.split_whitespace()
        .nth(field - 3)
        .and_then(|v| v.parse().ok())
        .ok_or_else(|| parse_error(pid, name, format!("no field {field}")))
}

/// When the process started, in clock ticks since boot: together with the pid it names a process for good.
///
/// # Errors
/// [`Error::Gone`].
pub fn start_time(pid: i32) -> Result<u64> {
    stat_field(pid, "stat", 22)
}

/// The processor that a thread ran on last.
///
/// # Errors
/// [`Error::Gone`].
pub fn last_cpu(tid: i32) -> Result<usize> {
    // /proc/TID finds threads too, though they are not listed there.
    stat_field(tid, "stat", 39).map(|cpu| cpu as usize)
}

/// A descriptor that polls readable when the process is dead, and that never means another process with the same pid.
///
/// # Errors
/// [`Error::Gone`]; EINVAL when `pid` is a thread other than the first.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = Errno::result(fd).map_err(|e| Error::os("pidfd_open", pid, e))?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Whether the process runs a 32-bit program, by the class in its executable's ELF header.
///
/// # Errors
/// [`Error::Gone`]; EACCES; [`Error::Parse`] for a kernel thread or a file that is no ELF file.
pub fn is_32_bit(pid: i32) -> Result<bool> {
    use std::io::Read;
    let mut ident = [0u8; 5];
    std::fs::File::open(format!("/proc/{pid}/exe"))
        .and_then(|mut f| f.read_exact(&mut ident))
        .map_err(|e| match e.raw_os_error() {
            Some(libc::ESRCH) => Error::Gone {
                operation: "open the executable",
                pid,
            },
            Some(errno) if errno != libc::ENOENT => Error::os("open the executable", pid, Errno::from_raw(errno)),
            _ => parse_error(pid, "exe", e.to_string()),
        })?;
    match ident {
        [0x7f, b'E', b'L', b'F', 1] => Ok(true),
        [0x7f, b'E', b'L', b'F', 2] => Ok(false),
        _ => Err(parse_error(pid, "exe", "not an ELF file")),
    }
}

/// Whether a process has this thread. No file of `/proc` is read for it: threads wait for the answer.
pub fn has_thread(pid: i32, tid: i32) -> bool {
    // SAFETY: no memory is passed, and signal 0 is none.
    let found = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) };
    found == 0 || Errno::last() == Errno::EPERM
}

/// The threads of a process, ascending.
///
/// # Errors
/// [`Error::Gone`].
pub fn threads(pid: i32) -> Result<Vec<i32>> {
    let gone = |_| Error::Gone {
        operation: "list the threads",
        pid,
    };
    let mut tids = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(gone)? {
        // The list ends early, with an error, when the process dies while it is read.
        if let Some(tid) = entry.map_err(gone)?.file_name().to_str().and_then(|n| n.parse().ok()) {
            tids.push(tid);
        }
    }
    tids.sort_unstable();
    Ok(tids)
}

/// Seizes and stops every thread of a process.
///
/// Threads may be made while we list them, but not by a stopped thread: when a pass over the list finds only threads that are stopped
/// already, there are no others. Threads that die meanwhile are left out. Dropping what is returned lets all go.
///
/// # Errors
/// That of the first thread that could not be seized or stopped; those stopped before are let go.
pub fn stop_all(pid: i32, options: Options) -> Result<Vec<Stopped>> {
    let mut stopped: BTreeMap<i32, Option<Stopped>> = BTreeMap::new();
    for _ in 0..MAX_PASSES {
        let mut found_new = false;
        for tid in threads(pid)? {
            if stopped.contains_key(&tid) {
                continue;
            }
            found_new = true;
            let thread = match thread::seize_and_stop(tid, options) {
                Ok(WaitOutcome::Stopped(thread)) => Some(thread),
                Ok(WaitOutcome::Dead(_)) => None,
                Err(error) if error.is_gone() => None,
                // A zombie leader stays in the list until the last thread is gone, and cannot be seized.
                Err(error) => match Status::read(tid) {
                    Ok(status) if !matches!(status.state, 'Z' | 'X') => return Err(error),
                    _ => None,
                },
            };
            stopped.insert(tid, thread);
        }
        if !found_new {
            let all: Vec<Stopped> = stopped.into_values().flatten().collect();
            return if all.is_empty() {
                Err(Error::Gone {
                    operation: "stop all threads",
                    pid,
                })
            } else {
                Ok(all)
            };
        }
    }
    Err(Error::State {
        operation: "stop all threads",
        pid,
        detail: format!("new threads still appear after {MAX_PASSES} passes; try again when it is calmer"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process() {
        let pid = std::process::id() as i32;
        let status = Status::read(pid).unwrap();
        // SAFETY: geteuid has no preconditions.
        let uid = unsafe { libc::geteuid() };
        assert_eq!((status.tgid, status.tracer_pid, status.uid), (pid, 0, uid));
        assert!(!is_32_bit(pid).unwrap());
        assert!(start_time(pid).unwrap() > 0);
        assert!(threads(pid).unwrap().contains(&pid) && has_thread(pid, pid));
        pidfd_open(pid).unwrap();
        last_cpu(pid).unwrap();
    }

    #[test]
    fn no_such_process_is_gone() {
        // Above the largest pid_max of the kernel (2^22).
        let pid = (1 << 22) + 1;
        assert!(Status::read(pid).unwrap_err().is_gone());
        assert!(threads(pid).unwrap_err().is_gone());
        assert!(!has_thread(pid, pid) && !has_thread(std::process::id() as i32, 1));
        assert!(pidfd_open(pid).unwrap_err().is_gone());
        assert!(stop_all(pid, Options::default()).unwrap_err().is_gone());
        assert!(thread::seize(pid, Options::default()).unwrap_err().is_gone());
    }
}
