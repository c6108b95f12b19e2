//! Tests of the IR and the lifter.
//!
//! * `text`: textual tests, `tests/filetests/{ir,lift,eval,opt,graft}/*.txt`, one behaviour a file.
//! * [`differential`]: one instruction and a random machine state, executed by the processor ([`cpu`]) and by the
//!   evaluator; everything that the instruction can change is compared.
//! * [`native`]: what native operations state to read and write, against the processor.
//! * [`fuzz`]: what the readers of foreign bytes must hold for any input.
//! * [`emit`]: random traces, compiled by the optimised tier and run, and evaluated.
//! * [`emit::graft`]: random side traces that go on where random traces are left, run, and evaluated.
//! * [`optfuzz`]: random traces through the optimiser, evaluated before and after.

pub mod case;
pub mod cpu;
pub mod differential;
pub mod emit;
pub mod fuzz;
pub mod generate;
pub mod native;
pub mod optfuzz;
pub mod random;
pub mod text;
pub mod traces;
