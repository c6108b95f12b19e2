//! Residual calls and native operations.

use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Register};
use redmagic_ir::{Abi, Op, Reg, Type};

use super::encode::{Ins, R};
use super::plan::{Id, Kind, saved};
use super::{Lower, LowerError};

impl<'a> Lower<'a> {
    pub(super) fn call(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let snapshot = self.plan.snapshot(op);
        let abi = op.abi();
        self.check_pinned(snapshot)?;
        self.exit_stores(snapshot)?;
        self.regs.relock(0);
        // The target, when it is not constant: in a register that holds the same in the callee's state, or in memory
        // that the call goes through.
        let target = self.call_target(op, snapshot)?;
        for reg in Reg::all().filter(|reg| (reg.is_gpr() || reg.is_xmm()) && *reg != Reg::RSP) {
            if snapshot.get(reg).is_none()
                && self.plan.call_takes_entry(reg)
                && self.regs.loc[self.plan.entry(reg)].is_nowhere()
            {
                return Err(self.lost(self.plan.entry(reg)));
            }
        }
        let moves = self.moves_to(snapshot)?;
        self.parallel(moves)?;
        let offset = self.stack_offset(snapshot)?;
        let mem = self.stack(offset + 8)?;
        self.asm.adjust_rsp(mem.disp);
        match target {
            Target::Address(address) => self.asm.call_address(address)?,
            Target::Register(r) => self.asm.ins(Ins::new(0xff), 2, r.into(), &[])?,
            Target::Word(address) => {
                let mem = super::encode::Mem::absolute(address);
                self.asm.ins(Ins::new(0xff), 2, mem.into(), &[])?;
            }
        }
        self.asm.return_marker(snapshot.pc)?;
        self.asm.adjust_rsp(-mem.disp);
        self.after_call(i, abi, snapshot)
    }

    fn call_target(&mut self, op: &Op, snapshot: &redmagic_ir::Snapshot) -> Result<Target, LowerError> {
        if let Some(bits) = self.bits(op.args[0]) {
            let address = bits as u64;
            if self.asm.reaches(address) {
                return Ok(Target::Address(address));
            }
            let word = self.data(bits, 8).absolute.expect("data is at an address");
            return Ok(Target::Word(word));
        }
        let id = self.plan.id(op.args[0]);
        let same = Reg::all()
            .filter(|reg| reg.is_gpr() && *reg != Reg::RSP)
            .find(|reg| match snapshot.get(*reg) {
                Some(value) => value.as_op().is_some() && self.plan.id(value) == id,
                None => self.plan.entry(*reg) == id,
            });
        match same {
            Some(reg) => Ok(Target::Register(R(reg.index() as u8))),
            // r11 is no argument and kept by no one, and dynamic linkers' stubs use it.
            None => Err(self.unsupported("no register holds the target")),
        }
    }

    /// Where values are after a call.
    fn after_call(&mut self, i: usize, abi: Abi, snapshot: &redmagic_ir::Snapshot) -> Result<(), LowerError> {
        let kept: Vec<(R, Id)> = (0..16)
            .filter_map(Reg::from_index)
            .filter(|reg| saved(abi, *reg))
            .map(|reg| {
                let id = match snapshot.get(reg) {
                    Some(value) => self.plan.id(value),
                    None => self.plan.entry(reg),
                };
                (R(reg.index() as u8), id)
            })
            .collect();
        self.regs.forget_all();
        self.take_results(i);
        // A register that is read from the result, too, comes last: what it holds may be elsewhere as well.
        let (read, other): (Vec<_>, Vec<_>) = kept.into_iter().partition(|(r, _)| self.regs.held(*r).is_some());
        for (r, id) in other.into_iter().chain(read) {
            let wanted = self.plan.kind[id] == Kind::Gpr && self.plan.last[id] > self.regs.position;
            if !wanted || self.regs.loc[id].reg.is_some() {
                continue;
            }
            let mut to = r;
            if self.regs.held(r).is_some() {
                self.regs.lock(r);
                to = self.regs.find(self.plan, &mut self.asm, false, None, 0)?;
                self.asm.mov(to, r)?;
                self.regs.unlock(r);
            }
            self.regs.set(to, id);
            self.regs.unlock(to);
        }
        for reg in Reg::all().filter(|reg| reg.is_ymm_high()) {
            if !self.plan.gets.iter().any(|(tuple, r, _)| (*tuple, *r) == (i, reg)) {
                self.pinned[reg.index()] = None;
            }
        }
        Ok(())
    }

    /// The registers of a result, as the `get`s of it name them.
    pub(super) fn take_results(&mut self, i: usize) {
        let gets: Vec<(Reg, usize)> = self
            .plan
            .gets
            .iter()
            .filter(|(tuple, _, _)| *tuple == i)
            .map(|(_, reg, get)| (*reg, *get))
            .collect();
        for (reg, get) in gets {
            match self.plan.kind[get] {
                Kind::Gpr | Kind::Xmm if reg != Reg::FLAGS && self.plan.last[get] != 0 => {
                    let r = R(reg.index() as u8);
                    self.regs.drop_register(r);
                    self.regs.set(r, get);
                    self.regs.unlock(r);
                }
                Kind::Pinned(reg) => self.pinned[reg.index()] = Some(get),
                _ => {}
            }
        }
    }

    pub(super) fn native(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let trace = self.trace;
        let native = &trace.natives[op.aux as usize];
        let mut instruction = Decoder::with_ip(64, &native.bytes, native.pc, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            return Err(self.unsupported("no instruction"));
        }
        self.rebase_stack(&mut instruction, native)?;
        // Inputs to their registers; what is in the way of them and of outputs goes elsewhere.
        let mut claimed = 0u32;
        for reg in native
            .inputs
            .iter()
            .map(|(reg, _)| *reg)
            .chain(native.outputs.iter().copied())
        {
            if (reg.is_gpr() || reg.is_xmm()) && reg != Reg::RSP {
                claimed |= R(reg.index() as u8).bit();
            }
        }
        for (reg, value) in &native.inputs {
            if matches!(*reg, Reg::RSP | Reg::FLAGS) {
                continue;
            }
            if !reg.is_gpr() && !reg.is_xmm() && self.pinned[reg.index()] != Some(self.plan.id(*value)) {
                return Err(LowerError::Pinned {
                    op: super::text_of(self.trace, self.at),
                    register: *reg,
                });
            }
        }
        if let Some((_, flags)) = native.inputs.iter().find(|(reg, _)| *reg == Reg::FLAGS) {
            self.emit_flags(*flags, redmagic_ir::flags::STATUS)?;
            self.regs.relock(0);
        }
        // From here on there are only moves.
        for r in (0..32).map(R).filter(|r| claimed & r.bit() != 0) {
            self.clear_for(r, claimed)?;
        }
        let mut moves = Vec::new();
        for (reg, value) in &native.inputs {
            if (reg.is_gpr() || reg.is_xmm()) && *reg != Reg::RSP {
                let from = self.from(self.plan.id(*value))?;
                moves.push(super::moves::Move {
                    to: super::moves::To::Reg(R(reg.index() as u8)),
                    from,
                    bytes: if reg.is_xmm() { 16 } else { 8 },
                });
            }
        }
        self.parallel(moves)?;
        for r in (0..32).map(R).filter(|r| claimed & r.bit() != 0) {
            self.regs.drop_register(r);
        }
        self.asm.reencode(&instruction)?;
        // Inputs that it does not write are still there.
        for (reg, value) in &native.inputs {
            let id = self.plan.id(*value);
            let unchanged = !native.outputs.contains(reg) && (reg.is_gpr() || reg.is_xmm()) && *reg != Reg::RSP;
            let wanted = matches!(self.plan.kind[id], Kind::Gpr | Kind::Xmm) && !self.regs.dies(self.plan, id);
            if unchanged && wanted && self.regs.loc[id].reg.is_none() {
                let r = R(reg.index() as u8);
                self.regs.set(r, id);
                self.regs.unlock(r);
            }
        }
        for reg in &native.outputs {
            if !reg.is_gpr() && !reg.is_xmm() && *reg != Reg::FLAGS {
                self.pinned[reg.index()] = None;
            }
        }
        self.regs.forget_constants();
        self.take_results(i);
        self.take_flags(i)
    }

    /// The flags of a result, if something reads them: an image in the frame.
    pub(super) fn take_flags(&mut self, i: usize) -> Result<(), LowerError> {
        let flags = self
            .plan
            .gets
            .iter()
            .find(|(tuple, reg, _)| (*tuple, *reg) == (i, Reg::FLAGS));
        if let Some((_, _, get)) = flags.copied()
            && self.plan.last[get] != 0
        {
            let slot = self.regs.new_slot(Type::I64);
            self.regs.loc[get].slot = Some(slot);
            self.asm.bytes(&[0x9c]);
            self.asm
                .ins(Ins::new(0x8f), 0, super::regs::Registers::slot_mem(slot).into(), &[])?;
        }
        Ok(())
    }

    /// Moves what is in a register, and is wanted later, to where a native operation leaves it alone. Its inputs stay
    /// known there.
    fn clear_for(&mut self, r: R, claimed: u32) -> Result<(), LowerError> {
        let Some(id) = self.regs.held(r) else { return Ok(()) };
        if super::regs::is_copy(self.plan, id) {
            self.regs.drop_register(r);
            return Ok(());
        }
        if self.regs.loc[id].slot.is_some() {
            self.regs.drop_register(r);
            return Ok(());
        }
        let free = (0..32).map(R).find(|other| {
            other.is_xmm() == r.is_xmm() && *other != R::RSP && claimed & other.bit() == 0 && self.regs.is_free(*other)
        });
        match free {
            Some(other) => {
                self.asm.mov(other, r)?;
                self.regs.drop_register(r);
                self.regs.set(other, id);
                self.regs.unlock(other);
                Ok(())
            }
            None => self.regs.evict(self.plan, &mut self.asm, r),
        }
    }

    /// An explicit operand relative to the stack pointer is made relative to ours. Anything else that an instruction does
    /// with it is refused.
    fn rebase_stack(&mut self, instruction: &mut Instruction, native: &redmagic_ir::Native) -> Result<(), LowerError> {
        let mut factory = InstructionInfoFactory::new();
        let uses = factory
            .info(instruction)
            .used_registers()
            .iter()
            .any(|used| used.register().full_register() == Register::RSP);
        if !uses && instruction.memory_base() != Register::RSP {
            return Ok(());
        }
        let value = native
            .inputs
            .iter()
            .find(|(reg, _)| *reg == Reg::RSP)
            .map(|(_, value)| *value);
        let offset = match value {
            Some(value) if value.as_op().is_some() => match self.plan.kind[self.plan.id(value)] {
                Kind::Stack(offset) => offset,
                _ => return Err(self.unsupported("the stack pointer is not a distance from that of the entry")),
            },
            Some(_) => return Err(self.unsupported("the stack pointer is a constant")),
            None => 0,
        };
        let named = (0..instruction.op_count()).any(|i| instruction.op_register(i).full_register() == Register::RSP);
        let implied = instruction.is_stack_instruction() || native.outputs.contains(&Reg::RSP);
        if named || implied || instruction.memory_base() != Register::RSP {
            return Err(self.unsupported("an instruction that uses the stack pointer"));
        }
        let mem = self.stack(offset)?;
        let disp = (instruction.memory_displacement64() as i64).wrapping_add(i64::from(mem.disp));
        let disp = i32::try_from(disp).map_err(|_| LowerError::Stack)?;
        instruction.set_memory_displacement64(disp as i64 as u64);
        instruction.set_memory_displ_size(if i8::try_from(disp).is_ok() { 1 } else { 8 });
        Ok(())
    }
}

/// What a call calls.
enum Target {
    Address(u64),
    Register(R),
    Word(u64),
}
