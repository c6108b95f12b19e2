//! Flags one by one, MXCSR, fences, and instructions that do nothing.

use iced_x86::{Instruction, Mnemonic, Register};
use redmagic_ir::{Cond, Opcode, Reg, Type};

use super::{Row, Rule};
use crate::lifter::{Flow, Lifted, Lifter, NotModelled, is_vex};

pub(super) const ROWS: &[Row] = &[
    (Mnemonic::Nop, Rule::Fn(nothing)),
    (Mnemonic::Pause, Rule::Fn(pause)),
    (Mnemonic::Endbr64, Rule::Fn(nothing)),
    (Mnemonic::Endbr32, Rule::Fn(nothing)),
    (Mnemonic::Prefetcht0, Rule::Fn(nothing)),
    (Mnemonic::Prefetcht1, Rule::Fn(nothing)),
    (Mnemonic::Prefetcht2, Rule::Fn(nothing)),
    (Mnemonic::Prefetchnta, Rule::Fn(nothing)),
    (Mnemonic::Prefetchw, Rule::Fn(nothing)),
    (Mnemonic::Prefetch, Rule::Fn(nothing)),
    (Mnemonic::Lfence, Rule::Fn(fence)),
    (Mnemonic::Sfence, Rule::Fn(fence)),
    (Mnemonic::Mfence, Rule::Fn(fence)),
    (Mnemonic::Clc, Rule::Fn(carry)),
    (Mnemonic::Stc, Rule::Fn(carry)),
    (Mnemonic::Cmc, Rule::Fn(carry)),
    (Mnemonic::Cld, Rule::Op(direction, Opcode::And)),
    (Mnemonic::Std, Rule::Op(direction, Opcode::Or)),
    (Mnemonic::Lahf, Rule::Fn(lahf)),
    (Mnemonic::Sahf, Rule::Fn(sahf)),
    (Mnemonic::Ldmxcsr, Rule::Fn(ldmxcsr)),
    (Mnemonic::Vldmxcsr, Rule::Fn(ldmxcsr)),
    (Mnemonic::Stmxcsr, Rule::Fn(stmxcsr)),
    (Mnemonic::Vstmxcsr, Rule::Fn(stmxcsr)),
    (Mnemonic::Vzeroupper, Rule::Fn(vzeroupper)),
    (Mnemonic::Vzeroall, Rule::Fn(vzeroupper)),
];

fn nothing(_: &mut Lifter, _: &Instruction) -> Lifted {
    Ok(Flow::Next)
}

/// `f3 41 90` is decoded as a `pause` and executed as `xchg r8, rax`.
fn pause(_: &mut Lifter, instruction: &Instruction) -> Lifted {
    if instruction.len() == 2 {
        Ok(Flow::Next)
    } else {
        Err(NotModelled)
    }
}

fn fence(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let kind = match instruction.mnemonic() {
        Mnemonic::Lfence => 5,
        Mnemonic::Mfence => 6,
        _ => 7,
    };
    lifter.b.fence(kind);
    Ok(Flow::Next)
}

fn carry(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let previous = lifter.reg(Reg::FLAGS);
    let c = match instruction.mnemonic() {
        Mnemonic::Clc => lifter.b.int(Type::I1, 0),
        Mnemonic::Stc => lifter.b.int(Type::I1, 1),
        _ => {
            let c = lifter.b.cond(Cond::B, previous);
            lifter.b.not(Type::I1, c)
        }
    };
    let flags = lifter.b.flags_set_c(c, previous);
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn direction(lifter: &mut Lifter, _: &Instruction, op: Opcode) -> Lifted {
    let bit = u64::from(redmagic_ir::flags::DF);
    let old = lifter.reg(Reg::SYSFLAGS);
    let mask = lifter.b.int(Type::I64, if op == Opcode::And { !bit } else { bit });
    let new = lifter.b.push_op(op, Type::I64, 0, &[old, mask]);
    lifter.set(Reg::SYSFLAGS, new);
    Ok(Flow::Next)
}

fn lahf(lifter: &mut Lifter, _: &Instruction) -> Lifted {
    let flags = lifter.reg(Reg::FLAGS);
    let image = lifter.b.flags_bits(flags);
    let low = lifter.b.trunc(Type::I8, image);
    lifter.write(Register::AH, low)?;
    Ok(Flow::Next)
}

fn sahf(lifter: &mut Lifter, _: &Instruction) -> Lifted {
    let ah = lifter.read(Register::AH)?;
    let previous = lifter.reg(Reg::FLAGS);
    let flags = lifter.b.flags_sahf(ah, previous);
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn ldmxcsr(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let addr = lifter.addr(instruction)?;
    let v = lifter.b.load(Type::I32, addr);
    lifter.b.mxcsr_set(v);
    Ok(Flow::Next)
}

fn stmxcsr(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let addr = lifter.addr(instruction)?;
    let v = lifter.b.mxcsr_get();
    lifter.b.store(Type::I32, v, addr);
    Ok(Flow::Next)
}

/// vzeroupper, vzeroall.
fn vzeroupper(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    debug_assert!(is_vex(instruction));
    let zero = lifter.b.constant(Type::V128, 0);
    for n in 0..16 {
        lifter.set(Reg::ymm_high(n), zero);
        if instruction.mnemonic() == Mnemonic::Vzeroall {
            lifter.set(Reg::xmm(n), zero);
        }
    }
    Ok(Flow::Next)
}
