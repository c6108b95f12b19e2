//! Loop peeling: the first iteration stands before the loop, and pays for what stays the same.
//!
//! The straight trace, already optimised, is fed through the chain a second time with substituted operands: what a register
//! held at the entry becomes what it holds at the end. Whatever the first copy has computed, loaded, stored or guarded is
//! found again, so the second copy is left with what changes. This is LuaJIT's loop optimisation (`lj_opt_loop.c`).
//!
//! A value of the first copy that the second one uses, and whose own copy is another value, is carried by the loop: a phi.
//!
//! *Why it is sound.* The second copy is made under what is known after the first. For the third iteration the same must
//! be known after the second copy, about the copied values. Guards and computations are there again, in order, unless
//! they are implied; so what follows from them holds. What was known of *memory* is checked: every place whose content at
//! the loop head was used must at the end hold the copy of that content. If it does not, the loop is made again without
//! relying on that place.
//!
//! *Unrolling.* A loop that is short and known to go round often gets several further copies, each fed as the second one
//! was. Stores that the next copy overwrites go into the exits in between, and what is left of the count and of moving
//! around is shared. (Stores still happen before the loop goes back, so that what a signal handler sees is at most that
//! many turns old.) It costs an exit for each copy, so it is for loops that are seldom left.
//!
//! *Polled words.* A load that was found again is not made in the loop, though a signal handler or another thread may
//! write there (a flag that asks the interpreter to look up). So the loop counts down, and at 0 goes back to the
//! entry of the trace, through its anchor's slot: there everything is loaded anew. The same way out serves those who drop
//! the trace.

mod ahead;

use redmagic_ir::{Builder, Cond, End, Op, Opcode, Reg, Snapshot, Trace, Type, Value, Via};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::cx::{Checkpoint, Cx, Failed};
use crate::equal::Equal;
use crate::forward::expected;
use crate::forward::known::learn;
use crate::forward::memory::{self, Fact, Place, Root};
use ahead::Ahead;

/// Most attempts: each gives up some knowledge.
const ATTEMPTS: usize = 24;

/// Whether a trace that repeats can be a loop. A call would have to keep what the loop carries.
pub fn possible(trace: &Trace) -> bool {
    !trace.ops.iter().any(|op| op.code == Opcode::Call)
}

/// Whether a trace that repeats does so at another depth of the native stack each time: it goes on in an activation further in or
/// out, and is no loop. It has been fed.
pub(crate) fn moves_stack(straight: &Trace, cx: &Cx<'_>) -> bool {
    match &straight.end {
        End::Repeat { snapshot } => memory::depth(cx, snapshot) != Some(0),
        _ => false,
    }
}

/// Makes a loop of a trace that ends with `repeat`. `cx` has fed it.
///
/// # Errors
/// When the second iteration contradicts the first, or the loop does not settle.
pub fn peel(straight: &Trace, cx: &mut Cx<'_>) -> Result<Trace, Failed> {
    let End::Repeat { snapshot } = &straight.end else {
        return Ok(straight.clone());
    };
    // Flags are dead at the anchor's call.
    let mut end = snapshot.clone();
    end.regs.retain(|(reg, _)| *reg != Reg::FLAGS);
    let mut without = FxHashSet::default();
    let mut straight = straight.clone();
    let mut start = cx.save();
    let mut hoisted = 0;
    let mut settled = false;
    let mut copies = 1;
    let mut once = None;
    let mut ahead: Vec<Ahead> = Vec::new();
    for _ in 0..ATTEMPTS {
        cx.restore(&start);
        memory::leave_frames(cx, &end);
        cx.memory.enter_loop(&without);
        cx.memory.in_loop = Some(Vec::new());
        let escaped = cx.memory.escaped;
        let body = match feed_copies(&straight, &end, copies, &ahead, cx) {
            Err(_) if once.is_some() => break,
            body => body?,
        };
        if cx.memory.escaped != escaped {
            // Then it has in the turn before as well, and what has been fed up to there does not know.
            break;
        }
        let stale = stale(cx, &body);
        if !stale.is_empty() {
            without.extend(stale);
            continue;
        }
        // Once more, with what changes known.
        let changing: FxHashSet<usize> = (0..straight.ops.len())
            .filter(|index| cx.canonical(body.copies[*index]) != Value::op(*index))
            .collect();
        if !settled && changing != cx.carried {
            settled = true;
            cx.carried = changing;
            continue;
        }
        let guards = cx.memory.in_loop.take().unwrap_or_default();
        // Guards against overlap between roots that stay the same can stand before the loop.
        let invariant = |value: Value| {
            value.as_op().is_none_or(|index| index < straight.ops.len())
                && cx.canonical(body.copy_or_self(value)) == value
        };
        let early: Vec<_> = guards
            .into_iter()
            .filter(|(a, b)| a.parts().chain(b.parts()).all(invariant))
            .collect();
        if early.is_empty() || hoisted == HOISTS {
            let (carried, length) = uses(cx.b.trace(), cx, straight.ops.len(), &body);
            let looped = assemble(&straight, cx, &body, copies, &carried, &start.equal);
            let more = (UNROLLED / length.max(1)).min(cx.input.unroll);
            if copies > 1 || more < 2 {
                return Ok(looped);
            }
            once = Some((looped, cx.memory.facts.clone(), std::mem::take(&mut cx.memory.lasting)));
            ahead = ahead::find(&straight, cx, &body);
            copies = more;
            settled = false;
            continue;
        }
        hoisted += 1;
        cx.restore(&start);
        cx.carried.clear();
        settled = false;
        for (a, b) in early {
            let at = cx.b.snapshot(Snapshot {
                pc: cx.input.restart_pc,
                ..end.clone()
            });
            cx.checkpoint = Some(Checkpoint::Made(at));
            memory::compare(cx, &a, &b);
        }
        cx.checkpoint = None;
        straight = Trace {
            end: straight.end.clone(),
            ..cx.b.trace().clone()
        };
        start = cx.save();
    }
    let (looped, facts, lasting) = once.ok_or(Failed::Unsettled)?;
    cx.memory.facts = facts;
    cx.memory.lasting = lasting;
    Ok(looped)
}

/// Most operations of a loop that is made of several copies.
const UNROLLED: usize = 160;

/// Whether a finished trace is a loop that could be made of two copies at least.
pub fn is_short(trace: &Trace) -> bool {
    let head = trace.loop_head();
    head.is_some_and(|head| (trace.ops.len() - head) * 2 <= UNROLLED)
}

/// How often guards are moved before the loop: moving some may make others invariant.
const HOISTS: usize = 3;

/// The second iteration.
struct Body {
    /// What each operation of the first became.
    copies: Vec<Value>,
    /// The state at its end.
    end: Snapshot,
}

impl Body {
    fn copy(&self, value: Value) -> Value {
        match value.as_op() {
            Some(index) => self.copies[index],
            None => value,
        }
    }

    /// Of a value of either iteration.
    fn copy_or_self(&self, value: Value) -> Value {
        value
            .as_op()
            .and_then(|index| self.copies.get(index))
            .copied()
            .unwrap_or(value)
    }
}

/// Feeds a number of copies; gives the last one.
fn feed_copies(
    straight: &Trace,
    end: &Snapshot,
    copies: usize,
    ahead: &[Ahead],
    cx: &mut Cx<'_>,
) -> Result<Body, Failed> {
    for ahead in ahead {
        let mut restart = Snapshot {
            pc: cx.input.restart_pc,
            via: Via::Restart,
            ..end.clone()
        };
        restart.values_mut().for_each(|value| *value = cx.canonical(*value));
        ahead.ask(cx, copies, restart);
    }
    let mut body = feed_body(straight, end, end, ahead, cx)?;
    for _ in 1..copies {
        memory::leave_frames(cx, &body.end);
        body = feed_body(straight, end, &body.end, ahead, cx)?;
    }
    Ok(body)
}

/// Feeds a copy that begins in the state `from`: `end`, or in other terms what that became.
fn feed_body(
    straight: &Trace,
    end: &Snapshot,
    from: &Snapshot,
    ahead: &[Ahead],
    cx: &mut Cx<'_>,
) -> Result<Body, Failed> {
    let mut copies: Vec<Value> = Vec::with_capacity(straight.ops.len());
    for index in 0..straight.ops.len() {
        let op = &straight.ops[index];
        if cx.once.contains(&index) {
            copies.push(Value::op(index));
            continue;
        }
        let seen = cx.observed[index];
        if let Some(reg) = op.reg().filter(|_| op.code == Opcode::Reg) {
            let value = from.get(reg).unwrap_or(Value::op(index));
            note_role(cx, straight, index, value);
            copies.push(value);
            continue;
        }
        if let Some(pc) = straight.begins(index) {
            cx.b.origin(pc);
        }
        let copy = |copies: &[Value], value: Value| match value.as_op() {
            Some(index) => copies[index],
            None => value,
        };
        if let Some(truth) = expected(op).filter(|_| ahead.iter().any(|ahead| ahead.guard == index)) {
            let condition = cx.canonical(copy(&copies, op.args[0]));
            learn(cx, condition, truth);
            copies.push(Value::NONE);
            continue;
        }
        let before = cx.b.len();
        let value = cx.feed_from(
            straight,
            index,
            &|_, value| copy(&copies, value),
            &|cx: &mut Cx<'_>, old: &Snapshot| second_snapshot(cx, old, from, &|value| copy(&copies, value)),
            seen,
        )?;
        if matches!(op.code, Opcode::GuardTrue | Opcode::GuardFalse) && cx.b.len() > before {
            cx.memory.copied(index);
        }
        if value.as_op().is_some_and(|at| at < before) {
            note_role(cx, straight, index, value);
        }
        copies.push(value);
    }
    let last = second_snapshot(cx, end, from, &|value: Value| match value.as_op() {
        Some(index) => copies[index],
        None => value,
    });
    Ok(Body { copies, end: last })
}

/// Notes that an older value is what operation `index` gives now, unless it stays the same.
fn note_role(cx: &mut Cx<'_>, straight: &Trace, index: usize, value: Value) {
    let changes = value
        .as_op()
        .is_some_and(|at| at != index && (at >= straight.ops.len() || cx.carried.contains(&at)));
    if let Some(seen) = cx.observed[index].filter(|_| changes) {
        cx.roles.entry(value).or_insert(seen);
    }
}

/// A snapshot of the first iteration in the second: what it does not list is what the first one left.
fn second_snapshot(cx: &Cx<'_>, old: &Snapshot, end: &Snapshot, copy: &dyn Fn(Value) -> Value) -> Snapshot {
    let mut regs: Vec<(Reg, Value)> = old
        .regs
        .iter()
        .map(|(reg, value)| (*reg, cx.canonical(copy(*value))))
        .collect();
    for (reg, value) in &end.regs {
        if old.get(*reg).is_none() {
            regs.push((*reg, cx.canonical(*value)));
        }
    }
    regs.sort_unstable_by_key(|(reg, _)| *reg);
    let mut snapshot = old.clone();
    snapshot.regs = regs;
    for store in &mut snapshot.stores {
        store.value = cx.canonical(copy(store.value));
        store.base = cx.canonical(copy(store.base));
    }
    snapshot
}

/// What the loop was made to rely on at its head and does not have at its end.
fn stale(cx: &mut Cx<'_>, body: &Body) -> Vec<(Place, Value)> {
    let mut stale = Vec::new();
    for (place, value) in cx.memory.used_at_head() {
        let now = place
            .map(cx, &|part| body.copy(part))
            .and_then(|place| cx.memory.exactly(&place));
        let expected = cx.canonical(body.copy(value));
        let same = now.is_some_and(|now| cx.canonical(now) == expected);
        // A constant is not carried: it has to be the same again.
        let constant = cx.canonical(value);
        if !same || constant.as_constant().is_some() && constant != expected {
            stale.push((place, value));
        }
    }
    stale
}

/// First iteration, loop head, phis, second iteration.
/// `at_head`: which values stood for others at the head. What guards of the loop have shown holds behind them only.
fn assemble(
    straight: &Trace,
    cx: &mut Cx<'_>,
    body: &Body,
    copies: usize,
    carried: &[Value],
    at_head: &Equal,
) -> Trace {
    let count = straight.ops.len();
    let turns = cx.b.int(Type::I64, (cx.input.iterations / copies as u64).max(1));
    // The count and its guard stand at the end, with every store of the iteration made.
    let all = cx.b.trace().clone();
    let mut out = Builder::new();
    out = copy_pools(out, &all);
    for (index, op) in all.ops[..count].iter().enumerate() {
        origin(&mut out, &all, index);
        out.push(*op);
    }
    out.loop_head();
    let mut phis: FxHashMap<Value, Value> = FxHashMap::default();
    let counter = out.phi(Type::I64, turns);
    for value in carried {
        let phi = out.phi(all.type_of(*value), *value);
        phis.insert(*value, phi);
    }
    let shift = carried.len() + 2;
    let map = |value: Value| match value.as_op() {
        Some(index) if index >= count => Value::op(index + shift),
        _ => phis.get(&value).copied().unwrap_or(value),
    };
    let map_snapshot = |snapshot: &Snapshot| {
        let mut snapshot = snapshot.clone();
        snapshot.values_mut().for_each(|value| *value = map(*value));
        snapshot
    };
    for (index, op) in all.ops[count..].iter().enumerate() {
        origin(&mut out, &all, count + index);
        let mut op = *op;
        for arg in &mut op.args {
            if !arg.is_none() {
                *arg = map(*arg);
            }
        }
        if let Some(at) = op.snapshot() {
            op.aux = out.snapshot(map_snapshot(&all.snapshots[at])) as i32;
        }
        if op.code == Opcode::Native {
            let mut native = all.natives[op.aux as usize].clone();
            native.values_mut().for_each(|value| *value = map(*value));
            out.native(native);
            continue;
        }
        out.push(op);
    }
    let less = out.int(Type::I64, u64::MAX);
    let left = out.add(Type::I64, counter, less);
    let zero = out.int(Type::I64, 0);
    let flags = out.flags_sub(Type::I64, left, zero);
    let over = out.cond(Cond::E, flags);
    let restart = out.snapshot(Snapshot {
        pc: cx.input.restart_pc,
        via: Via::Restart,
        ..map_snapshot(&body.end)
    });
    out.guard(over, false, restart);
    // At the head of every turn: a value of the first iteration that changes is what the loop carries for it.
    let held = |value: Value| {
        let value = at_head.canonical(value);
        let stays = value.as_op().is_none() || cx.canonical(body.copy(value)) == value;
        (stays || phis.contains_key(&value)).then(|| map(value))
    };
    let held_root = |root: &Root| {
        let held_all = root.parts().all(|part| held(part).is_some());
        held_all.then(|| root.with(&|part| held(part).unwrap_or(part)))
    };
    // What the first iteration has shown, every turn has shown by its end: its guards are there again, or implied.
    let before = cx.memory.facts.before(count).into_iter();
    let in_turns: Vec<Fact> = before
        .filter_map(|fact| {
            let (a, b) = (held_root(&fact.a.0)?, held_root(&fact.b.0)?);
            Some(Fact {
                at: count + shift,
                a: (a, fact.a.1, fact.a.2),
                b: (b, fact.b.1, fact.b.2),
            })
        })
        .collect();
    let lasting = cx.memory.used_at_head().into_iter().filter_map(|(place, value)| {
        let (value, root) = (held(value)?, held_root(&place.root)?);
        Some((Place { root, ..place }, value))
    });
    cx.memory.lasting = lasting.collect();
    cx.memory.facts.change(|fact| {
        if fact.at > count {
            fact.at += shift;
            fact.a.0 = fact.a.0.with(&map);
            fact.b.0 = fact.b.0.with(&map);
        }
        true
    });
    for fact in in_turns {
        cx.memory.facts.add(fact);
    }
    let mut next = vec![(counter, left)];
    next.extend(
        carried
            .iter()
            .map(|value| (phis[value], map(cx.canonical(body.copy(*value))))),
    );
    out.finish(End::Loop { carried: next })
}

/// The values of the first iteration that the loop uses and that change, in order; and how many of its operations are used.
fn uses(all: &Trace, cx: &Cx<'_>, count: usize, body: &Body) -> (Vec<Value>, usize) {
    let mut found: Vec<Value> = Vec::new();
    let mut needed = vec![false; all.ops.len()];
    let mut work: Vec<Value> = Vec::new();
    work.extend(body.end.values());
    for (index, op) in all.ops.iter().enumerate().skip(count) {
        if crate::dce::stays(op) {
            work.push(Value::op(index));
        }
    }
    while let Some(value) = work.pop() {
        let Some(index) = value.as_op() else { continue };
        if std::mem::replace(&mut needed[index], true) {
            continue;
        }
        if index < count {
            let copy = cx.canonical(body.copy(value));
            if copy != value {
                found.push(value);
                work.push(copy);
            }
            continue;
        }
        let op: &Op = &all.ops[index];
        work.extend(op.operands().iter().filter(|v| !v.is_none()));
        if let Some(at) = op.snapshot() {
            work.extend(all.snapshots[at].values());
        }
        if op.code == Opcode::Native {
            work.extend(all.natives[op.aux as usize].values());
        }
    }
    found.sort_unstable();
    let used = needed[count..].iter().filter(|needed| **needed).count();
    (found, used)
}

fn copy_pools(mut out: Builder, from: &Trace) -> Builder {
    for constant in &from.constants {
        out.constant(constant.ty, constant.bits);
    }
    for snapshot in &from.snapshots {
        out.snapshot(snapshot.clone());
    }
    out.natives(&from.natives);
    out
}

fn origin(out: &mut Builder, all: &Trace, index: usize) {
    if let Some(pc) = all.begins(index) {
        out.origin(pc);
    }
}
