//! Who waits for a turn to be recorded.
//!
//! One thing is recorded and compiled at a time, and recording has no more than its share of the program's time. Whoever is
//! hot meanwhile is put on a list, with a counter that will not run out: it counts how often they are passed. When there is
//! time, the one that has been passed most since, for its threshold, is made to ask again: there are few questions more than recordings, and
//! nobody is put off for longer than they must be.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redmagic_proto::entries::hash;

use super::payoff::PLAUSIBLE;
use super::{Engine, NEVER};
use crate::graph::{AnchorKey, AnchorState};

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Anchor(AnchorKey),
    Exit(u32),
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    who: Who,
    since: Instant,
    /// How often it was made to ask.
    called: u32,
}

/// How soon it is looked again whether there is time, while the recorder is busy.
const AGAIN: Duration = Duration::from_millis(5);

/// After somebody was made to ask: that is when they are passed next.
const ASKED: Duration = Duration::from_millis(1);

/// For how long after somebody has come it is looked again soon.
const FRESH: Duration = Duration::from_millis(10);

/// Who is not passed now may be later, when nobody else asks.
const SELDOM: Duration = Duration::from_millis(50);

/// How often it is tried to make somebody ask: others may share their counter.
const CALLS: u32 = 32;

impl Engine {
    /// Puts somebody on the list, whose counter has run out.
    pub(super) fn wait_for_turn(&mut self, who: Who) {
        if let Who::Anchor(key) = who
            && let Some(anchor) = self.graph.anchors.get_mut(&key)
        {
            anchor.waits += 1;
        }
        self.set_counter(who, NEVER);
        self.wait_no_more(who);
        self.waiting.push(Waiting {
            who,
            since: Instant::now(),
            called: 0,
        });
    }

    /// Takes somebody off the list, who is recorded now or has failed: its counter says when it asks again.
    pub(super) fn wait_no_more(&mut self, who: Who) {
        self.waiting.retain(|waiting| waiting.who != who);
    }

    /// Whether an anchor waits for its turn.
    pub fn anchor_waits(&self, key: AnchorKey) -> bool {
        self.waiting.iter().any(|waiting| waiting.who == Who::Anchor(key))
    }

    /// Whether an exit waits for its turn.
    pub fn exit_waits(&self, number: u32) -> bool {
        self.waiting.iter().any(|waiting| waiting.who == Who::Exit(number))
    }

    /// Makes the hottest of those who wait ask again, if there is time. `busy`: a recording or compilation is on. Gives the
    /// time after which to look again.
    pub fn give_turn(&mut self, busy: bool) -> Duration {
        let again = self.call(busy);
        if self.set_again() { again.min(ASKED) } else { again }
    }

    /// A thread counts down without a lock: it may have read a counter before it was set to less, and written it after. Sets those anew
    /// that are more than they should be; false when there is none left.
    fn set_again(&mut self) -> bool {
        let mut lowered = std::mem::take(&mut self.lowered);
        lowered.retain(|number| {
            let armed = self.graph.exits[*number as usize].armed;
            let lost = self.exit_counter(*number).load(Ordering::Relaxed) > armed;
            if lost {
                self.exit_counter(*number).store(armed, Ordering::Relaxed);
            }
            lost
        });
        self.lowered = lowered;
        !self.lowered.is_empty()
    }

    fn call(&mut self, busy: bool) -> Duration {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting = waiting
            .into_iter()
            .filter(|waiting| self.may_ask(waiting.who))
            .collect();
        if self.waiting.is_empty() || self.full {
            return Duration::MAX;
        }
        if self.payoff.mode() != super::payoff::Mode::Running {
            return Duration::MAX;
        }
        if busy {
            return AGAIN;
        }
        if let Some(wait) = self.over_share() {
            return wait.max(AGAIN);
        }
        // A thread counts down without a lock, so that what is stored meanwhile may be lost.
        let lost = |waiting: &Waiting| (1..CALLS).contains(&waiting.called) && self.left(waiting.who) > 1;
        let heats = self
            .waiting
            .iter()
            .enumerate()
            .filter(|(_, waiting)| waiting.called == 0);
        let heats = heats.map(|(at, waiting)| (at, self.heat(waiting)));
        let hottest = heats
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .filter(|(_, heat)| *heat > 0.0);
        let lost = self.waiting.iter().position(lost);
        let Some(at) = lost.or(hottest.map(|(at, _)| at)) else {
            // Who has just come may not have been passed yet.
            let fresh = |waiting: &Waiting| waiting.called == 0 && waiting.since.elapsed() < FRESH;
            return if self.waiting.iter().any(fresh) {
                ASKED
            } else if self.waiting.iter().any(|waiting| waiting.called == 0) {
                SELDOM
            } else {
                Duration::MAX
            };
        };
        self.waiting[at].called += 1;
        let who = self.waiting[at].who;
        self.set_counter(who, 1);
        ASKED
    }

    fn set_counter(&mut self, who: Who, value: i32) {
        match who {
            Who::Anchor(key) => self.set_hotness(key.id, value),
            Who::Exit(number) => self.set_exit_counter(number, value),
        }
    }

    /// Where a counter stands. The words are the program's to write.
    fn left(&self, who: Who) -> i32 {
        match who {
            Who::Anchor(key) => self.hotness(hash(key.id)),
            Who::Exit(number) => self.exit_counter(number).load(Ordering::Relaxed),
        }
    }

    /// Whether there is anything to record.
    fn may_ask(&self, who: Who) -> bool {
        match who {
            Who::Anchor(key) => self
                .graph
                .anchors
                .get(&key)
                .is_some_and(|anchor| anchor.state == AnchorState::Cold),
            Who::Exit(number) => {
                let exit = &self.graph.exits[number as usize];
                exit.side.is_none() && !exit.silent && !self.graph.traces[exit.trace as usize].dropped
            }
        }
    }

    /// How often in a second somebody who waits would have become hot.
    fn heat(&self, waiting: &Waiting) -> f64 {
        let hot = match waiting.who {
            Who::Anchor(_) => self.hot_loop(0),
            Who::Exit(_) => self.hot_exit(0),
        };
        let passed = NEVER.saturating_sub(self.left(waiting.who));
        if passed > PLAUSIBLE {
            // When there is nobody else.
            return f64::MIN_POSITIVE;
        }
        f64::from(passed) / f64::from(hot) / waiting.since.elapsed().as_secs_f64().max(1e-6)
    }
}
