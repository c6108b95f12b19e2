//! Attaching to a process that was started with no daemon at all.
//!
//! All threads are stopped; one of them makes the system calls that the shim makes itself
//! at a launch: it connects to a socket of ours (the kernel tells us who), receives the
//! three descriptors, maps them, closes everything, installs the SIGTRAP handler and
//! registers the unwind information. Then the channel is opened. Both ways end in the same
//! state.

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket};
use redmagic_engine::Params;
use redmagic_proto::message::{Hello, Layout};
use redmagic_proto::{MAGIC, PROTOCOL_VERSION};
use redmagic_tracee::maps::{Maps, Region};
use redmagic_tracee::pin::Pin;
use redmagic_tracee::process::{self, Status};
use redmagic_tracee::syscall::Remote;
use redmagic_tracee::thread::Options;
use std::os::fd::AsRawFd;

use crate::handshake::{HandshakeError, prepare_session};
use crate::session::{Session, lock};
use crate::target::{Refusal, Shim};
use crate::wire;

/// Longest run of the function that registers unwind information.
const CALL_PATIENCE: Duration = Duration::from_millis(500);

/// Held while a process is attached to. A program that was late for its greeting and one that the daemon comes to by itself
/// may be the same, and a thread has one tracer at a time: the second finds what the first has done.
static ATTACHING: Mutex<()> = Mutex::new(());

/// A socket name that nobody else uses: in the abstract namespace, without its NUL.
pub fn private_name(what: &str) -> String {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos());
    format!("redmagic/{what}/{}/{nanos:x}", std::process::id())
}

/// A listening SOCK_SEQPACKET socket with an abstract name.
///
/// # Errors
/// Those of socket, bind and listen.
pub fn listener(name: &str) -> nix::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    listen(&fd, Backlog::new(64)?)?;
    Ok(fd)
}

/// Accepts a connection.
///
/// # Errors
/// Those of accept4.
pub fn accept(listener: &OwnedFd) -> nix::Result<OwnedFd> {
    let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches. On success the target uses the regions; on failure it is as it was.
///
/// # Errors
/// See [`HandshakeError`] and [`Refusal`].
pub fn attach(
    pid: i32,
    params: &Params,
    save_recordings: Option<std::path::PathBuf>,
) -> Result<Arc<Session>, HandshakeError> {
    if is_over(pid) {
        return Err(Refusal::NoProcess(pid).into());
    }
    // Looking for the shim and making the regions takes milliseconds, for which the program need not stand still.
    let early = prepare(pid, params, save_recordings.clone());
    let _alone = lock(&ATTACHING);
    // Who has a session may be traced by its recorder, and cannot be stopped to be asked.
    if early
        .as_ref()
        .is_ok_and(|(session, _)| has_channel(session).unwrap_or(false))
    {
        return Err(Refusal::Attached(pid).into());
    }
    // Permission first: without it not even the maps can be read, and the refusal would
    // name the wrong cause.
    let stopped = Instant::now();
    let mut threads = process::stop_all(pid, Options::default()).map_err(Refusal::from)?;
    let (session, files) = match early.ok().filter(|(session, _)| is_still_so(session)) {
        Some(prepared) => prepared,
        None => prepare(pid, params, save_recordings)?,
    };
    if has_channel(&session).map_err(Refusal::from)? {
        return Err(Refusal::Attached(pid).into());
    }
    let name = private_name("attach");
    let listening = listener(&name)?;
    let thread = threads
        .iter_mut()
        .find(|thread| thread.tid() == pid)
        .ok_or(Refusal::NoProcess(pid))?;
    // All of the program stands still for this.
    let mut pin = Pin::to(pid);
    if let Some(pin) = &mut pin {
        pin.hold();
    }
    let mut remote = Remote::new(thread).map_err(Refusal::from)?;
    let injected = inject(&mut remote, &session, &name, &listening, &files);
    let finished = remote.finish();
    drop(pin);
    injected?;
    finished.map_err(Refusal::from)?;
    session.open_channel().map_err(Refusal::from)?;
    drop(threads);
    tracing::debug!(pid, time = ?stopped.elapsed(), "attached");
    Ok(Arc::new(session))
}

/// Whether there is no such process, or no longer: then nobody misses its session.
pub fn is_over(pid: i32) -> bool {
    Status::read(pid).map_or(true, |status| status.tgid != pid || matches!(status.state, 'Z' | 'X'))
}

/// Whether the target uses the regions of a session, of this daemon or another.
fn has_channel(session: &Session) -> redmagic_tracee::error::Result<bool> {
    let memory = redmagic_tracee::memory::Memory::new(session.shim.pid);
    Ok(memory.read_u64(session.shim.page)? != 0)
}

/// Finds the shim and makes a session for it.
fn prepare(
    pid: i32,
    params: &Params,
    save_recordings: Option<std::path::PathBuf>,
) -> Result<(Session, [OwnedFd; 3]), HandshakeError> {
    let maps = Maps::read(pid).map_err(Refusal::from)?;
    let shim = Shim::find(pid, &maps)?;
    prepare_session(shim, &maps, params, save_recordings)
}

/// Whether what was prepared while the program ran fits it now that it is stopped: it may have called exec, or mapped
/// something where the regions are to be.
fn is_still_so(session: &Session) -> bool {
    let (shim, layout) = (&session.shim, &session.layout);
    let same = Shim::read(shim.pid, shim.descriptor).is_ok_and(|now| now == *shim);
    let range = layout.control..layout.code + layout.code_bytes;
    let free = Maps::read(shim.pid).is_ok_and(|maps| {
        let taken = |region: &Region| region.start < range.end && range.start < region.end;
        !maps.regions().iter().any(taken)
    });
    same && free
}

fn inject(
    remote: &mut Remote<'_>,
    session: &Session,
    name: &str,
    listening: &OwnedFd,
    files: &[OwnedFd; 3],
) -> Result<(), HandshakeError> {
    let fail = |error| HandshakeError::Refused(Refusal::Tracee(error));
    let shim = &session.shim;
    // The page must be wiped by forks, whatever the program did itself.
    const MADV_WIPEONFORK: u64 = 18;
    remote
        .syscall_ok(
            "madvise",
            libc::SYS_madvise,
            [shim.page, 4096, MADV_WIPEONFORK, 0, 0, 0],
        )
        .map_err(fail)?;

    // A connection, and the descriptors through it.
    const SEQPACKET_CLOEXEC: u64 = 5 | 0o2_000_000;
    let socket = remote
        .syscall_ok(
            "socket",
            libc::SYS_socket,
            [libc::AF_UNIX as u64, SEQPACKET_CLOEXEC, 0, 0, 0, 0],
        )
        .map_err(fail)?;
    let received = receive_files(remote, session, name, listening, files, socket);
    let _ = remote.syscall(libc::SYS_close, [socket, 0, 0, 0, 0, 0]);
    let theirs = received?;
    let mapped = map_all(remote, &session.layout, theirs);
    for fd in theirs {
        let _ = remote.syscall(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
    }
    mapped?;

    install_trap_handler(remote, shim).map_err(fail)?;
    // Harmless if it fails: only unwinding through generated code needs it.
    if let Err(error) = remote.call(
        shim.register_frames,
        [session.layout.frames, 0, 0, 0, 0, 0],
        CALL_PATIENCE,
    ) {
        session.message(format!("unwind information was not registered: {error}"));
    }
    Ok(())
}

/// The target's three descriptors.
fn receive_files(
    remote: &mut Remote<'_>,
    session: &Session,
    name: &str,
    listening: &OwnedFd,
    files: &[OwnedFd; 3],
    socket: u64,
) -> Result<[u64; 3], HandshakeError> {
    let fail = |error| HandshakeError::Refused(Refusal::Tracee(error));
    let mut address = (libc::AF_UNIX as u16).to_le_bytes().to_vec();
    address.push(0);
    address.extend(name.as_bytes());
    let length = address.len() as u64;
    let at = remote.push(&address).map_err(fail)?;
    remote
        .syscall_ok("connect", libc::SYS_connect, [socket, at, length, 0, 0, 0])
        .map_err(fail)?;
    let ours = accept(listening)?;
    let hello = Hello {
        magic: MAGIC,
        version: PROTOCOL_VERSION,
        reserved: 0,
        descriptor: session.shim.descriptor,
    };
    wire::send(&ours, &hello, &files.each_ref())?;

    let data = remote.push(&[0; 64]).map_err(fail)?;
    let vector = remote.push(&words(&[data, 64])).map_err(fail)?;
    let control = remote.push(&[0; 32]).map_err(fail)?;
    let header = remote.push(&words(&[0, 0, vector, 1, control, 32, 0])).map_err(fail)?;
    remote
        .syscall_ok(
            "recvmsg",
            libc::SYS_recvmsg,
            [socket, header, libc::MSG_CMSG_CLOEXEC as u64, 0, 0, 0],
        )
        .map_err(fail)?;
    let received = remote.memory().read_vec(control, 32).map_err(fail)?;
    let word = |at: usize| u32::from_le_bytes(received[at..at + 4].try_into().expect("four bytes"));
    // A cmsghdr with SCM_RIGHTS and three descriptors.
    if word(0) != 16 + 12 || word(8) != libc::SOL_SOCKET as u32 || word(12) != libc::SCM_RIGHTS as u32 {
        return Err(HandshakeError::Garbage);
    }
    Ok([word(16), word(20), word(24)].map(u64::from))
}

/// Maps the regions, all or none.
fn map_all(remote: &mut Remote<'_>, layout: &Layout, files: [u64; 3]) -> Result<(), HandshakeError> {
    let flags = (libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE) as u64;
    let regions = [
        (layout.code, layout.code_bytes, libc::PROT_READ | libc::PROT_EXEC),
        (layout.entries, layout.entries_bytes, libc::PROT_READ),
        (layout.control, layout.control_bytes, libc::PROT_READ | libc::PROT_WRITE),
    ];
    for (i, (address, bytes, protection)) in regions.into_iter().enumerate() {
        let arguments = [address, bytes, protection as u64, flags, files[i], 0];
        if let Err(error) = remote.syscall_ok("mmap", libc::SYS_mmap, arguments) {
            for (address, bytes, _) in regions.iter().take(i) {
                let _ = remote.syscall(libc::SYS_munmap, [*address, *bytes, 0, 0, 0, 0]);
            }
            return Err(HandshakeError::Refused(Refusal::Tracee(error)));
        }
    }
    Ok(())
}

/// Installs the shim's SIGTRAP handler, unless it is there, and keeps the previous action
/// where the handler looks for it.
fn install_trap_handler(remote: &mut Remote<'_>, shim: &Shim) -> redmagic_tracee::error::Result<()> {
    const FLAGS: u64 = (libc::SA_SIGINFO | libc::SA_RESTART) as u64 | 0x0400_0000;
    let trap = libc::SIGTRAP as u64;
    let old = remote.push(&[0; 32])?;
    remote.syscall_ok("rt_sigaction", libc::SYS_rt_sigaction, [trap, 0, old, 8, 0, 0])?;
    let previous = remote.memory().read_vec(old, 32)?;
    if previous[..8] == shim.trap_handler.to_le_bytes() {
        return Ok(());
    }
    remote.memory().write(shim.previous_trap, &previous)?;
    let action = remote.push(&words(&[shim.trap_handler, FLAGS, shim.trap_restorer, 0]))?;
    remote.syscall_ok("rt_sigaction", libc::SYS_rt_sigaction, [trap, action, 0, 8, 0, 0])?;
    Ok(())
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
