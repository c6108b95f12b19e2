//! Traces that are counted, and traces that rest.

mod common;

use common::{World, inst, key, recording};
use redmagic_engine::graph::Origin;
use redmagic_engine::{Decision, Mode, Params, Request};
use redmagic_proto::ApiFn;
use redmagic_proto::entries::hash;
use redmagic_record::recording::{Api, ShimCall, ShimExecution, Step};

fn anchor(n: u64) -> Request {
    Request::Anchor {
        api: ApiFn::BackwardsBranch,
        key: key(n),
    }
}

/// Where the shim and loops are led to.
fn ways(world: &World, n: u64) -> (Option<u64>, u64) {
    let slot = world.engine.graph().anchors[&key(n)].slot.expect("a loop has one");
    (world.entry(key(n)), world.word(slot.address))
}

#[test]
fn each_mode_leads_elsewhere_and_back() {
    let mut world = World::new(Params::default());
    let trace = world.install_loop(key(1));
    let (entry, body) = {
        let trace = &world.engine.graph().traces[trace as usize];
        (trace.entry, trace.body)
    };
    let native = world.engine.graph().anchors[&key(1)].slot.unwrap().native;
    assert_eq!(ways(&world, 1), (Some(entry), body));
    world.engine.set_mode(Mode::Counting);
    let counting = ways(&world, 1);
    assert!(counting.0 != Some(entry) && counting.1 != body && counting.1 != native);
    world.engine.set_mode(Mode::Resting);
    assert_eq!(ways(&world, 1), (None, native));
    world.engine.set_mode(Mode::Counting);
    assert_eq!(ways(&world, 1), counting);
    world.engine.set_mode(Mode::Running);
    assert_eq!(ways(&world, 1), (Some(entry), body));
}

#[test]
fn nothing_becomes_hot_meanwhile_and_nothing_is_forgotten() {
    let mut world = World::new(Params::default());
    world.install_loop(key(1));
    world.pass(key(2).id, 100);
    let before = world.hotness(key(2).id);
    world.engine.set_mode(Mode::Resting);
    assert!(world.hotness(key(2).id) > 100_000_000);
    assert_eq!(
        world.engine.turns_left(key(2).id),
        before as u64 / 8,
        "as it will be again"
    );
    assert!(matches!(world.ask(anchor(3)), Decision::Run));
    world.pass(key(2).id, 1000);
    world.engine.set_mode(Mode::Running);
    assert_eq!(world.hotness(key(2).id), before);
    assert!(matches!(world.ask(anchor(3)), Decision::Record(_)));
}

#[test]
fn what_traces_pass_unseen_is_not_counted() {
    let mut world = World::new(Params::default());
    let trace = world.install_loop(key(1));
    // A side trace passes a function that it has inlined.
    let exit = world.engine.graph().traces[trace as usize].exits.start;
    let Decision::Record(job) = world.ask(Request::Exit {
        number: u64::from(exit),
    }) else {
        panic!("not recorded")
    };
    assert!(matches!(job.origin, Origin::Side { .. }));
    let Step::Inst(call) = inst(job.ip, &[0xe8, 0, 0, 0, 0], job.ip + 5) else {
        unreachable!()
    };
    let inlined = Step::from(ShimCall {
        call,
        api: Api(ApiFn::FunctionEntry as u8),
        args: [key(5).id, 0],
        return_address: job.ip + 5,
        rsp: 0,
        result: 0,
        action: ShimExecution::Skipped,
    });
    let side = recording(
        vec![inlined, inst(job.ip + 5, &[0x90], job.ip + 6)],
        common::end_at(key(1)),
    );
    world.install(&job, &side);
    world.engine.set_mode(Mode::Counting);
    let progress = world.engine.progress();
    for n in [1, 5, 7] {
        world.pass(key(n).id, 3);
    }
    let mut counted = [1, 7].map(|n| (hash(key(n).id), 24));
    counted.sort_unstable();
    assert_eq!(world.engine.passed_since(&progress).anchors, counted);
}
