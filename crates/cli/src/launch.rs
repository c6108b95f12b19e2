//! Starting a daemon beside a process.
//!
//! The daemon is double-forked into a session of its own, with no descriptor of ours but
//! one end of a pipe, on which it says once whether it is ready. So the caller, which
//! becomes the program, never has a child, and Ctrl-C reaches only the program.

use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, setsid};

/// How long a daemon may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// The number of the descriptor on which a daemon says that it is ready.
pub const READY_FD: i32 = 3;

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

/// `hears`: whether somebody waits for what the daemon says. Else the caller goes on while the kernel still loads the daemon, a quarter
/// of what starting it takes.
fn spawn(arguments: &[std::ffi::OsString], hears: bool) -> anyhow::Result<(std::io::PipeReader, i32)> {
    let path = daemon_path()?;
    let mut argv = vec![CString::new("redmagicd")?];
    for argument in arguments {
        argv.push(CString::new(argument.as_bytes())?);
    }
    let (reader, writer) = std::io::pipe()?;
    let writer = OwnedFd::from(writer);
    let plan = Plan::new(CString::new(path.as_os_str().as_bytes())?, argv, writer.as_raw_fd());
    let mut daemon = Err(nix::errno::Errno::EAGAIN);
    let child = vfork(&mut || {
        let _ = setsid();
        // The second one lets the daemon be nobody's child.
        daemon = beside(plan, hears);
        0
    })?;
    let _ = waitpid(child, None);
    let daemon = daemon.context("no process could be made for redmagicd")?;
    Ok((reader, daemon.as_raw()))
}

/// Stack of a child that shares this process's memory.
const CHILD_STACK: usize = 64 << 10;

/// Runs `child` in a process of its own which shares the memory of this one, and comes back when it has called exec or
/// ended. In place of fork, which copies page tables, and pages when they are next written to: every program that is run
/// waits for that.
///
/// `child` must leave this process's memory as it may find it: it is as if it had run here. Descriptors, signals' masks and
/// dispositions are its own. This process must have one thread.
fn vfork(child: &mut dyn FnMut() -> isize) -> nix::Result<Pid> {
    let mut stack = vec![0; CHILD_STACK];
    // SAFETY: this process waits until the child has its own memory, or is gone, so that the stack and all that `child`
    // refers to outlives it, and nothing here runs beside it.
    unsafe {
        nix::sched::clone(
            Box::new(child),
            &mut stack,
            CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK,
            Some(libc::SIGCHLD),
        )
    }
}

/// All that a daemon is started with, for a process that shares this one's memory and may run beside it: it makes system
/// calls and does nothing else.
struct Plan {
    path: CString,
    /// What `pointers` points to.
    _argv: Vec<CString>,
    /// The arguments, and a null pointer.
    pointers: Vec<*const libc::c_char>,
    environment: *const *const libc::c_char,
    ready: RawFd,
}

impl Plan {
    /// It is never freed: nobody knows when a daemon that is not waited for has its own memory. This process soon becomes the program.
    fn new(path: CString, argv: Vec<CString>, ready: RawFd) -> &'static Plan {
        unsafe extern "C" {
            static environ: *const *const libc::c_char;
        }
        let pointers = argv.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect();
        Box::leak(Box::new(Plan {
            path,
            _argv: argv,
            pointers,
            // SAFETY: this process has one thread, so nobody writes it meanwhile.
            environment: unsafe { environ },
            ready,
        }))
    }
}

/// Starts the daemon in a process that shares this one's memory until it calls exec, and waits for that or does not.
fn beside(plan: &'static Plan, waits: bool) -> nix::Result<Pid> {
    let stack = Box::leak(vec![0u8; CHILD_STACK].into_boxed_slice());
    let flags = libc::CLONE_VM | if waits { libc::CLONE_VFORK } else { 0 } | libc::SIGCHLD;
    // SAFETY: stack and plan are never freed, and the stack is nobody else's. What runs there allocates nothing and writes
    // nothing but its stack and errno, which this process looks at only where a call of its own has failed.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(CHILD_STACK & !15);
        libc::clone(
            become_daemon,
            top.cast(),
            flags,
            std::ptr::from_ref(plan).cast_mut().cast(),
        )
    };
    nix::errno::Errno::result(pid).map(Pid::from_raw)
}

extern "C" fn become_daemon(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: it is the plan that `beside` was given.
    let plan = unsafe { &*plan.cast::<Plan>() };
    // SAFETY: plain system calls on descriptors that this process owns; the pointers are to strings that are never freed, and the
    // lists of them end with null.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for fd in 0..3 {
            libc::dup2(null, fd);
        }
        // dup2 clears close-on-exec.
        if plan.ready == READY_FD {
            libc::fcntl(READY_FD, libc::F_SETFD, 0);
        } else {
            libc::dup2(plan.ready, READY_FD);
        }
        libc::close_range(READY_FD as u32 + 1, u32::MAX, 0);
        // The program may have had signals blocked or ignored.
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::execve(plan.path.as_ptr(), plan.pointers.as_ptr(), plan.environment);
    }
    127
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
