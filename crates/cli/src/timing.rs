//! `redmagic time`: how long compiling saved recordings takes.
//!
//! Each recording is compiled as the daemon does it, into a region beside the original code that nobody runs, some times over;
//! of each stage the median counts. Recording and installing are not here: they need a program.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use redmagic_daemon::status::{StageTime, stage_times};
use redmagic_engine::timing::Stages;
use redmagic_engine::{Draft, Params};
use redmagic_record::recording::Recording;
use serde::Serialize;

/// What compiling one recording takes.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The recording.
    pub file: String,
    /// Instructions recorded.
    pub instructions: usize,
    /// Bytes of generated code, stubs included.
    pub code_bytes: usize,
    /// Bytes of constants and slots.
    pub data_bytes: usize,
    /// Why it is copied, if it is not optimised.
    pub not_optimised: Option<&'static str>,
    /// The median of each stage.
    pub stages: Vec<StageTime>,
}

/// Compiles a recording `repeat` times.
///
/// # Errors
/// A recording that cannot be compiled at all.
pub fn measure(file: &Path, recording: &Recording, params: &Params, repeat: u32) -> anyhow::Result<Row> {
    let (job, draft) = Draft::offline(recording, params.clone());
    let mut times: Vec<(&'static str, Vec<Duration>)> = Vec::new();
    let mut made = None;
    for _ in 0..repeat.max(1) {
        let compilation = draft.compile(&job, recording);
        for (stage, time) in compilation.stages().iter() {
            match times.iter_mut().find(|(name, _)| *name == stage) {
                Some((_, all)) => all.push(time),
                None => times.push((stage, vec![time])),
            }
        }
        made = Some(compilation);
    }
    let made = made.context("it is compiled at least once")?;
    let (code_bytes, data_bytes) = made
        .bytes()
        .with_context(|| format!("{} cannot be compiled", file.display()))?;
    let mut stages = Stages::default();
    for (stage, mut all) in times {
        all.sort_unstable();
        stages.add(stage, all[all.len() / 2]);
    }
    Ok(Row {
        file: file.display().to_string(),
        instructions: recording.steps.len(),
        code_bytes,
        data_bytes,
        not_optimised: made.not_optimised(),
        stages: stage_times(&stages),
    })
}

/// All rows together, for people.
pub fn table(rows: &[Row]) -> String {
    let instructions: usize = rows.iter().map(|row| row.instructions).sum();
    let mut sums: Vec<(&str, f64)> = Vec::new();
    for stage in rows.iter().flat_map(|row| &row.stages) {
        match sums.iter_mut().find(|(name, _)| *name == stage.stage) {
            Some((_, sum)) => *sum += stage.seconds,
            None => sums.push((&stage.stage, stage.seconds)),
        }
    }
    let each = |seconds: f64| seconds * 1e6 / instructions.max(1) as f64;
    let mut out = String::from("stage         us a recorded instruction\n");
    for (stage, seconds) in &sums {
        out += &format!("{stage:<12}  {:.3}\n", each(*seconds));
    }
    let total: f64 = sums.iter().map(|(_, seconds)| seconds).sum();
    let code: usize = rows.iter().map(|row| row.code_bytes).sum();
    let copied = rows.iter().filter(|row| row.not_optimised.is_some()).count();
    out += &format!(
        "total         {:.3}\n{} recordings of {instructions} instructions, {copied} not optimised; {:.2} bytes of code a recorded instruction\n",
        each(total),
        rows.len(),
        code as f64 / instructions.max(1) as f64,
    );
    out
}
