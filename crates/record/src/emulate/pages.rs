//! The target's memory as the emulator sees it: pages copied on first use, written to here only, and thrown away at the end.

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

/// The cache and overlay.
#[derive(Debug)]
pub(crate) struct Pages {
    memory: Memory,
    numbers: FxHashMap<u64, u32>,
    pages: Vec<Page>,
    /// (page address, index in `pages`), by the address's low bits. No page has the address 1.
    recent: [(u64, u32); RECENT],
}

impl Pages {
    pub(crate) fn new(memory: Memory) -> Pages {
        Pages {
            memory,
            numbers: FxHashMap::default(),
            pages: Vec::new(),
            recent: [(1, 0); RECENT],
        }
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
            return Some(*number);
        }
        if self.pages.len() >= MAX_PAGES {
            return None;
        }
        let mut page: Page = Box::new([0; PAGE as usize]);
        self.memory.read_exact(base, &mut page[..]).ok()?;
        let number = self.pages.len() as u32;
        self.pages.push(page);
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
