//! Signals that arrive while a thread is stepped are seen with their raw numbers, and are delivered when passed on.

mod common;
use common::stopped_child;
use redmagic_tracee::testing::shared_words;
use redmagic_tracee::thread::{Resume, Stop, Stopped};
use redmagic_tracee::wait::StopReason;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

static HITS: std::sync::OnceLock<&'static [AtomicU64; 64]> = std::sync::OnceLock::new();

extern "C" fn on_signal(number: i32) {
    HITS.get().unwrap()[0].store(number as u64, SeqCst);
}

fn child_with_handler(number: i32) -> (redmagic_tracee::testing::Child, Stopped) {
    let words = shared_words();
    HITS.set(words).unwrap();
    let child = redmagic_tracee::testing::fork(move || {
        // SAFETY: installs a handler that does one atomic store.
        unsafe { libc::signal(number, on_signal as extern "C" fn(i32) as usize) };
        words[1].store(1, SeqCst);
        common::spin_while_zero(&words[2]);
        i32::from(words[0].load(SeqCst) != number as u64)
    });
    common::spin_while_zero(&words[1]);
    let thread = common::stop(child.pid);
    (child, thread)
}

fn sees_and_delivers(number: i32) {
    let (child, mut thread) = child_with_handler(number);
    let words = HITS.get().unwrap();
    for _ in 0..10 {
        assert_eq!(
            thread.resume_and_wait(Resume::Step, None, None).unwrap(),
            Stop::At(StopReason::Step)
        );
    }
    child.kill(number);
    let mut seen = false;
    for _ in 0..10 {
        match thread.resume_and_wait(Resume::Step, None, None).unwrap() {
            Stop::At(StopReason::Step) => {}
            Stop::At(StopReason::SignalDelivery(n)) => {
                assert_eq!(n, number);
                assert_eq!(thread.pending_signal(), Some(number));
                seen = true;
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(seen);
    assert_eq!(words[0].load(SeqCst), 0);
    // A step with the signal ends at the first instruction of the handler.
    assert_eq!(
        thread.resume_and_wait(Resume::Step, Some(number), None).unwrap(),
        Stop::At(StopReason::Step)
    );
    assert_eq!(
        thread.regs().unwrap().rip,
        on_signal as extern "C" fn(i32) as usize as u64
    );
    assert_eq!(thread.regs().unwrap().rdi, number as u64);
    thread.detach(None).unwrap();
    words[2].store(1, SeqCst);
    assert_eq!(child.join(), 0);
}

#[test]
fn an_ordinary_signal() {
    sees_and_delivers(libc::SIGUSR1);
}

#[test]
fn the_first_real_time_signal() {
    sees_and_delivers(34);
}

#[test]
fn the_last_real_time_signal() {
    sees_and_delivers(64);
}

#[test]
fn a_sent_sigtrap_is_not_a_step() {
    let (child, mut thread) = child_with_handler(libc::SIGTRAP);
    child.kill(libc::SIGTRAP);
    let reason = loop {
        match thread.resume_and_wait(Resume::Step, None, None).unwrap() {
            Stop::At(StopReason::Step) => {}
            other => break other,
        }
    };
    assert_eq!(reason, Stop::At(StopReason::SignalDelivery(libc::SIGTRAP)));
}

#[test]
fn dropping_delivers_the_signal_that_was_on_its_way() {
    let (child, mut thread) = child_with_handler(40);
    child.kill(40);
    while thread.resume_and_wait(Resume::Step, None, None).unwrap() == Stop::At(StopReason::Step) {}
    drop(thread);
    HITS.get().unwrap()[2].store(1, SeqCst);
    assert_eq!(child.join(), 0);
}

#[test]
fn a_group_stop_is_told_from_its_signal_and_survives_a_detach() {
    let (child, mut thread) = stopped_child(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    child.kill(libc::SIGSTOP);
    assert_eq!(
        thread.resume_and_wait(Resume::Cont, None, None).unwrap(),
        Stop::At(StopReason::SignalDelivery(libc::SIGSTOP))
    );
    assert_eq!(
        thread.resume_and_wait(Resume::Cont, Some(libc::SIGSTOP), None).unwrap(),
        Stop::At(StopReason::Group(libc::SIGSTOP))
    );
    let pid = thread.tid();
    thread.detach(None).unwrap();
    redmagic_tracee::testing::eventually("stopped by job control", || {
        redmagic_tracee::process::Status::read(pid).unwrap().state == 'T'
    });
}
