//! The target makes system calls for us, and what it was doing itself goes on undisturbed.

mod common;
use common::{spin_while_zero, stop};
use redmagic_tracee::maps::Maps;
use redmagic_tracee::memory::Memory;
use redmagic_tracee::process::Status;
use redmagic_tracee::syscall::Remote;
use redmagic_tracee::testing::{Child, eventually, fork, shared_words};
use redmagic_tracee::thread::Stopped;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

const PROT_RW: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const ANON: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;

fn mmap_some(thread: &mut Stopped) -> u64 {
    let mut remote = Remote::new(thread).unwrap();
    let pid = remote.syscall(libc::SYS_getpid, [0; 6]).unwrap();
    assert_eq!(pid, i64::from(remote.tgid()));
    let at = remote
        .syscall_ok("mmap", libc::SYS_mmap, [0, 8192, PROT_RW, ANON, u64::MAX, 0])
        .unwrap();
    remote.memory().write_u64(at, 99).unwrap();
    let error = remote
        .syscall_ok("close", libc::SYS_close, [9999, 0, 0, 0, 0, 0])
        .unwrap_err();
    assert!(error.to_string().contains("EBADF"), "{error}");
    remote.finish().unwrap();
    at
}

/// Waits until the child sleeps in the kernel.
fn asleep(child: &Child) {
    eventually("asleep", || Status::read(child.pid).unwrap().state == 'S');
}

#[test]
fn mmap_with_registers_and_vector_state_as_before() {
    let (_child, mut thread) = common::stopped_child(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    let before = (
        thread.regs().unwrap(),
        thread.xstate().unwrap(),
        thread.sigmask().unwrap(),
    );
    let at = mmap_some(&mut thread);
    assert_eq!(
        (
            thread.regs().unwrap(),
            thread.xstate().unwrap(),
            thread.sigmask().unwrap()
        ),
        before
    );
    assert!(Maps::read(thread.tid()).unwrap().find(at).unwrap().perms.write);
    assert_eq!(Memory::new(thread.tid()).read_u64(at).unwrap(), 99);
}

#[test]
fn nanosleep_sleeps_its_time_out() {
    let child = fork(|| {
        let begin = Instant::now();
        let time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 400_000_000,
        };
        // SAFETY: `time` is a live local; the remainder is not asked for.
        let result = unsafe { libc::nanosleep(&time, std::ptr::null_mut()) };
        let slept = begin.elapsed();
        i32::from(!(result == 0 && slept >= Duration::from_millis(400) && slept < Duration::from_secs(3)))
    });
    asleep(&child);
    for _ in 0..3 {
        let mut thread = stop(child.pid);
        mmap_some(&mut thread);
    }
    assert_eq!(child.join(), 0);
}

#[test]
fn futex_wait_is_woken() {
    for timeout in [false, true] {
        let words = shared_words();
        let child = fork(move || {
            let time = libc::timespec { tv_sec: 5, tv_nsec: 0 };
            let time = if timeout { &raw const time } else { std::ptr::null() };
            // SAFETY: the word is shared memory that stays mapped; the timeout is null or a live local.
            let result = unsafe { libc::syscall(libc::SYS_futex, &words[0], libc::FUTEX_WAIT, 0, time) };
            result as i32
        });
        asleep(&child);
        let mut thread = stop(child.pid);
        mmap_some(&mut thread);
        drop(thread);
        asleep(&child);
        words[0].store(1, SeqCst);
        // SAFETY: wakes whoever waits on a word that is mapped.
        let woken = unsafe { libc::syscall(libc::SYS_futex, &words[0], libc::FUTEX_WAKE, 1) };
        assert_eq!(woken, 1);
        assert_eq!(child.join(), 0);
    }
}

#[test]
fn read_goes_on() {
    let mut ends = [0; 2];
    // SAFETY: `ends` is valid for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let child = fork(|| {
        let mut byte = 0u8;
        // SAFETY: reads one byte into a live local.
        let n = unsafe { libc::read(ends[0], (&raw mut byte).cast(), 1) };
        if n == 1 { i32::from(byte) } else { -1 }
    });
    asleep(&child);
    let mut thread = stop(child.pid);
    mmap_some(&mut thread);
    drop(thread);
    // SAFETY: writes one byte from a static.
    assert_eq!(unsafe { libc::write(ends[1], b"*".as_ptr().cast(), 1) }, 1);
    assert_eq!(child.join(), i32::from(b'*'));
}

static SEEN: std::sync::OnceLock<&'static [AtomicU64; 64]> = std::sync::OnceLock::new();

extern "C" fn on_signal(number: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let words = SEEN.get().unwrap();
    words[10].fetch_add(1, SeqCst);
    words[11].store(number as u64, SeqCst);
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler; for a queued signal the value is set.
    words[12].store(unsafe { (*info).si_value().sival_ptr } as u64, SeqCst);
}

#[test]
fn the_signal_it_was_stopped_for_is_delivered_with_its_value() {
    use redmagic_tracee::thread::{Resume, Stop};
    use redmagic_tracee::wait::StopReason;
    let words = shared_words();
    SEEN.set(words).unwrap();
    let child = fork(|| {
        // SAFETY: zeroed sigaction is valid; the handler only does atomic stores.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(40, &action, std::ptr::null_mut());
        }
        words[1].store(1, SeqCst);
        spin_while_zero(&words[2]);
        i32::from(!(words[10].load(SeqCst) == 1 && words[12].load(SeqCst) == 0xabcd))
    });
    spin_while_zero(&words[1]);
    let mut thread = stop(child.pid);
    let value = libc::sigval {
        sival_ptr: 0xabcd as *mut libc::c_void,
    };
    // SAFETY: queues a signal with a value to our own child.
    assert_eq!(unsafe { libc::sigqueue(child.pid, 40, value) }, 0);
    let stop = thread.resume_and_wait(Resume::Cont, None, None).unwrap();
    assert_eq!(stop, Stop::At(StopReason::SignalDelivery(40)));
    mmap_some(&mut thread);
    assert_eq!(thread.pending_signal(), Some(40));
    drop(thread);
    eventually("handled", || words[10].load(SeqCst) == 1);
    words[2].store(1, SeqCst);
    assert_eq!(child.join(), 0);
}

extern "C" fn add(a: u64, b: u64) -> u64 {
    std::hint::black_box(a) * 10 + b
}

extern "C" fn forever() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

#[test]
fn functions_are_called() {
    let (_child, mut thread) = common::stopped_child(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    let before = (
        thread.regs().unwrap(),
        thread.xstate().unwrap(),
        thread.sigmask().unwrap(),
    );
    let mut remote = Remote::new(&mut thread).unwrap();
    let text = remote.push(b"HOME\0").unwrap();
    assert_eq!(remote.memory().read_c_string(text, 64).unwrap(), b"HOME");
    let second = Duration::from_secs(1);
    let address = add as extern "C" fn(u64, u64) -> u64 as usize as u64;
    assert_eq!(remote.call(address, [4, 2, 0, 0, 0, 0], second).unwrap(), 42);
    let strlen = libc::strlen as *const () as u64;
    assert_eq!(remote.call(strlen, [text, 0, 0, 0, 0, 0], second).unwrap(), 4);
    // A fault in the function is an error, not a fault of the target.
    assert!(remote.call(strlen, [8, 0, 0, 0, 0, 0], second).is_err());
    let forever = forever as extern "C" fn() -> ! as usize as u64;
    let error = remote.call(forever, [0; 6], Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, redmagic_tracee::Error::Timeout { .. }), "{error}");
    remote.finish().unwrap();
    assert_eq!(
        (
            thread.regs().unwrap(),
            thread.xstate().unwrap(),
            thread.sigmask().unwrap()
        ),
        before
    );
}

#[test]
fn functions_are_called_where_sigtrap_is_ignored() {
    let words = shared_words();
    let child = fork(|| {
        // SAFETY: sets a disposition.
        unsafe { libc::signal(libc::SIGTRAP, libc::SIG_IGN) };
        words[0].store(1, SeqCst);
        spin_while_zero(&words[1]);
        // SAFETY: a null action only asks.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGTRAP, std::ptr::null(), &mut action);
            i32::from(action.sa_sigaction != libc::SIG_IGN)
        }
    });
    spin_while_zero(&words[0]);
    let mut thread = stop(child.pid);
    let mut remote = Remote::new(&mut thread).unwrap();
    let address = add as extern "C" fn(u64, u64) -> u64 as usize as u64;
    assert_eq!(
        remote
            .call(address, [1, 5, 0, 0, 0, 0], Duration::from_secs(1))
            .unwrap(),
        15
    );
    remote.finish().unwrap();
    drop(thread);
    words[1].store(1, SeqCst);
    assert_eq!(child.join(), 0);
}

#[test]
fn death_within_is_an_error() {
    let (child, mut thread) = common::stopped_child(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    let mut remote = Remote::new(&mut thread).unwrap();
    let error = remote.syscall(libc::SYS_exit_group, [3, 0, 0, 0, 0, 0]).unwrap_err();
    assert!(error.is_gone(), "{error}");
    remote.finish().unwrap();
    child.forget();
}
