//! What of a piece of code is modelled, native, or refused.

use std::collections::BTreeMap;

use iced_x86::Decoder;

use crate::{DECODER_OPTIONS, Lifter, Refusal, lift_instruction};

/// What becomes of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// IR operations with a meaning.
    Modelled,
    /// A `native` operation.
    Native,
    /// No part of a trace.
    Refused,
}

/// Counts by class, and by mnemonic within it.
#[derive(Debug, Default)]
pub struct Coverage {
    /// Instructions of each class and mnemonic.
    pub by_mnemonic: BTreeMap<(Class, String), u64>,
    /// Bytes that were no instruction: data in the code, or a wrong start.
    pub undecodable: u64,
}

impl Coverage {
    /// Decodes `code`, which runs at `address`, from its first byte to its last, and adds it up.
    pub fn add(&mut self, code: &[u8], address: u64) {
        let mut lifter = Lifter::new();
        let mut decoder = Decoder::with_ip(64, code, address, DECODER_OPTIONS);
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                self.undecodable += 1;
                continue;
            }
            let class = match lift_instruction(&mut lifter, &instruction) {
                Ok(trace) if trace.natives.is_empty() => Class::Modelled,
                Ok(_) => Class::Native,
                Err(Refusal::Undecodable(_)) => {
                    self.undecodable += 1;
                    continue;
                }
                Err(_) => Class::Refused,
            };
            let name = format!("{:?}", instruction.mnemonic()).to_lowercase();
            *self.by_mnemonic.entry((class, name)).or_default() += 1;
        }
    }

    /// Instructions of this class.
    pub fn count(&self, class: Class) -> u64 {
        let of_class = self.by_mnemonic.iter().filter(|((c, _), _)| *c == class);
        of_class.map(|(_, n)| n).sum()
    }

    /// All instructions.
    pub fn total(&self) -> u64 {
        self.by_mnemonic.values().sum()
    }

    /// The mnemonics of a class with their counts, most frequent first.
    pub fn mnemonics(&self, class: Class) -> Vec<(&str, u64)> {
        let mut all: Vec<(&str, u64)> = self
            .by_mnemonic
            .iter()
            .filter(|((c, _), _)| *c == class)
            .map(|((_, name), n)| (name.as_str(), *n))
            .collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        all
    }
}
