//! Words and punctuation, each with its place.

use super::ParseError;

/// A place in the text, both counted from 1; columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) line: u32,
    pub(super) column: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Letters, digits, `_` and `.`: names, opcodes, numbers.
    Word(&'a str),
    /// One of [`PUNCTUATION`].
    Sign(char),
    /// The end of a line that has something on it.
    Newline,
    /// The end of the text.
    End,
}

impl Token<'_> {
    /// As an error message names it.
    pub(super) fn describe(self) -> String {
        match self {
            // Text may be anything, and an error message should fit a terminal.
            Token::Word(w) if w.len() > 40 => format!("`{}...`", &w[..40]),
            Token::Word(w) => format!("`{w}`"),
            Token::Sign(c) => format!("`{c}`"),
            Token::Newline => "the end of the line".into(),
            Token::End => "the end of the text".into(),
        }
    }
}

const PUNCTUATION: &str = "@=,:[](){}+-*";

/// Splits the text. Comments (`;` to the end of the line) and empty lines are dropped.
pub(super) fn tokens(text: &str) -> Result<Vec<(At, Token<'_>)>, ParseError> {
    let mut out: Vec<(At, Token<'_>)> = Vec::new();
    let mut at = At { line: 0, column: 1 };
    for line in text.split('\n') {
        at.line += 1;
        let code = line.split(';').next().unwrap_or("");
        let before = out.len();
        let mut rest = code;
        at.column = 1;
        while let Some(c) = rest.chars().next() {
            if c == ' ' || c == '\t' || c == '\r' {
                rest = &rest[1..];
                at.column += 1;
            } else if is_word(c) {
                let length = word_length(rest);
                out.push((at, Token::Word(&rest[..length])));
                rest = &rest[length..];
                // Words are ASCII: a byte is a character.
                at.column += length as u32;
            } else if PUNCTUATION.contains(c) {
                out.push((at, Token::Sign(c)));
                rest = &rest[1..];
                at.column += 1;
            } else {
                return Err(ParseError::new(at, format!("{c:?} has no meaning here")));
            }
        }
        if out.len() > before {
            out.push((at, Token::Newline));
        }
    }
    out.push((at, Token::End));
    Ok(out)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

/// Bytes of the word that `text` begins with. The sign of a float's exponent (`1e-5`) is part of it.
fn word_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let number = bytes[0].is_ascii_digit() && !text.starts_with("0x");
    let mut length = 1;
    while let Some(&b) = bytes.get(length) {
        let exponent = number && matches!(b, b'-' | b'+') && matches!(bytes[length - 1], b'e' | b'E');
        let digit_follows = bytes.get(length + 1).is_some_and(u8::is_ascii_digit);
        if !(is_word(char::from(b)) || exponent && digit_follows) {
            break;
        }
        length += 1;
    }
    length
}
