//! Side traces that come round to their loop's anchor, and get loops of their own.

mod common;

use std::time::Duration;

use common::{TEXT, World, anchor, end_at, inst, key, record, recording};
use redmagic_engine::graph::Origin;
use redmagic_engine::policy::Lessons;
use redmagic_engine::{Finished, Job, Mode, Params, Request};
use redmagic_ir::End as IrEnd;
use redmagic_proto::ApiFn;
use redmagic_record::abort::Abort;
use redmagic_record::recording::{Anchor, AnchorKind, Recording, Step};

/// test rdx, rdx; jne, which is taken or not.
fn first(taken: bool) -> Vec<Step> {
    let next = if taken { TEXT + 0x100 } else { TEXT + 0x10a };
    vec![
        inst(TEXT + 0x105, &[0x48, 0x85, 0xd2], TEXT + 0x108),
        inst(TEXT + 0x108, &[0x75, 0xf6], next),
    ]
}

/// Where it is not taken: inc rcx; back to the anchor's call.
fn detour() -> Vec<Step> {
    vec![
        inst(TEXT + 0x10a, &[0x48, 0xff, 0xc1], TEXT + 0x10d),
        inst(TEXT + 0x10d, &[0xeb, 0xf1], TEXT + 0x100),
    ]
}

/// From the anchor to the anchor.
fn turn(steps: Vec<Step>) -> Recording {
    let taken = steps.len() == first(true).len();
    let mut recording = recording(steps, end_at(key(1)));
    recording.anchor = Anchor::Root {
        kind: AnchorKind(ApiFn::BackwardsBranch as u8),
        id: key(1).id,
        return_address: key(1).return_address,
    };
    recording.start.gpr[2] = u64::from(taken);
    recording.start.gpr[7] = key(1).id;
    recording
}

/// A loop whose branch is taken.
fn install_root(world: &mut World) -> u32 {
    let job = record(world, anchor(key(1)));
    world.install(&job, &turn(first(true)))
}

/// A loop, a side trace that leaves it in its first turn, and the number of the re-entry at its end.
fn loop_with_detour(params: Params) -> (World, u32, u32) {
    let mut world = World::new(params);
    let root = install_root(&mut world);
    let trace = &world.engine.graph().traces[root as usize];
    let parent = trace.parent.as_ref().expect("it is optimised");
    assert!(
        matches!(parent.trace.trace.end, IrEnd::Loop { .. }),
        "{}",
        parent.trace.trace
    );
    let job = record(&mut world, Request::Exit { number: 0 });
    assert_eq!((job.ip, job.anchor()), (TEXT + 0x10a, None));
    let side = world.install(&job, &recording(detour(), end_at(key(1))));
    let graph = world.engine.graph();
    let reentry = graph.traces[side as usize].exits.end - 1;
    assert!(graph.exits[reentry as usize].is_reentry());
    assert!(graph.exits[..reentry as usize].iter().all(|exit| !exit.is_reentry()));
    (world, root, reentry)
}

fn finish(world: &mut World, job: &Job, steps: Vec<Step>) -> Option<Abort> {
    let finished = world
        .engine
        .finish(job, Ok(&turn(steps)), &Lessons::default(), Duration::ZERO);
    match finished {
        Finished::Installed(_) => None,
        Finished::Failed(reason) => Some(reason),
    }
}

#[test]
fn turns_that_go_the_same_way_get_a_loop_of_their_own() {
    let (mut world, root, reentry) = loop_with_detour(Params::default());
    let whole = || [first(false), detour()].concat();
    for _ in 0..2 {
        let job = record(&mut world, Request::Exit { number: reentry.into() });
        assert_eq!((job.ip, job.anchor()), (key(1).return_address, Some(key(1))));
        assert_eq!(finish(&mut world, &job, whole()), Some(Abort::NotYetSure));
    }
    let job = record(&mut world, Request::Exit { number: reentry.into() });
    assert_eq!(finish(&mut world, &job, whole()), None);
    let graph = world.engine.graph();
    let exit = graph.exits[reentry as usize].clone();
    let made = graph.traces.last().unwrap().clone();
    assert_eq!(made.root, root);
    assert!(matches!(made.origin, Origin::Side { exit, .. } if exit == reentry));
    assert!(matches!(made.parent.unwrap().trace.trace.end, IrEnd::Loop { .. }));
    assert_eq!(world.word(exit.slot), made.body);
    // The anchor's own trace is the root.
    assert_eq!(
        world.entry(key(1)),
        Some(world.engine.graph().traces[root as usize].entry)
    );
    // While traces rest nothing leads to it.
    world.engine.set_mode(Mode::Resting);
    assert_eq!(world.word(exit.slot), exit.away);
    world.engine.set_mode(Mode::Running);
    assert_eq!(world.word(exit.slot), made.body);
    world.engine.withdraw();
    assert_eq!(world.word(exit.slot), exit.away);
}

#[test]
fn turns_that_go_now_this_way_and_now_that_do_not() {
    let params = Params {
        maxtries: 2,
        ..Params::default()
    };
    let (mut world, root, reentry) = loop_with_detour(params);
    let exit = world.engine.graph().exits[reentry as usize].clone();
    assert_eq!(world.word(exit.slot), exit.stub, "it is counted");
    for (steps, said) in [
        ([first(false), detour()].concat(), Abort::NotYetSure),
        (first(true), Abort::OtherTurn),
        ([first(false), detour()].concat(), Abort::NotYetSure),
        (first(true), Abort::OtherTurn),
    ] {
        let job = record(&mut world, Request::Exit { number: reentry.into() });
        assert_eq!(finish(&mut world, &job, steps), Some(said));
    }
    // It is not asked again, and leads straight to the root from now on.
    assert!(world.engine.graph().exits[reentry as usize].silent);
    let body = world.engine.graph().traces[root as usize].body;
    assert_eq!(world.word(exit.slot), body);
    world.engine.set_mode(Mode::Resting);
    assert_eq!(
        world.word(exit.slot),
        TEXT + 0x100,
        "past the root, to the anchor's call"
    );
}

#[test]
fn a_long_turn_gets_none() {
    let params = Params {
        maxpeel: 3,
        ..Params::default()
    };
    let mut world = World::new(params);
    install_root(&mut world);
    let job = record(&mut world, Request::Exit { number: 0 });
    let mut longer = vec![inst(TEXT + 0x10a, &[0x48, 0xff, 0xc1], TEXT + 0x10d); 3];
    longer.extend(detour());
    world.install(&job, &recording(longer, end_at(key(1))));
    assert!(world.engine.graph().exits.iter().all(|exit| !exit.is_reentry()));
}

#[test]
fn a_counter_that_was_overwritten_is_set_again() {
    let (mut world, _, reentry) = loop_with_detour(Params::default());
    let job = record(&mut world, Request::Exit { number: reentry.into() });
    assert_eq!(finish(&mut world, &job, first(true)), Some(Abort::OtherTurn));
    let armed = world.exit_counter(reentry);
    // A thread had read it before, when it stood higher.
    world.set_exit_counter(reentry, 1_000_000);
    let job = record(&mut world, Request::Exit { number: reentry.into() });
    assert_eq!(finish(&mut world, &job, first(true)), Some(Abort::OtherTurn));
    assert!(world.exit_counter(reentry) > armed);
    let armed = world.exit_counter(reentry);
    world.set_exit_counter(reentry, 1_000_000);
    world.engine.give_turn(false);
    assert_eq!(world.exit_counter(reentry), armed);
}
