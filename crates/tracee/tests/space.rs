//! An address space ends with exec, though the process goes on.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redmagic_tracee::memory::Memory;
use redmagic_tracee::space::Space;

/// A shell that becomes another program when it is told to.
fn shell(then: &str) -> (Child, i32) {
    let child = Command::new("/bin/sh")
        .args(["-c", &format!("read line; {then}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id() as i32;
    wait(|| std::fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|s| s.starts_with("0 ")));
    (child, pid)
}

fn wait(good: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !good() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Somewhere on the stack.
fn address(pid: i32) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|line| line.ends_with("[stack]")).unwrap();
    u64::from_str_radix(line.split('-').next().unwrap(), 16).unwrap()
}

#[test]
fn words_are_read_and_written() {
    let (mut child, pid) = shell("exit");
    let (space, at) = (Space::of(pid).unwrap(), address(pid));
    space.write_u64(at, 0x1234_5678_9abc_def0).unwrap();
    assert_eq!(space.read_u64(at).unwrap(), 0x1234_5678_9abc_def0);
    assert_eq!(Memory::new(pid).read_u64(at).unwrap(), 0x1234_5678_9abc_def0);
    let nowhere = space.read_u64(8).unwrap_err();
    assert!(!nowhere.is_gone(), "{nowhere}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(space.read_u64(at).unwrap_err().is_gone());
    assert!(Space::of(pid).unwrap_err().is_gone());
}

#[test]
fn exec_ends_it() {
    let (mut child, pid) = shell("exec sleep 60");
    let space = Space::of(pid).unwrap();
    let before = address(pid);
    space.read_u64(before).unwrap();
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    wait(|| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep"));
    // Where the new program has something, too.
    let at = address(pid);
    let memory = Memory::new(pid);
    let is = memory.read_u64(at).unwrap();
    assert!(space.read_u64(at).unwrap_err().is_gone());
    assert!(space.write_u64(at, !is).unwrap_err().is_gone());
    assert_eq!(memory.read_u64(at).unwrap(), is);
    child.kill().unwrap();
    child.wait().unwrap();
}
