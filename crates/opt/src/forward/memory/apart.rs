//! Guards against overlap.
//!
//! One unsigned comparison says whether two ranges of bytes overlap: `a + [0, al)` and `b + [0, bl)` do when
//! `a - b + al - 1` is below `al + bl - 1`, all modulo 2^64. The ranges are those of all accesses to a root ([`Extents`]), so
//! that one comparison does for all.
//!
//! Objects that are far from each other, or from the native stack, are told apart by less: [`order`].
//!
//! An element of an array is at a different place in every turn of a loop. Where a guard has shown that its index is below a
//! limit, the range is the whole array up to that limit; its comparison is of values that the loop does not change, and
//! stands before it.

use redmagic_ir::{Cond, MemFlags, Op, Opcode as O, Trace, Type, Value};
use rustc_hash::FxHashMap;
use smallvec::smallvec;

use super::order::Order;
use super::worth::{Pair, Pairs, Verdict};
use super::{Fact, Place, Root, from_stack, is_private_root, place};
use crate::cx::Cx;
use crate::forward::expected;
use crate::forward::fold::significant_bits;

/// Most guards against overlap in one trace.
const MOST_GUARDS: usize = 1024;

/// What a guard costs, in instructions: by the order of two objects, and by their ranges.
const ORDER: f64 = 1.5;
const OVERLAP: f64 = 3.0;

/// `index + offset` is below `limit`, unsigned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    index: Value,
    offset: i64,
    limit: Value,
}

/// Notes what a guard shows of an index.
pub(super) fn note_bound(cx: &mut Cx<'_>, guard: &Op) {
    let Some(truth) = expected(guard) else { return };
    let Some(cond) = cx.def_of(guard.args[0], O::Cond).copied() else {
        return;
    };
    let Some(compared) = cx.def_of(cond.args[0], O::FlagsSub).copied() else {
        return;
    };
    // Below, not below; not above, above.
    let (below, limit) = match (cond.imm, truth) {
        (2, true) | (3, false) => (compared.args[0], compared.args[1]),
        (6, false) | (7, true) => (compared.args[1], compared.args[0]),
        _ => return,
    };
    if compared.ty != Type::I64 {
        return;
    }
    let (index, offset) = without_constants(cx, below);
    let limit = cx.canonical(limit);
    cx.memory.bounds.push(Bound { index, offset, limit });
}

/// What is left of a sum without its constants, and what they are together.
fn without_constants(cx: &Cx<'_>, value: Value) -> (Value, i64) {
    let (mut value, mut sum) = (cx.canonical(value), 0i64);
    while let Some(op) = cx.def_of(value, O::Add).filter(|op| op.ty == Type::I64) {
        let Some(constant) = cx.int(op.args[1]) else { break };
        sum = sum.wrapping_add(constant as i64);
        value = cx.canonical(op.args[0]);
    }
    (value, sum)
}

/// A range of bytes: `length` bytes and `count << shift` more, from `root + from` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(super) root: Root,
    pub(super) from: i64,
    pub(super) length: i64,
    pub(super) count: Option<(Value, u8)>,
}

impl Span {
    fn plain(root: Root, from: i64, to: i64) -> Span {
        Span {
            root,
            from,
            length: to - from,
            count: None,
        }
    }

    /// The root and the displacements, of a plain one.
    fn range(&self) -> (Root, i64, i64) {
        (self.root, self.from, self.from + self.length)
    }

    /// All elements up to the limit of the root's index, of what a plain one is of one.
    fn array(cx: &Cx<'_>, plain: &Span) -> Option<Span> {
        let root = &plain.root;
        if root.index.is_none() {
            return None;
        }
        let (mut index, mut shift) = (cx.canonical(root.index), root.shift);
        if let Some(op) = cx.def_of(index, O::Shl).filter(|op| op.ty == Type::I64) {
            shift += u8::try_from(cx.int(op.args[1])?).ok().filter(|shift| *shift < 8)?;
            index = cx.canonical(op.args[0]);
        }
        // In later turns of a loop the index is that of the turn before and a constant.
        let (index, added) = without_constants(cx, index);
        let bound = cx.memory.bounds.iter().rev().find(|bound| bound.index == index)?;
        let offset = bound.offset.wrapping_sub(added);
        if significant_bits(cx, bound.limit) > 48 || offset.unsigned_abs() > 1 << 16 {
            return None;
        }
        // The index is at least -offset, and at most limit - 1 - offset.
        Some(Span {
            root: Root {
                index: Value::NONE,
                shift: 0,
                ..*root
            },
            from: plain.from - (offset << shift),
            length: plain.length - (1 << shift),
            count: Some((bound.limit, shift)),
        })
    }

    /// The values that it depends on.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Value> {
        self.root.parts().chain(self.count.map(|(count, _)| count))
    }

    /// Its first address and its length when it was recorded.
    fn seen(&self, cx: &Cx<'_>) -> Option<(u64, u64)> {
        let count = match self.count {
            Some((count, shift)) => (cx.seen(count)? as u64) << shift,
            None => 0,
        };
        let start = seen_root(cx, &self.root)?.wrapping_add_signed(self.from);
        Some((start, count.wrapping_add_signed(self.length)))
    }
}

/// Whether they did not overlap when they were recorded.
fn seen_apart(cx: &Cx<'_>, a: &Span, b: &Span) -> bool {
    let (Some((a, a_bytes)), Some((b, b_bytes))) = (a.seen(cx), b.seen(cx)) else {
        return false;
    };
    let most = 1 << 56;
    a_bytes > 0
        && b_bytes > 0
        && a_bytes < most
        && b_bytes < most
        && a.wrapping_sub(b).wrapping_add(a_bytes - 1) >= a_bytes + b_bytes - 1
}

fn scaled(cx: &mut Cx<'_>, count: Value, shift: u8) -> Value {
    let shift = cx.b.int(Type::I8, u64::from(shift));
    cx.make(O::Shl, Type::I64, &[count, shift])
}

/// Whether a store to `place` leaves what is known at `other` alone. May put in a guard that it does.
pub(crate) fn apart(cx: &mut Cx<'_>, place: &Place, other: &Root) -> bool {
    let Some(entries) = cx.memory.known.get(other) else {
        return true;
    };
    let written = || entries.iter().filter(|known| !known.safe());
    if written().next().is_none() {
        return true;
    }
    let (mut lo, hi) = written().fold((i64::MAX, i64::MIN), |(lo, hi), known| {
        (
            lo.min(i64::from(known.disp)),
            hi.max(i64::from(known.disp) + i64::from(known.size)),
        )
    });
    // A store into a frame of our own touches nothing else.
    let limit = cx.memory.facts.private_below;
    let below = i64::from(place.disp) + i64::from(place.size) <= limit;
    if below && is_private_root(cx, &place.root) && !from_stack(cx, other) {
        return true;
    }
    if is_private_root(cx, other) && !from_stack(cx, &place.root) {
        if hi <= limit {
            return true;
        }
        // Only what is not private needs a guard.
        lo = lo.max(
            written()
                .filter(|k| i64::from(k.disp) + i64::from(k.size) > limit)
                .map(|k| i64::from(k.disp))
                .min()
                .unwrap_or(limit),
        );
    }
    let start = i64::from(place.disp);
    let range = (place.root, start, start + i64::from(place.size));
    // Whole arrays are best in loops: then nothing of it changes with the index. In a straight trace nothing is made before
    // it, and where an object is takes a single comparison.
    let in_arrays = |root: &Root| !cx.memory.straight && Span::array(cx, &Span::plain(*root, 0, 8)).is_some();
    let by_order = !in_arrays(&place.root) && !in_arrays(other);
    if cx.memory.facts.ranges_apart(cx.b.len(), range, (*other, lo, hi)) {
        if !cx.memory.weighs {
            return true;
        }
        let order = Order::of(cx, (&place.root, start), (other, lo)).filter(|_| by_order);
        for pair in pairs(cx, &place.root, other, order.as_ref()) {
            cx.memory.worth.kept(pair, *other);
        }
        return true;
    }
    let (Some(from), Some(to)) = (seen_root(cx, &place.root), seen_root(cx, other)) else {
        return false;
    };
    // Of all accesses, so that one guard does for all.
    let spans = (Span::plain(range.0, range.1, range.2), Span::plain(*other, lo, hi));
    let Some(plain) = with_extents(cx, &spans.0, &spans.1) else {
        return false;
    };
    let both_constant = |root: &Root| root.index.is_none() && cx.int(root.base).is_some();
    let constants = both_constant(&place.root) && both_constant(other);
    let order = Order::of_spans(cx, &plain.0, &plain.1).filter(|_| by_order);
    let pairs = pairs(cx, &place.root, other, order.as_ref());
    let guarded = !cx.memory.straight || order.is_some() || from_stack(cx, &place.root) || from_stack(cx, other);
    let guarded = guarded && may_guard(cx, &pairs);
    if !constants && !guarded {
        return false;
    }
    let arrays = (
        Span::array(cx, &plain.0).unwrap_or(plain.0),
        Span::array(cx, &plain.1).unwrap_or(plain.1),
    );
    let ways = if order.is_some() {
        [plain, arrays]
    } else {
        [arrays, plain]
    };
    let Some((a, b)) = ways.into_iter().find(|(a, b)| seen_apart(cx, a, b)) else {
        return false;
    };
    if constants {
        return true;
    }
    let order = order.filter(|_| a.count.is_none() && b.count.is_none());
    let cost = if order.is_some() { ORDER } else { OVERLAP };
    let mut shown = |cx: &mut Cx<'_>, condition: Value, pair: Pair| shown(cx, condition, (pair, cost), (a, b));
    let all = match &order {
        Some(order) => order.each(cx, &mut shown),
        None => {
            let condition = overlapping(cx, &a, &b);
            shown(cx, condition, (from.min(to), from.max(to)))
        }
    };
    if !all {
        return false;
    }
    for pair in pairs {
        cx.memory.worth.kept(pair, *other);
    }
    let at = cx.b.len();
    let fact = order.map_or(
        Fact {
            at,
            a: plain.0.range(),
            b: plain.1.range(),
        },
        |order| order.fact(at),
    );
    cx.memory.facts.add(fact);
    true
}

/// A load, which is going to be made, reads what was stored through other roots, unless a guard says otherwise. May put one in: what
/// is overwritten unread need only be stored by exits ([`crate::sink`]).
pub(crate) fn read(cx: &mut Cx<'_>, place: &Place) {
    let others = cx.memory.others(&place.root);
    let start = i64::from(place.disp);
    let range = (place.root, start, start + i64::from(place.size));
    if let Some(entries) = cx.memory.known.get_mut(&place.root) {
        let end = start + i64::from(place.size);
        for known in entries.iter_mut() {
            known.unread &= end <= i64::from(known.disp) || i64::from(known.disp) + i64::from(known.size) <= start;
        }
    }
    for other in others {
        let private =
            (is_private_root(cx, &other) && !from_stack(cx, &place.root)).then_some(cx.memory.facts.private_below);
        let Some(entries) = cx.memory.known.get(&other) else {
            continue;
        };
        let pending = entries.iter().filter(|known| {
            let end = i64::from(known.disp) + i64::from(known.size);
            known.unread && !known.safe() && private.is_none_or(|limit| end > limit)
        });
        let bounds = pending.fold((i64::MAX, i64::MIN), |(lo, hi), known| {
            let start = i64::from(known.disp);
            (lo.min(start), hi.max(start + i64::from(known.size)))
        });
        if bounds.0 < bounds.1 && !unread(cx, range, (other, bounds.0, bounds.1)) {
            for known in cx.memory.known.get_mut(&other).into_iter().flatten() {
                known.unread = false;
            }
        }
    }
}

/// Whether a load of one range reads nothing of the other.
fn unread(cx: &mut Cx<'_>, (root, start, end): (Root, i64, i64), (other, lo, hi): (Root, i64, i64)) -> bool {
    let known = cx
        .memory
        .facts
        .ranges_apart(cx.b.len(), (root, start, end), (other, lo, hi));
    if known && !cx.memory.weighs {
        return true;
    }
    let (a, b) = (Span::plain(root, start, end), Span::plain(other, lo, hi));
    let order = Order::of_spans(cx, &a, &b);
    let pairs = pairs(cx, &root, &other, order.as_ref());
    // In a loop more is stored in the next turn, and guards cost more: only what will be guarded anyway is guarded already here.
    let wanted = |verdict: &Verdict| pairs.iter().all(|pair| verdict.useful.contains(pair));
    let wanted = order.is_some() && cx.memory.straight || cx.memory.verdict.as_ref().is_some_and(wanted);
    let all = known
        || wanted
            && may_guard(cx, &pairs)
            && match order {
                Some(order) => {
                    let all = order.each(cx, &mut |cx, condition, pair| {
                        shown(cx, condition, (pair, ORDER), (a, b))
                    });
                    let fact = order.fact(cx.b.len());
                    if all {
                        cx.memory.facts.add(fact);
                    }
                    all
                }
                None => pairs.first().is_some_and(|pair| ranges(cx, *pair, (a, b))),
            };
    if all {
        for pair in pairs {
            cx.memory.worth.unread(pair, other);
        }
    }
    all
}

/// Guards that all that is accessed of two objects is apart.
fn ranges(cx: &mut Cx<'_>, pair: Pair, (a, b): (Span, Span)) -> bool {
    if a.root.index.is_none()
        && b.root.index.is_none()
        && let Some((a, b)) = with_extents(cx, &a, &b)
        && seen_apart(cx, &a, &b)
    {
        let condition = overlapping(cx, &a, &b);
        let all = shown(cx, condition, (pair, OVERLAP), (a, b));
        if all {
            let fact = Fact {
                at: cx.b.len(),
                a: a.range(),
                b: b.range(),
            };
            cx.memory.facts.add(fact);
        }
        return all;
    }
    false
}

/// Two ranges, and all that is accessed through their roots.
fn with_extents(cx: &Cx<'_>, a: &Span, b: &Span) -> Option<(Span, Span)> {
    if !a.root.seg.is_none() || !b.root.seg.is_none() {
        return None;
    }
    let wide = |span: &Span| {
        let (mut from, mut to) = (span.from, span.from + span.length);
        if let Some((lo, hi)) = cx.memory.extents.0.get(&seen_root(cx, &span.root)?) {
            let lo = if is_private_root(cx, &span.root) {
                (*lo).max(cx.memory.facts.private_below)
            } else {
                *lo
            };
            (from, to) = (from.min(lo), to.max(*hi));
        }
        Some(Span::plain(span.root, from, to))
    };
    let (a, b) = (wide(a)?, wide(b)?);
    (a.length + b.length <= 1 << 20).then_some((a, b))
}

/// Guards that these are apart, of which `condition` says that they are not.
fn shown(cx: &mut Cx<'_>, condition: Value, what: (Pair, f64), spans: (Span, Span)) -> bool {
    match guard(cx, condition, Some(what)) {
        Compared::Apart => true,
        Compared::Overlap => false,
        Compared::Guarded => {
            if let Some(guards) = &mut cx.memory.in_loop {
                guards.push(spans);
            }
            true
        }
    }
}

/// Whether these may be kept apart by guards: an earlier run of the chain has not shown that it does not pay.
fn may_guard(cx: &Cx<'_>, pairs: &[Pair]) -> bool {
    let denied = |verdict: &Verdict| pairs.iter().any(|pair| verdict.useless.contains(pair));
    !cx.memory.verdict.as_ref().is_none_or(denied) && cx.checkpoint.is_some() && cx.memory.guards < MOST_GUARDS
}

/// What the guards that keep two objects apart compare.
fn pairs(cx: &Cx<'_>, a: &Root, b: &Root, order: Option<&Order>) -> Pairs {
    if let Some(order) = order {
        return order.pairs(cx);
    }
    match (seen_root(cx, a), seen_root(cx, b)) {
        (Some(a), Some(b)) => smallvec![(a.min(b), a.max(b))],
        _ => Pairs::new(),
    }
}

/// Most significant bits of the index of a table of which it is looked up whether anything writes there.
const INDEX_BITS: u32 = 16;

/// Whether no store of the program's own reaches a place, whatever its index is.
pub(super) fn unwritten(cx: &Cx<'_>, place: &Place) -> bool {
    let root = place.root;
    if !root.seg.is_none() {
        return false;
    }
    // The lowest and the highest that a part can be.
    let part = |value: Value| match cx.int(value) {
        _ if value.is_none() => Some((0, 0)),
        Some(constant) => Some((constant, constant)),
        None => match significant_bits(cx, value) {
            bits @ ..=INDEX_BITS => Some((0, (1 << bits) - 1)),
            _ => None,
        },
    };
    let (Some(base), Some(index)) = (part(root.base), part(root.index)) else {
        return false;
    };
    let at = |base: u64, index: u64| {
        let offset = index.checked_shl(u32::from(root.shift))?;
        base.checked_add(offset)?.checked_add_signed(i64::from(place.disp))
    };
    let (Some(first), Some(last)) = (at(base.0, index.0), at(base.1, index.1)) else {
        return false;
    };
    let end = last.checked_add(u64::from(place.size));
    end.is_some_and(|end| cx.input.constants.unwritten(first..end))
}

/// What a comparison came to.
#[derive(PartialEq)]
enum Compared {
    /// It is known that they do not overlap.
    Apart,
    /// They do, or no guard can be put in here.
    Overlap,
    /// A guard was put in.
    Guarded,
}

/// Guards that two ranges do not overlap.
pub(crate) fn compare(cx: &mut Cx<'_>, a: &Span, b: &Span) {
    match Order::of_spans(cx, a, b) {
        Some(order) => {
            order.each(cx, &mut |cx, condition, _| {
                guard(cx, condition, None);
                true
            });
        }
        None => {
            let condition = overlapping(cx, a, b);
            guard(cx, condition, None);
        }
    }
}

/// Guards that a condition is false. What such a guard keeps apart, and costs, is noted with `what`.
fn guard(cx: &mut Cx<'_>, condition: Value, what: Option<(Pair, f64)>) -> Compared {
    match cx.int(condition) {
        Some(0) => Compared::Apart,
        Some(_) => Compared::Overlap,
        None => {
            let Some(snapshot) = cx.checkpoint() else {
                return Compared::Overlap;
            };
            cx.memory.guards += 1;
            cx.guard(condition, false, snapshot);
            if let Some((pair, cost)) = what {
                cx.memory.worth.guarded(pair, cost, cx.b.len() - 1);
            }
            Compared::Guarded
        }
    }
}

/// The condition that two ranges overlap.
fn overlapping(cx: &mut Cx<'_>, a: &Span, b: &Span) -> Value {
    let a_start = address(cx, &a.root);
    let b_start = address(cx, &b.root);
    let offset = a.from.wrapping_sub(b.from).wrapping_add(a.length - 1);
    let offset = cx.b.int(Type::I64, offset as u64);
    let end = cx.make(O::Add, Type::I64, &[a_start, offset]);
    let mut sum = cx.make(O::Sub, Type::I64, &[end, b_start]);
    let bound = (a.length + b.length - 1) as u64;
    let mut bound = cx.b.int(Type::I64, bound);
    if let Some((count, shift)) = a.count {
        let bytes = scaled(cx, count, shift);
        sum = cx.make(O::Add, Type::I64, &[sum, bytes]);
        bound = cx.make(O::Add, Type::I64, &[bytes, bound]);
    }
    if let Some((count, shift)) = b.count {
        let bytes = scaled(cx, count, shift);
        bound = cx.make(O::Add, Type::I64, &[bound, bytes]);
    }
    let flags = cx.make(O::FlagsSub, Type::I64, &[sum, bound]);
    cx.feed(Cx::op(O::Cond, Type::Void, Cond::B.code(), &[flags]), Some(0))
}

/// Whether a condition is that of [`overlapping`], and known to be false. The objects of the guard may have been told apart the other
/// way round: in a loop they change places.
pub(super) fn is_known(cx: &Cx<'_>, op: &Op) -> bool {
    let compared = cx.def_of(op.args[0], O::FlagsSub).filter(|_| op.imm == Cond::B.code());
    let Some(compared) = compared.filter(|compared| compared.ty == Type::I64) else {
        return false;
    };
    let Some(bound) = cx.int(compared.args[1]).filter(|bound| *bound < 1 << 32) else {
        return false;
    };
    let Some(distance) = cx.def_of(cx.canonical(compared.args[0]), O::Sub) else {
        return false;
    };
    let (mut a, b) = (cx.canonical(distance.args[0]), cx.canonical(distance.args[1]));
    let mut offset = 0;
    if let Some(sum) = cx.def_of(a, O::Add)
        && let Some(constant) = cx.int(sum.args[1])
    {
        (a, offset) = (cx.canonical(sum.args[0]), constant as i64);
    }
    // a + offset - b is below the bound.
    let near = offset.unsigned_abs() < 1 << 32;
    let roots = (Root::plain(a), Root::plain(b));
    near && a.as_op().is_some()
        && b.as_op().is_some()
        && (cx.memory.facts).never(cx.b.len(), roots.0, roots.1, &(-offset..bound as i64 - offset))
}

/// The address of a root when it was recorded.
pub(super) fn seen_root(cx: &Cx<'_>, root: &Root) -> Option<u64> {
    let part = |value: Value| {
        if value.is_none() {
            Some(0)
        } else {
            cx.seen(value).map(|bits| bits as u64)
        }
    };
    Some(part(root.base)?.wrapping_add(part(root.index)? << root.shift))
}

/// The address of a root, as a value.
pub(super) fn address(cx: &mut Cx<'_>, root: &Root) -> Value {
    let op = Cx::op(
        O::Lea,
        Type::Void,
        MemFlags::new(1 << root.shift, false).0,
        &[root.base, root.index],
    );
    cx.feed(op, seen_root(cx, root).map(u128::from))
}

/// How far the accesses of a trace reach from each root, by the address that the root had when it was recorded.
#[derive(Debug, Clone, Default)]
pub struct Extents(FxHashMap<u64, (i64, i64)>);

impl Extents {
    /// Of a trace that has been fed, where more is known of addresses.
    pub(crate) fn of_fed(trace: &Trace, observed: &[Option<u128>]) -> Extents {
        let mut extents = Extents::default();
        let seen = |value: Value| match value.as_op() {
            _ if value.is_none() => Some(0),
            Some(index) => observed.get(index).copied().flatten().map(|bits| bits as u64),
            None => trace.constant(value).map(|bits| bits as u64),
        };
        for place in trace
            .ops
            .iter()
            .filter_map(place)
            .filter(|place| place.root.seg.is_none())
        {
            if let (Some(base), Some(index)) = (seen(place.root.base), seen(place.root.index)) {
                let root = base.wrapping_add(index << place.root.shift);
                let from = i64::from(place.disp);
                extents.add(root, from, from + i64::from(place.size));
            }
        }
        extents
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, root: u64, from: i64, to: i64) {
        let extent = self.0.entry(root).or_insert((from, to));
        *extent = (extent.0.min(from), extent.1.max(to));
    }

    /// Of a lifted trace.
    pub fn of(trace: &Trace, observed: &[Option<u128>]) -> Extents {
        let mut extents = Extents::default();
        if observed.len() != trace.ops.len() {
            return extents;
        }
        // By operation: the address that its result was without its constants when it was recorded, and their sum.
        let mut roots: Vec<Option<(u64, i64)>> = Vec::with_capacity(trace.ops.len());
        for (op, seen) in trace.ops.iter().zip(observed) {
            let seen = seen.map(|bits| bits as u64);
            let root = |value: Value| match (value.as_op(), trace.constant(value)) {
                _ if value.is_none() => Some((0, 0)),
                (Some(at), _) => roots[at],
                (_, bits) => bits.map(|bits| (0, bits as i64)),
            };
            let own = lifted_root(trace, op, seen, &root);
            let address = match op.code {
                O::Load => root(op.args[0]).zip(root(op.args[1])),
                O::Store => root(op.args[1]).zip(root(op.args[2])),
                _ => None,
            };
            roots.push(own);
            let Some(((base, b), (index, i))) = address else {
                continue;
            };
            let shift = u32::from(op.imm & 3);
            let root = base.wrapping_add(index << shift);
            let from = b.wrapping_add(i << shift).wrapping_add(i64::from(op.aux));
            let to = from + i64::from(op.ty.bytes());
            extents.add(root, from, to);
        }
        extents
    }
}

/// What an operation gave when it was recorded, without its constants, and their sum; `root` says so of its operands.
fn lifted_root(
    trace: &Trace,
    op: &Op,
    seen: Option<u64>,
    root: &dyn Fn(Value) -> Option<(u64, i64)>,
) -> Option<(u64, i64)> {
    let constant = |v: Value| trace.constant(v).map(|bits| bits as i64);
    let plus = |value: Value, c: i64| root(value).map(|(from, sum)| (from, sum.wrapping_add(c)));
    match op.code {
        O::Add if op.ty == Type::I64 => match (constant(op.args[0]), constant(op.args[1])) {
            (_, Some(c)) => return plus(op.args[0], c),
            (Some(c), _) => return plus(op.args[1], c),
            _ => {}
        },
        O::Sub if op.ty == Type::I64 => {
            if let Some(c) = constant(op.args[1]) {
                return plus(op.args[0], c.wrapping_neg());
            }
        }
        O::Lea if op.args[1].is_none() && !op.args[0].is_none() => return plus(op.args[0], i64::from(op.aux)),
        // A sum: what is left of it without its constants.
        O::Lea => {
            let ((_, base), (_, index)) = (root(op.args[0])?, root(op.args[1])?);
            let constant = base.wrapping_add(index << (op.imm & 3)).wrapping_add(i64::from(op.aux));
            return Some((seen?.wrapping_sub(constant as u64), constant));
        }
        _ => {}
    }
    Some((seen?, 0))
}
