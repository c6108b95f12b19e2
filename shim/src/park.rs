//! Parking: a thread leaves its whole state in a park area of the control region,
//! rings the daemon's doorbell and waits for the answer, or for the timeout.
//!
//! Two ways in. An anchor arrives by the C ABI with a return address on the stack; a
//! hot exit arrives from generated code with every register and flag live and with
//! the 128 bytes below its stack pointer live as well (the red zone). Both are
//! brought to one layout, in which the thread's whole state lies on its own stack
//! *above* the stack pointer, where no signal handler can touch it:
//!
//! ```text
//!   rsp + 0            rflags
//!       + 8 ... 128    rax rcx rdx rbx (rsp to resume with) rbp rsi rdi r8 ... r15
//!       + 136          kind of request
//!       + 144          id, or number of the exit
//!       + 152          address to resume at
//!       + 160 ... 287  red zone of the code that parked
//!       + 288          the stack pointer to resume with
//! ```
//!
//! No instruction on the way touches a vector register, so these are still the
//! program's own while the thread waits: the daemon may send the thread anywhere
//! by setting its general registers alone. For a daemon that wants to look without
//! touching, they are in the area's XSAVE image.
//!
//! A thread that is hot while nothing can be recorded says so and runs on. One that
//! waits looks for its answer a while before it sleeps: as a rule it comes sooner than
//! a processor that has nothing to do is woken.
//!
//! The wait is a futex with an absolute deadline, so signals neither shorten nor
//! lengthen it. If it passes, the thread marks the session abandoned and closes the
//! channel: the program never waits for this daemon again.

use core::arch::naked_asm;
use core::mem::{offset_of, size_of};
use core::sync::atomic::Ordering;

use redmagic_proto::PARK_TIMEOUT_US;
use redmagic_proto::control::{
    Control, MOST_LEFT, PARK_AREAS, PARK_CLAIMED, PARK_FREE, PARK_LEFT, PARK_POSTED, ParkArea, REQUEST_ANCHOR,
    REQUEST_EXIT, SESSION_ABANDONED, SESSION_ACTIVE, XSAVE_MASK,
};
use redmagic_proto::descriptor::ShimPage;

use crate::descriptor::redmagic_channel;
use crate::sys::{ARCH_GET_FS, SYS_ARCH_PRCTL, SYS_CLOCK_GETTIME, SYS_FUTEX, SYS_GETTID, syscall};

const FUTEX_WAKE: u32 = 1;
const FUTEX_WAIT_BITSET: u32 = 9;
const CLOCK_MONOTONIC: u32 = 1;
const ETIMEDOUT: i32 = 110;

/// Wakes the daemon for something other than a request.
pub(crate) fn ring(control: &Control) {
    control.doorbell.fetch_add(1, Ordering::SeqCst);
    // SAFETY: waking whoever waits on a word writes no memory, whatever the address is.
    unsafe {
        syscall(
            SYS_FUTEX,
            [control.doorbell.as_ptr() as usize, FUTEX_WAKE as usize, 1, 0, 0, 0],
        )
    };
}

unsafe extern "C" {
    /// The instruction after the futex wait; never called.
    pub safe static redmagic_park_wait: u8;
}

/// Parks a thread at an anchor: `rdi` is the id, `esi` the [`redmagic_proto::ApiFn`],
/// the return address is on the stack.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn redmagic_park_anchor() {
    naked_asm!(
        // The pointer to resume with is rsp + 8; from it down, 128 bytes are kept.
        "lea rsp, [rsp - 120]",
        "push qword ptr [rsp + 120]",
        "push rdi",
        "push {kind}",
        "jmp {park}",
        kind = const REQUEST_ANCHOR,
        park = sym park,
    )
}

/// Parks a thread at a hot exit. Generated code has moved rsp below the red zone and
/// pushed the address to resume at and the exit's number.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn redmagic_park_exit() {
    naked_asm!(
        "push {kind}",
        "jmp {park}",
        kind = const REQUEST_EXIT,
        park = sym park,
    )
}

#[unsafe(naked)]
unsafe extern "C" fn park() {
    naked_asm!(
        "push r15", "push r14", "push r13", "push r12", "push r11", "push r10", "push r9", "push r8",
        "push rdi", "push rsi", "push rbp", "push rsp", "push rbx", "push rdx", "push rcx", "push rax",
        "pushfq",
        "cld",
        "lea rax, [rsp + 288]",
        "mov qword ptr [rsp + 40], rax",
        "mov rbx, qword ptr [rip + {page}@GOTPCREL]",
        "mov rbx, qword ptr [rbx + {channel}]",
        "test rbx, rbx",
        "jz 80f",
        "cmp dword ptr [rbx + {session}], {active}",
        "jne 80f",
        // Claim a free area.
        "lea r12, [rbx + {parks}]",
        "mov r13d, {areas}",
        "10:",
        "mov eax, {free}",
        "mov ecx, {claimed}",
        "lock cmpxchg dword ptr [r12 + {state}], ecx",
        "je 20f",
        "add r12, {area_size}",
        "dec r13d",
        "jnz 10b",
        "jmp 80f",
        // Fill it: what is asked.
        "20:",
        "mov rax, qword ptr [rsp + 152]",
        "mov qword ptr [r12 + {return_address}], rax",
        "mov rax, qword ptr [rsp + 144]",
        "mov qword ptr [r12 + {id}], rax",
        "mov eax, dword ptr [rsp + 136]",
        "mov dword ptr [r12 + {kind}], eax",
        "mov eax, dword ptr [rsp + 56]",
        "mov dword ptr [r12 + {api}], eax",
        "cmp dword ptr [rbx + {busy}], 0",
        "je 25f",
        // Of the areas, those at the front are for who does not wait: r13d counts down.
        "cmp r13d, {waiting}",
        "jbe 25f",
        "mov dword ptr [r12 + {state}], {left}",
        "lock inc dword ptr [rbx + {doorbell}]",
        "mov eax, {futex}",
        "lea rdi, [rbx + {doorbell}]",
        "mov esi, {wake}",
        "mov edx, 1",
        "syscall",
        "jmp 80f",
        // And from where.
        "25:",
        "mov rsi, rsp",
        "lea rdi, [r12 + {registers}]",
        "mov ecx, 17",
        "rep movsq",
        "mov rax, qword ptr [rsp + 152]",
        "mov qword ptr [rdi], rax",
        "mov eax, {mask}",
        "xor edx, edx",
        "xsave64 [r12]",
        "mov eax, {gettid}",
        "syscall",
        "mov dword ptr [r12 + {tid}], eax",
        "mov eax, {arch_prctl}",
        "mov edi, {get_fs}",
        "lea rsi, [r12 + {fs_base}]",
        "syscall",
        // The deadline.
        "sub rsp, 32",
        "mov eax, {clock_gettime}",
        "mov edi, {monotonic}",
        "mov rsi, rsp",
        "syscall",
        "mov rax, qword ptr [rsp]",
        "mov qword ptr [rsp + 16], rax",
        "mov rax, qword ptr [rsp + 8]",
        "mov qword ptr [rsp + 24], rax",
        "add rax, {timeout_ns}",
        "cmp rax, 1000000000",
        "jb 30f",
        "sub rax, 1000000000",
        "inc qword ptr [rsp]",
        "30:",
        "mov qword ptr [rsp + 8], rax",
        // Post.
        "mov qword ptr [r12 + {wait_rsp}], rsp",
        "mov dword ptr [r12 + {state}], {posted}",
        "lock inc dword ptr [rbx + {doorbell}]",
        "mov eax, {futex}",
        "lea rdi, [rbx + {doorbell}]",
        "mov esi, {wake}",
        "mov edx, 1",
        "syscall",
        // Wait: awake,
        "mov ecx, dword ptr [rbx + {looks}]",
        "35:",
        "cmp dword ptr [r12 + {state}], {posted}",
        "jne 60f",
        "pause",
        "sub ecx, 1",
        "jae 35b",
        // and asleep.
        "40:",
        "cmp dword ptr [r12 + {state}], {posted}",
        "jne 60f",
        "mov eax, {futex}",
        "lea rdi, [r12 + {state}]",
        "mov esi, {wait}",
        "mov edx, {posted}",
        "mov r10, rsp",
        "xor r8d, r8d",
        "mov r9d, -1",
        "syscall",
        ".globl redmagic_park_wait",
        ".hidden redmagic_park_wait",
        "redmagic_park_wait:",
        "cmp eax, -{etimedout}",
        "jne 40b",
        "mov eax, {posted}",
        "mov ecx, {free}",
        "lock cmpxchg dword ptr [r12 + {state}], ecx",
        "jne 40b",
        // Nobody answered: never ask again.
        "lock inc dword ptr [rbx + {stalls}]",
        "mov dword ptr [rbx + {session}], {abandoned}",
        // And nobody will hear of the end of constant memory, not even a trace that keeps this call.
        "lock inc qword ptr [rbx + {generation}]",
        "mov rax, qword ptr [rip + {page}@GOTPCREL]",
        "mov qword ptr [rax + {channel}], 0",
        "jmp 70f",
        "60:",
        "mov dword ptr [r12 + {state}], {free}",
        // How long it was.
        "70:",
        "mov eax, {clock_gettime}",
        "mov edi, {monotonic}",
        "mov rsi, rsp",
        "syscall",
        "mov rax, qword ptr [rsp]",
        "sub rax, qword ptr [rsp + 16]",
        "imul rax, rax, 1000000000",
        "add rax, qword ptr [rsp + 8]",
        "sub rax, qword ptr [rsp + 24]",
        "xor edx, edx",
        "mov ecx, 1000",
        "div rcx",
        "cmp rax, qword ptr [rbx + {longest}]",
        "jbe 75f",
        "mov qword ptr [rbx + {longest}], rax",
        "75:",
        "add rsp, 32",
        "80:",
        "popfq",
        "pop rax", "pop rcx", "pop rdx", "pop rbx",
        "lea rsp, [rsp + 8]",
        "pop rbp", "pop rsi", "pop rdi",
        "pop r8", "pop r9", "pop r10", "pop r11", "pop r12", "pop r13", "pop r14", "pop r15",
        "lea rsp, [rsp + 16]",
        "ret 128",
        page = sym redmagic_channel,
        channel = const offset_of!(ShimPage, channel),
        session = const offset_of!(Control, state),
        doorbell = const offset_of!(Control, doorbell),
        busy = const offset_of!(Control, busy),
        looks = const offset_of!(Control, looks),
        waiting = const PARK_AREAS - MOST_LEFT,
        left = const PARK_LEFT,
        generation = const offset_of!(Control, generation),
        stalls = const offset_of!(Control, stalls),
        longest = const offset_of!(Control, longest_wait_us),
        parks = const offset_of!(Control, parks),
        state = const offset_of!(ParkArea, state),
        kind = const offset_of!(ParkArea, kind),
        tid = const offset_of!(ParkArea, tid),
        api = const offset_of!(ParkArea, api),
        id = const offset_of!(ParkArea, id),
        return_address = const offset_of!(ParkArea, return_address),
        wait_rsp = const offset_of!(ParkArea, wait_rsp),
        registers = const offset_of!(ParkArea, registers),
        fs_base = const offset_of!(ParkArea, fs_base),
        area_size = const size_of::<ParkArea>(),
        areas = const PARK_AREAS,
        active = const SESSION_ACTIVE,
        abandoned = const SESSION_ABANDONED,
        free = const PARK_FREE,
        claimed = const PARK_CLAIMED,
        posted = const PARK_POSTED,
        mask = const XSAVE_MASK,
        timeout_ns = const PARK_TIMEOUT_US as u64 * 1000,
        futex = const SYS_FUTEX,
        wake = const FUTEX_WAKE,
        wait = const FUTEX_WAIT_BITSET,
        etimedout = const ETIMEDOUT,
        gettid = const SYS_GETTID,
        arch_prctl = const SYS_ARCH_PRCTL,
        get_fs = const ARCH_GET_FS,
        clock_gettime = const SYS_CLOCK_GETTIME,
        monotonic = const CLOCK_MONOTONIC,
    )
}

const _: () = assert!(offset_of!(ParkArea, xsave) == 0);
