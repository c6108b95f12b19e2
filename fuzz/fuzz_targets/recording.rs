//! Any bytes as a Recording file, or as the body of one.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    redmagic_filetests::fuzz::recording(data);
});
