//! SIGTRAP: what keeps a program alive whose tracer died.
//!
//! When a tracer dies while it single-steps, the kernel lets the tracee go with
//! the trap flag set or a debug register armed; the next trap is delivered as
//! SIGTRAP, whose default action kills. The handler here swallows just these and
//! passes everything else on to whatever the program had installed.
//!
//! The kernel clears the trap flag when it delivers, if it knows that a tracer set it.
//! It does not know where the program's own code could have: a step over `popf` that was
//! interrupted by a signal, or a `pushf` that was stepped over. Returning from the handler would then bring the
//! flag back, for ever, one signal an instruction. So the handler clears it itself.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};

use crate::sys::{SYS_GETPID, SYS_GETTID, SYS_RT_SIGACTION, SYS_TGKILL, abort, syscall};

const SIGTRAP: usize = 5;
const SA_SIGINFO: u64 = 4;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;
/// `si_code` of a single step, and of a hardware breakpoint.
const TRAP_TRACE: c_int = 2;
/// `si_code` of a step over a `syscall` instruction. (A real `int3` has SI_KERNEL.)
const TRAP_BRKPT: c_int = 1;
const TRAP_HWBKPT: c_int = 4;
/// The trap flag in rflags.
const TRAP_FLAG: u64 = 1 << 8;
/// Where a `ucontext` has rflags: `uc_mcontext.gregs[REG_EFL]`.
const CONTEXT_RFLAGS: usize = 40 + 17 * 8;

/// The kernel's `struct sigaction` for x86-64.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelSigaction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// The action that was in place when the handler was installed.
#[repr(transparent)]
pub struct Previous(UnsafeCell<KernelSigaction>);

// SAFETY: written once, by the system call that installs the handler, before any
// delivery to it; only read afterwards.
unsafe impl Sync for Previous {}

/// See [`Previous`].
pub static PREVIOUS: Previous = Previous(UnsafeCell::new(KernelSigaction {
    handler: SIG_DFL,
    flags: 0,
    restorer: 0,
    mask: 0,
}));

/// Installs the handler unless it is there.
pub(crate) fn install() {
    let action = KernelSigaction {
        handler: redmagic_trap_handler as *const () as u64,
        flags: SA_SIGINFO | SA_RESTORER | SA_RESTART,
        restorer: redmagic_trap_restorer as *const () as u64,
        mask: 0,
    };
    let mut old = KernelSigaction {
        handler: 0,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    // SAFETY: both pointers are to live `KernelSigaction`s; the mask is 8 bytes.
    let result = unsafe { syscall(SYS_RT_SIGACTION, [SIGTRAP, 0, (&raw mut old) as usize, 8, 0, 0]) };
    if result < 0 || old.handler == action.handler {
        return;
    }
    // SAFETY: nothing delivers to the handler yet, so nobody reads PREVIOUS; the
    // pointer to the action is live.
    unsafe {
        *PREVIOUS.0.get() = old;
        syscall(SYS_RT_SIGACTION, [SIGTRAP, (&raw const action) as usize, 0, 8, 0, 0]);
    }
}

/// Returns from a handler.
#[unsafe(naked)]
pub unsafe extern "C" fn redmagic_trap_restorer() {
    naked_asm!("mov eax, 15", "syscall")
}

/// The handler.
pub unsafe extern "C" fn redmagic_trap_handler(signal: c_int, info: *const c_int, context: *mut c_void) {
    // SAFETY: the kernel passes a siginfo, whose third int is si_code.
    let code = unsafe { *info.add(2) };
    if matches!(code, TRAP_BRKPT | TRAP_TRACE | TRAP_HWBKPT) {
        // SAFETY: the kernel passes the `ucontext` that it restores on return; it is 8-aligned.
        unsafe { *context.byte_add(CONTEXT_RFLAGS).cast::<u64>() &= !TRAP_FLAG };
        return;
    }
    // SAFETY: see `Previous`.
    let previous = unsafe { *PREVIOUS.0.get() };
    match previous.handler {
        SIG_IGN => {}
        SIG_DFL => die(),
        handler if previous.flags & SA_SIGINFO != 0 => {
            // SAFETY: the program installed this address as a three-argument handler.
            let handler: extern "C" fn(c_int, *const c_int, *mut c_void) =
                unsafe { core::mem::transmute(handler as *const ()) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: the program installed this address as a one-argument handler.
            let handler: extern "C" fn(c_int) = unsafe { core::mem::transmute(handler as *const ()) };
            handler(signal);
        }
    }
}

/// Does what the default action would have done: restores it and raises the signal,
/// which is delivered when the handler returns.
fn die() {
    let default = KernelSigaction {
        handler: SIG_DFL,
        flags: SA_RESTORER,
        restorer: redmagic_trap_restorer as *const () as u64,
        mask: 0,
    };
    // SAFETY: the action is live; the other calls take no pointers.
    let failed = unsafe {
        let set = syscall(SYS_RT_SIGACTION, [SIGTRAP, (&raw const default) as usize, 0, 8, 0, 0]);
        let pid = syscall(SYS_GETPID, [0; 6]) as usize;
        let tid = syscall(SYS_GETTID, [0; 6]) as usize;
        set < 0 || syscall(SYS_TGKILL, [pid, tid, SIGTRAP, 0, 0, 0]) < 0
    };
    if failed {
        abort();
    }
}
