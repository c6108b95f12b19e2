//! The shim's thread-local words, which generated code reaches fs-relative.

/// One thread's words. Generated code writes them (a trace that passes
/// `temp_disable` or enters a merge block says here where it can be rejoined), so
/// the layout is part of the protocol.
#[repr(C)]
#[derive(Debug)]
pub struct ThreadWords {
    /// Nesting depth of `temp_disable`. Anchors do nothing unless it is 0.
    pub disable_depth: u64,
    /// The branchable frame this thread is in; 0 outside any.
    pub frame: u64,
    /// The number the next frame gets (less one).
    pub frames_begun: u64,
    /// How many branchable frames are open.
    pub frame_depth: u64,
    /// Where `end_merge_block` rejoins a trace.
    pub merge: Rejoin,
    /// Where `temp_enable` rejoins a trace.
    pub enable: Rejoin,
}

/// A point at which native code may go back into a trace: when the shim function
/// concerned is called with exactly this return address at exactly this stack
/// depth, it jumps to `code` in place of returning.
#[repr(C)]
#[derive(Debug)]
pub struct Rejoin {
    /// Address in the code region; 0 means none. The jump pops the return address
    /// first.
    pub code: u64,
    /// The return address that must be on the stack.
    pub return_address: u64,
    /// The stack pointer at the function's first instruction.
    pub rsp: u64,
}
