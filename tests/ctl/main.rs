//! `reactorctl` against scripted servers: what a hostile, broken or vanishing
//! server, a closed pipe and a signal lead to.
//!
//! `real` and `real_files` are about the two programs together.

mod bench;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod fake;
mod files;
mod questions;
mod real;
mod real_files;
mod terminal;
