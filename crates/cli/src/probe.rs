//! Looking at a program before it is started: is there a shim in it?

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use goblin::elf::Elf;
use redmagic_proto::descriptor::{NOTE_NAME, NOTE_TYPE};

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
    let Ok(bytes) = std::fs::read(path) else {
        return Program::Unknown;
    };
    if let Some(line) = bytes.strip_prefix(b"#!") {
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
    let Ok(elf) = Elf::parse(&bytes) else {
        return Program::Unknown;
    };
    if !elf.is_64 {
        return Program::ThirtyTwoBit;
    }
    if has_note(&elf, &bytes) {
        return Program::Annotated;
    }
    // A library may carry it (libpython with the shim linked in, or libredmagic itself):
    // look at those that are found next to the program or on the usual paths.
    let origin = path
        .parent()
        .map(|p| p.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut folders: Vec<String> = elf
        .runpaths
        .iter()
        .chain(&elf.rpaths)
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
    for library in &elf.libraries {
        let found = folders
            .iter()
            .map(|folder| Path::new(folder).join(library))
            .find(|p| p.is_file());
        if let Some(bytes) = found.and_then(|p| std::fs::read(p).ok())
            && let Ok(elf) = Elf::parse(&bytes)
            && has_note(&elf, &bytes)
        {
            return Program::Annotated;
        }
    }
    Program::Plain
}

fn has_note(elf: &Elf<'_>, bytes: &[u8]) -> bool {
    elf.iter_note_headers(bytes)
        .into_iter()
        .flatten()
        .flatten()
        .any(|note| note.name.trim_end_matches('\0') == NOTE_NAME && note.n_type == NOTE_TYPE)
}
