//! What the forward passes share: the trace that grows, and what is known about it.

use std::collections::BTreeSet;
use std::ops::Range;

use redmagic_ir::eval::Evaluator;
use redmagic_ir::opcode::Effects;
use redmagic_ir::{Builder, End, MemFlags, Op, Opcode, Reg, Snapshot, Trace, Type, Value, Via};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::equal::Equal;
use crate::forward::gvn::Numbers;
use crate::forward::memory::{self, Extents, Fact, MemoryState, Root};
use crate::forward::sizes::Shifts;
use crate::forward::stronger::Later;
use crate::forward::{Pass, Step};
use crate::graft::Inherited;

/// Memory that does not change.
pub trait ConstantMemory {
    /// The `size` bytes (1, 2, 4, 8 or 16) at `address` as a little-endian number, if they never change.
    fn load(&self, address: u64, size: u32) -> Option<Constant>;

    /// Whether no store of the program's own can reach any of the bytes: it would fault, or they are not the program's.
    /// They need not be constant.
    fn unwritten(&self, bytes: Range<u64>) -> bool {
        let _ = bytes;
        false
    }
}

/// A word of constant memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constant {
    /// Its bits.
    pub bits: u128,
    /// Whether the program declared it, so that it may end.
    pub declared: bool,
}

/// A word of constant memory that the program declared, and that a trace relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relied {
    /// Address of its first byte.
    pub address: u64,
    /// Bytes: 1, 2, 4, 8 or 16.
    pub size: u32,
    /// What it holds, as a little-endian number.
    pub bits: u128,
}

/// Nothing is constant.
impl ConstantMemory for () {
    fn load(&self, _: u64, _: u32) -> Option<Constant> {
        None
    }
}

/// What comes with a trace.
pub struct Input<'a> {
    /// Registers to guard at the entry, and their values there; left silently when they differ.
    pub entry: &'a [(Reg, u64)],
    /// Where such a guard leaves to.
    pub start_pc: u64,
    /// What each operation of the lifted trace gave when it was recorded; empty, or as long as the trace.
    pub observed: &'a [Option<u128>],
    /// What does not change.
    pub constants: &'a dyn ConstantMemory,
    /// Addresses of two 32-bit words: the current generation of constant memory, and the one that the trace is valid
    /// for. Without it declared memory is not relied on.
    pub generation: Option<(u64, u64)>,
    /// After how many turns a loop goes back to the entry of the trace.
    pub iterations: u64,
    /// Most copies of a short loop's body.
    pub unroll: usize,
    /// What the parent of a side trace knew, if the trace goes on where its parent is left.
    pub inherited: Option<&'a Inherited>,
    /// Addresses of anchors' calls: where an exit with `Via::Restart` stands.
    pub restart_pc: u64,
}

impl Default for Input<'_> {
    fn default() -> Self {
        Input {
            entry: &[],
            start_pc: 0,
            observed: &[],
            constants: &(),
            generation: None,
            iterations: 1024,
            unroll: 1,
            inherited: None,
            restart_pc: 0,
        }
    }
}

/// Why a trace cannot be optimised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// There is no such pass.
    #[error("there is no pass {0:?}; there are {list}", list = crate::PASSES.join(", "))]
    UnknownPass(String),
    /// A guard that always fails.
    #[error("the guard of operation {0} can never hold: the recording contradicts itself, or a pass is wrong")]
    Contradiction(usize),
    /// A loop whose body does not settle.
    #[error("the loop does not come to rest")]
    Unsettled,
}

/// What is known at a point of the chain, to go back to.
#[derive(Clone)]
pub(crate) struct Saved {
    b: Builder,
    observed: Vec<Option<u128>>,
    pub(crate) equal: Equal,
    feasible: FxHashMap<Value, u32>,
    not_null: FxHashSet<Value>,
    numbers: Numbers,
    memory: MemoryState,
    fresh: bool,
}

/// A state that the trace can be left in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Checkpoint {
    /// A snapshot of the new trace.
    Made(usize),
    /// One of the lifted trace. There is one for nearly every instruction, and few guards are put in: it is only made when it is wanted.
    Lifted(usize),
}

/// The state of the forward chain.
pub struct Cx<'a> {
    /// The new trace.
    pub b: Builder,
    /// What comes with the trace.
    pub input: &'a Input<'a>,
    /// What each operation of the new trace gave when it was recorded, if that is known.
    pub observed: Vec<Option<u128>>,
    /// Values that guards have shown to be equal to another one.
    pub equal: Equal,
    /// For flags: which combinations of CF, ZF, SF, OF and PF are possible (see [`crate::forward::known`]).
    pub feasible: FxHashMap<Value, u32>,
    /// Values that were loaded or stored through.
    pub not_null: FxHashSet<Value>,
    /// In a later turn of a loop: what values of the one before it stand for, as that was when it was recorded. (What was made in one
    /// turn is the old one in the next, and then is as far from what that makes as it was from the one before.)
    pub roles: FxHashMap<Value, u128>,
    /// Equal operations.
    pub numbers: Numbers,
    /// What memory holds.
    pub memory: MemoryState,
    /// The state before the current instruction, if the trace can still be left there: nothing of the instruction has been
    /// done yet that cannot be done again.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// The lifted trace that is being fed, and what its operations and constants have become.
    lifted_trace: Option<&'a Trace>,
    fed: Vec<Value>,
    fed_constants: Vec<Value>,
    /// In a loop: the operations before its head whose values change from turn to turn, as far as that is known.
    pub carried: FxHashSet<usize>,
    /// Operations that a loop does not repeat: comparisons of the generation, which are made anew when the loop goes back
    /// to the entry.
    pub once: FxHashSet<usize>,
    /// The operation of the lifted trace that is being fed, while that is.
    pub(crate) lifted: Option<usize>,
    /// Shifts that make the mask of a table.
    pub(crate) shifts: Shifts,
    /// What later guards say of the values of earlier ones.
    pub(crate) later: Later,
    /// How many operations stand before the last call, it included.
    barrier: usize,
    /// Whether the generation was compared since the program's own code last ran.
    pub fresh: bool,
    /// Constant memory that was relied on.
    relied_on: BTreeSet<Relied>,
    passes: &'a [&'static dyn Pass],
    /// By kind of operation: the passes that it concerns, one bit each, the first one lowest.
    concerned: Vec<u16>,
    eval: Evaluator,
    failed: Option<Failed>,
    /// The operation of the old trace that is being fed.
    at: usize,
}

impl<'a> Cx<'a> {
    /// An empty trace.
    pub fn new(passes: &'a [&'static dyn Pass], input: &'a Input<'a>) -> Cx<'a> {
        let bits = |code: &Opcode| {
            let of = |pass: &dyn Pass| u16::from(pass.concerns(*code));
            let all = passes.iter().enumerate();
            all.fold(0, |bits, (at, pass)| bits | of(*pass) << at)
        };
        Cx {
            b: Builder::new(),
            input,
            observed: Vec::new(),
            equal: Equal::default(),
            feasible: FxHashMap::default(),
            not_null: FxHashSet::default(),
            roles: FxHashMap::default(),
            numbers: Numbers::default(),
            memory: MemoryState::default(),
            checkpoint: None,
            lifted_trace: None,
            fed: Vec::new(),
            fed_constants: Vec::new(),
            carried: FxHashSet::default(),
            once: FxHashSet::default(),
            lifted: None,
            shifts: Shifts::default(),
            later: Later::default(),
            barrier: 0,
            fresh: false,
            relied_on: BTreeSet::new(),
            passes,
            concerned: Opcode::ALL.iter().map(bits).collect(),
            eval: Evaluator::new(),
            failed: None,
            at: 0,
        }
    }

    /// What is known now.
    pub(crate) fn save(&self) -> Saved {
        Saved {
            b: self.b.clone(),
            observed: self.observed.clone(),
            equal: self.equal.clone(),
            feasible: self.feasible.clone(),
            not_null: self.not_null.clone(),
            numbers: self.numbers.clone(),
            memory: self.memory.clone(),
            fresh: self.fresh,
        }
    }

    /// Goes back to what was known then. Constants that were made since keep their numbers.
    pub(crate) fn restore(&mut self, saved: &Saved) {
        let saved = saved.clone();
        let later = std::mem::replace(&mut self.b, saved.b);
        self.b.keep_constants(later);
        self.observed = saved.observed;
        self.equal = saved.equal;
        self.feasible = saved.feasible;
        self.not_null = saved.not_null;
        self.roles.clear();
        self.numbers = saved.numbers;
        self.memory = saved.memory;
        self.fresh = saved.fresh;
        self.checkpoint = None;
    }

    /// The declared constant memory that was relied on.
    pub fn relied_on(&self) -> BTreeSet<Relied> {
        self.relied_on.clone()
    }

    /// Notes that declared constant memory is relied on.
    pub fn rely_on(&mut self, word: Relied) {
        self.relied_on.insert(word);
    }

    /// What stands for a value: a constant or older value that a guard has shown it to equal.
    pub fn canonical(&self, value: Value) -> Value {
        self.equal.canonical(value)
    }

    /// The same for a part of an address, which may be absent.
    pub fn canonical_or_none(&self, value: Value) -> Value {
        if value.is_none() { value } else { self.canonical(value) }
    }

    fn canonical_op(&self, mut op: Op) -> Op {
        for arg in &mut op.args {
            if !arg.is_none() {
                *arg = self.canonical(*arg);
            }
        }
        op
    }

    /// The definition of a value, unless it is a constant, or its operands may not be used any more: what was computed
    /// before a call does not live across it, though its result may, in a register that the callee keeps. (The stack
    /// pointer does, and all that is a constant away from it.)
    pub fn def(&self, value: Value) -> Option<&Op> {
        let index = value.as_op()?;
        let op = self.b.trace().ops.get(index)?;
        (index >= self.barrier || op.code == Opcode::Reg || self.is_stack(value)).then_some(op)
    }

    /// Whether a value is a constant away from the stack pointer at the entry.
    fn is_stack(&self, mut value: Value) -> bool {
        let trace = self.b.trace();
        while let Some(op) = value.as_op().and_then(|index| trace.ops.get(index)) {
            match op.code {
                Opcode::Reg => return op.reg() == Some(Reg::RSP),
                Opcode::Add if trace.constant(op.args[1]).is_some() => value = op.args[0],
                _ => return false,
            }
        }
        false
    }

    /// The definition of a value if it is this operation.
    pub fn def_of(&self, value: Value, code: Opcode) -> Option<&Op> {
        self.def(value).filter(|op| op.code == code)
    }

    /// The bits of a constant.
    pub fn constant(&self, value: Value) -> Option<u128> {
        self.b.trace().constant(value)
    }

    /// The bits of an integer constant.
    pub fn int(&self, value: Value) -> Option<u64> {
        self.constant(value).map(|bits| bits as u64)
    }

    /// What a value was when it was recorded.
    pub fn seen(&self, value: Value) -> Option<u128> {
        match value.as_op() {
            Some(index) => {
                let role = self.roles.get(&value).copied();
                role.or_else(|| self.observed.get(index).copied().flatten())
            }
            None => self.constant(value),
        }
    }

    /// The result of an operation without effects on constants.
    pub fn fold_constants(&mut self, op: &Op) -> Option<Value> {
        let ty = op.result();
        // A constant would have to be made where it is wanted; undefined flags are there already.
        if matches!(ty, Type::Void | Type::Tuple) || op.code == Opcode::FlagsUndef {
            return None;
        }
        let bits = self.eval.fold(self.b.trace(), op)?;
        // Of undefined flags the constant has what the evaluator gives.
        Some(self.b.constant(ty, bits))
    }

    /// An operation with these operands.
    pub fn op(code: Opcode, ty: Type, imm: u8, operands: &[Value]) -> Op {
        let mut args = [Value::NONE; 4];
        args[..operands.len()].copy_from_slice(operands);
        Op {
            code,
            ty,
            imm,
            aux: 0,
            args,
        }
    }

    /// Feeds a new operation without immediates.
    pub fn make(&mut self, code: Opcode, ty: Type, operands: &[Value]) -> Value {
        self.feed(Cx::op(code, ty, 0, operands), None)
    }

    /// Feeds one operation, whose operands are values of the new trace, through the passes. `seen` is what it gave when it was
    /// recorded. Gives the value that stands for it; [`Value::NONE`] if it was dropped.
    pub fn feed(&mut self, op: Op, seen: Option<u128>) -> Value {
        let mut op = self.canonical_op(op);
        let mut left = self.concerned[op.code as usize];
        while left != 0 {
            let at = left.trailing_zeros();
            match self.passes[at as usize].visit(self, op, seen) {
                Step::Next(other) => op = self.canonical_op(other),
                Step::Is(value) => return self.canonical(value),
                Step::Gone => return Value::NONE,
            }
            left = self.concerned[op.code as usize] & (u16::MAX << 1 << at);
        }
        let value = self.b.push(op);
        self.observed.push(seen);
        let effects = op.code.effects();
        if effects.has(Effects::WRITE) || effects.has(Effects::BARRIER) {
            self.checkpoint = None;
        }
        let mut left = self.concerned[op.code as usize];
        while left != 0 {
            self.passes[left.trailing_zeros() as usize].appended(self, &op, value);
            left &= left - 1;
        }
        if op.code == Opcode::Call {
            self.forget_across(&op);
        }
        value
    }

    /// Feeds a guard whose snapshot is in terms of the new trace.
    pub fn guard(&mut self, condition: Value, expected: bool, snapshot: Snapshot) {
        let index = self.b.snapshot(snapshot);
        let code = if expected {
            Opcode::GuardTrue
        } else {
            Opcode::GuardFalse
        };
        let mut op = Cx::op(code, Type::Void, 0, &[condition]);
        op.aux = index as i32;
        self.feed(op, None);
    }

    /// The state before the current instruction: see [`Cx::checkpoint`].
    pub fn checkpoint(&self) -> Option<Snapshot> {
        match self.checkpoint? {
            Checkpoint::Made(at) => Some(self.b.trace().snapshots[at].clone()),
            Checkpoint::Lifted(at) => Some(self.fed_snapshot(&self.lifted_trace?.snapshots[at])),
        }
    }

    /// What a value of the lifted trace has become.
    fn fed_value(&self, value: Value) -> Value {
        match (value.as_op(), value.as_constant()) {
            (Some(index), _) => self.fed[index],
            (_, Some(index)) => self.fed_constants[index],
            _ => value,
        }
    }

    fn fed_snapshot(&self, old: &Snapshot) -> Snapshot {
        let mut new = old.clone();
        for (_, value) in &mut new.regs {
            *value = self.canonical(self.fed_value(*value));
        }
        new
    }

    /// From here on the trace can be left for `pc`, with the state of the entry.
    pub(crate) fn leave_at(&mut self, pc: u64) {
        let at = self.b.snapshot(Snapshot {
            pc,
            ..Snapshot::default()
        });
        self.checkpoint = Some(Checkpoint::Made(at));
    }

    /// Guards that an integer is `expected`, at the checkpoint; false if there is none.
    pub fn guard_equal(&mut self, value: Value, expected: u64) -> bool {
        let value = self.canonical(value);
        if self.int(value) == Some(expected) {
            return true;
        }
        let Some(snapshot) = self.checkpoint() else {
            return false;
        };
        let expected = self.b.int(self.b.type_of(value), expected);
        self.guard_same(value, expected, snapshot);
        true
    }

    /// Guards that two integers of one type are the same, leaving as the snapshot says.
    pub(crate) fn guard_same(&mut self, one: Value, two: Value, snapshot: Snapshot) {
        let flags = self.make(Opcode::FlagsSub, self.b.type_of(one), &[one, two]);
        let same = self.feed(
            Cx::op(Opcode::Cond, Type::Void, redmagic_ir::Cond::E.code(), &[flags]),
            Some(1),
        );
        self.guard(same, true, snapshot);
    }

    /// Makes sure that the generation of constant memory was compared; false if that cannot be done here.
    pub fn freshen(&mut self) -> bool {
        if self.fresh {
            return true;
        }
        let (Some((current, valid)), Some(mut snapshot)) = (self.input.generation, self.checkpoint()) else {
            return false;
        };
        snapshot.via = Via::Silent;
        let first = self.b.len();
        let [current, valid] = [current, valid].map(|address| {
            let address = self.b.int(Type::I64, address);
            self.make(Opcode::Load, Type::I32, &[address, Value::NONE, Value::NONE])
        });
        self.guard_same(current, valid, snapshot);
        self.once.extend(first..self.b.len());
        self.fresh = true;
        true
    }

    /// Ends what is known: the program's own code runs. Nothing but constants, the stack pointer and what the callee keeps
    /// may be live across it, so values from before are not to be found again.
    fn forget_across(&mut self, call: &Op) {
        self.numbers.clear();
        self.barrier = self.b.len();
        self.fresh = false;
        self.checkpoint = None;
        let snapshot = self.b.trace().snapshots[call.aux as usize].clone();
        memory::forget(self, &snapshot, call.abi());
    }

    /// The trace cannot go the way that it was recorded.
    pub fn contradiction(&mut self) {
        self.failed.get_or_insert(Failed::Contradiction(self.at));
    }

    /// Feeds one operation of another trace. `map` gives the new value of an old one.
    pub(crate) fn feed_from(
        &mut self,
        trace: &Trace,
        index: usize,
        map: &dyn Fn(&Cx<'_>, Value) -> Value,
        snapshot: &dyn Fn(&mut Cx<'_>, &Snapshot) -> Snapshot,
        seen: Option<u128>,
    ) -> Result<Value, Failed> {
        self.at = index;
        let mut op = trace.ops[index];
        for arg in &mut op.args {
            if !arg.is_none() {
                *arg = map(self, *arg);
            }
        }
        if let Some(old) = op.snapshot() {
            let new = snapshot(self, &trace.snapshots[old]);
            if op.code == Opcode::Checkpoint {
                memory::drop_below(self, new.get(Reg::RSP));
            }
            let at = self.b.snapshot(new);
            if op.code == Opcode::Checkpoint {
                self.checkpoint = Some(Checkpoint::Made(at));
            }
            op.aux = at as i32;
        }
        if op.code == Opcode::Native {
            let mut native = trace.natives[op.aux as usize].clone();
            for value in native.values_mut() {
                *value = self.canonical(map(self, *value));
            }
            // The builder has no way to add a native without its operation.
            self.checkpoint = None;
            self.memory.forget();
            let value = self.b.native(native);
            self.observed.push(None);
            return Ok(value);
        }
        let value = self.feed(op, seen);
        match self.failed.take() {
            Some(failed) => Err(failed),
            None => Ok(value),
        }
    }

    /// Feeds a whole trace; what has been fed then ends as it does.
    pub(crate) fn feed_trace(&mut self, trace: &'a Trace) -> Result<End, Failed> {
        self.b.reserve(trace.ops.len(), trace.snapshots.len());
        self.observed.reserve(trace.ops.len());
        self.lifted_trace = Some(trace);
        self.fed.reserve(trace.ops.len());
        if self.memory.extents.is_empty() {
            self.memory.extents = Extents::of(trace, self.input.observed);
        }
        self.guard_entry();
        for pass in self.passes {
            pass.entered(self, trace);
        }
        if let Some(inherited) = self.input.inherited {
            self.memory.facts.private_below = inherited.private_below;
            self.memory.facts.red_zone_known = inherited.red_zone_known;
        }
        let mut origins = trace.origins.iter().peekable();
        let constants = trace.constants.iter();
        self.fed_constants = constants.map(|c| self.b.constant(c.ty, c.bits)).collect();
        for (index, op) in trace.ops.iter().enumerate() {
            if let Some(inherited) = self.input.inherited.filter(|inherited| inherited.from == index) {
                self.inherit(inherited);
            }
            while let Some((_, pc)) = origins.next_if(|(first, _)| *first as usize <= index) {
                self.b.origin(*pc);
            }
            let seen = self.input.observed.get(index).copied().flatten();
            if op.code == Opcode::Reg {
                // Once for each register, also those that the entry guards have read.
                let reg = op.reg().expect("verified");
                let value = self.entry_register(reg, seen);
                self.fed.push(value);
                continue;
            }
            // Nobody goes over a trace again that becomes no loop.
            if op.code == Opcode::Checkpoint && self.memory.straight {
                let at = op.aux as usize;
                let rsp = trace.snapshots[at].get(Reg::RSP);
                memory::drop_below(self, rsp.map(|rsp| self.canonical(self.fed_value(rsp))));
                self.checkpoint = Some(Checkpoint::Lifted(at));
                self.fed.push(Value::NONE);
                continue;
            }
            let map = |cx: &Cx<'_>, value: Value| cx.fed_value(value);
            let snapshot = |cx: &mut Cx<'_>, old: &Snapshot| cx.fed_snapshot(old);
            self.lifted = Some(index);
            let value = self.feed_from(trace, index, &map, &snapshot, seen)?;
            self.fed.push(value);
        }
        self.lifted = None;
        let mut end = trace.end.clone();
        let map = |cx: &mut Cx<'_>, value: &mut Value| {
            *value = cx.canonical(cx.fed_value(*value));
        };
        match &mut end {
            End::Branch { cond, .. } => map(self, cond),
            End::Jump { target, .. } => map(self, target),
            _ => {}
        }
        if let Some(snapshot) = end.snapshot_mut() {
            for (_, value) in &mut snapshot.regs {
                map(self, value);
            }
        }
        Ok(end)
    }

    /// What was known before.
    fn inherit(&mut self, inherited: &Inherited) {
        for fact in &inherited.apart {
            let root = |root: &Root| {
                let parts = [root.base, root.index, root.seg];
                root.of(parts.map(|part| self.canonical_or_none(self.fed_value(part))))
            };
            let (a, b) = (root(&fact.a.0), root(&fact.b.0));
            self.memory.facts.add(Fact {
                at: self.b.len(),
                a: (a, fact.a.1, fact.a.2),
                b: (b, fact.b.1, fact.b.2),
            });
        }
        for (place, value) in &inherited.memory {
            let value = self.canonical(self.fed_value(*value));
            let old: FxHashMap<Value, Value> = place.root.parts().map(|part| (part, self.fed_value(part))).collect();
            if let Some(place) = place.map(self, &|part| old[&part]) {
                self.memory.add(&place, value, MemFlags::default());
            }
        }
    }

    /// The value of a register at the entry.
    pub(crate) fn entry_register(&mut self, reg: Reg, seen: Option<u128>) -> Value {
        let op = Cx::op(Opcode::Reg, reg.ty(), reg.index() as u8, &[]);
        let existing = self.b.trace().ops.iter().position(|other| *other == op);
        if let Some(index) = existing {
            if self.observed[index].is_none() {
                self.observed[index] = seen;
            }
            return self.canonical(Value::op(index));
        }
        self.feed(op, seen)
    }

    fn guard_entry(&mut self) {
        debug_assert!(self.b.is_empty());
        let input = self.input;
        for (reg, expected) in input.entry {
            let value = self.entry_register(*reg, Some(u128::from(*expected)));
            self.leave_at(input.start_pc);
            self.guard_equal(value, *expected);
        }
        self.checkpoint = None;
    }
}

/// What stands for a value of the old trace.
pub(crate) fn lookup(b: &mut Builder, trace: &Trace, values: &[Value], value: Value) -> Value {
    match (value.as_op(), value.as_constant()) {
        (Some(index), _) => values[index],
        (_, Some(index)) => {
            let constant = trace.constants[index];
            b.constant(constant.ty, constant.bits)
        }
        _ => value,
    }
}
