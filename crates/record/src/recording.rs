//! The Recording: what a thread did, from an anchor on, in enough detail to compile it without the thread.
//!
//! Two recorders produce it (DESIGN.md section 5), every later stage consumes it, and [`crate::codec`] turns it into bytes and back.
//!
//! Invariants, which the recorders keep and consumers may rely on:
//! * The registers before step 0 are `start`. Those before any other follow by executing the steps; those after a call or region that
//!   ran natively are in its step.
//! * `next_ip` of an instruction is where the thread was after it: the branch outcome. For the steps `a, b` in a row, `b` begins at
//!   where `a` ended.
//! * A repeated string instruction is one [`Inst`], however many iterations.
//! * What signal handlers did in between is not recorded.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use redmagic_tracee::regs::{Gprs, XState};

/// What a thread executed, from an anchor on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Where and when.
    pub meta: Meta,
    /// Executable images, ascending.
    pub images: Vec<ImageRange>,
    /// What it starts at.
    pub anchor: Anchor,
    /// Registers before the first step.
    pub start: RegisterFile,
    /// What was executed.
    pub steps: Vec<Step>,
    /// Why it ends.
    pub end: End,
}

/// Where and when a recording was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Meta {
    /// Process.
    pub pid: i32,
    /// Thread.
    pub tid: i32,
    /// Path of the program.
    pub program: String,
    /// When it began, in milliseconds since the epoch.
    pub unix_ms: u64,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
    /// Signals delivered meanwhile.
    pub signals: u32,
    /// The memory that does not change among what was read: filled in when the recording is saved.
    pub constant: Vec<ConstantBlock>,
}

/// A block of memory that does not change, or not by the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConstantBlock {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// What is known of it.
    pub kind: BlockKind,
}

/// Why a block of memory does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockKind {
    /// The program declared it, and may end it.
    Declared,
    /// A read-only mapping of a file.
    ReadOnly,
    /// It may change, but the program itself never writes there: the shim's page.
    Unwritten,
}

/// An executable image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRange {
    /// First byte.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// File.
    pub path: String,
    /// Whether calls into it are inlined: the interpreter's own.
    pub own: bool,
}

/// Index of a function of the C API in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Api(pub u8);

/// Which anchor function a root trace starts after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AnchorKind(pub u8);

/// What a recording starts at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Anchor {
    /// The return of an anchor function.
    Root {
        /// Which function.
        kind: AnchorKind,
        /// The place in the interpreted program.
        id: u64,
        /// Where the call returns to.
        return_address: u64,
    },
    /// A guard exit of an existing trace.
    Exit {
        /// The exit's number.
        exit: u32,
        /// Where it leaves to.
        target: u64,
    },
}

/// The register file of a thread.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RegisterFile {
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8..r15: the order in which instructions encode them.
    pub gpr: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Base of fs.
    pub fs_base: u64,
    /// Base of gs.
    pub gs_base: u64,
    /// XSAVE area, standard format.
    pub xsave: Vec<u8>,
}

impl RegisterFile {
    /// From what the kernel says.
    pub fn new(regs: &Gprs, xstate: XState) -> Self {
        RegisterFile {
            gpr: regs.array(),
            rip: regs.rip,
            rflags: regs.rflags,
            fs_base: regs.fs_base,
            gs_base: regs.gs_base,
            xsave: xstate.0,
        }
    }

    /// The stack pointer.
    pub fn rsp(&self) -> u64 {
        self.gpr[4]
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// An instruction.
    Inst(Inst),
    /// A call that ran natively.
    Residual(Box<Residual>),
    /// A call of the C API.
    Shim(Box<ShimCall>),
    /// From temp_disable to temp_enable, which ran natively.
    Native(Box<NativeRegion>),
}

// Nearly all steps are instructions, and there are thousands of them: the others do not make them larger.

impl From<Residual> for Step {
    fn from(residual: Residual) -> Step {
        Step::Residual(Box::new(residual))
    }
}

impl From<ShimCall> for Step {
    fn from(call: ShimCall) -> Step {
        Step::Shim(Box::new(call))
    }
}

impl From<NativeRegion> for Step {
    fn from(region: NativeRegion) -> Step {
        Step::Native(Box::new(region))
    }
}

impl Step {
    /// Where the step begins.
    pub fn ip(&self) -> u64 {
        match self {
            Step::Inst(inst) => inst.ip,
            Step::Residual(residual) => residual.call.ip,
            Step::Shim(shim) => shim.call.ip,
            Step::Native(native) => native.start_ip,
        }
    }

    /// Where the thread was after it.
    pub fn next_ip(&self) -> u64 {
        match self {
            Step::Inst(inst) => inst.next_ip,
            Step::Residual(residual) => residual.return_address,
            Step::Shim(shim) => shim.return_address,
            Step::Native(native) => native.resume_ip,
        }
    }
}

/// An executed instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inst {
    /// Its address.
    pub ip: u64,
    /// Its bytes, 1 to 15.
    pub bytes: InstBytes,
    /// Where the thread was after it.
    pub next_ip: u64,
    /// Its memory operands, in iced's order.
    #[serde(with = "small_seq")]
    pub mem: SmallVec<[MemAccess; 1]>,
}

/// How an instruction uses a memory operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessKind {
    /// Read only.
    Read,
    /// Written only.
    Write,
    /// Read, then written.
    ReadWrite,
}

/// A memory operand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemAccess {
    /// Lowest address.
    pub addr: u64,
    /// Bytes.
    pub size: u32,
    /// Read or written.
    pub kind: AccessKind,
    /// The bytes there: before the instruction if it reads them, after it if it only writes. Shorter than `size` for repeated
    /// string instructions on more than [`MAX_VALUE`] bytes, and empty where memory could not be read.
    pub value: Bytes,
}

/// Most bytes of a memory operand that are recorded.
pub const MAX_VALUE: usize = 4096;

/// A call that ran natively, with everything that it called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residual {
    /// The call or (for a tail call) jump instruction. `next_ip` is its immediate target, which may be a PLT stub.
    pub call: Inst,
    /// The function, behind any PLT stub.
    pub target: u64,
    /// Where it returned to.
    pub return_address: u64,
    /// Registers there.
    pub after: RegisterFile,
    /// What is known of the function, if it is looked up by a name that the C standard defines.
    pub library: Option<LibraryCall>,
}

/// A call of a function of the C library whose name says what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibraryCall {
    /// Which.
    pub function: LibraryFn,
    /// rdi, rsi and rdx at the call; the last is a number of bytes.
    pub args: [u64; 3],
}

macro_rules! library {
    ($($variant:ident = $name:literal;)*) => {
        /// A function of the C library whose name says what it does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum LibraryFn { $(#[doc = concat!("`", $name, "`.")] $variant,)* }

        impl LibraryFn {
            /// The one with this name.
            pub fn named(name: &str) -> Option<LibraryFn> {
                match name {
                    $($name => Some(LibraryFn::$variant),)*
                    _ => None,
                }
            }

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(LibraryFn::$variant => $name,)* }
            }
        }
    };
}

library! {
    Memset = "memset";
    Memcpy = "memcpy";
    Memmove = "memmove";
}

/// A call of a function of the C API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimCall {
    /// The call or jump instruction.
    pub call: Inst,
    /// Which function.
    pub api: Api,
    /// rdi and rsi.
    pub args: [u64; 2],
    /// Where it returns to.
    pub return_address: u64,
    /// rsp at the return: that before the call pushed its return address.
    pub rsp: u64,
    /// rax at the return.
    pub result: u64,
    /// Whether it was executed.
    pub action: ShimExecution,
}

/// Whether a function of the C API was executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShimExecution {
    /// Not executed: the thread was moved to the return address, and nothing but rax and rsp changed.
    Skipped,
    /// Executed natively; the registers after it.
    Executed(Box<RegisterFile>),
}

/// A region that ran natively.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeRegion {
    /// The call of temp_disable.
    pub start_ip: u64,
    /// Where the matching temp_enable returned to.
    pub resume_ip: u64,
    /// Registers there.
    pub after: RegisterFile,
}

/// Why a recording ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It came to an anchor: its own, or another trace's.
    Anchor {
        /// Which function.
        api: Api,
        /// Its argument.
        id: u64,
        /// Where it returns to.
        return_address: u64,
        /// The call instruction, which is not among the steps.
        ip: u64,
        /// rsp before the call.
        rsp: u64,
    },
    /// The policy said so, before the instruction at `ip`.
    Stopped {
        /// The next instruction.
        ip: u64,
        /// Meaningful to the policy.
        reason: u32,
    },
}

/// A short run of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub SmallVec<[u8; 16]>);

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Bytes(SmallVec::from_slice(bytes))
    }
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

/// The bytes of one instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstBytes {
    len: u8,
    bytes: [u8; 15],
}

impl InstBytes {
    /// `None` unless there are 1 to 15.
    pub fn new(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; 15];
        if from.is_empty() {
            return None;
        }
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(InstBytes {
            len: from.len() as u8,
            bytes,
        })
    }
}

impl std::ops::Deref for InstBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Serialize for InstBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

/// Takes bytes as they lie in the input: a corrupt length allocates nothing.
struct BytesVisitor<F>(F);

impl<T, F: FnOnce(&[u8]) -> Option<T>> serde::de::Visitor<'_> for BytesVisitor<F> {
    type Value = T;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a byte string of an allowed length")
    }
    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<T, E> {
        (self.0)(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &"an allowed length"))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor(|bytes: &[u8]| {
            (bytes.len() <= MAX_VALUE).then(|| Bytes::from(bytes))
        }))
    }
}

impl<'de> Deserialize<'de> for InstBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor(InstBytes::new))
    }
}

/// A `SmallVec` as a sequence. smallvec's own code reserves what the input claims; this reserves nothing.
mod small_seq {
    use serde::ser::SerializeSeq;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use smallvec::{Array, SmallVec};

    pub fn serialize<A: Array, S: Serializer>(vec: &SmallVec<A>, serializer: S) -> Result<S::Ok, S::Error>
    where
        A::Item: Serialize,
    {
        let mut seq = serializer.serialize_seq(Some(vec.len()))?;
        for item in vec {
            seq.serialize_element(item)?;
        }
        seq.end()
    }

    pub fn deserialize<'de, A: Array, D: Deserializer<'de>>(deserializer: D) -> Result<SmallVec<A>, D::Error>
    where
        A::Item: Deserialize<'de>,
    {
        struct Visitor<A>(std::marker::PhantomData<A>);
        impl<'de, A: Array> serde::de::Visitor<'de> for Visitor<A>
        where
            A::Item: Deserialize<'de>,
        {
            type Value = SmallVec<A>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a sequence")
            }
            fn visit_seq<S: serde::de::SeqAccess<'de>>(self, mut seq: S) -> Result<SmallVec<A>, S::Error> {
                let mut vec = SmallVec::new();
                while let Some(item) = seq.next_element()? {
                    vec.push(item);
                }
                Ok(vec)
            }
        }
        deserializer.deserialize_seq(Visitor(std::marker::PhantomData))
    }
}
