//! The copy tier: recorded instructions again, with guards in place of branches.
//!
//! It needs no IR and takes microseconds, and since at every point its machine state is
//! exactly that of the original code, it can be left anywhere and rests on no
//! assumption but that the program's text does not change. What it wins is what
//! straight-line code wins: no taken branches, indirect jumps that have become
//! compares, and one place per interpreter instruction for the predictors to learn.
//!
//! What becomes of a step:
//!
//! | recorded | emitted |
//! |---|---|
//! | an instruction | its bytes; re-encoded when RIP-relative |
//! | `jcc` | `jcc` to an exit when it goes the other way |
//! | `jmp` | nothing; through a register or memory: a compare with where it went |
//! | inlined `call` | a push of the *original* return address |
//! | `ret` | a compare of the return address (unless it was pushed in the trace), then a pop |
//! | call kept as a call | a call; see below |
//! | call of the shim | what the function means (see [`Op`]) |
//!
//! # Calls kept as calls
//!
//! The callee finds the trace's own return address on the stack. An unwinder that
//! passes must find the original function there. So each such call is followed by a
//! seven-byte NOP whose displacement is the distance from itself to the original return
//! address, and one frame description for the whole code region (see `engine`) computes
//! the caller's address from it: to an unwinder the trace is an empty frame below the
//! function it replaces.
//!
//! # Flags
//!
//! A compare in place of a `ret`, a `call` or an indirect `jmp` overwrites the status
//! flags. At calls and returns they are dead by the C ABI. Of an indirect jump the
//! planner (who sees what follows) says whether flags are live, and refuses if so.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::asm::{Asm, AsmError, Datum, Label, cond};
use crate::exits::{Exit, ExitEnvironment, Exits, Fixups};

/// One thing a copied trace does, in order. `ip`s are addresses of the original code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Repeat an instruction that does not branch.
    Copy {
        /// The instruction.
        code: Source,
    },
    /// A conditional branch that went to `taken` (of `code.next` and its target).
    Branch {
        /// The instruction.
        code: Source,
        /// Whether it jumped.
        taken: bool,
    },
    /// An indirect jump that went to `target`.
    Jump {
        /// The instruction.
        code: Source,
        /// Where it went.
        target: u64,
    },
    /// A call that the trace follows; indirect ones are guarded.
    Call {
        /// The instruction.
        code: Source,
        /// Where it went.
        target: u64,
    },
    /// A return that went to `target`.
    Return {
        /// The instruction.
        code: Source,
        /// Where it went.
        target: u64,
        /// Whether it may go elsewhere. It may not if its return address was pushed in the
        /// trace, in a slot that nothing else can reach.
        guarded: bool,
    },
    /// A call that stays a call. Indirect ones are not guarded: whatever is called
    /// comes back.
    Residual {
        /// A `call`, or a `jmp` (a tail call) to somewhere that returns to `return_address`.
        code: Source,
        /// Where the callee returns to in the original code.
        return_address: u64,
    },
    /// The first argument of the call at `ip` is `value`, or the trace is left there.
    GuardArgument {
        /// Address of the call.
        ip: u64,
        /// The value it had.
        value: u64,
    },
    /// A shim function that is not called: its result.
    Result {
        /// What rax becomes.
        value: ShimResult,
    },
    /// A tail call of a shim function that is not called: only its return is left.
    ReturnFromShim {
        /// Address of the jump.
        ip: u64,
        /// Where it returned to.
        target: u64,
    },
    /// `begin_merge_block`; the matching end returns to `end_return`.
    BeginMerge {
        /// Return address of the `end_merge_block` that was recorded.
        end_return: u64,
    },
    /// `end_merge_block`: where native code rejoins.
    EndMerge,
    /// Put a value into a register that the original code has it in.
    Set {
        /// Number of the register in the encoding.
        register: u8,
        /// The value.
        value: u64,
    },
    /// Put the status flags to this value.
    SetFlags(u32),
    /// From here on, exits must do this.
    Fixups(Fixups),
    /// Leave at `ip` unless a register has a value. The status flags are lost.
    GuardRegister {
        /// Where to leave to.
        ip: u64,
        /// Number of the register in the encoding.
        register: u8,
        /// The value.
        value: u64,
    },
    /// Leave at `ip`, uncounted, unless the words at two addresses are equal: the
    /// generation of constant memory, and the one that the trace was validated for. The
    /// status flags are lost.
    CheckGeneration {
        /// Where to leave to.
        ip: u64,
        /// Address of the current generation.
        current: u64,
        /// Address of the word with the valid one.
        valid: u64,
    },
    /// `temp_disable` to `temp_enable`, run natively.
    Disabled {
        /// Where native code takes over: the call of `temp_disable` itself.
        start: u64,
        /// The return address of the `temp_enable` at which it comes back.
        enable_return: u64,
    },
}

/// The result of a shim function that a trace does not call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShimResult {
    /// None: rax is dead.
    Nothing,
    /// A constant.
    Constant(u32),
    /// Its argument.
    Argument,
}

/// How a trace ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At an anchor: guards the id and jumps through the anchor's slot.
    Anchor {
        /// Address of the anchor's call: where to leave when the id differs.
        ip: u64,
        /// The id.
        id: u64,
        /// The word to jump through: the anchor's code, or `ip` while it has none.
        slot: u64,
        /// Whether the id may differ.
        guarded: bool,
    },
    /// In the original code.
    Native {
        /// Where.
        target: u64,
    },
}

/// An instruction of the original code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Its address.
    pub ip: u64,
    /// Its bytes.
    pub bytes: [u8; 15],
    /// How many of them.
    pub length: u8,
    /// Index of the recorded step, for exits and listings.
    pub step: u32,
}

impl Source {
    /// Decodes it.
    pub fn decode(&self) -> Instruction {
        Decoder::with_ip(
            64,
            &self.bytes[..usize::from(self.length)],
            self.ip,
            DecoderOptions::NONE,
        )
        .decode()
    }
}

/// Where code is to stand and what it may refer to.
#[derive(Debug, Clone, Copy)]
pub struct Environment {
    /// Address of the code.
    pub base: u64,
    /// Address of the stubs of an optimised trace; `None`: behind its code. Stubs are several times as long as the code, and
    /// few are ever run: between the code of traces they would spread it over as many times the pages.
    pub cold_base: Option<u64>,
    /// Address of its data.
    pub data_base: u64,
    /// Number of its first exit.
    pub first_exit: u32,
    /// For exits.
    pub exits: ExitEnvironment,
    /// Offsets from fs of the shim's thread-local words.
    pub thread: ThreadOffsets,
}

/// Offsets from fs:0 of what generated code writes in the shim's thread-local words.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadOffsets {
    /// `ThreadWords::merge`.
    pub merge: RejoinOffsets,
    /// `ThreadWords::enable`.
    pub enable: RejoinOffsets,
}

/// Offsets of one `Rejoin`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RejoinOffsets {
    /// Of `code`.
    pub code: i32,
    /// Of `return_address`.
    pub return_address: i32,
    /// Of `rsp`.
    pub rsp: i32,
}

/// A copied trace.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// Code for [`Environment::base`], and after it that for [`Environment::cold_base`].
    pub code: Vec<u8>,
    /// Bytes of the former.
    pub hot: usize,
    /// Data for [`Environment::data_base`].
    pub data: Vec<u64>,
    /// Where the shim's anchors enter (the return address is still on the stack).
    /// Meaningless for a side trace.
    pub entry: u64,
    /// Where loops and links enter.
    pub body: u64,
    /// Its exits.
    pub exits: Vec<Exit>,
    /// For listings: address of generated code, and the step it comes from.
    pub lines: Vec<(u64, u32)>,
    /// For optimised traces: the operation whose register the result of each shares.
    pub shared: Vec<u32>,
    /// For optimised loops, if it was asked for: the word through which they come to their head each time, which it holds at
    /// first. No flag is live there.
    pub turn: Option<Datum>,
    /// For optimised traces: how far the stack pointer of the entry is above the machine's, in bytes.
    pub frame: i64,
}

/// Why a trace cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Assembling failed.
    #[error(transparent)]
    Asm(#[from] AsmError),
    /// An instruction that cannot stand in a trace.
    #[error("{mnemonic:?} at {ip:#x} cannot be copied")]
    Unsupported {
        /// Its address.
        ip: u64,
        /// What it is.
        mnemonic: Mnemonic,
    },
    /// A merge block that begins in the trace and does not end in it.
    #[error("a merge block is still open at the end of the trace")]
    OpenMerge,
}

/// Whether a trace begins at an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the return address of the anchor's call on the stack.
    Anchor,
    /// At an exit of another trace, with the machine state of the original code.
    Exit,
}

/// Compiles a trace.
///
/// # Errors
/// See [`CopyError`]; nothing is half done.
pub fn compile(start: Start, ops: &[Op], end: End, environment: &Environment) -> Result<Compiled, CopyError> {
    let mut copier = Copier {
        asm: Asm::new(environment.base, environment.data_base),
        exits: Exits::new(environment.first_exit),
        environment,
        merges: Vec::new(),
        lines: Vec::with_capacity(ops.len()),
        fixups: Fixups::default(),
    };
    let entry = copier.asm.here();
    if start == Start::Anchor {
        copier.asm.adjust_rsp(8);
    }
    copier.asm.align(32);
    let body = copier.asm.here();
    for op in ops {
        copier.op(op)?;
    }
    if !copier.merges.is_empty() {
        return Err(CopyError::OpenMerge);
    }
    copier.end(end)?;
    let Copier {
        mut asm, exits, lines, ..
    } = copier;
    let exits = exits.finish(&mut asm, &environment.exits)?;
    let done = asm.finish()?;
    Ok(Compiled {
        code: done.code,
        hot: done.hot,
        data: done.data,
        entry,
        body,
        exits,
        shared: Vec::new(),
        turn: None,
        frame: 0,
        lines,
    })
}

struct Copier<'a> {
    asm: Asm,
    exits: Exits,
    environment: &'a Environment,
    /// Where the open merge blocks rejoin, innermost last.
    merges: Vec<Label>,
    lines: Vec<(u64, u32)>,
    /// What exits must do at this point.
    fixups: Fixups,
}

/// Numbers of registers in the encoding.
const RAX: u8 = 0;
const RDI: u8 = 7;

impl Copier<'_> {
    fn op(&mut self, op: &Op) -> Result<(), CopyError> {
        if let Op::Copy { code }
        | Op::Branch { code, .. }
        | Op::Jump { code, .. }
        | Op::Call { code, .. }
        | Op::Return { code, .. }
        | Op::Residual { code, .. } = op
        {
            self.lines.push((self.asm.here(), code.step));
        }
        match op {
            Op::Copy { code } => self.copy(code),
            Op::Branch { code, taken } => self.branch(code, *taken),
            Op::Jump { code, target } => {
                let instruction = code.decode();
                self.guard_target(&instruction, code, *target)
            }
            Op::Call { code, target } => {
                let instruction = code.decode();
                if instruction.op0_kind() != OpKind::NearBranch64 {
                    self.guard_target(&instruction, code, *target)?;
                }
                let address = self.asm.datum(instruction.next_ip());
                Ok(self.asm.push_datum(address)?)
            }
            Op::Return { code, target, guarded } => {
                let instruction = code.decode();
                if *guarded {
                    self.guard_return(code.ip, code.step, *target)?;
                }
                let extra = if instruction.op_count() == 1 {
                    i32::from(instruction.immediate16())
                } else {
                    0
                };
                self.asm.adjust_rsp(8 + extra);
                Ok(())
            }
            Op::Residual { code, return_address } => self.residual(code, *return_address),
            Op::GuardArgument { ip, value } => {
                let step = self.step();
                let exit = self.exits.add(&mut self.asm, *ip, step, &self.fixups);
                let value = self.asm.datum(*value);
                self.asm.cmp_reg_datum(RDI, value)?;
                self.asm.jcc(cond::NE, exit);
                Ok(())
            }
            Op::Result { value } => {
                match value {
                    ShimResult::Nothing => {}
                    ShimResult::Constant(value) => {
                        self.asm.bytes(&[0xb8]); // mov eax, imm32
                        self.asm.bytes(&value.to_le_bytes());
                    }
                    ShimResult::Argument => self.asm.bytes(&[0x48, 0x89, 0xf8]), // mov rax, rdi
                }
                Ok(())
            }
            Op::ReturnFromShim { ip, target } => {
                let step = self.step();
                self.guard_return(*ip, step, *target)?;
                self.asm.adjust_rsp(8);
                Ok(())
            }
            Op::BeginMerge { end_return } => {
                let rejoin = self.asm.label();
                self.set_rejoin(self.environment.thread.merge, rejoin, *end_return)?;
                self.merges.push(rejoin);
                Ok(())
            }
            Op::EndMerge => {
                let rejoin = self.merges.pop().ok_or(CopyError::OpenMerge)?;
                self.store_fs_imm32(self.environment.thread.merge.code, 0);
                self.asm.bind(rejoin);
                Ok(())
            }
            Op::Set { register, value } => {
                self.asm.mov_reg_imm(*register, *value);
                Ok(())
            }
            Op::SetFlags(flags) => {
                self.asm.set_flags(*flags);
                Ok(())
            }
            Op::Fixups(fixups) => {
                self.fixups = fixups.clone();
                Ok(())
            }
            Op::GuardRegister { ip, register, value } => {
                let step = self.step();
                let exit = self.exits.add(&mut self.asm, *ip, step, &self.fixups);
                let value = self.asm.datum(*value);
                self.asm.cmp_reg_datum(*register, value)?;
                self.asm.jcc(cond::NE, exit);
                Ok(())
            }
            Op::CheckGeneration { ip, current, valid } => {
                let step = self.step();
                let exit = self.exits.add_silent(&mut self.asm, *ip, step, &self.fixups);
                // Over the red zone, with a register that is put back before the jump.
                self.asm.adjust_rsp(-128);
                self.asm.bytes(&[0x51]); // push rcx
                self.asm.load_ecx(*current)?;
                self.asm.cmp_ecx(*valid)?;
                self.asm.bytes(&[0x59]); // pop rcx
                self.asm.adjust_rsp(128);
                self.asm.jcc(cond::NE, exit);
                Ok(())
            }
            Op::Disabled { start, enable_return } => {
                let rejoin = self.asm.label();
                self.set_rejoin(self.environment.thread.enable, rejoin, *enable_return)?;
                self.asm.jmp_address(*start)?;
                self.asm.bind(rejoin);
                Ok(())
            }
        }
    }

    /// The step that is being compiled.
    fn step(&self) -> u32 {
        self.lines.last().map_or(0, |line| line.1)
    }

    fn copy(&mut self, code: &Source) -> Result<(), CopyError> {
        let instruction = code.decode();
        use iced_x86::FlowControl as F;
        match instruction.flow_control() {
            F::Next => {}
            // A system call leaves its own address in rcx, which the ABI calls clobbered.
            F::Call if instruction.mnemonic() == Mnemonic::Syscall => {}
            _ => {
                return Err(CopyError::Unsupported {
                    ip: code.ip,
                    mnemonic: instruction.mnemonic(),
                });
            }
        }
        if instruction.mnemonic() == Mnemonic::Endbr64 {
            return Ok(());
        }
        if instruction.is_ip_rel_memory_operand() {
            self.asm.reencode(&instruction)?;
        } else {
            self.asm.bytes(&code.bytes[..usize::from(code.length)]);
        }
        Ok(())
    }

    fn branch(&mut self, code: &Source, taken: bool) -> Result<(), CopyError> {
        let instruction = code.decode();
        let other = if taken {
            instruction.next_ip()
        } else {
            instruction.near_branch_target()
        };
        let exit = self.exits.add(&mut self.asm, other, code.step, &self.fixups);
        if instruction.is_jcc_short_or_near() {
            // The condition is the low nibble of either form's opcode.
            let condition = condition_code(&instruction);
            self.asm.jcc(if taken { condition ^ 1 } else { condition }, exit);
            return Ok(());
        }
        if !(instruction.is_loop() || instruction.is_loopcc() || instruction.is_jcx_short()) {
            return Err(CopyError::Unsupported {
                ip: code.ip,
                mnemonic: instruction.mnemonic(),
            });
        }
        // These have a short form only, so they jump over a jump:
        //   taken:      loop 1f; jmp exit; 1:
        //   not taken:  loop 1f; jmp 2f; 1: jmp exit; 2:
        let opcode = &code.bytes[..usize::from(code.length) - 1];
        self.asm.bytes(opcode);
        self.asm.bytes(&[5]);
        if taken {
            self.asm.jmp(exit);
        } else {
            self.asm.bytes(&[0xe9, 5, 0, 0, 0]);
            self.asm.jmp(exit);
        }
        Ok(())
    }

    /// Leaves the trace at `code` unless its operand is `target`.
    fn guard_target(&mut self, instruction: &Instruction, code: &Source, target: u64) -> Result<(), CopyError> {
        let exit = self.exits.add(&mut self.asm, code.ip, code.step, &self.fixups);
        match instruction.op0_kind() {
            OpKind::Register if instruction.op0_register().is_gpr64() => {
                let value = self.asm.datum(target);
                self.asm
                    .cmp_reg_datum(instruction.op0_register().number() as u8, value)?;
                self.asm.jcc(cond::NE, exit);
                Ok(())
            }
            OpKind::Memory if instruction.memory_size().size() == 8 => {
                for (offset, half) in [(0, target as u32), (4, (target >> 32) as u32)] {
                    self.asm.cmp_operand_imm32(instruction, offset, half)?;
                    self.asm.jcc(cond::NE, exit);
                }
                Ok(())
            }
            _ => Err(CopyError::Unsupported {
                ip: code.ip,
                mnemonic: instruction.mnemonic(),
            }),
        }
    }

    /// Leaves the trace at `ip` unless the word on the stack is `target`. Two compares with
    /// immediates need no register.
    fn guard_return(&mut self, ip: u64, step: u32, target: u64) -> Result<(), CopyError> {
        let exit = self.exits.add(&mut self.asm, ip, step, &self.fixups);
        // cmp dword ptr [rsp], imm32 / cmp dword ptr [rsp + 4], imm32
        self.asm.bytes(&[0x81, 0x3c, 0x24]);
        self.asm.bytes(&(target as u32).to_le_bytes());
        self.asm.jcc(cond::NE, exit);
        self.asm.bytes(&[0x81, 0x7c, 0x24, 0x04]);
        self.asm.bytes(&((target >> 32) as u32).to_le_bytes());
        self.asm.jcc(cond::NE, exit);
        Ok(())
    }

    fn residual(&mut self, code: &Source, return_address: u64) -> Result<(), CopyError> {
        let instruction = code.decode();
        let tail = instruction.is_jmp_short_or_near() || instruction.is_jmp_near_indirect();
        if tail {
            // The callee would return to the original code: call it with our own
            // return address in the same place.
            self.guard_return(code.ip, code.step, return_address)?;
            if instruction.op0_kind() == OpKind::Memory && instruction.memory_base() == Register::RSP {
                return Err(CopyError::Unsupported {
                    ip: code.ip,
                    mnemonic: instruction.mnemonic(),
                });
            }
            self.asm.adjust_rsp(8);
        }
        if instruction.op0_kind() == OpKind::NearBranch64 {
            self.asm.call_address(instruction.near_branch_target())?;
        } else {
            let mut call = instruction;
            call.set_code(match instruction.op0_kind() {
                OpKind::Register | OpKind::Memory => iced_x86::Code::Call_rm64,
                _ => {
                    return Err(CopyError::Unsupported {
                        ip: code.ip,
                        mnemonic: instruction.mnemonic(),
                    });
                }
            });
            self.asm.reencode(&call)?;
        }
        Ok(self.asm.return_marker(return_address)?)
    }

    /// Says in the thread's words that the shim function which returns to
    /// `return_address` at this stack depth jumps to `rejoin`. At a call of the shim, so
    /// rax is free.
    fn set_rejoin(&mut self, words: RejoinOffsets, rejoin: Label, return_address: u64) -> Result<(), CopyError> {
        let return_address: Datum = self.asm.datum(return_address);
        self.asm.mov_reg_datum(RAX, return_address)?;
        self.store_fs_rax(words.return_address);
        self.asm.bytes(&[0x48, 0x8d, 0x44, 0x24, 0xf8]); // lea rax, [rsp - 8]
        self.store_fs_rax(words.rsp);
        // Last: a signal handler that comes in between sees no code.
        self.asm.lea_label(RAX, rejoin);
        self.store_fs_rax(words.code);
        Ok(())
    }

    /// `mov qword ptr fs:[offset], rax`
    fn store_fs_rax(&mut self, offset: i32) {
        self.asm.bytes(&[0x64, 0x48, 0x89, 0x04, 0x25]);
        self.asm.bytes(&offset.to_le_bytes());
    }

    /// `mov qword ptr fs:[offset], value`
    fn store_fs_imm32(&mut self, offset: i32, value: u32) {
        self.asm.bytes(&[0x64, 0x48, 0xc7, 0x04, 0x25]);
        self.asm.bytes(&offset.to_le_bytes());
        self.asm.bytes(&value.to_le_bytes());
    }

    fn end(&mut self, end: End) -> Result<(), CopyError> {
        match end {
            End::Anchor {
                slot, guarded: false, ..
            } => self.asm.jmp_through(slot)?,
            End::Anchor { ip, id, slot, .. } => {
                let step = self.step();
                let exit = self.exits.add(&mut self.asm, ip, step, &self.fixups);
                let id = self.asm.datum(id);
                self.asm.cmp_reg_datum(RDI, id)?;
                self.asm.jcc(cond::NE, exit);
                self.asm.jmp_through(slot)?;
            }
            End::Native { target } => self.asm.jmp_address(target)?,
        }
        Ok(())
    }
}

/// The condition of a `jcc`, as encoded.
fn condition_code(instruction: &Instruction) -> u8 {
    use iced_x86::ConditionCode as C;
    match instruction.condition_code() {
        C::o => 0,
        C::no => 1,
        C::b => 2,
        C::ae => 3,
        C::e => 4,
        C::ne => 5,
        C::be => 6,
        C::a => 7,
        C::s => 8,
        C::ns => 9,
        C::p => 10,
        C::np => 11,
        C::l => 12,
        C::ge => 13,
        C::le => 14,
        C::g => 15,
        C::None => unreachable!("only called for jcc"),
    }
}
