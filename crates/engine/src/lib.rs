//! The engine: the trace graph, the policy, the code cache, and how a Recording becomes
//! code that runs.
//!
//! The daemon gives it requests ([`Engine::decide`]), records what it says, and gives it
//! the result ([`Engine::finish`]). The engine never touches the target but through the
//! three shared regions.

pub mod cache;
pub mod engine;
pub mod fold;
pub mod graph;
pub mod lift;
pub mod memory;
pub mod notes;
pub mod observe;
pub mod optimise;
pub mod params;
pub mod plan;
pub mod policy;
pub mod registry;
pub mod timing;
pub mod unwind;
pub mod warm;

pub use engine::{
    Begun, Compilation, Decision, Draft, Engine, Finished, Hostile, Job, Mode, Passed, Progress, Request, Setup, Stays,
};
pub use params::Params;
