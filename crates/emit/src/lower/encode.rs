//! The x86-64 encodings that lowered code is made of.
//!
//! An instruction is an [`Ins`] (prefix, opcode map, opcode), a register number and an operand that is a register or
//! memory. Everything else (REX, ModRM, SIB, displacement sizes) follows.

use crate::asm::{Asm, AsmError};

/// A physical register: 0-15 general in x86 order, 16-31 xmm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct R(pub u8);

impl R {
    pub(super) const RAX: R = R(0);
    pub(super) const RCX: R = R(1);
    pub(super) const RDX: R = R(2);
    pub(super) const RSP: R = R(4);

    /// The number in the encoding.
    pub(super) const fn number(self) -> u8 {
        self.0 & 15
    }

    pub(super) const fn is_xmm(self) -> bool {
        self.0 >= 16
    }

    /// As the IR names it.
    pub(super) fn reg(self) -> redmagic_ir::Reg {
        redmagic_ir::Reg::from_index(usize::from(self.0)).expect("32 registers come first")
    }

    /// As a bit of a set.
    pub(super) const fn bit(self) -> u32 {
        1 << self.0
    }
}

/// A segment override.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seg {
    None,
    Fs,
    Gs,
}

/// A memory operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mem {
    pub base: Option<R>,
    pub index: Option<R>,
    /// What the index is shifted left by.
    pub shift: u8,
    pub disp: i32,
    pub seg: Seg,
    /// An absolute address instead of all of the above but the segment.
    pub absolute: Option<u64>,
}

impl Mem {
    /// `[base + disp]`.
    pub(super) const fn base(base: R, disp: i32) -> Mem {
        Mem {
            base: Some(base),
            index: None,
            shift: 0,
            disp,
            seg: Seg::None,
            absolute: None,
        }
    }

    /// A place that is known.
    pub(super) const fn absolute(address: u64) -> Mem {
        Mem {
            base: None,
            index: None,
            shift: 0,
            disp: 0,
            seg: Seg::None,
            absolute: Some(address),
        }
    }
}

/// A register or memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rm {
    Reg(R),
    Mem(Mem),
}

impl From<R> for Rm {
    fn from(r: R) -> Rm {
        Rm::Reg(r)
    }
}

impl From<Mem> for Rm {
    fn from(m: Mem) -> Rm {
        Rm::Mem(m)
    }
}

/// An opcode with its prefix, and what its operands are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ins {
    /// 0x66, 0xf2, 0xf3, or 0.
    pub prefix: u8,
    /// 0: one byte; 1: after 0f; 2: after 0f 38; 3: after 0f 3a.
    pub map: u8,
    pub opcode: u8,
    /// REX.W.
    pub w: bool,
    /// The register operand is an 8-bit one.
    pub byte_reg: bool,
    /// The other operand is an 8-bit one.
    pub byte_rm: bool,
}

impl Ins {
    pub(super) const fn new(opcode: u8) -> Ins {
        Ins {
            prefix: 0,
            map: 0,
            opcode,
            w: false,
            byte_reg: false,
            byte_rm: false,
        }
    }

    /// An opcode after 0f with a prefix (or 0).
    pub(super) const fn sse(prefix: u8, opcode: u8) -> Ins {
        Ins {
            prefix,
            map: 1,
            ..Ins::new(opcode)
        }
    }

    /// An opcode after 0f.
    pub(super) const fn of(opcode: u8) -> Ins {
        Ins::sse(0, opcode)
    }

    #[must_use]
    pub(super) const fn w(mut self, w: bool) -> Ins {
        self.w = w;
        self
    }

    /// The form for operands of `size` bytes, of an opcode whose 8-bit form is `opcode & !1`.
    #[must_use]
    pub(super) const fn sized(mut self, size: u32) -> Ins {
        match size {
            1 => {
                self.opcode &= !1;
                self.byte_reg = true;
                self.byte_rm = true;
            }
            2 => self.prefix = 0x66,
            8 => self.w = true,
            _ => {}
        }
        self
    }

    /// The form for operands of 2, 4 or 8 bytes.
    #[must_use]
    pub(super) const fn wide(mut self, size: u32) -> Ins {
        match size {
            2 => self.prefix = 0x66,
            8 => self.w = true,
            _ => {}
        }
        self
    }
}

/// The arithmetic group, by the number in its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alu {
    Add = 0,
    Or = 1,
    Adc = 2,
    Sbb = 3,
    And = 4,
    Sub = 5,
    Xor = 6,
    Cmp = 7,
}

/// The bytes of an instruction so far.
#[derive(Default)]
struct Bytes {
    bytes: [u8; 16],
    len: usize,
}

impl Bytes {
    fn put(&mut self, b: u8) {
        self.bytes[self.len] = b;
        self.len += 1;
    }
}

impl Asm {
    /// One instruction.
    pub(super) fn ins(&mut self, ins: Ins, reg: u8, rm: Rm, trailing: &[u8]) -> Result<(), AsmError> {
        let mut bytes = Bytes::default();
        let mut put = |b: u8| bytes.put(b);
        let mut rex = if ins.w { 0x48 } else { 0 } | (reg >> 3) << 2;
        if ins.byte_reg && (4..8).contains(&reg) {
            rex |= 0x40;
        }
        match rm {
            Rm::Reg(r) => {
                rex |= r.number() >> 3;
                if ins.byte_rm && (4..8).contains(&r.0) {
                    rex |= 0x40;
                }
            }
            Rm::Mem(m) => {
                rex |= m.base.map_or(0, |r| r.number() >> 3) | m.index.map_or(0, |r| r.number() >> 3) << 1;
                match m.seg {
                    Seg::None => {}
                    Seg::Fs => put(0x64),
                    Seg::Gs => put(0x65),
                }
            }
        }
        if ins.prefix != 0 {
            put(ins.prefix);
        }
        if rex != 0 {
            put(0x40 | rex);
        }
        match ins.map {
            0 => {}
            1 => put(0x0f),
            2 => {
                put(0x0f);
                put(0x38);
            }
            _ => {
                put(0x0f);
                put(0x3a);
            }
        }
        put(ins.opcode);
        let before = bytes.len as u64;
        let mut put = |b: u8| bytes.put(b);
        let reg = (reg & 7) << 3;
        let mem = match rm {
            Rm::Reg(r) => {
                put(0xc0 | reg | r.number() & 7);
                self.bytes(&bytes.bytes[..bytes.len]);
                self.bytes(trailing);
                return Ok(());
            }
            Rm::Mem(m) => m,
        };
        if let Some(address) = mem.absolute {
            // A segment base is added to what RIP-relative addressing gives, too.
            let from = self.here() + before + 5 + trailing.len() as u64;
            if let Ok(disp) = i32::try_from(address.wrapping_sub(from) as i64) {
                put(reg | 5);
                disp.to_le_bytes().into_iter().for_each(put);
            } else {
                let disp = i32::try_from(address as i64).map_err(|_| AsmError::Reach { from, to: address })?;
                put(reg | 4);
                put(0x25);
                disp.to_le_bytes().into_iter().for_each(put);
            }
        } else {
            // rsp and r12 as a base need a SIB byte, rbp and r13 a displacement; no base is a form of its own.
            let disp_form = match mem.base {
                None => 0,
                Some(base) if mem.disp == 0 && base.number() & 7 != 5 => 0,
                Some(_) if i8::try_from(mem.disp).is_ok() => 0x40,
                Some(_) => 0x80,
            };
            let sib_base = mem.base.map_or(5, |r| r.number() & 7);
            match (mem.index, mem.base) {
                (None, Some(base)) if base.number() & 7 != 4 => put(disp_form | reg | sib_base),
                (index, _) => {
                    put(disp_form | reg | 4);
                    put(mem.shift << 6 | index.map_or(4, |r| r.number() & 7) << 3 | sib_base);
                }
            }
            match (mem.base, disp_form) {
                (None, _) | (_, 0x80) => mem.disp.to_le_bytes().into_iter().for_each(put),
                (_, 0x40) => put(mem.disp as u8),
                _ => {}
            }
        }
        self.bytes(&bytes.bytes[..bytes.len]);
        self.bytes(trailing);
        Ok(())
    }

    /// `kind reg, rm` for operands of `size` bytes.
    pub(super) fn alu(&mut self, kind: Alu, size: u32, reg: R, rm: Rm) -> Result<(), AsmError> {
        self.ins(Ins::new((kind as u8) << 3 | 3).sized(size), reg.number(), rm, &[])
    }

    /// `kind [mem], reg`.
    pub(super) fn alu_store(&mut self, kind: Alu, size: u32, mem: Mem, reg: R) -> Result<(), AsmError> {
        self.ins(
            Ins::new((kind as u8) << 3 | 1).sized(size),
            reg.number(),
            mem.into(),
            &[],
        )
    }

    /// `kind rm, imm`; the immediate is sign-extended.
    pub(super) fn alu_imm(&mut self, kind: Alu, size: u32, rm: Rm, imm: i32) -> Result<(), AsmError> {
        match size {
            1 => self.ins(Ins::new(0x80).sized(1), kind as u8, rm, &[imm as u8]),
            _ if i8::try_from(imm).is_ok() => self.ins(Ins::new(0x83).wide(size), kind as u8, rm, &[imm as u8]),
            2 => self.ins(Ins::new(0x81).wide(2), kind as u8, rm, &(imm as u16).to_le_bytes()),
            _ => self.ins(Ins::new(0x81).wide(size), kind as u8, rm, &imm.to_le_bytes()),
        }
    }

    /// `test rm, reg`.
    pub(super) fn test(&mut self, size: u32, rm: Rm, reg: R) -> Result<(), AsmError> {
        self.ins(Ins::new(0x85).sized(size), reg.number(), rm, &[])
    }

    /// `test rm, imm`.
    pub(super) fn test_imm(&mut self, size: u32, rm: Rm, imm: i32) -> Result<(), AsmError> {
        match size {
            1 => self.ins(Ins::new(0xf7).sized(1), 0, rm, &[imm as u8]),
            2 => self.ins(Ins::new(0xf7).wide(2), 0, rm, &(imm as u16).to_le_bytes()),
            _ => self.ins(Ins::new(0xf7).wide(size), 0, rm, &imm.to_le_bytes()),
        }
    }

    /// `mov to, from` of all 64 bits, or of all 128.
    pub(super) fn mov(&mut self, to: R, from: R) -> Result<(), AsmError> {
        debug_assert_eq!(to.is_xmm(), from.is_xmm());
        if to == from {
            return Ok(());
        }
        let ins = if to.is_xmm() {
            Ins::of(0x28)
        } else {
            Ins::new(0x8b).w(true)
        };
        self.ins(ins, to.number(), from.into(), &[])
    }

    /// Loads `size` bytes: 1 and 2 are zero-extended; of an xmm register the rest is zeroed; 16 need no alignment.
    pub(super) fn load(&mut self, to: R, size: u32, mem: Mem) -> Result<(), AsmError> {
        let ins = match (to.is_xmm(), size) {
            (false, 1) => Ins::of(0xb6),
            (false, 2) => Ins::of(0xb7),
            (false, 4) => Ins::new(0x8b),
            (false, _) => Ins::new(0x8b).w(true),
            (true, 4) => Ins::sse(0xf3, 0x10),
            (true, 8) => Ins::sse(0xf3, 0x7e),
            (true, _) => Ins::of(0x10),
        };
        self.ins(ins, to.number(), mem.into(), &[])
    }

    /// Stores `size` bytes.
    pub(super) fn store(&mut self, mem: Mem, size: u32, from: R) -> Result<(), AsmError> {
        let ins = match (from.is_xmm(), size) {
            (false, _) => Ins::new(0x89).sized(size),
            (true, 4) => Ins::sse(0xf3, 0x11),
            (true, 8) => Ins::sse(0x66, 0xd6),
            (true, _) => Ins::of(0x11),
        };
        self.ins(ins, from.number(), mem.into(), &[])
    }

    /// Stores an immediate of `size` bytes, sign-extended from 32 bits.
    pub(super) fn store_imm(&mut self, mem: Mem, size: u32, imm: i32) -> Result<(), AsmError> {
        let bytes = imm.to_le_bytes();
        let len = size.min(4) as usize;
        self.ins(Ins::new(0xc7).sized(size), 0, mem.into(), &bytes[..len])
    }

    /// `lea to, mem`.
    pub(super) fn lea(&mut self, to: R, size: u32, mem: Mem) -> Result<(), AsmError> {
        self.ins(Ins::new(0x8d).w(size == 8), to.number(), mem.into(), &[])
    }

    /// `push` or `pop` of a register.
    pub(super) fn push(&mut self, r: R) {
        if r.0 >= 8 {
            self.bytes(&[0x41]);
        }
        self.bytes(&[0x50 | r.0 & 7]);
    }

    /// `pop` of a register.
    pub(super) fn pop(&mut self, r: R) {
        if r.0 >= 8 {
            self.bytes(&[0x41]);
        }
        self.bytes(&[0x58 | r.0 & 7]);
    }

    /// `setcc r8`.
    pub(super) fn setcc(&mut self, condition: u8, to: R) -> Result<(), AsmError> {
        let ins = Ins {
            byte_rm: true,
            ..Ins::of(0x90 | condition)
        };
        self.ins(ins, 0, to.into(), &[])
    }

    /// `movzx to, r8`.
    pub(super) fn movzx8(&mut self, to: R, from: R) -> Result<(), AsmError> {
        let ins = Ins {
            byte_rm: true,
            ..Ins::of(0xb6)
        };
        self.ins(ins, to.number(), from.into(), &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

    fn text(emit: impl FnOnce(&mut Asm) -> Result<(), AsmError>) -> String {
        let mut asm = Asm::new(0x1000, 0x2000);
        emit(&mut asm).expect("encodable");
        let code = asm.finish().expect("no labels").code;
        let mut decoder = Decoder::with_ip(64, &code, 0x1000, DecoderOptions::NONE);
        let (mut formatter, mut out) = (IntelFormatter::new(), String::new());
        formatter.format(&decoder.decode(), &mut out);
        assert!(!decoder.can_decode(), "{out} and more: {code:x?}");
        out
    }

    #[test]
    fn operands_of_all_shapes() {
        let m = |base: u8, disp| Mem::base(R(base), disp);
        assert_eq!(text(|a| a.alu(Alu::Add, 8, R(0), R(15).into())), "add rax,r15");
        assert_eq!(text(|a| a.alu(Alu::Cmp, 1, R(6), m(4, 8).into())), "cmp sil,[rsp+8]");
        assert_eq!(text(|a| a.load(R(12), 2, m(12, 0))), "movzx r12d,word ptr [r12]");
        assert_eq!(text(|a| a.load(R(20), 8, m(13, 0))), "movq xmm4,[r13]");
        assert_eq!(text(|a| a.store(m(5, -129), 1, R(7))), "mov [rbp-81h],dil");
        let indexed = Mem {
            index: Some(R(9)),
            shift: 3,
            ..m(5, 0)
        };
        assert_eq!(text(|a| a.lea(R(1), 8, indexed)), "lea rcx,[rbp+r9*8]");
        let index = Mem { base: None, ..indexed };
        assert_eq!(text(|a| a.lea(R(1), 4, index)), "lea ecx,[r9*8]");
        let tls = Mem {
            seg: Seg::Fs,
            disp: -8,
            base: None,
            ..m(0, 0)
        };
        assert_eq!(
            text(|a| a.store_imm(tls, 8, -1)),
            "mov qword ptr fs:[0FFFFFFFFFFFFFFF8h],0FFFFFFFFFFFFFFFFh"
        );
        let near = Mem::absolute(0x1234);
        assert_eq!(
            text(|a| a.alu_imm(Alu::And, 4, near.into(), 0x1000)),
            "and dword ptr [1234h],1000h"
        );
        assert_eq!(
            text(|a| a.alu_imm(Alu::And, 2, near.into(), 0x1000)),
            "and word ptr [1234h],1000h"
        );
        let low = Mem::absolute(0xffff_ffff_8000_0000);
        assert_eq!(
            text(|a| a.test_imm(1, low.into(), 3)),
            "test byte ptr [0FFFFFFFF80000000h],3"
        );
        assert_eq!(text(|a| a.mov(R(31), R(16))), "movaps xmm15,xmm0");
        assert_eq!(text(|a| a.setcc(4, R(5))), "sete bpl");
    }

    #[test]
    fn what_is_out_of_reach_is_an_error() {
        let mut asm = Asm::new(0x1000, 0x2000);
        assert!(asm.load(R(0), 8, Mem::absolute(1 << 40)).is_err());
    }
}
