//! What goes over the socket between a starting target and the daemon.
//!
//! SOCK_SEQPACKET, one struct a message. The daemon takes the peer's pid and uid
//! from the kernel (SO_PEERCRED), never from the message.
//!
//! ```text
//!   target                              daemon
//!   Hello ────────────────────────────►
//!         ◄──────────────────────────── Welcome + 3 descriptors (code, entries, control)
//!   Mapped ───────────────────────────►
//! ```

/// Environment variable that holds the name of the daemon's socket, in the
/// abstract namespace and without its leading NUL.
pub const SOCKET_VARIABLE: &str = "REDMAGIC_SOCKET";

/// The environment variable by which a program learns that its daemon comes by itself, when the program has run for some
/// time: "PID DAEMON" in decimal. The process PID does not greet; it only lets DAEMON trace it. All others greet.
pub const LATER_VARIABLE: &str = "REDMAGIC_LATER";

/// The longest socket name (`sun_path` less the leading NUL).
pub const MAX_SOCKET_NAME: usize = 107;

/// [`Welcome::status`]: map the regions.
pub const WELCOME_MAP: u32 = 0;
/// [`Welcome::status`]: another protocol version; run plain.
pub const WELCOME_VERSION: u32 = 1;
/// [`Welcome::status`]: the daemon does not want this process; run plain.
pub const WELCOME_REFUSED: u32 = 2;

/// First message of a target.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Hello {
    /// [`crate::MAGIC`].
    pub magic: u64,
    /// [`crate::PROTOCOL_VERSION`].
    pub version: u32,
    /// Zero.
    pub reserved: u32,
    /// Address of the [`crate::descriptor::Descriptor`].
    pub descriptor: u64,
}

/// The daemon's answer. Addresses are where the daemon wants the regions.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Welcome {
    /// [`crate::MAGIC`].
    pub magic: u64,
    /// [`crate::PROTOCOL_VERSION`] of the daemon.
    pub version: u32,
    /// `WELCOME_*`.
    pub status: u32,
    /// Where the regions go.
    pub layout: Layout,
}

/// Addresses and sizes of the three regions in the target, in bytes, page-aligned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The code region.
    pub code: u64,
    /// Its size.
    pub code_bytes: u64,
    /// The entries region.
    pub entries: u64,
    /// Its size.
    pub entries_bytes: u64,
    /// The control region.
    pub control: u64,
    /// Its size.
    pub control_bytes: u64,
    /// Address in the code region of unwind information for
    /// [`crate::descriptor::Descriptor::register_frames`], or 0.
    pub frames: u64,
}

/// The target's last message: the regions are mapped and in use, or not.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// [`crate::MAGIC`].
    pub magic: u64,
    /// 0, or the errno of the call that failed.
    pub errno: u32,
    /// Zero.
    pub reserved: u32,
}
