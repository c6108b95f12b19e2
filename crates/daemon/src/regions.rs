//! The three memfds of a session, sealed.
//!
//! Order matters: the daemon maps code and entries writable first, then seals them against
//! any further writable mapping (F_SEAL_FUTURE_WRITE). From then on nobody, the target
//! included, can make a writable view of them or write to the descriptor; the kernel
//! refuses mmap, mprotect, write() and a re-open through /proc alike.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use redmagic_engine::memory::SharedMemory;
use redmagic_proto::control::CONTROL_BYTES;
use redmagic_proto::entries::ENTRIES_BYTES;
use redmagic_tracee::maps::Maps;

const PAGE: usize = 4096;
/// The name of the region with code, in /proc/PID/maps.
const CODE_NAME: &str = "redmagic-code";
/// Not in nix: F_SEAL_FUTURE_WRITE (Linux 5.1).
const F_SEAL_FUTURE_WRITE: i32 = 0x10;
/// Not in nix: MFD_EXEC (Linux 6.3), which says that the file is meant to be executed from.
const MFD_EXEC: u32 = 0x10;

/// A session's regions, mapped here and ready to be handed over.
#[derive(Debug)]
pub struct Regions {
    /// Generated code.
    pub code: SharedMemory,
    /// The table of entries.
    pub entries: SharedMemory,
    /// Counters, park areas, session words; mapped twice, for the engine and for the session.
    pub control: SharedMemory,
    /// The other mapping.
    pub control_view: SharedMemory,
    /// Descriptors to hand over, in the order of the handshake: code, entries, control.
    pub files: [OwnedFd; 3],
}

impl Regions {
    /// Makes and seals them; `code_bytes` is rounded up to pages.
    ///
    /// # Errors
    /// Those of memfd_create, ftruncate, mmap and the seals (EINVAL before Linux 5.1).
    pub fn new(code_bytes: usize) -> io::Result<Regions> {
        let code_file = memfd(CODE_NAME, code_bytes, true)?;
        let entries_file = memfd("redmagic-entries", ENTRIES_BYTES, false)?;
        let control_file = memfd("redmagic-control", CONTROL_BYTES, false)?;
        let code = map(&code_file)?;
        let entries = map(&entries_file)?;
        let control = map(&control_file)?;
        let control_view = map(&control_file)?;
        let fixed = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
        for file in [&code_file, &entries_file] {
            seal(file, fixed.bits() | F_SEAL_FUTURE_WRITE | SealFlag::F_SEAL_SEAL.bits())?;
        }
        seal(&control_file, (fixed | SealFlag::F_SEAL_SEAL).bits())?;
        Ok(Regions {
            code,
            entries,
            control,
            control_view,
            files: [code_file.into(), entries_file.into(), control_file.into()],
        })
    }
}

/// How many sessions' regions an address space holds: those of earlier sessions, and in a child those of its parent.
pub fn mapped(maps: &Maps) -> u32 {
    let name = format!("/memfd:{CODE_NAME}");
    maps.regions()
        .iter()
        .filter(|region| region.path.starts_with(&name))
        .count() as u32
}

fn map(file: &File) -> io::Result<SharedMemory> {
    SharedMemory::map(file, file.metadata()?.len() as usize)
}

fn memfd(name: &str, bytes: usize, executable: bool) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let with_exec = if executable {
        flags | MFdFlags::from_bits_retain(MFD_EXEC)
    } else {
        flags
    };
    // Before Linux 6.3 the flag is unknown, and every memfd can be executed from.
    let fd = memfd_create(name, with_exec).or_else(|_| memfd_create(name, flags))?;
    let file = File::from(fd);
    file.set_len(bytes.next_multiple_of(PAGE) as u64)?;
    Ok(file)
}

fn seal(file: &File, seals: i32) -> io::Result<()> {
    fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::from_bits_retain(seals)))
        .map_err(|errno| io::Error::other(format!("sealing descriptor {}: {errno}", file.as_raw_fd())))?;
    Ok(())
}
