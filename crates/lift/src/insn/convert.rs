//! Conversions between integers and floating point, and between precisions.

use iced_x86::{Instruction, Mnemonic, OpKind};
use redmagic_ir::{Opcode, Type};

use super::sse_move::{first_source, read_scalar, read_vector, write_vector};
use super::{Row, Rule};
use crate::lifter::{Lifted, Lifter, NotModelled};

pub(super) const ROWS: &[Row] = &[
    (Mnemonic::Cvtsi2ss, Rule::Fn(from_int)),
    (Mnemonic::Cvtsi2sd, Rule::Fn(from_int)),
    (Mnemonic::Vcvtsi2ss, Rule::Fn(from_int)),
    (Mnemonic::Vcvtsi2sd, Rule::Fn(from_int)),
    (Mnemonic::Cvtss2si, Rule::Op(to_int, Opcode::FToInt)),
    (Mnemonic::Cvtsd2si, Rule::Op(to_int, Opcode::FToInt)),
    (Mnemonic::Vcvtss2si, Rule::Op(to_int, Opcode::FToInt)),
    (Mnemonic::Vcvtsd2si, Rule::Op(to_int, Opcode::FToInt)),
    (Mnemonic::Cvttss2si, Rule::Op(to_int, Opcode::FToIntZ)),
    (Mnemonic::Cvttsd2si, Rule::Op(to_int, Opcode::FToIntZ)),
    (Mnemonic::Vcvttss2si, Rule::Op(to_int, Opcode::FToIntZ)),
    (Mnemonic::Vcvttsd2si, Rule::Op(to_int, Opcode::FToIntZ)),
    (Mnemonic::Cvtss2sd, Rule::Fn(precision)),
    (Mnemonic::Cvtsd2ss, Rule::Fn(precision)),
    (Mnemonic::Vcvtss2sd, Rule::Fn(precision)),
    (Mnemonic::Vcvtsd2ss, Rule::Fn(precision)),
];

/// Lane 0 is converted, the rest comes from the first source.
fn from_int(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let to = match instruction.mnemonic() {
        Mnemonic::Cvtsi2sd | Mnemonic::Vcvtsi2sd => Type::F64,
        _ => Type::F32,
    };
    let first = first_source(instruction, 3);
    let from = lifter.ty(instruction, first + 1)?;
    let rest = read_vector(lifter, instruction, first, false)?;
    let x = lifter.operand(instruction, first + 1, from)?;
    let r = lifter.b.int_to_f(to, x);
    let v = lifter.b.insert(to, rest, r, 0);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn to_int(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let from = match instruction.mnemonic() {
        Mnemonic::Cvtsd2si | Mnemonic::Vcvtsd2si | Mnemonic::Cvttsd2si | Mnemonic::Vcvttsd2si => Type::F64,
        _ => Type::F32,
    };
    if instruction.op0_kind() != OpKind::Register {
        return Err(NotModelled);
    }
    let to = lifter.ty(instruction, 0)?;
    let x = read_scalar(lifter, instruction, 1, from)?;
    let r = lifter.b.push_op(op, to, 0, &[x]);
    lifter.result(instruction, 0, to, r)
}

fn precision(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let (from, to) = match instruction.mnemonic() {
        Mnemonic::Cvtss2sd | Mnemonic::Vcvtss2sd => (Type::F32, Type::F64),
        _ => (Type::F64, Type::F32),
    };
    let first = first_source(instruction, 3);
    let rest = read_vector(lifter, instruction, first, false)?;
    let x = read_scalar(lifter, instruction, first + 1, from)?;
    let r = lifter.b.fcvt(to, x);
    let v = lifter.b.insert(to, rest, r, 0);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}
