//! Hardware breakpoints are hit before their instruction, count, and are gone when cleared or dropped.

mod common;
use common::stopped_child;
use redmagic_tracee::breakpoint::{self, Breakpoint};
use redmagic_tracee::testing::shared_words;
use redmagic_tracee::thread::{Resume, Stop};
use redmagic_tracee::wait::StopReason;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

#[inline(never)]
extern "C" fn marked(n: u64) -> u64 {
    std::hint::black_box(n) + 1
}

fn address() -> u64 {
    marked as extern "C" fn(u64) -> u64 as usize as u64
}

#[test]
fn hit_at_every_call_until_cleared() {
    let words = shared_words();
    let (child, mut thread) = stopped_child(|| {
        let f = std::hint::black_box(marked as extern "C" fn(u64) -> u64);
        let mut n = 0;
        while words[0].load(SeqCst) == 0 {
            n = f(n);
        }
        7
    });
    assert!(breakpoint::probe(&mut thread, address(), Duration::from_secs(5)).unwrap());
    let breakpoint = Breakpoint::set(&thread, 2, address()).unwrap();
    let first = thread.regs().unwrap().rdi;
    let hits = 1000;
    let begin = Instant::now();
    for n in 1..=hits {
        breakpoint::clear_hits(&thread).unwrap();
        let stop = thread
            .resume_and_wait(Resume::Cont, None, Some(Duration::from_secs(5)))
            .unwrap();
        assert_eq!(stop, Stop::At(StopReason::Breakpoint));
        assert_eq!(breakpoint::hits(&thread).unwrap(), 0b100);
        let regs = thread.regs().unwrap();
        assert_eq!((regs.rip, regs.rdi), (address(), first + n));
    }
    println!(
        "breakpoint hit: {:.1} us",
        begin.elapsed().as_secs_f64() * 1e6 / hits as f64
    );
    drop(breakpoint);
    let stop = thread
        .resume_and_wait(Resume::Cont, None, Some(Duration::from_millis(50)))
        .unwrap();
    assert_eq!(stop, Stop::TimedOut);
    words[0].store(1, SeqCst);
    drop(thread);
    assert_eq!(child.join(), 7);
}

#[test]
fn refusals_are_errors() {
    let (_child, thread) = stopped_child(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    assert!(Breakpoint::set(&thread, 4, address()).is_err());
    assert!(Breakpoint::set(&thread, 0, u64::MAX).is_err());
    assert!(Breakpoint::set(&thread, 0, address()).is_ok());
}
