//! Folding: what an interpreter does to find out what to do, done once.
//!
//! Most of an interpreter's instructions fetch, decode and dispatch. Their inputs are the
//! address of the bytecode and the bytecode itself; if both are constants, so is everything
//! that follows from them. This pass walks the operations of a copied trace, keeps the
//! registers whose values are known, and leaves out every instruction whose result it can
//! compute:
//!
//! ```text
//!   guard rbx == 0x55f790b623a8           the anchor's id, in whatever register has it
//!   mov   r11d, [rbx]                     -- bytecode, constant: r11d = 0x0104029d
//!   add   rbx, 4                          -- rbx = 0x55f790b623ac
//!   mov   eax, r11d ; and eax, 0x7f       -- eax = 0x1d
//!   mov   rax, [r13 + rax*8]              kept: r13 is not known (mov eax, 0x1d before it)
//!   jmp   rax                             a guard; rax is known from here on
//!   shr   r11d, 0x18 ; shl r11, 4         -- r11 = 0x10
//!   lea   rcx, [rbp + r11]                kept, with mov r11d, 0x10 before it
//! ```
//!
//! # Why this is sound
//!
//! * *Where constants come from.* A register is known by a guard, or computed from
//!   known ones. A load is known if it is from constant memory that the program declared, or from
//!   a read-only mapping of a file, and the recording does not write it. The value is the one that was recorded.
//! * *Constant memory ends.* Before the first load from declared memory, and again after anything
//!   that may have run the program's own code (a call that is kept, native code), the trace
//!   compares the generation with the word that it was validated for. The daemon moves that
//!   word on only when every block that the trace relies on is still declared, and never
//!   again once the trace was dropped.
//! * *Exits are exact.* A register that is known but not in its place is put there by every exit
//!   stub ([`Op::Fixups`]), and so are flags. Before a kept call everything is in place.
//! * *Flags.* A guard that is put in loses the flags; it is put in only where they are
//!   overwritten before they are read, as for indirect jumps.
//!
//! It is the copy tier's stand-in for constant folding on the IR (DESIGN section 7, rule 1), with the same
//! meaning: entry registers are guarded once, a pointer into constant memory that is loaded
//! is guarded where it is used.

mod arith;

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use redmagic_emit::copy::{Op, ShimResult, Source};
use redmagic_emit::exits::Fixups;
use redmagic_opt::Relied;
use redmagic_record::recording::{AccessKind, Inst, Recording, Step};

use self::arith::{add, cut, extend, logic_flags, shift, sub};
use crate::plan::{STATUS_FLAGS, flags_live, may_keep_flags};
use crate::registry::Declarations;

/// What may be relied on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Declared constant memory.
    pub declared: &'a Declarations,
    /// What is known of the rest.
    pub mappings: &'a Mappings,
    /// The target's addresses of the current generation, and of the one the trace was validated for.
    pub generation: (u64, u64),
}

/// Memory that the program cannot write, or does not.
#[derive(Debug, Clone, Default)]
pub struct Mappings {
    /// Read-only mappings of files.
    pub read_only: Vec<Range<u64>>,
    /// What changes, but is never written by the program itself: the shim's page.
    pub unwritten: Vec<Range<u64>>,
}

impl Mappings {
    /// Whether all of these bytes are in a read-only mapping of a file.
    pub fn is_read_only(&self, bytes: &Range<u64>) -> bool {
        within(&self.read_only, bytes)
    }

    /// Whether no store of the program's own reaches any of these bytes.
    pub fn is_unwritten(&self, bytes: &Range<u64>) -> bool {
        self.is_read_only(bytes) || within(&self.unwritten, bytes)
    }
}

fn within(ranges: &[Range<u64>], bytes: &Range<u64>) -> bool {
    ranges
        .iter()
        .any(|range| range.start <= bytes.start && bytes.end <= range.end)
}

/// The outcome.
#[derive(Debug, Clone)]
pub struct Folded {
    /// The operations.
    pub ops: Vec<Op>,
    /// How many instructions were left out.
    pub left_out: usize,
    /// Whether the first argument of the call at the end is known to be this.
    pub argument: Option<u64>,
    /// The declared memory that was relied on.
    pub relied_on: BTreeSet<Relied>,
}

/// Registers that a callee of the C ABI preserves, rsp aside.
const CALLEE_SAVED: [usize; 6] = [3, 5, 12, 13, 14, 15];
const RDI: usize = 7;

/// Folds a plan. `start` are registers to be guarded at the beginning (for a trace that
/// starts at an anchor's return, `ip`, where flags are dead). `native`: the trace ends in the
/// original code and not at an anchor, so at its end everything must be in place.
pub fn fold(
    recording: &Recording,
    ops: &[Op],
    start: &[(u8, u64)],
    ip: u64,
    native: bool,
    facts: &Facts<'_>,
) -> Folded {
    let mut folder = Folder {
        recording,
        facts,
        written: facts.declared.written(recording),
        out: Vec::with_capacity(ops.len()),
        known: [None; 16],
        placed: [true; 16],
        flags: Flags::Machine,
        fresh: false,
        fixups: Fixups::default(),
        left_out: 0,
        relied_on: BTreeSet::new(),
        info: InstructionInfoFactory::new(),
    };
    for (register, value) in start {
        folder.out.push(Op::GuardRegister {
            ip,
            register: *register,
            value: *value,
        });
        folder.learn(usize::from(*register), *value);
    }
    for op in ops {
        folder.op(op);
    }
    if native {
        folder.place_all();
        folder.place_flags();
    }
    // The end is a jump at a call of the shim: what a call preserves, and its argument, must be
    // in place, and for the exit in front of it everything else.
    for register in CALLEE_SAVED.into_iter().chain([RDI]) {
        folder.place(register);
    }
    folder.sync();
    Folded {
        argument: folder.known[RDI],
        ops: folder.out,
        left_out: folder.left_out,
        relied_on: folder.relied_on,
    }
}

/// What is known of the status flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flags {
    /// They are in the flags register.
    Machine,
    /// They have this value, and are not in the flags register.
    Known(u32),
}

struct Folder<'a> {
    recording: &'a Recording,
    facts: &'a Facts<'a>,
    /// Bytes of declared memory that the recording writes.
    written: HashSet<u64>,
    out: Vec<Op>,
    known: [Option<u64>; 16],
    /// Whether a known register really holds its value.
    placed: [bool; 16],
    flags: Flags,
    /// Whether the generation was compared since the program's own code last ran.
    fresh: bool,
    /// The last fixups that were emitted.
    fixups: Fixups,
    left_out: usize,
    relied_on: BTreeSet<Relied>,
    info: InstructionInfoFactory,
}

/// What an instruction with known inputs does.
#[derive(Debug, Default, PartialEq, Eq)]
struct Effect {
    /// A register by number, and its new value.
    write: Option<(usize, u64)>,
    /// The new status flags.
    flags: Option<u32>,
}

impl Folder<'_> {
    fn learn(&mut self, register: usize, value: u64) {
        self.known[register] = Some(value);
        self.placed[register] = true;
    }

    /// Puts a known register in its place.
    fn place(&mut self, register: usize) {
        if let (Some(value), false) = (self.known[register], self.placed[register]) {
            self.out.push(Op::Set {
                register: register as u8,
                value,
            });
            self.placed[register] = true;
        }
    }

    fn place_all(&mut self) {
        for register in 0..16 {
            self.place(register);
        }
    }

    fn place_flags(&mut self) {
        if let Flags::Known(flags) = self.flags {
            self.out.push(Op::SetFlags(flags));
            self.flags = Flags::Machine;
        }
    }

    fn forget_all(&mut self) {
        self.known = [None; 16];
        self.placed = [true; 16];
        self.flags = Flags::Machine;
        self.fresh = false;
    }

    /// Tells the exits that follow what is not in place.
    fn sync(&mut self) {
        let registers = (0..16)
            .filter(|r| !self.placed[*r])
            .filter_map(|r| self.known[r].map(|value| (r as u8, value)))
            .collect();
        let flags = match self.flags {
            Flags::Machine => None,
            Flags::Known(flags) => Some(flags),
        };
        let fixups = Fixups { registers, flags };
        if fixups != self.fixups {
            self.out.push(Op::Fixups(fixups.clone()));
            self.fixups = fixups;
        }
    }

    fn inst(&self, code: &Source) -> Option<&Inst> {
        match self.recording.steps.get(code.step as usize) {
            Some(Step::Inst(inst)) if inst.ip == code.ip => Some(inst),
            _ => None,
        }
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Copy { code } => self.copy(op, code),
            Op::Branch { code, .. } => {
                let instruction = code.decode();
                if instruction.is_jcc_short_or_near() && self.flags != Flags::Machine {
                    // It can only go the way it went.
                    self.left_out += 1;
                    return;
                }
                self.place_reads(&instruction);
                self.sync();
                self.out.push(op.clone());
                self.forget_writes(&instruction);
            }
            Op::Jump { code, target } => self.jump(op, code, *target),
            Op::Call { code, .. } => {
                let instruction = code.decode();
                self.place_reads(&instruction);
                self.sync();
                self.out.push(op.clone());
            }
            Op::Return { .. } => {
                self.sync();
                self.out.push(op.clone());
            }
            Op::Residual { .. } => {
                self.place_all();
                // Flags are dead at a call.
                self.flags = Flags::Machine;
                self.sync();
                self.out.push(op.clone());
                for register in (0..16).filter(|r| !CALLEE_SAVED.contains(r)) {
                    self.known[register] = None;
                    self.placed[register] = true;
                }
                self.fresh = false;
            }
            // The call is not made, and changes nothing.
            Op::Result {
                value: ShimResult::Nothing,
            } => self.flags = Flags::Machine,
            _ => {
                self.place_all();
                self.flags = Flags::Machine;
                self.sync();
                self.out.push(op.clone());
                self.forget_all();
            }
        }
    }

    fn copy(&mut self, op: &Op, code: &Source) {
        let instruction = code.decode();
        if matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Endbr64) {
            self.left_out += 1;
            return;
        }
        if self.left_out(&instruction, code) {
            return;
        }
        // iced does not tell all that these read and write.
        let opaque = instruction.is_string_instruction()
            || instruction.has_rep_prefix()
            || instruction.has_repne_prefix()
            || instruction.flow_control() != FlowControl::Next;
        if opaque {
            self.place_all();
            self.place_flags();
            self.sync();
            self.out.push(op.clone());
            return self.forget_all();
        }
        if self.guard_pointer(&instruction, code) && self.left_out(&instruction, code) {
            return;
        }
        let reads_flags = instruction.rflags_read() & STATUS_FLAGS != 0;
        let writes = instruction.rflags_modified() & STATUS_FLAGS;
        let keeps_some = writes != 0 && (writes != STATUS_FLAGS || may_keep_flags(&instruction));
        if reads_flags || keeps_some {
            self.place_flags();
        }
        self.place_reads(&instruction);
        self.out.push(op.clone());
        self.forget_writes(&instruction);
        if writes != 0 {
            self.flags = Flags::Machine;
        }
    }

    /// Computes an instruction in place of emitting it.
    fn left_out(&mut self, instruction: &Instruction, code: &Source) -> bool {
        let Some((effect, from)) = self.evaluate(instruction, code) else {
            return false;
        };
        if let Some(Constant::Declared(word)) = from {
            if !self.freshen(code) {
                return false;
            }
            self.relied_on.insert(word);
        }
        if let Some((register, value)) = effect.write {
            self.known[register] = Some(value);
            self.placed[register] = false;
        }
        if let Some(flags) = effect.flags {
            self.flags = Flags::Known(flags);
        }
        self.left_out += 1;
        true
    }

    /// Whether a guard at an instruction may lose the flags.
    fn may_lose_flags(&self, code: &Source) -> bool {
        self.flags != Flags::Machine || !flags_live(&self.recording.steps[code.step as usize..])
    }

    /// Compares the generation, unless that was done; false if it cannot be done here.
    fn freshen(&mut self, code: &Source) -> bool {
        if self.fresh {
            return true;
        }
        if !self.may_lose_flags(code) {
            return false;
        }
        self.sync();
        let (current, valid) = self.facts.generation;
        self.out.push(Op::CheckGeneration {
            ip: code.ip,
            current,
            valid,
        });
        self.fresh = true;
        true
    }

    /// For a load of memory that does not change through a register that is not known: guards
    /// the register. Bytecode is fetched without an index; dispatch tables, which are
    /// read-only, with one that is known.
    fn guard_pointer(&mut self, instruction: &Instruction, code: &Source) -> bool {
        let Some(inst) = self.inst(code) else { return false };
        let loads = matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Movzx)
            && instruction.op0_kind() == OpKind::Register
            && instruction.op1_kind() == OpKind::Memory;
        let jumps = instruction.mnemonic() == Mnemonic::Jmp && instruction.op0_kind() == OpKind::Memory;
        let base = instruction.memory_base();
        let plain = (loads || jumps)
            && instruction.segment_prefix() == Register::None
            && base.is_gpr64()
            && base != Register::RSP;
        let Some(access) = inst.mem.first().filter(|_| plain) else {
            return false;
        };
        if self.known[base.number()].is_some() || !self.may_lose_flags(code) {
            return false;
        }
        let end = access.addr.saturating_add(u64::from(access.size));
        let read_only = self.facts.mappings.is_read_only(&(access.addr..end));
        let offset = match instruction.memory_index() {
            Register::None if read_only || self.facts.declared.constant_at(access.addr).is_some() => 0,
            index if read_only && index.is_gpr64() && index != base => match self.known[index.number()] {
                Some(value) => value.wrapping_mul(u64::from(instruction.memory_index_scale())),
                None => return false,
            },
            _ => return false,
        };
        let value = access
            .addr
            .wrapping_sub(instruction.memory_displacement64())
            .wrapping_sub(offset);
        self.sync();
        self.out.push(Op::GuardRegister {
            ip: code.ip,
            register: base.number() as u8,
            value,
        });
        self.learn(base.number(), value);
        true
    }

    fn jump(&mut self, op: &Op, code: &Source, target: u64) {
        let instruction = code.decode();
        match instruction.op0_kind() {
            OpKind::Register => {
                let register = instruction.op0_register().number();
                if self.known[register] == Some(target) {
                    self.left_out += 1;
                    return;
                }
                self.sync();
                self.out.push(op.clone());
                self.learn(register, target);
            }
            _ => {
                self.guard_pointer(&instruction, code);
                let constant = self.load(&instruction, code);
                if let Some((value, from)) = constant
                    && value == target
                    && (from == Constant::ReadOnly || self.freshen(code))
                {
                    if let Constant::Declared(word) = from {
                        self.relied_on.insert(word);
                    }
                    self.left_out += 1;
                    return;
                }
                self.place_reads(&instruction);
                self.sync();
                self.out.push(op.clone());
            }
        }
    }

    /// Puts every known register that an instruction reads, or changes in part, in its place.
    fn place_reads(&mut self, instruction: &Instruction) {
        let used: Vec<_> = self.info.info(instruction).used_registers().to_vec();
        for register in used {
            let full = register.register().full_register();
            let whole = register.access() == OpAccess::Write && register.register().size() >= 4;
            if full.is_gpr64() && !whole {
                self.place(full.number());
            }
        }
    }

    fn forget_writes(&mut self, instruction: &Instruction) {
        let used: Vec<_> = self.info.info(instruction).used_registers().to_vec();
        for register in used {
            let full = register.register().full_register();
            let writes = !matches!(
                register.access(),
                OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
            );
            if full.is_gpr64() && writes {
                self.known[full.number()] = None;
                self.placed[full.number()] = true;
            }
        }
    }

    /// The address of a memory operand, if every register in it is known.
    fn address(&self, instruction: &Instruction) -> Option<u64> {
        if instruction.segment_prefix() != Register::None {
            return None;
        }
        if instruction.is_ip_rel_memory_operand() {
            return Some(instruction.memory_displacement64());
        }
        let part = |register: Register| match register {
            Register::None => Some(0),
            r if r.is_gpr64() => self.known[r.number()],
            _ => None,
        };
        let index = part(instruction.memory_index())?;
        let scale = u64::from(instruction.memory_index_scale());
        Some(
            part(instruction.memory_base())?
                .wrapping_add(index.wrapping_mul(scale))
                .wrapping_add(instruction.memory_displacement64()),
        )
    }

    /// The value of a load from a known address in memory that does not change.
    fn load(&self, instruction: &Instruction, code: &Source) -> Option<(u64, Constant)> {
        let address = self.address(instruction)?;
        let access = self.inst(code)?.mem.first()?;
        let size = instruction.memory_size().size();
        if access.addr != address
            || access.kind != AccessKind::Read
            || access.value.len() != size
            || !matches!(size, 1 | 2 | 4 | 8)
        {
            return None;
        }
        let end = address.checked_add(size as u64)?;
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&access.value);
        let value = u64::from_le_bytes(bytes);
        let from = match self.facts.declared.constant_at(address) {
            Some(range) if end - range.start <= range.length => {
                if (address..end).any(|byte| self.written.contains(&byte)) {
                    return None;
                }
                Constant::Declared(Relied {
                    address,
                    size: size as u32,
                    bits: u128::from(value),
                })
            }
            _ if self.facts.mappings.is_read_only(&(address..end)) => Constant::ReadOnly,
            _ => return None,
        };
        Some((value, from))
    }

    /// The value of an operand, cut to its size in bytes.
    fn operand(&self, instruction: &Instruction, code: &Source, n: u32) -> Option<(u64, usize, Option<Constant>)> {
        match instruction.op_kind(n) {
            OpKind::Register => {
                let register = instruction.op_register(n);
                if !register.is_gpr() {
                    return None;
                }
                let value = self.known[register.full_register().number()]?;
                let high = matches!(register, Register::AH | Register::BH | Register::CH | Register::DH);
                let value = if high { value >> 8 } else { value };
                Some((cut(value, register.size()), register.size(), None))
            }
            OpKind::Memory => {
                let (value, from) = self.load(instruction, code)?;
                Some((value, instruction.memory_size().size(), Some(from)))
            }
            OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => Some((instruction.immediate(n), 8, None)),
            _ => None,
        }
    }

    /// What an instruction does, if all its inputs are known; and the memory it relies on.
    fn evaluate(&self, instruction: &Instruction, code: &Source) -> Option<(Effect, Option<Constant>)> {
        use Mnemonic as M;
        let mnemonic = instruction.mnemonic();
        if instruction.has_lock_prefix() || instruction.op_count() == 0 {
            return None;
        }
        let compares = matches!(mnemonic, M::Cmp | M::Test);
        // The destination: a whole register, unless nothing is written.
        let destination = instruction.op0_kind() == OpKind::Register && instruction.op0_register().is_gpr();
        let size = if compares {
            operand_size(instruction)?
        } else {
            instruction.op0_register().size()
        };
        let whole = destination && matches!(size, 4 | 8);
        if !compares && !whole {
            return None;
        }
        let register = instruction.op0_register().full_register();
        if register == Register::RSP && !compares {
            return None;
        }
        let write = |value: u64, flags: Option<u32>| Effect {
            write: Some((register.number(), cut(value, size))),
            flags,
        };
        match mnemonic {
            M::Mov => {
                let (value, _, from) = self.operand(instruction, code, 1)?;
                Some((write(value, None), from))
            }
            M::Movzx => {
                let (value, _, from) = self.operand(instruction, code, 1)?;
                Some((write(value, None), from))
            }
            M::Movsx | M::Movsxd => {
                let (value, bytes, from) = self.operand(instruction, code, 1)?;
                Some((write(extend(value, bytes), None), from))
            }
            M::Lea if instruction.memory_size().size() == 0 => Some((write(self.address(instruction)?, None), None)),
            M::Xor | M::Sub
                if instruction.op1_kind() == OpKind::Register
                    && instruction.op1_register() == instruction.op0_register() =>
            {
                Some((write(0, Some(logic_flags(0, size))), None))
            }
            M::Add | M::Sub | M::And | M::Or | M::Xor | M::Cmp | M::Test => {
                let (a, _, from_a) = self.operand(instruction, code, 0)?;
                let (b, _, from_b) = self.operand(instruction, code, 1)?;
                let (a, b) = (cut(a, size), cut(b, size));
                let (value, flags) = match mnemonic {
                    M::Add => add(a, b, size),
                    M::Sub | M::Cmp => sub(a, b, size),
                    M::And | M::Test => (a & b, logic_flags(a & b, size)),
                    M::Or => (a | b, logic_flags(a | b, size)),
                    _ => (a ^ b, logic_flags(a ^ b, size)),
                };
                let effect = if compares {
                    Effect {
                        write: None,
                        flags: Some(flags),
                    }
                } else {
                    write(value, Some(flags))
                };
                Some((effect, from_a.or(from_b)))
            }
            M::Shl | M::Shr | M::Sar if instruction.op1_kind() == OpKind::Immediate8 => {
                let (a, ..) = self.operand(instruction, code, 0)?;
                let count = u32::from(instruction.immediate8()) & if size == 8 { 63 } else { 31 };
                if count == 0 {
                    return None;
                }
                let (value, flags) = shift(mnemonic, a, count, size);
                Some((write(value, Some(flags)), None))
            }
            _ => None,
        }
    }
}

/// Where a constant load comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Constant {
    Declared(Relied),
    ReadOnly,
}

/// The size in bytes of a comparison.
fn operand_size(instruction: &Instruction) -> Option<usize> {
    (0..2).find_map(|n| match instruction.op_kind(n) {
        OpKind::Register => Some(instruction.op_register(n).size()),
        OpKind::Memory => Some(instruction.memory_size().size()),
        _ => None,
    })
}
