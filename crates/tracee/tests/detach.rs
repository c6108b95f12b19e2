//! However a tracee is let go, it runs on.

mod common;
use redmagic_tracee::process::{self, Status};
use redmagic_tracee::testing::{Child, eventually, fork, shared_words};
use redmagic_tracee::thread::{self, Options, TimedOutcome};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

fn counting_child(words: &'static [AtomicU64; 64]) -> Child {
    let child = fork(|| {
        while words[1].load(SeqCst) == 0 {
            words[0].fetch_add(1, SeqCst);
        }
        9
    });
    common::spin_while_zero(&words[0]);
    child
}

fn runs_untraced(child: Child, words: &'static [AtomicU64; 64]) {
    assert_eq!(Status::read(child.pid).unwrap().tracer_pid, 0);
    let before = words[0].load(SeqCst);
    eventually("it counts", || words[0].load(SeqCst) > before);
    words[1].store(1, SeqCst);
    assert_eq!(child.join(), 9);
}

#[test]
fn detached_while_stopped() {
    let words = shared_words();
    let child = counting_child(words);
    let stopped = common::stop(child.pid);
    assert!(process::is_traced_here(child.pid));
    stopped.detach(None).unwrap();
    assert!(!process::is_traced_here(child.pid));
    runs_untraced(child, words);
}

#[test]
fn dropped_while_stopped() {
    let words = shared_words();
    let child = counting_child(words);
    drop(common::stop(child.pid));
    runs_untraced(child, words);
}

#[test]
fn dropped_while_running() {
    let words = shared_words();
    let child = counting_child(words);
    drop(thread::seize(child.pid, Options::default()).unwrap());
    runs_untraced(child, words);
}

#[test]
fn waiting_has_a_limit_and_the_thread_still_runs() {
    let words = shared_words();
    let child = counting_child(words);
    let running = thread::seize(child.pid, Options::default()).unwrap();
    let begin = Instant::now();
    let running = match running.wait_timeout(Duration::from_millis(30)).unwrap() {
        TimedOutcome::Running(running) => running,
        TimedOutcome::Done(outcome) => panic!("{outcome:?}"),
    };
    let waited = begin.elapsed();
    assert!(
        waited >= Duration::from_millis(30) && waited < Duration::from_secs(2),
        "{waited:?}"
    );
    running.interrupt().unwrap();
    assert!(matches!(
        running.wait_timeout(Duration::from_secs(5)).unwrap(),
        TimedOutcome::Done(_)
    ));
    runs_untraced(child, words);
}

#[test]
fn fifty_times_in_a_row() {
    let words = shared_words();
    let child = counting_child(words);
    for _ in 0..50 {
        let before = words[0].load(SeqCst);
        drop(common::stop(child.pid));
        eventually("it counts", || words[0].load(SeqCst) > before);
    }
    runs_untraced(child, words);
}

#[test]
fn a_second_tracer_is_told_who_the_first_is() {
    let words = shared_words();
    let child = counting_child(words);
    let tracer = fork(|| {
        let thread = common::stop(child.pid);
        words[2].store(1, SeqCst);
        common::spin_while_zero(&words[3]);
        drop(thread);
        0
    });
    common::spin_while_zero(&words[2]);
    let error = thread::seize(child.pid, Options::default()).unwrap_err().to_string();
    assert!(error.contains(&format!("already traced by {}", tracer.pid)), "{error}");
    words[3].store(1, SeqCst);
    assert_eq!(tracer.join(), 0);
    runs_untraced(child, words);
}
