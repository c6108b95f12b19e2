//! What becomes of traces when the constant memory that they rely on ends, and comes back.

mod common;

use common::{TEXT, World, end_at, inst, key, loading_loop, reads, recording};
use redmagic_engine::graph::AnchorState;
use redmagic_engine::registry::Declarations;
use redmagic_engine::{Decision, Mode, Params, Request};
use redmagic_proto::ApiFn;
use redmagic_proto::registry::KIND_CONSTANT_MEMORY;

const BLOCK: u64 = 0x5_0000;
const LENGTH: u64 = 64;

fn declared(serial: u64) -> Declarations {
    let mut declared = Declarations::default();
    declared.add(KIND_CONSTANT_MEMORY, BLOCK, LENGTH, serial);
    declared
}

/// A loop with a trace that has folded 5 from the first word of the block.
fn world(params: Params) -> (World, u32) {
    let mut world = World::new(params);
    world.redeclare(declared(1));
    let Decision::Record(job) = ask(&mut world) else {
        panic!("not recorded")
    };
    let trace = world.install(&job, &loading_loop(key(1), BLOCK, 5));
    world.engine.validate(1);
    assert_eq!(valid(&world, trace), 1);
    (world, trace)
}

fn ask(world: &mut World) -> Decision {
    world.ask(Request::Anchor {
        api: ApiFn::BackwardsBranch,
        key: key(1),
    })
}

fn valid(world: &World, trace: u32) -> u64 {
    world.word(world.engine.graph().traces[trace as usize].valid)
}

/// What the block holds now: two words, and nothing more.
fn block(first: u64, second: u64) -> Option<Vec<u8>> {
    Some([first.to_le_bytes(), second.to_le_bytes()].concat())
}

fn is_dropped(world: &World, trace: u32) -> bool {
    let slot = world.engine.graph().anchors[&key(1)].slot.unwrap();
    let dropped = world.engine.graph().traces[trace as usize].dropped;
    if dropped {
        assert_eq!(world.entry(key(1)), None);
        let leaves = world.word(slot.address) == slot.native;
        assert!(leaves, "whoever is in the loop leaves at its next turn");
    }
    dropped
}

#[test]
fn a_tree_stays_whose_bytes_were_declared_again() {
    let (mut world, trace) = world(Params::default());
    let entry = world.entry(key(1));
    // Another word of the block has changed, which the trace does not know.
    world.engine.redeclare(declared(2), &|range| {
        assert_eq!(range, BLOCK..BLOCK + LENGTH);
        block(5, 6)
    });
    world.engine.validate(2);
    assert!(entry.is_some() && world.entry(key(1)) == entry);
    assert_eq!(valid(&world, trace), 2);
    // Nothing is read again until it is declared again.
    world.redeclare(declared(2));
}

#[test]
fn other_bytes_drop_it() {
    let (mut world, trace) = world(Params::default());
    world.engine.redeclare(declared(2), &|_| block(4, 0));
    world.engine.validate(2);
    assert!(is_dropped(&world, trace));
    assert_eq!(
        valid(&world, trace),
        1,
        "whoever is in it leaves at the next comparison"
    );
    // The old bytes are of no use to it any more.
    world.engine.redeclare(declared(3), &|_| block(5, 0));
    world.engine.validate(3);
    assert!(is_dropped(&world, trace) && valid(&world, trace) == 1);
    assert!(
        matches!(ask(&mut world), Decision::Record(_)),
        "the new bytes get a trace of their own"
    );
}

#[test]
fn bytes_that_cannot_be_read_and_blocks_of_another_length_drop_it() {
    let (mut world, trace) = self::world(Params::default());
    world.engine.redeclare(declared(2), &|_| None);
    assert!(is_dropped(&world, trace));

    let (mut world, trace) = self::world(Params::default());
    let mut longer = Declarations::default();
    longer.add(KIND_CONSTANT_MEMORY, BLOCK, LENGTH + 8, 2);
    world.engine.redeclare(longer, &|_| block(5, 0));
    assert!(is_dropped(&world, trace));
}

#[test]
fn a_tree_of_which_a_block_is_missing_is_suspended_until_it_is_back() {
    let (mut world, trace) = world(Params::default());
    let entry = world.entry(key(1));
    let slot = world.engine.graph().anchors[&key(1)].slot.unwrap();
    world.redeclare(Declarations::default());
    world.engine.validate(2);
    assert!(world.engine.has_suspended());
    assert_eq!(world.entry(key(1)), None);
    assert_eq!(world.word(slot.address), slot.native);
    assert_eq!(
        valid(&world, trace),
        1,
        "whoever is in it leaves at the next comparison"
    );
    assert!(matches!(ask(&mut world), Decision::Run), "it is not recorded anew yet");
    world.engine.give_up_suspended();
    assert!(!is_dropped(&world, trace), "there is time");
    // Back, with no end in between.
    world.engine.redeclare(declared(2), &|_| block(5, 0));
    world.engine.validate(2);
    assert!(!world.engine.has_suspended());
    assert!(entry.is_some() && world.entry(key(1)) == entry);
    assert_eq!(
        world.word(slot.address),
        world.engine.graph().traces[trace as usize].body
    );
    assert_eq!(valid(&world, trace), 2);
}

#[test]
fn while_it_is_measured_whether_traces_pay_a_suspended_tree_stays_out_and_one_that_is_back_is_measured() {
    let (mut world, trace) = world(Params::default());
    let entry = world.entry(key(1));
    let native = world.engine.graph().anchors[&key(1)].slot.unwrap();
    let led = |world: &World| world.word(native.address) != native.native;
    world.redeclare(Declarations::default());
    for mode in [Mode::Counting, Mode::Resting, Mode::Running, Mode::Counting] {
        world.engine.set_mode(mode);
        assert!(world.entry(key(1)).is_none() && !led(&world), "{mode:?}");
    }
    world.engine.redeclare(declared(2), &|_| block(5, 0));
    let counted = world.entry(key(1));
    assert!(
        counted.is_some() && counted != entry && led(&world),
        "through its turnstile"
    );
    world.engine.set_mode(Mode::Resting);
    world.redeclare(Declarations::default());
    world.engine.redeclare(declared(3), &|_| block(5, 0));
    assert!(world.entry(key(1)).is_none() && !led(&world), "it rests");
    world.engine.set_mode(Mode::Running);
    assert!(world.entry(key(1)) == entry && led(&world) && !is_dropped(&world, trace));
}

#[test]
fn a_suspended_tree_is_dropped_when_other_bytes_are_declared() {
    let (mut world, trace) = world(Params::default());
    world.redeclare(Declarations::default());
    world.engine.validate(2);
    world.engine.redeclare(declared(2), &|_| block(6, 0));
    assert!(is_dropped(&world, trace) && !world.engine.has_suspended());
}

#[test]
fn a_tree_whose_block_stays_away_is_given_up() {
    let (mut world, trace) = world(Params {
        suspendtime: 0,
        ..Params::default()
    });
    world.redeclare(Declarations::default());
    world.engine.give_up_suspended();
    assert!(is_dropped(&world, trace) && !world.engine.has_suspended());
    assert_eq!(world.engine.graph().anchors[&key(1)].state, AnchorState::Cold);
    assert!(matches!(ask(&mut world), Decision::Record(_)));
}

/// Another block, of which only a side trace knows.
const OTHER: u64 = 0x6_0000;

fn both(first: u64, second: u64) -> Declarations {
    let mut both = declared(first);
    if second != 0 {
        both.add(KIND_CONSTANT_MEMORY, OTHER, LENGTH, second);
    }
    both
}

/// The loop, a side trace from its end that has folded 7 from the other block, and a side trace of that.
fn world_with_side_traces() -> (World, [u32; 3], [u32; 2]) {
    let mut world = World::new(Params::default());
    world.redeclare(both(1, 1));
    let Decision::Record(job) = ask(&mut world) else {
        panic!("not recorded")
    };
    let mut root = loading_loop(key(1), BLOCK, 5);
    root.start.gpr[6] = OTHER;
    let root = world.install(&job, &root);
    let exit_to = |world: &World, trace: u32, target: u64| {
        let mut exits = world.engine.graph().traces[trace as usize].exits.clone();
        let found = exits.find(|number| world.engine.graph().exits[*number as usize].target == target);
        found.expect("the trace can be left there")
    };
    let first = exit_to(&world, root, TEXT + 0x10d);
    let Decision::Record(job) = world.ask(Request::Exit { number: first.into() }) else {
        panic!("not recorded")
    };
    // mov rcx, [rsi]; inc rbx; jne on; nop.
    let mut steps = vec![
        inst(TEXT + 0x10d, &[0x48, 0x8b, 0x0e], TEXT + 0x110),
        inst(TEXT + 0x110, &[0x48, 0xff, 0xc3], TEXT + 0x113),
        inst(TEXT + 0x113, &[0x75, 0x20], TEXT + 0x135),
        inst(TEXT + 0x135, &[0x90], TEXT + 0x136),
    ];
    reads(&mut steps[0], OTHER, 7);
    let mut side = recording(steps, end_at(key(1)));
    side.start.gpr[2] = BLOCK;
    side.start.gpr[6] = OTHER;
    let side = world.install(&job, &side);
    let second = exit_to(&world, side, TEXT + 0x115);
    let Decision::Record(job) = world.ask(Request::Exit { number: second.into() }) else {
        panic!("not recorded")
    };
    let steps = vec![inst(TEXT + 0x115, &[0x90], TEXT + 0x116)];
    let last = world.install(&job, &recording(steps, end_at(key(1))));
    world.engine.validate(1);
    assert_eq!([root, side, last].map(|trace| valid(&world, trace)), [1; 3]);
    assert!(is_linked(&world, first) && is_linked(&world, second));
    (world, [root, side, last], [first, second])
}

/// Whether a word leads from an exit to its side trace.
fn is_linked(world: &World, exit: u32) -> bool {
    let exit = &world.engine.graph().exits[exit as usize];
    let body = exit.side.map(|side| world.engine.graph().traces[side as usize].body);
    let words = [exit.slot]
        .into_iter()
        .chain(exit.handover.as_ref().map(|handover| handover.slot));
    words.into_iter().any(|slot| body == Some(world.word(slot)))
}

#[test]
fn a_side_trace_falls_without_its_parent_and_with_what_goes_on_from_it() {
    let (mut world, [root, side, last], [first, _]) = world_with_side_traces();
    world.engine.redeclare(both(1, 2), &|_| block(8, 0));
    world.engine.validate(2);
    let dropped = |world: &World, trace: u32| world.engine.graph().traces[trace as usize].dropped;
    assert!(!dropped(&world, root) && dropped(&world, side) && dropped(&world, last));
    assert!(world.entry(key(1)).is_some());
    assert_eq!([root, side, last].map(|trace| valid(&world, trace)), [2, 1, 1]);
    assert!(!is_linked(&world, first));
    let exit = world.engine.graph().exits[first as usize].clone();
    assert_eq!(world.word(exit.slot), exit.stub, "the exit counts again");
    assert_eq!(u64::try_from(world.exit_counter(first)), Ok(Params::default().hotexit));
    assert_eq!(world.engine.graph().traces[root as usize].side_traces, 0);
    assert!(matches!(
        world.ask(Request::Exit { number: first.into() }),
        Decision::Record(_)
    ));
}

#[test]
fn a_suspended_side_trace_is_unlinked_and_what_goes_on_from_it_is_not_valid() {
    let (mut world, [root, side, last], [first, second]) = world_with_side_traces();
    world.redeclare(both(1, 0));
    world.engine.validate(2);
    assert!(world.entry(key(1)).is_some() && !is_linked(&world, first) && is_linked(&world, second));
    assert_eq!([root, side, last].map(|trace| valid(&world, trace)), [2, 1, 1]);
    assert!(
        matches!(world.ask(Request::Exit { number: first.into() }), Decision::Run),
        "it may come back"
    );
    world.engine.redeclare(both(1, 2), &|range| {
        assert_eq!(range.start, OTHER);
        block(7, 0)
    });
    world.engine.validate(2);
    assert!(is_linked(&world, first) && is_linked(&world, second));
    assert_eq!([root, side, last].map(|trace| valid(&world, trace)), [2; 3]);
}

#[test]
fn side_traces_fall_with_their_root() {
    let (mut world, traces, _) = world_with_side_traces();
    world.engine.redeclare(both(2, 1), &|_| block(4, 0));
    world.engine.validate(2);
    assert!(is_dropped(&world, traces[0]));
    assert!(
        traces
            .iter()
            .all(|trace| world.engine.graph().traces[*trace as usize].dropped)
    );
    assert_eq!(traces.map(|trace| valid(&world, trace)), [1; 3]);
}
