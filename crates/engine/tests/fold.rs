//! What folding leaves out, and what it must not.

mod common;

use std::ops::Range;

use common::{TEXT, end_at, inst, key, recording};
use redmagic_emit::copy::Op;
use redmagic_emit::exits::Fixups;
use redmagic_engine::fold::{Facts, Folded, Mappings, fold};
use redmagic_engine::plan::plan;
use redmagic_engine::registry::Declarations;
use redmagic_proto::registry::KIND_CONSTANT_MEMORY;
use redmagic_record::recording::{AccessKind, MemAccess, Recording, RegisterFile, Residual, Step};

const RAX: u8 = 0;
const RCX: u8 = 1;
const RBX: u8 = 3;
const R11: u8 = 11;

/// Where the pretended bytecode is.
const BYTECODE: u64 = 0x7000;
/// The instruction word there: its low seven bits are an opcode, its top byte an operand.
const WORD: u32 = 0x0104_029d;
/// A block of constant memory around [`BYTECODE`].
const BLOCK: (u64, u64) = (BYTECODE - 0x10, 0x40);
/// What `CheckGeneration` compares.
const GENERATION: (u64, u64) = (0x1000, 0x2000);

/// The bytes of an instruction, and the address and bytes that it loads.
type Line<'a> = (&'a [u8], Option<(u64, &'a [u8])>);

/// Instructions one after another.
fn steps(code: &[Line<'_>]) -> Vec<Step> {
    let mut ip = TEXT;
    let mut steps = Vec::new();
    for (bytes, load) in code {
        let next = ip + bytes.len() as u64;
        let mut step = inst(ip, bytes, next);
        if let (Step::Inst(inst), Some((address, value))) = (&mut step, load) {
            inst.mem.push(access(*address, value, AccessKind::Read));
        }
        steps.push(step);
        ip = next;
    }
    steps
}

fn access(addr: u64, value: &[u8], kind: AccessKind) -> MemAccess {
    MemAccess {
        addr,
        size: value.len() as u32,
        kind,
        value: value.into(),
    }
}

fn declared() -> Declarations {
    let mut declared = Declarations::default();
    declared.add(KIND_CONSTANT_MEMORY, BLOCK.0, BLOCK.1, 1);
    declared
}

fn folded_with(recording: &Recording, declared: &Declarations, read_only: &[Range<u64>], native: bool) -> Folded {
    let mappings = Mappings {
        read_only: read_only.to_vec(),
        ..Mappings::default()
    };
    let facts = Facts {
        declared,
        mappings: &mappings,
        generation: GENERATION,
    };
    let ops = plan(recording).unwrap();
    fold(recording, &ops, &[(RBX, BYTECODE)], TEXT, native, &facts)
}

fn folded(code: &[Line<'_>]) -> Folded {
    folded_with(&recording(steps(code), end_at(key(1))), &declared(), &[], false)
}

const LOAD_WORD: &[u8] = &[0x44, 0x8b, 0x1b]; // mov r11d, [rbx]
const ADVANCE: &[u8] = &[0x48, 0x83, 0xc3, 0x04]; // add rbx, 4
const DECODE: &[u8] = &[0x44, 0x89, 0xd8]; // mov eax, r11d
const OPCODE: &[u8] = &[0x83, 0xe0, 0x7f]; // and eax, 0x7f
const USE: &[u8] = &[0x49, 0x8b, 0x44, 0xc5, 0x00]; // mov rax, [r13 + rax*8]
const JNE: &[u8] = &[0x75, 0x10]; // jne, not taken

fn word() -> Option<(u64, &'static [u8])> {
    const BYTES: [u8; 4] = WORD.to_le_bytes();
    Some((BYTECODE, &BYTES))
}

fn set(register: u8, value: u64) -> Op {
    Op::Set { register, value }
}

fn copies(folded: &Folded) -> usize {
    folded.ops.iter().filter(|op| matches!(op, Op::Copy { .. })).count()
}

fn checks(folded: &Folded) -> usize {
    let check = |op: &&Op| matches!(op, Op::CheckGeneration { .. });
    folded.ops.iter().filter(check).count()
}

#[test]
fn fetch_and_decode_are_left_out() {
    let folded = folded(&[
        (LOAD_WORD, word()),
        (ADVANCE, None),
        (DECODE, None),
        (OPCODE, None),
        (USE, Some((0x9000, &[0; 8]))),
    ]);
    assert_eq!(folded.left_out, 4);
    assert_eq!(folded.relied_on.len(), 1, "the word it relies on is named");
    assert_eq!(
        folded.ops[..2],
        [
            Op::GuardRegister {
                ip: TEXT,
                register: RBX,
                value: BYTECODE
            },
            Op::CheckGeneration {
                ip: TEXT,
                current: GENERATION.0,
                valid: GENERATION.1
            },
        ]
    );
    assert_eq!(
        folded.ops[2],
        set(RAX, 0x1d),
        "what a kept instruction reads is in its place"
    );
    assert!(matches!(folded.ops[3], Op::Copy { .. }));
    assert_eq!(
        folded.ops[4],
        set(RBX, BYTECODE + 4),
        "what a call preserves is in its place at the end"
    );
    let Op::Fixups(Fixups { registers, flags }) = &folded.ops[5] else {
        panic!("the exit at the end must restore the rest")
    };
    assert_eq!(registers.as_slice(), [(R11, u64::from(WORD))]);
    assert!(flags.is_some(), "the flags of `and` were not computed by the machine");
}

#[test]
fn only_memory_that_does_not_change_is_relied_on() {
    let load = |declared: &Declarations, read_only: &[Range<u64>]| {
        let recording = recording(steps(&[(LOAD_WORD, word())]), end_at(key(1)));
        folded_with(&recording, declared, read_only, false).left_out
    };
    assert_eq!(load(&declared(), &[]), 1);
    assert_eq!(load(&Declarations::default(), &[]), 0, "nobody said it is constant");
    let end = BYTECODE + 4;
    let file = BYTECODE - 0x1000..end;
    assert_eq!(load(&Declarations::default(), std::slice::from_ref(&file)), 1);
    let short = BYTECODE - 0x1000..end - 1;
    assert_eq!(
        load(&Declarations::default(), std::slice::from_ref(&short)),
        0,
        "its last byte is not"
    );
    let mut block = Declarations::default();
    block.add(KIND_CONSTANT_MEMORY, BYTECODE, 3, 1);
    assert_eq!(load(&block, &[]), 0, "its last byte is not");
    let mut incomplete = declared();
    incomplete.incomplete = true;
    assert_eq!(
        load(&incomplete, &[]),
        0,
        "an end of constant memory may have been missed"
    );
}

#[test]
fn memory_that_the_recording_writes_elsewhere_is_not_folded() {
    const WRITE: &[u8] = &[0x66, 0x44, 0x89, 0x1b]; // mov [rbx], r11w
    let lines = [(LOAD_WORD, word()), (WRITE, Some((BYTECODE + 2, &[0u8; 2][..])))];
    let mut written = recording(steps(&lines), end_at(key(1)));
    let left_out = |recording: &Recording| folded_with(recording, &declared(), &[], false).left_out;
    assert_eq!(left_out(&written), 1, "a read");
    let Step::Inst(inst) = &mut written.steps[1] else {
        panic!("an instruction")
    };
    inst.mem[0].kind = AccessKind::Write;
    assert_eq!(left_out(&written), 0, "a counter in the block");
}

#[test]
fn memory_that_the_instruction_writes_is_not_folded() {
    // add dword [rbx], 1
    let mut steps = steps(&[(&[0x83, 0x03, 0x01], None)]);
    let Step::Inst(inst) = &mut steps[0] else {
        unreachable!()
    };
    inst.mem
        .push(access(BYTECODE, &WORD.to_le_bytes(), AccessKind::ReadWrite));
    let folded = folded_with(&recording(steps, end_at(key(1))), &declared(), &[], false);
    assert_eq!((folded.left_out, copies(&folded)), (0, 1));
}

#[test]
fn the_generation_is_compared_only_where_flags_are_dead() {
    // cmp rcx, rdx; mov r11d, [rbx]; jne: the load stands between the comparison and its reader.
    let live = folded(&[(&[0x48, 0x39, 0xd1], None), (LOAD_WORD, word()), (JNE, None)]);
    assert_eq!((live.left_out, checks(&live)), (0, 0));
    // The same with the flags overwritten before they are read.
    let cmp: &[u8] = &[0x48, 0x39, 0xd1];
    let dead = folded(&[(cmp, None), (LOAD_WORD, word()), (cmp, None), (JNE, None)]);
    assert_eq!((dead.left_out, checks(&dead)), (1, 1));
}

#[test]
fn an_exit_restores_what_is_not_in_its_place() {
    let cmp: &[u8] = &[0x48, 0x39, 0xd1]; // cmp rcx, rdx
    let folded = folded(&[(ADVANCE, None), (cmp, None), (JNE, None)]);
    let position = folded
        .ops
        .iter()
        .position(|op| matches!(op, Op::Branch { .. }))
        .unwrap();
    assert_eq!(
        folded.ops[position - 1],
        Op::Fixups(Fixups {
            registers: vec![(RBX, BYTECODE + 4)],
            flags: None
        }),
        "rbx is not in its place; the flags are, since cmp was kept"
    );
}

#[test]
fn a_branch_on_known_flags_is_left_out() {
    let folded = folded(&[
        (&[0x48, 0x85, 0xdb], None), // test rbx, rbx
        (&[0x74, 0x10], None),       // je, not taken
    ]);
    assert_eq!(folded.left_out, 2);
    assert!(!folded.ops.iter().any(|op| matches!(op, Op::Branch { .. })));
}

#[test]
fn a_register_that_is_changed_in_part_is_in_its_place_first() {
    // mov ecx, ebx; mov cl, [rsi]
    let folded = folded(&[(&[0x89, 0xd9], None), (&[0x8a, 0x0e], Some((0x9000, &[7])))]);
    let set_at = folded.ops.iter().position(|op| *op == set(RCX, BYTECODE)).unwrap();
    assert!(matches!(folded.ops[set_at + 1], Op::Copy { .. }));
    // And is not known afterwards: `mov eax, ecx` stays.
    let after = self::folded(&[
        (&[0x89, 0xd9], None),
        (&[0x8a, 0x0e], Some((0x9000, &[7]))),
        (&[0x89, 0xc8], None),
    ]);
    assert_eq!((after.left_out, copies(&after)), (1, 2));
}

#[test]
fn a_flag_that_an_instruction_keeps_is_in_its_place_first() {
    // test rbx, rbx (known); inc rcx keeps CF.
    let folded = folded(&[(&[0x48, 0x85, 0xdb], None), (&[0x48, 0xff, 0xc1], None)]);
    let set = folded.ops.iter().position(|op| matches!(op, Op::SetFlags(_))).unwrap();
    assert!(matches!(folded.ops[set + 1], Op::Copy { .. }));
}

#[test]
fn a_kept_call_may_end_constant_memory_and_keeps_only_what_the_abi_says() {
    let mut all = steps(&[(LOAD_WORD, word()), (DECODE, None)]);
    let ip = TEXT + 6;
    let Step::Inst(call) = inst(ip, &[0xe8, 0, 0x10, 0, 0], ip + 5 + 0x1000) else {
        unreachable!()
    };
    all.push(Step::from(Residual {
        target: call.next_ip,
        call,
        return_address: ip + 5,
        after: RegisterFile::default(),
        library: None,
    }));
    let mut again = inst(ip + 5, LOAD_WORD, ip + 8);
    let Step::Inst(load) = &mut again else { unreachable!() };
    load.mem.push(access(BYTECODE, &WORD.to_le_bytes(), AccessKind::Read));
    all.push(again);
    all.push(inst(ip + 8, &[0x89, 0xc1], ip + 10)); // mov ecx, eax: rax is the call's result
    let folded = folded_with(&recording(all, end_at(key(1))), &declared(), &[], false);
    assert_eq!(checks(&folded), 2, "once before the call, once after it");
    let call = folded
        .ops
        .iter()
        .position(|op| matches!(op, Op::Residual { .. }))
        .unwrap();
    assert!(
        folded.ops[..call].contains(&set(RAX, u64::from(WORD))),
        "the callee sees every register as it was"
    );
    assert_eq!(copies(&folded), 1, "mov ecx, eax stays");
}

#[test]
fn native_code_finds_everything_in_its_place() {
    let code = recording(
        steps(&[(LOAD_WORD, word()), (DECODE, None), (OPCODE, None)]),
        end_at(key(1)),
    );
    let folded = folded_with(&code, &declared(), &[], true);
    assert!(folded.ops.contains(&set(RAX, 0x1d)) && folded.ops.contains(&set(R11, u64::from(WORD))));
    assert!(folded.ops.iter().any(|op| matches!(op, Op::SetFlags(_))));
}

#[test]
fn a_value_of_another_address_than_the_known_one_is_not_believed() {
    // The recording says that the load was elsewhere: a recorder's fault, and not to be built on.
    let wrong = Some((BYTECODE + 8, &[0u8; 4][..]));
    assert_eq!(folded(&[(LOAD_WORD, wrong)]).left_out, 0);
}
