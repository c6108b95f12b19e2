//! Shared by the tests: getting hold of a stopped child, and targets written in assembly so that their steps are known.
#![allow(dead_code)]

use redmagic_tracee::testing::{Child, fork};
use redmagic_tracee::thread::{self, Options, Stopped, WaitOutcome};

/// Forks a closure, seizes it and stops it.
pub fn stopped_child(body: impl FnOnce() -> i32) -> (Child, Stopped) {
    let child = fork(body);
    let thread = stop(child.pid);
    (child, thread)
}

/// Seizes and stops a thread that is known to be alive.
pub fn stop(tid: i32) -> Stopped {
    match thread::seize_and_stop(tid, Options::EXEC).expect("seize") {
        WaitOutcome::Stopped(thread) => thread,
        WaitOutcome::Dead(death) => panic!("{death}"),
    }
}

/// Spins until the word is not zero any more, without system calls.
pub fn spin_while_zero(word: &std::sync::atomic::AtomicU64) {
    while word.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        std::hint::spin_loop();
    }
}

/// `count` iterations of a two-instruction loop (`dec; jnz`), then an endless one (`pause; jmp`).
#[unsafe(naked)]
pub extern "C" fn countdown(count: u64) -> ! {
    std::arch::naked_asm!("2: dec rdi", "jnz 2b", "3: pause", "jmp 3b")
}
