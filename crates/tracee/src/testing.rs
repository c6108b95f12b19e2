//! Closures as tracees, for tests.
//!
//! `fork` copies only the calling thread, so a closure must not touch a lock that another thread of the test may hold. Under
//! cargo-nextest each test is a process of its own, and the other threads only wait.

use std::sync::atomic::AtomicU64;

/// A child process that runs a closure; killed and reaped when dropped.
#[derive(Debug)]
pub struct Child {
    /// Its process id.
    pub pid: i32,
    reaped: bool,
}

/// Runs `body` in a forked child; the child's exit code is what it returns.
pub fn fork(body: impl FnOnce() -> i32) -> Child {
    // SAFETY: fork itself has no preconditions; what the child may do is the caller's business (see above).
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: prctl with these arguments sets a flag; a tracee must not outlive a failed test.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
        // SAFETY: _exit runs no destructors or atexit handlers of the test process.
        unsafe { libc::_exit(code) };
    }
    Child { pid, reaped: false }
}

impl Child {
    /// Sends a signal to the process.
    pub fn kill(&self, signal: i32) {
        // SAFETY: kill takes integers; `pid` is our unreaped child.
        assert_eq!(unsafe { libc::kill(self.pid, signal) }, 0);
    }

    /// Waits for its end: the exit code, or minus the signal that killed it. It must not be traced by this thread any more.
    pub fn join(mut self) -> i32 {
        self.reaped = true;
        let mut status = 0;
        // SAFETY: `status` is a live local.
        let got = unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) };
        assert_eq!(got, self.pid, "waitpid: {}", std::io::Error::last_os_error());
        if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            -libc::WTERMSIG(status)
        }
    }

    /// Notes that a trace of it has already collected its end.
    pub fn forget(mut self) {
        self.reaped = true;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            // SAFETY: `pid` is our child and not reaped, so the number is still its own.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL);
            }
        }
    }
}

/// Words shared between a test and its children, all zero at first. Lives as long as the process.
pub fn shared_words() -> &'static [AtomicU64; 64] {
    // SAFETY: a fresh, zeroed, shared mapping that is never unmapped; AtomicU64 has no invalid bit patterns.
    unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(at, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        &*at.cast()
    }
}

/// Waits until `condition` holds; panics after ten seconds, naming `what`.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
