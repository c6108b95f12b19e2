//! The memory operands of an instruction, with addresses.
//!
//! iced's `used_memory` is the base, with these corrections:
//! * a repeated string instruction is listed with one element: here it is the whole range, in the direction of the flag;
//! * operands whose size iced gives as 0 (xsave and relatives) and vectors of addresses (gathers) are refused;
//! * `lea`, prefetches and long nops touch nothing.

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register, UsedMemory};
use redmagic_tracee::regs::Gprs;
use smallvec::SmallVec;

use crate::abort::Abort;
use crate::recording::{AccessKind, Bytes, MemAccess};

const DIRECTION_FLAG: u64 = 1 << 10;

/// A memory operand before its value is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operand {
    pub(crate) addr: u64,
    pub(crate) size: u32,
    pub(crate) kind: AccessKind,
    /// Bytes of one element of a repeated string instruction.
    pub(crate) element: Option<u32>,
}

impl Operand {
    /// With its value.
    pub(crate) fn access(&self, value: Bytes) -> MemAccess {
        MemAccess {
            addr: self.addr,
            size: self.size,
            kind: self.kind,
            value,
        }
    }
}

/// The value of a register as part of an address.
pub(crate) fn register(regs: &Gprs, register: Register) -> Option<u64> {
    Some(match register {
        Register::None => 0,
        Register::FS => regs.fs_base,
        Register::GS => regs.gs_base,
        // Flat in 64-bit mode.
        Register::CS | Register::DS | Register::ES | Register::SS => 0,
        r if r.is_gpr64() => regs[r.number()],
        r if r.is_gpr32() => regs[r.number()] & 0xffff_ffff,
        r if r.is_gpr16() => regs[r.number()] & 0xffff,
        // ah, ch, dh, bh share numbers with spl.. and are never part of an address; xlat uses al.
        Register::AL => regs.rax & 0xff,
        _ => return None,
    })
}

/// Whether the instruction repeats, as `rcx` says.
pub(crate) fn repeats(instruction: &Instruction) -> bool {
    instruction.is_string_instruction() && (instruction.has_rep_prefix() || instruction.has_repne_prefix())
}

/// A memory operand before its address is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    memory: UsedMemory,
    /// Bytes, of one element if the instruction repeats.
    pub(crate) size: u32,
    pub(crate) kind: AccessKind,
}

/// The memory operands of `instruction`, whatever its registers hold.
pub(crate) fn shapes(
    factory: &mut InstructionInfoFactory,
    instruction: &Instruction,
) -> Result<SmallVec<[Shape; 2]>, Abort> {
    let info = factory.info(instruction);
    let mut out = SmallVec::new();
    for memory in info.used_memory() {
        let kind = match memory.access() {
            OpAccess::None | OpAccess::NoMemAccess => continue,
            OpAccess::Read | OpAccess::CondRead => AccessKind::Read,
            OpAccess::Write | OpAccess::CondWrite => AccessKind::Write,
            OpAccess::ReadWrite | OpAccess::ReadCondWrite => AccessKind::ReadWrite,
        };
        if memory.vsib_size() != 0 {
            return Err(Abort::Gather);
        }
        // For a repeated string instruction iced gives no size here, but it does for the instruction.
        let size = if repeats(instruction) {
            instruction.memory_size()
        } else {
            memory.memory_size()
        };
        let size = size.size() as u32;
        if size == 0 {
            return Err(Abort::UnknownSize);
        }
        out.push(Shape {
            memory: *memory,
            size,
            kind,
        });
    }
    Ok(out)
}

impl Shape {
    /// Where it is (the first element of a repeated instruction).
    pub(crate) fn address(&self, regs: &Gprs) -> Result<u64, Abort> {
        self.memory
            .virtual_address(0, |r, _, _| register(regs, r))
            .ok_or(Abort::UnknownSize)
    }
}

/// The memory that `instruction`, whose operands are `shapes`, is about to use.
pub(crate) fn place(shapes: &[Shape], instruction: &Instruction, regs: &Gprs) -> Result<SmallVec<[Operand; 2]>, Abort> {
    let mut out = SmallVec::new();
    for shape in shapes {
        let addr = shape.address(regs)?;
        let (element, kind) = (shape.size, shape.kind);
        if !repeats(instruction) {
            out.push(Operand {
                addr,
                size: element,
                kind,
                element: None,
            });
            continue;
        }
        // Address size 32 counts in ecx; as in address computations, the base register tells.
        let count = if shape.memory.base().is_gpr32() {
            regs.rcx & 0xffff_ffff
        } else {
            regs.rcx
        };
        let Ok(size) = u32::try_from(count.saturating_mul(u64::from(element))) else {
            return Err(Abort::UnknownSize);
        };
        if size == 0 {
            continue;
        }
        let back = if regs.rflags & DIRECTION_FLAG != 0 {
            u64::from(size - element)
        } else {
            0
        };
        out.push(Operand {
            addr: addr.wrapping_sub(back),
            size,
            kind,
            element: Some(element),
        });
    }
    Ok(out)
}

/// The memory that `instruction` is about to use.
pub(crate) fn operands(
    factory: &mut InstructionInfoFactory,
    instruction: &Instruction,
    regs: &Gprs,
) -> Result<SmallVec<[Operand; 2]>, Abort> {
    place(&shapes(factory, instruction)?, instruction, regs)
}

/// `repe cmps` and `repne scas` may end early: the operands are what was really touched.
pub(crate) fn trim_repeat(
    instruction: &Instruction,
    before: &Gprs,
    after: &Gprs,
    operands: &mut [Operand],
    values: &mut [Bytes],
) {
    if !matches!(
        instruction.mnemonic(),
        Mnemonic::Cmpsb
            | Mnemonic::Cmpsw
            | Mnemonic::Cmpsd
            | Mnemonic::Cmpsq
            | Mnemonic::Scasb
            | Mnemonic::Scasw
            | Mnemonic::Scasd
            | Mnemonic::Scasq
    ) {
        return;
    }
    let done = before.rcx.wrapping_sub(after.rcx);
    let back = before.rflags & (1 << 10) != 0;
    for (operand, value) in operands.iter_mut().zip(values) {
        let Some(element) = operand.element else {
            continue;
        };
        let size = done.saturating_mul(u64::from(element)).min(u64::from(operand.size)) as u32;
        if back {
            // The touched part is the upper end, of which the value may have been cut off.
            let cut = (operand.size - size) as usize;
            operand.addr += cut as u64;
            value.0.drain(..cut.min(value.0.len()));
        } else {
            value.0.truncate(size as usize);
        }
        operand.size = size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn of(bytes: &[u8], regs: &Gprs) -> Result<Vec<Operand>, Abort> {
        let instruction = Decoder::with_ip(64, bytes, 0x1000, DecoderOptions::NONE).decode();
        assert!(!instruction.is_invalid());
        operands(&mut InstructionInfoFactory::new(), &instruction, regs).map(|v| v.to_vec())
    }

    #[test]
    fn addresses_sizes_and_kinds() {
        use AccessKind::*;
        let regs = Gprs {
            rax: 0x10,
            rbx: 0x2000,
            rsp: 0x8000,
            rcx: 3,
            rsi: 0x100,
            rdi: 0x200,
            fs_base: 0x9000,
            ..Gprs::default()
        };
        let down = Gprs {
            rflags: DIRECTION_FLAG,
            ..regs
        };
        let none = Gprs { rcx: 0, ..regs };
        let one = |addr, size, kind| {
            vec![Operand {
                addr,
                size,
                kind,
                element: None,
            }]
        };
        let rep = |addr, size, kind, element| Operand {
            addr,
            size,
            kind,
            element: Some(element),
        };
        // mov rcx, [rbx + rax*8 - 4]
        assert_eq!(
            of(&[0x48, 0x8b, 0x4c, 0xc3, 0xfc], &regs).unwrap(),
            one(0x207c, 8, Read)
        );
        // add dword ptr [rip + 0x10], 1
        assert_eq!(
            of(&[0x83, 0x05, 0x10, 0, 0, 0, 1], &regs).unwrap(),
            one(0x1017, 4, ReadWrite)
        );
        // mov rax, fs:[0x28]
        assert_eq!(
            of(&[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0], &regs).unwrap(),
            one(0x9028, 8, Read)
        );
        // push rax; pop rax; call +0; ret
        assert_eq!(of(&[0x50], &regs).unwrap(), one(0x7ff8, 8, Write));
        assert_eq!(of(&[0x58], &regs).unwrap(), one(0x8000, 8, Read));
        assert_eq!(of(&[0xe8, 0, 0, 0, 0], &regs).unwrap(), one(0x7ff8, 8, Write));
        assert_eq!(of(&[0xc3], &regs).unwrap(), one(0x8000, 8, Read));
        // lea rax, [rbx]; nop dword ptr [rax]; prefetcht0 [rax]
        assert_eq!(of(&[0x48, 0x8d, 0x03], &regs).unwrap(), []);
        assert_eq!(of(&[0x0f, 0x1f, 0x00], &regs).unwrap(), []);
        assert_eq!(of(&[0x0f, 0x18, 0x08], &regs).unwrap(), []);
        // rep movsq, up and down and not at all; rep stosd
        let both = |r: &Gprs| {
            let mut v = of(&[0xf3, 0x48, 0xa5], r).unwrap();
            v.sort_by_key(|o| o.addr);
            v
        };
        assert_eq!(both(&regs), [rep(0x100, 24, Read, 8), rep(0x200, 24, Write, 8)]);
        assert_eq!(
            both(&down),
            [rep(0x100 - 16, 24, Read, 8), rep(0x200 - 16, 24, Write, 8)]
        );
        assert_eq!(both(&none), []);
        assert_eq!(of(&[0xf3, 0xab], &regs).unwrap(), [rep(0x200, 12, Write, 4)]);
        // vpgatherdd xmm0, [rax + xmm1], xmm2 and xsave [rax] are refused.
        assert_eq!(of(&[0xc4, 0xe2, 0x69, 0x90, 0x04, 0x08], &regs), Err(Abort::Gather));
        assert_eq!(of(&[0x0f, 0xae, 0x20], &regs), Err(Abort::UnknownSize));
    }
}
