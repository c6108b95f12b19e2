//! Random traces through the optimiser, compared by the evaluator.
//!
//! The traces look like lifted ones: instructions with checkpoints, pointers into a few buffers that overlap on purpose,
//! pushes and pops, guards that hold the first time round, and the repeat at the end. The optimised trace runs from the same
//! state until it leaves. Wherever it leaves, the lifted one must come by with the same registers, flags and memory:
//! r15 counts the turns, and every place has an address of its own.

use redmagic_ir::eval::{Evaluator, Fault, Left, Regs, SparseMemory};
use redmagic_ir::{Abi, Addr, Builder, Cond, End, MemFlags, Opcode, Reg, Snapshot, Trace, Type, Value, Via};
use redmagic_opt::{Constant, ConstantMemory, Input, Optimized};

use crate::random::Random;

const DATA: u64 = 0x10_0000;
const DATA_BYTES: usize = 0x400;
/// The native stack: near the data, as that of a thread or coroutine may be, or far above it.
const STACKS: [u64; 2] = [0x20_0000, 0x7ff0_0020_0000];
const STACK_BYTES: usize = 0x1000;
/// Mapped memory: far from the stack and the data, and beside the stack that is far from it, as the interpreter's own frames may be.
const MAPPED: [u64; 2] = [0x7f00_0010_0000, STACKS[1] - (1 << 30)];
const TABLE: u64 = 0x30_0000;
const TABLE_BYTES: usize = 0x100;
/// Where a trace begins, and where its anchor's call is.
const START: u64 = 0x1000;
const ANCHOR: u64 = 0xfff0;

/// A trace and the state that it begins in.
#[derive(Debug, Clone)]
pub struct Case {
    /// The lifted trace.
    pub trace: Trace,
    /// The registers.
    pub regs: Regs,
    /// The memory.
    pub memory: SparseMemory,
    /// How often the loop may go round.
    pub turns: u64,
}

/// The table does not change.
struct Table(Vec<u8>);

impl ConstantMemory for Table {
    fn load(&self, address: u64, size: u32) -> Option<Constant> {
        let at = usize::try_from(address.checked_sub(TABLE)?).ok()?;
        let bytes = self.0.get(at..at.checked_add(size as usize)?)?;
        let mut bits = [0; 16];
        bits[..bytes.len()].copy_from_slice(bytes);
        Some(Constant {
            bits: u128::from_le_bytes(bits),
            declared: false,
        })
    }
}

const TURNS: Reg = Reg::gpr(15);
/// The registers that hold pointers.
pub(crate) const POINTERS: [Reg; 4] = [Reg::RBX, Reg::RBP, Reg::gpr(12), Reg::gpr(13)];

/// Makes traces that look like lifted ones, instruction by instruction.
pub(crate) struct Maker<'a> {
    pub(crate) r: &'a mut Random,
    pub(crate) b: Builder,
    now: Vec<Value>,
    entry: Vec<Value>,
    /// Where the instruction is that was made last; each takes 16 bytes.
    pub(crate) pc: u64,
    /// Pushes without a pop, and the least there may be.
    pub(crate) depth: i32,
    pub(crate) shallowest: i32,
    pointers: Vec<Reg>,
    /// Whether there are vectors, barriers, and more registers.
    rich: bool,
    /// Whether accesses are of a few places only, so that many are of the same.
    pub(crate) narrow: bool,
}

impl Maker<'_> {
    pub(crate) fn new(r: &mut Random, pc: u64, rich: bool) -> Maker<'_> {
        let pointers = POINTERS[..1 + r.below(4) as usize].to_vec();
        Maker {
            r,
            b: Builder::new(),
            now: vec![Value::NONE; Reg::COUNT],
            entry: vec![Value::NONE; Reg::COUNT],
            pc,
            depth: 0,
            shallowest: 0,
            pointers,
            rich,
            narrow: false,
        }
    }

    pub(crate) fn get(&mut self, reg: Reg) -> Value {
        let i = reg.index();
        if self.now[i].is_none() {
            self.now[i] = self.b.reg(reg);
            self.entry[i] = self.now[i];
        }
        self.now[i]
    }

    pub(crate) fn set(&mut self, reg: Reg, value: Value) {
        self.get(reg);
        self.now[reg.index()] = value;
    }

    pub(crate) fn snapshot(&self, pc: u64) -> Snapshot {
        let changed =
            Reg::all().filter(|r| !self.now[r.index()].is_none() && self.now[r.index()] != self.entry[r.index()]);
        Snapshot {
            pc,
            via: Via::Counted,
            regs: changed.map(|r| (r, self.now[r.index()])).collect(),
            stores: Vec::new(),
        }
    }

    /// A register for data.
    fn data(&mut self) -> Reg {
        if self.rich && self.r.one_in(8) {
            return Reg::R11;
        }
        *self.r.pick(&[
            Reg::RAX,
            Reg::RCX,
            Reg::RDX,
            Reg::RSI,
            Reg::RDI,
            Reg::gpr(8),
            Reg::gpr(9),
        ])
    }

    fn address(&mut self, load: bool) -> Addr {
        if self.narrow && !self.r.one_in(4) {
            let reg = self.pointers[0];
            let base = self.get(reg);
            return Addr::base(base, self.r.below(3) as i32 * 8);
        }
        let disp = self.r.below(12) as i32 * 4 - 8;
        let kind = self.r.below(if self.rich { 12 } else { 10 });
        match kind {
            0 | 10 | 11 => {
                let base = self.get(Reg::RSP);
                Addr::base(base, (self.r.below(40) * 8) as i32)
            }
            // The table does not change, so nothing is stored there.
            1 if load => {
                let base = self.get(Reg::gpr(10));
                Addr::base(base, (self.r.below(12) * 8) as i32)
            }
            2 | 3 => {
                // An index that stays small.
                let index = self.data();
                let index = self.get(index);
                let mask = self.b.int(Type::I64, 7);
                let index = self.b.and(Type::I64, index, mask);
                let base = *self.r.pick(&self.pointers);
                let base = self.get(base);
                Addr {
                    base,
                    index,
                    seg: Value::NONE,
                    flags: MemFlags::new(*self.r.pick(&[1, 2, 4, 8]), false),
                    disp,
                }
            }
            _ => {
                let base = *self.r.pick(&self.pointers);
                let base = self.get(base);
                Addr::base(base, disp)
            }
        }
    }

    fn checkpoint(&mut self) {
        let snapshot = self.snapshot(self.pc);
        let snapshot = self.b.snapshot(snapshot);
        self.b.checkpoint(snapshot);
    }

    fn write(&mut self, reg: Reg, ty: Type, value: Value) {
        let wide = match ty {
            Type::I64 => value,
            Type::I32 => self.b.zext(Type::I64, value),
            _ => {
                let old = self.get(reg);
                self.b.put(ty, old, value)
            }
        };
        self.set(reg, wide);
    }

    fn read(&mut self, reg: Reg, ty: Type) -> Value {
        let value = self.get(reg);
        if ty == Type::I64 {
            value
        } else {
            self.b.trunc(ty, value)
        }
    }

    pub(crate) fn instruction(&mut self) {
        self.pc += 16;
        self.b.origin(self.pc);
        if self.rich && self.r.one_in(4) {
            self.vector();
            return;
        }
        let mut ty = *self.r.pick(&[Type::I64, Type::I64, Type::I32, Type::I8, Type::I16]);
        if self.narrow && self.r.one_in(2) {
            ty = Type::I64;
        }
        match self.r.below(20) {
            0..=4 => {
                self.checkpoint();
                let address = self.address(true);
                let value = self.b.load(ty, address);
                let reg = self.data();
                self.write(reg, ty, value);
            }
            5..=8 => {
                self.checkpoint();
                let address = self.address(false);
                let reg = self.data();
                let value = if self.r.below(4) == 0 {
                    let bits = self.r.below(4);
                    self.b.int(ty, bits)
                } else {
                    self.read(reg, ty)
                };
                self.b.store(ty, value, address);
            }
            9 if self.depth < 6 => {
                // push
                self.checkpoint();
                let reg = self.data();
                let value = self.get(reg);
                let rsp = self.get(Reg::RSP);
                self.b.store(Type::I64, value, Addr::base(rsp, -8));
                let rsp = self.b.lea(Addr::base(rsp, -8));
                self.set(Reg::RSP, rsp);
                self.depth += 1;
            }
            10 if self.depth > self.shallowest => self.pop(),
            11 => {
                // A pointer moves, between two places.
                let reg = *self.r.pick(&self.pointers);
                let value = self.get(reg);
                let flip = self.b.int(Type::I64, *self.r.pick(&[8, 16, 64]));
                let value = self.b.xor(Type::I64, value, flip);
                self.set(reg, value);
            }
            12 => {
                // Floating point in memory.
                self.checkpoint();
                let a = self.address(false);
                let x = self.b.load(Type::F64, a);
                let y = self.b.fadd(Type::F64, x, x);
                self.b.store(Type::F64, y, a);
            }
            13..=15 => self.guard(),
            _ => {
                let (to, from) = (self.data(), self.data());
                let (a, c) = (self.read(to, ty), self.read(from, ty));
                let c = if self.r.below(3) == 0 {
                    let bits = self.r.integer() >> self.r.below(60);
                    self.b.int(ty, bits & ty.mask() as u64)
                } else {
                    c
                };
                let (value, flags) = match self.r.below(7) {
                    0 | 1 => (self.b.add(ty, a, c), self.b.flags_add(ty, a, c)),
                    2 => (self.b.sub(ty, a, c), self.b.flags_sub(ty, a, c)),
                    3 => {
                        let value = self.b.and(ty, a, c);
                        (value, self.b.flags_logic(ty, value))
                    }
                    4 => {
                        let value = self.b.or(ty, a, c);
                        (value, self.b.flags_logic(ty, value))
                    }
                    5 => {
                        let value = self.b.xor(ty, a, c);
                        (value, self.b.flags_logic(ty, value))
                    }
                    _ => {
                        let count = self.r.below(70);
                        let count = self.b.int(Type::I8, count);
                        let value = match self.r.below(3) {
                            0 => self.b.shl(ty, a, count),
                            1 => self.b.shr(ty, a, count),
                            _ => self.b.sar(ty, a, count),
                        };
                        (value, self.b.flags_logic(ty, value))
                    }
                };
                self.write(to, ty, value);
                self.set(Reg::FLAGS, flags);
            }
        }
    }

    /// Vectors and floating point in registers; rarely something that ends what is known of memory.
    fn vector(&mut self) {
        let xmm = |r: &mut Random| Reg::xmm(r.below(6) as usize * 3);
        let (to, from) = (xmm(self.r), xmm(self.r));
        match self.r.below(12) {
            0 | 1 => {
                self.checkpoint();
                let address = self.address(true);
                let value = self.b.load(Type::V128, address);
                self.set(to, value);
            }
            2 | 3 => {
                self.checkpoint();
                let address = self.address(false);
                let value = self.get(from);
                self.b.store(Type::V128, value, address);
            }
            4 => {
                self.checkpoint();
                let address = self.address(true);
                let ty = *self.r.pick(&[Type::F32, Type::F64]);
                let low = self.b.load(ty, address);
                let value = self.b.vzext(ty, low);
                self.set(to, value);
            }
            5 => {
                self.checkpoint();
                let address = self.address(false);
                let ty = *self.r.pick(&[Type::F32, Type::F64]);
                let vector = self.get(from);
                let low = self.b.extract(ty, vector, 0);
                self.b.store(ty, low, address);
            }
            6 | 7 => {
                let (a, b) = (self.get(to), self.get(from));
                let ty = *self.r.pick(&[Type::F32, Type::F64]);
                let (x, y) = (self.b.extract(ty, a, 0), self.b.extract(ty, b, 0));
                let sum = if self.r.one_in(2) {
                    self.b.fadd(ty, x, y)
                } else {
                    self.b.fmul(ty, x, y)
                };
                let value = self.b.insert(ty, a, sum, 0);
                self.set(to, value);
            }
            8 => {
                let (a, b) = (self.get(to), self.get(from));
                let value = if self.r.one_in(2) {
                    self.b.paddq(a, b)
                } else {
                    self.b.pxor(a, b)
                };
                self.set(to, value);
            }
            9 => {
                let reg = self.data();
                if self.r.one_in(2) {
                    let value = self.get(reg);
                    let value = self.b.vzext(Type::I64, value);
                    self.set(to, value);
                } else {
                    let vector = self.get(from);
                    let value = self.b.extract(Type::I64, vector, 0);
                    self.set(reg, value);
                }
            }
            10 => {
                let reg = self.data();
                let value = self.read(reg, Type::I32);
                let value = self.b.int_to_f(Type::F64, value);
                let vector = self.get(to);
                let value = self.b.insert(Type::F64, vector, value, 0);
                self.set(to, value);
            }
            _ => match self.r.below(8) {
                0 => {
                    self.b.fence(6);
                }
                1 => {
                    let mode = self.b.constant(Type::I32, 0x1f80 | u128::from(self.r.below(4)) << 13);
                    self.b.mxcsr_set(mode);
                }
                2 => {
                    // The address of a place on the stack is put where it can be found.
                    self.checkpoint();
                    let rsp = self.get(Reg::RSP);
                    let address = self.b.lea(Addr::base(rsp, (self.r.below(8) * 8) as i32));
                    let base = *self.r.pick(&self.pointers);
                    let base = self.get(base);
                    self.b.store(Type::I64, address, Addr::base(base, 0));
                }
                _ => {
                    let (a, b) = (self.get(to), self.get(from));
                    let value = self.b.addpd(a, b);
                    self.set(to, value);
                }
            },
        }
    }

    /// A residual call that keeps to the ABI, of code that keeps what the data registers hold small.
    pub(crate) fn call(&mut self, target: u64, table: u64) {
        self.pc += 16;
        self.b.origin(self.pc);
        let rsp = self.get(Reg::RSP);
        let back = self.b.int(Type::I64, self.pc + 5);
        self.b.store(Type::I64, back, Addr::base(rsp, -8));
        let pushed = self.b.lea(Addr::base(rsp, -8));
        self.set(Reg::RSP, pushed);
        let snapshot = self.snapshot(self.pc + 5);
        let snapshot = self.b.snapshot(snapshot);
        let target = self.b.int(Type::I64, target);
        let after = self.b.call(target, Abi::SysV, snapshot);
        let kept = |reg: Reg| matches!(reg.index(), 3..=5 | 12..16 | 50..);
        for reg in Reg::all().filter(|reg| !kept(*reg)) {
            let value = self.b.get(after, reg);
            self.now[reg.index()] = value;
            self.entry[reg.index()] = Value::NONE;
        }
        let popped = self.b.lea(Addr::base(pushed, 8));
        self.set(Reg::RSP, popped);
        // The callee clears r10.
        let table = self.b.int(Type::I64, table);
        self.set(Reg::gpr(10), table);
    }

    fn pop(&mut self) {
        self.checkpoint();
        let rsp = self.get(Reg::RSP);
        let value = self.b.load(Type::I64, Addr::base(rsp, 0));
        let reg = self.data();
        self.set(reg, value);
        let rsp = self.b.lea(Addr::base(rsp, 8));
        self.set(Reg::RSP, rsp);
        self.depth -= 1;
    }

    /// The end of a turn: r14 counts down to the exit, r15 up.
    pub(crate) fn turn(&mut self) {
        while self.depth > 0 {
            self.pc += 16;
            self.pop();
        }
        self.pc += 16;
        let left = self.get(Reg::gpr(14));
        let one = self.b.int(Type::I64, 1);
        let less = self.b.sub(Type::I64, left, one);
        let flags = self.b.flags_sub(Type::I64, left, one);
        self.set(Reg::gpr(14), less);
        self.set(Reg::FLAGS, flags);
        let over = self.b.cond(Cond::E, flags);
        let snapshot = self.snapshot(self.pc);
        let snapshot = self.b.snapshot(snapshot);
        self.b.guard(over, false, snapshot);
        let turns = self.get(TURNS);
        let turns = self.b.add(Type::I64, turns, one);
        self.set(TURNS, turns);
    }

    fn guard(&mut self) {
        let mut ty = *self.r.pick(&[Type::I64, Type::I32, Type::I8]);
        let equality = self.narrow && self.r.one_in(2);
        if equality {
            ty = Type::I64;
        }
        let reg = self.data();
        let a = self.read(reg, ty);
        let flags = match self.r.below(3) {
            0 => self.b.flags_logic(ty, a),
            1 => {
                let small = self.r.below(5);
                let c = self.b.int(ty, small);
                self.b.flags_sub(ty, a, c)
            }
            _ => {
                let other = self.data();
                let c = self.read(other, ty);
                self.b.flags_sub(ty, a, c)
            }
        };
        self.set(Reg::FLAGS, flags);
        let code = if equality { 4 } else { self.r.below(16) as u8 };
        let condition = self.b.cond(Cond::from_code(code).expect("16 of them"), flags);
        let snapshot = self.snapshot(self.pc);
        let snapshot = self.b.snapshot(snapshot);
        self.b.guard(condition, true, snapshot);
    }
}

/// Makes a case.
pub fn case(r: &mut Random) -> Case {
    let length = 4 + r.below(40);
    let mut maker = Maker::new(r, START, false);
    for _ in 0..length {
        maker.instruction();
    }
    maker.turn();
    let end = maker.snapshot(START);
    let trace = std::mem::take(&mut maker.b).finish(End::Repeat { snapshot: end });
    let r = maker.r;
    let (regs, memory, turns) = state(r);
    let mut case = Case {
        trace,
        regs,
        memory,
        turns,
    };
    hold(&mut case);
    case
}

/// An address in the data, or on the stack. No pointer leads below the stack pointer: what the trace pushes is its own.
fn pointer(r: &mut Random, stack: u64) -> u64 {
    if r.below(12) == 0 {
        return stack + 0x900 + r.below(16) * 8;
    }
    let base = if stack == STACKS[1] && r.one_in(2) {
        *r.pick(&MAPPED)
    } else {
        DATA
    };
    let range = if r.one_in(2) { 4 } else { 60 };
    base + 0x100 + r.below(range) * 8
}

/// The same trace in another state, in which some pointers lead elsewhere: to where others lead, for one. `None` when the trace
/// cannot be run there.
pub fn moved(case: &Case, r: &mut Random) -> Option<Case> {
    let mut moved = case.clone();
    let stack = case.regs.gpr[Reg::RSP.index()] - 0x800;
    for _ in 0..1 + r.below(2) {
        let [reg, other] = [(); 2].map(|()| r.pick(&POINTERS).index());
        moved.regs.gpr[reg] = match r.below(3) {
            0 => pointer(r, stack),
            _ => moved.regs.gpr[other].wrapping_add(r.below(3) * 8),
        };
    }
    let mut evaluator = Evaluator::new();
    let (mut regs, mut memory) = (moved.regs.clone(), moved.memory.clone());
    for _ in 0..100 {
        match evaluator.run(&case.trace, &mut regs, &mut memory) {
            Err(_) => return None,
            Ok(Left::Repeat) => {}
            Ok(_) => break,
        }
    }
    Some(moved)
}

fn state(r: &mut Random) -> (Regs, SparseMemory, u64) {
    let mut regs = Regs::default();
    let stack = *r.pick(&STACKS);
    for value in &mut regs.gpr {
        *value = if r.below(3) == 0 { r.below(6) } else { r.integer() };
    }
    for reg in POINTERS {
        regs.gpr[reg.index()] = pointer(r, stack);
    }
    regs.gpr[Reg::RSP.index()] = stack + 0x800;
    regs.gpr[10] = TABLE + r.below(4) * 8;
    let turns = 1 + r.below(6);
    regs.gpr[14] = turns;
    regs.gpr[15] = 0;
    let mut memory = SparseMemory::new();
    let mut bytes = |n: usize| {
        (0..n)
            .map(|_| {
                if r.below(2) == 0 {
                    r.below(4) as u8
                } else {
                    r.integer() as u8
                }
            })
            .collect()
    };
    memory.map(DATA, bytes(DATA_BYTES));
    for mapped in MAPPED {
        memory.map(mapped, bytes(DATA_BYTES));
    }
    memory.map(stack, bytes(STACK_BYTES));
    memory.map(TABLE, bytes(TABLE_BYTES));
    (regs, memory, turns)
}

/// Turns guards round until all of them hold in the first turn.
fn hold(case: &mut Case) {
    let mut evaluator = Evaluator::new();
    for _ in 0..case.trace.ops.len() {
        let (mut regs, mut memory) = (case.regs.clone(), case.memory.clone());
        // The count must not end it.
        regs.gpr[14] = 100;
        match evaluator.run(&case.trace, &mut regs, &mut memory) {
            Ok(Left::Guard(at)) => {
                let op = &mut case.trace.ops[at];
                op.code = if op.code == Opcode::GuardTrue {
                    Opcode::GuardFalse
                } else {
                    Opcode::GuardTrue
                };
            }
            _ => return,
        }
    }
}

/// Optimises a case with what it does in its first turn as the recording.
///
/// # Errors
/// Those of the optimiser, as text.
pub fn optimise(case: &Case, passes: &[&str], lie: bool) -> Result<Optimized, String> {
    let mut evaluator = Evaluator::new();
    let (mut regs, mut memory) = (case.regs.clone(), case.memory.clone());
    regs.gpr[14] = 100;
    let observed: Vec<Option<u128>> = match evaluator.run(&case.trace, &mut regs, &mut memory) {
        Ok(_) => evaluator.values()[..case.trace.ops.len()]
            .iter()
            .enumerate()
            // What was observed is a hint: some of it may be missing.
            .map(|(i, bits)| (!lie || i % 3 != 0).then_some(*bits))
            .collect(),
        Err(_) => vec![None; case.trace.ops.len()],
    };
    let table = case
        .memory
        .ranges()
        .find(|(start, _)| *start == TABLE)
        .expect("mapped")
        .1
        .to_vec();
    let input = Input {
        observed: &observed,
        constants: &Table(table),
        start_pc: START,
        inherited: None,
        restart_pc: ANCHOR,
        iterations: 3,
        // Any that does not change from run to run.
        unroll: 1 + case.trace.ops.len() % 4,
        ..Input::default()
    };
    redmagic_opt::optimize(&case.trace, &input, passes).map_err(|error| error.to_string())
}

/// Runs both and compares.
///
/// # Errors
/// What differs.
pub fn compare(case: &Case, optimised: &Trace) -> Result<Outcome, String> {
    let mut evaluator = Evaluator::new();
    evaluator.iterations = 1000;
    let (mut regs, mut memory) = (case.regs.clone(), case.memory.clone());
    let mut left = evaluator.run(optimised, &mut regs, &mut memory);
    if let Ok(Left::Repeat) = left {
        // Not a loop: one turn is enough.
        regs.rip = START;
        left = Ok(Left::End(None));
    }
    if let Err(fault) = left {
        return match fault {
            Fault::Memory { .. } => Ok(Outcome::Fault),
            other => Err(other.to_string()),
        };
    }
    // The lifted trace, to the same place.
    let turns = regs.gpr[15];
    let (mut expected, mut other) = (case.regs.clone(), case.memory.clone());
    for turn in 0..turns {
        match evaluator.run(&case.trace, &mut expected, &mut other) {
            Ok(Left::Repeat) => {}
            found => return Err(format!("the lifted trace leaves in turn {turn} of {turns}: {found:?}")),
        }
    }
    let before = other.clone();
    let pc = regs.rip;
    // At the anchor's call flags are dead, and stay so until something sets them.
    let mut flags = false;
    if pc == ANCHOR || pc == START {
        expected.rip = pc;
    } else {
        let to = |code: Opcode| {
            case.trace
                .ops
                .iter()
                .position(|op| op.code == code && case.trace.snapshots[op.aux as usize].pc == pc)
        };
        let reached = evaluator.run(&case.trace, &mut expected.clone(), &mut other.clone());
        let guard = [Opcode::GuardTrue, Opcode::GuardFalse].into_iter().find_map(to);
        let place = guard
            .or(to(Opcode::Checkpoint))
            .ok_or_else(|| format!("left to {pc:#x}, which is nowhere"))?;
        let snapshot = &case.trace.snapshots[case.trace.ops[place].aux as usize];
        flags = snapshot.get(Reg::FLAGS).is_some();
        match (reached, guard, to(Opcode::Checkpoint)) {
            (Ok(Left::Guard(at)), Some(guard), _) if at == guard => {
                evaluator
                    .run(&case.trace, &mut expected, &mut other)
                    .expect("it just did");
            }
            (_, None, Some(checkpoint)) => {
                let mut cut = case.trace.clone();
                let snapshot = cut.snapshots[cut.ops[checkpoint].aux as usize].clone();
                cut.ops.truncate(checkpoint);
                cut.end = End::Exit { snapshot };
                match evaluator.run(&cut, &mut expected, &mut other) {
                    Ok(Left::End(_)) => {}
                    found => return Err(format!("the lifted trace does not come to {pc:#x}: {found:?}")),
                }
            }
            (found, ..) => return Err(format!("left at {pc:#x} in turn {turns}; the lifted trace: {found:?}")),
        }
    }
    differences(&regs, &expected, &memory, &other, &before, flags)
}

fn differences(
    regs: &Regs,
    expected: &Regs,
    memory: &SparseMemory,
    other: &SparseMemory,
    before: &SparseMemory,
    flags: bool,
) -> Result<Outcome, String> {
    let pc = regs.rip;
    let at_anchor = pc == ANCHOR || pc == START;
    for reg in Reg::all() {
        let (mut found, mut right) = (regs.get(reg), expected.get(reg));
        if reg == Reg::FLAGS {
            let defined = if flags {
                !u128::from(expected.undefined_flags) & 0xffff_ffff
            } else {
                0
            };
            found &= defined;
            right &= defined;
        }
        if found != right {
            return Err(format!("at {pc:#x}, {reg} is {found:#x} and not {right:#x}"));
        }
    }
    // Below the red zone of the exit nothing is alive; at the anchor's call nothing below the stack pointer.
    let rsp = regs.gpr[Reg::RSP.index()];
    let dead = if at_anchor { rsp } else { rsp - 128 };
    // And what this turn has not written there is what an earlier one left, before a call.
    for (((start, found), (_, right)), (_, old)) in memory.ranges().zip(other.ranges()).zip(before.ranges()) {
        for (i, (a, b)) in found.iter().zip(right).enumerate() {
            let address = start + i as u64;
            let stack = STACKS.contains(&start);
            let left_over = address < start + 0x800 && old[i] == *b;
            if a != b && !(stack && (address < dead || left_over)) {
                return Err(format!("at {pc:#x}, byte {address:#x} is {a:#x} and not {b:#x}"));
            }
        }
    }
    Ok(if pc == ANCHOR { Outcome::Restart } else { Outcome::Exit })
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Through an exit.
    Exit,
    /// Back at the anchor.
    Restart,
    /// Both would fault.
    Fault,
}
