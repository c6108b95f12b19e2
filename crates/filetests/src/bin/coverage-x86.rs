//! What of a binary's code the lifter models, leaves to `native`, or refuses. `scripts/coverage-x86` runs it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use goblin::elf::{Elf, header, section_header};
use redmagic_lift::coverage::{Class, Coverage};

/// Decodes the executable sections of ELF files from first byte to last, and counts by mnemonic which instructions are
/// modelled, native, or refused. Padding (nop, int3) is counted apart. Data between functions is decoded too: of a file
/// that has some, the counts are near enough, not exact.
#[derive(Parser)]
struct Arguments {
    /// x86-64 ELF executables or shared libraries.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// How many mnemonics to list of each class; all without a limit.
    #[arg(long, default_value_t = 30)]
    top: usize,
    /// Exit with 1 when less than this percentage is modelled or native.
    #[arg(long, default_value_t = 0.0)]
    covered: f64,
    /// Exit with 1 when less than this percentage is modelled.
    #[arg(long, default_value_t = 0.0)]
    modelled: f64,
}

/// Mnemonics that fill the space between functions.
const PADDING: [&str; 2] = ["nop", "int3"];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut missed = false;
    for file in &arguments.files {
        let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let coverage = of_elf(&bytes).with_context(|| format!("{}", file.display()))?;
        println!("{}", file.display());
        let padding: u64 = coverage
            .by_mnemonic
            .iter()
            .filter(|((_, name), _)| PADDING.contains(&name.as_str()))
            .map(|(_, n)| n)
            .sum();
        let total = coverage.total() - padding;
        if total == 0 {
            bail!("{} has no code", file.display());
        }
        let percent = |n: u64| 100.0 * n as f64 / total as f64;
        let count = |class| -> u64 {
            let of_class = coverage.mnemonics(class);
            of_class
                .iter()
                .filter(|(name, _)| !PADDING.contains(name))
                .map(|(_, n)| n)
                .sum()
        };
        println!(
            "  {total} instructions, and {padding} of padding; {} undecodable bytes",
            coverage.undecodable
        );
        for (class, name) in [
            (Class::Modelled, "modelled"),
            (Class::Native, "native"),
            (Class::Refused, "refused"),
        ] {
            let n = count(class);
            println!("  {name:9} {n:9} {:8.4}%", percent(n));
            for (mnemonic, n) in coverage.mnemonics(class).iter().take(arguments.top) {
                println!("    {mnemonic:14} {n:9}");
            }
        }
        let modelled = percent(count(Class::Modelled));
        let covered = modelled + percent(count(Class::Native));
        println!("  {modelled:.2}% modelled, {covered:.2}% modelled or native");
        missed |= modelled < arguments.modelled || covered < arguments.covered;
    }
    std::process::exit(i32::from(missed));
}

fn of_elf(bytes: &[u8]) -> Result<Coverage> {
    let elf = Elf::parse(bytes).context("no ELF file")?;
    if elf.header.e_machine != header::EM_X86_64 {
        bail!("not for x86-64");
    }
    let mut coverage = Coverage::default();
    for section in &elf.section_headers {
        let code = section.is_executable() && section.sh_type == section_header::SHT_PROGBITS;
        if let (true, Some(range)) = (code, section.file_range()) {
            let text = bytes.get(range).context("a section reaches beyond the file")?;
            coverage.add(text, section.sh_addr);
        }
    }
    Ok(coverage)
}
