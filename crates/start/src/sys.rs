//! System calls, made directly, and what the kernel's headers call things.

use core::arch::{asm, naked_asm};

pub(crate) const OPEN: usize = 2;
pub(crate) const CLOSE: usize = 3;
pub(crate) const STAT: usize = 4;
pub(crate) const RT_SIGPROCMASK: usize = 14;
pub(crate) const PREAD64: usize = 17;
pub(crate) const ACCESS: usize = 21;
pub(crate) const DUP2: usize = 33;
pub(crate) const GETPID: usize = 39;
pub(crate) const CLONE: usize = 56;
pub(crate) const EXECVE: usize = 59;
pub(crate) const EXIT: usize = 60;
pub(crate) const WAIT4: usize = 61;
pub(crate) const FCNTL: usize = 72;
pub(crate) const READLINK: usize = 89;
pub(crate) const SETSID: usize = 112;
pub(crate) const CLOCK_GETTIME: usize = 228;
pub(crate) const CLOSE_RANGE: usize = 436;

pub(crate) const O_RDWR: usize = 2;
pub(crate) const O_CLOEXEC: usize = 0o2_000_000;
pub(crate) const X_OK: usize = 1;
pub(crate) const F_SETFD: usize = 2;
pub(crate) const SIG_SETMASK: usize = 2;
pub(crate) const SIGCHLD: usize = 17;
pub(crate) const CLONE_VM: usize = 0x100;
pub(crate) const CLONE_VFORK: usize = 0x4000;
pub(crate) const EINTR: isize = -4;

/// Makes a system call; an error comes back as a negative errno.
///
/// # Safety
/// As the system call: pointers must be valid for what the kernel does with them.
pub(crate) unsafe fn call(number: usize, args: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: the registers are those of the kernel's convention; rcx and r11, which the instruction overwrites, are
    // declared; the caller vouches for the arguments.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

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
        clone = const CLONE,
        exit = const EXIT,
    )
}
