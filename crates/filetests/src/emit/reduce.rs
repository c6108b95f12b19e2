//! Makes a trace smaller, as long as something stays true of it.

use redmagic_ir::{Constant, End, Op, Opcode, Snapshot, Trace, Type, Value, types, verify};

/// The smallest trace that was found for which `fails` is still true.
pub fn reduce(trace: &Trace, fails: &mut dyn FnMut(&Trace) -> bool) -> Trace {
    let mut best = trace.clone();
    let mut attempt = |best: &mut Trace, smaller: Trace| {
        let better = smaller != *best && verify::verify(&smaller).is_ok() && fails(&smaller);
        if better {
            *best = smaller;
        }
        better
    };
    // After a call, what is not listed is what it was at the entry, and that is gone.
    let calls = trace.ops.iter().any(|op| op.code == Opcode::Call);
    let mut rounds = 0;
    loop {
        let mut progress = false;
        // The longest piece first.
        let mut size = best.ops.len().max(1);
        while size > 0 {
            let mut at = best.ops.len();
            while at > 0 {
                let from = at.saturating_sub(size);
                let mut smaller = without(&best, from, at);
                if smaller.ops.len() == best.ops.len() {
                    smaller = best.clone();
                }
                progress |= attempt(&mut best, smaller);
                at = from;
            }
            size /= 2;
        }
        for at in 0..best.snapshots.len() {
            for reg in (0..best.snapshots[at].regs.len()).rev().filter(|_| !calls) {
                let mut smaller = best.clone();
                smaller.snapshots[at].regs.remove(reg);
                progress |= attempt(&mut best, smaller);
            }
            for store in (0..best.snapshots[at].stores.len()).rev() {
                let mut smaller = best.clone();
                smaller.snapshots[at].stores.remove(store);
                progress |= attempt(&mut best, smaller);
            }
        }
        let listed = best.end.snapshot().map_or(0, |s| s.regs.len());
        for reg in (0..listed).rev().filter(|_| !calls) {
            let mut smaller = best.clone();
            smaller.end.snapshot_mut().expect("it has one").regs.remove(reg);
            progress |= attempt(&mut best, smaller);
        }
        rounds += 1;
        if !progress || rounds > 20 {
            return best.normalized();
        }
    }
}

/// The trace without these operations. What used their results uses an operand of the same type instead, or 0.
fn without(trace: &Trace, from: usize, to: usize) -> Trace {
    let mut out = trace.clone();
    let mut map: Vec<Value> = Vec::with_capacity(trace.ops.len());
    let mut ops: Vec<Op> = Vec::new();
    let carried_phi = |i: usize| trace.ops[i].code == Opcode::Phi;
    for (i, op) in trace.ops.iter().enumerate() {
        let mut op = *op;
        for arg in &mut op.args {
            *arg = mapped(&map, *arg);
        }
        let structure = op.code == Opcode::LoopHead || carried_phi(i) && trace.ops[i].ty == Type::Tuple;
        if (from..to).contains(&i) && !structure {
            let ty = op.result();
            let same = op
                .args
                .iter()
                .copied()
                .find(|arg| !arg.is_none() && type_in(&out, &ops, *arg) == ty);
            map.push(match same {
                Some(value) => value,
                None if types::ANY.contains(ty) => constant(&mut out, ty),
                None => Value::NONE,
            });
        } else {
            map.push(Value::op(ops.len()));
            ops.push(op);
        }
    }
    let fix = |snapshot: &mut Snapshot| {
        for (_, value) in &mut snapshot.regs {
            *value = mapped(&map, *value);
        }
        for store in &mut snapshot.stores {
            store.value = mapped(&map, store.value);
            store.base = mapped(&map, store.base);
        }
    };
    out.snapshots.iter_mut().for_each(fix);
    for native in &mut out.natives {
        for (_, value) in &mut native.inputs {
            *value = mapped(&map, *value);
        }
    }
    if let Some(snapshot) = out.end.snapshot_mut() {
        fix(snapshot);
    }
    match &mut out.end {
        End::Branch { cond: value, .. } | End::Jump { target: value, .. } => *value = mapped(&map, *value),
        End::Loop { carried } => {
            carried.retain(|(phi, _)| !phi.as_op().is_some_and(|i| (from..to).contains(&i)));
            for (phi, next) in carried {
                *phi = mapped(&map, *phi);
                *next = mapped(&map, *next);
            }
        }
        _ => {}
    }
    out.ops = ops;
    out.origins.clear();
    out
}

fn mapped(map: &[Value], value: Value) -> Value {
    match value.as_op() {
        Some(i) => map.get(i).copied().unwrap_or(value),
        None => value,
    }
}

fn type_in(trace: &Trace, ops: &[Op], value: Value) -> Type {
    match (value.as_op(), value.as_constant()) {
        (Some(i), _) => ops.get(i).map_or(Type::Void, Op::result),
        (_, Some(i)) => trace.constants.get(i).map_or(Type::Void, |k| k.ty),
        _ => Type::Void,
    }
}

fn constant(trace: &mut Trace, ty: Type) -> Value {
    let wanted = Constant { ty, bits: 0 };
    let at = trace.constants.iter().position(|k| *k == wanted).unwrap_or_else(|| {
        trace.constants.push(wanted);
        trace.constants.len() - 1
    });
    Value::constant(at)
}
