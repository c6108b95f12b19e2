//! The reference of operations in `docs/ir.md`, from the table.

use std::fmt::Write as _;
use std::path::Path;

use redmagic_ir::opcode::{Immediate, OpInfo, ResultRule};
use redmagic_ir::{Opcode, Type};

use super::BLESS;

const BEGIN: &str = "<!-- operations: written by a test -->\n";
const END: &str = "<!-- end of operations -->\n";

/// Compares the reference in `docs/ir.md` with the table, or rewrites it.
///
/// # Panics
/// When they differ.
pub fn check_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ir.md");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (before, rest) = text.split_once(BEGIN).expect("the mark before the reference");
    let (found, after) = rest.split_once(END).expect("the mark after the reference");
    let reference = reference();
    if found == reference {
        return;
    }
    if std::env::var_os(BLESS).is_some_and(|v| v == "1") {
        std::fs::write(&path, format!("{before}{BEGIN}{reference}{END}{after}")).expect("writable");
    } else {
        panic!("docs/ir.md does not have the operations of the table: {BLESS}=1 rewrites it");
    }
}

fn reference() -> String {
    let mut out = String::new();
    for (title, operations) in Opcode::GROUPS {
        writeln!(out, "\n### {title}\n").expect("a string");
        // Without a word of its own, an operation is the x86 instruction of its name.
        let (plain, told): (Vec<&Opcode>, Vec<&Opcode>) = operations.iter().partition(|op| op.info().doc.is_empty());
        if !told.is_empty() {
            out += "| operation | gives | effects | |\n|---|---|---|---|\n";
        }
        for op in told {
            let info = op.info();
            let doc: Vec<&str> = info.doc.iter().map(|line| line.trim()).collect();
            let doc = doc.join(" ").replace('|', "\\|");
            writeln!(
                out,
                "| {} | {} | {} | {doc} |",
                form(info),
                gives(info),
                info.effects.names()
            )
            .expect("a string");
        }
        if !plain.is_empty() {
            if operations.len() != plain.len() {
                out += "\n";
            }
            out += "What the x86 instruction of the same name computes, of one or two v128:\n\n";
            for effects in ["pure", "fp"] {
                let names: Vec<String> = plain
                    .iter()
                    .filter(|op| op.info().effects.names() == effects)
                    .map(|op| format!("`{}`", op.info().name))
                    .collect();
                if !names.is_empty() {
                    writeln!(out, "* {effects}: {}", names.join(" ")).expect("a string");
                }
            }
        }
    }
    out += "\n";
    out
}

/// How it is written: `add.T a: T, b: T`, with the types that T may be.
fn form(info: &OpInfo) -> String {
    let mut operands: Vec<String> = Vec::new();
    if info.immediate == Immediate::Mem {
        let stored = info.operands.iter().filter(|(_, kind)| !kind.is_address());
        operands.extend(stored.map(|(name, _)| format!("{name}: T")));
        operands.push("[address]".into());
    } else {
        for (name, kind) in info.operands {
            // A type that is no suffix stands for T in words.
            let words = kind.describe(Type::Void).replace("void", "T");
            operands.push(format!("{name}: {words}"));
        }
    }
    match info.immediate {
        Immediate::Lane => operands.push("lane".into()),
        Immediate::Imm => operands.push("imm8".into()),
        Immediate::InReg => operands.push("register".into()),
        Immediate::Abi => operands.push("full or sysv".into()),
        _ => {}
    }
    let mut out = format!("`{}", info.name);
    if info.immediate == Immediate::Cc {
        out += ".CONDITION";
    }
    if info.suffix.is_some() {
        out += ".T";
    }
    if !operands.is_empty() {
        out += " ";
        out += &operands.join(", ");
    }
    out += match info.immediate {
        Immediate::Snap | Immediate::Abi => " {snapshot}`",
        Immediate::Nat => " {native}`",
        _ => "`",
    };
    if let Some(set) = info.suffix {
        let types: Vec<&str> = set.iter().map(Type::name).collect();
        out += &format!("<br>T: {}", types.join(" "));
    }
    out
}

fn gives(info: &OpInfo) -> &'static str {
    match info.result {
        ResultRule::T => "T",
        ResultRule::Is(Type::Void) => "",
        ResultRule::Is(ty) => ty.name(),
    }
}
