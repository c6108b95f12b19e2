//! What commands print for people.

use redmagic_daemon::status::{Status, TraceRow};
use redmagic_record::abort::Abort;

/// `status`.
pub fn status(status: &Status) -> String {
    let mut out = format!(
        "process {}: {}, redmagicd {}, {:.1} s\n  traces {}  side traces {}  aborts {}  blacklisted {}  code {} bytes  exits {}\n",
        status.pid,
        status.state,
        status.daemon_pid,
        status.session_s,
        status.traces,
        status.side_traces,
        status.aborts,
        status.blacklisted,
        status.code_bytes,
        status.exits,
    );
    out += &format!(
        "  recording {:.3} s ({} instructions), compiling {:.3} s, longest wait {} us, stalls {}\n",
        status.record_s, status.instructions_recorded, status.compile_s, status.longest_wait_us, status.stalls,
    );
    for (name, count) in &status.abort_reasons {
        let text = Abort::ALL
            .iter()
            .find(|a| a.name() == name)
            .map_or("", |a| a.explanation());
        out += &format!("  aborted {count} x {name}: {text}\n");
    }
    for message in &status.messages {
        out += &format!("  {message}\n");
    }
    out
}

/// `traces`.
pub fn traces(rows: &[TraceRow]) -> String {
    let mut out = String::from("trace  kind  instructions  code bytes  exits  ends at            starts at\n");
    for row in rows {
        out += &format!(
            "{:>5}  {:<4}  {:>12}  {:>10}  {:>5}  {:<18} {}{}\n",
            row.trace,
            row.kind,
            row.instructions,
            row.code_bytes,
            row.exits,
            row.link,
            row.origin,
            if row.dropped { " (dropped)" } else { "" },
        );
    }
    out
}
