//! Looking at a program before it is started: is there a shim in it?
//!
//! The program waits meanwhile, so that only the parts of its file that say so are read, and not its symbols.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use goblin::container::{Container, Ctx};
use goblin::elf::Elf;
use goblin::elf::dynamic::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_STRSZ, DT_STRTAB};
use goblin::elf::header::{EI_CLASS, EI_DATA, ELFCLASS32, ELFCLASS64, ELFDATA2LSB};
use goblin::elf::program_header::{PT_DYNAMIC, PT_LOAD, PT_NOTE, ProgramHeader};
use redmagic_start::note;

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// It has the note, or needs a library that is, or may have, the shim.
    Annotated,
    /// An ELF file without a shim.
    Plain,
    /// A 32-bit ELF file.
    ThirtyTwoBit,
    /// A script: its interpreter decides.
    Script(PathBuf),
    /// Something else, or not readable.
    Unknown,
}

/// Finds a command as execvp does.
pub fn find(command: &OsStr) -> Option<PathBuf> {
    let executable = |path: &Path| path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok();
    if command.as_bytes().contains(&b'/') {
        let path = PathBuf::from(command);
        return executable(&path).then_some(path);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(command))
        .find(|candidate| executable(candidate))
}

/// Looks at a file.
pub fn look(path: &Path) -> Program {
    let Ok(file) = File::open(path) else {
        return Program::Unknown;
    };
    let Some(head) = head(&file) else {
        return Program::Unknown;
    };
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
        let words: Vec<&[u8]> = line
            .split(|b| b.is_ascii_whitespace())
            .filter(|w| !w.is_empty())
            .collect();
        let interpreter = match words[..] {
            [env, name, ..] if env.ends_with(b"/env") => find(OsStr::from_bytes(name)),
            [interpreter, ..] => Some(PathBuf::from(OsStr::from_bytes(interpreter))),
            [] => None,
        };
        return interpreter.map_or(Program::Unknown, Program::Script);
    }
    let parts = match Parts::read(file, &head) {
        Ok(parts) => parts,
        Err(other) => return other,
    };
    if parts.has_note() {
        return Program::Annotated;
    }
    // A library may carry it (libpython with the shim linked in, or libredmagic itself):
    // look at those that are found next to the program or on the usual paths.
    let origin = path
        .parent()
        .map(|p| p.to_string_lossy().into_owned())
        .unwrap_or_default();
    let needs = parts.needs();
    let mut folders: Vec<String> = needs
        .paths
        .iter()
        .flat_map(|paths| paths.split(':'))
        .map(|folder| folder.replace("$ORIGIN", &origin))
        .collect();
    folders.extend(
        std::env::var("LD_LIBRARY_PATH")
            .into_iter()
            .flat_map(|v| v.split(':').map(str::to_owned).collect::<Vec<_>>()),
    );
    folders.extend(
        [
            "/lib/x86_64-linux-gnu",
            "/usr/lib/x86_64-linux-gnu",
            "/usr/local/lib",
            "/lib64",
            "/usr/lib64",
        ]
        .map(String::from),
    );
    for library in &needs.libraries {
        let found = folders
            .iter()
            .map(|folder| Path::new(folder).join(library))
            .find(|p| p.is_file());
        if let Some(file) = found.and_then(|p| File::open(p).ok())
            && let Some(head) = self::head(&file)
            && let Ok(parts) = Parts::read(file, &head)
            && parts.has_note()
        {
            return Program::Annotated;
        }
    }
    Program::Plain
}

/// Longest part of a file that is read in, in bytes: a table of names of dynamic symbols may be large.
const MOST: u64 = 64 << 20;

/// The beginning of a file: its header, or its first line.
fn head(file: &File) -> Option<Vec<u8>> {
    let mut head = vec![0; 512];
    let count = file.read_at(&mut head, 0).ok()?;
    head.truncate(count);
    Some(head)
}

/// The parts of an ELF file that say what it needs.
struct Parts {
    file: File,
    segments: Vec<ProgramHeader>,
}

/// What a program needs to be loaded.
#[derive(Debug, Default)]
struct Needs {
    /// Names of libraries.
    libraries: Vec<String>,
    /// Where they are looked for first, separated by colons.
    paths: Vec<String>,
}

const CONTEXT: Ctx = Ctx {
    container: Container::Big,
    le: goblin::container::Endian::Little,
};

impl Parts {
    /// What it is when it is no 64-bit ELF file.
    fn read(file: File, head: &[u8]) -> Result<Parts, Program> {
        let header = Elf::parse_header(head).map_err(|_| Program::Unknown)?;
        match (header.e_ident[EI_CLASS], header.e_ident[EI_DATA]) {
            (ELFCLASS32, _) => return Err(Program::ThirtyTwoBit),
            (ELFCLASS64, ELFDATA2LSB) => {}
            _ => return Err(Program::Unknown),
        }
        let count = usize::from(header.e_phnum);
        let table = read(&file, header.e_phoff, count as u64 * 56).ok_or(Program::Unknown)?;
        let segments = ProgramHeader::parse(&table, 0, count, CONTEXT).map_err(|_| Program::Unknown)?;
        Ok(Parts { file, segments })
    }

    fn segment(&self, segment: &ProgramHeader) -> Option<Vec<u8>> {
        read(&self.file, segment.p_offset, segment.p_filesz)
    }

    fn has_note(&self) -> bool {
        self.segments.iter().filter(|s| s.p_type == PT_NOTE).any(|segment| {
            let Some(data) = self.segment(segment) else {
                return false;
            };
            note::is_among(&data, segment.p_align)
        })
    }

    fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        let dynamic = self.segments.iter().find(|s| s.p_type == PT_DYNAMIC);
        let Some(bytes) = dynamic.and_then(|segment| self.segment(segment)) else {
            return needs;
        };
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let entries: Vec<(u64, u64)> = bytes
            .chunks_exact(16)
            .map(|entry| (word(&entry[..8]), word(&entry[8..])))
            .take_while(|(tag, _)| *tag != 0)
            .collect();
        let value = |wanted| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let names = value(DT_STRTAB)
            .and_then(|address| self.offset(address))
            .zip(value(DT_STRSZ))
            .and_then(|(offset, size)| read(&self.file, offset, size));
        let Some(names) = names else { return needs };
        for (tag, at) in &entries {
            let list = match *tag {
                DT_NEEDED => &mut needs.libraries,
                DT_RPATH | DT_RUNPATH => &mut needs.paths,
                _ => continue,
            };
            let name = usize::try_from(*at).ok().and_then(|at| names.get(at..));
            if let Some(name) = name.and_then(|name| name.split(|b| *b == 0).next()) {
                list.push(String::from_utf8_lossy(name).into_owned());
            }
        }
        needs
    }

    /// Where in the file an address of the program is.
    fn offset(&self, address: u64) -> Option<u64> {
        let mut loads = self.segments.iter().filter(|s| s.p_type == PT_LOAD);
        loads.find_map(|s| {
            let inside = address.checked_sub(s.p_vaddr).filter(|inside| *inside < s.p_filesz)?;
            s.p_offset.checked_add(inside)
        })
    }
}

/// A part of a file; `None` when there is not that much of it.
fn read(file: &File, offset: u64, bytes: u64) -> Option<Vec<u8>> {
    let end = offset.checked_add(bytes)?;
    // A corrupt size allocates nothing.
    if bytes > MOST || end > file.metadata().ok()?.len() {
        return None;
    }
    let mut out = vec![0; bytes as usize];
    file.read_exact_at(&mut out, offset).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use redmagic_proto::descriptor::{NOTE_NAME, NOTE_TYPE};

    use super::*;

    /// A 64-bit ELF file that has nothing but one note.
    fn elf(owner: &str, kind: u32) -> Vec<u8> {
        let mut note = Vec::new();
        note.extend((owner.len() as u32 + 1).to_le_bytes());
        note.extend(4u32.to_le_bytes());
        note.extend(kind.to_le_bytes());
        note.extend(owner.as_bytes());
        note.resize((note.len() + 1).next_multiple_of(4), 0);
        note.extend([1, 2, 3, 4]);
        let mut out = b"\x7fELF\x02\x01\x01".to_vec();
        out.resize(16, 0);
        out.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        for word in [0u64, 64, 0] {
            out.extend(word.to_le_bytes());
        }
        out.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 1, 0, 0, 0] {
            out.extend(half.to_le_bytes());
        }
        out.extend(PT_NOTE.to_le_bytes());
        out.extend(4u32.to_le_bytes());
        for word in [120, 0, 0, note.len() as u64, note.len() as u64, 4] {
            out.extend(word.to_le_bytes());
        }
        assert_eq!(out.len(), 120);
        out.extend(note);
        out
    }

    fn look_at(content: &[u8]) -> Program {
        let name = format!(
            "redmagic-probe-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        );
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, content).unwrap();
        let found = look(&file);
        std::fs::remove_file(&file).unwrap();
        found
    }

    #[test]
    fn the_note_tells_annotated_programs_from_others() {
        assert_eq!(look_at(&elf(NOTE_NAME, NOTE_TYPE)), Program::Annotated);
        assert_eq!(look_at(&elf(NOTE_NAME, NOTE_TYPE + 1)), Program::Plain);
        assert_eq!(look_at(&elf("GNU", NOTE_TYPE)), Program::Plain);
        let mut narrow = elf(NOTE_NAME, NOTE_TYPE);
        narrow[EI_CLASS] = ELFCLASS32;
        assert_eq!(look_at(&narrow), Program::ThirtyTwoBit);
        assert_eq!(look_at(b"#!/bin/sh -e\ntrue\n"), Program::Script("/bin/sh".into()));
        assert_eq!(
            look_at(b"#!/usr/bin/env sh\n"),
            Program::Script(find(OsStr::new("sh")).unwrap())
        );
        assert_eq!(look_at(b"what is this"), Program::Unknown);
        assert_eq!(look_at(b""), Program::Unknown);
    }

    #[test]
    fn damaged_files_are_not_trusted() {
        let good = elf(NOTE_NAME, NOTE_TYPE);
        for length in 0..good.len() {
            assert_ne!(look_at(&good[..length]), Program::Annotated, "{length} bytes");
        }
        for at in 16..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            look_at(&bad);
        }
    }

    #[test]
    fn what_a_program_needs_is_found() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(look(&own), Program::Plain);
        let file = File::open(&own).unwrap();
        let head = head(&file).unwrap();
        let needs = Parts::read(file, &head).ok().unwrap().needs();
        assert!(
            needs.libraries.iter().any(|name| name.starts_with("libc.so")),
            "{needs:?}"
        );
    }
}
