//! How many instructions a second are lifted on one core, decoding apart.
//!
//! The code is this program's own: what a compiler emits, with loops, calls, flags and floating point. `alone` makes a
//! trace of each instruction, as the emulating recorder does; `recording` one of each 500, as compiling does.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use goblin::elf::{Elf, section_header::SHT_PROGBITS};
use iced_x86::{Code, Decoder, FlowControl, Instruction};
use redmagic_ir::End;
use redmagic_lift::{DECODER_OPTIONS, Lifter, lift_instruction};

const INSTRUCTIONS: usize = 100_000;
/// About as long as a trace of an interpreter.
const TRACE: usize = 500;

/// Instructions from the middle of this program's code, each with where it goes next.
fn instructions() -> Vec<(Instruction, u64)> {
    let file = std::fs::read(std::env::current_exe().expect("a path")).expect("readable");
    let elf = Elf::parse(&file).expect("an ELF file");
    let largest = elf
        .section_headers
        .iter()
        .filter(|s| s.is_executable() && s.sh_type == SHT_PROGBITS)
        .max_by_key(|s| s.sh_size)
        .expect("code");
    let code = &file[largest.file_range().expect("in the file")];
    let mut decoder = Decoder::with_ip(64, code, largest.sh_addr, DECODER_OPTIONS);
    let all: Vec<(Instruction, u64)> = decoder
        .iter()
        .filter(|i| !i.is_invalid() && !matches!(i.code(), Code::Int3 | Code::Ud2))
        .map(|i| {
            let next = match i.flow_control() {
                FlowControl::UnconditionalBranch | FlowControl::Call => i.near_branch_target(),
                _ => i.next_ip(),
            };
            (i, next)
        })
        .collect();
    assert!(all.len() >= INSTRUCTIONS, "{} instructions only", all.len());
    let from = (all.len() - INSTRUCTIONS) / 2;
    all[from..from + INSTRUCTIONS].to_vec()
}

fn lift(c: &mut Criterion) {
    let instructions = instructions();
    let mut group = c.benchmark_group("lift");
    group.throughput(Throughput::Elements(instructions.len() as u64));
    group.sample_size(20);
    let mut lifter = Lifter::new();
    group.bench_function("alone", |b| {
        b.iter(|| {
            let lifted = instructions.iter().map(|(i, _)| lift_instruction(&mut lifter, i));
            lifted.filter(Result::is_ok).count()
        });
    });
    let mut lifter = Lifter::new();
    group.bench_function("recording", |b| {
        b.iter(|| {
            let mut operations = 0;
            for trace in instructions.chunks(TRACE) {
                let mut pc = 0;
                for (instruction, next) in trace {
                    // What has no place in a trace is left out.
                    let _ = lifter.lift(instruction, Some(*next));
                    pc = *next;
                }
                let snapshot = lifter.snapshot(pc);
                operations += lifter.finish(End::Exit { snapshot }).ops.len();
            }
            operations
        });
    });
    group.finish();
}

criterion_group!(benches, lift);
criterion_main!(benches);
