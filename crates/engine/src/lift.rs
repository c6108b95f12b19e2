//! From a Recording to the trace IR.
//!
//! The counterpart of [`crate::plan`] for the optimised tier: the same decisions about what a step becomes, in terms of
//! [`redmagic_lift::recording`]. A Recording may come from a file, so what a recorder never does is an error here, with the
//! step and its address, and not a wrong trace.

use iced_x86::{Decoder, FlowControl, Instruction};
use redmagic_ir::{Abi, Trace};
use redmagic_lift::DECODER_OPTIONS;
use redmagic_lift::recording::{Answer, Effect, Ending, Step as Lifted, Stop, lift_recording};
use redmagic_proto::ApiFn;
use redmagic_record::recording::{
    Anchor, Api, End, Inst, LibraryCall, LibraryFn, Recording, ShimCall, ShimExecution, Step,
};

/// A Recording that contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("step {step}, at {ip:#x}: {what}")]
pub struct Malformed {
    /// The index of the step.
    pub step: usize,
    /// Its address.
    pub ip: u64,
    /// What is wrong.
    pub what: &'static str,
}

/// The Recording as a trace, and where and why the trace ends before the Recording does, if so.
///
/// # Errors
/// The first step that cannot have been recorded.
pub fn lift(recording: &Recording) -> Result<(Trace, Option<Stop>), Malformed> {
    let steps = recording
        .steps
        .iter()
        .enumerate()
        .map(|(step, recorded)| {
            translate(recording, recorded).map_err(|what| Malformed {
                step,
                ip: recorded.ip(),
                what,
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    for (step, pair) in recording.steps.windows(2).enumerate() {
        if pair[0].next_ip() != pair[1].ip() {
            return Err(Malformed {
                step: step + 1,
                ip: pair[1].ip(),
                what: "the step before it ends elsewhere",
            });
        }
    }
    Ok(lift_recording(steps, ending(recording)))
}

fn translate(recording: &Recording, step: &Step) -> Result<Lifted, &'static str> {
    Ok(match step {
        Step::Inst(inst) => {
            let instruction = decode(inst)?;
            check_flow(&instruction, inst.next_ip)?;
            Lifted::Instruction {
                instruction,
                next: inst.next_ip,
            }
        }
        Step::Residual(residual) => match residual.library.as_ref().and_then(effect) {
            Some((effect, length)) => Lifted::Library {
                instruction: decode_call(&residual.call)?,
                back: residual.return_address,
                effect,
                length,
            },
            None => call(recording, &residual.call, residual.target, residual.return_address)?,
        },
        Step::Shim(shim) => match shim.action {
            ShimExecution::Executed(_) => call(recording, &shim.call, shim.call.next_ip, shim.return_address)?,
            ShimExecution::Skipped => skipped(shim)?,
        },
        Step::Native(region) => Lifted::Gap { ip: region.start_ip },
    })
}

/// Undecodable bytes are left to the lifter, which refuses them and ends the trace before.
fn decode(inst: &Inst) -> Result<Instruction, &'static str> {
    let instruction = Decoder::with_ip(64, &inst.bytes, inst.ip, DECODER_OPTIONS).decode();
    if !instruction.is_invalid() && instruction.len() != inst.bytes.len() {
        return Err("it has more bytes than one instruction");
    }
    Ok(instruction)
}

/// Whether the instruction can go to where it went.
fn check_flow(instruction: &Instruction, next: u64) -> Result<(), &'static str> {
    let possible = match instruction.flow_control() {
        _ if instruction.is_invalid() => true,
        FlowControl::Next => next == instruction.next_ip(),
        FlowControl::ConditionalBranch => next == instruction.next_ip() || next == instruction.near_branch_target(),
        FlowControl::UnconditionalBranch => next == instruction.near_branch_target(),
        _ => true,
    };
    if possible {
        Ok(())
    } else {
        Err("the instruction does not go where it went")
    }
}

/// A call, or a jump that is one.
fn decode_call(inst: &Inst) -> Result<Instruction, &'static str> {
    let instruction = decode(inst)?;
    match instruction.flow_control() {
        FlowControl::Call
        | FlowControl::IndirectCall
        | FlowControl::UnconditionalBranch
        | FlowControl::IndirectBranch => Ok(instruction),
        _ => Err("it is recorded as a call and is none"),
    }
}

/// What a call comes down to that need not be made. A block that is copied word by word is one of pointers, as a rule, of
/// which there are as many each time; a string is of any length.
pub(crate) fn effect(call: &LibraryCall) -> Option<(Effect, u64)> {
    let length = call.args[2];
    let effect = match call.function {
        LibraryFn::Memset => Effect::Fill,
        LibraryFn::Memcpy | LibraryFn::Memmove if length.is_multiple_of(8) => Effect::Copy,
        LibraryFn::Memcpy | LibraryFn::Memmove => return None,
    };
    (length <= Effect::MOST).then_some((effect, length))
}

fn call(recording: &Recording, call: &Inst, function: u64, back: u64) -> Result<Lifted, &'static str> {
    Ok(Lifted::Residual {
        instruction: decode_call(call)?,
        target: call.next_ip,
        back,
        abi: abi(recording, call.ip, function),
    })
}

/// Within an image, a compiler that sees both sides lets a caller rely on registers that the C ABI calls clobbered
/// (`-fipa-ra`). Code of no image was made by nobody knows what.
fn abi(recording: &Recording, caller: u64, callee: u64) -> Abi {
    let image = |address: u64| {
        let holds = |image: &&redmagic_record::recording::ImageRange| (image.start..image.end).contains(&address);
        recording.images.iter().find(holds).map(|image| image.path.as_str())
    };
    match (image(caller), image(callee)) {
        (Some(a), Some(b)) if a != b => Abi::SysV,
        _ => Abi::Full,
    }
}

fn skipped(shim: &ShimCall) -> Result<Lifted, &'static str> {
    let api = ApiFn::from_index(usize::from(shim.api.0)).ok_or("it calls an unknown function of the C API")?;
    let (argument, result) = match api {
        ApiFn::Promote => (Some(shim.args[0]), Answer::Argument),
        // A C int: the upper half of rax is not the caller's business, but 0 is what the shim would leave.
        ApiFn::IsTraced => (None, Answer::Constant(u64::from(shim.result as u32))),
        _ => (None, Answer::Nothing),
    };
    Ok(Lifted::Skipped {
        instruction: decode_call(&shim.call)?,
        back: shim.return_address,
        argument,
        result,
    })
}

fn is_anchor(api: Api) -> bool {
    ApiFn::from_index(usize::from(api.0)).is_some_and(ApiFn::is_anchor)
}

/// At its own anchor a root starts again. At another one, and a side trace at any, it is linked. The ends of forced traces
/// and of merge blocks are no anchors: the trace leaves before the call.
fn ending(recording: &Recording) -> Ending {
    match (&recording.anchor, &recording.end) {
        (
            Anchor::Root {
                kind,
                id,
                return_address,
            },
            End::Anchor {
                api,
                id: end_id,
                return_address: end_return,
                ip,
                ..
            },
        ) if (kind.0, id, return_address) == (api.0, end_id, end_return) => Ending::Anchor {
            ip: *ip,
            id: *id,
            start: *return_address,
        },
        (_, End::Anchor { api, id, ip, .. }) if is_anchor(*api) => Ending::Link { ip: *ip, id: *id },
        (_, End::Anchor { ip, .. } | End::Stopped { ip, .. }) => Ending::Exit(*ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redmagic_ir::verify;
    use redmagic_record::recording::{
        AnchorKind, Api, ImageRange, InstBytes, Meta, NativeRegion, RegisterFile, Residual,
    };
    use smallvec::SmallVec;

    const ANCHOR: u8 = ApiFn::BackwardsBranch as u8;

    fn inst(ip: u64, bytes: &[u8], next_ip: u64) -> Inst {
        Inst {
            ip,
            bytes: InstBytes::new(bytes).unwrap(),
            next_ip,
            mem: SmallVec::new(),
        }
    }

    fn recording(steps: Vec<Step>) -> Recording {
        let image = |start, path: &str, own| ImageRange {
            start,
            end: start + 0x1000,
            path: path.into(),
            own,
        };
        Recording {
            meta: Meta::default(),
            images: vec![image(0x1000, "/bin/vm", true), image(0x9000, "/lib/libm", false)],
            anchor: Anchor::Root {
                kind: AnchorKind(ANCHOR),
                id: 7,
                return_address: 0x1000,
            },
            start: RegisterFile::default(),
            steps,
            end: End::Anchor {
                api: Api(ANCHOR),
                id: 7,
                return_address: 0x1000,
                ip: 0x1100,
                rsp: 0,
            },
        }
    }

    fn text(recording: &Recording) -> String {
        let (trace, stop) = lift(recording).unwrap();
        assert!(verify::violations(&trace).is_empty(), "{trace}");
        format!("{trace}{}", stop.map_or(String::new(), |stop| format!("; {stop}\n")))
    }

    #[test]
    fn a_loop_repeats_and_guards_its_id() {
        let text = text(&recording(vec![Step::Inst(inst(0x1000, &[0x48, 0xff, 0xc0], 0x1003))]));
        assert!(text.contains("add.i64") && text.contains("repeat {pc=0x1000"), "{text}");
        assert!(text.contains("flags.sub.i64") && text.contains(", 7"), "{text}");
    }

    #[test]
    fn calls_within_an_image_hand_over_all_registers() {
        let call = |target: u64| {
            let near = inst(0x1000, &[0xff, 0xd0], target);
            recording(vec![Step::from(Residual {
                call: near,
                target,
                return_address: 0x1002,
                after: RegisterFile::default(),
                library: None,
            })])
        };
        assert!(text(&call(0x1800)).contains(", full {"));
        assert!(text(&call(0x9800)).contains(", sysv {"));
        assert!(text(&call(0x77_0000)).contains(", full {"), "a callee in no image");
    }

    #[test]
    fn short_blocks_are_filled_and_copied_in_place_of_a_call() {
        let call = |function: LibraryFn, length: u64| {
            let near = inst(0x1000, &[0xe8, 0xfb, 0x07, 0, 0], 0x1800);
            text(&recording(vec![Step::from(Residual {
                call: near,
                target: 0x9800,
                return_address: 0x1005,
                after: RegisterFile::default(),
                library: Some(LibraryCall {
                    function,
                    args: [1, 2, length],
                }),
            })]))
        };
        let is_call = |text: String| text.contains("= call");
        assert!(!is_call(call(LibraryFn::Memset, 13)) && !is_call(call(LibraryFn::Memmove, 64)));
        // A string's length will be another one the next time, and long blocks are worth a call.
        assert!(is_call(call(LibraryFn::Memcpy, 13)));
        assert!(is_call(call(LibraryFn::Memset, 65)) && is_call(call(LibraryFn::Memcpy, 72)));
    }

    #[test]
    fn what_is_not_known_ends_the_trace() {
        let mut gap = recording(vec![
            Step::Inst(inst(0x1000, &[0x90], 0x1001)),
            Step::from(NativeRegion {
                start_ip: 0x1001,
                resume_ip: 0x1010,
                after: RegisterFile::default(),
            }),
        ]);
        assert!(text(&gap).ends_with("exit {pc=0x1001}\n; step 1: what ran natively from 0x1001 on is not known\n"));
        gap.steps[1] = Step::Inst(inst(0x1001, &[0x06], 0x1002));
        assert!(text(&gap).ends_with("; step 1: undecodable bytes at 0x1001\n"));
    }

    #[test]
    fn what_no_recorder_does_is_an_error_with_its_place() {
        let error = |steps| lift(&recording(steps)).unwrap_err().to_string();
        let first = || Step::Inst(inst(0x1000, &[0x90], 0x1001));
        assert_eq!(
            error(vec![first(), Step::Inst(inst(0x1001, &[0x90, 0x90], 0x1003))]),
            "step 1, at 0x1001: it has more bytes than one instruction"
        );
        assert_eq!(
            error(vec![first(), Step::Inst(inst(0x1002, &[0x90], 0x1003))]),
            "step 1, at 0x1002: the step before it ends elsewhere"
        );
        assert_eq!(
            error(vec![Step::Inst(inst(0x1000, &[0x74, 0x10], 0x1003))]),
            "step 0, at 0x1000: the instruction does not go where it went"
        );
        let call = |bytes: &[u8], api| {
            Step::from(ShimCall {
                call: inst(0x1000, bytes, 0x1800),
                api: Api(api),
                args: [0, 0],
                return_address: 0x1002,
                rsp: 0,
                result: 0,
                action: ShimExecution::Skipped,
            })
        };
        assert_eq!(
            error(vec![call(&[0x90], ANCHOR)]),
            "step 0, at 0x1000: it is recorded as a call and is none"
        );
        assert_eq!(
            error(vec![call(&[0xff, 0xd0], 250)]),
            "step 0, at 0x1000: it calls an unknown function of the C API"
        );
    }
}
