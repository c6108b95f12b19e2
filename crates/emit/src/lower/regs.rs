//! Where values are, from instruction to instruction.
//!
//! Registers are given out walking *forwards*, and when there is none left the value whose next use is furthest away
//! loses its own (Belady 1966, which on straight-line code is optimal). Backwards, as LuaJIT does it, a value finds its
//! register at its last use. Forwards was chosen because of exits: at a guard it is known where every value is, so the
//! stub is written from exactly that, and a value that only exits want counts as used infinitely late and goes to memory
//! first. What walking backwards knows of the future is collected beforehand ([`super::plan`]): next uses, and the
//! registers that fixed operands want.
//!
//! A value that loses its register is stored at that point, once: values do not change. A loop that does so in every
//! round for a value from before it is compiled again, with that value stored before the loop ([`Tuning`]).

use rustc_hash::{FxHashMap, FxHashSet};

use redmagic_ir::Type;

use super::LowerError;
use super::encode::{Mem, R};
use super::plan::{Id, Kind, NONE, Plan};
use crate::asm::{Asm, AsmError};

/// A register that holds something without a number.
const TEMP: u32 = u32::MAX - 1;
/// Registers that are given out: all but rsp.
const GENERAL: [u8; 15] = [0, 2, 6, 7, 1, 3, 5, 8, 9, 10, 11, 14, 15, 12, 13];

/// Where a value is: in a register, in the frame, or in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Loc {
    pub reg: Option<R>,
    /// In units of 8 bytes from the stack pointer.
    pub slot: Option<u16>,
}

impl Loc {
    pub(super) fn is_nowhere(self) -> bool {
        self.reg.is_none() && self.slot.is_none()
    }
}

/// What one attempt learns for the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Tuning {
    /// Units of 8 bytes that the frame has for values.
    pub slots: u16,
    /// Values that the loop would store in every round: they are stored before it.
    pub stored_early: FxHashSet<Id>,
    /// Of those, the ones that had lost their registers before they were used: they enter the loop in memory only. And
    /// phis that only exits want, and that lost theirs: they are in memory always.
    pub memory_only: FxHashSet<Id>,
}

pub(super) struct Registers {
    holder: [u32; 32],
    pub loc: Vec<Loc>,
    cursor: Vec<u32>,
    locked: u32,
    pub position: u32,
    /// Slots of 8 and of 16 bytes that are free again.
    free: [Vec<u16>; 2],
    pub slots: u16,
    /// Values that die, by position: (position, value), in order.
    pub learned: Tuning,
    /// In an exit: nothing dies, and nothing is known of what comes.
    pub in_exit: bool,
    touched: Vec<Id>,
    /// Slots of the main line: an exit's own are above.
    main_slots: u16,
    /// Phis in memory.
    pub phi_slots: FxHashMap<u32, u16>,
    /// Constants that general registers contain, held or not: they were put there and nothing has been since.
    constants: [Option<u64>; 16],
}

/// Bytes that a value takes in the frame.
fn slot_bytes(ty: Type) -> u32 {
    if ty == Type::V128 { 16 } else { 8 }
}

impl Registers {
    pub(super) fn new(plan: &Plan<'_>) -> Registers {
        Registers {
            holder: [NONE; 32],
            loc: vec![Loc::default(); plan.ids],
            cursor: (0..plan.ids).map(|id| plan.first_use(id)).collect(),
            locked: 0,
            position: 0,
            free: [Vec::new(), Vec::new()],
            slots: 0,
            learned: Tuning::default(),
            in_exit: false,
            touched: Vec::new(),
            main_slots: 0,
            phi_slots: FxHashMap::default(),
            constants: [None; 16],
        }
    }

    /// A register contains this constant until something else is put there.
    pub(super) fn contains(&mut self, r: R, constant: u64) {
        // In exits registers are moved about behind our back.
        if !r.is_xmm() && !self.in_exit {
            self.constants[usize::from(r.0)] = Some(constant);
        }
    }

    /// A register that contains a constant, and how far above that this one is. The nearest if there are several.
    pub(super) fn near(&self, constant: u64) -> Option<(R, i32)> {
        let all = (0u8..).zip(&self.constants).filter_map(|(r, there)| {
            let above = constant.wrapping_sub((*there)?) as i64;
            Some((R(r), i32::try_from(above).ok()?))
        });
        all.min_by_key(|(_, above)| above.unsigned_abs())
    }

    /// Registers may contain anything.
    pub(super) fn forget_constants(&mut self) {
        self.constants = [None; 16];
    }

    fn overwritten(&mut self, r: R) {
        if let Some(constant) = self.constants.get_mut(usize::from(r.0)) {
            *constant = None;
        }
    }

    /// The main line is done: only exits follow.
    pub(super) fn leave_main(&mut self) {
        if !self.in_exit {
            self.main_slots = self.learned.slots;
            self.touched = (0..self.loc.len()).collect();
        }
    }

    /// Puts the values where an exit finds them, and forgets all else.
    pub(super) fn enter_exit(&mut self, position: u32, values: &[(Id, Loc)]) {
        for id in self.touched.drain(..) {
            self.loc[id] = Loc::default();
        }
        self.holder = [NONE; 32];
        self.forget_constants();
        self.locked = 0;
        self.in_exit = true;
        self.slots = self.main_slots;
        self.position = position;
        self.free = [Vec::new(), Vec::new()];
        for (id, loc) in values {
            self.loc[*id] = *loc;
            self.touched.push(*id);
            if let Some(r) = loc.reg {
                self.holder[usize::from(r.0)] = *id as u32;
            }
        }
    }

    /// A register's value.
    pub(super) fn held(&self, r: R) -> Option<Id> {
        let id = self.holder[usize::from(r.0)];
        (id < TEMP).then_some(id as usize)
    }

    pub(super) fn is_free(&self, r: R) -> bool {
        self.holder[usize::from(r.0)] == NONE && self.locked & r.bit() == 0
    }

    pub(super) fn lock(&mut self, r: R) {
        self.locked |= r.bit();
    }

    pub(super) fn unlock(&mut self, r: R) {
        self.locked &= !r.bit();
    }

    pub(super) fn locked(&self) -> u32 {
        self.locked
    }

    /// Unlocks what was not locked then, and frees the temporary registers among it.
    pub(super) fn relock(&mut self, then: u32) {
        let mut changed = self.locked & !then;
        self.locked = then;
        while changed != 0 {
            let r = changed.trailing_zeros() as usize;
            changed &= changed - 1;
            if self.holder[r] == TEMP {
                self.holder[r] = NONE;
            }
        }
    }

    /// Makes a register the place of a value, and locks it.
    pub(super) fn set(&mut self, r: R, id: Id) {
        self.overwritten(r);
        self.holder[usize::from(r.0)] = id as u32;
        self.loc[id].reg = Some(r);
        self.locked |= r.bit();
        if self.in_exit {
            self.touched.push(id);
        }
    }

    /// Makes a register one that holds something temporary, and locks it.
    pub(super) fn set_temporary(&mut self, r: R) {
        self.overwritten(r);
        self.holder[usize::from(r.0)] = TEMP;
        self.locked |= r.bit();
    }

    /// Takes its register from whatever is in it, without storing it.
    pub(super) fn drop_register(&mut self, r: R) {
        if let Some(id) = self.held(r) {
            self.loc[id].reg = None;
        }
        self.holder[usize::from(r.0)] = NONE;
    }

    /// Forgets all registers.
    pub(super) fn drop_all(&mut self) {
        for r in 0..32 {
            self.drop_register(R(r));
        }
        self.locked = 0;
        self.forget_constants();
    }

    /// Forgets where everything is: a call has been made.
    pub(super) fn forget_all(&mut self) {
        self.drop_all();
        for loc in &mut self.loc {
            *loc = Loc::default();
        }
        self.free = [Vec::new(), Vec::new()];
        self.slots = 0;
    }

    /// Forgets constants and addresses that happen to be in registers.
    pub(super) fn drop_copies(&mut self, plan: &Plan<'_>) {
        for r in 0..32 {
            if self.held(R(r)).is_some_and(|id| is_copy(plan, id)) {
                self.drop_register(R(r));
            }
        }
    }

    /// Whether the value is not wanted after this operation.
    pub(super) fn dies(&self, plan: &Plan<'_>, id: Id) -> bool {
        !self.in_exit && plan.last[id] <= self.position
    }

    /// Frees what a value has.
    pub(super) fn kill(&mut self, plan: &Plan<'_>, id: Id) {
        let loc = std::mem::take(&mut self.loc[id]);
        if let Some(r) = loc.reg {
            self.holder[usize::from(r.0)] = NONE;
        }
        if let Some(slot) = loc.slot
            && !self.in_exit
        {
            self.free[usize::from(slot_bytes(plan.ty(id)) == 16)].push(slot);
        }
    }

    /// A slot for a value of this type.
    pub(super) fn new_slot(&mut self, ty: Type) -> u16 {
        let bytes = slot_bytes(ty);
        match self.free[usize::from(bytes == 16)].pop() {
            Some(slot) => slot,
            None => self.fresh_slot(ty),
        }
    }

    /// One that nothing has used: what is free may still be written to at the loop's end.
    pub(super) fn fresh_slot(&mut self, ty: Type) -> u16 {
        let bytes = slot_bytes(ty);
        let slot = self.slots;
        self.slots = self.slots.saturating_add((bytes / 8) as u16);
        self.learned.slots = self.learned.slots.max(self.slots);
        slot
    }

    /// Gives a slot back that held something for one operation.
    pub(super) fn free_slot(&mut self, slot: u16, ty: Type) {
        self.free[usize::from(slot_bytes(ty) == 16)].push(slot);
    }

    /// The memory of a slot.
    pub(super) fn slot_mem(slot: u16) -> Mem {
        Mem::base(R::RSP, i32::from(slot) * 8)
    }

    /// Gives a value a place in the frame, and stores it there.
    pub(super) fn store(&mut self, plan: &Plan<'_>, asm: &mut Asm, id: Id) -> Result<(), AsmError> {
        let (Some(r), None) = (self.loc[id].reg, self.loc[id].slot) else {
            return Ok(());
        };
        let ty = plan.ty(id);
        // Best in the place that it is to have in the next round.
        let wanted = self.phi_slots.get(&plan.next_of[id]).copied();
        let free = &mut self.free[usize::from(slot_bytes(ty) == 16)];
        let slot = match wanted.and_then(|slot| free.iter().position(|other| *other == slot)) {
            Some(at) => free.swap_remove(at),
            None => self.new_slot(ty),
        };
        self.loc[id].slot = Some(slot);
        asm.store(Registers::slot_mem(slot), slot_bytes(ty), r)
    }

    /// How far away the next use in a register is.
    fn distance(&mut self, plan: &Plan<'_>, id: Id) -> u32 {
        const NEVER: u32 = 1 << 30;
        if self.in_exit {
            return NEVER;
        }
        let (position, head) = (self.position, plan.head_position());
        match plan.next_use(&mut self.cursor[id], position) {
            Some(at) => at - position,
            None if position > head && plan.invariant(id) => {
                let mut cursor = plan.first_use(id);
                let first = plan.next_use(&mut cursor, head + 1);
                first.map_or(NEVER, |first| plan.end() - position + (first - head))
            }
            None => NEVER,
        }
    }

    /// Whether this is code of the loop, and no exit's.
    fn in_loop(&self, plan: &Plan<'_>) -> bool {
        self.position > plan.head_position() && !self.in_exit
    }

    /// A register of the class with nothing in it: `hint` if that is free, else any free one, else that of the value whose
    /// next use is furthest. None of `not`.
    pub(super) fn find(
        &mut self,
        plan: &Plan<'_>,
        asm: &mut Asm,
        xmm: bool,
        hint: Option<R>,
        not: u32,
    ) -> Result<R, LowerError> {
        if let Some(r) = hint.filter(|r| r.is_xmm() == xmm && *r != R::RSP && not & r.bit() == 0 && self.is_free(*r)) {
            return Ok(r);
        }
        let candidates = |i: usize| {
            if xmm {
                (i < 16).then_some(R(16 + i as u8))
            } else {
                GENERAL.get(i).map(|r| R(*r))
            }
        };
        let mut worst: Option<(u64, R)> = None;
        let mut constant: Option<R> = None;
        for r in (0..).map_while(candidates) {
            if (self.locked | not) & r.bit() != 0 {
                continue;
            }
            if self.holder[usize::from(r.0)] == NONE {
                // A constant that may be of use yet.
                if !xmm && self.constants[usize::from(r.0)].is_some() {
                    constant.get_or_insert(r);
                    continue;
                }
                return Ok(r);
            }
            let Some(id) = self.held(r) else { continue };
            let score = if is_copy(plan, id) {
                u64::MAX
            } else {
                // What is there before the loop is stored before it.
                let stored = self.loc[id].slot.is_some() || self.in_loop(plan) && plan.invariant(id);
                u64::from(self.distance(plan, id)) * 2 + u64::from(stored)
            };
            if worst.is_none_or(|(most, _)| score > most) {
                worst = Some((score, r));
            }
        }
        if let Some(r) = constant {
            return Ok(r);
        }
        let (_, r) = worst.ok_or(LowerError::Registers)?;
        self.evict(plan, asm, r)?;
        Ok(r)
    }

    /// Takes its register from a value that still wants to be somewhere.
    pub(super) fn evict(&mut self, plan: &Plan<'_>, asm: &mut Asm, r: R) -> Result<(), LowerError> {
        let Some(id) = self.held(r) else { return Ok(()) };
        if !is_copy(plan, id) {
            let inside = self.in_loop(plan);
            if inside && plan.invariant(id) {
                let mut cursor = plan.first_use(id);
                let first = plan.next_use(&mut cursor, plan.head_position() + 1);
                if first.is_none_or(|first| first > self.position) {
                    self.learned.memory_only.insert(id);
                }
                if self.loc[id].slot.is_none() {
                    self.learned.stored_early.insert(id);
                }
            } else if inside && plan.phi_of_exits(id) {
                self.learned.memory_only.insert(id);
            }
            self.store(plan, asm, id)?;
        }
        self.drop_register(r);
        Ok(())
    }

    /// Where every value is that is somewhere.
    pub(super) fn everything(&self) -> Vec<(Id, Loc)> {
        let all = self.loc.iter().copied().enumerate();
        all.filter(|(_, loc)| !loc.is_nowhere()).collect()
    }
}

/// Whether a value is made anew rather than kept.
pub(super) fn is_copy(plan: &Plan<'_>, id: Id) -> bool {
    matches!(plan.kind[id], Kind::Constant | Kind::Stack(_))
}
