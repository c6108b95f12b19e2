//! The optimised tier against the evaluator.
//!
//! A random trace ([`generate`]) is compiled and run by this processor ([`machine`]), and evaluated; then every general
//! and vector register, the flags that are live and defined, memory, and where the trace was left are compared. Guards that
//! fail are turned round first, a few times, so that most traces run far.

pub mod generate;
pub mod graft;
pub mod machine;
pub mod reduce;

use std::fmt;
use std::io;

use redmagic_emit::copy::{Environment, Start, ThreadOffsets};
use redmagic_emit::exits::ExitEnvironment;
use redmagic_emit::lower::{LowerError, Target, Targets, compile};
use redmagic_ir::eval::{Evaluator, Fault, Host, Left, Memory, Regs};
use redmagic_ir::flags::{self, STATUS};
use redmagic_ir::{Abi, End, Native, Opcode, Reg, Snapshot, Trace, Via};

use crate::random::Random;
use generate::Made;
use machine::{BUFFER, BUFFER_SIZE, CODE, COUNTERS, Came, DATA, Machine, STACK, STACK_SIZE};

/// A native operation: its bytes, the numbers of its inputs and of its outputs.
type NativeCode = (&'static [u8], &'static [usize], &'static [usize]);

/// Instructions that are run as native operations, with inputs and outputs; [`execute`] is what they do.
pub const NATIVES: [NativeCode; 5] = [
    // add rax, rbx
    (&[0x48, 0x01, 0xd8], &[0, 3], &[0, 48]),
    // xchg rcx, rdx
    (&[0x48, 0x87, 0xd1], &[1, 2], &[1, 2]),
    // mov r9, [rsp + 8]
    (&[0x4c, 0x8b, 0x4c, 0x24, 0x08], &[4], &[9]),
    // paddq xmm3, xmm4
    (&[0x66, 0x0f, 0xd4, 0xdc], &[19, 20], &[19]),
    // adc r12, r13
    (&[0x4d, 0x11, 0xec], &[12, 13, 48], &[12, 48]),
];

fn execute<M: Memory>(native: &Native, regs: &mut Regs, memory: &mut M) -> Result<(), Fault> {
    let which = NATIVES.iter().position(|(bytes, _, _)| *bytes == native.bytes);
    match which.ok_or(Fault::Unsupported)? {
        0 => {
            let (a, b) = (regs.gpr[0], regs.gpr[3]);
            regs.gpr[0] = a.wrapping_add(b);
            let f = flags::adc(64, a, b, false);
            regs.set(Reg::FLAGS, f.bits.into());
        }
        1 => regs.gpr.swap(1, 2),
        2 => {
            let mut word = [0; 8];
            memory.load(regs.gpr[4].wrapping_add(8), &mut word)?;
            regs.gpr[9] = u64::from_le_bytes(word);
        }
        3 => {
            let sum = |shift: u32| ((regs.xmm[3] >> shift) as u64).wrapping_add((regs.xmm[4] >> shift) as u64);
            regs.xmm[3] = u128::from(sum(0)) | u128::from(sum(64)) << 64;
        }
        _ => {
            if regs.undefined_flags & flags::CF != 0 {
                return Err(Fault::Unsupported);
            }
            let (a, b, c) = (regs.gpr[12], regs.gpr[13], regs.rflags & 1);
            regs.gpr[12] = a.wrapping_add(b).wrapping_add(c);
            let f = flags::adc(64, a, b, c != 0);
            regs.set(Reg::FLAGS, f.bits.into());
        }
    }
    Ok(())
}

/// The evaluator's memory, and its calls.
#[derive(Clone)]
struct Evaluated {
    stack: Vec<u8>,
    buffer: Vec<u8>,
}

impl Evaluated {
    fn range(&mut self, addr: u64, size: usize, write: bool) -> Result<&mut [u8], Fault> {
        let fault = Fault::Memory {
            addr,
            size: size as u32,
            write,
        };
        let (base, bytes) = if addr >= BUFFER {
            (BUFFER, &mut self.buffer)
        } else {
            (STACK, &mut self.stack)
        };
        let at = usize::try_from(addr.wrapping_sub(base)).map_err(|_| fault)?;
        bytes.get_mut(at..at.wrapping_add(size)).ok_or(fault)
    }
}

impl Memory for Evaluated {
    fn load(&mut self, addr: u64, out: &mut [u8]) -> Result<(), Fault> {
        out.copy_from_slice(self.range(addr, out.len(), false)?);
        Ok(())
    }

    fn store(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.range(addr, bytes.len(), true)?.copy_from_slice(bytes);
        Ok(())
    }
}

impl Host for Evaluated {
    fn native(&mut self, native: &Native, regs: &mut Regs) -> Result<(), Fault> {
        execute(native, regs, self)
    }

    fn call(&mut self, abi: Abi, return_to: u64, regs: &mut Regs) -> Result<(), Fault> {
        let mut word = [0; 8];
        self.load(regs.gpr[4], &mut word)?;
        if u64::from_le_bytes(word) != return_to {
            return Err(Fault::Unsupported);
        }
        let words = [return_to, regs.gpr[7], regs.gpr[3]];
        for (i, word) in words.into_iter().enumerate() {
            self.store(BUFFER + 8 + 8 * i as u64, &word.to_le_bytes())?;
        }
        machine::called(abi == Abi::SysV, regs);
        // Dead at the return.
        regs.undefined_flags = STATUS;
        Ok(())
    }
}

/// How many cases there were.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Compared.
    pub compared: u64,
    /// Of those, ones with a loop.
    pub loops: u64,
    /// Of those, ones that were left at their ends, or after going round.
    pub through: u64,
    /// Of those, ones run step by step.
    pub stepped: u64,
    /// Refused by the emitter.
    pub refused: u64,
    /// That fault in the evaluator.
    pub dropped: u64,
    /// Operations of all.
    pub ops: u64,
}

/// A trace on which the evaluator and emitted code differ.
#[derive(Debug, Clone)]
pub struct Mismatch {
    /// The seed of the case.
    pub seed: u64,
    /// The trace.
    pub trace: Trace,
    /// What differs.
    pub differences: Vec<String>,
    /// The code.
    pub code: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "; seed {}", self.seed)?;
        for line in &self.differences {
            writeln!(f, "; {line}")?;
        }
        write!(f, "{}---\n{}", self.trace, self.code)
    }
}

/// Generates, compiles, runs, compares.
pub struct Tester {
    machine: Machine,
    evaluator: Evaluator,
    /// What was done so far.
    pub counts: Counts,
    /// Why traces were refused, and how often.
    pub refusals: std::collections::BTreeMap<String, u64>,
}

fn environment() -> Environment {
    Environment {
        base: CODE,
        cold_base: Some(machine::COLD),
        data_base: DATA,
        first_exit: 0,
        exits: ExitEnvironment {
            counters: COUNTERS,
            first_id: 0,
            park: machine::landing(0),
            again: 256,
        },
        thread: ThreadOffsets::default(),
    }
}

/// A state to begin in.
fn state(r: &mut Random) -> Regs {
    let mut regs = Regs::default();
    for (i, v) in regs.gpr.iter_mut().enumerate() {
        *v = if i == 4 {
            STACK + STACK_SIZE as u64 - 0x1000 + 8 * r.below(8)
        } else if r.one_in(4) {
            r.below(32)
        } else {
            r.integer()
        };
    }
    for v in &mut regs.xmm {
        *v = r.vector();
    }
    for v in &mut regs.ymm_high {
        *v = u128::from(r.bits());
    }
    regs.gs_base = BUFFER;
    regs.rflags = 0x202 | r.bits() & u64::from(STATUS);
    regs
}

impl Tester {
    /// Makes the machine: one at a time in a process.
    pub fn new() -> io::Result<Tester> {
        Ok(Tester {
            machine: Machine::new()?,
            evaluator: Evaluator::new(),
            counts: Counts::default(),
            refusals: std::collections::BTreeMap::new(),
        })
    }

    fn memory(r: &mut Random) -> Evaluated {
        let mut fill = |size: usize| (0..size / 8).flat_map(|_| r.bits().to_le_bytes()).collect::<Vec<u8>>();
        Evaluated {
            stack: fill(STACK_SIZE),
            buffer: fill(BUFFER_SIZE),
        }
    }

    /// One case: equal seeds give equal cases.
    pub fn case(&mut self, seed: u64) -> Option<Mismatch> {
        let mut r = Random::new(seed);
        let most = *r.pick(&[12, 12, 60, 60, 60, 220, 220, 900]);
        let size = 4 + r.below(most) as usize;
        let Made { mut trace, anchor } = generate::random(&mut r, size);
        let regs = state(&mut r);
        let memory = Tester::memory(&mut r);
        self.evaluator.iterations = 100;
        // Guards that fail early are turned round, unless that has been done often enough.
        let mut patience = r.below(12);
        while patience > 0
            && let Ok((Left::Guard(at), _, _)) = self.evaluate(&trace, &regs, &memory)
        {
            patience -= 1;
            let op = &mut trace.ops[at];
            op.code = if op.code == Opcode::GuardTrue {
                Opcode::GuardFalse
            } else {
                Opcode::GuardTrue
            };
        }
        let case = Case {
            anchor,
            regs,
            memory,
            steps: r.one_in(4),
        };
        let (differences, left) = match self.compare(&trace, &case) {
            Outcome::Same(left) => (Vec::new(), left),
            Outcome::Different(differences, left) => (differences, left),
            Outcome::Dropped => {
                self.counts.dropped += 1;
                return None;
            }
            Outcome::Refused(error) => {
                self.counts.refused += 1;
                let text = match &error {
                    LowerError::Unsupported { op, reason } => {
                        let name = op.split(" = ").last().unwrap_or("").split(' ').next().unwrap_or("");
                        format!("{name}: {reason}")
                    }
                    LowerError::Lost { .. } => "lost".into(),
                    LowerError::Pinned { .. } => "pinned".into(),
                    other => other.to_string(),
                };
                *self.refusals.entry(text).or_default() += 1;
                return None;
            }
        };
        self.counts.compared += 1;
        self.counts.stepped += u64::from(case.steps);
        self.counts.loops += u64::from(matches!(trace.end, End::Loop { .. }));
        self.counts.through += u64::from(!matches!(left, Left::Guard(_)));
        self.counts.ops += trace.ops.len() as u64;
        if differences.is_empty() {
            return None;
        }
        let trace = reduce::reduce(&trace, &mut |smaller| {
            matches!(self.compare(smaller, &case), Outcome::Different(..))
        });
        let Outcome::Different(mut differences, _) = self.compare(&trace, &case) else {
            return None;
        };
        differences.insert(0, format!("start {}", if anchor { "anchor" } else { "exit" }));
        let code = compiled(&trace, &case).map_or_else(|e| e.to_string(), |compiled| listing(&compiled));
        Some(Mismatch {
            seed,
            trace,
            differences,
            code,
        })
    }

    fn evaluate(&mut self, trace: &Trace, regs: &Regs, memory: &Evaluated) -> Result<(Left, Regs, Evaluated), Fault> {
        let mut after = regs.clone();
        let mut host = memory.clone();
        self.evaluator.undefined = false;
        let left = self.evaluator.run(trace, &mut after, &mut host)?;
        Ok((left, after, host))
    }

    /// Compiles and runs the trace, and compares with what the evaluator makes of it.
    fn compare(&mut self, trace: &Trace, case: &Case) -> Outcome {
        let Ok((left, after, evaluated)) = self.evaluate(trace, &case.regs, &case.memory) else {
            return Outcome::Dropped;
        };
        if self.evaluator.undefined {
            return Outcome::Dropped;
        }
        let compiled = match compiled(trace, case) {
            Ok(compiled) => compiled,
            Err(error) => return Outcome::Refused(error),
        };
        self.machine.load(compiled.code.split_at(compiled.hot), &compiled.data);
        let (stack, buffer) = self.machine.memory();
        stack.copy_from_slice(&case.memory.stack);
        buffer.copy_from_slice(&case.memory.buffer);
        let mut begin = case.regs.clone();
        if case.anchor {
            begin.gpr[4] -= 8;
        }
        let (came, found) = self.machine.run(compiled.entry, &begin, case.steps);
        let snapshot = left_through(trace, left);
        let expected = match left {
            Left::Repeat | Left::Link(_) => Came::Landed(machine::END),
            Left::Guard(_) if snapshot.via == Via::Restart => Came::Landed(machine::RESTART),
            _ => Came::Landed((after.rip.wrapping_sub(machine::landing(0))) / 16),
        };
        let mut differences = Vec::new();
        if came != expected {
            differences.push(format!("left {expected:?} ({left:?}), and the code {came:x?}"));
        } else {
            let flags_live = !case.anchor || snapshot.get(Reg::FLAGS).is_some();
            registers(&after, &found, flags_live, &mut differences);
            let calls = trace.ops.iter().any(|op| op.code == Opcode::Call);
            let dead = if calls { 0 } else { 128 };
            let from = (after.gpr[4] - dead - STACK) as usize;
            let (stack, buffer) = self.machine.memory();
            let at = STACK + from as u64;
            // Below the entry's red zone a signal may have been handled before the trace wrote there.
            let low = ((case.regs.gpr[4] - 128 - STACK) as usize).max(from) - from;
            for i in 0..low {
                let at = from + i;
                if evaluated.stack[at] == case.memory.stack[at] {
                    stack[at] = evaluated.stack[at];
                }
            }
            bytes("stack", at, &evaluated.stack[from..], &stack[from..], &mut differences);
            bytes("buffer", BUFFER, &evaluated.buffer, buffer, &mut differences);
        }
        if differences.is_empty() {
            Outcome::Same(left)
        } else {
            Outcome::Different(differences, left)
        }
    }
}

/// What a trace is started with.
struct Case {
    anchor: bool,
    regs: Regs,
    memory: Evaluated,
    steps: bool,
}

enum Outcome {
    Same(Left),
    Different(Vec<String>, Left),
    Refused(LowerError),
    Dropped,
}

fn compiled(trace: &Trace, case: &Case) -> Result<redmagic_emit::copy::Compiled, LowerError> {
    let start = if case.anchor { Start::Anchor } else { Start::Exit };
    let target = |slot| Target { ip: 0x40_0000, slot };
    let targets = Targets {
        end: target(machine::END_SLOT),
        restart: target(machine::RESTART_SLOT),
        turn: true,
        reentry: None,
        // Both ways out.
        joins: trace.ops.len().is_multiple_of(2),
    };
    compile(trace, start, &targets, &environment())
}

/// The snapshot that a trace was left through.
fn left_through(trace: &Trace, left: Left) -> &Snapshot {
    match left {
        Left::Guard(at) => &trace.snapshots[trace.ops[at].aux as usize],
        _ => trace.end.snapshot().expect("loops are left through guards"),
    }
}

fn registers(expected: &Regs, found: &Regs, flags_live: bool, out: &mut Vec<String>) {
    for reg in Reg::all().filter(|reg| reg.index() < 48) {
        let (a, b) = (expected.get(reg), found.get(reg));
        if a != b {
            out.push(format!("{reg}: {a:#x}, and the code {b:#x}"));
        }
    }
    let defined = u64::from(STATUS & !expected.undefined_flags);
    let different = (expected.rflags ^ found.rflags) & defined;
    if flags_live && different != 0 {
        out.push(format!(
            "flags: {:#x}, and the code {:#x} (undefined {:#x})",
            expected.rflags, found.rflags, expected.undefined_flags
        ));
    }
    const STICKY: u32 = 0x3f;
    if (expected.mxcsr ^ found.mxcsr) & !STICKY != 0 {
        out.push(format!("mxcsr: {:#x}, and the code {:#x}", expected.mxcsr, found.mxcsr));
    }
}

fn bytes(what: &str, addr: u64, expected: &[u8], found: &[u8], out: &mut Vec<String>) {
    if let Some(at) = expected.iter().zip(found).position(|(a, b)| a != b) {
        out.push(format!(
            "{what}: at {:#x} {:#x}, and the code {:#x}",
            addr + at as u64,
            expected[at],
            found[at]
        ));
    }
}

fn listing(compiled: &redmagic_emit::copy::Compiled) -> String {
    use fmt::Write as _;
    use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
    let mut out = String::new();
    let mut formatter = IntelFormatter::new();
    for instruction in Decoder::with_ip(64, &compiled.code, CODE, DecoderOptions::NONE).iter() {
        for (_, op) in compiled.lines.iter().filter(|(at, _)| *at == instruction.ip()) {
            let _ = writeln!(out, "v{op}:");
        }
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        let _ = writeln!(out, "  {:x}  {text}", instruction.ip());
    }
    out
}

/// What became of a number of cases, run in a process of their own.
#[derive(Debug, Default)]
pub struct Report {
    /// Mismatches as text.
    pub mismatches: String,
    /// How many.
    pub count: u64,
    /// The seed of the case that ended the process, and the wait status.
    pub crashed: Option<(u64, i32)>,
    /// What was done, as text.
    pub summary: String,
    /// Cases compared.
    pub compared: u64,
}

/// Runs cases of random traces; see [`Tester`]. In a child: code that goes wrong may take its process with it.
///
/// # Errors
/// When the child cannot be made.
pub fn campaign(first: u64, count: u64) -> io::Result<Report> {
    in_child(first, count, child)
}

/// Runs cases `first..first + count` in a child, which writes what it comes to.
fn in_child(first: u64, count: u64, child: fn(u64, u64, &mut std::fs::File) -> io::Result<()>) -> io::Result<Report> {
    let mut pipe = [0; 2];
    // SAFETY: the pointer is to a local of two descriptors.
    if unsafe { libc::pipe(pipe.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the child runs the cases and ends; it uses no lock that another thread may hold but that of the allocator,
    // which the C library hands over.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    use std::os::fd::FromRawFd;
    if pid == 0 {
        // SAFETY: the descriptors were made above; each process closes the end that it does not use.
        let mut out = unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::close(pipe[0]);
            std::fs::File::from_raw_fd(pipe[1])
        };
        let code = child(first, count, &mut out).map_or(2, |()| 0);
        drop(out);
        // SAFETY: ends the child without running what the parent registered.
        unsafe { libc::_exit(code) };
    }
    // SAFETY: as above.
    let mut input = unsafe {
        libc::close(pipe[1]);
        std::fs::File::from_raw_fd(pipe[0])
    };
    let mut text = String::new();
    io::Read::read_to_string(&mut input, &mut text)?;
    let mut status = 0;
    // SAFETY: our own child; the pointer is to a local.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    let mut report = Report::default();
    let mut last = first;
    for part in text.split('\u{1e}') {
        if let Some(seed) = part.strip_prefix("case ") {
            last = seed.trim().parse().unwrap_or(last);
        } else if let Some(summary) = part.strip_prefix("summary ") {
            let (compared, text) = summary.split_once(' ').unwrap_or((summary, ""));
            report.compared = compared.parse().unwrap_or(0);
            report.summary = text.into();
        } else if !part.is_empty() {
            report.count += 1;
            report.mismatches += part;
        }
    }
    if status != 0 {
        report.crashed = Some((last, status));
    }
    Ok(report)
}

/// Runs cases and tells the parent of each, up to ten mismatches.
fn run_cases<M: std::fmt::Display>(
    first: u64,
    count: u64,
    out: &mut std::fs::File,
    mut case: impl FnMut(u64) -> Option<M>,
) -> io::Result<()> {
    use io::Write as _;
    let mut mismatches = 0;
    for seed in first..first + count {
        write!(out, "\u{1e}case {seed}")?;
        if let Some(mismatch) = case(seed) {
            write!(out, "\u{1e}{mismatch}")?;
            mismatches += 1;
            if mismatches == 10 {
                break;
            }
        }
    }
    Ok(())
}

fn child(first: u64, count: u64, out: &mut std::fs::File) -> io::Result<()> {
    use io::Write as _;
    let mut tester = Tester::new()?;
    run_cases(first, count, out, |seed| tester.case(seed))?;
    let counts = tester.counts;
    write!(
        out,
        "\u{1e}summary {} {counts:?}, refused {:?}, traps {}",
        counts.compared,
        tester.refusals,
        machine::TRAPS.load(std::sync::atomic::Ordering::Relaxed)
    )
}
