//! Why recordings are given up: one table, one line each.
//!
//! To add a reason, add a line. The name is what `status`, `explain` and logs show and tests match; the text is for the person who
//! runs the program; the last column says who can do something about it.

use serde::{Deserialize, Serialize};

/// Who can do something about an aborted recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// Nobody needs to: it is transient, and the next attempt may succeed.
    Nobody,
    /// Whoever runs the program (a limit, a setting).
    User,
    /// Whoever annotated the interpreter.
    Embedder,
    /// Whoever works on Redmagic.
    Developer,
}

macro_rules! abort_reasons {
    ($($variant:ident = $name:literal, $who:ident, $text:literal;)*) => {
        /// Why a recording was given up.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Abort { $(#[doc = $text] $variant,)* }

        impl Abort {
            /// All reasons, in the order of the table.
            pub const ALL: &'static [Abort] = &[$(Abort::$variant,)*];

            /// Short name, stable, lower case with hyphens.
            pub fn name(self) -> &'static str {
                match self { $(Abort::$variant => $name,)* }
            }

            /// One line for users.
            pub fn explanation(self) -> &'static str {
                match self { $(Abort::$variant => $text,)* }
            }

            /// Who can do something about it.
            pub fn who(self) -> Who {
                match self { $(Abort::$variant => Who::$who,)* }
            }
        }
    };
}

abort_reasons! {
    // What the thread ran into.
    Undecodable = "undecodable", Developer, "bytes that are no known instruction";
    Unreadable = "unreadable", Nobody, "the instruction's own bytes could not be read";
    Interrupt = "interrupt", Embedder, "int3, int, ud2, hlt or another instruction that raises an exception on purpose";
    FarBranch = "far-branch", Developer, "a far call, jump or return, or iret";
    Transaction = "transaction", Developer, "a hardware transaction (xbegin), which a single step always aborts";
    SegmentLoad = "segment-load", Developer, "a load of the stack segment register, which hides the next single step";
    Gather = "gather", Developer, "a memory operand with a vector of indices";
    UnknownSize = "unknown-size", Developer, "a memory operand whose size depends on the processor (xsave and relatives)";
    LostTrack = "lost-track", Developer, "the thread was not where its last instruction should have taken it";
    // Calls.
    LazyBinding = "lazy-binding", Nobody, "the first call through a lazily bound PLT slot; it is bound the next time";
    CallRefused = "call-refused", Embedder, "a call that the recording policy does not allow";
    CallTimeout = "call-timeout", User, "a call kept as a call did not return in time";
    CallEscaped = "call-escaped", Embedder, "a call kept as a call was left by longjmp or an exception";
    NativeTimeout = "native-timeout", User, "a temporarily disabled region did not end in time";
    NativeEscaped = "native-escaped", Embedder, "temp_disable and temp_enable were not called by the same activation";
    EnsureNotTraced = "ensure-not-traced", Embedder, "the program says that this point must not be traced";
    // System calls and signals.
    Syscall = "syscall", Embedder, "a system call that cannot be part of a trace";
    SyscallBlocked = "syscall-blocked", Nobody, "a system call blocked for too long";
    SignalTimeout = "signal-timeout", Nobody, "a signal handler did not return to where it came from in time";
    TrapNotCaught = "trap-not-caught", Embedder,
        "the program has no SIGTRAP handler (redmagic_start installs one), so that single-stepping it is not safe";
    TrapLost = "trap-lost", Embedder, "the program's SIGTRAP handler was reset while SIGTRAP was blocked";
    MaskSeen = "mask-seen", Embedder, "a thread that blocks SIGTRAP asked for its signal mask, which differs while it is recorded";
    JobControl = "job-control", Nobody, "the program was stopped by job control";
    // Limits.
    TooLong = "too-long", User, "more instructions than the limit for one recording";
    TooSlow = "too-slow", User, "the recording took longer than its time limit";
    TooManySignals = "too-many-signals", Nobody, "more signals than the limit for one recording";
    // The shape of the trace.
    InnerLoop = "inner-loop", Nobody, "an inner loop that has no trace yet; it is recorded first";
    LoopLeft = "loop-left", Nobody, "the loop ended while it was recorded";
    FrameLeft = "frame-left", Nobody, "the activation in which the recording began ended";
    NativeLoop = "native-loop", Nobody, "a loop inside a called function; the function is kept as a call from now on";
    NotWorth = "not-worth", Nobody, "a trace of one activation that would save less than entering and leaving it costs";
    OtherTurn = "other-turn", Nobody, "a turn that comes after one through this side trace goes another way, as many may; it gets no loop of its own yet";
    NotYetSure = "not-yet-sure", Nobody, "turns through this side trace come one after the other; before it gets a loop of its own that is looked at again";
    Nesting = "nesting", Nobody, "the loop goes on in an inner activation of its interpreter; the call that leads there is kept as a call from now on";
    ReturnsTwice = "returns-twice", Nobody, "a call of setjmp or its like; its caller is kept as a call from now on";
    Unbalanced = "unbalanced", Embedder, "temp_enable without a temp_disable";
    // What cannot be compiled.
    LiveFlags = "live-flags", Developer, "an indirect jump that leaves flags which are read later";
    OpenMerge = "open-merge-block", Embedder, "a merge block that is not closed within the trace";
    UnsupportedInstruction = "unsupported-instruction", Developer, "an instruction that the copy tier cannot repeat elsewhere";
    OutOfReach = "out-of-reach", User, "code or data more than 2 GiB from the code region";
    CacheFull = "code-cache-full", User, "the code region is full: REDMAGIC_CODESIZE sets its size";
    EntriesFull = "entries-full", Developer, "no place for another anchor with an id of this hash";
    Disabled = "disabled", Embedder, "redmagic_disable_branch was called for this id";
    // Ends.
    Died = "died", Nobody, "the thread ended";
    Exec = "exec", Nobody, "the program replaced itself by another";
    Traced = "ptrace-failed", Developer, "ptrace refused a request that should have worked";
    NoBreakpoints = "no-breakpoints", User, "this machine's hardware breakpoints are refused or used by another debugger";
    ConstantEnded = "constant-ended", Nobody, "constant memory that the trace relies on ended while it was compiled";
    Policy = "policy", Nobody, "the recording policy ended it";
}

impl std::fmt::Display for Abort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A given-up recording.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at {ip:#x} after {steps} steps: {}{}", reason.explanation(), if detail.is_empty() { String::new() } else { format!(" ({detail})") })]
pub struct Aborted {
    /// Why.
    pub reason: Abort,
    /// Where the thread was.
    pub ip: u64,
    /// Steps recorded by then.
    pub steps: usize,
    /// What else is known; may be empty.
    pub detail: String,
    /// Signals that were delivered by then.
    pub signals: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_well_formed() {
        let mut names: Vec<_> = Abort::ALL.iter().map(|a| a.name()).collect();
        assert!(
            names
                .iter()
                .all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Abort::ALL.len());
    }
}
