//! `redmagic run [--stats FILE] -- PROGRAM`, when nothing is unusual.

use redmagic_proto::message::{LATER_VARIABLE, SOCKET_VARIABLE};

use crate::beside::{Plan, STACK};
use crate::need::Need;
use crate::note;
use crate::sys;
use crate::text::{Arena, Text, begins, bytes, same};

/// Longest path, in bytes.
const PATH: usize = 4096;
/// Longest table of segments, and longest segment of notes, in bytes.
const PART: usize = 4096;
/// Whoever has one of these has settings, or is a program of Redmagic's already.
const SETTING: &[u8] = b"REDMAGIC_";
/// How long the daemon is not needed, if no child greets it, in ms: half of what a program may use before a daemon comes to it. (It takes some 3 to load.)
const PATIENCE: usize = 20;
/// Offset of `st_mode` in what `stat` gives, that one's size, and the part of it that says what a file is, of a regular one.
const MODE: usize = 24;
const STATUS: usize = 144;
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// Becomes the program, or comes back if that is not as simple as it is here.
///
/// # Safety
/// `stack` must be the stack pointer at the entry of a process.
pub(crate) unsafe extern "C" fn run(stack: *const usize) {
    // SAFETY: the kernel has put the number of arguments there, the arguments and a null, the environment and a null; this runs
    // once, before all else.
    unsafe {
        let count = stack.read();
        let arguments: *const *const u8 = stack.wrapping_add(1).cast();
        let environment = arguments.wrapping_add(count + 1);
        become_program(count, arguments, environment, Arena::take());
    }
}

/// `None` if it must be done otherwise.
///
/// # Safety
/// As [`run`]; the arena is all of it.
unsafe fn become_program(
    count: usize,
    arguments: *const *const u8,
    environment: *const *const u8,
    mut arena: Arena,
) -> Option<()> {
    // SAFETY: there are as many arguments; each is a text.
    let argument = |index: usize| (index < count).then(|| unsafe { bytes(arguments.wrapping_add(index).read()) });
    let mut next = 2;
    let mut stats = None;
    if same(argument(next)?, b"--stats") {
        // The daemon has another folder.
        stats = Some(argument(next + 1).filter(|path| begins(path, b"/"))?);
        next += 2;
    }
    let plain = same(argument(1)?, b"run") && same(argument(next)?, b"--");
    next += 1;
    let command = argument(next).filter(|_| plain)?;
    // SAFETY: of the caller.
    let environment = unsafe { Environment::read(environment)? };
    let program = find(command, &environment, &mut arena)?;
    if !is_annotated(program, &mut arena)? {
        return None;
    }
    let daemon = beside_own(b"redmagicd", &mut arena)?;
    is_file(daemon, &mut arena).then_some(())?;

    // SAFETY: no pointers.
    let pid = unsafe { sys::syscall(sys::SYS_GETPID, [0; 6]) } as u64;
    let mut digits = arena.text(24)?;
    digits.number(pid, 10)?;
    let socket = arena.text(SOCKET_VARIABLE.len() + 64)?;
    let (socket, variable) = greeting(socket, pid)?;
    let common = Common {
        pid: digits.end()?,
        socket,
    };
    let words = common.with(stats, None, &mut arena)?;
    let listening = common.with(stats, Some(c"--listening".as_ptr().cast()), &mut arena)?;
    let (address, length) = address_of(socket, &mut arena)?;
    let need: *mut Need = arena.bytes(size_of::<Need>())?.cast();
    // All memory is had before the daemon is started: then nothing but the kernel can say no.
    let stacks = [arena.bytes(STACK)?, arena.bytes(STACK)?];
    let with = arena.list(environment.count + 3)?;
    let mut later = arena.text(LATER_VARIABLE.len() + 64)?;
    let plan: *mut Plan = arena.bytes(size_of::<Plan>())?.cast();
    // SAFETY: room for a plan and a need, aligned for them. What it leads to is written by nobody else, and stays: nothing in the arena is given
    // out again, and the stack above the entry is the kernel's.
    let started = unsafe {
        need.write(Need {
            pid: pid as usize,
            address,
            length,
            patience: PATIENCE,
            reports: stats.is_some(),
            listening,
        });
        plan.write(Plan {
            path: daemon,
            arguments: words,
            environment: environment.list,
            ready: -1,
            stacks: [stacks[0].wrapping_add(STACK), stacks[1].wrapping_add(STACK)],
            waits: false,
            need,
            daemon: 0,
        });
        Plan::start(plan).ok()?
    };
    later.all(LATER_VARIABLE.as_bytes())?;
    later.all(b"=")?;
    later.number(pid, 10)?;
    later.all(b" ")?;
    later.number(started as u64, 10)?;
    // SAFETY: there is room for what there was, two more and a null; the lists that exec is given end in null.
    unsafe {
        for index in 0..environment.count {
            with.wrapping_add(index)
                .write(environment.list.wrapping_add(index).read());
        }
        let more = with.wrapping_add(environment.count);
        more.write(variable);
        more.wrapping_add(1).write(later.end()?);
        more.wrapping_add(2).write(core::ptr::null());
        let own = arguments.wrapping_add(next);
        sys::syscall(
            sys::SYS_EXECVE,
            [program as usize, own as usize, with as usize, 0, 0, 0],
        );
    }
    // It cannot be run; `main` says why. The daemon ends with this process.
    None
}

/// What every daemon is told.
struct Common {
    pid: *const u8,
    socket: *const u8,
}

impl Common {
    /// Arguments, with a path for statistics and one more.
    fn with(&self, stats: Option<&[u8]>, more: Option<*const u8>, arena: &mut Arena) -> Option<*const *const u8> {
        let words = arena.list(9)?;
        // SAFETY: there is room for nine.
        unsafe {
            words.write(c"redmagicd".as_ptr().cast());
            words.wrapping_add(1).write(c"serve".as_ptr().cast());
            words.wrapping_add(2).write(self.pid);
            words.wrapping_add(3).write(c"--socket".as_ptr().cast());
            words.wrapping_add(4).write(self.socket);
            let mut end = words.wrapping_add(5);
            if let Some(stats) = stats {
                end.write(c"--stats".as_ptr().cast());
                end.wrapping_add(1).write(stats.as_ptr());
                end = end.wrapping_add(2);
            }
            if let Some(more) = more {
                end.write(more);
                end = end.wrapping_add(1);
            }
            end.write(core::ptr::null());
        }
        Some(words)
    }
}

/// The environment.
struct Environment {
    list: *const *const u8,
    count: usize,
    path: Option<&'static [u8]>,
}

impl Environment {
    /// `None` if it has settings.
    ///
    /// # Safety
    /// It must be a list of texts that ends in null, and stay as it is.
    unsafe fn read(list: *const *const u8) -> Option<Environment> {
        let mut found = Environment {
            list,
            count: 0,
            path: None,
        };
        loop {
            // SAFETY: not after its end.
            let variable = unsafe { list.wrapping_add(found.count).read() };
            if variable.is_null() {
                return Some(found);
            }
            // SAFETY: a text.
            let variable = unsafe { bytes(variable) };
            if begins(variable, SETTING) {
                return None;
            }
            if begins(variable, b"PATH=") && found.path.is_none() {
                found.path = variable.get(5..);
            }
            found.count += 1;
        }
    }
}

/// The path of a command, as execvp finds it.
fn find(command: &[u8], environment: &Environment, arena: &mut Arena) -> Option<*const u8> {
    #[expect(
        clippy::manual_contains,
        reason = "`contains` is a function of core's that is not compiled here"
    )]
    let is_path = command.iter().any(|byte| *byte == b'/');
    if is_path {
        let mut path = arena.text(command.len() + 1)?;
        path.all(command)?;
        let path = path.end()?;
        return is_executable(path, arena).then_some(path);
    }
    for folder in environment.path?.split(|byte| *byte == b':') {
        let mut path = arena.text(folder.len() + command.len() + 2)?;
        path.all(folder)?;
        if !folder.is_empty() {
            path.all(b"/")?;
        }
        path.all(command)?;
        let path = path.end()?;
        if is_executable(path, arena) {
            return Some(path);
        }
    }
    None
}

fn is_executable(path: *const u8, arena: &mut Arena) -> bool {
    // SAFETY: a text.
    is_file(path, arena) && unsafe { sys::syscall(sys::SYS_ACCESS, [path as usize, sys::X_OK, 0, 0, 0, 0]) } == 0
}

fn is_file(path: *const u8, arena: &mut Arena) -> bool {
    let Some(status) = arena.bytes(STATUS) else {
        return false;
    };
    // SAFETY: a text, and room for what the kernel writes, which has the mode there.
    unsafe {
        sys::syscall(sys::SYS_STAT, [path as usize, status as usize, 0, 0, 0, 0]) == 0
            && status.wrapping_add(MODE).cast::<u32>().read() & KIND == REGULAR
    }
}

/// Whether the file itself has a shim; one of its libraries may have.
fn is_annotated(path: *const u8, arena: &mut Arena) -> Option<bool> {
    // SAFETY: a text.
    let fd = unsafe { sys::syscall(sys::SYS_OPEN, [path as usize, sys::O_CLOEXEC, 0, 0, 0, 0]) };
    let fd = usize::try_from(fd).ok()?;
    let found = has_note(fd, arena);
    // SAFETY: no pointers.
    unsafe { sys::syscall(sys::SYS_CLOSE, [fd, 0, 0, 0, 0, 0]) };
    Some(found.unwrap_or(false))
}

fn has_note(fd: usize, arena: &mut Arena) -> Option<bool> {
    let header = note::Part {
        offset: 0,
        bytes: note::HEADER as u64,
    };
    let table = note::segments(read(fd, header, arena)?)?;
    for entry in read(fd, table, arena)?.chunks_exact(note::SEGMENT) {
        if let Some((part, align)) = note::notes(entry)
            && note::is_among(read(fd, part, arena)?, align)
        {
            return Some(true);
        }
    }
    Some(false)
}

/// A part of a file; `None` if it has no such part, or it is too long.
fn read(fd: usize, part: note::Part, arena: &mut Arena) -> Option<&'static [u8]> {
    let count = usize::try_from(part.bytes).ok().filter(|count| *count <= PART)?;
    let at = arena.bytes(count)?;
    // SAFETY: there is room for that many.
    let got = unsafe { sys::syscall(sys::SYS_PREAD64, [fd, at as usize, count, part.offset as usize, 0, 0]) };
    // SAFETY: the kernel has written them, and the arena gives them to nobody else.
    (got == count as isize).then(|| unsafe { &*core::ptr::slice_from_raw_parts(at, count) })
}

/// The path of a program in the folder of this one.
fn beside_own(name: &[u8], arena: &mut Arena) -> Option<*const u8> {
    let own = arena.bytes(PATH)?;
    // SAFETY: a text, and room for that many bytes.
    let length = unsafe {
        sys::syscall(
            sys::SYS_READLINK,
            [c"/proc/self/exe".as_ptr() as usize, own as usize, PATH, 0, 0, 0],
        )
    };
    let length = usize::try_from(length).ok().filter(|length| *length < PATH)?;
    // SAFETY: the kernel has written them.
    let own = unsafe { &*core::ptr::slice_from_raw_parts(own, length) };
    let folder = own.iter().rposition(|byte| *byte == b'/')?;
    let mut path = arena.text(PATH)?;
    path.all(own.get(..=folder)?)?;
    path.all(name)?;
    path.end()
}

/// The address of an abstract socket, and its length.
fn address_of(name: *const u8, arena: &mut Arena) -> Option<(*const u8, usize)> {
    // SAFETY: a text.
    let name = unsafe { bytes(name) };
    let mut address = arena.text(name.len() + 4)?;
    // The family, in two bytes, and the zero that an abstract name begins with.
    address.all(&[1, 0, 0])?;
    address.all(name)?;
    let length = address.length();
    Some((address.end()?, length))
}

/// A name for the socket where the program and its children greet, and the variable that tells them of it.
fn greeting(mut text: Text, pid: u64) -> Option<(*const u8, *const u8)> {
    text.all(SOCKET_VARIABLE.as_bytes())?;
    text.all(b"=")?;
    let begin = text.length();
    let mut now = [0u64; 2];
    // SAFETY: room for seconds and nanoseconds; clock 0 is that of the day.
    unsafe { sys::syscall(sys::SYS_CLOCK_GETTIME, [0, &raw mut now as usize, 0, 0, 0, 0]) };
    text.all(b"redmagic/greet/")?;
    text.number(pid, 10)?;
    text.all(b"/")?;
    text.number(now[0] * 1_000_000_000 + now[1], 16)?;
    let variable = text.end()?;
    Some((variable.wrapping_add(begin), variable))
}
