//! What a parked thread left: its state, as seen without touching it.

use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redmagic_engine::Job;
use redmagic_engine::graph::Origin;
use redmagic_proto::control::{
    PARK_POSTED, ParkArea, ParkedRegisters, REQUEST_ANCHOR, REQUEST_EXIT, XSAVE_BYTES, exit_id,
};
use redmagic_record::emulate::Start;
use redmagic_tracee::error::Error;
use redmagic_tracee::regs::{Gprs, XState};

use crate::session::Session;

/// Trap and resume flag, which are a tracer's.
const TRACER_FLAGS: u64 = 1 << 8 | 1 << 16;

/// What a parked thread keeps on its stack: see the essay of the shim's `park` module.
pub struct ParkFrame {
    registers: ParkedRegisters,
    /// `REQUEST_*`.
    kind: u32,
    /// The id, or the exit's number.
    named: u64,
    /// Where it resumes.
    resume: u64,
    /// When it began to wait: tells one wait from the next at the same place.
    began: [u64; 2],
}

impl ParkFrame {
    /// Bytes that the waiting thread has pushed below the frame: the deadline, and when it began.
    const BELOW: u64 = 32;

    /// Reads the frame of the thread that waits with this stack pointer.
    ///
    /// # Errors
    /// When its stack cannot be read.
    pub fn read(session: &Session, wait_rsp: u64) -> Result<ParkFrame, Error> {
        let bytes = session.memory.read_vec(wait_rsp, Self::BELOW as usize + 20 * 8)?;
        let raw = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let word = |i: usize| raw(Self::BELOW as usize + i * 8);
        Ok(ParkFrame {
            registers: ParkedRegisters {
                rflags: word(0),
                gpr: std::array::from_fn(|i| word(1 + i)),
                rip: word(19),
            },
            kind: word(17) as u32,
            named: word(18),
            resume: word(19),
            began: [raw(16), raw(24)],
        })
    }

    /// Whether this is the frame that the job was made from.
    pub fn is_for(&self, job: &Job, sessions_before: u32) -> bool {
        let (kind, named) = match job.origin {
            Origin::Root(key) => (REQUEST_ANCHOR, key.id),
            Origin::Side { exit, .. } => (REQUEST_EXIT, exit_id(sessions_before, exit).into()),
        };
        (self.kind, self.named, self.resume) == (kind, named, job.ip)
    }

    /// Which wait this is.
    pub fn wait(&self) -> Wait {
        Wait(self.began)
    }

    /// Puts into `regs` what the thread resumes with.
    pub fn restore(&self, regs: &mut Gprs) {
        for (i, value) in self.registers.gpr.iter().enumerate() {
            regs[i] = *value;
        }
        regs.rip = self.resume;
        regs.rflags = self.registers.rflags;
        // Not a system call to restart.
        regs.orig_rax = u64::MAX;
    }
}

/// One wait of one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait([u64; 2]);

impl Wait {
    /// Whether the thread in `area` is still in this wait.
    pub fn goes_on(self, session: &Session, area: usize) -> bool {
        session.park_state(area).load(Ordering::Acquire) == PARK_POSTED
            && ParkFrame::read(session, session.park_u64(area, offset_of!(ParkArea, wait_rsp)))
                .is_ok_and(|frame| frame.wait() == self)
    }

    /// How long ago it began. The shim writes seconds and nanoseconds of CLOCK_MONOTONIC, and they are the
    /// target's word: nonsense gives nonsense, and nothing worse.
    pub fn age(self) -> Duration {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        let began = Duration::from_secs(self.0[0]).saturating_add(Duration::from_nanos(self.0[1]));
        now.saturating_sub(began)
    }
}

/// The whole state of the thread in `area`, if it waits for this job.
///
/// # Errors
/// When its stack cannot be read.
pub fn start(session: &Session, area: usize, tid: i32, job: &Job) -> Result<Option<(Start, Wait)>, Error> {
    let frame = ParkFrame::read(session, session.park_u64(area, offset_of!(ParkArea, wait_rsp)))?;
    if !frame.is_for(job, session.sessions_before) {
        return Ok(None);
    }
    let mut regs = Gprs {
        fs_base: session.park_u64(area, offset_of!(ParkArea, fs_base)),
        ..Gprs::default()
    };
    frame.restore(&mut regs);
    regs.rflags &= !TRACER_FLAGS;
    let xsave = offset_of!(ParkArea, xsave);
    let words = (0..XSAVE_BYTES / 8).flat_map(|i| session.park_u64(area, xsave + i * 8).to_le_bytes());
    let start = Start {
        pid: session.pid,
        tid,
        regs,
        vectors: XState(words.collect()),
    };
    Ok(Some((start, frame.wait())))
}
