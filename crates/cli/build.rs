//! Links `redmagic` statically: it is started with every program that is run, and finding, mapping and relocating shared
//! libraries takes half a millisecond. So it can also begin before libc does, see `redmagic_start`. The daemon and everything else
//! stay as they are.
//!
//! `-C target-feature=+crt-static` would do it for all binaries of a build, which then could have no procedural macros, so the linker is
//! told for this one: where it looks for the shared libraries that rustc names, it finds a script that leads to the static ones.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The libraries that rustc links programs with.
const NAMED: [&str; 7] = ["c", "dl", "gcc_s", "m", "pthread", "rt", "util"];
/// What stands in for all of them.
const STATIC: [&str; 4] = ["libc.a", "libm.a", "libgcc.a", "libgcc_eh.a"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let env = |name| std::env::var(name).unwrap_or_default();
    if env("CARGO_CFG_TARGET_ENV") != "gnu" || env("TARGET") != env("HOST") {
        return;
    }
    if let Some(missing) = STATIC.into_iter().find(|name| !is_there(name)) {
        println!(
            "cargo::warning=there is no {missing} (libc6-dev of Debian has it): redmagic is linked dynamically and starts later"
        );
        return;
    }
    let out = PathBuf::from(env("OUT_DIR"));
    let files: String = STATIC.map(|name| format!("-l:{name} ")).concat();
    for name in NAMED {
        let script = out.join(format!("lib{name}.so"));
        std::fs::write(&script, format!("GROUP ( {files})\n")).expect("the build's own folder can be written to");
    }
    let entry = "-Wl,--entry=redmagic_entry";
    for argument in [&format!("-L{}", out.display()) as &str, "-no-pie", "-static", entry] {
        println!("cargo::rustc-link-arg-bin=redmagic={argument}");
    }
}

/// Whether the C compiler, which links, finds a library.
fn is_there(name: &str) -> bool {
    let found = Command::new("cc").arg(format!("-print-file-name={name}")).output();
    found.is_ok_and(|found| Path::new(String::from_utf8_lossy(&found.stdout).trim()).is_absolute())
}
