//! Whether a program stays in one loop.
//!
//! An anchor that has no trace counts down each time that it is passed. While a loop is compiled the program interprets it,
//! so what its own counter and all others have done meanwhile says how many turns it makes between two other loops' turns.

use redmagic_proto::control::LOOP_WEIGHT;
use redmagic_proto::entries::hash;

use super::install::{Compilation, Draft};
use super::{Engine, Job, NEVER};
use crate::graph::{AnchorKey, Origin};

/// Where counters stood.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Activity {
    own: i64,
    others: i64,
    /// How often the anchor has asked in vain: each time its counter was set anew.
    waits: u32,
}

/// Whether a program stays in a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// It goes round many times before anything else is passed.
    Yes,
    /// It does not, or the loop is too long for it to matter.
    No,
    /// It has not run for long enough to tell.
    Unknown,
}

/// Turns of a loop that are needed to tell.
const TURNS: i64 = 256;
/// How many times as often as all others together an anchor must have been passed.
const OFTEN: i64 = 64;

impl Engine {
    /// Where the counter of this anchor stands, and all others together.
    pub(super) fn activity(&self, key: &AnchorKey) -> Activity {
        let own = hash(key.id);
        let counters = self.counters();
        let all: i64 = counters.iter().map(|left| i64::from(*left)).sum();
        let own = i64::from(counters[own]);
        Activity {
            own,
            others: all - own,
            waits: self.graph.anchors.get(key).map_or(0, |anchor| anchor.waits),
        }
    }

    /// Whether the program has stayed in the loop that was compiled since [`Engine::begin`], and it is short enough to be made
    /// of several copies ([`Draft::compile_unrolled`]).
    pub fn stays_in(&self, job: &Job, draft: &Draft, compilation: &Compilation) -> Stays {
        let Origin::Root(key) = job.origin else {
            return Stays::No;
        };
        if !compilation.is_short_loop() {
            return Stays::No;
        }
        let now = self.activity(&key);
        let set = i64::from(NEVER) * i64::from(now.waits - draft.activity.waits);
        let own = draft.activity.own.saturating_add(set).saturating_sub(now.own);
        let others = draft.activity.others.saturating_sub(now.others);
        // Another one that ran out was set anew, and went up.
        if others < 0 || own < others.saturating_mul(OFTEN) {
            Stays::No
        } else if own < TURNS * i64::from(LOOP_WEIGHT) {
            Stays::Unknown
        } else {
            Stays::Yes
        }
    }
}
