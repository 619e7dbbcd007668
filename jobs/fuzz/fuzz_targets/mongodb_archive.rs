//! No input makes the reader of `mongodump` archives panic, hang or exhaust memory.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lastgood_jobs::fuzzing::mongodb_archive(bytes));
