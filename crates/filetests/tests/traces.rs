//! What holds of every valid trace, on random ones: accepted by the verifier, the same after a trip through text, and
//! evaluated without a panic. A failure prints the seed and the trace.

use iced_x86::{Decoder, DecoderOptions};
use redmagic_filetests::random::Random;
use redmagic_filetests::traces::{self, MEMORY, MEMORY_SIZE};
use redmagic_ir::eval::{Evaluator, Regs, SparseMemory};
use redmagic_ir::{End, Opcode, parse, verify};
use redmagic_lift::{Lifter, lift_instruction};

const TRACES: u64 = 3000;

#[test]
fn random_traces_are_valid_and_read_back() {
    let mut seen = vec![0u32; Opcode::ALL.len()];
    for seed in 0..TRACES {
        let trace = traces::random(&mut Random::new(seed), 40);
        let found = verify::violations(&trace);
        assert!(found.is_empty(), "seed {seed}: {found:#?}\n{trace}");
        let text = trace.to_string();
        let again = parse::parse(&text).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{text}"));
        assert_eq!(again, trace.normalized(), "seed {seed}\n{text}");
        assert_eq!(again.to_string(), text, "seed {seed}");
        assert_eq!(again.normalized(), again, "seed {seed}\n{text}");
        trace.ops.iter().for_each(|op| seen[op.code as usize] += 1);
    }
    for (code, count) in Opcode::ALL.iter().zip(seen) {
        assert!(count >= 10, "{code:?} is in {count} traces only");
    }
}

#[test]
fn random_traces_evaluate_without_a_panic_and_as_their_normal_forms() {
    let mut left = 0;
    for seed in 0..TRACES {
        // Short ones: a fault ends the evaluation, and most accesses fault.
        let mut r = Random::new(seed);
        let trace = traces::random(&mut r, 10);
        let mut regs = Regs::default();
        for reg in &mut regs.gpr {
            *reg = if r.one_in(2) {
                MEMORY + r.below(MEMORY_SIZE as u64 - 16)
            } else {
                r.integer()
            };
        }
        regs.xmm.iter_mut().for_each(|x| *x = r.vector());
        let mut memory = SparseMemory::new();
        memory.map(MEMORY, (0..MEMORY_SIZE).map(|_| r.bits() as u8).collect());
        let run = |trace| {
            let (mut regs, mut memory) = (regs.clone(), memory.clone());
            let mut evaluator = Evaluator::new();
            evaluator.iterations = 3;
            evaluator.elements = 100;
            let answer = evaluator.run(trace, &mut regs, &mut memory);
            (answer, regs, memory)
        };
        let answer = run(&trace);
        assert_eq!(answer, run(&trace.normalized()), "seed {seed}\n{trace}");
        left += u64::from(answer.0.is_ok());
    }
    assert!(left > TRACES / 10, "only {left} traces were left without a fault");
}

/// Decodes noise, biased to what compilers emit, and lifts whatever it is: alone, and in a row as a recording.
#[test]
fn whatever_decodes_is_lifted_to_a_valid_trace_or_refused() {
    let mut r = Random::new(7);
    let mut lifter = Lifter::new();
    let (mut lifted, mut refused) = (0u32, 0u32);
    let mut mnemonics = std::collections::BTreeSet::new();
    let mut row = Lifter::new();
    for _ in 0..60_000 {
        let mut bytes: Vec<u8> = (0..15).map(|_| r.bits() as u8).collect();
        let prefix: &[u8] = r.pick::<&[u8]>(&[
            &[],
            &[0x48],
            &[0x66],
            &[0x0f],
            &[0x66, 0x0f],
            &[0xf2, 0x0f],
            &[0xf3, 0x0f],
            &[0xc5],
        ]);
        bytes.splice(0..0, prefix.iter().copied());
        let instruction = Decoder::with_ip(64, &bytes, 0x40_1000, DecoderOptions::NONE).decode();
        let Ok(trace) = lift_instruction(&mut lifter, &instruction) else {
            refused += 1;
            continue;
        };
        lifted += 1;
        mnemonics.insert(instruction.mnemonic());
        let found = verify::violations(&trace);
        assert!(found.is_empty(), "{instruction}: {found:#?}\n{trace}");
        let text = trace.to_string();
        assert_eq!(
            parse::parse(&text).as_ref(),
            Ok(&trace.normalized()),
            "{instruction}\n{text}"
        );
        let next = if r.one_in(2) {
            instruction.next_ip()
        } else {
            instruction.near_branch_target()
        };
        if row.lift(&instruction, Some(next)).is_ok() && row.builder().len() > 300 {
            let snapshot = row.snapshot(next);
            let trace = row.finish(End::Exit { snapshot });
            let found = verify::violations(&trace);
            assert!(found.is_empty(), "{found:#?}\n{trace}");
        }
    }
    assert!(
        lifted > 15_000 && mnemonics.len() > 350,
        "{lifted} lifted, {refused} refused, {} mnemonics",
        mnemonics.len()
    );
}
