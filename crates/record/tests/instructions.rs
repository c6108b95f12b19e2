//! What is recorded is what is executed.

mod common;
use common::*;
use redmagic_record::recording::{AccessKind, End};
use redmagic_record::stepping::Limits;
use redmagic_tracee::testing::shared_words;
use redmagic_tracee::thread::{Resume, Stop};
use redmagic_tracee::wait::StopReason;
use std::sync::atomic::Ordering::SeqCst;

/// Sums `words[8..8 + n]` into `words[0]` with a called helper; n in rsi.
#[unsafe(naked)]
extern "C" fn sum(words: u64, n: u64) -> u64 {
    std::arch::naked_asm!(
        "xor eax, eax",
        "mov qword ptr [rdi], 0",
        "2: test rsi, rsi",
        "jz 3f",
        "call {helper}",
        "dec rsi",
        "jmp 2b",
        "3: mov rax, [rdi]",
        "ret",
        helper = sym helper,
    )
}

#[unsafe(naked)]
extern "C" fn helper() {
    std::arch::naked_asm!("mov rax, [rdi + rsi*8 + 56]", "add [rdi], rax", "ret")
}

#[test]
fn a_loop_agrees_with_plain_stepping() {
    let words = shared_words();
    for n in 0..8 {
        words[8 + n].store(10 + n as u64, SeqCst);
    }
    let base = words.as_ptr() as u64;
    let function = sum as *const () as u64;

    // The independent way: step, and note where it is.
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    send_into(&mut thread, function, [base, 5, 0]);
    let mut expected = Vec::new();
    loop {
        let ip = thread.regs().unwrap().rip;
        if ip == landing as *const () as u64 {
            break;
        }
        expected.push(ip);
        assert_eq!(
            thread.resume_and_wait(Resume::Step, None, None).unwrap(),
            Stop::At(StopReason::Step)
        );
    }
    drop(thread);
    drop(child);

    words[63].store(0, SeqCst);
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    send_into(&mut thread, function, [base, 5, 0]);
    let mut guide = Table::default();
    let outcome = record_with(thread, &mut guide, &no_api, &Limits::default());
    let recording = outcome.result.unwrap();
    check(&recording);
    assert_eq!(recording.steps.iter().map(|s| s.ip()).collect::<Vec<_>>(), expected);
    assert_eq!(
        recording.end,
        End::Stopped {
            ip: landing as *const () as u64,
            reason: 77
        }
    );
    assert_eq!(recording.start.gpr[7], base);
    assert_eq!(guide.seen_calls.len(), 5);
    assert_eq!(*guide.depths.iter().max().unwrap(), 1);
    assert_eq!(*guide.depths.last().unwrap(), -1);
    assert_eq!(words[0].load(SeqCst), 10 + 11 + 12 + 13 + 14);
    assert_eq!(outcome.thread.unwrap().regs().unwrap().rax, 60);

    // add [rdi], rax reads the sum so far, each time.
    let sums: Vec<u64> = instructions(&recording)
        .iter()
        .filter_map(|i| i.mem.iter().find(|m| m.kind == AccessKind::ReadWrite))
        .map(|m| {
            assert_eq!((m.addr, m.size), (base, 8));
            u64::from_le_bytes(m.value[..].try_into().unwrap())
        })
        .collect();
    assert_eq!(sums, [0, 14, 27, 39, 50]);
    // A call writes its return address, and the value is the one after it.
    let call = instructions(&recording)
        .into_iter()
        .find(|i| i.bytes[0] == 0xe8)
        .unwrap();
    assert_eq!(call.mem.len(), 1);
    assert_eq!(call.mem[0].kind, AccessKind::Write);
    assert_eq!(
        u64::from_le_bytes(call.mem[0].value[..].try_into().unwrap()),
        call.ip + 5
    );
}

/// Pushes the flags with and without carry, then moves, scans, and asks for the pid.
#[unsafe(naked)]
extern "C" fn quirks(words: u64) -> u64 {
    std::arch::naked_asm!(
        "push rbx",
        "mov rbx, rdi",
        "pushfq",
        "pop qword ptr [rbx]",
        "lea rsi, [rbx + 64]",
        "lea rdi, [rbx + 128]",
        "mov ecx, 20",
        "rep movsb",
        "mov rdi, rbx",
        "add rdi, 64",
        "mov al, 3",
        "mov ecx, 8",
        "repne scasb",
        "xor ecx, ecx",
        "rep stosb",
        "mov eax, 39",
        "syscall",
        "mov [rbx + 8], r11",
        "mov [rbx + 16], rax",
        "pop rbx",
        "ret"
    )
}

#[test]
fn trap_flag_repeats_and_system_calls() {
    let words = shared_words();
    words[8].store(u64::from_le_bytes([1, 2, 3, 4, 5, 6, 7, 8]), SeqCst);
    let child = spinning_child(words, || {});
    let base = words.as_ptr() as u64;
    let mut thread = stop(child.pid);
    send_into(&mut thread, quirks as *const () as u64, [base, 0, 0]);
    let outcome = record_with(thread, &mut Table::default(), &no_api, &Limits::default());
    let recording = outcome.result.unwrap();
    check(&recording);
    assert_eq!(recording.steps.len(), 21);
    assert_eq!(words[0].load(SeqCst) & 0x100, 0, "the trap flag was pushed");
    assert_eq!(words[1].load(SeqCst) & 0x100, 0, "the trap flag was left in r11");
    assert_eq!(words[2].load(SeqCst), child.pid as u64);
    let all = instructions(&recording);
    let movs = all[7];
    let read = movs.mem.iter().find(|m| m.kind == AccessKind::Read).unwrap();
    let write = movs.mem.iter().find(|m| m.kind == AccessKind::Write).unwrap();
    assert_eq!(
        (read.addr, read.size, write.addr, write.size),
        (base + 64, 20, base + 128, 20)
    );
    assert_eq!(read.value, write.value);
    assert_eq!(read.value[..9], [1, 2, 3, 4, 5, 6, 7, 8, 0]);
    let scas = all[12];
    assert_eq!((scas.mem[0].addr, scas.mem[0].size), (base + 64, 3));
    assert_eq!(scas.mem[0].value[..], [1, 2, 3]);
    assert!(all[14].mem.is_empty(), "no iterations, no memory");
    // The pushed flags themselves.
    let pushed = u64::from_le_bytes(all[2].mem[0].value[..].try_into().unwrap());
    assert_eq!(pushed, words[0].load(SeqCst));
}

#[unsafe(naked)]
extern "C" fn traps() {
    std::arch::naked_asm!("nop", "int3", "ret")
}

#[test]
fn refused_instructions_are_not_executed() {
    let words = shared_words();
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    send_into(&mut thread, traps as *const () as u64, [0; 3]);
    let outcome = record_with(thread, &mut Table::default(), &no_api, &Limits::default());
    let aborted = outcome.result.unwrap_err();
    assert_eq!(aborted.reason, redmagic_record::abort::Abort::Interrupt);
    assert_eq!((aborted.ip, aborted.steps), (traps as *const () as u64 + 1, 1));
    assert_eq!(outcome.thread.unwrap().regs().unwrap().rip, aborted.ip);
}

#[test]
fn limits_hold() {
    use redmagic_record::abort::Abort;
    let words = shared_words();
    words[8].store(1, SeqCst);
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    send_into(&mut thread, sum as *const () as u64, [words.as_ptr() as u64, 40, 0]);
    let limits = Limits {
        max_steps: 50,
        ..Limits::default()
    };
    let outcome = record_with(thread, &mut Table::default(), &no_api, &limits);
    let aborted = outcome.result.unwrap_err();
    assert_eq!((aborted.reason, aborted.steps), (Abort::TooLong, 50));
    let limits = Limits {
        max_time: std::time::Duration::ZERO,
        ..Limits::default()
    };
    let outcome = record_with(outcome.thread.unwrap(), &mut Table::default(), &no_api, &limits);
    assert_eq!(outcome.result.unwrap_err().reason, Abort::TooSlow);
    // And it still runs.
    drop(outcome.thread);
    redmagic_tracee::testing::eventually("runs on", || words[0].load(SeqCst) > 0);
}

#[test]
fn a_program_without_a_trap_handler_is_left_alone() {
    let words = shared_words();
    let child = redmagic_tracee::testing::fork(|| {
        loop {
            words[0].fetch_add(1, SeqCst);
        }
    });
    let outcome = record_with(stop(child.pid), &mut Table::default(), &no_api, &Limits::default());
    assert_eq!(
        outcome.result.unwrap_err().reason,
        redmagic_record::abort::Abort::TrapNotCaught
    );
    assert_eq!(outcome.stats.single_steps, 0);
}

#[test]
fn a_blocked_sigtrap_is_blocked_again_and_its_handler_survives() {
    let words = shared_words();
    // SAFETY: blocks a signal in this thread of the child.
    let child = spinning_child(words, || unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&mut set, libc::SIGTRAP);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    });
    let mut thread = stop(child.pid);
    let mask = thread.sigmask().unwrap();
    assert_ne!(mask & 1 << 4, 0);
    send_into(&mut thread, sum as *const () as u64, [words.as_ptr() as u64, 3, 0]);
    let outcome = record_with(thread, &mut Table::default(), &no_api, &Limits::default());
    outcome.result.unwrap();
    assert_eq!(outcome.thread.unwrap().sigmask().unwrap(), mask);
    assert!(
        redmagic_tracee::process::Status::read(child.pid)
            .unwrap()
            .catches(libc::SIGTRAP)
    );
}
