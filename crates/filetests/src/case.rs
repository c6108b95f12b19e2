//! A case: instructions, the state before them, and its text form.
//!
//! ```text
//! case add rax, [rbx+8]
//! slot 3
//! code 48 03 43 08
//! rbx 0x468a3700
//! rflags 0x202
//! mxcsr 0x1f80
//! memory 0x708 ff ff ff ff 00 00 00 00
//! ```
//!
//! What is not listed is 0 for registers, `rflags` 0x202, MXCSR 0x1f80, and the pattern of [`pattern`] for memory. The
//! slot says where the instructions run and where the page of memory is ([`stub::entry`], [`stub::page`]): addresses
//! in registers and instructions depend on it. `#` begins a comment. A file may hold any number of cases.

use std::fmt::{self, Write};
use std::sync::LazyLock;

use iced_x86::{Decoder, Formatter, Instruction, IntelFormatter};
use redmagic_ir::Reg;
use redmagic_ir::eval::{Fault, Host, Memory, Regs};

use crate::cpu::stub::{self, PAGE};
use crate::cpu::{FS_BASE, GS_BASE};

/// Instructions and the state before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What it is about, for people.
    pub name: String,
    /// The slot that it runs in.
    pub slot: usize,
    /// The instructions.
    pub bytes: Vec<u8>,
    /// The registers before.
    pub regs: Regs,
    /// Memory before, where it differs from the pattern: (offset in the page, bytes).
    pub memory: Vec<(usize, Vec<u8>)>,
}

/// What a page of memory holds where a case does not say.
pub fn pattern() -> &'static [u8; PAGE] {
    static PATTERN: LazyLock<[u8; PAGE]> = LazyLock::new(|| {
        let mut random = crate::random::Random::new(0);
        let mut page = [0; PAGE];
        for word in page.chunks_exact_mut(8) {
            word.copy_from_slice(&random.bits().to_le_bytes());
        }
        page
    });
    &PATTERN
}

/// The registers of an empty case in this slot.
pub fn empty_regs(slot: usize) -> Regs {
    Regs {
        rip: stub::entry(slot),
        fs_base: FS_BASE,
        gs_base: GS_BASE,
        ..Regs::default()
    }
}

impl Case {
    /// No instructions, nothing but zeros.
    pub fn new(slot: usize) -> Case {
        Case {
            name: String::new(),
            slot,
            bytes: Vec::new(),
            regs: empty_regs(slot),
            memory: Vec::new(),
        }
    }

    /// The instructions, decoded. An invalid one is the last.
    pub fn instructions(&self) -> Vec<Instruction> {
        let mut decoder = Decoder::with_ip(64, &self.bytes, self.regs.rip, redmagic_lift::DECODER_OPTIONS);
        let mut all = Vec::new();
        while decoder.can_decode() {
            let instruction = decoder.decode();
            all.push(instruction);
            if instruction.is_invalid() {
                break;
            }
        }
        all
    }

    /// Whether the processor must step it: it is one instruction that may go elsewhere.
    pub fn steps(&self) -> bool {
        self.instructions()
            .iter()
            .any(|i| i.flow_control() != iced_x86::FlowControl::Next)
    }

    /// Fills the page with what the case starts from.
    pub fn fill(&self, page: &mut [u8]) {
        page.copy_from_slice(pattern());
        for (at, bytes) in &self.memory {
            page[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// The memory as the evaluator sees it.
    pub fn page(&self) -> PageMemory {
        let mut memory = PageMemory::new(self.slot);
        self.fill(&mut *memory.bytes);
        memory
    }

    /// The instructions in Intel syntax.
    pub fn disassembly(&self) -> String {
        let mut formatter = IntelFormatter::new();
        let mut text = String::new();
        for (i, instruction) in self.instructions().iter().enumerate() {
            if i > 0 {
                text.push_str("; ");
            }
            formatter.format(instruction, &mut text);
        }
        text
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() {
            self.disassembly()
        } else {
            self.name.clone()
        };
        writeln!(f, "case {name}")?;
        writeln!(f, "slot {}", self.slot)?;
        writeln!(f, "code {}", hex(&self.bytes))?;
        for reg in Reg::all().filter(|r| r.is_gpr() || r.is_xmm() || r.is_ymm_high()) {
            let bits = self.regs.get(reg);
            if bits != 0 {
                writeln!(f, "{reg} {bits:#x}")?;
            }
        }
        writeln!(f, "rflags {:#x}", self.regs.rflags)?;
        writeln!(f, "mxcsr {:#x}", self.regs.mxcsr)?;
        for (at, bytes) in &self.memory {
            writeln!(f, "memory {at:#x} {}", hex(bytes))?;
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (i, b) in bytes.iter().enumerate() {
        let _ = write!(text, "{}{b:02x}", if i > 0 { " " } else { "" });
    }
    text
}

fn number(text: &str) -> Result<u128, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u128::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is no number"))
}

fn bytes(words: &[&str]) -> Result<Vec<u8>, String> {
    let byte = |w: &&str| u8::from_str_radix(w, 16).map_err(|_| format!("`{w}` is no byte"));
    words.iter().map(byte).collect()
}

/// All cases of a file. An error begins with its line.
pub fn parse(text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((&key, rest)) = words.split_first() else {
            continue;
        };
        if key == "case" {
            let mut case = Case::new(0);
            case.name = line["case".len()..].trim().to_owned();
            cases.push(case);
            continue;
        }
        let case = cases.last_mut().ok_or(format!("line {}: no case begun", i + 1))?;
        field(case, key, rest).map_err(|e| format!("line {}: {e}", i + 1))?;
    }
    Ok(cases)
}

fn field(case: &mut Case, key: &str, rest: &[&str]) -> Result<(), String> {
    let one = || {
        rest.first()
            .copied()
            .ok_or("a value is missing".to_owned())
            .and_then(number)
    };
    let narrow = |bits: u128| u64::try_from(bits).map_err(|_| "more than 64 bits".to_owned());
    match key {
        "slot" => {
            let slot = one()? as usize;
            if slot >= stub::SLOTS {
                return Err(format!("slots end at {}", stub::SLOTS - 1));
            }
            case.slot = slot;
            case.regs.rip = stub::entry(slot);
        }
        "code" => {
            case.bytes = bytes(rest)?;
            if case.bytes.len() > stub::GAP {
                return Err(format!("more than {} bytes", stub::GAP));
            }
        }
        "rflags" => case.regs.rflags = narrow(one()?)?,
        "mxcsr" => case.regs.mxcsr = u32::try_from(one()?).map_err(|_| "more than 32 bits")?,
        "memory" => {
            let (at, rest) = rest.split_first().ok_or("an offset is missing")?;
            let (at, bytes) = (number(at)? as usize, bytes(rest)?);
            if at.saturating_add(bytes.len()) > PAGE {
                return Err(format!("the page has {PAGE} bytes"));
            }
            case.memory.push((at, bytes));
        }
        _ => {
            let reg = Reg::from_name(key).ok_or(format!("`{key}` is no register"))?;
            let bits = one()?;
            if bits & !reg.ty().mask() != 0 {
                return Err(format!("more than {} bits", reg.ty().bits()));
            }
            case.regs.set(reg, bits);
        }
    }
    Ok(())
}

/// The page of a slot, and nothing else.
#[derive(Debug, Clone)]
pub struct PageMemory {
    start: u64,
    /// The page.
    pub bytes: Box<[u8; PAGE]>,
}

impl PageMemory {
    /// The page of this slot, with the pattern.
    pub fn new(slot: usize) -> PageMemory {
        PageMemory {
            start: stub::page(slot),
            bytes: Box::new(*pattern()),
        }
    }

    /// Becomes the page of another slot.
    pub fn move_to(&mut self, slot: usize) {
        self.start = stub::page(slot);
    }

    #[inline]
    fn range(&mut self, addr: u64, size: usize, write: bool) -> Result<&mut [u8], Fault> {
        let at = addr.wrapping_sub(self.start);
        if at > (PAGE - size) as u64 {
            return Err(Fault::Memory {
                addr,
                size: size as u32,
                write,
            });
        }
        Ok(&mut self.bytes[at as usize..at as usize + size])
    }
}

impl Memory for PageMemory {
    #[inline]
    fn load(&mut self, addr: u64, out: &mut [u8]) -> Result<(), Fault> {
        let size = out.len();
        out.copy_from_slice(self.range(addr, size, false)?);
        Ok(())
    }

    #[inline]
    fn store(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.range(addr, bytes.len(), true)?.copy_from_slice(bytes);
        Ok(())
    }
}

impl Host for PageMemory {}

/// The names of the status flags that are set in `bits`, for messages.
pub fn flag_names(bits: u64) -> String {
    use redmagic_ir::flags::{AF, CF, DF, OF, PF, SF, ZF};
    let all = [
        (CF, "cf"),
        (PF, "pf"),
        (AF, "af"),
        (ZF, "zf"),
        (SF, "sf"),
        (DF, "df"),
        (OF, "of"),
    ];
    let set: Vec<&str> = all
        .iter()
        .filter(|(bit, _)| bits & u64::from(*bit) != 0)
        .map(|(_, n)| *n)
        .collect();
    set.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let mut case = Case::new(7);
        case.name = "add rax, rbx".into();
        case.bytes = vec![0x48, 0x01, 0xd8];
        case.regs.gpr[3] = u64::MAX;
        case.regs.xmm[9] = u128::MAX / 3;
        case.regs.ymm_high[15] = 1;
        case.regs.rflags = 0x246;
        case.memory.push((0x10, vec![1, 2, 0xff]));
        let text = format!("# a comment\n\n{case}{case}");
        assert_eq!(parse(&text).unwrap(), [case.clone(), case]);
    }

    #[test]
    fn errors_say_where() {
        for (text, expected) in [
            ("rax 1", "line 1: no case begun"),
            ("case x\nslot 256", "line 2: slots end at 255"),
            ("case x\nrax 0x10000000000000000", "line 2: more than 64 bits"),
            ("case x\nrzz 1", "line 2: `rzz` is no register"),
            ("case x\nmemory 0xfff 00 00", "line 2: the page has 4096 bytes"),
            ("case x\ncode 4g", "line 2: `4g` is no byte"),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected);
        }
    }
}
