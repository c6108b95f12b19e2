//! Finding the shim's note in an ELF file.

use redmagic_proto::descriptor::{NOTE_NAME, NOTE_TYPE};

/// Size of the header of an ELF file.
pub const HEADER: usize = 64;
/// Size of an entry of its table of segments.
pub const SEGMENT: usize = 56;
/// `p_type` of notes.
const PT_NOTE: u64 = 4;

/// Where in a file something is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its first byte.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// The table of segments, by the header of an x86-64 ELF file; `None` of anything else.
pub fn segments(header: &[u8]) -> Option<Part> {
    let is = |at, value: u8| header.get(at) == Some(&value);
    let elf = is(0, 0x7f) && is(1, b'E') && is(2, b'L') && is(3, b'F');
    // Class, byte order, machine.
    let ours = elf && is(4, 2) && is(5, 1) && number(header, 18, 2)? == 62;
    let entry = number(header, 54, 2)?;
    let table = Part {
        offset: number(header, 32, 8)?,
        bytes: number(header, 56, 2)? * entry,
    };
    (ours && entry == SEGMENT as u64).then_some(table)
}

/// A segment of notes, and its `p_align`, by its entry of the table; `None` of any other segment.
pub fn notes(entry: &[u8]) -> Option<(Part, u64)> {
    let notes = Part {
        offset: number(entry, 8, 8)?,
        bytes: number(entry, 32, 8)?,
    };
    let align = number(entry, 48, 8)?;
    (number(entry, 0, 4)? == PT_NOTE).then_some((notes, align))
}

/// Whether the shim's note is among those of a segment with that `p_align`.
pub fn is_among(notes: &[u8], align: u64) -> bool {
    let align = if align == 8 { 8 } else { 4 };
    let mut at = 0;
    while let Some((name, description, kind)) = header(notes, at) {
        let begin = at + 12;
        if u64::from(NOTE_TYPE) == kind && is_name(notes, begin, name) {
            return true;
        }
        let up = |bytes: usize| bytes.checked_add(align - 1).map(|bytes| bytes & !(align - 1));
        let next = begin.checked_add(name).and_then(up);
        match next.and_then(|next| next.checked_add(description)).and_then(up) {
            Some(next) => at = next,
            None => return false,
        }
    }
    false
}

/// Lengths of name and description of the note there, and its type.
fn header(notes: &[u8], at: usize) -> Option<(usize, usize, u64)> {
    let name = number(notes, at, 4)? as usize;
    let description = number(notes, at.checked_add(4)?, 4)? as usize;
    Some((name, description, number(notes, at.checked_add(8)?, 4)?))
}

/// Whether the shim's name is there, in so many bytes, the zero that ends it included.
fn is_name(notes: &[u8], at: usize, bytes: usize) -> bool {
    let wanted = NOTE_NAME.as_bytes();
    let same = |index: usize| notes.get(at + index) == wanted.get(index);
    bytes == wanted.len() + 1 && (0..wanted.len()).all(same)
}

/// A little-endian number of so many bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let mut value = 0;
    for index in (0..size).rev() {
        value = value << 8 | u64::from(*bytes.get(at.checked_add(index)?)?);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two notes, the second of this owner and type.
    fn two(owner: &str, kind: u32) -> Vec<u8> {
        let mut notes = Vec::new();
        for (owner, kind) in [("GNU", 1), (owner, kind)] {
            for word in [owner.len() as u32 + 1, 3, kind] {
                notes.extend(word.to_le_bytes());
            }
            notes.extend(owner.as_bytes());
            notes.resize((notes.len() + 1).next_multiple_of(4), 0);
            notes.extend([1, 2, 3, 0]);
        }
        notes
    }

    /// The bytes of this very program.
    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    fn part(of: &[u8], part: Part) -> &[u8] {
        &of[part.offset as usize..][..part.bytes as usize]
    }

    #[test]
    fn the_note_is_found_after_others() {
        assert!(is_among(&two(NOTE_NAME, NOTE_TYPE), 4));
        assert!(!is_among(&two(NOTE_NAME, NOTE_TYPE + 1), 4));
        assert!(!is_among(&two("Redmagie", NOTE_TYPE), 4));
        assert!(!is_among(&two("Red", NOTE_TYPE), 4));
    }

    #[test]
    fn the_notes_of_a_program_are_found() {
        let own = own();
        let table = part(&own, segments(&own[..HEADER]).unwrap());
        let found: Vec<_> = table.chunks_exact(SEGMENT).filter_map(notes).collect();
        assert!(
            found
                .iter()
                .any(|(of, _)| part(&own, *of).windows(4).any(|owner| owner == b"GNU\0"))
        );
        assert!(!found.iter().any(|(of, align)| is_among(part(&own, *of), *align)));
        for entry in table.chunks_exact(SEGMENT) {
            for length in 0..SEGMENT {
                assert_eq!(notes(&entry[..length]), None, "{length} bytes");
            }
        }
    }

    #[test]
    fn other_files_have_no_segments() {
        let good = own()[..HEADER].to_vec();
        for (at, value) in [(0, b'#'), (3, b'f'), (4, 1), (5, 2), (18, 3), (54, 32)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(segments(&bad), None, "byte {at}");
        }
        for length in 0..58 {
            assert_eq!(segments(&good[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn damaged_notes_are_not_trusted() {
        let good = two(NOTE_NAME, NOTE_TYPE);
        for length in 0..good.len() - 4 - NOTE_NAME.len() {
            assert!(!is_among(&good[..length], 4), "{length} bytes");
        }
        for at in 0..good.len() {
            for value in [0, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                is_among(&bad, 4);
                is_among(&bad, 8);
            }
        }
    }
}
