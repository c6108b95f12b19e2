//! Waiting until a daemon is needed.
//!
//! A program that is over after some milliseconds has no use for a daemon, and loading one beside it takes it a tenth of a millisecond and
//! more: both want memory of the kernel's. So the process that is to become the daemon waits first, in a few pages, at the socket where the program's children greet: until one
//! does, the program is over, or some time has passed.

use crate::sys;

/// The number of the descriptor that a daemon listens at, if it is given one.
pub const LISTENING_FD: i32 = 4;

/// Connections that wait to be accepted.
const BACKLOG: usize = 64;
const AF_UNIX: usize = 1;
const SOCK_SEQPACKET: usize = 5;
const POLLIN: u64 = 1;
/// Where a `pollfd`, as one word, has what it waits for; what was found is behind that.
const EVENTS: u32 = 32;
const FOUND: u32 = 48;

/// Who may need the daemon.
#[derive(Debug)]
#[repr(C)]
pub struct Need {
    /// The program.
    pub pid: usize,
    /// The address of the socket, a `sockaddr_un`, and its length in bytes.
    pub address: *const u8,
    /// As above.
    pub length: usize,
    /// After how many milliseconds it is needed for sure.
    pub patience: usize,
    /// Whether it has something to say also of a program that is over.
    pub reports: bool,
    /// The arguments of a daemon that is given the socket, as [`LISTENING_FD`], ending in null.
    pub listening: *const *const u8,
}

/// What becomes of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needed {
    /// It is given the socket.
    Listening,
    /// It makes a socket itself.
    Alone,
    /// The program is over.
    No,
}

impl Need {
    /// Waits. No descriptor but those below [`LISTENING_FD`] may be open.
    ///
    /// # Safety
    /// What it leads to must be valid.
    pub(crate) unsafe fn wait(&self) -> Needed {
        // SAFETY: the address is valid by the contract; the others take no pointers.
        let (listens, program) = unsafe {
            let socket = sys::syscall(sys::SYS_SOCKET, [AF_UNIX, SOCK_SEQPACKET, 0, 0, 0, 0]) as usize;
            let listens = socket == LISTENING_FD as usize
                && sys::syscall(sys::SYS_BIND, [socket, self.address as usize, self.length, 0, 0, 0]) == 0
                && sys::syscall(sys::SYS_LISTEN, [socket, BACKLOG, 0, 0, 0, 0]) == 0;
            if !listens {
                sys::syscall(sys::SYS_CLOSE, [socket, 0, 0, 0, 0, 0]);
            }
            (listens, sys::syscall(sys::SYS_PIDFD_OPEN, [self.pid, 0, 0, 0, 0, 0]))
        };
        if !listens {
            return Needed::Alone;
        }
        let Ok(program) = u64::try_from(program) else {
            // The kernel cannot do it (before 5.3), or the program is over, which the daemon finds out.
            return Needed::Listening;
        };
        let wanted = POLLIN << EVENTS;
        let mut both = [LISTENING_FD as u64 | wanted, program | wanted];
        // SAFETY: room for two.
        unsafe { sys::syscall(sys::SYS_POLL, [&raw mut both as usize, 2, self.patience, 0, 0, 0]) };
        let [greeted, over] = [both[0] >> FOUND != 0, both[1] >> FOUND != 0];
        if over && !greeted && !self.reports {
            Needed::No
        } else {
            Needed::Listening
        }
    }
}
