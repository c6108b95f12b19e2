//! Leaving the trace: what an exit finds, and what its stub does to make it the state of the original code.
//!
//! A stub makes its stores, computes what only it wants, then the flags, and then moves values to their registers: moves
//! touch no flag. The stack pointer comes last.

use redmagic_ir::flags::STATUS;
use redmagic_ir::{Home, Opcode, Reg, Snapshot, Value, Via};

use super::encode::{Ins, Mem, R, Rm, Seg};
use super::moves::{From, Move, To, parallel};
use super::plan::{How, Id, Kind, Mode, Place, registers};
use super::regs::{Loc, Registers};
use super::{Lower, LowerError, Pending};
use crate::asm::Label;
use crate::exits::Handover;

/// Where the values of an exit are, and which are made on the way out.
type Captured = (Vec<(Id, Loc)>, Vec<Id>);

impl<'a> Lower<'a> {
    /// An exit from here; jump to the label to take it.
    pub(super) fn exit(&mut self, op: usize, snapshot: &'a Snapshot, pc: u64) -> Result<Label, LowerError> {
        self.check_pinned(snapshot)?;
        let (values, sunk) = self.capture(snapshot)?;
        let label = self.asm.label();
        let homes = if snapshot.via == Via::Counted {
            self.homes(&values)
        } else {
            Vec::new()
        };
        self.pending.push(Pending {
            label,
            op,
            snapshot,
            pc,
            values,
            sunk,
            homes,
        });
        Ok(label)
    }

    /// Where the values are that the exit wants, and those that are in registers.
    fn homes(&self, wanted: &[(Id, Loc)]) -> Vec<(u32, Home)> {
        let held = (0..32).filter_map(|r| self.regs.held(R(r)));
        let held = held.filter(|id| wanted.iter().all(|(other, _)| other != id));
        let all = wanted.iter().copied().chain(held.map(|id| (id, self.regs.loc[id])));
        let values = all.filter(|(id, _)| matches!(self.plan.kind[*id], Kind::Gpr | Kind::Xmm));
        let homes = values.filter_map(|(id, loc)| {
            let home = match loc {
                Loc { reg: Some(r), .. } => Home::Register(r.reg()),
                Loc { slot: Some(slot), .. } => Home::Frame(Registers::slot_mem(slot).disp),
                Loc { .. } => return None,
            };
            Some((id as u32, home))
        });
        let mut list = Vec::with_capacity(wanted.len() + 8);
        list.extend(homes);
        list
    }

    /// The start of a counted exit: through a word, so that another trace can take over.
    pub(super) fn hand_over(&mut self, pending: &Pending<'_>) -> Result<Option<Handover>, LowerError> {
        if pending.snapshot.via != Via::Counted {
            return Ok(None);
        }
        let label = self.asm.label();
        let slot = self.asm.datum_label(label);
        self.asm.jmp_through(self.asm.datum_address(slot))?;
        self.asm.bind(label);
        Ok(Some(Handover {
            slot,
            stub: self.asm.here(),
            homes: pending.homes.as_slice().into(),
            flags: pending.snapshot.get(Reg::FLAGS).is_some() && self.plan.flags.in_exit(pending.op as u32 + 1),
        }))
    }

    /// Registers that the trace does not move values through must hold what the snapshot says.
    pub(super) fn check_pinned(&self, snapshot: &Snapshot) -> Result<(), LowerError> {
        for (reg, listed) in registers(snapshot) {
            if reg.is_gpr() || reg.is_xmm() || reg == Reg::FLAGS {
                continue;
            }
            let wanted = match listed {
                Some(value) => self.plan.id(value),
                None => self.plan.entry(reg),
            };
            self.check_pin(reg, wanted)?;
        }
        Ok(())
    }

    /// The same for one register.
    pub(super) fn check_pin(&self, reg: Reg, wanted: Id) -> Result<(), LowerError> {
        if self.pinned[reg.index()] == Some(wanted) {
            return Ok(());
        }
        Err(LowerError::Pinned {
            op: super::text_of(self.trace, self.at),
            register: reg,
        })
    }

    /// Where everything is that an exit from here wants, and what it computes itself.
    fn capture(&mut self, snapshot: &Snapshot) -> Result<Captured, LowerError> {
        let place = Place::exit(self.regs.position);
        let mut work = std::mem::take(&mut self.work);
        let mut marked = std::mem::take(&mut self.marked);
        self.plan.visit_exit(snapshot, place, &mut |id, _| work.push(id));
        let (mut values, mut sunk) = (Vec::with_capacity(work.len()), Vec::new());
        let mut lost = None;
        while let Some(id) = work.pop() {
            if std::mem::replace(&mut self.seen[id], true) {
                continue;
            }
            marked.push(id);
            if self.plan.op(id).is_some() && self.plan.mode[id] == Mode::Sunk {
                sunk.push(id);
                self.plan.operands(id, &mut |value, _| {
                    self.plan.visit(value, How::Plain, place, &mut |id, _| work.push(id));
                });
                continue;
            }
            let loc = self.regs.loc[id];
            if loc.is_nowhere() {
                lost = Some(id);
            }
            values.push((id, loc));
        }
        for id in marked.drain(..) {
            self.seen[id] = false;
        }
        (self.work, self.marked) = (work, marked);
        sunk.sort_unstable();
        match lost {
            Some(id) => Err(self.lost(id)),
            None => Ok((values, sunk)),
        }
    }

    /// The body of a stub: afterwards the machine state is that of the snapshot.
    pub(super) fn stub(&mut self, pending: &Pending<'_>) -> Result<(), LowerError> {
        self.regs.enter_exit(pending.op as u32 + 1, &pending.values);
        // Flags that are there already are put aside if something changes them.
        let keep = pending.snapshot.get(Reg::FLAGS).is_some() && self.plan.flags.in_exit(self.regs.position);
        let mut kept = None;
        if keep && pending.sunk.iter().any(|id| self.plan.sunk_clobbers(*id)) {
            let slot = self.regs.new_slot(redmagic_ir::Type::I64);
            let mem = Registers::slot_mem(slot);
            self.asm.bytes(&[0x9c]);
            self.asm.ins(Ins::new(0x8f), 0, mem.into(), &[])?;
            kept = Some(mem);
        }
        self.exit_hints.clear();
        if !pending.sunk.is_empty() {
            let listed = pending
                .snapshot
                .regs
                .iter()
                .filter(|(reg, _)| reg.is_gpr() || reg.is_xmm());
            let hints = listed.filter(|(_, value)| value.as_op().is_some());
            self.exit_hints = hints
                .map(|(reg, value)| (self.plan.id(*value), R(reg.index() as u8)))
                .collect();
        }
        for id in &pending.sunk {
            self.emit(*id)?;
            self.regs.relock(0);
        }
        self.restore(pending.snapshot, kept)
    }

    /// Leaves from here, without a stub.
    pub(super) fn leave_now(&mut self, snapshot: &'a Snapshot) -> Result<(), LowerError> {
        self.check_pinned(snapshot)?;
        let (values, sunk) = self.capture(snapshot)?;
        let label = self.asm.label();
        self.asm.bind(label);
        let pending = Pending {
            label,
            op: self.at,
            snapshot,
            pc: snapshot.pc,
            values,
            sunk,
            homes: Vec::new(),
        };
        self.regs.leave_main();
        self.stub(&pending)
    }

    /// Stores, flags, registers, stack pointer.
    fn restore(&mut self, snapshot: &Snapshot, kept: Option<Mem>) -> Result<(), LowerError> {
        self.exit_stores(snapshot)?;
        let position = self.regs.position;
        match snapshot.get(Reg::FLAGS) {
            Some(_) if self.plan.flags.in_exit(position) => {
                if let Some(mem) = kept {
                    self.asm.ins(Ins::new(0xff), 6, mem.into(), &[])?;
                    self.asm.bytes(&[0x9d]);
                }
            }
            Some(value) => self.emit_flags(value, STATUS)?,
            None => {
                let id = self.plan.entry(Reg::FLAGS);
                if !self.regs.loc[id].is_nowhere() {
                    self.flags_from_image(id)?;
                }
            }
        }
        self.regs.relock(0);
        let moves = self.moves_to(snapshot)?;
        self.parallel(moves)?;
        let offset = self.stack_offset(snapshot)?;
        let mem = self.stack(offset)?;
        if mem.disp != 0 {
            self.asm.adjust_rsp(mem.disp);
        }
        Ok(())
    }

    pub(super) fn parallel(&mut self, moves: Vec<Move>) -> Result<(), LowerError> {
        let regs = &mut self.regs;
        parallel(&mut self.asm, moves, || regs.fresh_slot(redmagic_ir::Type::V128))?;
        Ok(())
    }

    /// The stores of an exit or a call.
    pub(super) fn exit_stores(&mut self, snapshot: &Snapshot) -> Result<(), LowerError> {
        for store in &snapshot.stores {
            let locked = self.regs.locked();
            let addr = redmagic_ir::Addr::base(store.base, store.disp);
            let mem = self.address(&addr)?;
            self.store_value(store.value, self.trace.type_of(store.value).bytes(), mem)?;
            self.regs.relock(locked);
        }
        Ok(())
    }

    /// The stack pointer of a snapshot, from that of the entry.
    pub(super) fn stack_offset(&self, snapshot: &Snapshot) -> Result<i64, LowerError> {
        match snapshot.get(Reg::RSP) {
            None => Ok(0),
            Some(value) if value.as_op().is_some() => match self.plan.kind[self.plan.id(value)] {
                Kind::Stack(offset) => Ok(offset),
                _ => Err(self.unsupported("the stack pointer is not a distance from that of the entry")),
            },
            Some(_) => Err(self.unsupported("the stack pointer is a constant")),
        }
    }

    /// The moves that bring every general and vector register to what the snapshot says, but for rsp.
    pub(super) fn moves_to(&mut self, snapshot: &Snapshot) -> Result<Vec<Move>, LowerError> {
        let mut moves = Vec::with_capacity(Reg::COUNT);
        let moved = |reg: Reg| (reg.is_gpr() || reg.is_xmm()) && reg != Reg::RSP;
        for (reg, listed) in registers(snapshot).filter(|(reg, _)| moved(*reg)) {
            let id = match listed {
                Some(value) => self.plan.id(value),
                None => self.plan.entry(reg),
            };
            if listed.is_none() && self.regs.loc[id].is_nowhere() {
                continue; // dead, or checked before
            }
            let from = self.from(id)?;
            moves.push(Move {
                to: To::Reg(R(reg.index() as u8)),
                from,
                bytes: if reg.is_xmm() { 16 } else { 8 },
            });
        }
        Ok(moves)
    }

    /// Where a move takes a value from.
    pub(super) fn from(&mut self, id: Id) -> Result<From, LowerError> {
        let loc = self.regs.loc[id];
        if let Some(r) = loc.reg {
            return Ok(From::Reg(r));
        }
        match self.plan.kind[id] {
            Kind::Constant => {
                let constant = self.plan.constant(id).expect("of this kind");
                if !self.is_xmm(id) {
                    return Ok(From::Number(constant.bits as u64));
                }
                if constant.bits == 0 {
                    return Ok(From::Data(None));
                }
                return Ok(From::Data(self.data(constant.bits, 16).absolute));
            }
            Kind::Stack(offset) => return Ok(From::Stack(self.stack(offset)?.disp)),
            _ => {}
        }
        match loc.slot {
            Some(slot) if self.plan.ty(id) == redmagic_ir::Type::V128 => Ok(From::Slot(slot, 16)),
            Some(slot) => Ok(From::Slot(slot, 8)),
            None => Err(self.lost(id)),
        }
    }

    /// The end that goes to a computed place: through a register or memory that holds it in the state that is left in.
    pub(super) fn jump(&mut self, target: Value, snapshot: &'a Snapshot) -> Result<(), LowerError> {
        if let Some(pc) = self.bits(target) {
            let end = self.at;
            let label = self.exit(end, snapshot, pc as u64)?;
            self.asm.jmp(label);
            return Ok(());
        }
        let id = self.plan.id(target);
        let holds = |wanted: Id| {
            let regs = Reg::all().filter(|reg| reg.is_gpr() && *reg != Reg::RSP);
            regs.into_iter().find(|reg| match snapshot.get(*reg) {
                Some(value) => value.as_op().is_some() && self.plan.id(value) == wanted,
                None => self.plan.entry(*reg) == wanted,
            })
        };
        let rm: Rm = if let Some(reg) = holds(id) {
            R(reg.index() as u8).into()
        } else {
            let Some(op) = self
                .plan
                .op(id)
                .filter(|op| op.code == Opcode::Load && op.args[2].is_none())
            else {
                return Err(self.unsupported("no register holds the target"));
            };
            if self.plan.writes_after(id) {
                return Err(self.unsupported("no register holds the target"));
            }
            let addr = op.addr().expect("a load");
            let stack = self.stack_offset(snapshot)?;
            let mut mem = Mem {
                base: None,
                index: None,
                shift: addr.flags.shift() as u8,
                disp: addr.disp,
                seg: Seg::None,
                absolute: None,
            };
            if !addr.base.is_none() {
                let base = self.plan.id(addr.base);
                if let Kind::Stack(offset) = self.plan.kind[base] {
                    mem.base = Some(R::RSP);
                    let disp = offset - stack + i64::from(addr.disp);
                    mem.disp = i32::try_from(disp).map_err(|_| LowerError::Stack)?;
                    if disp < -128 {
                        return Err(self.unsupported("the target is below the red zone"));
                    }
                } else {
                    let reg = holds(base).ok_or_else(|| self.unsupported("no register holds the target"))?;
                    mem.base = Some(R(reg.index() as u8));
                }
            }
            if !addr.index.is_none() {
                let index = self.plan.id(addr.index);
                let reg = holds(index).ok_or_else(|| self.unsupported("no register holds the target"))?;
                mem.index = Some(R(reg.index() as u8));
            }
            mem.into()
        };
        if !snapshot.stores.is_empty() && matches!(rm, Rm::Mem(_)) {
            return Err(self.unsupported("no register holds the target"));
        }
        self.leave_now(snapshot)?;
        Ok(self.asm.ins(Ins::new(0xff), 4, rm, &[])?)
    }

    /// The registers' state when the main line is done and a stub follows in its place.
    pub(super) fn slot_of(&self, id: Id) -> Option<Mem> {
        self.regs.loc[id].slot.map(Registers::slot_mem)
    }
}
