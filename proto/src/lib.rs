//! What a target and the daemon agree on: the shared-memory layout and the
//! socket messages; and how those of both that have no libc make system calls ([`sys`]).
//!
//! This crate is the only definition of both. It is `no_std`, has no
//! dependencies, and every shared type is `#[repr(C)]`. Words that both sides
//! touch while the other runs are atomics; nothing here is ever serialised.
//!
//! ```text
//!             target                          daemon
//!   control   read + write   ◄── Control ──►  read + write   counters, park areas, session words
//!   entries   read           ◄── Entry[] ──   read + write   (id, return address) -> code
//!   code      read + execute ◄───────────     read + write   generated code, slots, constants
//!
//!   target's own memory, read by the daemon with process_vm_readv:
//!     Descriptor  (found through an ELF note)  where everything in the shim is
//!     Registry    what was declared with do_not_trace_function, constant_memory, ...
//!     ThreadWords (thread-local, fs-relative)  nesting depths and where to rejoin a trace
//! ```
//!
//! Everything in control is hostile input to the daemon (a target may write
//! anything there), so types here give the daemon only loads of plain integers;
//! it checks each before use.
#![no_std]

pub mod api;
pub mod control;
pub mod descriptor;
pub mod entries;
pub mod message;
pub mod registry;
pub mod sys;
pub mod thread;

pub use api::ApiFn;

/// Bumped whenever a type in this crate changes its layout or its meaning. Both
/// sides refuse a different one.
pub const PROTOCOL_VERSION: u32 = 4;

/// First word of the descriptor, of control and of every message.
pub const MAGIC: u64 = u64::from_le_bytes(*b"REDMAGIC");

/// How long a target waits for an answer before it takes the daemon for dead,
/// in microseconds (DESIGN section 4: one bounded wait).
pub const PARK_TIMEOUT_US: u32 = 10_000;
