//! The daemon: sessions with targets, the protocol server, and what it shows of itself.
//!
//! ```text
//!   server ── Hello ──► handshake ─┐
//!          ── attach PID ► attach ─┴─► session ── service thread ── requests ──► engine
//!          ── status, traces, detach        └──── recorder thread ── ptrace ──► record, engine
//!   watch  (a second process) kills a daemon that is stopped while it traces
//! ```

pub mod attach;
pub mod client;
pub mod explain;
pub mod handshake;
pub mod names;
pub mod parked;
pub mod payoff;
pub mod profile;
pub mod recorder;
pub mod regions;
pub mod registry;
pub mod sample;
pub mod server;
pub mod session;
pub mod status;
pub mod target;
pub mod watch;
pub mod wire;
