//! Reading a target's registry while the target may be changing it.

use std::time::{Duration, Instant};

use redmagic_engine::registry::Declarations;
use redmagic_proto::registry::{KIND_ENDED, MAX_RECORDS, Record, Registry};
use redmagic_tracee::memory::Memory;

/// How often an inconsistent read is repeated before it is put off.
const TRIES: usize = 4;
/// Shortest time between two rings: a program that declares and ends all the time must not be held up by it.
const BETWEEN_RINGS: Duration = Duration::from_millis(1);
/// How much of a processor may go into following such a program: one part in so many.
const SHARE: u32 = 20;

/// Follows the registry of one target.
#[derive(Debug)]
pub struct RegistryReader {
    memory: Memory,
    address: u64,
    /// The version that was read last.
    seen: Option<u64>,
    /// When the target was last asked to ring at the end of constant memory.
    asked: Option<Instant>,
    /// How long it took when something had changed last.
    took: Duration,
}

impl RegistryReader {
    /// For the registry at `address`.
    pub fn new(memory: Memory, address: u64) -> RegistryReader {
        RegistryReader {
            memory,
            address,
            seen: None,
            asked: None,
            took: Duration::ZERO,
        }
    }

    /// Notes how long it took to take in what had changed.
    pub fn note_time(&mut self, took: Duration) {
        self.took = took;
    }

    /// How long to leave it at that when nobody rings.
    pub fn pause(&self) -> Duration {
        BETWEEN_RINGS.max(self.took * SHARE)
    }

    /// Whether it is time to ask the target to ring.
    pub fn may_ask_to_ring(&mut self) -> bool {
        let may = self.asked.is_none_or(|asked| asked.elapsed() >= self.pause());
        if may {
            self.asked = Some(Instant::now());
        }
        may
    }

    /// The registry's content, if it changed since the last call and can be read
    /// consistently now. A target that does not let it be read has declared nothing.
    pub fn changed(&mut self) -> Option<Declarations> {
        let head = self.head()?;
        if self.seen == Some(head.version) {
            return None;
        }
        for _ in 0..TRIES {
            let Some(head) = self.head() else { continue };
            if head.version % 2 == 1 || head.capacity > MAX_RECORDS {
                continue;
            }
            let size = size_of::<Record>();
            let Ok(bytes) = self.memory.read_vec(head.records, head.capacity as usize * size) else {
                continue;
            };
            if self.head()?.version != head.version {
                continue;
            }
            let mut declared = Declarations::new(head.incomplete);
            for record in bytes.chunks_exact(size) {
                let word = |i: usize| u64::from_le_bytes(record[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
                if !matches!(word(0), 0 | KIND_ENDED) {
                    declared.add(word(0), word(1), word(2), word(3));
                }
            }
            self.seen = Some(head.version);
            return Some(declared);
        }
        None
    }

    /// Whether the registry is still as it was when it was read last.
    pub fn is_current(&self) -> bool {
        self.head().is_some_and(|head| self.seen == Some(head.version))
    }

    fn head(&self) -> Option<Head> {
        let bytes = self.memory.read_vec(self.address, size_of::<Registry>()).ok()?;
        let word = |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
        Some(Head {
            version: word(0),
            records: word(1),
            capacity: word(2),
            incomplete: word(5) as u32 != 0,
        })
    }
}

struct Head {
    version: u64,
    records: u64,
    capacity: u64,
    incomplete: bool,
}
