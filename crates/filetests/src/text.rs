//! Textual tests: one behaviour a file, its expected output in the file.
//!
//! A file is an input, a line `---`, and the expected output; `;` begins a comment. `REDMAGIC_BLESS=1` rewrites what is
//! expected. Adding a test is adding a file to a folder of `tests/filetests/`:
//!
//! * `ir`: [`ir()`], a trace as text.
//! * `lift`: [`lift()`], x86 instructions to a trace.
//! * `eval`: [`eval()`], a trace and a state to the state after it.
//! * `opt`: [`opt()`], a trace through the optimiser.
//! * `graft`: [`graft()`], a side trace behind its parent.
//! * `copy`, `emit`: the two tiers that make code; their driver is a test of `crates/emit`.

mod eval;
mod graft;
mod lift;
mod opt;
mod reference;

use std::path::Path;

use redmagic_ir::{Trace, parse, verify};

pub use eval::eval;
pub use graft::graft;
pub use lift::lift;
pub use opt::opt;
pub use reference::check_reference;

/// The variable that, set to 1, has expectations rewritten.
pub const BLESS: &str = "REDMAGIC_BLESS";

/// Runs every file of a folder of `tests/filetests/`.
///
/// # Panics
/// When an output is not the expected one, with all those that are not; when there are no files.
pub fn check(folder: &str, run: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/filetests")
        .join(folder);
    let bless = std::env::var_os(BLESS).is_some_and(|v| v == "1");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no filetests in {}", folder.display());
    let mut failed = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (input, expected) = text.split_once("---\n").unwrap_or((&text, ""));
        let actual = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(input))) {
            Ok(actual) => actual,
            Err(_) => {
                failed.push(format!("{}: panicked, see above", path.display()));
                continue;
            }
        };
        if actual == expected {
            continue;
        }
        if bless {
            std::fs::write(&path, format!("{input}---\n{actual}")).expect("writable");
        } else {
            failed.push(format!(
                "{}:\n--- expected\n{expected}--- actual\n{actual}",
                path.display()
            ));
        }
    }
    assert!(
        failed.is_empty(),
        "{}\n{BLESS}=1 rewrites the expectations",
        failed.join("\n")
    );
}

/// The input's lines that say something, without comments, each with its number.
fn lines(input: &str) -> impl Iterator<Item = (usize, &str)> {
    input
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.split(';').next().unwrap_or("").trim()))
        .filter(|(_, line)| !line.is_empty())
}

/// A number, decimal or `0x`.
fn number(text: &str) -> u128 {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|e| panic!("{text:?} is no number: {e}"))
}

fn number64(text: &str) -> u64 {
    u64::try_from(number(text)).unwrap_or_else(|_| panic!("{text:?} does not fit 64 bits"))
}

/// Panics unless the trace is valid and its text reads back.
fn check_trace(trace: &Trace) {
    let found = verify::violations(trace);
    assert!(found.is_empty(), "{found:#?}\n{trace}");
    let text = trace.to_string();
    let again = parse::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(again, trace.normalized(), "{text}");
    assert_eq!(again.to_string(), text);
}

/// A trace as text: read, verified, and printed; or the error.
pub fn ir(input: &str) -> String {
    match parse::parse(input) {
        Ok(trace) => {
            check_trace(&trace);
            trace.to_string()
        }
        Err(error) => format!("error: {error}\n"),
    }
}
