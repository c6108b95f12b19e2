//! A recorded run of instructions as one trace.
//!
//! This is what a Recording comes down to here: instructions with where the program went after each, calls that were not
//! followed, and calls of the C API that were not made. Every branch and computed jump becomes a guard that it goes there
//! again. What the values were when it was recorded is no business of the lifter: that is for passes which promote.
//!
//! **Residual calls.** The call instruction is lifted as any other: it pushes the return address. Then `call` hands the
//! whole state to the callee, and what it may change is read from its result. The stack pointer is not: a callee that
//! comes back to the return address has popped exactly it (one that does not, leaves by `longjmp` or an exception and never comes back
//! here). Neither are the segment bases, which belong to the thread. A tail call is a jump after which the *caller's*
//! return address is on the stack, so that is guarded first.

use iced_x86::{FlowControl, Instruction, OpKind};
use redmagic_ir::{Abi, Addr, Cond, End, Reg, Snapshot, Trace, Type, Value};

use crate::{Lifter, Refusal, live};

/// One step.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// An instruction, and where the program went.
    Instruction {
        /// Decoded at its address.
        instruction: Instruction,
        /// The address of the next instruction.
        next: u64,
    },
    /// A call, or a jump that is one, that stays a call.
    Residual {
        /// The call or jump.
        instruction: Instruction,
        /// Where it went: the callee or its PLT stub.
        target: u64,
        /// Where it came back to.
        back: u64,
        /// Which registers the callee keeps.
        abi: Abi,
    },
    /// A call, or a jump that is one, of a function that does this with as many bytes, and nothing else that its caller
    /// may rely on.
    Library {
        /// The call or jump.
        instruction: Instruction,
        /// Where it came back to.
        back: u64,
        /// What it does.
        effect: Effect,
        /// Its third argument, which is guarded.
        length: u64,
    },
    /// A call, or a jump that is one, of a function of the C API that the trace does not make.
    Skipped {
        /// The call or jump.
        instruction: Instruction,
        /// Where it would come back to.
        back: u64,
        /// A value that the first argument must have again.
        argument: Option<u64>,
        /// What it returns.
        result: Answer,
    },
    /// Something at this address that is not known in detail, and that the trace cannot repeat.
    Gap {
        /// The first instruction.
        ip: u64,
    },
}

impl Step {
    /// Where it begins.
    pub fn ip(&self) -> u64 {
        match self {
            Step::Instruction { instruction, .. }
            | Step::Residual { instruction, .. }
            | Step::Library { instruction, .. }
            | Step::Skipped { instruction, .. } => instruction.ip(),
            Step::Gap { ip } => *ip,
        }
    }
}

/// What a function of the C library does with a number of bytes. Both give their first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// `memset`.
    Fill,
    /// `memcpy` and `memmove`.
    Copy,
}

impl Effect {
    /// Most bytes that are stored one word at a time.
    pub const MOST: u64 = 64;
}

/// What a function of the C API returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: rax is as it was.
    Nothing,
    /// Its first argument.
    Argument,
    /// This.
    Constant(u64),
}

/// What comes after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The original code at this address.
    Exit(u64),
    /// Another anchor: the end is `link` 0, and which trace that is, is for whoever links traces.
    Link {
        /// The call of the anchor function, which is not among the steps.
        ip: u64,
        /// Its argument, which is guarded.
        id: u64,
    },
    /// The anchor that the recording began at.
    Anchor {
        /// The call of the anchor function, which is not among the steps.
        ip: u64,
        /// Its argument, which is guarded.
        id: u64,
        /// Where it returns to: the start of the trace.
        start: u64,
    },
}

/// Where and why a trace ends before its last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// An instruction that has no place in a trace.
    #[error("step {step}: {refusal}")]
    Refused {
        /// The index of the step.
        step: usize,
        /// Why.
        refusal: Refusal,
    },
    /// A step that is not known in detail.
    #[error("step {step}: what ran natively from {ip:#x} on is not known")]
    Gap {
        /// The index of the step.
        step: usize,
        /// Its address.
        ip: u64,
    },
}

/// Lifts the steps. The trace is valid in any case: when it stops early, it exits before the step that it cannot have.
pub fn lift_recording(steps: impl IntoIterator<Item = Step>, ending: Ending) -> (Trace, Option<Stop>) {
    let mut lifter = Lifter::new();
    let steps: Vec<Step> = steps.into_iter().collect();
    let flags_are_dead = live::flags_are_dead(&steps);
    for (index, step) in steps.into_iter().enumerate() {
        let result = match step {
            Step::Instruction { instruction, next } => {
                if (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory) {
                    let mut before = lifter.snapshot(instruction.ip());
                    let b = lifter.builder();
                    if flags_are_dead[index] {
                        let nothing = b.constant(Type::Flags, 0);
                        let undefined = b.flags_undef(nothing);
                        before.set(Reg::FLAGS, undefined);
                    }
                    b.origin(instruction.ip());
                    let snapshot = b.snapshot(before);
                    b.checkpoint(snapshot);
                }
                lifter.lift(&instruction, Some(next)).map(|_| ())
            }
            Step::Residual {
                instruction,
                target,
                back,
                abi,
            } => residual(&mut lifter, &instruction, target, back, abi),
            Step::Library {
                instruction,
                back,
                effect,
                length,
            } => {
                library(&mut lifter, &instruction, back, effect, length);
                Ok(())
            }
            Step::Skipped {
                instruction,
                back,
                argument,
                result,
            } => {
                skipped(&mut lifter, &instruction, back, argument, result);
                Ok(())
            }
            Step::Gap { ip } => {
                let snapshot = lifter.snapshot(ip);
                return (
                    lifter.finish(End::Exit { snapshot }),
                    Some(Stop::Gap { step: index, ip }),
                );
            }
        };
        if let Err(refusal) = result {
            let snapshot = lifter.snapshot(step.ip());
            let stop = Stop::Refused { step: index, refusal };
            return (lifter.finish(End::Exit { snapshot }), Some(stop));
        }
    }
    let end = match ending {
        Ending::Exit(pc) => End::Exit {
            snapshot: lifter.snapshot(pc),
        },
        Ending::Link { ip, id } => {
            lifter.builder().origin(ip);
            guard_argument(&mut lifter, ip, id);
            End::Link {
                trace: 0,
                snapshot: lifter.snapshot(ip),
            }
        }
        Ending::Anchor { ip, id, start } => {
            lifter.builder().origin(ip);
            guard_argument(&mut lifter, ip, id);
            End::Repeat {
                snapshot: lifter.snapshot(start),
            }
        }
    };
    (lifter.finish(end), None)
}

/// Whether it is a jump, so that the return address on the stack is the caller's.
fn is_tail_call(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
    )
}

/// Leaves with `before` unless the two are equal.
fn guard_equal(lifter: &mut Lifter, value: Value, expected: u64, before: Snapshot) {
    let b = lifter.builder();
    if b.trace().constant(value) == Some(u128::from(expected)) {
        return;
    }
    let expected = b.int(Type::I64, expected);
    let flags = b.flags_sub(Type::I64, value, expected);
    let same = b.cond(Cond::E, flags);
    let snapshot = b.snapshot(before);
    b.guard(same, true, snapshot);
}

fn guard_argument(lifter: &mut Lifter, ip: u64, value: u64) {
    let rdi = lifter.reg(Reg::RDI);
    let before = lifter.snapshot(ip);
    guard_equal(lifter, rdi, value, before);
}

/// The return address on the stack is `back`; the jump there is at `ip`.
fn guard_return(lifter: &mut Lifter, ip: u64, back: u64) {
    let rsp = lifter.reg(Reg::RSP);
    let found = lifter.builder().load(Type::I64, Addr::base(rsp, 0));
    let before = lifter.snapshot(ip);
    guard_equal(lifter, found, back, before);
}

fn pop_return(lifter: &mut Lifter) {
    let rsp = lifter.reg(Reg::RSP);
    let popped = lifter.builder().lea(Addr::base(rsp, 8));
    lifter.set(Reg::RSP, popped);
}

/// Words of 8, 4, 2 and 1 bytes that make up as many bytes, and where each is.
fn words(length: u64) -> Vec<(Type, i32)> {
    let mut words = Vec::new();
    let mut at = 0;
    for (ty, bytes) in [(Type::I64, 8), (Type::I32, 4), (Type::I16, 2), (Type::I8, 1)] {
        while length - at >= bytes {
            words.push((ty, at as i32));
            at += bytes;
        }
    }
    words
}

/// What the function pushes, and the registers that it may leave anything in, are as they were.
fn library(lifter: &mut Lifter, instruction: &Instruction, back: u64, effect: Effect, length: u64) {
    let ip = instruction.ip();
    lifter.builder().origin(ip);
    let [to, from, count] = [Reg::RDI, Reg::RSI, Reg::RDX].map(|reg| lifter.reg(reg));
    let before = lifter.snapshot(ip);
    guard_equal(lifter, count, length, before);
    let tail = is_tail_call(instruction);
    if tail {
        guard_return(lifter, ip, back);
    }
    let before = lifter.snapshot(ip);
    let b = lifter.builder();
    let snapshot = b.snapshot(before);
    b.checkpoint(snapshot);
    let words = words(length);
    let stored: Vec<Value> = match effect {
        Effect::Fill => {
            let byte = b.trunc(Type::I8, from);
            let byte = b.zext(Type::I64, byte);
            let every = b.int(Type::I64, 0x0101_0101_0101_0101);
            let pattern = b.mul(Type::I64, byte, every);
            let mut part = |ty| if ty == Type::I64 { pattern } else { b.trunc(ty, pattern) };
            words.iter().map(|(ty, _)| part(*ty)).collect()
        }
        // All are read before one is written: they may overlap.
        Effect::Copy => words
            .iter()
            .map(|(ty, at)| b.load(*ty, Addr::base(from, *at)))
            .collect(),
    };
    for ((ty, at), value) in words.iter().zip(stored) {
        b.store(*ty, value, Addr::base(to, *at));
    }
    let nothing = b.constant(Type::Flags, 0);
    let undefined = b.flags_undef(nothing);
    lifter.set(Reg::FLAGS, undefined);
    lifter.set(Reg::RAX, to);
    if tail {
        pop_return(lifter);
        lifter.leave();
    }
}

fn residual(lifter: &mut Lifter, instruction: &Instruction, target: u64, back: u64, abi: Abi) -> Result<(), Refusal> {
    if is_tail_call(instruction) {
        lifter.builder().origin(instruction.ip());
        guard_return(lifter, instruction.ip(), back);
    }
    lifter.lift(instruction, Some(target))?;
    let state = lifter.snapshot(back);
    let b = lifter.builder();
    let target = b.int(Type::I64, target);
    let snapshot = b.snapshot(state);
    let after = b.call(target, abi, snapshot);
    for reg in Reg::all().filter(|reg| !keeps(abi, *reg)) {
        let value = lifter.builder().get(after, reg);
        lifter.set(reg, value);
    }
    pop_return(lifter);
    lifter.leave();
    Ok(())
}

/// Whether a register is after a call what it was before; rsp is but for the return address.
fn keeps(abi: Abi, reg: Reg) -> bool {
    const THREAD: [Reg; 2] = [Reg::FS_BASE, Reg::GS_BASE];
    reg == Reg::RSP || THREAD.contains(&reg) || abi == Abi::SysV && Reg::CALLEE_SAVED.contains(&reg)
}

fn skipped(lifter: &mut Lifter, instruction: &Instruction, back: u64, argument: Option<u64>, result: Answer) {
    let ip = instruction.ip();
    lifter.builder().origin(ip);
    if let Some(value) = argument {
        guard_argument(lifter, ip, value);
    }
    if is_tail_call(instruction) {
        guard_return(lifter, ip, back);
        pop_return(lifter);
        lifter.leave();
    }
    let rax = match (result, argument) {
        (Answer::Nothing, _) => return,
        (Answer::Argument, Some(value)) | (Answer::Constant(value), _) => lifter.builder().int(Type::I64, value),
        (Answer::Argument, None) => lifter.reg(Reg::RDI),
    };
    lifter.set(Reg::RAX, rax);
}
