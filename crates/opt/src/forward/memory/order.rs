//! Guards by order: which side of a limit two objects are on that are far from each other.
//!
//! An object is rarely near the native stack or the program's image, and mostly on the same side of them; blocks of the heap
//! behind the image and mapped memory are as far apart. That an address is below (or above) a limit is said in one comparison,
//! whatever is accessed of the object, and does for all objects on the other side of that limit.
//!
//! The limit is a constant, the same one for whatever is in reach of 32-bit displacements and whatever is far above; between
//! mapped memory and the native stack, where threads have theirs anywhere, it is a fixed distance from the stack pointer.
//!
//! An interpreter may have its own frames mapped some way below the native stack (CPython does, with our patch). Then what is far
//! from the stack is far from them, too: the same limit does for both, and a second one is between the two.

use redmagic_ir::{Cond, Opcode as O, Type, Value};
use smallvec::SmallVec;

use super::apart::{Span, address, seen_root};
use super::worth::{Pair, Pairs};
use super::{Fact, Root, is_stack_pointer};
use crate::cx::Cx;

/// How near two things may be to be told apart by their order: blocks of a heap, and stacks of threads and coroutines, can
/// be on either side of each other.
const NEAR: u64 = 1 << 33;

/// How far below the stack pointer the interpreter's own frames may be.
const BESIDE: std::ops::Range<u64> = 1 << 29..3 << 29;

/// The limits on either side of what is [`BESIDE`] the stack, from the stack pointer: in reach of displacements.
const BELOW_STACK: i64 = -(3 << 27);
const BELOW_FRAMES: i64 = -(7 << 28);

/// What is between an object and what it is seen from, at least: [`REACH`] of both. Addresses are compared with their
/// signs, so that nothing wraps around: those of a program are positive, and an access to any other faults.
const GAP: i64 = 2 * REACH;

/// How far the accesses to either may reach in the other's direction.
const REACH: i64 = 1 << 14;

/// The ranges of addresses in which constants are as one, seen from the stack: a power of two.
const REGION: u64 = 1 << 30;

/// Images that are not position-independent, and the heap behind them, are below this.
const IMAGES: u64 = 0x7000_0000;

/// The limit above them: as a 32-bit immediate it is positive.
const ABOVE_IMAGES: u64 = 0x7800_0000;

/// An object: its root, and how far from there it is. Of an entry of a table the root may be the offset in the table.
#[derive(Clone, Copy)]
struct Object {
    root: Root,
    at: i64,
}

impl Object {
    /// Of which this displacement is accessed.
    fn of(root: &Root, disp: i64) -> Object {
        let at = if disp.abs() > REACH { disp } else { 0 };
        Object { root: *root, at }
    }

    fn seen(&self, cx: &Cx<'_>) -> Option<u64> {
        Some(seen_root(cx, &self.root)?.wrapping_add_signed(self.at))
    }

    fn address(&self, cx: &mut Cx<'_>) -> Value {
        let root = address(cx, &self.root);
        let at = cx.b.int(Type::I64, self.at as u64);
        cx.make(O::Add, Type::I64, &[root, at])
    }

    fn is_constant(&self, cx: &Cx<'_>) -> bool {
        self.root.is_constant(cx)
    }

    /// All that is accessed of it is near.
    fn has(&self, span: &Span) -> bool {
        let from = span.from - self.at;
        span.count.is_none() && from >= -REACH && from + span.length <= REACH
    }
}

/// Two objects that are far from each other.
pub(super) struct Order {
    low: Object,
    high: Object,
    /// Whether the lower one is the second of the two.
    swapped: bool,
    limit: Limit,
}

#[derive(Clone, Copy)]
enum Limit {
    /// So far from the stack pointer at the entry.
    Stack(Value, i64),
    /// An address between them.
    Constant(u64),
}

impl Order {
    /// Of two ranges that are near their roots, or elsewhere.
    pub(super) fn of_spans(cx: &Cx<'_>, a: &Span, b: &Span) -> Option<Order> {
        let order = Order::of(cx, (&a.root, a.from), (&b.root, b.from))?;
        let (low, high) = if order.swapped { (b, a) } else { (a, b) };
        (order.low.has(low) && order.high.has(high)).then_some(order)
    }

    /// Of two roots, of which these displacements are accessed.
    pub(super) fn of(cx: &Cx<'_>, (a, from): (&Root, i64), (b, to): (&Root, i64)) -> Option<Order> {
        if !a.seg.is_none() || !b.seg.is_none() {
            return None;
        }
        let objects = (Object::of(a, from), Object::of(b, to));
        if objects.0.is_constant(cx) && objects.1.is_constant(cx) {
            return None;
        }
        let (seen_a, seen_b) = (objects.0.seen(cx)?, objects.1.seen(cx)?);
        let (bottom, top) = (seen_a.min(seen_b), seen_a.max(seen_b));
        let stack = |object: &Object| {
            let base = object.root.only_base().filter(|base| is_stack_pointer(cx, *base))?;
            Some((base, object.at))
        };
        let pointer = cx
            .memory
            .stack_pointer
            .and_then(|pointer| Some((pointer, cx.seen(pointer)? as u64)));
        let beside = |at: u64| {
            let below = pointer.map(|(_, top)| top.wrapping_sub(at));
            below.is_some_and(|below| BESIDE.contains(&below))
        };
        let limit = match (stack(&objects.0).or_else(|| stack(&objects.1)), pointer) {
            // Constants go by their regions, in which others are.
            _ if [&objects.0, &objects.1]
                .iter()
                .any(|object| object.is_constant(cx) && object.seen(cx).is_some_and(beside)) =>
            {
                return None;
            }
            // It is compared with the stack pointer itself.
            (Some((pointer, at)), _) if beside(bottom) => (at == 0).then_some(Limit::Stack(pointer, BELOW_STACK))?,
            _ if top - bottom < NEAR => return None,
            _ if bottom < IMAGES => Limit::Constant(ABOVE_IMAGES),
            (None, Some((pointer, _))) if beside(top) => Limit::Stack(pointer, BELOW_FRAMES),
            (Some((pointer, at)), _) => {
                let above = cx.seen(pointer)? as u64 == bottom;
                (at == 0).then_some(Limit::Stack(pointer, if above { GAP } else { BELOW_FRAMES }))?
            }
            (None, _) => {
                // The roundest number between them.
                let bit = (bottom ^ top).ilog2();
                let limit = top >> bit << bit;
                let far = limit - bottom >= NEAR / 2 && top - limit >= NEAR / 2;
                far.then_some(Limit::Constant(limit))?
            }
        };
        let swapped = seen_b < seen_a;
        let (low, high) = if swapped { (objects.1, objects.0) } else { objects };
        Some(Order {
            low,
            high,
            swapped,
            limit,
        })
    }

    /// The objects that are compared with the limit, and whether each is below.
    fn compared(&self, cx: &Cx<'_>) -> SmallVec<[(Object, bool); 2]> {
        let compared = |object: &Object| match self.limit {
            Limit::Stack(pointer, _) => object.root.only_base() != Some(pointer),
            Limit::Constant(_) => !object.is_constant(cx),
        };
        let objects = [(self.low, true), (self.high, false)].into_iter();
        objects.filter(|(object, _)| compared(object)).collect()
    }

    fn pair(&self, cx: &Cx<'_>, object: &Object) -> Option<Pair> {
        let limit = match self.limit {
            Limit::Stack(pointer, from) => (cx.seen(pointer)? as u64).wrapping_add_signed(from),
            Limit::Constant(limit) => limit,
        };
        Some((seen_root(cx, &object.root)?, limit))
    }

    /// What the guards compare.
    pub(super) fn pairs(&self, cx: &Cx<'_>) -> Pairs {
        let objects = self.compared(cx).into_iter();
        objects.filter_map(|(object, _)| self.pair(cx, &object)).collect()
    }

    /// Feeds the conditions that they are not in this order, and gives each with what it compares to `guard`. Ends where that
    /// gives false, and gives false then.
    pub(super) fn each(&self, cx: &mut Cx<'_>, guard: &mut dyn FnMut(&mut Cx<'_>, Value, Pair) -> bool) -> bool {
        self.compared(cx).into_iter().all(|(object, below)| {
            let Some(pair) = self.pair(cx, &object) else {
                return false;
            };
            let condition = self.beyond(cx, &object, below);
            guard(cx, condition, pair)
        })
    }

    /// The condition that an object is not on its side of the limit.
    fn beyond(&self, cx: &mut Cx<'_>, object: &Object, below: bool) -> Value {
        match self.limit {
            Limit::Stack(pointer, from) => {
                // Above it by as much as both may reach.
                let from = if below || from > 0 { from } else { from + GAP };
                let from = cx.b.int(Type::I64, from as u64);
                let limit = cx.make(O::Add, Type::I64, &[pointer, from]);
                let mut object = object.address(cx);
                // Constants go by their regions, so that a comparison does for all of one.
                if let Some(constant) = cx.int(object) {
                    let edge = (constant & !(REGION - 1)) + if below { REGION } else { 0 };
                    object = cx.b.int(Type::I64, edge);
                }
                compare(cx, limit, object, if below { Cond::L } else { Cond::G })
            }
            Limit::Constant(limit) => {
                let object = object.address(cx);
                let limit = cx.b.int(Type::I64, if below { limit } else { limit + GAP as u64 });
                compare(cx, object, limit, if below { Cond::G } else { Cond::L })
            }
        }
    }

    /// What does not overlap when they are: more than was asked for.
    pub(super) fn fact(&self, at: usize) -> Fact {
        // As far as they reach towards each other, and any distance away.
        let away = 1 << 20;
        let low = (self.low.root, self.low.at - away, self.low.at + REACH);
        let high = (self.high.root, self.high.at - REACH, self.high.at + away);
        let (a, b) = if self.swapped { (high, low) } else { (low, high) };
        Fact { at, a, b }
    }
}

/// How one value compares with another, with their signs. One that may be constant is the second.
fn compare(cx: &mut Cx<'_>, a: Value, b: Value, cond: Cond) -> Value {
    let flags = cx.make(O::FlagsSub, Type::I64, &[a, b]);
    cx.feed(Cx::op(O::Cond, Type::Void, cond.code(), &[flags]), Some(0))
}
