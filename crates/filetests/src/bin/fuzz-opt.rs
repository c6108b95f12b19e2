//! Random traces through the optimiser until stopped. `scripts/fuzz opt` runs it.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use redmagic_filetests::optfuzz::{self, Outcome};
use redmagic_filetests::random::Random;

/// Random lifted traces, optimised, and evaluated beside the lifted ones. Exits with 1 if one differed.
#[derive(Parser)]
struct Arguments {
    /// Stop after this many traces.
    #[arg(long)]
    cases: Option<u64>,
    /// The seed of the first; each further one has the next.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after this many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// The passes, in order.
    #[arg(long, value_delimiter = ',')]
    passes: Option<Vec<String>>,
    /// Print the traces of the first seed, before and after.
    #[arg(long)]
    print: bool,
}

/// Other states in which each trace is run.
const STATES: usize = 3;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let names = arguments
        .passes
        .unwrap_or_else(|| redmagic_opt::PASSES.iter().map(|p| (*p).to_owned()).collect());
    let passes: Vec<&str> = names.iter().map(String::as_str).collect();
    let seed = arguments.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        now.as_nanos() as u64 & 0xffff_ffff_ffff
    });
    eprintln!("seed {seed}");
    let (start, mut told) = (Instant::now(), Instant::now());
    let (mut done, mut wrong, mut failed, mut exits, mut restarts) = (0u64, 0u64, 0u64, 0u64, 0u64);
    loop {
        let number = seed.wrapping_add(done);
        let mut random = Random::new(number);
        let case = optfuzz::case(&mut random);
        let optimised = optfuzz::optimise(&case, &passes, number.is_multiple_of(2));
        if arguments.print {
            println!("{}\n", case.trace);
            if let Ok(optimised) = &optimised {
                println!("{}", optimised.trace);
            }
        }
        match optimised {
            Err(_) => failed += 1,
            Ok(optimised) => {
                let violations = redmagic_ir::verify::violations(&optimised.trace);
                if !violations.is_empty() {
                    wrong += 1;
                    println!("seed {number}: {violations:?}");
                }
                let elsewhere = (0..STATES).filter_map(|_| optfuzz::moved(&case, &mut random));
                for case in std::iter::once(case.clone()).chain(elsewhere.collect::<Vec<_>>()) {
                    match optfuzz::compare(&case, &optimised.trace) {
                        Ok(Outcome::Exit) => exits += 1,
                        Ok(Outcome::Restart) => restarts += 1,
                        Ok(Outcome::Fault) => {}
                        Err(difference) => {
                            wrong += 1;
                            println!("seed {number}: {difference}");
                        }
                    }
                }
            }
        }
        done += 1;
        let over = arguments.cases.is_some_and(|n| done >= n)
            || arguments
                .seconds
                .is_some_and(|n| start.elapsed() >= Duration::from_secs(n))
            || arguments.print
            || wrong >= 20;
        if over || told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            eprintln!("{done} traces: {wrong} wrong, {failed} not optimised, {exits} exits, {restarts} restarts");
        }
        if over {
            std::process::exit(i32::from(wrong > 0));
        }
    }
}
