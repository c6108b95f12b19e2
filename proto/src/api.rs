//! The functions of `redmagic.h`, in one table.

macro_rules! api {
    ($($(#[$doc:meta])* $variant:ident = $symbol:literal, $anchor:literal;)*) => {
        /// A function of the C API, by its place in [`crate::descriptor::Descriptor::api`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ApiFn { $($(#[$doc])* $variant),* }

        impl ApiFn {
            /// Every function, in the order of the descriptor.
            pub const ALL: &'static [ApiFn] = &[$(ApiFn::$variant),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The C symbol.
            pub const fn symbol(self) -> &'static str {
                match self { $(ApiFn::$variant => $symbol),* }
            }

            /// Whether a trace may start at this function's return.
            pub const fn is_anchor(self) -> bool {
                match self { $(ApiFn::$variant => $anchor),* }
            }

            /// The function with this place in the table.
            pub fn from_index(index: usize) -> Option<ApiFn> {
                Self::ALL.get(index).copied()
            }
        }
    };
}

api! {
    /// Prepares the process, connects to a daemon.
    Start = "redmagic_start", false;
    /// A loop goes round.
    BackwardsBranch = "redmagic_backwards_branch", true;
    /// A loop is over.
    FellthroughBranch = "redmagic_fellthrough_branch", false;
    /// A function of the interpreted program begins.
    FunctionEntry = "redmagic_function_entry", true;
    /// An activation begins.
    BeginBranchableFrame = "redmagic_begin_branchable_frame", false;
    /// An activation ends.
    EndBranchableFrame = "redmagic_end_branchable_frame", false;
    /// Record from here at once.
    ForceBeginTrace = "redmagic_force_begin_trace", true;
    /// End that recording.
    ForceEndTrace = "redmagic_force_end_trace", false;
    /// Go on in the trace of an id.
    ForceJumpToTrace = "redmagic_force_jump_to_trace", true;
    /// No trace passes here.
    EnsureNotTraced = "redmagic_ensure_not_traced", false;
    /// Stop tracing until the matching enable.
    TempDisable = "redmagic_temp_disable", false;
    /// Trace again.
    TempEnable = "redmagic_temp_enable", false;
    /// Keep calls of a function as calls.
    DoNotTraceFunction = "redmagic_do_not_trace_function", false;
    /// No trace starts at an id.
    DisableBranch = "redmagic_disable_branch", false;
    /// Is this code in a trace?
    IsTraced = "redmagic_is_traced", false;
    /// Paths part.
    BeginMergeBlock = "redmagic_begin_merge_block", false;
    /// Paths come together.
    EndMergeBlock = "redmagic_end_merge_block", false;
    /// Compile for this value.
    Promote = "redmagic_promote", false;
    /// Bytes that do not change.
    ConstantMemory = "redmagic_constant_memory", false;
    /// They may change from now on.
    ConstantMemoryEnd = "redmagic_constant_memory_end", false;
    /// A pure function.
    ElidableFunction = "redmagic_elidable_function", false;
}
