//! Operands: values in registers, in memory, as immediates; and results.

use redmagic_ir::{Type, Value};

use super::encode::{Ins, Mem, R, Rm, Seg};
use super::plan::{Id, Kind, Mode};
use super::regs::Registers;
use super::{Lower, LowerError};

/// The second operand of arithmetic.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Rm(Rm),
    Imm(i32),
}

impl Lower<'_> {
    /// Whether values of this number are in vector registers.
    pub(super) fn is_xmm(&self, id: Id) -> bool {
        match self.plan.kind[id] {
            Kind::Xmm => true,
            Kind::Constant => matches!(self.plan.ty(id), Type::F32 | Type::F64 | Type::V128),
            _ => false,
        }
    }

    /// A register for something temporary.
    pub(super) fn temporary(&mut self, xmm: bool) -> Result<R, LowerError> {
        self.temporary_not(xmm, None, 0)
    }

    /// A register for something temporary, best `hint`, none of `not`.
    pub(super) fn temporary_not(&mut self, xmm: bool, hint: Option<R>, not: u32) -> Result<R, LowerError> {
        let r = self.regs.find(self.plan, &mut self.asm, xmm, hint, not)?;
        self.regs.set_temporary(r);
        Ok(r)
    }

    /// Frees this very register, moving what is in it elsewhere, and locks it.
    pub(super) fn claim(&mut self, r: R) -> Result<(), LowerError> {
        if let Some(id) = self.regs.held(r) {
            if self.regs.locked() & r.bit() != 0 {
                return Err(LowerError::Registers);
            }
            if super::regs::is_copy(self.plan, id) || self.regs.loc[id].slot.is_some() {
                self.regs.drop_register(r);
            } else {
                let free = (0..32).map(R).find(|other| {
                    other.is_xmm() == r.is_xmm() && *other != R::RSP && *other != r && self.regs.is_free(*other)
                });
                match free {
                    Some(other) => {
                        self.asm.mov(other, r)?;
                        self.regs.drop_register(r);
                        self.regs.set(other, id);
                        self.regs.unlock(other);
                    }
                    None => self.regs.evict(self.plan, &mut self.asm, r)?,
                }
            }
        } else if self.regs.locked() & r.bit() != 0 {
            return Err(LowerError::Registers);
        }
        self.regs.set_temporary(r);
        Ok(())
    }

    /// A value in a register, locked.
    pub(super) fn get(&mut self, value: Value) -> Result<R, LowerError> {
        self.get_id(self.plan.id(value))
    }

    pub(super) fn get_id(&mut self, id: Id) -> Result<R, LowerError> {
        if let Some(r) = self.regs.loc[id].reg {
            self.regs.lock(r);
            return Ok(r);
        }
        match self.plan.kind[id] {
            Kind::Gpr | Kind::Xmm | Kind::Constant | Kind::Stack(_) => {}
            Kind::Lazy => return self.flags_image(Value::op(id)),
            _ => return Err(self.unsupported("an operand that is no value of its own")),
        }
        let folded = matches!(self.plan.op(id).map(|_| self.plan.mode[id]), Some(Mode::Folded(_)));
        if folded && self.regs.loc[id].is_nowhere() {
            let mem = self.folded(id)?;
            let xmm = self.is_xmm(id);
            let r = self.temporary(xmm)?;
            self.asm.load(r, self.plan.ty(id).bytes(), mem)?;
            return Ok(r);
        }
        let xmm = self.is_xmm(id);
        let constant = self
            .plan
            .constant(id)
            .filter(|_| !xmm)
            .map(|constant| constant.bits as u64);
        let r = match constant.and_then(|bits| self.regs.near(bits)) {
            Some((r, 0)) if self.regs.is_free(r) => r,
            _ => {
                let r = self.regs.find(self.plan, &mut self.asm, xmm, self.plan.hint[id], 0)?;
                self.fill(r, id)?;
                r
            }
        };
        self.regs.set(r, id);
        if let Some(bits) = constant {
            self.regs.contains(r, bits);
        }
        Ok(r)
    }

    /// Puts a value into a register that is no one's.
    pub(super) fn fill(&mut self, r: R, id: Id) -> Result<(), LowerError> {
        let loc = self.regs.loc[id];
        if let Some(from) = loc.reg {
            return Ok(self.asm.mov(r, from)?);
        }
        match self.plan.kind[id] {
            Kind::Constant => {
                let constant = self.plan.constant(id).expect("of this kind");
                if r.is_xmm() {
                    return self.fill_vector(r, constant.bits, constant.ty);
                }
                return self.fill_constant(r, constant.bits as u64);
            }
            Kind::Stack(offset) => {
                let mem = self.stack(offset)?;
                return Ok(self.asm.lea(r, 8, mem)?);
            }
            _ => {}
        }
        if let Some(slot) = loc.slot {
            let bytes = if self.plan.ty(id) == Type::V128 { 16 } else { 8 };
            return Ok(self.asm.load(r, bytes, Registers::slot_mem(slot))?);
        }
        let is_op = self.plan.op(id).is_some();
        if is_op && matches!(self.plan.mode[id], Mode::Folded(_)) {
            let mem = self.folded(id)?;
            return Ok(self.asm.load(r, self.plan.ty(id).bytes(), mem)?);
        }
        if is_op && self.plan.kind[id] == Kind::Lazy {
            let image = self.flags_image(Value::op(id))?;
            return Ok(self.asm.mov(r, image)?);
        }
        Err(self.lost(id))
    }

    /// Where there is one nearby it takes fewer bytes: what is decoded for the first time in a while goes by bytes.
    fn fill_constant(&mut self, r: R, bits: u64) -> Result<(), LowerError> {
        let long = u32::try_from(bits).is_err() && i32::try_from(bits as i64).is_err();
        match self.regs.near(bits).filter(|_| long) {
            Some((from, 0)) => self.asm.mov(r, from)?,
            Some((from, above)) => self.asm.lea(r, 8, Mem::base(from, above))?,
            None => self.asm.mov_reg_imm(r.number(), bits),
        }
        Ok(())
    }

    fn fill_vector(&mut self, r: R, bits: u128, ty: Type) -> Result<(), LowerError> {
        if bits == 0 {
            return Ok(self.asm.ins(Ins::of(0x57), r.number(), r.into(), &[])?);
        }
        let bytes = ty.bytes();
        let mem = self.data(bits, bytes);
        let ins = match bytes {
            4 => Ins::sse(0xf3, 0x10),
            8 => Ins::sse(0xf3, 0x7e),
            _ => Ins::of(0x28),
        };
        Ok(self.asm.ins(ins, r.number(), mem.into(), &[])?)
    }

    /// Constant data, aligned to its size.
    pub(super) fn data(&mut self, bits: u128, bytes: u32) -> Mem {
        let datum = if bytes == 16 {
            *self.vectors.entry(bits).or_insert_with(|| self.asm.datum128(bits))
        } else {
            let bits = bits as u64;
            *self.words.entry(bits).or_insert_with(|| self.asm.datum(bits))
        };
        Mem::absolute(self.asm.datum_address(datum))
    }

    /// A place on the stack, by its distance from the entry's stack pointer.
    pub(super) fn stack(&self, offset: i64) -> Result<Mem, LowerError> {
        let disp = offset.checked_add(self.frame).and_then(|d| i32::try_from(d).ok());
        Ok(Mem::base(R::RSP, disp.ok_or(LowerError::Stack)?))
    }

    /// The memory operand that a load has become.
    pub(super) fn folded(&mut self, id: Id) -> Result<Mem, LowerError> {
        let op = &self.trace.ops[id];
        let addr = op.addr().expect("a load");
        self.address(&addr)
    }

    /// A value in a register or memory of `bytes` bytes.
    pub(super) fn rm(&mut self, value: Value, bytes: u32) -> Result<Rm, LowerError> {
        let id = self.plan.id(value);
        let loc = self.regs.loc[id];
        if let Some(r) = loc.reg {
            self.regs.lock(r);
            return Ok(r.into());
        }
        if let Kind::Constant = self.plan.kind[id] {
            let constant = self.plan.constant(id).expect("of this kind");
            let xmm = self.is_xmm(id);
            if xmm && constant.bits != 0 || !xmm && bytes == 8 {
                return Ok(self.data(constant.bits, bytes).into());
            }
        }
        if self.plan.op(id).is_some() && matches!(self.plan.mode[id], Mode::Folded(_)) && loc.is_nowhere() {
            return Ok(self.folded(id)?.into());
        }
        // Legacy vector operands in memory must be aligned, which the frame is not.
        if let Some(slot) = loc.slot
            && bytes <= 8
            && !self.used_again(id)
        {
            return Ok(Registers::slot_mem(slot).into());
        }
        Ok(self.get_id(id)?.into())
    }

    /// Whether something else will want it in a register.
    fn used_again(&self, id: Id) -> bool {
        let mut cursor = self.plan.first_use(id);
        !self.regs.in_exit && self.plan.next_use(&mut cursor, self.regs.position + 1).is_some()
    }

    /// A constant that an immediate can be, of an operand of `bytes` bytes.
    pub(super) fn imm(&self, value: Value, bytes: u32) -> Option<i32> {
        let bits = self.bits(value)? as u64;
        match bytes {
            1 => Some(i32::from(bits as i8)),
            2 => Some(i32::from(bits as i16)),
            4 => Some(bits as i32),
            _ => i32::try_from(bits as i64).ok(),
        }
    }

    /// The second operand of arithmetic.
    pub(super) fn source(&mut self, value: Value, bytes: u32) -> Result<Source, LowerError> {
        match self.imm(value, bytes) {
            Some(imm) => Ok(Source::Imm(imm)),
            None => Ok(Source::Rm(self.rm(value, bytes)?)),
        }
    }

    /// A memory operand. Its registers are locked.
    pub(super) fn address(&mut self, addr: &redmagic_ir::Addr) -> Result<Mem, LowerError> {
        let seg = self.segment(addr.seg)?;
        let shift = addr.flags.shift() as u8;
        let mut disp = i64::from(addr.disp);
        let (mut base, mut index) = (None, None);
        let mut constant = None;
        if !addr.base.is_none() {
            match self.plan.kind[self.plan.id(addr.base)] {
                Kind::Constant => constant = Some(addr.base),
                Kind::Stack(offset) => {
                    base = Some(R::RSP);
                    disp = disp.checked_add(offset + self.frame).ok_or(LowerError::Stack)?;
                }
                _ => base = Some(self.get(addr.base)?),
            }
        }
        if !addr.index.is_none() {
            match self.bits(addr.index) {
                Some(bits) if base.is_none() && constant.is_none() => {
                    let total = ((bits as u64) << shift).wrapping_add(disp as u64);
                    return self.absolute(total, seg);
                }
                Some(bits) => {
                    // A scaled constant is part of the displacement if it fits.
                    match i32::try_from(disp.wrapping_add((bits as i64) << shift)) {
                        Ok(sum) if constant.is_none() => disp = i64::from(sum),
                        _ => index = Some(self.get(addr.index)?),
                    }
                }
                None => index = Some(self.get(addr.index)?),
            }
        }
        if let Some(value) = constant {
            let total = (self.bits(value).expect("a constant") as u64).wrapping_add(disp as u64);
            match (index, i32::try_from(total as i64)) {
                (None, _) => return self.absolute(total, seg),
                (Some(_), Ok(small)) => disp = i64::from(small),
                (Some(_), Err(_)) => base = Some(self.get(value)?),
            }
        }
        Ok(Mem {
            base,
            index,
            shift: if index.is_some() { shift } else { 0 },
            disp: i32::try_from(disp).map_err(|_| LowerError::Stack)?,
            seg,
            absolute: None,
        })
    }

    fn segment(&mut self, value: Value) -> Result<Seg, LowerError> {
        if value.is_none() {
            return Ok(Seg::None);
        }
        let id = self.plan.id(value);
        let is = |reg: redmagic_ir::Reg| self.pinned[reg.index()] == Some(id);
        match self.plan.kind[id] {
            Kind::Pinned(reg) if reg == redmagic_ir::Reg::FS_BASE && is(reg) => Ok(Seg::Fs),
            Kind::Pinned(reg) if reg == redmagic_ir::Reg::GS_BASE && is(reg) => Ok(Seg::Gs),
            _ => Err(self.unsupported("a segment base that is not in its register")),
        }
    }

    fn absolute(&mut self, address: u64, seg: Seg) -> Result<Mem, LowerError> {
        let short = i32::try_from(address as i64);
        if let (Ok(disp), true) = (short, seg != Seg::None || !self.asm.reaches(address)) {
            return Ok(Mem {
                base: None,
                disp,
                seg,
                ..Mem::base(R::RSP, 0)
            });
        }
        if seg == Seg::None && self.asm.reaches(address) {
            return Ok(Mem::absolute(address));
        }
        if let Some((r, above)) = self.regs.near(address) {
            self.regs.lock(r);
            return Ok(Mem {
                seg,
                ..Mem::base(r, above)
            });
        }
        let r = self.temporary(false)?;
        self.asm.mov_reg_imm(r.number(), address);
        self.regs.contains(r, address);
        Ok(Mem { seg, ..Mem::base(r, 0) })
    }

    /// A register for the result of operation `i`, locked.
    pub(super) fn def(&mut self, i: usize) -> Result<R, LowerError> {
        self.def_not(i, 0)
    }

    /// The same, none of `not`.
    pub(super) fn def_not(&mut self, i: usize, not: u32) -> Result<R, LowerError> {
        let xmm = self.is_xmm(i);
        let hint = self.hint(i);
        let r = self.regs.find(self.plan, &mut self.asm, xmm, hint, not)?;
        self.define(i, r);
        Ok(r)
    }

    /// Says that a register holds the result of operation `i`.
    pub(super) fn define(&mut self, i: usize, r: R) {
        if self.plan.last[i] == 0 {
            self.regs.set_temporary(r);
        } else {
            self.regs.set(r, i);
        }
    }

    /// Whether `value` is in a register that nothing wants after this operation.
    pub(super) fn ends_in(&self, value: Value) -> Option<R> {
        value.as_op()?;
        let id = self.plan.id(value);
        let r = self.regs.loc[id].reg?;
        self.regs.dies(self.plan, id).then_some(r)
    }

    /// A register for the result of operation `i`, which one instruction makes of these: that of one of them if it ends.
    pub(super) fn def_over(&mut self, i: usize, values: &[Value]) -> Result<R, LowerError> {
        let xmm = self.is_xmm(i);
        let mut ends = values.iter().filter(|v| !v.is_none()).filter_map(|v| self.ends_in(*v));
        match ends.rfind(|r| r.is_xmm() == xmm) {
            Some(r) => {
                self.regs.drop_register(r);
                self.define(i, r);
                Ok(r)
            }
            None => self.def(i),
        }
    }

    /// A register for the result of operation `i` that begins as `value`: its own if nothing wants it any more. Other
    /// operands are to be had before; they may be in the same register.
    pub(super) fn def_copy(&mut self, i: usize, value: Value) -> Result<R, LowerError> {
        if let Some(r) = self.ends_in(value) {
            self.regs.drop_register(r);
            self.define(i, r);
            return Ok(r);
        }
        let id = self.plan.id(value);
        if let Some(r) = self.regs.loc[id].reg {
            self.regs.lock(r);
        }
        let xmm = self.is_xmm(i);
        let hint = self.hint(i);
        let r = self.regs.find(self.plan, &mut self.asm, xmm, hint, 0)?;
        // Marked before: what fills it may need registers too.
        self.regs.set_temporary(r);
        self.fill(r, id)?;
        self.define(i, r);
        Ok(r)
    }

    /// A temporary register that begins as `value`.
    pub(super) fn copy(&mut self, value: Value) -> Result<R, LowerError> {
        self.copy_to(value, None)
    }

    /// The same, best in `hint`.
    pub(super) fn copy_to(&mut self, value: Value, hint: Option<R>) -> Result<R, LowerError> {
        let id = self.plan.id(value);
        if let Some(r) = self.regs.loc[id].reg {
            self.regs.lock(r);
        }
        let r = self.temporary_not(self.is_xmm(id), hint, 0)?;
        self.fill(r, id)?;
        Ok(r)
    }

    /// Puts a value into this very register, which is claimed, and locks it. The value stays somewhere, too, unless
    /// this is its register and it dies; `rest` are operands that are still to be had.
    pub(super) fn put(&mut self, r: R, value: Value, rest: &[Value]) -> Result<(), LowerError> {
        let id = self.plan.id(value);
        if self.regs.loc[id].reg == Some(r) {
            let wanted = !self.regs.dies(self.plan, id) || rest.iter().any(|other| self.plan.id(*other) == id);
            if wanted && !super::regs::is_copy(self.plan, id) {
                self.keep_elsewhere(r, id)?;
            }
            self.regs.drop_register(r);
            self.regs.set_temporary(r);
            return Ok(());
        }
        self.claim(r)?;
        self.fill(r, id)
    }

    /// Gives a value that is about to lose its register another place.
    fn keep_elsewhere(&mut self, r: R, id: Id) -> Result<(), LowerError> {
        if self.regs.loc[id].slot.is_some() {
            return Ok(());
        }
        let locked = self.regs.locked();
        self.regs.lock(r);
        let other = self.regs.find(self.plan, &mut self.asm, r.is_xmm(), None, 0)?;
        self.asm.mov(other, r)?;
        self.regs.drop_register(r);
        self.regs.set(other, id);
        self.regs.relock(locked);
        Ok(())
    }
}
