//! Moves that happen all at once.

use super::encode::{Ins, Mem, R};
use super::regs::Registers;
use crate::asm::{Asm, AsmError};

/// Where a move takes its value from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Reg(R),
    /// A slot, and how many bytes it has: 8 or 16.
    Slot(u16, u32),
    /// A constant for a general register.
    Number(u64),
    /// A constant for a vector register: the address of its 16 bytes, `None` for 0.
    Data(Option<u64>),
    /// The stack pointer and this.
    Stack(i32),
}

/// Where a move puts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Reg(R),
    Slot(u16),
}

/// One of them. `bytes` is 8, or 16 for a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    pub to: To,
    pub from: From,
    pub bytes: u32,
}

impl Move {
    fn is_nothing(&self) -> bool {
        reads(self.from, self.to)
    }
}

fn reads(from: From, to: To) -> bool {
    match (from, to) {
        (From::Reg(a), To::Reg(b)) => a == b,
        (From::Slot(a, _), To::Slot(b)) => a == b,
        _ => false,
    }
}

/// `mov to, from`, whatever they are; no flag is touched. Memory to memory goes over the stack below the frame.
fn single(asm: &mut Asm, m: &Move) -> Result<(), AsmError> {
    let slot = Registers::slot_mem;
    match (m.to, m.from) {
        (To::Reg(to), From::Reg(from)) if to.is_xmm() == from.is_xmm() => asm.mov(to, from),
        (To::Reg(to), From::Reg(from)) => {
            let (xmm, gpr, opcode) = if to.is_xmm() {
                (to, from, 0x6e)
            } else {
                (from, to, 0x7e)
            };
            asm.ins(Ins::sse(0x66, opcode).w(true), xmm.number(), gpr.into(), &[])
        }
        (To::Reg(to), From::Slot(from, bytes)) => asm.load(to, bytes, slot(from)),
        (To::Reg(to), From::Number(bits)) => {
            asm.mov_reg_imm(to.number(), bits);
            Ok(())
        }
        (To::Reg(to), From::Data(None)) => asm.ins(Ins::of(0x57), to.number(), to.into(), &[]),
        (To::Reg(to), From::Data(Some(address))) => {
            asm.ins(Ins::of(0x28), to.number(), Mem::absolute(address).into(), &[])
        }
        (To::Reg(to), From::Stack(disp)) => asm.lea(to, 8, Mem::base(R::RSP, disp)),
        (To::Slot(to), From::Reg(from)) => asm.store(slot(to), m.bytes, from),
        (To::Slot(to), From::Slot(from, bytes)) => {
            for part in 0..(m.bytes / 8) as u16 {
                if u32::from(part) * 8 >= bytes {
                    // A scalar as a vector: the rest of its register would be 0.
                    asm.store_imm(slot(to + part), 8, 0)?;
                    continue;
                }
                asm.ins(Ins::new(0xff), 6, slot(from + part).into(), &[])?;
                asm.ins(Ins::new(0x8f), 0, slot(to + part).into(), &[])?;
            }
            Ok(())
        }
        (To::Slot(to), From::Number(bits)) => {
            let mem = slot(to);
            match i32::try_from(bits as i64) {
                Ok(imm) => asm.store_imm(mem, 8, imm),
                Err(_) => {
                    asm.store_imm(mem, 4, bits as i32)?;
                    asm.store_imm(
                        Mem {
                            disp: mem.disp + 4,
                            ..mem
                        },
                        4,
                        (bits >> 32) as i32,
                    )
                }
            }
        }
        (To::Slot(to), From::Data(None)) => {
            for part in 0..(m.bytes / 8) as u16 {
                asm.store_imm(slot(to + part), 8, 0)?;
            }
            Ok(())
        }
        (To::Slot(to), From::Data(Some(address))) => {
            for part in 0..(m.bytes / 8) as u16 {
                let from = Mem::absolute(address + u64::from(part) * 8);
                asm.ins(Ins::new(0xff), 6, from.into(), &[])?;
                asm.ins(Ins::new(0x8f), 0, slot(to + part).into(), &[])?;
            }
            Ok(())
        }
        (To::Slot(to), From::Stack(disp)) => {
            // Below the frame, over rax, which is put back: rsp moves meanwhile.
            asm.push(R::RAX);
            asm.lea(R::RAX, 8, Mem::base(R::RSP, disp + 8))?;
            let mem = slot(to);
            asm.store(
                Mem {
                    disp: mem.disp + 8,
                    ..mem
                },
                8,
                R::RAX,
            )?;
            asm.pop(R::RAX);
            Ok(())
        }
    }
}

/// Makes all the moves as if at once. `spare` is a slot of 16 bytes, to break cycles that `xchg` cannot.
pub(super) fn parallel(asm: &mut Asm, mut moves: Vec<Move>, mut spare: impl FnMut() -> u16) -> Result<(), AsmError> {
    moves.retain(|m| !m.is_nothing());
    while !moves.is_empty() {
        // A register that is read is not to be overwritten yet.
        let read = moves.iter().fold(0, |set, m| match m.from {
            From::Reg(r) => set | r.bit(),
            _ => set,
        });
        let free = (0..moves.len()).find(|i| match moves[*i].to {
            To::Reg(r) => read & r.bit() == 0,
            to => !moves.iter().any(|other| reads(other.from, to)),
        });
        if let Some(i) = free {
            let m = moves.swap_remove(i);
            single(asm, &m)?;
            continue;
        }
        let m = moves[0];
        match (m.to, m.from) {
            (To::Reg(to), From::Reg(from)) if !to.is_xmm() && !from.is_xmm() => {
                asm.ins(Ins::new(0x87).w(true), to.number(), from.into(), &[])?;
                for other in &mut moves {
                    if other.from == From::Reg(to) {
                        other.from = From::Reg(from);
                    } else if other.from == From::Reg(from) {
                        other.from = From::Reg(to);
                    }
                }
            }
            (to, _) => {
                // Save what is in the way, and let those that read it read the copy.
                let saved = spare();
                let reader = moves.iter().find(|other| reads(other.from, to)).expect("a cycle");
                let from = reader.from;
                let bytes = match from {
                    From::Slot(_, bytes) => bytes,
                    From::Reg(r) if r.is_xmm() => 16,
                    _ => 8,
                };
                let saving = Move {
                    to: To::Slot(saved),
                    from,
                    bytes,
                };
                single(asm, &saving)?;
                for other in moves.iter_mut().filter(|other| reads(other.from, to)) {
                    other.from = From::Slot(saved, bytes);
                }
            }
        }
        moves.retain(|m| !m.is_nothing());
    }
    Ok(())
}
