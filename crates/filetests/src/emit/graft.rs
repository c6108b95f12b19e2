//! Side traces that go on where their parents are left, run by this processor.
//!
//! A case is a root trace like a lifted one ([`crate::optfuzz`]), optimised, compiled, and started from a few states. Where
//! it leaves by a counted exit, a side trace is made up, put behind it ([`redmagic_opt::graft`]), optimised with what its
//! parent knew, compiled, and attached to the exit's word; then the root is started again from the same state, so that the
//! code comes by the exit with the values where they were. The side trace is left in its turn, and another one goes on.
//!
//! What is right is what the evaluator makes of the *lifted* side trace, from the state that its parent was left in: up to
//! its end, or to the guard or checkpoint that the code left at. Every place has an address of its own. Which exit of the
//! parent is taken, its counter tells.

use std::fmt::Write as _;
use std::io;

use redmagic_emit::copy::{Compiled, Environment, Start};
use redmagic_emit::exits::Exit;
use redmagic_emit::lower::{self, Target, Targets};
use redmagic_ir::eval::{Evaluator, Left, Regs};
use redmagic_ir::{Addr, Cond, End, Opcode, Reg, Trace, Via};
use redmagic_opt::graft::{self, Inherited, Leave};
use redmagic_opt::{Constant, ConstantMemory, Input, Optimized, PASSES};

use super::machine::{self, BUFFER, BUFFER_SIZE, CODE, Came, DATA, Machine, STACK, STACK_SIZE};
use super::{Evaluated, Mismatch, Report, bytes, environment, listing, registers};
use crate::optfuzz::{Maker, POINTERS};
use crate::random::Random;

/// The part of the buffer that does not change.
const TABLE: usize = 0x800;
const TABLE_BYTES: usize = 0x100;
/// The stack pointer that roots start with.
const TOP: u64 = STACK + STACK_SIZE as u64 - 0x1000 + 0x70;
/// Landings of each trace.
const PLACES: u64 = 256;
/// Most traces in a chain, the root included.
const DEEPEST: usize = 4;
/// Code and data of each trace.
const ROOM: u64 = machine::CODE_SIZE as u64 / DEEPEST as u64;
const DATA_ROOM: u64 = machine::DATA_SIZE as u64 / DEEPEST as u64;

/// How many cases there were.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Roots that were compiled.
    pub roots: u64,
    /// Of those, ones with a loop.
    pub loops: u64,
    /// Side traces that were compiled.
    pub sides: u64,
    /// Of those, side traces of side traces.
    pub chained: u64,
    /// Of those, ones that began at an exit with stores.
    pub stores: u64,
    /// Of those, ones that found values in the frame of their parent.
    pub spilled: u64,
    /// Of those, ones that knew something of memory.
    pub knowing: u64,
    /// Runs of side traces that were compared.
    pub compared: u64,
    /// Of those, ones that came to the end of the side trace.
    pub through: u64,
    /// Of those, ones that began after a residual call of their parent.
    pub called: u64,
    /// Exits at which a register was lost.
    pub lost: u64,
    /// Traces that the optimiser or the emitter refused.
    pub refused: u64,
}

/// The table of a state's memory.
struct Table<'a>(&'a [u8]);

impl ConstantMemory for Table<'_> {
    fn load(&self, address: u64, size: u32) -> Option<Constant> {
        let at = usize::try_from(address.checked_sub(BUFFER + TABLE as u64)?).ok()?;
        let found = self.0.get(at..at.checked_add(size as usize)?)?;
        let mut bits = [0; 16];
        bits[..found.len()].copy_from_slice(found);
        Some(Constant {
            bits: u128::from_le_bytes(bits),
            declared: false,
        })
    }
}

/// Registers and memory.
#[derive(Clone)]
struct State {
    regs: Regs,
    memory: Evaluated,
    /// Whether the flags are alive.
    flags: bool,
}

/// A trace of the chain.
struct Level {
    lifted: Trace,
    start: u64,
    parent: graft::Parent,
    compiled: Compiled,
    /// The exit of the level before that it is attached to, the word, and what that holds otherwise.
    attached: Option<(u32, u64, u64)>,
}

/// Where a run was left, by what the evaluator says.
struct Leaving {
    level: usize,
    exit: Option<Exit>,
    state: State,
}

/// Makes, compiles, runs, compares.
pub struct Tester {
    machine: Machine,
    evaluator: Evaluator,
    /// What was done so far.
    pub counts: Counts,
}

impl Tester {
    /// Makes the machine: one at a time in a process.
    ///
    /// # Errors
    /// When the mappings cannot be made.
    pub fn new() -> io::Result<Tester> {
        let mut evaluator = Evaluator::new();
        evaluator.iterations = 2000;
        Ok(Tester {
            machine: Machine::new()?,
            evaluator,
            counts: Counts::default(),
        })
    }

    /// One case: equal seeds give equal cases.
    pub fn case(&mut self, seed: u64) -> Option<Mismatch> {
        let mut r = Random::new(seed);
        let length = 1 + *r.pick(&[4, 12, 12, 40, 40, 80]);
        let passes: Vec<&str> = match r.below(5) {
            0 => PASSES.iter().copied().filter(|_| !r.one_in(4)).collect(),
            1 => PASSES.iter().copied().filter(|pass| *pass != "peel").collect(),
            _ => PASSES.to_vec(),
        };
        let mut state = start(&mut r);
        let narrow = r.one_in(2);
        let made = root(&mut r, length, narrow);
        let anchor = matches!(made.end, End::Repeat { .. });
        state.flags = !anchor;
        let (lifted, observed) = self.recorded(&mut r, made, &state, usize::MAX);
        let input = Input {
            observed: &observed,
            constants: &Table(&state.memory.buffer[TABLE..TABLE + TABLE_BYTES]),
            start_pc: machine::landing(0),
            restart_pc: machine::landing(machine::LANDINGS - 1),
            iterations: *r.pick(&[1, 3, 1000]),
            unroll: *r.pick(&[1, 1, 2, 4]),
            ..Input::default()
        };
        let Ok(optimised) = redmagic_opt::optimize(&lifted, &input, &passes) else {
            self.counts.refused += 1;
            return None;
        };
        let begin = if anchor { Start::Anchor } else { Start::Exit };
        let Some(level) = self.level(lifted, machine::landing(0), optimised, begin, 0, None) else {
            self.counts.refused += 1;
            return None;
        };
        self.counts.roots += 1;
        self.counts.loops += u64::from(matches!(level.parent.trace.end, End::Loop { .. }));
        let steps = r.one_in(6);
        let mut levels = vec![level];
        for turn in 0..6 {
            if turn > 0 {
                perturb(&mut r, &mut state);
            }
            while let Some(leaving) = match self.run(&levels, &state, steps) {
                Ok(leaving) => leaving,
                Err(differences) => return Some(mismatch(seed, &levels, differences)),
            } {
                if leaving.level + 1 < levels.len() || levels.len() == DEEPEST {
                    break;
                }
                match self.side(&mut r, &levels, &leaving, &passes, narrow) {
                    Some(Ok(level)) => levels.push(level),
                    Some(Err(differences)) => return Some(mismatch(seed, &levels, vec![differences])),
                    None => break,
                }
            }
        }
        None
    }

    /// Turns up to `most` guards round so that they hold from this state, and gives what the operations give then.
    fn recorded(&mut self, r: &mut Random, mut trace: Trace, from: &State, most: usize) -> (Trace, Vec<Option<u128>>) {
        let lie = r.one_in(3);
        let mut left = most;
        let reached = loop {
            let (mut regs, mut memory) = (from.regs.clone(), from.memory.clone());
            match self.evaluator.run(&trace, &mut regs, &mut memory) {
                Ok(Left::Guard(at)) if left > 0 => {
                    left -= 1;
                    let op = &mut trace.ops[at];
                    op.code = if op.code == Opcode::GuardTrue {
                        Opcode::GuardFalse
                    } else {
                        Opcode::GuardTrue
                    };
                }
                Ok(Left::Guard(at)) => break at,
                Ok(_) => break trace.ops.len(),
                Err(_) => break 0,
            }
        };
        let values = self.evaluator.values();
        // What was observed is a hint: some of it may be missing.
        let observed = (0..trace.ops.len())
            .map(|i| (i < reached && (!lie || i % 3 != 0)).then(|| values[i]))
            .collect();
        (trace, observed)
    }

    /// Compiles a trace and puts the code in place.
    fn level(
        &mut self,
        lifted: Trace,
        start: u64,
        optimised: Optimized,
        begin: Start,
        number: u64,
        attached: Option<(u32, u64, u64)>,
    ) -> Option<Level> {
        let target = |slot| Target { ip: 0x40_0000, slot };
        let targets = Targets {
            end: target(machine::END_SLOT),
            restart: target(machine::RESTART_SLOT),
            turn: true,
            reentry: None,
            joins: false,
        };
        let environment = Environment {
            base: CODE + number * ROOM,
            cold_base: Some(CODE + number * ROOM + ROOM / 4),
            data_base: DATA + number * DATA_ROOM,
            first_exit: number as u32 * 2048,
            ..environment()
        };
        let compiled = lower::compile(&optimised.trace, begin, &targets, &environment).ok()?;
        let (hot, cold) = compiled.code.split_at(compiled.hot);
        if hot.len() as u64 > ROOM / 4 || cold.len() as u64 > ROOM / 4 * 3 || compiled.data.len() as u64 * 8 > DATA_ROOM
        {
            return None;
        }
        let (base, data_base) = (environment.base, environment.data_base);
        self.machine.put(base, hot, data_base, &compiled.data);
        self.machine.put(base + ROOM / 4, cold, data_base, &[]);
        Some(Level {
            lifted,
            start,
            parent: graft::Parent {
                trace: optimised.trace,
                lasting: optimised.lasting,
                anchor: begin == Start::Anchor,
            },
            compiled,
            attached,
        })
    }

    /// A side trace of the last trace, from where that was left. `None` if there can be none, an error if what was made is
    /// no trace.
    fn side(
        &mut self,
        r: &mut Random,
        levels: &[Level],
        leaving: &Leaving,
        passes: &[&str],
        narrow: bool,
    ) -> Option<Result<Level, String>> {
        let (exit, state) = (leaving.exit.as_ref()?, &leaving.state);
        let handover = exit.handover.as_ref()?;
        let parent = &levels[leaving.level];
        let length = 1 + *r.pick(&[1, 3, 8, 8, 30]);
        let mut made = Maker::new(r, machine::landing(levels.len() as u64 * PLACES), true);
        made.narrow = narrow;
        let made = side(made, length, state.regs.gpr[4]);
        let most = *r.pick(&[0, 1, 3, usize::MAX, usize::MAX, usize::MAX]);
        let (lifted, observed) = self.recorded(r, made, state, most);
        let leave = Leave {
            at: exit.step as usize,
            shared: &parent.compiled.shared,
            homes: &handover.homes,
            flags: handover.flags,
            frame: parent.compiled.frame,
        };
        let grafted = graft::graft(&parent.parent, &leave, &lifted, &observed, &|reg| state.regs.get(reg));
        let Some(mut grafted) = grafted else {
            self.counts.lost += 1;
            return None;
        };
        let violations = redmagic_ir::verify::violations(&grafted.trace);
        if !violations.is_empty() {
            return Some(Err(format!("the grafted trace: {violations:?}\n{}", grafted.trace)));
        }
        if r.one_in(8) {
            // It must do without.
            grafted.inherited = Inherited {
                memory: Vec::new(),
                apart: Vec::new(),
                ..grafted.inherited
            };
        }
        let input = Input {
            observed: &grafted.observed,
            constants: &Table(&state.memory.buffer[TABLE..TABLE + TABLE_BYTES]),
            start_pc: exit.target,
            restart_pc: machine::landing(machine::LANDINGS - 1),
            inherited: Some(&grafted.inherited),
            ..Input::default()
        };
        let Ok(optimised) = redmagic_opt::optimize(&grafted.trace, &input, passes) else {
            self.counts.refused += 1;
            return None;
        };
        let violations = redmagic_ir::verify::violations(&optimised.trace);
        if !violations.is_empty() {
            return Some(Err(format!("the optimised trace: {violations:?}\n{}", optimised.trace)));
        }
        let data_base = DATA + leaving.level as u64 * DATA_ROOM;
        let slot = data_base + 8 * u64::from(handover.slot.0);
        let attached = Some((exit.number, slot, handover.stub));
        let number = levels.len() as u64;
        let Some(level) = self.level(lifted, exit.target, optimised, Start::Exit, number, attached) else {
            self.counts.refused += 1;
            return None;
        };
        let old = &parent.parent.trace;
        let snapshot = match old.ops.get(leave.at) {
            Some(op) => op.snapshot().map(|at| &old.snapshots[at]),
            None => old.end.snapshot(),
        };
        let prologue = &grafted.trace.ops[..grafted.inherited.from];
        self.counts.sides += 1;
        self.counts.called += u64::from(old.ops[..leave.at].iter().any(|op| op.code == Opcode::Call));
        self.counts.chained += u64::from(number > 1);
        self.counts.stores += u64::from(snapshot.is_some_and(|snapshot| !snapshot.stores.is_empty()));
        self.counts.spilled += u64::from(prologue.iter().any(|op| op.code == Opcode::Load));
        self.counts.knowing += u64::from(!grafted.inherited.memory.is_empty());
        Some(Ok(level))
    }

    /// Runs the root from a state, first alone, then with one side trace more each time the exit is taken that it is attached
    /// to. Gives where the last run was left, if that is known; an error if something differs.
    fn run(&mut self, levels: &[Level], from: &State, steps: bool) -> Result<Option<Leaving>, Vec<String>> {
        for level in levels {
            if let Some((_, slot, stub)) = level.attached {
                self.machine.set_word(slot, stub);
            }
        }
        let mut last: Option<Leaving> = None;
        for (number, level) in levels.iter().enumerate() {
            if let Some((exit, slot, _)) = level.attached {
                let taken = last.as_ref().and_then(|leaving| leaving.exit.as_ref());
                if taken.is_none_or(|taken| taken.number != exit) {
                    break;
                }
                self.machine.set_word(slot, level.compiled.body);
            }
            let state = last.as_ref().map_or(from, |leaving| &leaving.state);
            let (came, found) = self.native(levels, from, steps);
            let Some(right) = self.right(level, number, state, came)? else {
                return Ok(None);
            };
            let mut differences = Vec::new();
            registers(&right.regs, &found, right.flags, &mut differences);
            let mut ran = levels[..=number].iter();
            let calls = ran.any(|level| level.lifted.ops.iter().any(|op| op.code == Opcode::Call));
            self.memory(came, calls, from, &right, &mut differences);
            if !differences.is_empty() {
                differences.insert(0, format!("trace {number}, left {came:x?}"));
                return Err(differences);
            }
            if number > 0 {
                self.counts.compared += 1;
                self.counts.through += u64::from(came == Came::Landed(machine::END));
            }
            let mut exits = level.compiled.exits.iter();
            let exit = exits.find(|exit| self.machine.taken(exit.number) > 0).cloned();
            last = Some(Leaving {
                level: number,
                exit,
                state: right,
            });
        }
        Ok(last)
    }

    /// Runs the code.
    fn native(&mut self, levels: &[Level], from: &State, steps: bool) -> (Came, Regs) {
        self.machine.reset_counters(2048 * DEEPEST as u32);
        let (stack, buffer) = self.machine.memory();
        stack.copy_from_slice(&from.memory.stack);
        buffer.copy_from_slice(&from.memory.buffer);
        let mut begin = from.regs.clone();
        let root = &levels[0];
        let entry = if root.parent.anchor {
            begin.gpr[4] -= 8;
            root.compiled.entry
        } else {
            root.compiled.body
        };
        self.machine.run(entry, &begin, steps)
    }

    /// The state that a trace must be left in where it came to. `None` if that depends on what is undefined, or faults.
    fn right(&mut self, level: &Level, number: usize, from: &State, came: Came) -> Result<Option<State>, Vec<String>> {
        let wrong = |text: String| Err(vec![format!("trace {number}: {text}")]);
        let mut state = from.clone();
        self.evaluator.undefined = false;
        if number == 0 {
            // What the optimiser does to roots is tested elsewhere: this is about what comes after.
            let trace = &level.parent.trace;
            let Ok(left) = self.evaluator.run(trace, &mut state.regs, &mut state.memory) else {
                return Ok(None);
            };
            let snapshot = super::left_through(trace, left);
            let expected = match left {
                Left::Repeat | Left::Link(_) => Came::Landed(machine::END),
                Left::Guard(_) if snapshot.via == Via::Restart => Came::Landed(machine::RESTART),
                _ => Came::Landed(state.regs.rip.wrapping_sub(machine::landing(0)) / 16),
            };
            state.flags |= snapshot.get(Reg::FLAGS).is_some();
            return match self.evaluator.undefined {
                true => Ok(None),
                false if came != expected => wrong(format!("left {expected:?}, and the code {came:x?}")),
                false => Ok(Some(state)),
            };
        }
        let trace = &level.lifted;
        let Came::Landed(landing) = came else {
            return wrong(format!("{came:x?}"));
        };
        let pc = match landing {
            machine::END => None,
            machine::RESTART => return wrong("restarted".into()),
            number => Some(machine::landing(number)),
        };
        if pc == Some(level.start) {
            return Ok(Some(state));
        }
        let at_checkpoint = trace.ops.iter().position(|op| {
            op.code == Opcode::Checkpoint && op.snapshot().is_some_and(|at| Some(trace.snapshots[at].pc) == pc)
        });
        let mut cut = trace.clone();
        if let Some(at) = at_checkpoint {
            let snapshot = trace.snapshots[trace.ops[at].aux as usize].clone();
            cut.ops.truncate(at);
            cut.end = End::Exit { snapshot };
        }
        let Ok(left) = self.evaluator.run(&cut, &mut state.regs, &mut state.memory) else {
            return Ok(None);
        };
        if self.evaluator.undefined {
            return Ok(None);
        }
        let same = match (left, pc) {
            (Left::Link(_), None) => true,
            (Left::Guard(_), Some(pc)) => at_checkpoint.is_none() && state.regs.rip == pc,
            (Left::End(_), Some(pc)) => state.regs.rip == pc,
            _ => false,
        };
        if !same {
            let rip = state.regs.rip;
            return wrong(format!(
                "left {came:x?}, to {pc:x?}, and the lifted one {left:?}, to {rip:#x}"
            ));
        }
        state.flags |= super::left_through(&cut, left).get(Reg::FLAGS).is_some();
        Ok(Some(state))
    }

    fn memory(&mut self, came: Came, calls: bool, from: &State, right: &State, out: &mut Vec<String>) {
        let ended = matches!(came, Came::Landed(machine::END | machine::RESTART));
        // What is called leaves anything below the stack pointer.
        let dead = if ended || calls { 0 } else { 128 };
        let low = (right.regs.gpr[4] - dead - STACK) as usize;
        // What no one has written below the first red zone is anything.
        let known = (from.regs.gpr[4] - 128 - STACK) as usize;
        let (stack, buffer) = self.machine.memory();
        let (expected, before) = (&right.memory.stack, &from.memory.stack);
        let bytes_there = stack.iter_mut().enumerate().take(known.max(low)).skip(low);
        for (at, byte) in bytes_there.filter(|(at, _)| expected[*at] == before[*at]) {
            *byte = expected[at];
        }
        let at = STACK + low as u64;
        bytes("stack", at, &right.memory.stack[low..], &stack[low..], out);
        bytes("buffer", BUFFER, &right.memory.buffer, buffer, out);
    }
}

/// A state to start roots in.
fn start(r: &mut Random) -> State {
    let mut regs = super::state(r);
    for i in 0..16 {
        if !r.one_in(3) {
            regs.gpr[i] = r.below(6);
        }
    }
    for v in &mut regs.xmm {
        let word = |r: &mut Random| match r.below(3) {
            0 => u128::from(r.double()),
            1 => u128::from((r.below(100) as f64 / 3.0).to_bits()),
            _ => u128::from(r.below(8)),
        };
        *v = word(r) | word(r) << 64;
    }
    for reg in POINTERS {
        regs.gpr[reg.index()] = pointer(r);
    }
    regs.gpr[4] = TOP;
    regs.gpr[10] = BUFFER + TABLE as u64 + r.below(4) * 8;
    regs.gpr[14] = 1 + r.below(6);
    regs.gpr[15] = 0;
    let mut fill = |size: usize| {
        (0..size)
            .map(|_| if r.one_in(2) { r.below(4) as u8 } else { r.bits() as u8 })
            .collect()
    };
    State {
        regs,
        memory: Evaluated {
            stack: fill(STACK_SIZE),
            buffer: fill(BUFFER_SIZE),
        },
        flags: true,
    }
}

/// Somewhere in the buffer, or in the stack above what roots push.
fn pointer(r: &mut Random) -> u64 {
    if r.one_in(4) {
        return (TOP & !0x7f) + 0x80 + r.below(16) * 8;
    }
    let range = if r.one_in(2) { 4 } else { 60 };
    BUFFER + 0x100 + r.below(range) * 8
}

/// Changes a little, so that other exits are taken.
fn perturb(r: &mut Random, state: &mut State) {
    for _ in 0..1 + r.below(3) {
        match r.below(4) {
            0 => state.regs.gpr[14] = 1 + r.below(8),
            1 => {
                let reg = *r.pick(&POINTERS);
                state.regs.gpr[reg.index()] = pointer(r);
            }
            2 => {
                let reg = *r.pick(&[0, 1, 2, 6, 7, 8, 9, 11]);
                state.regs.gpr[reg] = if r.one_in(2) { r.below(6) } else { r.integer() };
            }
            _ => {
                for _ in 0..16 {
                    let at = 0x100 + r.below(0x300) as usize;
                    state.memory.buffer[at] = r.below(4) as u8;
                }
            }
        }
    }
}

/// A lifted root: a loop, or a straight trace that ends somewhere.
fn root(r: &mut Random, length: u64, narrow: bool) -> Trace {
    let looping = !r.one_in(4);
    let mut maker = Maker::new(r, machine::landing(0), true);
    maker.narrow = narrow;
    instructions(&mut maker, length);
    if looping {
        maker.turn();
        let snapshot = maker.snapshot(machine::landing(0));
        return std::mem::take(&mut maker.b).finish(End::Repeat { snapshot });
    }
    leave(maker)
}

fn instructions(maker: &mut Maker<'_>, length: u64) {
    let mut calls = maker.r.below(6) / 4;
    for _ in 0..1 + maker.r.below(length) {
        if calls > 0 && maker.r.one_in(6) {
            calls -= 1;
            maker.call(machine::CALLEE_SYSV, BUFFER + TABLE as u64);
        }
        maker.instruction();
    }
}

/// A lifted side trace.
fn side(mut maker: Maker<'_>, length: u64, rsp: u64) -> Trace {
    let links = maker.r.one_in(2);
    // It may pop what was pushed before it.
    maker.shallowest = -((TOP - rsp) as i32 / 8);
    instructions(&mut maker, length);
    if links && maker.r.one_in(2) {
        // It returns from functions that were called before the root, too. Pointers to their frames are not used later.
        let rsp = maker.get(Reg::RSP);
        let bytes = 8 + maker.r.below(32) as i32 * 8;
        let popped = maker.b.lea(Addr::base(rsp, bytes));
        maker.set(Reg::RSP, popped);
    }
    if links {
        let snapshot = maker.snapshot(0x40_0000);
        return std::mem::take(&mut maker.b).finish(End::Link { trace: 0, snapshot });
    }
    leave(maker)
}

/// Ends a trace at another place, or two.
fn leave(mut maker: Maker<'_>) -> Trace {
    maker.pc += 16;
    let end = if maker.r.one_in(2) {
        let snapshot = maker.snapshot(maker.pc);
        End::Exit { snapshot }
    } else {
        let a = maker.get(Reg::RAX);
        let zero = maker.b.int(redmagic_ir::Type::I64, 1);
        let flags = maker.b.flags_sub(redmagic_ir::Type::I64, a, zero);
        maker.set(Reg::FLAGS, flags);
        let code = Cond::from_code(maker.r.below(16) as u8).expect("16 of them");
        let cond = maker.b.cond(code, flags);
        let snapshot = maker.snapshot(maker.pc);
        End::Branch {
            cond,
            taken: maker.pc + 16,
            snapshot,
        }
    };
    std::mem::take(&mut maker.b).finish(end)
}

fn mismatch(seed: u64, levels: &[Level], differences: Vec<String>) -> Mismatch {
    let (last, before) = levels.split_last().expect("the root");
    let mut code = String::new();
    for level in before {
        let _ = writeln!(code, "; parent, optimised\n{}", level.parent.trace);
        let _ = writeln!(code, "{}", listing(&level.compiled));
    }
    let attached = last.attached.and_then(|(number, ..)| {
        let exits = before.last()?.compiled.exits.iter();
        exits.into_iter().find(|exit| exit.number == number)
    });
    let _ = writeln!(code, "; attached to {attached:?}");
    let _ = writeln!(code, "; optimised\n{}{}", last.parent.trace, listing(&last.compiled));
    Mismatch {
        seed,
        trace: last.lifted.clone(),
        differences,
        code,
    }
}

/// Runs cases in a child: code that goes wrong may take its process with it.
///
/// # Errors
/// When the child cannot be made.
pub fn campaign(first: u64, count: u64) -> io::Result<Report> {
    super::in_child(first, count, child)
}

fn child(first: u64, count: u64, out: &mut std::fs::File) -> io::Result<()> {
    use io::Write as _;
    let mut tester = Tester::new()?;
    super::run_cases(first, count, out, |seed| tester.case(seed))?;
    let counts = tester.counts;
    write!(out, "\u{1e}summary {} {counts:?}", counts.compared)
}
