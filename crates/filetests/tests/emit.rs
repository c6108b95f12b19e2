//! Emitted code against the evaluator, on random traces.

use redmagic_filetests::emit::{campaign, graft};

const CASES: u64 = 10_000;

fn agree(seed: u64) {
    println!("seed {seed}: to repeat it, scripts/fuzz emit --seed {seed} --cases {CASES}");
    let report = campaign(seed, CASES).unwrap();
    println!("{}{}", report.mismatches, report.summary);
    assert_eq!(report.crashed, None, "the process that ran this case ended");
    assert_eq!(report.count, 0, "traces and code are above");
    // The generator still makes what it is for.
    assert!(report.compared > CASES / 2);
}

#[test]
fn code_and_evaluator_agree_with_a_fixed_seed() {
    agree(1);
}

#[test]
fn code_and_evaluator_agree_with_a_fresh_seed() {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    agree(now.as_nanos() as u64 >> 8);
}

const GRAFTED: u64 = 1_000;

fn grafted_agree(seed: u64) {
    println!("seed {seed}: to repeat it, scripts/fuzz graft --seed {seed} --cases {GRAFTED}");
    let report = graft::campaign(seed, GRAFTED).unwrap();
    println!("{}{}", report.mismatches, report.summary);
    assert_eq!(report.crashed, None, "the process that ran this case ended");
    assert_eq!(report.count, 0, "traces and code are above");
    // Each case has a few side traces, and each of those runs a few times.
    assert!(report.compared > GRAFTED * 3);
}

#[test]
fn grafted_side_traces_and_evaluator_agree_with_a_fixed_seed() {
    grafted_agree(1);
}

#[test]
fn grafted_side_traces_and_evaluator_agree_with_a_fresh_seed() {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    grafted_agree(now.as_nanos() as u64 >> 8);
}

/// Seeds of single cases that found something. They find it again as long as cases are made in the same way.
const ONCE_DIFFERED: &[u64] = &[
    // What memory holds at the head of a loop, in terms of what a guard of the loop shows further down.
    63_550_928_865_394,
];

#[test]
fn cases_that_once_differed_agree() {
    for seed in ONCE_DIFFERED {
        let report = graft::campaign(*seed, 1).unwrap();
        println!("{}{}", report.mismatches, report.summary);
        assert_eq!((report.crashed, report.count), (None, 0), "seed {seed}");
        assert!(report.compared > 0, "seed {seed} compares nothing any more");
    }
}
