//! `redmagic`: run a program under the JIT, and ask about it.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use redmagic_cli::probe::{self, Program};
use redmagic_cli::{explain, launch, log, offline, show};
use redmagic_daemon::attach;
use redmagic_daemon::client::{Answer, Command, ask};
use redmagic_engine::Params;
use redmagic_proto::message::{LATER_VARIABLE, SOCKET_VARIABLE};

/// Exit status when the command cannot be found, and when it cannot be run (as a shell has it).
const NOT_FOUND: u8 = 127;
const CANNOT_RUN: u8 = 126;
/// Exit status of redmagic's own failures.
const FAILED: u8 = 125;

/// Makes annotated interpreters fast from the outside.
#[derive(Parser)]
#[command(
    version,
    after_help = "Tunables are environment variables: `redmagic params` lists them."
)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Run a command with a daemon beside it. Pid, terminal, signals and exit status are the command's own.
    Run(Run),
    /// End the session of a process; it runs on plain.
    Detach {
        /// The process.
        pid: i32,
    },
    /// What a session has come to.
    Status {
        /// The process.
        pid: i32,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// The traces of a session.
    Traces {
        /// The process.
        pid: i32,
        /// A JSON array.
        #[arg(long)]
        json: bool,
    },
    /// What keeps each hot loop from being compiled, or from being fast.
    Explain {
        /// The process.
        #[arg(required_unless_present = "stats")]
        pid: Option<i32>,
        /// A program that has ended, by what `run --stats FILE` left.
        #[arg(long, value_name = "FILE", conflicts_with = "pid")]
        stats: Option<PathBuf>,
        /// How long to look at where a running process spends its time, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 0.5, value_parser = seconds)]
        sample: f64,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print a saved recording.
    Replay(offline::Replay),
    /// How long compiling saved recordings takes, by stage.
    Time(offline::Time),
    /// The tunables, with their environment variables and defaults.
    Params,
}

#[derive(clap::Args)]
struct Run {
    /// The daemon's log.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Statistics, written as JSON when the program has ended.
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,
    /// A folder to save every compiled recording in.
    #[arg(long, value_name = "FOLDER")]
    save_recordings: Option<PathBuf>,
    /// Say in the statistics what the time of the program's first thread went into, by samples of it and its stack.
    #[arg(long, requires = "stats")]
    profile: bool,
    /// Fail when the program has no shim, in place of running it plain.
    #[arg(long)]
    require: bool,
    /// The command.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

/// Where this program begins (see the build script): nothing else here refers to it.
#[used]
static ENTRY: unsafe extern "C" fn() -> ! = redmagic_start::redmagic_entry;

fn main() -> ExitCode {
    let result = match Arguments::parse().what {
        What::Run(run) => return run_command(&run),
        What::Detach { pid } => ask(pid, Command::Detach).map(|_| ()).map_err(Into::into),
        What::Status { pid, json } => status(pid, json),
        What::Traces { pid, json } => traces(pid, json),
        What::Replay(_) | What::Time(_) => hand_on(),
        What::Explain {
            pid,
            stats,
            sample,
            json,
        } => explain(pid, stats.as_deref(), sample, json),
        What::Params => {
            for row in redmagic_engine::params::TABLE {
                println!(
                    "{:<24} default {:<8} {}..={} {}",
                    row.variable, row.default, row.low, row.high, row.doc
                );
            }
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redmagic: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn status(pid: i32, json: bool) -> anyhow::Result<()> {
    match ask(pid, Command::Status)? {
        Answer::Status(status) if json => println!("{}", serde_json::to_string(&status)?),
        Answer::Status(status) => print!("{}", show::status(&status)),
        other => bail!("unexpected answer: {other:?}"),
    }
    Ok(())
}

fn traces(pid: i32, json: bool) -> anyhow::Result<()> {
    match ask(pid, Command::Traces)? {
        Answer::Traces(rows) if json => println!("{}", serde_json::to_string(&rows)?),
        Answer::Traces(rows) => print!("{}", show::traces(&rows)),
        other => bail!("unexpected answer: {other:?}"),
    }
    Ok(())
}

/// A time of up to a minute.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0 to 60".to_owned()),
    }
}

fn explain(pid: Option<i32>, stats: Option<&Path>, sample: f64, json: bool) -> anyhow::Result<()> {
    let explanation = match (pid, stats) {
        (Some(pid), _) => {
            if sample > 0.0 {
                ask(pid, Command::Sample)?;
                std::thread::sleep(Duration::from_secs_f64(sample));
            }
            match ask(pid, Command::Explain)? {
                Answer::Explained(explanation) => *explanation,
                other => bail!("unexpected answer: {other:?}"),
            }
        }
        (None, Some(file)) => explain::from_stats(file)?,
        (None, None) => bail!("a process or --stats FILE is needed"),
    };
    if json {
        println!("{}", serde_json::to_string(&explanation)?);
    } else {
        print!("{}", explain::text(&explanation));
    }
    Ok(())
}

/// Has the daemon's program do what needs the compiler: this one is started with every program, and small.
fn hand_on() -> anyhow::Result<()> {
    let path = launch::daemon_path()?;
    let error = std::process::Command::new(&path)
        .args(std::env::args_os().skip(1))
        .exec();
    Err(error).with_context(|| path.display().to_string())
}

/// Starts the daemon, then becomes the command.
fn run_command(run: &Run) -> ExitCode {
    let command = &run.command[0];
    let Some(path) = probe::find(command) else {
        eprintln!("redmagic: {}: command not found", command.display());
        return ExitCode::from(NOT_FOUND);
    };
    if let Some(refused) = refusal(&path) {
        if run.require {
            eprintln!("redmagic: {}: not run (--require)", refused.why);
            return ExitCode::from(FAILED);
        }
        eprintln!("redmagic: {}: it runs plain{}", refused.why, refused.but);
    }
    match start_daemon(run) {
        // SAFETY: this process has one thread.
        Ok((socket, daemon)) => unsafe {
            std::env::set_var(SOCKET_VARIABLE, socket);
            if let Some(daemon) = daemon {
                std::env::set_var(LATER_VARIABLE, format!("{} {daemon}", std::process::id()));
            }
        },
        Err(error) => {
            if run.require {
                eprintln!("redmagic: {error:#}");
                return ExitCode::from(FAILED);
            }
            eprintln!("redmagic: {error:#}; running the program plain");
        }
    }
    let argv: Vec<CString> = run
        .command
        .iter()
        .filter_map(|a| CString::new(a.as_bytes()).ok())
        .collect();
    let Ok(file) = CString::new(path.as_os_str().as_bytes()) else {
        return ExitCode::from(NOT_FOUND);
    };
    // Rust's runtime ignores SIGPIPE; the program must find it as the shell left it.
    // SAFETY: sets a disposition; nothing runs concurrently.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let Err(errno) = nix::unistd::execv(&file, &argv);
    eprintln!("redmagic: {}: {}", path.display(), errno.desc());
    ExitCode::from(if errno == nix::errno::Errno::ENOENT {
        NOT_FOUND
    } else {
        CANNOT_RUN
    })
}

/// Why a program will run plain.
struct Refusal {
    /// The reason, and what to do about it.
    why: String,
    /// What is to be said of running it plain.
    but: &'static str,
}

/// Why a program will run plain; `None` when it (or what it runs) may have a shim.
fn refusal(path: &Path) -> Option<Refusal> {
    match probe::look(path) {
        Program::Annotated | Program::Unknown => None,
        Program::Script(interpreter) => match probe::look(&interpreter) {
            Program::Plain => Some(no_shim(&interpreter, path)),
            _ => None,
        },
        Program::ThirtyTwoBit => Some(Refusal {
            why: format!(
                "{} is a 32-bit program; Redmagic works on x86-64 programs only",
                path.display()
            ),
            but: "",
        }),
        Program::Plain => Some(no_shim(path, path)),
    }
}

/// How the names of interpreters begin, and the script of this repository that builds an annotated one.
const BUILDERS: [(&str, &str); 2] = [("python", "scripts/build-cpython"), ("lua", "scripts/build-lua")];

/// `interpreter` is what would run; `command` is what was asked for, which may be a script that leads to another.
fn no_shim(interpreter: &Path, command: &Path) -> Refusal {
    let builder = [interpreter, command].into_iter().find_map(|path| {
        let name = path.file_name()?.to_str()?;
        BUILDERS.iter().find(|(begin, _)| name.starts_with(begin))
    });
    let advice = match builder {
        Some((_, script)) => format!("{script} builds one that has"),
        None => "link the interpreter with libredmagic, see docs/embedding.md".to_owned(),
    };
    Refusal {
        why: format!("{} has no Redmagic shim ({advice})", interpreter.display()),
        but: "; annotated programs that it starts do not",
    }
}

/// Gives the name of the daemon's socket, and the daemon's pid if it comes by itself when the program has run for some time.
/// With `--require` its start is waited for, so that a failure is seen.
fn start_daemon(run: &Run) -> anyhow::Result<(String, Option<i32>)> {
    let params = Params::from_lookup(|name| std::env::var(name).ok())?;
    let mut arguments: Vec<OsString> = vec!["serve".into(), std::process::id().to_string().into()];
    if let Some(path) = &run.log {
        match log::open(path) {
            Ok(_) => arguments.extend(["--log".into(), absolute(path)?.into()]),
            Err(error) => eprintln!("redmagic: {error:#}; going on without a log"),
        }
    }
    if let Some(path) = &run.stats {
        arguments.extend(["--stats".into(), absolute(path)?.into()]);
    }
    if let Some(path) = &run.save_recordings {
        std::fs::create_dir_all(path).with_context(|| format!("{} cannot be made", path.display()))?;
        arguments.extend(["--save-recordings".into(), absolute(path)?.into()]);
    }
    if run.profile {
        arguments.push("--profile".into());
    }
    if params.after == 0 {
        return Ok((launch::start(&arguments)?, None));
    }
    let name = attach::private_name("greet");
    arguments.extend(["--socket".into(), name.clone().into()]);
    if run.require {
        launch::start(&arguments)?;
        return Ok((name, None));
    }
    Ok((name, Some(launch::start_unheard(&arguments)?)))
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} has no absolute form", path.display()))
}
