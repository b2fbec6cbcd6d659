//! Fuzzes with the oracle `session` of tests/support, which says what must hold.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::oracles::session(data));
