//! The comparison of an optimised trace with its recording finds what is wrong.

mod common;

use common::{TEXT, end_at, inst, key, recording, shim};
use redmagic_engine::{lift, observe};
use redmagic_ir::eval::{Host, Memory};
use redmagic_ir::{Abi, Opcode, Trace};
use redmagic_proto::ApiFn;
use redmagic_record::recording::{AccessKind, MemAccess, Recording, ShimExecution, Step};

/// add rax, rbx; mov [rcx], rax
fn recorded() -> Recording {
    let mut store = inst(TEXT + 3, &[0x48, 0x89, 0x01], TEXT + 6);
    let Step::Inst(store_inst) = &mut store else {
        unreachable!()
    };
    store_inst.mem.push(MemAccess {
        addr: 0x9000,
        size: 8,
        kind: AccessKind::Write,
        value: [12, 0, 0, 0, 0, 0, 0, 0][..].into(),
    });
    let mut recording = recording(vec![inst(TEXT, &[0x48, 0x01, 0xd8], TEXT + 3), store], end_at(key(1)));
    recording.start.gpr[0] = 5;
    recording.start.gpr[3] = 7;
    recording.start.gpr[1] = 0x9000;
    recording.start.gpr[7] = key(1).id;
    recording
}

fn lifted(recording: &Recording) -> Trace {
    let (trace, stop) = lift::lift(recording).unwrap();
    assert_eq!(stop, None);
    trace
}

#[test]
fn equal_traces_do_not_differ() {
    let recording = recorded();
    let trace = lifted(&recording);
    assert_eq!(
        observe::difference(&trace, &trace, &recording, observe::start(&recording)),
        None
    );
}

#[test]
fn a_wrong_register_is_found() {
    let recording = recorded();
    let trace = lifted(&recording);
    let mut wrong = trace.clone();
    let add = wrong.ops.iter_mut().find(|op| op.code == Opcode::Add).unwrap();
    add.code = Opcode::Sub;
    let found = observe::difference(&trace, &wrong, &recording, observe::start(&recording)).unwrap();
    assert!(found.starts_with("rax is"), "{found}");
}

#[test]
fn a_missing_store_is_found() {
    let recording = recorded();
    let trace = lifted(&recording);
    let mut wrong = trace.clone();
    let store = wrong.ops.iter().position(|op| op.code == Opcode::Store).unwrap();
    // Elsewhere is as good as nowhere.
    wrong.ops[store].aux = 64;
    let found = observe::difference(&trace, &wrong, &recording, observe::start(&recording)).unwrap();
    assert!(found.contains("0x90"), "{found}");
}

#[test]
fn a_guard_that_fails_is_found() {
    let recording = recorded();
    let trace = lifted(&recording);
    let mut wrong = trace.clone();
    if let Some(guard) = wrong.ops.iter_mut().find(|op| op.code == Opcode::GuardTrue) {
        guard.code = Opcode::GuardFalse;
    }
    assert!(observe::difference(&trace, &wrong, &recording, observe::start(&recording)).is_some());
}

/// mov eax, [rcx], which reads the generation.
fn reads_generation(value: u8) -> Step {
    let mut load = inst(TEXT, &[0x8b, 0x01], TEXT + 2);
    let Step::Inst(inst) = &mut load else { unreachable!() };
    inst.mem.push(MemAccess {
        addr: 0x9000,
        size: 4,
        kind: AccessKind::Read,
        value: [value, 1, 0, 0][..].into(),
    });
    load
}

#[test]
fn the_generation_is_what_it_is_compared_with() {
    let mut called = shim(ApiFn::ConstantMemoryEnd, TEXT + 2, [0; 2], 0);
    if let Step::Shim(call) = &mut called {
        call.action = ShimExecution::Executed(Box::default());
    }
    let recording = recording(vec![reads_generation(7), called, reads_generation(8)], end_at(key(1)));
    let mut recorded = observe::start(&recording).recorded;
    recorded.agree((0x9000, 0xa000));
    let word = |recorded: &mut observe::Recorded| {
        let mut bytes = [0; 4];
        recorded.load(0xa000, &mut bytes).unwrap();
        u32::from_le_bytes(bytes)
    };
    assert_eq!(word(&mut recorded), 0x107);
    recorded
        .call(Abi::SysV, 0, &mut observe::start(&recording).regs)
        .unwrap();
    assert_eq!(word(&mut recorded), 0x108);
}
