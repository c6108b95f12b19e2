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
