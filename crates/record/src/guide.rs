//! The questions that a recorder asks whoever decides.

use iced_x86::Instruction;

use crate::abort::Abort;
use crate::recording::Api;

/// A call, or a tail call, that the thread is about to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallSite {
    /// The instruction.
    pub ip: u64,
    /// Where it goes.
    pub target: u64,
    /// The function behind any PLT stub.
    pub resolved: u64,
    /// The stub's slot is not bound yet: `resolved` is the dynamic linker's helper.
    pub lazy: bool,
    /// Where the function will return to.
    pub return_address: u64,
    /// rsp when it has returned.
    pub rsp: u64,
    /// Whether `resolved` is in one of the interpreter's own images.
    pub in_own_image: bool,
    /// A jump: the function returns to the caller's caller.
    pub tail: bool,
    /// Inlined calls that are open.
    pub depth: u32,
}

/// What to do about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallAction {
    /// Record what it executes.
    Inline,
    /// Let it run, and record that it was made.
    Residual,
    /// Give up.
    Abort(Abort),
}

/// The thread has arrived at the first instruction of a function of the C API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShimCallSite {
    /// Which.
    pub api: Api,
    /// rdi and rsi.
    pub args: [u64; 2],
    /// Where it will return to.
    pub return_address: u64,
    /// The call instruction.
    pub ip: u64,
    /// rsp when it has returned.
    pub rsp: u64,
    /// A jump: the function returns to the caller's caller.
    pub tail: bool,
    /// Inlined calls that are open.
    pub depth: u32,
}

/// What to do about a call of the C API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShimAction {
    /// Do not execute it: return at once with this result.
    Skip {
        /// rax.
        result: u64,
    },
    /// Record what it executes.
    StepInto,
    /// Let it run, and record that it was called.
    RunNative,
    /// Let the thread run from here until the function at `leave` has been called as often as the one at `enter`
    /// (this call included) and has returned: temp_disable and temp_enable.
    NativeUntil {
        /// First instruction of temp_disable.
        enter: u64,
        /// First instruction of temp_enable.
        leave: u64,
    },
    /// The recording is complete: [`crate::recording::End::Anchor`].
    End,
    /// Give up.
    Abort(Abort),
}

/// What to do about an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Execute it.
    Continue,
    /// The recording is complete before it: [`crate::recording::End::Stopped`] with this reason.
    End(u32),
    /// Give up.
    Abort(Abort),
}

/// Decides what a recorder does.
pub trait Guide {
    /// Before each instruction; `depth` is the number of open inlined calls (negative: returned from the first frame).
    fn on_inst(&mut self, _ip: u64, _instruction: &Instruction, _depth: i32) -> Flow {
        Flow::Continue
    }

    /// After each indirect jump within a function, to `ip`, with what the general registers hold then, in the order of their encoding.
    fn on_jump(&mut self, _ip: u64, _regs: &[u64; 16]) -> Flow {
        Flow::Continue
    }

    /// Before each return from the first frame or a caller of it, to `target`.
    fn on_return(&mut self, _target: u64) -> Flow {
        Flow::Continue
    }

    /// Before each call, and before each jump that leaves the own images or goes to what [`Guide::is_call_target`] says.
    fn on_call(&mut self, site: &CallSite) -> CallAction;

    /// Whether a jump to this address, in an own image, is to be treated as a call (a `do_not_trace` function that is tail-called).
    fn is_call_target(&mut self, _address: u64) -> bool {
        false
    }

    /// On arrival at a function of the C API.
    fn on_shim_call(&mut self, site: &ShimCallSite) -> ShimAction;

    /// Before each `syscall` instruction. Calls that end or replace the thread are aborted without asking.
    fn on_syscall(&mut self, _number: u64) -> Flow {
        Flow::Continue
    }
}
