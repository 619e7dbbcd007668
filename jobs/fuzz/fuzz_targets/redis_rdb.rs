//! Whether any bytes make the reader of RDB files panic, hang or take memory.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lastgood_jobs::fuzzing::redis_rdb(bytes));
