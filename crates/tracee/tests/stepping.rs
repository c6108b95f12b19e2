//! Single steps are one instruction each, and the step count of known code is known.

mod common;
use common::{countdown, stopped_child};
use redmagic_tracee::thread::{Resume, Stop, WaitOutcome};
use redmagic_tracee::wait::StopReason;

#[test]
fn a_loop_takes_two_steps_an_iteration() {
    let (_child, mut thread) = stopped_child(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    let mut regs = thread.regs().unwrap();
    let start = countdown as extern "C" fn(u64) -> ! as usize as u64;
    regs.rip = start;
    regs.rdi = 1000;
    regs.orig_rax = u64::MAX;
    thread.set_regs(&regs).unwrap();
    for n in 1..=2000u64 {
        assert_eq!(
            thread.resume_and_wait(Resume::Step, None, None).unwrap(),
            Stop::At(StopReason::Step)
        );
        let regs = thread.regs().unwrap();
        assert_eq!(regs.rdi, 1000 - n.div_ceil(2), "after step {n}");
    }
    assert!(thread.regs().unwrap().rip > start);
    assert_eq!(thread.regs().unwrap().rdi, 0);
}

#[test]
fn typestates_step_too() {
    let (_child, mut thread) = stopped_child(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    let mut regs = thread.regs().unwrap();
    regs.rip = countdown as extern "C" fn(u64) -> ! as usize as u64;
    regs.rdi = 5;
    regs.orig_rax = u64::MAX;
    thread.set_regs(&regs).unwrap();
    for _ in 0..4 {
        thread = match thread.step(None).unwrap().wait().unwrap() {
            WaitOutcome::Stopped(thread) => thread,
            WaitOutcome::Dead(death) => panic!("{death}"),
        };
        assert_eq!(thread.reason(), StopReason::Step);
    }
    assert_eq!(thread.regs().unwrap().rdi, 3);
}
