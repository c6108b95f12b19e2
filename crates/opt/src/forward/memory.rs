//! Loads that were made or whose value was stored; stores of what is there already.
//!
//! What memory holds is known as values at places. A place is a *root* (base, index, scale, segment: what is left when
//! constants have gone into the displacement) and a range of displacements. Two places with one root overlap or not, which
//! can be seen. With different roots they may overlap, unless
//!
//! * both are constant;
//! * no store of the program's own can reach one of them: a jump table of the interpreter, the shim's words;
//! * one is in a frame that was pushed inside the trace, the other is not made from the stack pointer, and no address of
//!   the stack has gone anywhere where it could be found again (in such a frame it is not found unless the trace loads it);
//! * a guard says so. A store would end what is known at every other root; where recorded addresses show that it did not
//!   overlap, a comparison of the two ranges is put in before it, at the checkpoint of its instruction. In a loop those
//!   between invariant roots are then found to be made already.
//!
//! What the comparison is: [`apart`], and [`order`] between what is far from each other.

mod across;
mod apart;
mod order;
mod worth;

pub(crate) use across::{depth, drop_below, forget, leave_frames};
pub use apart::Extents;
use apart::apart;
pub(crate) use apart::{Span, compare};
pub(crate) use worth::Verdict;

use redmagic_ir::opcode::Effects;
use redmagic_ir::{MemFlags, Op, Opcode as O, Reg, Trace, Type, Value};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::fold::root;
use super::{Pass, Step};
use crate::cx::Cx;
use crate::dce::Renumbered;

/// See the module.
pub struct Memory;

/// What is left of an address without its displacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Root {
    pub(crate) base: Value,
    pub(crate) index: Value,
    pub(crate) seg: Value,
    shift: u8,
}

/// A range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The root.
    pub root: Root,
    /// Displacement of the first byte.
    pub disp: i32,
    /// Bytes.
    pub size: u32,
}

/// A value that is known to be at a place.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Displacement.
    disp: i32,
    /// Bytes.
    size: u32,
    /// The value, of any type of that size.
    value: Value,
    /// Whether it was there when the loop was entered: its number among those.
    head: Option<usize>,
    /// When that was, as [`worth::Worth::now`] has it.
    born: usize,
    /// Whether no store reaches it.
    unwritten: bool,
    /// Whether it is a return address or a saved register of a function of the trace: no pointer leads there.
    saved: bool,
    /// How it is known from before a call.
    survived: Option<across::Survived>,
    /// Whether it is from a store that nothing may have read.
    unread: bool,
}

impl Known {
    /// Whether no store through another root reaches it.
    fn safe(&self) -> bool {
        self.unwritten || self.saved || self.survived.is_some()
    }
}

/// What is known of memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryState {
    known: FxHashMap<Root, Vec<Known>>,
    /// The order in which roots were met, so that guards come in a fixed order.
    order: Vec<Root>,
    /// Whether an address of the stack has gone where it could be found again.
    pub(crate) escaped: bool,
    /// Displacements and sizes in private frames at which addresses of the stack are stored ([`hides`]), and those of the native stack
    /// that are loaded from.
    hidden: Vec<(i32, u32)>,
    stack_loads: Vec<(i32, u32)>,
    /// What was known at the loop head, and which of it was used.
    head: Vec<(Place, Value)>,
    used: FxHashSet<usize>,
    /// How far the accesses through each root reach.
    pub(crate) extents: Extents,
    /// Guards against overlap that were put in.
    guards: usize,
    /// What was shown not to overlap.
    pub(crate) facts: Facts,
    /// What they cost, and are good for, as far as they are weighed.
    worth: worth::Worth,
    /// Whether guards are weighed: in a trial.
    pub(crate) weighs: bool,
    /// What a trial has shown of guards; `None`: none is worth it.
    pub(crate) verdict: Option<Verdict>,
    /// Indices that guards have shown to be below a limit.
    bounds: Vec<apart::Bound>,
    /// What a finished loop relies on at its head, in terms of the finished loop.
    pub(crate) lasting: Vec<(Place, Value)>,
    /// Whether the trace is no loop.
    pub(crate) straight: bool,
    /// The stack pointer at the entry, if the trace has it.
    stack_pointer: Option<Value>,
    /// The guards that were put in since the loop head, for those that can stand before it.
    pub(crate) in_loop: Option<Vec<(Span, Span)>>,
    /// What values from before the last call are called now.
    names: across::Names,
    /// The lowest displacement of something saved that is known, or lower.
    lowest_saved: i64,
    /// What the load that is being made is expected to give.
    expected: Option<across::Expected>,
}

/// Two ranges that do not overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// How many operations stand before it is known.
    pub at: usize,
    /// One root, and the displacements.
    pub a: (Root, i64, i64),
    /// The other.
    pub b: (Root, i64, i64),
}

/// What guards have shown not to overlap.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    all: Vec<Fact>,
    /// Which of them are about two roots, the lesser first.
    about: FxHashMap<(Root, Root), SmallVec<[u32; 4]>>,
    /// Native stack below this displacement from the entry's stack pointer is private until an address of it escapes.
    pub(crate) private_below: i64,
    /// See [`crate::graft::Inherited::red_zone_known`].
    pub(crate) red_zone_known: bool,
}

/// What is known of a finished trace.
#[derive(Debug, Clone, Default)]
pub struct Lasting {
    /// What does not overlap.
    pub(crate) facts: Facts,
    /// What memory holds at the head of the loop, in every turn.
    pub(crate) head: Vec<(Place, Value)>,
}

impl Lasting {
    /// In terms of the trace that is left.
    pub(crate) fn renumber(&mut self, by: &Renumbered) {
        self.change(&|value| by.value(value), &|at| by.position(at));
    }

    /// In terms of the same trace with other constants.
    pub(crate) fn rebase(&mut self, from: &Trace, to: &Trace) {
        let value = |value: Value| match value.as_constant() {
            None => Some(value),
            Some(index) => {
                let at = to.constants.iter().position(|other| *other == from.constants[index]);
                at.map(Value::constant)
            }
        };
        self.change(&value, &|at| at);
    }

    fn change(&mut self, value: &dyn Fn(Value) -> Option<Value>, position: &dyn Fn(usize) -> usize) {
        let root = |root: &mut Root| {
            let parts = [&mut root.base, &mut root.index, &mut root.seg];
            parts.into_iter().filter(|part| !part.is_none()).all(|part| {
                let new = value(*part);
                *part = new.unwrap_or(*part);
                new.is_some()
            })
        };
        self.facts.change(|fact| {
            fact.at = position(fact.at);
            root(&mut fact.a.0) && root(&mut fact.b.0)
        });
        self.head.retain_mut(|(place, held)| {
            let new = value(*held);
            *held = new.unwrap_or(*held);
            new.is_some() && root(&mut place.root)
        });
    }
}

fn in_order(a: Root, b: Root) -> (Root, Root) {
    if a <= b { (a, b) } else { (b, a) }
}

impl Facts {
    pub(crate) fn add(&mut self, fact: Fact) {
        let known = |other: &Fact| (other.a, other.b) == (fact.a, fact.b) && other.at <= fact.at;
        let about = self.about.entry(in_order(fact.a.0, fact.b.0)).or_default();
        if about.iter().any(|at| known(&self.all[*at as usize])) {
            return;
        }
        about.push(self.all.len() as u32);
        self.all.push(fact);
    }

    /// Changes them; those for which it gives false go.
    pub(crate) fn change(&mut self, mut change: impl FnMut(&mut Fact) -> bool) {
        let mut all = std::mem::take(&mut self.all);
        self.about.clear();
        all.retain_mut(|fact| change(fact));
        for fact in all {
            self.add(fact);
        }
    }

    /// What is known before operation `at`.
    pub(crate) fn before(&self, at: usize) -> Vec<Fact> {
        self.all.iter().copied().filter(|fact| fact.at <= at).collect()
    }

    /// Whether all of two ranges is known not to overlap before operation `at`.
    fn ranges_apart(&self, at: usize, one: (Root, i64, i64), two: (Root, i64, i64)) -> bool {
        let inside = |range: &(Root, i64, i64), side: &(Root, i64, i64)| {
            range.0 == side.0 && side.1 <= range.1 && range.2 <= side.2
        };
        let about = self.about.get(&in_order(one.0, two.0));
        let about = about.map_or(&[][..], SmallVec::as_slice);
        about.iter().map(|at| &self.all[*at as usize]).any(|fact| {
            fact.at <= at
                && (inside(&one, &fact.a) && inside(&two, &fact.b) || inside(&two, &fact.a) && inside(&one, &fact.b))
        })
    }

    /// Whether it is known before operation `at` that `a - b` is none of the distances in a range.
    fn never(&self, at: usize, a: Root, b: Root, distances: &std::ops::Range<i64>) -> bool {
        let about = self.about.get(&in_order(a, b));
        let about = about.map_or(&[][..], SmallVec::as_slice);
        about.iter().map(|at| &self.all[*at as usize]).any(|fact| {
            let ((_, a_from, a_to), (_, b_from, b_to)) = if fact.a.0 == a {
                (fact.a, fact.b)
            } else {
                (fact.b, fact.a)
            };
            fact.at <= at && b_from - a_to < distances.start && distances.end <= b_to - a_from
        })
    }

    /// Whether the two places are known not to overlap before operation `at`.
    pub(crate) fn apart(&self, at: usize, one: &Place, two: &Place) -> bool {
        let range = |place: &Place| {
            let start = i64::from(place.disp);
            (place.root, start, start + i64::from(place.size))
        };
        self.ranges_apart(at, range(one), range(two))
    }
}

impl Root {
    /// A root of a base alone.
    pub fn plain(base: Value) -> Root {
        Root {
            base,
            index: Value::NONE,
            seg: Value::NONE,
            shift: 0,
        }
    }

    /// The base, if there is nothing else.
    pub fn only_base(&self) -> Option<Value> {
        (self.index.is_none() && self.seg.is_none()).then_some(self.base)
    }

    /// Whether it is an address that never changes.
    pub(crate) fn is_constant(&self, cx: &Cx<'_>) -> bool {
        self.only_base().is_some_and(|base| cx.int(base).is_some())
    }

    /// The values in it.
    pub fn parts(&self) -> impl Iterator<Item = Value> {
        [self.base, self.index, self.seg]
            .into_iter()
            .filter(|part| !part.is_none())
    }

    /// The same root with these for base, index and segment.
    pub(crate) fn of(&self, [base, index, seg]: [Value; 3]) -> Root {
        Root {
            base,
            index,
            seg,
            shift: self.shift,
        }
    }

    /// The same root in other terms.
    #[must_use]
    pub fn with(&self, map: &dyn Fn(Value) -> Value) -> Root {
        let part = |value: Value| if value.is_none() { value } else { map(value) };
        Root {
            base: part(self.base),
            index: part(self.index),
            seg: part(self.seg),
            shift: self.shift,
        }
    }
}

impl MemoryState {
    /// Nothing is known any more.
    pub fn forget(&mut self) {
        self.known.clear();
        self.order.clear();
        self.escaped = true;
    }

    /// Numbers what is known, as the state at a loop head, but for the entries of `without`.
    pub fn enter_loop(&mut self, without: &FxHashSet<(Place, Value)>) {
        self.head.clear();
        self.used.clear();
        self.worth.enter_loop();
        for root in &self.order {
            let Some(entries) = self.known.get_mut(root) else {
                continue;
            };
            entries.retain_mut(|known| {
                let place = Place {
                    root: *root,
                    disp: known.disp,
                    size: known.size,
                };
                known.head = Some(self.head.len());
                self.head.push((place, known.value));
                !without.contains(&(place, known.value))
            });
        }
    }

    /// What was known at the loop head and was used since.
    pub fn used_at_head(&self) -> Vec<(Place, Value)> {
        let mut used: Vec<usize> = self.used.iter().copied().collect();
        used.sort_unstable();
        used.into_iter().map(|i| self.head[i]).collect()
    }

    /// The value that is known to be at exactly this place.
    pub fn exactly(&self, place: &Place) -> Option<Value> {
        self.known
            .get(&place.root)?
            .iter()
            .rev()
            .find(|known| known.disp == place.disp && known.size == place.size)
            .map(|known| known.value)
    }

    /// All other roots of which something is known.
    fn others(&self, root: &Root) -> SmallVec<[Root; 32]> {
        self.order.iter().copied().filter(|other| other != root).collect()
    }

    /// Which guards against overlap were worth it.
    pub(crate) fn judge(&self) -> Verdict {
        self.worth.verdict()
    }

    /// The copy of a guard of the first iteration was put into the loop.
    pub(crate) fn copied(&mut self, guard: usize) {
        self.worth.copied(guard);
    }

    /// What is known was of use.
    fn was_useful(&mut self, root: &Root, known: &Known) {
        if let Some(head) = known.head {
            self.used.insert(head);
        }
        if self.weighs {
            self.worth.used(root, known.born);
        }
    }

    pub(crate) fn add(&mut self, place: &Place, value: Value, flags: MemFlags) {
        if flags.is_saved() {
            self.lowest_saved = self.lowest_saved.min(i64::from(place.disp));
        }
        let entries = self.known.entry(place.root).or_default();
        if entries.is_empty() && !self.order.contains(&place.root) {
            self.order.push(place.root);
        }
        entries.push(Known {
            disp: place.disp,
            size: place.size,
            value,
            head: None,
            born: self.worth.now(),
            unwritten: flags.is_unwritten(),
            saved: flags.is_saved(),
            survived: None,
            unread: false,
        });
    }

    /// What a store leaves at a place.
    fn stored(&mut self, place: &Place, value: Value, flags: MemFlags) {
        self.add(place, value, flags);
        if let Some(known) = self.known.get_mut(&place.root).and_then(|entries| entries.last_mut()) {
            known.unread = true;
        }
    }
}

/// The place of a load or store whose address is canonical.
pub fn place(op: &Op) -> Option<Place> {
    let at = match op.code {
        O::Load => 0,
        O::Store => 1,
        _ => return None,
    };
    Some(Place {
        root: Root {
            base: op.args[at],
            index: op.args[at + 1],
            seg: op.args[at + 2],
            shift: op.imm & 3,
        },
        disp: op.aux,
        size: op.ty.bytes(),
    })
}

impl Place {
    /// Its address, when the values of the parts of its root are known. Segments are not.
    pub fn address(&self, value: &dyn Fn(Value) -> Option<u64>) -> Option<u64> {
        let part = |part: Value| if part.is_none() { Some(0) } else { value(part) };
        if !self.root.seg.is_none() {
            return None;
        }
        let (base, index) = (part(self.root.base)?, part(self.root.index)?);
        let start = base.wrapping_add(index << self.root.shift);
        Some(start.wrapping_add_signed(i64::from(self.disp)))
    }

    /// The same place with other parts, made canonical.
    pub fn map(&self, cx: &mut Cx<'_>, map: &dyn Fn(Value) -> Value) -> Option<Place> {
        let part = |v: Value| if v.is_none() { v } else { map(v) };
        let mut op = Cx::op(
            O::Load,
            Type::I8,
            MemFlags::new(1 << self.root.shift, false).0,
            &[part(self.root.base), part(self.root.index), part(self.root.seg)],
        );
        op.aux = self.disp;
        for _ in 0..16 {
            match super::fold::address_rules(cx, &op) {
                Some(Step::Next(next)) => op = next,
                _ => break,
            }
        }
        let mut place = place(&op)?;
        place.size = self.size;
        Some(place)
    }
}

impl Pass for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn visit(&self, cx: &mut Cx<'_>, op: Op, seen: Option<u128>) -> Step {
        match op.code {
            O::Load => load(cx, op, seen),
            O::Store => store(cx, op),
            O::Cond if apart::is_known(cx, &op) => Step::Is(cx.b.constant(Type::I1, 0)),
            _ => Step::Next(op),
        }
    }

    fn appended(&self, cx: &mut Cx<'_>, op: &Op, value: Value) {
        match op.code {
            O::Reg if op.reg() == Some(Reg::RSP) => cx.memory.stack_pointer = Some(value),
            O::Load => {
                // What was taken off the stack is not there any more.
                if let Some(place) = place(op).filter(|_| !MemFlags(op.imm).is_saved()) {
                    cx.memory.add(&place, value, MemFlags(op.imm));
                }
                if let Some(expected) = cx.memory.expected.take() {
                    across::check(cx, value, expected);
                }
            }
            O::Store => {
                if let Some(place) = place(op) {
                    cx.memory.stored(&place, op.args[0], MemFlags(op.imm));
                }
            }
            // What is known across a call: `across`.
            O::LoopHead | O::Call => {}
            _ if op.code.effects().has(Effects::WRITE) || op.code.effects().has(Effects::BARRIER) => {
                cx.memory.forget();
            }
            _ => {}
        }
        apart::note_bound(cx, op);
        note_escape(cx, op);
    }
}

fn load(cx: &mut Cx<'_>, mut op: Op, seen: Option<u128>) -> Step {
    let Some(place) = place(&op) else { return Step::Next(op) };
    if apart::unwritten(cx, &place) {
        op.imm = MemFlags(op.imm).unwritten().0;
    }
    let step = known_load(cx, op, place, seen);
    if let Step::Next(op) = step
        && !MemFlags(op.imm).is_unwritten()
    {
        apart::read(cx, &place);
    }
    step
}

fn known_load(cx: &mut Cx<'_>, op: Op, place: Place, seen: Option<u128>) -> Step {
    let Some(entries) = cx.memory.known.get(&place.root) else {
        return Step::Next(op);
    };
    let end = i64::from(place.disp) + i64::from(place.size);
    let found = entries
        .iter()
        .rev()
        .find(|known| known.disp <= place.disp && end <= i64::from(known.disp) + i64::from(known.size));
    let Some(mut known) = found.copied() else {
        return halves(cx, &op, &place).map_or(Step::Next(op), Step::Is);
    };
    if known.survived.is_some() {
        match across::value(cx, &known, &place, seen) {
            Some(value) => known.value = value,
            None => {
                if cx.memory.expected.is_some() {
                    cx.memory.was_useful(&place.root, &known);
                }
                return Step::Next(op);
            }
        }
    }
    if MemFlags(op.imm).is_saved()
        && let Some(entries) = cx.memory.known.get_mut(&place.root)
    {
        entries.retain(|known| !overlap(known.disp, known.size, place.disp, place.size));
    }
    let offset = (place.disp - known.disp) as u32;
    let value = cx.canonical(known.value);
    match part(cx, value, offset, op.ty, seen) {
        Some(value) => {
            cx.memory.was_useful(&place.root, &known);
            if let Some(index) = value.as_op()
                && cx.observed[index].is_none()
                && cx.b.type_of(value) == op.ty
            {
                cx.observed[index] = seen;
            }
            Step::Is(value)
        }
        None => Step::Next(op),
    }
}

/// A vector of which both halves are known: they were stored as two words, whose load as one would wait for both stores.
fn halves(cx: &mut Cx<'_>, op: &Op, place: &Place) -> Option<Value> {
    if op.ty != Type::V128 || MemFlags(op.imm).aligned() {
        return None;
    }
    let entries = cx.memory.known.get(&place.root)?;
    let word = |disp: i32| {
        let found = entries
            .iter()
            .rev()
            .find(|known| overlap(known.disp, known.size, disp, 8));
        found
            .filter(|known| (known.disp, known.size) == (disp, 8) && known.survived.is_none())
            .copied()
    };
    let known = [word(place.disp)?, word(place.disp.checked_add(8)?)?];
    let [low, high] = known.map(|known| {
        cx.memory.was_useful(&place.root, &known);
        let value = cx.canonical(known.value);
        cx.make(O::VZext, cx.b.type_of(value), &[value])
    });
    Some(cx.make(O::Punpcklqdq, Type::Void, &[low, high]))
}

/// The bytes of a value from `offset` on, as another type.
fn part(cx: &mut Cx<'_>, value: Value, offset: u32, ty: Type, seen: Option<u128>) -> Option<Value> {
    let from = cx.b.type_of(value);
    if from == ty && offset == 0 {
        return Some(value);
    }
    if from == Type::V128 {
        if ty == Type::V128 || !offset.is_multiple_of(ty.bytes()) {
            return None;
        }
        let lane = (offset / ty.bytes()) as u8;
        return Some(cx.feed(Cx::op(O::Extract, ty, lane, &[value]), seen));
    }
    if ty == Type::V128 {
        return None;
    }
    let as_int = match from {
        Type::F64 => cx.make(O::Bitcast, Type::I64, &[value]),
        Type::F32 => cx.make(O::Bitcast, Type::I32, &[value]),
        _ => value,
    };
    let from = cx.b.type_of(as_int);
    let int = match ty {
        Type::F64 => Type::I64,
        Type::F32 => Type::I32,
        other => other,
    };
    let shifted = if offset == 0 {
        as_int
    } else {
        let count = cx.b.int(Type::I8, u64::from(offset) * 8);
        cx.make(O::Shr, from, &[as_int, count])
    };
    let cut = if from == int {
        shifted
    } else {
        cx.feed(Cx::op(O::Trunc, int, 0, &[shifted]), seen)
    };
    Some(if int == ty {
        cut
    } else {
        cx.feed(Cx::op(O::Bitcast, ty, 0, &[cut]), seen)
    })
}

fn store(cx: &mut Cx<'_>, op: Op) -> Step {
    let Some(place) = place(&op) else { return Step::Next(op) };
    // Is it there already?
    if let Some(entries) = cx.memory.known.get(&place.root) {
        let there = entries
            .iter()
            .rev()
            .find(|known| overlap(known.disp, known.size, place.disp, place.size));
        if let Some(known) = there.copied()
            && (known.disp, known.size) == (place.disp, place.size)
            && known.survived.is_none()
            && cx.canonical(known.value) == op.args[0]
        {
            cx.memory.was_useful(&place.root, &known);
            return Step::Gone;
        }
    }
    if let Some(entries) = cx.memory.known.get(&place.root).filter(|_| cx.memory.weighs) {
        let over = |known: &&Known| {
            let end = i64::from(place.disp) + i64::from(place.size);
            known.unread && place.disp <= known.disp && i64::from(known.disp) + i64::from(known.size) <= end
        };
        let born: Vec<usize> = entries.iter().filter(over).map(|known| known.born).collect();
        for born in born {
            cx.memory.worth.overwritten(&place.root, born);
        }
    }
    let others = cx.memory.others(&place.root);
    for other in others {
        if !apart(cx, &place, &other) {
            // What is private stays.
            let private = is_private_root(cx, &other) && !from_stack(cx, &place.root);
            let limit = cx.memory.facts.private_below;
            if let Some(entries) = cx.memory.known.get_mut(&other) {
                entries
                    .retain(|known| known.safe() || private && i64::from(known.disp) + i64::from(known.size) <= limit);
            }
        }
    }
    if let Some(entries) = cx.memory.known.get_mut(&place.root) {
        entries.retain(|known| !overlap(known.disp, known.size, place.disp, place.size));
    }
    let known = &cx.memory.known;
    cx.memory
        .order
        .retain(|root| known.get(root).is_some_and(|entries| !entries.is_empty()));
    Step::Next(op)
}

pub(crate) fn overlap(a: i32, a_size: u32, b: i32, b_size: u32) -> bool {
    let (a, b) = (i64::from(a), i64::from(b));
    a < b + i64::from(b_size) && b < a + i64::from(a_size)
}

/// Whether a value is the stack pointer at the entry.
fn is_stack_pointer(cx: &Cx<'_>, value: Value) -> bool {
    cx.def_of(value, O::Reg).is_some_and(|op| op.reg() == Some(Reg::RSP))
}

fn from_stack(cx: &Cx<'_>, root: &Root) -> bool {
    [root.base, root.index]
        .into_iter()
        .any(|part| !part.is_none() && is_stack_pointer(cx, self::root(cx, part).0))
}

/// Whether the root is the stack pointer, and nothing else can have been made from it.
fn is_private_root(cx: &Cx<'_>, root: &Root) -> bool {
    !cx.memory.escaped && root.index.is_none() && root.seg.is_none() && is_stack_pointer(cx, root.base)
}

/// Puts an address of the stack into a private frame, where nobody finds it unless the trace itself loads from there: a function
/// that was inlined gets the address of a variable of its caller. False if it can be found.
fn hides(cx: &mut Cx<'_>, op: &Op) -> bool {
    let Some(at) = place(op).filter(|at| is_private_root(cx, &at.root)) else {
        return false;
    };
    let slot = (at.disp, at.size);
    cx.memory.hidden.push(slot);
    let private = i64::from(at.disp) + i64::from(at.size) <= cx.memory.facts.private_below;
    private && !cx.memory.stack_loads.iter().any(|load| overlaps(*load, slot))
}

/// Whether a load that is made may find an address of the stack in a private frame. In a loop it sees what was stored in the turn
/// before: the order does not matter.
fn finds_hidden(cx: &mut Cx<'_>, op: &Op) -> bool {
    let Some(at) = place(op).filter(|at| from_stack(cx, &at.root)) else {
        return false;
    };
    let slot = if is_private_root(cx, &at.root) {
        (at.disp, at.size)
    } else {
        // With an index it may be anywhere.
        (i32::MIN, u32::MAX)
    };
    cx.memory.stack_loads.push(slot);
    cx.memory.hidden.iter().any(|hidden| overlaps(*hidden, slot))
}

fn overlaps((a, a_size): (i32, u32), (b, b_size): (i32, u32)) -> bool {
    overlap(a, a_size, b, b_size)
}

/// An address of the stack that is stored, computed with or passed on can be found again.
fn note_escape(cx: &mut Cx<'_>, op: &Op) {
    if cx.memory.escaped {
        return;
    }
    let derived = |cx: &Cx<'_>, value: Value| {
        !value.is_none() && value.as_op().is_some() && cx.b.type_of(value) == Type::I64 && {
            let (from, _) = root(cx, value);
            !from.is_none() && is_stack_pointer(cx, from)
        }
    };
    let escapes = match op.code {
        O::Load => finds_hidden(cx, op),
        O::Reg | O::Checkpoint | O::GuardTrue | O::GuardFalse | O::FlagsSub | O::FlagsAdd | O::FlagsLogic => false,
        O::Add => derived(cx, op.args[0]) && cx.int(op.args[1]).is_none() || derived(cx, op.args[1]),
        O::Store => derived(cx, op.args[0]) && !hides(cx, op),
        _ => op.operands().iter().any(|value| derived(cx, *value)),
    };
    if escapes {
        cx.memory.escaped = true;
    }
}
