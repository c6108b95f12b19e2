//! A tracee that dies is a value.

mod common;
use common::{stop, stopped_child};
use redmagic_tracee::Error;
use redmagic_tracee::testing::{fork, shared_words};
use redmagic_tracee::thread::{Resume, Stop, WaitOutcome};
use redmagic_tracee::wait::Death;
use std::sync::atomic::Ordering::SeqCst;

#[test]
fn killed_while_stepping() {
    let (child, mut thread) = stopped_child(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    for n in 0.. {
        if n == 100 {
            child.kill(libc::SIGKILL);
        }
        match thread.resume_and_wait(Resume::Step, None, None).unwrap() {
            Stop::Dead(death) => {
                assert!(n >= 100);
                assert_eq!(
                    death,
                    Death::Signaled {
                        signal: libc::SIGKILL,
                        core: false
                    }
                );
                break;
            }
            stop => assert!(matches!(stop, Stop::At(_)), "{stop:?}"),
        }
    }
    // The shell that remains answers, and says so.
    assert!(matches!(thread.regs(), Err(Error::Gone { .. })));
    assert!(matches!(
        thread.resume_and_wait(Resume::Step, None, None),
        Ok(Stop::Dead(_))
    ));
    drop(thread);
    child.forget();
}

#[test]
fn killed_while_stopped() {
    let (child, thread) = stopped_child(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    child.kill(libc::SIGKILL);
    redmagic_tracee::testing::eventually("the kernel has let go of it", || thread.regs().is_err());
    assert!(thread.regs().unwrap_err().is_gone());
    match thread.step(None).unwrap().wait().unwrap() {
        WaitOutcome::Dead(death) => assert_eq!(
            death,
            Death::Signaled {
                signal: libc::SIGKILL,
                core: false
            }
        ),
        WaitOutcome::Stopped(thread) => panic!("{:?}", thread.reason()),
    }
    child.forget();
}

#[test]
fn exits_while_running() {
    let words = shared_words();
    let child = fork(|| {
        common::spin_while_zero(&words[0]);
        42
    });
    let running = stop(child.pid).cont(None).unwrap();
    words[0].store(1, SeqCst);
    match running.wait().unwrap() {
        WaitOutcome::Dead(death) => assert_eq!(death, Death::Exited(42)),
        WaitOutcome::Stopped(thread) => panic!("{:?}", thread.reason()),
    }
    child.forget();
}

#[test]
fn exec_is_an_event() {
    use redmagic_tracee::wait::{Event, StopReason};
    let words = shared_words();
    let child = fork(|| {
        common::spin_while_zero(&words[0]);
        // SAFETY: all strings are NUL-terminated and the argument list ends in null.
        unsafe {
            libc::execl(
                c"/bin/true".as_ptr(),
                c"true".as_ptr(),
                std::ptr::null::<libc::c_char>(),
            )
        };
        1
    });
    let mut thread = stop(child.pid);
    words[0].store(1, SeqCst);
    assert_eq!(
        thread.resume_and_wait(Resume::Cont, None, None).unwrap(),
        Stop::At(StopReason::Event(Event::Exec))
    );
    drop(thread);
    assert_eq!(child.join(), 0);
}
