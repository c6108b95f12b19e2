//! The text form, written. [`crate::parse`] has the grammar.
//!
//! Printing is total: a broken trace prints too (what does not exist is a `?`), because that is when one wants to see it.

use std::fmt;

use crate::opcode::Immediate;
use crate::reg::{Cond, Reg};
use crate::trace::{Abi, Addr, Constant, End, Native, Op, Snapshot, Trace, Value};
use crate::types::{self, Type};

/// Integers from here to minus this are written in decimal, others in hexadecimal.
const DECIMAL: i64 = 4096;

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut origins = self.origins.iter().peekable();
        for at in 0..=self.ops.len() {
            while let Some((_, pc)) = origins.next_if(|(first, _)| *first as usize <= at) {
                writeln!(f, "@{pc:#x}")?;
            }
            if at < self.ops.len() {
                writeln!(f, "{}", op(self, at))?;
            }
        }
        writeln!(f, "{}", end(self))
    }
}

/// A piece of a trace, for `format!`.
pub struct Piece<'a> {
    trace: &'a Trace,
    what: What<'a>,
}

enum What<'a> {
    Op(usize),
    End,
    Value(Value, Option<Type>),
    Snapshot(&'a Snapshot),
}

/// The operation of this index as its line of text, without the line end.
pub fn op(trace: &Trace, index: usize) -> impl fmt::Display + '_ {
    Piece {
        trace,
        what: What::Op(index),
    }
}

/// The last line of the trace.
pub fn end(trace: &Trace) -> impl fmt::Display + '_ {
    Piece { trace, what: What::End }
}

/// A value: `v7`, or a constant with its type.
pub fn value(trace: &Trace, value: Value) -> impl fmt::Display + '_ {
    Piece {
        trace,
        what: What::Value(value, None),
    }
}

impl Piece<'_> {
    fn value(&self, value: Value, implied: Option<Type>) -> Piece<'_> {
        Piece {
            trace: self.trace,
            what: What::Value(value, implied),
        }
    }

    fn snapshot<'a>(&'a self, snapshot: &'a Snapshot) -> Piece<'a> {
        Piece {
            trace: self.trace,
            what: What::Snapshot(snapshot),
        }
    }
}

impl fmt::Display for Piece<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Op(index) => match self.trace.ops.get(*index) {
                Some(op) => self.write_op(f, *index, op),
                None => f.write_str("?"),
            },
            What::End => self.write_end(f),
            What::Value(value, implied) => self.write_value(f, *value, *implied),
            What::Snapshot(snapshot) => self.write_snapshot(f, snapshot),
        }
    }
}

/// Writes `separator` before every item but the first.
struct List(&'static str, bool);

impl List {
    fn new() -> List {
        List(", ", true)
    }

    fn next(&mut self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if std::mem::take(&mut self.1) {
            return Ok(());
        }
        f.write_str(self.0)
    }
}

impl Piece<'_> {
    fn write_op(&self, f: &mut fmt::Formatter<'_>, index: usize, op: &Op) -> fmt::Result {
        let info = op.code.info();
        if op.result() != Type::Void {
            write!(f, "v{index} = ")?;
        }
        f.write_str(info.name)?;
        if info.immediate == Immediate::Cc {
            write!(f, ".{}", Cond::from_code(op.imm).map_or("?", Cond::name))?;
        }
        if info.suffix.is_some() {
            write!(f, ".{}", op.ty)?;
        }
        let mut separator = " ";
        for (value, (_, kind)) in op.operands().iter().zip(info.operands) {
            if kind.is_address() {
                continue;
            }
            write!(f, "{separator}{}", self.value(*value, kind.implied(op.ty)))?;
            separator = ", ";
        }
        match info.immediate {
            Immediate::No | Immediate::Cc => Ok(()),
            Immediate::Lane => write!(f, "{separator}{}", op.imm),
            Immediate::Imm => write!(f, "{separator}{}", Integer(Type::I64, u64::from(op.imm))),
            Immediate::InReg => {
                let reg = Reg::from_index(usize::from(op.imm));
                write!(f, "{separator}{}", reg.map_or("?", Reg::name))
            }
            Immediate::Mem => {
                f.write_str(separator)?;
                self.write_address(f, op)
            }
            Immediate::Snap => self.write_snapshot_of(f, op),
            Immediate::Abi => {
                let abi = Abi::ALL.into_iter().find(|a| *a as u8 == op.imm);
                write!(f, "{separator}{}", abi.map_or("?", Abi::name))?;
                self.write_snapshot_of(f, op)
            }
            Immediate::Nat => match self.trace.natives.get(op.aux as usize) {
                Some(native) => self.write_native(f, native),
                None => f.write_str(" ?"),
            },
        }
    }

    fn write_snapshot_of(&self, f: &mut fmt::Formatter<'_>, op: &Op) -> fmt::Result {
        match self.trace.snapshots.get(op.aux as usize) {
            Some(snapshot) => write!(f, " {}", self.snapshot(snapshot)),
            None => f.write_str(" ?"),
        }
    }

    fn write_value(&self, f: &mut fmt::Formatter<'_>, value: Value, implied: Option<Type>) -> fmt::Result {
        if let Some(index) = value.as_op() {
            return write!(f, "v{index}");
        }
        let Some(Constant { ty, bits }) = value.as_constant().and_then(|i| self.trace.constants.get(i)) else {
            return f.write_str("?");
        };
        if types::BITS.contains(*ty) && *ty != Type::I1 {
            write!(f, "{}", Integer(*ty, *bits as u64))?;
        } else if let Some(text) = float(*ty, *bits) {
            f.write_str(&text)?;
        } else if *bits < 10 {
            write!(f, "{bits}")?;
        } else {
            write!(f, "{bits:#x}")?;
        }
        if implied != Some(*ty) {
            write!(f, ":{ty}")?;
        }
        Ok(())
    }

    /// A part of an address. A number with a sign would be the displacement, so constants have none here.
    fn part(&self, value: Value) -> String {
        match self.trace.constant(value) {
            Some(bits) if self.trace.type_of(value) == Type::I64 => match bits {
                0..=9 => format!("{bits}"),
                _ => format!("{bits:#x}"),
            },
            _ => self.value(value, Some(Type::I64)).to_string(),
        }
    }

    fn write_address(&self, f: &mut fmt::Formatter<'_>, op: &Op) -> fmt::Result {
        let Some(Addr {
            base,
            index,
            seg,
            flags,
            disp,
        }) = op.addr()
        else {
            return f.write_str("?");
        };
        f.write_str("[")?;
        if !seg.is_none() {
            write!(f, "{}: ", self.part(seg))?;
        }
        let mut plus = "";
        if !base.is_none() {
            write!(f, "{}", self.part(base))?;
            plus = " + ";
        }
        if !index.is_none() {
            write!(f, "{plus}{}*{}", self.part(index), flags.scale())?;
            plus = " + ";
        }
        if disp != 0 || plus.is_empty() {
            let space = if plus.is_empty() { "" } else { " " };
            let sign = if disp < 0 { '-' } else { '+' };
            let size = Integer(Type::I64, u64::from(disp.unsigned_abs()));
            write!(f, "{space}{sign} {size}")?;
        }
        f.write_str(if flags.aligned() { "] aligned" } else { "]" })?;
        f.write_str(if flags.is_unwritten() { " unwritten" } else { "" })?;
        f.write_str(if flags.is_saved() { " saved" } else { "" })
    }

    fn write_registers(&self, f: &mut fmt::Formatter<'_>, list: &mut List, regs: &[(Reg, Value)]) -> fmt::Result {
        for (reg, value) in regs {
            list.next(f)?;
            write!(f, "{reg}={}", self.value(*value, Some(reg.ty())))?;
        }
        Ok(())
    }

    fn write_snapshot(&self, f: &mut fmt::Formatter<'_>, snapshot: &Snapshot) -> fmt::Result {
        let mut list = List::new();
        f.write_str("{")?;
        if let Some(name) = snapshot.via.name() {
            list.next(f)?;
            f.write_str(name)?;
        }
        if !matches!(&self.trace.end, End::Jump { snapshot: s, .. } if std::ptr::eq(s, snapshot)) || snapshot.pc != 0 {
            list.next(f)?;
            write!(f, "pc={:#x}", snapshot.pc)?;
        }
        self.write_registers(f, &mut list, &snapshot.regs)?;
        for store in &snapshot.stores {
            list.next(f)?;
            let ty = self.trace.type_of(store.value);
            write!(f, "store.{ty} {}", self.value(store.value, Some(ty)))?;
            write!(f, ", [{}", self.part(store.base))?;
            if store.disp != 0 {
                let sign = if store.disp < 0 { '-' } else { '+' };
                write!(
                    f,
                    " {sign} {}",
                    Integer(Type::I64, u64::from(store.disp.unsigned_abs()))
                )?;
            }
            f.write_str("]")?;
        }
        f.write_str("}")
    }

    fn write_native(&self, f: &mut fmt::Formatter<'_>, native: &Native) -> fmt::Result {
        write!(f, " {{pc={:#x}, bytes=", native.pc)?;
        for byte in &native.bytes {
            write!(f, "{byte:02x}")?;
        }
        if !native.inputs.is_empty() {
            f.write_str(", in(")?;
            self.write_registers(f, &mut List::new(), &native.inputs)?;
            f.write_str(")")?;
        }
        if !native.outputs.is_empty() {
            let names: Vec<&str> = native.outputs.iter().map(|r| r.name()).collect();
            write!(f, ", out({})", names.join(", "))?;
        }
        for mem in &native.mem {
            let access = match (mem.read, mem.write) {
                (true, true) => "rw",
                (true, false) => "r",
                (false, true) => "w",
                (false, false) => "none",
            };
            f.write_str(", mem(")?;
            match mem.addr {
                Some(addr) => write!(f, "{}", self.value(addr, Some(Type::I64)))?,
                None => f.write_str("any")?,
            }
            write!(f, ", {}, {access})", mem.size)?;
        }
        f.write_str("}")
    }

    fn write_end(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trace.end {
            End::Exit { snapshot } => write!(f, "exit {}", self.snapshot(snapshot)),
            End::Branch { cond, taken, snapshot } => {
                let cond = self.value(*cond, Some(Type::I1));
                write!(f, "branch {cond}, {taken:#x} {}", self.snapshot(snapshot))
            }
            End::Jump { target, snapshot } => {
                let target = self.value(*target, Some(Type::I64));
                write!(f, "jump {target} {}", self.snapshot(snapshot))
            }
            End::Repeat { snapshot } => write!(f, "repeat {}", self.snapshot(snapshot)),
            End::Link { trace, snapshot } => write!(f, "link {trace} {}", self.snapshot(snapshot)),
            End::Loop { carried } => {
                f.write_str("loop")?;
                let mut separator = " ";
                for (phi, next) in carried {
                    let ty = self.trace.type_of(*phi);
                    write!(
                        f,
                        "{separator}{}={}",
                        self.value(*phi, None),
                        self.value(*next, Some(ty))
                    )?;
                    separator = ", ";
                }
                Ok(())
            }
        }
    }
}

/// An integer of this type: small ones signed and in decimal, others in hexadecimal.
struct Integer(Type, u64);

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = crate::flags::sign_extend(self.0.bits(), self.1);
        if (-DECIMAL..=DECIMAL).contains(&signed) {
            write!(f, "{signed}")
        } else {
            write!(f, "{:#x}", self.1)
        }
    }
}

/// A finite float in the shortest decimal form that gives it back; `None` for NaNs, infinities and what is no float.
fn float(ty: Type, bits: u128) -> Option<String> {
    match ty {
        Type::F64 => Some(f64::from_bits(bits as u64))
            .filter(|x| x.is_finite())
            .map(|x| format!("{x:?}")),
        Type::F32 => Some(f32::from_bits(bits as u32))
            .filter(|x| x.is_finite())
            .map(|x| format!("{x:?}")),
        _ => None,
    }
}
