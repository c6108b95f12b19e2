//! Where the daemon's log goes.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// Environment variable with the filter of the log (`info`, `debug`, `redmagic_engine=trace` ...).
pub const FILTER_VARIABLE: &str = "REDMAGIC_LOG";

/// Opens a log file and writes a first line, so that a full disk is noticed here.
///
/// # Errors
/// When the file cannot be opened or written; the text names the cause.
pub fn open(path: &Path) -> anyhow::Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("the log {} cannot be opened; name another with --log", path.display()))?;
    writeln!(
        file,
        "redmagicd {} process {}",
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    )
    .with_context(|| {
        format!(
            "the log {} cannot be written; free some space or name another with --log",
            path.display()
        )
    })?;
    Ok(file)
}

/// Sends `tracing` to a file.
pub fn init(file: File) {
    // A bug of ours says where it is, though nobody reads standard error.
    std::panic::set_hook(Box::new(|panic| tracing::error!("bug in redmagicd: {panic}")));
    let filter = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&filter).unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::sync::Mutex::new(file))
        .with_ansi(false)
        .init();
}
