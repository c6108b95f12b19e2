//! Jumps, calls, returns.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use redmagic_ir::{Addr, Cond, Opcode, Reg, Type, Value};

use super::mov::condition;
use super::stack::{pop_value, push_value};
use super::{Row, Rule};
use crate::lifter::{Flow, Lifted, Lifter, NotModelled};

pub(super) const ROWS: &[Row] = &[
    (Mnemonic::Jmp, Rule::Fn(jmp)),
    (Mnemonic::Call, Rule::Fn(call)),
    (Mnemonic::Ret, Rule::Fn(ret)),
    (Mnemonic::Jrcxz, Rule::Fn(jrcxz)),
    (Mnemonic::Jecxz, Rule::Fn(jrcxz)),
    (Mnemonic::Loop, Rule::Op(count_down, Opcode::Add)),
    (Mnemonic::Loope, Rule::Op(count_down, Opcode::And)),
    (Mnemonic::Loopne, Rule::Op(count_down, Opcode::Xor)),
    (Mnemonic::Ja, Rule::Fn(jcc)),
    (Mnemonic::Jae, Rule::Fn(jcc)),
    (Mnemonic::Jb, Rule::Fn(jcc)),
    (Mnemonic::Jbe, Rule::Fn(jcc)),
    (Mnemonic::Je, Rule::Fn(jcc)),
    (Mnemonic::Jg, Rule::Fn(jcc)),
    (Mnemonic::Jge, Rule::Fn(jcc)),
    (Mnemonic::Jl, Rule::Fn(jcc)),
    (Mnemonic::Jle, Rule::Fn(jcc)),
    (Mnemonic::Jne, Rule::Fn(jcc)),
    (Mnemonic::Jno, Rule::Fn(jcc)),
    (Mnemonic::Jnp, Rule::Fn(jcc)),
    (Mnemonic::Jns, Rule::Fn(jcc)),
    (Mnemonic::Jo, Rule::Fn(jcc)),
    (Mnemonic::Jp, Rule::Fn(jcc)),
    (Mnemonic::Js, Rule::Fn(jcc)),
];

/// The target of a direct or computed near jump. Everything with a 16-bit target is refused by `native`.
fn target(lifter: &mut Lifter, instruction: &Instruction) -> Result<Value, NotModelled> {
    match instruction.op0_kind() {
        OpKind::NearBranch64 => Ok(lifter.b.int(Type::I64, instruction.near_branch64())),
        OpKind::Register | OpKind::Memory
            if lifter.ty(instruction, 0)? == Type::I64
                && !instruction.is_jmp_far_indirect()
                && !instruction.is_call_far_indirect() =>
        {
            let v = lifter.operand(instruction, 0, Type::I64)?;
            Ok(lifter.resolve(instruction, v))
        }
        _ => Err(NotModelled),
    }
}

fn jmp(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let target = target(lifter, instruction)?;
    Ok(Flow::Jump { target })
}

fn call(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let target = target(lifter, instruction)?;
    let back = lifter.b.int(Type::I64, instruction.next_ip());
    push_value(lifter, Type::I64, back, true);
    lifter.enter();
    Ok(Flow::Jump { target })
}

fn ret(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let extra = match instruction.code() {
        Code::Retnq => 0,
        Code::Retnq_imm16 => i32::from(instruction.immediate16()),
        _ => return Err(NotModelled),
    };
    let loaded = pop_value(lifter, Type::I64, extra);
    lifter.leave();
    let target = lifter.resolve(instruction, loaded);
    Ok(Flow::Jump { target })
}

fn jcc(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    if instruction.op0_kind() != OpKind::NearBranch64 {
        return Err(NotModelled);
    }
    let cond = condition(lifter, instruction)?;
    Ok(Flow::Branch {
        cond,
        taken: instruction.near_branch64(),
    })
}

/// Whether a value is 0.
fn is_zero(lifter: &mut Lifter, ty: Type, v: Value) -> Value {
    let zero = lifter.b.int(ty, 0);
    let flags = lifter.b.flags_sub(ty, v, zero);
    lifter.b.cond(Cond::E, flags)
}

fn jrcxz(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    if instruction.op0_kind() != OpKind::NearBranch64 {
        return Err(NotModelled);
    }
    let (ty, register) = if instruction.mnemonic() == Mnemonic::Jecxz {
        (Type::I32, Register::ECX)
    } else {
        (Type::I64, Register::RCX)
    };
    let v = lifter.read(register)?;
    let cond = is_zero(lifter, ty, v);
    Ok(Flow::Branch {
        cond,
        taken: instruction.near_branch64(),
    })
}

/// loop, loope (And), loopne (Xor): rcx is counted down without touching flags.
fn count_down(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    // A repetition prefix replaces the condition on AMD's processors (`f3 loopne` is `loope`).
    let prefixed = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    let wide = matches!(
        instruction.code(),
        Code::Loop_rel8_64_RCX | Code::Loope_rel8_64_RCX | Code::Loopne_rel8_64_RCX
    );
    if prefixed || !wide {
        return Err(NotModelled);
    }
    let rcx = lifter.reg(Reg::RCX);
    let left = lifter.b.lea(Addr::base(rcx, -1));
    lifter.set(Reg::RCX, left);
    let done = is_zero(lifter, Type::I64, left);
    let mut cond = lifter.b.not(Type::I1, done);
    if op != Opcode::Add {
        let flags = lifter.reg(Reg::FLAGS);
        let also = lifter.b.cond(if op == Opcode::And { Cond::E } else { Cond::NE }, flags);
        cond = lifter.b.and(Type::I1, cond, also);
    }
    Ok(Flow::Branch {
        cond,
        taken: instruction.near_branch64(),
    })
}
