//! The architectural state during lifting, and what the instruction families share.

use iced_x86::{EncodingKind, Instruction, OpKind, Register};
use redmagic_ir::{Addr, Builder, Cond, End, MemFlags, Reg, Snapshot, Trace, Type, Value, Via};

use crate::{Refusal, insn, native};

/// A form of an instruction that is left to `native`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotModelled;

/// What a family's function gives back.
pub type Lifted = Result<Flow, NotModelled>;

/// Where the program goes after an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// To the next one.
    Next,
    /// To `taken` if `cond` holds, else to the next one.
    Branch {
        /// An i1.
        cond: Value,
        /// The target.
        taken: u64,
    },
    /// To `target`, an i64: a jump, a call, or a return.
    Jump {
        /// A constant, unless the target is computed and was not resolved.
        target: Value,
    },
}

/// An operand that is read and written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    Register(Register),
    Memory(Addr),
}

/// Extends a trace by instructions.
#[derive(Debug)]
pub struct Lifter {
    pub(crate) b: Builder,
    /// What each register holds; [`Value::NONE`]: not read or written yet, so as at the entry.
    regs: [Value; Reg::COUNT],
    /// The `reg` operation of each register that was read from the entry state.
    entry: [Value; Reg::COUNT],
    /// The registers before the current instruction.
    before: [Value; Reg::COUNT],
    /// Where the recorded program went after the current instruction.
    expected: Option<u64>,
    /// For each function that was entered since the trace began: the registers that it keeps, as they were then.
    frames: Vec<[Value; Reg::CALLEE_SAVED.len()]>,
    info: iced_x86::InstructionInfoFactory,
}

impl Default for Lifter {
    fn default() -> Self {
        Lifter::new()
    }
}

impl Lifter {
    /// At the entry of an empty trace.
    pub fn new() -> Lifter {
        let none = [Value::NONE; Reg::COUNT];
        Lifter {
            b: Builder::new(),
            regs: none,
            entry: none,
            before: none,
            expected: None,
            frames: Vec::new(),
            info: iced_x86::InstructionInfoFactory::new(),
        }
    }

    /// Appends one instruction. With `next`, where the recorded program went from here, a branch or a computed jump
    /// becomes a guard that it goes there again, and the flow is `Next` or a constant jump; without, it is up to the caller.
    pub fn lift(&mut self, instruction: &Instruction, next: Option<u64>) -> Result<Flow, Refusal> {
        if instruction.is_invalid() {
            return Err(Refusal::Undecodable(instruction.ip()));
        }
        self.b.origin(instruction.ip());
        self.before = self.regs;
        self.expected = next;
        let entry = self.entry;
        let len = self.b.len();
        let flow = match insn::lift(self, instruction) {
            Ok(flow) => flow,
            Err(NotModelled) => {
                self.b.truncate(len);
                self.regs = self.before;
                self.entry = entry;
                match native::lift(self, instruction) {
                    Ok(flow) => flow,
                    Err(refusal) => {
                        self.b.truncate(len);
                        self.regs = self.before;
                        self.entry = entry;
                        return Err(refusal);
                    }
                }
            }
        };
        match (flow, next) {
            (Flow::Branch { cond, taken }, Some(next)) => {
                let fall_through = instruction.next_ip();
                if taken != fall_through {
                    let other = if next == taken { fall_through } else { taken };
                    let snapshot = self.snapshot(other);
                    let snapshot = self.b.snapshot(snapshot);
                    self.b.guard(cond, next == taken, snapshot);
                }
                Ok(Flow::Next)
            }
            (flow, _) => Ok(flow),
        }
    }

    /// The state as it is now, for an exit to `pc`.
    pub fn snapshot(&self, pc: u64) -> Snapshot {
        Self::snapshot_of(&self.regs, &self.entry, pc)
    }

    fn snapshot_of(regs: &[Value; Reg::COUNT], entry: &[Value; Reg::COUNT], pc: u64) -> Snapshot {
        let listed = |at: &usize| !regs[*at].is_none() && regs[*at] != entry[*at];
        let changed = Reg::all().filter(|reg| listed(&reg.index()));
        // There is one for nearly every instruction: room for all at once.
        let mut list = Vec::with_capacity((0..Reg::COUNT).filter(listed).count());
        list.extend(changed.map(|reg| (reg, regs[reg.index()])));
        Snapshot {
            pc,
            via: Via::Counted,
            regs: list,
            stores: Vec::new(),
        }
    }

    /// The trace so far, ended this way. The lifter is then at the entry of an empty trace.
    pub fn finish(&mut self, end: End) -> Trace {
        self.regs = [Value::NONE; Reg::COUNT];
        self.entry = self.regs;
        self.frames.clear();
        self.b.take(end)
    }

    /// The trace under construction, for what has no instruction: guards of a recorder, residual calls.
    /// State that changes is to be told with [`Lifter::set`].
    pub fn builder(&mut self) -> &mut Builder {
        &mut self.b
    }

    /// What the register holds.
    #[inline]
    pub fn reg(&mut self, reg: Reg) -> Value {
        let at = reg.index();
        if self.regs[at].is_none() {
            if self.entry[at].is_none() {
                self.entry[at] = self.b.reg(reg);
            }
            self.regs[at] = self.entry[at];
        }
        self.regs[at]
    }

    /// The register holds `value` from now on.
    #[inline]
    pub fn set(&mut self, reg: Reg, value: Value) {
        debug_assert_eq!(self.b.type_of(value), reg.ty());
        self.regs[reg.index()] = value;
    }

    /// A function is entered.
    pub(crate) fn enter(&mut self) {
        self.frames.push(Reg::CALLEE_SAVED.map(|reg| self.regs[reg.index()]));
    }

    /// The function that was entered last has returned.
    pub(crate) fn leave(&mut self) {
        self.frames.pop();
    }

    /// Whether a register is one that functions keep, and holds what it did when this one was entered: pushed, it is saved.
    pub(crate) fn is_callers(&self, reg: Reg) -> bool {
        let at = Reg::CALLEE_SAVED.iter().position(|saved| *saved == reg);
        let (Some(at), Some(frame)) = (at, self.frames.last()) else {
            return false;
        };
        let entered = if frame[at].is_none() {
            self.entry[reg.index()]
        } else {
            frame[at]
        };
        self.regs[reg.index()] == entered
    }

    /// The target of a computed jump. When the recording says where it went, guards that and gives the constant.
    pub(crate) fn resolve(&mut self, instruction: &Instruction, target: Value) -> Value {
        let Some(next) = self.expected else {
            return target;
        };
        if self.b.trace().constant(target) == Some(u128::from(next)) {
            return target;
        }
        let expected = self.b.int(Type::I64, next);
        let flags = self.b.flags_sub(Type::I64, target, expected);
        let same = self.b.cond(Cond::E, flags);
        // The exit repeats the jump itself, so the state is the one before it.
        let snapshot = Self::snapshot_of(&self.before, &self.entry, instruction.ip());
        let snapshot = self.b.snapshot(snapshot);
        self.b.guard(same, true, snapshot);
        expected
    }

    pub(crate) fn info(&mut self, instruction: &Instruction) -> &iced_x86::InstructionInfo {
        self.info.info(instruction)
    }

    // ---- general registers

    /// A general register or a part of one.
    #[inline]
    pub(crate) fn read(&mut self, register: Register) -> Result<Value, NotModelled> {
        let full = self.reg(gpr(register)?);
        Ok(match register.size() {
            8 => full,
            4 => self.b.trunc(Type::I32, full),
            2 => self.b.trunc(Type::I16, full),
            _ if is_high_byte(register) => self.b.hi8(full),
            _ => self.b.trunc(Type::I8, full),
        })
    }

    /// Writes a general register or a part of one, merging as the processor does.
    #[inline]
    pub(crate) fn write(&mut self, register: Register, value: Value) -> Result<(), NotModelled> {
        let reg = gpr(register)?;
        let full = match register.size() {
            8 => value,
            4 => self.b.zext(Type::I64, value),
            size => {
                let old = self.reg(reg);
                if size == 2 {
                    self.b.put(Type::I16, old, value)
                } else if is_high_byte(register) {
                    self.b.put_hi8(old, value)
                } else {
                    self.b.put(Type::I8, old, value)
                }
            }
        };
        self.set(reg, full);
        Ok(())
    }

    // ---- addresses

    /// The memory operand's address, segment included.
    pub(crate) fn addr(&mut self, instruction: &Instruction) -> Result<Addr, NotModelled> {
        let mut addr = self.offset(instruction)?;
        addr.seg = match instruction.memory_segment() {
            Register::FS => self.reg(Reg::FS_BASE),
            Register::GS => self.reg(Reg::GS_BASE),
            _ => Value::NONE,
        };
        Ok(addr)
    }

    /// The memory operand's address within its segment, as `lea` gives it.
    pub(crate) fn offset(&mut self, instruction: &Instruction) -> Result<Addr, NotModelled> {
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let disp = instruction.memory_displacement64();
        if instruction.is_ip_rel_memory_operand() {
            let absolute = self.b.int(Type::I64, disp);
            return Ok(Addr::base(absolute, 0));
        }
        let short = base.is_gpr32()
            || index.is_gpr32()
            || instruction.memory_displ_size() == 4 && base == Register::None && index == Register::None;
        let part = |this: &mut Self, register: Register| {
            if register == Register::None {
                Ok(Value::NONE)
            } else if register.is_gpr64() || register.is_gpr32() {
                Ok(this.reg(gpr(register)?))
            } else {
                Err(NotModelled)
            }
        };
        let base = part(self, base)?;
        let index = part(self, index)?;
        // An encoding may have a scale without an index.
        let scale = if index.is_none() {
            1
        } else {
            instruction.memory_index_scale()
        };
        let flags = MemFlags::new(scale, false);
        // iced sign-extends a 32-bit displacement; only `mov` with a 64-bit offset has more.
        let (base, disp) = match i32::try_from(disp as i64) {
            Ok(disp) => (base, disp),
            Err(_) if short => (base, disp as i32),
            Err(_) if base.is_none() && index.is_none() => (self.b.int(Type::I64, disp), 0),
            Err(_) => return Err(NotModelled),
        };
        let addr = Addr {
            base,
            index,
            seg: Value::NONE,
            flags,
            disp,
        };
        if !short || base.is_none() && index.is_none() {
            // Without registers, a 32-bit displacement is absolute; the decoder has extended it as the address size says.
            return Ok(addr);
        }
        // An address-size prefix: the sum is cut to 32 bits.
        let sum = self.b.lea(addr);
        let low = self.b.trunc(Type::I32, sum);
        let base = self.b.zext(Type::I64, low);
        Ok(Addr::base(base, 0))
    }

    /// The address as one value.
    pub(crate) fn linear(&mut self, addr: Addr) -> Value {
        let mut sum = if addr.index.is_none() && addr.disp == 0 && !addr.base.is_none() {
            addr.base
        } else {
            self.b.lea(addr)
        };
        if !addr.seg.is_none() {
            sum = self.b.add(Type::I64, sum, addr.seg);
        }
        sum
    }

    // ---- operands

    /// Where operand `i` is.
    pub(crate) fn place(&mut self, instruction: &Instruction, i: u32) -> Result<Place, NotModelled> {
        match instruction.op_kind(i) {
            OpKind::Register => Ok(Place::Register(instruction.op_register(i))),
            OpKind::Memory => Ok(Place::Memory(self.addr(instruction)?)),
            _ => Err(NotModelled),
        }
    }

    /// The integer type of operand `i`, a register or memory.
    pub(crate) fn ty(&self, instruction: &Instruction, i: u32) -> Result<Type, NotModelled> {
        let bytes = match instruction.op_kind(i) {
            OpKind::Register => instruction.op_register(i).size(),
            OpKind::Memory => instruction.memory_size().size(),
            _ => return Err(NotModelled),
        };
        Type::int(bytes).ok_or(NotModelled)
    }

    pub(crate) fn get_place(&mut self, place: Place, ty: Type) -> Result<Value, NotModelled> {
        match place {
            Place::Register(register) => self.read(register),
            Place::Memory(addr) => Ok(self.b.load(ty, addr)),
        }
    }

    pub(crate) fn put_place(&mut self, place: Place, ty: Type, value: Value) -> Result<(), NotModelled> {
        match place {
            Place::Register(register) => self.write(register, value),
            Place::Memory(addr) => {
                self.b.store(ty, value, addr);
                Ok(())
            }
        }
    }

    /// Integer operand `i`: register, memory, or an immediate of type `ty`.
    pub(crate) fn operand(&mut self, instruction: &Instruction, i: u32, ty: Type) -> Result<Value, NotModelled> {
        match instruction.op_kind(i) {
            OpKind::Register => self.read(instruction.op_register(i)),
            OpKind::Memory => {
                let addr = self.addr(instruction)?;
                Ok(self.b.load(ty, addr))
            }
            _ => {
                let bits = instruction.try_immediate(i).map_err(|_| NotModelled)?;
                Ok(self.b.int(ty, bits))
            }
        }
    }

    /// Writes operand `i`.
    pub(crate) fn result(&mut self, instruction: &Instruction, i: u32, ty: Type, value: Value) -> Lifted {
        let place = self.place(instruction, i)?;
        self.put_place(place, ty, value)?;
        Ok(Flow::Next)
    }

    /// Flags from now on.
    pub(crate) fn set_flags(&mut self, flags: Value) {
        self.set(Reg::FLAGS, flags);
    }

    /// The carry, as an i1.
    pub(crate) fn carry(&mut self) -> Value {
        let flags = self.reg(Reg::FLAGS);
        self.b.cond(Cond::B, flags)
    }
}

/// The architectural register that a general register is part of.
pub(crate) fn gpr(register: Register) -> Result<Reg, NotModelled> {
    if register.is_gpr() {
        Ok(Reg::gpr(register.full_register().number()))
    } else {
        Err(NotModelled)
    }
}

/// ah, ch, dh, bh.
pub(crate) fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::CH | Register::DH | Register::BH)
}

/// Whether the encoding is VEX: three operands, upper halves zeroed, no alignment checks.
pub(crate) fn is_vex(instruction: &Instruction) -> bool {
    instruction.code().encoding() == EncodingKind::VEX
}

/// One instruction as a trace: the end says where the program goes next.
pub fn lift_instruction(lifter: &mut Lifter, instruction: &Instruction) -> Result<Trace, Refusal> {
    let flow = lifter.lift(instruction, None)?;
    let next = instruction.next_ip();
    let end = match flow {
        Flow::Next => End::Exit {
            snapshot: lifter.snapshot(next),
        },
        Flow::Branch { cond, taken } => End::Branch {
            cond,
            taken,
            snapshot: lifter.snapshot(next),
        },
        Flow::Jump { target } => match lifter.b.trace().constant(target) {
            Some(pc) => End::Exit {
                snapshot: lifter.snapshot(pc as u64),
            },
            None => End::Jump {
                target,
                snapshot: lifter.snapshot(0),
            },
        },
    };
    Ok(lifter.finish(end))
}
