//! What the daemon knows of a target before there is a session: where its shim is, and
//! where the regions can go.

use redmagic_proto::api::ApiFn;
use redmagic_proto::descriptor::{DESCRIPTOR_WORDS, Descriptor, NOTE_NAME, NOTE_TYPE};
use redmagic_proto::entries::ENTRIES_BYTES;
use redmagic_proto::message::Layout;
use redmagic_proto::{MAGIC, PROTOCOL_VERSION, control::CONTROL_BYTES};
use redmagic_tracee::image::Image;
use redmagic_tracee::maps::Maps;
use redmagic_tracee::memory::Memory;
use redmagic_tracee::process;

/// Why a process cannot be a target. Each text names the cause and the fix.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such process.
    #[error("there is no process {0}; check the pid")]
    NoProcess(i32),
    /// 32-bit.
    #[error("process {0} is a 32-bit program; Redmagic works on x86-64 programs only: rebuild it for x86-64")]
    ThirtyTwoBit(i32),
    /// Nothing of ours in it.
    #[error(
        "process {pid} ({name}) has no Redmagic shim; link its interpreter with libredmagic and annotate its loops \
         (docs/embedding.md)"
    )]
    NoShim {
        /// The process.
        pid: i32,
        /// Its name.
        name: String,
    },
    /// Not prepared.
    #[error("process {0} has not called redmagic_start(); add the call early in its main()")]
    NotStarted(i32),
    /// Another protocol.
    #[error(
        "process {pid} was linked with a libredmagic of protocol version {theirs}, this redmagicd speaks {ours}; \
         relink the program or use the matching redmagicd"
    )]
    Version {
        /// The process.
        pid: i32,
        /// Its version.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// A descriptor that makes no sense.
    #[error("the shim in process {pid} is not understood: {detail}; relink the program with this libredmagic")]
    BadShim {
        /// The process.
        pid: i32,
        /// What is wrong.
        detail: String,
    },
    /// It has a daemon.
    #[error("process {0} has a redmagicd already; `redmagic detach {0}` ends that session")]
    Attached(i32),
    /// No address space near the interpreter.
    #[error(
        "process {pid} has no {bytes} bytes of free address space within 2 GiB of the interpreter's text; \
         a smaller REDMAGIC_CODESIZE may fit"
    )]
    NoSpace {
        /// The process.
        pid: i32,
        /// How much was looked for.
        bytes: u64,
    },
    /// The kernel said no.
    #[error(transparent)]
    Tracee(#[from] redmagic_tracee::error::Error),
}

/// The shim of a target: the descriptor's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shim {
    /// The process.
    pub pid: i32,
    /// The page that forks wipe; its first word is the channel.
    pub page: u64,
    /// The registry.
    pub registry: u64,
    /// Offset of the thread words from fs:0.
    pub tls_offset: i64,
    /// The API, by `ApiFn`.
    pub api: [u64; ApiFn::COUNT],
    /// Entry for hot exits.
    pub park_exit: u64,
    /// Where a parked thread waits.
    pub park_wait: u64,
    /// Hands over unwind information.
    pub register_frames: u64,
    /// SIGTRAP handler.
    pub trap_handler: u64,
    /// Its restorer.
    pub trap_restorer: u64,
    /// Where the previous action goes.
    pub previous_trap: u64,
    /// Address of the descriptor.
    pub descriptor: u64,
}

impl Shim {
    /// Looks through the notes of everything that is mapped executable.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn find(pid: i32, maps: &Maps) -> Result<Shim, Refusal> {
        if process::is_32_bit(pid).map_err(|e| gone(pid, e))? {
            return Err(Refusal::ThirtyTwoBit(pid));
        }
        for image in Image::each(pid, maps) {
            for note in image.notes_named(NOTE_NAME).filter(|n| n.kind == NOTE_TYPE) {
                let (Some(address), Some(offset), Some(version)) =
                    (note.address, note.desc.first_chunk::<8>(), note.desc.get(8..12))
                else {
                    continue;
                };
                let theirs = u32::from_le_bytes(version.try_into().expect("four bytes"));
                if theirs != PROTOCOL_VERSION {
                    return Err(Refusal::Version {
                        pid,
                        theirs,
                        ours: PROTOCOL_VERSION,
                    });
                }
                return Shim::read(pid, address.wrapping_add_signed(i64::from_le_bytes(*offset)));
            }
        }
        Err(Refusal::NoShim {
            pid,
            name: process::comm(pid).map_err(|e| gone(pid, e))?,
        })
    }

    /// Reads the descriptor at an address that the target, or its ELF file, named.
    ///
    /// # Errors
    /// [`Refusal::BadShim`], [`Refusal::Version`], [`Refusal::NotStarted`].
    pub fn read(pid: i32, descriptor: u64) -> Result<Shim, Refusal> {
        let bad = |detail: String| Refusal::BadShim { pid, detail };
        let memory = Memory::new(pid);
        let words: [u64; DESCRIPTOR_WORDS] = memory
            .read_vec(descriptor, size_of::<Descriptor>())
            .map_err(|e| if e.is_gone() { gone(pid, e) } else { Refusal::Tracee(e) })?
            .chunks_exact(8)
            .map(|c| u64::from_le_bytes(c.try_into().expect("eight bytes")))
            .collect::<Vec<_>>()
            .try_into()
            .map_err(|_| bad("short descriptor".into()))?;
        if words[0] != MAGIC {
            return Err(bad(format!("no magic at {descriptor:#x}")));
        }
        let (version, size) = (words[1] as u32, words[1] >> 32);
        if version != PROTOCOL_VERSION {
            return Err(Refusal::Version {
                pid,
                theirs: version,
                ours: PROTOCOL_VERSION,
            });
        }
        if size != size_of::<Descriptor>() as u64 {
            return Err(bad(format!("descriptor of {size} bytes")));
        }
        let after = 5 + ApiFn::COUNT;
        let [
            park_exit,
            park_wait,
            register_frames,
            trap_handler,
            trap_restorer,
            previous_trap,
        ] = words[after..after + 6]
        else {
            return Err(bad("short descriptor".into()));
        };
        let tls_offset = memory.read_u64(words[4])? as i64;
        if tls_offset == 0 {
            return Err(Refusal::NotStarted(pid));
        }
        if !(-0x4000_0000..0).contains(&tls_offset) {
            return Err(bad(format!("thread words at fs{tls_offset:+#x}")));
        }
        Ok(Shim {
            pid,
            page: words[2],
            registry: words[3],
            tls_offset,
            api: words[5..after].try_into().map_err(|_| bad("short descriptor".into()))?,
            park_exit,
            park_wait,
            register_frames,
            trap_handler,
            trap_restorer,
            previous_trap,
            descriptor,
        })
    }

    /// Finds room for the regions near the interpreter.
    ///
    /// # Errors
    /// [`Refusal::NoSpace`].
    pub fn place(&self, maps: &Maps, code_bytes: u64) -> Result<Layout, Refusal> {
        let near = self.interpreter(maps);
        let page = |bytes: usize| (bytes as u64).next_multiple_of(4096);
        let code_bytes = code_bytes.next_multiple_of(4096);
        let (entries_bytes, control_bytes) = (page(ENTRIES_BYTES), page(CONTROL_BYTES));
        // A page between the regions, so that running over one of them faults.
        let bytes = control_bytes + entries_bytes + code_bytes + 3 * 4096;
        // 2 GiB less what the interpreter's own data may take beyond its last mapping.
        const REACH: u64 = (1 << 31) - (1 << 26);
        let start = near
            .and_then(|near| maps.find_gap(near, REACH, bytes, 4096))
            .ok_or(Refusal::NoSpace { pid: self.pid, bytes })?;
        let entries = start + control_bytes + 4096;
        let code = entries + entries_bytes + 4096;
        Ok(Layout {
            code,
            code_bytes,
            entries,
            entries_bytes,
            control: start,
            control_bytes,
            frames: code,
        })
    }

    /// The image that calls the shim: the one that it is linked into, or, for the shared
    /// library, the first that names its functions.
    fn interpreter(&self, maps: &Maps) -> Option<std::ops::Range<u64>> {
        let own = maps.image_range(self.descriptor);
        let library = maps
            .find(self.descriptor)
            .is_some_and(|r| r.path.contains("libredmagic.so"));
        if !library {
            return own;
        }
        let name = ApiFn::BackwardsBranch.symbol().as_bytes();
        let mut seen = Vec::new();
        for region in maps.regions().iter().filter(|r| r.is_file() && r.perms.exec) {
            if seen.contains(&&region.path) || region.path.contains("libredmagic.so") {
                continue;
            }
            seen.push(&region.path);
            let file = format!("/proc/{}/root{}", self.pid, region.path);
            let names_it =
                std::fs::read(&file).is_ok_and(|bytes| bytes.windows(name.len()).any(|window| window == name));
            if names_it {
                return maps.image_range(region.start);
            }
        }
        own
    }
}

/// A vanished process is the user's to know about in plain words.
fn gone(pid: i32, error: redmagic_tracee::error::Error) -> Refusal {
    if error.is_gone() {
        Refusal::NoProcess(pid)
    } else {
        Refusal::Tracee(error)
    }
}
