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

const STATUS_FLAGS: u32 =
    RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::AF | RflagsBits::CF | RflagsBits::PF;

/// Plans the copy of a whole Recording.
///
/// # Errors
/// The reason and the address.
pub fn plan(recording: &Recording) -> Result<Vec<Op>, Refused> {
    let mut ops = Vec::with_capacity(recording.steps.len());
    let mut merges: Vec<(usize, u64)> = Vec::new();
    for (index, step) in recording.steps.iter().enumerate() {
        match step {
            Step::Inst(inst) => instruction(&mut ops, index, inst, &recording.steps)?,
            Step::Residual(residual) => ops.push(Op::Residual {
                code: source(index, &residual.call),
                return_address: residual.return_address,
            }),
            Step::Shim(call) => shim(&mut ops, &mut merges, index, call)?,
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

fn instruction(ops: &mut Vec<Op>, index: usize, inst: &Inst, steps: &[Step]) -> Result<(), Refused> {
    let code = source(index, inst);
    let decoded = code.decode();
    ops.push(match decoded.flow_control() {
        FlowControl::Next => Op::Copy { code },
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
        FlowControl::Call | FlowControl::IndirectCall if decoded.mnemonic() == Mnemonic::Call => Op::Call {
            code,
            target: inst.next_ip,
        },
        FlowControl::Call if decoded.mnemonic() == Mnemonic::Syscall => Op::Copy { code },
        FlowControl::Return if decoded.mnemonic() == Mnemonic::Ret => Op::Return {
            code,
            target: inst.next_ip,
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

/// Whether a status flag that is set before `steps` is read in them before it is
/// overwritten. Calls and returns end the question: the C ABI has no flags.
fn flags_live(steps: &[Step]) -> bool {
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
fn may_keep_flags(instruction: &Instruction) -> bool {
    let by_cl = (0..instruction.op_count())
        .any(|i| instruction.op_kind(i) == OpKind::Register && instruction.op_register(i) == Register::CL);
    by_cl || instruction.has_rep_prefix() || instruction.has_repne_prefix()
}
