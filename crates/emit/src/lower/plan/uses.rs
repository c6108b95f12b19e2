//! What uses what, and where: a walk from the end of the trace to its start. On the way it is decided which loads become
//! operands, and which operations only exits compute.

use redmagic_ir::flags::STATUS;
use redmagic_ir::{End, Op, Opcode, Reg, Snapshot, Type, Value};
use smallvec::SmallVec;

use super::{How, Id, Kind, Mode, NONE, Place, Plan, condition_mask, has_effect, registers};
use crate::lower::encode::R;
use crate::lower::flagsim::constant_count;

/// What something uses, and as how many bytes: as a rule a few, and of an exit one for each register.
type Wanted = SmallVec<[(Id, Option<u32>); 24]>;

impl Plan<'_> {
    /// Uses, from the end to the start.
    pub(super) fn walk_back(&mut self) {
        let trace = self.trace;
        let end = self.end();
        if let Some(snapshot) = trace.end.snapshot() {
            self.use_exit(snapshot, end);
            if !matches!(trace.end, End::Jump { .. }) {
                self.hint_registers(&snapshot.regs);
            }
        }
        match &trace.end {
            End::Branch { cond, .. } => self.use_value(*cond, How::Condition, end),
            End::Jump { target, .. } => self.use_value(*target, How::Plain, end),
            _ => {}
        }
        for (phi, next) in self.phis.clone() {
            self.use_value(next, How::Plain, end);
            if next.as_op().is_some() {
                let id = self.id(next);
                self.next_of[id] = phi as u32;
            }
        }
        for i in (0..trace.ops.len()).rev() {
            if self.live[i] && self.root[i] as usize == i {
                self.walk_op(i);
            }
        }
    }

    fn walk_op(&mut self, i: usize) {
        use Opcode as O;
        let op = &self.trace.ops[i];
        let position = i as u32 + 1;
        if self.is_updated(i) {
            return;
        }
        match op.code {
            O::Reg | O::Get => return,
            O::LoopHead => {
                self.mode[i] = Mode::Emit;
                return;
            }
            O::Phi => {
                if matches!(self.kind[i], Kind::Gpr | Kind::Xmm) {
                    let head = self.head_position();
                    self.use_value(op.args[0], How::Plain, head);
                }
                return;
            }
            O::GuardTrue | O::GuardFalse => self.use_exit(self.snapshot(op), position),
            O::Call => {
                let snapshot = self.snapshot(op);
                self.use_call(snapshot, position);
                self.hint_registers(&snapshot.regs);
            }
            O::Native => {
                let native = &self.trace.natives[op.aux as usize];
                for (_, value) in &native.inputs {
                    self.use_value(*value, How::Plain, position);
                }
                self.hint_registers(&native.inputs);
            }
            _ if has_effect(op.code) => {}
            _ if self.kind[i] == Kind::Lazy || matches!(self.kind[i], Kind::Stack(_) | Kind::Pinned(_)) => return,
            _ if self.last[i] == 0 && !self.flags.exact(position) => return,
            _ => {}
        }
        if self.may_sink(i) {
            self.mode[i] = Mode::Sunk;
            let (at, depth) = (self.last[i], self.depth[i] + 1);
            let mut wanted = Wanted::new();
            self.operands(i, &mut |value, _| {
                self.visit(value, How::Plain, Place::exit(at), &mut |id, _| wanted.push((id, None)));
            });
            for (id, _) in wanted {
                self.extend(id, at);
                self.depth[id] = self.depth[id].max(depth);
            }
            return;
        }
        if let Some(at) = self.may_fold(i) {
            self.mode[i] = Mode::Folded(at);
            self.fold_taken[at as usize] = true;
            for value in &op.args[..2] {
                self.use_value(*value, How::Plain, at);
            }
            return;
        }
        self.mode[i] = Mode::Emit;
        self.fixed_hints(op);
        let mut operands: SmallVec<[(Value, How); 4]> = SmallVec::new();
        self.operands(i, &mut |value, how| operands.push((value, how)));
        for (value, how) in operands {
            self.use_value(value, how, position);
        }
    }

    /// The operands of an operation, and what they are wanted as. Operands that are natives' and snapshots' are not
    /// among them.
    pub(in crate::lower) fn operands(&self, i: usize, visit: &mut dyn FnMut(Value, How)) {
        use Opcode as O;
        let op = &self.trace.ops[i];
        let size = op.ty.bytes();
        for (at, mut value) in op.operands().iter().copied().enumerate() {
            if value.is_none() {
                continue;
            }
            if let Some(update) = self.updates[i].filter(|_| at == 0) {
                value = update.operand;
            }
            let how = match (op.code, at) {
                (O::GuardTrue | O::GuardFalse | O::Select, 0) => How::Condition,
                (O::Adc | O::Sbb, 2) => How::Carry,
                (O::Cond, _) => How::Flags(condition_mask(op.imm)),
                (O::Add | O::Sub | O::Mul | O::And | O::Or | O::Xor | O::Adc | O::Sbb, 0 | 1) if size != 0 => {
                    How::Memory(size)
                }
                (O::FAdd | O::FSub | O::FMul | O::FDiv | O::FMin | O::FMax, 1) => How::Memory(size),
                (O::FSqrt, _) => How::Memory(size),
                (O::Sext | O::Zext | O::FCvt | O::IntToF | O::FToInt | O::FToIntZ, _) => {
                    How::Memory(self.trace.type_of(value).bytes())
                }
                (O::FlagsBits, _) => How::Flags(STATUS),
                _ => How::Plain,
            };
            visit(value, how);
        }
    }

    fn use_value(&mut self, value: Value, how: How, position: u32) {
        let mut wanted = Wanted::new();
        self.visit(value, how, Place::main(position), &mut |id, bytes| {
            wanted.push((id, bytes))
        });
        for (id, bytes) in wanted {
            self.use_id(id, bytes, position);
        }
    }

    fn use_id(&mut self, id: Id, bytes: Option<u32>, position: u32) {
        let first = self.last[id] == 0;
        self.extend(id, position);
        self.chain.push((position, self.first[id]));
        self.first[id] = self.chain.len() as u32 - 1;
        let wide = bytes.is_some_and(|bytes| bytes != 0 && bytes <= self.ty(id).bytes());
        self.fold_at[id] = if first && wide { position } else { NONE };
    }

    fn use_exit(&mut self, snapshot: &Snapshot, position: u32) {
        let mut wanted = Wanted::new();
        self.visit_exit(snapshot, Place::exit(position), &mut |id, _| wanted.push((id, None)));
        for (id, _) in wanted {
            self.extend(id, position);
        }
    }

    fn use_call(&mut self, snapshot: &Snapshot, position: u32) {
        let mut wanted = Wanted::new();
        let mut push = |id: Id, _: Option<u32>| wanted.push((id, None));
        for (reg, listed) in registers(snapshot).filter(|(reg, _)| reg.is_gpr() || reg.is_xmm()) {
            match listed {
                Some(value) => self.visit(value, How::Plain, Place::main(position), &mut push),
                None if self.call_takes_entry(reg) => push(self.entry(reg), None),
                None => {}
            }
        }
        for store in &snapshot.stores {
            self.visit(store.value, How::Plain, Place::main(position), &mut push);
            self.visit(store.base, How::Plain, Place::main(position), &mut push);
        }
        for (id, _) in wanted {
            self.use_id(id, None, position);
        }
    }

    /// Whether a call that does not list a register is given the entry's.
    pub(in crate::lower) fn call_takes_entry(&self, reg: Reg) -> bool {
        matches!(self.kind[self.entry(reg)], Kind::Gpr | Kind::Xmm)
    }

    /// Says that a value lives to `position`; if it crosses the loop head, it lives as long as the loop.
    fn extend(&mut self, id: Id, position: u32) {
        let head = self.head_position();
        let position = if position > head && self.defined(id) < head {
            self.end()
        } else {
            position
        };
        self.fold_at[id] = NONE;
        self.last[id] = self.last[id].max(position);
    }

    fn hint_registers(&mut self, regs: &[(Reg, Value)]) {
        for (reg, value) in regs {
            if (reg.is_gpr() || reg.is_xmm()) && value.as_op().is_some() {
                let id = self.id(*value);
                self.hint[id] = Some(R(reg.index() as u8));
            }
        }
    }

    fn fixed_hints(&mut self, op: &Op) {
        use Opcode as O;
        let wants: &[(usize, R)] = match op.code {
            O::Shl | O::Shr | O::Sar | O::Rol | O::Ror | O::Rcl | O::Rcr => &[(1, R::RCX)],
            O::Shld | O::Shrd => &[(2, R::RCX)],
            O::DivU | O::DivS | O::RemU | O::RemS => &[(0, R::RDX), (1, R::RAX)],
            O::MulHiU | O::MulHiS => &[(0, R::RAX)],
            _ => &[],
        };
        for (at, r) in wants {
            if op.args[*at].as_op().is_some() {
                let id = self.id(op.args[*at]);
                self.hint[id] = Some(*r);
            }
        }
    }

    /// Whether exits alone use it, and can compute it themselves.
    fn may_sink(&self, i: usize) -> bool {
        let op = &self.trace.ops[i];
        let exits_only = self.last[i] != 0 && self.first[i] == NONE && !self.flags.exact(i as u32 + 1);
        exits_only && op.code.effects().is_pure() && self.depth[i] < 4 && sinkable(op)
    }

    /// Whether computing a sunk operation may change flags.
    pub(in crate::lower) fn sunk_clobbers(&self, id: Id) -> bool {
        use Opcode as O;
        let op = &self.trace.ops[id];
        match op.code {
            O::Lea | O::Zext | O::Trunc | O::Bitcast | O::VZext | O::Insert => false,
            O::Extract => op.ty == Type::I8 && !op.imm.is_multiple_of(2),
            O::Sext => self.trace.type_of(op.args[0]) == Type::I1,
            O::Put => op.ty == Type::I32,
            O::Not => op.ty == Type::I1,
            O::Add => match self.trace.constant(op.args[1]) {
                Some(bits) => i32::try_from(bits as i64).is_err() || op.args[0].as_constant().is_some(),
                None => op.args[0].as_constant().is_some(),
            },
            O::Sub => {
                let small = |bits: u128| i32::try_from(bits as i64).is_ok_and(|imm| imm != i32::MIN);
                op.args[0].as_constant().is_some() || !self.trace.constant(op.args[1]).is_some_and(small)
            }
            O::Shl => !matches!(constant_count(self, op, 1), Some(1..=3)),
            _ => true,
        }
    }

    /// Whether it is a load that can be an operand of the one operation that uses it.
    fn may_fold(&self, i: usize) -> Option<u32> {
        let op = &self.trace.ops[i];
        let at = self.fold_at[i];
        if op.code != Opcode::Load || at == NONE || at == 0 || op.ty == Type::V128 {
            return None;
        }
        let same_side = (i as u32 + 1 > self.head_position()) == (at > self.head_position());
        // Nothing between the two writes memory, and neither does the user before it reads.
        let quiet = self.writes[i] == self.writes[(at as usize - 1).min(self.writes.len() - 1)];
        (same_side && quiet && !self.fold_taken[at as usize]).then_some(at)
    }
}

/// Operations that exits can compute without a fixed register.
fn sinkable(op: &Op) -> bool {
    use Opcode as O;
    match op.code {
        O::Add | O::Sub | O::And | O::Or | O::Xor | O::Not | O::Neg | O::Lea | O::Bswap => true,
        O::Zext | O::Sext | O::Trunc | O::Put | O::PutHi8 | O::Hi8 | O::Bitcast | O::VZext | O::Extract => true,
        O::Insert => true,
        O::Shl | O::Shr | O::Sar => op.args[1].as_constant().is_some(),
        _ => false,
    }
}
