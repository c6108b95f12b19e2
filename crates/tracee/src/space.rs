//! An address space, as opposed to a process: `exec` gives a process another one, at the same pid, and, when the
//! program is linked to fixed addresses and runs itself again, with the same things at the same places. What is written
//! by pid may then land in the new program. `/proc/PID/mem`, once open, stays with the address space it was opened for, and
//! has no bytes any more when that has gone: there is no moment between looking and writing.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::memory::Memory;

/// The address space that a process had when this was made.
#[derive(Debug)]
pub struct Space {
    file: File,
    /// Some kernels let nobody write through the file (proc_mem.restrict_write).
    writable: bool,
    memory: Memory,
}

impl Space {
    /// The present one of a process.
    ///
    /// # Errors
    /// When the process is gone or may not be read.
    pub fn of(pid: i32) -> Result<Space> {
        let path = format!("/proc/{pid}/mem");
        let (opened, writable) = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => (Ok(file), true),
            Err(_) => (File::open(&path), false),
        };
        let file = opened.map_err(|error| Error::Memory {
            operation: "read",
            pid,
            address: 0,
            len: 0,
            done: 0,
            errno: match error.raw_os_error().map(Errno::from_raw) {
                None | Some(Errno::ENOENT) => Errno::ESRCH,
                Some(errno) => errno,
            },
        })?;
        Ok(Space {
            file,
            writable,
            memory: Memory::new(pid),
        })
    }

    /// Reads a little-endian word.
    ///
    /// # Errors
    /// One that [is gone](Error::is_gone) when the process has another address space now, or none; others when nothing is
    /// mapped there.
    pub fn read_u64(&self, address: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.finish("read", address, self.file.read_at(&mut bytes, address))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a little-endian word.
    ///
    /// # Errors
    /// Those of [`Space::read_u64`].
    pub fn write_u64(&self, address: u64, value: u64) -> Result<()> {
        if self.writable {
            let written = self.file.write_at(&value.to_le_bytes(), address);
            return self.finish("write", address, written);
        }
        self.read_u64(address)?;
        self.memory.write_u64(address, value)
    }

    fn finish(&self, operation: &'static str, address: u64, done: std::io::Result<usize>) -> Result<()> {
        let (done, errno) = match done {
            Ok(8) => return Ok(()),
            Ok(0) => (0, Errno::ESRCH),
            Ok(done) => (done, Errno::EFAULT),
            Err(error) => (0, error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
        };
        Err(Error::Memory {
            operation,
            pid: self.memory.pid(),
            address,
            len: 8,
            done,
            errno,
        })
    }
}
