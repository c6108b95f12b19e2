//! What a step of the recorder costs: bare PTRACE_SINGLESTEP and a full recording, with the tracer on the tracee's processor and on
//! another one. `cargo run --release -p redmagic-record --example step_cost`

#[path = "../tests/common/mod.rs"]
mod common;

use common::*;
use redmagic_record::stepping::Limits;
use redmagic_tracee::testing::shared_words;
use redmagic_tracee::thread::Resume;
use std::time::{Duration, Instant};

/// Seven instructions, of which three touch memory.
#[unsafe(naked)]
extern "C" fn work(words: u64, n: u64) {
    std::arch::naked_asm!(
        "2: mov rax, [rdi]",
        "lea rax, [rax + rax*2 + 1]",
        "mov [rdi], rax",
        "xor rax, rsi",
        "add [rdi + 8], rax",
        "dec rsi",
        "jnz 2b",
        "ret"
    )
}

fn bind(pid: i32, cpu: usize) {
    // SAFETY: the set is zeroed and of the size given, and `cpu` is within it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(pid, size_of::<libc::cpu_set_t>(), &set)
    };
    assert_eq!(result, 0, "this measurement needs processors 0 and 1");
}

fn main() {
    const N: u64 = 1000;
    for (name, own, child_cpu, pin) in [
        ("same processor", 0, 0, false),
        ("other processor", 1, 0, false),
        ("other processor, recorder pins", 1, 0, true),
    ] {
        let words = shared_words();
        let child = spinning_child(words, || {});
        bind(child.pid, child_cpu);
        if pin {
            // SAFETY: as in `bind`: both processors allowed, so that the recorder may move.
            unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(0, &mut set);
                libc::CPU_SET(1, &mut set);
                libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
            }
        } else {
            bind(0, own);
        }
        let mut thread = stop(child.pid);
        send_into(&mut thread, work as *const () as u64, [words.as_ptr() as u64, N, 0]);
        let bare = (!pin).then(|| {
            let begin = Instant::now();
            for _ in 0..5000 {
                thread.resume_and_wait(Resume::Step, None, None).unwrap();
                thread.regs().unwrap();
            }
            begin.elapsed().as_secs_f64() * 1e6 / 5000.0
        });
        send_into(&mut thread, work as *const () as u64, [words.as_ptr() as u64, N, 0]);
        let limits = Limits {
            pin,
            max_time: Duration::from_secs(60),
            ..Limits::default()
        };
        let outcome = record_with(thread, &mut Table::default(), &no_api, &limits);
        let recording = outcome.result.expect("recording");
        let each = outcome.stats.time.as_secs_f64() * 1e6 / recording.steps.len() as f64;
        let bytes = redmagic_record::codec::encode(&recording).expect("encode").len();
        println!(
            "{name:32} bare step + registers {:>6} us, recorded step {each:5.1} us, {:.1} bytes a step",
            bare.map_or("-".into(), |b| format!("{b:.1}")),
            bytes as f64 / recording.steps.len() as f64
        );
    }
}
