//! How long compiling takes, stage by stage.

use std::time::{Duration, Instant};

/// Time by stage, in the order in which the stages first came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stages(Vec<(&'static str, Duration)>);

impl Stages {
    /// Adds to a stage.
    pub fn add(&mut self, stage: &'static str, time: Duration) {
        match self.0.iter_mut().find(|(name, _)| *name == stage) {
            Some((_, sum)) => *sum += time,
            None => self.0.push((stage, time)),
        }
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Stages) {
        for (stage, time) in other.iter() {
            self.add(stage, time);
        }
    }

    /// The stages and their times.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        self.0.iter().copied()
    }

    /// All of it.
    pub fn total(&self) -> Duration {
        self.0.iter().map(|(_, time)| *time).sum()
    }
}

/// A stop watch: each lap belongs to the stage that has just ended, so that nothing in between is lost.
#[derive(Debug)]
pub struct Laps {
    stages: Stages,
    since: Instant,
}

impl Laps {
    /// Starts.
    #[allow(clippy::new_without_default)] // it has a side: time begins
    pub fn new() -> Laps {
        Laps {
            stages: Stages::default(),
            since: Instant::now(),
        }
    }

    /// The time since the last lap was this stage's.
    pub fn lap(&mut self, stage: &'static str) {
        let now = Instant::now();
        self.stages.add(stage, now - self.since);
        self.since = now;
    }

    /// The stages so far.
    pub fn stages(self) -> Stages {
        self.stages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_add_up_to_the_whole() {
        let started = Instant::now();
        let mut laps = Laps::new();
        std::thread::sleep(Duration::from_millis(2));
        laps.lap("one");
        laps.lap("two");
        std::thread::sleep(Duration::from_millis(2));
        laps.lap("one");
        let whole = started.elapsed();
        let stages = laps.stages();
        let names: Vec<_> = stages.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["one", "two"]);
        assert!(stages.total() >= Duration::from_millis(4) && stages.total() <= whole);
        let mut twice = stages.clone();
        twice.merge(&stages);
        assert_eq!(twice.total(), stages.total() * 2);
    }
}
