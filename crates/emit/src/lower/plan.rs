//! What is known of a trace before a byte is emitted: which operations matter, which values share a register, what is
//! computed where it is used, and where each value is used last.
//!
//! Values have dense numbers ([`Id`]): operations, then entry registers that no `reg` reads, then constants.
//! Operation `i` is at position `i + 1`; position 0 is before the trace, and [`Plan::end`] is its end.

mod updates;
mod uses;

use rustc_hash::FxHashSet;

use redmagic_ir::flags::STATUS;
use redmagic_ir::{Abi, Constant, End, Op, Opcode, Reg, Snapshot, Trace, Type, Value};

use super::LowerError;
use super::encode::R;
use super::flagsim::FlagState;
use crate::copy::Start;
use updates::Update;

/// The number of a value.
pub(super) type Id = usize;

/// Where a value can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nowhere: no result.
    None,
    /// In a general register: integers, truth values (0 or 1 in the low byte), images of flags. What is above the type's
    /// width is not defined, but see [`Plan::clean`].
    Gpr,
    /// In a vector register: floats in the lowest lane, what is above them is not defined.
    Xmm,
    /// Nowhere: it is computed where it is used.
    Lazy,
    /// A constant.
    Constant,
    /// The entry's rsp and this.
    Stack(i64),
    /// A register that the trace leaves alone: upper halves of vectors, segment bases, system flags.
    Pinned(Reg),
    /// Several registers.
    Tuple,
}

/// What becomes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing.
    Dead,
    /// It is computed in its place.
    Emit,
    /// It is a memory operand of the operation at this position.
    Folded(u32),
    /// It is computed by the exits that want it.
    Sunk,
}

/// What an operand is wanted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// In a register.
    Plain,
    /// In a register or in memory of this many bytes.
    Memory(u32),
    /// A truth value as a condition.
    Condition,
    /// A truth value as the carry flag.
    Carry,
    /// Flags in the processor, at least these.
    Flags(u32),
}

/// Where a value is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The position.
    pub at: u32,
    /// Not by the operation there, but by an exit that leaves there.
    pub exit: bool,
}

impl Place {
    pub(super) const fn main(at: u32) -> Place {
        Place { at, exit: false }
    }

    pub(super) const fn exit(at: u32) -> Place {
        Place { at, exit: true }
    }
}

pub(super) struct Plan<'a> {
    pub trace: &'a Trace,
    /// Values have numbers below this.
    pub ids: usize,
    /// Whether an operation matters.
    pub live: Vec<bool>,
    /// The value whose register an operation's result shares.
    pub root: Vec<u32>,
    /// By number.
    pub kind: Vec<Kind>,
    /// By operation.
    pub mode: Vec<Mode>,
    /// By number: bits of the register that may be other than 0.
    pub clean: Vec<u8>,
    /// By number: the position of its last use, 0: none.
    pub last: Vec<u32>,
    /// By number: first of its uses in `chain` that want it in a register, in order.
    first: Vec<u32>,
    chain: Vec<(u32, u32)>,
    /// By number: a register that it is wanted in.
    pub hint: Vec<Option<R>>,
    /// By number: the phi whose next value it is.
    pub next_of: Vec<u32>,
    /// By position: what of the flags is there already.
    pub flags: FlagState,
    /// The operation, and what it is read with, of calls and the like.
    pub gets: Vec<(usize, Reg, usize)>,
    pub head: Option<usize>,
    /// Phis that matter, with their next values.
    pub phis: Vec<(usize, Value)>,
    /// Whether exits keep the flags of the entry if they do not say otherwise.
    pub entry_flags: bool,
    /// The operation that reads an entry register.
    entry: [u32; Reg::COUNT],
    /// How long a chain of sunk operations a value is in.
    depth: Vec<u8>,
    fold_at: Vec<u32>,
    fold_taken: Vec<bool>,
    /// How many operations before each write memory.
    writes: Vec<u32>,
    /// Position of the first call, after which flags are dead and entry registers gone.
    first_call: u32,
    /// By number: how many other flags these are computed from, one by one.
    flag_depth: Vec<u8>,
    /// By operation: a condition that something wants as a value.
    valued: Vec<bool>,
    /// By operation: an `and` of which only the flags are wanted, but for exits.
    pub tested: Vec<bool>,
    /// Phis that begin as the stack pointer, but go on as something else.
    moving: FxHashSet<usize>,
    /// By operation: a store that is one instruction with what is stored.
    pub updates: Vec<Option<Update>>,
    /// By operation: what is part of such a store.
    updated: Vec<bool>,
}

pub(super) const NONE: u32 = u32::MAX;

impl<'a> Plan<'a> {
    pub(super) fn new(trace: &'a Trace, start: Start) -> Result<Plan<'a>, LowerError> {
        let n = trace.ops.len();
        let ids = n + Reg::COUNT + trace.constants.len();
        let mut plan = Plan {
            trace,
            ids,
            live: vec![false; n],
            root: (0..n as u32).collect(),
            kind: vec![Kind::None; ids],
            mode: vec![Mode::Dead; n],
            clean: vec![128; ids],
            last: vec![0; ids],
            first: vec![NONE; ids],
            chain: Vec::new(),
            hint: vec![None; ids],
            next_of: vec![NONE; ids],
            flags: FlagState::default(),
            gets: Vec::new(),
            head: None,
            phis: Vec::new(),
            entry_flags: false,
            entry: [NONE; Reg::COUNT],
            depth: vec![0; ids],
            fold_at: vec![0; ids],
            fold_taken: vec![false; n + 2],
            writes: Vec::with_capacity(n + 2),
            first_call: u32::MAX,
            flag_depth: vec![0; ids],
            valued: vec![false; n],
            tested: vec![false; n],
            moving: FxHashSet::default(),
            updates: vec![None; n],
            updated: vec![false; n],
        };
        plan.mark_live();
        for (i, op) in trace.ops.iter().enumerate() {
            if op.code == Opcode::Reg && plan.live[i] {
                plan.entry[usize::from(op.imm)] = i as u32;
            }
        }
        plan.mark_valued();
        plan.mark_tested();
        loop {
            plan.gets.clear();
            plan.writes.clear();
            for i in 0..n {
                plan.root[i] = i as u32;
                plan.clean[i] = 128;
                plan.classify(i);
            }
            if !plan.find_moving_phis()? {
                break;
            }
        }
        for reg in Reg::all() {
            plan.kind[n + reg.index()] = register_kind(reg);
        }
        for i in 0..trace.constants.len() {
            plan.kind[n + Reg::COUNT + i] = Kind::Constant;
        }
        plan.find_updates();
        loop {
            plan.flags = FlagState::simulate(&plan);
            if !plan.drop_updates() {
                break;
            }
        }
        plan.entry_flags = start == Start::Exit && plan.wants_entry_flags();
        plan.walk_back();
        Ok(plan)
    }

    /// The position of the end.
    pub(super) fn end(&self) -> u32 {
        self.trace.ops.len() as u32 + 1
    }

    /// The position of the loop head; beyond the end if there is none.
    pub(super) fn head_position(&self) -> u32 {
        self.head.map_or(u32::MAX, |head| head as u32 + 1)
    }

    pub(super) fn op(&self, id: Id) -> Option<&'a Op> {
        self.trace.ops.get(id)
    }

    /// The number of the value that an operand is, or shares the register of.
    pub(super) fn id(&self, value: Value) -> Id {
        match (value.as_op(), value.as_constant()) {
            (Some(i), _) => self.root[i] as usize,
            (_, Some(i)) => self.trace.ops.len() + Reg::COUNT + i,
            _ => unreachable!("verified: an operand is present"),
        }
    }

    /// The number of the value of a register at the entry.
    pub(super) fn entry(&self, reg: Reg) -> Id {
        match self.entry[reg.index()] {
            NONE => self.trace.ops.len() + reg.index(),
            op => op as usize,
        }
    }

    /// The constant that a value is.
    pub(super) fn constant(&self, id: Id) -> Option<Constant> {
        let first = self.trace.ops.len() + Reg::COUNT;
        self.trace.constants.get(id.checked_sub(first)?).copied()
    }

    /// The type that a register or spill slot holds.
    pub(super) fn ty(&self, id: Id) -> Type {
        let n = self.trace.ops.len();
        match self.op(id) {
            Some(op) => op.result(),
            None if id < n + Reg::COUNT => Reg::from_index(id - n).expect("below the count").ty(),
            None => self.trace.constants[id - n - Reg::COUNT].ty,
        }
    }

    /// The position at which a value comes to be.
    pub(super) fn defined(&self, id: Id) -> u32 {
        match self.op(id) {
            Some(op) if op.code == Opcode::Reg => 0,
            Some(op) if op.code == Opcode::Get => self.id(op.args[0]) as u32 + 1,
            Some(_) => id as u32 + 1,
            None => 0,
        }
    }

    /// Whether it is there before the loop, and unchanged by it.
    pub(super) fn invariant(&self, id: Id) -> bool {
        self.defined(id) < self.head_position()
    }

    /// Whether it is a phi that only exits want.
    pub(super) fn phi_of_exits(&self, id: Id) -> bool {
        self.op(id).is_some_and(|op| op.code == Opcode::Phi) && self.first[id] == NONE
    }

    /// The first place in the chain of uses, to be moved on by [`Plan::next_use`].
    pub(super) fn first_use(&self, id: Id) -> u32 {
        self.first[id]
    }

    /// The next use in a register at or after `position`.
    pub(super) fn next_use(&self, cursor: &mut u32, position: u32) -> Option<u32> {
        while *cursor != NONE {
            let (at, next) = self.chain[*cursor as usize];
            if at >= position {
                return Some(at);
            }
            *cursor = next;
        }
        None
    }

    /// The snapshot of an operation.
    pub(super) fn snapshot(&self, op: &Op) -> &'a Snapshot {
        &self.trace.snapshots[op.aux as usize]
    }

    /// The lowest place that the trace's own stack pointer gets to, or that is stored to, from that of the entry.
    pub(super) fn lowest_stack(&self) -> i64 {
        let mut lowest = 0;
        let stack = |value: Value| match value.as_op().map(|_| self.kind[self.id(value)]) {
            Some(Kind::Stack(offset)) => offset,
            _ => 0,
        };
        for snapshot in self.trace.snapshots.iter().chain(self.trace.end.snapshot()) {
            if let Some(rsp) = snapshot.get(Reg::RSP) {
                lowest = lowest.min(stack(rsp));
            }
            for store in snapshot.stores.iter().filter(|store| stack(store.base) != 0) {
                lowest = lowest.min(stack(store.base).saturating_add(i64::from(store.disp)));
            }
        }
        for (i, op) in self.trace.ops.iter().enumerate() {
            if op.code == Opcode::Store && self.live[i] && !op.args[1].is_none() && op.args[2].is_none() {
                let base = stack(op.args[1]);
                if matches!(
                    op.args[1].as_op().map(|_| self.kind[self.id(op.args[1])]),
                    Some(Kind::Stack(_))
                ) {
                    lowest = lowest.min(base.saturating_add(i64::from(op.aux)));
                }
            }
        }
        lowest
    }

    /// Whether anything after an operation writes memory.
    pub(super) fn writes_after(&self, i: usize) -> bool {
        self.writes.last() != Some(&self.writes[i])
    }

    fn mark_live(&mut self) {
        let trace = self.trace;
        let mut work: Vec<Value> = Vec::new();
        let wants = |snapshot: &Snapshot, work: &mut Vec<Value>| {
            work.extend(snapshot.values());
        };
        for (i, op) in trace.ops.iter().enumerate() {
            if op.code == Opcode::LoopHead {
                self.head = Some(i);
            }
            if op.code == Opcode::Call {
                self.first_call = self.first_call.min(i as u32 + 1);
            }
            if has_effect(op.code) {
                work.push(Value::op(i));
            }
        }
        match &trace.end {
            End::Branch { cond: value, .. } | End::Jump { target: value, .. } => work.push(*value),
            _ => {}
        }
        if let Some(snapshot) = trace.end.snapshot() {
            wants(snapshot, &mut work);
        }
        let carried: &[(Value, Value)] = match &trace.end {
            End::Loop { carried } => carried,
            _ => &[],
        };
        while let Some(value) = work.pop() {
            let Some(i) = value.as_op() else { continue };
            if std::mem::replace(&mut self.live[i], true) {
                continue;
            }
            let op = &trace.ops[i];
            work.extend(op.operands().iter().filter(|v| !v.is_none()));
            if let Some(index) = op.snapshot() {
                wants(&trace.snapshots[index], &mut work);
            }
            match op.code {
                Opcode::Native => work.extend(trace.natives[op.aux as usize].inputs.iter().map(|(_, v)| *v)),
                Opcode::Phi => work.extend(carried.iter().filter(|(phi, _)| *phi == value).map(|(_, next)| *next)),
                _ => {}
            }
        }
        for (phi, next) in carried {
            let i = phi.as_op().expect("verified");
            if self.live[i] {
                self.phis.push((i, *next));
            }
        }
    }

    fn mark_tested(&mut self) {
        use Opcode as O;
        let trace = self.trace;
        let mut other = vec![false; trace.ops.len()];
        let mut mark = |value: Value| {
            if let Some(i) = value.as_op() {
                other[i] = true;
            }
        };
        for (_, op) in trace.ops.iter().enumerate().filter(|(i, _)| self.live[*i]) {
            let flags = op.code == O::FlagsLogic && op.args[0].as_op().is_some_and(|r| trace.ops[r].ty == op.ty);
            match op.code {
                O::Native => trace.natives[op.aux as usize].inputs.iter().for_each(|(_, v)| mark(*v)),
                O::Call => self.snapshot(op).regs.iter().for_each(|(_, v)| mark(*v)),
                _ => {}
            }
            if !flags {
                op.operands().iter().for_each(|v| mark(*v));
            }
        }
        self.phis.iter().for_each(|(_, next)| mark(*next));
        match &trace.end {
            End::Branch { cond: value, .. } | End::Jump { target: value, .. } => mark(*value),
            _ => {}
        }
        for (i, op) in trace.ops.iter().enumerate() {
            self.tested[i] = op.code == O::And && op.ty != Type::I1 && !other[i];
        }
    }

    fn mark_valued(&mut self) {
        use Opcode as O;
        let trace = self.trace;
        for (i, op) in trace.ops.iter().enumerate() {
            if !self.live[i] {
                continue;
            }
            for (at, value) in op.operands().iter().enumerate() {
                let Some(from) = value.as_op().filter(|from| trace.ops[*from].code == O::Cond) else {
                    continue;
                };
                let lazy = match (op.code, at) {
                    (O::GuardTrue | O::GuardFalse | O::Select, 0) => true,
                    (O::Adc | O::Sbb | O::FlagsAdc | O::FlagsSbb, 2) => trace.ops[from].imm & !1 == 2,
                    _ => false,
                };
                self.valued[from] |= !lazy;
            }
        }
        for (_, next) in &self.phis {
            if let Some(from) = next.as_op() {
                self.valued[from] = true;
            }
        }
    }

    /// Kind, sharing of registers, and cleanness of an operation's result.
    fn classify(&mut self, i: usize) {
        use Opcode as O;
        let op = &self.trace.ops[i];
        self.writes
            .push(self.writes.last().copied().unwrap_or(0) + u32::from(writes_memory(op.code)));
        if !self.live[i] {
            return;
        }
        self.kind[i] = match op.result() {
            Type::Void => Kind::None,
            Type::Tuple => Kind::Tuple,
            Type::F32 | Type::F64 | Type::V128 => Kind::Xmm,
            Type::Flags => match op.code {
                O::Reg | O::Get | O::Phi | O::Select => Kind::Gpr,
                // Long chains are cut by an image.
                _ => {
                    let depth = |v: &Value| v.as_op().map_or(0, |i| self.flag_depth[i]);
                    let depth = 1 + op.operands().iter().map(depth).max().unwrap_or(0);
                    self.flag_depth[i] = if depth > 3 { 0 } else { depth };
                    if depth > 3 { Kind::Gpr } else { Kind::Lazy }
                }
            },
            _ => Kind::Gpr,
        };
        if op.code == O::Cond
            && let Some(flags) = op.args[0].as_op()
        {
            self.flag_depth[i] = self.flag_depth[flags];
        }
        let result = op.result().bits().min(64) as u8;
        match op.code {
            O::Reg => {
                let reg = Reg::from_index(usize::from(op.imm)).expect("verified");
                self.kind[i] = register_kind(reg);
            }
            O::Get => self.classify_get(i, op),
            O::Phi if op.ty == Type::I64 => {
                if let Some(Kind::Stack(offset)) = self.kind_of(op.args[0])
                    && !self.moving.contains(&i)
                {
                    self.kind[i] = Kind::Stack(offset);
                }
            }
            O::Phi => {
                if let Some(Kind::Pinned(reg)) = self.kind_of(op.args[0]) {
                    self.kind[i] = Kind::Pinned(reg);
                }
            }
            O::Add | O::Sub if op.ty == Type::I64 => {
                let stack = |v: Value| match self.kind_of(v) {
                    Some(Kind::Stack(offset)) => Some(offset),
                    _ => None,
                };
                let number = |v: Value| self.trace.constant(v).map(|bits| bits as i64);
                let sum = match (op.code, op.args[0], op.args[1]) {
                    (O::Add, a, b) => stack(a)
                        .zip(number(b))
                        .or_else(|| number(a).zip(stack(b)))
                        .map(|(x, y)| x.wrapping_add(y)),
                    (_, a, b) => stack(a).zip(number(b)).map(|(x, y)| x.wrapping_sub(y)),
                };
                // Further away it is a number like any other.
                if let Some(offset) = sum.filter(|offset| offset.unsigned_abs() < 1 << 27) {
                    self.kind[i] = Kind::Stack(offset);
                }
            }
            O::Lea if op.args[1].is_none() && !op.args[0].is_none() => {
                let sum = match self.kind_of(op.args[0]) {
                    Some(Kind::Stack(offset)) => offset.wrapping_add(i64::from(op.aux)),
                    _ => i64::MAX,
                };
                if sum.unsigned_abs() < 1 << 27 {
                    self.kind[i] = Kind::Stack(sum);
                }
            }
            O::Trunc => self.share(i, op.args[0], None),
            O::Zext => {
                let from = self.trace.type_of(op.args[0]).bits() as u8;
                self.share(i, op.args[0], Some(from));
                self.clean[i] = from;
            }
            O::Extract if op.imm == 0 && matches!(op.ty, Type::F32 | Type::F64) => self.share(i, op.args[0], None),
            O::VZext if matches!(op.ty, Type::F32 | Type::F64) => {
                self.share(i, op.args[0], Some(op.ty.bits() as u8));
                self.clean[i] = op.ty.bits() as u8;
            }
            // A load of any width fills the register.
            O::Load if op.ty != Type::V128 => self.clean[i] = result,
            O::Cond | O::AtomicCas | O::AtomicAnd | O::AtomicOr | O::AtomicXor => {}
            _ if op.result() == Type::I32 && self.kind[i] == Kind::Gpr => self.clean[i] = 32,
            _ => {}
        }
    }

    fn classify_get(&mut self, i: usize, op: &Op) {
        let source = op.args[0].as_op().expect("verified");
        let reg = Reg::from_index(usize::from(op.imm)).expect("verified");
        if let Some((_, _, first)) = self.gets.iter().rev().find(|(t, r, _)| (*t, *r) == (source, reg)) {
            self.root[i] = *first as u32;
            return;
        }
        self.gets.push((source, reg, i));
        self.kind[i] = register_kind(reg);
        if reg == Reg::FLAGS && self.trace.ops[source].code == Opcode::Call {
            self.kind[i] = Kind::Lazy; // dead at the return of a call: nothing to compute
        }
    }

    /// Makes operation `i` another name for `value`, if nothing above `bits` is set in its register.
    fn share(&mut self, i: usize, value: Value, bits: Option<u8>) {
        let Some(root) = value.as_op().map(|at| self.root[at] as usize) else {
            return;
        };
        let clean = bits.is_none_or(|bits| self.clean[root] <= bits);
        // A condition is better made an integer where it is wanted as one.
        let value = self.trace.ops[root].code != Opcode::Cond;
        if clean && value && self.kind[root] == self.kind[i] {
            self.root[i] = root as u32;
        }
    }

    fn kind_of(&self, value: Value) -> Option<Kind> {
        value.as_op().map(|i| self.kind[self.root[i] as usize])
    }

    /// Whether there are new phis that begin as the stack pointer, but go on as something else.
    fn find_moving_phis(&mut self) -> Result<bool, LowerError> {
        let mut found = false;
        for (phi, next) in &self.phis {
            let kind = self.kind[*phi];
            if self.kind_of(*next) == Some(kind) {
                continue;
            }
            match kind {
                Kind::Stack(_) => found |= self.moving.insert(*phi),
                Kind::Pinned(_) => {
                    let reason = "a register that is not moved changes from round to round";
                    return Err(LowerError::op(self.trace, *phi, reason));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// The snapshots of exits (not of calls), with the positions of what they belong to.
    pub(super) fn exits(&self) -> impl Iterator<Item = (u32, &'a Snapshot)> {
        let trace = self.trace;
        let guards = trace.ops.iter().enumerate().filter_map(move |(i, op)| {
            let guard = matches!(op.code, Opcode::GuardTrue | Opcode::GuardFalse);
            guard.then(|| (i as u32 + 1, &trace.snapshots[op.aux as usize]))
        });
        guards.chain(trace.end.snapshot().map(|snapshot| (self.end(), snapshot)))
    }

    fn wants_entry_flags(&self) -> bool {
        let read = self.entry[Reg::FLAGS.index()];
        read != NONE && self.live[read as usize]
            || self
                .exits()
                .any(|(at, snapshot)| at < self.first_call && snapshot.get(Reg::FLAGS).is_none())
    }

    /// Calls `wanted` for every value that must be in a register or memory for `value` to be had as `how` at `place`,
    /// with the number of bytes if memory will do.
    pub(super) fn visit(&self, value: Value, how: How, place: Place, wanted: &mut dyn FnMut(Id, Option<u32>)) {
        if value.is_none() || value.as_constant().is_some() {
            return;
        }
        let id = self.id(value);
        match self.kind[id] {
            Kind::Gpr | Kind::Xmm => {}
            Kind::Lazy => {
                let mask = if let How::Flags(mask) = how { mask } else { STATUS };
                return self.visit_flags(id, mask, place, wanted);
            }
            _ => return,
        }
        if matches!(how, How::Condition | How::Carry)
            && let Some(flags) = self.lazy_condition(id, how)
        {
            let mask = condition_mask(self.trace.ops[id].imm);
            return self.visit(flags, How::Flags(mask), place, wanted);
        }
        wanted(
            id,
            match how {
                How::Memory(bytes) => Some(bytes),
                _ => None,
            },
        );
    }

    /// The flags that a condition is about, if it is to be had from them.
    pub(super) fn lazy_condition(&self, id: Id, how: How) -> Option<Value> {
        let op = self.op(id)?;
        let fits = op.code == Opcode::Cond && !self.valued[id] && (how == How::Condition || op.imm & !1 == 2);
        fits.then_some(op.args[0])
    }

    /// What an exit wants.
    pub(super) fn visit_exit(&self, snapshot: &Snapshot, place: Place, wanted: &mut dyn FnMut(Id, Option<u32>)) {
        for (reg, listed) in registers(snapshot) {
            match listed {
                Some(_) if reg == Reg::FLAGS && self.flags.in_exit(place.at) => {}
                Some(value) => self.visit(value, How::Flags(STATUS), place, wanted),
                None if reg == Reg::FLAGS => {
                    if self.entry_flags && place.at < self.first_call {
                        wanted(self.entry(reg), None);
                    }
                }
                None => {
                    let id = self.entry(reg);
                    if matches!(self.kind[id], Kind::Gpr | Kind::Xmm) {
                        wanted(id, None);
                    }
                }
            }
        }
        for store in &snapshot.stores {
            self.visit(store.value, How::Plain, place, wanted);
            self.visit(store.base, How::Plain, place, wanted);
        }
    }
}

/// All registers in order, with what a snapshot says of them.
pub(super) fn registers(snapshot: &Snapshot) -> impl Iterator<Item = (Reg, Option<Value>)> {
    let mut listed = snapshot.regs.iter().peekable();
    Reg::all().map(move |reg| (reg, listed.next_if(|(other, _)| *other == reg).map(|(_, value)| *value)))
}

/// Where registers are kept.
fn register_kind(reg: Reg) -> Kind {
    match reg {
        Reg::RSP => Kind::Stack(0),
        Reg::FLAGS => Kind::Gpr,
        _ if reg.is_gpr() => Kind::Gpr,
        _ if reg.is_xmm() => Kind::Xmm,
        _ => Kind::Pinned(reg),
    }
}

pub(super) use redmagic_ir::flags::condition_mask;

/// Whether an operation is emitted even if nothing uses its result.
pub(super) fn has_effect(code: Opcode) -> bool {
    use redmagic_ir::opcode::Effects;
    let effects = code.effects();
    // A checkpoint is for the optimiser.
    code != Opcode::Checkpoint
        && [Effects::WRITE, Effects::GUARD, Effects::TRAP, Effects::BARRIER]
            .into_iter()
            .any(|effect| effects.has(effect))
}

fn writes_memory(code: Opcode) -> bool {
    use redmagic_ir::opcode::Effects;
    let effects = code.effects();
    effects.has(Effects::WRITE) || effects.has(Effects::BARRIER)
}

/// Which registers a callee keeps.
pub(super) fn saved(abi: Abi, reg: Reg) -> bool {
    abi == Abi::SysV && Reg::CALLEE_SAVED.contains(&reg)
}
