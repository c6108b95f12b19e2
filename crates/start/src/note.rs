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

/// A segment of notes, and how they are aligned, by its entry of the table; `None` of any other segment.
pub fn notes(entry: &[u8]) -> Option<(Part, usize)> {
    let notes = Part {
        offset: number(entry, 8, 8)?,
        bytes: number(entry, 32, 8)?,
    };
    let align = if number(entry, 48, 8)? == 8 { 8 } else { 4 };
    (number(entry, 0, 4)? == PT_NOTE).then_some((notes, align))
}

/// Whether the shim's note is among those of a segment.
pub fn is_among(notes: &[u8], align: usize) -> bool {
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

    /// The header of a file with one segment, its entry, and a note in it.
    fn file(owner: &str, kind: u32) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let mut header = b"\x7fELF\x02\x01\x01".to_vec();
        header.resize(16, 0);
        header.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        for word in [0u64, 64, 0] {
            header.extend(word.to_le_bytes());
        }
        header.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 1, 0, 0, 0] {
            header.extend(half.to_le_bytes());
        }
        let mut note = Vec::new();
        for word in [4, 4, 1u32] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"GNU\0abcd");
        for word in [owner.len() as u32 + 1, 3, kind] {
            note.extend(word.to_le_bytes());
        }
        note.extend(owner.as_bytes());
        note.resize((note.len() + 1).next_multiple_of(4), 0);
        note.extend([1, 2, 3, 0]);
        let mut entry = Vec::new();
        for word in [4u32, 4] {
            entry.extend(word.to_le_bytes());
        }
        for word in [120, 0, 0, note.len() as u64, note.len() as u64, 4] {
            entry.extend(word.to_le_bytes());
        }
        (header, entry, note)
    }

    #[test]
    fn the_note_is_found_after_others() {
        let (header, entry, note) = file(NOTE_NAME, NOTE_TYPE);
        assert_eq!(segments(&header), Some(Part { offset: 64, bytes: 56 }));
        let part = Part {
            offset: 120,
            bytes: note.len() as u64,
        };
        assert_eq!(notes(&entry), Some((part, 4)));
        assert!(is_among(&note, 4));
        assert!(!is_among(&file(NOTE_NAME, NOTE_TYPE + 1).2, 4));
        assert!(!is_among(&file("Redmagie", NOTE_TYPE).2, 4));
        assert!(!is_among(&file("Red", NOTE_TYPE).2, 4));
    }

    #[test]
    fn other_files_have_no_segments() {
        let (good, ..) = file(NOTE_NAME, NOTE_TYPE);
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
        let (_, entry, good) = file(NOTE_NAME, NOTE_TYPE);
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
        for length in 0..entry.len() {
            assert_eq!(notes(&entry[..length]), None, "{length} bytes");
        }
    }
}
