//! Memory that the daemon shares with a target.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// A shared, writable mapping of a file of fixed size. The other side may write at any
/// time, so there are no references into it: only copies and atomics.
#[derive(Debug)]
pub struct SharedMemory {
    map: MmapRaw,
}

impl SharedMemory {
    /// Maps the first `bytes` of `file`.
    ///
    /// # Errors
    /// Those of mmap.
    pub fn map(file: &File, bytes: usize) -> io::Result<SharedMemory> {
        Ok(SharedMemory {
            map: MmapOptions::new().len(bytes).map_raw(file)?,
        })
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether its size is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn at(&self, offset: usize, bytes: usize) -> *mut u8 {
        assert!(
            offset.checked_add(bytes).is_some_and(|end| end <= self.len()),
            "offset {offset:#x} + {bytes:#x} lies outside a shared mapping of {:#x} bytes",
            self.len()
        );
        // SAFETY: just checked to lie inside the mapping.
        unsafe { self.map.as_mut_ptr().add(offset) }
    }

    /// The word at `offset`, a multiple of 8.
    ///
    /// # Panics
    /// When it lies outside: offsets are ours, never the target's.
    pub fn u64(&self, offset: usize) -> &AtomicU64 {
        let pointer = self.at(offset, 8);
        assert!(offset.is_multiple_of(8));
        // SAFETY: inside the mapping, which lives as long as self, and aligned (mappings start
        // on a page); both sides use it atomically only.
        unsafe { AtomicU64::from_ptr(pointer.cast()) }
    }

    /// The 32-bit word at `offset`, a multiple of 4.
    ///
    /// # Panics
    /// When it lies outside.
    pub fn u32(&self, offset: usize) -> &AtomicU32 {
        let pointer = self.at(offset, 4);
        assert!(offset.is_multiple_of(4));
        // SAFETY: as for `u64`.
        unsafe { AtomicU32::from_ptr(pointer.cast()) }
    }

    /// The signed 32-bit word at `offset`, a multiple of 4.
    ///
    /// # Panics
    /// When it lies outside.
    pub fn i32(&self, offset: usize) -> &AtomicI32 {
        let pointer = self.at(offset, 4);
        assert!(offset.is_multiple_of(4));
        // SAFETY: as for `u64`.
        unsafe { AtomicI32::from_ptr(pointer.cast()) }
    }

    /// Writes bytes that no other thread is reading or executing yet.
    ///
    /// # Panics
    /// When they lie outside.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        // SAFETY: `to` is valid for that many bytes; `bytes` is memory of this process's own,
        // so they do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// Copies bytes out. What the other side writes meanwhile may be seen in part.
    ///
    /// # Panics
    /// When they lie outside.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        let from = self.at(offset, bytes.len());
        for (i, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: inside the mapping; volatile, since another process may write.
            *byte = unsafe { from.add(i).read_volatile() };
        }
    }

    /// Fills a range with one 32-bit value.
    ///
    /// # Panics
    /// When it lies outside.
    pub fn fill_i32(&self, offset: usize, count: usize, value: i32) {
        for i in 0..count {
            self.i32(offset + i * 4).store(value, Ordering::Relaxed);
        }
    }
}
