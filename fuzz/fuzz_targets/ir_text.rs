//! Any bytes as the text of a trace.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    redmagic_filetests::fuzz::ir_text(data);
});
