//! Loads, stores, atomics.

use redmagic_ir::{Op, Opcode, Type, Value};

use super::encode::{Ins, Mem, R};
use super::{Lower, LowerError};

impl Lower<'_> {
    pub(super) fn memory(&mut self, i: usize, op: &Op) -> Result<bool, LowerError> {
        use Opcode as O;
        match op.code {
            O::Load => self.load(i, op)?,
            O::Store => {
                let addr = op.addr().expect("a store");
                let mem = self.address(&addr)?;
                if let Some(update) = self.plan.updates[i] {
                    match self.imm(update.operand, op.ty.bytes()) {
                        Some(imm) => self.asm.alu_imm(update.kind, op.ty.bytes(), mem.into(), imm)?,
                        None => {
                            let r = self.get(update.operand)?;
                            self.asm.alu_store(update.kind, op.ty.bytes(), mem, r)?;
                        }
                    }
                } else if op.ty == Type::V128 && addr.flags.aligned() {
                    let r = self.get(op.args[0])?;
                    self.asm.ins(Ins::of(0x29), r.number(), mem.into(), &[])?; // movaps
                } else {
                    self.store_value(op.args[0], op.ty.bytes(), mem)?;
                }
            }
            O::Lea => {
                let addr = op.addr().expect("a lea");
                let mem = self.address(&addr)?;
                let r = self.def_over(i, &op.args[..2])?;
                self.asm.lea(r, 8, mem)?;
            }
            O::AtomicXchg => {
                let mem = Mem::base(self.get(op.args[0])?, 0);
                let r = self.def_copy(i, op.args[1])?;
                self.asm
                    .ins(Ins::new(0x87).sized(op.ty.bytes()), r.number(), mem.into(), &[])?;
            }
            O::AtomicAdd => {
                let mem = Mem::base(self.get(op.args[0])?, 0);
                let r = self.def_copy(i, op.args[1])?;
                self.asm.bytes(&[0xf0]);
                self.asm
                    .ins(Ins::of(0xc1).sized(op.ty.bytes()), r.number(), mem.into(), &[])?;
            }
            O::AtomicCas => self.compare_and_swap(i, op)?,
            O::AtomicAnd | O::AtomicOr | O::AtomicXor => self.atomic_logic(i, op)?,
            O::RepStos | O::RepMovs | O::RepCmps | O::RepScas => self.string(i, op)?,
            O::Fence => self.asm.bytes(&[0x0f, 0xae, 0xc0 | op.imm << 3]),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn load(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let addr = op.addr().expect("a load");
        let mem = self.address(&addr)?;
        let r = self.def_over(i, &op.args[..2])?;
        if op.ty == Type::V128 && addr.flags.aligned() {
            self.asm.ins(Ins::of(0x28), r.number(), mem.into(), &[])?; // movaps
        } else {
            self.asm.load(r, op.ty.bytes(), mem)?;
        }
        Ok(())
    }

    /// Stores a value, as an immediate if it can be one.
    pub(super) fn store_value(&mut self, value: Value, bytes: u32, mem: Mem) -> Result<(), LowerError> {
        let float = matches!(self.trace.type_of(value), Type::F32 | Type::F64 | Type::V128);
        match self.imm(value, bytes) {
            Some(imm) if bytes <= 8 && (!float || bytes == 4) => self.asm.store_imm(mem, bytes, imm)?,
            Some(0) if bytes == 8 => self.asm.store_imm(mem, 8, 0)?,
            _ => {
                let r = self.get(value)?;
                self.asm.store(mem, bytes, r)?;
            }
        }
        Ok(())
    }

    fn compare_and_swap(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        self.put(R::RAX, op.args[1], &[op.args[0], op.args[2]])?;
        let addr = self.get(op.args[0])?;
        let new = self.get(op.args[2])?;
        self.asm.bytes(&[0xf0]); // lock cmpxchg
        let ins = Ins::of(0xb1).sized(op.ty.bytes());
        self.asm.ins(ins, new.number(), Mem::base(addr, 0).into(), &[])?;
        self.define_fixed(i, R::RAX)
    }

    /// A loop around `cmpxchg`, as compilers write it when the old value is wanted.
    fn atomic_logic(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        let size = op.ty.bytes();
        self.claim(R::RAX)?;
        let addr = self.get(op.args[0])?;
        let value = self.get(op.args[1])?;
        let new = self.temporary(false)?;
        let mem = Mem::base(addr, 0);
        self.asm.load(R::RAX, size, mem)?;
        let again = self.asm.label();
        self.asm.bind(again);
        self.asm.mov(new, R::RAX)?;
        let kind = match op.code {
            Opcode::AtomicAnd => super::encode::Alu::And,
            Opcode::AtomicOr => super::encode::Alu::Or,
            _ => super::encode::Alu::Xor,
        };
        self.asm.alu(kind, size.max(4), new, value.into())?;
        self.asm.bytes(&[0xf0]);
        self.asm.ins(Ins::of(0xb1).sized(size), new.number(), mem.into(), &[])?;
        self.asm.jcc(crate::asm::cond::NE, again);
        self.define_fixed(i, R::RAX)
    }

    /// Repeated string operations, upwards: the direction flag is clear, as the C ABI says, when the step is the size.
    fn string(&mut self, i: usize, op: &Op) -> Result<(), LowerError> {
        use Opcode as O;
        const RSI: R = R(6);
        const RDI: R = R(7);
        let size = op.ty.bytes();
        if self.bits(op.args[3]) != Some(size.into()) {
            return Err(self.unsupported("the direction is not known"));
        }
        let (first, second, opcode) = match op.code {
            O::RepStos => (RDI, R::RAX, 0xab),
            O::RepMovs => (RDI, RSI, 0xa5),
            O::RepCmps => (RSI, RDI, 0xa7),
            _ => (R::RAX, RDI, 0xaf),
        };
        let compares = matches!(op.code, O::RepCmps | O::RepScas);
        if compares {
            // When nothing is compared, all flags are 0. From here on there are only moves.
            self.asm.bytes(&[0x6a, 0, 0x9d]); // push 0; popfq
        }
        self.put(first, op.args[0], &op.args[1..3])?;
        self.put(second, op.args[1], &op.args[2..3])?;
        self.put(R::RCX, op.args[2], &[])?;
        if size == 2 {
            self.asm.bytes(&[0x66]);
        }
        self.asm.bytes(&[if compares && op.imm == 1 { 0xf2 } else { 0xf3 }]);
        if size == 8 {
            self.asm.bytes(&[0x48]);
        }
        self.asm.bytes(&[if size == 1 { opcode & !1 } else { opcode }]);
        if compares {
            for r in [first, second, R::RCX] {
                self.regs.drop_register(r);
            }
            self.take_results(i);
            self.take_flags(i)?;
        }
        Ok(())
    }

    /// The result of operation `i` is in this register, which was claimed.
    pub(super) fn define_fixed(&mut self, i: usize, r: R) -> Result<(), LowerError> {
        // Operands that were in it and still live have been moved; what holds it now is temporary.
        self.regs.drop_register(r);
        self.define(i, r);
        Ok(())
    }
}
