//! The evaluator against the processor.
//!
//! A case is lifted and evaluated, and executed by the child ([`crate::cpu`]); then every general and vector register,
//! every flag that is defined, MXCSR, the next instruction's address and the whole page of memory are compared, or that
//! both faulted in the same way. A case that the evaluator leaves to the machine (native operations, unmasked
//! exceptions) is counted, not compared. One that would fault at an address where the child may have memory of its
//! own is dropped before it runs.

use std::fmt;
use std::io;

use iced_x86::{Instruction, Mnemonic};
use redmagic_ir::eval::{Evaluator, Fault, Regs};
use redmagic_ir::flags::STATUS;
use redmagic_ir::{End, Reg, Trace};
use redmagic_lift::{Flow, Lifter, Refusal, lift_instruction};

use crate::case::{Case, PageMemory, flag_names};
use crate::cpu::stub::SLOTS;
use crate::cpu::{Answer, Cpu, Request};
use crate::generate::Generator;

/// What the evaluator made of a case.
#[derive(Debug, Clone)]
pub enum Evaluated {
    /// The state after it; memory is beside it.
    Done(Box<Regs>),
    /// It faults.
    Fault(Fault),
    /// It is left to the machine.
    Unsupported,
}

/// How many cases there were.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Compared.
    pub compared: u64,
    /// Of those, ones where both faulted.
    pub faulted: u64,
    /// Of those, ones of several instructions.
    pub sequences: u64,
    /// Left to the machine.
    pub native: u64,
    /// Refused, or not fit to run.
    pub dropped: u64,
}

/// A case on which evaluator and processor differ.
#[derive(Debug, Clone)]
pub struct Mismatch {
    /// The case, made small.
    pub case: Case,
    /// What differs, a line each: evaluator, then processor.
    pub differences: Vec<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# {}", self.case.disassembly())?;
        for line in &self.differences {
            writeln!(f, "# {line}")?;
        }
        write!(f, "{}", self.case)
    }
}

/// Lifts the case: one instruction by itself, several as a trace.
pub fn lift(lifter: &mut Lifter, instructions: &[Instruction]) -> Result<Trace, Refusal> {
    if let [one] = instructions {
        return lift_instruction(lifter, one);
    }
    let mut pc = 0;
    for instruction in instructions {
        pc = instruction.next_ip();
        let flow = lifter.lift(instruction, Some(pc)).inspect_err(|_| {
            *lifter = Lifter::new();
        })?;
        debug_assert_eq!(flow, Flow::Next, "sequences have no branches");
    }
    let snapshot = lifter.snapshot(pc);
    Ok(lifter.finish(End::Exit { snapshot }))
}

/// Lifts and evaluates; compares.
pub struct Tester {
    cpu: Cpu,
    lifter: Lifter,
    evaluator: Evaluator,
    memory: PageMemory,
    /// What was done so far.
    pub counts: Counts,
    /// How often an instruction of each mnemonic, alone, went through without a fault, by the mnemonic's number.
    pub by_mnemonic: Vec<u32>,
}

/// One way to make a case smaller.
type Attempt = Box<dyn Fn(&mut Case)>;

struct Prepared {
    case: Case,
    evaluated: Evaluated,
    memory: PageMemory,
    len: usize,
    first: Mnemonic,
}

impl Tester {
    /// Starts the child. Only one at a time in a process.
    pub fn new() -> io::Result<Tester> {
        Ok(Tester {
            cpu: Cpu::new()?,
            lifter: Lifter::new(),
            evaluator: Evaluator::new(),
            memory: PageMemory::new(0),
            counts: Counts::default(),
            by_mnemonic: vec![0; Mnemonic::values().len()],
        })
    }

    /// What the evaluator makes of the case; the memory after it is in `self.memory`.
    fn evaluate(&mut self, case: &Case) -> Result<Evaluated, Refusal> {
        let trace = lift(&mut self.lifter, &case.instructions())?;
        self.memory.move_to(case.slot);
        case.fill(&mut *self.memory.bytes);
        let mut regs = case.regs.clone();
        self.evaluator.elements = 4096;
        Ok(match self.evaluator.run(&trace, &mut regs, &mut self.memory) {
            Ok(_) => Evaluated::Done(Box::new(regs)),
            Err(Fault::Unsupported | Fault::Unmasked) => Evaluated::Unsupported,
            Err(fault) => Evaluated::Fault(fault),
        })
    }

    /// Evaluates the case and says whether the processor may run it.
    fn prepare(&mut self, case: Case) -> Option<Prepared> {
        let evaluated = match self.evaluate(&case) {
            Ok(Evaluated::Unsupported) => {
                self.counts.native += 1;
                return None;
            }
            Ok(Evaluated::Fault(Fault::Memory { addr, .. })) if !faults_anywhere(addr) => {
                self.counts.dropped += 1;
                return None;
            }
            // Where a jump to a non-canonical address faults, at itself or at its target, differs between processors.
            Ok(Evaluated::Done(regs)) if regs.rip >> 47 != 0 => {
                self.counts.dropped += 1;
                return None;
            }
            Ok(Evaluated::Fault(Fault::Fuel)) | Err(_) => {
                self.counts.dropped += 1;
                return None;
            }
            Ok(evaluated) => evaluated,
        };
        let memory = self.memory.clone();
        let instructions = case.instructions();
        Some(Prepared {
            case,
            evaluated,
            memory,
            len: instructions.len(),
            first: instructions.first().map_or(Mnemonic::INVALID, Instruction::mnemonic),
        })
    }

    /// Fills a batch with random cases, runs it, and gives the mismatches. One case in `sequences` has several instructions.
    pub fn batch(&mut self, generator: &mut Generator, sequences: u64) -> io::Result<Vec<Mismatch>> {
        let mut prepared = Vec::with_capacity(SLOTS);
        while prepared.len() < SLOTS {
            let slot = prepared.len();
            let case = if generator.random.one_in(sequences) {
                generator.sequence(slot)
            } else {
                Some(generator.single(slot))
            };
            let Some(case) = case else {
                self.counts.dropped += 1;
                continue;
            };
            prepared.extend(self.prepare(case));
        }
        let differences = self.execute(&prepared)?;
        let mut found = Vec::new();
        for (prepared, differences) in prepared.into_iter().zip(differences) {
            if !differences.is_empty() {
                found.push(self.shrink(prepared.case, differences)?);
            }
        }
        Ok(found)
    }

    /// Runs one case as it is. An error says why it cannot be run.
    pub fn replay(&mut self, case: &Case) -> io::Result<Vec<String>> {
        let slot = case.slot;
        let Some(prepared) = self.prepare(case.clone()) else {
            return Err(io::Error::other("the case is native, refused, or not fit to run"));
        };
        // The slots before it do nothing.
        let mut all: Vec<Prepared> = (0..slot).filter_map(|i| self.prepare(Case::new(i))).collect();
        all.push(prepared);
        Ok(self.execute(&all)?.pop().unwrap_or_default())
    }

    /// Runs the cases, of the slots 0, 1, ..., and gives the differences of each.
    fn execute(&mut self, prepared: &[Prepared]) -> io::Result<Vec<Vec<String>>> {
        for p in prepared {
            p.case.fill(self.cpu.page(p.case.slot));
        }
        let requests: Vec<Request<'_>> = prepared
            .iter()
            .map(|p| Request {
                bytes: &p.case.bytes,
                regs: &p.case.regs,
                step: p.len == 1 && p.case.steps(),
            })
            .collect();
        let answers = self.cpu.run(&requests)?;
        let mut all = Vec::with_capacity(prepared.len());
        for (p, answer) in prepared.iter().zip(&answers) {
            self.counts.compared += 1;
            self.counts.sequences += u64::from(p.len > 1);
            self.counts.faulted += u64::from(matches!(p.evaluated, Evaluated::Fault(_)));
            if p.len == 1 && matches!(p.evaluated, Evaluated::Done(_)) {
                self.by_mnemonic[p.first as usize] += 1;
            }
            let mut differences = differ(&p.evaluated, answer);
            let memory = self.cpu.page(p.case.slot);
            if *memory != p.memory.bytes[..] {
                differences.extend(bytes_differ(&p.memory.bytes[..], memory));
            }
            all.push(differences);
        }
        Ok(all)
    }

    /// Takes from the case what the mismatch does not need: registers to 0, the flags, MXCSR, memory.
    fn shrink(&mut self, mut case: Case, mut differences: Vec<String>) -> io::Result<Mismatch> {
        let plain = Regs::default();
        let mut attempts: Vec<Attempt> = Vec::new();
        for reg in Reg::all().filter(|r| r.is_gpr() || r.is_xmm() || r.is_ymm_high()) {
            attempts.push(Box::new(move |c| c.regs.set(reg, 0)));
        }
        attempts.push(Box::new(move |c| c.regs.rflags = plain.rflags));
        attempts.push(Box::new(|c| c.regs.mxcsr = 0x1f80));
        attempts.push(Box::new(|c| c.memory.clear()));
        for attempt in attempts {
            let mut smaller = case.clone();
            attempt(&mut smaller);
            if smaller == case {
                continue;
            }
            if let Ok(found) = self.replay(&smaller)
                && !found.is_empty()
            {
                (case, differences) = (smaller, found);
            }
        }
        Ok(Mismatch { case, differences })
    }
}

/// Whether no process has memory here: the first 64 KiB, the kernel's half, and what is not canonical.
fn faults_anywhere(addr: u64) -> bool {
    addr < 0xff00 || (1 << 47..u64::MAX - 0xff).contains(&addr)
}

/// The signal that a fault becomes.
fn signal(fault: Fault) -> Option<i32> {
    match fault {
        Fault::Divide => Some(libc::SIGFPE),
        Fault::Memory { .. } | Fault::Misaligned { .. } | Fault::Mxcsr => Some(libc::SIGSEGV),
        Fault::Unmasked | Fault::Unsupported | Fault::Fuel => None,
    }
}

fn differ(evaluated: &Evaluated, answer: &Answer) -> Vec<String> {
    match (evaluated, answer) {
        (Evaluated::Done(evaluated), Answer::Done(cpu)) => registers_differ(evaluated, cpu),
        (Evaluated::Fault(fault), Answer::Signal(number, _)) => {
            // A non-canonical address in the stack segment (rsp and rbp as base) is a bus error.
            let bus = *number == libc::SIGBUS && matches!(fault, Fault::Memory { .. } | Fault::Misaligned { .. });
            if signal(*fault) == Some(*number) || bus {
                Vec::new()
            } else {
                vec![format!("{fault}, processor: signal {number}")]
            }
        }
        (Evaluated::Fault(fault), Answer::Done(_)) => vec![format!("{fault}, processor: no fault")],
        (Evaluated::Done(_), Answer::Signal(number, at)) => {
            vec![format!("no fault, processor: signal {number} at {at:#x}")]
        }
        (Evaluated::Unsupported, _) => vec!["native".into()],
    }
}

fn registers_differ(a: &Regs, b: &Regs) -> Vec<String> {
    let flags = (a.rflags ^ b.rflags) & !u64::from(a.undefined_flags & STATUS);
    let same = a.gpr == b.gpr
        && a.rip == b.rip
        && flags == 0
        && a.xmm == b.xmm
        && a.ymm_high == b.ymm_high
        && a.mxcsr == b.mxcsr
        && (a.fs_base, a.gs_base) == (b.fs_base, b.gs_base);
    let mut lines = Vec::new();
    if same {
        return lines;
    }
    for reg in Reg::all().filter(|r| *r != Reg::FLAGS && *r != Reg::SYSFLAGS) {
        let (x, y) = (a.get(reg), b.get(reg));
        if x != y {
            lines.push(format!("{reg}: {x:#x}, processor: {y:#x}"));
        }
    }
    if a.rip != b.rip {
        lines.push(format!("rip: {:#x}, processor: {:#x}", a.rip, b.rip));
    }
    if a.mxcsr != b.mxcsr {
        lines.push(format!("mxcsr: {:#x}, processor: {:#x}", a.mxcsr, b.mxcsr));
    }
    if flags != 0 {
        lines.push(format!(
            "rflags: {:#x} [{}], processor: {:#x} [{}], undefined: [{}]",
            a.rflags,
            flag_names(a.rflags),
            b.rflags,
            flag_names(b.rflags),
            flag_names(u64::from(a.undefined_flags)),
        ));
    }
    lines
}

fn bytes_differ(a: &[u8], b: &[u8]) -> Vec<String> {
    let differs = a.iter().zip(b).enumerate().filter(|(_, (x, y))| x != y);
    let mut lines: Vec<String> = differs
        .take(17)
        .map(|(at, (x, y))| format!("memory {at:#x}: {x:02x}, processor: {y:02x}"))
        .collect();
    if lines.len() == 17 {
        lines[16] = "memory: and more".into();
    }
    lines
}
