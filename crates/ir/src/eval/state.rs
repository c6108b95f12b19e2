//! The machine that traces are evaluated on: registers, memory, and what the evaluator cannot do itself.

use crate::flags;
use crate::reg::Reg;
use crate::trace::{Abi, Native};

/// The registers of a thread. The default is all zero but MXCSR, which is as at process start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regs {
    /// General registers in x86 order (rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8...).
    pub gpr: [u64; 16],
    /// The next instruction.
    pub rip: u64,
    /// All of `rflags`.
    pub rflags: u64,
    /// Which status flags in `rflags` are architecturally undefined; an answer of the evaluator.
    pub undefined_flags: u32,
    /// Base of fs.
    pub fs_base: u64,
    /// Base of gs.
    pub gs_base: u64,
    /// Vector registers, bits 0 to 127.
    pub xmm: [u128; 16],
    /// Vector registers, bits 128 to 255.
    pub ymm_high: [u128; 16],
    /// Rounding mode, exception masks and sticky exceptions of SSE.
    pub mxcsr: u32,
}

impl Default for Regs {
    fn default() -> Self {
        Regs {
            gpr: [0; 16],
            rip: 0,
            rflags: 0x202,
            undefined_flags: 0,
            fs_base: 0,
            gs_base: 0,
            xmm: [0; 16],
            ymm_high: [0; 16],
            mxcsr: 0x1f80,
        }
    }
}

impl Regs {
    /// The bits of a register; `flags` as in a value of that type.
    #[inline]
    pub fn get(&self, reg: Reg) -> u128 {
        let i = reg.index();
        if i < 16 {
            u128::from(self.gpr[i])
        } else if i < 32 {
            self.xmm[i - 16]
        } else if i < 48 {
            self.ymm_high[i - 32]
        } else {
            u128::from(match reg {
                Reg::FLAGS => u64::from(self.undefined_flags) << 32 | (self.rflags & u64::from(flags::STATUS)),
                Reg::SYSFLAGS => self.rflags & !u64::from(flags::STATUS),
                Reg::FS_BASE => self.fs_base,
                _ => self.gs_base,
            })
        }
    }

    /// Sets a register from the bits of a value.
    #[inline]
    pub fn set(&mut self, reg: Reg, bits: u128) {
        let i = reg.index();
        let low = bits as u64;
        if i < 16 {
            self.gpr[i] = low;
        } else if i < 32 {
            self.xmm[i - 16] = bits;
        } else if i < 48 {
            self.ymm_high[i - 32] = bits;
        } else {
            let status = u64::from(flags::STATUS);
            match reg {
                Reg::FLAGS => {
                    self.rflags = (self.rflags & !status) | (low & status);
                    self.undefined_flags = (low >> 32) as u32;
                }
                Reg::SYSFLAGS => self.rflags = (self.rflags & status) | (low & !status),
                Reg::FS_BASE => self.fs_base = low,
                _ => self.gs_base = low,
            }
        }
    }
}

/// Why an evaluation cannot go on. Registers are as before it; stores that came first have been made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Memory that cannot be accessed (a page fault or a non-canonical address).
    Memory {
        /// The first byte of the access.
        addr: u64,
        /// Its bytes.
        size: u32,
        /// Whether it is a write.
        write: bool,
    },
    /// An address that must be a multiple of the operand's size and is not: a general protection fault.
    Misaligned {
        /// The address.
        addr: u64,
    },
    /// A divide error.
    Divide,
    /// A floating-point operation while MXCSR unmasks an exception. What then happens (a trap, other sticky bits, exact
    /// underflow) is not modelled: let the machine do it.
    Unmasked,
    /// Reserved bits in a value for MXCSR: a general protection fault.
    Mxcsr,
    /// The host does not execute this native operation or call.
    Unsupported,
    /// The fuel ran out.
    Fuel,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Memory { addr, size, write } => {
                let what = if *write { "store to" } else { "load from" };
                write!(f, "{size}-byte {what} {addr:#x} faults")
            }
            Fault::Misaligned { addr } => write!(f, "misaligned access to {addr:#x}"),
            Fault::Divide => f.write_str("divide error"),
            Fault::Unmasked => f.write_str("floating-point exceptions are unmasked"),
            Fault::Mxcsr => f.write_str("reserved bits set in MXCSR"),
            Fault::Unsupported => f.write_str("not executed by this host"),
            Fault::Fuel => f.write_str("out of fuel"),
        }
    }
}

impl std::error::Error for Fault {}

/// Memory, as loads and stores of 1 to 16 bytes see it. Every access of a trace comes here, in program order, and
/// so an implementation can also log them.
pub trait Memory {
    /// Fills `out` from `addr`.
    fn load(&mut self, addr: u64, out: &mut [u8]) -> Result<(), Fault>;
    /// Writes `bytes` at `addr`: all of them, or none and a fault.
    fn store(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Fault>;
}

/// Memory, and the execution of what the IR does not model. The default executes nothing.
pub trait Host: Memory {
    /// Executes one native operation: `regs` holds its inputs (and the rest of the entry state), and is to hold its outputs.
    fn native(&mut self, native: &Native, regs: &mut Regs) -> Result<(), Fault> {
        let _ = (native, regs);
        Err(Fault::Unsupported)
    }

    /// Executes a residual call: `regs` is the state at the callee's first instruction (`rip` is the target), and is to
    /// hold the state after its return to `return_to`.
    fn call(&mut self, abi: Abi, return_to: u64, regs: &mut Regs) -> Result<(), Fault> {
        let _ = (abi, return_to, regs);
        Err(Fault::Unsupported)
    }
}

/// Sparse memory for tests: ranges that were mapped; all else faults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SparseMemory {
    pages: std::collections::BTreeMap<u64, Vec<u8>>,
}

impl SparseMemory {
    /// No memory at all.
    pub fn new() -> SparseMemory {
        SparseMemory::default()
    }

    /// Maps `bytes` at `addr`. Ranges must not touch or overlap; a second one at the same address replaces the first.
    pub fn map(&mut self, addr: u64, bytes: Vec<u8>) {
        self.pages.insert(addr, bytes);
    }

    /// The mapped ranges in order.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pages.iter().map(|(a, b)| (*a, b.as_slice()))
    }

    fn range(&mut self, addr: u64, size: usize) -> Option<&mut [u8]> {
        let (start, bytes) = self.pages.range_mut(..=addr).next_back()?;
        let at = usize::try_from(addr - start).ok()?;
        bytes.get_mut(at..at.checked_add(size)?)
    }
}

impl Memory for SparseMemory {
    fn load(&mut self, addr: u64, out: &mut [u8]) -> Result<(), Fault> {
        let fault = Fault::Memory {
            addr,
            size: out.len() as u32,
            write: false,
        };
        out.copy_from_slice(self.range(addr, out.len()).ok_or(fault)?);
        Ok(())
    }

    fn store(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        let fault = Fault::Memory {
            addr,
            size: bytes.len() as u32,
            write: true,
        };
        self.range(addr, bytes.len()).ok_or(fault)?.copy_from_slice(bytes);
        Ok(())
    }
}

impl Host for SparseMemory {}
