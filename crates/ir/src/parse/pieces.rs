//! Values, addresses, snapshots and natives.

use super::lex::{At, Token};
use super::{ParseError, Parser, Result, is_name};
use crate::flags;
use crate::opcode::Kind;
use crate::reg::Reg;
use crate::trace::{ExitStore, MemFlags, Native, NativeMem, Op, Snapshot, Value, Via};
use crate::types::{self, Type};

/// A number as it stands in the text.
struct Number<'a> {
    at: At,
    negative: bool,
    digits: &'a str,
}

impl Number<'_> {
    fn error(&self, message: impl std::fmt::Display) -> ParseError {
        let sign = if self.negative { "-" } else { "" };
        let digits: String = self.digits.chars().take(40).collect();
        ParseError::new(self.at, format!("`{sign}{digits}` {message}"))
    }

    fn magnitude(&self) -> Result<u128> {
        let parsed = match self.digits.strip_prefix("0x") {
            // `from_str_radix` takes a sign; the lexer makes no word with one here.
            Some(hex) => u128::from_str_radix(hex, 16),
            None => self.digits.parse(),
        };
        parsed.map_err(|_| self.error("is no number of at most 128 bits"))
    }

    /// The bits of a constant of this type.
    fn bits(&self, ty: Type) -> Result<u128> {
        if types::FLOATS.contains(ty) {
            return self.float(ty);
        }
        let magnitude = self.magnitude()?;
        let limit = if self.negative { ty.mask() / 2 + 1 } else { ty.mask() };
        if magnitude > limit || self.negative && !types::INTS.contains(ty) {
            return Err(self.error(format_args!("does not fit {ty}")));
        }
        if ty == Type::Flags && magnitude & !u128::from(flags::STATUS) != 0 {
            return Err(
                self.error("has bits that are no status flag (CF 1, PF 4, AF 0x10, ZF 0x40, SF 0x80, OF 0x800)")
            );
        }
        Ok(if self.negative {
            magnitude.wrapping_neg() & ty.mask()
        } else {
            magnitude
        })
    }

    fn float(&self, ty: Type) -> Result<u128> {
        if self.digits.starts_with("0x") && !self.negative {
            let bits = self.magnitude()?;
            return if bits > ty.mask() {
                Err(self.error(format_args!("does not fit {ty}")))
            } else {
                Ok(bits)
            };
        }
        if !self.digits.contains(['.', 'e', 'E']) {
            return Err(self.error("is to be a float such as `1.0` or `1e-5`, or its bits in hexadecimal"));
        }
        let not_a_float = |_| self.error("is no float");
        let (bits, finite, sign) = if ty == Type::F64 {
            let x: f64 = self.digits.parse().map_err(not_a_float)?;
            (u128::from(x.to_bits()), x.is_finite(), 63)
        } else {
            let x: f32 = self.digits.parse().map_err(not_a_float)?;
            (u128::from(x.to_bits()), x.is_finite(), 31)
        };
        if !finite {
            return Err(self.error(format_args!(
                "is too large for {ty}; write an infinity as its bits in hexadecimal"
            )));
        }
        Ok(bits | u128::from(self.negative) << sign)
    }
}

impl<'a> Parser<'a> {
    fn number(&mut self, what: &str) -> Result<Number<'a>> {
        let at = self.at();
        let start = self.next;
        let negative = self.eat('-');
        match self.peek() {
            Token::Word(digits) if digits.starts_with(|c: char| c.is_ascii_digit()) => {
                self.next += 1;
                Ok(Number { at, negative, digits })
            }
            _ => {
                self.next = start;
                Err(self.expected(what))
            }
        }
    }

    pub(super) fn number64(&mut self, what: &str) -> Result<u64> {
        let number = self.number(what)?;
        Ok(number.bits(Type::I64)? as u64)
    }

    pub(super) fn small(&mut self, what: &str) -> Result<u8> {
        let number = self.number(what)?;
        let bits = number.magnitude()?;
        u8::try_from(bits)
            .ok()
            .filter(|_| !number.negative)
            .ok_or_else(|| number.error(format_args!("is to be {what}, 0 to 255")))
    }

    /// A name, or a constant: of its own type if it states one, else of the implied one.
    pub(super) fn value(&mut self, implied: Option<Type>) -> Result<Value> {
        let at = self.at();
        if let Token::Word(word) = self.peek()
            && is_name(word)
        {
            self.next += 1;
            return self.names.get(word).copied().ok_or_else(|| {
                let found = Token::Word(word).describe();
                ParseError::new(at, format!("{found} is not defined above"))
            });
        }
        let number = self.number("a value: a name such as `v1`, or a number")?;
        let mut ty = implied;
        if self.is_sign(':')
            && let Token::Word(word) = self.peek_second()
            && let Some(stated) = Type::from_name(word)
        {
            if matches!(stated, Type::Void | Type::Tuple) {
                return Err(number.error(format_args!("cannot be of type {stated}")));
            }
            self.next += 2;
            ty = Some(stated);
        }
        let Some(ty) = ty else {
            let digits = number.digits;
            return Err(number.error(format_args!("needs a type here, as in `{digits}:i32`")));
        };
        if self.b.trace().constants.len() + 1 >= Value::LIMIT {
            return Err(ParseError::new(at, "a trace has fewer than 2^24 constants"));
        }
        let bits = number.bits(ty)?;
        Ok(self.b.constant(ty, bits))
    }

    /// A value of this type.
    pub(super) fn typed(&mut self, ty: Type) -> Result<Value> {
        let at = self.at();
        let value = self.value(Some(ty).filter(|ty| *ty != Type::Void))?;
        let found = self.b.type_of(value);
        if found == ty {
            return Ok(value);
        }
        Err(ParseError::new(
            at,
            format!("expected a value of type {ty}, found {found}"),
        ))
    }

    /// `[seg: base + index*scale + disp] aligned unwritten saved` into the operation's fields.
    pub(super) fn address(&mut self, op: &mut Op) -> Result<()> {
        let start = self.at();
        self.sign('[')?;
        let (mut seg, mut base, mut index) = (Value::NONE, Value::NONE, Value::NONE);
        let mut scale = 1;
        self.newlines();
        if !self.signed() {
            let first = self.typed(Type::I64)?;
            self.newlines();
            if self.eat(':') {
                seg = first;
                self.newlines();
                if !self.signed() {
                    base = self.typed(Type::I64)?;
                }
            } else {
                base = first;
            }
        }
        if self.is_sign('*') {
            index = std::mem::replace(&mut base, Value::NONE);
            scale = self.scale()?;
        } else if self.is_sign('+')
            && !base.is_none()
            && (matches!(self.peek_second(), Token::Word(w) if is_name(w)) || self.is_scaled_constant())
        {
            self.next += 1;
            index = self.typed(Type::I64)?;
            scale = self.scale()?;
        }
        let disp = self.displacement()?;
        self.newlines();
        self.sign(']')?;
        let mut aligned = false;
        if self.peek() == Token::Word("aligned") {
            self.next += 1;
            aligned = true;
        }
        let unwritten = self.peek() == Token::Word("unwritten");
        self.next += usize::from(unwritten);
        let saved = self.peek() == Token::Word("saved");
        self.next += usize::from(saved);
        let parts = [(Kind::Base, base), (Kind::Index, index), (Kind::Segment, seg)];
        for (part, value) in parts {
            match op.code.info().operands.iter().position(|(_, kind)| *kind == part) {
                Some(i) => op.args[i] = value,
                None if value.is_none() => {}
                None => {
                    return Err(ParseError::new(
                        start,
                        format!("the address of `{}` has no segment", op.code.info().name),
                    ));
                }
            }
        }
        let mut flags = MemFlags::new(scale, aligned);
        if unwritten {
            flags = flags.unwritten();
        }
        if saved {
            flags = flags.saved();
        }
        op.imm = flags.0;
        op.aux = disp;
        Ok(())
    }

    /// Whether a displacement is next.
    fn signed(&self) -> bool {
        self.is_sign('+') || self.is_sign('-')
    }

    /// At a `+`: whether a number and `*` follow.
    fn is_scaled_constant(&self) -> bool {
        matches!(self.tokens.get(self.next + 2), Some((_, Token::Sign('*'))))
    }

    fn scale(&mut self) -> Result<u32> {
        self.sign('*')?;
        let number = self.number("a scale")?;
        match number.magnitude()? {
            scale @ (1 | 2 | 4 | 8) if !number.negative => Ok(scale as u32),
            _ => Err(number.error("is no scale: 1, 2, 4 or 8")),
        }
    }

    /// `+ 8`, `- 8`, or nothing.
    fn displacement(&mut self) -> Result<i32> {
        self.newlines();
        let negative = self.is_sign('-');
        if !negative && !self.is_sign('+') {
            return Ok(0);
        }
        self.next += 1;
        let number = self.number("a displacement")?;
        let magnitude = i64::try_from(number.magnitude()?).unwrap_or(i64::MAX);
        let disp = if negative { -magnitude } else { magnitude };
        i32::try_from(disp)
            .ok()
            .filter(|_| !number.negative)
            .ok_or_else(|| number.error("does not fit a displacement, 32 bits with a sign"))
    }

    /// `{pc=..., rax=v1, store.i64 v2, [v3 + 8]}`.
    pub(super) fn snapshot(&mut self, with_pc: bool) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        self.sign('{')?;
        self.newlines();
        let mut first = true;
        if with_pc {
            for via in Via::ALL {
                if via.name().is_some_and(|name| self.keyword(name).is_ok()) {
                    snapshot.via = via;
                    self.sign(',')?;
                    self.newlines();
                }
            }
            self.keyword("pc")?;
            self.sign('=')?;
            snapshot.pc = self.number64("an address")?;
            first = false;
        }
        loop {
            self.newlines();
            if self.eat('}') {
                break;
            }
            if !std::mem::take(&mut first) {
                self.sign(',')?;
                self.newlines();
            }
            let at = self.at();
            let word = self.word("a register, `store.T` or `}`")?;
            if let Some(ty) = word.strip_prefix("store.") {
                let ty = Type::from_name(ty)
                    .filter(|ty| types::STORABLE.contains(*ty))
                    .ok_or_else(|| ParseError::new(at, format!("{} is no store", Token::Word(word).describe())))?;
                snapshot.stores.push(self.exit_store(ty)?);
            } else {
                self.next -= 1;
                let entry = self.register_value()?;
                insert(&mut snapshot.regs, entry).map_err(|message| ParseError::new(at, message))?;
            }
        }
        Ok(snapshot)
    }

    fn exit_store(&mut self, ty: Type) -> Result<ExitStore> {
        let value = self.typed(ty)?;
        self.sign(',')?;
        self.newlines();
        self.sign('[')?;
        if self.signed() {
            return Err(self.expected("the base of the address, which an exit store must have"));
        }
        let base = self.typed(Type::I64)?;
        let disp = self.displacement()?;
        self.sign(']')?;
        Ok(ExitStore { value, base, disp })
    }

    fn register_value(&mut self) -> Result<(Reg, Value)> {
        let reg = self.register()?;
        self.sign('=')?;
        Ok((reg, self.typed(reg.ty())?))
    }

    /// `{pc=0x1000, bytes=0fa2, in(rax=v1), out(rax, rbx), mem(v2, 8, rw), mem(any, 0, r)}`; gives its index.
    pub(super) fn native(&mut self) -> Result<i32> {
        self.sign('{')?;
        self.newlines();
        self.keyword("pc")?;
        self.sign('=')?;
        let pc = self.number64("an address")?;
        self.sign(',')?;
        self.newlines();
        self.keyword("bytes")?;
        self.sign('=')?;
        let mut native = Native {
            pc,
            bytes: self.hex_bytes()?,
            inputs: Vec::new(),
            outputs: Vec::new(),
            mem: Vec::new(),
        };
        loop {
            self.newlines();
            if self.eat('}') {
                break;
            }
            self.sign(',')?;
            self.newlines();
            let at = self.at();
            match self.word("`in`, `out`, `mem` or `}`")? {
                "in" => self.list(|p| {
                    let at = p.at();
                    let entry = p.register_value()?;
                    insert(&mut native.inputs, entry).map_err(|message| ParseError::new(at, message))
                })?,
                "out" => self.list(|p| {
                    let at = p.at();
                    let reg = p.register()?;
                    let place = native.outputs.binary_search(&reg);
                    let place = place
                        .err()
                        .ok_or_else(|| ParseError::new(at, format!("{reg} is listed twice")))?;
                    native.outputs.insert(place, reg);
                    Ok(())
                })?,
                "mem" => {
                    let mem = self.native_mem()?;
                    native.mem.push(mem);
                }
                other => {
                    let found = Token::Word(other).describe();
                    return Err(ParseError::new(
                        at,
                        format!("expected `in`, `out`, `mem` or `}}`, found {found}"),
                    ));
                }
            }
        }
        self.b.trace.natives.push(native);
        Ok(self.b.trace.natives.len() as i32 - 1)
    }

    fn hex_bytes(&mut self) -> Result<Vec<u8>> {
        let at = self.at();
        let word = self.word("the instruction in hexadecimal")?;
        let pairs = word.as_bytes().chunks(2);
        let bytes = pairs.map(|pair| {
            let digit = |b: u8| char::from(b).to_digit(16);
            let [high, low] = pair else { return None };
            Some((digit(*high)? << 4 | digit(*low)?) as u8)
        });
        bytes.collect::<Option<Vec<u8>>>().ok_or_else(|| {
            let found = Token::Word(word).describe();
            ParseError::new(at, format!("expected pairs of hexadecimal digits, found {found}"))
        })
    }

    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.sign('(')?;
        self.newlines();
        loop {
            item(self)?;
            self.newlines();
            if self.eat(')') {
                return Ok(());
            }
            self.sign(',')?;
            self.newlines();
        }
    }

    fn native_mem(&mut self) -> Result<NativeMem> {
        self.sign('(')?;
        let addr = if self.peek() == Token::Word("any") {
            self.next += 1;
            None
        } else {
            Some(self.typed(Type::I64)?)
        };
        self.sign(',')?;
        let number = self.number("a size in bytes")?;
        let size = u32::try_from(number.magnitude()?)
            .ok()
            .filter(|_| !number.negative)
            .ok_or_else(|| number.error("does not fit 32 bits"))?;
        self.sign(',')?;
        let at = self.at();
        let (read, write) = match self.word("`r`, `w` or `rw`")? {
            "r" => (true, false),
            "w" => (false, true),
            "rw" => (true, true),
            other => {
                let found = Token::Word(other).describe();
                return Err(ParseError::new(at, format!("expected `r`, `w` or `rw`, found {found}")));
            }
        };
        self.sign(')')?;
        Ok(NativeMem {
            addr,
            size,
            read,
            write,
        })
    }
}

/// Into a list in register order.
fn insert(list: &mut Vec<(Reg, Value)>, entry: (Reg, Value)) -> Result<(), String> {
    match list.binary_search_by_key(&entry.0, |(reg, _)| *reg) {
        Ok(_) => Err(format!("{} is listed twice", entry.0)),
        Err(place) => {
            list.insert(place, entry);
            Ok(())
        }
    }
}
