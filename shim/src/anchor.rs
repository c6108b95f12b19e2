//! Anchors: where a trace may begin.
//!
//! Each is a naked function, since it must be able to continue somewhere else than
//! at its return with every callee-saved register as it found it. It follows the C
//! ABI, so at its entry rax, rcx, rdx, rsi, rdi, r8-r11 and the flags are free.
//!
//! The entry of a trace is reached by a jump with the return address still on the
//! stack; the trace pops it. The key compared here is (id, return address), so
//! whoever arrives in a trace is where the trace was recorded from.

use core::arch::naked_asm;
use core::mem::{offset_of, size_of};

use redmagic_proto::api::ApiFn;
use redmagic_proto::control::{Control, LOOP_WEIGHT};
use redmagic_proto::descriptor::ShimPage;
use redmagic_proto::entries::{ENTRIES, Entry, HASH_MULTIPLIER, PROBES};
use redmagic_proto::thread::ThreadWords;

use crate::descriptor::redmagic_channel;
use crate::park::redmagic_park_anchor;
use crate::thread::redmagic_tls;

/// What a missed look-up does.
macro_rules! anchor {
    ($(#[$doc:meta])* $name:ident, $api:expr, weight: $weight:expr, found_without_code: $counted:literal, missing: $missing:literal) => {
        $(#[$doc])*
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(id: *mut core::ffi::c_void) {
            naked_asm!(
                "mov r10, qword ptr [rip + {page}@GOTPCREL]",
                "mov rdx, qword ptr [r10 + {channel}]",
                "test rdx, rdx",
                "jz 90f",
                // A disabled thread neither counts nor enters.
                "mov rcx, qword ptr [rip + {tls}@GOTTPOFF]",
                "cmp qword ptr fs:[rcx + {disable_depth}], 0",
                "jne 90f",
                "mov rsi, qword ptr [r10 + {entries}]",
                "mov r8, qword ptr [rsp]",
                "movabs rcx, {multiplier}",
                "imul rcx, rdi",
                "shr rcx, {shift}",
                "lea r9, [rdx + rcx * 4 + {hotness}]",
                "shl rcx, {entry_shift}",
                "add rsi, rcx",
                "xor r11d, r11d",
                "mov ecx, {probes}",
                "20:",
                "mov rax, qword ptr [rsi + {entry_return}]",
                "cmp rax, r8",
                "jne 30f",
                "cmp qword ptr [rsi + {entry_id}], rdi",
                "jne 30f",
                "mov rax, qword ptr [rsi + {entry_code}]",
                "test rax, rax",
                "jz 40f",
                "jmp rax",
                "30:",
                "test rax, rax",
                "jz 50f",
                // Another anchor of the same id with code: remembered in r11.
                "cmp qword ptr [rsi + {entry_id}], rdi",
                "cmove r11, qword ptr [rsi + {entry_code}]",
                "add rsi, {entry_size}",
                "dec ecx",
                "jnz 20b",
                "jmp 50f",
                "40:",
                $counted,
                "50:",
                $missing,
                "60:",
                "sub dword ptr [r9], {weight}",
                "jle 70f",
                "90:",
                "ret",
                "70:",
                // Set again first, so that a thread which finds no park area asks later.
                "mov dword ptr [r9], {again}",
                "mov esi, {api}",
                "jmp {park}",
                page = sym redmagic_channel,
                tls = sym redmagic_tls,
                park = sym redmagic_park_anchor,
                weight = const $weight,
                channel = const offset_of!(ShimPage, channel),
                entries = const offset_of!(ShimPage, entries),
                disable_depth = const offset_of!(ThreadWords, disable_depth),
                multiplier = const HASH_MULTIPLIER,
                shift = const 64 - ENTRIES.trailing_zeros(),
                hotness = const offset_of!(Control, hotness),
                entry_shift = const size_of::<Entry>().trailing_zeros(),
                entry_size = const size_of::<Entry>(),
                entry_return = const offset_of!(Entry, return_address),
                entry_id = const offset_of!(Entry, id),
                entry_code = const offset_of!(Entry, code),
                probes = const PROBES,
                again = const ASK_AGAIN,
                api = const $api as u32,
            )
        }
    };
}

/// Calls until a thread that found no free park area asks again.
const ASK_AGAIN: u32 = 256;

anchor!(
    /// See `redmagic.h`.
    redmagic_backwards_branch, ApiFn::BackwardsBranch, weight: LOOP_WEIGHT,
    found_without_code: "nop", missing: "nop"
);
anchor!(
    /// See `redmagic.h`.
    redmagic_function_entry, ApiFn::FunctionEntry, weight: 1,
    found_without_code: "nop", missing: "nop"
);
anchor!(
    /// See `redmagic.h`. Asks at once for an anchor that was never tried, and counts
    /// like a loop for one that was (and has no trace, or no longer).
    redmagic_force_begin_trace, ApiFn::ForceBeginTrace, weight: LOOP_WEIGHT,
    found_without_code: "jmp 60f", missing: "jmp 70f"
);
anchor!(
    /// See `redmagic.h`. Asks at once if the id has a trace from elsewhere.
    redmagic_force_jump_to_trace, ApiFn::ForceJumpToTrace, weight: LOOP_WEIGHT,
    found_without_code: "jmp 60f", missing: "test r11, r11\njnz 70f\nret"
);
