//! The recorder that single-steps: slow, and the ground truth.
//!
//! One PTRACE_SINGLESTEP an instruction. Around each: decode from a page cache, read the memory operands that are read, step, read the
//! registers and the operands that were only written.
//!
//! Residual calls run natively up to a hardware breakpoint at their return address (see [`crate::native`]).
//!
//! # Signals
//! A signal suspends the recording: it is delivered, and its handler runs natively until the thread is back where it was, with the
//! registers that it had. Under a timer storm each step still either completes or is preceded by handlers, and a pending trap is
//! taken before any other signal, so a recording makes progress.
//!
//! # Quirks of x86 and Linux
//! * `pushf` pushes the trap flag that the step set, and `syscall` leaves it in r11: [`Stepper::hide_trap_flag`].
//! * A repeated string instruction traps after each iteration: [`Stepper::finish_repeat`].
//! * SIGTRAP is forced: a thread that blocks it would lose its handler (`force_sig_info_to_task`), so it is unblocked meanwhile, and
//!   a program without a handler is not stepped at all, since it would die with its tracer.
//!   For residual calls this means: a function that returns with SIGTRAP blocked resets the handler. This is checked at the end.
//! * A system call that is interrupted shows `rax = -ERESTART...`, which no program ever sees; the kernel turns it into a
//!   restart when the thread is resumed from this very stop. So the recording ends there.

use std::time::{Duration, Instant, SystemTime};

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic};
use redmagic_tracee::memory::{Memory, TextCache};
use redmagic_tracee::pin::Pin;
use redmagic_tracee::process::Status;
use redmagic_tracee::regs::Gprs;
use redmagic_tracee::thread::{Resume, Stop, Stopped};
use redmagic_tracee::wait::{Event, StopReason};
use smallvec::SmallVec;

use crate::abort::{Abort, Aborted};
use crate::guide::Guide;
use crate::native::{self, Fail, Names, RESUME_FLAG, TRAP_FLAG};
use crate::operands::{self, Operand};
use crate::plt::View;
use crate::recorder::{self, Accesses, Fetched, Machine, Recorder};
use crate::recording::{AccessKind, Bytes, MAX_VALUE, Meta, Recording, RegisterFile};

pub use crate::recorder::Ctx;

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

const SIGTRAP_BIT: u64 = 1 << (libc::SIGTRAP - 1);
/// Steps between looks at the clock.
const CLOCK_INTERVAL: u64 = 64;
/// Iterations of a repeated string instruction that are stepped; more run to a breakpoint.
const STEPPED_REPEATS: u64 = 4;

/// Records from where `thread` stands.
///
/// The thread's registers must be those of the trace's start, with `orig_rax` -1 (else the kernel may restart the system call it was
/// stopped in). A signal that it was stopped for is delivered first. On return the thread is where the recording ended, or where it
/// was given up; letting it go makes it run on from there.
pub fn record(thread: Stopped, ctx: &Ctx<'_>, guide: &mut dyn Guide, limits: &Limits) -> Outcome {
    let begin = Instant::now();
    let tid = thread.tid();
    let stepper = Stepper {
        thread,
        limits,
        memory: Memory::new(tid),
        text: TextCache::new(Memory::new(tid)),
        regs: Gprs::default(),
        stats: Stats::default(),
        deadline: begin + limits.max_time,
        pin: None,
    };
    let mut recorder = Recorder::new(stepper, ctx, guide, limits.max_steps);
    let unix_ms = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64);
    let result = recorder.machine.prepare().and_then(|prepared| {
        let ended = recorder.machine.deliver_pending().and_then(|()| recorder.run());
        let tidied = recorder.machine.tidy(&prepared);
        let end = ended?;
        tidied?;
        Ok((prepared, end))
    });
    let Recorder { machine, steps, .. } = recorder;
    let mut stats = machine.stats;
    stats.time = begin.elapsed();
    let result = match result {
        Ok((prepared, end)) => Ok(Recording {
            meta: Meta {
                pid: prepared.pid,
                tid,
                program: ctx.program.clone(),
                unix_ms,
                duration_ns: stats.time.as_nanos() as u64,
                signals: stats.signals,
                constant: Vec::new(),
            },
            images: ctx.images.clone(),
            anchor: ctx.anchor,
            start: prepared.start,
            steps,
            end,
        }),
        Err(fail) => Err(Aborted {
            reason: fail.reason,
            ip: machine.regs.rip,
            steps: steps.len(),
            detail: fail.detail,
            signals: stats.signals,
        }),
    };
    let thread = machine.thread.death().is_none().then_some(machine.thread);
    Outcome { thread, result, stats }
}

/// What must be known or put back at the end.
struct Prepared {
    pid: i32,
    start: RegisterFile,
    trap_was_blocked: bool,
}

/// A stopped thread, as a machine.
struct Stepper<'a> {
    thread: Stopped,
    limits: &'a Limits,
    memory: Memory,
    text: TextCache,
    /// Registers now.
    regs: Gprs,
    stats: Stats,
    deadline: Instant,
    pin: Option<Pin>,
}

impl Stepper<'_> {
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

    /// Delivers the signal that the thread was stopped for.
    fn deliver_pending(&mut self) -> Result<(), Fail> {
        match self.thread.pending_signal() {
            Some(signal) => self.signal(signal),
            None => Ok(()),
        }
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

    /// One PTRACE_SINGLESTEP that completes, whatever comes before it.
    fn step(&mut self) -> Result<(), Fail> {
        if let Some(pin) = &mut self.pin {
            pin.hold();
        }
        self.step_where_it_is()
    }

    /// [`Stepper::step`] without binding the thread to a processor.
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
        if regs.rflags & (RESUME_FLAG | TRAP_FLAG) != 0 {
            regs.rflags &= !(RESUME_FLAG | TRAP_FLAG);
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
                self.regs.rflags &= !TRAP_FLAG;
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
}

impl View for Stepper<'_> {
    fn text(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        self.text.read(address, buffer).unwrap_or(0)
    }

    fn word(&mut self, address: u64) -> Option<u64> {
        self.memory.read_u64(address).ok()
    }
}

impl Machine for Stepper<'_> {
    type Error = Fail;

    fn regs(&self) -> &Gprs {
        &self.regs
    }

    fn register_file(&mut self) -> Result<RegisterFile, Fail> {
        let mut file = RegisterFile::new(&self.regs, self.thread.xstate()?);
        file.rflags &= !(RESUME_FLAG | TRAP_FLAG);
        Ok(file)
    }

    fn fetch(&mut self, ip: u64) -> Result<Fetched, Fail> {
        let mut bytes = [0; 15];
        let have = self.text.read(ip, &mut bytes)?;
        recorder::decode(ip, &bytes[..have])
    }

    fn accesses(&mut self, factory: &mut InstructionInfoFactory, fetched: &Fetched) -> Result<Accesses, Fail> {
        let operands = operands::operands(factory, &fetched.instruction, &self.regs)?;
        let values = self.read_before(&operands);
        Ok(operands.iter().zip(values).map(|(o, value)| o.access(value)).collect())
    }

    fn execute(&mut self, factory: &mut InstructionInfoFactory, fetched: &Fetched) -> Result<Accesses, Fail> {
        let instruction = &fetched.instruction;
        let before = self.regs;
        let mut operands = operands::operands(factory, instruction, &before)?;
        let mut values = self.read_before(&operands);
        self.step()?;
        if operands::repeats(instruction) {
            self.finish_repeat(instruction)?;
            operands::trim_repeat(instruction, &before, &self.regs, &mut operands, &mut values);
        }
        self.hide_trap_flag(instruction)?;
        Ok(operands
            .iter()
            .zip(values)
            .map(|(operand, before)| {
                operand.access(if operand.kind == AccessKind::Write {
                    self.read_value(operand)
                } else {
                    before
                })
            })
            .collect())
    }

    fn syscall(&mut self, fetched: &Fetched) -> Result<(), Fail> {
        let number = self.regs.rax;
        self.unbind();
        self.step_where_it_is()?;
        if is_restart(self.regs.rax) {
            return Err(Fail {
                reason: Abort::SyscallBlocked,
                detail: format!("number {number}, by a signal"),
            });
        }
        self.hide_trap_flag(&fetched.instruction)
    }

    fn run_until(&mut self, there: (u64, u64), names: Names) -> Result<(), Fail> {
        self.native(there, self.limits.residual_time, names)
    }

    fn skip_to(&mut self, rip: u64, rsp: u64, rax: u64) -> Result<(), Fail> {
        self.regs.rip = rip;
        self.regs.rsp = rsp;
        self.regs.rax = rax;
        self.regs.orig_rax = u64::MAX;
        // Written back, the trap flag would be the program's own from here on.
        self.regs.rflags &= !(RESUME_FLAG | TRAP_FLAG);
        self.thread.set_regs(&self.regs)?;
        Ok(())
    }

    fn run_region(&mut self, enter: u64, leave: u64) -> Result<u64, Fail> {
        let frame = self.regs.rsp;
        let deadline = Instant::now() + self.limits.native_time;
        // Past the first instruction of `enter`, so that the breakpoint there is for nested calls only.
        self.step()?;
        self.stats.native_runs += 1;
        self.unbind();
        let breakpoints = [
            native::arm(&self.thread, 0, leave)?,
            native::arm(&self.thread, 1, enter)?,
        ];
        let mut open = 1u32;
        let result = loop {
            let hit = native::run_to_hit(
                &mut self.thread,
                None,
                deadline,
                Abort::NativeTimeout,
                &mut self.stats.signals,
            );
            let regs = match hit {
                Ok(regs) => regs,
                Err(fail) => break Err(fail),
            };
            if regs.rsp > frame {
                break Err(Abort::NativeEscaped.into());
            }
            match regs.rip {
                rip if rip == enter => open += 1,
                rip if rip == leave => open -= 1,
                _ => continue,
            }
            if open == 0 {
                break if regs.rsp == frame {
                    Ok(regs)
                } else {
                    Err(Abort::NativeEscaped.into())
                };
            }
        };
        for breakpoint in breakpoints {
            breakpoint.clear(&self.thread)?;
        }
        self.regs = result?;
        let return_address = self.memory.read_u64(frame)?;
        let names = Names {
            late: Abort::NativeTimeout,
            escaped: Abort::NativeEscaped,
        };
        self.native(
            (return_address, frame.wrapping_add(8)),
            self.limits.residual_time,
            names,
        )?;
        Ok(return_address)
    }
}

/// Whether a value of rax is one of the kernel's restart codes (ERESTARTSYS 512 to ERESTART_RESTARTBLOCK 516), which are never
/// returned to a program.
fn is_restart(rax: u64) -> bool {
    (-516..=-512).contains(&(rax as i64))
}
