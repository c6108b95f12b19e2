//! Random encodings.

use std::collections::BTreeMap;

use iced_x86::{
    Code, CpuidFeature, Decoder, Encoder, EncodingKind, Instruction, Mnemonic, OpCodeOperandKind as K, OpKind, Register,
};
use redmagic_ir::eval::Regs;

use super::Generator;
use crate::cpu::{FS_BASE, GS_BASE, stub};
use crate::random::Random;

/// Opcodes by mnemonic: each mnemonic is equally likely, and each opcode of it.
pub struct Codes(Vec<Vec<Code>>);

impl Codes {
    /// What the lifter models and this processor has.
    pub fn modelled() -> Codes {
        let mnemonics: Vec<Mnemonic> = redmagic_lift::insn::mnemonics().collect();
        Codes::filter(|code| mnemonics.contains(&code.mnemonic()))
    }

    /// What passes the filter, works in user mode, is on this processor, and has operands that can be made here.
    pub fn filter(keep: impl Fn(Code) -> bool) -> Codes {
        let mut all: BTreeMap<Mnemonic, Vec<Code>> = BTreeMap::new();
        for code in Code::values().filter(|c| usable(*c) && keep(*c)) {
            all.entry(code.mnemonic()).or_default().push(code);
        }
        Codes(all.into_values().collect())
    }

    pub(super) fn pick(&self, random: &mut Random) -> Code {
        let of_mnemonic = random.pick(&self.0);
        *random.pick(of_mnemonic)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Code> {
        self.0.iter().flatten().copied()
    }
}

fn usable(code: Code) -> bool {
    let op = code.op_code();
    op.is_instruction()
        && op.mode64()
        && op.cpl3()
        && !op.is_privileged()
        && matches!(op.encoding(), EncodingKind::Legacy | EncodingKind::VEX)
        && code.cpuid_features().iter().all(|f| present(*f))
        && op.op_kinds().iter().all(|k| makeable(*k))
}

fn present(feature: CpuidFeature) -> bool {
    use CpuidFeature as F;
    macro_rules! has {
        ($name:tt) => {
            std::arch::is_x86_feature_detected!($name)
        };
    }
    match feature {
        F::INTEL8086
        | F::INTEL186
        | F::INTEL286
        | F::INTEL386
        | F::INTEL486
        | F::X64
        | F::CMOV
        | F::MULTIBYTENOP
        | F::PAUSE
        | F::SSE
        | F::SSE2
        | F::CET_IBT
        | F::PREFETCHW
        | F::CPUID => true,
        F::ADX => has!("adx"),
        F::AES => has!("aes"),
        F::AVX => has!("avx"),
        F::AVX2 => has!("avx2"),
        F::BMI1 => has!("bmi1"),
        F::BMI2 => has!("bmi2"),
        F::CMPXCHG16B => has!("cmpxchg16b"),
        F::CX8 => true,
        F::F16C => has!("f16c"),
        F::FMA => has!("fma"),
        F::GFNI => has!("gfni"),
        F::LZCNT => has!("lzcnt"),
        F::MOVBE => has!("movbe"),
        F::PCLMULQDQ => has!("pclmulqdq"),
        F::POPCNT => has!("popcnt"),
        F::SHA => has!("sha"),
        F::SSE3 => has!("sse3"),
        F::SSSE3 => has!("ssse3"),
        F::SSE4_1 => has!("sse4.1"),
        F::SSE4_2 => has!("sse4.2"),
        F::VAES => has!("vaes"),
        F::VPCLMULQDQ => has!("vpclmulqdq"),
        _ => false,
    }
}

/// Not x87, MMX, mask, segment and control registers, nor branches out of 64-bit mode.
fn makeable(kind: K) -> bool {
    use K::*;
    matches!(
        kind,
        mem_offs
            | mem
            | r8_or_mem
            | r16_or_mem
            | r32_or_mem
            | r64_or_mem
            | xmm_or_mem
            | ymm_or_mem
            | r8_reg
            | r8_opcode
            | r16_reg
            | r16_rm
            | r16_opcode
            | r32_reg
            | r32_rm
            | r32_opcode
            | r32_vvvv
            | r64_reg
            | r64_rm
            | r64_opcode
            | r64_vvvv
            | xmm_reg
            | xmm_rm
            | xmm_vvvv
            | xmm_is4
            | ymm_reg
            | ymm_rm
            | ymm_vvvv
            | ymm_is4
            | al
            | cl
            | ax
            | dx
            | eax
            | rax
            | imm8
            | imm8_const_1
            | imm8sex16
            | imm8sex32
            | imm8sex64
            | imm16
            | imm32
            | imm32sex64
            | imm64
            | seg_rSI
            | es_rDI
            | seg_rDI
            | seg_rBX_al
            | br64_1
            | br64_4
    )
}

impl Generator {
    /// A random instruction of this opcode at `ip`. With `known`, its memory operands are in the page of the slot for these
    /// registers.
    pub(super) fn instruction(
        &mut self,
        code: Code,
        ip: u64,
        slot: usize,
        known: Option<&Regs>,
    ) -> Option<(Instruction, Vec<u8>)> {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        let op = code.op_code();
        let mut in_memory = false;
        for i in 0..op.op_count() {
            in_memory |= self.operand(&mut instruction, i, op.op_kind(i), ip, slot, known);
        }
        if op.can_use_lock_prefix() && in_memory && self.random.one_in(4) {
            instruction.set_has_lock_prefix(true);
        }
        if instruction.is_string_instruction() && op.can_use_rep_prefix() && !self.random.one_in(3) {
            if op.can_use_repne_prefix() && self.random.one_in(2) {
                instruction.set_has_repne_prefix(true);
            } else {
                instruction.set_has_rep_prefix(true);
            }
        }
        let mut encoder = Encoder::new(64);
        encoder.encode(&instruction, ip).ok()?;
        let mut bytes = encoder.take_buffer();
        if self.random.one_in(6) {
            self.mutate(&mut bytes);
        }
        let decoded = Decoder::with_ip(64, &bytes, ip, redmagic_lift::DECODER_OPTIONS).decode();
        let same = decoded.mnemonic() == code.mnemonic() || self.codes.0.iter().any(|c| c.contains(&decoded.code()));
        let fine = !decoded.is_invalid() && decoded.len() == bytes.len() && same && usable(decoded.code());
        // A branch to itself looks like one that faulted.
        let loops = decoded.op0_kind() == OpKind::NearBranch64 && decoded.near_branch64() == ip;
        (fine && !loops).then_some((decoded, bytes))
    }

    /// Prefixes without a meaning, or any bit.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        match self.random.below(4) {
            0 => {
                let prefix = *self
                    .random
                    .pick(&[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3, 0x40, 0x48]);
                bytes.insert(0, prefix);
            }
            1 => {
                // A REX prefix that says nothing, directly before the opcode of an instruction without prefixes.
                let rex = 0x40 | self.random.below(16) as u8;
                bytes.insert(0, rex);
            }
            _ => {
                let at = self.random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.random.below(8);
            }
        }
    }

    /// Sets operand `i`; whether it is memory.
    fn operand(&mut self, to: &mut Instruction, i: u32, kind: K, ip: u64, slot: usize, known: Option<&Regs>) -> bool {
        use K::*;
        let register = |this: &mut Self, to: &mut Instruction, first: Register, count: u64| {
            to.set_op_kind(i, OpKind::Register);
            to.set_op_register(i, first + this.random.below(count) as u32);
            false
        };
        let memory_too = matches!(
            kind,
            r8_or_mem | r16_or_mem | r32_or_mem | r64_or_mem | xmm_or_mem | ymm_or_mem
        );
        if kind == mem || kind == mem_offs || memory_too && self.random.one_in(2) {
            to.set_op_kind(i, OpKind::Memory);
            self.memory(to, kind == mem_offs, ip, slot, known);
            return true;
        }
        let fixed = |to: &mut Instruction, register: Register| {
            to.set_op_kind(i, OpKind::Register);
            to.set_op_register(i, register);
            false
        };
        match kind {
            // al to r15l, ah to bh and spl to dil among them.
            r8_or_mem | r8_reg | r8_opcode => register(self, to, Register::AL, 20),
            r16_or_mem | r16_reg | r16_rm | r16_opcode => register(self, to, Register::AX, 16),
            r32_or_mem | r32_reg | r32_rm | r32_opcode | r32_vvvv => register(self, to, Register::EAX, 16),
            r64_or_mem | r64_reg | r64_rm | r64_opcode | r64_vvvv => register(self, to, Register::RAX, 16),
            xmm_or_mem | xmm_reg | xmm_rm | xmm_vvvv | xmm_is4 => register(self, to, Register::XMM0, 16),
            ymm_or_mem | ymm_reg | ymm_rm | ymm_vvvv | ymm_is4 => register(self, to, Register::YMM0, 16),
            al => fixed(to, Register::AL),
            cl => fixed(to, Register::CL),
            ax => fixed(to, Register::AX),
            dx => fixed(to, Register::DX),
            eax => fixed(to, Register::EAX),
            rax => fixed(to, Register::RAX),
            seg_rSI => {
                to.set_op_kind(i, OpKind::MemorySegRSI);
                if self.random.one_in(8) {
                    to.set_segment_prefix(*self.random.pick(&[Register::FS, Register::GS]));
                }
                false
            }
            es_rDI => {
                to.set_op_kind(i, OpKind::MemoryESRDI);
                false
            }
            seg_rDI => {
                to.set_op_kind(i, OpKind::MemorySegRDI);
                false
            }
            seg_rBX_al => {
                to.set_op_kind(i, OpKind::Memory);
                to.set_memory_base(Register::RBX);
                to.set_memory_index(Register::AL);
                false
            }
            br64_1 | br64_4 => {
                to.set_op_kind(i, OpKind::NearBranch64);
                let far = if kind == br64_1 { 100 } else { 0x7000_0000 };
                let by = self.random.below(2 * far) as i64 - far as i64;
                to.set_near_branch64(ip.wrapping_add_signed(by));
                false
            }
            _ => {
                self.immediate(to, i, kind);
                false
            }
        }
    }

    fn immediate(&mut self, to: &mut Instruction, i: u32, kind: K) {
        use K::*;
        let bits = if self.random.one_in(3) {
            self.random.bits()
        } else {
            self.random.integer()
        };
        let as_kind = match kind {
            imm8sex16 => OpKind::Immediate8to16,
            imm8sex32 => OpKind::Immediate8to32,
            imm8sex64 => OpKind::Immediate8to64,
            imm16 => OpKind::Immediate16,
            imm32 => OpKind::Immediate32,
            imm32sex64 => OpKind::Immediate32to64,
            imm64 => OpKind::Immediate64,
            // The second 8-bit immediate of `extrq`, `insertq` and `enter`.
            _ if (0..i).any(|j| matches!(to.op_kind(j), OpKind::Immediate8 | OpKind::Immediate16)) => {
                OpKind::Immediate8_2nd
            }
            _ => OpKind::Immediate8,
        };
        to.set_op_kind(i, as_kind);
        match as_kind {
            OpKind::Immediate8to16 => to.set_immediate8to16(i16::from(bits as i8)),
            OpKind::Immediate8to32 => to.set_immediate8to32(i32::from(bits as i8)),
            OpKind::Immediate8to64 => to.set_immediate8to64(i64::from(bits as i8)),
            OpKind::Immediate16 => to.set_immediate16(bits as u16),
            OpKind::Immediate32 => to.set_immediate32(bits as u32),
            OpKind::Immediate32to64 => to.set_immediate32to64(i64::from(bits as i32)),
            OpKind::Immediate64 => to.set_immediate64(bits),
            OpKind::Immediate8_2nd => to.set_immediate8_2nd(bits as u8),
            _ => to.set_immediate8(if kind == imm8_const_1 { 1 } else { bits as u8 }),
        }
    }

    fn memory(&mut self, to: &mut Instruction, offset_only: bool, ip: u64, slot: usize, known: Option<&Regs>) {
        let target = stub::page(slot) + self.place();
        let segment = match self.random.below(16) {
            0 => Register::FS,
            1 => Register::GS,
            _ => Register::None,
        };
        to.set_segment_prefix(segment);
        let start = match segment {
            Register::FS => FS_BASE,
            Register::GS => GS_BASE,
            _ => 0,
        };
        let absolute = target - start;
        if offset_only {
            to.set_memory_displ_size(8);
            to.set_memory_displacement64(absolute);
            return;
        }
        let form = self.random.below(12);
        if form == 0 {
            to.set_memory_base(Register::RIP);
            to.set_memory_displ_size(8);
            to.set_memory_displacement64(absolute);
            let _ = ip;
            return;
        }
        let short = self.random.one_in(16);
        let first = if short { Register::EAX } else { Register::RAX };
        let mut disp = None;
        for _ in 0..3 {
            let base = (form != 1 && form != 2).then(|| first + self.random.below(16) as u32);
            let index = (2..7).contains(&form).then(|| first + self.random.below(16) as u32);
            // rsp is no index.
            let index = index.filter(|r| r.number() != 4);
            let scale = 1 << self.random.below(4);
            disp = self.displacement(absolute, base, index, scale, short, known);
            if disp.is_some() {
                to.set_memory_base(base.unwrap_or(Register::None));
                to.set_memory_index(index.unwrap_or(Register::None));
                to.set_memory_index_scale(if index.is_some() { scale } else { 1 });
                break;
            }
        }
        let has_register = to.memory_base() != Register::None || to.memory_index() != Register::None;
        let disp = match disp {
            Some(disp) if has_register => disp,
            _ => {
                to.set_memory_displ_size(if short { 4 } else { 8 });
                to.set_memory_displacement64(absolute);
                return;
            }
        };
        let size = match i8::try_from(disp) {
            Ok(0) if self.random.one_in(2) => 0,
            Ok(_) if !self.random.one_in(8) => 1,
            _ if short => 4,
            _ => 8,
        };
        to.set_memory_displ_size(size);
        to.set_memory_displacement64(if short {
            u64::from(disp as u32)
        } else {
            i64::from(disp) as u64
        });
    }

    /// The displacement with these registers; `None` if there is none.
    fn displacement(
        &mut self,
        absolute: u64,
        base: Option<Register>,
        index: Option<Register>,
        scale: u32,
        short: bool,
        known: Option<&Regs>,
    ) -> Option<i32> {
        let Some(regs) = known else {
            return Some(match self.random.below(4) {
                0 => 0,
                1 => self.random.bits() as i8 as i32,
                2 => self.random.bits() as i16 as i32,
                _ => self.random.integer() as i32,
            });
        };
        let value = |r: Option<Register>| r.map_or(0, |r| regs.gpr[r.number()]);
        let sum = value(base).wrapping_add(value(index).wrapping_mul(u64::from(scale)));
        let rest = absolute.wrapping_sub(sum) as i64;
        if short {
            Some(rest as i32)
        } else {
            i32::try_from(rest).ok()
        }
    }

    /// An offset in the page, with room around it.
    pub(super) fn place(&mut self) -> u64 {
        let at = 0x200 + self.random.below(0xc00);
        match self.random.below(8) {
            0 | 1 => at,
            2 => at & !7,
            _ => at & !31,
        }
    }
}
