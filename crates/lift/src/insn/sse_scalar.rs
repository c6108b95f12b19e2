//! Scalar floating point: arithmetic, comparison, rounding, fused multiply-add.

use iced_x86::{Instruction, Mnemonic};
use redmagic_ir::{Opcode, Type};

use super::sse_move::{first_source, read_scalar, read_vector, vector, write_vector};
use super::{Row, Rule};
use crate::lifter::{Flow, Lifted, Lifter, NotModelled};

macro_rules! both {
    ($function:ident, $($single:ident $double:ident $vsingle:ident $vdouble:ident $op:ident)*) => {
        &[$(
            (Mnemonic::$single, Rule::Op(single::$function, Opcode::$op)),
            (Mnemonic::$double, Rule::Op(double::$function, Opcode::$op)),
            (Mnemonic::$vsingle, Rule::Op(single::$function, Opcode::$op)),
            (Mnemonic::$vdouble, Rule::Op(double::$function, Opcode::$op)),
        )*]
    };
}

const BINARY: &[Row] = both! { binary,
    Addss Addsd Vaddss Vaddsd FAdd
    Subss Subsd Vsubss Vsubsd FSub
    Mulss Mulsd Vmulss Vmulsd FMul
    Divss Divsd Vdivss Vdivsd FDiv
    Minss Minsd Vminss Vminsd FMin
    Maxss Maxsd Vmaxss Vmaxsd FMax
};
const UNARY: &[Row] = both! { unary,
    Sqrtss Sqrtsd Vsqrtss Vsqrtsd FSqrt
    Roundss Roundsd Vroundss Vroundsd FRound
};
const FLAGS: &[Row] = both! { flags,
    Ucomiss Ucomisd Vucomiss Vucomisd FlagsUcomi
    Comiss Comisd Vcomiss Vcomisd FlagsComi
};

macro_rules! fused {
    ($($single132:ident $single213:ident $single231:ident $double132:ident $double213:ident $double231:ident)*) => {
        &[$(
            (Mnemonic::$single132, Rule::Op(fused, Opcode::Fma)),
            (Mnemonic::$single213, Rule::Op(fused, Opcode::Fma)),
            (Mnemonic::$single231, Rule::Op(fused, Opcode::Fma)),
            (Mnemonic::$double132, Rule::Op(fused, Opcode::Fma)),
            (Mnemonic::$double213, Rule::Op(fused, Opcode::Fma)),
            (Mnemonic::$double231, Rule::Op(fused, Opcode::Fma)),
        )*]
    };
}
const FUSED: &[Row] = fused! {
    Vfmadd132ss Vfmadd213ss Vfmadd231ss Vfmadd132sd Vfmadd213sd Vfmadd231sd
    Vfnmadd132ss Vfnmadd213ss Vfnmadd231ss Vfnmadd132sd Vfnmadd213sd Vfnmadd231sd
    Vfmsub132ss Vfmsub213ss Vfmsub231ss Vfmsub132sd Vfmsub213sd Vfmsub231sd
    Vfnmsub132ss Vfnmsub213ss Vfnmsub231ss Vfnmsub132sd Vfnmsub213sd Vfnmsub231sd
};

const COMPARE: &[Row] = &[
    (Mnemonic::Cmpss, Rule::Fn(cmpss)),
    (Mnemonic::Vcmpss, Rule::Fn(cmpss)),
    (Mnemonic::Vcmpsd, Rule::Fn(cmpsd)),
];

pub(super) const FAMILIES: &[&[Row]] = &[BINARY, UNARY, FLAGS, FUSED, COMPARE];

mod single {
    use super::{Instruction, Lifted, Lifter, Opcode, Type};
    pub(super) fn binary(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
        super::binary(lifter, instruction, op, Type::F32)
    }
    pub(super) fn unary(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
        super::unary(lifter, instruction, op, Type::F32)
    }
    pub(super) fn flags(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
        super::flags(lifter, instruction, op, Type::F32)
    }
}

mod double {
    use super::{Instruction, Lifted, Lifter, Opcode, Type};
    pub(super) fn binary(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
        super::binary(lifter, instruction, op, Type::F64)
    }
    pub(super) fn unary(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
        super::unary(lifter, instruction, op, Type::F64)
    }
    pub(super) fn flags(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
        super::flags(lifter, instruction, op, Type::F64)
    }
}

/// Lane 0 is computed, the rest comes from the first source.
fn binary(lifter: &mut Lifter, instruction: &Instruction, op: Opcode, ty: Type) -> Lifted {
    let first = first_source(instruction, 3);
    let rest = read_vector(lifter, instruction, first, false)?;
    let a = lifter.b.extract(ty, rest, 0);
    let b = read_scalar(lifter, instruction, first + 1, ty)?;
    let r = lifter.b.push_op(op, ty, 0, &[a, b]);
    let v = lifter.b.insert(ty, rest, r, 0);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn unary(lifter: &mut Lifter, instruction: &Instruction, op: Opcode, ty: Type) -> Lifted {
    let rounds = op == Opcode::FRound;
    let first = first_source(instruction, 3 + u32::from(rounds));
    let rest = read_vector(lifter, instruction, first, false)?;
    let a = read_scalar(lifter, instruction, first + 1, ty)?;
    let imm = if rounds { instruction.immediate8() & 15 } else { 0 };
    let r = lifter.b.push_op(op, ty, imm, &[a]);
    let v = lifter.b.insert(ty, rest, r, 0);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn flags(lifter: &mut Lifter, instruction: &Instruction, op: Opcode, ty: Type) -> Lifted {
    let a = read_scalar(lifter, instruction, 0, ty)?;
    let b = read_scalar(lifter, instruction, 1, ty)?;
    let flags = lifter.b.push_op(op, ty, 0, &[a, b]);
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

fn cmpss(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    compare_mask(lifter, instruction, Type::F32)
}

fn cmpsd(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    compare_mask(lifter, instruction, Type::F64)
}

/// cmpss, cmpsd. The predicates 8 to 31 that VEX adds are left to `native`; SSE ignores the immediate's upper bits.
pub(super) fn compare_mask(lifter: &mut Lifter, instruction: &Instruction, ty: Type) -> Lifted {
    let imm = predicate(instruction)?;
    let first = first_source(instruction, 4);
    let rest = read_vector(lifter, instruction, first, false)?;
    let a = lifter.b.extract(ty, rest, 0);
    let b = read_scalar(lifter, instruction, first + 1, ty)?;
    let r = lifter.b.fcmp(ty, a, b, imm);
    let v = lifter.b.insert(ty, rest, r, 0);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

/// The comparison predicate, if it is one of the eight that SSE has.
pub(super) fn predicate(instruction: &Instruction) -> Result<u8, NotModelled> {
    let imm = instruction.immediate8();
    if !crate::lifter::is_vex(instruction) || imm & 31 < 8 {
        Ok(imm & 7)
    } else {
        Err(NotModelled)
    }
}

/// The digits say which operands are multiplied and which is added: 132 is `op1 * op3 + op2`.
fn fused(lifter: &mut Lifter, instruction: &Instruction, _: Opcode) -> Lifted {
    let name = format!("{:?}", instruction.mnemonic());
    let ty = if name.ends_with('d') { Type::F64 } else { Type::F32 };
    let rest = lifter.reg(vector(instruction.op0_register())?);
    let x = lifter.b.extract(ty, rest, 0);
    let y = read_scalar(lifter, instruction, 1, ty)?;
    let z = read_scalar(lifter, instruction, 2, ty)?;
    let (a, b, c) = if name.contains("132") {
        (x, z, y)
    } else if name.contains("213") {
        (y, x, z)
    } else {
        (y, z, x)
    };
    let signs = u8::from(name.starts_with("Vfn")) | u8::from(name.contains("sub")) << 1;
    let r = lifter.b.fma(ty, a, b, c, signs);
    let v = lifter.b.insert(ty, rest, r, 0);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}
