//! The target's memory as the emulator sees it: pages copied on first use, written to here only, and thrown away at the end.

use redmagic_tracee::maps::{Maps, Region};
use redmagic_tracee::memory::{Memory, PAGE};
use rustc_hash::FxHashMap;

/// Pages that one recording may touch: 64 MiB.
const MAX_PAGES: usize = 16_384;
/// Pages found without a lookup; a power of two.
const RECENT: usize = 64;

/// A page could not be read, or there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) u64);

type Page = Box<[u8; PAGE as usize]>;

/// What a recording leaves to the next one of the same process.
#[derive(Debug, Default)]
pub(crate) struct Habits {
    /// Room for pages.
    spare: Vec<Page>,
    /// Pages that recordings used, with a number that grows with each use and shrinks otherwise.
    used: FxHashMap<u64, u8>,
}

/// A use counts for as much as so many recordings without.
const USE: u8 = 4;
/// The number does not grow beyond this.
const MOST_USED: u8 = 16;
/// Pages of this number, which one use does not make, are read at once.
const USUAL: u8 = 6;
/// Of the stack, in bytes, what is read in any case.
const STACK: u64 = 1024;
/// At most so many, and so much room is kept.
const MOST_USUAL: usize = 512;

/// The cache and overlay.
#[derive(Debug)]
pub(crate) struct Pages {
    memory: Memory,
    numbers: FxHashMap<u64, u32>,
    pages: Vec<Page>,
    /// Which of them were used.
    used: Vec<bool>,
    habits: Habits,
    /// (page address, index in `pages`), by the address's low bits. No page has the address 1.
    recent: [(u64, u32); RECENT],
}

impl Habits {
    /// Where nothing is known yet of a program that has little memory: that all of it is usual. Copying half a thousand pages takes a tenth
    /// of what a first recording takes, for which the thread would wait.
    pub(crate) fn expect_little(&mut self, pid: i32) {
        if !self.used.is_empty() {
            return;
        }
        if let Ok(maps) = Maps::read(pid) {
            self.used.extend(if_little(&maps).map(|page| (page, USUAL)));
        }
    }

    fn room(&mut self) -> Page {
        self.spare.pop().unwrap_or_else(|| Box::new([0; PAGE as usize]))
    }
}

/// The pages that only this program writes, if they are not too many.
fn if_little(maps: &Maps) -> impl Iterator<Item = u64> {
    let own = |region: &&Region| region.perms.read && region.perms.write && !region.perms.shared;
    let own: Vec<&Region> = maps.regions().iter().filter(own).collect();
    let bytes: u64 = own.iter().map(|region| region.end - region.start).sum();
    let little = bytes <= MOST_USUAL as u64 * PAGE;
    let regions = own.into_iter().filter(move |_| little);
    regions.flat_map(|region| (region.start..region.end).step_by(PAGE as usize))
}

impl Pages {
    /// Reads what is usual in one go, which costs a quarter of what it costs page by page, and with it what the thread has on its
    /// stack, which is the first to change when it runs.
    pub(crate) fn new(memory: Memory, mut habits: Habits, stack: u64) -> Pages {
        let often = habits.used.iter().filter(|(_, times)| **times >= USUAL);
        let mut usual: Vec<u64> = often.map(|(base, _)| *base).take(MOST_USUAL).collect();
        if !usual.is_empty() {
            for base in [stack, stack.saturating_add(STACK)].map(|address| address & !(PAGE - 1)) {
                if !usual.contains(&base) {
                    usual.push(base);
                }
            }
        }
        let mut pages: Vec<Page> = usual.iter().map(|_| habits.room()).collect();
        let room = pages.iter_mut().map(|page| &mut page[..]);
        let mut pieces: Vec<(u64, &mut [u8])> = usual.iter().copied().zip(room).collect();
        let numbers = match memory.read_batch(&mut pieces) {
            Ok(()) => usual.into_iter().zip(0..).collect(),
            Err(_) => {
                // Something was unmapped. What is still there will be usual again.
                habits.used.clear();
                habits.spare.append(&mut pages);
                FxHashMap::default()
            }
        };
        Pages {
            memory,
            numbers,
            used: vec![false; pages.len()],
            pages,
            habits,
            recent: [(1, 0); RECENT],
        }
    }

    /// The end of a recording.
    pub(crate) fn finish(mut self) -> Habits {
        let mut habits = self.habits;
        habits.used.retain(|_, times| {
            *times -= 1;
            *times > 0
        });
        for (base, number) in self.numbers {
            if self.used[number as usize] {
                let times = habits.used.entry(base).or_default();
                *times = (*times + USE).min(MOST_USED);
            }
        }
        habits.spare.append(&mut self.pages);
        habits.spare.truncate(MOST_USUAL);
        habits
    }

    /// How many were read.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    #[inline]
    fn page(&mut self, address: u64) -> Result<&mut [u8; PAGE as usize], Unreadable> {
        let base = address & !(PAGE - 1);
        let slot = (base / PAGE) as usize % RECENT;
        if self.recent[slot].0 != base {
            let number = self.find(base).ok_or(Unreadable(address))?;
            self.recent[slot] = (base, number);
        }
        Ok(&mut self.pages[self.recent[slot].1 as usize])
    }

    fn find(&mut self, base: u64) -> Option<u32> {
        if let Some(number) = self.numbers.get(&base) {
            self.used[*number as usize] = true;
            return Some(*number);
        }
        if self.pages.len() >= MAX_PAGES {
            return None;
        }
        let mut page = self.habits.room();
        self.memory.read_exact(base, &mut page[..]).ok()?;
        let number = self.pages.len() as u32;
        self.pages.push(page);
        self.used.push(true);
        self.numbers.insert(base, number);
        Some(number)
    }

    #[inline]
    pub(crate) fn read(&mut self, address: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        let offset = (address & (PAGE - 1)) as usize;
        if offset + out.len() <= PAGE as usize {
            out.copy_from_slice(&self.page(address)?[offset..offset + out.len()]);
            return Ok(());
        }
        let (now, later) = out.split_at_mut(PAGE as usize - offset);
        now.copy_from_slice(&self.page(address)?[offset..]);
        self.read(address.wrapping_add(now.len() as u64), later)
    }

    /// As much as is readable, in bytes, of what begins at `address`.
    pub(crate) fn read_some(&mut self, address: u64, out: &mut [u8]) -> usize {
        if self.read(address, out).is_ok() {
            return out.len();
        }
        let here = ((PAGE - (address & (PAGE - 1))) as usize).min(out.len());
        if self.read(address, &mut out[..here]).is_ok() {
            here
        } else {
            0
        }
    }

    #[inline]
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Unreadable> {
        let offset = (address & (PAGE - 1)) as usize;
        if offset + bytes.len() <= PAGE as usize {
            self.page(address)?[offset..offset + bytes.len()].copy_from_slice(bytes);
            return Ok(());
        }
        let (now, later) = bytes.split_at(PAGE as usize - offset);
        self.page(address)?[offset..].copy_from_slice(now);
        self.write(address.wrapping_add(now.len() as u64), later)
    }

    #[inline]
    pub(crate) fn read_u64(&mut self, address: u64) -> Result<u64, Unreadable> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn own() -> Memory {
        Memory::new(std::process::id() as i32)
    }

    /// A recording that reads a word and overwrites it in its copy.
    fn recording(habits: Habits, at: u64) -> (Habits, u64) {
        let mut pages = Pages::new(own(), habits, at & !(PAGE - 1));
        let found = pages.read_u64(at).unwrap();
        pages.write(at, &77u64.to_le_bytes()).unwrap();
        assert_eq!(pages.read_u64(at), Ok(77));
        (pages.finish(), found)
    }

    #[test]
    fn what_is_usual_is_read_before_it_is_used_and_anew_each_time() {
        let word = AtomicU64::new(0);
        let at = word.as_ptr() as u64;
        let mut habits = Habits::default();
        for turn in 0..10 {
            word.store(turn, Ordering::SeqCst);
            let found;
            (habits, found) = recording(habits, at);
            assert_eq!(found, turn);
        }
        let pages = Pages::new(own(), habits, at & !(PAGE - 1));
        assert_eq!(pages.len(), 1);
        // What is not used any more is soon not usual either.
        let mut habits = pages.finish();
        for _ in 0..MOST_USED {
            habits = Pages::new(own(), habits, at & !(PAGE - 1)).finish();
        }
        assert_eq!(Pages::new(own(), habits, at & !(PAGE - 1)).len(), 0);
    }

    #[test]
    fn a_usual_page_that_is_gone_ends_the_habit() {
        let word = AtomicU64::new(5);
        let at = word.as_ptr() as u64;
        let base = at & !(PAGE - 1);
        // Nothing is ever mapped at page 1 (vm.mmap_min_addr).
        let used = [(base, MOST_USED), (PAGE, MOST_USED)].into_iter().collect();
        let habits = Habits {
            spare: Vec::new(),
            used,
        };
        let (habits, found) = recording(habits, at);
        assert_eq!(found, 5);
        assert_eq!(habits.used.get(&base), Some(&USE));
        assert_eq!(habits.used.get(&PAGE), None);
    }

    #[test]
    fn all_that_a_small_program_writes_is_usual_at_first() {
        let stack = "7ffe0000-7ffe1000 rw-p 00000000 00:00 0 [stack]\n";
        let small = "00400000-00402000 r-xp 00000000 fe:00 1 /bin/vm\n\
                     00402000-00404000 rw-p 00002000 fe:00 1 /bin/vm\n\
                     10000000-10001000 rw-s 00000000 00:01 2 /memfd:control\n";
        let heap = "20000000-20200000 rw-p 00000000 00:00 0 [heap]\n";
        let of = |parts: &[&str]| if_little(&Maps::parse(&parts.concat()).unwrap()).collect::<Vec<u64>>();
        assert_eq!(of(&[small, stack]), [0x40_2000, 0x40_3000, 0x7ffe_0000]);
        assert_eq!(of(&[heap]).len(), MOST_USUAL);
        assert!(of(&[heap, stack]).is_empty(), "one page more");
    }
}
