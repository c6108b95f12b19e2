//! Every operation of the IR's table is lowered, for every type that it has, but for those that are listed here.

use redmagic_emit::copy::{Environment, Start, ThreadOffsets};
use redmagic_emit::exits::ExitEnvironment;
use redmagic_emit::lower::{LowerError, Target, Targets, compile};
use redmagic_ir::opcode::{Immediate, Kind};
use redmagic_ir::trace::ExitStore;
use redmagic_ir::{Addr, Builder, Cond, End, Op, Opcode, Reg, Snapshot, Type, Value, types, verify};

/// `fma` has only an encoding that zeroes the upper half of its result's register; bytes have no bit test.
const REFUSED: [&str; 3] = ["fma.f32", "fma.f64", "flags.bt.i8"];

/// A value of this type that is no constant.
fn value(b: &mut Builder, ty: Type, general: Value, vector: Value) -> Value {
    match ty {
        Type::I64 => general,
        Type::I8 | Type::I16 | Type::I32 => b.trunc(ty, general),
        Type::F32 | Type::F64 => b.load(ty, Addr::base(general, 64)),
        Type::V128 => vector,
        Type::Flags => b.flags_sub(Type::I64, general, general),
        Type::I1 => {
            let flags = b.flags_add(Type::I64, general, general);
            b.cond(Cond::E, flags)
        }
        Type::Void | Type::Tuple => unreachable!("no operand"),
    }
}

/// The operation with this suffix, its result used.
fn compiles(code: Opcode, ty: Type) -> Result<(), LowerError> {
    let mut b = Builder::new();
    let registers: Vec<Value> = (0..4).map(|i| b.reg(Reg::gpr(8 + i))).collect();
    let vectors: Vec<Value> = (0..4).map(|i| b.reg(Reg::xmm(3 + i))).collect();
    let info = code.info();
    let mut op = Op {
        code,
        ty,
        imm: 0,
        aux: 0,
        args: [Value::NONE; 4],
    };
    for (i, (name, kind)) in info.operands.iter().enumerate() {
        let wanted = match kind {
            Kind::T => ty,
            Kind::Segment => continue,
            Kind::Base | Kind::Index => Type::I64,
            kind => types::ANY.iter().find(|t| kind.accepts(ty, *t)).expect("some type"),
        };
        op.args[i] = match *name {
            // Which direction repeated operations take is to be known.
            "step" => b.constant(Type::I64, ty.bytes().into()),
            _ => value(&mut b, wanted, registers[i], vectors[i]),
        };
    }
    if info.immediate == Immediate::Imm && code == Opcode::Fence {
        op.imm = 7;
    }
    let result = b.push(op);
    let mut snapshot = Snapshot {
        pc: 0x101000,
        ..Snapshot::default()
    };
    let mut stored = result;
    match op.result() {
        Type::Void | Type::Tuple => stored = Value::NONE,
        Type::Flags => {
            snapshot.regs.push((Reg::FLAGS, result));
            stored = Value::NONE;
        }
        Type::I1 => stored = b.zext(Type::I64, result),
        _ => {}
    }
    if !stored.is_none() {
        let ty = b.type_of(stored);
        b.store(ty, stored, Addr::base(registers[3], 8));
        // An exit, too, can compute it.
        snapshot.stores.push(ExitStore {
            value: stored,
            base: registers[3],
            disp: 32,
        });
    }
    let trace = b.finish(End::Exit { snapshot });
    verify::verify(&trace).unwrap_or_else(|e| panic!("{e}\n{trace}"));
    let target = Target {
        ip: 0x100000,
        slot: 0x1d0000,
    };
    let targets = Targets {
        end: target,
        restart: target,
        turn: false,
        reentry: None,
        joins: false,
    };
    let environment = Environment {
        base: 0x100000,
        cold_base: None,
        data_base: 0x180000,
        first_exit: 0,
        exits: ExitEnvironment {
            counters: 0x1c0000,
            first_id: 0,
            park: 0x400000,
            again: 256,
        },
        thread: ThreadOffsets::default(),
    };
    compile(&trace, Start::Exit, &targets, &environment).map(|_| ())
}

#[test]
fn every_operation_is_lowered() {
    use Opcode as O;
    let mut refused = Vec::new();
    for &code in Opcode::ALL {
        // These are parts of other things, and have tests of their own.
        let structure = matches!(
            code,
            O::Reg | O::LoopHead | O::Phi | O::Get | O::Native | O::Call | O::GuardTrue | O::GuardFalse | O::Checkpoint
        );
        if structure {
            continue;
        }
        let suffixes: Vec<Type> = code.info().suffix.map_or(vec![Type::Void], |set| set.iter().collect());
        for ty in suffixes {
            if let Err(error) = compiles(code, ty) {
                let name = match ty {
                    Type::Void => code.info().name.to_owned(),
                    ty => format!("{}.{ty}", code.info().name),
                };
                println!("{name}: {error}");
                refused.push(name);
            }
        }
    }
    refused.sort();
    let mut expected = REFUSED.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(refused, expected);
}
