//! Signals, job control, blocking system calls, exec and death in the middle of a recording.

mod common;
use common::*;
use redmagic_record::abort::Abort;
use redmagic_record::recording::Step;
use redmagic_record::stepping::Limits;
use redmagic_tracee::process::Status;
use redmagic_tracee::testing::{eventually, shared_words};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// A loop of five instructions; counts in the word at rdi.
#[unsafe(naked)]
extern "C" fn count(word: u64, n: u64) {
    std::arch::naked_asm!(
        "2: mov rax, [rdi]",
        "inc rax",
        "mov [rdi], rax",
        "dec rsi",
        "jnz 2b",
        "ret"
    )
}

static WORDS: OnceLock<&'static [AtomicU64; 64]> = OnceLock::new();

extern "C" fn on_alarm(_: i32) {
    WORDS.get().unwrap()[10].fetch_add(1, SeqCst);
}

fn storm() {
    // SAFETY: the handler does one atomic addition; the timer structure is plain data.
    unsafe {
        libc::signal(libc::SIGALRM, on_alarm as extern "C" fn(i32) as usize);
        let tick = libc::timeval {
            tv_sec: 0,
            tv_usec: 1000,
        };
        let timer = libc::itimerval {
            it_interval: tick,
            it_value: tick,
        };
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
    }
}

#[test]
fn a_storm_of_signals_changes_nothing() {
    let words = shared_words();
    WORDS.set(words).unwrap();
    let child = spinning_child(words, storm);
    let mut thread = stop(child.pid);
    send_into(&mut thread, count as *const () as u64, [words.as_ptr() as u64, 1000, 0]);
    let outcome = record_with(
        thread,
        &mut Table::default(),
        &no_api,
        &Limits {
            max_time: Duration::from_secs(20),
            ..Limits::default()
        },
    );
    println!("{:?}", outcome.stats);
    let recording = outcome.result.unwrap();
    check(&recording);
    assert_eq!(recording.steps.len(), 5001);
    assert_eq!(words[0].load(SeqCst), 1000);
    assert!(recording.meta.signals > 20, "{:?}", outcome.stats);
    assert!(words[10].load(SeqCst) >= u64::from(recording.meta.signals) - 1);
    let start = count as *const () as u64;
    for (n, step) in recording.steps[..5000].iter().enumerate() {
        assert_eq!(step.ip() - start, [0, 3, 6, 9, 12][n % 5], "step {n}");
    }
}

#[test]
fn a_signal_that_never_comes_back_is_given_up() {
    extern "C" fn forever(_: i32) {
        loop {
            WORDS.get().unwrap()[11].fetch_add(1, SeqCst);
        }
    }
    let words = shared_words();
    WORDS.set(words).unwrap();
    // SAFETY: the handler counts in shared memory.
    let child = spinning_child(words, || unsafe {
        libc::signal(libc::SIGUSR1, forever as extern "C" fn(i32) as usize);
    });
    let mut thread = stop(child.pid);
    send_into(&mut thread, count as *const () as u64, [words.as_ptr() as u64, 1000, 0]);
    let pid = child.pid;
    let hook = Box::new(move |n| {
        if n == 100 {
            // SAFETY: kill takes integers; `pid` is our child, not reaped.
            let _ = unsafe { libc::kill(pid, libc::SIGUSR1) };
        }
    });
    let mut guide = Table {
        hook: Some(hook),
        ..Table::default()
    };
    let outcome = record_with(thread, &mut guide, &no_api, &Limits::default());
    assert_eq!(outcome.result.unwrap_err().reason, Abort::SignalTimeout);
    drop(outcome.thread);
    let before = words[11].load(SeqCst);
    eventually("the handler runs on", || words[11].load(SeqCst) > before);
}

fn killed_at(step: usize, signal: i32) -> (Abort, bool, redmagic_tracee::testing::Child) {
    let words = shared_words();
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    send_into(&mut thread, count as *const () as u64, [words.as_ptr() as u64, 1000, 0]);
    let pid = child.pid;
    let hook = Box::new(move |n| {
        if n == step {
            // SAFETY: kill takes integers; `pid` is our child, not reaped.
            let _ = unsafe { libc::kill(pid, signal) };
        }
    });
    let mut guide = Table {
        hook: Some(hook),
        ..Table::default()
    };
    let outcome = record_with(thread, &mut guide, &no_api, &Limits::default());
    let died = outcome.thread.is_none();
    (outcome.result.unwrap_err().reason, died, child)
}

#[test]
fn death_is_a_value() {
    let (reason, died, child) = killed_at(500, libc::SIGKILL);
    assert_eq!((reason, died), (Abort::Died, true));
    child.forget();
    // A signal without a handler kills too, through the delivery.
    let (reason, died, child) = killed_at(10, libc::SIGTERM);
    assert_eq!((reason, died), (Abort::Died, true));
    child.forget();
}

#[test]
fn job_control_is_not_disturbed() {
    let (reason, died, child) = killed_at(10, libc::SIGSTOP);
    assert_eq!((reason, died), (Abort::JobControl, false));
    eventually("stopped", || Status::read(child.pid).unwrap().state == 'T');
    child.kill(libc::SIGCONT);
    eventually("runs on", || Status::read(child.pid).unwrap().state == 'R');
}

/// nanosleep(rdi, null), then stores the result and the word 1.
#[unsafe(naked)]
extern "C" fn sleep_and_tell(time: u64, words: u64) {
    std::arch::naked_asm!(
        "mov r8, rsi",
        "xor esi, esi",
        "mov eax, 35",
        "syscall",
        "mov [r8], rax",
        "mov qword ptr [r8 + 8], 1",
        "ret"
    )
}

#[test]
fn a_blocking_system_call_ends_the_recording_and_then_completes() {
    let words = shared_words();
    words[20].store(1, SeqCst);
    words[21].store(500_000_000, SeqCst);
    words[0].store(99, SeqCst);
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    let base = words.as_ptr() as u64;
    send_into(&mut thread, sleep_and_tell as *const () as u64, [base + 160, base, 0]);
    let begin = Instant::now();
    let outcome = record_with(thread, &mut Table::default(), &no_api, &Limits::default());
    assert_eq!(outcome.result.unwrap_err().reason, Abort::SyscallBlocked);
    assert_ne!(words[1].load(SeqCst), 1, "it still sleeps");
    drop(outcome.thread);
    eventually("it wakes up", || words[1].load(SeqCst) == 1);
    let slept = begin.elapsed();
    assert!(slept >= Duration::from_millis(1500), "{slept:?}");
    assert_eq!(words[0].load(SeqCst), 0, "nanosleep was interrupted");
}

#[test]
fn a_short_system_call_is_one_step() {
    let words = shared_words();
    words[21].store(1_000_000, SeqCst);
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    let base = words.as_ptr() as u64;
    send_into(&mut thread, sleep_and_tell as *const () as u64, [base + 160, base, 0]);
    let outcome = record_with(thread, &mut Table::default(), &no_api, &Limits::default());
    let recording = outcome.result.unwrap();
    check(&recording);
    assert_eq!(recording.steps.len(), 7);
    assert!(matches!(&recording.steps[3], Step::Inst(i) if i.bytes[..] == [0x0f, 0x05]));
    assert_eq!(words[0].load(SeqCst), 0);
}

#[unsafe(naked)]
extern "C" fn exit_now() {
    std::arch::naked_asm!("mov edi, 3", "mov eax, 231", "syscall")
}

#[test]
fn exit_is_left_to_the_program() {
    let words = shared_words();
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    send_into(&mut thread, exit_now as *const () as u64, [0; 3]);
    let outcome = record_with(thread, &mut Table::default(), &no_api, &Limits::default());
    assert_eq!(outcome.result.unwrap_err().reason, Abort::Syscall);
    drop(outcome.thread);
    assert_eq!(child.join(), 3);
}

/// Blocks the signals in the word at rdi (rt_sigprocmask(SIG_BLOCK, rdi, null, 8)) and returns.
#[unsafe(naked)]
extern "C" fn block_signals(set: u64) {
    std::arch::naked_asm!(
        "mov rsi, rdi",
        "xor edi, edi",
        "xor edx, edx",
        "mov r10d, 8",
        "mov eax, 14",
        "syscall",
        "ret"
    )
}

#[unsafe(naked)]
extern "C" fn call_block_signals(set: u64) {
    std::arch::naked_asm!("sub rsp, 8", "call {f}", "add rsp, 8", "ret", f = sym block_signals)
}

#[test]
fn a_call_that_blocks_sigtrap_costs_its_handler_and_is_reported() {
    let words = shared_words();
    words[0].store(1 << (libc::SIGTRAP - 1), SeqCst);
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    let function = call_block_signals as *const () as u64;
    send_into(&mut thread, function, [words.as_ptr() as u64, 0, 0]);
    let mut guide = Table::default();
    let residual = redmagic_record::guide::CallAction::Residual;
    guide.calls.insert(block_signals as *const () as u64, residual);
    let outcome = record_with(thread, &mut guide, &no_api, &Limits::default());
    assert_eq!(outcome.result.unwrap_err().reason, Abort::TrapLost);
    assert!(outcome.thread.is_some());
}

/// Reads address 8.
#[unsafe(naked)]
extern "C" fn fault() {
    std::arch::naked_asm!("mov eax, 8", "mov rax, [rax]", "ret")
}

#[test]
fn a_fault_kills_as_it_would_without_us() {
    let words = shared_words();
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    send_into(&mut thread, fault as *const () as u64, [0; 3]);
    let outcome = record_with(thread, &mut Table::default(), &no_api, &Limits::default());
    let aborted = outcome.result.unwrap_err();
    assert_eq!(aborted.reason, Abort::Died, "{aborted}");
    assert!(aborted.detail.contains("signal 11"), "{aborted}");
    child.forget();
}

/// Two instructions, then sched_getaffinity(0, 128, rdi).
#[unsafe(naked)]
extern "C" fn ask_affinity(set: u64) {
    std::arch::naked_asm!(
        "mov rdx, rdi",
        "xor edi, edi",
        "mov esi, 128",
        "mov eax, 204",
        "syscall",
        "ret"
    )
}

#[test]
fn the_program_does_not_see_that_it_is_bound_to_a_processor() {
    let words = shared_words();
    let child = spinning_child(words, || {});
    // SAFETY: all-zero is an empty set; the kernel fills it.
    let own = || unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(child.pid, size_of::<libc::cpu_set_t>(), &mut set);
        set
    };
    let before = own();
    let mut thread = stop(child.pid);
    send_into(
        &mut thread,
        ask_affinity as *const () as u64,
        [words.as_ptr() as u64, 0, 0],
    );
    let during = std::rc::Rc::new(std::cell::Cell::new(0));
    let (seen, pid) = (during.clone(), child.pid);
    let hook = Box::new(move |n| {
        if n == 3 {
            // SAFETY: as above.
            let set = unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::sched_getaffinity(pid, size_of::<libc::cpu_set_t>(), &mut set);
                libc::CPU_COUNT(&set)
            };
            seen.set(set);
        }
    });
    let mut guide = Table {
        hook: Some(hook),
        ..Table::default()
    };
    let outcome = record_with(thread, &mut guide, &no_api, &Limits::default());
    outcome.result.unwrap();
    assert_eq!(during.get(), 1, "bound while it is stepped");
    assert!(own() == before);
    // SAFETY: any bits are a valid set; the words are larger than it.
    let seen = unsafe { words.as_ptr().cast::<libc::cpu_set_t>().read() };
    assert!(seen == before);
}
