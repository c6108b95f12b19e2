//! Flags: computed into the processor where they are wanted, as conditions, or as images of the flags register.

use std::collections::HashMap;
use std::sync::LazyLock;

use redmagic_ir::flags::{self, CF, OF, STATUS, ZF};
use redmagic_ir::{Op, Opcode, Type, Value};

use super::encode::{Alu, Ins, R, Rm};
use super::flagsim::{Recipe, constant_count, image_previous, previous};
use super::int::shift_digit;
use super::operand::Source;
use super::plan::{How, Id, Kind, condition_mask};
use super::{Lower, LowerError};
use crate::asm::cond;

impl Lower<'_> {
    /// Operations on flags that have results of their own.
    pub(super) fn flag_operation(&mut self, i: usize, op: &Op) -> Result<bool, LowerError> {
        match op.code {
            Opcode::Cond => {
                let holds = self.condition_of_flags(op.args[0], op.imm)?;
                let r = self.def(i)?;
                self.asm.setcc(holds, r)?;
            }
            Opcode::FlagsBits => {
                let r = self.flags_image(op.args[0])?;
                let r = self.own(r)?;
                self.asm.alu_imm(Alu::And, 4, r.into(), STATUS as i32)?;
                self.asm.alu_imm(Alu::Or, 4, r.into(), 2)?;
                self.regs.drop_register(r);
                self.define(i, r);
            }
            // Flags in the middle of a long chain.
            _ if op.result() == Type::Flags => {
                self.emit_lazy(i, STATUS)?;
                let r = self.def(i)?;
                self.take_image(r);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A temporary register that is no value's, with what is in `r`.
    fn own(&mut self, r: R) -> Result<R, LowerError> {
        if self.regs.held(r).is_none() {
            return Ok(r);
        }
        let other = self.temporary(false)?;
        self.asm.mov(other, r)?;
        Ok(other)
    }

    /// `pushfq; pop r`.
    fn take_image(&mut self, r: R) {
        self.asm.bytes(&[0x9c]);
        self.asm.pop(r);
    }

    /// Brings a truth value into the flags; gives the condition (x86 code) under which it is true.
    pub(super) fn condition(&mut self, value: Value) -> Result<u8, LowerError> {
        if let Some(bits) = self.bits(value) {
            // Neither clause is common: the optimiser drops such guards.
            let r = self.temporary(false)?;
            self.asm.mov_reg_imm(r.number(), bits as u64);
            self.asm.test(4, r.into(), r)?;
            return Ok(cond::NE);
        }
        let id = self.plan.id(value);
        if let Some(flags) = self.plan.lazy_condition(id, How::Condition) {
            return self.condition_of_flags(flags, self.trace.ops[id].imm);
        }
        match self.slot_of(id).filter(|_| self.regs.loc[id].reg.is_none()) {
            Some(mem) => self.asm.alu_imm(Alu::Cmp, 1, mem.into(), 0)?,
            None => {
                let r = self.get(value)?;
                self.asm.test(1, r.into(), r)?;
            }
        }
        Ok(cond::NE)
    }

    /// The same for a condition of flags.
    fn condition_of_flags(&mut self, flags: Value, code: u8) -> Result<u8, LowerError> {
        let mask = condition_mask(code);
        // One bit of an image can be tested; so can any of several.
        if flags.as_op().is_some()
            && self.plan.kind[self.plan.id(flags)] == Kind::Gpr
            && code & 0xe != 12
            && code & 0xe != 14
        {
            let image = self.get(flags)?;
            self.asm.test_imm(4, image.into(), mask as i32)?;
            return Ok(cond::NE ^ (code & 1));
        }
        self.emit_flags(flags, mask)?;
        Ok(code)
    }

    /// Brings a truth value into the carry flag.
    pub(super) fn emit_carry(&mut self, value: Value) -> Result<(), LowerError> {
        if let Some(bits) = self.bits(value) {
            self.asm.bytes(&[if bits != 0 { 0xf9 } else { 0xf8 }]); // stc, clc
            return Ok(());
        }
        let id = self.plan.id(value);
        if let Some(flags) = self.plan.lazy_condition(id, How::Carry) {
            self.emit_flags(flags, CF)?;
            if self.trace.ops[id].imm & 1 != 0 {
                self.asm.bytes(&[0xf5]); // cmc
            }
            return Ok(());
        }
        let locked = self.regs.locked();
        let r = self.get(value)?;
        self.asm.ins(Ins::of(0xba), 4, r.into(), &[0])?; // bt r, 0
        self.regs.relock(locked);
        Ok(())
    }

    /// Brings flags into the processor; those in `mask` are right then.
    pub(super) fn emit_flags(&mut self, value: Value, mask: u32) -> Result<(), LowerError> {
        if let Some(bits) = self.bits(value) {
            return self.constant_flags(bits as u32);
        }
        let id = self.plan.id(value);
        match self.plan.kind[id] {
            Kind::Lazy => self.emit_lazy(id, mask),
            _ => self.flags_from_image(id),
        }
    }

    /// Flags that are known: by a comparison that has them, which is many times quicker than `popfq`.
    fn constant_flags(&mut self, bits: u32) -> Result<(), LowerError> {
        let locked = self.regs.locked();
        if let Some((a, b)) = comparison(bits) {
            let r = self.temporary(false)?;
            self.asm.mov_reg_imm(r.number(), a.into());
            self.asm.alu_imm(Alu::Cmp, 1, r.into(), i32::from(b as i8))?;
        } else {
            self.asm.bytes(&[0x68]); // push imm32
            self.asm.bytes(&bits.to_le_bytes());
            self.asm.bytes(&[0x9d]); // popfq
        }
        self.regs.relock(locked);
        Ok(())
    }

    /// `push; popfq` of an image that is a value.
    pub(super) fn flags_from_image(&mut self, id: Id) -> Result<(), LowerError> {
        match (self.regs.loc[id].reg, self.slot_of(id)) {
            (Some(r), _) => self.asm.push(r),
            (None, Some(mem)) => self.asm.ins(Ins::new(0xff), 6, mem.into(), &[])?,
            (None, None) => return Err(self.lost(id)),
        }
        self.asm.bytes(&[0x9d]);
        Ok(())
    }

    /// Flags as an image in a register, which is locked.
    pub(super) fn flags_image(&mut self, value: Value) -> Result<R, LowerError> {
        if let Some(bits) = self.bits(value) {
            let r = self.temporary(false)?;
            self.asm.mov_reg_imm(r.number(), bits as u64);
            return Ok(r);
        }
        let id = self.plan.id(value);
        if self.plan.kind[id] != Kind::Lazy {
            return self.get_id(id);
        }
        self.emit_lazy(id, STATUS)?;
        let r = self.temporary(false)?;
        self.take_image(r);
        Ok(r)
    }

    fn emit_lazy(&mut self, id: Id, mask: u32) -> Result<(), LowerError> {
        let place = self.place();
        if self.plan.is_ready(id, place) {
            return Ok(());
        }
        let op = &self.trace.ops[id];
        let locked = self.regs.locked();
        match self.plan.flags.recipe(self.plan, id, mask, place.at) {
            Recipe::Nothing => {}
            Recipe::Test(value) => {
                let size = op.ty.bytes();
                let r = self.get(value)?;
                self.asm.test(size, r.into(), r)?;
            }
            Recipe::TestBoth(a, b) => self.test_both(a, b, op.ty.bytes())?,
            Recipe::Same(value) => self.emit_flags(value, mask)?,
            Recipe::Itself => {
                if let Some((value, mask)) = previous(self.plan, op, mask) {
                    self.emit_flags(value, mask)?;
                }
                self.flag_instruction(op)?;
            }
            Recipe::Image => {
                let r = self.make_image(op)?;
                self.asm.push(r);
                self.asm.bytes(&[0x9d]);
            }
        }
        self.regs.relock(locked);
        Ok(())
    }

    /// The instruction that sets these flags, on copies of what it overwrites. What comes before it are moves.
    fn flag_instruction(&mut self, op: &Op) -> Result<(), LowerError> {
        use Opcode as O;
        let size = op.ty.bytes();
        let (a, b) = (op.args[0], op.args[1]);
        match op.code {
            O::FlagsSub => self.compare(op)?,
            O::FlagsAdd => {
                let source = self.source(b, size)?;
                let r = self.copy(a)?;
                self.carry_arithmetic(Alu::Add, size, r, source)?;
            }
            O::FlagsAdc | O::FlagsSbb => {
                self.emit_carry(op.args[2])?;
                let source = self.source(b, size)?;
                let r = self.copy(a)?;
                let kind = if op.code == O::FlagsAdc { Alu::Adc } else { Alu::Sbb };
                self.carry_arithmetic(kind, size, r, source)?;
            }
            O::FlagsInc | O::FlagsDec => {
                let r = self.copy(a)?;
                let ins = Ins::new(if size == 1 { 0xfe } else { 0xff }).sized(size);
                self.asm.ins(ins, u8::from(op.code == O::FlagsDec), r.into(), &[])?;
            }
            O::FlagsMulU => {
                self.put_flag(R::RAX, a, &[b])?;
                self.claim(R::RDX)?;
                let b = self.get(b)?;
                self.asm.ins(Ins::new(0xf7).sized(size), 4, b.into(), &[])?;
            }
            O::FlagsMulS if size == 1 => {
                self.put_flag(R::RAX, a, &[b])?;
                let b = self.get(b)?;
                self.asm.ins(Ins::new(0xf7).sized(1), 5, b.into(), &[])?;
            }
            O::FlagsMulS => {
                let rm = self.rm(b, size)?;
                let r = self.copy(a)?;
                self.asm.ins(Ins::of(0xaf).wide(size), r.number(), rm, &[])?;
            }
            O::FlagsShl | O::FlagsShr | O::FlagsSar | O::FlagsRol | O::FlagsRor | O::FlagsRcl | O::FlagsRcr => {
                let digit = shift_digit(op.code);
                match constant_count(self.plan, op, 1) {
                    Some(count) => {
                        let r = self.copy(a)?;
                        self.asm
                            .ins(Ins::new(0xc1).sized(size), digit, r.into(), &[count as u8])?;
                    }
                    None => {
                        self.put_flag(R::RCX, b, &[a])?;
                        let r = self.copy(a)?;
                        self.asm.ins(Ins::new(0xd3).sized(size), digit, r.into(), &[])?;
                    }
                }
            }
            O::FlagsShld | O::FlagsShrd => {
                let left = op.code == O::FlagsShld;
                match constant_count(self.plan, op, 2) {
                    Some(count) => {
                        let b = self.get(b)?;
                        let r = self.copy(a)?;
                        let ins = Ins::of(if left { 0xa4 } else { 0xac }).wide(size);
                        self.asm.ins(ins, b.number(), r.into(), &[count as u8])?;
                    }
                    None => {
                        self.put_flag(R::RCX, op.args[2], &[a, b])?;
                        let b = self.get(b)?;
                        let r = self.copy(a)?;
                        let ins = Ins::of(if left { 0xa5 } else { 0xad }).wide(size);
                        self.asm.ins(ins, b.number(), r.into(), &[])?;
                    }
                }
            }
            O::FlagsBt => {
                let r = self.get(a)?;
                match self.bits(b) {
                    // An 8-bit operand has no form of its own; its bits are those of a wide one.
                    Some(n) => {
                        let n = (n as u32 % op.ty.bits()) as u8;
                        self.asm.ins(Ins::of(0xba).wide(size.max(4)), 4, r.into(), &[n])?;
                    }
                    // There is no such instruction.
                    None if size == 1 => return Err(self.unsupported("a bit test of a byte")),
                    None => {
                        let n = self.get(b)?;
                        self.asm.ins(Ins::of(0xa3).wide(size), n.number(), r.into(), &[])?;
                    }
                }
            }
            O::FlagsPopcnt => {
                let r = self.get(a)?;
                let to = self.temporary(false)?;
                if size == 2 {
                    self.asm.bytes(&[0x66]);
                }
                self.asm
                    .ins(Ins::sse(0xf3, 0xb8).w(size == 8), to.number(), r.into(), &[])?;
            }
            O::FlagsUcomi | O::FlagsComi => {
                let rm = self.rm(b, size)?;
                let r = self.get(a)?;
                let opcode = if op.code == O::FlagsUcomi { 0x2e } else { 0x2f };
                let prefix = if size == 8 { 0x66 } else { 0 };
                self.asm.ins(Ins::sse(prefix, opcode), r.number(), rm, &[])?;
            }
            O::FlagsPtest => {
                let b = self.get(b)?;
                let a = self.get(a)?;
                let ins = Ins {
                    map: 2,
                    ..Ins::sse(0x66, 0x17)
                };
                self.asm.ins(ins, a.number(), b.into(), &[])?;
            }
            _ => return Err(self.unsupported("there is no code for its flags")),
        }
        Ok(())
    }

    /// A fixed register for flags alone: the value is kept.
    fn put_flag(&mut self, r: R, value: Value, rest: &[Value]) -> Result<(), LowerError> {
        let id = self.plan.id(value);
        if self.regs.loc[id].reg == Some(r) && self.regs.locked() & r.bit() != 0 {
            return Err(LowerError::Registers);
        }
        let mut rest = rest.to_vec();
        rest.push(value);
        self.put(r, value, &rest)
    }

    fn test_both(&mut self, a: Value, b: Value, size: u32) -> Result<(), LowerError> {
        let (a, b) = if self.bits(a).is_some() { (b, a) } else { (a, b) };
        if let Some(imm) = self.imm(b, size) {
            let rm = self.rm(a, size)?;
            return Ok(self.asm.test_imm(size, rm, imm)?);
        }
        let (a, b) = if self.is_from_memory(b) { (b, a) } else { (a, b) };
        let rm = self.rm(a, size)?;
        let b = self.get(b)?;
        Ok(self.asm.test(size, rm, b)?)
    }

    fn compare(&mut self, op: &Op) -> Result<(), LowerError> {
        let size = op.ty.bytes();
        let (a, b) = (op.args[0], op.args[1]);
        if let Some(imm) = self.imm(b, size) {
            let rm = self.rm(a, size)?;
            let place = self.place();
            return match rm {
                Rm::Reg(r) if imm == 0 && !place.exit && !self.plan.flags.in_exit(place.at) => {
                    Ok(self.asm.test(size, r.into(), r)?)
                }
                _ => Ok(self.asm.alu_imm(Alu::Cmp, size, rm, imm)?),
            };
        }
        match self.rm(a, size)? {
            Rm::Mem(mem) if self.bits(a).is_none() => {
                let b = self.get(b)?;
                Ok(self.asm.alu_store(Alu::Cmp, size, mem, b)?)
            }
            Rm::Reg(a) => match self.source(b, size)? {
                Source::Rm(rm) => Ok(self.asm.alu(Alu::Cmp, size, a, rm)?),
                Source::Imm(imm) => Ok(self.asm.alu_imm(Alu::Cmp, size, a.into(), imm)?),
            },
            Rm::Mem(_) => {
                let a = self.get(a)?;
                let rm = self.rm(b, size)?;
                Ok(self.asm.alu(Alu::Cmp, size, a, rm)?)
            }
        }
    }

    /// An image of flags that no instruction makes, in a temporary register.
    fn make_image(&mut self, op: &Op) -> Result<R, LowerError> {
        use Opcode as O;
        match op.code {
            O::FlagsOf => {
                let r = self.copy(op.args[0])?;
                self.asm.alu_imm(Alu::And, 4, r.into(), STATUS as i32)?;
                Ok(r)
            }
            O::FlagsSetC | O::FlagsSetO | O::FlagsSetZ | O::FlagsSahf => {
                let (before, keep) = image_previous(op).expect("these have one");
                // The image of the earlier flags must survive nothing but moves.
                self.emit_flags(before, keep)?;
                let image = self.temporary(false)?;
                self.take_image(image);
                self.asm.alu_imm(Alu::And, 4, image.into(), keep as i32)?;
                let bit = match op.code {
                    O::FlagsSetC => 0,
                    O::FlagsSetO => OF.trailing_zeros() as u8,
                    O::FlagsSetZ => ZF.trailing_zeros() as u8,
                    _ => {
                        let ah = self.copy(op.args[0])?;
                        self.asm.alu_imm(Alu::And, 4, ah.into(), (STATUS & !OF) as i32)?;
                        self.asm.alu(Alu::Or, 4, image, ah.into())?;
                        return Ok(image);
                    }
                };
                let value = self.get(op.args[0])?;
                let set = self.temporary(false)?;
                self.asm.movzx8(set, value)?;
                if bit != 0 {
                    self.asm.ins(Ins::new(0xc1), 4, set.into(), &[bit])?;
                }
                self.asm.alu(Alu::Or, 4, image, set.into())?;
                Ok(image)
            }
            O::FlagsCount => {
                // CF: a is 0; ZF: r is 0.
                let size = op.ty.bytes();
                let a = self.get(op.args[0])?;
                let r = self.get(op.args[1])?;
                let image = self.temporary(false)?;
                let zero = self.temporary(false)?;
                self.asm.test(size, a.into(), a)?;
                self.asm.setcc(4, image)?;
                self.asm.movzx8(image, image)?;
                self.asm.test(size, r.into(), r)?;
                self.asm.setcc(4, zero)?;
                self.asm.movzx8(zero, zero)?;
                self.asm.ins(Ins::new(0xc1), 4, zero.into(), &[6])?;
                self.asm.alu(Alu::Or, 4, image, zero.into())?;
                Ok(image)
            }
            O::FlagsBmi => {
                let r = self.get(op.args[0])?;
                let carry = self.copy(op.args[1])?;
                self.asm.movzx8(carry, carry)?;
                let image = self.temporary(false)?;
                self.asm.test(op.ty.bytes(), r.into(), r)?;
                self.take_image(image);
                self.asm.alu_imm(Alu::And, 4, image.into(), (STATUS & !CF) as i32)?;
                self.asm.alu(Alu::Or, 4, image, carry.into())?;
                Ok(image)
            }
            _ => Err(self.unsupported("there is no code for its flags")),
        }
    }
}

/// Two bytes for each combination of flags that a comparison can give.
static COMPARISONS: LazyLock<HashMap<u32, (u8, u8)>> = LazyLock::new(|| {
    let mut table = HashMap::new();
    for a in 0..=u8::MAX {
        for b in 0..=u8::MAX {
            let found = flags::sbb(8, a.into(), b.into(), false);
            table.entry(found.bits).or_insert((a, b));
        }
    }
    table
});

/// Two bytes whose comparison gives these flags, if there are such.
fn comparison(bits: u32) -> Option<(u8, u8)> {
    COMPARISONS.get(&bits).copied()
}

/// Makes the tables that are made when they are first wanted.
pub fn make_tables() {
    LazyLock::force(&COMPARISONS);
}
