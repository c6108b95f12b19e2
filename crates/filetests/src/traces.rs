//! Random valid traces: every opcode of the table, with operands of every kind, constants, snapshots, natives, loops.
//!
//! They mean nothing. They are for what must hold of *any* valid trace: that the verifier accepts it, that its text reads
//! back, that the evaluator does not panic, and that a pass keeps what it does.

use redmagic_ir::opcode::{Immediate, Kind};
use redmagic_ir::trace::ExitStore;
use redmagic_ir::{
    Abi, Builder, End, MemFlags, Native, NativeMem, Op, Opcode, Reg, Snapshot, Trace, Type, Value, flags, types,
};

use crate::random::Random;

/// Where the addresses of these traces tend to be: evaluate them with memory here.
pub const MEMORY: u64 = 0x10_0000;
/// Bytes of it.
pub const MEMORY_SIZE: usize = 0x1000;

/// A valid trace of about `size` operations.
pub fn random(r: &mut Random, size: usize) -> Trace {
    let mut g = Generator {
        b: Builder::new(),
        entry: Vec::new(),
        values: Vec::new(),
    };
    g.sprinkle(r, size / 2);
    let looping = r.one_in(3);
    let mut phis = Vec::new();
    if looping {
        g.b.loop_head();
        for _ in 0..r.below(4) {
            let ty = *r.pick(&types::ANY.iter().collect::<Vec<_>>());
            // An initial value is from before the head; so the phis are offered to others only when all are there.
            let init = g.value(r, ty);
            phis.push(g.b.phi(ty, init));
        }
        g.values.extend(&phis);
    }
    g.sprinkle(r, size - size / 2);
    let end = if looping {
        let carried = phis.iter().map(|phi| (*phi, g.value(r, g.b.type_of(*phi)))).collect();
        End::Loop { carried }
    } else {
        g.end(r)
    };
    g.b.finish(end)
}

struct Generator {
    b: Builder,
    entry: Vec<Reg>,
    /// The results that may be operands.
    values: Vec<Value>,
}

impl Generator {
    fn sprinkle(&mut self, r: &mut Random, count: usize) {
        for i in 0..count {
            if r.one_in(6) {
                self.b.origin(0x40_0000 + 4 * i as u64);
            }
            let code = *r.pick(Opcode::ALL);
            let value = match code {
                Opcode::LoopHead | Opcode::Phi => continue,
                Opcode::Reg => self.entry_register(r),
                Opcode::Get => self.get(r),
                _ => Some(self.op(r, code)),
            };
            if let Some(value) = value
                && self.b.type_of(value) != Type::Void
            {
                self.values.push(value);
            }
        }
    }

    fn entry_register(&mut self, r: &mut Random) -> Option<Value> {
        let reg = register(r);
        if self.entry.contains(&reg) {
            return None;
        }
        self.entry.push(reg);
        Some(self.b.reg(reg))
    }

    fn get(&mut self, r: &mut Random) -> Option<Value> {
        let tuple = self.existing(r, |ty| ty == Type::Tuple)?;
        let source = self.b.trace().ops[tuple.as_op()?];
        let reg = match source.code {
            Opcode::Native => {
                let outputs = &self.b.trace().natives[source.aux as usize].outputs;
                if outputs.is_empty() {
                    return None;
                }
                *r.pick(outputs)
            }
            Opcode::Call => register(r),
            _ => *r.pick(&[Reg::RCX, Reg::FLAGS]),
        };
        Some(self.b.get(tuple, reg))
    }

    fn op(&mut self, r: &mut Random, code: Opcode) -> Value {
        let info = code.info();
        let ty = info
            .suffix
            .map_or(Type::Void, |set| *r.pick(&set.iter().collect::<Vec<_>>()));
        let mut op = Op {
            code,
            ty,
            imm: 0,
            aux: 0,
            args: [Value::NONE; 4],
        };
        for (i, (_, kind)) in info.operands.iter().enumerate() {
            op.args[i] = match kind {
                Kind::T => self.value(r, ty),
                Kind::In(_) | Kind::Narrower | Kind::Wider | Kind::SameSize | Kind::OtherFloat => {
                    let fitting: Vec<Type> = types::ANY.iter().filter(|t| kind.accepts(ty, *t)).collect();
                    let ty = *r.pick(&fitting);
                    self.value(r, ty)
                }
                Kind::Base => self.address_part(r, 5),
                Kind::Index => self.address_part(r, 2),
                Kind::Segment => self.address_part(r, 4),
            };
        }
        match info.immediate {
            Immediate::No => {}
            Immediate::Cc => op.imm = r.below(16) as u8,
            Immediate::Lane => op.imm = r.below(u64::from(128 / ty.bits())) as u8,
            Immediate::Imm => op.imm = immediate(r, code),
            Immediate::InReg => unreachable!("reg and get have their own functions"),
            Immediate::Mem => {
                let addr = op.addr().expect("an address");
                let scale = if addr.index.is_none() {
                    1
                } else {
                    *r.pick(&[1, 2, 4, 8])
                };
                op.imm = MemFlags::new(scale, code != Opcode::Lea && r.one_in(8)).0;
                op.aux = displacement(r);
            }
            Immediate::Snap => op.aux = self.snapshot_index(r),
            Immediate::Abi => {
                op.imm = *r.pick(&Abi::ALL) as u8;
                op.aux = self.snapshot_index(r);
            }
            Immediate::Nat => {
                let native = self.native(r);
                return self.b.native(native);
            }
        }
        self.b.push(op)
    }

    /// An operation's result of such a type.
    fn existing(&self, r: &mut Random, fits: impl Fn(Type) -> bool) -> Option<Value> {
        let fitting: Vec<Value> = self
            .values
            .iter()
            .copied()
            .filter(|v| fits(self.b.type_of(*v)))
            .collect();
        (!fitting.is_empty()).then(|| *r.pick(&fitting))
    }

    fn value(&mut self, r: &mut Random, ty: Type) -> Value {
        if !r.one_in(4)
            && let Some(value) = self.existing(r, |t| t == ty)
        {
            return value;
        }
        let bits = match ty {
            Type::F32 => u128::from(r.single()),
            Type::F64 => u128::from(r.double()),
            Type::V128 => r.vector(),
            Type::Flags => u128::from(r.bits() as u32 & flags::STATUS),
            Type::I64 if r.one_in(3) => u128::from(MEMORY + r.below(MEMORY_SIZE as u64)),
            _ => u128::from(r.integer()),
        };
        self.b.constant(ty, bits)
    }

    /// Present `of` times in 6.
    fn address_part(&mut self, r: &mut Random, of: u64) -> Value {
        if r.below(6) < of {
            self.value(r, Type::I64)
        } else {
            Value::NONE
        }
    }

    fn registers(&mut self, r: &mut Random) -> Vec<(Reg, Value)> {
        let mut regs: Vec<Reg> = (0..r.below(5)).map(|_| register(r)).collect();
        regs.sort_unstable();
        regs.dedup();
        regs.into_iter().map(|reg| (reg, self.value(r, reg.ty()))).collect()
    }

    fn snapshot(&mut self, r: &mut Random) -> Snapshot {
        let regs = self.registers(r);
        let stores = (0..r.below(3).saturating_sub(1))
            .map(|_| {
                let ty = *r.pick(&types::STORABLE.iter().collect::<Vec<_>>());
                ExitStore {
                    value: self.value(r, ty),
                    base: self.value(r, Type::I64),
                    disp: displacement(r),
                }
            })
            .collect();
        Snapshot {
            pc: r.integer(),
            regs,
            stores,
        }
    }

    /// Sometimes one that another operation has.
    fn snapshot_index(&mut self, r: &mut Random) -> i32 {
        let count = self.b.trace().snapshots.len() as u64;
        if count != 0 && r.one_in(4) {
            return r.below(count) as i32;
        }
        let snapshot = self.snapshot(r);
        self.b.snapshot(snapshot) as i32
    }

    fn native(&mut self, r: &mut Random) -> Native {
        let inputs = self.registers(r);
        let mut outputs: Vec<Reg> = (0..r.below(4)).map(|_| register(r)).collect();
        outputs.sort_unstable();
        outputs.dedup();
        let mem = (0..r.below(3))
            .map(|_| {
                let addr = r.one_in(2).then(|| self.value(r, Type::I64));
                let access = r.below(3);
                NativeMem {
                    addr,
                    size: if addr.is_some() { 1 + r.below(64) as u32 } else { 0 },
                    read: access != 0,
                    write: access != 1,
                }
            })
            .collect();
        Native {
            pc: r.integer(),
            bytes: (0..1 + r.below(15)).map(|_| r.bits() as u8).collect(),
            inputs,
            outputs,
            mem,
        }
    }

    fn end(&mut self, r: &mut Random) -> End {
        let snapshot = self.snapshot(r);
        match r.below(5) {
            0 => End::Exit { snapshot },
            1 => End::Branch {
                cond: self.value(r, Type::I1),
                taken: r.integer(),
                snapshot,
            },
            2 => End::Jump {
                target: self.value(r, Type::I64),
                snapshot: Snapshot { pc: 0, ..snapshot },
            },
            3 => End::Repeat { snapshot },
            _ => End::Link {
                trace: r.bits() as u32,
                snapshot,
            },
        }
    }
}

fn register(r: &mut Random) -> Reg {
    Reg::from_index(r.below(Reg::COUNT as u64) as usize).expect("below the count")
}

fn displacement(r: &mut Random) -> i32 {
    match r.below(4) {
        0 => 0,
        1 | 2 => r.below(128) as i32 - 64,
        _ => r.bits() as i32,
    }
}

/// An immediate that the operation has a meaning for.
fn immediate(r: &mut Random, code: Opcode) -> u8 {
    match code {
        Opcode::Fence => 5 + r.below(3) as u8,
        Opcode::RepCmps | Opcode::RepScas => r.below(2) as u8,
        Opcode::Fma => r.below(4) as u8,
        Opcode::FCmp | Opcode::Cmpps | Opcode::Cmppd => r.below(8) as u8,
        Opcode::FRound | Opcode::Roundps | Opcode::Roundpd => r.below(16) as u8,
        _ => r.bits() as u8,
    }
}
