//! `redmagic replay`: a saved Recording, and what each stage makes of it, printed.

use std::collections::HashMap;

use anyhow::{Context, bail};
use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter};
use redmagic_engine::lift;
use redmagic_ir::verify;
use redmagic_proto::ApiFn;
use redmagic_record::recording::{AccessKind, Anchor, Api, End, Inst, Recording, Step};

/// The Recording as text: one line a step.
pub fn instructions(recording: &Recording) -> String {
    let mut out = format!("; {} of process {}\n", recording.meta.program, recording.meta.pid);
    out += &match recording.anchor {
        Anchor::Root {
            kind,
            id,
            return_address,
        } => {
            format!(
                "; root: {} id {id:#x}, returning to {return_address:#x}\n",
                api(Api(kind.0))
            )
        }
        Anchor::Exit { exit, target } => format!("; side: exit {exit} to {target:#x}\n"),
    };
    let mut formatter = GasFormatter::new();
    for (number, step) in recording.steps.iter().enumerate() {
        let text = match step {
            Step::Inst(inst) => line(&mut formatter, inst),
            Step::Residual(residual) => {
                format!(
                    "{}    ; kept as a call of {:#x}",
                    line(&mut formatter, &residual.call),
                    residual.target
                )
            }
            Step::Shim(call) => format!(
                "{:#x}  {}({:#x}, {:#x}) = {:#x}",
                call.call.ip,
                api(call.api),
                call.args[0],
                call.args[1],
                call.result
            ),
            Step::Native(region) => {
                format!(
                    "{:#x}  disabled, ran natively to {:#x}",
                    region.start_ip, region.resume_ip
                )
            }
        };
        out += &format!("{number:>5}  {text}\n");
    }
    out += &match recording.end {
        End::Anchor {
            api: function, id, ip, ..
        } => format!("; ends at {ip:#x}: {} id {id:#x}\n", api(function)),
        End::Stopped { ip, reason } => format!("; ends before {ip:#x}, reason {reason}\n"),
    };
    out
}

/// The trace that the Recording is lifted to, with the instructions beside their addresses. All but the comments is the
/// text form of the IR: it can be read back.
///
/// # Errors
/// A Recording that contradicts itself, with the step. An invalid trace, which is a bug of the lifter.
pub fn ir(recording: &Recording) -> anyhow::Result<String> {
    let (trace, stop) = lift::lift(recording).context("the recording contradicts itself")?;
    let violations = verify::violations(&trace);
    if !violations.is_empty() {
        bail!("the trace is not valid; please report this: {violations:?}\n{trace}");
    }
    let mut formatter = GasFormatter::new();
    let mut instructions = HashMap::new();
    for step in &recording.steps {
        let inst = match step {
            Step::Inst(inst) => inst,
            Step::Residual(residual) => &residual.call,
            Step::Shim(shim) => &shim.call,
            Step::Native(_) => continue,
        };
        instructions
            .entry(inst.ip)
            .or_insert_with(|| disassembly(&mut formatter, inst).1);
    }
    let mut out = String::new();
    for line in trace.to_string().lines() {
        out += line;
        let address = line.strip_prefix("@0x").and_then(|a| u64::from_str_radix(a, 16).ok());
        if let Some(text) = address.and_then(|a| instructions.get(&a)) {
            out += &format!("  ; {text}");
        }
        out += "\n";
    }
    if let Some(stop) = stop {
        out += &format!("; it ends there: {stop}\n");
    }
    Ok(out)
}

fn api(api: Api) -> &'static str {
    ApiFn::from_index(usize::from(api.0)).map_or("an unknown function", ApiFn::symbol)
}

fn disassembly(formatter: &mut GasFormatter, inst: &Inst) -> (iced_x86::Instruction, String) {
    let decoded = Decoder::with_ip(64, &inst.bytes, inst.ip, DecoderOptions::NONE).decode();
    let mut text = String::new();
    formatter.format(&decoded, &mut text);
    (decoded, text)
}

fn line(formatter: &mut GasFormatter, inst: &Inst) -> String {
    let (decoded, text) = disassembly(formatter, inst);
    let mut out = format!("{:#x}  {text}", inst.ip);
    for access in &inst.mem {
        let kind = match access.kind {
            AccessKind::Read => "r",
            AccessKind::Write => "w",
            AccessKind::ReadWrite => "rw",
        };
        out += &format!("  {kind}[{:#x}]", access.addr);
        if !access.value.is_empty() && access.value.len() <= 32 {
            out += "=";
            for byte in access.value.iter().rev() {
                out += &format!("{byte:02x}");
            }
        }
    }
    if decoded.flow_control() != iced_x86::FlowControl::Next && inst.next_ip != decoded.next_ip() {
        out += &format!("  -> {:#x}", inst.next_ip);
    }
    out
}
