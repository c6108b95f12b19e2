//! 128-bit vector operations: one table from operations to instructions, in their legacy encodings, which keep the upper
//! halves of vector registers.

use iced_x86::{Code as C, MandatoryPrefix, OpCodeTableKind};
use redmagic_ir::{Op, Opcode};

use super::encode::{Ins, R};
use super::{Lower, LowerError};

/// What the operands of an instruction are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `op r, a`
    Unary,
    /// `op r, b`, r being a
    Binary,
    /// `op r, a, imm`
    UnaryImm,
    /// `op r, b, imm`, r being a
    BinaryImm,
    /// `op r, imm`, r being a
    Shift,
    /// `op r, b`, r being a, and xmm0 the mask
    Blend,
    /// `op r32, a`
    Mask,
}

impl Lower<'_> {
    pub(super) fn vector(&mut self, i: usize, op: &Op) -> Result<bool, LowerError> {
        let Some((shape, code)) = instruction(op.code) else {
            return Ok(false);
        };
        let info = code.op_code();
        let ins = Ins {
            map: match info.table() {
                OpCodeTableKind::T0F => 1,
                OpCodeTableKind::T0F38 => 2,
                OpCodeTableKind::T0F3A => 3,
                _ => return Err(self.unsupported("an instruction of no table")),
            },
            ..Ins::sse(
                match info.mandatory_prefix() {
                    MandatoryPrefix::P66 => 0x66,
                    MandatoryPrefix::PF3 => 0xf3,
                    MandatoryPrefix::PF2 => 0xf2,
                    MandatoryPrefix::None | MandatoryPrefix::PNP => 0,
                },
                info.op_code() as u8,
            )
        };
        let imm = [op.imm];
        let imm: &[u8] = match shape {
            Shape::UnaryImm | Shape::BinaryImm | Shape::Shift => &imm,
            _ => &[],
        };
        match shape {
            Shape::Unary | Shape::UnaryImm | Shape::Mask => {
                let a = self.get(op.args[0])?;
                let r = self.def_over(i, &op.args[..1])?;
                self.asm.ins(ins, r.number(), a.into(), imm)?;
            }
            Shape::Binary | Shape::BinaryImm => {
                // What `insertps` reads from memory is one lane, not a vector.
                let rm = match op.code {
                    Opcode::Insertps => self.get(op.args[1])?.into(),
                    _ => self.rm(op.args[1], 16)?,
                };
                let r = self.def_copy(i, op.args[0])?;
                self.asm.ins(ins, r.number(), rm, imm)?;
            }
            Shape::Shift => {
                let r = self.def_copy(i, op.args[0])?;
                let digit = if op.code == Opcode::Pslldq { 7 } else { 3 };
                self.asm.ins(ins, digit, r.into(), imm)?;
            }
            Shape::Blend => {
                const MASK: R = R(16);
                self.put(MASK, op.args[2], &op.args[..2])?;
                let b = self.get(op.args[1])?;
                let r = self.def_copy(i, op.args[0])?;
                self.asm.ins(ins, r.number(), b.into(), &[])?;
            }
        }
        Ok(true)
    }
}

fn instruction(code: Opcode) -> Option<(Shape, C)> {
    use Opcode as O;
    Some(match code {
        O::Pmovmskb => (Shape::Mask, C::Pmovmskb_r32_xmm),
        O::Movmskps => (Shape::Mask, C::Movmskps_r32_xmm),
        O::Movmskpd => (Shape::Mask, C::Movmskpd_r32_xmm),
        O::Pblendvb => (Shape::Blend, C::Pblendvb_xmm_xmmm128),
        O::Blendvps => (Shape::Blend, C::Blendvps_xmm_xmmm128),
        O::Blendvpd => (Shape::Blend, C::Blendvpd_xmm_xmmm128),
        O::Pshufd => (Shape::UnaryImm, C::Pshufd_xmm_xmmm128_imm8),
        O::Pshuflw => (Shape::UnaryImm, C::Pshuflw_xmm_xmmm128_imm8),
        O::Pshufhw => (Shape::UnaryImm, C::Pshufhw_xmm_xmmm128_imm8),
        O::Shufps => (Shape::BinaryImm, C::Shufps_xmm_xmmm128_imm8),
        O::Shufpd => (Shape::BinaryImm, C::Shufpd_xmm_xmmm128_imm8),
        O::Pslldq => (Shape::Shift, C::Pslldq_xmm_imm8),
        O::Psrldq => (Shape::Shift, C::Psrldq_xmm_imm8),
        O::Palignr => (Shape::BinaryImm, C::Palignr_xmm_xmmm128_imm8),
        O::Pblendw => (Shape::BinaryImm, C::Pblendw_xmm_xmmm128_imm8),
        O::Blendps => (Shape::BinaryImm, C::Blendps_xmm_xmmm128_imm8),
        O::Blendpd => (Shape::BinaryImm, C::Blendpd_xmm_xmmm128_imm8),
        O::Insertps => (Shape::BinaryImm, C::Insertps_xmm_xmmm32_imm8),
        O::Cmpps => (Shape::BinaryImm, C::Cmpps_xmm_xmmm128_imm8),
        O::Cmppd => (Shape::BinaryImm, C::Cmppd_xmm_xmmm128_imm8),
        O::Roundps => (Shape::UnaryImm, C::Roundps_xmm_xmmm128_imm8),
        O::Roundpd => (Shape::UnaryImm, C::Roundpd_xmm_xmmm128_imm8),
        O::Addps => (Shape::Binary, C::Addps_xmm_xmmm128),
        O::Addpd => (Shape::Binary, C::Addpd_xmm_xmmm128),
        O::Subps => (Shape::Binary, C::Subps_xmm_xmmm128),
        O::Subpd => (Shape::Binary, C::Subpd_xmm_xmmm128),
        O::Mulps => (Shape::Binary, C::Mulps_xmm_xmmm128),
        O::Mulpd => (Shape::Binary, C::Mulpd_xmm_xmmm128),
        O::Divps => (Shape::Binary, C::Divps_xmm_xmmm128),
        O::Divpd => (Shape::Binary, C::Divpd_xmm_xmmm128),
        O::Minps => (Shape::Binary, C::Minps_xmm_xmmm128),
        O::Minpd => (Shape::Binary, C::Minpd_xmm_xmmm128),
        O::Maxps => (Shape::Binary, C::Maxps_xmm_xmmm128),
        O::Maxpd => (Shape::Binary, C::Maxpd_xmm_xmmm128),
        O::Haddps => (Shape::Binary, C::Haddps_xmm_xmmm128),
        O::Haddpd => (Shape::Binary, C::Haddpd_xmm_xmmm128),
        O::Hsubps => (Shape::Binary, C::Hsubps_xmm_xmmm128),
        O::Hsubpd => (Shape::Binary, C::Hsubpd_xmm_xmmm128),
        O::Addsubps => (Shape::Binary, C::Addsubps_xmm_xmmm128),
        O::Addsubpd => (Shape::Binary, C::Addsubpd_xmm_xmmm128),
        O::Sqrtps => (Shape::Unary, C::Sqrtps_xmm_xmmm128),
        O::Sqrtpd => (Shape::Unary, C::Sqrtpd_xmm_xmmm128),
        O::Cvtdq2ps => (Shape::Unary, C::Cvtdq2ps_xmm_xmmm128),
        O::Cvtdq2pd => (Shape::Unary, C::Cvtdq2pd_xmm_xmmm64),
        O::Cvtps2pd => (Shape::Unary, C::Cvtps2pd_xmm_xmmm64),
        O::Cvtpd2ps => (Shape::Unary, C::Cvtpd2ps_xmm_xmmm128),
        O::Cvtps2dq => (Shape::Unary, C::Cvtps2dq_xmm_xmmm128),
        O::Cvttps2dq => (Shape::Unary, C::Cvttps2dq_xmm_xmmm128),
        O::Cvtpd2dq => (Shape::Unary, C::Cvtpd2dq_xmm_xmmm128),
        O::Cvttpd2dq => (Shape::Unary, C::Cvttpd2dq_xmm_xmmm128),
        O::Movddup => (Shape::Unary, C::Movddup_xmm_xmmm64),
        O::Movshdup => (Shape::Unary, C::Movshdup_xmm_xmmm128),
        O::Movsldup => (Shape::Unary, C::Movsldup_xmm_xmmm128),
        O::Unpcklps => (Shape::Binary, C::Unpcklps_xmm_xmmm128),
        O::Unpckhps => (Shape::Binary, C::Unpckhps_xmm_xmmm128),
        O::Pand => (Shape::Binary, C::Pand_xmm_xmmm128),
        O::Pandn => (Shape::Binary, C::Pandn_xmm_xmmm128),
        O::Por => (Shape::Binary, C::Por_xmm_xmmm128),
        O::Pxor => (Shape::Binary, C::Pxor_xmm_xmmm128),
        O::Paddb => (Shape::Binary, C::Paddb_xmm_xmmm128),
        O::Paddw => (Shape::Binary, C::Paddw_xmm_xmmm128),
        O::Paddd => (Shape::Binary, C::Paddd_xmm_xmmm128),
        O::Paddq => (Shape::Binary, C::Paddq_xmm_xmmm128),
        O::Paddsb => (Shape::Binary, C::Paddsb_xmm_xmmm128),
        O::Paddsw => (Shape::Binary, C::Paddsw_xmm_xmmm128),
        O::Paddusb => (Shape::Binary, C::Paddusb_xmm_xmmm128),
        O::Paddusw => (Shape::Binary, C::Paddusw_xmm_xmmm128),
        O::Psubb => (Shape::Binary, C::Psubb_xmm_xmmm128),
        O::Psubw => (Shape::Binary, C::Psubw_xmm_xmmm128),
        O::Psubd => (Shape::Binary, C::Psubd_xmm_xmmm128),
        O::Psubq => (Shape::Binary, C::Psubq_xmm_xmmm128),
        O::Psubsb => (Shape::Binary, C::Psubsb_xmm_xmmm128),
        O::Psubsw => (Shape::Binary, C::Psubsw_xmm_xmmm128),
        O::Psubusb => (Shape::Binary, C::Psubusb_xmm_xmmm128),
        O::Psubusw => (Shape::Binary, C::Psubusw_xmm_xmmm128),
        O::Pmullw => (Shape::Binary, C::Pmullw_xmm_xmmm128),
        O::Pmulhw => (Shape::Binary, C::Pmulhw_xmm_xmmm128),
        O::Pmulhuw => (Shape::Binary, C::Pmulhuw_xmm_xmmm128),
        O::Pmuludq => (Shape::Binary, C::Pmuludq_xmm_xmmm128),
        O::Pmuldq => (Shape::Binary, C::Pmuldq_xmm_xmmm128),
        O::Pmulld => (Shape::Binary, C::Pmulld_xmm_xmmm128),
        O::Pmaddwd => (Shape::Binary, C::Pmaddwd_xmm_xmmm128),
        O::Pmaddubsw => (Shape::Binary, C::Pmaddubsw_xmm_xmmm128),
        O::Pmulhrsw => (Shape::Binary, C::Pmulhrsw_xmm_xmmm128),
        O::Pavgb => (Shape::Binary, C::Pavgb_xmm_xmmm128),
        O::Pavgw => (Shape::Binary, C::Pavgw_xmm_xmmm128),
        O::Psadbw => (Shape::Binary, C::Psadbw_xmm_xmmm128),
        O::Pminub => (Shape::Binary, C::Pminub_xmm_xmmm128),
        O::Pminsb => (Shape::Binary, C::Pminsb_xmm_xmmm128),
        O::Pminuw => (Shape::Binary, C::Pminuw_xmm_xmmm128),
        O::Pminsw => (Shape::Binary, C::Pminsw_xmm_xmmm128),
        O::Pminud => (Shape::Binary, C::Pminud_xmm_xmmm128),
        O::Pminsd => (Shape::Binary, C::Pminsd_xmm_xmmm128),
        O::Pmaxub => (Shape::Binary, C::Pmaxub_xmm_xmmm128),
        O::Pmaxsb => (Shape::Binary, C::Pmaxsb_xmm_xmmm128),
        O::Pmaxuw => (Shape::Binary, C::Pmaxuw_xmm_xmmm128),
        O::Pmaxsw => (Shape::Binary, C::Pmaxsw_xmm_xmmm128),
        O::Pmaxud => (Shape::Binary, C::Pmaxud_xmm_xmmm128),
        O::Pmaxsd => (Shape::Binary, C::Pmaxsd_xmm_xmmm128),
        O::Pcmpeqb => (Shape::Binary, C::Pcmpeqb_xmm_xmmm128),
        O::Pcmpeqw => (Shape::Binary, C::Pcmpeqw_xmm_xmmm128),
        O::Pcmpeqd => (Shape::Binary, C::Pcmpeqd_xmm_xmmm128),
        O::Pcmpeqq => (Shape::Binary, C::Pcmpeqq_xmm_xmmm128),
        O::Pcmpgtb => (Shape::Binary, C::Pcmpgtb_xmm_xmmm128),
        O::Pcmpgtw => (Shape::Binary, C::Pcmpgtw_xmm_xmmm128),
        O::Pcmpgtd => (Shape::Binary, C::Pcmpgtd_xmm_xmmm128),
        O::Pcmpgtq => (Shape::Binary, C::Pcmpgtq_xmm_xmmm128),
        O::Packsswb => (Shape::Binary, C::Packsswb_xmm_xmmm128),
        O::Packssdw => (Shape::Binary, C::Packssdw_xmm_xmmm128),
        O::Packuswb => (Shape::Binary, C::Packuswb_xmm_xmmm128),
        O::Packusdw => (Shape::Binary, C::Packusdw_xmm_xmmm128),
        O::Punpcklbw => (Shape::Binary, C::Punpcklbw_xmm_xmmm128),
        O::Punpcklwd => (Shape::Binary, C::Punpcklwd_xmm_xmmm128),
        O::Punpckldq => (Shape::Binary, C::Punpckldq_xmm_xmmm128),
        O::Punpcklqdq => (Shape::Binary, C::Punpcklqdq_xmm_xmmm128),
        O::Punpckhbw => (Shape::Binary, C::Punpckhbw_xmm_xmmm128),
        O::Punpckhwd => (Shape::Binary, C::Punpckhwd_xmm_xmmm128),
        O::Punpckhdq => (Shape::Binary, C::Punpckhdq_xmm_xmmm128),
        O::Punpckhqdq => (Shape::Binary, C::Punpckhqdq_xmm_xmmm128),
        O::Pshufb => (Shape::Binary, C::Pshufb_xmm_xmmm128),
        O::Phaddw => (Shape::Binary, C::Phaddw_xmm_xmmm128),
        O::Phaddd => (Shape::Binary, C::Phaddd_xmm_xmmm128),
        O::Phaddsw => (Shape::Binary, C::Phaddsw_xmm_xmmm128),
        O::Phsubw => (Shape::Binary, C::Phsubw_xmm_xmmm128),
        O::Phsubd => (Shape::Binary, C::Phsubd_xmm_xmmm128),
        O::Phsubsw => (Shape::Binary, C::Phsubsw_xmm_xmmm128),
        O::Psignb => (Shape::Binary, C::Psignb_xmm_xmmm128),
        O::Psignw => (Shape::Binary, C::Psignw_xmm_xmmm128),
        O::Psignd => (Shape::Binary, C::Psignd_xmm_xmmm128),
        O::Psllw => (Shape::Binary, C::Psllw_xmm_xmmm128),
        O::Pslld => (Shape::Binary, C::Pslld_xmm_xmmm128),
        O::Psllq => (Shape::Binary, C::Psllq_xmm_xmmm128),
        O::Psrlw => (Shape::Binary, C::Psrlw_xmm_xmmm128),
        O::Psrld => (Shape::Binary, C::Psrld_xmm_xmmm128),
        O::Psrlq => (Shape::Binary, C::Psrlq_xmm_xmmm128),
        O::Psraw => (Shape::Binary, C::Psraw_xmm_xmmm128),
        O::Psrad => (Shape::Binary, C::Psrad_xmm_xmmm128),
        O::Pabsb => (Shape::Unary, C::Pabsb_xmm_xmmm128),
        O::Pabsw => (Shape::Unary, C::Pabsw_xmm_xmmm128),
        O::Pabsd => (Shape::Unary, C::Pabsd_xmm_xmmm128),
        O::Phminposuw => (Shape::Unary, C::Phminposuw_xmm_xmmm128),
        O::Pmovsxbw => (Shape::Unary, C::Pmovsxbw_xmm_xmmm64),
        O::Pmovsxbd => (Shape::Unary, C::Pmovsxbd_xmm_xmmm32),
        O::Pmovsxbq => (Shape::Unary, C::Pmovsxbq_xmm_xmmm16),
        O::Pmovsxwd => (Shape::Unary, C::Pmovsxwd_xmm_xmmm64),
        O::Pmovsxwq => (Shape::Unary, C::Pmovsxwq_xmm_xmmm32),
        O::Pmovsxdq => (Shape::Unary, C::Pmovsxdq_xmm_xmmm64),
        O::Pmovzxbw => (Shape::Unary, C::Pmovzxbw_xmm_xmmm64),
        O::Pmovzxbd => (Shape::Unary, C::Pmovzxbd_xmm_xmmm32),
        O::Pmovzxbq => (Shape::Unary, C::Pmovzxbq_xmm_xmmm16),
        O::Pmovzxwd => (Shape::Unary, C::Pmovzxwd_xmm_xmmm64),
        O::Pmovzxwq => (Shape::Unary, C::Pmovzxwq_xmm_xmmm32),
        O::Pmovzxdq => (Shape::Unary, C::Pmovzxdq_xmm_xmmm64),
        _ => return None,
    })
}
