use super::*;
use crate::parse::parse_unverified;
use crate::trace::{Constant, MemFlags, NativeMem};

/// A trace with something of everything.
const GOOD: &str = "\
@0x1000
v0 = reg.i64 rax
v1 = reg.i64 rcx
v2 = native {pc=0x1000, bytes=0fa2, in(rax=v0, rcx=v1), out(rax, rcx), mem(v0, 8, r)}
v3 = get.i64 v2, rcx
v4 = load.i32 [v0 + v3*4 + 8] aligned
@0x1007
loophead
v6 = phi.i32 v4
v7 = phi.i64 v3
v8 = add.i32 v6, 1
v9 = cond.e 0x40
guard.true v9 {pc=0x2000, rax=v3, rcx=v7, store.i32 v8, [v0 + 4]}
v11 = lea [v7 + 8]
v12 = extract.i32 0:v128, 3
fence 6
v14 = call v0, full {pc=0x1010, rsp=v11}
v15 = fcmp.f64 1.0, 2.0, 7
loop v6=v8, v7=v11
";

fn good() -> Trace {
    parse_unverified(GOOD).expect("syntax")
}

const RAX: Reg = Reg::RAX;
const NO: Value = Value::NONE;

/// Every invariant with ways to break it.
#[allow(clippy::type_complexity)]
fn damages() -> Vec<(Invariant, &'static str, fn(&mut Trace))> {
    use Invariant as I;
    fn snapshot(t: &mut Trace) -> &mut Snapshot {
        &mut t.snapshots[0]
    }
    fn ends(t: &mut Trace, end: End) {
        // The loop head is no loop head then.
        t.ops.truncate(5);
        t.end = end;
    }
    vec![
        (I::Size, "constants", |t| {
            t.constants.resize(Value::LIMIT, Constant { ty: Type::I8, bits: 0 })
        }),
        (I::Suffix, "not in the row", |t| t.ops[8].ty = Type::F32),
        (I::Suffix, "the row has none", |t| t.ops[9].ty = Type::I32),
        (I::Presence, "absent", |t| t.ops[8].args[1] = NO),
        (I::Presence, "too many", |t| t.ops[8].args[2] = Value::op(0)),
        (I::Definition, "itself", |t| t.ops[8].args[0] = Value::op(8)),
        (I::Definition, "later", |t| t.ops[8].args[0] = Value::op(9)),
        (I::Definition, "not at all", |t| t.ops[8].args[0] = Value::op(1000)),
        (I::Definition, "no such constant", |t| {
            t.ops[8].args[0] = Value::constant(1000)
        }),
        (I::Type, "not the suffix", |t| t.ops[8].args[0] = Value::op(0)),
        (I::Type, "no value", |t| t.ops[8].args[0] = Value::op(5)),
        (I::Type, "no tuple", |t| t.ops[3].args[0] = Value::op(0)),
        (I::Type, "no address", |t| t.ops[11].args[0] = Value::op(6)),
        (I::Immediate, "condition", |t| t.ops[9].imm = 16),
        (I::Immediate, "lane", |t| t.ops[12].imm = 4),
        (I::Immediate, "register", |t| t.ops[0].imm = Reg::COUNT as u8),
        (I::Immediate, "register of another type", |t| {
            t.ops[0].imm = Reg::FLAGS.index() as u8
        }),
        (I::Immediate, "fence", |t| t.ops[13].imm = 4),
        (I::Immediate, "convention", |t| t.ops[14].imm = 2),
        (I::Immediate, "predicate", |t| t.ops[15].imm = 8),
        (I::Immediate, "memory flags", |t| t.ops[4].imm |= 32),
        (I::Canonical, "imm", |t| t.ops[8].imm = 1),
        (I::Canonical, "aux", |t| t.ops[8].aux = 1),
        (I::Canonical, "scale", |t| t.ops[11].imm = MemFlags::new(2, false).0),
        (I::Canonical, "aligned lea", |t| {
            t.ops[11].imm = MemFlags::new(1, true).0
        }),
        (I::Canonical, "an unwritten lea", |t| {
            t.ops[11].imm = MemFlags::new(1, false).unwritten().0
        }),
        (I::Canonical, "a lea that saves", |t| t.ops[11].imm |= 16),
        (I::EntryRegister, "twice", |t| t.ops[1].imm = 0),
        (I::LoopHead, "two", |t| t.ops[13] = t.ops[5]),
        (I::LoopHead, "no loop", |t| {
            t.end = End::Exit {
                snapshot: Snapshot::default(),
            };
        }),
        (I::LoopHead, "none", |t| {
            ends(t, End::Loop { carried: Vec::new() });
        }),
        (I::Phi, "no head", |t| t.ops.swap(5, 6)),
        (I::Phi, "not directly", |t| t.ops.swap(7, 8)),
        (I::Phi, "initial value after the head", |t| {
            t.ops[7].args[0] = Value::op(7)
        }),
        (I::Phi, "initial value is a phi", |t| {
            t.ops[7].ty = Type::I32;
            t.ops[7].args[0] = Value::op(6);
        }),
        (I::Carried, "a phi is missing", |t| {
            let End::Loop { carried } = &mut t.end else {
                unreachable!()
            };
            carried.pop();
        }),
        (I::Carried, "order", |t| {
            let End::Loop { carried } = &mut t.end else {
                unreachable!()
            };
            carried.swap(0, 1);
        }),
        (I::Carried, "type", |t| {
            let End::Loop { carried } = &mut t.end else {
                unreachable!()
            };
            carried[0].1 = Value::op(11);
        }),
        (I::Carried, "no phi", |t| {
            let End::Loop { carried } = &mut t.end else {
                unreachable!()
            };
            carried[0].0 = Value::op(8);
        }),
        (I::Carried, "undefined", |t| {
            let End::Loop { carried } = &mut t.end else {
                unreachable!()
            };
            carried[0].1 = Value::op(16);
        }),
        (I::Tuple, "no output", |t| t.ops[3].imm = Reg::RDX.index() as u8),
        (I::Snapshot, "none", |t| t.ops[10].aux = 100),
        (I::Snapshot, "negative", |t| t.ops[10].aux = -1),
        (I::Snapshot, "order", |t| snapshot(t).regs.swap(0, 1)),
        (I::Snapshot, "twice", |t| snapshot(t).regs[1].0 = RAX),
        (I::Snapshot, "type", |t| snapshot(t).regs[0].1 = Value::op(8)),
        (I::Snapshot, "later", |t| snapshot(t).regs[0].1 = Value::op(11)),
        (I::Snapshot, "absent", |t| snapshot(t).regs[0].1 = NO),
        (I::Snapshot, "of the end", |t| {
            let regs = vec![(RAX, Value::op(4))];
            ends(
                t,
                End::Exit {
                    snapshot: Snapshot {
                        regs,
                        ..Snapshot::default()
                    },
                },
            );
        }),
        (I::ExitStore, "type", |t| snapshot(t).stores[0].value = Value::op(9)),
        (I::ExitStore, "later", |t| snapshot(t).stores[0].value = Value::op(11)),
        (I::ExitStore, "base", |t| snapshot(t).stores[0].base = Value::op(8)),
        (I::ExitStore, "absent base", |t| snapshot(t).stores[0].base = NO),
        (I::Native, "none", |t| t.ops[2].aux = 7),
        (I::Native, "no bytes", |t| t.natives[0].bytes.clear()),
        (I::Native, "16 bytes", |t| t.natives[0].bytes.resize(16, 0)),
        (I::Native, "inputs", |t| t.natives[0].inputs.swap(0, 1)),
        (I::Native, "type of an input", |t| t.natives[0].inputs[1].0 = Reg::FLAGS),
        (I::Native, "later input", |t| t.natives[0].inputs[0].1 = Value::op(2)),
        (I::Native, "outputs", |t| {
            t.natives[0].outputs = vec![Reg::RCX, Reg::RCX]
        }),
        (I::Native, "memory unused", |t| t.natives[0].mem[0].read = false),
        (I::Native, "memory without size", |t| t.natives[0].mem[0].size = 0),
        (I::Native, "memory anywhere with a size", |t| {
            t.natives[0].mem[0].addr = None
        }),
        (I::Native, "address", |t| {
            t.natives[0].mem.push(NativeMem {
                addr: Some(Value::op(4)),
                size: 1,
                read: true,
                write: false,
            });
        }),
        (I::Constant, "equal", |t| t.constants.push(t.constants[0])),
        (I::Constant, "bits", |t| t.constants[0].bits = 1 << 64),
        (I::Constant, "no flag", |t| {
            t.constants.push(Constant {
                ty: Type::Flags,
                bits: 2,
            })
        }),
        (I::Constant, "tuple", |t| {
            t.constants.push(Constant {
                ty: Type::Tuple,
                bits: 0,
            })
        }),
        (I::Origin, "order", |t| t.origins.swap(0, 1)),
        (I::Origin, "twice", |t| t.origins.push(t.origins[1])),
        (I::Origin, "behind the end", |t| t.origins.push((17, 0))),
        (I::End, "condition", |t| {
            ends(
                t,
                End::Branch {
                    cond: Value::op(0),
                    taken: 0,
                    snapshot: Snapshot::default(),
                },
            );
        }),
        (I::End, "target", |t| {
            ends(
                t,
                End::Jump {
                    target: NO,
                    snapshot: Snapshot::default(),
                },
            );
        }),
        (I::End, "pc of a jump", |t| {
            ends(
                t,
                End::Jump {
                    target: Value::op(0),
                    snapshot: Snapshot {
                        pc: 1,
                        ..Snapshot::default()
                    },
                },
            );
        }),
    ]
}

#[test]
fn a_valid_trace_is_accepted() {
    assert_eq!(violations(&good()), []);
    assert_eq!(verify(&good()), Ok(()));
}

#[test]
fn each_invariant_is_checked() {
    let damages = damages();
    for (invariant, how, damage) in &damages {
        let mut trace = good();
        damage(&mut trace);
        let found = violations(&trace);
        assert!(
            found.iter().any(|v| v.invariant == *invariant),
            "{invariant:?}, {how}: found {found:?}"
        );
        assert_eq!(verify(&trace).as_ref(), Err(&found[0]), "{invariant:?}, {how}");
        // What is refused can still be shown.
        assert!(trace.ops.len() > 1000 || !trace.to_string().is_empty());
    }
    for invariant in Invariant::ALL {
        assert!(damages.iter().any(|d| d.0 == *invariant), "{invariant:?} has no test");
    }
}

#[test]
fn numbers_are_those_of_the_documentation() {
    let source = include_str!("mod.rs");
    for (i, invariant) in Invariant::ALL.iter().enumerate() {
        assert_eq!(*invariant as usize, i + 1);
        assert!(source.contains(&format!("//! {:>2}. **", i + 1)));
    }
    assert!(!source.contains(&format!("//! {:>2}. **", Invariant::ALL.len() + 1)));
}

#[test]
fn a_violation_shows_the_operation() {
    let mut trace = good();
    trace.ops[8].args[0] = Value::op(0);
    assert_eq!(
        verify(&trace).unwrap_err().to_string(),
        "operation 8, `v8 = add.i32 v0, 1`: operand a is to be i32, and is i64 (invariant 5, Type)"
    );
    trace = good();
    let End::Loop { carried } = &mut trace.end else {
        unreachable!()
    };
    carried.pop();
    assert_eq!(
        verify(&trace).unwrap_err().to_string(),
        "`loop v6=v8`: these are not the phis of the loop in order (invariant 11, Carried)"
    );
}
