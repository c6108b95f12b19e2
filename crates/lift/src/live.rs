//! Which exits need no flags.
//!
//! An exit to an instruction of the recording, taken before it, has the original code execute that instruction, and those
//! after it up to the next branch. When they overwrite all status flags before one of them reads any, nothing can tell what
//! the flags were at the exit (a signal handler could, by looking into its frame). Compilers keep no flags for long, so
//! that this is what most exits are like: and then neither the exit nor the trace has to keep what the flags are made of.

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, RflagsBits};

use crate::recording::Step;

/// The status flags as iced has them.
const STATUS: u32 = RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::AF | RflagsBits::CF | RflagsBits::PF;

/// For every step, whether nothing can tell what the status flags were before it.
pub(crate) fn flags_are_dead(steps: &[Step]) -> Vec<bool> {
    let mut dead = vec![false; steps.len()];
    let mut wanted = STATUS;
    for (at, step) in steps.iter().enumerate().rev() {
        wanted = match step {
            Step::Instruction { instruction, .. } => before(instruction, wanted),
            _ => STATUS,
        };
        dead[at] = wanted == 0;
    }
    dead
}

/// The flags that matter before an instruction, when those in `wanted` matter after it.
fn before(instruction: &Instruction, wanted: u32) -> u32 {
    match instruction.flow_control() {
        FlowControl::Next => instruction.rflags_read() & STATUS | wanted & !overwritten(instruction),
        // These go nowhere else.
        FlowControl::UnconditionalBranch => wanted,
        FlowControl::Call if instruction.op0_kind() == OpKind::NearBranch64 => wanted,
        _ => STATUS,
    }
}

/// The flags that an instruction changes whatever its operands are.
fn overwritten(instruction: &Instruction) -> u32 {
    use Mnemonic as M;
    let repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    let maybe = match instruction.mnemonic() {
        // By a count that may be 0.
        M::Shl | M::Shr | M::Sar | M::Sal | M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shld | M::Shrd => true,
        M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq | M::Scasb | M::Scasw | M::Scasd | M::Scasq => repeated,
        _ => false,
    };
    if maybe { 0 } else { instruction.rflags_modified() }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Code, Decoder, Register};

    use super::*;
    use crate::DECODER_OPTIONS;

    fn dead(code: &[u8]) -> Vec<bool> {
        let steps: Vec<Step> = Decoder::with_ip(64, code, 0x1000, DECODER_OPTIONS)
            .into_iter()
            .map(|instruction| Step::Instruction {
                instruction,
                next: instruction.next_ip(),
            })
            .collect();
        flags_are_dead(&steps)
    }

    #[test]
    fn until_they_are_overwritten() {
        // mov rax, [rbx]; add rax, 1; jb +0
        assert_eq!(
            dead(&[0x48, 0x8b, 0x03, 0x48, 0x83, 0xc0, 1, 0x72, 0]),
            [true, true, false]
        );
    }

    #[test]
    fn not_when_they_are_read() {
        // mov rax, [rbx]; adc rax, 1; add rax, 1
        assert_eq!(
            dead(&[0x48, 0x8b, 0x03, 0x48, 0x83, 0xd0, 1, 0x48, 0x83, 0xc0, 1]),
            [false, false, true]
        );
        // cmove rax, rbx; add rax, 1
        assert_eq!(dead(&[0x48, 0x0f, 0x44, 0xc3, 0x48, 0x83, 0xc0, 1]), [false, true]);
    }

    #[test]
    fn not_when_some_are_left() {
        // inc rax leaves the carry: mov [rbx], rax; inc rax; jb +0
        assert_eq!(
            dead(&[0x48, 0x89, 0x03, 0x48, 0xff, 0xc0, 0x72, 0]),
            [false, false, false]
        );
        // A shift by 0 leaves them all: shl rax, cl; jb +0
        assert_eq!(dead(&[0x48, 0xd3, 0xe0, 0x72, 0]), [false, false]);
        // repe cmpsb, of no bytes, too.
        assert_eq!(dead(&[0xf3, 0xa6, 0x72, 0]), [false, false]);
    }

    #[test]
    fn not_across_what_may_go_elsewhere() {
        // ret; add rax, 1
        assert_eq!(dead(&[0xc3, 0x48, 0x83, 0xc0, 1]), [false, true]);
        // call +0 goes there; call rax may not.
        assert_eq!(dead(&[0xe8, 0, 0, 0, 0, 0x48, 0x83, 0xc0, 1]), [true, true]);
        assert_eq!(dead(&[0xff, 0xd0, 0x48, 0x83, 0xc0, 1]), [false, true]);
        // A call that was not followed.
        let call = Instruction::with1(Code::Call_rm64, Register::RAX).expect("it exists");
        let add = Instruction::with2(Code::Add_rm64_imm8, Register::RAX, 1).expect("it exists");
        let steps = [
            Step::Residual {
                instruction: call,
                target: 0,
                back: 0,
                abi: redmagic_ir::Abi::SysV,
            },
            Step::Instruction {
                instruction: add,
                next: 0,
            },
        ];
        assert_eq!(flags_are_dead(&steps), [false, true]);
    }
}
