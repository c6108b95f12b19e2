//! Turnstiles: code that counts whoever passes on the way to a trace, as the shim does where there is none.
//!
//! ```text
//!   sub dword ptr [counter], weight
//!   jmp [destination]
//! ```
//! They stand where no flag is live: at anchors, which are calls, and at the head of a loop.

use crate::asm::{Asm, AsmError, Assembled};

/// Bytes of one turnstile, alignment included.
pub const BYTES: usize = 16;

/// Turnstiles to `destinations`, one after the other, which count down the 32-bit word at `counter`.
///
/// # Errors
/// When the counter or the data is out of reach of a 32-bit displacement.
pub fn compile(
    base: u64,
    data_base: u64,
    counter: u64,
    weight: i8,
    destinations: &[u64],
) -> Result<Assembled, AsmError> {
    let mut asm = Asm::new(base, data_base);
    for (at, destination) in destinations.iter().enumerate() {
        let destination = asm.datum(*destination);
        asm.count_down(counter, weight)?;
        asm.jmp_through(asm.datum_address(destination))?;
        while asm.here() < base + ((at + 1) * BYTES) as u64 {
            asm.bytes(&[0xcc]);
        }
    }
    asm.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counts_and_goes_on_to_its_own() {
        let (base, data, counter) = (0x10_0000, 0x20_0000, 0x30_0000);
        let done = compile(base, data, counter, 8, &[0x1234, 0x5678]).unwrap();
        assert_eq!(done.data, [0x1234, 0x5678]);
        assert_eq!(done.code.len(), 2 * BYTES);
        for (at, code) in done.code.chunks(BYTES).enumerate() {
            let ip = base + (at * BYTES) as u64;
            let mut decoder = iced_x86::Decoder::with_ip(64, code, ip, 0);
            let (sub, jmp) = (decoder.decode(), decoder.decode());
            assert_eq!((sub.mnemonic(), sub.immediate(1)), (iced_x86::Mnemonic::Sub, 8));
            assert_eq!(sub.memory_size().size(), 4);
            assert_eq!(sub.ip_rel_memory_address(), counter);
            assert_eq!(jmp.mnemonic(), iced_x86::Mnemonic::Jmp);
            assert_eq!(jmp.ip_rel_memory_address(), data + at as u64 * 8);
        }
    }
}
