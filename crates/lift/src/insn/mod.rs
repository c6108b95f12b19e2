//! The table of modelled instructions, by mnemonic, a family a file.

mod bit;
mod control;
mod convert;
mod int_arith;
mod mov;
mod muldiv;
mod shift;
mod sse_move;
mod sse_scalar;
mod sse_vector;
mod stack;
mod string;
mod system;

use std::sync::LazyLock;

use iced_x86::{EncodingKind, Instruction, Mnemonic};
use redmagic_ir::Opcode;

use crate::lifter::{Lifted, Lifter, NotModelled};

/// How a mnemonic is lifted.
#[derive(Clone, Copy)]
enum Rule {
    /// By a function of its own.
    Fn(fn(&mut Lifter, &Instruction) -> Lifted),
    /// By a function that mnemonics share, for this operation.
    Op(fn(&mut Lifter, &Instruction, Opcode) -> Lifted, Opcode),
}

type Row = (Mnemonic, Rule);

const FAMILIES: &[&[Row]] = &[
    sse_scalar::FAMILIES[0],
    sse_scalar::FAMILIES[1],
    sse_scalar::FAMILIES[2],
    sse_scalar::FAMILIES[3],
    sse_scalar::FAMILIES[4],
    int_arith::ROWS,
    shift::ROWS,
    muldiv::ROWS,
    bit::ROWS,
    mov::ROWS,
    stack::ROWS,
    control::ROWS,
    string::ROWS,
    sse_move::ROWS,
    sse_vector::ROWS,
    convert::ROWS,
    system::ROWS,
];

static TABLE: LazyLock<Vec<Option<Rule>>> = LazyLock::new(|| {
    let mut table = vec![None; Mnemonic::values().len()];
    for (mnemonic, rule) in FAMILIES.iter().copied().flatten() {
        let slot = &mut table[*mnemonic as usize];
        assert!(slot.is_none(), "{mnemonic:?} has two rows");
        *slot = Some(*rule);
    }
    table
});

/// The mnemonics that have a row.
pub fn mnemonics() -> impl Iterator<Item = Mnemonic> {
    FAMILIES.iter().copied().flatten().map(|(mnemonic, _)| *mnemonic)
}

pub(crate) fn lift(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    if !matches!(instruction.code().encoding(), EncodingKind::Legacy | EncodingKind::VEX) {
        return Err(NotModelled);
    }
    match TABLE[instruction.mnemonic() as usize] {
        None => Err(NotModelled),
        Some(Rule::Fn(function)) => function(lifter, instruction),
        Some(Rule::Op(function, op)) => function(lifter, instruction, op),
    }
}
