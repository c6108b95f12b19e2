//! Where a target spends its time, by sampling.
//!
//! A perf software event (the CPU clock) samples the instruction pointer of the target's
//! first thread about a thousand times a second. Only done when statistics were asked for:
//! each sample costs the target an interrupt.
//!
//! For a profile, the innermost part of the stack is sampled too. Who has called what runs
//! outside of generated code is then found by looking for return addresses on it.

use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use redmagic_engine::graph::Place;

/// Samples a second of processor time; not a divisor of a timer's frequency.
pub const OFTEN: u64 = 997;
/// The same, where a program is watched for as long as it runs: on a virtual machine a thousand a second cost it some hundredths.
pub const RARELY: u64 = 199;
/// Pages of the ring, a power of two: what comes in 50 ms, several times over.
const RING_PAGES: usize = 16;
/// The same with stacks.
const DEEP_RING_PAGES: usize = 128;
/// Bytes of the stack that are sampled.
const STACK: u32 = 8192;
/// Return addresses that are kept of a stack.
const CALLERS: usize = 64;
/// Most stacks that are kept: about two minutes.
const MOST_STACKS: usize = 120_000;
const PAGE: usize = 4096;
const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_SAMPLE_IP: u64 = 1;
const PERF_SAMPLE_STACK_USER: u64 = 1 << 13;
const PERF_RECORD_SAMPLE: u32 = 9;
/// exclude_kernel (bit 5), exclude_hv (bit 6), freq (bit 10).
const FLAGS: u64 = 1 << 5 | 1 << 6 | 1 << 10;
/// Offsets of `data_head` and `data_tail` in the ring's first page (linux/perf_event.h).
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;

/// The kernel's perf_event_attr, up to the size of sampled stacks.
#[repr(C)]
#[derive(Default)]
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
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
}

/// What was sampled.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// Samples in generated code, by address.
    pub inside: HashMap<u64, u64>,
    /// All samples.
    pub all: u64,
    /// Samples elsewhere, for a profile only: the address, then what may be return addresses, innermost first.
    pub outside: Vec<(u64, Vec<u64>)>,
}

impl Samples {
    /// How many were in generated code.
    pub fn inside(&self) -> u64 {
        self.inside.values().sum()
    }

    /// How many were in the code of a trace.
    pub fn within(&self, code: &Place) -> u64 {
        let found = self
            .inside
            .iter()
            .filter(|(address, _)| code.offset(**address).is_some());
        found.map(|(_, count)| count).sum()
    }
}

/// A sampler of one thread.
#[derive(Debug)]
pub struct Sampler {
    ring: std::ptr::NonNull<u8>,
    pages: usize,
    deep: bool,
    _event: OwnedFd,
    samples: Samples,
}

// SAFETY: the ring is only touched through `&mut self`.
unsafe impl Send for Sampler {}

impl Sampler {
    /// Starts sampling a thread, so often in a second of its processor time; `deep`: with stacks.
    ///
    /// # Errors
    /// EACCES when kernel.perf_event_paranoid forbids it; ENOENT without perf events.
    pub fn start(tid: i32, deep: bool, frequency: u64) -> nix::Result<Sampler> {
        let attributes = Attributes {
            kind: PERF_TYPE_SOFTWARE,
            size: size_of::<Attributes>() as u32,
            config: 0,
            frequency,
            sample_type: PERF_SAMPLE_IP | if deep { PERF_SAMPLE_STACK_USER } else { 0 },
            flags: FLAGS,
            sample_stack_user: if deep { STACK } else { 0 },
            ..Attributes::default()
        };
        // SAFETY: the attributes are live and of the size they say.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, tid, -1, -1, 8) };
        let fd = nix::errno::Errno::result(fd)?;
        // SAFETY: a fresh descriptor (8 is PERF_FLAG_FD_CLOEXEC).
        let event = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let pages = if deep { DEEP_RING_PAGES } else { RING_PAGES };
        let bytes = std::num::NonZeroUsize::new((pages + 1) * PAGE).expect("not zero");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let ring = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, event.as_fd(), 0) }?;
        tracing::debug!(tid, fd = event.as_raw_fd(), "sampling");
        Ok(Sampler {
            ring: ring.cast(),
            pages,
            deep,
            _event: event,
            samples: Samples::default(),
        })
    }

    /// Whether stacks are sampled.
    pub fn is_deep(&self) -> bool {
        self.deep
    }

    /// Takes the samples that have come since, those in `code` apart. What a stack holds of addresses in `code` and `text`
    /// is kept.
    pub fn take(&mut self, code: &Range<u64>, text: &[Range<u64>]) {
        let (head_word, tail_word) = (self.word(DATA_HEAD), self.word(DATA_TAIL));
        let (head, mut tail) = (head_word.load(Ordering::Acquire), tail_word.load(Ordering::Relaxed));
        while tail + 8 <= head {
            let header = self.read(tail);
            let (kind, size) = (header as u32, header >> 48);
            if size < 8 || tail + size > head {
                break;
            }
            if kind == PERF_RECORD_SAMPLE && size >= 16 {
                self.samples.all += 1;
                let ip = self.read(tail + 8);
                if code.contains(&ip) {
                    *self.samples.inside.entry(ip).or_default() += 1;
                } else if self.deep && self.samples.outside.len() < MOST_STACKS {
                    let callers = self.callers(tail, size, code, text);
                    self.samples.outside.push((ip, callers));
                }
            }
            tail += size;
        }
        self.word(DATA_TAIL).store(head, Ordering::Release);
    }

    /// What may be return addresses on the stack of a sample of `size` bytes: after the address come the stack's size, the
    /// stack, and how much of it there was.
    fn callers(&self, record: u64, size: u64, code: &Range<u64>, text: &[Range<u64>]) -> Vec<u64> {
        let bytes = self.read(record + 16);
        if bytes == 0 || bytes.checked_add(32).is_none_or(|all| all > size) {
            return Vec::new();
        }
        let there = self.read(record + 24 + bytes).min(bytes);
        let words = (0..there / 8).map(|i| self.read(record + 24 + i * 8));
        let known = words.filter(|word| code.contains(word) || text.iter().any(|range| range.contains(word)));
        known.take(CALLERS).collect()
    }

    /// What was sampled so far.
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// The share of samples in code, from 0 to 1; `None` without samples.
    pub fn share(&self) -> Option<f64> {
        (self.samples.all > 0).then(|| self.samples.inside() as f64 / self.samples.all as f64)
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: inside the ring's first page, aligned; the kernel accesses it atomically.
        unsafe { AtomicU64::from_ptr(self.ring.as_ptr().add(offset).cast()) }
    }

    /// The word at a position of the endless stream; records are multiples of 8 bytes.
    fn read(&self, position: u64) -> u64 {
        let offset = position as usize % (self.pages * PAGE);
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
        let _ = unsafe { munmap(self.ring.cast(), (self.pages + 1) * PAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_thread_is_sampled_where_it_is() {
        let tid = nix::unistd::gettid().as_raw();
        let mut sampler = match Sampler::start(tid, false, OFTEN) {
            Ok(sampler) => sampler,
            // Containers may forbid it; then there is no share to show.
            Err(errno) => return eprintln!("not allowed here: {errno}"),
        };
        let begin = std::time::Instant::now();
        let mut x = 1u64;
        while begin.elapsed() < std::time::Duration::from_millis(200) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        sampler.take(&(0..u64::MAX), &[]);
        assert_eq!(sampler.share(), Some(1.0));
        let mut outside = Sampler::start(tid, false, OFTEN).unwrap();
        let begin = std::time::Instant::now();
        while begin.elapsed() < std::time::Duration::from_millis(100) {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        outside.take(&(0..1), &[]);
        assert_eq!(outside.share(), Some(0.0));
    }

    #[inline(never)]
    fn leaf(times: u64) -> u64 {
        (0..times).fold(1, |x, _| std::hint::black_box(x * 3 % 1_000_003))
    }

    #[inline(never)]
    fn caller(until: std::time::Duration) -> u64 {
        let (begin, mut x) = (std::time::Instant::now(), 0);
        while begin.elapsed() < until {
            x ^= leaf(100_000);
        }
        x
    }

    #[test]
    fn the_stack_says_who_called() {
        let tid = nix::unistd::gettid().as_raw();
        let mut sampler = match Sampler::start(tid, true, OFTEN) {
            Ok(sampler) => sampler,
            Err(errno) => return eprintln!("not allowed here: {errno}"),
        };
        std::hint::black_box(caller(std::time::Duration::from_millis(200)));
        // The function is no longer than this, and what calls it is elsewhere.
        let start = caller as fn(std::time::Duration) -> u64 as usize as u64;
        let text = start..start + 256;
        sampler.take(&(0..1), std::slice::from_ref(&text));
        let samples = sampler.samples();
        let called = samples.outside.iter().filter(|(ip, callers)| {
            !text.contains(ip) && callers.first().is_some_and(|address| text.contains(address))
        });
        let called = called.count() as u64;
        assert!(
            samples.all > 50 && called * 2 > samples.all,
            "{called} of {}",
            samples.all
        );
    }
}
