//! The trace IR: the semantics of x86-64 that recorder, optimiser, emitter and tests share.
//!
//! A [`Trace`] is a straight line of operations in SSA form with an end that says where to go next. It is small on
//! purpose: no blocks, no functions, no phis but those of one loop. Everything in it comes from one table in [`opcode`]:
//! the [`Builder`]'s methods, the text form ([`mod@print`], [`parse`]), the invariants ([`verify`]) and, for most vector
//! operations, the execution. [`eval`] is the meaning of every operation, and the oracle of every test.
//!
//! Four decisions shape the rest:
//!
//! * **Architectural state is at the edges.** Inside, there are values; `reg` reads the entry state, a [`Snapshot`] says
//!   what the state is where the trace is left. A trace lifted from one instruction and one optimised from a thousand are
//!   the same kind of thing.
//! * **Flags are values.** `flags.sub.i32 a, b` is an operation like others, separate from `sub.i32 a, b`; most are never
//!   read and fall to dead code elimination, and `cond.l` names the comparison it is about, so the emitter can fuse them and
//!   the optimiser can reason about them. Which bits an instruction leaves undefined is part of a flags value
//!   during evaluation ([`flags`]), and so comparisons with a processor can mask them.
//! * **MXCSR and memory are implicit state**, ordered by [`opcode::Effects`].
//! * **What is not modelled is `native`**: the instruction itself, with its exact inputs and outputs.

pub mod builder;
pub mod eval;
pub mod flags;
pub mod opcode;
pub mod parse;
pub mod print;
pub mod reg;
pub mod trace;
pub mod types;
pub mod verify;

pub use builder::Builder;
pub use opcode::Opcode;
pub use reg::{Cond, Home, Reg};
pub use trace::{Abi, Addr, Constant, End, ExitStore, MemFlags, Native, NativeMem, Op, Snapshot, Trace, Value, Via};
pub use types::Type;
