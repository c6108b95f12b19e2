//! The few system calls that are needed, made directly: libc's wrappers set errno,
//! and some may be interposed by the program.

use core::arch::asm;

pub(crate) const SYS_CLOSE: usize = 3;
pub(crate) const SYS_MMAP: usize = 9;
pub(crate) const SYS_MUNMAP: usize = 11;
pub(crate) const SYS_RT_SIGACTION: usize = 13;
pub(crate) const SYS_SCHED_YIELD: usize = 24;
pub(crate) const SYS_MADVISE: usize = 28;
pub(crate) const SYS_GETPID: usize = 39;
pub(crate) const SYS_SOCKET: usize = 41;
pub(crate) const SYS_CONNECT: usize = 42;
pub(crate) const SYS_SENDTO: usize = 44;
pub(crate) const SYS_RECVMSG: usize = 47;
pub(crate) const SYS_SETSOCKOPT: usize = 54;
pub(crate) const SYS_GETSOCKOPT: usize = 55;
pub(crate) const SYS_KILL: usize = 62;
pub(crate) const SYS_PRCTL: usize = 157;
pub(crate) const SYS_ARCH_PRCTL: usize = 158;
/// `arch_prctl`: where fs begins.
pub(crate) const ARCH_GET_FS: usize = 0x1003;
pub(crate) const SYS_GETTID: usize = 186;
pub(crate) const SYS_FUTEX: usize = 202;
pub(crate) const SYS_CLOCK_GETTIME: usize = 228;
pub(crate) const SYS_TGKILL: usize = 234;

/// `mmap`: pages may be read.
pub(crate) const PROT_READ: usize = 1;
/// `mmap`: pages may be written.
pub(crate) const PROT_WRITE: usize = 2;

/// Makes a system call; an error comes back as a negative errno.
///
/// # Safety
/// As the system call: pointers must be valid for what the kernel does with them.
pub(crate) unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
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

/// Ends the process with SIGABRT.
pub(crate) fn abort() -> ! {
    loop {
        // SAFETY: getpid and kill take no pointers.
        unsafe {
            let pid = syscall(SYS_GETPID, [0; 6]);
            syscall(SYS_KILL, [pid as usize, 6, 0, 0, 0, 0]);
            syscall(SYS_KILL, [pid as usize, 9, 0, 0, 0, 0]);
        }
    }
}
