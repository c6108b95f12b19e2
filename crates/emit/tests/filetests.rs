//! Runs the filetests of both tiers: `tests/filetests/copy/*.txt` and `tests/filetests/emit/*.txt`, one behaviour a file.
//!
//! Those of the optimised tier are a trace of the IR, after a line `start anchor` or `start exit` (the default). Those of
//! the copy tier:
//!
//! A file is comments (`;`), operations one a line, a line `---`, and the expected code as
//! disassembly with its data words. `REDMAGIC_BLESS=1` rewrites the expectations. Adding a
//! test is adding a file.
//!
//! ```text
//! start anchor | exit
//! copy ADDRESS BYTES          branch ADDRESS BYTES taken|not-taken
//! jump ADDRESS BYTES -> TO    call ADDRESS BYTES -> TO    return|own-return ADDRESS BYTES -> TO
//! residual ADDRESS BYTES -> RETURN
//! guard-argument ADDRESS VALUE     result nothing|argument|NUMBER     return-from-shim ADDRESS -> TO
//! begin-merge RETURN   end-merge   disabled START -> ENABLE-RETURN
//! set REG VALUE    fixups REG=VALUE ... flags=VALUE    guard-register ADDRESS REG VALUE
//! check-generation ADDRESS CURRENT VALID
//! end anchor ADDRESS ID SLOT [known] | end native ADDRESS
//! ```

use std::fmt::Write as _;
use std::path::Path;

use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use redmagic_emit::copy::{
    Compiled, End, Environment, Op, RejoinOffsets, ShimResult, Source, Start, ThreadOffsets, compile,
};
use redmagic_emit::exits::{ExitEnvironment, Fixups};
use redmagic_emit::lower;
use redmagic_ir::{parse, verify};

const BASE: u64 = 0x10_0000;
const DATA: u64 = 0x18_0000;

fn environment() -> Environment {
    let rejoin = |at: i32| RejoinOffsets {
        code: at,
        return_address: at + 8,
        rsp: at + 16,
    };
    Environment {
        base: BASE,
        cold_base: None,
        data_base: DATA,
        first_exit: 0,
        exits: ExitEnvironment {
            counters: 0x1c_0000,
            first_id: 0,
            park: 0x40_0000,
            again: 256,
        },
        thread: ThreadOffsets {
            merge: rejoin(-0x60),
            enable: rejoin(-0x48),
        },
    }
}

fn number(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|e| panic!("{text:?} is no number: {e}"))
}

/// `ADDRESS BYTE ...` and what comes after the bytes.
fn source(words: &[&str], step: u32) -> (Source, Vec<String>) {
    let mut bytes = [0; 15];
    let mut length = 0;
    for word in words[1..].iter().take_while(|word| word.len() == 2 && **word != "->") {
        bytes[length] = u8::from_str_radix(word, 16).unwrap_or_else(|e| panic!("{word:?} is no byte: {e}"));
        length += 1;
    }
    let rest = words[1 + length..]
        .iter()
        .filter(|w| **w != "->")
        .map(|w| (*w).to_owned())
        .collect();
    (
        Source {
            ip: number(words[0]),
            bytes,
            length: length as u8,
            step,
        },
        rest,
    )
}

fn run(input: &str) -> String {
    let (mut start, mut ops, mut end) = (Start::Exit, Vec::new(), None);
    for line in input
        .lines()
        .map(|l| l.split(';').next().unwrap_or("").trim())
        .filter(|l| !l.is_empty())
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let step = ops.len() as u32;
        let rest = &words[1..];
        let with_target = || {
            let (code, more) = source(rest, step);
            (code, number(more.last().expect("-> ADDRESS")))
        };
        match words[0] {
            "start" => start = if rest == ["anchor"] { Start::Anchor } else { Start::Exit },
            "copy" => ops.push(Op::Copy {
                code: source(rest, step).0,
            }),
            "branch" => {
                let (code, more) = source(rest, step);
                ops.push(Op::Branch {
                    code,
                    taken: more == ["taken"],
                });
            }
            "jump" => {
                let (code, target) = with_target();
                ops.push(Op::Jump { code, target });
            }
            "call" => {
                let (code, target) = with_target();
                ops.push(Op::Call { code, target });
            }
            "return" | "own-return" => {
                let (code, target) = with_target();
                ops.push(Op::Return {
                    code,
                    target,
                    guarded: words[0] == "return",
                });
            }
            "residual" => {
                let (code, return_address) = with_target();
                ops.push(Op::Residual { code, return_address });
            }
            "guard-argument" => ops.push(Op::GuardArgument {
                ip: number(rest[0]),
                value: number(rest[1]),
            }),
            "result" => ops.push(Op::Result {
                value: match rest[0] {
                    "nothing" => ShimResult::Nothing,
                    "argument" => ShimResult::Argument,
                    constant => ShimResult::Constant(number(constant) as u32),
                },
            }),
            "return-from-shim" => ops.push(Op::ReturnFromShim {
                ip: number(rest[0]),
                target: number(rest[2]),
            }),
            "begin-merge" => ops.push(Op::BeginMerge {
                end_return: number(rest[0]),
            }),
            "end-merge" => ops.push(Op::EndMerge),
            "disabled" => ops.push(Op::Disabled {
                start: number(rest[0]),
                enable_return: number(rest[2]),
            }),
            "set" => ops.push(Op::Set {
                register: number(rest[0]) as u8,
                value: number(rest[1]),
            }),
            "fixups" => {
                let registers = rest
                    .iter()
                    .filter_map(|word| word.split_once('='))
                    .filter(|(k, _)| *k != "flags");
                let flags = rest.iter().find_map(|word| word.strip_prefix("flags="));
                ops.push(Op::Fixups(Fixups {
                    registers: registers.map(|(k, v)| (number(k) as u8, number(v))).collect(),
                    flags: flags.map(|f| number(f) as u32),
                }));
            }
            "guard-register" => ops.push(Op::GuardRegister {
                ip: number(rest[0]),
                register: number(rest[1]) as u8,
                value: number(rest[2]),
            }),
            "check-generation" => ops.push(Op::CheckGeneration {
                ip: number(rest[0]),
                current: number(rest[1]),
                valid: number(rest[2]),
            }),
            "end" if rest[0] == "native" => {
                end = Some(End::Native {
                    target: number(rest[1]),
                })
            }
            "end" => {
                end = Some(End::Anchor {
                    ip: number(rest[1]),
                    id: number(rest[2]),
                    slot: number(rest[3]),
                    guarded: rest.get(4) != Some(&"known"),
                })
            }
            other => panic!("{other:?} is no operation"),
        }
    }
    match compile(start, &ops, end.expect("an end"), &environment()) {
        Ok(compiled) => listing(&compiled),
        Err(error) => format!("error: {error}\n"),
    }
}

fn listing(compiled: &Compiled) -> String {
    let mut out = String::new();
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_branch_leading_zeros(false);
    options.set_displacement_leading_zeros(false);
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    for instruction in Decoder::with_ip(64, &compiled.code, BASE, DecoderOptions::NONE).iter() {
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        if instruction.ip() == compiled.body {
            out += "body:\n";
        }
        for exit in compiled.exits.iter().filter(|e| e.counting == instruction.ip()) {
            let slot = DATA + u64::from(exit.slot.0) * 8;
            let _ = writeln!(out, "exit {} to {:#x}, slot {slot:#x}:", exit.number, exit.target);
        }
        let _ = writeln!(out, "  {:x}  {text}", instruction.ip());
    }
    out += "data:\n";
    for (i, word) in compiled.data.iter().enumerate() {
        let _ = writeln!(out, "  {:x}  {word:#x}", DATA + i as u64 * 8);
    }
    out
}

/// A trace of the IR to the code that the optimised tier makes of it.
fn lowered(input: &str) -> String {
    let (mut start, mut joins, mut text) = (Start::Exit, false, String::new());
    for line in input.lines() {
        match line.trim() {
            "start anchor" => start = Start::Anchor,
            "start exit" => start = Start::Exit,
            "joins" => joins = true,
            other => text += other,
        }
        text += "\n";
    }
    let trace = match parse::parse(&text) {
        Ok(trace) => trace,
        Err(error) => panic!("{error}\n{input}"),
    };
    verify::verify(&trace).unwrap_or_else(|e| panic!("{e}\n{input}"));
    let target = |slot| lower::Target { ip: 0x40_0000, slot };
    let targets = lower::Targets {
        end: target(0x1d_0000),
        restart: target(0x1d_0008),
        turn: false,
        reentry: None,
        joins,
    };
    match lower::compile(&trace, start, &targets, &environment()) {
        Ok(compiled) => listing(&compiled),
        Err(error) => format!("error: {error}\n"),
    }
}

#[test]
fn copy() {
    check("copy", run);
}

#[test]
fn emit() {
    check("emit", lowered);
}

fn check(folder: &str, run: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/filetests")
        .join(folder);
    let mut failed = Vec::new();
    let mut count = 0;
    for file in std::fs::read_dir(&folder).expect("the folder of filetests") {
        let path = file.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("text");
        let (input, expected) = text.split_once("---\n").unwrap_or((&text, ""));
        let actual = run(input);
        count += 1;
        if actual == expected {
            continue;
        }
        if std::env::var_os("REDMAGIC_BLESS").is_some_and(|v| v == "1") {
            std::fs::write(&path, format!("{input}---\n{actual}")).expect("writable");
        } else {
            failed.push(format!(
                "{}:\n--- expected\n{expected}--- actual\n{actual}",
                path.display()
            ));
        }
    }
    assert!(count > 0, "no filetests in {}", folder.display());
    assert!(
        failed.is_empty(),
        "{}\nREDMAGIC_BLESS=1 rewrites the expectations",
        failed.join("\n")
    );
}
