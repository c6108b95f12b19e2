//! `redmagic replay`: a saved Recording, and what each stage makes of it, printed.

use std::collections::HashMap;

use anyhow::{Context, bail};
use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter};
use redmagic_emit::copy::{Environment, Start, ThreadOffsets};
use redmagic_emit::exits::ExitEnvironment;
use redmagic_emit::lower;
use redmagic_engine::fold::Facts;
use redmagic_engine::lift;
use redmagic_engine::optimise::{self, Place};
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
                let name = residual
                    .library
                    .map(|call| format!(", {} of {} bytes", call.function.name(), call.args[2]));
                format!(
                    "{}    ; kept as a call of {:#x}{}",
                    line(&mut formatter, &residual.call),
                    residual.target,
                    name.unwrap_or_default()
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

/// Runs the optimiser over a recording, with what its file says of constant memory.
fn optimised(
    recording: &Recording,
    passes: &[&str],
    after: &mut dyn FnMut(&'static str, &redmagic_ir::Trace),
) -> Result<redmagic_opt::Optimized, optimise::OptimiseError> {
    let (declared, mappings) = optimise::saved_facts(recording);
    let facts = Facts {
        declared: &declared,
        mappings: &mappings,
        generation: (CONTROL, CONTROL + 8),
    };
    let (id, start) = match recording.anchor {
        Anchor::Root { id, return_address, .. } => (Some(id), return_address),
        Anchor::Exit { target, .. } => (None, target),
    };
    let entry = id
        .filter(|id| declared.constant_at(*id).is_some())
        .map(|id| optimise::entry_registers(recording, id))
        .unwrap_or_default();
    let place = Place {
        entry: &entry,
        start,
        turns: 1024,
        unroll: 1,
        verify: true,
        anchor_call: end_ip(recording),
        graft: None,
    };
    optimise::optimise(recording, &facts, place, passes, Some(after))
}

fn end_ip(recording: &Recording) -> u64 {
    match recording.end {
        End::Anchor { ip, .. } | End::Stopped { ip, .. } => ip,
    }
}

/// Where the code is taken to be, and what it refers to.
const CODE: u64 = 0x1000_0000;
const CONTROL: u64 = 0x1800_0000;

/// The trace after every pass (or the last), and the number of operations after each.
///
/// # Errors
/// A Recording that cannot be lifted to its end or optimised, or an unknown pass.
pub fn passes(recording: &Recording, passes: &[&str], last_only: bool) -> anyhow::Result<String> {
    let mut stages = Vec::new();
    let done = optimised(recording, passes, &mut |stage, trace| {
        if stage != optimise::OBSERVED {
            stages.push((stage, trace.clone()));
        }
    });
    let mut out = String::new();
    for (stage, trace) in stages.iter().filter(|_| !last_only) {
        out += &format!(
            "; ---- {stage}: {} operations\n{}\n",
            trace.ops.len(),
            trace.normalized()
        );
    }
    let done = done.map_err(|error| anyhow::anyhow!("{out}{error}"))?;
    let violations = verify::violations(&done.trace);
    if !violations.is_empty() {
        bail!(
            "{}\nthe optimised trace is not valid; please report this: {violations:?}",
            done.trace
        );
    }
    if last_only {
        out += &done.trace.to_string();
    }
    for (stage, count) in done.counts {
        out += &format!("; {count:>6} operations after {stage}\n");
    }
    Ok(out)
}

/// The generated code, each operation above its instructions.
///
/// # Errors
/// Those of [`passes`], and an operation that cannot be lowered.
pub fn asm(recording: &Recording, passes: &[&str]) -> anyhow::Result<String> {
    let done = optimised(recording, passes, &mut |_, _| {})?;
    let target = lower::Target {
        ip: end_ip(recording),
        slot: CONTROL + 16,
    };
    let targets = lower::Targets {
        end: target,
        restart: target,
        turn: !redmagic_opt::peel::is_short(&done.trace),
        reentry: None,
        joins: false,
    };
    let environment = Environment {
        base: CODE,
        cold_base: None,
        data_base: CODE + 0x40_0000,
        first_exit: 0,
        exits: ExitEnvironment {
            counters: CONTROL + 0x1000,
            first_id: 0,
            park: CONTROL + 24,
            again: 256,
        },
        thread: ThreadOffsets::default(),
    };
    let start = match recording.anchor {
        Anchor::Root { .. } => Start::Anchor,
        Anchor::Exit { .. } => Start::Exit,
    };
    // Calls of the original code are out of reach of this address: they are shown as if it were there.
    let near = Environment {
        base: end_ip(recording) & !0xfff,
        data_base: (end_ip(recording) & !0xfff) + 0x40_0000,
        exits: ExitEnvironment {
            counters: (end_ip(recording) & !0xfff) + 0x50_0000,
            first_id: 0,
            park: (end_ip(recording) & !0xfff) + 0x60_0000,
            ..environment.exits
        },
        ..environment
    };
    let near_target = |mut target: lower::Target| {
        target.slot = near.exits.park + 16;
        target
    };
    let near_targets = lower::Targets {
        end: near_target(targets.end),
        restart: near_target(targets.restart),
        turn: targets.turn,
        reentry: None,
        joins: false,
    };
    let compiled = lower::compile(&done.trace, start, &near_targets, &near)?;
    let mut lines: HashMap<u64, Vec<u32>> = HashMap::new();
    for (address, op) in &compiled.lines {
        lines.entry(*address).or_default().push(*op);
    }
    let mut out = format!(
        "; {} operations, {} bytes of code and {} of data, {} exits\n",
        done.trace.ops.len(),
        compiled.code.len(),
        compiled.data.len() * 8,
        compiled.exits.len()
    );
    let mut formatter = GasFormatter::new();
    for instruction in Decoder::with_ip(64, &compiled.code, near.base, DecoderOptions::NONE).iter() {
        for op in lines.get(&instruction.ip()).into_iter().flatten() {
            let text = match done.trace.ops.get(*op as usize) {
                Some(_) => redmagic_ir::print::op(&done.trace, *op as usize).to_string(),
                None => "the end".to_owned(),
            };
            let text: String = text.chars().take(100).collect();
            out += &format!("; {text}\n");
        }
        let mut text = String::new();
        formatter.format(&instruction, &mut text);
        out += &format!("    {:#x}  {text}\n", instruction.ip() - near.base);
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
