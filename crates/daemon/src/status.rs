//! What `status`, `traces` and `--stats` show. Field names are an interface: programs read
//! them.

use std::collections::BTreeMap;

use redmagic_engine::graph::{AnchorState, Link, Origin};
use redmagic_engine::timing::Stages;
use redmagic_proto::ApiFn;
use serde::{Deserialize, Serialize};

use crate::explain::Explanation;
use crate::payoff::Measured;
use crate::profile::Profile;
use crate::session::{Session, lock};

/// `status --json PID`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Status {
    /// The target.
    pub pid: i32,
    /// The daemon.
    pub daemon_pid: u32,
    /// `active` or `ending`.
    pub state: String,
    /// Root traces that can be entered.
    pub traces: u64,
    /// Side traces.
    pub side_traces: u64,
    /// Aborted recordings and refused compilations.
    pub aborts: u64,
    /// The same by reason.
    pub abort_reasons: BTreeMap<String, u64>,
    /// Traces that are copied because they could not be optimised, by reason.
    pub not_optimised: BTreeMap<String, u64>,
    /// Anchors that will not be tried again.
    pub blacklisted: u64,
    /// Bytes of the code region in use.
    pub code_bytes: u64,
    /// Roots dropped because their bytecode went away or was disabled.
    pub dropped: u64,
    /// Exits of all traces.
    pub exits: u64,
    /// Seconds that threads waited to be recorded.
    pub record_s: f64,
    /// Seconds spent compiling and installing.
    pub compile_s: f64,
    /// The same by stage, in the order of the stages.
    pub compile_stages: Vec<StageTime>,
    /// Instructions of the recordings that were compiled.
    pub instructions_compiled: u64,
    /// Instructions recorded.
    pub instructions_recorded: u64,
    /// Recordings made by emulation, and by stepping.
    pub emulated: u64,
    /// As above.
    pub stepped: u64,
    /// Why recordings were stepped, by reason.
    pub needs_real: BTreeMap<String, u64>,
    /// Recordings made both ways (REDMAGIC_RECORDER=2) that were the same, and that were not.
    pub recorders_agreed: u64,
    /// As above.
    pub recorders_differed: u64,
    /// Nanoseconds a recorded instruction, emulating, page reads included; 0 if there was none.
    pub emulated_ns: f64,
    /// The same for stepping.
    pub stepped_ns: f64,
    /// Nanoseconds an executed instruction, emulating: those within kept calls are counted too.
    pub executed_ns: f64,
    /// How long threads waited while they were recorded by emulation, in microseconds: half of them, and 99 in a
    /// hundred, no longer than this.
    pub pause_p50_us: u32,
    /// As above.
    pub pause_p99_us: u32,
    /// Recordings put off because of REDMAGIC_RECORDSHARE.
    pub postponed: u64,
    /// How often threads were hot, and ran on, while nothing could be recorded.
    pub notes: u64,
    /// What the program gained by its traces when that was measured last: REDMAGIC_PAYOFF.
    pub measured: Option<Measured>,
    /// Seconds from the session's start to the first trace.
    pub time_to_first_trace_s: Option<f64>,
    /// Share of the first thread's time spent in generated code, from 0 to 1; only when
    /// statistics were asked for and perf events are allowed.
    pub trace_time_share: Option<f64>,
    /// Age of the session in seconds.
    pub session_s: f64,
    /// The longest wait of a parked thread, in microseconds.
    pub longest_wait_us: u64,
    /// Threads that waited in vain.
    pub stalls: u32,
    /// What the user should know.
    pub messages: Vec<String>,
}

/// How long one stage of compiling took.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct StageTime {
    /// Its name.
    pub stage: String,
    /// Seconds, of all traces together.
    pub seconds: f64,
}

/// Stages as they are shown.
pub fn stage_times(stages: &Stages) -> Vec<StageTime> {
    let shown = stages.iter().map(|(stage, time)| StageTime {
        stage: stage.to_owned(),
        seconds: time.as_secs_f64(),
    });
    shown.collect()
}

/// One row of `traces`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct TraceRow {
    /// Its number.
    pub trace: u32,
    /// `root` or `side`.
    pub kind: String,
    /// Root: the function of its anchor, the id and the return address. Side: the exit.
    pub origin: String,
    /// The root of its tree.
    pub root: u32,
    /// How it ends.
    pub link: String,
    /// Instructions in its recording.
    pub instructions: u64,
    /// Of these, left out because their results are known.
    pub folded: u64,
    /// Operations of the optimised trace; `None` when recorded instructions are repeated.
    pub operations: Option<u64>,
    /// Address of its code in the target.
    pub code: u64,
    /// Its size.
    pub code_bytes: u64,
    /// How many exits it has.
    pub exits: u64,
    /// Whether nothing leads to it any more.
    pub dropped: bool,
}

/// A snapshot of a session.
pub fn status(session: &Session) -> Status {
    use redmagic_proto::control::Control;
    use std::mem::offset_of;
    use std::sync::atomic::Ordering;
    session.take_samples();
    let trace_time_share = lock(&session.sampler).as_ref().and_then(crate::sample::Sampler::share);
    let recorders = lock(&session.recorders).clone();
    let engine = lock(&session.engine);
    let counts = engine.counts();
    let graph = engine.graph();
    let roots = graph.live().filter(|t| matches!(t.origin, Origin::Root(_))).count() as u64;
    Status {
        pid: session.pid,
        daemon_pid: std::process::id(),
        state: if session.ending().is_some() { "ending" } else { "active" }.into(),
        traces: roots,
        side_traces: graph.live().count() as u64 - roots,
        aborts: counts.aborts.values().sum(),
        abort_reasons: counts.aborts.iter().map(|(k, v)| (k.name().to_owned(), *v)).collect(),
        not_optimised: counts
            .not_optimised
            .iter()
            .map(|(k, v)| ((*k).to_owned(), *v))
            .collect(),
        blacklisted: graph
            .anchors
            .values()
            .filter(|a| a.state == AnchorState::Blacklisted)
            .count() as u64,
        code_bytes: engine.cache().used_bytes() as u64,
        dropped: counts.dropped,
        exits: graph.exits.len() as u64,
        record_s: counts.recording.as_secs_f64(),
        compile_s: counts.compiling.as_secs_f64(),
        compile_stages: stage_times(&counts.stages),
        instructions_compiled: counts.compiled_instructions,
        instructions_recorded: counts.instructions,
        emulated: recorders.emulated.recordings,
        stepped: recorders.stepped.recordings,
        needs_real: recorders
            .needs_real
            .iter()
            .map(|(k, v)| ((*k).to_owned(), *v))
            .collect(),
        recorders_agreed: recorders.agreed,
        recorders_differed: recorders.differed,
        emulated_ns: recorders.emulated.ns_an_instruction(),
        stepped_ns: recorders.stepped.ns_an_instruction(),
        executed_ns: recorders.emulated.time.as_nanos() as f64 / recorders.emulated.executed.max(1) as f64,
        pause_p50_us: recorders.pauses.quantile(0.5),
        pause_p99_us: recorders.pauses.quantile(0.99),
        postponed: counts.postponed,
        notes: session.notes.load(Ordering::Relaxed),
        measured: *lock(&session.measured),
        time_to_first_trace_s: counts.first_trace.map(|d| d.as_secs_f64()),
        trace_time_share,
        session_s: session.began.elapsed().as_secs_f64(),
        longest_wait_us: session
            .control
            .u64(offset_of!(Control, longest_wait_us))
            .load(Ordering::Relaxed),
        stalls: session.control.u32(offset_of!(Control, stalls)).load(Ordering::Relaxed),
        messages: lock(&session.messages).clone(),
    }
}

/// All traces of a session.
pub fn traces(session: &Session) -> Vec<TraceRow> {
    let engine = lock(&session.engine);
    let graph = engine.graph();
    let name = |api: Option<ApiFn>| api.map_or("?", |a| a.symbol().trim_start_matches("redmagic_"));
    graph
        .traces
        .iter()
        .enumerate()
        .map(|(number, trace)| {
            let (kind, origin) = match trace.origin {
                Origin::Root(key) => (
                    "root",
                    format!(
                        "{} id {:#x} at {:#x}",
                        name(graph.anchors.get(&key).map(|a| a.api)),
                        key.id,
                        key.return_address
                    ),
                ),
                Origin::Side { exit, parent } => ("side", format!("exit {exit} of trace {parent}")),
            };
            let link = match trace.link {
                Link::Anchor(key) if trace.origin == Origin::Root(key) => "loop".to_owned(),
                Link::Anchor(key) => match graph.compiled(key) {
                    Some(other) => format!("trace {other}"),
                    None => format!("anchor id {:#x}", key.id),
                },
                Link::Native(target) => format!("original code at {target:#x}"),
            };
            TraceRow {
                trace: number as u32,
                kind: kind.into(),
                origin,
                root: trace.root,
                link,
                instructions: trace.instructions as u64,
                folded: trace.folded as u64,
                operations: trace.operations.map(|count| count as u64),
                code: trace.code.hot.start,
                code_bytes: trace.code.bytes() as u64,
                exits: u64::from(trace.exits.end - trace.exits.start),
                dropped: trace.dropped,
            }
        })
        .collect()
}

/// What `redmagic run --stats FILE` writes at the end.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    /// Every pause of a thread for a recording by emulation, in microseconds.
    pub pauses_us: Vec<u32>,
    /// The last status.
    #[serde(flatten)]
    pub status: Status,
    /// What kept loops from being compiled or fast: `redmagic explain --stats FILE` shows it.
    pub explanation: Explanation,
    /// What the time went into, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Processor time of the daemon in seconds.
    pub daemon_cpu_s: f64,
    /// Largest resident set of the daemon in KiB.
    pub daemon_peak_rss_kb: u64,
    /// Why the session ended.
    pub ending: String,
}
