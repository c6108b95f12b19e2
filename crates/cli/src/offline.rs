//! What `redmagic` can do with saved recordings, without a process: print them, and compile them for the clock.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use redmagic_engine::Params;

use crate::{replay, timing};

/// Arguments of `redmagic replay`.
#[derive(clap::Args)]
pub struct Replay {
    /// The file, from `run --save-recordings`.
    file: PathBuf,
    /// What to print, in this order.
    #[arg(
        long,
        value_enum,
        value_name = "STAGE,...",
        default_value = "instructions",
        value_delimiter = ','
    )]
    print: Vec<Stage>,
    /// The optimiser's passes, in order; all by default.
    #[arg(long, value_name = "PASS,...", value_delimiter = ',')]
    passes: Option<Vec<String>>,
}

/// Arguments of `redmagic time`.
#[derive(clap::Args)]
pub struct Time {
    /// The files, from `run --save-recordings`.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Times that each is compiled; the median counts.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// A JSON array, one object a file.
    #[arg(long)]
    json: bool,
}

/// What `replay` prints.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Stage {
    /// The recorded instructions, with their memory operands and branch outcomes.
    Instructions,
    /// The trace that they are lifted to.
    Ir,
    /// The trace after every pass of the optimiser.
    #[value(name = "ir:all")]
    IrAll,
    /// The optimised trace.
    #[value(name = "ir:opt")]
    IrOpt,
    /// The generated code, each operation above its instructions.
    Asm,
}

/// Prints a recording.
///
/// # Errors
/// A file that is no recording, or a pass that does not exist.
pub fn replay(arguments: &Replay) -> anyhow::Result<()> {
    let Replay { file, print, passes } = arguments;
    let passes: Vec<&str> = match passes {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => redmagic_opt::PASSES.to_vec(),
    };
    let recording = redmagic_record::codec::load(file).with_context(|| format!("{} is not read", file.display()))?;
    let mut out = std::io::stdout().lock();
    for stage in print {
        let text = match stage {
            Stage::Instructions => replay::instructions(&recording),
            Stage::IrAll => replay::passes(&recording, &passes, false)?,
            Stage::Asm => replay::asm(&recording, &passes)?,
            Stage::IrOpt => replay::passes(&recording, &passes, true)?,
            Stage::Ir => replay::ir(&recording).with_context(|| format!("{}", file.display()))?,
        };
        match out.write_all(text.as_bytes()) {
            // A reader that has seen enough, such as head.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.context("standard output")?,
        }
    }
    Ok(())
}

/// Compiles recordings, and says how long it took.
///
/// # Errors
/// A file that is no recording, or one that cannot be compiled.
pub fn time(arguments: &Time) -> anyhow::Result<()> {
    let Time { files, repeat, json } = arguments;
    let params = Params::from_lookup(|name| std::env::var(name).ok())?;
    let mut rows = Vec::new();
    for file in files {
        let recording =
            redmagic_record::codec::load(file).with_context(|| format!("{} is not read", file.display()))?;
        rows.push(timing::measure(file, &recording, &params, *repeat)?);
    }
    if *json {
        println!("{}", serde_json::to_string(&rows)?);
    } else {
        print!("{}", timing::table(&rows));
    }
    Ok(())
}
