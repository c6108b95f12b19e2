//! The daemon's side of the handshake with a starting target.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::socket::{getsockopt, sockopt};
use redmagic_engine::Params;
use redmagic_proto::message::{Hello, Mapped, WELCOME_MAP, WELCOME_REFUSED, WELCOME_VERSION, Welcome};
use redmagic_proto::{MAGIC, PROTOCOL_VERSION};
use redmagic_tracee::maps::Maps;

use crate::regions::{self, Regions};
use crate::session::{Parts, Session};
use crate::target::{Refusal, Shim};
use crate::wire;

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// What came was no Hello.
    #[error("a peer sent what is no greeting: it was cut off")]
    Garbage,
    /// A peer that is somebody else's.
    #[error("process {pid} of user {uid} asked for a session; only processes of user {own} get one here")]
    Stranger {
        /// The process.
        pid: i32,
        /// Its user.
        uid: u32,
        /// Ours.
        own: u32,
    },
    /// It cannot be a target.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not map the regions.
    #[error("process {pid} could not map the shared regions: {errno}; it runs plain")]
    NotMapped {
        /// The process.
        pid: i32,
        /// Its errno.
        errno: nix::errno::Errno,
    },
    /// The socket failed: most likely the target did not wait.
    #[error("the handshake broke off: {0}")]
    Socket(#[from] nix::errno::Errno),
    /// No memory for the regions.
    #[error("the shared regions could not be made: {0}")]
    Regions(#[from] std::io::Error),
}

/// The process at the other end, as the kernel names it.
///
/// # Errors
/// Those of getsockopt; [`HandshakeError::Stranger`].
pub fn peer(socket: &OwnedFd) -> Result<i32, HandshakeError> {
    let credentials = getsockopt(socket, sockopt::PeerCredentials)?;
    let own = nix::unistd::geteuid().as_raw();
    if own != 0 && credentials.uid() != own {
        return Err(HandshakeError::Stranger {
            pid: credentials.pid(),
            uid: credentials.uid(),
            own,
        });
    }
    Ok(credentials.pid())
}

/// Serves one connection. On success the target uses the regions.
///
/// # Errors
/// See [`HandshakeError`]; the target then runs plain.
pub fn serve(
    socket: &OwnedFd,
    params: &Params,
    save_recordings: Option<std::path::PathBuf>,
) -> Result<Arc<Session>, HandshakeError> {
    let pid = peer(socket)?;
    let hello: Hello = wire::receive(socket)?.ok_or(HandshakeError::Garbage)?;
    if hello.magic != MAGIC {
        return Err(HandshakeError::Garbage);
    }
    let mut welcome = Welcome {
        magic: MAGIC,
        version: PROTOCOL_VERSION,
        status: WELCOME_MAP,
        layout: Default::default(),
    };
    if hello.version != PROTOCOL_VERSION {
        welcome.status = WELCOME_VERSION;
        wire::send(socket, &welcome, &[])?;
        return Err(Refusal::Version {
            pid,
            theirs: hello.version,
            ours: PROTOCOL_VERSION,
        }
        .into());
    }
    let prepared = prepare(pid, hello.descriptor, params, save_recordings);
    let (session, regions) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            welcome.status = WELCOME_REFUSED;
            wire::send(socket, &welcome, &[])?;
            return Err(error);
        }
    };
    welcome.layout = session.layout;
    wire::send(socket, &welcome, &regions.each_ref())?;
    let mapped: Mapped = wire::receive(socket)?.ok_or(HandshakeError::Garbage)?;
    if mapped.magic != MAGIC {
        return Err(HandshakeError::Garbage);
    }
    if mapped.errno != 0 {
        return Err(HandshakeError::NotMapped {
            pid,
            errno: nix::errno::Errno::from_raw(mapped.errno as i32),
        });
    }
    Ok(Arc::new(session))
}

fn prepare(
    pid: i32,
    descriptor: u64,
    params: &Params,
    save_recordings: Option<std::path::PathBuf>,
) -> Result<(Session, [OwnedFd; 3]), HandshakeError> {
    let maps = Maps::read(pid).map_err(Refusal::from)?;
    let shim = Shim::read(pid, descriptor)?;
    prepare_session(shim, &maps, params, save_recordings)
}

/// Makes the regions and the session for a shim that was found.
///
/// # Errors
/// [`Refusal::NoSpace`], or no memory.
pub fn prepare_session(
    shim: Shim,
    maps: &Maps,
    params: &Params,
    save_recordings: Option<std::path::PathBuf>,
) -> Result<(Session, [OwnedFd; 3]), HandshakeError> {
    let code_bytes = params.codesize * 1024;
    let layout = shim.place(maps, code_bytes)?;
    let regions = Regions::new(code_bytes as usize)?;
    let session = Session::new(Parts {
        shim,
        layout,
        code: regions.code,
        entries: regions.entries,
        control: regions.control,
        control_view: regions.control_view,
        sessions_before: regions::mapped(maps),
        params: params.clone(),
        save_recordings,
    })
    .map_err(Refusal::from)?;
    Ok((session, regions.files))
}
