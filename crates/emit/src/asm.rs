//! A byte buffer that knows where it will run, with labels and a pool of 8-byte data.
//!
//! iced's `BlockEncoder` is not used: a trace that unrolls a loop has the same source
//! address twice, and a `lea` of an address inside the block would be moved.
//!
//! Data (constants, and slots that are stored to later) lives apart from code, at an
//! address of its own: a store to a cache line that is also being executed from costs a
//! pipeline flush on every core that runs it.

use iced_x86::{Code, Encoder, IcedError, Instruction, Register};

/// A place in the code, possibly one that is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(u32);

/// A word in the data part, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Datum(pub u32);

/// Why code could not be assembled. All of these are limits or bugs of ours.
#[derive(Debug, thiserror::Error)]
pub enum AsmError {
    /// iced refused an instruction.
    #[error("instruction at {ip:#x} cannot be encoded at {at:#x}: {source}")]
    Encode {
        /// Where it came from.
        ip: u64,
        /// Where it was to go.
        at: u64,
        /// iced's reason.
        source: IcedError,
    },
    /// A displacement does not fit into 32 bits.
    #[error("{to:#x} cannot be reached from {from:#x}")]
    Reach {
        /// Address after the instruction.
        from: u64,
        /// Where it should have reached.
        to: u64,
    },
    /// A label was used and never bound.
    #[error("label {0} is not bound")]
    Unbound(u32),
}

/// The buffer.
pub struct Asm {
    base: u64,
    /// Where code stands from this offset on, if that is another place.
    cold: Option<(u32, u64)>,
    data_base: u64,
    code: Vec<u8>,
    data: Vec<u64>,
    labels: Vec<Option<u32>>,
    fixups: Vec<(u32, Label)>,
    data_labels: Vec<(Datum, Label)>,
}

/// Finished code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// Bytes for the base address, and those for the cold one after them.
    pub code: Vec<u8>,
    /// Bytes for the base address.
    pub hot: usize,
    /// Words for the data base address.
    pub data: Vec<u64>,
}

/// The condition codes of `jcc`, as encoded.
pub mod cond {
    /// Not equal.
    pub const NE: u8 = 5;
}

impl Asm {
    /// Code that will stand at `base`, with its data at `data_base` (8-byte aligned).
    pub fn new(base: u64, data_base: u64) -> Asm {
        debug_assert_eq!(data_base % 8, 0);
        Asm {
            base,
            cold: None,
            data_base,
            code: Vec::with_capacity(4096),
            data: Vec::new(),
            labels: Vec::new(),
            fixups: Vec::new(),
            data_labels: Vec::new(),
        }
    }

    /// Address of the next instruction.
    pub fn here(&self) -> u64 {
        self.at(self.code.len() as u32)
    }

    fn at(&self, offset: u32) -> u64 {
        match self.cold {
            Some((from, base)) if offset >= from => base + u64::from(offset - from),
            _ => self.base + u64::from(offset),
        }
    }

    /// What follows stands at `base`: code that is rarely run, apart from what is. Only once.
    pub fn go_on_at(&mut self, base: u64) {
        debug_assert!(self.cold.is_none());
        self.cold = Some((self.code.len() as u32, base));
    }

    /// A label to be bound later.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() as u32 - 1)
    }

    /// Binds a label to the next instruction.
    pub fn bind(&mut self, label: Label) {
        debug_assert!(self.labels[label.0 as usize].is_none(), "bound twice");
        self.labels[label.0 as usize] = Some(self.code.len() as u32);
    }

    /// The address of a bound label.
    pub fn address(&self, label: Label) -> Result<u64, AsmError> {
        let offset = self.labels[label.0 as usize].ok_or(AsmError::Unbound(label.0))?;
        Ok(self.at(offset))
    }

    /// A new data word.
    pub fn datum(&mut self, value: u64) -> Datum {
        self.data.push(value);
        Datum(self.data.len() as u32 - 1)
    }

    /// A new data word that will hold the address of a label.
    pub fn datum_label(&mut self, label: Label) -> Datum {
        let datum = self.datum(0);
        self.data_labels.push((datum, label));
        datum
    }

    /// The address of a data word.
    pub fn datum_address(&self, datum: Datum) -> u64 {
        self.data_base + u64::from(datum.0) * 8
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    /// Pads with long NOPs to a multiple of `alignment` (a power of two).
    pub fn align(&mut self, alignment: u64) {
        const NOPS: [&[u8]; 9] = [
            &[0x90],
            &[0x66, 0x90],
            &[0x0f, 0x1f, 0x00],
            &[0x0f, 0x1f, 0x40, 0x00],
            &[0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
            &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
            &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
        ];
        let mut rest = (self.here().wrapping_neg() & (alignment - 1)) as usize;
        while rest > 0 {
            let nop = NOPS[rest.min(9) - 1];
            self.bytes(nop);
            rest -= nop.len();
        }
    }

    /// Re-encodes an instruction for this place; a RIP-relative operand keeps its target.
    pub fn reencode(&mut self, instruction: &Instruction) -> Result<(), AsmError> {
        let at = self.here();
        let mut encoder = Encoder::new(64);
        encoder.encode(instruction, at).map_err(|source| AsmError::Encode {
            ip: instruction.ip(),
            at,
            source,
        })?;
        self.bytes(&encoder.take_buffer());
        Ok(())
    }

    /// Appends `opcode` and a 32-bit displacement to `target`, with `trailing` bytes of
    /// immediate after the displacement.
    fn rip(&mut self, opcode: &[u8], target: u64, trailing: &[u8]) -> Result<(), AsmError> {
        self.bytes(opcode);
        let from = self.here() + 4 + trailing.len() as u64;
        let displacement =
            i32::try_from(target.wrapping_sub(from) as i64).map_err(|_| AsmError::Reach { from, to: target })?;
        self.bytes(&displacement.to_le_bytes());
        self.bytes(trailing);
        Ok(())
    }

    fn label_fixup(&mut self, opcode: &[u8], label: Label) {
        self.bytes(opcode);
        self.fixups.push((self.code.len() as u32, label));
        self.bytes(&[0; 4]);
    }

    /// `jcc label`.
    pub fn jcc(&mut self, condition: u8, label: Label) {
        self.label_fixup(&[0x0f, 0x80 | condition], label);
    }

    /// `jmp label`.
    pub fn jmp(&mut self, label: Label) {
        self.label_fixup(&[0xe9], label);
    }

    /// `lea reg, [rip + label]`; `reg` is the number of the encoding.
    pub fn lea_label(&mut self, reg: u8, label: Label) {
        self.label_fixup(&[0x48 | (reg >> 3) << 2, 0x8d, 0x05 | (reg & 7) << 3], label);
    }

    /// `jmp target`.
    pub fn jmp_address(&mut self, target: u64) -> Result<(), AsmError> {
        self.rip(&[0xe9], target, &[])
    }

    /// `call target`.
    pub fn call_address(&mut self, target: u64) -> Result<(), AsmError> {
        self.rip(&[0xe8], target, &[])
    }

    /// `jmp qword ptr [rip + ...]` through a word at `address`.
    pub fn jmp_through(&mut self, address: u64) -> Result<(), AsmError> {
        self.rip(&[0xff, 0x25], address, &[])
    }

    /// `sub dword ptr [rip + ...], amount`: changes flags.
    ///
    /// # Errors
    /// When the address is out of reach.
    pub fn count_down(&mut self, address: u64, amount: i8) -> Result<(), AsmError> {
        self.rip(&[0x83, 0x2d], address, &amount.to_le_bytes())
    }

    /// `push qword ptr [rip + datum]`.
    pub fn push_datum(&mut self, datum: Datum) -> Result<(), AsmError> {
        self.rip(&[0xff, 0x35], self.datum_address(datum), &[])
    }

    /// `cmp reg, qword ptr [rip + datum]`; `reg` is the number of the encoding.
    pub fn cmp_reg_datum(&mut self, reg: u8, datum: Datum) -> Result<(), AsmError> {
        let opcode = [0x48 | (reg >> 3) << 2, 0x3b, 0x05 | (reg & 7) << 3];
        self.rip(&opcode, self.datum_address(datum), &[])
    }

    /// `mov reg, qword ptr [rip + datum]`; `reg` is the number of the encoding.
    pub fn mov_reg_datum(&mut self, reg: u8, datum: Datum) -> Result<(), AsmError> {
        let opcode = [0x48 | (reg >> 3) << 2, 0x8b, 0x05 | (reg & 7) << 3];
        self.rip(&opcode, self.datum_address(datum), &[])
    }

    /// `mov reg, value` in its shortest form; leaves flags alone. `reg` is the number of the
    /// encoding.
    pub fn mov_reg_imm(&mut self, reg: u8, value: u64) {
        let high = reg >> 3;
        if let Ok(value) = u32::try_from(value) {
            if high != 0 {
                self.bytes(&[0x41]);
            }
            self.bytes(&[0xb8 | (reg & 7)]);
            self.bytes(&value.to_le_bytes());
        } else if let Ok(value) = i32::try_from(value as i64) {
            self.bytes(&[0x48 | high, 0xc7, 0xc0 | (reg & 7)]);
            self.bytes(&value.to_le_bytes());
        } else {
            self.bytes(&[0x48 | high, 0xb8 | (reg & 7)]);
            self.bytes(&value.to_le_bytes());
        }
    }

    /// Sets the status flags to `flags` and leaves registers and the red zone alone.
    pub fn set_flags(&mut self, flags: u32) {
        self.adjust_rsp(-128);
        self.bytes(&[0x68]); // push imm32
        self.bytes(&flags.to_le_bytes());
        self.bytes(&[0x9d]); // popfq
        self.adjust_rsp(128);
    }

    /// `mov ecx, dword ptr [rip + ...]`.
    pub fn load_ecx(&mut self, address: u64) -> Result<(), AsmError> {
        self.rip(&[0x8b, 0x0d], address, &[])
    }

    /// `cmp ecx, dword ptr [rip + ...]`.
    pub fn cmp_ecx(&mut self, address: u64) -> Result<(), AsmError> {
        self.rip(&[0x3b, 0x0d], address, &[])
    }

    /// `mov dword ptr [rip + ...], ecx`.
    pub fn store_ecx(&mut self, address: u64) -> Result<(), AsmError> {
        self.rip(&[0x89, 0x0d], address, &[])
    }

    /// `mov dword ptr [rip + ...], value`.
    pub fn store_imm32(&mut self, address: u64, value: u32) -> Result<(), AsmError> {
        self.rip(&[0xc7, 0x05], address, &value.to_le_bytes())
    }

    /// `lea rsp, [rsp + displacement]`: moves the stack pointer and leaves flags alone.
    pub fn adjust_rsp(&mut self, displacement: i32) {
        match i8::try_from(displacement) {
            Ok(short) => self.bytes(&[0x48, 0x8d, 0x64, 0x24, short as u8]),
            Err(_) => {
                self.bytes(&[0x48, 0x8d, 0xa4, 0x24]);
                self.bytes(&displacement.to_le_bytes());
            }
        }
    }

    /// `cmp dword ptr [memory operand of instruction + offset], value`.
    pub fn cmp_operand_imm32(&mut self, instruction: &Instruction, offset: u64, value: u32) -> Result<(), AsmError> {
        let mut cmp = Instruction::default();
        cmp.set_code(Code::Cmp_rm32_imm32);
        cmp.set_op0_kind(iced_x86::OpKind::Memory);
        cmp.set_memory_base(instruction.memory_base());
        cmp.set_memory_index(instruction.memory_index());
        cmp.set_memory_index_scale(instruction.memory_index_scale());
        cmp.set_segment_prefix(instruction.segment_prefix());
        let displacement = instruction.memory_displacement64().wrapping_add(offset);
        cmp.set_memory_displacement64(displacement);
        // A displacement that the sum has made too long for its old size gets the long form.
        let absolute = instruction.memory_base() == Register::RIP;
        let short = !absolute && i8::try_from(displacement as i64).is_ok();
        let size = match (absolute, instruction.memory_base(), instruction.memory_index()) {
            (true, ..) => 8,
            (_, Register::None, Register::None) => instruction.memory_displ_size(),
            (_, Register::None, _) => 8,
            _ if displacement == 0 && instruction.memory_displ_size() == 0 => 0,
            _ if short => 1,
            _ => 8,
        };
        cmp.set_memory_displ_size(size);
        cmp.set_op1_kind(iced_x86::OpKind::Immediate32);
        cmp.set_immediate32(value);
        cmp.set_ip(instruction.ip());
        self.reencode(&cmp)
    }

    /// Marks the place that a call returns to with the original return address: `nop dword ptr [rax + (address - here)]`,
    /// from which unwinders compute the caller (see [`crate::copy`]).
    pub fn return_marker(&mut self, return_address: u64) -> Result<(), AsmError> {
        let here = self.here();
        let distance = i32::try_from(return_address.wrapping_sub(here) as i64).map_err(|_| AsmError::Reach {
            from: here,
            to: return_address,
        })?;
        self.bytes(&[0x0f, 0x1f, 0x80]);
        self.bytes(&distance.to_le_bytes());
        Ok(())
    }

    /// Takes a `jcc` back that was emitted last. False if something else was.
    pub(crate) fn retract_jcc(&mut self, label: Label) -> bool {
        let end = self.code.len() as u32;
        if self.fixups.last() != Some(&(end.wrapping_sub(4), label)) {
            return false;
        }
        self.fixups.pop();
        self.code.truncate(end as usize - 6);
        true
    }

    /// New data words that begin at a multiple of 16 bytes.
    pub(crate) fn datum128(&mut self, value: u128) -> Datum {
        if !(self.data_base + self.data.len() as u64 * 8).is_multiple_of(16) {
            self.data.push(0);
        }
        let low = self.datum(value as u64);
        self.datum((value >> 64) as u64);
        low
    }

    /// Whether every place of the code reaches an address with a 32-bit displacement.
    pub(crate) fn reaches(&self, address: u64) -> bool {
        const SLACK: i64 = 1 << 26;
        let distance = address.wrapping_sub(self.base) as i64;
        (i64::from(i32::MIN) + SLACK..i64::from(i32::MAX) - SLACK).contains(&distance)
    }

    /// Resolves every label.
    pub fn finish(mut self) -> Result<Assembled, AsmError> {
        for (at, label) in &self.fixups {
            let (from, to) = (self.at(*at) + 4, self.address(*label)?);
            let displacement = i32::try_from(to.wrapping_sub(from) as i64).map_err(|_| AsmError::Reach { from, to })?;
            self.code[*at as usize..*at as usize + 4].copy_from_slice(&displacement.to_le_bytes());
        }
        for (datum, label) in &self.data_labels {
            self.data[datum.0 as usize] = self.address(*label)?;
        }
        Ok(Assembled {
            hot: self.cold.map_or(self.code.len(), |(from, _)| from as usize),
            code: self.code,
            data: self.data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

    fn text(code: &[u8], base: u64) -> Vec<String> {
        let mut formatter = IntelFormatter::new();
        Decoder::with_ip(64, code, base, DecoderOptions::NONE)
            .iter()
            .map(|i| {
                let mut s = String::new();
                formatter.format(&i, &mut s);
                s
            })
            .collect()
    }

    #[test]
    fn labels_resolve_forwards_and_backwards() {
        let mut asm = Asm::new(0x1000, 0x2000);
        let (back, forward) = (asm.label(), asm.label());
        asm.bind(back);
        asm.jcc(cond::NE, forward);
        asm.jmp(back);
        asm.bind(forward);
        asm.adjust_rsp(-128);
        asm.adjust_rsp(128);
        let done = asm.finish().unwrap();
        assert_eq!(
            text(&done.code, 0x1000),
            [
                "jne 000000000000100Bh",
                "jmp 0000000000001000h",
                "lea rsp,[rsp-80h]",
                "lea rsp,[rsp+80h]"
            ]
        );
    }

    #[test]
    fn cold_code_stands_elsewhere() {
        let mut asm = Asm::new(0x1000, 0x2000);
        let (hot, cold) = (asm.label(), asm.label());
        asm.bind(hot);
        asm.jcc(cond::NE, cold);
        asm.go_on_at(0x9000);
        asm.bind(cold);
        assert_eq!(asm.here(), 0x9000);
        asm.adjust_rsp(8);
        asm.jmp(hot);
        asm.jmp_address(0x1006).unwrap();
        assert_eq!(asm.address(cold).unwrap(), 0x9000);
        let done = asm.finish().unwrap();
        assert_eq!(text(&done.code[..done.hot], 0x1000), ["jne 0000000000009000h"]);
        assert_eq!(
            text(&done.code[done.hot..], 0x9000),
            ["lea rsp,[rsp+8]", "jmp 0000000000001000h", "jmp 0000000000001006h"]
        );
    }

    #[test]
    fn an_unbound_label_is_an_error() {
        let mut asm = Asm::new(0x1000, 0x2000);
        let label = asm.label();
        asm.jmp(label);
        assert!(matches!(asm.finish(), Err(AsmError::Unbound(0))));
    }

    #[test]
    fn what_is_out_of_reach_is_an_error() {
        let mut asm = Asm::new(0x1000, 0x2000);
        assert!(matches!(asm.jmp_address(0x1_0000_0000), Err(AsmError::Reach { .. })));
        assert!(asm.jmp_address(0x7fff_0000).is_ok());
    }

    #[test]
    fn operand_compares_reach_both_halves() {
        for (bytes, first, second) in [
            (
                &[0xff, 0x24, 0xc5, 0, 0x10, 0, 0][..],
                "cmp dword ptr [rax*8+1000h],5",
                "cmp dword ptr [rax*8+1004h],5",
            ),
            (&[0xff, 0x20], "cmp dword ptr [rax],5", "cmp dword ptr [rax+4],5"),
            (
                &[0xff, 0x60, 0x7e],
                "cmp dword ptr [rax+7Eh],5",
                "cmp dword ptr [rax+82h],5",
            ),
            (
                &[0xff, 0x24, 0xc2],
                "cmp dword ptr [rdx+rax*8],5",
                "cmp dword ptr [rdx+rax*8+4],5",
            ),
            (
                &[0xff, 0x25, 0x10, 0, 0, 0],
                "cmp dword ptr [1016h],5",
                "cmp dword ptr [101Ah],5",
            ),
            (
                &[0x41, 0xff, 0x65, 0x00],
                "cmp dword ptr [r13],5",
                "cmp dword ptr [r13+4],5",
            ),
            (
                &[0x64, 0xff, 0x24, 0x25, 8, 0, 0, 0],
                "cmp dword ptr fs:[8],5",
                "cmp dword ptr fs:[0Ch],5",
            ),
        ] {
            let instruction = Decoder::with_ip(64, bytes, 0x1000, DecoderOptions::NONE).decode();
            let mut asm = Asm::new(0x5000, 0x2000);
            asm.cmp_operand_imm32(&instruction, 0, 5).unwrap();
            asm.cmp_operand_imm32(&instruction, 4, 5).unwrap();
            let code = asm.finish().unwrap().code;
            let lines = text(&code, 0x5000);
            assert_eq!(lines, [first, second], "{bytes:x?}");
        }
    }

    #[test]
    fn alignment_is_reached_with_whole_instructions() {
        for start in 0..64u64 {
            let mut asm = Asm::new(0x1000 + start, 0x2000);
            asm.align(32);
            assert_eq!(asm.here() % 32, 0);
            let code = asm.finish().unwrap().code;
            assert!(
                text(&code, 0).iter().all(|t| t.contains("nop") || t == "xchg ax,ax"),
                "{:?}",
                text(&code, 0)
            );
        }
    }
}
