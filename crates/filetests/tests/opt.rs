//! Random traces through the optimiser; see [`redmagic_filetests::optfuzz`].

use redmagic_filetests::optfuzz::{self, Outcome};
use redmagic_filetests::random::Random;

const CASES: u64 = 10_000;

fn run(first: u64) {
    let (mut compared, mut restarts) = (0, 0);
    for seed in first..first + CASES {
        let mut random = Random::new(seed);
        let case = optfuzz::case(&mut random);
        let optimised =
            optfuzz::optimise(&case, redmagic_opt::PASSES, seed.is_multiple_of(2)).unwrap_or_else(|error| {
                panic!("seed {seed}: {error}");
            });
        let violations = redmagic_ir::verify::violations(&optimised.trace);
        assert!(violations.is_empty(), "seed {seed}: {violations:?}");
        let elsewhere = optfuzz::moved(&case, &mut random);
        for case in std::iter::once(case).chain(elsewhere) {
            match optfuzz::compare(&case, &optimised.trace) {
                Ok(Outcome::Exit) => compared += 1,
                Ok(Outcome::Restart) => restarts += 1,
                Ok(Outcome::Fault) => {}
                Err(difference) => panic!("seed {seed}: {difference}; `fuzz-opt --seed {seed} --print` shows it"),
            }
        }
    }
    assert!(compared > CASES / 2 && restarts > CASES / 100, "{compared} {restarts}");
}

#[test]
fn optimised_and_lifted_traces_agree_with_fixed_seeds() {
    run(1);
}

#[test]
fn optimised_and_lifted_traces_agree_with_fresh_seeds() {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    run(now.as_nanos() as u64 & 0xffff_ffff_ffff);
}
