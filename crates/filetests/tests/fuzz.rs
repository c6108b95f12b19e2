//! The fuzz targets on damaged samples: a bounded run of what `fuzz/` runs without end. A failure prints the input.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redmagic_filetests::fuzz;
use redmagic_filetests::random::Random;
use redmagic_ir::{Opcode, Reg};
use redmagic_record::codec;

const RUNS: u64 = 30_000;

/// Runs the target; on a panic, says for which input.
fn run(target: fn(&[u8]) -> bool, seed: u64, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| target(input))).unwrap_or_else(|_| {
        panic!(
            "input {seed}: {input:02x?}\n{}",
            String::from_utf8_lossy(&input[..input.len().min(2000)])
        )
    })
}

/// The inputs of the filetests of a folder.
fn samples(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/filetests")
        .join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            let input = text.split("---\n").next().unwrap_or_default();
            let trace = input.lines().filter(|line| !line.starts_with("given "));
            trace.collect::<Vec<_>>().join("\n").into_bytes()
        })
        .collect()
}

#[test]
fn damaged_text_is_an_error_or_a_valid_trace() {
    let samples = [samples("ir"), samples("eval")].concat();
    let mut words: Vec<&[u8]> = Opcode::ALL.iter().map(|op| op.info().name.as_bytes()).collect();
    let registers: Vec<String> = Reg::all().map(|reg| reg.to_string()).collect();
    words.extend(registers.iter().map(|name| name.as_bytes()));
    words.extend(
        "v0 v1 v2 v3 v99 .i1 .i8 .i16 .i32 .i64 .f32 .f64 .v128 .flags {pc=0x1000} , = [ ] { } ( ) : * ; @0x1000 + - \
         0 1 -1 0x8000000000000000 1e999 nan 0.5:f32 exit jump branch loop link repeat store.i8 in(rax=v0) out(rax) \
         mem(any, 0, rw) aligned"
            .split(' ')
            .map(str::as_bytes),
    );
    words.push(b"\n");
    words.push("\u{e9}".as_bytes());
    let mut random = Random::new(11);
    let mut read = 0;
    for seed in 0..RUNS {
        let mut input = random.pick(&samples).clone();
        input.push(b'\n');
        let input = fuzz::damage(&mut random, &input, &words);
        read += u64::from(run(fuzz::ir_text, seed, &input));
    }
    assert!(
        read > RUNS / 50,
        "only {read} were read: the damage is too great to find anything"
    );
}

#[test]
fn damaged_recordings_are_errors_or_lift_to_valid_traces() {
    let file = codec::encode(&fuzz::sample()).unwrap();
    assert!(fuzz::recording(&file));
    let body = &file[codec::HEADER..];
    let mut random = Random::new(12);
    let (mut read, mut seed) = (0, 0);
    while seed < RUNS {
        let whole = random.one_in(8);
        let input = fuzz::damage(&mut random, if whole { &file } else { body }, &[]);
        read += u64::from(run(fuzz::recording, seed, &input));
        seed += 1;
    }
    assert!(
        read > RUNS / 50,
        "only {read} were read: the damage is too great to find anything"
    );
}

#[test]
fn noise_is_an_error() {
    let mut random = Random::new(13);
    for seed in 0..RUNS {
        let noise: Vec<u8> = (0..random.below(200)).map(|_| random.bits() as u8).collect();
        run(fuzz::ir_text, seed, &noise);
        run(fuzz::recording, seed, &noise);
    }
}
