//! A session: one target, its engine, its recorder.
//!
//! Two threads serve it. The *service* thread answers parked threads within microseconds
//! (or says who records), follows the registry and notices when the target is gone. The
//! *recorder* thread does what takes long: it takes a parked thread with ptrace, records,
//! compiles, installs, and lets the thread go on wherever it has come to. While it works,
//! every other thread that asks is told to run on.
//!
//! Everything read from the control region is checked here; what a sane shim cannot have
//! written ends the session with a message and nothing else.

use std::mem::offset_of;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use redmagic_engine::cache::CodeCache;
use redmagic_engine::graph::AnchorKey;
use redmagic_engine::memory::SharedMemory;
use redmagic_engine::{Decision, Engine, Hostile, Job, Mode, Params, Request, Setup};
use redmagic_proto::control::{
    Control, MISUSE_END_FRAME, MISUSE_REGISTRY, MISUSE_TEMP_ENABLE, Misuse, PARK_ANSWERED, PARK_AREAS, PARK_FREE,
    PARK_LEFT, PARK_POSTED, PARK_TAKEN, ParkArea, REQUEST_ANCHOR, REQUEST_EXIT, SESSION_ABANDONED, SESSION_ACTIVE,
    SESSION_DETACHED, exit_number,
};
use redmagic_proto::message::Layout;
use redmagic_proto::registry::Registry;
use redmagic_proto::{ApiFn, MAGIC, PROTOCOL_VERSION};
use redmagic_tracee::memory::Memory;
use redmagic_tracee::process;
use redmagic_tracee::space::Space;

use crate::payoff::{Measured, Payoff};
use crate::recorder;
use crate::registry::RegistryReader;
use crate::sample::Sampler;
use crate::target::Shim;
use crate::watch::Watch;

/// Longest sleep of the service thread: how late it may notice what nobody rings for.
const IDLE: Duration = Duration::from_millis(50);

/// How often a target that has given up waiting is asked to try again.
const MAX_REVIVALS: u32 = 16;

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The process is gone.
    Exited,
    /// The process runs another program now.
    Replaced,
    /// Somebody asked for it.
    Detached,
    /// The target waited in vain too often.
    Abandoned,
    /// The control region holds what it cannot hold.
    Hostile(String),
    /// Something failed here.
    Failed(String),
}

impl From<Hostile> for Ending {
    fn from(hostile: Hostile) -> Ending {
        Ending::Hostile(hostile.to_string())
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ending::Exited => write!(f, "the process ended"),
            Ending::Replaced => write!(f, "the process runs another program now"),
            Ending::Detached => write!(f, "detached"),
            Ending::Abandoned => write!(f, "the process waited for redmagicd in vain {MAX_REVIVALS} times"),
            Ending::Hostile(what) | Ending::Failed(what) => f.write_str(what),
        }
    }
}

/// A session, shared by its threads and the server.
#[derive(Debug)]
pub struct Session {
    /// The target.
    pub pid: i32,
    /// When that process started, in clock ticks: with the pid it names one process for good.
    start_time: u64,
    /// Becomes readable when the target ends.
    pub pidfd: OwnedFd,
    /// Where its shim is.
    pub shim: Shim,
    /// Where its regions are.
    pub layout: Layout,
    /// How many sessions this address space has had before: see [`exit_id`](redmagic_proto::control::exit_id).
    pub sessions_before: u32,
    /// The engine.
    pub engine: Mutex<Engine>,
    /// The control region.
    pub control: SharedMemory,
    /// For reading the target's own memory.
    pub memory: Memory,
    /// Its address space: what is written must not land in a program that it runs later.
    space: Space,
    /// When it began.
    pub began: Instant,
    /// Nothing can be recorded now: the recorder has work, or it is measured what traces gain. The control region has a copy,
    /// for those who would ask.
    busy: AtomicBool,
    /// How often threads said that they were hot, and ran on, meanwhile.
    pub notes: AtomicU64,
    /// What was measured of the use of traces.
    pub measured: Mutex<Option<Measured>>,
    /// What the user should know, oldest first.
    pub messages: Mutex<Vec<String>>,
    /// Set once; the threads then end.
    ending: Mutex<Option<Ending>>,
    stop: AtomicBool,
    revivals: AtomicU32,
    refused: AtomicBool,
    /// Samples where the target is, if statistics were asked for.
    pub sampler: Mutex<Option<Sampler>>,
    /// What is known of the target's symbols.
    pub symbols: Mutex<recorder::Symbols>,
    /// What recording came to.
    pub recorders: Mutex<recorder::Counts>,
    /// Where to save recordings.
    pub save_recordings: Option<std::path::PathBuf>,
}

/// Work for the recorder thread.
#[derive(Debug)]
pub struct Work {
    /// The park area of the thread.
    pub area: usize,
    /// What to record.
    pub job: Job,
}

/// The words of a control region that are not 0. Threads that wait stay awake for a time.
fn prepare_control(control: &SharedMemory, awake: Duration) {
    // A new session reads symbols first.
    control.u32(offset_of!(Control, busy)).store(1, Ordering::Relaxed);
    control
        .u32(offset_of!(Control, looks))
        .store(pauses(awake), Ordering::Relaxed);
    control.u64(offset_of!(Control, magic)).store(MAGIC, Ordering::Relaxed);
    control
        .u32(offset_of!(Control, version))
        .store(PROTOCOL_VERSION, Ordering::Relaxed);
    control
        .u32(offset_of!(Control, state))
        .store(SESSION_ACTIVE, Ordering::Release);
}

/// How often a thread of this machine can `pause` in a time: none if there is one processor, which somebody else needs meanwhile.
fn pauses(time: Duration) -> u32 {
    /// Picoseconds that one takes: 2 ns to 50 ns, by make.
    static LENGTH: OnceLock<u128> = OnceLock::new();
    const TRIED: u32 = 1000;
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1) {
        return 0;
    }
    let length = LENGTH.get_or_init(|| {
        let tries = (0..3).map(|_| {
            let began = Instant::now();
            (0..TRIED).for_each(|_| std::hint::spin_loop());
            began.elapsed()
        });
        let best = tries.min().expect("three tries");
        (best.as_nanos() * 1000 / u128::from(TRIED)).max(1)
    });
    u32::try_from(time.as_nanos() * 1000 / length).unwrap_or(u32::MAX)
}

/// Locks; a thread that panicked while it held the lock has broken the session, not the
/// data: counters and maps stay usable.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What a session is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where its shim is.
    pub shim: Shim,
    /// Where its regions go.
    pub layout: Layout,
    /// The regions' mappings here.
    pub code: SharedMemory,
    /// As above.
    pub entries: SharedMemory,
    /// As above, for the engine.
    pub control: SharedMemory,
    /// As above, for the session.
    pub control_view: SharedMemory,
    /// How many sessions this address space has had before.
    pub sessions_before: u32,
    /// Tunables.
    pub params: Params,
    /// Where to save recordings.
    pub save_recordings: Option<std::path::PathBuf>,
}

impl Session {
    /// Prepares the regions. The target does not use them yet.
    ///
    /// # Errors
    /// When the process has gone.
    pub fn new(parts: Parts) -> Result<Session, redmagic_tracee::error::Error> {
        let pid = parts.shim.pid;
        prepare_control(&parts.control_view, Duration::from_micros(parts.params.awake));
        let cache = CodeCache::new(parts.code, parts.entries, parts.layout.code);
        let engine = Engine::new(Setup {
            params: parts.params,
            cache,
            control: parts.control,
            control_address: parts.layout.control,
            sessions_before: parts.sessions_before,
            park_exit: parts.shim.park_exit,
            tls_offset: parts.shim.tls_offset,
        });
        Ok(Session {
            pid,
            start_time: process::start_time(pid)?,
            pidfd: process::pidfd_open(pid)?,
            shim: parts.shim,
            layout: parts.layout,
            sessions_before: parts.sessions_before,
            engine: Mutex::new(engine),
            control: parts.control_view,
            memory: Memory::new(pid),
            space: Space::of(pid)?,
            began: Instant::now(),
            busy: AtomicBool::new(true),
            notes: AtomicU64::new(0),
            measured: Mutex::default(),
            messages: Mutex::new(Vec::new()),
            ending: Mutex::new(None),
            stop: AtomicBool::new(false),
            revivals: AtomicU32::new(0),
            refused: AtomicBool::new(false),
            sampler: Mutex::default(),
            symbols: Mutex::default(),
            recorders: Mutex::default(),
            save_recordings: parts.save_recordings,
        })
    }

    /// Starts its threads. `ended` is called once, when both have stopped.
    pub fn run(self: &Arc<Session>, watch: Watch, ended: impl FnOnce(&Arc<Session>, Ending) + Send + 'static) {
        let (sender, receiver) = bounded::<Work>(1);
        let (recorder, service) = (Arc::clone(self), Arc::clone(self));
        let recording = std::thread::Builder::new()
            .name(format!("record-{}", self.pid))
            .spawn(move || record_loop(&recorder, &receiver, &watch));
        let spawned = std::thread::Builder::new()
            .name(format!("serve-{}", self.pid))
            .spawn(move || {
                service.serve(&sender);
                drop(sender);
                if let Ok(thread) = recording {
                    // A panic there has been reported; the session ends all the same.
                    let _ = thread.join();
                }
                service.retire();
                let ending = lock(&service.ending).clone().unwrap_or(Ending::Detached);
                tracing::info!(pid = service.pid, %ending, "session ended");
                ended(&service, ending);
            });
        if let Err(error) = spawned {
            self.end(Ending::Failed(format!("no thread for the session: {error}")));
        }
    }

    /// Ends the session soon. Only the first reason counts.
    pub fn end(&self, ending: Ending) {
        let mut slot = lock(&self.ending);
        if slot.is_none() {
            if let Ending::Hostile(text) | Ending::Failed(text) = &ending {
                self.message(format!("session ended: {text}"));
            }
            *slot = Some(ending);
        }
        drop(slot);
        self.stop.store(true, Ordering::Release);
        futex_wake(self.control.u32(offset_of!(Control, doorbell)));
    }

    /// Whether it is ending.
    pub fn ending(&self) -> Option<Ending> {
        lock(&self.ending).clone()
    }

    /// Tells the user something: kept for `status`, and logged.
    pub fn message(&self, text: String) {
        tracing::warn!(pid = self.pid, "{text}");
        let mut messages = lock(&self.messages);
        if messages.len() < 100 {
            messages.push(text);
        }
    }

    /// Says, once, that threads of the target cannot be traced.
    pub fn say_once_if_refused(&self, error: &redmagic_tracee::error::Error) {
        if !error.is_gone() && !self.refused.swap(true, Ordering::Relaxed) {
            self.message(format!("nothing can be recorded: {error}"));
        }
    }

    /// Says, once, that the watcher is gone.
    pub fn say_once_unwatched(&self) {
        if !self.refused.swap(true, Ordering::Relaxed) {
            self.message(
                "nothing is recorded: redmagic-watch was killed, or watches too many threads; detach and attach again"
                    .into(),
            );
        }
    }

    /// The service thread.
    fn serve(&self, recorder: &Sender<Work>) {
        let doorbell = self.control.u32(offset_of!(Control, doorbell));
        let mut registry = RegistryReader::new(self.memory, self.shim.registry);
        let mut misuse = MisuseReader::default();
        let mut looked = Instant::now();
        let mut payoff = Payoff::new(self.pid, lock(&self.engine).params());
        while !self.stop.load(Ordering::Acquire) {
            let rung = doorbell.load(Ordering::Acquire);
            let mut asked = false;
            for area in 0..PARK_AREAS {
                let taken_in = match self.park_state(area).load(Ordering::Acquire) {
                    PARK_POSTED => {
                        if !asked && !payoff.is_resting() {
                            self.follow(&mut registry);
                        }
                        asked = true;
                        self.answer(area, recorder)
                    }
                    PARK_LEFT => self.take_note(area),
                    _ => Ok(()),
                };
                if let Err(hostile) = taken_in {
                    return self.end(hostile.into());
                }
            }
            if looked.elapsed() > IDLE || !asked {
                looked = Instant::now();
                if !payoff.is_resting() {
                    self.follow(&mut registry);
                }
                misuse.look(self);
                self.take_samples();
                if let Some(ending) = self.look_at_target() {
                    return self.end(ending);
                }
            }
            let (turn, suspended) = {
                let mut engine = lock(&self.engine);
                let turn = engine.give_turn(self.busy.load(Ordering::Acquire));
                (turn, engine.has_suspended())
            };
            // Nobody rings when memory is declared, or when it ends again so soon after the last time.
            let rings = self.ring_at_end().load(Ordering::SeqCst) != 0;
            let again = if !payoff.is_resting() && (suspended || !rings) {
                registry.pause().min(IDLE)
            } else {
                IDLE
            };
            let idle = payoff.look(self, &mut registry).min(turn).min(again);
            futex_wait(doorbell, rung, idle);
        }
    }

    /// Takes in what was declared since, and lets traces that are still right be entered again.
    /// The generation is read first: an end that it counts was made before, and is seen.
    fn follow(&self, registry: &mut RegistryReader) {
        if registry.may_ask_to_ring() {
            self.ring_at_end().store(1, Ordering::SeqCst);
        }
        let mut engine = lock(&self.engine);
        let generation = engine.current_generation();
        let began = Instant::now();
        if let Some(declared) = registry.changed() {
            let read = |range: Range<u64>| {
                self.memory
                    .read_vec(range.start, (range.end - range.start) as usize)
                    .ok()
            };
            engine.redeclare(declared, &read);
            registry.note_time(began.elapsed());
        }
        engine.give_up_suspended();
        if registry.is_current() {
            engine.validate(generation);
        }
    }

    /// Lets traces rest: the target runs as if there were no session.
    pub fn rest(&self) {
        lock(&self.engine).set_mode(Mode::Resting);
        self.end_generation();
        if let Err(error) = self.space.write_u64(self.shim.page, 0) {
            tracing::debug!(%error, "closing the channel");
        }
    }

    /// While the channel is closed, nobody says that constant memory ends. Whoever is in a trace, in a call that it
    /// keeps, must leave when that returns: no trace is valid for this generation until `follow` says so.
    fn end_generation(&self) {
        self.control
            .u64(offset_of!(Control, generation))
            .fetch_add(1, Ordering::SeqCst);
    }

    /// Ends that.
    pub fn wake(&self, registry: &mut RegistryReader) {
        // What ends from here on is counted; what has ended before, the registry says.
        if let Err(error) = self.open_channel() {
            tracing::debug!(%error, "opening the channel");
        }
        self.follow(registry);
        lock(&self.engine).set_mode(Mode::Running);
    }

    /// Counts where the target was since the last call.
    pub fn take_samples(&self) {
        if let Some(sampler) = lock(&self.sampler).as_mut() {
            let text = if sampler.is_deep() {
                lock(&self.symbols).text()
            } else {
                Vec::new()
            };
            sampler.take(&(self.layout.code..self.layout.code + self.layout.code_bytes), &text);
        }
    }

    /// Whether the target is still the same process with the same program, and still asks.
    fn look_at_target(&self) -> Option<Ending> {
        if process::start_time(self.pid).ok() != Some(self.start_time)
            || process::Status::read(self.pid).is_ok_and(|s| matches!(s.state, 'Z' | 'X'))
        {
            return Some(Ending::Exited);
        }
        // After an exec there is another program at these addresses, perhaps the same one anew, or nothing.
        match self.space.read_u64(self.shim.descriptor) {
            Ok(MAGIC) => {}
            Ok(_) => return Some(Ending::Replaced),
            Err(_) => {
                let gone = self.memory.read_u64(self.shim.descriptor).is_err_and(|e| e.is_gone());
                return Some(if gone { Ending::Exited } else { Ending::Replaced });
            }
        }
        if self.control.u64(offset_of!(Control, magic)).load(Ordering::Relaxed) != MAGIC
            || self.control.u32(offset_of!(Control, version)).load(Ordering::Relaxed) != PROTOCOL_VERSION
        {
            return Some(Hostile("the head of the control region changed".into()).into());
        }
        let state = self.control.u32(offset_of!(Control, state));
        match state.load(Ordering::Acquire) {
            SESSION_ACTIVE => None,
            SESSION_ABANDONED => {
                let revivals = self.revivals.fetch_add(1, Ordering::Relaxed);
                if revivals >= MAX_REVIVALS {
                    return Some(Ending::Abandoned);
                }
                tracing::warn!(
                    pid = self.pid,
                    "the program waited in vain and went on without; asking it back"
                );
                state.store(SESSION_ACTIVE, Ordering::Release);
                self.open_channel().err().map(|error| match error.is_gone() {
                    true => Ending::Replaced,
                    false => Ending::Failed(error.to_string()),
                })
            }
            other => Some(Hostile(format!("the session's state is {other}")).into()),
        }
    }

    /// Points the shim at the control region: from here on anchors count and ask.
    ///
    /// # Errors
    /// When the target's memory cannot be written, or it runs another program now.
    pub fn open_channel(&self) -> Result<(), redmagic_tracee::error::Error> {
        let control = self.shim.registry + offset_of!(Registry, control) as u64;
        self.space.write_u64(control, self.layout.control)?;
        self.space.write_u64(self.shim.page + 8, self.layout.entries)?;
        self.space.write_u64(self.shim.page, self.layout.control)
    }

    /// Whether the target rings at the end of constant memory: see [`Control::ring_at_end`].
    fn ring_at_end(&self) -> &AtomicU32 {
        self.control.u32(offset_of!(Control, ring_at_end))
    }

    /// The state word of a park area.
    pub fn park_state(&self, area: usize) -> &AtomicU32 {
        self.control.u32(park_offset(area) + offset_of!(ParkArea, state))
    }

    /// A 32-bit word of a park area.
    pub fn park_u32(&self, area: usize, field: usize) -> u32 {
        self.control.u32(park_offset(area) + field).load(Ordering::Relaxed)
    }

    /// A word of a park area.
    pub fn park_u64(&self, area: usize, field: usize) -> u64 {
        self.control.u64(park_offset(area) + field).load(Ordering::Relaxed)
    }

    /// Lets a parked thread run on.
    pub fn release(&self, area: usize) {
        let state = self.park_state(area);
        if state
            .compare_exchange(PARK_POSTED, PARK_ANSWERED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            futex_wake(state);
        }
    }

    /// Takes a parked thread over; false if it has not waited that long.
    pub fn take(&self, area: usize) -> bool {
        self.park_state(area)
            .compare_exchange(PARK_POSTED, PARK_TAKEN, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Frees the area of a thread that was taken over, or has run on.
    pub fn free(&self, area: usize) {
        self.park_state(area).store(PARK_FREE, Ordering::Release);
    }

    /// What is asked in an area; `None` if that is about an earlier session.
    fn request(&self, area: usize) -> Result<Option<Request>, Hostile> {
        match self.park_u32(area, offset_of!(ParkArea, kind)) {
            REQUEST_ANCHOR => {
                let number = self.park_u32(area, offset_of!(ParkArea, api));
                let api = ApiFn::from_index(number as usize)
                    .ok_or_else(|| Hostile(format!("there is no function {number} in the API")))?;
                Ok(Some(Request::Anchor {
                    api,
                    key: AnchorKey {
                        id: self.park_u64(area, offset_of!(ParkArea, id)),
                        return_address: self.park_u64(area, offset_of!(ParkArea, return_address)),
                    },
                }))
            }
            REQUEST_EXIT => {
                let number = exit_number(self.sessions_before, self.park_u64(area, offset_of!(ParkArea, id)));
                Ok(number.map(|number| Request::Exit { number }))
            }
            other => Err(Hostile(format!("a request of kind {other}"))),
        }
    }

    /// Answers a thread that waits.
    fn answer(&self, area: usize, recorder: &Sender<Work>) -> Result<(), Hostile> {
        let busy = self.busy.load(Ordering::Acquire);
        let decision = match self.request(area)? {
            Some(request) => lock(&self.engine).decide(request, busy)?,
            None => Decision::Run,
        };
        match decision {
            Decision::Run => self.release(area),
            Decision::Record(job) => {
                self.become_busy();
                if recorder.try_send(Work { area, job }).is_err() {
                    self.no_longer_busy();
                    self.release(area);
                }
            }
        }
        Ok(())
    }

    /// Takes in what a thread has left that was hot while nothing could be recorded.
    fn take_note(&self, area: usize) -> Result<(), Hostile> {
        if let Some(request) = self.request(area)? {
            // Nobody is there to be recorded, even if there is time by now.
            lock(&self.engine).decide(request, true)?;
            self.notes.fetch_add(1, Ordering::Relaxed);
        }
        self.free(area);
        Ok(())
    }

    /// From now on nothing can be recorded; false if that is so already.
    pub fn become_busy(&self) -> bool {
        let was = self.busy.swap(true, Ordering::AcqRel);
        self.control.u32(offset_of!(Control, busy)).store(1, Ordering::Relaxed);
        !was
    }

    /// Ends that.
    pub fn no_longer_busy(&self) {
        self.busy.store(false, Ordering::Release);
        self.control.u32(offset_of!(Control, busy)).store(0, Ordering::Relaxed);
    }

    /// The recorder has nothing to do: whoever has become hot meanwhile waits for a turn.
    fn has_time(&self) {
        self.no_longer_busy();
        futex_wake(self.control.u32(offset_of!(Control, doorbell)));
    }

    /// The end: the target is left as a plain program.
    fn retire(&self) {
        lock(&self.engine).withdraw();
        self.end_generation();
        self.control
            .u32(offset_of!(Control, state))
            .store(SESSION_DETACHED, Ordering::Release);
        // A process that is gone, or runs another program, has no channel to close.
        if self
            .space
            .read_u64(self.shim.page)
            .is_ok_and(|channel| channel == self.layout.control)
            && let Err(error) = self.space.write_u64(self.shim.page, 0)
        {
            tracing::debug!(%error, "closing the channel");
        }
        for area in 0..PARK_AREAS {
            self.release(area);
        }
    }
}

/// The recorder thread: one piece of work after another, until the service thread is gone.
fn record_loop(session: &Arc<Session>, work: &Receiver<Work>, watch: &Watch) {
    recorder::read_symbols(session);
    let mut recorder = recorder::Recorder::new(session, watch);
    session.has_time();
    for work in work {
        let area = work.area;
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            recorder.work(&work);
            session.release(area);
            recorder.refresh(&work.job);
        }));
        if done.is_err() {
            // A bug of ours: the target must not wait for it, and must not meet it again.
            session.end(Ending::Failed(
                "redmagicd failed while recording (this is a bug in redmagicd)".into(),
            ));
            session.release(area);
        }
        session.has_time();
    }
}

fn park_offset(area: usize) -> usize {
    offset_of!(Control, parks) + area * size_of::<ParkArea>()
}

/// Follows the counts of misused API calls and says each kind once.
#[derive(Debug, Default)]
struct MisuseReader {
    said: [bool; 3],
}

impl MisuseReader {
    fn look(&mut self, session: &Session) {
        for (kind, what) in [
            (
                MISUSE_TEMP_ENABLE,
                "redmagic_temp_enable() was called without a redmagic_temp_disable()",
            ),
            (
                MISUSE_END_FRAME,
                "redmagic_end_branchable_frame() was called without a redmagic_begin_branchable_frame()",
            ),
            (
                MISUSE_REGISTRY,
                "a declaration of constant memory or of a function could not be noted",
            ),
        ] {
            let at = offset_of!(Control, misuse) + kind * size_of::<Misuse>();
            let count = session
                .control
                .u64(at + offset_of!(Misuse, count))
                .load(Ordering::Relaxed);
            if count > 0 && !self.said[kind] {
                self.said[kind] = true;
                let last = session
                    .control
                    .u64(at + offset_of!(Misuse, last))
                    .load(Ordering::Relaxed);
                let place = if last == 0 {
                    String::new()
                } else {
                    format!(" (returning to {last:#x})")
                };
                session.message(format!(
                    "{what}{place}; the call was ignored: the interpreter's author should balance the calls"
                ));
            }
        }
    }
}

/// Waits until `word` is no longer `value`, somebody wakes it, or time is up.
fn futex_wait(word: &AtomicU32, value: u32, timeout: Duration) {
    let time = libc::timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // SAFETY: the word and the time are live; a shared futex (no PRIVATE flag), since the other
    // side is another process.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const time) };
}

/// Wakes who waits on `word`.
fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word is live.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stays_awake_for_longer_looks_more_often() {
        assert_eq!(pauses(Duration::ZERO), 0);
        let (short, long) = (pauses(Duration::from_micros(100)), pauses(Duration::from_millis(100)));
        if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) {
            assert!(short > 0 && long > short * 100, "{short} and {long}");
        } else {
            assert_eq!((short, long), (0, 0));
        }
    }
}
