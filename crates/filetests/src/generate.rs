//! Random instructions and machine states.
//!
//! An instruction is built from iced's description of an opcode: random registers for its operands (high bytes, REX-only
//! bytes, every base and index), immediates at the edges, a random addressing mode, prefixes where they are allowed.
//! Now and then its bytes are changed at random, which gives the encodings that no assembler writes. Then a state is
//! made in which its memory operands are in the case's page: whatever `InstructionInfo` says is accessed, explicit or
//! implied, is solved for its registers. One case in fifty is left unsolved and faults somewhere harmless.
//!
//! A sequence is made one instruction at a time: each is evaluated, and the next finds its address from the values that
//! the registers then have. No instruction reads a flag that an earlier one left undefined.

mod code;
mod state;

use iced_x86::{Code, FlowControl, Instruction, InstructionInfoFactory, RflagsBits};
use redmagic_ir::eval::{Evaluator, Fault, Regs};
use redmagic_ir::flags;
use redmagic_lift::{Lifter, lift_instruction};

use crate::case::{Case, PageMemory};
use crate::cpu::stub;
use crate::random::Random;

pub use code::Codes;
pub use state::operand_address;

/// Makes cases.
pub struct Generator {
    /// The source of all choices.
    pub random: Random,
    codes: Codes,
    info: InstructionInfoFactory,
    lifter: Lifter,
    evaluator: Evaluator,
}

/// `rflags` bits of iced as bits of `rflags`.
pub fn rflags_mask(iced: u32) -> u32 {
    let all = [
        (RflagsBits::OF, flags::OF),
        (RflagsBits::SF, flags::SF),
        (RflagsBits::ZF, flags::ZF),
        (RflagsBits::AF, flags::AF),
        (RflagsBits::CF, flags::CF),
        (RflagsBits::PF, flags::PF),
        (RflagsBits::DF, flags::DF),
    ];
    all.iter()
        .filter(|(bit, _)| iced & bit != 0)
        .fold(0, |r, (_, bit)| r | bit)
}

impl Generator {
    /// Cases of these opcodes.
    pub fn new(seed: u64, codes: Codes) -> Generator {
        Generator {
            random: Random::new(seed),
            codes,
            info: InstructionInfoFactory::new(),
            lifter: Lifter::new(),
            evaluator: Evaluator::new(),
        }
    }

    /// One instruction and a state, for this slot.
    pub fn single(&mut self, slot: usize) -> Case {
        let mut case = Case::new(slot);
        loop {
            let code = self.codes.pick(&mut self.random);
            if let Some((instruction, bytes)) = self.instruction(code, case.regs.rip, slot, None) {
                case.bytes = bytes;
                self.state(&instruction, &mut case);
                return case;
            }
        }
    }

    /// Two to eight instructions and a state; `None` when no sequence came of it.
    pub fn sequence(&mut self, slot: usize) -> Option<Case> {
        let mut case = Case::new(slot);
        self.sequence_state(&mut case);
        let mut memory = case.page();
        let mut regs = case.regs.clone();
        let count = 2 + self.random.below(7);
        let mut done = 0;
        for _ in 0..8 * count {
            let code = self.codes.pick(&mut self.random);
            let Some((instruction, bytes)) = self.instruction(code, regs.rip, slot, Some(&regs)) else {
                continue;
            };
            if case.bytes.len() + bytes.len() > stub::GAP || !self.step(&instruction, &mut regs, &mut memory) {
                continue;
            }
            case.bytes.extend(bytes);
            done += 1;
            if done == count {
                break;
            }
        }
        (done >= 2).then_some(case)
    }

    /// Evaluates one instruction of a sequence; false, and nothing changed, if it does not belong into one.
    fn step(&mut self, instruction: &Instruction, regs: &mut Regs, memory: &mut PageMemory) -> bool {
        let reads_undefined = rflags_mask(instruction.rflags_read()) & regs.undefined_flags != 0;
        if instruction.flow_control() != FlowControl::Next || reads_undefined {
            return false;
        }
        let Ok(trace) = lift_instruction(&mut self.lifter, instruction) else {
            return false;
        };
        let before = memory.bytes.clone();
        self.evaluator.elements = 64;
        let ran: Result<_, Fault> = self.evaluator.run(&trace, regs, memory);
        if ran.is_err() {
            memory.bytes = before;
        }
        ran.is_ok()
    }

    /// The codes that cases are made of.
    pub fn codes(&self) -> impl Iterator<Item = Code> {
        self.codes.iter()
    }
}
