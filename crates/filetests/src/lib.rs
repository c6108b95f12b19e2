//! Tests of the IR and the lifter.
//!
//! * `text`: textual tests, `tests/filetests/{ir,lift,eval}/*.txt`, one behaviour a file.
//! * [`differential`]: one instruction and a random machine state, executed by the processor ([`cpu`]) and by the
//!   evaluator; everything that the instruction can change is compared.

pub mod case;
pub mod cpu;
pub mod differential;
pub mod fuzz;
pub mod generate;
pub mod native;
pub mod random;
pub mod text;
pub mod traces;
