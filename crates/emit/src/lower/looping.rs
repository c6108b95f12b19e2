//! The head of the loop, and the way back to it.
//!
//! At the head every value that the loop uses has a place: phis preferably that of their first value. The way back
//! brings everything to these places again; where a phi's next value is put there right away, nothing is left to do.

use redmagic_ir::End;
use rustc_hash::FxHashMap;

use super::encode::R;
use super::moves::{Move, To};
use super::plan::{Id, Kind};
use super::regs::Loc;
use super::{Lower, LowerError};

impl Lower<'_> {
    pub(super) fn loop_head(&mut self) -> Result<(), LowerError> {
        self.regs.drop_copies(self.plan);
        let phis: Vec<(usize, Id)> = self
            .plan
            .phis
            .iter()
            .map(|(phi, _)| *phi)
            .filter(|phi| matches!(self.plan.kind[*phi], Kind::Gpr | Kind::Xmm) && self.plan.last[*phi] != 0)
            .map(|phi| (phi, self.plan.id(self.trace.ops[phi].args[0])))
            .collect();
        // The registers of values that end here go to the last phi that begins with each.
        let mut taken = Vec::new();
        for (at, (phi, init)) in phis.iter().enumerate() {
            let ends = self.plan.last[*init] <= self.regs.position && !super::regs::is_copy(self.plan, *init);
            let again = phis[at + 1..].iter().any(|(_, other)| other == init);
            let memory = self.tuning.memory_only.contains(phi);
            if let Some(r) = self.regs.loc[*init].reg.filter(|_| ends && !again && !memory) {
                taken.push((*phi, *init, r));
                continue;
            }
            self.place_phi(*phi, *init)?;
        }
        for (phi, init, r) in taken {
            // It may have been moved out of its register meanwhile.
            if self.regs.loc[init].reg == Some(r) {
                self.regs.drop_register(r);
                self.regs.set(r, phi);
                self.regs.unlock(r);
            } else {
                self.place_phi(phi, init)?;
            }
        }
        for (phi, _) in &self.plan.phis {
            if let Kind::Pinned(reg) = self.plan.kind[*phi] {
                let init = self.plan.id(self.trace.ops[*phi].args[0]);
                self.check_pin(reg, init)?;
                self.pinned[reg.index()] = Some(*phi);
            }
        }
        self.head.pinned = self.pinned.to_vec();
        let early: Vec<Id> = self.tuning.stored_early.iter().copied().collect();
        for id in early {
            self.regs.store(self.plan, &mut self.asm, id)?;
        }
        let memory: Vec<Id> = self.tuning.memory_only.iter().copied().collect();
        for id in memory {
            if let Loc {
                reg: Some(r),
                slot: Some(_),
            } = self.regs.loc[id]
            {
                self.regs.drop_register(r);
            }
        }
        self.regs.relock(0);
        self.regs.drop_copies(self.plan);
        self.regs.forget_constants();
        let position = self.regs.position;
        let mut values = self.regs.everything();
        values.retain(|(id, _)| self.plan.last[*id] > position);
        self.head.values = values;
        let label = self.asm.label();
        if self.targets.turn {
            let turn = self.asm.datum_label(label);
            self.turn = Some(turn);
            self.asm.jmp_through(self.asm.datum_address(turn))?;
        }
        self.asm.align(32);
        self.asm.bind(label);
        self.head.label = Some(label);
        self.last_guard = None;
        for (phi, _) in phis {
            if let Some(r) = self.regs.loc[phi].reg {
                self.head.phi_regs.insert(phi as u32, r);
            }
        }
        Ok(())
    }

    /// Gives a phi a place and puts its first value there.
    fn place_phi(&mut self, phi: usize, init: Id) -> Result<(), LowerError> {
        let locked = self.regs.locked();
        let ty = self.plan.ty(phi);
        let xmm = self.is_xmm(phi);
        if let Some(r) = self.regs.loc[init].reg {
            self.regs.lock(r);
        }
        let exits_only = self.plan.phi_of_exits(phi);
        let memory = self.tuning.memory_only.contains(&phi);
        let free = (0..32)
            .map(R)
            .any(|r| r.is_xmm() == xmm && r != R::RSP && self.regs.is_free(r));
        if exits_only && (memory || !free) {
            let slot = self.regs.new_slot(ty);
            let from = self.source_or_fill(init)?;
            let bytes = if ty == redmagic_ir::Type::V128 { 16 } else { 8 };
            self.parallel(vec![Move {
                to: To::Slot(slot),
                from,
                bytes,
            }])?;
            self.regs.loc[phi].slot = Some(slot);
            self.regs.phi_slots.insert(phi as u32, slot);
        } else {
            let r = self.regs.find(self.plan, &mut self.asm, xmm, self.plan.hint[phi], 0)?;
            self.regs.set_temporary(r);
            self.fill(r, init)?;
            self.regs.set(r, phi);
        }
        // The phi stays locked out of the way of others only as any value is.
        self.regs.relock(locked);
        Ok(())
    }

    fn source_or_fill(&mut self, id: Id) -> Result<super::moves::From, LowerError> {
        if self.plan.kind[id] == Kind::Lazy {
            let r = self.get_id(id)?;
            return Ok(super::moves::From::Reg(r));
        }
        self.from(id)
    }

    /// The way back.
    pub(super) fn loop_end(&mut self) -> Result<(), LowerError> {
        let End::Loop { .. } = &self.trace.end else {
            unreachable!("only called for loops")
        };
        for (phi, next) in &self.plan.phis {
            if let Kind::Pinned(reg) = self.plan.kind[*phi] {
                let next = self.plan.id(*next);
                self.check_pin(reg, next)?;
                self.pinned[reg.index()] = Some(*phi);
            }
        }
        for reg in redmagic_ir::Reg::all() {
            if let Some(before) = self.head.pinned[reg.index()] {
                self.check_pin(reg, before)?;
            }
        }
        // Flags that a phi takes are computed before anything moves.
        let mut next = FxHashMap::default();
        for (phi, value) in self.plan.phis.clone() {
            if self.plan.last[phi] == 0 || !matches!(self.plan.kind[phi], Kind::Gpr | Kind::Xmm) {
                continue;
            }
            let id = self.plan.id(value);
            let lazy = self.plan.kind[id] == Kind::Lazy;
            let folded = self.plan.op(id).is_some() && self.regs.loc[id].is_nowhere();
            let from = if lazy || folded && !super::regs::is_copy(self.plan, id) {
                Some(super::moves::From::Reg(self.get_id(id)?))
            } else {
                None
            };
            next.insert(phi, (id, from));
        }
        let mut moves = Vec::new();
        for (id, loc) in std::mem::take(&mut self.head.values) {
            let from = match next.get(&id) {
                Some((next, None)) => self.from(*next)?,
                Some((_, Some(from))) => *from,
                None => self.from(id)?,
            };
            let bytes = match self.plan.ty(id) {
                redmagic_ir::Type::V128 => 16,
                _ => 8,
            };
            if let Some(r) = loc.reg {
                moves.push(Move {
                    to: To::Reg(r),
                    from,
                    bytes,
                });
            }
            if let Some(slot) = loc.slot {
                // What does not change is there still.
                if next.contains_key(&id) {
                    moves.push(Move {
                        to: To::Slot(slot),
                        from,
                        bytes,
                    });
                }
            }
        }
        let label = self.head.label.expect("a loop has a head");
        let before = self.asm.here();
        self.parallel(moves)?;
        if let Some(turn) = self.turn {
            self.asm.jmp_through(self.asm.datum_address(turn))?;
            return Ok(());
        }
        if self.asm.here() == before
            && let Some((leave, exit)) = self.last_guard
            && self.asm.retract_jcc(exit)
        {
            self.asm.jcc(leave ^ 1, label);
            self.asm.jmp(exit);
            return Ok(());
        }
        self.asm.jmp(label);
        Ok(())
    }
}
