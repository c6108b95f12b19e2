//! `redmagicd`: the daemon, and `redmagicd attach PID` to start one for a running process.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use redmagic_cli::launch::{self, LISTENING_FD, READY_FD};
use redmagic_cli::{log, offline};
use redmagic_daemon::attach;
use redmagic_daemon::server::{self, Server, Settings};
use redmagic_engine::Params;
use redmagic_tracee::process;

/// Compiling is allocation: glibc takes a sixth of its time for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The daemon of Redmagic.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Attach to a running process. Returns when it is attached; the daemon goes on in the background.
    Attach {
        /// The process.
        pid: i32,
        /// Stay in the foreground until the session ends.
        #[arg(long)]
        foreground: bool,
        #[command(flatten)]
        outputs: Outputs,
    },
    /// Serve a process that `redmagic run` is about to become. Not for people.
    #[command(hide = true)]
    Serve {
        /// The process.
        pid: i32,
        /// Where it and its children greet; without it a name is made and said. With it, the daemon comes to the process by
        /// itself after some time.
        #[arg(long, value_name = "NAME")]
        socket: Option<String>,
        /// It is listened at already, as descriptor 4.
        #[arg(long, requires = "socket")]
        listening: bool,
        #[command(flatten)]
        outputs: Outputs,
    },
    /// `redmagic replay`. Not for people.
    #[command(hide = true)]
    Replay(offline::Replay),
    /// `redmagic time`. Not for people.
    #[command(hide = true)]
    Time(offline::Time),
    /// Attach and serve. Not for people.
    #[command(hide = true)]
    ServeAttached {
        /// The process.
        pid: i32,
        #[command(flatten)]
        outputs: Outputs,
    },
}

#[derive(clap::Args, Clone)]
struct Outputs {
    /// The daemon's log.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Statistics, written as JSON when the session has ended.
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,
    /// A folder to save every compiled recording in.
    #[arg(long, value_name = "FOLDER")]
    save_recordings: Option<PathBuf>,
    /// Say in the statistics what the time went into.
    #[arg(long, requires = "stats")]
    profile: bool,
}

fn main() -> ExitCode {
    let what = Arguments::parse().what;
    // What the user typed.
    let name = match what {
        What::Replay(_) | What::Time(_) => "redmagic",
        _ => "redmagicd",
    };
    let result = match what {
        What::Attach {
            pid,
            foreground: false,
            outputs,
        } => attach_in_background(pid, &outputs),
        What::Attach {
            pid,
            foreground: true,
            outputs,
        } => serve_attached(pid, &outputs, || {
            eprintln!("redmagicd: attached to process {pid}");
        }),
        What::Replay(arguments) => offline::replay(&arguments),
        What::Time(arguments) => offline::time(&arguments),
        What::Serve {
            pid,
            socket,
            listening,
            outputs,
        } => return ready(|ready| serve(pid, socket, listening, &outputs, ready)),
        What::ServeAttached { pid, outputs } => {
            return ready(|ready| serve_attached(pid, &outputs, || ready.say("ok attached")));
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The pipe on which a starting daemon says one line. Saying it closes the pipe, which is
/// what the launcher waits for.
struct Ready(Option<File>);

impl Ready {
    fn say(&mut self, text: &str) {
        if let Some(mut file) = self.0.take() {
            // Nobody listening any more is no reason to fail.
            let _ = writeln!(file, "{text}");
        }
    }
}

/// Runs a daemon that reports on [`READY_FD`].
fn ready(run: impl FnOnce(&mut Ready) -> anyhow::Result<()>) -> ExitCode {
    // SAFETY: the launcher left the pipe at this number, and nothing else here owns it.
    let mut ready = Ready(Some(File::from(unsafe { OwnedFd::from_raw_fd(READY_FD) })));
    match run(&mut ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ready.say(&format!("error {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn settings(outputs: &Outputs) -> anyhow::Result<Settings> {
    if let Some(path) = &outputs.log {
        log::init(log::open(path)?);
    }
    Ok(Settings {
        params: Params::from_lookup(|name| std::env::var(name).ok())?,
        stats: outputs.stats.clone(),
        save_recordings: outputs.save_recordings.clone(),
        profile: outputs.profile,
    })
}

fn serve(
    pid: i32,
    socket: Option<String>,
    listening: bool,
    outputs: &Outputs,
    ready: &mut Ready,
) -> anyhow::Result<()> {
    let settings = settings(outputs)?;
    let pidfd = match process::pidfd_open(pid) {
        Err(error) if error.is_gone() => {
            // It was over before this process began.
            if let Some(path) = &outputs.stats {
                server::write_no_session(path);
            }
            return Ok(());
        }
        other => other?,
    };
    let after = socket.as_ref().map(|_| Duration::from_millis(settings.params.after));
    let mut server = Server::new(settings).context("redmagicd could not start")?;
    let name = socket.unwrap_or_else(|| attach::private_name("greet"));
    let socket = if listening {
        // SAFETY: the process that became this one has opened it for that.
        let socket = unsafe { OwnedFd::from_raw_fd(LISTENING_FD) };
        nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).map(|_| socket)
    } else {
        attach::listener(&name)
    }
    .context("no socket for the program")?;
    server.serve_process(pid, pidfd, socket);
    match after {
        Some(after) => server.come_after(after),
        None => server.warm_up(),
    }
    ready.say(&format!("ok {name}"));
    server.run().context("redmagicd failed")
}

fn serve_attached(pid: i32, outputs: &Outputs, attached: impl FnOnce()) -> anyhow::Result<()> {
    let settings = settings(outputs)?;
    let params = settings.params.clone();
    let save = settings.save_recordings.clone();
    let mut server = Server::new(settings).context("redmagicd could not start")?;
    server.warm_up();
    let session = attach::attach(pid, &params, save)?;
    server.serve_session(session);
    attached();
    server.run().context("redmagicd failed")
}

fn attach_in_background(pid: i32, outputs: &Outputs) -> anyhow::Result<()> {
    Params::from_lookup(|name| std::env::var(name).ok())?;
    let mut arguments: Vec<OsString> = vec!["serve-attached".into(), pid.to_string().into()];
    let absolute = |path: &PathBuf| std::path::absolute(path).with_context(|| format!("{}", path.display()));
    for (option, value) in [
        ("--log", &outputs.log),
        ("--stats", &outputs.stats),
        ("--save-recordings", &outputs.save_recordings),
    ] {
        if let Some(value) = value {
            arguments.extend([option.into(), absolute(value)?.into()]);
        }
    }
    if let Some(path) = &outputs.log {
        log::open(path)?;
    }
    launch::start(&arguments)?;
    eprintln!("redmagicd: attached to process {pid}");
    Ok(())
}
