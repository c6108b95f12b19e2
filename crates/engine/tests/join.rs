//! Side traces that end in the middle of their turn, in a trace that they share.

mod common;

use std::time::Duration;

use common::{TEXT, World, anchor, end_at, inst, key, reads, record, recording};
use redmagic_engine::engine::join::Standing;
use redmagic_engine::graph::{ExitState, JoinKey};
use redmagic_engine::policy::{JOINS, Lessons};
use redmagic_engine::registry::Declarations;
use redmagic_engine::{Decision, Finished, Job, Params, Request};
use redmagic_ir::Reg;
use redmagic_proto::ApiFn;
use redmagic_proto::registry::KIND_CONSTANT_MEMORY;
use redmagic_record::abort::Abort;
use redmagic_record::recording::{Anchor, AnchorKind, End, Recording, Step};

/// Bytecode: the ids of anchors, and the program counter at the join.
const BYTECODE: u64 = 0x7000;
/// Something else that one of the paths relies on.
const OTHER: u64 = 0x5_0000;
const JOIN: JoinKey = JoinKey {
    root: common::KEY_1,
    ip: TEXT + 0x153,
    register: Reg::RBX,
    pc: BYTECODE + 0x40,
};

fn params() -> Params {
    Params {
        jointail: 0,
        suspendtime: 0,
        ..Params::default()
    }
}

fn declared(other: bool) -> Declarations {
    let mut declared = Declarations::default();
    declared.add(KIND_CONSTANT_MEMORY, BYTECODE, 0x100, 1);
    if other {
        declared.add(KIND_CONSTANT_MEMORY, OTHER, 64, 2);
    }
    declared
}

/// test rdx, rdx; jne back to the anchor's call, taken.
fn root() -> Recording {
    let steps = vec![
        inst(TEXT + 0x105, &[0x48, 0x85, 0xd2], TEXT + 0x108),
        inst(TEXT + 0x108, &[0x75, 0xf6], TEXT + 0x100),
    ];
    let mut recording = recording(steps, end_at(key(1)));
    recording.anchor = Anchor::Root {
        kind: AnchorKind(ApiFn::BackwardsBranch as u8),
        id: key(1).id,
        return_address: key(1).return_address,
    };
    recording.start.gpr[2] = 1;
    recording.start.gpr[3] = key(1).id;
    recording.start.gpr[7] = key(1).id;
    recording
}

/// test rsi, rsi; jne; test r8, r8; jne, neither taken; back to the anchor's call.
fn fork() -> Vec<Step> {
    vec![
        inst(TEXT + 0x10a, &[0x48, 0x85, 0xf6], TEXT + 0x10d),
        inst(TEXT + 0x10d, &[0x75, 0x41], TEXT + 0x10f),
        inst(TEXT + 0x10f, &[0x4d, 0x85, 0xc0], TEXT + 0x112),
        inst(TEXT + 0x112, &[0x75, 0x4c], TEXT + 0x114),
        inst(TEXT + 0x114, &[0xeb, 0xea], TEXT + 0x100),
    ]
}

fn to_join(steps: Vec<Step>) -> Recording {
    let end = End::Stopped {
        ip: JOIN.ip,
        reason: JOINS,
    };
    let mut recording = recording(steps, end);
    recording.start.gpr[2] = OTHER;
    recording.start.gpr[3] = BYTECODE + 0x20;
    recording
}

/// Of the first branch: inc rcx.
fn first() -> Recording {
    to_join(vec![inst(TEXT + 0x150, &[0x48, 0xff, 0xc1], JOIN.ip)])
}

/// Of the second: mov rcx, [rdx], from memory that is declared; jmp.
fn second() -> Recording {
    let mut steps = vec![
        inst(TEXT + 0x160, &[0x48, 0x8b, 0x0a], TEXT + 0x163),
        inst(TEXT + 0x163, &[0xeb, 0xee], JOIN.ip),
    ];
    reads(&mut steps[0], OTHER, 5);
    to_join(steps)
}

/// Behind the join: inc rdx; back to the anchor's call.
fn shared() -> Recording {
    let steps = vec![
        inst(TEXT + 0x153, &[0x48, 0xff, 0xc2], TEXT + 0x156),
        inst(TEXT + 0x156, &[0xeb, 0xa8], TEXT + 0x100),
    ];
    let mut recording = recording(steps, end_at(key(1)));
    recording.start.gpr[3] = JOIN.pc;
    recording.start.gpr[7] = key(1).id;
    recording
}

fn finish(world: &mut World, job: &Job, recording: &Recording) -> u32 {
    let ends = matches!(recording.end, End::Stopped { .. });
    let lessons = Lessons {
        join: ends.then_some(JOIN),
        ..Lessons::default()
    };
    match world.engine.finish(job, Ok(recording), &lessons, Duration::ZERO) {
        Finished::Installed(trace) => trace,
        Finished::Failed(reason) => panic!("{reason}"),
    }
}

/// The exit of a trace to `target`.
fn exit_to(world: &World, trace: u32, target: u64) -> u32 {
    let graph = world.engine.graph();
    let mut exits = graph.traces[trace as usize].exits.clone();
    exits
        .find(|number| graph.exits[*number as usize].target == target)
        .expect("it can leave there")
}

fn exit(world: &World, number: u32) -> ExitState {
    world.engine.graph().exits[number as usize].clone()
}

fn ask(number: u32) -> Request {
    Request::Exit {
        number: u64::from(number),
    }
}

/// A root with a side trace that forks twice.
fn forked(params: Params) -> (World, u32) {
    let mut world = World::new(params);
    world.redeclare(declared(true));
    world.engine.validate(1);
    let job = record(&mut world, anchor(key(1)));
    finish(&mut world, &job, &root());
    let job = record(&mut world, ask(0));
    assert!(
        job.joining.is_none(),
        "the first side trace goes to the end of its turn"
    );
    let mut forks = recording(fork(), end_at(key(1)));
    forks.start.gpr[7] = key(1).id;
    let side = finish(&mut world, &job, &forks);
    (world, side)
}

/// Has a path recorded that leads from the exit to `from` to the join, and gives the exit at its end.
fn path(world: &mut World, side: u32, from: u64, recording: &Recording) -> (u32, u32) {
    let job = record(world, ask(exit_to(world, side, from)));
    let joining = job.joining.as_ref().expect("it may end at a join");
    assert_eq!(joining.registers, [Reg::RBX]);
    let trace = finish(world, &job, recording);
    let last = world.engine.graph().traces[trace as usize].exits.end - 1;
    assert_eq!(exit(world, last).join, Some(JOIN));
    (trace, last)
}

#[test]
fn paths_that_come_to_one_place_share_a_trace() {
    let (mut world, side) = forked(params());
    assert_eq!(world.engine.join(&JOIN), Standing::New);
    let (_, one) = path(&mut world, side, TEXT + 0x150, &first());
    assert_eq!(world.engine.join(&JOIN), Standing::Shared);
    assert_eq!(world.word(exit(&world, one).slot), exit(&world, one).stub);
    assert!(world.exit_counter(one) < world.engine.params().hotexit as i32);
    let job = record(&mut world, ask(one));
    assert_eq!((job.ip, job.join), (JOIN.ip, Some(JOIN)));
    assert!(job.joining.is_none(), "it goes to the end of the turn");
    let made = finish(&mut world, &job, &shared());
    let made = world.engine.graph().traces[made as usize].clone();
    assert!(!made.grafted, "it begins in the state of the original code");
    let text = made.parent.as_ref().expect("it is optimised").trace.trace.to_string();
    assert!(
        text.starts_with("v0 = reg.i64 rbx\nv1 = flags.sub.i64 v0, 0x7040\nv2 = cond.e v1\nguard.true v2"),
        "whoever comes with another program counter leaves: {text}"
    );
    assert_eq!(world.word(exit(&world, one).slot), made.body);
    let (_, two) = path(&mut world, side, TEXT + 0x160, &second());
    assert_eq!(world.word(exit(&world, two).slot), made.body);
    assert!(
        matches!(world.ask(ask(two)), Decision::Run),
        "there is nothing to record"
    );
    world.engine.withdraw();
    for number in [one, two] {
        assert_eq!(world.word(exit(&world, number).slot), JOIN.ip);
    }
}

#[test]
fn what_only_one_path_relies_on_does_not_end_what_is_shared() {
    let (mut world, side) = forked(params());
    // The path whose end the shared trace is recorded from.
    let (trace, two) = path(&mut world, side, TEXT + 0x160, &second());
    let job = record(&mut world, ask(two));
    let made = finish(&mut world, &job, &shared());
    let (_, one) = path(&mut world, side, TEXT + 0x150, &first());
    world.redeclare(declared(false));
    world.engine.give_up_suspended();
    world.engine.validate(2);
    let graph = world.engine.graph();
    assert!(graph.traces[trace as usize].dropped);
    assert!(!graph.traces[made as usize].dropped);
    assert_eq!(world.word(graph.traces[made as usize].valid), 2);
    assert_eq!(world.word(exit(&world, one).slot), graph.traces[made as usize].body);
}

#[test]
fn without_its_bytecode_nothing_leads_to_it() {
    let (mut world, side) = forked(params());
    let (_, one) = path(&mut world, side, TEXT + 0x150, &first());
    let job = record(&mut world, ask(one));
    let made = finish(&mut world, &job, &shared());
    let (_, two) = path(&mut world, side, TEXT + 0x160, &second());
    let mut none = Declarations::default();
    none.add(KIND_CONSTANT_MEMORY, OTHER, 64, 2);
    world.redeclare(none);
    for number in [one, two] {
        assert_eq!(world.word(exit(&world, number).slot), exit(&world, number).stub);
    }
    world.engine.give_up_suspended();
    assert!(world.engine.graph().traces[made as usize].dropped);
    for number in [one, two] {
        assert_eq!(world.word(exit(&world, number).slot), exit(&world, number).stub);
        assert_eq!(exit(&world, number).side, None);
    }
}

#[test]
fn what_cannot_be_recorded_is_given_up_for_all() {
    let (mut world, side) = forked(Params {
        maxtries: 1,
        ..params()
    });
    let (_, one) = path(&mut world, side, TEXT + 0x150, &first());
    let (_, two) = path(&mut world, side, TEXT + 0x160, &second());
    let job = record(&mut world, ask(one));
    world.fail(&job, Abort::TooLong);
    assert_eq!(world.engine.join(&JOIN), Standing::Hopeless);
    for number in [one, two] {
        assert_eq!(world.word(exit(&world, number).slot), JOIN.ip);
        assert!(exit(&world, number).silent);
    }
}
