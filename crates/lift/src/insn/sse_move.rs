//! Moves of vector registers, whole and in parts, with what the families of vector instructions share.
//!
//! A 256-bit form is left to `native`. An SSE form leaves the upper half of its destination's ymm register alone, a VEX
//! form zeroes it; and only SSE forms demand aligned memory operands.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use redmagic_ir::{Opcode, Reg, Type, Value};

use super::{Row, Rule};
use crate::lifter::{Flow, Lifted, Lifter, NotModelled, is_vex};

pub(super) const ROWS: &[Row] = &[
    (Mnemonic::Movaps, Rule::Fn(aligned)),
    (Mnemonic::Movapd, Rule::Fn(aligned)),
    (Mnemonic::Movdqa, Rule::Fn(aligned)),
    (Mnemonic::Movntps, Rule::Fn(aligned)),
    (Mnemonic::Movntpd, Rule::Fn(aligned)),
    (Mnemonic::Movntdq, Rule::Fn(aligned)),
    (Mnemonic::Movntdqa, Rule::Fn(aligned)),
    (Mnemonic::Movups, Rule::Fn(unaligned)),
    (Mnemonic::Movupd, Rule::Fn(unaligned)),
    (Mnemonic::Movdqu, Rule::Fn(unaligned)),
    (Mnemonic::Lddqu, Rule::Fn(unaligned)),
    (Mnemonic::Vmovaps, Rule::Fn(aligned)),
    (Mnemonic::Vmovapd, Rule::Fn(aligned)),
    (Mnemonic::Vmovdqa, Rule::Fn(aligned)),
    (Mnemonic::Vmovntps, Rule::Fn(aligned)),
    (Mnemonic::Vmovntpd, Rule::Fn(aligned)),
    (Mnemonic::Vmovntdq, Rule::Fn(aligned)),
    (Mnemonic::Vmovntdqa, Rule::Fn(aligned)),
    (Mnemonic::Vmovups, Rule::Fn(unaligned)),
    (Mnemonic::Vmovupd, Rule::Fn(unaligned)),
    (Mnemonic::Vmovdqu, Rule::Fn(unaligned)),
    (Mnemonic::Vlddqu, Rule::Fn(unaligned)),
    (Mnemonic::Movss, Rule::Fn(movss)),
    (Mnemonic::Vmovss, Rule::Fn(movss)),
    (Mnemonic::Vmovsd, Rule::Fn(movsd)),
    (Mnemonic::Movd, Rule::Fn(movd)),
    (Mnemonic::Movq, Rule::Fn(movd)),
    (Mnemonic::Vmovd, Rule::Fn(movd)),
    (Mnemonic::Vmovq, Rule::Fn(movd)),
    (Mnemonic::Movlps, Rule::Fn(low_half)),
    (Mnemonic::Movlpd, Rule::Fn(low_half)),
    (Mnemonic::Vmovlps, Rule::Fn(low_half)),
    (Mnemonic::Vmovlpd, Rule::Fn(low_half)),
    (Mnemonic::Movhps, Rule::Fn(high_half)),
    (Mnemonic::Movhpd, Rule::Fn(high_half)),
    (Mnemonic::Vmovhps, Rule::Fn(high_half)),
    (Mnemonic::Vmovhpd, Rule::Fn(high_half)),
    (Mnemonic::Movhlps, Rule::Fn(high_to_low)),
    (Mnemonic::Vmovhlps, Rule::Fn(high_to_low)),
    (Mnemonic::Movlhps, Rule::Fn(low_to_high)),
    (Mnemonic::Vmovlhps, Rule::Fn(low_to_high)),
    (Mnemonic::Pextrb, Rule::Fn(extract)),
    (Mnemonic::Pextrw, Rule::Fn(extract)),
    (Mnemonic::Pextrd, Rule::Fn(extract)),
    (Mnemonic::Pextrq, Rule::Fn(extract)),
    (Mnemonic::Extractps, Rule::Fn(extract)),
    (Mnemonic::Vpextrb, Rule::Fn(extract)),
    (Mnemonic::Vpextrw, Rule::Fn(extract)),
    (Mnemonic::Vpextrd, Rule::Fn(extract)),
    (Mnemonic::Vpextrq, Rule::Fn(extract)),
    (Mnemonic::Vextractps, Rule::Fn(extract)),
    (Mnemonic::Pinsrb, Rule::Fn(insert)),
    (Mnemonic::Pinsrw, Rule::Fn(insert)),
    (Mnemonic::Pinsrd, Rule::Fn(insert)),
    (Mnemonic::Pinsrq, Rule::Fn(insert)),
    (Mnemonic::Vpinsrb, Rule::Fn(insert)),
    (Mnemonic::Vpinsrw, Rule::Fn(insert)),
    (Mnemonic::Vpinsrd, Rule::Fn(insert)),
    (Mnemonic::Vpinsrq, Rule::Fn(insert)),
    (Mnemonic::Pmovmskb, Rule::Op(mask, Opcode::Pmovmskb)),
    (Mnemonic::Movmskps, Rule::Op(mask, Opcode::Movmskps)),
    (Mnemonic::Movmskpd, Rule::Op(mask, Opcode::Movmskpd)),
    (Mnemonic::Vpmovmskb, Rule::Op(mask, Opcode::Pmovmskb)),
    (Mnemonic::Vmovmskps, Rule::Op(mask, Opcode::Movmskps)),
    (Mnemonic::Vmovmskpd, Rule::Op(mask, Opcode::Movmskpd)),
];

/// The lower half of a vector register; MMX, ymm and the upper sixteen are not modelled.
pub(super) fn vector(register: Register) -> Result<Reg, NotModelled> {
    if register.is_xmm() && register.number() < 16 {
        Ok(Reg::xmm(register.number()))
    } else {
        Err(NotModelled)
    }
}

/// 128 bits from a register or memory. `aligned`: a memory operand must be, unless the encoding is VEX.
pub(super) fn read_vector(
    lifter: &mut Lifter,
    instruction: &Instruction,
    i: u32,
    aligned: bool,
) -> Result<Value, NotModelled> {
    match instruction.op_kind(i) {
        OpKind::Register => Ok(lifter.reg(vector(instruction.op_register(i))?)),
        OpKind::Memory if instruction.memory_size().size() == 16 => {
            let addr = lifter.addr(instruction)?.with_alignment(aligned);
            Ok(lifter.b.load(Type::V128, addr))
        }
        _ => Err(NotModelled),
    }
}

/// A lane-0 value from a register or from memory of just that size.
pub(super) fn read_scalar(
    lifter: &mut Lifter,
    instruction: &Instruction,
    i: u32,
    ty: Type,
) -> Result<Value, NotModelled> {
    match instruction.op_kind(i) {
        OpKind::Register => {
            let v = lifter.reg(vector(instruction.op_register(i))?);
            Ok(lifter.b.extract(ty, v, 0))
        }
        OpKind::Memory => {
            let addr = lifter.addr(instruction)?;
            Ok(lifter.b.load(ty, addr))
        }
        _ => Err(NotModelled),
    }
}

/// Writes a vector register; a VEX instruction zeroes its upper half.
pub(super) fn write_vector(lifter: &mut Lifter, instruction: &Instruction, register: Register, v: Value) -> Lifted {
    let reg = vector(register)?;
    lifter.set(reg, v);
    if is_vex(instruction) {
        let zero = lifter.b.constant(Type::V128, 0);
        lifter.set(Reg::ymm_high(register.number()), zero);
    }
    Ok(Flow::Next)
}

/// The index of the first source: the destination itself in SSE forms, its own operand in VEX forms of `count` operands.
pub(super) fn first_source(instruction: &Instruction, count: u32) -> u32 {
    u32::from(is_vex(instruction) && instruction.op_count() == count)
}

fn whole(lifter: &mut Lifter, instruction: &Instruction, aligned: bool) -> Lifted {
    if instruction.op0_kind() == OpKind::Memory {
        if instruction.memory_size().size() != 16 {
            return Err(NotModelled);
        }
        let v = lifter.reg(vector(instruction.op1_register())?);
        let addr = lifter.addr(instruction)?.with_alignment(aligned);
        lifter.b.store(Type::V128, v, addr);
        return Ok(Flow::Next);
    }
    vector(instruction.op0_register())?;
    let v = read_vector(lifter, instruction, 1, aligned)?;
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

/// Those that demand alignment do so in VEX form too.
fn aligned(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    whole(lifter, instruction, true)
}

fn unaligned(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    whole(lifter, instruction, false)
}

fn movss(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    movss_or_movsd(lifter, instruction, Type::F32)
}

fn movsd(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    movss_or_movsd(lifter, instruction, Type::F64)
}

/// A load zeroes the rest, a store takes lane 0, and between registers the rest comes from the first source.
pub(super) fn movss_or_movsd(lifter: &mut Lifter, instruction: &Instruction, ty: Type) -> Lifted {
    if instruction.op0_kind() == OpKind::Memory {
        let v = read_scalar(lifter, instruction, 1, ty)?;
        let addr = lifter.addr(instruction)?;
        lifter.b.store(ty, v, addr);
        return Ok(Flow::Next);
    }
    let destination = instruction.op0_register();
    if instruction.op1_kind() == OpKind::Memory {
        vector(destination)?;
        let x = read_scalar(lifter, instruction, 1, ty)?;
        let v = lifter.b.vzext(ty, x);
        return write_vector(lifter, instruction, destination, v);
    }
    let first = first_source(instruction, 3);
    let rest = read_vector(lifter, instruction, first, false)?;
    let x = read_scalar(lifter, instruction, first + 1, ty)?;
    let v = lifter.b.insert(ty, rest, x, 0);
    write_vector(lifter, instruction, destination, v)
}

/// movd and movq between vector registers, general registers and memory.
fn movd(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let size = |i: u32| match instruction.op_kind(i) {
        OpKind::Register => instruction.op_register(i).size(),
        _ => instruction.memory_size().size(),
    };
    let ty = match size(0).min(size(1)) {
        4 => Type::I32,
        8 | 16 => Type::I64,
        _ => return Err(NotModelled),
    };
    let is_vector =
        |i: u32| instruction.op_kind(i) == OpKind::Register && instruction.op_register(i).is_vector_register();
    if !is_vector(0) && !is_vector(1) {
        // MMX.
        return Err(NotModelled);
    }
    let x = if is_vector(1) {
        read_scalar(lifter, instruction, 1, ty)?
    } else {
        lifter.operand(instruction, 1, ty)?
    };
    if is_vector(0) {
        let v = lifter.b.vzext(ty, x);
        write_vector(lifter, instruction, instruction.op0_register(), v)
    } else {
        lifter.result(instruction, 0, ty, x)
    }
}

fn half(lifter: &mut Lifter, instruction: &Instruction, lane: u8) -> Lifted {
    if instruction.op0_kind() == OpKind::Memory {
        let v = lifter.reg(vector(instruction.op1_register())?);
        let x = lifter.b.extract(Type::I64, v, lane);
        let addr = lifter.addr(instruction)?;
        lifter.b.store(Type::I64, x, addr);
        return Ok(Flow::Next);
    }
    let first = first_source(instruction, 3);
    let rest = read_vector(lifter, instruction, first, false)?;
    let addr = lifter.addr(instruction)?;
    let x = lifter.b.load(Type::I64, addr);
    let v = lifter.b.insert(Type::I64, rest, x, lane);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn low_half(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    half(lifter, instruction, 0)
}

fn high_half(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    half(lifter, instruction, 1)
}

fn between_halves(lifter: &mut Lifter, instruction: &Instruction, from: u8, to: u8) -> Lifted {
    let first = first_source(instruction, 3);
    let rest = read_vector(lifter, instruction, first, false)?;
    let other = read_vector(lifter, instruction, first + 1, false)?;
    let x = lifter.b.extract(Type::I64, other, from);
    let v = lifter.b.insert(Type::I64, rest, x, to);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn high_to_low(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    between_halves(lifter, instruction, 1, 0)
}

fn low_to_high(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    between_halves(lifter, instruction, 0, 1)
}

fn lane_type(instruction: &Instruction) -> Type {
    match instruction.mnemonic() {
        Mnemonic::Pextrb | Mnemonic::Vpextrb | Mnemonic::Pinsrb | Mnemonic::Vpinsrb => Type::I8,
        Mnemonic::Pextrw | Mnemonic::Vpextrw | Mnemonic::Pinsrw | Mnemonic::Vpinsrw => Type::I16,
        Mnemonic::Pextrq | Mnemonic::Vpextrq | Mnemonic::Pinsrq | Mnemonic::Vpinsrq => Type::I64,
        _ => Type::I32,
    }
}

/// A lane to a general register, zero-extended to all of it, or to memory.
fn extract(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lane_type(instruction);
    let v = lifter.reg(vector(instruction.op1_register())?);
    let lane = instruction.immediate8() & (128 / ty.bits() - 1) as u8;
    let x = lifter.b.extract(ty, v, lane);
    if instruction.op0_kind() == OpKind::Memory {
        return lifter.result(instruction, 0, ty, x);
    }
    let x = if ty == Type::I64 {
        x
    } else {
        lifter.b.zext(Type::I64, x)
    };
    let reg = crate::lifter::gpr(instruction.op0_register())?;
    lifter.set(reg, x);
    Ok(Flow::Next)
}

fn insert(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lane_type(instruction);
    let first = first_source(instruction, 4);
    let v = read_vector(lifter, instruction, first, false)?;
    let i = first + 1;
    let x = if instruction.op_kind(i) == OpKind::Register {
        let full = lifter.reg(crate::lifter::gpr(instruction.op_register(i))?);
        if ty == Type::I64 {
            full
        } else {
            lifter.b.trunc(ty, full)
        }
    } else {
        lifter.operand(instruction, i, ty)?
    };
    let lane = instruction.immediate8() & (128 / ty.bits() - 1) as u8;
    let v = lifter.b.insert(ty, v, x, lane);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn mask(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let v = lifter.reg(vector(instruction.op1_register())?);
    let x = lifter.b.push_op(op, Type::Void, 0, &[v]);
    let x = lifter.b.zext(Type::I64, x);
    let reg = crate::lifter::gpr(instruction.op0_register())?;
    lifter.set(reg, x);
    Ok(Flow::Next)
}
