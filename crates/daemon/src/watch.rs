//! The watcher: a second, tiny process that makes the daemon's hang as harmless as its
//! death.
//!
//! A thread that is being stepped waits for its tracer. If the tracer is killed, the
//! kernel lets the thread go; if the tracer is stopped (SIGSTOP, a debugger), the thread
//! waits as long as that lasts. So while any thread is traced, the watcher looks every few
//! milliseconds whether the daemon is stopped, and kills it if it is.
//!
//! A killed tracer may leave hardware breakpoints armed in the thread it traced, and the
//! thread bound to one processor. Each hit of a breakpoint would cost the program a signal, and
//! the binding would pass on to threads that it makes later. The watcher, seeing the daemon's
//! end of the pipe close (which it does when the daemon's last thread is past its last system
//! call), attaches for a moment, clears the breakpoints, and gives the thread its affinity back.
//! If the watcher is killed as well, nobody does: results are the same, only slower.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memmap_anonymous::{AFFINITY_WORDS, Affinity, SharedWords};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, fork, getpid};
use redmagic_tracee::thread::{Options, WaitOutcome, seize_and_stop};
use redmagic_tracee::{breakpoint, process};

/// Threads that can be traced at once.
const SLOTS: usize = 32;

/// How often the daemon is looked at while a thread is traced.
const PERIOD: Duration = Duration::from_millis(2);

/// A daemon that has traced one thread this long without a sign of life hangs.
const HANG: Duration = Duration::from_secs(5);

/// The daemon's side.
#[derive(Debug, Clone)]
pub struct Watch {
    shared: Arc<SharedWords>,
    pipe: Arc<std::io::PipeWriter>,
}

/// While it lives, a thread is under watch.
#[derive(Debug)]
pub struct Watched<'a> {
    watch: &'a Watch,
    slot: usize,
}

impl Watch {
    /// Forks the watcher. Must be called while this process has one thread.
    ///
    /// # Errors
    /// Those of mmap, pipe and fork.
    pub fn start() -> std::io::Result<Watch> {
        let shared = SharedWords::new(SLOTS)?;
        let (reader, writer) = std::io::pipe()?;
        let daemon = getpid();
        // SAFETY: the process has one thread, so the child may do anything.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(writer);
                let reader = keep_only(reader);
                let _ = nix::sys::prctl::set_name(c"redmagic-watch");
                watch(&shared, reader, daemon);
                std::process::exit(0);
            }
            ForkResult::Parent { .. } => {}
        }
        Ok(Watch {
            shared: Arc::new(shared),
            pipe: Arc::new(writer),
        })
    }

    /// Puts a thread under watch for as long as the result lives. `None` when it cannot be
    /// watched, and so must not be traced: no slot is free, or the watcher was killed.
    pub fn thread(&self, tid: i32) -> Option<Watched<'_>> {
        for slot in 0..SLOTS {
            if self
                .shared
                .tid(slot)
                .compare_exchange(0, tid, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                self.shared.beat(slot).fetch_add(1, Ordering::Relaxed);
                // Before the first binding: the caller has not stopped the thread yet.
                if let Some(mask) = affinity(tid) {
                    self.shared.keep_affinity(slot, &mask);
                }
                let watched = Watched { watch: self, slot };
                // A full pipe is as good a wake-up as one more byte; a broken one has no reader.
                return match (&*self.pipe).write(&[1]) {
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => None,
                    _ => Some(watched),
                };
            }
        }
        None
    }
}

impl Watched<'_> {
    /// A sign of life.
    pub fn beat(&self) {
        self.watch.shared.beat(self.slot).fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.watch.shared.forget_affinity(self.slot);
        self.watch.shared.tid(self.slot).store(0, Ordering::Release);
    }
}

/// Closes every descriptor but the standard ones and the pipe: the watcher must not hold
/// open what somebody waits on for the daemon's end.
fn keep_only(pipe: std::io::PipeReader) -> std::io::PipeReader {
    use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
    const PLACE: i32 = 3;
    let raw = pipe.into_raw_fd();
    // SAFETY: the child has one thread and uses no descriptor but this one from here on; after
    // the calls `PLACE` is the pipe, owned by nobody else.
    unsafe {
        if raw != PLACE {
            libc::dup2(raw, PLACE);
        }
        libc::close_range(PLACE as u32 + 1, u32::MAX, 0);
        std::io::PipeReader::from(OwnedFd::from_raw_fd(PLACE))
    }
}

/// The watcher's life.
fn watch(shared: &SharedWords, mut pipe: std::io::PipeReader, daemon: Pid) {
    let mut beats = [(0u64, Instant::now()); SLOTS];
    loop {
        let traced = (0..SLOTS).any(|slot| shared.tid(slot).load(Ordering::Acquire) != 0);
        let timeout = if traced {
            PollTimeout::from(PERIOD.as_millis() as u8)
        } else {
            PollTimeout::NONE
        };
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout).is_ok_and(|n| n > 0) {
            let mut bytes = [0; 64];
            match pipe.read(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let stopped = traced && process::Status::read(daemon.as_raw()).is_ok_and(|s| matches!(s.state, 'T' | 't'));
        let mut hangs = false;
        for (slot, (beat, since)) in beats.iter_mut().enumerate() {
            let now = shared.beat(slot).load(Ordering::Relaxed);
            if shared.tid(slot).load(Ordering::Acquire) == 0 || now != *beat {
                (*beat, *since) = (now, Instant::now());
            }
            hangs |= since.elapsed() > HANG;
        }
        if stopped || hangs {
            let _ = kill(daemon, Signal::SIGKILL);
        }
    }
    for slot in 0..SLOTS {
        let tid = shared.tid(slot).load(Ordering::Acquire);
        if tid != 0 {
            if let Some(mask) = shared.affinity(slot) {
                unbind(tid, &mask);
            }
            disarm(tid);
        }
    }
}

/// The affinity of a thread, as words of bits; `None` if it is gone.
fn affinity(tid: i32) -> Option<Affinity> {
    let mut mask: Affinity = [0; AFFINITY_WORDS];
    // SAFETY: the mask is live and of the size given; the kernel writes bits of any value.
    let got = unsafe { libc::sched_getaffinity(tid, size_of::<Affinity>(), mask.as_mut_ptr().cast()) };
    (got == 0).then_some(mask)
}

/// Gives a thread whose tracer died its affinity back. A thread that is not bound to a single
/// processor of that affinity was not bound by the recorder, or has changed it since.
fn unbind(tid: i32, mask: &Affinity) {
    let Some(now) = affinity(tid) else { return };
    let bits: u32 = now.iter().map(|word| word.count_ones()).sum();
    if bits == 1 && now != *mask && now.iter().zip(mask).all(|(now, old)| now & !old == 0) {
        // SAFETY: the mask is live and of the size given. It fails only for a thread that is gone.
        unsafe { libc::sched_setaffinity(tid, size_of::<Affinity>(), mask.as_ptr().cast()) };
    }
}

/// Clears the hardware breakpoints of a thread whose tracer died.
fn disarm(tid: i32) {
    // The kernel detaches a dead tracer's threads in its own time.
    for _ in 0..100 {
        if let Ok(WaitOutcome::Stopped(thread)) = seize_and_stop(tid, Options::default()) {
            if let Err(error) = breakpoint::clear_all(&thread) {
                tracing::debug!(%error, "clearing breakpoints");
            }
            return;
        }
        if process::Status::read(tid).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// An anonymous shared mapping of atomics.
mod memmap_anonymous {
    use std::ptr::NonNull;

    use super::{AtomicI32, AtomicU32, AtomicU64, Ordering};

    /// Words of a `cpu_set_t`: 1024 processors.
    pub const AFFINITY_WORDS: usize = size_of::<libc::cpu_set_t>() / 8;

    /// Processors that a thread may run on, one bit each.
    pub type Affinity = [u64; AFFINITY_WORDS];

    /// What the two sides share of one traced thread.
    #[repr(C)]
    #[derive(Debug)]
    struct Slot {
        /// The thread; 0 for none.
        tid: AtomicI32,
        /// 1 when `affinity` holds the thread's.
        kept: AtomicU32,
        /// Signs of life.
        beat: AtomicU64,
        /// Its affinity before it was bound.
        affinity: [AtomicU64; AFFINITY_WORDS],
    }

    /// The slots.
    #[derive(Debug)]
    pub struct SharedWords {
        map: NonNull<Slot>,
        slots: usize,
    }

    // SAFETY: the mapping is made of atomics and lives as long as the value.
    unsafe impl Send for SharedWords {}
    // SAFETY: as above.
    unsafe impl Sync for SharedWords {}

    impl SharedWords {
        /// Zeroed slots that children share.
        pub fn new(slots: usize) -> std::io::Result<SharedWords> {
            let bytes = std::num::NonZeroUsize::new(slots * size_of::<Slot>()).expect("at least one slot");
            // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
            let map = unsafe {
                nix::sys::mman::mmap_anonymous(
                    None,
                    bytes,
                    nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE,
                    nix::sys::mman::MapFlags::MAP_SHARED,
                )
            }?;
            Ok(SharedWords { map: map.cast(), slots })
        }

        fn slot(&self, slot: usize) -> &Slot {
            assert!(slot < self.slots);
            // SAFETY: inside the mapping, aligned to its page, zeroed (a valid `Slot`), all atomics, and
            // used only through this type.
            unsafe { self.map.add(slot).as_ref() }
        }

        /// The thread in a slot; 0 for none.
        pub fn tid(&self, slot: usize) -> &AtomicI32 {
            &self.slot(slot).tid
        }

        /// Its signs of life.
        pub fn beat(&self, slot: usize) -> &AtomicU64 {
            &self.slot(slot).beat
        }

        /// Keeps the affinity of the thread in a slot.
        pub fn keep_affinity(&self, slot: usize, mask: &Affinity) {
            let slot = self.slot(slot);
            for (to, from) in slot.affinity.iter().zip(mask) {
                to.store(*from, Ordering::Relaxed);
            }
            slot.kept.store(1, Ordering::Release);
        }

        /// Forgets it.
        pub fn forget_affinity(&self, slot: usize) {
            self.slot(slot).kept.store(0, Ordering::Release);
        }

        /// The affinity that was kept.
        pub fn affinity(&self, slot: usize) -> Option<Affinity> {
            let slot = self.slot(slot);
            (slot.kept.load(Ordering::Acquire) == 1)
                .then(|| std::array::from_fn(|i| slot.affinity[i].load(Ordering::Relaxed)))
        }
    }

    impl Drop for SharedWords {
        fn drop(&mut self) {
            // SAFETY: mapped by `new` with this size; no references outlive self.
            let _ = unsafe { nix::sys::mman::munmap(self.map.cast(), self.slots * size_of::<Slot>()) };
        }
    }
}
