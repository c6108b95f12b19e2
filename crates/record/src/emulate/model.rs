//! Instructions that cannot be executed in a stub: those that move rip or rsp, string instructions, and those that do nothing. And
//! moves and comparisons of integers, which are half of all, so that most code needs few stubs: making one takes as long as
//! executing ten.
//!
//! Each changes registers only at its end: a halt leaves rip at the instruction.

use iced_x86::{Code, ConditionCode, FlowControl, Instruction, Mnemonic, OpKind, Register};
use redmagic_tracee::regs::Gprs;

use super::Halt;
use super::pages::{Pages, Unreadable};
use crate::operands;

const CF: u64 = 1 << 0;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const TF: u64 = 1 << 8;
const DF: u64 = 1 << 10;
const OF: u64 = 1 << 11;
/// What `popf` changes in user mode: status flags, TF, DF, NT, AC, ID.
const POPPED: u64 = CF | PF | AF | ZF | SF | TF | DF | OF | 1 << 14 | 1 << 18 | 1 << 21;
/// What `pushf` does not show: RF and VM.
const HIDDEN: u64 = 1 << 16 | 1 << 17 | TF;

/// Which model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Model {
    Nothing,
    Lea,
    Push,
    Pop,
    PushFlags,
    PopFlags,
    Leave,
    Call,
    Jump,
    JumpIf,
    JumpCx,
    Return,
    Direction(bool),
    Text(Text),
    /// From general registers, memory or an immediate to general registers or memory; true: with its sign.
    Move(bool),
    /// `cmp` of such operands.
    Compare,
}

/// A string operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    Move,
    Store,
    Load,
    Compare,
    Scan,
}

/// The model of an instruction; `None` if it is for a stub, an error if it must be executed for real.
pub(super) fn of(instruction: &Instruction) -> Option<Result<Model, &'static str>> {
    use Mnemonic as M;
    let wide = instruction.op0_kind() != OpKind::Register || instruction.op0_register().is_gpr64();
    Some(Ok(match instruction.mnemonic() {
        M::Nop
        | M::Endbr64
        | M::Pause
        | M::Prefetchnta
        | M::Prefetcht0
        | M::Prefetcht1
        | M::Prefetcht2
        | M::Prefetchw => Model::Nothing,
        M::Lea => Model::Lea,
        M::Push if instruction.stack_pointer_increment() == -8 && wide => Model::Push,
        M::Pop if instruction.stack_pointer_increment() == 8 && instruction.op0_register().is_gpr64() => Model::Pop,
        M::Pushfq => Model::PushFlags,
        M::Popfq => Model::PopFlags,
        M::Leave if instruction.code() == Code::Leaveq => Model::Leave,
        M::Cld => Model::Direction(false),
        M::Std => Model::Direction(true),
        M::Movsb | M::Movsw | M::Movsq => Model::Text(Text::Move),
        M::Movsd if instruction.is_string_instruction() => Model::Text(Text::Move),
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => Model::Text(Text::Store),
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => Model::Text(Text::Load),
        M::Cmpsb | M::Cmpsw | M::Cmpsq => Model::Text(Text::Compare),
        M::Cmpsd if instruction.is_string_instruction() => Model::Text(Text::Compare),
        M::Scasb | M::Scasw | M::Scasd | M::Scasq => Model::Text(Text::Scan),
        M::Mov | M::Movzx if is_plain(instruction) => Model::Move(false),
        M::Movsx | M::Movsxd if is_plain(instruction) => Model::Move(true),
        M::Cmp if is_plain(instruction) => Model::Compare,
        M::Syscall => return Some(Err("a system call")),
        M::Jrcxz | M::Jecxz | M::Loop | M::Loope | M::Loopne => Model::JumpCx,
        _ if instruction.is_stack_instruction()
            && !matches!(
                instruction.flow_control(),
                FlowControl::Call | FlowControl::IndirectCall | FlowControl::Return
            ) =>
        {
            return Some(Err("an unusual stack instruction"));
        }
        _ => match instruction.flow_control() {
            FlowControl::Next => return None,
            FlowControl::Call | FlowControl::IndirectCall => Model::Call,
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => Model::Jump,
            FlowControl::ConditionalBranch => Model::JumpIf,
            FlowControl::Return if matches!(instruction.code(), Code::Retnq | Code::Retnq_imm16) => Model::Return,
            _ => return Some(Err("an unusual change of the control flow")),
        },
    }))
}

/// Whether both operands are general registers (not `ah` and the like), memory or immediates.
fn is_plain(instruction: &Instruction) -> bool {
    let high = [Register::AH, Register::CH, Register::DH, Register::BH];
    instruction.op_count() == 2
        && (0..2).all(|i| match instruction.op_kind(i) {
            OpKind::Register => {
                let register = instruction.op_register(i);
                register.is_gpr() && !high.contains(&register)
            }
            OpKind::Memory => true,
            _ => i == 1 && instruction.try_immediate(i).is_ok(),
        })
}

/// Bytes of an operand of a plain instruction; an immediate is as long as what it goes with.
fn size(instruction: &Instruction, operand: u32) -> usize {
    match instruction.op_kind(operand) {
        OpKind::Register => instruction.op_register(operand).size(),
        OpKind::Memory => instruction.memory_size().size(),
        _ => size(instruction, 0),
    }
}

/// The value of an operand of a plain instruction, without its sign.
fn value(instruction: &Instruction, operand: u32, regs: &Gprs, pages: &mut Pages) -> Result<u64, Halt> {
    let bytes = size(instruction, operand);
    let value = match instruction.op_kind(operand) {
        OpKind::Register => regs[instruction.op_register(operand).full_register().number()],
        OpKind::Memory => {
            let mut value = [0; 8];
            pages.read(address(instruction, operand, regs)?, &mut value[..bytes])?;
            u64::from_le_bytes(value)
        }
        _ => instruction.immediate(operand),
    };
    Ok(value & u64::MAX >> (64 - 8 * bytes))
}

/// Executes it: registers, memory and rip.
pub(super) fn execute(model: Model, instruction: &Instruction, regs: &mut Gprs, pages: &mut Pages) -> Result<(), Halt> {
    let mut rip = instruction.next_ip();
    match model {
        Model::Nothing => {}
        Model::Lea => {
            let value = address(instruction, 1, regs)?;
            set(regs, instruction.op0_register(), value);
        }
        Model::Move(signed) => {
            let mut value = value(instruction, 1, regs, pages)?;
            if signed {
                let above = 64 - 8 * size(instruction, 1);
                value = ((value << above) as i64 >> above) as u64;
            }
            match instruction.op0_kind() {
                OpKind::Register => set(regs, instruction.op0_register(), value),
                _ => pages.write(
                    address(instruction, 0, regs)?,
                    &value.to_le_bytes()[..size(instruction, 0)],
                )?,
            }
        }
        Model::Compare => {
            let x = value(instruction, 0, regs, pages)?.to_le_bytes();
            let y = value(instruction, 1, regs, pages)?.to_le_bytes();
            let size = size(instruction, 0);
            regs.rflags = compared(regs.rflags, &x[..size], &y[..size]);
        }
        Model::Push => {
            let value = match instruction.op0_kind() {
                OpKind::Register | OpKind::Memory => value(instruction, 0, regs, pages)?,
                _ => instruction.immediate(0),
            };
            push(regs, pages, value)?;
        }
        Model::Pop => {
            let value = pages.read_u64(regs.rsp)?;
            regs.rsp = regs.rsp.wrapping_add(8);
            regs[instruction.op0_register().number()] = value;
        }
        Model::PushFlags => {
            let value = regs.rflags & !HIDDEN;
            push(regs, pages, value)?;
        }
        Model::PopFlags => {
            let value = pages.read_u64(regs.rsp)?;
            if value & TF != 0 {
                return Err(Halt::NeedsReal("popf sets the trap flag"));
            }
            regs.rflags = regs.rflags & !POPPED | value & POPPED;
            regs.rsp = regs.rsp.wrapping_add(8);
        }
        Model::Leave => {
            let value = pages.read_u64(regs.rbp)?;
            regs.rsp = regs.rbp.wrapping_add(8);
            regs.rbp = value;
        }
        Model::Call => {
            let target = target(instruction, regs, pages)?;
            push(regs, pages, rip)?;
            rip = target;
        }
        Model::Jump => rip = target(instruction, regs, pages)?,
        Model::JumpIf => {
            if holds(instruction.condition_code(), regs.rflags) {
                rip = instruction.near_branch_target();
            }
        }
        Model::JumpCx => {
            if jumps(instruction, regs) {
                rip = instruction.near_branch_target();
            }
        }
        Model::Return => {
            rip = pages.read_u64(regs.rsp)?;
            let extra = if instruction.op_count() == 1 {
                instruction.immediate(0)
            } else {
                0
            };
            regs.rsp = regs.rsp.wrapping_add(8).wrapping_add(extra);
        }
        Model::Direction(down) => regs.rflags = if down { regs.rflags | DF } else { regs.rflags & !DF },
        Model::Text(text) => string(text, instruction, regs, pages)?,
    }
    regs.rip = rip;
    Ok(())
}

fn push(regs: &mut Gprs, pages: &mut Pages, value: u64) -> Result<(), Unreadable> {
    let rsp = regs.rsp.wrapping_sub(8);
    pages.write(rsp, &value.to_le_bytes())?;
    regs.rsp = rsp;
    Ok(())
}

/// The address that memory operand `operand` names, for `lea` without a segment.
fn address(instruction: &Instruction, operand: u32, regs: &Gprs) -> Result<u64, Halt> {
    let lea = instruction.mnemonic() == Mnemonic::Lea;
    instruction
        .virtual_address(operand, 0, |register, _, _| {
            if lea && register.is_segment_register() {
                Some(0)
            } else {
                operands::register(regs, register)
            }
        })
        .ok_or(Halt::NeedsReal("an address that cannot be computed"))
}

fn target(instruction: &Instruction, regs: &Gprs, pages: &mut Pages) -> Result<u64, Halt> {
    Ok(match instruction.op0_kind() {
        OpKind::NearBranch64 => instruction.near_branch_target(),
        OpKind::Register if instruction.op0_register().is_gpr64() => regs[instruction.op0_register().number()],
        OpKind::Memory if instruction.memory_size().size() == 8 => pages.read_u64(address(instruction, 0, regs)?)?,
        _ => return Err(Halt::NeedsReal("an unusual branch")),
    })
}

/// Writes a general register as the processor does: 32 bits clear the rest, 16 and 8 keep it.
fn set(regs: &mut Gprs, register: Register, value: u64) {
    let full = &mut regs[register.full_register().number()];
    *full = match register.size() {
        8 => value,
        4 => value & 0xffff_ffff,
        2 => *full & !0xffff | value & 0xffff,
        _ => *full & !0xff | value & 0xff,
    };
}

/// Whether a condition holds with these flags.
pub(super) fn holds(condition: ConditionCode, flags: u64) -> bool {
    use ConditionCode as C;
    let is = |bit| flags & bit != 0;
    match condition {
        C::None => true,
        C::o => is(OF),
        C::no => !is(OF),
        C::b => is(CF),
        C::ae => !is(CF),
        C::e => is(ZF),
        C::ne => !is(ZF),
        C::be => is(CF) || is(ZF),
        C::a => !is(CF) && !is(ZF),
        C::s => is(SF),
        C::ns => !is(SF),
        C::p => is(PF),
        C::np => !is(PF),
        C::l => is(SF) != is(OF),
        C::ge => is(SF) == is(OF),
        C::le => is(ZF) || is(SF) != is(OF),
        C::g => !is(ZF) && is(SF) == is(OF),
    }
}

/// `jrcxz` and the `loop`s, which count first.
fn jumps(instruction: &Instruction, regs: &mut Gprs) -> bool {
    let short = uses_ecx(instruction);
    if !matches!(instruction.mnemonic(), Mnemonic::Jrcxz | Mnemonic::Jecxz) {
        let count = regs.rcx.wrapping_sub(1);
        // A count in ecx clears the upper half, as any write of it does.
        regs.rcx = if short { count & 0xffff_ffff } else { count };
    }
    let count = if short { regs.rcx & 0xffff_ffff } else { regs.rcx };
    let zero = regs.rflags & ZF != 0;
    match instruction.mnemonic() {
        Mnemonic::Jrcxz | Mnemonic::Jecxz => count == 0,
        Mnemonic::Loope => count != 0 && zero,
        Mnemonic::Loopne => count != 0 && !zero,
        _ => count != 0,
    }
}

fn uses_ecx(instruction: &Instruction) -> bool {
    matches!(
        instruction.code(),
        Code::Jecxz_rel8_64 | Code::Loop_rel8_64_ECX | Code::Loope_rel8_64_ECX | Code::Loopne_rel8_64_ECX
    )
}

/// Elements of one repeated instruction that are executed here.
const MAX_ELEMENTS: u64 = 1 << 20;

fn string(text: Text, instruction: &Instruction, regs: &mut Gprs, pages: &mut Pages) -> Result<(), Halt> {
    let kinds = [instruction.op0_kind(), instruction.op1_kind()];
    let long = |kind| {
        !matches!(
            kind,
            OpKind::MemorySegESI | OpKind::MemorySegSI | OpKind::MemoryESEDI | OpKind::MemoryESDI
        )
    };
    if !kinds.into_iter().all(long) || instruction.segment_prefix() != Register::None {
        return Err(Halt::NeedsReal(
            "a string instruction with a segment or short addresses",
        ));
    }
    let size = instruction.memory_size().size();
    let repeats = operands::repeats(instruction);
    let count = if repeats { regs.rcx } else { 1 };
    if count > MAX_ELEMENTS {
        return Err(Halt::NeedsReal("a long string instruction"));
    }
    let step = if regs.rflags & DF != 0 {
        (size as u64).wrapping_neg()
    } else {
        size as u64
    };
    let mut now = *regs;
    let accumulator = regs.rax.to_le_bytes();
    let mut x = [0; 8];
    let mut y = [0; 8];
    for _ in 0..count {
        match text {
            Text::Move => {
                pages.read(now.rsi, &mut x[..size])?;
                pages.write(now.rdi, &x[..size])?;
            }
            Text::Store => pages.write(now.rdi, &accumulator[..size])?,
            Text::Load => {
                pages.read(now.rsi, &mut x[..size])?;
                let value = u64::from_le_bytes(x);
                let register =
                    [Register::AL, Register::AX, Register::EAX, Register::RAX][size.trailing_zeros() as usize];
                set(&mut now, register, value);
            }
            Text::Compare => {
                pages.read(now.rsi, &mut x[..size])?;
                pages.read(now.rdi, &mut y[..size])?;
            }
            Text::Scan => {
                x[..size].copy_from_slice(&accumulator[..size]);
                pages.read(now.rdi, &mut y[..size])?;
            }
        }
        if matches!(text, Text::Move | Text::Load | Text::Compare) {
            now.rsi = now.rsi.wrapping_add(step);
        }
        if text != Text::Load {
            now.rdi = now.rdi.wrapping_add(step);
        }
        if repeats {
            now.rcx -= 1;
        }
        if matches!(text, Text::Compare | Text::Scan) {
            now.rflags = compared(now.rflags, &x[..size], &y[..size]);
            let equal = now.rflags & ZF != 0;
            if repeats && equal == instruction.has_repne_prefix() {
                break;
            }
        }
    }
    *regs = now;
    Ok(())
}

/// The flags of `x - y`, little-endian numbers of the same size.
fn compared(flags: u64, x: &[u8], y: &[u8]) -> u64 {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let bits = x.len() as u32 * 8;
    let mask = u64::MAX >> (64 - bits);
    let top = 1u64 << (bits - 1);
    let (x, y) = (number(x), number(y));
    let result = x.wrapping_sub(y) & mask;
    let mut out = flags & !(CF | PF | AF | ZF | SF | OF);
    let mut put = |bit, holds| {
        if holds {
            out |= bit;
        }
    };
    put(CF, x < y);
    put(PF, (result as u8).count_ones().is_multiple_of(2));
    put(AF, x & 15 < y & 15);
    put(ZF, result == 0);
    put(SF, result & top != 0);
    put(OF, (x ^ y) & (x ^ result) & top != 0);
    out
}
