//! What the two binaries share: command lines, launching, and showing.

pub mod explain;
pub mod launch;
pub mod log;
pub mod offline;
pub mod probe;
pub mod replay;
pub mod show;
pub mod timing;
