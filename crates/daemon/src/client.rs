//! How the command line talks to a session: one JSON object each way, over a socket in the
//! abstract namespace that is named after the target.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::explain::Explanation;
use crate::status::{Status, TraceRow};

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest request that is read.
const MAX_REQUEST: u64 = 4096;

/// What can be asked of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// A [`Status`].
    Status,
    /// All [`TraceRow`]s.
    Traces,
    /// Sample where the time goes until the next [`Command::Explain`], if that is not done anyway.
    Sample,
    /// An [`Explanation`].
    Explain,
    /// End the session; answered when it has ended.
    Detach,
}

/// The answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Command::Status`].
    Status(Box<Status>),
    /// To [`Command::Traces`].
    Traces(Vec<TraceRow>),
    /// To [`Command::Sample`]: whether samples are taken.
    Sampling(bool),
    /// To [`Command::Explain`].
    Explained(Box<Explanation>),
    /// To [`Command::Detach`].
    Detached,
    /// A request that was not understood.
    Error(String),
}

/// Why a session could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no redmagicd is attached to process {0}; `redmagicd attach {0}` attaches one")]
    NoSession(i32),
    /// Somebody else's.
    #[error("the redmagicd of process {pid} belongs to user {uid}; ask as that user or as root")]
    Stranger {
        /// The target.
        pid: i32,
        /// The daemon's user.
        uid: u32,
    },
    /// It broke off or does not answer.
    #[error(
        "the redmagicd of process {pid} does not answer ({source}); if it is stopped, `kill -CONT` or `kill -9` it"
    )]
    Io {
        /// The target.
        pid: i32,
        /// Why.
        source: std::io::Error,
    },
    /// It answered something else.
    #[error("the redmagicd of process {pid} answered: {text}; use the redmagic of its version")]
    Answer {
        /// The target.
        pid: i32,
        /// What it said.
        text: String,
    },
}

fn address(pid: i32) -> std::io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("redmagic/session/{pid}"))
}

/// Listens for commands about a target.
///
/// # Errors
/// EADDRINUSE when another daemon does.
pub fn listen(pid: i32) -> std::io::Result<UnixListener> {
    UnixListener::bind_addr(&address(pid)?)
}

/// Asks the daemon of a target.
///
/// # Errors
/// See [`ClientError`].
pub fn ask(pid: i32, command: Command) -> Result<Answer, ClientError> {
    let io = |source| ClientError::Io { pid, source };
    let mut stream = address(pid)
        .and_then(|address| UnixStream::connect_addr(&address))
        .map_err(|_| ClientError::NoSession(pid))?;
    let owner = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials)
        .map_err(|e| io(e.into()))?
        .uid();
    let own = nix::unistd::geteuid().as_raw();
    if owner != own && own != 0 {
        return Err(ClientError::Stranger { pid, uid: owner });
    }
    stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
    let request = serde_json::to_string(&command).map_err(|e| io(e.into()))?;
    stream.write_all(request.as_bytes()).map_err(io)?;
    stream.shutdown(std::net::Shutdown::Write).map_err(io)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(io)?;
    match serde_json::from_str(&text) {
        Ok(Answer::Error(text)) => Err(ClientError::Answer { pid, text }),
        Ok(answer) => Ok(answer),
        Err(_) => Err(ClientError::Answer { pid, text }),
    }
}

/// Reads one request.
///
/// # Errors
/// Whatever is wrong with it, as an answer.
pub fn read(stream: &mut UnixStream) -> Result<Command, Answer> {
    let error = |text: String| Answer::Error(text);
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .map_err(|e| error(e.to_string()))?;
    let mut text = String::new();
    stream
        .take(MAX_REQUEST)
        .read_to_string(&mut text)
        .map_err(|e| error(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| error(format!("not a request: {e}")))
}

/// Answers.
pub fn write(stream: &mut UnixStream, answer: &Answer) {
    let _ = stream.set_write_timeout(Some(Duration::from_millis(500)));
    if let Ok(text) = serde_json::to_string(answer)
        && let Err(error) = stream.write_all(text.as_bytes())
    {
        tracing::debug!(%error, "a client went away");
    }
}
