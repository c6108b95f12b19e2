//! Moves and conversions between integer registers and memory, cmov, setcc, xchg, cmpxchg, lea.

use iced_x86::{Instruction, Mnemonic, Register};
use redmagic_ir::{Cond, Opcode, Reg, Type, Value};

use super::{Row, Rule};
use crate::lifter::{Flow, Lifted, Lifter, NotModelled, Place};

pub(super) const ROWS: &[Row] = &[
    (Mnemonic::Mov, Rule::Fn(mov)),
    (Mnemonic::Movnti, Rule::Fn(mov)),
    (Mnemonic::Movzx, Rule::Op(extend, Opcode::Zext)),
    (Mnemonic::Movsx, Rule::Op(extend, Opcode::Sext)),
    (Mnemonic::Movsxd, Rule::Op(extend, Opcode::Sext)),
    (Mnemonic::Movbe, Rule::Fn(movbe)),
    (Mnemonic::Lea, Rule::Fn(lea)),
    (Mnemonic::Xchg, Rule::Fn(xchg)),
    (Mnemonic::Xadd, Rule::Fn(xadd)),
    (Mnemonic::Cmpxchg, Rule::Fn(cmpxchg)),
    (Mnemonic::Bswap, Rule::Fn(bswap)),
    (Mnemonic::Cbw, Rule::Fn(widen)),
    (Mnemonic::Cwde, Rule::Fn(widen)),
    (Mnemonic::Cdqe, Rule::Fn(widen)),
    (Mnemonic::Cwd, Rule::Fn(sign)),
    (Mnemonic::Cdq, Rule::Fn(sign)),
    (Mnemonic::Cqo, Rule::Fn(sign)),
    (Mnemonic::Xlatb, Rule::Fn(xlat)),
    (Mnemonic::Cmova, Rule::Fn(cmov)),
    (Mnemonic::Cmovae, Rule::Fn(cmov)),
    (Mnemonic::Cmovb, Rule::Fn(cmov)),
    (Mnemonic::Cmovbe, Rule::Fn(cmov)),
    (Mnemonic::Cmove, Rule::Fn(cmov)),
    (Mnemonic::Cmovg, Rule::Fn(cmov)),
    (Mnemonic::Cmovge, Rule::Fn(cmov)),
    (Mnemonic::Cmovl, Rule::Fn(cmov)),
    (Mnemonic::Cmovle, Rule::Fn(cmov)),
    (Mnemonic::Cmovne, Rule::Fn(cmov)),
    (Mnemonic::Cmovno, Rule::Fn(cmov)),
    (Mnemonic::Cmovnp, Rule::Fn(cmov)),
    (Mnemonic::Cmovns, Rule::Fn(cmov)),
    (Mnemonic::Cmovo, Rule::Fn(cmov)),
    (Mnemonic::Cmovp, Rule::Fn(cmov)),
    (Mnemonic::Cmovs, Rule::Fn(cmov)),
    (Mnemonic::Seta, Rule::Fn(setcc)),
    (Mnemonic::Setae, Rule::Fn(setcc)),
    (Mnemonic::Setb, Rule::Fn(setcc)),
    (Mnemonic::Setbe, Rule::Fn(setcc)),
    (Mnemonic::Sete, Rule::Fn(setcc)),
    (Mnemonic::Setg, Rule::Fn(setcc)),
    (Mnemonic::Setge, Rule::Fn(setcc)),
    (Mnemonic::Setl, Rule::Fn(setcc)),
    (Mnemonic::Setle, Rule::Fn(setcc)),
    (Mnemonic::Setne, Rule::Fn(setcc)),
    (Mnemonic::Setno, Rule::Fn(setcc)),
    (Mnemonic::Setnp, Rule::Fn(setcc)),
    (Mnemonic::Setns, Rule::Fn(setcc)),
    (Mnemonic::Seto, Rule::Fn(setcc)),
    (Mnemonic::Setp, Rule::Fn(setcc)),
    (Mnemonic::Sets, Rule::Fn(setcc)),
];

/// The condition that the instruction tests.
pub(super) fn condition(lifter: &mut Lifter, instruction: &Instruction) -> Result<Value, NotModelled> {
    let code = (instruction.condition_code() as u8).checked_sub(1).ok_or(NotModelled)?;
    let cond = Cond::from_code(code).ok_or(NotModelled)?;
    let flags = lifter.reg(Reg::FLAGS);
    Ok(lifter.b.cond(cond, flags))
}

fn mov(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let v = lifter.operand(instruction, 1, ty)?;
    lifter.result(instruction, 0, ty, v)
}

fn extend(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let (to, from) = (lifter.ty(instruction, 0)?, lifter.ty(instruction, 1)?);
    let mut v = lifter.operand(instruction, 1, from)?;
    if from.bits() < to.bits() {
        v = lifter.b.push_op(op, to, 0, &[v]);
    } else if from.bits() > to.bits() {
        // movsxd r16, r/m32 and r16, r/m16 take the low bits.
        v = lifter.b.trunc(to, v);
    }
    lifter.result(instruction, 0, to, v)
}

fn movbe(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let v = lifter.operand(instruction, 1, ty)?;
    let v = lifter.b.bswap(ty, v);
    lifter.result(instruction, 0, ty, v)
}

fn lea(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let addr = lifter.offset(instruction)?;
    let whole = lifter.b.lea(addr);
    let ty = lifter.ty(instruction, 0)?;
    let v = if ty == Type::I64 {
        whole
    } else {
        lifter.b.trunc(ty, whole)
    };
    lifter.result(instruction, 0, ty, v)
}

/// With memory, xchg is atomic with or without the prefix.
fn xchg(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let (x, y) = (lifter.place(instruction, 0)?, lifter.place(instruction, 1)?);
    let (memory, register) = match (x, y) {
        (Place::Memory(addr), other) | (other, Place::Memory(addr)) => (Some(addr), other),
        _ => (None, y),
    };
    let v = lifter.get_place(register, ty)?;
    if let Some(addr) = memory {
        let addr = lifter.linear(addr);
        let old = lifter.b.atomic_xchg(ty, addr, v);
        lifter.put_place(register, ty, old)?;
    } else {
        let old = lifter.get_place(x, ty)?;
        lifter.put_place(x, ty, v)?;
        lifter.put_place(y, ty, old)?;
    }
    Ok(Flow::Next)
}

fn xadd(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let place = lifter.place(instruction, 0)?;
    let v = lifter.operand(instruction, 1, ty)?;
    let old = match (instruction.has_lock_prefix(), place) {
        (true, Place::Memory(addr)) => {
            let addr = lifter.linear(addr);
            lifter.b.atomic_add(ty, addr, v)
        }
        _ => lifter.get_place(place, ty)?,
    };
    let flags = lifter.b.flags_add(ty, old, v);
    if instruction.has_lock_prefix() {
        lifter.result(instruction, 1, ty, old)?;
    } else {
        let sum = lifter.b.add(ty, old, v);
        // The source first: with one register as both, the sum stays.
        lifter.result(instruction, 1, ty, old)?;
        lifter.put_place(place, ty, sum)?;
    }
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

/// Compares the accumulator with the destination. The destination is written in either case; the accumulator only when
/// they differ, so that a 32-bit success leaves the upper half of rax alone.
fn cmpxchg(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let place = lifter.place(instruction, 0)?;
    let new = lifter.operand(instruction, 1, ty)?;
    let accumulator = match ty {
        Type::I8 => Register::AL,
        Type::I16 => Register::AX,
        Type::I32 => Register::EAX,
        _ => Register::RAX,
    };
    let expected = lifter.read(accumulator)?;
    let atomic = instruction.has_lock_prefix();
    let old = match (atomic, place) {
        (true, Place::Memory(addr)) => {
            let addr = lifter.linear(addr);
            lifter.b.atomic_cas(ty, addr, expected, new)
        }
        _ => lifter.get_place(place, ty)?,
    };
    let flags = lifter.b.flags_sub(ty, expected, old);
    let equal = lifter.b.cond(Cond::E, flags);
    if !atomic {
        let written = lifter.b.select(ty, equal, new, old);
        match place {
            Place::Memory(_) => lifter.put_place(place, ty, written)?,
            // An unequal 32-bit comparison zero-extends the destination on some processors and leaves it alone on others.
            Place::Register(_) if ty == Type::I32 => return Err(NotModelled),
            Place::Register(register) => lifter.write(register, written)?,
        }
    }
    let rax = lifter.reg(Reg::RAX);
    lifter.write(accumulator, old)?;
    let loaded = lifter.reg(Reg::RAX);
    let rax = lifter.b.select(Type::I64, equal, rax, loaded);
    lifter.set(Reg::RAX, rax);
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn bswap(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    if ty == Type::I16 {
        // Undefined.
        return Err(NotModelled);
    }
    let v = lifter.operand(instruction, 0, ty)?;
    let v = lifter.b.bswap(ty, v);
    lifter.result(instruction, 0, ty, v)
}

/// cbw, cwde, cdqe.
fn widen(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let (from, to, ty) = match instruction.mnemonic() {
        Mnemonic::Cbw => (Register::AL, Register::AX, Type::I16),
        Mnemonic::Cwde => (Register::AX, Register::EAX, Type::I32),
        _ => (Register::EAX, Register::RAX, Type::I64),
    };
    let v = lifter.read(from)?;
    let v = lifter.b.sext(ty, v);
    lifter.write(to, v)?;
    Ok(Flow::Next)
}

/// cwd, cdq, cqo.
fn sign(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let (from, to, ty) = match instruction.mnemonic() {
        Mnemonic::Cwd => (Register::AX, Register::DX, Type::I16),
        Mnemonic::Cdq => (Register::EAX, Register::EDX, Type::I32),
        _ => (Register::RAX, Register::RDX, Type::I64),
    };
    let v = lifter.read(from)?;
    // A shift by 31 fills 16 bits too.
    let n = lifter.b.int(Type::I8, if ty == Type::I64 { 63 } else { 31 });
    let v = lifter.b.sar(ty, v, n);
    lifter.write(to, v)?;
    Ok(Flow::Next)
}

fn xlat(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    if instruction.memory_base() != Register::RBX {
        return Err(NotModelled);
    }
    let al = lifter.read(Register::AL)?;
    let index = lifter.b.zext(Type::I64, al);
    let base = lifter.reg(Reg::RBX);
    let seg = match instruction.memory_segment() {
        Register::FS => lifter.reg(Reg::FS_BASE),
        Register::GS => lifter.reg(Reg::GS_BASE),
        _ => Value::NONE,
    };
    let mut addr = redmagic_ir::Addr::base(base, 0);
    addr.index = index;
    addr.seg = seg;
    let v = lifter.b.load(Type::I8, addr);
    lifter.write(Register::AL, v)?;
    Ok(Flow::Next)
}

/// The source is read, and a 32-bit destination zero-extended, whatever the condition.
fn cmov(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let ty = lifter.ty(instruction, 0)?;
    let c = condition(lifter, instruction)?;
    let new = lifter.operand(instruction, 1, ty)?;
    let old = lifter.operand(instruction, 0, ty)?;
    let v = lifter.b.select(ty, c, new, old);
    lifter.result(instruction, 0, ty, v)
}

fn setcc(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let c = condition(lifter, instruction)?;
    let v = lifter.b.zext(Type::I8, c);
    lifter.result(instruction, 0, Type::I8, v)
}
