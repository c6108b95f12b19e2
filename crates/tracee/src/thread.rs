//! A traced thread, with its states as types.
//!
//! ```text
//!   seize ──> Running ──wait──> Stopped ──step/cont/listen──> Running
//!               │  └──wait──> Death          └──detach──> (not traced)
//! ```
//!
//! * A [`Running`] has no registers to ask for. A [`Stopped`] has.
//! * Death is a value. SIGKILL can hit a stopped thread at any instant, so a method of `Stopped` may say
//!   [`Error::Gone`]; resuming such a thread succeeds, and waiting for it then tells the [`Death`].
//! * Dropping a `Stopped` detaches it, with the signal it was stopped for. Dropping a `Running` stops it first. A thread is
//!   never left behind in a stop that nobody will end. (When the tracing thread itself dies, the kernel detaches.)
//! * The kernel takes ptrace requests only from the thread that attached, so both types are `!Send`.
//!
//! Loops that step many times use [`Stopped::resume_and_wait`], which keeps the value in its place.

use std::marker::PhantomData;
use std::mem::{MaybeUninit, size_of};
use std::time::Duration;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::regs::{Gprs, XSTATE_MAX, XState};
use crate::timer;
use crate::wait::{Death, StopReason, WaitStatus};

/// How long a thread may take to answer PTRACE_INTERRUPT before it is given up as unresponsive (uninterruptible sleep).
const INTERRUPT_PATIENCE: Duration = Duration::from_secs(2);

/// The note type of the XSAVE area (`linux/elf.h`; the libc crate lacks it).
const NT_X86_XSTATE: usize = 0x202;

/// The kernel's siginfo, opaque but for its first three words.
pub type SigInfo = libc::siginfo_t;

/// Which events stop the thread (bits of PTRACE_SETOPTIONS). TRACESYSGOOD is always set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options(i32);

impl Options {
    /// Stop when execve has succeeded.
    pub const EXEC: Options = Options(libc::PTRACE_O_TRACEEXEC);
    /// Stop just before the thread dies.
    pub const EXIT: Options = Options(libc::PTRACE_O_TRACEEXIT);
    /// Stop at fork and attach to the child.
    pub const FORK: Options = Options(libc::PTRACE_O_TRACEFORK);
    /// Stop at vfork and attach to the child.
    pub const VFORK: Options = Options(libc::PTRACE_O_TRACEVFORK);
    /// Stop at clone and attach to the new thread.
    pub const CLONE: Options = Options(libc::PTRACE_O_TRACECLONE);

    /// Both sets of events.
    #[must_use]
    pub const fn and(self, other: Options) -> Options {
        Options(self.0 | other.0)
    }
}

/// How to resume a stopped thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// One instruction.
    Step,
    /// Until something happens.
    Cont,
    /// Until the next entry to or return from a system call.
    Syscall,
    /// Stay in the job-control stop, but hear about its end.
    Listen,
}

/// What waiting for a running thread gave.
#[derive(Debug)]
pub enum WaitOutcome {
    /// It is stopped; see [`Stopped::reason`].
    Stopped(Stopped),
    /// It is dead.
    Dead(Death),
}

/// What waiting with a limit gave.
#[derive(Debug)]
pub enum TimedOutcome {
    /// Something happened.
    Done(WaitOutcome),
    /// Nothing happened in time.
    Running(Running),
}

/// What [`Stopped::resume_and_wait`] gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The thread is stopped for this reason.
    At(StopReason),
    /// Time was up; the thread was interrupted and is stopped.
    TimedOut,
    /// The thread is dead, and the [`Stopped`] is an empty shell.
    Dead(Death),
}

/// Raw ptrace handle; private so that states cannot be forged.
#[derive(Debug)]
struct Handle {
    tid: i32,
    not_send: PhantomData<*const ()>,
}

/// A seized thread that runs.
#[derive(Debug)]
pub struct Running {
    /// `None` only after the state was handed on.
    handle: Option<Handle>,
}

/// A seized thread that is stopped and ours to look at.
#[derive(Debug)]
pub struct Stopped {
    /// `None` only after the state was handed on.
    handle: Option<Handle>,
    reason: StopReason,
    /// The signal to pass on at detach, so that dropping loses none.
    pending: Option<i32>,
    dead: Option<Death>,
}

/// `ptrace` with integer arguments.
///
/// # Safety
/// For `request`, the kernel must not write to `addr` or `data` of this process, or they must be valid for that.
unsafe fn ptrace(request: u32, tid: i32, addr: usize, data: usize) -> Result<i64, Errno> {
    // SAFETY: the caller's promise.
    Errno::result(unsafe { libc::ptrace(request, tid, addr, data) })
}

/// Attaches to one thread without stopping it.
///
/// # Errors
/// [`Error::Gone`] when there is no such thread; EPERM with its cause and cure.
pub fn seize(tid: i32, options: Options) -> Result<Running> {
    let options = options.0 | libc::PTRACE_O_TRACESYSGOOD;
    // SAFETY: PTRACE_SEIZE takes its options as an integer and writes nothing.
    unsafe { ptrace(libc::PTRACE_SEIZE, tid, 0, options as usize) }.map_err(|errno| Error::attach(tid, errno))?;
    Ok(Running {
        handle: Some(Handle {
            tid,
            not_send: PhantomData,
        }),
    })
}

/// Seizes a thread and stops it.
///
/// # Errors
/// Those of [`seize`]; [`Error::Timeout`] when it does not stop (uninterruptible sleep).
pub fn seize_and_stop(tid: i32, options: Options) -> Result<WaitOutcome> {
    seize(tid, options)?.stop()
}

impl Running {
    /// The thread id.
    pub fn tid(&self) -> i32 {
        self.handle.as_ref().expect("a Running in use has its handle").tid
    }

    /// Asks the thread to stop; the stop is seen by a later wait as [`StopReason::Interrupt`], unless another comes first
    /// (it then comes second).
    ///
    /// # Errors
    /// [`Error::Gone`] when it is dead.
    pub fn interrupt(&self) -> Result<()> {
        // SAFETY: PTRACE_INTERRUPT has no arguments.
        unsafe { ptrace(libc::PTRACE_INTERRUPT, self.tid(), 0, 0) }
            .map(drop)
            .map_err(|e| Error::os("interrupt", self.tid(), e))
    }

    /// Waits until the thread stops or dies.
    ///
    /// # Errors
    /// An unexpected errno of `waitpid`.
    pub fn wait(mut self) -> Result<WaitOutcome> {
        let handle = self.handle.take().expect("a Running in use has its handle");
        match timer::waitpid(handle.tid, None) {
            Ok(status) => Ok(outcome(handle, status.expect("no timeout was given"))),
            Err(Errno::ECHILD) => Ok(WaitOutcome::Dead(Death::Vanished)),
            Err(errno) => Err(Error::os("wait", handle.tid, errno)),
        }
    }

    /// Waits until the thread stops or dies, at most `timeout`.
    ///
    /// # Errors
    /// An unexpected errno of `waitpid` or of the timer.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<TimedOutcome> {
        let handle = self.handle.take().expect("a Running in use has its handle");
        match timer::waitpid(handle.tid, Some(timeout)) {
            Ok(Some(status)) => Ok(TimedOutcome::Done(outcome(handle, status))),
            Ok(None) => Ok(TimedOutcome::Running(Running { handle: Some(handle) })),
            Err(Errno::ECHILD) => Ok(TimedOutcome::Done(WaitOutcome::Dead(Death::Vanished))),
            Err(errno) => Err(Error::os("wait", handle.tid, errno)),
        }
    }

    /// Interrupts and waits. The stop may be for another reason than the interrupt.
    ///
    /// # Errors
    /// [`Error::Timeout`] after two seconds; the thread then runs on, attached until this (tracing) thread ends.
    pub fn stop(self) -> Result<WaitOutcome> {
        match self.interrupt() {
            Ok(()) | Err(Error::Gone { .. }) => {}
            Err(error) => return Err(error),
        }
        let tid = self.tid();
        match self.wait_timeout(INTERRUPT_PATIENCE)? {
            TimedOutcome::Done(outcome) => Ok(outcome),
            TimedOutcome::Running(mut running) => {
                // Its Drop would wait just as long again, and in vain.
                running.handle = None;
                Err(Error::Timeout {
                    operation: "stop",
                    pid: tid,
                    after: INTERRUPT_PATIENCE,
                })
            }
        }
    }

    /// Stops the thread and lets it go, with the signal that it happened to stop for.
    ///
    /// # Errors
    /// Those of [`Running::stop`]. That it died is no error.
    pub fn detach(self) -> Result<()> {
        match self.stop()? {
            WaitOutcome::Stopped(mut stopped) => {
                stopped.release();
                Ok(())
            }
            WaitOutcome::Dead(_) => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            let tid = handle.tid;
            if let Err(error) = (Running { handle: Some(handle) }).detach() {
                tracing::warn!(tid, %error, "a thread that was let go could not be detached");
            }
        }
    }
}

fn outcome(handle: Handle, status: u32) -> WaitOutcome {
    match WaitStatus::decode(status) {
        WaitStatus::Exited(code) => WaitOutcome::Dead(Death::Exited(code)),
        WaitStatus::Signaled { signal, core } => WaitOutcome::Dead(Death::Signaled { signal, core }),
        // Continued is only reported with WCONTINUED; treating it as a stop makes the next request fail with ESRCH.
        WaitStatus::Continued | WaitStatus::Unknown(_) => stopped(handle, StopReason::Interrupt),
        WaitStatus::Stopped(reason) => stopped(handle, reason),
    }
}

fn stopped(handle: Handle, reason: StopReason) -> WaitOutcome {
    let mut stopped = Stopped {
        handle: Some(handle),
        reason,
        pending: None,
        dead: None,
    };
    stopped.arrive(reason);
    WaitOutcome::Stopped(stopped)
}

impl Stopped {
    /// The thread id.
    pub fn tid(&self) -> i32 {
        self.handle.as_ref().expect("a Stopped in use has its handle").tid
    }

    /// Why it stopped. Never [`StopReason::Trap`].
    pub fn reason(&self) -> StopReason {
        self.reason
    }

    /// The signal that it stopped for and that is lost unless passed on. Dropping and [`Stopped::release`] pass it on.
    pub fn pending_signal(&self) -> Option<i32> {
        self.pending
    }

    /// Replaces the signal that dropping will pass on.
    pub fn set_pending_signal(&mut self, signal: Option<i32>) {
        self.pending = signal;
    }

    /// How it died, if [`Stopped::resume_and_wait`] saw that.
    pub fn death(&self) -> Option<Death> {
        self.dead
    }

    /// Takes note of a new stop and tells the kinds of SIGTRAP apart.
    fn arrive(&mut self, reason: StopReason) {
        let reason = match reason {
            StopReason::Trap => match self.siginfo() {
                Ok(info) => StopReason::from_trap_code(info.si_code),
                // Killed since: the next resume and wait will tell.
                Err(_) => StopReason::Step,
            },
            other => other,
        };
        self.reason = reason;
        self.pending = reason.pending_signal();
    }

    fn request(&self, operation: &'static str, request: u32, addr: usize, data: usize) -> Result<i64> {
        if self.dead.is_some() {
            return Err(Error::Gone {
                operation,
                pid: self.tid(),
            });
        }
        // SAFETY: every caller in this module passes as `data` an integer, or a pointer to a live local of the size
        // that the request is documented to use.
        unsafe { ptrace(request, self.tid(), addr, data) }.map_err(|e| Error::os(operation, self.tid(), e))
    }

    /// Resumes; `signal` is delivered if the stop was for a signal. A thread that was killed meanwhile is `Running` too: waiting
    /// for it gives its death.
    ///
    /// # Errors
    /// An unexpected errno; the thread is then detached.
    pub fn resume(mut self, how: Resume, signal: Option<i32>) -> Result<Running> {
        self.resume_in_place(how, signal)?;
        Ok(Running {
            handle: self.handle.take(),
        })
    }

    /// Executes one instruction. See [`Stopped::resume`].
    ///
    /// # Errors
    /// Those of [`Stopped::resume`].
    pub fn step(self, signal: Option<i32>) -> Result<Running> {
        self.resume(Resume::Step, signal)
    }

    /// Lets the thread run. See [`Stopped::resume`].
    ///
    /// # Errors
    /// Those of [`Stopped::resume`].
    pub fn cont(self, signal: Option<i32>) -> Result<Running> {
        self.resume(Resume::Cont, signal)
    }

    /// Lets the thread go, delivering `signal`.
    ///
    /// # Errors
    /// None when it is dead already; an unexpected errno otherwise.
    pub fn detach(mut self, signal: Option<i32>) -> Result<()> {
        self.pending = signal;
        self.detach_in_place()
    }

    /// Lets the thread go with its pending signal, as dropping does.
    pub fn release(&mut self) {
        if let Err(error) = self.detach_in_place() {
            tracing::warn!(%error, "detaching");
        }
    }

    fn detach_in_place(&mut self) -> Result<()> {
        let (Some(handle), None) = (self.handle.take(), self.dead) else {
            return Ok(());
        };
        let signal = self.pending.take().unwrap_or(0) as usize;
        // SAFETY: PTRACE_DETACH takes a signal number and writes nothing.
        match unsafe { ptrace(libc::PTRACE_DETACH, handle.tid, 0, signal) } {
            Ok(_) => Ok(()),
            // Killed: nobody will wait for it again through this value, so take it off the kernel's list. As the tracer
            // of a process that is not our child this passes the death on to its parent.
            Err(Errno::ESRCH) => match timer::waitpid(handle.tid, Some(INTERRUPT_PATIENCE)) {
                Ok(None) => Err(Error::os("detach", handle.tid, Errno::ESRCH)),
                _ => Ok(()),
            },
            Err(errno) => Err(Error::os("detach", handle.tid, errno)),
        }
    }

    fn resume_in_place(&mut self, how: Resume, signal: Option<i32>) -> Result<()> {
        let (operation, request) = match how {
            Resume::Step => ("step", libc::PTRACE_SINGLESTEP),
            Resume::Cont => ("continue", libc::PTRACE_CONT),
            Resume::Syscall => ("continue to a system call", libc::PTRACE_SYSCALL),
            Resume::Listen => ("listen", libc::PTRACE_LISTEN),
        };
        match self.request(operation, request, 0, signal.unwrap_or(0) as usize) {
            Ok(_) | Err(Error::Gone { .. }) => {
                self.pending = None;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Resumes and waits in one, keeping this value in its place: the form for loops.
    ///
    /// With a `timeout`, a thread that has not stopped by then is interrupted, so that on return it is always stopped or
    /// dead. After [`Stop::TimedOut`] or a stop that came while the interrupt was on its way, a stale
    /// [`StopReason::Interrupt`] may be seen at a later wait.
    ///
    /// # Errors
    /// [`Error::Timeout`] when an interrupted thread does not stop either (uninterruptible sleep): this value is then empty
    /// and the thread stays attached until the tracing thread ends. Unexpected errnos.
    pub fn resume_and_wait(&mut self, how: Resume, signal: Option<i32>, timeout: Option<Duration>) -> Result<Stop> {
        if let Some(death) = self.dead {
            return Ok(Stop::Dead(death));
        }
        self.resume_in_place(how, signal)?;
        let tid = self.tid();
        if let Some(status) = self.wait_status(timeout)? {
            return Ok(self.absorb(status));
        }
        // SAFETY: PTRACE_INTERRUPT has no arguments.
        match unsafe { ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0) } {
            Ok(_) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(Error::os("interrupt", tid, errno)),
        }
        match self.wait_status(Some(INTERRUPT_PATIENCE))? {
            Some(status) => Ok(match self.absorb(status) {
                Stop::At(StopReason::Interrupt) => Stop::TimedOut,
                other => other,
            }),
            None => {
                self.dead = Some(Death::Vanished);
                Err(Error::Timeout {
                    operation: "stop",
                    pid: tid,
                    after: INTERRUPT_PATIENCE,
                })
            }
        }
    }

    fn wait_status(&mut self, timeout: Option<Duration>) -> Result<Option<Option<u32>>> {
        match timer::waitpid(self.tid(), timeout) {
            Ok(None) => Ok(None),
            Ok(Some(status)) => Ok(Some(Some(status))),
            Err(Errno::ECHILD) => Ok(Some(None)),
            Err(errno) => Err(Error::os("wait", self.tid(), errno)),
        }
    }

    /// Turns a status (`None`: no such child) into the new state.
    fn absorb(&mut self, status: Option<u32>) -> Stop {
        let death = match status.map(WaitStatus::decode) {
            Some(WaitStatus::Stopped(reason)) => {
                self.arrive(reason);
                return Stop::At(self.reason);
            }
            Some(WaitStatus::Continued | WaitStatus::Unknown(_)) => {
                self.arrive(StopReason::Interrupt);
                return Stop::At(self.reason);
            }
            Some(WaitStatus::Exited(code)) => Death::Exited(code),
            Some(WaitStatus::Signaled { signal, core }) => Death::Signaled { signal, core },
            None => Death::Vanished,
        };
        self.dead = Some(death);
        self.pending = None;
        Stop::Dead(death)
    }

    /// General registers.
    ///
    /// # Errors
    /// [`Error::Gone`] when it is dead.
    pub fn regs(&self) -> Result<Gprs> {
        let mut regs = MaybeUninit::<libc::user_regs_struct>::uninit();
        self.request("read registers", libc::PTRACE_GETREGS, 0, regs.as_mut_ptr() as usize)?;
        // SAFETY: PTRACE_GETREGS succeeded, so the kernel has filled the whole structure.
        Ok(unsafe { regs.assume_init() }.into())
    }

    /// Sets the general registers. Setting `orig_rax` to -1 keeps the kernel from restarting an interrupted system call.
    ///
    /// # Errors
    /// [`Error::Gone`] when it is dead; EIO for values the kernel refuses (segment selectors, non-canonical bases).
    pub fn set_regs(&mut self, regs: &Gprs) -> Result<()> {
        let regs: libc::user_regs_struct = (*regs).into();
        self.request("write registers", libc::PTRACE_SETREGS, 0, &raw const regs as usize)
            .map(drop)
    }

    /// The XSAVE area.
    ///
    /// # Errors
    /// [`Error::Gone`] when it is dead; ENODEV on processors without XSAVE.
    pub fn xstate(&self) -> Result<XState> {
        let mut buffer = vec![0u8; XSTATE_MAX];
        let mut iov = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        self.request(
            "read vector registers",
            libc::PTRACE_GETREGSET,
            NT_X86_XSTATE,
            &raw mut iov as usize,
        )?;
        buffer.truncate(iov.iov_len);
        Ok(XState(buffer))
    }

    /// Sets the XSAVE area, normally one that [`Stopped::xstate`] gave.
    ///
    /// # Errors
    /// [`Error::Gone`] when it is dead; EFAULT or EINVAL for an area of the wrong size or with reserved bits set.
    pub fn set_xstate(&mut self, state: &XState) -> Result<()> {
        let mut iov = libc::iovec {
            iov_base: state.0.as_ptr().cast_mut().cast(),
            iov_len: state.0.len(),
        };
        self.request(
            "write vector registers",
            libc::PTRACE_SETREGSET,
            NT_X86_XSTATE,
            &raw mut iov as usize,
        )
        .map(drop)
    }

    /// The signals that the thread blocks; bit `n - 1` stands for signal `n`.
    ///
    /// # Errors
    /// [`Error::Gone`] when it is dead.
    pub fn sigmask(&self) -> Result<u64> {
        let mut mask = 0u64;
        self.request(
            "read signal mask",
            libc::PTRACE_GETSIGMASK,
            size_of::<u64>(),
            &raw mut mask as usize,
        )?;
        Ok(mask)
    }

    /// Sets the signals that the thread blocks; the kernel drops SIGKILL and SIGSTOP.
    ///
    /// # Errors
    /// [`Error::Gone`] when it is dead.
    pub fn set_sigmask(&mut self, mask: u64) -> Result<()> {
        self.request(
            "write signal mask",
            libc::PTRACE_SETSIGMASK,
            size_of::<u64>(),
            &raw const mask as usize,
        )
        .map(drop)
    }

    /// What is known about the signal it stopped for.
    ///
    /// # Errors
    /// [`Error::Gone`] when it is dead; EINVAL in a group stop.
    pub fn siginfo(&self) -> Result<SigInfo> {
        let mut info = MaybeUninit::<SigInfo>::zeroed();
        self.request("read siginfo", libc::PTRACE_GETSIGINFO, 0, info.as_mut_ptr() as usize)?;
        // SAFETY: zeroed, then filled by the kernel; every bit pattern is a valid siginfo_t.
        Ok(unsafe { info.assume_init() })
    }

    /// Replaces what will be told about the signal it stopped for.
    ///
    /// # Errors
    /// [`Error::Gone`] when it is dead.
    pub fn set_siginfo(&mut self, info: &SigInfo) -> Result<()> {
        self.request(
            "write siginfo",
            libc::PTRACE_SETSIGINFO,
            0,
            std::ptr::from_ref(info) as usize,
        )
        .map(drop)
    }

    /// The word that a ptrace event carries: the new thread of a clone, the exit status, the former thread id of an exec.
    ///
    /// # Errors
    /// [`Error::Gone`] when it is dead.
    pub fn event_message(&self) -> Result<u64> {
        let mut message = 0u64;
        self.request(
            "read event message",
            libc::PTRACE_GETEVENTMSG,
            0,
            &raw mut message as usize,
        )?;
        Ok(message)
    }

    /// Asks for a stop as soon as the thread is resumed: the next wait then ends in the kernel's signal code, where an
    /// interrupted system call is restarted when the thread goes on.
    pub(crate) fn interrupt_on_resume(&self) -> Result<()> {
        self.request("interrupt", libc::PTRACE_INTERRUPT, 0, 0).map(drop)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.release();
    }
}
