//! An ELF file mapped into a process: where it was loaded, its notes and its symbols.

use std::fs::File;
use std::io::Read;
use std::ops::Range;

use goblin::elf::program_header::{PF_X, PT_LOAD, PT_NOTE};
use goblin::elf::reloc::{R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT};
use goblin::elf::{Elf, sym};

use crate::error::{Error, Result};
use crate::maps::{Maps, Region};

/// Largest file that is read in, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// One ELF note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Owner, without the terminating NUL.
    pub name: String,
    /// Type, meaningful to the owner.
    pub kind: u32,
    /// Contents.
    pub desc: Vec<u8>,
    /// Where the contents are in the target, when they are in a loaded segment.
    pub address: Option<u64>,
}

/// A function symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// As in the symbol table (mangled).
    pub name: String,
    /// Addresses in the target; the length may be zero.
    pub range: Range<u64>,
    /// Whether it is a function (or an ifunc) and not data.
    pub function: bool,
}

/// An ELF file as it is mapped in a process.
#[derive(Debug, Clone)]
pub struct Image {
    /// Path as the process sees it.
    pub path: String,
    /// 64-bit class.
    pub is_64: bool,
    /// What to add to an address in the file to get the address in the process (modulo 2^64).
    pub bias: u64,
    /// All loaded segments, in the process.
    pub range: Range<u64>,
    /// Executable segments, in the process.
    pub text: Vec<Range<u64>>,
    /// All notes of all PT_NOTE segments.
    pub notes: Vec<Note>,
    /// Defined symbols, ascending by address; from `.symtab` when there is one, else `.dynsym`.
    symbols: Vec<Symbol>,
    /// Words, in the process, through which functions of other images are called, and their names.
    imports: Vec<(u64, String)>,
}

impl Image {
    /// The image that `address` (in a file mapping of process `pid`) belongs to.
    ///
    /// # Errors
    /// [`Error::Parse`] when nothing, or no ELF file, is mapped there; EACCES when the file may not be read.
    pub fn at(pid: i32, maps: &Maps, address: u64) -> Result<Self> {
        let region = maps.find(address).filter(|r| r.is_file()).ok_or_else(|| Error::Parse {
            what: format!("the image at {address:#x}"),
            pid,
            detail: "no file is mapped there".into(),
        })?;
        let bytes = read_mapped_file(pid, region)?;
        Image::parse(&region.path, &bytes, maps, region).map_err(|detail| Error::Parse {
            what: region.path.clone(),
            pid,
            detail,
        })
    }

    /// The program that `pid` runs.
    ///
    /// # Errors
    /// Those of [`Image::at`].
    pub fn executable(pid: i32, maps: &Maps) -> Result<Self> {
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).map_err(|_| Error::Gone {
            operation: "find the executable",
            pid,
        })?;
        let exe = exe.to_string_lossy();
        let region = maps
            .regions()
            .iter()
            .find(|r| r.is_file() && r.path == *exe)
            .ok_or_else(|| Error::Parse {
                what: format!("/proc/{pid}/exe"),
                pid,
                detail: format!("{exe} is not mapped"),
            })?;
        Image::at(pid, maps, region.start)
    }

    /// Every ELF file mapped executable in the process. Files that are no ELF files, or cannot be read, are left out.
    pub fn all(pid: i32, maps: &Maps) -> Vec<Self> {
        Image::each(pid, maps).collect()
    }

    /// The same, each read when it is asked for.
    pub fn each(pid: i32, maps: &Maps) -> impl Iterator<Item = Self> {
        let regions = maps.regions().iter().filter(|r| r.perms.exec && r.is_file());
        let mut seen: Vec<Range<u64>> = Vec::new();
        regions.filter_map(move |region| {
            if seen.iter().any(|range| range.contains(&region.start)) {
                return None;
            }
            match Image::at(pid, maps, region.start) {
                Ok(image) => {
                    seen.push(image.range.clone());
                    Some(image)
                }
                Err(error) => {
                    tracing::debug!(%error, "image left out");
                    None
                }
            }
        })
    }

    fn parse(path: &str, bytes: &[u8], maps: &Maps, region: &Region) -> Result<Self, String> {
        let elf = Elf::parse(bytes).map_err(|e| e.to_string())?;
        // The segment whose file pages this region shows gives the bias.
        let bias = elf
            .program_headers
            .iter()
            .filter(|h| h.p_type == PT_LOAD && h.p_filesz > 0)
            .find_map(|h| {
                let first_page = h.p_offset & !0xfff;
                let inside = region.offset >= first_page && region.offset < h.p_offset.checked_add(h.p_filesz)?;
                let exec_agrees = region.perms.exec == (h.p_flags & PF_X != 0);
                (inside && exec_agrees).then(|| {
                    region
                        .start
                        .wrapping_sub(h.p_vaddr & !0xfff)
                        .wrapping_sub(region.offset - first_page)
                })
            })
            .ok_or("no loaded segment of the file is what is mapped there")?;
        let loads = || elf.program_headers.iter().filter(|h| h.p_type == PT_LOAD);
        let place = |h: &goblin::elf::ProgramHeader| {
            let start = h.p_vaddr.wrapping_add(bias);
            start..start.saturating_add(h.p_memsz)
        };
        let start = loads().map(|h| place(h).start).min().unwrap_or(region.start);
        let end = loads().map(|h| place(h).end).max().unwrap_or(region.end);
        let text = loads().filter(|h| h.p_flags & PF_X != 0).map(place).collect();
        Ok(Image {
            path: path.to_owned(),
            is_64: elf.is_64,
            bias,
            range: start & !0xfff..end.checked_next_multiple_of(4096).unwrap_or(end),
            text,
            notes: notes(&elf, bytes, bias, maps),
            symbols: symbols(&elf, bias),
            imports: imports(&elf, bias),
        })
    }

    /// Notes of one owner.
    pub fn notes_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Note> {
        self.notes.iter().filter(move |note| note.name == name)
    }

    /// The function that `address` (in the process) is in, and how far into it. A function of size zero, as hand-written
    /// assembly has, reaches to the next one.
    pub fn function_at(&self, address: u64) -> Option<(&Symbol, u64)> {
        if !self.range.contains(&address) {
            return None;
        }
        let end = self.symbols.partition_point(|s| s.range.start <= address);
        let symbol = self.symbols[..end].iter().rev().find(|s| s.function)?;
        let sized = !symbol.range.is_empty();
        (!sized || symbol.range.contains(&address)).then(|| (symbol, address - symbol.range.start))
    }

    /// The words, in the process, through which functions of other images are called (slots of the GOT), with the names
    /// under which those are looked up. No word is relied on to hold what that name has led to.
    pub fn imports(&self) -> impl Iterator<Item = (u64, &str)> {
        self.imports.iter().map(|(slot, name)| (*slot, name.as_str()))
    }

    /// The address, in the process, of a symbol.
    pub fn symbol(&self, name: &str) -> Option<&Symbol> {
        self.symbols.iter().find(|s| s.name == name)
    }
}

/// The contents of a mapped file, even if the process has another root directory or the file was deleted or replaced.
fn read_mapped_file(pid: i32, region: &Region) -> Result<Vec<u8>> {
    // map_files is exactly the mapped inode, but needs CAP_SYS_ADMIN (or CAP_CHECKPOINT_RESTORE); the others
    // are checked against the inode.
    let exact = format!("/proc/{pid}/map_files/{:x}-{:x}", region.start, region.end);
    let rooted = format!("/proc/{pid}/root{}", region.path);
    let mut errors = Vec::new();
    for (path, check) in [(exact, false), (rooted, true), (region.path.clone(), true)] {
        match open_checked(&path, check.then_some(region.inode)) {
            Ok(bytes) => return Ok(bytes),
            Err(detail) => errors.push(format!("{path}: {detail}")),
        }
    }
    Err(Error::Parse {
        what: region.path.clone(),
        pid,
        detail: format!("cannot be read ({})", errors.join("; ")),
    })
}

fn open_checked(path: &str, inode: Option<u64>) -> Result<Vec<u8>, String> {
    use std::os::unix::fs::MetadataExt;
    let mut file = File::open(path).map_err(|e| e.to_string())?;
    let metadata = file.metadata().map_err(|e| e.to_string())?;
    if inode.is_some_and(|inode| inode != metadata.ino()) {
        return Err("another file now has that name".into());
    }
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(format!("not a regular file of at most {MAX_FILE} bytes"));
    }
    // Most that is mapped and no ELF file is large.
    let mut bytes = vec![0; 4];
    file.read_exact(&mut bytes).map_err(|e| e.to_string())?;
    if bytes != *b"\x7fELF" {
        return Err("no ELF file".into());
    }
    // One byte more than there should be, so that the end is found without growing.
    let rest = metadata.len().saturating_sub(bytes.len() as u64);
    bytes.reserve_exact(rest as usize + 1);
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

fn notes(elf: &Elf<'_>, bytes: &[u8], bias: u64, maps: &Maps) -> Vec<Note> {
    let mut out = Vec::new();
    for header in elf.program_headers.iter().filter(|h| h.p_type == PT_NOTE) {
        let (Ok(start), Ok(size)) = (usize::try_from(header.p_offset), usize::try_from(header.p_filesz)) else {
            continue;
        };
        let Some(segment) = start.checked_add(size).and_then(|end| bytes.get(start..end)) else {
            continue;
        };
        // Notes are padded to 4 bytes, except in segments aligned to 8 (GNU property notes).
        let align = if header.p_align == 8 { 8 } else { 4 };
        let mut at = 0;
        while let Some(next) = read_note(segment, at, align, header.p_vaddr.wrapping_add(bias), maps, &mut out) {
            at = next;
        }
    }
    out
}

/// Reads the note at `at`; returns where the next one is, or `None` at the end or at a malformed one.
fn read_note(segment: &[u8], at: usize, align: usize, base: u64, maps: &Maps, out: &mut Vec<Note>) -> Option<usize> {
    let word = |offset: usize| Some(u32::from_le_bytes(segment.get(offset..offset + 4)?.try_into().ok()?));
    let (name_len, desc_len, kind) = (word(at)? as usize, word(at + 4)? as usize, word(at + 8)?);
    let name_at = at + 12;
    let name = segment.get(name_at..name_at.checked_add(name_len)?)?;
    let desc_at = (name_at + name_len).checked_next_multiple_of(align)?;
    let desc = segment.get(desc_at..desc_at.checked_add(desc_len)?)?;
    let address = base.wrapping_add(desc_at as u64);
    out.push(Note {
        name: String::from_utf8_lossy(name).trim_end_matches('\0').to_owned(),
        kind,
        desc: desc.to_vec(),
        address: maps.find(address).map(|_| address),
    });
    (desc_at + desc_len).checked_next_multiple_of(align)
}

fn symbols(elf: &Elf<'_>, bias: u64) -> Vec<Symbol> {
    let (table, strings) = if elf.syms.is_empty() {
        (&elf.dynsyms, &elf.dynstrtab)
    } else {
        (&elf.syms, &elf.strtab)
    };
    let mut symbols: Vec<Symbol> = table
        .iter()
        .filter(|s| s.st_shndx != 0 && s.st_value != 0)
        .filter(|s| {
            matches!(
                s.st_type(),
                sym::STT_FUNC | sym::STT_GNU_IFUNC | sym::STT_OBJECT | sym::STT_NOTYPE
            )
        })
        .filter_map(|s| {
            let name = strings.get_at(s.st_name).filter(|n| !n.is_empty())?;
            let start = s.st_value.wrapping_add(bias);
            Some(Symbol {
                name: name.to_owned(),
                range: start..start.saturating_add(s.st_size),
                function: matches!(s.st_type(), sym::STT_FUNC | sym::STT_GNU_IFUNC),
            })
        })
        .collect();
    symbols.sort_by_key(|s| (s.range.start, s.range.end));
    symbols
}

fn imports(elf: &Elf<'_>, bias: u64) -> Vec<(u64, String)> {
    let relocations = elf.pltrelocs.iter().chain(elf.dynrelas.iter());
    let slots = relocations.filter(|r| matches!(r.r_type, R_X86_64_JUMP_SLOT | R_X86_64_GLOB_DAT));
    slots
        .filter_map(|r| {
            let symbol = elf.dynsyms.get(r.r_sym)?;
            let name = elf.dynstrtab.get_at(symbol.st_name).filter(|name| !name.is_empty())?;
            Some((r.r_offset.wrapping_add(bias), name.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_bound_to_what_they_are_named_after() {
        let pid = std::process::id() as i32;
        let maps = Maps::read(pid).unwrap();
        let image = Image::executable(pid, &maps).unwrap();
        let (slot, _) = image
            .imports()
            .find(|(_, name)| *name == "getpid")
            .expect("it is called below");
        // Called once, so that it is bound.
        // SAFETY: getpid has no preconditions.
        assert_eq!(unsafe { libc::getpid() }, pid);
        let bound = crate::memory::Memory::new(pid).read_u64(slot).unwrap();
        assert_eq!(bound, libc::getpid as *const () as u64);
    }

    #[test]
    fn own_executable() {
        let pid = std::process::id() as i32;
        let maps = Maps::read(pid).unwrap();
        let image = Image::executable(pid, &maps).unwrap();
        let here = own_executable as fn() as usize as u64;
        assert!(image.is_64);
        assert!(image.range.contains(&here));
        assert!(image.text.iter().any(|t| t.contains(&here)));
        let (symbol, offset) = image.function_at(here).unwrap();
        assert!(symbol.name.contains("own_executable"), "{symbol:?}");
        assert_eq!(offset, 0);
        assert!(image.function_at(0).is_none());
        let build_id = image.notes_named("GNU").next().expect("the linker writes GNU notes");
        let address = build_id.address.expect("notes are in a loaded segment");
        let there = crate::memory::Memory::new(pid)
            .read_vec(address, build_id.desc.len())
            .unwrap();
        assert_eq!(there, build_id.desc);
    }

    #[test]
    fn libc_is_found_with_its_functions() {
        let pid = std::process::id() as i32;
        let maps = Maps::read(pid).unwrap();
        let getpid = libc::getpid as *const () as u64;
        let images = Image::all(pid, &maps);
        let libc = images
            .iter()
            .find(|i| i.path.contains("libc.so") || i.path.contains("libc-"))
            .unwrap();
        let symbol = libc.symbol("getpid").unwrap();
        // Resolved through our own GOT, the address is the function itself.
        assert!(symbol.range.start == getpid || images.iter().any(|i| i.range.contains(&getpid)));
        assert!(libc.range.contains(&symbol.range.start));
    }

    #[test]
    fn not_an_image() {
        let pid = std::process::id() as i32;
        let maps = Maps::read(pid).unwrap();
        let stack = 0u8;
        assert!(
            Image::at(pid, &maps, &raw const stack as u64)
                .unwrap_err()
                .to_string()
                .contains("no file is mapped")
        );
    }
}
