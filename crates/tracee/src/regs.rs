//! The register file of a stopped thread.

use std::ops::{Index, IndexMut};

/// Number of general registers.
pub const GPR_COUNT: usize = 16;

/// One table: fields of [`Gprs`] in x86 encoding order first (so that `regs[n]` is the register that an
/// instruction encodes as `n`), then the rest, each with the kernel's name for it.
macro_rules! gprs {
    (indexed { $($index:literal $name:ident $kernel:ident),* $(,)? } other { $($oname:ident $okernel:ident),* $(,)? }) => {
        /// General registers, instruction pointer, flags and segment state of one thread.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[allow(missing_docs)] // each field is the register of that name
        pub struct Gprs { $(pub $name: u64,)* $(pub $oname: u64,)* }

        impl From<libc::user_regs_struct> for Gprs {
            fn from(r: libc::user_regs_struct) -> Self {
                Gprs { $($name: r.$kernel,)* $($oname: r.$okernel,)* }
            }
        }

        impl From<Gprs> for libc::user_regs_struct {
            fn from(r: Gprs) -> Self {
                libc::user_regs_struct { $($kernel: r.$name,)* $($okernel: r.$oname,)* }
            }
        }

        impl Index<usize> for Gprs {
            type Output = u64;
            /// The register that instructions encode as `index` (0 rax, 1 rcx, ... 15 r15). Panics above 15.
            #[inline]
            fn index(&self, index: usize) -> &u64 {
                match index { $($index => &self.$name,)* _ => panic!("general register {index} of 16") }
            }
        }

        impl IndexMut<usize> for Gprs {
            #[inline]
            fn index_mut(&mut self, index: usize) -> &mut u64 {
                match index { $($index => &mut self.$name,)* _ => panic!("general register {index} of 16") }
            }
        }
    };
}

gprs! {
    indexed {
        0 rax rax, 1 rcx rcx, 2 rdx rdx, 3 rbx rbx, 4 rsp rsp, 5 rbp rbp, 6 rsi rsi, 7 rdi rdi,
        8 r8 r8, 9 r9 r9, 10 r10 r10, 11 r11 r11, 12 r12 r12, 13 r13 r13, 14 r14 r14, 15 r15 r15,
    }
    other {
        rip rip, rflags eflags, fs_base fs_base, gs_base gs_base, orig_rax orig_rax,
        cs cs, ss ss, ds ds, es es, fs fs, gs gs,
    }
}

impl Gprs {
    /// The sixteen general registers in encoding order.
    #[inline]
    pub fn array(&self) -> [u64; GPR_COUNT] {
        std::array::from_fn(|i| self[i])
    }
}

/// The XSAVE area of a thread (x87, SSE, AVX, AVX-512, ...), in the standard, uncompacted format of NT_X86_XSTATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XState(pub Vec<u8>);

/// Largest XSAVE area asked for; AVX-512 needs 2.7 KB, AMX 11 KB.
pub(crate) const XSTATE_MAX: usize = 16 * 1024;

impl XState {
    const MXCSR: usize = 24;
    const XMM: usize = 160;

    /// The SSE control and status word; `None` when the area is shorter than the legacy region.
    pub fn mxcsr(&self) -> Option<u32> {
        let bytes = self.0.get(Self::MXCSR..Self::MXCSR + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The low 128 bits of vector register `index` (0..=15).
    pub fn xmm(&self, index: usize) -> Option<u128> {
        let at = Self::XMM + 16 * index;
        let bytes = self.0.get(at..at + 16).filter(|_| index < 16)?;
        Some(u128::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Sets the low 128 bits of vector register `index` (0..=15), and marks SSE state as in use. False if there is none.
    #[must_use]
    pub fn set_xmm(&mut self, index: usize, value: u128) -> bool {
        const XSTATE_BV: usize = 512;
        let at = Self::XMM + 16 * index;
        if index >= 16 || self.0.len() < XSTATE_BV + 8 {
            return false;
        }
        self.0[at..at + 16].copy_from_slice(&value.to_le_bytes());
        self.0[XSTATE_BV] |= 0b10;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_is_the_encoding() {
        let regs = Gprs {
            rax: 1,
            rbx: 2,
            rsp: 3,
            r8: 4,
            r15: 5,
            ..Gprs::default()
        };
        assert_eq!((regs[0], regs[3], regs[4], regs[8], regs[15]), (1, 2, 3, 4, 5));
    }

    #[test]
    fn kernel_form_round_trips() {
        let mut regs = Gprs {
            rip: 77,
            rflags: 0x246,
            fs_base: 5,
            orig_rax: u64::MAX,
            ..Gprs::default()
        };
        for i in 0..GPR_COUNT {
            regs[i] = 100 + i as u64;
        }
        assert_eq!(Gprs::from(libc::user_regs_struct::from(regs)), regs);
    }
}
