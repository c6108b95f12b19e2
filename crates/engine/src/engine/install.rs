//! From a recording to installed code: optimised if that can be had, else copied.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use redmagic_emit::copy::{self, Compiled, CopyError, End as CopyEnd, Environment, Op, Start, ThreadOffsets};
use redmagic_emit::exits::ExitEnvironment;
use redmagic_emit::lower::{self, Target, Targets};
use redmagic_ir::Reg;
use redmagic_opt::{Relied, graft};
use redmagic_proto::ApiFn;
use redmagic_proto::control::EXIT_COUNTERS;
use redmagic_record::abort::Abort;
use redmagic_record::recording::{Anchor, ConstantBlock, End, Recording, Step};

use super::activity::Activity;
use super::{Engine, Finished, Job, join};
use crate::cache::{CacheError, Room, Space};
use crate::fold::{self, Facts, Mappings};
use crate::graph::{
    self, AnchorKey, AnchorState, ExitState, HandoverState, JoinKey, Link, Origin, Parent, Place, Slot, Trace, TraceId,
};
use crate::notes::{self, Notes, Purpose, Stretch};
use crate::params::Params;
use crate::policy::{ACTIVATION_LEFT, ENTERING};
use crate::registry::Declarations;
use crate::timing::{Laps, Stages};
use crate::{optimise, plan};

/// What becomes of a recording at first.
#[derive(Debug)]
pub enum Begun {
    /// It is done with.
    Finished(Finished),
    /// It is to be compiled.
    Draft(Box<Draft>),
}

/// All that compiling a recording needs of the engine, so that the engine is free meanwhile. Nothing else may be compiled
/// between [`Engine::begin`] and [`Engine::publish`].
#[derive(Debug)]
pub struct Draft {
    link: Link,
    /// The slot of the anchor that it leads to.
    slot: Option<Slot>,
    root: TraceId,
    /// Address of the word with the generation that it is valid for.
    valid: u64,
    learnt: bool,
    /// Where the counters of anchors stood.
    pub(super) activity: Activity,
    /// Whether to note what code is for.
    noting: bool,
    generation_address: u64,
    declared: Arc<Declarations>,
    mappings: Arc<Mappings>,
    params: Params,
    space: Space,
    environment: Environment,
    /// Where the original code goes on behind the anchor that it leads to, if its end is to be a re-entry.
    reentry: Option<u64>,
    /// The join that it leads to.
    join: Option<JoinKey>,
    /// For a side trace: where it can go on.
    graft: Option<(Arc<Parent>, Arc<HandoverState>)>,
}

/// Compiled code, not installed yet, and how long it took.
#[derive(Debug)]
pub struct Compilation {
    result: Result<Code, InstallError>,
    not_optimised: Option<(&'static str, String)>,
    stages: Stages,
}

impl Compilation {
    /// How long it took.
    pub fn stages(&self) -> &Stages {
        &self.stages
    }

    /// Whether it is an optimised loop of which several copies are made if the program stays in it.
    pub(super) fn is_short_loop(&self) -> bool {
        let parent = self.result.as_ref().ok().and_then(|code| code.parent.as_ref());
        parent.is_some_and(|parent| redmagic_opt::peel::is_short(&parent.trace.trace))
    }

    /// Bytes of code and of data; `None` when it failed.
    pub fn bytes(&self) -> Option<(usize, usize)> {
        let code = self.result.as_ref().ok()?;
        Some((code.compiled.code.len(), code.compiled.data.len() * 8))
    }

    /// Why it is not optimised, in short; `None` when it is.
    pub fn not_optimised(&self) -> Option<&'static str> {
        self.not_optimised.as_ref().map(|(kind, _)| *kind)
    }
}

impl Engine {
    /// What a draft needs.
    pub(super) fn prepare(
        &mut self,
        job: &Job,
        recording: &Recording,
        join: Option<JoinKey>,
        learnt: bool,
    ) -> Result<Draft, Abort> {
        self.draft(job, recording, join, learnt)
            .map_err(|error| self.reason(error))
    }

    fn reason(&mut self, error: InstallError) -> Abort {
        tracing::debug!(%error, "not compiled");
        match error {
            InstallError::Cache(CacheError::Full { .. }) => {
                self.full = true;
                Abort::CacheFull
            }
            InstallError::Cache(CacheError::EntriesFull { .. }) => Abort::EntriesFull,
            InstallError::Copy(CopyError::Asm(_)) => Abort::OutOfReach,
            InstallError::Copy(CopyError::Unsupported { .. }) => Abort::UnsupportedInstruction,
            InstallError::Copy(CopyError::OpenMerge) => Abort::OpenMerge,
            InstallError::Plan(reason, _) => reason,
            InstallError::Recording => Abort::Policy,
            InstallError::ConstantEnded => Abort::ConstantEnded,
            InstallError::NotWorth { .. } => Abort::NotWorth,
        }
    }

    fn draft(
        &mut self,
        job: &Job,
        recording: &Recording,
        join: Option<JoinKey>,
        learnt: bool,
    ) -> Result<Draft, InstallError> {
        let link = self.link(recording)?;
        let slot = match link {
            Link::Anchor(key) => self.graph.anchors[&key].slot,
            Link::Native(_) => None,
        };
        let root = match job.origin {
            Origin::Root(_) => self.graph.traces.len() as TraceId,
            Origin::Side { parent, .. } => self.graph.traces[parent as usize].root,
        };
        self.check_parent(job)?;
        let valid = self.cache.new_slot(self.generation)?;
        let activity = match job.origin {
            Origin::Root(key) => self.activity(&key),
            Origin::Side { .. } => Activity::default(),
        };
        Ok(Draft {
            activity,
            link,
            slot,
            root,
            valid,
            learnt,
            noting: self.noting,
            generation_address: self.generation_address,
            declared: Arc::clone(&job.declared),
            mappings: Arc::clone(&self.mappings),
            params: self.params.clone(),
            space: self.cache.space(),
            reentry: self.reentry(job, link, recording),
            join,
            graft: match job.origin {
                Origin::Side { exit, parent } if self.params.graft != 0 && job.join.is_none() => {
                    let parent = self.graph.traces[parent as usize].parent.clone();
                    parent.zip(self.graph.exits[exit as usize].handover.clone())
                }
                _ => None,
            },
            environment: Environment {
                base: 0,
                cold_base: None,
                data_base: 0,
                first_exit: self.graph.exits.len() as u32,
                exits: self.environment,
                thread: self.thread,
            },
        })
    }

    /// How many side traces lie between a trace that starts somewhere and its root, itself included.
    pub(super) fn depth(&self, mut origin: Origin) -> u64 {
        let mut depth = 0;
        while let Origin::Side { exit, parent } = origin {
            depth += 1;
            if self.graph.exits[exit as usize].join.is_some() {
                break;
            }
            origin = self.graph.traces[parent as usize].origin;
        }
        depth
    }

    /// Refuses side traces of a trace that was dropped meanwhile.
    fn check_parent(&self, job: &Job) -> Result<(), InstallError> {
        match job.origin {
            Origin::Side { parent, .. } if self.graph.traces[parent as usize].dropped => Err(InstallError::Recording),
            _ => Ok(()),
        }
    }

    /// Installs what was compiled.
    pub fn publish(&mut self, job: &Job, recording: &Recording, draft: Draft, compilation: Compilation) -> Finished {
        let started = Instant::now();
        self.counts.compiled_instructions += recording.steps.len() as u64;
        if let Some(kind) = compilation.not_optimised() {
            *self.counts.not_optimised.entry(kind).or_default() += 1;
        }
        let learnt = draft.learnt;
        let installed = compilation
            .result
            .and_then(|mut code| {
                code.notes.not_optimised = compilation.not_optimised;
                self.install(job, recording, &draft, code)
            })
            .map_err(|error| self.reason(error));
        let mut stages = compilation.stages;
        stages.add("install", started.elapsed());
        self.counts.compiling += stages.total();
        self.counts.stages.merge(&stages);
        match installed {
            Ok(trace) => {
                self.counts.first_trace.get_or_insert(self.start.elapsed());
                Finished::Installed(trace)
            }
            Err(reason) => {
                self.failed(job, reason, learnt);
                Finished::Failed(reason)
            }
        }
    }

    /// Where the code of a trace is, how many bytes it has, and how many operations it was made from if it was optimised.
    pub fn code_of(&self, trace: TraceId) -> (u64, usize, Option<usize>) {
        let trace = &self.graph.traces[trace as usize];
        (trace.code.hot.start, trace.code.bytes(), trace.operations)
    }

    /// Where a recording leads.
    fn link(&mut self, recording: &Recording) -> Result<Link, InstallError> {
        Ok(match recording.end {
            End::Anchor {
                api,
                id,
                return_address,
                ip,
                ..
            } => match ApiFn::from_index(usize::from(api.0)) {
                Some(ApiFn::ForceEndTrace) => Link::Native(return_address),
                Some(ApiFn::EndMergeBlock) => Link::Native(ip),
                Some(api) if api.is_anchor() => {
                    let key = AnchorKey { id, return_address };
                    self.slot(key, api, ip)?;
                    Link::Anchor(key)
                }
                _ => return Err(InstallError::Recording),
            },
            End::Stopped { ip, .. } => Link::Native(ip),
        })
    }

    fn install(
        &mut self,
        job: &Job,
        recording: &Recording,
        draft: &Draft,
        code: Code,
    ) -> Result<TraceId, InstallError> {
        let id = self.graph.traces.len() as TraceId;
        let first_exit = self.graph.exits.len() as u32;
        let (link, root, valid) = (draft.link, draft.root, draft.valid);
        assert!(
            draft.space == self.cache.space() && draft.environment.first_exit == first_exit,
            "something else was compiled meanwhile"
        );
        self.check_parent(job)?;
        if let (End::Stopped { reason, .. }, Some(operations)) = (&recording.end, code.operations)
            && *reason == ACTIVATION_LEFT
            && matches!(job.origin, Origin::Root(_))
            && operations + ENTERING > recording.steps.len()
        {
            let instructions = recording.steps.len();
            return Err(InstallError::NotWorth {
                operations,
                instructions,
            });
        }
        let block_of = |word: &Relied| draft.declared.constant_at(word.address);
        let gone = |word: &Relied| self.declared.constant_at(word.address) != block_of(word);
        if code.relied_on.iter().any(gone) {
            // What it relies on ended while it was compiled.
            return Err(InstallError::ConstantEnded);
        }
        let is_loop = |parent: &Parent| matches!(parent.trace.trace.end, redmagic_ir::End::Loop { .. });
        let uncounted = code.parent.as_ref().is_some_and(is_loop) && code.compiled.turn.is_none();
        let short_loop = uncounted.then_some(job.root);
        let (room, compiled) = (code.room, code.compiled);
        if first_exit as usize + compiled.exits.len() > EXIT_COUNTERS {
            return Err(CacheError::Full { bytes: EXIT_COUNTERS }.into());
        }
        // Each side trace of a side trace must be twice as hot: paths multiply, and the later ones are taken less often.
        let armed = self.hot_exit(self.depth(job.origin));
        // What is copied leaves at its end like anywhere else.
        let join = draft.join.filter(|_| code.operations.is_some());
        let last = compiled.exits.last().map(|exit| exit.number);
        let join_of = |number: u32| join.filter(|_| last == Some(number));
        let armed = |number: u32| {
            if join_of(number).is_some() {
                join::HOT.min(armed)
            } else {
                armed
            }
        };
        for exit in &compiled.exits {
            self.set_exit_counter(exit.number, armed(exit.number));
        }
        self.cache.install(room, &compiled.code, compiled.hot, &compiled.data);
        self.graph.exits.extend(compiled.exits.iter().map(|exit| ExitState {
            trace: id,
            target: exit.target,
            slot: room.data + u64::from(exit.slot.0) * 8,
            stub: compiled.data[exit.slot.0 as usize],
            away: exit.away,
            join: join_of(exit.number),
            alike: (0, 0),
            handover: exit.handover.as_ref().map(|found| {
                Arc::new(HandoverState {
                    at: exit.step as usize,
                    slot: room.data + u64::from(found.slot.0) * 8,
                    found: found.clone(),
                })
            }),
            aborts: 0,
            last_abort: None,
            armed: armed(exit.number),
            taken: 0,
            side: None,
            silent: false,
        }));
        self.graph.traces.push(Trace {
            origin: job.origin,
            root,
            link,
            code: place_of(room, &compiled),
            entry: compiled.entry,
            body: compiled.body,
            exits: first_exit..first_exit + compiled.exits.len() as u32,
            instructions: recording.steps.len(),
            path: graph::path(&recording.steps),
            folded: code.left_out,
            operations: code.operations,
            valid,
            dropped: false,
            side_traces: 0,
            grafted: code.grafted,
            parent: code.parent.map(Arc::new),
            pc_registers: match job.origin {
                Origin::Root(key) => optimise::entry_registers(recording, key.id)
                    .into_iter()
                    .map(|(reg, _)| reg)
                    .collect(),
                Origin::Side { .. } => Vec::new(),
            },
            notes: code.notes,
        });
        self.rely(id, code.relied_on);
        self.note_unseen(recording, short_loop);
        // Everything is in place: publish.
        match job.origin {
            Origin::Root(key) => self.graph.anchor(key, job.api).state = AnchorState::Compiled(id),
            Origin::Side { exit, .. } => {
                self.graph.exits[exit as usize].side = Some(id);
                self.graph.traces[root as usize].side_traces += 1;
            }
        }
        self.join_made(job, id);
        if let (Some(key), Some(last)) = (join, last) {
            self.lead_from(last, key);
        }
        if let Some(key) = job.anchor() {
            let turn = compiled.turn.map(|turn| {
                let slot = room.data + u64::from(turn.0) * 8;
                (slot, compiled.data[turn.0 as usize])
            });
            self.count_loop(id, key, job.api, turn);
        }
        self.lead_to(id)?;
        Ok(id)
    }

    /// The constant memory that a recording has read, for its file.
    pub fn constant_blocks(&self, recording: &Recording) -> Vec<ConstantBlock> {
        let facts = Facts {
            declared: &self.declared,
            mappings: &self.mappings,
            generation: (0, 0),
        };
        crate::optimise::constant_blocks(recording, &facts)
    }
}

impl Draft {
    /// For a saved recording, in an empty region beside the original code: to look at, and to measure compiling. It cannot
    /// be published.
    pub fn offline(recording: &Recording, params: Params) -> (Job, Draft) {
        /// How far from the recorded code the region is taken to be, so that what it refers to is in reach.
        const AWAY: u64 = 0x400_0000;
        let (declared, mappings) = optimise::saved_facts(recording);
        let (end, slot) = match recording.end {
            End::Anchor {
                api,
                ip,
                id,
                return_address,
                ..
            } => match ApiFn::from_index(usize::from(api.0)) {
                Some(api) if api.is_anchor() => (ip, Some(AnchorKey { id, return_address })),
                Some(ApiFn::ForceEndTrace) => (return_address, None),
                _ => (ip, None),
            },
            End::Stopped { ip, .. } => (ip, None),
        };
        let base = (end & !0xfff) + AWAY;
        // The words that code refers to lie behind the region.
        let words = base + params.codesize * 1024;
        let link = slot.map_or(Link::Native(end), Link::Anchor);
        let (origin, ip, api, root) = match recording.anchor {
            Anchor::Root {
                kind,
                id,
                return_address,
            } => {
                let key = AnchorKey { id, return_address };
                (Origin::Root(key), return_address, kind.0, key)
            }
            Anchor::Exit { exit, target } => {
                let key = AnchorKey {
                    id: 0,
                    return_address: 0,
                };
                (
                    Origin::Side { exit, parent: 0 },
                    target,
                    ApiFn::BackwardsBranch as u8,
                    key,
                )
            }
        };
        let job = Job {
            origin,
            api: ApiFn::from_index(usize::from(api)).unwrap_or(ApiFn::BackwardsBranch),
            root,
            ip,
            reenters: false,
            join: None,
            joining: None,
            declared: Arc::new(declared),
        };
        let draft = Draft {
            activity: Activity::default(),
            link,
            slot: slot.map(|_| Slot {
                address: words,
                native: end,
            }),
            root: 0,
            valid: words + 8,
            learnt: false,
            noting: false,
            generation_address: words + 16,
            declared: Arc::clone(&job.declared),
            mappings: Arc::new(mappings),
            space: Space::empty(base, params.codesize as usize * 1024),
            params,
            environment: Environment {
                base: 0,
                cold_base: None,
                data_base: 0,
                first_exit: 0,
                exits: ExitEnvironment {
                    counters: words + 4096,
                    first_id: 0,
                    park: words + 24,
                    again: super::EXIT_AGAIN,
                },
                thread: ThreadOffsets::default(),
            },
            reentry: None,
            join: None,
            graft: None,
        };
        (job, draft)
    }

    /// Compiles: optimised if that can be had, else copied.
    pub fn compile(&self, job: &Job, recording: &Recording) -> Compilation {
        self.compile_copies(job, recording, 1)
    }

    /// The same; the body of a short loop is repeated, as far as `REDMAGIC_UNROLL` allows.
    pub fn compile_unrolled(&self, job: &Job, recording: &Recording) -> Compilation {
        self.compile_copies(job, recording, self.params.unroll as usize)
    }

    fn compile_copies(&self, job: &Job, recording: &Recording, copies: usize) -> Compilation {
        let mut laps = Laps::new();
        let mut not_optimised = None;
        let result = match self.optimise(job, recording, copies, &mut laps) {
            Ok(code) => Ok(code),
            Err(reason) => {
                if reason.is_wrong() {
                    tracing::warn!(%reason, "not optimised");
                } else {
                    tracing::debug!(%reason, "not optimised");
                }
                not_optimised = (self.params.optimise != 0).then(|| (reason.kind(), reason.to_string()));
                laps.lap("given up");
                let copied = self.copy(job, recording);
                laps.lap("copy");
                copied
            }
        };
        Compilation {
            result,
            not_optimised,
            stages: laps.stages(),
        }
    }

    /// Compiles with `compile` to where there is room, at most that much as a rule.
    fn place<E: From<CacheError>>(
        &self,
        code_bytes: usize,
        mut words: usize,
        compile: &dyn Fn(&Environment) -> Result<Compiled, E>,
    ) -> Result<(Room, Compiled), E> {
        let mut environment = self.environment;
        let mut room = self.space.room(code_bytes, words)?;
        loop {
            environment.base = room.code;
            environment.cold_base = room.cold;
            environment.data_base = room.data;
            let compiled = compile(&environment)?;
            let cold = compiled.code.len() - compiled.hot;
            if self.space.fits(room, compiled.hot, cold, compiled.data.len()) {
                return Ok((room, compiled));
            }
            // Sizes depend a little on addresses: on what is in reach, and on how vectors are aligned.
            words = words.max(compiled.data.len()) + 2;
            room = self.space.room(compiled.code.len() + 64, words)?;
        }
    }

    /// The optimised tier.
    fn optimise(&self, job: &Job, recording: &Recording, copies: usize, laps: &mut Laps) -> Result<Code, NotOptimised> {
        if self.params.optimise == 0 {
            return Err(NotOptimised::Off);
        }
        let merges = |step: &Step| matches!(step, Step::Shim(call) if [ApiFn::BeginMergeBlock, ApiFn::EndMergeBlock].iter().any(|api| call.api.0 == *api as u8));
        if recording.steps.iter().any(merges) {
            return Err(NotOptimised::MergeBlock);
        }
        let target = match self.link {
            Link::Anchor(_) => {
                let slot = self.slot.expect("an anchor has a slot");
                Target {
                    ip: slot.native,
                    slot: slot.address,
                }
            }
            Link::Native(_) if matches!(recording.end, End::Stopped { .. }) => Target { ip: 0, slot: 0 },
            // The trace would have to go past the call that ends it.
            Link::Native(_) => return Err(NotOptimised::Forced),
        };
        let facts = self.facts();
        let entry = self.entry(job, recording);
        let place = optimise::Place {
            entry: &entry,
            start: job.ip,
            anchor_call: target.ip,
            turns: self.params.turns,
            unroll: copies,
            verify: self.params.verify != 0,
            graft: self.graft.as_ref().map(|(parent, handover)| (&**parent, &**handover)),
        };
        if place.graft.is_some() {
            match self.optimise_at(job, recording, &facts, place, &target, laps) {
                Err(reason) if !reason.is_wrong() => tracing::debug!(%reason, "not grafted"),
                done => return done,
            }
        }
        self.optimise_at(
            job,
            recording,
            &facts,
            optimise::Place { graft: None, ..place },
            &target,
            laps,
        )
    }

    fn optimise_at(
        &self,
        job: &Job,
        recording: &Recording,
        facts: &Facts<'_>,
        place: optimise::Place<'_>,
        target: &Target,
        laps: &mut Laps,
    ) -> Result<Code, NotOptimised> {
        let mut after = |stage: &'static str, _: &redmagic_ir::Trace| laps.lap(stage);
        let short = recording.steps.len() as u64 <= self.params.maxpeel;
        let passes: Vec<&str> = redmagic_opt::PASSES
            .iter()
            .copied()
            .filter(|pass| short || *pass != "peel")
            .collect();
        let optimised = optimise::optimise(recording, facts, place, &passes, Some(&mut after))?;
        laps.lap("renumbered");
        let trace = optimised.trace;
        let operations = trace.ops.len();
        let targets = Targets {
            end: *target,
            restart: *target,
            // Where the body is several turns, going back once is not one turn.
            turn: place.unroll == 1 && !redmagic_opt::peel::is_short(&trace),
            reentry: self.reentry,
            joins: self.join.is_some(),
        };
        let start = start_of(job);
        let (room, compiled) = self.place(
            operations * 96 + trace.snapshots.len() * 256 + 4096,
            operations / 4 + trace.snapshots.len() * 2 + 64,
            &|environment| Ok::<_, NotOptimised>(lower::compile(&trace, start, &targets, environment)?),
        )?;
        laps.lap("emit");
        let mut notes = Notes::of(recording);
        notes.optimised(&trace, !short);
        if self.noting {
            notes.purposes = notes::purposes(&trace, &place_of(room, &compiled), &compiled.lines);
        }
        Ok(Code {
            left_out: 0,
            operations: Some(operations),
            notes,
            relied_on: optimised.relied_on,
            grafted: place.graft.is_some(),
            parent: Some(Parent {
                shared: compiled.shared.clone(),
                frame: compiled.frame,
                trace: graft::Parent {
                    trace,
                    lasting: optimised.lasting,
                    anchor: job.anchor().is_some(),
                },
            }),
            room,
            compiled,
        })
    }

    /// The copy tier.
    fn copy(&self, job: &Job, recording: &Recording) -> Result<Code, InstallError> {
        let ops = plan::plan(recording).map_err(|(reason, ip)| InstallError::Plan(reason, ip))?;
        let folded = self.fold(job, recording, &ops);
        let (ops, left_out, relied_on, argument) = match folded {
            Some(folded) => (folded.ops, folded.left_out, folded.relied_on, folded.argument),
            None => (ops, 0, BTreeSet::new(), None),
        };
        let end = match self.link {
            Link::Native(target) => CopyEnd::Native { target },
            Link::Anchor(key) => {
                let slot = self.slot.expect("an anchor has a slot");
                let guarded = argument != Some(key.id);
                CopyEnd::Anchor {
                    ip: slot.native,
                    id: key.id,
                    slot: slot.address,
                    guarded,
                }
            }
        };
        let start = start_of(job);
        let (room, compiled) = self.place(ops.len() * 160 + 4096, ops.len() * 6 + 64, &|environment| {
            Ok::<_, InstallError>(copy::compile(start, &ops, end, environment)?)
        })?;
        let mut notes = Notes::of(recording);
        if self.noting {
            notes.purposes.push(Stretch {
                from: 0,
                purpose: Purpose::Copied,
                origin: 0,
            });
        }
        Ok(Code {
            room,
            compiled,
            left_out,
            operations: None,
            notes,
            relied_on,
            grafted: false,
            parent: None,
        })
    }

    /// Leaves out of a trace what is known, if that may be relied on.
    fn fold(&self, job: &Job, recording: &Recording, ops: &[Op]) -> Option<fold::Folded> {
        if self.params.fold == 0 {
            return None;
        }
        let entry = self.entry(job, recording);
        let start: Vec<(u8, u64)> = entry.iter().map(|(reg, id)| (reg.index() as u8, *id)).collect();
        let native = matches!(self.link, Link::Native(_));
        Some(fold::fold(recording, ops, &start, job.ip, native, &self.facts()))
    }

    /// What may be relied on.
    fn facts(&self) -> Facts<'_> {
        Facts {
            declared: &self.declared,
            mappings: &self.mappings,
            generation: (self.generation_address, self.valid),
        }
    }

    /// The registers that hold the id of a root's anchor at its entry, if the id lies in constant memory.
    fn entry(&self, job: &Job, recording: &Recording) -> Vec<(Reg, u64)> {
        if let Some(join) = job.join {
            return vec![(join.register, join.pc)];
        }
        match job.anchor() {
            Some(key) if self.declared.constant_at(key.id).is_some() => optimise::entry_registers(recording, key.id),
            _ => Vec::new(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum InstallError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("{0} at {1:#x}")]
    Plan(Abort, u64),
    #[error("the recording ends where no trace can, or its parent was dropped meanwhile")]
    Recording,
    #[error("constant memory that it relies on ended meanwhile")]
    ConstantEnded,
    #[error("{operations} operations for {instructions} instructions of one activation are not worth entering")]
    NotWorth { operations: usize, instructions: usize },
}

/// Compiled code, not installed yet.
#[derive(Debug)]
struct Code {
    room: Room,
    compiled: Compiled,
    left_out: usize,
    /// Operations of the optimised trace, if it is one.
    operations: Option<usize>,
    notes: Notes,
    /// The declared memory that it relies on.
    relied_on: BTreeSet<Relied>,
    /// Whether it goes on where its parent is left, before the exit's stub.
    grafted: bool,
    parent: Option<Parent>,
}

/// Why a trace is copied and not optimised.
#[derive(Debug, thiserror::Error)]
enum NotOptimised {
    #[error("constant memory changed meanwhile, or optimising is off")]
    Off,
    #[error("it has a merge block")]
    MergeBlock,
    #[error("it ends at a call that ends traces")]
    Forced,
    #[error(transparent)]
    Optimise(#[from] optimise::OptimiseError),
    #[error(transparent)]
    Lower(#[from] lower::LowerError),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl NotOptimised {
    /// Whether it is a bug that was found.
    fn is_wrong(&self) -> bool {
        matches!(self, NotOptimised::Optimise(optimise::OptimiseError::Wrong(_)))
    }

    /// A name for counting.
    fn kind(&self) -> &'static str {
        match self {
            NotOptimised::Off => "off",
            NotOptimised::MergeBlock => "merge-block",
            NotOptimised::Forced => "forced-end",
            NotOptimised::Optimise(optimise::OptimiseError::Wrong(_)) => "wrong",
            NotOptimised::Optimise(_) => "optimiser",
            NotOptimised::Lower(_) => "emitter",
            NotOptimised::Cache(_) => "cache",
        }
    }
}

fn place_of(room: Room, compiled: &Compiled) -> Place {
    Place::new(room.code, room.cold, compiled.hot, compiled.code.len())
}

fn start_of(job: &Job) -> Start {
    match job.anchor() {
        Some(_) => Start::Anchor,
        None => Start::Exit,
    }
}
