#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farptr_fuzz::server::run(data));
