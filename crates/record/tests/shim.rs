//! Calls of the C API: skipped, run, stepped into, native until, and the end of a recording.

mod common;
use common::*;
use redmagic_record::guide::ShimAction;
use redmagic_record::recording::{Api, End, ShimCall, ShimExecution, Step};
use redmagic_record::stepping::{Limits, Outcome};
use redmagic_tracee::testing::shared_words;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

/// Stores a 1 at rsi and returns twice rdi.
#[unsafe(naked)]
extern "C" fn api_double(value: u64, word: u64) -> u64 {
    std::arch::naked_asm!("mov qword ptr [rsi], 1", "lea rax, [rdi + rdi]", "ret")
}

#[unsafe(naked)]
extern "C" fn api_disable() {
    std::arch::naked_asm!("nop", "ret")
}

#[unsafe(naked)]
extern "C" fn api_enable() {
    std::arch::naked_asm!("nop", "ret")
}

static SLOT: extern "C" fn(u64, u64) -> u64 = api_double;

#[unsafe(naked)]
extern "C" fn stub() {
    std::arch::naked_asm!("endbr64", "jmp qword ptr [rip + {slot}]", slot = sym SLOT)
}

#[unsafe(naked)]
extern "C" fn through_stub(value: u64, word: u64) -> u64 {
    std::arch::naked_asm!("sub rsp, 8", "call {stub}", "add rsp, 8", "inc rax", "ret", stub = sym stub)
}

#[unsafe(naked)]
extern "C" fn tail(value: u64, word: u64) -> u64 {
    std::arch::naked_asm!("nop", "jmp {stub}", stub = sym stub)
}

/// disable; nested pairs in another function and in the same one; enable; stores 5 at rdi.
#[unsafe(naked)]
extern "C" fn region(word: u64) {
    std::arch::naked_asm!(
        "push rdi",
        "call {disable}",
        "call {inner}",
        "call {disable}",
        "call {enable}",
        "call {enable}",
        "pop rdi",
        "mov qword ptr [rdi], 5",
        "ret",
        disable = sym api_disable, enable = sym api_enable, inner = sym inner,
    )
}

#[unsafe(naked)]
extern "C" fn inner() {
    std::arch::naked_asm!(
        "sub rsp, 8", "call {disable}", "call {enable}", "add rsp, 8", "ret",
        disable = sym api_disable, enable = sym api_enable,
    )
}

/// disable in one frame, enable in another.
#[unsafe(naked)]
extern "C" fn unbalanced() {
    std::arch::naked_asm!("push rbx", "call {disable}", "pop rbx", "jmp {enable}", disable = sym api_disable, enable = sym api_enable)
}

fn api(address: u64) -> Option<Api> {
    let table = [
        api_double as *const () as u64,
        api_disable as *const () as u64,
        api_enable as *const () as u64,
    ];
    table.iter().position(|&a| a == address).map(|n| Api(n as u8))
}

fn run(function: *const (), action: ShimAction, guide: &mut Table) -> (Outcome, &'static [AtomicU64; 64]) {
    let words = shared_words();
    // The child is killed at the end of this function, but what it left in the words stays.
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    let arguments = if function == region as *const () {
        [words.as_ptr() as u64, 0, 0]
    } else {
        [21, words.as_ptr() as u64, 0]
    };
    send_into(&mut thread, function as u64, arguments);
    guide.shim.insert(0, action);
    guide.shim.insert(1, action);
    let outcome = record_with(thread, guide, &api, &Limits::default());
    std::mem::forget(child);
    (outcome, words)
}

fn rax(outcome: &Outcome) -> u64 {
    outcome.thread.as_ref().unwrap().regs().unwrap().rax
}

fn shim_call(outcome: &Outcome) -> &ShimCall {
    let recording = outcome.result.as_ref().unwrap();
    check(recording);
    recording
        .steps
        .iter()
        .find_map(|s| if let Step::Shim(c) = s { Some(c) } else { None })
        .unwrap()
}

#[test]
fn skipped() {
    let mut guide = Table::default();
    let (outcome, words) = run(through_stub as *const (), ShimAction::Skip { result: 100 }, &mut guide);
    let call = shim_call(&outcome);
    assert_eq!(
        (call.result, &call.action, call.args[0], call.api),
        (100, &ShimExecution::Skipped, 21, Api(0))
    );
    assert_eq!(call.call.next_ip, stub as *const () as u64);
    assert_eq!(call.rsp, outcome.result.as_ref().unwrap().start.rsp() - 8);
    assert_eq!(outcome.result.as_ref().unwrap().steps.len(), 5);
    assert_eq!((rax(&outcome), words[0].load(SeqCst)), (101, 0));
    assert!(guide.seen_calls.is_empty(), "the C API is not asked about as a call");
    assert_eq!(guide.seen_shim[0].ip, call.call.ip);
}

#[test]
fn skipped_in_a_tail_call() {
    let mut guide = Table::default();
    let (outcome, _) = run(tail as *const (), ShimAction::Skip { result: 100 }, &mut guide);
    assert_eq!(shim_call(&outcome).return_address, landing as *const () as u64);
    assert_eq!((rax(&outcome), outcome.result.as_ref().unwrap().steps.len()), (100, 2));
    assert_eq!(*guide.depths.last().unwrap(), -1);
}

#[test]
fn run_natively() {
    let (outcome, words) = run(through_stub as *const (), ShimAction::RunNative, &mut Table::default());
    let call = shim_call(&outcome);
    assert_eq!(call.result, 42);
    assert!(matches!(&call.action, ShimExecution::Executed(after) if after.rip == call.return_address));
    assert_eq!((rax(&outcome), words[0].load(SeqCst)), (43, 1));
}

#[test]
fn stepped_into() {
    let mut guide = Table::default();
    let (outcome, words) = run(through_stub as *const (), ShimAction::StepInto, &mut guide);
    let recording = outcome.result.as_ref().unwrap();
    check(recording);
    assert_eq!(recording.steps.len(), 2 + 2 + 3 + 3);
    assert!(recording.steps.iter().all(|s| matches!(s, Step::Inst(_))));
    assert_eq!((rax(&outcome), words[0].load(SeqCst)), (43, 1));
    assert_eq!(*guide.depths.last().unwrap(), -1);
}

#[test]
fn the_end() {
    let (outcome, words) = run(through_stub as *const (), ShimAction::End, &mut Table::default());
    let recording = outcome.result.unwrap();
    let start = through_stub as *const () as u64;
    let rsp = recording.start.rsp() - 8;
    assert_eq!(
        recording.end,
        End::Anchor {
            api: Api(0),
            id: 21,
            return_address: start + 9,
            ip: start + 4,
            rsp
        }
    );
    assert_eq!(recording.steps.len(), 1, "neither the call nor the stub is a step");
    // The thread stands at the function, which it will execute.
    let thread = outcome.thread.unwrap();
    assert_eq!(thread.regs().unwrap().rip, api_double as *const () as u64);
    drop(thread);
    redmagic_tracee::testing::eventually("the call is made", || words[0].load(SeqCst) == 1);
}

#[test]
fn native_until_the_matching_enable() {
    let action = ShimAction::NativeUntil {
        enter: api_disable as *const () as u64,
        leave: api_enable as *const () as u64,
    };
    let mut guide = Table::default();
    let (outcome, words) = run(region as *const (), action, &mut guide);
    let recording = outcome.result.unwrap();
    check(&recording);
    assert_eq!(recording.steps.len(), 1 + 1 + 3);
    let Step::Native(native) = &recording.steps[1] else {
        panic!("{:?}", recording.steps[1])
    };
    let start = region as *const () as u64;
    assert_eq!((native.start_ip, native.resume_ip), (start + 1, start + 1 + 5 * 5));
    assert_eq!(native.after.rip, native.resume_ip);
    assert_eq!(words[0].load(SeqCst), 5);
    assert_eq!(guide.seen_shim.len(), 1);
}

#[test]
fn native_until_an_enable_of_another_activation_is_refused() {
    let action = ShimAction::NativeUntil {
        enter: api_disable as *const () as u64,
        leave: api_enable as *const () as u64,
    };
    let (outcome, _) = run(unbalanced as *const (), action, &mut Table::default());
    assert_eq!(
        outcome.result.unwrap_err().reason,
        redmagic_record::abort::Abort::NativeEscaped
    );
}
