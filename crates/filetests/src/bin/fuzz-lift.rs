//! Compares the evaluator with the processor on random cases until stopped. `scripts/fuzz lift` runs it.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use redmagic_filetests::differential::Tester;
use redmagic_filetests::generate::{Codes, Generator};
use redmagic_filetests::native::{self, Checker};

/// Random instructions and states, executed by the processor and by the evaluator. Mismatches are printed as cases for
/// tests/filetests/cpu. Exits with 1 if there were any.
#[derive(Parser)]
struct Arguments {
    /// Stop after this many compared cases.
    #[arg(long)]
    cases: Option<u64>,
    /// The seed; a random one if not given. Printed in any case.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// One case in this many is a sequence of instructions.
    #[arg(long, default_value_t = 8)]
    sequences: u64,
    /// Stop after this many mismatches.
    #[arg(long, default_value_t = 50)]
    mismatches: u64,
    /// Check in place of it what native operations state to read and write.
    #[arg(long)]
    native: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => fresh_seed()?,
    };
    eprintln!("seed {seed}");
    if arguments.native {
        return fuzz_native(&arguments, seed);
    }
    let mut tester = Tester::new().context("starting the child that executes the cases")?;
    let mut generator = Generator::new(seed, Codes::modelled());
    let (start, mut told) = (Instant::now(), Instant::now());
    let mut mismatches = 0;
    loop {
        for mismatch in tester.batch(&mut generator, arguments.sequences)? {
            mismatches += 1;
            println!("{mismatch}");
            std::io::stdout().flush()?;
        }
        let done = arguments.cases.is_some_and(|n| tester.counts.compared >= n)
            || arguments
                .seconds
                .is_some_and(|n| start.elapsed() >= Duration::from_secs(n))
            || mismatches >= arguments.mismatches;
        if done || told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            let counts = tester.counts;
            eprintln!(
                "{} cases compared ({} of several instructions, {} that fault), {} left to the machine, {} dropped, \
                 {mismatches} mismatches, {:.0} cases/s",
                counts.compared,
                counts.sequences,
                counts.faulted,
                counts.native,
                counts.dropped,
                counts.compared as f64 / start.elapsed().as_secs_f64(),
            );
        }
        if done {
            break;
        }
    }
    std::process::exit(i32::from(mismatches != 0));
}

fn fuzz_native(arguments: &Arguments, seed: u64) -> Result<()> {
    let mut checker = Checker::new().context("starting the child that executes the cases")?;
    let mut generator = Generator::new(seed, native::codes());
    let start = Instant::now();
    let mut wrong = 0;
    let goes_on = |compared, wrong| {
        arguments.cases.is_none_or(|n| compared < n)
            && arguments
                .seconds
                .is_none_or(|n| start.elapsed() < Duration::from_secs(n))
            && wrong < arguments.mismatches
    };
    while goes_on(checker.compared, wrong) {
        for text in checker.batch(&mut generator)? {
            wrong += 1;
            println!("{text}");
        }
    }
    eprintln!(
        "{} cases of native operations compared ({} that fault), {wrong} wrong",
        checker.compared, checker.faulted
    );
    std::process::exit(i32::from(wrong != 0));
}

/// A seed from the system.
fn fresh_seed() -> Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .context("reading /dev/urandom")?;
    Ok(u64::from_le_bytes(bytes) >> 16)
}
