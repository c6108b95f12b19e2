//! Which guards against overlap are worth what they cost.
//!
//! In a trial everything is guarded that can be, and it is noted which guards a use of what is known relied on: those that
//! kept it known since it was loaded or stored. A use saves a load, and as a rule what was computed and guarded from it; when
//! any of its guards is missing, it is lost. So its gain is shared among its guards, as they cost, and those that do not earn
//! their cost are taken away, with the uses that relied on them, until all that are left do.

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::Root;

/// What a guard compares: two objects, by the addresses that their roots had when they were recorded, or an object and a
/// limit.
pub(super) type Pair = (u64, u64);

/// What the guards between two objects compare: their ranges, or one or both with a limit.
pub(super) type Pairs = SmallVec<[Pair; 2]>;

/// What a use is worth, in instructions: the load or store, and part of what is computed and guarded from it, for the registers that
/// hold what is known are not free either. This leaves the fewest instructions in loops and straight traces, of Lua and CPython; half
/// or twice as much costs some 2 %.
const GAIN: f64 = 3.5;

/// Most notes on uses. What comes later counts for nothing.
const MOST: usize = 1 << 18;

/// Which guards are worth it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    /// Pairs that are guarded, or need no guard where it would cost.
    pub(super) useful: FxHashSet<Pair>,
    /// Pairs that had better not be.
    pub(super) useless: FxHashSet<Pair>,
}

/// What guards cost, and are good for.
#[derive(Debug, Clone, Default)]
pub(super) struct Worth {
    /// The pairs by number.
    pairs: Vec<Pair>,
    numbers: FxHashMap<Pair, u32>,
    /// By root: the pairs that have kept something known there, with the time when each did last.
    kept: FxHashMap<Root, Vec<(u32, usize)>>,
    /// The same: the pairs that have kept loads from reading what was stored there.
    unread: FxHashMap<Root, Vec<(u32, usize)>>,
    /// How often something was kept.
    now: usize,
    /// The pairs that each use relied on, one after the other, and where those of each end.
    relied_on: Vec<u32>,
    ends: Vec<u32>,
    /// By pair: instructions, in the loop if there is one.
    costs: FxHashMap<u32, f64>,
    /// What each guard, by its operation, costs whom.
    guards: FxHashMap<usize, (u32, f64)>,
}

impl Worth {
    fn number(&mut self, pair: Pair) -> u32 {
        *self.numbers.entry(pair).or_insert_with(|| {
            self.pairs.push(pair);
            self.pairs.len() as u32 - 1
        })
    }

    /// The time.
    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// What is known at `root` was kept, since the pair does not overlap.
    pub(super) fn kept(&mut self, pair: Pair, root: Root) {
        let number = self.number(pair);
        self.now += 1;
        note(self.kept.entry(root).or_default(), number, self.now);
    }

    /// What was stored at `root` is not read by a load, since the pair does not overlap.
    pub(super) fn unread(&mut self, pair: Pair, root: Root) {
        let number = self.number(pair);
        self.now += 1;
        note(self.unread.entry(root).or_default(), number, self.now);
    }

    /// A guard was put in, as operation `at`.
    pub(super) fn guarded(&mut self, pair: Pair, instructions: f64, at: usize) {
        let number = self.number(pair);
        *self.costs.entry(number).or_default() += instructions;
        self.guards.insert(at, (number, instructions));
    }

    /// A copy of operation `at` was made in the loop. What a guard in the first iteration has shown is not asked again there,
    /// for its copy has shown it; unless it stays the same, when there is no copy.
    pub(super) fn copied(&mut self, at: usize) {
        if let Some((pair, instructions)) = self.guards.get(&at) {
            *self.costs.entry(*pair).or_default() += instructions;
        }
    }

    /// What has been known at `root` since `born` was of use.
    pub(super) fn used(&mut self, root: &Root, born: usize) {
        let pairs = self.since(root, born);
        self.relied_on(pairs);
    }

    /// What was stored at `root` when it was `born` is overwritten, and nothing has read it: only exits need to store it.
    pub(super) fn overwritten(&mut self, root: &Root, born: usize) {
        let mut pairs = self.since(root, born);
        let unread = self.unread.get(root).into_iter().flatten();
        pairs.extend(unread.filter(|(_, last)| *last > born).map(|(pair, _)| *pair));
        pairs.sort_unstable();
        pairs.dedup();
        self.relied_on(pairs);
    }

    fn since(&self, root: &Root, born: usize) -> Vec<u32> {
        let kept = self.kept.get(root).into_iter().flatten();
        kept.filter(|(_, last)| *last > born).map(|(pair, _)| *pair).collect()
    }

    fn relied_on(&mut self, pairs: Vec<u32>) {
        if !pairs.is_empty() && self.relied_on.len() < MOST {
            self.relied_on.extend(pairs);
            self.ends.push(self.relied_on.len() as u32);
        }
    }

    /// From here on it is the loop that costs. What is of use in the first iteration is so in every one: the loop is made
    /// from what is left of the first.
    pub(super) fn enter_loop(&mut self) {
        self.costs.clear();
    }

    /// The pairs that are worth their guards, and those that are not.
    pub(super) fn verdict(&self) -> Verdict {
        let costs: Vec<f64> = (0..self.pairs.len() as u32)
            .map(|pair| self.costs.get(&pair).copied().unwrap_or(0.0))
            .collect();
        let mut alive = vec![true; self.pairs.len()];
        loop {
            let mut gains = vec![0.0; self.pairs.len()];
            let mut from = 0;
            for end in &self.ends {
                let use_of = &self.relied_on[from..*end as usize];
                from = *end as usize;
                if !use_of.iter().all(|pair| alive[*pair as usize]) {
                    continue;
                }
                let all: f64 = use_of.iter().map(|pair| costs[*pair as usize]).sum();
                for pair in use_of.iter().map(|pair| *pair as usize) {
                    // What costs nothing need only be of some use.
                    let share = if costs[pair] == 0.0 { 1.0 } else { costs[pair] / all };
                    gains[pair] += GAIN * share;
                }
            }
            let mut changed = false;
            for pair in 0..alive.len() {
                if alive[pair] && (gains[pair] < costs[pair] || gains[pair] == 0.0) {
                    alive[pair] = false;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        let mut verdict = Verdict::default();
        for (pair, alive) in self.pairs.iter().zip(alive) {
            if alive {
                verdict.useful.insert(*pair);
            } else {
                verdict.useless.insert(*pair);
            }
        }
        verdict
    }
}

fn note(pairs: &mut Vec<(u32, usize)>, number: u32, now: usize) {
    match pairs.iter_mut().find(|(other, _)| *other == number) {
        Some((_, last)) => *last = now,
        None => pairs.push((number, now)),
    }
}

#[cfg(test)]
mod tests {
    use redmagic_ir::Value;

    use super::*;

    fn root(number: usize) -> Root {
        Root::plain(Value::op(number))
    }

    #[test]
    fn what_earns_its_cost_stays() {
        let mut worth = Worth::default();
        worth.guarded((1, 2), 3.5 * GAIN, 0);
        worth.kept((1, 2), root(0));
        for _ in 0..3 {
            worth.used(&root(0), 0);
        }
        assert!(worth.verdict().useless.contains(&(1, 2)));
        worth.used(&root(0), 0);
        assert!(worth.verdict().useless.is_empty());
    }

    #[test]
    fn what_is_known_only_since_relies_on_nothing() {
        let mut worth = Worth::default();
        worth.guarded((1, 2), 1.5 * GAIN, 0);
        worth.kept((1, 2), root(0));
        let born = worth.now();
        for _ in 0..9 {
            worth.used(&root(0), born);
        }
        assert!(worth.verdict().useless.contains(&(1, 2)));
        // Until it is kept again.
        worth.kept((1, 2), root(0));
        worth.used(&root(0), born);
        worth.used(&root(0), born);
        assert!(worth.verdict().useless.is_empty());
    }

    #[test]
    fn guards_share_the_gain_and_fall_together() {
        let mut worth = Worth::default();
        for pair in [(1, 2), (1, 3)] {
            worth.guarded(pair, 1.5 * GAIN, 0);
            worth.kept(pair, root(0));
        }
        // Two uses would pay for one of them, not for both.
        worth.used(&root(0), 0);
        worth.used(&root(0), 0);
        assert_eq!(worth.verdict().useless.len(), 2);
        worth.used(&root(0), 0);
        assert!(worth.verdict().useless.is_empty());
        // One that another root would pay for cannot be had without one that nothing else pays for.
        worth.guarded((1, 4), 100.0, 1);
        worth.kept((1, 4), root(1));
        worth.kept((1, 2), root(1));
        for _ in 0..20 {
            worth.used(&root(1), 0);
        }
        assert!(worth.verdict().useless.contains(&(1, 4)));
        assert!(!worth.verdict().useless.contains(&(1, 2)));
    }

    #[test]
    fn a_store_that_only_exits_need_relies_on_readers_too() {
        let mut worth = Worth::default();
        worth.guarded((1, 2), 1.5 * GAIN, 0);
        worth.unread((1, 2), root(0));
        // A load of what is known does not.
        for _ in 0..9 {
            worth.used(&root(0), 0);
        }
        assert!(worth.verdict().useless.contains(&(1, 2)));
        worth.overwritten(&root(0), 0);
        worth.overwritten(&root(0), 0);
        assert!(worth.verdict().useless.is_empty());
    }

    #[test]
    fn in_a_loop_what_stands_before_it_is_free() {
        let mut worth = Worth::default();
        worth.guarded((1, 2), 3.5 * GAIN, 0);
        worth.kept((1, 2), root(0));
        worth.used(&root(0), 0);
        worth.enter_loop();
        assert!(worth.verdict().useless.is_empty());
        // But what of it is copied is not.
        worth.copied(0);
        assert!(worth.verdict().useless.contains(&(1, 2)));
        // Nor what is of no use at all.
        worth.kept((1, 5), root(0));
        assert!(worth.verdict().useless.contains(&(1, 5)));
    }
}
