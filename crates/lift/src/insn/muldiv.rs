//! mul, imul, mulx, div, idiv.

use iced_x86::{Instruction, Mnemonic, Register};
use redmagic_ir::{Opcode, Reg, Type, Value};

use super::{Row, Rule};
use crate::lifter::{Flow, Lifted, Lifter, NotModelled};

pub(super) const ROWS: &[Row] = &[
    (Mnemonic::Mul, Rule::Op(wide, Opcode::MulHiU)),
    (Mnemonic::Imul, Rule::Fn(imul)),
    (Mnemonic::Mulx, Rule::Fn(mulx)),
    (Mnemonic::Div, Rule::Op(divide, Opcode::DivU)),
    (Mnemonic::Idiv, Rule::Op(divide, Opcode::DivS)),
];

/// The registers of the low and the high half of a double-width value.
fn halves(ty: Type) -> (Register, Register) {
    match ty {
        Type::I8 => (Register::AL, Register::AH),
        Type::I16 => (Register::AX, Register::DX),
        Type::I32 => (Register::EAX, Register::EDX),
        _ => (Register::RAX, Register::RDX),
    }
}

/// One operand: `hi:lo = accumulator * operand`.
fn wide(lifter: &mut Lifter, instruction: &Instruction, high: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let b = lifter.operand(instruction, 0, ty)?;
    let (low_register, high_register) = halves(ty);
    let a = lifter.read(low_register)?;
    let low = lifter.b.mul(ty, a, b);
    let hi = lifter.b.push_op(high, ty, 0, &[a, b]);
    let flags = if high == Opcode::MulHiU {
        lifter.b.flags_mul_u(ty, a, b)
    } else {
        lifter.b.flags_mul_s(ty, a, b)
    };
    lifter.write(low_register, low)?;
    lifter.write(high_register, hi)?;
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn imul(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let count = instruction.op_count();
    if count == 1 {
        return wide(lifter, instruction, Opcode::MulHiS);
    }
    let ty = lifter.ty(instruction, 0)?;
    let a = lifter.operand(instruction, count - 2, ty)?;
    let b = lifter.operand(instruction, count - 1, ty)?;
    let r = lifter.b.mul(ty, a, b);
    let flags = lifter.b.flags_mul_s(ty, a, b);
    lifter.set_flags(flags);
    lifter.result(instruction, 0, ty, r)
}

/// `mulx hi, lo, src`: the other factor is rdx. When both are one register, it gets the high half.
fn mulx(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let a = lifter.read(halves(ty).1)?;
    let b = lifter.operand(instruction, 2, ty)?;
    let low = lifter.b.mul(ty, a, b);
    let high = lifter.b.mulhi_u(ty, a, b);
    lifter.write(instruction.op1_register(), low)?;
    lifter.write(instruction.op0_register(), high)?;
    Ok(Flow::Next)
}

fn divide(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let d = lifter.operand(instruction, 0, ty)?;
    let (low_register, high_register) = halves(ty);
    let lo: Value = lifter.read(low_register)?;
    let hi = lifter.read(high_register).map_err(|_| NotModelled)?;
    let remainder = if op == Opcode::DivU { Opcode::RemU } else { Opcode::RemS };
    let q = lifter.b.push_op(op, ty, 0, &[hi, lo, d]);
    let r = lifter.b.push_op(remainder, ty, 0, &[hi, lo, d]);
    lifter.write(low_register, q)?;
    lifter.write(high_register, r)?;
    let previous = lifter.reg(Reg::FLAGS);
    let flags = lifter.b.flags_undef(previous);
    lifter.set_flags(flags);
    Ok(Flow::Next)
}
