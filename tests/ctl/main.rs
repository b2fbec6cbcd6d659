//! `reactorctl` against scripted servers: what a hostile, broken or vanishing
//! server, a closed pipe and a signal lead to.
//!
//! How it gets on with the real server is told elsewhere.

mod bench;
mod commands;
mod fake;
mod files;
mod questions;
mod terminal;
