//! libredmagic: the part of Redmagic that lives in the interpreter.
//!
//! It does little, and nothing of it allocates, takes a lock that a signal
//! handler or a fork could leave locked, touches errno, or waits longer than
//! [`redmagic_proto::PARK_TIMEOUT_US`] at a time:
//!
//! * [`anchor`]: looks an anchor up, enters its trace, counts, parks;
//! * [`park`]: leaves a thread's state for the daemon and waits, bounded;
//! * [`thread`]: the thread-local words, `temp_disable`, frames, merge blocks;
//! * [`registry`]: what the program declared about itself;
//! * [`start`]: the handshake with a daemon at start and after a fork;
//! * [`trap`]: the SIGTRAP handler that keeps a program alive whose tracer died;
//! * [`descriptor`]: how a daemon finds all this in a running process.
//!
//! The functions are documented for their users in `include/redmagic.h`.
#![no_std]
// The C names are the API: `redmagic.h` documents them for their users, and an
// `extern "C"` function cannot have a safety section that a C caller would read.
#![allow(clippy::missing_safety_doc)]

pub mod anchor;
pub mod descriptor;
pub mod park;
pub mod registry;
pub mod start;
pub mod sys;
pub mod thread;
pub mod trap;

/// Nothing here panics; should a check of the compiler's remain, the process must
/// not run on with broken invariants.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    sys::abort()
}
