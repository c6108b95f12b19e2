//! The handshake with a daemon: at the start of a program that `redmagic run`
//! launched, and in its children.
//!
//! Everything is bounded by [`redmagic_proto::PARK_TIMEOUT_US`]; whatever fails, the
//! program runs plain. Nothing stays open: after the regions are mapped, the socket
//! and the three descriptors are closed, so the program's descriptor numbers are its
//! own.

use core::ffi::{c_char, c_int, c_void};
use core::mem::{MaybeUninit, size_of};
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use redmagic_proto::descriptor::Descriptor;
use redmagic_proto::message::{
    Hello, LATER_VARIABLE, Layout, MAX_SOCKET_NAME, Mapped, SOCKET_VARIABLE, WELCOME_MAP, Welcome,
};
use redmagic_proto::{MAGIC, PARK_TIMEOUT_US, PROTOCOL_VERSION};

use crate::descriptor::{REDMAGIC_DESCRIPTOR, page};
use crate::registry::{REGISTRY, disown};
use crate::sys::{
    PROT_READ, PROT_WRITE, SYS_CLOSE, SYS_CONNECT, SYS_GETPID, SYS_GETSOCKOPT, SYS_MADVISE, SYS_MMAP, SYS_MUNMAP,
    SYS_PRCTL, SYS_RECVMSG, SYS_SENDTO, SYS_SETSOCKOPT, SYS_SOCKET, syscall,
};
use crate::thread::find_tls_offset;
use crate::trap;

const AF_UNIX: u16 = 1;
const SOCK_SEQPACKET_CLOEXEC: usize = 5 | 0o2_000_000;
const SOL_SOCKET: usize = 1;
const SO_PEERCRED: usize = 17;
const SO_RCVTIMEO: usize = 20;
const SO_SNDTIMEO: usize = 21;
const MSG_NOSIGNAL: usize = 0x4000;
const MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
const MADV_WIPEONFORK: usize = 18;
const PR_SET_PTRACER: usize = 0x5961_6d61;
const PROT_EXEC: usize = 4;
const MAP_SHARED_FIXED_NOREPLACE: usize = 0x10_0001;

/// The daemon's socket, kept for the children: `environ` may be changed meanwhile.
static SOCKET_NAME: [AtomicU8; MAX_SOCKET_NAME] = [const { AtomicU8::new(0) }; MAX_SOCKET_NAME];
static SOCKET_NAME_LENGTH: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    static environ: *const *const c_char;
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> c_int;
}

core::arch::global_asm!(".weak __register_frame", ".weak pthread_atfork");

/// See `redmagic.h`.
#[unsafe(no_mangle)]
pub extern "C" fn redmagic_start() {
    let page = page();
    if page.started.swap(1, Ordering::AcqRel) != 0 {
        return;
    }
    find_tls_offset();
    // Without this a forked child would share its parent's park areas and counters; so
    // if the kernel is too old for it (before 4.14), there is no tracing at all.
    // SAFETY: the range is exactly the page, which is ours alone.
    let wiped = unsafe { syscall(SYS_MADVISE, [page as *const _ as usize, 4096, MADV_WIPEONFORK, 0, 0, 0]) };
    if wiped < 0 || !find_socket_name() {
        return;
    }
    // SAFETY: `child` is a function that is never unloaded before the process ends (the
    // shim is linked into the interpreter); registering has no other requirement.
    unsafe { pthread_atfork(None, None, Some(child)) };
    if !comes_later() {
        connect();
    }
}

/// After a fork, in the child: the page was wiped, so it is not attached. It becomes a
/// session of its own.
extern "C" fn child() {
    page().started.store(1, Ordering::Release);
    disown();
    connect();
}

/// The value of an environment variable.
///
/// # Safety
/// No other thread may change the environment meanwhile, nor while the value is used.
unsafe fn variable(name: &str) -> Option<*const u8> {
    // SAFETY: `environ` is a null-terminated array of C strings, which stay as they are (the caller's promise).
    unsafe {
        let mut variable = environ;
        while !variable.is_null() && !(*variable).is_null() {
            let string = (*variable).cast::<u8>();
            let prefix = name.as_bytes();
            if (0..prefix.len()).all(|i| *string.add(i) == prefix[i]) && *string.add(prefix.len()) == b'=' {
                return Some(string.add(prefix.len() + 1));
            }
            variable = variable.add(1);
        }
    }
    None
}

/// Takes the socket's name from the environment.
fn find_socket_name() -> bool {
    // SAFETY: this runs early in main, when no other thread changes the environment (the header asks for that); the
    // value ends with a 0.
    unsafe {
        let Some(value) = variable(SOCKET_VARIABLE) else {
            return false;
        };
        let mut length = 0;
        while *value.add(length) != 0 {
            if length == MAX_SOCKET_NAME {
                return false;
            }
            SOCKET_NAME[length].store(*value.add(length), Ordering::Relaxed);
            length += 1;
        }
        SOCKET_NAME_LENGTH.store(length, Ordering::Release);
        length > 0
    }
}

/// Whether this is the process that the daemon comes to by itself; if so, lets it.
fn comes_later() -> bool {
    // SAFETY: as above; getpid and prctl take no pointers here.
    unsafe {
        let Some(mut value) = variable(LATER_VARIABLE) else {
            return false;
        };
        let mut numbers = [0usize; 2];
        for number in &mut numbers {
            while (*value).is_ascii_digit() {
                *number = number.wrapping_mul(10).wrapping_add(usize::from(*value - b'0'));
                value = value.add(1);
            }
            if *value == b' ' {
                value = value.add(1);
            }
        }
        if syscall(SYS_GETPID, [0; 6]) != numbers[0] as isize {
            return false;
        }
        // Yama, scope 1: the daemon is no ancestor of ours, so it has to be named.
        syscall(SYS_PRCTL, [PR_SET_PTRACER, numbers[1], 0, 0, 0, 0]);
        true
    }
}

/// A descriptor that is closed when it goes.
struct Fd(usize);

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours.
        unsafe { syscall(SYS_CLOSE, [self.0, 0, 0, 0, 0, 0]) };
    }
}

#[repr(C)]
struct Address {
    family: u16,
    path: [u8; 108],
}

/// Room for a control message with three descriptors, aligned as `cmsghdr` is.
#[repr(C, align(8))]
struct Ancillary {
    length: usize,
    level: c_int,
    kind: c_int,
    descriptors: [c_int; 4],
}

#[repr(C)]
struct IoVec {
    base: *mut c_void,
    length: usize,
}

#[repr(C)]
struct MessageHeader {
    name: usize,
    name_length: usize,
    vectors: *mut IoVec,
    vector_count: usize,
    control: *mut c_void,
    control_length: usize,
    flags: c_int,
}

fn connect() {
    // SAFETY: socket takes no pointers.
    let socket = unsafe { syscall(SYS_SOCKET, [AF_UNIX as usize, SOCK_SEQPACKET_CLOEXEC, 0, 0, 0, 0]) };
    if socket < 0 {
        return;
    }
    let socket = Fd(socket as usize);
    let mut address = Address {
        family: AF_UNIX,
        path: [0; 108],
    };
    let length = SOCKET_NAME_LENGTH.load(Ordering::Acquire);
    for (to, from) in address.path.iter_mut().skip(1).zip(SOCKET_NAME.iter().take(length)) {
        *to = from.load(Ordering::Relaxed);
    }
    let timeout: [i64; 2] = [0, PARK_TIMEOUT_US as i64];
    let mut credentials = [0u32; 3];
    let mut credentials_length = size_of::<[u32; 3]>() as u32;
    let hello = Hello {
        magic: MAGIC,
        version: PROTOCOL_VERSION,
        reserved: 0,
        descriptor: &raw const REDMAGIC_DESCRIPTOR as u64,
    };
    // SAFETY: every pointer is to a live value of the length passed with it.
    unsafe {
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            syscall(
                SYS_SETSOCKOPT,
                [socket.0, SOL_SOCKET, option, (&raw const timeout) as usize, 16, 0],
            );
        }
        if syscall(
            SYS_CONNECT,
            [socket.0, (&raw const address) as usize, 3 + length, 0, 0, 0],
        ) < 0
        {
            return;
        }
        let peer = syscall(
            SYS_GETSOCKOPT,
            [
                socket.0,
                SOL_SOCKET,
                SO_PEERCRED,
                (&raw mut credentials) as usize,
                (&raw mut credentials_length) as usize,
                0,
            ],
        );
        if peer < 0 {
            return;
        }
        // Yama, scope 1: the daemon is no ancestor of ours, so it has to be named.
        syscall(SYS_PRCTL, [PR_SET_PTRACER, credentials[0] as usize, 0, 0, 0, 0]);
        if syscall(
            SYS_SENDTO,
            [
                socket.0,
                (&raw const hello) as usize,
                size_of::<Hello>(),
                MSG_NOSIGNAL,
                0,
                0,
            ],
        ) < 0
        {
            return;
        }
    }
    let Some((welcome, code, entries, control)) = receive(&socket) else {
        return;
    };
    if welcome.magic != MAGIC || welcome.version != PROTOCOL_VERSION || welcome.status != WELCOME_MAP {
        return;
    }
    let errno = map_all(&welcome.layout, &code, &entries, &control);
    let mapped = Mapped {
        magic: MAGIC,
        errno,
        reserved: 0,
    };
    // SAFETY: the pointer is to a live `Mapped` of that size.
    let sent = unsafe {
        syscall(
            SYS_SENDTO,
            [
                socket.0,
                (&raw const mapped) as usize,
                size_of::<Mapped>(),
                MSG_NOSIGNAL,
                0,
                0,
            ],
        )
    };
    if errno == 0 && sent >= 0 {
        trap::install();
        if welcome.layout.frames != 0 {
            // SAFETY: the daemon has put a terminated list of frame descriptions there,
            // in the code region that was just mapped and stays mapped.
            unsafe { register_frames(welcome.layout.frames as *const u8) };
        }
        let page = page();
        REGISTRY.control.store(welcome.layout.control, Ordering::Release);
        page.entries.store(welcome.layout.entries, Ordering::Release);
        page.channel.store(welcome.layout.control, Ordering::Release);
    }
}

fn receive(socket: &Fd) -> Option<(Welcome, Fd, Fd, Fd)> {
    let mut welcome = MaybeUninit::<Welcome>::zeroed();
    let mut vector = IoVec {
        base: welcome.as_mut_ptr().cast(),
        length: size_of::<Welcome>(),
    };
    let mut ancillary = Ancillary {
        length: 0,
        level: 0,
        kind: 0,
        descriptors: [-1; 4],
    };
    let mut header = MessageHeader {
        name: 0,
        name_length: 0,
        vectors: &mut vector,
        vector_count: 1,
        control: (&raw mut ancillary).cast(),
        control_length: size_of::<Ancillary>(),
        flags: 0,
    };
    // SAFETY: the header and all it points to are live and of the lengths given.
    let received = unsafe {
        syscall(
            SYS_RECVMSG,
            [socket.0, (&raw mut header) as usize, MSG_CMSG_CLOEXEC, 0, 0, 0],
        )
    };
    // SCM_RIGHTS with three descriptors: a 16-byte header and 12 bytes of content.
    if ancillary.level != SOL_SOCKET as c_int || ancillary.kind != 1 || ancillary.length != 16 + 12 {
        return None;
    }
    let [code, entries, control, _] = ancillary.descriptors;
    let (code, entries, control) = (Fd(code as usize), Fd(entries as usize), Fd(control as usize));
    if received as usize != size_of::<Welcome>() {
        return None;
    }
    // SAFETY: zeroed, then filled entirely by the kernel; every field is an integer.
    Some((unsafe { welcome.assume_init() }, code, entries, control))
}

/// Maps the three regions, or none. Returns an errno or 0.
fn map_all(layout: &Layout, code: &Fd, entries: &Fd, control: &Fd) -> u32 {
    let regions = [
        (layout.code, layout.code_bytes, PROT_READ | PROT_EXEC, code),
        (layout.entries, layout.entries_bytes, PROT_READ, entries),
        (layout.control, layout.control_bytes, PROT_READ | PROT_WRITE, control),
    ];
    for (done, (address, bytes, protection, fd)) in regions.iter().enumerate() {
        // SAFETY: MAP_FIXED_NOREPLACE replaces no mapping of the program's.
        let mapped = unsafe {
            syscall(
                SYS_MMAP,
                [
                    *address as usize,
                    *bytes as usize,
                    *protection,
                    MAP_SHARED_FIXED_NOREPLACE,
                    fd.0,
                    0,
                ],
            )
        };
        if mapped < 0 || mapped as u64 != *address {
            for (address, bytes, ..) in regions.iter().take(done) {
                // SAFETY: mapped by the loop above, and nobody knows of it yet.
                unsafe { syscall(SYS_MUNMAP, [*address as usize, *bytes as usize, 0, 0, 0, 0]) };
            }
            return if mapped < 0 { (-mapped) as u32 } else { 17 };
        }
    }
    0
}

/// Hands unwind information to the unwinder, if this process has one.
///
/// # Safety
/// `frames` must be a zero-terminated sequence of CIEs and FDEs that stays mapped.
pub unsafe extern "C" fn register_frames(frames: *const u8) {
    let function: usize;
    // SAFETY: loads the address of a weak symbol from the GOT; 0 if it is not there.
    unsafe {
        core::arch::asm!(
            "mov {}, qword ptr [rip + __register_frame@GOTPCREL]",
            out(reg) function,
            options(nostack, readonly, preserves_flags),
        );
    }
    if function != 0 {
        // SAFETY: libgcc's (or libunwind's) function of that name and type.
        let register: unsafe extern "C" fn(*const u8) = unsafe { core::mem::transmute(function) };
        // SAFETY: the caller vouches for `frames`.
        unsafe { register(frames) };
    }
}

const _: () = assert!(size_of::<Descriptor>().is_multiple_of(8));
