//! Loops of a loop's side traces.
//!
//! A side trace ends at its root's anchor, and goes on in the root from there. When the branch that it was made for goes the
//! same way for many turns, each turn goes through the root's first one, which is made before the loop and knows little,
//! leaves it at the same exit, and comes to the side trace anew: nothing is carried from turn to turn.
//!
//! So the end of a side trace that leaves its root before the loop's head is an exit as well, a *re-entry*: it is counted, and when it is
//! hot, the turn that begins there is recorded, from behind the anchor to the anchor, and compiled as a loop of its own, which
//! the re-entry leads to from then on. (An optimising compiler would call this unswitching; in LuaJIT such a side trace stays a detour of its
//! root.) Where the branch goes the other way, the new loop is left like any other, and what is recorded there leads to the root.
//!
//! Where it goes now this way and now that, two loops are no better than one, as it is their first turns that are executed. So the
//! turn that was recorded is looked at three times: when it goes the side trace's way each time, and there is no loop for that way, there is
//! one from then on.

use redmagic_ir::End;
use redmagic_proto::ApiFn;
use redmagic_record::recording::Recording;

use super::waiting::Who;
use super::{Engine, Job};
use crate::graph::{Link, Origin, Trace, TraceId, path};

/// Most loops of one root's side traces.
const MOST: usize = 4;

/// Turns that must go the same way, one after the other of those that are looked at. (With three, one branch in eight that is taken every other
/// time gets a loop that it does not need.)
const ALIKE: u32 = 3;

/// Whether turns go the same way as a side trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GoesOn {
    /// They do, or it is not asked.
    Surely,
    /// The last one did.
    Perhaps,
    /// The last one did not.
    No,
}

impl Engine {
    /// Where the original code goes on behind the anchor that a side trace leads to, if its end is to be a re-entry.
    pub(super) fn reentry(&self, job: &Job, link: Link, recording: &Recording) -> Option<u64> {
        let Origin::Side { exit, parent } = job.origin else {
            return None;
        };
        let comes_round = link == Link::Anchor(job.root) && job.api == ApiFn::BackwardsBranch && !job.reenters;
        if !comes_round || self.params.optimise == 0 {
            return None;
        }
        let turn = self.before_loop(exit)? + recording.steps.len();
        let root = self.graph.traces[parent as usize].root;
        let wanted = turn as u64 <= self.params.maxpeel && self.loops_of(root).count() <= MOST;
        wanted.then_some(job.root.return_address)
    }

    /// Whether the turn that was recorded from a re-entry goes the way of the side trace that ends there, and others did before.
    pub(super) fn goes_on(&mut self, job: &Job, recording: &Recording) -> GoesOn {
        let Origin::Side { exit, parent } = job.origin else {
            return GoesOn::Surely;
        };
        if !job.reenters {
            return GoesOn::Surely;
        }
        let side = &self.graph.traces[parent as usize];
        let rest = recording.steps.len().checked_sub(side.instructions);
        let by_side = rest.is_some_and(|from| path(&recording.steps[from..]) == side.path);
        let turn = path(&recording.steps);
        let has_loop = self.loops_of(side.root).any(|other| other.path == turn);
        let state = &mut self.graph.exits[exit as usize];
        let before = if state.alike.1 == turn { state.alike.0 } else { 0 };
        state.alike = if by_side && !has_loop {
            (before + 1, turn)
        } else {
            (0, 0)
        };
        match state.alike.0 {
            0 => GoesOn::No,
            ALIKE.. => GoesOn::Surely,
            _ => {
                self.wait_for_turn(Who::Exit(exit));
                GoesOn::Perhaps
            }
        }
    }

    /// About how many instructions of a turn lie before an exit, if that is taken before the head of a loop is reached.
    fn before_loop(&self, exit: u32) -> Option<usize> {
        let exit = &self.graph.exits[exit as usize];
        let trace = &self.graph.traces[exit.trace as usize];
        let at = exit.handover.as_ref()?.at;
        let ir = &trace.parent.as_ref()?.trace.trace;
        let (before, whole) = match (&ir.end, trace.origin) {
            (End::Loop { .. }, _) => (0, ir.loop_head()?),
            (_, Origin::Side { exit, .. }) => (self.before_loop(exit)?, ir.ops.len()),
            _ => return None,
        };
        (at < whole).then(|| before + trace.instructions * at / whole)
    }

    /// A root, and the loops of its side traces.
    fn loops_of(&self, root: TraceId) -> impl Iterator<Item = &Trace> {
        let begins_at_anchor = |trace: &Trace| match trace.origin {
            Origin::Root(_) => true,
            Origin::Side { exit, .. } => self.graph.exits[exit as usize].is_reentry(),
        };
        self.graph
            .live()
            .filter(move |trace| trace.root == root && begins_at_anchor(trace))
    }
}
