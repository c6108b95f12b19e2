//! The first steps of `redmagic run`, taken before libc begins.
//!
//! A program that is run waits for its launcher, and most of what a launcher takes is libc getting ready: it asks the processor what
//! it can do some 70 times, and in a virtual machine each answer comes from the hypervisor (measured: 7 us each, half a
//! millisecond in all; replacing the process takes a twentieth of that). So the binary begins at [`redmagic_entry`]. If all that
//! is asked is `redmagic run [--stats FILE] -- PROGRAM` with default settings, and the program has a shim, [`run`] starts the daemon and becomes the
//! program. In every other case nothing has happened yet: libc's own entry is next, then `main`, which knows all
//! cases and has words for what goes wrong.
//!
//! What runs here has no thread-local memory, and no function of libc: even `memcpy` is one that libc has yet to choose. So the
//! crate is compiled without builtins, and fills and copies byte by byte.
#![cfg_attr(not(test), no_std)]
#![no_builtins]

pub mod beside;
pub mod need;
pub mod note;
mod run;
mod sys;
mod text;

use core::arch::naked_asm;

/// Where the process begins, by the linker's `-e`, if it is linked without anything to relocate.
///
/// # Safety
/// For the kernel to jump to.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redmagic_entry() -> ! {
    naked_asm!(
        "xor ebp, ebp",
        // libc's entry is to find stack pointer and rdx as they are now.
        "mov rbx, rsp",
        "mov r12, rdx",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {run}",
        "mov rsp, rbx",
        "mov rdx, r12",
        "jmp _start",
        run = sym run::run,
    )
}
