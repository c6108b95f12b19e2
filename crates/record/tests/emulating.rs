//! The emulating recorder gives the stepping recorder's answer: `record_with` compares them, and here both must succeed.

mod common;
use common::*;
use redmagic_record::emulate::{Emulated, Emulator, Limits as EmulateLimits, Start};
use redmagic_record::guide::CallAction;
use redmagic_record::recording::{LibraryFn, Recording, Step};
use redmagic_record::stepping::{Ctx, Limits};
use redmagic_tracee::testing::shared_words;
use std::sync::atomic::Ordering::SeqCst;

/// Records `function(words, b, c)` both ways.
fn both(function: *const (), arguments: [u64; 2], calls: &[(u64, CallAction)]) -> Recording {
    let words = shared_words();
    for (i, word) in words.iter().enumerate().take(60) {
        word.store(0x0123_4567_89ab_cdef_u64.rotate_left(i as u32 * 7), SeqCst);
    }
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    send_into(
        &mut thread,
        function as u64,
        [words.as_ptr() as u64, arguments[0], arguments[1]],
    );
    let mut guide = Table {
        calls: calls.iter().copied().collect(),
        ..Table::default()
    };
    let before = AGREED.load(SeqCst);
    let outcome = record_with(thread, &mut guide, &no_api, &Limits::default());
    let recording = outcome.result.expect("stepped");
    check(&recording);
    assert!(AGREED.load(SeqCst) > before, "nothing was emulated");
    recording
}

/// Integer instructions: carries, widths, high bytes, counts beyond the width, rsp as an operand, locks.
#[unsafe(naked)]
extern "C" fn integers() {
    std::arch::naked_asm!(
        "mov rax, [rdi]",
        "mov rbx, [rdi + 8]",
        "add rax, rbx",
        "adc rbx, [rdi + 16]",
        "sbb dword ptr [rdi + 24], eax",
        "mov ah, bl",
        "add al, ah",
        "xchg bh, [rdi + 33]",
        "movzx ecx, ah",
        "movsx rdx, byte ptr [rdi + 41]",
        "shl rax, cl",
        "shr ebx, cl",
        "sar dl, 7",
        "mov cl, 0",
        "shl eax, cl",
        "mov cl, 70",
        "rol rbx, cl",
        "rcr word ptr [rdi + 50], 3",
        "shld rax, rbx, 13",
        "shrd [rdi + 56], ebx, cl",
        "imul rax, rbx",
        "imul ecx, [rdi + 64], -77",
        "mul qword ptr [rdi + 72]",
        "xor edx, edx",
        "mov ecx, 12345",
        "div rcx",
        "cqo",
        "idiv qword ptr [rdi + 80]",
        "movsxd rax, dword ptr [rdi + 84]",
        "neg rax",
        "not word ptr [rdi + 90]",
        "inc byte ptr [rdi + 95]",
        "dec rdx",
        "bsf rcx, rax",
        "bsr rdx, [rdi + 96]",
        "bt rax, 70",
        "bts rax, rcx",
        "btr dword ptr [rdi + 104], 3",
        "bswap rbx",
        "setg cl",
        "setb [rdi + 110]",
        "cmovle rax, [rdi + 112]",
        "lock add [rdi + 120], rax",
        "lock xadd [rdi + 128], rbx",
        "mov rax, [rdi + 136]",
        "lock cmpxchg [rdi + 136], rcx",
        "lock cmpxchg [rdi + 144], rcx",
        "mov rcx, rsp",
        "sub rsp, 24",
        "mov [rsp + 8], rcx",
        "lea rsp, [rsp + 8]",
        "add rcx, rsp",
        "cmp rsp, [rdi + 152]",
        "mov rsp, [rsp]",
        "mov rax, fs:[0]",
        "lea ecx, [rax + rcx * 4 - 9]",
        "lea cx, [rax + 5]",
        "cwde",
        "stc",
        "cmc",
        "lahf",
        "sahf",
        "test qword ptr [rip + {constant}], 1",
        "nop dword ptr [rax + rax]",
        "ret",
        constant = sym CONSTANT,
    )
}

static CONSTANT: u64 = 0x55;

#[test]
fn integer_instructions() {
    both(integers as *const (), [0, 0], &[]);
}

/// Moves and comparisons of all sizes, which have a model; flags after each comparison.
#[unsafe(naked)]
extern "C" fn moves() {
    std::arch::naked_asm!(
        "movabs rax, 0x8899aabbccddeeff",
        "mov ecx, eax",
        "mov cx, 0x1234",
        "mov cl, al",
        "mov dl, ah",
        "mov dh, cl",
        "mov [rdi], rax",
        "mov [rdi + 9], eax",
        "mov [rdi + 17], ax",
        "mov [rdi + 21], al",
        "mov [rdi + 25], ah",
        "mov qword ptr [rdi + 32], -2",
        "mov dword ptr [rdi + 40], 0x89abcdef",
        "mov word ptr [rdi + 44], 0x8001",
        "mov byte ptr [rdi + 46], 0x80",
        "mov r8, -7",
        "mov r9d, -7",
        "mov sil, [rdi + 1]",
        "mov r10w, [rdi + 3]",
        "movzx r11d, byte ptr [rdi + 46]",
        "movzx r11, word ptr [rdi + 44]",
        "movzx dx, al",
        "movzx ecx, ah",
        "movsx rbx, byte ptr [rdi + 46]",
        "movsx r12d, byte ptr [rdi + 46]",
        "movsx r13w, al",
        "movsx r14, word ptr [rdi + 44]",
        "movsx r15d, ax",
        "movsxd rdx, dword ptr [rdi + 40]",
        "movsxd rcx, eax",
        "mov rbx, rsp",
        "mov r12, fs:[0]",
        "mov r14d, [rip + {constant}]",
        "cmp al, [rdi + 1]",
        "pushfq",
        "cmp ax, -1",
        "pushfq",
        "cmp eax, 0x7fffffff",
        "pushfq",
        "cmp rax, -1",
        "pushfq",
        "cmp byte ptr [rdi + 46], 1",
        "pushfq",
        "cmp word ptr [rdi + 44], -0x7fff",
        "pushfq",
        "cmp dword ptr [rdi + 40], r8d",
        "pushfq",
        "cmp qword ptr [rdi + 32], 127",
        "pushfq",
        "cmp r8, [rdi + 32]",
        "pushfq",
        "cmp ah, dl",
        "pushfq",
        "cmp spl, sil",
        "pushfq",
        // The same but for what stands in for rsp, before it and after.
        "mov eax, 16",
        "mov ebx, 5",
        "add rbx, rax",
        "add rsp, rax",
        "xor ebx, eax",
        "and rsp, -16",
        "and rbx, -16",
        "sub rsp, rax",
        "sub rbx, rax",
        "lea rsp, [rsp + 88]",
        "ret",
        constant = sym CONSTANT,
    )
}

#[test]
fn moves_and_comparisons() {
    both(moves as *const (), [0, 0], &[]);
}

/// Scalar and packed SSE, x87, rounding, comparisons to flags.
#[unsafe(naked)]
extern "C" fn vectors() {
    std::arch::naked_asm!(
        "cvtsi2sd xmm0, rdi",
        "cvtsi2sd xmm1, dword ptr [rdi + 4]",
        "divsd xmm0, xmm1",
        "movsd [rdi + 8], xmm0",
        "mulsd xmm1, [rdi + 8]",
        "sqrtsd xmm2, xmm1",
        "ucomisd xmm2, xmm0",
        "ja 2f",
        "addsd xmm0, xmm0",
        "2: cvttsd2si rax, xmm0",
        "cvtsd2ss xmm3, xmm1",
        "movss [rdi + 20], xmm3",
        "movups xmm4, [rdi + 3]",
        "pxor xmm5, xmm5",
        "pshufd xmm6, xmm4, 0x1b",
        "paddq xmm6, xmm4",
        "punpcklbw xmm6, xmm5",
        "pcmpeqb xmm6, xmm4",
        "pmovmskb ecx, xmm6",
        "movaps xmm7, [rip + {aligned}]",
        "andpd xmm7, xmm0",
        "movaps [rsp - 24], xmm7",
        "movq rdx, xmm7",
        "movq xmm8, rdx",
        "xorps xmm8, [rip + {aligned}]",
        "fld qword ptr [rdi + 8]",
        "fld1",
        "faddp",
        "fstp tbyte ptr [rdi + 32]",
        "fld tbyte ptr [rdi + 32]",
        "fistp qword ptr [rdi + 48]",
        "fnstcw [rdi + 56]",
        "stmxcsr [rdi + 60]",
        // Rounding towards zero, in both units.
        "or word ptr [rdi + 56], 0xc00",
        "fldcw [rdi + 56]",
        "or dword ptr [rdi + 60], 0x6000",
        "ldmxcsr [rdi + 60]",
        "fld qword ptr [rdi + 8]",
        "fistp qword ptr [rdi + 64]",
        "cvtsd2si rsi, xmm0",
        "fnstcw [rdi + 72]",
        "ret",
        aligned = sym ALIGNED,
    )
}

#[repr(align(16))]
struct Aligned([u64; 2]);
static ALIGNED: Aligned = Aligned([0x7fff_ffff_ffff_ffff, 0x0011_2233_4455_6677]);

#[test]
fn vector_and_x87_instructions() {
    assert_eq!(ALIGNED.0[0], i64::MAX as u64);
    both(vectors as *const (), [0, 0], &[]);
}

/// AVX: the upper halves live on, and `vzeroupper` ends them.
#[unsafe(naked)]
extern "C" fn avx() {
    std::arch::naked_asm!(
        "vmovupd ymm0, [rdi + 8]",
        "vaddpd ymm1, ymm0, ymm0",
        "vextractf128 xmm2, ymm1, 1",
        "vmovdqu [rdi + 40], ymm1",
        "vpxor xmm3, xmm3, xmm3",
        "vzeroupper",
        "vmovdqu [rdi + 72], ymm1",
        "andn rax, rdi, rsi",
        "shlx rcx, rax, rdi",
        "tzcnt rdx, rcx",
        "ret",
    )
}

#[test]
fn avx_instructions() {
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("bmi2") {
        both(avx as *const (), [0, 0], &[]);
    }
}

/// String instructions up and down, repeated and not.
#[unsafe(naked)]
extern "C" fn strings() {
    std::arch::naked_asm!(
        "mov rdx, rdi",
        "lea rsi, [rdx + 8]",
        "lea rdi, [rdx + 64]",
        "mov ecx, 19",
        "rep movsb",
        "mov ecx, 3",
        "mov rax, [rdx]",
        "rep stosq",
        "std",
        "lea rsi, [rdx + 40]",
        "lea rdi, [rdx + 200]",
        "mov ecx, 4",
        "rep movsd",
        "movsw",
        "lodsb",
        "cld",
        "lea rdi, [rdx + 64]",
        "mov al, [rdx + 17]",
        "mov ecx, 60",
        "repne scasb",
        "lea rsi, [rdx + 8]",
        "lea rdi, [rdx + 64]",
        "mov ecx, 30",
        "repe cmpsb",
        "setb al",
        "mov ecx, 0",
        "rep stosb",
        "repe cmpsb",
        "ret",
    )
}

#[test]
fn string_instructions() {
    both(strings as *const (), [0, 0], &[]);
}

/// Everything that moves rsp or rip.
#[unsafe(naked)]
extern "C" fn control() {
    std::arch::naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push -5",
        "push qword ptr [rdi]",
        "push rsp",
        "pop rax",
        "pop rcx",
        "cmp rax, rcx",
        "pushfq",
        "pop rdx",
        "push rdx",
        "popfq",
        "jb 2f",
        "ja 2f",
        "ud2",
        "2: mov ecx, 3",
        "3: inc rax",
        "loop 3b",
        "jrcxz 4f",
        "ud2",
        "4: lea rax, [rip + {callee}]",
        "call rax",
        "mov [rdi + 8], rax",
        "push 7",
        "call qword ptr [rdi + 8]",
        "lea rax, [rip + 5f]",
        "jmp rax",
        "ud2",
        "5: leave",
        "ret",
        callee = sym pops_an_argument,
    )
}

#[unsafe(naked)]
extern "C" fn pops_an_argument() {
    std::arch::naked_asm!("ret 8")
}

#[test]
fn stack_and_control_flow() {
    both(control as *const (), [0, 0], &[]);
}

/// Calls two functions of libc, whose instructions are whatever suits this processor.
#[unsafe(naked)]
extern "C" fn library() {
    std::arch::naked_asm!(
        "push rbx",
        "mov rbx, rdi",
        "lea rdi, [rbx + 160]",
        "mov rsi, rbx",
        "mov edx, 77",
        "call [rip + {memcpy}@GOTPCREL]",
        "mov rdi, rbx",
        "call [rip + {strlen}@GOTPCREL]",
        "mov [rbx], rax",
        "pop rbx",
        "ret",
        memcpy = sym libc::memcpy,
        strlen = sym libc::strlen,
    )
}

#[test]
fn residual_calls_are_emulated_through() {
    let recording = both(library as *const (), [0, 0], &[]);
    // What is known of a function goes by the name of the word that it is called through.
    let known: Vec<_> = recording
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Residual(residual) => Some(residual.library.map(|call| (call.function, call.args))),
            _ => None,
        })
        .collect();
    let words = recording.start.gpr[7];
    assert_eq!(known, [Some((LibraryFn::Memcpy, [words + 160, words, 77])), None]);
}

/// What faults, and system calls, are left to the thread itself, which nothing has happened to.
#[unsafe(naked)]
extern "C" fn faults() {
    std::arch::naked_asm!("mov [rdi], rsi", "mov rax, [rdx]", "ret")
}

#[unsafe(naked)]
extern "C" fn unmasks() {
    std::arch::naked_asm!("mov [rsp - 8], rsi", "fldcw [rsp - 8]", "ret")
}

#[unsafe(naked)]
extern "C" fn unmasks_sse() {
    std::arch::naked_asm!("mov [rsp - 8], rsi", "ldmxcsr [rsp - 8]", "ret")
}

#[unsafe(naked)]
extern "C" fn divides() {
    std::arch::naked_asm!("mov rax, rsi", "mov [rdi], rax", "cqo", "idiv rdx", "ret")
}

#[unsafe(naked)]
extern "C" fn misaligned() {
    std::arch::naked_asm!("mov [rdi], rsi", "movaps xmm0, [rdi + 8]", "ret")
}

#[unsafe(naked)]
extern "C" fn asks_the_kernel() {
    std::arch::naked_asm!("mov [rdi], rsi", "mov eax, 39", "syscall", "ret")
}

/// Calls a function, kept as a call, that counts by way of the kernel.
#[unsafe(naked)]
extern "C" fn calls_what_counts() {
    std::arch::naked_asm!("call {helper}", "ret", helper = sym counts_and_stores)
}

#[unsafe(naked)]
extern "C" fn counts_and_stores() {
    std::arch::naked_asm!("call {counts}", "mov [rdi], rsi", "ret", counts = sym asks_the_kernel)
}

fn needs_real(function: *const (), arguments: [u64; 2]) -> &'static str {
    match emulate(function, arguments, Table::default(), &[]) {
        Emulated::NeedsReal { reason, .. } => reason,
        Emulated::Done(result) => panic!("{result:?}"),
    }
}

/// Emulates `function(words, b, c)`, which is to leave the target as it is.
fn emulate(function: *const (), arguments: [u64; 2], mut guide: Table, counting: &[u64]) -> Emulated {
    let words = shared_words();
    words[0].store(4242, SeqCst);
    let child = spinning_child(words, || {});
    let mut thread = stop(child.pid);
    send_into(
        &mut thread,
        function as u64,
        [words.as_ptr() as u64, arguments[0], arguments[1]],
    );
    let start = Start {
        pid: child.pid,
        tid: child.pid,
        regs: thread.regs().unwrap(),
        vectors: thread.xstate().unwrap(),
    };
    let limits = EmulateLimits {
        max_steps: 100,
        max_time: std::time::Duration::from_secs(1),
        max_time_alone: std::time::Duration::from_secs(1),
    };
    let (emulated, stats) = with_ctx(child.pid, &no_api, |ctx| {
        let ctx = Ctx {
            program: ctx.program.clone(),
            images: ctx.images.clone(),
            counting,
            ..*ctx
        };
        Emulator::new().unwrap().record(&start, &ctx, &mut guide, &limits, None)
    });
    assert_eq!(words[0].load(SeqCst), 4242, "the copy is written, the target is not");
    assert!(stats.instructions > 0);
    emulated
}

#[test]
fn a_function_that_only_counts_is_left_out_of_kept_calls() {
    let kept = || Table {
        calls: [(counts_and_stores as *const () as u64, CallAction::Residual)].into(),
        ..Table::default()
    };
    let function = calls_what_counts as *const ();
    match emulate(function, [1, 0], kept(), &[asks_the_kernel as *const () as u64]) {
        Emulated::Done(result) => check(&result.expect("recorded")),
        Emulated::NeedsReal { reason, .. } => panic!("{reason}"),
    }
    match emulate(function, [1, 0], kept(), &[]) {
        Emulated::NeedsReal { reason, .. } => assert_eq!(reason, "a system call"),
        Emulated::Done(result) => panic!("{result:?}"),
    }
}

#[test]
fn what_cannot_be_emulated_is_named_and_leaves_no_trace() {
    assert_eq!(needs_real(faults as *const (), [1, 16]), "memory that cannot be read");
    assert_eq!(needs_real(divides as *const (), [1, 0]), "a division that faults");
    assert_eq!(
        needs_real(divides as *const (), [i64::MIN as u64, u64::MAX]),
        "a division that faults"
    );
    assert_eq!(needs_real(misaligned as *const (), [1, 0]), "a misaligned operand");
    let unmasked = "unmasked floating-point exceptions";
    assert_eq!(needs_real(unmasks as *const (), [1, 0x33e]), unmasked);
    assert_eq!(needs_real(unmasks_sse as *const (), [1, 0x1f00]), unmasked);
    // A reserved bit faults.
    assert_eq!(needs_real(unmasks_sse as *const (), [1, 0x1_1f80]), unmasked);
    assert_eq!(needs_real(asks_the_kernel as *const (), [1, 0]), "a system call");
}

/// Reads a word of each of `pages` pages.
#[unsafe(naked)]
extern "C" fn reads_pages() {
    std::arch::naked_asm!("2:", "mov rax, [rdi]", "add rdi, 4096", "dec rsi", "jnz 2b", "ret")
}

#[test]
fn a_thread_that_is_let_go_is_recorded_as_it_was_as_far_as_that_is_usual() {
    const USUAL: usize = 20;
    // SAFETY: a new anonymous mapping; it is never unmapped.
    let pages = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            (USUAL + 1) * 4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(pages, libc::MAP_FAILED);
    let word = |page: usize| {
        // SAFETY: the word is in the mapping, aligned, and only used as an atomic.
        unsafe { &*pages.cast::<std::sync::atomic::AtomicU64>().add(page * 512) }
    };
    let child = spinning_child(shared_words(), || {});
    let mut emulator = Emulator::new().unwrap();
    let limits = EmulateLimits {
        max_steps: 200,
        max_time: std::time::Duration::from_secs(1),
        max_time_alone: std::time::Duration::from_secs(1),
    };
    let mut record = |many: usize| {
        let mut thread = stop(child.pid);
        send_into(
            &mut thread,
            reads_pages as *const () as u64,
            [pages as u64, many as u64, 0],
        );
        let start = Start {
            pid: child.pid,
            tid: child.pid,
            regs: thread.regs().unwrap(),
            vectors: thread.xstate().unwrap(),
        };
        (0..=USUAL).for_each(|page| word(page).store(1, SeqCst));
        let mut went = false;
        let mut let_go = || {
            went = true;
            (0..=USUAL).for_each(|page| word(page).store(2, SeqCst));
        };
        let (emulated, _) = with_ctx(child.pid, &no_api, |ctx| {
            emulator.record(&start, ctx, &mut Table::default(), &limits, Some(&mut let_go))
        });
        let Emulated::Done(result) = emulated else {
            panic!("{emulated:?}")
        };
        let recording = result.expect("recorded");
        let accesses = recording.steps.iter().filter_map(|step| match step {
            Step::Inst(inst) => inst.mem.first(),
            _ => None,
        });
        let inside = pages as u64..pages as u64 + (USUAL as u64 + 1) * 4096;
        let read: Vec<u8> = accesses
            .filter(|access| inside.contains(&access.addr))
            .map(|access| access.value[0])
            .collect();
        (went, read)
    };
    // It waits until it is known what is usual.
    assert_eq!(record(USUAL), (false, vec![1; USUAL]));
    while !record(USUAL).0 {}
    assert_eq!(record(USUAL), (true, vec![1; USUAL]));
    // What is not is of a later moment.
    let (went, read) = record(USUAL + 1);
    assert!(went);
    assert_eq!((&read[..USUAL], read[USUAL]), (&[1; USUAL][..], 2));
}
