//! Exit stubs: how a trace is left.
//!
//! At a guard the machine state is exactly what the original code has at the guard's
//! target, so leaving is a jump. Everything else a stub does (counting, asking for a
//! side trace) must not be seen: every register, every flag and the 128 bytes below the
//! stack pointer are live.
//!
//! ```text
//!   guard:   jcc stub
//!   stub:    mov reg, value ...    what the trace knows and has not put in its place
//!            jmp [slot]            slot: the counting code, then a side trace, or the target itself
//!   count:   lea rsp, [rsp-128]    over the red zone; lea, mov, push, pop, jrcxz: no flag is touched
//!            push rcx
//!            mov ecx, [counter]
//!            lea ecx, [rcx-1]
//!            mov [counter], ecx
//!            jrcxz hot
//!            pop rcx
//!            lea rsp, [rsp+128]
//!            jmp target
//!   hot:     mov [counter], again  (a thread that is not answered asks again later)
//!            pop rcx
//!            push [target]
//!            push the exit's id
//!            jmp [park]            the shim saves everything and comes back to target
//! ```
//!
//! The slot makes attaching a side trace one 8-byte store, and switching the count off
//! another.

use redmagic_ir::Home;

use crate::asm::{Asm, AsmError, Datum, Label};

/// Where the shim and the counters are.
#[derive(Debug, Clone, Copy)]
pub struct ExitEnvironment {
    /// Address of the counter of exit 0; counters are 4 bytes each.
    pub counters: u64,
    /// What exit 0 is named by where it asks, as exits of other sessions may ask as well; the others count on from there.
    pub first_id: u32,
    /// Address of the shim's entry for hot exits.
    pub park: u64,
    /// What a counter is set to when its thread parks.
    pub again: u32,
}

/// An exit of finished code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its number: the index of its counter.
    pub number: u32,
    /// Where the original code goes on.
    pub target: u64,
    /// The word that the stub jumps through.
    pub slot: Datum,
    /// What the slot holds at first: the counting code.
    pub counting: u64,
    /// What it holds when nothing is counted any more: `target`, or for a re-entry ([`Tails::reentry`]) code that leads to the anchor's
    /// trace.
    pub away: u64,
    /// Where in the recording it lies: index of the step.
    pub step: u32,
    /// How another trace can go on from here with the values where they are; only optimised traces have it.
    pub handover: Option<Handover>,
}

/// An exit before its stub has done anything: what a trace that goes on from there finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// The word that is jumped through first; it leads to the stub until a trace is attached.
    pub slot: Datum,
    /// Address of the stub.
    pub stub: u64,
    /// Where values are, by the operation that made each; registers of the entry that no operation reads are numbered after
    /// the operations. See [`crate::copy::Compiled::shared`].
    pub homes: Box<[(u32, Home)]>,
    /// Whether the flags of the exit are those of the processor.
    pub flags: bool,
}

/// What an exit must do so that the machine state is that of the original code: registers
/// and flags whose values are known, and that the trace has not put in their places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fixups {
    /// Registers by the number of their encoding, and their values.
    pub registers: Vec<(u8, u64)>,
    /// The status flags.
    pub flags: Option<u32>,
}

impl Fixups {
    /// Emits them.
    fn emit(&self, asm: &mut Asm) {
        for (register, value) in &self.registers {
            asm.mov_reg_imm(*register, *value);
        }
        if let Some(flags) = self.flags {
            asm.set_flags(flags);
        }
    }
}

/// Exits of code that is being assembled.
#[derive(Debug)]
pub struct Exits {
    first: u32,
    pending: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    target: u64,
    stub: Label,
    step: u32,
    fixups: Fixups,
    counted: bool,
}

impl Exits {
    /// Exits that are numbered from `first` on.
    pub fn new(first: u32) -> Exits {
        Exits {
            first,
            pending: Vec::new(),
        }
    }

    /// A new exit to `target`; jump to the label to take it.
    pub fn add(&mut self, asm: &mut Asm, target: u64, step: u32, fixups: &Fixups) -> Label {
        self.push(asm, target, step, fixups, true)
    }

    /// An exit that is neither counted nor numbered: it never gets a side trace.
    pub fn add_silent(&mut self, asm: &mut Asm, target: u64, step: u32, fixups: &Fixups) -> Label {
        self.push(asm, target, step, fixups, false)
    }

    fn push(&mut self, asm: &mut Asm, target: u64, step: u32, fixups: &Fixups, counted: bool) -> Label {
        let stub = asm.label();
        self.pending.push(Pending {
            target,
            stub,
            step,
            fixups: fixups.clone(),
            counted,
        });
        stub
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Emits all stubs.
    ///
    /// # Errors
    /// When a target, a counter or the shim is out of reach of a 32-bit displacement.
    pub fn finish(self, asm: &mut Asm, environment: &ExitEnvironment) -> Result<Vec<Exit>, AsmError> {
        let mut exits = Vec::new();
        let (counted, silent): (Vec<_>, Vec<_>) = self.pending.into_iter().partition(|pending| pending.counted);
        for pending in silent {
            asm.bind(pending.stub);
            pending.fixups.emit(asm);
            asm.jmp_address(pending.target)?;
        }
        let mut tails = Tails::new(asm, environment, self.first);
        for pending in counted {
            asm.bind(pending.stub);
            pending.fixups.emit(asm);
            exits.push(tails.emit(asm, pending.target, pending.step)?);
        }
        Ok(exits)
    }
}

/// Emits a jump through a new slot, which leads to the code behind the label at first.
///
/// # Errors
/// When the slot is out of reach of a 32-bit displacement.
pub fn jmp_through_slot(asm: &mut Asm) -> Result<(Datum, Label), AsmError> {
    let count = asm.label();
    let slot = asm.datum_label(count);
    asm.jmp_through(asm.datum_address(slot))?;
    Ok((slot, count))
}

/// Emits what comes last in the stubs of counted exits, when the machine state is that of the original code.
#[derive(Debug)]
pub struct Tails<'a> {
    environment: &'a ExitEnvironment,
    park: Datum,
    next: u32,
}

impl Tails<'_> {
    /// For exits that are numbered from `first` on.
    pub fn new<'a>(asm: &mut Asm, environment: &'a ExitEnvironment, first: u32) -> Tails<'a> {
        Tails {
            environment,
            park: asm.datum(environment.park),
            next: first,
        }
    }

    /// The next exit: leaves through its slot, at first to the counting code, which follows.
    ///
    /// # Errors
    /// When the target, the counter or the shim is out of reach of a 32-bit displacement.
    pub fn emit(&mut self, asm: &mut Asm, target: u64, step: u32) -> Result<Exit, AsmError> {
        let slot = jmp_through_slot(asm)?;
        self.count(asm, slot, target, step, None)
    }

    /// The end of a side trace that goes round to its root's anchor, as an exit: as hot as others, it gets a trace that begins
    /// where the original code goes on behind the anchor, at `target`; until then, and without, `through` leads to the anchor's trace.
    /// Whoever ends jumps through the slot ([`jmp_through_slot`]).
    ///
    /// # Errors
    /// As [`Tails::emit`].
    pub fn reentry(
        &mut self,
        asm: &mut Asm,
        slot: (Datum, Label),
        target: u64,
        through: u64,
        step: u32,
    ) -> Result<Exit, AsmError> {
        let away = asm.here();
        asm.jmp_through(through)?;
        let exit = self.count(asm, slot, target, step, Some(through))?;
        Ok(Exit { away, ..exit })
    }

    /// The counting code of a slot, which whoever leaves jumps through; `through` leads on in place of the target's address.
    ///
    /// # Errors
    /// As [`Tails::emit`].
    pub fn count(
        &mut self,
        asm: &mut Asm,
        (slot, count): (Datum, Label),
        target: u64,
        step: u32,
        through: Option<u64>,
    ) -> Result<Exit, AsmError> {
        let number = self.next;
        self.next += 1;
        let counter = self.environment.counters + u64::from(number) * 4;
        let hot = asm.label();
        let target_word = asm.datum(target);

        asm.bind(count);
        let counting = asm.here();
        asm.adjust_rsp(-128);
        asm.bytes(&[0x51]); // push rcx
        asm.load_ecx(counter)?;
        asm.bytes(&[0x8d, 0x49, 0xff]); // lea ecx, [rcx - 1]
        asm.store_ecx(counter)?;
        // jrcxz over: pop rcx (1), lea rsp, [rsp + 128] (8), jmp target (5) or jmp [through] (6)
        asm.bytes(&[0xe3, if through.is_some() { 15 } else { 14 }]);
        asm.bytes(&[0x59]); // pop rcx
        asm.adjust_rsp(128);
        match through {
            Some(slot) => asm.jmp_through(slot)?,
            None => asm.jmp_address(target)?,
        }

        asm.bind(hot);
        asm.store_imm32(counter, self.environment.again)?;
        asm.bytes(&[0x59]); // pop rcx
        asm.push_datum(target_word)?;
        asm.bytes(&[0x68]); // push imm32
        asm.bytes(&(self.environment.first_id + number).to_le_bytes());
        asm.jmp_through(asm.datum_address(self.park))?;
        Ok(Exit {
            number,
            target,
            slot,
            counting,
            away: target,
            step,
            handover: None,
        })
    }
}
