//! `opt`: a trace through the optimiser.
//!
//! Before the trace stand what comes with it, a line each:
//!
//! ```text
//! passes fold,gvn          all of them when this is missing
//! seen v3=0x1000           what operation 3 gave when it was recorded
//! entry rbx=0x7000         a register to guard at the entry
//! constant 0x7000=0x2a:4   four bytes that never change
//! declared 0x7000=0x2a:4   the same, until the program says otherwise
//! unwritten 0x7000 0x8000  addresses that no store reaches: the first, and one past the last
//! generation 0x100 0x108   where the generations are
//! unroll 4                 most copies of a short loop's body
//! ```

use std::ops::Range;

use redmagic_ir::{Reg, parse};
use redmagic_opt::{Constant, ConstantMemory, Input, PASSES};

use super::{check_trace, number, number64};

struct Words {
    constant: Vec<(u64, u32, Constant)>,
    unwritten: Vec<Range<u64>>,
}

impl ConstantMemory for Words {
    fn load(&self, address: u64, size: u32) -> Option<Constant> {
        let found = self.constant.iter().find(|word| (word.0, word.1) == (address, size));
        found.map(|word| word.2)
    }

    fn unwritten(&self, bytes: Range<u64>) -> bool {
        let inside = |range: &Range<u64>| range.start <= bytes.start && bytes.end <= range.end;
        self.unwritten.iter().any(inside)
    }
}

fn pair(text: &str) -> (&str, &str) {
    text.split_once('=').unwrap_or_else(|| panic!("{text:?} has no `=`"))
}

/// Optimises and prints; or the error.
pub fn opt(input: &str) -> String {
    let mut passes: Vec<&str> = PASSES.to_vec();
    let (mut seen, mut entry, mut constant, mut generation) = (Vec::new(), Vec::new(), Vec::new(), None);
    let (mut unwritten, mut unroll) = (Vec::new(), 1);
    let mut text = String::new();
    for line in input.lines() {
        let plain = line.split(';').next().unwrap_or("").trim();
        match plain.split_once(' ') {
            Some(("passes", names)) => passes = names.split(',').collect(),
            Some(("seen", rest)) => {
                for (name, value) in rest.split_whitespace().map(pair) {
                    let index: usize = name.trim_start_matches('v').parse().expect("the index of an operation");
                    seen.push((index, number(value)));
                }
            }
            Some(("entry", rest)) => {
                let (name, value) = pair(rest);
                entry.push((Reg::from_name(name).expect("a register"), number64(value)));
            }
            Some((kind @ ("constant" | "declared"), rest)) => {
                let (address, word) = pair(rest);
                let (bits, size) = word.split_once(':').expect("a value and its size");
                let held = Constant {
                    bits: number(bits),
                    declared: kind == "declared",
                };
                constant.push((number64(address), number64(size) as u32, held));
            }
            Some(("unroll", copies)) => unroll = copies.parse().expect("a number"),
            Some(("unwritten", rest)) => {
                let (start, end) = rest.split_once(' ').expect("two addresses");
                unwritten.push(number64(start)..number64(end));
            }
            Some(("generation", rest)) => {
                let (current, valid) = rest.split_once(' ').expect("two addresses");
                generation = Some((number64(current), number64(valid)));
            }
            _ => {
                text += line;
                text += "\n";
            }
        }
    }
    let trace = match parse::parse(&text) {
        Ok(trace) => trace,
        Err(error) => return format!("error: {error}\n"),
    };
    let mut observed = vec![None; trace.ops.len()];
    for (index, bits) in seen {
        observed[index] = Some(bits);
    }
    let words = Words { constant, unwritten };
    let input = Input {
        entry: &entry,
        start_pc: 0x1000,
        observed: &observed,
        constants: &words,
        generation,
        iterations: 1024,
        unroll,
        inherited: None,
        restart_pc: 0xfff0,
    };
    match redmagic_opt::optimize(&trace, &input, &passes) {
        Ok(done) => {
            check_trace(&done.trace);
            let mut out = done.trace.to_string();
            for word in done.relied_on {
                out += &format!("; relies on {:#x}\n", word.address);
            }
            out
        }
        Err(error) => format!("error: {error}\n"),
    }
}
