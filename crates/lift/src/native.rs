//! Instructions that the IR does not model, as `native` operations with their reads and writes.
//!
//! The base is iced's `InstructionInfo`; [`OVERRIDES`] corrects it where it is not what the processor does. What is
//! stated is never less than what the instruction may do: a register that is written partly or only sometimes is
//! an input too, and memory whose place cannot be said is memory anywhere. State that the IR does not know (x87, MMX) stays in
//! the machine, and native operations keep their order.

use iced_x86::{Encoder, FlowControl, Instruction, Mnemonic, OpAccess, OpKind, Register, RflagsBits, UsedMemory};
use redmagic_ir::{Addr, MemFlags, Native, NativeMem, Reg, Type, Value};

use crate::Refusal;
use crate::lifter::{Flow, Lifter, is_vex};

/// A correction to `InstructionInfo`.
#[derive(Debug)]
pub struct Override {
    /// Which instruction.
    pub mnemonic: Mnemonic,
    /// Read, besides what iced says.
    pub reads: &'static [Reg],
    /// Written, besides what iced says.
    pub writes: &'static [Reg],
    /// Whether memory anywhere may be read and written.
    pub memory: bool,
    /// Why.
    pub reason: &'static str,
}

const NONE: &[Reg] = &[];

/// Reviewed corrections. What is modelled needs none: `shl` by a zero count, `bsf` of 0, `cmpxchg`, plain and repeated
/// string instructions are exact in [`crate::insn`].
pub static OVERRIDES: &[Override] = &[
    Override {
        mnemonic: Mnemonic::Syscall,
        reads: &[
            Reg::RAX,
            Reg::RDI,
            Reg::RSI,
            Reg::RDX,
            Reg::gpr(10),
            Reg::gpr(8),
            Reg::gpr(9),
            Reg::RSP,
            Reg::FLAGS,
            Reg::SYSFLAGS,
        ],
        writes: &[Reg::RAX, Reg::RCX, Reg::R11],
        memory: true,
        reason: "Linux takes the number in rax, arguments in rdi, rsi, rdx, r10, r8, r9, and answers in rax; the \
                 instruction itself leaves the return address in rcx and rflags in r11; iced knows of rcx and r11 only",
    },
    Override {
        mnemonic: Mnemonic::Shld,
        reads: &[Reg::FLAGS],
        writes: NONE,
        memory: false,
        reason: "a count that masks to 0 keeps all flags (the 16-bit form is native)",
    },
    Override {
        mnemonic: Mnemonic::Shrd,
        reads: &[Reg::FLAGS],
        writes: NONE,
        memory: false,
        reason: "as shld",
    },
    Override {
        mnemonic: Mnemonic::Rdfsbase,
        reads: &[Reg::FS_BASE],
        writes: NONE,
        memory: false,
        reason: "segment bases are no registers for iced",
    },
    Override {
        mnemonic: Mnemonic::Rdgsbase,
        reads: &[Reg::GS_BASE],
        writes: NONE,
        memory: false,
        reason: "segment bases are no registers for iced",
    },
    Override {
        mnemonic: Mnemonic::Wrfsbase,
        reads: NONE,
        writes: &[Reg::FS_BASE],
        memory: false,
        reason: "segment bases are no registers for iced",
    },
    Override {
        mnemonic: Mnemonic::Wrgsbase,
        reads: NONE,
        writes: &[Reg::GS_BASE],
        memory: false,
        reason: "segment bases are no registers for iced",
    },
    Override {
        mnemonic: Mnemonic::Fxrstor,
        reads: NONE,
        writes: NONE,
        memory: true,
        reason: "restores xmm0-15, which are then added as outputs (see `restores_vectors`)",
    },
];

/// Instructions that load all vector registers from memory without naming them.
fn restores_vectors(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Fxrstor
            | Mnemonic::Fxrstor64
            | Mnemonic::Xrstor
            | Mnemonic::Xrstor64
            | Mnemonic::Xrstors
            | Mnemonic::Xrstors64
    )
}

/// Instructions that store all vector registers to memory without naming them.
fn saves_vectors(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Fxsave
            | Mnemonic::Fxsave64
            | Mnemonic::Xsave
            | Mnemonic::Xsave64
            | Mnemonic::Xsavec
            | Mnemonic::Xsavec64
            | Mnemonic::Xsaveopt
            | Mnemonic::Xsaveopt64
            | Mnemonic::Xsaves
            | Mnemonic::Xsaves64
    )
}

/// Instructions whose destination keeps bits that the manuals say are cleared. Where the processor has UMIP, these fault
/// in user mode, and Linux writes the result in their place: it leaves the upper half of a 32-bit destination alone.
fn keeps_destination(mnemonic: Mnemonic) -> bool {
    matches!(mnemonic, Mnemonic::Sldt | Mnemonic::Str | Mnemonic::Smsw)
}

/// A set of registers.
#[derive(Default)]
struct RegSet(u64);

impl RegSet {
    fn add(&mut self, reg: Reg) {
        self.0 |= 1 << reg.index();
    }

    fn iter(&self) -> impl Iterator<Item = Reg> {
        let bits = self.0;
        Reg::all().filter(move |r| bits >> r.index() & 1 != 0)
    }
}

/// Appends the instruction as a `native` operation.
pub(crate) fn lift(lifter: &mut Lifter, instruction: &Instruction) -> Result<Flow, Refusal> {
    refuse_control(instruction)?;
    if instruction.mnemonic() == Mnemonic::Pause {
        // See `insn::system::pause`: encoded again, it would be another instruction.
        return Err(Refusal::Undecodable(instruction.ip()));
    }
    let (reads, writes, mem) = effects(lifter, instruction)?;
    let bytes = {
        let mut encoder = Encoder::new(64);
        encoder
            .encode(instruction, instruction.ip())
            .map_err(|_| Refusal::Undecodable(instruction.ip()))?;
        encoder.take_buffer()
    };
    let inputs: Vec<(Reg, Value)> = reads.iter().map(|reg| (reg, lifter.reg(reg))).collect();
    let outputs: Vec<Reg> = writes.iter().collect();
    let tuple = lifter.b.native(Native {
        pc: instruction.ip(),
        bytes,
        inputs,
        outputs: outputs.clone(),
        mem,
    });
    for reg in outputs {
        let value = lifter.b.get(tuple, reg);
        lifter.set(reg, value);
    }
    Ok(Flow::Next)
}

fn refuse_control(instruction: &Instruction) -> Result<(), Refusal> {
    let at = instruction.ip();
    let flows_on = instruction.flow_control() == FlowControl::Next || instruction.mnemonic() == Mnemonic::Syscall;
    if !flows_on || instruction.is_privileged() {
        return Err(Refusal::Control(at));
    }
    Ok(())
}

fn effects(lifter: &mut Lifter, instruction: &Instruction) -> Result<(RegSet, RegSet, Vec<NativeMem>), Refusal> {
    let at = instruction.ip();
    let mnemonic = instruction.mnemonic();
    let (mut reads, mut writes) = (RegSet::default(), RegSet::default());
    let info = lifter.info(instruction);
    let used_memory: Vec<UsedMemory> = info.used_memory().to_vec();
    let used_registers = info.used_registers().to_vec();
    for used in used_registers {
        let (read, write) = match used.access() {
            OpAccess::None | OpAccess::NoMemAccess => continue,
            OpAccess::Read | OpAccess::CondRead => (true, false),
            OpAccess::Write => (false, true),
            // What is written sometimes keeps its value otherwise.
            OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
        };
        let register = used.register();
        if register.is_gpr() {
            let reg = Reg::gpr(register.full_register().number());
            let partly = register.size() < 4 || keeps_destination(mnemonic);
            if read || partly {
                reads.add(reg);
            }
            if write {
                writes.add(reg);
            }
        } else if register.is_vector_register() {
            let number = register.number();
            if number >= 16 || register.is_zmm() && !is_vex(instruction) {
                return Err(Refusal::Wide(at));
            }
            let halves = if register.is_xmm() {
                vec![Reg::xmm(number)]
            } else {
                vec![Reg::xmm(number), Reg::ymm_high(number)]
            };
            for reg in halves {
                // An SSE instruction may write a part.
                if read || write && !is_vex(instruction) {
                    reads.add(reg);
                }
                if write {
                    writes.add(reg);
                }
            }
        } else if register.is_k() || register.is_tmm() {
            return Err(Refusal::Wide(at));
        } else if register.is_segment_register() {
            match register {
                _ if write => return Err(Refusal::Control(at)),
                Register::FS => reads.add(Reg::FS_BASE),
                Register::GS => reads.add(Reg::GS_BASE),
                _ => {}
            }
        } else if register.is_cr() || register.is_dr() || register.is_tr() {
            return Err(Refusal::Control(at));
        }
        // x87 and MMX registers, rip: not ours.
    }
    flags(instruction, &mut reads, &mut writes);
    // A bit number in a register reaches beyond the operand.
    let bit_string = matches!(mnemonic, Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc)
        && instruction.op1_kind() == OpKind::Register;
    let mut anywhere = instruction.is_string_instruction() || instruction.is_vsib() || bit_string;
    for fix in OVERRIDES.iter().filter(|fix| fix.mnemonic == mnemonic) {
        fix.reads.iter().for_each(|r| reads.add(*r));
        fix.writes.iter().for_each(|r| writes.add(*r));
        anywhere |= fix.memory;
    }
    for n in 0..16 {
        if saves_vectors(mnemonic) || restores_vectors(mnemonic) {
            reads.add(Reg::xmm(n));
            reads.add(Reg::ymm_high(n));
            anywhere = true;
        }
        if restores_vectors(mnemonic) {
            writes.add(Reg::xmm(n));
            writes.add(Reg::ymm_high(n));
        }
    }
    let mut mem = Vec::new();
    for used in &used_memory {
        let (read, write) = match used.access() {
            OpAccess::None | OpAccess::NoMemAccess => continue,
            OpAccess::Read | OpAccess::CondRead => (true, false),
            OpAccess::Write | OpAccess::CondWrite => (false, true),
            OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
        };
        let size = used.memory_size().size() as u32;
        let addr = if anywhere || size == 0 {
            None
        } else {
            address(lifter, used)
        };
        mem.push(NativeMem {
            addr,
            size: if addr.is_some() { size } else { 0 },
            read,
            write,
        });
    }
    if anywhere && OVERRIDES.iter().any(|fix| fix.mnemonic == mnemonic && fix.memory) {
        mem = vec![NativeMem {
            addr: None,
            size: 0,
            read: true,
            write: true,
        }];
    }
    Ok((reads, writes, mem))
}

/// Flags: written ones are an output; those of the six that are not all written are an input.
fn flags(instruction: &Instruction, reads: &mut RegSet, writes: &mut RegSet) {
    const STATUS: u32 =
        RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::AF | RflagsBits::CF | RflagsBits::PF;
    // x87 condition codes share the word.
    const SYSTEM: u32 = RflagsBits::DF | RflagsBits::IF | RflagsBits::AC;
    let read = instruction.rflags_read();
    let changed = instruction.rflags_modified();
    if read & STATUS != 0 || changed & STATUS != 0 && changed & STATUS != STATUS {
        reads.add(Reg::FLAGS);
    }
    if changed & STATUS != 0 {
        writes.add(Reg::FLAGS);
    }
    if (read | changed) & SYSTEM != 0 {
        reads.add(Reg::SYSFLAGS);
    }
    if changed & SYSTEM != 0 {
        writes.add(Reg::SYSFLAGS);
    }
}

/// The first byte of a memory operand as a value; `None` for forms of address that are not worth it.
fn address(lifter: &mut Lifter, used: &UsedMemory) -> Option<Value> {
    let part = |lifter: &mut Lifter, register: Register| {
        if register == Register::None {
            Some(Value::NONE)
        } else if register.is_gpr64() {
            Some(lifter.reg(Reg::gpr(register.number())))
        } else {
            None
        }
    };
    let base = part(lifter, used.base())?;
    let index = part(lifter, used.index())?;
    let seg = match used.segment() {
        Register::FS => lifter.reg(Reg::FS_BASE),
        Register::GS => lifter.reg(Reg::GS_BASE),
        _ => Value::NONE,
    };
    let (base, disp) = match i32::try_from(used.displacement() as i64) {
        Ok(disp) => (base, disp),
        Err(_) if base.is_none() => (lifter.b.int(Type::I64, used.displacement()), 0),
        Err(_) => return None,
    };
    Some(lifter.linear(Addr {
        base,
        index,
        seg,
        // An encoding may have a scale without an index.
        flags: MemFlags::new(if index.is_none() { 1 } else { used.scale() }, false),
        disp,
    }))
}
