//! From a running thread to a [`recording::Recording`]: the list of instructions that it executed from an anchor on.
//!
//! | module | what it is about |
//! |---|---|
//! | [`recording`] | the format |
//! | [`codec`] | the format as bytes |
//! | [`compare`] | whether two recordings are the same |
//! | [`stepping`] | the recorder that single-steps: the ground truth |
//! | [`emulate`] | the recorder that executes a copy of the thread, which waits: the fast one |
//! | [`guide`] | the questions that a recorder asks whoever decides |
//! | [`abort`] | every reason for giving a recording up, in one table |
//!
//! A recorder is mechanism. What is inlined, what becomes a residual call and when a loop is closed is policy, and comes from a
//! [`guide::Guide`].

pub mod abort;
pub mod codec;
pub mod compare;
pub mod emulate;
pub mod guide;
mod native;
mod operands;
mod plt;
mod recorder;
pub mod recording;
pub mod stepping;
