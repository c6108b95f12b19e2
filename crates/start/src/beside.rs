//! Starting a daemon beside a process.
//!
//! The daemon is made by a child that is gone at once, so that it is nobody's child, in a session of its own, and Ctrl-C
//! reaches only the program. No page table is copied: all three share this process's memory until each calls exec, as by vfork.

use crate::need::{Need, Needed};
use crate::sys;

/// The number of the descriptor on which a daemon says that it is ready.
pub const READY_FD: i32 = 3;

/// Bytes of stack that each process of [`Plan::start`] needs; it makes system calls and does nothing else.
pub const STACK: usize = 4096;

/// All that a daemon is started with.
#[derive(Debug)]
#[repr(C)]
pub struct Plan {
    /// Path of its program, ending in zero.
    pub path: *const u8,
    /// Its arguments, ending in null.
    pub arguments: *const *const u8,
    /// Its environment, ending in null.
    pub environment: *const *const u8,
    /// What becomes its [`READY_FD`]; negative: nobody hears it.
    pub ready: i32,
    /// Where two stacks of [`STACK`] bytes end, 16-aligned.
    pub stacks: [*mut u8; 2],
    /// Whether the caller goes on only when the daemon has memory of its own. Else it goes on while the kernel still loads the daemon, a
    /// quarter of what starting it takes.
    pub waits: bool,
    /// Until when the process that is to become the daemon waits; null: not at all. It has the daemon's pid.
    pub need: *const Need,
    /// Its pid, or a negative errno.
    pub daemon: isize,
}

impl Plan {
    /// Starts the daemon. Gives its pid.
    ///
    /// # Safety
    /// Every pointer must be valid, and nobody may write what they lead to, nor this plan, for as long as this process's memory
    /// is its own: nobody knows when a daemon that is not waited for has memory of its own. This process must have one thread.
    ///
    /// # Errors
    /// The errno of making a process.
    pub unsafe fn start(plan: *mut Plan) -> Result<i32, i32> {
        let flags = sys::CLONE_VM | sys::CLONE_VFORK | sys::SIGCHLD;
        // SAFETY: by the contract the stack is the child's alone, and this process waits until the child is gone.
        let child = unsafe { sys::process(flags, (*plan).stacks[0], middle, plan) };
        if child < 0 {
            return Err(-child as i32);
        }
        loop {
            // SAFETY: no pointers.
            let waited = unsafe { sys::syscall(sys::SYS_WAIT4, [child as usize, 0, 0, 0, 0, 0]) };
            if waited != sys::EINTR {
                break;
            }
        }
        // SAFETY: the child, which wrote it, is gone.
        match unsafe { (&raw const (*plan).daemon).read() } {
            errno @ ..0 => Err(-errno as i32),
            pid => Ok(pid as i32),
        }
    }
}

/// The child: makes the daemon, and is gone.
unsafe extern "C" fn middle(plan: *mut Plan) -> isize {
    // SAFETY: no pointers; then the second stack, which is the daemon's alone.
    unsafe {
        sys::syscall(sys::SYS_SETSID, [0; 6]);
        let waits = if (*plan).waits { sys::CLONE_VFORK } else { 0 };
        let flags = sys::CLONE_VM | waits | sys::SIGCHLD;
        (*plan).daemon = sys::process(flags, (*plan).stacks[1], become_daemon, plan);
    }
    0
}

unsafe extern "C" fn become_daemon(plan: *mut Plan) -> isize {
    let ready = READY_FD as usize;
    // SAFETY: the plan is valid by the contract of `start`; its descriptors are this process's own.
    unsafe {
        let null = sys::syscall(sys::SYS_OPEN, [c"/dev/null".as_ptr() as usize, sys::O_RDWR, 0, 0, 0, 0]) as usize;
        for fd in 0..ready {
            sys::syscall(sys::SYS_DUP2, [null, fd, 0, 0, 0, 0]);
        }
        let heard = usize::try_from((*plan).ready).unwrap_or(null);
        // dup2 clears close-on-exec, unless it has nothing to do.
        if heard == ready {
            sys::syscall(sys::SYS_FCNTL, [ready, sys::F_SETFD, 0, 0, 0, 0]);
        } else {
            sys::syscall(sys::SYS_DUP2, [heard, ready, 0, 0, 0, 0]);
        }
        sys::syscall(sys::SYS_CLOSE_RANGE, [ready + 1, u32::MAX as usize, 0, 0, 0, 0]);
        // The program may have had signals blocked.
        let none = 0u64;
        let mask = [sys::SIG_SETMASK, &raw const none as usize, 0, size_of::<u64>(), 0, 0];
        sys::syscall(sys::SYS_RT_SIGPROCMASK, mask);
        let needed = (*plan).need.as_ref().map(|need| (need.wait(), need.listening));
        let arguments = match needed {
            Some((Needed::No, _)) => return 0,
            Some((Needed::Listening, arguments)) => arguments,
            Some((Needed::Alone, _)) | None => (*plan).arguments,
        };
        let how = [(*plan).path as usize, arguments as usize, (*plan).environment as usize];
        sys::syscall(sys::SYS_EXECVE, [how[0], how[1], how[2], 0, 0, 0]);
    }
    127
}
