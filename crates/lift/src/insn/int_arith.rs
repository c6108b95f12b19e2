//! add, sub, adc, sbb, cmp, and, or, xor, test, inc, dec, neg, not; with `lock` where an atomic operation does it.

use iced_x86::{Instruction, Mnemonic};
use redmagic_ir::{Opcode, Reg, Type, Value};

use super::{Row, Rule};
use crate::lifter::{Flow, Lifted, Lifter, NotModelled, Place};

pub(super) const ROWS: &[Row] = &[
    (Mnemonic::Add, Rule::Op(binary, Opcode::Add)),
    (Mnemonic::Sub, Rule::Op(binary, Opcode::Sub)),
    (Mnemonic::And, Rule::Op(binary, Opcode::And)),
    (Mnemonic::Or, Rule::Op(binary, Opcode::Or)),
    (Mnemonic::Xor, Rule::Op(binary, Opcode::Xor)),
    (Mnemonic::Adc, Rule::Op(with_carry, Opcode::Adc)),
    (Mnemonic::Sbb, Rule::Op(with_carry, Opcode::Sbb)),
    (Mnemonic::Cmp, Rule::Op(compare, Opcode::Sub)),
    (Mnemonic::Test, Rule::Op(compare, Opcode::And)),
    (Mnemonic::Inc, Rule::Op(count, Opcode::Add)),
    (Mnemonic::Dec, Rule::Op(count, Opcode::Sub)),
    (Mnemonic::Neg, Rule::Fn(neg)),
    (Mnemonic::Not, Rule::Fn(not)),
];

fn apply(lifter: &mut Lifter, op: Opcode, ty: Type, a: Value, b: Value) -> (Value, Value) {
    let r = lifter.b.push_op(op, ty, 0, &[a, b]);
    let flags = match op {
        Opcode::Add => lifter.b.flags_add(ty, a, b),
        Opcode::Sub => lifter.b.flags_sub(ty, a, b),
        _ => lifter.b.flags_logic(ty, r),
    };
    (r, flags)
}

fn binary(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let place = lifter.place(instruction, 0)?;
    if let (true, Place::Memory(addr)) = (instruction.has_lock_prefix(), place) {
        let b = lifter.operand(instruction, 1, ty)?;
        let addr = lifter.linear(addr);
        let old = match op {
            Opcode::Sub => {
                let negated = lifter.b.neg(ty, b);
                lifter.b.atomic_add(ty, addr, negated)
            }
            Opcode::Add => lifter.b.atomic_add(ty, addr, b),
            Opcode::And => lifter.b.atomic_and(ty, addr, b),
            Opcode::Or => lifter.b.atomic_or(ty, addr, b),
            _ => lifter.b.atomic_xor(ty, addr, b),
        };
        let (_, flags) = apply(lifter, op, ty, old, b);
        lifter.set_flags(flags);
        return Ok(Flow::Next);
    }
    // `xor r, r` and `sub r, r` are how compilers write 0: nothing is read.
    let same = matches!(op, Opcode::Xor | Opcode::Sub)
        && matches!(place, Place::Register(register) if register == instruction.op1_register());
    let (r, flags) = if same {
        let zero = lifter.b.int(ty, 0);
        let flags = match op {
            Opcode::Sub => lifter.b.flags_sub(ty, zero, zero),
            _ => lifter.b.flags_logic(ty, zero),
        };
        (zero, flags)
    } else {
        let a = lifter.get_place(place, ty)?;
        let b = lifter.operand(instruction, 1, ty)?;
        apply(lifter, op, ty, a, b)
    };
    lifter.put_place(place, ty, r)?;
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn with_carry(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    if instruction.has_lock_prefix() {
        return Err(NotModelled);
    }
    let ty = lifter.ty(instruction, 0)?;
    let place = lifter.place(instruction, 0)?;
    let a = lifter.get_place(place, ty)?;
    let b = lifter.operand(instruction, 1, ty)?;
    let carry = lifter.carry();
    let (r, flags) = if op == Opcode::Adc {
        (lifter.b.adc(ty, a, b, carry), lifter.b.flags_adc(ty, a, b, carry))
    } else {
        (lifter.b.sbb(ty, a, b, carry), lifter.b.flags_sbb(ty, a, b, carry))
    };
    lifter.put_place(place, ty, r)?;
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn compare(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let a = lifter.operand(instruction, 0, ty)?;
    let b = lifter.operand(instruction, 1, ty)?;
    let flags = if op == Opcode::Sub {
        lifter.b.flags_sub(ty, a, b)
    } else {
        let r = lifter.b.and(ty, a, b);
        lifter.b.flags_logic(ty, r)
    };
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn count(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let place = lifter.place(instruction, 0)?;
    let one = lifter.b.int(ty, 1);
    let previous = lifter.reg(Reg::FLAGS);
    let old = match (instruction.has_lock_prefix(), place) {
        (true, Place::Memory(addr)) => {
            let addr = lifter.linear(addr);
            let by = lifter.b.int(ty, if op == Opcode::Add { 1 } else { u64::MAX });
            lifter.b.atomic_add(ty, addr, by)
        }
        _ => {
            let old = lifter.get_place(place, ty)?;
            let r = lifter.b.push_op(op, ty, 0, &[old, one]);
            lifter.put_place(place, ty, r)?;
            old
        }
    };
    let flags = if op == Opcode::Add {
        lifter.b.flags_inc(ty, old, previous)
    } else {
        lifter.b.flags_dec(ty, old, previous)
    };
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn neg(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    if instruction.has_lock_prefix() {
        return Err(NotModelled);
    }
    let ty = lifter.ty(instruction, 0)?;
    let place = lifter.place(instruction, 0)?;
    let a = lifter.get_place(place, ty)?;
    let zero = lifter.b.int(ty, 0);
    let r = lifter.b.neg(ty, a);
    let flags = lifter.b.flags_sub(ty, zero, a);
    lifter.put_place(place, ty, r)?;
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn not(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    if instruction.has_lock_prefix() {
        return Err(NotModelled);
    }
    let ty = lifter.ty(instruction, 0)?;
    let place = lifter.place(instruction, 0)?;
    let a = lifter.get_place(place, ty)?;
    let r = lifter.b.not(ty, a);
    lifter.put_place(place, ty, r)?;
    Ok(Flow::Next)
}
