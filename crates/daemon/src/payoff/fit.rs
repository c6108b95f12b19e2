//! One number from the phases of a measurement: how many times as fast a program is with its traces.
//!
//! Programs do different things in different phases, and a turn of one loop takes longer than one of another. So it is taken
//! that passing an anchor costs the same each time, and that traces change all costs by the same factor:
//!
//! ```text
//!   seconds of a phase = sum over anchors (times passed * cost) / (with traces: gain)
//! ```
//! Costs and gain are found by multiplicative updates, which keep them positive (Lee and Seung, Algorithms for Non-negative
//! Matrix Factorization, 2000). They begin with equal costs and stop early, so that what the phases do not tell apart stays
//! alike.

use std::collections::HashMap;

/// One phase.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Whether traces were used.
    pub(super) with: bool,
    /// Processor time.
    pub(super) seconds: f64,
    /// What was passed: anchors, and how much of them.
    pub(super) passed: Vec<(usize, u32)>,
    /// How much of loops whose turns are not counted was passed.
    pub(super) short: u64,
}

/// The answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    /// How many times as fast the program is with traces.
    pub(super) gain: f64,
    /// Standard error of its logarithm.
    pub(super) error: f64,
}

/// Times that everything is updated.
const ROUNDS: usize = 60;

/// A phase with its anchors numbered.
struct Row {
    with: bool,
    seconds: f64,
    passed: Vec<(usize, f64)>,
}

impl Row {
    /// How long it should have taken.
    fn predicted(&self, costs: &[f64], gain: f64) -> f64 {
        let all: f64 = self.passed.iter().map(|(anchor, passed)| costs[*anchor] * passed).sum();
        all.max(f64::MIN_POSITIVE) / if self.with { gain } else { 1.0 }
    }

    /// Logarithm of how many times as long it has taken.
    fn off(&self, costs: &[f64], gain: f64) -> f64 {
        (self.seconds / self.predicted(costs, gain)).ln()
    }
}

/// Fits the phases, of both kinds.
pub(super) fn fit(samples: &[Sample]) -> Fit {
    let mut numbers: HashMap<usize, usize> = HashMap::new();
    let mut number = |anchor: usize| {
        let next = numbers.len();
        *numbers.entry(anchor).or_insert(next)
    };
    let rows: Vec<Row> = samples
        .iter()
        .map(|sample| Row {
            with: sample.with,
            seconds: sample.seconds,
            passed: sample
                .passed
                .iter()
                .map(|(anchor, passed)| (number(*anchor), f64::from(*passed)))
                .collect(),
        })
        .collect();
    let mut costs = vec![1.0; numbers.len()];
    let mut gain = 1.0;
    for _ in 0..ROUNDS {
        // By how much each phase took longer than predicted goes to what was passed in it. Each phase counts the same.
        let mut shares = vec![(0.0, 0.0); costs.len()];
        for row in &rows {
            let off = row.seconds / row.predicted(&costs, gain);
            for (anchor, passed) in &row.passed {
                let part = passed * costs[*anchor] / row.seconds;
                shares[*anchor].0 += part * off;
                shares[*anchor].1 += part;
            }
        }
        for (cost, (up, down)) in costs.iter_mut().zip(shares) {
            *cost *= up / down;
        }
        gain *= (mean(&off(&rows, &costs, gain, false)) - mean(&off(&rows, &costs, gain, true))).exp();
    }
    // What was fitted to the phases cannot be told from noise any more.
    let fitted = costs.len().min(rows.len() / 2);
    let freedom = rows.len() as f64 / (rows.len() - fitted) as f64;
    let variance = |with: bool| {
        let off = off(&rows, &costs, gain, with);
        let (mean, n) = (mean(&off), off.len() as f64);
        off.iter().map(|off| (off - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0) / n * freedom
    };
    Fit {
        gain,
        error: (variance(true) + variance(false)).sqrt(),
    }
}

/// Of the phases of one kind.
fn off(rows: &[Row], costs: &[f64], gain: f64, with: bool) -> Vec<f64> {
    let rows = rows.iter().filter(|row| row.with == with);
    rows.map(|row| row.off(costs, gain)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A program with three loops whose turns cost 20, 100 and 700 ns, of which each phase makes another mix.
    pub(in super::super) fn samples(phases: usize, gain: f64, noise: f64) -> Vec<Sample> {
        let mut seed = 7_u64;
        let mut random = move || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f64 / (1_u64 << 24) as f64
        };
        let sample = |at: usize| {
            let with = matches!(at % 4, 0 | 3);
            let parts = [random(), random(), random()];
            let all: f64 = parts.iter().sum();
            let speed = if with { gain } else { 1.0 };
            let turns = |part: f64, cost: f64| (part / all * 3e-3 / cost * speed) as u32;
            Sample {
                with,
                seconds: 3e-3 * (1.0 + noise * (random() - 0.5)),
                passed: vec![
                    (3, turns(parts[0], 2e-8)),
                    (5, turns(parts[1], 1e-7)),
                    (9, turns(parts[2], 7e-7)),
                ],
                short: 0,
            }
        };
        (0..phases).map(sample).collect()
    }

    #[test]
    fn the_gain_is_found_whatever_the_phases_are_made_of() {
        for gain in [0.5, 0.8, 0.95, 1.0, 1.2, 5.0] {
            let fit = fit(&samples(48, gain, 0.0));
            assert!((fit.gain / gain).ln().abs() < 0.02, "{gain}: {fit:?}");
            assert!(fit.error < 0.02, "{gain}: {fit:?}");
        }
    }

    #[test]
    fn noise_is_in_the_error() {
        let quiet = fit(&samples(48, 0.9, 0.02));
        let noisy = fit(&samples(48, 0.9, 0.4));
        assert!(noisy.error > 2.0 * quiet.error, "{quiet:?} {noisy:?}");
        assert!((noisy.gain / 0.9).ln().abs() < 3.0 * noisy.error, "{noisy:?}");
    }

    #[test]
    fn nothing_says_nothing() {
        assert_eq!(fit(&[]).gain, 1.0);
        let empty = |with| Sample {
            with,
            seconds: 1.0,
            passed: Vec::new(),
            short: 0,
        };
        assert_eq!(fit(&[empty(true), empty(false)]).gain, 1.0);
    }
}
