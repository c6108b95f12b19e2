//! System calls and function calls that the target makes on our behalf.
//!
//! # How
//! A [`Remote`] is a scope around a stopped thread. Making one saves the thread's registers, its vector state, its signal
//! mask and the signal it was stopped for; blocks all signals but the ones that the thread's own instructions raise; and finds a
//! `syscall` instruction in the target. Ending it ([`Remote::finish`], or dropping) puts everything back.
//!
//! # The interrupted system call
//! A thread that was stopped in `nanosleep`, `futex` or `read` sits in the kernel's signal code with
//! `rax = -ERESTART...` and `orig_rax` = the call. Only that code turns the pair into a restart or an `EINTR`, after the
//! tracer resumes the thread. So
//! 1. `orig_rax = -1` goes in with the first changed registers, else the kernel would "restart" ours;
//! 2. our own calls are followed with PTRACE_SYSCALL, which raises no SIGTRAP (a program that blocks or ignores that
//!    signal would lose its disposition, see `force_sig_info_to_task`) and leaves no trap flag behind if we die;
//! 3. at the end the thread must be back in the signal code when the old registers are restored: an interrupt is requested, the
//!    thread resumed, and it stops there before it gets to user space.
//!
//! A signal that the thread was stopped for was already taken from the queue, and can be delivered only from a signal stop. So it is
//! sent again, waited for with everything else blocked, and given its old siginfo back.
//!
//! # Preconditions and limits
//! * The thread must be in user space or in the signal code: not in a job-control stop, nor in a ptrace event.
//! * If the tracer is killed within the scope, the target goes on with our registers and most likely crashes. Keep it short.
//! * A seccomp filter of the target judges our calls as its own.
//! * An rseq critical section that the thread was stopped in is resumed without its abort handler being run (glibc has none).
//! * [`Remote::call`] pushes a return address, which a user shadow stack (CET) would refuse.

use std::time::{Duration, Instant};

use crate::breakpoint::Breakpoint;
use crate::error::{Error, Result};
use crate::maps::Maps;
use crate::memory::{Memory, PAGE};
use crate::process::Status;
use crate::regs::{Gprs, XState};
use crate::thread::{Resume, SigInfo, Stop, Stopped};
use crate::wait::StopReason;

/// `syscall`.
const INSTRUCTION: [u8; 2] = [0x0f, 0x05];
/// What the ABI lets a leaf function use below rsp.
const RED_ZONE: u64 = 128;
/// Longest that one system call may take.
const SYSCALL_PATIENCE: Duration = Duration::from_secs(5);
/// Signals that an instruction can raise. The kernel forces them: to one that is blocked it gives the default action for good.
const SYNCHRONOUS: [i32; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
];

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// A scope in which a stopped thread works for us. See the module.
#[derive(Debug)]
pub struct Remote<'a> {
    thread: &'a mut Stopped,
    tgid: i32,
    saved: Gprs,
    xstate: XState,
    sigmask: u64,
    /// The signal that the thread was stopped for.
    signal: Option<(i32, SigInfo)>,
    /// A SIGSTOP (which cannot be blocked) came meanwhile.
    job_control: Option<i32>,
    syscall_at: u64,
    /// Where the next block of argument data ends.
    stack: u64,
    finished: bool,
}

impl<'a> Remote<'a> {
    /// Begins the scope.
    ///
    /// # Errors
    /// [`Error::State`] when the thread is not in a stop from which this works, or the target has no `syscall` instruction.
    pub fn new(thread: &'a mut Stopped) -> Result<Self> {
        let tid = thread.tid();
        let operation = "prepare remote system calls";
        match thread.reason() {
            StopReason::Group(signal) => {
                return Err(Error::State {
                    operation,
                    pid: tid,
                    detail: format!(
                        "job control has stopped it (signal {signal}); continue it first: kill -CONT {tid}"
                    ),
                });
            }
            StopReason::Event(event) => {
                return Err(Error::State {
                    operation,
                    pid: tid,
                    detail: format!("it is inside an event ({event:?})"),
                });
            }
            StopReason::Syscall => {
                return Err(Error::State {
                    operation,
                    pid: tid,
                    detail: "it is inside a system call".into(),
                });
            }
            _ => {}
        }
        let tgid = Status::read(tid)?.tgid;
        let syscall_at = find_syscall_instruction(tgid)?;
        let saved = thread.regs()?;
        let xstate = thread.xstate()?;
        let sigmask = thread.sigmask()?;
        let signal = match thread.pending_signal() {
            Some(number) => Some((number, thread.siginfo()?)),
            None => None,
        };
        let blocked = SYNCHRONOUS.iter().fold(u64::MAX, |mask, &s| mask & !bit(s));
        thread.set_sigmask(blocked | sigmask)?;
        let stack = saved.rsp.wrapping_sub(RED_ZONE) & !15;
        Ok(Remote {
            thread,
            tgid,
            saved,
            xstate,
            sigmask,
            signal,
            job_control: None,
            syscall_at,
            stack,
            finished: false,
        })
    }

    /// The process.
    pub fn tgid(&self) -> i32 {
        self.tgid
    }

    /// The memory of the process.
    pub fn memory(&self) -> Memory {
        Memory::new(self.tgid)
    }

    /// Puts `bytes` on the thread's stack, below everything that is live, 16-byte aligned; good until the end of the scope.
    ///
    /// # Errors
    /// [`Error::Memory`] when the stack has no room.
    pub fn push(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.stack.wrapping_sub(bytes.len() as u64) & !15;
        self.memory().write(at, bytes)?;
        self.stack = at;
        Ok(at)
    }

    /// Makes a system call; `Ok` holds what the kernel returned, `-errno` on failure of the call itself.
    ///
    /// # Errors
    /// [`Error::Died`]; [`Error::Timeout`] when it has not returned after five seconds; the kernel's refusals.
    pub fn syscall(&mut self, number: i64, arguments: [u64; 6]) -> Result<i64> {
        let mut regs = self.saved;
        regs.rip = self.syscall_at;
        regs.rsp = self.stack;
        regs.orig_rax = u64::MAX;
        regs.rax = number as u64;
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = arguments;
        self.thread.set_regs(&regs)?;
        self.run_to_syscall_stop()?;
        self.run_to_syscall_stop()?;
        Ok(self.thread.regs()?.rax as i64)
    }

    /// Makes a system call that must succeed.
    ///
    /// # Errors
    /// Those of [`Remote::syscall`], and [`Error::Os`] with the errno that the target got.
    pub fn syscall_ok(&mut self, operation: &'static str, number: i64, arguments: [u64; 6]) -> Result<u64> {
        let value = self.syscall(number, arguments)?;
        // The kernel returns errors as -4095..=-1.
        if (-4095..0).contains(&value) {
            let errno = nix::errno::Errno::from_raw(-value as i32);
            return Err(Error::Os {
                operation,
                pid: self.thread.tid(),
                errno,
                advice: " (said to the target)".into(),
            });
        }
        Ok(value as u64)
    }

    fn run_to_syscall_stop(&mut self) -> Result<()> {
        let deadline = Instant::now() + SYSCALL_PATIENCE;
        loop {
            match self.resume(Resume::Syscall, deadline)? {
                StopReason::Syscall => return Ok(()),
                other => self.absorb("make a remote system call", other)?,
            }
        }
    }

    /// Resumes until any stop; being late or dead is an error.
    fn resume(&mut self, how: Resume, deadline: Instant) -> Result<StopReason> {
        let left = deadline.saturating_duration_since(Instant::now());
        let tid = self.thread.tid();
        match self.thread.resume_and_wait(how, None, Some(left))? {
            Stop::At(reason) => Ok(reason),
            Stop::TimedOut => Err(Error::Timeout {
                operation: "work for the tracer",
                pid: tid,
                after: SYSCALL_PATIENCE,
            }),
            Stop::Dead(death) => Err(Error::Died {
                operation: "work for the tracer",
                pid: tid,
                death,
            }),
        }
    }

    /// Deals with a stop that is not the one waited for.
    fn absorb(&mut self, operation: &'static str, reason: StopReason) -> Result<()> {
        match reason {
            // Stale interrupts, and job-control stops that end as soon as the thread is resumed.
            StopReason::Interrupt | StopReason::Group(_) => Ok(()),
            // The only signal that gets past the mask without being raised by an instruction.
            StopReason::SignalDelivery(libc::SIGSTOP) => {
                self.job_control = Some(libc::SIGSTOP);
                Ok(())
            }
            other => Err(Error::State {
                operation,
                pid: self.thread.tid(),
                detail: format!("stopped for {other:?} instead"),
            }),
        }
    }

    /// Calls the function at `address` with up to six integer arguments and waits until it returns; gives its `rax`.
    ///
    /// The function runs with signals blocked. A function that waits for another (stopped) thread, say for malloc's lock, will not
    /// return in time.
    ///
    /// # Errors
    /// [`Error::Timeout`]: it was abandoned half-way; whether that leaves the target sound depends on the function.
    /// [`Error::State`]: it raised a signal. [`Error::Died`].
    pub fn call(&mut self, address: u64, arguments: [u64; 6], timeout: Duration) -> Result<u64> {
        const DIRECTION_FLAG: u64 = 1 << 10;
        let tid = self.thread.tid();
        let mut regs = self.saved;
        // As after a call: rsp + 8 is a multiple of 16.
        let rsp = (self.stack & !15) - 8;
        regs.rip = address;
        regs.rsp = rsp;
        regs.rax = 0;
        regs.orig_rax = u64::MAX;
        regs.rflags &= !DIRECTION_FLAG;
        [regs.rdi, regs.rsi, regs.rdx, regs.rcx, regs.r8, regs.r9] = arguments;
        self.thread.set_regs(&regs)?;
        // It returns to an address that cannot be executed, and the SIGSEGV is caught. A fault's signal is forced: a program that
        // blocks or ignores it would lose that. For such a program there is a debug register at the return address, which raises
        // SIGTRAP in the same way, and takes the kernel some milliseconds to set: the first one of a machine waits for all
        // processors.
        let ignored = Status::read(tid)?.ignored | self.sigmask;
        let breakpoint = if ignored & bit(libc::SIGSEGV) != 0 && ignored & bit(libc::SIGTRAP) == 0 {
            Breakpoint::set(self.thread, 3, self.syscall_at).ok()
        } else {
            None
        };
        let return_to = if breakpoint.is_some() { self.syscall_at } else { 0 };
        self.memory().write_u64(rsp, return_to)?;
        let deadline = Instant::now() + timeout;
        let result = loop {
            let reason = match self.resume(Resume::Cont, deadline) {
                Ok(reason) => reason,
                Err(Error::Timeout { pid, .. }) => {
                    break Err(Error::Timeout {
                        operation: "call a function",
                        pid,
                        after: timeout,
                    });
                }
                Err(error) => break Err(error),
            };
            let now = self.thread.regs()?;
            let returned = now.rip == return_to && now.rsp == rsp + 8;
            match reason {
                StopReason::Breakpoint | StopReason::SignalDelivery(libc::SIGSEGV) if returned => {
                    break Ok(now.rax);
                }
                // The same `syscall` instruction, reached by the function itself.
                StopReason::Breakpoint => {}
                other => {
                    if let Err(error) = self.absorb("call a function", other) {
                        break Err(error);
                    }
                }
            }
        };
        if let Some(breakpoint) = breakpoint {
            breakpoint.clear(self.thread)?;
        }
        self.thread.set_pending_signal(None);
        self.thread.set_xstate(&self.xstate)?;
        result
    }

    /// Ends the scope: the thread is as it was when it began, in a stop from which it goes on as if nothing had been.
    ///
    /// # Errors
    /// [`Error::Died`]; an error that leaves the thread with our registers is fatal for the target and cannot be helped.
    pub fn finish(mut self) -> Result<()> {
        self.restore()
    }

    fn restore(&mut self) -> Result<()> {
        self.finished = true;
        if self.thread.death().is_some() {
            return Ok(());
        }
        // Somewhere harmless, with no system call to restart, until we are back in the signal code.
        let mut regs = self.saved;
        regs.orig_rax = u64::MAX;
        self.thread.set_regs(&regs)?;
        self.return_to_signal_code()?;
        self.thread.set_xstate(&self.xstate)?;
        self.thread.set_regs(&self.saved)?;
        self.thread.set_sigmask(self.sigmask)?;
        if let Some(signal) = self.job_control {
            // SAFETY: kill takes two integers. A SIGSTOP that a remote call swallowed is due to the whole process.
            unsafe { libc::kill(self.tgid, signal) };
        }
        Ok(())
    }

    /// Gets the thread into a stop in the kernel's signal code: a new interrupt stop or, when a signal is owed, the delivery of that
    /// signal.
    fn return_to_signal_code(&mut self) -> Result<()> {
        let deadline = Instant::now() + SYSCALL_PATIENCE;
        let wanted = match self.signal {
            Some((number, _)) => {
                self.thread.set_sigmask(!bit(number))?;
                // SAFETY: tgkill takes three integers.
                unsafe { libc::syscall(libc::SYS_tgkill, self.tgid, self.thread.tid(), number) };
                StopReason::SignalDelivery(number)
            }
            None => {
                self.thread.interrupt_on_resume()?;
                StopReason::Interrupt
            }
        };
        loop {
            let reason = self.resume(Resume::Cont, deadline)?;
            if reason == wanted {
                break;
            }
            match (self.signal, reason) {
                // A program's own trap comes back as what it now is, a sent SIGTRAP.
                (None, StopReason::Group(_)) => break,
                _ => self.absorb("end remote system calls", reason)?,
            }
        }
        if let Some((number, info)) = self.signal {
            self.thread.set_siginfo(&info)?;
            self.thread.set_pending_signal(Some(number));
        }
        Ok(())
    }
}

impl Drop for Remote<'_> {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = self.restore()
        {
            tracing::warn!(tid = self.thread.tid(), %error, "a thread could not be restored");
        }
    }
}

/// Finds a `syscall` instruction: the vdso has one, and libc many. Two bytes in the middle of another instruction do as well.
fn find_syscall_instruction(pid: i32) -> Result<u64> {
    /// Read at a time.
    const CHUNK: u64 = 64 * PAGE;
    let maps = Maps::read(pid)?;
    let memory = Memory::new(pid);
    let mut regions: Vec<_> = maps
        .regions()
        .iter()
        .filter(|r| r.perms.exec && r.perms.read && r.path != "[vsyscall]")
        .collect();
    regions.sort_by_key(|r| r.path != "[vdso]");
    let mut buffer = vec![0; CHUNK as usize];
    for region in regions {
        let mut at = region.start;
        while at < region.end {
            let want = (region.end - at).min(CHUNK) as usize;
            let have = memory.read_partial(at, &mut buffer[..want])?;
            if let Some(offset) = buffer[..have].windows(2).position(|w| w == INSTRUCTION) {
                return Ok(at + offset as u64);
            }
            at += CHUNK;
        }
    }
    Err(Error::State {
        operation: "prepare remote system calls",
        pid,
        detail: "no `syscall` instruction in any executable mapping".into(),
    })
}
