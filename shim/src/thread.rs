//! The thread-local words and the functions that are about this thread only.
//!
//! The words live in a TLS symbol of our own that is reached fs-relative
//! (initial-exec), by the functions here and by generated code, which gets the
//! offset from the descriptor.

use core::arch::naked_asm;
use core::ffi::{c_int, c_ulong, c_void};
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicI64, Ordering};

use redmagic_proto::control::{Control, MISUSE_END_FRAME, MISUSE_TEMP_ENABLE, Misuse};
use redmagic_proto::descriptor::ShimPage;
use redmagic_proto::thread::{Rejoin, ThreadWords};

use crate::descriptor::redmagic_channel;

core::arch::global_asm!(
    r#"
    .pushsection .tbss,"awT",@nobits
    .balign 16
    .globl redmagic_tls
    .hidden redmagic_tls
    .type redmagic_tls, @object
    .size redmagic_tls, {size}
    redmagic_tls: .zero {size}
    .popsection
    "#,
    size = const size_of::<ThreadWords>(),
);

unsafe extern "C" {
    /// Never read through this name: it stands for an offset from fs.
    pub(crate) static redmagic_tls: u8;
}

/// Offset of [`redmagic_tls`] from fs:0, or 0 before `redmagic_start` (the words lie
/// below the thread pointer, so no real offset is 0).
pub(crate) static TLS_OFFSET: AtomicI64 = AtomicI64::new(0);

/// Finds [`TLS_OFFSET`]. A linker would compute it, but lld refuses the relocation in a
/// shared library outside the GOT.
pub(crate) fn find_tls_offset() {
    let offset: i64;
    // SAFETY: loads the offset from the GOT.
    unsafe {
        core::arch::asm!(
            "mov {}, qword ptr [rip + {tls}@GOTTPOFF]",
            out(reg) offset,
            tls = sym redmagic_tls,
            options(nostack, readonly, preserves_flags),
        );
    }
    TLS_OFFSET.store(offset, Ordering::Release);
}

/// Notes a misuse in control, if there is one. Return address on the stack; falls
/// through to nothing: ends with `ret`.
macro_rules! misuse_and_return {
    () => {
        concat!(
            "mov rax, qword ptr [rip + {page}@GOTPCREL]\n",
            "mov rax, qword ptr [rax + {channel}]\n",
            "test rax, rax\n",
            "jz 99f\n",
            "mov rdx, qword ptr [rsp]\n",
            "mov qword ptr [rax + {misuse_last}], rdx\n",
            "lock inc qword ptr [rax + {misuse_count}]\n",
            "99:\n",
            "ret",
        )
    };
}

/// See `redmagic.h`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redmagic_temp_disable() {
    naked_asm!(
        "mov rcx, qword ptr [rip + {tls}@GOTTPOFF]",
        "inc qword ptr fs:[rcx + {depth}]",
        "ret",
        tls = sym redmagic_tls,
        depth = const offset_of!(ThreadWords, disable_depth),
    )
}

/// See `redmagic.h`. Rejoins the trace that came to the matching `temp_disable`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redmagic_temp_enable() {
    naked_asm!(
        "mov rcx, qword ptr [rip + {tls}@GOTTPOFF]",
        "mov rax, qword ptr fs:[rcx + {depth}]",
        "test rax, rax",
        "jz 50f",
        "dec rax",
        "mov qword ptr fs:[rcx + {depth}], rax",
        "jnz 10f",
        "mov rax, qword ptr fs:[rcx + {code}]",
        "test rax, rax",
        "jz 10f",
        "mov rdx, qword ptr [rsp]",
        "cmp rdx, qword ptr fs:[rcx + {return_address}]",
        "jne 10f",
        "cmp rsp, qword ptr fs:[rcx + {rsp}]",
        "jne 10f",
        "mov qword ptr fs:[rcx + {code}], 0",
        "lea rsp, [rsp + 8]",
        "jmp rax",
        "10:",
        "ret",
        "50:",
        misuse_and_return!(),
        tls = sym redmagic_tls,
        depth = const offset_of!(ThreadWords, disable_depth),
        code = const offset_of!(ThreadWords, enable) + offset_of!(Rejoin, code),
        return_address = const offset_of!(ThreadWords, enable) + offset_of!(Rejoin, return_address),
        rsp = const offset_of!(ThreadWords, enable) + offset_of!(Rejoin, rsp),
        page = sym redmagic_channel,
        channel = const offset_of!(ShimPage, channel),
        misuse_last = const misuse(MISUSE_TEMP_ENABLE) + offset_of!(Misuse, last),
        misuse_count = const misuse(MISUSE_TEMP_ENABLE) + offset_of!(Misuse, count),
    )
}

/// See `redmagic.h`. Native code that enters a block forgets where an earlier block
/// would have rejoined a trace.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redmagic_begin_merge_block() {
    naked_asm!(
        "mov rcx, qword ptr [rip + {tls}@GOTTPOFF]",
        "mov qword ptr fs:[rcx + {code}], 0",
        "ret",
        tls = sym redmagic_tls,
        code = const offset_of!(ThreadWords, merge) + offset_of!(Rejoin, code),
    )
}

/// See `redmagic.h`. Rejoins the trace that was left inside the block.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redmagic_end_merge_block() {
    naked_asm!(
        "mov rcx, qword ptr [rip + {tls}@GOTTPOFF]",
        "mov rax, qword ptr fs:[rcx + {code}]",
        "test rax, rax",
        "jz 10f",
        "mov rdx, qword ptr [rsp]",
        "cmp rdx, qword ptr fs:[rcx + {return_address}]",
        "jne 10f",
        "cmp rsp, qword ptr fs:[rcx + {rsp}]",
        "jne 10f",
        "mov qword ptr fs:[rcx + {code}], 0",
        "lea rsp, [rsp + 8]",
        "jmp rax",
        "10:",
        "ret",
        tls = sym redmagic_tls,
        code = const offset_of!(ThreadWords, merge) + offset_of!(Rejoin, code),
        return_address = const offset_of!(ThreadWords, merge) + offset_of!(Rejoin, return_address),
        rsp = const offset_of!(ThreadWords, merge) + offset_of!(Rejoin, rsp),
    )
}

/// See `redmagic.h`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redmagic_begin_branchable_frame(frame: *mut c_ulong) {
    naked_asm!(
        "mov rcx, qword ptr [rip + {tls}@GOTTPOFF]",
        "mov rax, qword ptr fs:[rcx + {frame}]",
        "mov qword ptr [rdi], rax",
        "mov rax, qword ptr fs:[rcx + {begun}]",
        "inc rax",
        "mov qword ptr fs:[rcx + {begun}], rax",
        "mov qword ptr fs:[rcx + {frame}], rax",
        "inc qword ptr fs:[rcx + {depth}]",
        "ret",
        tls = sym redmagic_tls,
        frame = const offset_of!(ThreadWords, frame),
        begun = const offset_of!(ThreadWords, frames_begun),
        depth = const offset_of!(ThreadWords, frame_depth),
    )
}

/// See `redmagic.h`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redmagic_end_branchable_frame(frame: *mut c_ulong) {
    naked_asm!(
        "mov rcx, qword ptr [rip + {tls}@GOTTPOFF]",
        "mov rax, qword ptr fs:[rcx + {depth}]",
        "test rax, rax",
        "jz 50f",
        "dec rax",
        "mov qword ptr fs:[rcx + {depth}], rax",
        "mov rax, qword ptr [rdi]",
        "mov qword ptr fs:[rcx + {frame}], rax",
        "ret",
        "50:",
        misuse_and_return!(),
        tls = sym redmagic_tls,
        frame = const offset_of!(ThreadWords, frame),
        depth = const offset_of!(ThreadWords, frame_depth),
        page = sym redmagic_channel,
        channel = const offset_of!(ShimPage, channel),
        misuse_last = const misuse(MISUSE_END_FRAME) + offset_of!(Misuse, last),
        misuse_count = const misuse(MISUSE_END_FRAME) + offset_of!(Misuse, count),
    )
}

const fn misuse(kind: usize) -> usize {
    offset_of!(Control, misuse) + kind * size_of::<Misuse>()
}

// The functions below mean something to the recorder, which knows them by address
// and never runs them, and to the code it makes; natively they do next to nothing.

/// See `redmagic.h`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redmagic_fellthrough_branch(id: *mut c_void) {
    naked_asm!("ret")
}

/// See `redmagic.h`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redmagic_force_end_trace(id: *mut c_void) {
    naked_asm!("ret")
}

/// See `redmagic.h`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redmagic_ensure_not_traced() {
    naked_asm!("ret")
}

/// See `redmagic.h`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redmagic_is_traced() -> c_int {
    naked_asm!("xor eax, eax", "ret")
}

/// See `redmagic.h`.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn redmagic_promote(value: c_ulong) -> c_ulong {
    naked_asm!("mov rax, rdi", "ret")
}
