//! System calls, and what the kernel's headers call things.

use core::arch::naked_asm;

pub(crate) use redmagic_proto::sys::*;

pub(crate) const O_RDWR: usize = 2;
pub(crate) const O_CLOEXEC: usize = 0o2_000_000;
pub(crate) const X_OK: usize = 1;
pub(crate) const F_SETFD: usize = 2;
pub(crate) const SIG_SETMASK: usize = 2;
pub(crate) const SIGCHLD: usize = 17;
pub(crate) const CLONE_VM: usize = 0x100;
pub(crate) const CLONE_VFORK: usize = 0x4000;
pub(crate) const EINTR: isize = -4;

/// Makes a process that runs `function(argument)` on the stack that ends at `top`, and ends with what that gives. Gives its pid, or
/// a negative errno.
///
/// # Safety
/// `flags` must have `CLONE_VM`. The stack must be nobody else's, and 16-aligned, and `function` right for `argument`, for as long as
/// that process runs in this one's memory.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn process<T>(
    flags: usize,
    top: *mut u8,
    function: unsafe extern "C" fn(*mut T) -> isize,
    argument: *mut T,
) -> isize {
    naked_asm!(
        "mov qword ptr [rsi - 16], rdx",
        "mov qword ptr [rsi - 8], rcx",
        "sub rsi, 16",
        "xor edx, edx",
        "xor r10d, r10d",
        "xor r8d, r8d",
        "mov eax, {clone}",
        "syscall",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2:",
        "xor ebp, ebp",
        "pop rax",
        "pop rdi",
        "call rax",
        "mov edi, eax",
        "mov eax, {exit}",
        "syscall",
        "ud2",
        clone = const SYS_CLONE,
        exit = const SYS_EXIT,
    )
}
