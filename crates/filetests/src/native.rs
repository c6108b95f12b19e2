//! The stated reads and writes of native operations against the processor.
//!
//! Each case runs twice, the second time with other values in every register that is no input. What the instruction
//! computes may not depend on them: outputs, MXCSR and memory must be the same. And what is no output may not change.
//! Flags that the architecture leaves undefined are not compared.

use std::io;

use iced_x86::{Code, EncodingKind, FlowControl, Instruction, InstructionInfoFactory, Mnemonic};
use redmagic_ir::eval::Regs;
use redmagic_ir::flags::STATUS;
use redmagic_ir::{Native, Reg};
use redmagic_lift::{Lifter, lift_instruction};

use crate::case::Case;
use crate::cpu::stub::{self, PAGE, SLOTS};
use crate::cpu::{Answer, Cpu, Request};
use crate::generate::{Codes, Generator, operand_address, rflags_mask};
use crate::random::Random;

/// Opcodes that the lifter does not model, of extensions that this processor has, without those whose answer is another
/// one each time or that a second run cannot repeat.
pub fn codes() -> Codes {
    let modelled: Vec<Mnemonic> = redmagic_lift::insn::mnemonics().collect();
    Codes::filter(|code: Code| {
        let vex = code.op_code().encoding() == EncodingKind::VEX;
        // With a row, some forms may be native all the same: those of 256 bits are.
        (vex || !modelled.contains(&code.mnemonic())) && !matches!(code.mnemonic(), Mnemonic::Cpuid)
    })
}

/// Runs cases twice.
pub struct Checker {
    cpu: Cpu,
    lifter: Lifter,
    info: InstructionInfoFactory,
    /// How many cases were compared.
    pub compared: u64,
    /// Of those, ones that faulted both times.
    pub faulted: u64,
    /// How often each mnemonic went through, by its number.
    pub by_mnemonic: Vec<u32>,
}

struct Prepared {
    case: Case,
    other: Regs,
    native: Native,
    instruction: Instruction,
}

impl Checker {
    /// Starts the child. Only one at a time in a process.
    pub fn new() -> io::Result<Checker> {
        Ok(Checker {
            cpu: Cpu::new()?,
            lifter: Lifter::new(),
            info: InstructionInfoFactory::new(),
            compared: 0,
            faulted: 0,
            by_mnemonic: vec![0; Mnemonic::values().len()],
        })
    }

    /// A batch of random cases; gives what is wrong, a text for each case.
    pub fn batch(&mut self, generator: &mut Generator) -> io::Result<Vec<String>> {
        let mut all = Vec::with_capacity(SLOTS);
        while all.len() < SLOTS {
            let case = generator.single(all.len());
            all.extend(self.prepare(case, &mut generator.random));
        }
        let (first, first_pages) = self.run(&all, |p| &p.case.regs)?;
        let (second, second_pages) = self.run(&all, |p| &p.other)?;
        let mut wrong = Vec::new();
        for (i, prepared) in all.iter().enumerate() {
            self.compared += 1;
            let mut found = match (&first[i], &second[i]) {
                (Answer::Done(a), Answer::Done(b)) => {
                    self.by_mnemonic[prepared.instruction.mnemonic() as usize] += 1;
                    prepared.differences(a, b)
                }
                (Answer::Signal(a, _), Answer::Signal(b, _)) if a == b => {
                    self.faulted += 1;
                    Vec::new()
                }
                (a, b) => vec![format!("{a:?} and {b:?}")],
            };
            if first_pages[i] != second_pages[i] {
                found.push("memory differs".into());
            }
            if !found.is_empty() {
                wrong.push(format!("# {}\n{}", found.join("\n# "), prepared.case));
            }
        }
        Ok(wrong)
    }

    fn prepare(&mut self, case: Case, random: &mut Random) -> Option<Prepared> {
        let instruction = *case.instructions().first()?;
        // Elsewhere the child may have memory of its own.
        let page = stub::page(case.slot);
        let in_page =
            self.info.info(&instruction).used_memory().iter().all(|memory| {
                operand_address(memory, &case.regs).is_some_and(|a| a.wrapping_sub(page) < PAGE as u64 - 64)
            });
        if instruction.flow_control() != FlowControl::Next || !in_page {
            return None;
        }
        let native = lift_instruction(&mut self.lifter, &instruction).ok()?.natives.pop()?;
        let mut other = case.regs.clone();
        for reg in Reg::all() {
            let is_input = native.inputs.iter().any(|(input, _)| *input == reg);
            if is_input || reg == Reg::SYSFLAGS || reg == Reg::FS_BASE || reg == Reg::GS_BASE {
                continue;
            }
            let bits = if reg.is_gpr() {
                u128::from(random.integer())
            } else if reg == Reg::FLAGS {
                u128::from(random.bits() as u32 & STATUS)
            } else {
                random.vector()
            };
            other.set(reg, bits);
        }
        Some(Prepared {
            case,
            other,
            native,
            instruction,
        })
    }

    fn run(&mut self, all: &[Prepared], regs: fn(&Prepared) -> &Regs) -> io::Result<(Vec<Answer>, Vec<Vec<u8>>)> {
        for p in all {
            p.case.fill(self.cpu.page(p.case.slot));
        }
        let requests: Vec<Request<'_>> = all
            .iter()
            .map(|p| Request {
                bytes: &p.case.bytes,
                regs: regs(p),
                step: false,
            })
            .collect();
        let answers = self.cpu.run(&requests)?;
        let pages = all.iter().map(|p| self.cpu.page(p.case.slot).to_vec()).collect();
        Ok((answers, pages))
    }
}

impl Prepared {
    fn differences(&self, a: &Regs, b: &Regs) -> Vec<String> {
        let mut found = Vec::new();
        let undefined = u128::from(rflags_mask(self.instruction.rflags_undefined()));
        let mask = |reg: Reg, bits: u128| if reg == Reg::FLAGS { bits & !undefined } else { bits };
        for reg in Reg::all() {
            let (x, y) = (mask(reg, a.get(reg)), mask(reg, b.get(reg)));
            if self.native.outputs.contains(&reg) {
                if x != y {
                    found.push(format!("{reg} depends on what is no input: {x:#x} and {y:#x}"));
                }
            } else if (x, y) != (mask(reg, self.case.regs.get(reg)), mask(reg, self.other.get(reg))) {
                found.push(format!("{reg} is no output and changes"));
            }
        }
        if a.mxcsr != b.mxcsr {
            found.push(format!("mxcsr: {:#x} and {:#x}", a.mxcsr, b.mxcsr));
        }
        found
    }
}
