//! Integer arithmetic. What is above a value's width is not defined, so narrow operands are added, multiplied and masked
//! as 32-bit ones, unless their flags are wanted.

use redmagic_ir::flags::masked_count;
use redmagic_ir::{Op, Opcode, Type, Value};

use super::encode::{Alu, Ins, Mem, R, Rm};
use super::flagsim::constant_count;
use super::operand::Source;
use super::plan::Mode;
use super::{Lower, LowerError};

impl Lower<'_> {
    pub(super) fn integer(&mut self, i: usize, op: &Op) -> Result<bool, LowerError> {
        use Opcode as O;
        let size = op.ty.bytes().max(1);
        match op.code {
            O::Add => self.sum(i, op)?,
            O::Sub => self.difference(i, op)?,
            O::And => self.arithmetic(i, op, Alu::And)?,
            O::Or => self.arithmetic(i, op, Alu::Or)?,
            O::Xor => self.arithmetic(i, op, Alu::Xor)?,
            O::Adc => self.with_carry(i, op, Alu::Adc)?,
            O::Sbb => self.with_carry(i, op, Alu::Sbb)?,
            O::Mul => self.multiply(i, op)?,
            O::MulHiU | O::MulHiS => self.multiply_high(i, op)?,
            O::DivU | O::DivS | O::RemU | O::RemS => self.divide(i, op)?,
            O::Neg => {
                let size = self.width(size);
                let r = self.def_copy(i, op.args[0])?;
                self.asm.ins(Ins::new(0xf7).sized(size), 3, r.into(), &[])?;
            }
            O::Not if op.ty == Type::I1 => {
                let r = self.def_copy(i, op.args[0])?;
                self.asm.alu_imm(Alu::Xor, 4, r.into(), 1)?;
            }
            O::Not => {
                let r = self.def_copy(i, op.args[0])?;
                self.asm.ins(Ins::new(0xf7).wide(size.max(4)), 2, r.into(), &[])?;
            }
            O::Shl | O::Shr | O::Sar | O::Rol | O::Ror => self.shift(i, op, None)?,
            O::Rcl | O::Rcr => self.shift(i, op, Some(op.args[2]))?,
            O::Shld | O::Shrd => self.double_shift(i, op)?,
            O::Bswap if size == 2 => {
                let r = self.def_copy(i, op.args[0])?;
                self.asm.ins(Ins::new(0xc1).wide(2), 0, r.into(), &[8])?; // rol r16, 8
            }
            O::Bswap => {
                let r = self.def_copy(i, op.args[0])?;
                let rex = if size == 8 { 0x48 } else { 0x40 } | r.0 >> 3;
                self.asm.bytes(&[rex, 0x0f, 0xc8 | r.0 & 7]);
            }
            O::Popcnt => self.count(i, op, 0xb8)?,
            O::Tzcnt => self.count(i, op, 0xbc)?,
            O::Lzcnt => self.count(i, op, 0xbd)?,
            O::Pdep => self.vex(i, op, 3, 0xf5)?,
            O::Pext => self.vex(i, op, 2, 0xf5)?,
            O::Bzhi => self.vex(i, op, 0, 0xf5)?,
            O::Bextr => self.vex(i, op, 0, 0xf7)?,
            O::Crc32 => {
                let data = self.get(op.args[1])?;
                let r = self.def_copy(i, op.args[0])?;
                let ins = Ins {
                    map: 2,
                    prefix: 0xf2,
                    w: size == 8,
                    byte_rm: size == 1,
                    ..Ins::new(if size == 1 { 0xf0 } else { 0xf1 })
                };
                if size == 2 {
                    self.asm.bytes(&[0x66]);
                }
                self.asm.ins(ins, r.number(), data.into(), &[])?;
            }
            O::Zext => self.zero_extend(i, op)?,
            O::Sext => self.sign_extend(i, op)?,
            O::Trunc => {
                self.def_copy(i, op.args[0])?;
            }
            O::Hi8 => {
                let r = self.def_copy(i, op.args[0])?;
                self.asm.ins(Ins::new(0xc1), 5, r.into(), &[8])?; // shr r32, 8
            }
            O::Put => self.put_low(i, op)?,
            O::PutHi8 => {
                // Rotated so that the byte is the lowest, which a move then replaces.
                let x = self.get(op.args[1])?;
                let x = self.other_than_result(op.args[0], x)?;
                let r = self.def_copy(i, op.args[0])?;
                self.asm.ins(Ins::new(0xc1).w(true), 1, r.into(), &[8])?; // ror r, 8
                self.asm.ins(Ins::new(0x8b).sized(1), r.number(), x.into(), &[])?;
                self.asm.ins(Ins::new(0xc1).w(true), 0, r.into(), &[8])?; // rol r, 8
            }
            O::Bitcast if self.is_xmm(i) != self.is_xmm(self.plan.id(op.args[0])) => {
                let from = self.get(op.args[0])?;
                let to = self.def(i)?;
                let (xmm, gpr, opcode) = if to.is_xmm() {
                    (to, from, 0x6e)
                } else {
                    (from, to, 0x7e)
                };
                let ins = Ins::sse(0x66, opcode).w(op.ty.bits() == 64);
                self.asm.ins(ins, xmm.number(), gpr.into(), &[])?;
            }
            O::Bitcast => {
                self.def_copy(i, op.args[0])?;
            }
            O::Select => self.select(i, op)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The width of an instruction for operands of `size` bytes: exact when its flags are wanted.
    fn width(&self, size: u32) -> u32 {
        if self.exact() { size } else { size.max(4) }
    }

    fn exact(&self) -> bool {
        !self.regs.in_exit && self.plan.flags.exact(self.regs.position)
    }

    /// Whether a value comes from memory, as an operand of this operation.
    pub(super) fn is_from_memory(&self, value: Value) -> bool {
        value.as_op().is_some_and(|_| {
            let id = self.plan.id(value);
            id < self.plan.mode.len() && matches!(self.plan.mode[id], Mode::Folded(_)) && self.regs.loc[id].is_nowhere()
        })
    }

    /// The operands, the one that is best overwritten first.
    fn ordered(&self, op: &Op) -> (Value, Value) {
        let (a, b) = (op.args[0], op.args[1]);
        let commutes = !matches!(op.code, Opcode::Sub | Opcode::Sbb);
        let swap = commutes
            && (a.as_constant().is_some()
                || self.is_from_memory(a)
                || self.ends_in(a).is_none() && self.ends_in(b).is_some()
                || self.ends_in(a).is_some()
                    && self.ends_in(b).is_some()
                    && self.ends_in(b) == self.hint(self.at).filter(|_| !self.regs.in_exit));
        if swap { (b, a) } else { (a, b) }
    }

    fn sum(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let (a, b) = self.ordered(op);
        let size = op.ty.bytes();
        let plain = !self.exact() && self.ends_in(a).is_none() && !self.is_from_memory(a) && !self.is_from_memory(b);
        if plain && self.bits(a).is_none() {
            let wide = if size == 8 { 8 } else { 4 };
            let mem = match self.imm(b, size) {
                Some(imm) => Some(Mem::base(self.get(a)?, imm)),
                None if self.bits(b).is_none() => {
                    let base = self.get(a)?;
                    let index = self.get(b)?;
                    Some(Mem {
                        index: Some(index),
                        ..Mem::base(base, 0)
                    })
                }
                None => None,
            };
            if let Some(mem) = mem {
                let r = self.def(i)?;
                return Ok(self.asm.lea(r, wide, mem)?);
            }
        }
        self.arithmetic(i, op, Alu::Add)
    }

    /// `a - constant` into another register is a sum.
    fn difference(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let (a, size) = (op.args[0], op.ty.bytes());
        let negative = self.imm(op.args[1], size).and_then(i32::checked_neg);
        let elsewhere = self.bits(a).is_none() && self.ends_in(a).is_none() && !self.is_from_memory(a);
        match negative {
            Some(disp) if elsewhere && !self.exact() => {
                let mem = Mem::base(self.get(a)?, disp);
                let r = self.def(i)?;
                Ok(self.asm.lea(r, if size == 8 { 8 } else { 4 }, mem)?)
            }
            _ => self.arithmetic(i, op, Alu::Sub),
        }
    }

    fn arithmetic(&mut self, i: usize, op: &Op, kind: Alu) -> Result<(), LowerError> {
        let (a, b) = self.ordered(op);
        let size = op.ty.bytes().max(1);
        let source = self.source(b, size)?;
        let width = match source {
            Source::Rm(Rm::Mem(_)) => size,
            _ => self.width(size),
        };
        let r = self.def_copy(i, a)?;
        match source {
            Source::Imm(imm) => self.asm.alu_imm(kind, width, r.into(), imm)?,
            Source::Rm(rm) => self.asm.alu(kind, width, r, rm)?,
        }
        Ok(())
    }

    fn with_carry(&mut self, i: usize, op: &Op, kind: Alu) -> Result<(), LowerError> {
        let (a, b) = self.ordered(op);
        let size = op.ty.bytes();
        // After it there are only moves.
        self.emit_carry(op.args[2])?;
        let source = self.source(b, size)?;
        let r = self.def_copy(i, a)?;
        self.carry_arithmetic(kind, size, r, source)
    }

    pub(super) fn carry_arithmetic(&mut self, kind: Alu, size: u32, r: R, source: Source) -> Result<(), LowerError> {
        match source {
            Source::Imm(imm) => self.asm.alu_imm(kind, size, r.into(), imm)?,
            Source::Rm(rm) => self.asm.alu(kind, size, r, rm)?,
        }
        Ok(())
    }

    fn multiply(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let (a, b) = self.ordered(op);
        let size = op.ty.bytes();
        let wide = size.max(4);
        if let Some(imm) = self.imm(b, size) {
            let rm = if size >= 4 {
                self.rm(a, size)?
            } else {
                self.get(a)?.into()
            };
            let r = self.def(i)?;
            if i8::try_from(imm).is_ok() {
                self.asm.ins(Ins::new(0x6b).wide(wide), r.number(), rm, &[imm as u8])?;
            } else {
                self.asm
                    .ins(Ins::new(0x69).wide(wide), r.number(), rm, &imm.to_le_bytes())?;
            }
            return Ok(());
        }
        let rm = if size >= 4 {
            self.rm(b, size)?
        } else {
            self.get(b)?.into()
        };
        let r = self.def_copy(i, a)?;
        Ok(self.asm.ins(Ins::of(0xaf).wide(wide), r.number(), rm, &[])?)
    }

    fn multiply_high(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let signed = op.code == Opcode::MulHiS;
        let size = op.ty.bytes();
        if size < 4 {
            // Extended, the product fits 32 bits.
            let a = self.extended(op.args[0], size, signed)?;
            let b = self.extended(op.args[1], size, signed)?;
            self.asm.ins(Ins::of(0xaf), a.number(), b.into(), &[])?;
            self.asm.ins(Ins::new(0xc1), 5, a.into(), &[(size * 8) as u8])?;
            self.regs.drop_register(a);
            self.define(i, a);
            return Ok(());
        }
        self.put(R::RAX, op.args[0], &op.args[1..2])?;
        self.claim(R::RDX)?;
        let b = self.get(op.args[1])?;
        let digit = if signed { 5 } else { 4 };
        self.asm.ins(Ins::new(0xf7).wide(size), digit, b.into(), &[])?;
        self.define_fixed(i, R::RDX)
    }

    /// A temporary with a narrow value, extended to 32 bits.
    pub(super) fn extended(&mut self, value: Value, size: u32, signed: bool) -> Result<R, LowerError> {
        let from = self.get(value)?;
        let r = self.temporary(false)?;
        let opcode = match (signed, size) {
            (false, 1) => 0xb6,
            (false, _) => 0xb7,
            (true, 1) => 0xbe,
            (true, _) => 0xbf,
        };
        let ins = Ins {
            byte_rm: size == 1,
            ..Ins::of(opcode)
        };
        self.asm.ins(ins, r.number(), from.into(), &[])?;
        Ok(r)
    }

    fn divide(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let size = op.ty.bytes();
        if size == 1 {
            return self.divide_bytes(i, op);
        }
        self.put(R::RAX, op.args[1], &[op.args[0], op.args[2]])?;
        self.put(R::RDX, op.args[0], &op.args[2..3])?;
        let divisor = self.get(op.args[2])?;
        let (signed, quotient) = match op.code {
            Opcode::DivU => (false, true),
            Opcode::RemU => (false, false),
            Opcode::DivS => (true, true),
            _ => (true, false),
        };
        let digit = if signed { 7 } else { 6 };
        self.asm.ins(Ins::new(0xf7).wide(size), digit, divisor.into(), &[])?;
        // The other result of the same division, if it is wanted next.
        let other = match op.code {
            Opcode::DivU => Opcode::RemU,
            Opcode::RemU => Opcode::DivU,
            Opcode::DivS => Opcode::RemS,
            _ => Opcode::DivS,
        };
        let (mine, others) = if quotient { (R::RAX, R::RDX) } else { (R::RDX, R::RAX) };
        self.define_fixed(i, mine)?;
        let partner = (i + 1..self.trace.ops.len().min(i + 16))
            .take_while(|at| self.trace.ops[*at].code != Opcode::LoopHead)
            .find(|at| {
                let next = &self.trace.ops[*at];
                next.code == other && next.ty == op.ty && next.args == op.args
            });
        if let Some(at) = partner.filter(|at| !self.regs.in_exit && self.plan.mode[*at] == Mode::Emit) {
            self.divided[at] = true;
            if self.plan.last[at] != 0 {
                self.define_fixed(at, others)?;
            }
        }
        Ok(())
    }

    /// The dividend is ax, the quotient al and the remainder ah.
    fn divide_bytes(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        self.put(R::RAX, op.args[1], &[op.args[0], op.args[2]])?;
        let divisor = self.get(op.args[2])?;
        let high = self.extended(op.args[0], 1, false)?;
        self.asm.movzx8(R::RAX, R::RAX)?;
        self.asm.ins(Ins::new(0xc1), 4, high.into(), &[8])?;
        self.asm.alu(Alu::Or, 4, R::RAX, high.into())?;
        let digit = if matches!(op.code, Opcode::DivS | Opcode::RemS) {
            7
        } else {
            6
        };
        self.asm.ins(Ins::new(0xf7).sized(1), digit, divisor.into(), &[])?;
        if matches!(op.code, Opcode::RemU | Opcode::RemS) {
            self.asm.ins(Ins::new(0xc1), 5, R::RAX.into(), &[8])?; // shr eax, 8
        }
        self.define_fixed(i, R::RAX)
    }

    /// Shifts and rotates; through the carry if there is one.
    fn shift(&mut self, i: usize, op: &Op, carry: Option<Value>) -> Result<(), LowerError> {
        let size = op.ty.bytes();
        let digit = shift_digit(op.code);
        // A narrow value can be shifted left as a wide one, but not rotated or shifted right.
        let width = if op.code == Opcode::Shl { self.width(size) } else { size };
        if let Some(count) = constant_count(self.plan, op, 1) {
            if let Some(carry) = carry {
                self.emit_carry(carry)?;
            }
            if op.code == Opcode::Shl && matches!(count, 1..=3) && self.regs.in_exit {
                // Exits rather keep flags.
                let index = self.get(op.args[0])?;
                let r = self.def(i)?;
                let mem = Mem {
                    base: None,
                    index: Some(index),
                    shift: count as u8,
                    ..Mem::base(index, 0)
                };
                return Ok(self.asm.lea(r, if size == 8 { 8 } else { 4 }, mem)?);
            }
            let r = self.def_copy(i, op.args[0])?;
            if count != 0 {
                self.asm
                    .ins(Ins::new(0xc1).sized(width), digit, r.into(), &[count as u8])?;
            } else if size == 4 {
                self.clear_upper(r)?;
            }
            return Ok(());
        }
        if let Some(carry) = carry {
            self.emit_carry(carry)?;
        }
        self.put(R::RCX, op.args[1], &[op.args[0]])?;
        let r = self.copy_or_own(op.args[0])?;
        self.asm.ins(Ins::new(0xd3).sized(width), digit, r.into(), &[])?;
        self.regs.drop_register(r);
        self.define(i, r);
        Ok(())
    }

    /// Zeroes the upper half, as every operation on 32 bits does.
    fn clear_upper(&mut self, r: R) -> Result<(), LowerError> {
        Ok(self.asm.ins(Ins::new(0x8b), r.number(), r.into(), &[])?)
    }

    /// A temporary register that begins as `value`: its own if the value ends here.
    fn copy_or_own(&mut self, value: Value) -> Result<R, LowerError> {
        if !self.regs.in_exit
            && let Some(r) = self.ends_in(value)
        {
            self.regs.drop_register(r);
            self.regs.set_temporary(r);
            return Ok(r);
        }
        self.copy(value)
    }

    fn double_shift(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let size = op.ty.bytes();
        let left = op.code == Opcode::Shld;
        if let Some(count) = constant_count(self.plan, op, 2) {
            let b = self.get(op.args[1])?;
            let r = self.def_copy(i, op.args[0])?;
            if masked_count(size * 8, count.into()) != 0 {
                let ins = Ins::of(if left { 0xa4 } else { 0xac }).wide(size);
                self.asm.ins(ins, b.number(), r.into(), &[count as u8])?;
            } else if size == 4 {
                self.clear_upper(r)?;
            }
            return Ok(());
        }
        self.put(R::RCX, op.args[2], &op.args[..2])?;
        let b = self.get(op.args[1])?;
        let r = self.copy(op.args[0])?;
        let ins = Ins::of(if left { 0xa5 } else { 0xad }).wide(size);
        self.asm.ins(ins, b.number(), r.into(), &[])?;
        self.regs.drop_register(r);
        self.define(i, r);
        Ok(())
    }

    fn count(&mut self, i: usize, op: &Op, opcode: u8) -> Result<(), LowerError> {
        let size = op.ty.bytes();
        let from = self.get(op.args[0])?;
        let r = self.def_over(i, op.operands())?;
        // The prefix of the operand size comes before the mandatory one.
        if size == 2 {
            self.asm.bytes(&[0x66]);
        }
        let ins = Ins::sse(0xf3, opcode).w(size == 8);
        Ok(self.asm.ins(ins, r.number(), from.into(), &[])?)
    }

    /// An instruction of BMI with a VEX prefix: `op r, a, b`, or `op r, b, a` for the ones whose first operand is in memory.
    fn vex(&mut self, i: usize, op: &Op, prefix: u8, opcode: u8) -> Result<(), LowerError> {
        let a = self.get(op.args[0])?;
        let b = self.get(op.args[1])?;
        let r = self.def_over(i, op.operands())?;
        // pdep, pext: vvvv is the source and r/m the mask; bextr, bzhi: r/m is the source.
        let (v, rm) = if prefix == 0 { (b, a) } else { (a, b) };
        let w = if op.ty == Type::I64 { 0x80 } else { 0 };
        self.asm.bytes(&[
            0xc4,
            (!r.0 >> 3 & 1) << 7 | 0x40 | (!rm.0 >> 3 & 1) << 5 | 2,
            w | (!v.0 & 15) << 3 | prefix,
            opcode,
            0xc0 | (r.0 & 7) << 3 | rm.0 & 7,
        ]);
        Ok(())
    }

    fn zero_extend(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let from = self.trace.type_of(op.args[0]);
        let rm = self.rm(op.args[0], from.bytes().max(1))?;
        let r = self.def_over(i, op.operands())?;
        let ins = match from {
            Type::I1 | Type::I8 => Ins {
                byte_rm: true,
                ..Ins::of(0xb6)
            },
            Type::I16 => Ins::of(0xb7),
            _ => Ins::new(0x8b),
        };
        Ok(self.asm.ins(ins, r.number(), rm, &[])?)
    }

    fn sign_extend(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let from = self.trace.type_of(op.args[0]);
        let wide = op.ty == Type::I64;
        if from == Type::I1 {
            let x = self.get(op.args[0])?;
            let r = self.def_over(i, op.operands())?;
            self.asm.movzx8(r, x)?;
            return Ok(self.asm.ins(Ins::new(0xf7).w(wide), 3, r.into(), &[])?);
        }
        let rm = self.rm(op.args[0], from.bytes())?;
        let r = self.def_over(i, op.operands())?;
        let ins = match from {
            Type::I8 => Ins {
                byte_rm: true,
                ..Ins::of(0xbe)
            },
            Type::I16 => Ins::of(0xbf),
            _ => Ins::new(0x63),
        };
        Ok(self.asm.ins(ins.w(wide), r.number(), rm, &[])?)
    }

    /// A register other than the one that `value` may give to the result.
    fn other_than_result(&mut self, value: Value, r: R) -> Result<R, LowerError> {
        if self.ends_in(value) != Some(r) {
            return Ok(r);
        }
        let other = self.temporary(false)?;
        self.asm.mov(other, r)?;
        Ok(other)
    }

    fn put_low(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let size = op.ty.bytes();
        let x = self.get(op.args[1])?;
        let x = self.other_than_result(op.args[0], x)?;
        if size == 4 {
            // There is no move to the lower half alone: shifted together.
            let low = self.temporary(false)?;
            self.asm.mov(low, x)?;
            let r = self.def_copy(i, op.args[0])?;
            self.asm.ins(Ins::new(0xc1).w(true), 5, r.into(), &[32])?; // shr r, 32
            self.asm.ins(Ins::new(0xc1).w(true), 4, low.into(), &[32])?; // shl low, 32
            // r = (r << 32) | (low >> 32)
            return Ok(self.asm.ins(Ins::of(0xa4).w(true), low.number(), r.into(), &[32])?);
        }
        let r = self.def_copy(i, op.args[0])?;
        Ok(self.asm.ins(Ins::new(0x8b).sized(size), r.number(), x.into(), &[])?)
    }

    fn select(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let size = op.ty.bytes();
        let (a, b) = (op.args[1], op.args[2]);
        if op.ty == Type::Flags {
            // Images are computed themselves.
            let a = self.get(a)?;
            let r = self.copy(b)?;
            let holds = self.condition(op.args[0])?;
            self.asm.ins(Ins::of(0x40 | holds).w(true), r.number(), a.into(), &[])?;
            self.regs.drop_register(r);
            self.define(i, r);
            return Ok(());
        }
        // After it there are only moves.
        let holds = self.condition(op.args[0])?;
        let a = self.get(a)?;
        let r = self.def_copy(i, b)?;
        if self.is_xmm(i) {
            let skip = self.asm.label();
            self.asm.jcc(holds ^ 1, skip);
            self.asm.mov(r, a)?;
            self.asm.bind(skip);
        } else {
            let ins = Ins::of(0x40 | holds).w(size == 8);
            self.asm.ins(ins, r.number(), a.into(), &[])?;
        }
        Ok(())
    }
}

/// The number of a shift or rotate in its encoding.
pub(super) fn shift_digit(code: Opcode) -> u8 {
    use Opcode as O;
    match code {
        O::Rol | O::FlagsRol => 0,
        O::Ror | O::FlagsRor => 1,
        O::Rcl | O::FlagsRcl => 2,
        O::Rcr | O::FlagsRcr => 3,
        O::Shl | O::FlagsShl => 4,
        O::Shr | O::FlagsShr => 5,
        _ => 7,
    }
}
