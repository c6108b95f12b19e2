//! Everything about another process: its threads, registers, memory, mappings and images.
//!
//! The states of a traced thread are types: a [`thread::Running`] cannot be asked for its registers,
//! because only [`thread::Stopped`] has the methods that do. A thread that dies is a value
//! ([`wait::Death`]), because the kernel may kill it between any two of our system calls.
//!
//! | module | what it is about |
//! |---|---|
//! | [`wait`] | what `waitpid` said, decoded totally, with raw signal numbers |
//! | [`thread`] | seize, interrupt, step, continue, detach |
//! | [`regs`] | general registers, XSAVE area |
//! | [`breakpoint`] | hardware execution breakpoints of one thread |
//! | [`memory`] | `process_vm_readv`/`writev`, and a page cache for text |
//! | [`space`] | an address space, which ends with `exec` |
//! | [`maps`], [`image`], [`process`] | what `/proc` and ELF files know |
//! | [`syscall`] | system calls and function calls made by the target on our behalf |
//!
//! Linux on x86-64 only.

pub mod breakpoint;
pub mod error;
pub mod image;
pub mod maps;
pub mod memory;
pub mod pin;
pub mod process;
pub mod regs;
pub mod space;
pub mod syscall;
#[cfg(feature = "testing")]
pub mod testing;
pub mod thread;
mod timer;
pub mod wait;

pub use error::{Error, Result};
