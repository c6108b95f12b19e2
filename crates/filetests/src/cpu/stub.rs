//! The code around each case: load the state, execute, store the state.
//!
//! Every case has a slot of code at a fixed place, made once, with a gap where its instructions are put. All state is at
//! absolute addresses below 2 GiB, so that loading and storing needs no register. The flags go through `popfq` and
//! `pushfq` with rsp pointing into the state.
//!
//! ```text
//! ldmxcsr [in.mxcsr]; vmovups ymm0-15, [in.ymm]; mov rsp, in.flags; popfq; mov rax-r15, [in.gpr]
//! nop (or int3: the case is stepped)
//! ...the case's instructions, then nops...
//! mov [out.gpr], rax-r15; mov rsp, out.flags + 8; pushfq; stmxcsr [out.mxcsr]; vmovups [out.ymm], ymm0-15
//! ```
//!
//! The slots follow each other and end in an `int3`.

/// Cases in one batch.
pub const SLOTS: usize = 256;
/// Bytes of code of a slot.
pub const SLOT: usize = 1024;
/// Where the code is.
pub const CODE: u64 = 0x1357_0000;
/// Where the states to load are.
pub const IN: u64 = 0x2468_0000;
/// Where the states are stored.
pub const OUT: u64 = 0x3579_0000;
/// Where the cases' memory is: a page each.
pub const PAGES: u64 = 0x468a_0000;
/// Bytes of a case's memory.
pub const PAGE: usize = 4096;
/// Bytes of a state.
pub const STATE: usize = 1024;
/// Bytes for a case's instructions.
pub const GAP: usize = 80;

/// Offsets within a state.
pub const GPR: usize = 0;
/// `rflags`.
pub const FLAGS: usize = 128;
/// MXCSR.
pub const MXCSR: usize = 136;
/// The vector registers, 32 bytes each.
pub const YMM: usize = 160;

/// Offset of the instructions in a slot.
pub const ENTRY: usize = 8 * 16 + 9 * 8 + 10 * 8 + 16 + 16 + 16;

fn absolute(code: &mut Vec<u8>, addr: u64) {
    code.extend((addr as u32).to_le_bytes());
}

/// `mov reg, [addr]` (0x8b) or `mov [addr], reg` (0x89).
fn mov(code: &mut Vec<u8>, opcode: u8, reg: usize, addr: u64) {
    code.extend([0x48 | ((reg >> 3) as u8) << 2, opcode, (reg as u8 & 7) << 3 | 4, 0x25]);
    absolute(code, addr);
}

/// `vmovups ymm, [addr]` (0x10) or `vmovups [addr], ymm` (0x11).
fn vmovups(code: &mut Vec<u8>, opcode: u8, reg: usize, addr: u64) {
    code.extend([
        0xc5,
        if reg < 8 { 0xfc } else { 0x7c },
        opcode,
        (reg as u8 & 7) << 3 | 4,
        0x25,
    ]);
    absolute(code, addr);
}

/// The code of slot `index`, [`SLOT`] bytes, with an empty gap.
pub fn slot(index: usize) -> Vec<u8> {
    let input = IN + (index * STATE) as u64;
    let output = OUT + (index * STATE) as u64;
    let mut code = Vec::with_capacity(SLOT);
    // ldmxcsr
    code.extend([0x0f, 0xae, 0x14, 0x25]);
    absolute(&mut code, input + MXCSR as u64);
    for reg in 0..16 {
        vmovups(&mut code, 0x10, reg, input + (YMM + 32 * reg) as u64);
    }
    // mov rsp, imm32; popfq
    code.extend([0x48, 0xc7, 0xc4]);
    absolute(&mut code, input + FLAGS as u64);
    code.push(0x9d);
    for reg in 0..16 {
        mov(&mut code, 0x8b, reg, input + (GPR + 8 * reg) as u64);
    }
    assert!(code.len() < ENTRY);
    code.resize(ENTRY + GAP, 0x90);
    for reg in 0..16 {
        mov(&mut code, 0x89, reg, output + (GPR + 8 * reg) as u64);
    }
    // mov rsp, imm32; pushfq
    code.extend([0x48, 0xc7, 0xc4]);
    absolute(&mut code, output + FLAGS as u64 + 8);
    code.push(0x9c);
    // stmxcsr
    code.extend([0x0f, 0xae, 0x1c, 0x25]);
    absolute(&mut code, output + MXCSR as u64);
    for reg in 0..16 {
        vmovups(&mut code, 0x11, reg, output + (YMM + 32 * reg) as u64);
    }
    // jmp to the next slot
    let next = SLOT as i32 - (code.len() as i32 + 5);
    code.push(0xe9);
    code.extend(next.to_le_bytes());
    assert!(code.len() <= SLOT);
    code.resize(SLOT, 0xcc);
    code
}

/// Where the instructions of slot `index` are.
pub fn entry(index: usize) -> u64 {
    CODE + (index * SLOT + ENTRY) as u64
}

/// The page of slot `index`.
pub fn page(index: usize) -> u64 {
    PAGES + (index * PAGE) as u64
}
