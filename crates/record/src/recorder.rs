//! What every recorder does, over a machine that executes.
//!
//! A [`Machine`] executes one instruction at a time and knows registers and memory: a stopped thread that is single-stepped
//! ([`crate::stepping`]) or a copy of its state that is emulated ([`crate::emulate`]). The [`Recorder`] here decides, with the
//! [`Guide`], what is recorded, so that both recorders make the same [`Recording`](crate::recording::Recording) by construction.
//!
//! # Calls
//! A call is put to the guide with the function behind any PLT stub. Inlined, it is recorded. Residual, it runs unrecorded up to its
//! return. A call of the C API is noticed where the thread arrives at the function's first instruction, so that a call through the PLT
//! and a tail call are the same thing; the stub's instructions are dropped from the recording.

mod calls;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register,
};
use redmagic_tracee::regs::Gprs;
use smallvec::SmallVec;

use crate::abort::Abort;
use crate::guide::{Flow, Guide};
use crate::native::{Fail, Names};
use crate::plt::View;
use crate::recording::{Anchor, Api, End, ImageRange, Inst, InstBytes, LibraryFn, MemAccess, RegisterFile, Step};

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
    /// The function of the C library that is called through the word at an address, by its name.
    pub library: &'a dyn Fn(u64) -> Option<LibraryFn>,
    /// Addresses of functions of the C API that only count, and may ask for a recording. In calls that are kept as calls they are not
    /// emulated: asking is for the real thread.
    pub counting: &'a [u64],
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

/// Instructions between a call of the C API and its arrival: those of PLT stubs.
const MAX_STUB_STEPS: usize = 8;

/// The memory operands of an instruction, with values.
pub(crate) type Accesses = SmallVec<[MemAccess; 1]>;

/// A decoded instruction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetched {
    pub(crate) instruction: Instruction,
    pub(crate) bytes: InstBytes,
    /// Where the machine keeps what else it knows of it.
    pub(crate) slot: u32,
}

/// Decodes the instruction at the beginning of `bytes`, which are what is readable at `ip`.
pub(crate) fn decode(ip: u64, bytes: &[u8]) -> Result<Fetched, Fail> {
    if bytes.is_empty() {
        return Err(Abort::Unreadable.into());
    }
    let instruction = Decoder::with_ip(64, bytes, ip, DecoderOptions::NONE).decode();
    let own = InstBytes::new(&bytes[..instruction.len()]);
    match own {
        Some(bytes) if !instruction.is_invalid() => Ok(Fetched {
            instruction,
            bytes,
            slot: 0,
        }),
        _ => Err(Fail {
            reason: Abort::Undecodable,
            detail: format!("{bytes:02x?}"),
        }),
    }
}

/// Something that executes instructions.
pub(crate) trait Machine: View {
    /// Why it stops: at least the reasons to give up.
    type Error: From<Abort> + From<Fail>;

    /// Registers now.
    fn regs(&self) -> &Gprs;

    /// All registers now.
    fn register_file(&mut self) -> Result<RegisterFile, Self::Error>;

    /// Decodes the instruction at `ip`.
    fn fetch(&mut self, ip: u64) -> Result<Fetched, Self::Error>;

    /// The memory that it is about to use, with the values of what it reads.
    fn accesses(&mut self, factory: &mut InstructionInfoFactory, fetched: &Fetched) -> Result<Accesses, Self::Error>;

    /// Executes the instruction at the instruction pointer, all its iterations if it repeats, and says what memory it used.
    fn execute(&mut self, factory: &mut InstructionInfoFactory, fetched: &Fetched) -> Result<Accesses, Self::Error>;

    /// Executes the `syscall` at the instruction pointer.
    fn syscall(&mut self, fetched: &Fetched) -> Result<(), Self::Error>;

    /// Runs, unrecorded, until it is at this address with this `rsp`.
    fn run_until(&mut self, there: (u64, u64), names: Names) -> Result<(), Self::Error>;

    /// From the entry of `enter` until `leave` has been called as often, and has returned. Gives the return address.
    fn run_region(&mut self, enter: u64, leave: u64) -> Result<u64, Self::Error>;

    /// Goes on at `rip` with these registers, without executing anything.
    fn skip_to(&mut self, rip: u64, rsp: u64, rax: u64) -> Result<(), Self::Error>;
}

/// A call instruction, among the steps, whose target is a function of the C API.
#[derive(Clone, Copy)]
struct ToApi {
    step: usize,
    tail: bool,
}

/// Room that a recording begins with.
const USUAL_STEPS: usize = 2048;

/// One recording.
pub(crate) struct Recorder<'a, M> {
    pub(crate) machine: M,
    pub(crate) steps: Vec<Step>,
    ctx: &'a Ctx<'a>,
    guide: &'a mut dyn Guide,
    max_steps: usize,
    factory: InstructionInfoFactory,
    /// Open inlined calls.
    depth: i32,
    to_api: Option<ToApi>,
    /// The function whose inlining was decided at the call; the jump of its PLT stub is not asked about again.
    asked: Option<u64>,
    /// The thread is at the entry of a function of the C API, and steps into it.
    entered_api: bool,
}

impl<'a, M: Machine> Recorder<'a, M> {
    pub(crate) fn new(machine: M, ctx: &'a Ctx<'a>, guide: &'a mut dyn Guide, max_steps: usize) -> Self {
        Recorder {
            machine,
            steps: Vec::with_capacity(max_steps.min(USUAL_STEPS)),
            ctx,
            guide,
            max_steps,
            factory: InstructionInfoFactory::new(),
            depth: 0,
            to_api: None,
            asked: None,
            entered_api: false,
        }
    }

    /// Records until the guide says so.
    pub(crate) fn run(&mut self) -> Result<End, M::Error> {
        loop {
            if self.steps.len() >= self.max_steps {
                return Err(Abort::TooLong.into());
            }
            let ip = self.machine.regs().rip;
            if !std::mem::take(&mut self.entered_api)
                && let Some(api) = (self.ctx.api)(ip)
            {
                match self.arrive_at_api(api)? {
                    Some(end) => return Ok(end),
                    None => continue,
                }
            }
            let fetched = self.machine.fetch(ip)?;
            if let Some(reason) = refusal(&fetched.instruction) {
                return Err(reason.into());
            }
            match self.guide.on_inst(ip, &fetched.instruction, self.depth) {
                Flow::Continue => {}
                Flow::End(reason) => return Ok(End::Stopped { ip, reason }),
                Flow::Abort(reason) => return Err(reason.into()),
            }
            if let Some(end) = self.execute(&fetched)? {
                return Ok(end);
            }
        }
    }

    /// Executes one instruction, as a step of whatever kind.
    fn execute(&mut self, fetched: &Fetched) -> Result<Option<End>, M::Error> {
        if let Some(to_api) = self.to_api {
            // In a PLT stub on the way to the C API.
            if self.steps.len() > to_api.step + MAX_STUB_STEPS {
                return Err(Fail {
                    reason: Abort::LostTrack,
                    detail: "a stub that does not arrive".into(),
                }
                .into());
            }
            self.plain(fetched)?;
            return Ok(None);
        }
        match fetched.instruction.flow_control() {
            FlowControl::Call if fetched.instruction.mnemonic() == Mnemonic::Syscall => {
                return self.syscall(fetched);
            }
            FlowControl::Call | FlowControl::IndirectCall => return self.transfer(fetched, false),
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => return self.transfer(fetched, true),
            FlowControl::Return => {
                let (target, _) = self.return_address()?;
                if let Some(end) = self.before_return(fetched.instruction.ip(), target)? {
                    return Ok(Some(end));
                }
                self.plain(fetched)?;
                self.depth -= 1;
            }
            _ => self.plain(fetched)?,
        }
        Ok(None)
    }

    /// Executes one instruction and records it.
    fn plain(&mut self, fetched: &Fetched) -> Result<(), M::Error> {
        let mem = self.machine.execute(&mut self.factory, fetched)?;
        let next_ip = self.machine.regs().rip;
        let instruction = &fetched.instruction;
        if instruction.flow_control() == FlowControl::Next && next_ip != instruction.next_ip() {
            return Err(Fail {
                reason: Abort::LostTrack,
                detail: format!("{:#x} led to {next_ip:#x}", instruction.ip()),
            }
            .into());
        }
        self.steps.push(Step::Inst(inst(fetched, next_ip, mem)));
        Ok(())
    }

    fn syscall(&mut self, fetched: &Fetched) -> Result<Option<End>, M::Error> {
        let number = self.machine.regs().rax;
        if REFUSED_SYSCALLS.iter().any(|&n| n as u64 == number) {
            return Err(Fail {
                reason: Abort::Syscall,
                detail: format!("number {number}"),
            }
            .into());
        }
        let instruction = &fetched.instruction;
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
                }
                .into());
            }
        }
        self.machine.syscall(fetched)?;
        if self.machine.regs().rip != instruction.next_ip() {
            return Err(Fail {
                reason: Abort::LostTrack,
                detail: format!("system call {number}"),
            }
            .into());
        }
        let step = inst(fetched, self.machine.regs().rip, SmallVec::new());
        self.steps.push(Step::Inst(step));
        Ok(None)
    }
}

/// The record of an instruction.
fn inst(fetched: &Fetched, next_ip: u64, mem: Accesses) -> Inst {
    Inst {
        ip: fetched.instruction.ip(),
        bytes: fetched.bytes,
        next_ip,
        mem,
    }
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
