//! All threads of a process are found and stopped, and run on when let go.

mod common;
use redmagic_tracee::process::{stop_all, threads};
use redmagic_tracee::testing::{eventually, fork, shared_words};
use redmagic_tracee::thread::Options;
use std::sync::atomic::Ordering::SeqCst;

#[test]
fn every_thread_is_stopped_and_runs_on() {
    let words = shared_words();
    let child = fork(|| {
        let workers: Vec<_> = (0..8)
            .map(|n| {
                std::thread::spawn(move || {
                    while words[63].load(SeqCst) == 0 {
                        words[n].fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        5
    });
    eventually("all run", || (0..8).all(|n| words[n].load(SeqCst) > 0));
    for _ in 0..5 {
        let stopped = stop_all(child.pid, Options::default()).unwrap();
        assert_eq!(
            stopped.iter().map(|t| t.tid()).collect::<Vec<_>>(),
            threads(child.pid).unwrap()
        );
        assert_eq!(stopped.len(), 9);
        let counts = || (0..8).map(|n| words[n].load(SeqCst)).collect::<Vec<_>>();
        let before = counts();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(counts(), before);
        drop(stopped);
        eventually("all run on", || {
            counts().iter().zip(&before).all(|(now, then)| now > then)
        });
    }
    words[63].store(1, SeqCst);
    assert_eq!(child.join(), 5);
}

#[test]
fn threads_that_come_and_go_meanwhile() {
    let words = shared_words();
    let child = fork(|| {
        while words[0].load(SeqCst) == 0 {
            let workers: Vec<_> = (0..4)
                .map(|_| std::thread::spawn(|| words[1].fetch_add(1, SeqCst)))
                .collect();
            for worker in workers {
                worker.join().unwrap();
            }
        }
        6
    });
    eventually("it runs", || words[1].load(SeqCst) > 10);
    for _ in 0..50 {
        let stopped = stop_all(child.pid, Options::default()).unwrap();
        let tids: Vec<_> = stopped.iter().map(|t| t.tid()).collect();
        // A thread in the middle of its exit may still be listed though it can no longer be seized.
        for tid in threads(child.pid).unwrap() {
            let state = redmagic_tracee::process::Status::read(tid).map(|s| s.state);
            assert!(
                tids.contains(&tid) || !matches!(state, Ok('R' | 'S')),
                "{tid} {state:?} not in {tids:?}"
            );
        }
        drop(stopped);
    }
    words[0].store(1, SeqCst);
    assert_eq!(child.join(), 6);
}
