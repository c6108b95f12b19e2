//! One recording, from a parked thread to an installed trace.
//!
//! The thread waits in the shim's futex. It is seized and stopped; if it is still in that
//! wait (it may have timed out, or a signal handler may run on top of it), its area is
//! taken and the thread is moved to where it would have resumed, with the registers it
//! left in the area. Then it is recorded. Whatever comes of that, the thread is then
//! somewhere in its own program with its own state, and is let go.

use std::mem::offset_of;
use std::time::{Duration, Instant};

use iced_x86::Instruction;
use redmagic_engine::graph::Origin;
use redmagic_engine::policy::RETURNS_TWICE;
use redmagic_engine::policy::{Functions, Lessons, Policy};
use redmagic_engine::{Finished, Job};
use redmagic_proto::api::ApiFn;
use redmagic_proto::control::{ParkArea, ParkedRegisters, REQUEST_ANCHOR, REQUEST_EXIT};
use redmagic_record::abort::{Abort, Aborted};
use redmagic_record::guide::{CallAction, CallSite, Flow, Guide, ShimAction, ShimCallSite};
use redmagic_record::recording::{Anchor, AnchorKind, Api, ImageRange, Recording};
use redmagic_record::stepping::{self, Ctx, Limits};
use redmagic_tracee::image::Image;
use redmagic_tracee::maps::Maps;
use redmagic_tracee::process::Status;
use redmagic_tracee::thread::{self, Options, Stopped, WaitOutcome};

use crate::session::{Session, Work, lock};
use crate::watch::{Watch, Watched};

/// Does one piece of work. The thread's area is freed or still posted afterwards; the
/// caller releases it in the second case.
pub fn work(session: &Session, work: &Work, watch: &Watch) {
    let tid = session.park_u32(work.area, offset_of!(ParkArea, tid)) as i32;
    // A hostile target may name any thread; only its own are touched.
    if Status::read(tid).map(|s| s.tgid).ok() != Some(session.pid) {
        return;
    }
    // A thread that nobody watches is not traced: it would hang with this process.
    let Some(watched) = watch.thread(tid) else {
        return session.say_once_unwatched();
    };
    let began = Instant::now();
    let functions = lock(&session.engine).functions();
    let world = match World::read(session, &work.job) {
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
    let thread = match stop(session, work, tid) {
        Ok(Some(thread)) => thread,
        Ok(None) => return,
        Err(error) => {
            tracing::debug!(%error, tid, "no recording");
            session.say_once_if_refused(&error);
            return;
        }
    };
    let (recording, lessons) = record(session, &work.job, thread, &world, &functions, &watched);
    // The thread has been let go: what follows costs the target nothing.
    drop(watched);
    finish(session, &work.job, recording, &lessons, began.elapsed());
}

/// What is mapped where, and what the functions that matter are called.
struct World {
    images: Vec<ImageRange>,
    returns_twice: Vec<u64>,
    signal_mask: Vec<u64>,
    program: String,
}

/// What was looked up in the target's symbol tables, for one set of images.
#[derive(Debug, Default)]
pub struct Symbols {
    key: Vec<(u64, String)>,
    returns_twice: Vec<u64>,
    signal_mask: Vec<u64>,
}

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
    let images = Image::all(session.pid, &maps);
    let all = |names: &[&str]| {
        let found = images
            .iter()
            .flat_map(|image| names.iter().filter_map(|name| image.symbol(name)));
        found.map(|symbol| symbol.range.start).collect()
    };
    let symbols = Symbols {
        key: key(&maps),
        returns_twice: all(RETURNS_TWICE),
        signal_mask: all(SIGNAL_MASK),
    };
    let read_only = maps
        .regions()
        .iter()
        .filter(|r| r.perms.read && !r.perms.write && !r.perms.shared && r.is_file())
        .map(|r| r.start..r.end)
        .collect();
    lock(&session.engine).set_read_only(read_only);
    *lock(&session.symbols) = symbols;
}

/// What tells one set of images from another.
fn key(maps: &Maps) -> Vec<(u64, String)> {
    let code = maps.regions().iter().filter(|r| r.perms.exec && r.is_file());
    code.map(|region| (region.start, region.path.clone())).collect()
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
            program,
        }))
    }
}

/// Stops the thread and moves it to where the recording starts. `None` if it is not
/// waiting (any more).
fn stop(session: &Session, work: &Work, tid: i32) -> Result<Option<Stopped>, redmagic_tracee::error::Error> {
    let WaitOutcome::Stopped(mut thread) = thread::seize_and_stop(tid, Options::EXEC)? else {
        return Ok(None);
    };
    let mut regs = thread.regs()?;
    let wait_rsp = session.park_u64(work.area, offset_of!(ParkArea, wait_rsp));
    if regs.rip != session.shim.park_wait || regs.rsp != wait_rsp {
        return Ok(None);
    }
    // The area is anybody's to write, and may have been given up and posted again since the job
    // was made. What the thread resumes from is on its own stack: that must be what the job was made
    // from, and it is what the thread is moved by.
    let frame = ParkFrame::read(session, wait_rsp)?;
    let (kind, named) = match work.job.origin {
        Origin::Root(key) => (REQUEST_ANCHOR, key.id),
        Origin::Side { exit, .. } => (REQUEST_EXIT, u64::from(exit)),
    };
    if (frame.kind, frame.named, frame.resume) != (kind, named, work.job.ip) || !session.take(work.area) {
        return Ok(None);
    }
    let parked = frame.registers;
    for (i, value) in parked.gpr.iter().enumerate() {
        regs[i] = *value;
    }
    regs.rip = work.job.ip;
    regs.rflags = parked.rflags;
    // Not a system call to restart.
    regs.orig_rax = u64::MAX;
    let moved = thread.set_regs(&regs);
    session.free(work.area);
    moved?;
    Ok(Some(thread))
}

/// What a parked thread keeps on its stack: see the essay of the shim's `park` module.
struct ParkFrame {
    registers: ParkedRegisters,
    /// `REQUEST_*`.
    kind: u32,
    /// The id, or the exit's number.
    named: u64,
    /// Where it resumes.
    resume: u64,
}

impl ParkFrame {
    /// Bytes that the waiting thread has pushed below the frame: three time stamps.
    const BELOW: u64 = 32;

    fn read(session: &Session, wait_rsp: u64) -> Result<ParkFrame, redmagic_tracee::error::Error> {
        let bytes = session.memory.read_vec(wait_rsp.wrapping_add(Self::BELOW), 20 * 8)?;
        let word = |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
        Ok(ParkFrame {
            registers: ParkedRegisters {
                rflags: word(0),
                gpr: std::array::from_fn(|i| word(1 + i)),
                rip: word(19),
            },
            kind: word(17) as u32,
            named: word(18),
            resume: word(19),
        })
    }
}

fn record(
    session: &Session,
    job: &Job,
    thread: Stopped,
    world: &World,
    functions: &Functions,
    watched: &Watched<'_>,
) -> (Result<Recording, Aborted>, Lessons) {
    let api = |address: u64| {
        session
            .shim
            .api
            .iter()
            .position(|a| *a == address)
            .map(|i| Api(i as u8))
    };
    let anchor = match job.origin {
        Origin::Root(key) => Anchor::Root {
            kind: AnchorKind(job.api as u8),
            id: key.id,
            return_address: key.return_address,
        },
        Origin::Side { exit, .. } => Anchor::Exit { exit, target: job.ip },
    };
    let ctx = Ctx {
        program: world.program.clone(),
        images: world.images.clone(),
        anchor,
        api: &api,
    };
    let params = lock(&session.engine).params().clone();
    let limits = Limits {
        max_steps: params.maxrecord as usize,
        max_time: Duration::from_millis(params.recordtime),
        residual_time: Duration::from_millis(params.residualtime),
        ..Limits::default()
    };
    let returns_twice = |address: u64| world.returns_twice.contains(&address);
    let policy = Policy::new(
        &params,
        &session.engine,
        functions,
        job.origin,
        job.api,
        job.root,
        (
            session.shim.api[ApiFn::TempDisable as usize],
            session.shim.api[ApiFn::TempEnable as usize],
        ),
        &returns_twice,
    );
    let blocked = Status::read(thread.tid()).is_ok_and(|s| s.blocked >> (libc::SIGTRAP - 1) & 1 == 1);
    let mut guide = Beating {
        policy,
        watched,
        refused: if blocked { &world.signal_mask } else { &[] },
    };
    let outcome = stepping::record(thread, &ctx, &mut guide, &limits);
    tracing::debug!(
        pid = session.pid,
        origin = ?job.origin,
        steps = outcome.result.as_ref().map_or_else(|a| a.steps, |r| r.steps.len()),
        result = outcome.result.as_ref().map_or_else(|a| a.to_string(), |_| "recorded".into()),
        time = ?outcome.stats.time,
        "recording"
    );
    let lessons = guide.policy.lessons;
    if let Some(mut thread) = outcome.thread {
        thread.release();
    }
    (outcome.result, lessons)
}

fn finish(session: &Session, job: &Job, recording: Result<Recording, Aborted>, lessons: &Lessons, took: Duration) {
    let result = recording.as_ref().map_err(|aborted| (aborted.reason, aborted.steps));
    let finished = lock(&session.engine).finish(job, result, lessons, took);
    match finished {
        Finished::Installed(trace) => {
            tracing::info!(pid = session.pid, trace, origin = ?job.origin, "installed");
            if let (Some(folder), Ok(recording)) = (&session.save_recordings, &recording) {
                let file = folder.join(format!("{}-{trace}.rmrec", session.pid));
                if let Err(error) = redmagic_record::codec::save(recording, &file) {
                    session.message(format!("{} could not be written: {error}", file.display()));
                }
            }
        }
        Finished::Failed(reason) => tracing::info!(pid = session.pid, %reason, origin = ?job.origin, "not compiled"),
    }
}

/// The policy, with a sign of life at each instruction.
struct Beating<'a> {
    policy: Policy<'a, std::sync::Mutex<redmagic_engine::Engine>>,
    watched: &'a Watched<'a>,
    /// Functions that must not be called while recording.
    refused: &'a [u64],
}

impl Guide for Beating<'_> {
    fn on_inst(&mut self, ip: u64, instruction: &Instruction, depth: i32) -> Flow {
        self.watched.beat();
        self.policy.on_inst(ip, instruction, depth)
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
