//! What the values of a lifted trace were when it was recorded.
//!
//! The trace is evaluated once from the recorded registers, on memory that is put together from the recorded accesses:
//! whatever was read before it was written must have been there. After a call, which may have written anything, what is read
//! again is patched in. Nothing depends on the answers being right: they choose what is promoted and guarded.

use std::borrow::Cow;

use redmagic_ir::eval::{Evaluator, Fault, Host, Left, Memory, Regs};
use redmagic_ir::{Abi, Opcode, Reg, Trace, Value};
use redmagic_opt::forward::memory::{Place, place};
use redmagic_opt::graft::Grafted;
use redmagic_record::recording::{
    AccessKind, LibraryCall, LibraryFn, MemAccess, Recording, RegisterFile, ShimExecution, Step,
};
use rustc_hash::FxHashMap;

use crate::lift;

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

/// Bytes by address, eight to an entry.
#[derive(Debug, Clone, Default)]
pub struct Bytes(FxHashMap<u64, Word>);

/// Eight bytes, of which some are there.
#[derive(Debug, Clone, Copy, Default)]
struct Word {
    bytes: [u8; 8],
    /// Which, one bit each.
    there: u8,
}

impl Bytes {
    /// The byte at an address, if there is one.
    pub fn get(&self, address: u64) -> Option<u8> {
        let word = self.0.get(&(address >> 3))?;
        let at = (address & 7) as usize;
        (word.there >> at & 1 != 0).then_some(word.bytes[at])
    }

    /// Puts a byte at an address.
    pub fn insert(&mut self, address: u64, byte: u8) {
        let word = self.0.entry(address >> 3).or_default();
        let at = (address & 7) as usize;
        word.bytes[at] = byte;
        word.there |= 1 << at;
    }

    /// All that is there.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u8)> + '_ {
        self.0.iter().flat_map(|(number, word)| {
            let there = (0..8u8).filter(|at| word.there >> at & 1 != 0);
            there.map(move |at| (number << 3 | u64::from(at), word.bytes[usize::from(at)]))
        })
    }
}

/// A set of addresses, eight to an entry.
#[derive(Default)]
struct Addresses(FxHashMap<u64, u8>);

impl Addresses {
    fn contains(&self, address: u64) -> bool {
        self.0
            .get(&(address >> 3))
            .is_some_and(|bits| bits >> (address & 7) & 1 != 0)
    }

    /// False if it was there.
    fn insert(&mut self, address: u64) -> bool {
        let bits = self.0.entry(address >> 3).or_default();
        let bit = 1 << (address & 7);
        let new = *bits & bit == 0;
        *bits |= bit;
        new
    }

    fn remove(&mut self, address: u64) {
        if let Some(bits) = self.0.get_mut(&(address >> 3)) {
            *bits &= !(1 << (address & 7));
        }
    }
}

/// Since the start or the last call: which bytes of memory are known.
#[derive(Default)]
struct Model {
    /// By the trace itself.
    written: Addresses,
    /// From a reader that saw what was there before.
    shown: Addresses,
    /// Bytes that were copied from others, of which it was not known what they were.
    copies: FxHashMap<u64, u64>,
}

impl Model {
    fn set(&mut self, address: u64) {
        self.written.insert(address);
        self.copies.remove(&address);
    }

    /// A byte is shown to a reader: the address of one that was there before and is known now.
    fn shown(&mut self, address: u64) -> Option<u64> {
        if self.written.contains(address) {
            return None;
        }
        let from = self.copies.get(&address).copied().unwrap_or(address);
        self.shown.insert(from).then_some(from)
    }

    /// A function of the library was called whose effects the trace has.
    fn library(&mut self, call: &LibraryCall) {
        let [to, from, length] = call.args;
        let source = |model: &Model, at: u64| {
            let at = from.wrapping_add(at);
            let copied = call.function != LibraryFn::Memset && !model.written.contains(at);
            copied.then(|| model.copies.get(&at).copied().unwrap_or(at))
        };
        let sources: Vec<Option<u64>> = (0..length).map(|at| source(self, at)).collect();
        for (at, source) in (0..length).zip(sources) {
            let at = to.wrapping_add(at);
            self.set(at);
            if let Some(source) = source {
                self.written.remove(at);
                self.copies.insert(at, source);
            }
        }
    }
}

/// The memory and the calls of a recording.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Bytes by address. What no access has shown is 0.
    pub bytes: Bytes,
    /// For each call: the registers after it, and what is found in memory then.
    calls: Vec<(Regs, Vec<(u64, u8)>)>,
    made: usize,
}

impl Recorded {
    /// Of a whole recording.
    pub fn of(recording: &Recording) -> Recorded {
        let mut recorded = Recorded {
            bytes: Bytes::default(),
            calls: Vec::new(),
            made: 0,
        };
        let mut model = Model::default();
        for step in &recording.steps {
            let (inst, after) = match step {
                Step::Inst(inst) => (inst, None),
                Step::Residual(residual) => match &residual.library {
                    Some(call) if lift::effect(call).is_some() => {
                        model.library(call);
                        continue;
                    }
                    _ => (&residual.call, Some(&residual.after)),
                },
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
                model = Model::default();
            }
        }
        recorded
    }

    /// Makes the 32-bit word at `valid` what the one at `current` is, at any time: a recording that ran
    /// through another trace's code shows the generation, but not the word that this trace compares it with.
    pub fn agree(&mut self, (current, valid): (u64, u64)) {
        for i in 0..4 {
            let byte = self.bytes.get(current + i).unwrap_or(0);
            self.bytes.insert(valid + i, byte);
        }
        for (_, found) in &mut self.calls {
            let shown: Vec<(u64, u8)> = found
                .iter()
                .filter(|(address, _)| (current..current + 4).contains(address))
                .map(|(address, byte)| (valid + (address - current), *byte))
                .collect();
            found.extend(shown);
        }
    }

    fn access(&mut self, model: &mut Model, access: &MemAccess) {
        for (i, byte) in access.value.iter().enumerate() {
            let address = access.addr.wrapping_add(i as u64);
            match access.kind {
                AccessKind::Write => model.set(address),
                AccessKind::Read | AccessKind::ReadWrite => {
                    if let Some(address) = model.shown(address) {
                        match self.calls.last_mut() {
                            Some((_, found)) => found.push((address, *byte)),
                            None => {
                                self.bytes.insert(address, *byte);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Memory for Recorded {
    fn load(&mut self, addr: u64, out: &mut [u8]) -> Result<(), Fault> {
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = self.bytes.get(addr.wrapping_add(i as u64)).unwrap_or(0);
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
    let mut straight = Cow::Borrowed(trace);
    // As far as it goes.
    if let Some(native) = trace.ops.iter().position(|op| op.code == Opcode::Native) {
        let straight = straight.to_mut();
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
pub fn start(recording: &Recording) -> Machine {
    Machine {
        regs: registers(&recording.start),
        recorded: Recorded::of(recording),
        found: true,
        changed: false,
    }
}

/// The state of the machine in which a grafted trace is entered, as far as the trace depends on it: what its homes must hold
/// for the registers and the memory of the original code to be what was recorded. It is found from there backwards,
/// through the operations of the prologue.
pub fn machine(grafted: &Grafted, recording: &Recording) -> Machine {
    let Machine { mut regs, recorded, .. } = start(recording);
    let rsp = Reg::RSP.index();
    regs.gpr[rsp] = regs.gpr[rsp].wrapping_sub_signed(grafted.inherited.stack);
    let mut machine = Search {
        trace: &grafted.trace,
        values: vec![None; grafted.inherited.from],
        original: recorded.bytes.clone(),
        regs,
        recorded,
    };
    let mut prologue = grafted.trace.clone();
    prologue.ops.truncate(grafted.inherited.from);
    prologue.end = redmagic_ir::End::Exit {
        snapshot: redmagic_ir::Snapshot::default(),
    };
    for (index, op) in prologue.ops.iter().enumerate() {
        if op.code == Opcode::Reg && op.reg() == Some(Reg::RSP) {
            machine.values[index] = Some(u128::from(machine.regs.gpr[rsp]));
        }
    }
    let observed = grafted.observed[..grafted.inherited.from].iter().enumerate();
    for (index, bits) in observed.filter_map(|(index, seen)| Some((index, (*seen)?))) {
        machine.settle(Value::op(index), bits, 0);
    }
    let stores = prologue.ops.iter().filter(|op| op.code == Opcode::Store);
    let mut facts: Vec<(Place, Value)> = stores.filter_map(|op| Some((place(op)?, op.args[0]))).collect();
    facts.extend(&grafted.inherited.memory);
    // Each round may settle the base of another fact.
    for _ in 0..16 {
        let before = machine.known();
        machine.forward(&prologue);
        for (place, value) in &facts {
            if let Some(bits) = machine.recorded_at(place, grafted.trace.type_of(*value)) {
                machine.settle(*value, bits, 0);
            }
        }
        if machine.known() == before {
            break;
        }
    }
    let changed = grafted.inherited.memory.iter().any(|(place, value)| {
        let ty = grafted.trace.type_of(*value);
        let found = machine.recorded_at(place, ty).zip(machine.value(*value));
        found.is_some_and(|(found, known)| found != known & ty.mask())
    });
    // What was not read when it was recorded, but is known to be there: a store of it again may be gone.
    for (place, value) in &grafted.inherited.memory {
        let address = place.address(&|value| machine.value(value).map(|bits| bits as u64));
        let bytes = grafted.trace.type_of(*value).bytes() as usize;
        if let (Some(address), Some(bits)) = (address, machine.value(*value)) {
            for (i, byte) in bits.to_le_bytes().into_iter().enumerate().take(bytes) {
                let at = address.wrapping_add(i as u64);
                if machine.recorded.bytes.get(at).is_none() {
                    machine.recorded.bytes.insert(at, byte);
                }
            }
        }
    }
    let leaves = prologue.ops.iter().enumerate();
    let mut leaves = leaves.filter(|(_, op)| matches!(op.code, Opcode::Reg | Opcode::Load));
    Machine {
        found: leaves.all(|(index, _)| machine.values[index].is_some()),
        changed,
        regs: machine.regs,
        recorded: machine.recorded,
    }
}

/// A state to evaluate a trace from.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The registers.
    pub regs: Regs,
    /// The memory.
    pub recorded: Recorded,
    /// Whether all of it is known.
    pub found: bool,
    /// Whether the recording found something else in memory than the parent knew to be there. A signal handler or another thread
    /// may have changed it in between; otherwise the parent is wrong.
    pub changed: bool,
}

/// A machine whose state is being found.
struct Search<'a> {
    trace: &'a Trace,
    /// Of the operations of the prologue, as far as they are known.
    values: Vec<Option<u128>>,
    /// What was in memory.
    original: Bytes,
    regs: Regs,
    recorded: Recorded,
}

impl Search<'_> {
    fn known(&self) -> usize {
        self.values.iter().flatten().count()
    }

    fn value(&self, value: Value) -> Option<u128> {
        match value.as_op() {
            Some(index) => self.values.get(index).copied().flatten(),
            None => self.trace.constant(value),
        }
    }

    /// What was recorded at an address, if that is known.
    fn recorded_at(&self, place: &Place, ty: redmagic_ir::Type) -> Option<u128> {
        let address = place.address(&|value| self.value(value).map(|bits| bits as u64))?;
        let mut bytes = [0; 16];
        for (i, byte) in bytes.iter_mut().enumerate().take(ty.bytes() as usize) {
            *byte = self.original.get(address.wrapping_add(i as u64))?;
        }
        Some(u128::from_le_bytes(bytes))
    }

    /// Results of operations whose operands are known.
    fn forward(&mut self, prologue: &Trace) {
        let mut evaluator = Evaluator::new();
        if evaluator
            .run(prologue, &mut self.regs.clone(), &mut self.recorded.clone())
            .is_err()
        {
            return;
        }
        let values = evaluator.values().to_vec();
        for (index, op) in prologue.ops.iter().enumerate() {
            let leaf = matches!(op.code, Opcode::Reg | Opcode::Load | Opcode::Store);
            let known = |value: &Value| value.is_none() || self.value(*value).is_some();
            if !leaf && self.values[index].is_none() && op.operands().iter().all(known) {
                self.values[index] = Some(values[index]);
            }
        }
    }

    /// A value must be this: so what it is made from must be that.
    fn settle(&mut self, value: Value, bits: u128, depth: usize) {
        use Opcode as O;
        let Some(index) = value.as_op().filter(|index| *index < self.values.len()) else {
            return;
        };
        if self.values[index].is_some() || depth > 16 {
            return;
        }
        let op = &self.trace.ops[index];
        self.values[index] = Some(bits);
        let known = |at: usize| self.value(op.args[at]).map(|bits| bits as u64);
        let word = bits as u64;
        match op.code {
            O::Reg => self.regs.set(op.reg().expect("verified"), bits),
            // Of the parent's frame, in which a value has its home: a prologue makes no others.
            O::Load => {
                let address = self.regs.gpr[Reg::RSP.index()].wrapping_add_signed(i64::from(op.aux));
                for (i, byte) in bits.to_le_bytes().into_iter().enumerate().take(op.ty.bytes() as usize) {
                    self.recorded.bytes.insert(address.wrapping_add(i as u64), byte);
                }
            }
            // What is above may be anything: only for the register, which may turn out to be known in full.
            O::Trunc | O::Extract => {
                let whole = op.args[0].as_op().map(|index| &self.trace.ops[index]);
                if let Some(reg) = whole.and_then(|op| op.reg()).filter(|_| known(0).is_none()) {
                    self.regs.set(reg, bits);
                }
            }
            O::Zext | O::Sext | O::VZext => {
                let mask = self.trace.type_of(op.args[0]).mask();
                self.settle(op.args[0], bits & mask, depth + 1);
            }
            O::Add if op.ty == redmagic_ir::Type::I64 => match (known(0), known(1)) {
                (None, Some(other)) => self.settle(op.args[0], word.wrapping_sub(other).into(), depth + 1),
                (Some(other), None) => self.settle(op.args[1], word.wrapping_sub(other).into(), depth + 1),
                _ => {}
            },
            O::Sub if op.ty == redmagic_ir::Type::I64 => match (known(0), known(1)) {
                (None, Some(other)) => self.settle(op.args[0], word.wrapping_add(other).into(), depth + 1),
                (Some(other), None) => self.settle(op.args[1], other.wrapping_sub(word).into(), depth + 1),
                _ => {}
            },
            O::Lea => {
                let shift = u32::from(op.imm & 3);
                let rest = word.wrapping_sub(i64::from(op.aux) as u64);
                let part = |at: usize| if op.args[at].is_none() { Some(0) } else { known(at) };
                match (part(0), part(1)) {
                    (None, Some(index)) => {
                        self.settle(op.args[0], rest.wrapping_sub(index << shift).into(), depth + 1);
                    }
                    (Some(base), None) => {
                        self.settle(op.args[1], (rest.wrapping_sub(base) >> shift).into(), depth + 1);
                    }
                    _ => {}
                }
            }
            O::Shl if op.ty == redmagic_ir::Type::I64 => {
                if let Some(count) = known(1) {
                    self.settle(op.args[0], (word >> (count & 63)).into(), depth + 1);
                }
            }
            _ => {}
        }
    }
}

/// Evaluates the lifted trace and an optimised one from the recorded state, and says how their ends differ. Traces with native
/// operations, which nobody executes, are not compared. A loop is not: it has no end.
pub fn difference(lifted: &Trace, optimised: &Trace, recording: &Recording, machine: Machine) -> Option<String> {
    let run = |trace: &Trace, machine: Machine| {
        let Machine {
            mut regs, mut recorded, ..
        } = machine;
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
        let other = found.get(address).unwrap_or(0);
        (other != byte && !stack.contains(&address))
            .then(|| format!("the byte at {address:#x} is {other:#x} and not {byte:#x}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_of_a_copy_was_at_its_source() {
        let mut model = Model::default();
        let copy = |to, from| LibraryCall {
            function: LibraryFn::Memmove,
            args: [to, from, 8],
        };
        // The source is overwritten before the copy is read.
        model.library(&copy(0x108, 0x100));
        model.set(0x100);
        assert_eq!(
            [0x108, 0x108, 0x100].map(|at| model.shown(at)),
            [Some(0x100), None, None]
        );
        // A copy of a copy; and one of what the trace has written.
        model.library(&copy(0x200, 0x109));
        assert_eq!(model.shown(0x200), Some(0x101));
        model.library(&copy(0x300, 0x100));
        assert_eq!(model.shown(0x300), None);
        model.library(&LibraryCall {
            function: LibraryFn::Memset,
            args: [u64::MAX, 0, 1],
        });
        assert_eq!(model.shown(u64::MAX), None);
    }
}
