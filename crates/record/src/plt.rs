//! What is behind a PLT stub.
//!
//! A stub is `jmp [GOT slot]`, with an `endbr64` or `bnd` prefix before it where those are enabled. Before the first call, with lazy
//! binding, the slot points at `push index; jmp PLT0` and the function is not known yet.

use redmagic_tracee::memory::{Memory, TextCache};

/// Stubs that are followed in a row: a stub in the program may lead to one in a library.
const MAX_HOPS: usize = 4;
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// Where a call goes in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) address: u64,
    pub(crate) lazy: bool,
}

/// Follows PLT stubs from `target`.
pub(crate) fn resolve(text: &mut TextCache, memory: Memory, target: u64) -> Resolved {
    let mut address = target;
    for hop in 0..MAX_HOPS {
        let mut bytes = [0; 24];
        let Ok(have) = text.read(address, &mut bytes) else {
            break;
        };
        let bytes = &bytes[..have];
        let skip = if bytes.starts_with(&ENDBR64) { 4 } else { 0 };
        let rest = &bytes[skip..];
        // push imm32; [bnd] jmp rel32: only reached through a slot, or it could be any function's beginning.
        if hop > 0 && rest.first() == Some(&0x68) && matches!(rest.get(5..), Some([0xe9, ..] | [0xf2, 0xe9, ..])) {
            return Resolved { address, lazy: true };
        }
        let prefix = usize::from(rest.first() == Some(&0xf2));
        let Some([0xff, 0x25, displacement @ ..]) = rest.get(prefix..) else {
            break;
        };
        let Some(displacement) = displacement.first_chunk::<4>() else {
            break;
        };
        let next = address + (skip + prefix + 6) as u64;
        let slot = next.wrapping_add_signed(i64::from(i32::from_le_bytes(*displacement)));
        let Ok(to) = memory.read_u64(slot) else { break };
        // Without -z now and endbr64, the unbound slot points right behind the jump.
        if to == next && bytes.get((next - address) as usize) == Some(&0x68) {
            return Resolved {
                address: to,
                lazy: true,
            };
        }
        address = to;
    }
    Resolved { address, lazy: false }
}
