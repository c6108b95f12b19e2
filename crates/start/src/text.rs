//! Memory for what is made here: text, and lists of it, for system calls.

use core::cell::UnsafeCell;
use core::ptr;

/// Bytes of memory that there is. What needs more is no matter for this crate.
const ARENA: usize = 64 << 10;

#[repr(align(16))]
struct Bytes(UnsafeCell<[u8; ARENA]>);

// SAFETY: `Arena::take` gives it out once, in a process that has one thread.
unsafe impl Sync for Bytes {}

static BYTES: Bytes = Bytes(UnsafeCell::new([0; ARENA]));

/// Memory that is given out from the beginning, and never again.
pub(crate) struct Arena {
    at: *mut u8,
    left: usize,
}

impl Arena {
    /// All of it.
    ///
    /// # Safety
    /// To be called once.
    pub(crate) unsafe fn take() -> Arena {
        Arena {
            at: BYTES.0.get().cast(),
            left: ARENA,
        }
    }

    /// So many bytes, 16-aligned.
    pub(crate) fn bytes(&mut self, count: usize) -> Option<*mut u8> {
        let count = count.checked_next_multiple_of(16)?;
        self.left = self.left.checked_sub(count)?;
        let given = self.at;
        self.at = given.wrapping_add(count);
        Some(given)
    }

    /// Room for a list of so many pointers.
    pub(crate) fn list(&mut self, count: usize) -> Option<*mut *const u8> {
        self.bytes(count.checked_mul(size_of::<usize>())?).map(<*mut u8>::cast)
    }

    /// Room for a text of up to so many bytes, the zero at its end included.
    pub(crate) fn text(&mut self, count: usize) -> Option<Text> {
        Some(Text {
            at: self.bytes(count)?,
            length: 0,
            left: count,
        })
    }
}

/// A text that grows.
pub(crate) struct Text {
    at: *mut u8,
    length: usize,
    left: usize,
}

impl Text {
    fn push(&mut self, byte: u8) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: within what was given out for this text.
        unsafe { self.at.wrapping_add(self.length).write(byte) };
        self.length += 1;
        Some(())
    }

    pub(crate) fn all(&mut self, bytes: &[u8]) -> Option<()> {
        for byte in bytes {
            self.push(*byte)?;
        }
        Some(())
    }

    pub(crate) fn number(&mut self, value: u64, base: u64) -> Option<()> {
        if value >= base {
            self.number(value / base, base)?;
        }
        let digit = (value % base) as u8;
        self.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 })
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// It, with a zero at its end.
    pub(crate) fn end(mut self) -> Option<*const u8> {
        self.push(0)?;
        Some(self.at)
    }
}

/// The bytes of a text that ends in zero.
///
/// # Safety
/// It must do so, and stay as it is.
pub(crate) unsafe fn bytes(text: *const u8) -> &'static [u8] {
    let mut length = 0;
    // SAFETY: up to its end.
    while unsafe { text.wrapping_add(length).read() } != 0 {
        length += 1;
    }
    // SAFETY: that many have been read.
    unsafe { &*ptr::slice_from_raw_parts(text, length) }
}

pub(crate) fn same(one: &[u8], two: &[u8]) -> bool {
    one.len() == two.len() && begins(one, two)
}

pub(crate) fn begins(text: &[u8], with: &[u8]) -> bool {
    (0..with.len()).all(|index| text.get(index) == with.get(index))
}
