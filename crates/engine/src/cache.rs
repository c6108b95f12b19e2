//! The code cache: the daemon's side of the code and entries regions.
//!
//! Code grows from the front of the region, and stubs, which are rarely run, from the end of its first quarter. Data
//! (constants, slots) are taken from the back in chunks, and grow from the front of each, so that it is known where all
//! will be before their sizes are. They are only ever appended, at addresses that no thread has executed or read; what is
//! replaced becomes unreachable and stays, since some thread may still be in it. When
//! the two meet, the cache is full and says so.

use std::sync::atomic::Ordering;

use redmagic_proto::entries::{ENTRIES, Entry, PROBES, hash};

use crate::memory::SharedMemory;
use crate::unwind;

/// The first code address is this far into the region; unwind information comes before.
const CODE_START: usize = 4096;

/// Code that is run takes up this part of the region. Stubs are three quarters of all code and more.
const HOT: usize = 4;

/// Bytes of a chunk of data, unless more are needed at once. What is left of the chunk before is lost.
const CHUNK: usize = 1 << 16;

/// A chunk takes no more than this part of what is free.
const CHUNKS: usize = 16;

/// The cache.
#[derive(Debug)]
pub struct CodeCache {
    code: SharedMemory,
    entries: SharedMemory,
    /// The target's address of the code region.
    base: u64,
    /// Where there is room.
    free: Free,
    used_entries: usize,
}

/// Why something could not be installed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CacheError {
    /// The region is full.
    #[error("the code region is full ({bytes} bytes); REDMAGIC_CODESIZE sets its size in KiB")]
    Full {
        /// Size of the region.
        bytes: usize,
    },
    /// The table of entries is full, or has no place near an id's hash.
    #[error("the table of entries is full ({used} of {ENTRIES})")]
    EntriesFull {
        /// Entries in use.
        used: usize,
    },
}

/// Room for code and data that is not written yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The target's address of the code.
    pub code: u64,
    /// That of its stubs; `None`: they follow it.
    pub cold: Option<u64>,
    /// The target's address of the data.
    pub data: u64,
}

/// Offsets into the region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Free {
    /// The next code.
    front: usize,
    /// Where the stubs of all traces begin.
    middle: usize,
    /// The next stubs.
    cold: usize,
    /// The first chunk of data, which is the last that was taken.
    back: usize,
    /// The next data.
    data: usize,
    /// The end of that chunk.
    data_end: usize,
}

impl Free {
    /// Where data begins when there is data at this offset, and where the chunk ends that it is in.
    fn around(&self, data: usize) -> (usize, usize) {
        if data < self.back {
            (data, self.back)
        } else {
            (self.back, self.data_end)
        }
    }

    /// So many words of data were put at this offset.
    fn take_data(&mut self, at: usize, words: usize) {
        (self.back, self.data_end) = self.around(at);
        self.data = at + words * 8;
    }

    fn all(len: usize) -> Free {
        let middle = (len / HOT).next_multiple_of(4096).max(CODE_START);
        Free {
            front: CODE_START,
            middle,
            cold: middle,
            back: len,
            data: len,
            data_end: len,
        }
    }
}

/// What is free, for those who compile while nobody may wait for the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    base: u64,
    free: Free,
    len: usize,
}

impl Space {
    /// An empty region of `bytes` at `base`, for those who compile what nobody will run.
    pub fn empty(base: u64, bytes: usize) -> Space {
        Space {
            base,
            free: Free::all(bytes),
            len: bytes,
        }
    }

    /// Room for at most that much code, for as much again of its stubs, and for data. Nothing is taken yet:
    /// [`CodeCache::install`] takes what is needed.
    ///
    /// # Errors
    /// [`CacheError::Full`].
    pub fn room(&self, code_bytes: usize, data_words: usize) -> Result<Room, CacheError> {
        let full = CacheError::Full { bytes: self.len };
        let Free {
            front,
            middle,
            cold,
            back,
            data,
            data_end,
        } = self.free;
        let (front, cold) = (front.next_multiple_of(64), cold.next_multiple_of(64));
        let (back, data) = if data + data_words * 8 <= data_end {
            (back, data)
        } else {
            let rest = back.saturating_sub(cold + code_bytes + 64);
            let chunk = CHUNK.min(rest / CHUNKS) & !63;
            let Some(chunk) = back.checked_sub((data_words * 8).max(chunk)) else {
                return Err(full);
            };
            (chunk, chunk)
        };
        // A cache line stays between code and data: see `asm` on why they do not share one.
        if cold + code_bytes + 64 > back {
            return Err(full);
        }
        let apart = front + code_bytes <= middle;
        Ok(Room {
            code: self.base + if apart { front } else { cold } as u64,
            cold: apart.then_some(self.base + cold as u64),
            data: self.base + data as u64,
        })
    }

    /// Whether that much code, stubs and data fits into room that was given for less.
    pub fn fits(&self, room: Room, hot_bytes: usize, cold_bytes: usize, data_words: usize) -> bool {
        let offset = |address: u64| (address - self.base) as usize;
        let (back, data_end) = self.free.around(offset(room.data));
        let code = match room.cold {
            Some(cold) => offset(room.code) + hot_bytes <= self.free.middle && offset(cold) + cold_bytes + 64 <= back,
            None => offset(room.code) + hot_bytes + cold_bytes + 64 <= back,
        };
        code && offset(room.data) + data_words * 8 <= data_end
    }
}

impl CodeCache {
    /// What is free now.
    pub fn space(&self) -> Space {
        Space {
            base: self.base,
            free: self.free,
            len: self.code.len(),
        }
    }

    /// Over fresh, zeroed regions; `base` is the target's address of `code`.
    pub fn new(code: SharedMemory, entries: SharedMemory, base: u64) -> CodeCache {
        let free = Free::all(code.len());
        code.write(0, &unwind::frames(base, code.len() as u64));
        CodeCache {
            code,
            entries,
            base,
            free,
            used_entries: 0,
        }
    }

    /// The target's address of the unwind information.
    pub fn frames_address(&self) -> u64 {
        self.base
    }

    /// Whether a target's address lies in the code region.
    pub fn contains(&self, address: u64) -> bool {
        address.wrapping_sub(self.base) < self.code.len() as u64
    }

    /// Bytes of the code region; `None` when they do not lie in it.
    pub fn bytes(&self, address: u64, count: usize) -> Option<Vec<u8>> {
        let offset = usize::try_from(address.checked_sub(self.base)?).ok()?;
        let mut bytes = vec![0; count];
        (offset.checked_add(count)? <= self.code.len()).then(|| self.code.read(offset, &mut bytes))?;
        Some(bytes)
    }

    /// Bytes in use, code and data.
    pub fn used_bytes(&self) -> usize {
        let free = &self.free;
        free.front - CODE_START + free.cold - free.middle + self.code.len() - free.back
    }

    /// See [`Space::room`].
    ///
    /// # Errors
    /// [`CacheError::Full`].
    pub fn room(&self, code_bytes: usize, data_words: usize) -> Result<Room, CacheError> {
        self.space().room(code_bytes, data_words)
    }

    /// Writes code, the first `hot` bytes of it apart from the others if there is room for both, and data into room that was just
    /// given. Nothing refers to it yet.
    pub fn install(&mut self, room: Room, code: &[u8], hot: usize, data: &[u64]) {
        let offset = |address: u64| (address - self.base) as usize;
        let data_at = offset(room.data);
        assert!(data_at < self.free.back || data_at >= self.free.data);
        assert!(self.space().fits(room, hot, code.len() - hot, data.len()));
        let parts = match room.cold {
            Some(cold) => [(offset(room.code), &code[..hot]), (offset(cold), &code[hot..])],
            None => [(self.free.front, &code[..0]), (offset(room.code), code)],
        };
        assert!(parts[0].0 >= self.free.front && parts[1].0 >= self.free.cold);
        for (i, word) in data.iter().enumerate() {
            self.code.u64(data_at + i * 8).store(*word, Ordering::Relaxed);
        }
        for (at, bytes) in parts {
            self.code.write(at, bytes);
        }
        self.free.front = parts[0].0 + parts[0].1.len();
        self.free.cold = parts[1].0 + parts[1].1.len();
        self.free.take_data(data_at, data.len());
    }

    /// A new slot that holds `value`; gives the target's address of it.
    ///
    /// # Errors
    /// [`CacheError::Full`].
    pub fn new_slot(&mut self, value: u64) -> Result<u64, CacheError> {
        let room = self.room(0, 1)?;
        self.free.take_data((room.data - self.base) as usize, 1);
        self.set_slot(room.data, value);
        Ok(room.data)
    }

    /// Redirects whatever jumps through the slot at this address.
    pub fn set_slot(&self, slot: u64, value: u64) {
        self.code
            .u64((slot - self.base) as usize)
            .store(value, Ordering::Release);
    }

    /// What the slot at this address holds.
    pub fn slot(&self, slot: u64) -> u64 {
        self.code.u64((slot - self.base) as usize).load(Ordering::Relaxed)
    }

    /// Makes `code` what the shim enters for an anchor; 0 for nothing. The key keeps its
    /// place for the life of the session.
    ///
    /// # Errors
    /// [`CacheError::EntriesFull`].
    pub fn set_entry(&mut self, id: u64, return_address: u64, code: u64) -> Result<(), CacheError> {
        let first = hash(id);
        let mut place = None;
        for slot in first..first + PROBES {
            let (key, found) = (self.entry(slot, FIELD_RETURN), self.entry(slot, FIELD_ID));
            let used = key.load(Ordering::Relaxed);
            if used == return_address && found.load(Ordering::Relaxed) == id {
                self.entry(slot, FIELD_CODE).store(code, Ordering::Release);
                return Ok(());
            }
            if used == 0 {
                place = Some(slot);
                break;
            }
        }
        let full = CacheError::EntriesFull {
            used: self.used_entries,
        };
        let slot = place.filter(|_| self.used_entries < ENTRIES / 2).ok_or(full)?;
        self.used_entries += 1;
        self.entry(slot, FIELD_ID).store(id, Ordering::Relaxed);
        self.entry(slot, FIELD_CODE).store(code, Ordering::Relaxed);
        // The key's presence publishes the rest.
        self.entry(slot, FIELD_RETURN).store(return_address, Ordering::Release);
        Ok(())
    }

    /// Zeroes the code of every entry.
    pub fn clear_entries(&self) {
        for slot in 0..ENTRIES + PROBES {
            self.entry(slot, FIELD_CODE).store(0, Ordering::Release);
        }
    }

    fn entry(&self, slot: usize, field: usize) -> &std::sync::atomic::AtomicU64 {
        self.entries.u64(slot * size_of::<Entry>() + field)
    }
}

const FIELD_ID: usize = std::mem::offset_of!(Entry, id);
const FIELD_RETURN: usize = std::mem::offset_of!(Entry, return_address);
const FIELD_CODE: usize = std::mem::offset_of!(Entry, code);
