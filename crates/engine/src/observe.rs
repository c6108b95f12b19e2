//! What the values of a lifted trace were when it was recorded.
//!
//! The trace is evaluated once from the recorded registers, on memory that is put together from the recorded accesses:
//! whatever was read before it was written must have been there. After a call, which may have written anything, what is read
//! again is patched in. Nothing depends on the answers being right: they choose what is promoted and guarded.

use redmagic_ir::eval::{Evaluator, Fault, Host, Left, Memory, Regs};
use redmagic_ir::{Abi, Opcode, Reg, Trace, Value};
use redmagic_opt::graft::Grafted;
use redmagic_record::recording::{AccessKind, MemAccess, Recording, RegisterFile, ShimExecution, Step};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

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

/// The state that a recording starts in.
pub fn start(recording: &Recording) -> (Regs, Recorded) {
    (registers(&recording.start), Recorded::of(recording))
}

/// What a home is known to hold.
fn settle(
    grafted: &Grafted,
    value: Value,
    bits: u128,
    known: &mut HashSet<Value>,
    regs: &mut Regs,
    bytes: &mut HashMap<u64, u8>,
) {
    let trace = &grafted.trace;
    let Some(op) = value.as_op().map(|index| &trace.ops[index]) else {
        return;
    };
    match op.code {
        Opcode::Reg => {
            let reg = op.reg().expect("verified");
            regs.set(reg, bits);
            known.insert(value);
        }
        // What is above may be anything.
        Opcode::Trunc | Opcode::Extract if !known.contains(&op.args[0]) => {
            let Some(reg) = op.args[0].as_op().and_then(|index| trace.ops[index].reg()) else {
                return;
            };
            regs.set(reg, bits);
            known.insert(value);
        }
        Opcode::Load => {
            let address = regs.gpr[Reg::RSP.index()].wrapping_add_signed(i64::from(op.aux));
            for (i, byte) in bits.to_le_bytes().into_iter().enumerate().take(op.ty.bytes() as usize) {
                bytes.insert(address.wrapping_add(i as u64), byte);
            }
            known.insert(value);
        }
        _ => {}
    }
}

/// The state of the machine in which a grafted trace is entered, as far as the trace depends on it: what its homes must hold
/// for the registers and the memory of the original code to be what was recorded.
pub fn machine(grafted: &Grafted, recording: &Recording) -> (Regs, Recorded) {
    let (mut regs, mut recorded) = start(recording);
    let original = recorded.bytes.clone();
    let rsp = Reg::RSP.index();
    regs.gpr[rsp] = regs.gpr[rsp].wrapping_sub_signed(grafted.inherited.private_below);
    let mut known: HashSet<Value> = HashSet::new();
    let from = grafted.inherited.from;
    for (index, seen) in grafted.observed[..from].iter().enumerate() {
        let op = &grafted.trace.ops[index];
        if let Some(bits) = seen.filter(|_| op.code != Opcode::Reg || op.reg() != Some(Reg::RSP)) {
            settle(grafted, Value::op(index), bits, &mut known, &mut regs, &mut recorded.bytes);
        }
    }
    let mut prologue = grafted.trace.clone();
    prologue.ops.truncate(from);
    prologue.end = redmagic_ir::End::Exit {
        snapshot: redmagic_ir::Snapshot::default(),
    };
    let mut facts: Vec<(Value, i32, Value)> = Vec::new();
    for op in prologue.ops.iter().filter(|op| op.code == Opcode::Store) {
        facts.push((op.args[1], op.aux, op.args[0]));
    }
    for (place, value) in &grafted.inherited.memory {
        facts.extend(place.root.only_base().map(|base| (base, place.disp, *value)));
    }
    // Each round may settle the base of another fact.
    for _ in 0..8 {
        let before = known.len();
        let mut evaluator = Evaluator::new();
        let (mut regs_then, mut then) = (regs.clone(), recorded.clone());
        if evaluator.run(&prologue, &mut regs_then, &mut then).is_err() {
            break;
        }
        let values = evaluator.values().to_vec();
        for (base, disp, value) in &facts {
            let at = match base.as_op() {
                Some(index) => values[index] as u64,
                None => grafted.trace.constant(*base).unwrap_or(0) as u64,
            };
            let at = at.wrapping_add_signed(i64::from(*disp));
            let size = u64::from(grafted.trace.type_of(*value).bytes());
            let bytes: Option<Vec<u8>> = (0..size).map(|i| original.get(&at.wrapping_add(i)).copied()).collect();
            if let Some(bytes) = bytes.filter(|_| !known.contains(value)) {
                let mut wide = [0; 16];
                wide[..bytes.len()].copy_from_slice(&bytes);
                let bits = u128::from_le_bytes(wide);
                settle(grafted, *value, bits, &mut known, &mut regs, &mut recorded.bytes);
            }
        }
        if known.len() == before {
            break;
        }
    }
    (regs, recorded)
}

/// Evaluates the lifted trace and an optimised one from the recorded state, and says how their ends differ. Traces with native
/// operations, which nobody executes, are not compared. A loop is not: it has no end.
pub fn difference(
    lifted: &Trace,
    optimised: &Trace,
    recording: &Recording,
    machine: (Regs, Recorded),
) -> Option<String> {
    let run = |trace: &Trace, (mut regs, mut recorded): (Regs, Recorded)| {
        let left = Evaluator::new().run(trace, &mut regs, &mut recorded);
        (left, regs, recorded.bytes)
    };
    if [lifted, optimised]
        .iter()
        .any(|trace| trace.ops.iter().any(|op| op.code == Opcode::Native))
    {
        return None;
    }
    let (expected_left, expected, memory) = run(lifted, start(recording));
    if !matches!(expected_left, Ok(Left::End(_) | Left::Repeat | Left::Link(_))) {
        // The recording itself cannot be followed: other threads, or memory that was not recorded.
        return None;
    }
    let (left, regs, found) = run(optimised, machine);
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
