//! What becomes of trees when the constant memory that they rely on ends, and comes back.

mod common;

use common::{World, key, loading_loop};
use redmagic_engine::graph::AnchorState;
use redmagic_engine::registry::Declarations;
use redmagic_engine::{Decision, Params, Request};
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
