//! Scalar floating point, lanes of vectors, MXCSR.

use redmagic_ir::{Op, Opcode, Type, Value};

use super::encode::{Ins, R, Rm};
use super::regs::Registers;
use super::{Lower, LowerError};

/// The prefix of scalar operations of a type.
fn prefix(ty: Type) -> u8 {
    if ty == Type::F32 { 0xf3 } else { 0xf2 }
}

/// An instruction after 0f 3a.
fn of3a(opcode: u8) -> Ins {
    Ins {
        map: 3,
        ..Ins::sse(0x66, opcode)
    }
}

impl Lower<'_> {
    pub(super) fn float(&mut self, i: usize, op: &Op) -> Result<bool, LowerError> {
        use Opcode as O;
        let size = op.ty.bytes();
        match op.code {
            O::FAdd => self.scalar(i, op, 0x58)?,
            O::FSub => self.scalar(i, op, 0x5c)?,
            O::FMul => self.scalar(i, op, 0x59)?,
            O::FDiv => self.scalar(i, op, 0x5e)?,
            O::FMin => self.scalar(i, op, 0x5d)?,
            O::FMax => self.scalar(i, op, 0x5f)?,
            O::FSqrt => {
                let rm = self.rm(op.args[0], size)?;
                self.unary(i, op.args[0], Ins::sse(prefix(op.ty), 0x51), rm, &[])?;
            }
            O::FCmp => {
                let b = self.get(op.args[1])?;
                let r = self.def_copy(i, op.args[0])?;
                self.asm
                    .ins(Ins::sse(prefix(op.ty), 0xc2), r.number(), b.into(), &[op.imm])?;
            }
            O::FRound => {
                let a = self.get(op.args[0])?;
                let opcode = if op.ty == Type::F32 { 0x0a } else { 0x0b };
                self.unary(i, op.args[0], of3a(opcode), a.into(), &[op.imm])?;
            }
            O::FCvt => {
                let from = self.trace.type_of(op.args[0]);
                let rm = self.rm(op.args[0], from.bytes())?;
                self.unary(i, op.args[0], Ins::sse(prefix(from), 0x5a), rm, &[])?;
            }
            O::IntToF => {
                let from = self.trace.type_of(op.args[0]);
                let rm = self.rm(op.args[0], from.bytes())?;
                let r = self.def(i)?;
                // The instruction keeps what is above: without this it would wait for it.
                self.asm.ins(Ins::of(0x57), r.number(), r.into(), &[])?;
                let ins = Ins::sse(prefix(op.ty), 0x2a).w(from == Type::I64);
                self.asm.ins(ins, r.number(), rm, &[])?;
            }
            O::FToInt | O::FToIntZ => {
                let from = self.trace.type_of(op.args[0]);
                let rm = self.rm(op.args[0], from.bytes())?;
                let r = self.def(i)?;
                let opcode = if op.code == O::FToInt { 0x2d } else { 0x2c };
                let ins = Ins::sse(prefix(from), opcode).w(size == 8);
                self.asm.ins(ins, r.number(), rm, &[])?;
            }
            O::Extract => self.extract(i, op)?,
            O::Insert => self.insert(i, op)?,
            O::VZext => self.widen(i, op)?,
            O::MxcsrGet => {
                let slot = self.regs.new_slot(Type::I64);
                let mem = Registers::slot_mem(slot);
                self.asm.ins(Ins::of(0xae), 3, mem.into(), &[])?;
                let r = self.def(i)?;
                self.asm.load(r, 4, mem)?;
                self.regs.free_slot(slot, Type::I64);
            }
            O::MxcsrSet => {
                let r = self.get(op.args[0])?;
                let slot = self.regs.new_slot(Type::I64);
                let mem = Registers::slot_mem(slot);
                self.asm.store(mem, 4, r)?;
                self.asm.ins(Ins::of(0xae), 2, mem.into(), &[])?;
                self.regs.free_slot(slot, Type::I64);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Of several NaNs the first operand is the result, so not even sums change places.
    fn scalar(&mut self, i: usize, op: &Op, opcode: u8) -> Result<(), LowerError> {
        let rm = self.rm(op.args[1], op.ty.bytes())?;
        let r = self.def_copy(i, op.args[0])?;
        Ok(self.asm.ins(Ins::sse(prefix(op.ty), opcode), r.number(), rm, &[])?)
    }

    /// An operation of one operand whose instruction keeps the upper lanes of its destination: nothing waits for
    /// those if they are of the operand's own register.
    fn unary(&mut self, i: usize, value: Value, ins: Ins, rm: Rm, imm: &[u8]) -> Result<(), LowerError> {
        match rm {
            Rm::Reg(_) => {
                let r = self.def_copy(i, value)?;
                Ok(self.asm.ins(ins, r.number(), r.into(), imm)?)
            }
            Rm::Mem(_) => {
                let r = self.def(i)?;
                self.asm.ins(Ins::of(0x57), r.number(), r.into(), &[])?;
                Ok(self.asm.ins(ins, r.number(), rm, imm)?)
            }
        }
    }

    fn extract(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let v = self.get(op.args[0])?;
        let lane = op.imm;
        match op.ty {
            Type::F32 | Type::F64 => {
                let r = self.def_copy(i, op.args[0])?;
                let bytes = lane * op.ty.bytes() as u8;
                if bytes != 0 {
                    self.asm.ins(Ins::sse(0x66, 0x73), 3, r.into(), &[bytes])?; // psrldq
                }
                Ok(())
            }
            Type::I32 | Type::I64 => {
                let mut from = v;
                if lane != 0 {
                    from = self.temporary(true)?;
                    let lanes = if op.ty == Type::I64 { 0xee } else { lane };
                    self.asm.ins(Ins::sse(0x66, 0x70), from.number(), v.into(), &[lanes])?; // pshufd
                }
                let r = self.def(i)?;
                let ins = Ins::sse(0x66, 0x7e).w(op.ty == Type::I64);
                Ok(self.asm.ins(ins, from.number(), r.into(), &[])?)
            }
            _ => {
                let word = if op.ty == Type::I8 { lane / 2 } else { lane };
                let r = self.def(i)?;
                self.asm.ins(Ins::sse(0x66, 0xc5), r.number(), v.into(), &[word])?; // pextrw
                if op.ty == Type::I8 && !lane.is_multiple_of(2) {
                    self.asm.ins(Ins::new(0xc1), 5, r.into(), &[8])?;
                }
                Ok(())
            }
        }
    }

    fn insert(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let (v, x, lane) = (op.args[0], op.args[1], op.imm);
        match op.ty {
            Type::F32 | Type::F64 if lane == 0 => {
                let x = self.get(x)?;
                let x = self.vector_apart(v, x)?;
                let r = self.def_copy(i, v)?;
                Ok(self.asm.ins(Ins::sse(prefix(op.ty), 0x10), r.number(), x.into(), &[])?)
            }
            Type::F64 => {
                let x = self.get(x)?;
                let x = self.vector_apart(v, x)?;
                let r = self.def_copy(i, v)?;
                Ok(self.asm.ins(Ins::sse(0x66, 0x14), r.number(), x.into(), &[])?) // unpcklpd
            }
            Type::I16 => {
                let x = self.get(x)?;
                let r = self.def_copy(i, v)?;
                Ok(self.asm.ins(Ins::sse(0x66, 0xc4), r.number(), x.into(), &[lane])?) // pinsrw
            }
            // Not through memory: a load of what several stores wrote waits for all of them.
            Type::I64 | Type::I32 if lane == 0 || op.ty == Type::I64 => {
                let x = self.get(x)?;
                let lower = self.temporary(true)?;
                let movq = Ins::sse(0x66, 0x6e).w(op.ty == Type::I64);
                self.asm.ins(movq, lower.number(), x.into(), &[])?;
                let r = self.def_copy(i, v)?;
                let merge = match (lane, op.ty) {
                    (0, Type::I64) => Ins::sse(0xf2, 0x10), // movsd
                    (0, _) => Ins::sse(0xf3, 0x10),         // movss
                    _ => Ins::sse(0x66, 0x14),              // unpcklpd
                };
                Ok(self.asm.ins(merge, r.number(), lower.into(), &[])?)
            }
            // Through memory: rare, and without SSE4.1 there is no shorter way for all.
            _ => {
                let bytes = op.ty.bytes();
                let vector = self.get(v)?;
                let x = self.get(x)?;
                let slot = self.regs.new_slot(Type::V128);
                let mem = Registers::slot_mem(slot);
                self.asm.store(mem, 16, vector)?;
                let part = super::encode::Mem {
                    disp: mem.disp + i32::from(lane) * bytes as i32,
                    ..mem
                };
                self.asm.store(part, bytes, x)?;
                let r = self.def(i)?;
                self.regs.free_slot(slot, Type::V128);
                Ok(self.asm.load(r, 16, mem)?)
            }
        }
    }

    fn widen(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let x = op.args[0];
        match op.ty {
            Type::F64 => {
                let from = self.get(x)?;
                let r = self.def(i)?;
                Ok(self.asm.ins(Ins::sse(0xf3, 0x7e), r.number(), from.into(), &[])?) // movq
            }
            Type::F32 => {
                let from = self.get(x)?;
                let r = self.def(i)?;
                self.asm.ins(Ins::of(0x57), r.number(), r.into(), &[])?;
                Ok(self.asm.ins(Ins::sse(0xf3, 0x10), r.number(), from.into(), &[])?) // movss
            }
            Type::I32 | Type::I64 => {
                let from = self.get(x)?;
                let r = self.def(i)?;
                let ins = Ins::sse(0x66, 0x6e).w(op.ty == Type::I64);
                Ok(self.asm.ins(ins, r.number(), from.into(), &[])?)
            }
            _ => {
                let from = self.extended(x, op.ty.bytes(), false)?;
                let r = self.def(i)?;
                Ok(self.asm.ins(Ins::sse(0x66, 0x6e), r.number(), from.into(), &[])?)
            }
        }
    }

    /// A register other than the one that `value` may give to the result.
    pub(super) fn vector_apart(&mut self, value: Value, r: R) -> Result<R, LowerError> {
        if self.ends_in(value) != Some(r) {
            return Ok(r);
        }
        let other = self.temporary(true)?;
        self.asm.mov(other, r)?;
        Ok(other)
    }
}
