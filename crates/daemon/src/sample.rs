//! How much of its time a target spends in generated code, by sampling.
//!
//! A perf software event (the CPU clock) samples the instruction pointer of the target's
//! first thread about a thousand times a second. Only done when statistics were asked for:
//! each sample costs the target an interrupt.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Samples a second of processor time; not a divisor of a timer's frequency.
const FREQUENCY: u64 = 997;
/// Pages of the ring, a power of two.
const RING_PAGES: usize = 16;
const PAGE: usize = 4096;
const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_SAMPLE_IP: u64 = 1;
const PERF_RECORD_SAMPLE: u32 = 9;
/// exclude_kernel (bit 5), exclude_hv (bit 6), freq (bit 10).
const FLAGS: u64 = 1 << 5 | 1 << 6 | 1 << 10;
/// Offsets of `data_head` and `data_tail` in the ring's first page (linux/perf_event.h).
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// The kernel's perf_event_attr, first version.
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    frequency: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}

/// A sampler of one thread.
#[derive(Debug)]
pub struct Sampler {
    ring: std::ptr::NonNull<u8>,
    _event: OwnedFd,
    inside: u64,
    all: u64,
}

// SAFETY: the ring is only touched through `&mut self`.
unsafe impl Send for Sampler {}

impl Sampler {
    /// Starts sampling a thread.
    ///
    /// # Errors
    /// EACCES when kernel.perf_event_paranoid forbids it; ENOENT without perf events.
    pub fn start(tid: i32) -> nix::Result<Sampler> {
        let attributes = Attributes {
            kind: PERF_TYPE_SOFTWARE,
            size: size_of::<Attributes>() as u32,
            config: 0,
            frequency: FREQUENCY,
            sample_type: PERF_SAMPLE_IP,
            read_format: 0,
            flags: FLAGS,
            wakeup_events: 0,
            bp_type: 0,
            config1: 0,
        };
        // SAFETY: the attributes are live and of the size they say.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, tid, -1, -1, 8) };
        let fd = nix::errno::Errno::result(fd)?;
        // SAFETY: a fresh descriptor (8 is PERF_FLAG_FD_CLOEXEC).
        let event = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let bytes = std::num::NonZeroUsize::new((RING_PAGES + 1) * PAGE).expect("not zero");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let ring = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, event.as_fd(), 0) }?;
        tracing::debug!(tid, fd = event.as_raw_fd(), "sampling");
        Ok(Sampler {
            ring: ring.cast(),
            _event: event,
            inside: 0,
            all: 0,
        })
    }

    /// Takes the samples that have come since, and counts those in `code`.
    pub fn take(&mut self, code: &std::ops::Range<u64>) {
        let (head_word, tail_word) = (self.word(DATA_HEAD), self.word(DATA_TAIL));
        let (head, mut tail) = (head_word.load(Ordering::Acquire), tail_word.load(Ordering::Relaxed));
        while tail + 8 <= head {
            let header = self.read(tail);
            let (kind, size) = (header as u32, header >> 48);
            if size < 8 || tail + size > head {
                break;
            }
            if kind == PERF_RECORD_SAMPLE && size >= 16 {
                self.all += 1;
                self.inside += u64::from(code.contains(&self.read(tail + 8)));
            }
            tail += size;
        }
        self.word(DATA_TAIL).store(head, Ordering::Release);
    }

    /// The share of samples in code, from 0 to 1; `None` without samples.
    pub fn share(&self) -> Option<f64> {
        (self.all > 0).then(|| self.inside as f64 / self.all as f64)
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: inside the ring's first page, aligned; the kernel accesses it atomically.
        unsafe { AtomicU64::from_ptr(self.ring.as_ptr().add(offset).cast()) }
    }

    /// The word at a position of the endless stream; records are multiples of 8 bytes.
    fn read(&self, position: u64) -> u64 {
        let offset = position as usize % (RING_PAGES * PAGE);
        // SAFETY: inside the data pages, aligned, and written by the kernel before `head`.
        unsafe {
            self.ring
                .as_ptr()
                .add(PAGE + (offset & !7))
                .cast::<u64>()
                .read_volatile()
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: mapped by `start` with this size; nothing refers to it any more.
        let _ = unsafe { munmap(self.ring.cast(), (RING_PAGES + 1) * PAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_thread_is_sampled_where_it_is() {
        let tid = nix::unistd::gettid().as_raw();
        let mut sampler = match Sampler::start(tid) {
            Ok(sampler) => sampler,
            // Containers may forbid it; then there is no share to show.
            Err(errno) => return eprintln!("not allowed here: {errno}"),
        };
        let begin = std::time::Instant::now();
        let mut x = 1u64;
        while begin.elapsed() < std::time::Duration::from_millis(200) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        sampler.take(&(0..u64::MAX));
        assert_eq!(sampler.share(), Some(1.0));
        let mut outside = Sampler::start(tid).unwrap();
        let begin = std::time::Instant::now();
        while begin.elapsed() < std::time::Duration::from_millis(100) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        outside.take(&(0..1));
        assert_eq!(outside.share(), Some(0.0));
    }
}
