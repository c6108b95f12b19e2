//! What a Recording becomes, and what is refused.

mod common;

use common::{TEXT, end_at, inst, key, loop_steps, recording, shim};
use redmagic_emit::copy::{Op, ShimResult};
use redmagic_engine::plan::plan;
use redmagic_proto::ApiFn;
use redmagic_record::abort::Abort;
use redmagic_record::recording::{NativeRegion, RegisterFile, Step};

fn planned(steps: Vec<Step>) -> Result<Vec<Op>, (Abort, u64)> {
    plan(&recording(steps, end_at(key(1))))
}

#[test]
fn branches_keep_their_outcome() {
    let ops = planned(loop_steps()).unwrap();
    assert!(matches!(ops[0], Op::Copy { .. }));
    assert!(matches!(ops[1], Op::Branch { taken: true, .. }));
    let ops = planned(vec![inst(TEXT, &[0x75, 0x10], TEXT + 2)]).unwrap();
    assert!(matches!(ops[0], Op::Branch { taken: false, .. }));
}

#[test]
fn direct_jumps_disappear() {
    assert_eq!(planned(vec![inst(TEXT, &[0xeb, 0x10], TEXT + 0x12)]).unwrap(), []);
}

#[test]
fn an_indirect_jump_with_dead_flags_is_guarded() {
    let steps = vec![
        inst(TEXT, &[0xff, 0xe0], TEXT + 0x50),              // jmp rax
        inst(TEXT + 0x50, &[0x48, 0x89, 0xc3], TEXT + 0x53), // mov rbx, rax
        inst(TEXT + 0x53, &[0x48, 0x85, 0xc0], TEXT + 0x56), // test rax, rax
        inst(TEXT + 0x56, &[0x74, 0x10], TEXT + 0x58),       // je
    ];
    assert!(matches!(planned(steps).unwrap()[0], Op::Jump { target, .. } if target == TEXT + 0x50));
}

#[test]
fn an_indirect_jump_with_live_flags_is_refused() {
    let jump = inst(TEXT, &[0xff, 0xe0], TEXT + 0x50);
    for reader in [&[0x74, 0x10][..], &[0x0f, 0x94, 0xc0], &[0x48, 0x11, 0xc3], &[0x9c]] {
        let next = TEXT + 0x50 + reader.len() as u64;
        let steps = vec![jump.clone(), inst(TEXT + 0x50, reader, next)];
        assert_eq!(planned(steps), Err((Abort::LiveFlags, TEXT)), "{reader:x?}");
    }
    // inc keeps the carry that adc then reads; a shift by cl may keep everything.
    for keeper in [&[0x48, 0xff, 0xc0][..], &[0x48, 0xd3, 0xe0]] {
        let after = TEXT + 0x50 + keeper.len() as u64;
        let adc = inst(after, &[0x48, 0x11, 0xc3], after + 3);
        let steps = vec![jump.clone(), inst(TEXT + 0x50, keeper, after), adc];
        assert_eq!(planned(steps), Err((Abort::LiveFlags, TEXT)), "{keeper:x?}");
    }
}

#[test]
fn merge_blocks_are_paired() {
    let steps = vec![
        shim(ApiFn::BeginMergeBlock, TEXT, [0; 2], 0),
        shim(ApiFn::EndMergeBlock, TEXT + 0x40, [0; 2], 0),
    ];
    let ops = planned(steps).unwrap();
    assert_eq!(
        ops[0],
        Op::BeginMerge {
            end_return: TEXT + 0x45
        }
    );
    assert_eq!(ops[1], Op::EndMerge);
    let open = vec![shim(ApiFn::BeginMergeBlock, TEXT, [0; 2], 0)];
    assert_eq!(planned(open), Err((Abort::OpenMerge, TEXT)));
    let unopened = vec![shim(ApiFn::EndMergeBlock, TEXT, [0; 2], 0)];
    assert_eq!(planned(unopened), Err((Abort::OpenMerge, TEXT)));
}

#[test]
fn shim_functions_mean_what_the_header_says() {
    let ops = planned(vec![shim(ApiFn::Promote, TEXT, [7, 0], 7)]).unwrap();
    assert_eq!(
        ops,
        [
            Op::GuardArgument { ip: TEXT, value: 7 },
            Op::Result {
                value: ShimResult::Argument
            }
        ]
    );
    let ops = planned(vec![shim(ApiFn::IsTraced, TEXT, [0, 0], 1)]).unwrap();
    assert_eq!(
        ops,
        [Op::Result {
            value: ShimResult::Constant(1)
        }]
    );
}

#[test]
fn a_disabled_region_runs_natively_from_its_own_call() {
    let region = NativeRegion {
        start_ip: TEXT,
        resume_ip: TEXT + 0x80,
        after: RegisterFile::default(),
    };
    let ops = planned(vec![Step::from(region)]).unwrap();
    assert_eq!(
        ops,
        [Op::Disabled {
            start: TEXT,
            enable_return: TEXT + 0x80
        }]
    );
}

#[test]
fn far_branches_are_refused() {
    let retf = inst(TEXT, &[0xcb], TEXT + 0x50);
    assert_eq!(planned(vec![retf]), Err((Abort::UnsupportedInstruction, TEXT)));
}

/// call to a function, its body, ret.
fn called(body: &[&[u8]]) -> Vec<Step> {
    let mut steps = vec![inst(TEXT, &[0xe8, 0xfb, 0x00, 0x00, 0x00], TEXT + 0x100)];
    let mut ip = TEXT + 0x100;
    for bytes in body {
        let next = ip + bytes.len() as u64;
        steps.push(inst(ip, bytes, next));
        ip = next;
    }
    steps.push(inst(ip, &[0xc3], TEXT + 5));
    steps
}

fn last_return_is_guarded(steps: Vec<Step>) -> bool {
    match planned(steps).unwrap().last() {
        Some(Op::Return { guarded, .. }) => *guarded,
        other => panic!("{other:?}"),
    }
}

const PUSH_RBX: &[u8] = &[0x53];
const POP_RBX: &[u8] = &[0x5b];
const SUB_RSP_24: &[u8] = &[0x48, 0x83, 0xec, 0x18];
const ADD_RSP_24: &[u8] = &[0x48, 0x83, 0xc4, 0x18];

#[test]
fn a_return_to_a_pushed_address_needs_no_guard() {
    assert!(!last_return_is_guarded(called(&[])));
    assert!(!last_return_is_guarded(called(&[
        PUSH_RBX, SUB_RSP_24, ADD_RSP_24, POP_RBX
    ])));
}

#[test]
fn a_return_to_an_address_from_before_the_trace_is_guarded() {
    assert!(last_return_is_guarded(vec![inst(TEXT, &[0xc3], TEXT + 0x50)]));
    let mut twice = called(&[]);
    twice.push(inst(TEXT + 5, &[0xc3], TEXT + 0x50));
    assert!(last_return_is_guarded(twice));
}

#[test]
fn an_unknown_stack_pointer_brings_the_guard_back() {
    // mov rsp, [rdi]: a switch of stacks. leave: depends on rbp. sub rsp, rax: alloca.
    for switch in [
        &[0x48, 0x8b, 0x27][..],
        &[0xc9],
        &[0x48, 0x29, 0xc4],
        &[0x48, 0x83, 0xe4, 0xf0],
    ] {
        assert!(last_return_is_guarded(called(&[switch])), "{switch:x?}");
    }
}

#[test]
fn an_unbalanced_stack_brings_the_guard_back() {
    assert!(last_return_is_guarded(called(&[PUSH_RBX])));
    // The slot was popped and pushed again: what is there now is not the return address.
    assert!(last_return_is_guarded(called(&[POP_RBX, PUSH_RBX])));
}
