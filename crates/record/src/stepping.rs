//! The recorder that single-steps: slow, and the ground truth.
//!
//! One PTRACE_SINGLESTEP an instruction. Around each: decode from a page cache, read the memory operands that are read, step, read the
//! registers and the operands that were only written.
//!
//! # Calls
//! A call is put to the [`Guide`] with the function behind any PLT stub. Inlined, it is stepped. Residual, it runs natively up to a
//! hardware breakpoint at its return address (see [`crate::native`]).
//! A call of the C API is noticed where the thread arrives at the function's first instruction, so that a call through the PLT and a
//! tail call are the same thing; the stub's instructions are dropped from the recording.
//!
//! # Signals
//! A signal suspends the recording: it is delivered, and its handler runs natively until the thread is back where it was, with the
//! registers that it had. Under a timer storm each step still either completes or is preceded by handlers, and a pending trap is
//! taken before any other signal, so a recording makes progress.
//!
//! # Quirks of x86 and Linux
//! * `pushf` pushes the trap flag that the step set, and `syscall` leaves it in r11: [`Recorder::hide_trap_flag`].
//! * A repeated string instruction traps after each iteration: [`Recorder::finish_repeat`].
//! * SIGTRAP is forced: a thread that blocks it would lose its handler (`force_sig_info_to_task`), so it is unblocked meanwhile, and
//!   a program without a handler is not stepped at all, since it would die with its tracer.
//!   For residual calls this means: a function that returns with SIGTRAP blocked resets the handler. This is checked at the end.
//! * A system call that is interrupted shows `rax = -ERESTART...`, which no program ever sees; the kernel turns it into a
//!   restart when the thread is resumed from this very stop. So the recording ends there.

mod calls;

use std::time::{Duration, Instant, SystemTime};

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register,
};
use redmagic_tracee::memory::{Memory, TextCache};
use redmagic_tracee::process::Status;
use redmagic_tracee::regs::Gprs;
use redmagic_tracee::thread::{Resume, Stop, Stopped};
use redmagic_tracee::wait::{Event, StopReason};
use smallvec::SmallVec;

use crate::abort::{Abort, Aborted};
use crate::guide::{Flow, Guide};
use crate::native::{self, Fail, Names, RESUME_FLAG, TRAP_FLAG};
use crate::operands::{self, Operand};
use crate::pin::Pin;
use crate::recording::{
    AccessKind, Anchor, Api, Bytes, End, ImageRange, Inst, InstBytes, MAX_VALUE, MemAccess, Meta, Recording,
    RegisterFile, Step,
};

/// What is recorded.
pub struct Ctx<'a> {
    /// Path of the program, for the recording's header.
    pub program: String,
    /// Executable images.
    pub images: Vec<ImageRange>,
    /// What the recording starts at.
    pub anchor: Anchor,
    /// The function of the C API whose first instruction is at an address.
    pub api: &'a dyn Fn(u64) -> Option<Api>,
}

/// Bounds of one recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most steps.
    pub max_steps: usize,
    /// Longest time for all of it.
    pub max_time: Duration,
    /// Longest time for one residual call or system call.
    pub residual_time: Duration,
    /// Longest time from temp_disable to temp_enable.
    pub native_time: Duration,
    /// Longest time for a signal handler.
    pub signal_time: Duration,
    /// Most signals.
    pub max_signals: u32,
    /// Whether tracer and tracee are bound to one processor while the tracee is stepped (a third of the time).
    pub pin: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_steps: 20_000,
            max_time: Duration::from_secs(2),
            residual_time: Duration::from_millis(20),
            native_time: Duration::from_millis(100),
            signal_time: Duration::from_millis(20),
            max_signals: 5_000,
            pin: true,
        }
    }
}

/// What a recording cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// PTRACE_SINGLESTEPs.
    pub single_steps: u64,
    /// Runs to a hardware breakpoint.
    pub native_runs: u64,
    /// Signals delivered.
    pub signals: u32,
    /// All of it.
    pub time: Duration,
}

/// What became of a recording, and of the thread.
#[derive(Debug)]
pub struct Outcome {
    /// The thread, stopped where the recording ended. `None` when it died.
    pub thread: Option<Stopped>,
    /// The recording, or why there is none.
    pub result: Result<Recording, Aborted>,
    /// What it cost.
    pub stats: Stats,
}

/// System calls that end, replace or duplicate the thread, or change what the stepper relies on (the signal mask).
const REFUSED_SYSCALLS: [i64; 10] = [
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
];

const SIGTRAP_BIT: u64 = 1 << (libc::SIGTRAP - 1);
/// Steps between looks at the clock.
const CLOCK_INTERVAL: u64 = 64;
/// Iterations of a repeated string instruction that are stepped; more run to a breakpoint.
const STEPPED_REPEATS: u64 = 4;
/// Instructions between a call of the C API and its arrival: those of PLT stubs.
const MAX_STUB_STEPS: usize = 8;

/// Records from where `thread` stands.
///
/// The thread's registers must be those of the trace's start, with `orig_rax` -1 (else the kernel may restart the system call it was
/// stopped in). A signal that it was stopped for is delivered first. On return the thread is where the recording ended, or where it
/// was given up; letting it go makes it run on from there.
pub fn record(thread: Stopped, ctx: &Ctx<'_>, guide: &mut dyn Guide, limits: &Limits) -> Outcome {
    let begin = Instant::now();
    let tid = thread.tid();
    let mut recorder = Recorder {
        thread,
        ctx,
        guide,
        limits,
        memory: Memory::new(tid),
        text: TextCache::new(Memory::new(tid)),
        factory: InstructionInfoFactory::new(),
        regs: Gprs::default(),
        steps: Vec::new(),
        depth: 0,
        to_api: None,
        asked: None,
        entered_api: false,
        stats: Stats::default(),
        deadline: begin + limits.max_time,
        pin: None,
    };
    let unix_ms = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64);
    let result = recorder.prepare().and_then(|prepared| {
        let ended = recorder.run();
        let tidied = recorder.tidy(&prepared);
        let end = ended?;
        tidied?;
        Ok((prepared, end))
    });
    recorder.stats.time = begin.elapsed();
    let stats = recorder.stats;
    let result = match result {
        Ok((prepared, end)) => Ok(Recording {
            meta: Meta {
                pid: prepared.pid,
                tid,
                program: ctx.program.clone(),
                unix_ms,
                duration_ns: stats.time.as_nanos() as u64,
                signals: stats.signals,
            },
            images: ctx.images.clone(),
            anchor: ctx.anchor,
            start: prepared.start,
            steps: std::mem::take(&mut recorder.steps),
            end,
        }),
        Err(fail) => Err(Aborted {
            reason: fail.reason,
            ip: recorder.regs.rip,
            steps: recorder.steps.len(),
            detail: fail.detail,
        }),
    };
    let thread = recorder.thread.death().is_none().then_some(recorder.thread);
    Outcome { thread, result, stats }
}

/// What must be known or put back at the end.
struct Prepared {
    pid: i32,
    start: RegisterFile,
    trap_was_blocked: bool,
}

/// A call instruction, among the steps, whose target is a function of the C API.
#[derive(Clone, Copy)]
struct ToApi {
    step: usize,
    tail: bool,
}

struct Recorder<'a> {
    thread: Stopped,
    ctx: &'a Ctx<'a>,
    guide: &'a mut dyn Guide,
    limits: &'a Limits,
    memory: Memory,
    text: TextCache,
    factory: InstructionInfoFactory,
    /// Registers now.
    regs: Gprs,
    steps: Vec<Step>,
    /// Open inlined calls.
    depth: i32,
    to_api: Option<ToApi>,
    /// The function whose inlining was decided at the call; the jump of its PLT stub is not asked about again.
    asked: Option<u64>,
    /// The thread is at the entry of a function of the C API, and steps into it.
    entered_api: bool,
    stats: Stats,
    deadline: Instant,
    pin: Option<Pin>,
}

impl Recorder<'_> {
    fn prepare(&mut self) -> Result<Prepared, Fail> {
        self.regs = self.thread.regs()?;
        let tid = self.thread.tid();
        if let StopReason::Group(_) = self.thread.reason() {
            return Err(Abort::JobControl.into());
        }
        let status = Status::read(tid)?;
        if !status.catches(libc::SIGTRAP) {
            return Err(Abort::TrapNotCaught.into());
        }
        let mask = self.thread.sigmask()?;
        let trap_was_blocked = mask & SIGTRAP_BIT != 0;
        if trap_was_blocked {
            self.thread.set_sigmask(mask & !SIGTRAP_BIT)?;
        }
        if self.limits.pin {
            self.pin = Pin::to(tid);
        }
        Ok(Prepared {
            pid: status.tgid,
            start: self.register_file()?,
            trap_was_blocked,
        })
    }

    /// Leaves the thread as it wants to be; dead threads want nothing.
    fn tidy(&mut self, prepared: &Prepared) -> Result<(), Fail> {
        self.pin = None;
        if self.thread.death().is_some() {
            return Ok(());
        }
        if prepared.trap_was_blocked {
            let mask = self.thread.sigmask()?;
            self.thread.set_sigmask(mask | SIGTRAP_BIT)?;
        }
        if self.stats.native_runs > 0 && !Status::read(self.thread.tid())?.catches(libc::SIGTRAP) {
            return Err(Abort::TrapLost.into());
        }
        Ok(())
    }

    fn run(&mut self) -> Result<End, Fail> {
        if let Some(signal) = self.thread.pending_signal() {
            self.signal(signal)?;
        }
        loop {
            if self.steps.len() >= self.limits.max_steps {
                return Err(Abort::TooLong.into());
            }
            let ip = self.regs.rip;
            if !std::mem::take(&mut self.entered_api)
                && let Some(api) = (self.ctx.api)(ip)
            {
                match self.arrive_at_api(api)? {
                    Some(end) => return Ok(end),
                    None => continue,
                }
            }
            let instruction = self.decode(ip)?;
            match self.guide.on_inst(ip, &instruction, self.depth) {
                Flow::Continue => {}
                Flow::End(reason) => return Ok(End::Stopped { ip, reason }),
                Flow::Abort(reason) => return Err(reason.into()),
            }
            if let Some(end) = self.execute(&instruction)? {
                return Ok(end);
            }
        }
    }

    fn decode(&mut self, ip: u64) -> Result<Instruction, Fail> {
        let mut bytes = [0; 15];
        let have = self.text.read(ip, &mut bytes)?;
        if have == 0 {
            return Err(Abort::Unreadable.into());
        }
        let instruction = Decoder::with_ip(64, &bytes[..have], ip, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            return Err(Fail {
                reason: Abort::Undecodable,
                detail: format!("{:02x?}", &bytes[..have]),
            });
        }
        match refusal(&instruction) {
            Some(reason) => Err(reason.into()),
            None => Ok(instruction),
        }
    }

    /// Executes one instruction, as a step of whatever kind.
    fn execute(&mut self, instruction: &Instruction) -> Result<Option<End>, Fail> {
        if let Some(to_api) = self.to_api {
            // In a PLT stub on the way to the C API.
            if self.steps.len() > to_api.step + MAX_STUB_STEPS {
                return Err(Fail {
                    reason: Abort::LostTrack,
                    detail: "a stub that does not arrive".into(),
                });
            }
            self.plain(instruction)?;
            return Ok(None);
        }
        match instruction.flow_control() {
            FlowControl::Call if instruction.mnemonic() == Mnemonic::Syscall => {
                return self.syscall(instruction);
            }
            FlowControl::Call | FlowControl::IndirectCall => self.transfer(instruction, false)?,
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => self.transfer(instruction, true)?,
            FlowControl::Return => {
                self.plain(instruction)?;
                self.depth -= 1;
            }
            _ => self.plain(instruction)?,
        }
        Ok(None)
    }

    /// Steps over one instruction and records it.
    fn plain(&mut self, instruction: &Instruction) -> Result<(), Fail> {
        let before = self.regs;
        let mut operands = operands::operands(&mut self.factory, instruction, &before)?;
        let mut values = self.read_before(&operands);
        self.step()?;
        if operands::repeats(instruction) {
            self.finish_repeat(instruction)?;
            trim_repeat(instruction, &before, &self.regs, &mut operands, &mut values);
        }
        self.hide_trap_flag(instruction)?;
        let next_ip = self.regs.rip;
        if instruction.flow_control() == FlowControl::Next && next_ip != instruction.next_ip() {
            return Err(Fail {
                reason: Abort::LostTrack,
                detail: format!("{:#x} led to {next_ip:#x}", before.rip),
            });
        }
        let mem = operands
            .iter()
            .zip(values)
            .map(|(operand, value)| self.access(operand, value))
            .collect();
        let inst = self.inst(instruction, next_ip, mem)?;
        self.steps.push(Step::Inst(inst));
        Ok(())
    }

    fn inst(&mut self, instruction: &Instruction, next_ip: u64, mem: SmallVec<[MemAccess; 1]>) -> Result<Inst, Fail> {
        let mut bytes = [0; 15];
        let len = instruction.len();
        self.text.read(instruction.ip(), &mut bytes[..len])?;
        let bytes = InstBytes::new(&bytes[..len]).ok_or(Abort::Undecodable)?;
        Ok(Inst {
            ip: instruction.ip(),
            bytes,
            next_ip,
            mem,
        })
    }

    /// The values of the operands that are read. Empty for those only written, and where there is no memory: the instruction will fault.
    fn read_before(&self, operands: &[Operand]) -> SmallVec<[Bytes; 2]> {
        operands
            .iter()
            .map(|o| {
                if o.kind == AccessKind::Write {
                    Bytes::default()
                } else {
                    self.read_value(o)
                }
            })
            .collect()
    }

    fn read_value(&self, operand: &Operand) -> Bytes {
        let mut value = Bytes::default();
        value.0.resize((operand.size as usize).min(MAX_VALUE), 0);
        if self.memory.read_exact(operand.addr, &mut value.0).is_err() {
            value.0.clear();
        }
        value
    }

    fn access(&self, operand: &Operand, before: Bytes) -> MemAccess {
        let value = if operand.kind == AccessKind::Write {
            self.read_value(operand)
        } else {
            before
        };
        MemAccess {
            addr: operand.addr,
            size: operand.size,
            kind: operand.kind,
            value,
        }
    }

    /// One PTRACE_SINGLESTEP that completes, whatever comes before it.
    fn step(&mut self) -> Result<(), Fail> {
        if let Some(pin) = &mut self.pin {
            pin.hold();
        }
        self.step_where_it_is()
    }

    /// [`Recorder::step`] without binding the thread to a processor.
    fn step_where_it_is(&mut self) -> Result<(), Fail> {
        loop {
            self.stats.single_steps += 1;
            if self.stats.single_steps.is_multiple_of(CLOCK_INTERVAL) && Instant::now() >= self.deadline {
                return Err(Abort::TooSlow.into());
            }
            match self
                .thread
                .resume_and_wait(Resume::Step, None, Some(self.limits.residual_time))?
            {
                Stop::At(StopReason::Step) => {
                    self.regs = self.thread.regs()?;
                    return Ok(());
                }
                Stop::At(StopReason::SignalDelivery(number)) => self.signal(number)?,
                Stop::At(StopReason::ProgramTrap) => self.signal(libc::SIGTRAP)?,
                Stop::At(StopReason::Group(number)) => {
                    return Err(Fail {
                        reason: Abort::JobControl,
                        detail: format!("signal {number}"),
                    });
                }
                Stop::At(StopReason::Event(Event::Exec)) => return Err(Abort::Exec.into()),
                Stop::Dead(death) => {
                    return Err(Fail {
                        reason: Abort::Died,
                        detail: death.to_string(),
                    });
                }
                // A stale interrupt. If it overtook the step's own trap, the next resume gives that and executes nothing.
                Stop::At(_) => {}
                // Blocked in a page fault or a system call.
                Stop::TimedOut => {
                    if Instant::now() >= self.deadline {
                        return Err(Abort::TooSlow.into());
                    }
                    if is_restart(self.thread.regs()?.rax) {
                        // Its trap is queued behind the interrupt: take it, or the program gets it.
                        self.thread
                            .resume_and_wait(Resume::Step, None, Some(self.limits.residual_time))?;
                        return Err(Abort::SyscallBlocked.into());
                    }
                }
            }
        }
    }

    /// Delivers a signal and lets its handler run until the thread is back.
    fn signal(&mut self, number: i32) -> Result<(), Fail> {
        if self.stats.signals >= self.limits.max_signals {
            return Err(Abort::TooManySignals.into());
        }
        self.stats.signals += 1;
        self.stats.native_runs += 1;
        self.unbind();
        let mut regs = self.thread.regs()?;
        if regs.rflags & RESUME_FLAG != 0 {
            regs.rflags &= !RESUME_FLAG;
            self.thread.set_regs(&regs)?;
        }
        let names = Names {
            late: Abort::SignalTimeout,
            escaped: Abort::SignalTimeout,
        };
        let there = (regs.rip, regs.rsp);
        let limit = self.limits.signal_time;
        let after = native::run_until(
            &mut self.thread,
            there,
            Some(number),
            limit,
            names,
            &mut self.stats.signals,
        )?;
        let same = |r: &Gprs| (r.array(), r.rip, r.rflags & !(RESUME_FLAG | TRAP_FLAG));
        if same(&after) != same(&regs) {
            return Err(Fail {
                reason: Abort::LostTrack,
                detail: format!("the handler of signal {number} changed the registers"),
            });
        }
        self.regs = after;
        Ok(())
    }

    /// A repeated string instruction traps after each iteration; lets all of them happen.
    fn finish_repeat(&mut self, instruction: &Instruction) -> Result<(), Fail> {
        while self.regs.rip == instruction.ip() {
            if self.regs.rcx > STEPPED_REPEATS {
                let names = Names {
                    late: Abort::TooSlow,
                    escaped: Abort::LostTrack,
                };
                self.native((instruction.next_ip(), self.regs.rsp), self.limits.residual_time, names)?;
            } else {
                self.step()?;
            }
        }
        Ok(())
    }

    /// Takes the stepper's trap flag out of what the program can see of it.
    fn hide_trap_flag(&mut self, instruction: &Instruction) -> Result<(), Fail> {
        match instruction.mnemonic() {
            // The flag is in the second byte, of either size of image.
            Mnemonic::Pushf | Mnemonic::Pushfq => {
                let at = self.regs.rsp + 1;
                let byte: u8 = self.memory.read_pod(at)?;
                self.memory.write(at, &[byte & !((TRAP_FLAG >> 8) as u8)])?;
            }
            Mnemonic::Syscall if self.regs.r11 & TRAP_FLAG != 0 => {
                self.regs.r11 &= !TRAP_FLAG;
                // No system call is being restarted: those end the recording.
                self.regs.orig_rax = u64::MAX;
                self.thread.set_regs(&self.regs)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Before the thread runs natively: it must not see that it was bound to a processor.
    fn unbind(&mut self) {
        if let Some(pin) = &mut self.pin {
            pin.release();
        }
    }

    fn native(&mut self, there: (u64, u64), limit: Duration, names: Names) -> Result<(), Fail> {
        self.stats.native_runs += 1;
        self.unbind();
        self.regs = native::run_until(&mut self.thread, there, None, limit, names, &mut self.stats.signals)?;
        Ok(())
    }

    fn register_file(&self) -> Result<RegisterFile, Fail> {
        let mut file = RegisterFile::new(&self.regs, self.thread.xstate()?);
        file.rflags &= !(RESUME_FLAG | TRAP_FLAG);
        Ok(file)
    }

    fn syscall(&mut self, instruction: &Instruction) -> Result<Option<End>, Fail> {
        let number = self.regs.rax;
        if REFUSED_SYSCALLS.iter().any(|&n| n as u64 == number) {
            return Err(Fail {
                reason: Abort::Syscall,
                detail: format!("number {number}"),
            });
        }
        match self.guide.on_syscall(number) {
            Flow::Continue => {}
            Flow::End(reason) => {
                return Ok(Some(End::Stopped {
                    ip: instruction.ip(),
                    reason,
                }));
            }
            Flow::Abort(reason) => {
                return Err(Fail {
                    reason,
                    detail: format!("system call {number}"),
                });
            }
        }
        self.unbind();
        self.step_where_it_is()?;
        if is_restart(self.regs.rax) {
            return Err(Fail {
                reason: Abort::SyscallBlocked,
                detail: format!("number {number}, by a signal"),
            });
        }
        self.hide_trap_flag(instruction)?;
        if self.regs.rip != instruction.next_ip() {
            return Err(Fail {
                reason: Abort::LostTrack,
                detail: format!("system call {number}"),
            });
        }
        let inst = self.inst(instruction, self.regs.rip, SmallVec::new())?;
        self.steps.push(Step::Inst(inst));
        Ok(None)
    }
}

/// Whether a value of rax is one of the kernel's restart codes (ERESTARTSYS 512 to ERESTART_RESTARTBLOCK 516), which are never
/// returned to a program.
fn is_restart(rax: u64) -> bool {
    (-516..=-512).contains(&(rax as i64))
}

/// Why an instruction cannot be stepped or traced, if it cannot.
fn refusal(instruction: &Instruction) -> Option<Abort> {
    use Mnemonic::*;
    match instruction.mnemonic() {
        Int | Int1 | Int3 | Into | Ud0 | Ud1 | Ud2 | Hlt => return Some(Abort::Interrupt),
        Iret | Iretd | Iretq | Retf | Sysenter | Sysexit | Sysexitq | Sysret | Sysretq => {
            return Some(Abort::FarBranch);
        }
        Xbegin | Xabort | Xend => return Some(Abort::Transaction),
        _ => {}
    }
    if instruction.is_call_far() || instruction.is_call_far_indirect() || instruction.is_jmp_far() {
        return Some(Abort::FarBranch);
    }
    if instruction.is_jmp_far_indirect() {
        return Some(Abort::FarBranch);
    }
    let to_ss = instruction.op_count() > 0
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register() == Register::SS;
    if to_ss || instruction.code() == Code::Popw_SS {
        return Some(Abort::SegmentLoad);
    }
    None
}

/// `repe cmps` and `repne scas` may end early: the operands are what was really touched.
fn trim_repeat(instruction: &Instruction, before: &Gprs, after: &Gprs, operands: &mut [Operand], values: &mut [Bytes]) {
    if !matches!(
        instruction.mnemonic(),
        Mnemonic::Cmpsb
            | Mnemonic::Cmpsw
            | Mnemonic::Cmpsd
            | Mnemonic::Cmpsq
            | Mnemonic::Scasb
            | Mnemonic::Scasw
            | Mnemonic::Scasd
            | Mnemonic::Scasq
    ) {
        return;
    }
    let done = before.rcx.wrapping_sub(after.rcx);
    let back = before.rflags & (1 << 10) != 0;
    for (operand, value) in operands.iter_mut().zip(values) {
        let Some(element) = operand.element else {
            continue;
        };
        let size = done.saturating_mul(u64::from(element)).min(u64::from(operand.size)) as u32;
        if back {
            // The touched part is the upper end, of which the value may have been cut off.
            let cut = (operand.size - size) as usize;
            operand.addr += cut as u64;
            value.0.drain(..cut.min(value.0.len()));
        } else {
            value.0.truncate(size as usize);
        }
        operand.size = size;
    }
}
