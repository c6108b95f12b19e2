//! The optimised tier: traces of the IR to machine code.
//!
//! [`compile`] makes one walk backwards over the trace, which finds what is used where, what can be an operand of
//! something else, and what only exits want ([`plan`], [`flagsim`]); then walks forwards and emits ([`regs`] says why).
//! Stubs of exits come last, each from where the values were at its guard.
//!
//! # The frame
//!
//! ```text
//!   entry rsp ->  what the trace pushes
//!                 its red zone, 128 bytes
//!                 values that lost their registers
//!   rsp ------->  scratch for `push` and `pop` of the trace's own
//! ```
//!
//! The stack pointer is lowered once, below the lowest address that the trace's own stack pointer gets to, so that nothing
//! alive is ever below `rsp - 128`, where a signal handler would overwrite it. The stack pointer of the trace is a
//! distance from that of the entry which is known at every point; a trace for which it is not is refused.
//!
//! # Flags
//!
//! `flags.*` operations produce no code until something wants them. An exit restores the flags of its snapshot: for
//! nothing when they are those that its guard looked at, by repeating the instruction that made them otherwise. Flags
//! that are dead at an exit are best listed as `flags.undef`, which costs nothing and keeps no operand alive; flags that
//! are not listed are those of the entry, which a trace that begins at an exit puts aside with `pushfq`. In a loop a phi
//! of flags costs a `pushfq` in every round.
//!
//! # Calls
//!
//! Around a residual call the machine is in the state of the original code, with nothing of ours on the stack: the
//! frame is where the callee's will be. So values survive only in registers that the callee keeps.

mod call;
mod encode;
mod exit;
mod flags;
mod flagsim;
mod float;
mod int;
mod looping;
mod memory;
mod moves;
mod operand;
mod plan;
mod regs;
mod vector;

use rustc_hash::FxHashMap;

use redmagic_ir::{End, Home, Opcode, Reg, Trace, Value, Via};

pub use flags::make_tables;

use crate::asm::{Asm, AsmError, Datum, Label};
use crate::copy::{Compiled, Environment, Start};
use crate::exits::{Exit, Tails, jmp_through_slot};
use encode::R;
use plan::{Id, Kind, Mode, NONE, Place, Plan};
use regs::{Loc, Registers, Tuning};

/// Where ends and restarting exits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The address of the anchor in the original code, for listings.
    pub ip: u64,
    /// The word that is jumped through, with the machine in the state of the snapshot.
    pub slot: u64,
}

/// The two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Targets {
    /// Of [`End::Repeat`] and [`End::Link`].
    pub end: Target,
    /// Of exits that are [`redmagic_ir::Via::Restart`].
    pub restart: Target,
    /// Whether a loop goes back through a word of its own ([`copy::Compiled::turn`]), so that its turns can be counted. That
    /// is an indirect jump: nothing beside a body of some length.
    pub turn: bool,
    /// For a [`End::Link`] that is an exit as well ([`Tails::reentry`]): where the original code goes on behind the anchor.
    pub reentry: Option<u64>,
    /// Whether an [`End::Exit`] is jumped to straight, through its slot: it leads to another trace as a rule.
    pub joins: bool,
}

/// Why a trace cannot be lowered. It can still be copied.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// Assembling failed.
    #[error(transparent)]
    Asm(#[from] AsmError),
    /// An operation that there is no code for.
    #[error("`{op}`: {reason}")]
    Unsupported {
        /// The operation as text.
        op: String,
        /// Why not.
        reason: &'static str,
    },
    /// An exit, or a call, wants what cannot be had there.
    #[error("at `{op}`: {register} is not what the trace left in it")]
    Pinned {
        /// The operation as text.
        op: String,
        /// A register that the trace does not move values through.
        register: Reg,
    },
    /// A value is wanted after a call that it does not survive.
    #[error("at `{op}`: the value of {value} is lost")]
    Lost {
        /// The operation as text.
        op: String,
        /// What is wanted.
        value: String,
    },
    /// The stack of the trace does not fit the displacement of an instruction.
    #[error("the stack pointer moves too far")]
    Stack,
    /// An instruction has more operands than there are registers.
    #[error("out of registers")]
    Registers,
}

impl LowerError {
    fn op(trace: &Trace, op: usize, reason: &'static str) -> LowerError {
        LowerError::Unsupported {
            op: text_of(trace, op),
            reason,
        }
    }
}

/// The operation of this index, or the end.
fn text_of(trace: &Trace, op: usize) -> String {
    if op < trace.ops.len() {
        redmagic_ir::print::op(trace, op).to_string()
    } else {
        redmagic_ir::print::end(trace).to_string()
    }
}

/// Compiles a trace that the verifier accepts. The steps of exits and lines are indices of operations; that of the end is
/// the number of operations.
///
/// # Errors
/// When something in the trace cannot be lowered.
pub fn compile(
    trace: &Trace,
    start: Start,
    targets: &Targets,
    environment: &Environment,
) -> Result<Compiled, LowerError> {
    let plan = Plan::new(trace, start)?;
    let mut tuning = Tuning {
        slots: FIRST_SLOTS,
        ..Tuning::default()
    };
    for attempt in 0.. {
        let mut lower = Lower::new(&plan, targets, environment, tuning.clone())?;
        let (entry, body) = lower.main(start)?;
        let learned = &lower.regs.learned;
        if learned.slots > MOST_SLOTS {
            return Err(LowerError::Stack);
        }
        let nothing_new =
            learned.stored_early.is_subset(&tuning.stored_early) && learned.memory_only.is_subset(&tuning.memory_only);
        // Stubs need places of their own, which are known when they have been written: a few are set aside.
        if learned.slots <= tuning.slots && (nothing_new || attempt >= 3) {
            let compiled = lower.finish(entry, body);
            let slots = match compiled? {
                Finished::Done(compiled) => return Ok(compiled),
                Finished::Slots(slots) if slots > MOST_SLOTS => return Err(LowerError::Stack),
                Finished::Slots(slots) => slots,
            };
            tuning.slots = slots;
            continue;
        }
        tuning.slots = tuning.slots.max(learned.slots + 4);
        if attempt < 3 {
            tuning.stored_early.extend(&learned.stored_early);
            tuning.memory_only.extend(&learned.memory_only);
        }
    }
    unreachable!("the loop returns")
}

/// How many places in its frame a trace is thought to want: 97 of 100 traces of Lua and CPython want no more, with what stubs need, and
/// need not be made a second time.
const FIRST_SLOTS: u16 = 20;

/// A trace that wants more places than this in its frame is refused.
const MOST_SLOTS: u16 = 1 << 14;

/// What became of an attempt.
enum Finished {
    Done(Compiled),
    /// The frame is too small: it needs this many places.
    Slots(u16),
}

/// An exit whose stub is still to be written.
struct Pending<'a> {
    label: Label,
    /// The operation.
    op: usize,
    snapshot: &'a redmagic_ir::Snapshot,
    /// Where to.
    pc: u64,
    /// Where values are.
    values: Vec<(Id, Loc)>,
    /// What it computes itself.
    sunk: Vec<Id>,
    /// For counted exits: where the values are that it wants, and those that are in registers.
    homes: Vec<(u32, Home)>,
}

/// The agreement at the head of the loop.
#[derive(Default)]
struct Head {
    label: Option<Label>,
    values: Vec<(Id, Loc)>,
    /// The register of each phi, by number.
    phi_regs: FxHashMap<u32, R>,
    /// What registers hold that the trace does not move values through.
    pinned: Vec<Option<Id>>,
}

struct Lower<'a> {
    plan: &'a Plan<'a>,
    trace: &'a Trace,
    targets: &'a Targets,
    environment: &'a Environment,
    asm: Asm,
    regs: Registers,
    tuning: Tuning,
    /// What the stack pointer is lowered by.
    frame: i64,
    pending: Vec<Pending<'a>>,
    lines: Vec<(u64, u32)>,
    head: Head,
    /// What upper halves of vectors, segment bases and system flags hold.
    pinned: [Option<Id>; Reg::COUNT],
    /// Data words that are there already.
    words: FxHashMap<u64, Datum>,
    vectors: FxHashMap<u128, Datum>,
    /// The operation whose code is being emitted.
    at: usize,
    /// Values by the position that they die at.
    deaths: Deaths,
    /// The word through which the loop goes back.
    turn: Option<Datum>,
    /// The slot of the end, and the code that counts how often it is reached.
    last: Option<(Datum, Label)>,
    /// The exit of the last guard, while nothing has been emitted after it.
    last_guard: Option<(u8, Label)>,
    /// Divisions that an earlier operation has made, too.
    divided: Vec<bool>,
    seen: Vec<bool>,
    /// What [`Lower::capture`] has still to look at, and has: kept for their memory.
    work: Vec<Id>,
    marked: Vec<Id>,
    /// The registers that an exit wants what it computes in.
    exit_hints: Vec<(Id, R)>,
}

/// Values by the position that they die at: lists in order of the values.
#[derive(Debug)]
struct Deaths {
    /// By position: the first.
    first: Vec<u32>,
    /// By value: the next one there.
    next: Vec<u32>,
}

impl Deaths {
    fn of(plan: &Plan<'_>) -> Deaths {
        let mut deaths = Deaths {
            first: vec![NONE; plan.end() as usize + 1],
            next: vec![NONE; plan.ids],
        };
        for id in (0..plan.ids).rev().filter(|id| plan.last[*id] != 0) {
            let first = &mut deaths.first[plan.last[id] as usize];
            deaths.next[id] = std::mem::replace(first, id as u32);
        }
        deaths
    }
}

impl<'a> Lower<'a> {
    fn new(
        plan: &'a Plan<'a>,
        targets: &'a Targets,
        environment: &'a Environment,
        tuning: Tuning,
    ) -> Result<Lower<'a>, LowerError> {
        let frame = plan.lowest_stack().checked_neg().ok_or(LowerError::Stack)? + 128 + i64::from(tuning.slots) * 8;
        let frame = (frame + 15) & !15;
        if frame > 1 << 28 {
            return Err(LowerError::Stack);
        }
        let pinned = std::array::from_fn(|i| Reg::from_index(i).map(|reg| plan.entry(reg)));
        Ok(Lower {
            plan,
            trace: plan.trace,
            targets,
            environment,
            asm: Asm::new(environment.base, environment.data_base),
            regs: Registers::new(plan),
            tuning,
            frame,
            pending: Vec::new(),
            lines: Vec::new(),
            head: Head::default(),
            pinned,
            words: FxHashMap::default(),
            vectors: FxHashMap::default(),
            at: 0,
            deaths: Deaths::of(plan),
            turn: None,
            last: None,
            last_guard: None,
            divided: vec![false; plan.trace.ops.len()],
            seen: vec![false; plan.ids],
            work: Vec::new(),
            marked: Vec::new(),
            exit_hints: Vec::new(),
        })
    }

    /// All but the stubs. Gives the addresses of the entry and the body.
    fn main(&mut self, start: Start) -> Result<(u64, u64), LowerError> {
        let entry = self.asm.here();
        if start == Start::Anchor {
            self.asm.adjust_rsp(8);
        }
        self.asm.align(32);
        let body = self.asm.here();
        self.asm.adjust_rsp(-(self.frame as i32));
        self.enter()?;
        for i in 0..self.trace.ops.len() {
            self.at = i;
            self.regs.position = i as u32 + 1;
            if self.plan.live[i] && self.plan.mode[i] == Mode::Emit && !self.divided[i] {
                self.lines.push((self.asm.here(), i as u32));
                self.emit(i)?;
            }
            self.finish_op(i as u32 + 1);
        }
        self.at = self.trace.ops.len();
        self.regs.position = self.plan.end();
        self.lines.push((self.asm.here(), self.at as u32));
        self.end()?;
        Ok((entry, body))
    }

    fn finish(mut self, entry: u64, body: u64) -> Result<Finished, LowerError> {
        if let Some(base) = self.environment.cold_base {
            self.asm.go_on_at(base);
        }
        let exits = self.stubs()?;
        if self.regs.learned.slots > self.tuning.slots {
            return Ok(Finished::Slots(self.regs.learned.slots));
        }
        let done = self.asm.finish()?;
        Ok(Finished::Done(Compiled {
            code: done.code,
            hot: done.hot,
            data: done.data,
            entry,
            body,
            exits,
            lines: self.lines,
            shared: self.plan.root.clone(),
            turn: self.turn,
            frame: self.frame,
        }))
    }

    /// The entry registers that matter, and the flags.
    fn enter(&mut self) -> Result<(), LowerError> {
        for reg in Reg::all().filter(|reg| reg.is_gpr() || reg.is_xmm()) {
            let id = self.plan.entry(reg);
            if self.plan.last[id] != 0 && matches!(self.plan.kind[id], Kind::Gpr | Kind::Xmm) {
                let r = R(reg.index() as u8);
                self.regs.set(r, id);
                self.regs.unlock(r);
            }
        }
        let flags = self.plan.entry(Reg::FLAGS);
        if self.plan.last[flags] != 0 {
            let slot = self.regs.new_slot(redmagic_ir::Type::I64);
            self.regs.loc[flags].slot = Some(slot);
            self.asm.bytes(&[0x9c]); // pushfq
            self.asm
                .ins(encode::Ins::new(0x8f), 0, Registers::slot_mem(slot).into(), &[])?;
        }
        Ok(())
    }

    /// After the operation at this position: what is not wanted any more goes.
    fn finish_op(&mut self, position: u32) {
        self.regs.relock(0);
        let mut next = self.deaths.first[position as usize];
        while next != NONE {
            self.regs.kill(self.plan, next as usize);
            next = self.deaths.next[next as usize];
        }
    }

    /// Emits one operation.
    fn emit(&mut self, i: usize) -> Result<(), LowerError> {
        use Opcode as O;
        let op = &self.trace.ops[i];
        match op.code {
            O::LoopHead => return self.loop_head(),
            O::Call => return self.call(i, op),
            O::Native => return self.native(i, op),
            O::GuardTrue | O::GuardFalse => return self.guard(i, op),
            _ => {}
        }
        let done = self.memory(i, op)?
            || self.integer(i, op)?
            || self.flag_operation(i, op)?
            || self.float(i, op)?
            || self.vector(i, op)?;
        if done {
            Ok(())
        } else {
            Err(self.unsupported("there is no code for it"))
        }
    }

    fn unsupported(&self, reason: &'static str) -> LowerError {
        LowerError::op(self.trace, self.at, reason)
    }

    fn lost(&self, id: Id) -> LowerError {
        LowerError::Lost {
            op: text_of(self.trace, self.at),
            value: match self.plan.op(id) {
                Some(_) => text_of(self.trace, id),
                None => Reg::from_index(id - self.trace.ops.len()).map_or_else(String::new, |reg| reg.to_string()),
            },
        }
    }

    /// Where operands are wanted now.
    fn place(&self) -> Place {
        Place {
            at: self.regs.position,
            exit: self.regs.in_exit,
        }
    }

    fn guard(&mut self, i: usize, op: &'a redmagic_ir::Op) -> Result<(), LowerError> {
        let snapshot = self.plan.snapshot(op);
        let holds = self.condition(op.args[0])?;
        let label = self.exit(i, snapshot, snapshot.pc)?;
        // Leave when the condition is not what was expected.
        let leave = if op.code == Opcode::GuardTrue { holds ^ 1 } else { holds };
        self.asm.jcc(leave, label);
        self.last_guard = Some((leave, label));
        Ok(())
    }

    fn end(&mut self) -> Result<(), LowerError> {
        let end = self.plan.end() as usize - 1;
        match &self.trace.end {
            End::Exit { snapshot } if self.targets.joins => {
                self.leave_now(snapshot)?;
                self.last = Some(jmp_through_slot(&mut self.asm)?);
                Ok(())
            }
            End::Exit { snapshot } => {
                let label = self.exit(end, snapshot, snapshot.pc)?;
                self.asm.jmp(label);
                Ok(())
            }
            End::Branch { cond, taken, snapshot } => {
                let holds = self.condition(*cond)?;
                let yes = self.exit(end, snapshot, *taken)?;
                let no = self.exit(end, snapshot, snapshot.pc)?;
                self.asm.jcc(holds, yes);
                self.asm.jmp(no);
                Ok(())
            }
            End::Link { snapshot, .. } if self.targets.reentry.is_some() => {
                self.leave_now(snapshot)?;
                self.last = Some(jmp_through_slot(&mut self.asm)?);
                Ok(())
            }
            End::Repeat { snapshot } | End::Link { snapshot, .. } => {
                self.leave_now(snapshot)?;
                self.asm.jmp_through(self.targets.end.slot)?;
                Ok(())
            }
            End::Jump { target, snapshot } => self.jump(*target, snapshot),
            End::Loop { .. } => self.loop_end(),
        }
    }

    /// Writes the stubs.
    fn stubs(&mut self) -> Result<Vec<Exit>, LowerError> {
        let mut exits = Vec::new();
        let environment = self.environment;
        let mut tails = Tails::new(&mut self.asm, &environment.exits, environment.first_exit);
        self.regs.leave_main();
        for pending in std::mem::take(&mut self.pending) {
            self.asm.bind(pending.label);
            self.at = pending.op;
            self.lines.push((self.asm.here(), pending.op as u32));
            let handover = self.hand_over(&pending)?;
            self.stub(&pending)?;
            match pending.snapshot.via {
                Via::Counted => {
                    let mut exit = tails.emit(&mut self.asm, pending.pc, pending.op as u32)?;
                    exit.handover = handover;
                    exits.push(exit);
                }
                Via::Silent => self.asm.jmp_address(pending.pc)?,
                Via::Restart => self.asm.jmp_through(self.targets.restart.slot)?,
            }
        }
        if let Some(slot) = self.last {
            let step = self.plan.end() - 1;
            exits.push(match (&self.trace.end, self.targets.reentry) {
                (End::Exit { snapshot }, _) => tails.count(&mut self.asm, slot, snapshot.pc, step, None)?,
                (_, Some(target)) => tails.reentry(&mut self.asm, slot, target, self.targets.end.slot, step)?,
                _ => unreachable!("set by what is above only"),
            });
        }
        Ok(exits)
    }

    /// The register that is best for a new value.
    fn hint(&self, id: Id) -> Option<R> {
        let phi = self.plan.next_of[id];
        if phi != NONE
            && let Some(r) = self.head.phi_regs.get(&phi)
            && self.regs.is_free(*r)
        {
            return Some(*r);
        }
        let exit = self.exit_hints.iter().find(|(other, _)| *other == id);
        exit.map(|(_, r)| *r).or(self.plan.hint[id])
    }

    /// A constant's bits.
    fn bits(&self, value: Value) -> Option<u128> {
        self.trace.constant(value)
    }
}
