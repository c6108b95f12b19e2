//! Memory of another process: `process_vm_readv` and `process_vm_writev`, about 1 us a call for any number of pieces, and
//! no word-by-word PTRACE_PEEK loops.
//!
//! These calls honour page protections and need no stopped thread, only the permission to ptrace.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem::{MaybeUninit, size_of};

use nix::errno::Errno;

use crate::error::{Error, Result};

/// Page size of x86-64.
pub const PAGE: u64 = 4096;
/// Most pieces that one call takes (UIO_MAXIOV).
const MAX_PIECES: usize = 1024;

/// Plain data: any bytes are a valid value.
///
/// # Safety
/// Every bit pattern of `size_of::<Self>()` bytes must be a valid `Self` (no references, no bool, no enums).
pub unsafe trait Pod: Copy {}

// SAFETY: integers have no invalid bit patterns.
unsafe impl Pod for u8 {}
// SAFETY: as above.
unsafe impl Pod for u16 {}
// SAFETY: as above.
unsafe impl Pod for u32 {}
// SAFETY: as above.
unsafe impl Pod for u64 {}
// SAFETY: as above.
unsafe impl Pod for i32 {}
// SAFETY: as above.
unsafe impl Pod for i64 {}
// SAFETY: an array of plain data is plain data.
unsafe impl<T: Pod, const N: usize> Pod for [T; N] {}

/// The memory of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pid: i32,
}

impl Memory {
    /// The memory of the process that has (the thread) `pid`.
    pub fn new(pid: i32) -> Self {
        Memory { pid }
    }

    /// The process.
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Reads up to `buffer.len()` bytes and says how many there were before the first unreadable page.
    ///
    /// # Errors
    /// When the process is gone or may not be read. That nothing is mapped there is `Ok(0)`.
    pub fn read_partial(self, address: u64, buffer: &mut [u8]) -> Result<usize> {
        let len = buffer.len();
        if len == 0 {
            return Ok(0);
        }
        let mut done = 0;
        while done < len {
            let local = libc::iovec {
                iov_base: buffer[done..].as_mut_ptr().cast(),
                iov_len: len - done,
            };
            let Some(at) = address.checked_add(done as u64) else {
                break;
            };
            let remote = libc::iovec {
                iov_base: at as *mut libc::c_void,
                iov_len: len - done,
            };
            // SAFETY: `local` is the rest of `buffer`, ours to write; `remote` is only looked up in the other process.
            let n = unsafe { libc::process_vm_readv(self.pid, &local, 1, &remote, 1, 0) };
            match Errno::result(n) {
                Ok(0) => break,
                Ok(n) => done += n as usize,
                Err(Errno::EFAULT | Errno::EINVAL) => break,
                Err(errno) => return Err(self.error("read", address, len, done, errno)),
            }
        }
        Ok(done)
    }

    /// Fills `buffer` or fails.
    ///
    /// # Errors
    /// [`Error::Memory`] naming the range and how much of it there was.
    pub fn read_exact(self, address: u64, buffer: &mut [u8]) -> Result<()> {
        let done = self.read_partial(address, buffer)?;
        if done == buffer.len() {
            Ok(())
        } else {
            Err(self.error("read", address, buffer.len(), done, Errno::EFAULT))
        }
    }

    /// Reads `len` bytes.
    ///
    /// # Errors
    /// Those of [`Memory::read_exact`].
    pub fn read_vec(self, address: u64, len: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; len];
        self.read_exact(address, &mut buffer)?;
        Ok(buffer)
    }

    /// Reads a little-endian word.
    ///
    /// # Errors
    /// Those of [`Memory::read_exact`].
    pub fn read_u64(self, address: u64) -> Result<u64> {
        self.read_pod(address)
    }

    /// Reads a plain C structure.
    ///
    /// # Errors
    /// Those of [`Memory::read_exact`].
    pub fn read_pod<T: Pod>(self, address: u64) -> Result<T> {
        let mut value = MaybeUninit::<T>::zeroed();
        // SAFETY: the slice covers exactly `value`, which is initialised (zeroed) and not otherwise borrowed.
        let bytes = unsafe { std::slice::from_raw_parts_mut(value.as_mut_ptr().cast::<u8>(), size_of::<T>()) };
        self.read_exact(address, bytes)?;
        // SAFETY: all bytes are initialised, and any bytes are a valid `T: Pod`.
        Ok(unsafe { value.assume_init() })
    }

    /// Reads a NUL-terminated string of at most `max` bytes; stops at the end of readable memory.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn read_c_string(self, address: u64, max: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; max];
        let done = self.read_partial(address, &mut buffer)?;
        buffer.truncate(done);
        if let Some(end) = buffer.iter().position(|&b| b == 0) {
            buffer.truncate(end);
        }
        Ok(buffer)
    }

    /// Reads many pieces with one system call per 1,024 of them; all or nothing.
    ///
    /// # Errors
    /// [`Error::Memory`] naming the first piece that is not all there.
    pub fn read_batch(self, pieces: &mut [(u64, &mut [u8])]) -> Result<()> {
        for chunk in pieces.chunks_mut(MAX_PIECES) {
            let total: usize = chunk.iter().map(|(_, b)| b.len()).sum();
            let local: Vec<_> = chunk
                .iter_mut()
                .map(|(_, b)| libc::iovec {
                    iov_base: b.as_mut_ptr().cast(),
                    iov_len: b.len(),
                })
                .collect();
            let remote: Vec<_> = chunk
                .iter()
                .map(|(a, b)| libc::iovec {
                    iov_base: *a as *mut libc::c_void,
                    iov_len: b.len(),
                })
                .collect();
            // SAFETY: each local piece is a distinct exclusive slice; remote ones are looked up in the other process.
            let n = unsafe {
                libc::process_vm_readv(
                    self.pid,
                    local.as_ptr(),
                    local.len() as u64,
                    remote.as_ptr(),
                    remote.len() as u64,
                    0,
                )
            };
            let done = match Errno::result(n) {
                Ok(n) => n as usize,
                Err(Errno::EFAULT) => 0,
                Err(errno) => return Err(self.error("read", chunk[0].0, total, 0, errno)),
            };
            if done < total {
                // The kernel stops at a piece it cannot read: find it, for the message.
                let mut left = done;
                for (address, buffer) in chunk.iter() {
                    if left < buffer.len() {
                        return Err(self.error("read", *address, buffer.len(), left, Errno::EFAULT));
                    }
                    left -= buffer.len();
                }
            }
        }
        Ok(())
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// [`Error::Memory`]; pages that the target itself could not write are refused.
    pub fn write(self, address: u64, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            let local = libc::iovec {
                iov_base: rest.as_ptr().cast_mut().cast(),
                iov_len: rest.len(),
            };
            let remote = libc::iovec {
                iov_base: address.wrapping_add(done as u64) as *mut libc::c_void,
                iov_len: rest.len(),
            };
            // SAFETY: `local` is only read; `remote` is looked up in the other process.
            let n = unsafe { libc::process_vm_writev(self.pid, &local, 1, &remote, 1, 0) };
            match Errno::result(n) {
                Ok(0) => {
                    return Err(self.error("write", address, bytes.len(), done, Errno::EFAULT));
                }
                Ok(n) => done += n as usize,
                Err(errno) => return Err(self.error("write", address, bytes.len(), done, errno)),
            }
        }
        Ok(())
    }

    /// Writes a little-endian word.
    ///
    /// # Errors
    /// Those of [`Memory::write`].
    pub fn write_u64(self, address: u64, value: u64) -> Result<()> {
        self.write(address, &value.to_le_bytes())
    }

    fn error(self, operation: &'static str, address: u64, len: usize, done: usize, errno: Errno) -> Error {
        Error::Memory {
            operation,
            pid: self.pid,
            address,
            len,
            done,
            errno,
        }
    }
}

/// A page cache for memory that does not change while it is used: program text.
///
/// Whoever knows that text changed (a JIT in the target, dlclose) must say so with [`TextCache::clear`].
#[derive(Debug)]
pub struct TextCache {
    memory: Memory,
    /// `None`: known to be unreadable.
    pages: HashMap<u64, Option<Box<[u8; PAGE as usize]>>>,
}

impl TextCache {
    /// An empty cache.
    pub fn new(memory: Memory) -> Self {
        TextCache {
            memory,
            pages: HashMap::new(),
        }
    }

    /// Copies bytes from `address` on into `buffer`; returns how many there are before the first unreadable page.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn read(&mut self, address: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let Some(at) = address.checked_add(done as u64) else {
                break;
            };
            let Some(page) = self.page(at & !(PAGE - 1))? else {
                break;
            };
            let offset = (at % PAGE) as usize;
            let n = (buffer.len() - done).min(PAGE as usize - offset);
            buffer[done..done + n].copy_from_slice(&page[offset..offset + n]);
            done += n;
        }
        Ok(done)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.pages.clear();
    }

    fn page(&mut self, base: u64) -> Result<Option<&[u8; PAGE as usize]>> {
        let entry = match self.pages.entry(base) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let mut page = Box::new([0; PAGE as usize]);
                let whole = self.memory.read_partial(base, &mut page[..])? == PAGE as usize;
                entry.insert(whole.then_some(page))
            }
        };
        Ok(entry.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Memory {
        Memory::new(std::process::id() as i32)
    }

    #[test]
    fn reads_and_writes() {
        let mut value = 0x1122_3344_5566_7788u64;
        let at = &raw mut value as u64;
        assert_eq!(own().read_u64(at).unwrap(), value);
        assert_eq!(own().read_pod::<[u8; 2]>(at).unwrap(), [0x88, 0x77]);
        own().write_u64(at, 5).unwrap();
        // SAFETY: `value` is a live local; volatile because the kernel changed it behind the compiler's back.
        assert_eq!(unsafe { (&raw const value).read_volatile() }, 5);
    }

    #[test]
    fn batch_names_the_bad_piece() {
        let good = [7u8; 16];
        let (mut a, mut b) = ([0u8; 16], [0u8; 4]);
        own()
            .read_batch(&mut [(good.as_ptr() as u64, &mut a), (good.as_ptr() as u64 + 4, &mut b)])
            .unwrap();
        assert_eq!((a, b), ([7; 16], [7; 4]));
        let error = own()
            .read_batch(&mut [(good.as_ptr() as u64, &mut a), (8, &mut b)])
            .unwrap_err();
        assert!(error.to_string().contains("read 4 bytes at 0x8"), "{error}");
    }

    #[test]
    fn partial_reads_stop_at_the_hole() {
        let mut buffer = [0u8; 8];
        assert_eq!(own().read_partial(16, &mut buffer).unwrap(), 0);
        assert_eq!(own().read_partial(u64::MAX - 2, &mut buffer).unwrap(), 0);
        assert!(own().read_exact(16, &mut buffer).is_err());
        let mut cache = TextCache::new(own());
        assert_eq!(cache.read(16, &mut buffer).unwrap(), 0);
        let text = partial_reads_stop_at_the_hole as fn() as usize as u64;
        assert_eq!(cache.read(text, &mut buffer).unwrap(), 8);
        assert_eq!(buffer, own().read_pod::<[u8; 8]>(text).unwrap());
    }
}
