//! `/proc/PID/maps`: what is mapped where.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::memory::PAGE;

/// Lowest address that we ask for; below are mmap_min_addr and null-pointer traps.
const LOWEST: u64 = 0x1_0000;
/// End of user space with four-level page tables.
const HIGHEST: u64 = 0x7fff_ffff_f000;

/// Access rights of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Perms {
    /// Readable.
    pub read: bool,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub exec: bool,
    /// MAP_SHARED.
    pub shared: bool,
}

/// One line of `/proc/PID/maps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// Access rights.
    pub perms: Perms,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Device of the file, (major, minor).
    pub device: (u32, u32),
    /// Inode of the file; 0 for memory without a file.
    pub inode: u64,
    /// Path or pseudo-path (`[stack]`, `[vdso]`); empty for anonymous memory. A deleted file ends in " (deleted)".
    pub path: String,
}

impl Region {
    /// Whether `address` is inside.
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// Whether it maps a file.
    pub fn is_file(&self) -> bool {
        self.inode != 0
    }
}

/// All mappings of a process at one time, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maps {
    regions: Vec<Region>,
}

impl Maps {
    /// Reads the mappings of `pid`. A process that maps memory meanwhile may or may not have it shown.
    ///
    /// # Errors
    /// [`Error::Gone`], or EACCES when it may not be looked at.
    pub fn read(pid: i32) -> Result<Self> {
        // Not UTF-8 is possible in paths, and must not lose the other lines.
        let bytes = crate::process::read_proc(pid, "maps")?;
        Maps::parse(&String::from_utf8_lossy(&bytes)).map_err(|detail| Error::Parse {
            what: format!("/proc/{pid}/maps"),
            pid,
            detail,
        })
    }

    /// Parses the text of a maps file.
    ///
    /// # Errors
    /// The first line that is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let regions = text
            .lines()
            .map(|line| parse_line(line).ok_or_else(|| format!("line not understood: {line:?}")))
            .collect::<Result<_, _>>()?;
        Ok(Maps { regions })
    }

    /// All regions, ascending.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The region that `address` is in.
    pub fn find(&self, address: u64) -> Option<&Region> {
        let index = self.regions.partition_point(|r| r.end <= address);
        self.regions.get(index).filter(|r| r.contains(address))
    }

    /// The lowest address of the image (all adjacent regions of the same file) that `address` is in, and one past its highest.
    pub fn image_range(&self, address: u64) -> Option<Range<u64>> {
        let region = self.find(address)?;
        let same = self
            .regions
            .iter()
            .filter(|r| (r.device, r.inode, &r.path) == (region.device, region.inode, &region.path));
        same.fold(None, |range: Option<Range<u64>>, r| {
            Some(range.map_or(r.start..r.end, |o| o.start.min(r.start)..o.end.max(r.end)))
        })
    }

    /// The free range of `len` bytes (rounded up to pages), aligned to `align` (a power of two, at least a page), that is closest
    /// to `near` and lies wholly within `distance` bytes of every byte of `near`: that is, any byte of the one reaches any
    /// byte of the other with a displacement of at most `distance`.
    ///
    /// A guard page is left free on either side, so that it merges with no neighbour and a growing stack is not met.
    pub fn find_gap(&self, near: Range<u64>, distance: u64, len: u64, align: u64) -> Option<u64> {
        let len = len.checked_next_multiple_of(PAGE)?;
        let align = align.max(PAGE);
        if !align.is_power_of_two() || len == 0 {
            return None;
        }
        let lowest = near.end.saturating_sub(distance).max(LOWEST);
        let highest = near.start.saturating_add(distance).min(HIGHEST);
        let mut best: Option<(u64, u64)> = None;
        let mut previous_end = 0u64;
        let ends = self
            .regions
            .iter()
            .map(|r| (r.start, r.end))
            .chain([(u64::MAX, u64::MAX)]);
        for (next_start, next_end) in ends {
            let start = previous_end.saturating_add(PAGE).max(lowest);
            let end = next_start.saturating_sub(PAGE).min(highest);
            previous_end = previous_end.max(next_end);
            if end < start || end - start < len {
                continue;
            }
            // The candidates closest to `near` in this hole: its lowest and its highest fit.
            let low = start.checked_next_multiple_of(align);
            let high = Some((end - len) & !(align - 1));
            for at in [low, high].into_iter().flatten() {
                if at < start || at > end - len {
                    continue;
                }
                let apart = if at >= near.end {
                    at - near.end
                } else {
                    near.start.saturating_sub(at + len)
                };
                if best.is_none_or(|(d, _)| apart < d) {
                    best = Some((apart, at));
                }
            }
        }
        best.map(|(_, at)| at)
    }
}

fn parse_line(line: &str) -> Option<Region> {
    // start-end perms offset major:minor inode        path
    let mut rest = line;
    let mut field = || {
        rest = rest.trim_start_matches(' ');
        let (head, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = tail;
        head
    };
    let (range, perms, offset, device, inode) = (field(), field(), field(), field(), field());
    let (start, end) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    let flags = perms.as_bytes();
    if flags.len() != 4 {
        return None;
    }
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    if end < start {
        return None;
    }
    Some(Region {
        start,
        end,
        perms: Perms {
            read: flags[0] == b'r',
            write: flags[1] == b'w',
            exec: flags[2] == b'x',
            shared: flags[3] == b's',
        },
        offset: u64::from_str_radix(offset, 16).ok()?,
        device: (
            u32::from_str_radix(major, 16).ok()?,
            u32::from_str_radix(minor, 16).ok()?,
        ),
        inode: inode.parse().ok()?,
        path: rest.trim_start_matches(' ').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
555555554000-555555556000 r--p 00000000 fe:01 1234                       /usr/bin/with space
555555556000-555555558000 r-xp 00002000 fe:01 1234                       /usr/bin/with space
555555700000-555555701000 rw-p 00000000 00:00 0
7ffff7fc1000-7ffff7fc3000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

    #[test]
    fn parses_and_finds() {
        let maps = Maps::parse(TEXT).unwrap();
        assert_eq!(maps.regions().len(), 5);
        let text = maps.find(0x5555_5555_6001).unwrap();
        assert_eq!(
            (text.path.as_str(), text.inode, text.offset),
            ("/usr/bin/with space", 1234, 0x2000)
        );
        assert!(text.perms.exec && !text.perms.write && !text.perms.shared);
        assert_eq!(
            maps.image_range(0x5555_5555_4000),
            Some(0x5555_5555_4000..0x5555_5555_8000)
        );
        assert!(maps.find(0x5555_5555_8000).is_none());
        assert!(maps.find(0).is_none());
        assert_eq!(maps.find(0x5555_5570_0fff).unwrap().path, "");
    }

    #[test]
    fn malformed_lines_are_errors() {
        for bad in [
            "x",
            "1-2 r-xp",
            "2-1 r-xp 0 0:0 0",
            "1-2 rx 0 0:0 0",
            "1-2 r-xp 0 00 0",
            "\0",
        ] {
            assert!(Maps::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn gap_is_near_free_and_aligned() {
        let maps = Maps::parse(TEXT).unwrap();
        let near = 0x5555_5555_4000..0x5555_5555_8000;
        let at = maps.find_gap(near.clone(), 1 << 31, 0x1_0000, PAGE).unwrap();
        // Just below or above the image, one guard page apart.
        assert!(
            at == 0x5555_5555_9000 || at + 0x1_0000 + PAGE == 0x5555_5555_4000,
            "{at:#x}"
        );
        let big = maps.find_gap(near.clone(), 1 << 31, 1 << 28, 1 << 21).unwrap();
        assert_eq!(big % (1 << 21), 0);
        assert!(near.end - big.min(near.end) <= 1 << 31 && (big + (1 << 28)).saturating_sub(near.start) <= 1 << 31);
        assert!(
            maps.regions()
                .iter()
                .all(|r| r.end <= big || r.start >= big + (1 << 28))
        );
        assert_eq!(maps.find_gap(near.clone(), 0x1_0000, 1 << 20, PAGE), None);
        assert_eq!(maps.find_gap(near, 1 << 31, u64::MAX, PAGE), None);
    }
}
