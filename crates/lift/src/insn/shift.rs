//! Shifts and rotates, with and without flags.
//!
//! A count that masks to 0 leaves all flags as they were, and so the previous flags are an operand of the new ones.
//! When the count is a constant other than that, they are not read, and the operand is a constant.

use iced_x86::{Instruction, Mnemonic};
use redmagic_ir::{Opcode, Reg, Type, Value, flags};

use super::{Row, Rule};
use crate::lifter::{Flow, Lifted, Lifter, NotModelled};

pub(super) const ROWS: &[Row] = &[
    (Mnemonic::Shl, Rule::Op(shift, Opcode::Shl)),
    (Mnemonic::Sal, Rule::Op(shift, Opcode::Shl)),
    (Mnemonic::Shr, Rule::Op(shift, Opcode::Shr)),
    (Mnemonic::Sar, Rule::Op(shift, Opcode::Sar)),
    (Mnemonic::Rol, Rule::Op(shift, Opcode::Rol)),
    (Mnemonic::Ror, Rule::Op(shift, Opcode::Ror)),
    (Mnemonic::Rcl, Rule::Op(rotate_carry, Opcode::Rcl)),
    (Mnemonic::Rcr, Rule::Op(rotate_carry, Opcode::Rcr)),
    (Mnemonic::Shld, Rule::Op(double, Opcode::Shld)),
    (Mnemonic::Shrd, Rule::Op(double, Opcode::Shrd)),
    (Mnemonic::Shlx, Rule::Op(flagless, Opcode::Shl)),
    (Mnemonic::Shrx, Rule::Op(flagless, Opcode::Shr)),
    (Mnemonic::Sarx, Rule::Op(flagless, Opcode::Sar)),
    (Mnemonic::Rorx, Rule::Op(flagless, Opcode::Ror)),
];

/// The count's operand, an i8, and its masked value if it is constant.
fn count_of(
    lifter: &mut Lifter,
    instruction: &Instruction,
    i: u32,
    ty: Type,
) -> Result<(Value, Option<u32>), NotModelled> {
    let n = lifter.operand(instruction, i, Type::I8)?;
    let constant = lifter.b.trace().constant(n);
    Ok((n, constant.map(|n| flags::masked_count(ty.bits(), n as u64))))
}

fn shift(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let place = lifter.place(instruction, 0)?;
    let (n, constant) = count_of(lifter, instruction, 1, ty)?;
    let a = lifter.get_place(place, ty)?;
    let r = lifter.b.push_op(op, ty, 0, &[a, n]);
    lifter.put_place(place, ty, r)?;
    if constant == Some(0) {
        return Ok(Flow::Next);
    }
    let rotates = matches!(op, Opcode::Rol | Opcode::Ror);
    let previous = if constant.is_some() && !rotates {
        lifter.b.int(Type::Flags, 0)
    } else {
        lifter.reg(Reg::FLAGS)
    };
    let flags = match op {
        Opcode::Shl => lifter.b.flags_shl(ty, a, n, previous),
        Opcode::Shr => lifter.b.flags_shr(ty, a, n, previous),
        Opcode::Sar => lifter.b.flags_sar(ty, a, n, previous),
        Opcode::Rol => lifter.b.flags_rol(ty, a, n, previous),
        _ => lifter.b.flags_ror(ty, a, n, previous),
    };
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn rotate_carry(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let place = lifter.place(instruction, 0)?;
    let (n, _) = count_of(lifter, instruction, 1, ty)?;
    let a = lifter.get_place(place, ty)?;
    let previous = lifter.reg(Reg::FLAGS);
    let carry = lifter.carry();
    let r = lifter.b.push_op(op, ty, 0, &[a, n, carry]);
    lifter.put_place(place, ty, r)?;
    let flags = if op == Opcode::Rcl {
        lifter.b.flags_rcl(ty, a, n, previous)
    } else {
        lifter.b.flags_rcr(ty, a, n, previous)
    };
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn double(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    if ty == Type::I16 {
        // A count above 16 gives an undefined result.
        return Err(NotModelled);
    }
    let place = lifter.place(instruction, 0)?;
    let (n, constant) = count_of(lifter, instruction, 2, ty)?;
    let a = lifter.get_place(place, ty)?;
    let b = lifter.operand(instruction, 1, ty)?;
    let r = lifter.b.push_op(op, ty, 0, &[a, b, n]);
    lifter.put_place(place, ty, r)?;
    if constant == Some(0) {
        return Ok(Flow::Next);
    }
    let previous = if constant.is_some() {
        lifter.b.int(Type::Flags, 0)
    } else {
        lifter.reg(Reg::FLAGS)
    };
    let flags = if op == Opcode::Shld {
        lifter.b.flags_shld(ty, a, b, n, previous)
    } else {
        lifter.b.flags_shrd(ty, a, b, n, previous)
    };
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn flagless(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let a = lifter.operand(instruction, 1, ty)?;
    let n = if op == Opcode::Ror {
        lifter.operand(instruction, 2, Type::I8)?
    } else {
        let n = lifter.operand(instruction, 2, ty)?;
        lifter.b.trunc(Type::I8, n)
    };
    let r = lifter.b.push_op(op, ty, 0, &[a, n]);
    lifter.result(instruction, 0, ty, r)
}
