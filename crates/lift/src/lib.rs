//! x86-64 instructions to trace IR.
//!
//! A [`Lifter`] holds the architectural state as a map from register to IR value, and extends a trace by one
//! instruction at a time. Registers are read from the entry state when they are first needed. Two uses:
//!
//! * **One instruction** ([`lift_instruction`]) becomes a trace of its own: the emulating recorder caches these by address
//!   and evaluates them; the differential tester compares them with the processor.
//! * **A recording** becomes one trace: [`Lifter::lift`] is told where the program went next, and turns every branch and
//!   computed jump into a guard for that.
//!
//! How an instruction is lifted is found in one table, by mnemonic; a family of instructions is a file in [`insn`] with
//! its rows and its functions. A function refuses a form that it does not model ([`NotModelled`]) and the instruction
//! becomes a `native` operation ([`mod@native`]), unless nothing may follow it in a trace: then it is refused ([`Refusal`]).
//! `docs/ir.md` walks through adding one.

pub mod coverage;
pub mod insn;
mod lifter;
mod live;
pub mod native;
pub mod recording;

pub use lifter::{Flow, Lifted, Lifter, NotModelled, lift_instruction};
pub use recording::lift_recording;

/// How the instructions given to a [`Lifter`] are to be decoded.
///
/// An operand-size prefix on a near branch is ignored by Intel's processors, and makes the branch a 16-bit one on AMD's. The
/// instruction as decoded does not say that there was one. Decoded as AMD does, it has an opcode of its own, which is
/// refused: right on both. The padding in `data16 rex.W call __tls_get_addr` is not affected, because of its REX.W.
pub const DECODER_OPTIONS: u32 = iced_x86::DecoderOptions::AMD;

/// Why an instruction cannot be part of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no instruction, or stop in the middle of one.
    #[error("undecodable bytes at {0:#x}")]
    Undecodable(u64),
    /// Privileged, or leaves the program's own control flow (far jumps, software interrupts, `iret`).
    #[error("the instruction at {0:#x} leaves user-mode control flow")]
    Control(u64),
    /// Uses registers that a trace has no place for (512-bit vectors, mask registers).
    #[error("the instruction at {0:#x} uses 512-bit or mask registers")]
    Wide(u64),
}
