//! Tests of the lifter.

use std::collections::HashMap;

use iced_x86::{Decoder, Formatter, Instruction, IntelFormatter};
use redmagic_ir::Abi;
use redmagic_lift::recording::{Answer, Effect, Ending, Step};
use redmagic_lift::{DECODER_OPTIONS, Lifter, lift_instruction, lift_recording};

use super::{check_trace, lines, number64};

/// x86 instructions to a trace. An instruction is its bytes, in a line of its own; they follow one another from 0x401000.
///
/// ```text
/// at ADDRESS                                   what follows is there
/// BYTE ... [-> ADDRESS]                        an instruction, and where the program went (default: on)
/// residual full|sysv BYTE ... -> ADDRESS back ADDRESS
/// library fill|copy LENGTH BYTE ... back ADDRESS
/// skipped BYTE ... back ADDRESS [argument N] [result argument|N]
/// gap                                          what runs natively
/// anchor ID ADDRESS                            the recording comes to its own anchor, which returns to ADDRESS
/// ```
///
/// A single instruction without an arrow is lifted on its own, all else as a recording. The output is the trace with the
/// disassembly beside the addresses, and why it stops early if it does.
pub fn lift(input: &str) -> String {
    let mut recording = Recording {
        at: 0x40_1000,
        ..Recording::default()
    };
    for (_, line) in lines(input) {
        recording.line(line);
    }
    let Recording {
        at,
        steps,
        instructions,
        anchor,
        arrows,
    } = recording;
    let (trace, stop) = if let ([Step::Instruction { instruction, .. }], None, 0) = (&steps[..], anchor, arrows) {
        match lift_instruction(&mut Lifter::new(), instruction) {
            Ok(trace) => (trace, None),
            Err(refusal) => return format!("{refusal}\n"),
        }
    } else {
        let (trace, stop) = lift_recording(steps, anchor.unwrap_or(Ending::Exit(at)));
        (trace, stop.map(|stop| stop.to_string()))
    };
    check_trace(&trace);
    let mut out = String::new();
    for line in trace.to_string().lines() {
        out += line;
        if let Some(address) = line.strip_prefix('@')
            && let Some(text) = instructions.get(&number64(address))
        {
            out += &format!("  ; {text}");
        }
        out += "\n";
    }
    if let Some(stop) = stop {
        out += &format!("; {stop}\n");
    }
    out
}

#[derive(Default)]
struct Recording {
    at: u64,
    steps: Vec<Step>,
    /// Disassembly by address.
    instructions: HashMap<u64, String>,
    anchor: Option<Ending>,
    /// How many lines say where the program went.
    arrows: usize,
}

impl Recording {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "at" => self.at = number64(words[1]),
            "gap" => self.steps.push(Step::Gap { ip: self.at }),
            "anchor" => {
                self.anchor = Some(Ending::Anchor {
                    ip: self.at,
                    id: number64(words[1]),
                    start: number64(words[2]),
                });
            }
            "residual" => {
                let abi = Abi::ALL
                    .into_iter()
                    .find(|abi| abi.name() == words[1])
                    .expect("full or sysv");
                let instruction = self.instruction(&words[2..]);
                let back = number64(after(&words, "back").expect("back ADDRESS"));
                self.steps.push(Step::Residual {
                    instruction,
                    target: number64(after(&words, "->").expect("-> ADDRESS")),
                    back,
                    abi,
                });
                self.at = back;
            }
            "library" => {
                let effect = match words[1] {
                    "fill" => Effect::Fill,
                    "copy" => Effect::Copy,
                    other => panic!("fill or copy, not {other}"),
                };
                let length = words[2].parse().expect("a number of bytes");
                let instruction = self.instruction(&words[3..]);
                let back = number64(after(&words, "back").expect("back ADDRESS"));
                self.steps.push(Step::Library {
                    instruction,
                    back,
                    effect,
                    length,
                });
                self.at = back;
            }
            "skipped" => {
                let instruction = self.instruction(&words[1..]);
                let back = number64(after(&words, "back").expect("back ADDRESS"));
                self.steps.push(Step::Skipped {
                    instruction,
                    back,
                    argument: after(&words, "argument").map(number64),
                    result: match after(&words, "result") {
                        None => Answer::Nothing,
                        Some("argument") => Answer::Argument,
                        Some(constant) => Answer::Constant(number64(constant)),
                    },
                });
                self.at = back;
            }
            _ => {
                let instruction = self.instruction(&words);
                let arrow = after(&words, "->").map(number64);
                self.arrows += usize::from(arrow.is_some());
                let next = arrow.unwrap_or(instruction.next_ip());
                self.steps.push(Step::Instruction { instruction, next });
                self.at = next;
            }
        }
    }

    /// The instruction whose bytes are the first words.
    fn instruction(&mut self, words: &[&str]) -> Instruction {
        let is_byte = |word: &&&str| word.len() == 2 && u8::from_str_radix(word, 16).is_ok();
        let bytes: Vec<u8> = words
            .iter()
            .take_while(is_byte)
            .map(|word| u8::from_str_radix(word, 16).expect("a byte"))
            .collect();
        let instruction = Decoder::with_ip(64, &bytes, self.at, DECODER_OPTIONS).decode();
        if !instruction.is_invalid() {
            assert_eq!(instruction.len(), bytes.len(), "{words:?} is more than one instruction");
            let mut formatter = IntelFormatter::new();
            let options = formatter.options_mut();
            options.set_branch_leading_zeros(false);
            options.set_displacement_leading_zeros(false);
            options.set_hex_prefix("0x");
            options.set_hex_suffix("");
            options.set_uppercase_hex(false);
            options.set_space_after_operand_separator(true);
            let mut text = String::new();
            formatter.format(&instruction, &mut text);
            self.instructions.insert(self.at, text);
        }
        instruction
    }
}

/// The word after this one.
fn after<'a>(words: &[&'a str], word: &str) -> Option<&'a str> {
    words
        .iter()
        .position(|w| *w == word)
        .and_then(|i| words.get(i + 1))
        .copied()
}
