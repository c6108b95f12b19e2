//! System calls, made directly: by the shim, since libc's wrappers set errno, and some may be interposed by the program; and by the
//! launcher before libc has begun.

use core::arch::asm;

macro_rules! numbers {
    ($($name:ident = $number:literal,)*) => {
        $(
            #[doc = concat!("Number of the system call: ", $number, ".")]
            pub const $name: usize = $number;
        )*
    };
}

numbers! {
    SYS_OPEN = 2,
    SYS_CLOSE = 3,
    SYS_STAT = 4,
    SYS_POLL = 7,
    SYS_MMAP = 9,
    SYS_MUNMAP = 11,
    SYS_RT_SIGACTION = 13,
    SYS_RT_SIGPROCMASK = 14,
    SYS_PREAD64 = 17,
    SYS_ACCESS = 21,
    SYS_SCHED_YIELD = 24,
    SYS_MADVISE = 28,
    SYS_DUP2 = 33,
    SYS_GETPID = 39,
    SYS_SOCKET = 41,
    SYS_CONNECT = 42,
    SYS_BIND = 49,
    SYS_LISTEN = 50,
    SYS_SENDTO = 44,
    SYS_RECVMSG = 47,
    SYS_SETSOCKOPT = 54,
    SYS_GETSOCKOPT = 55,
    SYS_CLONE = 56,
    SYS_EXECVE = 59,
    SYS_EXIT = 60,
    SYS_WAIT4 = 61,
    SYS_KILL = 62,
    SYS_FCNTL = 72,
    SYS_READLINK = 89,
    SYS_SETSID = 112,
    SYS_PRCTL = 157,
    SYS_ARCH_PRCTL = 158,
    SYS_GETTID = 186,
    SYS_FUTEX = 202,
    SYS_CLOCK_GETTIME = 228,
    SYS_TGKILL = 234,
    SYS_PIDFD_OPEN = 434,
    SYS_CLOSE_RANGE = 436,
}

/// Makes a system call; an error comes back as a negative errno.
///
/// # Safety
/// As the system call: pointers must be valid for what the kernel does with them.
#[inline(always)] // the launcher can call nothing that is compiled elsewhere
pub unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the registers are those of the kernel's convention; rcx and r11, which
    // the instruction overwrites, are declared; the caller vouches for the arguments.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
