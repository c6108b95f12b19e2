//! From a Recording to the operations of the copy tier.
//!
//! The Recording says what happened; the plan says what the trace does about it. What
//! the copy tier cannot do exactly is refused here, with a reason.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register, RflagsBits};
use redmagic_emit::copy::{Op, ShimResult, Source};
use redmagic_proto::ApiFn;
use redmagic_record::abort::Abort;
use redmagic_record::recording::{Inst, Recording, ShimCall, ShimExecution, Step};

/// Why a Recording cannot be copied, and where.
pub type Refused = (Abort, u64);

/// The status flags, in iced's bits.
pub(crate) const STATUS_FLAGS: u32 =
    RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::AF | RflagsBits::CF | RflagsBits::PF;

/// Plans the copy of a whole Recording.
///
/// # Errors
/// The reason and the address.
pub fn plan(recording: &Recording) -> Result<Vec<Op>, Refused> {
    let mut ops = Vec::with_capacity(recording.steps.len());
    let mut merges: Vec<(usize, u64)> = Vec::new();
    let mut frames = Frames::default();
    for (index, step) in recording.steps.iter().enumerate() {
        match step {
            Step::Inst(inst) => instruction(&mut ops, &mut frames, index, inst, &recording.steps)?,
            Step::Residual(residual) => {
                let code = source(index, &residual.call);
                frames.kept(&code.decode());
                ops.push(Op::Residual {
                    code,
                    return_address: residual.return_address,
                });
            }
            Step::Shim(call) => {
                frames.kept(&source(index, &call.call).decode());
                shim(&mut ops, &mut merges, index, call)?;
            }
            Step::Native(region) => {
                ops.push(Op::Disabled {
                    start: region.start_ip,
                    enable_return: region.resume_ip,
                });
            }
        }
    }
    match merges.last() {
        Some((_, ip)) => Err((Abort::OpenMerge, *ip)),
        None => Ok(ops),
    }
}

fn source(step: usize, inst: &Inst) -> Source {
    let mut bytes = [0; 15];
    bytes[..inst.bytes.len()].copy_from_slice(&inst.bytes);
    Source {
        ip: inst.ip,
        bytes,
        length: inst.bytes.len() as u8,
        step: step as u32,
    }
}

fn instruction(
    ops: &mut Vec<Op>,
    frames: &mut Frames,
    index: usize,
    inst: &Inst,
    steps: &[Step],
) -> Result<(), Refused> {
    let code = source(index, inst);
    let decoded = code.decode();
    ops.push(match decoded.flow_control() {
        FlowControl::Next => {
            frames.follow(&decoded);
            Op::Copy { code }
        }
        FlowControl::ConditionalBranch => Op::Branch {
            code,
            taken: inst.next_ip != decoded.next_ip(),
        },
        FlowControl::UnconditionalBranch if decoded.op0_kind() == OpKind::NearBranch64 => return Ok(()),
        FlowControl::IndirectBranch => {
            if flags_live(&steps[index + 1..]) {
                return Err((Abort::LiveFlags, inst.ip));
            }
            Op::Jump {
                code,
                target: inst.next_ip,
            }
        }
        FlowControl::Call | FlowControl::IndirectCall if decoded.mnemonic() == Mnemonic::Call => {
            frames.call(decoded.next_ip());
            Op::Call {
                code,
                target: inst.next_ip,
            }
        }
        FlowControl::Call if decoded.mnemonic() == Mnemonic::Syscall => Op::Copy { code },
        FlowControl::Return if decoded.mnemonic() == Mnemonic::Ret => Op::Return {
            code,
            target: inst.next_ip,
            guarded: !frames.returns_to(&decoded, inst.next_ip),
        },
        _ => return Err((Abort::UnsupportedInstruction, inst.ip)),
    });
    Ok(())
}

fn shim(ops: &mut Vec<Op>, merges: &mut Vec<(usize, u64)>, index: usize, call: &ShimCall) -> Result<(), Refused> {
    let ip = call.call.ip;
    if matches!(call.action, ShimExecution::Executed(_)) {
        ops.push(Op::Residual {
            code: source(index, &call.call),
            return_address: call.return_address,
        });
        return Ok(());
    }
    let Some(api) = ApiFn::from_index(usize::from(call.api.0)) else {
        return Err((Abort::LostTrack, ip));
    };
    match api {
        ApiFn::Promote => {
            ops.push(Op::GuardArgument {
                ip,
                value: call.args[0],
            });
            ops.push(Op::Result {
                value: ShimResult::Argument,
            });
        }
        ApiFn::IsTraced => ops.push(Op::Result {
            value: ShimResult::Constant(call.result as u32),
        }),
        ApiFn::BeginMergeBlock => {
            merges.push((ops.len(), ip));
            // The end's return address is filled in when it is met.
            ops.push(Op::BeginMerge { end_return: 0 });
        }
        ApiFn::EndMergeBlock => {
            let (begin, _) = merges.pop().ok_or((Abort::OpenMerge, ip))?;
            ops[begin] = Op::BeginMerge {
                end_return: call.return_address,
            };
            ops.push(Op::EndMerge);
        }
        _ => ops.push(Op::Result {
            value: ShimResult::Nothing,
        }),
    }
    let code = source(index, &call.call).decode();
    if code.flow_control() != FlowControl::Call && code.flow_control() != FlowControl::IndirectCall {
        ops.push(Op::ReturnFromShim {
            ip,
            target: call.return_address,
        });
    }
    Ok(())
}

/// The return addresses that the trace has pushed, and where, relative to the stack
/// pointer at its start.
///
/// The slot of a return address is private: C has no way to name it (DESIGN section 7, slots
/// of frames pushed inside the trace). So a `ret` that finds the stack pointer at such a slot
/// needs no guard. That it does is known only as long as every change of the stack
/// pointer is by a constant; anything else (a switch of stacks, which may well come back to
/// the same call from another one) forgets all frames.
#[derive(Debug, Default)]
struct Frames {
    depth: i64,
    open: Vec<(i64, u64)>,
}

impl Frames {
    fn call(&mut self, return_address: u64) {
        self.depth -= 8;
        self.open.push((self.depth, return_address));
    }

    /// A call that is not followed: a tail call pops the return address.
    fn kept(&mut self, call: &Instruction) {
        if matches!(
            call.flow_control(),
            FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
        ) {
            self.pop(8);
        }
    }

    /// Whether a `ret` goes to an address that the trace pushed in this very slot.
    fn returns_to(&mut self, ret: &Instruction, target: u64) -> bool {
        let known = self.open.last() == Some(&(self.depth, target));
        let extra = if ret.op_count() == 1 {
            i64::from(ret.immediate16())
        } else {
            0
        };
        self.pop(8 + extra);
        known
    }

    fn pop(&mut self, bytes: i64) {
        self.depth += bytes;
        // What was popped is no longer protected from what is pushed over it.
        self.open.retain(|(slot, _)| *slot >= self.depth);
    }

    fn follow(&mut self, instruction: &Instruction) {
        let by = instruction.stack_pointer_increment();
        if by != 0 && matches!(instruction.mnemonic(), Mnemonic::Push | Mnemonic::Pushfq) {
            self.depth += i64::from(by);
            return;
        }
        let writes_rsp = instruction.op_count() > 0
            && instruction.op0_kind() == OpKind::Register
            && instruction.op0_register().full_register() == Register::RSP;
        let pops = matches!(instruction.mnemonic(), Mnemonic::Pop | Mnemonic::Popfq);
        if pops && !writes_rsp && by != 0 {
            return self.pop(i64::from(by));
        }
        let reads_only = matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Bt);
        if writes_rsp && !reads_only {
            let constant = |kind| {
                matches!(kind, OpKind::Immediate8to64 | OpKind::Immediate32to64)
                    .then(|| instruction.immediate(1) as i64)
            };
            let change = match instruction.mnemonic() {
                Mnemonic::Add => constant(instruction.op1_kind()),
                Mnemonic::Sub => constant(instruction.op1_kind()).map(|bytes| -bytes),
                Mnemonic::Lea
                    if instruction.memory_base() == Register::RSP && instruction.memory_index() == Register::None =>
                {
                    Some(instruction.memory_displacement64() as i64)
                }
                _ => None,
            };
            match change {
                Some(bytes) if bytes > 0 => self.pop(bytes),
                Some(bytes) => self.depth += bytes,
                None => self.open.clear(),
            }
        } else if by != 0 || instruction.is_stack_instruction() {
            // leave, enter, popa ...
            self.open.clear();
        }
    }
}

/// Whether a status flag that is set before `steps` is read in them before it is
/// overwritten. Calls and returns end the question: the C ABI has no flags.
pub(crate) fn flags_live(steps: &[Step]) -> bool {
    let mut open = STATUS_FLAGS;
    for step in steps {
        let Step::Inst(inst) = step else { return false };
        let decoded = Decoder::with_ip(64, &inst.bytes, inst.ip, DecoderOptions::NONE).decode();
        if decoded.rflags_read() & open != 0 {
            return true;
        }
        if matches!(
            decoded.flow_control(),
            FlowControl::Call | FlowControl::IndirectCall | FlowControl::Return
        ) {
            return false;
        }
        if !may_keep_flags(&decoded) {
            open &= !decoded.rflags_modified();
        }
        if open == 0 {
            return false;
        }
    }
    false
}

/// A shift or rotation by cl, and a repeated string instruction, change no flags when the
/// count is 0, which iced's tables do not say.
pub(crate) fn may_keep_flags(instruction: &Instruction) -> bool {
    let by_cl = (0..instruction.op_count())
        .any(|i| instruction.op_kind(i) == OpKind::Register && instruction.op_register(i) == Register::CL);
    by_cl || instruction.has_rep_prefix() || instruction.has_repne_prefix()
}
