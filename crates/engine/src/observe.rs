//! What the values of a lifted trace were when it was recorded.
//!
//! The trace is evaluated once from the recorded registers, on memory that is put together from the recorded accesses:
//! whatever was read before it was written must have been there. After a call, which may have written anything, what is read
//! again is patched in. Nothing depends on the answers being right: they choose what is promoted and guarded.

use redmagic_ir::eval::{Evaluator, Fault, Host, Left, Memory, Regs};
use redmagic_ir::{Abi, Opcode, Reg, Trace};
use redmagic_record::recording::{AccessKind, MemAccess, Recording, RegisterFile, ShimExecution, Step};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Offsets in the standard format of XSAVE (Intel SDM volume 1, 13.4).
const MXCSR: usize = 24;
const XMM: usize = 160;
const YMM_HIGH: usize = 576;

/// The registers as the evaluator has them.
pub fn registers(from: &RegisterFile) -> Regs {
    let word = |at: usize| {
        let bytes = from.xsave.get(at..at + 16).and_then(|b| b.try_into().ok());
        u128::from_le_bytes(bytes.unwrap_or([0; 16]))
    };
    let mxcsr = from.xsave.get(MXCSR..MXCSR + 4).and_then(|b| b.try_into().ok());
    Regs {
        gpr: from.gpr,
        rip: from.rip,
        rflags: from.rflags,
        undefined_flags: 0,
        fs_base: from.fs_base,
        gs_base: from.gs_base,
        xmm: std::array::from_fn(|i| word(XMM + i * 16)),
        ymm_high: std::array::from_fn(|i| word(YMM_HIGH + i * 16)),
        mxcsr: mxcsr.map_or(0x1f80, u32::from_le_bytes),
    }
}

/// The memory and the calls of a recording.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Bytes by address. What no access has shown is 0.
    pub bytes: HashMap<u64, u8>,
    /// For each call: the registers after it, and what is found in memory then.
    calls: Vec<(Regs, Vec<(u64, u8)>)>,
    made: usize,
}

impl Recorded {
    /// Of a whole recording.
    pub fn of(recording: &Recording) -> Recorded {
        let mut recorded = Recorded {
            bytes: HashMap::new(),
            calls: Vec::new(),
            made: 0,
        };
        // What is known of each byte: its value, unless the trace computes it.
        let mut model: HashMap<u64, Option<u8>> = HashMap::new();
        for step in &recording.steps {
            let (inst, after) = match step {
                Step::Inst(inst) => (inst, None),
                Step::Residual(residual) => (&residual.call, Some(&residual.after)),
                Step::Shim(call) => match &call.action {
                    ShimExecution::Executed(after) => (&call.call, Some(&**after)),
                    ShimExecution::Skipped => (&call.call, None),
                },
                Step::Native(_) => break,
            };
            for access in &inst.mem {
                recorded.access(&mut model, access);
            }
            if let Some(after) = after {
                recorded.calls.push((registers(after), Vec::new()));
                model.clear();
            }
        }
        recorded
    }

    fn access(&mut self, model: &mut HashMap<u64, Option<u8>>, access: &MemAccess) {
        for (i, byte) in access.value.iter().enumerate() {
            let address = access.addr.wrapping_add(i as u64);
            match access.kind {
                AccessKind::Write => {
                    model.insert(address, Some(*byte));
                }
                AccessKind::Read | AccessKind::ReadWrite => {
                    if let Entry::Vacant(unknown) = model.entry(address) {
                        unknown.insert(Some(*byte));
                        match self.calls.last_mut() {
                            Some((_, found)) => found.push((address, *byte)),
                            None => {
                                self.bytes.insert(address, *byte);
                            }
                        }
                    }
                    if access.kind == AccessKind::ReadWrite {
                        model.insert(address, None);
                    }
                }
            }
        }
    }
}

impl Memory for Recorded {
    fn load(&mut self, addr: u64, out: &mut [u8]) -> Result<(), Fault> {
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = self.bytes.get(&addr.wrapping_add(i as u64)).copied().unwrap_or(0);
        }
        Ok(())
    }

    fn store(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        for (i, byte) in bytes.iter().enumerate() {
            self.bytes.insert(addr.wrapping_add(i as u64), *byte);
        }
        Ok(())
    }
}

impl Host for Recorded {
    fn call(&mut self, _: Abi, _: u64, regs: &mut Regs) -> Result<(), Fault> {
        let (after, found) = self.calls.get(self.made).ok_or(Fault::Unsupported)?;
        let (rsp, rip) = (regs.gpr[4], regs.rip);
        *regs = after.clone();
        regs.gpr[4] = rsp;
        regs.rip = rip;
        for (address, byte) in found {
            self.bytes.insert(*address, *byte);
        }
        self.made += 1;
        Ok(())
    }
}

/// The value of each operation; `None` from the first native operation on, which nobody executes.
pub fn observe(trace: &Trace, recording: &Recording) -> Vec<Option<u128>> {
    let mut recorded = Recorded::of(recording);
    let mut regs = registers(&recording.start);
    let mut evaluator = Evaluator::new();
    let mut straight = trace.clone();
    // As far as it goes.
    if let Some(native) = trace.ops.iter().position(|op| op.code == Opcode::Native) {
        straight.ops.truncate(native);
        straight.end = redmagic_ir::End::Exit {
            snapshot: redmagic_ir::Snapshot::default(),
        };
    }
    let result = evaluator.run(&straight, &mut regs, &mut recorded);
    let reached = match result {
        Ok(Left::Guard(at)) => {
            tracing::debug!(at, "the recording leaves its own trace");
            at
        }
        Ok(_) => straight.ops.len(),
        Err(fault) => {
            tracing::debug!(%fault, "the recording cannot be evaluated");
            0
        }
    };
    let values = evaluator.values();
    (0..trace.ops.len()).map(|i| (i < reached).then(|| values[i])).collect()
}

/// Evaluates the lifted trace and an optimised one from the recorded state, and says how their ends differ. Traces with native
/// operations, which nobody executes, are not compared. A loop is not: it has no end.
pub fn difference(lifted: &Trace, optimised: &Trace, recording: &Recording) -> Option<String> {
    let run = |trace: &Trace| {
        let mut recorded = Recorded::of(recording);
        let mut regs = registers(&recording.start);
        let left = Evaluator::new().run(trace, &mut regs, &mut recorded);
        (left, regs, recorded.bytes)
    };
    if [lifted, optimised]
        .iter()
        .any(|trace| trace.ops.iter().any(|op| op.code == Opcode::Native))
    {
        return None;
    }
    let (expected_left, expected, memory) = run(lifted);
    if !matches!(expected_left, Ok(Left::End(_) | Left::Repeat | Left::Link(_))) {
        // The recording itself cannot be followed: other threads, or memory that was not recorded.
        return None;
    }
    let (left, regs, found) = run(optimised);
    if left != expected_left {
        return Some(format!("it leaves by {left:?} and not by {expected_left:?}"));
    }
    for reg in Reg::all() {
        let mut mask = u128::MAX;
        if reg == Reg::FLAGS {
            // At an anchor's call flags are dead.
            let dead = !matches!(expected_left, Ok(Left::End(_)));
            mask = if dead { 0 } else { u128::from(!expected.undefined_flags) };
        }
        if (regs.get(reg) ^ expected.get(reg)) & mask != 0 {
            return Some(format!(
                "{reg} is {:#x} and not {:#x}",
                regs.get(reg),
                expected.get(reg)
            ));
        }
    }
    // Below the red zone nothing is alive, at an anchor's call nothing below the stack pointer.
    let rsp = expected.gpr[Reg::RSP.index()];
    let stack = rsp.wrapping_sub(1 << 20)..rsp;
    memory.iter().find_map(|(address, byte)| {
        let other = found.get(address).copied().unwrap_or(0);
        (other != *byte && !stack.contains(address))
            .then(|| format!("the byte at {address:#x} is {other:#x} and not {byte:#x}"))
    })
}
