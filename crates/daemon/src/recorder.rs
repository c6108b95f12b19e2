//! One recording, from a parked thread to an installed trace.
//!
//! The thread waits in the shim's futex. What it would do is emulated, and it is let go: nothing of it
//! was touched. It goes on as soon as the memory that recordings usually read was copied, and the rest is read
//! while it runs: a wait of a tenth of the time, and a trace that is for a state that never was now and then, of which its
//! guards say so. (Verification compares memory with what it was, and waits for all of it.)
//!
//! What cannot be emulated is stepped, the next time if the thread has gone on. The thread is seized and stopped; if it is still in that
//! wait (it may have timed out, or a signal handler may run on top of it), its area is
//! taken and the thread is moved to where it would have resumed, with the registers it
//! left on its stack. Then it is recorded. Whatever comes of that, the thread is then
//! somewhere in its own program with its own state, and is let go.

use std::collections::{BTreeMap, HashMap};
use std::mem::offset_of;
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iced_x86::Instruction;
use redmagic_engine::fold::Mappings;
use redmagic_engine::graph::Origin;
use redmagic_engine::params::Params;
use redmagic_engine::policy::RETURNS_TWICE;
use redmagic_engine::policy::{Functions, Lessons, Places, Policy};
use redmagic_engine::{Begun, Compilation, Draft, Engine, Finished, Job, Stays};
use redmagic_proto::api::ApiFn;
use redmagic_proto::control::{PARK_POSTED, ParkArea};
use redmagic_proto::descriptor::ShimPage;
use redmagic_record::abort::{Abort, Aborted, Who};
use redmagic_record::emulate::{self, Emulated, Emulator};
use redmagic_record::guide::{CallAction, CallSite, Flow, Guide, ShimAction, ShimCallSite};
use redmagic_record::recording::{Anchor, AnchorKind, Api, ImageRange, LibraryFn, Recording};
use redmagic_record::stepping::{self, Ctx, Limits};
use redmagic_tracee::image::Image;
use redmagic_tracee::maps::Maps;
use redmagic_tracee::process::{self, Status};
use redmagic_tracee::thread::{self, Options, Stopped, WaitOutcome};

use crate::parked::{self, ParkFrame, Wait};
use crate::session::{Session, Work, lock};
use crate::watch::{Watch, Watched};

/// What recording came to, for `status`.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// By emulation.
    pub emulated: Cost,
    /// By stepping.
    pub stepped: Cost,
    /// Why stepping was needed, by reason.
    pub needs_real: BTreeMap<&'static str, u64>,
    /// Made both ways and the same.
    pub agreed: u64,
    /// Made both ways and different.
    pub differed: u64,
    /// How long threads waited while they were recorded by emulation.
    pub pauses: Pauses,
}

/// How long threads waited, in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Pauses(Vec<u32>);

impl Pauses {
    /// Most that are kept; a session that has more is not judged by the later ones.
    const KEPT: usize = 1 << 16;

    fn add(&mut self, pause: Duration) {
        if self.0.len() < Self::KEPT {
            self.0.push(u32::try_from(pause.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// The pause that a share (0 to 1) of all pauses do not exceed, in microseconds; 0 if there was none.
    pub fn quantile(&self, share: f64) -> u32 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
    }

    /// All of them, in order.
    pub fn all(&self) -> &[u32] {
        &self.0
    }
}

/// What one recorder did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Recordings, aborted ones included.
    pub recordings: u64,
    /// Instructions in them.
    pub instructions: u64,
    /// Instructions executed for them: those in calls that are kept as calls are not recorded, but
    /// emulated. Stepping runs them natively and does not count them.
    pub executed: u64,
    /// Time for them.
    pub time: Duration,
}

impl Cost {
    fn add(&mut self, result: &Result<Recording, Aborted>, executed: u64, time: Duration) {
        self.recordings += 1;
        self.executed += executed;
        self.instructions += result.as_ref().map_or_else(|a| a.steps, |r| r.steps.len()) as u64;
        self.time += time;
    }

    /// Nanoseconds an instruction; 0 if there was none.
    pub fn ns_an_instruction(&self) -> f64 {
        self.time.as_nanos() as f64 / (self.instructions.max(1)) as f64
    }
}

/// Values of `REDMAGIC_RECORDER`.
const STEP: u64 = 1;
const BOTH: u64 = 2;

/// A session's recorder.
pub struct Recorder<'a> {
    session: &'a Session,
    watch: &'a Watch,
    /// `None` if it is not wanted or this machine does not let us.
    emulator: Option<Emulator>,
    /// Whether to record both ways.
    both: bool,
    /// Whether threads go on as soon as they can.
    lets_go: bool,
    /// How often a recording failed since the thread had gone on. From [`PATIENCE`] on it waits.
    failed: HashMap<Origin, u32>,
    /// What was mapped, and when.
    world: Option<(Instant, Rc<World>)>,
}

/// How often a recording may fail for want of memory that fits together before its thread waits for all of it: that takes
/// several times as long as copying what is usual.
const PATIENCE: u32 = 3;

/// How long what is mapped is taken to stay so. What comes and goes meanwhile is only code that
/// is not inlined.
const WORLD_KEPT: Duration = Duration::from_millis(50);
/// How old it may be when nobody waits for it to be read again.
const WORLD_FRESH: Duration = Duration::from_millis(20);

impl<'a> Recorder<'a> {
    /// For the threads of a session.
    pub fn new(session: &'a Session, watch: &'a Watch) -> Recorder<'a> {
        let params = lock(&session.engine).params().clone();
        let both = params.recorder == BOTH;
        let emulator = (params.recorder != STEP)
            .then(Emulator::new)
            .and_then(|made| match made {
                Ok(emulator) => Some(emulator),
                Err(error) => {
                    session.message(format!("recording by single steps, which is slow: {error}"));
                    None
                }
            });
        Recorder {
            session,
            watch,
            emulator,
            both,
            lets_go: params.letgo != 0 && params.verify == 0 && !both,
            failed: HashMap::new(),
            world: None,
        }
    }

    /// Does one piece of work. The thread's area is freed or still posted afterwards; the
    /// caller releases it in the second case.
    pub fn work(&mut self, work: &Work) {
        let session = self.session;
        let tid = session.park_u32(work.area, offset_of!(ParkArea, tid)) as i32;
        // A hostile target may name any thread; only its own are touched.
        if !process::has_thread(session.pid, tid) {
            return;
        }
        let began = Instant::now();
        let world = match self.world(&work.job) {
            Ok(Some(world)) => world,
            Ok(None) => {
                session.release(work.area);
                return read_symbols(session);
            }
            Err(error) => {
                tracing::debug!(%error, "no recording");
                return;
            }
        };
        let functions = lock(&session.engine).functions();
        let scene = Scene::new(session, &work.job, &world, &functions);
        let lets_go = self.lets_go && self.failed.get(&work.job.origin).is_none_or(|times| *times < PATIENCE);
        let emulated = match &mut self.emulator {
            Some(emulator) => match scene.emulate(emulator, work, tid, lets_go) {
                Tried::Gone => return,
                Tried::GoneNeedsReal { again } => {
                    let times = self.failed.entry(work.job.origin).or_default();
                    *times = if again { *times + 1 } else { PATIENCE };
                    return;
                }
                Tried::NeedsReal => None,
                Tried::Done(made, wait, pause) => Some((*made, wait, pause)),
            },
            None => None,
        };
        if let Some(((result, lessons), wait, pause)) = &emulated
            && !self.both
        {
            // The thread runs on while its code is compiled, if it does not yet.
            let (pause, took) = match *pause {
                Some(pause) => (pause, pause),
                None => {
                    session.release(work.area);
                    (wait.age(), began.elapsed())
                }
            };
            lock(&session.recorders).pauses.add(pause);
            return finish(session, &work.job, result, lessons, took);
        }
        let Some(((result, lessons), stepped)) = self.step(&scene, work, tid) else {
            return;
        };
        // A thread that waited in vain and asked again is at another moment. And a call that leads to inner activations of the
        // interpreter goes through traces there when it is stepped over, which may return past it.
        let nesting = scene.functions.nesting.contains_key(&work.job.root);
        if let Some(((emulated, _), wait, _)) = &emulated
            && *wait == stepped
            && !nesting
        {
            compare(session, emulated, &result);
        }
        finish(session, &work.job, &result, &lessons, began.elapsed());
    }

    /// Reads anew what is mapped, while no thread waits for that.
    pub fn refresh(&mut self, job: &Job) {
        if self
            .world
            .as_ref()
            .is_some_and(|(read, _)| read.elapsed() > WORLD_FRESH)
        {
            self.world = None;
            if let Err(error) = self.world(job) {
                tracing::debug!(%error, "what is mapped could not be read");
            }
        }
    }

    /// What is mapped, as of a moment ago.
    fn world(&mut self, job: &Job) -> Result<Option<Rc<World>>, redmagic_tracee::error::Error> {
        if let Some((read, world)) = &self.world
            && read.elapsed() < WORLD_KEPT
            && world.images.iter().any(|i| i.own && (i.start..i.end).contains(&job.ip))
        {
            return Ok(Some(Rc::clone(world)));
        }
        let world = World::read(self.session, job)?.map(Rc::new);
        self.world = world.clone().map(|world| (Instant::now(), world));
        Ok(world)
    }

    fn step(&self, scene: &Scene<'_>, work: &Work, tid: i32) -> Option<(Made, Wait)> {
        // A thread that nobody watches is not traced: it would hang with this process.
        let Some(watched) = self.watch.thread(tid) else {
            self.session.say_once_unwatched();
            return None;
        };
        match stop(self.session, work, tid) {
            Ok(Some((thread, wait))) => Some((scene.step(thread, &watched), wait)),
            Ok(None) => None,
            Err(error) => {
                tracing::debug!(%error, tid, "no recording");
                self.session.say_once_if_refused(&error);
                None
            }
        }
    }
}

/// A recording, or why there is none, and what was learnt.
type Made = (Result<Recording, Aborted>, Lessons);

/// What became of an emulation.
enum Tried {
    /// The thread does not wait any more.
    Gone,
    /// It must be stepped.
    NeedsReal,
    /// It must be stepped, and the thread has gone on; unless what was read of its memory does not fit together.
    GoneNeedsReal { again: bool },
    /// Done, for the thread that is in this wait, or that was, for so long, and has gone on.
    Done(Box<Made>, Wait, Option<Duration>),
}

fn out_of_time(reason: Abort) -> bool {
    matches!(reason, Abort::TooSlow | Abort::CallTimeout | Abort::NativeTimeout)
}

/// Notes whether both recorders agree.
fn compare(session: &Session, emulated: &Result<Recording, Aborted>, stepped: &Result<Recording, Aborted>) {
    let found = match (emulated, stepped) {
        // Signals and other threads make a difference that is nobody's fault.
        (_, Ok(stepped)) if stepped.meta.signals > 0 => return,
        (_, Err(stepped)) if stepped.signals > 0 => return,
        (Ok(a), Ok(b)) => redmagic_record::compare::difference(a, b),
        (Err(a), Err(b)) if (a.reason, a.ip, a.steps) == (b.reason, b.ip, b.steps) => None,
        // Nor do they have the same time, and only stepping meets what happens meanwhile.
        (Err(a), _) if out_of_time(a.reason) => return,
        (_, Err(b)) if out_of_time(b.reason) || matches!(b.reason.who(), Who::Nobody) => return,
        (a, b) => {
            let text = |r: &Result<Recording, Aborted>| match r {
                Ok(recording) => format!("{} steps", recording.steps.len()),
                Err(aborted) => aborted.to_string(),
            };
            Some(format!("{} and {}", text(a), text(b)))
        }
    };
    let mut counts = lock(&session.recorders);
    match found {
        None => counts.agreed += 1,
        Some(text) => {
            counts.differed += 1;
            drop(counts);
            session.message(format!("the recorders differ (emulating, stepping): {text}"));
        }
    }
}

/// What is mapped where, and what the functions that matter are called.
struct World {
    images: Vec<ImageRange>,
    returns_twice: Vec<u64>,
    signal_mask: Vec<u64>,
    library: Arc<HashMap<u64, LibraryFn>>,
    program: String,
}

/// What was looked up in the target's symbol tables, for one set of images.
#[derive(Debug, Default)]
pub struct Symbols {
    key: Vec<(u64, String)>,
    /// What was mapped.
    maps: Maps,
    returns_twice: Vec<u64>,
    signal_mask: Vec<u64>,
    /// Functions of the C library of which it is known what they do, by the words that they are called through.
    library: Arc<HashMap<u64, LibraryFn>>,
}

impl Symbols {
    /// Of a process as it is now.
    ///
    /// # Errors
    /// When it has gone.
    pub fn read(pid: i32) -> Result<Symbols, redmagic_tracee::error::Error> {
        Ok(Symbols::of(pid, Maps::read(pid)?))
    }

    fn of(pid: i32, maps: Maps) -> Symbols {
        let images = Image::all(pid, &maps);
        let all = |names: &[&str]| {
            let found = images
                .iter()
                .flat_map(|image| names.iter().filter_map(|name| image.symbol(name)));
            found.map(|symbol| symbol.range.start).collect()
        };
        let imports = images.iter().flat_map(Image::imports);
        let library = imports
            .filter_map(|(slot, name)| Some((slot, LibraryFn::named(name)?)))
            .collect();
        Symbols {
            key: key(&maps),
            returns_twice: all(RETURNS_TWICE),
            signal_mask: all(SIGNAL_MASK),
            library: Arc::new(library),
            maps,
        }
    }

    /// What was mapped when they were read.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// The code of files that was mapped then.
    pub fn text(&self) -> Vec<Range<u64>> {
        let code = self.maps.regions().iter().filter(|r| r.perms.exec && r.is_file());
        code.map(|region| region.start..region.end).collect()
    }
}

/// What a call that is kept as a call need not do when it is emulated.
const COUNTING: [ApiFn; 3] = [ApiFn::BackwardsBranch, ApiFn::FunctionEntry, ApiFn::FellthroughBranch];

/// Functions that show or set a thread's signal mask. SIGTRAP is taken out of it while the thread
/// is recorded, so one that blocks SIGTRAP must not come to them meanwhile. (A library's own
/// functions that do both, such as those that start processes, only ever put back what they found.)
const SIGNAL_MASK: &[&str] = &[
    "sigprocmask",
    "pthread_sigmask",
    "sigblock",
    "sigsetmask",
    "siggetmask",
    "sighold",
    "sigrelse",
    "sigset",
];

/// Reads the symbol tables of what is mapped now. Takes milliseconds, so it is never done
/// while a thread waits.
pub fn read_symbols(session: &Session) {
    let Ok(maps) = Maps::read(session.pid) else { return };
    let read_only = maps
        .regions()
        .iter()
        .filter(|r| r.perms.read && !r.perms.write && !r.perms.shared && r.is_file())
        .map(|r| r.start..r.end)
        .collect();
    // Of the same images they may have been read before.
    let known = std::mem::take(&mut *lock(&session.symbols));
    let symbols = if known.key == key(&maps) {
        Symbols { maps, ..known }
    } else {
        Symbols::of(session.pid, maps)
    };
    let page = session.shim.page;
    lock(&session.engine).set_mappings(Mappings {
        read_only,
        unwritten: std::iter::once(page..page + size_of::<ShimPage>() as u64).collect(),
    });
    *lock(&session.symbols) = symbols;
}

/// What tells one set of images from another.
fn key(maps: &Maps) -> Vec<(u64, String)> {
    // Files in memory are none: our own code is one.
    let image = |path: &str| !path.starts_with("/memfd:");
    let code = maps.regions().iter().filter(|r| r.perms.exec && r.is_file());
    let images = code.filter(|region| image(&region.path));
    images.map(|region| (region.start, region.path.clone())).collect()
}

impl World {
    /// `None` if images came or went since the symbols were read.
    fn read(session: &Session, job: &Job) -> Result<Option<World>, redmagic_tracee::error::Error> {
        let maps = Maps::read(session.pid)?;
        let own = maps.image_range(job.ip);
        let mut images = Vec::new();
        for region in maps.regions().iter().filter(|r| r.perms.exec && r.is_file()) {
            let range = maps.image_range(region.start).unwrap_or(region.start..region.end);
            images.push(ImageRange {
                start: region.start,
                end: region.end,
                path: region.path.clone(),
                own: own.as_ref() == Some(&range),
            });
        }
        let symbols = lock(&session.symbols);
        if symbols.key != key(&maps) {
            return Ok(None);
        }
        let program = std::fs::read_link(format!("/proc/{}/exe", session.pid))
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default();
        Ok(Some(World {
            images,
            returns_twice: symbols.returns_twice.clone(),
            signal_mask: symbols.signal_mask.clone(),
            library: Arc::clone(&symbols.library),
            program,
        }))
    }
}

/// Times that a thread is stopped that is not in its wait yet, and the time between.
const STOP_TRIES: u32 = 10;
const STOP_AGAIN: Duration = Duration::from_micros(50);
/// How long another thread of this process may take to let go of a thread: the one that attached.
const LET_GO: Duration = Duration::from_millis(20);

/// Stops the thread and moves it to where the recording starts; from which wait. `None` if it is not
/// waiting (any more).
fn stop(session: &Session, work: &Work, tid: i32) -> Result<Option<(Stopped, Wait)>, redmagic_tracee::error::Error> {
    let mut tries = 0;
    let began = Instant::now();
    let (mut thread, mut regs, wait_rsp) = loop {
        let thread = match thread::seize_and_stop(tid, Options::EXEC) {
            Ok(WaitOutcome::Stopped(thread)) => thread,
            Ok(WaitOutcome::Dead(_)) => return Ok(None),
            Err(_) if process::is_traced_here(tid) && began.elapsed() < LET_GO => {
                std::thread::sleep(STOP_AGAIN);
                continue;
            }
            Err(error) => return Err(error),
        };
        let regs = thread.regs()?;
        let wait_rsp = session.park_u64(work.area, offset_of!(ParkArea, wait_rsp));
        if regs.rip == session.shim.park_wait && regs.rsp == wait_rsp {
            break (thread, regs, wait_rsp);
        }
        // It has posted and is on its way into the wait, or a signal handler runs on top of it.
        tries += 1;
        if tries == STOP_TRIES || session.park_state(work.area).load(Ordering::Acquire) != PARK_POSTED {
            return Ok(None);
        }
        drop(thread);
        std::thread::sleep(STOP_AGAIN);
    };
    // The area is anybody's to write, and may have been given up and posted again since the job
    // was made. What the thread resumes from is on its own stack: that must be what the job was made
    // from, and it is what the thread is moved by.
    let frame = ParkFrame::read(session, wait_rsp)?;
    if !frame.is_for(&work.job, session.sessions_before) || !session.take(work.area) {
        return Ok(None);
    }
    frame.restore(&mut regs);
    let moved = thread.set_regs(&regs);
    session.free(work.area);
    moved?;
    Ok(Some((thread, frame.wait())))
}

/// What a recording is made with.
struct Scene<'a> {
    session: &'a Session,
    job: &'a Job,
    world: &'a World,
    functions: &'a Functions,
    params: Params,
}

impl<'a> Scene<'a> {
    fn new(session: &'a Session, job: &'a Job, world: &'a World, functions: &'a Functions) -> Self {
        let params = lock(&session.engine).params().clone();
        Scene {
            session,
            job,
            world,
            functions,
            params,
        }
    }

    fn api(&self, address: u64) -> Option<Api> {
        let index = self.session.shim.api.iter().position(|a| *a == address)?;
        Some(Api(index as u8))
    }

    /// Calls `record` with what both recorders need.
    fn with<R>(&self, record: impl FnOnce(&Ctx<'_>, Policy<'_, Mutex<Engine>>) -> R) -> R {
        let (session, job, world) = (self.session, self.job, self.world);
        let anchor = match job.origin {
            Origin::Side { exit, .. } if !job.reenters => Anchor::Exit { exit, target: job.ip },
            _ => Anchor::Root {
                kind: AnchorKind(job.api as u8),
                id: job.root.id,
                return_address: job.root.return_address,
            },
        };
        let ctx = Ctx {
            program: world.program.clone(),
            images: world.images.clone(),
            anchor,
            api: &|address| self.api(address),
            library: &|slot| world.library.get(&slot).copied(),
            counting: &COUNTING.map(|api| session.shim.api[api as usize]),
        };
        let returns_twice = |address: u64| world.returns_twice.contains(&address);
        let policy = Policy::new(
            &self.params,
            &session.engine,
            self.functions,
            job.anchor(),
            job.api,
            job.root,
            Places {
                returns_twice: &returns_twice,
                disable_enable: (
                    session.shim.api[ApiFn::TempDisable as usize],
                    session.shim.api[ApiFn::TempEnable as usize],
                ),
                code: session.layout.code..session.layout.code + session.layout.code_bytes,
            },
        );
        let policy = match &job.joining {
            Some(joining) => policy.joining(joining, &job.declared),
            None => policy,
        };
        record(&ctx, policy)
    }

    /// Records what the thread would do. It stays parked, or is let go when its memory was copied.
    fn emulate(&self, emulator: &mut Emulator, work: &Work, tid: i32, lets_go: bool) -> Tried {
        let (start, wait) = match parked::start(self.session, work.area, tid, self.job) {
            Ok(Some(start)) => start,
            Ok(None) => return Tried::Gone,
            Err(error) => {
                tracing::debug!(%error, tid, "no recording");
                return Tried::Gone;
            }
        };
        let limits = emulate::Limits {
            max_steps: self.params.maxrecord as usize,
            max_time: Duration::from_millis(self.params.emulatetime),
            max_time_alone: Duration::from_millis(self.params.alonetime),
        };
        self.with(|ctx, mut policy| {
            let mut pause = None;
            let mut let_go = || {
                if wait.goes_on(self.session, work.area) {
                    self.session.release(work.area);
                    pause = Some(wait.age());
                }
            };
            let let_go: Option<&mut dyn FnMut()> = if lets_go { Some(&mut let_go) } else { None };
            let (emulated, stats) = emulator.record(&start, ctx, &mut policy, &limits, let_go);
            if pause.is_none() && !wait.goes_on(self.session, work.area) {
                // It waited in vain and has run on, and the state that it was to begin with was of nobody knows when.
                return Tried::Gone;
            }
            let mut counts = lock(&self.session.recorders);
            match emulated {
                Emulated::NeedsReal { reason, ip } => {
                    tracing::debug!(pid = self.session.pid, reason, "{ip:#x} must be executed for real");
                    *counts.needs_real.entry(reason).or_default() += 1;
                    if pause.is_some() {
                        let again = reason == emulate::UNREADABLE;
                        Tried::GoneNeedsReal { again }
                    } else {
                        Tried::NeedsReal
                    }
                }
                // Where it went on does not exist: it was led there by what it read late.
                Emulated::Done(result)
                    if pause.is_some() && matches!(&*result, Err(aborted) if aborted.reason == Abort::Unreadable) =>
                {
                    Tried::GoneNeedsReal { again: true }
                }
                Emulated::Done(result) => {
                    counts.emulated.add(&result, stats.instructions, stats.time);
                    self.say("emulated", &result, stats.time);
                    Tried::Done(Box::new((*result, policy.lessons)), wait, pause)
                }
            }
        })
    }

    /// Records the stopped thread, and lets it go.
    fn step(&self, thread: Stopped, watched: &Watched<'_>) -> Made {
        let limits = Limits {
            max_steps: self.params.maxrecord as usize,
            max_time: Duration::from_millis(self.params.recordtime),
            residual_time: Duration::from_millis(self.params.residualtime),
            ..Limits::default()
        };
        let blocked = Status::read(thread.tid()).is_ok_and(|s| s.blocked >> (libc::SIGTRAP - 1) & 1 == 1);
        self.with(|ctx, policy| {
            let mut guide = Beating {
                policy,
                watched,
                refused: if blocked { &self.world.signal_mask } else { &[] },
            };
            let outcome = stepping::record(thread, ctx, &mut guide, &limits);
            self.say("stepped", &outcome.result, outcome.stats.time);
            lock(&self.session.recorders)
                .stepped
                .add(&outcome.result, outcome.stats.single_steps, outcome.stats.time);
            if let Some(mut thread) = outcome.thread {
                thread.release();
            }
            (outcome.result, guide.policy.lessons)
        })
    }

    fn say(&self, how: &str, result: &Result<Recording, Aborted>, time: Duration) {
        tracing::debug!(
            pid = self.session.pid,
            origin = ?self.job.origin,
            steps = result.as_ref().map_or_else(|a| a.steps, |r| r.steps.len()),
            result = result.as_ref().map_or_else(|a| a.to_string(), |_| "recorded".into()),
            ?time,
            "{how}"
        );
    }
}

fn finish(session: &Session, job: &Job, recording: &Result<Recording, Aborted>, lessons: &Lessons, took: Duration) {
    let result = recording.as_ref().map_err(|aborted| (aborted.reason, aborted.steps));
    // The engine answers other threads while this one compiles.
    let begun = lock(&session.engine).begin(job, result, lessons, took);
    let finished = match (begun, recording) {
        (Begun::Finished(finished), _) => finished,
        (Begun::Draft(draft), Ok(recording)) => {
            let mut compilation = draft.compile(job, recording);
            if stays(session, job, &draft, &compilation) {
                compilation = draft.compile_unrolled(job, recording);
            }
            lock(&session.engine).publish(job, recording, *draft, compilation)
        }
        (Begun::Draft(_), Err(_)) => unreachable!("a draft is made of a recording"),
    };
    match finished {
        Finished::Installed(trace) => {
            let (code, bytes, operations) = lock(&session.engine).code_of(trace);
            tracing::info!(
                pid = session.pid,
                trace,
                origin = ?job.origin,
                code = format_args!("{code:#x}"),
                bytes,
                ?operations,
                "installed"
            );
            if let (Some(folder), Ok(recording)) = (&session.save_recordings, recording) {
                let file = folder.join(format!("{}-{trace}.rmrec", session.pid));
                let mut recording = recording.clone();
                recording.meta.constant = lock(&session.engine).constant_blocks(&recording);
                if let Err(error) = redmagic_record::codec::save(&recording, &file) {
                    session.message(format!("{} could not be written: {error}", file.display()));
                }
            }
        }
        Finished::Failed(reason) => tracing::info!(pid = session.pid, %reason, origin = ?job.origin, "not compiled"),
    }
}

/// Whether the program stays in the loop that was compiled; waits a little until it has run for long enough to tell.
fn stays(session: &Session, job: &Job, draft: &Draft, compilation: &Compilation) -> bool {
    const TRIES: u32 = 4;
    const WAIT: Duration = Duration::from_micros(250);
    for _ in 0..TRIES {
        match lock(&session.engine).stays_in(job, draft, compilation) {
            Stays::Yes => return true,
            Stays::No => return false,
            Stays::Unknown => std::thread::sleep(WAIT),
        }
    }
    false
}

/// The policy, with a sign of life at each instruction.
struct Beating<'a> {
    policy: Policy<'a, Mutex<Engine>>,
    watched: &'a Watched<'a>,
    /// Functions that must not be called while recording.
    refused: &'a [u64],
}

impl Guide for Beating<'_> {
    fn on_inst(&mut self, ip: u64, instruction: &Instruction, depth: i32) -> Flow {
        self.watched.beat();
        self.policy.on_inst(ip, instruction, depth)
    }

    fn on_jump(&mut self, ip: u64, regs: &[u64; 16]) -> Flow {
        self.policy.on_jump(ip, regs)
    }

    fn on_return(&mut self, target: u64) -> Flow {
        self.policy.on_return(target)
    }

    fn on_call(&mut self, site: &CallSite) -> CallAction {
        if self.refused.contains(&site.resolved) {
            return CallAction::Abort(Abort::MaskSeen);
        }
        self.policy.on_call(site)
    }

    fn is_call_target(&mut self, address: u64) -> bool {
        self.policy.is_call_target(address)
    }

    fn on_shim_call(&mut self, site: &ShimCallSite) -> ShimAction {
        self.policy.on_shim_call(site)
    }

    fn on_syscall(&mut self, number: u64) -> Flow {
        self.policy.on_syscall(number)
    }
}
