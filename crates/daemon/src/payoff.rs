//! Measures now and then whether a program's traces pay, and lets them rest while they do not.
//!
//! A measurement is a number of short phases with the traces and without, in the order with, without, without, with, and so
//! on, so that a program that gets slower or faster by itself favours neither. In each, the anchors are counted that the
//! program passes ([`redmagic_engine::Progress`]); [`fit`] makes one number of it. The measurement ends as soon as the answer is clear.
//! While traces rest, the channel to the program is closed, so that it runs as if there were no session. Each measurement is
//! twice as far away as the one before, and four times after traces that cost a good deal; traces that have rested are used again for a
//! little while before, so that what was missing can be made.
//!
//! Where nothing that got hot can be traced there is nothing to measure, and the channel is closed for as long and opened again for
//! a little while in the same way: anchors that find no trace would only count.

mod fit;

use std::time::{Duration, Instant};

use nix::time::ClockId;
use redmagic_engine::{Mode, Params, Progress};
use serde::{Deserialize, Serialize};

use fit::Sample;

use crate::registry::RegistryReader;
use crate::session::{Session, lock};

/// Length of one phase.
const PHASE: Duration = Duration::from_millis(3);
/// Most and fewest phases; multiples of 4.
const PHASES: usize = 48;
const FEWEST: usize = 8;
/// For how long traces that have rested are used, and new ones made, before they are measured again.
const LEARN: Duration = Duration::from_millis(100);
/// How far a counter must come down in a phase for it to tell anything.
const FEW: u32 = 100;
/// How many times its error the answer must be away from the limit.
const SURE: f64 = 2.5;
/// The same in the end, when there is no more time to find out.
const LIKELY: f64 = 1.0;
/// The error of an answer that is given before all phases are over.
const EXACT: f64 = 0.08;
/// The largest error of an answer that lets traces rest.
const ROUGH: f64 = 0.15;
/// A program uses loops whose turns are not counted if they are entered once in so many anchors passed.
const SHORT: u64 = 64;
/// Gain below which looking again soon costs more than it may find: the program is this slow for all of [`LEARN`] and a measurement.
const HOPELESS: f64 = 0.97;
/// How many measurements in a row may come to nothing before the next is further away.
const PATIENCE: u32 = 2;
/// How often to look whether a measurement is due, or can begin.
const SOON: Duration = Duration::from_millis(2);
const LATER: Duration = Duration::from_millis(20);

/// What a measurement came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pays,
    DoesNot,
    Unclear,
}

/// One phase.
#[derive(Debug)]
struct Phase {
    began: Instant,
    progress: Progress,
}

/// What follows the measurements of one session.
#[derive(Debug)]
pub struct Payoff {
    clock: Option<ClockId>,
    /// Processor time from the first trace to the first measurement; zero: never.
    first: Duration,
    /// Processor time at which the next is due; `None` until there is a trace, or will be none.
    due: Option<Duration>,
    /// Processor time between this measurement and the next.
    again: Duration,
    /// When the measurement that is on began, and the processor time then.
    began: (Instant, Duration),
    phase: Option<Phase>,
    /// The phases so far.
    samples: Vec<Sample>,
    resting: bool,
    /// Measurements in a row that came to nothing.
    unclear: u32,
    /// How many times as fast a program must be with its traces.
    break_even: f64,
}

/// What was measured last, for people.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Times that something was measured.
    pub times: u64,
    /// How many times as fast the program was with its traces, and the standard error of its logarithm.
    pub gain: f64,
    /// As above.
    pub error: f64,
    /// Whether traces rest since.
    pub resting: bool,
}

impl Payoff {
    /// For a process.
    pub fn new(pid: i32, params: &Params) -> Payoff {
        let first = Duration::from_millis(params.payoff);
        let clock = nix::time::clock_getcpuclockid(nix::unistd::Pid::from_raw(pid)).ok();
        Payoff {
            clock: clock.filter(|_| !first.is_zero()),
            first,
            due: None,
            again: first,
            began: (Instant::now(), Duration::ZERO),
            phase: None,
            samples: Vec::new(),
            resting: false,
            unclear: 0,
            break_even: params.breakeven as f64 / 100.0,
        }
    }

    /// Whether traces rest: then the channel is closed, and what was declared is not followed.
    pub fn is_resting(&self) -> bool {
        self.resting
    }

    /// Goes on. Gives how long nothing is to be done.
    pub fn look(&mut self, session: &Session, registry: &mut RegistryReader) -> Duration {
        let Some(now) = self.clock.and_then(|clock| nix::time::clock_gettime(clock).ok()) else {
            return Duration::MAX;
        };
        let now = Duration::from(now);
        match self.phase.take() {
            None => self.wait(session, registry, now),
            Some(phase) if phase.began.elapsed() < PHASE => {
                let left = PHASE.saturating_sub(phase.began.elapsed());
                self.phase = Some(phase);
                left
            }
            Some(phase) => self.end_phase(session, now, phase),
        }
    }

    fn wait(&mut self, session: &Session, registry: &mut RegistryReader, now: Duration) -> Duration {
        let Some(due) = self.due else {
            let engine = lock(&session.engine);
            if engine.has_traces() || engine.is_untraceable() {
                self.due = Some(now + self.first);
            }
            return LATER;
        };
        if now < due {
            return LATER;
        }
        // Nothing is recorded meanwhile.
        if !session.become_busy() {
            return SOON;
        }
        if self.resting {
            self.resting = false;
            session.wake(registry);
            session.no_longer_busy();
            self.due = Some(now + LEARN.min(self.again / 4));
            return LATER;
        }
        if lock(&session.engine).is_untraceable() {
            tracing::info!(pid = session.pid, at = ?now, "nothing that is hot can be traced");
            self.resting = true;
            return self.go_on(session, now, 2);
        }
        self.samples.clear();
        self.began = (Instant::now(), now);
        self.begin_phase(session)
    }

    /// Begins the next phase: with traces, without, without, with.
    fn begin_phase(&mut self, session: &Session) -> Duration {
        let mut engine = lock(&session.engine);
        engine.set_mode(if self.is_with() { Mode::Counting } else { Mode::Resting });
        self.phase = Some(Phase {
            progress: engine.progress(),
            began: Instant::now(),
        });
        PHASE
    }

    fn end_phase(&mut self, session: &Session, now: Duration, phase: Phase) -> Duration {
        let passed = lock(&session.engine).passed_since(&phase.progress);
        let took = phase.began.elapsed();
        let few = passed.anchors.iter().all(|(_, down)| *down < FEW);
        if few && took < PHASE * 4 {
            self.phase = Some(phase);
            return PHASE;
        }
        if few {
            return self.end(session, now, Verdict::Unclear);
        }
        self.samples.push(Sample {
            with: self.is_with(),
            seconds: took.as_secs_f64(),
            passed: passed.anchors,
            short: passed.short,
        });
        match verdict(&self.samples, self.break_even) {
            Some(_) if !self.was_busy(now) => self.end(session, now, Verdict::Unclear),
            Some(verdict) => self.end(session, now, verdict),
            None => self.begin_phase(session),
        }
    }

    /// Whether the next phase, or the one that is on, has the traces.
    fn is_with(&self) -> bool {
        matches!(self.samples.len() % 4, 0 | 3)
    }

    /// Whether the program did not wait most of the time: phases are timed by the clock, since the processor time of another
    /// process is brought up to date at ticks only.
    fn was_busy(&self, now: Duration) -> bool {
        let (began, cpu) = self.began;
        now.saturating_sub(cpu) > began.elapsed().mul_f64(0.8)
    }

    fn end(&mut self, session: &Session, now: Duration, verdict: Verdict) -> Duration {
        self.resting = verdict == Verdict::DoesNot;
        let (phases, fit) = (self.samples.len(), fit::fit(&self.samples));
        tracing::info!(pid = session.pid, ?verdict, phases, gain = fit.gain, error = fit.error, at = ?now, "measured");
        if verdict != Verdict::Unclear {
            let mut measured = lock(&session.measured);
            *measured = Some(Measured {
                times: measured.map_or(0, |measured| measured.times) + 1,
                gain: fit.gain,
                error: fit.error,
                resting: self.resting,
            });
        }
        // A program that could not be measured (it did not run, or all that it passed was within traces) is looked at again soon.
        if verdict == Verdict::Unclear && self.unclear < PATIENCE {
            self.unclear += 1;
            return self.go_on(session, now, 1);
        }
        self.unclear = 0;
        self.go_on(session, now, further(verdict, fit.gain))
    }

    /// Until the next measurement, which is so many times as far away.
    fn go_on(&mut self, session: &Session, now: Duration, times: u32) -> Duration {
        if self.resting {
            session.rest();
        } else {
            lock(&session.engine).set_mode(Mode::Running);
        }
        session.no_longer_busy();
        self.again *= times;
        self.due = Some(now + self.again);
        LATER
    }
}

/// How many times as far away the next measurement is.
fn further(verdict: Verdict, gain: f64) -> u32 {
    if verdict == Verdict::DoesNot && gain < HOPELESS {
        4
    } else {
        2
    }
}

/// What the phases so far say, if that is clear.
fn verdict(samples: &[Sample], break_even: f64) -> Option<Verdict> {
    let phases = samples.len();
    if phases < FEWEST || !phases.is_multiple_of(4) {
        return None;
    }
    if uses_short_loops(samples) {
        return Some(Verdict::Unclear);
    }
    let fit = fit::fit(samples);
    let gain = (fit.gain / break_even).ln();
    let errors = gain.abs() / fit.error;
    let verdict = if gain < 0.0 { Verdict::DoesNot } else { Verdict::Pays };
    match phases {
        _ if errors > SURE && fit.error < EXACT => Some(verdict),
        // Traces that rest wrongly may cost far more than traces that run wrongly.
        PHASES.. if errors > LIKELY && fit.error < ROUGH => Some(verdict),
        PHASES.. => Some(Verdict::Pays),
        _ => None,
    }
}

/// Whether loops are entered a good deal whose turns are not counted.
fn uses_short_loops(samples: &[Sample]) -> bool {
    let with = samples.iter().filter(|sample| sample.with);
    let (mut short, mut all) = (0, 0);
    for sample in with {
        short += sample.short;
        all += sample.passed.iter().map(|(_, down)| u64::from(*down)).sum::<u64>();
    }
    short * SHORT > all
}

#[cfg(test)]
mod tests {
    use super::fit::tests::samples;
    use super::*;

    #[test]
    fn what_is_clear_is_said_early() {
        assert_eq!(verdict(&samples(8, 2.0, 0.05), 1.0), Some(Verdict::Pays));
        assert_eq!(verdict(&samples(8, 0.5, 0.05), 1.0), Some(Verdict::DoesNot));
        // The last phase without traces has no partner yet.
        assert_eq!(verdict(&samples(10, 2.0, 0.05), 1.0), None);
        assert_eq!(verdict(&samples(4, 2.0, 0.05), 1.0), None);
    }

    #[test]
    fn what_is_not_clear_is_said_in_the_end() {
        assert_eq!(verdict(&samples(8, 1.01, 0.3), 1.0), None);
        assert!(verdict(&samples(PHASES, 1.01, 0.3), 1.0).is_some());
    }

    #[test]
    fn nothing_rests_on_a_rough_answer() {
        let rough = samples(PHASES, 0.8, 1.99);
        assert!(fit::fit(&rough).error > ROUGH);
        assert_eq!(verdict(&rough, 100.0), Some(Verdict::Pays));
        assert_eq!(verdict(&samples(PHASES, 0.8, 0.05), 100.0), Some(Verdict::DoesNot));
    }

    #[test]
    fn nothing_is_said_of_loops_that_are_not_counted() {
        let mut with_short = samples(PHASES, 0.5, 0.05);
        for sample in with_short.iter_mut().filter(|sample| sample.with) {
            sample.short = sample.passed.iter().map(|(_, down)| u64::from(*down)).sum::<u64>() / 10;
        }
        assert_eq!(verdict(&with_short, 1.0), Some(Verdict::Unclear));
    }

    #[test]
    fn what_costs_a_good_deal_is_tried_again_later() {
        assert_eq!(further(Verdict::DoesNot, 0.8), 4);
        assert_eq!(further(Verdict::DoesNot, 1.01), 2);
        assert_eq!(further(Verdict::Pays, 0.8), 2);
        assert_eq!(further(Verdict::Unclear, 0.8), 2);
    }

    #[test]
    fn the_limit_is_what_the_user_says() {
        assert_eq!(verdict(&samples(16, 1.5, 0.05), 2.0), Some(Verdict::DoesNot));
        assert_eq!(verdict(&samples(16, 0.7, 0.05), 0.5), Some(Verdict::Pays));
    }
}
