//! push, pop, leave, pushf.

use iced_x86::{Instruction, Mnemonic, OpKind};
use redmagic_ir::{Addr, Reg, Type, Value};

use super::{Row, Rule};
use crate::lifter::{Flow, Lifted, Lifter, NotModelled};

pub(super) const ROWS: &[Row] = &[
    (Mnemonic::Push, Rule::Fn(push)),
    (Mnemonic::Pop, Rule::Fn(pop)),
    (Mnemonic::Leave, Rule::Fn(leave)),
    (Mnemonic::Pushfq, Rule::Fn(pushf)),
];

/// Stores `v` below the stack and moves rsp there. `saved`: see [`redmagic_ir::MemFlags::saved`].
pub(super) fn push_value(lifter: &mut Lifter, ty: Type, v: Value, saved: bool) {
    let rsp = lifter.reg(Reg::RSP);
    let size = ty.bytes() as i32;
    let mut to = Addr::base(rsp, -size);
    if saved {
        to.flags = to.flags.saved();
    }
    lifter.b.store(ty, v, to);
    let moved = lifter.b.lea(Addr::base(rsp, -size));
    lifter.set(Reg::RSP, moved);
}

/// Loads what is on top of the stack and moves rsp past it and `extra` bytes.
pub(super) fn pop_value(lifter: &mut Lifter, ty: Type, extra: i32) -> Value {
    let rsp = lifter.reg(Reg::RSP);
    let mut from = Addr::base(rsp, 0);
    from.flags = from.flags.saved();
    let v = lifter.b.load(ty, from);
    let moved = lifter.b.lea(Addr::base(rsp, ty.bytes() as i32 + extra));
    lifter.set(Reg::RSP, moved);
    v
}

/// The type of what is pushed or popped: 64 bits, or 16 with a prefix.
fn size(instruction: &Instruction) -> Result<Type, NotModelled> {
    Type::int(instruction.stack_pointer_increment().unsigned_abs() as usize).ok_or(NotModelled)
}

fn push(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = size(instruction)?;
    let v = lifter.operand(instruction, 0, ty)?;
    let register = instruction.op0_kind() == OpKind::Register && ty == Type::I64;
    let saves = register && lifter.is_callers(crate::lifter::gpr(instruction.op0_register())?);
    push_value(lifter, ty, v, saves);
    Ok(Flow::Next)
}

/// A memory operand based on rsp is addressed with rsp already moved.
fn pop(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = size(instruction)?;
    if instruction.op0_kind() == OpKind::Register {
        crate::lifter::gpr(instruction.op0_register())?;
    }
    let v = pop_value(lifter, ty, 0);
    lifter.result(instruction, 0, ty, v)
}

fn leave(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    if instruction.code() != iced_x86::Code::Leaveq {
        return Err(NotModelled);
    }
    let rbp = lifter.reg(Reg::RBP);
    lifter.set(Reg::RSP, rbp);
    let v = pop_value(lifter, Type::I64, 0);
    lifter.set(Reg::RBP, v);
    Ok(Flow::Next)
}

/// The image has RF and VM clear.
fn pushf(lifter: &mut Lifter, _: &Instruction) -> Lifted {
    const RF_AND_VM: u64 = 0x3_0000;
    let flags = lifter.reg(Reg::FLAGS);
    let status = lifter.b.flags_bits(flags);
    let rest = lifter.reg(Reg::SYSFLAGS);
    let mask = lifter.b.int(Type::I64, !RF_AND_VM);
    let rest = lifter.b.and(Type::I64, rest, mask);
    let image = lifter.b.or(Type::I64, status, rest);
    push_value(lifter, Type::I64, image, false);
    Ok(Flow::Next)
}
