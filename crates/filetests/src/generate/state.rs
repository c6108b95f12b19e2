//! Random states in which an instruction's memory operands are in the case's page.

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register, UsedMemory};
use redmagic_ir::eval::Regs;
use redmagic_ir::flags::{DF, STATUS};

use super::Generator;
use crate::case::Case;
use crate::cpu::{FS_BASE, GS_BASE, stub};

/// The bit of `rflags` that programs toggle to see whether there is `cpuid`.
const ID: u64 = 1 << 21;

/// Where a memory operand is with these registers, segment included.
pub fn operand_address(memory: &UsedMemory, regs: &Regs) -> Option<u64> {
    memory.virtual_address(0, |register, _, _| match register {
        Register::FS => Some(regs.fs_base),
        Register::GS => Some(regs.gs_base),
        r if r.is_segment_register() => Some(0),
        Register::AL => Some(regs.gpr[0] & 0xff),
        r if r.is_gpr32() => Some(regs.gpr[r.number()] & 0xffff_ffff),
        r if r.is_gpr64() => Some(regs.gpr[r.number()]),
        _ => None,
    })
}

/// Registers whose values are decided.
#[derive(Default)]
struct Fixed(u32);

impl Fixed {
    fn has(&self, register: Register) -> bool {
        self.0 & (1 << register.full_register().number()) != 0
    }

    fn add(&mut self, register: Register) {
        self.0 |= 1 << register.full_register().number();
    }
}

impl Generator {
    fn random_state(&mut self, case: &mut Case) {
        let random = &mut self.random;
        let regs = &mut case.regs;
        for r in &mut regs.gpr {
            *r = random.integer();
        }
        for r in &mut regs.xmm {
            *r = random.vector();
        }
        for (i, r) in regs.ymm_high.iter_mut().enumerate() {
            *r = regs.xmm[15 - i].rotate_left(8 + i as u32);
        }
        let bits = random.bits();
        regs.rflags = 0x202 | bits & u64::from(STATUS) | bits & ID;
        if random.one_in(4) {
            regs.rflags |= u64::from(DF);
        }
        regs.mxcsr = 0x1f80;
        // Sticky bits, rounding mode, DAZ, FTZ, and rarely an unmasked exception.
        let bits = random.bits() as u32;
        regs.mxcsr |= match bits >> 28 {
            0..=5 => 0,
            6..=9 => bits & 0x6000,
            10..=12 => bits & 0x603f,
            _ => bits & 0xe07f,
        };
        if random.one_in(100) {
            regs.mxcsr ^= 0x80 << random.below(6);
        }
    }

    /// A state for one instruction.
    pub(super) fn state(&mut self, instruction: &Instruction, case: &mut Case) {
        self.random_state(case);
        case.memory.clear();
        let mut fixed = Fixed::default();
        if self.random.one_in(50) {
            return;
        }
        let used: Vec<UsedMemory> = self.info.info(instruction).used_memory().to_vec();
        for memory in &used {
            self.solve(memory, case, &mut fixed);
        }
        self.counts(instruction, case, &mut fixed);
        for memory in &used {
            self.contents(instruction, memory, case);
        }
    }

    /// Makes the operand's address one in the page.
    fn solve(&mut self, memory: &UsedMemory, case: &mut Case, fixed: &mut Fixed) {
        let (base, index) = (memory.base(), memory.index());
        let target = stub::page(case.slot) + self.place();
        let segment = match memory.segment() {
            Register::FS => FS_BASE,
            Register::GS => GS_BASE,
            _ => 0,
        };
        let want = target.wrapping_sub(segment).wrapping_sub(memory.displacement());
        let short = base.is_gpr32() || index.is_gpr32();
        let scale = u64::from(memory.scale());
        let known = |r: Register| r == Register::None || fixed.has(r);
        let extend = |v: u64| if short { i64::from(v as i32) } else { v as i64 };
        let number = |r: Register| r.full_register().number();
        let set = |case: &mut Case, fixed: &mut Fixed, random: &mut crate::random::Random, r: Register, v: u64| {
            // What an address-size prefix cuts off does not matter.
            case.regs.gpr[number(r)] = if short {
                u64::from(v as u32) | random.bits() << 32
            } else {
                v
            };
            fixed.add(r);
        };
        let random = &mut self.random;
        if index == Register::AL {
            set(case, fixed, random, base, want.wrapping_sub(case.regs.gpr[0] & 0xff));
        } else if known(base) && known(index) {
            // Nothing to decide.
        } else if base == index {
            set(case, fixed, random, base, (extend(want) / (1 + scale as i64)) as u64);
        } else if index == Register::None {
            set(case, fixed, random, base, want);
        } else if known(base) {
            let rest = if base == Register::None {
                want
            } else {
                want.wrapping_sub(case.regs.gpr[number(base)])
            };
            set(case, fixed, random, index, (extend(rest) / scale as i64) as u64);
        } else {
            if !fixed.has(index) {
                let v = match random.below(3) {
                    0 => random.integer(),
                    _ => random.below(256).wrapping_sub(128),
                };
                set(case, fixed, random, index, v);
            }
            let v = case.regs.gpr[number(index)];
            set(case, fixed, random, base, want.wrapping_sub(v.wrapping_mul(scale)));
        }
    }

    /// Values without which most cases would only fault: small repetition counts and bit numbers, quotients that fit,
    /// canonical jump targets.
    fn counts(&mut self, instruction: &Instruction, case: &mut Case, fixed: &mut Fixed) {
        let random = &mut self.random;
        let gpr = &mut case.regs.gpr;
        match instruction.mnemonic() {
            Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
                if instruction.op0_kind() == OpKind::Memory && instruction.op1_kind() == OpKind::Register =>
            {
                let register = instruction.op1_register();
                if !fixed.has(register) {
                    let n = random.below(2048).wrapping_sub(1024);
                    let keep = if register.size() == 8 {
                        0
                    } else {
                        u64::MAX << (8 * register.size())
                    };
                    let r = &mut gpr[register.full_register().number()];
                    *r = *r & keep | n & !keep;
                }
            }
            Mnemonic::Div | Mnemonic::Idiv if !random.one_in(4) => {
                if instruction.op0_kind() == OpKind::Register && instruction.op0_register().size() == 1 {
                    gpr[0] &= !0xff00;
                } else if !fixed.has(Register::RDX) {
                    let negative = instruction.mnemonic() == Mnemonic::Idiv && random.one_in(2);
                    gpr[2] = if negative { u64::MAX } else { random.below(3) >> 1 };
                }
            }
            _ => {}
        }
        if (instruction.has_rep_prefix() || instruction.has_repne_prefix()) && !fixed.has(Register::RCX) {
            gpr[1] = random.below(20);
        }
        let computed = matches!(
            instruction.flow_control(),
            FlowControl::IndirectBranch | FlowControl::IndirectCall
        );
        if computed && instruction.op0_kind() == OpKind::Register {
            gpr[instruction.op0_register().full_register().number()] &= (1 << 47) - 1;
        }
    }

    /// Interesting values where the operand is.
    fn contents(&mut self, instruction: &Instruction, memory: &UsedMemory, case: &mut Case) {
        let address = operand_address(memory, &case.regs);
        let Some(at) = address.map(|a| a.wrapping_sub(stub::page(case.slot))) else {
            return;
        };
        if at > stub::PAGE as u64 - 64 {
            return;
        }
        let random = &mut self.random;
        let mut bytes = match memory.memory_size().size() {
            0..=8 if random.one_in(2) => random.integer().to_le_bytes().to_vec(),
            0..=4 => random.single().to_le_bytes().to_vec(),
            5..=8 => random.double().to_le_bytes().to_vec(),
            9..=16 => random.vector().to_le_bytes().to_vec(),
            _ => [random.vector().to_le_bytes(), random.vector().to_le_bytes()].concat(),
        };
        if instruction.flow_control() != FlowControl::Next {
            // Canonical, in case it is a target.
            bytes.resize(8, 0);
            bytes[5] &= 0x7f;
            bytes[6] = 0;
            bytes[7] = 0;
        }
        if matches!(instruction.mnemonic(), Mnemonic::Ldmxcsr | Mnemonic::Vldmxcsr) && !random.one_in(8) {
            bytes = (random.bits() as u32 & 0xffff | 0x1f80).to_le_bytes().to_vec();
        }
        case.memory.push((at as usize, bytes));
    }

    /// A state for a sequence: pointers into the page in some registers, small numbers in others.
    pub(super) fn sequence_state(&mut self, case: &mut Case) {
        self.random_state(case);
        // Division and shifts by random numbers go on working with exceptions masked.
        case.regs.mxcsr |= 0x1f80;
        let page = stub::page(case.slot);
        for r in [
            4,
            6,
            7,
            self.random.below(16),
            self.random.below(16),
            self.random.below(16),
        ] {
            case.regs.gpr[r as usize] = page + (self.place() & !15);
        }
        if self.random.one_in(2) {
            case.regs.gpr[1] = self.random.below(10);
        }
        for _ in 0..2 {
            let (at, value) = (self.place() as usize, self.random.vector());
            case.memory.push((at, value.to_le_bytes().to_vec()));
        }
    }
}
