//! The engine without a process: requests in, words in shared memory out.

mod common;

use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{
    CODE, TEXT, World, anchor, end_at, inst, key, loading_loop, loop_recording, loop_steps, record, recording,
};
use redmagic_engine::graph::{AnchorKey, AnchorState, Link, Origin};
use redmagic_engine::policy::{ACTIVATION_LEFT, Lessons};
use redmagic_engine::registry::Declarations;
use redmagic_engine::{Begun, Compilation, Decision, Draft, Finished, Params, Request, Stays};
use redmagic_proto::ApiFn;
use redmagic_proto::control::{Control, LOOP_WEIGHT};
use redmagic_proto::entries::hash;
use redmagic_proto::registry::{KIND_CONSTANT_MEMORY, KIND_DISABLED_BRANCH};
use redmagic_record::abort::Abort;
use redmagic_record::recording::{Anchor, AnchorKind, End, Recording};

fn draft(world: &mut World, job: &redmagic_engine::Job, recording: &Recording) -> Box<Draft> {
    let begun = world
        .engine
        .begin(job, Ok(recording), &Lessons::default(), Duration::ZERO);
    match begun {
        Begun::Draft(draft) => draft,
        Begun::Finished(finished) => panic!("nothing to compile: {finished:?}"),
    }
}

#[test]
fn a_hot_loop_is_recorded_installed_and_entered() {
    let mut world = World::new(Params::default());
    assert_eq!(world.hotness(key(1).id), 500 * 8, "a loop counts 8");
    assert_eq!(world.entry(key(1)), None);
    let trace = world.install_loop(key(1));
    let installed = world.engine.graph().traces[trace as usize].clone();
    assert_eq!(world.entry(key(1)), Some(installed.entry));
    assert_eq!(installed.link, Link::Anchor(key(1)));
    assert!(installed.body > installed.entry && installed.entry >= CODE);
    // The loop goes round through its slot.
    let slot = world.engine.graph().anchors[&key(1)].slot.unwrap();
    assert_eq!(world.word(slot.address), installed.body);
    assert_eq!(slot.native, TEXT + 0x100);
    assert!(matches!(world.ask(anchor(key(1))), Decision::Run), "it has a trace");
}

#[test]
fn a_side_trace_is_one_store_into_the_exits_slot() {
    let mut world = World::new(Params::default());
    let root = world.install_loop(key(1));
    let exit = world.engine.graph().exits[0].clone();
    assert_eq!(exit.target, TEXT + 0x10a, "where the branch does not go");
    assert_eq!(u64::try_from(world.exit_counter(0)), Ok(Params::default().hotexit));
    let counting = world.word(exit.slot);
    assert!(counting > CODE);
    let job = record(&mut world, Request::Exit { number: 0 });
    assert_eq!(job.origin, Origin::Side { exit: 0, parent: root });
    let side = recording(vec![inst(TEXT + 0x10a, &[0x90], TEXT + 0x10b)], end_at(key(1)));
    let trace = world.install(&job, &side);
    // It goes on where the parent is left, before the stub, which stays for whoever withdraws.
    let handover = exit.handover.expect("the parent is optimised");
    assert_eq!(
        world.word(handover.slot),
        world.engine.graph().traces[trace as usize].body
    );
    assert_eq!(world.word(exit.slot), counting);
    assert_eq!(world.engine.graph().traces[trace as usize].root, root);
    for number in world.engine.graph().traces[trace as usize].exits.clone() {
        assert_eq!(
            u64::try_from(world.exit_counter(number)),
            Ok(Params::default().hotexit * 2),
            "one further from the root is to be twice as hot"
        );
    }
    assert!(matches!(world.ask(Request::Exit { number: 0 }), Decision::Run));
}

#[test]
fn failures_back_off_and_end_on_the_blacklist() {
    let params = Params {
        maxtries: 3,
        hotloop: 10,
        ..Params::default()
    };
    let mut world = World::new(params);
    assert!(!world.engine.is_untraceable());
    for aborts in 1..=2 {
        let job = record(&mut world, anchor(key(1)));
        world.fail(&job, Abort::TooLong);
        assert_eq!(world.hotness(key(1).id), (10 << aborts) * 8);
        assert!(!world.engine.is_untraceable());
    }
    let job = record(&mut world, anchor(key(1)));
    world.fail(&job, Abort::TooLong);
    assert_eq!(world.engine.graph().anchors[&key(1)].state, AnchorState::Blacklisted);
    assert!(world.engine.is_untraceable());
    assert!(world.hotness(key(1).id) > 100_000_000);
    assert!(matches!(world.ask(anchor(key(1))), Decision::Run));
    assert_eq!(world.engine.counts().aborts[&Abort::TooLong], 3);
}

#[test]
fn a_loop_that_ended_meanwhile_is_tried_again_in_other_turns() {
    let mut world = World::new(Params {
        maxtries: 2,
        hotloop: 1000,
        ..Params::default()
    });
    let mut turns = Vec::new();
    for _ in 0..7 {
        let job = record(&mut world, anchor(key(1)));
        world.fail(&job, Abort::LoopLeft);
        turns.push(world.hotness(key(1).id) / 8);
    }
    // Three at the first threshold, and the others at twice as much.
    assert!(turns[..3].iter().all(|turns| (1000..1300).contains(turns)), "{turns:?}");
    assert!(turns[3..].iter().all(|turns| (2000..2600).contains(turns)), "{turns:?}");
    // In every phase of a short loop sooner or later.
    let mut phases: Vec<i32> = turns.iter().map(|turns| turns % 4).collect();
    phases.sort_unstable();
    phases.dedup();
    assert!(phases.len() > 2, "{turns:?}");
    let job = record(&mut world, anchor(key(1)));
    world.fail(&job, Abort::LoopLeft);
    assert_eq!(world.engine.graph().anchors[&key(1)].state, AnchorState::Blacklisted);
}

#[test]
fn what_was_learnt_makes_the_next_try_free() {
    let mut world = World::new(Params {
        maxtries: 1,
        ..Params::default()
    });
    for function in [0x1000, 0x2000] {
        let job = record(&mut world, anchor(key(1)));
        let lessons = Lessons {
            residual: vec![function],
            ..Lessons::default()
        };
        let failed = world
            .engine
            .finish(&job, Err((Abort::NativeLoop, 5)), &lessons, Duration::ZERO);
        assert_eq!(failed, Finished::Failed(Abort::NativeLoop));
        assert!(world.engine.functions().residual.contains(&function));
    }
    // The same lesson again is none.
    let job = record(&mut world, anchor(key(1)));
    let lessons = Lessons {
        residual: vec![0x1000],
        ..Lessons::default()
    };
    world
        .engine
        .finish(&job, Err((Abort::NativeLoop, 5)), &lessons, Duration::ZERO);
    assert_eq!(world.engine.graph().anchors[&key(1)].state, AnchorState::Blacklisted);
}

#[test]
fn a_recording_that_was_too_long_ends_half_way_the_next_time() {
    let mut world = World::new(Params {
        maxtries: 1,
        ..Params::default()
    });
    let lessons = Lessons {
        passed: vec![(10, key(2)), (900, key(3)), (1900, key(4))],
        ..Lessons::default()
    };
    let job = record(&mut world, anchor(key(1)));
    let too_long = Err((Abort::TooLong, 2000));
    world.engine.finish(&job, too_long, &lessons, Duration::ZERO);
    assert_eq!(world.engine.functions().ends.iter().collect::<Vec<_>>(), [&key(3)]);
    // It was something new, so there is another try; the second time it is not.
    let job = record(&mut world, anchor(key(1)));
    world.engine.finish(&job, too_long, &lessons, Duration::ZERO);
    assert_eq!(world.engine.graph().anchors[&key(1)].state, AnchorState::Blacklisted);
}

#[test]
fn an_inner_loop_is_made_hot() {
    let mut world = World::new(Params::default());
    let job = record(&mut world, anchor(key(1)));
    let lessons = Lessons {
        inner: vec![key(2)],
        ..Lessons::default()
    };
    world
        .engine
        .finish(&job, Err((Abort::InnerLoop, 5)), &lessons, Duration::ZERO);
    assert_eq!(world.hotness(key(2).id), 1);
}

#[test]
fn a_trace_that_ends_at_an_anchor_without_one_is_linked_when_it_gets_one() {
    let mut world = World::new(Params::default());
    let job = record(&mut world, anchor(key(1)));
    world.install(&job, &recording(loop_steps(), end_at(key(2))));
    let slot = world.engine.graph().anchors[&key(2)].slot.unwrap();
    assert_eq!(world.word(slot.address), slot.native, "to the anchor's own call");
    let inner = world.install_loop(key(2));
    assert_eq!(
        world.word(slot.address),
        world.engine.graph().traces[inner as usize].body
    );
}

#[test]
fn exits_that_fail_or_are_too_many_fall_silent() {
    let mut world = World::new(Params {
        maxtries: 1,
        ..Params::default()
    });
    world.install_loop(key(1));
    let job = record(&mut world, Request::Exit { number: 0 });
    world.fail(&job, Abort::TooLong);
    let exit = world.engine.graph().exits[0].clone();
    assert!(exit.silent);
    assert_eq!(world.word(exit.slot), exit.target, "a plain jump to the original code");

    let mut world = World::new(Params {
        maxside: 0,
        ..Params::default()
    });
    world.install_loop(key(1));
    assert!(matches!(world.ask(Request::Exit { number: 0 }), Decision::Run));
    assert!(world.engine.graph().exits[0].silent);
}

/// An engine whose recordings have cost 101 ms more than is free.
fn in_debt(recordshare: u64) -> World {
    let mut world = World::new(Params {
        recordshare,
        recordfree: 1,
        hotloop: 10,
        ..Params::default()
    });
    let job = record(&mut world, anchor(key(1)));
    world.engine.finish(
        &job,
        Ok(&loop_recording(key(1))),
        &Lessons::default(),
        Duration::from_millis(102),
    );
    world
}

#[test]
fn recording_stays_within_its_share() {
    for share in [0, 100] {
        let mut world = in_debt(share);
        for put_off in 1..4 {
            assert!(matches!(world.ask(anchor(key(2))), Decision::Run));
            assert_eq!(world.engine.counts().postponed, put_off);
        }
    }
}

/// The counter of somebody who waits.
const WAITING: i32 = 1_000_000_000;

/// Counts as if the program had passed an anchor so often.
fn pass(world: &World, key: AnchorKey, times: i32) {
    let word = world.control.i32(offset_of!(Control, hotness) + hash(key.id) * 4);
    word.fetch_sub(times * LOOP_WEIGHT, Ordering::Relaxed);
}

#[test]
fn who_waits_asks_again_when_there_is_time_the_hottest_first() {
    let mut world = World::new(Params::default());
    world.install_loop(key(1));
    for waiting in [key(2), key(3)] {
        let decision = world.engine.decide(anchor(waiting), true).unwrap();
        assert!(matches!(decision, Decision::Run));
        assert_eq!(world.hotness(waiting.id), WAITING);
        assert!(world.engine.anchor_waits(waiting));
    }
    assert!(matches!(
        world.engine.decide(Request::Exit { number: 0 }, true),
        Ok(Decision::Run)
    ));
    assert!(world.engine.exit_waits(0));
    // Nobody has been passed since, and then the recorder is busy.
    world.engine.give_turn(false);
    assert_eq!([2, 3].map(|n| world.hotness(key(n).id)), [WAITING; 2]);
    pass(&world, key(2), 100);
    pass(&world, key(3), 200);
    world.engine.give_turn(true);
    assert_ne!(world.hotness(key(3).id), 1);
    // One at a time.
    world.engine.give_turn(false);
    assert_eq!(world.hotness(key(3).id), 1);
    // The thread was counting down just then, and has put back what it had read.
    pass(&world, key(3), -1000);
    world.engine.give_turn(false);
    assert_eq!(world.hotness(key(3).id), 1);
    assert!(matches!(world.ask(anchor(key(3))), Decision::Record(_)));
    assert!(!world.engine.anchor_waits(key(3)) && world.engine.anchor_waits(key(2)));
    world.engine.give_turn(false);
    assert_eq!(world.hotness(key(2).id), 1);
    assert!(world.engine.exit_waits(0), "it was not taken");
}

#[test]
fn nobody_gets_a_turn_while_recording_has_had_its_share() {
    for share in [0, 100] {
        let mut world = in_debt(share);
        world.ask(anchor(key(2)));
        pass(&world, key(2), 100);
        let again = world.engine.give_turn(false);
        assert_ne!(world.hotness(key(2).id), 1);
        // A hundred milliseconds at a hundred percent.
        assert!(again > Duration::from_millis(50), "{again:?}");
    }
}

#[test]
fn what_has_failed_meanwhile_backs_off_and_waits_no_more() {
    let mut world = World::new(Params::default());
    let job = record(&mut world, anchor(key(2)));
    world.engine.decide(anchor(key(2)), true).unwrap();
    world.fail(&job, Abort::LoopLeft);
    assert!(!world.engine.anchor_waits(key(2)));
    let backs_off = world.hotness(key(2).id);
    world.engine.give_turn(false);
    assert_eq!(world.hotness(key(2).id), backs_off);
}

#[test]
fn what_was_compiled_meanwhile_waits_no_more() {
    let mut world = World::new(Params::default());
    let job = record(&mut world, anchor(key(2)));
    world.engine.decide(anchor(key(2)), true).unwrap();
    world.install(&job, &loop_recording(key(2)));
    pass(&world, key(2), 100);
    world.engine.give_turn(false);
    assert!(!world.engine.anchor_waits(key(2)));
    assert_ne!(world.hotness(key(2).id), 1);
}

#[test]
fn while_another_recording_is_on_threads_run_on() {
    let mut world = World::new(Params::default());
    let decision = world.engine.decide(anchor(key(1)), true).unwrap();
    assert!(matches!(decision, Decision::Run));
}

#[test]
fn the_size_limit_of_the_cache_is_enforced() {
    let mut world = World::new(Params {
        codesize: 64,
        ..Params::default()
    });
    let mut n = 0;
    let full = loop {
        n += 1;
        assert!(n < 10_000, "never full");
        let Decision::Record(job) = world.ask(anchor(key(n))) else {
            panic!("not recorded")
        };
        match world
            .engine
            .finish(&job, Ok(&loop_recording(key(n))), &Lessons::default(), Duration::ZERO)
        {
            Finished::Installed(_) => {}
            Finished::Failed(reason) => break reason,
        }
    };
    assert_eq!(full, Abort::CacheFull);
    assert!(world.engine.cache().used_bytes() <= 64 * 1024);
    assert!(
        matches!(world.ask(anchor(key(n + 1))), Decision::Run),
        "nothing more is recorded"
    );
    assert!(world.entry(key(1)).is_some(), "what there is stays");
}

#[test]
fn other_bytecode_may_end_while_a_trace_is_compiled() {
    let mut world = World::new(Params::default());
    let Decision::Record(job) = world.ask(anchor(key(1))) else {
        panic!("not recorded")
    };
    let recording = loop_recording(key(1));
    let draft = draft(&mut world, &job, &recording);
    let compilation = draft.compile(&job, &recording);
    world.redeclare(Declarations::default());
    world.engine.validate(3);
    let Finished::Installed(trace) = world.engine.publish(&job, &recording, *draft, compilation) else {
        panic!("refused, though nothing that it relies on has ended")
    };
    let valid = world.engine.graph().traces[trace as usize].valid;
    assert_eq!(
        world.word(valid),
        3,
        "it is valid for the generation it was installed in"
    );
}

#[test]
fn bytes_that_were_declared_anew_while_they_were_recorded_are_not_relied_on() {
    // The thread may run on meanwhile: nobody knows which of the two was read.
    const BLOCK: u64 = 0x5_0000;
    let finish = |serial: u64, later: u64| {
        let mut world = World::new(Params::default());
        let block = |serial: u64| {
            let mut declared = Declarations::default();
            declared.add(KIND_CONSTANT_MEMORY, BLOCK, 64, serial);
            declared
        };
        world.redeclare(block(serial));
        let job = record(&mut world, anchor(key(1)));
        let recording = loading_loop(key(1), BLOCK, 5);
        world.redeclare(block(later));
        let draft = draft(&mut world, &job, &recording);
        let compilation = draft.compile(&job, &recording);
        world.engine.publish(&job, &recording, *draft, compilation)
    };
    let finished = finish(7, 7);
    assert!(matches!(finished, Finished::Installed(_)), "{finished:?}");
    let finished = finish(7, 8);
    assert!(
        matches!(finished, Finished::Failed(Abort::ConstantEnded)),
        "{finished:?}"
    );
}

#[test]
fn a_loop_that_the_program_stays_in_is_made_of_copies() {
    let mut world = World::new(Params::default());
    let job = record(&mut world, anchor(key(1)));
    let mut recording = loop_recording(key(1));
    recording.anchor = Anchor::Root {
        kind: AnchorKind(ApiFn::BackwardsBranch as u8),
        id: key(1).id,
        return_address: key(1).return_address,
    };
    let draft = draft(&mut world, &job, &recording);
    let compilation = draft.compile(&job, &recording);
    let stays = |world: &World| world.engine.stays_in(&job, &draft, &compilation);
    assert_eq!(stays(&world), Stays::Unknown, "nothing has run yet");
    world.pass(key(1).id, 1000);
    assert_eq!(stays(&world), Stays::Yes);
    world.pass(key(2).id, 15);
    assert_eq!(stays(&world), Stays::Yes, "66 turns for each of the other loop");
    world.pass(key(2).id, 1);
    assert_eq!(stays(&world), Stays::No, "62 turns");
    let unrolled = draft.compile_unrolled(&job, &recording);
    let bytes = |compilation: &Compilation| compilation.bytes().expect("it compiles").0;
    // Several copies need not be longer: the one guard of this loop is on its count, and is asked once for all of them.
    assert_ne!(bytes(&unrolled), bytes(&compilation), "several copies are other code");
    let finished = world.engine.publish(&job, &recording, *draft, unrolled);
    assert!(matches!(finished, Finished::Installed(_)), "{finished:?}");
}

#[test]
fn bytecode_that_ended_meanwhile_is_no_fault_of_the_loop() {
    let mut world = World::new(Params::default());
    for _ in 0..10 {
        let Decision::Record(job) = world.ask(anchor(key(1))) else {
            panic!("given up")
        };
        world.fail(&job, Abort::ConstantEnded);
    }
}

#[test]
fn a_disabled_branch_loses_its_trace_and_gets_no_other() {
    let mut world = World::new(Params::default());
    world.install_loop(key(1));
    let mut declared = Declarations::default();
    declared.add(KIND_DISABLED_BRANCH, key(1).id, 0, 1);
    world.redeclare(declared);
    assert_eq!(world.entry(key(1)), None);
    assert!(matches!(world.ask(anchor(key(1))), Decision::Run));
    assert_eq!(world.engine.graph().anchors[&key(1)].state, AnchorState::Blacklisted);
}

#[test]
fn a_forced_anchor_that_is_refused_or_put_off_asks_no_more_at_every_call() {
    // The shim asks at once while there is no entry, and counts once there is one.
    let mut world = World::new(Params::default());
    let mut declared = Declarations::default();
    declared.add(KIND_DISABLED_BRANCH, key(1).id, 0, 1);
    world.redeclare(declared);
    for api in [ApiFn::ForceBeginTrace, ApiFn::ForceJumpToTrace] {
        let key = AnchorKey {
            return_address: key(1).return_address + api as u64,
            ..key(1)
        };
        assert!(matches!(world.ask(Request::Anchor { api, key }), Decision::Run));
        assert!(world.known(key) && world.entry(key).is_none());
    }
    let put_off = Request::Anchor {
        api: ApiFn::ForceBeginTrace,
        key: key(2),
    };
    assert!(matches!(world.engine.decide(put_off, true), Ok(Decision::Run)));
    assert!(world.known(key(2)));
    // Loops have no need of that.
    assert!(matches!(world.engine.decide(anchor(key(3)), true), Ok(Decision::Run)));
    assert!(!world.known(key(3)));
}

#[test]
fn withdrawing_leaves_no_way_in_and_no_loop() {
    let mut world = World::new(Params::default());
    world.install_loop(key(1));
    let job = record(&mut world, Request::Exit { number: 0 });
    world.install(
        &job,
        &recording(vec![inst(TEXT + 0x10a, &[0x90], TEXT + 0x10b)], end_at(key(1))),
    );
    world.engine.withdraw();
    assert_eq!(world.entry(key(1)), None);
    let slot = world.engine.graph().anchors[&key(1)].slot.unwrap();
    assert_eq!(world.word(slot.address), slot.native);
    for exit in world.engine.graph().exits.clone() {
        assert_eq!(world.word(exit.slot), exit.target);
        let handover = exit.handover.expect("both traces are optimised");
        assert_eq!(world.word(handover.slot), handover.found.stub);
    }
}

#[test]
fn requests_that_no_shim_makes_are_hostile() {
    let mut world = World::new(Params::default());
    for number in [0, 1, u64::MAX, 1 << 32] {
        assert!(world.engine.decide(Request::Exit { number }, false).is_err());
    }
    let request = Request::Anchor {
        api: ApiFn::Promote,
        key: key(1),
    };
    assert!(world.engine.decide(request, false).is_err());
}

#[test]
fn many_anchors_of_one_hash_do_not_hang() {
    // More keys with one id than there are probes: the last ones get no entry.
    let mut world = World::new(Params::default());
    for n in 0..20 {
        let key = AnchorKey {
            id: 0x7000,
            return_address: TEXT + 0x1000 + n * 16,
        };
        let Decision::Record(job) = world.ask(anchor(key)) else {
            break;
        };
        world
            .engine
            .finish(&job, Ok(&loop_recording(key)), &Lessons::default(), Duration::ZERO);
    }
    let found = (0..20)
        .filter(|n| {
            world
                .entry(AnchorKey {
                    id: 0x7000,
                    return_address: TEXT + 0x1000 + n * 16,
                })
                .is_some()
        })
        .count();
    assert_eq!(found, 8);
}

#[test]
fn a_saved_recording_is_compiled_as_in_a_session() {
    let mut world = World::new(Params::default());
    let mut recording = loop_recording(key(1));
    recording.anchor = redmagic_record::recording::Anchor::Root {
        kind: redmagic_record::recording::AnchorKind(ApiFn::BackwardsBranch as u8),
        id: key(1).id,
        return_address: key(1).return_address,
    };
    let job = record(&mut world, anchor(key(1)));
    let trace = world.install(&job, &recording);
    let installed = world.engine.graph().traces[trace as usize].clone();
    assert!(
        installed.notes.body.is_some() && installed.notes.not_peeled.is_none(),
        "a loop"
    );
    let counts = world.engine.counts();
    assert_eq!(counts.compiled_instructions, 2);
    assert_eq!(counts.stages.total(), counts.compiling);
    let (job, draft) = redmagic_engine::Draft::offline(&recording, Params::default());
    assert_eq!(job.origin, Origin::Root(key(1)));
    let compilation = draft.compile(&job, &recording);
    assert_eq!(compilation.not_optimised(), None);
    let (code, _) = compilation.bytes().unwrap();
    // Distances may need wider displacements elsewhere.
    assert!(
        code.abs_diff(installed.code.bytes()) < 16,
        "{code} and {}",
        installed.code.bytes()
    );
    let names = |stages: &redmagic_engine::timing::Stages| stages.iter().map(|(name, _)| name).collect::<Vec<_>>();
    let mut expected = names(compilation.stages());
    assert_eq!(expected.first(), Some(&"lifted"));
    assert_eq!(expected.last(), Some(&"emit"));
    expected.push("install");
    assert_eq!(names(&counts.stages), expected);
}

#[test]
fn exits_are_counted_until_they_have_a_side_trace() {
    let mut world = World::new(Params {
        hotexit: 1000,
        ..Params::default()
    });
    world.install_loop(key(1));
    assert_eq!((world.engine.taken(0), world.engine.exits_left(0)), (0, 1000));
    world.set_exit_counter(0, 990);
    assert_eq!((world.engine.taken(0), world.engine.exits_left(0)), (10, 990));
    // A counter is the program's to write.
    world.set_exit_counter(0, i32::MIN);
    assert_eq!((world.engine.taken(0), world.engine.exits_left(0)), (1000, 0));
    world.set_exit_counter(0, i32::MAX);
    assert_eq!(world.engine.taken(0), 0);
    // It runs out; who is not answered counts from 256 again.
    world.set_exit_counter(0, 256);
    let job = record(&mut world, Request::Exit { number: 0 });
    assert_eq!(world.engine.taken(0), 1000);
    world.set_exit_counter(0, 250);
    assert_eq!(world.engine.taken(0), 1006);
    world.fail(&job, Abort::TooLong);
    let exit = &world.engine.graph().exits[0];
    assert_eq!((exit.aborts, exit.last_abort), (1, Some(Abort::TooLong)));
    assert_eq!((world.engine.taken(0), world.engine.exits_left(0)), (1006, 2000));
}

#[test]
fn what_keeps_an_anchor_from_being_compiled_is_noted() {
    let mut world = World::new(Params::default());
    assert_eq!(world.engine.lukewarm(), (0, None));
    world.set_hotness(key(2).id, 17 * 8);
    assert_eq!(world.engine.lukewarm(), (1, Some(17)));
    assert_eq!(world.engine.turns_left(key(2).id), 17);
    for (reason, times) in [(Abort::TooLong, 2), (Abort::InnerLoop, 1)] {
        for _ in 0..times {
            let job = record(&mut world, anchor(key(2)));
            world.fail(&job, reason);
        }
    }
    let noted = &world.engine.graph().anchors[&key(2)];
    assert_eq!(noted.reasons, [(Abort::TooLong, 2), (Abort::InnerLoop, 1)].into());
    // Three times more turns, each as many again.
    assert_eq!(world.engine.turns_left(key(2).id), 500 << 3);
    assert_eq!(world.engine.lukewarm(), (0, None), "it has asked");
}

#[test]
fn one_activation_must_be_worth_entering() {
    let mut world = World::new(Params::default());
    let leaving = |n: u64, bytes: &[u8]| {
        let length = bytes.len() as u64;
        let at = |i: u64| TEXT + 0x105 + i * length;
        let steps = (0..n).map(|i| inst(at(i), bytes, at(i + 1))).collect();
        let end = End::Stopped {
            ip: at(n),
            reason: ACTIVATION_LEFT,
        };
        recording(steps, end)
    };
    let mut outcome = |n: u64, recording: &Recording| {
        let job = record(&mut world, anchor(key(n)));
        world
            .engine
            .finish(&job, Ok(recording), &Lessons::default(), Duration::ZERO)
    };
    let nothing = |n| leaving(n, &[0x90]);
    assert!(matches!(outcome(1, &nothing(100)), Finished::Installed(_)));
    assert!(matches!(outcome(2, &nothing(30)), Finished::Failed(Abort::NotWorth)));
    // neg rax goes nowhere but back; in lea rax, [rax + 2 * rax] each is needed by the next.
    assert!(matches!(
        outcome(3, &leaving(100, &[0x48, 0xf7, 0xd8])),
        Finished::Installed(_)
    ));
    let work = leaving(100, &[0x48, 0x8d, 0x04, 0x40]);
    assert!(matches!(outcome(4, &work), Finished::Failed(Abort::NotWorth)));
}
