//! Traces to x86-64 machine code. Pure functions over data: nothing here knows of
//! processes.
//!
//! * [`asm`]: a byte buffer with labels of our own, and iced's `Encoder` for
//!   instructions that came from elsewhere;
//! * [`exits`]: the out-of-line stubs by which a trace is left;
//! * [`copy`]: the copy tier, which repeats recorded instructions byte for byte with
//!   guards in place of branches;
//! * [`lower`]: the optimised tier, which makes code of the IR;
//! * [`turnstile`]: code that counts who passes on the way to a trace.

pub mod asm;
pub mod copy;
pub mod exits;
pub mod lower;
pub mod turnstile;
