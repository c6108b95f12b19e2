//! The text form, read.
//!
//! One statement a line; within brackets of any kind a line may end anywhere. `;` begins a comment.
//!
//! ```text
//! trace     = { "@" NUMBER | [ NAME "=" ] operation } end
//! operation = OPCODE [ "." CONDITION ] [ "." TYPE ] { operand "," } immediate
//! operand   = NAME | number [ ":" TYPE ]              ; the type only where the table leaves it open
//! number    = [ "-" ] ( DECIMAL | "0x" HEX | FLOAT )
//! address   = "[" [ operand ":" ] [ operand ] [ "+" ] [ operand "*" SCALE ] [ ("+" | "-") DISPLACEMENT ] "]" [ "aligned" ] [ "unwritten" ] [ "saved" ]
//! snapshot  = "{" [ [ ( "silent" | "restart" ) "," ] "pc=" NUMBER ] { "," REGISTER "=" operand } { "," "store." TYPE operand "," address } "}"
//! native    = "{" "pc=" NUMBER "," "bytes=" HEX [ "," "in(" REGISTER "=" operand ... ")" ] [ "," "out(" REGISTER ... ")" ]
//!             { "," "mem(" ( operand | "any" ) "," SIZE "," ( "r" | "w" | "rw" ) ")" } "}"
//! end       = "exit" snapshot | "branch" operand "," NUMBER snapshot | "jump" operand snapshot | "repeat" snapshot
//!           | "link" NUMBER snapshot | "loop" [ NAME "=" operand { "," ... } ]
//! ```
//!
//! * NAME is `v` and a number, any that is not in use; the printer numbers values by their operations.
//! * In an address a number with a sign is the displacement and one without is a constant base: `[0x404000 + 8]`, `[+ 8]`.
//!   What stands before a colon is the segment's base.
//! * `@0x401000`: the operations from here on come from the instruction at that address.
//! * Floats are decimal (`1.5`, `-0.0`, `1e-5`) or their bits in hexadecimal.
//!
//! The text does not show in which order constants, snapshots and natives are pooled, or whether two guards share a
//! snapshot: reading gives the [normal form](Trace::normalized). For every valid trace `t`, `parse(&t.to_string())` is
//! `t.normalized()`, and both print the same.
//!
//! Nothing here recurses, and every length is that of something in the text, so any input gives a trace or an error.

mod lex;
mod pieces;

use std::collections::HashMap;

use crate::builder::Builder;
use crate::opcode::{Immediate, Kind, Opcode};
use crate::reg::{Cond, Reg};
use crate::trace::{Abi, End, Op, Trace, Value};
use crate::types::{Type, TypeSet};
use crate::verify;
use lex::{At, Token};

/// What is wrong with the text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// What was expected, and what was found.
    pub message: String,
}

impl ParseError {
    fn new(at: At, message: impl Into<String>) -> ParseError {
        ParseError {
            line: at.line,
            column: at.column,
            message: message.into(),
        }
    }
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

/// Reads a trace and verifies it.
///
/// # Errors
/// The first error of syntax or type, else the first invariant that does not hold ([`verify`]), at its operation.
pub fn parse(text: &str) -> Result<Trace, ParseError> {
    let parser = Parser::new(text)?;
    let (trace, places) = parser.trace()?;
    match verify::verify(&trace) {
        Ok(()) => Ok(trace),
        Err(violation) => {
            // The last place is that of the end.
            let at = violation.op.unwrap_or(places.len() - 1).min(places.len() - 1);
            Err(ParseError::new(places[at], violation.to_string()))
        }
    }
}

/// Reads a trace as it is: operands exist and have the types that the table wants, but other invariants may not hold.
///
/// # Errors
/// The first error of syntax or type.
pub fn parse_unverified(text: &str) -> Result<Trace, ParseError> {
    Ok(Parser::new(text)?.trace()?.0)
}

struct Parser<'a> {
    tokens: Vec<(At, Token<'a>)>,
    next: usize,
    b: Builder,
    names: HashMap<&'a str, Value>,
    /// Where each operation begins.
    places: Vec<At>,
}

type Result<T, E = ParseError> = std::result::Result<T, E>;

const ENDS: &str = "exit, branch, jump, repeat, loop, link";

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Parser<'a>> {
        Ok(Parser {
            tokens: lex::tokens(text)?,
            next: 0,
            b: Builder::new(),
            names: HashMap::new(),
            places: Vec::new(),
        })
    }

    fn trace(mut self) -> Result<(Trace, Vec<At>)> {
        loop {
            let at = self.at();
            match self.advance() {
                Token::Sign('@') => {
                    let pc = self.number64("the address of an instruction")?;
                    self.b.origin(pc);
                    self.line_end()?;
                }
                Token::Word(word) => {
                    self.places.push(at);
                    if let Some(end) = self.end(word)? {
                        self.line_end()?;
                        if self.peek() != Token::End {
                            return Err(self.expected("nothing after the end of the trace"));
                        }
                        return Ok((self.b.finish(end), self.places));
                    }
                    self.statement(at, word)?;
                    self.line_end()?;
                }
                other => {
                    let found = other.describe();
                    return Err(ParseError::new(
                        at,
                        format!("expected an operation or an end ({ENDS}), found {found}"),
                    ));
                }
            }
        }
    }

    // ---- tokens

    fn at(&self) -> At {
        self.tokens[self.next].0
    }

    fn peek(&self) -> Token<'a> {
        self.tokens[self.next].1
    }

    fn peek_second(&self) -> Token<'a> {
        self.tokens.get(self.next + 1).map_or(Token::End, |t| t.1)
    }

    /// The token, and on to the next; the last one, `End`, stays.
    fn advance(&mut self) -> Token<'a> {
        let token = self.peek();
        if token != Token::End {
            self.next += 1;
        }
        token
    }

    fn expected(&self, what: impl std::fmt::Display) -> ParseError {
        ParseError::new(self.at(), format!("expected {what}, found {}", self.peek().describe()))
    }

    fn is_sign(&self, c: char) -> bool {
        self.peek() == Token::Sign(c)
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.is_sign(c);
        if found {
            self.next += 1;
        }
        found
    }

    fn sign(&mut self, c: char) -> Result<()> {
        if self.eat(c) {
            Ok(())
        } else {
            Err(self.expected(format_args!("`{c}`")))
        }
    }

    fn word(&mut self, what: &str) -> Result<&'a str> {
        match self.peek() {
            Token::Word(word) => {
                self.next += 1;
                Ok(word)
            }
            _ => Err(self.expected(what)),
        }
    }

    fn keyword(&mut self, keyword: &str) -> Result<()> {
        if self.peek() == Token::Word(keyword) {
            self.next += 1;
            return Ok(());
        }
        Err(self.expected(format_args!("`{keyword}`")))
    }

    fn newlines(&mut self) {
        while self.peek() == Token::Newline {
            self.next += 1;
        }
    }

    fn line_end(&mut self) -> Result<()> {
        match self.peek() {
            Token::Newline => {
                self.next += 1;
                Ok(())
            }
            Token::End => Ok(()),
            _ => Err(self.expected("the end of the line")),
        }
    }

    // ---- operations

    fn statement(&mut self, at: At, first: &'a str) -> Result<()> {
        if self.b.len() + 1 >= Value::LIMIT {
            return Err(ParseError::new(at, "a trace has fewer than 2^24 operations"));
        }
        let mut name = None;
        let (mut op_at, mut word) = (at, first);
        if self.eat('=') {
            if !is_name(first) {
                return Err(ParseError::new(
                    at,
                    format!("expected a name such as `v1` before `=`, found `{first}`"),
                ));
            }
            if self.names.contains_key(first) {
                return Err(ParseError::new(at, format!("`{first}` is defined already")));
            }
            name = Some(first);
            op_at = self.at();
            word = self.word("an operation")?;
        }
        let op = self.operation(op_at, word)?;
        match (name, op.result()) {
            (Some(_), Type::Void) => {
                return Err(ParseError::new(at, format!("`{word}` has no result to name")));
            }
            (None, ty) if ty != Type::Void => {
                return Err(ParseError::new(
                    at,
                    format!("`{word}` has a result: expected `vN = {word} ...`"),
                ));
            }
            _ => {}
        }
        let value = self.b.push(op);
        if let Some(name) = name {
            self.names.insert(name, value);
        }
        Ok(())
    }

    /// The opcode, its suffix, and the condition that `cond` has in the place of one.
    fn opcode(&self, at: At, word: &str) -> Result<(Opcode, Type, u8)> {
        if let Some((code, ty)) = Opcode::parse(word) {
            if code.info().immediate == Immediate::Cc {
                return Err(ParseError::new(
                    at,
                    format!("`{word}` needs a condition, as in `{word}.e`"),
                ));
            }
            return Ok((code, ty, 0));
        }
        let (name, suffix) = word.rsplit_once('.').unwrap_or((word, ""));
        if let Some((code, _)) = Opcode::parse(name)
            && code.info().immediate == Immediate::Cc
        {
            let cond = Cond::from_name(suffix).ok_or_else(|| {
                ParseError::new(
                    at,
                    format!("`{suffix}` is no condition; they are o no b ae e ne be a s ns p np l ge le g"),
                )
            })?;
            return Ok((code, Type::Void, cond.code()));
        }
        let with_suffix = |name: &str| Opcode::ALL.iter().find(|op| op.info().name == name).copied();
        let message = match (with_suffix(name), with_suffix(word)) {
            (Some(code), _) | (_, Some(code)) => match code.info().suffix {
                Some(set) => format!("`{}` needs a type: one of {}", code.info().name, forms(code, set)),
                None => format!("`{name}` has no type after its name"),
            },
            (None, None) => format!(
                "expected an operation or an end ({ENDS}), found {}",
                Token::Word(word).describe()
            ),
        };
        Err(ParseError::new(at, message))
    }

    fn operation(&mut self, at: At, word: &str) -> Result<Op> {
        let (code, ty, imm) = self.opcode(at, word)?;
        let info = code.info();
        let mut op = Op {
            code,
            ty,
            imm,
            aux: 0,
            args: [Value::NONE; 4],
        };
        let mut separate = false;
        for (i, (operand, kind)) in info.operands.iter().enumerate() {
            if kind.is_address() {
                continue;
            }
            if separate {
                self.sign(',')?;
            }
            op.args[i] = self.operand(operand, *kind, ty)?;
            separate = true;
        }
        let has_more = !matches!(
            info.immediate,
            Immediate::No | Immediate::Cc | Immediate::Snap | Immediate::Nat
        );
        if separate && has_more {
            self.sign(',')?;
        }
        match info.immediate {
            Immediate::No | Immediate::Cc => {}
            Immediate::Lane => op.imm = self.small("a lane number")?,
            Immediate::Imm => op.imm = self.small("an 8-bit immediate")?,
            Immediate::InReg => {
                let at = self.at();
                let reg = self.register()?;
                if reg.ty() != ty {
                    let message = format!("{reg} holds {}, and the operation is of type {ty}", reg.ty());
                    return Err(ParseError::new(at, message));
                }
                op.imm = reg.index() as u8;
            }
            Immediate::Mem => self.address(&mut op)?,
            Immediate::Snap => op.aux = self.snapshot_index()?,
            Immediate::Abi => {
                let at = self.at();
                let name = self.word("a calling convention")?;
                let abi = Abi::ALL
                    .into_iter()
                    .find(|abi| abi.name() == name)
                    .ok_or_else(|| ParseError::new(at, format!("expected `full` or `sysv`, found `{name}`")))?;
                op.imm = abi as u8;
                op.aux = self.snapshot_index()?;
            }
            Immediate::Nat => op.aux = self.native()?,
        }
        Ok(op)
    }

    fn snapshot_index(&mut self) -> Result<i32> {
        let snapshot = self.snapshot(true)?;
        // Below the limit on operations, each of which has at most one.
        Ok(self.b.snapshot(snapshot) as i32)
    }

    /// An operand of this kind, in an operation with this suffix.
    fn operand(&mut self, name: &str, kind: Kind, suffix: Type) -> Result<Value> {
        let at = self.at();
        let value = self.value(kind.implied(suffix))?;
        let found = self.b.type_of(value);
        if kind.accepts(suffix, found) {
            return Ok(value);
        }
        let message = format!("operand `{name}` is to be {}, found {found}", kind.describe(suffix));
        Err(ParseError::new(at, message))
    }

    // ---- the end

    fn end(&mut self, word: &str) -> Result<Option<End>> {
        Ok(Some(match word {
            "exit" => End::Exit {
                snapshot: self.snapshot(true)?,
            },
            "branch" => {
                let cond = self.typed(Type::I1)?;
                self.sign(',')?;
                let taken = self.number64("the address where the branch goes when it is taken")?;
                let snapshot = self.snapshot(true)?;
                End::Branch { cond, taken, snapshot }
            }
            "jump" => {
                let target = self.typed(Type::I64)?;
                let snapshot = self.snapshot(false)?;
                End::Jump { target, snapshot }
            }
            "repeat" => End::Repeat {
                snapshot: self.snapshot(true)?,
            },
            "link" => {
                let at = self.at();
                let number = self.number64("the number of a trace")?;
                let trace =
                    u32::try_from(number).map_err(|_| ParseError::new(at, format!("{number} is more than 32 bits")))?;
                let snapshot = self.snapshot(true)?;
                End::Link { trace, snapshot }
            }
            "loop" => self.loop_end()?,
            _ => return Ok(None),
        }))
    }

    fn loop_end(&mut self) -> Result<End> {
        let mut carried = Vec::new();
        while !matches!(self.peek(), Token::Newline | Token::End) {
            if !carried.is_empty() {
                self.sign(',')?;
            }
            let at = self.at();
            let phi = self.value(None)?;
            let is_phi = phi.as_op().is_some_and(|i| self.b.trace().ops[i].code == Opcode::Phi);
            if !is_phi {
                return Err(ParseError::new(at, "expected the name of a phi"));
            }
            self.sign('=')?;
            let next = self.typed(self.b.type_of(phi))?;
            carried.push((phi, next));
        }
        Ok(End::Loop { carried })
    }

    fn register(&mut self) -> Result<Reg> {
        let at = self.at();
        let name = self.word("a register")?;
        Reg::from_name(name).ok_or_else(|| {
            let found = Token::Word(name).describe();
            ParseError::new(at, format!("expected a register, found {found}"))
        })
    }
}

fn is_name(word: &str) -> bool {
    word.strip_prefix('v')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// `add.i8 add.i16 add.i32 add.i64`.
fn forms(code: Opcode, set: TypeSet) -> String {
    let name = code.info().name;
    set.iter()
        .map(|ty| format!("{name}.{ty}"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests;
