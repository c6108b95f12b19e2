//! Compares emitted code with the evaluator on random traces until stopped. `scripts/fuzz emit` runs it, and
//! `scripts/fuzz graft` with `--graft`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use redmagic_filetests::emit::{campaign, graft};

/// Random traces, compiled and run by the processor, and evaluated. Mismatches are printed with trace and code. Exits
/// with 1 if there were any.
#[derive(Parser)]
struct Arguments {
    /// Stop after this many cases.
    #[arg(long)]
    cases: Option<u64>,
    /// The seed of the first case; a random one if not given. Printed in any case.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Traces, and side traces that go on where they are left.
    #[arg(long)]
    graft: bool,
    /// Stop after this many mismatches.
    #[arg(long, default_value_t = 10)]
    mismatches: u64,
}

/// Cases that one process runs.
const BATCH: u64 = 2000;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let first = match arguments.seed {
        Some(seed) => seed,
        None => fresh_seed()?,
    };
    eprintln!("seed {first}");
    let start = Instant::now();
    let (mut done, mut compared, mut mismatches) = (0u64, 0u64, 0u64);
    let mut told = Instant::now();
    let more = |done: u64, mismatches: u64| {
        arguments.cases.is_none_or(|n| done < n)
            && arguments
                .seconds
                .is_none_or(|n| start.elapsed() < Duration::from_secs(n))
            && mismatches < arguments.mismatches
    };
    while more(done, mismatches) {
        let count = arguments.cases.map_or(BATCH, |n| BATCH.min(n - done));
        let run = if arguments.graft { graft::campaign } else { campaign };
        let report = run(first + done, count).context("starting the process that runs the cases")?;
        done += count;
        compared += report.compared;
        mismatches += report.count;
        print!("{}", report.mismatches);
        if let Some((seed, status)) = report.crashed {
            println!("; seed {seed}: the process ended with wait status {status:#x}");
            mismatches += 1;
        }
        if told.elapsed() > Duration::from_secs(10) || !more(done, mismatches) {
            told = Instant::now();
            let rate = done as f64 / start.elapsed().as_secs_f64();
            eprintln!(
                "{done} cases, {compared} compared, {mismatches} mismatches, {rate:.0}/s; last: {}",
                report.summary
            );
        }
    }
    std::process::exit(i32::from(mismatches != 0));
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
