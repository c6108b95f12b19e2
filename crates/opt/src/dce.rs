//! Dead code: operations whose results nothing needs, checkpoints, phis that feed only themselves.
//!
//! Floating-point operations stay: their sticky exception bits are part of the state at every exit. Loads go, though
//! they might have faulted: a program that runs on after a fault of its own interpreter's loads is not supported.

use redmagic_ir::opcode::Effects;
use redmagic_ir::{End, Op, Opcode, Trace, Value};

/// Whether an operation stays although nothing uses its result.
pub(crate) fn stays(op: &Op) -> bool {
    let effects = op.code.effects();
    match op.code {
        Opcode::Checkpoint => false,
        _ => [
            Effects::WRITE,
            Effects::GUARD,
            Effects::BARRIER,
            Effects::TRAP,
            Effects::FP,
        ]
        .into_iter()
        .any(|effect| effects.has(effect)),
    }
}

/// The operations that something needs.
pub fn live(trace: &Trace) -> Vec<bool> {
    let mut live = vec![false; trace.ops.len()];
    let mut work: Vec<usize> = Vec::new();
    let need = |value: Value, live: &mut Vec<bool>, work: &mut Vec<usize>| {
        if let Some(index) = value.as_op()
            && !live[index]
        {
            live[index] = true;
            work.push(index);
        }
    };
    for (index, op) in trace.ops.iter().enumerate() {
        if stays(op) {
            need(Value::op(index), &mut live, &mut work);
        }
    }
    match &trace.end {
        End::Branch { cond, .. } => need(*cond, &mut live, &mut work),
        End::Jump { target, .. } => need(*target, &mut live, &mut work),
        _ => {}
    }
    if let Some(end) = trace.end.snapshot() {
        end.values().for_each(|value| need(value, &mut live, &mut work));
    }
    while let Some(index) = work.pop() {
        let op = &trace.ops[index];
        for value in op.operands() {
            if !value.is_none() {
                need(*value, &mut live, &mut work);
            }
        }
        if let Some(at) = op.snapshot() {
            let values = trace.snapshots[at].values();
            values.for_each(|value| need(value, &mut live, &mut work));
        }
        if op.code == Opcode::Native {
            let values = trace.natives[op.aux as usize].values();
            values.for_each(|value| need(value, &mut live, &mut work));
        }
        if op.code == Opcode::Phi
            && let End::Loop { carried } = &trace.end
            && let Some((_, next)) = carried.iter().find(|(phi, _)| phi.as_op() == Some(index))
        {
            need(*next, &mut live, &mut work);
        }
    }
    live
}

/// Removes what nothing needs.
#[must_use]
pub fn dce(trace: Trace) -> (Trace, Renumbered) {
    let live = live(&trace);
    keep(trace, &live)
}

/// The trace with the operations that are marked.
pub(crate) fn keep(mut trace: Trace, kept: &[bool]) -> (Trace, Renumbered) {
    let mut map = vec![Value::NONE; trace.ops.len()];
    let mut count = 0;
    // How many stay before each operation.
    let mut before = Vec::with_capacity(kept.len() + 1);
    for (index, kept) in kept.iter().enumerate() {
        before.push(count as u32);
        if *kept {
            map[index] = Value::op(count);
            count += 1;
        }
    }
    before.push(count as u32);
    let origins = std::mem::take(&mut trace.origins);
    for (first, pc) in origins {
        let first = before[(first as usize).min(kept.len())];
        match trace.origins.last_mut() {
            Some(last) if last.0 == first => last.1 = pc,
            _ => trace.origins.push((first, pc)),
        }
    }
    let mut index = 0;
    trace.ops.retain(|_| {
        index += 1;
        kept[index - 1]
    });
    rewrite(&mut trace, &|value| match value.as_op() {
        Some(index) => map[index],
        None => value,
    });
    (trace, Renumbered { map, before })
}

/// What became of the operations of a trace.
#[derive(Debug)]
pub struct Renumbered {
    /// Their new values, or none.
    map: Vec<Value>,
    /// How many stay before each.
    before: Vec<u32>,
}

impl Renumbered {
    /// The new name of a value, if it is still there.
    pub(crate) fn value(&self, value: Value) -> Option<Value> {
        let new = value.as_op().map_or(value, |index| self.map[index]);
        (!new.is_none()).then_some(new)
    }

    /// The number of operations that stay of the first `at`.
    pub(crate) fn position(&self, at: usize) -> usize {
        self.before[at.min(self.before.len() - 1)] as usize
    }
}

/// Replaces every value that the trace refers to. Snapshots and natives that no operation has any more are left as they are.
pub(crate) fn rewrite(trace: &mut Trace, map: &dyn Fn(Value) -> Value) {
    let change = |value: &mut Value| {
        if !value.is_none() {
            *value = map(*value);
        }
    };
    let mut done = vec![false; trace.snapshots.len()];
    for op in &mut trace.ops {
        op.args.iter_mut().for_each(change);
        if let Some(at) = op.snapshot()
            && !std::mem::replace(&mut done[at], true)
        {
            trace.snapshots[at].values_mut().for_each(change);
        }
        if op.code == Opcode::Native {
            trace.natives[op.aux as usize].values_mut().for_each(change);
        }
    }
    match &mut trace.end {
        End::Branch { cond, .. } => change(cond),
        End::Jump { target, .. } => change(target),
        End::Loop { carried } => carried.retain_mut(|(phi, next)| {
            change(phi);
            if phi.is_none() {
                return false;
            }
            change(next);
            true
        }),
        _ => {}
    }
    if let Some(snapshot) = trace.end.snapshot_mut() {
        snapshot.values_mut().for_each(change);
    }
}
