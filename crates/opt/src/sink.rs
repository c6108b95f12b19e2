//! Dead stores: what is overwritten before anything can see it is stored only by the exits in between.

use redmagic_ir::Trace;

/// See the module.
#[must_use]
pub fn sink(trace: Trace) -> Trace {
    trace
}
