//! Unwind information for the code region: one description for all of it.
//!
//! The only frames that an unwinder can find in generated code are those of calls that
//! were kept as calls: their return address `T` points at a NOP whose displacement, at
//! `T + 3`, is the original return address less `T` (see `redmagic_emit::copy`). At that
//! point the stack pointer and every register are those of the original function at its
//! own return address. So a frame in generated code is unwound like this:
//!
//! * the CFA is the stack pointer: the frame is empty;
//! * every register keeps its value;
//! * the return address is `T + sign_extend(*(u32 *)(T + 3))`, where `T` stands on the
//!   stack just below the CFA, as the callee left it.
//!
//! The unwinder goes on in the original function, with its own description, its own
//! language-specific data and landing pads. A C++ exception that passes a trace
//! therefore leaves it and is handled as without it.

/// How many bytes [`frames`] gives at the most.
pub const FRAMES_BYTES: usize = 128;

/// A CIE, one FDE for `[start, start + length)` and the terminator, in the form of
/// `.eh_frame` that `__register_frame` takes (Linux Standard Base, section 10.6).
pub fn frames(start: u64, length: u64) -> Vec<u8> {
    const DEF_CFA: u8 = 0x0c;
    const VAL_EXPRESSION: u8 = 0x16;
    const RSP: u8 = 7;
    const RIP: u8 = 16;
    // With the CFA on the expression stack:
    let expression = [
        0x38, // lit8
        0x1c, // minus
        0x06, // deref                 T
        0x12, // dup
        0x33, // lit3
        0x22, // plus
        0x94, 4, // deref_size 4       the displacement, zero-extended
        0x08, 32, 0x24, // const1u 32, shl
        0x08, 32, 0x26, // const1u 32, shra
        0x22, // plus
    ];
    let mut cie = vec![0, 0, 0, 0]; // id
    cie.push(1); // version
    cie.push(0); // no augmentation: addresses are absolute
    cie.push(1); // code alignment
    cie.push(0x78); // data alignment -8
    cie.push(RIP); // return address column
    cie.extend([DEF_CFA, RSP, 0]);
    cie.extend([VAL_EXPRESSION, RIP, expression.len() as u8]);
    cie.extend(expression);

    let mut out = Vec::with_capacity(FRAMES_BYTES);
    record(&mut out, &cie);
    let mut fde = (out.len() as u32 + 4).to_le_bytes().to_vec(); // back to the CIE
    fde.extend(start.to_le_bytes());
    fde.extend(length.to_le_bytes());
    record(&mut out, &fde);
    out.extend([0; 4]);
    assert!(out.len() <= FRAMES_BYTES);
    out
}

/// Appends a length and a body padded with DW_CFA_nop to a multiple of 8.
fn record(out: &mut Vec<u8>, body: &[u8]) {
    let padded = (body.len() + 4).next_multiple_of(8) - 4;
    out.extend((padded as u32).to_le_bytes());
    out.extend(body);
    out.resize(out.len() + padded - body.len(), 0);
}
