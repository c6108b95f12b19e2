//! Starting a daemon beside a process, and hearing from it.
//!
//! The daemon has no descriptor of ours but one end of a pipe, on which it says once whether it is ready; [`Plan`] says how it
//! becomes nobody's child. `redmagic_start` has the short way, for when nobody is to hear.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
pub use redmagic_start::beside::READY_FD;
use redmagic_start::beside::{Plan, STACK};
pub use redmagic_start::need::LISTENING_FD;

/// How long a daemon may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// The `redmagicd` that belongs to this `redmagic`: the one beside it.
///
/// # Errors
/// When there is none.
pub fn daemon_path() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program is not known")?;
    let path = own.with_file_name("redmagicd");
    if !path.is_file() {
        bail!("{} is missing; install redmagicd beside redmagic", path.display());
    }
    Ok(path)
}

/// Starts a daemon with these arguments and waits until it says something. Gives what it
/// said after `ok `, or its error.
///
/// Must be called while this process has one thread.
///
/// # Errors
/// What the daemon said, or that it said nothing.
pub fn start(arguments: &[std::ffi::OsString]) -> anyhow::Result<String> {
    let (reader, _) = spawn(arguments, true)?;
    said(reader)
}

/// Starts a daemon with these arguments, and does not wait until it is ready. Gives its pid.
///
/// Must be called while this process has one thread.
///
/// # Errors
/// When there is no daemon to start, or no process.
pub fn start_unheard(arguments: &[std::ffi::OsString]) -> anyhow::Result<i32> {
    let (_, pid) = spawn(arguments, false)?;
    Ok(pid)
}

/// `hears`: whether somebody waits for what the daemon says.
fn spawn(arguments: &[std::ffi::OsString], hears: bool) -> anyhow::Result<(std::io::PipeReader, i32)> {
    unsafe extern "C" {
        static environ: *const *const u8;
    }
    let path = CString::new(daemon_path()?.as_os_str().as_bytes())?;
    let mut words = vec![CString::new("redmagicd")?];
    for argument in arguments {
        words.push(CString::new(argument.as_bytes())?);
    }
    // Never freed: nobody knows when a daemon that is not waited for has its own memory. This process soon becomes the program.
    let words = words.into_iter().map(|word| word.into_raw().cast_const().cast());
    let words: Vec<*const u8> = words.chain([std::ptr::null()]).collect();
    let stack = || {
        let blocks = vec![0u128; STACK / size_of::<u128>()].leak();
        blocks.as_mut_ptr_range().end.cast()
    };
    let (reader, writer) = std::io::pipe()?;
    let plan = Box::leak(Box::new(Plan {
        path: path.into_raw().cast_const().cast(),
        arguments: words.leak().as_ptr(),
        // SAFETY: this process has one thread, so nobody writes it meanwhile.
        environment: unsafe { environ },
        ready: writer.as_raw_fd(),
        stacks: [stack(), stack()],
        waits: hears,
        need: std::ptr::null(),
        daemon: 0,
    }));
    // SAFETY: all that the plan leads to is leaked, but the environment, which is the list that the kernel has made: setting a
    // variable makes another. This process has one thread.
    let daemon = unsafe { Plan::start(plan) };
    let daemon = daemon.map_err(Errno::from_raw);
    Ok((reader, daemon.context("no process could be made for redmagicd")?))
}

fn said(mut reader: std::io::PipeReader) -> anyhow::Result<String> {
    use std::os::fd::AsFd;
    let deadline = Instant::now() + PATIENCE;
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("redmagicd did not start within {PATIENCE:?}");
        }
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut bytes = [0; 4096];
        match reader.read(&mut bytes) {
            Ok(0) => break,
            Ok(n) => text.extend(&bytes[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let text = String::from_utf8_lossy(&text);
    match text.trim_end().split_once(' ') {
        Some(("ok", rest)) => Ok(rest.to_owned()),
        Some(("error", rest)) => bail!("{rest}"),
        _ => bail!("redmagicd ended while it started; its log (--log FILE) may say why"),
    }
}
