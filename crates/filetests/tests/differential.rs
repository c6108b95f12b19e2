//! Random cases on the processor and in the evaluator, and the ones that once differed.

use redmagic_filetests::differential::Tester;
use redmagic_filetests::generate::{Codes, Generator};

#[test]
fn first() {
    let mut tester = Tester::new().unwrap();
    let mut generator = Generator::new(1, Codes::modelled());
    let mut n = 0;
    while tester.counts.compared < std::env::var("N").map_or(1000, |n| n.parse().unwrap()) {
        for m in tester.batch(&mut generator, 8).unwrap() {
            println!("{m}");
            n += 1;
        }
    }
    println!("{:?} {n} mismatches", tester.counts);
    assert_eq!(n, 0);
}
