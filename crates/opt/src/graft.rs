//! A side trace that goes on where its parent is left, with the parent's values where they are.
//!
//! An exit rebuilds the machine state of the original code: it makes the stores that were sunk into it, moves values to
//! the registers that the original code has them in, computes flags. A side trace that begins after that has lost what
//! its parent knew, and pays for what it will not use. Here it begins before: at the guard. Its first operations, the
//! *prologue*, say what the registers of the original code hold, in terms of what the machine has there; the stores of the
//! exit follow as stores, most of which are soon overwritten. What the parent knew of memory comes with it.
//!
//! ```text
//!   parent:  v7 = load.i64 [v1 + 16]        ; kept in r9
//!            guard.true v8 {pc=0x4010, rax=v7, rbx=5, stores: [v1 + 32] = v3}
//!   lifted:  v0 = reg.i64 rax
//!            v1 = add.i64 v0, 1
//!   grafted: v0 = reg.i64 r9                ; what rax is to hold
//!            v1 = reg.i64 rbp               ; the parent's v1
//!            v2 = reg.i64 r12               ; its v3
//!            store.i64 v2, [v1 + 32]
//!            v4 = add.i64 v0, 1
//! ```
//!
//! This is what PyPy's bridges and LuaJIT's side traces do with the values of their parents' snapshots. The entry state of a
//! grafted trace is the machine's at the guard, and not that of the original code, so every snapshot lists all registers;
//! its stack pointer is below the original one by the parent's frame. Values that have no home any more are computed again if
//! that can be done from those that have one.
//!
//! *What is known of memory* is found by walking over the parent up to the exit, as [`crate::forward::memory`] does, without
//! making anything. At the head of a loop nothing is known but what [`crate::peel`] has shown to hold in every turn.

use redmagic_ir::opcode::Effects;
use redmagic_ir::{Addr, Builder, Cond, End, Home, Op, Opcode, Reg, Snapshot, Trace, Type, Value};
use rustc_hash::FxHashMap;

use crate::cx::lookup;
use crate::forward::memory::{Fact, Lasting, Place, Root, place};
use crate::sink::Stack;

/// What a finished trace leaves for those that go on from its exits.
#[derive(Debug, Clone)]
pub struct Parent {
    /// The trace.
    pub trace: Trace,
    /// What is known at its loop head and of its addresses.
    pub lasting: Lasting,
    /// Whether it begins at an anchor's call, where flags are dead.
    pub anchor: bool,
}

/// An exit, and what the machine has there.
#[derive(Debug, Clone, Copy)]
pub struct Leave<'a> {
    /// The guard, or the number of operations for the end.
    pub at: usize,
    /// The operation whose home the result of each operation shares.
    pub shared: &'a [u32],
    /// Homes by such an operation; registers of the entry that no operation reads are numbered after the operations.
    pub homes: &'a [(u32, Home)],
    /// Whether the flags of the exit are those of the machine.
    pub flags: bool,
    /// How far the stack pointer of the parent's entry is above the machine's.
    pub frame: i64,
}

/// A grafted trace.
#[derive(Debug, Clone)]
pub struct Grafted {
    /// It.
    pub trace: Trace,
    /// What its operations gave when they were recorded, as far as that is known.
    pub observed: Vec<Option<u128>>,
    /// What is known at its start.
    pub inherited: Inherited,
}

/// What is known at the start of a trace, in its own terms.
#[derive(Debug, Clone, Default)]
pub struct Inherited {
    /// How many operations stand before it is known: the prologue.
    pub from: usize,
    /// What memory holds.
    pub memory: Vec<(Place, Value)>,
    /// What does not overlap.
    pub apart: Vec<Fact>,
    /// How far the stack pointer of the original code is above the machine's.
    pub stack: i64,
    /// Native stack below this displacement from the entry's stack pointer is private until an address escapes.
    pub private_below: i64,
    /// Whether an address in the red zone may be known elsewhere, so that it is not private.
    pub red_zone_known: bool,
}

/// Puts `side`, a lifted trace that begins at an exit of `parent`, behind it. `entry` gives what the registers of the
/// original code held at its start, `observed` what its operations gave. `None` if some register cannot be had.
pub fn graft(
    parent: &Parent,
    leave: &Leave<'_>,
    side: &Trace,
    observed: &[Option<u128>],
    entry: &dyn Fn(Reg) -> u128,
) -> Option<Grafted> {
    let old = &parent.trace;
    let snapshot = match old.ops.get(leave.at) {
        Some(op) => &old.snapshots[op.snapshot()?],
        None => old.end.snapshot()?,
    };
    let mut graft = Graft {
        old,
        anchor: parent.anchor,
        leave,
        homes: leave.homes.iter().copied().collect(),
        b: Builder::new(),
        made: FxHashMap::default(),
        registers: FxHashMap::default(),
        observed: Vec::new(),
    };
    // The registers of the original code.
    let mut state: Vec<Value> = Vec::with_capacity(Reg::COUNT);
    for reg in Reg::all() {
        let value = match snapshot.get(reg) {
            Some(_) if reg == Reg::FLAGS && leave.flags => graft.machine(reg),
            // No trace moves values through these: at every exit they are what they are to be.
            _ if is_pinned(reg) => graft.machine(reg),
            Some(value) => graft.value(value, 0)?,
            None => graft.entry(reg)?,
        };
        graft.saw(value, entry(reg));
        state.push(value);
    }
    let known = known_at(parent, leave.at);
    // Everything is taken from its home before anything is stored.
    let mut stores = Vec::new();
    for store in &snapshot.stores {
        stores.push((graft.value(store.value, 0)?, graft.value(store.base, 0)?, store.disp));
    }
    let mut memory = Vec::new();
    for (place, value) in known.memory {
        if let (Some(place), Some(value)) = (graft.place(&place), graft.value(value, 0)) {
            memory.push((place, value));
        }
    }
    let mut apart = Vec::new();
    for fact in known.apart {
        if let (Some(a), Some(b)) = (graft.root(&fact.a.0), graft.root(&fact.b.0)) {
            apart.push(Fact {
                at: 0,
                a: (a, fact.a.1, fact.a.2),
                b: (b, fact.b.1, fact.b.2),
            });
        }
    }
    for (value, base, disp) in stores {
        let ty = graft.b.type_of(value);
        graft.b.store(ty, value, Addr::base(base, disp));
    }
    let rsp = state[Reg::RSP.index()];
    let stack = match graft.b.trace().ops.get(rsp.as_op()?)? {
        op if op.code == Opcode::Add => graft.b.trace().constant(op.args[1])? as i64,
        _ => 0,
    };
    // A leaf function's own variables may be there.
    let red_zone_known = parent.lasting.facts.red_zone_known
        || Stack::of(old, parent.lasting.facts.private_below).escaped_below(old, leave.at, stack - leave.frame);
    let from = graft.b.len();
    graft.observed.resize(from, None);
    let (trace, observed) = follow(graft, &state, side, observed);
    Some(Grafted {
        trace,
        observed,
        inherited: Inherited {
            from,
            memory,
            apart,
            stack,
            private_below: if red_zone_known { stack - 128 } else { stack },
            red_zone_known,
        },
    })
}

struct Graft<'a> {
    old: &'a Trace,
    anchor: bool,
    leave: &'a Leave<'a>,
    homes: FxHashMap<u32, Home>,
    b: Builder,
    made: FxHashMap<Value, Option<Value>>,
    registers: FxHashMap<Reg, Value>,
    observed: Vec<Option<u128>>,
}

/// How long a chain of operations is computed again.
const DEEPEST: usize = 12;

impl Graft<'_> {
    /// A register of the machine.
    fn machine(&mut self, reg: Reg) -> Value {
        let b = &mut self.b;
        *self.registers.entry(reg).or_insert_with(|| b.reg(reg))
    }

    fn dead_flags(&mut self) -> Value {
        let any = self.b.constant(Type::Flags, 0);
        self.b.flags_undef(any)
    }

    /// An address of the machine's stack.
    fn stack(&mut self, offset: i64) -> Value {
        let rsp = self.machine(Reg::RSP);
        if offset == 0 {
            return rsp;
        }
        let offset = self.b.int(Type::I64, offset as u64);
        self.b.add(Type::I64, rsp, offset)
    }

    /// What a value was when the side trace was recorded.
    fn saw(&mut self, value: Value, bits: u128) {
        if let Some(index) = value.as_op() {
            if self.observed.len() <= index {
                self.observed.resize(index + 1, None);
            }
            self.observed[index] = Some(bits);
        }
    }

    /// A register that the parent has not changed.
    fn entry(&mut self, reg: Reg) -> Option<Value> {
        if reg == Reg::RSP {
            return Some(self.stack(self.leave.frame));
        }
        if is_pinned(reg) {
            return Some(self.machine(reg));
        }
        if reg == Reg::FLAGS && self.anchor {
            return Some(self.dead_flags());
        }
        // An operation that reads it is where it is, unless nothing needs that operation.
        let read = |op: &Op| op.code == Opcode::Reg && op.reg() == Some(reg);
        let by_operation = self.old.ops.iter().position(read).map(|index| self.leave.shared[index]);
        let unread = (self.old.ops.len() + reg.index()) as u32;
        let mut homes = by_operation.into_iter().chain([unread]);
        let home = homes.find_map(|id| self.homes.get(&id).copied())?;
        self.at_home(home, reg.ty(), 16)
    }

    /// A value of the parent.
    fn value(&mut self, value: Value, depth: usize) -> Option<Value> {
        if let Some(at) = value.as_constant() {
            let constant = self.old.constants[at];
            return Some(self.b.constant(constant.ty, constant.bits));
        }
        if let Some(made) = self.made.get(&value) {
            return *made;
        }
        let made = self.make(value, depth);
        self.made.insert(value, made);
        made
    }

    fn make(&mut self, value: Value, depth: usize) -> Option<Value> {
        let index = value.as_op()?;
        let op = &self.old.ops[index];
        if let Some(offset) = stack_offset(self.old, value) {
            return Some(self.stack(self.leave.frame + offset));
        }
        let shared = self.leave.shared[index];
        if let Some(home) = self.homes.get(&shared) {
            let bytes = if self.old.ops[shared as usize].result() == Type::V128 {
                16
            } else {
                8
            };
            return self.at_home(*home, op.result(), bytes);
        }
        match op.code {
            Opcode::Reg => return self.entry(op.reg()?),
            Opcode::Get if op.result() == Type::Flags => {
                let tuple = op.args[0].as_op()?;
                return (self.old.ops[tuple].code == Opcode::Call).then(|| self.dead_flags());
            }
            Opcode::Phi | Opcode::Get | Opcode::LoopHead => return None,
            _ if depth >= DEEPEST || !matches!(op.code.effects(), Effects::PURE | Effects::FP) => return None,
            _ => {}
        }
        // With another rounding mode it would be another value.
        let sets_mode = |op: &Op| op.code.effects().has(Effects::FP) && op.code.effects().has(Effects::BARRIER);
        if op.code.effects() == Effects::FP && self.old.ops[index..].iter().any(sets_mode) {
            return None;
        }
        let mut op = *op;
        for arg in &mut op.args {
            if !arg.is_none() {
                *arg = self.value(*arg, depth + 1)?;
            }
        }
        Some(self.b.push(op))
    }

    /// What is at a home, as a value of this type. A home in the frame has this many bytes.
    fn at_home(&mut self, home: Home, ty: Type, bytes: u32) -> Option<Value> {
        match home {
            _ if ty == Type::I1 => {
                // Truth is kept as a byte.
                let byte = self.at_home(home, Type::I8, bytes)?;
                let zero = self.b.int(Type::I8, 0);
                let flags = self.b.flags_sub(Type::I8, byte, zero);
                Some(self.b.cond(Cond::NE, flags))
            }
            Home::Register(reg) => {
                let whole = self.machine(reg);
                match ty {
                    Type::I64 | Type::V128 => Some(whole),
                    Type::I8 | Type::I16 | Type::I32 => Some(self.b.trunc(ty, whole)),
                    Type::F32 | Type::F64 => Some(self.b.push_op(Opcode::Extract, ty, 0, &[whole])),
                    // Flags that are kept are kept as images.
                    Type::Flags => Some(self.b.flags_of(whole)),
                    _ => None,
                }
            }
            Home::Frame(disp) => {
                let rsp = self.machine(Reg::RSP);
                match ty {
                    // What is above a float is 0 when a vector shares its home.
                    Type::V128 if bytes == 8 => {
                        let low = self.b.load(Type::F64, Addr::base(rsp, disp));
                        Some(self.b.vzext(Type::F64, low))
                    }
                    Type::I8 | Type::I16 | Type::I32 | Type::I64 | Type::F32 | Type::F64 | Type::V128 => {
                        Some(self.b.load(ty, Addr::base(rsp, disp)))
                    }
                    Type::Flags => {
                        let image = self.b.load(Type::I64, Addr::base(rsp, disp));
                        Some(self.b.flags_of(image))
                    }
                    _ => None,
                }
            }
        }
    }

    fn part(&mut self, part: Value) -> Option<Value> {
        if part.is_none() {
            return Some(part);
        }
        self.value(part, 0)
    }

    fn root(&mut self, root: &Root) -> Option<Root> {
        let parts = [self.part(root.base)?, self.part(root.index)?, self.part(root.seg)?];
        Some(root.of(parts))
    }

    fn place(&mut self, place: &Place) -> Option<Place> {
        Some(Place {
            root: self.root(&place.root)?,
            ..*place
        })
    }
}

/// Whether a register is one that traces do not move values through.
fn is_pinned(reg: Reg) -> bool {
    !reg.is_gpr() && !reg.is_xmm() && reg != Reg::FLAGS
}

/// How far a value is from the stack pointer at the entry, if it is a constant away from it.
fn stack_offset(trace: &Trace, mut value: Value) -> Option<i64> {
    let mut sum = 0i64;
    loop {
        let op = &trace.ops[value.as_op()?];
        let constant = |value: Value| trace.constant(value).map(|bits| bits as i64);
        sum = sum.wrapping_add(match op.code {
            Opcode::Reg if op.reg() == Some(Reg::RSP) => return Some(sum),
            Opcode::Add if op.ty == Type::I64 => constant(op.args[1])?,
            Opcode::Sub if op.ty == Type::I64 => constant(op.args[1])?.wrapping_neg(),
            Opcode::Lea if op.args[1].is_none() && !op.args[0].is_none() => i64::from(op.aux),
            _ => return None,
        });
        value = op.args[0];
    }
}

/// The side trace behind the prologue.
fn follow(
    mut graft: Graft<'_>,
    state: &[Value],
    side: &Trace,
    observed: &[Option<u128>],
) -> (Trace, Vec<Option<u128>>) {
    let b = &mut graft.b;
    let mut seen = graft.observed;
    let mut values: Vec<Value> = Vec::with_capacity(side.ops.len());
    let map = |b: &mut Builder, values: &[Value], value: Value| lookup(b, side, values, value);
    // What is not what the registers held at the entry of the parent.
    let changed: Vec<(Reg, Value)> = Reg::all()
        .map(|reg| (reg, state[reg.index()]))
        .filter(|(reg, value)| {
            let op = value.as_op().map(|index| &b.trace().ops[index]);
            !op.is_some_and(|op| op.code == Opcode::Reg && op.reg() == Some(*reg))
        })
        .collect();
    let complete = |b: &mut Builder, values: &[Value], snapshot: &Snapshot| {
        let mut new = Snapshot {
            pc: snapshot.pc,
            via: snapshot.via,
            regs: Vec::with_capacity(snapshot.regs.len() + changed.len()),
            stores: snapshot.stores.clone(),
        };
        for store in &mut new.stores {
            store.value = map(b, values, store.value);
            store.base = map(b, values, store.base);
        }
        // Both are in register order.
        let mut others = changed.iter().copied().peekable();
        for (reg, value) in &snapshot.regs {
            while let Some(other) = others.next_if(|(other, _)| other < reg) {
                new.regs.push(other);
            }
            others.next_if(|(other, _)| other == reg);
            new.regs.push((*reg, map(b, values, *value)));
        }
        new.regs.extend(others);
        new
    };
    for (index, op) in side.ops.iter().enumerate() {
        if let Some(pc) = side.begins(index) {
            b.origin(pc);
        }
        if let Some(reg) = op.reg().filter(|_| op.code == Opcode::Reg) {
            values.push(state[reg.index()]);
            continue;
        }
        let mut op = *op;
        for arg in &mut op.args {
            *arg = map(b, &values, *arg);
        }
        if let Some(at) = op.snapshot() {
            let snapshot = complete(b, &values, &side.snapshots[at]);
            op.aux = b.snapshot(snapshot) as i32;
        }
        let value = if op.code == Opcode::Native {
            let mut native = side.natives[op.aux as usize].clone();
            for value in native.values_mut() {
                *value = map(b, &values, *value);
            }
            b.native(native)
        } else {
            b.push(op)
        };
        values.push(value);
        seen.resize(b.len() - 1, None);
        seen.push(observed.get(index).copied().flatten());
    }
    let mut end = side.end.clone();
    match &mut end {
        End::Branch { cond: value, .. } | End::Jump { target: value, .. } => *value = map(b, &values, *value),
        _ => {}
    }
    if let Some(snapshot) = end.snapshot_mut() {
        *snapshot = complete(b, &values, snapshot);
    }
    seen.resize(b.len(), None);
    (graft.b.finish(end), seen)
}

/// What is known of memory, in terms of the parent.
struct KnownAt {
    memory: Vec<(Place, Value)>,
    apart: Vec<Fact>,
}

/// What is known where the parent is left before operation `at`, after the stores of the exit.
fn known_at(parent: &Parent, at: usize) -> KnownAt {
    let trace = &parent.trace;
    let stack = Stack::of(trace, parent.lasting.facts.private_below);
    let mut memory: Vec<(Place, Value)> = Vec::new();
    let mut equal: FxHashMap<Value, Value> = FxHashMap::default();
    let facts = &parent.lasting.facts;
    let kill = |memory: &mut Vec<(Place, Value)>, index: usize, by: &Place| {
        memory.retain(|(place, _)| stack.places_apart(facts, index, place, by));
    };
    for (index, op) in trace.ops[..at].iter().enumerate() {
        match op.code {
            Opcode::Load => {
                let at = place(op).expect("a load has a place");
                memory.push((at, Value::op(index)));
            }
            Opcode::Store => {
                let at = place(op).expect("a store has a place");
                kill(&mut memory, index, &at);
                memory.push((at, op.args[0]));
            }
            Opcode::LoopHead => memory.clone_from(&parent.lasting.head),
            Opcode::GuardTrue | Opcode::GuardFalse => {
                if let Some((value, constant)) = equal_after(trace, op) {
                    equal.insert(value, constant);
                }
            }
            _ => {
                let effects = op.code.effects();
                if effects.has(Effects::WRITE) || effects.has(Effects::BARRIER) {
                    memory.clear();
                }
            }
        }
    }
    let snapshot = match trace.ops.get(at) {
        Some(op) => op.snapshot().map(|at| &trace.snapshots[at]),
        None => trace.end.snapshot(),
    };
    for store in snapshot.iter().flat_map(|snapshot| &snapshot.stores) {
        let to = Place {
            root: Root::plain(store.base),
            disp: store.disp,
            size: trace.type_of(store.value).bytes(),
        };
        kill(&mut memory, at, &to);
        memory.push((to, store.value));
    }
    for (_, value) in &mut memory {
        if let Some(constant) = equal.get(value) {
            *value = *constant;
        }
    }
    KnownAt {
        memory,
        apart: facts.before(at),
    }
}

/// The value that a guard shows to be a constant.
fn equal_after(trace: &Trace, guard: &Op) -> Option<(Value, Value)> {
    let cond = &trace.ops[guard.args[0].as_op()?];
    let wanted = if guard.code == Opcode::GuardTrue {
        Cond::E
    } else {
        Cond::NE
    };
    if cond.code != Opcode::Cond || cond.imm != wanted.code() {
        return None;
    }
    let flags = &trace.ops[cond.args[0].as_op()?];
    match flags.code {
        Opcode::FlagsSub if trace.constant(flags.args[1]).is_some() && trace.constant(flags.args[0]).is_none() => {
            Some((flags.args[0], flags.args[1]))
        }
        _ => None,
    }
}
