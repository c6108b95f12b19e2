//! Bit tests, scans and counts; BMI, ADX, CRC-32C.

use iced_x86::{Instruction, Mnemonic, OpKind};
use redmagic_ir::{Cond, Opcode, Reg, Type, Value};

use super::{Row, Rule};
use crate::lifter::{Flow, Lifted, Lifter, NotModelled, Place};

pub(super) const ROWS: &[Row] = &[
    (Mnemonic::Bt, Rule::Op(test, Opcode::Load)),
    (Mnemonic::Bts, Rule::Op(test, Opcode::Or)),
    (Mnemonic::Btr, Rule::Op(test, Opcode::And)),
    (Mnemonic::Btc, Rule::Op(test, Opcode::Xor)),
    (Mnemonic::Bsf, Rule::Op(scan, Opcode::Tzcnt)),
    (Mnemonic::Bsr, Rule::Op(scan, Opcode::Lzcnt)),
    (Mnemonic::Popcnt, Rule::Op(count, Opcode::Popcnt)),
    (Mnemonic::Tzcnt, Rule::Op(count, Opcode::Tzcnt)),
    (Mnemonic::Lzcnt, Rule::Op(count, Opcode::Lzcnt)),
    (Mnemonic::Andn, Rule::Fn(andn)),
    (Mnemonic::Bextr, Rule::Fn(bextr)),
    (Mnemonic::Bzhi, Rule::Fn(bzhi)),
    (Mnemonic::Blsi, Rule::Op(lowest, Opcode::Neg)),
    (Mnemonic::Blsr, Rule::Op(lowest, Opcode::And)),
    (Mnemonic::Blsmsk, Rule::Op(lowest, Opcode::Xor)),
    (Mnemonic::Pdep, Rule::Op(scatter, Opcode::Pdep)),
    (Mnemonic::Pext, Rule::Op(scatter, Opcode::Pext)),
    (Mnemonic::Adcx, Rule::Op(add_carry, Opcode::FlagsSetC)),
    (Mnemonic::Adox, Rule::Op(add_carry, Opcode::FlagsSetO)),
    (Mnemonic::Crc32, Rule::Fn(crc32)),
];

/// bt, bts, btr, btc. With a memory operand and a bit number in a register, the number reaches beyond the operand: its
/// upper bits, signed, select the word.
fn test(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    if instruction.has_lock_prefix() {
        return Err(NotModelled);
    }
    let ty = lifter.ty(instruction, 0)?;
    let bits = u64::from(ty.bits());
    let mut place = lifter.place(instruction, 0)?;
    let by_register = instruction.op1_kind() == OpKind::Register;
    let n = if by_register {
        let n = lifter.operand(instruction, 1, ty)?;
        if let Place::Memory(addr) = place {
            if instruction.memory_base().is_gpr32() || instruction.memory_index().is_gpr32() {
                // An address-size prefix: the sum with the word's offset is cut to 32 bits.
                return Err(NotModelled);
            }
            let wide = if ty == Type::I64 {
                n
            } else {
                lifter.b.sext(Type::I64, n)
            };
            let shift = lifter.b.int(Type::I8, u64::from(bits.trailing_zeros()));
            let word = lifter.b.sar(Type::I64, wide, shift);
            let scale = lifter.b.int(Type::I8, u64::from((bits / 8).trailing_zeros()));
            let bytes = lifter.b.shl(Type::I64, word, scale);
            let start = lifter.linear(addr);
            let moved = lifter.b.add(Type::I64, start, bytes);
            place = Place::Memory(redmagic_ir::Addr::base(moved, 0));
        }
        lifter.b.trunc(Type::I8, n)
    } else {
        lifter.b.int(Type::I8, u64::from(instruction.immediate8()))
    };
    let mask = lifter.b.int(Type::I8, bits - 1);
    let n = lifter.b.and(Type::I8, n, mask);
    let a = lifter.get_place(place, ty)?;
    let previous = lifter.reg(Reg::FLAGS);
    if op != Opcode::Load {
        let one = lifter.b.int(ty, 1);
        let mut bit = lifter.b.shl(ty, one, n);
        if op == Opcode::And {
            bit = lifter.b.not(ty, bit);
        }
        let r = lifter.b.push_op(op, ty, 0, &[a, bit]);
        lifter.put_place(place, ty, r)?;
    }
    let flags = lifter.b.flags_bt(ty, a, n, previous);
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

/// bsf, bsr: the destination keeps its value when the source is 0. AMD documents that; Intel calls it undefined and does
/// the same. A 32-bit destination then keeps all 64 bits.
fn scan(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let a = lifter.operand(instruction, 1, ty)?;
    let flags = lifter.b.flags_bsf(ty, a);
    let zero = lifter.b.cond(Cond::E, flags);
    let mut r = lifter.b.push_op(op, ty, 0, &[a]);
    if op == Opcode::Lzcnt {
        let top = lifter.b.int(ty, u64::from(ty.bits()) - 1);
        r = lifter.b.xor(ty, r, top);
    }
    let register = instruction.op0_register();
    let full = crate::lifter::gpr(register)?;
    let old = lifter.reg(full);
    lifter.write(register, r)?;
    let new = lifter.reg(full);
    let kept = lifter.b.select(Type::I64, zero, old, new);
    lifter.set(full, kept);
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn count(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let a = lifter.operand(instruction, 1, ty)?;
    let r = lifter.b.push_op(op, ty, 0, &[a]);
    let flags = if op == Opcode::Popcnt {
        lifter.b.flags_popcnt(ty, a)
    } else {
        lifter.b.flags_count(ty, a, r)
    };
    lifter.set_flags(flags);
    lifter.result(instruction, 0, ty, r)
}

/// The flags of a BMI result with this carry.
fn bmi_flags(lifter: &mut Lifter, ty: Type, r: Value, carry: Value) {
    let flags = lifter.b.flags_bmi(ty, r, carry);
    lifter.set_flags(flags);
}

fn andn(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let a = lifter.operand(instruction, 1, ty)?;
    let b = lifter.operand(instruction, 2, ty)?;
    let inverted = lifter.b.not(ty, a);
    let r = lifter.b.and(ty, inverted, b);
    let no = lifter.b.int(Type::I1, 0);
    bmi_flags(lifter, ty, r, no);
    lifter.result(instruction, 0, ty, r)
}

fn bextr(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let a = lifter.operand(instruction, 1, ty)?;
    let control = lifter.operand(instruction, 2, ty)?;
    let r = lifter.b.bextr(ty, a, control);
    let flags = lifter.b.flags_bextr(ty, r);
    lifter.set_flags(flags);
    lifter.result(instruction, 0, ty, r)
}

fn bzhi(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let a = lifter.operand(instruction, 1, ty)?;
    let n = lifter.operand(instruction, 2, ty)?;
    let r = lifter.b.bzhi(ty, a, n);
    // CF: the index, 8 bits, is beyond the last bit.
    let low = lifter.b.trunc(Type::I8, n);
    let last = lifter.b.int(Type::I8, u64::from(ty.bits()) - 1);
    let compared = lifter.b.flags_sub(Type::I8, last, low);
    let carry = lifter.b.cond(Cond::B, compared);
    bmi_flags(lifter, ty, r, carry);
    lifter.result(instruction, 0, ty, r)
}

/// blsi, blsr, blsmsk: CF says whether the source is 0, for blsi whether it is not.
fn lowest(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let a = lifter.operand(instruction, 1, ty)?;
    let compared = lifter.b.flags_logic(ty, a);
    let (r, cond) = if op == Opcode::Neg {
        let negated = lifter.b.neg(ty, a);
        (lifter.b.and(ty, a, negated), Cond::NE)
    } else {
        let one = lifter.b.int(ty, 1);
        let less = lifter.b.sub(ty, a, one);
        (lifter.b.push_op(op, ty, 0, &[a, less]), Cond::E)
    };
    let carry = lifter.b.cond(cond, compared);
    bmi_flags(lifter, ty, r, carry);
    lifter.result(instruction, 0, ty, r)
}

fn scatter(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let a = lifter.operand(instruction, 1, ty)?;
    let mask = lifter.operand(instruction, 2, ty)?;
    let r = lifter.b.push_op(op, ty, 0, &[a, mask]);
    lifter.result(instruction, 0, ty, r)
}

/// adcx, adox: carry in and out in CF, or in OF.
fn add_carry(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let a = lifter.operand(instruction, 0, ty)?;
    let b = lifter.operand(instruction, 1, ty)?;
    let previous = lifter.reg(Reg::FLAGS);
    let which = if op == Opcode::FlagsSetC { Cond::B } else { Cond::O };
    let carry = lifter.b.cond(which, previous);
    let r = lifter.b.adc(ty, a, b, carry);
    let sum = lifter.b.flags_adc(ty, a, b, carry);
    let out = lifter.b.cond(Cond::B, sum);
    let flags = lifter.b.push_op(op, Type::Void, 0, &[out, previous]);
    lifter.set_flags(flags);
    lifter.result(instruction, 0, ty, r)
}

fn crc32(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lifter.ty(instruction, 1)?;
    let data = lifter.operand(instruction, 1, ty)?;
    let full = crate::lifter::gpr(instruction.op0_register())?;
    let old = lifter.reg(full);
    let acc = lifter.b.trunc(Type::I32, old);
    let r = lifter.b.crc32(ty, acc, data);
    let r = lifter.b.zext(Type::I64, r);
    lifter.set(full, r);
    Ok(Flow::Next)
}
