//! String instructions, once and repeated.
//!
//! The step is the element's size, negative when DF is set; DF is data here (a bit of `sysflags`), so that both directions
//! are exact. Repeated ones are one operation each: how often they repeat is not known when the trace is made.

use iced_x86::{Instruction, Mnemonic, Register};
use redmagic_ir::{Addr, Cond, Opcode, Reg, Type, Value};

use super::{Row, Rule};
use crate::lifter::{Flow, Lifted, Lifter, NotModelled};

pub(super) const ROWS: &[Row] = &[
    (Mnemonic::Movsb, Rule::Fn(movs)),
    (Mnemonic::Movsw, Rule::Fn(movs)),
    (Mnemonic::Movsd, Rule::Fn(movs_or_movsd)),
    (Mnemonic::Movsq, Rule::Fn(movs)),
    (Mnemonic::Stosb, Rule::Fn(stos)),
    (Mnemonic::Stosw, Rule::Fn(stos)),
    (Mnemonic::Stosd, Rule::Fn(stos)),
    (Mnemonic::Stosq, Rule::Fn(stos)),
    (Mnemonic::Lodsb, Rule::Fn(lods)),
    (Mnemonic::Lodsw, Rule::Fn(lods)),
    (Mnemonic::Lodsd, Rule::Fn(lods)),
    (Mnemonic::Lodsq, Rule::Fn(lods)),
    (Mnemonic::Cmpsb, Rule::Op(compare, Opcode::RepCmps)),
    (Mnemonic::Cmpsw, Rule::Op(compare, Opcode::RepCmps)),
    (Mnemonic::Cmpsd, Rule::Fn(cmps_or_cmpsd)),
    (Mnemonic::Cmpsq, Rule::Op(compare, Opcode::RepCmps)),
    (Mnemonic::Scasb, Rule::Op(compare, Opcode::RepScas)),
    (Mnemonic::Scasw, Rule::Op(compare, Opcode::RepScas)),
    (Mnemonic::Scasd, Rule::Op(compare, Opcode::RepScas)),
    (Mnemonic::Scasq, Rule::Op(compare, Opcode::RepScas)),
];

/// `movsd` and `cmpsd` are two instructions each.
fn movs_or_movsd(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    if instruction.is_string_instruction() {
        movs(lifter, instruction)
    } else {
        super::sse_move::movss_or_movsd(lifter, instruction, Type::F64)
    }
}

fn cmps_or_cmpsd(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    if instruction.is_string_instruction() {
        compare(lifter, instruction, Opcode::RepCmps)
    } else {
        super::sse_scalar::compare_mask(lifter, instruction, Type::F64)
    }
}

struct Pieces {
    ty: Type,
    /// Bytes from one element to the next, signed.
    step: Value,
    repeats: bool,
}

fn pieces(lifter: &mut Lifter, instruction: &Instruction) -> Result<Pieces, NotModelled> {
    let short = [Register::ESI, Register::EDI];
    if (0..instruction.op_count()).any(|i| {
        use iced_x86::OpKind::{MemoryESEDI, MemorySegEDI, MemorySegESI};
        matches!(instruction.op_kind(i), MemoryESEDI | MemorySegEDI | MemorySegESI)
    }) || short.contains(&instruction.memory_base())
    {
        return Err(NotModelled);
    }
    let ty = Type::int(instruction.memory_size().size()).ok_or(NotModelled)?;
    let size = u64::from(ty.bytes());
    // size - DF * 2 * size
    let sysflags = lifter.reg(Reg::SYSFLAGS);
    let place = lifter.b.int(Type::I8, 10);
    let down = lifter.b.shr(Type::I64, sysflags, place);
    let one = lifter.b.int(Type::I64, 1);
    let down = lifter.b.and(Type::I64, down, one);
    let shift = lifter.b.int(Type::I8, u64::from((2 * size).trailing_zeros()));
    let twice = lifter.b.shl(Type::I64, down, shift);
    let size = lifter.b.int(Type::I64, size);
    let step = lifter.b.sub(Type::I64, size, twice);
    Ok(Pieces {
        ty,
        step,
        repeats: instruction.has_rep_prefix() || instruction.has_repne_prefix(),
    })
}

/// The source's address: rsi with its segment.
fn source(lifter: &mut Lifter, instruction: &Instruction) -> Addr {
    let rsi = lifter.reg(Reg::RSI);
    let mut addr = Addr::base(rsi, 0);
    addr.seg = match instruction.memory_segment() {
        Register::FS => lifter.reg(Reg::FS_BASE),
        Register::GS => lifter.reg(Reg::GS_BASE),
        _ => Value::NONE,
    };
    addr
}

/// Moves a pointer by `count` steps, or one.
fn advance(lifter: &mut Lifter, reg: Reg, step: Value, count: Option<Value>) {
    let by = match count {
        None => step,
        Some(count) => lifter.b.mul(Type::I64, step, count),
    };
    let old = lifter.reg(reg);
    let new = lifter.b.add(Type::I64, old, by);
    lifter.set(reg, new);
}

fn movs(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let Pieces { ty, step, repeats } = pieces(lifter, instruction)?;
    let to = lifter.reg(Reg::RDI);
    let from = source(lifter, instruction);
    let mut count = None;
    if repeats {
        let from = lifter.linear(from);
        let rcx = lifter.reg(Reg::RCX);
        lifter.b.rep_movs(ty, to, from, rcx, step);
        let zero = lifter.b.int(Type::I64, 0);
        lifter.set(Reg::RCX, zero);
        count = Some(rcx);
    } else {
        let v = lifter.b.load(ty, from);
        lifter.b.store(ty, v, Addr::base(to, 0));
    }
    advance(lifter, Reg::RSI, step, count);
    advance(lifter, Reg::RDI, step, count);
    Ok(Flow::Next)
}

fn accumulator(ty: Type) -> Register {
    match ty {
        Type::I8 => Register::AL,
        Type::I16 => Register::AX,
        Type::I32 => Register::EAX,
        _ => Register::RAX,
    }
}

fn stos(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let Pieces { ty, step, repeats } = pieces(lifter, instruction)?;
    let to = lifter.reg(Reg::RDI);
    let v = lifter.read(accumulator(ty))?;
    let mut count = None;
    if repeats {
        let rcx = lifter.reg(Reg::RCX);
        lifter.b.rep_stos(ty, to, v, rcx, step);
        let zero = lifter.b.int(Type::I64, 0);
        lifter.set(Reg::RCX, zero);
        count = Some(rcx);
    } else {
        lifter.b.store(ty, v, Addr::base(to, 0));
    }
    advance(lifter, Reg::RDI, step, count);
    Ok(Flow::Next)
}

fn lods(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let Pieces { ty, step, repeats } = pieces(lifter, instruction)?;
    if repeats {
        return Err(NotModelled);
    }
    let from = source(lifter, instruction);
    let v = lifter.b.load(ty, from);
    lifter.write(accumulator(ty), v)?;
    advance(lifter, Reg::RSI, step, None);
    Ok(Flow::Next)
}

/// cmps and scas. Without repetitions, because rcx is 0, the flags stay.
fn compare(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let Pieces { ty, step, repeats } = pieces(lifter, instruction)?;
    let right = lifter.reg(Reg::RDI);
    if !repeats {
        let a = if op == Opcode::RepCmps {
            let from = source(lifter, instruction);
            lifter.b.load(ty, from)
        } else {
            lifter.read(accumulator(ty))?
        };
        let b = lifter.b.load(ty, Addr::base(right, 0));
        let flags = lifter.b.flags_sub(ty, a, b);
        lifter.set_flags(flags);
        if op == Opcode::RepCmps {
            advance(lifter, Reg::RSI, step, None);
        }
        advance(lifter, Reg::RDI, step, None);
        return Ok(Flow::Next);
    }
    let left = if op == Opcode::RepCmps {
        let from = source(lifter, instruction);
        lifter.linear(from)
    } else {
        lifter.read(accumulator(ty))?
    };
    let rcx = lifter.reg(Reg::RCX);
    let previous = lifter.reg(Reg::FLAGS);
    let until_equal = u8::from(instruction.has_repne_prefix());
    let both = lifter.b.push_op(op, ty, until_equal, &[left, right, rcx, step]);
    let rest = lifter.b.get(both, Reg::RCX);
    let compared = lifter.b.get(both, Reg::FLAGS);
    let zero = lifter.b.int(Type::I64, 0);
    let counted = lifter.b.flags_sub(Type::I64, rcx, zero);
    let none = lifter.b.cond(Cond::E, counted);
    let flags = lifter.b.select(Type::Flags, none, previous, compared);
    let done = lifter.b.sub(Type::I64, rcx, rest);
    lifter.set_flags(flags);
    lifter.set(Reg::RCX, rest);
    if op == Opcode::RepCmps {
        advance(lifter, Reg::RSI, step, Some(done));
    }
    advance(lifter, Reg::RDI, step, Some(done));
    Ok(Flow::Next)
}
