//! The policy's answers, one question at a time.

mod common;

use std::collections::{HashMap, HashSet};

use common::{TEXT, key};
use iced_x86::{Decoder, DecoderOptions};
use redmagic_engine::Params;
use redmagic_engine::engine::join::{Joining, Standing};
use redmagic_engine::graph::{AnchorKey, JoinKey, Origin};
use redmagic_engine::policy::{ACTIVATION_LEFT, CALLED_BY_TRACE, Functions, JOINS, Places, Policy, World};
use redmagic_engine::registry::Declarations;
use redmagic_ir::Reg;
use redmagic_proto::ApiFn;
use redmagic_proto::registry::KIND_CONSTANT_MEMORY;
use redmagic_record::abort::Abort;
use redmagic_record::guide::{CallAction, CallSite, Flow, Guide, ShimAction, ShimCallSite};
use redmagic_record::recording::Api;

#[derive(Default)]
struct Known {
    compiled: HashSet<AnchorKey>,
    hopeless: HashSet<AnchorKey>,
    left: u64,
    join: Option<Standing>,
}

impl World for Known {
    fn compiled(&self, key: AnchorKey) -> bool {
        self.compiled.contains(&key)
    }
    fn hopeless(&self, key: AnchorKey) -> bool {
        self.hopeless.contains(&key)
    }
    fn left(&self, _: AnchorKey) -> u64 {
        self.left
    }
    fn join(&self, _: &JoinKey) -> Standing {
        self.join.unwrap_or(Standing::New)
    }
}

const SETJMP: u64 = 0x7f00_0000;
const CODE: u64 = 0x7e00_0000;

struct Case {
    params: Params,
    world: Known,
    functions: Functions,
    origin: Origin,
    api: ApiFn,
}

impl Case {
    fn new() -> Case {
        Case {
            params: Params::default(),
            world: Known::default(),
            functions: Functions::default(),
            origin: Origin::Root(key(1)),
            api: ApiFn::BackwardsBranch,
        }
    }

    fn policy(&self) -> Policy<'_, Known> {
        Policy::new(
            &self.params,
            &self.world,
            &self.functions,
            match self.origin {
                Origin::Root(key) => Some(key),
                Origin::Side { .. } => None,
            },
            self.api,
            key(1),
            Places {
                returns_twice: &|a| a == SETJMP,
                disable_enable: (1, 2),
                code: CODE..CODE + 0x1000,
            },
        )
    }
}

fn shim(api: ApiFn, id: u64) -> ShimCallSite {
    ShimCallSite {
        api: Api(api as u8),
        args: [id, 0],
        return_address: key(0).return_address,
        ip: TEXT + 0x100,
        rsp: 0x1000,
        tail: false,
        depth: 0,
    }
}

fn call(resolved: u64, in_own_image: bool, depth: u32) -> CallSite {
    CallSite {
        ip: TEXT,
        target: resolved,
        resolved,
        lazy: false,
        return_address: TEXT + 5,
        rsp: 0x1000,
        in_own_image,
        tail: false,
        depth,
    }
}

const SKIP: ShimAction = ShimAction::Skip { result: 0 };

#[test]
fn a_recording_ends_at_its_own_anchor() {
    let case = Case::new();
    assert_eq!(
        case.policy().on_shim_call(&shim(ApiFn::BackwardsBranch, key(1).id)),
        ShimAction::End
    );
}

#[test]
fn in_a_deeper_frame_the_same_anchor_is_another_loop() {
    let case = Case::new();
    let mut policy = case.policy();
    assert_eq!(
        policy.on_shim_call(&shim(ApiFn::BeginBranchableFrame, 0)),
        ShimAction::RunNative
    );
    assert_eq!(policy.on_shim_call(&shim(ApiFn::BackwardsBranch, key(1).id)), SKIP);
    assert_eq!(
        policy.on_shim_call(&shim(ApiFn::EndBranchableFrame, 0)),
        ShimAction::RunNative
    );
    assert_eq!(
        policy.on_shim_call(&shim(ApiFn::BackwardsBranch, key(1).id)),
        ShimAction::End
    );
}

/// What a policy says of a return after some instructions.
fn returns(case: &Case, instructions: usize, target: u64) -> Flow {
    let mut policy = case.policy();
    let nop = Decoder::with_ip(64, &[0x90], TEXT, DecoderOptions::NONE).decode();
    for _ in 0..instructions {
        assert_eq!(policy.on_inst(TEXT, &nop, 0), Flow::Continue);
    }
    policy.on_return(target)
}

#[test]
fn what_a_trace_has_called_is_recorded_up_to_its_return() {
    let side = Case {
        origin: Origin::Side { exit: 1, parent: 0 },
        ..Case::new()
    };
    let function = Case {
        api: ApiFn::FunctionEntry,
        ..Case::new()
    };
    for case in [&side, &function] {
        assert_eq!(returns(case, 100, TEXT), Flow::Continue);
        assert_eq!(returns(case, 100, CODE + 8), Flow::End(CALLED_BY_TRACE));
        assert_eq!(returns(case, 1, CODE + 8), Flow::Abort(Abort::FrameLeft));
    }
    // A loop that does not come back is none.
    assert_eq!(returns(&Case::new(), 100, CODE + 8), Flow::Abort(Abort::FrameLeft));
}

#[test]
fn generated_code_is_not_recorded() {
    let case = Case::new();
    let nop = Decoder::with_ip(64, &[0x90], CODE, DecoderOptions::NONE).decode();
    assert_eq!(case.policy().on_inst(CODE, &nop, 0), Flow::Abort(Abort::FrameLeft));
}

#[test]
fn leaving_the_frame_of_the_loop_ends_the_recording() {
    let case = Case::new();
    let left = case.policy().on_shim_call(&shim(ApiFn::EndBranchableFrame, 0));
    assert_eq!(left, ShimAction::Abort(Abort::FrameLeft));
    // A function's trace may return, and so may a side trace.
    let function = Case {
        api: ApiFn::FunctionEntry,
        ..Case::new()
    };
    assert_eq!(
        function.policy().on_shim_call(&shim(ApiFn::EndBranchableFrame, 0)),
        ShimAction::RunNative
    );
    let side = Case {
        origin: Origin::Side { exit: 0, parent: 0 },
        ..Case::new()
    };
    assert_eq!(
        side.policy().on_shim_call(&shim(ApiFn::EndBranchableFrame, 0)),
        ShimAction::RunNative
    );
}

#[test]
fn another_loop_with_a_trace_is_linked_to() {
    let mut case = Case::new();
    case.world.compiled.insert(key(2));
    assert_eq!(
        case.policy().on_shim_call(&shim(ApiFn::BackwardsBranch, key(2).id)),
        ShimAction::End
    );
}

#[test]
fn an_inner_loop_without_a_trace_is_unrolled_and_then_recorded_first() {
    let case = Case::new();
    let mut policy = case.policy();
    for _ in 0..case.params.maxunroll {
        assert_eq!(policy.on_shim_call(&shim(ApiFn::BackwardsBranch, key(2).id)), SKIP);
    }
    let last = policy.on_shim_call(&shim(ApiFn::BackwardsBranch, key(2).id));
    assert_eq!(last, ShimAction::Abort(Abort::InnerLoop));
    assert_eq!(policy.lessons.inner, [key(2)]);
}

#[test]
fn a_hopeless_inner_loop_is_unrolled_as_far_as_it_goes() {
    let mut case = Case::new();
    case.world.hopeless.insert(key(2));
    let mut policy = case.policy();
    for _ in 0..100 {
        assert_eq!(policy.on_shim_call(&shim(ApiFn::BackwardsBranch, key(2).id)), SKIP);
    }
}

#[test]
fn functions_are_inlined_until_they_recur() {
    let mut case = Case::new();
    case.world.compiled.insert(key(2));
    let mut policy = case.policy();
    for _ in 0..case.params.maxrecursion {
        assert_eq!(policy.on_shim_call(&shim(ApiFn::FunctionEntry, key(2).id)), SKIP);
    }
    assert_eq!(
        policy.on_shim_call(&shim(ApiFn::FunctionEntry, key(2).id)),
        ShimAction::End
    );
}

#[test]
fn in_the_tree_of_a_function_its_own_entry_ends_a_recording() {
    let case = Case {
        origin: Origin::Side { exit: 0, parent: 0 },
        api: ApiFn::FunctionEntry,
        ..Case::new()
    };
    let mut policy = case.policy();
    assert_eq!(policy.on_shim_call(&shim(ApiFn::FunctionEntry, key(2).id)), SKIP);
    assert_eq!(
        policy.on_shim_call(&shim(ApiFn::FunctionEntry, key(1).id)),
        ShimAction::End
    );
}

#[test]
fn falling_through_matters_to_the_running_loop_only() {
    let case = Case::new();
    let through = |id| case.policy().on_shim_call(&shim(ApiFn::FellthroughBranch, id));
    assert_eq!(through(key(1).id), ShimAction::Abort(Abort::LoopLeft));
    assert_eq!(through(key(2).id), SKIP);
}

#[test]
fn a_loop_around_the_recorded_one_says_that_it_was_left() {
    let origin = |id| AnchorKey { id, ..key(1) };
    let mut case = Case {
        origin: Origin::Root(origin(0x10_0400)),
        ..Case::new()
    };
    let meets = |case: &Case, api, id, depth| {
        let site = ShimCallSite { depth, ..shim(api, id) };
        case.policy().on_shim_call(&site)
    };
    let back = ApiFn::BackwardsBranch;
    let left = ShimAction::Abort(Abort::LoopLeft);
    assert_eq!(meets(&case, back, 0x10_0300, 0), left);
    // A loop inside it, one of another function, one of a function that is called, the entry of one.
    assert_eq!(meets(&case, back, 0x10_0500, 0), SKIP);
    assert_eq!(meets(&case, back, 0x300, 0), SKIP);
    assert_eq!(meets(&case, back, 0x10_0300, 1), SKIP);
    assert_eq!(meets(&case, ApiFn::FunctionEntry, 0x10_0300, 0), SKIP);
    // It is left every time, it seems.
    case.world.left = 3;
    assert_eq!(meets(&case, back, 0x10_0300, 0), SKIP);
    // A side trace may go where it likes.
    let side = Case {
        origin: Origin::Side { exit: 0, parent: 0 },
        ..Case::new()
    };
    assert_eq!(meets(&side, back, key(1).id - 1, 0), SKIP);
}

#[test]
fn a_forced_trace_ends_where_it_is_told() {
    let case = Case {
        api: ApiFn::ForceBeginTrace,
        ..Case::new()
    };
    let end = |id| case.policy().on_shim_call(&shim(ApiFn::ForceEndTrace, id));
    assert_eq!(end(key(1).id), ShimAction::End);
    assert_eq!(end(key(2).id), SKIP);
    let plain = Case::new();
    assert_eq!(
        plain.policy().on_shim_call(&shim(ApiFn::ForceEndTrace, key(1).id)),
        SKIP
    );
}

#[test]
fn the_other_functions_of_the_api() {
    let case = Case::new();
    let ask = |api| case.policy().on_shim_call(&shim(api, 9));
    assert_eq!(ask(ApiFn::EnsureNotTraced), ShimAction::Abort(Abort::EnsureNotTraced));
    assert_eq!(ask(ApiFn::TempDisable), ShimAction::NativeUntil { enter: 1, leave: 2 });
    assert_eq!(ask(ApiFn::TempEnable), ShimAction::Abort(Abort::Unbalanced));
    assert_eq!(ask(ApiFn::IsTraced), ShimAction::Skip { result: 1 });
    assert_eq!(ask(ApiFn::Promote), ShimAction::Skip { result: 9 });
    for api in [
        ApiFn::Start,
        ApiFn::DoNotTraceFunction,
        ApiFn::DisableBranch,
        ApiFn::ConstantMemory,
        ApiFn::ConstantMemoryEnd,
        ApiFn::ElidableFunction,
    ] {
        assert_eq!(ask(api), ShimAction::RunNative, "{api:?}");
    }
}

#[test]
fn a_trace_that_starts_in_a_merge_block_ends_with_it() {
    let case = Case {
        origin: Origin::Side { exit: 0, parent: 0 },
        ..Case::new()
    };
    let mut policy = case.policy();
    assert_eq!(policy.on_shim_call(&shim(ApiFn::BeginMergeBlock, 0)), SKIP);
    assert_eq!(policy.on_shim_call(&shim(ApiFn::EndMergeBlock, 0)), SKIP);
    assert_eq!(policy.on_shim_call(&shim(ApiFn::EndMergeBlock, 0)), ShimAction::End);
}

#[test]
fn a_tail_called_anchor_is_none() {
    let case = Case::new();
    let site = ShimCallSite {
        tail: true,
        ..shim(ApiFn::BackwardsBranch, key(1).id)
    };
    assert_eq!(case.policy().on_shim_call(&site), SKIP);
}

#[test]
fn calls_inside_the_image_are_followed_and_others_kept() {
    let mut case = Case::new();
    case.functions.residual.insert(TEXT + 0x500);
    let mut policy = case.policy();
    assert_eq!(policy.on_call(&call(TEXT + 0x400, true, 0)), CallAction::Inline);
    assert_eq!(policy.on_call(&call(TEXT + 0x500, true, 0)), CallAction::Residual);
    assert_eq!(policy.on_call(&call(0x7f12_3456, false, 0)), CallAction::Residual);
    assert_eq!(
        policy.on_call(&call(TEXT + 0x400, true, 40)),
        CallAction::Residual,
        "too deep"
    );
}

#[test]
fn whoever_calls_setjmp_is_kept_as_a_call() {
    let case = Case::new();
    let mut policy = case.policy();
    policy.on_call(&call(TEXT + 0x400, true, 0));
    assert_eq!(
        policy.on_call(&call(SETJMP, false, 1)),
        CallAction::Abort(Abort::ReturnsTwice)
    );
    assert_eq!(policy.lessons.residual, [TEXT + 0x400]);
}

#[test]
fn whoever_calls_setjmp_is_known_after_the_first_frame_was_left_too() {
    let case = Case::new();
    let mut policy = case.policy();
    let nop = Decoder::with_ip(64, &[0x90], TEXT, DecoderOptions::NONE).decode();
    // Returned twice, called one function from there (depth -1), and setjmp from it.
    for depth in [0, -1, -2] {
        assert_eq!(policy.on_inst(TEXT, &nop, depth), Flow::Continue);
    }
    assert_eq!(policy.on_call(&call(TEXT + 0x400, true, 0)), CallAction::Inline);
    policy.on_inst(TEXT + 0x400, &nop, -1);
    assert_eq!(
        policy.on_call(&call(SETJMP, false, 0)),
        CallAction::Abort(Abort::ReturnsTwice)
    );
    assert_eq!(policy.lessons.residual, [TEXT + 0x400]);
}

#[test]
fn a_function_with_a_native_loop_is_kept_as_a_call() {
    let case = Case::new();
    let mut policy = case.policy();
    policy.on_call(&call(TEXT + 0x400, true, 0));
    let back = Decoder::with_ip(64, &[0x75, 0xf0], TEXT + 0x420, DecoderOptions::NONE).decode();
    for _ in 0..case.params.maxnative {
        assert_eq!(policy.on_inst(TEXT + 0x420, &back, 1), Flow::Continue);
    }
    assert_eq!(policy.on_inst(TEXT + 0x420, &back, 1), Flow::Abort(Abort::NativeLoop));
    assert_eq!(policy.lessons.residual, [TEXT + 0x400]);
    // The interpreter's own loop is not one.
    let mut policy = case.policy();
    for _ in 0..100 {
        assert_eq!(policy.on_inst(TEXT + 0x420, &back, 0), Flow::Continue);
    }
}

#[test]
fn an_eval_that_calls_itself_is_no_function_with_a_native_loop() {
    let case = Case::new();
    let mut policy = case.policy();
    policy.on_call(&call(TEXT + 0x400, true, 0));
    let entry = ShimCallSite {
        depth: 1,
        ..shim(ApiFn::FunctionEntry, key(5).id)
    };
    assert_eq!(policy.on_shim_call(&entry), SKIP);
    let back = Decoder::with_ip(64, &[0x75, 0xf0], TEXT + 0x420, DecoderOptions::NONE).decode();
    for _ in 0..100 {
        assert_eq!(policy.on_inst(TEXT + 0x420, &back, 1), Flow::Continue, "dispatch");
    }
    // What it calls is judged as ever.
    policy.on_call(&call(TEXT + 0x800, true, 1));
    let last = (0..100).map(|_| policy.on_inst(TEXT + 0x820, &back, 2)).last();
    assert_eq!(last, Some(Flow::Abort(Abort::NativeLoop)));
    assert_eq!(policy.lessons.residual[0], TEXT + 0x800);
}

#[test]
fn a_recording_ends_at_an_anchor_that_others_went_past_for_too_long() {
    let mut case = Case::new();
    let mut policy = case.policy();
    assert_eq!(policy.on_shim_call(&shim(ApiFn::BackwardsBranch, key(2).id)), SKIP);
    assert_eq!(policy.lessons.passed, [(0, key(2))]);
    case.functions.ends.insert(key(2));
    assert_eq!(
        case.policy().on_shim_call(&shim(ApiFn::BackwardsBranch, key(2).id)),
        ShimAction::End
    );
}

/// Meets an anchor with so many followed calls open.
fn meets(policy: &mut Policy<'_, Known>, api: ApiFn, id: u64, depth: u32) -> ShimAction {
    policy.on_shim_call(&ShimCallSite { depth, ..shim(api, id) })
}

#[test]
fn what_leads_to_an_inner_activation_of_the_loop_is_kept_as_a_call() {
    const SEND: u64 = TEXT + 0x2000;
    const EVAL: u64 = TEXT + 0x3000;
    for api in [ApiFn::BackwardsBranch, ApiFn::FunctionEntry] {
        let mut case = Case { api, ..Case::new() };
        let mut policy = case.policy();
        assert_eq!(policy.on_call(&call(SEND, true, 0)), CallAction::Inline);
        assert_eq!(policy.on_call(&call(EVAL, true, 1)), CallAction::Inline);
        assert_eq!(meets(&mut policy, api, key(1).id, 2), ShimAction::Abort(Abort::Nesting));
        assert_eq!(policy.lessons.nesting, [(key(1), SEND)], "the outermost call");
        for (root, function) in policy.lessons.nesting.clone() {
            case.functions.nesting.entry(root).or_default().insert(function);
        }
        let mut policy = case.policy();
        assert_eq!(policy.on_call(&call(SEND, true, 0)), CallAction::Residual);
        assert_eq!(policy.on_call(&call(EVAL, true, 0)), CallAction::Inline);
        // Of other trees nothing is known.
        case.functions.nesting = HashMap::from([(key(2), HashSet::from([SEND]))]);
        assert_eq!(case.policy().on_call(&call(SEND, true, 0)), CallAction::Inline);
    }
}

#[test]
fn a_loop_that_is_met_again_further_in_shows_nesting_too() {
    const SEND: u64 = TEXT + 0x2000;
    let back = ApiFn::BackwardsBranch;
    let nesting = ShimAction::Abort(Abort::Nesting);
    let mut case = Case::new();
    for compiled in [false, true] {
        if compiled {
            case.world.compiled.insert(key(2));
        }
        let mut policy = case.policy();
        for depth in 0..3 {
            assert_eq!(policy.on_call(&call(SEND, true, depth)), CallAction::Inline);
        }
        assert_eq!(meets(&mut policy, back, key(2).id, 1), SKIP);
        assert_eq!(meets(&mut policy, back, key(2).id, 3), nesting);
    }
    // Round again in the same activation: that is a loop.
    let mut policy = case.policy();
    assert_eq!(policy.on_call(&call(SEND, true, 0)), CallAction::Inline);
    assert_eq!(meets(&mut policy, back, key(2).id, 1), SKIP);
    assert_eq!(meets(&mut policy, back, key(2).id, 1), ShimAction::End);
    // Functions of the interpreted program that call themselves, in one activation of the interpreter.
    let mut policy = case.policy();
    for _ in 0..case.params.maxrecursion {
        assert_eq!(meets(&mut policy, ApiFn::FunctionEntry, key(3).id, 0), SKIP);
    }
}

#[test]
fn where_activations_nest_a_trace_ends_with_its_own() {
    let native = TEXT + 0x500;
    let nesting = HashMap::from([(key(1), HashSet::from([TEXT]))]);
    let case = |origin, api| Case {
        functions: Functions {
            nesting: nesting.clone(),
            ..Functions::default()
        },
        origin,
        api,
        ..Case::new()
    };
    let root = Origin::Root(key(1));
    let side = Origin::Side { exit: 1, parent: 0 };
    let end = Flow::End(ACTIVATION_LEFT);
    let left = Flow::Abort(Abort::FrameLeft);
    assert_eq!(returns(&case(root, ApiFn::BackwardsBranch), 1000, native), left);
    assert_eq!(returns(&case(root, ApiFn::FunctionEntry), 1000, native), end);
    assert_eq!(
        returns(&case(root, ApiFn::FunctionEntry), 100, native),
        left,
        "too little"
    );
    assert_eq!(returns(&case(side, ApiFn::FunctionEntry), 100, native), end);
    assert_eq!(returns(&case(side, ApiFn::BackwardsBranch), 1, native), left);
    assert_eq!(
        returns(&case(side, ApiFn::BackwardsBranch), 100, CODE),
        Flow::End(CALLED_BY_TRACE)
    );
    assert_eq!(returns(&Case::new(), 1000, native), Flow::Continue);
}

/// What is said where an indirect jump has led to, after so many instructions, with this in rbx; and the join that was noted.
fn jumps(case: &Case, instructions: u64, rbx: u64) -> (Flow, Option<JoinKey>) {
    let joining = Joining {
        root: key(1),
        registers: vec![Reg::RBP, Reg::RBX],
        after: 60,
    };
    let mut declared = Declarations::default();
    declared.add(KIND_CONSTANT_MEMORY, 0x7000, 64, 1);
    let mut policy = case.policy().joining(&joining, &declared);
    let nop = Decoder::with_ip(64, &[0x90], TEXT, DecoderOptions::NONE).decode();
    for _ in 0..instructions {
        assert_eq!(policy.on_inst(TEXT, &nop, 0), Flow::Continue);
    }
    let mut regs = [0; 16];
    regs[3] = rbx;
    let flow = policy.on_jump(TEXT + 0x40, &regs);
    (flow, policy.lessons.join)
}

#[test]
fn a_side_trace_ends_at_a_join() {
    let mut case = Case::new();
    let found = JoinKey {
        root: key(1),
        ip: TEXT + 0x40,
        register: Reg::RBX,
        pc: 0x7008,
    };
    let ends = (Flow::End(JOINS), Some(found));
    let goes_on = (Flow::Continue, None);
    assert_eq!(jumps(&case, 60, found.pc), ends);
    assert_eq!(jumps(&case, 59, found.pc), goes_on, "too early for a new one");
    assert_eq!(
        jumps(&case, 60, 0x9000),
        goes_on,
        "no program counter in constant memory"
    );
    case.world.join = Some(Standing::Shared);
    assert_eq!(jumps(&case, 1, found.pc), ends);
    case.world.join = Some(Standing::Hopeless);
    assert_eq!(jumps(&case, 60, found.pc), goes_on);
    let declared = Declarations::default();
    let joining = Joining {
        root: key(1),
        registers: vec![Reg::RBX],
        after: 0,
    };
    let mut policy = case.policy();
    assert_eq!(policy.on_jump(TEXT, &[0x7008; 16]), Flow::Continue, "it may not");
    policy = policy.joining(&joining, &declared);
    assert_eq!(
        policy.on_jump(TEXT, &[0x7008; 16]),
        Flow::Continue,
        "nothing is declared"
    );
}

#[test]
fn no_join_lies_in_a_frame_that_a_trace_cannot_leave_or_in_a_merge_block() {
    let mut case = Case::new();
    case.world.join = Some(Standing::Shared);
    let joining = Joining {
        root: key(1),
        registers: vec![Reg::RBX],
        after: 0,
    };
    let mut declared = Declarations::default();
    declared.add(KIND_CONSTANT_MEMORY, 0x7000, 64, 1);
    let mut policy = case.policy().joining(&joining, &declared);
    for (begin, end) in [
        (ApiFn::BeginBranchableFrame, ApiFn::EndBranchableFrame),
        (ApiFn::BeginMergeBlock, ApiFn::EndMergeBlock),
    ] {
        policy.on_shim_call(&shim(begin, 0));
        assert_eq!(policy.on_jump(TEXT, &[0x7008; 16]), Flow::Continue);
        policy.on_shim_call(&shim(end, 0));
        assert_eq!(policy.on_jump(TEXT, &[0x7008; 16]), Flow::End(JOINS));
    }
}
