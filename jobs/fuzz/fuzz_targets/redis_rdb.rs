//! No input makes the reader of RDB files panic, hang or exhaust memory.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lastgood_jobs::fuzzing::redis_rdb(bytes));
