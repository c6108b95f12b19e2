//! An engine over regions of its own, and recordings written by hand.
#![allow(dead_code, missing_docs)]

use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redmagic_engine::cache::CodeCache;
use redmagic_engine::graph::AnchorKey;
use redmagic_engine::memory::SharedMemory;
use redmagic_engine::policy::Lessons;
use redmagic_engine::registry::Declarations;
use redmagic_engine::{Decision, Engine, Finished, Job, Params, Request, Setup};
use redmagic_proto::ApiFn;
use redmagic_proto::control::{CONTROL_BYTES, Control, LOOP_WEIGHT};
use redmagic_proto::entries::{ENTRIES_BYTES, Entry, PROBES, hash};
use redmagic_record::abort::Abort;
use redmagic_record::recording::{
    AccessKind, Anchor, AnchorKind, Api, Bytes, End, Inst, InstBytes, MemAccess, Meta, Recording, RegisterFile,
    ShimCall, ShimExecution, Step,
};

/// Where the pretended target has its code region.
pub const CODE: u64 = 0x4010_0000;
/// And its interpreter.
pub const TEXT: u64 = 0x4000_0000;

pub struct World {
    pub engine: Engine,
    pub control: SharedMemory,
    pub entries: SharedMemory,
    pub code: SharedMemory,
}

pub fn region(bytes: usize) -> (SharedMemory, SharedMemory) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(bytes as u64).unwrap();
    (
        SharedMemory::map(&file, bytes).unwrap(),
        SharedMemory::map(&file, bytes).unwrap(),
    )
}

impl World {
    pub fn new(params: Params) -> World {
        let (control, control_view) = region(CONTROL_BYTES);
        let (code, code_view) = region(params.codesize as usize * 1024);
        let (entries, entries_view) = region(ENTRIES_BYTES);
        let engine = Engine::new(Setup {
            cache: CodeCache::new(code, entries, CODE),
            control,
            control_address: 0x4200_0000,
            sessions_before: 0,
            park_exit: TEXT + 0x9000,
            tls_offset: -0x50,
            params,
        });
        World {
            engine,
            control: control_view,
            entries: entries_view,
            code: code_view,
        }
    }

    /// Takes in declarations, of memory that nobody looks into.
    pub fn redeclare(&mut self, declared: Declarations) {
        self.engine
            .redeclare(declared, &|_| panic!("nothing was declared anew"));
    }

    /// The code that the shim would enter for a key.
    pub fn entry(&self, key: AnchorKey) -> Option<u64> {
        self.find(key).filter(|code| *code != 0)
    }

    /// Whether the shim finds an entry for a key, with code or without.
    pub fn known(&self, key: AnchorKey) -> bool {
        self.find(key).is_some()
    }

    fn find(&self, key: AnchorKey) -> Option<u64> {
        (hash(key.id)..hash(key.id) + PROBES).find_map(|slot| {
            let word = |field| {
                self.entries
                    .u64(slot * size_of::<Entry>() + field)
                    .load(Ordering::Relaxed)
            };
            (word(offset_of!(Entry, return_address)) == key.return_address && word(offset_of!(Entry, id)) == key.id)
                .then(|| word(offset_of!(Entry, code)))
        })
    }

    pub fn hotness(&self, id: u64) -> i32 {
        self.control
            .i32(offset_of!(Control, hotness) + hash(id) * 4)
            .load(Ordering::Relaxed)
    }

    /// An anchor without a trace is passed.
    pub fn pass(&self, id: u64, times: i32) {
        self.control
            .i32(offset_of!(Control, hotness) + hash(id) * 4)
            .fetch_sub(times * LOOP_WEIGHT, Ordering::Relaxed);
    }

    pub fn exit_counter(&self, number: u32) -> i32 {
        self.control
            .i32(offset_of!(Control, exits) + number as usize * 4)
            .load(Ordering::Relaxed)
    }

    pub fn set_exit_counter(&self, number: u32, value: i32) {
        self.control
            .i32(offset_of!(Control, exits) + number as usize * 4)
            .store(value, Ordering::Relaxed);
    }

    pub fn set_hotness(&self, id: u64, value: i32) {
        self.control
            .i32(offset_of!(Control, hotness) + hash(id) * 4)
            .store(value, Ordering::Relaxed);
    }

    /// A word of the code region.
    pub fn word(&self, address: u64) -> u64 {
        self.code.u64((address - CODE) as usize).load(Ordering::Relaxed)
    }

    pub fn ask(&mut self, request: Request) -> Decision {
        self.engine.decide(request, false).unwrap()
    }

    /// Has a loop recorded and installed.
    pub fn install_loop(&mut self, key: AnchorKey) -> u32 {
        let job = record(self, anchor(key));
        self.install(&job, &loop_recording(key))
    }

    pub fn install(&mut self, job: &Job, recording: &Recording) -> u32 {
        match self
            .engine
            .finish(job, Ok(recording), &Lessons::default(), Duration::ZERO)
        {
            Finished::Installed(trace) => trace,
            Finished::Failed(reason) => panic!("{reason}"),
        }
    }

    pub fn fail(&mut self, job: &Job, reason: Abort) {
        assert_eq!(
            self.engine
                .finish(job, Err((reason, 10)), &Lessons::default(), Duration::ZERO),
            Finished::Failed(reason)
        );
    }
}

pub const KEY_1: AnchorKey = key(1);

pub const fn key(n: u64) -> AnchorKey {
    AnchorKey {
        id: 0x7000 + n * 8,
        return_address: TEXT + 0x105,
    }
}

pub fn inst(ip: u64, bytes: &[u8], next_ip: u64) -> Step {
    Step::Inst(Inst {
        ip,
        bytes: InstBytes::new(bytes).unwrap(),
        next_ip,
        mem: Default::default(),
    })
}

pub fn recording(steps: Vec<Step>, end: End) -> Recording {
    Recording {
        meta: Meta::default(),
        images: Vec::new(),
        anchor: Anchor::Root {
            kind: AnchorKind(1),
            id: 0,
            return_address: 0,
        },
        start: RegisterFile::default(),
        steps,
        end,
    }
}

pub fn end_at(key: AnchorKey) -> End {
    End::Anchor {
        api: Api(ApiFn::BackwardsBranch as u8),
        id: key.id,
        return_address: key.return_address,
        ip: key.return_address - 5,
        rsp: 0,
    }
}

/// inc rax; jne back to the anchor's call, taken.
pub fn loop_steps() -> Vec<Step> {
    vec![
        inst(TEXT + 0x105, &[0x48, 0xff, 0xc0], TEXT + 0x108),
        inst(TEXT + 0x108, &[0x75, 0xf6], TEXT + 0x100),
    ]
}

pub fn loop_recording(key: AnchorKey) -> Recording {
    recording(loop_steps(), end_at(key))
}

/// The same loop, after a load of `value` from `block`, whose address rdx has.
pub fn loading_loop(key: AnchorKey, block: u64, value: u64) -> Recording {
    // mov rcx, [rdx]; inc rax; jne back.
    let mut steps = vec![
        inst(TEXT + 0x105, &[0x48, 0x8b, 0x0a], TEXT + 0x108),
        inst(TEXT + 0x108, &[0x48, 0xff, 0xc0], TEXT + 0x10b),
        inst(TEXT + 0x10b, &[0x75, 0xf3], TEXT + 0x100),
    ];
    reads(&mut steps[0], block, value);
    let mut recording = recording(steps, end_at(key));
    recording.start.gpr[2] = block;
    recording
}

/// Has an instruction read a word.
pub fn reads(step: &mut Step, addr: u64, value: u64) {
    let Step::Inst(load) = step else { unreachable!() };
    load.mem.push(MemAccess {
        addr,
        size: 8,
        kind: AccessKind::Read,
        value: Bytes(value.to_le_bytes()[..].into()),
    });
}

pub fn shim(api: ApiFn, ip: u64, args: [u64; 2], result: u64) -> Step {
    Step::from(ShimCall {
        call: Inst {
            ip,
            bytes: InstBytes::new(&[0xe8, 0, 0, 0, 0]).unwrap(),
            next_ip: ip + 5,
            mem: Default::default(),
        },
        api: Api(api as u8),
        args,
        return_address: ip + 5,
        rsp: 0,
        result,
        action: ShimExecution::Skipped,
    })
}

/// A loop asks.
pub fn anchor(key: AnchorKey) -> Request {
    Request::Anchor {
        api: ApiFn::BackwardsBranch,
        key,
    }
}

/// Asks, and is recorded.
pub fn record(world: &mut World, request: Request) -> Job {
    match world.ask(request) {
        Decision::Record(job) => job,
        Decision::Run => panic!("{request:?} is not recorded"),
    }
}
