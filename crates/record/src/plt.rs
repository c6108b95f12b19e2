//! What is behind a PLT stub.
//!
//! A stub is `jmp [GOT slot]`, with an `endbr64` or `bnd` prefix before it where those are enabled. Before the first call, with lazy
//! binding, the slot points at `push index; jmp PLT0` and the function is not known yet.

/// Memory of the program, as far as stubs need it.
pub(crate) trait View {
    /// Copies code into `buffer`; how many bytes there are.
    fn text(&mut self, address: u64, buffer: &mut [u8]) -> usize;
    /// The word at an address, if it can be read.
    fn word(&mut self, address: u64) -> Option<u64>;
}

/// Stubs that are followed in a row: a stub in the program may lead to one in a library.
const MAX_HOPS: usize = 4;
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// Where a call goes in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) address: u64,
    pub(crate) lazy: bool,
    /// The slot that the first stub jumps through.
    pub(crate) slot: Option<u64>,
}

/// Follows PLT stubs from `target`.
pub(crate) fn resolve(view: &mut impl View, target: u64) -> Resolved {
    let mut address = target;
    let mut first = None;
    for hop in 0..MAX_HOPS {
        let mut bytes = [0; 24];
        let have = view.text(address, &mut bytes);
        let bytes = &bytes[..have];
        let skip = if bytes.starts_with(&ENDBR64) { 4 } else { 0 };
        let rest = &bytes[skip..];
        // push imm32; [bnd] jmp rel32: only reached through a slot, or it could be any function's beginning.
        if hop > 0 && rest.first() == Some(&0x68) && matches!(rest.get(5..), Some([0xe9, ..] | [0xf2, 0xe9, ..])) {
            return Resolved {
                address,
                lazy: true,
                slot: first,
            };
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
        let Some(to) = view.word(slot) else { break };
        first.get_or_insert(slot);
        // Without -z now and endbr64, the unbound slot points right behind the jump.
        if to == next && bytes.get((next - address) as usize) == Some(&0x68) {
            return Resolved {
                address: to,
                lazy: true,
                slot: first,
            };
        }
        address = to;
    }
    Resolved {
        address,
        lazy: false,
        slot: first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redmagic_tracee::memory::Memory;

    impl View for Memory {
        fn text(&mut self, address: u64, buffer: &mut [u8]) -> usize {
            self.read_partial(address, buffer).unwrap_or(0)
        }
        fn word(&mut self, address: u64) -> Option<u64> {
            self.read_u64(address).ok()
        }
    }

    /// Lays `stub` and a slot (at byte 48) out in our own memory; the slot holds what `slot` makes of the stub's address.
    fn resolve_stub(stub: &[u8], slot: impl FnOnce(u64) -> u64) -> (Resolved, u64) {
        let mut block = Box::new([0x90u8; 64]);
        let base = block.as_ptr() as u64;
        block[..stub.len()].copy_from_slice(stub);
        block[48..56].copy_from_slice(&slot(base).to_le_bytes());
        (resolve(&mut Memory::new(std::process::id() as i32), base), base)
    }

    fn resolved(address: u64, lazy: bool, slot: Option<u64>) -> Resolved {
        Resolved { address, lazy, slot }
    }

    /// A readable address that holds no stub.
    fn function() -> u64 {
        static CODE: [u8; 32] = [0x90; 32];
        CODE.as_ptr() as u64
    }

    #[test]
    fn bound_stubs_lead_to_the_function() {
        // jmp [rip + 42]; then with bnd; then with endbr64 and bnd.
        let ibt = [0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 37, 0, 0, 0];
        let stubs: [&[u8]; 3] = [&[0xff, 0x25, 42, 0, 0, 0], &[0xf2, 0xff, 0x25, 41, 0, 0, 0], &ibt];
        for stub in stubs {
            let (found, base) = resolve_stub(stub, |_| function());
            assert_eq!(found, resolved(function(), false, Some(base + 48)));
        }
    }

    #[test]
    fn unbound_stubs_are_lazy() {
        // jmp [rip + 42]; push 0; jmp PLT0, the slot pointing at the push.
        let classic = [0xff, 0x25, 42, 0, 0, 0, 0x68, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0];
        let (found, base) = resolve_stub(&classic, |base| base + 6);
        assert_eq!(found, resolved(base + 6, true, Some(base + 48)));
        // .plt.sec with its slot pointing at endbr64; push 0; bnd jmp PLT0 in .plt (here at byte 16).
        let mut ibt = vec![
            0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 37, 0, 0, 0, 0x90, 0x90, 0x90, 0x90, 0x90,
        ];
        ibt.extend([0xf3, 0x0f, 0x1e, 0xfa, 0x68, 0, 0, 0, 0, 0xf2, 0xe9, 0, 0, 0, 0]);
        let (found, base) = resolve_stub(&ibt, |base| base + 16);
        assert_eq!(found, resolved(base + 16, true, Some(base + 48)));
    }

    #[test]
    fn what_is_no_stub_is_itself() {
        let (found, base) = resolve_stub(&[0x55, 0x48, 0x89, 0xe5], |_| 0);
        assert_eq!(found, resolved(base, false, None));
        // A function that begins with a push of a constant and a jump is no unbound stub.
        let (found, base) = resolve_stub(&[0x68, 0, 0, 0, 0, 0xe9, 0, 0, 0, 0], |_| 0);
        assert_eq!(found, resolved(base, false, None));
        // A slot that cannot be read, and a stub that leads to itself.
        let (found, base) = resolve_stub(&[0xff, 0x25, 0, 0, 0, 0x80], |_| 0);
        assert_eq!(found, resolved(base, false, None));
        assert!(!resolve_stub(&[0xff, 0x25, 42, 0, 0, 0], |base| base).0.lazy);
    }
}
