//! Packed arithmetic, logic, comparison, shuffles.
//!
//! Bitwise operations of the three domains (ps, pd, integer) are one operation each: the domain is only a hint.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use redmagic_ir::{Opcode, Type, Value};

use super::sse_move::{first_source, read_vector, vector, write_vector};
use super::sse_scalar::predicate;
use super::{Row, Rule};
use crate::lifter::{Flow, Lifted, Lifter, NotModelled, is_vex};

pub(super) const ROWS: &[Row] = &[
    (Mnemonic::Addps, Rule::Op(binary, Opcode::Addps)),
    (Mnemonic::Vaddps, Rule::Op(binary, Opcode::Addps)),
    (Mnemonic::Addpd, Rule::Op(binary, Opcode::Addpd)),
    (Mnemonic::Vaddpd, Rule::Op(binary, Opcode::Addpd)),
    (Mnemonic::Subps, Rule::Op(binary, Opcode::Subps)),
    (Mnemonic::Vsubps, Rule::Op(binary, Opcode::Subps)),
    (Mnemonic::Subpd, Rule::Op(binary, Opcode::Subpd)),
    (Mnemonic::Vsubpd, Rule::Op(binary, Opcode::Subpd)),
    (Mnemonic::Mulps, Rule::Op(binary, Opcode::Mulps)),
    (Mnemonic::Vmulps, Rule::Op(binary, Opcode::Mulps)),
    (Mnemonic::Mulpd, Rule::Op(binary, Opcode::Mulpd)),
    (Mnemonic::Vmulpd, Rule::Op(binary, Opcode::Mulpd)),
    (Mnemonic::Divps, Rule::Op(binary, Opcode::Divps)),
    (Mnemonic::Vdivps, Rule::Op(binary, Opcode::Divps)),
    (Mnemonic::Divpd, Rule::Op(binary, Opcode::Divpd)),
    (Mnemonic::Vdivpd, Rule::Op(binary, Opcode::Divpd)),
    (Mnemonic::Minps, Rule::Op(binary, Opcode::Minps)),
    (Mnemonic::Vminps, Rule::Op(binary, Opcode::Minps)),
    (Mnemonic::Minpd, Rule::Op(binary, Opcode::Minpd)),
    (Mnemonic::Vminpd, Rule::Op(binary, Opcode::Minpd)),
    (Mnemonic::Maxps, Rule::Op(binary, Opcode::Maxps)),
    (Mnemonic::Vmaxps, Rule::Op(binary, Opcode::Maxps)),
    (Mnemonic::Maxpd, Rule::Op(binary, Opcode::Maxpd)),
    (Mnemonic::Vmaxpd, Rule::Op(binary, Opcode::Maxpd)),
    (Mnemonic::Haddps, Rule::Op(binary, Opcode::Haddps)),
    (Mnemonic::Vhaddps, Rule::Op(binary, Opcode::Haddps)),
    (Mnemonic::Haddpd, Rule::Op(binary, Opcode::Haddpd)),
    (Mnemonic::Vhaddpd, Rule::Op(binary, Opcode::Haddpd)),
    (Mnemonic::Hsubps, Rule::Op(binary, Opcode::Hsubps)),
    (Mnemonic::Vhsubps, Rule::Op(binary, Opcode::Hsubps)),
    (Mnemonic::Hsubpd, Rule::Op(binary, Opcode::Hsubpd)),
    (Mnemonic::Vhsubpd, Rule::Op(binary, Opcode::Hsubpd)),
    (Mnemonic::Addsubps, Rule::Op(binary, Opcode::Addsubps)),
    (Mnemonic::Vaddsubps, Rule::Op(binary, Opcode::Addsubps)),
    (Mnemonic::Addsubpd, Rule::Op(binary, Opcode::Addsubpd)),
    (Mnemonic::Vaddsubpd, Rule::Op(binary, Opcode::Addsubpd)),
    (Mnemonic::Unpcklps, Rule::Op(binary, Opcode::Unpcklps)),
    (Mnemonic::Vunpcklps, Rule::Op(binary, Opcode::Unpcklps)),
    (Mnemonic::Unpckhps, Rule::Op(binary, Opcode::Unpckhps)),
    (Mnemonic::Vunpckhps, Rule::Op(binary, Opcode::Unpckhps)),
    (Mnemonic::Pand, Rule::Op(binary, Opcode::Pand)),
    (Mnemonic::Vpand, Rule::Op(binary, Opcode::Pand)),
    (Mnemonic::Pandn, Rule::Op(binary, Opcode::Pandn)),
    (Mnemonic::Vpandn, Rule::Op(binary, Opcode::Pandn)),
    (Mnemonic::Por, Rule::Op(binary, Opcode::Por)),
    (Mnemonic::Vpor, Rule::Op(binary, Opcode::Por)),
    (Mnemonic::Pxor, Rule::Op(binary, Opcode::Pxor)),
    (Mnemonic::Vpxor, Rule::Op(binary, Opcode::Pxor)),
    (Mnemonic::Paddb, Rule::Op(binary, Opcode::Paddb)),
    (Mnemonic::Vpaddb, Rule::Op(binary, Opcode::Paddb)),
    (Mnemonic::Paddw, Rule::Op(binary, Opcode::Paddw)),
    (Mnemonic::Vpaddw, Rule::Op(binary, Opcode::Paddw)),
    (Mnemonic::Paddd, Rule::Op(binary, Opcode::Paddd)),
    (Mnemonic::Vpaddd, Rule::Op(binary, Opcode::Paddd)),
    (Mnemonic::Paddq, Rule::Op(binary, Opcode::Paddq)),
    (Mnemonic::Vpaddq, Rule::Op(binary, Opcode::Paddq)),
    (Mnemonic::Paddsb, Rule::Op(binary, Opcode::Paddsb)),
    (Mnemonic::Vpaddsb, Rule::Op(binary, Opcode::Paddsb)),
    (Mnemonic::Paddsw, Rule::Op(binary, Opcode::Paddsw)),
    (Mnemonic::Vpaddsw, Rule::Op(binary, Opcode::Paddsw)),
    (Mnemonic::Paddusb, Rule::Op(binary, Opcode::Paddusb)),
    (Mnemonic::Vpaddusb, Rule::Op(binary, Opcode::Paddusb)),
    (Mnemonic::Paddusw, Rule::Op(binary, Opcode::Paddusw)),
    (Mnemonic::Vpaddusw, Rule::Op(binary, Opcode::Paddusw)),
    (Mnemonic::Psubb, Rule::Op(binary, Opcode::Psubb)),
    (Mnemonic::Vpsubb, Rule::Op(binary, Opcode::Psubb)),
    (Mnemonic::Psubw, Rule::Op(binary, Opcode::Psubw)),
    (Mnemonic::Vpsubw, Rule::Op(binary, Opcode::Psubw)),
    (Mnemonic::Psubd, Rule::Op(binary, Opcode::Psubd)),
    (Mnemonic::Vpsubd, Rule::Op(binary, Opcode::Psubd)),
    (Mnemonic::Psubq, Rule::Op(binary, Opcode::Psubq)),
    (Mnemonic::Vpsubq, Rule::Op(binary, Opcode::Psubq)),
    (Mnemonic::Psubsb, Rule::Op(binary, Opcode::Psubsb)),
    (Mnemonic::Vpsubsb, Rule::Op(binary, Opcode::Psubsb)),
    (Mnemonic::Psubsw, Rule::Op(binary, Opcode::Psubsw)),
    (Mnemonic::Vpsubsw, Rule::Op(binary, Opcode::Psubsw)),
    (Mnemonic::Psubusb, Rule::Op(binary, Opcode::Psubusb)),
    (Mnemonic::Vpsubusb, Rule::Op(binary, Opcode::Psubusb)),
    (Mnemonic::Psubusw, Rule::Op(binary, Opcode::Psubusw)),
    (Mnemonic::Vpsubusw, Rule::Op(binary, Opcode::Psubusw)),
    (Mnemonic::Pmullw, Rule::Op(binary, Opcode::Pmullw)),
    (Mnemonic::Vpmullw, Rule::Op(binary, Opcode::Pmullw)),
    (Mnemonic::Pmulhw, Rule::Op(binary, Opcode::Pmulhw)),
    (Mnemonic::Vpmulhw, Rule::Op(binary, Opcode::Pmulhw)),
    (Mnemonic::Pmulhuw, Rule::Op(binary, Opcode::Pmulhuw)),
    (Mnemonic::Vpmulhuw, Rule::Op(binary, Opcode::Pmulhuw)),
    (Mnemonic::Pmuludq, Rule::Op(binary, Opcode::Pmuludq)),
    (Mnemonic::Vpmuludq, Rule::Op(binary, Opcode::Pmuludq)),
    (Mnemonic::Pmuldq, Rule::Op(binary, Opcode::Pmuldq)),
    (Mnemonic::Vpmuldq, Rule::Op(binary, Opcode::Pmuldq)),
    (Mnemonic::Pmulld, Rule::Op(binary, Opcode::Pmulld)),
    (Mnemonic::Vpmulld, Rule::Op(binary, Opcode::Pmulld)),
    (Mnemonic::Pmaddwd, Rule::Op(binary, Opcode::Pmaddwd)),
    (Mnemonic::Vpmaddwd, Rule::Op(binary, Opcode::Pmaddwd)),
    (Mnemonic::Pmaddubsw, Rule::Op(binary, Opcode::Pmaddubsw)),
    (Mnemonic::Vpmaddubsw, Rule::Op(binary, Opcode::Pmaddubsw)),
    (Mnemonic::Pmulhrsw, Rule::Op(binary, Opcode::Pmulhrsw)),
    (Mnemonic::Vpmulhrsw, Rule::Op(binary, Opcode::Pmulhrsw)),
    (Mnemonic::Pavgb, Rule::Op(binary, Opcode::Pavgb)),
    (Mnemonic::Vpavgb, Rule::Op(binary, Opcode::Pavgb)),
    (Mnemonic::Pavgw, Rule::Op(binary, Opcode::Pavgw)),
    (Mnemonic::Vpavgw, Rule::Op(binary, Opcode::Pavgw)),
    (Mnemonic::Psadbw, Rule::Op(binary, Opcode::Psadbw)),
    (Mnemonic::Vpsadbw, Rule::Op(binary, Opcode::Psadbw)),
    (Mnemonic::Pminub, Rule::Op(binary, Opcode::Pminub)),
    (Mnemonic::Vpminub, Rule::Op(binary, Opcode::Pminub)),
    (Mnemonic::Pminsb, Rule::Op(binary, Opcode::Pminsb)),
    (Mnemonic::Vpminsb, Rule::Op(binary, Opcode::Pminsb)),
    (Mnemonic::Pminuw, Rule::Op(binary, Opcode::Pminuw)),
    (Mnemonic::Vpminuw, Rule::Op(binary, Opcode::Pminuw)),
    (Mnemonic::Pminsw, Rule::Op(binary, Opcode::Pminsw)),
    (Mnemonic::Vpminsw, Rule::Op(binary, Opcode::Pminsw)),
    (Mnemonic::Pminud, Rule::Op(binary, Opcode::Pminud)),
    (Mnemonic::Vpminud, Rule::Op(binary, Opcode::Pminud)),
    (Mnemonic::Pminsd, Rule::Op(binary, Opcode::Pminsd)),
    (Mnemonic::Vpminsd, Rule::Op(binary, Opcode::Pminsd)),
    (Mnemonic::Pmaxub, Rule::Op(binary, Opcode::Pmaxub)),
    (Mnemonic::Vpmaxub, Rule::Op(binary, Opcode::Pmaxub)),
    (Mnemonic::Pmaxsb, Rule::Op(binary, Opcode::Pmaxsb)),
    (Mnemonic::Vpmaxsb, Rule::Op(binary, Opcode::Pmaxsb)),
    (Mnemonic::Pmaxuw, Rule::Op(binary, Opcode::Pmaxuw)),
    (Mnemonic::Vpmaxuw, Rule::Op(binary, Opcode::Pmaxuw)),
    (Mnemonic::Pmaxsw, Rule::Op(binary, Opcode::Pmaxsw)),
    (Mnemonic::Vpmaxsw, Rule::Op(binary, Opcode::Pmaxsw)),
    (Mnemonic::Pmaxud, Rule::Op(binary, Opcode::Pmaxud)),
    (Mnemonic::Vpmaxud, Rule::Op(binary, Opcode::Pmaxud)),
    (Mnemonic::Pmaxsd, Rule::Op(binary, Opcode::Pmaxsd)),
    (Mnemonic::Vpmaxsd, Rule::Op(binary, Opcode::Pmaxsd)),
    (Mnemonic::Pcmpeqb, Rule::Op(binary, Opcode::Pcmpeqb)),
    (Mnemonic::Vpcmpeqb, Rule::Op(binary, Opcode::Pcmpeqb)),
    (Mnemonic::Pcmpeqw, Rule::Op(binary, Opcode::Pcmpeqw)),
    (Mnemonic::Vpcmpeqw, Rule::Op(binary, Opcode::Pcmpeqw)),
    (Mnemonic::Pcmpeqd, Rule::Op(binary, Opcode::Pcmpeqd)),
    (Mnemonic::Vpcmpeqd, Rule::Op(binary, Opcode::Pcmpeqd)),
    (Mnemonic::Pcmpeqq, Rule::Op(binary, Opcode::Pcmpeqq)),
    (Mnemonic::Vpcmpeqq, Rule::Op(binary, Opcode::Pcmpeqq)),
    (Mnemonic::Pcmpgtb, Rule::Op(binary, Opcode::Pcmpgtb)),
    (Mnemonic::Vpcmpgtb, Rule::Op(binary, Opcode::Pcmpgtb)),
    (Mnemonic::Pcmpgtw, Rule::Op(binary, Opcode::Pcmpgtw)),
    (Mnemonic::Vpcmpgtw, Rule::Op(binary, Opcode::Pcmpgtw)),
    (Mnemonic::Pcmpgtd, Rule::Op(binary, Opcode::Pcmpgtd)),
    (Mnemonic::Vpcmpgtd, Rule::Op(binary, Opcode::Pcmpgtd)),
    (Mnemonic::Pcmpgtq, Rule::Op(binary, Opcode::Pcmpgtq)),
    (Mnemonic::Vpcmpgtq, Rule::Op(binary, Opcode::Pcmpgtq)),
    (Mnemonic::Packsswb, Rule::Op(binary, Opcode::Packsswb)),
    (Mnemonic::Vpacksswb, Rule::Op(binary, Opcode::Packsswb)),
    (Mnemonic::Packssdw, Rule::Op(binary, Opcode::Packssdw)),
    (Mnemonic::Vpackssdw, Rule::Op(binary, Opcode::Packssdw)),
    (Mnemonic::Packuswb, Rule::Op(binary, Opcode::Packuswb)),
    (Mnemonic::Vpackuswb, Rule::Op(binary, Opcode::Packuswb)),
    (Mnemonic::Packusdw, Rule::Op(binary, Opcode::Packusdw)),
    (Mnemonic::Vpackusdw, Rule::Op(binary, Opcode::Packusdw)),
    (Mnemonic::Punpcklbw, Rule::Op(binary, Opcode::Punpcklbw)),
    (Mnemonic::Vpunpcklbw, Rule::Op(binary, Opcode::Punpcklbw)),
    (Mnemonic::Punpcklwd, Rule::Op(binary, Opcode::Punpcklwd)),
    (Mnemonic::Vpunpcklwd, Rule::Op(binary, Opcode::Punpcklwd)),
    (Mnemonic::Punpckldq, Rule::Op(binary, Opcode::Punpckldq)),
    (Mnemonic::Vpunpckldq, Rule::Op(binary, Opcode::Punpckldq)),
    (Mnemonic::Punpcklqdq, Rule::Op(binary, Opcode::Punpcklqdq)),
    (Mnemonic::Vpunpcklqdq, Rule::Op(binary, Opcode::Punpcklqdq)),
    (Mnemonic::Punpckhbw, Rule::Op(binary, Opcode::Punpckhbw)),
    (Mnemonic::Vpunpckhbw, Rule::Op(binary, Opcode::Punpckhbw)),
    (Mnemonic::Punpckhwd, Rule::Op(binary, Opcode::Punpckhwd)),
    (Mnemonic::Vpunpckhwd, Rule::Op(binary, Opcode::Punpckhwd)),
    (Mnemonic::Punpckhdq, Rule::Op(binary, Opcode::Punpckhdq)),
    (Mnemonic::Vpunpckhdq, Rule::Op(binary, Opcode::Punpckhdq)),
    (Mnemonic::Punpckhqdq, Rule::Op(binary, Opcode::Punpckhqdq)),
    (Mnemonic::Vpunpckhqdq, Rule::Op(binary, Opcode::Punpckhqdq)),
    (Mnemonic::Pshufb, Rule::Op(binary, Opcode::Pshufb)),
    (Mnemonic::Vpshufb, Rule::Op(binary, Opcode::Pshufb)),
    (Mnemonic::Phaddw, Rule::Op(binary, Opcode::Phaddw)),
    (Mnemonic::Vphaddw, Rule::Op(binary, Opcode::Phaddw)),
    (Mnemonic::Phaddd, Rule::Op(binary, Opcode::Phaddd)),
    (Mnemonic::Vphaddd, Rule::Op(binary, Opcode::Phaddd)),
    (Mnemonic::Phaddsw, Rule::Op(binary, Opcode::Phaddsw)),
    (Mnemonic::Vphaddsw, Rule::Op(binary, Opcode::Phaddsw)),
    (Mnemonic::Phsubw, Rule::Op(binary, Opcode::Phsubw)),
    (Mnemonic::Vphsubw, Rule::Op(binary, Opcode::Phsubw)),
    (Mnemonic::Phsubd, Rule::Op(binary, Opcode::Phsubd)),
    (Mnemonic::Vphsubd, Rule::Op(binary, Opcode::Phsubd)),
    (Mnemonic::Phsubsw, Rule::Op(binary, Opcode::Phsubsw)),
    (Mnemonic::Vphsubsw, Rule::Op(binary, Opcode::Phsubsw)),
    (Mnemonic::Psignb, Rule::Op(binary, Opcode::Psignb)),
    (Mnemonic::Vpsignb, Rule::Op(binary, Opcode::Psignb)),
    (Mnemonic::Psignw, Rule::Op(binary, Opcode::Psignw)),
    (Mnemonic::Vpsignw, Rule::Op(binary, Opcode::Psignw)),
    (Mnemonic::Psignd, Rule::Op(binary, Opcode::Psignd)),
    (Mnemonic::Vpsignd, Rule::Op(binary, Opcode::Psignd)),
    (Mnemonic::Andps, Rule::Op(binary, Opcode::Pand)),
    (Mnemonic::Vandps, Rule::Op(binary, Opcode::Pand)),
    (Mnemonic::Andpd, Rule::Op(binary, Opcode::Pand)),
    (Mnemonic::Vandpd, Rule::Op(binary, Opcode::Pand)),
    (Mnemonic::Andnps, Rule::Op(binary, Opcode::Pandn)),
    (Mnemonic::Vandnps, Rule::Op(binary, Opcode::Pandn)),
    (Mnemonic::Andnpd, Rule::Op(binary, Opcode::Pandn)),
    (Mnemonic::Vandnpd, Rule::Op(binary, Opcode::Pandn)),
    (Mnemonic::Orps, Rule::Op(binary, Opcode::Por)),
    (Mnemonic::Vorps, Rule::Op(binary, Opcode::Por)),
    (Mnemonic::Orpd, Rule::Op(binary, Opcode::Por)),
    (Mnemonic::Vorpd, Rule::Op(binary, Opcode::Por)),
    (Mnemonic::Xorps, Rule::Op(binary, Opcode::Pxor)),
    (Mnemonic::Vxorps, Rule::Op(binary, Opcode::Pxor)),
    (Mnemonic::Xorpd, Rule::Op(binary, Opcode::Pxor)),
    (Mnemonic::Vxorpd, Rule::Op(binary, Opcode::Pxor)),
    (Mnemonic::Unpcklpd, Rule::Op(binary, Opcode::Punpcklqdq)),
    (Mnemonic::Vunpcklpd, Rule::Op(binary, Opcode::Punpcklqdq)),
    (Mnemonic::Unpckhpd, Rule::Op(binary, Opcode::Punpckhqdq)),
    (Mnemonic::Vunpckhpd, Rule::Op(binary, Opcode::Punpckhqdq)),
    (Mnemonic::Sqrtps, Rule::Op(unary, Opcode::Sqrtps)),
    (Mnemonic::Vsqrtps, Rule::Op(unary, Opcode::Sqrtps)),
    (Mnemonic::Sqrtpd, Rule::Op(unary, Opcode::Sqrtpd)),
    (Mnemonic::Vsqrtpd, Rule::Op(unary, Opcode::Sqrtpd)),
    (Mnemonic::Cvtdq2ps, Rule::Op(unary, Opcode::Cvtdq2ps)),
    (Mnemonic::Vcvtdq2ps, Rule::Op(unary, Opcode::Cvtdq2ps)),
    (Mnemonic::Cvtps2dq, Rule::Op(unary, Opcode::Cvtps2dq)),
    (Mnemonic::Vcvtps2dq, Rule::Op(unary, Opcode::Cvtps2dq)),
    (Mnemonic::Cvttps2dq, Rule::Op(unary, Opcode::Cvttps2dq)),
    (Mnemonic::Vcvttps2dq, Rule::Op(unary, Opcode::Cvttps2dq)),
    (Mnemonic::Cvtpd2ps, Rule::Op(unary, Opcode::Cvtpd2ps)),
    (Mnemonic::Vcvtpd2ps, Rule::Op(unary, Opcode::Cvtpd2ps)),
    (Mnemonic::Cvtpd2dq, Rule::Op(unary, Opcode::Cvtpd2dq)),
    (Mnemonic::Vcvtpd2dq, Rule::Op(unary, Opcode::Cvtpd2dq)),
    (Mnemonic::Cvttpd2dq, Rule::Op(unary, Opcode::Cvttpd2dq)),
    (Mnemonic::Vcvttpd2dq, Rule::Op(unary, Opcode::Cvttpd2dq)),
    (Mnemonic::Movshdup, Rule::Op(unary, Opcode::Movshdup)),
    (Mnemonic::Vmovshdup, Rule::Op(unary, Opcode::Movshdup)),
    (Mnemonic::Movsldup, Rule::Op(unary, Opcode::Movsldup)),
    (Mnemonic::Vmovsldup, Rule::Op(unary, Opcode::Movsldup)),
    (Mnemonic::Pabsb, Rule::Op(unary, Opcode::Pabsb)),
    (Mnemonic::Vpabsb, Rule::Op(unary, Opcode::Pabsb)),
    (Mnemonic::Pabsw, Rule::Op(unary, Opcode::Pabsw)),
    (Mnemonic::Vpabsw, Rule::Op(unary, Opcode::Pabsw)),
    (Mnemonic::Pabsd, Rule::Op(unary, Opcode::Pabsd)),
    (Mnemonic::Vpabsd, Rule::Op(unary, Opcode::Pabsd)),
    (Mnemonic::Phminposuw, Rule::Op(unary, Opcode::Phminposuw)),
    (Mnemonic::Vphminposuw, Rule::Op(unary, Opcode::Phminposuw)),
    (Mnemonic::Cvtdq2pd, Rule::Op(partial, Opcode::Cvtdq2pd)),
    (Mnemonic::Vcvtdq2pd, Rule::Op(partial, Opcode::Cvtdq2pd)),
    (Mnemonic::Cvtps2pd, Rule::Op(partial, Opcode::Cvtps2pd)),
    (Mnemonic::Vcvtps2pd, Rule::Op(partial, Opcode::Cvtps2pd)),
    (Mnemonic::Movddup, Rule::Op(partial, Opcode::Movddup)),
    (Mnemonic::Vmovddup, Rule::Op(partial, Opcode::Movddup)),
    (Mnemonic::Pmovsxbw, Rule::Op(partial, Opcode::Pmovsxbw)),
    (Mnemonic::Vpmovsxbw, Rule::Op(partial, Opcode::Pmovsxbw)),
    (Mnemonic::Pmovsxbd, Rule::Op(partial, Opcode::Pmovsxbd)),
    (Mnemonic::Vpmovsxbd, Rule::Op(partial, Opcode::Pmovsxbd)),
    (Mnemonic::Pmovsxbq, Rule::Op(partial, Opcode::Pmovsxbq)),
    (Mnemonic::Vpmovsxbq, Rule::Op(partial, Opcode::Pmovsxbq)),
    (Mnemonic::Pmovsxwd, Rule::Op(partial, Opcode::Pmovsxwd)),
    (Mnemonic::Vpmovsxwd, Rule::Op(partial, Opcode::Pmovsxwd)),
    (Mnemonic::Pmovsxwq, Rule::Op(partial, Opcode::Pmovsxwq)),
    (Mnemonic::Vpmovsxwq, Rule::Op(partial, Opcode::Pmovsxwq)),
    (Mnemonic::Pmovsxdq, Rule::Op(partial, Opcode::Pmovsxdq)),
    (Mnemonic::Vpmovsxdq, Rule::Op(partial, Opcode::Pmovsxdq)),
    (Mnemonic::Pmovzxbw, Rule::Op(partial, Opcode::Pmovzxbw)),
    (Mnemonic::Vpmovzxbw, Rule::Op(partial, Opcode::Pmovzxbw)),
    (Mnemonic::Pmovzxbd, Rule::Op(partial, Opcode::Pmovzxbd)),
    (Mnemonic::Vpmovzxbd, Rule::Op(partial, Opcode::Pmovzxbd)),
    (Mnemonic::Pmovzxbq, Rule::Op(partial, Opcode::Pmovzxbq)),
    (Mnemonic::Vpmovzxbq, Rule::Op(partial, Opcode::Pmovzxbq)),
    (Mnemonic::Pmovzxwd, Rule::Op(partial, Opcode::Pmovzxwd)),
    (Mnemonic::Vpmovzxwd, Rule::Op(partial, Opcode::Pmovzxwd)),
    (Mnemonic::Pmovzxwq, Rule::Op(partial, Opcode::Pmovzxwq)),
    (Mnemonic::Vpmovzxwq, Rule::Op(partial, Opcode::Pmovzxwq)),
    (Mnemonic::Pmovzxdq, Rule::Op(partial, Opcode::Pmovzxdq)),
    (Mnemonic::Vpmovzxdq, Rule::Op(partial, Opcode::Pmovzxdq)),
    (Mnemonic::Psllw, Rule::Op(shift, Opcode::Psllw)),
    (Mnemonic::Vpsllw, Rule::Op(shift, Opcode::Psllw)),
    (Mnemonic::Pslld, Rule::Op(shift, Opcode::Pslld)),
    (Mnemonic::Vpslld, Rule::Op(shift, Opcode::Pslld)),
    (Mnemonic::Psllq, Rule::Op(shift, Opcode::Psllq)),
    (Mnemonic::Vpsllq, Rule::Op(shift, Opcode::Psllq)),
    (Mnemonic::Psrlw, Rule::Op(shift, Opcode::Psrlw)),
    (Mnemonic::Vpsrlw, Rule::Op(shift, Opcode::Psrlw)),
    (Mnemonic::Psrld, Rule::Op(shift, Opcode::Psrld)),
    (Mnemonic::Vpsrld, Rule::Op(shift, Opcode::Psrld)),
    (Mnemonic::Psrlq, Rule::Op(shift, Opcode::Psrlq)),
    (Mnemonic::Vpsrlq, Rule::Op(shift, Opcode::Psrlq)),
    (Mnemonic::Psraw, Rule::Op(shift, Opcode::Psraw)),
    (Mnemonic::Vpsraw, Rule::Op(shift, Opcode::Psraw)),
    (Mnemonic::Psrad, Rule::Op(shift, Opcode::Psrad)),
    (Mnemonic::Vpsrad, Rule::Op(shift, Opcode::Psrad)),
    (Mnemonic::Pslldq, Rule::Op(byte_shift, Opcode::Pslldq)),
    (Mnemonic::Vpslldq, Rule::Op(byte_shift, Opcode::Pslldq)),
    (Mnemonic::Psrldq, Rule::Op(byte_shift, Opcode::Psrldq)),
    (Mnemonic::Vpsrldq, Rule::Op(byte_shift, Opcode::Psrldq)),
    (Mnemonic::Pshufd, Rule::Op(shuffle, Opcode::Pshufd)),
    (Mnemonic::Vpshufd, Rule::Op(shuffle, Opcode::Pshufd)),
    (Mnemonic::Pshuflw, Rule::Op(shuffle, Opcode::Pshuflw)),
    (Mnemonic::Vpshuflw, Rule::Op(shuffle, Opcode::Pshuflw)),
    (Mnemonic::Pshufhw, Rule::Op(shuffle, Opcode::Pshufhw)),
    (Mnemonic::Vpshufhw, Rule::Op(shuffle, Opcode::Pshufhw)),
    (Mnemonic::Shufps, Rule::Op(shuffle2, Opcode::Shufps)),
    (Mnemonic::Vshufps, Rule::Op(shuffle2, Opcode::Shufps)),
    (Mnemonic::Shufpd, Rule::Op(shuffle2, Opcode::Shufpd)),
    (Mnemonic::Vshufpd, Rule::Op(shuffle2, Opcode::Shufpd)),
    (Mnemonic::Palignr, Rule::Op(shuffle2, Opcode::Palignr)),
    (Mnemonic::Vpalignr, Rule::Op(shuffle2, Opcode::Palignr)),
    (Mnemonic::Pblendw, Rule::Op(shuffle2, Opcode::Pblendw)),
    (Mnemonic::Vpblendw, Rule::Op(shuffle2, Opcode::Pblendw)),
    (Mnemonic::Blendps, Rule::Op(shuffle2, Opcode::Blendps)),
    (Mnemonic::Vblendps, Rule::Op(shuffle2, Opcode::Blendps)),
    (Mnemonic::Blendpd, Rule::Op(shuffle2, Opcode::Blendpd)),
    (Mnemonic::Vblendpd, Rule::Op(shuffle2, Opcode::Blendpd)),
    (Mnemonic::Cmpps, Rule::Op(compare, Opcode::Cmpps)),
    (Mnemonic::Vcmpps, Rule::Op(compare, Opcode::Cmpps)),
    (Mnemonic::Cmppd, Rule::Op(compare, Opcode::Cmppd)),
    (Mnemonic::Vcmppd, Rule::Op(compare, Opcode::Cmppd)),
    (Mnemonic::Roundps, Rule::Op(round, Opcode::Roundps)),
    (Mnemonic::Vroundps, Rule::Op(round, Opcode::Roundps)),
    (Mnemonic::Roundpd, Rule::Op(round, Opcode::Roundpd)),
    (Mnemonic::Vroundpd, Rule::Op(round, Opcode::Roundpd)),
    (Mnemonic::Ptest, Rule::Fn(ptest)),
    (Mnemonic::Vptest, Rule::Fn(ptest)),
    (Mnemonic::Insertps, Rule::Fn(insertps)),
    (Mnemonic::Vinsertps, Rule::Fn(insertps)),
    (Mnemonic::Pblendvb, Rule::Op(blend, Opcode::Pblendvb)),
    (Mnemonic::Blendvps, Rule::Op(blend, Opcode::Blendvps)),
    (Mnemonic::Blendvpd, Rule::Op(blend, Opcode::Blendvpd)),
    (Mnemonic::Vpblendvb, Rule::Op(blend, Opcode::Pblendvb)),
    (Mnemonic::Vblendvps, Rule::Op(blend, Opcode::Blendvps)),
    (Mnemonic::Vblendvpd, Rule::Op(blend, Opcode::Blendvpd)),
    (Mnemonic::Vpblendd, Rule::Op(shuffle2, Opcode::Blendps)),
    (Mnemonic::Vbroadcastss, Rule::Op(broadcast, Opcode::Pshufd)),
    (Mnemonic::Vpbroadcastd, Rule::Op(broadcast, Opcode::Pshufd)),
    (Mnemonic::Vpbroadcastq, Rule::Op(broadcast, Opcode::Punpcklqdq)),
    (Mnemonic::Vpermilps, Rule::Op(permil, Opcode::Pshufd)),
    (Mnemonic::Vpermilpd, Rule::Op(permil, Opcode::Shufpd)),
];

fn binary(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let first = first_source(instruction, 3);
    let destination = instruction.op0_register();
    vector(destination)?;
    let same = matches!(op, Opcode::Pxor)
        && instruction.op_kind(first + 1) == OpKind::Register
        && instruction.op_register(first) == instruction.op_register(first + 1);
    let v = if same {
        // How compilers write 0: nothing is read.
        lifter.b.constant(Type::V128, 0)
    } else {
        let a = read_vector(lifter, instruction, first, !is_vex(instruction))?;
        let b = read_vector(lifter, instruction, first + 1, !is_vex(instruction))?;
        lifter.b.push_op(op, Type::Void, 0, &[a, b])
    };
    write_vector(lifter, instruction, destination, v)
}

fn unary(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let a = read_vector(lifter, instruction, 1, !is_vex(instruction))?;
    let v = lifter.b.push_op(op, Type::Void, 0, &[a]);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

/// A source of 2, 4 or 8 bytes in memory, unaligned; the rest of the vector does not matter.
fn read_part(lifter: &mut Lifter, instruction: &Instruction, i: u32) -> Result<Value, NotModelled> {
    if instruction.op_kind(i) == OpKind::Register {
        return read_vector(lifter, instruction, i, false);
    }
    let ty = match instruction.memory_size().size() {
        2 => Type::I16,
        4 => Type::I32,
        8 => Type::I64,
        _ => return Err(NotModelled),
    };
    let addr = lifter.addr(instruction)?;
    let x = lifter.b.load(ty, addr);
    Ok(lifter.b.vzext(ty, x))
}

fn partial(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    vector(instruction.op0_register())?;
    let a = read_part(lifter, instruction, 1)?;
    let v = lifter.b.push_op(op, Type::Void, 0, &[a]);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn shift(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let first = first_source(instruction, 3);
    let a = read_vector(lifter, instruction, first, !is_vex(instruction))?;
    let n = match instruction.op_kind(first + 1) {
        OpKind::Immediate8 => lifter.b.constant(Type::V128, u128::from(instruction.immediate8())),
        _ => read_vector(lifter, instruction, first + 1, !is_vex(instruction))?,
    };
    let v = lifter.b.push_op(op, Type::Void, 0, &[a, n]);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn byte_shift(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let a = read_vector(lifter, instruction, first_source(instruction, 3), false)?;
    let v = lifter.b.push_op(op, Type::Void, instruction.immediate8().min(16), &[a]);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn shuffle(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let a = read_vector(lifter, instruction, 1, !is_vex(instruction))?;
    let v = lifter.b.push_op(op, Type::Void, instruction.immediate8(), &[a]);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn shuffle2(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let first = first_source(instruction, 4);
    let a = read_vector(lifter, instruction, first, !is_vex(instruction))?;
    let b = read_vector(lifter, instruction, first + 1, !is_vex(instruction))?;
    let v = lifter.b.push_op(op, Type::Void, instruction.immediate8(), &[a, b]);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn compare(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let imm = predicate(instruction)?;
    let first = first_source(instruction, 4);
    let a = read_vector(lifter, instruction, first, !is_vex(instruction))?;
    let b = read_vector(lifter, instruction, first + 1, !is_vex(instruction))?;
    let v = lifter.b.push_op(op, Type::Void, imm, &[a, b]);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn round(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let a = read_vector(lifter, instruction, 1, !is_vex(instruction))?;
    let v = lifter.b.push_op(op, Type::Void, instruction.immediate8() & 15, &[a]);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn ptest(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let a = read_vector(lifter, instruction, 0, false)?;
    let b = read_vector(lifter, instruction, 1, !is_vex(instruction))?;
    let flags = lifter.b.flags_ptest(a, b);
    lifter.set_flags(flags);
    Ok(Flow::Next)
}

/// From memory, the lane is the only one there is and the immediate's selector is ignored.
fn insertps(lifter: &mut Lifter, instruction: &Instruction) -> Lifted {
    let first = first_source(instruction, 4);
    let a = read_vector(lifter, instruction, first, false)?;
    let mut imm = instruction.immediate8();
    let b = if instruction.op_kind(first + 1) == OpKind::Register {
        read_vector(lifter, instruction, first + 1, false)?
    } else {
        imm &= 0x3f;
        read_part(lifter, instruction, first + 1)?
    };
    let v = lifter.b.insertps(a, b, imm);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

/// The mask is xmm0 in SSE forms, the fourth operand in VEX forms.
fn blend(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    let first = first_source(instruction, 4);
    let a = read_vector(lifter, instruction, first, false)?;
    let b = read_vector(lifter, instruction, first + 1, !is_vex(instruction))?;
    let mask = if is_vex(instruction) {
        lifter.reg(vector(instruction.op3_register())?)
    } else {
        lifter.reg(vector(Register::XMM0)?)
    };
    let v = lifter.b.push_op(op, Type::Void, 0, &[a, b, mask]);
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

fn broadcast(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    vector(instruction.op0_register())?;
    let a = read_part(lifter, instruction, 1)?;
    let v = if op == Opcode::Pshufd {
        lifter.b.pshufd(a, 0)
    } else {
        lifter.b.punpcklqdq(a, a)
    };
    write_vector(lifter, instruction, instruction.op0_register(), v)
}

/// With an immediate only; with a vector of selectors it is native.
fn permil(lifter: &mut Lifter, instruction: &Instruction, op: Opcode) -> Lifted {
    if instruction.op2_kind() != OpKind::Immediate8 {
        return Err(NotModelled);
    }
    let a = read_vector(lifter, instruction, 1, false)?;
    let imm = instruction.immediate8();
    let v = if op == Opcode::Pshufd {
        lifter.b.pshufd(a, imm)
    } else {
        lifter.b.shufpd(a, a, imm)
    };
    write_vector(lifter, instruction, instruction.op0_register(), v)
}
