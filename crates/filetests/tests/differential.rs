//! Random cases on the processor and in the evaluator, and the ones that once differed.

use std::path::Path;

use redmagic_filetests::differential::Tester;
use redmagic_filetests::generate::{Codes, Generator};
use redmagic_filetests::{case, native};

/// The child's memory is at fixed addresses: one at a time, where tests share a process.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

const CASES: u64 = 100_000;

fn agree(seed: u64) {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("seed {seed}: to repeat it, scripts/fuzz lift --seed {seed} --cases {CASES}");
    let mut tester = Tester::new().unwrap();
    let mut generator = Generator::new(seed, Codes::modelled());
    let mut mismatches = 0;
    while tester.counts.compared < CASES && mismatches < 20 {
        for mismatch in tester.batch(&mut generator, 8).unwrap() {
            println!("{mismatch}");
            mismatches += 1;
        }
    }
    let counts = tester.counts;
    println!("{counts:?}");
    assert_eq!(mismatches, 0, "cases for tests/filetests/cpu are above");
    // The generator still makes what it is for, and every mnemonic is among it.
    let missing: Vec<_> = redmagic_lift::insn::mnemonics()
        .filter(|m| tester.by_mnemonic[*m as usize] < 10)
        .map(|m| (m, tester.by_mnemonic[m as usize]))
        .collect();
    assert!(missing.is_empty(), "hardly compared: {missing:?}");
    assert!(counts.sequences > CASES / 20 && counts.faulted > CASES / 100 && counts.native < CASES / 2);
}

#[test]
fn evaluator_and_processor_agree_with_a_fixed_seed() {
    agree(1);
}

#[test]
fn evaluator_and_processor_agree_with_a_fresh_seed() {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    agree(now.as_nanos() as u64 >> 4);
}

#[test]
fn native_operations_read_and_write_what_they_state() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut checker = native::Checker::new().unwrap();
    let mut generator = Generator::new(3, native::codes());
    let mut wrong = 0;
    while checker.compared < CASES / 4 && wrong < 20 {
        for text in checker.batch(&mut generator).unwrap() {
            println!("{text}");
            wrong += 1;
        }
    }
    let mnemonics = checker.by_mnemonic.iter().filter(|n| **n > 0).count();
    println!(
        "{} compared, {} faulted, {mnemonics} mnemonics",
        checker.compared, checker.faulted
    );
    assert_eq!(wrong, 0);
    assert!(mnemonics > 150 && checker.faulted < checker.compared / 4);
}

/// Every case of `tests/filetests/cpu`.
#[test]
fn cases_that_once_differed_agree() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut tester = Tester::new().unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/filetests/cpu");
    let mut failures = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let cases = case::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(!cases.is_empty(), "{} has no cases", path.display());
        for case in cases {
            count += 1;
            match tester.replay(&case) {
                Ok(differences) if differences.is_empty() => {}
                Ok(differences) => failures.push(format!("{}: {}: {differences:?}", path.display(), case.name)),
                Err(e) => failures.push(format!("{}: {}: {e}", path.display(), case.name)),
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(count > 0);
}
