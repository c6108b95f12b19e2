//! What to do at each fork of a recording: follow a call or keep it, end at an anchor or
//! unroll it, give up.
//!
//! The shape of the traces is decided here:
//!
//! * A recording ends when it comes back to its own anchor (a loop), or to another loop
//!   that has a trace (a link): nested loops are compiled inner first.
//! * An inner loop without a trace is unrolled a few times; one that turns more often is
//!   made hot instead, and the recording given up.
//! * Interpreted functions are inlined into loops, compiled or not, until one is entered
//!   more often than `maxrecursion`: then the recording ends at its entry. In the tree of a
//!   function, its own entry ends every recording at once.
//! * A function that a trace has called, as a call that it keeps, is recorded up to its return: generated code changes,
//!   and means nothing without what its trace has put elsewhere.
//! * A loop that goes on in an inner activation of its interpreter (a generator that walks a tree, and delegates to itself)
//!   is recorded for one activation, and so is a function that calls itself that way: what leads to the inner one is kept
//!   as a call, and the recording ends where the activation returns. (A loop that does not come round before is given up.)
//!   Otherwise the native frames of all would be on the stack, and the processor mispredicts each return from a call that
//!   it has not seen.
//! * A recording that came to be too long is made anew, and then ends at an anchor about half-way, whether that has a
//!   trace or not.
//! * Native calls inside the interpreter's image are followed; others, and functions that
//!   turned out not to be worth following, are kept as calls: those with a native loop of
//!   many turns, unless that loop is an interpreter's, which an anchor in it shows.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use iced_x86::{FlowControl, Instruction};
use redmagic_ir::Reg;
use redmagic_proto::ApiFn;
use redmagic_record::abort::Abort;
use redmagic_record::guide::{CallAction, CallSite, Flow, Guide, ShimAction, ShimCallSite};

use crate::engine::join::{Joining, Standing};
use crate::graph::{AnchorKey, JoinKey};
use crate::params::Params;
use crate::registry::Declarations;

/// What the policy must know of the rest of the graph.
pub trait World {
    /// Whether an anchor has a trace.
    fn compiled(&self, key: AnchorKey) -> bool;
    /// Whether nothing will ever be compiled for an anchor.
    fn hopeless(&self, key: AnchorKey) -> bool;
    /// Recordings of a loop that ended because it was left.
    fn left(&self, key: AnchorKey) -> u64;
    /// How it stands with a join.
    fn join(&self, key: &JoinKey) -> Standing;
}

/// How often a recording that leaves its loop is given up for that reason. A loop that is left each time is recorded with
/// what comes in between.
const LEFT: u64 = 3;

/// Instructions that are worth a trace of their own, where nothing but a return follows.
const WORTH_ENDING: u64 = 8;

/// What entering a trace through the shim and leaving it costs, in instructions.
pub const ENTERING: usize = 60;

/// Instructions of one activation that it is worth compiling a trace of, to see whether it saves [`ENTERING`]. (Generators that
/// walk a tree: 112 take as long as they do without.)
const WORTH_ENTERING: u64 = 200;

/// How far apart two loops of one function may be: ids are addresses in its bytecode, as a rule.
const FUNCTION: u64 = 1 << 16;

/// What the program and earlier recordings say about functions.
#[derive(Debug, Clone, Default)]
pub struct Functions {
    /// Calls of these are kept as calls.
    pub residual: HashSet<u64>,
    /// Recordings end at these anchors, since those that went on were too long.
    pub ends: HashSet<AnchorKey>,
    /// In the trees of these roots, functions whose calls are kept as calls, since they lead to inner activations of the
    /// interpreter that come to the same loops.
    pub nesting: HashMap<AnchorKey, HashSet<u64>>,
}

/// Functions that return twice: a jump buffer must not hold an address of generated code,
/// so whoever calls them is kept as a call, whole.
pub const RETURNS_TWICE: &[&str] = &[
    "setjmp",
    "_setjmp",
    "sigsetjmp",
    "__sigsetjmp",
    "getcontext",
    "swapcontext",
    "vfork",
    "savectx",
];

/// What is where in the program.
pub struct Places<'a> {
    /// Whether a callee is a function that returns twice.
    pub returns_twice: &'a dyn Fn(u64) -> bool,
    /// First instructions of `temp_disable` and `temp_enable`.
    pub disable_enable: (u64, u64),
    /// Generated code.
    pub code: Range<u64>,
}

/// How often the loop of an inner activation of the interpreter is passed before a recording ends at its trace. Generators are what that is
/// for: each time that one goes on it comes round once. A link would have to leave its native frames on the stack, and the processor
/// does not expect returns from calls that it has not seen.
const NESTED: u64 = 1;

/// Why a recording was ended ([`redmagic_record::recording::End::Stopped`]): what returns next was called by a trace.
pub const CALLED_BY_TRACE: u32 = 1;

/// The same: the activation returns, and the loop is one that goes on in inner ones.
pub const ACTIVATION_LEFT: u32 = 2;

/// The same: a join ([`crate::engine::join`]).
pub const JOINS: u32 = 3;

/// The policy of one recording.
pub struct Policy<'a, W: World> {
    params: &'a Params,
    world: &'a W,
    functions: &'a Functions,
    start: Option<AnchorKey>,
    root_api: ApiFn,
    root: AnchorKey,
    /// Where it may end at a join.
    joining: Option<(&'a Joining, &'a Declarations)>,
    places: Places<'a>,
    /// Entry addresses of the calls that are being followed, outermost first; those above
    /// `left` belong to callers that the recording has returned into.
    stack: Vec<u64>,
    /// Open inlined calls at the last instruction; negative when more were left than made.
    depth: i32,
    /// Frames left for their callers, at most: `stack` counts from there.
    left: i32,
    /// Functions among them that have reached an anchor: interpreter loops, whose native
    /// backward branches are dispatch (the `switch` in a loop of an eval that calls itself).
    interpreters: HashSet<u64>,
    /// Backward branches taken, by (depth, address).
    native_turns: HashMap<(usize, u64), u64>,
    /// Times an anchor that is not `start` was met, and how many calls were open at the first.
    visits: HashMap<AnchorKey, (u64, usize)>,
    /// Open branchable frames, relative to the start.
    frames: i64,
    /// Open merge blocks.
    merges: u64,
    /// Instructions so far.
    instructions: u64,
    /// What was learnt: functions to keep as calls from now on, loops to record first.
    pub lessons: Lessons,
}

/// What a recording taught, whether it succeeded or not.
#[derive(Debug, Default, Clone)]
pub struct Lessons {
    /// Functions that are better kept as calls.
    pub residual: Vec<u64>,
    /// Inner loops that should be recorded first.
    pub inner: Vec<AnchorKey>,
    /// For [`Functions::nesting`].
    pub nesting: Vec<(AnchorKey, u64)>,
    /// The anchors that were passed, and after how many instructions.
    pub passed: Vec<(u64, AnchorKey)>,
    /// The join at which it ended.
    pub join: Option<JoinKey>,
}

impl Lessons {
    /// Where a recording that was too long may end the next time: the anchor nearest to its middle. The first few
    /// instructions are not worth a trace.
    pub fn half_way(&self, instructions: u64) -> Option<AnchorKey> {
        let passed = self.passed.iter().filter(|(at, _)| *at >= instructions / 8);
        passed
            .min_by_key(|(at, _)| at.abs_diff(instructions / 2))
            .map(|(_, key)| *key)
    }
}

impl<'a, W: World> Policy<'a, W> {
    /// For a recording from the anchor `start`, or from an exit, in the tree of `root`, an anchor that calls `root_api`.
    pub fn new(
        params: &'a Params,
        world: &'a W,
        functions: &'a Functions,
        start: Option<AnchorKey>,
        root_api: ApiFn,
        root: AnchorKey,
        places: Places<'a>,
    ) -> Policy<'a, W> {
        Policy {
            params,
            world,
            functions,
            start,
            root_api,
            root,
            joining: None,
            places,
            stack: Vec::new(),
            depth: 0,
            left: 0,
            interpreters: HashSet::new(),
            native_turns: HashMap::new(),
            visits: HashMap::new(),
            frames: 0,
            merges: 0,
            instructions: 0,
            lessons: Lessons::default(),
        }
    }

    /// May end at a join.
    #[must_use]
    pub fn joining(mut self, joining: &'a Joining, declared: &'a Declarations) -> Self {
        self.joining = Some((joining, declared));
        self
    }

    /// How many followed calls are open at a depth.
    fn level(&self, depth: i32) -> usize {
        usize::try_from(depth + self.left).unwrap_or(0)
    }

    /// Whether a loop jumps back that the recorded one is in: it begins before it, and so the recorded one was left (in the
    /// middle of a turn; at the end, `fellthrough_branch` says so). A trace that goes through the outer loop would be of use
    /// once in as many turns as the inner one makes.
    fn has_left(&self, api: ApiFn, key: AnchorKey, depth: i32) -> bool {
        let Some(root) = self.start else { return false };
        let loops = [api, self.root_api].iter().all(|api| *api == ApiFn::BackwardsBranch);
        let around = key.id < root.id && root.id - key.id < FUNCTION;
        loops && around && depth == 0 && self.frames == 0 && self.world.left(root) < LEFT
    }

    fn anchor(&mut self, api: ApiFn, site: &ShimCallSite) -> ShimAction {
        let key = AnchorKey {
            id: site.args[0],
            return_address: site.return_address,
        };
        let depth = if self.depth < 0 { self.depth } else { site.depth as i32 };
        let caller = self.level(depth).checked_sub(1);
        if let Some(function) = caller.and_then(|at| self.stack.get(at)) {
            self.interpreters.insert(*function);
        }
        if site.tail {
            // A trace can be entered only where a call returns to.
            return ShimAction::Skip { result: 0 };
        }
        let level = self.level(depth);
        if self.start == Some(key) && self.frames == 0 {
            let first = self.level(0);
            return self.nests(first, level).unwrap_or(ShimAction::End);
        }
        if self.has_left(api, key, depth) {
            return ShimAction::Abort(Abort::LoopLeft);
        }
        let (visits, first) = self.visits.entry(key).or_insert((0, level));
        *visits += 1;
        let (visits, first) = (*visits, *first);
        if visits > NESTED
            && let Some(nested) = self.nests(first, level)
        {
            return nested;
        }
        match api {
            // The tree's own function: recursion goes round through its root. Unrolled in every
            // side trace it would be the same code many times over.
            ApiFn::FunctionEntry if key == self.root => return ShimAction::End,
            _ if self.functions.ends.contains(&key) => return ShimAction::End,
            ApiFn::FunctionEntry if visits > self.params.maxrecursion => return ShimAction::End,
            ApiFn::FunctionEntry => {}
            _ if self.world.compiled(key) && (depth <= 0 || visits > NESTED) => return ShimAction::End,
            _ if visits > self.params.maxunroll && !self.world.hopeless(key) && !self.world.compiled(key) => {
                self.lessons.inner.push(key);
                return ShimAction::Abort(Abort::InnerLoop);
            }
            _ => {}
        }
        self.lessons.passed.push((self.instructions, key));
        ShimAction::Skip { result: 0 }
    }

    /// A loop was met with `first` calls open, and is met again with `now`. If that is in an inner activation, the call that leads
    /// there is kept from now on.
    fn nests(&mut self, first: usize, now: usize) -> Option<ShimAction> {
        let called = self.stack.get(first).filter(|_| now > first)?;
        self.lessons.nesting.push((self.root, *called));
        Some(ShimAction::Abort(Abort::Nesting))
    }

    /// Functions whose calls are kept in this tree, if loops of it go on in inner activations.
    fn nesting(&self) -> Option<&HashSet<u64>> {
        self.functions.nesting.get(&self.root)
    }
}

impl<W: World> Guide for Policy<'_, W> {
    fn on_call(&mut self, site: &CallSite) -> CallAction {
        // A recording that has returned from its first frame says depth 0 for every frame
        // above; `level` tells them apart.
        let depth = if self.depth < 0 { self.depth } else { site.depth as i32 };
        self.stack.truncate(self.level(depth));
        if (self.places.returns_twice)(site.resolved) {
            return match self.stack.last() {
                Some(caller) => {
                    self.lessons.residual.push(*caller);
                    CallAction::Abort(Abort::ReturnsTwice)
                }
                None => CallAction::Abort(Abort::ReturnsTwice),
            };
        }
        // The slot still leads to the dynamic linker, which finds its return address elsewhere than a
        // function does. The abort lets the call happen, and the next recording finds it bound.
        if site.lazy {
            return CallAction::Abort(Abort::LazyBinding);
        }
        if !site.in_own_image
            || self.functions.residual.contains(&site.resolved)
            || self.nesting().is_some_and(|kept| kept.contains(&site.resolved))
            || u64::from(site.depth) >= self.params.maxdepth
        {
            return CallAction::Residual;
        }
        self.stack.push(site.resolved);
        // Its turns are its own, not those of the call before it.
        let level = self.stack.len();
        self.native_turns.retain(|(other, _), _| *other < level);
        CallAction::Inline
    }

    fn on_inst(&mut self, ip: u64, instruction: &Instruction, depth: i32) -> Flow {
        if self.places.code.contains(&ip) {
            return Flow::Abort(Abort::FrameLeft);
        }
        self.instructions += 1;
        self.depth = depth;
        self.left = self.left.max(-depth);
        let level = self.level(depth);
        if level > 0
            && matches!(
                instruction.flow_control(),
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
            )
            && instruction.near_branch_target() <= ip
            && instruction.near_branch_target() != 0
        {
            self.stack.truncate(level);
            let turns = self.native_turns.entry((level, ip)).or_insert(0);
            *turns += 1;
            if *turns > self.params.maxnative
                && let Some(function) = self.stack.last()
                && !self.interpreters.contains(function)
            {
                self.lessons.residual.push(*function);
                return Flow::Abort(Abort::NativeLoop);
            }
        }
        Flow::Continue
    }

    fn on_jump(&mut self, ip: u64, regs: &[u64; 16]) -> Flow {
        let Some((joining, declared)) = self.joining else {
            return Flow::Continue;
        };
        if self.frames != 0 || self.merges != 0 {
            return Flow::Continue;
        }
        let points = |reg: &&Reg| declared.constant_at(regs[reg.index()]).is_some();
        let Some(register) = joining.registers.iter().find(points) else {
            return Flow::Continue;
        };
        let key = JoinKey {
            root: joining.root,
            ip,
            register: *register,
            pc: regs[register.index()],
        };
        let ends = match self.world.join(&key) {
            Standing::New => self.instructions >= joining.after,
            Standing::Shared => true,
            Standing::Hopeless => false,
        };
        if !ends {
            return Flow::Continue;
        }
        self.lessons.join = Some(key);
        Flow::End(JOINS)
    }

    fn on_return(&mut self, target: u64) -> Flow {
        let ends = if self.places.code.contains(&target) {
            CALLED_BY_TRACE
        } else if self.nesting().is_some() && self.left == 0 {
            ACTIVATION_LEFT
        } else {
            return Flow::Continue;
        };
        let is_root = self.start.is_some();
        let is_loop = is_root && self.root_api != ApiFn::FunctionEntry;
        let worth = if is_root && ends == ACTIVATION_LEFT {
            WORTH_ENTERING
        } else {
            WORTH_ENDING
        };
        if is_loop || self.instructions < worth {
            return Flow::Abort(Abort::FrameLeft);
        }
        Flow::End(ends)
    }

    fn on_shim_call(&mut self, site: &ShimCallSite) -> ShimAction {
        let Some(api) = ApiFn::from_index(usize::from(site.api.0)) else {
            return ShimAction::Abort(Abort::LostTrack);
        };
        match api {
            ApiFn::BackwardsBranch | ApiFn::FunctionEntry | ApiFn::ForceBeginTrace | ApiFn::ForceJumpToTrace => {
                self.anchor(api, site)
            }
            ApiFn::FellthroughBranch => match self.start {
                Some(key) if key.id == site.args[0] && self.frames == 0 => ShimAction::Abort(Abort::LoopLeft),
                _ => ShimAction::Skip { result: 0 },
            },
            ApiFn::ForceEndTrace => match self.start {
                Some(key) if key.id == site.args[0] && self.root_api == ApiFn::ForceBeginTrace => ShimAction::End,
                _ => ShimAction::Skip { result: 0 },
            },
            ApiFn::EnsureNotTraced => ShimAction::Abort(Abort::EnsureNotTraced),
            ApiFn::TempDisable => {
                let (enter, leave) = self.places.disable_enable;
                ShimAction::NativeUntil { enter, leave }
            }
            ApiFn::TempEnable => ShimAction::Abort(Abort::Unbalanced),
            ApiFn::IsTraced => ShimAction::Skip { result: 1 },
            ApiFn::BeginMergeBlock => {
                self.merges += 1;
                ShimAction::Skip { result: 0 }
            }
            ApiFn::EndMergeBlock if self.merges > 0 => {
                self.merges -= 1;
                ShimAction::Skip { result: 0 }
            }
            // A trace that starts inside a block ends with it: the native function then
            // rejoins the trace that was left.
            ApiFn::EndMergeBlock => ShimAction::End,
            ApiFn::Promote => ShimAction::Skip { result: site.args[0] },
            ApiFn::BeginBranchableFrame => {
                self.frames += 1;
                ShimAction::RunNative
            }
            ApiFn::EndBranchableFrame => {
                self.frames -= 1;
                if self.frames < 0 && self.start.is_some() && self.root_api != ApiFn::FunctionEntry {
                    return ShimAction::Abort(Abort::FrameLeft);
                }
                ShimAction::RunNative
            }
            ApiFn::Start
            | ApiFn::DoNotTraceFunction
            | ApiFn::DisableBranch
            | ApiFn::ConstantMemory
            | ApiFn::ConstantMemoryEnd
            | ApiFn::ElidableFunction => ShimAction::RunNative,
        }
    }
}
