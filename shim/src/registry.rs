//! What the program declares about itself: see [`redmagic_proto::registry`].
//!
//! The table is written under a lock that lives on the page a fork wipes, so a
//! child never finds it held. A signal handler that interrupts the holder, or a
//! holder that was killed, cannot hang anyone: the wait is bounded, and a
//! declaration that could not be made is noted (`incomplete`), after which the
//! daemon takes nothing for constant in this process.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use redmagic_proto::control::{Control, GENERATION_OF_ANOTHER, MISUSE_REGISTRY};
use redmagic_proto::entries::HASH_MULTIPLIER;
use redmagic_proto::registry::{
    KIND_CONSTANT_MEMORY, KIND_DISABLED_BRANCH, KIND_DO_NOT_TRACE, KIND_ELIDABLE, KIND_ENDED, Record, Registry,
};

use crate::descriptor::page;
use crate::sys::{PROT_READ, PROT_WRITE, SYS_CLOCK_GETTIME, SYS_MMAP, SYS_MUNMAP, SYS_SCHED_YIELD, syscall};

/// The table's head, found through the descriptor.
pub static REGISTRY: Registry = Registry {
    version: AtomicU64::new(0),
    records: AtomicU64::new(0),
    capacity: AtomicU64::new(0),
    used: AtomicU64::new(0),
    next_serial: AtomicU64::new(1),
    incomplete: AtomicU32::new(0),
    reserved: AtomicU32::new(0),
    control: AtomicU64::new(0),
};

/// Records of the first table: 32 KiB.
const FIRST_CAPACITY: u64 = 1024;

const MAP_PRIVATE_ANONYMOUS: usize = 0x22;
const MAP_FIXED: usize = 0x10;

/// How long to wait for the lock, in nanoseconds: its holder may have been preempted on a busy
/// machine, but a holder that was killed, or interrupted by a signal handler that declares
/// something itself, will never let go.
const LOCK_PATIENCE: i64 = 500_000_000;

/// Holds the lock; the version is odd meanwhile.
struct Locked;

impl Locked {
    fn take() -> Option<Locked> {
        let lock = &page().registry_lock;
        // Whoever has waited in vain once does not wait again.
        let patience = if REGISTRY.incomplete.load(Ordering::Relaxed) == 0 {
            LOCK_PATIENCE
        } else {
            0
        };
        let mut deadline = 0;
        loop {
            for _ in 0..64 {
                if lock
                    .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
                {
                    // A child may have been forked while the table was being changed: then
                    // the version is odd already, and becomes even with this change.
                    REGISTRY.version.fetch_or(1, Ordering::AcqRel);
                    return Some(Locked);
                }
                core::hint::spin_loop();
            }
            let now = now();
            if deadline == 0 {
                deadline = now + patience;
            } else if now >= deadline {
                return None;
            }
            // SAFETY: takes no arguments.
            unsafe { syscall(SYS_SCHED_YIELD, [0; 6]) };
        }
    }
}

/// The monotonic clock in nanoseconds.
fn now() -> i64 {
    let mut time = [0i64; 2];
    // SAFETY: the pointer is to a live timespec.
    unsafe { syscall(SYS_CLOCK_GETTIME, [1, (&raw mut time) as usize, 0, 0, 0, 0]) };
    time[0] * 1_000_000_000 + time[1]
}

impl Drop for Locked {
    fn drop(&mut self) {
        REGISTRY.version.fetch_add(1, Ordering::Release);
        page().registry_lock.store(0, Ordering::Release);
    }
}

/// The records in use.
fn table() -> &'static [Record] {
    let records = REGISTRY.records.load(Ordering::Relaxed) as *const Record;
    if records.is_null() {
        return &[];
    }
    // SAFETY: `records` and `capacity` describe a mapping made by `grow`, whose records
    // are all atomics; it is unmapped only under the lock, which every caller holds.
    unsafe { core::slice::from_raw_parts(records, REGISTRY.capacity.load(Ordering::Relaxed) as usize) }
}

/// The record of (kind, key), or the place for it: the first free record met.
fn find(table: &'static [Record], kind: u64, key: u64) -> Option<&'static Record> {
    let mask = table.len().checked_sub(1)?;
    let mut at = (key ^ kind).wrapping_mul(HASH_MULTIPLIER) as usize >> 20;
    let mut free = None;
    for _ in 0..table.len() {
        let record = &table[at & mask];
        match record.kind.load(Ordering::Relaxed) {
            0 => return free.or(Some(record)),
            KIND_ENDED => free = free.or(Some(record)),
            found if found == kind && record.key.load(Ordering::Relaxed) == key => {
                return Some(record);
            }
            _ => {}
        }
        at = at.wrapping_add(1);
    }
    free
}

/// Moves to a table twice as large, leaving ended records behind.
fn grow(_: &Locked) -> bool {
    let old = table();
    let live = old
        .iter()
        .filter(|r| !matches!(r.kind.load(Ordering::Relaxed), 0 | KIND_ENDED))
        .count() as u64;
    let capacity = (live * 4).next_power_of_two().max(FIRST_CAPACITY);
    let bytes = capacity as usize * size_of::<Record>();
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let address = unsafe {
        syscall(
            SYS_MMAP,
            [0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE_ANONYMOUS, usize::MAX, 0],
        )
    };
    if address < 0 {
        return false;
    }
    // SAFETY: the mapping is that large, zeroed, and nobody else knows it; zero is a
    // valid value of every atomic in a record.
    let new: &'static [Record] = unsafe { core::slice::from_raw_parts(address as *const Record, capacity as usize) };
    for record in old {
        let kind = record.kind.load(Ordering::Relaxed);
        if matches!(kind, 0 | KIND_ENDED) {
            continue;
        }
        if let Some(place) = find(new, kind, record.key.load(Ordering::Relaxed)) {
            place.key.store(record.key.load(Ordering::Relaxed), Ordering::Relaxed);
            place
                .length
                .store(record.length.load(Ordering::Relaxed), Ordering::Relaxed);
            place
                .serial
                .store(record.serial.load(Ordering::Relaxed), Ordering::Relaxed);
            place.kind.store(kind, Ordering::Release);
        }
    }
    REGISTRY.used.store(live, Ordering::Relaxed);
    REGISTRY.records.store(address as u64, Ordering::Release);
    REGISTRY.capacity.store(capacity, Ordering::Release);
    if !old.is_empty() {
        // SAFETY: the old mapping was made here, and no reference to it is left: all
        // users hold the lock, which we hold.
        unsafe { syscall(SYS_MUNMAP, [old.as_ptr() as usize, size_of_val(old), 0, 0, 0, 0]) };
    }
    true
}

fn declare(kind: u64, key: u64, length: u64) {
    let Some(locked) = Locked::take() else {
        return incomplete();
    };
    let capacity = REGISTRY.capacity.load(Ordering::Relaxed);
    if (REGISTRY.used.load(Ordering::Relaxed) + 1) * 2 > capacity && !grow(&locked) {
        return incomplete();
    }
    let Some(record) = find(table(), kind, key) else {
        return incomplete();
    };
    if record.kind.load(Ordering::Relaxed) == 0 {
        REGISTRY.used.fetch_add(1, Ordering::Relaxed);
    }
    record.key.store(key, Ordering::Relaxed);
    record.length.store(length, Ordering::Relaxed);
    record
        .serial
        .store(REGISTRY.next_serial.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    record.kind.store(kind, Ordering::Release);
}

fn end(kind: u64, key: u64) {
    let Some(_locked) = Locked::take() else {
        return incomplete();
    };
    if let Some(record) = find(table(), kind, key)
        && record.kind.load(Ordering::Relaxed) == kind
    {
        record.kind.store(KIND_ENDED, Ordering::Release);
    }
}

fn incomplete() {
    REGISTRY.incomplete.store(1, Ordering::Release);
    if let Some(control) = control() {
        control.misuse[MISUSE_REGISTRY].count.fetch_add(1, Ordering::Relaxed);
    }
}

fn control() -> Option<&'static Control> {
    let channel = page().channel.load(Ordering::Acquire) as *const Control;
    // SAFETY: a non-null channel is the control region, which is never unmapped; all
    // that is used of it are atomics.
    unsafe { channel.as_ref() }
}

/// See `redmagic.h`.
#[unsafe(no_mangle)]
pub extern "C" fn redmagic_do_not_trace_function(function: *mut c_void) {
    declare(KIND_DO_NOT_TRACE, function as u64, 0);
}

/// See `redmagic.h`.
#[unsafe(no_mangle)]
pub extern "C" fn redmagic_disable_branch(id: *mut c_void) {
    declare(KIND_DISABLED_BRANCH, id as u64, 0);
}

/// See `redmagic.h`.
#[unsafe(no_mangle)]
pub extern "C" fn redmagic_constant_memory(ptr: *const c_void, len: usize) {
    declare(KIND_CONSTANT_MEMORY, ptr as u64, len as u64);
}

/// See `redmagic.h`. The generation goes up before the call returns, that is before
/// the caller can change or free the bytes.
#[unsafe(no_mangle)]
pub extern "C" fn redmagic_constant_memory_end(ptr: *const c_void) {
    end(KIND_CONSTANT_MEMORY, ptr as u64);
    if let Some(control) = control() {
        control.generation.fetch_add(1, Ordering::SeqCst);
        // No trace that relies on constant memory is entered until the daemon has looked what is left.
        if control.ring_at_end.load(Ordering::SeqCst) != 0 && control.ring_at_end.swap(0, Ordering::SeqCst) != 0 {
            crate::park::ring(control);
        }
    } else if page().started.load(Ordering::Relaxed) == 0 {
        // A child that was forked past the C library's handlers.
        disown();
    }
}

/// In a forked child: what is mapped of the parent's session is no longer shared with it. The child may be in a trace of the
/// parent's, in a call that the trace keeps, and nobody will say there what ends in the child. So no trace is valid for its
/// generation, and no exit is ever hot.
pub(crate) fn disown() {
    let old = REGISTRY.control.swap(0, Ordering::AcqRel) as *const Control;
    if old.is_null() {
        return;
    }
    // SAFETY: this is where a control region of this size was mapped, which is never unmapped; nobody else has a reference into
    // it that lasts, as a child begins with one thread, and all that is used of it are atomics, of which any value is valid.
    unsafe {
        let mapped = syscall(
            SYS_MMAP,
            [
                old as usize,
                redmagic_proto::control::CONTROL_BYTES,
                PROT_READ | PROT_WRITE,
                MAP_PRIVATE_ANONYMOUS | MAP_FIXED,
                usize::MAX,
                0,
            ],
        );
        if mapped == old as isize {
            (*old).generation.store(GENERATION_OF_ANOTHER, Ordering::Release);
        } else {
            // Without memory there is no other way to be right: the parent's traces end, too, until its daemon has looked.
            (*old).generation.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// See `redmagic.h`.
#[unsafe(no_mangle)]
pub extern "C" fn redmagic_elidable_function(function: *mut c_void) {
    declare(KIND_ELIDABLE, function as u64, 0);
}
