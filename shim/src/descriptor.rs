//! The descriptor, the page that forks wipe, and the ELF note that leads to them.

use core::sync::atomic::{AtomicU32, AtomicU64};

use redmagic_proto::api::ApiFn;
use redmagic_proto::descriptor::{Address, Descriptor, ShimPage};
use redmagic_proto::{MAGIC, PROTOCOL_VERSION};

use crate::{anchor, park, registry, start, thread, trap};

/// The page that a fork wipes. Its first word is what the header declares as
/// `void *redmagic_channel`; the symbol covers the whole page so that a copy
/// relocation of the shared library keeps the page to itself.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static redmagic_channel: ShimPage = ShimPage {
    channel: AtomicU64::new(0),
    entries: AtomicU64::new(0),
    registry_lock: AtomicU32::new(0),
    started: AtomicU32::new(0),
    rest: [const { AtomicU64::new(0) }; 509],
};

/// The page, at the address that the program and this library agree on.
pub(crate) fn page() -> &'static ShimPage {
    let page: *const ShimPage;
    // SAFETY: loads the symbol's address from the GOT, where the dynamic linker has put
    // the one definition that counts (the program's, after a copy relocation).
    unsafe {
        core::arch::asm!(
            "mov {}, qword ptr [rip + {symbol}@GOTPCREL]",
            out(reg) page,
            symbol = sym redmagic_channel,
            options(nostack, readonly, preserves_flags),
        );
    }
    // SAFETY: the symbol is a `ShimPage` with static lifetime, all of it atomics.
    unsafe { &*page }
}

macro_rules! addresses {
    ($($function:path),* $(,)?) => { [$(Address($function as *const ())),*] };
}

/// Everything the daemon needs to know of this copy of the shim.
#[used]
pub(crate) static REDMAGIC_DESCRIPTOR: Descriptor = Descriptor {
    magic: MAGIC,
    version: PROTOCOL_VERSION,
    size: core::mem::size_of::<Descriptor>() as u32,
    page: Address((&raw const redmagic_channel).cast()),
    registry: Address((&raw const registry::REGISTRY).cast()),
    tls_offset: Address((&raw const thread::TLS_OFFSET).cast()),
    api: addresses![
        start::redmagic_start,
        anchor::redmagic_backwards_branch,
        thread::redmagic_fellthrough_branch,
        anchor::redmagic_function_entry,
        thread::redmagic_begin_branchable_frame,
        thread::redmagic_end_branchable_frame,
        anchor::redmagic_force_begin_trace,
        thread::redmagic_force_end_trace,
        anchor::redmagic_force_jump_to_trace,
        thread::redmagic_ensure_not_traced,
        thread::redmagic_temp_disable,
        thread::redmagic_temp_enable,
        registry::redmagic_do_not_trace_function,
        registry::redmagic_disable_branch,
        thread::redmagic_is_traced,
        thread::redmagic_begin_merge_block,
        thread::redmagic_end_merge_block,
        thread::redmagic_promote,
        registry::redmagic_constant_memory,
        registry::redmagic_constant_memory_end,
        registry::redmagic_elidable_function,
    ],
    park_exit: Address(park::redmagic_park_exit as *const ()),
    park_wait: Address((&raw const park::redmagic_park_wait).cast()),
    register_frames: Address(start::register_frames as *const ()),
    trap_handler: Address(trap::redmagic_trap_handler as *const ()),
    trap_restorer: Address(trap::redmagic_trap_restorer as *const ()),
    previous_trap: Address((&raw const trap::PREVIOUS).cast()),
};

const _: () = assert!(ApiFn::COUNT == 21);

core::arch::global_asm!(
    r#"
    .pushsection .note.redmagic,"a",@note
    .balign 4
    .long 9
    .long 16
    .long 1
    .asciz "Redmagic"
    .balign 4
    .quad {descriptor} - .
    .long {version}
    .long 0
    .popsection
    "#,
    descriptor = sym REDMAGIC_DESCRIPTOR,
    version = const PROTOCOL_VERSION,
);
