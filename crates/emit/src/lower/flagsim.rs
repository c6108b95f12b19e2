//! Which flags are in the processor when they are wanted, and how they are computed when they are not.
//!
//! `flags.*` operations produce nothing by themselves. Walking forwards over the trace, [`FlagState::simulate`] notes for
//! every user of flags whether they are there already: from an earlier user of the same flags, or from the arithmetic
//! that they are the flags of. What comes between must leave flags alone; moves, loads, stores and floating point do.

use rustc_hash::FxHashMap;

use redmagic_ir::flags::{self, AF, CF, OF, PF, SF, STATUS, ZF};
use redmagic_ir::{End, Op, Opcode, Type, Value};

use super::plan::{How, Id, Kind, Place, Plan, condition_mask};

/// What is known about flags at each position.
#[derive(Debug, Default)]
pub(super) struct FlagState {
    /// By position: the flags wanted there are in the processor.
    ready: Vec<bool>,
    /// By position: an exit taken there finds the flags of its snapshot in the processor.
    in_exit: Vec<bool>,
    /// By position: the arithmetic there must set flags, and not be a `lea`.
    exact: Vec<bool>,
    /// By operation: the arithmetic with the same operands as these flags.
    result: Vec<Option<Value>>,
}

/// How flags are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recipe {
    /// Nothing is wanted, or nothing is defined.
    Nothing,
    /// `test v, v`.
    Test(Value),
    /// `test a, b`: nothing else wants their conjunction.
    TestBoth(Value, Value),
    /// The flags of another operation.
    Same(Value),
    /// By the instruction that the operation is named after.
    Itself,
    /// By way of an image of the flags in a register.
    Image,
}

impl FlagState {
    pub(super) fn ready(&self, position: u32) -> bool {
        self.ready[position as usize]
    }

    pub(super) fn in_exit(&self, position: u32) -> bool {
        self.in_exit.get(position as usize).copied().unwrap_or(false)
    }

    pub(super) fn exact(&self, position: u32) -> bool {
        self.exact[position as usize]
    }

    pub(super) fn simulate(plan: &Plan<'_>) -> FlagState {
        let trace = plan.trace;
        let n = trace.ops.len();
        let mut state = FlagState {
            ready: vec![false; n + 2],
            in_exit: vec![false; n + 2],
            exact: vec![false; n + 2],
            result: vec![None; n],
        };
        let mut arithmetic = FxHashMap::default();
        for (i, op) in trace.ops.iter().enumerate().filter(|(i, _)| plan.live[*i]) {
            if let Some(key) = flags_of(op)
                && plan.kind[i] == Kind::Gpr
                && !plan.is_updated(i)
            {
                arithmetic.entry(key).or_insert(i);
            }
        }
        let constants: FxHashMap<(Type, u128), Value> = trace
            .constants
            .iter()
            .enumerate()
            .map(|(i, k)| ((k.ty, k.bits), Value::constant(i)))
            .collect();
        // The flags of an operation that come from arithmetic, by that; the operation that makes them, by flags.
        let mut made = vec![None; n];
        for (i, op) in trace.ops.iter().enumerate().filter(|(i, _)| plan.live[*i]) {
            if let Some((r, mask)) = of_result(plan, op) {
                if made[r].is_none() && !plan.tested[r] {
                    made[r] = Some((i, mask));
                }
                continue;
            }
            let keys = keys_of(plan, op, &constants);
            let found = keys
                .into_iter()
                .flatten()
                .find_map(|(key, mask)| Some((arithmetic.get(&key)?, mask)));
            if let Some((from, mask)) = found {
                made[*from] = Some((i, mask));
                state.result[i] = Some(Value::op(*from));
            }
        }
        for (i, update) in plan.updates.iter().enumerate() {
            if let Some((flags, _)) = update.and_then(|update| update.flags) {
                made[i] = Some((flags, STATUS));
            }
        }
        // The flags in the processor, which of them are right, and the arithmetic that they came from.
        let mut now: Option<(usize, u32, Option<usize>)> = None;
        for (i, op) in trace.ops.iter().enumerate().filter(|(i, _)| plan.live[*i]) {
            let position = i as u32 + 1;
            if let Some((flags, mask)) = wanted(plan, op) {
                now = state.want(plan, position, flags, mask, now, op);
            } else if matches!(op.code, Opcode::GuardTrue | Opcode::GuardFalse) {
                now = None;
            }
            if clobbers(plan, i) {
                now = None;
            }
            if let Some((flags, mask)) = made[i] {
                now = Some((flags, mask, Some(i)));
            }
        }
        if let End::Branch { cond, .. } = &trace.end
            && let Some((flags, mask)) = condition(plan, *cond)
        {
            let position = plan.end();
            let op = Op {
                code: Opcode::GuardTrue,
                ty: Type::Void,
                imm: 0,
                aux: 0,
                args: [*cond, Value::NONE, Value::NONE, Value::NONE],
            };
            state.want(plan, position, flags, mask, now, &op);
        } else if !matches!(trace.end, End::Branch { .. })
            && let Some(snapshot) = trace.end.snapshot()
            && let Some(flags) = snapshot.get(redmagic_ir::Reg::FLAGS).and_then(|v| v.as_op())
            && let Some((there, STATUS, from)) = now
            && there == flags
        {
            state.in_exit[plan.end() as usize] = true;
            if let Some(from) = from {
                state.exact[from + 1] = true;
            }
        }
        state
    }

    fn want(
        &mut self,
        plan: &Plan<'_>,
        position: u32,
        flags: usize,
        mask: u32,
        now: Option<(usize, u32, Option<usize>)>,
        op: &Op,
    ) -> Option<(usize, u32, Option<usize>)> {
        let snapshot = match op.code {
            Opcode::GuardTrue | Opcode::GuardFalse if position == plan.end() => plan.trace.end.snapshot(),
            Opcode::GuardTrue | Opcode::GuardFalse => Some(plan.snapshot(op)),
            _ => None,
        };
        let in_exit = snapshot.and_then(|s| s.get(redmagic_ir::Reg::FLAGS));
        let in_exit = in_exit.and_then(|v| v.as_op()) == Some(flags);
        let after = match now {
            Some((there, valid, from)) if there == flags && mask & !valid == 0 => {
                self.ready[position as usize] = true;
                if let Some(from) = from {
                    self.exact[from + 1] = true;
                }
                (flags, valid, None)
            }
            _ => (flags, valid_after(plan, flags, mask, position, in_exit), None),
        };
        self.in_exit[position as usize] = in_exit && after.1 == STATUS;
        Some(after)
    }

    /// How the flags `id` are computed at `position` if those in `mask` are wanted.
    pub(super) fn recipe(&self, plan: &Plan<'_>, id: Id, mask: u32, position: u32) -> Recipe {
        use Opcode as O;
        let op = &plan.trace.ops[id];
        if mask == 0 {
            return Recipe::Nothing;
        }
        let sign_zero = mask & !(ZF | SF | PF) == 0;
        match op.code {
            O::FlagsUndef | O::Get => Recipe::Nothing,
            O::FlagsAdd | O::FlagsAdc | O::FlagsSbb | O::FlagsInc | O::FlagsDec if sign_zero => {
                match self.result[id].filter(|v| v.as_op().is_some_and(|i| (i as u32 + 1) < position)) {
                    Some(v) => Recipe::Test(v),
                    None => Recipe::Itself,
                }
            }
            O::FlagsLogic => match op.args[0].as_op().filter(|r| plan.tested[*r]) {
                Some(r) => Recipe::TestBoth(plan.trace.ops[r].args[0], plan.trace.ops[r].args[1]),
                None => Recipe::Test(op.args[0]),
            },
            O::FlagsBextr => Recipe::Test(op.args[0]),
            O::FlagsBsf => Recipe::Test(op.args[0]),
            O::FlagsPopcnt if mask == ZF => Recipe::Test(op.args[0]),
            O::FlagsCount if mask == ZF => Recipe::Test(op.args[1]),
            O::FlagsBmi if mask & CF == 0 => Recipe::Test(op.args[0]),
            O::FlagsCount | O::FlagsBmi | O::FlagsSahf | O::FlagsOf => Recipe::Image,
            O::FlagsSetC if mask & CF == 0 => Recipe::Same(op.args[1]),
            O::FlagsSetO if mask & OF == 0 => Recipe::Same(op.args[1]),
            O::FlagsSetZ if mask & ZF == 0 => Recipe::Same(op.args[1]),
            O::FlagsSetC | O::FlagsSetO | O::FlagsSetZ => Recipe::Image,
            O::FlagsShl | O::FlagsShr | O::FlagsSar | O::FlagsRol | O::FlagsRor | O::FlagsRcl | O::FlagsRcr
                if constant_count(plan, op, 1) == Some(0) =>
            {
                Recipe::Same(op.args[2])
            }
            O::FlagsShld | O::FlagsShrd if constant_count(plan, op, 2) == Some(0) => Recipe::Same(op.args[3]),
            _ => Recipe::Itself,
        }
    }
}

/// The masked count of a shift or rotate, if it is constant.
pub(super) fn constant_count(plan: &Plan<'_>, op: &Op, at: usize) -> Option<u32> {
    let n = plan.trace.constant(op.args[at])?;
    Some(flags::masked_count(op.ty.bits(), n as u64))
}

/// The earlier flags that an operation keeps some of, and which of them matter for `mask`.
pub(super) fn previous(plan: &Plan<'_>, op: &Op, mask: u32) -> Option<(Value, u32)> {
    use Opcode as O;
    let (value, mask) = match op.code {
        O::FlagsInc | O::FlagsDec => (op.args[1], mask & CF),
        O::FlagsShl | O::FlagsShr | O::FlagsSar => match constant_count(plan, op, 1) {
            Some(_) => return None,
            None => (op.args[2], mask),
        },
        O::FlagsShld | O::FlagsShrd => match constant_count(plan, op, 2) {
            Some(_) => return None,
            None => (op.args[3], mask),
        },
        O::FlagsRol | O::FlagsRor => match constant_count(plan, op, 1) {
            Some(_) => (op.args[2], mask & !(CF | OF)),
            None => (op.args[2], mask),
        },
        O::FlagsRcl | O::FlagsRcr => (op.args[2], mask | CF),
        O::FlagsBt => (op.args[2], mask & ZF),
        _ => return None,
    };
    (mask != 0).then_some((value, mask))
}

impl Plan<'_> {
    /// What [`Plan::visit`] does for flags.
    pub(super) fn visit_flags(&self, id: Id, mask: u32, place: Place, wanted: &mut dyn FnMut(Id, Option<u32>)) {
        if self.is_ready(id, place) {
            return;
        }
        let op = &self.trace.ops[id];
        match self.flags.recipe(self, id, mask, place.at) {
            Recipe::Nothing => {}
            Recipe::Test(value) => self.visit(value, How::Plain, place, wanted),
            Recipe::TestBoth(a, b) => {
                self.visit(a, How::Memory(op.ty.bytes()), place, wanted);
                self.visit(b, How::Memory(op.ty.bytes()), place, wanted);
            }
            Recipe::Same(value) => self.visit(value, How::Flags(mask), place, wanted),
            Recipe::Itself => {
                if let Some((value, mask)) = previous(self, op, mask) {
                    self.visit(value, How::Flags(mask), place, wanted);
                }
                self.visit_flag_operands(op, place, wanted);
            }
            Recipe::Image => {
                if let Some((value, mask)) = image_previous(op) {
                    self.visit(value, How::Flags(mask), place, wanted);
                }
                self.visit_flag_operands(op, place, wanted);
            }
        }
    }

    fn visit_flag_operands(&self, op: &Op, place: Place, wanted: &mut dyn FnMut(Id, Option<u32>)) {
        for (at, value) in op.operands().iter().copied().enumerate() {
            if self.trace.type_of(value) == Type::Flags {
                continue;
            }
            let how = match op.code {
                Opcode::FlagsSub if at < 2 => How::Memory(op.ty.bytes()),
                Opcode::FlagsAdd | Opcode::FlagsMulS if at == 1 => How::Memory(op.ty.bytes()),
                Opcode::FlagsUcomi | Opcode::FlagsComi if at == 1 => How::Memory(op.ty.bytes()),
                Opcode::FlagsAdc | Opcode::FlagsSbb if at == 2 => How::Carry,
                _ => How::Plain,
            };
            self.visit(value, how, place, wanted);
        }
    }

    /// Whether these flags are the ones that the operation at `position` finds in the processor.
    pub(super) fn is_ready(&self, id: Id, place: Place) -> bool {
        if place.exit || !self.flags.ready(place.at) {
            return false;
        }
        let user = match self.op(place.at as usize - 1) {
            Some(op) => wanted(self, op),
            None => match &self.trace.end {
                End::Branch { cond, .. } => condition(self, *cond),
                _ => None,
            },
        };
        user.is_some_and(|(flags, _)| flags == id)
    }
}

/// The earlier flags that an image is made from.
pub(super) fn image_previous(op: &Op) -> Option<(Value, u32)> {
    match op.code {
        Opcode::FlagsSetC => Some((op.args[1], STATUS & !CF)),
        Opcode::FlagsSetO => Some((op.args[1], STATUS & !OF)),
        Opcode::FlagsSetZ => Some((op.args[1], STATUS & !ZF)),
        Opcode::FlagsSahf => Some((op.args[1], OF)),
        _ => None,
    }
}

/// The lazily computed flags that an i1 is a condition of.
fn condition(plan: &Plan<'_>, value: Value) -> Option<(usize, u32)> {
    let i = value.as_op()?;
    let op = &plan.trace.ops[i];
    let flags = plan.lazy_condition(i, How::Condition)?.as_op()?;
    (plan.kind[flags] == Kind::Lazy).then(|| (flags, condition_mask(op.imm)))
}

/// The flags that an operation wants in the processor.
fn wanted(plan: &Plan<'_>, op: &Op) -> Option<(usize, u32)> {
    use Opcode as O;
    match op.code {
        O::GuardTrue | O::GuardFalse => condition(plan, op.args[0]),
        // Images of flags are computed before the condition.
        O::Select if op.ty != Type::Flags => condition(plan, op.args[0]),
        O::Adc | O::Sbb if is_carry(plan, op.args[2]) => condition(plan, op.args[2]),
        _ => None,
    }
}

/// Whether it is what `b` or `ae` say.
fn is_carry(plan: &Plan<'_>, value: Value) -> bool {
    value
        .as_op()
        .is_some_and(|i| plan.lazy_condition(i, How::Carry).is_some())
}

/// Which flags are right after those of `mask` were wanted.
fn valid_after(plan: &Plan<'_>, flags: usize, mask: u32, position: u32, in_exit: bool) -> u32 {
    use Opcode as O;
    let op = &plan.trace.ops[flags];
    match op.code {
        // `cmp x, 0` is `test x, x` unless an exit wants all flags.
        O::FlagsSub if !in_exit && plan.trace.constant(op.args[1]) == Some(0) => STATUS & !AF,
        O::FlagsSub | O::FlagsLogic | O::FlagsUcomi | O::FlagsComi | O::FlagsPtest => STATUS,
        _ => {
            let _ = position;
            mask
        }
    }
}

/// Whether the code of an operation may change flags.
fn clobbers(plan: &Plan<'_>, i: usize) -> bool {
    use Opcode as O;
    let op = &plan.trace.ops[i];
    match op.code {
        O::Store => plan.updates[i].is_some(),
        O::Reg | O::Load | O::Lea | O::Trunc | O::Zext | O::Bitcast | O::Get => false,
        O::Put => op.ty == Type::I32,
        O::GuardTrue | O::GuardFalse => false,
        O::FAdd | O::FSub | O::FMul | O::FDiv | O::FMin | O::FMax | O::FSqrt | O::FCmp | O::FCvt | O::IntToF => false,
        O::FToInt | O::FToIntZ | O::VZext => false,
        O::Insert => false,
        O::Extract => op.ty == Type::I8 && !op.imm.is_multiple_of(2),
        O::Select => wanted(plan, op).is_none(),
        O::Sext => plan.trace.type_of(op.args[0]) == Type::I1,
        // Flags are computed where they are used, and conditions that nothing wants as a value.
        O::Cond => plan.lazy_condition(i, How::Condition).is_none(),
        _ => !matches!(plan.kind[i], Kind::Lazy | Kind::Stack(_) | Kind::Pinned(_)),
    }
}

type Key = (Opcode, Type, [Value; 3]);

/// The operation whose result these are the flags of, and which of them its instruction sets.
fn of_result(plan: &Plan<'_>, op: &Op) -> Option<(usize, u32)> {
    use Opcode as O;
    let zero = plan.trace.constant(op.args[1]) == Some(0);
    if op.code != O::FlagsLogic && !(op.code == O::FlagsSub && zero) {
        return None;
    }
    let r = op.args[0].as_op()?;
    let from = &plan.trace.ops[r];
    if from.ty != op.ty || plan.kind[r] != Kind::Gpr {
        return None;
    }
    match from.code {
        O::And | O::Or | O::Xor if op.code == O::FlagsLogic => Some((r, STATUS)),
        O::And | O::Or | O::Xor => Some((r, STATUS & !AF)),
        O::Add | O::Sub | O::Neg => Some((r, ZF | SF | PF)),
        O::Shl | O::Shr | O::Sar if constant_count(plan, from, 1).is_some_and(|n| n != 0) => Some((r, ZF | SF | PF)),
        _ => None,
    }
}

/// The key of arithmetic, to be found by its flags.
fn flags_of(op: &Op) -> Option<Key> {
    use Opcode as O;
    let args = [op.args[0], op.args[1], op.args[2]];
    match op.code {
        O::Add | O::Sub | O::Adc | O::Sbb => Some((op.code, op.ty, args)),
        O::Neg => Some((op.code, op.ty, args)),
        O::Shl | O::Shr | O::Sar => Some((op.code, op.ty, args)),
        _ => None,
    }
}

/// The keys of the arithmetic that these are the flags of, and which of them its instruction sets.
fn keys_of(plan: &Plan<'_>, op: &Op, constants: &FxHashMap<(Type, u128), Value>) -> [Option<(Key, u32)>; 2] {
    use Opcode as O;
    let (a, b, c) = (op.args[0], op.args[1], op.args[2]);
    let none = Value::NONE;
    let key = match op.code {
        O::FlagsAdd => (O::Add, op.ty, [a, b, none]),
        O::FlagsSub if plan.trace.constant(a) == Some(0) => (O::Neg, op.ty, [b, none, none]),
        O::FlagsSub => (O::Sub, op.ty, [a, b, none]),
        O::FlagsAdc => (O::Adc, op.ty, [a, b, c]),
        O::FlagsSbb => (O::Sbb, op.ty, [a, b, c]),
        O::FlagsInc => {
            // inc is add of 1; dec is sub of 1, or add of -1, whose carry is another. Theirs is that of something else.
            let one = constants.get(&(op.ty, 1)).copied();
            return [one.map(|one| ((O::Add, op.ty, [a, one, none]), STATUS & !CF)), None];
        }
        O::FlagsDec => {
            let one = constants.get(&(op.ty, 1)).copied();
            let minus = constants.get(&(op.ty, op.ty.mask())).copied();
            return [
                one.map(|one| ((O::Sub, op.ty, [a, one, none]), STATUS & !CF)),
                minus.map(|minus| ((O::Add, op.ty, [a, minus, none]), STATUS & !(CF | AF))),
            ];
        }
        O::FlagsShl | O::FlagsShr | O::FlagsSar if constant_count(plan, op, 1).is_some_and(|n| n != 0) => {
            let code = match op.code {
                O::FlagsShl => O::Shl,
                O::FlagsShr => O::Shr,
                _ => O::Sar,
            };
            (code, op.ty, [a, b, none])
        }
        _ => return [None, None],
    };
    [Some((key, STATUS)), None]
}
