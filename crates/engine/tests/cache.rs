//! Where code and data are put.

mod common;

use redmagic_engine::cache::CodeCache;

const BASE: u64 = 0x6000_0000;

fn cache(bytes: usize) -> CodeCache {
    CodeCache::new(
        common::region(bytes).0,
        common::region(redmagic_proto::entries::ENTRIES_BYTES).0,
        BASE,
    )
}

/// Puts in as much as there is room for: so many bytes of code, a quarter of them hot, and words of data each, and a slot in between.
fn fill(cache: &mut CodeCache, code: usize, words: usize) -> Vec<(std::ops::Range<u64>, std::ops::Range<u64>)> {
    let mut all = Vec::new();
    while let Ok(room) = cache.room(code, words) {
        let hot = code / 4;
        cache.install(room, &vec![0x90; code], hot, &vec![all.len() as u64; words]);
        let data = room.data..room.data + words as u64 * 8;
        match room.cold {
            Some(cold) => {
                all.push((room.code..room.code + hot as u64, data));
                all.push((cold..cold + (code - hot) as u64, 0..0));
            }
            None => all.push((room.code..room.code + code as u64, data)),
        }
        if let Ok(slot) = cache.new_slot(7) {
            all.push((0..0, slot..slot + 8));
        }
    }
    all
}

#[test]
fn nothing_overlaps_whatever_its_size() {
    for (code, words) in [(100, 3), (1000, 0), (64, 700), (1, 9000)] {
        let bytes = 1 << 20;
        let mut cache = cache(bytes);
        let all = fill(&mut cache, code, words);
        let mut ranges: Vec<_> = all
            .iter()
            .flat_map(|(code, data)| [code.clone(), data.clone()])
            .collect();
        ranges.retain(|range| !range.is_empty());
        ranges.sort_by_key(|range| range.start);
        assert!(
            ranges.windows(2).all(|two| two[0].end <= two[1].start),
            "{code} {words}"
        );
        assert!(ranges[0].start >= BASE && ranges.last().unwrap().end <= BASE + bytes as u64);
        let used: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        assert!(
            used > bytes as u64 / 2,
            "{code} {words}: {used} bytes of {bytes} are used"
        );
    }
}

#[test]
fn more_than_was_asked_for_may_fit() {
    let mut cache = cache(1 << 20);
    let room = cache.room(100, 1).unwrap();
    assert!(cache.space().fits(room, 100, 0, 1000));
    assert!(!cache.space().fits(room, 100, 0, 1 << 16), "that is another chunk");
    assert!(cache.space().fits(room, 100, 1 << 19, 1));
    assert!(
        !cache.space().fits(room, 1 << 19, 100, 1),
        "most of the region is for stubs"
    );
    assert!(!cache.space().fits(room, 100, 1 << 20, 1));
    cache.install(room, &[0x90; 300], 100, &[1; 1000]);
    let next = cache.room(100, 1).unwrap();
    assert_eq!(next.data, room.data + 8000, "data goes on where it ended");
    assert_eq!(next.code, room.code + 128);
    assert_eq!(next.cold, room.cold.map(|cold| cold + 256));
}
