//! The meaning of every operation: an evaluator over a register file and a [`Memory`].
//!
//! It is the oracle for lifter, optimiser and emitter, and the engine of the emulating recorder, so it must be both
//! plain and quick: one array of 128-bit slots indexed by operation, one `match`, no allocation after the first
//! run. A slot's bits above the width of its type are 0. A flags slot has the bits in its low 32 and the undefined mask
//! ([`crate::flags::Flags`]) above.
//!
//! Evaluation of a trace that the verifier refuses may panic; it never touches memory but through the host.

mod host;
mod int;
mod state;

pub use state::{Fault, Host, Memory, Regs, SparseMemory};

use crate::flags::{self, Flags};
use crate::opcode::Opcode;
use crate::reg::Reg;
use crate::trace::{End, Op, Snapshot, Trace, Value};

/// Where a trace was left. The registers, `rip` included, are those of the exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Through the guard that is this operation.
    Guard(usize),
    /// Through its end: exit, branch (with what the condition was) or jump.
    End(Option<bool>),
    /// Through its end, to its own start.
    Repeat,
    /// Through its end, to this other trace.
    Link(u32),
}

/// Evaluates traces; keeps its memory from one to the next.
#[derive(Debug, Default)]
pub struct Evaluator {
    slots: Vec<u128>,
    tuples: Vec<Regs>,
    next_phis: Vec<u128>,
    /// How many times a trace's inner loop may go back before [`Fault::Fuel`]. The default is 0.
    pub iterations: u64,
    /// How many elements a repeated string operation may process in one operation before [`Fault::Fuel`]; 0: no limit.
    pub elements: u64,
    /// Set when a result came to depend on flags that are undefined: a processor may compute another.
    pub undefined: bool,
}

#[inline]
fn flags_of(slot: u128) -> Flags {
    Flags {
        bits: slot as u32,
        undefined: (slot >> 32) as u32,
    }
}

#[inline]
fn slot_of(f: Flags) -> u128 {
    u128::from(u64::from(f.undefined) << 32 | u64::from(f.bits))
}

struct Context<'a, H> {
    trace: &'a Trace,
    entry: &'a Regs,
    host: &'a mut H,
    mxcsr: u32,
}

impl Evaluator {
    /// A new one.
    pub fn new() -> Evaluator {
        Evaluator::default()
    }

    /// Runs the trace from `regs` until it is left. On a fault `regs` is unchanged; stores that came before it are made.
    pub fn run<H: Host>(&mut self, trace: &Trace, regs: &mut Regs, host: &mut H) -> Result<Left, Fault> {
        if self.slots.len() < trace.ops.len() {
            self.slots.resize(trace.ops.len(), 0);
        }
        self.tuples.clear();
        let mut fuel = self.iterations;
        let mut cx = Context {
            trace,
            entry: regs,
            host,
            mxcsr: regs.mxcsr,
        };
        let mut at = 0;
        loop {
            while let Some(op) = trace.ops.get(at) {
                match op.code {
                    Opcode::GuardTrue | Opcode::GuardFalse => {
                        let holds = self.arg(trace, op.args[0]) != 0;
                        if holds != (op.code == Opcode::GuardTrue) {
                            let snapshot = &trace.snapshots[op.aux as usize];
                            let mxcsr = cx.mxcsr;
                            self.leave(trace, snapshot, cx.host)?;
                            self.commit(trace, snapshot, mxcsr, regs);
                            return Ok(Left::Guard(at));
                        }
                    }
                    _ => self.slots[at] = self.op(&mut cx, op)?,
                }
                at += 1;
            }
            let End::Loop { carried } = &trace.end else {
                break;
            };
            if fuel == 0 {
                return Err(Fault::Fuel);
            }
            fuel -= 1;
            // All next values are read before any phi changes.
            self.next_phis.clear();
            for (_, next) in carried {
                let bits = self.arg(trace, *next);
                self.next_phis.push(bits);
            }
            at = 0;
            for ((phi, _), bits) in carried.iter().zip(&self.next_phis) {
                let index = phi.as_op().expect("verified");
                self.slots[index] = *bits;
                at = at.max(index + 1);
            }
            if carried.is_empty() {
                at = trace.loop_head().expect("verified") + 1;
            }
        }
        let mxcsr = cx.mxcsr;
        let (snapshot, left, pc) = match &trace.end {
            End::Exit { snapshot } => (snapshot, Left::End(None), snapshot.pc),
            End::Branch { cond, taken, snapshot } => {
                let holds = self.arg(trace, *cond) != 0;
                (
                    snapshot,
                    Left::End(Some(holds)),
                    if holds { *taken } else { snapshot.pc },
                )
            }
            End::Jump { target, snapshot } => (snapshot, Left::End(None), self.arg(trace, *target) as u64),
            End::Repeat { snapshot } => (snapshot, Left::Repeat, snapshot.pc),
            End::Link { trace, snapshot } => (snapshot, Left::Link(*trace), snapshot.pc),
            End::Loop { .. } => unreachable!("handled above"),
        };
        self.leave(trace, snapshot, cx.host)?;
        self.commit(trace, snapshot, mxcsr, regs);
        regs.rip = pc;
        Ok(left)
    }

    /// The bits of the result of each operation in the last run, by index; those that were not reached have what an
    /// earlier run left.
    pub fn values(&self) -> &[u128] {
        &self.slots
    }

    /// The result of an operation without effects on constants of the trace's pool. `None` if it has effects, an
    /// operand is no constant, or it is `reg`, `phi` or `get`.
    pub fn fold(&mut self, trace: &Trace, op: &Op) -> Option<u128> {
        // Asked of every operation that is fed: most have an operand that is none.
        if op.args.iter().any(|value| value.as_op().is_some())
            || !op.code.effects().is_pure()
            || matches!(op.code, Opcode::Reg | Opcode::Phi | Opcode::Get)
        {
            return None;
        }
        let regs = Regs::default();
        let mut nothing = SparseMemory::new();
        let mut cx = Context {
            trace,
            entry: &regs,
            host: &mut nothing,
            mxcsr: regs.mxcsr,
        };
        self.op(&mut cx, op).ok()
    }

    #[inline]
    fn arg(&self, trace: &Trace, value: Value) -> u128 {
        match value.as_op() {
            Some(i) => self.slots[i],
            None => trace.constant(value).expect("verified: an operand is present"),
        }
    }

    /// The stores of an exit.
    fn leave<H: Host>(&mut self, trace: &Trace, snapshot: &Snapshot, host: &mut H) -> Result<(), Fault> {
        for store in &snapshot.stores {
            let addr = (self.arg(trace, store.base) as u64).wrapping_add_signed(i64::from(store.disp));
            let bits = self.arg(trace, store.value).to_le_bytes();
            host.store(addr, &bits[..trace.type_of(store.value).bytes() as usize])?;
        }
        Ok(())
    }

    /// The registers of an exit.
    #[inline]
    fn commit(&self, trace: &Trace, snapshot: &Snapshot, mxcsr: u32, regs: &mut Regs) {
        regs.mxcsr = mxcsr;
        regs.rip = snapshot.pc;
        for (reg, value) in &snapshot.regs {
            regs.set(*reg, self.arg(trace, *value));
        }
    }

    #[inline]
    fn address(&self, trace: &Trace, base: Value, index: Value, seg: Value, op: &Op) -> u64 {
        let part = |v: Value| if v.is_none() { 0 } else { self.arg(trace, v) as u64 };
        part(seg)
            .wrapping_add(part(base))
            .wrapping_add(part(index) << (op.imm & 3))
            .wrapping_add_signed(i64::from(op.aux))
    }

    #[inline]
    fn op<H: Host>(&mut self, cx: &mut Context<'_, H>, op: &Op) -> Result<u128, Fault> {
        use Opcode as O;
        let trace = cx.trace;
        let ty = op.ty;
        let bits = ty.bits();
        let wide = |i: usize| self.arg(trace, op.args[i]);
        let a = |i: usize| self.arg(trace, op.args[i]) as u64;
        let truth = |i: usize| self.arg(trace, op.args[i]) != 0;
        let f = |i: usize| flags_of(self.arg(trace, op.args[i]));
        // Integer results are cut to their width at the end.
        let int: u64 = match op.code {
            O::Reg => return Ok(cx.entry.get(Reg::from_index(usize::from(op.imm)).expect("verified"))),
            O::Load => {
                let addr = self.address(trace, op.args[0], op.args[1], op.args[2], op);
                let size = ty.bytes();
                if op.imm & 4 != 0 && !addr.is_multiple_of(u64::from(size)) {
                    return Err(misaligned(addr, cx.mxcsr));
                }
                return load(cx.host, addr, size);
            }
            O::Store => {
                let addr = self.address(trace, op.args[1], op.args[2], op.args[3], op);
                let size = ty.bytes();
                if op.imm & 4 != 0 && !addr.is_multiple_of(u64::from(size)) {
                    return Err(misaligned(addr, cx.mxcsr));
                }
                store(cx.host, addr, size, wide(0))?;
                return Ok(0);
            }
            O::Lea => self.address(trace, op.args[0], op.args[1], Value::NONE, op),
            O::LoopHead | O::Fence | O::Checkpoint => 0,
            O::Phi => return Ok(wide(0)),

            O::Add => a(0).wrapping_add(a(1)),
            O::Sub => a(0).wrapping_sub(a(1)),
            O::Adc => a(0).wrapping_add(a(1)).wrapping_add(a(2)),
            O::Sbb => a(0).wrapping_sub(a(1)).wrapping_sub(a(2)),
            O::Mul => a(0).wrapping_mul(a(1)),
            O::MulHiU => ((u128::from(a(0)) * u128::from(a(1))) >> bits) as u64,
            O::MulHiS => {
                let product = i128::from(flags::sign_extend(bits, a(0))) * i128::from(flags::sign_extend(bits, a(1)));
                (product >> bits) as u64
            }
            O::DivU => int::divide_unsigned(bits, a(0), a(1), a(2)).ok_or(Fault::Divide)?.0,
            O::RemU => int::divide_unsigned(bits, a(0), a(1), a(2)).ok_or(Fault::Divide)?.1,
            O::DivS => int::divide_signed(bits, a(0), a(1), a(2)).ok_or(Fault::Divide)?.0,
            O::RemS => int::divide_signed(bits, a(0), a(1), a(2)).ok_or(Fault::Divide)?.1,
            O::Neg => a(0).wrapping_neg(),
            O::And => a(0) & a(1),
            O::Or => a(0) | a(1),
            O::Xor => a(0) ^ a(1),
            O::Not => !a(0),
            O::Shl | O::Shr | O::Sar | O::Rol | O::Ror => int::shift(op.code, bits, a(0), a(1)),
            O::Rcl => int::rotate_carry(true, bits, a(0), a(1), truth(2)),
            O::Rcr => int::rotate_carry(false, bits, a(0), a(1), truth(2)),
            O::Shld => int::double_shift(true, bits, a(0), a(1), a(2)),
            O::Shrd => int::double_shift(false, bits, a(0), a(1), a(2)),
            O::Bswap => a(0).swap_bytes() >> (64 - bits),
            O::Popcnt => u64::from(a(0).count_ones()),
            O::Tzcnt => u64::from(a(0).trailing_zeros().min(bits)),
            O::Lzcnt => u64::from(a(0).leading_zeros() + bits - 64),
            O::Pdep => int::deposit(a(0), a(1)),
            O::Pext => int::gather(a(0), a(1)),
            O::Bextr => int::extract_bits(bits, a(0), a(1)),
            O::Bzhi => int::zero_high(bits, a(0), a(1)),
            O::Crc32 => return Ok(u128::from(int::crc32(bits, a(0), a(1)))),

            O::Zext | O::Trunc | O::Bitcast => a(0),
            O::Sext => flags::sign_extend(trace.type_of(op.args[0]).bits(), a(0)) as u64,
            O::Hi8 => return Ok(wide(0) >> 8 & 0xff),
            O::Put => return Ok(u128::from((a(0) & !(ty.mask() as u64)) | a(1))),
            O::PutHi8 => return Ok(u128::from((a(0) & !0xff00) | a(1) << 8)),
            O::Select => return Ok(if truth(0) { wide(1) } else { wide(2) }),

            O::Cond => {
                let flags = f(0);
                self.undefined |= flags.undefined != 0 && flags.undefined & flags::condition_mask(op.imm) != 0;
                return Ok(u128::from(flags.condition(op.imm)));
            }
            O::FlagsAdd => return Ok(slot_of(flags::adc(bits, a(0), a(1), false))),
            O::FlagsSub => return Ok(slot_of(flags::sbb(bits, a(0), a(1), false))),
            O::FlagsAdc => return Ok(slot_of(flags::adc(bits, a(0), a(1), truth(2)))),
            O::FlagsSbb => return Ok(slot_of(flags::sbb(bits, a(0), a(1), truth(2)))),
            O::FlagsLogic => return Ok(slot_of(flags::logic(bits, a(0)))),
            O::FlagsInc => return Ok(slot_of(flags::inc(bits, a(0), f(1)))),
            O::FlagsDec => return Ok(slot_of(flags::dec(bits, a(0), f(1)))),
            O::FlagsMulU => return Ok(slot_of(flags::mul_u(bits, a(0), a(1)))),
            O::FlagsMulS => return Ok(slot_of(flags::mul_s(bits, a(0), a(1)))),
            O::FlagsShl => return Ok(slot_of(flags::shl(bits, a(0), a(1), f(2)))),
            O::FlagsShr => return Ok(slot_of(flags::shr(bits, a(0), a(1), f(2)))),
            O::FlagsSar => return Ok(slot_of(flags::sar(bits, a(0), a(1), f(2)))),
            O::FlagsRol => return Ok(slot_of(flags::rol(bits, a(0), a(1), f(2)))),
            O::FlagsRor => return Ok(slot_of(flags::ror(bits, a(0), a(1), f(2)))),
            O::FlagsRcl | O::FlagsRcr => {
                let (x, n, previous) = (a(0), a(1), f(2));
                self.undefined |= previous.undefined & flags::CF != 0;
                let result = if op.code == O::FlagsRcl { flags::rcl } else { flags::rcr };
                return Ok(slot_of(result(bits, x, n, previous)));
            }
            O::FlagsShld => return Ok(slot_of(flags::shld(bits, a(0), a(1), a(2), f(3)))),
            O::FlagsShrd => return Ok(slot_of(flags::shrd(bits, a(0), a(1), a(2), f(3)))),
            O::FlagsBt => return Ok(slot_of(flags::bt(bits, a(0), a(1), f(2)))),
            O::FlagsBsf => return Ok(slot_of(flags::bsf(a(0)))),
            O::FlagsPopcnt => return Ok(slot_of(flags::popcnt(a(0)))),
            O::FlagsCount => return Ok(slot_of(flags::count(a(0), a(1)))),
            O::FlagsBmi => return Ok(slot_of(flags::bmi(bits, a(0), truth(1)))),
            O::FlagsBextr => return Ok(slot_of(flags::bextr(a(0)))),
            O::FlagsUndef => {
                return Ok(slot_of(Flags {
                    undefined: flags::STATUS,
                    ..f(0)
                }));
            }
            O::FlagsSetC => return Ok(slot_of(f(1).replace(flags::CF, if truth(0) { flags::CF } else { 0 }))),
            O::FlagsSetO => return Ok(slot_of(f(1).replace(flags::OF, if truth(0) { flags::OF } else { 0 }))),
            O::FlagsSetZ => return Ok(slot_of(f(1).replace(flags::ZF, if truth(0) { flags::ZF } else { 0 }))),
            O::FlagsSahf => return Ok(slot_of(f(1).replace(flags::STATUS & !flags::OF, a(0) as u32))),
            O::FlagsOf => return Ok(slot_of(Flags::defined(a(0) as u32))),
            O::FlagsBits => {
                let flags = f(0);
                self.undefined |= flags.undefined != 0;
                return Ok(u128::from(flags.bits | 2));
            }
            O::FlagsPtest => {
                let (x, y) = (wide(0), wide(1));
                let zero = if x & y == 0 { flags::ZF } else { 0 };
                let carry = if !x & y == 0 { flags::CF } else { 0 };
                return Ok(slot_of(Flags::defined(zero | carry)));
            }

            O::AtomicXchg | O::AtomicAdd | O::AtomicAnd | O::AtomicOr | O::AtomicXor | O::AtomicCas => {
                let (addr, v) = (a(0), a(1));
                let old = load(cx.host, addr, ty.bytes())? as u64;
                let new = match op.code {
                    O::AtomicXchg => v,
                    O::AtomicAdd => old.wrapping_add(v),
                    O::AtomicAnd => old & v,
                    O::AtomicOr => old | v,
                    O::AtomicXor => old ^ v,
                    // The processor writes in either case: the page must be writable.
                    _ => {
                        if old == v {
                            a(2)
                        } else {
                            old
                        }
                    }
                };
                store(cx.host, addr, ty.bytes(), u128::from(new))?;
                old
            }

            O::GuardTrue | O::GuardFalse => unreachable!("handled by the caller"),
            O::Get => {
                let reg = Reg::from_index(usize::from(op.imm)).expect("verified");
                return Ok(self.tuples[a(0) as usize].get(reg));
            }
            O::MxcsrGet => u64::from(cx.mxcsr),
            O::MxcsrSet => {
                match a(0) {
                    0..=0xffff => {}
                    bits if bits & !0xffff == u64::from(MISALIGNED) => return Err(Fault::Unsupported),
                    _ => return Err(Fault::Mxcsr),
                }
                cx.mxcsr = a(0) as u32;
                0
            }
            O::Extract => return Ok(int::lane(wide(0), bits, u32::from(op.imm))),
            O::Insert => return Ok(int::with_lane(wide(0), bits, u32::from(op.imm), wide(1))),
            O::VZext => return Ok(wide(0)),
            O::Pmovmskb => int::top_bits(wide(0), 8),
            O::Movmskps => int::top_bits(wide(0), 32),
            O::Movmskpd => int::top_bits(wide(0), 64),
            O::Pshufd | O::Pshuflw | O::Pshufhw | O::Pslldq | O::Psrldq => {
                return Ok(int::shuffle(op.code, wide(0), 0, op.imm));
            }
            O::Shufps | O::Shufpd | O::Palignr | O::Pblendw | O::Blendps | O::Blendpd | O::Insertps => {
                return Ok(int::shuffle(op.code, wide(0), wide(1), op.imm));
            }
            O::Pblendvb | O::Blendvps | O::Blendvpd => {
                let size = match op.code {
                    O::Pblendvb => 8,
                    O::Blendvps => 32,
                    _ => 64,
                };
                let mask = wide(2);
                return Ok(int::blend(wide(0), wide(1), size, |i| {
                    mask >> (size * i + size - 1) & 1 != 0
                }));
            }
            O::Native | O::Call | O::RepStos | O::RepMovs | O::RepCmps | O::RepScas => return self.rare(cx, op),
            _ => return self.float_or_vector(cx, op),
        };
        // Operations without a suffix got here with results that fit.
        let mask = if bits == 0 { u64::MAX } else { ty.mask() as u64 };
        Ok(u128::from(int & mask))
    }

    fn float_or_vector<H: Host>(&mut self, cx: &mut Context<'_, H>, op: &Op) -> Result<u128, Fault> {
        use Opcode as O;
        let trace = cx.trace;
        let v = |i: usize| {
            let value = op.args[i];
            if value.is_none() { 0 } else { self.arg(trace, value) }
        };
        if op.code.effects().has(crate::opcode::Effects::FP) && cx.mxcsr & host::MASKS != host::MASKS {
            return Err(Fault::Unmasked);
        }
        let mxcsr = &mut cx.mxcsr;
        let mask = op.ty.mask();
        Ok(match op.code {
            O::FAdd | O::FSub | O::FMul | O::FDiv | O::FMin | O::FMax | O::FCmp => {
                host::scalar2(op.code, op.ty, v(0), v(1), op.imm, mxcsr) & mask
            }
            O::FSqrt | O::FCvt | O::FRound => host::scalar1(op.code, op.ty, v(0), op.imm, mxcsr) & mask,
            O::Fma => host::fma(op.ty, v(0), v(1), v(2), op.imm, mxcsr).ok_or(Fault::Unsupported)? & mask,
            O::IntToF => host::int_to_float(trace.type_of(op.args[0]), op.ty, v(0) as u64, mxcsr) & mask,
            O::FToInt | O::FToIntZ => {
                let from = trace.type_of(op.args[0]);
                u128::from(host::float_to_int(op.code == O::FToIntZ, from, op.ty, v(0), mxcsr)) & mask
            }
            O::FlagsUcomi | O::FlagsComi => {
                let quiet = op.code == O::FlagsUcomi;
                slot_of(Flags::defined(host::compare_scalars(quiet, op.ty, v(0), v(1), mxcsr)))
            }
            O::Cmpps | O::Cmppd => host::compare_lanes(op.code, v(0), v(1), op.imm, mxcsr),
            O::Roundps | O::Roundpd => host::round_lanes(op.code, v(0), op.imm, mxcsr),
            code => host::vector(code, v(0), v(1), mxcsr).expect("every operation has a meaning"),
        })
    }

    /// Operations that are not worth a fast path.
    #[cold]
    fn rare<H: Host>(&mut self, cx: &mut Context<'_, H>, op: &Op) -> Result<u128, Fault> {
        let trace = cx.trace;
        let mut state = cx.entry.clone();
        state.mxcsr = cx.mxcsr;
        match op.code {
            Opcode::Native => {
                let native = &trace.natives[op.aux as usize];
                for (reg, value) in &native.inputs {
                    state.set(*reg, self.arg(trace, *value));
                }
                state.rip = native.pc;
                cx.host.native(native, &mut state)?;
                cx.mxcsr = state.mxcsr;
            }
            Opcode::Call => {
                let snapshot = &trace.snapshots[op.aux as usize];
                self.leave(trace, snapshot, cx.host)?;
                self.commit(trace, snapshot, cx.mxcsr, &mut state);
                state.rip = self.arg(trace, op.args[0]) as u64;
                let abi = op.abi();
                cx.host.call(abi, snapshot.pc, &mut state)?;
                cx.mxcsr = state.mxcsr;
            }
            _ => self.repeat(cx, op, &mut state)?,
        }
        self.tuples.push(state);
        Ok(self.tuples.len() as u128 - 1)
    }

    fn repeat<H: Host>(&mut self, cx: &mut Context<'_, H>, op: &Op, state: &mut Regs) -> Result<(), Fault> {
        let size = op.ty.bytes();
        let arg = |i: usize| self.arg(cx.trace, op.args[i]) as u64;
        let (first, second, mut count, step) = (arg(0), arg(1), arg(2), arg(3));
        if self.elements != 0 && count > self.elements {
            return Err(Fault::Fuel);
        }
        let (mut x, mut y) = (first, second);
        let mut result = Flags::default();
        while count != 0 {
            match op.code {
                Opcode::RepStos => store(cx.host, x, size, u128::from(second))?,
                Opcode::RepMovs => {
                    let v = load(cx.host, y, size)?;
                    store(cx.host, x, size, v)?;
                }
                _ => {
                    let v = if op.code == Opcode::RepCmps {
                        load(cx.host, x, size)? as u64
                    } else {
                        first
                    };
                    let w = load(cx.host, y, size)? as u64;
                    result = flags::sbb(op.ty.bits(), v, w, false);
                }
            }
            count -= 1;
            x = x.wrapping_add(step);
            y = y.wrapping_add(step);
            let compares = matches!(op.code, Opcode::RepCmps | Opcode::RepScas);
            if compares && (result.bits & flags::ZF != 0) == (op.imm == 1) {
                break;
            }
        }
        state.set(Reg::RCX, u128::from(count));
        state.set(Reg::FLAGS, slot_of(result));
        Ok(())
    }
}

/// MXCSR bit of AMD's processors that turns off alignment checks of vector operands; reserved on Intel's.
const MISALIGNED: u32 = 1 << 17;

#[cold]
fn misaligned(addr: u64, mxcsr: u32) -> Fault {
    if mxcsr & MISALIGNED == 0 {
        Fault::Misaligned { addr }
    } else {
        Fault::Unsupported
    }
}

#[inline]
fn load<H: Host>(host: &mut H, addr: u64, size: u32) -> Result<u128, Fault> {
    // A constant length for each size, so that hosts can be inlined to plain moves.
    let mut b = [0; 16];
    match size {
        1 => host.load(addr, &mut b[..1])?,
        2 => host.load(addr, &mut b[..2])?,
        4 => host.load(addr, &mut b[..4])?,
        8 => host.load(addr, &mut b[..8])?,
        _ => host.load(addr, &mut b)?,
    }
    Ok(u128::from_le_bytes(b))
}

#[inline]
fn store<H: Host>(host: &mut H, addr: u64, size: u32, bits: u128) -> Result<(), Fault> {
    let b = bits.to_le_bytes();
    match size {
        1 => host.store(addr, &b[..1]),
        2 => host.store(addr, &b[..2]),
        4 => host.store(addr, &b[..4]),
        8 => host.store(addr, &b[..8]),
        _ => host.store(addr, &b),
    }
}

#[cfg(test)]
mod tests;
