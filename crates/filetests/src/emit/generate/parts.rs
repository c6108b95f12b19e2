//! Loops, calls and native operations of random traces.

use redmagic_ir::trace::ExitStore;
use redmagic_ir::{Abi, Addr, Cond, End, Native, Reg, Snapshot, Type, Value, Via, types};

use super::{Generator, Made, all_registers, machine};
use crate::emit::NATIVES;
use crate::random::Random;

impl Generator {
    /// Something added to what memory holds, as compilers do it in one instruction; its flags decide, often.
    pub(super) fn update(&mut self, r: &mut Random) {
        let ty = *r.pick(&[Type::I8, Type::I16, Type::I32, Type::I64, Type::I64]);
        let addr = self.place(r, false);
        let old = self.b.load(ty, addr);
        let operand = if r.one_in(2) {
            self.b.constant(ty, u128::from(1 + r.below(3)))
        } else {
            self.value(r, ty)
        };
        let negative = self
            .b
            .trace()
            .constant(operand)
            .map(|bits| bits.wrapping_neg() & ty.mask());
        let (sum, flags) = match (r.below(8), negative) {
            (0..4, Some(negative)) => {
                let negative = self.b.constant(ty, negative);
                (self.b.add(ty, old, negative), self.b.flags_sub(ty, old, operand))
            }
            (0..2, _) => (self.b.sub(ty, old, operand), self.b.flags_sub(ty, old, operand)),
            (2..5, _) => (self.b.add(ty, operand, old), self.b.flags_add(ty, old, operand)),
            (5, _) => (self.b.add(ty, old, operand), self.b.flags_add(ty, old, operand)),
            (6, _) => {
                let sum = self.b.xor(ty, operand, old);
                (sum, self.b.flags_logic(ty, sum))
            }
            _ => {
                let sum = self.b.and(ty, old, operand);
                (sum, self.b.flags_logic(ty, sum))
            }
        };
        if r.one_in(6) {
            self.memory(r);
        }
        let to = if r.one_in(8) { self.place(r, true) } else { addr };
        self.b.store(ty, sum, to);
        if r.one_in(6) {
            self.common(r);
        }
        if !r.one_in(3) {
            let code = Cond::from_code(r.below(16) as u8).expect("below 16");
            let cond = self.b.cond(code, flags);
            let mut snapshot = self.snapshot(r);
            if r.one_in(2) {
                snapshot.set(Reg::FLAGS, flags);
            }
            let snapshot = self.b.snapshot(snapshot);
            self.b.guard(cond, r.one_in(2), snapshot);
        }
        for value in [old, sum, flags] {
            if r.one_in(6) {
                self.values.push(value);
            }
        }
    }

    pub(super) fn finish_loop(mut self, r: &mut Random, size: usize) -> Made {
        let calls = self.mix.calls != 0;
        let mut inits = Vec::new();
        for _ in 0..r.below(8) {
            let ty = *r.pick(&types::ANY.iter().collect::<Vec<_>>());
            inits.push((ty, self.value(r, ty)));
        }
        if calls {
            // Nothing from before the loop may be wanted after a call in it.
            for _ in 0..6 {
                inits.push((Type::I64, self.value(r, Type::I64)));
            }
            for _ in 0..4 {
                inits.push((Type::V128, self.value(r, Type::V128)));
            }
        }
        // The counter; where there are calls it is in memory that nothing else touches.
        let rounds = self.b.constant(Type::I64, 1 + u128::from(r.below(6)));
        let buffer = self.b.constant(Type::I64, machine::BUFFER.into());
        let word = Addr::base(buffer, 0xf00);
        if calls {
            self.b.store(Type::I64, rounds, word);
        }
        let mut high = Vec::new();
        if calls {
            let sp = self.stack_pointer();
            self.floor = self.floor.max(0);
            let up = self.b.lea(Addr::base(sp, self.floor as i32));
            self.stack.push((up, self.floor));
            self.bottom = Some((up, self.floor));
            high = self.high.clone();
            if high.is_empty() {
                let halves = (0..16).map(Reg::ymm_high);
                high = halves.map(|reg| (reg, self.b.reg(reg))).collect();
            }
        }
        self.b.loop_head();
        for (_, value) in &mut high {
            *value = self.b.phi(Type::V128, *value);
        }
        self.high = high.clone();
        let phis: Vec<(Type, Value)> = inits.iter().map(|(ty, init)| (*ty, self.b.phi(*ty, *init))).collect();
        let phi = self.b.phi(Type::I64, rounds);
        if calls {
            self.values.clear();
            self.closed = true;
        }
        self.values.extend(phis.iter().map(|(_, phi)| *phi));
        if calls {
            self.sprinkle(r, size / 3, false);
            self.mix.calls = 0;
        } else {
            self.sprinkle(r, size / 3, true);
        }
        let counter = if calls { self.b.load(Type::I64, word) } else { phi };
        let minus = self.b.constant(Type::I64, u128::from(u64::MAX));
        let one = self.b.constant(Type::I64, 1);
        let zero = self.b.constant(Type::I64, 0);
        let next = if r.one_in(2) {
            self.b.add(Type::I64, counter, minus)
        } else {
            self.b.sub(Type::I64, counter, one)
        };
        let flags = if r.one_in(2) {
            self.b.flags_sub(Type::I64, counter, one)
        } else {
            self.b.flags_sub(Type::I64, next, zero)
        };
        if calls {
            self.b.store(Type::I64, next, word);
        }
        self.values.push(next);
        self.values.push(flags);
        let cond = self.b.cond(Cond::NE, flags);
        if r.one_in(2) {
            self.sprinkle(r, size / 4, true);
        }
        let snapshot = self.snapshot(r);
        let snapshot = self.b.snapshot(snapshot);
        self.b.guard(cond, true, snapshot);
        if r.one_in(2) {
            self.sprinkle(r, size / 4, true);
        }
        let mut carried: Vec<(Value, Value)> = Vec::new();
        for ((_, phi), (_, next)) in high.iter().zip(&self.high) {
            carried.push((*phi, *next));
        }
        for (ty, phi) in &phis {
            carried.push((*phi, self.value(r, *ty)));
        }
        carried.push((phi, next));
        Made {
            trace: self.b.finish(End::Loop { carried }),
            anchor: self.anchor,
        }
    }

    pub(super) fn native(&mut self, r: &mut Random) {
        let (bytes, inputs, outputs) = NATIVES[r.below(NATIVES.len() as u64) as usize];
        let regs = |numbers: &[usize]| -> Vec<Reg> { numbers.iter().filter_map(|n| Reg::from_index(*n)).collect() };
        let mut inputs: Vec<(Reg, Value)> = regs(inputs).into_iter().map(|reg| (reg, Value::NONE)).collect();
        for (reg, value) in &mut inputs {
            *value = if *reg == Reg::RSP {
                match self.stack_place(r) {
                    (sp, at) if at >= -128 => sp,
                    // Nothing may have been written there.
                    _ => self.stack_pointer(),
                }
            } else {
                self.value(r, reg.ty())
            };
        }
        let outputs = regs(outputs);
        let t = self.b.native(Native {
            pc: 0x40_0000,
            bytes: bytes.to_vec(),
            inputs,
            outputs: outputs.clone(),
            mem: Vec::new(),
        });
        for reg in outputs {
            if !r.one_in(4) {
                let v = self.b.get(t, reg);
                self.values.push(v);
            }
        }
    }

    pub(super) fn call(&mut self, r: &mut Random) {
        let sysv = r.one_in(2);
        let (sp, at) = match self.bottom {
            Some(bottom) => bottom,
            None => self.stack_place(r),
        };
        let minus = self.b.constant(Type::I64, u128::from((-8i64) as u64));
        let pushed = self.b.add(Type::I64, sp, minus);
        let callee = if sysv { machine::CALLEE_SYSV } else { machine::CALLEE };
        let mut regs = Vec::new();
        for reg in all_registers() {
            if self.closed || r.one_in(2) {
                regs.push((reg, self.value(r, reg.ty())));
            }
        }
        regs.push((Reg::RSP, pushed));
        regs.extend(self.high.clone());
        let target = self.b.constant(Type::I64, callee.into());
        let target = if r.one_in(4) {
            // Through a register.
            let x = self.value(r, Type::I64);
            let zero = self.b.constant(Type::I64, 0);
            let nothing = self.b.and(Type::I64, x, zero);
            let target = self.b.add(Type::I64, nothing, target);
            regs.retain(|(reg, _)| *reg != Reg::gpr(0));
            regs.push((Reg::gpr(0), target));
            target
        } else {
            target
        };
        regs.sort_by_key(|(reg, _)| *reg);
        let pc = self.next_landing();
        let ret = self.b.constant(Type::I64, pc.into());
        self.b.store(Type::I64, ret, Addr::base(pushed, 0));
        let mut stores = Vec::new();
        if r.one_in(3) {
            let base = self.b.constant(Type::I64, machine::BUFFER.into());
            let value = self.value(r, Type::I64);
            stores.push(ExitStore { value, base, disp: 64 });
        }
        let snapshot = Snapshot {
            pc,
            via: Via::Counted,
            regs: regs.clone(),
            stores,
        };
        let snapshot = self.b.snapshot(snapshot);
        let abi = if sysv { Abi::SysV } else { Abi::Full };
        let t = self.b.call(target, abi, snapshot);
        self.values.clear();
        self.entry.clear();
        for reg in all_registers() {
            let kept = sysv && matches!(reg.index(), 3 | 5 | 12..16);
            match regs.iter().find(|(other, _)| *other == reg) {
                Some((_, value)) if kept => self.values.push(*value),
                _ => {
                    let v = self.b.get(t, reg);
                    self.values.push(v);
                }
            }
        }
        self.high = (0..16)
            .map(Reg::ymm_high)
            .map(|reg| (reg, self.b.get(t, reg)))
            .collect();
        self.stack.push((sp, at));
        self.floor = at;
        self.closed = true;
    }
}
