//! `graft`: a side trace behind its parent.
//!
//! The parent stands first, then a line `===`, then the side trace, as it is lifted. The parent is compiled, for the homes of
//! its values. What comes out is the grafted trace after the optimiser, with what its parent knew. Before the parent stand, a
//! line each:
//!
//! ```text
//! leave 7                  the guard that the side trace begins at; the end when this is missing
//! optimise                 the parent goes through the optimiser; `leave` is then of what comes out, which is printed first
//! anchor                   the parent begins at an anchor
//! ```

use std::fmt::Write as _;

use redmagic_emit::copy::{Environment, Start, ThreadOffsets};
use redmagic_emit::exits::ExitEnvironment;
use redmagic_emit::lower::{Target, Targets, compile};
use redmagic_ir::parse;
use redmagic_opt::forward::memory::Lasting;
use redmagic_opt::graft::{self, Leave};
use redmagic_opt::{Input, PASSES};

use super::check_trace;

/// Grafts and prints; or says why not.
pub fn graft(input: &str) -> String {
    let (mut at, mut anchor, mut optimise) = (None, false, false);
    let (parent, side) = input.split_once("===\n").expect("a line `===`");
    let mut text = String::new();
    for line in parent.lines() {
        let plain = line.split(';').next().unwrap_or("").trim();
        match plain.split_once(' ') {
            Some(("leave", index)) => at = Some(index.parse().expect("the index of an operation")),
            _ if plain == "anchor" => anchor = true,
            _ if plain == "optimise" => optimise = true,
            _ => {
                text += line;
                text += "\n";
            }
        }
    }
    let mut trace = parse::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let side = parse::parse(side).unwrap_or_else(|error| panic!("{error}"));
    check_trace(&trace);
    check_trace(&side);
    let mut lasting = Lasting::default();
    let mut out = String::new();
    if optimise {
        let done = redmagic_opt::optimize(&trace, &Input::default(), PASSES).expect("it can be");
        (trace, lasting) = (done.trace, done.lasting);
        let _ = writeln!(out, "{trace}===");
    }
    let start = if anchor { Start::Anchor } else { Start::Exit };
    let target = Target {
        ip: 0x40_0000,
        slot: 0x5050_0000,
    };
    let targets = Targets {
        end: target,
        restart: target,
        turn: false,
        reentry: None,
        joins: false,
    };
    let environment = Environment {
        base: 0x5000_0000,
        cold_base: None,
        data_base: 0x5010_0000,
        first_exit: 0,
        exits: ExitEnvironment {
            counters: 0x5020_0000,
            first_id: 0,
            park: 0x5030_0000,
            again: 256,
        },
        thread: ThreadOffsets::default(),
    };
    let compiled = compile(&trace, start, &targets, &environment).expect("it can be compiled");
    let at = at.unwrap_or(trace.ops.len());
    let exit = compiled.exits.iter().find(|exit| exit.step as usize == at);
    let handover = exit.and_then(|exit| exit.handover.as_ref()).expect("an exit");
    let leave = Leave {
        at,
        shared: &compiled.shared,
        homes: &handover.homes,
        flags: handover.flags,
        frame: compiled.frame,
    };
    let parent = graft::Parent { trace, lasting, anchor };
    let Some(grafted) = graft::graft(&parent, &leave, &side, &[], &|_| 0) else {
        return out + "refused\n";
    };
    check_trace(&grafted.trace);
    let input = Input {
        inherited: Some(&grafted.inherited),
        ..Input::default()
    };
    let done = redmagic_opt::optimize(&grafted.trace, &input, PASSES).expect("it can be");
    check_trace(&done.trace);
    out + &done.trace.to_string()
}
