//! Targets for the recorder: a child that catches SIGTRAP and waits to be sent into a function.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use iced_x86::Instruction;
use redmagic_record::abort::Abort;
use redmagic_record::compare;
use redmagic_record::emulate::{self, Emulated};
use redmagic_record::guide::{CallAction, CallSite, Flow, Guide, ShimAction, ShimCallSite};
use redmagic_record::recording::{Anchor, AnchorKind, Api, ImageRange, Inst, LibraryFn, Recording, Step};
use redmagic_record::stepping::{Ctx, Limits, Outcome, record};
use redmagic_tracee::image::Image;
use redmagic_tracee::maps::Maps;
use redmagic_tracee::memory::Memory;
use redmagic_tracee::testing::{Child, fork};
use redmagic_tracee::thread::{self, Options, Stopped, WaitOutcome};

extern "C" fn ignore_trap(_: i32) {}

/// Where functions return to: stays here without system calls.
#[unsafe(naked)]
pub extern "C" fn landing() -> ! {
    std::arch::naked_asm!("2: pause", "jmp 2b")
}

pub fn address<T>(function: *const T) -> u64 {
    function as u64
}

/// A child that has run `setup` and spins, with a handler for SIGTRAP.
pub fn spinning_child(words: &'static [AtomicU64; 64], setup: impl FnOnce()) -> Child {
    let child = fork(|| {
        // SAFETY: an empty handler.
        unsafe { libc::signal(libc::SIGTRAP, ignore_trap as extern "C" fn(i32) as usize) };
        setup();
        words[63].store(1, SeqCst);
        loop {
            std::hint::spin_loop();
        }
    });
    while words[63].load(SeqCst) == 0 {
        std::hint::spin_loop();
    }
    child
}

pub fn stop(tid: i32) -> Stopped {
    match thread::seize_and_stop(tid, Options::EXEC).expect("seize") {
        WaitOutcome::Stopped(thread) => thread,
        WaitOutcome::Dead(death) => panic!("{death}"),
    }
}

/// Puts the thread at the entry of a function that will return to [`landing`].
pub fn send_into(thread: &mut Stopped, function: u64, arguments: [u64; 3]) {
    let mut regs = thread.regs().unwrap();
    regs.rsp = ((regs.rsp - 4096) & !15) - 8;
    Memory::new(thread.tid())
        .write_u64(regs.rsp, landing as *const () as u64)
        .unwrap();
    regs.rip = function;
    regs.rflags &= !0x8d5;
    [regs.rdi, regs.rsi, regs.rdx] = arguments;
    regs.rax = 0;
    regs.orig_rax = u64::MAX;
    thread.set_regs(&regs).unwrap();
}

/// A policy by tables; ends at [`landing`].
#[derive(Default)]
pub struct Table {
    pub calls: BTreeMap<u64, CallAction>,
    pub shim: BTreeMap<u8, ShimAction>,
    pub seen_calls: Vec<CallSite>,
    pub seen_shim: Vec<ShimCallSite>,
    pub depths: Vec<i32>,
    /// A return to this address, from the first frame, ends the recording.
    pub returns_to: Option<u64>,
    /// An indirect jump with this in rbx ends the recording.
    pub jumps_with: Option<u64>,
    /// Called before each instruction with the number of those before it.
    pub hook: Option<Box<dyn FnMut(usize)>>,
}

impl Guide for Table {
    fn on_inst(&mut self, ip: u64, _: &Instruction, depth: i32) -> Flow {
        if let Some(hook) = &mut self.hook {
            hook(self.depths.len());
        }
        self.depths.push(depth);
        if ip == landing as *const () as u64 {
            Flow::End(77)
        } else {
            Flow::Continue
        }
    }

    fn on_return(&mut self, target: u64) -> Flow {
        if self.returns_to == Some(target) {
            Flow::End(78)
        } else {
            Flow::Continue
        }
    }

    fn on_jump(&mut self, _: u64, regs: &[u64; 16]) -> Flow {
        if self.jumps_with == Some(regs[3]) {
            Flow::End(79)
        } else {
            Flow::Continue
        }
    }

    fn on_call(&mut self, site: &CallSite) -> CallAction {
        self.seen_calls.push(*site);
        let default = if site.in_own_image {
            CallAction::Inline
        } else {
            CallAction::Residual
        };
        self.calls.get(&site.resolved).copied().unwrap_or(default)
    }

    fn is_call_target(&mut self, address: u64) -> bool {
        self.calls.contains_key(&address)
    }

    fn on_shim_call(&mut self, site: &ShimCallSite) -> ShimAction {
        self.seen_shim.push(*site);
        self.shim
            .get(&site.api.0)
            .copied()
            .unwrap_or(ShimAction::Abort(Abort::Policy))
    }
}

/// Steps on which both recorders have agreed.
pub static AGREED: AtomicUsize = AtomicUsize::new(0);

impl Table {
    /// One that gives the same answers.
    fn twin(&self) -> Table {
        Table {
            calls: self.calls.clone(),
            shim: self.shim.clone(),
            returns_to: self.returns_to,
            jumps_with: self.jumps_with,
            ..Table::default()
        }
    }
}

/// Records with the test program as the only own image, by both recorders. They must agree, unless signals came or
/// something must be executed for real; the answer is that of the stepping one.
pub fn record_with(thread: Stopped, guide: &mut Table, api: &dyn Fn(u64) -> Option<Api>, limits: &Limits) -> Outcome {
    let pid = thread.tid();
    with_ctx(pid, api, |ctx| record_both(thread, guide, limits, ctx))
}

/// Calls `with` with what is recorded: the test program is the only own image.
pub fn with_ctx<R>(pid: i32, api: &dyn Fn(u64) -> Option<Api>, with: impl FnOnce(&Ctx<'_>) -> R) -> R {
    let image = Image::executable(pid, &Maps::read(pid).unwrap()).unwrap();
    let library: BTreeMap<u64, LibraryFn> = image
        .imports()
        .filter_map(|(slot, name)| Some((slot, LibraryFn::named(name)?)))
        .collect();
    with(&Ctx {
        program: image.path.clone(),
        images: vec![ImageRange {
            start: image.range.start,
            end: image.range.end,
            path: image.path,
            own: true,
        }],
        anchor: Anchor::Root {
            kind: AnchorKind(0),
            id: 1,
            return_address: 2,
        },
        api,
        library: &|slot| library.get(&slot).copied(),
        counting: &[],
    })
}

fn record_both(thread: Stopped, guide: &mut Table, limits: &Limits, ctx: &Ctx<'_>) -> Outcome {
    let pid = thread.tid();
    let mut twin = guide.twin();
    let regs = thread.regs().unwrap();
    let start = emulate::Start {
        pid,
        tid: pid,
        regs,
        vectors: thread.xstate().unwrap(),
    };
    let emulated = emulate::Emulator::new().unwrap().record(
        &start,
        ctx,
        &mut twin,
        &emulate::Limits {
            max_steps: limits.max_steps,
            max_time: std::time::Duration::from_millis(500),
            max_time_alone: std::time::Duration::from_millis(500),
        },
        None,
    );
    assert_eq!(thread.regs().unwrap(), regs, "the thread was not touched");
    let stepped = record(thread, ctx, guide, limits);
    match (&emulated.0, &stepped.result) {
        (Emulated::NeedsReal { reason, ip }, _) => println!("emulation: {reason} at {ip:#x}"),
        (Emulated::Done(emulated), Ok(recording)) if recording.meta.signals == 0 => {
            let emulated = emulated.as_ref().as_ref().expect("stepping succeeded, emulation");
            assert_eq!(compare::difference(emulated, recording), None);
            assert_eq!(twin.seen_calls, guide.seen_calls);
            assert_eq!(twin.seen_shim, guide.seen_shim);
            assert_eq!(twin.depths, guide.depths);
            AGREED.fetch_add(recording.steps.len(), SeqCst);
            println!("both agree on {} steps", recording.steps.len());
        }
        (Emulated::Done(emulated), Err(aborted)) => {
            println!("{:?}, stepped {aborted}", emulated.as_ref().as_ref().err())
        }
        _ => {}
    }
    stepped
}

pub fn no_api(_: u64) -> Option<Api> {
    None
}

pub fn instructions(recording: &Recording) -> Vec<&Inst> {
    recording
        .steps
        .iter()
        .filter_map(|s| if let Step::Inst(inst) = s { Some(inst) } else { None })
        .collect()
}

/// The steps of a recording meet end to end, and it survives being written and read.
pub fn check(recording: &Recording) {
    assert_eq!(recording.steps.first().map(Step::ip), Some(recording.start.rip));
    for pair in recording.steps.windows(2) {
        assert_eq!(pair[0].next_ip(), pair[1].ip(), "{pair:x?}");
    }
    let bytes = redmagic_record::codec::encode(recording).unwrap();
    assert_eq!(&redmagic_record::codec::decode(&bytes).unwrap(), recording);
}
