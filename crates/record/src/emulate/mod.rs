//! The recorder that emulates: the thread stays parked, and this process executes what it would.
//!
//! Registers start as the parked thread left them, memory is read page by page on first use, and writes stay in the copy, which is
//! thrown away. Nothing in the target changes, so there is nothing to undo when it goes wrong, and nothing to survive when this
//! process dies. Afterwards the thread runs the same iteration natively.
//!
//! The semantics are those of the processor itself: an instruction is executed here, with its memory operand in a slot of ours
//! ([`host`]). Only what moves rsp or rip, and string instructions, are modelled ([`model`]). So calls into libraries, with vector
//! instructions of any generation, are emulated through like everything else, and undefined flags come out as they do on
//! this processor.
//!
//! What cannot be done here is a [`Emulated::NeedsReal`]: a system call, memory that faults, an exotic instruction. The caller
//! then records by [stepping](crate::stepping). That the answers are the same is tested by recording both ways.
//!
//! A recording that takes longer than the thread waits is given up: single steps would take a hundred times as long, and a
//! loop with such a call in it spends its time in the call.

mod host;
mod model;
mod pages;

use std::time::{Duration, Instant, SystemTime};

use iced_x86::{Instruction, InstructionInfoFactory, Register};
use redmagic_tracee::memory::Memory;
use redmagic_tracee::regs::{Gprs, XState};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use self::host::{Host, Stub};
use self::model::Model;
use self::pages::{Habits, Pages, Unreadable};
use crate::abort::{Abort, Aborted};
use crate::guide::Guide;
use crate::native::{Fail, Names};
use crate::operands::{self, Operand, Shape};
use crate::plt::View;
use crate::recorder::{self, Accesses, Ctx, Fetched, Machine, Recorder};
use crate::recording::{AccessKind, Bytes, InstBytes, MAX_VALUE, Meta, Recording, RegisterFile};

/// Bounds of one recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most steps.
    pub max_steps: usize,
    /// Longest time for all of it while the thread waits, which gives up after 10 ms.
    pub max_time: Duration,
    /// The same for a thread that runs on.
    pub max_time_alone: Duration,
}

/// What a recording cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Instructions executed, recorded or not.
    pub instructions: u64,
    /// Pages read from the target.
    pub pages: usize,
    /// All of it.
    pub time: Duration,
}

/// A thread's state where a recording starts.
#[derive(Debug, Clone)]
pub struct Start {
    /// Process.
    pub pid: i32,
    /// Thread.
    pub tid: i32,
    /// General registers, with `fs_base`.
    pub regs: Gprs,
    /// Vector and x87 state.
    pub vectors: XState,
}

/// What became of it.
#[derive(Debug)]
pub enum Emulated {
    /// The recording, or why there can be none: stepping would say the same.
    Done(Box<Result<Recording, Aborted>>),
    /// This must be executed for real.
    NeedsReal {
        /// Why.
        reason: &'static str,
        /// The instruction.
        ip: u64,
    },
}

/// Why an instruction must be executed for real that reads or writes what is not mapped, or no page of ours. A thread that has run on
/// may have left behind pointers that lead nowhere.
pub const UNREADABLE: &str = "memory that cannot be read";
/// Instructions between looks at the clock.
const CLOCK_INTERVAL: u64 = 256;
/// Pages that are read in advance, from which on a thread need not wait for others.
const ENOUGH: usize = 12;
/// Prepared instructions that are kept.
const MAX_PREPARED: usize = 1 << 16;

/// Why an emulation stops.
#[derive(Debug)]
pub(crate) enum Halt {
    Fail(Fail),
    NeedsReal(&'static str),
    /// Time is up.
    Late,
}

impl From<Abort> for Halt {
    fn from(reason: Abort) -> Self {
        Halt::Fail(reason.into())
    }
}

impl From<Fail> for Halt {
    fn from(fail: Fail) -> Self {
        Halt::Fail(fail)
    }
}

impl From<Unreadable> for Halt {
    fn from(_: Unreadable) -> Self {
        Halt::NeedsReal(UNREADABLE)
    }
}

/// How an instruction is executed.
#[derive(Debug, Clone, Copy)]
enum How {
    Host(Stub),
    Model(Model),
    Real(&'static str),
}

/// A decoded instruction with all that does not depend on the state.
#[derive(Debug)]
struct Prepared {
    instruction: Instruction,
    bytes: InstBytes,
    shapes: SmallVec<[Shape; 2]>,
    how: How,
}

/// An emulator: what it learns about code serves all recordings.
#[derive(Debug)]
pub struct Emulator {
    host: Host,
    factory: InstructionInfoFactory,
    prepared: Vec<Prepared>,
    numbers: FxHashMap<u64, u32>,
    habits: Habits,
}

impl Emulator {
    /// A new one.
    ///
    /// # Errors
    /// Those of memfd_create and mmap.
    pub fn new() -> std::io::Result<Emulator> {
        Ok(Emulator {
            host: Host::new()?,
            factory: InstructionInfoFactory::new(),
            prepared: Vec::new(),
            numbers: FxHashMap::default(),
            habits: Habits::default(),
        })
    }

    /// Records from `start`. The thread is not touched. It must not run meanwhile, or not before `let_go` is called, which is as
    /// soon as what recordings usually read was copied, if that is known by then. What is missing is then read while the thread
    /// runs on, and may be of a later moment: a path may be recorded that the thread would not have taken, but each of its
    /// instructions does what it does on what it read.
    pub fn record(
        &mut self,
        start: &Start,
        ctx: &Ctx<'_>,
        guide: &mut dyn Guide,
        limits: &Limits,
        let_go: Option<&mut dyn FnMut()>,
    ) -> (Emulated, Stats) {
        let begin = Instant::now();
        let unix_ms = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as u64);
        if self.prepared.len() > MAX_PREPARED || self.host.is_full() {
            self.prepared.clear();
            self.numbers.clear();
            self.host.clear();
        }
        if let Err(reason) = self.host.set_vectors(&start.vectors.0) {
            let ip = start.regs.rip;
            return (Emulated::NeedsReal { reason, ip }, Stats::default());
        }
        let mut habits = std::mem::take(&mut self.habits);
        if let_go.is_some() {
            habits.expect_little(start.pid);
        }
        let pages = Pages::new(Memory::new(start.pid), habits, start.regs.rsp);
        let mut deadline = begin + limits.max_time;
        if let Some(let_go) = let_go.filter(|_| pages.len() >= ENOUGH) {
            let_go();
            deadline = begin + limits.max_time_alone;
        }
        let machine = Run {
            emulator: self,
            pages,
            regs: start.regs,
            instructions: 0,
            deadline,
            counting: ctx.counting,
        };
        let mut recorder = Recorder::new(machine, ctx, guide, limits.max_steps);
        let first = recorder.machine.file();
        let ended = recorder.run();
        let Recorder { machine, steps, .. } = recorder;
        let Run {
            pages,
            regs,
            instructions,
            ..
        } = machine;
        let stats = Stats {
            instructions,
            pages: pages.len(),
            time: begin.elapsed(),
        };
        self.habits = pages.finish();
        let aborted = |fail: Fail| Aborted {
            reason: fail.reason,
            ip: regs.rip,
            steps: steps.len(),
            detail: fail.detail,
            signals: 0,
        };
        let result = match ended {
            Ok(end) => Ok(Recording {
                meta: Meta {
                    pid: start.pid,
                    tid: start.tid,
                    program: ctx.program.clone(),
                    unix_ms,
                    duration_ns: stats.time.as_nanos() as u64,
                    signals: 0,
                    constant: Vec::new(),
                },
                images: ctx.images.clone(),
                anchor: ctx.anchor,
                start: first,
                steps,
                end,
            }),
            Err(Halt::Fail(fail)) => Err(aborted(fail)),
            Err(Halt::Late) => Err(aborted(Abort::TooSlow.into())),
            Err(Halt::NeedsReal(reason)) => {
                let ip = regs.rip;
                return (Emulated::NeedsReal { reason, ip }, stats);
            }
        };
        (Emulated::Done(Box::new(result)), stats)
    }

    fn prepare(&mut self, fetched: Fetched) -> u32 {
        let instruction = fetched.instruction;
        let (shapes, how) = match operands::shapes(&mut self.factory, &instruction) {
            Err(_) => (SmallVec::new(), How::Real("a memory operand that cannot be stated")),
            Ok(shapes) => {
                let how = match model::of(&instruction) {
                    // Its base is not among what a parked thread says of itself.
                    _ if instruction.segment_prefix() == Register::GS => How::Real("a gs-relative operand"),
                    Some(Ok(model)) => How::Model(model),
                    Some(Err(reason)) => How::Real(reason),
                    None if shapes.len() > 1 => How::Real("several memory operands"),
                    None => match self.host.stub(&instruction) {
                        Ok(stub) => How::Host(stub),
                        Err(reason) => How::Real(reason),
                    },
                };
                (shapes, how)
            }
        };
        let number = self.prepared.len() as u32;
        self.prepared.push(Prepared {
            instruction,
            bytes: fetched.bytes,
            shapes,
            how,
        });
        self.numbers.insert(instruction.ip(), number);
        number
    }
}

/// One recording's machine.
struct Run<'a> {
    emulator: &'a mut Emulator,
    pages: Pages,
    regs: Gprs,
    instructions: u64,
    deadline: Instant,
    /// See [`Ctx::counting`].
    counting: &'a [u64],
}

impl Run<'_> {
    fn file(&self) -> RegisterFile {
        RegisterFile::new(&self.regs, XState(self.emulator.host.vectors()))
    }

    /// The number of the prepared instruction at `ip`.
    fn find(&mut self, ip: u64) -> Result<u32, Halt> {
        let mut bytes = [0; 15];
        let have = self.pages.read_some(ip, &mut bytes);
        if let Some(&number) = self.emulator.numbers.get(&ip) {
            let known = &self.emulator.prepared[number as usize].bytes;
            if bytes[..have].starts_with(known) {
                return Ok(number);
            }
        }
        if have == 0 {
            return Err(Abort::Unreadable.into());
        }
        Ok(self.emulator.prepare(recorder::decode(ip, &bytes[..have])?))
    }

    fn tick(&mut self) -> Result<(), Halt> {
        self.instructions += 1;
        if self.instructions.is_multiple_of(CLOCK_INTERVAL) && Instant::now() >= self.deadline {
            return Err(Halt::Late);
        }
        Ok(())
    }

    /// Executes the prepared instruction of this number, which is at rip; says nothing about its operands.
    fn perform(&mut self, number: u32) -> Result<(), Halt> {
        self.tick()?;
        let prepared = &self.emulator.prepared[number as usize];
        let instruction = &prepared.instruction;
        match prepared.how {
            How::Real(reason) => Err(Halt::NeedsReal(reason)),
            How::Model(model) => model::execute(model, instruction, &mut self.regs, &mut self.pages),
            How::Host(stub) => {
                let mut operand = [0; host::MAX_OPERAND];
                let (address, size, written) = match prepared.shapes.first() {
                    None => (0, 0, false),
                    Some(shape) => (
                        shape.address(&self.regs)?,
                        shape.size as usize,
                        shape.kind != AccessKind::Read,
                    ),
                };
                let operand = operand
                    .get_mut(..size)
                    .ok_or(Halt::NeedsReal("a memory operand of many bytes"))?;
                if !operand.is_empty() {
                    self.pages.read(address, operand)?;
                }
                self.emulator
                    .host
                    .execute(stub, instruction, &mut self.regs, address, operand)
                    .map_err(Halt::NeedsReal)?;
                if written {
                    self.pages.write(address, operand)?;
                }
                self.regs.rip = instruction.next_ip();
                Ok(())
            }
        }
    }

    fn advance(&mut self) -> Result<(), Halt> {
        let number = self.find(self.regs.rip)?;
        self.perform(number)
    }

    /// The same where nothing is recorded: a function that only counts is back at once.
    fn advance_unrecorded(&mut self) -> Result<(), Halt> {
        self.advance()?;
        if self.counting.contains(&self.regs.rip) {
            self.regs.rip = self.pages.read_u64(self.regs.rsp)?;
            self.regs.rsp = self.regs.rsp.wrapping_add(8);
        }
        Ok(())
    }

    fn values(
        &mut self,
        operands: &[Operand],
        wanted: impl Fn(AccessKind) -> bool,
    ) -> Result<SmallVec<[Bytes; 2]>, Halt> {
        let mut out = SmallVec::new();
        for operand in operands {
            let mut value = Bytes::default();
            if wanted(operand.kind) {
                value.0.resize((operand.size as usize).min(MAX_VALUE), 0);
                self.pages.read(operand.addr, &mut value.0)?;
            }
            out.push(value);
        }
        Ok(out)
    }

    fn place(&self, number: u32) -> Result<SmallVec<[Operand; 2]>, Abort> {
        let prepared = &self.emulator.prepared[number as usize];
        operands::place(&prepared.shapes, &prepared.instruction, &self.regs)
    }
}

impl View for Run<'_> {
    fn text(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        self.pages.read_some(address, buffer)
    }

    fn word(&mut self, address: u64) -> Option<u64> {
        self.pages.read_u64(address).ok()
    }
}

impl Machine for Run<'_> {
    type Error = Halt;

    fn regs(&self) -> &Gprs {
        &self.regs
    }

    fn register_file(&mut self) -> Result<RegisterFile, Halt> {
        Ok(self.file())
    }

    fn fetch(&mut self, ip: u64) -> Result<Fetched, Halt> {
        let slot = self.find(ip)?;
        let prepared = &self.emulator.prepared[slot as usize];
        Ok(Fetched {
            instruction: prepared.instruction,
            bytes: prepared.bytes,
            slot,
        })
    }

    fn accesses(&mut self, _: &mut InstructionInfoFactory, fetched: &Fetched) -> Result<Accesses, Halt> {
        let operands = self.place(fetched.slot)?;
        let values = self.values(&operands, |kind| kind != AccessKind::Write)?;
        Ok(operands.iter().zip(values).map(|(o, value)| o.access(value)).collect())
    }

    fn execute(&mut self, _: &mut InstructionInfoFactory, fetched: &Fetched) -> Result<Accesses, Halt> {
        let mut operands = self.place(fetched.slot)?;
        if operands.is_empty() {
            self.perform(fetched.slot)?;
            return Ok(Accesses::new());
        }
        let before = self.regs;
        let mut values = self.values(&operands, |kind| kind != AccessKind::Write)?;
        self.perform(fetched.slot)?;
        if operands::repeats(&fetched.instruction) {
            operands::trim_repeat(&fetched.instruction, &before, &self.regs, &mut operands, &mut values);
        }
        let written = self.values(&operands, |kind| kind == AccessKind::Write)?;
        let values = values.into_iter().zip(written);
        Ok(operands
            .iter()
            .zip(values)
            .map(|(o, (before, after))| o.access(if o.kind == AccessKind::Write { after } else { before }))
            .collect())
    }

    fn syscall(&mut self, _: &Fetched) -> Result<(), Halt> {
        Err(Halt::NeedsReal("a system call"))
    }

    fn run_until(&mut self, there: (u64, u64), names: Names) -> Result<(), Halt> {
        let late = |halt| match halt {
            Halt::Late => Halt::from(names.late),
            halt => halt,
        };
        loop {
            self.advance_unrecorded().map_err(late)?;
            if self.regs.rip == there.0 {
                if self.regs.rsp == there.1 {
                    return Ok(());
                }
                if self.regs.rsp > there.1 {
                    return Err(names.escaped.into());
                }
            }
        }
    }

    fn skip_to(&mut self, rip: u64, rsp: u64, rax: u64) -> Result<(), Halt> {
        self.regs.rip = rip;
        self.regs.rsp = rsp;
        self.regs.rax = rax;
        Ok(())
    }

    fn run_region(&mut self, enter: u64, leave: u64) -> Result<u64, Halt> {
        let frame = self.regs.rsp;
        let mut open = 1u32;
        self.advance()?;
        while open > 0 {
            self.advance_unrecorded()?;
            if self.regs.rip == enter || self.regs.rip == leave {
                if self.regs.rsp > frame {
                    return Err(Abort::NativeEscaped.into());
                }
                open = if self.regs.rip == enter { open + 1 } else { open - 1 };
            }
        }
        if self.regs.rsp != frame {
            return Err(Abort::NativeEscaped.into());
        }
        let return_address = self.pages.read_u64(frame)?;
        let names = Names {
            late: Abort::NativeTimeout,
            escaped: Abort::NativeEscaped,
        };
        self.run_until((return_address, frame.wrapping_add(8)), names)?;
        Ok(return_address)
    }
}
