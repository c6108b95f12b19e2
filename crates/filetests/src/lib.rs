//! Tests of the IR and the lifter.
//!
//! * `text`: textual tests, `tests/filetests/{ir,lift,eval}/*.txt`, one behaviour a file.
//! * [`differential`]: one instruction and a random machine state, executed by the processor ([`cpu`]) and by the
//!   evaluator; everything that the instruction can change is compared.
//! * [`emit`]: random traces, compiled by the optimised tier and run, and evaluated.

pub mod case;
pub mod cpu;
pub mod differential;
pub mod emit;
pub mod generate;
pub mod random;
pub mod text;
pub mod traces;
