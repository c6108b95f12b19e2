//! Inlined calls, residual calls, tail calls, PLT stubs, and calls that do not come back.

mod common;
use common::*;
use redmagic_record::abort::Abort;
use redmagic_record::guide::CallAction;
use redmagic_record::recording::{End, Residual, Step};
use redmagic_record::stepping::Limits;
use redmagic_tracee::testing::shared_words;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Calls the function in rdi with rsi, and adds one.
#[unsafe(naked)]
extern "C" fn call_it(function: u64, argument: u64) -> u64 {
    std::arch::naked_asm!(
        "sub rsp, 8",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "add rsp, 8",
        "inc rax",
        "ret"
    )
}

#[unsafe(naked)]
extern "C" fn factorial(n: u64) -> u64 {
    std::arch::naked_asm!(
        "mov eax, 1",
        "test rdi, rdi",
        "jz 2f",
        "push rdi",
        "dec rdi",
        "call {factorial}",
        "pop rdi",
        "imul rax, rdi",
        "2: ret",
        factorial = sym factorial,
    )
}

static STRLEN: unsafe extern "C" fn(*const libc::c_char) -> usize = libc::strlen;
static FACTORIAL: extern "C" fn(u64) -> u64 = factorial;

/// As the linker writes them.
#[unsafe(naked)]
extern "C" fn strlen_stub() {
    std::arch::naked_asm!("endbr64", ".byte 0xf2", "jmp qword ptr [rip + {slot}]", slot = sym STRLEN)
}

#[unsafe(naked)]
extern "C" fn factorial_stub() {
    std::arch::naked_asm!("jmp qword ptr [rip + {slot}]", slot = sym FACTORIAL)
}

#[unsafe(naked)]
extern "C" fn call_strlen_stub(text: u64) -> u64 {
    std::arch::naked_asm!("sub rsp, 8", "call {stub}", "add rsp, 8", "ret", stub = sym strlen_stub)
}

#[unsafe(naked)]
extern "C" fn tail_call_strlen_stub(text: u64) -> u64 {
    std::arch::naked_asm!("nop", "jmp {stub}", stub = sym strlen_stub)
}

#[unsafe(naked)]
extern "C" fn call_factorial_stub(n: u64) -> u64 {
    std::arch::naked_asm!("sub rsp, 8", "call {stub}", "add rsp, 8", "ret", stub = sym factorial_stub)
}

#[unsafe(naked)]
extern "C" fn tail_call_factorial(n: u64) -> u64 {
    std::arch::naked_asm!("nop", "jmp {factorial}", factorial = sym factorial)
}

fn run(function: *const (), arguments: [u64; 3], guide: &mut Table) -> (Result<Vec<Step>, Abort>, u64) {
    let words = shared_words();
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    send_into(&mut thread, function as u64, arguments);
    let outcome = record_with(thread, guide, &no_api, &Limits::default());
    let rax = outcome.thread.map_or(0, |t| t.regs().unwrap().rax);
    let result = outcome.result.map(|recording| {
        check(&recording);
        recording.steps
    });
    (result.map_err(|aborted| aborted.reason), rax)
}

fn residual(steps: &[Step]) -> &Residual {
    let mut all = steps
        .iter()
        .filter_map(|s| if let Step::Residual(r) = s { Some(r) } else { None });
    let first = all.next().expect("a residual call");
    assert!(all.next().is_none());
    first
}

#[test]
fn another_image_is_residual() {
    let text = c"seven..";
    let strlen = libc::strlen as *const () as u64;
    let (steps, rax) = run(
        call_it as *const (),
        [strlen, text.as_ptr() as u64, 0],
        &mut Table::default(),
    );
    let steps = steps.unwrap();
    assert_eq!(rax, 8);
    assert_eq!(steps.len(), 7);
    let call = residual(&steps);
    assert_eq!((call.target, call.call.next_ip, call.after.gpr[0]), (strlen, strlen, 7));
    assert_eq!(call.after.rip, call.return_address);
    assert_eq!(call.return_address, call.call.ip + call.call.bytes.len() as u64);
    assert!(call.after.xsave.len() >= 512);
    assert_eq!(call.call.mem[0].value[..], call.return_address.to_le_bytes());
}

#[test]
fn the_own_image_is_inlined() {
    let mut guide = Table::default();
    let (steps, rax) = run(call_it as *const (), [factorial as *const () as u64, 5, 0], &mut guide);
    assert_eq!(rax, 121);
    assert!(steps.unwrap().iter().all(|s| matches!(s, Step::Inst(_))));
    assert_eq!(*guide.depths.iter().max().unwrap(), 6);
}

#[test]
fn recursion_below_a_residual_call_is_one_step() {
    let f = factorial as *const () as u64;
    let mut guide = Table::default();
    guide.calls.insert(f, CallAction::Residual);
    // factorial itself is entered by call; its inner calls hit the same return address only in their own frames.
    let (steps, rax) = run(factorial as *const (), [10, 0, 0], &mut guide);
    let steps = steps.unwrap();
    assert_eq!(rax, 3_628_800);
    let call = residual(&steps);
    assert_eq!((call.target, call.after.gpr[0]), (f, 362_880));
    assert_eq!(steps.len(), 5 + 1 + 3);
}

#[test]
fn stubs_are_looked_through() {
    let text = c"four";
    let mut guide = Table::default();
    let (steps, rax) = run(call_strlen_stub as *const (), [text.as_ptr() as u64, 0, 0], &mut guide);
    let steps = steps.unwrap();
    assert_eq!((rax, steps.len()), (4, 4));
    let call = residual(&steps);
    assert_eq!(call.target, libc::strlen as *const () as u64);
    assert_eq!(call.call.next_ip, strlen_stub as *const () as u64);
    assert!(!guide.seen_calls[0].lazy && !guide.seen_calls[0].in_own_image && !guide.seen_calls[0].tail);

    // A stub of an own function is stepped through.
    let mut guide = Table::default();
    let (steps, rax) = run(call_factorial_stub as *const (), [1, 0, 0], &mut guide);
    assert_eq!(rax, 1);
    assert!(
        steps
            .unwrap()
            .iter()
            .any(|s| s.ip() == factorial_stub as *const () as u64)
    );
    assert_eq!(guide.seen_calls[0].resolved, factorial as *const () as u64);
}

#[test]
fn a_tail_call_out_of_the_image_returns_to_the_caller() {
    let text = c"five!";
    let mut guide = Table::default();
    let (steps, rax) = run(
        tail_call_strlen_stub as *const (),
        [text.as_ptr() as u64, 0, 0],
        &mut guide,
    );
    let steps = steps.unwrap();
    assert_eq!((rax, steps.len()), (5, 2));
    assert_eq!(residual(&steps).return_address, landing as *const () as u64);
    assert!(guide.seen_calls[0].tail);
    assert_eq!(*guide.depths.last().unwrap(), -1);
}

#[test]
fn a_recording_may_end_before_the_first_frame_returns() {
    let landing = Some(landing as *const () as u64);
    let ended = |function: *const (), argument: u64| {
        let child = spinning_child(shared_words(), || {});
        let mut thread = stop(child.pid);
        send_into(&mut thread, function as u64, [argument, 0, 0]);
        let mut guide = Table {
            returns_to: landing,
            ..Table::default()
        };
        let outcome = record_with(thread, &mut guide, &no_api, &Limits::default());
        let recording = outcome.result.unwrap();
        let End::Stopped { ip, reason: 78 } = recording.end else {
            panic!("{:?}", recording.end)
        };
        (recording.steps.len(), ip, outcome.thread.unwrap().regs().unwrap().rip)
    };
    // Not where functions that it calls return, nor behind the return.
    let (steps, ip, rip) = ended(factorial as *const (), 3);
    assert!(steps > 10);
    assert_eq!(ip, rip);
    assert_ne!(Some(ip), landing);
    // A jump to a function outside of the image returns for it.
    let (steps, ip, _) = ended(tail_call_strlen_stub as *const (), c"five!".as_ptr() as u64);
    assert_eq!((steps, ip), (1, tail_call_strlen_stub as *const () as u64 + 1));
}

#[test]
fn a_tail_call_of_a_named_function_is_a_call() {
    let mut guide = Table::default();
    guide.calls.insert(factorial as *const () as u64, CallAction::Residual);
    let (steps, rax) = run(tail_call_factorial as *const (), [4, 0, 0], &mut guide);
    assert_eq!(rax, 24);
    assert_eq!(steps.unwrap().len(), 2);
}

#[test]
fn the_guide_may_refuse() {
    let mut guide = Table::default();
    let f = factorial as *const () as u64;
    guide.calls.insert(f, CallAction::Abort(Abort::CallRefused));
    let (steps, _) = run(call_it as *const (), [f, 5, 0], &mut guide);
    assert_eq!(steps.unwrap_err(), Abort::CallRefused);
}

/// Leaves its caller's frames behind, as longjmp does, and stays elsewhere, counting in the word at rdi.
#[unsafe(naked)]
extern "C" fn jump_away(word: u64) {
    std::arch::naked_asm!("add rsp, 24", "2: inc qword ptr [rdi]", "jmp 2b")
}

#[test]
fn a_call_that_never_returns_is_given_up_and_runs_on() {
    let words = shared_words();
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    let f = jump_away as *const () as u64;
    send_into(&mut thread, call_it as *const () as u64, [f, words.as_ptr() as u64, 0]);
    let mut guide = Table::default();
    guide.calls.insert(f, CallAction::Residual);
    let limits = Limits {
        residual_time: Duration::from_millis(10),
        ..Limits::default()
    };
    let outcome = record_with(thread, &mut guide, &no_api, &limits);
    assert_eq!(outcome.result.unwrap_err().reason, Abort::CallTimeout);
    assert!(outcome.stats.time < Duration::from_secs(1));
    drop(outcome.thread);
    let before = words[0].load(SeqCst);
    redmagic_tracee::testing::eventually("runs on", || words[0].load(SeqCst) > before);
}

/// Unwinds to the return address of its caller's call, with a higher stack pointer.
#[unsafe(naked)]
extern "C" fn return_with_frame_gone() {
    std::arch::naked_asm!("pop rax", "add rsp, 64", "jmp rax")
}

#[test]
fn a_call_that_returns_to_the_wrong_frame_is_noticed() {
    let mut guide = Table::default();
    let f = return_with_frame_gone as *const () as u64;
    guide.calls.insert(f, CallAction::Residual);
    let (steps, _) = run(call_it as *const (), [f, 0, 0], &mut guide);
    assert_eq!(steps.unwrap_err(), Abort::CallEscaped);
}

/// Two indirect jumps, one direct one in front of them, and a tail call through a register.
#[unsafe(naked)]
extern "C" fn jumps() {
    std::arch::naked_asm!(
        "push rbx",
        "mov ebx, 2",
        "jmp 2f",
        "2: mov ebx, 1",
        "lea rax, [rip + 3f]",
        "jmp rax",
        "ud2",
        "3: mov ebx, 2",
        "lea rax, [rip + 4f]",
        "jmp rax",
        "ud2",
        "4: pop rbx",
        "ret",
    )
}

#[test]
fn a_guide_can_end_a_recording_behind_an_indirect_jump() {
    for (with, steps) in [(1, 6), (2, 9)] {
        let words = shared_words();
        let child = spinning_child(words, || {});
        let mut thread = stop(child.pid);
        send_into(&mut thread, jumps as *const () as u64, [0; 3]);
        let mut guide = Table {
            jumps_with: Some(with),
            ..Table::default()
        };
        let recording = record_with(thread, &mut guide, &no_api, &Limits::default())
            .result
            .expect("recorded");
        check(&recording);
        assert_eq!(recording.steps.len(), steps);
        let End::Stopped { ip, reason: 79 } = recording.end else {
            panic!("{:?}", recording.end)
        };
        let Some(Step::Inst(jump)) = recording.steps.last() else {
            panic!("no jump")
        };
        assert_eq!(jump.next_ip, ip, "it goes on where the jump led to");
    }
}
