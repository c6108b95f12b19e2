//! `redmagic replay`: a saved Recording, printed.

use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter};
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

fn api(api: Api) -> &'static str {
    ApiFn::from_index(usize::from(api.0)).map_or("an unknown function", ApiFn::symbol)
}

fn line(formatter: &mut GasFormatter, inst: &Inst) -> String {
    let decoded = Decoder::with_ip(64, &inst.bytes, inst.ip, DecoderOptions::NONE).decode();
    let mut text = String::new();
    formatter.format(&decoded, &mut text);
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
