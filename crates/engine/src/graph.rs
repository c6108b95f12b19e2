//! The trace graph: anchors, traces, exits, and how they hang together.
//!
//! Every anchor that anything ends at has a *slot*, a word in the code region that code
//! jumps through. While the anchor has no trace, the slot holds the address of the
//! anchor's own call in the original code, so whoever comes there counts and may enter
//! later; once there is a trace it holds the trace's body. Loops go round through their
//! own slot. So installing, replacing and dropping a root is one 8-byte store, and a
//! thread that runs in a dropped loop leaves it at its next turn.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::ops::Range;
use std::sync::Arc;

use redmagic_emit::exits::Handover;
use redmagic_ir::Reg;
use redmagic_opt::graft;
use redmagic_proto::ApiFn;
use redmagic_record::abort::Abort;
use redmagic_record::recording::Step;
use serde::Serialize;

use crate::notes::Notes;

/// What names an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct AnchorKey {
    /// The id the program gave it.
    pub id: u64,
    /// The return address of the call.
    pub return_address: u64,
}

/// What names a join: see [`join`](crate::engine::join).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JoinKey {
    /// The anchor of the tree.
    pub root: AnchorKey,
    /// Where the original code goes on.
    pub ip: u64,
    /// The register that holds the interpreter's program counter.
    pub register: Reg,
    /// What it holds.
    pub pc: u64,
}

/// A join.
#[derive(Debug, Default, Clone)]
pub struct Join {
    /// The trace that begins there.
    pub trace: Option<TraceId>,
    /// The exits that lead there.
    pub exits: Vec<u32>,
    /// Whether there will be no trace.
    pub hopeless: bool,
}

/// Index of a trace in [`Graph::traces`].
pub type TraceId = u32;

/// What has become of an anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnchorState {
    /// Nothing was tried, or something failed and may be tried again.
    Cold,
    /// It has a trace.
    Compiled(TraceId),
    /// It will not be tried again.
    Blacklisted,
}

/// An anchor.
#[derive(Debug, Clone)]
pub struct Anchor {
    /// Which function of the API it calls.
    pub api: ApiFn,
    /// Its state.
    pub state: AnchorState,
    /// Recordings that were aborted.
    pub aborts: u64,
    /// How often it was put on the list of those who wait for a turn: each time its counter was set anew.
    pub waits: u32,
    /// The last abort's reason.
    pub last_abort: Option<Abort>,
    /// Recordings that came to nothing, by reason; those that taught something are counted too.
    pub reasons: BTreeMap<Abort, u64>,
    /// Address of its slot, and of its call.
    pub slot: Option<Slot>,
}

/// The word through which code reaches an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its address.
    pub address: u64,
    /// What it holds while there is no trace: the address of the anchor's call.
    pub native: u64,
}

/// Where a trace starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// At an anchor.
    Root(AnchorKey),
    /// At an exit of another trace.
    Side {
        /// Number of the exit.
        exit: u32,
        /// The trace that has it.
        parent: TraceId,
    },
}

/// Where a trace leads at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// To an anchor; a root that links to itself is a loop.
    Anchor(AnchorKey),
    /// Back to the original code.
    Native(u64),
}

/// Where the code of a trace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Addresses of the code.
    pub hot: Range<u64>,
    /// Addresses of its stubs, if they are elsewhere.
    pub cold: Range<u64>,
}

impl Place {
    /// `bytes` of code, the first `hot` of them at `code`, the others at `cold` or behind them.
    pub fn new(code: u64, cold: Option<u64>, hot: usize, bytes: usize) -> Place {
        let hot = if cold.is_some() { hot } else { bytes } as u64;
        let cold = cold.unwrap_or(0);
        Place {
            hot: code..code + hot,
            cold: cold..cold + bytes as u64 - hot,
        }
    }

    /// Bytes of both.
    pub fn bytes(&self) -> usize {
        (self.hot.end - self.hot.start + self.cold.end - self.cold.start) as usize
    }

    /// How many bytes of code come before an address; `None` if that is elsewhere.
    pub fn offset(&self, address: u64) -> Option<u64> {
        if self.hot.contains(&address) {
            Some(address - self.hot.start)
        } else {
            let before = self.hot.end - self.hot.start;
            self.cold.contains(&address).then(|| before + address - self.cold.start)
        }
    }
}

/// A compiled trace.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Where it starts.
    pub origin: Origin,
    /// The root of its tree; itself for a root.
    pub root: TraceId,
    /// How it ends.
    pub link: Link,
    /// Where its code is.
    pub code: Place,
    /// Where the shim enters it.
    pub entry: u64,
    /// Where loops and links enter it.
    pub body: u64,
    /// Numbers of its exits.
    pub exits: Range<u32>,
    /// Instructions in its recording.
    pub instructions: usize,
    /// Where they are, in one number: see [`path`].
    pub path: u64,
    /// Instructions of the recording that were left out because their results are known.
    pub folded: usize,
    /// Operations of the optimised trace; `None` when it is copied.
    pub operations: Option<usize>,
    /// Address of the word with the generation of constant memory that it was validated for.
    pub valid: u64,
    /// Whether it was dropped: nothing leads to it any more.
    pub dropped: bool,
    /// Side traces in its tree, if it is a root.
    pub side_traces: u64,
    /// Whether it takes the values of its parent over where they are, if it is a side trace: then the word of the exit's
    /// [handover](ExitState::handover) leads to it, and not the exit's slot.
    pub grafted: bool,
    /// Of a root: the registers that held its id at its start.
    pub pc_registers: Vec<Reg>,
    /// How it was compiled.
    pub notes: Notes,
    /// What side traces that go on from its exits are made from; only optimised traces have it.
    pub parent: Option<Arc<Parent>>,
}

/// What side traces that go on from a trace's exits are made from.
#[derive(Debug)]
pub struct Parent {
    /// Its operations, and what is known of them.
    pub trace: graft::Parent,
    /// See [`redmagic_emit::copy::Compiled::shared`].
    pub shared: Vec<u32>,
    /// See [`redmagic_emit::copy::Compiled::frame`].
    pub frame: i64,
}

/// An exit of a compiled trace.
#[derive(Debug, Clone)]
pub struct ExitState {
    /// The trace that has it.
    pub trace: TraceId,
    /// Where the original code goes on.
    pub target: u64,
    /// Address of its slot.
    pub slot: u64,
    /// What is there while its turns are counted: its stub.
    pub stub: u64,
    /// What is there when nothing is counted: `target`, or for a re-entry what leads to the anchor's trace.
    pub away: u64,
    /// The join that it leads to, if it is an end that does.
    pub join: Option<JoinKey>,
    /// Turns in a row that went the same way, of those that were looked at, and which way.
    pub alike: (u32, u64),
    /// Recordings from it that were aborted.
    pub aborts: u64,
    /// The last abort's reason.
    pub last_abort: Option<Abort>,
    /// What a trace that goes on from here finds, and the operation of the parent that leaves.
    pub handover: Option<Arc<HandoverState>>,
    /// What its counter was set to, and how often it was taken before that. Nothing is counted once it has a side trace
    /// or is silent.
    pub armed: i32,
    /// As above.
    pub taken: u64,
    /// The trace that starts here.
    pub side: Option<TraceId>,
    /// Whether it has stopped counting.
    pub silent: bool,
}

impl ExitState {
    /// Whether it is the end of a side trace that comes round to its root's anchor: see [`reentry`](crate::engine::reentry).
    pub fn is_reentry(&self) -> bool {
        self.away != self.target
    }
}

/// See [`redmagic_emit::exits::Handover`].
#[derive(Debug)]
pub struct HandoverState {
    /// The operation of the parent that leaves.
    pub at: usize,
    /// Address of the word that is jumped through first.
    pub slot: u64,
    /// What is there.
    pub found: Handover,
}

/// The addresses of instructions, as one number.
pub fn path(steps: &[Step]) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    for step in steps {
        hasher.write_u64(step.ip());
    }
    hasher.finish()
}

/// All of it.
#[derive(Debug, Default)]
pub struct Graph {
    /// Anchors by key.
    pub anchors: HashMap<AnchorKey, Anchor>,
    /// Joins by key.
    pub joins: HashMap<JoinKey, Join>,
    /// Traces by id.
    pub traces: Vec<Trace>,
    /// Exits by number.
    pub exits: Vec<ExitState>,
}

impl Graph {
    /// The anchor of a key, made if it is new.
    pub fn anchor(&mut self, key: AnchorKey, api: ApiFn) -> &mut Anchor {
        self.anchors.entry(key).or_insert(Anchor {
            api,
            state: AnchorState::Cold,
            aborts: 0,
            waits: 0,
            last_abort: None,
            reasons: BTreeMap::new(),
            slot: None,
        })
    }

    /// Whether an anchor has a trace.
    pub fn compiled(&self, key: AnchorKey) -> Option<TraceId> {
        match self.anchors.get(&key)?.state {
            AnchorState::Compiled(trace) => Some(trace),
            _ => None,
        }
    }

    /// The exits that are re-entries: each is the last of its trace.
    pub fn reentries(&self) -> impl Iterator<Item = &ExitState> {
        let last = self.traces.iter().filter_map(|trace| trace.exits.clone().last());
        last.map(|number| &self.exits[number as usize])
            .filter(|exit| exit.is_reentry())
    }

    /// The join that a trace ends at: its last exit does.
    pub fn ends_at(&self, id: TraceId) -> Option<JoinKey> {
        let last = self.traces[id as usize].exits.clone().last()?;
        self.exits[last as usize].join
    }

    /// Traces that were not dropped.
    pub fn live(&self) -> impl Iterator<Item = &Trace> {
        self.traces.iter().filter(|trace| !trace.dropped)
    }
}
